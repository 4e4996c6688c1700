/* SPDX-License-Identifier: Apache-2.0 */
/* Finds nodes that a reservation may have at a time to come.
 *
 * For a moment the fleet is put as it will be then: windows that are over are forgotten, and what
 * surely has ended or will have been asked to go is given back, the earliest end first, until a
 * plan of the production kind comes off: so placement by value, topologies and whole domains count
 * for reservations as for anything. Nobody who must not be stopped is in the way of what is
 * promised, and nobody new will be: from then on the nodes are open only for who is gone by then.
 *
 * Owns:       nothing: the fleet is as before.
 * Invariants: (1) what was lent is taken again; (2) the calendars show the present again.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(windows + log jobs plans over at most CORE_RESERVE_JOBS jobs and CORE_HOLD_LEASES
 *             leases). An answer to a rare question, no part of a hot path.
 * Idea:       docs/internals/reservations.md   Tests: tests/unit/core/test_core_reserve.c
 */
#include "core_quota.h"
#include "core_reserve.h"

#define EARLIEST_TRIES 32u
#define HOUR_US        3600000000ull

/* --- the fleet as it will be -------------------------------------------------------------------
 */

/* at_us 0: as it is. */
static void calendars_show(struct mr_core *core, uint64_t at_us)
{
    const struct core_table *table = &core->tables[CORE_WINDOWS];
    core_delivery_foresee(core, at_us);
    for (uint32_t i = 1; i < table->used; i++) {
        const struct core_window *w = core_window(core, i);
        if (w->reserved == 0 || core_node(core, w->node)->window_first != i) continue;
        if (at_us == 0)
            core_window_show(core, w->node);
        else
            core_window_foresee(core, w->node, at_us);
    }
}

/* It will not be there any more: it ends, or goes when it is asked to, or its own reservation ends.
 */
static bool leaves(const struct mr_core *core, uint32_t workload, uint64_t before_us)
{
    const struct core_workload *w = core_workload(core, workload);
    uint64_t grace_us = MR_MIN(w->grace_us, CORE_RESERVE_LEAD_US), end_us;
    if (w->reserved != 0) return core_reserved(core, w->reserved)->end_us <= before_us;
    bool goes = w->preemptible || w->planned != 0;
    if (goes && before_us == core->now_us) return true; /* as soon as can be */
    if (before_us <= core->now_us + grace_us) return false;
    if (goes) return true;
    if (core_is_service(w)) return false;
    end_us = core_end_us(core, workload);
    return end_us != 0 && end_us <= before_us - grace_us;
}

/* Of the running jobs that leave, those from `from` up to before `to`, in the order of their ends,
 * are given back or taken again. Returns how many of the first `to` there are. */
static uint32_t jobs_lend(struct mr_core *core, uint64_t before_us, uint32_t from, uint32_t to,
                          bool take)
{
    struct core_ends_walk walk;
    uint32_t count = 0, leases = 0, at;
    uint64_t end_us;
    core_ends_start(core, &walk);
    for (uint32_t looked = 0; looked < 4 * CORE_RESERVE_JOBS && count < to; looked++) {
        at = core_ends_next(core, &walk, &end_us);
        if (at == 0 || leases >= CORE_HOLD_LEASES) break;
        if (!leaves(core, at, before_us)) continue;
        leases += core_workload(core, at)->lease_count;
        if (count++ >= from) (void)core_leases_lend(core, at, take, false);
    }
    return count;
}

/* Services and pools that may be asked to go. */
static void services_lend(struct mr_core *core, uint64_t before_us, bool take)
{
    for (uint32_t list = 0; list < MR_PRIORITY_COUNT * MR_ACCEL_TYPES_MAX; list++) {
        uint32_t at = core->victim_first[list];
        for (uint32_t i = 0; at != 0 && i < CORE_VICTIMS; i++) {
            bool service = core_is_service(core_workload(core, at));
            if (service && leaves(core, at, before_us))
                (void)core_leases_lend(core, at, take, false);
            at = core_workload(core, at)->victim_next;
        }
    }
}

/* --- plans -------------------------------------------------------------------------------------
 */

static uint32_t plan_once(struct mr_core *core, const struct core_booking *booking,
                          uint8_t *ret_type)
{
    const struct core_request request = {.shape = booking->shape,
                                         .topology = booking->topology,
                                         .tasks_min = booking->tasks,
                                         .tasks_max = booking->tasks};
    core_view_set(core, 0, booking->end_us);
    if (booking->place == 0) {
        if (core_plan_make(core, &request, ret_type) == 0) return 0;
    } else if (!core_plan_within(core, booking->place, *ret_type, booking->shape, booking->tasks)) {
        return 0;
    }
    uint32_t entries = core->plan_count;
    core_plan_drop(core, booking->shape); /* the entries stay readable until the next plan */
    return entries;
}

uint32_t core_book_plan(struct mr_core *core, const struct core_booking *booking, uint8_t *ret_type)
{
    struct core_released_kept kept;
    uint32_t entries, lent = 0, next = 16;
    MR_ASSERT(core->plan_count == 0 && booking->begin_us >= core->now_us);
    core_hold_yield(core, 0); /* holds are found other room within the step */
    core_released_keep(core, &kept);
    calendars_show(core, booking->begin_us);
    entries = plan_once(core, booking, ret_type);
    while (entries == 0) {
        uint32_t known = jobs_lend(core, booking->begin_us, lent, next, false);
        if (known == lent) break;
        lent = known;
        next *= 4;
        entries = plan_once(core, booking, ret_type);
    }
    if (entries == 0) {
        services_lend(core, booking->begin_us, false);
        entries = plan_once(core, booking, ret_type);
        services_lend(core, booking->begin_us, true);
    }
    (void)jobs_lend(core, booking->begin_us, 0, lent, true);
    calendars_show(core, 0);
    core_released_back(core, &kept);
    core_view_reset(core);
    return entries;
}

/* Whether it fits when it begins then; the best becomes that time when it does. */
static bool begins_at(struct mr_core *core, const struct core_booking *booking, uint64_t begin_us,
                      uint64_t *best_us)
{
    struct core_booking other = *booking;
    uint8_t type = 0;
    other.begin_us = begin_us;
    other.end_us = begin_us + (booking->end_us - booking->begin_us);
    if (core_book_plan(core, &other, &type) == 0) return false;
    *best_us = begin_us;
    return true;
}

/* When a reservation ends. */
static void ends_try(struct mr_core *core, const struct core_booking *booking, uint64_t latest_us,
                     uint64_t *best_us)
{
    const struct core_table *table = &core->tables[CORE_RESERVED];
    for (uint32_t i = 1, tries = 0; i < table->used && tries < EARLIEST_TRIES; i++) {
        const struct core_reserved *r = core_reserved(core, i);
        if (r->workload == 0 || r->end_us <= booking->begin_us || r->end_us > latest_us) continue;
        if (r->end_us >= *best_us) continue;
        tries++;
        (void)begins_at(core, booking, r->end_us, best_us);
    }
}

/* When something is delivered. */
static void deliveries_try(struct mr_core *core, const struct core_booking *booking,
                           uint64_t *best_us)
{
    uint32_t next;
    for (uint32_t i = core->delivery_first, tries = 0; i != 0 && tries < EARLIEST_TRIES; i = next) {
        uint64_t comes_us = core_delivery(core, i)->comes_us;
        next = core_delivery(core, i)->next;
        if (comes_us <= booking->begin_us) continue;
        if (comes_us >= *best_us) return;
        tries++;
        if (begins_at(core, booking, comes_us, best_us)) return;
    }
}

uint64_t core_book_earliest(struct mr_core *core, const struct core_booking *booking)
{
    uint64_t latest_us = core->now_us + CORE_RESERVE_AHEAD_US, best_us = UINT64_MAX;
    ends_try(core, booking, latest_us, &best_us);
    deliveries_try(core, booking, &best_us);
    /* Or running work ends, some time on. */
    for (uint64_t later_us = HOUR_US / 4; booking->begin_us + later_us < latest_us; later_us *= 2) {
        uint64_t begin_us = booking->begin_us + later_us;
        if (begin_us >= best_us || begins_at(core, booking, begin_us, &best_us)) break;
    }
    return best_us != UINT64_MAX ? best_us : 0;
}
