/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Limits: of customers, and of each single source that no customer's limits cover. What is over them is
 * dropped here, before it costs a CDN anything. A packet is charged once, where it is known whose it is:
 * of a steady flow at the door, of any other in the stage that finds the flow, or opens it. Both ways count,
 * as far as they come by here: of a direct return, one.
 */
#pragma once

#define ONE_PACKET 1 /* what is to be charged */
#define ITS_BYTES 2
#define NEW_FLOW 4

/* -- whose? -- */

/* As facts, flows and slots have it. */
static __always_inline __u16 customer_of(const struct client *client)
{
	if (!client)
		return 0;
	return client->customer | (client->flags & CLIENT_ALLOWED ? CUSTOMER_ALLOWED : 0);
}

/* A known flow under a new policy: its client may be another's customer now, or be allowed. */
static __always_inline void know_customer(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct prefix_key key = {.length = 128, .address = its->client};

	its->customer = customer_of(clients.lookup(&key));
	if (pkt->flow)
		SET(pkt->flow->customer, its->customer);
	if (pkt->slot)
		SET(pkt->slot->customer, its->customer);
}

/* -- sources -- */

/* A period of the sketch is 2^30 ns, and so many ticks. */
#define PERIOD_SHIFT 30
#define PERIOD_TICKS_SHIFT (PERIOD_SHIFT + 4)
#define CELL_SHIFT 26 /* of the period that a cell was last touched in */
#define CELL_MAX ((1U << CELL_SHIFT) - 1)
#define OLDEST 63 /* periods; and in 64 bits one can shift so far */

/*
 * Count in a cell, which each period has halved: nobody has to go over all of them. No branches, for
 * the verifier would walk each way through all the rows; a cell that overflows looks old, and begins anew.
 */
static __always_inline __u32 count_in(__u32 *cell, __u32 period, __u32 weight)
{
	__u64 held = *cell, age = (period - (held >> CELL_SHIFT)) & OLDEST;
	__u32 count = ((held & CELL_MAX) >> age) + weight;

	SET(*cell, (period << CELL_SHIFT) + count);
	return count;
}

/* What those have sent that are not busy, halved likewise: the noise in a cell is a column's part of it. */
static __always_inline __u32 noise_in(struct sketch *sketch, __u32 period)
{
	__u64 strangers = sketch->strangers >> ((period - sketch->period) & OLDEST);

	SET(sketch->strangers, strangers);
	SET(sketch->period, period);
	return strangers / SKETCH_COLUMNS;
}

/*
 * Has the source sent source_busy packets of late, or about used up what another limit gives it for a
 * second? Those that have not get no meter, so a flood from addresses that nobody has evicts nobody.
 *
 * The answer may be wrong in two ways. Others are counted in the same cells: what the strangers among them
 * come to on average is taken off, so in a flood it takes a little more to be busy, and hardly ever is one
 * who has sent a single packet. And each CPU counts for itself, a source being busy where its share of
 * source_busy was seen: where less was, it goes by unmetered, altogether less than what makes it busy.
 */
static __always_inline bool is_busy(struct packet *pkt, const struct address *source, __u64 cost)
{
	const struct settings *set = pkt->set;
	__u32 weight = 1 + ((cost * set->source_busy) >> PERIOD_TICKS_SHIFT);
	__u32 zero = 0, period = coarse_now(pkt) >> PERIOD_SHIFT, least = ~0U, needed, hash;
	struct sketch *sketch = sketches.lookup(&zero);

	if (!sketch)
		return false;
	needed = set->busy_share + noise_in(sketch, period);
	hash = mix(((__u64)set->seed << 32) | fold_address(source));
#pragma clang loop unroll(disable)
	for (int row = 0; row < SKETCH_ROWS; row++) {
		/* two hashes do for any number of rows (Kirsch and Mitzenmacher, 2006) */
		__u32 column = (hash + row * (hash >> 16)) & (SKETCH_COLUMNS - 1);
		__u32 count = count_in(&sketch->count[row][column], period, weight);

		if (count < least)
			least = count;
	}
	if (least >= needed)
		return true;
	SET(sketch->strangers, sketch->strangers + weight);
	return false;
}

/* The meter of a source that is busy; 0 of any other. */
static __always_inline struct meter *source_meter(struct packet *pkt, __u64 cost)
{
	struct meter fresh = {}, *meter;
	struct address source;

	source_of(pkt, &source);
	if (!is_busy(pkt, &source, cost))
		return 0;
	meter = sources.lookup(&source);
	if (meter || !WRITES)
		return meter;
	sources.insert(&source, &fresh); /* which fails when the other CPU has done it */
	return sources.lookup(&source);
}

/* -- charging -- */

/* What the packet would take of its limits: in ticks, nothing where there is none. */
static __always_inline void price(struct packet *pkt, const struct limit *limit, __u32 what)
{
	struct cost *cost = &pkt->its->cost;

	cost->packet = limit->packet_ticks * (what & ONE_PACKET);
	cost->bytes = byte_ticks(limit, pkt->its->bytes) * !!(what & ITS_BYTES);
	cost->flow = limit->flow_ticks * !!(what & NEW_FLOW);
}

/*
 * Everything is asked before anything is charged, since what is dropped must not use up a limit that it
 * was within. CPUs that ask at the same time may each let one packet through too early; it is charged in
 * full, so in the long run none is too many.
 */
static __always_inline int take(struct packet *pkt, const struct limit *limit, struct meter *meter)
{
	/* a tick of the coarse clock may be longer than a burst */
	__u64 now = ticks(exact_now(pkt)), burst = limit->burst_ticks;
	struct cost *cost = &pkt->its->cost;

	if (cost->flow && exceeds(meter->flows_at, burst, now))
		return OVER_FLOW_QUOTA;
	if (cost->bytes && exceeds(meter->bytes_at, burst, now))
		return OVER_QUOTA;
	if (cost->packet && exceeds(meter->packets_at, burst, now))
		return OVER_QUOTA;
	if (cost->packet)
		add(&meter->packets_at, cost->packet, now);
	if (cost->bytes)
		add(&meter->bytes_at, cost->bytes, now);
	if (cost->flow)
		add(&meter->flows_at, cost->flow, now);
	return GO_ON;
}

static __always_inline int take_of_customer(struct packet *pkt, const struct limit *limit,
					    __u32 customer, __u32 what)
{
	struct meter *meter = meters.lookup(&customer);

	price(pkt, limit, what);
	return meter ? take(pkt, limit, meter) : GO_ON;
}

static __always_inline int take_of_source(struct packet *pkt, __u32 what)
{
	const struct limit *limit = &pkt->set->source_limit;
	struct cost *cost = &pkt->its->cost;
	struct meter *meter;

	if (pkt->its->belongs == TO_REPLY)
		what = limit->kib_ticks ? ITS_BYTES
					: 0; /* its packets are not the source's doing */
	price(pkt, limit, what);
	if (!what)
		return GO_ON;
	meter = source_meter(pkt, cost->packet + cost->bytes + cost->flow);
	/* else the compiler copies what follows for each answer, and the verifier walks all the copies */
	asm volatile("" : : : "memory");
	return !meter || take(pkt, limit, meter) == GO_ON ? GO_ON : OVER_SOURCE_QUOTA;
}

/* What its customer may; 0 when there is none, or no limit of it. */
static __always_inline struct limit *customers_limit(struct packet *pkt)
{
	__u32 customer = pkt->its->customer;
	struct limit *limit = customer ? customer_limits.lookup(&customer) : 0;

	return limit && is_limited(limit) ? limit : 0;
}

static __always_inline int within_limits(struct packet *pkt, __u32 what)
{
	__u32 customer = pkt->its->customer;
	struct limit *limit;
	int verdict;

	if ((customer & CUSTOMER_ALLOWED) || (pkt->its->mode & MODE_DISARMED))
		return GO_ON;
	limit = customers_limit(pkt);
	if (limit)
		verdict = take_of_customer(pkt, limit, customer, what);
	else if (is_limited(&pkt->set->source_limit))
		verdict = take_of_source(pkt, what);
	else
		return GO_ON;
	NOTE(NOTED_QUOTA, customer, verdict);
	return verdict;
}

/* Has each source a limit that packets of known flows are charged to? */
static __always_inline bool sources_are_metered(struct packet *pkt)
{
	const struct limit *of_sources = &pkt->set->source_limit;

	return of_sources->packet_ticks | of_sources->kib_ticks;
}

/* A packet of a known flow, either way. */
static __always_inline int within_quota(struct packet *pkt)
{
	if (!pkt->its->customer && !sources_are_metered(pkt))
		return GO_ON;
	if (pkt->its->belongs <= TO_SOMETHING)
		return GO_ON; /* asked again once it is known whose it is */
	return within_limits(pkt, ONE_PACKET | ITS_BYTES);
}

/* A new flow of the client. A rescued one is none, and what was part of an old flow has been charged. */
static __always_inline int may_open(struct packet *pkt)
{
	__u32 what = pkt->its->belongs == TO_NEW_FLOW ? ONE_PACKET | ITS_BYTES : 0;

	if (!pkt->its->rescue)
		what |= NEW_FLOW;
	return what ? within_limits(pkt, what) : GO_ON;
}
