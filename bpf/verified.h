/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Sources that have proved where they are. Whoever sends from addresses that are not his never does, so no
 * flood makes an entry here, nor evicts one.
 */
#pragma once

static __always_inline struct shield *shield_now(void)
{
	__u32 zero = 0;

	return shields.lookup(&zero);
}

/* The entry of the packet's source while it is good; else 0. */
static __always_inline struct verified *verified_source(struct packet *pkt)
{
	struct address source;
	struct verified *known;

	source_of(pkt, &source);
	known = verified.lookup(&source);
	if (!known || known->until_ns <= coarse_now(pkt))
		return 0;
	NOTE(NOTED_STANDING, STANDING_VERIFIED, known->until_ns);
	return known;
}

/*
 * From now on the source is verified, if it is `certain` that it is where it says. Written when half of the time is
 * over, not for each flow: the entry is shared by all CPUs. A connection that has come about is given back what it
 * was charged while it had not; without a branch, as all that follows would be walked once more.
 */
static __always_inline void trust(struct packet *pkt, bool certain, bool came_about)
{
	struct shield *shield = shield_now();
	struct verified fresh = {}, *known;
	__u64 now = coarse_now(pkt), owed;
	struct address source;

	source_of(pkt, &source);
	known = verified.lookup(&source);
	if (!shield)
		return;
	if (known && came_about) {
		owed = ((__s64)(ticks(now) - known->pending_at) >> 63) & shield->pending_ticks;
		ATOMIC_SUB(&known->pending_at, owed);
	}
	if (!certain || (known && known->until_ns >= now + shield->trust_ns / 2))
		return;
	fresh.until_ns = now + shield->trust_ns;
	if (known) {
		fresh.flows_at = known->flows_at;
		fresh.pending_at = known->pending_at;
	}
	if (WRITES)
		verified.update(&source, &fresh);
}
