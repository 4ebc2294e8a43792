/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Drops what comes from one prefix, and does nothing else: whatever is left is the edge's. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>

BPF_PROG_ARRAY(next, 1);
BPF_PERCPU_ARRAY(dropped, u64, 1);

int drop(struct xdp_md *ctx)
{
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(ethernet + 1);
	int zero = 0;
	u64 *count = dropped.lookup(&zero);

	if ((void *)(ip + 1) <= (void *)(long)ctx->data_end && ethernet->h_proto == bpf_htons(ETH_P_IP) &&
	    (ip->saddr & bpf_htonl(NETMASK)) == bpf_htonl(PREFIX)) {
		if (count)
			++*count;
		return XDP_DROP;
	}
	next.call(ctx, 0);
	return XDP_PASS;
}
