/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Every write to a table goes through these. `cdnctl trace` runs the same source with TRACE, where
 * they write nothing: the decision is the real one, and every table is as it was.
 */
#pragma once

#ifdef TRACE
#define WRITES 0 /* for updates and deletes, which BCC does not find in macros */
#define SET(place, value) ((void)(value))
#define COUNT(place, n) ((void)(n))
#define ATOMIC_ADD(place, n) (*(place))
#define ATOMIC_SUB(place, n) (*(place))
#define ATOMIC_OR(place, bits) (*(place))
#define ATOMIC_AND(place, bits) (*(place))
/* as if it had worked */
#define SWAP_IF(place, old, new) (old)
#define COPY(to, from, size) ((void)(from))
#else
#define WRITES 1
#define SET(place, value) ((place) = (value))
#define COUNT(place, n) ((place) += (n))
#define ATOMIC_ADD(place, n) __sync_fetch_and_add(place, n)
#define ATOMIC_SUB(place, n) __sync_fetch_and_sub(place, n)
#define ATOMIC_OR(place, bits) __sync_fetch_and_or(place, bits)
#define ATOMIC_AND(place, bits) __sync_fetch_and_and(place, bits)
/* what it held before: `old` when it was swapped */
#define SWAP_IF(place, old, new) __sync_val_compare_and_swap(place, old, new)
#define COPY(to, from, size) __builtin_memcpy(to, from, size)
#endif
