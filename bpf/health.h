/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The reflex: what each endpoint's handshakes say about it, and the breaker that takes it out of
 * rotation. BPF acts only when a packet comes, so everything timed is judged at the next one.
 */
#pragma once

#define NS_PER_US 1000ULL
#define DARK_FLOOR_NS 30000000ULL     /* an endpoint may always take so long to answer */
#define DARK_UNKNOWN_NS 1000000000ULL /* before anything is known of it */
#define SLOW_MARGIN_US 20000
#define SLOW_WINDOW_NS 100000000ULL
#define LEARN_SAMPLES 8
#define BASELINE_DOWN_SHIFT 4
#define BASELINE_UP_SHIFT 7
#define EWMA_TAU_NS 1000000000ULL
#define EWMA_IDLE_HALVING_NS 2000000000ULL
#define PROBES_TO_REOPEN 3
#define SLOW_PROBES_TO_ADOPT 20
#define KEPT_SAID_EVERY_NS 10000000000ULL
#define PROBE_WAIT_NS 1000000000ULL
#define PROBE_BACKOFF_MAX 3
#define EJECTION_MEMORY_NS 300000000000ULL

static __always_inline struct health *health_of(__u32 endpoint)
{
	return health.lookup(&endpoint);
}

static __always_inline __u32 slow_limit_us(struct health *h, struct endpoint *endpoint)
{
	if (endpoint->limit_us)
		return endpoint->limit_us;
	return h->samples < LEARN_SAMPLES ? 0xffffffff : 3 * h->baseline_us + SLOW_MARGIN_US;
}

/* How long a connect may stay unanswered before it says something. */
static __always_inline __u64 patience_ns(struct health *h, __u64 floor_ns)
{
	__u64 usual = h->samples ? 3 * NS_PER_US * h->baseline_us : DARK_UNKNOWN_NS;

	return usual > floor_ns ? usual : floor_ns;
}

/*
 * May so much weight leave the rotation? What is out is one word: reserve, compare, roll back, so
 * that two CPUs can never between them take more than half. One endpoint that alone weighs more may
 * go when it is dead rather than slow: sending most flows into a hole is worse than any load.
 */
static __always_inline bool reserve(struct packet *pkt, __u64 *out, __u64 weight, __u32 reason)
{
	__u64 total = pkt->set->weight_total, before = __sync_fetch_and_add(out, weight);

	if (2 * (before + weight) <= total || (!before && reason != OUT_SLOW && weight < total))
		return true;
	__sync_fetch_and_sub(out, weight);
	return false;
}

/* Take an endpoint out, unless it has to stay. */
static __always_inline void eject(struct packet *pkt, __u32 id, struct health *h,
				  struct endpoint *endpoint, __u32 reason)
{
	__u32 zero = 0;
	__u64 *out = weight_out.lookup(&zero);
	__u64 now = exact_now(pkt), pause;
	bool again;

	if (!out || (pkt->mode & MODE_DISARMED))
		return;
	if (h->state != BREAKER_IN)
		return;
	if (!reserve(pkt, out, endpoint->weight, reason)) {
		/* said now and then, and judged on fresh evidence from here */
		if (age_ns(now, h->kept_ns) > KEPT_SAID_EVERY_NS) {
			h->kept_ns = now;
			tell(pkt, EVENT_KEPT, reason, id, 0, h->unanswered, h->ejections);
		}
		h->unanswered = 0;
		return;
	}
	again = h->ejections && age_ns(now, h->ejected_ns) < EJECTION_MEMORY_NS;
	pause = pkt->set->out_ns * (again ? h->ejections + 1 : 1);
	h->out_until_ns = now + (pause < pkt->set->max_out_ns ? pause : pkt->set->max_out_ns);
	if (__sync_val_compare_and_swap(&h->state, BREAKER_IN, BREAKER_OUT) != BREAKER_IN) {
		__sync_fetch_and_sub(out, endpoint->weight); /* the other CPU was first */
		return;
	}
	h->reserved_weight = endpoint->weight;
	h->ejections = again ? h->ejections + 1 : 1;
	h->ejections_total++;
	h->ejected_ns = now;
	h->reason = reason;
	h->probes_good = 0;
	h->probes_bad = 0;
	h->probes_slow = 0;
	h->probe_ns = 0;
	h->probing = 0;
	tell(pkt, EVENT_EJECT, reason, id, 0, reason == OUT_DARK ? h->unanswered : h->ewma_us,
	     h->ejections);
}

static __always_inline void reopen(struct packet *pkt, __u32 id, struct health *h)
{
	__u32 zero = 0;
	__u64 *out = weight_out.lookup(&zero);

	if (!out || __sync_val_compare_and_swap(&h->state, BREAKER_OUT, BREAKER_IN) != BREAKER_OUT)
		return;
	__sync_fetch_and_sub(out, h->reserved_weight);
	h->reserved_weight = 0;
	h->reason = OUT_NONE;
	h->slow_run = 0;
	h->refused = 0;
	tell(pkt, EVENT_REOPEN, 0, id, 0, h->ewma_us, h->ejections);
}

/*
 * Dark: enough connects, from more than one network, unanswered for longer than patience, and
 * nothing answered since. It is the n-th connect since the last answer whose age counts, so a flood
 * of fresh ones neither hides it nor hurries it.
 */
static __always_inline bool dark(struct packet *pkt, struct health *h)
{
	__u64 since = h->dark_ns;

	/* an older stamp is of an earlier round: the other CPU has not written its own yet */
	return h->unanswered >= pkt->set->dark_connects && since > h->last_answer_ns &&
	       h->connect_networks > 1 && age_ns(pkt->now, since) > patience_ns(h, DARK_FLOOR_NS);
}

/* A connect was sent to the endpoint. */
static __always_inline void note_connect(struct packet *pkt, struct health *h)
{
	__u64 n = __sync_fetch_and_add(&h->unanswered, 1) + 1;
	__u32 prefix = prefix24(pkt->source);
	bool second = n > 1 && h->connect_networks < 2 && h->connect_prefix != prefix;

	if (n == 1) {
		h->connect_prefix = prefix;
		h->connect_networks = 1;
	} else if (second) {
		h->connect_networks = 2;
	}
	/* the second network's first connect has to grow old too, or one client's junk would count */
	if (n == pkt->set->dark_connects || (second && n > pkt->set->dark_connects))
		h->dark_ns = pkt->now;
}

static __always_inline __u32 bucket_of(__u32 us)
{
	__u32 octave = 0, rest = us | 1, bucket;

	if (rest >> 16) {
		octave += 16;
		rest >>= 16;
	}
	if (rest >> 8) {
		octave += 8;
		rest >>= 8;
	}
	if (rest >> 4) {
		octave += 4;
		rest >>= 4;
	}
	if (rest >> 2) {
		octave += 2;
		rest >>= 2;
	}
	octave += rest >> 1;
	/* the three bits below the leading one */
	bucket = octave * 8 + (octave >= 3 ? (us >> (octave - 3)) & 7 : 0);
	/* the compiler knows the bound and would drop the mask, the verifier wants to see it */
	asm volatile("" : "+r"(bucket));
	return bucket & (HANDSHAKE_BUCKETS - 1);
}

static __always_inline void record_handshake(__u32 cdn, __u32 us)
{
	struct handshake_histogram *histogram = handshakes.lookup(&cdn);
	struct cdn_count *count = count_of(cdn);
	__u32 bucket = bucket_of(us);

	if (histogram)
		histogram->bucket[bucket]++;
	if (count)
		count->handshakes++;
}

/* Peak-EWMA (as in Finagle): a worse sample counts at once, a better one by the time that passed. */
static __always_inline void learn(struct health *h, __u32 us, __u64 now)
{
	__u64 passed = age_ns(now, h->ewma_at_ns);
	__u32 step;

	if (us >= h->ewma_us) {
		h->ewma_us = us;
	} else {
		step = (h->ewma_us - us) >> 4;
		if (passed > EWMA_TAU_NS)
			step = h->ewma_us - us;
		else
			step += (__u64)(h->ewma_us - us - step) * (passed >> 10) /
				(EWMA_TAU_NS >> 10);
		h->ewma_us -= step;
	}
	h->ewma_at_ns = now;
}

/*
 * The usual handshake: one step in a window, however many samples it holds, and reluctantly upwards,
 * so that minutes of congestion do not become the norm that slowness is measured by.
 */
static __always_inline void learn_baseline(struct packet *pkt, struct health *h, __u32 us)
{
	__s32 difference = us - h->baseline_us;

	if (!h->samples)
		h->baseline_us = us;
	else if (h->samples < LEARN_SAMPLES)
		h->baseline_us += difference >> 2;
	else if (age_ns(pkt->now, h->window_ns) > SLOW_WINDOW_NS)
		h->baseline_us +=
			difference >> (difference < 0 ? BASELINE_DOWN_SHIFT : BASELINE_UP_SHIFT);
	if (h->samples < 0xffffffff)
		h->samples++;
}

/* Slow: so many over the limit in a row, half of the last tenth of a second, from three networks. */
static __always_inline __u32 judge_slow(struct packet *pkt, struct health *h, bool slow)
{
	__u32 prefix = prefix24(pkt->client);
	__u64 n;

	if (age_ns(pkt->now, h->window_ns) > SLOW_WINDOW_NS) {
		h->window_ns = pkt->now;
		h->window_samples = 0;
		h->window_slow = 0;
	}
	h->window_samples++;
	if (!slow) {
		h->slow_run = 0;
		return OUT_NONE;
	}
	h->window_slow++;
	n = __sync_fetch_and_add(&h->slow_run, 1) + 1;
	if (n == 1) {
		h->slow_prefix[0] = prefix;
		h->slow_networks = 1;
	} else if (h->slow_networks == 1 && prefix != h->slow_prefix[0]) {
		h->slow_prefix[1] = prefix;
		h->slow_networks = 2;
	} else if (h->slow_networks == 2 && prefix != h->slow_prefix[0] &&
		   prefix != h->slow_prefix[1]) {
		h->slow_networks = 3;
	}
	if (n >= pkt->set->slow_connects && 2 * h->window_slow >= h->window_samples &&
	    h->slow_networks >= pkt->set->distinct_prefixes)
		return OUT_SLOW;
	return OUT_NONE;
}

static __always_inline void fail_probe(struct packet *pkt, __u32 id, struct health *h, __u32 how,
				       __u32 us)
{
	h->probes_good = 0;
	h->probes_bad++;
	tell(pkt, EVENT_PROBE_FAILED, how, id, 0, us, h->ejections);
}

/*
 * A path that has become longer for good would keep an endpoint out for ever: when probe after probe
 * is answered, and nobody has set a limit, what they took becomes the usual.
 */
static __always_inline bool new_normal(struct health *h, struct endpoint *endpoint, __u32 us)
{
	if (endpoint->limit_us || ++h->probes_slow < SLOW_PROBES_TO_ADOPT)
		return false;
	h->baseline_us = us;
	return true;
}

static __always_inline void judge_probe(struct packet *pkt, struct health *h,
					struct endpoint *endpoint, __u32 fault, __u32 us)
{
	__u64 good = 0;

	h->probing = 0;
	if (fault && !(fault == OUT_SLOW && new_normal(h, endpoint, us))) {
		if (fault != OUT_SLOW)
			h->probes_slow = 0;
		fail_probe(pkt, pkt->endpoint, h, fault, us);
		return;
	}
	h->probes_bad = 0;
	h->probes_slow = 0;
	if (h->state == BREAKER_OUT)
		good = fault ? PROBES_TO_REOPEN : __sync_fetch_and_add(&h->probes_good, 1) + 1;
	if (h->state == BREAKER_OUT && good < PROBES_TO_REOPEN)
		return;
	h->ewma_us = us; /* of a suspect, too: what it was suspected for is over */
	h->ewma_at_ns = pkt->now;
	reopen(pkt, pkt->endpoint, h);
}

/*
 * The endpoint answered a connect after `us`. `clean` is false when the client had sent its SYN
 * more than once: which one was answered is unknown then (Karn and Partridge, 1987). Returns why
 * the endpoint should leave the rotation, if it should.
 */
static __always_inline __u32 judge_answer(struct packet *pkt, struct health *h,
					  struct endpoint *endpoint, __u32 us, bool clean,
					  bool probe)
{
	bool slow;

	h->refused = 0;
	if (!clean) {
		if (probe)
			h->probing = 0; /* alive, but how quick nobody knows */
		return OUT_NONE;
	}
	record_handshake(endpoint->cdn, us);
	h->limit_us = slow_limit_us(h, endpoint);
	slow = us > h->limit_us;
	if (h->state == BREAKER_OUT) {
		if (probe)
			judge_probe(pkt, h, endpoint, slow ? OUT_SLOW : OUT_NONE, us);
		else if (slow && h->reason == OUT_DARK)
			h->reason = OUT_SLOW; /* silent for long, but not dead after all */
		return OUT_NONE;
	}
	learn(h, us, pkt->now);
	if (probe)
		judge_probe(pkt, h, endpoint, slow ? OUT_SLOW : OUT_NONE, us);
	if (!slow)
		learn_baseline(pkt, h, us);
	return judge_slow(pkt, h, slow);
}

/* The endpoint answered a SYN with a reset. */
static __always_inline __u32 judge_refusal(struct packet *pkt, struct health *h,
					   struct endpoint *endpoint, bool probe)
{
	if (h->state == BREAKER_OUT) {
		if (probe)
			judge_probe(pkt, h, endpoint, OUT_REFUSING, 0);
		return OUT_NONE;
	}
	return __sync_fetch_and_add(&h->refused, 1) + 1 >= pkt->set->refused_connects ? OUT_REFUSING
										      : OUT_NONE;
}

/* Any answer to a connect, a SYN-ACK or a reset. */
static __always_inline void note_answer(struct packet *pkt, struct endpoint *endpoint, __u32 us,
					bool refused)
{
	bool clean = !(pkt->slot->flags & FLOW_RESENT), probe = pkt->slot->flags & FLOW_PROBE;
	struct health *h = health_of(pkt->endpoint);
	__u32 reason;

	if (!h)
		return;
	h->last_answer_ns = pkt->now;
	h->unanswered = 0;
	reason = refused ? judge_refusal(pkt, h, endpoint, probe)
			 : judge_answer(pkt, h, endpoint, us, clean, probe);
	if (reason)
		eject(pkt, pkt->endpoint, h, endpoint, reason);
}

enum fitness {
	UNFIT,
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
	__u64 now = pkt->now, probe = h->probe_ns, wait = 0;
	__u32 bad = h->probes_bad;

	if (h->probing || bad)
		wait = PROBE_WAIT_NS << (bad < PROBE_BACKOFF_MAX ? bad : PROBE_BACKOFF_MAX);
	if (probe && age_ns(now, probe) < wait)
		return false;
	if (__sync_val_compare_and_swap(&h->probe_ns, probe, now) != probe)
		return false;
	if (h->probing)
		fail_probe(pkt, id, h, OUT_DARK, 0);
	h->probing = 1;
	return true;
}

/*
 * May a new flow go to this endpoint now? Finds darkness on the way, for want of a timer; see
 * eject_darkened(). Where latency decides, a suspect gets single flows too, without waiting for the proof that ejects it.
 */
static __always_inline enum fitness fitness(struct packet *pkt, volatile struct pick *pick,
					    __u32 id, struct health *h, bool by_latency,
					    bool may_probe)
{
	if (pkt->mode & MODE_DISARMED)
		return FIT;
	if (h->state == BREAKER_IN) {
		if (dark(pkt, h)) {
			pick->darkened = id;
			return UNFIT;
		}
		if (!by_latency || !suspect(h))
			return FIT;
	} else if ((__s64)(pkt->now - h->out_until_ns) < 0) {
		return UNFIT;
	}
	return may_probe && claim_probe(pkt, id, h) ? FIT_FOR_PROBE : UNFIT;
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
	__u64 idle = age_ns(pkt->now, h->ewma_at_ns) / EWMA_IDLE_HALVING_NS;
	__u32 waiting = h->unanswered < 64 ? h->unanswered : 64;

	return (__u64)(h->ewma_us >> (idle < 31 ? idle : 31)) * (16 + waiting) / 16;
}
