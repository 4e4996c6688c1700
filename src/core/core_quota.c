/* SPDX-License-Identifier: Apache-2.0 */
/* Quotas: what tenants hold, what they may hold, what they borrow and lend.
 *
 * A tenant counts against its parent with what it holds, or with what it keeps from others if that
 * is more. So "siblings may use what it does not use, but for what it keeps" is one comparison on
 * the way up, and what it lent out shows as its parent's load.
 *
 * Owns:       what tenants hold, the claims that wait for a quota.
 * Invariants: (1) a tenant's held amounts are the sums over the leases and claims of its own
 *             workloads and of those of the tenants below it;
 *             (2) its load is what it holds itself, with the larger of load and keep of each tenant
 *             below it;
 *             (3) what starts without a claim lies within every limit above it.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(CORE_TENANT_DEPTH) each; giving back in addition the classes that wait for it.
 * Idea:       docs/internals/tenancy.md   Tests: tests/unit/core/test_core_quota.c
 */
#include "core_quota.h"

/* What one task takes: vCPU, memory, accelerators in sum and of its type. */
struct part {
    uint32_t amount;
    uint64_t each;
};
static uint32_t parts_of(const struct mr_shape *shape, uint32_t type, struct part parts[4])
{
    uint32_t n = 0;
    if (shape->accel_milli > 0) {
        parts[n++] = (struct part){CORE_ACCEL, shape->accel_milli};
        if (type != 0) parts[n++] = (struct part){CORE_ACCEL + type, shape->accel_milli};
    }
    if (shape->cpu_milli > 0) parts[n++] = (struct part){0, shape->cpu_milli};
    if (shape->mem_mib > 0) parts[n++] = (struct part){1, shape->mem_mib};
    return n;
}

enum mr_resource core_amount_resource(uint32_t amount)
{
    return amount >= CORE_ACCEL ? MR_RESOURCE_ACCEL : (enum mr_resource)amount;
}

/* --- asking ---------------------------------------------------------------------------------- */

/* How much more of the amount every tenant from this one up has room for; *ret_tenant is the one
 * that has the least. What a tenant keeps counts above it already. */
static uint64_t room_above(const struct mr_core *core, uint32_t tenant, uint32_t amount,
                           bool borrow, uint32_t *ret_tenant)
{
    uint64_t room = UINT64_MAX, kept = 0;
    for (uint32_t at = tenant; at != 0; at = core_tenant(core, at)->parent) {
        const struct core_amount *a = &core_tenant(core, at)->amounts[amount];
        uint64_t limit = borrow ? a->limit : a->nominal;
        if (limit != UINT64_MAX) {
            uint64_t here = kept + (limit > a->load ? limit - a->load : 0);
            if (here < room) {
                room = here;
                *ret_tenant = at;
            }
        }
        if (a->keep > a->load) kept += a->keep - a->load;
    }
    return room;
}

uint32_t core_quota_tasks(const struct mr_core *core, const struct core_ask *ask,
                          struct core_bound *ret)
{
    uint64_t tasks = ask->most;
    for (uint32_t at = ask->tenant; at != 0 && ask->one_more_running;
         at = core_tenant(core, at)->parent) {
        const struct core_tenant *t = core_tenant(core, at);
        if (t->running < t->running_max) continue;
        *ret = (struct core_bound){
            .reason = {.code = MR_REASON_TENANT_JOBS, .a = t->running, .b = t->running_max},
            .tenant = at};
        return 0;
    }
    struct part parts[4];
    uint32_t count = parts_of(ask->shape, ask->type, parts);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t tenant = 0;
        uint64_t room = room_above(core, ask->tenant, parts[i].amount, ask->borrow, &tenant);
        if (room / parts[i].each >= tasks) continue;
        tasks = room / parts[i].each;
        const struct core_amount *a = &core_tenant(core, tenant)->amounts[parts[i].amount];
        *ret = (struct core_bound){.reason = {.code = MR_REASON_QUOTA,
                                              .resource = core_amount_resource(parts[i].amount),
                                              .a = a->load,
                                              .b = ask->borrow ? a->limit : a->nominal,
                                              .c = parts[i].each},
                                   .tenant = tenant,
                                   .amount = parts[i].amount};
    }
    return (uint32_t)tasks;
}

bool core_quota_room(const struct mr_core *core, const struct core_ask *ask,
                     const uint64_t more[MR_RESOURCE_COUNT], struct core_bound *ret)
{
    const uint32_t amounts[4] = {0, 1, CORE_ACCEL, CORE_ACCEL + ask->type};
    for (uint32_t i = 0; i < (ask->type != 0 ? 4 : 3); i++) {
        uint32_t tenant = 0;
        enum mr_resource resource = core_amount_resource(amounts[i]);
        uint64_t room = room_above(core, ask->tenant, amounts[i], ask->borrow, &tenant);
        if (more[resource] <= room) continue;
        const struct core_amount *a = &core_tenant(core, tenant)->amounts[amounts[i]];
        *ret = (struct core_bound){.reason = {.code = MR_REASON_QUOTA,
                                              .resource = resource,
                                              .a = a->load,
                                              .b = ask->borrow ? a->limit : a->nominal,
                                              .c = more[resource]},
                                   .tenant = tenant,
                                   .amount = amounts[i],
                                   .highest = tenant};
        return false;
    }
    return true;
}

bool core_quota_borrows(const struct mr_core *core, const struct core_ask *ask, uint32_t top)
{
    struct part parts[4];
    uint32_t count = parts_of(ask->shape, ask->type, parts);
    for (uint32_t at = ask->tenant; at != top && at != 0; at = core_tenant(core, at)->parent) {
        const struct core_tenant *t = core_tenant(core, at);
        for (uint32_t i = 0; i < count; i++) {
            const struct core_amount *a = &t->amounts[parts[i].amount];
            if (a->nominal == UINT64_MAX) continue;
            if (a->load + parts[i].each * ask->most > a->nominal) return true;
        }
    }
    return false;
}

/* What its claims count for, as bits: of exclusive work all that its nodes have. */
static uint64_t claims_amounts(const struct mr_core *core, const struct core_workload *w,
                               uint32_t type)
{
    struct part parts[4];
    uint64_t amounts = 0;
    uint32_t count = parts_of(&w->shape, type, parts);
    for (uint32_t i = 0; i < count; i++)
        amounts |= (uint64_t)1 << parts[i].amount;
    if (w->exclusive == MR_EXCLUSIVE_NONE) return amounts;
    for (uint32_t at = w->lease_first; at != 0; at = core_lease(core, at)->of_next) {
        const struct core_lease *l = core_lease(core, at);
        struct core_charge c;
        if (l->state != CORE_LEASE_CLAIM) continue;
        core_charge_of(core, l, &c);
        count = parts_of(c.shape, c.type, parts);
        for (uint32_t i = 0; i < count; i++)
            amounts |= (uint64_t)1 << parts[i].amount;
    }
    return amounts;
}
_Static_assert(CORE_AMOUNTS <= 64, "a bit for each amount");

uint32_t core_quota_over(const struct mr_core *core, uint32_t workload, uint32_t type)
{
    const struct core_workload *w = core_workload(core, workload);
    uint64_t amounts = claims_amounts(core, w, type);
    for (uint32_t at = w->tenant; at != 0; at = core_tenant(core, at)->parent) {
        for (uint64_t left = amounts; left != 0; left &= left - 1) {
            const struct core_amount *a = &core_tenant(core, at)->amounts[__builtin_ctzll(left)];
            if (a->load > a->limit) return at;
        }
    }
    return 0;
}

/* --- types ----------------------------------------------------------------------------------- */

void core_passes_begin(const struct mr_core *core, struct core_passes *passes,
                       const struct core_request *request, uint32_t tenant)
{
    uint64_t typed = 0;
    passes->request = *request;
    passes->at = 0;
    passes->count = 1;
    passes->present = 1;
    passes->types[0] = 0;
    if (request->shape->accel_milli == 0) return;
    for (uint32_t at = tenant; at != 0; at = core_tenant(core, at)->parent)
        typed |= core_tenant(core, at)->typed;
    if (typed == 0) return; /* then one try with all types is as good */
    passes->narrowed = *request->shape;
    memset(passes->narrowed.accel_types, 0, sizeof passes->narrowed.accel_types);
    passes->count = core_shape_types(core, request->shape, passes->types);
    passes->present = passes->count;
    /* A type that the fleet lacks now may come: who is allowed some of it waits for room. */
    uint32_t known = 0;
    for (uint32_t i = 0; i < passes->count; i++)
        known |= 1u << passes->types[i];
    for (uint8_t type = 1; type < MR_ACCEL_TYPES_MAX; type++) {
        if (((known >> type) & 1) || !core_shape_accepts(request->shape, type)) continue;
        passes->types[passes->count++] = type;
    }
    passes->request.shape = &passes->narrowed;
}

bool core_passes_next(const struct mr_core *core, struct core_passes *passes, struct core_ask *ask,
                      struct core_bound *ret_bound)
{
    while (passes->at < passes->count) {
        struct core_bound bound = {.tenant = 0};
        ask->type = passes->types[passes->at++];
        uint32_t allowed = core_quota_tasks(core, ask, &bound);
        if (ask->type != 0) passes->narrowed.accel_types[0] = ask->type;
        if (allowed >= passes->request.tasks_min) {
            passes->request.tasks_max = allowed;
            return true;
        }
        /* What relieves a tenant relieves those above it too: it waits at the highest. */
        uint32_t highest = ret_bound->highest;
        if (ret_bound->tenant == 0) *ret_bound = bound;
        if (highest == 0 || core_tenant_above(core, bound.tenant, highest)) highest = bound.tenant;
        ret_bound->highest = highest;
    }
    return false;
}

/* --- holding --------------------------------------------------------------------------------- */

void core_quota_load(struct mr_core *core, uint32_t tenant, uint32_t amount, int64_t more)
{
    for (uint32_t at = tenant; at != 0 && more != 0; at = core_tenant(core, at)->parent) {
        struct core_amount *a = &core_tenant(core, at)->amounts[amount];
        uint64_t before = MR_MAX(a->load, a->keep);
        MR_INVARIANT(2, more > 0 || a->load >= (uint64_t)-more);
        a->load += (uint64_t)more;
        more = (int64_t)(MR_MAX(a->load, a->keep) - before);
    }
}

static void held_change(struct mr_core *core, uint32_t tenant, const struct mr_shape *shape,
                        uint32_t type, int64_t tasks)
{
    struct part parts[4];
    uint32_t count = parts_of(shape, type, parts);
    for (uint32_t at = tenant; at != 0; at = core_tenant(core, at)->parent) {
        struct core_tenant *t = core_tenant(core, at);
        core_past_pass(core, at);
        t->share_epoch = 0;
        for (uint32_t i = 0; i < count; i++) {
            int64_t more = (int64_t)parts[i].each * tasks;
            struct core_amount *a = &t->amounts[parts[i].amount];
            MR_INVARIANT(1, more > 0 || a->held >= (uint64_t)-more);
            a->held += (uint64_t)more;
        }
    }
    for (uint32_t i = 0; i < count; i++)
        core_quota_load(core, tenant, parts[i].amount, (int64_t)parts[i].each * tasks);
}

void core_quota_take(struct mr_core *core, uint32_t tenant, const struct mr_shape *shape,
                     uint32_t type, uint32_t tasks)
{
    MR_ASSERT(tasks > 0);
    held_change(core, tenant, shape, type, tasks);
}

void core_quota_lend(struct mr_core *core, uint32_t tenant, const struct mr_shape *shape,
                     uint32_t type, uint32_t tasks, bool take)
{
    held_change(core, tenant, shape, type, take ? (int64_t)tasks : -(int64_t)tasks);
}

void core_quota_give(struct mr_core *core, uint32_t tenant, const struct mr_shape *shape,
                     uint32_t type, uint32_t tasks)
{
    MR_ASSERT(tasks > 0);
    held_change(core, tenant, shape, type, -(int64_t)tasks);
    if (core->quiet) return;
    for (uint32_t at = tenant; at != 0; at = core_tenant(core, at)->parent) {
        core_class_tenant_freed(core, at);
        /* Those claims look again, each for its whole way up. */
        uint32_t workload = core_tenant(core, at)->claim_first;
        while (workload != 0) {
            struct core_workload *w = core_workload(core, workload);
            uint32_t next = w->over_next;
            if (core_quota_over(core, workload, w->over_type) == 0) {
                core_over_leave(core, workload);
                if (w->claim_wait == 0 && w->phase == CORE_CLAIMING)
                    core_timer_set(core, workload, core->now_us);
            }
            workload = next;
        }
    }
}

void core_quota_count(struct mr_core *core, uint32_t tenant, int running, int pending)
{
    core->running += (uint32_t)running;
    core->pending += (uint32_t)pending;
    for (uint32_t at = tenant; at != 0; at = core_tenant(core, at)->parent) {
        struct core_tenant *t = core_tenant(core, at);
        MR_ASSERT(running >= 0 || t->running > 0);
        MR_ASSERT(pending >= 0 || t->pending > 0);
        t->running += (uint32_t)running;
        t->pending += (uint32_t)pending;
        if (running < 0) core_class_tenant_freed(core, at);
    }
}

/* --- claims above a limit -------------------------------------------------------------------- */

void core_over_join(struct mr_core *core, uint32_t workload, uint32_t type)
{
    struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(w->over == 0 && w->claimed > 0);
    uint32_t tenant = core_quota_over(core, workload, type);
    if (tenant == 0) return;
    struct core_tenant *t = core_tenant(core, tenant);
    w->over = tenant;
    w->over_type = (uint8_t)type;
    w->over_prev = 0;
    w->over_next = t->claim_first;
    if (w->over_next != 0) core_workload(core, w->over_next)->over_prev = workload;
    t->claim_first = workload;
    w->claim_until_us = core->now_us + CORE_CLAIM_US;
}

void core_over_leave(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    if (w->over == 0) return;
    if (w->over_prev != 0)
        core_workload(core, w->over_prev)->over_next = w->over_next;
    else
        core_tenant(core, w->over)->claim_first = w->over_next;
    if (w->over_next != 0) core_workload(core, w->over_next)->over_prev = w->over_prev;
    w->over = 0;
    w->over_prev = 0;
    w->over_next = 0;
}
