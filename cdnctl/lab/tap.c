/* SPDX-License-Identifier: (MIT OR GPL-2.0)
 *
 * What comes out of the edge, seen from the other end of each of its cables. Counts per interface; the clock is the
 * one the edge's own program uses. That it is there at all also makes native redirects into these cables work: veth
 * wants an XDP program at the receiving end.
 *
 * It passes everything but what is for those that floods pretend to be. Nobody is there, and what it takes to find
 * that out is the work of networks far away, not of this box: it would slow down the very edge that is looked at.
 */
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#define INTERFACES 128 /* the lab numbers its tapped interfaces below this */

struct seen {
	u64 packets;
	u64 bytes;
	u64 syns;          /* opening segments: SYN without ACK */
	u64 last_syn_ns;
	u64 flood_packets; /* TCP with the generator's own window */
	u64 last_flood_ns;
};

BPF_PERCPU_ARRAY(seen, struct seen, INTERFACES);

/* The TCP header of a packet, or 0; nothing in the lab sends IP options or extension headers. */
static __always_inline struct tcphdr *tcp_of(struct ethhdr *eth, void *end)
{
	struct iphdr *ip = (void *)(eth + 1);
	struct ipv6hdr *ip6 = (void *)(eth + 1);
	struct tcphdr *tcp;

	if ((void *)(ip + 1) > end)
		return 0;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		if (ip->protocol != IPPROTO_TCP)
			return 0;
		tcp = (void *)(ip + 1);
	} else {
		if (eth->h_proto != bpf_htons(ETH_P_IPV6) || (void *)(ip6 + 1) > end ||
		    ip6->nexthdr != IPPROTO_TCP)
			return 0;
		tcp = (void *)(ip6 + 1);
	}
	return (void *)(tcp + 1) > end ? 0 : tcp;
}

/* What becomes of a packet now that it is counted. */
static __always_inline int goes_on(struct ethhdr *eth, void *end)
{
	struct iphdr *ip = (void *)(eth + 1);
	u32 to;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	to = bpf_ntohl(ip->daddr);
	return (to & NOBODY_MASK) == NOBODY || (to & SPOOFED_MASK) == SPOOFED ? XDP_DROP : XDP_PASS;
}

int tap(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	int index = ctx->ingress_ifindex;
	struct seen *seen_here = seen.lookup(&index);
	struct ethhdr *eth = data;
	struct tcphdr *tcp;

	if (!seen_here)
		return XDP_PASS;
	seen_here->packets++;
	seen_here->bytes += end - data;
	if ((void *)(eth + 1) > end)
		return XDP_PASS;
	tcp = tcp_of(eth, end);
	if (!tcp)
		return goes_on(eth, end);
	if (tcp->syn && !tcp->ack) {
		seen_here->syns++;
		seen_here->last_syn_ns = bpf_ktime_get_ns();
	}
	if (tcp->window == bpf_htons(FLOOD_WINDOW)) {
		seen_here->flood_packets++;
		seen_here->last_flood_ns = bpf_ktime_get_ns();
	}
	return goes_on(eth, end);
}
