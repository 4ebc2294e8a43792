/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What a SYN promises to take in one segment (MSS, RFC 9293, 3.7.1), clamped to what fits the path: into
 * a tunnel less fits than into the link below, and an endpoint may be known to need smaller ones.
 */
#pragma once

#define TCP_OPTION_END 0
#define TCP_OPTION_NOTHING 1
#define TCP_OPTION_MSS 2
#define TCP_OPTION_MSS_LENGTH 4
#define TCP_OPTIONS_MAX 40

/*
 * Where the option begins, in its->option. Options that contradict themselves are left to the receiver.
 * The place under way lives in the facts, or the verifier would walk every way to get there.
 */
static __always_inline bool find_mss(struct packet *pkt, __u32 end)
{
	struct facts *its = pkt->its;

	its->option = sizeof(struct tcphdr);
#pragma clang loop unroll(disable)
	for (int i = 0; i < TCP_OPTIONS_MAX; i++) {
		__u32 at = *(volatile __u16 *)&its->option;
		__u8 *option = header_at(pkt, its->l4 + at, TCP_OPTION_MSS_LENGTH), length;

		if (!option || at + TCP_OPTION_MSS_LENGTH > end)
			return false;
		length = option[1];
		switch (option[0]) {
		case TCP_OPTION_END:
			return false;
		case TCP_OPTION_MSS:
			return length == TCP_OPTION_MSS_LENGTH;
		case TCP_OPTION_NOTHING:
			length = 1;
			break;
		default:
			if (length < 2)
				return false;
		}
		its->option = at + length;
	}
	return false;
}

/* With the checksum, of which a word may begin at the option's second byte. */
static __always_inline void clamp_mss(struct packet *pkt, __u16 most)
{
	struct facts *its = pkt->its;
	struct tcphdr *tcp = header_at(pkt, its->l4, sizeof(*tcp));
	__u16 old, new = bpf_htons(most);
	__u8 *option;

	if (!tcp || !find_mss(pkt, tcp->doff * 4))
		return;
	option = header_at(pkt, its->l4 + its->option, TCP_OPTION_MSS_LENGTH);
	if (!option)
		return;
	old = bpf_htons((option[2] << 8) | option[3]);
	if (bpf_ntohs(old) <= most)
		return;
	option[2] = most >> 8;
	option[3] = most;
	if (its->option % 2) {
		old = __builtin_bswap16(old);
		new = __builtin_bswap16(new);
	}
	tcp->check = checksum_apply(tcp->check, checksum_delta(old, new));
}

/* How large a segment may be on its way, 0: as large as it likes. */
static __always_inline __u32 most_of(struct packet *pkt, struct endpoint *endpoint)
{
	__u32 overhead = overhead_of(pkt->its, endpoint), most = endpoint->mss, room;
	struct hop *hop;

	if (!overhead)
		return most;
	hop = hop_to(pkt, endpoint);
	overhead += sizeof(struct tcphdr) +
		    (pkt->its->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
	if (!hop || hop->mtu <= overhead)
		return most;
	room = hop->mtu - overhead;
	return most && most < room ? most : room;
}

/* A packet about to be sent: when it is a SYN, may it promise too much? Then it is lowered first. */
static __always_inline int check_promise(struct packet *pkt, int verdict)
{
	struct facts *its = pkt->its;
	__u32 id = its->endpoint;
	struct endpoint *endpoint;

	if ((verdict != TO_CDN && verdict != TO_CLIENT) || !(its->flags & TCP_SYN) ||
	    its->ttl <= 1 || (its->mode & MODE_OBSERVE))
		return verdict;
	endpoint = endpoints.lookup(&id);
	if (!endpoint || endpoint->transport == TRANSPORT_PASS)
		return verdict;
	return endpoint->mss || endpoint->transport != TRANSPORT_NAT ? TO_CLAMPING : verdict;
}

static __always_inline int clamp(struct packet *pkt)
{
	struct facts *its = pkt->its;
	__u32 id = its->endpoint, most;
	struct endpoint *endpoint = endpoints.lookup(&id);

	if (!endpoint)
		return NO_CDN;
	most = most_of(pkt, endpoint);
	NOTE(NOTED_CLAMP, most, 0);
	if (most && most < 0xffff)
		clamp_mss(pkt, most);
	if (its->ours == LOCAL_VIP)
		return TO_CDN;
	pkt->slot = reverse.lookup(&its->slot_index);
	return TO_CLIENT;
}
