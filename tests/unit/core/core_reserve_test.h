/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of reservations and of supply to come share. */
#ifndef CORE_RESERVE_TEST_H
#define CORE_RESERVE_TEST_H

#include "core_test.h"

/* So many tasks with so much of devices each, from `later_us` on. */
static inline struct mr_event booking(uint32_t tasks, uint32_t accel_milli, uint64_t later_us,
                                      uint64_t length_us)
{
    struct mr_event like = job(1, accel_milli);
    return (struct mr_event){.kind = MR_EVENT_RESERVE,
                             .u.reserve = {.tenant = {1},
                                           .shape = like.u.submit.shape,
                                           .tasks = tasks,
                                           .begin_us = later_us,
                                           .end_us = later_us + length_us}};
}

static inline struct mr_event maintenance(uint32_t node, uint64_t later_us, uint64_t length_us)
{
    return (struct mr_event){.kind = MR_EVENT_RESERVE,
                             .u.reserve = {.tenant = {1},
                                           .maintenance = true,
                                           .node = {node},
                                           .begin_us = later_us,
                                           .end_us = later_us + length_us}};
}

/* Its times are from now on. Steps it and returns its id, 0 when it was refused. */
static inline uint64_t reserve(struct cloud *c, struct mr_event event)
{
    event.u.reserve.tag = ++c->tag;
    event.u.reserve.begin_us += c->now_us;
    event.u.reserve.end_us += c->now_us;
    cloud_step(c, event);
    assert_true(c->count > 0);
    assert_int_equal(c->effects[0].u.answer.tag, c->tag);
    uint64_t id = c->effects[0].u.answer.workload.v;
    assert_int_equal(c->effects[0].kind, id != 0 ? MR_EFFECT_ACCEPTED : MR_EFFECT_REJECTED);
    struct mr_effect first = c->effects[0];
    if (id != 0) tick(c, 0); /* one that begins now has begun */
    c->effects[0] = first;
    return id;
}

static inline struct mr_event of(struct mr_event event, uint64_t reservation)
{
    event.u.submit.reservation.v = reservation;
    return event;
}

static inline void assert_state(struct cloud *c, uint64_t workload, enum mr_state state)
{
    assert_string_equal(mr_state_name(state_of(c, workload)), mr_state_name(state));
}

static inline void assert_reason(struct cloud *c, uint64_t workload, enum mr_reason_code code)
{
    assert_string_equal(mr_reason_name(info(c, workload).reason.code), mr_reason_name(code));
}

static inline uint32_t first_node(struct cloud *c, uint64_t reservation)
{
    struct mr_window_info window;
    uint32_t cursor = 0;
    assert_int_equal(mr_core_window_next(c->core, (struct mr_workload_id){reservation},
                                         (struct mr_node_id){0}, &cursor, &window),
                     0);
    return window.node.v;
}

#endif
