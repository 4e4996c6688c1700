/* SPDX-License-Identifier: Apache-2.0 */
/* Making room: who shrinks or goes so that work of a higher class, or a service under load, starts.
 *
 * What may go is given back to the fleet for a moment, cheapest first, until a plan for the
 * claimant comes off. The plan becomes a claim; then everything is taken again: who fits beside
 * the claim is spared (dearest first), a gang that does not gets a claim of its own: elsewhere for
 * all that it has (core_move.c), else, if it is elastic, for a smaller run. The rest is asked to
 * stop. Nodes then hold more than they have until that is done, and claims on them wait; nobody
 * else can take the room meanwhile.
 *
 * Cost of a victim: device-microseconds since its last checkpoint, and those of a restart. Gangs
 * that can shrink come before those that must go. What goes because of quotas is chosen by
 * core_reclaim.c and made room of here.
 *
 * Owns:       the lists of possible victims.
 * Invariants: (1) nobody is asked to stop unless the claimant's plan came off;
 *             (2) a gang that is only shrunk keeps a claim for at least its tasks_min;
 *             (3) the fleet and the quotas are as before when no room can be made.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(leases of at most CORE_VICTIMS victims * log nodes), a handful of plans.
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_room.c
 */
#include "core_quota.h"
#include "core_reserve.h"

/* --- lists of possible victims -----------------------------------------------------------------
 */

void core_victim_join(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    bool elastic = !core_is_service(w) && w->tasks_max > w->tasks_min;
    if (w->victim_list != 0 || !(w->preemptible || elastic)) return;
    w->victim_list = 1 + w->priority * MR_ACCEL_TYPES_MAX + w->accel_type;
    uint32_t *head = &core->victim_first[w->victim_list - 1];
    w->victim_prev = 0;
    w->victim_next = *head;
    if (*head != 0) core_workload(core, *head)->victim_prev = workload;
    *head = workload;
    core->victim_count[w->priority]++;
    core->victim_epoch++;
    uint32_t *own = &core_tenant(core, w->tenant)->victim_first;
    w->own_next = *own;
    if (*own != 0) core_workload(core, *own)->own_prev = workload;
    *own = workload;
}

void core_victim_leave(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    if (w->victim_list == 0) return;
    if (w->victim_prev != 0)
        core_workload(core, w->victim_prev)->victim_next = w->victim_next;
    else
        core->victim_first[w->victim_list - 1] = w->victim_next;
    if (w->victim_next != 0) core_workload(core, w->victim_next)->victim_prev = w->victim_prev;
    w->victim_list = 0;
    w->victim_prev = 0;
    w->victim_next = 0;
    MR_ASSERT(core->victim_count[w->priority] > 0);
    core->victim_count[w->priority]--;
    if (w->own_prev != 0)
        core_workload(core, w->own_prev)->own_next = w->own_next;
    else
        core_tenant(core, w->tenant)->victim_first = w->own_next;
    if (w->own_next != 0) core_workload(core, w->own_next)->own_prev = w->own_prev;
    w->own_prev = 0;
    w->own_next = 0;
}

/* --- choosing candidates ------------------------------------------------------------------- */

bool core_unit_before(const struct core_unit *a, const struct core_unit *b)
{
    if (a->rank != b->rank) return a->rank < b->rank;
    if (a->shrink != b->shrink) return a->shrink;
    if (a->cost != b->cost) return a->cost < b->cost;
    return a->workload != b->workload ? a->workload > b->workload : a->lease > b->lease;
}

void core_unit_add(struct core_units *room, const struct core_unit *unit)
{
    if (room->count == CORE_VICTIMS) return;
    uint32_t at = room->count++;
    for (; at > 0 && core_unit_before(unit, &room->units[at - 1]); at--) {
        room->units[at] = room->units[at - 1];
    }
    room->units[at] = *unit;
}

uint64_t core_unit_cost(const struct mr_core *core, const struct core_workload *w, uint32_t tasks)
{
    uint64_t each = w->shape.accel_milli != 0 ? w->shape.accel_milli : w->shape.cpu_milli / 16;
    uint64_t lost_us = core_is_service(w) ? 1000000 : core->now_us - w->saved_us;
    uint64_t cost;
    if (!mr_mul_u64(each * tasks + 1, lost_us + CORE_RESTART_US, &cost)) cost = UINT64_MAX;
    return cost;
}

static void candidate_units(const struct mr_core *core, struct core_units *room, uint32_t victim,
                            const struct core_workload *claimant)
{
    const struct core_workload *v = core_workload(core, victim);
    bool lower = v->priority > claimant->priority;
    bool stop = lower && v->preemptible;
    if (core_is_service(v)) {
        if (!stop) return;
        uint32_t lease = v->lease_last;
        for (; lease != 0 && room->count < CORE_VICTIMS; lease = core_lease(core, lease)->of_prev) {
            uint8_t state = core_lease(core, lease)->state;
            if (state != MR_LEASE_STARTING && state != MR_LEASE_RUNNING) continue;
            struct core_unit unit = {.cost = core_unit_cost(core, v, 1),
                                     .workload = victim,
                                     .lease = lease,
                                     .stop = true};
            core_unit_add(room, &unit);
        }
        return;
    }
    bool service_asks = core_is_service(claimant) && v->priority >= claimant->priority;
    bool shrink = (lower || service_asks) && v->tasks > v->tasks_min;
    if (v->phase != CORE_ACTIVE || v->claimed > 0 || !(stop || shrink)) return;
    struct core_unit unit = {.cost = core_unit_cost(core, v, v->tasks),
                             .workload = victim,
                             .shrink = shrink,
                             .stop = stop};
    core_unit_add(room, &unit);
}

static void candidates_collect(const struct mr_core *core, struct core_units *room,
                               uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    uint32_t highest = w->priority + (core_is_service(w) ? 0u : 1u);
    for (uint32_t priority = MR_PRIORITY_COUNT; priority-- > highest;) {
        for (uint32_t type = 0; type < MR_ACCEL_TYPES_MAX; type++) {
            if (core->victim_count[priority] == 0) break;
            /* Work without accelerators may sit on the cpu that is missed. */
            if (type != 0 && !core_shape_accepts(&w->shape, type)) continue;
            uint32_t at = core->victim_first[priority * MR_ACCEL_TYPES_MAX + type];
            for (uint32_t i = 0; at != 0 && i < CORE_VICTIMS; i++) {
                if (at != workload) candidate_units(core, room, at, w);
                at = core_workload(core, at)->victim_next;
            }
        }
    }
    room->stopping_count = core_leases_stopping(core, room->stopping);
}

/* --- giving back for a moment --------------------------------------------------------------- */

bool core_unit_lend(struct mr_core *core, const struct core_unit *unit, bool take)
{
    if (unit->lease == 0) return core_leases_lend(core, unit->workload, take, true);
    core_lease_lend(core, unit->lease, take, true);
    return !core_node(core, core_lease(core, unit->lease)->node)->unsound;
}

static void stopping_hold(struct mr_core *core, const struct core_units *room, bool take)
{
    for (uint32_t i = 0; i < room->stopping_count; i++) {
        core_lease_lend(core, room->stopping[i], take, true);
    }
}

static uint32_t plan_in_view(struct mr_core *core, uint32_t workload,
                             const struct core_request *request, uint8_t *ret_type,
                             struct core_bound *ret_bound)
{
    const struct core_workload *w = core_workload(core, workload);
    struct core_ask ask = {.shape = request->shape,
                           .tenant = w->tenant,
                           .most = request->tasks_max,
                           .one_more_running =
                               core_is_service(w) ? w->tasks == 0 : !w->counted_running,
                           .borrow = w->preemptible != 0};
    struct core_passes passes;
    *ret_bound = (struct core_bound){.tenant = 0};
    core_passes_begin(core, &passes, request, w->tenant);
    bool allowed = false;
    uint32_t missing = UINT32_MAX; /* the least of all passes */
    while (core_passes_next(core, &passes, &ask, ret_bound)) {
        uint32_t tasks = core_plan_make(core, &passes.request, ret_type);
        if (tasks > 0 && w->exclusive != MR_EXCLUSIVE_NONE)
            return core_alone_within(core, workload, &passes.request, tasks, ret_type, ret_bound);
        if (tasks > 0) return tasks;
        missing = MR_MIN(missing, core->plan_short);
        allowed = true;
    }
    core->plan_short = missing;
    if (allowed) /* it is room that is short, or the quota of another type */
        *ret_bound = (struct core_bound){.highest = ret_bound->highest};
    else if (ret_bound->reason.code == MR_REASON_QUOTA)
        ret_bound->reason.c *= request->tasks_min;
    return 0;
}

uint32_t core_plan_allowed(struct mr_core *core, uint32_t workload,
                           const struct core_request *request, uint8_t *ret_type,
                           struct core_bound *ret_bound)
{
    core_view_of(core, workload, false);
    uint32_t tasks = plan_in_view(core, workload, request, ret_type, ret_bound);
    bool again = tasks == 0 && ret_bound->tenant == 0 && core->tables[CORE_RESERVED].live > 0;
    if (!again || !core_view_goes(core, workload)) return tasks;
    core_view_of(core, workload, true); /* it may stay until it is asked to go */
    return plan_in_view(core, workload, request, ret_type, ret_bound);
}

/* Gives back one, two, four, … candidates until the claimant's plan comes off. */
static uint32_t plan_with_room(struct mr_core *core, struct core_units *room, uint32_t workload,
                               const struct core_request *request, uint8_t *ret_type)
{
    stopping_hold(core, room, false);
    for (;;) {
        /* No tasks beyond the least: others are not displaced for more than that. */
        struct core_request least = *request;
        struct core_bound bound;
        least.tasks_max = least.tasks_min;
        uint32_t tasks = core_plan_allowed(core, workload, &least, ret_type, &bound);
        if (tasks > 0) return tasks;
        if (room->given == room->count) return 0;
        uint32_t next = MR_MIN(room->count, room->given == 0 ? 1 : 2 * room->given);
        for (; room->given < next; room->given++) {
            (void)core_unit_lend(core, &room->units[room->given], false);
        }
    }
}

void core_room_claim(struct mr_core *core, struct core_units *room, uint32_t workload,
                     uint32_t tasks, uint8_t type)
{
    core_leases_from_plan(core, workload, tasks, type, true);
    for (uint32_t i = room->given; i-- > 0;) {
        struct core_unit *unit = &room->units[i];
        bool sound = core_unit_lend(core, unit, true);
        if (sound && core_quota_over(core, workload, type) == 0) continue;
        (void)core_unit_lend(core, unit, false);
        unit->needed = true;
    }
}

/* A smaller run for each gang that can shrink; false when one that may not be stopped has none. */
static bool units_shrink(struct mr_core *core, struct core_units *room)
{
    for (uint32_t i = 0; i < room->given; i++) {
        struct core_unit *unit = &room->units[i];
        if (!unit->needed || unit->moves || !unit->shrink) continue;
        const struct core_workload *v = core_workload(core, unit->workload);
        const struct core_request request =
            core_request_make(core, unit->workload, v->tasks_min, v->tasks - 1);
        uint8_t type = 0;
        struct core_bound bound;
        uint32_t tasks = core_plan_allowed(core, unit->workload, &request, &type, &bound);
        if (tasks > 0) {
            MR_INVARIANT(2, tasks >= v->tasks_min && tasks < v->tasks);
            core_leases_from_plan(core, unit->workload, tasks, type, true);
        } else if (unit->stop) {
            unit->shrink = false;
        } else {
            return false;
        }
    }
    return true;
}

void core_room_back(struct mr_core *core, const struct core_units *room, bool only_needed)
{
    for (uint32_t i = 0; i < room->given; i++) {
        if (!only_needed || room->units[i].needed) {
            (void)core_unit_lend(core, &room->units[i], true);
        }
    }
    stopping_hold(core, room, true);
}

static void victims_stop(struct mr_core *core, const struct core_units *room, uint64_t claimant)
{
    for (uint32_t i = 0; i < room->given; i++) {
        const struct core_unit *unit = &room->units[i];
        if (!unit->needed) continue;
        struct core_workload *v = core_workload(core, unit->workload);
        if (unit->lease != 0) {
            core_trace(core, "workload %llu loses a replica to %llu", (unsigned long long)v->id,
                       (unsigned long long)claimant);
            core_service_replica_stop(core, unit->lease, false);
            core_service_update(core, unit->workload);
            continue;
        }
        bool claims = unit->moves || unit->shrink; /* its next run */
        core_trace(core, "workload %llu %s for %llu", (unsigned long long)v->id,
                   unit->moves    ? "moves"
                   : unit->shrink ? "shrinks"
                                  : "is preempted",
                   (unsigned long long)claimant);
        if (unit->moves && v->moves < UINT8_MAX) v->moves++;
        core_gang_stop(core, unit->workload, claims ? CORE_OUTCOME_CLAIM : CORE_OUTCOME_REQUEUE,
                       MR_STATE_PREEMPTED, true);
    }
}

/* That is no news for those who wait for a quota. */
static void victims_undo(struct mr_core *core, struct core_units *room)
{
    core->quiet = 1;
    for (uint32_t i = 0; i < room->given; i++) {
        struct core_unit *unit = &room->units[i];
        if (unit->needed) core_claims_drop(core, unit->workload);
        unit->moves = false;
    }
    core->quiet = 0;
}

void core_room_undo(struct mr_core *core, struct core_units *room, uint32_t workload)
{
    core->quiet = 1;
    core_claims_drop(core, workload);
    core->quiet = 0;
    victims_undo(core, room);
}

static const char *room_verb(const struct core_units *room)
{
    for (uint32_t i = 0; i < room->given; i++) {
        if (room->units[i].needed && room->units[i].rank > 0) return "reclaims";
    }
    return "makes room";
}

void core_room_enter(struct mr_core *core, const struct core_units *room, uint32_t workload,
                     uint8_t type)
{
    struct core_workload *w = core_workload(core, workload);
    core_trace(core, "workload %llu %s", (unsigned long long)w->id, room_verb(room));
    core_class_leave(core, workload);
    w->accel_type = type;
    if (!core_is_service(w)) w->phase = CORE_CLAIMING;
    victims_stop(core, room, w->id);
    if (!core_is_service(w))
        core_claim_wait(core, workload);
    else if (w->claim_wait == 0)
        core_timer_set(core, workload, core->now_us);
}

static uint32_t room_collect(struct mr_core *core, struct core_units *room, uint32_t workload,
                             const struct core_request *request, const struct core_bound *bound)
{
    room->count = 0;
    room->given = 0;
    room->stopping_count = 0;
    if (bound->tenant == 0) candidates_collect(core, room, workload);
    (void)core_reclaim_collect(core, workload, room, request, bound); /* counted by the room */
    return room->count + room->stopping_count;
}

/* True: the workload has its claim, and so has who moves or shrinks for it; those who must go are
 * given back still. False: nothing changed. */
static bool room_fill(struct mr_core *core, struct core_units *room, uint32_t workload,
                      const struct core_request *request, uint8_t *ret_type)
{
    bool made = false;
    uint32_t tasks = plan_with_room(core, room, workload, request, ret_type);
    if (tasks > 0) {
        core_room_claim(core, room, workload, tasks, *ret_type);
        (void)core_units_move(core, room);
        made = units_shrink(core, room);
        if (!made) { /* who moves may take the room of who can do no more than shrink */
            victims_undo(core, room);
            made = units_shrink(core, room);
        }
        if (!made) core_room_undo(core, room, workload);
    }
    if (!made) core_room_back(core, room, tasks > 0);
    return made;
}

/* What all lose who are in the way; 0: none of them has to queue. */
static uint64_t room_cost(const struct core_units *room)
{
    uint64_t cost = 0;
    bool queues = false;
    for (uint32_t i = 0; i < room->given; i++) {
        const struct core_unit *unit = &room->units[i];
        if (!unit->needed) continue;
        cost += MR_MIN(unit->cost, UINT64_MAX - cost);
        queues = queues || !(unit->moves || unit->shrink);
    }
    return queues ? cost : 0;
}

/* Others may move together somewhere else, and nobody has to queue. */
static bool room_rather(struct mr_core *core, struct core_units *room, uint32_t workload,
                        const struct core_request *request, const struct core_bound *bound,
                        uint8_t *ret_type)
{
    uint64_t lost = room_cost(room);
    if (lost == 0) return true;
    core_room_undo(core, room, workload);
    core_room_back(core, room, true);
    if (core_move_instead(core, workload, lost, room, ret_type)) return true;
    (void)room_collect(core, room, workload, request, bound);
    return room_fill(core, room, workload, request, ret_type);
}

bool core_room_make(struct mr_core *core, uint32_t workload, const struct core_request *request,
                    const struct core_bound *bound)
{
    MR_ASSERT(core_workload(core, workload)->claimed == 0 && core->plan_count == 0);
    if (bound->tenant != 0 && bound->reason.code != MR_REASON_QUOTA) return false;
    struct core_units room; /* large: only what is counted is ever read */
    struct mr_reason never; /* no leaving could make that room */
    if (room_collect(core, &room, workload, request, bound) == 0) return false;
    if (core_place_never(core, request, &never)) return false;
    struct core_released_kept kept;
    core_released_keep(core, &kept);
    uint32_t lent = core_hold_lend(core, workload, true);
    uint8_t type = 0;
    bool could = bound->tenant == 0 && core_move_could(core, workload);
    bool made = room_fill(core, &room, workload, request, &type);
    if (made && could) made = room_rather(core, &room, workload, request, bound, &type);
    if (made) core_room_back(core, &room, true);
    core_hold_take(core, lent);
    /* What was given back for a moment and taken again is no reason to try anybody. */
    core_released_back(core, &kept);
    MR_ASSERT(core->plan_count == 0);
    if (!made) return false;
    core_hold_yield(core, workload);
    core_room_enter(core, &room, workload, type);
    return true;
}

/* --- growing ------------------------------------------------------------------------------- */

/* Whether work of the same or a higher class waits for room of this kind that can come. */
static bool others_wait(const struct mr_core *core, const struct core_workload *w)
{
    uint32_t looked = 0;
    for (uint32_t b = 0; b < CORE_WAIT_BUCKETS; b++) {
        uint32_t at = core->wait_first[b];
        for (; at != 0; at = core_class(core, at)->wait_next) {
            const struct core_class *c = core_class(core, at);
            if (++looked == CORE_WALK) return true; /* then rather not */
            if (c->count == 0 || c->priority > w->priority) continue;
            if (c->shape.accel_milli != 0 && !core_shape_accepts(&c->shape, w->accel_type))
                continue;
            uint32_t least = MR_MAX(c->tasks_min, 1u);
            struct core_request request = {.shape = &c->shape,
                                           .topology = (enum mr_topology)c->topology,
                                           .tasks_min = least,
                                           .tasks_max = least};
            struct mr_reason never;
            if (!core_place_never(core, &request, &never)) return true;
        }
    }
    return false;
}

bool core_room_resize(struct mr_core *core, uint32_t workload, uint32_t tasks_min,
                      uint32_t tasks_max)
{
    struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(w->phase == CORE_ACTIVE && w->claimed == 0);
    MR_ASSERT(tasks_min > w->tasks);
    if (others_wait(core, w)) return false;
    struct core_bound bound;
    struct mr_shape same = w->shape; /* on the type that it has, whose quota is asked */
    memset(same.accel_types, 0, sizeof same.accel_types);
    same.accel_types[0] = w->accel_type;
    const struct core_ask ask = {.shape = &same,
                                 .tenant = w->tenant,
                                 .most = tasks_max - w->tasks,
                                 .type = w->accel_type,
                                 .borrow = w->preemptible != 0};
    uint32_t more = core_quota_tasks(core, &ask, &bound);
    if (w->tasks + more < tasks_min) return false;
    struct core_request request = core_request_make(core, workload, tasks_min, w->tasks + more);
    request.shape = &same;
    struct core_released_kept kept;
    core_released_keep(core, &kept);
    struct core_unit unit = {.workload = workload};
    (void)core_unit_lend(core, &unit, false);
    uint8_t type = 0;
    core_view_of(core, workload, core_view_goes(core, workload));
    uint32_t tasks = core_plan_make(core, &request, &type);
    if (tasks > 0 && w->exclusive != MR_EXCLUSIVE_NONE)
        tasks = core_alone_within(core, workload, &request, tasks, &type, &bound);
    if (tasks > 0) core_leases_from_plan(core, workload, tasks, type, true);
    (void)core_unit_lend(core, &unit, true);
    core_released_back(core, &kept);
    if (tasks == 0) return false;
    core_trace(core, "workload %llu grows from %u to %u tasks", (unsigned long long)w->id, w->tasks,
               tasks);
    core_gang_stop(core, workload, CORE_OUTCOME_CLAIM, MR_STATE_PREEMPTED, true);
    return true;
}
