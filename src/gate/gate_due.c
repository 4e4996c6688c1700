/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines by the ten thousand on one timer.
 *
 * Owns:       the order of the lists; the deadlines are embedded in what they belong to.
 * Invariants: (1) in each list times never fall, because all of a kind have the same delay;
 *             (2) while any deadline is set, the timer runs and is not later than the first.
 * Never:      a scan over all connections.
 * Cost:       O(1) for setting and clearing.
 * Tests:      tests/unit/gate
 */
#include "gate_int.h"

static void due_timer_fired(void *arg);

static void due_unlink(struct gate_dues *dues, struct gate_due *due)
{
    if (due->prev != NULL) due->prev->next = due->next;
    if (due->prev == NULL) dues->first = due->next;
    if (due->next != NULL) due->next->prev = due->prev;
    if (due->next == NULL) dues->last = due->prev;
    due->next = NULL;
    due->prev = NULL;
    due->set = false;
}

static void due_timer_arm(struct mr_gate *gate, uint64_t at_us)
{
    if (gate->timer != NULL && gate->timer_at_us <= at_us) return;
    gate->env->ops->timer_stop(gate->env, gate->timer);
    gate->timer = NULL;
    /* Without memory for a timer deadlines are late until the next one is set: they are a defence
     * against slow peers, nothing else depends on them. */
    if (gate->env->ops->timer_start(gate->env, at_us, due_timer_fired, gate, &gate->timer) != 0) {
        gate->timer = NULL;
    }
    gate->timer_at_us = at_us;
}

void gate_due_set(struct mr_gate *gate, enum gate_due_kind kind, struct gate_due *due)
{
    struct gate_dues *dues = &gate->dues[kind];
    if (due->set) due_unlink(&gate->dues[due->kind], due);
    due->at_us = gate->now_us + dues->delay_us;
    due->kind = kind;
    due->set = true;
    due->prev = dues->last;
    MR_INVARIANT(1, dues->last == NULL || dues->last->at_us <= due->at_us);
    if (dues->last != NULL) dues->last->next = due;
    if (dues->last == NULL) dues->first = due;
    dues->last = due;
    due_timer_arm(gate, due->at_us);
}

void gate_due_clear(struct mr_gate *gate, struct gate_due *due)
{
    if (due->set) due_unlink(&gate->dues[due->kind], due);
}

static void due_timer_fired(void *arg)
{
    static void (*const over[GATE_DUE_COUNT])(struct gate_due *due) = {
        [GATE_DUE_IDLE] = gate_conn_idle_over,
        [GATE_DUE_HEAD] = gate_conn_head_over,
        [GATE_DUE_QUIET] = gate_request_quiet_over,
        [GATE_DUE_WAITING] = gate_chat_waiting_over,
    };
    struct mr_gate *gate = arg;
    uint64_t next_us = UINT64_MAX;
    gate->timer = NULL;
    gate_now(gate);
    for (size_t kind = 0; kind < GATE_DUE_COUNT; kind++) {
        struct gate_dues *dues = &gate->dues[kind];
        while (dues->first != NULL && dues->first->at_us <= gate->now_us) {
            struct gate_due *due = dues->first;
            due_unlink(dues, due);
            over[kind](due);
        }
        if (dues->first != NULL && dues->first->at_us < next_us) next_us = dues->first->at_us;
    }
    if (next_us != UINT64_MAX) due_timer_arm(gate, next_us);
}
