/* SPDX-License-Identifier: Apache-2.0 */
/* Workloads: submitted, waiting, cancelled, ended, forgotten.
 *
 * Owns:       workloads, their lookup by id and by idempotency key, the order of their ends.
 * Invariants: (1) states move only along the table below, final ones not at all;
 *             (2) a workload that has not ended is never forgotten;
 *             (3) tenants' counts of pending and running workloads agree with their states.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(1) beside the queue's and the leases' work.
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_queue.c
 */
#include "core_quota.h"
#include "core_reserve.h"

#define BIT(state) (1u << MR_STATE_##state)
#define ENDS                                                                                       \
    (BIT(COMPLETED) | BIT(FAILED) | BIT(CANCELLED) | BIT(TIMEOUT) | BIT(NODE_FAIL) |               \
     BIT(OUT_OF_MEMORY))
static const uint32_t state_next[MR_STATE_COUNT] = {
    [MR_STATE_PENDING] = BIT(RUNNING) | BIT(SUSPENDED) | BIT(COMPLETING) | ENDS,
    [MR_STATE_RUNNING] = BIT(PENDING) | BIT(SUSPENDED) | BIT(COMPLETING) | ENDS,
    [MR_STATE_SUSPENDED] = BIT(PENDING) | BIT(RUNNING) | BIT(COMPLETING) | ENDS,
    [MR_STATE_COMPLETING] = BIT(PENDING) | BIT(RUNNING) | ENDS,
};

uint32_t core_workload_find(const struct mr_core *core, uint64_t id)
{
    if (id == 0) return 0;
    uint32_t slot = *core_bucket(core, CORE_ID_BUCKETS, id);
    while (slot != 0 && core_workload(core, slot)->id != id) {
        slot = core_workload(core, slot)->id_hash_next;
    }
    return slot;
}

static uint64_t key_hash(uint64_t high, uint64_t low)
{
    return mr_hash_mix(high ^ mr_hash_mix(low));
}

uint32_t core_workload_by_key(const struct mr_core *core, uint64_t high, uint64_t low)
{
    if (high == 0 && low == 0) return 0;
    uint32_t slot = *core_bucket(core, CORE_KEY_BUCKETS, key_hash(high, low));
    for (; slot != 0; slot = core_workload(core, slot)->key_hash_next) {
        const struct core_workload *w = core_workload(core, slot);
        if (w->key_high == high && w->key_low == low) return slot;
    }
    return 0;
}

/* Emits STATE; counts follow the state. Also called with an unchanged state when the run or the
 * size changed. */
void core_state_set(struct mr_core *core, uint32_t workload, enum mr_state state)
{
    struct core_workload *w = core_workload(core, workload);
    if (w->state != state) {
        MR_INVARIANT(1, (state_next[w->state] >> state) & 1u);
        core_trace(core, "workload %llu: %s to %s", (unsigned long long)w->id,
                   mr_state_name((enum mr_state)w->state), mr_state_name(state));
    }
    w->state = (uint8_t)state;
    bool counts = w->kind != MR_KIND_RESERVATION;
    bool pending = counts && state == MR_STATE_PENDING;
    bool running = counts && (state == MR_STATE_RUNNING || state == MR_STATE_COMPLETING);
    int more_pending = (int)pending - (int)w->counted_pending;
    int more_running = (int)running - (int)w->counted_running;
    w->counted_pending = pending;
    w->counted_running = running;
    if (more_pending != 0 || more_running != 0) {
        core_quota_count(core, w->tenant, more_running, more_pending);
    }
    struct mr_effect effect = {
        .kind = MR_EFFECT_STATE,
        .u.state = {.workload = {w->id},
                    .state = state,
                    .run = w->run,
                    .tasks = w->tasks,
                    .promised = w->planned != 0 && core_planned(core, w->planned)->promised}};
    core_emit(core, &effect);
}

/* --- lists --------------------------------------------------------------------------------- */

static void id_link(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    uint32_t *bucket = core_bucket(core, CORE_ID_BUCKETS, w->id);
    w->id_hash_next = *bucket;
    *bucket = workload;
    if (w->key_high != 0 || w->key_low != 0) {
        bucket = core_bucket(core, CORE_KEY_BUCKETS, key_hash(w->key_high, w->key_low));
        w->key_hash_next = *bucket;
        *bucket = workload;
    }
    w->id_prev = core->id_last;
    if (core->id_last != 0)
        core_workload(core, core->id_last)->id_next = workload;
    else
        core->id_first = workload;
    core->id_last = workload;
}

static void id_unlink(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    uint32_t *link = core_bucket(core, CORE_ID_BUCKETS, w->id);
    while (*link != workload) {
        MR_ASSERT(*link != 0);
        link = &core_workload(core, *link)->id_hash_next;
    }
    *link = w->id_hash_next;
    if (w->key_high != 0 || w->key_low != 0) {
        link = core_bucket(core, CORE_KEY_BUCKETS, key_hash(w->key_high, w->key_low));
        while (*link != workload) {
            MR_ASSERT(*link != 0);
            link = &core_workload(core, *link)->key_hash_next;
        }
        *link = w->key_hash_next;
    }
    if (w->id_prev != 0)
        core_workload(core, w->id_prev)->id_next = w->id_next;
    else
        core->id_first = w->id_next;
    if (w->id_next != 0)
        core_workload(core, w->id_next)->id_prev = w->id_prev;
    else
        core->id_last = w->id_prev;
}

bool core_workload_room(struct mr_core *core)
{
    if (core_slot_left(core, CORE_WORKLOADS, 1)) return true;
    uint32_t oldest = core->ended_first;
    if (oldest == 0) return false;
    struct core_workload *w = core_workload(core, oldest);
    MR_INVARIANT(2, w->phase == CORE_ENDED);
    MR_INVARIANT(2, w->lease_count == 0 && w->timer_at == 0 && w->class_of == 0);
    core->ended_first = w->queue_next;
    if (w->queue_next != 0)
        core_workload(core, w->queue_next)->queue_prev = 0;
    else
        core->ended_last = 0;
    core_lines_fold(core, oldest);
    id_unlink(core, oldest);
    core_slot_give(core, CORE_WORKLOADS, oldest);
    return true;
}

void core_workload_end(struct mr_core *core, uint32_t workload, enum mr_state state)
{
    struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(mr_state_final(state));
    MR_ASSERT(w->lease_count == 0 && w->class_of == 0 && w->victim_list == 0);
    core_timer_set(core, workload, UINT64_MAX);
    core_deadline_leave(core, workload);
    core_member_leave(core, workload);
    core_apart_leave(core, workload);
    w->phase = CORE_ENDED;
    w->ended_us = core->now_us;
    w->tasks = 0;
    w->target = 0;
    core_state_set(core, workload, state);
    w->queue_prev = core->ended_last;
    w->queue_next = 0;
    if (core->ended_last != 0)
        core_workload(core, core->ended_last)->queue_next = workload;
    else
        core->ended_first = workload;
    core->ended_last = workload;
}

void core_workload_wait(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(!core_is_service(w) && w->class_of == 0);
    w->outcome = CORE_OUTCOME_NONE;
    if (core_deadline_holds_back(core, workload)) {
        w->phase = CORE_HELD;
        core_timer_set(core, workload, UINT64_MAX);
        return;
    }
    uint64_t until_us = MR_MAX(MR_MAX(w->begin_us, w->backoff_us), core_member_begin_us(core, w));
    if (until_us <= core->now_us) {
        if (core_class_join(core, workload)) {
            w->phase = CORE_WAITING;
            w->waits_us = core->now_us;
            core_timer_set(core, workload, UINT64_MAX);
            return;
        }
        until_us = core->now_us + CORE_RETRY_US;
    }
    w->phase = CORE_HELD;
    core_timer_set(core, workload, until_us);
}

/* --- submit -------------------------------------------------------------------------------- */

bool core_shape_valid(const struct mr_shape *shape)
{
    if (shape->cpu_milli == 0 && shape->accel_milli == 0) return false;
    if (shape->accel_milli > CORE_WHOLE * MR_DEVICES_PER_NODE_MAX) return false;
    if (shape->accel_milli > CORE_WHOLE && shape->accel_milli % CORE_WHOLE != 0) return false;
    for (uint32_t i = 0; i < MR_SHAPE_ALTERNATIVES; i++) {
        if (shape->accel_types[i] >= MR_ACCEL_TYPES_MAX) return false;
    }
    return shape->accel_order < MR_ACCEL_ORDER_COUNT;
}

static int size_valid(const struct mr_core *core, const struct mr_event_submit *event)
{
    if (event->tasks_min > event->tasks_max || event->tasks_max == 0) return MR_EINVALID;
    if (event->kind == MR_KIND_JOB && event->tasks_min == 0) return MR_EINVALID;
    if (event->kind != MR_KIND_JOB && event->spares > 0) return MR_EINVALID;
    if (event->spares > core->limits.leases) return MR_ELIMIT;
    return event->tasks_max > core->limits.leases - event->spares ? MR_ELIMIT : 0;
}

/* Places beside each other and apart at once are not looked for. */
static bool spread_valid(const struct mr_event_submit *event)
{
    if (event->spread >= MR_SPREAD_COUNT) return false;
    if (event->spread == MR_SPREAD_NONE) return event->spread_max == 0;
    return event->segment == 0 && event->curve.count == 0 && event->spares == 0 &&
           core_topology_unbounded(event->topology) && event->reservation.v == 0;
}

/* Whole nodes: no share of a device, and nothing that decides task by task. */
static bool exclusive_valid(const struct mr_event_submit *event)
{
    if (event->exclusive == MR_EXCLUSIVE_NONE) return true;
    if (event->exclusive >= MR_EXCLUSIVE_COUNT || event->spread != MR_SPREAD_NONE) return false;
    return event->curve.count == 0 && event->shape.accel_milli % CORE_WHOLE == 0;
}

static bool apart_valid(const struct mr_event_submit *event)
{
    if (event->apart_by >= MR_SPREAD_COUNT) return false;
    if ((event->apart != 0) != (event->apart_by != MR_SPREAD_NONE)) return false;
    return event->apart == 0 || event->curve.count == 0;
}

/* Whole segments; within one domain they would say nothing. */
static bool segment_valid(const struct mr_event_submit *event)
{
    uint32_t segment = event->segment;
    if (segment == 0) return true;
    if (event->kind != MR_KIND_JOB || event->curve.count > 0) return false;
    if (event->topology == MR_TOPOLOGY_NODE || event->topology == MR_TOPOLOGY_DOMAIN) return false;
    return event->tasks_min % segment == 0 && event->tasks_max % segment == 0;
}

static bool rules_valid(const struct mr_event_submit *event)
{
    return event->topology < MR_TOPOLOGY_COUNT && spread_valid(event) && segment_valid(event) &&
           exclusive_valid(event) && apart_valid(event);
}

static bool curve_valid(const struct mr_event_submit *event)
{
    const struct mr_curve *curve = &event->curve;
    uint32_t before = 0;
    if (curve->count > MR_CURVE_POINTS_MAX || curve->error_permille >= 1000) return false;
    if (curve->work >= (uint64_t)1 << 43) return false;
    for (uint32_t i = 0; i < curve->count; i++) {
        uint32_t tasks = curve->points[i].tasks;
        if (tasks <= before || tasks < event->tasks_min || tasks > event->tasks_max) return false;
        before = tasks;
    }
    return true;
}

static int submit_valid(const struct mr_core *core, const struct mr_event_submit *event)
{
    if (event->tenant.v == 0 || event->tenant.v > core->limits.tenants) return MR_ENOT_FOUND;
    if (!core_tenant(core, event->tenant.v)->present) return MR_ENOT_FOUND;
    if (!curve_valid(event) || !rules_valid(event)) return MR_EINVALID;
    if (event->kind >= MR_KIND_RESERVATION || event->priority >= MR_PRIORITY_COUNT ||
        !core_shape_valid(&event->shape))
        return MR_EINVALID;
    if (event->apart != 0 && core_apart_full(core, event)) return MR_ELIMIT;
    int error = core_member_valid(core, event);
    return error != 0 ? error : size_valid(core, event);
}

void core_answer_put(struct mr_core *core, const struct mr_effect_answer *answer, uint32_t workload)
{
    struct mr_effect effect = {.kind = answer->error == 0 ? MR_EFFECT_ACCEPTED : MR_EFFECT_REJECTED,
                               .u.answer = *answer};
    if (workload != 0) {
        effect.u.answer.workload.v = core_workload(core, workload)->id;
        int found = mr_core_why(core, effect.u.answer.workload, &effect.u.answer.reason);
        MR_ASSERT(found == 0);
    }
    core_emit(core, &effect);
}

static void answer_put(struct mr_core *core, const struct mr_event_submit *event, uint32_t workload,
                       bool known, int error)
{
    const struct mr_effect_answer answer = {.tag = event->tag, .known = known, .error = error};
    core_answer_put(core, &answer, workload);
}

void core_workload_enter(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    w->id = core->workload_next++;
    w->order = core->order_next++;
    id_link(core, workload);
    core_trace(core, "workload %llu is accepted", (unsigned long long)w->id);
}

static void fields_fill(const struct mr_core *core, struct core_workload *w,
                        const struct mr_event_submit *event)
{
    w->key_high = event->key_high;
    w->key_low = event->key_low;
    w->submitted_us = core->now_us;
    w->begin_us = event->begin_us;
    w->time_limit_us = event->time_limit_us;
    w->estimate_us = event->estimate_us;
    w->deadline_us = event->deadline_us;
    w->grace_us = event->grace_us;
    w->checkpoint_us = event->checkpoint_us;
    w->shape = event->shape;
    memset(w->shape.reserved, 0, sizeof w->shape.reserved);
    w->tenant = event->tenant.v;
    w->tasks_min = event->tasks_min;
    w->tasks_max = event->tasks_max;
    w->target = event->kind == MR_KIND_JOB ? 0 : event->tasks_min;
    w->load_per_replica = event->load_per_replica;
    w->spares = event->spares;
    w->segment = event->segment;
    w->spread = (uint8_t)event->spread;
    w->spread_max = event->spread_max;
    w->exclusive = (uint8_t)event->exclusive;
    w->restarts_max = event->restarts_max;
    w->kind = (uint8_t)event->kind;
    w->priority = event->priority;
    w->topology = (uint8_t)event->topology;
    w->preemptible = event->preemptible;
    w->timer_us = UINT64_MAX;
}

void core_submit(struct mr_core *core, const struct mr_event_submit *event)
{
    uint32_t known = core_workload_by_key(core, event->key_high, event->key_low);
    if (known != 0) {
        answer_put(core, event, known, true, 0);
        return;
    }
    int error = submit_valid(core, event);
    if (error == 0 && !core_workload_room(core)) error = MR_ELIMIT;
    uint32_t workload = 0;
    if (error == 0) {
        workload = core_slot_take(core, CORE_WORKLOADS);
        MR_ASSERT(workload != 0);
        struct core_workload *w = core_workload(core, workload);
        fields_fill(core, w, event);
        core_fit_learn(core, &w->shape);
        w->state = MR_STATE_PENDING;
        w->reserved = core_member_of(core, event->reservation);
        core_apart_join(core, workload, event);
        /* A class for it must be there now; later, when it waits again, it may have to wait for
         * one. */
        bool fits = core_class_find(core, workload) != 0 || core_slot_left(core, CORE_CLASSES, 1);
        if (!fits) {
            core_apart_leave(core, workload);
            core_slot_give(core, CORE_WORKLOADS, workload);
            workload = 0;
            error = MR_ELIMIT;
        }
    }
    if (error != 0) {
        core_trace(core, "submission %llu is rejected: %s", (unsigned long long)event->tag,
                   mr_error_name(error));
        answer_put(core, event, 0, false, error);
        return;
    }
    core_workload_enter(core, workload);
    struct core_workload *w = core_workload(core, workload);
    core_member_join(core, workload);
    w->counted_pending = 1;
    core_quota_count(core, w->tenant, 0, 1);
    if (core_is_service(w)) {
        w->phase = CORE_ACTIVE;
        w->backoff_us = MR_MAX(w->begin_us, core_member_begin_us(core, w));
        core_service_join(core, workload);
    } else {
        if (w->reserved == 0) core_deadline_join(core, workload, event);
        core_workload_wait(core, workload);
    }
    answer_put(core, event, workload, false, 0);
    if (core_is_service(w) && w->target == 0)
        core_service_update(core, workload);
    else
        core_state_set(core, workload, MR_STATE_PENDING);
}

/* --- cancel and scale ---------------------------------------------------------------------- */

void core_queue_leave(struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    if (w->phase == CORE_WAITING) core_claims_drop(core, workload); /* the room that it held */
    if (w->class_of != 0) core_class_leave(core, workload);
}

void core_cancel(struct mr_core *core, uint64_t id)
{
    uint32_t workload = core_workload_find(core, id);
    if (workload == 0) return;
    struct core_workload *w = core_workload(core, workload);
    if (w->kind == MR_KIND_RESERVATION) {
        core_reserve_cancel(core, workload);
        return;
    }
    switch ((enum core_phase)w->phase) {
    case CORE_WAITING:
        core_queue_leave(core, workload);
        core_workload_end(core, workload, MR_STATE_CANCELLED);
        return;
    case CORE_HELD:
        core_workload_end(core, workload, MR_STATE_CANCELLED);
        return;
    case CORE_CLAIMING:
    case CORE_ACTIVE:
    case CORE_ENDING:
        core_gang_stop(core, workload, CORE_OUTCOME_END, MR_STATE_CANCELLED, false);
        return;
    default:
        MR_ASSERT(w->phase == CORE_ENDED);
    }
}

static bool scale_valid(const struct mr_core *core, const struct core_workload *w,
                        const struct mr_event_scale *event)
{
    uint32_t min = event->tasks_min, max = event->tasks_max;
    if (w->phase == CORE_ENDED || w->kind == MR_KIND_RESERVATION) return false;
    if (min > max || max == 0 || max > core->limits.leases - w->spares) return false;
    if (min == 0 && !core_is_service(w)) return false;
    return w->segment == 0 || (min % w->segment == 0 && max % w->segment == 0);
}

void core_scale(struct mr_core *core, const struct mr_event_scale *event)
{
    uint32_t workload = core_workload_find(core, event->workload.v);
    if (workload == 0 || !scale_valid(core, core_workload(core, workload), event)) return;
    struct core_workload *w = core_workload(core, workload);
    core_deadline_leave(core, workload); /* who is scaled by hand is planned no more */
    bool queued = w->class_of != 0 || (w->phase == CORE_HELD && w->timer_at == 0);
    core_queue_leave(core, workload);
    w->tasks_min = event->tasks_min;
    w->tasks_max = event->tasks_max;
    core_trace(core, "workload %llu is scaled to %u..%u", (unsigned long long)w->id, w->tasks_min,
               w->tasks_max);
    if (core_is_service(w)) {
        w->target = MR_MIN(MR_MAX(w->target, w->tasks_min), w->tasks_max);
        if (w->load_per_replica == 0) w->target = w->tasks_min;
        if (w->phase == CORE_ACTIVE) core_service_update(core, workload);
        return;
    }
    if (queued) core_workload_wait(core, workload);
    core_gang_scaled(core, workload);
}
