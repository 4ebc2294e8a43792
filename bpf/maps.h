/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Every map, with who writes it and who reads it. Those that are PINNED, by their names, outlive the
 * process that made them.
 *
 * The sizes that the operator's [limits] say are not known here: they are given to the maps when they are
 * made (cdnctl/datapath/compiled.py), so that what was compiled once serves every edge.
 */
#pragma once

#define FLOWS 1
#define HALF_OPEN 1
#define DATAGRAMS 1
#define SLOTS 1
#define BLOCK_ENTRIES 1
#define BLOCK_LINES 1 /* a power of two, so many that hardly any is full */

/*
 * A map as BCC wants to read it: `key`, `leaf`, `max_entries` and `flags` by their names. For the first two
 * members, whatever they are, BCC generates and optimizes code that prints and parses them: in its own
 * BPF_TABLE those are the key and the leaf, which took more than half of the time to compile.
 */
#define TABLE(type, key_type, leaf_type, name, entries, map_flags)            \
	struct name##_table_t {                                               \
		u32 max_entries;                                              \
		int flags;                                                    \
		key_type key;                                                 \
		leaf_type leaf;                                               \
		leaf_type *(*lookup)(key_type *);                             \
		int (*update)(key_type *, leaf_type *);                       \
		int (*insert)(key_type *, leaf_type *);                       \
		int (*delete)(key_type *);                                    \
	};                                                                    \
	__attribute__((section("maps/" type))) struct name##_table_t name = { \
		.max_entries = (entries), .flags = (map_flags)}

#define PINNED(type, key, leaf, name, size, flags) TABLE(type, key, leaf, name, size, flags)

/* -- what the agent writes and the kernel reads -- */

/* enum mode_flag; also written by `disarm`, `bypass` and `mode` when no agent runs */
PINNED("array", __u32, __u32, mode, 1, 0);
/* until when what would change a flow waits, see flow.h; it ends by itself */
PINNED("array", __u32, __u64, held_until, 1, 0);
PINNED("array", __u32, struct settings, settings, 1, 0);
PINNED("array", __u32, struct shield, shields, 1, 0);
/* UDP's source ports that nobody opens a flow from: bit n of word w is port 64 w + n */
PINNED("array", __u32, __u64, amplifiers, PORT_WORDS, 0);
/* whose the pins are, see cdnctl/datapath/program.py; user space only */
PINNED("array", __u32, struct identity, identity, 4, 0);
/* VIPs and SNAT addresses: is this packet ours at all? */
PINNED("hash", struct address, struct local, local_addresses, 256, 0);
/* its cells, see cdnctl/datapath/local.py */
PINNED("array", __u32, struct local_cell, local_cells, 1 << LOCAL_CELLS_LOG, 0);
PINNED("hash", struct link_key, __u32, link_ids, 4 * MAX_LINKS, 0);
PINNED("array", __u32, struct link, links, MAX_LINKS, 0);
PINNED("hash", struct service_key, __u32, service_ids, MAX_SERVICES, 0);
PINNED("array", __u32, struct service, services, MAX_SERVICES, 0);
PINNED("array", __u32, struct pick_table, picks, MAX_TABLES, 0);
PINNED("hash", struct endpoint_key, __u32, endpoint_ids, MAX_ENDPOINTS, 0);
PINNED("array", __u32, struct endpoint, endpoints, MAX_ENDPOINTS, 0);
PINNED("array", __u32, struct limit, capacities, MAX_CDNS, 0);
PINNED("array", __u32, struct limit, customer_limits, MAX_CUSTOMERS, 0);
PINNED("lpm_trie", struct prefix_key, struct client, clients, 65536, BPF_F_NO_PREALLOC);
/* how many of them are CLIENT_ALLOWED, at least: where none is, nobody who is blocked is looked up there */
PINNED("array", __u32, __u32, allowed_prefixes, 1, 0);
PINNED("lpm_trie", struct prefix_key, __u32, management, 256, BPF_F_NO_PREALLOC);
/* prefixes that are routed here, with ADDRESS_UNUSED; what the host has of them, with ADDRESS_USED */
PINNED("lpm_trie", struct prefix_key, __u32, announced, MAX_ANNOUNCED, BPF_F_NO_PREALLOC);
/* who may talk to SNAT addresses, where settings.invited_only says so */
PINNED("lpm_trie", struct prefix_key, __u32, invited, MAX_INVITED, BPF_F_NO_PREALLOC);
/* written through mmap by the agent */
PINNED("array", __u32, __u64, block_bits, BLOCK_WORDS, BPF_F_MMAPABLE);
PINNED("array", __u32, __u64, block6_bits, BLOCK6_WORDS, BPF_F_MMAPABLE);
PINNED("array", __u32, __u32, block_wide, 1, 0);
PINNED("array", __u32, struct block_line, block_lines, BLOCK_LINES, BPF_F_MMAPABLE);

/* -- what both write: the agent adds, the kernel deletes what has expired and counts hits -- */

/* of single IPv4 addresses that are in lines, by the address */
PINNED("lru_hash", __u32, __u64, block_hits, 1 << 16, 0);
PINNED("hash", struct address, struct block, block_exact, BLOCK_ENTRIES, BPF_F_NO_PREALLOC);
PINNED("lpm_trie", struct prefix_key, struct block, block_prefix, BLOCK_ENTRIES, BPF_F_NO_PREALLOC);

/* -- the kernel's own; the agent reads, and empties none -- */

PINNED("lru_hash", struct flow_key, struct flow, half_open, HALF_OPEN, 0);
PINNED("lru_hash", struct flow_key, struct flow, established, FLOWS, 0);
/* UDP under way whose client has not proved that it is where it says: it evicts nobody who has */
PINNED("lru_hash", struct flow_key, struct flow, datagrams, DATAGRAMS, 0);
PINNED("array", __u32, struct slot, reverse, SLOTS, BPF_F_MMAPABLE);
PINNED("lru_hash", struct fragment_key, struct fragment, fragments, 4096, 0);
/* endpoints by the ids of QUIC connections: those that a client has shown to know, and others */
PINNED("lru_hash", struct quic_id, __u32, quic_ids, FLOWS, 0);
PINNED("lru_hash", struct quic_id, __u32, quic_offers, HALF_OPEN, 0);
PINNED("array", __u32, struct heard, heard_of, MAX_SERVICES, 0);
PINNED("array", __u32, struct health, health, MAX_ENDPOINTS, 0);
/* weight out of rotation, by pool: reserve, compare, roll back */
PINNED("array", __u32, __u64, weight_out, POOLS, 0);
PINNED("array", __u32, struct meter, loads, MAX_CDNS, 0);
PINNED("array", __u32, struct meter, meters, MAX_CUSTOMERS, 0);
PINNED("lru_hash", struct address, struct meter, sources, 65536, 0);
PINNED("percpu_array", __u32, struct sketch, sketches, 1, 0);
/* who may open flows under attack, see shed.h and challenge.h; entries are made by a proof alone */
PINNED("lru_hash", struct address, struct verified, verified, 65536, 0);
PINNED("array", __u32, __u64, budgets, (BUDGETS - 1) * BUDGET_ROWS * BUDGET_COLUMNS, 0);
PINNED("array", __u32, struct retry_set, retries, RETRY_SETS, 0);
PINNED("array", __u32, struct surge, surges, SURGES, 0);
/* how sources behave, see manner.h, and what is thought of it: one of the two that settings.model says */
PINNED("array", __u32, struct manner, manners, MANNERS, BPF_F_MMAPABLE);
PINNED("array", __u32, struct model, models, 2, 0);
/* by endpoint and SNAT address: routes may depend on who sends */
PINNED("percpu_array", __u32, struct hop, hops, MAX_ENDPOINTS *MAX_SNAT, 0);
PINNED("percpu_array", __u32, struct count, verdicts, VERDICTS, 0);
PINNED("percpu_array", __u32, struct cdn_count, cdn_counts, MAX_CDNS, 0);
PINNED("percpu_array", __u32, struct customer_count, customer_counts, MAX_CUSTOMERS, 0);
PINNED("percpu_array", __u32, __u64, service_flows, MAX_SERVICES, 0);
PINNED("percpu_array", __u32, struct histogram, handshakes, MAX_CDNS, 0);
/* by CDN, the client's region and class; of a CDN they lie together, so that one batch reads them */
PINNED("percpu_array", __u32, struct histogram, first_bytes, MAX_CDNS *MAX_REGIONS *CLASSES, 0);
/* what tables before these counted, and how much of that was carried over; user space only */
PINNED("array", __u32, struct counted, counted_before, 2, BPF_F_MMAPABLE);
PINNED("array", __u32, struct sweep, sweeps, 1, 0);
/* slots by endpoint and enum slot_state that this round of the sweep has passed; user space clears it */
PINNED("array", __u32, __u64, census, MAX_ENDPOINTS *SLOT_STATES, 0);

/* -- of one loaded program: made anew for each -- */

BPF_PROG_ARRAY(stages, STAGES);
BPF_PERF_OUTPUT(samples);
BPF_PERF_OUTPUT(events);
BPF_PERF_OUTPUT(bindings);
