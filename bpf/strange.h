/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What no client sends that means well, whatever the level: asked of the first packet of a flow. */
#pragma once

#define WELL_KNOWN_PORTS 1024

/*
 * Reserved for other things than being somebody on the internet (RFC 6890): private, shared between
 * carrier and customer, of the link, for documents and for benchmarks; of IPv6 all that is not global unicast,
 * what is for documents (RFC 3849, 9637), and Teredo and 6to4, which nobody has any more (RFC 7526).
 */
static __always_inline bool is_reserved(const struct address *a)
{
	__u32 ip = bpf_ntohl(a->word[3]), first = bpf_ntohl(a->word[0]);

	if (!is_ipv4(a))
		return (first >> 29 != 1) | (first == 0x20010db8) | (first == 0x20010000) |
		       (first >> 16 == 0x2002) | (first >> 12 == 0x3fff0);
	return (ip >> 24 == 10) | (ip >> 22 == 0x64400000 >> 22) | (ip >> 16 == 0xa9fe) |
	       (ip >> 20 == 0xac10 >> 4) | (ip >> 8 == 0xc00000) | (ip >> 8 == 0xc00002) |
	       (ip >> 16 == 0xc0a8) | (ip >> 17 == 0xc6120000 >> 17) | (ip >> 8 == 0xc63364) |
	       (ip >> 8 == 0xcb0071);
}

/* Did it come by a link that only the internet is behind? */
static __always_inline bool comes_from_outside(struct packet *pkt, const struct shield *shield)
{
	struct link_key key = {.ifindex = pkt->ctx->ingress_ifindex,
			       .outer = pkt->its->outer,
			       .inner = pkt->its->inner};
	__u32 *link;

	if (!shield->outside)
		return false;
	link = link_ids.lookup(&key);
	return link && *link < MAX_LINKS && ((shield->outside >> *link) & 1);
}

/* A source that cannot be, so that nothing may be sent to it: the verdict, or GO_ON. */
static __always_inline int check_source(struct packet *pkt, const struct shield *shield)
{
	struct facts *its = pkt->its;

	if (same_address(&its->source, &its->target))
		return LAND;
	if (!is_one_host(&its->source))
		return SPOOFED;
	if (!(its->mode & MODE_DISARMED) && comes_from_outside(pkt, shield) &&
	    is_reserved(&its->source))
		return BOGON;
	return GO_ON;
}

/* What comes in by a link is not from us. */
static __always_inline bool is_our_own(const struct address *source)
{
	struct address key = *source;

	return local_addresses.lookup(&key) != 0;
}

/*
 * Is it an answer to a question that somebody else has asked in our name? Clients' own ports are above the
 * well-known ones; from a higher one a client behind a carrier's NAT may send by chance, so those only count
 * when there is an attack. Who asks a service from its own port may be another such server.
 */
static __always_inline bool is_reflected(struct packet *pkt, const struct shield *shield)
{
	__u32 port = bpf_ntohs(pkt->its->source_port), word = port / 64;
	__u64 *ports = amplifiers.lookup(&word);

	if (!ports || !((*ports >> (port % 64)) & 1) ||
	    pkt->its->source_port == pkt->its->target_port)
		return false;
	return port < WELL_KNOWN_PORTS || shield->level > LEVEL_CALM;
}

/*
 * An Initial in a datagram of less than 1200 bytes: every server drops it (RFC 9000, 14.1), or its answer would
 * be larger than the question.
 */
static __always_inline bool is_short_initial(struct packet *pkt)
{
	struct long_header *header;

	if (pkt->its->payload >= QUIC_FIRST_MIN)
		return false;
	header = read_long_header(pkt);
	return header &&
	       (header->first & QUIC_TYPE) ==
		       (version_of(header) == QUIC_V1 ? QUIC_INITIAL_V1 : QUIC_INITIAL_V2);
}

/* The same of who wants an answer of ours, to what begins no flow: junk is not reflected to others. */
static __always_inline int check_sender(struct packet *pkt)
{
	struct shield *shield = shield_now();
	int verdict = shield ? check_source(pkt, shield) : GO_ON;

	if (verdict != GO_ON)
		return verdict;
	return is_our_own(&pkt->its->source) ? SPOOFED : GO_ON;
}

/* The first packet of a flow: the verdict of what is strange about it, or GO_ON. */
static __always_inline int screen(struct packet *pkt)
{
	struct shield *shield = shield_now();
	struct facts *its = pkt->its;
	int verdict;

	if (!shield)
		return GO_ON;
	verdict = check_sender(pkt);
	if (verdict != GO_ON)
		return verdict;
	if (its->mode & MODE_DISARMED)
		return GO_ON;
	if (its->protocol == IPPROTO_TCP)
		return shield->syn_data && its->payload ? SYN_WITH_DATA : GO_ON;
	if (is_reflected(pkt, shield))
		return REFLECTED;
	return is_short_initial(pkt) ? SHORT_INITIAL : GO_ON;
}
