/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * How sources behave, and what a model makes of it. Only while there is one: its word is in the settings.
 *
 * Whoever asks for a flow is looked up at one of two places. There stands what he has asked for of late, how much
 * of it came to something, and in what manner; from that come a few numbers, the features, and from these the
 * score. He who is suspicious gets fewer flows than others: `times` as long must pass since his last one as his
 * budget asks for, and having proved where he is (shed.h) gives him none of his own. Nobody is banned for it. What we
 * refuse him makes nobody more suspicious: only of flows that were let in it counts what became of them.
 *
 * A place is its holder's while he comes back: for a minute when he has ever finished a handshake, else for a
 * quarter of a second. So a flood from addresses that nobody has takes places from its like alone, and who finds
 * none is judged by this one flow, as one who is new.
 */
#pragma once

#define MANNER_HALVED_LOG 14 /* of moments */
#define MANNER_KEPT (1 << 16)
#define MANNER_PASSING (1 << 8)
#define MANNER_MOST (1 << 24) /* of what is counted */
#define MANNER_OLDEST 31      /* halvings; of 32 bits nothing is left then */
#define MEAN_SHIFT 2	      /* what is new is a quarter of a mean */

/* Is there a model, and a stranger's flow for it? A rescued one is none that is new. */
static __always_inline bool is_weighed(struct packet *pkt)
{
	return pkt->set->model && !pkt->its->rescue && !(pkt->its->customer & CUSTOMER_ALLOWED);
}

/* In a stage that begins or ends flows: does it have to be noted on the way out? */
static __always_inline int noted(struct packet *pkt, int verdict)
{
	if ((verdict != TO_CDN && verdict != TO_CLIENT && verdict != TO_CLAMPING) ||
	    !pkt->its->happened || !pkt->set->model)
		return verdict;
	pkt->its->after = verdict;
	return TO_NOTING;
}

/* -- places -- */

/* A source in one word: an IPv4 address, or the /64 of one of IPv6. */
static __always_inline __u64 word_of_source(struct packet *pkt)
{
	const struct address *who = &pkt->its->client;

	return is_ipv4(who) ? (__u64)who->word[3] << 32 : who->word[0] | (__u64)who->word[1] << 32;
}

static __always_inline bool is_of(const struct manner *held, __u64 source)
{
	return *(const __u64 *)held->source == source;
}

/* May somebody else have it? */
static __always_inline bool is_given_up(const struct manner *held, __u32 now)
{
	return now - held->seen > (held->proven ? MANNER_KEPT : MANNER_PASSING);
}

/* The place of a source, or with `take` one that it may have; 0: none. */
static __always_inline struct manner *place_of_source(struct packet *pkt, __u64 source, bool take)
{
	__u32 hash = mix(source ^ pkt->set->seed), now = moment_of(coarse_now(pkt));
	__u32 first = hash & (MANNERS - 1), second = (hash >> 16) & (MANNERS - 1);
	struct manner *one = manners.lookup(&first), *other = manners.lookup(&second);

	if (!one || !other)
		return 0;
	if (is_of(one, source))
		return one;
	if (is_of(other, source))
		return other;
	if (!take)
		return 0;
	if (is_given_up(one, now))
		return one;
	return is_given_up(other, now) ? other : 0;
}

/* -- features -- */

static __always_inline __u32 share_of(__u32 part, __u32 whole)
{
	return whole ? (part < whole ? part * 255ULL / whole : 255) : 0;
}

static __always_inline __u32 beyond(__u32 all, __u32 part)
{
	return all > part ? all - part : 0;
}

static __always_inline __u32 mean(__u32 before, __u32 new)
{
	return before + ((__s32)(new - before) >> MEAN_SHIFT);
}

/* Some time has passed since it was last here, and now it asks for another flow. */
static __always_inline void grow_older(struct packet *pkt, struct manner *m, __u32 now)
{
	__u32 halvings = (now >> MANNER_HALVED_LOG) - (m->seen >> MANNER_HALVED_LOG);
	__u32 bytes = pkt->its->length < 2047 ? pkt->its->length : 2047;
	bool again = m->flows;

	if (halvings > MANNER_OLDEST)
		halvings = MANNER_OLDEST;
	m->flows >>= halvings;
	m->begun >>= halvings;
	m->proven >>= halvings;
	m->ended >>= halvings;
	m->fruitless >>= halvings;
	m->bytes = again ? mean(m->bytes, bytes) : bytes;
	m->gap = again ? mean(m->gap, now - m->seen) : 0;
	m->seen = now;
}

/* Of the flows so far: this one can have come to nothing yet. */
static __always_inline void take_features(struct manner *m, __u32 now)
{
	__u32 open = beyond(m->proven, m->ended);

	m->feature[FEATURE_RATE] = bucket_of(m->flows);
	m->feature[FEATURE_UNFINISHED] = share_of(beyond(m->begun, m->proven), m->begun);
	m->feature[FEATURE_OPEN] = bucket_of(open);
	m->feature[FEATURE_HELD] = share_of(open, m->proven);
	m->feature[FEATURE_FRUITLESS] = share_of(m->fruitless, m->ended);
	m->feature[FEATURE_GAP] = bucket_of(m->gap);
	m->feature[FEATURE_BYTES] = m->bytes >> 3;
	m->feature[FEATURE_KNOWN] = bucket_of(now - m->first);
}

static __always_inline __s64 score_of(const struct manner *m, const struct model *model)
{
	__s64 score = model->bias;

#pragma unroll
	for (int i = 0; i < FEATURES; i++)
		score += (__s64)model->weight[i] * m->feature[i];
	return score;
}

/* -- weighing -- */

/* Is it too early for another flow of one who is suspicious? */
static __always_inline bool is_too_early(struct packet *pkt, const struct manner *m, __u32 now,
					 __u32 times)
{
	struct shield *shield = shield_now();

	if (!shield || shield->level == LEVEL_CALM || (pkt->its->mode & MODE_DISARMED))
		return false;
	return m->begun &&
	       now - m->begun_at < moment_of(shield->ticks[BUDGET_SOURCE] * times / TICKS_PER_NS);
}

/* A new flow of a source: is that suspicious? */
static __always_inline int weigh(struct packet *pkt)
{
	__u32 which = !!(pkt->set->model & MODEL_SECOND), mode = pkt->set->model & 3;
	struct model *model = models.lookup(&which);
	__u32 now = moment_of(coarse_now(pkt));
	__u64 source = word_of_source(pkt);
	struct manner *place, m = {};

	if (!model)
		return TO_LETTING_IN;
	place = place_of_source(pkt, source, true);
	m.first = now;
	if (place && is_of(place, source))
		m = *place;
	*(__u64 *)m.source = source;
	grow_older(pkt, &m, now);
	take_features(&m, now);
	m.score = score_of(&m, model);
	if (m.flows < MANNER_MOST)
		m.flows += MANNER_ONE;
	if (place)
		COPY(place, &m, sizeof(m));
	NOTE(NOTED_FEATURES, *(__u64 *)m.feature, 0);
	NOTE(NOTED_MODEL, m.score, mode);
	if (m.score <= 0 || mode != MODEL_ON)
		return TO_LETTING_IN;
	pkt->its->suspicious = 1;
	return is_too_early(pkt, &m, now, model->times) ? SHED_SUSPECT : TO_LETTING_IN;
}

/* Was its client answered nothing: neither when it asked, nor because it never did? */
static __always_inline bool is_fruitless(struct packet *pkt)
{
	struct slot *slot = reverse.lookup(&pkt->its->slot_index);
	struct flow_key key = {};
	struct flow *flow;

	if (!slot)
		return false;
	if (slot->flags & FLOW_ASKED)
		return true;
	flow = owner_key(slot, slot->owner, &key) ? established.lookup(&key) : 0;
	return flow && bpf_ntohl(flow->cdn_isn) + 1 == slot->isn;
}

/* A flow is let in, its handshake is finished, or it has ended. */
static __always_inline void note_happening(struct packet *pkt)
{
	struct manner *place = place_of_source(pkt, word_of_source(pkt), false);
	__u8 happened = pkt->its->happened;

	if (!place)
		return;
	if (happened & A_BEGINNING) {
		SET(place->begun, place->begun + MANNER_ONE);
		SET(place->begun_at, moment_of(coarse_now(pkt)));
	}
	if (happened & A_PROOF)
		SET(place->proven, place->proven + MANNER_ONE);
	if (!(happened & AN_END))
		return;
	SET(place->ended, place->ended + MANNER_ONE);
	if (is_fruitless(pkt))
		SET(place->fruitless, place->fruitless + MANNER_ONE);
}

static __always_inline int watch_source(struct packet *pkt)
{
	__u32 after = pkt->its->after;

	if (pkt->its->onward == TO_WEIGHING)
		return weigh(pkt);
	note_happening(pkt);
	pkt->its->happened = 0;
	return after == TO_CDN || after == TO_CLAMPING ? after : TO_CLIENT;
}
