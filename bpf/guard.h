/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Is the source blocked? Two bits for each /24 keep the tables away from everybody else's packets;
 * expiry is judged here, so that a block ends on time even when no agent is there to lift it.
 */
#pragma once

/* An expired /24 in a live /16 hides it: delete what has expired and look again. */
#define EXPIRED_PREFIXES_MAX 4

static __always_inline bool in_force(struct packet *pkt, struct block *block)
{
	return !block->expires_ns || block->expires_ns > coarse_now(pkt);
}

static __always_inline bool blocked_exact(struct packet *pkt, __u32 source)
{
	struct block *block = block_exact.lookup(&source);

	if (!block)
		return false;
	if (in_force(pkt, block)) {
		pkt->hit = block;
		return true;
	}
	block_exact.delete(&source);
	return false;
}

static __always_inline bool blocked_prefix(struct packet *pkt, __u32 source)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i <= EXPIRED_PREFIXES_MAX; i++) {
		struct prefix_key key = {.length = 32, .address = source};
		struct block *block = block_prefix.lookup(&key);

		if (!block)
			return false;
		if (in_force(pkt, block)) {
			pkt->hit = block;
			return true;
		}
		/* the trie deletes by exact prefix, so the entry says how long its own is */
		key.length = block->length;
		block_prefix.delete(&key);
	}
	return false;
}

static __always_inline bool blocked(struct packet *pkt, __u32 source)
{
	__u32 prefix = bpf_ntohl(source) >> 8;
	__u32 word = prefix >> 5;
	__u64 *bits = block_bits.lookup(&word);
	__u32 hint;

	if (!bits)
		return false;
	hint = *bits >> ((prefix & 31) * 2);
	if (!(hint & (BLOCK_EXACT | BLOCK_PREFIX)) || (pkt->mode & MODE_DISARMED))
		return false;
	return ((hint & BLOCK_EXACT) && blocked_exact(pkt, source)) ||
	       ((hint & BLOCK_PREFIX) && blocked_prefix(pkt, source));
}

/* Operators' own networks, on their way to the host itself. */
static __always_inline bool is_management(struct packet *pkt)
{
	struct prefix_key key = {.length = 32, .address = pkt->source};

	return management.lookup(&key) != 0;
}

/*
 * A source is looked up when nothing is cached of it, or when the policy has changed since: so a
 * block cuts live flows at once, both ways, and a steady flow never pays for a trie. What is not for
 * us is let through but for a block, and even then the operators' way in stays open.
 */
static __always_inline int admit(struct packet *pkt)
{
	if (pkt->generation && *pkt->generation == pkt->policy)
		return GO_ON;
	if (blocked(pkt, pkt->client) && (pkt->belongs || !is_management(pkt)))
		return BLOCKED;
	if (pkt->generation)
		*pkt->generation = pkt->policy;
	return pkt->belongs ? GO_ON : PASSED;
}
