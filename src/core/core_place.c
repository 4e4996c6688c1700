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
#include "core_int.h"

/* --- shapes -------------------------------------------------------------------------------- */

bool core_shape_accepts(const struct mr_shape *shape, uint32_t type)
{
    if (shape->accel_milli == 0) return true;
    if (type == 0) return false;
    bool any = true;
    for (uint32_t i = 0; i < MR_SHAPE_ALTERNATIVES; i++) {
        if (shape->accel_types[i] == type) return true;
        if (shape->accel_types[i] != 0) any = false;
    }
    return any;
}

uint32_t core_shape_types(const struct mr_core *core, const struct mr_shape *shape,
                          uint8_t types[MR_ACCEL_TYPES_MAX])
{
    uint32_t count = 0;
    if (shape->accel_milli == 0) {
        types[count++] = 0;
        return count;
    }
    for (uint32_t i = 0; i < MR_SHAPE_ALTERNATIVES; i++) {
        if (shape->accel_types[i] != 0) types[count++] = shape->accel_types[i];
    }
    if (count > 0) return count;
    for (uint32_t type = 1; type < MR_ACCEL_TYPES_MAX; type++) {
        if (core->type_nodes_up[type] > 0) types[count++] = (uint8_t)type;
    }
    return count;
}

/* --- one node ------------------------------------------------------------------------------ */

uint32_t core_node_fit(const struct mr_core *core, uint32_t node, uint32_t type,
                       const struct mr_shape *shape, uint32_t most)
{
    const struct core_node *n = core_node(core, node);
    if (n->state != MR_NODE_UP) return 0;
    uint64_t fit = most;
    if (shape->cpu_milli > 0) {
        if (n->cpu_free_milli <= 0) return 0;
        fit = MR_MIN(fit, (uint64_t)n->cpu_free_milli / shape->cpu_milli);
    }
    if (shape->mem_mib > 0) {
        if (n->mem_free_mib <= 0) return 0;
        fit = MR_MIN(fit, (uint64_t)n->mem_free_mib / shape->mem_mib);
    }
    if (shape->accel_milli == 0) return (uint32_t)fit;
    if (n->accel_type != type) return 0;
    if (shape->accel_milli >= CORE_WHOLE) {
        return (uint32_t)MR_MIN(fit, (uint64_t)n->whole / (shape->accel_milli / CORE_WHOLE));
    }
    uint64_t shared = (uint64_t)n->whole * (CORE_WHOLE / shape->accel_milli);
    if (n->part >= shape->accel_milli) {
        for (uint32_t i = 0; i < n->accel_count; i++) {
            int16_t free = n->device_free[i];
            if (free > 0 && free < CORE_WHOLE) shared += (uint32_t)free / shape->accel_milli;
        }
    }
    return (uint32_t)MR_MIN(fit, shared);
}

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

/* Takes `tasks` tasks on the node: one entry, for shared devices one for each device. */
static bool plan_add(struct mr_core *core, uint32_t node, const struct mr_shape *shape,
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
        MR_ASSERT(core->plan_count + 1 < core->tables[CORE_PLAN].capacity);
        *core_plan(core, ++core->plan_count) =
            (struct core_plan){.devices = devices, .node = node, .tasks = here};
        core_node_take(core, node, shape, here, devices);
        tasks -= here;
    }
    return true;
}

static void plan_give_back(struct mr_core *core, const struct mr_shape *shape, uint32_t keep)
{
    /* Giving back what was only planned is no release: no class becomes worth another try. */
    struct core_released before[MR_ACCEL_TYPES_MAX];
    memcpy(before, core->released, sizeof before);
    while (core->plan_count > keep) {
        const struct core_plan *entry = core_plan(core, core->plan_count--);
        core_node_give(core, entry->node, shape, entry->tasks, entry->devices);
    }
    memcpy(core->released, before, sizeof before);
}

void core_plan_undo(struct mr_core *core, const struct mr_shape *shape)
{
    plan_give_back(core, shape, 0);
}

/* --- finding one node for t tasks ---------------------------------------------------------- */

static uint64_t domain_left(const struct mr_core *core, uint32_t node, uint32_t type)
{
    const struct core_node *n = core_node(core, node);
    if (n->place == 0 || core_place(core, n->place)->level != CORE_DOMAIN) return 0;
    return core_place_type(core, n->place, type)->free_milli;
}

static uint32_t node_of_state(const struct mr_core *core, uint32_t state)
{
    const struct core_free_state *s = core_free_state(core, state);
    uint32_t best = s->node_first;
    uint64_t best_left = domain_left(core, best, s->accel_type);
    uint32_t at = core_node(core, best)->state_next;
    for (uint32_t i = 1; i < CORE_TIES_LOOKED && at != 0; i++) {
        uint64_t left = domain_left(core, at, s->accel_type);
        if (left < best_left || (left == best_left && at < best)) {
            best = at;
            best_left = left;
        }
        at = core_node(core, at)->state_next;
    }
    return best;
}

static uint32_t find_whole(const struct mr_core *core, uint32_t type, uint64_t whole, uint64_t cpu,
                           uint64_t mem)
{
    for (uint64_t w = whole; w < CORE_WHOLE_GROUPS; w++) {
        w = mr_bit_find_set(core->whole_mask[type], CORE_WHOLE_GROUPS, w);
        if (w >= CORE_WHOLE_GROUPS) break;
        uint32_t state = core_tree_best(core, core->whole_root[type][w], 0, cpu, mem, 0);
        if (state != 0) return node_of_state(core, state);
    }
    return 0;
}

static uint32_t find_cpu(const struct mr_core *core, uint64_t cpu, uint64_t mem)
{
    for (uint32_t type = 0; type < MR_ACCEL_TYPES_MAX; type++) {
        if (core->type_nodes_up[type] == 0) continue;
        uint32_t node = find_whole(core, type, 0, cpu, mem);
        if (node != 0) return node;
    }
    return 0;
}

static uint32_t find_shared(const struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                            uint32_t tasks)
{
    uint64_t cpu = (uint64_t)shape->cpu_milli * tasks;
    uint64_t mem = (uint64_t)shape->mem_mib * tasks;
    uint32_t need = shape->accel_milli;
    for (uint32_t group = need / CORE_PART_STEP; group < CORE_PART_GROUPS; group++) {
        if (!mr_bit_get(&core->part_mask[type], group)) continue;
        uint32_t state = core_tree_best(core, core->part_root[type][group], 1, cpu, mem, need);
        if (state == 0) continue;
        uint32_t node = node_of_state(core, state);
        if (core_node_fit(core, node, type, shape, tasks) >= tasks) return node;
    }
    uint32_t on_each = CORE_WHOLE / need;
    return find_whole(core, type, (tasks + on_each - 1) / on_each, cpu, mem);
}

static uint32_t node_find(const struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                          uint32_t tasks)
{
    MR_ASSERT(tasks > 0);
    uint64_t cpu = (uint64_t)shape->cpu_milli * tasks;
    uint64_t mem = (uint64_t)shape->mem_mib * tasks;
    uint32_t node;
    if (shape->accel_milli == 0) {
        node = find_cpu(core, cpu, mem);
    } else if (shape->accel_milli < CORE_WHOLE) {
        node = find_shared(core, type, shape, tasks);
    } else {
        uint64_t whole = (uint64_t)(shape->accel_milli / CORE_WHOLE) * tasks;
        node = find_whole(core, type, whole, cpu, mem);
    }
    MR_ASSERT(node == 0 || core_node_fit(core, node, type, shape, tasks) == tasks);
    return node;
}

/* The most tasks, at most `most`, that one node holds; *ret_node is that node. */
static uint32_t largest_find(const struct mr_core *core, uint32_t type,
                             const struct mr_shape *shape, uint32_t most, uint32_t *ret_node)
{
    uint32_t low = 0, high = MR_MIN(most, MR_TASKS_PER_NODE_MAX);
    uint32_t node = node_find(core, type, shape, high);
    if (node != 0) {
        *ret_node = node;
        return high;
    }
    while (low + 1 < high) {
        uint32_t middle = low + (high - low) / 2;
        node = node_find(core, type, shape, middle);
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

/* The next place below `top` in a walk that enters children first; 0 at the end. */
static uint32_t place_next(const struct mr_core *core, uint32_t top, uint32_t at, bool enter)
{
    if (enter && core_place(core, at)->child_first != 0) return core_place(core, at)->child_first;
    while (at != top) {
        const struct core_place *p = core_place(core, at);
        if (p->child_next != 0) return p->child_next;
        at = p->parent;
        MR_ASSERT(at != 0);
    }
    return 0;
}

static bool place_worth(const struct mr_core *core, uint32_t place, uint32_t type,
                        const struct mr_shape *shape)
{
    uint64_t need = type == 0 ? shape->cpu_milli : shape->accel_milli;
    return core_place_type(core, place, type)->free_milli >= need;
}

/* Tasks that fit in the place, counted up to `most`. */
static uint32_t place_fit(const struct mr_core *core, uint32_t place, uint32_t type,
                          const struct mr_shape *shape, uint32_t most)
{
    uint32_t fit = 0;
    for (uint32_t at = place; at != 0 && fit < most;) {
        bool worth = place_worth(core, at, type, shape);
        uint32_t node = worth ? core_place(core, at)->node_first : 0;
        for (; node != 0 && fit < most; node = core_node(core, node)->place_next) {
            fit +=
                core_node_fit(core, node, type, shape, MR_MIN(most - fit, MR_TASKS_PER_NODE_MAX));
        }
        at = place_next(core, place, at, worth);
    }
    return fit;
}

/* Fills nodes of the place: in the first pass only nodes that take `full` tasks; in the second the
 * one that the rest fits on best; in the third any. Returns the tasks placed. */
static uint32_t place_pass(struct mr_core *core, uint32_t place, uint32_t type,
                           const struct mr_shape *shape, uint32_t tasks, uint32_t full,
                           bool *ret_ok)
{
    uint32_t placed = 0;
    for (uint32_t at = place; at != 0 && placed < tasks;) {
        bool worth = place_worth(core, at, type, shape);
        uint32_t node = worth ? core_place(core, at)->node_first : 0;
        for (; node != 0 && placed < tasks; node = core_node(core, node)->place_next) {
            uint32_t most = MR_MIN(tasks - placed, MR_TASKS_PER_NODE_MAX);
            uint32_t fit = core_node_fit(core, node, type, shape, most);
            if (fit == 0 || fit < full) continue;
            if (!plan_add(core, node, shape, fit)) *ret_ok = false;
            if (!*ret_ok) return placed;
            placed += fit;
        }
        at = place_next(core, place, at, worth);
    }
    return placed;
}

static uint32_t place_largest(const struct mr_core *core, uint32_t place, uint32_t type,
                              const struct mr_shape *shape, uint32_t most)
{
    uint32_t largest = 0;
    for (uint32_t at = place; at != 0 && largest < most;) {
        bool worth = place_worth(core, at, type, shape);
        uint32_t node = worth ? core_place(core, at)->node_first : 0;
        for (; node != 0; node = core_node(core, node)->place_next) {
            largest = MR_MAX(largest, core_node_fit(core, node, type, shape, most));
        }
        at = place_next(core, place, at, worth);
    }
    return largest;
}

/* The node of the place on which the rest fits with the least left over. */
static uint32_t place_tightest(const struct mr_core *core, uint32_t place, uint32_t type,
                               const struct mr_shape *shape, uint32_t tasks)
{
    uint32_t best = 0, best_fit = UINT32_MAX;
    for (uint32_t at = place; at != 0 && best_fit > tasks;) {
        bool worth = place_worth(core, at, type, shape);
        uint32_t node = worth ? core_place(core, at)->node_first : 0;
        for (; node != 0; node = core_node(core, node)->place_next) {
            uint32_t fit = core_node_fit(core, node, type, shape, MR_TASKS_PER_NODE_MAX);
            if (fit >= tasks && fit < best_fit) {
                best = node;
                best_fit = fit;
            }
        }
        at = place_next(core, place, at, worth);
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
            ok = plan_add(core, node, shape, tasks - placed);
            placed = tasks;
        }
    }
    if (ok && placed < tasks) {
        placed += place_pass(core, place, type, shape, tasks - placed, 1, &ok);
    }
    MR_ASSERT(!ok || placed == tasks);
    return ok;
}

/* The first places of a bucket, at most *looked more: of those with room for all tasks the one in
 * the larger place that has the least left. */
static uint32_t bucket_best(const struct mr_core *core, uint32_t first, uint32_t type,
                            const struct mr_shape *shape, uint32_t tasks, uint32_t *looked)
{
    uint32_t best = 0, found = 0;
    uint64_t best_left = UINT64_MAX;
    for (uint32_t at = first; at != 0; at = core_place_type(core, at, type)->next) {
        if (*looked == CORE_PLACES_LOOKED || found == CORE_TIES_LOOKED) break;
        ++*looked;
        if (place_fit(core, at, type, shape, tasks) < tasks) continue;
        found++;
        uint64_t left = core_place_type(core, core_place(core, at)->parent, type)->free_milli;
        if (left < best_left || (left == best_left && at < best)) {
            best = at;
            best_left = left;
        }
    }
    return best;
}

/* Bounded work: the tightest places that have room in sum, then the emptiest ones. */
static uint32_t place_find(const struct mr_core *core, enum core_level level, uint32_t type,
                           const struct mr_shape *shape, uint32_t tasks)
{
    uint64_t each = type == 0 ? shape->cpu_milli : shape->accel_milli;
    uint64_t need = each * tasks;
    uint32_t from = MR_MAX(core_place_bucket_of(need), 1u);
    const uint64_t *mask = core->place_mask[level][type];
    uint32_t looked = 0;
    for (size_t b = from; looked < CORE_PLACES_LOOKED; b++) {
        b = mr_bit_find_set(mask, CORE_PLACE_BUCKETS, b);
        if (b >= CORE_PLACE_BUCKETS) return 0; /* all were looked at */
        uint32_t first = core->place_bucket[level][type][b];
        uint32_t best = bucket_best(core, first, type, shape, tasks, &looked);
        if (best != 0) return best;
    }
    looked = 0;
    for (uint32_t b = CORE_PLACE_BUCKETS; b-- > from && looked < CORE_PLACES_LOOKED;) {
        if (!mr_bit_get(mask, b)) continue;
        uint32_t first = core->place_bucket[level][type][b];
        uint32_t best = bucket_best(core, first, type, shape, tasks, &looked);
        if (best != 0) return best;
    }
    return 0;
}

/* --- gangs --------------------------------------------------------------------------------- */

/* Whether the fleet holds so many tasks at all, over its distinct free amounts: exact for whole
 * devices and cpu, a little low where devices are shared. */
static bool fleet_holds(const struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                        uint32_t tasks)
{
    uint64_t total = 0;
    uint32_t first = type, last = type;
    uint32_t devices = shape->accel_milli / CORE_WHOLE;
    if (shape->accel_milli == 0) last = MR_ACCEL_TYPES_MAX - 1;
    for (uint32_t t = first; t <= last; t++) {
        if (core->type_nodes_up[t] == 0) continue;
        for (size_t w = devices; w < CORE_WHOLE_GROUPS; w++) {
            w = mr_bit_find_set(core->whole_mask[t], CORE_WHOLE_GROUPS, w);
            if (w >= CORE_WHOLE_GROUPS) break;
            struct core_tree_walk walk;
            core_tree_walk_start(core, &walk, core->whole_root[t][w], 0);
            uint32_t state;
            while ((state = core_tree_walk_next(core, &walk)) != 0) {
                const struct core_free_state *s = core_free_state(core, state);
                total += (uint64_t)s->node_count *
                         core_node_fit(core, s->node_first, t, shape, MR_TASKS_PER_NODE_MAX);
                if (total >= tasks) return true;
            }
        }
    }
    return false;
}

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
        uint32_t fit = place_fit(core, domain, type, shape, tasks - placed + 1);
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
        uint32_t domain = place_find(core, CORE_DOMAIN, type, shape, most);
        if (domain != 0) {
            return place_fill(core, domain, type, shape, most) ? tasks : placed;
        }
    }
    while (placed < tasks) {
        uint32_t node = 0;
        most = largest_find(core, type, shape, MR_MIN(most, tasks - placed), &node);
        if (most == 0) break;
        if (!plan_add(core, node, shape, most)) break;
        placed += most;
    }
    return placed;
}

/* What a topology is widened to, from the narrowest on, when one node does not do. */
static const enum core_level widen[3] = {CORE_DOMAIN, CORE_BLOCK, CORE_CELL};

static uint32_t levels_of(enum mr_topology topology)
{
    static const uint8_t levels[MR_TOPOLOGY_COUNT] = {
        [MR_TOPOLOGY_PREFER_DOMAIN] = 3,
        [MR_TOPOLOGY_DOMAIN] = 1,
        [MR_TOPOLOGY_BLOCK] = 2,
        [MR_TOPOLOGY_CELL] = 3,
    };
    MR_ASSERT(topology < MR_TOPOLOGY_COUNT);
    return levels[topology];
}

static bool topology_unbounded(enum mr_topology topology)
{
    return topology == MR_TOPOLOGY_ANY || topology == MR_TOPOLOGY_PREFER_DOMAIN;
}

static uint32_t plan_exactly(struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                             enum mr_topology topology, uint32_t tasks)
{
    MR_ASSERT(core->plan_count == 0);
    if (tasks <= MR_TASKS_PER_NODE_MAX) {
        uint32_t node = node_find(core, type, shape, tasks);
        if (node != 0 && plan_add(core, node, shape, tasks)) return tasks;
        plan_give_back(core, shape, 0);
    }
    if (topology == MR_TOPOLOGY_NODE || tasks == 1) return 0;
    uint32_t levels = levels_of(topology);
    for (uint32_t i = 0; i < levels; i++) {
        uint32_t place = place_find(core, widen[i], type, shape, tasks);
        if (place == 0) continue;
        if (place_fill(core, place, type, shape, tasks)) return tasks;
        plan_give_back(core, shape, 0);
    }
    if (!topology_unbounded(topology)) return 0;
    if (!fleet_holds(core, type, shape, tasks)) return 0;
    uint32_t placed = anywhere_fill(core, type, shape, tasks);
#ifdef MR_PLANT_CORE_GANG_PART
    if (placed == tasks && core->plan_count > 2) {
        struct core_plan last = *core_plan(core, core->plan_count--);
        core_node_give(core, last.node, shape, last.tasks, last.devices);
        return tasks;
    }
#endif
    if (placed == tasks) return tasks;
    plan_give_back(core, shape, 0);
    return 0;
}

uint32_t core_plan_make(struct mr_core *core, const struct core_request *request, uint8_t *ret_type)
{
    MR_ASSERT(request->tasks_min > 0 && request->tasks_min <= request->tasks_max);
    core->plan_count = 0;
    uint8_t types[MR_ACCEL_TYPES_MAX];
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
                    plan_give_back(core, shape, 0);
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

/* --- why not ------------------------------------------------------------------------------- */

static uint64_t needed_of(const struct mr_shape *shape, enum mr_resource resource)
{
    if (resource == MR_RESOURCE_CPU) return shape->cpu_milli;
    if (resource == MR_RESOURCE_MEMORY) return shape->mem_mib;
    return shape->accel_milli;
}

/* The most of a resource on any node, and free in sum, over the types that the shape accepts. */
static void supply_of(const struct mr_core *core, const struct mr_shape *shape,
                      enum mr_resource resource, uint64_t *ret_largest, uint64_t *ret_free)
{
    uint64_t largest = 0, free = 0;
    for (uint32_t type = 0; type < MR_ACCEL_TYPES_MAX; type++) {
        if (!core_shape_accepts(shape, type)) continue;
        if (core->largest_count[type][resource] > 0) {
            largest = MR_MAX(largest, (uint64_t)core->largest[type][resource]);
        }
        free = MR_MAX(free, core->type_free_milli[type]); /* a gang has one type */
    }
    *ret_largest = largest;
    if (resource == MR_RESOURCE_CPU) free = core->cpu_free_milli;
    if (resource == MR_RESOURCE_MEMORY) free = core->mem_free_mib;
    *ret_free = free;
}

/* Whether so many tasks fit as the topology wants them, without taking anything. */
static bool type_holds(const struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                       enum mr_topology topology, uint32_t tasks)
{
    if (tasks <= MR_TASKS_PER_NODE_MAX && node_find(core, type, shape, tasks) != 0) return true;
    if (tasks == 1) return false;
    uint32_t levels = levels_of(topology);
    for (uint32_t i = 0; i < levels; i++) {
        if (place_find(core, widen[i], type, shape, tasks) != 0) return true;
    }
    return topology_unbounded(topology) && fleet_holds(core, type, shape, tasks);
}

void core_place_reason(const struct mr_core *core, const struct core_request *request,
                       struct mr_reason *ret)
{
    static const enum mr_resource order[] = {MR_RESOURCE_ACCEL, MR_RESOURCE_CPU,
                                             MR_RESOURCE_MEMORY};
    *ret = (struct mr_reason){.code = MR_REASON_FLEET_EMPTY};
    if (core->nodes_by_state[MR_NODE_UP] == 0) return;
    const struct mr_shape *shape = request->shape;
    uint64_t tasks = request->tasks_min;
    uint64_t on_node = request->topology == MR_TOPOLOGY_NODE ? tasks : 1;
    uint64_t largest, free;
    for (size_t i = 0; i < MR_COUNT_OF(order); i++) {
        uint64_t need = needed_of(shape, order[i]) * on_node;
        supply_of(core, shape, order[i], &largest, &free);
        if (need <= largest) continue;
        *ret = (struct mr_reason){
            .code = MR_REASON_NO_SUCH_NODE, .resource = order[i], .a = largest, .b = need};
        return;
    }
    for (size_t i = 0; i < MR_COUNT_OF(order); i++) {
        uint64_t need = needed_of(shape, order[i]) * tasks;
        supply_of(core, shape, order[i], &largest, &free);
        if (need <= free) continue;
        *ret = (struct mr_reason){
            .code = MR_REASON_RESOURCES, .resource = order[i], .a = need - free, .b = need};
        return;
    }
    uint8_t types[MR_ACCEL_TYPES_MAX];
    uint32_t count = core_shape_types(core, shape, types);
    enum mr_resource resource = shape->accel_milli > 0 ? MR_RESOURCE_ACCEL : MR_RESOURCE_CPU;
    supply_of(core, shape, resource, &largest, &free);
    *ret = (struct mr_reason){.code = MR_REASON_FRAGMENTED,
                              .resource = resource,
                              .a = free,
                              .b = needed_of(shape, resource) * tasks};
    for (uint32_t i = 0; i < count; i++) {
        if (type_holds(core, types[i], shape, request->topology, request->tasks_min)) {
            *ret = (struct mr_reason){.code = MR_REASON_NONE}; /* its turn just has not come */
            return;
        }
        if (fleet_holds(core, types[i], shape, request->tasks_min)) ret->code = MR_REASON_TOPOLOGY;
    }
}
