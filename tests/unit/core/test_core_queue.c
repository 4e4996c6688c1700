/* SPDX-License-Identifier: Apache-2.0 */
/* The queue: priority, then share, then arrival; classes; keys; what is forgotten. */
#include "core_test.h"

static struct cloud c;

static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    tenant_set(&c, 2, 0, UINT64_MAX);
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

static struct mr_event with(struct mr_event event, uint32_t tenant, uint8_t priority)
{
    event.u.submit.tenant.v = tenant;
    event.u.submit.priority = priority;
    return event;
}

static void a_higher_priority_starts_first(void **state)
{
    (void)state;
    uint64_t all = submit(&c, job(1, 8000));
    uint64_t low = submit(&c, with(job(1, 8000), 1, 5));
    uint64_t high = submit(&c, with(job(1, 8000), 1, 1));
    all_exit(&c, all, 0);
    assert_int_equal(state_of(&c, high), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, low), MR_STATE_PENDING);
}

static void the_tenant_with_the_smaller_share_starts_first(void **state)
{
    (void)state;
    uint64_t one = submit(&c, with(job(1, 4000), 1, 4));
    uint64_t two = submit(&c, with(job(1, 4000), 1, 4));
    uint64_t first = submit(&c, with(job(1, 4000), 1, 4));
    uint64_t second = submit(&c, with(job(1, 4000), 2, 4));
    all_exit(&c, one, 0);
    assert_int_equal(state_of(&c, second), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, first), MR_STATE_PENDING);
    all_exit(&c, two, 0);
    assert_int_equal(state_of(&c, first), MR_STATE_RUNNING);
}

static void a_weight_counts_as_a_larger_share(void **state)
{
    (void)state;
    struct mr_event heavy = {.kind = MR_EVENT_TENANT_SET,
                             .u.tenant = {.id = {2},
                                          .weight = 4,
                                          .quota_cpu_milli = UINT64_MAX,
                                          .quota_mem_mib = UINT64_MAX,
                                          .quota_accel_milli = UINT64_MAX,
                                          .running_max = UINT32_MAX}};
    cloud_step(&c, heavy);
    /* Tenant 2 holds twice of what tenant 1 does, but weighs four times as much. */
    uint64_t a = submit(&c, with(job(1, 2000), 1, 4));
    submit(&c, with(job(1, 4000), 2, 4));
    uint64_t b = submit(&c, with(job(1, 2000), 1, 4));
    uint64_t of_one = submit(&c, with(job(1, 2000), 1, 4));
    uint64_t of_two = submit(&c, with(job(1, 2000), 2, 4));
    all_exit(&c, a, 0);
    assert_int_equal(state_of(&c, of_two), MR_STATE_RUNNING);
    all_exit(&c, b, 0);
    assert_int_equal(state_of(&c, of_one), MR_STATE_RUNNING);
}

static void equal_work_starts_in_the_order_of_arrival(void **state)
{
    (void)state;
    uint64_t all = submit(&c, job(1, 8000));
    uint64_t ids[4];
    for (uint32_t i = 0; i < 4; i++) {
        ids[i] = submit(&c, job(1, 8000));
        assert_int_equal(info(&c, ids[i]).reason.code,
                         i == 0 ? MR_REASON_RESOURCES : MR_REASON_BEHIND);
        assert_int_equal(info(&c, ids[i]).reason.a, i == 0 ? 8000 : i);
    }
    for (uint32_t i = 0; i < 4; i++) {
        all_exit(&c, i == 0 ? all : ids[i - 1], 0);
        assert_int_equal(state_of(&c, ids[i]), MR_STATE_RUNNING);
    }
}

static void who_is_put_back_keeps_its_place(void **state)
{
    (void)state;
    uint64_t first = submit(&c, job(1, 8000));
    uint64_t second = submit(&c, job(1, 8000));
    uint64_t third = submit(&c, job(1, 8000));
    node_state(&c, 1, MR_NODE_DOWN);
    assert_int_equal(info(&c, second).reason.a, 1);
    node_state(&c, 1, MR_NODE_UP);
    assert_int_equal(state_of(&c, first), MR_STATE_RUNNING);
    assert_int_equal(info(&c, third).reason.a, 1);
}

static void small_work_passes_large_work_that_cannot_start(void **state)
{
    (void)state;
    submit(&c, job(1, 4000));
    uint64_t large = submit(&c, job(1, 8000));
    uint64_t small = submit(&c, job(1, 4000));
    assert_int_equal(state_of(&c, large), MR_STATE_PENDING);
    assert_int_equal(state_of(&c, small), MR_STATE_RUNNING);
}

static void a_known_key_answers_with_the_first_workload(void **state)
{
    (void)state;
    struct mr_event event = job(1, 1000);
    event.u.submit.key_high = 7;
    event.u.submit.key_low = 9;
    uint64_t first = submit(&c, event);
    uint64_t hash_of_workloads = c.core->workload_next;
    uint64_t second = submit(&c, event);
    assert_int_equal(first, second);
    assert_true(c.effects[0].u.answer.known);
    assert_int_equal(c.count, 1);
    assert_int_equal(c.core->workload_next, hash_of_workloads);
    all_exit(&c, first, 0);
    assert_int_equal(submit(&c, event), first);
    event.u.submit.key_low = 10;
    assert_int_not_equal(submit(&c, event), first);
}

static int error_of(struct mr_event event)
{
    (void)submit(&c, event);
    return c.effects[0].kind == MR_EFFECT_REJECTED ? c.effects[0].u.answer.error : 0;
}

static void nonsense_is_rejected_with_its_error(void **state)
{
    (void)state;
    assert_int_equal(error_of(with(job(1, 1000), 0, 4)), MR_ENOT_FOUND);
    assert_int_equal(error_of(with(job(1, 1000), 3, 4)), MR_ENOT_FOUND);
    assert_int_equal(error_of(with(job(1, 1000), 999, 4)), MR_ENOT_FOUND);
    assert_int_equal(error_of(with(job(1, 1000), 1, MR_PRIORITY_COUNT)), MR_EINVALID);
    assert_int_equal(error_of(job(1, 1500)), MR_EINVALID);
    assert_int_equal(error_of(job(1, 1000 * MR_DEVICES_PER_NODE_MAX + 1000)), MR_EINVALID);
    assert_int_equal(error_of(job(0, 1000)), MR_EINVALID);
    assert_int_equal(error_of(job(tiny_limits.leases + 1, 0)), MR_ELIMIT);
    assert_int_equal(error_of(job(tiny_limits.leases, 0)), 0);
    struct mr_event upside_down = job(3, 1000);
    upside_down.u.submit.tasks_max = 2;
    assert_int_equal(error_of(upside_down), MR_EINVALID);
    struct mr_event nothing = job(1, 0);
    nothing.u.submit.shape.cpu_milli = 0;
    assert_int_equal(error_of(nothing), MR_EINVALID);
}

static void the_oldest_ended_workload_is_forgotten_never_a_live_one(void **state)
{
    (void)state;
    uint64_t ended[2];
    for (uint32_t i = 0; i < 2; i++) {
        ended[i] = submit(&c, job(1, 1000));
        all_exit(&c, ended[i], 0);
    }
    uint64_t last = 0;
    for (uint32_t i = 2; i < tiny_limits.workloads; i++) {
        last = submit(&c, job(1, 8000));
    }
    struct mr_workload_info known;
    assert_int_equal(mr_core_workload(c.core, (struct mr_workload_id){ended[0]}, &known), 0);
    submit(&c, job(1, 8000));
    assert_int_equal(mr_core_workload(c.core, (struct mr_workload_id){ended[0]}, &known),
                     MR_ENOT_FOUND);
    assert_int_equal(mr_core_workload(c.core, (struct mr_workload_id){ended[1]}, &known), 0);
    submit(&c, job(1, 8000));
    /* Now all are live: one more is refused, until one ends. */
    assert_int_equal(error_of(job(1, 8000)), MR_ELIMIT);
    cancel(&c, last);
    assert_int_equal(error_of(job(1, 8000)), 0);
}

static void one_more_class_than_the_limit_is_refused(void **state)
{
    (void)state;
    submit(&c, job(1, 8000));
    for (uint32_t i = 0; i < tiny_limits.shapes; i++) {
        struct mr_event event = job(1, 8000);
        event.u.submit.shape.mem_mib = 100 + i;
        assert_int_equal(error_of(event), 0);
    }
    struct mr_event other = job(1, 8000);
    assert_int_equal(error_of(other), MR_ELIMIT);
    other.u.submit.shape.mem_mib = 100;
    assert_int_equal(error_of(other), 0); /* like one that waits */
}

static void a_job_that_waits_can_be_scaled(void **state)
{
    (void)state;
    submit(&c, job(1, 6000));
    uint64_t id = submit(&c, job(4, 1000));
    assert_int_equal(state_of(&c, id), MR_STATE_PENDING);
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_SCALE, .u.scale = {{id}, 2, 8}});
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).tasks, 2);
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_SCALE, .u.scale = {{id}, 1, 1}});
    assert_int_equal(state_of(&c, id), MR_STATE_COMPLETING);
    all_exit(&c, id, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(info(&c, id).tasks, 1);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_higher_priority_starts_first),
        CASE(the_tenant_with_the_smaller_share_starts_first),
        CASE(a_weight_counts_as_a_larger_share),
        CASE(equal_work_starts_in_the_order_of_arrival),
        CASE(who_is_put_back_keeps_its_place),
        CASE(small_work_passes_large_work_that_cannot_start),
        CASE(a_known_key_answers_with_the_first_workload),
        CASE(nonsense_is_rejected_with_its_error),
        CASE(the_oldest_ended_workload_is_forgotten_never_a_live_one),
        CASE(one_more_class_than_the_limit_is_refused),
        CASE(a_job_that_waits_can_be_scaled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
