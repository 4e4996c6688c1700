/* SPDX-License-Identifier: Apache-2.0 */
/* One timer for each workload, in a binary heap by time, then slot.
 *
 * Owns:       the timer table, and timer_us and timer_at of workloads.
 * Invariants: (1) a workload stands in the heap at timer_at, or timer_at is 0;
 *             (2) no entry is due before the one above it.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(log timers) to set, O(1) to look at the first.
 * Tests:      tests/unit/core/test_core_block.c
 */
#include "core_reserve.h"

static bool before(const struct mr_core *core, uint32_t a, uint32_t b)
{
    const struct core_workload *x = core_workload(core, a), *y = core_workload(core, b);
    return x->timer_us != y->timer_us ? x->timer_us < y->timer_us : a < b;
}

static void put(struct mr_core *core, uint32_t at, uint32_t workload)
{
    MR_ASSERT(at > 0 && at <= core->timers);
    *core_timer(core, at) = workload;
    core_workload(core, workload)->timer_at = at;
}

static void up(struct mr_core *core, uint32_t at, uint32_t workload)
{
    while (at > 1 && before(core, workload, *core_timer(core, at / 2))) {
        put(core, at, *core_timer(core, at / 2));
        at /= 2;
    }
    put(core, at, workload);
}

static void down(struct mr_core *core, uint32_t at, uint32_t workload)
{
    while (2 * at <= core->timers) {
        uint32_t child = 2 * at;
        if (child < core->timers &&
            before(core, *core_timer(core, child + 1), *core_timer(core, child))) {
            child++;
        }
        if (!before(core, *core_timer(core, child), workload)) break;
        put(core, at, *core_timer(core, child));
        at = child;
    }
    put(core, at, workload);
}

static void drop(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    uint32_t at = w->timer_at;
    MR_INVARIANT(1, *core_timer(core, at) == workload);
    w->timer_at = 0;
    uint32_t last = *core_timer(core, core->timers);
    *core_timer(core, core->timers) = 0;
    core->timers--;
    core->tables[CORE_TIMERS].used = core->timers + 1;
    if (last == workload) return;
    if (at > 1 && before(core, last, *core_timer(core, at / 2)))
        up(core, at, last);
    else
        down(core, at, last);
}

void core_timer_set(struct mr_core *core, uint32_t workload, uint64_t time_us)
{
    struct core_workload *w = core_workload(core, workload);
    if (w->timer_at != 0) {
        if (w->timer_us == time_us) return;
        drop(core, workload);
    }
    w->timer_us = time_us;
    if (time_us == UINT64_MAX) return;
    core->timers++;
    MR_ASSERT(core->timers < core->tables[CORE_TIMERS].capacity);
    core->tables[CORE_TIMERS].used = core->timers + 1;
    up(core, core->timers, workload);
}

uint64_t core_timer_first_us(const struct mr_core *core)
{
    if (core->timers == 0) return UINT64_MAX;
    return core_workload(core, *core_timer(core, 1))->timer_us;
}

void core_timers_due(struct mr_core *core)
{
    for (uint32_t i = 0; i < CORE_DUE_PER_STEP; i++) {
        if (core_timer_first_us(core) > core->now_us) return;
        uint32_t workload = *core_timer(core, 1);
        core_timer_set(core, workload, UINT64_MAX);
        if (core_workload(core, workload)->kind == MR_KIND_RESERVATION)
            core_reserve_due(core, workload);
        else if (core_is_service(core_workload(core, workload)))
            core_service_due(core, workload);
        else
            core_gang_due(core, workload);
    }
}
