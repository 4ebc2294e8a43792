/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Reverse slots: who holds which port of ours towards which endpoint.
 *
 * A forward entry (LRU, so it may vanish) names its reverse slot; a slot (array, so it cannot)
 * names its owner. Invariant: no forward entry without its own slot. The slot is therefore claimed
 * before the forward entry is written, and whoever takes a slot over deletes the old owner's entry
 * after the swap, while whoever rebuilds an entry looks at the slot again after the insert: of the
 * two, one always sees the other.
 *
 * The owner is one word (the client folded, its port, the service), so that it can be swapped; the
 * client in full stands beside it, and holds as long as the word is the same before and after reading it.
 */
#pragma once

/* Only then ask, at the price of a look-up each, whether the slot of a held port is an orphan. */
#define FREE_TRIES 3
#define PORT_TRIES 12
#define HALF_OPEN_NS 8000000000ULL /* an unfinished handshake holds its port so long */
/*
 * TIME_WAIT at the CDN: a minute, which Linux's timer wheel may end an eighth of its level's span late, at most
 * 5.1 s (kernel/time/timer.c). A port that is back before then, with another client's timestamps, has its SYN
 * dropped there without a word (PAWS, RFC 7323), and that client waits for a second.
 */
#define REST_NS 66000000000ULL
#define RESET_REST_NS 10000000000ULL /* a reset leaves nothing behind there */
/* A CDN that still sends so long after a reset did not believe it. */
#define RESET_DOUBT_NS 3000000000ULL
/* Owner of a slot that is being filled: whatever arrives for it meanwhile is nobody's. */
#define BEING_BOUND (~0ULL)

static __always_inline __u64 owner_word(const struct address *client, __u16 client_port,
					__u32 service)
{
	return ((__u64)fold_address(client) << 32) | ((__u64)client_port << 16) | (service + 1);
}

static __always_inline __u32 owner_service(__u64 owner)
{
	return ((owner & 0xffff) - 1) & 0xffff;
}

/* Seconds for ages in sixteen bits; they wrap after 18 hours. */
static __always_inline __u16 second_of(__u64 now)
{
	return now >> 30;
}

/* Milliseconds, about, for ages in 32 bits. */
static __always_inline __u32 moment_of(__u64 now)
{
	return now >> 20;
}

static __always_inline __u32 slot_row(const struct settings *set, __u32 endpoint, __u32 snat)
{
	return (endpoint * set->snat_rows + snat) * set->ports;
}

/* The forward key of a slot's owner; false when its service is gone. */
static __always_inline bool owner_key(struct slot *slot, __u64 owner, struct flow_key *key)
{
	__u32 id = owner_service(owner);
	struct service *service = services.lookup(&id);

	if (!service || !service->protocol)
		return false;
	key->client = slot->client;
	key->client_port = owner >> 16;
	key->vip = service->vip_index;
	key->vip_port = service->port;
	key->protocol = service->protocol;
	return true;
}

static __always_inline bool is_begun(__u8 state)
{
	return state == SLOT_SYN_SENT || state == SLOT_SYN_RECV;
}

/*
 * A flow under way. TCP that is no more half-open, and QUIC whose client has repeated an id that only its
 * server told, have proved that they are where they say. Of other UDP nothing proves that: whoever spoofs a
 * source has its second packet taken for one of a flow under way. So those live in a table of their own,
 * where they evict each other. QUIC being most of the UDP there is, it is asked about first.
 */
static __always_inline struct flow *under_way(struct flow_key *key)
{
	struct flow *flow = established.lookup(key);

	return flow || key->protocol != IPPROTO_UDP ? flow : datagrams.lookup(key);
}

/* From now on it is; false when there was no room for it. */
static __always_inline bool get_under_way(struct flow_key *key, struct flow *flow, bool proven)
{
	if (!WRITES)
		return true;
	return !(proven ? established.update(key, flow) : datagrams.update(key, flow));
}

/* And now no more. */
static __always_inline void forget_under_way(struct flow_key *key)
{
	if (!WRITES)
		return;
	established.delete(key);
	if (key->protocol == IPPROTO_UDP)
		datagrams.delete(key);
}

static __always_inline struct flow *forward_entry(struct flow_key *key, __u8 state)
{
	return is_begun(state) ? half_open.lookup(key) : under_way(key);
}

/*
 * Its time is over: a handshake never finished, a closed port that has rested, a flow long idle. UDP that
 * only one side speaks, or that is over with one answer, has no handshake to finish: it lives as long as
 * it is used.
 */
static __always_inline bool is_over(const struct settings *set, struct slot *slot, __u64 now,
				    bool udp)
{
	__u64 age = age_ns(now, slot->since_ns);
	__u16 idle = second_of(now) - slot->seen_s;

	if (slot->state >= SLOT_CLOSING)
		return age > (slot->flags & FLOW_RESET ? RESET_REST_NS : REST_NS);
	if (!udp && slot->state != SLOT_ESTABLISHED)
		return age > HALF_OPEN_NS;
	if (idle >= 0x8000)
		return false; /* a stamp may be ahead by what another CPU's coarse clock is */
	if (slot->state != SLOT_ESTABLISHED)
		return idle > second_of(HALF_OPEN_NS);
	return idle > (udp ? set->udp_s : set->established_s);
}

/* Nobody but a reply's rebuild could still need it; the caller has seen `owner` in it. */
static __always_inline bool is_orphan(struct slot *slot, __u32 index, __u64 owner,
				      struct flow_key *key)
{
	struct flow *flow;

	if (slot->state >= SLOT_CLOSING)
		return false;
	if (!owner_key(slot, owner, key))
		return true;
	flow = forward_entry(key, slot->state);
	return !flow || flow->slot != index;
}

/* May a slot that `held` holds be taken over? */
static __always_inline bool reclaimable(struct packet *pkt, struct slot *slot, __u32 index,
					__u64 held, int try, struct flow_key *key)
{
	if (held == BEING_BOUND)
		return false;
	return is_over(pkt->set, slot, pkt->its->now, pkt->its->protocol == IPPROTO_UDP) ||
	       (try >= FREE_TRIES && is_orphan(slot, index, held, key));
}

/* After the swap: the old owner's forward entries must not outlive its slot. */
static __always_inline void forget_owner(struct flow_key *key, __u32 index)
{
	struct flow *flow = under_way(key);

	if (flow && flow->slot == index)
		forget_under_way(key);
	flow = half_open.lookup(key);
	if (flow && flow->slot == index)
		if (WRITES)
			half_open.delete(key);
}

/*
 * Both ways of a flow set flags and clear them, each on a CPU of its own: what the one writes must not undo
 * what the other does. They are the low byte of a word that nothing else is written to meanwhile, for this
 * compiler has no narrower atomics. What they were before is the answer.
 */
static __always_inline __u8 set_flags(struct slot *slot, __u8 flags)
{
	_Static_assert(__builtin_offsetof(struct slot, flags) % 8 == 0 &&
			       __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
		       "flags begin a word");
	return ATOMIC_OR((__u64 *)&slot->flags, (__u64)flags);
}

static __always_inline void clear_flags(struct slot *slot, __u8 flags)
{
	ATOMIC_AND((__u64 *)&slot->flags, ~(__u64)flags);
}

/* An established flow has ended, one way or the other: each is counted once. */
static __always_inline void count_closed(__u32 cdn)
{
	struct cdn_count *count = count_of(cdn);

	if (count)
		COUNT(count->closed, 1);
}

/* The end was none: the one who was to be reset goes on. What was counted only grows, so it counts as new. */
static __always_inline void revive(struct slot *slot, __u32 cdn)
{
	struct cdn_count *count = count_of(cdn);

	clear_flags(slot, FLOW_RESET);
	SET(slot->state, SLOT_ESTABLISHED);
	if (count)
		COUNT(count->promoted, 1);
}

/*
 * A port of our own for this flow towards this endpoint: the client's if it is free, else others at
 * random distances, a bounded number of times (RFC 6056, algorithm 2; the very next ones would be held
 * as well, since clients' own ports come in runs), the second half of them at the next of our addresses: it
 * may be new, and the first one nearly full. The slot is nobody's until it is filled.
 */
static __always_inline struct slot *claim(struct packet *pkt, struct flow *flow)
{
	const struct settings *set = pkt->set;
	struct facts *its = pkt->its;
	__u32 snat, port, base, index, random = bpf_get_prandom_u32();
	__u32 ports = set->ports, stride = (random >> 8) | 1, addresses;
	struct flow_key key = {};
	struct slot *slot;
	bool known;
	__u64 held;

	addresses = its->family == 4 ? set->snat_count[0] : set->snat_count[1];
	if (!ports || !addresses)
		return 0;
	snat = random % addresses;
	base = slot_row(set, flow->endpoint, snat);
	port = (__u32)bpf_ntohs(its->source_port) - set->port_min_host;
	if (port >= ports)
		port = random % ports;

#pragma clang loop unroll(disable)
	for (int try = 0; try < PORT_TRIES; try++) {
		index = base + port;
		slot = reverse.lookup(&index);
		if (!slot)
			return 0;
		held = slot->owner;
		if (held && !reclaimable(pkt, slot, index, held, try, &key)) {
			NOTE(NOTED_PORT, index, CLAIM_HELD);
			goto next;
		}
		known = held && owner_key(slot, held, &key);
		if (SWAP_IF(&slot->owner, held, BEING_BOUND) == held)
			goto claimed;
next:
		/* a division, since each branch here would double the verifier's work, try by try */
		port = (port + stride) % ports;
		snat = (snat + (try + 1 == PORT_TRIES / 2)) % addresses;
		base = slot_row(set, flow->endpoint, snat);
	}
	return 0;
claimed:
	NOTE(NOTED_PORT, index, held ? CLAIM_RECLAIMED : CLAIM_FREE);
	if (known)
		forget_owner(&key, index);
	if (held && slot->state == SLOT_ESTABLISHED)
		count_closed(flow->cdn);
	flow->slot = index;
	flow->snat = snat;
	flow->snat_port = bpf_htons(set->port_min_host + port);
	return slot;
}

/* Replies go the way the client's frames come. False when that is no link of the edge's. */
static __always_inline bool note_way_back(struct packet *pkt, struct slot *slot)
{
	struct link_key key = {.ifindex = pkt->ctx->ingress_ifindex,
			       .outer = pkt->its->outer,
			       .inner = pkt->its->inner};
	__u32 *link = link_ids.lookup(&key);
	struct ethhdr *eth = header_at(pkt, 0, sizeof(*eth));

	NOTE(NOTED_WAY_BACK, link ? *link : NOWHERE, 0);
	if (!link || !eth)
		return false;
	SET(slot->link, *link);
	COPY(slot->router, eth->h_source, ETH_ALEN);
	return true;
}

/* Give the flow a slot at its endpoint, with everything a reply needs. */
static __always_inline int bind_slot(struct packet *pkt, struct flow *flow,
				     struct endpoint *endpoint, __u32 service)
{
	struct facts *its = pkt->its;
	__u64 owner = owner_word(&its->source, its->source_port, service);
	struct slot *slot = claim(pkt, flow);
	__u32 old_ip, new_ip, old_ports, new_ports;

	if (!slot) {
		tell_seldom(pkt, EVENT_PORTS_GONE, flow->endpoint, 0);
		return NO_PORT;
	}
	if (!note_way_back(pkt, slot)) {
		SET(slot->owner, 0);
		return NO_LINK;
	}
	old_ip = halves_of(&its->source) + halves_of(&its->target);
	new_ip = halves_of(snat_address(pkt, flow->snat)) + halves_of(&endpoint->address);
	old_ports = (__u32)its->source_port + its->target_port;
	new_ports = (__u32)flow->snat_port + endpoint->port;
	flow->ip_delta = checksum_delta(old_ip, new_ip);
	flow->l4_delta = checksum_delta(old_ip + old_ports, new_ip + new_ports);
	SET(slot->ip_delta, checksum_delta(new_ip, old_ip));
	SET(slot->l4_delta, checksum_delta(new_ip + new_ports, old_ip + old_ports));
	COPY(&slot->client, &its->source, sizeof(its->source));
	SET(slot->since_ns, its->now);
	SET(slot->generation, flow->generation);
	SET(slot->isn, flow->isn);
	SET(slot->customer, flow->customer);
	SET(slot->traffic_class, flow->traffic_class);
	SET(slot->region, flow->region);
	SET(slot->flags, flow->flags & (FLOW_PROBE | FLOW_RESENT));
	SET(slot->seen_s, second_of(its->now));
	SET(slot->state, SLOT_SYN_SENT);
	SWAP_IF(&slot->owner, BEING_BOUND, owner); /* and a barrier */
	return GO_ON;
}
