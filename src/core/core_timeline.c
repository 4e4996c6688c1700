/* SPDX-License-Identifier: Apache-2.0 */
/* What there is over time, in sums: installed, maintained, reserved, in use, free.
 *
 * The future lies in the calendars of nodes, in deliveries, in expected ends and in the plans of
 * jobs with deadlines; this adds it up for those who look. Placement does not use it: sums say
 * nothing of fragmented nodes.
 *
 * Owns:       nothing.
 * Invariants: (1) a device counts for one thing at a time: what is in a window is no more in use by
 *                 others.
 * Never:      I/O, clock, allocation, recursion, floats.
 * Cost:       O(live leases + windows + deliveries + planned jobs + steps).
 * Idea:       docs/internals/reservations.md   Tests: tests/unit/core/test_core_timeline.c
 */
#include "core_reserve.h"

struct sums { /* while it is made, each step has what changes at it */
    struct mr_timeline_step *steps;
    uint64_t from_us, step_us;
    uint32_t count;
    uint8_t type;
};

/* The first step that is not before the time; count: behind the last. */
static uint32_t step_of(const struct sums *s, uint64_t time_us)
{
    if (time_us <= s->from_us) return 0;
    uint64_t at = (time_us - s->from_us - 1) / s->step_us + 1;
    return (uint32_t)MR_MIN(at, (uint64_t)s->count);
}

static void add(const struct sums *s, size_t field, uint64_t begin_us, uint64_t end_us,
                uint64_t amount)
{
    uint32_t first = step_of(s, begin_us), last = step_of(s, end_us);
    if (first >= last) return;
    *(uint64_t *)(void *)((uint8_t *)&s->steps[first] + field) += amount;
    if (last < s->count) *(uint64_t *)(void *)((uint8_t *)&s->steps[last] + field) -= amount;
}
#define ADD(s, name, begin_us, end_us, amount)                                                     \
    add(s, offsetof(struct mr_timeline_step, name), begin_us, end_us, amount)

static uint64_t node_amount(const struct sums *s, const struct core_node *n)
{
    if (s->type == 0) return n->cpu_milli;
    return n->accel_type == s->type ? (uint64_t)n->accel_count * CORE_WHOLE : 0;
}

static uint64_t shape_amount(const struct sums *s, const struct mr_shape *shape)
{
    return s->type == 0 ? shape->cpu_milli : shape->accel_milli;
}

static void installed_add(const struct mr_core *core, const struct sums *s)
{
    ADD(s, installed, 0, UINT64_MAX, s->type == 0 ? core->cpu_milli : core->type_milli[s->type]);
    for (uint32_t i = core->delivery_first; i != 0; i = core_delivery(core, i)->next) {
        const struct core_delivery *d = core_delivery(core, i);
        if (d->comes_us <= core->now_us) continue; /* late: not counted on */
        uint64_t brings = s->type == 0               ? d->cpu_milli
                          : d->accel_type == s->type ? d->accel_milli
                                                     : 0;
        ADD(s, installed, d->comes_us, UINT64_MAX, brings);
    }
}

static void windows_add(const struct mr_core *core, const struct sums *s)
{
    for (uint32_t i = 1; i < core->tables[CORE_WINDOWS].used; i++) {
        const struct core_window *w = core_window(core, i);
        if (w->reserved == 0) continue;
        const struct core_node *n = core_node(core, w->node);
        if (n->state != MR_NODE_UP && n->state != MR_NODE_EXPECTED) continue;
        if (core_reserved(core, w->reserved)->maintenance)
            ADD(s, maintenance, w->begin_us, w->end_us, node_amount(s, n));
        else
            ADD(s, reserved, w->begin_us, w->end_us, node_amount(s, n));
    }
}

/* Pieces of its plan: with which size it runs when. */
static void plan_add(const struct mr_core *core, const struct sums *s, const struct core_planned *p)
{
    const struct core_workload *w = core_workload(core, p->workload);
    if (s->type != 0 && p->type != s->type) return;
    for (uint32_t i = 0; i < p->plan.count; i++) {
        bool last = i + 1 == p->plan.count;
        uint64_t end_us = last ? p->plan.finish_us : p->plan.start_us[i + 1];
        if (p->plan.size[i] == CORE_SIZE_NONE) continue;
        ADD(s, running, p->plan.start_us[i], end_us,
            p->tasks[p->plan.size[i]] * shape_amount(s, &w->shape));
    }
}

static bool has_plan(const struct mr_core *core, const struct core_workload *w)
{
    return w->planned != 0 && core_planned(core, w->planned)->plan.finish_us != 0;
}

/* When it is expected to leave the node, which the next window takes in any case; what has no end
 * that is known stays. */
static uint64_t leaves_us(const struct mr_core *core, const struct core_lease *l)
{
    const struct core_workload *w = core_workload(core, l->workload);
    uint32_t window = core_node(core, l->node)->window_first;
    uint64_t end_us = UINT64_MAX, known_us = core_end_us(core, l->workload);
    if (!core_is_service(w) && known_us > core->now_us) end_us = known_us;
    return window != 0 ? MR_MIN(end_us, core_window(core, window)->begin_us) : end_us;
}

static void leases_add(const struct mr_core *core, const struct sums *s)
{
    for (uint32_t i = 1; i < core->tables[CORE_LEASES].used; i++) {
        const struct core_lease *l = core_lease(core, i);
        if (l->state == MR_LEASE_NONE || l->state == CORE_LEASE_CLAIM) continue;
        const struct core_workload *w = core_workload(core, l->workload);
        const struct core_node *n = core_node(core, l->node);
        if (n->closed != 0 || n->state != MR_NODE_UP || has_plan(core, w)) continue;
        if (s->type != 0 && n->accel_type != s->type) continue;
        bool alone = w->exclusive != MR_EXCLUSIVE_NONE;
        uint64_t amount = alone ? node_amount(s, n) : l->tasks * shape_amount(s, &w->shape);
        ADD(s, running, 0, leaves_us(core, l), amount);
    }
}

static uint64_t less(uint64_t from, uint64_t amount)
{
    return from - MR_MIN(from, amount);
}

void mr_core_timeline(const struct mr_core *core, uint8_t type, uint64_t from_us, uint64_t step_us,
                      struct mr_timeline_step *steps, uint32_t count)
{
    MR_ASSERT(type < MR_ACCEL_TYPES_MAX && step_us > 0);
    const struct sums s = {
        .steps = steps, .from_us = from_us, .step_us = step_us, .count = count, .type = type};
    memset(steps, 0, count * sizeof *steps);
    installed_add(core, &s);
    windows_add(core, &s);
    leases_add(core, &s);
    for (uint32_t i = core->planned_first; i != 0; i = core_planned(core, i)->next_job) {
        if (has_plan(core, core_workload(core, core_planned(core, i)->workload)))
            plan_add(core, &s, core_planned(core, i));
    }
    for (uint32_t i = 0; i < count; i++) {
        struct mr_timeline_step *at = &steps[i];
        const struct mr_timeline_step before = i > 0 ? steps[i - 1] : (struct mr_timeline_step){0};
        at->time_us = from_us + i * step_us;
        at->installed += before.installed;
        at->maintenance += before.maintenance;
        at->reserved += before.reserved;
        at->running += before.running;
        uint64_t left = less(less(at->installed, at->maintenance), at->reserved);
        at->free = less(left, at->running);
    }
}
