/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the least possible program would cost: it reads what it needs at fixed places behind a single
 * bounds check, does one thing, and answers XDP_DROP when it found what it sought, else XDP_PASS.
 * VIP4 and VIP6 are the numbers of the addresses that the streams are for.
 */
#pragma once

struct headers {
	struct ethhdr eth;
	struct iphdr ip;
	struct ports ports;
	__u8 rest[16]; /* of TCP */
} __attribute__((packed));

struct headers6 {
	struct ethhdr eth;
	struct ipv6hdr ip;
	struct ports ports;
	__u8 rest[16];
} __attribute__((packed));

static __always_inline void *headers_of(struct xdp_md *ctx, __u32 size)
{
	void *headers = (void *)(long)ctx->data;

	return headers + size > (void *)(long)ctx->data_end ? 0 : headers;
}

static __always_inline void mapped(struct address *a, __u32 ipv4)
{
	a->word[0] = 0;
	a->word[1] = 0;
	a->word[2] = bpf_htonl(0xffff);
	a->word[3] = ipv4;
}

static __always_inline bool flow_key_of(struct xdp_md *ctx, struct flow_key *key)
{
	struct headers *headers = headers_of(ctx, sizeof(*headers));

	if (!headers)
		return false;
	mapped(&key->client, headers->ip.saddr);
	key->client_port = headers->ports.source;
	key->vip_port = headers->ports.target;
	key->vip = VIP4;
	key->protocol = headers->ip.protocol;
	return true;
}

/* The shim alone: what is subtracted from everything else. */
int nothing(struct xdp_md *ctx)
{
	return XDP_DROP;
}

/* Is it a TCP segment over IPv4, whole and no fragment? */
static __always_inline bool is_plain(struct headers *headers)
{
	return headers->eth.h_proto == bpf_htons(ETH_P_IP) && headers->ip.version == 4 &&
	       headers->ip.ihl == 5 && headers->ip.protocol == IPPROTO_TCP &&
	       !(headers->ip.frag_off & bpf_htons(0x3fff)) && headers->rest[8] >> 4 >= 5;
}

int parse_only(struct xdp_md *ctx)
{
	struct headers *headers = headers_of(ctx, sizeof(*headers));

	return headers && is_plain(headers) ? XDP_DROP : XDP_PASS;
}

int look_up_flow(struct xdp_md *ctx)
{
	struct flow_key key = {};

	if (!flow_key_of(ctx, &key))
		return XDP_PASS;
	/* other UDP than QUIC takes two: the other row, of UDP beside TCP, says what that costs */
	return established.lookup(&key) || datagrams.lookup(&key) ? XDP_DROP : XDP_PASS;
}

int look_up_flow6(struct xdp_md *ctx)
{
	struct headers6 *headers = headers_of(ctx, sizeof(*headers));
	struct flow_key key = {};

	if (!headers)
		return XDP_PASS;
	__builtin_memcpy(&key.client, &headers->ip.saddr, sizeof(key.client));
	key.client_port = headers->ports.source;
	key.vip_port = headers->ports.target;
	key.vip = VIP6;
	key.protocol = headers->ip.nexthdr;
	return established.lookup(&key) ? XDP_DROP : XDP_PASS;
}

int insert_flow(struct xdp_md *ctx)
{
	struct flow_key key = {};
	struct flow flow = {};

	return flow_key_of(ctx, &key) && !half_open.update(&key, &flow) ? XDP_DROP : XDP_PASS;
}

/* The blocked addresses in a plain hash, with two buckets for each; the shim fills it. */
TABLE("hash", struct address, struct block, addresses, 2 << 20, BPF_F_NO_PREALLOC);

int look_up_exact(struct xdp_md *ctx)
{
	struct headers *headers = headers_of(ctx, sizeof(*headers));
	struct address key;

	if (!headers)
		return XDP_PASS;
	mapped(&key, headers->ip.saddr);
	return addresses.lookup(&key) ? XDP_DROP : XDP_PASS;
}

int look_up_prefix(struct xdp_md *ctx)
{
	struct headers *headers = headers_of(ctx, sizeof(*headers));
	struct prefix_key key = {.length = 128};

	if (!headers)
		return XDP_PASS;
	mapped(&key.address, headers->ip.saddr);
	return block_prefix.lookup(&key) ? XDP_DROP : XDP_PASS;
}

/* Neither for a VIP nor from a cell with anything blocked: the two look-ups that tell, behind parse_only. */
int look_up_stranger(struct xdp_md *ctx)
{
	struct headers *headers = headers_of(ctx, sizeof(*headers));
	struct address target;
	__u64 *bits;
	__u32 word;

	if (!headers || !is_plain(headers))
		return XDP_PASS;
	mapped(&target, headers->ip.daddr);
	word = bpf_ntohl(headers->ip.saddr) >> (37 - BLOCK_CELL);
	bits = block_bits.lookup(&word);
	return local_addresses.lookup(&target) || !bits || *bits ? XDP_PASS : XDP_DROP;
}
