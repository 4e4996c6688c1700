/* SPDX-License-Identifier: Apache-2.0 */
/* Walks over workloads and leases, also while things are forgotten; time that jumps. */
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

static void a_walk_sees_every_workload_once_in_order(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3 * tiny_limits.workloads; i++) {
        uint64_t id = submit(&c, job(1, 1000));
        if (i % 3 != 0) all_exit(&c, id, 0);
        if (i % 6 == 0) cancel(&c, id);
        if (i % 6 == 0) all_exit(&c, id, 0);
    }
    struct mr_workload_info w = {.id = {0}};
    uint64_t last = 0;
    uint32_t seen = 0;
    while (mr_core_workload_next(c.core, w.id, &w) == 0) {
        assert_true(w.id.v > last);
        last = w.id.v;
        seen++;
    }
    assert_int_equal(seen, tiny_limits.workloads);
    /* From an id that was forgotten too. */
    assert_int_equal(mr_core_workload_next(c.core, (struct mr_workload_id){2}, &w), 0);
    assert_true(w.id.v > 2);
    assert_int_equal(mr_core_workload_next(c.core, (struct mr_workload_id){UINT64_MAX}, &w),
                     MR_ENOT_FOUND);
}

static void claims_are_not_shown_as_leases(void **state)
{
    (void)state;
    struct mr_event low = job(1, 8000);
    low.u.submit.preemptible = true;
    submit(&c, low);
    struct mr_event high = job(1, 8000);
    high.u.submit.priority = 0;
    uint64_t id = submit(&c, high);
    struct mr_lease_info l;
    uint32_t cursor = 0, seen = 0;
    assert_int_equal(mr_core_lease_of(c.core, (struct mr_workload_id){id}, &cursor, &l),
                     MR_ENOT_FOUND);
    cursor = 0;
    while (mr_core_lease_next(c.core, &cursor, &l) == 0) {
        seen++;
    }
    assert_int_equal(seen, 1);
    assert_int_equal(mr_core_lease(c.core, (struct mr_lease_id){2}, &l), MR_ENOT_FOUND);
    assert_int_equal(mr_core_lease(c.core, (struct mr_lease_id){1}, &l), 0);
    assert_int_equal(l.state, MR_LEASE_STOPPING);
    assert_int_equal(info(&c, id).lease_count, 0);
    struct mr_node_info n;
    assert_int_equal(mr_core_node(c.core, (struct mr_node_id){1}, &n), 0);
    assert_int_equal(n.lease_count, 1);
    assert_int_equal(n.accel_free_milli, 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_walk_sees_every_workload_once_in_order),
        CASE(claims_are_not_shown_as_leases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
