/* SPDX-License-Identifier: Apache-2.0 */
/* Exclusive work: nodes on which nothing else runs while it does.
 *
 * Such work goes to nodes that are wholly free, and each of its leases holds all that its node has.
 * So nobody else fits there, and making room, holds for those that wait, repair and loans work as
 * for anything that fills a node. Quotas and the bill count the whole node: what it closes to
 * others is what it pays for. The tasks of a gang share its nodes; each replica has a node of its
 * own.
 *
 * Owns:       nothing: the list of wholly free nodes is core_fleet.c's.
 * Invariants: (1) what is found is wholly free;
 *             (2) what starts lies within every quota with its whole nodes.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       at most IDLE_LOOKED nodes for each that is found; the first few as a rule.
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_exclusive.c
 */
#include "core_quota.h"

#define IDLE_LOOKED 4096u

/* --- for whom -------------------------------------------------------------------------------- */

void core_picky_view(struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    bool barred = w->apart != 0 && core_apart_bar(core, workload);
    core->view_waived = 0;
    core->view_picky = barred || w->exclusive != MR_EXCLUSIVE_NONE ? workload : 0;
}

void core_picky_waive(struct mr_core *core, uint32_t workload, enum core_waived waived)
{
    const struct core_workload *w = core_workload(core, workload);
    bool other =
        waived == CORE_WAIVED_EXCLUSIVE ? w->apart != 0 : w->exclusive != MR_EXCLUSIVE_NONE;
    core->view_picky = other ? workload : 0;
    core->view_waived = waived;
}

static bool view_alone(const struct mr_core *core)
{
    return core_workload(core, core->view_picky)->exclusive != MR_EXCLUSIVE_NONE &&
           core->view_waived != CORE_WAIVED_EXCLUSIVE;
}

bool core_picky_open(const struct mr_core *core, uint32_t node)
{
    if (view_alone(core) && !core_node_idle(core_node(core, node))) return false;
    if (core_workload(core, core->view_picky)->apart == 0) return true;
    return core->view_waived == CORE_WAIVED_APART || !core_apart_barred(core, node);
}

/* Smaller nodes first, then those whose domain has the least left: whole domains stay whole. */
static bool better(const struct mr_core *core, uint32_t a, uint32_t b)
{
    const struct core_node *na = core_node(core, a), *nb = core_node(core, b);
    if (na->accel_count != nb->accel_count) return na->accel_count < nb->accel_count;
    if (na->cpu_milli != nb->cpu_milli) return na->cpu_milli < nb->cpu_milli;
    uint64_t left_a = core_place_type(core, na->place, na->accel_type)->free_milli;
    uint64_t left_b = core_place_type(core, nb->place, nb->accel_type)->free_milli;
    return left_a != left_b ? left_a < left_b : a < b;
}

/* Of the first few of the list that fit. */
static uint32_t idle_find(const struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                          uint32_t tasks)
{
    uint32_t best = 0, found = 0, at = core->idle_first[type];
    for (uint32_t i = 0; at != 0 && i < IDLE_LOOKED && found < CORE_TIES_LOOKED; i++) {
        if (core_node_fit(core, at, type, shape, tasks) >= tasks) {
            if (best == 0 || better(core, at, best)) best = at;
            found++;
        }
        at = core_node(core, at)->idle_next;
    }
    MR_INVARIANT(1, best == 0 || core_node_idle(core_node(core, best)));
    return best;
}

uint32_t core_picky_find(const struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                         uint32_t tasks)
{
    if (!view_alone(core)) return core_apart_find(core, type, shape, tasks);
    if (shape->accel_milli > 0) return idle_find(core, type, shape, tasks);
    for (uint32_t t = 0; t < MR_ACCEL_TYPES_MAX; t++) { /* nodes without accelerators first */
        uint32_t node = idle_find(core, t, shape, tasks);
        if (node != 0) return node;
    }
    return 0;
}

/* --- what it is charged for ------------------------------------------------------------------ */

void core_charge_whole(const struct mr_core *core, uint32_t node, struct core_charge *ret)
{
    const struct core_node *n = core_node(core, node);
    ret->whole = (struct mr_shape){.cpu_milli = n->cpu_milli,
                                   .mem_mib = n->mem_mib,
                                   .accel_milli = n->accel_count * (uint32_t)CORE_WHOLE};
    ret->shape = &ret->whole;
    ret->tasks = 1;
    ret->type = n->accel_type;
}

uint64_t core_alone_holds(const struct mr_core *core, const struct core_workload *w, uint32_t lease,
                          uint32_t amount)
{
    uint64_t sum = 0;
    for (uint32_t at = w->lease_first; at != 0; at = core_lease(core, at)->of_next) {
        const struct core_lease *l = core_lease(core, at);
        struct core_charge c;
        if (l->state == CORE_LEASE_CLAIM || (lease != 0 && at != lease)) continue;
        core_charge_whole(core, l->node, &c);
        if (amount > CORE_ACCEL && c.type != amount - CORE_ACCEL) continue;
        sum += core_shape_needs(c.shape, core_amount_resource(amount));
    }
    return sum;
}

/* Until now it is billed as the node was. */
static void bill_until_now(struct mr_core *core, uint32_t lease)
{
    if (!core_lease(core, lease)->in_cut) return;
    core_cut_leave(core, lease);
    core_lease_bill(core, lease, core->now_us);
    core_cut_join(core, lease);
}

static void leases_lend(struct mr_core *core, uint32_t node, bool take)
{
    uint32_t at = core_node(core, node)->lease_first;
    for (; at != 0; at = core_lease(core, at)->node_next) {
        const struct core_lease *l = core_lease(core, at);
        if (core_workload(core, l->workload)->exclusive == MR_EXCLUSIVE_NONE) continue;
        if (!take) bill_until_now(core, at);
        core_lease_lend(core, at, take, true);
    }
}

bool core_alone_node_changes(struct mr_core *core, const struct mr_event_node *event)
{
    /* Nodes are said again whenever somebody starts anew: mostly nothing is changed by it. */
    const struct core_node *n = core_node(core, event->id.v);
    if (n->cpu_milli == event->cpu_milli && n->mem_mib == event->mem_mib &&
        n->accel_count == event->accel_count)
        return false;
    leases_lend(core, event->id.v, false);
    return true;
}

void core_alone_node_changed(struct mr_core *core, uint32_t node)
{
    leases_lend(core, node, true);
}

/* --- quotas ---------------------------------------------------------------------------------- */

static void node_add(const struct core_node *n, uint64_t nodes, uint64_t sum[MR_RESOURCE_COUNT])
{
    sum[MR_RESOURCE_CPU] += n->cpu_milli * nodes;
    sum[MR_RESOURCE_MEMORY] += n->mem_mib * nodes;
    sum[MR_RESOURCE_ACCEL] += n->accel_count * (uint64_t)CORE_WHOLE * nodes;
}

static struct core_ask ask_of(const struct mr_core *core, uint32_t workload, uint8_t type)
{
    const struct core_workload *w = core_workload(core, workload);
    return (struct core_ask){
        .shape = &w->shape, .tenant = w->tenant, .type = type, .borrow = w->preemptible != 0};
}

/* Whether the nodes of the plan lie within the quotas; where it takes several types, by their sum.
 */
static bool plan_allowed(const struct mr_core *core, uint32_t workload,
                         struct core_bound *ret_bound)
{
    uint64_t sum[MR_RESOURCE_COUNT] = {0};
    uint8_t type = core_node(core, core_plan(core, 1)->node)->accel_type;
    for (uint32_t i = 1; i <= core->plan_count; i++) {
        const struct core_node *n = core_node(core, core_plan(core, i)->node);
        node_add(n, 1, sum);
        if (n->accel_type != type) type = 0;
    }
    const struct core_ask ask = ask_of(core, workload, type);
    return core_quota_room(core, &ask, sum, ret_bound);
}

uint32_t core_alone_within(struct mr_core *core, uint32_t workload,
                           const struct core_request *request, uint32_t tasks, uint8_t *ret_type,
                           struct core_bound *ret_bound)
{
    if (plan_allowed(core, workload, ret_bound)) return tasks;
    core_plan_drop(core, request->shape);
    if (tasks == request->tasks_min) return 0;
    struct core_request least = *request;
    least.tasks_max = least.tasks_min;
    tasks = core_plan_make(core, &least, ret_type);
    if (tasks == 0 || plan_allowed(core, workload, ret_bound)) return tasks;
    core_plan_drop(core, request->shape);
    return 0;
}

/* --- why not --------------------------------------------------------------------------------- */

/* Tasks that the largest nodes of the type hold when nothing else is there; a bound. */
static uint32_t tasks_on_largest(const struct mr_core *core, uint32_t type,
                                 const struct mr_shape *shape)
{
    uint64_t fit = MR_TASKS_PER_NODE_MAX;
    for (uint32_t r = 0; r < MR_RESOURCE_COUNT; r++) {
        uint64_t needs = core_shape_needs(shape, (enum mr_resource)r);
        if (needs > 0) fit = MR_MIN(fit, core->largest[type][r] / needs);
    }
    return (uint32_t)fit;
}

/* A quota refused the nodes that were found, other ones than the sample: in numbers, the largest.
 */
static void quota_worst(const struct mr_core *core, uint32_t workload,
                        const struct core_request *request, struct mr_reason *ret)
{
    struct core_bound bound;
    for (uint8_t type = 0; type < MR_ACCEL_TYPES_MAX; type++) {
        if (!core_shape_accepts(request->shape, type) || core->type_nodes_up[type] == 0) continue;
        uint64_t sum[MR_RESOURCE_COUNT];
        for (uint32_t r = 0; r < MR_RESOURCE_COUNT; r++)
            sum[r] = (uint64_t)core->largest[type][r] * request->tasks_min;
        const struct core_ask ask = ask_of(core, workload, type);
        if (core_quota_room(core, &ask, sum, &bound)) continue;
        *ret = bound.reason;
        return;
    }
}

/* It fits on wholly free nodes: whether quotas allow these, by one that would be taken. */
static void quota_why(const struct mr_core *core, uint32_t workload,
                      const struct core_request *request, struct mr_reason *ret)
{
    uint8_t types[MR_ACCEL_TYPES_MAX];
    uint32_t count = core_shape_types(core, request->shape, types), node = 0;
    for (uint32_t i = 0; node == 0 && i < count; i++) {
        node = core_picky_find(core, types[i], request->shape, 1);
    }
    if (node == 0) return;
    const struct core_node *n = core_node(core, node);
    uint32_t fit = core_node_fit(core, node, n->accel_type, request->shape, MR_TASKS_PER_NODE_MAX);
    uint64_t sum[MR_RESOURCE_COUNT] = {0};
    struct core_bound bound;
    node_add(n, (request->tasks_min + fit - 1) / fit, sum);
    const struct core_ask ask = ask_of(core, workload, n->accel_type);
    uint32_t class_of = core_workload(core, workload)->class_of;
    if (!core_quota_room(core, &ask, sum, &bound))
        *ret = bound.reason;
    else if (class_of != 0 && core_class(core, class_of)->wait_list == CORE_WAIT_QUOTA)
        quota_worst(core, workload, request, ret);
}

void core_alone_why(struct mr_core *core, uint32_t workload, const struct core_request *request,
                    struct mr_reason *ret)
{
    struct mr_reason beside;
    if (ret->code == MR_REASON_NONE) {
        quota_why(core, workload, request, ret);
        return;
    }
    core_picky_waive(core, workload, CORE_WAIVED_EXCLUSIVE);
    core_place_reason(core, request, &beside);
    core_picky_view(core, workload);
    if (beside.code != MR_REASON_NONE) return;
    uint32_t free = 0, up = 0, most = 1;
    for (uint32_t type = 0; type < MR_ACCEL_TYPES_MAX; type++) {
        if (!core_shape_accepts(request->shape, type) || core->type_nodes_up[type] == 0) continue;
        free += core->idle_nodes[type];
        up += core->type_nodes_up[type];
        most = MR_MAX(most, tasks_on_largest(core, type, request->shape));
    }
    *ret = (struct mr_reason){.code = MR_REASON_EXCLUSIVE,
                              .a = free,
                              .b = up,
                              .c = (request->tasks_min + most - 1) / most};
}
