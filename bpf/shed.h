/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Shedding: which new flows are let in when there are too many. The order of mercy: who is allowed by the
 * operator, then flows under way (which never come by here), then sources that have proved where they are, each
 * within a budget of its own. All others share: a source has its budget, its network and its region have
 * theirs, and so has a service; what is over any of them is dropped. So a noisy source or prefix starves nobody
 * but itself, and one that has no prefix, as its sources are made up, only the service that it is for.
 *
 * Who is suspicious by his manner (manner.h) has no budget of his own for having proved where he is.
 */
#pragma once

#define DEAL_SHIFT 34 /* places are dealt anew every 2^34 ns */

/* Two words, of which the less used up one speaks. */
struct share {
	__u64 *word[BUDGET_ROWS];
};

static __always_inline __u64 *budget_word(__u32 budget, __u32 row, __u32 column)
{
	__u32 place = ((budget - BUDGET_SOURCE) * BUDGET_ROWS + row) * BUDGET_COLUMNS +
		      (column & (BUDGET_COLUMNS - 1));

	return budgets.lookup(&place);
}

static __always_inline bool find_share(struct share *share, __u32 budget, __u64 deal, __u32 whose)
{
	__u32 hash = mix((deal << 32) ^ whose);

	share->word[0] = budget_word(budget, 0, hash);
	share->word[1] = budget_word(budget, 1, hash >> 16);
	return share->word[0] && share->word[1];
}

static __always_inline __u64 used_up_to(const struct share *share)
{
	__u64 a = *share->word[0], b = *share->word[1];

	return a < b ? a : b;
}

/* Both words come to what the flow leads to, and neither goes back: others use them, too. */
static __always_inline void use(struct share *share, __u64 cost, __u64 now)
{
	__u64 used = used_up_to(share);

	used = (used > now ? used : now) + cost;
	if (*share->word[0] < used)
		SET(*share->word[0], used);
	if (*share->word[1] < used)
		SET(*share->word[1], used);
}

/* All are asked before any is charged: what one of them refuses takes nothing of the others. */
static __always_inline int share_fairly(struct packet *pkt, const struct shield *shield,
					__u32 number)
{
	__u64 now = ticks(coarse_now(pkt)), burst = shield->burst_ticks;
	__u64 deal = pkt->set->seed ^ (coarse_now(pkt) >> DEAL_SHIFT);
	const struct address *who = &pkt->its->source;
	struct share source, network, region, service;
	struct address host;

	source_of(pkt, &host);
	if (!find_share(&source, BUDGET_SOURCE, deal, fold_address(&host)) ||
	    !find_share(&network, BUDGET_NETWORK, deal, network_of(who)) ||
	    !find_share(&region, BUDGET_REGION, deal, region_of(who)) ||
	    !find_share(&service, BUDGET_SERVICE, deal, number))
		return GO_ON;
	if (exceeds(used_up_to(&source), burst, now))
		return SHED_SOURCE;
	if (exceeds(used_up_to(&network), burst, now))
		return SHED_NETWORK;
	if (exceeds(used_up_to(&region), burst, now))
		return SHED_REGION;
	if (exceeds(used_up_to(&service), burst, now))
		return SHED_SERVICE;
	use(&source, shield->ticks[BUDGET_SOURCE], now);
	use(&network, shield->ticks[BUDGET_NETWORK], now);
	use(&region, shield->ticks[BUDGET_REGION], now);
	use(&service, shield->ticks[BUDGET_SERVICE], now);
	return GO_ON;
}

/*
 * A source that is known has its own words: for all its flows, and for connections that do not come about, since a
 * real host may flood, too. One that does come about costs nothing of the latter: see trust().
 */
static __always_inline int share_of_verified(struct packet *pkt, const struct shield *shield,
					     struct verified *known)
{
	__u64 now = ticks(coarse_now(pkt)), cost = shield->ticks[BUDGET_VERIFIED];

	if (cost && exceeds(known->flows_at, shield->burst_ticks, now))
		return SHED_VERIFIED;
	if (pkt->its->protocol == IPPROTO_TCP) {
		if (exceeds(known->pending_at, shield->pending_burst_ticks, now))
			return SHED_VERIFIED;
		add(&known->pending_at, shield->pending_ticks, now);
	}
	add(&known->flows_at, cost, now);
	return GO_ON;
}

/* May the client open a flow of that service at this level? A rescued one is none that is new. */
static __always_inline int shed(struct packet *pkt, __u32 service)
{
	struct shield *shield = shield_now();
	struct facts *its = pkt->its;
	struct verified *known;
	int verdict;

	if (!shield || its->rescue || (its->customer & CUSTOMER_ALLOWED) ||
	    (its->mode & MODE_DISARMED))
		return GO_ON;
	if (its->protocol == IPPROTO_UDP && shield->level < LEVEL_SHEDDING &&
	    is_surge(pkt, shield, SURGE_UDP) && !verified_source(pkt))
		return SHED_SERVICE;
	if (shield->level == LEVEL_CALM)
		return GO_ON;
	NOTE(NOTED_SHIELD, shield->level, 0);
	known = its->suspicious ? 0 : verified_source(pkt);
	verdict =
		known ? share_of_verified(pkt, shield, known) : share_fairly(pkt, shield, service);
	NOTE(NOTED_BUDGET, verdict, 0);
	return verdict;
}
