/* SPDX-License-Identifier: Apache-2.0 */
/* Spares: tasks of a gang beyond its world that stand ready to take the place of what is lost.
 *
 * A spare is placed, started and billed as the others are; its rank is not below world_size, and it
 * waits. When the gang starts they are spread evenly over the nodes in the order of the plan, so
 * each NVLink domain holds some. When nodes are lost, the next run keeps every rank that was kept
 * where it was, and fills the gaps: with a spare of the same domain, else with what was found new
 * in it, else with any spare. With no room for new spares the gang goes on with fewer; what only
 * spares lose does not stop it.
 *
 * Owns:       the order of the plan, which is the order of ranks.
 * Invariants: (1) the plan holds the same entries as before;
 *             (2) a rank that was kept stays where it was while gaps before it could be filled.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(leases of the gang) at its start; O(gaps filled * leases of the gang) at a repair,
 *             and at most CORE_SPARE_GAPS gaps.
 * Idea:       docs/internals/core.md; Wan et al. (ByteRobust), SOSP 2025, section 6
 *             Tests: tests/unit/core/test_core_spare.c
 */
#include "core_int.h"

uint32_t core_spare_world(const struct core_workload *w, uint32_t tasks)
{
    return MR_MIN(tasks, w->tasks_max);
}

/* --- at the start -------------------------------------------------------------------------- */

void core_spare_spread(struct mr_core *core, uint32_t workload, uint32_t tasks)
{
    const struct core_workload *w = core_workload(core, workload);
    uint32_t world = core_spare_world(w, tasks), count = core->plan_count;
    if (tasks == world || count < 2 || w->segment != 0) return; /* segments: they are last */
    uint32_t each = core_plan(core, 1)->tasks, spares = tasks - world;
    for (uint32_t i = 2; i <= count; i++) {
        if (core_plan(core, i)->tasks != each) return; /* then the last ones are the spares */
    }
    uint32_t moved = spares / each;
    if (spares % each != 0 || core->tables[CORE_PLAN].capacity - 1 - count < moved) return;
    uint32_t kept = 0, aside = 0;
    for (uint32_t i = 1; i <= count; i++) {
        const struct core_plan entry = *core_plan(core, i);
        bool spare = (uint64_t)i * moved / count > (uint64_t)(i - 1) * moved / count;
        if (spare)
            *core_plan(core, count + ++aside) = entry;
        else
            *core_plan(core, ++kept) = entry;
    }
    MR_INVARIANT(1, aside == moved && kept + aside == count);
    for (uint32_t i = 1; i <= aside; i++) {
        *core_plan(core, kept + i) = *core_plan(core, count + i);
    }
}

/* --- at a repair --------------------------------------------------------------------------- */

static uint32_t domain_of(const struct mr_core *core, uint32_t entry)
{
    uint32_t node = core_plan(core, entry)->node;
    return core_place_above(core, core_node(core, node)->place, CORE_DOMAIN);
}

/* The best entry from `from` on for a gap of so many tasks beside the entry `near`; 0: none. */
static uint32_t filler_find(const struct mr_core *core, uint32_t from, uint32_t tasks,
                            uint32_t near)
{
    uint32_t domain = domain_of(core, near), any = 0;
    for (uint32_t i = from; i <= core->plan_count; i++) {
        if (core_plan(core, i)->tasks > tasks) continue;
        if (domain != 0 && domain_of(core, i) == domain) return i;
        if (any == 0) any = i;
    }
    return any;
}

static void entry_move(struct mr_core *core, uint32_t from, uint32_t to)
{
    MR_ASSERT(from >= to);
    const struct core_plan entry = *core_plan(core, from);
    for (uint32_t i = from; i > to; i--) {
        *core_plan(core, i) = *core_plan(core, i - 1);
    }
    *core_plan(core, to) = entry;
}

/* Entries of the plan from this one on are spares or new: the first that is no kept rank. */
static uint32_t tail_find(const struct mr_core *core, const struct core_workload *w)
{
    uint32_t at = 1;
    for (uint32_t i = w->lease_first; i != 0 && at <= core->plan_count;
         i = core_lease(core, i)->of_next) {
        const struct core_lease *l = core_lease(core, i);
        if (l->rank_first >= l->world_size) break;
        at += core_plan(core, at)->node == l->node;
    }
    return at;
}

void core_spare_fill(struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    uint32_t at = 1, rank = 0, filled = 0, tail = tail_find(core, w);
    for (uint32_t i = w->lease_first; i != 0 && at < tail; i = core_lease(core, i)->of_next) {
        const struct core_lease *l = core_lease(core, i);
        if (core_plan(core, at)->node != l->node) continue; /* not kept */
        while (rank < l->rank_first && filled < CORE_SPARE_GAPS) {
            uint32_t near = at > 1 ? at - 1 : at;
            uint32_t from = filler_find(core, tail, l->rank_first - rank, near);
            if (from == 0) return; /* what follows moves down */
            entry_move(core, from, at);
            MR_INVARIANT(2, core_plan(core, at)->tasks <= l->rank_first - rank);
            rank += core_plan(core, at)->tasks;
            at++;
            tail++;
            filled++;
        }
        rank += l->tasks;
        at++;
    }
}

/* --- at the end ---------------------------------------------------------------------------- */

bool core_spare_ended(struct mr_core *core, uint32_t workload, uint32_t tasks)
{
    struct core_workload *w = core_workload(core, workload);
    if (w->phase != CORE_ACTIVE || core_is_service(w)) return false;
    MR_ASSERT(w->tasks > tasks && w->gone >= tasks);
    w->tasks -= tasks;
    w->gone -= tasks;
    core_trace(core, "workload %llu has %u spares left", (unsigned long long)w->id,
               w->tasks - core_spare_world(w, w->tasks));
    core_state_set(core, workload, (enum mr_state)w->state);
    return true;
}

bool core_spare_only(const struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    uint32_t left = w->lease_count - w->claimed;
    if (left == 0 || left > w->spares) return false; /* each has a task at least */
    for (uint32_t i = w->lease_first; i != 0; i = core_lease(core, i)->of_next) {
        const struct core_lease *l = core_lease(core, i);
        if (l->state != CORE_LEASE_CLAIM && l->rank_first < l->world_size) return false;
    }
    return true;
}
