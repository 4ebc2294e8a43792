/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Restores the frame before each run, as BPF_PROG_TEST_RUN does not, and varies the flow. */
#pragma once

#define FRAME_BYTES 80
#define PROGRAMS 16

/* What differs from packet to packet; in network order. Of IPv6 addresses it is the last word. */
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
	__u32 ipv6;
	__u32 grows; /* the program leaves the frame longer at its front */
	__u64 frame[FRAME_BYTES / 8];
};

/* Of TCP and UDP alike. */
struct ports {
	__be16 source;
	__be16 target;
};

BPF_PROG_ARRAY(programs, PROGRAMS);
BPF_ARRAY(work, struct work, 1);
BPF_F_TABLE("array", __u32, struct ends, stream, STREAM, BPF_F_MMAPABLE);

static __always_inline void put_ipv4(void *packet, struct ends *ends)
{
	struct iphdr *ip = packet;
	struct ports *ports = (void *)(ip + 1);

	ip->saddr = ends->source;
	ip->daddr = ends->target;
	ports->source = ends->source_port;
	ports->target = ends->target_port;
}

static __always_inline void put_ipv6(void *packet, struct ends *ends)
{
	struct ipv6hdr *ip = packet;
	struct ports *ports = (void *)(ip + 1);

	ip->saddr.s6_addr32[3] = ends->source;
	ip->daddr.s6_addr32[3] = ends->target;
	ports->source = ends->source_port;
	ports->target = ends->target_port;
}

/*
 * Of a program that grows frames, the front is moved back before each packet; in front of a program that
 * does nothing it is moved by nothing, which costs the same.
 */
static __always_inline bool restore_size(struct xdp_md *ctx, struct work *now)
{
	int excess = (int)(ctx->data_end - ctx->data) - FRAME_BYTES;

	if (now->grows)
		return !bpf_xdp_adjust_head(ctx, excess);
	return !excess || !bpf_xdp_adjust_tail(ctx, -excess);
}

int shim(struct xdp_md *ctx)
{
	int zero = 0;
	struct work *now = work.lookup(&zero);
	struct ends *ends;
	__u64 *frame;
	__u32 entry;

	if (!now || !restore_size(ctx, now))
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
	if (now->ipv6)
		put_ipv6((void *)frame + sizeof(struct ethhdr), ends);
	else
		put_ipv4((void *)frame + sizeof(struct ethhdr), ends);
	programs.call(ctx, now->program);
	return XDP_ABORTED;
}
