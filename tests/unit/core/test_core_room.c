/* SPDX-License-Identifier: Apache-2.0 */
/* Making room: who shrinks, who goes, who is spared, and that the room is kept. */
#include "core_test.h"

static struct cloud c;

static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    node_set(&c, 1, 8);
    forget(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

static struct mr_event at_priority(struct mr_event event, uint8_t priority)
{
    event.u.submit.priority = priority;
    return event;
}

static struct mr_event preemptible(struct mr_event event)
{
    event.u.submit.preemptible = true;
    return event;
}

static struct mr_event elastic(uint32_t min, uint32_t max, uint32_t accel_milli)
{
    struct mr_event event = job(min, accel_milli);
    event.u.submit.tasks_max = max;
    return event;
}

static void training_shrinks_for_a_service_and_grows_back(void **state)
{
    (void)state;
    uint64_t training = submit(&c, elastic(2, 8, 1000));
    all_leases(&c, training, MR_EVENT_LEASE_STARTED);
    assert_int_equal(info(&c, training).tasks, 8);
    uint64_t chat = submit(&c, service(1, 4, 1000));
    told(&c, "workload 1 is accepted\n"
             "workload 1: pending to running\n"
             "lease 1 of workload 1 starts on node 1: 8 tasks, devices ff\n"
             "workload 2 is accepted\n"
             "workload 2 makes room\n"
             "workload 1 shrinks for 2\n"
             "workload 1: running to completing\n");
    assert_int_equal(info(&c, chat).reason.code, MR_REASON_MAKING_ROOM);
    assert_int_equal(info(&c, chat).reason.a, 1);
    exited(&c, 1, MR_EXIT_CODE, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(info(&c, training).tasks, 7);
    assert_int_equal(info(&c, chat).tasks, 1);
    assert_int_equal(info(&c, training).run, 2);
    /* More load: more replicas, a smaller gang. */
    forget(&c);
    load(&c, chat, 20, 10);
    assert_int_equal(info(&c, chat).target, 3);
    all_exit(&c, training, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(info(&c, chat).tasks, 2);
    all_exit(&c, training, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(info(&c, chat).tasks, 3);
    assert_int_equal(info(&c, training).tasks, 5);
    /* Less load: fewer replicas after a while, and the gang grows into the room. */
    load(&c, chat, 0, 1);
    tick(&c, CORE_SCALE_DOWN_US);
    assert_int_equal(info(&c, chat).target, 1);
    uint64_t stopped[2] = {0, 0};
    uint32_t n = 0;
    for (uint32_t i = 0; i < c.count; i++) {
        if (c.effects[i].kind == MR_EFFECT_STOP && n < 2) {
            stopped[n++] = c.effects[i].u.stop.lease.v;
        }
    }
    assert_int_equal(n, 2);
    exited(&c, stopped[0], MR_EXIT_CODE, 0);
    exited(&c, stopped[1], MR_EXIT_CODE, 0);
    tick(&c, CORE_SETTLE_US);
    assert_int_equal(state_of(&c, training), MR_STATE_COMPLETING);
    all_exit(&c, training, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(info(&c, training).tasks, 7);
    assert_int_equal(state_of(&c, training), MR_STATE_RUNNING);
}

static void a_gang_never_shrinks_below_its_least_size(void **state)
{
    (void)state;
    uint64_t training = submit(&c, elastic(6, 8, 1000));
    uint64_t big = submit(&c, at_priority(job(1, 4000), 1));
    assert_int_equal(state_of(&c, training), MR_STATE_RUNNING);
    assert_int_equal(info(&c, training).tasks, 8);
    assert_int_equal(info(&c, big).reason.code, MR_REASON_RESOURCES);
    uint64_t small = submit(&c, at_priority(job(1, 2000), 1));
    assert_int_equal(info(&c, small).reason.code, MR_REASON_MAKING_ROOM);
    all_exit(&c, training, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(info(&c, training).tasks, 6);
    assert_int_equal(state_of(&c, small), MR_STATE_RUNNING);
}

static void the_cheapest_victim_goes_and_the_others_are_spared(void **state)
{
    (void)state;
    uint64_t ids[4];
    for (uint32_t i = 0; i < 4; i++) {
        ids[i] = submit(&c, preemptible(job(1, 2000)));
        all_leases(&c, ids[i], MR_EVENT_LEASE_STARTED);
        c.now_us += MINUTE;
    }
    /* The third saved its work just now: it loses the least. */
    uint64_t third = lease_of(&c, ids[2], 0).id.v;
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_LEASE_PROGRESS,
                                     .u.lease = {.lease = {third}, .checkpoint_step = 5}});
    forget(&c);
    uint64_t high = submit(&c, at_priority(job(1, 2000), 2));
    told(&c, "workload 5 is accepted\n"
             "workload 5 makes room\n"
             "workload 3 is preempted for 5\n"
             "workload 3: running to completing\n");
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 1);
    exited(&c, third, MR_EXIT_SIGNAL, 15);
    assert_int_equal(state_of(&c, high), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, ids[2]), MR_STATE_PENDING);
    assert_int_equal(state_of(&c, ids[0]), MR_STATE_RUNNING);
}

static void nobody_is_stopped_when_that_would_not_help(void **state)
{
    (void)state;
    uint64_t low = submit(&c, preemptible(job(1, 4000)));
    submit(&c, job(1, 4000)); /* stays */
    uint64_t high = submit(&c, at_priority(job(1, 8000), 0));
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 0);
    assert_int_equal(state_of(&c, low), MR_STATE_RUNNING);
    assert_int_equal(info(&c, high).reason.code, MR_REASON_RESOURCES);
}

static void a_try_in_vain_wakes_nobody(void **state)
{
    (void)state;
    uint64_t low = submit(&c, at_priority(elastic(7, 8, 1000), 6));
    uint64_t high = submit(&c, at_priority(job(2, 1000), 2)); /* it shrinks by one, not by two */
    assert_int_equal(state_of(&c, low), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, high), MR_STATE_PENDING);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(mr_core_wake_us(c.core) > c.now_us);
        tick(&c, mr_core_wake_us(c.core) - c.now_us);
    }
}

static void equals_and_the_unwilling_are_not_preempted(void **state)
{
    (void)state;
    uint64_t equal = submit(&c, preemptible(job(1, 4000)));
    uint64_t unwilling = submit(&c, at_priority(job(1, 4000), 7));
    uint64_t waits = submit(&c, job(1, 4000));
    assert_int_equal(state_of(&c, equal), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, unwilling), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, waits), MR_STATE_PENDING);
}

static void room_that_was_made_is_not_stolen(void **state)
{
    (void)state;
    uint64_t low[2];
    for (uint32_t i = 0; i < 2; i++) {
        low[i] = submit(&c, preemptible(job(1, 4000)));
    }
    uint64_t high = submit(&c, at_priority(job(1, 8000), 1));
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 2);
    uint64_t thief = submit(&c, at_priority(job(1, 1000), 0));
    exited(&c, 1, MR_EXIT_SIGNAL, 15);
    assert_int_equal(state_of(&c, thief), MR_STATE_PENDING);
    assert_int_equal(state_of(&c, high), MR_STATE_PENDING);
    exited(&c, 2, MR_EXIT_SIGNAL, 15);
    assert_int_equal(state_of(&c, high), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, thief), MR_STATE_PENDING);
    assert_int_equal(state_of(&c, low[0]), MR_STATE_PENDING);
}

static void a_cancelled_claimant_leaves_its_room_to_others(void **state)
{
    (void)state;
    uint64_t low = submit(&c, preemptible(job(1, 8000)));
    uint64_t high = submit(&c, at_priority(job(1, 8000), 1));
    cancel(&c, high);
    assert_int_equal(state_of(&c, high), MR_STATE_CANCELLED);
    exited(&c, 1, MR_EXIT_SIGNAL, 15);
    assert_int_equal(state_of(&c, low), MR_STATE_RUNNING);
}

static void a_claim_dies_with_its_node(void **state)
{
    (void)state;
    node_set(&c, 2, 8);
    submit(&c, preemptible(job(1, 8000)));
    submit(&c, preemptible(job(1, 8000)));
    uint64_t high = submit(&c, at_priority(job(2, 8000), 1));
    assert_int_equal(info(&c, high).reason.code, MR_REASON_MAKING_ROOM);
    node_state(&c, 2, MR_NODE_DOWN);
    assert_int_equal(state_of(&c, high), MR_STATE_PENDING);
    assert_int_equal(info(&c, high).reason.code, MR_REASON_RESOURCES);
    node_state(&c, 2, MR_NODE_UP);
    cancel(&c, high);
    assert_int_equal(state_of(&c, high), MR_STATE_CANCELLED);
}

static void work_that_ends_anyway_is_waited_for_first(void **state)
{
    (void)state;
    uint64_t ends = submit(&c, job(1, 4000));
    uint64_t low = submit(&c, preemptible(job(1, 4000)));
    cancel(&c, ends);
    uint64_t high = submit(&c, at_priority(job(1, 4000), 1));
    assert_int_equal(state_of(&c, low), MR_STATE_RUNNING);
    assert_int_equal(info(&c, high).reason.code, MR_REASON_MAKING_ROOM);
    all_exit(&c, ends, 0);
    assert_int_equal(state_of(&c, high), MR_STATE_RUNNING);
}

static void a_preemptible_pool_gives_single_replicas(void **state)
{
    (void)state;
    struct mr_event event = preemptible(service(8, 8, 1000));
    event.u.submit.kind = MR_KIND_POOL;
    event.u.submit.priority = 6;
    uint64_t pool = submit(&c, event);
    assert_int_equal(info(&c, pool).tasks, 8);
    uint64_t high = submit(&c, job(1, 2000));
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 2);
    assert_int_equal(info(&c, pool).tasks, 6);
    for (uint32_t i = 0; i < c.count; i++) {
        if (c.effects[i].kind != MR_EFFECT_STOP) continue;
        uint64_t lease = c.effects[i].u.stop.lease.v;
        struct cloud before = c;
        exited(&c, lease, MR_EXIT_SIGNAL, 15);
        memcpy(c.effects, before.effects, sizeof c.effects);
        c.count = before.count;
    }
    assert_int_equal(state_of(&c, high), MR_STATE_RUNNING);
    assert_int_equal(info(&c, pool).tasks, 6);
}

static void a_gang_does_not_grow_over_those_who_wait(void **state)
{
    (void)state;
    uint64_t other = submit(&c, job(1, 6000));
    uint64_t training = submit(&c, elastic(1, 8, 1000));
    assert_int_equal(info(&c, training).tasks, 2);
    uint64_t waits = submit(&c, job(1, 7000));
    all_exit(&c, other, 0);
    tick(&c, CORE_SETTLE_US);
    assert_int_equal(info(&c, training).tasks, 2);
    assert_int_equal(state_of(&c, training), MR_STATE_RUNNING);
    cancel(&c, waits);
    submit(&c, job(1, 9000)); /* can never start: nobody holds back for it */
    tick(&c, CORE_SETTLE_US);
    assert_int_equal(state_of(&c, training), MR_STATE_COMPLETING);
    all_exit(&c, training, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(info(&c, training).tasks, 8);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(training_shrinks_for_a_service_and_grows_back),
        CASE(a_gang_never_shrinks_below_its_least_size),
        CASE(the_cheapest_victim_goes_and_the_others_are_spared),
        CASE(nobody_is_stopped_when_that_would_not_help),
        CASE(a_try_in_vain_wakes_nobody),
        CASE(equals_and_the_unwilling_are_not_preempted),
        CASE(room_that_was_made_is_not_stolen),
        CASE(a_cancelled_claimant_leaves_its_room_to_others),
        CASE(a_claim_dies_with_its_node),
        CASE(work_that_ends_anyway_is_waited_for_first),
        CASE(a_preemptible_pool_gives_single_replicas),
        CASE(a_gang_does_not_grow_over_those_who_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
