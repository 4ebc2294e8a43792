/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Which endpoint is best for this new flow now. */
#pragma once

/*
 * A slot whose endpoint is out re-hashes, so that its load spreads by weight over all the others
 * and not onto one neighbour. At most half the weight is ever out: after 12 tries one flow in 4,096
 * is still unplaced, and takes a suspect if it met one, else its first pick as if nothing were known
 * (so does every flow of a service whose endpoints are all out: a bad CDN is better than none).
 */
#define REHASHES 12
#define NOWHERE 0xffff
/* A second pick must be better by a quarter and a millisecond, so that weights mean something. */
#define BAND_US 1000

static __always_inline __u32 endpoint_at(struct pick_table *table, __u32 hash)
{
	__u32 slot = ((__u64)hash * PICK_SLOTS) >> 32;

	return table->endpoint[slot & (PICK_ROOM - 1)];
}

/* A 64-bit finalizer (the constants are of Stafford's variant 13): every bit in changes half of those out. */
static __always_inline __u32 mix(__u64 word)
{
	word ^= word >> 30;
	word *= 0xbf58476d1ce4e5b9ULL;
	word ^= word >> 27;
	word *= 0x94d049bb133111ebULL;
	return word >> 32;
}

static __always_inline __u32 flow_hash(struct packet *pkt, __u32 seed)
{
	__u64 ends =
		((__u64)pkt->target << 32) | ((__u32)pkt->target_port << 16) | pkt->source_port;

	return mix(ends ^ (((__u64)mix(((__u64)seed << 32) | pkt->source)) << 16));
}

static __always_inline __u32 cdn_of(__u32 id)
{
	struct endpoint *endpoint = endpoints.lookup(&id);

	return endpoint ? endpoint->cdn : NO_CDN_ID;
}

/* One try: true when it ends the pick. */
static __always_inline bool try_pick(struct packet *pkt, struct pick_table *table,
				     volatile struct pick *pick, bool by_latency, bool rescue)
{
	__u32 id = endpoint_at(table, pick->hash), cost;
	struct health *h = health_of(id);
	enum fitness fit;

	pick->hash = mix(((__u64)pick->hash << 32) | id);
	if (!h || (pick->except != NO_CDN_ID && cdn_of(id) == pick->except))
		return false;
	fit = fitness(pkt, pick, id, h, by_latency, !rescue);
	if (fit == UNFIT) {
		if (!pick->suspected && pick->first == NOWHERE && h->state == BREAKER_IN &&
		    pick->darkened != id) {
			pick->endpoint = id;
			pick->suspected = 1;
		}
		return false;
	}
	cost = cost_us(pkt, h);
	if (fit == FIT_FOR_PROBE || !by_latency || rescue) {
		pick->endpoint = id;
		pick->probe = fit == FIT_FOR_PROBE;
		return true;
	}
	if (pick->first == NOWHERE) {
		pick->endpoint = id; /* unless a better one is found */
		pick->first = id;
		pick->first_cost_us = cost;
		pick->except = cdn_of(id);
		return false;
	}
	if (pick->first_cost_us > cost + cost / 4 + BAND_US)
		pick->endpoint = id;
	return true;
}

/*
 * Weighted: what the Maglev table says (Eisenbud et al., NSDI 2016). Latency: of two picks the one
 * with the clearly lower cost (power of two choices; Mitzenmacher, 2001). One loop serves both, and
 * the re-hashing, to keep the program small. `except` is the CDN that a flow is rescued from.
 */
static __always_inline volatile struct pick *
pick_endpoint(struct packet *pkt, struct service *service, __u32 bank, __u32 except)
{
	bool by_latency = service->policy == POLICY_LATENCY && !(pkt->mode & MODE_DISARMED);
	struct pick_table *table = picks.lookup(&bank);
	__u32 zero = 0;
	struct cpu_state *cpu = cpu_states.lookup(&zero);
	volatile struct pick *pick;

	if (!table || !cpu)
		return 0;
	pick = &cpu->pick;
	pick->hash = flow_hash(pkt, pkt->set->seed);
	pick->except = except;
	pick->first = NOWHERE;
	pick->probe = 0;
	pick->darkened = NOWHERE;
	pick->suspected = 0;
	pick->endpoint = endpoint_at(table, pick->hash); /* when nothing better is found */
#pragma clang loop unroll(disable)
	for (int i = 0; i < REHASHES; i++)
		if (try_pick(pkt, table, pick, by_latency, except != NO_CDN_ID))
			break;
	return pick;
}
