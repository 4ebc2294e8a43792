/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The data path. Every packet takes the steps of edge() in this order, the cheapest verdict first, and
 * ends in exactly one counted verdict. A step returns a verdict, or GO_ON to the next.
 *
 * What is plain, and established, blocked or not ours, takes the express lane; it is nearly everything. The
 * rest goes on in stages of their own, a program each, by tail calls: so the verifier has many small programs
 * to walk and no large one, and the steady path carries nothing that it does not need.
 *
 * BCC rewrites map look-ups in the main file only, so datapath/toolchain.py joins the files of this
 * directory into one text, by the includes below.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "abi.h"
#include "maps.h"
#include "write.h"
#include "trace.h"
#include "packet.h"
#include "parse.h"
#include "limit.h"
#include "quota.h"
#include "guard.h"
#include "report.h"
#include "checksum.h"
#include "tunnel.h"
#include "send.h"
#include "histogram.h"
#include "health.h"
#include "fitness.h"
#include "steer.h"
#include "slot.h"
#include "flow.h"
#include "quic.h"
#include "clamp.h"
#include "verified.h"
#include "handshake.h"
#include "reply.h"
#include "ids.h"
#include "strange.h"
#include "surge.h"
#include "shed.h"
#include "manner.h"
#include "challenge.h"
#include "opening.h"
#include "icmp.h"
#include "fragment.h"
#include "answer.h"
#include "door.h"
#include "sweep.h"
#include "express.h"

/* Which stage a packet goes on in, if it is not done with. */
static __always_inline __u32 stage_of(int verdict)
{
	switch (verdict) {
	case TO_HANDSHAKE:
		return STAGE_HANDSHAKE;
	case TO_OPENING:
	case TO_LETTING_IN:
		return STAGE_OPENING;
	case TO_WEIGHING:
	case TO_NOTING:
		return STAGE_WEIGHING;
	case TO_PICKING:
		return STAGE_PICKING;
	case TO_BINDING:
		return STAGE_BINDING;
	case TO_CLAMPING:
		return STAGE_CLAMPING;
	case TO_ICMP:
		return STAGE_ICMP;
	case TO_FRAGMENT:
		return STAGE_FRAGMENT;
	case TO_QUIC:
		return STAGE_QUIC;
	case TO_CHALLENGE:
		return STAGE_CHALLENGE;
	case TO_CDN:
	case TO_CLIENT:
		return STAGE_SENDING;
	case TO_DOOR:
		return STAGE_DOOR;
	default:
		return STAGE_ANSWER;
	}
}

/*
 * The verdict of a stage that has many, by way of a map: to the verifier it is any number then, and what follows is
 * walked once, not once for each way to each verdict.
 */
static __always_inline int whatever(struct packet *pkt, int verdict)
{
	if (!pkt->its)
		return verdict;
	*(volatile __u32 *)&pkt->its->onward = verdict;
	return *(volatile __u32 *)&pkt->its->onward;
}

/* The one way out: be done with it, or hand it to the next stage. */
static __always_inline int leave(struct packet *pkt, int verdict)
{
	if ((verdict == TO_CDN || verdict == TO_CLIENT) && pkt->its->fragment == 1)
		verdict = TO_FRAGMENT; /* which others will follow */
	if (verdict >= RESET_TO_CLIENT && (pkt->its->mode & MODE_OBSERVE))
		verdict = PASSED; /* an answer would be sent */
	if (verdict >= VERDICTS) {
		pkt->its->onward = verdict;
		NOTE(NOTED_STAGE, verdict, 0);
		stages.call(pkt->ctx, stage_of(verdict));
		verdict = NO_STAGE;
	}
	return report(pkt, verdict); /* count once, sample, answer the driver */
}

int edge(struct xdp_md *ctx)
{
	struct packet pkt = {};
	int verdict = express(ctx); /* most are done with at once */

	if (verdict >= 0)
		return verdict;
	note_sought(verdict);
	verdict = parse(ctx, &pkt); /* is it ours at all? */
	if (verdict == GO_ON)
		verdict = find_flow(&pkt); /* whose is it? */
	if (verdict == GO_ON)
		verdict = admit(&pkt); /* is its source blocked? asked once a policy generation */
	if (verdict == GO_ON)
		verdict = within_quota(&pkt); /* is it within its customer's limits? */
	if (verdict == GO_ON)
		verdict = follow(&pkt); /* is it steady all the same, or does it begin or end? */
	if (verdict == TO_HANDSHAKE)
		verdict = hold(&pkt); /* are flows being moved? */
	if (verdict == TO_HANDSHAKE)
		verdict = besiege(&pkt); /* must its source prove first where it is? */
	return leave(&pkt, at_door(&pkt, whatever(&pkt, verdict)));
}

/* A flow that begins or ends. */
int handshake(struct xdp_md *ctx)
{
	struct packet pkt = {};

	return leave(&pkt,
		     resume(ctx, &pkt)
			     ? noted(&pkt, whatever(&pkt, check_promise(&pkt, follow_change(&pkt))))
			     : NO_STAGE);
}

/* In siege, a source that has to prove where it is, or just has. */
int challenge(struct xdp_md *ctx)
{
	struct packet pkt = {};

	return leave(&pkt, resume(ctx, &pkt) ? whatever(&pkt, challenge_source(&pkt)) : NO_STAGE);
}

/* A new flow: whose is it, what for, and may it? */
int opening(struct xdp_md *ctx)
{
	struct packet pkt = {};
	int verdict = TO_LETTING_IN;

	if (!resume(ctx, &pkt))
		return leave(&pkt, NO_STAGE);
	if (pkt.its->onward != TO_LETTING_IN)
		verdict = open_flow(&pkt);
	if (verdict == TO_LETTING_IN)
		verdict = let_in(&pkt);
	return leave(&pkt, whatever(&pkt, verdict));
}

/* How does its source behave? Of a new flow before it is let in, of another when it begins or ends. */
int weighing(struct xdp_md *ctx)
{
	struct packet pkt = {};

	return leave(&pkt, resume(ctx, &pkt) ? watch_source(&pkt) : NO_STAGE);
}

/* Which CDN is best for it now? */
int picking(struct xdp_md *ctx)
{
	struct packet pkt = {};

	return leave(&pkt, resume(ctx, &pkt) ? pick_endpoint(&pkt) : NO_STAGE);
}

/* It gets a port of ours, and is sent there. */
int binding(struct xdp_md *ctx)
{
	struct packet pkt = {};

	return leave(&pkt,
		     resume(ctx, &pkt)
			     ? noted(&pkt, whatever(&pkt, check_promise(&pkt, bind_flow(&pkt))))
			     : NO_STAGE);
}

/* A SYN that may promise more than its path takes. */
int clamping(struct xdp_md *ctx)
{
	struct packet pkt = {};

	return leave(&pkt, resume(ctx, &pkt) ? clamp(&pkt) : NO_STAGE);
}

/* An error about a packet of somebody's, or a ping. */
int icmp(struct xdp_md *ctx)
{
	struct packet pkt = {};

	return leave(&pkt, resume(ctx, &pkt) ? at_door(&pkt, whatever(&pkt, handle_icmp(&pkt)))
					     : NO_STAGE);
}

/* A first fragment, about to be sent, or one that follows. */
int fragment(struct xdp_md *ctx)
{
	struct packet pkt = {};

	return leave(&pkt, resume(ctx, &pkt) ? at_door(&pkt, whatever(&pkt, follow_fragment(&pkt)))
					     : NO_STAGE);
}

/* A server of QUIC names a connection's id, or its client repeats it. */
int quic(struct xdp_md *ctx)
{
	struct packet pkt = {};

	return leave(&pkt, resume(ctx, &pkt) ? noted(&pkt, follow_id(&pkt)) : NO_STAGE);
}

/* No packet's: run by the agent, to collect what is over. */
int sweep(struct xdp_md *ctx)
{
	struct packet pkt = {};

	return resume(ctx, &pkt) ? sweep_slots(&pkt) : SWEEP_DONE;
}

/* What did not take the express lane goes out: in a tunnel, into or out of a VLAN, or just so. */
int sending(struct xdp_md *ctx)
{
	struct packet pkt = {};

	return leave(&pkt, resume(ctx, &pkt) ? whatever(&pkt, send_onward(&pkt)) : NO_STAGE);
}

/* No flow's, and for a SNAT address: may its source talk to us at all? */
int door(struct xdp_md *ctx)
{
	struct packet pkt = {};

	return report(&pkt, resume(ctx, &pkt) ? ask_at_door(&pkt) : NO_STAGE);
}

/* A packet of our own goes back. */
int answer(struct xdp_md *ctx)
{
	struct packet pkt = {};

	return report(&pkt, resume(ctx, &pkt) ? answer_with(&pkt) : NO_STAGE);
}
