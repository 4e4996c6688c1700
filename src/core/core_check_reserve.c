/* SPDX-License-Identifier: Apache-2.0 */
/* The part of mr_core_check about reservations, their windows and their members, and deliveries.
 *
 * Owns:       nothing.
 * Invariants: (25) and (29), each with its text where it is verified.
 * Never:      I/O, clock, allocation, recursion; asserts: a damaged block is an error.
 * Cost:       O(nodes + windows + workloads).
 * Tests:      tests/unit/core/test_core_reserve.c
 */
#include "core_check.h"
#include "core_reserve.h"

void core_check_reserve_range(struct core_check *check)
{
    const struct mr_core *core = check->core;
    for (uint32_t i = 1; i < core->tables[CORE_NODES].used; i++) {
        core_check_index(check, CORE_WINDOWS, core_node(core, i)->window_first);
        core_check_index(check, CORE_RESERVED, core_node(core, i)->closed);
        core_check_index(check, CORE_DELIVERIES, core_node(core, i)->delivery);
        core_check_index(check, CORE_NODES, core_node(core, i)->delivery_prev);
        core_check_index(check, CORE_NODES, core_node(core, i)->delivery_next);
    }
    for (uint32_t i = 1; i < core->tables[CORE_WINDOWS].used; i++) {
        const struct core_window *w = core_window(core, i);
        if (w->reserved == 0) continue;
        core_check_index(check, CORE_RESERVED, w->reserved);
        core_check_index(check, CORE_NODES, w->node);
        core_check_index(check, CORE_WINDOWS, w->node_next);
        core_check_index(check, CORE_WINDOWS, w->of_prev);
        core_check_index(check, CORE_WINDOWS, w->of_next);
    }
    for (uint32_t i = 1; i < core->tables[CORE_RESERVED].used; i++) {
        const struct core_reserved *r = core_reserved(core, i);
        if (r->workload == 0) continue;
        core_check_index(check, CORE_WORKLOADS, r->workload);
        core_check_index(check, CORE_WINDOWS, r->window_first);
        core_check_index(check, CORE_WINDOWS, r->window_last);
        core_check_index(check, CORE_WORKLOADS, r->member_first);
    }
    core_check_index(check, CORE_DELIVERIES, core->delivery_first);
    core_check_index(check, CORE_DELIVERIES, core->delivery_last);
    for (uint32_t i = 1; i < core->tables[CORE_DELIVERIES].used; i++) {
        const struct core_delivery *d = core_delivery(core, i);
        if (d->nodes == 0) continue;
        core_check_index(check, CORE_NODES, d->node_first);
        core_check_index(check, CORE_NODES, d->node_last);
        core_check_index(check, CORE_DELIVERIES, d->prev);
        core_check_index(check, CORE_DELIVERIES, d->next);
    }
    for (uint32_t i = 1; i < core->tables[CORE_WORKLOADS].used; i++) {
        const struct core_workload *w = core_workload(core, i);
        if (w->phase == CORE_FREE) continue;
        core_check_index(check, CORE_RESERVED, w->reserved);
        core_check_index(check, CORE_WORKLOADS, w->member_prev);
        core_check_index(check, CORE_WORKLOADS, w->member_next);
    }
}

static uint32_t calendar_check(struct core_check *check, uint32_t node)
{
    const struct mr_core *core = check->core;
    const struct core_node *n = core_node(core, node);
    uint32_t count = 0, live = core->tables[CORE_WINDOWS].live, shown = 0;
    uint64_t last_us = 0;
    for (uint32_t at = n->window_first; at != 0 && count <= live; count++) {
        const struct core_window *w = core_window(core, at);
        core_check_holds(check,
                         w->node == node && w->begin_us >= last_us && w->end_us > w->begin_us,
                         "(25) a node's windows ascend and do not overlap");
        if (shown == 0 && w->reserved != 0 && core_reserved(core, w->reserved)->shown) shown = at;
        last_us = w->end_us;
        at = w->node_next;
    }
    const struct core_window *first = core_window(core, shown);
    bool active = shown != 0 && core_reserved(core, first->reserved)->active;
    core_check_holds(check,
                     n->dated_us == (shown != 0 ? first->begin_us : 0) &&
                         n->closed == (active ? first->reserved : 0),
                     "(25) a node shows the first of its windows");
    return count;
}

static void members_check(struct core_check *check, uint32_t reserved)
{
    const struct mr_core *core = check->core;
    uint32_t prev = 0, count = 0;
    uint32_t m = core_reserved(core, reserved)->member_first;
    for (; m != 0 && count <= core->tables[CORE_WORKLOADS].live; count++) {
        const struct core_workload *member = core_workload(core, m);
        core_check_holds(check,
                         member->reserved == reserved && member->member_prev == prev &&
                             member->phase != CORE_ENDED && member->kind != MR_KIND_RESERVATION,
                         "(25) a reservation's members live and are linked both ways");
        prev = m;
        m = member->member_next;
    }
}

static void reserved_check(struct core_check *check, uint32_t reserved)
{
    const struct mr_core *core = check->core;
    const struct core_reserved *r = core_reserved(core, reserved);
    const struct core_workload *w = core_workload(core, r->workload);
    uint32_t tasks = 0, prev = 0, count = 0, live = core->tables[CORE_WINDOWS].live;
    bool known = w->kind == MR_KIND_RESERVATION && w->reserved == reserved;
    core_check_holds(check, known && (w->phase == CORE_HELD || w->phase == CORE_ACTIVE),
                     "(25) a reservation is one that has not ended");
    core_check_holds(check, (w->phase == CORE_ACTIVE) == (r->active != 0),
                     "(25) a reservation that is active has begun");
    for (uint32_t at = r->window_first; at != 0 && count <= live; count++) {
        const struct core_window *of = core_window(core, at);
        core_check_holds(check,
                         of->reserved == reserved && of->of_prev == prev &&
                             of->begin_us >= r->begin_us && of->end_us == r->end_us,
                         "(25) a reservation's windows are linked both ways");
        tasks += of->tasks;
        prev = at;
        at = of->of_next;
    }
    core_check_holds(check, r->window_last == prev && tasks == r->tasks,
                     "(25) a reservation knows what its windows hold");
    core_check_holds(check, r->maintenance || tasks + r->missing == w->tasks_min,
                     "(25) a reservation has what was asked for, or misses it");
    members_check(check, reserved);
}

/* Returns how many nodes are in it. */
static uint32_t delivery_check(struct core_check *check, uint32_t delivery)
{
    const struct mr_core *core = check->core;
    const struct core_delivery *d = core_delivery(core, delivery);
    uint64_t cpu = 0, mem = 0, accel = 0;
    uint32_t count = 0, prev = 0;
    for (uint32_t at = d->node_first; at != 0 && count <= d->nodes; count++) {
        const struct core_node *n = core_node(core, at);
        core_check_holds(check,
                         n->delivery == delivery && n->delivery_prev == prev &&
                             n->state == MR_NODE_EXPECTED && n->accel_type == d->accel_type,
                         "(29) a delivery's nodes are expected and linked both ways");
        cpu += n->cpu_milli;
        mem += n->mem_mib;
        accel += (uint64_t)n->accel_count * CORE_WHOLE;
        prev = at;
        at = n->delivery_next;
    }
    core_check_holds(check,
                     count == d->nodes && count > 0 && prev == d->node_last &&
                         cpu == d->cpu_milli && mem == d->mem_mib && accel == d->accel_milli,
                     "(29) a delivery knows what it brings");
    return count;
}

static void deliveries_check(struct core_check *check)
{
    const struct mr_core *core = check->core;
    uint32_t nodes = 0, count = 0, prev = 0, live = core->tables[CORE_DELIVERIES].live;
    for (uint32_t at = core->delivery_first; at != 0 && count <= live; count++) {
        const struct core_delivery *d = core_delivery(core, at),
                                   *before = core_delivery(core, prev);
        bool ascends = d->comes_us > before->comes_us ||
                       (d->comes_us == before->comes_us && d->accel_type > before->accel_type);
        core_check_holds(check, d->prev == prev && (prev == 0 || ascends),
                         "(29) deliveries ascend by date and are linked both ways");
        nodes += delivery_check(check, at);
        prev = at;
        at = d->next;
    }
    core_check_holds(check, count == live && prev == core->delivery_last,
                     "(29) every delivery is in the list");
    core_check_holds(check, nodes == core->nodes_by_state[MR_NODE_EXPECTED],
                     "(29) every node that is expected is in a delivery");
}

void core_check_reserve(struct core_check *check)
{
    const struct mr_core *core = check->core;
    uint32_t windows = 0;
    for (uint32_t i = 1; i < core->tables[CORE_NODES].used && check->text == NULL; i++) {
        windows += calendar_check(check, i);
    }
    core_check_holds(check, windows == core->tables[CORE_WINDOWS].live,
                     "(25) every window is in its node's calendar");
    for (uint32_t i = 1; i < core->tables[CORE_RESERVED].used && check->text == NULL; i++) {
        if (core_reserved(core, i)->workload != 0) reserved_check(check, i);
    }
    if (check->text == NULL) deliveries_check(check);
}
