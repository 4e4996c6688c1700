/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas, and the tasks of a gang, over failure domains: nodes, NVLink domains or blocks.
 *
 * One after the other goes to the place that holds the fewest of its own; among places with none of
 * them, to the tightest that has room. So one that fails takes as few as can be. With a bound, a
 * place that holds so many takes no more.
 *
 * Owns:       nothing: the plan is core_place.c's.
 * Invariants: (1) no place holds more than the bound.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       for each task its own leases and plan entries, once for each of at most PLACES_LOOKED
 *             places, whose nodes are looked at in addition, or of NODES_LOOKED nodes.
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_spread.c
 */
#include "core_int.h"

#define PLACES_LOOKED 128u
#define NODES_LOOKED  1024u

/* --- its own -------------------------------------------------------------------------------- */

/* The level of its places; it is not spread over nodes. */
static enum core_level level_of(enum mr_spread spread)
{
    MR_ASSERT(spread == MR_SPREAD_DOMAIN || spread == MR_SPREAD_BLOCK);
    return spread == MR_SPREAD_DOMAIN ? CORE_DOMAIN : CORE_BLOCK;
}

static bool lies_in(const struct mr_core *core, uint32_t node, enum mr_spread spread,
                    uint32_t where)
{
    if (spread == MR_SPREAD_NODE) return node == where;
    return core_place_above(core, core_node(core, node)->place, level_of(spread)) == where;
}

/* Its tasks in the node or place: those that run or are claimed, of a service; those of the plan.
 */
static uint32_t own_count(const struct mr_core *core, const struct core_request *request,
                          uint32_t where)
{
    const struct core_workload *w = core_workload(core, request->workload);
    uint32_t count = 0;
    for (uint32_t i = core_is_service(w) ? w->lease_first : 0; i != 0;
         i = core_lease(core, i)->of_next) {
        const struct core_lease *l = core_lease(core, i);
        if (l->state == MR_LEASE_STOPPING) continue;
        if (lies_in(core, l->node, request->spread, where)) count += l->tasks;
    }
    for (uint32_t i = 1; i <= core->plan_count; i++) {
        const struct core_plan *entry = core_plan(core, i);
        if (lies_in(core, entry->node, request->spread, where)) count += entry->tasks;
    }
    return count;
}

/* --- the place with the fewest ---------------------------------------------------------------- */

struct best {
    uint32_t where, count;
};

/* True: it has none of its own, better is not found. */
static bool consider(const struct mr_core *core, const struct core_request *request, uint32_t where,
                     struct best *best)
{
    uint32_t count = own_count(core, request, where);
    if (request->spread_max != 0 && count >= request->spread_max) return false;
    if (best->where == 0 || count < best->count) *best = (struct best){where, count};
    return count == 0;
}

static uint32_t place_of(const struct mr_core *core, const struct core_request *request,
                         uint32_t type)
{
    enum core_level level = level_of(request->spread);
    const uint64_t *mask = core->place_mask[level][type];
    struct best best = {0};
    uint32_t looked = 0;
    for (size_t b = 1; b < CORE_PLACE_BUCKETS; b++) {
        b = mr_bit_find_set(mask, CORE_PLACE_BUCKETS, b);
        if (b >= CORE_PLACE_BUCKETS) break;
        uint32_t at = core->place_bucket[level][type][b];
        for (; at != 0; at = core_place_type(core, at, type)->next) {
            if (core_place_bound(core, at, type, request->shape) == 0) continue;
            if (++looked > PLACES_LOOKED) return best.where;
            if (core_place_fit(core, at, type, request->shape, 1) == 0) continue;
            if (consider(core, request, at, &best)) return at;
        }
    }
    return best.where;
}

/* Over the distinct free amounts of one group of nodes, the tightest first. */
static bool group_look(const struct mr_core *core, const struct core_request *request,
                       uint32_t type, uint32_t whole, struct best *best, uint32_t *looked)
{
    struct core_tree_walk walk;
    uint32_t state;
    core_tree_walk_start(core, &walk, core->whole_root[type][whole], 0);
    while ((state = core_tree_walk_next(core, &walk)) != 0) {
        uint32_t node = core_free_state(core, state)->node_first;
        if (core_node_room(core, node, type, request->shape, 1) == 0) continue;
        for (; node != 0; node = core_node(core, node)->state_next) {
            if (core->view_picky != 0 && !core_node_open(core, node)) continue;
            if (++*looked > NODES_LOOKED || consider(core, request, node, best)) return true;
        }
    }
    return false;
}

/* The types whose nodes can take it: from `type` to the one returned. */
static uint32_t type_last(const struct core_request *request, uint32_t type)
{
    return request->shape->accel_milli == 0 ? MR_ACCEL_TYPES_MAX - 1 : type;
}

static uint32_t node_of(const struct mr_core *core, const struct core_request *request,
                        uint32_t type)
{
    struct best best = {0};
    uint32_t looked = 0, last = type_last(request, type);
    for (uint32_t t = type; t <= last; t++) {
        if (core->type_nodes_up[t] == 0) continue;
        for (size_t w = 0; w < CORE_WHOLE_GROUPS; w++) {
            w = mr_bit_find_set(core->whole_mask[t], CORE_WHOLE_GROUPS, w);
            if (w >= CORE_WHOLE_GROUPS) break;
            if (group_look(core, request, t, (uint32_t)w, &best, &looked)) return best.where;
        }
    }
    return best.where;
}

static bool task_add(struct mr_core *core, const struct core_request *request, uint32_t type)
{
    uint32_t node = 0;
    if (request->spread != MR_SPREAD_NODE) {
        uint32_t place = place_of(core, request, type);
        if (place != 0) return core_plan_within(core, place, type, request->shape, 1);
        if (request->spread_max != 0) return false;
        node = core_node_find(core, type, request->shape, 1); /* in none: better than not at all */
    } else {
        node = node_of(core, request, type);
    }
    return node != 0 && core_plan_add(core, node, request->shape, 1);
}

/* The tasks of one node are one entry, but for those that share devices. */
static void entries_join(struct mr_core *core, const struct mr_shape *shape)
{
    uint32_t kept = 0;
    if (shape->accel_milli > 0 && shape->accel_milli < CORE_WHOLE) return;
    for (uint32_t i = 1; i <= core->plan_count; i++) {
        const struct core_plan entry = *core_plan(core, i);
        uint32_t at = 1;
        while (at <= kept && core_plan(core, at)->node != entry.node) {
            at++;
        }
        if (at > kept) {
            *core_plan(core, ++kept) = entry;
            continue;
        }
        core_plan(core, at)->tasks += entry.tasks;
        core_plan(core, at)->devices |= entry.devices;
    }
    core->plan_count = kept;
}

uint32_t core_spread_plan(struct mr_core *core, const struct core_request *request,
                          uint8_t *ret_type)
{
    uint8_t types[MR_ACCEL_TYPES_MAX];
    uint32_t count = core_shape_types(core, request->shape, types);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t placed = 0;
        while (placed < request->tasks_max && task_add(core, request, types[i]))
            placed++;
        if (placed >= request->tasks_min) {
            entries_join(core, request->shape);
            *ret_type = request->shape->accel_milli == 0 ? 0 : types[i];
            return placed;
        }
        core_plan_drop(core, request->shape);
    }
    return 0;
}

/* --- without taking anything ------------------------------------------------------------------ */

/* Tasks that places of the level take, each no more than the bound; `most` when there are too many
 * places to look at. */
static uint32_t places_fit(const struct mr_core *core, const struct core_request *request,
                           uint32_t type, uint32_t most)
{
    enum core_level level = level_of(request->spread);
    const uint64_t *mask = core->place_mask[level][type];
    uint32_t fit = 0, looked = 0;
    for (size_t b = 1; b < CORE_PLACE_BUCKETS && fit < most; b++) {
        b = mr_bit_find_set(mask, CORE_PLACE_BUCKETS, b);
        if (b >= CORE_PLACE_BUCKETS) break;
        uint32_t at = core->place_bucket[level][type][b];
        for (; at != 0 && fit < most; at = core_place_type(core, at, type)->next) {
            if (++looked > NODES_LOOKED) return most;
            uint32_t bound = MR_MIN(request->spread_max, most - fit);
            fit += core_place_fit(core, at, type, request->shape, bound);
        }
    }
    return fit;
}

static uint32_t nodes_fit(const struct mr_core *core, const struct core_request *request,
                          uint32_t type, uint32_t most)
{
    uint32_t looked = 0, last = type_last(request, type), state;
    uint64_t fit = 0;
    for (uint32_t t = type; t <= last; t++) {
        for (size_t w = 0; w < CORE_WHOLE_GROUPS; w++) {
            w = mr_bit_find_set(core->whole_mask[t], CORE_WHOLE_GROUPS, w);
            if (w >= CORE_WHOLE_GROUPS) break;
            struct core_tree_walk walk;
            core_tree_walk_start(core, &walk, core->whole_root[t][w], 0);
            while ((state = core_tree_walk_next(core, &walk)) != 0) {
                const struct core_free_state *s = core_free_state(core, state);
                if (++looked > CORE_STATES_LOOKED) return most;
                fit += (uint64_t)s->node_count *
                       core_node_fit(core, s->node_first, t, request->shape, request->spread_max);
            }
        }
    }
    return (uint32_t)MR_MIN(fit, (uint64_t)most);
}

bool core_spread_holds(const struct mr_core *core, uint32_t type,
                       const struct core_request *request)
{
    bool by_node = request->spread == MR_SPREAD_NODE;
    uint32_t tasks = request->tasks_min;
    if (request->spread_max == 0) {
        if (core_node_find(core, type, request->shape, 1) == 0) return false;
        return tasks == 1 || core_fleet_holds(core, type, request->shape, tasks);
    }
    if (tasks == 1)
        return (by_node ? node_of(core, request, type) : place_of(core, request, type)) != 0;
    return (by_node ? nodes_fit(core, request, type, tasks)
                    : places_fit(core, request, type, tasks)) >= tasks;
}
