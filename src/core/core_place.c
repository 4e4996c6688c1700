/* SPDX-License-Identifier: Apache-2.0 */
/* Places tasks on nodes: from a request and the fleet's index to a plan.
 *
 * A plan is taken from the fleet while it is made, so that each choice sees the ones before it; a
 * plan that does not come off is given back. Order of preference: the accelerator type that the
 * shape names first; the narrowest place that holds all tasks; there the node that is left with
 * the fewest whole devices, then the least cpu; ties by the domain with the least left, then the
 * lowest node.
 *
 * Owns:       the plan table within a step.
 * Invariants: (1) a plan never uses a device that is in use;
 *             (2) it has tasks_min … tasks_max tasks or none;
 *             (3) all of its tasks lie in one place of the topology's level;
 *             (4) equal states give equal plans.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(log nodes) for each node that the plan uses; for a topology in addition the nodes
 *             of at most 2 CORE_PLACES_LOOKED places that have room in sum.
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_place.c
 */
#include "core_reserve.h"
#include "core_value.h"

/* --- entries --------------------------------------------------------------------------------- */

/* Whole devices for `tasks` tasks, lowest first; or the one device that `*tasks` shared tasks fit
 * on with the least left over. */
static uint64_t devices_pick(const struct core_node *n, const struct mr_shape *shape,
                             uint32_t *tasks)
{
    uint64_t devices = 0;
    if (shape->accel_milli == 0) return 0;
    if (shape->accel_milli >= CORE_WHOLE) {
        uint32_t left = *tasks * (shape->accel_milli / CORE_WHOLE);
        for (uint32_t i = 0; i < n->accel_count && left > 0; i++) {
            if (n->device_free[i] != CORE_WHOLE) continue;
            devices |= (uint64_t)1 << i;
            left--;
        }
        MR_ASSERT(left == 0);
#ifdef MR_PLANT_CORE_DOUBLE_PLACE
        /* With one device free of several, the first of the node is used again. */
        if (n->whole == 1 && n->accel_count > 1 && *tasks == 1 && shape->accel_milli == CORE_WHOLE)
            devices = 1;
#endif
        return devices;
    }
    int32_t best = -1;
    for (uint32_t i = 0; i < n->accel_count; i++) {
        if (n->device_free[i] < (int16_t)shape->accel_milli) continue;
        if (best < 0 || n->device_free[i] < n->device_free[best]) best = (int32_t)i;
    }
    MR_ASSERT(best >= 0);
    *tasks = MR_MIN(*tasks, (uint32_t)n->device_free[best] / shape->accel_milli);
    return (uint64_t)1 << best;
}

/* Takes from the fleet what the entry is for, or gives it back. */
static void entry_hold(struct mr_core *core, const struct core_plan *entry,
                       const struct mr_shape *shape, bool take)
{
    if (core->plan_whole)
        core_node_whole(core, entry->node, take);
    else if (take)
        core_node_take(core, entry->node, shape, entry->tasks, entry->devices);
    else
        core_node_give(core, entry->node, shape, entry->tasks, entry->devices);
}

/* One more entry. What the first is, all are: a plan is made for one workload. */
static void entry_add(struct mr_core *core, const struct core_plan *entry,
                      const struct mr_shape *shape)
{
    uint32_t picky = core->view_picky;
    MR_ASSERT(core->plan_count + 1 < core->tables[CORE_PLAN].capacity);
    if (core->plan_count == 0)
        core->plan_whole = picky != 0 && core_workload(core, picky)->exclusive != 0;
    *core_plan(core, ++core->plan_count) = *entry;
    entry_hold(core, entry, shape, true);
}

/* Takes `tasks` tasks on the node: one entry, for shared devices one for each device. */
bool core_plan_add(struct mr_core *core, uint32_t node, const struct mr_shape *shape,
                   uint32_t tasks)
{
    while (tasks > 0) {
        uint32_t here = tasks;
        uint64_t devices = devices_pick(core_node(core, node), shape, &here);
        MR_ASSERT(here > 0);
        if (!core_slot_left(core, CORE_LEASES, core->plan_count + 1)) {
            core->leases_short = 1; /* then the end of a lease anywhere may help */
            return false;
        }
        const struct core_plan entry = {.devices = devices, .node = node, .tasks = here};
        entry_add(core, &entry, shape);
        tasks -= here;
    }
    return true;
}

/* Takes `tasks` tasks where placement by value puts them; false: it has no answer, nothing changed.
 * Work without accelerators goes to nodes without, as long as these have room. */
static bool plan_by_value(struct mr_core *core, uint32_t types, const struct mr_shape *shape,
                          uint32_t tasks)
{
    struct core_fit_spot spot;
    if (core->view_picky != 0) return false;
    if (!core_slot_left(core, CORE_LEASES, core->plan_count + 1)) return false;
    if (shape->accel_milli == 0) {
        uint64_t cpu = (uint64_t)shape->cpu_milli * tasks, mem = (uint64_t)shape->mem_mib * tasks;
        uint32_t bare = core_node_find_bare(core, cpu, mem);
        if (bare != 0) return core_plan_add(core, bare, shape, tasks);
    }
    if (!core_score_find(core, shape, tasks, types, &spot)) return false;
    if (spot.part == 0) return core_plan_add(core, spot.node, shape, tasks);
    const struct core_node *n = core_node(core, spot.node);
    uint32_t device = 0;
    while (device < n->accel_count && n->device_free[device] != (int16_t)spot.part) {
        device++;
    }
    MR_ASSERT(device < n->accel_count && tasks == 1);
    const struct core_plan entry = {
        .devices = (uint64_t)1 << device, .node = spot.node, .tasks = 1};
    return core_plan_keep(core, &entry, shape);
}

void core_plan_cut(struct mr_core *core, const struct mr_shape *shape, uint32_t keep)
{
    /* Giving back what was only planned is no release: no class becomes worth another try. */
    if (core->plan_count == keep) return;
    struct core_released_kept kept;
    core_released_keep(core, &kept);
    while (core->plan_count > keep) {
        const struct core_plan *entry = core_plan(core, core->plan_count--);
        entry_hold(core, entry, shape, false);
    }
    core_released_back(core, &kept);
}

/* The most tasks, at most `most`, that one node holds; *ret_node is that node. */
static uint32_t largest_find(const struct mr_core *core, uint32_t type,
                             const struct mr_shape *shape, uint32_t most, uint32_t *ret_node)
{
    uint32_t low = 0, high = MR_MIN(most, MR_TASKS_PER_NODE_MAX);
    uint32_t node = core_node_find(core, type, shape, high);
    if (node != 0) {
        *ret_node = node;
        return high;
    }
    while (low + 1 < high) {
        uint32_t middle = low + (high - low) / 2;
        node = core_node_find(core, type, shape, middle);
        if (node != 0) {
            low = middle;
            *ret_node = node;
        } else {
            high = middle;
        }
    }
    return low;
}

/* --- places -------------------------------------------------------------------------------- */

/* Fills nodes of the place: in the first pass only nodes that take `full` tasks; in the second the
 * one that the rest fits on best; in the third any. Returns the tasks placed. */
static uint32_t place_pass(struct mr_core *core, uint32_t place, uint32_t type,
                           const struct mr_shape *shape, uint32_t tasks, uint32_t full,
                           bool *ret_ok)
{
    uint32_t placed = 0;
    for (uint32_t at = place; at != 0 && placed < tasks;) {
        bool worth = core_place_bound(core, at, type, shape) > 0;
        uint32_t node = worth ? core_place(core, at)->node_first : 0;
        for (; node != 0 && placed < tasks; node = core_node(core, node)->place_next) {
            uint32_t most = MR_MIN(tasks - placed, MR_TASKS_PER_NODE_MAX);
            uint32_t fit = core_node_fit(core, node, type, shape, most);
            if (fit == 0 || fit < full) continue;
            if (!core_plan_add(core, node, shape, fit)) *ret_ok = false;
            if (!*ret_ok) return placed;
            placed += fit;
        }
        at = core_place_next(core, place, at, worth);
    }
    return placed;
}

static uint32_t place_largest(const struct mr_core *core, uint32_t place, uint32_t type,
                              const struct mr_shape *shape, uint32_t most)
{
    uint32_t largest = 0;
    for (uint32_t at = place; at != 0 && largest < most;) {
        bool worth = core_place_bound(core, at, type, shape) > 0;
        uint32_t node = worth ? core_place(core, at)->node_first : 0;
        for (; node != 0; node = core_node(core, node)->place_next) {
            largest = MR_MAX(largest, core_node_fit(core, node, type, shape, most));
        }
        at = core_place_next(core, place, at, worth);
    }
    return largest;
}

/* The node of the place on which the rest fits with the least left over. */
static uint32_t place_tightest(const struct mr_core *core, uint32_t place, uint32_t type,
                               const struct mr_shape *shape, uint32_t tasks)
{
    uint32_t best = 0, best_fit = UINT32_MAX;
    for (uint32_t at = place; at != 0 && best_fit > tasks;) {
        bool worth = core_place_bound(core, at, type, shape) > 0;
        uint32_t node = worth ? core_place(core, at)->node_first : 0;
        for (; node != 0; node = core_node(core, node)->place_next) {
            uint32_t fit = core_node_fit(core, node, type, shape, MR_TASKS_PER_NODE_MAX);
            if (fit >= tasks && fit < best_fit) {
                best = node;
                best_fit = fit;
            }
        }
        at = core_place_next(core, place, at, worth);
    }
    return best;
}

/* Places exactly `tasks` tasks, which fit, in the place. */
static bool place_fill(struct mr_core *core, uint32_t place, uint32_t type,
                       const struct mr_shape *shape, uint32_t tasks)
{
    bool ok = true;
    uint32_t most = MR_MIN(tasks, MR_TASKS_PER_NODE_MAX);
    uint32_t full = place_largest(core, place, type, shape, most);
    MR_ASSERT(full > 0);
    uint32_t even = tasks - tasks % full;
    uint32_t placed = place_pass(core, place, type, shape, even, full, &ok);
    if (ok && placed < tasks && tasks - placed <= MR_TASKS_PER_NODE_MAX) {
        uint32_t node = place_tightest(core, place, type, shape, tasks - placed);
        if (node != 0) {
            ok = core_plan_add(core, node, shape, tasks - placed);
            placed = tasks;
        }
    }
    if (ok && placed < tasks) {
        placed += place_pass(core, place, type, shape, tasks - placed, 1, &ok);
    }
    MR_ASSERT(!ok || placed == tasks);
    return ok;
}

/* --- gangs --------------------------------------------------------------------------------- */

/* Whole domains first while the rest is larger than one, so that large gangs leave whole domains
 * to others. Returns the tasks placed. */
static uint32_t domains_fill(struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                             uint32_t tasks, bool *ret_ok)
{
    uint32_t placed = 0;
    const uint64_t *mask = core->place_mask[CORE_DOMAIN][type];
    while (placed < tasks) {
        uint32_t b = CORE_PLACE_BUCKETS;
        while (b > 0 && !mr_bit_get(mask, b - 1)) {
            b--;
        }
        if (b == 0) break;
        uint32_t domain = core->place_bucket[CORE_DOMAIN][type][b - 1];
        uint32_t fit = core_place_fit(core, domain, type, shape, tasks - placed + 1);
        if (fit == 0 || fit > tasks - placed) break;
        if (!place_fill(core, domain, type, shape, fit)) *ret_ok = false;
        if (!*ret_ok) break;
        placed += fit;
    }
    return placed;
}

/* Tasks anywhere; returns how many were placed, at most `tasks`. */
static uint32_t anywhere_fill(struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                              uint32_t tasks)
{
    bool ok = true;
    uint32_t placed = domains_fill(core, type, shape, tasks, &ok);
    if (!ok) return placed;
    uint32_t most = tasks - placed;
    if (most > 1) {
        uint32_t domain = core_place_find(core, CORE_DOMAIN, type, shape, most);
        if (domain != 0) {
            return place_fill(core, domain, type, shape, most) ? tasks : placed;
        }
    }
    while (placed < tasks) {
        uint32_t node = 0;
        most = largest_find(core, type, shape, MR_MIN(most, tasks - placed), &node);
        if (most == 0) break;
        if (!core_plan_add(core, node, shape, most)) break;
        placed += most;
    }
    return placed;
}

/* All tasks on one node. */
static bool plan_on_node(struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                         uint32_t tasks)
{
    uint32_t types = shape->accel_milli > 0 ? (uint32_t)1 << type : 0;
    if (plan_by_value(core, types, shape, tasks)) return true;
    uint32_t node = core_node_find(core, type, shape, tasks);
    if (node != 0 && core_plan_add(core, node, shape, tasks)) return true;
    core_plan_cut(core, shape, 0);
    return false;
}

static uint32_t plan_exactly(struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                             enum mr_topology topology, uint32_t tasks)
{
    MR_ASSERT(core->plan_count == 0);
    if (tasks <= MR_TASKS_PER_NODE_MAX) {
        if (plan_on_node(core, type, shape, tasks)) return tasks;
    }
    if (topology == MR_TOPOLOGY_NODE || tasks == 1) return 0;
    uint32_t levels = core_topology_levels(topology);
    for (uint32_t i = 0; i < levels; i++) {
        uint32_t place = core_place_find(core, core_topology_widen[i], type, shape, tasks);
        if (place == 0) continue;
        if (place_fill(core, place, type, shape, tasks)) return tasks;
        core_plan_cut(core, shape, 0);
    }
    if (!core_topology_unbounded(topology)) return 0;
    uint64_t bound = core_fleet_bound(core, type, shape);
    uint32_t placed = bound >= tasks ? anywhere_fill(core, type, shape, tasks) : (uint32_t)bound;
#ifdef MR_PLANT_CORE_GANG_PART
    if (placed == tasks && core->plan_count > 2) {
        struct core_plan last = *core_plan(core, core->plan_count--);
        entry_hold(core, &last, shape, false);
        return tasks;
    }
#endif
    if (placed == tasks) return tasks;
    core->plan_short = MR_MIN(core->plan_short, tasks - placed);
    core_plan_cut(core, shape, 0);
    return 0;
}

/* One task that takes any of several types goes wherever it leaves the most room. */
static bool plan_by_fit(struct mr_core *core, const struct core_request *request, uint8_t *ret_type)
{
    const struct mr_shape *shape = request->shape;
    if (request->tasks_max != 1 || shape->accel_milli == 0) return false;
    bool listed = false;
    for (uint32_t i = 0; i < MR_SHAPE_ALTERNATIVES; i++) {
        listed = listed || shape->accel_types[i] != 0;
    }
    if (listed && shape->accel_order != MR_ACCEL_ORDER_FIT) return false;
    if (!plan_by_value(core, core_fit_types(shape), shape, 1)) return false;
    *ret_type = core_node(core, core_plan(core, 1)->node)->accel_type;
    return true;
}

static uint32_t plan_in_fleet(struct mr_core *core, const struct core_request *request,
                              uint8_t *ret_type)
{
    uint8_t types[MR_ACCEL_TYPES_MAX];
    if (plan_by_fit(core, request, ret_type)) return 1;
    uint32_t count = core_shape_types(core, request->shape, types);
    for (uint32_t i = 0; i < count; i++) {
        const struct mr_shape *shape = request->shape;
        /* As many as fit: the largest size is tried first, then it is halved towards the least. */
        uint32_t low = request->tasks_min, high = request->tasks_max;
        uint32_t placed = plan_exactly(core, types[i], shape, request->topology, high);
        if (placed == 0 && low < high) {
            uint32_t best = 0;
            high--;
            while (low <= high) {
                uint32_t middle =
                    best == 0 && low == request->tasks_min ? low : low + (high - low + 1) / 2;
                placed = plan_exactly(core, types[i], shape, request->topology, middle);
                if (placed > 0) {
                    best = middle;
                    low = middle + 1;
                    core_plan_cut(core, shape, 0);
                } else {
                    if (best == 0) break;
                    high = middle - 1;
                }
            }
            placed = 0;
            if (best > 0) placed = plan_exactly(core, types[i], shape, request->topology, best);
        }
        if (placed == 0) continue;
        MR_INVARIANT(2, placed >= request->tasks_min && placed <= request->tasks_max);
        *ret_type = shape->accel_milli == 0 ? 0 : types[i];
        return placed;
    }
    MR_ASSERT(core->plan_count == 0);
    return 0;
}

uint32_t core_plan_make(struct mr_core *core, const struct core_request *request, uint8_t *ret_type)
{
    MR_ASSERT(request->tasks_min > 0 && request->tasks_min <= request->tasks_max);
    core->plan_count = 0;
    core->plan_short = UINT32_MAX;
    if (core->view_reserved != 0) return core_window_plan(core, request, ret_type);
    if (request->spread != MR_SPREAD_NONE) return core_spread_plan(core, request, ret_type);
    return request->segment != 0 ? core_segment_plan(core, request, ret_type)
                                 : plan_in_fleet(core, request, ret_type);
}

/* --- in pieces ------------------------------------------------------------------------------- */

bool core_plan_keep(struct mr_core *core, const struct core_plan *entry,
                    const struct mr_shape *shape)
{
    const struct core_node *n = core_node(core, entry->node);
    int64_t cpu_milli = (int64_t)shape->cpu_milli * entry->tasks;
    int64_t mem_mib = (int64_t)shape->mem_mib * entry->tasks;
    int64_t each = MR_MIN((int64_t)shape->accel_milli, (int64_t)CORE_WHOLE);
    if (!core_node_open(core, entry->node)) return false;
    if (n->cpu_free_milli < cpu_milli || n->mem_free_mib < mem_mib) return false;
    if (each > 0 && each < CORE_WHOLE) each *= entry->tasks;
    for (uint32_t i = 0; i < n->accel_count; i++) {
        if (((entry->devices >> i) & 1u) != 0 && n->device_free[i] < each) return false;
    }
    if (!core_slot_left(core, CORE_LEASES, core->plan_count + 1)) return false;
    entry_add(core, entry, shape);
    return true;
}

bool core_plan_within(struct mr_core *core, uint32_t place, uint32_t type,
                      const struct mr_shape *shape, uint32_t tasks)
{
    uint32_t kept = core->plan_count;
    MR_ASSERT(tasks > 0);
    if (core_place_fit(core, place, type, shape, tasks) < tasks) return false;
    if (place_fill(core, place, type, shape, tasks)) return true;
    core_plan_cut(core, shape, kept);
    return false;
}

bool core_plan_anywhere(struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                        uint32_t tasks)
{
    uint32_t kept = core->plan_count;
    if (core->view_reserved != 0) {
        if (core_window_fill(core, type, shape, tasks) == tasks) return true;
        core_plan_cut(core, shape, kept);
        return false;
    }
    if (core_fleet_bound(core, type, shape) < tasks) return false;
    if (anywhere_fill(core, type, shape, tasks) == tasks) return true;
    core_plan_cut(core, shape, kept);
    return false;
}

void core_plan_drop(struct mr_core *core, const struct mr_shape *shape)
{
    core_plan_cut(core, shape, 0);
}
