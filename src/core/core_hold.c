/* SPDX-License-Identifier: Apache-2.0 */
/* Backfill with reservations: large work is not passed for ever, and what waits for it is used.
 *
 * The first jobs of the queue that cannot start get a hold each: claims on the nodes where they fit
 * soonest, found by giving back for a moment what is expected to end, soonest first, until a plan
 * comes off. The hold's time is when the last of those that are in its way is expected to end. As
 * they end, nobody else can take their room, and when all have ended the job starts. Meanwhile a
 * job that surely ends before that time may run on the claimed room: it is lent to its plan.
 * Work of a higher class takes the room of holds at once. Holds are made anew, all together and in
 * the order of the queue, half a minute after something ended or was left waiting, and when the
 * time of one has come; so an early end brings them forward.
 *
 * That is backfill with reservations for the first few (between EASY, which has one, and
 * conservative backfill, which has one for each: Mu'alem and Feitelson 2001), on nodes rather than
 * on counts, so that it holds for fragmented fleets and for topologies too.
 *
 * Owns:       holds, and when they are made again.
 * Invariants: (1) a hold belongs to a job that waits; its claims are all that the job has;
 *             (2) what is lent is taken back within the step;
 *             (3) at most CORE_HOLDS at once.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       to make one, O(log ends) plans over at most CORE_HOLD_ENDS jobs and
 *             CORE_HOLD_LEASES leases; to lend, O(claims), at most CORE_HOLD_LEASES.
 * Idea:       docs/internals/backfill.md   Tests: tests/unit/core/test_core_hold.c
 */
#include "core_quota.h"

struct lent {
    uint64_t end_us;
    uint32_t workload;
};
struct ends {
    struct lent jobs[CORE_HOLD_ENDS];
    uint32_t count, given; /* known; of these given back now */
    uint32_t leases;
    uint32_t stopping[CORE_STOPPING_LOOKED];
    uint32_t stopping_count;
    bool stopping_given;
    struct core_ends_walk walk;
};

void core_hold_arm(struct mr_core *core, uint64_t at_us)
{
    core->hold_due_us = MR_MIN(core->hold_due_us, at_us);
}

void core_hold_forget(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    uint32_t at = 0;
    if (w->hold_us == 0) return;
    while (core->holds[at] != workload) {
        at++;
        MR_ASSERT(at < core->hold_count);
    }
    for (core->hold_count--; at < core->hold_count; at++) {
        core->holds[at] = core->holds[at + 1];
    }
    core->holds[core->hold_count] = 0;
    w->hold_us = 0;
}

/* --- giving back what is expected to end ----------------------------------------------------- */

static void stopping_lend(struct mr_core *core, struct ends *ends)
{
    ends->stopping_given = true;
    for (uint32_t i = 0; i < ends->stopping_count; i++) {
        core_lease_lend(core, ends->stopping[i], false, false);
    }
}

/* One more job that ends; false: there is none, or enough were looked at. */
static bool ends_more(struct mr_core *core, struct ends *ends, const struct mr_shape *shape)
{
    while (ends->count < CORE_HOLD_ENDS && ends->leases < CORE_HOLD_LEASES) {
        struct lent *next = &ends->jobs[ends->count];
        next->workload = core_ends_next(core, &ends->walk, &next->end_us);
        if (next->workload == 0) return false;
        const struct core_workload *w = core_workload(core, next->workload);
        if (w->accel_type != 0 && !core_shape_accepts(shape, w->accel_type)) continue;
        ends->leases += w->lease_count;
        ends->count++;
        return true;
    }
    return false;
}

/* So that exactly the first `count` are given back. */
static void ends_lend(struct mr_core *core, struct ends *ends, uint32_t count)
{
    for (; ends->given < count; ends->given++) {
        (void)core_leases_lend(core, ends->jobs[ends->given].workload, false, false);
    }
    for (; ends->given > count; ends->given--) {
        (void)core_leases_lend(core, ends->jobs[ends->given - 1].workload, true, false);
    }
}

/* Gives back as few as will do, and leaves the plan taken. Returns its tasks; 0: there is none. */
static uint32_t plan_soonest(struct mr_core *core, struct ends *ends, uint32_t workload,
                             const struct core_request *request, uint8_t *ret_type)
{
    uint32_t failed = 0, next = 1;
    struct core_bound bound;
    uint32_t tasks = core_plan_allowed(core, workload, request, ret_type, &bound);
    if (tasks > 0 || bound.tenant != 0) return tasks;
    stopping_lend(core, ends);
    tasks = core_plan_allowed(core, workload, request, ret_type, &bound);
    if (tasks > 0) return tasks;
    for (;; next *= 2) {
        while (ends->count < next && ends_more(core, ends, request->shape)) {
        }
        if (ends->count == failed) return 0;
        ends_lend(core, ends, ends->count);
        tasks = core_plan_allowed(core, workload, request, ret_type, &bound);
        if (tasks > 0) break;
        failed = ends->count;
    }
    uint32_t enough = ends->count;
    while (enough - failed > 1) {
        uint32_t middle = failed + (enough - failed) / 2;
        core_plan_drop(core, request->shape);
        ends_lend(core, ends, middle);
        tasks = core_plan_allowed(core, workload, request, ret_type, &bound);
        if (tasks > 0)
            enough = middle;
        else
            failed = middle;
    }
    if (ends->given != enough) {
        if (tasks > 0) core_plan_drop(core, request->shape);
        ends_lend(core, ends, enough);
        tasks = core_plan_allowed(core, workload, request, ret_type, &bound);
    }
    MR_ASSERT(tasks > 0);
    return tasks;
}

/* Takes all back, the latest first: who fits beside the claims is not in their way. Returns when
 * the last of those who do not is expected to end. */
static uint64_t ends_take(struct mr_core *core, struct ends *ends)
{
    uint64_t until_us = core->now_us;
    while (ends->given > 0) {
        const struct lent *last = &ends->jobs[--ends->given];
        if (!core_leases_lend(core, last->workload, true, false))
            until_us = MR_MAX(until_us, last->end_us);
    }
    for (uint32_t i = 0; ends->stopping_given && i < ends->stopping_count; i++) {
        uint32_t lease = ends->stopping[i];
        const struct core_lease *l = core_lease(core, lease);
        core_lease_lend(core, lease, true, false);
        uint64_t end_us = core->now_us + core_workload(core, l->workload)->grace_us;
        if (core_node(core, l->node)->unsound) until_us = MR_MAX(until_us, end_us);
    }
    return until_us;
}

static void ends_init(struct mr_core *core, struct ends *ends)
{
    ends->count = 0; /* large: only what is counted is ever read */
    ends->given = 0;
    ends->leases = 0;
    ends->stopping_given = false;
    ends->stopping_count = core_leases_stopping(core, ends->stopping);
    core_ends_start(core, &ends->walk);
}

/* --- holds --------------------------------------------------------------------------------- */

bool core_hold_make(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(w->phase == CORE_WAITING && w->lease_count == 0 && core->plan_count == 0);
    struct mr_reason reason;
    uint8_t type = 0;
    if (core->hold_count == CORE_HOLDS || w->planned != 0) return false;
    const struct core_request request =
        core_request_make(core, workload, w->tasks_min, w->tasks_min);
    if (core_place_never(core, &request, &reason)) return false;
    struct ends ends;
    ends_init(core, &ends);
    struct core_released_kept kept;
    core_released_keep(core, &kept);
    uint32_t tasks = plan_soonest(core, &ends, workload, &request, &type);
    if (tasks > 0) {
        core_leases_from_plan(core, workload, tasks, type, true);
        w->accel_type = type;
    }
    uint64_t at_us = ends_take(core, &ends);
    core_released_back(core, &kept);
    if (tasks == 0) return false;
    w->hold_us = at_us;
    core->holds[core->hold_count++] = workload;
    if (w->claim_wait == 0) core_timer_set(core, workload, core->now_us);
    core_trace(core, "workload %llu holds room for %u tasks from %llu us on",
               (unsigned long long)w->id, tasks, (unsigned long long)at_us);
    return true;
}

/* The job's room is there. Its tenant may run too many others by now. */
void core_hold_start(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    const struct core_ask ask = {.shape = &w->shape, .tenant = w->tenant, .one_more_running = true};
    struct core_bound bound = {.tenant = 0};
    MR_ASSERT(w->phase == CORE_WAITING && w->claimed > 0 && w->claim_wait == 0);
    (void)core_quota_tasks(core, &ask, &bound);
    if (bound.tenant != 0) {
        uint32_t class_of = w->class_of;
        core_claims_drop(core, workload);
        core_candidate_add(core, class_of);
        return;
    }
    core_class_leave(core, workload);
    w->phase = CORE_CLAIMING;
    core_gang_claim_ready(core, workload);
}

/* --- lending -------------------------------------------------------------------------------- */

void core_claims_lend(struct mr_core *core, uint32_t workload, bool take, bool quota)
{
    for (uint32_t i = core_workload(core, workload)->lease_first; i != 0;
         i = core_lease(core, i)->of_next) {
        core_lease_lend(core, i, take, quota);
    }
}

/* Services come first, and jobs whose deadline is planned; else the higher class. */
static bool ranks_below(const struct core_workload *holder, const struct core_workload *w)
{
    if (core_is_service(w)) return holder->priority >= w->priority;
    return w->planned != 0 || holder->priority > w->priority;
}

uint32_t core_hold_lend(struct mr_core *core, uint32_t workload, bool below_only)
{
    const struct core_workload *w = core_workload(core, workload);
    uint64_t left_us = core_length_us(w) - MR_MIN(core_length_us(w), w->ran_us), end_us = 0;
    uint32_t lent = 0, leases = 0;
    bool ends = !below_only && !core_is_service(w) && core_length_us(w) != 0 &&
                mr_add_u64(core->now_us + w->grace_us, left_us, &end_us);
    for (uint32_t i = 0; i < core->hold_count; i++) {
        const struct core_workload *h = core_workload(core, core->holds[i]);
        bool before = ends && end_us <= h->hold_us;
        if (core->holds[i] == workload || !(before || ranks_below(h, w))) continue;
        leases += h->lease_count;
        if (leases > CORE_HOLD_LEASES) break;
        core_claims_lend(core, core->holds[i], false, false);
        lent |= (uint32_t)1 << i;
    }
    return lent;
}

void core_hold_take(struct mr_core *core, uint32_t lent)
{
    for (; lent != 0; lent &= lent - 1) {
        core_claims_lend(core, core->holds[__builtin_ctz(lent)], true, false);
    }
}

void core_hold_yield(struct mr_core *core, uint32_t workload)
{
    struct core_released_kept kept;
    core_released_keep(core, &kept);
    for (uint32_t i = core->hold_count; i-- > 0;) {
        const struct core_workload *h = core_workload(core, core->holds[i]);
        if (workload != 0 && !ranks_below(h, core_workload(core, workload))) continue;
        core_trace(core, "workload %llu gives up the room that it holds",
                   (unsigned long long)h->id);
        core_claims_drop(core, core->holds[i]);
        core_hold_arm(core, core->now_us); /* it gets other room within this step */
    }
    core_released_move(core, &kept);
}

uint32_t core_hold_plan(struct mr_core *core, uint32_t workload, const struct core_request *request,
                        uint8_t *ret_type, struct core_bound *ret_bound)
{
    struct core_released_kept kept;
    uint32_t tasks = 0;
    if (core->hold_count == 0) return 0;
    core_released_keep(core, &kept);
    uint32_t lent = core_hold_lend(core, workload, false);
    if (lent != 0) tasks = core_plan_allowed(core, workload, request, ret_type, ret_bound);
    core_hold_take(core, lent); /* the plan is taken already */
    core_released_back(core, &kept);
    if (tasks > 0) core_hold_yield(core, workload);
    return tasks;
}

/* --- making them anew ------------------------------------------------------------------------ */

/* The first classes of jobs in the order of the queue whose heads wait for room. */
static uint32_t heads_find(struct mr_core *core, struct core_candidate heads[CORE_HOLDS])
{
    uint32_t count = 0;
    for (uint32_t b = 0; b < CORE_WAIT_BUCKETS; b++) {
        uint32_t at = core->wait_first[b];
        for (; at != 0; at = core_class(core, at)->wait_next) {
            const struct core_class *c = core_class(core, at);
            if (c->count == 0 || c->kind != MR_KIND_JOB) continue;
            if (core_workload(core, c->head)->planned != 0) continue;
            struct core_candidate head;
            core_candidate_fill(core, at, &head);
            uint32_t i = count < CORE_HOLDS ? count++ : CORE_HOLDS;
            if (i == CORE_HOLDS && !core_candidate_sooner(&head, &heads[--i])) continue;
            for (; i > 0 && core_candidate_sooner(&head, &heads[i - 1]); i--) {
                heads[i] = heads[i - 1];
            }
            heads[i] = head;
        }
    }
    return count;
}

/* Short work may fit on room that has been claimed, or that became free of others since. */
static void short_ones_try(struct mr_core *core)
{
    uint64_t longest_us = 0;
    uint32_t tries = 0;
    for (uint32_t i = 0; i < core->hold_count; i++) {
        longest_us = MR_MAX(longest_us, core_workload(core, core->holds[i])->hold_us);
    }
    for (uint32_t b = 0; b < CORE_WAIT_BUCKETS; b++) {
        uint32_t at = core->wait_first[b];
        for (; at != 0 && tries < CORE_HOLD_TRIES; at = core_class(core, at)->wait_next) {
            struct core_class *c = core_class(core, at);
            if (c->count == 0 || c->kind != MR_KIND_JOB || c->length == 0) continue;
            const struct core_workload *w = core_workload(core, c->head);
            if (w->hold_us != 0 || core->now_us + core_length_us(w) > longest_us) continue;
            core_candidate_add(core, at);
            tries++;
        }
    }
}

void core_hold_run(struct mr_core *core)
{
    struct core_candidate heads[CORE_HOLDS];
    MR_ASSERT(core->now_us >= core->hold_due_us);
    while (core->hold_count > 0) {
        core_claims_drop(core, core->holds[core->hold_count - 1]);
    }
    core->hold_due_us = UINT64_MAX;
    uint32_t count = heads_find(core, heads);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t head = core_class(core, heads[i].class_of)->head;
        (void)core_hold_make(core, head);
        (void)core_move_make(core, head); /* now that it is known how long it waits */
    }
    core_released_merge(core);
    for (uint32_t i = 0; i < core->hold_count; i++) {
        uint64_t at_us = core_workload(core, core->holds[i])->hold_us;
        if (at_us > core->now_us) core_hold_arm(core, at_us + 1);
    }
    if (core->hold_count > 0) short_ones_try(core);
    uint64_t due_us = core->hold_due_us;
    core_queue_run(core);
    /* Who still waits after that, waits as before: only what ends or comes is a reason to try
     * again. */
    if (core->hold_due_us > core->now_us) core->hold_due_us = due_us;
}
