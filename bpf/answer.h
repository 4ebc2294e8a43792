/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Packets of our own making, each in answer to one and out of the interface that it came by: never
 * leave a peer in silence when we know what is wrong. At most ANSWERS_PER_S of a kind a CPU.
 */
#pragma once

#define ANSWERS_PER_S 1000
#define ANSWER_TTL 64
/* Of the packet that an error is about, all that fits the least MTU of all (RFC 1812, 4.3.2.3; RFC 4443, 2.4). */
#define QUOTE4_MAX (576 - 20 - 8)
#define QUOTE6_MAX (1280 - 40 - 8)
#define QUOTE_ROOM 2048
#define QUOTE_PIECE 512 /* what older kernels sum up at once */
#define QUOTE_PIECES 3
#define FRONT_ROOM 32 /* Ethernet and two tags are 22 */
#define ICMP4_ECHO_REPLY 0
#define ICMP6_TOO_BIG 2
#define ICMP6_TIME_EXCEEDED 3
#define ICMP6_ECHO_REPLY 129

struct quoted {
	__u8 bytes[QUOTE_ROOM];
};

TABLE("percpu_array", __u32, struct quoted, quotes, 1, 0);

/*
 * Does the packet come from one single host, and was it sent to us alone? All others are not answered
 * (RFC 1122, 3.2.2; RFC 4443, 2.4 e).
 */
static __always_inline bool is_between_hosts(struct packet *pkt)
{
	struct ethhdr *eth = header_at(pkt, 0, sizeof(*eth));

	return eth && !(eth->h_dest[0] & 1) && is_one_host(&pkt->its->source);
}

/* May another answer go out in this second? */
static __always_inline bool may_answer(struct packet *pkt, enum answer_kind kind)
{
	struct cpu_state *cpu = this_cpu();
	__u64 now = coarse_now(pkt);

	if (!cpu || !is_between_hosts(pkt))
		return false;
	if (age_ns(now, cpu->answers_ns) >= NS_PER_S) {
		cpu->answers_ns = now;
		cpu->answers_left[ANSWER_RESETS] = ANSWERS_PER_S;
		cpu->answers_left[ANSWER_PINGS] = ANSWERS_PER_S;
		cpu->answers_left[ANSWER_ERRORS] = ANSWERS_PER_S;
	}
	if (!cpu->answers_left[kind])
		return false;
	cpu->answers_left[kind]--;
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
	int excess = (int)(its->l3 + header + length) - (int)bpf_xdp_get_buff_len(pkt->ctx);

	if (excess && bpf_xdp_adjust_tail(pkt->ctx, excess))
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

/* A segment with no data and no options. */
static __always_inline bool answer_segment(struct packet *pkt, __u32 sequence, __u32 acknowledge,
					   __u8 flags)
{
	struct facts *its = pkt->its;
	struct tcphdr *tcp;
	int sum;

	sum = head_answer(pkt, IPPROTO_TCP, sizeof(*tcp));
	tcp = header_at(pkt, its->l4, sizeof(*tcp));
	if (sum < 0 || !tcp)
		return false;
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
	return true;
}

/* A reset, as RFC 9293, 3.10.7.1 has it for a segment of no connection. */
static __always_inline int answer_reset(struct packet *pkt, int verdict, int otherwise)
{
	struct facts *its = pkt->its;
	__u32 sequence = 0, acknowledge = 0;
	__u8 flags = TCP_RST;

	if (its->protocol != IPPROTO_TCP || (its->flags & TCP_RST) ||
	    !may_answer(pkt, ANSWER_RESETS))
		return otherwise;
	if (its->flags & TCP_ACK) {
		sequence = its->acknowledged;
	} else {
		acknowledge = bpf_htonl(bpf_ntohl(its->sequence) + its->payload +
					!!(its->flags & TCP_SYN) + !!(its->flags & TCP_FIN));
		flags |= TCP_ACK;
	}
	return answer_segment(pkt, sequence, acknowledge, flags) ? verdict : otherwise;
}

/*
 * The challenge, see challenge.h: an ACK, shorter than the SYN or as long. As many as there are SYNs: it is not
 * limited, or who is spoofed often enough would keep others from proving themselves.
 */
static __always_inline int answer_challenge(struct packet *pkt)
{
	if (!is_between_hosts(pkt) || !answer_segment(pkt, 0, pkt->its->cookie, TCP_ACK))
		return UNVERIFIED;
	return CHALLENGED;
}

/* -- pings -- */

/*
 * The packet itself goes back, whatever it carries: of its checksum only what changes is summed up. One
 * with IP options or extension headers is not answered: they are instructions for its way here.
 */
static __always_inline int answer_echo(struct packet *pkt)
{
	struct facts *its = pkt->its;
	__u32 header = its->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	struct icmp_header *icmp;
	__u16 *first, old;

	if (its->l4 != its->l3 + header)
		return UNSUPPORTED;
	if (!may_answer(pkt, ANSWER_PINGS))
		return UNRELATED;
	if (its->family == 4) {
		struct iphdr *ip = header_at(pkt, its->l3, sizeof(*ip));

		if (!ip)
			return MALFORMED;
		ip->check = checksum_apply(
			ip->check, change(bpf_htons(ip->ttl << 8), bpf_htons(ANSWER_TTL << 8)));
		ip->ttl = ANSWER_TTL;
		ip->saddr = its->target.word[3];
		ip->daddr = its->source.word[3];
	} else {
		struct ipv6hdr *ip = header_at(pkt, its->l3, sizeof(*ip));

		if (!ip)
			return MALFORMED;
		ip->hop_limit = ANSWER_TTL;
		__builtin_memcpy(&ip->saddr, &its->target, sizeof(ip->saddr));
		__builtin_memcpy(&ip->daddr, &its->source, sizeof(ip->daddr));
	}
	icmp = header_at(pkt, its->l4, sizeof(*icmp));
	if (!icmp || !turn_frame(pkt))
		return MALFORMED;
	first = (__u16 *)icmp;
	old = *first;
	icmp->type = its->family == 4 ? ICMP4_ECHO_REPLY : ICMP6_ECHO_REPLY;
	icmp->check = checksum_apply(icmp->check, change(old, *first));
	pkt->action = XDP_TX;
	return ECHOED;
}

/* -- errors -- */

/* Sum over the first `length` bytes of the packet; -1 when they are not there. */
static __always_inline int sum_of_quote(struct packet *pkt, __u32 length)
{
	__u32 zero = 0, last = length & (QUOTE_ROOM - 4);
	struct quoted *quote = quotes.lookup(&zero);
	__s64 sum = 0;

	if (!quote)
		return -1;
	*(__u32 *)(quote->bytes + last) = 0; /* a last word that is not whole */
	asm volatile("" : "+r"(length));
	length &= QUOTE_ROOM - 1;
	if (!length || bpf_xdp_load_bytes(pkt->ctx, pkt->its->l3, quote->bytes, length))
		return -1;
#pragma clang loop unroll(disable)
	for (int i = 0; i < QUOTE_PIECES; i++) {
		__u32 begin = i * QUOTE_PIECE, piece = (length + 3 - begin) & ~3;

		if (begin >= length)
			break;
		if (piece > QUOTE_PIECE)
			piece = QUOTE_PIECE;
		asm volatile("" : "+r"(piece));
		piece &= 2 * QUOTE_PIECE - 1;
		sum = bpf_csum_diff(0, 0, (__be32 *)(quote->bytes + begin), piece, sum);
	}
	return fold(sum);
}

/* Room of `size` bytes between Ethernet with its tags and the packet. */
static __always_inline bool make_room(struct packet *pkt, int size)
{
	__u32 length = pkt->its->l3;
	__u8 front[FRONT_ROOM] = {};

	asm volatile("" : "+r"(length));
	length &= FRONT_ROOM - 1;
	if (!length)
		return false;
	return !bpf_xdp_load_bytes(pkt->ctx, 0, front, length) &&
	       !bpf_xdp_adjust_head(pkt->ctx, -size) &&
	       !bpf_xdp_store_bytes(pkt->ctx, 0, front, length);
}

/* Type and code of the error. */
static __always_inline __u16 error_of(struct facts *its)
{
	if (its->onward == ANSWER_TOO_BIG)
		return its->family == 4 ? ICMP4_UNREACHABLE << 8 | ICMP4_TOO_BIG_CODE
					: ICMP6_TOO_BIG << 8;
	return (its->family == 4 ? ICMP4_TIME_EXCEEDED : ICMP6_TIME_EXCEEDED) << 8;
}

/*
 * An error about the packet to its sender, from the address that it was for. None about another error,
 * and none about a later fragment: the first one has had its own.
 */
static __always_inline bool answer_error(struct packet *pkt)
{
	struct facts *its = pkt->its;
	bool ipv4 = its->family == 4;
	__u32 most = ipv4 ? QUOTE4_MAX : QUOTE6_MAX, length = its->length;
	__u32 protocol = ipv4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	__u32 header = ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	struct icmp_header *icmp;
	int sum, pseudo;

	if (its->fragment == 2 || its->protocol == protocol || !may_answer(pkt, ANSWER_ERRORS))
		return false;
	if (length > most)
		length = most;
	sum = sum_of_quote(pkt, length);
	if (sum < 0 || !make_room(pkt, header + sizeof(*icmp)))
		return false;
	pseudo = head_answer(pkt, protocol, sizeof(*icmp) + length);
	icmp = header_at(pkt, its->l4, sizeof(*icmp));
	if (pseudo < 0 || !icmp)
		return false;
	*(__u16 *)icmp = bpf_htons(error_of(its));
	icmp->rest = its->onward == ANSWER_TOO_BIG ? bpf_htonl(its->mtu) : 0;
	sum += bpf_htons(error_of(its)) + halves(icmp->rest) + (ipv4 ? 0 : pseudo);
	icmp->check = ~fold(sum);
	pkt->action = XDP_TX;
	return true;
}

static __always_inline int answer_with(struct packet *pkt)
{
	__u32 answer = pkt->its->onward;
	int verdict =
		answer == RESET_TO_CLIENT || answer == ANSWER_ECHO ? check_sender(pkt) : GO_ON;

	if (verdict != GO_ON)
		return verdict;
	switch (answer) {
	case RESET_TO_CLIENT:
		return answer_reset(pkt, RESET_CLIENT, UNKNOWN_FLOW);
	case RESET_TO_CDN:
		return answer_reset(pkt, RESET_CDN, STALE_REPLY);
	case ANSWER_CHALLENGE:
		return answer_challenge(pkt);
	case ANSWER_ECHO:
		return answer_echo(pkt);
	case ANSWER_TOO_BIG:
		return answer_error(pkt) ? SAID_TOO_BIG : TOO_BIG;
	case ANSWER_TOO_LATE:
		return answer_error(pkt) ? SAID_TOO_LATE : EXPIRED_TTL;
	default:
		return UNSUPPORTED;
	}
}
