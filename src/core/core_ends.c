/* SPDX-License-Identifier: Apache-2.0 */
/* When running jobs are expected to end: the part of the future that is known.
 *
 * A ring of buckets, each some 67 s wide, holds the running jobs with a time limit or an estimate
 * by their expected end; a bit for each bucket that is not empty finds the next one. Two lists
 * stand beside it: ends beyond the ring, and jobs of which nothing is known, or that ran longer
 * than was estimated. Of these it is assumed that they run as long again as they did (the
 * remaining time of a heavy-tailed lifetime grows with its age: Harchol-Balter and Downey 1997).
 *
 * Owns:       the ring, its bits, the two lists.
 * Invariants: (1) a running job stands in exactly one list, nothing else does;
 *             (2) a bucket's bit says whether it has members.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(1) to join and to leave; a walk O(1) for each job and for each 64 empty buckets.
 * Idea:       docs/internals/backfill.md   Tests: tests/unit/core/test_core_hold.c
 */
#include "core_int.h"

#define BUCKET_SHIFT 26u /* 67.1 s */
#define BEYOND       CORE_END_RING
#define UNKNOWN      (CORE_END_RING + 1)

uint64_t core_end_us(const struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    uint64_t length_us = core_length_us(w), end_us = 0;
    if (length_us == 0) return 0;
    uint64_t left_us = length_us - MR_MIN(length_us, w->ran_us);
    if (!mr_add_u64(w->run_started_us, left_us, &end_us)) return UINT64_MAX;
    return end_us;
}

/* --- lists --------------------------------------------------------------------------------- */

static void bit_change(struct mr_core *core, uint32_t bucket, bool set)
{
    if (bucket >= CORE_END_RING) return;
    if (set)
        mr_bit_set(core->end_bits, bucket);
    else
        core->end_bits[bucket / 64] &= ~((uint64_t)1 << (bucket % 64));
}

static void push(struct mr_core *core, uint32_t workload, uint32_t bucket)
{
    struct core_workload *w = core_workload(core, workload);
    uint32_t *head = core_end_head(core, bucket);
    w->end_bucket = 1 + bucket;
    w->end_prev = 0;
    w->end_next = *head;
    if (*head != 0) core_workload(core, *head)->end_prev = workload;
    *head = workload;
    bit_change(core, bucket, true);
}

void core_ends_join(struct mr_core *core, uint32_t workload)
{
    MR_ASSERT(core_workload(core, workload)->end_bucket == 0);
    uint64_t end_us = core_end_us(core, workload);
    if (end_us <= core->now_us) {
        push(core, workload, UNKNOWN);
        return;
    }
    uint64_t slot = end_us >> BUCKET_SHIFT;
    bool far = slot - (core->now_us >> BUCKET_SHIFT) >= CORE_END_RING;
    push(core, workload, far ? BEYOND : (uint32_t)(slot % CORE_END_RING));
}

void core_ends_leave(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    if (w->end_bucket == 0) return;
    uint32_t bucket = w->end_bucket - 1;
    if (w->end_prev != 0)
        core_workload(core, w->end_prev)->end_next = w->end_next;
    else
        *core_end_head(core, bucket) = w->end_next;
    if (w->end_next != 0) core_workload(core, w->end_next)->end_prev = w->end_prev;
    if (*core_end_head(core, bucket) == 0) bit_change(core, bucket, false);
    w->end_bucket = 0;
    w->end_prev = 0;
    w->end_next = 0;
}

/* --- the walk ------------------------------------------------------------------------------ */

/* The first bucket that is not empty, `from` buckets after now's or more; CORE_END_RING: none. */
static uint32_t bucket_next(const struct mr_core *core, uint32_t from)
{
    uint64_t first = core->now_us >> BUCKET_SHIFT;
    while (from < CORE_END_RING) {
        uint32_t at = (uint32_t)((first + from) % CORE_END_RING);
        uint64_t bits = core->end_bits[at / 64] >> (at % 64);
        if (bits != 0) {
            from += (uint32_t)__builtin_ctzll(bits);
            break;
        }
        from += 64 - at % 64;
    }
    return MR_MIN(from, CORE_END_RING);
}

/* The first of the next list of known ends that is not empty, from that many buckets on; behind the
 * last of the ring come those beyond it. */
static void known_from(const struct mr_core *core, struct core_ends_walk *walk, uint32_t offset)
{
    walk->offset = bucket_next(core, offset);
    uint64_t slot = (core->now_us >> BUCKET_SHIFT) + walk->offset;
    bool beyond = walk->offset == CORE_END_RING;
    walk->known = *core_end_head(core, beyond ? BEYOND : (uint32_t)(slot % CORE_END_RING));
}

void core_ends_start(const struct mr_core *core, struct core_ends_walk *walk)
{
    *walk = (struct core_ends_walk){.unknown = *core_end_head(core, UNKNOWN)};
    known_from(core, walk, 0);
}

static void known_step(const struct mr_core *core, struct core_ends_walk *walk)
{
    walk->known = core_workload(core, walk->known)->end_next;
    if (walk->known == 0 && walk->offset < CORE_END_RING) known_from(core, walk, walk->offset + 1);
}

/* It runs as long again as it did, and a minute at least. */
static uint64_t assumed_us(const struct mr_core *core, uint32_t workload)
{
    uint64_t ran_us = core->now_us - core_workload(core, workload)->run_started_us;
    return core->now_us + MR_MAX(ran_us, (uint64_t)1 << BUCKET_SHIFT);
}

uint32_t core_ends_next(const struct mr_core *core, struct core_ends_walk *walk,
                        uint64_t *ret_end_us)
{
    uint32_t at = walk->known;
    uint64_t known_us = at != 0 ? core_end_us(core, at) : UINT64_MAX;
    bool overdue = at != 0 && known_us <= core->now_us; /* then it is as the unknown */
    uint64_t unknown_us = walk->unknown != 0 ? assumed_us(core, walk->unknown) : UINT64_MAX;
    if (overdue || (at != 0 && known_us <= unknown_us)) {
        known_step(core, walk);
        *ret_end_us = overdue ? assumed_us(core, at) : known_us;
    } else if (walk->unknown != 0) {
        at = walk->unknown;
        walk->unknown = core_workload(core, at)->end_next;
        *ret_end_us = unknown_us;
    }
    return at;
}
