/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Rates, kept by one word each that all CPUs share (GCRA; see struct limit). */
#pragma once

#define CHARGE_TRIES 4

static __always_inline __u64 ticks(__u64 ns)
{
	return ns * TICKS_PER_NS;
}

/* Would one more unit come too early? */
static __always_inline bool exceeds(__u64 at, __u64 burst_ticks, __u64 now_ticks)
{
	return at > now_ticks && at - now_ticks > burst_ticks;
}

/* Take `cost` from it; false when it is used up, and then nothing is taken. */
static __always_inline bool charge(__u64 *at, __u64 cost, __u64 burst_ticks, __u64 now_ticks)
{
#pragma clang loop unroll(disable)
	for (int try = 0; try < CHARGE_TRIES; try++) {
		__u64 before = *(volatile __u64 *)at;

		if (exceeds(before, burst_ticks, now_ticks))
			return false;
		if (SWAP_IF(at, before, (before > now_ticks ? before : now_ticks) + cost) == before)
			return true;
	}
	ATOMIC_ADD(at, cost); /* the other CPUs were quicker each time: it is busy, and not idle */
	return true;
}
