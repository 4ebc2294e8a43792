/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* May a new flow go to an endpoint, and what would it cost? */
#pragma once

enum fitness {
	UNFIT_EXCEPTED, /* a flow is being rescued from its CDN */
	UNFIT_OUT,
	UNFIT_DARK,
	UNFIT_SUSPECT,
	UNFIT_FULL,
	UNFIT_STARTING, /* slowly, and this flow is not among the first */
	FIT,
	FIT_FOR_PROBE,
};

/* In, but the last that was heard of it was over its limit. */
static __always_inline bool suspect(struct health *h)
{
	return h->limit_us && h->ewma_us > h->limit_us;
}

/* One flow at a time: the next may go at once after a good one, else after a while. */
static __always_inline bool claim_probe(struct packet *pkt, __u32 id, struct health *h)
{
	__u64 now = pkt->its->now, probe = h->probe_ns, wait = 0;
	__u32 bad = h->probes_bad;

	if (h->probing || bad)
		wait = PROBE_WAIT_NS << (bad < PROBE_BACKOFF_MAX ? bad : PROBE_BACKOFF_MAX);
	if (probe && age_ns(now, probe) < wait)
		return false;
	if (SWAP_IF(&h->probe_ns, probe, now) != probe)
		return false;
	if (h->probing)
		fail_probe(pkt, id, h, OUT_DARK, 0);
	SET(h->probing, 1);
	return true;
}

/*
 * After a pause an endpoint gets a tenth of its share, and the whole after slow_start_ns: its caches are
 * cold, and what took it out may not be over. `draw` is any number of 16 bits, the flow's for all its tries:
 * who is not among the first would else be in the end, having been tried often enough.
 */
static __always_inline bool starts_slowly(struct packet *pkt, struct health *h, __u32 draw)
{
	__u64 whole = pkt->set->slow_start_ns, age = age_ns(pkt->its->now, h->reopened_ns);

	if (!h->reopened_ns || age >= whole)
		return false;
	return (__u64)draw * 10 * whole >= (9 * age + whole) << 16;
}

/* Is the CDN at its capacity for new flows, or for bytes? A burst of some milliseconds is none. */
static __always_inline bool is_full(struct packet *pkt, __u32 cdn)
{
	struct limit *capacity = capacities.lookup(&cdn);
	struct meter *load = loads.lookup(&cdn);
	__u64 now = ticks(pkt->its->now);

	if (!capacity || !load)
		return false;
	return (capacity->flow_ticks && exceeds(load->flows_at, capacity->burst_ticks, now)) ||
	       (capacity->kib_ticks && exceeds(load->bytes_at, capacity->burst_ticks, now));
}

/*
 * May a new flow go to this endpoint now? Finds darkness on the way, for want of a timer; see
 * eject_darkened(). Where latency decides, a suspect gets single flows too, without waiting for the
 * proof that ejects it.
 */
static __always_inline enum fitness fitness(struct packet *pkt, struct pick *pick, __u32 id,
					    __u32 cdn, struct health *h, bool by_latency,
					    bool may_probe)
{
	if (pkt->its->mode & MODE_DISARMED)
		return FIT;
	if (h->state == BREAKER_IN) {
		if (dark(pkt, h)) {
			pick->darkened = id;
			return UNFIT_DARK;
		}
		if (by_latency && suspect(h))
			return may_probe && claim_probe(pkt, id, h) ? FIT_FOR_PROBE : UNFIT_SUSPECT;
		if (is_full(pkt, cdn)) {
			if (pick->first == NOWHERE && pick->full == NOWHERE)
				pick->full = id;
			return UNFIT_FULL;
		}
		return starts_slowly(pkt, h, pick->draw) ? UNFIT_STARTING : FIT;
	}
	if ((__s64)(pkt->its->now - h->out_until_ns) < 0)
		return UNFIT_OUT;
	return may_probe && claim_probe(pkt, id, h) ? FIT_FOR_PROBE : UNFIT_OUT;
}

/* What fitness() found dark leaves here, once for a packet: the pick's loop is long enough. */
static __always_inline void eject_darkened(struct packet *pkt, __u32 id)
{
	struct endpoint *endpoint = endpoints.lookup(&id);
	struct health *h = health_of(id);

	if (endpoint && h)
		eject(pkt, id, h, endpoint, OUT_DARK);
}

/*
 * What a new flow would pay here, in us: the peak-EWMA, halved for every few seconds without news
 * so that a CDN once bad is tried again, plus a sixteenth for each connect since its last answer.
 * The whole of (unanswered + 1) would starve a dark CDN of the very connects that prove it dark.
 */
static __always_inline __u32 cost_us(struct packet *pkt, struct health *h)
{
	__u64 idle = age_ns(pkt->its->now, h->ewma_at_ns) / EWMA_IDLE_HALVING_NS;
	__u32 waiting = h->unanswered < 64 ? h->unanswered : 64;

	return (__u64)(h->ewma_us >> (idle < 31 ? idle : 31)) * (16 + waiting) / 16;
}
