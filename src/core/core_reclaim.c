/* SPDX-License-Identifier: Apache-2.0 */
/* Reclaim: whose work goes so that a tenant gets back what is its own, and when.
 *
 * A tenant within its nominal quota may ask back what it lent: from those that borrow, below the
 * tenant whose limit it ran into, or anywhere when it is nodes that are short. A tenant whose
 * quota is used up may put its own higher work before its lower one.
 *
 * Who borrows most over its weight gives first, and never below its own quota. That choice does
 * not look at losses, so hiding checkpoints moves the loss to nobody else; within one tenant the
 * work goes that loses least: that shrinks, then by device-time since its last checkpoint (since
 * its start when it never made one).
 *
 * Stopping work loses what it has done since its checkpoint, and a restart; waiting loses the
 * devices that the claimant would use. So it waits until it has lost as much as the others would,
 * and at most CORE_RECLAIM_US: work that is nearly done, or saves itself meanwhile, is not thrown
 * away, and nobody waits for what is its own for long.
 *
 * Owns:       nothing; the workload's timer while it waits.
 * Invariants: (1) nobody loses what lies within its nominal quota to another tenant;
 *             (2) only what may be stopped or shrunk is asked to.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(CORE_TENANTS_LOOKED * depth + CORE_VICTIMS^2), once a second at most for one gang.
 * Idea:       docs/internals/tenancy.md   Tests: tests/unit/core/test_core_reclaim.c
 */
#include "core_quota.h"

#define BORROWERS 64u
#define OWN_RANK  (CORE_VICTIMS + 1u) /* its own work goes after that of those that borrow */

struct borrower {  /* the highest tenant on the way up that is above its quota */
    uint64_t over; /* by so much, what was chosen already taken off */
    uint32_t tenant, weight;
};
struct reclaim {
    struct mr_core *core;
    const struct core_workload *w;
    const struct core_request *request;
    uint32_t top, amount;
    bool others, own; /* whose work may go */
    uint64_t each;    /* of the amount, by one of its tasks */
    uint64_t shortfall, need;
    struct borrower borrowers[BORROWERS];
    uint32_t borrower_count;
    const struct core_units *known;       /* chosen for other reasons already */
    struct core_unit found[CORE_VICTIMS]; /* rank: index of the borrower, or OWN_RANK */
    uint32_t found_count;
};

static uint64_t each_of(const struct mr_shape *shape, uint32_t amount)
{
    return core_shape_needs(shape, core_amount_resource(amount));
}

/* --- the right to ask ------------------------------------------------------------------------ */

/* Whether some tenant on the way up has a quota of its own of the amount, and all have room in it.
 */
static bool within_nominal(const struct reclaim *r)
{
    bool entitled = false;
    uint64_t more = r->need;
    for (uint32_t at = r->w->tenant; at != r->top && at != 0;) {
        const struct core_tenant *t = core_tenant(r->core, at);
        const struct core_amount *a = &t->amounts[r->amount];
        if (a->nominal != UINT64_MAX) {
            if (a->load + more > a->nominal) return false;
            entitled = true;
        }
        at = t->parent;
    }
    return entitled;
}

static bool rights_find(struct reclaim *r, const struct core_bound *bound)
{
    const struct core_tenant *t = core_tenant(r->core, r->w->tenant);
    const struct mr_shape *shape = r->request->shape;
    r->top = bound->tenant;
    r->amount = bound->tenant != 0 ? bound->amount : shape->accel_milli > 0 ? CORE_ACCEL : 0;
    r->each = each_of(shape, r->amount);
    r->need = r->each * r->request->tasks_min;
    if (bound->tenant != 0 && r->w->exclusive != MR_EXCLUSIVE_NONE)
        r->need = bound->reason.c; /* whole nodes */
    r->shortfall = r->need;
    if (r->top != 0) {
        uint64_t room = bound->reason.b - MR_MIN(bound->reason.a, bound->reason.b);
        r->shortfall -= MR_MIN(room, r->need);
    }
    r->others = t->reclaim != MR_PREEMPT_NEVER && r->need > 0 && within_nominal(r);
    r->own = r->top != 0 && t->within == MR_PREEMPT_LOWER;
    return r->others || r->own;
}

/* --- who may go ------------------------------------------------------------------------------ */

/* The borrower that the victim's tenant belongs to; BORROWERS: it borrows nothing. */
static uint32_t borrower_of(struct reclaim *r, uint32_t tenant)
{
    uint32_t highest = 0;
    for (uint32_t at = tenant; at != r->top && at != 0; at = core_tenant(r->core, at)->parent) {
        const struct core_amount *a = &core_tenant(r->core, at)->amounts[r->amount];
        if (a->nominal == UINT64_MAX || a->load <= a->nominal) continue;
        if (!core_tenant_above(r->core, at, r->w->tenant)) highest = at;
    }
    if (highest == 0) return BORROWERS;
    for (uint32_t i = 0; i < r->borrower_count; i++) {
        if (r->borrowers[i].tenant == highest) return i;
    }
    if (r->borrower_count == BORROWERS) return BORROWERS;
    const struct core_tenant *t = core_tenant(r->core, highest);
    const struct core_amount *a = &t->amounts[r->amount];
    r->borrowers[r->borrower_count] =
        (struct borrower){.over = a->load - a->nominal, .tenant = highest, .weight = t->weight};
    return r->borrower_count++;
}

static void found_add(struct reclaim *r, const struct core_unit *unit)
{
    if (r->found_count < CORE_VICTIMS) r->found[r->found_count++] = *unit;
}

/* Whether its going gives back something of the amount. */
static bool holds_any(const struct reclaim *r, const struct core_workload *v)
{
    if (v->exclusive != MR_EXCLUSIVE_NONE)
        return core_alone_holds(r->core, v, 0, r->amount) > 0; /* also what it did not ask for */
    bool type = r->amount <= CORE_ACCEL || v->accel_type == r->amount - CORE_ACCEL;
    return type && each_of(&v->shape, r->amount) > 0;
}

static void victim_add(struct reclaim *r, uint32_t victim, uint32_t rank)
{
    const struct core_workload *v = core_workload(r->core, victim);
    for (uint32_t i = 0; i < r->known->count; i++) {
        if (r->known->units[i].workload == victim) return;
    }
    if (!holds_any(r, v)) return;
    if (core_is_service(v)) {
        uint32_t lease = v->preemptible ? v->lease_last : 0;
        for (; lease != 0; lease = core_lease(r->core, lease)->of_prev) {
            uint8_t state = core_lease(r->core, lease)->state;
            if (state != MR_LEASE_STARTING && state != MR_LEASE_RUNNING) continue;
            const struct core_unit unit = {.cost = core_unit_cost(r->core, v, 1),
                                           .workload = victim,
                                           .lease = lease,
                                           .rank = rank,
                                           .stop = true};
            found_add(r, &unit);
        }
        return;
    }
    bool shrink = v->tasks > v->tasks_min;
    if (v->phase != CORE_ACTIVE || v->claimed > 0 || !(shrink || v->preemptible)) return;
    const struct core_unit unit = {.cost = core_unit_cost(r->core, v, v->tasks),
                                   .workload = victim,
                                   .rank = rank,
                                   .shrink = shrink,
                                   .stop = v->preemptible != 0};
    found_add(r, &unit);
}

static void tenant_victims(struct reclaim *r, uint32_t tenant)
{
    const struct core_tenant *t = core_tenant(r->core, tenant);
    if (t->victim_first == 0) return;
    bool own = tenant == r->w->tenant;
    uint32_t rank = own ? OWN_RANK : borrower_of(r, tenant);
    if (own ? !r->own : (!r->others || rank == BORROWERS)) return;
    bool lower = own || core_tenant(r->core, r->w->tenant)->reclaim == MR_PREEMPT_LOWER;
    uint32_t at = t->victim_first;
    for (uint32_t i = 0; at != 0 && i < CORE_VICTIMS; i++) {
        const struct core_workload *v = core_workload(r->core, at);
        if (!lower || v->priority > r->w->priority) victim_add(r, at, rank);
        at = v->own_next;
    }
}

/* Every tenant below the top, parents first. */
static void tenants_walk(struct reclaim *r)
{
    uint32_t at = r->top;
    for (uint32_t i = 0; i < CORE_TENANTS_LOOKED; i++) {
        if (at != 0) tenant_victims(r, at);
        at = core_tenant_next(r->core, r->top, at);
        if (at == 0) return;
    }
}

/* --- in which order -------------------------------------------------------------------------- */

/* What its going gives back of the amount. */
static uint64_t gives(const struct reclaim *r, const struct core_unit *unit)
{
    const struct core_workload *v = core_workload(r->core, unit->workload);
    uint32_t tasks = unit->lease != 0 ? 1 : v->tasks;
    if (unit->shrink && !unit->stop) tasks = v->tasks - v->tasks_min;
    if (v->exclusive != MR_EXCLUSIVE_NONE) {
        uint64_t all = core_alone_holds(r->core, v, unit->lease, r->amount);
        return unit->lease != 0 ? all : mr_mul_div_u64(all, tasks, MR_MAX(v->tasks, 1u));
    }
    return each_of(&v->shape, r->amount) * tasks;
}

/* The borrower that is most above its quota, over its weight, and has something left to give. */
static uint32_t borrower_next(const struct reclaim *r)
{
    uint32_t best = BORROWERS;
    uint64_t most = 0;
    for (uint32_t i = 0; i < r->found_count; i++) {
        uint32_t rank = r->found[i].rank;
        if (r->found[i].needed || rank >= BORROWERS) continue; /* needed: chosen already */
        uint64_t over = r->borrowers[rank].over * 1000 / r->borrowers[rank].weight;
        if (over > most || (over == most && over > 0 && rank < best)) {
            most = over;
            best = rank;
        }
    }
    return best;
}

/* The unit of that rank that loses least. */
static uint32_t cheapest(const struct reclaim *r, uint32_t rank)
{
    uint32_t best = CORE_VICTIMS;
    for (uint32_t i = 0; i < r->found_count; i++) {
        if (r->found[i].rank != rank || r->found[i].needed) continue;
        if (best == CORE_VICTIMS || core_unit_before(&r->found[i], &r->found[best])) best = i;
    }
    return best;
}

/* Moves what was found to the units, in the order in which it goes; returns how many, and what so
 * many lose that the shortfall is met. */
static uint32_t units_order(struct reclaim *r, struct core_units *units, uint64_t *ret_lost)
{
    uint32_t order = 0;
    uint64_t given = 0;
    *ret_lost = 0;
    for (; order < r->found_count; order++) {
        uint32_t rank = borrower_next(r);
        if (rank == BORROWERS) rank = OWN_RANK;
        uint32_t i = cheapest(r, rank);
        if (i == CORE_VICTIMS) break;
        struct core_unit unit = r->found[i];
        uint64_t back = gives(r, &unit);
        r->found[i].needed = true;
        if (rank != OWN_RANK) {
            struct borrower *b = &r->borrowers[rank];
            b->over -= MR_MIN(b->over, back);
        }
        if (given < r->shortfall) {
            /* Cost is in thousandths of a device, or sixteenths of a vCPU: in the amount's unit. */
            uint64_t lost_us =
                unit.lease != 0 ? 1000000
                                : r->core->now_us - core_workload(r->core, unit.workload)->saved_us;
            uint64_t lost;
            if (!mr_mul_u64(back, lost_us + CORE_RESTART_US, &lost)) lost = UINT64_MAX;
            *ret_lost = *ret_lost > UINT64_MAX - lost ? UINT64_MAX : *ret_lost + lost;
        }
        given += back;
        unit.rank = 1 + order;
        core_unit_add(units, &unit);
    }
    return order;
}

/* Whether it has waited as long as the others would lose; else its timer tells when it has. */
static bool patient(struct reclaim *r, uint32_t workload, uint64_t lost)
{
    const struct core_workload *w = r->w;
    if (core_is_service(w)) return true; /* people wait for its answers */
    uint64_t wait_us = MR_MIN(lost / r->need, CORE_RECLAIM_US);
    uint64_t due_us = w->waits_us + wait_us;
    if (r->core->now_us >= due_us) return true;
    core_timer_set(r->core, workload, MR_MAX(due_us, r->core->now_us + CORE_RETRY_US));
    return false;
}

uint32_t core_reclaim_collect(struct mr_core *core, uint32_t workload, struct core_units *units,
                              const struct core_request *request, const struct core_bound *bound)
{
    struct reclaim r; /* large: only what is counted is ever read */
    r.core = core;
    r.w = core_workload(core, workload);
    r.request = request;
    r.known = units;
    r.borrower_count = 0;
    r.found_count = 0;
    if (!rights_find(&r, bound)) return 0;
    /* The least that it has to wait for: then nothing needs to be looked for yet. */
    uint64_t least =
        r.shortfall > UINT64_MAX / CORE_RESTART_US ? UINT64_MAX : r.shortfall * CORE_RESTART_US;
    if (!patient(&r, workload, least)) return 0;
    tenants_walk(&r);
    uint64_t lost = 0;
    uint32_t before = units->count;
    uint32_t count = units_order(&r, units, &lost);
    if (count > 0 && !patient(&r, workload, lost)) {
        units->count = before; /* they have the highest ranks, so they stand last */
        return 0;
    }
    return count;
}
