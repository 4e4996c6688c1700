/* SPDX-License-Identifier: Apache-2.0 */
/* Gangs: whole or not at all, restarted from their checkpoint, stopped in every state. */
#include "core_test.h"

static void a_job_runs_from_submission_to_bill(void **state)
{
    (void)state;
    struct cloud c;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_PRICE_SET,
                                     .u.price = {.sku = MR_SKU_ACCEL,
                                                 .accel_type = GPU,
                                                 .price_nusd = 2000000000}});
    node_set(&c, 1, 8);
    forget(&c);
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
    cloud_done(&c);
}

static void gang_is_never_split(void **state)
{
    (void)state;
    struct cloud c;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    for (uint32_t i = 1; i <= 3; i++) {
        node_set(&c, i, 4);
    }
    uint64_t big = submit(&c, job(4, 4000));
    assert_int_equal(state_of(&c, big), MR_STATE_PENDING);
    assert_int_equal(info(&c, big).lease_count, 0);
    assert_int_equal(info(&c, big).reason.code, MR_REASON_RESOURCES);
    assert_int_equal(info(&c, big).reason.a, 4000);
    assert_int_equal(info(&c, big).reason.b, 16000);
    node_set(&c, 4, 4);
    assert_int_equal(state_of(&c, big), MR_STATE_RUNNING);
    assert_int_equal(info(&c, big).lease_count, 4);
    cloud_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_runs_from_submission_to_bill),
        cmocka_unit_test(gang_is_never_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
