/* SPDX-License-Identifier: Apache-2.0 */
/* One job against what is free over time: the least share that meets its deadline.
 *
 * Free devices are steps in time. A job with a quota takes, in each step, the largest of its sizes
 * that neither exceeds the quota nor what is free; after each change of size nothing is done for as
 * long as the change costs. The smallest quota that meets the deadline is taken, and then mixed
 * with the next smaller one for as long as the deadline allows.
 *
 * Owns:       the free steps, within one planning.
 * Invariants: (1) steps ascend in time, each differs from the one before;
 *             (2) pieces begin on the grid, none takes more than is free;
 *             (3) a plan that is returned is done by the deadline, costs of changes counted.
 * Never:      I/O, clock, allocation, recursion, floats.
 * Cost:       O(sizes * steps until the deadline), and log of the grid for the mix.
 * Idea:       docs/internals/deadlines.md; Gu et al. (ElasticFlow), ASPLOS 2023, section 4
 * Tests:      tests/unit/core/test_core_deadline.c
 */
#include "core_int.h"

#define MICRO 1000000u

void core_fill_begin(struct mr_core *core, uint32_t devices)
{
    core->tables[CORE_FREE_STEPS].used = 2;
    *core_free_step(core, 1) = (struct core_free_step){.time_us = core->now_us, .free = devices};
}

static uint32_t steps(const struct mr_core *core)
{
    return core->tables[CORE_FREE_STEPS].used - 1;
}

static uint64_t step_end(const struct mr_core *core, uint32_t i)
{
    return i < steps(core) ? core_free_step(core, i + 1)->time_us : UINT64_MAX;
}

/* The step that holds the time; the first one for what is before it. */
static uint32_t step_at(const struct mr_core *core, uint64_t time_us)
{
    uint32_t low = 1, high = steps(core);
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (core_free_step(core, middle)->time_us <= time_us)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Makes a step begin at the time; false when there is no room for one more. */
static bool step_cut(struct mr_core *core, uint64_t time_us, uint32_t *ret_step)
{
    uint32_t at = step_at(core, time_us);
    if (core_free_step(core, at)->time_us >= time_us) {
        *ret_step = at;
        return true;
    }
    struct core_table *table = &core->tables[CORE_FREE_STEPS];
    if (table->used == table->capacity) return false;
    memmove(core_free_step(core, at) + 2, core_free_step(core, at) + 1,
            (size_t)(steps(core) - at) * sizeof(struct core_free_step));
    table->used++;
    *core_free_step(core, at + 1) = *core_free_step(core, at);
    core_free_step(core, at + 1)->time_us = time_us;
    *ret_step = at + 1;
    return true;
}

static bool take(struct mr_core *core, uint64_t from_us, uint64_t to_us, uint32_t devices)
{
    uint32_t first, last;
    if (from_us >= to_us || devices == 0) return true;
    if (!step_cut(core, from_us, &first) || !step_cut(core, to_us, &last)) return false;
    for (uint32_t i = first; i < last; i++) {
        if (core_free_step(core, i)->free < devices) return false;
    }
    for (uint32_t i = first; i < last; i++) {
        core_free_step(core, i)->free -= devices;
    }
    return true;
}

void core_fill_block(struct mr_core *core, uint64_t from_us, uint64_t to_us, uint32_t devices)
{
    uint32_t first, last;
    from_us = MR_MAX(from_us, core->now_us);
    if (from_us >= to_us || !step_cut(core, from_us, &first) || !step_cut(core, to_us, &last))
        return;
    for (uint32_t i = first; i < last; i++) {
        core_free_step(core, i)->free -= MR_MIN(core_free_step(core, i)->free, devices);
    }
}

static uint64_t grid_up(uint64_t time_us)
{
    return (time_us + CORE_GRID_US - 1) / CORE_GRID_US * CORE_GRID_US;
}

bool core_fill_take(struct mr_core *core, const struct core_planned *p,
                    const struct core_pieces *pieces)
{
    uint32_t each = core_planned_devices(core, p);
    for (uint32_t i = 0; i < pieces->count; i++) {
        if (pieces->size[i] == CORE_SIZE_NONE) continue;
        uint64_t end_us =
            i + 1 < pieces->count ? pieces->start_us[i + 1] : grid_up(pieces->finish_us);
        uint64_t from_us = MR_MAX(pieces->start_us[i], core->now_us);
        if (!take(core, from_us, end_us, each * p->tasks[pieces->size[i]])) return false;
    }
    return true;
}

uint64_t core_fill_free(const struct mr_core *core, uint64_t until_us)
{
    uint64_t sum = 0;
    for (uint32_t i = 1; i <= steps(core); i++) {
        uint64_t from_us = core_free_step(core, i)->time_us, part;
        if (from_us >= until_us) break;
        uint64_t length_us = MR_MIN(step_end(core, i), until_us) - from_us;
        if (!mr_mul_u64(length_us, core_free_step(core, i)->free, &part)) part = UINT64_MAX;
        if (!mr_add_u64(sum, part, &sum)) return UINT64_MAX;
    }
    return sum;
}

/* --- one job --------------------------------------------------------------------------------- */

struct run { /* a job going through the steps */
    uint64_t left_micro, dead_us;
    uint8_t size;
};

static bool piece_add(struct core_pieces *pieces, uint64_t start_us, uint8_t size)
{
    if (pieces->count == CORE_PIECES) return false;
    pieces->start_us[pieces->count] = start_us;
    pieces->size[pieces->count++] = size;
    return true;
}

/* The largest size of at most `quota` sizes for which so much is free. */
static uint8_t size_for(const struct core_planned *p, uint32_t each, uint32_t quota, uint32_t free)
{
    while (quota > 0 && (uint64_t)p->tasks[quota - 1] * each > free) {
        quota--;
    }
    return quota == 0 ? CORE_SIZE_NONE : (uint8_t)(quota - 1);
}

/* Runs from `from_us` to `to_us` with the size. True when it is done then, at *ret_finish_us. */
static bool run_on(const struct core_planned *p, struct run *run, uint64_t from_us, uint64_t to_us,
                   uint64_t *ret_finish_us)
{
    uint64_t length_us = to_us - from_us, dead_us = MR_MIN(run->dead_us, length_us);
    run->dead_us -= dead_us;
    if (run->size == CORE_SIZE_NONE || dead_us == length_us) return false;
    uint64_t rate = p->rate_micro[run->size];
    uint64_t needs_us = mr_mul_div_u64(run->left_micro, MICRO, rate) + 1;
    if (needs_us <= length_us - dead_us) {
        *ret_finish_us = from_us + dead_us + needs_us;
        return true;
    }
    run->left_micro -= mr_mul_div_u64(rate, length_us - dead_us, MICRO);
    return false;
}

/* The first `quota[0]` sizes until the split, `quota[1]` from it on. True when it is done by the
 * deadline; p->next is how. */
static bool try_quota(const struct mr_core *core, struct core_planned *p, const uint32_t quota[2],
                      uint64_t split_us, uint64_t deadline_us)
{
    uint32_t each = core_planned_devices(core, p);
    struct run run = {.left_micro = p->left_micro, .size = p->size};
    if (p->size != CORE_SIZE_NONE && p->warm_us > core->now_us)
        run.dead_us = p->warm_us - core->now_us;
    struct core_pieces *next = &p->next;
    next->count = 0;
    next->finish_us = 0;
    uint64_t at_us = core->now_us;
    for (uint32_t i = 1; at_us < deadline_us;) {
        bool early = at_us < split_us;
        uint64_t end_us = MR_MIN(step_end(core, i), deadline_us);
        if (early) end_us = MR_MIN(end_us, split_us);
        uint8_t size = size_for(p, each, quota[!early], core_free_step(core, i)->free);
        if (size != run.size) {
            run.size = size;
            run.dead_us = size == CORE_SIZE_NONE ? 0 : p->resize_us[size];
        }
        bool same = next->count > 0 && next->size[next->count - 1] == size;
        if (!same && !piece_add(next, at_us, size)) return false;
        if (run_on(p, &run, at_us, end_us, &next->finish_us)) return true;
        at_us = end_us;
        if (at_us >= step_end(core, i)) i++;
    }
    return false;
}

/* The latest split on the grid that still works; found by halving, as later is harder. */
static bool mix(const struct mr_core *core, struct core_planned *p, uint32_t quota,
                uint64_t deadline_us)
{
    const uint32_t quotas[2] = {quota - 1, quota};
    uint64_t low = 0, high = (deadline_us - core->now_us) / CORE_GRID_US;
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;
        if (try_quota(core, p, quotas, core->now_us + middle * CORE_GRID_US, deadline_us))
            low = middle;
        else
            high = middle - 1;
    }
    /* Where speeds are not sure, some time is kept in hand. */
    if (p->cautious) low = low > 4 ? low - 4 : 0;
    return try_quota(core, p, quotas, core->now_us + low * CORE_GRID_US, deadline_us);
}

bool core_fill(struct mr_core *core, struct core_planned *p, uint64_t deadline_us)
{
    if (deadline_us <= core->now_us) return false;
    for (uint32_t quota = 1; quota <= p->sizes; quota++) {
        const uint32_t quotas[2] = {quota, quota};
        if (!try_quota(core, p, quotas, 0, deadline_us)) continue;
        if (quota > 1 && mix(core, p, quota, deadline_us)) return true;
        return try_quota(core, p, quotas, 0, deadline_us);
    }
    p->next.count = 0;
    p->next.finish_us = 0;
    return false;
}
