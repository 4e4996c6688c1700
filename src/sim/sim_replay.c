/* SPDX-License-Identifier: Apache-2.0 */
/* Core under a virtual clock: events in, what it starts and stops answered, time moved on.
 *
 * Owns:       core's block, what is due, the newest run of each workload.
 * Invariants: (1) what is due is never in the past;
 *             (2) a run ends by itself once, and not after it was asked to stop;
 *             (3) equal events and equal hooks give equal steps.
 * Never:      I/O, clock (the caller's CPU clock apart), a decision of its own.
 * Cost:       O(log due) for each lease told, besides core's own.
 * Idea:       docs/internals/sim.md   Tests: tests/unit/sim/test_sim_replay.c
 */
#include "sim_replay_int.h"

#include <string.h>

#define TOLD_KEPT     64u
#define CPU_ALL_STEPS 1000000u
#define CPU_ONE_IN    64u

/* Room for `want` items of `bytes` each behind *p. */
static bool grow(void **p, size_t *room, size_t want, size_t bytes)
{
    if (want <= *room) return true;
    size_t more = MR_MAX(want, MR_MAX((size_t)TOLD_KEPT, *room * 2));
    void *grown = mr_realloc(*p, more * bytes);
    if (grown == NULL) return false;
    memset((uint8_t *)grown + *room * bytes, 0, (more - *room) * bytes);
    *p = grown;
    *room = more;
    return true;
}

/* --- what is due --------------------------------------------------------------------------- */

static bool before(const struct sim_replay_due *a, const struct sim_replay_due *b)
{
    return a->time_us != b->time_us ? a->time_us < b->time_us : a->order < b->order;
}

static void due_push(struct sim_replay *r, struct sim_replay_due due)
{
    if (!grow((void **)&r->due, &r->due_room, r->due_count + 1, sizeof *r->due)) {
        r->failed = true;
        return;
    }
    MR_INVARIANT(1, due.time_us >= r->now_us);
    due.order = r->order_next++;
    size_t at = r->due_count++;
    while (at > 0 && before(&due, &r->due[(at - 1) / 2])) {
        r->due[at] = r->due[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    r->due[at] = due;
}

static struct sim_replay_due due_pop(struct sim_replay *r)
{
    MR_ASSERT(r->due_count > 0);
    struct sim_replay_due first = r->due[0], last = r->due[--r->due_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= r->due_count) break;
        if (child + 1 < r->due_count && before(&r->due[child + 1], &r->due[child])) child++;
        if (!before(&r->due[child], &last)) break;
        r->due[at] = r->due[child];
        at = child;
    }
    r->due[at] = last;
    return first;
}

/* --- core's effects ------------------------------------------------------------------------ */

static void on_effect(void *context, const struct mr_effect *effect)
{
    struct sim_replay *r = context;
    if (r->hooks->effect != NULL) r->hooks->effect(r->hooks->context, effect);
    if (effect->kind != MR_EFFECT_START && effect->kind != MR_EFFECT_STOP) return;
    if (!grow((void **)&r->told, &r->told_room, r->told_count + 1, sizeof *r->told)) {
        r->failed = true;
        return;
    }
    struct sim_replay_told *told = &r->told[r->told_count++];
    *told = (struct sim_replay_told){.start = effect->kind == MR_EFFECT_START};
    if (told->start) {
        const struct mr_effect_start *start = &effect->u.start;
        told->lease = start->lease.v;
        told->workload = start->workload.v;
        told->run = start->run;
        told->tasks = start->tasks;
        told->world_size = start->world_size;
    } else {
        told->lease = effect->u.stop.lease.v;
    }
}

static void step(struct sim_replay *r, struct mr_event *event)
{
    const struct mr_effect_sink sink = {.emit = on_effect, .context = r};
    event->time_us = r->now_us;
    /* Reading the CPU clock costs more than most steps: of very many, one in 64 stands for all. */
    uint64_t weight = r->events < CPU_ALL_STEPS ? 1 : CPU_ONE_IN;
    bool timed = r->cpu_ns != NULL && r->events % weight == 0;
    uint64_t begun_ns = timed ? r->cpu_ns() : 0;
    mr_core_step(r->core, event, &sink);
    if (timed) r->core_ns += (r->cpu_ns() - begun_ns) * weight;
    r->events++;
    r->submissions += event->kind == MR_EVENT_SUBMIT;
}

static void lease_step(struct sim_replay *r, enum mr_event_kind kind, uint64_t lease, int32_t code)
{
    struct mr_event event = {.kind = kind,
                             .u.lease = {.lease = {lease}, .exit = MR_EXIT_CODE, .code = code}};
    step(r, &event);
}

/* A lease is up; with the last one of a gang its run begins. */
static void started(struct sim_replay *r, const struct sim_replay_told *told)
{
    struct mr_workload_info info;
    if (!grow((void **)&r->runs, &r->run_room, told->workload + 1, sizeof *r->runs) ||
        !grow((void **)&r->lease_workload, &r->lease_room, told->lease + 1,
              sizeof *r->lease_workload)) {
        r->failed = true;
        return;
    }
    r->lease_workload[told->lease] = told->workload;
    lease_step(r, MR_EVENT_LEASE_STARTED, told->lease, 0);
    if (mr_core_workload(r->core, (struct mr_workload_id){told->workload}, &info) != 0) return;
    if (info.kind != MR_KIND_JOB) {
        lease_step(r, MR_EVENT_LEASE_READY, told->lease, 0);
        return;
    }
    struct sim_replay_run *run = &r->runs[told->workload];
    if (run->run != told->run) *run = (struct sim_replay_run){.run = told->run};
    run->world_size = told->world_size;
    run->tasks_up += told->tasks;
    if (run->tasks_up < run->world_size || run->began || run->stopping) return;
    run->began = true;
    run->began_us = r->now_us;
    uint64_t lasts_us =
        r->hooks->began(r->hooks->context, told->workload, told->run, run->world_size);
    if (!mr_add_u64(r->now_us, lasts_us, &run->ends_us)) return;
    due_push(r, (struct sim_replay_due){
                    .time_us = run->ends_us, .workload = told->workload, .run = told->run});
}

/* A lease was lost and its run goes on: it was a spare. */
static bool run_goes_on(const struct sim_replay *r, uint64_t workload, uint32_t run, uint64_t lease)
{
    struct mr_workload_info info;
    struct mr_lease_info known;
    if (mr_core_lease(r->core, (struct mr_lease_id){lease}, &known) == 0) return false;
    if (mr_core_workload(r->core, (struct mr_workload_id){workload}, &info) != 0) return false;
    return info.state == MR_STATE_RUNNING && info.run == run;
}

/* A lease was asked to stop; the first of a run tells the format. */
static void stopping(struct sim_replay *r, uint64_t lease)
{
    if (lease >= r->lease_room || r->lease_workload[lease] == 0) return;
    uint64_t workload = r->lease_workload[lease], takes_us = 0;
    struct sim_replay_run *run = &r->runs[workload];
    if (run->run != 0 && run_goes_on(r, workload, run->run, lease)) {
        takes_us = 0;
    } else if (run->run != 0 && !run->stopping) {
        run->stopping = true;
        takes_us = r->hooks->stopped(r->hooks->context, workload, run->run,
                                     run->began ? r->now_us - run->began_us : 0);
        run->ends_us = r->now_us + takes_us;
    } else if (run->run != 0) {
        takes_us = run->ends_us > r->now_us ? run->ends_us - r->now_us : 0;
    }
    due_push(r, (struct sim_replay_due){.time_us = r->now_us + takes_us,
                                        .workload = workload,
                                        .lease = lease,
                                        .run = run->run});
}

/* Answers what core told, and what it tells about the answers. */
static void answer(struct sim_replay *r)
{
    while (r->told_first < r->told_count && !r->failed) {
        struct sim_replay_told told = r->told[r->told_first++];
        if (told.start) {
            started(r, &told);
        } else {
            stopping(r, told.lease);
        }
    }
    r->told_first = r->told_count = 0;
}

/* --- ends ---------------------------------------------------------------------------------- */

/* A job that is stopped and has more to do says so; a replica just ends. */
static void lease_ends(struct sim_replay *r, uint64_t lease, int32_t code)
{
    if (lease >= r->lease_room || r->lease_workload[lease] == 0) return;
    r->lease_workload[lease] = 0;
    if (r->hooks->ended != NULL) r->hooks->ended(r->hooks->context, lease);
    lease_step(r, MR_EVENT_LEASE_EXITED, lease, code);
}

static void run_ends(struct sim_replay *r, const struct sim_replay_due *due)
{
    const struct sim_replay_run *run = &r->runs[due->workload];
    if (run->run != due->run || run->stopping || run->ends_us != due->time_us) return;
    if (r->hooks->completed != NULL)
        r->hooks->completed(r->hooks->context, due->workload, r->now_us - run->began_us);
    for (;;) {
        /* Each exit changes the list, so the first one is asked for each time. */
        struct mr_lease_info info;
        uint32_t cursor = 0;
        int error;
        do {
            error =
                mr_core_lease_of(r->core, (struct mr_workload_id){due->workload}, &cursor, &info);
        } while (error == 0 && (info.start.run != due->run || info.id.v >= r->lease_room ||
                                r->lease_workload[info.id.v] == 0));
        if (error != 0) return;
        lease_ends(r, info.id.v, 0);
    }
}

/* --- public -------------------------------------------------------------------------------- */

int sim_replay_init(struct sim_replay *replay, const struct mr_core_limits *limits,
                    const struct sim_replay_hooks *hooks, uint64_t (*cpu_ns)(void))
{
    MR_ASSERT(hooks->began != NULL);
    MR_ASSERT(hooks->stopped != NULL);
    size_t bytes = mr_core_bytes(limits);
    if (bytes == 0) return MR_EINVALID;
    void *block = mr_alloc(bytes);
    if (block == NULL) return MR_ENO_MEMORY;
    *replay = (struct sim_replay){.block = block, .hooks = hooks, .cpu_ns = cpu_ns};
    int error = mr_core_init(block, bytes, limits, &replay->core);
    if (error != 0) sim_replay_done(replay);
    return error;
}

void sim_replay_done(struct sim_replay *replay)
{
    mr_free(replay->block);
    mr_free(replay->runs);
    mr_free(replay->due);
    mr_free(replay->told);
    mr_free(replay->lease_workload);
    *replay = (struct sim_replay){0};
}

void sim_replay_event(struct sim_replay *replay, struct mr_event *event)
{
    step(replay, event);
    answer(replay);
}

void sim_replay_delay(struct sim_replay *replay, uint64_t workload, uint64_t by_us)
{
    if (workload >= replay->run_room) return;
    struct sim_replay_run *run = &replay->runs[workload];
    if (!run->began || run->stopping || run->ends_us < replay->now_us) return;
    if (!mr_add_u64(run->ends_us, by_us, &run->ends_us)) return;
    due_push(replay, (struct sim_replay_due){
                         .time_us = run->ends_us, .workload = workload, .run = run->run});
}

uint64_t sim_replay_next_us(const struct sim_replay *replay)
{
    uint64_t wake_us = mr_core_wake_us(replay->core);
    if (replay->due_count == 0) return wake_us;
    return MR_MIN(wake_us, replay->due[0].time_us);
}

void sim_replay_advance(struct sim_replay *replay, uint64_t time_us)
{
    MR_ASSERT(time_us >= replay->now_us);
    while (!replay->failed && sim_replay_next_us(replay) <= time_us) {
        uint64_t next_us = MR_MAX(sim_replay_next_us(replay), replay->now_us);
        replay->now_us = next_us;
        if (replay->due_count > 0 && replay->due[0].time_us <= next_us) {
            struct sim_replay_due due = due_pop(replay);
            if (due.lease != 0) {
                lease_ends(replay, due.lease, MR_EXIT_CODE_REQUEUE);
            } else {
                run_ends(replay, &due);
            }
        } else {
            struct mr_event tick = {.kind = MR_EVENT_TICK};
            step(replay, &tick);
        }
        answer(replay);
    }
    replay->now_us = time_us;
}
