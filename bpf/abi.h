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
#define MAX_ENDPOINTS 64
#define MAX_SERVICES 32
#define MAX_SNAT 8
/* The largest prime that fits the room; Maglev walks its slots with strides that must not divide it. */
#define PICK_SLOTS 16381
#define PICK_ROOM 16384
/* Eight sub-steps an octave of microseconds: a bucket is at most 1/8 of its value wide. */
#define HANDSHAKE_BUCKETS 256
#define NO_CDN_ID 0xff

/* Every packet ends in exactly one of these; the order is the order of the counters. */
enum verdict {
	GO_ON = 0, /* not a verdict: the next step decides */
	/* let through */
	FORWARDED,
	REPLIED,
	PASSED,
	BYPASSED,
	RESET_CLIENT,
	RESET_CDN,
	/* dropped */
	BLOCKED,
	MALFORMED,
	FRAGMENT,
	UNSUPPORTED,
	EXPIRED_TTL,
	NO_SERVICE,
	UNKNOWN_FLOW,
	BAD_ACK,
	NO_OWNER,
	STALE_REPLY,
	ABSORBED,
	NO_CDN,
	NO_PORT,
	NO_ROOM,
	NO_ROUTE,
	NO_NEIGHBOUR,
	VERDICTS,
	FIRST_DROP = BLOCKED,
};

enum mode_flag {
	MODE_DISARMED = 1, /* drop, eject and rescue nothing; pick by plain weights */
	MODE_BYPASS = 2,   /* pass every packet untouched */
};

enum local_kind {
	LOCAL_VIP = 1,
	LOCAL_SNAT,
};

enum policy {
	POLICY_WEIGHTED = 0,
	POLICY_LATENCY,
};

enum slot_state {
	SLOT_FREE = 0,
	SLOT_SYN_SENT,	  /* client's SYN forwarded, nothing heard */
	SLOT_SYN_RECV,	  /* SYN-ACK went to the client */
	SLOT_ESTABLISHED, /* the client proved that it got the SYN-ACK */
	SLOT_CLOSING,	  /* FINs both ways or a reset: the port rests */
	SLOT_TOMBSTONE,	  /* rescued away: a late SYN-ACK is reset towards its CDN */
};

enum flow_flag {
	FLOW_SYNACK = 1,     /* half-open: a valid SYN-ACK was seen */
	FLOW_RESENT = 2,     /* the client sent its SYN again: no handshake sample (Karn) */
	FLOW_PROBE = 4,	     /* sent to an ejected endpoint to see whether it is back */
	FLOW_FIN_CLIENT = 8, /* in the slot */
	FLOW_FIN_CDN = 16,
	FLOW_RESET = 32,
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
	EVENT_KEPT, /* would have been ejected, but too much weight is out already */
};

/* mode[0] is its own map so that panic is one write that cannot undo anybody else's. */
struct settings {
	__u32 generation; /* policy generation: a cached verdict with another one is checked again */
	__u32 sample_one_in;
	__u32 seed;
	__u16 port_min_host;
	__u16 ports;
	__u16 snat_count;
	__u16 endpoint_stride; /* endpoints a SNAT address has slots for */
	__u32 snat[MAX_SNAT];
	__u32 weight_total; /* of all endpoints in rotation by the operator's will */
	__u32 dark_connects;
	__u32 refused_connects;
	__u32 slow_connects;
	__u32 distinct_prefixes;
	__u32 pad;
	__u64 out_ns;
	__u64 max_out_ns;
	__u64 rescue_after_ns;
};

struct identity {
	__u8 digest[32];
};

struct local {
	__u8 kind;  /* enum local_kind */
	__u8 index; /* of the SNAT address */
	__u16 pad;
};

struct service_key {
	__u32 vip;
	__u16 port;
	__u8 protocol;
	__u8 pad;
};

struct service {
	__u32 vip;
	__u16 port;
	__u8 policy;
	__u8 bank; /* which of its two pick tables is in force */
};

/* Sixteen-bit endpoint ids; a service has two tables and flips service.bank between them. */
struct pick_table {
	__u16 endpoint[PICK_ROOM];
};

struct endpoint_key {
	__u32 address;
	__u16 port;
	__u8 protocol;
	__u8 pad;
};

struct endpoint {
	__u32 address;
	__u16 port;
	__u8 cdn;
	__u8 pad;
	__u32 weight;	/* what is out of rotation while it is ejected */
	__u32 limit_us; /* 0: three baselines and 20 ms */
};

struct flow_key {
	__u32 client;
	__u32 vip;
	__u16 client_port;
	__u16 vip_port;
	__u8 protocol;
	__u8 pad[3];
};

/* The forward direction, half-open and established alike: every verdict cached. */
struct flow {
	__u64 syn_ns;
	__u32 slot; /* its reverse slot */
	__u32 generation;
	__u32 snat;
	__u16 snat_port;
	__u16 ip_delta; /* checksum deltas, ready to add */
	__u16 tcp_delta;
	__u8 endpoint;
	__u8 service;
	__u8 cdn;
	__u8 flags;
	__u16 seen_s; /* second of the last look at the slot */
	__u32 isn;
	__u32 cdn_isn;
};

/* The reverse direction: reverse[(snat x stride + endpoint) x ports + port]. */
struct slot {
	__u64 owner;	/* who holds the port; claimed by compare-and-swap, 0 when free */
	__u64 since_ns; /* start of the present state */
	__u32 generation;
	__u32 isn;
	__u32 ifindex;	/* where the client's frames come from, */
	__u8 router[6]; /* the router that sent them, */
	__u8 self[6];	/* and whom of us it addressed */
	__u16 ip_delta;
	__u16 tcp_delta;
	__u8 state;
	__u8 flags;
	__u16 pad;
	__u32 seen_s; /* second of the last look at the forward entry */
	__u32 pad2;
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
	__u64 kept_ns;		/* when it was last said that it has to stay */
	__u64 last_new_flow_ns; /* last new flow that was no probe */
	__u32 connect_prefix;	/* of the first connect since the last answer; */
	__u32 connect_networks; /* 2 when another one came from elsewhere */
	__u32 slow_prefix[2];
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
	__u32 pad;
	__u32 ejections; /* recent ones: each makes the pause longer */
	__u32 ejections_total;
	__u32 reserved_weight; /* what it took from the rotation budget */
};

/* Next hop towards an endpoint, per CPU so that it is never read half-written. */
struct hop {
	__u64 checked_ns;
	__u32 ifindex;
	__u8 source[6];
	__u8 target[6];
	__u32 verdict; /* FORWARDED when usable, else the drop it leads to */
	__u32 pad;
};

struct prefix_key {
	__u32 length;
	__u32 address;
};

struct block {
	__u64 expires_ns; /* 0: never */
	__u64 hits;	  /* sampled: 1 in 64 counts for 64 */
	__u32 length;	  /* of the prefix, so that the kernel can delete what it found */
	__u32 pad;
};

/* Two bits for each /24: 1, some address in it is blocked; 2, some blocked prefix covers or lies in it. */
#define BLOCK_WORDS (1 << 19)
#define BLOCK_EXACT 1
#define BLOCK_PREFIX 2

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
};

struct handshake_histogram {
	__u64 bucket[HANDSHAKE_BUCKETS];
};

/*
 * A pick under way. It lives in a map because what is read from there is any number to the verifier,
 * which then walks the pick's loop, and what follows it, once and not for every way through it.
 */
struct pick {
	__u32 hash;
	__u32 except; /* CDN that it must not be */
	__u32 first;  /* of two picks */
	__u32 first_cost_us;
	__u32 endpoint; /* the answer */
	__u32 probe;
	__u32 darkened;	 /* endpoint found dark on the way */
	__u32 suspected; /* has a suspect been seen? better than one that is out */
};

/* Per CPU: what the sampler and the reset limiter remember, and the pick under way. */
struct cpu_state {
	__u32 until_sample;
	__u32 resets_left;
	__u64 resets_ns;
	__u32 sample_one_in; /* what the distance to the next sample was drawn with */
	__u32 pad;
	struct pick pick;
};

struct sample {
	__u32 source;
	__u32 target;
	__u16 source_port;
	__u16 target_port;
	__u16 length;
	__u8 verdict;
	__u8 cdn;
	__u32 one_in;
	__u32 pad;
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
