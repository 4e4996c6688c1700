/* SPDX-License-Identifier: Apache-2.0 */
/* What gates say of their services' load: summed over the lanes, told to core at most once in
 * CTL_LOAD_US for each service. Not durable: a load that is lost is said again.
 *
 * Owns: ctl->loads and its timer.
 * Cost: a call is linear in the services that have a load.
 */
#include "ctl/ctl_int.h"

static struct ctl_load *load_of(struct mr_ctl *ctl, uint64_t workload)
{
    for (size_t i = 0; i < ctl->load_count; i++) {
        if (ctl->loads[i].workload == workload) return &ctl->loads[i];
    }
    if (ctl->load_count == ctl->load_capacity) {
        size_t capacity = ctl->load_capacity > 0 ? 2 * ctl->load_capacity : 8;
        struct ctl_load *loads = mr_realloc(ctl->loads, capacity * sizeof *loads);
        if (loads == NULL) return NULL;
        ctl->loads = loads;
        ctl->load_capacity = capacity;
    }
    ctl->loads[ctl->load_count] = (struct ctl_load){.workload = workload};
    return &ctl->loads[ctl->load_count++];
}

static void load_timer(void *arg)
{
    struct mr_ctl *ctl = arg;
    ctl->load_timer = NULL;
    ctl_load_flush(ctl);
}

static void load_sum(const struct ctl_load *load, uint32_t *ret_running, uint32_t *ret_waiting)
{
    uint32_t running = 0, waiting = 0;
    for (size_t i = 0; i < MR_COUNT_OF(load->running); i++) {
        running += load->running[i];
        waiting += load->waiting[i];
    }
    *ret_running = running;
    *ret_waiting = waiting;
}

void ctl_load_flush(struct mr_ctl *ctl)
{
    uint64_t now_us = ctl->env->ops->now_us(ctl->env), next_us = UINT64_MAX;
    for (size_t i = 0; i < ctl->load_count; i++) {
        struct ctl_load *load = &ctl->loads[i];
        struct mr_workload_info info;
        uint32_t running, waiting;
        if (!load->dirty) continue;
        if (now_us < load->told_us + CTL_LOAD_US) {
            next_us = MR_MIN(next_us, load->told_us + CTL_LOAD_US);
            continue;
        }
        load->dirty = false;
        load_sum(load, &running, &waiting);
        bool same = running == load->told_running && waiting == load->told_waiting;
        if (same && load->told_us != 0) continue;
        if (mr_core_workload(ctl->core, (struct mr_workload_id){load->workload}, &info) != 0 ||
            mr_state_final(info.state)) {
            ctl->loads[i--] = ctl->loads[--ctl->load_count]; /* it has ended; i wraps to the next */
            continue;
        }
        load->told_running = running;
        load->told_waiting = waiting;
        load->told_us = now_us;
        struct mr_event event = {.kind = MR_EVENT_LOAD,
                                 .u.load = {{load->workload}, running, waiting}};
        ctl_push_event(ctl, &event, 0);
    }
    if (next_us == UINT64_MAX || ctl->load_timer != NULL || ctl->stopping) return;
    if (ctl->env->ops->timer_start(ctl->env, next_us, load_timer, ctl, &ctl->load_timer) != 0) {
        ctl->load_timer = NULL;
    }
}

/* Answered at once: a load that is lost is said again. */
void ctl_load_take(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    struct ctl_load *load = load_of(ctl, call->load.workload.v);
    if (load != NULL && call->reply_lane < MR_COUNT_OF(load->running)) {
        load->running[call->reply_lane] = call->load.running;
        load->waiting[call->reply_lane] = call->load.waiting;
        load->dirty = true;
        ctl_load_flush(ctl);
    }
    ctl_answer(ctl, call, 0);
}
