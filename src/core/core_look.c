/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at the state: workloads, leases, nodes, tenants, totals, the bill.
 *
 * Owns:       nothing.
 * Invariants: (1) looking changes nothing.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(1) each, walks O(1) amortised.
 * Tests:      tests/unit/core/test_core_look.c
 */
#include "core_quota.h"
#include "core_reserve.h"

static void workload_put(const struct mr_core *core, uint32_t workload,
                         struct mr_workload_info *ret)
{
    const struct core_workload *w = core_workload(core, workload);
    *ret = (struct mr_workload_info){
        .id = {w->id},
        .tenant = {w->tenant},
        .kind = (enum mr_workload_kind)w->kind,
        .state = (enum mr_state)w->state,
        .shape = w->shape,
        .priority = w->priority,
        .topology = (enum mr_topology)w->topology,
        .tasks_min = w->tasks_min,
        .tasks_max = w->tasks_max,
        .spread = (enum mr_spread)w->spread,
        .spread_max = w->spread_max,
        .exclusive = (enum mr_exclusive)w->exclusive,
        .apart = w->apart != 0 ? core_apart(core, w->apart)->group : 0,
        .apart_by = w->apart != 0 ? (enum mr_spread)core_apart(core, w->apart)->by : MR_SPREAD_NONE,
        .segment = w->segment,
        .tasks = w->tasks,
        .spares = core_is_service(w) ? 0 : w->tasks - core_spare_world(w, w->tasks),
        .target = w->target,
        .ready = w->ready,
        .run = w->run,
        .restarts = w->restarts,
        .checkpoint_step = w->checkpoint_step,
        .lease_count = w->lease_count - w->claimed,
        .submitted_us = w->submitted_us,
        .started_us = w->started_us,
        .ended_us = w->ended_us,
        .time_limit_us = w->time_limit_us,
        .deadline_us = w->deadline_us,
        .estimate_us = w->estimate_us,
        .begin_us = w->begin_us,
        .checkpoint_us = w->checkpoint_us,
        .grace_us = w->grace_us,
        .ran_us = w->ran_us,
        .run_started_us = w->run_started_us,
        .preemptible = w->preemptible,
        .promised = w->planned != 0 && core_planned(core, w->planned)->promised,
        .planned_us = w->planned != 0 ? core_planned(core, w->planned)->plan.finish_us : 0,
        .exit = (enum mr_exit_kind)w->exit,
        .exit_code = w->exit_code,
    };
    if (w->reserved != 0) {
        const struct core_reserved *r = core_reserved(core, w->reserved);
        if (w->kind != MR_KIND_RESERVATION) {
            ret->reservation.v = core_workload(core, r->workload)->id;
        } else {
            ret->tasks = r->tasks;
            ret->maintenance = r->maintenance;
        }
    }
    int error = mr_core_why(core, ret->id, &ret->reason);
    MR_ASSERT(error == 0);
}

int mr_core_workload(const struct mr_core *core, struct mr_workload_id id,
                     struct mr_workload_info *ret)
{
    uint32_t workload = core_workload_find(core, id.v);
    if (workload == 0) return MR_ENOT_FOUND;
    workload_put(core, workload, ret);
    return 0;
}

bool mr_core_workload_known(const struct mr_core *core, struct mr_workload_id id)
{
    return core_workload_find(core, id.v) != 0;
}

int mr_core_workload_next(const struct mr_core *core, struct mr_workload_id after,
                          struct mr_workload_info *ret)
{
    uint32_t at = core->id_first;
    if (at == 0 || core_workload(core, core->id_last)->id <= after.v) return MR_ENOT_FOUND;
    if (core_workload(core, at)->id <= after.v) {
        /* `after` is known, or was forgotten: then one just above it mostly is. */
        uint32_t found = core_workload_find(core, after.v);
        if (found != 0) {
            at = core_workload(core, found)->id_next;
        } else {
            for (uint64_t i = 1; found == 0 && i <= CORE_WALK; i++) {
                found = core_workload_find(core, after.v + i);
            }
            at = found != 0 ? found : at;
        }
        while (core_workload(core, at)->id <= after.v) {
            at = core_workload(core, at)->id_next;
            MR_ASSERT(at != 0);
        }
    }
    workload_put(core, at, ret);
    return 0;
}

static void lease_put(const struct mr_core *core, uint32_t lease, struct mr_lease_info *ret)
{
    const struct core_lease *l = core_lease(core, lease);
    const struct core_workload *w = core_workload(core, l->workload);
    MR_ASSERT(l->state != CORE_LEASE_CLAIM && l->state != MR_LEASE_NONE);
    *ret = (struct mr_lease_info){.id = {l->id},
                                  .workload = {w->id},
                                  .tenant = {w->tenant},
                                  .node = {l->node},
                                  .state = (enum mr_lease_state)l->state,
                                  .ready = l->ready,
                                  .started_us = l->started_us};
    core_start_put(core, lease, &ret->start);
}

static bool lease_shown(const struct mr_core *core, uint32_t lease)
{
    uint8_t state = core_lease(core, lease)->state;
    return state != MR_LEASE_NONE && state != CORE_LEASE_CLAIM;
}

int mr_core_lease(const struct mr_core *core, struct mr_lease_id id, struct mr_lease_info *ret)
{
    uint32_t lease = core_lease_find(core, id.v);
    if (lease == 0 || !lease_shown(core, lease)) return MR_ENOT_FOUND;
    lease_put(core, lease, ret);
    return 0;
}

int mr_core_lease_of(const struct mr_core *core, struct mr_workload_id id, uint32_t *cursor,
                     struct mr_lease_info *ret)
{
    uint32_t workload = core_workload_find(core, id.v);
    if (workload == 0) return MR_ENOT_FOUND;
    /* The cursor is the lease that was returned last. A stale one ends the walk. */
    uint32_t at = core_workload(core, workload)->lease_first;
    if (*cursor != 0) {
        if (*cursor >= core->tables[CORE_LEASES].used) return MR_ENOT_FOUND;
        const struct core_lease *last = core_lease(core, *cursor);
        if (last->state == MR_LEASE_NONE || last->workload != workload) return MR_ENOT_FOUND;
        at = last->of_next;
    }
    while (at != 0 && !lease_shown(core, at)) {
        at = core_lease(core, at)->of_next;
    }
    if (at == 0) return MR_ENOT_FOUND;
    *cursor = at;
    lease_put(core, at, ret);
    return 0;
}

int mr_core_lease_next(const struct mr_core *core, uint32_t *cursor, struct mr_lease_info *ret)
{
    for (uint32_t i = *cursor + 1; i != 0 && i < core->tables[CORE_LEASES].used; i++) {
        if (!lease_shown(core, i)) continue;
        *cursor = i;
        lease_put(core, i, ret);
        return 0;
    }
    return MR_ENOT_FOUND;
}

static uint32_t leases_shown(const struct mr_core *core, const struct core_node *n)
{
    uint32_t count = 0;
    for (uint32_t i = n->lease_first; i != 0; i = core_lease(core, i)->node_next) {
        count += lease_shown(core, i);
    }
    return count;
}

int mr_core_node(const struct mr_core *core, struct mr_node_id id, struct mr_node_info *ret)
{
    if (id.v == 0 || id.v > core->limits.nodes) return MR_ENOT_FOUND;
    const struct core_node *n = core_node(core, id.v);
    if (n->state == MR_NODE_ABSENT) return MR_ENOT_FOUND;
    uint32_t accel = 0;
    bool there = n->state != MR_NODE_EXPECTED;
    for (uint32_t i = 0; there && i < n->accel_count; i++) {
        if (n->device_free[i] > 0) accel += (uint16_t)n->device_free[i];
    }
    uint32_t level[CORE_LEVEL_COUNT] = {0};
    for (uint32_t at = n->place; at != 0; at = core_place(core, at)->parent) {
        level[core_place(core, at)->level] = core_place_number(core, at);
    }
    *ret = (struct mr_node_info){
        .node = {.id = id,
                 .cpu_milli = n->cpu_milli,
                 .mem_mib = n->mem_mib,
                 .accel_type = n->accel_type,
                 .accel_count = n->accel_count,
                 .domain = level[CORE_DOMAIN],
                 .block = level[CORE_BLOCK],
                 .cell = level[CORE_CELL],
                 .from_us = n->delivery != 0 ? core_delivery(core, n->delivery)->comes_us : 0},
        .state = (enum mr_node_state)n->state,
        .cpu_free_milli = there && n->cpu_free_milli > 0 ? (uint32_t)n->cpu_free_milli : 0,
        .mem_free_mib = there && n->mem_free_mib > 0 ? (uint32_t)n->mem_free_mib : 0,
        .accel_free_milli = accel,
    };
    if (n->closed != 0) {
        uint32_t by = core_reserved(core, n->closed)->workload;
        ret->reserved.v = core_workload(core, by)->id;
    }
    ret->lease_count = leases_shown(core, n);
    return 0;
}

int mr_core_reservation_next(const struct mr_core *core, uint32_t *cursor,
                             struct mr_workload_info *ret)
{
    for (uint32_t i = *cursor + 1; i != 0 && i < core->tables[CORE_RESERVED].used; i++) {
        if (core_reserved(core, i)->workload == 0) continue;
        *cursor = i;
        workload_put(core, core_reserved(core, i)->workload, ret);
        return 0;
    }
    return MR_ENOT_FOUND;
}

int mr_core_window_next(const struct mr_core *core, struct mr_workload_id reservation,
                        struct mr_node_id node, uint32_t *cursor, struct mr_window_info *ret)
{
    uint32_t at = *cursor;
    uint32_t of = core_workload_find(core, reservation.v);
    if (at >= core->tables[CORE_WINDOWS].used) return MR_ENOT_FOUND;
    if (at != 0 && core_window(core, at)->reserved == 0) return MR_ENOT_FOUND; /* stale */
    if (reservation.v != 0) {
        uint32_t reserved = of != 0 ? core_workload(core, of)->reserved : 0;
        if (reserved == 0 || core_workload(core, of)->kind != MR_KIND_RESERVATION)
            return MR_ENOT_FOUND;
        at = at != 0 ? core_window(core, at)->of_next : core_reserved(core, reserved)->window_first;
    } else {
        if (node.v == 0 || node.v > core->limits.nodes) return MR_ENOT_FOUND;
        at = at != 0 ? core_window(core, at)->node_next : core_node(core, node.v)->window_first;
    }
    if (at == 0) return MR_ENOT_FOUND;
    const struct core_window *w = core_window(core, at);
    const struct core_reserved *r = core_reserved(core, w->reserved);
    *cursor = at;
    *ret = (struct mr_window_info){.reservation = {core_workload(core, r->workload)->id},
                                   .node = {w->node},
                                   .tasks = w->tasks,
                                   .begin_us = w->begin_us,
                                   .end_us = w->end_us,
                                   .maintenance = r->maintenance,
                                   .active = r->active};
    return 0;
}

int mr_core_delivery_next(const struct mr_core *core, uint32_t *cursor,
                          struct mr_delivery_info *ret)
{
    uint32_t at = core->delivery_first;
    if (*cursor != 0) {
        if (*cursor >= core->tables[CORE_DELIVERIES].used) return MR_ENOT_FOUND;
        if (core_delivery(core, *cursor)->nodes == 0) return MR_ENOT_FOUND; /* stale */
        at = core_delivery(core, *cursor)->next;
    }
    if (at == 0) return MR_ENOT_FOUND;
    const struct core_delivery *d = core_delivery(core, at);
    *cursor = at;
    *ret = (struct mr_delivery_info){.from_us = d->comes_us,
                                     .accel_type = d->accel_type,
                                     .nodes = d->nodes,
                                     .cpu_milli = d->cpu_milli,
                                     .mem_mib = d->mem_mib,
                                     .accel_milli = d->accel_milli,
                                     .late = d->comes_us <= core->now_us};
    return 0;
}

static struct mr_lending lending_of(const struct core_amount *a)
{
    uint64_t borrow = a->limit == UINT64_MAX ? UINT64_MAX : a->limit - a->nominal;
    /* Without a quota there is nothing to borrow. */
    return (struct mr_lending){.borrow_max = a->nominal == UINT64_MAX ? 0 : borrow,
                               .keep = a->keep};
}

int mr_core_tenant(const struct mr_core *core, struct mr_tenant_id id, struct mr_tenant_info *ret)
{
    if (id.v == 0 || id.v > core->limits.tenants) return MR_ENOT_FOUND;
    const struct core_tenant *t = core_tenant(core, id.v);
    if (!t->present) return MR_ENOT_FOUND;
    const struct core_amount *a = t->amounts;
    *ret = (struct mr_tenant_info){.tenant = {.id = id,
                                              .parent = {t->parent},
                                              .weight = t->weight,
                                              .quota_cpu_milli = a[0].nominal,
                                              .quota_mem_mib = a[1].nominal,
                                              .quota_accel_milli = a[CORE_ACCEL].nominal,
                                              .running_max = t->running_max,
                                              .reclaim = (enum mr_preempt)t->reclaim,
                                              .within = (enum mr_preempt)t->within,
                                              .half_life_us = t->half_life_us},
                                   .cpu_milli = a[0].held,
                                   .mem_mib = a[1].held,
                                   .accel_milli = a[CORE_ACCEL].held,
                                   .share = core_share_of(core, id.v),
                                   .running = t->running,
                                   .pending = t->pending};
    for (uint32_t i = 0; i < MR_RESOURCE_COUNT; i++) {
        ret->tenant.lending[i] = lending_of(&a[i]);
        ret->used[i] = a[i].load;
        ret->past[i] = core_past_of(core, id.v, i);
    }
    uint32_t n = 0;
    for (uint64_t left = t->typed; left != 0 && n < MR_TENANT_TYPES_MAX; left &= left - 1) {
        uint8_t type = (uint8_t)__builtin_ctzll(left);
        const struct core_amount *of = &a[CORE_ACCEL + type];
        ret->type_milli[n] = of->held;
        ret->tenant.types[n++] = (struct mr_type_quota){
            .accel_type = type, .quota_milli = of->nominal, .lending = lending_of(of)};
    }
    return 0;
}

void mr_core_totals(const struct mr_core *core, struct mr_totals *ret)
{
    *ret = (struct mr_totals){
        .nodes_up = core->nodes_by_state[MR_NODE_UP],
        .nodes_down = core->nodes_by_state[MR_NODE_DOWN],
        .nodes_draining = core->nodes_by_state[MR_NODE_DRAINING],
        .nodes_expected = core->nodes_by_state[MR_NODE_EXPECTED],
        .pending = core->pending,
        .running = core->running,
        .leases = core->tables[CORE_LEASES].live,
        .cpu_milli = core->cpu_milli,
        .cpu_free_milli = core->cpu_free_milli,
        .mem_mib = core->mem_mib,
        .mem_free_mib = core->mem_free_mib,
        .accel_milli = core->accel_milli,
        .accel_free_milli = core->accel_free_milli,
    };
}

/* --- the bill ------------------------------------------------------------------------------ */

static void line_put(const struct mr_core *core, const struct core_line *line,
                     struct mr_bill_line *ret)
{
    *ret = (struct mr_bill_line){.tenant = {line->tenant},
                                 .sku = (enum mr_sku)line->sku,
                                 .accel_type = line->accel_type,
                                 .quantity = line->quantity,
                                 .charge_nusd = line->charge_nusd,
                                 .from_us = line->from_us,
                                 .to_us = line->to_us};
    if (line->workload != 0) ret->workload.v = core_workload(core, line->workload)->id;
}

/* What a running lease held since its last entry: cursor 3 * lease + 0, 1, 2. */
static bool accrued_put(const struct mr_core *core, uint64_t index, uint64_t now_us,
                        struct mr_bill_line *ret)
{
    const struct core_lease *l = core_lease(core, (uint32_t)(index / 3));
    if (l->state == MR_LEASE_NONE || l->state == CORE_LEASE_CLAIM) return false;
    if (l->started_us == 0 || l->billed_us >= now_us) return false;
    const struct core_workload *w = core_workload(core, l->workload);
    struct core_charge c;
    core_charge_of(core, l, &c);
    const uint64_t amounts[3] = {c.shape->cpu_milli, c.shape->mem_mib, c.shape->accel_milli};
    uint32_t which = (uint32_t)(index % 3);
    enum mr_sku sku = (enum mr_sku)(MR_SKU_CPU + which);
    uint64_t quantity;
    if (amounts[which] == 0) return false;
    if (!mr_mul_u64(amounts[which] * c.tasks, now_us - l->billed_us, &quantity)) {
        quantity = UINT64_MAX;
    }
    uint64_t rest = l->rest[which];
    uint8_t type = sku == MR_SKU_ACCEL ? c.type : 0;
    *ret = (struct mr_bill_line){.tenant = {w->tenant},
                                 .workload = {w->id},
                                 .sku = sku,
                                 .accel_type = type,
                                 .accrued = true,
                                 .quantity = quantity,
                                 .charge_nusd = core_charge(quantity, core_price(core, sku, type),
                                                            core_sku_divisor(sku), &rest),
                                 .from_us = l->billed_us,
                                 .to_us = now_us};
    return true;
}

int mr_core_bill_next(const struct mr_core *core, uint64_t now_us, uint64_t *cursor,
                      struct mr_bill_line *ret)
{
    uint64_t sums = core->tables[CORE_SUM_LINES].used;
    uint64_t lines = sums + core->tables[CORE_LINES].used;
    uint64_t end = lines + 3 * (uint64_t)core->tables[CORE_LEASES].used;
    for (uint64_t at = *cursor; at < end; at++) {
        *cursor = at + 1;
        if (at < lines) {
            const struct core_line *line =
                at < sums ? (const struct core_line *)core_item(core, CORE_SUM_LINES, (uint32_t)at)
                          : core_line(core, (uint32_t)(at - sums));
            if (line->tenant == 0 || line->to_us == 0) continue;
            line_put(core, line, ret);
            return 0;
        }
        if (accrued_put(core, at - lines, now_us, ret)) return 0;
    }
    *cursor = end;
    return MR_ENOT_FOUND;
}

bool mr_core_possible(const struct mr_core *core, const struct mr_event_submit *submit,
                      struct mr_reason *ret)
{
    struct core_request request = {.shape = &submit->shape,
                                   .tasks_min = MR_MAX(submit->tasks_min, 1u),
                                   .tasks_max = submit->tasks_max,
                                   .topology = submit->topology};
    struct mr_reason reason;
    if (core->nodes_by_state[MR_NODE_UP] == 0 || core->nodes_by_state[MR_NODE_DOWN] > 0 ||
        core->nodes_by_state[MR_NODE_EXPECTED] > 0)
        return true;
    core_place_reason(core, &request, &reason);
    if (reason.code != MR_REASON_NO_SUCH_NODE) return true;
    *ret = reason;
    return false;
}
