/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants: their tree and what is set for each.
 *
 * Owns:       the tree of tenants, their limits and policies.
 * Invariants: (1) the tree has no cycle and is at most CORE_TENANT_DEPTH deep;
 *             (2) a child stands in its parent's list and nowhere else;
 *             (3) what is set is given back as it was set, within CORE_AMOUNT_MAX.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(CORE_AMOUNTS * CORE_TENANT_DEPTH + tenants below it + classes that wait for its
 *             quota).
 * Idea:       docs/internals/tenancy.md   Tests: tests/unit/core/test_core_quota.c
 */
#include "core_quota.h"

static bool tenant_present(const struct mr_core *core, uint32_t tenant)
{
    if (tenant == 0 || tenant > core->limits.tenants) return false;
    return core_tenant(core, tenant)->present != 0;
}

/* Depth of the tenant when it hangs below `parent`; 0 when there is a cycle or it is too deep. */
static uint32_t depth_below(const struct mr_core *core, uint32_t tenant, uint32_t parent)
{
    uint32_t depth = 1;
    for (uint32_t at = parent; at != 0; at = core_tenant(core, at)->parent) {
        if (at == tenant) return 0;
        if (++depth > CORE_TENANT_DEPTH) return 0;
    }
    return depth;
}

uint32_t core_tenant_next(const struct mr_core *core, uint32_t top, uint32_t at)
{
    uint32_t next = core_tenant(core, at)->child_first;
    while (next == 0 && at != top) {
        next = core_tenant(core, at)->child_next;
        if (next == 0) at = core_tenant(core, at)->parent;
    }
    return next;
}

/* Levels of the tree below the tenant. */
static uint32_t levels_below(const struct mr_core *core, uint32_t tenant)
{
    uint32_t own = core_tenant(core, tenant)->depth, deepest = own;
    for (uint32_t at = tenant; at != 0; at = core_tenant_next(core, tenant, at))
        deepest = MR_MAX(deepest, (uint32_t)core_tenant(core, at)->depth);
    return deepest - own;
}

bool core_tenant_above(const struct mr_core *core, uint32_t above, uint32_t tenant)
{
    for (uint32_t at = tenant; at != 0; at = core_tenant(core, at)->parent) {
        if (at == above) return true;
    }
    return false;
}

/* --- the tree -------------------------------------------------------------------------------- */

static void child_join(struct mr_core *core, uint32_t tenant)
{
    struct core_tenant *t = core_tenant(core, tenant);
    struct core_tenant *parent = core_tenant(core, t->parent); /* slot 0 stands for the fleet */
    t->child_prev = 0;
    t->child_next = parent->child_first;
    if (t->child_next != 0) core_tenant(core, t->child_next)->child_prev = tenant;
    parent->child_first = tenant;
}

static void child_leave(struct mr_core *core, uint32_t tenant)
{
    struct core_tenant *t = core_tenant(core, tenant);
    if (t->child_prev != 0)
        core_tenant(core, t->child_prev)->child_next = t->child_next;
    else
        core_tenant(core, t->parent)->child_first = t->child_next;
    if (t->child_next != 0) core_tenant(core, t->child_next)->child_prev = t->child_prev;
    t->child_prev = 0;
    t->child_next = 0;
}

/* What it holds and keeps counts above it, or no more. */
static void amounts_count(struct mr_core *core, uint32_t tenant, bool count)
{
    const struct core_tenant *t = core_tenant(core, tenant);
    int sign = count ? 1 : -1;
    for (uint32_t at = t->parent; at != 0; at = core_tenant(core, at)->parent) {
        struct core_tenant *above = core_tenant(core, at);
        core_past_pass(core, at);
        above->share_epoch = 0;
        above->running += (uint32_t)sign * t->running;
        above->pending += (uint32_t)sign * t->pending;
        for (uint32_t i = 0; i < CORE_AMOUNTS; i++)
            above->amounts[i].held += (uint64_t)sign * t->amounts[i].held;
    }
    if (t->parent == 0) return;
    for (uint32_t i = 0; i < CORE_AMOUNTS; i++) {
        uint64_t counted = MR_MAX(t->amounts[i].load, t->amounts[i].keep);
        if (counted > 0) core_quota_load(core, t->parent, i, sign * (int64_t)counted);
    }
}

static void tenant_make(struct mr_core *core, uint32_t id)
{
    struct core_table *table = &core->tables[CORE_TENANTS];
    struct core_table *sums = &core->tables[CORE_SUM_LINES];
    table->used = MR_MAX(table->used, id + 1);
    table->live++;
    sums->used = MR_MAX(sums->used, (id + 1) * CORE_SUMS);
    struct core_tenant *t = core_tenant(core, id);
    t->present = 1;
    t->fold_us = core->now_us;
    t->mean_us = core->now_us;
}

/* --- limits ---------------------------------------------------------------------------------- */

static void amount_set(struct core_tenant *t, uint32_t i, uint64_t nominal,
                       const struct mr_lending *lending)
{
    struct core_amount *a = &t->amounts[i];
    a->nominal = nominal >= CORE_AMOUNT_MAX ? UINT64_MAX : nominal;
    a->limit = UINT64_MAX;
    a->keep = 0;
    if (a->nominal == UINT64_MAX) return;
    if (lending->borrow_max < CORE_AMOUNT_MAX) a->limit = a->nominal + lending->borrow_max;
    a->keep = MR_MIN(lending->keep, a->nominal);
    if (a->limit > a->nominal) t->lends = 1;
}

static void limits_set(struct mr_core *core, struct core_tenant *t,
                       const struct mr_event_tenant *event)
{
    const uint64_t nominal[MR_RESOURCE_COUNT] = {event->quota_cpu_milli, event->quota_mem_mib,
                                                 event->quota_accel_milli};
    const struct mr_lending none = {.borrow_max = 0, .keep = 0};
    t->lends = 0;
    t->typed = 0;
    for (uint32_t i = 0; i < MR_RESOURCE_COUNT; i++)
        amount_set(t, i, nominal[i], &event->lending[i]);
    for (uint32_t type = 1; type < MR_ACCEL_TYPES_MAX; type++)
        amount_set(t, CORE_ACCEL + type, UINT64_MAX, &none);
    for (uint32_t i = 0; i < MR_TENANT_TYPES_MAX; i++) {
        const struct mr_type_quota *type = &event->types[i];
        if (type->accel_type == 0 || type->quota_milli >= CORE_AMOUNT_MAX) continue;
        amount_set(t, CORE_ACCEL + type->accel_type, type->quota_milli, &type->lending);
        t->typed |= (uint64_t)1 << type->accel_type;
    }
    t->weight = event->weight;
    t->running_max = event->running_max;
    t->reclaim = (uint8_t)event->reclaim;
    t->within = (uint8_t)event->within;
    if (t->half_life_us == 0 || event->half_life_us == 0) { /* its past begins now, or is none */
        memset(t->past, 0, sizeof t->past);
        memset(t->mean, 0, sizeof t->mean);
        t->fold_us = core->now_us;
        t->mean_us = core->now_us;
    }
    t->half_life_us = event->half_life_us;
}

bool mr_core_tenant_valid(const struct mr_core *core, const struct mr_event_tenant *event)
{
    uint32_t id = event->id.v, parent = event->parent.v;
    if (id == 0 || id > core->limits.tenants) return false;
    if (event->weight == 0 || event->weight > 1000) return false;
    if (parent != 0 && !tenant_present(core, parent)) return false;
    if (event->reclaim >= MR_PREEMPT_COUNT || event->within >= MR_PREEMPT_ANY) return false;
    for (uint32_t i = 0; i < MR_TENANT_TYPES_MAX; i++) {
        if (event->types[i].accel_type >= MR_ACCEL_TYPES_MAX) return false;
    }
    uint32_t depth = depth_below(core, id, parent);
    if (depth == 0) return false;
    if (!core_tenant(core, id)->present) return true;
    return depth + levels_below(core, id) <= CORE_TENANT_DEPTH;
}

/* Those whose claims wait for its quota wait in the queue again: what they wait for may never come
 * now. */
static void claims_lost(struct mr_core *core, uint32_t tenant)
{
    while (core_tenant(core, tenant)->claim_first != 0) {
        uint32_t workload = core_tenant(core, tenant)->claim_first;
        core_over_leave(core, workload);
        core_claim_lost(core, workload);
    }
}

bool core_tenant_set(struct mr_core *core, const struct mr_event_tenant *event)
{
    uint32_t id = event->id.v, parent = event->parent.v;
    if (!mr_core_tenant_valid(core, event)) return false;
    struct core_tenant *t = core_tenant(core, id);
    bool known = t->present != 0;
    if (!known) tenant_make(core, id);
    claims_lost(core, id);
    if (t->parent != parent) {
        for (uint32_t at = t->parent; at != 0; at = core_tenant(core, at)->parent) {
            core_class_tenant_freed(core, at); /* of its own work too: their quota binds no more */
        }
    }
    core_past_pass(core, id);
    amounts_count(core, id, false);
    if (known) child_leave(core, id);
    t->parent = parent;
    child_join(core, id);
    for (uint32_t at = id; at != 0; at = core_tenant_next(core, id, at))
        core_tenant(core, at)->depth =
            (uint8_t)(core_tenant(core, core_tenant(core, at)->parent)->depth + 1);
    limits_set(core, t, event);
    amounts_count(core, id, true);
    t->share_epoch = 0;
    /* Its limits may have risen, and it may keep less from those above it. */
    for (uint32_t at = id; at != 0; at = core_tenant(core, at)->parent)
        core_class_tenant_freed(core, at);
    return true;
}
