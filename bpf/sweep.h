/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Collecting what is over. Slots are taken over when a port is needed; this frees the others, and counts
 * on the way what each endpoint's ports are in use for. It runs in the kernel, so that it swaps owners as
 * the data path does; the agent says when, by a test run.
 */
#pragma once

#define SLOTS_AT_ONCE 8
#define SWEEP_ON XDP_DROP   /* there are more */
#define SWEEP_DONE XDP_PASS /* the round is over */

static __always_inline void free_slot(struct slot *slot, __u32 index, __u64 held, __u32 cdn)
{
	struct flow_key key = {};
	bool known = owner_key(slot, held, &key), open = slot->state == SLOT_ESTABLISHED;

	if (SWAP_IF(&slot->owner, held, BEING_BOUND) != held)
		return;
	if (known)
		forget_owner(&key, index);
	if (open)
		count_closed(cdn);
	SET(slot->state, SLOT_FREE);
	SWAP_IF(&slot->owner, BEING_BOUND, 0);
}

/* False where there is no slot any more. */
static __always_inline bool sweep_slot(struct packet *pkt, struct sweep *progress, __u32 index)
{
	__u32 per_endpoint = pkt->set->snat_rows * pkt->set->ports, id, entry;
	struct slot *slot = reverse.lookup(&index);
	struct endpoint *endpoint;
	__u64 held, *seen;

	if (!slot || !per_endpoint)
		return false;
	held = slot->owner;
	if (!held || held == BEING_BOUND)
		return true;
	id = index / per_endpoint;
	endpoint = endpoints.lookup(&id);
	if (!endpoint)
		return true;
	if (is_over(pkt->set, slot, pkt->its->now, endpoint->protocol == IPPROTO_UDP)) {
		free_slot(slot, index, held, endpoint->cdn);
		SET(progress->freed, progress->freed + 1);
		return true;
	}
	entry = id * SLOT_STATES + (slot->state & (SLOT_STATES - 1));
	seen = census.lookup(&entry);
	if (seen)
		SET(*seen, *seen + 1);
	return true;
}

static __always_inline int sweep_slots(struct packet *pkt)
{
	__u32 zero = 0;
	struct sweep *progress = sweeps.lookup(&zero);

	if (!progress)
		return SWEEP_DONE;
	pkt->its->now = 0;
	coarse_now(pkt);
#pragma clang loop unroll(disable)
	for (int i = 0; i < SLOTS_AT_ONCE; i++) {
		if (!sweep_slot(pkt, progress, progress->next))
			return SWEEP_DONE;
		SET(progress->next, progress->next + 1);
	}
	return SWEEP_ON;
}
