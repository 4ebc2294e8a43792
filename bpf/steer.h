/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Which endpoint is best for this new flow now. */
#pragma once

/*
 * A slot whose endpoint is out re-hashes, so that its load spreads by weight over all the others
 * and not onto one neighbour. At most half the weight is ever out: after 16 tries one flow in 65,536
 * is still unplaced, and takes its first pick as if nothing were known (so does every flow of a
 * service whose endpoints are all out: a bad CDN is better than none).
 */
#define REHASHES 16
#define NOWHERE 0xffff
/* A second pick must be better by a quarter and a millisecond, so that weights mean something. */
#define BAND_US 1000

struct choice {
	__u32 endpoint;
	bool probe;
};

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

/*
 * Weighted: what the Maglev table says (Eisenbud et al., NSDI 2016). Latency: of two picks the one
 * with the clearly lower cost (power of two choices; Mitzenmacher, 2001). One loop serves both, and
 * the re-hashing, to keep the program small.
 */
static __always_inline struct choice pick(struct packet *pkt, struct service *service, __u32 bank,
					  __u32 except)
{
	struct pick_table *table = picks.lookup(&bank);
	__u32 hash = flow_hash(pkt, pkt->set->seed), first = NOWHERE, first_cost = 0;
	bool two = service->policy == POLICY_LATENCY && except == NO_CDN_ID &&
		   !(pkt->mode & MODE_DISARMED);
	struct choice choice = {.endpoint = NOWHERE};

	if (!table)
		return choice;
#pragma clang loop unroll(disable)
	for (int i = 0; i < REHASHES; i++) {
		__u32 id = endpoint_at(table, hash);
		struct health *h = health_of(id);
		enum fitness fit;

		hash = mix(((__u64)hash << 32) | i);
		if (!i)
			choice.endpoint = id;
		if (!h || (except != NO_CDN_ID && cdn_of(id) == except))
			continue;
		if (first != NOWHERE && h->state == BREAKER_OUT)
			continue; /* a probe is sent by a first pick only */
		fit = fitness(pkt, id, h);
		if (fit == UNFIT)
			continue;
		if (fit == FIT_FOR_PROBE || !two) {
			choice.endpoint = id;
			choice.probe = fit == FIT_FOR_PROBE;
			return choice;
		}
		if (first == NOWHERE) {
			first = id;
			first_cost = cost_us(pkt, h);
			except = cdn_of(id);
			continue;
		}
		choice.endpoint =
			first_cost > cost_us(pkt, h) + cost_us(pkt, h) / 4 + BAND_US ? id : first;
		return choice;
	}
	if (first != NOWHERE)
		choice.endpoint = first;
	return choice;
}
