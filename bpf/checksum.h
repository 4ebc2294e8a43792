/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Internet checksums by what changed (RFC 1624). */
#pragma once

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* One's complement sum of the halves of a word. */
static __always_inline __u32 halves(__u32 word)
{
	return (word & 0xffff) + (word >> 16);
}

/* The same of an address. The words that make an IPv4 one a mapped one cancel out in a delta. */
static __always_inline __u32 halves_of(const struct address *a)
{
	return halves(a->word[0]) + halves(a->word[1]) + halves(a->word[2]) + halves(a->word[3]);
}

/* What a sum changes by when this half of a word does. */
static __always_inline __u32 change(__u16 from, __u16 to)
{
	return (__u16)~from + to;
}

/* Delta that turns a checksum over `from` into one over `to`: HC' = ~(~HC + ~m + m'). */
static __always_inline __u16 checksum_delta(__u32 from_sum, __u32 to_sum)
{
	return fold(to_sum + (__u16)~fold(from_sum));
}

static __always_inline __u16 checksum_apply(__u16 check, __u32 delta)
{
	return ~fold((__u16)~check + delta);
}
