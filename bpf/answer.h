/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Packets of our own making, each in answer to one and out of the interface that it came by: never
 * leave a peer in silence when we know what is wrong. At most ANSWERS_PER_S a CPU.
 */
#pragma once

#define ANSWERS_PER_S 1000
#define ANSWER_TTL 64

/* May another answer go out in this second? */
static __always_inline bool may_answer(struct packet *pkt)
{
	struct cpu_state *cpu = this_cpu();
	__u64 now = coarse_now(pkt);

	if (!cpu)
		return false;
	if (age_ns(now, cpu->answers_ns) >= NS_PER_S) {
		cpu->answers_ns = now;
		cpu->answers_left = ANSWERS_PER_S;
	}
	if (!cpu->answers_left)
		return false;
	cpu->answers_left--;
	return true;
}

/* Back to where the frame came from; its tags stay. */
static __always_inline bool turn_frame(struct packet *pkt)
{
	struct ethhdr *eth = header_at(pkt, 0, sizeof(*eth));
	__u8 sender[ETH_ALEN];

	if (!eth)
		return false;
	__builtin_memcpy(sender, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, sender, ETH_ALEN);
	return true;
}

/*
 * A fresh network header from us to the sender, for `length` bytes of `protocol`, with the frame cut or
 * grown to it. Returns the sum of the pseudo header, or -1.
 */
static __always_inline int head_answer(struct packet *pkt, __u8 protocol, __u32 length)
{
	struct facts *its = pkt->its;
	__u32 header = its->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	int excess = (int)(its->l3 + header + length) - (int)its->bytes;

	if (bpf_xdp_adjust_tail(pkt->ctx, excess))
		return -1;
	if (!turn_frame(pkt))
		return -1;
	its->l4 = its->l3 + header;
	if (its->family == 4) {
		struct iphdr *ip = header_at(pkt, its->l3, sizeof(*ip));

		if (!ip)
			return -1;
		__builtin_memset(ip, 0, sizeof(*ip));
		ip->version = 4;
		ip->ihl = 5;
		ip->tot_len = bpf_htons(sizeof(*ip) + length);
		ip->frag_off = bpf_htons(0x4000);
		ip->ttl = ANSWER_TTL;
		ip->protocol = protocol;
		ip->saddr = its->target.word[3];
		ip->daddr = its->source.word[3];
		ip->check = ~fold(bpf_htons(0x4500) + ip->tot_len + ip->frag_off +
				  bpf_htons((ANSWER_TTL << 8) | protocol) + halves(ip->saddr) +
				  halves(ip->daddr));
		return fold(halves(ip->saddr) + halves(ip->daddr) + bpf_htons(protocol) +
			    bpf_htons(length));
	} else {
		struct ipv6hdr *ip = header_at(pkt, its->l3, sizeof(*ip));

		if (!ip)
			return -1;
		__builtin_memset(ip, 0, sizeof(*ip));
		ip->version = 6;
		ip->payload_len = bpf_htons(length);
		ip->nexthdr = protocol;
		ip->hop_limit = ANSWER_TTL;
		__builtin_memcpy(&ip->saddr, &its->target, sizeof(ip->saddr));
		__builtin_memcpy(&ip->daddr, &its->source, sizeof(ip->daddr));
		return fold(halves_of(&its->target) + halves_of(&its->source) +
			    bpf_htons(protocol) + bpf_htons(length));
	}
}

/* A reset, as RFC 9293, 3.10.7.1 has it for a segment of no connection. */
static __always_inline int answer_reset(struct packet *pkt, int verdict, int otherwise)
{
	struct facts *its = pkt->its;
	__u32 sequence = 0, acknowledge = 0;
	__u8 flags = TCP_RST;
	struct tcphdr *tcp;
	int sum;

	if (its->protocol != IPPROTO_TCP || (its->flags & TCP_RST) || !may_answer(pkt))
		return otherwise;
	if (its->flags & TCP_ACK) {
		sequence = its->acknowledged;
	} else {
		acknowledge = bpf_htonl(bpf_ntohl(its->sequence) + its->payload +
					!!(its->flags & TCP_SYN) + !!(its->flags & TCP_FIN));
		flags |= TCP_ACK;
	}
	sum = head_answer(pkt, IPPROTO_TCP, sizeof(*tcp));
	tcp = header_at(pkt, its->l4, sizeof(*tcp));
	if (sum < 0 || !tcp)
		return otherwise;
	__builtin_memset(tcp, 0, sizeof(*tcp));
	tcp->source = its->target_port;
	tcp->dest = its->source_port;
	tcp->seq = sequence;
	tcp->ack_seq = acknowledge;
	((__u8 *)tcp)[TCP_FLAGS_OFFSET - 1] = 5 << 4;
	((__u8 *)tcp)[TCP_FLAGS_OFFSET] = flags;
	sum += tcp->source + tcp->dest + halves(sequence) + halves(acknowledge) +
	       bpf_htons((5 << 12) | flags);
	tcp->check = ~fold(sum);
	pkt->action = XDP_TX;
	return verdict;
}

static __always_inline int answer_with(struct packet *pkt)
{
	switch (pkt->its->answer) {
	case RESET_TO_CLIENT:
		return answer_reset(pkt, RESET_CLIENT, UNKNOWN_FLOW);
	case RESET_TO_CDN:
		return answer_reset(pkt, RESET_CDN, STALE_REPLY);
	case ANSWER_TOO_BIG:
		return TOO_BIG;
	case ANSWER_TOO_LATE:
		return EXPIRED_TTL;
	default:
		return UNSUPPORTED;
	}
}
