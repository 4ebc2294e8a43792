/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Rates, kept by one word each that all CPUs share (GCRA; see struct limit). */
#pragma once

static __always_inline __u64 ticks(__u64 ns)
{
	return ns * TICKS_PER_NS;
}

static __always_inline bool is_limited(const struct limit *limit)
{
	return limit->packet_ticks | limit->kib_ticks | limit->flow_ticks;
}

static __always_inline __u64 byte_ticks(const struct limit *limit, __u32 bytes)
{
	return (bytes * limit->kib_ticks) >> 10;
}

/* Would one more unit come too early? */
static __always_inline bool exceeds(__u64 at, __u64 burst_ticks, __u64 now_ticks)
{
	return at > now_ticks && at - now_ticks > burst_ticks;
}

/* What `at` held before is what decides; nothing is lost when another CPU adds meanwhile. */
static __always_inline void add(__u64 *at, __u64 cost, __u64 now_ticks)
{
	__u64 before = *(volatile __u64 *)at;

	if (before < now_ticks)
		SWAP_IF(at, before, now_ticks); /* it was idle; or the other CPU has just said so */
	ATOMIC_ADD(at, cost);
}

/*
 * Add what nobody can refuse. It fills the bucket and no more than that: what was too much is over when it
 * is over, and not paid for until long afterwards.
 */
static __always_inline void pour(__u64 *at, __u64 cost, __u64 burst_ticks, __u64 now_ticks)
{
	__u64 before = *(volatile __u64 *)at;

	if (exceeds(before, burst_ticks, now_ticks))
		SWAP_IF(at, before, now_ticks + burst_ticks);
	add(at, cost, now_ticks);
}
