/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated disk: groups that stay whole or not at all, slow, full, failing and torn.
 *
 * Owns:       what is durable; it outlives every daemon.
 * Invariants: (1) records have consecutive numbers; (2) a group in flight when the daemon dies
 * stays whole or is gone; (3) an older epoch writes nothing; (4) ledger entries have no hole.
 */
#include "sim/sim_int.h"

enum { WRITE_APPEND, WRITE_SNAPSHOT };

static struct sim_store *store_of(struct mr_store *store)
{
    return (struct sim_store *)(void *)store; /* base is its first member */
}

static uint8_t *copy_bytes(struct mr_str bytes)
{
    uint8_t *copy = mr_alloc(bytes.n > 0 ? bytes.n : 1);
    MR_ASSERT(copy != NULL);
    if (bytes.n > 0) memcpy(copy, bytes.p, bytes.n);
    return copy;
}

static void write_free(struct sim_write *write)
{
    for (size_t i = 0; i < write->record_count; i++)
        mr_free(write->records[i].bytes);
    mr_free(write->records);
    mr_free(write->snapshot.bytes);
    uint32_t serial = write->serial;
    *write = (struct sim_write){.serial = serial + 1};
}

/* --- becoming durable ----------------------------------------------------------------------------
 */

static void records_drop_until(struct sim_store *store, uint64_t seq)
{
    size_t drop = 0;
    while (drop < store->record_count && store->records[drop].seq <= seq) {
        mr_free(store->records[drop].bytes);
        drop++;
    }
    if (drop == 0) return;
    store->record_count -= drop;
    memmove(store->records, store->records + drop, store->record_count * sizeof *store->records);
    store->seq_first = seq + 1;
}

static void apply_append(struct sim_store *store, struct sim_write *write)
{
    struct sim *sim = store->sim;
    for (size_t i = 0; i < write->record_count; i++) {
        if (write->records[i].seq != store->seq_last + 1) {
            sim_verdict(sim, MR_SIM_WRONG, "record %llu was appended after %llu",
                        (unsigned long long)write->records[i].seq,
                        (unsigned long long)store->seq_last);
            return;
        }
        if (store->record_count == store->record_capacity) {
            store->record_capacity = store->record_capacity > 0 ? 2 * store->record_capacity : 64;
            store->records =
                mr_realloc(store->records, store->record_capacity * sizeof *store->records);
            MR_ASSERT(store->records != NULL);
        }
        store->records[store->record_count++] = write->records[i];
        write->records[i].bytes = NULL;
        store->seq_last++;
    }
    if (write->ledger_last > store->ledger_entries) {
        if (write->ledger_first > store->ledger_entries + 1) {
            sim_verdict(sim, MR_SIM_WRONG, "the ledger has a hole before entry %llu",
                        (unsigned long long)write->ledger_first);
        }
        store->ledger_entries = write->ledger_last;
    }
}

static void apply_snapshot(struct sim_store *store, struct sim_write *write)
{
    struct sim_snapshot *newest = &store->snapshots[0];
    /* One that cannot be read does not count as one of the two that are kept. */
    if (newest->bytes != NULL && (newest->torn || write->snapshot.seq == newest->seq)) {
        mr_free(store->snapshots[0].bytes);
    } else {
        mr_free(store->snapshots[1].bytes);
        store->snapshots[1] = store->snapshots[0];
    }
    store->snapshots[0] = write->snapshot;
    write->snapshot.bytes = NULL;
    if (store->snapshots[1].bytes != NULL) records_drop_until(store, store->snapshots[1].seq);
}

static void apply(struct sim_store *store, struct sim_write *write)
{
    if (write->epoch != store->epoch) return; /* fenced */
    if (write->is_snapshot) {
        apply_snapshot(store, write);
    } else {
        apply_append(store, write);
    }
}

/* --- completion ------------------------------------------------------------------------------- */

static void write_told(struct sim *sim, size_t which)
{
    struct sim_write *write = &sim->store.writes[which];
    mr_store_done done = write->done;
    void *arg = write->arg;
    int result = write->result;
    uint32_t tag = sim_enter(sim, false);
    write_free(write);
    sim_leave(sim, tag);
    done(arg, result);
}

static void append_told(void *arg)
{
    write_told(arg, WRITE_APPEND);
}

static void snapshot_told(void *arg)
{
    write_told(arg, WRITE_SNAPSHOT);
}

/* The disk is through; the daemon hears of it a moment later, and may die in between. */
static void write_ends(struct sim *sim, size_t which)
{
    struct sim_write *write = &sim->store.writes[which];
    uint32_t tag = sim_enter(sim, false);
    MR_ASSERT(write->used);
    if (write->epoch != sim->store.epoch) write->result = MR_EFENCED;
    if (write->result == 0 || (write->result == MR_EIO && sim_draw(sim, 0, 1) == 0)) {
        apply(&sim->store, write);
    }
    write->used = false;
    sim_in_daemon(sim, sim_draw(sim, 0, 200), which == WRITE_APPEND ? append_told : snapshot_told,
                  sim, NULL);
    sim_leave(sim, tag);
}

static void append_ends(void *arg)
{
    write_ends(arg, WRITE_APPEND);
}

static void snapshot_ends(void *arg)
{
    write_ends(arg, WRITE_SNAPSHOT);
}

static void begin(struct sim *sim, struct sim_write *write)
{
    uint64_t delay_us = sim_draw(sim, sim->c.disk_us / 2, 2 * sim->c.disk_us);
    if (sim_chance(sim, sim->c.slow_ppm)) {
        delay_us *= 100;
        sim->report->faults.slow_writes++;
    }
    if (sim_chance(sim, sim->c.full_ppm)) {
        write->result = MR_ENO_SPACE;
        sim->report->faults.disk_full++;
    } else if (sim_chance(sim, sim->c.io_ppm)) {
        write->result = MR_EIO;
        sim->report->faults.disk_errors++;
    }
    write->used = true;
    /* Dropped with the daemon: sim_store_crash then says what became of it. */
    sim_in_daemon(sim, delay_us, write->is_snapshot ? snapshot_ends : append_ends, sim, NULL);
}

void sim_store_crash(struct sim *sim)
{
    for (size_t i = 0; i < MR_COUNT_OF(sim->store.writes); i++) {
        struct sim_write *write = &sim->store.writes[i];
        if (write->used) {
            sim->report->faults.torn_writes++;
            if (write->result != MR_ENO_SPACE && sim_draw(sim, 0, 1) == 0)
                apply(&sim->store, write);
        }
        write_free(write);
    }
    struct sim_snapshot *newest = &sim->store.snapshots[0];
    if (newest->bytes != NULL && sim->store.snapshots[1].bytes != NULL && !newest->torn &&
        sim_chance(sim, 1000 * sim->c.torn_snapshot_permille)) {
        newest->torn = true;
        sim->report->faults.torn_snapshots++;
    }
}

/* --- the table -------------------------------------------------------------------------------- */

static int store_epoch_take(struct mr_store *store, uint64_t *ret_epoch)
{
    *ret_epoch = ++store_of(store)->epoch;
    return 0;
}

static void store_append(struct mr_store *store, uint64_t epoch, const struct mr_store_group *group,
                         mr_store_done done, void *arg)
{
    struct sim_store *s = store_of(store);
    uint32_t tag = sim_enter(s->sim, true);
    struct sim_write *write = &s->writes[WRITE_APPEND];
    if (write->used) sim_verdict(s->sim, MR_SIM_WRONG, "two appends are in flight");
    write->epoch = epoch;
    write->done = done;
    write->arg = arg;
    write->record_count = group->record_count;
    write->records = mr_alloc_zero((group->record_count + 1) * sizeof *write->records);
    MR_ASSERT(write->records != NULL);
    for (size_t i = 0; i < group->record_count; i++) {
        write->records[i] = (struct sim_record){.seq = group->records[i].seq,
                                                .bytes = copy_bytes(group->records[i].bytes),
                                                .n = group->records[i].bytes.n};
    }
    if (group->ledger_count > 0) {
        write->ledger_first = group->ledger[0].entry;
        write->ledger_last = group->ledger[group->ledger_count - 1].entry;
    }
    begin(s->sim, write);
    sim_leave(s->sim, tag);
}

static int store_read(struct mr_store *store, uint64_t seq,
                      int (*visit)(void *arg, const struct mr_store_record *record), void *arg)
{
    struct sim_store *s = store_of(store);
    for (size_t i = 0; i < s->record_count; i++) {
        if (s->records[i].seq < seq) continue;
        struct mr_store_record record = {
            .seq = s->records[i].seq,
            .bytes = {(const char *)s->records[i].bytes, s->records[i].n}};
        int error = visit(arg, &record);
        if (error != 0) return error;
    }
    return 0;
}

static void store_snapshot_put(struct mr_store *store, uint64_t epoch, uint64_t seq,
                               struct mr_str bytes, mr_store_done done, void *arg)
{
    struct sim_store *s = store_of(store);
    uint32_t tag = sim_enter(s->sim, true);
    struct sim_write *write = &s->writes[WRITE_SNAPSHOT];
    if (write->used) sim_verdict(s->sim, MR_SIM_WRONG, "two snapshots are in flight");
    write->is_snapshot = true;
    write->epoch = epoch;
    write->done = done;
    write->arg = arg;
    write->snapshot = (struct sim_snapshot){.seq = seq, .bytes = copy_bytes(bytes), .n = bytes.n};
    begin(s->sim, write);
    sim_leave(s->sim, tag);
}

static int store_snapshot_get(struct mr_store *store, uint32_t n, struct mr_buf *buf,
                              uint64_t *ret_seq)
{
    struct sim_store *s = store_of(store);
    if (n >= MR_COUNT_OF(s->snapshots) || s->snapshots[n].bytes == NULL) return MR_ENOT_FOUND;
    if (s->snapshots[n].torn) return MR_ECORRUPT;
    mr_buf_put(buf, s->snapshots[n].bytes, s->snapshots[n].n);
    *ret_seq = s->snapshots[n].seq;
    return buf->failed ? MR_ENO_MEMORY : 0;
}

static int store_ledger_read(struct mr_store *store, uint64_t from, uint32_t max,
                             int (*visit)(void *arg, const struct mr_store_ledger *line), void *arg)
{
    (void)store;
    (void)from;
    (void)max;
    (void)visit;
    (void)arg;
    return 0; /* the checkers read the core's bill; lines are counted, not kept */
}

static void store_stats(struct mr_store *store, struct mr_store_stats *ret)
{
    struct sim_store *s = store_of(store);
    *ret = (struct mr_store_stats){
        .records = s->record_count, .first_seq = s->seq_first, .last_seq = s->seq_last};
}

static const struct mr_store_ops store_ops = {.epoch_take = store_epoch_take,
                                              .append = store_append,
                                              .read = store_read,
                                              .snapshot_put = store_snapshot_put,
                                              .snapshot_get = store_snapshot_get,
                                              .ledger_read = store_ledger_read,
                                              .stats = store_stats};

void sim_store_init(struct sim *sim)
{
    sim->store = (struct sim_store){.base = {.ops = &store_ops}, .sim = sim, .seq_first = 1};
}
