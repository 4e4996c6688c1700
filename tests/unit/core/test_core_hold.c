/* SPDX-License-Identifier: Apache-2.0 */
/* Backfill with reservations: who holds room from when on, who may use it meanwhile. */
#include "core_test.h"

#define MINUTE (60 * SECOND)

static struct cloud c;

static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    node_set(&c, 1, 4);
    node_set(&c, 2, 4);
    forget(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

static struct mr_event limited(struct mr_event event, uint64_t limit_us)
{
    event.u.submit.time_limit_us = limit_us;
    return event;
}

static struct mr_event at_priority(struct mr_event event, uint8_t priority)
{
    event.u.submit.priority = priority;
    return event;
}

/* Submits it and lets it start. */
static uint64_t started(struct mr_event event)
{
    uint64_t id = submit(&c, event);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    return id;
}

static void reserved(uint64_t id, uint64_t at_us)
{
    struct mr_workload_info w = info(&c, id);
    assert_int_equal(w.state, MR_STATE_PENDING);
    assert_int_equal(w.reason.code, MR_REASON_RESERVED);
    assert_int_equal(w.reason.a, at_us);
}

static void the_first_of_the_queue_holds_room_from_when_it_will_be_free(void **state)
{
    (void)state;
    uint64_t begun_us = c.now_us;
    uint64_t a = started(limited(job(4, 1000), 10 * MINUTE));
    uint64_t b = started(limited(job(3, 1000), 20 * MINUTE));
    uint64_t gang = submit(&c, job(5, 1000)); /* one device is free */
    assert_int_equal(info(&c, gang).reason.code, MR_REASON_RESOURCES);
    tick(&c, CORE_HOLD_US);
    reserved(gang, begun_us + 10 * MINUTE);
    assert_int_equal(info(&c, gang).reason.c, 1); /* of two places */
    all_exit(&c, a, 0);                           /* sooner than it might */
    assert_int_equal(state_of(&c, gang), MR_STATE_RUNNING);
    assert_int_equal(info(&c, gang).tasks, 5);
    assert_int_equal(state_of(&c, b), MR_STATE_RUNNING);
}

static void small_work_does_not_pass_for_ever(void **state)
{
    (void)state;
    uint64_t running[8];
    for (uint32_t i = 0; i < 8; i++) {
        running[i] = started(job(1, 1000)); /* no limit, no estimate */
        tick(&c, SECOND);
    }
    uint64_t gang = submit(&c, job(8, 1000));
    tick(&c, SECOND);
    /* One ends each 20 s and another comes: it takes its device as long as nothing is held. */
    uint32_t rounds = 0, next = 0;
    for (; state_of(&c, gang) != MR_STATE_RUNNING && rounds < 20; rounds++) {
        uint64_t come = submit(&c, job(1, 1000));
        tick(&c, 10 * SECOND);
        if (state_of(&c, running[next]) == MR_STATE_RUNNING) all_exit(&c, running[next], 0);
        if (state_of(&c, come) == MR_STATE_RUNNING) {
            all_leases(&c, come, MR_EVENT_LEASE_STARTED);
            running[next] = come;
        }
        next = (next + 1) % 8;
        tick(&c, 10 * SECOND);
    }
    assert_int_equal(state_of(&c, gang), MR_STATE_RUNNING);
    assert_in_range(rounds, 8, 12);
}

static void who_ends_before_may_use_the_room(void **state)
{
    (void)state;
    uint64_t begun_us = c.now_us;
    uint64_t a = started(limited(job(4, 1000), 60 * MINUTE));
    uint64_t gang = submit(&c, limited(job(8, 1000), 60 * MINUTE));
    tick(&c, CORE_HOLD_US);
    reserved(gang, begun_us + 60 * MINUTE);
    /* Its grace counts: 59:30 and 10 s would end after the hour. */
    uint64_t late = submit(&c, limited(job(2, 1000), 59 * MINUTE + 25 * SECOND));
    uint64_t endless = submit(&c, job(1, 1000));
    uint64_t brief = submit(&c, limited(job(3, 1000), 30 * MINUTE));
    assert_int_equal(state_of(&c, late), MR_STATE_PENDING);
    assert_int_equal(info(&c, late).reason.code, MR_REASON_HELD);
    assert_int_equal(info(&c, late).reason.a, gang);
    assert_int_equal(state_of(&c, endless), MR_STATE_PENDING);
    assert_int_equal(state_of(&c, brief), MR_STATE_RUNNING);
    reserved(gang, begun_us + 60 * MINUTE);
    all_leases(&c, brief, MR_EVENT_LEASE_STARTED);
    all_exit(&c, a, 0);
    reserved(gang, begun_us + 60 * MINUTE); /* as far as is known */
    tick(&c, CORE_HOLD_US);
    struct mr_workload_info w = info(&c, gang);
    assert_int_equal(w.reason.code, MR_REASON_RESERVED);
    assert_in_range(w.reason.a, begun_us + 30 * MINUTE, begun_us + 31 * MINUTE);
    all_exit(&c, brief, 0);
    assert_int_equal(state_of(&c, gang), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, late), MR_STATE_PENDING);
}

static void a_higher_class_takes_held_room_and_the_holder_gets_other(void **state)
{
    (void)state;
    uint64_t begun_us = c.now_us;
    uint64_t a = started(limited(job(4, 1000), 10 * MINUTE));
    uint64_t gang = submit(&c, job(8, 1000));
    tick(&c, CORE_HOLD_US);
    reserved(gang, begun_us + 10 * MINUTE);
    uint64_t first = submit(&c, at_priority(limited(job(4, 1000), 15 * MINUTE), 1));
    assert_int_equal(state_of(&c, first), MR_STATE_RUNNING);
    all_leases(&c, first, MR_EVENT_LEASE_STARTED);
    struct mr_workload_info w = info(&c, gang);
    assert_int_equal(w.reason.code, MR_REASON_RESERVED);
    assert_in_range(w.reason.a, begun_us + 15 * MINUTE, begun_us + 16 * MINUTE);
    all_exit(&c, a, 0);
    all_exit(&c, first, 0);
    assert_int_equal(state_of(&c, gang), MR_STATE_RUNNING);
}

static void a_service_comes_before_held_room(void **state)
{
    (void)state;
    (void)started(limited(job(4, 1000), 10 * MINUTE));
    uint64_t gang = submit(&c, job(8, 1000));
    tick(&c, CORE_HOLD_US);
    uint64_t chat = submit(&c, service(1, 2, 1000));
    assert_int_equal(info(&c, chat).tasks, 1);
    assert_int_not_equal(info(&c, gang).reason.code, MR_REASON_RESERVED); /* it never ends */
}

static void several_hold_room_in_the_order_of_the_queue(void **state)
{
    (void)state;
    uint64_t begun_us = c.now_us;
    uint64_t a = started(limited(job(4, 1000), 10 * MINUTE));
    uint64_t b = started(limited(job(4, 1000), 20 * MINUTE));
    uint64_t first = submit(&c, job(3, 1000));
    uint64_t second = submit(&c, job(4, 1000));
    tick(&c, CORE_HOLD_US);
    reserved(first, begun_us + 10 * MINUTE);
    reserved(second, begun_us + 20 * MINUTE);
    all_exit(&c, b, 0); /* the later one's room is there first */
    assert_int_equal(state_of(&c, second), MR_STATE_RUNNING);
    reserved(first, begun_us + 10 * MINUTE);
    all_exit(&c, a, 0);
    assert_int_equal(state_of(&c, first), MR_STATE_RUNNING);
}

static void room_elsewhere_is_taken_at_once(void **state)
{
    (void)state;
    uint64_t begun_us = c.now_us;
    (void)started(limited(job(4, 1000), 10 * MINUTE));
    uint64_t b = started(limited(job(4, 1000), 20 * MINUTE));
    uint64_t w = submit(&c, job(4, 1000));
    tick(&c, CORE_HOLD_US);
    reserved(w, begun_us + 10 * MINUTE);
    all_exit(&c, b, 0);
    assert_int_equal(state_of(&c, w), MR_STATE_RUNNING);
}

static void what_waits_can_be_cancelled_and_scaled_while_it_holds_room(void **state)
{
    (void)state;
    uint64_t a = started(limited(job(4, 1000), 10 * MINUTE));
    uint64_t first = submit(&c, job(6, 1000));
    uint64_t second = submit(&c, job(7, 1000));
    tick(&c, CORE_HOLD_US);
    assert_int_equal(info(&c, first).reason.code, MR_REASON_RESERVED);
    cancel(&c, first);
    assert_int_equal(state_of(&c, first), MR_STATE_CANCELLED);
    tick(&c, CORE_HOLD_US);
    assert_int_equal(info(&c, second).reason.code, MR_REASON_RESERVED);
    cloud_step(&c,
               (struct mr_event){.kind = MR_EVENT_SCALE, .u.scale = {.workload = {second}, 4, 4}});
    assert_int_equal(state_of(&c, second), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, a), MR_STATE_RUNNING);
}

static void a_node_that_goes_takes_holds_with_it_and_they_are_made_elsewhere(void **state)
{
    (void)state;
    uint64_t begun_us = c.now_us;
    (void)started(limited(job(4, 1000), 10 * MINUTE));
    (void)started(limited(job(4, 1000), 20 * MINUTE));
    uint64_t w = submit(&c, job(4, 1000));
    tick(&c, CORE_HOLD_US);
    reserved(w, begun_us + 10 * MINUTE);
    node_state(&c, 1, MR_NODE_DRAINING);
    reserved(w, begun_us + 20 * MINUTE);
    node_state(&c, 2, MR_NODE_DRAINING);
    assert_int_not_equal(info(&c, w).reason.code, MR_REASON_RESERVED);
    node_state(&c, 2, MR_NODE_UP);
    tick(&c, CORE_HOLD_US);
    reserved(w, begun_us + 20 * MINUTE);
}

static void a_job_that_outstays_its_estimate_moves_the_hold(void **state)
{
    (void)state;
    struct mr_event event = job(8, 1000);
    event.u.submit.estimate_us = 5 * MINUTE;
    uint64_t begun_us = c.now_us;
    uint64_t a = started(event);
    uint64_t w = submit(&c, job(8, 1000));
    tick(&c, CORE_HOLD_US);
    reserved(w, begun_us + 5 * MINUTE);
    assert_int_equal(mr_core_wake_us(c.core), begun_us + 5 * MINUTE + 1);
    tick(&c, 5 * MINUTE);
    struct mr_workload_info later = info(&c, w);
    assert_int_equal(later.reason.code, MR_REASON_RESERVED);
    assert_in_range(later.reason.a, begun_us + 10 * MINUTE, begun_us + 12 * MINUTE);
    all_exit(&c, a, 0);
    assert_int_equal(state_of(&c, w), MR_STATE_RUNNING);
}

static void nothing_is_held_for_what_never_fits_or_has_no_quota(void **state)
{
    (void)state;
    (void)started(limited(job(8, 1000), 10 * MINUTE));
    tenant_set(&c, 2, 0, 2000);
    struct mr_event poor = job(4, 1000);
    poor.u.submit.tenant.v = 2;
    uint64_t first = submit(&c, poor);
    uint64_t second = submit(&c, job(1, 16000));
    uint64_t third = submit(&c, job(1, 1000));
    tick(&c, CORE_HOLD_US);
    assert_int_equal(info(&c, first).reason.code, MR_REASON_QUOTA);
    assert_int_equal(info(&c, second).reason.code, MR_REASON_NO_SUCH_NODE);
    assert_int_equal(info(&c, third).reason.code, MR_REASON_RESERVED);
    assert_int_equal(c.core->hold_count, 1);
}

static void a_queue_in_which_nothing_changes_asks_for_no_ticks(void **state)
{
    (void)state;
    (void)submit(&c, service(8, 8, 1000));
    (void)submit(&c, job(4, 1000));
    tick(&c, CORE_HOLD_US);
    tick(&c, SECOND);
    assert_true(mr_core_wake_us(c.core) > c.now_us + 60 * MINUTE);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(the_first_of_the_queue_holds_room_from_when_it_will_be_free),
        CASE(small_work_does_not_pass_for_ever),
        CASE(who_ends_before_may_use_the_room),
        CASE(a_higher_class_takes_held_room_and_the_holder_gets_other),
        CASE(a_service_comes_before_held_room),
        CASE(several_hold_room_in_the_order_of_the_queue),
        CASE(room_elsewhere_is_taken_at_once),
        CASE(what_waits_can_be_cancelled_and_scaled_while_it_holds_room),
        CASE(a_node_that_goes_takes_holds_with_it_and_they_are_made_elsewhere),
        CASE(a_job_that_outstays_its_estimate_moves_the_hold),
        CASE(nothing_is_held_for_what_never_fits_or_has_no_quota),
        CASE(a_queue_in_which_nothing_changes_asks_for_no_ticks),
    };
#undef CASE
    return cmocka_run_group_tests(tests, NULL, NULL);
}
