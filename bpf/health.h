/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The reflex: what each endpoint's handshakes say about it, and the breaker that takes it out of
 * rotation. BPF acts only when a packet comes, so everything timed is judged at the next one.
 */
#pragma once

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

/* For the verifier, who forgets the bound of what has been on the stack. */
static __always_inline __u32 pool_of(struct endpoint *endpoint)
{
	__u32 pool = endpoint->pool;

	asm volatile("" : "+r"(pool));
	return pool & (POOLS - 1);
}

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
static __always_inline bool reserve(__u64 total, __u64 *out, __u64 weight, __u32 reason)
{
	__u64 before = ATOMIC_ADD(out, weight);

	if (2 * (before + weight) <= total || (!before && reason != OUT_SLOW && weight < total))
		return true;
	ATOMIC_SUB(out, weight);
	return false;
}

/* Take an endpoint out, unless it has to stay. */
static __always_inline void eject(struct packet *pkt, __u32 id, struct health *h,
				  struct endpoint *endpoint, __u32 reason)
{
	__u32 pool = pool_of(endpoint);
	__u64 *out = weight_out.lookup(&pool);
	__u32 weight = *(volatile __u32 *)&endpoint->weight; /* once: operators may change it */
	__u64 now = exact_now(pkt), pause;
	bool again;

	if (!out || (pkt->its->mode & (MODE_DISARMED | MODE_OBSERVE)))
		return;
	if (h->state != BREAKER_IN)
		return;
	if (!reserve(pkt->set->weight_total[pool_of(endpoint)], out, weight, reason)) {
		/* said now and then, and judged on fresh evidence from here */
		if (age_ns(now, h->kept_ns) > KEPT_SAID_EVERY_NS) {
			SET(h->kept_ns, now);
			tell(pkt, EVENT_KEPT, reason, id, 0, h->unanswered, h->ejections);
		}
		SET(h->unanswered, 0);
		return;
	}
	again = h->ejections && age_ns(now, h->ejected_ns) < EJECTION_MEMORY_NS;
	pause = pkt->set->out_ns * (again ? h->ejections + 1 : 1);
	SET(h->out_until_ns, now + (pause < pkt->set->max_out_ns ? pause : pkt->set->max_out_ns));
	if (SWAP_IF(&h->state, BREAKER_IN, BREAKER_OUT) != BREAKER_IN) {
		ATOMIC_SUB(out, weight); /* the other CPU was first */
		return;
	}
	SET(h->reserved_weight, weight);
	SET(h->ejections, again ? h->ejections + 1 : 1);
	SET(h->ejections_total, h->ejections_total + 1);
	SET(h->ejected_ns, now);
	SET(h->reason, reason);
	SET(h->probes_good, 0);
	SET(h->probes_bad, 0);
	SET(h->probes_slow, 0);
	SET(h->probe_ns, 0);
	SET(h->probing, 0);
	tell(pkt, EVENT_EJECT, reason, id, 0, reason == OUT_DARK ? h->unanswered : h->ewma_us,
	     h->ejections);
}

static __always_inline void reopen(struct packet *pkt, __u32 id, struct health *h,
				   struct endpoint *endpoint)
{
	__u32 pool = pool_of(endpoint);
	__u64 *out = weight_out.lookup(&pool), weight;

	if (!out || h->state != BREAKER_OUT)
		return;
	weight = h->reserved_weight; /* before another CPU can take it out again */
	SET(h->reopened_ns, pkt->its->now);
	if (SWAP_IF(&h->state, BREAKER_OUT, BREAKER_IN) != BREAKER_OUT)
		return;
	ATOMIC_SUB(out, weight);
	if (h->state == BREAKER_IN)
		SET(h->reserved_weight, 0);
	SET(h->reason, OUT_NONE);
	SET(h->slow_run, 0);
	SET(h->refused, 0);
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
	       h->connect_networks > 1 &&
	       age_ns(pkt->its->now, since) > patience_ns(h, DARK_FLOOR_NS);
}

/* A connect was sent to the endpoint; not each tells something. */
static __always_inline void note_connect(struct packet *pkt, struct health *h)
{
	__u32 network = network_of(&pkt->its->source);
	bool second;
	__u64 n;

	if (!pkt->its->tells)
		return;
	n = ATOMIC_ADD(&h->unanswered, 1) + 1;
	second = n > 1 && h->connect_networks < 2 && h->connect_network != network;
	if (n == 1) {
		SET(h->connect_network, network);
		SET(h->connect_networks, 1);
	} else if (second) {
		SET(h->connect_networks, 2);
	}
	/* the second network's first connect has to grow old too, or one client's junk would count */
	if (n == pkt->set->dark_connects || (second && n > pkt->set->dark_connects))
		SET(h->dark_ns, pkt->its->now);
}

/* Peak-EWMA (as in Finagle): a worse sample counts at once, a better one by the time that passed. */
static __always_inline void learn(struct health *h, __u32 us, __u64 now)
{
	__u64 passed = age_ns(now, h->ewma_at_ns);
	__u32 ewma = h->ewma_us, step;

	if (us >= ewma) {
		ewma = us;
	} else {
		step = (ewma - us) >> 4;
		if (passed > EWMA_TAU_NS)
			step = ewma - us;
		else
			step += (__u64)(ewma - us - step) * (passed >> 10) / (EWMA_TAU_NS >> 10);
		ewma -= step;
	}
	SET(h->ewma_us, ewma);
	SET(h->ewma_at_ns, now);
}

/*
 * The usual handshake: one step in a window, however many samples it holds, and reluctantly upwards,
 * so that minutes of congestion do not become the norm that slowness is measured by.
 */
static __always_inline void learn_baseline(struct packet *pkt, struct health *h, __u32 us)
{
	__s32 difference = us - h->baseline_us;
	__u32 usual = h->baseline_us;

	if (!h->samples)
		usual = us;
	else if (h->samples < LEARN_SAMPLES)
		usual += difference >> 2;
	else if (age_ns(pkt->its->now, h->window_ns) > SLOW_WINDOW_NS)
		usual += difference >> (difference < 0 ? BASELINE_DOWN_SHIFT : BASELINE_UP_SHIFT);
	SET(h->baseline_us, usual);
	if (h->samples < 0xffffffff)
		SET(h->samples, h->samples + 1);
}

/* Slow: so many over the limit in a row, half of the last tenth of a second, from three networks. */
static __always_inline __u32 judge_slow(struct packet *pkt, struct health *h, bool slow)
{
	__u32 network = network_of(&pkt->its->client);
	__u64 n;

	if (age_ns(pkt->its->now, h->window_ns) > SLOW_WINDOW_NS) {
		SET(h->window_ns, pkt->its->now);
		SET(h->window_samples, 0);
		SET(h->window_slow, 0);
	}
	SET(h->window_samples, h->window_samples + 1);
	if (!slow) {
		SET(h->slow_run, 0);
		return OUT_NONE;
	}
	SET(h->window_slow, h->window_slow + 1);
	n = ATOMIC_ADD(&h->slow_run, 1) + 1;
	if (n == 1) {
		SET(h->slow_network[0], network);
		SET(h->slow_networks, 1);
	} else if (h->slow_networks == 1 && network != h->slow_network[0]) {
		SET(h->slow_network[1], network);
		SET(h->slow_networks, 2);
	} else if (h->slow_networks == 2 && network != h->slow_network[0] &&
		   network != h->slow_network[1]) {
		SET(h->slow_networks, 3);
	}
	if (n >= pkt->set->slow_connects && 2 * h->window_slow >= h->window_samples &&
	    h->slow_networks >= pkt->set->distinct_prefixes)
		return OUT_SLOW;
	return OUT_NONE;
}

static __always_inline void fail_probe(struct packet *pkt, __u32 id, struct health *h, __u32 how,
				       __u32 us)
{
	SET(h->probes_good, 0);
	SET(h->probes_bad, h->probes_bad + 1);
	tell(pkt, EVENT_PROBE_FAILED, how, id, 0, us, h->ejections);
}

/*
 * A path that has become longer for good would keep an endpoint out for ever: when probe after probe
 * is answered, and nobody has set a limit, what they took becomes the usual.
 */
static __always_inline bool new_normal(struct health *h, struct endpoint *endpoint, __u32 us)
{
	SET(h->probes_slow, h->probes_slow + 1);
	if (endpoint->limit_us || h->probes_slow < SLOW_PROBES_TO_ADOPT)
		return false;
	SET(h->baseline_us, us);
	return true;
}

static __always_inline void judge_probe(struct packet *pkt, __u32 id, struct health *h,
					struct endpoint *endpoint, __u32 fault, __u32 us)
{
	__u64 good = 0;

	SET(h->probing, 0);
	if (fault && !(fault == OUT_SLOW && new_normal(h, endpoint, us))) {
		if (fault != OUT_SLOW)
			SET(h->probes_slow, 0);
		fail_probe(pkt, id, h, fault, us);
		return;
	}
	SET(h->probes_bad, 0);
	SET(h->probes_slow, 0);
	if (h->state == BREAKER_OUT)
		good = fault ? PROBES_TO_REOPEN : ATOMIC_ADD(&h->probes_good, 1) + 1;
	if (h->state == BREAKER_OUT && good < PROBES_TO_REOPEN)
		return;
	SET(h->ewma_us, us); /* of a suspect, too: what it was suspected for is over */
	SET(h->ewma_at_ns, pkt->its->now);
	reopen(pkt, id, h, endpoint);
}

/*
 * The endpoint answered a connect after `us`. `clean` is false when the client had sent its SYN
 * more than once: which one was answered is unknown then (Karn and Partridge, 1987). Returns why
 * the endpoint should leave the rotation, if it should.
 */
static __always_inline __u32 judge_answer(struct packet *pkt, __u32 id, struct health *h,
					  struct endpoint *endpoint, __u32 us, bool clean,
					  bool probe)
{
	__u32 limit_us;
	bool slow;

	SET(h->refused, 0);
	if (!clean) {
		if (probe)
			SET(h->probing, 0); /* alive, but how quick nobody knows */
		return OUT_NONE;
	}
	record_handshake(endpoint->cdn, us);
	limit_us = slow_limit_us(h, endpoint);
	SET(h->limit_us, limit_us);
	slow = us > limit_us;
	if (h->state == BREAKER_OUT) {
		if (probe)
			judge_probe(pkt, id, h, endpoint, slow ? OUT_SLOW : OUT_NONE, us);
		else if (slow && h->reason == OUT_DARK)
			SET(h->reason, OUT_SLOW); /* silent for long, but not dead after all */
		return OUT_NONE;
	}
	learn(h, us, pkt->its->now);
	if (probe)
		judge_probe(pkt, id, h, endpoint, slow ? OUT_SLOW : OUT_NONE, us);
	if (!slow)
		learn_baseline(pkt, h, us);
	return judge_slow(pkt, h, slow);
}

/*
 * The endpoint answered a SYN with a reset. `clean` is false when the client had sent more than one: with
 * another ISN in the second it can have itself refused by an endpoint that is quite well.
 */
static __always_inline __u32 judge_refusal(struct packet *pkt, __u32 id, struct health *h,
					   struct endpoint *endpoint, bool clean, bool probe)
{
	if (!clean) {
		if (probe)
			SET(h->probing, 0);
		return OUT_NONE;
	}
	if (h->state == BREAKER_OUT) {
		if (probe)
			judge_probe(pkt, id, h, endpoint, OUT_REFUSING, 0);
		return OUT_NONE;
	}
	return ATOMIC_ADD(&h->refused, 1) + 1 >= pkt->set->refused_connects ? OUT_REFUSING
									    : OUT_NONE;
}

/* Any answer to a connect: of TCP a SYN-ACK or a reset, of UDP a first datagram. */
static __always_inline void note_answer(struct packet *pkt, __u32 id, struct endpoint *endpoint,
					__u8 flags, __u32 us, bool refused)
{
	bool clean = !(flags & FLOW_RESENT), probe = flags & FLOW_PROBE;
	struct health *h = health_of(id);
	__u32 reason;

	if (!h)
		return;
	SET(h->last_answer_ns, pkt->its->now);
	SET(h->unanswered, 0);
	reason = refused ? judge_refusal(pkt, id, h, endpoint, clean, probe)
			 : judge_answer(pkt, id, h, endpoint, us, clean, probe);
	if (reason)
		eject(pkt, id, h, endpoint, reason);
}

/* Of a direct return the client's own answer tells: SYN, through the CDN to the client, and back. */
static __always_inline void note_direct_answer(struct packet *pkt, struct flow *flow)
{
	__u32 id = flow->endpoint;
	struct endpoint *endpoint = endpoints.lookup(&id);
	__u64 us = age_ns(exact_now(pkt), flow->syn_ns) / NS_PER_US;

	if (endpoint)
		note_answer(pkt, id, endpoint, flow->flags, us < 0xffffffff ? us : 0xffffffff,
			    false);
}
