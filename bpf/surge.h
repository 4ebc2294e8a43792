/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Surges: far more new flows than any level below siege is meant for. The agent raises the level within two tenths
 * of a second; in these a flood would fill tables and links behind the box, so what is beyond an allowance does
 * not wait for it: of TCP it is challenged as in siege, of UDP only verified sources are let in. What is within is
 * let in as ever, so nobody notices a burst.
 */
#pragma once

#define SURGE_BURST_TICKS (50000000ULL * TICKS_PER_NS)
#define SURGE_PROOFS_NS \
	10000000000ULL /* for so long proofs may come of challenges that a surge made */

static __always_inline struct surge *surge_of(__u32 which)
{
	return surges.lookup(&which);
}

/* Is the packet beyond the allowance of its kind? A level that an operator holds has none. */
static __always_inline bool is_surge(struct packet *pkt, const struct shield *shield, __u32 which)
{
	__u64 now = coarse_now(pkt);
	struct surge *surge = surge_of(which);

	if (!surge || !shield->surge_ticks)
		return false;
	if (exceeds(surge->flows_at, SURGE_BURST_TICKS, ticks(now))) {
		SET(surge->last_ns, now);
		return true;
	}
	add(&surge->flows_at, shield->surge_ticks, ticks(now));
	return false;
}

/* Was anybody challenged for one of late? */
static __always_inline bool proofs_may_come(struct packet *pkt)
{
	struct surge *surge = surge_of(SURGE_TCP);

	return surge && surge->last_ns && age_ns(coarse_now(pkt), surge->last_ns) < SURGE_PROOFS_NS;
}
