/* SPDX-License-Identifier: Apache-2.0 */
/* The step itself: time, order of effects, what cannot be carried out. */
#include "core_test.h"

static struct cloud c;

static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    node_set(&c, 1, 8);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

static void time_never_goes_back(void **state)
{
    (void)state;
    tick(&c, HOUR);
    uint64_t now_us = mr_core_now_us(c.core);
    c.now_us = 5;
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_TICK});
    assert_true(mr_core_now_us(c.core) == now_us);
    c.now_us = UINT64_MAX;
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_TICK});
    assert_true(mr_core_now_us(c.core) < UINT64_MAX / 2); /* sums of times do not overflow */
}

static void an_answer_comes_before_what_follows_from_it(void **state)
{
    (void)state;
    submit(&c, job(1, 1000));
    assert_int_equal(c.count, 4);
    assert_int_equal(c.effects[0].kind, MR_EFFECT_ACCEPTED);
    assert_int_equal(c.effects[0].u.answer.reason.code, MR_REASON_NONE);
    assert_int_equal(c.effects[1].kind, MR_EFFECT_STATE);
    assert_int_equal(c.effects[1].u.state.state, MR_STATE_PENDING);
    assert_int_equal(c.effects[2].u.state.state, MR_STATE_RUNNING);
    assert_int_equal(c.effects[3].kind, MR_EFFECT_START);
    submit(&c, job(1, 8000));
    assert_int_equal(c.effects[0].u.answer.reason.code, MR_REASON_RESOURCES);
    assert_int_equal(c.effects[0].u.answer.reason.a, 1000);
}

static void events_about_nothing_change_nothing_but_time(void **state)
{
    (void)state;
    for (uint32_t kind = 0; kind < MR_EVENT_COUNT; kind++) {
        struct mr_event event;
        memset(&event, 0xee, sizeof event);
        event.kind = (enum mr_event_kind)kind;
        if (kind == MR_EVENT_SUBMIT || kind == MR_EVENT_PRICE_SET) continue;
        if (kind == MR_EVENT_LEASE_EXITED) event.u.lease.exit = MR_EXIT_CODE;
        cloud_step(&c, event);
        bool answered = kind == MR_EVENT_METER || kind == MR_EVENT_RESERVE;
        assert_int_equal(c.count, answered ? 1 : 0);
    }
    struct mr_totals t;
    mr_core_totals(c.core, &t);
    assert_int_equal(t.nodes_up, 1);
}

static void steps_are_counted(void **state)
{
    (void)state;
    uint64_t steps = mr_core_steps(c.core);
    tick(&c, 1);
    assert_true(mr_core_steps(c.core) == steps + 1);
}

static void nothing_due_asks_for_no_tick(void **state)
{
    (void)state;
    assert_true(mr_core_wake_us(c.core) == UINT64_MAX);
    uint64_t id = submit(&c, job(1, 1000));
    assert_true(mr_core_wake_us(c.core) == UINT64_MAX);
    lease_event(&c, MR_EVENT_LEASE_STARTED, 1);
    assert_true(mr_core_wake_us(c.core) == c.now_us + HOUR);
    all_exit(&c, id, 0);
    assert_true(mr_core_wake_us(c.core) == UINT64_MAX);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(time_never_goes_back),
        CASE(an_answer_comes_before_what_follows_from_it),
        CASE(events_about_nothing_change_nothing_but_time),
        CASE(steps_are_counted),
        CASE(nothing_due_asks_for_no_tick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
