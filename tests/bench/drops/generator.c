/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Live frames from many sources, and the least that can be done with them. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>

/* Of the sources from `first` on, `count` take turns. */
struct turn {
	__u32 first;
	__u32 count;
	__u32 next;
};

BPF_ARRAY(turn, struct turn, 1);
BPF_F_TABLE("array", __u32, __u32, sources, SOURCES, BPF_F_MMAPABLE);

/* Frames come back as they left: nothing but the source has to be written. */
int generate(struct xdp_md *ctx)
{
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(ethernet + 1);
	int zero = 0;
	struct turn *now = turn.lookup(&zero);
	__u32 *source, entry;

	if (!now || (void *)(ip + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	entry = now->first + now->next;
	now->next = now->next + 1 < now->count ? now->next + 1 : 0;
	source = sources.lookup(&entry);
	if (!source)
		return XDP_ABORTED;
	ip->saddr = *source;
	return XDP_TX;
}
