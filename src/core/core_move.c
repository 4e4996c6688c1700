/* SPDX-License-Identifier: Apache-2.0 */
/* Moving: work that is in the way goes on elsewhere instead of waiting.
 *
 * A gang that has to go for others and fits beside them at its full size gets a claim there, is
 * asked to stop with a checkpoint, and starts again as soon as it has. And a job for which enough
 * is free, but not together, may have small work moved together: of the places that it could lie
 * in, those with most free are looked at, and the one whose work loses least is freed. That is done
 * only when all that must go fits elsewhere, so nobody loses more than a restart, and when what is
 * lost in sum (device-time since the checkpoints, and restarts) is less than what the job's devices
 * would lose waiting until its hold begins, or have lost waiting when nothing is known; or no more
 * than what others would lose that it preempts otherwise, who would have to queue besides.
 *
 * It ends: a move takes one job out of the queue and puts none into it, and a run is left alone
 * longer after each move, twice as long as before. So a gang that needs T to end is moved
 * O(log T) times, and no two jobs can move it back and forth.
 *
 * Owns:       nothing between steps.
 * Invariants: (1) a move keeps the size of a gang, but for spares;
 *             (2) of a higher class, of reservations and of plans by deadline nothing is moved;
 *             (3) the fleet and the quotas are as before when nothing is moved.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       once in half a minute for each of the first CORE_HOLDS jobs for which enough is free
 *             in sum: O(MOVE_UNITS * (leases * log nodes + nodes of the place)) for each of
 *             MOVE_PLACES places, and MOVE_TRIES times the plans of those who move.
 * Idea:       docs/internals/core.md; Hermenier et al. (Entropy), VEE 2009: moves are chosen by
 *             what they cost   Tests: tests/unit/core/test_core_move.c
 */
#include "core_quota.h"
#include "core_reserve.h"

#define MOVE_PLACES 32u   /* looked at in search of one to free; blocks 8, cells 2 */
#define MOVE_NODES  1024u /* of a place that is looked at */
#define MOVE_UNITS  32u   /* gangs of one place that may move */
#define MOVE_LEASES 64u   /* of a gang that may move; four times that from one place */
#define MOVE_TRIES  16u   /* places freed, or plans made, for one job */

/* --- one gang ------------------------------------------------------------------------------- */

static bool unit_move(struct mr_core *core, struct core_unit *unit)
{
    const struct core_workload *v = core_workload(core, unit->workload);
    uint8_t type = 0;
    struct core_bound bound;
    if (unit->lease != 0 || v->planned != 0 || v->reserved != 0) return false;
    uint32_t world = core_spare_world(v, v->tasks);
    struct core_request request = core_request_make(core, unit->workload, world, v->tasks);
    request.world_max = world;
    uint32_t tasks = core_plan_allowed(core, unit->workload, &request, &type, &bound);
    if (tasks == 0) return false;
    MR_INVARIANT(1, tasks >= world && tasks <= v->tasks);
    core_spare_spread(core, unit->workload, tasks);
    core_leases_from_plan(core, unit->workload, tasks, type, true);
    unit->moves = true;
    return true;
}

bool core_units_move(struct mr_core *core, struct core_units *units)
{
    bool all = true;
    for (uint32_t i = units->given; i-- > 0;) {
        struct core_unit *unit = &units->units[i];
        if (unit->needed && !unit_move(core, unit)) all = false;
    }
    return all;
}

/* --- a job that wants a place ----------------------------------------------------------------- */

struct spot { /* a place, or a node, that could be freed */
    uint64_t cost;
    uint32_t at;
};
struct move {
    struct mr_core *core;
    const struct core_workload *w;
    uint32_t workload, type, level; /* level: of the places; CORE_LEVEL_COUNT: single nodes */
    uint64_t wait_us;               /* so long it waits otherwise; UINT64_MAX: others would go */
    uint64_t most;                  /* then: what that would lose, and one more */
    struct mr_shape shape;          /* on devices of the type alone */
    struct core_request request;
    bool several;                   /* more than one place may have to be freed */
    bool later;                     /* it may be worth it another time */
    const struct core_units *given; /* of places freed before; NULL: none */
    struct spot spots[MOVE_TRIES];
    uint32_t spot_count;
};

/* What others may lose for it, as core_unit_cost counts it: less than its devices lose while it
 * waits, of which the time in which they stop is not saved. */
static uint64_t worth(const struct move *m, uint64_t grace_us)
{
    uint64_t each =
        m->w->shape.accel_milli != 0 ? m->w->shape.accel_milli : m->w->shape.cpu_milli / 16;
    uint64_t saved_us = m->wait_us - MR_MIN(m->wait_us, grace_us), gain;
    if (m->wait_us == UINT64_MAX) return m->most;
    return mr_mul_u64(each * m->w->tasks_min, saved_us, &gain) ? gain : UINT64_MAX;
}

/* Which places it needs free; false: work that is not moved for. */
static bool level_find(struct move *m)
{
    enum mr_topology topology = (enum mr_topology)m->w->topology;
    bool single = topology == MR_TOPOLOGY_NODE || m->w->tasks_min == 1;
    m->several = m->w->segment != 0 || (!single && core_topology_unbounded(topology));
    m->level = CORE_LEVEL_COUNT;
    if (m->w->segment != 0)
        m->level = CORE_DOMAIN;
    else if (!single && !core_topology_unbounded(topology))
        m->level = core_topology_widen[core_topology_levels(topology) - 1];
    return m->level != CORE_LEVEL_COUNT || m->w->shape.accel_milli >= CORE_WHOLE;
}

/* False: it is no job that others are moved for, or there are none. */
static bool move_begin(struct move *m, struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    uint32_t victims = 0;
    m->core = core;
    m->w = w;
    m->workload = workload;
    m->wait_us = UINT64_MAX;
    m->most = 0;
    m->later = false;
    m->given = NULL;
    m->spot_count = 0;
    if (w->phase != CORE_WAITING || w->kind != MR_KIND_JOB || w->planned != 0) return false;
    if (w->reserved != 0 || w->spread != MR_SPREAD_NONE || !level_find(m)) return false;
    for (uint32_t i = w->priority; i < MR_PRIORITY_COUNT; i++) {
        victims += core->victim_count[i];
    }
    if (victims == 0) return false;
    m->shape = w->shape;
    m->request = core_request_make(core, workload, w->tasks_min, w->tasks_min);
    m->request.shape = &m->shape;
    return true;
}

/* Whether devices of the type could do: enough of them are free in sum, and within its quotas. */
static bool type_begin(struct move *m, uint32_t type)
{
    const struct mr_core *core = m->core;
    uint64_t tasks = m->w->tasks_min;
    m->type = type;
    memset(m->shape.accel_types, 0, sizeof m->shape.accel_types);
    m->shape.accel_types[0] = (uint8_t)type;
    if (core->type_free_milli[type] < m->shape.accel_milli * tasks) return false;
    if (core->cpu_free_milli < m->shape.cpu_milli * tasks) return false;
    if (core->mem_free_mib < m->shape.mem_mib * tasks) return false;
    const struct core_ask ask = {.shape = &m->shape,
                                 .tenant = m->w->tenant,
                                 .most = m->w->tasks_min,
                                 .type = (uint8_t)type,
                                 .one_more_running = !m->w->counted_running,
                                 .borrow = m->w->preemptible != 0};
    struct core_bound bound;
    return core_quota_tasks(core, &ask, &bound) == m->w->tasks_min;
}

/* --- who may move ----------------------------------------------------------------------------- */

static bool movable(struct move *m, const struct core_workload *v)
{
    if (v->kind != MR_KIND_JOB || v->phase != CORE_ACTIVE || !v->preemptible) return false;
    if (v->priority < m->w->priority || v->reserved != 0 || v->planned != 0) return false;
    if (v->claimed > 0 || v->gone > 0 || v->lease_count > MOVE_LEASES) return false;
    if (v->grace_us >= m->wait_us) return false; /* it would wait for that longer */
    uint64_t settle_us = CORE_MOVE_SETTLE_US << MR_MIN(v->moves, 16u);
    if (m->core->now_us - v->run_started_us >= settle_us) return true;
    m->later = true;
    return false;
}

static bool among(const struct core_units *units, uint32_t workload)
{
    for (uint32_t i = 0; units != NULL && i < units->count; i++) {
        if (units->units[i].workload == workload) return true;
    }
    return false;
}

static void node_collect(struct move *m, uint32_t node, struct core_units *units)
{
    struct mr_core *core = m->core;
    uint32_t at = core_node(core, node)->lease_first;
    for (; at != 0 && units->count < MOVE_UNITS; at = core_lease(core, at)->node_next) {
        const struct core_lease *l = core_lease(core, at);
        const struct core_workload *v = core_workload(core, l->workload);
        if (l->state == CORE_LEASE_CLAIM || !movable(m, v)) continue;
        if (among(units, l->workload) || among(m->given, l->workload)) continue;
        const struct core_unit unit = {
            .cost = core_unit_cost(core, v, v->tasks), .workload = l->workload, .stop = true};
        core_unit_add(units, &unit);
    }
}

static void spot_collect(struct move *m, uint32_t spot, struct core_units *units)
{
    struct mr_core *core = m->core;
    units->count = 0;
    units->given = 0;
    units->stopping_count = 0;
    if (m->level == CORE_LEVEL_COUNT) {
        node_collect(m, spot, units);
        return;
    }
    if (core_place(core, spot)->nodes > MOVE_NODES) return;
    for (uint32_t at = spot; at != 0; at = core_place_next(core, spot, at, true)) {
        uint32_t node = core_place(core, at)->node_first;
        for (; node != 0; node = core_node(core, node)->place_next) {
            node_collect(m, node, units);
        }
    }
}

/* Tasks that fit there now, or segments. */
static uint32_t spot_fit(const struct move *m, uint32_t spot)
{
    uint32_t most = m->w->tasks_min;
    if (m->level == CORE_LEVEL_COUNT)
        return core_node_fit(m->core, spot, m->type, &m->shape,
                             MR_MIN(most, MR_TASKS_PER_NODE_MAX));
    uint32_t fit = core_place_fit(m->core, spot, m->type, &m->shape, most);
    return m->w->segment != 0 ? fit / m->w->segment : fit;
}

/* Gives back the cheapest of those who are there until the job fits, or one more of its parts; what
 * then is in nobody's way is taken again, dearest first. True: the rest stays given back, and
 * *ret_cost is what it loses. False: nothing changed. */
static bool spot_free(struct move *m, uint32_t spot, struct core_units *units, uint64_t *ret_cost)
{
    struct mr_core *core = m->core;
    core_view_of(core, m->workload, core_view_goes(core, m->workload));
    uint32_t wanted = m->several ? spot_fit(m, spot) + 1 : m->w->tasks_min;
    spot_collect(m, spot, units);
    for (uint32_t leases = 0; units->given < units->count && leases < 4 * MOVE_LEASES;) {
        const struct core_unit *unit = &units->units[units->given];
        if (spot_fit(m, spot) >= wanted) break;
        leases += core_workload(core, unit->workload)->lease_count;
        (void)core_unit_lend(core, unit, false);
        units->given++;
    }
    bool enough = units->given > 0 && spot_fit(m, spot) >= wanted;
    uint32_t kept = CORE_VICTIMS;
    *ret_cost = 0;
    for (uint32_t i = units->given; i-- > 0;) {
        const struct core_unit unit = units->units[i];
        (void)core_unit_lend(core, &unit, true);
        if (!enough || spot_fit(m, spot) >= wanted) continue;
        (void)core_unit_lend(core, &unit, false);
        units->units[--kept] = unit; /* above all that is still to be looked at */
        *ret_cost += MR_MIN(unit.cost, UINT64_MAX - *ret_cost);
    }
    units->count = CORE_VICTIMS - kept;
    units->given = units->count;
    memmove(units->units, &units->units[kept], units->count * sizeof units->units[0]);
    return enough;
}
_Static_assert(2 * MOVE_UNITS <= CORE_VICTIMS, "those kept lie above those collected");

/* --- where ------------------------------------------------------------------------------------ */

static void spot_look(struct move *m, uint32_t at)
{
    struct core_units units; /* large: only what is counted is ever read */
    struct spot spot = {.at = at};
    if (!spot_free(m, at, &units, &spot.cost)) return;
    core_room_back(m->core, &units, false);
    if (spot.cost >= worth(m, 0)) {
        m->later = true;
        return;
    }
    uint32_t i = m->spot_count < MOVE_TRIES ? m->spot_count++ : MOVE_TRIES;
    if (i == MOVE_TRIES && spot.cost >= m->spots[--i].cost) return;
    for (; i > 0 && spot.cost < m->spots[i - 1].cost; i--) {
        m->spots[i] = m->spots[i - 1];
    }
    m->spots[i] = spot;
}

static void places_look(struct move *m)
{
    const struct mr_core *core = m->core;
    uint32_t most = MOVE_PLACES >> (2 * (CORE_DOMAIN - m->level)); /* blocks are larger */
    uint32_t places[MOVE_PLACES], count = 0;
    for (uint32_t b = CORE_PLACE_BUCKETS; b-- > 0 && count < most;) {
        if (!mr_bit_get(core->place_mask[m->level][m->type], b)) continue;
        uint32_t at = core->place_bucket[m->level][m->type][b];
        for (; at != 0 && count < most; at = core_place_type(core, at, m->type)->next) {
            places[count++] = at;
        }
    }
    for (uint32_t i = 0; i < count; i++) { /* which changes the buckets they lie in */
        spot_look(m, places[i]);
    }
}

/* Nodes with the most devices wholly free first. */
static void nodes_look(struct move *m)
{
    const struct mr_core *core = m->core;
    uint32_t nodes[MOVE_PLACES], count = 0;
    for (uint32_t whole = CORE_WHOLE_GROUPS; whole-- > 0 && count < MOVE_PLACES;) {
        struct core_tree_walk walk;
        uint32_t state;
        if (!mr_bit_get(core->whole_mask[m->type], whole)) continue;
        core_tree_walk_start(core, &walk, core->whole_root[m->type][whole], 0);
        while (count < MOVE_PLACES && (state = core_tree_walk_next(core, &walk)) != 0) {
            uint32_t node = core_free_state(core, state)->node_first;
            for (; node != 0 && count < MOVE_PLACES; node = core_node(core, node)->state_next)
                nodes[count++] = node;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        spot_look(m, nodes[i]);
    }
}

/* --- doing it ----------------------------------------------------------------------------------
 */

/* Whether what those who must go lose in sum is worth it. */
static bool cheap(struct move *m, const struct core_units *units)
{
    uint64_t cost = 0, grace_us = 0;
    for (uint32_t i = 0; i < units->given; i++) {
        const struct core_unit *unit = &units->units[i];
        if (!unit->needed) continue;
        cost += MR_MIN(unit->cost, UINT64_MAX - cost);
        grace_us = MR_MAX(grace_us, core_workload(m->core, unit->workload)->grace_us);
    }
    if (cost < worth(m, grace_us)) return true;
    m->later = true;
    return false;
}

/* The plan is taken: a claim for the job, and one for each that must go; or nothing. */
static bool claim(struct move *m, struct core_units *units, uint32_t tasks, uint8_t type)
{
    core_room_claim(m->core, units, m->workload, tasks, type);
    bool made = cheap(m, units) && core_units_move(m->core, units);
    if (made) return true;
    core_room_undo(m->core, units, m->workload);
    core_room_back(m->core, units, true);
    units->count = 0;
    units->given = 0;
    return false;
}

/* False: those would be too many, and are taken again. */
static bool units_append(struct mr_core *core, struct core_units *units,
                         const struct core_units *more)
{
    if (more->given > CORE_VICTIMS - units->given) {
        core_room_back(core, more, false);
        return false;
    }
    for (uint32_t i = 0; i < more->given; i++) {
        units->units[units->given++] = more->units[i];
    }
    units->count = units->given;
    return true;
}

/* Frees the spots in the order of their cost, one or more, until all have a claim. True: those who
 * must go are given back still. */
static bool spots_try(struct move *m, struct core_units *units, uint8_t *ret_type)
{
    struct core_units more;
    struct core_bound bound;
    bool made = false;
    units->count = 0;
    units->given = 0;
    units->stopping_count = 0;
    m->given = units;
    for (uint32_t i = 0; i < m->spot_count && !made; i++) {
        uint64_t cost;
        if (!m->several) {
            core_room_back(m->core, units, false);
            units->count = 0;
            units->given = 0;
        }
        if (!spot_free(m, m->spots[i].at, &more, &cost)) continue;
        if (!units_append(m->core, units, &more)) continue;
        uint32_t tasks = core_plan_allowed(m->core, m->workload, &m->request, ret_type, &bound);
        if (tasks == 0) continue;
        made = claim(m, units, tasks, *ret_type);
        if (m->several) break;
    }
    if (!made) core_room_back(m->core, units, false);
    m->given = NULL;
    return made;
}

/* What could be freed for it, with the room that it holds. */
static void spots_find(struct move *m, uint32_t type)
{
    struct mr_core *core = m->core;
    struct core_released_kept kept;
    core_released_keep(core, &kept);
    core_claims_lend(core, m->workload, false, true);
    m->spot_count = 0;
    if (type_begin(m, type)) {
        if (m->level == CORE_LEVEL_COUNT)
            nodes_look(m);
        else
            places_look(m);
    }
    core_claims_lend(core, m->workload, true, true);
    core_released_back(core, &kept);
}

/* --- instead of preempting ---------------------------------------------------------------------
 */

bool core_move_could(struct mr_core *core, uint32_t workload)
{
    struct move m; /* large: only what is counted is ever read */
    uint8_t types[MR_ACCEL_TYPES_MAX];
    if (!move_begin(&m, core, workload)) return false;
    uint32_t count = core_shape_types(core, &m.w->shape, types);
    for (uint32_t i = 0; i < count; i++) {
        if (type_begin(&m, types[i])) return true;
    }
    return false;
}

bool core_move_instead(struct mr_core *core, uint32_t workload, uint64_t lost,
                       struct core_units *ret_units, uint8_t *ret_type)
{
    struct move m;
    uint8_t types[MR_ACCEL_TYPES_MAX];
    MR_ASSERT(core_workload(core, workload)->claimed == 0);
    if (!move_begin(&m, core, workload)) return false;
    m.most = lost < UINT64_MAX ? lost + 1 : lost; /* of equal losses, who moves does not queue */
    uint32_t count = core_shape_types(core, &m.w->shape, types);
    for (uint32_t i = 0; i < count; i++) {
        spots_find(&m, types[i]);
        if (m.spot_count > 0 && spots_try(&m, ret_units, ret_type)) return true;
    }
    return false;
}

/* --- instead of waiting ------------------------------------------------------------------------
 */

/* Its hold, if it has one, is given up for the tries, and made again when they fail. */
static bool type_try(struct move *m)
{
    struct mr_core *core = m->core;
    struct core_units units;
    uint8_t type = 0;
    bool held = m->w->hold_us != 0;
    uint64_t due_us = core->hold_due_us;
    core->quiet = 1;
    core_claims_drop(core, m->workload);
    core->quiet = 0;
    core->hold_due_us = due_us; /* that is no end */
    struct core_released_kept kept;
    core_released_keep(core, &kept);
    bool made = spots_try(m, &units, &type);
    if (made) core_room_back(core, &units, true);
    core_released_back(core, &kept);
    MR_ASSERT(core->plan_count == 0);
    if (made)
        core_room_enter(core, &units, m->workload, type);
    else if (held)
        (void)core_hold_make(core, m->workload);
    return made;
}

bool core_move_make(struct mr_core *core, uint32_t workload)
{
    struct move m;
    uint8_t types[MR_ACCEL_TYPES_MAX];
    const struct core_workload *w = core_workload(core, workload);
    if (!move_begin(&m, core, workload)) return false;
    m.wait_us = w->hold_us != 0 ? MR_MAX(w->hold_us, core->now_us) - core->now_us
                                : core->now_us - MR_MIN(w->waits_us, core->now_us);
    if (worth(&m, 0) <= CORE_RESTART_US) return false;
    uint32_t count = core_shape_types(core, &w->shape, types);
    for (uint32_t i = 0; i < count; i++) {
        spots_find(&m, types[i]);
        if (m.spot_count > 0 && type_try(&m)) return true;
    }
    if (m.later) core_hold_arm(core, core->now_us + CORE_MOVE_BEAT_US);
    return false;
}
