/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Following a flow through its changes, as its client makes them: its handshake and its end. */
#pragma once

/* Datagrams that a client sends within so long are one flight: less than what makes an answer a slow one. */
#define UDP_FLIGHT_NS 10000000ULL
/* A client that asks again has waited so long. */
#define UDP_PAUSE_NS 100000000ULL
/* A SYN may carry so much data (Fast Open, RFC 7413), all or nothing of which is acknowledged with it. */
#define SYN_DATA_MAX 16384

/*
 * Which flow of the client's a packet is part of, now that it is known to be none in its steady state. Where the
 * door has found none under way, a handshake's is looked for first; one that the other CPU has meanwhile finished is
 * found all the same, for whose segment is nobody's would be reset. Of UDP that is left to chance: a datagram of a
 * flow whose other datagram that CPU takes in at this very moment begins anew.
 */
static __always_inline void find_changing(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct flow_key key = {};
	struct flow *flow = 0;

	key_of(pkt, &key);
	if (its->belongs != TO_SOMETHING) {
		flow = under_way(&key);
		its->belongs = TO_ESTABLISHED;
	}
	if (!flow) {
		flow = half_open.lookup(&key);
		its->belongs = TO_HALF_OPEN;
	}
	if (!flow && its->protocol == IPPROTO_TCP) {
		flow = established.lookup(&key);
		its->belongs = TO_ESTABLISHED;
	}
	if (!flow)
		its->belongs = TO_NEW_FLOW;
	else
		its->endpoint = flow->endpoint;
	NOTE(NOTED_FLOW, its->belongs, flow ? flow->slot : NO_SLOT);
	pkt->flow = flow;
}

/* Is it the number that comes next after a SYN? Both as they stand in packets. */
static __always_inline bool follows_syn(__u32 number, __u32 isn)
{
	return bpf_ntohl(number) - bpf_ntohl(isn) - 1 <= SYN_DATA_MAX;
}

/*
 * The very number that is expected next: a reset with any other ends nothing (RFC 9293, 3.10.7; RFC 5961, 3.2).
 * What came with the SYN has been taken or not.
 */
static __always_inline bool is_next(__u32 number, __u32 isn, __u32 syn_data)
{
	__u32 beyond = bpf_ntohl(number) - bpf_ntohl(isn) - 1;

	return !beyond || beyond == syn_data;
}

/* A new flow: its stage finds the rest by itself. */
static __always_inline int open_anew(struct packet *pkt)
{
	pkt->its->rescue = 0;
	return TO_OPENING;
}

/* FINs and resets, for the life of the port; the entry itself stays until it is needed no more. */
static __always_inline void note_close(struct packet *pkt, struct slot *slot, __u8 fin)
{
	const __u8 both = FLOW_FIN_CLIENT | FLOW_FIN_CDN;

	if (pkt->its->flags & TCP_RST)
		set_flags(slot, FLOW_RESET);
	else if (((set_flags(slot, fin) | fin) & both) != both)
		return;
	if (slot->state == SLOT_ESTABLISHED) {
		count_closed(pkt->its->cdn);
		pkt->its->happened |= AN_END;
	}
	SET(slot->state, SLOT_CLOSING);
	SET(slot->since_ns, coarse_now(pkt));
}

/*
 * A datagram before the first answer: does the client ask again, or go on? QUIC asks again by a packet that
 * begins a connection; other UDP by sending once more after a pause, while what streams on waits for
 * nothing. One-way UDP never asks, and of a connection under way another CDN knows nothing.
 */
static __always_inline bool asks_again(struct packet *pkt, struct flow *flow, struct health *h)
{
	__u32 service = flow->service;
	struct heard *heard = heard_of.lookup(&service);

	if (!heard || !heard->answered || (flow->flags & FLOW_REBOUND))
		return false;
	if (speaks_quic(heard))
		return begins_connection(pkt);
	return moment_of(pkt->its->now) - flow->isn > moment_of(UDP_PAUSE_NS) ||
	       (h->state == BREAKER_OUT && h->reason == OUT_DARK);
}

/*
 * A first packet of a flow that is under way. With the same ISN a SYN was sent again: when the CDN has
 * been silent for too long, another gets it, at the price of one retransmission; some send it again after
 * a refusal, too. With another ISN after the handshake was refused or given up long ago, it is a new flow
 * like any. Of UDP each packet until the first answer is one; those that come together are one flight, and
 * the first of them is timed.
 */
static __always_inline int follow_first(struct packet *pkt, struct flow *flow)
{
	struct slot *slot = reverse.lookup(&flow->slot);
	struct health *h = health_of(flow->endpoint);
	struct facts *its = pkt->its;
	bool tcp = its->protocol == IPPROTO_TCP, again = tcp;

	exact_now(pkt);
	if (flow->slot != NO_SLOT && !slot)
		return NO_OWNER;
	if (!tcp) {
		again = h && asks_again(pkt, flow, h);
		SET(flow->isn, moment_of(its->now));
		if (slot)
			SET(slot->seen_s, second_of(its->now));
	}
	if (tcp || age_ns(its->now, flow->syn_ns) > UDP_FLIGHT_NS) {
		SET(flow->flags, flow->flags | FLOW_RESENT);
		if (slot)
			set_flags(slot, FLOW_RESENT);
	}
	if (tcp && its->sequence != flow->isn) {
		if (age_ns(its->now, flow->syn_ns) > HALF_OPEN_NS ||
		    (slot && slot->state == SLOT_CLOSING))
			return open_anew(pkt);
		SET(flow->isn, its->sequence);
		SET(flow->syn_data, its->payload);
		SET(flow->flags, flow->flags & ~FLOW_SYNACK);
		if (slot) {
			SET(slot->isn, flow->isn);
			SET(slot->state, SLOT_SYN_SENT);
		}
		return towards_cdn(pkt, flow);
	}
	if (tcp && slot && slot->state == SLOT_CLOSING) {
		clear_flags(slot, FLOW_RESET);
		SET(slot->state, SLOT_SYN_SENT);
		SET(flow->flags, flow->flags & ~FLOW_SYNACK);
	}
	if (h)
		NOTE(NOTED_AGAIN, age_ns(its->now, flow->syn_ns),
		     patience_ns(h, pkt->set->rescue_after_ns));
	if (h && again && !(flow->flags & FLOW_SYNACK) &&
	    !(its->mode & (MODE_DISARMED | MODE_OBSERVE)) &&
	    age_ns(its->now, flow->syn_ns) > patience_ns(h, pkt->set->rescue_after_ns)) {
		its->rescue = 1;
		return TO_OPENING;
	}
	return towards_cdn(pkt, flow);
}

/*
 * The client's answer to the CDN's proves that it is where it says: the flow is established. Of a direct
 * return we see no answer; there the right next sequence number has to do, and the time it took is the
 * whole way round: box, CDN, client, box.
 */
static __always_inline bool proves_itself(struct packet *pkt, struct flow *flow)
{
	struct facts *its = pkt->its;

	if (flow->slot == NO_SLOT)
		return its->protocol == IPPROTO_UDP || follows_syn(its->sequence, flow->isn);
	if (!(flow->flags & FLOW_SYNACK))
		return false;
	return its->protocol == IPPROTO_UDP ||
	       bpf_ntohl(its->acknowledged) == bpf_ntohl(flow->cdn_isn) + 1;
}

/* Whose a port of ours is now, for those who keep a log of that. */
static __always_inline void tell_binding(struct packet *pkt, const struct flow *flow)
{
	struct binding binding = {
		.at_ns = coarse_now(pkt),
		.client = pkt->its->source,
		.client_port = pkt->its->source_port,
		.snat_port = flow->snat_port,
		.snat = flow->snat,
		.endpoint = flow->endpoint,
		.service = flow->service,
		.protocol = pkt->its->protocol,
	};

	if (pkt->set->log_bindings && WRITES)
		bindings.perf_submit(pkt->ctx, &binding, sizeof(binding));
}

/*
 * From now on it is a flow under way: an established one when it is `proven` where the client is. UDP gets
 * that far without, and then the server names an id after all: it is promoted once more.
 */
static __always_inline int promote(struct packet *pkt, struct flow *flow, bool proven)
{
	struct slot *slot = reverse.lookup(&flow->slot);
	struct facts *its = pkt->its;
	struct cdn_count *count = count_of(flow->cdn);
	bool begun = its->belongs == TO_HALF_OPEN;
	struct flow_key key = {};
	struct flow steady;

	its->client = its->source;
	if (proven)
		trust(pkt, slot, true); /* of a direct return the proof can be guessed */
	if (proven && slot)
		its->happened |= A_PROOF;
	steady = *flow;
	key_of(pkt, &key);
	if (its->protocol == IPPROTO_TCP)
		steady.isn =
			bpf_ntohl(its->sequence); /* from here on: the end of what it has sent */
	else
		steady.cdn_isn = 0; /* from here on: no id that it has to repeat */
	steady.flags = 0;
	steady.syn_ns = coarse_now(pkt);
	if (!get_under_way(&key, &steady, proven))
		return NO_ROOM;
	if (flow->slot == NO_SLOT) {
		if (its->protocol == IPPROTO_TCP)
			note_direct_answer(pkt, flow);
	} else if (!slot || *(volatile __u64 *)&slot->owner !=
				    owner_word(&its->source, its->source_port, flow->service)) {
		forget_under_way(&key); /* the other CPU has just given the port away */
		return NO_OWNER;
	} else {
		SET(slot->isn, bpf_ntohl(flow->cdn_isn) + 1);
		SET(slot->since_ns, coarse_now(pkt));
		SET(slot->state, SLOT_ESTABLISHED);
		if (begun)
			tell_binding(pkt, flow);
	}
	if (count && begun)
		COUNT(count->promoted, 1);
	NOTE(NOTED_PROMOTED, flow->slot, proven);
	if (its->payload && its->protocol == IPPROTO_TCP) {
		struct flow *stored = established.lookup(&key);

		if (stored)
			note_data(pkt, stored);
	}
	if (WRITES) {
		half_open.delete(&key);
		if (!begun)
			datagrams.delete(&key);
	}
	return towards_cdn(pkt, &steady);
}

/* What a client says after the CDN's answer, or what has to do for one. */
static __always_inline int follow_proof(struct packet *pkt, struct flow *flow)
{
	return proves_itself(pkt, flow) ? promote(pkt, flow, pkt->its->protocol == IPPROTO_TCP)
					: BAD_ACK;
}

/*
 * A SYN on the port of an established flow: while that lives, the CDN answers with a challenge
 * (RFC 5961). After its end it is a new flow, on a port that does not rest; the old entry goes, or the
 * answer to the new SYN-ACK would find it first.
 */
static __always_inline int follow_syn_after(struct packet *pkt, struct flow *flow)
{
	struct slot *slot = reverse.lookup(&flow->slot);
	struct flow_key key = {};

	if (slot ? slot->state != SLOT_CLOSING : !(flow->flags & (FLOW_FIN_CLIENT | FLOW_RESET)))
		return towards_cdn(pkt, flow);
	key_of(pkt, &key);
	if (WRITES)
		established.delete(&key);
	return open_anew(pkt);
}

/*
 * FIN or reset of a client's. A reset of a handshake ends it when it is in order (RFC 9293, 3.10.7.4), which
 * who merely guesses the port does not know; whatever it is, the CDN sees for itself.
 */
static __always_inline int follow_end(struct packet *pkt, struct flow *flow)
{
	struct slot *slot = reverse.lookup(&flow->slot);
	bool known = flow->flags & (FLOW_FIN_CLIENT | FLOW_RESET);
	int verdict = towards_cdn(pkt, flow);

	if (verdict != TO_CDN)
		return verdict;
	if (pkt->its->belongs == TO_HALF_OPEN &&
	    !is_next(pkt->its->sequence, flow->isn, flow->syn_data))
		return verdict;
	/* of a direct return one side's end is all that is seen */
	if (!slot && !known && pkt->its->belongs == TO_ESTABLISHED)
		count_closed(flow->cdn);
	if (pkt->its->flags & TCP_RST)
		SET(flow->flags, flow->flags | FLOW_RESET);
	else if (!slot)
		SET(flow->flags, flow->flags | FLOW_FIN_CLIENT);
	if (slot && slot->state != SLOT_TOMBSTONE)
		note_close(pkt, slot, FLOW_FIN_CLIENT);
	return verdict;
}

/*
 * UDP towards a CDN that has gone dark. Where there is no connection, or a new one begins, the flow begins
 * anew, elsewhere; a connection of QUIC waits, as the CDN may come back before it gives up.
 */
static __always_inline int follow_into_dark(struct packet *pkt, struct flow *flow)
{
	struct slot *slot = reverse.lookup(&flow->slot);
	struct cdn_count *count = count_of(flow->cdn);
	struct flow_key key = {};
	__u32 service = flow->service;

	if (!has_gone_dark(pkt, flow->endpoint) ||
	    (speaks_quic(heard_of.lookup(&service)) && !begins_connection(pkt))) {
		refresh(pkt, flow, second_of(coarse_now(pkt)));
		return towards_cdn(pkt, flow);
	}
	if (slot && slot->state == SLOT_ESTABLISHED) {
		count_closed(flow->cdn);
		SET(slot->state, SLOT_CLOSING);
		SET(slot->since_ns, coarse_now(pkt));
	}
	if (count)
		COUNT(count->reset_dark, 1);
	key_of(pkt, &key);
	forget_under_way(&key);
	return open_anew(pkt);
}

static __always_inline bool is_translated(__u32 id)
{
	struct endpoint *endpoint = endpoints.lookup(&id);

	return endpoint && endpoint->transport == TRANSPORT_NAT;
}

/* It was answered directly, but its CDN is none any more that does so: it is over. */
static __always_inline int follow_astray(struct packet *pkt)
{
	struct flow_key key = {};

	key_of(pkt, &key);
	forget_under_way(&key);
	if (WRITES)
		half_open.delete(&key);
	if (pkt->its->protocol == IPPROTO_UDP || (pkt->its->flags & TCP_SYN))
		return open_anew(pkt);
	return pkt->its->mode & MODE_OBSERVE ? PASSED : RESET_TO_CLIENT;
}

/* A UDP client that spoke before the answer came. */
static __always_inline bool is_first(struct packet *pkt, struct flow *flow)
{
	if (pkt->its->protocol == IPPROTO_TCP)
		return pkt->its->flags & TCP_SYN;
	return flow->slot != NO_SLOT && !(flow->flags & FLOW_SYNACK);
}

/* A VIP may be the host's own address, too: operators get in by the ports that no service has. */
static __always_inline bool is_for_operators(struct packet *pkt)
{
	return !service_asked_for(pkt->its) && is_management(pkt);
}

static __always_inline int follow_client(struct packet *pkt)
{
	struct facts *its = pkt->its;
	bool charged = its->belongs == TO_ESTABLISHED;
	struct flow *flow;
	int verdict = GO_ON;

	find_changing(pkt);
	flow = pkt->flow;
	if (!flow) {
		if (is_for_operators(pkt))
			return PASSED;
		if (its->protocol == IPPROTO_TCP && !(its->flags & TCP_SYN))
			return its->mode & MODE_OBSERVE ? PASSED : RESET_TO_CLIENT;
		return open_anew(pkt);
	}
	if (flow->slot == NO_SLOT && is_translated(flow->endpoint))
		return follow_astray(pkt);
	if (!charged) {
		its->customer = flow->customer;
		verdict = within_quota(pkt);
		if (verdict != GO_ON)
			return verdict;
	}
	if (its->belongs == TO_HALF_OPEN && is_first(pkt, flow))
		return follow_first(pkt, flow);
	if (its->belongs == TO_ESTABLISHED && its->protocol == IPPROTO_UDP)
		return follow_into_dark(pkt, flow);
	if (its->belongs == TO_ESTABLISHED && (its->flags & TCP_SYN))
		return follow_syn_after(pkt, flow);
	if (its->belongs == TO_HALF_OPEN && its->protocol == IPPROTO_UDP && flow->cdn_isn)
		return TO_QUIC;
	if (its->belongs == TO_HALF_OPEN && !(its->flags & TCP_RST)) {
		verdict = follow_proof(pkt, flow);
		if (verdict != TO_CDN || !(its->flags & TCP_FIN))
			return verdict;
		find_changing(pkt); /* established by the very packet that ends it */
		flow = pkt->flow;
		if (!flow)
			return NO_OWNER;
	}
	if (its->flags & (TCP_FIN | TCP_RST))
		return follow_end(pkt, flow);
	return towards_cdn(pkt, flow);
}
