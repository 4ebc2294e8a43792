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
		.at_ns = pkt->now,
		.kind = kind,
		.reason = reason,
		.endpoint = endpoint,
		.to_endpoint = to,
		.value = value,
		.ejections = ejections,
	};

	events.perf_submit(pkt->ctx, &event, sizeof(event));
}

/*
 * One packet in sample_one_in on average, at random distances: a fixed stride would beat with
 * periodic senders, and a coin for each packet would cost more and vary more.
 */
static __always_inline void sample(struct packet *pkt, int verdict)
{
	__u32 zero = 0, one_in, drawn;
	struct cpu_state *cpu = cpu_states.lookup(&zero);
	struct sample sample = {};

	if (!cpu || !pkt->set)
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
	sample.source = pkt->source;
	sample.target = pkt->target;
	sample.source_port = pkt->source_port;
	sample.target_port = pkt->target_port;
	sample.length = pkt->bytes;
	sample.verdict = verdict;
	sample.cdn = pkt->cdn;
	sample.one_in = drawn;
	samples.perf_submit(pkt->ctx, &sample, sizeof(sample));
}

static __always_inline int report(struct packet *pkt, int verdict)
{
	__u32 key = verdict;
	struct count *count = verdicts.lookup(&key);
	struct cdn_count *cdn;

	if (count) {
		count->packets++;
		count->bytes += pkt->bytes;
		if (pkt->hit && verdict == BLOCKED && hit_counts(count->packets))
			__sync_fetch_and_add(&pkt->hit->hits, HITS_PER_SAMPLE);
	}
	if (verdict == FORWARDED || verdict == REPLIED) {
		cdn = count_of(pkt->cdn);
		if (cdn) {
			count = verdict == FORWARDED ? &cdn->to_cdn : &cdn->from_cdn;
			count->packets++;
			count->bytes += pkt->bytes;
		}
	}
	if (verdict != BYPASSED)
		sample(pkt, verdict);
	switch (verdict) {
	case PASSED:
	case BYPASSED:
		return XDP_PASS;
	case FORWARDED:
	case REPLIED:
	case RESET_CLIENT:
	case RESET_CDN:
		return pkt->action;
	default:
		return XDP_DROP;
	}
}
