/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * QUIC (RFC 9000). A client whose port changes in the middle of a connection still says which one it is,
 * by the id that its server chose; the server's long headers name it in clear (17.2). So the flow goes on
 * towards the same endpoint, from another port of ours: the server sees a new path and validates it
 * before it sends much there, and what it sends to the old one goes on to the old address. Whoever
 * uses an id that is not his gets that challenge at most.
 *
 * The id is to QUIC what its ISN is to TCP: a client that sends it back has got it, so it is where it says.
 * Only then does the flow get a place among established ones, and the id one among those of sessions. Until
 * then both wait in tables of their own, so that a flood of first packets pushes none of them out.
 *
 * Ids that a server issues later are encrypted, and one of no length says nothing: such clients are
 * counted, no more. What direct returns name never comes by here.
 */
#pragma once

#define QUIC_LONG 0x80
#define QUIC_TYPE 0x30
#define QUIC_V1 1
#define QUIC_V2 0x6b3343cf /* RFC 9369 */
#define QUIC_INITIAL_V1 0x00
#define QUIC_INITIAL_V2 0x10
#define QUIC_PROOF_MIN 4    /* bytes of an id: as many as an ISN has */
#define QUIC_FIRST_MIN 1200 /* bytes of a client's first datagram, or no server answers (14.1) */

/*
 * A long header as far as it is the same in all versions (RFC 8999, 5.1). Whatever the length of an id, as
 * much as the longest may be read: in every packet twenty bytes or more follow it, by which its number is
 * hidden (RFC 9001, 5.4.2).
 */
struct long_header {
	__u8 first;
	__u8 version[4];
	__u8 length; /* of the receiver's id */
	__u8 id[QUIC_ID_MAX];
	/* then the sender's, likewise */
};

struct own_id {
	__u8 length;
	__u8 id[QUIC_ID_MAX];
};

struct short_header {
	__u8 first;
	__u8 id[QUIC_ID_MAX];
};

/* A key made from a packet; in words, so that it can be hashed. */
union id_key {
	struct quic_id id;
	__u64 word[3];
};

/* -- reading -- */

/* `size` bytes at an offset of what a datagram carries, or 0 when it ends before. */
static __always_inline void *carried(struct packet *pkt, __u32 offset, __u32 size)
{
	if (offset + size > pkt->its->payload)
		return 0;
	return header_at(pkt, pkt->its->l4 + sizeof(struct udphdr) + offset, size);
}

static __always_inline __u32 version_of(const struct long_header *header)
{
	return ((__u32)header->version[0] << 24) | ((__u32)header->version[1] << 16) |
	       ((__u32)header->version[2] << 8) | header->version[3];
}

/* Not of a server that only names the versions it knows: that is version 0, and chooses no id. */
static __always_inline struct long_header *read_long_header(struct packet *pkt)
{
	struct long_header *header = carried(pkt, 0, sizeof(*header));

	if (!header || !(header->first & QUIC_LONG) || header->length > QUIC_ID_MAX)
		return 0;
	if (version_of(header) != QUIC_V1 && version_of(header) != QUIC_V2)
		return 0;
	return header;
}

/* Without branches: each would be a way of its own to the verifier. */
static __always_inline void take_id(union id_key *key, const __u8 *from, __u32 length,
				    __u32 service)
{
	__s32 beyond;

	key->word[2] = 0;
#pragma unroll
	for (int i = 0; i < QUIC_ID_MAX; i++) {
		beyond = i - (__s32)length;
		asm volatile("" : "+r"(beyond));
		key->id.bytes[i] = from[i] & (__u8)(beyond >> 31);
	}
	key->id.length = length;
	key->id.service = service;
}

/* Who repeats it has got it. One of no length says nothing, and a short one can be guessed. */
static __always_inline bool is_proof(const union id_key *key)
{
	return key->id.length >= QUIC_PROOF_MIN;
}

/* What a flow remembers of an id, as it does of an ISN; never 0. */
static __always_inline __u32 hash_of(const union id_key *key)
{
	__u64 rest = mix(key->word[1] + ((__u64)mix(key->word[2]) << 32));

	return mix(key->word[0] + (rest << 32)) ?: 1;
}

/* The id of the server's that a client's long header is for. */
static __always_inline bool read_target_id(struct packet *pkt, __u32 service, union id_key *key)
{
	struct long_header *header = read_long_header(pkt);

	if (!header)
		return false;
	take_id(key, header->id, header->length, service);
	return true;
}

/* The id that a server's long header names as its own. */
static __always_inline bool read_own_id(struct packet *pkt, __u32 service, union id_key *key)
{
	struct long_header *header = read_long_header(pkt);
	struct own_id *own;

	if (!header)
		return false;
	own = carried(pkt, sizeof(*header) - QUIC_ID_MAX + header->length, sizeof(*own));
	if (!own || own->length > QUIC_ID_MAX)
		return false;
	take_id(key, own->id, own->length, service);
	return true;
}

/* Could a server that knows nothing of the client begin with this? */
static __always_inline bool begins_connection(struct packet *pkt)
{
	struct long_header *header = read_long_header(pkt);

	return header && pkt->its->payload >= QUIC_FIRST_MIN &&
	       (header->first & QUIC_TYPE) ==
		       (version_of(header) == QUIC_V1 ? QUIC_INITIAL_V1 : QUIC_INITIAL_V2);
}

/* -- what a service's servers have been heard to say -- */

static __always_inline bool speaks_quic(struct heard *heard)
{
	return heard && heard->id_lengths;
}

static __always_inline void note_heard(__u32 service)
{
	struct heard *heard = heard_of.lookup(&service);

	if (heard && !heard->answered)
		SET(heard->answered, 1);
}

/* Once for each length; what two CPUs note at the same time the next packet notes again. */
static __always_inline void note_length(struct heard *heard, struct health *h, __u32 length)
{
	__u32 bit = 1u << length;

	if (heard && !(heard->id_lengths & bit))
		SET(heard->id_lengths, heard->id_lengths | bit);
	if (h && !(h->id_lengths & bit))
		SET(h->id_lengths, h->id_lengths | bit);
}

/* -- learning -- */

/* An endpoint's number and, above it, a mark of its address: ids outlive what is configured. */
static __always_inline __u32 place_of(__u32 id, struct endpoint *endpoint)
{
	__u64 ends = ((__u64)fold_address(&endpoint->address) << 16) | endpoint->port;

	return (mix(ends) & 0xffff0000) | (id & 0xffff);
}

/* An id that its client has shown to know. */
static __always_inline void learn_id(union id_key *key, __u32 id)
{
	struct endpoint *endpoint = endpoints.lookup(&id);
	struct cdn_count *count;
	__u32 *known, place;

	if (!endpoint || !key->id.length)
		return;
	place = place_of(id, endpoint);
	known = quic_ids.lookup(&key->id);
	if (known && *known == place)
		return;
	if (WRITES)
		quic_ids.update(&key->id, &place);
	count = count_of(endpoint->cdn);
	if (count)
		COUNT(count->ids_learned, 1);
}

/* An id that no client has shown to know yet. */
static __always_inline void offer_id(union id_key *key, __u32 id, struct endpoint *endpoint)
{
	__u32 place = place_of(id, endpoint);

	if (quic_ids.lookup(&key->id) || quic_offers.lookup(&key->id))
		return;
	if (WRITES)
		quic_offers.update(&key->id, &place);
}

/* A server's long header, on its way to the client. */
static __always_inline void note_id(struct packet *pkt, struct slot *slot)
{
	struct facts *its = pkt->its;
	__u32 service = owner_service(its->owner), id = its->endpoint, hash;
	struct endpoint *endpoint = endpoints.lookup(&id);
	bool begun = is_begun(slot->state);
	struct flow_key owner = {};
	struct cdn_count *count;
	union id_key key;
	struct flow *flow;

	if (!endpoint || !read_own_id(pkt, service, &key))
		return;
	note_length(heard_of.lookup(&service), health_of(id), key.id.length);
	if ((!begun && slot->state != SLOT_ESTABLISHED) || !owner_key(slot, its->owner, &owner))
		return;
	flow = begun ? 0 : established.lookup(&owner);
	if (flow && flow->slot == its->slot_index) {
		learn_id(&key, id);
		return;
	}
	if (!begun && !is_proof(&key))
		return;
	flow = begun ? half_open.lookup(&owner) : datagrams.lookup(&owner);
	hash = hash_of(&key);
	if (!flow || flow->slot != its->slot_index || flow->cdn_isn == hash)
		return;
	SET(flow->cdn_isn, hash);
	if (key.id.length) {
		offer_id(&key, id, endpoint);
		return;
	}
	count = count_of(endpoint->cdn);
	if (count)
		COUNT(count->ids_hidden, 1);
}

/* -- recognising -- */

static __always_inline __u32 *place_by_id(union id_key *key)
{
	__u32 *place = quic_ids.lookup(&key->id);

	return place ? place : quic_offers.lookup(&key->id);
}

/* A short header does not say how long its id is: each length that the service's servers use is tried. */
static __always_inline __u32 *place_by_short_header(struct packet *pkt, __u32 service,
						    __u32 lengths)
{
	struct short_header *header = carried(pkt, 0, sizeof(*header));
	union id_key key;
	__u32 *place;

	if (!header)
		return 0;
	take_id(&key, header->id, QUIC_ID_MAX, service);
#pragma unroll
	for (int length = QUIC_ID_MAX; length > 0; length--) {
		if (lengths & (1u << length)) {
			key.id.length = length;
			place = place_by_id(&key);
			if (place)
				return place;
		}
		key.id.bytes[length - 1] = 0;
	}
	return 0;
}

/* Where the connection lives that a client's packet is of; 0 when nobody knows. */
static __always_inline __u32 *place_of_connection(struct packet *pkt, __u32 service, __u32 lengths)
{
	__u8 *first = carried(pkt, 0, 1);
	union id_key key;

	if (!first)
		return 0;
	if (!(*first & QUIC_LONG))
		return place_by_short_header(pkt, service, lengths);
	if (!read_target_id(pkt, service, &key) || !(lengths & (1u << (key.id.length & 31))))
		return 0;
	return place_by_id(&key);
}

/* Does the endpoint still serve the service? */
static __always_inline bool serves(struct service *service, __u32 id)
{
	__u64 members = service->members[(id / 64) % MEMBER_WORDS];

	return (members >> (id % 64)) & 1;
}

/* The endpoint to go on with, or NOWHERE: it has left, or nothing comes from it. */
static __always_inline __u32 endpoint_at_place(struct packet *pkt, struct service *service,
					       __u32 place)
{
	__u32 id = place & 0xffff;
	struct endpoint *endpoint = endpoints.lookup(&id);
	struct health *h = health_of(id);

	if (!endpoint || !h || place_of(id, endpoint) != place || !serves(service, id))
		return NOWHERE;
	if (pkt->its->mode & MODE_DISARMED)
		return id;
	if (h->state == BREAKER_OUT ? h->reason == OUT_DARK : dark(pkt, h))
		return NOWHERE;
	return id;
}

/*
 * What does the first packet of a flow say, where QUIC is spoken? Returns the endpoint that a connection is
 * to go on with, or NOWHERE.
 */
static __always_inline __u32 recognise(struct packet *pkt, struct service *service, __u32 number)
{
	struct heard *heard = heard_of.lookup(&number);
	struct facts *its = pkt->its;
	__u32 *place, id = NOWHERE;

	its->begins = BEGINS_ANYTHING;
	if (its->protocol != IPPROTO_UDP || !speaks_quic(heard))
		return NOWHERE;
	place = place_of_connection(pkt, number, heard->id_lengths);
	if (place)
		id = endpoint_at_place(pkt, service, *place);
	its->begins = id != NOWHERE	       ? BEGINS_ANOTHER_WAY
		      : begins_connection(pkt) ? BEGINS_CONNECTION
					       : BEGINS_IN_THE_MIDDLE;
	NOTE(NOTED_CONNECTION, id, its->begins);
	return id;
}
