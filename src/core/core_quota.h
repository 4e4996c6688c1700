/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/core and its tests: quotas, shares, and who makes room for whom. */
#ifndef MR_CORE_QUOTA_H
#define MR_CORE_QUOTA_H

#include "core/core_int.h"

/* core_tenant.c */
bool core_tenant_set(struct mr_core *core, const struct mr_event_tenant *event);
/* The next tenant below `top` in a walk that visits parents first; 0 at the end. */
uint32_t core_tenant_next(const struct mr_core *core, uint32_t top, uint32_t at);
bool core_tenant_above(const struct mr_core *core, uint32_t above, uint32_t tenant); /* or equal */

/* core_quota.c */
enum mr_resource core_amount_resource(uint32_t amount);
struct core_ask {
    const struct mr_shape *shape;
    uint32_t tenant, most;
    uint8_t type;          /* of accelerators; 0: whichever, then quotas of types do not count */
    bool one_more_running; /* a workload that does not run yet */
    bool borrow;           /* may go beyond a nominal quota */
};
struct core_bound { /* what allows no more */
    struct mr_reason reason;
    uint32_t tenant, amount;
    uint32_t highest; /* of the tenants whose quotas forbid some type */
};
/* Tasks that the quotas of the tenant and of those above allow, at most ask->most. */
uint32_t core_quota_tasks(const struct mr_core *core, const struct core_ask *ask,
                          struct core_bound *ret);
/* Whether so much more in sum, of the ask's tenant and type, lies within every quota. */
bool core_quota_room(const struct mr_core *core, const struct core_ask *ask,
                     const uint64_t more[MR_RESOURCE_COUNT], struct core_bound *ret);
/* The types of accelerators that one request may be tried with, each with what quotas allow. */
struct core_passes {
    struct core_request request; /* the one to try now */
    struct mr_shape narrowed;
    uint8_t types[MR_ACCEL_TYPES_MAX];
    uint32_t count, at;
    uint32_t present; /* of the types, so many come first: the fleet has them */
};
void core_passes_begin(const struct mr_core *core, struct core_passes *passes,
                       const struct core_request *request, uint32_t tenant);
/* The next one that quotas allow; false: no more. *ret_bound is of the first that they do not. */
bool core_passes_next(const struct mr_core *core, struct core_passes *passes, struct core_ask *ask,
                      struct core_bound *ret_bound);
/* `tasks` tasks on devices of the type are held from now on, or no more. */
void core_quota_take(struct mr_core *core, uint32_t tenant, const struct mr_shape *shape,
                     uint32_t type, uint32_t tasks);
void core_quota_give(struct mr_core *core, uint32_t tenant, const struct mr_shape *shape,
                     uint32_t type, uint32_t tasks);
/* The same for a moment: nobody is told. */
void core_quota_lend(struct mr_core *core, uint32_t tenant, const struct mr_shape *shape,
                     uint32_t type, uint32_t tasks, bool take);
void core_quota_load(struct mr_core *core, uint32_t tenant, uint32_t amount, int64_t more);
void core_quota_count(struct mr_core *core, uint32_t tenant, int running, int pending);
/* The first tenant from the workload's up whose load lies above a limit for what its claims count
 * for, on devices of the type; 0: none. */
uint32_t core_quota_over(const struct mr_core *core, uint32_t workload, uint32_t type);
/* Whether so many more tasks would be above a nominal quota, from the tenant up to below `top`. */
bool core_quota_borrows(const struct mr_core *core, const struct core_ask *ask, uint32_t top);
/* A gang's claim waits until what lies above a limit has gone. */
void core_over_join(struct mr_core *core, uint32_t workload, uint32_t type);
void core_over_leave(struct mr_core *core, uint32_t workload);

/* core_share.c */
void core_past_pass(struct mr_core *core, uint32_t tenant); /* before what it holds changes */
uint64_t core_past_of(const struct mr_core *core, uint32_t tenant, uint32_t amount);
uint64_t core_tenant_share(struct mr_core *core, uint32_t tenant);
uint64_t core_share_of(const struct mr_core *core, uint32_t tenant);
void core_share_path(struct mr_core *core, uint32_t tenant, uint64_t share[CORE_SHARE_LEVELS]);

/* core_hold.c */
/* A plan as core_plan_allowed, on room that others hold too: those that rank below give it up,
 * those that begin later lend it. */
uint32_t core_hold_plan(struct mr_core *core, uint32_t workload, const struct core_request *request,
                        uint8_t *ret_type, struct core_bound *ret_bound);

/* --- making room --------------------------------------------------------------------------- */

struct core_unit { /* what may be given back: a gang, or one replica */
    uint64_t cost;
    uint32_t workload;
    uint32_t lease; /* one replica of a service; 0: the whole gang */
    uint32_t rank;  /* lower ones go first; of equal ones the cheapest */
    bool shrink;    /* has a smaller size */
    bool stop;      /* may be stopped whole */
    bool needed;    /* its room is part of the claim */
    bool moves;     /* has a claim elsewhere for all that it has */
};
struct core_units {
    struct core_unit units[CORE_VICTIMS];
    uint32_t count, given;
    uint32_t stopping[CORE_STOPPING_LOOKED];
    uint32_t stopping_count;
};
/* The order in which units go. */
bool core_unit_before(const struct core_unit *a, const struct core_unit *b);
void core_unit_add(struct core_units *units, const struct core_unit *unit);
/* Milli-device-microseconds that stopping so many of its tasks loses, restart included. */
uint64_t core_unit_cost(const struct mr_core *core, const struct core_workload *w, uint32_t tasks);

/* Gives back for a moment what the unit holds, or takes it again; true when none of its nodes then
 * holds more than it has. */
bool core_unit_lend(struct mr_core *core, const struct core_unit *unit, bool take);

/* core_alone.c */
/* The plan of an exclusive workload was made: its tasks, or the least that the request allows, when
 * the whole nodes lie within the quotas; 0: they do not, and there is no plan. */
uint32_t core_alone_within(struct mr_core *core, uint32_t workload,
                           const struct core_request *request, uint32_t tasks, uint8_t *ret_type,
                           struct core_bound *ret_bound);

/* Of the amount, with the whole nodes of its leases, or of that one (0: all); claims not. */
uint64_t core_alone_holds(const struct mr_core *core, const struct core_workload *w, uint32_t lease,
                          uint32_t amount);

/* core_reclaim.c */
/* Adds whom the workload's tenant may stop because of quotas, the first to go with the lowest rank.
 * bound: what allows no more, its tenant 0 when room is short on nodes. 0: nobody, or not yet; then
 * the workload's timer is set to when it is worth another try. */
uint32_t core_reclaim_collect(struct mr_core *core, uint32_t workload, struct core_units *units,
                              const struct core_request *request, const struct core_bound *bound);

/* core_room.c */
/* A plan for the request within the quotas of the workload's tenant, as core_plan_make; 0: none,
 * and *ret_bound says which quota is short, its tenant 0 when it is room. */
uint32_t core_plan_allowed(struct mr_core *core, uint32_t workload,
                           const struct core_request *request, uint8_t *ret_type,
                           struct core_bound *ret_bound);
/* Asks others to go or to shrink so that the workload can start; its claim is then made. bound is
 * of the plan that did not come off. */
bool core_room_make(struct mr_core *core, uint32_t workload, const struct core_request *request,
                    const struct core_bound *bound);
bool core_room_resize(struct mr_core *core, uint32_t workload, uint32_t tasks_min,
                      uint32_t tasks_max);
/* The steps of it, with what was given back. claim: the plan becomes the workload's claim; then all
 * is taken again that fits beside it, the dearest first, and the rest is needed. undo: all claims
 * are given up again, which is no news for those who wait for a quota. back: the needed, or all, is
 * taken again. enter: the workload leaves the queue, and the needed are asked to go. */
void core_room_claim(struct mr_core *core, struct core_units *units, uint32_t workload,
                     uint32_t tasks, uint8_t type);
void core_room_undo(struct mr_core *core, struct core_units *units, uint32_t workload);
void core_room_back(struct mr_core *core, const struct core_units *units, bool only_needed);
void core_room_enter(struct mr_core *core, const struct core_units *units, uint32_t workload,
                     uint8_t type);

/* core_move.c */
#define CORE_MOVE_SETTLE_US                                                                        \
    (600ull * 1000000ull)                      /* a run is left alone so long, twice after each */
#define CORE_MOVE_BEAT_US (60ull * 1000000ull) /* looked at again when it was not worth it */
/* A claim elsewhere, for all that it has, for each gang that is needed, dearest first, as far as
 * there is room; true when that is so for all. */
bool core_units_move(struct mr_core *core, struct core_units *units);
/* Moves small work together so that the job, which waits, can start. False: it waits on. */
bool core_move_make(struct mr_core *core, uint32_t workload);
/* Whether enough is free for the job in sum, so that moving others might help. */
bool core_move_could(struct mr_core *core, uint32_t workload);
/* The same, when it could preempt others who would lose so much: true: it and those who must move
 * have their claims, and these are given back still. */
bool core_move_instead(struct mr_core *core, uint32_t workload, uint64_t lost,
                       struct core_units *ret_units, uint8_t *ret_type);
void core_victim_join(struct mr_core *core, uint32_t workload);
void core_victim_leave(struct mr_core *core, uint32_t workload);

#endif
