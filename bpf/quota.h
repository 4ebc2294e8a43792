/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Is the packet within its customer's limits? What is over is dropped here, before it costs a CDN anything. */
#pragma once

/* Packets and bytes of a customer, both ways. */
static __always_inline int within_quota(struct packet *pkt)
{
	__u32 customer = pkt->its->customer;
	struct limit *limit;
	struct meter *meter;
	__u64 now;

	if (!customer || (pkt->its->mode & MODE_DISARMED))
		return GO_ON;
	limit = customer_limits.lookup(&customer);
	meter = meters.lookup(&customer);
	if (!limit || !meter)
		return GO_ON;
	now = ticks(coarse_now(pkt));
	if (limit->packet_ticks &&
	    !charge(&meter->packets_at, limit->packet_ticks, limit->burst_ticks, now))
		return OVER_QUOTA;
	if (limit->kib_ticks &&
	    !charge(&meter->bytes_at, (pkt->its->bytes * limit->kib_ticks) >> 10,
		    limit->burst_ticks, now))
		return OVER_QUOTA;
	return GO_ON;
}

/* A new flow of the client. */
static __always_inline int may_open(struct packet *pkt)
{
	return GO_ON;
}
