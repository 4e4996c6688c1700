/* SPDX-License-Identifier: Apache-2.0 */
/* Gangs in segments: so many tasks at a time lie together in one NVLink domain.
 *
 * A segment goes to the tightest domain that has room for it, so that what others left of domains
 * is used first and whole ones stay whole; as many segments as fit, up to what was asked for. With
 * an outer topology, block or cell, a place is looked for whose domains hold enough of them. Spares
 * lie in the domains of the segments, one after the other, where there is room.
 *
 * Owns:       nothing: the plan is core_place.c's.
 * Invariants: (1) a plan has whole segments, in the order of ranks, each in one domain; a node that
 *                 is in none is one of its own.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       for each segment what a gang in a domain costs; with an outer topology the nodes of
 *             at most PLACES_LOOKED places in addition.
 * Idea:       docs/internals/core.md; Slurm's topology/block plugin (--segment)
 * Tests:      tests/unit/core/test_core_segment.c
 */
#include "core_int.h"

#define PLACES_LOOKED  64u
#define DOMAINS_LOOKED 4096u

uint32_t core_domain_of(const struct mr_core *core, uint32_t node)
{
    uint32_t domain = core_place_above(core, core_node(core, node)->place, CORE_DOMAIN);
    return domain != 0 ? domain : 0u - 1u - node;
}

/* --- counting -------------------------------------------------------------------------------- */

/* Of one place alone: a domain; or the nodes of another place that are in no domain. */
static uint32_t fit_here(const struct mr_core *core, uint32_t place, uint32_t type,
                         const struct core_request *request, uint32_t most)
{
    uint32_t fit = 0, segment = request->segment;
    if (core_place(core, place)->level == CORE_DOMAIN)
        return core_place_fit(core, place, type, request->shape, most * segment) / segment;
    uint32_t node = core_place(core, place)->node_first;
    for (; node != 0 && fit < most; node = core_node(core, node)->place_next) {
        uint32_t tasks = MR_MIN((most - fit) * segment, MR_TASKS_PER_NODE_MAX);
        fit += core_node_fit(core, node, type, request->shape, tasks) / segment;
    }
    return fit;
}

/* Segments that fit in the place and below it, at most `most`; `most` when there are more than
 * `places_max` places to look at. */
static uint32_t fit_below(const struct mr_core *core, uint32_t place, uint32_t type,
                          const struct core_request *request, uint32_t most, uint32_t places_max)
{
    uint32_t fit = 0;
    for (uint32_t at = place; at != 0 && fit < most;) {
        if (places_max-- == 0) return most;
        bool worth = at == CORE_ROOT_PLACE || /* nothing is counted in it */
                     core_place_bound(core, at, type, request->shape) >= request->segment;
        if (worth) fit += fit_here(core, at, type, request, most - fit);
        at = core_place_next(core, place, at, worth);
    }
    return fit;
}

/* Whether the place holds so many. */
static bool holds(const struct mr_core *core, uint32_t place, uint32_t type,
                  const struct core_request *request, uint32_t segments)
{
    return fit_below(core, place, type, request, segments, UINT32_MAX) >= segments;
}

/* In one place of the level, whichever: the emptiest first. */
static bool any_holds(const struct mr_core *core, enum core_level level, uint32_t type,
                      const struct core_request *request, uint32_t wanted)
{
    const uint64_t *mask = core->place_mask[level][type];
    uint32_t looked = 0;
    for (uint32_t b = CORE_PLACE_BUCKETS; b-- > 0;) {
        if (!mr_bit_get(mask, b)) continue;
        uint32_t at = core->place_bucket[level][type][b];
        for (; at != 0; at = core_place_type(core, at, type)->next) {
            if (++looked > DOMAINS_LOOKED) return true;
            if (holds(core, at, type, request, wanted)) return true;
        }
    }
    return false;
}

bool core_segments_hold(const struct mr_core *core, uint32_t type,
                        const struct core_request *request)
{
    uint32_t wanted = (request->tasks_min + request->segment - 1) / request->segment;
    uint32_t levels = core_topology_levels(request->topology);
    if (!core_topology_unbounded(request->topology))
        return any_holds(core, core_topology_widen[levels - 1], type, request, wanted);
    return fit_below(core, CORE_ROOT_PLACE, type, request, wanted, DOMAINS_LOOKED) >= wanted;
}

bool core_segments_sound(const struct mr_core *core, uint32_t segment, uint32_t world)
{
    uint32_t rank = 0, domain = 0;
    for (uint32_t i = 1; i <= core->plan_count && rank < world; i++) {
        const struct core_plan *entry = core_plan(core, i);
        uint32_t here = core_domain_of(core, entry->node);
        /* The entry may begin in the middle of a segment, and end in another one. */
        if (rank % segment != 0 && here != domain) return false;
        domain = here;
        rank += entry->tasks;
    }
    return true;
}

/* --- planning -------------------------------------------------------------------------------- */

/* Those of one domain or node are planned at once: exclusive work takes each node whole. */

uint32_t core_segments_on(struct mr_core *core, uint32_t node, uint32_t type,
                          const struct core_request *request, uint32_t most)
{
    uint32_t segment = request->segment, kept = core->plan_count;
    uint64_t tasks = MR_MIN((uint64_t)most * segment, (uint64_t)MR_TASKS_PER_NODE_MAX);
    uint32_t fit = core_node_fit(core, node, type, request->shape, (uint32_t)tasks) / segment;
    if (fit == 0) return 0;
    if (core_plan_add(core, node, request->shape, fit * segment)) return fit;
    core_plan_cut(core, request->shape, kept);
    return 0;
}

/* Into the place alone: a domain, or the nodes of another one that are in none. */
static uint32_t segments_here(struct mr_core *core, uint32_t place, uint32_t type,
                              const struct core_request *request, uint32_t most)
{
    const struct mr_shape *shape = request->shape;
    uint32_t placed = 0, segment = request->segment;
    if (core_place(core, place)->level == CORE_DOMAIN) {
        placed = fit_here(core, place, type, request, most);
        if (placed == 0) return 0;
        return core_plan_within(core, place, type, shape, placed * segment) ? placed : 0;
    }
    uint32_t node = core_place(core, place)->node_first;
    for (; node != 0 && placed < most; node = core_node(core, node)->place_next) {
        placed += core_segments_on(core, node, type, request, most - placed);
    }
    return placed;
}

/* More of them anywhere: in the tightest domain that has room for one, else on a node. */
static uint32_t segments_add(struct mr_core *core, uint32_t type,
                             const struct core_request *request, uint32_t most)
{
    uint32_t segment = request->segment;
    uint32_t domain = core_place_find(core, CORE_DOMAIN, type, request->shape, segment);
    if (domain != 0) return segments_here(core, domain, type, request, most);
    if (segment > MR_TASKS_PER_NODE_MAX) return 0;
    uint32_t node = core_node_find(core, type, request->shape, segment);
    return node != 0 ? core_segments_on(core, node, type, request, most) : 0;
}

/* Segments into the domains below the place, in their order; returns how many. */
static uint32_t segments_below(struct mr_core *core, uint32_t place, uint32_t type,
                               const struct core_request *request, uint32_t most)
{
    uint32_t placed = 0;
    for (uint32_t at = place; at != 0 && placed < most;) {
        bool worth = core_place_bound(core, at, type, request->shape) >= request->segment;
        if (worth) placed += segments_here(core, at, type, request, most - placed);
        at = core_place_next(core, place, at, worth);
    }
    return placed;
}

/* A place of the level whose domains hold so many segments; 0: none of those looked at. */
static uint32_t block_find(const struct mr_core *core, enum core_level level, uint32_t type,
                           const struct core_request *request, uint32_t segments)
{
    uint64_t each = type == 0 ? request->shape->cpu_milli : request->shape->accel_milli;
    uint64_t need = each * request->segment * segments;
    uint32_t looked = 0;
    const uint64_t *mask = core->place_mask[level][type];
    for (size_t b = MR_MAX(core_place_bucket_of(need), 1u); b < CORE_PLACE_BUCKETS; b++) {
        b = mr_bit_find_set(mask, CORE_PLACE_BUCKETS, b);
        if (b >= CORE_PLACE_BUCKETS) return 0;
        uint32_t at = core->place_bucket[level][type][b];
        for (; at != 0; at = core_place_type(core, at, type)->next) {
            if (++looked > PLACES_LOOKED) return 0;
            if (holds(core, at, type, request, segments)) return at;
        }
    }
    return 0;
}

/* Within one place of the topology: all, else the least. */
static uint32_t plan_in_place(struct mr_core *core, uint32_t type,
                              const struct core_request *request, uint32_t least, uint32_t most)
{
    const uint32_t wanted[2] = {most, least};
    uint32_t levels = core_topology_levels(request->topology);
    for (uint32_t w = 0; w < 2; w++) {
        for (uint32_t i = 0; i < levels; i++) {
            uint32_t place = block_find(core, core_topology_widen[i], type, request, wanted[w]);
            if (place == 0) continue;
            uint32_t placed = segments_below(core, place, type, request, most);
            if (placed >= least) return placed;
            core_plan_drop(core, request->shape);
        }
        if (least == most) break;
    }
    return 0;
}

/* One at a time into the domains of the segments in turn. Returns how many found room. */
static uint32_t spares_add(struct mr_core *core, uint32_t type, const struct core_request *request,
                           uint32_t spares)
{
    uint32_t entries = core->plan_count, placed = 0;
    for (uint32_t i = 1; i <= entries && placed < spares; i++) {
        uint32_t node = core_plan(core, i)->node;
        uint32_t domain = core_place_above(core, core_node(core, node)->place, CORE_DOMAIN);
        if (domain != 0 && core_plan_within(core, domain, type, request->shape, 1)) placed++;
    }
    return placed;
}

uint32_t core_segment_plan(struct mr_core *core, const struct core_request *request,
                           uint8_t *ret_type)
{
    uint8_t types[MR_ACCEL_TYPES_MAX];
    uint32_t count = core_shape_types(core, request->shape, types), segment = request->segment;
    uint32_t world = MR_MIN(request->tasks_max, request->world_max);
    uint32_t least = (request->tasks_min + segment - 1) / segment, most = world / segment;
    for (uint32_t i = 0; i < count && least <= most; i++) {
        uint32_t placed = 0;
        if (core_topology_unbounded(request->topology)) {
            uint32_t more = 1;
            for (; more > 0 && placed < most; placed += more) {
                more = segments_add(core, types[i], request, most - placed);
            }
        } else {
            placed = plan_in_place(core, types[i], request, least, most);
        }
        if (placed < least) {
            core_plan_drop(core, request->shape);
            continue;
        }
        MR_INVARIANT(1, core_segments_sound(core, segment, placed * segment));
        *ret_type = request->shape->accel_milli == 0 ? 0 : types[i];
        uint32_t spares = request->tasks_max - world;
        if (placed * segment < request->world_max) spares = 0;
        return placed * segment + spares_add(core, types[i], request, spares);
    }
    return 0;
}
