/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Flows: what a packet is part of, and how a new flow is opened. */
#pragma once

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
