/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Everything the kernel and user space must agree on: limits, enums and the layout of every map
 * value and perf record. Nothing else may define one; cdnctl/datapath/abi.py mirrors this file and
 * a test holds the two together.
 *
 * Addresses and ports are in network order, as they stand in the packet, unless a name ends in
 * _host. Times are nanoseconds of bpf_ktime_get_ns() unless a name says otherwise.
 */
#pragma once

#define MAX_CDNS 16
#define MAX_ENDPOINTS 128
#define MEMBER_WORDS 2 /* a bit for each of MAX_ENDPOINTS */
#define MAX_SERVICES 64
#define MAX_SNAT 8 /* of each family */
#define MAX_LINKS 64
#define MAX_REGIONS 8 /* the first, 0, is everywhere */
#define MAX_TABLES 256
#define MAX_CUSTOMERS 1024 /* the first, 0, is nobody in particular */
#define MAX_INVITED 65536  /* prefixes */
#define MAX_ANNOUNCED 4096 /* prefixes, and what the host has of them */
/* The largest prime that fits the room; Maglev walks its slots with strides that must not divide it. */
#define PICK_SLOTS 16381
#define PICK_ROOM 16384
/* Eight sub-steps an octave of microseconds: a bucket is at most 1/8 of its value wide. */
#define HISTOGRAM_BUCKETS 256
#define NO_CDN_ID 0xff
#define NO_SLOT 0xffffffff /* of a flow whose replies do not come back through the box */
#define NOWHERE 0xffff	   /* no endpoint */
#define QUIC_ID_MAX 20	   /* bytes of a connection id (RFC 9000, 17.2) */
#define PORT_WORDS 1024	   /* of 64 bits: a bit for each port */

/* Every packet ends in exactly one of these; the order is the order of the counters. */
enum verdict {
	GO_ON = 0, /* not a verdict: the next step decides */
	/* let through */
	FORWARDED,
	REPLIED,
	PASSED,
	BYPASSED,
	HANDED,	      /* to the host's stack: what a CDN of mode `pass` gets */
	RESET_CLIENT, /* answered with a reset */
	RESET_CDN,
	ECHOED,	       /* a ping of a VIP, answered */
	SAID_TOO_BIG,  /* answered with packet too big */
	SAID_TOO_LATE, /* answered with time exceeded */
	CHALLENGED,    /* a SYN, answered with a cookie that its source has to send back */
	PROVED,	       /* the cookie came back: consumed, and its source is verified */
	/* dropped */
	BLOCKED,
	MALFORMED,
	IMPOSSIBLE, /* TCP flags that no stack sends together */
	LAND,	    /* from the very address that it is for */
	SPOOFED,    /* from an address that nobody out there has: of many, of none, our own */
	BOGON, /* from a private or reserved address, by an interface that faces the internet */
	SYN_WITH_DATA,
	SHORT_INITIAL, /* QUIC's first datagram, too short for any server */
	REFLECTED,     /* from the port of a service that floods are reflected by */
	FRAGMENT,
	UNSUPPORTED,
	NO_CHECKSUM, /* UDP over IPv6 must have one */
	EXPIRED_TTL,
	TOO_BIG,
	NO_SERVICE,
	UNKNOWN_FLOW,
	UNRELATED, /* an ICMP error about no flow of ours */
	BAD_ACK,
	NO_OWNER,
	UNINVITED, /* to a SNAT address, from nobody who may talk to it */
	UNUSED,	   /* for an address of an announced prefix that nobody has */
	STALE_REPLY,
	ABSORBED,
	OVER_QUOTA,	   /* of a customer: packets or bytes */
	OVER_FLOW_QUOTA,   /* of a customer: new flows */
	OVER_SOURCE_QUOTA, /* of a single source */
	/* shed: over the share of new flows that the shield leaves */
	SHED_VERIFIED, /* to a source that has proved where it is, */
	SHED_SOURCE,   /* to one that has not, */
	SHED_SUSPECT,  /* to one whose manner is suspicious, */
	SHED_NETWORK,  /* to all such of a /24 (/48), */
	SHED_REGION,   /* of a /16 (/32), */
	SHED_SERVICE,  /* or of everywhere, for one service */
	UNVERIFIED,    /* a SYN in siege that cannot be challenged */
	NO_CDN,
	NO_PORT,
	NO_ROOM,
	NO_LINK, /* came in by, or would leave by, an interface or VLAN that is not the edge's */
	NO_ROUTE,
	NO_NEIGHBOUR,
	HELD,	  /* it would change a flow, and flows are being moved: it will be sent again */
	NO_STAGE, /* a step of the pipeline is not loaded: never, if all is well */
	VERDICTS,
	FIRST_DROP = BLOCKED,
};

/* How hard it is for new flows; see struct shield. */
enum level {
	LEVEL_CALM = 0,
	LEVEL_BUSY,
	LEVEL_SHEDDING,
	LEVEL_SIEGE, /* and who opens a TCP connection has to prove first that he is where he says */
};

/* Whose new flows a budget is for. */
enum budget {
	BUDGET_VERIFIED =
		0,	/* each source that has proved where it is; who has not shares the rest: */
	BUDGET_SOURCE,	/* a /32, of IPv6 a /64 */
	BUDGET_NETWORK, /* a /24, a /48 */
	BUDGET_REGION,	/* a /16, a /32 */
	BUDGET_SERVICE, /* everybody's, for one service: a flood of it starves no other */
	BUDGETS,
};

enum mode_flag {
	MODE_DISARMED = 1, /* drop, eject and rescue nothing; pick by plain weights */
	MODE_BYPASS = 2,   /* pass every packet untouched */
	MODE_OBSERVE = 4,  /* decide and count, allocate and send nothing, pass all */
};

/* Programs that the pipeline goes on in: places in the program array `stages`. */
enum stage {
	STAGE_HANDSHAKE = 0, /* flows that begin or end */
	STAGE_OPENING,	     /* a new flow: whose, what for, within its limits? */
	STAGE_PICKING,	     /* which endpoint; as often as it takes */
	STAGE_BINDING,	     /* by which port; remember it */
	STAGE_CLAMPING,	     /* a SYN that promises more than its path takes */
	STAGE_ICMP,
	STAGE_FRAGMENT,
	STAGE_QUIC,	 /* learn a server's connection id */
	STAGE_CHALLENGE, /* in siege: who has not proved yet where he is? */
	STAGE_WEIGHING,	 /* how does its source behave? only with a model */
	STAGE_SENDING,	 /* what did not take the express lane, and leaves */
	STAGE_DOOR,	 /* what no flow takes: may it talk to a SNAT address? */
	STAGE_ANSWER,	 /* packets of our own making */
	STAGES,
};

/* What becomes of an address of an announced prefix that is none of the edge's. */
enum address_use {
	ADDRESS_USED = 0, /* it is the host's */
	ADDRESS_UNUSED,
};

enum local_kind {
	LOCAL_VIP = 1,
	LOCAL_SNAT,
	LOCAL_CROWDED, /* of a cell: more than one address is in it, or it is being written */
};

enum policy {
	POLICY_WEIGHTED = 0,
	POLICY_LATENCY,
	POLICY_FAILOVER, /* the table's first entries are the order */
};

enum traffic_class {
	CLASS_INTERACTIVE = 0,
	CLASS_VIDEO,
	CLASS_BULK,
	CLASSES,
	CLASS_BY_DSCP =
		0xff, /* in a service: EF, CS4-5, AF4x interactive, AF3x, CS3 video, CS1, AF1x bulk */
};

/* Endpoints that can stand in for each other, as far as family and protocol go. */
enum pool {
	POOL_TCP4 = 0,
	POOL_UDP4,
	POOL_TCP6,
	POOL_UDP6,
	POOLS,
};

/* How packets get to an endpoint. */
enum transport {
	TRANSPORT_NAT = 0,
	TRANSPORT_IPIP,
	TRANSPORT_GUE,
	TRANSPORT_PASS,
};

enum endpoint_flag {
	ENDPOINT_RESETS = 1, /* when it is dark, clients that re-send into it get a reset */
};

enum slot_state {
	SLOT_FREE = 0,
	SLOT_SYN_SENT,	  /* client's first packet forwarded, nothing heard */
	SLOT_SYN_RECV,	  /* the CDN's answer went to the client */
	SLOT_ESTABLISHED, /* the client proved that it got the answer */
	SLOT_CLOSING,	  /* FINs both ways or a reset: the port rests */
	SLOT_TOMBSTONE,	  /* rescued away: a late SYN-ACK is reset towards its CDN */
};

enum flow_flag {
	FLOW_SYNACK = 1, /* half-open: an answer was seen */
	FLOW_RESENT = 2, /* the client sent its first packet again: no handshake sample (Karn) */
	FLOW_PROBE = 4,	 /* sent to an ejected endpoint to see whether it is back */
	FLOW_FIN_CLIENT = 8, /* in the slot */
	FLOW_FIN_CDN = 16,
	FLOW_RESET = 32,
	FLOW_ASKED = 64,    /* in the slot: since_ns is when the request under way began */
	FLOW_REBOUND = 128, /* half-open: of a QUIC connection that only this endpoint knows */
};

enum breaker {
	BREAKER_IN = 0,
	BREAKER_OUT,
};

enum out_reason {
	OUT_NONE = 0,
	OUT_DARK,
	OUT_REFUSING,
	OUT_SLOW,
};

enum event_kind {
	EVENT_EJECT = 1,
	EVENT_REOPEN,
	EVENT_PROBE,
	EVENT_PROBE_FAILED,
	EVENT_RESCUE,
	EVENT_KEPT,	  /* would have been ejected, but too much weight is out already */
	EVENT_NO_HOP,	  /* the next hop towards an endpoint is not usable; value is the verdict */
	EVENT_PORTS_GONE, /* no port was free towards an endpoint */
	EVENT_SPILL,	  /* an endpoint's CDN is at its capacity: flows go elsewhere */
};

enum fragment_policy {
	FRAGMENTS_FOLLOW = 0, /* the first one leads the rest */
	FRAGMENTS_DROP,
};

/* IPv6, or IPv4 mapped (::ffff:a.b.c.d, RFC 4291, 2.5.5.2). */
struct address {
	__u32 word[4];
};

/*
 * Limits and what has been used of them, by GCRA (ITU-T I.371, the virtual scheduling algorithm) in
 * ticks of 1/16 ns: a unit costs so many ticks, and may come while the theoretical arrival time is
 * less than `burst` ahead. 0: no limit.
 */
#define TICKS_PER_NS 16
struct limit {
	__u64 packet_ticks;
	__u64 kib_ticks;
	__u64 flow_ticks;
	__u64 burst_ticks;
};

struct meter {
	__u64 packets_at;
	__u64 bytes_at;
	__u64 flows_at;
	__u64 pad;
};

/* mode[0] is its own map so that panic is one write that cannot undo anybody else's. */
struct settings {
	__u32 generation; /* policy generation: a cached verdict with another one is checked again */
	__u32 sample_one_in;
	__u32 seed;
	__u16 port_min_host;
	__u16 ports;
	__u8 snat_rows;	    /* rows of reverse slots that each endpoint has */
	__u8 snat_count[2]; /* IPv4, IPv6 */
	__u8 fragments;	    /* enum fragment_policy */
	__u32 source_busy;  /* packets a second from which on a source has a meter of its own, */
	__u32 busy_share;   /* and what one CPU must see of them: their part, were all CPUs alike */
	__u32 weight_total[POOLS]; /* of all endpoints in rotation by the operator's will */
	struct address snat[2][MAX_SNAT];
	__u32 block_line_shift; /* what of a hash of 64 bits is no line's number */
	__u32 dark_connects;
	__u32 refused_connects;
	__u32 slow_connects;
	__u32 distinct_prefixes;
	__u32 established_s; /* an idle flow is over after so long */
	__u32 udp_s;
	__u64 out_ns;
	__u64 max_out_ns;
	__u64 rescue_after_ns;
	__u64 slow_start_ns;
	struct limit source_limit; /* of each /32 (/64) that no customer's limit covers */
	__u64 log_bindings;	   /* is each flow told of that got a port of ours? */
	__u32 model; /* enum model_mode, and MODEL_SECOND when it is the second of `models` */
	__u32 invited_only; /* not 0: SNAT addresses are for `invited` alone, see door.h */
	__u64 announced; /* until when `announced` holds, on the clock of coarse_now(); 0: it does not */
};

/*
 * What is asked of new flows under attack, and who is let in at no level; the agent writes it. Of the keys one is
 * handed out in cookies, and both are taken back: it changes the other one, and then which it is.
 */
struct shield {
	__u32 level;	/* enum level */
	__u32 key_now;	/* which key is handed out: 0 or 1 */
	__u32 syn_data; /* not 0: a SYN may carry none */
	__u32 pad;
	__u64 outside; /* bit n: link n faces the internet, where nobody has a reserved address */
	__u64 key[2][2];
	__u64 patience_ns; /* who sends its SYN again after so long is let in within its budgets */
	__u64 trust_ns;	   /* a source is verified for so long */
	__u64 ticks[BUDGETS]; /* what a new flow costs: as in struct limit; 0: nothing */
	__u64 burst_ticks;
	__u64 surge_ticks; /* what one costs of the allowance beyond which it is part of a surge */
	__u64 pending_ticks; /* what a connection of a verified source costs until it has come about, */
	__u64 pending_burst_ticks; /* and how much of that there may be */
};

/* New flows of TCP, and of UDP: what has been used of the allowance, and when last one was beyond it. */
enum surge_kind {
	SURGE_TCP = 0,
	SURGE_UDP,
	SURGES,
};

struct surge {
	__u64 flows_at;
	__u64 last_ns;
};

/* A source that has proved where it is: by a challenge, a handshake, or a connection id of QUIC. */
struct verified {
	__u64 until_ns;
	__u64 flows_at;	  /* its budget, */
	__u64 pending_at; /* and that of connections that do not come about */
};

/* What is done with the manner of sources. */
enum model_mode {
	MODEL_OFF = 0,
	MODEL_OBSERVE, /* it is kept and weighed, and decides nothing */
	MODEL_ON,      /* who is suspicious has less of his budget */
	MODEL_MODES,
};
#define MODEL_SECOND 4

/* What is weighed of a source, each from 0 to 255; where it says "by octaves", as histogram.h has them. */
enum feature {
	FEATURE_RATE = 0,   /* flows it has asked for of late, by octaves */
	FEATURE_UNFINISHED, /* of those let in the share that it has not finished the handshake of */
	FEATURE_OPEN,	    /* finished, and not ended, by octaves */
	FEATURE_HELD,	    /* the share of finished ones that these are */
	FEATURE_FRUITLESS,  /* the share of those ended that were answered nothing */
	FEATURE_GAP,	    /* from one flow to the next, by octaves of 2^20 ns */
	FEATURE_BYTES,	    /* of its first packets, eighths */
	FEATURE_KNOWN,	    /* since it first came, by octaves of 2^20 ns */
	FEATURES,
};

/*
 * Linear: suspicious is whose weights times features come to more than 0, with the bias. There are two, one that
 * is used and one to write the next into.
 */
struct model {
	__s32 weight[FEATURES];
	__s64 bias;
	__u32 times; /* who is suspicious gets so many times fewer flows than his budget gives others */
	__u32 pad;
};

/*
 * How a source behaves; a cache line, at one of two places that a hash says. Moments are in 2^20 ns; what is
 * counted is in sixteenths, and halved for each 2^34 ns. CPUs that write at the same time lose a flow's part.
 */
#define MANNERS 16384
#define MANNER_ONE 16
struct manner {
	__u32 source[2]; /* of IPv6 a /64, of IPv4 0 and the address */
	__u32 first;	 /* moment that it came, */
	__u32 seen;	 /* that it last asked for a flow, */
	__u32 begun_at;	 /* and that it last got one */
	__u32 flows;	 /* asked for, */
	__u32 begun;	 /* let in, */
	__u32 proven;	 /* with a finished handshake, */
	__u32 ended;	 /* and of those, */
	__u32 fruitless;
	__u32 gap;   /* means: moments between flows, */
	__u32 bytes; /* and of first packets */
	__s64 score; /* when it was last weighed */
	__u8 feature[FEATURES];
};

/*
 * Budgets of those that have not: words of GCRA, two for each, at places that a hash says, which the one
 * that is less used up speaks for (a count-min sketch, updated conservatively: Estan and Varghese, 2002).
 * Nobody has an entry, and a word that is not used is idle again by itself. Places are dealt anew every
 * 2^34 ns, so that who shares both of his with a flood does so for seconds.
 */
#define BUDGET_ROWS 2
#define BUDGET_COLUMNS 4096

/*
 * SYNs that were challenged of late: a mark in the upper half of a word and when it came, in 2^20 ns, in the
 * other. A set is a cache line; of its words the oldest is overwritten.
 */
#define RETRY_SETS 65536
#define RETRY_WAYS 8
struct retry_set {
	__u64 word[RETRY_WAYS];
};

struct identity {
	__u8 digest[32];
};

struct local {
	__u8 kind;  /* enum local_kind */
	__u8 index; /* of the VIP, or of the SNAT address in its family */
	__u16 pad;
};

/*
 * The same in front of it: an address can only be in the cell that its words lead to, and a cell with
 * another one, or with none, says that it is nobody's. So most packets need no hash.
 */
#define LOCAL_CELLS_LOG 10
struct local_cell {
	struct address address;
	__u8 kind; /* 0: no address of ours is here */
	__u8 index;
	__u16 pad;
};

/* Where frames come and go: an interface, and up to two VLAN tags (802.1ad outside, 802.1Q inside). */
struct link_key {
	__u32 ifindex;
	__u16 outer; /* VLAN id in host order, 0: none; a single tag is `outer` */
	__u16 inner;
};

struct link {
	__u32 ifindex; /* that frames really leave by: of a VLAN device, its parent */
	__u16 outer;
	__u16 inner;
	__u16 mtu; /* of the network layer */
	__u8 mac[6];
	__u16 tpid; /* Ethernet type of the outer tag, network order; 0: no tag */
	__u16 pad;
};

struct service_key {
	__u16 port;
	__u8 vip; /* its index */
	__u8 protocol;
};

struct service {
	struct address vip;
	__u16 port;
	__u8 vip_index;
	__u8 protocol;	    /* IPPROTO_TCP or IPPROTO_UDP; 0: this number is free */
	__u8 traffic_class; /* of all its flows, or CLASS_BY_DSCP */
	__u8 policy[CLASSES];
	__u16 table[MAX_REGIONS][CLASSES]; /* in `picks` */
	__u64 members[MEMBER_WORDS];	   /* bit n: endpoint n serves it, whatever its weight */
};

/* Endpoint ids by slot. Never written while a service names it: fill another, then change the service. */
struct pick_table {
	__u16 endpoint[PICK_ROOM];
};

struct endpoint_key {
	struct address address;
	__u16 port;
	__u8 protocol;
	__u8 pad;
};

struct endpoint {
	struct address address;
	__u16 port;
	__u8 protocol;
	__u8 cdn;
	__u8 pool;	/* enum pool */
	__u8 transport; /* enum transport */
	__u8 flags;
	__u8 pad;
	__u16 mss;	   /* what SYNs on this path may promise at most; 0: as they come */
	__u16 tunnel_port; /* of GUE, in host order */
	__u32 weight;	   /* what is out of rotation while it is ejected */
	__u32 limit_us;	   /* 0: three baselines and 20 ms */
};

struct flow_key {
	struct address client;
	__u16 client_port;
	__u16 vip_port;
	__u8 vip; /* its index */
	__u8 protocol;
	__u16 pad;
};

/*
 * The forward direction, half-open, established and of datagrams alike: every verdict cached. Of UDP isn is,
 * while it is half-open, when the client last spoke, in 2^20 ns; and cdn_isn a hash of the id that its QUIC
 * server chose, until the client has repeated it.
 */
struct flow {
	__u64 syn_ns; /* of the first packet; from then on of the moment that it was promoted */
	__u32 slot;   /* its reverse slot, or NO_SLOT */
	__u32 generation;
	__u32 isn;     /* half-open: the client's; established: the end of what it has sent */
	__u32 cdn_isn; /* half-open: the CDN's; established: acknowledged when the last request began */
	__u16 snat_port;
	__u16 ip_delta; /* checksum deltas, ready to add */
	__u16 l4_delta;
	__u16 seen_s; /* second of the last look at the slot */
	__u16 customer;
	__u8 snat; /* index in settings.snat of its family */
	__u8 endpoint;
	__u8 service;
	__u8 cdn;
	__u8 flags;
	__u8 traffic_class;
	__u8 region;
	__u8 spare;
	__u16 syn_data; /* half-open: bytes that its first packet carried */
	__u8 pad[8];	/* with its key and the table's own 48 bytes it fills two cache lines */
};

/*
 * The reverse direction: reverse[(endpoint x snat_rows + snat) x ports + port]. One cache line: the values of
 * an array that can be mapped begin on a page.
 */
struct slot {
	__u64 owner;	/* who holds the port; claimed by compare-and-swap, 0 when free */
	__u64 since_ns; /* start of the present state, or of the request under way */
	struct address client;
	__u32 generation;
	__u32 isn;	/* until established: the client's; then the end of what the CDN has sent */
	__u8 router[6]; /* that the client's frames come from */
	__u8 link;	/* and by which link */
	__u8 state;
	__u16 ip_delta;
	__u16 l4_delta;
	__u16 seen_s; /* second of the last packet */
	__u16 customer;
	__u8 flags;
	__u8 traffic_class;
	__u8 region;
	__u8 pad[5];
};

/*
 * What the breaker knows of an endpoint. One entry, all CPUs. What is changed atomically is 64 bits
 * wide, as this compiler has no narrower atomics.
 */
struct health {
	__u64 state;	  /* enum breaker */
	__u64 unanswered; /* connects since the last answer */
	__u64 refused;	  /* resets in answer to a SYN, in a row */
	__u64 slow_run;	  /* handshakes over the limit, in a row */
	__u64 probes_good;
	__u64 probe_ns; /* when the last probe was sent */
	__u64 probing;	/* and is it unanswered still? */
	__u64 last_answer_ns;
	__u64 dark_ns; /* when the connect was sent that would make it dark */
	__u64 window_ns;
	__u64 ewma_at_ns;
	__u64 out_until_ns;
	__u64 ejected_ns;
	__u64 reopened_ns; /* slow start counts from here */
	__u64 kept_ns;	   /* when it was last said that it has to stay */
	__u64 told_ns;	   /* when an event about its next hop, ports or capacity was last sent */
	__u64 last_new_flow_ns; /* last new flow that was no probe */
	__u32 connect_network;	/* of the first connect since the last answer; */
	__u32 connect_networks; /* 2 when another one came from elsewhere */
	__u32 slow_network[2];
	__u32 slow_networks; /* distinct ones in this run of slow handshakes, counted to 3 */
	__u32 limit_us;	     /* a handshake over this was slow, at the last one */
	__u32 window_samples;
	__u32 window_slow;
	__u32 samples; /* good handshakes that the baseline was learned from */
	__u32 ewma_us;
	__u32 baseline_us;
	__u32 reason; /* enum out_reason */
	__u32 probes_bad;
	__u32 probes_slow; /* in a row: answered, but over the limit */
	__u32 id_lengths;  /* QUIC: bit n says that the server uses ids of n bytes */
	__u32 ejections;   /* recent ones: each makes the pause longer */
	__u32 ejections_total;
	__u32 reserved_weight; /* what it took from the rotation budget */
};

/* Next hop towards an endpoint, per CPU so that it is never read half-written. */
struct hop {
	__u64 checked_ns;
	__u32 link;
	__u8 source[6];
	__u8 target[6];
	__u32 verdict; /* FORWARDED when usable, else the drop it leads to */
	__u32 mtu;     /* of the route: its link's or less */
};

/* IPv4 prefixes are of mapped addresses: 96 bits longer. */
struct prefix_key {
	__u32 length;
	struct address address;
};

struct block {
	__u64 expires_ns; /* 0: never */
	__u64 hits;	  /* sampled: 1 in 64 counts for 64 */
	__u32 length;	  /* of the prefix, so that the kernel can delete what it found */
	__u32 pad;
};

/*
 * What may be blocked, before anybody asks the tables. For IPv4 two bits for each /22; for IPv6 two for
 * each /48, by a hash of it: BLOCK_EXACT, an address in it is blocked; BLOCK_PREFIX, a prefix covers or
 * lies in it. `block_wide[0]` counts IPv6 prefixes shorter than /48, which are in no cell.
 *
 * A cell of IPv4 is fine enough to keep most away from the table of a million addresses, and coarse enough for all
 * cells, 1 MiB, to stay in a core's cache: by the /24 they took a fifth of a drop's time.
 */
#define BLOCK_CELL 22
#define BLOCK_WORDS (1 << (BLOCK_CELL - 5)) /* 32 cells a word */
#define BLOCK6_WORDS (1 << 15)		    /* 32 cells a word */
#define BLOCK_EXACT 1
#define BLOCK_PREFIX 2

/*
 * Single IPv4 addresses, so that a flood from a million of them costs a cache miss a packet: an address can only be
 * in the line that its hash leads to. In a cell are, above, the address as in the packet, and below when it
 * ends, in ticks of 2^BLOCK_TICK_LOG ns; a cell of 0 is free. Addresses whose line was full are in block_exact,
 * and `elsewhere` counts them.
 */
#define BLOCK_CELLS 7
#define BLOCK_TICK_LOG 26
#define BLOCK_FOR_EVER 0xffffffff
struct block_line {
	__u64 cells[BLOCK_CELLS];
	__u64 elsewhere;
};

enum client_flag {
	CLIENT_ALLOWED = 1, /* not blocked, not limited */
};

/* What is known of a client by its prefix; nested prefixes inherit in user space. */
struct client {
	__u16 customer;
	__u8 region;
	__u8 flags;
};

/* In facts, flows and slots, beside the number of a customer: the client is CLIENT_ALLOWED. */
#define CUSTOMER_ALLOWED 0x8000

/*
 * Count-min (Cormode and Muthukrishnan, 2005) of packets by source. A cell has its count in 26 bits and,
 * above these, the period that it was last touched in: by its age it is halved then.
 */
#define SKETCH_ROWS 4
#define SKETCH_COLUMNS 1024
struct sketch {
	__u64 strangers; /* packets of sources that were not busy, halved likewise */
	__u32 period;
	__u32 pad;
	__u32 count[SKETCH_ROWS][SKETCH_COLUMNS];
};

struct quic_id {
	__u8 bytes[QUIC_ID_MAX]; /* zeros behind its end */
	__u8 length;
	__u8 service;
	__u16 pad;
};

/* What the servers of a UDP service have been heard to say, any of them. */
struct heard {
	__u32 answered;	  /* not 0: they answer, so silence says something */
	__u32 id_lengths; /* not 0: they speak QUIC; bit n: with ids of n bytes */
};

/* The way of the fragments that follow a first one. */
struct fragment_key {
	struct address source;
	struct address target;
	__u32 id;
	__u32 protocol;
};

struct fragment {
	__u64 at_ns;
	struct address source; /* what is written into them, but in tunnels */
	struct address target;
	__u32 slot;	   /* of replies */
	__u16 source_port; /* of the first one */
	__u16 target_port;
	__u16 customer;
	__u8 endpoint;
	__u8 cdn;
	__u8 snat;
	__u8 pad[3];
};

struct count {
	__u64 packets;
	__u64 bytes;
};

struct cdn_count {
	struct count to_cdn;
	struct count from_cdn;
	__u64 new_flows;
	__u64 probe_flows;
	__u64 rescued_from;
	__u64 rescued_to;
	__u64 handshakes;
	__u64 promoted;
	__u64 closed;	   /* flows under way that ended: with slots, promoted - closed are open */
	__u64 spilled;	   /* new flows that went elsewhere because it was full */
	__u64 reset_dark;  /* clients reset because it went dark under them */
	__u64 segments_to; /* of TCP with data, and how many of them were sent before */
	__u64 resent_to;
	__u64 segments_from;
	__u64 resent_from;
	__u64 requests; /* whose first byte was timed */
	__u64 rebound;	/* QUIC flows that kept their endpoint under a new port */
	__u64 ids_learned;
	__u64 ids_hidden;  /* handshakes whose server chose an id of no length */
	__u64 ids_unknown; /* flows that came by an id that no server has named in clear */
};

struct customer_count {
	struct count passed;
	struct count dropped; /* for its limits, or its sources' */
	__u64 flows;
	__u64 flows_refused;
};

struct histogram {
	__u64 bucket[HISTOGRAM_BUCKETS];
};

/* All that is counted, by the names of the tables that have it for each CPU. */
struct counted {
	struct count verdicts[VERDICTS];
	struct cdn_count cdn_counts[MAX_CDNS];
	struct customer_count customer_counts[MAX_CUSTOMERS];
	__u64 service_flows[MAX_SERVICES];
	struct histogram handshakes[MAX_CDNS];
	struct histogram first_bytes[MAX_CDNS][MAX_REGIONS][CLASSES];
};

struct sample {
	struct address source;
	struct address target;
	__u16 source_port;
	__u16 target_port;
	__u16 length;
	__u8 verdict;
	__u8 cdn;
	__u32 one_in;
	__u8 protocol;
	__u8 tcp_flags;
	__u16 pad;
};

/* A flow got under way by a port of ours: what whoever is asked about that port later wants to know. */
struct binding {
	__u64 at_ns;
	struct address client;
	__u16 client_port;
	__u16 snat_port;
	__u8 snat; /* index in settings.snat of its family */
	__u8 endpoint;
	__u8 service;
	__u8 protocol;
};

struct event {
	__u64 at_ns;
	__u32 kind;
	__u32 reason;
	__u32 endpoint;
	__u32 to_endpoint;
	__u32 value; /* us of handshake, or how many */
	__u32 ejections;
};

/* The collector's progress; see sweep.h. */
#define SLOT_STATES 8
struct sweep {
	__u64 next; /* slot to look at; user space sets it to 0 to begin a round */
	__u64 freed;
};
