/* SPDX-License-Identifier: Apache-2.0 */
/* What fits where, found without taking anything; and why a request does not fit.
 *
 * Owns:       nothing.
 * Invariants: (1) one task: if any node fits, one is found;
 *             (2) equal states give equal answers: least whole devices, least cpu, then the domain
 *                 with the least left, then the lowest number.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(log states) for a node; for a place the nodes of at most 2 CORE_PLACES_LOOKED
 * places that have room in sum. Idea:       docs/internals/core.md   Tests:
 * tests/unit/core/test_core_place.c
 */
#include "core_int.h"
#include "core_reserve.h"

/* --- shapes --------------------------------------------------------------------------------------
 */

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

/* Bits of the types of nodes that do: what lies on none is left out. */
static uint32_t types_accepted(const struct mr_core *core, const struct mr_shape *shape)
{
    uint32_t listed = 0;
    if (shape->accel_milli == 0) return core->types_present;
    for (uint32_t i = 0; i < MR_SHAPE_ALTERNATIVES; i++) {
        listed |= (uint32_t)1 << (shape->accel_types[i] % MR_ACCEL_TYPES_MAX);
    }
    listed &= ~(uint32_t)1;
    return core->types_present & (listed != 0 ? listed : ~(uint32_t)1);
}

/* Stable: types that are equal in price, or have equally much free, stay as listed. A gang by fit
 * takes the type that has least left. */
static void types_sort(const struct mr_core *core, enum mr_accel_order order, uint8_t *types,
                       uint32_t count)
{
    if (order == MR_ACCEL_ORDER_LISTED) return;
    for (uint32_t i = 1; i < count; i++) {
        uint8_t type = types[i];
        uint32_t at = i;
        for (; at > 0; at--) {
            uint8_t other = types[at - 1];
            bool before =
                order == MR_ACCEL_ORDER_PRICE
                    ? core_price(core, MR_SKU_ACCEL, type) < core_price(core, MR_SKU_ACCEL, other)
                    : core->type_free_milli[type] < core->type_free_milli[other];
            if (!before) break;
            types[at] = other;
        }
        types[at] = type;
    }
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
    if (count > 0) {
        types_sort(core, (enum mr_accel_order)shape->accel_order, types, count);
        return count;
    }
    for (uint32_t left = types_accepted(core, shape); left != 0; left &= left - 1) {
        uint32_t type = (uint32_t)__builtin_ctz(left);
        if (core->type_nodes_up[type] > 0) types[count++] = (uint8_t)type;
    }
    return count;
}

/* --- one node ------------------------------------------------------------------------------------
 */

uint32_t core_node_fit(const struct mr_core *core, uint32_t node, uint32_t type,
                       const struct mr_shape *shape, uint32_t most)
{
    return core_node_open(core, node) ? core_node_room(core, node, type, shape, most) : 0;
}

uint32_t core_node_room(const struct mr_core *core, uint32_t node, uint32_t type,
                        const struct mr_shape *shape, uint32_t most)
{
    const struct core_node *n = core_node(core, node);
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

static uint64_t domain_left(const struct mr_core *core, uint32_t node, uint32_t type)
{
    const struct core_node *n = core_node(core, node);
    if (n->place == 0 || core_place(core, n->place)->level != CORE_DOMAIN) return 0;
    return core_place_type(core, n->place, type)->free_milli;
}

uint32_t core_state_node(const struct mr_core *core, uint32_t state)
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
        if (state != 0) return core_state_node(core, state);
    }
    return 0;
}

uint32_t core_node_find_bare(const struct mr_core *core, uint64_t cpu, uint64_t mem)
{
    return core->type_nodes_up[0] > 0 ? find_whole(core, 0, 0, cpu, mem) : 0;
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
        uint32_t node = core_state_node(core, state);
        if (core_node_fit(core, node, type, shape, tasks) >= tasks) return node;
    }
    uint32_t on_each = CORE_WHOLE / need;
    return find_whole(core, type, (tasks + on_each - 1) / on_each, cpu, mem);
}

uint32_t core_node_find(const struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                        uint32_t tasks)
{
    MR_ASSERT(tasks > 0);
    if (core->view_picky != 0) return core_picky_find(core, type, shape, tasks);
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

/* --- places --------------------------------------------------------------------------------------
 */

/* The next place below `top` in a walk that enters children first; 0 at the end. */
uint32_t core_place_next(const struct mr_core *core, uint32_t top, uint32_t at, bool enter)
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

uint64_t core_place_bound(const struct mr_core *core, uint32_t place, uint32_t type,
                          const struct mr_shape *shape)
{
    const struct core_place_type *p = core_place_type(core, place, type);
    if (type == 0) return shape->cpu_milli == 0 ? UINT64_MAX : p->free_milli / shape->cpu_milli;
    if (shape->accel_milli < CORE_WHOLE) return p->free_milli / shape->accel_milli;
    uint64_t bound = 0;
    uint32_t devices = shape->accel_milli / CORE_WHOLE;
    for (uint32_t i = 0; i < CORE_WHOLE_LOGS; i++) {
        bound += (uint64_t)p->by_whole[i] * (((2u << i) - 1) / devices);
    }
    return MR_MIN(bound, p->free_milli / shape->accel_milli);
}

/* Tasks that fit in the place, counted up to `most`. */
uint32_t core_place_fit(const struct mr_core *core, uint32_t place, uint32_t type,
                        const struct mr_shape *shape, uint32_t most)
{
    uint32_t fit = 0;
    for (uint32_t at = place; at != 0 && fit < most;) {
        bool worth = core_place_bound(core, at, type, shape) > 0;
        uint32_t node = worth ? core_place(core, at)->node_first : 0;
        for (; node != 0 && fit < most; node = core_node(core, node)->place_next) {
            fit +=
                core_node_fit(core, node, type, shape, MR_MIN(most - fit, MR_TASKS_PER_NODE_MAX));
        }
        at = core_place_next(core, place, at, worth);
    }
    return fit;
}

/* The first places of a bucket, as long as *looked is below `most`: of those with room for all
 * tasks the one in the larger place that has the least left. */
static uint32_t bucket_best(const struct mr_core *core, uint32_t first, uint32_t type,
                            const struct mr_shape *shape, uint32_t tasks, uint32_t most,
                            uint32_t *looked)
{
    uint32_t best = 0, found = 0;
    uint64_t best_left = UINT64_MAX;
    for (uint32_t at = first; at != 0; at = core_place_type(core, at, type)->next) {
        if (*looked >= most || found == CORE_TIES_LOOKED) break;
        /* Looking at the bound alone is cheap, but not for nothing. */
        bool worth = core_place_bound(core, at, type, shape) >= tasks;
        *looked += worth ? 16 : 1;
        if (!worth || core_place_fit(core, at, type, shape, tasks) < tasks) continue;
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
uint32_t core_place_find(const struct mr_core *core, enum core_level level, uint32_t type,
                         const struct mr_shape *shape, uint32_t tasks)
{
    uint64_t each = type == 0 ? shape->cpu_milli : shape->accel_milli;
    uint64_t need = each * tasks;
    uint32_t from = MR_MAX(core_place_bucket_of(need), 1u);
    const uint64_t *mask = core->place_mask[level][type];
    /* In sixteenths of a place whose nodes are looked at; blocks are larger than domains. */
    uint32_t most = 16 * CORE_PLACES_LOOKED >> (2 * (CORE_DOMAIN - level));
    uint32_t looked = 0;
    for (size_t b = from; looked < most; b++) {
        b = mr_bit_find_set(mask, CORE_PLACE_BUCKETS, b);
        if (b >= CORE_PLACE_BUCKETS) return 0; /* all were looked at */
        uint32_t first = core->place_bucket[level][type][b];
        uint32_t best = bucket_best(core, first, type, shape, tasks, most, &looked);
        if (best != 0) return best;
    }
    looked = 0;
    for (uint32_t b = CORE_PLACE_BUCKETS; b-- > from && looked < most;) {
        if (!mr_bit_get(mask, b)) continue;
        uint32_t first = core->place_bucket[level][type][b];
        uint32_t best = bucket_best(core, first, type, shape, tasks, most, &looked);
        if (best != 0) return best;
    }
    return 0;
}

/* --- the fleet -----------------------------------------------------------------------------------
 */

uint64_t core_fleet_bound(const struct mr_core *core, uint32_t type, const struct mr_shape *shape)
{
    uint64_t bound = UINT64_MAX;
    if (shape->cpu_milli > 0) bound = core->cpu_free_milli / shape->cpu_milli;
    if (shape->mem_mib > 0) bound = MR_MIN(bound, core->mem_free_mib / shape->mem_mib);
    if (shape->accel_milli == 0) return bound;
    uint64_t fit = 0;
    if (shape->accel_milli < CORE_WHOLE) {
        fit = core->type_free_milli[type] / shape->accel_milli;
    } else {
        uint32_t devices = shape->accel_milli / CORE_WHOLE;
        for (size_t w = devices; w < CORE_WHOLE_GROUPS; w++) {
            w = mr_bit_find_set(core->whole_mask[type], CORE_WHOLE_GROUPS, w);
            if (w >= CORE_WHOLE_GROUPS) break;
            fit += (uint64_t)core->whole_nodes[type][w] * (w / devices);
        }
    }
    return MR_MIN(bound, fit);
}

/* Tasks that nodes of the state take. Who is picky may use some of them and others not. */
static uint64_t state_fit(const struct mr_core *core, uint32_t state, uint32_t type,
                          const struct mr_shape *shape, uint32_t *looked)
{
    const struct core_free_state *s = core_free_state(core, state);
    uint64_t fit = core_node_fit(core, s->node_first, type, shape, MR_TASKS_PER_NODE_MAX);
    ++*looked;
    if (core->view_picky == 0) return s->node_count * fit;
    uint32_t node = core_node(core, s->node_first)->state_next;
    for (; node != 0 && *looked < CORE_STATES_LOOKED; node = core_node(core, node)->state_next) {
        fit += core_node_fit(core, node, type, shape, MR_TASKS_PER_NODE_MAX);
        ++*looked;
    }
    return fit;
}

/* Whether the fleet holds so many tasks, over its distinct free amounts: exact for whole devices
 * and cpu, a little low where devices are shared; true when there are too many to look at. Only to
 * say why something waits. */
bool core_fleet_holds(const struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                      uint32_t tasks)
{
    if (core_fleet_bound(core, type, shape) < tasks) return false;
    uint64_t total = 0;
    uint32_t looked = 0;
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
                total += state_fit(core, state, t, shape, &looked);
                if (total >= tasks || looked >= CORE_STATES_LOOKED) return true;
            }
        }
    }
    return false;
}

/* --- why not -------------------------------------------------------------------------------------
 */

/* What a topology is widened to, from the narrowest on, when one node does not do. */
const enum core_level core_topology_widen[3] = {CORE_DOMAIN, CORE_BLOCK, CORE_CELL};

uint32_t core_topology_levels(enum mr_topology topology)
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

bool core_topology_unbounded(enum mr_topology topology)
{
    return topology == MR_TOPOLOGY_ANY || topology == MR_TOPOLOGY_PREFER_DOMAIN;
}

uint64_t core_shape_needs(const struct mr_shape *shape, enum mr_resource resource)
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
    for (uint32_t left = types_accepted(core, shape); left != 0; left &= left - 1) {
        uint32_t type = (uint32_t)__builtin_ctz(left);
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
    if (tasks <= MR_TASKS_PER_NODE_MAX && core_node_find(core, type, shape, tasks) != 0)
        return true;
    if (tasks == 1) return false;
    uint32_t levels = core_topology_levels(topology);
    for (uint32_t i = 0; i < levels; i++) {
        if (core_place_find(core, core_topology_widen[i], type, shape, tasks) != 0) return true;
    }
    return core_topology_unbounded(topology) && core_fleet_holds(core, type, shape, tasks);
}

static bool request_holds(const struct mr_core *core, uint32_t type,
                          const struct core_request *request)
{
    if (request->spread != MR_SPREAD_NONE) return core_spread_holds(core, type, request);
    if (request->segment != 0) return core_segments_hold(core, type, request);
    return type_holds(core, type, request->shape, request->topology, request->tasks_min);
}

static const enum mr_resource order[] = {MR_RESOURCE_ACCEL, MR_RESOURCE_CPU, MR_RESOURCE_MEMORY};

bool core_place_never(const struct mr_core *core, const struct core_request *request,
                      struct mr_reason *ret)
{
    *ret = (struct mr_reason){.code = MR_REASON_FLEET_EMPTY};
    if (core->nodes_by_state[MR_NODE_UP] == 0) return true;
    const struct mr_shape *shape = request->shape;
    uint64_t on_node = request->topology == MR_TOPOLOGY_NODE ? request->tasks_min : 1;
    for (size_t i = 0; i < MR_COUNT_OF(order); i++) {
        uint64_t largest, free;
        uint64_t need = core_shape_needs(shape, order[i]) * on_node;
        supply_of(core, shape, order[i], &largest, &free);
        if (need <= largest) continue;
        *ret = (struct mr_reason){
            .code = MR_REASON_NO_SUCH_NODE, .resource = order[i], .a = largest, .b = need};
        return true;
    }
    *ret = (struct mr_reason){.code = MR_REASON_NONE};
    return false;
}

void core_place_reason(const struct mr_core *core, const struct core_request *request,
                       struct mr_reason *ret)
{
    if (core_delivery_reason(core, request, ret) || core_place_never(core, request, ret)) return;
    const struct mr_shape *shape = request->shape;
    uint64_t tasks = request->tasks_min;
    uint64_t largest, free;
    for (size_t i = 0; i < MR_COUNT_OF(order); i++) {
        uint64_t need = core_shape_needs(shape, order[i]) * tasks;
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
                              .b = core_shape_needs(shape, resource) * tasks};
    for (uint32_t i = 0; i < count; i++) {
        if (request_holds(core, types[i], request)) {
            *ret = (struct mr_reason){.code = MR_REASON_NONE}; /* its turn just has not come */
            return;
        }
        if (core_fleet_holds(core, types[i], shape, request->tasks_min))
            ret->code = MR_REASON_TOPOLOGY;
    }
}
