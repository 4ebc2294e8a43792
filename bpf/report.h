/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Count each packet once, sample it, tell the agent what happened, answer the driver. */
#pragma once

static __always_inline struct cdn_count *count_of(__u32 cdn)
{
	return cdn_counts.lookup(&cdn);
}

static __always_inline void tell(struct packet *pkt, __u32 kind, __u32 reason, __u32 endpoint,
				 __u32 to, __u32 value, __u32 ejections)
{
	struct event event = {
		.at_ns = pkt->its->now,
		.kind = kind,
		.reason = reason,
		.endpoint = endpoint,
		.to_endpoint = to,
		.value = value,
		.ejections = ejections,
	};

	NOTE(NOTED_EVENT, kind | reason << 8, endpoint);
	if (WRITES)
		events.perf_submit(pkt->ctx, &event, sizeof(event));
}

/*
 * One packet in sample_one_in on average, at random distances: a fixed stride would beat with
 * periodic senders, and a coin for each packet would cost more and vary more.
 */
static __always_inline void sample(struct packet *pkt, int verdict)
{
	__u32 one_in, drawn;
	struct cpu_state *cpu = this_cpu();
	struct facts *its = pkt->its;
	struct sample sample = {};

	if (!cpu)
		return;
	one_in = pkt->set->sample_one_in;
	if (!one_in)
		return;
	/* a distance drawn when N was much larger must not blind us now */
	if (cpu->until_sample > 2 * one_in)
		cpu->until_sample = 2 * one_in;
	if (cpu->until_sample > 1) {
		cpu->until_sample--;
		return;
	}
	drawn = cpu->sample_one_in ? cpu->sample_one_in : one_in;
	cpu->sample_one_in = one_in;
	cpu->until_sample = 1 + (bpf_get_prandom_u32() % (2 * one_in - 1));
	sample.source = its->source;
	sample.target = its->target;
	sample.source_port = its->source_port;
	sample.target_port = its->target_port;
	sample.length = its->bytes < 0xffff ? its->bytes : 0xffff;
	sample.verdict = verdict;
	sample.cdn = its->cdn;
	sample.protocol = its->protocol;
	sample.tcp_flags = its->flags;
	sample.one_in = drawn;
	if (WRITES)
		samples.perf_submit(pkt->ctx, &sample, sizeof(sample));
}

/*
 * Bytes towards a CDN's capacity, billed by heaps: a word that all CPUs share is too dear for each packet.
 * A heap is small against what may come at once, or it alone would fill a CDN.
 */
#define HEAP_BYTES 16384
#define HEAPS_A_BURST 16

static __always_inline void bill(struct packet *pkt, __u32 cdn)
{
	struct limit *capacity = capacities.lookup(&cdn);
	__u32 own = cdn;
	struct cpu_state *cpu;
	struct meter *load;
	__u32 bytes;
	__u64 cost;

	if (!capacity || !capacity->kib_ticks)
		return;
	/* it is one, or it had no capacity: but the verifier wants to see the bound */
	asm volatile("" : "+r"(own));
	own &= MAX_CDNS - 1;
	cpu = this_cpu();
	load = loads.lookup(&cdn);
	if (!cpu || !load)
		return;
	bytes = cpu->unbilled[own] + pkt->its->bytes;
	cost = byte_ticks(capacity, bytes);
	if (bytes < HEAP_BYTES && cost < capacity->burst_ticks / HEAPS_A_BURST) {
		cpu->unbilled[own] = bytes;
		return;
	}
	cpu->unbilled[own] = 0;
	pour(&load->bytes_at, cost, capacity->burst_ticks, ticks(coarse_now(pkt)));
}

/* -- customers -- */

static __always_inline struct customer_count *count_of_customer(struct packet *pkt)
{
	__u32 id = pkt->its->customer & (MAX_CUSTOMERS - 1);

	return id ? customer_counts.lookup(&id) : 0;
}

static __always_inline void count_customer_flow(struct packet *pkt)
{
	struct customer_count *count = pkt->its->rescue ? 0 : count_of_customer(pkt);

	if (count)
		COUNT(count->flows, 1);
}

static __always_inline void count_customer(struct packet *pkt, int verdict)
{
	struct customer_count *of = count_of_customer(pkt);
	struct count *count;

	if (!of)
		return;
	if (verdict == FORWARDED || verdict == REPLIED || verdict == HANDED)
		count = &of->passed;
	else if (verdict >= OVER_QUOTA && verdict <= OVER_SOURCE_QUOTA)
		count = &of->dropped;
	else
		return;
	COUNT(count->packets, 1);
	COUNT(count->bytes, pkt->its->bytes);
	if (verdict == OVER_FLOW_QUOTA)
		COUNT(of->flows_refused, 1);
}

/* -- the last word -- */

static __always_inline int report(struct packet *pkt, int verdict)
{
	__u32 key = verdict;
	struct count *count = verdicts.lookup(&key);
	struct facts *its = pkt->its;
	struct cdn_count *cdn;

	if (!its)
		return XDP_PASS; /* not even the settings are there */
	NOTE(NOTED_VERDICT, verdict, its->cdn);
	if (count) {
		COUNT(count->packets, 1);
		COUNT(count->bytes, its->bytes);
	}
	if (verdict == FORWARDED || verdict == REPLIED || verdict == HANDED) {
		cdn = count_of(its->cdn);
		if (cdn) {
			count = verdict == REPLIED ? &cdn->from_cdn : &cdn->to_cdn;
			COUNT(count->packets, 1);
			COUNT(count->bytes, its->bytes);
			bill(pkt, its->cdn);
		}
	}
	if (its->customer)
		count_customer(pkt, verdict);
	if (verdict != BYPASSED)
		sample(pkt, verdict);
	if (its->mode & MODE_OBSERVE)
		return XDP_PASS;
	if (verdict == PASSED || verdict == BYPASSED || verdict == HANDED)
		return XDP_PASS;
	return verdict < FIRST_DROP ? pkt->action : XDP_DROP;
}
