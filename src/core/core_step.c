/* SPDX-License-Identifier: Apache-2.0 */
/* The step: time, what is due, the event, what follows from it, the queue.
 *
 * Owns:       the order of these; effects leave through core_emit only.
 * Invariants: (1) time does not go back;
 *             (2) nothing is left in scratch between steps.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(log fleet + classes tried + leases changed).
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_step.c
 */
#include "core_quota.h"
#include "core_reserve.h"

#define TIME_US_MAX ((uint64_t)1 << 60) /* the year 38,000: sums of two times do not overflow */

void core_emit(struct mr_core *core, const struct mr_effect *effect)
{
    MR_ASSERT(effect->kind < MR_EFFECT_COUNT);
    MR_ASSERT(core->sink != NULL);
    core->sink->emit(core->sink->context, effect);
}

/* What is the only one there has all that the node has, before and after. */
static bool node_change(struct mr_core *core, const struct mr_event_node *event,
                        uint32_t *ret_moved)
{
    bool lent = core_alone_node_changes(core, event);
    bool set = core_node_set(core, event, ret_moved);
    if (lent) core_alone_node_changed(core, event->id.v);
    return set;
}

/* It is up, or expected, and lies where the event says: what that tears apart goes. */
static void node_describe(struct mr_core *core, const struct mr_event_node *event)
{
    uint32_t node = event->id.v, place = core_node(core, node)->place, moved;
    if (!node_change(core, event, &moved)) return;
    core_trace(core, "node %u is %s: %u milli-vCPU, %u MiB, %u devices of type %u", node,
               core_node(core, node)->state == MR_NODE_UP ? "up" : "expected", event->cpu_milli,
               event->mem_mib, event->accel_count, event->accel_type);
    if (moved != 0)
        core_near_place_moved(core, moved); /* the node is in it */
    else if (core_node(core, node)->place != place)
        core_near_node_moved(core, node);
}

static void node_set(struct mr_core *core, const struct mr_event_node *said)
{
    struct mr_event_node whole = *said;
    const struct mr_event_node *event = &whole;
    whole.from_us = core_whole_second(core, said->from_us);
    uint32_t node = event->id.v;
    if (!mr_core_node_valid(core, event)) return;
    struct core_node *n = core_node(core, node);
    bool same_devices = n->accel_type == event->accel_type && n->accel_count <= event->accel_count;
    /* A claim may hold more than there is, until those it displaces are gone. */
    bool grows = event->cpu_milli >= n->cpu_milli && event->mem_mib >= n->mem_mib;
    bool holds = grows || (n->cpu_milli - n->cpu_free_milli <= event->cpu_milli &&
                           n->mem_mib - n->mem_free_mib <= event->mem_mib);
    /* What ran on a machine that is another one now, runs no more. */
    if (n->lease_count > 0 && !(same_devices && holds)) {
        core_trace(core, "node %u is not what it was: its %u leases are lost", node,
                   n->lease_count);
        core_node_lost(core, node);
    }
    core_reserve_node_changed(core, event);
    core_failure_forget(core, node);
    core_deadline_dirty(core);
    if (core->pending > 0) core_hold_arm(core, core->now_us + CORE_HOLD_US);
    node_describe(core, event);
}

void core_node_state(struct mr_core *core, uint32_t node, enum mr_node_state state)
{
    struct core_node *n = core_node(core, node);
    if (n->state == MR_NODE_ABSENT) return;
    state = core_failure_state(core, node, state);
    if (n->state == state) return;
    core_trace(core, "node %u is %s", node, mr_node_state_name(state));
    bool lost = state == MR_NODE_DOWN || state == MR_NODE_ABSENT;
    if (state != MR_NODE_UP) core_reserve_node_lost(core, node, state == MR_NODE_ABSENT);
    core_node_state_set(core, node, state);
    core_deadline_dirty(core);
    if (core->pending > 0) core_hold_arm(core, core->now_us + CORE_HOLD_US);
    if (lost)
        core_node_lost(core, node);
    else if (state == MR_NODE_DRAINING)
        core_node_claims_lost(core, node);
    if (state == MR_NODE_ABSENT) core_node_remove(core, node);
}

/* One node, what is due, or all of a domain: a rack that fails is one event, and gangs are mended
 * after it. */
static void nodes_state(struct mr_core *core, const struct mr_event_node_state *event)
{
    uint32_t node = event->id.v, domain = event->domain;
    if (event->state >= MR_NODE_EXPECTED) return;
    if (node == 0 && domain == 0 && event->state == MR_NODE_UP) core_delivery_due(core);
    if (node != 0) {
        if (node <= core->limits.nodes && domain == 0) core_node_state(core, node, event->state);
        return;
    }
    if (domain == 0 || domain > core->limits.domains) return;
    node = core_place(core, core_place_slot(core, CORE_DOMAIN, domain))->node_first;
    while (node != 0) {
        const struct core_node *n = core_node(core, node);
        uint32_t next = n->place_next;
        bool fails = event->state == MR_NODE_DOWN || event->state == MR_NODE_DRAINING;
        bool there =
            n->state != MR_NODE_EXPECTED; /* else it cannot fail, but come or be given up */
        if (there || !fails) core_node_state(core, node, event->state);
        node = next;
    }
}

static void fleet_event_apply(struct mr_core *core, const struct mr_event *event)
{
    switch (event->kind) {
    case MR_EVENT_TENANT_SET:
        (void)core_tenant_set(core, &event->u.tenant); /* refused: changes nothing */
        break;
    case MR_EVENT_PRICE_SET:
        (void)core_price_set(core, &event->u.price);
        break;
    case MR_EVENT_NODE_SET:
        node_set(core, &event->u.node);
        break;
    case MR_EVENT_NODE_STATE:
        nodes_state(core, &event->u.node_state);
        break;
    default:
        MR_ASSERT(false); /* mr_event_get lets no other kind through */
    }
}

static void event_apply(struct mr_core *core, const struct mr_event *event)
{
    switch (event->kind) {
    case MR_EVENT_TICK:
        break;
    case MR_EVENT_SUBMIT:
        core_submit(core, &event->u.submit);
        break;
    case MR_EVENT_CANCEL:
        core_cancel(core, event->u.cancel.v);
        break;
    case MR_EVENT_SCALE:
        core_scale(core, &event->u.scale);
        break;
    case MR_EVENT_LOAD:
        core_load(core, &event->u.load);
        break;
    case MR_EVENT_LEASE_STARTED:
        core_lease_started(core, &event->u.lease);
        break;
    case MR_EVENT_LEASE_READY:
        core_lease_ready(core, &event->u.lease);
        break;
    case MR_EVENT_LEASE_PROGRESS:
        core_lease_progress(core, &event->u.lease);
        break;
    case MR_EVENT_LEASE_EXITED:
        core_lease_exited(core, &event->u.lease);
        break;
    case MR_EVENT_METER:
        core_meter_take(core, &event->u.meter);
        break;
    case MR_EVENT_RESERVE:
        core_reserve(core, &event->u.reserve);
        break;
    default:
        fleet_event_apply(core, event);
    }
}

void mr_core_step(struct mr_core *core, const struct mr_event *event,
                  const struct mr_effect_sink *sink)
{
    MR_ASSERT(core->sink == NULL); /* the sink must not call back */
    MR_INVARIANT(2, core->plan_count == 0 && core->candidate_count == 0);
    core->sink = sink;
    core->steps++;
    uint64_t time_us = MR_MIN(MR_MAX(event->time_us, 1u), TIME_US_MAX);
    core->now_us = MR_MAX(core->now_us, time_us);
    core_cut_due(core);
    core_timers_due(core);
    event_apply(core, event);
    core_repair_run(core);
    core_deadline_run(core);
    core_queue_run(core);
    for (uint32_t i = 0; i < CORE_HOLD_ROUNDS && core->now_us >= core->hold_due_us; i++) {
        core_hold_run(core);
    }
    core_timers_due(core); /* claims that became ready */
    core_queue_run(core);
    core_view_reset(core);
    core->sink = NULL;
    MR_INVARIANT(2, core->plan_count == 0 && core->candidate_count == 0);
#ifdef MR_CHECKS
    const char *text = NULL;
    if (mr_core_check(core, &text) != 0) mr_panic(__FILE__, __LINE__, text);
#endif
}

uint64_t mr_core_wake_us(const struct mr_core *core)
{
    uint64_t wake_us = MR_MIN(core_timer_first_us(core), core->plan_due_us);
    wake_us = MR_MIN(wake_us, core->hold_due_us);
    if (core->cut_first != 0) {
        wake_us = MR_MIN(wake_us, core_lease(core, core->cut_first)->billed_us + CORE_CUT_US);
    }
    return wake_us;
}

uint64_t mr_core_now_us(const struct mr_core *core)
{
    return core->now_us;
}

uint64_t mr_core_steps(const struct mr_core *core)
{
    return core->steps;
}

void mr_core_outstanding(const struct mr_core *core, const struct mr_effect_sink *sink)
{
    for (uint32_t i = 1; i < core->tables[CORE_LEASES].used; i++) {
        const struct core_lease *l = core_lease(core, i);
        struct mr_effect effect;
        if (l->state == MR_LEASE_STARTING) {
            effect = (struct mr_effect){.kind = MR_EFFECT_START};
            core_start_put(core, i, &effect.u.start);
        } else if (l->state == MR_LEASE_STOPPING) {
            uint64_t grace_us = core_workload(core, l->workload)->grace_us;
            effect = (struct mr_effect){.kind = MR_EFFECT_STOP,
                                        .u.stop = {.lease = {l->id},
                                                   .grace_us = l->stop_kill ? 0 : grace_us,
                                                   .checkpoint = l->stop_checkpoint}};
        } else {
            continue;
        }
        sink->emit(sink->context, &effect);
    }
}
