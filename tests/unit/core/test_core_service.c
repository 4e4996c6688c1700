/* SPDX-License-Identifier: Apache-2.0 */
/* Services and pools: up at once, down slowly, replaced with backoff. */
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

static void replicas_follow_the_load_up_at_once_and_down_slowly(void **state)
{
    (void)state;
    uint64_t id = submit(&c, service(1, 6, 1000));
    assert_int_equal(info(&c, id).tasks, 1);
    load(&c, id, 10, 0);
    assert_int_equal(info(&c, id).tasks, 1);
    load(&c, id, 10, 1);
    assert_int_equal(info(&c, id).tasks, 2);
    load(&c, id, 400, 0);
    assert_int_equal(info(&c, id).tasks, 6); /* no more than its most */
    load(&c, id, 0, 0);
    tick(&c, CORE_SCALE_DOWN_US / 2);
    load(&c, id, 25, 0); /* a peak within the window counts */
    load(&c, id, 0, 0);
    tick(&c, CORE_SCALE_DOWN_US / 2 - 1);
    assert_int_equal(info(&c, id).target, 6);
    assert_int_equal(mr_core_wake_us(c.core), c.now_us + 1);
    tick(&c, 1);
    assert_int_equal(info(&c, id).target, 3);
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 3);
}

static void a_service_may_sleep_at_zero_and_wake(void **state)
{
    (void)state;
    uint64_t id = submit(&c, service(0, 2, 1000));
    assert_int_equal(state_of(&c, id), MR_STATE_SUSPENDED);
    load(&c, id, 0, 1);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    load(&c, id, 0, 0);
    tick(&c, CORE_SCALE_DOWN_US);
    exited(&c, 1, MR_EXIT_CODE, 0);
    assert_int_equal(state_of(&c, id), MR_STATE_SUSPENDED);
    cancel(&c, id);
    assert_int_equal(state_of(&c, id), MR_STATE_CANCELLED);
}

static void a_replica_that_dies_is_replaced_later_and_later(void **state)
{
    (void)state;
    uint64_t id = submit(&c, service(1, 1, 1000));
    uint64_t wait_us = SECOND;
    for (uint64_t lease = 1; lease <= 8; lease++) {
        exited(&c, lease, MR_EXIT_CODE, 1);
        assert_int_equal(state_of(&c, id), MR_STATE_PENDING);
        assert_int_equal(info(&c, id).reason.code, MR_REASON_BACKOFF);
        assert_int_equal(info(&c, id).reason.a, c.now_us + wait_us);
        tick(&c, wait_us);
        assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
        wait_us = MR_MIN(2 * wait_us, CORE_BACKOFF_LAST_US);
    }
    lease_event(&c, MR_EVENT_LEASE_STARTED, 9);
    lease_event(&c, MR_EVENT_LEASE_READY, 9);
    assert_int_equal(info(&c, id).ready, 1);
    exited(&c, 9, MR_EXIT_SIGNAL, 9);
    assert_int_equal(info(&c, id).ready, 0);
    assert_int_equal(info(&c, id).reason.a, c.now_us + SECOND); /* it had been ready */
}

static void a_service_that_never_gets_ready_fails_at_its_limit(void **state)
{
    (void)state;
    struct mr_event event = service(2, 2, 1000);
    event.u.submit.restarts_max = 2;
    uint64_t id = submit(&c, event);
    exited(&c, 1, MR_EXIT_START_FAILED, 2);
    tick(&c, MINUTE);
    exited(&c, 3, MR_EXIT_START_FAILED, 2);
    tick(&c, MINUTE);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    exited(&c, 4, MR_EXIT_START_FAILED, 2);
    exited(&c, 2, MR_EXIT_SIGNAL, 15);
    assert_int_equal(state_of(&c, id), MR_STATE_FAILED);
    assert_int_equal(info(&c, id).exit_code, 2);
}

static void lost_replicas_are_replaced_at_once(void **state)
{
    (void)state;
    node_set(&c, 2, 8);
    uint64_t id = submit(&c, service(2, 2, 1000));
    node_state(&c, 1, MR_NODE_DOWN);
    assert_int_equal(info(&c, id).tasks, 2);
    assert_int_equal(lease_of(&c, id, 0).node.v, 2);
    assert_int_equal(lease_of(&c, id, 1).node.v, 2);
}

static void each_replica_is_a_lease_of_its_own(void **state)
{
    (void)state;
    uint64_t id = submit(&c, service(3, 3, 2000));
    uint64_t devices = 0;
    for (uint32_t i = 0; i < 3; i++) {
        struct mr_lease_info l = lease_of(&c, id, i);
        assert_int_equal(l.start.tasks, 1);
        assert_int_equal(l.start.world_size, 1);
        assert_int_equal(l.start.run, i + 1);
        assert_int_equal(__builtin_popcountll(l.start.devices), 2);
        assert_int_equal(devices & l.start.devices, 0);
        devices |= l.start.devices;
    }
}

static void scaling_by_hand_moves_both_ends(void **state)
{
    (void)state;
    struct mr_event event = service(1, 1, 1000);
    event.u.submit.kind = MR_KIND_POOL;
    event.u.submit.load_per_replica = 0;
    uint64_t id = submit(&c, event);
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_SCALE, .u.scale = {{id}, 4, 4}});
    assert_int_equal(info(&c, id).tasks, 4);
    lease_event(&c, MR_EVENT_LEASE_STARTED, 4);
    lease_event(&c, MR_EVENT_LEASE_READY, 4);
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_SCALE, .u.scale = {{id}, 2, 2}});
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 2);
    /* The newest go, but the one that answers stays. */
    assert_int_equal(c.effects[0].u.stop.lease.v, 3);
    assert_int_equal(c.effects[1].u.stop.lease.v, 2);
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_SCALE, .u.scale = {{id}, 3, 2}});
    assert_int_equal(info(&c, id).target, 2); /* upside down: refused */
}

static void a_service_short_of_room_takes_what_there_is(void **state)
{
    (void)state;
    uint64_t id = submit(&c, service(10, 10, 1000));
    assert_int_equal(info(&c, id).tasks, 8);
    assert_int_equal(info(&c, id).target, 10);
    assert_int_equal(info(&c, id).reason.code, MR_REASON_RESOURCES);
    node_set(&c, 2, 1);
    assert_int_equal(info(&c, id).tasks, 9);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(replicas_follow_the_load_up_at_once_and_down_slowly),
        CASE(a_service_may_sleep_at_zero_and_wake),
        CASE(a_replica_that_dies_is_replaced_later_and_later),
        CASE(a_service_that_never_gets_ready_fails_at_its_limit),
        CASE(lost_replicas_are_replaced_at_once),
        CASE(each_replica_is_a_lease_of_its_own),
        CASE(scaling_by_hand_moves_both_ends),
        CASE(a_service_short_of_room_takes_what_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
