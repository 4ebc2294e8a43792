/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Reverse slots: who holds which port of ours towards which endpoint.
 *
 * A forward entry (LRU, so it may vanish) names its reverse slot; a slot (array, so it cannot)
 * names its owner. Invariant: no forward entry without its own slot. The slot is therefore claimed
 * before the forward entry is written, and whoever takes a slot over deletes the old owner's entry
 * after the swap, while whoever rebuilds an entry looks at the slot again after the insert: of the
 * two, one always sees the other.
 */
#pragma once

/* Only then ask, at the price of a look-up each, whether the slot of a held port is an orphan. */
#define FREE_TRIES 3
#define PORT_TRIES 12
#define HALF_OPEN_NS 8000000000ULL   /* an unfinished handshake holds its port so long */
#define REST_NS 60000000000ULL	     /* TIME_WAIT at the CDN */
#define RESET_REST_NS 10000000000ULL /* a reset leaves nothing behind there */
/* A CDN that still sends so long after a reset did not believe it. */
#define RESET_DOUBT_NS 3000000000ULL
/* Owner of a slot that is being filled: whatever arrives for it meanwhile is nobody's. */
#define BEING_BOUND (~0ULL)

static __always_inline __u64 owner_word(__u32 client, __u16 client_port, __u32 service)
{
	return ((__u64)client << 32) | ((__u64)client_port << 16) | (service + 1);
}

static __always_inline __u32 owner_client(__u64 owner)
{
	return owner >> 32;
}

static __always_inline __u32 owner_service(__u64 owner)
{
	return ((owner & 0xffff) - 1) & 0xffff;
}

/* The forward key of a slot's owner; false when its service is gone. */
static __always_inline bool owner_key(__u64 owner, struct flow_key *key)
{
	__u32 id = owner_service(owner);
	struct service *service = services.lookup(&id);

	if (!service)
		return false;
	key->client = owner_client(owner);
	key->client_port = owner >> 16;
	key->vip = service->vip;
	key->vip_port = service->port;
	key->protocol = IPPROTO_TCP;
	return true;
}

static __always_inline struct flow *forward_entry(struct flow_key *key, __u8 state)
{
	if (state == SLOT_SYN_SENT || state == SLOT_SYN_RECV)
		return half_open.lookup(key);
	return established.lookup(key);
}

/* Its time is over: a handshake that was never finished, a closed port that has rested. */
static __always_inline bool is_over(struct slot *slot, __u64 now)
{
	__u64 age = age_ns(now, slot->since_ns);

	if (slot->state >= SLOT_CLOSING)
		return age > (slot->flags & FLOW_RESET ? RESET_REST_NS : REST_NS);
	return slot->state < SLOT_ESTABLISHED && age > HALF_OPEN_NS;
}

/* Nobody but a reply's rebuild could still need it; the caller has seen `owner` in it. */
static __always_inline bool is_orphan(struct slot *slot, __u32 index, __u64 owner,
				      struct flow_key *key)
{
	struct flow *flow;

	if (slot->state >= SLOT_CLOSING)
		return false;
	if (!owner_key(owner, key))
		return true;
	flow = forward_entry(key, slot->state);
	return !flow || flow->slot != index;
}

/* May a slot that `held` holds be taken over? */
static __always_inline bool reclaimable(struct slot *slot, __u32 index, __u64 held, __u64 now,
					int try, struct flow_key *key)
{
	if (held == BEING_BOUND)
		return false;
	return is_over(slot, now) || (try >= FREE_TRIES && is_orphan(slot, index, held, key));
}

/* After the swap: the old owner's forward entry must not outlive its slot. */
static __always_inline void forget_owner(__u64 owner, __u32 index)
{
	struct flow_key key = {};
	struct flow *flow;

	if (!owner_key(owner, &key))
		return;
	flow = established.lookup(&key);
	if (flow && flow->slot == index)
		established.delete(&key);
	flow = half_open.lookup(&key);
	if (flow && flow->slot == index)
		half_open.delete(&key);
}

/*
 * A port of our own for this flow towards this endpoint: the client's if it is free, else others at
 * random distances, a bounded number of times (RFC 6056, algorithm 2; the very next ones would be held
 * as well, since clients' own ports come in runs). The slot is nobody's until it is filled.
 */
static __always_inline struct slot *claim(struct packet *pkt, struct flow *flow)
{
	const struct settings *set = pkt->set;
	__u32 snat, port, base, index, random = bpf_get_prandom_u32();
	__u32 ports = set->ports, stride = (random >> 8) | 1;
	struct flow_key key = {};
	struct slot *slot;
	__u64 held;

	if (!ports || !set->snat_count || flow->endpoint >= set->endpoint_stride)
		return 0;
	snat = random % set->snat_count;
	base = (snat * set->endpoint_stride + flow->endpoint) * ports;
	port = (__u32)bpf_ntohs(pkt->source_port) - set->port_min_host;
	if (port >= ports)
		port = random % ports;

#pragma clang loop unroll(disable)
	for (int try = 0; try < PORT_TRIES; try++) {
		index = base + port;
		slot = reverse.lookup(&index);
		if (!slot)
			return 0;
		held = slot->owner;
		if (held && !reclaimable(slot, index, held, pkt->now, try, &key))
			goto next;
		if (__sync_val_compare_and_swap(&slot->owner, held, BEING_BOUND) == held)
			goto claimed;
next:
		/* a division, since each branch here would double the verifier's work, try by try */
		port = (port + stride) % ports;
	}
	return 0;
claimed:
	if (held)
		forget_owner(held, index);
	flow->slot = index;
	flow->snat = set->snat[snat & (MAX_SNAT - 1)];
	flow->snat_port = bpf_htons(set->port_min_host + port);
	return slot;
}

/* Replies go the way the client's frames come. */
static __always_inline void note_way_back(struct packet *pkt, struct slot *slot)
{
	slot->ifindex = pkt->ctx->ingress_ifindex;
	__builtin_memcpy(slot->router, pkt->eth->h_source, ETH_ALEN);
	__builtin_memcpy(slot->self, pkt->eth->h_dest, ETH_ALEN);
}

/* Give the flow a slot at its endpoint, with everything a reply needs. */
static __always_inline int bind_slot(struct packet *pkt, struct flow *flow,
				     struct endpoint *endpoint, __u32 service)
{
	__u64 owner = owner_word(pkt->source, pkt->source_port, service);
	struct slot *slot = claim(pkt, flow);
	__u32 old_ip, new_ip, old_ports, new_ports;

	if (!slot)
		return NO_PORT;
	old_ip = halves(pkt->source) + halves(pkt->target);
	new_ip = halves(flow->snat) + halves(endpoint->address);
	old_ports = (__u32)pkt->source_port + pkt->target_port;
	new_ports = (__u32)flow->snat_port + endpoint->port;
	flow->ip_delta = checksum_delta(old_ip, new_ip);
	flow->tcp_delta = checksum_delta(old_ip + old_ports, new_ip + new_ports);
	slot->ip_delta = checksum_delta(new_ip, old_ip);
	slot->tcp_delta = checksum_delta(new_ip + new_ports, old_ip + old_ports);
	slot->since_ns = pkt->now;
	slot->generation = flow->generation;
	slot->isn = flow->isn;
	note_way_back(pkt, slot);
	slot->flags = flow->flags & FLOW_PROBE;
	slot->seen_s = 0;
	slot->state = SLOT_SYN_SENT;
	__sync_val_compare_and_swap(&slot->owner, BEING_BOUND, owner); /* and a barrier */
	return GO_ON;
}
