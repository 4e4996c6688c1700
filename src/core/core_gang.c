/* SPDX-License-Identifier: Apache-2.0 */
/* Gangs: jobs that start whole, run, stop whole, and go on from their checkpoint.
 *
 * phase     leaves it when                                    to
 * waiting   a plan comes off / room is made for it            active / claiming
 * held      its begin or backoff time comes                   waiting
 * claiming  all that it displaces has ended                   active
 * active    all its leases ended well / one ended otherwise   ended / ending
 * ending    its last lease has ended: by its outcome          waiting, held, claiming or ended
 *
 * Owns:       the phases of jobs.
 * Invariants: (1) an active gang's leases hold exactly its tasks;
 *             (2) the leases of a gang that are no claims are of one run;
 *             (3) a gang that ends or waits holds nothing.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(leases of the gang) to start and to stop; O(log) else.
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_gang.c
 */
#include "core_quota.h"

static uint32_t leases_left(const struct core_workload *w)
{
    MR_ASSERT(w->lease_count >= w->claimed);
    return w->lease_count - w->claimed;
}

/* --- starting ------------------------------------------------------------------------------ */

static void gang_start(struct mr_core *core, uint32_t workload, uint32_t tasks, uint8_t type)
{
    core_class_leave(core, workload);
    core_gang_started(core, workload, tasks, type);
    core_spare_spread(core, workload, tasks);
    core_leases_from_plan(core, workload, tasks, type, false);
}

/* Whether it fits now with the room that it holds; then it holds none any more. */
static bool gang_gives_up(struct mr_core *core, uint32_t workload,
                          const struct core_request *request, struct core_bound *ret_bound)
{
    uint8_t type = 0;
    if (core_workload(core, workload)->hold_us == 0) return true;
    struct core_released_kept kept;
    core_released_keep(core, &kept);
    core_claims_lend(core, workload, false, true);
    uint32_t tasks = core_plan_allowed(core, workload, request, &type, ret_bound);
    core_plan_drop(core, request->shape);
    core_claims_lend(core, workload, true, true);
    core_released_back(core, &kept);
    if (tasks > 0) core_claims_drop(core, workload);
    return tasks > 0;
}

bool core_gang_try(struct mr_core *core, uint32_t workload, struct mr_reason *ret_reason,
                   uint32_t *ret_tenant)
{
    struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(w->phase == CORE_WAITING && w->lease_count == w->claimed);
    struct core_request request = core_request_make(core, workload, w->tasks_min, w->tasks_max);
    request.tasks_max += w->spares;
    struct core_bound bound;
    uint8_t type = 0;
    uint32_t tasks = 0;
    if (gang_gives_up(core, workload, &request, &bound))
        tasks = core_plan_allowed(core, workload, &request, &type, &bound);
    uint32_t missing = core->plan_short; /* of this plan: making room tries others */
    struct core_bound unused;            /* why it does not fit is said of the plan before */
    if (tasks == 0 && w->hold_us == 0)
        tasks = core_hold_plan(core, workload, &request, &type, &unused);
    if (tasks > 0) {
        gang_start(core, workload, tasks, type);
        return true;
    }
    if (w->hold_us == 0 && core_room_make(core, workload, &request, &bound)) return true;
    core->plan_short = missing;
    *ret_tenant = bound.tenant != 0 ? bound.highest : 0;
    core->plan_also = bound.highest;
    *ret_reason = bound.reason;
    if (bound.tenant == 0 && core->trace != NULL)
        (void)mr_core_why(core, (struct mr_workload_id){w->id}, ret_reason);
    return false;
}

void core_gang_started(struct mr_core *core, uint32_t workload, uint32_t tasks, uint8_t type)
{
    struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(w->class_of == 0);
    MR_ASSERT(tasks >= 1);
    core_hold_forget(core, workload);
    w->phase = CORE_ACTIVE;
    w->outcome = CORE_OUTCOME_NONE;
    w->run++;
    w->tasks = tasks;
    w->accel_type = type;
    w->clean = 1;
    w->repair = 0;
    w->gone = 0;
    w->run_started_us = core->now_us;
    w->saved_us = core->now_us;
    w->grow_us = core->now_us + CORE_SETTLE_US;
    if (w->started_us == 0) w->started_us = core->now_us;
    core_ends_join(core, workload);
    core_deadline_started(core, workload);
    core_state_set(core, workload, MR_STATE_RUNNING);
    core_victim_join(core, workload);
    core_gang_timer(core, workload);
}

/* A claim of a gang that holds nothing else starts as soon as its nodes and quotas have the room.
 */
void core_claim_wait(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(w->phase == CORE_CLAIMING && w->over == 0);
    uint8_t type = core_lease(core, w->lease_first)->accel_type;
    core_over_join(core, workload, type);
    if (w->over != 0)
        core_timer_set(core, workload, w->claim_until_us);
    else if (w->claim_wait == 0)
        core_timer_set(core, workload, core->now_us);
}

void core_gang_claim_ready(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(w->phase == CORE_CLAIMING && w->claim_wait == 0 && w->over == 0);
    MR_INVARIANT(1, w->claimed == w->lease_count && w->claimed > 0);
    uint32_t tasks = 0;
    uint8_t type = 0;
    for (uint32_t i = w->lease_first; i != 0; i = core_lease(core, i)->of_next) {
        const struct core_lease *l = core_lease(core, i);
        tasks += l->tasks;
        type = l->accel_type;
    }
    core_gang_started(core, workload, tasks, type);
    for (uint32_t i = w->lease_first; i != 0; i = core_lease(core, i)->of_next) {
        core_lease_start(core, i);
    }
}

void core_claim_lost(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    core_trace(core, "workload %llu loses its claim", (unsigned long long)w->id);
    core_claims_drop(core, workload);
    if (core_is_service(w)) {
        if (w->phase == CORE_ACTIVE) core_service_update(core, workload);
        return;
    }
    if (w->phase == CORE_CLAIMING)
        core_workload_wait(core, workload);
    else if (w->phase == CORE_WAITING)
        core_hold_arm(core, core->now_us); /* it held room: it gets other room within this step */
    else if (w->outcome == CORE_OUTCOME_CLAIM) {
        w->outcome = CORE_OUTCOME_REQUEUE;
        if (w->repair) core_repair_note(core, workload, 0);
    }
}

/* --- stopping ------------------------------------------------------------------------------ */

static void gang_finish(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    MR_INVARIANT(3, leases_left(w) == 0);
    MR_ASSERT(w->phase == CORE_ENDING);
    if (!core_is_service(w) && w->tasks > 0) w->ran_us += core->now_us - w->run_started_us;
    core_deadline_stopped(core, workload);
    w->tasks = 0;
    /* A gang that was asked to go and ended well in the meantime is done. */
    bool again = w->outcome != CORE_OUTCOME_END;
    bool late = w->time_limit_us != 0 && w->ran_us >= w->time_limit_us;
    if (again && (w->clean || late)) {
        core_claims_drop(core, workload);
        w->outcome = CORE_OUTCOME_END;
        w->end_state = w->clean ? MR_STATE_COMPLETED : MR_STATE_TIMEOUT;
    }
    if (w->outcome == CORE_OUTCOME_END) {
        MR_ASSERT(w->claimed == 0);
        core_workload_end(core, workload, (enum mr_state)w->end_state);
        return;
    }
    core_state_set(core, workload, MR_STATE_PENDING);
    if (w->outcome == CORE_OUTCOME_CLAIM) {
        w->phase = CORE_CLAIMING;
        core_claim_wait(core, workload);
        return;
    }
    core_workload_wait(core, workload);
}

void core_gang_stop(struct mr_core *core, uint32_t workload, enum core_outcome outcome,
                    enum mr_state end_state, bool checkpoint)
{
    struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(w->phase == CORE_ACTIVE || w->phase == CORE_CLAIMING || w->phase == CORE_ENDING);
    MR_ASSERT(w->phase != CORE_CLAIMING || outcome == CORE_OUTCOME_END);
    if (w->class_of != 0) core_class_leave(core, workload);
    core_victim_leave(core, workload);
    core_ends_leave(core, workload);
    core_timer_set(core, workload, UINT64_MAX);
    w->repair = 0;
    if (outcome != CORE_OUTCOME_CLAIM) core_claims_drop(core, workload);
    bool running = w->phase == CORE_ACTIVE;
    if (running) w->clean = w->clean && outcome != CORE_OUTCOME_END;
    w->phase = CORE_ENDING;
    w->outcome = (uint8_t)outcome;
    w->end_state = (uint8_t)end_state;
    if (leases_left(w) == 0) {
        gang_finish(core, workload);
        return;
    }
    if (running) core_state_set(core, workload, MR_STATE_COMPLETING);
    for (uint32_t i = w->lease_first; i != 0; i = core_lease(core, i)->of_next) {
        const struct core_lease *l = core_lease(core, i);
        if (l->state != MR_LEASE_STARTING && l->state != MR_LEASE_RUNNING) continue;
        core_lease_stop(core, i, false, checkpoint);
    }
}

static uint64_t backoff_us(uint32_t failures)
{
    uint32_t doublings = MR_MIN(MR_MAX(failures, 1u) - 1, 6u);
    return MR_MIN(CORE_BACKOFF_FIRST_US << doublings, CORE_BACKOFF_LAST_US);
}

static void failure_decide(struct mr_core *core, uint32_t workload, enum mr_exit_kind exit)
{
    struct core_workload *w = core_workload(core, workload);
    if (exit != MR_EXIT_TIME_LIMIT && w->restarts < w->restarts_max) {
        w->restarts++;
        w->failures++;
        w->backoff_us = core->now_us + backoff_us(w->failures);
        core_trace(core, "workload %llu failed, restart %u of %u", (unsigned long long)w->id,
                   w->restarts, w->restarts_max);
        core_gang_stop(core, workload, CORE_OUTCOME_RETRY, MR_STATE_FAILED, false);
        return;
    }
    enum mr_state end = MR_STATE_FAILED;
    if (exit == MR_EXIT_OUT_OF_MEMORY) end = MR_STATE_OUT_OF_MEMORY;
    if (exit == MR_EXIT_TIME_LIMIT) end = MR_STATE_TIMEOUT;
    core_gang_stop(core, workload, CORE_OUTCOME_END, end, false);
}

/* The last of its world: the gang has ended, and spares are needed no more. */
static void lease_ended_well(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    if (leases_left(w) > 0) {
        if (!core_spare_only(core, workload)) return;
        core_gang_stop(core, workload, CORE_OUTCOME_END, MR_STATE_COMPLETED, false);
        return;
    }
    w->ran_us += core->now_us - w->run_started_us;
    core_victim_leave(core, workload);
    core_ends_leave(core, workload);
    core_workload_end(core, workload, MR_STATE_COMPLETED);
}

void core_gang_lease_ended(struct mr_core *core, uint32_t workload, uint32_t node,
                           enum mr_exit_kind exit, int32_t code)
{
    struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(w->phase == CORE_ACTIVE || w->phase == CORE_ENDING);
    bool good = exit == MR_EXIT_CODE && code == 0;
    if (!good) w->clean = 0;
    if (w->phase == CORE_ENDING) {
        if (leases_left(w) == 0)
            gang_finish(core, workload);
        else if (w->repair && exit == MR_EXIT_LOST && w->outcome == CORE_OUTCOME_REQUEUE)
            core_repair_note(core, workload, node);
        return;
    }
    w->exit = (uint8_t)exit;
    w->exit_code = code;
    if (good) {
        lease_ended_well(core, workload);
    } else if (exit == MR_EXIT_CODE && code == MR_EXIT_CODE_REQUEUE) {
        w->backoff_us = core->now_us + CORE_BACKOFF_FIRST_US;
        core_gang_stop(core, workload, CORE_OUTCOME_REQUEUE, MR_STATE_FAILED, true);
    } else if (exit == MR_EXIT_LOST) {
        core_gang_stop(core, workload, CORE_OUTCOME_REQUEUE, MR_STATE_NODE_FAIL, false);
        if (w->phase == CORE_ENDING) {
            w->repair = 1;
            core_repair_note(core, workload, node);
        }
    } else {
        failure_decide(core, workload, exit);
    }
}

/* --- time ---------------------------------------------------------------------------------- */

void core_gang_timer(struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(w->phase == CORE_ACTIVE);
    uint64_t at_us = UINT64_MAX;
    if (w->time_limit_us != 0) {
        MR_ASSERT(w->ran_us <= w->time_limit_us);
        if (!mr_add_u64(w->run_started_us, w->time_limit_us - w->ran_us, &at_us)) {
            at_us = UINT64_MAX;
        }
    }
    if (w->tasks < w->tasks_max) at_us = MR_MIN(at_us, w->grow_us);
    core_timer_set(core, workload, at_us);
}

static void gang_grow(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    w->grow_us = core->now_us + CORE_SETTLE_US;
    /* A restart costs what was done since the checkpoint: an eighth more is worth it. */
    uint32_t least = w->tasks + MR_MAX(w->tasks / 8, 1u);
    if (least > w->tasks_max) least = w->tasks_max;
    if (least > w->tasks && core_room_resize(core, workload, least, w->tasks_max)) return;
    core_gang_timer(core, workload);
}

static void claiming_due(struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    if (w->over != 0 && core->now_us >= w->claim_until_us)
        core_claim_lost(core, workload); /* the quota did not come back */
    else if (w->over != 0)
        core_timer_set(core, workload, w->claim_until_us);
    else if (w->claim_wait == 0)
        core_gang_claim_ready(core, workload);
}

void core_gang_due(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    if (w->phase == CORE_HELD) {
        core_workload_wait(core, workload);
    } else if (w->phase == CORE_CLAIMING) {
        claiming_due(core, workload);
    } else if (w->phase == CORE_WAITING) {
        /* Its room is there; or it may have waited long enough to ask others to go. */
        if (w->hold_us == 0 && w->queue_prev == 0)
            core_candidate_add(core, w->class_of);
        else if (w->hold_us != 0 && w->claim_wait == 0)
            core_hold_start(core, workload);
    } else if (w->phase == CORE_ACTIVE) {
        uint64_t ran_us = w->ran_us + (core->now_us - w->run_started_us);
        if (w->time_limit_us != 0 && ran_us >= w->time_limit_us) {
            core_trace(core, "workload %llu is over its time limit", (unsigned long long)w->id);
            w->exit = MR_EXIT_TIME_LIMIT;
            core_gang_stop(core, workload, CORE_OUTCOME_END, MR_STATE_TIMEOUT, true);
        } else if (core->now_us >= w->grow_us && w->tasks < w->tasks_max) {
            gang_grow(core, workload);
        } else {
            core_gang_timer(core, workload);
        }
    }
}

void core_gang_scaled(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    if (w->phase == CORE_CLAIMING) {
        core_claim_lost(core, workload);
    } else if (w->phase == CORE_ACTIVE) {
        if (w->tasks < w->tasks_min || w->tasks > w->tasks_max + w->spares) {
            core_gang_stop(core, workload, CORE_OUTCOME_REQUEUE, MR_STATE_FAILED, true);
        } else {
            core_gang_timer(core, workload);
        }
    } else if (w->phase == CORE_ENDING && w->outcome == CORE_OUTCOME_CLAIM) {
        core_claim_lost(core, workload);
    }
}
