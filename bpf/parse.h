/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* How a packet is read from the frame: only as far as its verdict needs. */
#pragma once

#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET_MASK 0x1fff
#define IP6_MORE_FRAGMENTS 1
#define IP6_OFFSET_MASK 0xfff8
#define EXTENSION_HEADERS_MAX 6
#define VLAN_ID_MASK 0x0fff
#define PLAIN_FRAME_MAX 1522 /* with two tags; each buffer has room for one */
#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_DESTINATION 60
#define ROUTING_SEGMENTS_LEFT 0x00ff

struct vlan_header {
	__be16 tci;
	__be16 type;
};

struct extension_header {
	__u8 next;
	__u8 length;
	__be16 fragment; /* of a fragment header: offset and flags; of routing: type and segments left */
	__be32 id;
};

/* Take up a packet that another stage has begun on. */
static __always_inline bool resume(struct xdp_md *ctx, struct packet *pkt)
{
	struct cpu_state *cpu = this_cpu();
	__u32 zero = 0;

	pkt->ctx = ctx;
	pkt->set = settings.lookup(&zero);
	if (!cpu || !pkt->set)
		return false;
	pkt->its = &cpu->facts;
	return true;
}

/* Ethernet, behind up to two VLAN tags: the type of what follows. */
static __always_inline __u16 parse_ethernet(struct packet *pkt)
{
	struct ethhdr *eth = header_at(pkt, 0, sizeof(*eth));
	struct facts *its = pkt->its;
	struct vlan_header *tag;
	__u16 type;

	if (!eth)
		return 0;
	type = eth->h_proto;
	its->l3 = sizeof(*eth);
	its->outer = 0;
	its->inner = 0;
	if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
		return type;
	tag = header_at(pkt, sizeof(*eth), sizeof(*tag));
	if (!tag)
		return 0;
	its->outer = bpf_ntohs(tag->tci) & VLAN_ID_MASK;
	its->l3 += sizeof(*tag);
	type = tag->type;
	if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
		return type;
	tag = header_at(pkt, sizeof(*eth) + sizeof(*tag), sizeof(*tag));
	if (!tag)
		return 0;
	its->inner = bpf_ntohs(tag->tci) & VLAN_ID_MASK;
	its->l3 += sizeof(*tag);
	return tag->type;
}

/*
 * How long is the frame? Of one in several buffers the first is large, or the packet says that it is longer
 * (drivers that split headers off): nobody else pays for asking.
 */
static __always_inline void measure(struct packet *pkt, __u32 end)
{
	struct facts *its = pkt->its;

	if (end > its->bytes || its->bytes > PLAIN_FRAME_MAX)
		its->bytes = bpf_xdp_get_buff_len(pkt->ctx);
}

static __always_inline bool parse_addresses(struct packet *pkt, __u16 type)
{
	struct facts *its = pkt->its;

	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = header_at(pkt, its->l3, sizeof(*ip));

		if (!ip)
			return false;
		its->family = 4;
		its->protocol = ip->protocol;
		measure(pkt, its->l3 + bpf_ntohs(ip->tot_len));
		map_ipv4(&its->source, ip->saddr);
		map_ipv4(&its->target, ip->daddr);
		return true;
	}
	if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = header_at(pkt, its->l3, sizeof(*ip));

		if (!ip)
			return false;
		its->family = 6;
		its->protocol = ip->nexthdr;
		measure(pkt, its->l3 + sizeof(*ip) + bpf_ntohs(ip->payload_len));
		__builtin_memcpy(&its->source, &ip->saddr, sizeof(its->source));
		__builtin_memcpy(&its->target, &ip->daddr, sizeof(its->target));
		/* no mapped address belongs on a wire (RFC 4038, 4.2): it would be taken for IPv4 */
		return !is_ipv4(&its->source) && !is_ipv4(&its->target);
	}
	return false;
}

/* cdnctl/datapath/local.py puts addresses into cells by the same hash (Knuth's, of all words). */
static __always_inline __u32 local_cell_of(const struct address *a)
{
	return ((a->word[0] ^ a->word[1] ^ a->word[2] ^ a->word[3]) * 0x9e3779b1u) >>
	       (32 - LOCAL_CELLS_LOG);
}

/* What the destination's cell says of it: an enum local_kind, 0 when it is not ours; and which it is. */
static __always_inline __u8 local_in_cell(struct facts *its)
{
	__u32 number = local_cell_of(&its->target);
	struct local_cell *cell = local_cells.lookup(&number);
	__u8 kind = cell ? *(volatile __u8 *)&cell->kind : 0;

	if (!cell || !kind || kind == LOCAL_CROWDED)
		return kind;
	its->index = cell->index;
	return same_address(&cell->address, &its->target) ? kind : 0;
}

/* Is the destination ours, and which address is it? */
static __always_inline void find_local(struct facts *its)
{
	struct local *local;

	its->ours = local_in_cell(its);
	if (its->ours != LOCAL_CROWDED)
		return;
	local = local_addresses.lookup(&its->target);
	its->ours = local ? local->kind : 0;
	its->index = local ? local->index : 0;
}

/*
 * Addresses, and whether the destination is ours. Whatever is neither IPv4 nor IPv6, or too short for
 * its addresses, passes untouched: the stack knows what to do with it.
 */
static __always_inline int parse(struct xdp_md *ctx, struct packet *pkt)
{
	__u32 zero = 0, *mode_now = mode.lookup(&zero);
	struct facts *its;

	if (!resume(ctx, pkt) || !mode_now)
		return PASSED;
	its = pkt->its;
	its->bytes = ctx->data_end - ctx->data;
	measure(pkt, 0);
	its->now = 0;
	its->cdn = NO_CDN_ID;
	its->ours = 0;
	its->belongs = TO_NOBODY_OF_OURS;
	its->customer = 0;
	its->fragment = 0;
	its->source_port = 0;
	its->target_port = 0;
	its->protocol = 0;
	its->flags = 0;
	its->family = 0;
	its->happened = 0;
	its->mode = *mode_now;
	its->policy = *(volatile const __u32 *)&pkt->set->generation;
	NOTE(NOTED_MODE, its->mode, its->policy);
	if (its->mode & MODE_BYPASS)
		return BYPASSED;
	if (!parse_addresses(pkt, parse_ethernet(pkt))) {
		/* nobody's, or it would be told of whose packet came before */
		__builtin_memset(&its->source, 0, sizeof(its->source));
		__builtin_memset(&its->target, 0, sizeof(its->target));
		return PASSED;
	}
	its->client = its->source;
	find_local(its);
	NOTE(NOTED_LOCAL, its->ours, its->index);
	return GO_ON;
}

static __always_inline int parse_ipv4(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct iphdr *ip = header_at(pkt, its->l3, sizeof(*ip));
	__u32 header, total;
	__u16 fragment;

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return MALFORMED;
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	if (total < header || total + its->l3 > its->bytes)
		return MALFORMED;
	its->length = total;
	its->protocol = ip->protocol;
	its->ttl = ip->ttl;
	its->dscp = ip->tos >> 2;
	its->l4 = its->l3 + header;
	its->payload = total - header;
	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & (IP_MORE_FRAGMENTS | IP_OFFSET_MASK)) {
		its->fragment = fragment & IP_OFFSET_MASK ? 2 : 1;
		its->fragment_id = ip->id;
	}
	return GO_ON;
}

static __always_inline bool is_extension(__u32 protocol)
{
	return protocol == NEXT_HOP_BY_HOP || protocol == NEXT_ROUTING ||
	       protocol == NEXT_DESTINATION || protocol == NEXT_FRAGMENT;
}

/* Extension headers are walked as far as EXTENSION_HEADERS_MAX of them. */
static __always_inline int parse_ipv6(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct ipv6hdr *ip = header_at(pkt, its->l3, sizeof(*ip));
	struct extension_header *extension;
	__u32 length, total;

	if (!ip || ip->version != 6)
		return MALFORMED;
	total = bpf_ntohs(ip->payload_len);
	if (total + sizeof(*ip) + its->l3 > its->bytes)
		return MALFORMED;
	its->length = total + sizeof(*ip);
	its->protocol = ip->nexthdr;
	its->ttl = ip->hop_limit;
	its->dscp = (ip->priority << 2) | (ip->flow_lbl[0] >> 6);
	its->l4 = its->l3 + sizeof(*ip);
	its->payload = total;
#pragma clang loop unroll(disable)
	for (int i = 0; i < EXTENSION_HEADERS_MAX; i++) {
		if (!is_extension(its->protocol))
			return GO_ON;
		extension = header_at(pkt, its->l4, sizeof(*extension));
		if (!extension)
			return MALFORMED;
		length = sizeof(*extension);
		if (its->protocol == NEXT_FRAGMENT) {
			__u16 fragment = bpf_ntohs(extension->fragment);

			/* offset 0 and no more to come: an atomic fragment is a whole packet (RFC 6946) */
			if (fragment & (IP6_MORE_FRAGMENTS | IP6_OFFSET_MASK))
				its->fragment = fragment & IP6_OFFSET_MASK ? 2 : 1;
			its->fragment_id = extension->id;
		} else {
			if (its->protocol == NEXT_ROUTING &&
			    (extension->fragment & bpf_htons(ROUTING_SEGMENTS_LEFT)))
				return UNSUPPORTED; /* to be sent on by its own list (RFC 8200, 4.4) */
			length += extension->length * 8;
		}
		if (length > its->payload || its->l4 + length > HEADERS_MAX - 60)
			return MALFORMED;
		its->protocol = extension->next;
		its->l4 += length;
		its->payload -= length;
		if (its->fragment == 2)
			return GO_ON;
	}
	return is_extension(its->protocol) ? UNSUPPORTED : GO_ON;
}

/* The network header of a packet for one of our addresses: what it carries, and where that begins. */
static __always_inline int parse_network(struct packet *pkt)
{
	return pkt->its->family == 4 ? parse_ipv4(pkt) : parse_ipv6(pkt);
}

static __always_inline int parse_tcp(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct tcphdr *tcp = header_at(pkt, its->l4, sizeof(*tcp));
	__u32 header;

	if (!tcp)
		return MALFORMED;
	its->source_port = tcp->source;
	its->target_port = tcp->dest;
	header = tcp->doff * 4;
	/* of a first fragment, too: a header in two pieces is somebody's trick (RFC 1858) */
	if (header < sizeof(*tcp) || header > its->payload)
		return MALFORMED;
	its->sequence = tcp->seq;
	its->acknowledged = tcp->ack_seq;
	its->payload -= header;
	its->flags = ((__u8 *)tcp)[TCP_FLAGS_OFFSET];
	/* a SYN may carry ACK, ECE and CWR; with FIN or RST it is nobody's */
	if ((its->flags & TCP_SYN) && (its->flags & (TCP_FIN | TCP_RST)))
		return IMPOSSIBLE;
	if (!(its->flags & (TCP_SYN | TCP_ACK | TCP_RST)))
		return IMPOSSIBLE;
	return GO_ON;
}

static __always_inline int parse_udp(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct udphdr *udp = header_at(pkt, its->l4, sizeof(*udp));
	__u32 length;

	if (!udp)
		return MALFORMED;
	its->source_port = udp->source;
	its->target_port = udp->dest;
	length = bpf_ntohs(udp->len);
	if (its->payload < sizeof(*udp) || length < sizeof(*udp) ||
	    (length > its->payload && !its->fragment))
		return MALFORMED;
	if (its->family == 6 && !udp->check)
		return NO_CHECKSUM; /* RFC 8200, 8.1 */
	its->payload -= sizeof(*udp);
	its->sequence = 0;
	its->acknowledged = 0;
	return GO_ON;
}

/* Ports, first of all, as some are the host's; and of TCP what else decides. */
static __always_inline int parse_transport(struct packet *pkt)
{
	struct facts *its = pkt->its;
	int verdict = its->protocol == IPPROTO_TCP ? parse_tcp(pkt) : parse_udp(pkt);

	if (verdict != GO_ON)
		return verdict;
	return its->source_port && its->target_port ? GO_ON : MALFORMED;
}
