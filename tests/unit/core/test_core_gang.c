/* SPDX-License-Identifier: Apache-2.0 */
/* Gangs: whole or not at all, restarted from their checkpoint, stopped in every state. */
#include "core_test.h"

static struct cloud c;

static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    for (uint32_t i = 1; i <= 3; i++) {
        node_set(&c, i, 4);
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

static void a_job_runs_from_submission_to_bill(void **state)
{
    (void)state;
    cloud_step(&c,
               (struct mr_event){
                   .kind = MR_EVENT_PRICE_SET,
                   .u.price = {.sku = MR_SKU_ACCEL, .accel_type = GPU, .price_nusd = 2000000000}});
    uint64_t id = submit(&c, job(2, 2000));
    told(&c, "workload 1 is accepted\n"
             "workload 1: pending to running\n"
             "lease 1 of workload 1 starts on node 1: 2 tasks, devices f\n");
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    c.now_us += HOUR / 2;
    all_exit(&c, id, 0);
    told(&c, "lease 1 of workload 1 ended: code 0\n"
             "workload 1: running to completed\n");
    assert_int_equal(c.charged, 4 * 1000000000ll);
}

static void gang_is_never_split(void **state)
{
    (void)state;
    uint64_t big = submit(&c, job(4, 4000));
    assert_int_equal(state_of(&c, big), MR_STATE_PENDING);
    assert_int_equal(info(&c, big).lease_count, 0);
    assert_int_equal(info(&c, big).reason.code, MR_REASON_RESOURCES);
    assert_int_equal(info(&c, big).reason.resource, MR_RESOURCE_ACCEL);
    assert_int_equal(info(&c, big).reason.a, 4000);
    assert_int_equal(info(&c, big).reason.b, 16000);
    node_set(&c, 4, 4);
    assert_int_equal(state_of(&c, big), MR_STATE_RUNNING);
    assert_int_equal(info(&c, big).lease_count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        struct mr_effect_start start = lease_of(&c, big, i).start;
        assert_int_equal(start.rank_first, i);
        assert_int_equal(start.world_size, 4);
        assert_int_equal(start.node_rank, i);
        assert_int_equal(start.node_count, 4);
        assert_int_equal(start.shape.accel_types[0], GPU);
    }
}

static void an_elastic_gang_starts_with_what_fits(void **state)
{
    (void)state;
    struct mr_event event = job(2, 4000);
    event.u.submit.tasks_max = 8;
    uint64_t id = submit(&c, event);
    assert_int_equal(info(&c, id).tasks, 3);
}

static void a_dead_node_restarts_the_whole_gang_from_its_checkpoint(void **state)
{
    (void)state;
    uint64_t id = submit(&c, job(2, 4000));
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_LEASE_PROGRESS,
                                     .u.lease = {.lease = {1}, .checkpoint_step = 70}});
    forget(&c);
    node_state(&c, 1, MR_NODE_DOWN);
    told(&c, "node 1 is down\n"
             "lease 1 of workload 1 ended: lost 0\n"
             "workload 1: running to completing\n"
             "workload 1 keeps 1 tasks and gets 1 elsewhere\n");
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 2);
    exited(&c, 2, MR_EXIT_SIGNAL, 15);
    told(&c, "lease 2 of workload 1 ended: signal 15\n"
             "workload 1: completing to pending\n"
             "workload 1: pending to running\n"
             "lease 3 of workload 1 starts on node 3: 1 tasks, devices f\n"
             "lease 4 of workload 1 starts on node 2: 1 tasks, devices f\n");
    assert_int_equal(info(&c, id).run, 2);
    assert_int_equal(info(&c, id).restarts, 0);
    assert_int_equal(info(&c, id).checkpoint_step, 70);
    /* The lost lease's exit, when it comes after all, changes nothing. */
    uint64_t hash = mr_core_hash(c.core);
    exited(&c, 1, MR_EXIT_CODE, 0);
    assert_true(mr_core_hash(c.core) != hash); /* time and steps are part of it */
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
}

static void a_draining_node_keeps_its_work_and_takes_none(void **state)
{
    (void)state;
    uint64_t id = submit(&c, job(1, 4000));
    uint32_t node = lease_of(&c, id, 0).node.v;
    node_state(&c, node, MR_NODE_DRAINING);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    uint64_t next = submit(&c, job(2, 4000));
    assert_int_equal(state_of(&c, next), MR_STATE_RUNNING);
    uint64_t waits = submit(&c, job(1, 1000));
    all_exit(&c, id, 0);
    assert_int_equal(state_of(&c, waits), MR_STATE_PENDING);
    node_state(&c, node, MR_NODE_UP);
    assert_int_equal(state_of(&c, waits), MR_STATE_RUNNING);
}

static void exit_code_75_asks_for_another_run(void **state)
{
    (void)state;
    uint64_t id = submit(&c, job(1, 1000));
    exited(&c, 1, MR_EXIT_CODE, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(state_of(&c, id), MR_STATE_PENDING);
    assert_int_equal(info(&c, id).reason.code, MR_REASON_BACKOFF);
    assert_int_equal(mr_core_wake_us(c.core), c.now_us + SECOND);
    tick(&c, SECOND);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).run, 2);
    assert_int_equal(info(&c, id).restarts, 0);
}

static void failures_restart_with_backoff_up_to_the_limit(void **state)
{
    (void)state;
    struct mr_event event = job(1, 1000);
    event.u.submit.restarts_max = 2;
    uint64_t id = submit(&c, event);
    exited(&c, 1, MR_EXIT_CODE, 1);
    tick(&c, SECOND - 1);
    assert_int_equal(state_of(&c, id), MR_STATE_PENDING);
    tick(&c, 1);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    exited(&c, 2, MR_EXIT_SIGNAL, 11);
    tick(&c, 2 * SECOND - 1);
    assert_int_equal(state_of(&c, id), MR_STATE_PENDING);
    tick(&c, 1);
    exited(&c, 3, MR_EXIT_CODE, 3);
    assert_int_equal(state_of(&c, id), MR_STATE_FAILED);
    assert_int_equal(info(&c, id).exit_code, 3);
    assert_int_equal(info(&c, id).restarts, 2);
}

static void one_failed_task_stops_the_others(void **state)
{
    (void)state;
    uint64_t id = submit(&c, job(3, 4000));
    exited(&c, 2, MR_EXIT_OUT_OF_MEMORY, 9);
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 2);
    assert_int_equal(state_of(&c, id), MR_STATE_COMPLETING);
    exited(&c, 1, MR_EXIT_CODE, 0);
    exited(&c, 3, MR_EXIT_SIGNAL, 15);
    assert_int_equal(state_of(&c, id), MR_STATE_OUT_OF_MEMORY);
    assert_int_equal(info(&c, id).exit, MR_EXIT_OUT_OF_MEMORY);
}

static void a_time_limit_counts_over_all_runs(void **state)
{
    (void)state;
    struct mr_event event = job(1, 1000);
    event.u.submit.time_limit_us = 10 * MINUTE;
    uint64_t id = submit(&c, event);
    c.now_us += 6 * MINUTE;
    exited(&c, 1, MR_EXIT_CODE, MR_EXIT_CODE_REQUEUE);
    tick(&c, SECOND);
    assert_int_equal(mr_core_wake_us(c.core), c.now_us + 4 * MINUTE);
    tick(&c, 4 * MINUTE - 1);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    tick(&c, 1);
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 1);
    exited(&c, 2, MR_EXIT_SIGNAL, 15);
    assert_int_equal(state_of(&c, id), MR_STATE_TIMEOUT);
}

static void a_begin_time_holds_it_until_then(void **state)
{
    (void)state;
    struct mr_event event = job(1, 1000);
    event.u.submit.begin_us = c.now_us + HOUR;
    uint64_t id = submit(&c, event);
    assert_int_equal(info(&c, id).reason.code, MR_REASON_NOT_YET);
    assert_int_equal(info(&c, id).reason.a, c.now_us + HOUR);
    tick(&c, HOUR - 1);
    assert_int_equal(state_of(&c, id), MR_STATE_PENDING);
    tick(&c, 1);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
}

static void cancelling_works_in_every_state(void **state)
{
    (void)state;
    struct mr_event later = job(1, 1000);
    later.u.submit.begin_us = c.now_us + HOUR;
    uint64_t held = submit(&c, later);
    cancel(&c, held);
    assert_int_equal(state_of(&c, held), MR_STATE_CANCELLED);
    uint64_t running = submit(&c, job(3, 4000));
    uint64_t waiting = submit(&c, job(1, 1000));
    cancel(&c, waiting);
    assert_int_equal(state_of(&c, waiting), MR_STATE_CANCELLED);
    cancel(&c, running);
    assert_int_equal(state_of(&c, running), MR_STATE_COMPLETING);
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 3);
    cancel(&c, running); /* twice is once */
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 0);
    all_exit(&c, running, 0);
    assert_int_equal(state_of(&c, running), MR_STATE_CANCELLED);
    cancel(&c, running);
    assert_int_equal(state_of(&c, running), MR_STATE_CANCELLED);
    /* While it stops to run again, cancelling makes that stop the last. */
    uint64_t again = submit(&c, job(2, 4000));
    uint64_t first = lease_of(&c, again, 0).id.v;
    exited(&c, first, MR_EXIT_CODE, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(state_of(&c, again), MR_STATE_COMPLETING);
    cancel(&c, again);
    all_exit(&c, again, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(state_of(&c, again), MR_STATE_CANCELLED);
}

static void work_that_ended_well_while_it_was_asked_to_go_is_done(void **state)
{
    (void)state;
    struct mr_event event = job(3, 4000);
    event.u.submit.preemptible = true;
    uint64_t low = submit(&c, event);
    event = job(3, 4000);
    event.u.submit.priority = 1;
    uint64_t high = submit(&c, event);
    assert_int_equal(state_of(&c, low), MR_STATE_COMPLETING);
    all_exit(&c, low, 0);
    assert_int_equal(state_of(&c, low), MR_STATE_COMPLETED);
    assert_int_equal(state_of(&c, high), MR_STATE_RUNNING);
}

static void starts_and_stops_are_told_again_after_a_restart(void **state)
{
    (void)state;
    submit(&c, job(1, 1000));
    uint64_t stops = submit(&c, job(1, 1000));
    uint64_t runs = submit(&c, job(1, 1000));
    all_leases(&c, runs, MR_EVENT_LEASE_STARTED);
    cancel(&c, stops);
    c.count = 0;
    struct mr_effect_sink sink = {.emit = cloud_emit, .context = &c};
    mr_core_outstanding(c.core, &sink);
    assert_int_equal(c.count, 2);
    assert_int_equal(c.effects[0].kind, MR_EFFECT_START);
    assert_int_equal(c.effects[0].u.start.lease.v, 1);
    assert_int_equal(c.effects[1].kind, MR_EFFECT_STOP);
    assert_int_equal(c.effects[1].u.stop.lease.v, 2);
    assert_int_equal(c.effects[1].u.stop.grace_us, 10 * SECOND);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_job_runs_from_submission_to_bill),
        CASE(gang_is_never_split),
        CASE(an_elastic_gang_starts_with_what_fits),
        CASE(a_dead_node_restarts_the_whole_gang_from_its_checkpoint),
        CASE(a_draining_node_keeps_its_work_and_takes_none),
        CASE(exit_code_75_asks_for_another_run),
        CASE(failures_restart_with_backoff_up_to_the_limit),
        CASE(one_failed_task_stops_the_others),
        CASE(a_time_limit_counts_over_all_runs),
        CASE(a_begin_time_holds_it_until_then),
        CASE(cancelling_works_in_every_state),
        CASE(work_that_ended_well_while_it_was_asked_to_go_is_done),
        CASE(starts_and_stops_are_told_again_after_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
