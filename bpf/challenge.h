/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Siege, or a surge before it: who opens a TCP connection has to prove first that he is where he says, and costs us no memory before.
 *
 * His SYN is answered with an ACK of a number of ours instead of his. A real stack, which has sent nothing of
 * the kind, resets that by this very number (RFC 9293, 3.10.7.3): so the number, which only we can compute and
 * only its receiver knows, comes back, and his address is verified. Then he sends his SYN again, Linux at once. A
 * source that is spoofed gets the ACK in vain, and no CDN hears of it.
 *
 * It is no SYN-ACK, which stacks reset all the same, since stateful firewalls remember a SYN-ACK's sequence number:
 * Linux's conntrack then takes half of all clients' real handshakes for invalid, by the chance of which number is the
 * larger. An ACK in the middle of a handshake it lets through untouched, as one that a server may send which knows
 * an older connection on these ports (RFC 5961, 4), and the reset, too, if it "acknowledges" where that ACK ended:
 * bare resets have 0 there, and so our sequence number is 0.
 *
 * Some firewalls drop what does not fit the connection they watch. Who is behind one sends his SYN again after a
 * second, the same in every number: he is let in within the budgets of all that are unverified. SYNs are remembered
 * for that by a mark, in a table that a flood overwrites, but does not fill.
 */
#pragma once

#define RETRY_LONGEST_NS 8000000000ULL /* stacks ask again after 1, 3 and 7 s */

/* -- the cookie: SipHash-2-4 (Aumasson and Bernstein, 2012) -- */

struct sip {
	__u64 v0, v1, v2, v3;
};

static __always_inline __u64 rotate(__u64 word, int bits)
{
	return (word << bits) | (word >> (64 - bits));
}

static __always_inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v1 = rotate(s->v1, 13) ^ s->v0;
	s->v0 = rotate(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotate(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotate(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotate(s->v1, 17) ^ s->v2;
	s->v2 = rotate(s->v2, 32);
}

static __always_inline void sip_take(struct sip *s, __u64 word)
{
	s->v3 ^= word;
	sip_round(s);
	sip_round(s);
	s->v0 ^= word;
}

/* Of who asks whom, by all their numbers but the sequence, which the reset does not have. */
static __always_inline __u32 cookie_of(const struct facts *its, const __u64 *key)
{
	__u64 ends = its->source_port | (__u64)its->target_port << 16 | (__u64)its->index << 32;
	struct sip s = {
		.v0 = key[0] ^ 0x736f6d6570736575ULL,
		.v1 = key[1] ^ 0x646f72616e646f6dULL,
		.v2 = key[0] ^ 0x6c7967656e657261ULL,
		.v3 = key[1] ^ 0x7465646279746573ULL,
	};

	sip_take(&s, its->source.word[0] | (__u64)its->source.word[1] << 32);
	sip_take(&s, its->source.word[2] | (__u64)its->source.word[3] << 32);
	sip_take(&s, ends);
	sip_take(&s, 24ULL << 56); /* bytes so far, as the padding has it */
	s.v2 ^= 0xff;
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

static __always_inline __u32 cookie_by(struct packet *pkt, const struct shield *shield, __u32 which)
{
	return cookie_of(pkt->its, shield->key[which & 1]);
}

/* -- a second try -- */

/*
 * Has this SYN come before, as long ago as a real stack waits? One that is new is remembered, in place of
 * the oldest in its set.
 */
static __always_inline bool is_second_try(struct packet *pkt, const struct shield *shield)
{
	struct facts *its = pkt->its;
	__u64 ends = (__u64)its->source_port << 16 | its->target_port | (__u64)its->index << 32;
	__u32 who = mix((__u64)pkt->set->seed << 32 | fold_address(&its->source));
	__u32 mark = mix((ends << 24) ^ ((__u64)who << 32) ^ its->sequence);
	__u32 place = mix((__u64)mark << 32 | who) & (RETRY_SETS - 1);
	struct retry_set *set = retries.lookup(&place);
	__u32 now = moment_of(coarse_now(pkt)), oldest = 0, most = 0;

	if (!set)
		return false;
#pragma clang loop unroll(disable)
	for (int i = 0; i < RETRY_WAYS; i++) {
		__u64 held = set->word[i];
		__u32 age = now - (__u32)held;

		if (held >> 32 == mark && age < moment_of(RETRY_LONGEST_NS)) {
			NOTE(NOTED_STANDING, STANDING_AGAIN, (__u64)age << 20);
			return age >= moment_of(shield->patience_ns);
		}
		if (age >= most) {
			most = age;
			oldest = i;
		}
	}
	SET(set->word[oldest & (RETRY_WAYS - 1)], (__u64)mark << 32 | now);
	return false;
}

/* -- who comes -- */

/*
 * In siege, and in a surge, whatever begins a TCP connection comes by here first, and so does a reset of no flow
 * under way, which may be the proof.
 */
static __always_inline int besiege(struct packet *pkt)
{
	struct shield *shield = shield_now();
	struct facts *its = pkt->its;

	if (!shield || its->belongs != TO_SOMETHING || its->protocol != IPPROTO_TCP ||
	    !(its->flags & (TCP_SYN | TCP_RST)) || (its->mode & MODE_DISARMED))
		return TO_HANDSHAKE;
	if (shield->level == LEVEL_SIEGE)
		return TO_CHALLENGE;
	if (its->flags & TCP_RST)
		return proofs_may_come(pkt) ? TO_CHALLENGE : TO_HANDSHAKE;
	return is_surge(pkt, shield, SURGE_TCP) ? TO_CHALLENGE : TO_HANDSHAKE;
}

/* A reset: the proof, or the end of a handshake. Cookies of the key before this one are good still. */
static __always_inline int hear_proof(struct packet *pkt, const struct shield *shield)
{
	__u32 number = pkt->its->sequence;
	bool proves = number == cookie_by(pkt, shield, shield->key_now) ||
		      number == cookie_by(pkt, shield, shield->key_now + 1);

	NOTE(NOTED_STANDING, proves ? STANDING_PROVES : STANDING_FAILS, 0);
	if (!proves)
		return TO_HANDSHAKE;
	if (!(pkt->its->mode & MODE_OBSERVE))
		trust(pkt, true, false);
	pkt->action = XDP_DROP;
	return PROVED;
}

/* TO_HANDSHAKE: it may go on as in any level. */
static __always_inline int challenge_source(struct packet *pkt)
{
	struct shield *shield = shield_now();
	struct facts *its = pkt->its;
	int verdict;

	if (!shield || !service_asked_for(its))
		return TO_HANDSHAKE; /* operators, and what will be told that nobody is there */
	NOTE(NOTED_SHIELD, shield->level, 0);
	if (its->flags & TCP_RST)
		return hear_proof(pkt, shield);
	verdict = check_source(pkt, shield);
	if (verdict != GO_ON)
		return verdict;
	if (verified_source(pkt) || allowed(&its->source))
		return TO_HANDSHAKE;
	if (its->fragment)
		return UNVERIFIED;
	if (is_second_try(pkt, shield))
		return TO_HANDSHAKE;
	its->cookie = cookie_by(pkt, shield, shield->key_now);
	/* by chance, once in 2^32: it would open the connection to nowhere; the next try is let in */
	if (bpf_ntohl(its->cookie) - bpf_ntohl(its->sequence) - 1 <= its->payload)
		return UNVERIFIED;
	return its->mode & MODE_OBSERVE ? CHALLENGED : ANSWER_CHALLENGE;
}
