/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Counts what comes out of an edge. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>

BPF_PERCPU_ARRAY(arrived, __u64, 1);

/* Nothing else in here is TCP. */
int arrive(struct xdp_md *ctx)
{
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(ethernet + 1);
	int zero = 0;
	__u64 *count = arrived.lookup(&zero);

	if (!count || (void *)(ip + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	if (ethernet->h_proto != bpf_htons(ETH_P_IP) || ip->protocol != IPPROTO_TCP)
		return XDP_PASS;
	*count += 1;
	return XDP_DROP;
}
