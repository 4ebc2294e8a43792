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

/*
 * Is a single IPv4 address blocked by its line? If not, `elsewhere` says whether it may be in the table. All cells
 * are compared without a branch, for nothing foretells which one it is: only of its own does nothing but the end
 * remain. An end is rounded up by a tick at most; nobody but the agent frees a cell.
 */
static __always_inline bool in_line(struct packet *pkt, __u32 address, __u64 *elsewhere)
{
	__u32 index = (address * HINT_FACTOR) >> (pkt->set->block_line_shift & 63);
	struct block_line *line = block_lines.lookup(&index);
	__u64 wanted = (__u64)address << 32, end = 0;

	if (!line)
		return false;
	*elsewhere = line->elsewhere;
#pragma unroll
	for (int i = 0; i < BLOCK_CELLS; i++) {
		__u64 rest = line->cells[i] ^ wanted;
		__s64 own = (__s64)((rest >> 32) - 1) >> 63;

		asm volatile("" : "+r"(own)); /* or the compiler makes a branch of it */
		end |= rest & own;
	}
	if (!end || (end != BLOCK_FOR_EVER && end <= coarse_now(pkt) >> BLOCK_TICK_LOG))
		return false;
	NOTE(NOTED_BLOCK, WHOLE_ADDRESS, end == BLOCK_FOR_EVER ? 0 : end << BLOCK_TICK_LOG);
	return true;
}

/* The hits of a single address in the table, if it is blocked by that. */
static __always_inline __u64 *hits_in_table(struct packet *pkt, struct prefix_key *key)
{
	struct block *block = block_exact.lookup(&key->address);

	if (!block)
		return 0;
	if (in_force(pkt, block)) {
		NOTE(NOTED_BLOCK, block->length, block->expires_ns);
		return &block->hits;
	}
	NOTE(NOTED_EXPIRED, block->length, 0);
	if (WRITES)
		block_exact.delete(&key->address);
	return 0;
}

/* The hits of the longest prefix around the address that has not expired. */
static __always_inline __u64 *hits_of_prefix(struct packet *pkt, struct prefix_key *key)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i <= EXPIRED_PREFIXES_MAX; i++) {
		struct block *block = block_prefix.lookup(key);

		if (!block)
			return 0;
		if (in_force(pkt, block)) {
			NOTE(NOTED_BLOCK, block->length, block->expires_ns);
			return &block->hits;
		}
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

/* A block counts one of so many hits; a shared counter for each would cost more than the drop. */
#define HITS_PER_SAMPLE 64

/* One in HITS_PER_SAMPLE, scrambled (Fibonacci hashing), so that it does not beat with what is counted. */
static __always_inline bool hit_counts(__u64 packets)
{
	return ((__u32)packets * 0x9e3779b1u) >> 26 == 0;
}

/* Hits of a block in the tables are in its entry, those of an address in a line are not: see maps.h. */
static __always_inline void count_hit(__u64 *hits, __u32 address)
{
	__u64 first = HITS_PER_SAMPLE;
	__u32 key = BLOCKED;
	struct count *count = verdicts.lookup(&key);

	if (!count || !hit_counts(count->packets))
		return;
	if (!hits)
		hits = block_hits.lookup(&address);
	if (hits)
		ATOMIC_ADD(hits, HITS_PER_SAMPLE);
	else if (WRITES)
		block_hits.update(&address, &first);
}

static __always_inline bool blocked(struct packet *pkt, const struct address *who)
{
	__u32 tables = hint(who);
	struct prefix_key key;
	__u64 *hits = 0, elsewhere = 1;
	bool held = false;

	NOTE(NOTED_HINT, tables, 0);
	if (!tables || (pkt->its->mode & MODE_DISARMED))
		return false;
	key.length = WHOLE_ADDRESS;
	key.address = *who;
	if ((tables & BLOCK_EXACT) && is_ipv4(who))
		held = in_line(pkt, who->word[3], &elsewhere);
	if (!held && (tables & BLOCK_EXACT) && elsewhere)
		hits = hits_in_table(pkt, &key);
	if (!held && !hits && (tables & BLOCK_PREFIX))
		hits = hits_of_prefix(pkt, &key);
	if ((!held && !hits) || allowed(who))
		return false;
	count_hit(hits, who->word[3]);
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
 * Is it for an address that is routed here, but that nobody has? Scans are, and what bombs a whole prefix: the host
 * would look for a route and answer each with an error. Operators are let through; they may know better.
 */
static __always_inline bool is_unused(struct packet *pkt)
{
	struct prefix_key key = {.length = WHOLE_ADDRESS, .address = pkt->its->target};
	__u32 *use;

	if (!pkt->set->announced || pkt->set->announced < coarse_now(pkt))
		return false;
	use = announced.lookup(&key);
	return use && *use == ADDRESS_UNUSED && !is_management(pkt);
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
