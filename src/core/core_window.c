/* SPDX-License-Identifier: Apache-2.0 */
/* Calendars of nodes: which reservation has a node when, and for whom it is open.
 *
 * A node is in at most one window at a time. While it is, it is out of the fleet's index and only
 * the reservation's members are placed on it. Before that it is in the index under the time its
 * next window begins, and only who is gone by then is placed on it.
 *
 * Owns:       windows, and what nodes show of them.
 * Invariants: (1) the windows of a node ascend and do not overlap;
 *             (2) a node shows the first of its windows that is not over;
 *             (3) a plan for members lies on nodes of their reservation.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(windows of the node) to add and to drop one; O(nodes of the reservation) for a
 *             plan of a member, times its places when the topology is narrow.
 * Idea:       docs/internals/reservations.md   Tests: tests/unit/core/test_core_reserve.c
 */
#include "core_reserve.h"

/* --- for whom -------------------------------------------------------------------------------- */

void core_view_set(struct mr_core *core, uint32_t reserved, uint64_t end_us)
{
    uint64_t end_s = end_us / 1000000 + (end_us % 1000000 != 0);
    core->view_picky = 0;
    core->view_reserved = reserved;
    core->view_end_us = end_us;
    core->view_end_s = (uint32_t)MR_MIN(end_s, (uint64_t)UINT32_MAX);
}

void core_view_reset(struct mr_core *core)
{
    core_view_set(core, 0, 0);
}

bool core_view_goes(const struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    if (core->tables[CORE_RESERVED].live == 0) return false;
    return w->reserved != 0 || w->preemptible || w->planned != 0;
}

/* So long at least must it run to be worth starting, when it will have to go. */
static uint64_t use_us(const struct mr_core *core, const struct core_workload *w)
{
    if (w->reserved == 0) return CORE_RESERVE_USE_US;
    const struct core_reserved *r = core_reserved(core, w->reserved);
    return MR_MIN(CORE_RESERVE_USE_US, (r->end_us - r->begin_us) / 4);
}

void core_view_make(struct mr_core *core, uint32_t workload, bool goes)
{
    const struct core_workload *w = core_workload(core, workload);
    uint64_t length_us = core_length_us(w), left_us = 0, end_us = UINT64_MAX;
    bool known = goes || (!core_is_service(w) && length_us != 0);
    left_us = goes ? use_us(core, w) : length_us - MR_MIN(length_us, w->ran_us);
    if (!known || !mr_add_u64(core->now_us + w->grace_us, left_us, &end_us)) end_us = UINT64_MAX;
    core_view_set(core, w->reserved, end_us);
}

/* --- windows --------------------------------------------------------------------------------- */

void core_window_show(struct mr_core *core, uint32_t node)
{
    const struct core_node *n = core_node(core, node);
    uint32_t closed = 0, at = n->window_first;
    uint64_t dated_us = 0;
    for (; at != 0 && dated_us == 0; at = core_window(core, at)->node_next) {
        const struct core_window *w = core_window(core, at);
        const struct core_reserved *r = core_reserved(core, w->reserved);
        if (!r->shown) continue;
        if (r->active) closed = w->reserved;
        dated_us = w->begin_us;
    }
    if (n->closed == closed && n->dated_us == dated_us) return;
    core_node_dated(core, node, closed, dated_us, closed == 0);
}

void core_window_foresee(struct mr_core *core, uint32_t node, uint64_t at_us)
{
    uint32_t at = core_node(core, node)->window_first;
    while (at != 0 && core_window(core, at)->end_us <= at_us) {
        at = core_window(core, at)->node_next;
    }
    core_node_dated(core, node, 0, at != 0 ? core_window(core, at)->begin_us : 0, false);
}

bool core_window_free(const struct mr_core *core, uint32_t node, uint64_t begin_us, uint64_t end_us)
{
    for (uint32_t at = core_node(core, node)->window_first; at != 0;
         at = core_window(core, at)->node_next) {
        const struct core_window *w = core_window(core, at);
        if (w->begin_us < end_us && begin_us < w->end_us) return false;
    }
    return true;
}

static void node_insert(struct mr_core *core, uint32_t window)
{
    struct core_window *w = core_window(core, window);
    uint32_t *link = &core_node(core, w->node)->window_first;
    while (*link != 0 && core_window(core, *link)->begin_us < w->begin_us) {
        MR_INVARIANT(1, core_window(core, *link)->end_us <= w->begin_us);
        link = &core_window(core, *link)->node_next;
    }
    MR_INVARIANT(1, *link == 0 || core_window(core, *link)->begin_us >= w->end_us);
    w->node_next = *link;
    *link = window;
}

void core_window_add(struct mr_core *core, uint32_t reserved, uint32_t node, uint32_t tasks)
{
    struct core_reserved *r = core_reserved(core, reserved);
    uint32_t last = r->window_last;
    r->tasks += tasks;
    if (last != 0 && core_window(core, last)->node == node) { /* another device of the same node */
        core_window(core, last)->tasks += tasks;
        return;
    }
    uint32_t window = core_slot_take(core, CORE_WINDOWS);
    MR_ASSERT(window != 0); /* the caller counted them */
    *core_window(core, window) = (struct core_window){.begin_us = MR_MAX(r->begin_us, core->now_us),
                                                      .end_us = r->end_us,
                                                      .reserved = reserved,
                                                      .node = node,
                                                      .tasks = tasks,
                                                      .of_prev = last};
    if (last != 0)
        core_window(core, last)->of_next = window;
    else
        r->window_first = window;
    r->window_last = window;
    node_insert(core, window);
    core_window_show(core, node);
}

void core_window_drop(struct mr_core *core, uint32_t window)
{
    struct core_window *w = core_window(core, window);
    struct core_reserved *r = core_reserved(core, w->reserved);
    uint32_t node = w->node, *link = &core_node(core, node)->window_first;
    while (*link != window) {
        MR_ASSERT(*link != 0);
        link = &core_window(core, *link)->node_next;
    }
    *link = w->node_next;
    if (w->of_prev != 0)
        core_window(core, w->of_prev)->of_next = w->of_next;
    else
        r->window_first = w->of_next;
    if (w->of_next != 0)
        core_window(core, w->of_next)->of_prev = w->of_prev;
    else
        r->window_last = w->of_prev;
    MR_ASSERT(r->tasks >= w->tasks);
    r->tasks -= w->tasks;
    core_slot_give(core, CORE_WINDOWS, window);
    core_window_show(core, node);
}

/* --- plans of members ------------------------------------------------------------------------ */

/* The reservation's nodes of the type, in the place (0: anywhere), that take `full` tasks or more;
 * adds to the plan until it has so many more. */
static uint32_t windows_pass(struct mr_core *core, uint32_t place, uint32_t type,
                             const struct mr_shape *shape, uint32_t tasks, uint32_t full)
{
    uint32_t placed = 0, at = core_reserved(core, core->view_reserved)->window_first;
    enum core_level level =
        place != 0 ? (enum core_level)core_place(core, place)->level : CORE_ROOT;
    for (; at != 0 && placed < tasks; at = core_window(core, at)->of_next) {
        uint32_t node = core_window(core, at)->node;
        if (place != 0 && core_place_above(core, core_node(core, node)->place, level) != place)
            continue;
        uint32_t most = MR_MIN(tasks - placed, MR_TASKS_PER_NODE_MAX);
        uint32_t fit = core_node_fit(core, node, type, shape, most);
        if (fit == 0 || fit < full) continue;
        if (!core_plan_add(core, node, shape, fit)) return placed;
        placed += fit;
    }
    return placed;
}

/* Nodes that take many first, so that a gang lies on few. */
static uint32_t windows_fill(struct mr_core *core, uint32_t place, uint32_t type,
                             const struct mr_shape *shape, uint32_t tasks)
{
    uint32_t placed = 0;
    for (uint32_t full = MR_MIN(tasks, MR_TASKS_PER_NODE_MAX); full > 0 && placed < tasks;
         full /= 2) {
        placed += windows_pass(core, place, type, shape, tasks - placed, full);
    }
    return placed;
}

uint32_t core_window_fill(struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                          uint32_t tasks)
{
    return windows_fill(core, 0, type, shape, tasks);
}

uint32_t core_window_fit(const struct mr_core *core, uint32_t reserved, uint32_t type,
                         const struct mr_shape *shape, uint32_t most)
{
    uint32_t fit = 0, at = core_reserved(core, reserved)->window_first;
    for (; at != 0 && fit < most; at = core_window(core, at)->of_next) {
        uint32_t left = MR_MIN(most - fit, MR_TASKS_PER_NODE_MAX);
        fit += core_node_fit(core, core_window(core, at)->node, type, shape, left);
    }
    return fit;
}

/* As many as fit of min … max on one of the nodes, or in one place of the level. */
static uint32_t plan_near(struct mr_core *core, const struct core_request *request, uint32_t type,
                          enum core_level level)
{
    uint32_t before = 0, at = core_reserved(core, core->view_reserved)->window_first;
    for (; at != 0; at = core_window(core, at)->of_next) {
        const struct core_node *n = core_node(core, core_window(core, at)->node);
        uint32_t place = core_place_above(core, n->place, level);
        if (place == 0 || place == before) continue; /* neighbours mostly stand together */
        before = place;
        uint32_t placed = windows_fill(core, place, type, request->shape, request->tasks_max);
        if (placed >= request->tasks_min) return placed;
        core_plan_drop(core, request->shape);
    }
    return 0;
}

static uint32_t plan_on_node(struct mr_core *core, const struct core_request *request,
                             uint32_t type)
{
    uint32_t best = 0, best_fit = 0;
    uint32_t at = core_reserved(core, core->view_reserved)->window_first;
    for (; at != 0; at = core_window(core, at)->of_next) {
        uint32_t node = core_window(core, at)->node;
        uint32_t most = MR_MIN(request->tasks_max, MR_TASKS_PER_NODE_MAX);
        uint32_t fit = core_node_fit(core, node, type, request->shape, most);
        if (fit <= best_fit) continue;
        best = node;
        best_fit = fit;
    }
    if (best_fit < request->tasks_min) return 0;
    if (core_plan_add(core, best, request->shape, best_fit)) return best_fit;
    core_plan_drop(core, request->shape);
    return 0;
}

/* As many segments as fit, up to so many, on the reservation's nodes of the node's domain. */
static uint32_t segments_add(struct mr_core *core, const struct core_request *request,
                             uint32_t type, uint32_t node, uint32_t most)
{
    uint32_t domain = core_place_above(core, core_node(core, node)->place, CORE_DOMAIN);
    uint32_t kept = core->plan_count, segment = request->segment;
    if (domain == 0) return core_segments_on(core, node, type, request, most);
    uint32_t fit = windows_fill(core, domain, type, request->shape, most * segment);
    uint32_t whole = fit / segment * segment;
    if (fit == whole) return fit / segment;
    core_plan_cut(core, request->shape, kept); /* once more, without the rest */
    if (whole == 0) return 0;
    if (windows_fill(core, domain, type, request->shape, whole) == whole) return whole / segment;
    core_plan_cut(core, request->shape, kept);
    return 0;
}

/* Whole segments; within one block or cell only by luck, then they are none. */
static uint32_t plan_segments(struct mr_core *core, const struct core_request *request,
                              uint32_t type)
{
    uint32_t world = MR_MIN(request->tasks_max, request->world_max), segment = request->segment;
    uint32_t placed = 0, at = core_reserved(core, core->view_reserved)->window_first;
    for (; at != 0 && placed + segment <= world; at = core_window(core, at)->of_next) {
        uint32_t most = (world - placed) / segment;
        placed += segment * segments_add(core, request, type, core_window(core, at)->node, most);
    }
    if (placed >= request->tasks_min && core_topology_unbounded(request->topology)) return placed;
    core_plan_drop(core, request->shape);
    return 0;
}

static uint32_t plan_of_type(struct mr_core *core, const struct core_request *request,
                             uint32_t type)
{
    uint32_t placed = 0;
    if (request->topology == MR_TOPOLOGY_NODE || request->tasks_max == 1)
        return plan_on_node(core, request, type);
    uint32_t levels = core_topology_levels(request->topology);
    for (uint32_t i = 0; placed == 0 && i < levels; i++) {
        placed = plan_near(core, request, type, core_topology_widen[i]);
    }
    if (placed > 0) return placed;
    if (!core_topology_unbounded(request->topology)) return plan_on_node(core, request, type);
    placed = windows_fill(core, 0, type, request->shape, request->tasks_max);
    if (placed >= request->tasks_min) return placed;
    core->plan_short = MR_MIN(core->plan_short, request->tasks_min - placed);
    core_plan_drop(core, request->shape);
    return 0;
}

uint32_t core_window_plan(struct mr_core *core, const struct core_request *request,
                          uint8_t *ret_type)
{
    const struct core_reserved *r = core_reserved(core, core->view_reserved);
    uint32_t type = request->shape->accel_milli == 0 ? 0 : r->accel_type;
    if (!r->active || r->end_us < core->view_end_us) return 0;
    if (!core_shape_accepts(request->shape, type)) return 0;
    uint32_t placed = request->segment != 0 ? plan_segments(core, request, type)
                                            : plan_of_type(core, request, type);
    MR_ASSERT(placed == 0 || placed >= request->tasks_min);
    if (placed > 0) *ret_type = (uint8_t)type;
    return placed;
}
