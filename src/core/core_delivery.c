/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes to come: dated supply.
 *
 * A node that is to be delivered is described as any other, with its date, and is expected until it
 * is there. Nothing is placed on it. But its calendar is a calendar, so a reservation that begins
 * when it is there may have it, and a maintenance may end its term. Nodes of one date and one type
 * of accelerators are a delivery, so what is asked of the future costs O(dates), not O(nodes).
 *
 * A delivery that is late is counted on no more, until its nodes come.
 *
 * Owns:       deliveries, and which nodes are in them.
 * Invariants: (1) a node is in a delivery as long as it is expected, and no longer;
 *             (2) deliveries ascend by date, then by type; none is empty.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(1) to leave, O(deliveries) to join one that is not the last; O(nodes to come) to
 *             look ahead, as booking does.
 * Idea:       docs/internals/reservations.md   Tests: tests/unit/core/test_core_delivery.c
 */
#include "core_reserve.h"

#define FROM_US_MAX ((uint64_t)1 << 59) /* as reservations end at the latest */

/* --- joining and leaving ---------------------------------------------------------------------- */

static bool after(const struct core_delivery *d, uint64_t comes_us, uint8_t type)
{
    return d->comes_us != comes_us ? d->comes_us > comes_us : d->accel_type > type;
}

/* The last delivery that is not after; 0: none. From the end, as contracts are told in order. */
static uint32_t last_until(const struct mr_core *core, uint64_t comes_us, uint8_t type)
{
    uint32_t at = core->delivery_last;
    while (at != 0 && after(core_delivery(core, at), comes_us, type)) {
        at = core_delivery(core, at)->prev;
    }
    return at;
}

static bool is_that(const struct mr_core *core, uint32_t at, uint64_t comes_us, uint8_t type)
{
    const struct core_delivery *d = core_delivery(core, at);
    return at != 0 && d->comes_us == comes_us && d->accel_type == type;
}

bool core_delivery_valid(const struct mr_core *core, const struct mr_event_node *event)
{
    if (event->from_us <= core->now_us) return true;
    if (event->from_us > FROM_US_MAX) return false;
    if (event->id.v == 0 || event->id.v > core->limits.nodes) return false;
    uint8_t state = core_node(core, event->id.v)->state;
    if (state != MR_NODE_ABSENT && state != MR_NODE_EXPECTED) return false;
    uint32_t at = last_until(core, event->from_us, event->accel_type);
    return is_that(core, at, event->from_us, event->accel_type) ||
           core_slot_left(core, CORE_DELIVERIES, 1);
}

static uint32_t delivery_make(struct mr_core *core, uint32_t prev, uint64_t comes_us, uint8_t type)
{
    uint32_t at = core_slot_take(core, CORE_DELIVERIES);
    MR_ASSERT(at != 0); /* core_delivery_valid saw it */
    uint32_t next = prev != 0 ? core_delivery(core, prev)->next : core->delivery_first;
    *core_delivery(core, at) = (struct core_delivery){
        .comes_us = comes_us, .accel_type = type, .prev = prev, .next = next};
    *(prev != 0 ? &core_delivery(core, prev)->next : &core->delivery_first) = at;
    *(next != 0 ? &core_delivery(core, next)->prev : &core->delivery_last) = at;
    return at;
}

static void sums_add(struct core_delivery *d, const struct core_node *n, int sign)
{
    d->nodes += (uint32_t)sign;
    d->cpu_milli += (uint64_t)(sign * (int64_t)n->cpu_milli);
    d->mem_mib += (uint64_t)(sign * (int64_t)n->mem_mib);
    d->accel_milli += (uint64_t)(sign * (int64_t)n->accel_count * CORE_WHOLE);
}

void core_delivery_join(struct mr_core *core, uint32_t node, uint64_t comes_us)
{
    struct core_node *n = core_node(core, node);
    MR_ASSERT(n->delivery == 0 && n->lease_count == 0);
    uint32_t at = last_until(core, comes_us, n->accel_type);
    if (!is_that(core, at, comes_us, n->accel_type))
        at = delivery_make(core, at, comes_us, n->accel_type);
    struct core_delivery *d = core_delivery(core, at);
    n->delivery = at;
    n->delivery_prev = d->node_last;
    *(d->node_last != 0 ? &core_node(core, d->node_last)->delivery_next : &d->node_first) = node;
    d->node_last = node;
    sums_add(d, n, 1);
}

void core_delivery_leave(struct mr_core *core, uint32_t node)
{
    struct core_node *n = core_node(core, node);
    uint32_t at = n->delivery, prev = n->delivery_prev, next = n->delivery_next;
    if (at == 0) return;
    struct core_delivery *d = core_delivery(core, at);
    *(prev != 0 ? &core_node(core, prev)->delivery_next : &d->node_first) = next;
    *(next != 0 ? &core_node(core, next)->delivery_prev : &d->node_last) = prev;
    n->delivery = n->delivery_prev = n->delivery_next = 0;
    sums_add(d, n, -1);
    if (d->nodes > 0) return;
    *(d->prev != 0 ? &core_delivery(core, d->prev)->next : &core->delivery_first) = d->next;
    *(d->next != 0 ? &core_delivery(core, d->next)->prev : &core->delivery_last) = d->prev;
    core_slot_give(core, CORE_DELIVERIES, at);
}

void core_delivery_due(struct mr_core *core)
{
    while (core->delivery_first != 0) {
        const struct core_delivery *d = core_delivery(core, core->delivery_first);
        if (d->comes_us > core->now_us) return;
        core_node_state(core, d->node_first, MR_NODE_UP);
    }
}

/* --- looking ahead ---------------------------------------------------------------------------- */

void core_delivery_foresee(struct mr_core *core, uint64_t at_us)
{
    for (uint32_t i = core->delivery_first; i != 0; i = core_delivery(core, i)->next) {
        const struct core_delivery *d = core_delivery(core, i);
        if (d->comes_us <= core->now_us) continue; /* late: not counted on */
        bool comes = d->comes_us <= at_us;
        for (uint32_t node = d->node_first; node != 0;
             node = core_node(core, node)->delivery_next) {
            bool there = core_node(core, node)->state == MR_NODE_UP;
            if (there != comes) core_node_foresee(core, node, comes);
        }
    }
}

/* What all of the nodes that are up have of it, for that type of accelerators. */
static uint64_t fleet_has(const struct mr_core *core, enum mr_resource resource, uint32_t type)
{
    if (resource == MR_RESOURCE_CPU) return core->cpu_milli;
    if (resource == MR_RESOURCE_MEMORY) return core->mem_mib;
    return core->type_milli[type];
}

static uint64_t brings(const struct core_delivery *d, enum mr_resource resource, uint32_t type)
{
    if (resource == MR_RESOURCE_CPU) return d->cpu_milli;
    if (resource == MR_RESOURCE_MEMORY) return d->mem_mib;
    return d->accel_type == type ? d->accel_milli : 0;
}

/* When the fleet has so much of it: now (0), at a date, or never as far as is known (UINT64_MAX).
 */
static uint64_t has_from_us(const struct mr_core *core, enum mr_resource resource, uint32_t type,
                            uint64_t need)
{
    uint64_t has = fleet_has(core, resource, type);
    if (has >= need) return 0;
    for (uint32_t i = core->delivery_first; i != 0; i = core_delivery(core, i)->next) {
        const struct core_delivery *d = core_delivery(core, i);
        has += brings(d, resource, type);
        if (has >= need) return d->comes_us;
    }
    return UINT64_MAX;
}

bool core_delivery_reason(const struct mr_core *core, const struct core_request *request,
                          struct mr_reason *ret)
{
    static const enum mr_resource order[] = {MR_RESOURCE_ACCEL, MR_RESOURCE_CPU,
                                             MR_RESOURCE_MEMORY};
    if (core->delivery_first == 0) return false;
    for (size_t i = 0; i < MR_COUNT_OF(order); i++) {
        uint64_t need = core_shape_needs(request->shape, order[i]) * request->tasks_min;
        uint64_t first_us = UINT64_MAX, most = 0;
        for (uint32_t type = 0; type < MR_ACCEL_TYPES_MAX && need > 0; type++) {
            bool counts = order[i] == MR_RESOURCE_ACCEL
                              ? type != 0 && core_shape_accepts(request->shape, type)
                              : type == 0;
            if (!counts) continue;
            first_us = MR_MIN(first_us, has_from_us(core, order[i], type, need));
            most = MR_MAX(most, fleet_has(core, order[i], type));
        }
        if (need == 0 || first_us == 0 || first_us == UINT64_MAX) continue;
        *ret = (struct mr_reason){.code = MR_REASON_DELIVERY,
                                  .resource = order[i],
                                  .a = first_us,
                                  .b = need - most,
                                  .c = need};
        return true;
    }
    return false;
}
