/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs with deadlines: which run, with which size, and to which of them it is promised.
 *
 * On a grid of a minute, when something has changed: what cannot be done in time any more is given
 * up; the promised jobs are planned by deadline, and keep their plans, which fit together, when
 * that fails for one of them; then the others, cheapest first, into what is left. A job is promised
 * when little is planned before its deadline, or when it is cheap among those that came lately: a
 * price that rises with the load. What is not promised runs where the plan leaves room.
 *
 * Owns:       the planned jobs, their two plans each, the costs of the newest arrivals.
 * Invariants: (1) plans of promised jobs fit together with what there is;
 *             (2) a planned job has exactly the size of its plan, or is on its way to it;
 *             (3) plans change on the grid only.
 * Never:      I/O, clock, allocation, recursion, floats.
 * Cost:       once a grid step at most, for each type: O(planned jobs * (log planned + reservations
 *             + fill) + windows).
 * Idea:       docs/internals/deadlines.md   Tests: tests/unit/core/test_core_deadline.c
 */
#include "core_reserve.h"

#define MICRO          1000000u
#define LOAD_FREE      100u /* thousandths of what there is: so much is promised to anybody */
#define RUNNING_WEIGHT 8u   /* tenths: what stopping a running job for a cheaper one must gain */

/* What a plan must meet: where speeds are not sure, a grid step is kept in hand. */
static uint64_t deadline_of(const struct mr_core *core, const struct core_planned *p)
{
    uint64_t deadline_us = core_workload(core, p->workload)->deadline_us;
    return p->cautious && deadline_us > CORE_GRID_US ? deadline_us - CORE_GRID_US : deadline_us;
}

uint32_t core_planned_devices(const struct mr_core *core, const struct core_planned *p)
{
    return core_workload(core, p->workload)->shape.accel_milli / CORE_WHOLE;
}

uint64_t core_planned_left(const struct core_planned *p, uint64_t at_us)
{
    uint64_t since_us = MR_MAX(p->left_us, p->warm_us);
    if (p->size == CORE_SIZE_NONE || at_us <= since_us) return p->left_micro;
    uint64_t done = mr_mul_div_u64(p->rate_micro[p->size], at_us - since_us, MICRO);
    return done < p->left_micro ? p->left_micro - done : 1;
}

void core_deadline_dirty(struct mr_core *core)
{
    if (core->planned_first == 0) return;
    uint64_t next_us = (core->now_us + CORE_GRID_US - 1) / CORE_GRID_US * CORE_GRID_US;
    if (next_us <= core->planned_us) next_us = core->planned_us + CORE_GRID_US;
    core->plan_due_us = MR_MIN(core->plan_due_us, next_us);
}

/* --- joining and leaving ------------------------------------------------------------------- */

/* Device-microseconds to meet the deadline alone: the smallest size that can, mixed with the next
 * smaller one; 2^64 - 1 when none can. */
static uint64_t cost_alone(const struct mr_core *core, const struct core_planned *p)
{
    uint64_t deadline_us = deadline_of(core, p), each = core_planned_devices(core, p);
    if (deadline_us <= core->now_us) return UINT64_MAX;
    uint64_t window_us = deadline_us - core->now_us;
    for (uint32_t k = 0; k < p->sizes; k++) {
        uint64_t resize_us = k == p->size ? 0 : p->resize_us[k];
        uint64_t needs_us = mr_mul_div_u64(p->left_micro, MICRO, p->rate_micro[k]);
        if (needs_us + resize_us > window_us) continue;
        uint64_t whole = needs_us * p->tasks[k] * each;
        if (k == 0) return whole;
        uint64_t slow = mr_mul_div_u64(p->rate_micro[k - 1], window_us, MICRO);
        uint64_t missing = p->left_micro > slow ? p->left_micro - slow : 0;
        uint64_t fast_us = mr_mul_div_u64(missing, MICRO, p->rate_micro[k] - p->rate_micro[k - 1]);
        fast_us = MR_MIN(fast_us, window_us);
        uint64_t mixed = (fast_us * p->tasks[k] + (window_us - fast_us) * p->tasks[k - 1]) * each;
        return MR_MIN(whole, mixed);
    }
    return UINT64_MAX;
}

/* The accelerator type that its first choice means; for "any" the one that there is most of. */
static uint8_t type_of(const struct mr_core *core, const struct mr_shape *shape)
{
    uint8_t best = 0;
    if (shape->accel_types[0] != 0) return shape->accel_types[0];
    for (uint8_t type = 1; type < MR_ACCEL_TYPES_MAX; type++) {
        if (core->type_milli[type] > core->type_milli[best == 0 ? type : best] || best == 0)
            best = core->type_milli[type] > 0 ? type : best;
    }
    return best;
}

static bool plannable(const struct mr_core *core, const struct mr_event_submit *event)
{
    return event->deadline_us > core->now_us && event->curve.work > 0 && event->curve.count > 0 &&
           event->shape.accel_milli >= CORE_WHOLE && core_slot_left(core, CORE_PLANNED, 1);
}

/* Sizes that are not faster than every smaller one are left out. */
static void curve_take(struct core_planned *p, const struct mr_curve *curve)
{
    uint64_t best = 0;
    for (uint32_t i = 0; i < curve->count; i++) {
        const struct mr_curve_point *point = &curve->points[i];
        uint64_t rate = mr_mul_div_u64(point->rate_micro, 1000 - curve->error_permille, 1000);
        if (rate <= best) continue;
        best = rate;
        p->tasks[p->sizes] = point->tasks;
        p->rate_micro[p->sizes] = rate;
        p->resize_us[p->sizes++] = point->resize_us;
    }
}

void core_deadline_join(struct mr_core *core, uint32_t workload,
                        const struct mr_event_submit *event)
{
    struct core_workload *w = core_workload(core, workload);
    uint8_t type = type_of(core, &event->shape);
    if (!plannable(core, event) || type == 0) return;
    uint32_t slot = core_slot_take(core, CORE_PLANNED);
    MR_ASSERT(slot != 0);
    struct core_planned *p = core_planned(core, slot);
    curve_take(p, &event->curve);
    if (p->sizes == 0) {
        core_slot_give(core, CORE_PLANNED, slot);
        return;
    }
    p->workload = workload;
    p->tasks_min = w->tasks_min;
    p->tasks_max = w->tasks_max;
    p->type = type;
    p->size = CORE_SIZE_NONE;
    p->promise = event->promise;
    p->late_ends = event->late_ends;
    p->cautious = event->curve.error_permille > 0;
    p->work = event->curve.work;
    p->left_micro = p->work * MICRO;
    p->left_us = core->now_us;
    p->next_job = core->planned_first;
    if (p->next_job != 0) core_planned(core, p->next_job)->prev_job = slot;
    core->planned_first = slot;
    w->planned = slot;
    w->tasks_min = w->tasks_max = p->tasks[0];
    p->cost = cost_alone(core, p);
    p->rank_cost = p->cost;
    core->costs[core->cost_count++ % CORE_COSTS] = p->cost;
    core_deadline_dirty(core);
}

void core_deadline_leave(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    uint32_t slot = w->planned;
    if (slot == 0) return;
    struct core_planned *p = core_planned(core, slot);
    core_deadline_dirty(core);
    if (p->prev_job != 0)
        core_planned(core, p->prev_job)->next_job = p->next_job;
    else
        core->planned_first = p->next_job;
    if (p->next_job != 0) core_planned(core, p->next_job)->prev_job = p->prev_job;
    w->tasks_min = p->tasks_min;
    w->tasks_max = p->tasks_max;
    w->planned = 0;
    core_slot_give(core, CORE_PLANNED, slot);
}

/* The piece that holds now; CORE_SIZE_NONE before the first and without a plan. */
static uint8_t size_now(const struct mr_core *core, const struct core_planned *p)
{
    uint8_t size = CORE_SIZE_NONE;
    for (uint32_t i = 0; i < p->plan.count; i++) {
        if (p->plan.start_us[i] <= core->now_us) size = p->plan.size[i];
    }
    return size;
}

bool core_deadline_holds_back(const struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    return w->planned != 0 && size_now(core, core_planned(core, w->planned)) == CORE_SIZE_NONE;
}

uint64_t core_deadline_start_us(const struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    if (w->planned == 0) return 0;
    const struct core_planned *p = core_planned(core, w->planned);
    for (uint32_t i = 0; i < p->plan.count; i++) {
        if (p->plan.size[i] != CORE_SIZE_NONE) return p->plan.start_us[i];
    }
    return 0;
}

/* --- runs ---------------------------------------------------------------------------------- */

void core_deadline_started(struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    if (w->planned == 0) return;
    struct core_planned *p = core_planned(core, w->planned);
    for (uint8_t i = 0; i < p->sizes; i++) {
        if (p->tasks[i] == w->tasks) p->size = i;
    }
    MR_ASSERT(p->size != CORE_SIZE_NONE);
    p->left_us = core->now_us;
    p->warm_us = core->now_us + p->resize_us[p->size];
}

void core_deadline_stopped(struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    if (w->planned == 0) return;
    struct core_planned *p = core_planned(core, w->planned);
    p->left_micro = core_planned_left(p, core->now_us);
    p->left_us = core->now_us;
    p->size = CORE_SIZE_NONE;
    core_deadline_dirty(core);
}

void core_deadline_progress(struct mr_core *core, uint32_t workload, uint64_t work_done)
{
    const struct core_workload *w = core_workload(core, workload);
    if (w->planned == 0) return;
    struct core_planned *p = core_planned(core, w->planned);
    if (work_done >= p->work) return; /* then it ends in a moment */
    p->left_micro = (p->work - work_done) * MICRO;
    p->left_us = core->now_us;
    p->warm_us = MR_MIN(p->warm_us, core->now_us);
}

/* --- planning ------------------------------------------------------------------------------ */

static uint32_t *order_at(const struct mr_core *core, uint32_t i)
{
    return (uint32_t *)core_item(core, CORE_PLAN_ORDER, i);
}

static bool before(const struct mr_core *core, uint32_t a, uint32_t b, bool by_cost)
{
    const struct core_planned *p = core_planned(core, a), *q = core_planned(core, b);
    uint64_t x = by_cost ? p->cost : deadline_of(core, p);
    uint64_t y = by_cost ? q->cost : deadline_of(core, q);
    if (x != y) return x < y;
    return core_workload(core, p->workload)->id < core_workload(core, q->workload)->id;
}

/* Shell's sort with Ciura's gaps: in place, and exact in its order as no two are equal. */
static void order_sort(const struct mr_core *core, uint32_t count, bool by_cost)
{
    static const uint32_t gaps[] = {9349, 4155, 1847, 821, 301, 132, 57, 23, 10, 4, 1};
    for (size_t g = 0; g < MR_COUNT_OF(gaps); g++) {
        for (uint32_t i = gaps[g]; i < count; i++) {
            uint32_t slot = *order_at(core, i), at = i;
            for (; at >= gaps[g] && before(core, slot, *order_at(core, at - gaps[g]), by_cost);
                 at -= gaps[g]) {
                *order_at(core, at) = *order_at(core, at - gaps[g]);
            }
            *order_at(core, at) = slot;
        }
    }
}

enum who { PROMISED, OTHERS, ALL };

/* Promised jobs and all jobs by deadline, the others by cost. */
static uint32_t order_collect(const struct mr_core *core, uint8_t type, enum who who)
{
    uint32_t count = 0;
    for (uint32_t i = core->planned_first; i != 0; i = core_planned(core, i)->next_job) {
        const struct core_planned *p = core_planned(core, i);
        if (p->type != type || (who != ALL && p->promised != (who == PROMISED))) continue;
        *order_at(core, count++) = i;
    }
    order_sort(core, count, who == OTHERS);
    return count;
}

/* The devices of that type on the nodes of a reservation. */
static uint32_t reserved_devices(const struct mr_core *core, const struct core_reserved *r,
                                 uint8_t type)
{
    uint32_t count = 0;
    for (uint32_t at = r->window_first; at != 0; at = core_window(core, at)->of_next) {
        const struct core_node *n = core_node(core, core_window(core, at)->node);
        if (n->accel_type == type && n->state == MR_NODE_UP) count += n->accel_count;
    }
    return count;
}

/* Counts them for the length of a plan; type 0 forgets them, so that none are state. */
static void reserved_count(struct mr_core *core, uint8_t type)
{
    for (uint32_t i = 1; i < core->tables[CORE_RESERVED].used; i++) {
        struct core_reserved *r = core_reserved(core, i);
        if (r->workload != 0) r->devices = type == 0 ? 0 : reserved_devices(core, r, type);
    }
}

/* Devices of the type that the planned jobs hold or nobody does, or that come back when a
 * reservation ends. */
static uint32_t devices_for(const struct mr_core *core, uint8_t type)
{
    uint64_t milli = core->type_free_milli[type];
    for (uint32_t i = core->planned_first; i != 0; i = core_planned(core, i)->next_job) {
        const struct core_planned *p = core_planned(core, i);
        const struct core_workload *w = core_workload(core, p->workload);
        if (p->type == type) milli += (uint64_t)w->tasks * w->shape.accel_milli;
    }
    for (uint32_t i = 1; i < core->tables[CORE_RESERVED].used; i++) {
        const struct core_reserved *r = core_reserved(core, i);
        if (r->active) milli += (uint64_t)CORE_WHOLE * r->devices;
    }
    return (uint32_t)MR_MIN(milli / CORE_WHOLE, (uint64_t)UINT32_MAX);
}

/* Whether the job could be done in time with all the devices there are. */
static bool possible(const struct mr_core *core, const struct core_planned *p, uint32_t devices)
{
    uint64_t deadline_us = deadline_of(core, p), each = core_planned_devices(core, p);
    for (uint32_t k = 0; k < p->sizes; k++) {
        uint64_t at_us = core->now_us, needs_us;
        if (p->tasks[k] * each > devices) break;
        if (k == p->size)
            at_us = MR_MAX(at_us, p->warm_us);
        else
            at_us += p->resize_us[k];
        needs_us = mr_mul_div_u64(p->left_micro, MICRO, p->rate_micro[k]);
        if (at_us < deadline_us && needs_us < deadline_us - at_us) return true;
    }
    return false;
}

static void give_up(struct mr_core *core, uint32_t slot)
{
    const struct core_planned *p = core_planned(core, slot);
    uint32_t workload = p->workload;
    struct core_workload *w = core_workload(core, workload);
    core_trace(core, "workload %llu cannot meet its deadline any more", (unsigned long long)w->id);
    if (p->late_ends) {
        if (w->class_of != 0) core_class_leave(core, workload);
        if (w->phase == CORE_ACTIVE || w->phase == CORE_ENDING || w->phase == CORE_CLAIMING)
            core_gang_stop(core, workload, CORE_OUTCOME_END, MR_STATE_TIMEOUT, true);
        else
            core_workload_end(core, workload, MR_STATE_TIMEOUT);
        core_deadline_leave(core, workload);
        return;
    }
    bool held = w->phase == CORE_HELD || w->phase == CORE_WAITING;
    if (w->class_of != 0) core_class_leave(core, workload);
    core_deadline_leave(core, workload);
    if (held)
        core_workload_wait(core, workload);
    else if (w->phase == CORE_ACTIVE)
        core_gang_timer(core, workload);
}

/* What is left of each job now; who cannot be done in time is given up. */
static void refresh(struct mr_core *core, uint8_t type, uint32_t devices)
{
    uint32_t next;
    for (uint32_t i = core->planned_first; i != 0; i = next) {
        struct core_planned *p = core_planned(core, i);
        next = p->next_job;
        if (p->type != type) continue;
        p->left_micro = core_planned_left(p, core->now_us);
        p->left_us = core->now_us;
        p->next.count = 0;
        p->next.finish_us = 0;
        p->cost = cost_alone(core, p);
        if (p->size != CORE_SIZE_NONE) p->cost = p->cost / 10 * RUNNING_WEIGHT;
        if (!possible(core, p, devices)) give_up(core, i);
    }
}

/* What the fleet has from now on, without what is reserved. */
static void supply_begin(struct mr_core *core, uint32_t devices)
{
    core_fill_begin(core, devices);
    for (uint32_t i = 1; i < core->tables[CORE_RESERVED].used; i++) {
        const struct core_reserved *r = core_reserved(core, i);
        if (r->devices > 0) core_fill_block(core, r->begin_us, r->end_us, r->devices);
    }
}

/* Device-microseconds that are reserved before that time. */
static uint64_t reserved_before(const struct mr_core *core, uint64_t until_us)
{
    uint64_t sum = 0, part;
    for (uint32_t i = 1; i < core->tables[CORE_RESERVED].used; i++) {
        const struct core_reserved *r = core_reserved(core, i);
        uint64_t from_us = MR_MAX(r->begin_us, core->now_us), to_us = MR_MIN(r->end_us, until_us);
        if (from_us >= to_us) continue;
        if (!mr_mul_u64(r->devices, to_us - from_us, &part)) return UINT64_MAX;
        if (!mr_add_u64(sum, part, &sum)) return UINT64_MAX;
    }
    return sum;
}

static bool promised_plan(struct mr_core *core, uint8_t type, uint32_t devices)
{
    uint32_t count = order_collect(core, type, PROMISED);
    supply_begin(core, devices);
    for (uint32_t i = 0; i < count; i++) {
        struct core_planned *p = core_planned(core, *order_at(core, i));
        if (!core_fill(core, p, deadline_of(core, p))) return false;
        if (!core_fill_take(core, p, &p->next)) return false;
    }
    return true;
}

/* The plans that hold fit together; what is over of them is kept as it is. */
static void promised_keep(struct mr_core *core, uint8_t type, uint32_t devices)
{
    uint32_t count = order_collect(core, type, PROMISED);
    supply_begin(core, devices);
    for (uint32_t i = 0; i < count; i++) {
        struct core_planned *p = core_planned(core, *order_at(core, i));
        p->next = p->plan;
        /* With fewer devices than there were, not all of them may fit: then some are late. */
        (void)core_fill_take(core, p, &p->next);
    }
}

/* Thousandths of the devices' time before the deadline that are planned already. */
static uint64_t load_before(const struct mr_core *core, uint64_t deadline_us, uint32_t devices)
{
    uint64_t all;
    if (deadline_us <= core->now_us || devices == 0) return 1000;
    if (!mr_mul_u64(deadline_us - core->now_us, devices, &all)) return 0;
    all -= MR_MIN(all, reserved_before(core, deadline_us));
    if (all == 0) return 1000;
    uint64_t free = MR_MIN(core_fill_free(core, deadline_us), all);
    return mr_mul_div_u64(all - free, 1000, all);
}

/* Thousandths of the newest arrivals that are cheaper. */
static uint64_t rank_of(const struct mr_core *core, uint64_t cost)
{
    uint32_t count = MR_MIN(core->cost_count, CORE_COSTS), cheaper = 0;
    for (uint32_t i = 0; i < count; i++) {
        cheaper += core->costs[i] < cost;
    }
    return count == 0 ? 0 : (uint64_t)cheaper * 1000 / count;
}

/* Into what is free; how many of them fit. */
static uint32_t others_plan(struct mr_core *core, uint8_t type, uint32_t *ret_count)
{
    uint32_t count = order_collect(core, type, OTHERS), fit = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct core_planned *p = core_planned(core, *order_at(core, i));
        if (core_fill(core, p, deadline_of(core, p)) && core_fill_take(core, p, &p->next)) {
            fit++;
            continue;
        }
        p->next.count = 0;
        p->next.finish_us = 0;
    }
    *ret_count = count;
    return fit;
}

/* All jobs by deadline. How many of the others fit; false when a promised one does not. */
static bool all_plan(struct mr_core *core, uint8_t type, uint32_t devices, uint32_t *ret_fit)
{
    uint32_t count = order_collect(core, type, ALL), fit = 0;
    supply_begin(core, devices);
    for (uint32_t i = 0; i < count; i++) {
        struct core_planned *p = core_planned(core, *order_at(core, i));
        if (core_fill(core, p, deadline_of(core, p)) && core_fill_take(core, p, &p->next)) {
            fit += !p->promised;
            continue;
        }
        if (p->promised) return false;
        p->next.count = 0;
        p->next.finish_us = 0;
    }
    *ret_fit = fit;
    return true;
}

static void promise(struct mr_core *core, uint8_t type, uint32_t devices)
{
    uint32_t count = order_collect(core, type, OTHERS);
    for (uint32_t i = 0; i < count; i++) {
        struct core_planned *p = core_planned(core, *order_at(core, i));
        if (p->next.finish_us == 0 || !p->promise) continue;
        uint64_t load = load_before(core, deadline_of(core, p), devices);
        bool cheap = rank_of(core, p->rank_cost) <= (1000 - load) * 1000 / (1000 - LOAD_FREE);
        if (load > LOAD_FREE && !cheap) continue;
        p->promised = 1;
        core_state_set(core, p->workload, (enum mr_state)core_workload(core, p->workload)->state);
        core_trace(core, "workload %llu is promised its deadline",
                   (unsigned long long)core_workload(core, p->workload)->id);
    }
}

/* --- carrying it out ----------------------------------------------------------------------- */

/* Towards the size that its plan has now. */
static void size_apply(struct mr_core *core, struct core_planned *p)
{
    struct core_workload *w = core_workload(core, p->workload);
    uint8_t size = size_now(core, p);
    uint32_t tasks = size == CORE_SIZE_NONE ? 0 : p->tasks[size];
    if (w->phase == CORE_ACTIVE && w->tasks == tasks) return;
    if (tasks > 0 && w->class_of == 0) w->tasks_min = w->tasks_max = tasks;
    if (w->phase == CORE_ACTIVE) {
        core_trace(core, "workload %llu goes from %u to %u tasks as planned",
                   (unsigned long long)w->id, w->tasks, tasks);
        core_gang_stop(core, p->workload, CORE_OUTCOME_REQUEUE, MR_STATE_PREEMPTED, true);
    } else if (w->phase == CORE_CLAIMING && w->tasks_min != tasks) {
        core_claim_lost(core, p->workload);
    } else if (w->phase == CORE_WAITING || w->phase == CORE_HELD) {
        if (w->class_of != 0) core_class_leave(core, p->workload);
        if (tasks > 0) w->tasks_min = w->tasks_max = tasks;
        core_workload_wait(core, p->workload);
    }
}

static void due_find(struct mr_core *core)
{
    for (uint32_t i = core->planned_first; i != 0; i = core_planned(core, i)->next_job) {
        const struct core_planned *p = core_planned(core, i);
        for (uint32_t k = 0; k < p->plan.count; k++) {
            if (p->plan.start_us[k] <= core->now_us) continue;
            core->plan_due_us = MR_MIN(core->plan_due_us, p->plan.start_us[k]);
            break;
        }
        /* Who has no plan may be given up, or get one, later. */
        if (p->plan.count == 0)
            core->plan_due_us = MR_MIN(core->plan_due_us, deadline_of(core, p) + CORE_GRID_US);
    }
}

static uint32_t cheapest_plan(struct mr_core *core, uint8_t type, uint32_t devices,
                              uint32_t *ret_count)
{
    if (!promised_plan(core, type, devices)) promised_keep(core, type, devices);
    return others_plan(core, type, ret_count);
}

static void type_plan(struct mr_core *core, uint8_t type)
{
    reserved_count(core, type);
    uint32_t devices = devices_for(core, type), count, fit_all = 0;
    refresh(core, type, devices);
    uint32_t fit = cheapest_plan(core, type, devices, &count);
    /* By deadline more of them may fit, for once. */
    if (fit < count && !(all_plan(core, type, devices, &fit_all) && fit_all >= fit))
        (void)cheapest_plan(core, type, devices, &count);
    promise(core, type, devices);
}

void core_deadline_run(struct mr_core *core)
{
    if (core->plan_due_us > core->now_us) return;
    uint32_t types = 0, next;
    for (uint32_t i = core->planned_first; i != 0; i = core_planned(core, i)->next_job) {
        types |= 1u << core_planned(core, i)->type;
    }
    for (uint8_t type = 1; type < MR_ACCEL_TYPES_MAX; type++) {
        if ((types >> type) & 1u) type_plan(core, type);
    }
    reserved_count(core, 0);
    core->planned_us = core->now_us;
    core->plan_due_us = UINT64_MAX;
    for (uint32_t i = core->planned_first; i != 0; i = core_planned(core, i)->next_job) {
        core_planned(core, i)->plan = core_planned(core, i)->next;
    }
    for (uint32_t i = core->planned_first; i != 0; i = next) {
        next = core_planned(core, i)->next_job;
        size_apply(core, core_planned(core, i));
    }
    due_find(core);
}
