/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Count each packet once, sample it, tell the agent what happened, answer the driver. */
#pragma once

/* A blocked prefix counts one of so many hits; a shared counter for each would cost more than the drop. */
#define HITS_PER_SAMPLE 64

/* One in HITS_PER_SAMPLE, scrambled (Fibonacci hashing), so that it does not beat with what is counted. */
static __always_inline bool hit_counts(__u64 packets)
{
	return ((__u32)packets * 0x9e3779b1u) >> 26 == 0;
}

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
 * Bytes towards a CDN's capacity, billed by heaps: a word that all CPUs share is too dear for each packet,
 * and a heap is a fraction of a millisecond of any link worth limiting.
 */
#define HEAP_BYTES 16384

static __always_inline void bill(struct packet *pkt, __u32 cdn)
{
	struct cpu_state *cpu = this_cpu();
	__u64 now = ticks(coarse_now(pkt)), before;
	struct limit *capacity;
	struct meter *load;
	__u32 bytes;

	if (!cpu || cdn >= MAX_CDNS)
		return;
	bytes = cpu->unbilled[cdn] + pkt->its->bytes;
	if (bytes < HEAP_BYTES) {
		cpu->unbilled[cdn] = bytes;
		return;
	}
	cpu->unbilled[cdn] = 0;
	capacity = capacities.lookup(&cdn);
	load = loads.lookup(&cdn);
	if (!capacity || !load || !capacity->kib_ticks)
		return;
	before = load->bytes_at;
	if (before < now)
		SWAP_IF(&load->bytes_at, before, now);
	ATOMIC_ADD(&load->bytes_at, (bytes * capacity->kib_ticks) >> 10);
}

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
		if (pkt->hit && verdict == BLOCKED && hit_counts(count->packets))
			ATOMIC_ADD(&pkt->hit->hits, HITS_PER_SAMPLE);
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
	if (verdict != BYPASSED)
		sample(pkt, verdict);
	if (its->mode & MODE_OBSERVE)
		return XDP_PASS;
	if (verdict == PASSED || verdict == BYPASSED || verdict == HANDED)
		return XDP_PASS;
	return verdict < FIRST_DROP ? pkt->action : XDP_DROP;
}
