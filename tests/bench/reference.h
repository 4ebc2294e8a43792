/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the least possible program would cost: it reads what it needs at fixed places behind a single
 * bounds check, does one thing, and answers XDP_DROP when it found what it sought, else XDP_PASS.
 */
#pragma once

struct headers {
	struct ethhdr eth;
	struct iphdr ip;
	struct tcphdr tcp;
} __attribute__((packed));

static __always_inline struct headers *headers_of(struct xdp_md *ctx)
{
	struct headers *headers = (void *)(long)ctx->data;

	return (void *)(headers + 1) > (void *)(long)ctx->data_end ? 0 : headers;
}

static __always_inline bool flow_key_of(struct xdp_md *ctx, struct flow_key *key)
{
	struct headers *headers = headers_of(ctx);

	if (!headers)
		return false;
	key->client = headers->ip.saddr;
	key->vip = headers->ip.daddr;
	key->client_port = headers->tcp.source;
	key->vip_port = headers->tcp.dest;
	key->protocol = IPPROTO_TCP;
	return true;
}

/* The shim alone: what is subtracted from everything else. */
int nothing(struct xdp_md *ctx)
{
	return XDP_DROP;
}

/* Parse only: is it a TCP segment over IPv4, whole and no fragment? */
int parse_only(struct xdp_md *ctx)
{
	struct headers *headers = headers_of(ctx);

	if (!headers || headers->eth.h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (headers->ip.version != 4 || headers->ip.ihl != 5 || headers->ip.protocol != IPPROTO_TCP)
		return XDP_PASS;
	if (headers->ip.frag_off & bpf_htons(0x3fff))
		return XDP_PASS;
	return headers->tcp.doff < 5 ? XDP_PASS : XDP_DROP;
}

int look_up_flow(struct xdp_md *ctx)
{
	struct flow_key key = {};

	return flow_key_of(ctx, &key) && established.lookup(&key) ? XDP_DROP : XDP_PASS;
}

int insert_flow(struct xdp_md *ctx)
{
	struct flow_key key = {};
	struct flow flow = {};

	return flow_key_of(ctx, &key) && !half_open.update(&key, &flow) ? XDP_DROP : XDP_PASS;
}

int look_up_exact(struct xdp_md *ctx)
{
	struct headers *headers = headers_of(ctx);
	__u32 key;

	if (!headers)
		return XDP_PASS;
	key = headers->ip.saddr;
	return block_exact.lookup(&key) ? XDP_DROP : XDP_PASS;
}

int look_up_prefix(struct xdp_md *ctx)
{
	struct headers *headers = headers_of(ctx);
	struct prefix_key key = {.length = 32};

	if (!headers)
		return XDP_PASS;
	key.address = headers->ip.saddr;
	return block_prefix.lookup(&key) ? XDP_DROP : XDP_PASS;
}

/* Neither for a VIP nor from a blocked /24: the two look-ups that tell, behind parse_only. */
int look_up_stranger(struct xdp_md *ctx)
{
	struct headers *headers = headers_of(ctx);
	__u32 target, word;
	__u64 *bits;

	if (!headers || headers->eth.h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (headers->ip.version != 4 || headers->ip.ihl != 5 || headers->ip.protocol != IPPROTO_TCP)
		return XDP_PASS;
	if ((headers->ip.frag_off & bpf_htons(0x3fff)) || headers->tcp.doff < 5)
		return XDP_PASS;
	target = headers->ip.daddr;
	word = bpf_ntohl(headers->ip.saddr) >> 13;
	bits = block_bits.lookup(&word);
	return local_addresses.lookup(&target) || !bits || *bits ? XDP_PASS : XDP_DROP;
}
