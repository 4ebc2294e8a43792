/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Following a known flow: its handshake, its end, its replies. */
#pragma once

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
	note_way_back(pkt, slot);
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
