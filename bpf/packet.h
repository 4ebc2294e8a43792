/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the steps know of a packet.
 *
 * It lives in a per-CPU map, for two reasons: it outlives the tail call from one stage to the next,
 * and what is read from a map is any number to the verifier, which then walks what follows once and
 * not for every way that leads there. Pointers cannot live there; those are in `struct packet`.
 */
#pragma once

#define TCP_FLAGS_OFFSET 13
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10
#define TCP_ECE 0x40
#define TCP_CWR 0x80
/* Headers lie in the first so many bytes of a frame, or are none of ours. */
#define HEADERS_MAX 512

/* Verdicts that are not the last word. */
enum onward {
	TO_CDN = VERDICTS, /* translate, and send it there */
	TO_CLIENT,
	TO_HANDSHAKE, /* go on in that stage */
	TO_OPENING,
	TO_PICKING,
	TO_BINDING,
	TO_CLAMPING,
	TO_ICMP,
	TO_FRAGMENT,
	TO_QUIC,
	TO_CHALLENGE,
	TO_WEIGHING,
	TO_LETTING_IN,	 /* opened, and weighed */
	TO_NOTING,	 /* sent on, once what it says of its client is noted */
	TO_DOOR,	 /* may its source talk to a SNAT address at all? */
	RESET_TO_CLIENT, /* answer with a packet of our own */
	RESET_TO_CDN,
	ANSWER_ECHO,
	ANSWER_TOO_BIG,
	ANSWER_TOO_LATE,
	ANSWER_CHALLENGE,
};

/* Packets of our own making; who provokes one kind of them must not silence the others. */
enum answer_kind {
	ANSWER_RESETS = 0,
	ANSWER_PINGS,
	ANSWER_ERRORS,
	ANSWER_KINDS,
};

/* What a packet is part of. */
enum belongs {
	TO_NOBODY_OF_OURS = 0,
	TO_SOMETHING, /* of a client's: which flow, if any, the next stage finds out */
	TO_NEW_FLOW,
	TO_HALF_OPEN,
	TO_ESTABLISHED,
	TO_REPLY,
};

/* What the first packet of a flow says. */
enum begins {
	BEGINS_ANYTHING = 0,  /* it is no QUIC, or not known to be */
	BEGINS_CONNECTION,    /* any server may answer */
	BEGINS_ANOTHER_WAY,   /* of a connection under way: one server knows it */
	BEGINS_IN_THE_MIDDLE, /* of a connection that nobody knows */
};

/* What it says of its client's manner. */
enum happening {
	A_PROOF = 1, /* its handshake is finished */
	AN_END = 2,
	A_BEGINNING = 4, /* a flow of it is let in */
};

/* How a packet is rewritten. */
struct way_out {
	struct address source;
	struct address target;
	__u16 source_port;
	__u16 target_port;
	__u16 ip_delta;
	__u16 l4_delta;
};

/* What a packet takes of its limits, in ticks. */
struct cost {
	__u64 packet;
	__u64 bytes;
	__u64 flow;
};

/* The packet that an ICMP error is about, as it was sent: by us. */
struct quote {
	struct address source;
	struct address target;
	__u16 source_port;
	__u16 target_port;
	__u16 l3; /* offsets in the frame */
	__u16 l4;
	__u32 protocol;
};

struct facts {
	__u64 now; /* 0 until a step needs a clock */
	__u64 owner;
	struct address source;
	struct address target;
	struct address client; /* whose packet it is, or whom a CDN's reply is for */
	struct way_out out;
	struct cost cost;
	__u32 mode;
	__u32 policy;	/* generation, read once: what is judged under it is marked with it */
	__u32 bytes;	/* of the whole frame */
	__u32 length;	/* of the network packet: a short frame may be padded */
	__u32 payload;	/* of TCP and UDP */
	__u32 sequence; /* of TCP, in network order as all the rest */
	__u32 acknowledged;
	__u32 fragment_id;
	__u32 slot_index; /* of the flow; NO_SLOT: its CDN answers clients directly */
	__u32 endpoint;
	__u32 onward;  /* what the next stage is to do, an enum onward */
	__u32 mtu;     /* that it is too big for */
	__u32 service; /* of a flow to be opened */
	__u32 rescue;  /* that flow is taken from its CDN */
	__u32 cookie;  /* that its source is to send back */
	__u16 l3;      /* offsets in the frame */
	__u16 l4;
	__u16 outer; /* VLAN tags */
	__u16 inner;
	__u16 source_port;
	__u16 target_port;
	__u16 customer;
	__u16 option; /* of TCP, under way through them: offset in its header */
	__u8 family;  /* 4, 6 */
	__u8 protocol;
	__u8 flags; /* of TCP */
	__u8 ttl;
	__u8 dscp;
	__u8 cdn;   /* who the packet is counted for; NO_CDN_ID when nobody */
	__u8 ours;  /* enum local_kind, 0 when the destination is not ours */
	__u8 index; /* of that address */
	__u8 snat;  /* which SNAT address it leaves with */
	__u8 belongs;
	__u8 fragment; /* 0: whole, 1: the first one, 2: a later one */
	__u8 traffic_class;
	__u8 region;
	__u8 begins;	 /* of a flow to be opened: enum begins */
	__u8 tells;	 /* its first packet would be answered: silence says something */
	__u8 happened;	 /* of its client's flow, to be noted: enum happening */
	__u8 suspicious; /* a new flow's source, by a model that is on */
	__u8 after;	 /* what is done with it then, or if it is let in at the door */
	__u8 sought;	 /* by the express lane: it is of no flow under way */
	struct quote quote;
};

struct packet {
	struct xdp_md *ctx;
	struct facts *its;
	const struct settings *set;
	struct flow *flow; /* 0 when there is none */
	struct slot *slot;
	struct endpoint *endpoint; /* that it goes to, if this stage has looked */
	__u32 *generation;	   /* of the cached verdicts; 0 when there are none */
	int action;		   /* XDP verdict of a packet that was let through */
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
	__u32 suspected; /* probes that the suspect met has failed; NOBODY: none was met */
	__u32 full;	 /* endpoint that it would have been, were there room */
	__u32 draw;	 /* of 16 bits, against those that start slowly */
	__u32 table;
	__u32 policy;
	__u32 try;
};

/* Per CPU: what the sampler and the answers' limiter remember, and the packet under way. */
struct cpu_state {
	__u32 until_sample;
	__u32 sample_one_in; /* what the distance to the next sample was drawn with */
	__u64 answers_ns;
	__u32 answers_left[ANSWER_KINDS];
	__u32 pad;
	__u32 unbilled[MAX_CDNS]; /* bytes not yet counted against their capacity */
	struct pick pick;
	struct facts facts;
};

TABLE("percpu_array", __u32, struct cpu_state, cpu_states, 1, 0);

static __always_inline struct cpu_state *this_cpu(void)
{
	__u32 zero = 0;

	return cpu_states.lookup(&zero);
}

/*
 * A header at `offset` of the frame, or 0 when the frame ends before the header does. The compiler
 * must not know the offset better than the verifier does, or it would drop the mask.
 */
static __always_inline void *header_at(struct packet *pkt, __u32 offset, __u32 size)
{
	void *start = (void *)(long)pkt->ctx->data, *end = (void *)(long)pkt->ctx->data_end,
	     *header;

	if (!__builtin_constant_p(offset)) {
		asm volatile("" : "+r"(offset));
		offset &= HEADERS_MAX - 1;
	}
	header = start + offset;
	return header + size > end ? 0 : header;
}

/* -- clocks -- */

#define NS_PER_S 1000000000ULL
#define NS_PER_US 1000ULL

#ifdef TEST_CLOCK
PINNED("array", __u32, __u64, clock, 1, 0);

static __always_inline __u64 injected_ns(void)
{
	__u32 zero = 0;
	__u64 *ns = clock.lookup(&zero);

	return ns ? *ns : 0;
}
#else
#define injected_ns() 0ULL
#endif

/* Good to a tick (some milliseconds) and four times cheaper than the exact clock. */
static __always_inline __u64 coarse_now(struct packet *pkt)
{
	if (!pkt->its->now)
		pkt->its->now = injected_ns() ?: bpf_ktime_get_coarse_ns();
	return pkt->its->now;
}

/* For handshake times; replaces a coarse reading. */
static __always_inline __u64 exact_now(struct packet *pkt)
{
	pkt->its->now = injected_ns() ?: bpf_ktime_get_ns();
	return pkt->its->now;
}

/* Age of a stamp; the coarse clock may lie a tick behind a stamp of the exact one. */
static __always_inline __u64 age_ns(__u64 now, __u64 then)
{
	return (__s64)(now - then) > 0 ? now - then : 0;
}

/* -- addresses -- */

static __always_inline bool is_ipv4(const struct address *a)
{
	return !a->word[0] && !a->word[1] && a->word[2] == bpf_htonl(0xffff);
}

static __always_inline void map_ipv4(struct address *a, __u32 ipv4)
{
	a->word[0] = 0;
	a->word[1] = 0;
	a->word[2] = bpf_htonl(0xffff);
	a->word[3] = ipv4;
}

static __always_inline bool same_address(const struct address *a, const struct address *b)
{
	return a->word[3] == b->word[3] && a->word[2] == b->word[2] && a->word[1] == b->word[1] &&
	       a->word[0] == b->word[0];
}

/*
 * Can it be the address of one single host? Not one of none, of the sender itself, of many, or of nobody yet
 * (RFC 6890; ::1 and what stands for IPv4 are in the first /96).
 */
static __always_inline bool is_one_host(const struct address *a)
{
	__u32 first = bpf_ntohl(a->word[3]) >> 24;

	if (!is_ipv4(a))
		return (a->word[0] & bpf_htonl(0xff000000)) != bpf_htonl(0xff000000) &&
		       (a->word[0] | a->word[1] | a->word[2]);
	return first != 0 && first != 127 && first < 224;
}

/* A 64-bit finalizer (the constants are of Stafford's variant 13): every bit in changes half of those out. */
static __always_inline __u32 mix(__u64 word)
{
	word ^= word >> 30;
	word *= 0xbf58476d1ce4e5b9ULL;
	word ^= word >> 27;
	word *= 0x94d049bb133111ebULL;
	return word >> 32;
}

/* An address in 32 bits: of IPv4 itself, of IPv6 a hash. */
static __always_inline __u32 fold_address(const struct address *a)
{
	__u64 high = ((__u64)a->word[0] << 32) | a->word[1];
	__u64 low = ((__u64)a->word[2] << 32) | a->word[3];

	return is_ipv4(a) ? a->word[3] : mix(low ^ ((__u64)mix(high) << 16));
}

/* One host: a /32, of IPv6 a /64. Without a branch, which to the verifier would be two ways for all that follows. */
static __always_inline void source_of(struct packet *pkt, struct address *source)
{
	__u32 kept = (__s32)(pkt->its->family - 6) >> 31;

	asm volatile("" : "+r"(kept));
	*source = pkt->its->client;
	source->word[2] &= kept;
	source->word[3] &= kept;
}

/* What counts as one network: a /24, of IPv6 a hash of the /48. */
static __always_inline __u32 network_of(const struct address *a)
{
	if (is_ipv4(a))
		return a->word[3] & bpf_htonl(0xffffff00);
	return mix(((__u64)a->word[0] << 32) | (a->word[1] & bpf_htonl(0xffff0000)));
}

/* And as one region: a /16, of IPv6 a /32. */
static __always_inline __u32 region_of(const struct address *a)
{
	return is_ipv4(a) ? a->word[3] & bpf_htonl(0xffff0000) : a->word[0];
}
