/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the steps know of a packet, and how it is read from the frame. */
#pragma once

#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET_MASK 0x1fff
#define TCP_FLAGS_OFFSET 13
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Verdicts for send() alone: it turns them into a counted one. */
enum send {
	TO_CDN = VERDICTS,
	TO_CLIENT,
	RESET_TO_CLIENT,
	RESET_TO_CDN,
};

/* What a packet is part of. */
enum belongs {
	TO_NOBODY_OF_OURS = 0,
	TO_NEW_FLOW,
	TO_HALF_OPEN,
	TO_ESTABLISHED,
	TO_UNKNOWN_FLOW,
	TO_REPLY,
};

/* How a packet is rewritten. */
struct way_out {
	__u32 source;
	__u32 target;
	__u16 source_port;
	__u16 target_port;
	__u16 ip_delta;
	__u16 tcp_delta;
};

struct packet {
	struct xdp_md *ctx;
	struct ethhdr *eth;
	struct iphdr *ip;
	struct tcphdr *tcp;
	const struct settings *set;
	__u32 mode;
	__u32 policy; /* generation, read once: what is judged under it is marked with it */
	__u32 bytes;  /* of the whole frame */
	__u32 source;
	__u32 target;
	__u16 source_port;
	__u16 target_port;
	__u32 sequence; /* of TCP, in network order as all the rest */
	__u32 acknowledged;
	__u8 flags;
	__u8 cdn;  /* who the packet is counted for; NO_CDN_ID when nobody */
	__u8 ours; /* enum local_kind, 0 when the destination is not ours */
	__u8 snat_index;
	__u64 now; /* filled by the first step that needs a clock */

	/* found by find_flow() */
	enum belongs belongs;
	__u32 client;	   /* whose packet it is, or whom a CDN's reply is for */
	__u32 *generation; /* of the cached verdicts; 0 when there are none */
	struct flow *flow;
	struct slot *slot;
	__u64 owner; /* the slot's */
	__u32 slot_index;
	__u32 endpoint;

	struct block *hit; /* what blocked it */
	struct way_out out;
	int action; /* XDP verdict of a packet that was let through */
};

static __always_inline void *frame_start(struct packet *pkt)
{
	return (void *)(long)pkt->ctx->data;
}

static __always_inline void *frame_end(struct packet *pkt)
{
	return (void *)(long)pkt->ctx->data_end;
}

/* Good to a tick (some milliseconds) and four times cheaper than the exact clock. */
static __always_inline __u64 coarse_now(struct packet *pkt)
{
	if (!pkt->now)
		pkt->now = bpf_ktime_get_coarse_ns();
	return pkt->now;
}

/* For handshake times; replaces a coarse reading. */
static __always_inline __u64 exact_now(struct packet *pkt)
{
	pkt->now = bpf_ktime_get_ns();
	return pkt->now;
}

/* Age of a stamp; the coarse clock may lie a tick behind a stamp of the exact one. */
static __always_inline __u64 age_ns(__u64 now, __u64 then)
{
	return (__s64)(now - then) > 0 ? now - then : 0;
}

/* Addresses are 24 bits wide to the breaker and the sketches: one source is its /24. */
static __always_inline __u32 prefix24(__u32 address)
{
	return address & bpf_htonl(0xffffff00);
}

/* The IP header, and whether the destination is ours. Whatever is not IPv4 passes untouched. */
static __always_inline int parse(struct xdp_md *ctx, struct packet *pkt)
{
	__u32 zero = 0, *mode_now;
	struct local *local;

	pkt->ctx = ctx;
	pkt->cdn = NO_CDN_ID;
	pkt->bytes = ctx->data_end - ctx->data;
	pkt->eth = frame_start(pkt);
	pkt->ip = (void *)(pkt->eth + 1);
	if ((void *)(pkt->eth + 1) > frame_end(pkt))
		return PASSED;
	if (pkt->eth->h_proto != bpf_htons(ETH_P_IP))
		return PASSED;
	if ((void *)(pkt->ip + 1) > frame_end(pkt))
		return PASSED; /* too short to be for us; the stack knows what to do with it */

	pkt->set = settings.lookup(&zero);
	mode_now = mode.lookup(&zero);
	if (!pkt->set || !mode_now)
		return PASSED;
	pkt->mode = *mode_now;
	pkt->policy = *(volatile const __u32 *)&pkt->set->generation;
	if (pkt->mode & MODE_BYPASS)
		return BYPASSED;

	pkt->source = pkt->ip->saddr;
	pkt->target = pkt->ip->daddr;
	local = local_addresses.lookup(&pkt->target);
	if (local) {
		pkt->ours = local->kind;
		pkt->snat_index = local->index;
	}
	return GO_ON;
}

/* The transport header of a packet for one of our addresses. */
static __always_inline int parse_transport(struct packet *pkt)
{
	struct iphdr *ip = pkt->ip;
	__u32 header = ip->ihl * 4, total = bpf_ntohs(ip->tot_len);
	struct tcphdr *tcp;

	if (ip->version != 4 || ip->ihl < 5)
		return MALFORMED;
	if (total < header || total + sizeof(struct ethhdr) > pkt->bytes)
		return MALFORMED;
	if (ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET_MASK))
		return FRAGMENT;
	if (ip->protocol != IPPROTO_TCP)
		return UNSUPPORTED;
	tcp = (void *)ip + header;
	if ((void *)(tcp + 1) > frame_end(pkt))
		return MALFORMED;
	if (tcp->doff < 5 || header + tcp->doff * 4 > total)
		return MALFORMED;
	if (!tcp->source || !tcp->dest)
		return MALFORMED;
	pkt->tcp = tcp;
	pkt->source_port = tcp->source;
	pkt->target_port = tcp->dest;
	pkt->sequence = tcp->seq;
	pkt->acknowledged = tcp->ack_seq;
	pkt->flags = ((__u8 *)tcp)[TCP_FLAGS_OFFSET];
	/* a SYN may carry ACK, ECE and CWR; with FIN or RST it is nobody's */
	if ((pkt->flags & TCP_SYN) && (pkt->flags & (TCP_FIN | TCP_RST)))
		return MALFORMED;
	if (!(pkt->flags & (TCP_SYN | TCP_ACK | TCP_RST)))
		return MALFORMED;
	return GO_ON;
}
