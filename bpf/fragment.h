/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Fragments. Only the first one has ports: it takes the way of any packet, and just before it is sent
 * that way is written down here. The others follow it by the name that all share: addresses and
 * identification (RFC 791, 3.2; RFC 8200, 4.5). The transport's checksum is over the whole datagram and
 * stands in the first one, where the same delta is right.
 */
#pragma once

#define FRAGMENT_NS 30000000000ULL /* receivers give up then (RFC 1122, 3.3.2: 60 s; Linux: 30) */

static __always_inline void fragment_key_of(struct packet *pkt, struct fragment_key *key)
{
	struct facts *its = pkt->its;

	key->source = its->source;
	key->target = its->target;
	key->id = its->fragment_id;
	/* of IPv6 each fragment says only what comes next, which need not be the same */
	key->protocol = its->family == 4 ? its->protocol : 0;
}

/* The first one is about to be sent: where to, and so for the rest. */
static __always_inline void note_way(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct fragment_key key = {};
	struct fragment way = {};

	fragment_key_of(pkt, &key);
	way.at_ns = coarse_now(pkt);
	way.source = its->out.source;
	way.target = its->out.target;
	way.slot = its->slot_index;
	way.source_port = its->source_port;
	way.target_port = its->target_port;
	way.customer = its->customer;
	way.endpoint = its->endpoint;
	way.cdn = its->cdn;
	way.snat = its->snat;
	if (WRITES)
		fragments.update(&key, &way);
}

/* A later one goes the way of the first. */
static __always_inline bool find_way(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct fragment_key key = {};
	struct fragment *way;

	fragment_key_of(pkt, &key);
	way = fragments.lookup(&key);
	if (!way || age_ns(coarse_now(pkt), way->at_ns) > FRAGMENT_NS)
		return false;
	its->out.source = way->source;
	its->out.target = way->target;
	its->out.source_port = 0;	     /* it has no ports, */
	its->source_port = way->source_port; /* but is of something that has */
	its->target_port = way->target_port;
	its->slot_index = way->slot;
	its->customer = way->customer;
	its->endpoint = way->endpoint;
	its->cdn = way->cdn;
	its->snat = way->snat;
	its->belongs = TO_ESTABLISHED;
	if (its->ours == LOCAL_SNAT) {
		its->belongs = TO_REPLY;
		its->client = way->target;
	}
	its->out.ip_delta = checksum_delta(halves_of(&its->source) + halves_of(&its->target),
					   halves_of(&way->source) + halves_of(&way->target));
	return true;
}

static __always_inline int follow_fragment(struct packet *pkt)
{
	struct facts *its = pkt->its;
	bool reply = its->ours == LOCAL_SNAT, later = its->fragment == 2;
	int verdict;

	if (ends_here(pkt))
		return reply && its->belongs != TO_REPLY ? PASSED : FRAGMENT;
	if (!later) {
		if (!(its->mode & MODE_OBSERVE))
			note_way(pkt);
		its->fragment = 0; /* from here on it is like any packet */
		return reply ? TO_CLIENT : TO_CDN;
	}
	if (!find_way(pkt))
		return reply || (its->mode & MODE_OBSERVE) ? PASSED : FRAGMENT;
	verdict = within_quota(pkt);
	if (verdict != GO_ON)
		return verdict;
	return reply ? TO_CLIENT : TO_CDN;
}
