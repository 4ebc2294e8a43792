/* SPDX-License-Identifier: (MIT OR GPL-2.0)
 *
 * A flood's packets. Run on live frames (BPF_F_TEST_XDP_LIVE_FRAMES) it sends each out of the interface that it
 * is said to have come in by. Frames come back as whoever had them last left them, so all of the headers are
 * written anew; what is behind them nobody changes. Nor does the kernel restore the length of a frame that came
 * back shorter, unless this program itself has changed it: so each is begun with a byte too many.
 *
 * It keeps the pace itself: a frame whose time has not come is dropped, and the next one asks again. A run for each
 * few frames would take the kernel some 40 ms to set up and to take down, and its frames would come in bursts that a
 * cable's ring of 256 cannot hold.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#define HEAD_WORDS 8 /* of 64 bits: Ethernet, IPv4, TCP and six bytes more */

/* What all packets have, and what is drawn for each: a number with the bits of its mask at random. Host order. */
struct plan {
	u64 head[HEAD_WORDS]; /* with 0 for all that is drawn, and for checksums */
	u32 source, source_mask;
	u32 target, target_mask;
	u16 source_port, source_port_mask;
	u16 target_port, target_port_mask;
	u16 fragment, fragment_mask;
	u16 draws_ack; /* its acknowledgement is drawn, too */
	u16 protocol;
	u32 ip_sum;  /* of the words of its header that are not drawn */
	u32 tcp_sum; /* likewise, with the pseudo header's */
};

BPF_ARRAY(plans, struct plan, 1);

#define PARTS 8 /* of a nanosecond, as a power of two */
#define AT_ONCE 128

/* When the next frame is due; none of this is said for frames as fast as they can be made. */
struct pace {
	u64 due; /* parts of ns on the kernel's monotonic clock */
	u64 gap;
	u64 sent;
};

/* Only one processor runs it, so nobody else counts. */
BPF_ARRAY(paces, struct pace, 1);

/* Is a frame due? Whoever had no processor for a while leaves out what was due then. */
static __always_inline bool is_due(struct pace *pace)
{
	u64 now = bpf_ktime_get_ns() << PARTS;

	if (now < pace->due)
		return false;
	if (now - pace->due > AT_ONCE * pace->gap)
		pace->due = now - AT_ONCE * pace->gap;
	pace->due += pace->gap;
	pace->sent++;
	return true;
}

static __always_inline u16 fold(u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline u32 halves(u32 word)
{
	return (word >> 16) + (word & 0xffff);
}

int generate(struct xdp_md *ctx)
{
	u32 source, target, ports, fragment, number, acknowledged, drawn;
	int zero = 0;
	struct plan *plan = plans.lookup(&zero);
	struct pace *pace = paces.lookup(&zero);
	struct tcphdr *tcp;
	struct udphdr *udp;
	struct iphdr *ip;
	u64 *words;

	if (!plan || !pace)
		return XDP_ABORTED;
	if (!is_due(pace))
		return XDP_DROP;
	if (bpf_xdp_adjust_tail(ctx, -1))
		return XDP_ABORTED;
	words = (void *)(long)ctx->data;
	if (words + HEAD_WORDS > (u64 *)(long)ctx->data_end)
		return XDP_ABORTED;
	ip = (void *)words + sizeof(struct ethhdr);
	tcp = (void *)(ip + 1);
	udp = (void *)(ip + 1);
#pragma unroll
	for (int i = 0; i < HEAD_WORDS; i++)
		words[i] = plan->head[i];
	drawn = bpf_get_prandom_u32();
	source = plan->source | (bpf_get_prandom_u32() & plan->source_mask);
	target = plan->target | (drawn * 0x9e3779b1 & plan->target_mask);
	ports = (u32)(plan->source_port | ((drawn >> 16) & plan->source_port_mask)) << 16 |
		(plan->target_port | (drawn & plan->target_port_mask));
	fragment = plan->fragment | (drawn >> 9 & plan->fragment_mask);
	ip->id = bpf_htons(drawn);
	ip->frag_off = bpf_htons(fragment);
	ip->saddr = bpf_htonl(source);
	ip->daddr = bpf_htonl(target);
	ip->check = bpf_htons(fold(plan->ip_sum + halves(source) + halves(target) +
				   (drawn & 0xffff) + fragment));
	if (fragment & 0x1fff)
		return XDP_TX; /* a later one has no ports */
	if (plan->protocol == IPPROTO_UDP) {
		*(u32 *)udp = bpf_htonl(ports);
		return XDP_TX;
	}
	number = bpf_get_prandom_u32();
	acknowledged = plan->draws_ack ? number * 0x85ebca6b : 0;
	*(u32 *)tcp = bpf_htonl(ports);
	tcp->seq = bpf_htonl(number);
	tcp->ack_seq = bpf_htonl(acknowledged);
	tcp->check = bpf_htons(fold(plan->tcp_sum + halves(source) + halves(target) + halves(ports) +
				    halves(number) + halves(acknowledged)));
	return XDP_TX;
}
