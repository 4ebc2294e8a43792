/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The express lane: a plain packet of a steady flow goes all the way here, and so does one that is neither
 * for us nor possibly from somebody blocked. Those are nearly all packets there are.
 *
 * It decides nothing in a way of its own: the steps are the pipeline's. What makes it twice as fast is what
 * it knows beforehand, so that the compiler need not ask again: where the headers are, that nothing is
 * fragmented, tagged, in a tunnel or about to change. So the facts stay in registers. Whatever is out of the
 * ordinary is left to the pipeline as it came: until it is certain that a packet goes all the way, nothing
 * is counted, charged or written, but for blocks that are over, which go.
 *
 * `cdnctl trace` explains by the pipeline alone. tests/packet/test_express.py runs packets with and without it.
 */
#pragma once

#define NOT_PLAIN (-1)
#define NONE_UNDER_WAY (NOT_PLAIN - 1) /* nor is it of any flow under way */

/* Told by way of a map, for the verifier would walk all that follows for either. */
static __always_inline void note_sought(int found)
{
	struct cpu_state *cpu = this_cpu();

	if (cpu)
		cpu->facts.sought = NOT_PLAIN - found;
}

/* Addresses; false when there are none. */
static __always_inline bool read_addresses(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct ethhdr *eth = header_at(pkt, 0, sizeof(*eth));

	if (!eth)
		return false;
	its->l3 = sizeof(*eth);
	return parse_addresses(pkt, eth->h_proto);
}

/* IPv4 without options, or IPv6 without extension headers: one piece, and the ports right behind. */
static __always_inline bool read_plain(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct iphdr *ip;
	struct ipv6hdr *ip6;

	if (its->protocol != IPPROTO_TCP && its->protocol != IPPROTO_UDP)
		return false;
	if (its->family == 4) {
		ip = header_at(pkt, sizeof(struct ethhdr), sizeof(*ip));
		if (!ip || *(__u8 *)ip != 0x45 ||
		    (ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET_MASK)))
			return false;
		its->length = bpf_ntohs(ip->tot_len);
		its->payload = its->length - sizeof(*ip);
		its->ttl = ip->ttl;
		its->l4 = sizeof(struct ethhdr) + sizeof(*ip);
		return its->length >= sizeof(*ip) && its->l3 + its->length <= its->bytes &&
		       its->ttl > 1;
	}
	ip6 = header_at(pkt, sizeof(struct ethhdr), sizeof(*ip6));
	if (!ip6 || ip6->version != 6)
		return false;
	its->payload = bpf_ntohs(ip6->payload_len);
	its->length = its->payload + sizeof(*ip6);
	its->ttl = ip6->hop_limit;
	its->l4 = sizeof(struct ethhdr) + sizeof(*ip6);
	return its->l3 + its->length <= its->bytes && its->ttl > 1;
}

/* The interface that a steady packet leaves by, when its frame keeps its size. */
static __always_inline struct link *plain_link(struct packet *pkt, __u32 id, __u32 mtu)
{
	struct link *link = links.lookup(&id);

	if (!link || !link->ifindex || link->outer)
		return 0;
	return fits(pkt, mtu ?: link->mtu, 0) ? link : 0;
}

static __always_inline bool put_out(struct packet *pkt, const struct link *link, const __u8 *self,
				    const __u8 *next)
{
	if (!translate_network(pkt) || !translate_transport(pkt) ||
	    !write_ethernet(pkt, self, next, eth_type(pkt)))
		return false;
	pkt->action = out_of(pkt, link->ifindex);
	return true;
}

/* Each source's limits are the pipeline's to ask for: few edges have them, and it takes a sketch. */
static __always_inline bool is_sources(struct packet *pkt)
{
	return sources_are_metered(pkt) && !customers_limit(pkt);
}

static __always_inline int charge_customer(struct packet *pkt)
{
	struct limit *limit = customers_limit(pkt);

	if (!limit || (pkt->its->customer & CUSTOMER_ALLOWED) ||
	    take_of_customer(pkt, limit, pkt->its->customer, ONE_PACKET | ITS_BYTES) == GO_ON)
		return GO_ON;
	pkt->its->cdn = NO_CDN_ID; /* which never gets it */
	return OVER_QUOTA;
}

/* Was the flow admitted, and looked at within this second? And does the packet change nothing? */
static __always_inline bool is_steady(struct packet *pkt, const struct flow *flow)
{
	if (flow->generation != pkt->its->policy || flow->seen_s != second_of(coarse_now(pkt)) ||
	    (flow->flags & FLOW_RESET) || flow->slot == NO_SLOT)
		return false;
	if (pkt->its->protocol == IPPROTO_UDP)
		return !flow->cdn_isn; /* else an id is awaited */
	return !pkt->its->payload || !sent_before(segment_end(pkt->its), flow->isn);
}

static __always_inline int express_to_cdn(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct flow_key key = {};
	struct flow *flow;
	struct link *link;
	struct hop *hop;
	int verdict;

	if ((its->flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK))
		return GO_ON; /* we send clients no SYN to answer */
	key_of(pkt, &key);
	flow = changes(its) ? 0 : under_way(&key);
	if (!flow) {
		its->sought = !changes(its);
		return blocked(pkt, &its->source) ? BLOCKED : GO_ON;
	}
	its->belongs = TO_ESTABLISHED;
	its->customer = flow->customer;
	if (!is_steady(pkt, flow) || is_sources(pkt) || towards_cdn(pkt, flow) != TO_CDN ||
	    is_direct(its))
		return GO_ON;
	hop = known_hop(pkt);
	if (!hop || hop->verdict != FORWARDED ||
	    age_ns(coarse_now(pkt), hop->checked_ns) > HOP_LIFETIME_NS)
		return GO_ON;
	link = plain_link(pkt, hop->link, hop->mtu);
	if (!link)
		return GO_ON;

	verdict = charge_customer(pkt);
	if (verdict != GO_ON)
		return verdict;
	if (its->payload && its->protocol == IPPROTO_TCP)
		note_new_data(pkt, flow);
	return put_out(pkt, link, hop->source, hop->target) ? FORWARDED : MALFORMED;
}

static __always_inline bool is_steady_reply(struct packet *pkt, const struct slot *slot)
{
	return slot->generation == pkt->its->policy && slot->state == SLOT_ESTABLISHED &&
	       slot->seen_s == second_of(coarse_now(pkt)) && !names_an_id(pkt);
}

static __always_inline int express_to_client(struct packet *pkt)
{
	struct facts *its = pkt->its;
	struct link *link;
	int verdict;

	if (changes(its) || find_from_cdn(pkt) != GO_ON || its->belongs != TO_REPLY || !pkt->slot)
		return GO_ON;
	if (!is_steady_reply(pkt, pkt->slot) || is_sources(pkt) || towards_client(pkt) != TO_CLIENT)
		return GO_ON;
	link = plain_link(pkt, pkt->slot->link, 0);
	if (!link)
		return GO_ON;

	verdict = charge_customer(pkt);
	if (verdict != GO_ON)
		return verdict;
	if (its->payload)
		note_reply_data(pkt, pkt->slot);
	return put_out(pkt, link, link->mac, pkt->slot->router) ? REPLIED : MALFORMED;
}

/* A verdict, or GO_ON: nothing was done. */
static __always_inline int go_all_the_way(struct packet *pkt)
{
	struct facts *its = pkt->its;

	if (!read_addresses(pkt) || its->bytes > PLAIN_FRAME_MAX)
		return GO_ON;
	its->client = its->source;
	its->ours = local_in_cell(its);
	if (!its->ours)
		return hint(&its->source) ? GO_ON : is_unused(pkt) ? UNUSED : PASSED;
	if (its->ours == LOCAL_CROWDED || !read_plain(pkt) || parse_transport(pkt) != GO_ON)
		return GO_ON;
	return its->ours == LOCAL_VIP ? express_to_cdn(pkt) : express_to_client(pkt);
}

/* What XDP is to do with the packet, or NOT_PLAIN, or NONE_UNDER_WAY. */
static __always_inline int express(struct xdp_md *ctx)
{
#if !defined(TRACE) && !defined(NO_EXPRESS)
	struct facts its = {.cdn = NO_CDN_ID};
	struct packet pkt = {.ctx = ctx, .its = &its};
	__u32 zero = 0, *mode_now = mode.lookup(&zero);
	int verdict;

	pkt.set = settings.lookup(&zero);
	if (!pkt.set || !mode_now || *mode_now)
		return NOT_PLAIN;
	its.bytes = ctx->data_end - ctx->data;
	its.policy = *(volatile const __u32 *)&pkt.set->generation;
	verdict = go_all_the_way(&pkt);
	if (verdict != GO_ON)
		return report(&pkt, verdict);
	return NOT_PLAIN - its.sought;
#endif
	return NOT_PLAIN;
}
