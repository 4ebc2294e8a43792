/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What `cdnctl trace` is told of a packet's way. Marks, NOTE(), stand where the pipeline looks something
 * up or makes up its mind; compiled with TRACE each appends a record to a map of that program alone,
 * else they are nothing. cdnctl/engine/notes.py puts them into words.
 */
#pragma once

enum note_kind {
	NOTED_MODE = 1,	  /* enum mode_flag, policy generation */
	NOTED_LOCAL,	  /* enum local_kind of the destination, its index */
	NOTED_HOST_PORT,  /* a port of a SNAT address that is the host's own */
	NOTED_ENDPOINT,	  /* endpoint that a reply is from, or NOWHERE */
	NOTED_SLOT,	  /* reverse slot, its owner: 0, nobody */
	NOTED_FLOW,	  /* enum belongs, reverse slot */
	NOTED_FORWARD,	  /* forward entry of a reply's flow: 1, or 0 when it was evicted */
	NOTED_ADMITTED,	  /* policy generation that the flow was admitted under */
	NOTED_HINT,	  /* of its network in the block list: BLOCK_EXACT, BLOCK_PREFIX */
	NOTED_EXPIRED,	  /* length of a blocked prefix whose time is over */
	NOTED_BLOCK,	  /* length of the prefix that blocks it, when that ends */
	NOTED_EXEMPT,	  /* enum exemption: blocked, but let through */
	NOTED_QUOTA,	  /* customer, the verdict of its limits */
	NOTED_STAGE,	  /* enum onward: goes on in a stage */
	NOTED_SERVICE,	  /* service, or NOWHERE */
	NOTED_CLIENT,	  /* customer; region, and class in the bits above 16 */
	NOTED_CONNECTION, /* of QUIC: endpoint that it lives at, or NOWHERE; enum begins */
	NOTED_TABLE,	  /* pick table, enum policy */
	NOTED_TRY,	  /* endpoint tried, enum fitness */
	NOTED_PICKED,	  /* endpoint, 1 when it is to be probed */
	NOTED_AGAIN,  /* first packet sent again: its age, and how old it must be to be rescued */
	NOTED_RESCUE, /* CDN that the flow is taken from */
	NOTED_GONE_DARK, /* endpoint that the client re-sends into in vain */
	NOTED_PROMOTED,	 /* the flow is under way: slot; 1 when the client has proved itself */
	NOTED_PORT,	 /* reverse slot tried for a port of ours, enum claim */
	NOTED_CLAMP,	 /* what a SYN may promise at most, 0: as much as it likes */
	NOTED_WAY_BACK,	 /* link that replies will leave by, or NOWHERE */
	NOTED_HOP,   /* link, and MTU in the bits above 32; verdict, 1 << 8 when asked just now */
	NOTED_OUT,   /* interface the packet would leave by */
	NOTED_EVENT, /* enum event_kind and reason in the bits above 8 that would be told; endpoint */
	NOTED_SHIELD, /* enum level that its new flow is judged under */
	NOTED_STANDING, /* enum standing of its source; until when it is verified, or how old its first SYN is */
	NOTED_BUDGET,	/* the verdict of its source's budget */
	NOTED_MODEL,	/* score of its source, enum model_mode */
	NOTED_FEATURES, /* what was weighed, a byte each from the lowest on */
	NOTED_DOOR,	/* enum welcome of its source */
	NOTED_VERDICT,	/* the last word, the CDN it is counted for */
};

enum exemption {
	EXEMPT_ALLOWED = 1, /* by an allowed prefix */
	EXEMPT_MANAGEMENT,
	EXEMPT_NEIGHBOUR, /* asks who is whose neighbour */
};

enum standing {
	STANDING_STRANGER = 0,
	STANDING_VERIFIED,
	STANDING_AGAIN,	 /* a stranger that sends its SYN again, as patiently as a real stack */
	STANDING_PROVES, /* it sends the cookie back */
	STANDING_FAILS,	 /* a reset with another number */
};

enum welcome {
	WELCOME_NOT = 0,
	WELCOME_INVITED, /* it is on the list */
	WELCOME_ON_LINK, /* it asks who is whose neighbour, or has an address to lease */
	WELCOME_ASKED,	 /* the host itself has a connection with it, or it tells of one */
};

enum claim {
	CLAIM_HELD = 0,
	CLAIM_FREE,
	CLAIM_RECLAIMED, /* its holder is over, or an orphan */
};

#ifdef TRACE
#define NOTES_MAX 128

struct note {
	__u64 kind;
	__u64 a;
	__u64 b;
};

struct notes {
	__u64 count;
	struct note note[NOTES_MAX];
};

TABLE("array", __u32, struct notes, notes, 1, 0);
TABLE("percpu_array", __u32, struct hop, asked_hops, 1, 0);

static __always_inline void add_note(__u32 kind, __u64 a, __u64 b)
{
	__u32 zero = 0;
	struct notes *all = notes.lookup(&zero);
	__u64 at;

	if (!all)
		return;
	at = all->count;
	if (at >= NOTES_MAX)
		return;
	all->note[at].kind = kind;
	all->note[at].a = a;
	all->note[at].b = b;
	all->count = at + 1;
}

#define NOTE(kind, a, b) add_note(kind, a, b)

/* What the kernel says of a way is not written where the edge would read it. */
static __always_inline struct hop *hop_to_ask(struct hop *hop)
{
	__u32 zero = 0;

	return asked_hops.lookup(&zero);
}
#else
#define NOTE(kind, a, b) ((void)0)

static __always_inline struct hop *hop_to_ask(struct hop *hop)
{
	return hop;
}
#endif
