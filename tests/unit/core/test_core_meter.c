/* SPDX-License-Identifier: Apache-2.0 */
/* Money: exact sums, each serial once, nothing lost when workloads are forgotten. */
#include "core_test.h"

static struct cloud c;

static void price(enum mr_sku sku, uint8_t type, int64_t nusd)
{
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_PRICE_SET, .u.price = {sku, type, nusd}});
}

static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    tenant_set(&c, 2, 0, UINT64_MAX);
    node_set(&c, 1, 8);
    price(MR_SKU_CPU, 0, 40000001);
    price(MR_SKU_MEMORY, 0, 5000003);
    price(MR_SKU_ACCEL, GPU, 2000000007);
    price(MR_SKU_TOKENS_PROMPT, 0, 150000000);
    price(MR_SKU_TOKENS_CACHED, 0, 15000000);
    price(MR_SKU_TOKENS_COMPLETION, 0, 600000000);
    forget(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

static void meter_for(uint64_t lease, uint64_t serial, uint32_t tenant)
{
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_METER,
                                     .u.meter = {.lease = {lease},
                                                 .serial = serial,
                                                 .tenant = {tenant},
                                                 .prompt_tokens = 100,
                                                 .cached_tokens = 40,
                                                 .completion_tokens = 7}});
    assert_int_equal(effects_of(&c, MR_EFFECT_METERED), 1); /* settled in any case */
}

/* vCPU time on the workload's bill, of a job with one vCPU. */
static uint64_t cpu_us(uint64_t workload)
{
    struct mr_bill_line line;
    uint64_t cursor = 0, sum = 0;
    while (mr_core_bill_next(c.core, c.now_us, &cursor, &line) == 0) {
        if (line.workload.v == workload && line.sku == MR_SKU_CPU) sum += line.quantity;
    }
    return sum / 1000;
}

static bool billed(void)
{
    return effects_of(&c, MR_EFFECT_LEDGER) > 0;
}

static int64_t bill_sum(uint32_t tenant, bool accrued)
{
    int64_t sum = 0;
    uint64_t cursor = 0;
    struct mr_bill_line line;
    while (mr_core_bill_next(c.core, c.now_us, &cursor, &line) == 0) {
        if (line.accrued != accrued) continue;
        if (tenant == 0 || line.tenant.v == tenant) sum += line.charge_nusd;
    }
    return sum;
}

static void cutting_a_lease_into_entries_does_not_change_its_sum(void **state)
{
    (void)state;
    submit(&c, job(1, 1000));
    lease_event(&c, MR_EVENT_LEASE_STARTED, 1);
    uint64_t from_us = c.now_us;
    uint32_t entries = 0;
    for (uint32_t i = 0; i < 500; i++) {
        tick(&c, 7 * MINUTE + i);
        entries += effects_of(&c, MR_EFFECT_LEDGER);
    }
    exited(&c, 1, MR_EXIT_CODE, 0);
    assert_true(entries > 100);
    uint64_t held_us = c.now_us - from_us;
    int64_t exact = (int64_t)mr_mul_div_u64(held_us * 1000, 40000001, 3600000000000ull) +
                    (int64_t)mr_mul_div_u64(held_us * 1024, 5000003, 1024 * 3600000000ull) +
                    (int64_t)mr_mul_div_u64(held_us * 1000, 2000000007, 3600000000000ull);
    assert_int_equal(c.charged, exact);
    assert_int_equal(bill_sum(0, false), exact);
}

static void what_runs_is_billed_every_hour_and_accrued_in_between(void **state)
{
    (void)state;
    submit(&c, job(1, 1000));
    lease_event(&c, MR_EVENT_LEASE_STARTED, 1);
    assert_int_equal(mr_core_wake_us(c.core), c.now_us + HOUR);
    tick(&c, HOUR - 1);
    assert_int_equal(effects_of(&c, MR_EFFECT_LEDGER), 0);
    int64_t accrued = bill_sum(1, true);
    assert_true(accrued > 2000000000);
    tick(&c, 1);
    assert_int_equal(effects_of(&c, MR_EFFECT_LEDGER), 3);
    assert_int_equal(bill_sum(1, true), 0);
    assert_true(bill_sum(1, false) - accrued < 4);
}

static void a_lease_that_never_started_costs_nothing(void **state)
{
    (void)state;
    submit(&c, job(1, 1000));
    tick(&c, HOUR);
    exited(&c, 1, MR_EXIT_START_FAILED, 2);
    assert_int_equal(c.charged, 0);
}

static void a_serial_is_billed_once_in_any_order(void **state)
{
    (void)state;
    submit(&c, service(1, 1, 1000));
    lease_event(&c, MR_EVENT_LEASE_STARTED, 1);
    static const uint64_t order[] = {3, 1, 70, 2, 64, 65, 5};
    for (size_t i = 0; i < MR_COUNT_OF(order); i++) {
        meter_for(1, order[i], 2);
        assert_true(billed());
        meter_for(1, order[i], 2);
        assert_false(billed());
    }
    assert_int_equal(effects_of(&c, MR_EFFECT_LEDGER), 0);
    /* 60 prompt tokens at 150, 40 cached at 15, 7 completion at 600 nano-dollars each. */
    assert_int_equal(bill_sum(2, false), 7 * (60 * 150 + 40 * 15 + 7 * 600));
    meter_for(1, 0, 2);
    assert_false(billed());
}

static void every_serial_of_a_long_life_is_billed_once(void **state)
{
    (void)state;
    submit(&c, service(1, 1, 1000));
    lease_event(&c, MR_EVENT_LEASE_STARTED, 1);
    struct mr_prng prng;
    mr_prng_init(&prng, 11);
    uint64_t pending[MR_WIRE_UNSETTLED_MAX];
    uint32_t n = 0, taken = 0;
    uint64_t next = 1;
    for (uint32_t i = 0; i < 5000; i++) {
        while (n < MR_WIRE_UNSETTLED_MAX) {
            pending[n++] = next++;
        }
        uint32_t at = (uint32_t)mr_prng_below(&prng, n);
        if (pending[at] + MR_WIRE_UNSETTLED_MAX <= next) at = 0;
        for (uint32_t k = 0; k < n; k++) { /* the oldest must not fall out of the window */
            if (pending[k] + MR_WIRE_UNSETTLED_MAX + 300 < next) at = k;
        }
        meter_for(1, pending[at], 1);
        taken += billed();
        pending[at] = pending[--n];
    }
    assert_int_equal(taken, 5000);
}

static void a_serial_below_the_window_is_never_billed_again(void **state)
{
    (void)state;
    submit(&c, service(1, 1, 1000));
    meter_for(1, 1, 1);
    meter_for(1, CORE_METER_WINDOW + 1, 1);
    assert_true(billed());
    meter_for(1, 1, 1);
    assert_false(billed());
    meter_for(1, 2, 1); /* still within it */
    assert_true(billed());
    meter_for(1, 50 * CORE_METER_WINDOW, 1);
    assert_true(billed());
    meter_for(1, 3, 1);
    assert_false(billed());
    meter_for(1, 50 * CORE_METER_WINDOW - 1, 1);
    assert_true(billed());
}

static void tokens_of_an_ended_lease_are_billed_within_the_window(void **state)
{
    (void)state;
    uint64_t id = submit(&c, service(1, 1, 1000));
    lease_event(&c, MR_EVENT_LEASE_STARTED, 1);
    meter_for(1, 1, 2);
    cancel(&c, id);
    exited(&c, 1, MR_EXIT_SIGNAL, 15);
    meter_for(1, 1, 2);
    assert_false(billed());
    meter_for(1, 2, 2);
    assert_true(billed());
    meter_for(1, 2, 2);
    assert_false(billed());
    c.now_us += CORE_METER_KEEP_US;
    meter_for(1, 3, 2);
    assert_true(billed());
    c.now_us += 1;
    meter_for(1, 4, 2);
    assert_false(billed());
    meter_for(99, 1, 2); /* nobody's */
    assert_false(billed());
}

static void a_forgotten_workload_leaves_its_sums_to_its_tenant(void **state)
{
    (void)state;
    uint64_t id = submit(&c, service(1, 1, 1000));
    lease_event(&c, MR_EVENT_LEASE_STARTED, 1);
    meter_for(1, 1, 2);
    c.now_us += HOUR / 3;
    cancel(&c, id);
    exited(&c, 1, MR_EXIT_SIGNAL, 15);
    int64_t of_one = bill_sum(1, false), of_two = bill_sum(2, false);
    assert_true(of_one > 0 && of_two > 0);
    for (uint32_t i = 0; i < tiny_limits.workloads; i++) {
        submit(&c, job(1, 64000));
    }
    struct mr_workload_info known;
    assert_int_equal(mr_core_workload(c.core, (struct mr_workload_id){id}, &known), MR_ENOT_FOUND);
    assert_int_equal(bill_sum(1, false), of_one);
    assert_int_equal(bill_sum(2, false), of_two);
    uint64_t cursor = 0;
    struct mr_bill_line line;
    while (mr_core_bill_next(c.core, c.now_us, &cursor, &line) == 0) {
        assert_int_equal(line.workload.v, 0);
    }
    meter_for(1, 2, 2); /* and its late tokens are billed all the same */
    assert_true(billed());
    assert_int_equal(bill_sum(0, false), c.charged);
}

static void fractions_of_tokens_are_carried(void **state)
{
    (void)state;
    price(MR_SKU_TOKENS_PROMPT, 0, 0);
    price(MR_SKU_TOKENS_CACHED, 0, 0);
    price(MR_SKU_TOKENS_COMPLETION, 0, 333333); /* a third of a nano-dollar each */
    submit(&c, service(1, 1, 1000));
    for (uint64_t i = 1; i <= 3000; i++) {
        meter_for(1, i, 1);
    }
    assert_int_equal(bill_sum(1, false), 7 * 3000 * 333333ll / 1000000);
}

static void absurd_amounts_end_at_the_types_end(void **state)
{
    (void)state;
    uint64_t rest = 0;
    assert_int_equal(core_charge(UINT64_MAX, 1000000000000000ll, 1, &rest), INT64_MAX);
    assert_int_equal(core_charge(10, 3, 4, &rest), 7);
    assert_int_equal(rest, 2);
    assert_int_equal(core_charge(10, 3, 4, &rest), 8);
    assert_int_equal(rest, 0);
    price(MR_SKU_CPU, 0, -1); /* refused */
    assert_int_equal(core_price(c.core, MR_SKU_CPU, 0), 40000001);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
static void a_job_that_ran_unseen_is_billed_for_as_long_as_it_ran(void **state)
{
    (void)state;
    /* It starts and ends while nobody listens; both are told an hour later. */
    uint64_t id = submit(&c, job(1, 1000));
    uint64_t lease = lease_of(&c, id, 0).id.v;
    c.now_us += HOUR;
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_LEASE_STARTED,
                                     .u.lease = {.lease = {lease}, .ran_us = 10 * MINUTE}});
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_LEASE_EXITED,
                                     .u.lease = {.lease = {lease}, .ran_us = 10 * MINUTE}});
    assert_int_equal(state_of(&c, id), MR_STATE_COMPLETED);
    assert_int_equal(cpu_us(id), 10 * MINUTE);
}

static void an_end_that_is_told_late_is_billed_until_it_was(void **state)
{
    (void)state;
    uint64_t id = submit(&c, job(1, 1000));
    uint64_t lease = lease_of(&c, id, 0).id.v;
    lease_event(&c, MR_EVENT_LEASE_STARTED, lease);
    tick(&c, 10 * MINUTE);
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_LEASE_EXITED,
                                     .u.lease = {.lease = {lease}, .ran_us = 3 * MINUTE}});
    assert_int_equal(cpu_us(id), 3 * MINUTE);
}

static void no_report_bills_more_than_the_time_there_was(void **state)
{
    (void)state;
    uint64_t id = submit(&c, job(1, 1000));
    uint64_t lease = lease_of(&c, id, 0).id.v;
    c.now_us += MINUTE;
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_LEASE_STARTED,
                                     .u.lease = {.lease = {lease}, .ran_us = UINT64_MAX}});
    tick(&c, MINUTE);
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_LEASE_EXITED,
                                     .u.lease = {.lease = {lease}, .ran_us = UINT64_MAX}});
    assert_int_equal(cpu_us(id), 2 * MINUTE);
    /* What an hourly entry holds stays on the bill. */
    id = submit(&c, job(1, 1000));
    lease = lease_of(&c, id, 0).id.v;
    lease_event(&c, MR_EVENT_LEASE_STARTED, lease);
    tick(&c, HOUR);
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_LEASE_EXITED,
                                     .u.lease = {.lease = {lease}, .ran_us = MINUTE}});
    assert_int_equal(cpu_us(id), HOUR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_job_that_ran_unseen_is_billed_for_as_long_as_it_ran,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(an_end_that_is_told_late_is_billed_until_it_was, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(no_report_bills_more_than_the_time_there_was, setup,
                                        teardown),
        CASE(cutting_a_lease_into_entries_does_not_change_its_sum),
        CASE(what_runs_is_billed_every_hour_and_accrued_in_between),
        CASE(a_lease_that_never_started_costs_nothing),
        CASE(a_serial_is_billed_once_in_any_order),
        CASE(every_serial_of_a_long_life_is_billed_once),
        CASE(a_serial_below_the_window_is_never_billed_again),
        CASE(tokens_of_an_ended_lease_are_billed_within_the_window),
        CASE(a_forgotten_workload_leaves_its_sums_to_its_tenant),
        CASE(fractions_of_tokens_are_carried),
        CASE(absurd_amounts_end_at_the_types_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
