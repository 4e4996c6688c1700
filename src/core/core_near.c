/* SPDX-License-Identifier: Apache-2.0 */
/* What was placed together stays together: the tasks of a segment in their NVLink domain, those of
 * a gang with a narrow topology in their place, also when nodes are described as lying elsewhere;
 * and what is kept apart stays apart.
 *
 * A description that moves a node, or a place with the nodes in it, is taken as it is: a machine
 * lies where it lies. A claim that it tears apart is made anew. A gang that runs and is torn apart
 * is asked to stop with a checkpoint and goes on where its segments are whole; no other work on
 * these nodes is touched.
 *
 * Owns:       nothing: leases are core_lease.c's, phases core_gang.c's.
 * Invariants: (1) what the event tore apart holds no claim and runs no longer;
 *             (2) what still lies together is left alone.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(leases on the nodes moved, each but for neighbours times the leases of its gang).
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_near.c
 */
#include "core_int.h"

#define LEVEL_NODE CORE_LEVEL_COUNT /* below every place */

static uint32_t place_at(const struct mr_core *core, uint32_t node, enum core_level level)
{
    if (level == LEVEL_NODE) return node;
    return core_place_above(core, core_node(core, node)->place, level);
}

/* What is looked at: the leases that the gang runs on, its claims, or the plan for it. */
enum what { RUN, CLAIM, PLAN };

static bool is_of(const struct core_lease *l, enum what what)
{
    return (l->state == CORE_LEASE_CLAIM) == (what == CLAIM);
}

/* The node of the one after *at, from 0 on; 0: no more. */
static uint32_t node_next(const struct mr_core *core, const struct core_workload *w, enum what what,
                          uint32_t *at)
{
    if (what == PLAN) return ++*at <= core->plan_count ? core_plan(core, *at)->node : 0;
    uint32_t i = *at == 0 ? w->lease_first : core_lease(core, *at)->of_next;
    while (i != 0 && !is_of(core_lease(core, i), what)) {
        i = core_lease(core, i)->of_next;
    }
    *at = i;
    return i != 0 ? core_lease(core, i)->node : 0;
}

static bool all_in_one(const struct mr_core *core, const struct core_workload *w, enum what what,
                       enum core_level level)
{
    uint32_t first = 0, at = 0, node;
    while ((node = node_next(core, w, what, &at)) != 0) {
        uint32_t where = place_at(core, node, level);
        if (where == 0 || (first != 0 && where != first)) return false;
        first = where;
    }
    return true;
}

static bool topology_holds(const struct mr_core *core, const struct core_workload *w,
                           enum what what)
{
    enum mr_topology topology = (enum mr_topology)w->topology;
    uint32_t levels = core_topology_levels(topology);
    if (core_topology_unbounded(topology) || all_in_one(core, w, what, LEVEL_NODE)) return true;
    for (uint32_t i = 0; i < levels; i++) {
        if (all_in_one(core, w, what, core_topology_widen[i])) return true;
    }
    return false;
}

/* Leases lie in the order of ranks; those that have ended leave gaps. */
static bool segments_hold(const struct mr_core *core, const struct core_workload *w, enum what what)
{
    uint32_t segment = UINT32_MAX, domain = 0;
    for (uint32_t i = w->lease_first; i != 0; i = core_lease(core, i)->of_next) {
        const struct core_lease *l = core_lease(core, i);
        if (!is_of(l, what) || l->rank_first >= l->world_size) continue;
        uint32_t here = core_domain_of(core, l->node);
        uint32_t end = MR_MIN(l->rank_first + l->tasks, l->world_size);
        if (l->rank_first / w->segment == segment && here != domain) return false;
        segment = (end - 1) / w->segment;
        domain = here;
    }
    return true;
}

bool core_near_holds(const struct mr_core *core, uint32_t workload, bool claims)
{
    const struct core_workload *w = core_workload(core, workload);
    enum what what = claims ? CLAIM : RUN;
    if (w->kind != MR_KIND_JOB) return true;
    return topology_holds(core, w, what) && (w->segment == 0 || segments_hold(core, w, what));
}

bool core_near_plan_holds(const struct mr_core *core, uint32_t workload, uint32_t tasks)
{
    const struct core_workload *w = core_workload(core, workload);
    uint32_t world = core_spare_world(w, tasks);
    if (!topology_holds(core, w, PLAN)) return false;
    if (w->segment == 0) return true;
    return world % w->segment == 0 && core_segments_sound(core, w->segment, world);
}

/* --- when nodes move --------------------------------------------------------------------------
 */

/* What of it lies where others of its group are goes: a gang, or single replicas. */
static bool apart_keep(struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    uint32_t lease = core_apart_torn(core, workload);
    if (lease == 0) return false;
    core_trace(core, "workload %llu lies too near to others", (unsigned long long)w->id);
    for (; lease != 0; lease = core_apart_torn(core, workload)) {
        if (core_lease(core, lease)->state == CORE_LEASE_CLAIM)
            core_claim_lost(core, workload);
        else if (core_is_service(w))
            core_service_replica_stop(core, lease, true);
        else
            core_gang_stop(core, workload, CORE_OUTCOME_REQUEUE, MR_STATE_PREEMPTED, true);
    }
    if (core_is_service(w) && w->phase == CORE_ACTIVE) core_service_update(core, workload);
    return true;
}

/* True when it was torn apart: then some of its leases may be gone. */
static bool torn(struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    bool claim = w->claimed > 0 && !core_near_holds(core, workload, true);
    bool run = w->phase == CORE_ACTIVE && !core_near_holds(core, workload, false);
    if (claim) core_claim_lost(core, workload);
    if (run) {
        core_trace(core, "workload %llu does not lie together any more", (unsigned long long)w->id);
        core_gang_stop(core, workload, CORE_OUTCOME_REQUEUE, MR_STATE_PREEMPTED, true);
        MR_INVARIANT(1, w->phase != CORE_ACTIVE && w->claimed == 0);
    }
    return apart_keep(core, workload) || claim || run;
}

void core_near_node_moved(struct mr_core *core, uint32_t node)
{
    uint32_t lease = core_node(core, node)->lease_first, seen = 0;
    while (lease != 0) {
        const struct core_lease *l = core_lease(core, lease);
        bool again = l->workload != seen && torn(core, l->workload);
        seen = l->workload;
        /* Who was torn apart is not a second time: this ends. */
        lease = again ? core_node(core, node)->lease_first : l->node_next;
    }
}

void core_near_place_moved(struct mr_core *core, uint32_t place)
{
    for (uint32_t at = place; at != 0; at = core_place_next(core, place, at, true)) {
        uint32_t node = core_place(core, at)->node_first;
        for (; node != 0; node = core_node(core, node)->place_next) {
            core_near_node_moved(core, node);
        }
    }
}
