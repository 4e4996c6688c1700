/* SPDX-License-Identifier: Apache-2.0 */
/* A gang that lost nodes keeps the others: what is lost is replaced near by, and the whole gang
 * goes on from its checkpoint on mostly the same nodes.
 *
 * A step notes which gangs lost a part; when its event has been dealt with in full, so that the
 * loss of a rack is one loss, each of them claims its next run: the nodes it still has, and room
 * for what is missing in the domain of the loss, else as near as its topology allows. A gang that
 * can be smaller goes on with what it has when there is no room; another one queues again.
 *
 * Owns:       the notes of a step.
 * Invariants: (1) a repaired gang claims at least its tasks_min and at most what it had, or its
 *                 spares anew;
 *             (2) the fleet is as before when it is not repaired.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(leases of the gang * log nodes + nodes of the domain), per gang that lost a node.
 * Idea:       docs/internals/core.md; Jiang et al. (MegaScale), NSDI 2024, section 4; Wan et al.
 *             (ByteRobust), SOSP 2025   Tests: tests/unit/core/test_core_repair.c
 */
#include "core_quota.h"
#include "core_reserve.h"

void core_repair_note(struct mr_core *core, uint32_t workload, uint32_t node)
{
    uint32_t place = node != 0 ? core_node(core, node)->place : 0;
    uint32_t domain = place != 0 ? core_place_above(core, place, CORE_DOMAIN) : 0;
    MR_ASSERT(core_workload(core, workload)->phase == CORE_ENDING);
    for (uint32_t i = 0; i < core->repair_count; i++) {
        struct core_repair *known = &core->repairs[i];
        if (known->workload != workload) continue;
        if (known->domain == 0) known->domain = domain;
        return;
    }
    if (core->repair_count == CORE_REPAIRS) return;
    core->repairs[core->repair_count++] = (struct core_repair){workload, domain};
}

/* Plans the nodes that it still has, where nobody else has a claim; returns their tasks. */
static uint32_t rest_keep(struct mr_core *core, const struct core_workload *w)
{
    uint32_t kept = 0;
    for (uint32_t i = w->lease_first; i != 0; i = core_lease(core, i)->of_next) {
        const struct core_lease *l = core_lease(core, i);
        const struct core_plan entry = {.devices = l->devices, .node = l->node, .tasks = l->tasks};
        if (core_plan_keep(core, &entry, &w->shape)) kept += l->tasks;
    }
    return kept;
}

/* The first place of that level above a node of the plan; 0 when nothing is planned. */
static uint32_t rest_place(const struct mr_core *core, enum core_level level)
{
    if (core->plan_count == 0) return 0;
    uint32_t node = core_plan(core, 1)->node;
    return core_place_above(core, core_node(core, node)->place, level);
}

/* Plans so many more tasks: in the domain of the loss, else as near as the topology allows. */
static bool missing_plan(struct mr_core *core, const struct core_workload *w, uint32_t domain,
                         uint32_t tasks)
{
    enum mr_topology topology = (enum mr_topology)w->topology;
    if (topology == MR_TOPOLOGY_NODE || w->spread != MR_SPREAD_NONE) return false;
    if (domain == 0 || topology == MR_TOPOLOGY_DOMAIN) domain = rest_place(core, CORE_DOMAIN);
    if (domain != 0 && core_plan_within(core, domain, w->accel_type, &w->shape, tasks)) return true;
    if (topology == MR_TOPOLOGY_DOMAIN || w->segment != 0) return false;
    if (core_topology_unbounded(topology))
        return core_plan_anywhere(core, w->accel_type, &w->shape, tasks);
    for (uint32_t i = 0; i < core_topology_levels(topology); i++) {
        uint32_t place = rest_place(core, core_topology_widen[i]);
        if (place == 0 || place == domain) continue;
        if (core_plan_within(core, place, w->accel_type, &w->shape, tasks)) return true;
    }
    return false;
}

/* Plans what is missing beside what is kept: with all spares again, as many as it had, or its world
 * alone, whichever fits first. Returns the tasks in sum; those kept when nothing does. */
static uint32_t missing_fill(struct mr_core *core, const struct core_repair *note, uint32_t kept)
{
    const struct core_workload *w = core_workload(core, note->workload);
    uint32_t most = w->tasks_max + w->spares;
    uint32_t sizes[3] = {MR_MIN(w->tasks, most), MR_MIN(w->tasks, most),
                         MR_MIN(w->tasks, w->tasks_max)};
    struct core_bound bound;
    if (w->tasks >= w->tasks_max && w->tasks < most) {
        const struct core_ask ask = {.shape = &w->shape,
                                     .tenant = w->tenant,
                                     .most = most - w->tasks,
                                     .type = w->accel_type,
                                     .borrow = w->preemptible != 0};
        sizes[0] += core_quota_tasks(core, &ask, &bound);
    }
    for (uint32_t i = 0; i < MR_COUNT_OF(sizes); i++) {
        if (sizes[i] <= kept) return kept;
        if (missing_plan(core, w, note->domain, sizes[i] - kept)) return sizes[i];
    }
    return kept;
}

static void repair(struct mr_core *core, const struct core_repair *note)
{
    struct core_workload *w = core_workload(core, note->workload);
    if (w->phase != CORE_ENDING || w->outcome != CORE_OUTCOME_REQUEUE || !w->repair) return;
    if (w->lease_count == 0 || w->claimed > 0) return;
    uint32_t most = w->tasks_max + w->spares;
    struct core_released_kept released;
    core_released_keep(core, &released);
    (void)core_leases_lend(core, note->workload, false, false);
    MR_ASSERT(core->plan_count == 0);
    core_view_of(core, note->workload, core_view_goes(core, note->workload));
    uint32_t kept = rest_keep(core, w), tasks = missing_fill(core, note, kept);
    bool fits = kept > 0 && tasks >= w->tasks_min && tasks <= most;
    if (fits) core_spare_fill(core, note->workload);
    /* What is kept may lie elsewhere by now, and a segment be mended in part. */
    fits = fits && core_near_plan_holds(core, note->workload, tasks);
    if (fits) {
        MR_INVARIANT(1, tasks <= MR_MAX(w->tasks, most));
        core_leases_from_plan(core, note->workload, tasks, w->accel_type, true);
        w->outcome = CORE_OUTCOME_CLAIM;
        core_trace(core, "workload %llu keeps %u tasks and gets %u elsewhere",
                   (unsigned long long)w->id, kept, tasks - kept);
    } else {
        core_plan_drop(core, &w->shape);
    }
    (void)core_leases_lend(core, note->workload, true, false);
    core_released_back(core, &released);
}

void core_repair_run(struct mr_core *core)
{
    if (core->repair_count > 0) core_hold_yield(core, 0); /* what ran comes before what waits */
    for (uint32_t i = 0; i < core->repair_count; i++) {
        repair(core, &core->repairs[i]);
    }
    core->repair_count = 0;
}
