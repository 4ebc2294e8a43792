/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Packets for endpoints that take them in a tunnel and answer their clients directly: IP in IP
 * (RFC 2003, RFC 2473) or IP in UDP (GUE, variant 1: draft-ietf-intarea-gue). The packet inside is the
 * client's, untouched but for its TTL.
 */
#pragma once

#define TUNNEL_TTL 64
#define TUNNEL_FIRST_PORT 0xc000 /* outer source ports: by flow, so that routers spread them */

/* A flow keeps the way that it began, also when the mode of its CDN changes. */
static __always_inline bool is_direct(const struct facts *its)
{
	return its->slot_index == NO_SLOT;
}

static __always_inline __u32 overhead_of(const struct facts *its, const struct endpoint *to)
{
	__u32 ip = its->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);

	if (!is_direct(its))
		return 0;
	if (to->transport == TRANSPORT_IPIP)
		return ip;
	return to->transport == TRANSPORT_GUE ? ip + sizeof(struct udphdr) : 0;
}

/*
 * The outer header bears the DSCP and the ECN field of the packet inside, so that routers on the way serve it
 * as they would have, and mark congestion only where its ends will hear of it (RFC 6040, 4.1, normal mode).
 */
static __always_inline __u8 inner_tos(struct packet *pkt)
{
	struct iphdr *ip = header_at(pkt, pkt->its->l3, sizeof(*ip));

	return ip ? ip->tos : 0;
}

/* Of IPv6 the traffic class, where it stands in its first word. */
static __always_inline __be32 inner_class(struct packet *pkt)
{
	__be32 *first = header_at(pkt, pkt->its->l3, sizeof(*first));

	return first ? *first & bpf_htonl(0x0ff00000) : 0;
}

/* The packet inside has made a hop, too. */
static __always_inline bool count_hop(struct packet *pkt)
{
	struct facts *its = pkt->its;

	if (its->family == 4) {
		struct iphdr *ip = header_at(pkt, its->l3, sizeof(*ip));

		if (!ip)
			return false;
		ip->ttl--;
		ip->check = checksum_apply(ip->check, bpf_htons(0xfeff));
	} else {
		struct ipv6hdr *ip = header_at(pkt, its->l3, sizeof(*ip));

		if (!ip)
			return false;
		ip->hop_limit--;
	}
	return true;
}

static __always_inline __u16 tunnel_source_port(struct facts *its)
{
	__u32 ends = ((__u32)its->source_port << 16) | its->target_port;

	return bpf_htons(TUNNEL_FIRST_PORT |
			 (mix(((__u64)fold_address(&its->client) << 32) ^ ends) & 0x3fff));
}

static __always_inline bool encapsulate_ipv4(struct packet *pkt, const struct endpoint *to,
					     __u32 outer, __u32 length)
{
	bool gue = to->transport == TRANSPORT_GUE;
	struct iphdr *ip = header_at(pkt, outer, sizeof(*ip));
	__u8 tos = inner_tos(pkt);

	if (!ip)
		return false;
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = tos;
	ip->tot_len = bpf_htons(length);
	ip->frag_off = bpf_htons(0x4000); /* do not fragment: fits() has seen to it */
	ip->ttl = TUNNEL_TTL;
	ip->protocol = gue ? IPPROTO_UDP : IPPROTO_IPIP;
	ip->saddr = pkt->set->snat[0][0].word[3];
	ip->daddr = to->address.word[3];
	ip->check = ~fold(bpf_htons(0x4500 | tos) + ip->tot_len + ip->frag_off +
			  bpf_htons((TUNNEL_TTL << 8) | ip->protocol) + halves(ip->saddr) +
			  halves(ip->daddr));
	return true;
}

static __always_inline bool encapsulate_ipv6(struct packet *pkt, const struct endpoint *to,
					     __u32 outer, __u32 length)
{
	struct ipv6hdr *ip = header_at(pkt, outer, sizeof(*ip));
	__be32 class = inner_class(pkt);

	if (!ip)
		return false;
	__builtin_memset(ip, 0, sizeof(*ip));
	*(__be32 *)ip = bpf_htonl(6u << 28) | class;
	ip->payload_len = bpf_htons(length - sizeof(*ip));
	ip->nexthdr = to->transport == TRANSPORT_GUE ? IPPROTO_UDP : IPPROTO_IPV6;
	ip->hop_limit = TUNNEL_TTL;
	__builtin_memcpy(&ip->saddr, &pkt->set->snat[1][0], sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, &to->address, sizeof(ip->daddr));
	return true;
}

/*
 * UDP over IPv6 must have a checksum but for tunnels that know better (RFC 6935, 6936): what is inside
 * has its own, and summing up a whole packet is no work for here. Over IPv4 none is needed.
 */
static __always_inline bool encapsulate(struct packet *pkt, const struct endpoint *to)
{
	struct facts *its = pkt->its;
	__u32 overhead = overhead_of(its, to), outer = its->l3 - overhead;
	__u32 length = its->length + overhead;
	struct udphdr *udp;

	if (its->family == 4 ? !encapsulate_ipv4(pkt, to, outer, length)
			     : !encapsulate_ipv6(pkt, to, outer, length))
		return false;
	if (to->transport != TRANSPORT_GUE)
		return true;
	udp = header_at(pkt, its->l3 - sizeof(*udp), sizeof(*udp));
	if (!udp)
		return false;
	udp->source = tunnel_source_port(its);
	udp->dest = bpf_htons(to->tunnel_port);
	udp->len = bpf_htons(length - (overhead - sizeof(*udp)));
	udp->check = 0;
	return true;
}
