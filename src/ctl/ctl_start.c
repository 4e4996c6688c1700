/* SPDX-License-Identifier: Apache-2.0 */
/* Life: recovery from the newest good snapshot and the journal, and what runs is found again.
 *
 * Owns:       the machine and the core's block.
 * Invariants: (1) nothing is asked of the world before the whole journal was replayed; (2) a state
 *             hash that differs refuses to serve; (3) everything that the core believes to run is
 *             adopted, then what it still wants is asked again, then the rest is swept.
 */
#include "ctl/ctl_int.h"

#define SNAPSHOT_VERSION 1u

/* --- snapshots -------------------------------------------------------------------------------- */

void ctl_state_save(const struct mr_ctl *ctl, struct mr_buf *buf)
{
    struct mr_buf core;
    mr_buf_init(&core, SIZE_MAX);
    mr_core_save(ctl->core, &core);
    mr_buf_put_u8(buf, SNAPSHOT_VERSION);
    mr_buf_put_u64(buf, mr_core_hash(ctl->core));
    mr_buf_put_bytes32(buf, mr_buf_str(&core));
    if (core.failed) buf->failed = true;
    mr_buf_done(&core);
    ctl_book_save(&ctl->book, buf);
    mr_buf_put_u32(buf, (uint32_t)ctl->line_count);
    for (size_t i = 0; i < ctl->line_count; i++) {
        mr_buf_put_u64(buf, ctl->lines[i].entry);
        mr_buf_put_bytes32(buf,
                           (struct mr_str){(const char *)ctl->lines[i].bytes, ctl->lines[i].n});
    }
}

static int load_lines(struct mr_ctl *ctl, struct mr_reader *reader)
{
    uint32_t count = mr_read_u32(reader);
    for (uint32_t i = 0; i < count && !reader->failed; i++) {
        struct ctl_line line = {.entry = mr_read_u64(reader)};
        struct mr_str bytes = mr_read_bytes32(reader);
        if (bytes.n > sizeof line.bytes) return MR_ECORRUPT;
        line.n = (uint32_t)bytes.n;
        if (bytes.n > 0) memcpy(line.bytes, bytes.p, bytes.n);
        if (ctl->line_count == ctl->line_capacity) {
            size_t capacity = ctl->line_capacity > 0 ? 2 * ctl->line_capacity : 64;
            struct ctl_line *lines = mr_realloc(ctl->lines, capacity * sizeof *lines);
            if (lines == NULL) return MR_ENO_MEMORY;
            ctl->lines = lines;
            ctl->line_capacity = capacity;
        }
        ctl->lines[ctl->line_count++] = line;
    }
    return reader->failed ? MR_ECORRUPT : 0;
}

static int state_load(struct mr_ctl *ctl, struct mr_str bytes)
{
    struct mr_reader reader = mr_reader_from(bytes);
    struct mr_core *core = NULL;
    if (mr_read_u8(&reader) != SNAPSHOT_VERSION) return MR_EUNSUPPORTED;
    uint64_t hash = mr_read_u64(&reader);
    int error = mr_core_load(mr_read_bytes32(&reader), ctl->block, ctl->block_bytes, &core);
    if (error != 0) return error;
    if (mr_core_hash(core) != hash) return MR_ECORRUPT;
    error = ctl_book_load(&ctl->book, &reader);
    if (error == 0) error = load_lines(ctl, &reader);
    if (error == 0) ctl->core = core;
    return error;
}

static int state_fresh(struct mr_ctl *ctl)
{
    ctl_book_done(&ctl->book);
    ctl->line_count = 0;
    return mr_core_init(ctl->block, ctl->block_bytes, &ctl->config.limits, &ctl->core);
}

/* --- replay ----------------------------------------------------------------------------------- */

static int visit(void *arg, const struct mr_store_record *record)
{
    struct mr_ctl *ctl = arg;
    if (record->seq != ctl->seq + 1) return MR_ECORRUPT;
    int error = ctl_apply(ctl, record->bytes);
    if (error != 0) return error;
    ctl->seq = record->seq;
    ctl->records_since_snapshot++;
    ctl->bytes_since_snapshot += record->bytes.n;
    return 0;
}

/* Tries one base: the n-th newest snapshot, or an empty cloud (n == 2). MR_ENOT_FOUND: no such one.
 */
static int recover_from(struct mr_ctl *ctl, uint32_t n, bool *ret_any)
{
    struct mr_buf bytes;
    int error;
    ctl->seq = 0;
    ctl->records_since_snapshot = 0;
    ctl->bytes_since_snapshot = 0;
    ctl->hash_differs = false;
    error = state_fresh(ctl);
    if (error != 0) return error;
    if (n < 2) {
        mr_buf_init(&bytes, SIZE_MAX);
        error = ctl->store->ops->snapshot_get(ctl->store, n, &bytes, &ctl->seq);
        if (error == 0) error = state_load(ctl, mr_buf_str(&bytes));
        ctl->snapshot_bytes = bytes.n;
        mr_buf_done(&bytes);
        if (error != MR_ENOT_FOUND) *ret_any = true;
        if (error != 0) return error;
    }
    return ctl->store->ops->read(ctl->store, ctl->seq + 1, visit, ctl);
}

static int recover(struct mr_ctl *ctl, struct mr_buf *problem)
{
    bool any = false;
    int first = 0;
    ctl->replaying = true;
    for (uint32_t n = 0; n <= 2; n++) {
        int error = recover_from(ctl, n, &any);
        if (error == 0) {
            ctl->replaying = false;
            if (any && ctl->seq == 0) { /* snapshots without a journal, none of them readable */
                first = MR_ECORRUPT;
                break;
            }
            ctl->is_new = ctl->seq == 0;
            ctl->specs_kept = ctl->book.spec_count;
            return 0;
        }
        /* A damaged newest snapshot is no loss: the older one and the journal have all of it. */
        if (error != MR_ENOT_FOUND && first == 0) first = error;
        if (error == MR_ENO_MEMORY) break;
    }
    ctl->replaying = false;
    if (ctl->hash_differs) {
        mr_buf_printf(
            problem,
            "replaying the journal up to record %llu gives another state than the one that was "
            "written: this version steps events differently. Nothing was changed. Run the version "
            "that wrote the journal, stop it cleanly (it leaves a snapshot), then start this one",
            (unsigned long long)ctl->seq + 1);
        return MR_ECORRUPT;
    }
    mr_buf_printf(
        problem,
        "the journal cannot be replayed at record %llu: %s; nothing was changed. Keep a copy of "
        "the home, then restore journal.db from a backup, or run the version that wrote it",
        (unsigned long long)ctl->seq + 1, mr_error_text(first));
    return first == 0 ? MR_ECORRUPT : first;
}

/* --- what runs -------------------------------------------------------------------------------- */

static void on_report(void *arg, const struct mr_engine_report *report)
{
    struct mr_ctl *ctl = arg;
    struct mr_event event = {.u.lease = {.lease = report->lease,
                                         .checkpoint_step = report->checkpoint_step,
                                         .work_done = report->work_done,
                                         .exit = (enum mr_exit_kind)report->exit_kind,
                                         .code = report->code,
                                         .ran_us = report->ran_us}};
    uint64_t forget = 0;
    struct mr_lease_info lease;
    if (ctl->dead || !ctl->live) return;
    bool known = mr_core_lease(ctl->core, report->lease, &lease) == 0;
    switch (report->kind) {
    case MR_ENGINE_STARTED:
        event.kind = MR_EVENT_LEASE_STARTED;
        break;
    case MR_ENGINE_READY:
        event.kind = MR_EVENT_LEASE_READY;
        break;
    case MR_ENGINE_PROGRESS:
        event.kind = MR_EVENT_LEASE_PROGRESS;
        break;
    case MR_ENGINE_METER:
        event = (struct mr_event){.kind = MR_EVENT_METER,
                                  .u.meter = {.lease = report->lease,
                                              .serial = report->serial,
                                              .tenant = {report->tenant},
                                              .prompt_tokens = report->prompt_tokens,
                                              .cached_tokens = report->cached_tokens,
                                              .completion_tokens = report->completion_tokens}};
        break;
    default:
        event.kind = MR_EVENT_LEASE_EXITED;
        forget = report->lease.v;
#ifdef MR_PLANT_CTL_FORGET_EARLY
        ctl->engine->ops->forget(ctl->engine, report->lease); /* planted: before it is durable */
#endif
    }
    /* It ran and ended while no daemon was there to see it start: both belong to its story. */
    if (known && event.kind == MR_EVENT_LEASE_EXITED && lease.started_us == 0 &&
        report->exit_kind != MR_EXIT_START_FAILED && report->exit_kind != MR_EXIT_LOST) {
        struct mr_event started = {.kind = MR_EVENT_LEASE_STARTED,
                                   .u.lease = {.lease = report->lease, .ran_us = report->ran_us}};
        ctl_push_event(ctl, &started, 0);
    }
    /* A repeated report of what the core knows already would only fill the journal; the engine may
     * know the address of an adopted lease only now, so gates get a new picture. */
    if (known && ((event.kind == MR_EVENT_LEASE_STARTED && lease.started_us != 0) ||
                  (event.kind == MR_EVENT_LEASE_READY && lease.ready))) {
        const struct ctl_spec *spec = ctl_spec_find(&ctl->book, lease.workload.v);
        if (spec != NULL && spec->served_name != NULL) ctl_routes_publish(ctl);
        return;
    }
    if (!known && event.kind != MR_EVENT_METER && event.kind != MR_EVENT_LEASE_EXITED) return;
    ctl_push_event(ctl, &event, forget);
}

/* No request is in flight when a daemon starts: what its predecessor said last is not so any more.
 */
static void loads_reset(struct mr_ctl *ctl)
{
    struct mr_workload_info info;
    for (size_t i = 0; i < ctl->book.service_count; i++) {
        struct mr_event event = {.kind = MR_EVENT_LOAD, .u.load = {{ctl->book.services[i]}, 0, 0}};
        if (mr_core_workload(ctl->core, event.u.load.workload, &info) != 0) continue;
        if (!mr_state_final(info.state)) ctl_push_event(ctl, &event, 0);
    }
}

static void adopt_all(struct mr_ctl *ctl)
{
    struct mr_lease_info lease;
    struct mr_effect_sink sink = {.emit = ctl_effect, .context = ctl};
    uint32_t cursor = 0;
    while (mr_core_lease_next(ctl->core, &cursor, &lease) == 0) {
        if (lease.state != MR_LEASE_STARTING) ctl->engine->ops->adopt(ctl->engine, lease.id);
    }
    mr_core_outstanding(ctl->core, &sink);
    ctl->engine->ops->sweep(ctl->engine);
}

/* --- life ------------------------------------------------------------------------------------- */

int mr_ctl_new(const struct mr_ctl_config *config, struct mr_ctl **ret_ctl)
{
    struct mr_ctl *ctl = mr_alloc_zero(sizeof *ctl);
    if (ctl == NULL) return MR_ENO_MEMORY;
    if (config->listener_count > MR_COUNT_OF(ctl->listeners)) {
        mr_free(ctl);
        return MR_EINVALID;
    }
    ctl->config = *config;
    if (config->listener_count > 0) {
        memcpy(ctl->listeners, config->listeners,
               config->listener_count * sizeof *config->listeners);
    }
    ctl->config.listeners = ctl->listeners;
    if (ctl->config.snapshot_every_records == 0) {
        ctl->config.snapshot_every_records = CTL_SNAPSHOT_RECORDS;
    }
    ctl->env = config->env;
    ctl->store = config->store;
    ctl->engine = config->engine;
    ctl->last = &ctl->first;
    mr_buf_init(&ctl->snapshot, SIZE_MAX);
    ctl->block_bytes = mr_core_bytes(&config->limits);
    ctl->block = ctl->block_bytes > 0 ? mr_alloc(ctl->block_bytes) : NULL;
    ctl->learned = mr_alloc_zero(sizeof *ctl->learned);
    if (ctl->block == NULL || ctl->learned == NULL) {
        mr_ctl_free(ctl);
        return ctl->block_bytes > 0 ? MR_ENO_MEMORY : MR_EINVALID;
    }
    *ret_ctl = ctl;
    return 0;
}

int mr_ctl_start(struct mr_ctl *ctl, struct mr_buf *problem)
{
    int error = ctl->store->ops->epoch_take(ctl->store, &ctl->epoch);
    if (error != 0) {
        mr_buf_printf(problem, "the journal cannot be taken over: %s", mr_error_text(error));
        return error;
    }
    error = recover(ctl, problem);
    if (error != 0) return error;
    ctl->started_us = ctl->env->ops->now_us(ctl->env);
    if (!ctl->is_new) mr_forecast_known(ctl->learned, ctl->core);
    ctl->live = true;
    mr_core_trace_set(ctl->core, ctl->config.trace);
    ctl->engine->ops->watch(ctl->engine, on_report, ctl);
    if (ctl->is_new) error = ctl_prices_push(ctl);
    if (error != 0) return error;
    adopt_all(ctl);
    loads_reset(ctl);
    /* The next start checks that it comes to the state that this one came to. */
    if (!ctl->is_new) ctl->records_since_hash = UINT64_MAX / 2;
    ctl_tick_plan(ctl);
    ctl_routes_publish(ctl);
    ctl_commit(ctl);
    return 0;
}

bool mr_ctl_is_new(const struct mr_ctl *ctl)
{
    return ctl->is_new;
}

void mr_ctl_free(struct mr_ctl *ctl)
{
    if (ctl == NULL) return;
    struct mr_timer *timers[] = {ctl->tick_timer, ctl->commit_timer, ctl->load_timer,
                                 ctl->stop_timer};
    for (size_t i = 0; i < MR_COUNT_OF(timers); i++) {
        if (timers[i] != NULL) ctl->env->ops->timer_stop(ctl->env, timers[i]);
    }
    for (size_t list = 0; list < 2; list++) {
        struct ctl_pending *pending = list == 0 ? ctl->first : ctl->flight;
        while (pending != NULL) {
            struct ctl_pending *next = pending->next;
            if (pending->answer != NULL && --pending->answer->left == 0) mr_free(pending->answer);
            ctl_pending_free(pending);
            pending = next;
        }
    }
    ctl_book_done(&ctl->book);
    mr_routes_unref(ctl->routes);
    mr_buf_done(&ctl->snapshot);
    mr_free(ctl->flight_records);
    mr_free(ctl->flight_lines);
    mr_free(ctl->lines);
    mr_free(ctl->loads);
    mr_free(ctl->learned);
    mr_free(ctl->block);
    mr_free(ctl);
}

const struct mr_core *mr_ctl_core(const struct mr_ctl *ctl)
{
    return ctl->core;
}

uint64_t mr_ctl_seq(const struct mr_ctl *ctl)
{
    return ctl->seq;
}

uint64_t mr_ctl_epoch(const struct mr_ctl *ctl)
{
    return ctl->epoch;
}
