/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Who may talk to SNAT addresses, where the operator keeps them for the CDNs. Only what no flow takes is asked: what
 * would be left to the host's own stack, whose addresses they may be as well, or is for a port of ours that nobody
 * holds. Replies never come here, nor do errors about what we have sent to a CDN: any router may have those to tell,
 * or path MTU would not work.
 *
 * Let in is who is on the agent's list; what the link lives on; and what the host has asked for itself, or it could
 * ask nobody else any more. Its sockets tell of that: one that is connected with that very source.
 */
#pragma once

#define DHCP_SERVER 67
#define DHCP_CLIENT 68

/* A DHCP server's answer: leases are renewed past the sockets (RFC 2131, 4.1), and the address may be one. */
static __always_inline bool is_lease(const struct facts *its)
{
	return its->protocol == IPPROTO_UDP && its->source_port == bpf_htons(DHCP_SERVER) &&
	       its->target_port == bpf_htons(DHCP_CLIENT);
}

/* A listener is not asked for, but asks; whatever else TCP has of these two ends, the host has agreed to. */
static __always_inline bool has_connection(struct packet *pkt, struct bpf_sock_tuple *ends,
					   __u32 size)
{
	struct bpf_sock *found = bpf_skc_lookup_tcp(pkt->ctx, ends, size, BPF_F_CURRENT_NETNS, 0);
	__u32 state;

	if (!found)
		return false;
	state = found->state;
	/* or the compiler makes one read of this and the next, and the verifier wants one kind of socket for each */
	asm volatile("" : "+r"(state));
	bpf_sk_release(found);
	return state != BPF_TCP_LISTEN;
}

/* Of UDP a socket that takes anybody's datagrams says nothing. */
static __always_inline bool has_partner(struct packet *pkt, struct bpf_sock_tuple *ends, __u32 size)
{
	struct bpf_sock *found = bpf_sk_lookup_udp(pkt->ctx, ends, size, BPF_F_CURRENT_NETNS, 0);
	__u32 state;

	if (!found)
		return false;
	state = found->state;
	bpf_sk_release(found);
	return state == BPF_TCP_ESTABLISHED;
}

/*
 * Has the host a connection with its source? Or with whom, if it is an error, that one says the host has sent to: see
 * about_forwarded(). Pings, pieces and other protocols have no ports, and no socket is found.
 */
static __always_inline bool host_has_asked(struct packet *pkt)
{
	struct facts *its = pkt->its;
	bool direct = its->protocol == IPPROTO_TCP || its->protocol == IPPROTO_UDP;
	__u32 protocol = direct ? its->protocol : its->quote.protocol, size;
	struct bpf_sock_tuple ends = {};

	if (!its->target_port)
		return false;
	if (its->family == 4) {
		size = sizeof(ends.ipv4);
		ends.ipv4.saddr = its->client.word[3];
		ends.ipv4.daddr = its->target.word[3];
		ends.ipv4.sport = its->source_port;
		ends.ipv4.dport = its->target_port;
	} else {
		size = sizeof(ends.ipv6);
		__builtin_memcpy(ends.ipv6.saddr, &its->client, sizeof(its->client));
		__builtin_memcpy(ends.ipv6.daddr, &its->target, sizeof(its->target));
		ends.ipv6.sport = its->source_port;
		ends.ipv6.dport = its->target_port;
	}
	return protocol == IPPROTO_TCP ? has_connection(pkt, &ends, size)
				       : has_partner(pkt, &ends, size);
}

static __always_inline enum welcome welcome(struct packet *pkt)
{
	struct prefix_key key = {.length = WHOLE_ADDRESS, .address = pkt->its->source};

	if (invited.lookup(&key))
		return WELCOME_INVITED;
	if (pkt->its->after != PASSED)
		return WELCOME_NOT; /* for a port of ours: the host has none there */
	if (finds_neighbours(pkt) || is_lease(pkt->its))
		return WELCOME_ON_LINK;
	return host_has_asked(pkt) ? WELCOME_ASKED : WELCOME_NOT;
}

/* The verdict that it was to have, or that it is not let in. */
static __always_inline int ask_at_door(struct packet *pkt)
{
	enum welcome found;

	if (!pkt->its->ours)
		return is_unused(pkt) ? UNUSED : pkt->its->after;
	if (!pkt->set->invited_only)
		return pkt->its->after;
	found = welcome(pkt);

	NOTE(NOTED_DOOR, found, 0);
	return found == WELCOME_NOT ? UNINVITED : pkt->its->after;
}

/*
 * Is there a door at all? Else the verdict is the last word. There is one for SNAT addresses, and one for all that
 * is none of ours: of announced prefixes, which nobody else may have either.
 */
static __always_inline int at_door(struct packet *pkt, int verdict)
{
	if ((verdict != PASSED && verdict != NO_OWNER) || !pkt->its ||
	    pkt->its->ours == LOCAL_VIP || !(pkt->set->invited_only | pkt->set->announced) ||
	    (pkt->its->mode & MODE_DISARMED))
		return verdict;
	pkt->its->after = verdict;
	return TO_DOOR;
}
