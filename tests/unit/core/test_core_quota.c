/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants: quotas of their own and of those above, and the tree they hang in. */
#include "core_test.h"

static struct cloud c;

static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, 8000);
    tenant_set(&c, 2, 1, 6000);
    tenant_set(&c, 3, 1, UINT64_MAX);
    node_set(&c, 1, 16);
    forget(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

static struct mr_event of(uint32_t tenant, struct mr_event event)
{
    event.u.submit.tenant.v = tenant;
    return event;
}

static void a_quota_holds_with_its_numbers(void **state)
{
    (void)state;
    submit(&c, of(2, job(1, 5000)));
    uint64_t over = submit(&c, of(2, job(2, 1000)));
    struct mr_reason r = info(&c, over).reason;
    assert_int_equal(r.code, MR_REASON_QUOTA);
    assert_int_equal(r.resource, MR_RESOURCE_ACCEL);
    assert_int_equal(r.a, 5000);
    assert_int_equal(r.b, 6000);
    assert_int_equal(r.c, 2000);
    assert_int_equal(state_of(&c, submit(&c, of(2, job(1, 1000)))), MR_STATE_RUNNING); /* at it */
}

static void the_quota_of_those_above_holds_too(void **state)
{
    (void)state;
    uint64_t six = submit(&c, of(2, job(1, 6000)));
    uint64_t over = submit(&c, of(3, job(1, 3000)));
    assert_int_equal(info(&c, over).reason.code, MR_REASON_QUOTA);
    assert_int_equal(info(&c, over).reason.b, 8000);
    all_exit(&c, six, 0);
    assert_int_equal(state_of(&c, over), MR_STATE_RUNNING);
    struct mr_tenant_info t;
    assert_int_equal(mr_core_tenant(c.core, (struct mr_tenant_id){1}, &t), 0);
    assert_int_equal(t.accel_milli, 3000);
    assert_int_equal(t.running, 1);
}

static void raising_a_quota_starts_what_waits_for_it(void **state)
{
    (void)state;
    uint64_t over = submit(&c, of(2, job(1, 7000)));
    assert_int_equal(state_of(&c, over), MR_STATE_PENDING);
    tenant_set(&c, 2, 1, 7000);
    assert_int_equal(state_of(&c, over), MR_STATE_RUNNING);
}

static void a_tenant_that_moves_from_under_a_quota_starts(void **state)
{
    (void)state;
    uint64_t over = submit(&c, of(3, job(1, 9000)));
    assert_int_equal(info(&c, over).reason.code, MR_REASON_QUOTA);
    tenant_set(&c, 3, 0, UINT64_MAX);
    assert_int_equal(state_of(&c, over), MR_STATE_RUNNING);
}

static void an_elastic_gang_keeps_within_the_quota(void **state)
{
    (void)state;
    struct mr_event event = of(2, job(1, 1000));
    event.u.submit.tasks_max = 16;
    uint64_t id = submit(&c, event);
    assert_int_equal(info(&c, id).tasks, 6);
    tick(&c, CORE_SETTLE_US);
    assert_int_equal(info(&c, id).tasks, 6);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
}

static void no_more_workloads_run_than_allowed(void **state)
{
    (void)state;
    struct mr_event event = {.kind = MR_EVENT_TENANT_SET,
                             .u.tenant = {.id = {3},
                                          .parent = {1},
                                          .weight = 1,
                                          .quota_cpu_milli = UINT64_MAX,
                                          .quota_mem_mib = UINT64_MAX,
                                          .quota_accel_milli = UINT64_MAX,
                                          .running_max = 2}};
    cloud_step(&c, event);
    uint64_t first = submit(&c, of(3, job(1, 0)));
    submit(&c, of(3, job(1, 0)));
    uint64_t third = submit(&c, of(3, job(1, 0)));
    assert_int_equal(info(&c, third).reason.code, MR_REASON_TENANT_JOBS);
    assert_int_equal(info(&c, third).reason.a, 2);
    assert_int_equal(info(&c, third).reason.b, 2);
    all_exit(&c, first, 0);
    assert_int_equal(state_of(&c, third), MR_STATE_RUNNING);
}

static uint32_t parent_of(uint32_t id)
{
    struct mr_tenant_info t;
    assert_int_equal(mr_core_tenant(c.core, (struct mr_tenant_id){id}, &t), 0);
    return t.tenant.parent.v;
}

static void a_tenant_never_hangs_below_itself(void **state)
{
    (void)state;
    tenant_set(&c, 1, 2, UINT64_MAX);
    assert_int_equal(parent_of(1), 0);
    tenant_set(&c, 1, 1, UINT64_MAX);
    assert_int_equal(parent_of(1), 0);
    tenant_set(&c, 4, 7, UINT64_MAX); /* no such parent */
    struct mr_tenant_info t;
    assert_int_equal(mr_core_tenant(c.core, (struct mr_tenant_id){4}, &t), MR_ENOT_FOUND);
}

static void the_tree_is_as_deep_as_its_limit(void **state)
{
    (void)state;
    for (uint32_t i = 4; i <= 8; i++) {
        tenant_set(&c, i, i == 4 ? 2 : i - 1, UINT64_MAX);
        assert_int_equal(parent_of(i), i == 4 ? 2 : i - 1);
    }
    _Static_assert(CORE_TENANT_DEPTH == 8, "1, 2, 4 … 8 are seven levels");
    tenant_set(&c, 3, 8, UINT64_MAX);
    assert_int_equal(parent_of(3), 8);
    tenant_set(&c, 1, 0, 8000);
    struct mr_core_limits more = tiny_limits;
    assert_true(more.tenants == 8);
}

static void a_tenant_that_moves_takes_what_it_holds_along(void **state)
{
    (void)state;
    submit(&c, of(2, job(1, 4000)));
    tenant_set(&c, 2, 0, UINT64_MAX);
    struct mr_tenant_info t;
    assert_int_equal(mr_core_tenant(c.core, (struct mr_tenant_id){1}, &t), 0);
    assert_int_equal(t.accel_milli, 0);
    tenant_set(&c, 2, 3, UINT64_MAX);
    assert_int_equal(mr_core_tenant(c.core, (struct mr_tenant_id){1}, &t), 0);
    assert_int_equal(t.accel_milli, 4000);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_quota_holds_with_its_numbers),
        CASE(the_quota_of_those_above_holds_too),
        CASE(raising_a_quota_starts_what_waits_for_it),
        CASE(a_tenant_that_moves_from_under_a_quota_starts),
        CASE(an_elastic_gang_keeps_within_the_quota),
        CASE(no_more_workloads_run_than_allowed),
        CASE(a_tenant_never_hangs_below_itself),
        CASE(the_tree_is_as_deep_as_its_limit),
        CASE(a_tenant_that_moves_takes_what_it_holds_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
