/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Restores the frame before each run, as BPF_PROG_TEST_RUN does not, and varies the flow. */
#pragma once

#define FRAME_BYTES 64
#define PROGRAMS 16

/* What differs from packet to packet; in network order. */
struct ends {
	__u32 source;
	__u32 target;
	__u16 source_port;
	__u16 target_port;
	__u32 pad;
};

/* Written by user space before a run; `next` goes on from run to run. */
struct work {
	__u32 program; /* in `programs` */
	__u32 first;   /* of its entries in `stream` */
	__u32 count;
	__u32 next;
	__u64 frame[FRAME_BYTES / 8];
};

BPF_PROG_ARRAY(programs, PROGRAMS);
BPF_ARRAY(work, struct work, 1);
BPF_F_TABLE("array", __u32, struct ends, stream, STREAM, BPF_F_MMAPABLE);

int shim(struct xdp_md *ctx)
{
	int zero = 0, excess = FRAME_BYTES - (int)(ctx->data_end - ctx->data);
	struct work *now = work.lookup(&zero);
	struct ends *ends;
	struct tcphdr *tcp;
	struct iphdr *ip;
	__u64 *frame;
	__u32 entry;

	if (!now || (excess && bpf_xdp_adjust_tail(ctx, excess)))
		return XDP_ABORTED;
	frame = (void *)(long)ctx->data;
	if ((void *)frame + FRAME_BYTES > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
#pragma unroll
	for (int i = 0; i < FRAME_BYTES / 8; i++)
		frame[i] = now->frame[i];

	entry = now->first + now->next;
	now->next = now->next + 1 < now->count ? now->next + 1 : 0;
	ends = stream.lookup(&entry);
	if (!ends)
		return XDP_ABORTED;
	ip = (void *)frame + sizeof(struct ethhdr);
	tcp = (void *)(ip + 1);
	ip->saddr = ends->source;
	ip->daddr = ends->target;
	tcp->source = ends->source_port;
	tcp->dest = ends->target_port;
	programs.call(ctx, now->program);
	return XDP_ABORTED;
}
