/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Translate a packet and send it on: checksums by deltas (RFC 1624), TTL, next hop, VLAN, interface. */
#pragma once

#define HOP_LIFETIME_NS 1000000000ULL
#define TOLD_EVERY_NS 10000000000ULL
#define AF_INET 2
#define AF_INET6 10

/* Addresses and TTL; false when the header is not there, which parse() has seen to. */
static __always_inline bool translate_network(struct packet *pkt)
{
	struct facts *its = pkt->its;

	if (its->family == 4) {
		struct iphdr *ip = header_at(pkt, its->l3, sizeof(*ip));

		if (!ip)
			return false;
		ip->saddr = its->out.source.word[3];
		ip->daddr = its->out.target.word[3];
		ip->ttl--;
		/* the TTL is the high byte of its word: minus one there is 0xfeff in one's complement */
		ip->check = checksum_apply(ip->check, (__u32)its->out.ip_delta + bpf_htons(0xfeff));
	} else {
		struct ipv6hdr *ip = header_at(pkt, its->l3, sizeof(*ip));

		if (!ip)
			return false;
		__builtin_memcpy(&ip->saddr, &its->out.source, sizeof(ip->saddr));
		__builtin_memcpy(&ip->daddr, &its->out.target, sizeof(ip->daddr));
		ip->hop_limit--;
	}
	return true;
}

static __always_inline bool translate_transport(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct tcphdr *tcp;
	struct udphdr *udp;

	if (!its->out.source_port)
		return true; /* no ports: a later fragment, or an ICMP error, which is seen to */
	if (its->protocol == IPPROTO_TCP) {
		tcp = header_at(pkt, its->l4, sizeof(*tcp));
		if (!tcp)
			return false;
		tcp->source = its->out.source_port;
		tcp->dest = its->out.target_port;
		tcp->check = checksum_apply(tcp->check, its->out.l4_delta);
		return true;
	}
	udp = header_at(pkt, its->l4, sizeof(*udp));
	if (!udp)
		return false;
	udp->source = its->out.source_port;
	udp->dest = its->out.target_port;
	/* none stays none, and one that comes out as none is its other zero (RFC 768) */
	if (udp->check)
		udp->check = checksum_apply(udp->check, its->out.l4_delta) ?: 0xffff;
	return true;
}

static __always_inline __u16 eth_type(struct packet *pkt)
{
	return pkt->its->family == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
}

static __always_inline bool write_ethernet(struct packet *pkt, const __u8 *self, const __u8 *next,
					   __u16 type)
{
	struct ethhdr *eth = header_at(pkt, 0, sizeof(*eth));

	if (!eth)
		return false;
	__builtin_memcpy(eth->h_source, self, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, next, ETH_ALEN);
	eth->h_proto = type;
	return true;
}

/*
 * Address the frame to `next`, out of `link`, with `grow` bytes of room between Ethernet and the network
 * header: the tags that the link wants, whatever tags the packet came with.
 */
static __always_inline bool address_frame(struct packet *pkt, const struct link *link,
					  const __u8 *self, const __u8 *next, int grow)
{
	struct facts *its = pkt->its;
	int header = sizeof(struct ethhdr) + (link->outer ? 4 : 0) + (link->inner ? 4 : 0);
	__u16 type = eth_type(pkt);
	struct vlan_header *tag;
	int excess = (int)its->l3 - header - grow;

	if (excess) {
		if (bpf_xdp_adjust_head(pkt->ctx, excess))
			return false;
		its->l3 -= excess;
		its->l4 -= excess;
	}
	if (!link->outer)
		return write_ethernet(pkt, self, next, type);
	tag = header_at(pkt, sizeof(struct ethhdr), sizeof(*tag));
	if (!write_ethernet(pkt, self, next, link->tpid))
		return false;
	if (!tag)
		return false;
	tag->tci = bpf_htons(link->outer);
	tag->type = type;
	if (!link->inner)
		return true;
	tag->type = bpf_htons(ETH_P_8021Q);
	tag = header_at(pkt, sizeof(struct ethhdr) + sizeof(*tag), sizeof(*tag));
	if (!tag)
		return false;
	tag->tci = bpf_htons(link->inner);
	tag->type = type;
	return true;
}

static __always_inline int out_of(struct packet *pkt, __u32 ifindex)
{
	NOTE(NOTED_OUT, ifindex, 0);
	return ifindex == pkt->ctx->ingress_ifindex ? XDP_TX : bpf_redirect(ifindex, 0);
}

static __always_inline const struct address *snat_address(struct packet *pkt, __u8 index)
{
	return &pkt->set->snat[pkt->its->family == 6][index & (MAX_SNAT - 1)];
}

/* Ask the kernel's routing and neighbour tables for the way to an address. */
static __always_inline void route(struct packet *pkt, const struct address *from,
				  const struct address *to, struct hop *hop)
{
	struct bpf_fib_lookup fib = {};
	struct link_key key = {};
	__u32 *link;
	int answer;

	fib.l4_protocol = pkt->its->protocol;
	fib.ifindex = pkt->ctx->ingress_ifindex;
	if (is_ipv4(to)) {
		fib.family = AF_INET;
		fib.ipv4_src = from->word[3];
		fib.ipv4_dst = to->word[3];
	} else {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, from, sizeof(*from));
		__builtin_memcpy(fib.ipv6_dst, to, sizeof(*to));
	}
	answer = bpf_fib_lookup(pkt->ctx, &fib, sizeof(fib), 0);
	key.ifindex = fib.ifindex;
	link = link_ids.lookup(&key);
	hop->verdict = answer == BPF_FIB_LKUP_RET_NO_NEIGH  ? NO_NEIGHBOUR
		       : answer != BPF_FIB_LKUP_RET_SUCCESS ? NO_ROUTE
		       : link				    ? FORWARDED
							    : NO_LINK;
	hop->link = link ? *link : 0;
	hop->mtu = fib.mtu_result;
	__builtin_memcpy(hop->source, fib.smac, ETH_ALEN);
	__builtin_memcpy(hop->target, fib.dmac, ETH_ALEN);
}

/* Said once in a while for an endpoint, not for each packet. */
static __always_inline void tell_seldom(struct packet *pkt, __u32 kind, __u32 id, __u32 value)
{
	struct health *h = health.lookup(&id);
	__u64 now = coarse_now(pkt);

	if (!h || (h->told_ns && age_ns(now, h->told_ns) < TOLD_EVERY_NS))
		return;
	SET(h->told_ns, now);
	tell(pkt, kind, 0, id, 0, value, 0);
}

/* Which of our addresses the packet leaves with, as far as routes may depend on it. */
static __always_inline __u32 leaves_with(const struct facts *its)
{
	return is_direct(its) ? 0 : its->snat & (MAX_SNAT - 1);
}

/* The next hop as it was found last. */
static __always_inline struct hop *known_hop(struct packet *pkt)
{
	__u32 way = pkt->its->endpoint * MAX_SNAT + leaves_with(pkt->its);

	return hops.lookup(&way);
}

/* The next hop from one of our addresses towards an endpoint, asked for once a second and CPU. */
static __always_inline struct hop *hop_to(struct packet *pkt, const struct endpoint *to)
{
	__u32 id = pkt->its->endpoint, snat = leaves_with(pkt->its);
	struct hop *hop = known_hop(pkt);
	__u64 now = coarse_now(pkt);

	if (hop && (hop->verdict != FORWARDED || age_ns(now, hop->checked_ns) > HOP_LIFETIME_NS)) {
		hop = hop_to_ask(hop);
		if (!hop)
			return 0;
		route(pkt, snat_address(pkt, snat), &to->address, hop);
		hop->checked_ns = now;
		if (hop->verdict != FORWARDED)
			tell_seldom(pkt, EVENT_NO_HOP, id, hop->verdict);
	}
	if (hop)
		NOTE(NOTED_HOP, hop->link | (__u64)hop->mtu << 32,
		     hop->verdict | (__u32)(hop->checked_ns == now) << 8);
	return hop;
}

/* Does the packet fit? If not, its sender must hear of it (path MTU, RFC 1191 and 8201). */
static __always_inline bool fits(struct packet *pkt, __u32 mtu, __u32 overhead)
{
	if (!mtu || pkt->its->length + overhead <= mtu)
		return true;
	pkt->its->mtu = mtu - overhead;
	return false;
}

static __always_inline int send_to_cdn(struct packet *pkt, struct endpoint *to)
{
	struct facts *its = pkt->its;
	struct hop *hop = hop_to(pkt, to);
	__u32 overhead = overhead_of(its, to), id;
	bool nat = !is_direct(its);
	struct link *link;

	if (!hop)
		return NO_ROUTE;
	if (hop->verdict != FORWARDED)
		return hop->verdict;
	id = hop->link;
	link = links.lookup(&id);
	if (!link || !link->ifindex) /* it was, but is no more */
		return NO_LINK;
	if (!fits(pkt, hop->mtu, overhead))
		return ANSWER_TOO_BIG;
	if (its->mode & MODE_OBSERVE)
		return FORWARDED;
	if (nat) {
		if (!translate_network(pkt) || !translate_transport(pkt))
			return MALFORMED;
	} else if (!count_hop(pkt)) {
		return MALFORMED;
	}
	if (!address_frame(pkt, link, hop->source, hop->target, overhead))
		return NO_ROOM;
	if (!nat && !encapsulate(pkt, to))
		return NO_ROOM;
	pkt->action = out_of(pkt, link->ifindex);
	return FORWARDED;
}

/* Back the way the client's frames come. */
static __always_inline int send_to_client(struct packet *pkt, struct slot *slot)
{
	__u32 id = slot->link;
	struct link *link = links.lookup(&id);

	if (!link || !link->ifindex)
		return NO_LINK;
	if (!fits(pkt, link->mtu, 0))
		return ANSWER_TOO_BIG;
	if (pkt->its->mode & MODE_OBSERVE)
		return REPLIED;
	if (!translate_network(pkt) || !translate_transport(pkt))
		return MALFORMED;
	if (!address_frame(pkt, link, link->mac, slot->router, 0))
		return NO_ROOM;
	pkt->action = out_of(pkt, link->ifindex);
	return REPLIED;
}

static __always_inline int send(struct packet *pkt, int verdict)
{
	struct facts *its = pkt->its;
	__u32 endpoint = its->endpoint;

	if (verdict == TO_CDN) {
		struct endpoint *to = pkt->endpoint;

		if (!to)
			to = endpoints.lookup(&endpoint);
		if (!to)
			return NO_CDN;
		if (is_direct(its) && to->transport == TRANSPORT_PASS)
			return HANDED;
		if (is_direct(its) && to->transport == TRANSPORT_NAT)
			return UNKNOWN_FLOW;
		return its->ttl <= 1 ? ANSWER_TOO_LATE : send_to_cdn(pkt, to);
	}
	if (its->ttl <= 1)
		return ANSWER_TOO_LATE;
	return pkt->slot ? send_to_client(pkt, pkt->slot) : NO_OWNER;
}

/* In a stage of its own: the slot is found again by its number. */
static __always_inline int send_onward(struct packet *pkt)
{
	int verdict = pkt->its->onward == TO_CDN ? TO_CDN : TO_CLIENT;

	if (verdict == TO_CLIENT)
		pkt->slot = reverse.lookup(&pkt->its->slot_index);
	return send(pkt, verdict);
}
