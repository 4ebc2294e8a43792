/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * ICMP and ICMPv6. An error is about a packet that we have translated, and quotes how that begins: whoever
 * sent it must find his own addresses and ports in there, so the quote is translated back, and the error
 * goes where the packet came from (RFC 5508, 4). Pings of a VIP are answered; what can only be meant for
 * the host, which SNAT addresses belong to as well, is left to it.
 */
#pragma once

#define ICMP4_UNREACHABLE 3
#define ICMP4_TOO_BIG_CODE 4
#define ICMP4_ECHO 8
#define ICMP4_TIME_EXCEEDED 11
#define ICMP4_PARAMETER 12
#define ICMP6_UNREACHABLE 1
#define ICMP6_PARAMETER 4
#define ICMP6_ECHO 128
#define ICMP6_LISTENERS 130 /* MLD (RFC 2710) and, next to it, neighbour discovery (RFC 4861) */
#define ICMP6_REDIRECT 137
#define ICMP6_LISTENERS_2 143 /* MLDv2 (RFC 3810) */
/* A quote has at least so much of what its network header carries (RFC 792). */
#define QUOTED_MIN 8
#define TCP_CHECK_AT 16
#define UDP_CHECK_AT 6

struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 check;
	__be32 rest;
};

enum icmp_kind {
	ICMP_OTHER = 0,
	ICMP_ERROR,
	ICMP_PING,
	ICMP_LINK, /* between neighbours */
};

static __always_inline enum icmp_kind icmp_kind(__u8 family, __u8 type)
{
	if (family == 4) {
		if (type == ICMP4_ECHO)
			return ICMP_PING;
		return type == ICMP4_UNREACHABLE || type == ICMP4_TIME_EXCEEDED ||
				       type == ICMP4_PARAMETER
			       ? ICMP_ERROR
			       : ICMP_OTHER;
	}
	if (type == ICMP6_ECHO)
		return ICMP_PING;
	if (type >= ICMP6_UNREACHABLE && type <= ICMP6_PARAMETER)
		return ICMP_ERROR;
	return (type >= ICMP6_LISTENERS && type <= ICMP6_REDIRECT) || type == ICMP6_LISTENERS_2
		       ? ICMP_LINK
		       : ICMP_OTHER;
}

/* -- what is quoted -- */

/* The transport header behind an IPv4 header at `at`, or 0. */
static __always_inline __u32 read_quoted_ipv4(struct packet *pkt, __u32 at, struct quote *quote)
{
	struct iphdr *ip = header_at(pkt, at, sizeof(*ip));

	if (!ip || ip->version != 4 || ip->ihl < 5 || (ip->frag_off & bpf_htons(IP_OFFSET_MASK)))
		return 0;
	map_ipv4(&quote->source, ip->saddr);
	map_ipv4(&quote->target, ip->daddr);
	quote->protocol = ip->protocol;
	return at + ip->ihl * 4;
}

static __always_inline __u32 read_quoted_ipv6(struct packet *pkt, __u32 at, struct quote *quote)
{
	struct ipv6hdr *ip = header_at(pkt, at, sizeof(*ip));
	struct extension_header *extension;

	if (!ip || ip->version != 6)
		return 0;
	__builtin_memcpy(&quote->source, &ip->saddr, sizeof(quote->source));
	__builtin_memcpy(&quote->target, &ip->daddr, sizeof(quote->target));
	quote->protocol = ip->nexthdr;
	at += sizeof(*ip);
#pragma clang loop unroll(disable)
	for (int i = 0; i < EXTENSION_HEADERS_MAX; i++) {
		if (!is_extension(quote->protocol))
			return at;
		extension = header_at(pkt, at, sizeof(*extension));
		if (!extension)
			return 0;
		if (quote->protocol != NEXT_FRAGMENT)
			at += extension->length * 8;
		else if (extension->fragment & bpf_htons(IP6_OFFSET_MASK))
			return 0;
		at += sizeof(*extension);
		quote->protocol = extension->next;
	}
	return is_extension(quote->protocol) ? 0 : at;
}

/* False when there is not enough of it to tell whose it was. */
static __always_inline bool read_quote(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct quote *quote = &its->quote;
	__u32 at = its->l4 + sizeof(struct icmp_header), end = its->l4 + its->payload;
	__be16 *ports;

	quote->l3 = at;
	at = its->family == 4 ? read_quoted_ipv4(pkt, at, quote) : read_quoted_ipv6(pkt, at, quote);
	if (!at || at + QUOTED_MIN > end || at > HEADERS_MAX - 60)
		return false;
	if (quote->protocol != IPPROTO_TCP && quote->protocol != IPPROTO_UDP)
		return false;
	ports = header_at(pkt, at, QUOTED_MIN);
	if (!ports)
		return false;
	quote->source_port = ports[0];
	quote->target_port = ports[1];
	quote->l4 = at;
	return true;
}

/* -- translating it back -- */

/* The checksum of what is quoted; most quotes of TCP end before it. */
static __always_inline bool translate_quoted_check(struct packet *pkt, __u32 *changed)
{
	struct facts *its = pkt->its;
	bool udp = its->quote.protocol == IPPROTO_UDP;
	__u32 at = its->quote.l4 + (udp ? UDP_CHECK_AT : TCP_CHECK_AT);
	__u16 *check, old;

	if (at + sizeof(*check) > its->l4 + its->payload)
		return true;
	check = header_at(pkt, at, sizeof(*check));
	if (!check)
		return false;
	old = *check;
	if (udp && !old)
		return true;
	*check = checksum_apply(old, its->out.l4_delta);
	if (udp && !*check)
		*check = 0xffff;
	*changed += change(old, *check);
	return true;
}

/*
 * The quote as its sender sent it: what goes out to `out` came from there. The same deltas hold, for
 * they do not care which address is the source. `changed` is by how much the sum over it all changes.
 */
static __always_inline bool translate_quote(struct packet *pkt, __u32 *changed)
{
	struct facts *its = pkt->its;
	__be16 *ports;

	if (its->family == 4) {
		struct iphdr *ip = header_at(pkt, its->quote.l3, sizeof(*ip));
		__u16 old;

		if (!ip)
			return false;
		ip->saddr = its->out.target.word[3];
		ip->daddr = its->out.source.word[3];
		old = ip->check;
		ip->check = checksum_apply(old, its->out.ip_delta);
		*changed += change(old, ip->check);
	} else {
		struct ipv6hdr *ip = header_at(pkt, its->quote.l3, sizeof(*ip));

		if (!ip)
			return false;
		__builtin_memcpy(&ip->saddr, &its->out.target, sizeof(ip->saddr));
		__builtin_memcpy(&ip->daddr, &its->out.source, sizeof(ip->daddr));
	}
	ports = header_at(pkt, its->quote.l4, QUOTED_MIN);
	if (!ports)
		return false;
	ports[0] = its->out.target_port;
	ports[1] = its->out.source_port;
	*changed += its->out.l4_delta; /* addresses and ports */
	return translate_quoted_check(pkt, changed);
}

/* The error itself: to `out`, from `source`. */
static __always_inline int translate_error(struct packet *pkt, const struct address *source)
{
	struct facts *its = pkt->its;
	struct icmp_header *icmp;
	__u32 changed = 0;

	if (!translate_quote(pkt, &changed))
		return MALFORMED;
	its->out.source = *source;
	its->out.source_port = 0; /* it has no ports */
	its->out.ip_delta = checksum_delta(halves_of(&its->source) + halves_of(&its->target),
					   halves_of(source) + halves_of(&its->out.target));
	if (its->family == 6)
		changed += its->out.ip_delta; /* the sum is over the pseudo header, too */
	icmp = header_at(pkt, its->l4, sizeof(*icmp));
	if (!icmp)
		return MALFORMED;
	icmp->check = checksum_apply(icmp->check, fold(changed));
	return GO_ON;
}

/* -- whose it is -- */

/* Does it say that nothing gets there? Not when it says how large a packet may be. */
static __always_inline bool refuses(struct packet *pkt)
{
	struct icmp_header *icmp = header_at(pkt, pkt->its->l4, sizeof(*icmp));

	if (!icmp)
		return false;
	return pkt->its->family == 4
		       ? icmp->type == ICMP4_UNREACHABLE && icmp->code != ICMP4_TOO_BIG_CODE
		       : icmp->type == ICMP6_UNREACHABLE;
}

/*
 * About a packet of a client's that we sent on: back to the client, from the router that says so. A
 * CDN that says so itself is to the client the VIP.
 */
static __always_inline int about_forwarded(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct quote *quote = &its->quote;
	struct endpoint_key key = {
		.address = quote->target, .port = quote->target_port, .protocol = quote->protocol};
	bool itself = same_address(&its->source, &quote->target);
	int verdict;

	if (!same_address(&quote->source, &its->target))
		return PASSED; /* about nothing that left from here */
	if (find_reply(pkt, &key, quote->source_port) != GO_ON || !pkt->slot) {
		/* about something of the host's own: of what, door.h may ask */
		its->client = quote->target;
		its->source_port = quote->target_port;
		its->target_port = quote->source_port;
		return PASSED;
	}
	verdict = towards_client(pkt);
	if (verdict != TO_CLIENT)
		return verdict;
	if (pkt->slot->state == SLOT_TOMBSTONE)
		return STALE_REPLY; /* the client has been rescued from what this is about */
	if (refuses(pkt) && pkt->slot->state == SLOT_SYN_SENT && (pkt->slot->flags & FLOW_PROBE) &&
	    !(its->mode & MODE_DISARMED))
		return ABSORBED; /* it probed for us: its next SYN is rescued */
	if (its->mode & MODE_OBSERVE)
		return verdict;
	verdict = translate_error(pkt, itself ? &its->out.source : &its->source);
	return verdict == GO_ON ? TO_CLIENT : verdict;
}

/*
 * About a reply that went to a client: on to the CDN, from us, for only so would its network believe
 * it. Whoever replies directly gets it as it is, in the tunnel.
 */
static __always_inline int about_reply(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct quote *quote = &its->quote;
	int unrelated = its->mode & MODE_OBSERVE ? PASSED : UNRELATED, verdict;
	struct flow_key key = {};
	struct flow *flow;

	if (!same_address(&quote->source, &its->target))
		return unrelated;
	key.client = quote->target;
	key.client_port = quote->target_port;
	key.vip_port = quote->source_port;
	key.vip = its->index;
	key.protocol = quote->protocol;
	flow = under_way(&key);
	if (!flow)
		flow = half_open.lookup(&key);
	if (!flow)
		return unrelated;
	its->client = quote->target;
	its->source_port = quote->target_port; /* a tunnel's packets of one flow go one way */
	its->target_port = quote->source_port;
	verdict = towards_cdn(pkt, flow);
	if (verdict == TO_HANDSHAKE)
		return unrelated; /* of a flow that is over */
	if (verdict != TO_CDN || is_direct(its) || (its->mode & MODE_OBSERVE))
		return verdict;
	verdict = translate_error(pkt, &its->out.source);
	return verdict == GO_ON ? TO_CDN : verdict;
}

static __always_inline int handle_icmp(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct icmp_header *icmp = header_at(pkt, its->l4, sizeof(*icmp));
	bool vip = its->ours == LOCAL_VIP;

	if (its->fragment)
		return vip ? FRAGMENT : PASSED;
	if (!icmp || its->payload < sizeof(*icmp))
		return MALFORMED;
	switch (icmp_kind(its->family, icmp->type)) {
	case ICMP_PING:
		return vip ? ANSWER_ECHO : PASSED;
	case ICMP_LINK:
		return PASSED;
	case ICMP_OTHER:
		return vip ? UNSUPPORTED : PASSED;
	case ICMP_ERROR:
		break;
	}
	if (!read_quote(pkt))
		return !vip || (its->mode & MODE_OBSERVE) ? PASSED : UNRELATED;
	return vip ? about_reply(pkt) : about_forwarded(pkt);
}
