/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Translate a packet and send it on: checksums by deltas (RFC 1624), TTL, Ethernet, interface. */
#pragma once

#define HOP_LIFETIME_NS 1000000000ULL
#define RESETS_PER_S 1000
#define NS_PER_S 1000000000ULL

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* One's complement sum of the halves of a word. */
static __always_inline __u32 halves(__u32 word)
{
	return (word & 0xffff) + (word >> 16);
}

/* Delta that turns a checksum over `from` into one over `to`: HC' = ~(~HC + ~m + m'). */
static __always_inline __u16 checksum_delta(__u32 from_sum, __u32 to_sum)
{
	return fold(to_sum + (__u16)~fold(from_sum));
}

static __always_inline __u16 checksum_apply(__u16 check, __u32 delta)
{
	return ~fold((__u16)~check + delta);
}

static __always_inline void translate(struct packet *pkt)
{
	struct way_out *to = &pkt->out;
	struct iphdr *ip = pkt->ip;
	struct tcphdr *tcp = pkt->tcp;

	ip->saddr = to->source;
	ip->daddr = to->target;
	ip->ttl--;
	/* the TTL is the high byte of its word: minus one there is 0xfeff in one's complement */
	ip->check = checksum_apply(ip->check, (__u32)to->ip_delta + bpf_htons(0xfeff));
	tcp->source = to->source_port;
	tcp->dest = to->target_port;
	tcp->check = checksum_apply(tcp->check, to->tcp_delta);
}

static __always_inline void address_frame(struct packet *pkt, const __u8 *source,
					  const __u8 *target)
{
	__builtin_memcpy(pkt->eth->h_source, source, ETH_ALEN);
	__builtin_memcpy(pkt->eth->h_dest, target, ETH_ALEN);
}

static __always_inline int out_of(struct packet *pkt, __u32 ifindex)
{
	return ifindex == pkt->ctx->ingress_ifindex ? XDP_TX : bpf_redirect(ifindex, 0);
}

/* Ask the kernel's routing and neighbour tables for the way to an address. */
static __always_inline void route(struct packet *pkt, __u32 from, __u32 to, struct hop *hop)
{
	struct bpf_fib_lookup fib = {};
	int answer;

	fib.family = 2; /* AF_INET */
	fib.l4_protocol = IPPROTO_TCP;
	fib.ifindex = pkt->ctx->ingress_ifindex;
	fib.ipv4_src = from;
	fib.ipv4_dst = to;
	answer = bpf_fib_lookup(pkt->ctx, &fib, sizeof(fib), 0);
	hop->verdict = answer == BPF_FIB_LKUP_RET_SUCCESS    ? FORWARDED
		       : answer == BPF_FIB_LKUP_RET_NO_NEIGH ? NO_NEIGHBOUR
							     : NO_ROUTE;
	hop->ifindex = fib.ifindex;
	__builtin_memcpy(hop->source, fib.smac, ETH_ALEN);
	__builtin_memcpy(hop->target, fib.dmac, ETH_ALEN);
}

/* The next hop towards an endpoint, asked for once a second and CPU. */
static __always_inline struct hop *hop_to(struct packet *pkt, __u32 id, __u32 from, __u32 to)
{
	struct hop *hop = hops.lookup(&id);
	__u64 now = coarse_now(pkt);

	if (hop && (hop->verdict != FORWARDED || age_ns(now, hop->checked_ns) > HOP_LIFETIME_NS)) {
		route(pkt, from, to, hop);
		hop->checked_ns = now;
	}
	return hop;
}

static __always_inline int send_to_cdn(struct packet *pkt)
{
	struct hop *hop = hop_to(pkt, pkt->endpoint, pkt->source, pkt->out.target);

	if (!hop)
		return NO_ROUTE;
	if (hop->verdict != FORWARDED)
		return hop->verdict;
	address_frame(pkt, hop->source, hop->target);
	pkt->action = out_of(pkt, hop->ifindex);
	return FORWARDED;
}

/* Back the way the client's frames come. */
static __always_inline int send_to_client(struct packet *pkt)
{
	if (!pkt->slot)
		return NO_OWNER;
	address_frame(pkt, pkt->slot->self, pkt->slot->router);
	pkt->action = out_of(pkt, pkt->slot->ifindex);
	return REPLIED;
}

/*
 * Answer a segment with a reset (RFC 9293, 3.10.7.1) out of the interface it came from: never leave
 * a peer in silence when we know that its connection is gone. At most RESETS_PER_S a CPU.
 */
static __always_inline int answer_reset(struct packet *pkt, int verdict, int otherwise)
{
	__u32 zero = 0, sequence = 0, acknowledge = 0, sum;
	struct cpu_state *cpu = cpu_states.lookup(&zero);
	__u8 router[ETH_ALEN], self[ETH_ALEN];
	__u8 flags = TCP_RST;
	__u64 now = coarse_now(pkt);
	struct ethhdr *eth;
	struct tcphdr *tcp;
	struct iphdr *ip;
	int excess;

	if (!cpu || (pkt->flags & TCP_RST))
		return otherwise;
	if (age_ns(now, cpu->resets_ns) >= NS_PER_S) {
		cpu->resets_ns = now;
		cpu->resets_left = RESETS_PER_S;
	}
	if (!cpu->resets_left)
		return otherwise;
	cpu->resets_left--;

	if (pkt->flags & TCP_ACK) {
		sequence = pkt->acknowledged;
	} else {
		acknowledge = bpf_htonl(bpf_ntohl(pkt->sequence) + 1);
		flags |= TCP_ACK;
	}
	__builtin_memcpy(router, pkt->eth->h_source, ETH_ALEN);
	__builtin_memcpy(self, pkt->eth->h_dest, ETH_ALEN);
	excess = (int)(sizeof(*eth) + sizeof(*ip) + sizeof(*tcp)) - (int)pkt->bytes;
	if (bpf_xdp_adjust_tail(pkt->ctx, excess))
		return otherwise;

	eth = frame_start(pkt);
	ip = (void *)(eth + 1);
	tcp = (void *)(ip + 1);
	if ((void *)(tcp + 1) > frame_end(pkt))
		return otherwise;
	__builtin_memcpy(eth->h_source, self, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, router, ETH_ALEN);

	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = bpf_htons(sizeof(*ip) + sizeof(*tcp));
	ip->frag_off = bpf_htons(0x4000);
	ip->ttl = 64;
	ip->protocol = IPPROTO_TCP;
	ip->saddr = pkt->target;
	ip->daddr = pkt->source;
	sum = bpf_htons(0x4500) + ip->tot_len + ip->frag_off + bpf_htons((64 << 8) | IPPROTO_TCP);
	ip->check = ~fold(sum + halves(ip->saddr) + halves(ip->daddr));

	__builtin_memset(tcp, 0, sizeof(*tcp));
	tcp->source = pkt->target_port;
	tcp->dest = pkt->source_port;
	tcp->seq = sequence;
	tcp->ack_seq = acknowledge;
	((__u8 *)tcp)[TCP_FLAGS_OFFSET - 1] = 5 << 4;
	((__u8 *)tcp)[TCP_FLAGS_OFFSET] = flags;
	sum = halves(ip->saddr) + halves(ip->daddr) + bpf_htons(IPPROTO_TCP) +
	      bpf_htons(sizeof(*tcp));
	sum += tcp->source + tcp->dest + halves(sequence) + halves(acknowledge);
	sum += bpf_htons((5 << 12) | flags);
	tcp->check = ~fold(sum);
	pkt->action = XDP_TX;
	return verdict;
}

static __always_inline int send(struct packet *pkt, int verdict)
{
	bool client = verdict == RESET_TO_CLIENT;

	if (client || verdict == RESET_TO_CDN)
		return answer_reset(pkt, client ? RESET_CLIENT : RESET_CDN,
				    client ? UNKNOWN_FLOW : STALE_REPLY);
	if (!pkt->tcp)
		return UNSUPPORTED; /* for the verifier: only TCP gets here */
	if (pkt->ip->ttl <= 1)
		return EXPIRED_TTL;
	verdict = verdict == TO_CDN ? send_to_cdn(pkt) : send_to_client(pkt);
	if (verdict == FORWARDED || verdict == REPLIED)
		translate(pkt);
	return verdict;
}
