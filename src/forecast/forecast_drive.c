/* SPDX-License-Identifier: Apache-2.0 */
/* One fork driven forward: what core starts is up at once and ends after a drawn time, what it
 * stops is gone within its grace, and others submit as they did lately.
 *
 * Owns:       nothing; the fork is its caller's.
 * Invariants: (1) time in a fork never goes back;
 *             (2) `waiting` counts the followed workloads that wait, and wanted ones not ended.
 * Never:      I/O, clock, float, allocation, recursion; a decision: core decides.
 * Cost:       O(log due) for each lease told, besides core's own steps.
 * Idea:       docs/internals/forecast.md   Tests: tests/unit/forecast/test_forecast_when.c
 */
#include "forecast_int.h"

#define STOP_US_MAX 30000000u /* what is asked to go is gone within its grace, and within this */

/* --- core's effects ------------------------------------------------------------------------ */

static void followed_state(struct forecast_fork *fork, const struct mr_effect_state *state)
{
    struct forecast_watch *watch = forecast_watch_find(fork, state->workload.v);
    if (watch == NULL || watch->ended_us != MR_FORECAST_NEVER) return;
    if (mr_state_final(state->state)) {
        watch->ended_us = fork->now_us;
        fork->waiting -= watch->waits + watch->wanted;
        watch->waits = watch->wanted = false;
        return;
    }
    if (state->state == MR_STATE_RUNNING) {
        if (watch->waits) {
            watch->started_us = fork->now_us;
            watch->waits = false;
            fork->waiting--;
        }
        watch->tasks = state->tasks;
        watch->tasks_least = MR_MIN(watch->tasks_least, state->tasks);
    } else if (state->state == MR_STATE_PENDING && !watch->waits) {
        watch->started_us = MR_FORECAST_NEVER;
        watch->stopped++;
        watch->waits = true;
        fork->waiting++;
    }
}

static void on_effect(void *context, const struct mr_effect *effect)
{
    struct forecast_fork *fork = context;
    struct forecast_watch *watch;
    switch (effect->kind) {
    case MR_EFFECT_START:
    case MR_EFFECT_STOP:
        if (fork->told_count == fork->told_room) {
            fork->overflow = true;
            return;
        }
        bool start = effect->kind == MR_EFFECT_START;
        const struct mr_effect_start *s = &effect->u.start;
        const struct mr_effect_stop *stop = &effect->u.stop;
        fork->told[fork->told_count++] =
            start ? (struct forecast_told){.workload = s->workload.v,
                                           .lease = s->lease.v,
                                           .run = s->run,
                                           .rank_first = s->rank_first,
                                           .start = true}
                  : (struct forecast_told){.lease = stop->lease.v, .grace_us = stop->grace_us};
        return;
    case MR_EFFECT_STATE:
        followed_state(fork, &effect->u.state);
        return;
    case MR_EFFECT_LEDGER:
        watch = forecast_watch_find(fork, effect->u.ledger.workload.v);
        if (watch != NULL) watch->charged_nusd += effect->u.ledger.charge_nusd;
        return;
    case MR_EFFECT_ACCEPTED:
    case MR_EFFECT_REJECTED:
        fork->answered = effect->u.answer.workload;
        fork->error = effect->u.answer.error;
        fork->reason = effect->u.answer.reason;
        return;
    default:
        return;
    }
}

static void step(struct forecast_fork *fork, struct mr_event *event)
{
    const struct mr_effect_sink sink = {.emit = on_effect, .context = fork};
    event->time_us = fork->now_us;
    mr_core_step(fork->core, event, &sink);
    fork->steps++;
}

/* --- the world's answers ------------------------------------------------------------------- */

void forecast_run_lasts(struct forecast_fork *fork, uint64_t workload, uint32_t run)
{
    struct mr_workload_info info;
    if (mr_core_workload(fork->core, (struct mr_workload_id){workload}, &info) != 0) return;
    if (info.kind != MR_KIND_JOB || info.run != run) return;
    /* What is not saved is done again. */
    uint64_t ran_us = info.checkpoint_us != 0 || info.run <= 1 ? info.ran_us : 0;
    ran_us += fork->now_us - MR_MIN(info.run_started_us, fork->now_us);
    uint64_t whole_us =
        forecast_draw_us(fork->model, &info, ran_us, forecast_draw(fork, workload, run));
    if (whole_us == UINT64_MAX) return; /* for ever, as far as is known */
    uint64_t left_us = whole_us - ran_us, world = MR_MAX(info.tasks - info.spares, 1u);
    if (info.tasks_min < info.tasks_max && world < info.tasks_max) {
        left_us = mr_mul_div_u64(left_us, info.tasks_max, world);
    }
    forecast_due_push(
        fork,
        (struct forecast_due){.time_us = fork->now_us + left_us, .workload = workload, .run = run});
}

void forecast_lease_starts(struct forecast_fork *fork, const struct forecast_told *told)
{
    struct mr_workload_info info;
    struct mr_event event = {.kind = MR_EVENT_LEASE_STARTED, .u.lease = {.lease = {told->lease}}};
    step(fork, &event);
    if (mr_core_workload(fork->core, (struct mr_workload_id){told->workload}, &info) != 0) return;
    if (info.kind != MR_KIND_JOB) {
        event.kind = MR_EVENT_LEASE_READY;
        step(fork, &event);
    } else if (told->rank_first == 0) {
        forecast_run_lasts(fork, told->workload, told->run);
    }
}

void forecast_lease_stops(struct forecast_fork *fork, const struct forecast_told *told)
{
    uint64_t takes_us = MR_MIN(told->grace_us, STOP_US_MAX);
    uint64_t draw = forecast_draw(fork, told->lease, UINT32_MAX) & FORECAST_ONE;
    forecast_due_push(fork, (struct forecast_due){.time_us = fork->now_us + (takes_us * draw >> 32),
                                                  .lease = told->lease});
}

void forecast_settle(struct forecast_fork *fork)
{
    while (fork->told_first < fork->told_count && !fork->overflow) {
        struct forecast_told told = fork->told[fork->told_first++];
        if (told.start) {
            forecast_lease_starts(fork, &told);
        } else {
            forecast_lease_stops(fork, &told);
        }
    }
    fork->told_first = fork->told_count = 0;
}

void forecast_event(struct forecast_fork *fork, struct mr_event *event)
{
    step(fork, event);
    forecast_settle(fork);
}

/* --- ends ---------------------------------------------------------------------------------- */

static void lease_ends(struct forecast_fork *fork, uint64_t lease, int32_t code)
{
    struct mr_event event = {.kind = MR_EVENT_LEASE_EXITED,
                             .u.lease = {.lease = {lease}, .exit = MR_EXIT_CODE, .code = code}};
    step(fork, &event);
}

/* Each exit changes the list, so the first one that runs is asked for each time. */
static void run_ends(struct forecast_fork *fork, const struct forecast_due *due)
{
    const struct mr_workload_id id = {due->workload};
    struct mr_workload_info info;
    if (mr_core_workload(fork->core, id, &info) != 0) return;
    if (info.state != MR_STATE_RUNNING || info.run != due->run) return;
    for (;;) {
        struct mr_lease_info lease;
        uint32_t cursor = 0;
        int error;
        do {
            error = mr_core_lease_of(fork->core, id, &cursor, &lease);
        } while (error == 0 && (lease.start.run != due->run || lease.state != MR_LEASE_RUNNING));
        if (error != 0) return;
        lease_ends(fork, lease.id.v, 0);
    }
}

/* --- others who submit --------------------------------------------------------------------- */

void forecast_arrival_next(struct forecast_fork *fork)
{
    const struct mr_forecast_learned *learned = fork->learned;
    if (mr_prng_below(&fork->prng, FORECAST_JUMP) == 0) {
        fork->arrival_at = (uint32_t)mr_prng_below(&fork->prng, fork->arrival_window);
    } else {
        fork->arrival_at = (fork->arrival_at + 1) % fork->arrival_window;
    }
    uint32_t slot = (fork->arrival_first + fork->arrival_at) % MR_FORECAST_ARRIVALS;
    uint64_t gap_us = MR_MIN(learned->arrivals[slot].gap_us, UINT64_MAX >> 24);
    fork->arrives_us += gap_us * fork->arrival_scale / 1000;
    if (fork->arrives_us > fork->arrival_until_us) fork->arrives_us = UINT64_MAX;
}

static void arrive(struct forecast_fork *fork)
{
    uint32_t slot = (fork->arrival_first + fork->arrival_at) % MR_FORECAST_ARRIVALS;
    const struct mr_forecast_arrival *a = &fork->learned->arrivals[slot];
    struct mr_event event = {.kind = MR_EVENT_SUBMIT,
                             .u.submit = {.tenant = {a->tenant},
                                          .kind = MR_KIND_JOB,
                                          .shape = a->shape,
                                          .tasks_min = a->tasks_min,
                                          .tasks_max = a->tasks_max,
                                          .priority = a->priority,
                                          .topology = (enum mr_topology)a->topology,
                                          .preemptible = a->preemptible,
                                          .time_limit_us = a->time_limit_us,
                                          .estimate_us = a->estimate_us,
                                          .grace_us = a->grace_us,
                                          .checkpoint_us = a->checkpoint_us,
                                          .restarts_max = 1,
                                          .spares = a->spares}};
    forecast_event(fork, &event);
    forecast_arrival_next(fork);
}

/* --- what is delivered --------------------------------------------------------------------- */

/* On its date; who is late already comes with the next. */
void forecast_delivery_next(struct forecast_fork *fork)
{
    struct mr_delivery_info delivery;
    uint32_t cursor = 0;
    fork->delivers_us = UINT64_MAX;
    while (mr_core_delivery_next(fork->core, &cursor, &delivery) == 0) {
        if (delivery.late) continue;
        fork->delivers_us = delivery.from_us;
        return;
    }
}

static void deliver(struct forecast_fork *fork)
{
    struct mr_event event = {.kind = MR_EVENT_NODE_STATE, .u.node_state = {.state = MR_NODE_UP}};
    forecast_event(fork, &event);
    forecast_delivery_next(fork);
}

/* --- driving ------------------------------------------------------------------------------- */

static uint64_t next_us(const struct forecast_fork *fork)
{
    uint64_t at_us = MR_MIN(mr_core_wake_us(fork->core), fork->arrives_us);
    at_us = MR_MIN(at_us, fork->delivers_us);
    return fork->due_count > 0 ? MR_MIN(at_us, fork->due[0].time_us) : at_us;
}

void forecast_drive(struct forecast_fork *fork)
{
    while (fork->waiting > 0) {
        uint64_t at_us = next_us(fork);
        if (at_us == UINT64_MAX || at_us > fork->until_us) return;
        if (fork->steps >= fork->steps_max || fork->overflow) {
            fork->cut = true;
            return;
        }
        fork->now_us = MR_MAX(fork->now_us, at_us);
        if (fork->due_count > 0 && fork->due[0].time_us <= fork->now_us) {
            struct forecast_due due = forecast_due_pop(fork);
            if (due.lease != 0) {
                lease_ends(fork, due.lease, MR_EXIT_CODE_REQUEUE);
            } else {
                run_ends(fork, &due);
            }
            forecast_settle(fork);
        } else if (fork->delivers_us <= fork->now_us) {
            deliver(fork);
        } else if (fork->arrives_us <= fork->now_us) {
            arrive(fork);
        } else {
            struct mr_event tick = {.kind = MR_EVENT_TICK};
            forecast_event(fork, &tick);
        }
    }
}
