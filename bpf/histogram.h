/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* How long things took, in buckets of an eighth of an octave. */
#pragma once

/* 1 where x is more, else 0: no branch, as the five below would be 32 ways for the verifier. */
static __always_inline __u32 is_more(__u64 x, __u64 than)
{
	__u64 difference = than - x;

	asm volatile("" : "+r"(difference));
	return difference >> 63;
}

static __always_inline __u32 bucket_of(__u32 us)
{
	__u32 octave, rest = us | 1, shift, bucket;

	octave = is_more(rest, 0xffff) << 4;
	rest >>= octave;
	shift = is_more(rest, 0xff) << 3;
	rest >>= shift;
	octave += shift;
	shift = is_more(rest, 0xf) << 2;
	rest >>= shift;
	octave += shift;
	shift = is_more(rest, 3) << 1;
	rest >>= shift;
	octave += shift + (rest >> 1);
	/* the three bits below the leading one */
	bucket = octave * 8 + (octave >= 3 ? (us >> (octave - 3)) & 7 : 0);
	/* the compiler knows the bound and would drop the mask, the verifier wants to see it */
	asm volatile("" : "+r"(bucket));
	return bucket & (HISTOGRAM_BUCKETS - 1);
}

static __always_inline void record_handshake(__u32 cdn, __u32 us)
{
	struct histogram *histogram = handshakes.lookup(&cdn);
	struct cdn_count *count = count_of(cdn);
	__u32 bucket = bucket_of(us);

	if (histogram)
		COUNT(histogram->bucket[bucket], 1);
	if (count)
		COUNT(count->handshakes, 1);
}

/* From a client's request to the first byte of the reply, by where the client is and what it is for. */
static __always_inline void record_first_byte(struct packet *pkt, struct slot *slot, __u64 ns)
{
	__u32 id = (pkt->its->cdn * MAX_REGIONS + slot->region) * CLASSES + slot->traffic_class;
	struct histogram *histogram = first_bytes.lookup(&id);
	__u64 us = ns / NS_PER_US;

	if (histogram)
		COUNT(histogram->bucket[bucket_of(us < 0xffffffff ? us : 0xffffffff)], 1);
}
