/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The same by what its CDN says: answers, ends, and every reply once a second. */
#pragma once

/* The forward entry of a reply's flow, rebuilt from the slot when it was evicted. */
static __always_inline struct flow *forward_of(struct packet *pkt, struct slot *slot,
					       struct flow_key *key)
{
	struct facts *its = pkt->its;
	struct flow built = {}, *flow;

	if (!owner_key(slot, its->owner, key))
		return 0;
	flow = forward_entry(key, slot->state);
	NOTE(NOTED_FORWARD, flow != 0, 0);
	if (!flow) /* the client may have a newer flow on this port, in the other table */
		flow = slot->state == SLOT_ESTABLISHED ? half_open.lookup(key) : under_way(key);
	if (flow)
		return flow->slot == its->slot_index ? flow : 0;
	built.slot = its->slot_index;
	built.generation = slot->generation;
	built.snat = its->index;
	built.snat_port = its->target_port;
	built.ip_delta = ~slot->ip_delta;
	built.l4_delta = ~slot->l4_delta;
	built.customer = slot->customer;
	built.traffic_class = slot->traffic_class;
	built.region = slot->region;
	built.endpoint = its->endpoint;
	built.service = owner_service(its->owner);
	built.cdn = its->cdn;
	built.isn = slot->isn;
	built.syn_ns = slot->since_ns;
	if (slot->state == SLOT_ESTABLISHED) {
		built.isn = bpf_ntohl(its->acknowledged); /* sent and arrived */
		built.syn_ns = coarse_now(pkt);
		/* of QUIC there is nothing left to say whether it has proved itself */
		get_under_way(key, &built, its->protocol == IPPROTO_TCP);
	} else {
		if (WRITES)
			half_open.update(key, &built);
	}
	if (*(volatile __u64 *)&slot->owner != its->owner)
		forget_owner(key, its->slot_index);
	return forward_entry(key, slot->state);
}

/* Of UDP the first answer has the first byte of a reply in it. */
static __always_inline void note_first_datagram(struct packet *pkt, struct slot *slot)
{
	struct facts *its = pkt->its;
	struct cdn_count *count = count_of(its->cdn);

	note_heard(owner_service(its->owner));
	if (slot->flags & FLOW_RESENT)
		return;
	record_first_byte(pkt, slot, age_ns(its->now, slot->since_ns));
	if (count)
		COUNT(count->requests, 1);
}

/*
 * The answer to our client's first packet: its time is the CDN's latency. A segment that acknowledges
 * something else is of an older connection on this port: a reset ends that one, so that ours begins.
 */
static __always_inline int follow_answer(struct packet *pkt, struct slot *slot, struct flow *flow)
{
	struct facts *its = pkt->its;
	struct endpoint *endpoint = endpoints.lookup(&its->endpoint);
	bool tcp = its->protocol == IPPROTO_TCP;
	bool first = slot->state == SLOT_SYN_SENT;
	bool refused = its->flags & TCP_RST;
	bool absorb = refused && (slot->flags & FLOW_PROBE) && !(its->mode & MODE_DISARMED);
	__u64 us;

	if (!endpoint)
		return NO_OWNER;
	if (tcp && (!(its->flags & TCP_ACK) || !follows_syn(its->acknowledged, slot->isn) ||
		    (first && !(its->flags & (TCP_SYN | TCP_RST)))))
		return RESET_TO_CDN;
	if (refused && !is_next(its->acknowledged, slot->isn, flow ? flow->syn_data : 0))
		return STALE_REPLY;
	if (!tcp || (its->flags & TCP_SYN)) {
		if (flow) {
			if (tcp)
				SET(flow->cdn_isn, its->sequence);
			SET(flow->flags, flow->flags | FLOW_SYNACK);
		}
		SET(slot->state, SLOT_SYN_RECV);
	}
	if (refused && !absorb)
		note_close(pkt, slot, 0);
	if (first) {
		us = age_ns(exact_now(pkt), slot->since_ns) / NS_PER_US;
		if (!tcp)
			note_first_datagram(pkt, slot);
		note_answer(pkt, its->endpoint, endpoint, slot->flags,
			    us < 0xffffffff ? us : 0xffffffff, refused);
	}
	/* a client that probed for us need not hear the refusal: its next SYN is rescued */
	return absorb ? ABSORBED : TO_CLIENT;
}

/* Late for a flow that was rescued from this CDN. */
static __always_inline int follow_tombstone(struct packet *pkt, struct slot *slot)
{
	struct facts *its = pkt->its;
	bool tcp = its->protocol == IPPROTO_TCP;
	__u64 us;

	if (tcp && ((its->flags & (TCP_SYN | TCP_ACK)) != (TCP_SYN | TCP_ACK) ||
		    !follows_syn(its->acknowledged, slot->isn)))
		return STALE_REPLY;
	if (!(set_flags(slot, FLOW_SYNACK) & FLOW_SYNACK)) { /* the first one is timed */
		us = age_ns(exact_now(pkt), slot->since_ns) / NS_PER_US;
		record_handshake(its->cdn, us < 0xffffffff ? us : 0xffffffff);
	}
	return tcp ? RESET_TO_CDN : STALE_REPLY;
}

static __always_inline int follow_closing(struct packet *pkt, struct slot *slot)
{
	/* the reset was not in window: the flow lives, and its port must not be given away */
	if ((slot->flags & FLOW_RESET) && !(pkt->its->flags & TCP_RST) &&
	    age_ns(coarse_now(pkt), slot->since_ns) > RESET_DOUBT_NS)
		revive(slot, pkt->its->cdn);
	return TO_CLIENT;
}

/* A CDN's reply to a slot that has an owner. */
static __always_inline int follow_reply(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct flow_key key = {};
	struct slot *slot;
	struct flow *flow;
	int verdict;

	if (!find_slot(pkt))
		return NO_OWNER;
	slot = pkt->slot;
	verdict = towards_client(pkt);
	if (verdict != TO_CLIENT)
		return verdict;
	if (slot->state == SLOT_TOMBSTONE)
		return follow_tombstone(pkt, slot);
	if (slot->state == SLOT_CLOSING)
		return follow_closing(pkt, slot);
	/*
	 * Look at the forward entry with each step of a handshake, then once a second: that keeps it
	 * young in the LRU, and rebuilds it when it was evicted.
	 */
	flow = forward_of(pkt, slot, &key);
	SET(slot->seen_s, second_of(coarse_now(pkt)));
	if (slot->state != SLOT_ESTABLISHED)
		return follow_answer(pkt, slot, flow);
	if (its->payload)
		note_reply_data(pkt, slot);
	if (its->flags & (TCP_FIN | TCP_RST))
		note_close(pkt, slot, FLOW_FIN_CDN);
	return TO_CLIENT;
}

static __always_inline int follow_change(struct packet *pkt)
{
	int verdict = pkt->its->belongs == TO_REPLY ? follow_reply(pkt) : follow_client(pkt);

	if (verdict == TO_CLIENT && names_an_id(pkt))
		return TO_QUIC;
	return verdict;
}
