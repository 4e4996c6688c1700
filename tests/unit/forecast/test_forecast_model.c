/* SPDX-License-Identifier: Apache-2.0 */
/* Running times: counts, survival, draws. */
#include "core_test.h"
#include "forecast/forecast_int.h"

static struct cloud c;
static struct mr_forecast_learned learned;
static struct forecast_model model;

static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    node_set(&c, 1, 8);
    memset(&learned, 0, sizeof learned);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

static struct mr_workload_info ended(uint32_t tenant, uint64_t estimate_us, uint64_t limit_us,
                                     uint64_t ran_us)
{
    return (struct mr_workload_info){.tenant = {tenant},
                                     .kind = MR_KIND_JOB,
                                     .run = 1,
                                     .estimate_us = estimate_us,
                                     .time_limit_us = limit_us,
                                     .ran_us = ran_us};
}

static void learn(uint32_t tenant, uint64_t estimate_us, uint64_t limit_us, uint64_t ran_us)
{
    struct mr_workload_info info = ended(tenant, estimate_us, limit_us, ran_us);
    mr_forecast_ended(&learned, &info);
}

/* The share of draws below `than_us`, of 1000. */
static uint32_t share_below(const struct mr_workload_info *info, uint64_t ran_us, uint64_t than_us)
{
    uint32_t below = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t draw = i * FORECAST_ONE / 1000 + FORECAST_ONE / 2000;
        uint64_t whole_us = forecast_draw_us(&model, info, ran_us, draw);
        assert_true(whole_us >= ran_us);
        below += whole_us < than_us;
    }
    return below;
}

static void bins_are_contiguous_and_ascend(void **state)
{
    (void)state;
    for (uint32_t bin = 0; bin < MR_FORECAST_BINS; bin++) {
        uint64_t from = forecast_bin_from(bin), to = forecast_bin_from(bin + 1);
        assert_true(from < to);
        assert_int_equal(forecast_bin(from), bin);
        assert_int_equal(forecast_bin(to - 1), bin);
    }
    assert_int_equal(forecast_bin(UINT64_MAX), MR_FORECAST_BINS - 1);
}

static void draws_follow_what_has_ended(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 200; i++) {
        learn(1, HOUR, 0, HOUR / 2);
    }
    forecast_model_make(&model, &learned, c.core, c.now_us);
    struct mr_workload_info info = ended(1, 2 * HOUR, 0, 0);
    assert_true(share_below(&info, 0, HOUR * 8 / 10) < 60);
    assert_true(share_below(&info, 0, HOUR * 12 / 10) > 940);
}

static void a_tenant_is_told_from_others_once_it_is_known(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 200; i++) {
        learn(1, HOUR, 0, HOUR / 8);
    }
    forecast_model_make(&model, &learned, c.core, c.now_us);
    struct mr_workload_info info = ended(2, HOUR, 0, 0);
    assert_true(share_below(&info, 0, HOUR / 4) > 900); /* like everybody */
    for (uint32_t i = 0; i < 40; i++) {
        learn(2, HOUR, 0, HOUR);
    }
    forecast_model_make(&model, &learned, c.core, c.now_us);
    assert_true(share_below(&info, 0, HOUR / 4) < 200);
}

static void what_has_run_long_goes_on_longer(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 100; i++) {
        learn(1, 0, 0, MINUTE);
        learn(1, 0, 0, HOUR);
    }
    forecast_model_make(&model, &learned, c.core, c.now_us);
    struct mr_workload_info info = ended(1, 0, 0, 0);
    uint32_t short_ones = share_below(&info, 0, 10 * MINUTE);
    assert_true(short_ones > 430 && short_ones < 570);
    assert_true(share_below(&info, 10 * MINUTE, 50 * MINUTE) < 50);
    assert_true(share_below(&info, 10 * MINUTE, 70 * MINUTE) > 900);
    /* Longer than all that was seen: it may be as long again. */
    assert_int_equal(share_below(&info, 1000 * HOUR, 1000 * HOUR), 0);
}

static void what_still_runs_counts_as_longer(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        learn(1, 0, 0, MINUTE);
    }
    forecast_model_make(&model, &learned, c.core, c.now_us);
    struct mr_workload_info info = ended(1, 0, 0, 0);
    uint32_t before = share_below(&info, 0, 5 * MINUTE);
    for (uint32_t i = 0; i < 8; i++) {
        uint64_t id = submit(&c, job(1, 1000));
        all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    }
    c.now_us += HOUR;
    forecast_model_make(&model, &learned, c.core, c.now_us);
    uint32_t after = share_below(&info, 0, 5 * MINUTE);
    assert_true(before > 850);
    assert_true(after < 600); /* of 16 that began, 8 have lasted for an hour */
}

static void nothing_known_is_said(void **state)
{
    (void)state;
    forecast_model_make(&model, &learned, c.core, c.now_us);
    struct mr_workload_info info = ended(1, 0, 0, 0);
    assert_true(forecast_draw_us(&model, &info, 0, 7) == UINT64_MAX);
    struct mr_workload_info limited = ended(1, 0, HOUR, 0), estimated = ended(1, HOUR, 0, 0);
    assert_true(share_below(&limited, 0, HOUR + MINUTE) > 700);
    uint32_t half = share_below(&estimated, 0, HOUR);
    assert_true(half > 300 && half < 700);
}

static void counts_stay_small_and_the_newest_win(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 30000; i++) {
        learn(1, HOUR, 0, HOUR / 8);
    }
    for (uint32_t i = 0; i < 12000; i++) {
        learn(1, HOUR, 0, HOUR);
    }
    const struct mr_forecast_row *row = &learned.rows[MR_FORECAST_ESTIMATE][0];
    uint32_t sum = 0;
    for (uint32_t i = 0; i < MR_FORECAST_BINS; i++) {
        sum += row->bins[i];
    }
    assert_int_equal(sum, row->count);
    assert_true(row->count <= FORECAST_HALVE);
    forecast_model_make(&model, &learned, c.core, c.now_us);
    struct mr_workload_info info = ended(1, HOUR, 0, 0);
    assert_true(share_below(&info, 0, HOUR / 2) < 100);
}

static void what_core_still_knows_can_be_learned_again(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 5; i++) {
        struct mr_event event = job(1, 1000);
        event.u.submit.estimate_us = HOUR;
        uint64_t id = submit(&c, event);
        all_leases(&c, id, MR_EVENT_LEASE_STARTED);
        mr_forecast_arrived(&learned, c.now_us, &event.u.submit);
        c.now_us += MINUTE * (i + 1);
        all_exit(&c, id, 0);
        struct mr_workload_info known = info(&c, id);
        mr_forecast_ended(&learned, &known);
    }
    static struct mr_forecast_learned again;
    memset(&again, 0, sizeof again);
    mr_forecast_known(&again, c.core);
    assert_memory_equal(&again, &learned, sizeof again);
    assert_int_equal(again.arrived, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bins_are_contiguous_and_ascend, setup, teardown),
        cmocka_unit_test_setup_teardown(draws_follow_what_has_ended, setup, teardown),
        cmocka_unit_test_setup_teardown(a_tenant_is_told_from_others_once_it_is_known, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_has_run_long_goes_on_longer, setup, teardown),
        cmocka_unit_test_setup_teardown(what_still_runs_counts_as_longer, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_known_is_said, setup, teardown),
        cmocka_unit_test_setup_teardown(counts_stay_small_and_the_newest_win, setup, teardown),
        cmocka_unit_test_setup_teardown(what_core_still_knows_can_be_learned_again, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
