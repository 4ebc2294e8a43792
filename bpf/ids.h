/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* QUIC: what the ids of a handshake prove. */
#pragma once

/* Does the client repeat the id that the server named? Then it goes on as established. */
static __always_inline int follow_id_back(struct packet *pkt)
{
	struct facts *its = pkt->its;
	union id_key key;
	struct slot *slot;
	struct flow *flow;
	__u32 endpoint;
	int verdict;

	find_changing(pkt);
	flow = pkt->flow;
	if (!flow)
		return open_anew(pkt); /* evicted just now */
	if (!flow->cdn_isn)
		return towards_cdn(pkt, flow);
	endpoint = flow->endpoint;
	if (read_target_id(pkt, flow->service, &key) && hash_of(&key) == flow->cdn_isn) {
		verdict = its->belongs == TO_HALF_OPEN && !proves_itself(pkt, flow)
				  ? BAD_ACK
				  : promote(pkt, flow, is_proof(&key));
		if (verdict == TO_CDN)
			learn_id(&key, endpoint);
		return verdict;
	}
	slot = reverse.lookup(&flow->slot);
	if (slot)
		SET(slot->seen_s, second_of(coarse_now(pkt)));
	return towards_cdn(pkt, flow);
}

static __always_inline int follow_id(struct packet *pkt)
{
	int verdict;

	if (pkt->its->belongs != TO_REPLY)
		return follow_id_back(pkt);
	if (!find_slot(pkt))
		return NO_OWNER;
	verdict = towards_client(pkt);
	if (verdict == TO_CLIENT && pkt->slot)
		note_id(pkt, pkt->slot);
	return verdict;
}
