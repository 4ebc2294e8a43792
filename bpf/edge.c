/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The data path. Every packet takes the steps below in this order, the cheapest verdict first, and
 * ends in exactly one counted verdict. A step returns a verdict, or GO_ON to the next.
 *
 * BCC rewrites map look-ups in the main file only, so datapath/program.py joins the files of this
 * directory into one text, by the includes below.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>

#include "abi.h"
#include "maps.h"
#include "packet.h"
#include "guard.h"
#include "report.h"
#include "rewrite.h"
#include "health.h"
#include "steer.h"
#include "slot.h"
#include "flow.h"
#include "follow.h"

/* A SYN that no flow is waiting for, or one to be rescued: which service, which CDN. */
static __always_inline int steer(struct packet *pkt)
{
	struct service_key key = {
		.vip = pkt->target, .port = pkt->target_port, .protocol = IPPROTO_TCP};
	__u32 *service = service_ids.lookup(&key);

	if (pkt->ip->ttl <= 1)
		return EXPIRED_TTL; /* before it leaves a trace: what goes nowhere is no connect */
	return service ? open_flow(pkt, *service) : NO_SERVICE;
}

int edge(struct xdp_md *ctx)
{
	struct packet pkt = {};
	int verdict = parse(ctx, &pkt); /* is it ours at all? */

	if (verdict == GO_ON)
		verdict = find_flow(&pkt); /* whose is it? */
	if (verdict == GO_ON)
		verdict = admit(&pkt); /* is its source blocked? asked once a policy generation */
	if (verdict == GO_ON)
		verdict = follow(&pkt); /* a known flow goes its way */
	if (verdict == GO_ON)
		verdict = steer(&pkt); /* a new one gets the best CDN */
	if (verdict >= VERDICTS)
		verdict = send(&pkt, verdict); /* rewrite it, next hop */
	return report(&pkt, verdict);	       /* count once, sample, answer the driver */
}
