/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Flows: what a packet is part of, and the way of one that is under way and in no change. */
#pragma once

static __always_inline void key_of(struct packet *pkt, struct flow_key *key)
{
	struct facts *its = pkt->its;

	key->client = its->source;
	key->client_port = its->source_port;
	key->vip_port = its->target_port;
	key->vip = its->index;
	key->protocol = its->protocol;
}

/* -- finding: what is this packet part of? -- */

/* What the express lane has sought is not sought again: in a flood of such packets the tables are what is dear. */
static __always_inline int find_from_client(struct packet *pkt)
{
	struct flow_key key = {};

	pkt->its->belongs = TO_SOMETHING;
	if (pkt->its->flags & TCP_SYN)
		return pkt->its->flags & TCP_ACK
			       ? UNKNOWN_FLOW /* we send clients no SYN to answer */
			       : GO_ON;
	if (pkt->its->sought)
		return GO_ON;
	key_of(pkt, &key);
	pkt->flow = under_way(&key);
	if (pkt->flow) {
		pkt->its->belongs = TO_ESTABLISHED;
		pkt->its->customer = pkt->flow->customer;
		pkt->generation = &pkt->flow->generation;
		NOTE(NOTED_FLOW, TO_ESTABLISHED, pkt->flow->slot);
	}
	return GO_ON;
}

/* The slot of a port of ours, and whose it is: false when it is nobody's. */
static __always_inline bool find_slot(struct packet *pkt)
{
	struct facts *its = pkt->its;
	__u32 index = its->slot_index;
	struct slot *slot = reverse.lookup(&index);

	if (!slot)
		return false;
	its->owner = *(volatile __u64 *)&slot->owner;
	NOTE(NOTED_SLOT, its->slot_index, its->owner);
	if (!its->owner || its->owner == BEING_BOUND)
		return false;
	its->client = slot->client;
	if (*(volatile __u64 *)&slot->owner != its->owner)
		return false; /* given away just now */
	its->customer = slot->customer;
	pkt->slot = slot;
	pkt->generation = &slot->generation;
	return true;
}

/* What an endpoint has to say about a port of ours; it is for whom the port is held. */
static __always_inline int find_reply(struct packet *pkt, struct endpoint_key *key, __u16 our_port)
{
	struct facts *its = pkt->its;
	__u32 port = (__u32)bpf_ntohs(our_port) - pkt->set->port_min_host, *id;

	if (port >= pkt->set->ports) {
		NOTE(NOTED_HOST_PORT, 0, 0);
		return GO_ON; /* the address is the host's too, and the port its own */
	}
	id = endpoint_ids.lookup(key);
	NOTE(NOTED_ENDPOINT, id ? *id : NOWHERE, 0);
	if (!id)
		return NO_OWNER;
	its->endpoint = *id;
	its->slot_index = slot_row(pkt->set, *id, its->index) + port;
	if (!find_slot(pkt))
		return NO_OWNER;
	its->belongs = TO_REPLY;
	return GO_ON;
}

static __always_inline int find_from_cdn(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct endpoint_key key = {
		.address = its->source, .port = its->source_port, .protocol = its->protocol};

	return find_reply(pkt, &key, its->target_port);
}

/* What carries no ports: errors and pings, pieces, and what only the host can be meant by. */
static __always_inline int find_portless(struct packet *pkt, int verdict)
{
	struct facts *its = pkt->its;

	if (verdict != GO_ON)
		return its->ours == LOCAL_SNAT && verdict == UNSUPPORTED ? GO_ON : verdict;
	if (its->fragment == 2) {
		its->belongs = TO_SOMETHING;
		return GO_ON;
	}
	if (its->protocol == (its->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		its->belongs = TO_SOMETHING;
		return GO_ON;
	}
	return its->ours == LOCAL_SNAT ? GO_ON : UNSUPPORTED;
}

/* To a port of a SNAT address that is none of ours. */
static __always_inline bool is_for_host(struct packet *pkt)
{
	__u16 port = pkt->its->target_port;

	return pkt->its->ours == LOCAL_SNAT && port &&
	       (__u32)bpf_ntohs(port) - pkt->set->port_min_host >= pkt->set->ports;
}

static __always_inline int find_flow(struct packet *pkt)
{
	struct facts *its = pkt->its;
	int verdict;

	if (!its->ours)
		return GO_ON;
	verdict = parse_network(pkt);
	if (verdict != GO_ON || its->fragment == 2 ||
	    (its->protocol != IPPROTO_TCP && its->protocol != IPPROTO_UDP))
		return find_portless(pkt, verdict);
	verdict = parse_transport(pkt);
	if (verdict != GO_ON)
		return is_for_host(pkt) ? GO_ON : verdict; /* who may take what we do not */
	return its->ours == LOCAL_SNAT ? find_from_cdn(pkt) : find_from_client(pkt);
}

/* -- the way of a flow -- */

static __always_inline int towards_cdn(struct packet *pkt, struct flow *flow)
{
	struct facts *its = pkt->its;
	__u32 id = flow->endpoint;
	struct endpoint *endpoint = endpoints.lookup(&id);

	if (!endpoint)
		return NO_CDN;
	its->cdn = flow->cdn;
	its->endpoint = id;
	its->slot_index = flow->slot;
	its->snat = flow->snat;
	pkt->endpoint = endpoint;
	if (is_direct(its)) /* which may be over; see follow_client() */
		return endpoint->transport == TRANSPORT_NAT ? TO_HANDSHAKE : TO_CDN;
	its->out.source = *snat_address(pkt, flow->snat);
	its->out.target = endpoint->address;
	its->out.source_port = flow->snat_port;
	its->out.target_port = endpoint->port;
	its->out.ip_delta = flow->ip_delta;
	its->out.l4_delta = flow->l4_delta;
	return TO_CDN;
}

static __always_inline int towards_client(struct packet *pkt)
{
	struct facts *its = pkt->its;
	__u32 from = its->endpoint, id = owner_service(its->owner);
	struct endpoint *endpoint = endpoints.lookup(&from);
	struct service *service = services.lookup(&id);

	if (!pkt->slot || !endpoint || !service)
		return NO_OWNER;
	its->cdn = endpoint->cdn;
	its->out.source = service->vip;
	its->out.target = its->client;
	its->out.source_port = service->port;
	its->out.target_port = its->owner >> 16;
	its->out.ip_delta = pkt->slot->ip_delta;
	its->out.l4_delta = pkt->slot->l4_delta;
	return TO_CLIENT;
}

/* The number of the service that a client's packet is for; 0 when that port of the VIP has none. */
static __always_inline __u32 *service_asked_for(const struct facts *its)
{
	struct service_key key = {
		.port = its->target_port, .vip = its->index, .protocol = its->protocol};

	return service_ids.lookup(&key);
}

/* A flow begins or ends with it. */
static __always_inline bool changes(struct facts *its)
{
	return its->flags & (TCP_SYN | TCP_FIN | TCP_RST);
}

/* -- while flows are being moved to other tables -- */

/*
 * For a moment flows neither begin nor change nor end: what would do that is dropped, and sent again. So who
 * moves them to other tables has them to himself. The moment ends by itself, should he be killed meanwhile.
 */
static __always_inline bool is_held(struct packet *pkt)
{
	__u32 zero = 0;
	__u64 *until = held_until.lookup(&zero);

	return until && *until && *until > coarse_now(pkt);
}

/* May what is not steady go on? The reply that looks at its flow once a second always may. */
static __always_inline int hold(struct packet *pkt)
{
	if (pkt->its->belongs == TO_REPLY && pkt->slot && pkt->slot->state == SLOT_ESTABLISHED &&
	    !changes(pkt->its))
		return TO_HANDSHAKE;
	return is_held(pkt) ? HELD : TO_HANDSHAKE;
}

/* -- what it tells on the way -- */

/* Where a segment ends in its sender's sequence space. */
static __always_inline __u32 segment_end(struct facts *its)
{
	return bpf_ntohl(its->sequence) + its->payload;
}

/*
 * A segment that ends where an earlier one did is sent again: something was lost. Plain windows of
 * 2^31 (RFC 9293, 3.4).
 */
static __always_inline bool sent_before(__u32 end, __u32 highest)
{
	return (__s32)(end - highest) <= 0;
}

/* A client that re-sends into a dark CDN had better begin anew: it lands on a live one. */
static __always_inline bool has_gone_dark(struct packet *pkt, __u32 id)
{
	struct health *h = health.lookup(&id);
	struct endpoint *endpoint = endpoints.lookup(&id);

	return h && endpoint && h->state == BREAKER_OUT && h->reason == OUT_DARK &&
	       (endpoint->flags & ENDPOINT_RESETS) && !(pkt->its->mode & MODE_DISARMED) &&
	       !is_held(pkt);
}

/* The client is told that its connection is gone; the port may soon be another's. */
static __always_inline int cut_off(struct packet *pkt, struct flow *flow)
{
	struct cdn_count *count = count_of(flow->cdn);
	struct slot *slot = reverse.lookup(&flow->slot);

	NOTE(NOTED_GONE_DARK, flow->endpoint, 0);
	if (count)
		COUNT(count->reset_dark, 1);
	if (slot && slot->state == SLOT_ESTABLISHED) {
		count_closed(flow->cdn);
		set_flags(slot, FLOW_RESET);
		SET(slot->since_ns, coarse_now(pkt));
		SET(slot->state, SLOT_CLOSING);
	}
	pkt->its->cdn = flow->cdn;
	return RESET_TO_CLIENT;
}

/*
 * Data of a client that was not sent before. A new request begins when the client has meanwhile acknowledged
 * more than at the last one: no look at the slot is needed to know that the CDN has answered.
 */
static __always_inline void note_new_data(struct packet *pkt, struct flow *flow)
{
	struct facts *its = pkt->its;
	struct cdn_count *count = count_of(flow->cdn);
	struct slot *slot;

	if (count)
		COUNT(count->segments_to, 1);
	SET(flow->isn, segment_end(its));
	if (its->acknowledged == flow->cdn_isn || flow->slot == NO_SLOT)
		return;
	SET(flow->cdn_isn, its->acknowledged);
	slot = reverse.lookup(&flow->slot);
	if (slot) {
		SET(slot->since_ns, exact_now(pkt));
		set_flags(slot, FLOW_ASKED);
	}
}

/* Any data of a client. */
static __always_inline int note_data(struct packet *pkt, struct flow *flow)
{
	struct cdn_count *count = count_of(flow->cdn);

	if (!sent_before(segment_end(pkt->its), flow->isn)) {
		note_new_data(pkt, flow);
		return GO_ON;
	}
	if (count) {
		COUNT(count->segments_to, 1);
		COUNT(count->resent_to, 1);
	}
	return has_gone_dark(pkt, flow->endpoint) ? cut_off(pkt, flow) : GO_ON;
}

/* Data of a CDN: is it the first of a reply? */
static __always_inline void note_reply_data(struct packet *pkt, struct slot *slot)
{
	struct facts *its = pkt->its;
	struct cdn_count *count = count_of(its->cdn);
	__u32 end = segment_end(its);

	if (slot->flags & FLOW_ASKED) {
		clear_flags(slot, FLOW_ASKED);
		record_first_byte(pkt, slot, age_ns(exact_now(pkt), slot->since_ns));
		if (count)
			COUNT(count->requests, 1);
	}
	if (its->protocol != IPPROTO_TCP)
		return;
	if (count)
		COUNT(count->segments_from, 1);
	if (!sent_before(end, slot->isn))
		SET(slot->isn, end);
	else if (count)
		COUNT(count->resent_from, 1);
}

/* -- steady: established, and nothing about it changes -- */

/*
 * Once a second: the way back to the client is the way it comes, also after its gateway has changed.
 * And a client that goes on sending after "its" reset never sent it.
 */
static __always_inline void refresh(struct packet *pkt, struct flow *flow, __u16 second)
{
	struct facts *its = pkt->its;
	struct slot *slot = reverse.lookup(&flow->slot);

	SET(flow->seen_s, second);
	SET(flow->flags, flow->flags & ~FLOW_RESET);
	if (!slot || slot->owner != owner_word(&its->source, its->source_port, flow->service))
		return;
	SET(slot->seen_s, second);
	note_way_back(pkt, slot);
	if (slot->state == SLOT_CLOSING && (slot->flags & FLOW_RESET) && !is_held(pkt))
		revive(slot, flow->cdn);
}

static __always_inline int steady_client(struct packet *pkt)
{
	struct flow *flow = pkt->flow;
	__u16 second = second_of(coarse_now(pkt));
	int verdict;

	if (!flow)
		return NO_OWNER; /* for the verifier: belongs says that there is one */
	if (flow->seen_s != second || (flow->flags & FLOW_RESET)) {
		if (pkt->its->protocol == IPPROTO_UDP && has_gone_dark(pkt, flow->endpoint))
			return TO_HANDSHAKE;
		refresh(pkt, flow, second);
	}
	if (pkt->its->protocol == IPPROTO_UDP) {
		if (flow->cdn_isn && !is_held(pkt))
			return TO_QUIC; /* does it repeat the id that its server has named? */
	} else if (pkt->its->payload && !(pkt->its->mode & MODE_OBSERVE)) {
		verdict = note_data(pkt, flow);
		if (verdict != GO_ON)
			return verdict;
	}
	return towards_cdn(pkt, flow);
}

static __always_inline int steady_reply(struct packet *pkt)
{
	int verdict = towards_client(pkt);

	if (verdict == TO_CLIENT && pkt->slot && pkt->its->payload &&
	    !(pkt->its->mode & MODE_OBSERVE))
		note_reply_data(pkt, pkt->slot);
	return verdict;
}

/* A QUIC long header in a server's packet names the id it chose for itself (RFC 9000, 17.2). */
static __always_inline bool names_an_id(struct packet *pkt)
{
	__u8 *first;

	if (pkt->its->protocol != IPPROTO_UDP)
		return false;
	first = header_at(pkt, pkt->its->l4 + sizeof(struct udphdr), 1);
	return first && (*first & 0xc0) == 0xc0;
}

/* By the operator's will, the fragments of a packet end here. */
static __always_inline bool ends_here(struct packet *pkt)
{
	return pkt->set->fragments == FRAGMENTS_DROP && !(pkt->its->mode & MODE_DISARMED);
}

/* A known flow goes its way; what begins, ends or has no ports goes on in a stage of its own. */
static __always_inline int follow(struct packet *pkt)
{
	struct facts *its = pkt->its;

	/* a first one goes the way of any packet, and leads the rest */
	if (its->fragment && (its->fragment == 2 || ends_here(pkt)))
		return TO_FRAGMENT;
	if (its->protocol != IPPROTO_TCP && its->protocol != IPPROTO_UDP)
		return TO_ICMP;
	if (its->belongs == TO_ESTABLISHED && !changes(its))
		return steady_client(pkt);
	if (its->belongs == TO_REPLY && pkt->slot && !changes(its) &&
	    pkt->slot->state == SLOT_ESTABLISHED && pkt->slot->seen_s == second_of(coarse_now(pkt)))
		return names_an_id(pkt) ? TO_QUIC : steady_reply(pkt);
	return TO_HANDSHAKE;
}
