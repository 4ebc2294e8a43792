/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Flows, forward and reverse.
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
	slot->ifindex = pkt->ctx->ingress_ifindex;
	__builtin_memcpy(slot->router, pkt->eth->h_source, ETH_ALEN);
	__builtin_memcpy(slot->self, pkt->eth->h_dest, ETH_ALEN);
	slot->flags = flow->flags & FLOW_PROBE;
	slot->seen_s = 0;
	slot->state = SLOT_SYN_SENT;
	__sync_val_compare_and_swap(&slot->owner, BEING_BOUND, owner); /* and a barrier */
	return GO_ON;
}

static __always_inline void key_of(struct packet *pkt, struct flow_key *key)
{
	key->client = pkt->source;
	key->vip = pkt->target;
	key->client_port = pkt->source_port;
	key->vip_port = pkt->target_port;
	key->protocol = IPPROTO_TCP;
}

/* -- finding: what is this packet part of? -- */

static __always_inline int find_from_client(struct packet *pkt)
{
	bool syn = pkt->flags & TCP_SYN;
	struct flow_key key = {};
	struct flow *flow = 0;

	if (syn && (pkt->flags & TCP_ACK))
		return UNKNOWN_FLOW; /* we send no SYN to clients, so nobody answers one */
	key_of(pkt, &key);
	pkt->client = pkt->source;
	if (!syn) {
		flow = established.lookup(&key);
		pkt->belongs = TO_ESTABLISHED;
	}
	if (!flow) {
		flow = half_open.lookup(&key);
		pkt->belongs = TO_HALF_OPEN;
	}
	if (!flow && syn) {
		flow = established.lookup(&key);
		pkt->belongs = TO_ESTABLISHED;
	}
	if (!flow) {
		pkt->belongs = syn ? TO_NEW_FLOW : TO_UNKNOWN_FLOW;
		return GO_ON;
	}
	pkt->flow = flow;
	pkt->generation = &flow->generation;
	pkt->endpoint = flow->endpoint;
	return GO_ON;
}

static __always_inline int find_from_cdn(struct packet *pkt)
{
	struct endpoint_key key = {
		.address = pkt->source, .port = pkt->source_port, .protocol = IPPROTO_TCP};
	__u32 port = (__u32)bpf_ntohs(pkt->target_port) - pkt->set->port_min_host;
	__u32 ports = pkt->set->ports, *id;
	struct slot *slot;

	if (port >= ports) {
		pkt->client = pkt->source; /* the address is the host's too, and the port its own */
		return GO_ON;
	}
	id = endpoint_ids.lookup(&key);
	if (!id || *id >= pkt->set->endpoint_stride)
		return NO_OWNER;
	pkt->slot_index = (pkt->snat_index * pkt->set->endpoint_stride + *id) * ports + port;
	slot = reverse.lookup(&pkt->slot_index);
	if (!slot)
		return NO_OWNER;
	pkt->owner = slot->owner;
	if (!pkt->owner || pkt->owner == BEING_BOUND)
		return NO_OWNER;
	pkt->belongs = TO_REPLY;
	pkt->endpoint = *id;
	pkt->slot = slot;
	pkt->client = owner_client(pkt->owner);
	pkt->generation = &slot->generation;
	return GO_ON;
}

static __always_inline int find_flow(struct packet *pkt)
{
	int verdict;

	if (!pkt->ours) {
		pkt->client = pkt->source;
		return GO_ON;
	}
	verdict = parse_transport(pkt);
	if (pkt->ours == LOCAL_SNAT && (verdict == FRAGMENT || verdict == UNSUPPORTED)) {
		pkt->client = pkt->source; /* what is no TCP can only be the host's */
		return GO_ON;
	}
	if (verdict != GO_ON)
		return verdict;
	return pkt->ours == LOCAL_SNAT ? find_from_cdn(pkt) : find_from_client(pkt);
}

/* -- opening -- */

static __always_inline void count_new(struct packet *pkt, struct flow *flow)
{
	struct cdn_count *count = count_of(flow->cdn);
	struct health *h = health_of(flow->endpoint);
	__u32 service = flow->service;
	__u64 *flows = service_flows.lookup(&service);

	if (count) {
		count->new_flows++;
		if (flow->flags & FLOW_PROBE)
			count->probe_flows++;
	}
	if (flows)
		(*flows)++;
	if (!h)
		return;
	note_connect(pkt, h);
	if (!(flow->flags & FLOW_PROBE))
		h->last_new_flow_ns = pkt->now;
}

static __always_inline int towards_cdn(struct packet *pkt, struct flow *flow)
{
	__u32 id = flow->endpoint;
	struct endpoint *endpoint = endpoints.lookup(&id);

	if (!endpoint)
		return NO_CDN;
	pkt->cdn = flow->cdn;
	pkt->endpoint = id;
	pkt->out.source = flow->snat;
	pkt->out.target = endpoint->address;
	pkt->out.source_port = flow->snat_port;
	pkt->out.target_port = endpoint->port;
	pkt->out.ip_delta = flow->ip_delta;
	pkt->out.tcp_delta = flow->tcp_delta;
	return TO_CDN;
}

/* A rescued flow leaves a tombstone, so that a late SYN-ACK meets a reset. */
static __always_inline void bury(struct packet *pkt, struct flow *old, struct flow *new)
{
	struct slot *slot = reverse.lookup(&old->slot);
	struct cdn_count *count = count_of(old->cdn);

	if (slot)
		slot->state = SLOT_TOMBSTONE;
	if (count)
		count->rescued_from++;
	count = count_of(new->cdn);
	if (count)
		count->rescued_to++;
	tell(pkt, EVENT_RESCUE, 0, old->endpoint, new->endpoint, 0, 0);
}

/*
 * Give a SYN to an endpoint: choose, bind a port, remember, send. A flow in pkt->flow is being
 * rescued: it goes to another CDN than it had, or stays where it is when there is none.
 */
static __always_inline int open_flow(struct packet *pkt, __u32 service_id)
{
	struct service *service = services.lookup(&service_id);
	struct flow *old = pkt->flow;
	struct flow_key key = {};
	struct flow flow = {};
	struct endpoint *endpoint;
	volatile struct pick *pick;
	int verdict;
	__u32 id;

	exact_now(pkt);
	if (!service)
		return NO_SERVICE;
	pick = pick_endpoint(pkt, service, 2 * service_id + (service->bank & 1),
			     old ? old->cdn : NO_CDN_ID);
	if (!pick)
		return NO_SERVICE;
	if (pick->darkened != NOWHERE)
		eject_darkened(pkt, pick->darkened);
	id = pick->endpoint;
	endpoint = endpoints.lookup(&id);
	if (id == NOWHERE || !endpoint || (old && endpoint->cdn == old->cdn))
		return old ? towards_cdn(pkt, old) : NO_CDN;
	flow.generation = pkt->policy;
	flow.endpoint = id;
	flow.service = service_id;
	flow.cdn = endpoint->cdn;
	flow.isn = pkt->sequence;
	flow.syn_ns = pkt->now;
	if (pick->probe) {
		flow.flags = FLOW_PROBE;
		tell(pkt, EVENT_PROBE, 0, id, 0, 0, 0);
	}
	pkt->cdn = flow.cdn;
	verdict = bind_slot(pkt, &flow, endpoint, service_id);
	if (verdict != GO_ON)
		return old ? towards_cdn(pkt, old) : verdict;
	if (old)
		bury(pkt, old, &flow);
	key_of(pkt, &key);
	if (half_open.update(&key, &flow)) {
		struct slot *slot = reverse.lookup(&flow.slot);

		if (slot)
			slot->owner = 0;
		return NO_ROOM;
	}
	count_new(pkt, &flow);
	return towards_cdn(pkt, &flow);
}

/* -- following -- */

/* FINs and resets, for the life of the port; the entry itself stays until it is needed no more. */
static __always_inline void note_close(struct packet *pkt, struct slot *slot, __u8 fin)
{
	if (pkt->flags & TCP_RST) {
		slot->flags |= FLOW_RESET;
	} else {
		slot->flags |= fin;
		if ((slot->flags & (FLOW_FIN_CLIENT | FLOW_FIN_CDN)) !=
		    (FLOW_FIN_CLIENT | FLOW_FIN_CDN))
			return;
	}
	slot->state = SLOT_CLOSING;
	slot->since_ns = coarse_now(pkt);
}

/*
 * A SYN of a handshake that is under way. With the same ISN it was sent again: when the CDN has been
 * silent for too long, another gets it (GO_ON), at the price of one retransmission. With another one
 * after the handshake was refused or given up long ago, it is a new flow like any.
 */
static __always_inline int follow_syn(struct packet *pkt, struct flow *flow, struct slot *slot)
{
	struct health *h = health_of(pkt->endpoint);

	exact_now(pkt);
	flow->flags |= FLOW_RESENT;
	slot->flags |= FLOW_RESENT;
	if (pkt->sequence != flow->isn) {
		if (slot->state == SLOT_CLOSING || age_ns(pkt->now, flow->syn_ns) > HALF_OPEN_NS) {
			pkt->flow = 0;
			return GO_ON;
		}
		flow->isn = pkt->sequence;
		flow->flags &= ~FLOW_SYNACK;
		slot->isn = flow->isn;
		slot->state = SLOT_SYN_SENT;
		return towards_cdn(pkt, flow);
	}
	if (h && !(flow->flags & FLOW_SYNACK) && !(pkt->mode & MODE_DISARMED) &&
	    age_ns(pkt->now, flow->syn_ns) > patience_ns(h, pkt->set->rescue_after_ns)) {
		note_connect(pkt, h);
		return GO_ON;
	}
	return towards_cdn(pkt, flow);
}

/* The client's answer to the SYN-ACK proves that it is where it says: the flow is established. */
static __always_inline int promote(struct packet *pkt, struct flow *flow, struct slot *slot)
{
	__u64 owner = owner_word(pkt->source, pkt->source_port, flow->service);
	struct cdn_count *count = count_of(flow->cdn);
	struct flow_key key = {};
	int verdict;

	if (!(flow->flags & FLOW_SYNACK) ||
	    bpf_ntohl(pkt->acknowledged) != bpf_ntohl(flow->cdn_isn) + 1)
		return BAD_ACK;
	key_of(pkt, &key);
	if (established.update(&key, flow))
		return NO_ROOM;
	if (*(volatile __u64 *)&slot->owner != owner) {
		established.delete(&key); /* the other CPU has just given the port away */
		return NO_OWNER;
	}
	slot->state = SLOT_ESTABLISHED;
	slot->since_ns = coarse_now(pkt);
	if (count)
		count->promoted++;
	verdict = towards_cdn(pkt, flow);
	half_open.delete(&key); /* last: the entry is read until here */
	return verdict;
}

/*
 * Once a second: the way back to the client is the way it comes, also after its gateway has changed.
 * And a client that goes on sending after "its" reset never sent it.
 */
static __always_inline void refresh(struct packet *pkt, struct flow *flow, __u16 second)
{
	struct slot *slot = reverse.lookup(&flow->slot);

	flow->seen_s = second;
	flow->flags &= ~FLOW_RESET;
	if (!slot || slot->owner != owner_word(pkt->source, pkt->source_port, flow->service))
		return;
	slot->ifindex = pkt->ctx->ingress_ifindex;
	__builtin_memcpy(slot->router, pkt->eth->h_source, ETH_ALEN);
	__builtin_memcpy(slot->self, pkt->eth->h_dest, ETH_ALEN);
	if (slot->state == SLOT_CLOSING && (slot->flags & FLOW_RESET)) {
		slot->flags &= ~FLOW_RESET;
		slot->state = SLOT_ESTABLISHED;
	}
}

/* A known flow of a client; GO_ON when it ends in a new one. */
static __always_inline int follow_client(struct packet *pkt)
{
	struct flow *flow = pkt->flow;
	struct flow_key key = {};
	struct slot *slot;
	int verdict = GO_ON;

	if (!flow)
		return NO_OWNER; /* for the verifier: belongs says that there is one */
	if (pkt->belongs == TO_ESTABLISHED && !(pkt->flags & (TCP_SYN | TCP_FIN | TCP_RST))) {
		__u16 second = coarse_now(pkt) >> 30;

		if (flow->seen_s != second || (flow->flags & FLOW_RESET))
			refresh(pkt, flow, second);
		return towards_cdn(pkt, flow);
	}
	slot = reverse.lookup(&flow->slot);
	if (!slot)
		return NO_OWNER;
	if (pkt->belongs == TO_HALF_OPEN && (pkt->flags & TCP_SYN))
		return follow_syn(pkt, flow, slot);
	if (pkt->belongs == TO_ESTABLISHED && (pkt->flags & TCP_SYN)) {
		if (slot->state != SLOT_CLOSING)
			return towards_cdn(pkt,
					   flow); /* the CDN answers with a challenge (RFC 5961) */
		/*
		 * The same port again after the end: a new flow, on a port that does not rest. The old
		 * entry goes, or the answer to the new SYN-ACK would find it first.
		 */
		key_of(pkt, &key);
		established.delete(&key);
		pkt->flow = 0;
		return GO_ON;
	}
	if (pkt->belongs == TO_HALF_OPEN && !(pkt->flags & TCP_RST))
		verdict = promote(pkt, flow, slot);
	else
		verdict = towards_cdn(pkt, flow);
	if (verdict == TO_CDN && (pkt->flags & (TCP_FIN | TCP_RST))) {
		if (pkt->flags & TCP_RST)
			flow->flags |= FLOW_RESET;
		note_close(pkt, slot, FLOW_FIN_CLIENT);
	}
	return verdict;
}

/* The forward entry of a reply's flow, rebuilt from the slot when it was evicted. */
static __always_inline struct flow *forward_of(struct packet *pkt, struct flow_key *key, __u8 cdn)
{
	struct slot *slot = pkt->slot;
	struct flow built = {}, *flow;

	if (!owner_key(pkt->owner, key))
		return 0;
	flow = forward_entry(key, slot->state);
	if (!flow) /* the client may have a newer flow on this port, in the other table */
		flow = slot->state == SLOT_ESTABLISHED ? half_open.lookup(key)
						       : established.lookup(key);
	if (flow)
		return flow->slot == pkt->slot_index ? flow : 0;
	built.slot = pkt->slot_index;
	built.generation = slot->generation;
	built.snat = pkt->target;
	built.snat_port = pkt->target_port;
	built.ip_delta = ~slot->ip_delta;
	built.tcp_delta = ~slot->tcp_delta;
	built.endpoint = pkt->endpoint;
	built.service = owner_service(pkt->owner);
	built.cdn = cdn;
	built.isn = slot->isn;
	built.syn_ns = slot->since_ns;
	if (slot->state == SLOT_ESTABLISHED)
		established.update(key, &built);
	else
		half_open.update(key, &built);
	if (slot->owner != pkt->owner)
		forget_owner(pkt->owner, pkt->slot_index);
	return forward_entry(key, slot->state);
}

/*
 * An answer to our client's SYN: its time is the CDN's latency. A segment that acknowledges
 * something else is of an older connection on this port: a reset ends that one, so that ours begins.
 */
static __always_inline int follow_handshake(struct packet *pkt, struct endpoint *endpoint,
					    struct flow *flow)
{
	bool answers = (pkt->flags & TCP_ACK) &&
		       bpf_ntohl(pkt->acknowledged) == bpf_ntohl(pkt->slot->isn) + 1;
	struct slot *slot = pkt->slot;
	bool first = slot->state == SLOT_SYN_SENT;
	bool refused = pkt->flags & TCP_RST;
	bool absorb = refused && (slot->flags & FLOW_PROBE) && !(pkt->mode & MODE_DISARMED);
	__u64 us;

	if (!answers || (first && !(pkt->flags & (TCP_SYN | TCP_RST))))
		return RESET_TO_CDN;
	if (pkt->flags & TCP_SYN) {
		if (flow) {
			flow->cdn_isn = pkt->sequence;
			flow->flags |= FLOW_SYNACK;
		}
		slot->state = SLOT_SYN_RECV;
	}
	if (refused && !absorb)
		note_close(pkt, slot, 0);
	if (first) {
		us = age_ns(exact_now(pkt), slot->since_ns) / NS_PER_US;
		note_answer(pkt, endpoint, us < 0xffffffff ? us : 0xffffffff, refused);
	}
	/* a client that probed for us need not hear the refusal: its next SYN is rescued */
	return absorb ? ABSORBED : TO_CLIENT;
}

/* A CDN's reply to a slot that has an owner. */
static __always_inline int follow_reply(struct packet *pkt)
{
	struct endpoint *endpoint = endpoints.lookup(&pkt->endpoint);
	struct slot *slot = pkt->slot;
	__u32 id = owner_service(pkt->owner), second;
	struct service *service = services.lookup(&id);
	struct flow_key key = {};
	struct flow *flow = 0;
	bool handshake;
	__u64 us;

	if (!slot || !endpoint || !service)
		return NO_OWNER;
	pkt->cdn = endpoint->cdn;
	pkt->out.source = service->vip;
	pkt->out.source_port = service->port;
	pkt->out.target = pkt->client;
	pkt->out.target_port = pkt->owner >> 16;
	pkt->out.ip_delta = slot->ip_delta;
	pkt->out.tcp_delta = slot->tcp_delta;

	if (slot->state == SLOT_CLOSING) {
		/* the reset was not in window: the flow lives, and its port must not be given away */
		if ((slot->flags & FLOW_RESET) && !(pkt->flags & TCP_RST) &&
		    age_ns(coarse_now(pkt), slot->since_ns) > RESET_DOUBT_NS) {
			slot->flags &= ~FLOW_RESET;
			slot->state = SLOT_ESTABLISHED;
		}
		return TO_CLIENT;
	}
	if (slot->state == SLOT_TOMBSTONE) {
		if ((pkt->flags & (TCP_SYN | TCP_ACK)) != (TCP_SYN | TCP_ACK) ||
		    bpf_ntohl(pkt->acknowledged) != bpf_ntohl(slot->isn) + 1)
			return STALE_REPLY;
		us = age_ns(exact_now(pkt), slot->since_ns) / NS_PER_US;
		record_handshake(endpoint->cdn, us < 0xffffffff ? us : 0xffffffff);
		return RESET_TO_CDN;
	}
	/*
	 * Look at the forward entry with each step of a handshake, then once a second: that keeps it
	 * young in the LRU, and rebuilds it when it was evicted.
	 */
	handshake = slot->state != SLOT_ESTABLISHED;
	second = coarse_now(pkt) >> 30;
	if (handshake || slot->seen_s != second) {
		slot->seen_s = second;
		flow = forward_of(pkt, &key, endpoint->cdn);
	}
	if (handshake)
		return follow_handshake(pkt, endpoint, flow);
	if (pkt->flags & (TCP_FIN | TCP_RST))
		note_close(pkt, slot, FLOW_FIN_CDN);
	return TO_CLIENT;
}

static __always_inline int follow(struct packet *pkt)
{
	switch (pkt->belongs) {
	case TO_REPLY:
		return follow_reply(pkt);
	case TO_HALF_OPEN:
	case TO_ESTABLISHED:
		return follow_client(pkt);
	case TO_UNKNOWN_FLOW:
		return RESET_TO_CLIENT;
	default:
		return GO_ON;
	}
}
