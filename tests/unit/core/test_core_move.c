/* SPDX-License-Identifier: Apache-2.0 */
/* Moving: who goes on elsewhere so that others can start, for whom, and when it is not worth it. */
#include "core/core_quota.h"
#include "core_test.h"

static struct cloud c;

/* Three domains of two nodes with four devices each. */
static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    for (uint32_t i = 1; i <= 6; i++) {
        node_set_in(&c, i, 4, (i + 1) / 2, 1, 1);
    }
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

static struct mr_event movable(uint32_t tasks, uint32_t accel_milli)
{
    struct mr_event event = job(tasks, accel_milli);
    event.u.submit.preemptible = true;
    return event;
}

/* So many tasks of four devices in one domain. */
static struct mr_event domain_gang(uint32_t tasks)
{
    struct mr_event event = job(tasks, 4000);
    event.u.submit.topology = MR_TOPOLOGY_DOMAIN;
    return event;
}

/* Starts it on that one of so many nodes, whatever else is free. */
static uint64_t put_among(uint32_t nodes, uint32_t node, struct mr_event event)
{
    for (uint32_t i = 1; i <= nodes; i++) {
        if (i != node) node_state(&c, i, MR_NODE_DRAINING);
    }
    uint64_t id = submit(&c, event);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    for (uint32_t i = 1; i <= nodes; i++) {
        if (i != node) node_state(&c, i, MR_NODE_UP);
    }
    return id;
}

static uint64_t put(uint32_t node, struct mr_event event)
{
    return put_among(6, node, event);
}

static void saved(uint64_t id)
{
    struct mr_lease_info l = lease_of(&c, id, 0);
    cloud_step(&c,
               (struct mr_event){.kind = MR_EVENT_LEASE_PROGRESS,
                                 .u.lease = {.lease = l.id, .checkpoint_step = l.start.run + 5}});
}

static void settle(void)
{
    tick(&c, CORE_MOVE_SETTLE_US);
}

/* It is asked to stop, and its next run is claimed. */
static void moves(uint64_t id)
{
    assert_int_equal(state_of(&c, id), MR_STATE_COMPLETING);
    const struct core_workload *w = core_workload(c.core, core_workload_find(c.core, id));
    assert_int_equal(w->outcome, CORE_OUTCOME_CLAIM);
    assert_true(w->claimed > 0);
    assert_true(w->moves > 0);
}

static void stays(uint64_t id)
{
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
}

static uint32_t domain_of(uint64_t id, uint32_t n)
{
    return (lease_of(&c, id, n).node.v + 1) / 2;
}

static void a_domain_is_freed_by_moving_one_small_gang(void **state)
{
    (void)state;
    uint64_t first = put(1, movable(1, 1000));
    put(3, job(1, 1000));
    put(5, job(1, 1000)); /* these two may not be asked to go */
    settle();
    forget(&c);
    uint64_t gang = submit(&c, domain_gang(2));
    assert_int_equal(info(&c, gang).reason.code, MR_REASON_TOPOLOGY);
    forget(&c);
    tick(&c, CORE_HOLD_US);
    told(&c, "workload 4 holds room for 2 tasks from 1260000001 us on\n"
             "workload 4 makes room\n"
             "workload 1 moves for 4\n"
             "workload 1: running to completing\n");
    assert_int_equal(info(&c, gang).reason.code, MR_REASON_MAKING_ROOM);
    assert_int_equal(info(&c, gang).reason.a, 1);
    exited(&c, 1, MR_EXIT_CODE, MR_EXIT_CODE_REQUEUE);
    told(&c, "lease 1 of workload 1 ended: code 75\n"
             "workload 1: completing to pending\n"
             "workload 1: pending to running\n"
             "lease 8 of workload 1 starts on node 3: 1 tasks, devices 2\n"
             "workload 4: pending to running\n"
             "lease 6 of workload 4 starts on node 1: 1 tasks, devices f\n"
             "lease 7 of workload 4 starts on node 2: 1 tasks, devices f\n");
    stays(first);
    stays(gang);
}

static void the_domain_is_chosen_that_costs_least(void **state)
{
    (void)state;
    uint64_t first = put(1, movable(1, 2000));
    uint64_t second = put(3, movable(1, 2000));
    uint64_t third = put(5, movable(1, 3000)); /* the least is free there */
    settle();
    saved(second);
    tick(&c, SECOND);
    uint64_t gang = submit(&c, domain_gang(2));
    tick(&c, CORE_HOLD_US);
    moves(second);
    stays(first);
    stays(third);
    all_exit(&c, second, MR_EXIT_CODE_REQUEUE);
    stays(second);
    stays(gang);
    assert_int_equal(domain_of(gang, 0), 2);
}

static void nothing_moves_when_that_costs_more_than_waiting(void **state)
{
    (void)state;
    struct mr_event limited = movable(1, 1000);
    limited.u.submit.time_limit_us = 2 * HOUR;
    uint64_t first = put(1, limited);
    put(3, job(1, 1000));
    put(5, job(1, 1000));
    tick(&c,
         2 * HOUR - 10 * MINUTE); /* two hours of work would be lost, for ten minutes of eight */
    uint64_t gang = submit(&c, domain_gang(2));
    tick(&c, CORE_HOLD_US);
    stays(first);
    assert_int_equal(info(&c, gang).reason.code, MR_REASON_RESERVED);
    /* It saves its work: then it is worth it, and that is seen within a minute. */
    saved(first);
    tick(&c, CORE_MOVE_BEAT_US);
    moves(first);
    all_exit(&c, first, MR_EXIT_CODE_REQUEUE);
    stays(gang);
}

static void nothing_moves_without_room_elsewhere(void **state)
{
    (void)state;
    uint64_t first = put(1, movable(1, 1000));
    uint64_t others[5];
    for (uint32_t i = 0; i < 4; i++) {
        others[i] = put(3 + i, job(1, 3000)); /* eight are free, four in no domain but the first */
    }
    others[4] = put(2, movable(1, 2000));
    settle();
    uint64_t gang = submit(&c, domain_gang(2));
    tick(&c, CORE_HOLD_US);
    stays(first);
    stays(others[4]); /* the first would fit elsewhere, this one not */
    assert_int_equal(info(&c, gang).reason.code, MR_REASON_RESERVED);
}

static void a_gang_moves_whole_and_to_several_nodes(void **state)
{
    (void)state;
    uint64_t first = put(1, movable(3, 1000));
    for (uint32_t i = 0; i < 3; i++) {
        put(3 + i, job(1, 3000));
    }
    settle();
    uint64_t gang = submit(&c, domain_gang(2));
    node_state(&c, 6, MR_NODE_DRAINING);
    tick(&c, CORE_HOLD_US);
    moves(first);
    all_exit(&c, first, MR_EXIT_CODE_REQUEUE);
    stays(first);
    stays(gang);
    assert_int_equal(info(&c, first).tasks, 3);
    assert_int_equal(info(&c, first).lease_count, 3);
}

static void equals_move_and_a_higher_class_does_not(void **state)
{
    (void)state;
    uint64_t first = put(1, at_priority(movable(1, 1000), 2));
    uint64_t second = put(3, at_priority(movable(1, 2000), 3));
    put(5, job(1, 1000));
    settle();
    uint64_t gang = submit(&c, at_priority(domain_gang(2), 3));
    tick(&c, CORE_HOLD_US);
    stays(first); /* the cheaper one */
    moves(second);
    all_exit(&c, second, MR_EXIT_CODE_REQUEUE);
    stays(gang);
}

static void who_may_not_be_preempted_is_never_moved(void **state)
{
    (void)state;
    uint64_t first = put(1, at_priority(job(1, 1000), 7));
    put(3, job(1, 1000));
    put(5, job(1, 1000));
    tick(&c, 24 * HOUR);
    uint64_t gang = submit(&c, at_priority(domain_gang(2), 0));
    for (uint32_t i = 0; i < 10; i++) {
        tick(&c, HOUR);
        assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 0);
    }
    stays(first);
    assert_int_equal(state_of(&c, gang), MR_STATE_PENDING);
}

static void a_run_is_left_alone_longer_after_each_move(void **state)
{
    (void)state;
    uint64_t first = put(1, movable(1, 1000));
    uint64_t second = put(3, job(1, 1000));
    put(5, job(1, 1000));
    tick(&c, 5 * MINUTE);
    uint64_t gang = submit(&c, domain_gang(2));
    tick(&c, CORE_HOLD_US);
    stays(first); /* it has just begun */
    tick(&c, 5 * MINUTE);
    moves(first);
    all_exit(&c, first, MR_EXIT_CODE_REQUEUE);
    stays(gang);
    assert_int_equal(domain_of(first, 0), 2);
    /* Now it stands in the way of another one, in the domain that others left. */
    all_leases(&c, first, MR_EVENT_LEASE_STARTED);
    all_exit(&c, second, 0);
    put(6, job(1, 4000));
    uint64_t next = submit(&c, domain_gang(2));
    tick(&c, CORE_HOLD_US);
    tick(&c, CORE_MOVE_SETTLE_US);
    stays(first);
    tick(&c, CORE_MOVE_SETTLE_US);
    moves(first);
    all_exit(&c, first, MR_EXIT_CODE_REQUEUE);
    stays(next);
}

/* Three small ones, of which the first moves for the gang. */
static uint64_t moving(uint64_t *ret_gang)
{
    uint64_t first = put(1, movable(1, 1000));
    put(3, job(1, 1000));
    put(5, job(1, 1000));
    settle();
    *ret_gang = submit(&c, domain_gang(2));
    tick(&c, CORE_HOLD_US);
    moves(first);
    return first;
}

static void where_it_moves_to_may_die_meanwhile(void **state)
{
    (void)state;
    uint64_t gang, first = moving(&gang);
    const struct core_workload *w = core_workload(c.core, core_workload_find(c.core, first));
    uint32_t to = core_lease(c.core, w->lease_last)->node;
    node_state(&c, to, MR_NODE_DOWN);
    assert_int_equal(w->outcome, CORE_OUTCOME_REQUEUE);
    all_exit(&c, first, MR_EXIT_CODE_REQUEUE);
    stays(gang);
    stays(first); /* there is room yet elsewhere */
}

static void the_node_of_the_claimant_may_die_meanwhile(void **state)
{
    (void)state;
    uint64_t gang, first = moving(&gang);
    node_state(&c, 1, MR_NODE_DOWN); /* with the old run of the first */
    stays(first);
    assert_int_equal(domain_of(first, 0), 2);
    assert_int_equal(state_of(&c, gang), MR_STATE_PENDING);
    node_state(&c, 1, MR_NODE_UP);
    stays(gang);
}

static void a_claimant_that_is_cancelled_leaves_the_move_to_its_end(void **state)
{
    (void)state;
    uint64_t gang, first = moving(&gang);
    cancel(&c, gang);
    assert_int_equal(state_of(&c, gang), MR_STATE_CANCELLED);
    all_exit(&c, first, MR_EXIT_CODE_REQUEUE);
    stays(first);
    assert_int_equal(domain_of(first, 0), 2);
}

static void who_ends_well_while_it_moves_has_ended(void **state)
{
    (void)state;
    uint64_t gang, first = moving(&gang);
    all_exit(&c, first, 0);
    assert_int_equal(state_of(&c, first), MR_STATE_COMPLETED);
    stays(gang);
}

static void a_preemption_becomes_a_move_when_there_is_room(void **state)
{
    (void)state;
    uint64_t low = put(1, movable(2, 2000));
    for (uint32_t i = 2; i <= 6; i++) {
        put(i, job(1, i <= 3 ? 2000 : 4000));
    }
    forget(&c);
    uint64_t high = submit(&c, at_priority(job(1, 4000), 1));
    told(&c, "workload 7 is accepted\n"
             "workload 7 makes room\n"
             "workload 1 moves for 7\n"
             "workload 1: running to completing\n");
    all_exit(&c, low, MR_EXIT_CODE_REQUEUE);
    stays(high);
    stays(low);
    assert_int_equal(lease_of(&c, low, 0).node.v, 2);
    assert_int_equal(lease_of(&c, low, 1).node.v, 3);
}

static void who_finds_no_room_elsewhere_is_preempted(void **state)
{
    (void)state;
    uint64_t low = put(1, movable(2, 2000));
    for (uint32_t i = 2; i <= 6; i++) {
        put(i, job(1, i == 2 ? 2000 : 3000)); /* enough in sum, not for two of two */
    }
    forget(&c);
    uint64_t high = submit(&c, at_priority(job(1, 4000), 1));
    told(&c, "workload 7 is accepted\n"
             "workload 7 makes room\n"
             "workload 1 is preempted for 7\n"
             "workload 1: running to completing\n");
    all_exit(&c, low, MR_EXIT_CODE_REQUEUE);
    stays(high);
    assert_int_equal(state_of(&c, low), MR_STATE_PENDING);
}

static void one_moves_rather_than_that_two_queue(void **state)
{
    (void)state;
    uint64_t old = put(3, movable(1, 2000));
    tick(&c, 10 * MINUTE);
    uint64_t first = put(1, movable(1, 3000)); /* each loses less than the old one, not both */
    uint64_t second = put(2, movable(1, 3000));
    put(5, job(1, 2000));
    put(6, job(1, 2000));
    settle();
    forget(&c);
    uint64_t high = submit(&c, at_priority(domain_gang(2), 1));
    told(&c, "workload 6 is accepted\n"
             "workload 6 makes room\n"
             "workload 1 moves for 6\n"
             "workload 1: running to completing\n");
    all_exit(&c, old, MR_EXIT_CODE_REQUEUE);
    stays(old);
    stays(high);
    stays(first);
    stays(second);
}

static void a_higher_class_moves_a_lower_one_at_once(void **state)
{
    (void)state;
    uint64_t low[6];
    for (uint32_t i = 0; i < 6; i++) {
        low[i] = put(1 + i, movable(1, 1000));
    }
    forget(&c);
    uint64_t high = submit(&c, at_priority(domain_gang(2), 1));
    told(&c, "workload 7 is accepted\n"
             "workload 7 makes room\n"
             "workload 6 moves for 7\n"
             "workload 6: running to completing\n"
             "workload 5 moves for 7\n"
             "workload 5: running to completing\n");
    all_exit(&c, low[4], MR_EXIT_CODE_REQUEUE);
    all_exit(&c, low[5], MR_EXIT_CODE_REQUEUE);
    stays(high);
    for (uint32_t i = 0; i < 6; i++) {
        stays(low[i]);
    }
}

static void an_elastic_gang_moves_rather_than_shrinks(void **state)
{
    (void)state;
    struct mr_event event = job(1, 1000);
    event.u.submit.tasks_max = 4;
    event.u.submit.priority = 6;
    uint64_t elastic = put(1, event);
    for (uint32_t i = 2; i <= 6; i++) {
        put(i, job(1, 2000));
    }
    uint64_t high = submit(&c, job(1, 4000));
    moves(elastic);
    all_exit(&c, elastic, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(info(&c, elastic).tasks, 4);
    stays(high);
}

static void a_move_needs_no_quota_beyond_its_own(void **state)
{
    (void)state;
    tenant_set(&c, 2, 0, 9000);
    struct mr_event small = movable(1, 1000), large = domain_gang(2);
    small.u.submit.tenant.v = 2;
    large.u.submit.tenant.v = 2;
    uint64_t first = put(1, small);
    put(3, job(1, 1000));
    put(5, job(1, 1000));
    settle();
    uint64_t gang = submit(&c, large);
    tick(&c, CORE_HOLD_US);
    moves(first);
    const struct core_amount *a = &core_tenant(c.core, 2)->amounts[CORE_ACCEL];
    assert_int_equal(a->held, 10000); /* both runs of the first, until one has ended */
    all_exit(&c, first, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(a->held, 9000);
    stays(first);
    stays(gang);
}

/* A day on two whole nodes from now on. */
static uint64_t booked(void)
{
    struct mr_event event = {.kind = MR_EVENT_RESERVE};
    event.u.reserve = (struct mr_event_reserve){.tag = 77,
                                                .tenant = {1},
                                                .shape = job(1, 4000).u.submit.shape,
                                                .tasks = 2,
                                                .end_us = c.now_us + 24 * HOUR};
    cloud_step(&c, event);
    for (uint32_t i = 0; i < c.count; i++) {
        if (c.effects[i].kind == MR_EFFECT_ACCEPTED) return c.effects[i].u.answer.workload.v;
    }
    fail_msg("not booked");
    return 0;
}

static void members_of_reservations_stay(void **state)
{
    (void)state;
    for (uint32_t i = 3; i <= 6; i++) {
        put(i, job(1, 1000));
    }
    uint64_t reservation = booked();
    struct mr_event small = movable(1, 1000), large = job(1, 4000);
    small.u.submit.reservation.v = reservation;
    large.u.submit.reservation.v = reservation;
    uint64_t member = submit(&c, small);
    all_leases(&c, member, MR_EVENT_LEASE_STARTED);
    uint64_t second = submit(&c, small);
    all_leases(&c, second, MR_EVENT_LEASE_STARTED);
    uint64_t third = submit(&c, large); /* beside them */
    stays(third);
    settle();
    uint64_t fourth = submit(&c, large);
    uint64_t stranger = submit(&c, domain_gang(2));
    for (uint32_t i = 0; i < 5; i++) {
        tick(&c, HOUR);
        stays(member);
        stays(second);
    }
    assert_int_equal(state_of(&c, fourth), MR_STATE_PENDING);
    assert_int_equal(state_of(&c, stranger), MR_STATE_PENDING);
}

static void a_node_is_freed_for_a_task_of_all_its_devices(void **state)
{
    (void)state;
    uint64_t small[6];
    for (uint32_t i = 0; i < 6; i++) {
        small[i] = put(1 + i, movable(1, 1000 + 1000 * (i % 2)));
    }
    settle();
    uint64_t large = submit(&c, job(1, 4000));
    assert_int_equal(info(&c, large).reason.code, MR_REASON_FRAGMENTED);
    tick(&c, CORE_HOLD_US);
    uint32_t moved = 0;
    for (uint32_t i = 0; i < 6; i++) {
        if (state_of(&c, small[i]) != MR_STATE_COMPLETING) continue;
        assert_int_equal(i % 2, 0);
        all_exit(&c, small[i], MR_EXIT_CODE_REQUEUE);
        stays(small[i]);
        moved++;
    }
    assert_int_equal(moved, 1);
    stays(large);
}

static void several_nodes_are_freed_for_a_gang_that_lies_anywhere(void **state)
{
    (void)state;
    uint64_t small[6];
    for (uint32_t i = 0; i < 6; i++) {
        small[i] = put(1 + i, movable(1, 1000));
    }
    settle();
    uint64_t gang = submit(&c, job(3, 4000));
    tick(&c, CORE_HOLD_US);
    uint32_t moved = 0;
    for (uint32_t i = 0; i < 6; i++) {
        if (state_of(&c, small[i]) != MR_STATE_COMPLETING) continue;
        moves(small[i]);
        all_exit(&c, small[i], MR_EXIT_CODE_REQUEUE);
        moved++;
    }
    assert_int_equal(moved, 3);
    stays(gang);
}

static void more_than_can_be_asked_at_once_stay(void **state)
{
    (void)state;
    struct mr_core_limits many = tiny_limits;
    many.workloads = 256;
    many.leases = 256;
    cloud_done(&c);
    cloud_init(&c, &many);
    tenant_set(&c, 1, 0, UINT64_MAX);
    for (uint32_t i = 1; i <= 10; i++)
        node_set(&c, i, 32);
    uint64_t small[5][26], gang;
    for (uint32_t i = 0; i < 5; i++) { /* five that could be freed, and five that cannot */
        for (uint32_t n = 0; n < 26; n++)
            small[i][n] = put_among(10, 1 + i, movable(1, 1000));
        (void)put_among(10, 6 + i, job(1, 1000));
    }
    settle();
    gang = submit(&c, job(5, 32000));
    for (uint32_t i = 0; i < 30; i++) {
        tick(&c, MINUTE);
        for (uint32_t n = 0; n < 5 * 26; n++)
            stays(small[n / 26][n % 26]);
    }
    assert_int_equal(state_of(&c, gang), MR_STATE_PENDING);
}

static void domains_are_freed_for_segments(void **state)
{
    (void)state;
    uint64_t small[3];
    for (uint32_t i = 0; i < 3; i++) {
        small[i] = put(1 + 2 * i, movable(1, 1000));
    }
    settle();
    struct mr_event event = job(4, 4000);
    event.u.submit.segment = 2;
    uint64_t gang = submit(&c, event);
    tick(&c, CORE_HOLD_US);
    uint32_t moved = 0;
    for (uint32_t i = 0; i < 3; i++) {
        if (state_of(&c, small[i]) != MR_STATE_COMPLETING) continue;
        all_exit(&c, small[i], MR_EXIT_CODE_REQUEUE);
        moved++;
    }
    assert_int_equal(moved, 2);
    stays(gang);
    assert_int_equal(domain_of(gang, 0), domain_of(gang, 1));
    assert_int_equal(domain_of(gang, 2), domain_of(gang, 3));
}

static void spares_move_with_their_gang(void **state)
{
    (void)state;
    struct mr_event event = movable(2, 1000);
    event.u.submit.spares = 1;
    uint64_t first = put(1, event);
    put(3, job(1, 1000));
    put(5, job(1, 1000));
    settle();
    assert_int_equal(info(&c, first).tasks, 3);
    uint64_t gang = submit(&c, domain_gang(2));
    tick(&c, CORE_HOLD_US);
    moves(first);
    all_exit(&c, first, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(info(&c, first).tasks, 3);
    assert_int_equal(lease_of(&c, first, 0).start.tasks, 3);
    stays(gang);
}

static void a_node_is_freed_for_who_wants_it_alone(void **state)
{
    (void)state;
    uint64_t small[6];
    for (uint32_t i = 0; i < 6; i++) {
        small[i] = put(1 + i, movable(1, 1000));
    }
    settle();
    saved(small[2]);
    struct mr_event event = job(1, 1000);
    event.u.submit.exclusive = MR_EXCLUSIVE_NODE;
    uint64_t alone = submit(&c, event);
    assert_int_equal(state_of(&c, alone), MR_STATE_PENDING);
    tick(&c, CORE_HOLD_US);
    moves(small[2]);
    all_exit(&c, small[2], MR_EXIT_CODE_REQUEUE);
    stays(small[2]);
    stays(alone);
    assert_int_equal(lease_of(&c, alone, 0).node.v, 3);
}

static void who_has_a_node_alone_moves_to_another(void **state)
{
    (void)state;
    struct mr_event event = movable(1, 1000);
    event.u.submit.exclusive = MR_EXCLUSIVE_NODE;
    uint64_t alone = put(1, event);
    put(3, job(1, 1000));
    put(5, job(1, 1000)); /* two nodes are idle beside them, and one beside its own */
    settle();
    uint64_t gang = submit(&c, domain_gang(2));
    tick(&c, CORE_HOLD_US);
    moves(alone);
    all_exit(&c, alone, MR_EXIT_CODE_REQUEUE);
    stays(alone);
    stays(gang);
    assert_int_equal(lease_of(&c, alone, 0).node.v % 2, 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_domain_is_freed_by_moving_one_small_gang),
        CASE(the_domain_is_chosen_that_costs_least),
        CASE(nothing_moves_when_that_costs_more_than_waiting),
        CASE(nothing_moves_without_room_elsewhere),
        CASE(a_gang_moves_whole_and_to_several_nodes),
        CASE(equals_move_and_a_higher_class_does_not),
        CASE(who_may_not_be_preempted_is_never_moved),
        CASE(a_run_is_left_alone_longer_after_each_move),
        CASE(where_it_moves_to_may_die_meanwhile),
        CASE(the_node_of_the_claimant_may_die_meanwhile),
        CASE(a_claimant_that_is_cancelled_leaves_the_move_to_its_end),
        CASE(who_ends_well_while_it_moves_has_ended),
        CASE(a_preemption_becomes_a_move_when_there_is_room),
        CASE(who_finds_no_room_elsewhere_is_preempted),
        CASE(one_moves_rather_than_that_two_queue),
        CASE(a_higher_class_moves_a_lower_one_at_once),
        CASE(an_elastic_gang_moves_rather_than_shrinks),
        CASE(a_move_needs_no_quota_beyond_its_own),
        CASE(members_of_reservations_stay),
        CASE(a_node_is_freed_for_a_task_of_all_its_devices),
        CASE(several_nodes_are_freed_for_a_gang_that_lies_anywhere),
        CASE(more_than_can_be_asked_at_once_stay),
        CASE(domains_are_freed_for_segments),
        CASE(spares_move_with_their_gang),
        CASE(a_node_is_freed_for_who_wants_it_alone),
        CASE(who_has_a_node_alone_moves_to_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
