/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Opening a flow: who is the client, what is the flow for, which endpoint gets it, by which port. */
#pragma once

#define CONNECT_TTL_MIN 32
#define SYN_WORDS 16 /* of a TCP header: it has 15 at the most */

/*
 * A SYN as hosts send it. What its receiver or the way there drops in silence must not tell against an
 * endpoint, or anybody could have it look dark: so its checksums have to be right. Of data they are not
 * summed up, and what has data does not count. Odd flags, IP options and extension headers are not let through
 * everywhere.
 */
static __always_inline bool is_plain_syn(struct packet *pkt)
{
	struct facts *its = pkt->its;
	__u32 network = its->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	struct tcphdr *tcp = header_at(pkt, its->l4, sizeof(*tcp));
	struct iphdr *ip = header_at(pkt, its->l3, sizeof(*ip));
	__be32 words[SYN_WORDS] = {};
	__u32 length, pseudo;

	if (!tcp || !ip || its->payload || its->fragment || its->l4 != its->l3 + network ||
	    (its->flags & ~(TCP_ECE | TCP_CWR)) != TCP_SYN)
		return false;
	if (its->family == 4 && fold(bpf_csum_diff(0, 0, (__be32 *)ip, sizeof(*ip), 0)) != 0xffff)
		return false;
	length = tcp->doff * 4;
	pseudo = halves_of(&its->source) + halves_of(&its->target) + bpf_htons(IPPROTO_TCP) +
		 bpf_htons(length);
	asm volatile("" : "+r"(length));
	length &= sizeof(words) - 1;
	if (!length || bpf_xdp_load_bytes(pkt->ctx, its->l4, words, length))
		return false;
	return fold(bpf_csum_diff(0, 0, words, sizeof(words), fold(pseudo))) == 0xffff;
}

/*
 * Would the first packet of a flow be answered, as far as one can see? One that hardly gets further than here
 * is made to die on the way: hosts begin with a TTL of 64 or more.
 */
static __always_inline bool is_in_earnest(struct packet *pkt)
{
	return pkt->its->ttl >= CONNECT_TTL_MIN &&
	       (pkt->its->protocol != IPPROTO_TCP || is_plain_syn(pkt));
}

/* Customer and region of the client, class of the flow. */
static __always_inline void know_client(struct packet *pkt, struct service *service)
{
	struct facts *its = pkt->its;
	struct prefix_key key = {.length = 128, .address = its->source};
	struct client *client = clients.lookup(&key);

	its->customer = customer_of(client);
	its->region = client ? client->region : 0;
	its->traffic_class = service->traffic_class == CLASS_BY_DSCP ? class_of_dscp(its->dscp)
								     : service->traffic_class;
	NOTE(NOTED_CLIENT, its->customer, its->region | its->traffic_class << 16);
}

/*
 * Does silence after this first packet say something of the endpoint? Of a direct return no answer is ever
 * seen, some UDP is one-way, and to what comes in the middle of a connection other servers have nothing
 * to say.
 */
static __always_inline bool awaits_answer(struct packet *pkt, struct flow *flow)
{
	__u32 service = flow->service;
	struct heard *heard;

	if (pkt->its->protocol == IPPROTO_TCP)
		return true;
	heard = heard_of.lookup(&service);
	return heard && heard->answered && flow->slot != NO_SLOT &&
	       pkt->its->begins <= BEGINS_CONNECTION;
}

/* A connection that goes on by another way is no new one. */
static __always_inline void count_rebound(struct flow *flow)
{
	struct cdn_count *count = count_of(flow->cdn);

	if (count)
		COUNT(count->rebound, 1);
}

static __always_inline void count_new(struct packet *pkt, struct flow *flow)
{
	struct cdn_count *count = count_of(flow->cdn);
	struct health *h = health_of(flow->endpoint);
	__u32 service = flow->service;
	__u64 *flows = service_flows.lookup(&service);

	if (count) {
		COUNT(count->new_flows, 1);
		if (flow->flags & FLOW_PROBE)
			COUNT(count->probe_flows, 1);
		if (pkt->its->begins == BEGINS_IN_THE_MIDDLE)
			COUNT(count->ids_unknown, 1);
	}
	if (flows)
		COUNT(*flows, 1);
	count_customer_flow(pkt);
	if (!h)
		return;
	if (awaits_answer(pkt, flow))
		note_connect(pkt, h);
	if (!(flow->flags & FLOW_PROBE))
		SET(h->last_new_flow_ns, pkt->its->now);
}

/* What the pick found on its way, said and counted once it is over. */
static __always_inline void note_pick(struct packet *pkt, struct pick *pick, __u32 cdn)
{
	__u32 full = pick->full, id = cdn;
	struct limit *capacity = capacities.lookup(&id);
	struct meter *load = loads.lookup(&id);
	struct cdn_count *count;

	if (capacity && load && capacity->flow_ticks)
		pour(&load->flows_at, capacity->flow_ticks, capacity->burst_ticks,
		     ticks(pkt->its->now));
	if (full == NOWHERE || cdn_of(full) == cdn)
		return; /* there was room, or nowhere was any */
	count = count_of(cdn_of(full));
	if (count)
		COUNT(count->spilled, 1);
	tell_seldom(pkt, EVENT_SPILL, full, 0);
}

/*
 * A rescued flow leaves a tombstone, so that a late SYN-ACK meets a reset. Its entry has been replaced: what
 * it said is told, for in there another flow may be by now.
 */
static __always_inline void bury(struct packet *pkt, __u32 index, __u32 endpoint, __u32 cdn,
				 struct flow *new)
{
	struct slot *slot = reverse.lookup(&index);
	struct cdn_count *count = count_of(cdn);

	if (slot)
		SET(slot->state, SLOT_TOMBSTONE);
	if (count)
		COUNT(count->rescued_from, 1);
	count = count_of(new->cdn);
	if (count)
		COUNT(count->rescued_to, 1);
	tell(pkt, EVENT_RESCUE, 0, endpoint, new->endpoint, 0, 0);
}

/* Remember the flow; half-open, until its client has proved that it is where it says. */
static __always_inline int remember(struct packet *pkt, struct flow *flow,
				    struct endpoint *endpoint)
{
	struct flow_key key = {};
	struct slot *slot;
	int verdict = GO_ON;
	bool failed = false;

	if (flow->slot != NO_SLOT)
		verdict = bind_slot(pkt, flow, endpoint, flow->service);
	if (verdict != GO_ON)
		return verdict;
	key_of(pkt, &key);
	if (WRITES)
		failed = half_open.update(&key, flow);
	slot = reverse.lookup(&flow->slot);
	if (!WRITES || !slot)
		return failed ? NO_ROOM : GO_ON;
	if (failed) {
		SET(slot->owner, 0);
		return NO_ROOM;
	}
	if (*(volatile __u64 *)&slot->owner ==
	    owner_word(&pkt->its->source, pkt->its->source_port, flow->service))
		return GO_ON;
	/* without an entry it was an orphan, for a moment; and the other CPU was in need of a port */
	forget_owner(&key, flow->slot);
	return NO_PORT;
}

/* The flow that is to be rescued: it goes to another CDN than it had, or stays when there is none. */
static __always_inline struct flow *to_be_rescued(struct packet *pkt)
{
	struct flow_key key = {};

	if (!pkt->its->rescue)
		return 0;
	key_of(pkt, &key);
	return half_open.lookup(&key);
}

/* Give a first packet to the endpoint that was picked: bind a port, remember, send. */
static __always_inline int bind_flow(struct packet *pkt)
{
	struct flow *old = to_be_rescued(pkt);
	struct facts *its = pkt->its;
	struct cpu_state *cpu = this_cpu();
	struct endpoint *endpoint;
	struct flow flow = {};
	__u32 id, old_slot = NO_SLOT, old_endpoint = 0, old_cdn = NO_CDN_ID;
	struct pick *pick;
	int verdict;

	if (!cpu)
		return NO_CDN;
	if (old) {
		old_slot = old->slot;
		old_endpoint = old->endpoint;
		old_cdn = old->cdn;
	}
	pick = &cpu->pick;
	if (pick->darkened != NOWHERE)
		eject_darkened(pkt, pick->darkened);
	id = pick->endpoint;
	endpoint = endpoints.lookup(&id);
	if (!endpoint || !endpoint->protocol || (old && endpoint->cdn == old_cdn))
		return old ? towards_cdn(pkt, old) : NO_CDN;
	NOTE(NOTED_PICKED, id, pick->probe);
	/* before it leaves a trace: what goes nowhere is no connect; to the host itself there is no hop more */
	if (its->ttl <= 1 && endpoint->transport != TRANSPORT_PASS)
		return ANSWER_TOO_LATE;
	flow.generation = its->policy;
	flow.endpoint = id;
	flow.slot =
		endpoint->transport == TRANSPORT_NAT ? 0 : NO_SLOT; /* a real one is found below */
	flow.service = its->service;
	flow.cdn = endpoint->cdn;
	flow.customer = its->customer;
	flow.traffic_class = its->traffic_class;
	flow.region = its->region;
	flow.isn = its->protocol == IPPROTO_TCP ? its->sequence : moment_of(its->now);
	flow.syn_data = its->payload;
	flow.syn_ns = its->now;
	flow.seen_s = second_of(its->now);
	its->cdn = flow.cdn;
	if (pick->probe) {
		flow.flags = FLOW_PROBE;
		tell(pkt, EVENT_PROBE, 0, id, 0, 0, 0);
	}
	/* in the middle of a connection a server need not answer at once */
	if (its->begins > BEGINS_CONNECTION)
		flow.flags |= FLOW_RESENT;
	if (its->begins == BEGINS_ANOTHER_WAY)
		flow.flags |= FLOW_REBOUND;
	if (!(its->mode & MODE_OBSERVE)) {
		verdict = remember(pkt, &flow, endpoint);
		if (verdict != GO_ON)
			return old ? towards_cdn(pkt, old) : verdict;
	}
	if (its->begins == BEGINS_ANOTHER_WAY) {
		count_rebound(&flow);
		return towards_cdn(pkt, &flow);
	}
	note_pick(pkt, pick, flow.cdn);
	if (old)
		bury(pkt, old_slot, old_endpoint, old_cdn, &flow);
	else
		its->happened |= A_BEGINNING;
	count_new(pkt, &flow);
	return towards_cdn(pkt, &flow);
}

/*
 * A first packet that no flow is waiting for, or one to be rescued: which service, which client? Then it is let
 * in, or how its source behaves is weighed first.
 */
static __always_inline int open_flow(struct packet *pkt)
{
	struct flow *old = to_be_rescued(pkt);
	struct facts *its = pkt->its;
	__u32 *id = service_asked_for(its);
	struct service *service;
	struct health *h;
	int verdict;

	NOTE(NOTED_SERVICE, id ? *id : NOWHERE, 0);
	verdict = screen(pkt);
	if (verdict != GO_ON)
		return verdict;
	its->tells = !(its->mode & MODE_OBSERVE) && is_in_earnest(pkt);
	h = old ? health_of(old->endpoint) : 0;
	if (h)
		note_connect(pkt, h); /* once more, in vain */
	if (!id)
		return its->ttl <= 1 ? ANSWER_TOO_LATE : NO_SERVICE;
	its->service = *id;
	its->rescue = old != 0;
	its->suspicious = 0;
	service = services.lookup(&its->service);
	if (!service)
		return NO_SERVICE;
	know_client(pkt, service);
	return is_weighed(pkt) ? TO_WEIGHING : TO_LETTING_IN;
}

/* May its source open it? Then whereto? */
static __always_inline int let_in(struct packet *pkt)
{
	struct flow *old = to_be_rescued(pkt);
	struct facts *its = pkt->its;
	struct service *service = services.lookup(&its->service);
	__u32 known;
	int verdict;

	if (!service)
		return NO_SERVICE;
	verdict = shed(pkt, its->service);
	if (verdict == GO_ON)
		verdict = may_open(pkt);
	if (verdict != GO_ON)
		return verdict;
	exact_now(pkt);
	its->client = its->source;
	known = recognise(pkt, service, its->service);
	if (known != NOWHERE)
		return skip_pick(known) ? TO_BINDING : NO_SERVICE;
	if (old)
		NOTE(NOTED_RESCUE, old->cdn, 0);
	return begin_pick(pkt, service, old ? old->cdn : NO_CDN_ID) ? TO_PICKING : NO_SERVICE;
}
