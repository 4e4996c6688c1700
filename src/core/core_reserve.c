/* SPDX-License-Identifier: Apache-2.0 */
/* Reservations and maintenance: booked, begun, ended; and the work that names one.
 *
 * phase    leaves it when                             to
 * held     its time comes / it is cancelled           active / ended
 * active   its time is over / it is cancelled         ended
 *
 * From its begin its nodes are closed to others, and who may be asked to go was asked a grace
 * earlier. Work that was there when it was booked and could not be stopped stays: what is promised
 * was found beside it. At its end what its members still run is asked to go, a grace before; they
 * go on as ordinary work.
 *
 * Owns:       reservations, and the lists of their members.
 * Invariants: (1) an active reservation's nodes run nothing that came after it but its members;
 *             (2) a member's reservation has not ended;
 *             (3) windows hold as many tasks as were asked for, less those that lost their nodes.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(its nodes and what runs on them) to begin, to end, and once a minute in the hour
 *             before each; to book one, see core_book.c.
 * Idea:       docs/internals/reservations.md   Tests: tests/unit/core/test_core_reserve.c
 */
#include "core_reserve.h"
#include "core_quota.h"

/* --- members --------------------------------------------------------------------------------- */

uint32_t core_member_of(const struct mr_core *core, struct mr_workload_id reservation)
{
    uint32_t workload = core_workload_find(core, reservation.v);
    return workload != 0 ? core_workload(core, workload)->reserved : 0;
}

int core_member_valid(const struct mr_core *core, const struct mr_event_submit *event)
{
    if (event->reservation.v == 0) return 0;
    uint32_t workload = core_workload_find(core, event->reservation.v);
    if (workload == 0 || core_workload(core, workload)->kind != MR_KIND_RESERVATION)
        return MR_ENOT_FOUND;
    const struct core_workload *w = core_workload(core, workload);
    if (w->phase == CORE_ENDED || core_reserved(core, w->reserved)->maintenance) return MR_ESTATE;
    return core_tenant_above(core, w->tenant, event->tenant.v) ? 0 : MR_EFORBIDDEN;
}

void core_member_join(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    if (w->reserved == 0) return;
    struct core_reserved *r = core_reserved(core, w->reserved);
    w->member_next = r->member_first;
    if (r->member_first != 0) core_workload(core, r->member_first)->member_prev = workload;
    r->member_first = workload;
}

void core_member_leave(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    if (w->reserved == 0 || w->kind == MR_KIND_RESERVATION) return;
    if (w->member_prev != 0)
        core_workload(core, w->member_prev)->member_next = w->member_next;
    else
        core_reserved(core, w->reserved)->member_first = w->member_next;
    if (w->member_next != 0) core_workload(core, w->member_next)->member_prev = w->member_prev;
    w->member_prev = 0;
    w->member_next = 0;
    w->reserved = 0;
}

uint64_t core_member_begin_us(const struct mr_core *core, const struct core_workload *w)
{
    if (w->reserved == 0 || w->kind == MR_KIND_RESERVATION) return 0;
    const struct core_reserved *r = core_reserved(core, w->reserved);
    return r->active ? 0 : r->begin_us;
}

/* It is ordinary work from now on; what waits, waits with the others. */
static void member_free(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    bool waits = w->phase == CORE_WAITING || w->phase == CORE_HELD;
    if (core_is_service(w)) {
        if (w->class_of != 0) core_class_leave(core, workload);
        core_member_leave(core, workload);
        if (w->phase == CORE_ACTIVE) core_service_update(core, workload);
        return;
    }
    if (waits) core_queue_leave(core, workload);
    core_member_leave(core, workload);
    if (waits) core_workload_wait(core, workload);
}

/* --- who has to go --------------------------------------------------------------------------- */

static bool is_member(const struct mr_core *core, const struct core_reserved *r,
                      const struct core_workload *w)
{
    return w->reserved != 0 && core_reserved(core, w->reserved) == r;
}

/* When the lease is asked to go for the reservation, a member at its end, anybody else at its
 * begin; UINT64_MAX: not at all. What cannot be stopped, and was not to end by then, was there
 * before, and the promise was found beside it. */
static uint64_t goes_us(const struct mr_core *core, const struct core_reserved *r,
                        const struct core_lease *l)
{
    const struct core_workload *w = core_workload(core, l->workload);
    bool member = is_member(core, r, w);
    uint64_t target_us = r->active ? r->end_us : r->begin_us;
    uint64_t grace_us = MR_MIN(w->grace_us, CORE_RESERVE_LEAD_US);
    if (l->state == MR_LEASE_STOPPING || member != (r->active != 0)) return UINT64_MAX;
    if (l->state == CORE_LEASE_CLAIM) return target_us;
    if (w->phase != CORE_ACTIVE) return UINT64_MAX;
    uint64_t end_us = core_is_service(w) ? 0 : core_end_us(core, l->workload);
    if (end_us != 0 && end_us <= target_us) return target_us; /* if it outstays what was said */
    if (!(member || r->maintenance || w->preemptible || w->planned != 0)) return UINT64_MAX;
    return target_us > grace_us ? target_us - grace_us : 0;
}

static void lease_go(struct mr_core *core, const struct core_reserved *r, uint32_t lease)
{
    const struct core_lease *l = core_lease(core, lease);
    uint32_t workload = l->workload;
    core_trace(core, "workload %llu goes from node %u, which is reserved",
               (unsigned long long)core_workload(core, workload)->id, l->node);
    const struct core_workload *w = core_workload(core, workload);
    bool member = is_member(core, r, w);
    if (member && w->phase == CORE_WAITING) { /* it held room */
        member_free(core, workload);
        return;
    }
    if (w->class_of != 0 && core_is_service(w)) core_class_leave(core, workload);
    if (member) core_member_leave(core, workload); /* it goes on elsewhere */
    if (l->state == CORE_LEASE_CLAIM) {
        core_claim_lost(core, workload);
    } else if (core_is_service(w)) {
        core_service_replica_stop(core, lease, false);
        core_service_update(core, workload);
    } else {
        core_gang_stop(core, workload, CORE_OUTCOME_REQUEUE, MR_STATE_PREEMPTED, true);
    }
}

/* Asks those on its nodes to go whose time has come; returns when the next one's comes. */
static uint64_t nodes_clear(struct mr_core *core, struct core_reserved *r)
{
    uint64_t next_us = UINT64_MAX;
    for (uint32_t at = r->window_first; at != 0; at = core_window(core, at)->of_next) {
        uint32_t node = core_window(core, at)->node;
        uint32_t lease = core_node(core, node)->lease_first;
        while (lease != 0) {
            uint64_t due_us = goes_us(core, r, core_lease(core, lease));
            if (due_us > core->now_us) {
                next_us = MR_MIN(next_us, due_us);
                lease = core_lease(core, lease)->node_next;
                continue;
            }
            lease_go(core, r, lease);
            lease = core_node(core, node)->lease_first; /* several may have gone */
        }
    }
    return next_us;
}

/* --- its life -------------------------------------------------------------------------------- */

static void windows_show(struct mr_core *core, const struct core_reserved *r)
{
    for (uint32_t at = r->window_first; at != 0; at = core_window(core, at)->of_next) {
        core_window_show(core, core_window(core, at)->node);
    }
    core_deadline_dirty(core);
}

static void begin(struct mr_core *core, struct core_reserved *r)
{
    struct core_workload *w = core_workload(core, r->workload);
    (void)nodes_clear(core, r);
    r->active = 1;
    r->shown = 1;
    r->billed_us = core->now_us;
    w->phase = CORE_ACTIVE;
    w->started_us = core->now_us;
    windows_show(core, r);
    core_trace(core, "reservation %llu begins with %u tasks", (unsigned long long)w->id, r->tasks);
    core_state_set(core, r->workload, MR_STATE_RUNNING);
}

static void end(struct mr_core *core, uint32_t reserved, enum mr_state state)
{
    struct core_reserved *r = core_reserved(core, reserved);
    uint32_t workload = r->workload;
    if (r->active) core_reserve_bill(core, reserved);
    while (r->member_first != 0) {
        uint32_t member = r->member_first;
        member_free(core, member);
        MR_ASSERT(r->member_first != member);
    }
    while (r->window_first != 0) {
        core_window_drop(core, r->window_first);
    }
    core_deadline_dirty(core);
    core_workload(core, workload)->reserved = 0;
    core_slot_give(core, CORE_RESERVED, reserved);
    core_view_reset(core); /* while there is none, nodes are looked at for anybody */
    core_workload_end(core, workload, state);
}

void core_reserve_cancel(struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    if (w->phase != CORE_ENDED) end(core, w->reserved, MR_STATE_CANCELLED);
}

/* Windows on the nodes of the plan that was found. */
static void windows_make(struct mr_core *core, uint32_t reserved, uint32_t entries)
{
    for (uint32_t i = 1; i <= entries; i++) {
        const struct core_plan entry = *core_plan(core, i);
        core_window_add(core, reserved, entry.node, entry.tasks);
    }
}

/* Other nodes for those that were lost, as near as the topology asks. */
static void missing_find(struct mr_core *core, uint32_t reserved)
{
    struct core_reserved *r = core_reserved(core, reserved);
    const struct core_workload *w = core_workload(core, r->workload);
    struct core_booking booking = {.shape = &w->shape,
                                   .topology = (enum mr_topology)w->topology,
                                   .tasks = r->missing,
                                   .begin_us = MR_MAX(r->begin_us, core->now_us),
                                   .end_us = r->end_us};
    uint8_t type = r->accel_type;
    bool near = !core_topology_unbounded(booking.topology);
    if (near && r->window_first != 0) {
        uint32_t levels = MR_MAX(core_topology_levels(booking.topology), 1u); /* a node: nearby */
        enum core_level level = core_topology_widen[levels - 1];
        const struct core_node *n = core_node(core, core_window(core, r->window_first)->node);
        booking.place = core_place_above(core, n->place, level);
    }
    uint32_t entries = core_book_plan(core, &booking, &type);
    if (entries == 0 || (type != r->accel_type && r->window_first != 0)) return;
    if (!core_slot_left(core, CORE_WINDOWS, entries)) return;
    r->accel_type = type;
    windows_make(core, reserved, entries);
    core_trace(core, "reservation %llu has %u tasks again", (unsigned long long)w->id, r->tasks);
    r->missing = 0;
    windows_show(core, r);
}

/* It begins, and some of its nodes have not been delivered: it gets others, if there are. */
static void late_drop(struct mr_core *core, struct core_reserved *r)
{
    uint32_t next;
    for (uint32_t at = r->window_first; at != 0; at = next) {
        const struct core_window *w = core_window(core, at);
        next = w->of_next;
        if (r->maintenance || core_node(core, w->node)->state != MR_NODE_EXPECTED) continue;
        core_trace(core, "node %u was to be there for reservation %llu", w->node,
                   (unsigned long long)core_workload(core, r->workload)->id);
        r->missing += w->tasks;
        core_window_drop(core, at);
    }
}

/* When it is looked at next; who has to go by now is asked to. */
static uint64_t next_look_us(struct mr_core *core, struct core_reserved *r)
{
    uint64_t target_us = r->active ? r->end_us : r->begin_us, next_us = target_us;
    uint64_t look_us = target_us > CORE_RESERVE_LEAD_US ? target_us - CORE_RESERVE_LEAD_US : 0;
    if (core->now_us >= look_us) {
        next_us = MR_MIN(next_us, nodes_clear(core, r));
        next_us = MR_MIN(next_us, core->now_us + CORE_RESERVE_BEAT_US);
    } else {
        next_us = look_us;
    }
    if (!r->shown) next_us = MR_MIN(next_us, r->begin_us - CORE_MAINTENANCE_US);
    if (r->missing > 0) next_us = MR_MIN(next_us, core->now_us + CORE_RESERVE_BEAT_US);
    if (r->active) next_us = MR_MIN(next_us, r->billed_us + CORE_CUT_US);
    return next_us;
}

void core_reserve_due(struct mr_core *core, uint32_t workload)
{
    uint32_t reserved = core_workload(core, workload)->reserved;
    struct core_reserved *r = core_reserved(core, reserved);
    bool gone = r->maintenance && r->window_first == 0; /* with its nodes: a term has ended */
    if (core->now_us >= r->end_us || gone) {
        (void)nodes_clear(core, r);
        end(core, reserved, MR_STATE_COMPLETED);
        return;
    }
    if (!r->shown && core->now_us + CORE_MAINTENANCE_US >= r->begin_us) {
        r->shown = 1;
        windows_show(core, r);
    }
    if (!r->active && core->now_us >= r->begin_us) late_drop(core, r);
    if (r->missing > 0) missing_find(core, reserved);
    if (!r->active && core->now_us >= r->begin_us) begin(core, r);
    if (r->active && core->now_us - r->billed_us >= CORE_CUT_US) core_reserve_bill(core, reserved);
    core_timer_set(core, workload, next_look_us(core, r));
}

static void window_lost(struct mr_core *core, uint32_t window)
{
    const struct core_window *w = core_window(core, window);
    struct core_reserved *r = core_reserved(core, w->reserved);
    if (!r->maintenance) r->missing += w->tasks;
    core_window_drop(core, window);
    core_timer_set(core, r->workload, core->now_us); /* other nodes when this is dealt with */
}

void core_reserve_node_lost(struct mr_core *core, uint32_t node, bool absent)
{
    uint32_t next;
    for (uint32_t at = core_node(core, node)->window_first; at != 0; at = next) {
        next = core_window(core, at)->node_next;
        bool maintained = core_reserved(core, core_window(core, at)->reserved)->maintenance;
        if (!maintained || absent) window_lost(core, at); /* maintained: that is what it is for */
    }
}

void core_reserve_node_changed(struct mr_core *core, const struct mr_event_node *event)
{
    uint32_t next, node = event->id.v;
    for (uint32_t at = core_node(core, node)->window_first; at != 0; at = next) {
        const struct core_window *w = core_window(core, at);
        const struct core_reserved *r = core_reserved(core, w->reserved);
        const struct mr_shape *shape = &core_workload(core, r->workload)->shape;
        uint64_t devices = ((uint64_t)w->tasks * shape->accel_milli + CORE_WHOLE - 1) / CORE_WHOLE;
        next = w->node_next;
        if (r->maintenance) continue;
        bool kind = r->accel_type == 0 || r->accel_type == event->accel_type;
        bool holds = (uint64_t)w->tasks * shape->cpu_milli <= event->cpu_milli &&
                     (uint64_t)w->tasks * shape->mem_mib <= event->mem_mib &&
                     devices <= event->accel_count;
        if (!kind || !holds || w->begin_us < event->from_us) window_lost(core, at);
    }
}

/* --- booking --------------------------------------------------------------------------------- */

static int maintenance_valid(const struct mr_core *core, const struct mr_event_reserve *event)
{
    if ((event->node.v != 0) == (event->domain != 0) || event->tasks != 0) return MR_EINVALID;
    if (event->domain != 0 && event->nodes != 0) return MR_EINVALID;
    uint64_t last = event->node.v + (uint64_t)MR_MAX(event->nodes, 1u) - 1;
    bool known = last <= core->limits.nodes && event->domain <= core->limits.domains;
    return known ? 0 : MR_ENOT_FOUND;
}

static int event_valid(const struct mr_core *core, const struct mr_event_reserve *event)
{
    uint64_t most_us = (uint64_t)1 << 59;
    uint32_t tenant = event->tenant.v;
    if (tenant == 0 || tenant > core->limits.tenants || !core_tenant(core, tenant)->present)
        return MR_ENOT_FOUND;
    if (event->end_us <= event->begin_us || event->end_us > most_us) return MR_EINVALID;
    if (event->maintenance) return maintenance_valid(core, event);
    if (event->node.v != 0 || event->nodes != 0 || event->domain != 0 || event->tasks == 0)
        return MR_EINVALID;
    if (event->topology >= MR_TOPOLOGY_COUNT) return MR_EINVALID;
    if (event->tasks > core->limits.leases) return MR_ELIMIT;
    return core_shape_valid(&event->shape) ? 0 : MR_EINVALID;
}

/* The nodes that are maintained, as entries of a plan; MR_ESTATE when one is reserved then. */
static int maintenance_plan(struct mr_core *core, const struct mr_event_reserve *event,
                            uint64_t begin_us, uint32_t *ret_entries)
{
    uint32_t at = event->node.v, last = at + MR_MAX(event->nodes, 1u) - 1, entries = 0;
    if (event->domain != 0)
        at = core_place(core, core_place_slot(core, CORE_DOMAIN, event->domain))->node_first;
    while (at != 0) {
        const struct core_node *n = core_node(core, at);
        if (n->state == MR_NODE_ABSENT) return MR_ENOT_FOUND;
        if (!core_window_free(core, at, begin_us, event->end_us)) return MR_ESTATE;
        if (entries + 1 >= core->tables[CORE_PLAN].capacity) return MR_ELIMIT;
        *core_plan(core, ++entries) = (struct core_plan){.node = at};
        if (event->domain != 0)
            at = n->place_next;
        else
            at = at < last ? at + 1 : 0;
    }
    *ret_entries = entries;
    return entries > 0 ? 0 : MR_ENOT_FOUND;
}

static void reject(struct mr_core *core, const struct mr_event_reserve *event, int error,
                   const struct core_booking *booking)
{
    struct mr_effect_answer answer = {.tag = event->tag, .error = error};
    if (booking != NULL)
        answer.reason =
            (struct mr_reason){.code = MR_REASON_NO_WINDOW, .a = core_book_earliest(core, booking)};
    core_trace(core, "reservation %llu is rejected: %s", (unsigned long long)event->tag,
               mr_error_name(error));
    core_answer_put(core, &answer, 0);
}

static void book(struct mr_core *core, const struct mr_event_reserve *event, uint32_t entries,
                 uint8_t type)
{
    uint32_t reserved = core_slot_take(core, CORE_RESERVED);
    uint32_t workload = core_slot_take(core, CORE_WORKLOADS);
    MR_ASSERT(reserved != 0 && workload != 0);
    struct core_workload *w = core_workload(core, workload);
    struct core_reserved *r = core_reserved(core, reserved);
    w->key_high = event->key_high;
    w->key_low = event->key_low;
    w->kind = MR_KIND_RESERVATION;
    w->state = MR_STATE_PENDING;
    w->phase = CORE_HELD;
    w->submitted_us = core->now_us;
    w->begin_us = event->begin_us;
    w->time_limit_us = event->end_us - event->begin_us;
    w->shape = event->shape;
    memset(w->shape.reserved, 0, sizeof w->shape.reserved);
    w->topology = (uint8_t)event->topology;
    w->tenant = event->tenant.v;
    w->tasks_min = event->tasks;
    w->tasks_max = event->tasks;
    w->accel_type = type;
    w->timer_us = UINT64_MAX;
    w->reserved = reserved;
    r->begin_us = event->begin_us;
    r->end_us = event->end_us;
    r->workload = workload;
    r->accel_type = type;
    r->maintenance = event->maintenance;
    r->shown = !event->maintenance;
    core_workload_enter(core, workload);
    windows_make(core, reserved, entries);
    core_deadline_dirty(core);
    core_timer_set(core, workload, core->now_us);
    const struct mr_effect_answer answer = {.tag = event->tag};
    core_answer_put(core, &answer, workload);
    core_state_set(core, workload, MR_STATE_PENDING);
}

/* Nodes for it, as entries of a plan; the answer is UNAVAILABLE when there are none. */
static int nodes_find(struct mr_core *core, const struct mr_event_reserve *event,
                      const struct core_booking *booking, uint32_t *ret_entries, uint8_t *ret_type)
{
    int error = event_valid(core, event);
    if (error != 0) return error;
    if (!core_slot_left(core, CORE_RESERVED, 1) || !core_workload_room(core)) return MR_ELIMIT;
    if (event->maintenance) {
        error = maintenance_plan(core, event, booking->begin_us, ret_entries);
        if (error != 0) return error;
    } else {
        *ret_entries = core_book_plan(core, booking, ret_type);
        if (*ret_entries == 0) return MR_EUNAVAILABLE;
    }
    return core_slot_left(core, CORE_WINDOWS, *ret_entries) ? 0 : MR_ELIMIT;
}

void core_reserve(struct mr_core *core, const struct mr_event_reserve *asked)
{
    uint32_t known = core_workload_by_key(core, asked->key_high, asked->key_low), entries = 0;
    uint8_t type = 0;
    if (known != 0) {
        const struct mr_effect_answer answer = {.tag = asked->tag, .known = true};
        core_answer_put(core, &answer, known);
        return;
    }
    struct mr_event_reserve event = *asked;
    event.begin_us = MR_MAX(core_whole_second(core, asked->begin_us), core->now_us);
    event.end_us = core_whole_second(core, asked->end_us);
    const struct core_booking booking = {.shape = &event.shape,
                                         .topology = event.topology,
                                         .tasks = event.tasks,
                                         .begin_us = event.begin_us,
                                         .end_us = event.end_us};
    int error = nodes_find(core, &event, &booking, &entries, &type);
    if (error != 0)
        reject(core, &event, error, error == MR_EUNAVAILABLE ? &booking : NULL);
    else
        book(core, &event, entries, type);
}
