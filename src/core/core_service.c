/* SPDX-License-Identifier: Apache-2.0 */
/* Services and pools: replicas between min and max, each a lease of its own.
 *
 * The target follows the load: up at once, down to the highest need of the last
 * CORE_SCALE_DOWN_US. A replica that ends unasked is replaced, later and later while none becomes
 * ready. The service stands in its class's queue as long as replicas are missing.
 *
 * Owns:       target, ready, failures and backoff of services.
 * Invariants: (1) tasks counts the leases that start or run;
 *             (2) a service that waits in a queue is short of replicas;
 *             (3) min <= target <= max while it lives.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(replicas) to scale down, O(log) else.
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_service.c
 */
#include "core_quota.h"

static uint32_t missing(const struct core_workload *w)
{
    uint32_t have = w->tasks + w->claimed;
    return have < w->target ? w->target - have : 0;
}

static void service_timer(struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    uint64_t at_us = UINT64_MAX;
    if (w->backoff_us > core->now_us) at_us = w->backoff_us;
    if (w->low_since_us != 0) at_us = MR_MIN(at_us, w->low_since_us + CORE_SCALE_DOWN_US);
    if (w->claimed > 0 && w->claim_wait == 0) at_us = core->now_us;
    core_timer_set(core, workload, at_us);
}

void core_service_join(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(core_is_service(w) && w->phase == CORE_ACTIVE);
    bool wants = missing(w) > 0 && w->claimed == 0 && w->backoff_us <= core->now_us;
    if (wants && w->class_of == 0) {
        if (!core_class_join(core, workload)) w->backoff_us = core->now_us + CORE_RETRY_US;
    } else if (!wants && w->class_of != 0) {
        core_class_leave(core, workload);
    }
    service_timer(core, workload);
}

static void surplus_stop(struct mr_core *core, uint32_t workload, uint32_t surplus)
{
    struct core_workload *w = core_workload(core, workload);
    /* The newest go first, those that do not answer yet before those that do. */
    for (uint32_t pass = 0; pass < 2 && surplus > 0; pass++) {
        uint32_t lease = w->lease_last;
        while (lease != 0 && surplus > 0) {
            struct core_lease *l = core_lease(core, lease);
            uint32_t prev = l->of_prev;
            bool lives = l->state == MR_LEASE_STARTING || l->state == MR_LEASE_RUNNING;
            if (lives && (pass == 1 || !l->ready)) {
                core_service_replica_stop(core, lease, false);
                surplus--;
            }
            lease = prev;
        }
    }
    MR_ASSERT(surplus == 0);
}

void core_service_replica_stop(struct mr_core *core, uint32_t lease, bool checkpoint)
{
    struct core_lease *l = core_lease(core, lease);
    struct core_workload *w = core_workload(core, l->workload);
    MR_INVARIANT(1, w->tasks > 0);
    w->tasks--;
    if (l->ready) w->ready--;
    l->ready = 0;
    core_lease_stop(core, lease, false, checkpoint);
}

void core_service_update(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(w->phase == CORE_ACTIVE);
    MR_INVARIANT(3, w->target >= w->tasks_min && w->target <= w->tasks_max);
    uint32_t have = w->tasks + w->claimed;
    if (have > w->target && w->claimed > 0) {
        core_claims_drop(core, workload);
        have = w->tasks;
    }
    if (have > w->target) surplus_stop(core, workload, have - w->target);
    core_service_join(core, workload);
    enum mr_state state = MR_STATE_RUNNING;
    if (w->tasks == 0) state = w->target == 0 ? MR_STATE_SUSPENDED : MR_STATE_PENDING;
    if (w->tasks > 0)
        core_victim_join(core, workload);
    else
        core_victim_leave(core, workload);
    if (state != w->state || w->tasks != w->told) {
        w->told = w->tasks;
        core_state_set(core, workload, state);
    }
}

bool core_service_try(struct mr_core *core, uint32_t workload, struct mr_reason *ret_reason,
                      uint32_t *ret_tenant)
{
    struct core_workload *w = core_workload(core, workload);
    MR_INVARIANT(2, missing(w) > 0);
    MR_ASSERT(w->phase == CORE_ACTIVE && w->claimed == 0);
    const struct core_request request = core_request_make(core, workload, 1, 1);
    struct core_bound bound;
    uint8_t type = 0;
    uint32_t tasks = core_plan_allowed(core, workload, &request, &type, &bound);
    if (tasks == 0 && bound.tenant == 0)
        tasks = core_hold_plan(core, workload, &request, &type, &bound);
    if (tasks == 0) {
        if (core_room_make(core, workload, &request, &bound)) return true;
        *ret_tenant = bound.tenant != 0 ? bound.highest : 0;
        core->plan_also = bound.highest;
        *ret_reason = bound.reason;
        if (bound.tenant == 0 && core->trace != NULL)
            (void)mr_core_why(core, (struct mr_workload_id){w->id}, ret_reason);
        return false;
    }
    if (w->started_us == 0) w->started_us = core->now_us;
    w->accel_type = type;
    w->tasks += tasks;
    core_leases_from_plan(core, workload, tasks, type, false);
    core_service_update(core, workload);
    return true;
}

static void claims_start(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(w->claimed > 0 && w->claim_wait == 0);
    if (w->started_us == 0) w->started_us = core->now_us;
    for (uint32_t i = w->lease_first; i != 0; i = core_lease(core, i)->of_next) {
        if (core_lease(core, i)->state != CORE_LEASE_CLAIM) continue;
        w->tasks++;
        core_lease_start(core, i);
    }
    MR_ASSERT(w->claimed == 0);
    core_service_update(core, workload);
}

void core_service_lease_ended(struct mr_core *core, uint32_t workload, bool was_ready, bool wanted,
                              enum mr_exit_kind exit, int32_t code)
{
    struct core_workload *w = core_workload(core, workload);
    if (w->phase == CORE_ENDING) {
        core_gang_lease_ended(core, workload, 0, exit, code); /* a service is not repaired */
        return;
    }
    MR_ASSERT(w->phase == CORE_ACTIVE);
    if (!wanted) {
        MR_INVARIANT(1, w->tasks > 0);
        w->tasks--;
        w->exit = (uint8_t)exit;
        w->exit_code = code;
    }
    if (!wanted && exit != MR_EXIT_LOST) {
        w->restarts++;
        w->failures = was_ready ? 1 : w->failures + 1;
        if (w->restarts_max > 0 && w->failures > w->restarts_max) {
            enum mr_state end =
                exit == MR_EXIT_OUT_OF_MEMORY ? MR_STATE_OUT_OF_MEMORY : MR_STATE_FAILED;
            core_trace(core, "workload %llu failed %u times in a row", (unsigned long long)w->id,
                       w->failures);
            core_gang_stop(core, workload, CORE_OUTCOME_END, end, false);
            return;
        }
        uint32_t doublings = MR_MIN(w->failures - 1, 6u);
        uint64_t wait_us = MR_MIN(CORE_BACKOFF_FIRST_US << doublings, CORE_BACKOFF_LAST_US);
        w->backoff_us = core->now_us + wait_us;
    }
    core_service_update(core, workload);
}

/* --- load ---------------------------------------------------------------------------------- */

static void target_set(struct mr_core *core, uint32_t workload, uint32_t target)
{
    struct core_workload *w = core_workload(core, workload);
    w->low_since_us = 0;
    if (w->target == target) return;
    core_trace(core, "workload %llu wants %u replicas, had %u", (unsigned long long)w->id, target,
               w->target);
    w->target = target;
}

void core_load(struct mr_core *core, const struct mr_event_load *event)
{
    uint32_t workload = core_workload_find(core, event->workload.v);
    if (workload == 0) return;
    struct core_workload *w = core_workload(core, workload);
    if (!core_is_service(w) || w->phase != CORE_ACTIVE || w->load_per_replica == 0) return;
    uint64_t load = (uint64_t)event->running + event->waiting;
    uint64_t need = (load + w->load_per_replica - 1) / w->load_per_replica;
    uint32_t wanted =
        (uint32_t)MR_MIN(MR_MAX(need, (uint64_t)w->tasks_min), (uint64_t)w->tasks_max);
    if (wanted >= w->target) {
        bool changed = wanted != w->target;
        target_set(core, workload, wanted);
        if (changed)
            core_service_update(core, workload);
        else
            service_timer(core, workload);
        return;
    }
    if (w->low_since_us == 0) {
        w->low_since_us = core->now_us;
        w->low_peak = wanted;
    } else {
        w->low_peak = MR_MAX(w->low_peak, wanted);
    }
    service_timer(core, workload);
}

void core_service_due(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    if (w->phase != CORE_ACTIVE) return;
    if (w->claimed > 0 && w->claim_wait == 0) claims_start(core, workload);
    if (w->low_since_us != 0 && core->now_us >= w->low_since_us + CORE_SCALE_DOWN_US) {
        uint32_t peak = MR_MAX(w->low_peak, w->tasks_min);
        target_set(core, workload, MR_MIN(peak, w->target));
    }
    core_service_update(core, workload);
}
