/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Is the source blocked? Two bits for its network keep the tables away from everybody else's packets;
 * expiry is judged here, so that a block ends on time even when no agent is there to lift it.
 */
#pragma once

#define WHOLE_ADDRESS 128
/* An expired /24 in a live /16 hides it: delete what has expired and look again. */
#define EXPIRED_PREFIXES_MAX 4
/* 2^64 over the golden ratio (Knuth's multiplicative hashing): the high bits are the good ones. */
#define HINT_FACTOR 0x9e3779b97f4a7c15ULL
#define HINT6_CELLS_LOG 20 /* 32 in each of BLOCK6_WORDS */
#define ND_HOP_LIMIT 255
#define ND_FIRST 133 /* router solicitation */
#define ND_LAST 137  /* redirect */

/* The two bits of a cell, in its word of 32. */
static __always_inline __u32 hint_in(__u64 *word, __u32 cell)
{
	return word ? (*word >> (cell % 32 * 2)) & (BLOCK_EXACT | BLOCK_PREFIX) : 0;
}

/* cdnctl/datapath/hints.py sets the bits by the same hash of a /48. */
static __always_inline __u32 hint6_cell(const struct address *who)
{
	__u64 site = ((__u64)bpf_ntohl(who->word[0]) << 16) | (bpf_ntohl(who->word[1]) >> 16);

	return (site * HINT_FACTOR) >> (64 - HINT6_CELLS_LOG);
}

/* Which tables may know the address: BLOCK_EXACT, BLOCK_PREFIX, both or none. */
static __always_inline __u32 hint(const struct address *who)
{
	__u32 zero = 0, cell, word, *wide;

	if (is_ipv4(who)) {
		cell = bpf_ntohl(who->word[3]) >> (32 - BLOCK_CELL);
		word = cell / 32;
		return hint_in(block_bits.lookup(&word), cell);
	}
	cell = hint6_cell(who);
	word = cell / 32;
	wide = block_wide.lookup(&zero);
	return hint_in(block6_bits.lookup(&word), cell) | (wide && *wide ? BLOCK_PREFIX : 0);
}

static __always_inline bool in_force(struct packet *pkt, struct block *block)
{
	return !block->expires_ns || block->expires_ns > coarse_now(pkt);
}

static __always_inline struct block *exact_block(struct packet *pkt, struct prefix_key *key)
{
	struct block *block = block_exact.lookup(&key->address);

	if (!block || in_force(pkt, block))
		return block;
	NOTE(NOTED_EXPIRED, block->length, 0);
	if (WRITES)
		block_exact.delete(&key->address);
	return 0;
}

/* The longest prefix around the address that has not expired. */
static __always_inline struct block *prefix_block(struct packet *pkt, struct prefix_key *key)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i <= EXPIRED_PREFIXES_MAX; i++) {
		struct block *block = block_prefix.lookup(key);

		if (!block || in_force(pkt, block))
			return block;
		NOTE(NOTED_EXPIRED, block->length, 0);
		/* the trie deletes by exact prefix, so the entry says how long its own is */
		key->length = block->length;
		if (WRITES)
			block_prefix.delete(key);
		key->length--; /* what is next around it is shorter */
	}
	return 0;
}

/* Only asked about a source that is blocked: nobody else pays for the trie. */
static __always_inline bool allowed(const struct address *who)
{
	struct prefix_key key = {.length = WHOLE_ADDRESS, .address = *who};
	__u32 zero = 0, *prefixes = allowed_prefixes.lookup(&zero);
	struct client *client;

	if (!prefixes || !*prefixes)
		return false;
	client = clients.lookup(&key);
	if (!client || !(client->flags & CLIENT_ALLOWED))
		return false;
	NOTE(NOTED_EXEMPT, EXEMPT_ALLOWED, 0);
	return true;
}

/* A blocked prefix counts one of so many hits; a shared counter for each would cost more than the drop. */
#define HITS_PER_SAMPLE 64

/* One in HITS_PER_SAMPLE, scrambled (Fibonacci hashing), so that it does not beat with what is counted. */
static __always_inline bool hit_counts(__u64 packets)
{
	return ((__u32)packets * 0x9e3779b1u) >> 26 == 0;
}

static __always_inline void count_hit(struct block *block)
{
	__u32 key = BLOCKED;
	struct count *count = verdicts.lookup(&key);

	if (count && hit_counts(count->packets))
		ATOMIC_ADD(&block->hits, HITS_PER_SAMPLE);
}

static __always_inline bool blocked(struct packet *pkt, const struct address *who)
{
	__u32 tables = hint(who);
	struct block *block = 0;
	struct prefix_key key;

	NOTE(NOTED_HINT, tables, 0);
	if (!tables || (pkt->its->mode & MODE_DISARMED))
		return false;
	key.length = WHOLE_ADDRESS;
	key.address = *who;
	if (tables & BLOCK_EXACT)
		block = exact_block(pkt, &key);
	if (!block && (tables & BLOCK_PREFIX))
		block = prefix_block(pkt, &key);
	if (!block)
		return false;
	NOTE(NOTED_BLOCK, block->length, block->expires_ns);
	if (allowed(who))
		return false;
	count_hit(block);
	return true;
}

/* Operators' own networks, on their way to the host itself. */
static __always_inline bool is_management(struct packet *pkt)
{
	struct prefix_key key = {.length = WHOLE_ADDRESS, .address = pkt->its->source};

	bool found = management.lookup(&key) != 0;

	if (found)
		NOTE(NOTED_EXEMPT, EXEMPT_MANAGEMENT, 0);
	return found;
}

/*
 * Does it ask for, or tell, who is whose neighbour? What ARP does for IPv4 below the network layer
 * IPv6 does with packets, and a block that covers a router must not take the link away. That the hop
 * limit is whole says that it comes from this link (RFC 4861, 6.1 and 7.1).
 */
static __always_inline bool finds_neighbours(struct packet *pkt)
{
	struct ipv6hdr *ip;
	__u8 *type;

	if (pkt->its->family != 6)
		return false;
	ip = header_at(pkt, pkt->its->l3, sizeof(*ip) + sizeof(*type));
	if (!ip || ip->nexthdr != IPPROTO_ICMPV6 || ip->hop_limit != ND_HOP_LIMIT)
		return false;
	type = (void *)(ip + 1);
	return *type >= ND_FIRST && *type <= ND_LAST;
}

/*
 * A source is looked up when nothing is cached of it, or when the policy has changed since: so a
 * block cuts live flows at once, both ways, and a steady flow never pays for a trie. What is not for
 * us is let through but for a block, and even then the operators' way in stays open.
 */
static __always_inline int admit(struct packet *pkt)
{
	struct facts *its = pkt->its;

	if (pkt->generation && *pkt->generation == its->policy) {
		NOTE(NOTED_ADMITTED, its->policy, 0);
		return GO_ON;
	}
	if (blocked(pkt, &its->client) && !finds_neighbours(pkt) &&
	    (its->ours == LOCAL_VIP || its->belongs > TO_SOMETHING || !is_management(pkt)))
		return BLOCKED;
	if (pkt->generation) {
		know_customer(pkt);
		SET(*pkt->generation, its->policy);
	}
	return its->belongs ? GO_ON : PASSED;
}
