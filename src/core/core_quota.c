/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants: their tree, what they hold, what they may hold, and their fair share.
 *
 * Owns:       tenants.
 * Invariants: (1) a tenant's held amounts are the sums over the leases and claims of its own
 *             workloads and of those of the tenants below it;
 *             (2) the tree has no cycle and is at most CORE_TENANT_DEPTH deep;
 *             (3) own amounts are never more than held ones.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(CORE_TENANT_DEPTH) each.
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_quota.c
 */
#include "core_int.h"

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

static void amounts_move(struct mr_core *core, uint32_t from, const struct core_tenant *t, int sign)
{
    for (uint32_t at = from; at != 0; at = core_tenant(core, at)->parent) {
        struct core_tenant *above = core_tenant(core, at);
        above->cpu_milli += (uint64_t)sign * t->cpu_milli;
        above->mem_mib += (uint64_t)sign * t->mem_mib;
        above->accel_milli += (uint64_t)sign * t->accel_milli;
        above->running += (uint32_t)sign * t->running;
        above->pending += (uint32_t)sign * t->pending;
    }
}

/* What hangs below a tenant keeps its depth, so only leaves may go deeper. */
static bool leaf(const struct mr_core *core, uint32_t tenant)
{
    for (uint32_t i = 1; i < core->tables[CORE_TENANTS].used; i++) {
        const struct core_tenant *t = core_tenant(core, i);
        if (t->present && t->parent == tenant) return false;
    }
    return true;
}

static void tenant_make(struct mr_core *core, uint32_t id)
{
    struct core_table *table = &core->tables[CORE_TENANTS];
    struct core_table *sums = &core->tables[CORE_SUM_LINES];
    table->used = MR_MAX(table->used, id + 1);
    table->live++;
    sums->used = MR_MAX(sums->used, (id + 1) * CORE_SUMS);
    core_tenant(core, id)->present = 1;
}

bool core_tenant_set(struct mr_core *core, const struct mr_event_tenant *event)
{
    uint32_t id = event->id.v, parent = event->parent.v;
    if (id == 0 || id > core->limits.tenants) return false;
    if (event->weight == 0 || event->weight > 1000) return false;
    if (parent != 0 && !tenant_present(core, parent)) return false;
    uint32_t depth = depth_below(core, id, parent);
    if (depth == 0) return false;
    struct core_tenant *t = core_tenant(core, id);
    bool moves = t->present && t->parent != parent;
    if (moves && depth > t->depth && !leaf(core, id)) return false;
    if (!t->present) tenant_make(core, id);
    if (moves) {
        amounts_move(core, t->parent, t, -1);
        for (uint32_t at = t->parent; at != 0; at = core_tenant(core, at)->parent) {
            core_class_tenant_freed(core, at); /* of its own work too: their quota binds no more */
        }
        amounts_move(core, parent, t, 1);
    }
    t->parent = parent;
    t->depth = (uint8_t)depth;
    t->weight = event->weight;
    t->share_epoch = 0;
    t->quota_cpu_milli = event->quota_cpu_milli;
    t->quota_mem_mib = event->quota_mem_mib;
    t->quota_accel_milli = event->quota_accel_milli;
    t->running_max = event->running_max;
    core_class_tenant_freed(core, id); /* its limits may have risen */
    return true;
}

static uint64_t tasks_within(uint64_t held, uint64_t quota, uint64_t each, uint64_t most)
{
    if (each == 0 || quota == UINT64_MAX) return most;
    if (held >= quota) return 0;
    return MR_MIN(most, (quota - held) / each);
}

uint32_t core_quota_tasks(const struct mr_core *core, uint32_t tenant, const struct mr_shape *shape,
                          uint32_t most, bool one_more_running, struct mr_reason *ret_reason,
                          uint32_t *ret_tenant)
{
    uint64_t tasks = most;
    for (uint32_t at = tenant; at != 0; at = core_tenant(core, at)->parent) {
        const struct core_tenant *t = core_tenant(core, at);
        if (one_more_running && t->running >= t->running_max) {
            *ret_reason = (struct mr_reason){
                .code = MR_REASON_TENANT_JOBS, .a = t->running, .b = t->running_max};
            *ret_tenant = at;
            return 0;
        }
        const struct {
            uint64_t held, quota, each;
            enum mr_resource resource;
        } amounts[] = {
            {t->accel_milli, t->quota_accel_milli, shape->accel_milli, MR_RESOURCE_ACCEL},
            {t->cpu_milli, t->quota_cpu_milli, shape->cpu_milli, MR_RESOURCE_CPU},
            {t->mem_mib, t->quota_mem_mib, shape->mem_mib, MR_RESOURCE_MEMORY},
        };
        for (size_t i = 0; i < MR_COUNT_OF(amounts); i++) {
            uint64_t within =
                tasks_within(amounts[i].held, amounts[i].quota, amounts[i].each, tasks);
            if (within >= tasks) continue;
            tasks = within;
            *ret_reason = (struct mr_reason){.code = MR_REASON_QUOTA,
                                             .resource = amounts[i].resource,
                                             .a = amounts[i].held,
                                             .b = amounts[i].quota,
                                             .c = amounts[i].each};
            *ret_tenant = at;
        }
    }
    return (uint32_t)tasks;
}

static void held_change(struct mr_core *core, uint32_t tenant, const struct mr_shape *shape,
                        uint32_t tasks, bool take)
{
    MR_ASSERT(tasks > 0);
    uint64_t cpu = (uint64_t)shape->cpu_milli * tasks;
    uint64_t mem = (uint64_t)shape->mem_mib * tasks;
    uint64_t accel = (uint64_t)shape->accel_milli * tasks;
    for (uint32_t at = tenant; at != 0; at = core_tenant(core, at)->parent) {
        struct core_tenant *t = core_tenant(core, at);
        uint64_t *held[2][3] = {{&t->cpu_milli, &t->mem_mib, &t->accel_milli},
                                {&t->own_cpu_milli, &t->own_mem_mib, &t->own_accel_milli}};
        uint32_t rows = at == tenant ? 2 : 1;
        if (at == tenant) t->share_epoch = 0;
        const uint64_t amount[3] = {cpu, mem, accel};
        for (uint32_t row = 0; row < rows; row++) {
            for (uint32_t i = 0; i < 3; i++) {
                MR_INVARIANT(1, take || *held[row][i] >= amount[i]);
                *held[row][i] += take ? amount[i] : (uint64_t)0 - amount[i];
            }
        }
        if (!take) core_class_tenant_freed(core, at);
    }
}

void core_quota_take(struct mr_core *core, uint32_t tenant, const struct mr_shape *shape,
                     uint32_t tasks)
{
    held_change(core, tenant, shape, tasks, true);
}

void core_quota_give(struct mr_core *core, uint32_t tenant, const struct mr_shape *shape,
                     uint32_t tasks)
{
    held_change(core, tenant, shape, tasks, false);
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

/* Dominant share over weight, in 2^-32 of the fleet (Ghodsi et al. 2011, section 4.1). */
uint64_t core_tenant_share(struct mr_core *core, uint32_t tenant)
{
    struct core_tenant *t = core_tenant(core, tenant);
    MR_ASSERT(t->weight > 0);
    if (t->share_epoch == core->share_epoch) return t->share;
    const uint64_t parts[3][2] = {{t->own_cpu_milli, core->cpu_milli},
                                  {t->own_mem_mib, core->mem_mib},
                                  {t->own_accel_milli, core->accel_milli}};
    uint64_t share = 0;
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t held = MR_MIN(parts[i][0], parts[i][1]);
        if (held == 0) continue;
        share = MR_MAX(share, mr_mul_div_u64(held, (uint64_t)1 << 32, parts[i][1]));
    }
    t->share = share * 1000 / t->weight;
    t->share_epoch = core->share_epoch;
    return t->share;
}
