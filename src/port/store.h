/* SPDX-License-Identifier: Apache-2.0 */
/* What ctl needs of a store: a journal in order, a snapshot, an epoch that fences the past.
 *
 * Order of durability (binding): an event is appended; when `done` says 0 it is on stable storage;
 * only then it is stepped, and only after that its effects are carried out and its sender answered.
 * Records have consecutive sequence numbers from 1. Every write carries the writer's epoch; one
 * that is older than the store's is refused with MR_EFENCED and changes nothing.
 */
#ifndef MR_PORT_STORE_H
#define MR_PORT_STORE_H

#include "base/base.h"

struct mr_store;

struct mr_store_record {
    uint64_t seq;
    struct mr_str bytes; /* opaque; the store keeps a checksum of its own over seq and bytes */
};

/* A line of the bill, keyed by `entry`: putting it again changes nothing. */
struct mr_store_ledger {
    uint64_t entry;
    struct mr_str bytes; /* opaque to the core; columns are ctl's (see ctl_ledger.c) */
};

/* One atomic group: all of it or nothing. */
struct mr_store_group {
    const struct mr_store_record *records;
    size_t record_count;
    const struct mr_store_ledger *ledger;
    size_t ledger_count;
};

struct mr_store_stats {
    uint64_t bytes, records, first_seq, last_seq, commits, commit_us;
};

typedef void (*mr_store_done)(void *arg, int error);

struct mr_store_ops {
    /* Takes the next epoch (one above the stored one) for this process, durably. Synchronous; only
     * at start. MR_EFENCED when another live process holds the store (one daemon per home). */
    int (*epoch_take)(struct mr_store *store, uint64_t *ret_epoch);

    /* Appends durably. The group's memory stays the caller's and must stay until done, which is
     * called once, later, on this lane: 0, MR_EFENCED, MR_ENO_SPACE, MR_EIO (state unknown: the
     * caller must stop serving and recover). At most one append is in flight. */
    void (*append)(struct mr_store *store, uint64_t epoch, const struct mr_store_group *group,
                   mr_store_done done, void *arg);

    /* Reads records from `seq` on, in order, until `visit` returns non-zero (returned as is) or the
     * end. A record with a bad checksum at the very end is a torn write and is dropped; anywhere
     * else MR_ECORRUPT. Synchronous; at start and for replays. */
    int (*read)(struct mr_store *store, uint64_t seq,
                int (*visit)(void *arg, const struct mr_store_record *record), void *arg);

    /* Stores a snapshot that stands for all records up to `seq`, then drops records that no kept
     * snapshot needs (the newest two are kept). Same rules as append; may be in flight beside it.
     */
    void (*snapshot_put)(struct mr_store *store, uint64_t epoch, uint64_t seq, struct mr_str bytes,
                         mr_store_done done, void *arg);
    /* The n-th newest snapshot (0 is the newest) into buf; MR_ENOT_FOUND, MR_ECORRUPT. */
    int (*snapshot_get)(struct mr_store *store, uint32_t n, struct mr_buf *buf, uint64_t *ret_seq);

    /* Ledger lines with entry >= from, in order. Synchronous, small pages. */
    int (*ledger_read)(struct mr_store *store, uint64_t from, uint32_t max,
                       int (*visit)(void *arg, const struct mr_store_ledger *line), void *arg);

    /* For /metrics: bytes on disk, records held, commits, microseconds in fsync (sums). */
    void (*stats)(struct mr_store *store, struct mr_store_stats *ret);
};

struct mr_store {
    const struct mr_store_ops *ops;
};

#endif
