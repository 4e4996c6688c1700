/* SPDX-License-Identifier: Apache-2.0 */
/* Leases: one run's part on one node, from the claim or the start to the exit.
 *
 * Owns:       leases and their lists (of a workload, of a node, those that stop).
 * Invariants: (1) a lease that is no claim runs on devices that no other such lease holds in whole;
 *             (2) a claim becomes a start only when all that it displaces has ended;
 *             (3) a lease's state moves none -> (claim ->) starting -> running -> stopping -> none,
 *                 where running and stopping may be skipped.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(log nodes) to make and to end one.
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_gang.c
 */
#include "core_quota.h"

uint32_t core_lease_find(const struct mr_core *core, uint64_t id)
{
    if (id == 0) return 0;
    uint32_t slot = *core_bucket(core, CORE_LEASE_BUCKETS, id);
    while (slot != 0 && core_lease(core, slot)->id != id) {
        slot = core_lease(core, slot)->hash_next;
    }
    return slot;
}

/* --- lists --------------------------------------------------------------------------------- */

static void link_in(struct mr_core *core, uint32_t lease)
{
    struct core_lease *l = core_lease(core, lease);
    struct core_workload *w = core_workload(core, l->workload);
    struct core_node *n = core_node(core, l->node);
    uint32_t *bucket = core_bucket(core, CORE_LEASE_BUCKETS, l->id);
    l->hash_next = *bucket;
    *bucket = lease;
    l->of_prev = w->lease_last;
    if (w->lease_last != 0)
        core_lease(core, w->lease_last)->of_next = lease;
    else
        w->lease_first = lease;
    w->lease_last = lease;
    w->lease_count++;
    l->node_next = n->lease_first;
    if (n->lease_first != 0) core_lease(core, n->lease_first)->node_prev = lease;
    n->lease_first = lease;
    n->lease_count++;
}

static void link_out(struct mr_core *core, uint32_t lease)
{
    struct core_lease *l = core_lease(core, lease);
    struct core_workload *w = core_workload(core, l->workload);
    struct core_node *n = core_node(core, l->node);
    uint32_t *link = core_bucket(core, CORE_LEASE_BUCKETS, l->id);
    while (*link != lease) {
        MR_ASSERT(*link != 0);
        link = &core_lease(core, *link)->hash_next;
    }
    *link = l->hash_next;
    if (l->of_prev != 0)
        core_lease(core, l->of_prev)->of_next = l->of_next;
    else
        w->lease_first = l->of_next;
    if (l->of_next != 0)
        core_lease(core, l->of_next)->of_prev = l->of_prev;
    else
        w->lease_last = l->of_prev;
    MR_ASSERT(w->lease_count > 0 && n->lease_count > 0);
    w->lease_count--;
    if (l->node_prev != 0)
        core_lease(core, l->node_prev)->node_next = l->node_next;
    else
        n->lease_first = l->node_next;
    if (l->node_next != 0) core_lease(core, l->node_next)->node_prev = l->node_prev;
    n->lease_count--;
}

static void stop_join(struct mr_core *core, uint32_t lease)
{
    struct core_lease *l = core_lease(core, lease);
    MR_ASSERT(!l->in_stop);
    l->in_stop = 1;
    l->stop_prev = core->stop_last;
    l->stop_next = 0;
    if (core->stop_last != 0)
        core_lease(core, core->stop_last)->stop_next = lease;
    else
        core->stop_first = lease;
    core->stop_last = lease;
}

static void stop_leave(struct mr_core *core, uint32_t lease)
{
    struct core_lease *l = core_lease(core, lease);
    if (!l->in_stop) return;
    if (l->stop_prev != 0)
        core_lease(core, l->stop_prev)->stop_next = l->stop_next;
    else
        core->stop_first = l->stop_next;
    if (l->stop_next != 0)
        core_lease(core, l->stop_next)->stop_prev = l->stop_prev;
    else
        core->stop_last = l->stop_prev;
    l->in_stop = 0;
    l->stop_prev = 0;
    l->stop_next = 0;
}

/* --- from a plan --------------------------------------------------------------------------- */

static uint32_t lease_make(struct mr_core *core, uint32_t workload, uint32_t node, uint32_t tasks,
                           uint64_t devices, uint8_t type, bool claim)
{
    uint32_t lease = core_slot_take(core, CORE_LEASES);
    MR_ASSERT(lease != 0); /* the plan counted them */
    struct core_lease *l = core_lease(core, lease);
    l->id = core->lease_next++;
    l->workload = workload;
    l->node = node;
    l->tasks = tasks;
    l->devices = devices;
    l->accel_type = type;
    l->state = CORE_LEASE_CLAIM;
    link_in(core, lease);
    core_workload(core, workload)->claimed++;
    if (claim && core_node(core, node)->unsound) core_workload(core, workload)->claim_wait++;
    return lease;
}

enum quota_change { QUOTA_TAKE, QUOTA_GIVE, QUOTA_LEND, QUOTA_BACK };

static void quota_change(struct mr_core *core, uint32_t lease, enum quota_change change)
{
    const struct core_lease *l = core_lease(core, lease);
    uint32_t tenant = core_workload(core, l->workload)->tenant;
    struct core_charge c;
    core_charge_of(core, l, &c);
    if (change == QUOTA_TAKE)
        core_quota_take(core, tenant, c.shape, c.type, c.tasks);
    else if (change == QUOTA_GIVE)
        core_quota_give(core, tenant, c.shape, c.type, c.tasks);
    else
        core_quota_lend(core, tenant, c.shape, c.type, c.tasks, change == QUOTA_BACK);
}

/* What it holds on its node. */
static void node_hold(struct mr_core *core, uint32_t lease, bool take)
{
    const struct core_lease *l = core_lease(core, lease);
    const struct core_workload *w = core_workload(core, l->workload);
    if (w->exclusive != MR_EXCLUSIVE_NONE)
        core_node_whole(core, l->node, take);
    else if (take)
        core_node_take(core, l->node, &w->shape, l->tasks, l->devices);
    else
        core_node_give(core, l->node, &w->shape, l->tasks, l->devices);
}

/* A replica is a lease of its own: cuts off the devices of one task. */
static uint64_t devices_cut(const struct mr_shape *shape, uint64_t *devices)
{
    if (shape->accel_milli < CORE_WHOLE) return *devices;
    uint64_t cut = 0;
    for (uint32_t i = 0; i < shape->accel_milli / CORE_WHOLE; i++) {
        MR_ASSERT(*devices != 0);
        cut |= *devices & (0 - *devices);
        *devices &= *devices - 1;
    }
    return cut;
}

void core_leases_from_plan(struct mr_core *core, uint32_t workload, uint32_t tasks, uint8_t type,
                           bool claim)
{
    struct core_workload *w = core_workload(core, workload);
    bool service = core_is_service(w);
    uint32_t rank = 0;
    if (w->exclusive == MR_EXCLUSIVE_NONE) core_quota_take(core, w->tenant, &w->shape, type, tasks);
    for (uint32_t i = 1; i <= core->plan_count; i++) {
        const struct core_plan *entry = core_plan(core, i);
        uint64_t devices = entry->devices;
        uint32_t parts = service ? entry->tasks : 1;
        for (uint32_t part = 0; part < parts; part++) {
            uint64_t own = service ? devices_cut(&w->shape, &devices) : devices;
            uint32_t here = service ? 1 : entry->tasks;
            uint32_t lease = lease_make(core, workload, entry->node, here, own, type, claim);
            struct core_lease *l = core_lease(core, lease);
            if (w->exclusive != MR_EXCLUSIVE_NONE) quota_change(core, lease, QUOTA_TAKE);
            l->rank_first = service ? 0 : rank;
            l->world_size = service ? 1 : core_spare_world(w, tasks);
            l->node_rank = service ? 0 : i - 1;
            l->node_count = service ? 1 : core->plan_count;
            rank += here;
            if (!claim) core_lease_start(core, lease);
        }
    }
#ifndef MR_PLANT_CORE_GANG_PART
    MR_ASSERT(rank == tasks);
#endif
    core->plan_count = 0;
}

void core_start_put(const struct mr_core *core, uint32_t lease, struct mr_effect_start *ret)
{
    const struct core_lease *l = core_lease(core, lease);
    const struct core_workload *w = core_workload(core, l->workload);
    *ret = (struct mr_effect_start){
        .lease = {l->id},
        .workload = {w->id},
        .node = {l->node},
        .run = l->run,
        .tasks = l->tasks,
        .rank_first = l->rank_first,
        .world_size = l->world_size,
        .node_rank = l->node_rank,
        .node_count = l->node_count,
        .devices = l->devices,
        .shape = w->shape,
    };
    memset(ret->shape.accel_types, 0, sizeof ret->shape.accel_types);
    ret->shape.accel_types[0] = l->accel_type;
    ret->shape.accel_order = MR_ACCEL_ORDER_LISTED;
}

void core_lease_start(struct mr_core *core, uint32_t lease)
{
    struct core_lease *l = core_lease(core, lease);
    struct core_workload *w = core_workload(core, l->workload);
    MR_INVARIANT(3, l->state == CORE_LEASE_CLAIM);
    MR_INVARIANT(2, w->claimed > 0 && w->claim_wait == 0);
    w->claimed--;
    if (core_is_service(w)) w->run++;
    l->run = w->run;
    l->state = MR_LEASE_STARTING;
    if (w->kind == MR_KIND_SERVICE) (void)core_meter_open(core, lease);
    core_trace(core, "lease %llu of workload %llu starts on node %u: %u tasks, devices %llx",
               (unsigned long long)l->id, (unsigned long long)w->id, l->node, l->tasks,
               (unsigned long long)l->devices);
    struct mr_effect effect = {.kind = MR_EFFECT_START};
    core_start_put(core, lease, &effect.u.start);
    core_emit(core, &effect);
}

void core_lease_stop(struct mr_core *core, uint32_t lease, bool kill, bool checkpoint)
{
    struct core_lease *l = core_lease(core, lease);
    const struct core_workload *w = core_workload(core, l->workload);
    MR_INVARIANT(3, l->state == MR_LEASE_STARTING || l->state == MR_LEASE_RUNNING ||
                        (kill && l->state == MR_LEASE_STOPPING));
    l->state = MR_LEASE_STOPPING;
    l->stop_kill = kill;
    l->stop_checkpoint = checkpoint;
    if (!l->in_stop) stop_join(core, lease);
    struct mr_effect effect = {
        .kind = MR_EFFECT_STOP,
        .u.stop = {.lease = {l->id}, .grace_us = kill ? 0 : w->grace_us, .checkpoint = checkpoint}};
    core_emit(core, &effect);
}

/* --- ends ---------------------------------------------------------------------------------- */

static void claim_wait_change(struct mr_core *core, uint32_t workload, bool more)
{
    struct core_workload *w = core_workload(core, workload);
    if (more) {
        w->claim_wait++;
        return;
    }
    MR_INVARIANT(2, w->claim_wait > 0);
    w->claim_wait--;
    /* The start follows when this event has been dealt with in full. A claim that is only tried,
     * for whom waits without a hold or for a gang that runs, is not to be woken for: if it is given
     * up, the same would be tried at once, for ever. Who keeps it sees to its start. */
    bool tried = !core_is_service(w) &&
                 (w->phase == CORE_ACTIVE || (w->phase == CORE_WAITING && w->hold_us == 0));
    if (w->claim_wait == 0 && w->phase != CORE_ENDING && !tried) {
        core_timer_set(core, workload, core->now_us);
    }
}

void core_node_sound_changed(struct mr_core *core, uint32_t node)
{
    const struct core_node *n = core_node(core, node);
    for (uint32_t i = n->lease_first; i != 0; i = core_lease(core, i)->node_next) {
        const struct core_lease *l = core_lease(core, i);
        if (l->state == CORE_LEASE_CLAIM) claim_wait_change(core, l->workload, n->unsound);
    }
}

void core_lease_end(struct mr_core *core, uint32_t lease)
{
    struct core_lease *l = core_lease(core, lease);
    struct core_workload *w = core_workload(core, l->workload);
    core_lease_bill(core, lease, core->now_us);
    core_cut_leave(core, lease);
    stop_leave(core, lease);
    if (l->state == CORE_LEASE_CLAIM) {
        MR_ASSERT(w->claimed > 0);
        w->claimed--;
        if (core_node(core, l->node)->unsound) w->claim_wait--;
        l->state = MR_LEASE_STOPPING; /* it counts as a claim no more */
    } else {
        core_meter_end(core, lease);
        w->gone += l->tasks;
    }
    if (l->ready) {
        MR_ASSERT(w->ready > 0);
        w->ready--;
    }
    node_hold(core, lease, false);
    quota_change(core, lease, QUOTA_GIVE);
    uint32_t workload = l->workload;
    link_out(core, lease);
    core_slot_give(core, CORE_LEASES, lease);
    if (w->apart != 0) core_apart_freed(core, workload);
    if (core->hold_count > 0) core_hold_arm(core, core->now_us + CORE_HOLD_US);
    core->retry_all |= core->leases_short;
    core->leases_short = 0;
}

void core_claims_drop(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    uint32_t lease = w->lease_first;
    core_over_leave(core, workload);
    while (lease != 0) {
        uint32_t next = core_lease(core, lease)->of_next;
        if (core_lease(core, lease)->state == CORE_LEASE_CLAIM) core_lease_end(core, lease);
        lease = next;
    }
    MR_ASSERT(w->claimed == 0 && w->claim_wait == 0);
    core_hold_forget(core, workload);
}

uint32_t core_leases_stopping(const struct mr_core *core, uint32_t ret[CORE_STOPPING_LOOKED])
{
    uint32_t count = 0, at = core->stop_first;
    for (; at != 0 && count < CORE_STOPPING_LOOKED; at = core_lease(core, at)->stop_next) {
        ret[count++] = at;
    }
    return count;
}

void core_lease_lend(struct mr_core *core, uint32_t lease, bool take, bool quota)
{
    if (quota) quota_change(core, lease, take ? QUOTA_BACK : QUOTA_LEND);
    node_hold(core, lease, take);
}

bool core_leases_lend(struct mr_core *core, uint32_t workload, bool take, bool quota)
{
    bool sound = true;
    uint32_t lease = core_workload(core, workload)->lease_first;
    for (; lease != 0; lease = core_lease(core, lease)->of_next) {
        const struct core_lease *l = core_lease(core, lease);
        if (l->state == CORE_LEASE_CLAIM) continue;
        core_lease_lend(core, lease, take, quota);
        if (core_node(core, l->node)->unsound) sound = false;
    }
    return sound;
}

/* --- events -------------------------------------------------------------------------------- */

void core_lease_started(struct mr_core *core, const struct mr_event_lease *event)
{
    uint32_t lease = core_lease_find(core, event->lease.v);
    if (lease == 0) return;
    struct core_lease *l = core_lease(core, lease);
    if (l->state == CORE_LEASE_CLAIM || l->started_us != 0) return;
    if (l->state == MR_LEASE_STARTING) l->state = MR_LEASE_RUNNING;
    /* A start that is told late is billed from when it was. No gang runs before its run began. */
    const struct core_workload *w = core_workload(core, l->workload);
    uint64_t most_us = core_is_service(w) ? core->now_us : core->now_us - w->run_started_us;
    l->started_us = MR_MAX(core->now_us - MR_MIN(event->ran_us, most_us), 1u);
    l->billed_us = l->started_us;
    core_lease_bill(core, lease, core->now_us);
    core_cut_join(core, lease);
}

/* An end that is told late is billed until when it was; what was billed already stays. */
static void ran_bill(struct mr_core *core, uint32_t lease, uint64_t ran_us)
{
    struct core_lease *l = core_lease(core, lease);
    uint64_t until_us;
    if (ran_us == 0 || l->started_us == 0) return;
    if (!mr_add_u64(l->started_us, ran_us, &until_us) || until_us >= core->now_us) return;
    core_lease_bill(core, lease, until_us);
    core_cut_leave(core, lease);
    l->started_us = 0; /* it ends within this step: nothing more is billed */
}

void core_lease_ready(struct mr_core *core, const struct mr_event_lease *event)
{
    uint32_t lease = core_lease_find(core, event->lease.v);
    if (lease == 0) return;
    struct core_lease *l = core_lease(core, lease);
    struct core_workload *w = core_workload(core, l->workload);
    if (l->state != MR_LEASE_RUNNING || l->ready) return;
    l->ready = 1;
    w->ready++;
    w->failures = 0;
    MR_ASSERT(w->ready <= w->lease_count);
    core_trace(core, "lease %llu of workload %llu is ready", (unsigned long long)l->id,
               (unsigned long long)w->id);
}

void core_lease_progress(struct mr_core *core, const struct mr_event_lease *event)
{
    uint32_t lease = core_lease_find(core, event->lease.v);
    if (lease == 0) return;
    struct core_lease *l = core_lease(core, lease);
    struct core_workload *w = core_workload(core, l->workload);
    if (l->state == CORE_LEASE_CLAIM) return;
    if (event->work_done != 0) core_deadline_progress(core, l->workload, event->work_done);
    if (event->checkpoint_step <= w->checkpoint_step) return; /* nothing more was saved */
    w->checkpoint_step = event->checkpoint_step;
    w->saved_us = core->now_us;
}

/* Losses do not count as failures, but one after the other they must not spin. */
static void loss_note(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    bool again = w->lost_us != 0 && w->lost_us != core->now_us &&
                 core->now_us - w->lost_us < CORE_BACKOFF_FIRST_US;
    if (again) w->backoff_us = core->now_us + CORE_BACKOFF_FIRST_US;
    w->lost_us = core->now_us;
}

static void lease_gone(struct mr_core *core, uint32_t lease, bool wanted, enum mr_exit_kind exit,
                       int32_t code)
{
    const struct core_lease *l = core_lease(core, lease);
    uint32_t workload = l->workload, node = l->node;
    bool was_ready = l->ready, spare = l->rank_first >= l->world_size;
    uint32_t tasks = l->tasks;
    core_trace(core, "lease %llu of workload %llu ended: %s %d", (unsigned long long)l->id,
               (unsigned long long)core_workload(core, workload)->id,
               exit == MR_EXIT_CODE     ? "code"
               : exit == MR_EXIT_SIGNAL ? "signal"
               : exit == MR_EXIT_LOST   ? "lost"
                                        : "failed",
               code);
    core_lease_end(core, lease);
    if (spare && core_spare_ended(core, workload, tasks)) return;
    if (exit == MR_EXIT_LOST) loss_note(core, workload);
    if (core_is_service(core_workload(core, workload))) {
        core_service_lease_ended(core, workload, was_ready, wanted, exit, code);
    } else {
        core_gang_lease_ended(core, workload, node, exit, code);
    }
}

void core_lease_exited(struct mr_core *core, const struct mr_event_lease *event)
{
    uint32_t lease = core_lease_find(core, event->lease.v);
    if (lease == 0) return; /* counted as lost, or repeated */
    const struct core_lease *l = core_lease(core, lease);
    if (l->state == CORE_LEASE_CLAIM) return;
#ifdef MR_PLANT_CORE_LOST_EXIT
    /* An exit between START and STARTED of a lease that was asked to stop. */
    if (l->state == MR_LEASE_STOPPING && l->started_us == 0) return;
#endif
    ran_bill(core, lease, event->ran_us);
    lease_gone(core, lease, l->state == MR_LEASE_STOPPING, event->exit, event->code);
}

void core_node_lost(struct mr_core *core, uint32_t node)
{
    struct core_node *n = core_node(core, node);
    while (n->lease_first != 0) {
        uint32_t lease = n->lease_first;
        struct core_lease *l = core_lease(core, lease);
        if (l->state == CORE_LEASE_CLAIM) {
            core_claim_lost(core, l->workload);
            continue;
        }
        /* Should the node come back with it, it must not run on. */
        bool wanted = l->state == MR_LEASE_STOPPING;
        core_lease_stop(core, lease, true, false);
        lease_gone(core, lease, wanted, MR_EXIT_LOST, 0);
    }
    MR_ASSERT(n->lease_count == 0);
    MR_ASSERT(core_node_sound(n));
}

void core_node_claims_lost(struct mr_core *core, uint32_t node)
{
    uint32_t lease = core_node(core, node)->lease_first;
    while (lease != 0) {
        const struct core_lease *l = core_lease(core, lease);
        if (l->state == CORE_LEASE_CLAIM) {
            /* All claims of that workload go, on this node too: begin again. */
            core_claim_lost(core, l->workload);
            lease = core_node(core, node)->lease_first;
        } else {
            lease = l->node_next;
        }
    }
}
