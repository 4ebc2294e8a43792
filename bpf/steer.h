/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Which endpoint is best for this new flow now. */
#pragma once

/*
 * A slot whose endpoint is out re-hashes, so that its load spreads by weight over all the others
 * and not onto one neighbour. At most half the weight is ever out, but suspects come on top: with two thirds
 * avoided one flow in 17,000 is still unplaced after 24 tries (one in 130 after 12, which are enough for a
 * second pick). It takes a suspect if it met one, else its first pick as if nothing were known
 * (so does every flow of a service whose endpoints are all out: a bad CDN is better than none). Of suspects
 * the one that has failed the fewest probes: a stall of the edge's own makes one of every CDN for a moment,
 * and those that were well before it must not look like the one that was not.
 */
#define REHASHES 24
#define REHASHES_OF_TWO 12 /* when one has been found already */
#define ORDER_MAX 48 /* of failover; stages can be called about as often as is needed for so many */
#define TRIES_AT_ONCE 3
/* A second pick must be better by a quarter and a millisecond, so that weights mean something. */
#define BAND_US 1000
#define NOBODY 0xffffffff /* suspected, so far */

static __always_inline __u32 endpoint_at(struct pick_table *table, __u32 slot)
{
	return table->endpoint[slot & (PICK_ROOM - 1)];
}

static __always_inline __u32 slot_of(__u32 hash)
{
	return ((__u64)hash * PICK_SLOTS) >> 32;
}

static __always_inline __u32 flow_hash(struct packet *pkt, __u32 seed)
{
	struct facts *its = pkt->its;
	__u64 ends = ((__u64)its->index << 40) | ((__u64)its->protocol << 32) |
		     ((__u32)its->target_port << 16) | its->source_port;

	return mix(ends ^ (((__u64)mix(((__u64)seed << 32) | fold_address(&its->source))) << 16));
}

static __always_inline __u32 cdn_of(__u32 id)
{
	struct endpoint *endpoint = endpoints.lookup(&id);

	return endpoint ? endpoint->cdn : NO_CDN_ID;
}

/* What a flow with this DSCP is for (RFC 4594, 8325); the unmarked are interactive. */
static __always_inline __u8 class_of_dscp(__u8 dscp)
{
	if (dscp == 8 || dscp == 1 || (dscp >= 10 && dscp <= 14))
		return CLASS_BULK; /* CS1, LE, AF1x */
	if (dscp == 24 || (dscp >= 26 && dscp <= 30))
		return CLASS_VIDEO; /* CS3, AF3x */
	return CLASS_INTERACTIVE;
}

/* What the agent wrote, or the first: an index for the verifier. */
static __always_inline __u32 class_of(struct packet *pkt)
{
	__u32 class = pkt->its->traffic_class;

	return class < CLASSES ? class : CLASS_INTERACTIVE;
}

/* One try: true when it ends the pick. */
static __always_inline bool try_pick(struct packet *pkt, struct pick_table *table,
				     struct pick *pick)
{
	bool by_latency = pick->policy == POLICY_LATENCY, rescue = pkt->its->rescue;
	__u32 id = endpoint_at(table,
			       pick->policy == POLICY_FAILOVER ? pick->try : slot_of(pick->hash));
	struct health *h = health_of(id);
	__u32 cdn = cdn_of(id), cost;
	enum fitness fit;

	pick->try++;
	pick->hash = mix(((__u64)pick->hash << 32) | id);
	if (!h)
		return pick->policy == POLICY_FAILOVER; /* the end of the order */
	if (pick->except != NO_CDN_ID && cdn == pick->except) {
		NOTE(NOTED_TRY, id, UNFIT_EXCEPTED);
		return false;
	}
	fit = fitness(pkt, pick, id, cdn, h, by_latency, !rescue && pkt->its->tells);
	NOTE(NOTED_TRY, id, fit);
	if (fit < FIT) {
		if (h->probes_bad < pick->suspected && pick->first == NOWHERE &&
		    h->state == BREAKER_IN && pick->darkened != id) {
			pick->endpoint = id;
			pick->suspected = h->probes_bad;
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
		pick->except = cdn;
		return false;
	}
	if (pick->first_cost_us > cost + cost / 4 + BAND_US)
		pick->endpoint = id;
	return true;
}

/*
 * Weighted: what the Maglev table says (Eisenbud et al., NSDI 2016). Latency: of two picks the one
 * with the clearly lower cost (power of two choices; Mitzenmacher, 2001). Failover: the first in order
 * that is fit. `except` is the CDN that a flow is rescued from.
 */
static __always_inline bool begin_pick(struct packet *pkt, struct service *service, __u32 except)
{
	__u32 class = class_of(pkt), policy = service->policy[class], table_id;
	struct facts *its = pkt->its;
	struct cpu_state *cpu = this_cpu();
	struct pick_table *table;
	struct pick *pick;

	table_id = service->table[its->region & (MAX_REGIONS - 1)][class];
	table = picks.lookup(&table_id);
	if (!table || !cpu)
		return false;
	if (policy == POLICY_LATENCY && (its->mode & MODE_DISARMED))
		policy = POLICY_WEIGHTED;
	NOTE(NOTED_TABLE, table_id, policy);
	pick = &cpu->pick;
	pick->hash = flow_hash(pkt, pkt->set->seed);
	pick->table = table_id;
	pick->policy = policy;
	pick->try = 0;
	pick->draw = pick->hash & 0xffff;
	pick->except = except;
	pick->first = NOWHERE;
	pick->probe = 0;
	pick->darkened = NOWHERE;
	pick->full = NOWHERE;
	pick->suspected = NOBODY;
	/* when nothing better is found */
	pick->endpoint = endpoint_at(table, policy == POLICY_FAILOVER ? 0 : slot_of(pick->hash));
	return true;
}

/* No pick: the endpoint is known. */
static __always_inline bool skip_pick(__u32 endpoint)
{
	struct cpu_state *cpu = this_cpu();
	struct pick *pick;

	if (!cpu)
		return false;
	pick = &cpu->pick;
	pick->endpoint = endpoint;
	pick->probe = 0;
	pick->darkened = NOWHERE;
	pick->full = NOWHERE;
	return true;
}

/*
 * Some tries: all that most flows need. Who needs more comes back by another tail call, for in one loop
 * they would be most of the verifier's work.
 */
static __always_inline int pick_endpoint(struct packet *pkt)
{
	struct cpu_state *cpu = this_cpu();
	struct pick_table *table;
	struct pick *pick;
	__u32 id, most;

	if (!cpu)
		return NO_SERVICE;
	pick = &cpu->pick;
	id = pick->table;
	table = picks.lookup(&id);
	if (!table)
		return NO_SERVICE;
#pragma clang loop unroll(disable)
	for (int i = 0; i < TRIES_AT_ONCE; i++)
		if (try_pick(pkt, table, pick))
			return TO_BINDING;
	most = pick->policy == POLICY_FAILOVER ? ORDER_MAX
	       : pick->first == NOWHERE	       ? REHASHES
					       : REHASHES_OF_TWO;
	return pick->try < most ? TO_PICKING : TO_BINDING;
}
