/* SPDX-License-Identifier: Apache-2.0 */
/* When a workload starts: forks of a small cloud. */
#include "forecast_test.h"

static int setup(void **state)
{
    (void)state;
    world_init(1, mr_forecast_bytes(&tiny_limits));
    return 0;
}

static struct mr_forecast_answer ask(uint64_t id, uint64_t seed)
{
    struct mr_forecast_question question = {
        .options = {.seed = seed, .now_us = c.now_us}, .workload = {id}, .end = true};
    struct mr_forecast_answer answer;
    assert_int_equal(mr_forecast_when(c.core, &learned, &question, scratch, scratch_bytes, &answer),
                     0);
    return answer;
}

static void a_job_waits_for_the_one_that_runs(void **state)
{
    (void)state;
    punctual();
    uint64_t first = submitted(4, HOUR), second = submitted(4, 2 * HOUR);
    all_leases(&c, first, MR_EVENT_LEASE_STARTED);
    uint64_t begun_us = c.now_us;
    c.now_us += HOUR / 4;
    struct mr_forecast_answer a = ask(second, 1);
    assert_int_equal(a.samples, MR_FORECAST_SAMPLES);
    assert_int_equal(a.started, a.samples);
    assert_int_equal(a.cut, 0);
    assert_in_range(a.start.middle_us, begun_us + HOUR * 9 / 10, begun_us + HOUR * 12 / 10);
    assert_true(a.start.low_us <= a.start.middle_us && a.start.middle_us <= a.start.high_us);
    assert_in_range(a.end.middle_us, begun_us + HOUR * 27 / 10, begun_us + HOUR * 36 / 10);
    /* What runs already says when it did, and when it ends. */
    a = ask(first, 1);
    assert_int_equal(a.start.low_us, begun_us);
    assert_int_equal(a.start.high_us, begun_us);
    assert_in_range(a.end.middle_us, begun_us + HOUR * 9 / 10, begun_us + HOUR * 12 / 10);
}

static void the_live_block_is_untouched_bit_for_bit(void **state)
{
    (void)state;
    punctual();
    uint64_t first = submitted(3, HOUR), second = submitted(4, HOUR);
    all_leases(&c, first, MR_EVENT_LEASE_STARTED);
    uint64_t hash = mr_core_hash(c.core), bytes = mr_hash64(c.block, c.bytes, 0);
    (void)ask(second, 3);
    assert_int_equal(mr_core_hash(c.core), hash);
    assert_int_equal(mr_hash64(c.block, c.bytes, 0), bytes);
}

static void equal_questions_have_equal_answers(void **state)
{
    (void)state;
    uint64_t first = submitted(3, HOUR), second = submitted(4, HOUR);
    all_leases(&c, first, MR_EVENT_LEASE_STARTED);
    struct mr_forecast_answer a = ask(second, 3);
    memset(scratch, 0xa5, scratch_bytes);
    struct mr_forecast_answer b = ask(second, 3), other = ask(second, 4);
    assert_memory_equal(&a, &b, sizeof a);
    assert_int_not_equal(a.start.middle_us, other.start.middle_us);
}

static void unknown_lengths_give_no_time(void **state)
{
    (void)state;
    uint64_t first = submit(&c, job(4, 1000)), second = submit(&c, job(4, 1000));
    all_leases(&c, first, MR_EVENT_LEASE_STARTED);
    struct mr_forecast_answer a = ask(second, 1);
    assert_int_equal(a.unknown, 2);
    assert_int_equal(a.started, 0);
    assert_true(a.start.low_us == MR_FORECAST_NEVER);
}

static void a_gang_waits_for_the_delivery_that_is_enough(void **state)
{
    (void)state;
    punctual();
    struct mr_event node = {.kind = MR_EVENT_NODE_SET,
                            .u.node = {.id = {2},
                                       .cpu_milli = 64000,
                                       .mem_mib = 262144,
                                       .accel_type = GPU,
                                       .accel_count = 4,
                                       .from_us = 6 * HOUR}};
    cloud_step(&c, node);
    node.u.node.id.v = 3;
    node.u.node.from_us = 20 * HOUR;
    cloud_step(&c, node);
    uint64_t eight = submitted(8, HOUR), twelve = submitted(12, HOUR);
    struct mr_forecast_answer a = ask(eight, 1), b = ask(twelve, 1);
    assert_int_equal(a.start.middle_us, 6 * HOUR);
    assert_int_equal(b.start.middle_us, 20 * HOUR);
    assert_true(b.horizon_us > 30 * 24 * HOUR && b.horizon_us < 31 * 24 * HOUR);
    node.u.node.id.v = 4;
    node.u.node.from_us = 60 * 24 * HOUR; /* so far it looks for whom that is enough */
    cloud_step(&c, node);
    struct mr_forecast_answer late = ask(submitted(16, HOUR), 1);
    assert_int_equal(late.start.middle_us, 60 * 24 * HOUR);
    c.now_us = 7 * HOUR; /* it is late: it comes with the next, for all that is known */
    tick(&c, 0);
    a = ask(eight, 1);
    assert_int_equal(a.start.middle_us, 20 * HOUR);
}

static void a_limit_bounds_the_wait(void **state)
{
    (void)state;
    struct mr_event event = job(4, 1000);
    event.u.submit.time_limit_us = HOUR;
    event.u.submit.grace_us = 0;
    uint64_t first = submit(&c, event), second = submit(&c, event);
    all_leases(&c, first, MR_EVENT_LEASE_STARTED);
    uint64_t begun_us = c.now_us;
    c.now_us += HOUR / 2;
    struct mr_forecast_answer a = ask(second, 1);
    assert_int_equal(a.started, a.samples);
    assert_true(a.start.low_us >= c.now_us);
    assert_true(a.raw.high_us <= begun_us + HOUR);
    assert_true(a.start.high_us >= a.raw.high_us); /* how wrong such are is not known yet */
}

static void others_who_will_submit_are_counted_with(void **state)
{
    (void)state;
    punctual();
    struct mr_event urgent = job(4, 1000);
    urgent.u.submit.estimate_us = HOUR;
    urgent.u.submit.priority = 0;
    /* Somebody more important comes twice an hour: they take all of the cloud. */
    for (uint64_t i = 1; i <= 60; i++) {
        mr_forecast_arrived(&learned, i * HOUR / 2, &urgent.u.submit);
    }
    c.now_us = 30 * HOUR;
    uint64_t first = submitted(4, HOUR);
    all_leases(&c, first, MR_EVENT_LEASE_STARTED);
    uint64_t mine = submitted(4, 10 * HOUR);
    struct mr_forecast_question question = {.options = {.seed = 1, .now_us = c.now_us},
                                            .workload = {mine}};
    struct mr_forecast_answer with, without;
    assert_int_equal(mr_forecast_when(c.core, &learned, &question, scratch, scratch_bytes, &with),
                     0);
    question.options.no_arrivals = true;
    assert_int_equal(
        mr_forecast_when(c.core, &learned, &question, scratch, scratch_bytes, &without), 0);
    assert_true(with.start.high_us > without.start.high_us + HOUR);
}

static void bounds_are_kept_and_told(void **state)
{
    (void)state;
    punctual();
    uint64_t first = submitted(4, HOUR), second = submitted(4, HOUR);
    all_leases(&c, first, MR_EVENT_LEASE_STARTED);
    struct mr_forecast_question question = {.options = {.seed = 1, .steps_max = 1},
                                            .workload = {second}};
    struct mr_forecast_answer a;
    assert_int_equal(mr_forecast_when(c.core, &learned, &question, scratch, scratch_bytes, &a), 0);
    assert_int_equal(a.cut, a.samples);
    assert_int_equal(a.started, 0);
    question.options = (struct mr_forecast_options){.seed = 1, .horizon_us = MINUTE};
    assert_int_equal(mr_forecast_when(c.core, &learned, &question, scratch, scratch_bytes, &a), 0);
    assert_int_equal(a.cut, 0);
    assert_true(a.start.low_us == MR_FORECAST_NEVER);
    question.options = (struct mr_forecast_options){.samples = 100000};
    assert_int_equal(mr_forecast_when(c.core, &learned, &question, scratch, scratch_bytes, &a), 0);
    assert_int_equal(a.samples, MR_FORECAST_SAMPLES_MAX);
}

static void wrong_questions_are_refused(void **state)
{
    (void)state;
    struct mr_forecast_question question = {.workload = {77}};
    struct mr_forecast_answer a;
    assert_int_equal(mr_forecast_when(c.core, &learned, &question, scratch, scratch_bytes, &a),
                     MR_ENOT_FOUND);
    question.workload.v = submitted(1, HOUR);
    assert_int_equal(mr_forecast_when(c.core, &learned, &question, scratch, scratch_bytes - 64, &a),
                     MR_ENO_SPACE);
    all_leases(&c, question.workload.v, MR_EVENT_LEASE_STARTED);
    all_exit(&c, question.workload.v, 0);
    assert_int_equal(mr_forecast_when(c.core, &learned, &question, scratch, scratch_bytes, &a),
                     MR_ESTATE);
    const struct mr_core_limits absurd = {.nodes = 0};
    assert_int_equal(mr_forecast_bytes(&absurd), 0);
}

/* Quantiles: of 40 samples the second and the last but one, which hold 90 % of what is to come. */
static void the_band_is_of_ninety_per_cent(void **state)
{
    (void)state;
    uint64_t values[MR_FORECAST_SAMPLES];
    struct mr_forecast_band band;
    for (uint32_t i = 0; i < MR_FORECAST_SAMPLES; i++) {
        values[i] = (i * 7u) % MR_FORECAST_SAMPLES;
    }
    forecast_band_of(values, MR_FORECAST_SAMPLES, &band);
    assert_int_equal(band.low_us, 1);
    assert_int_equal(band.middle_us, 20);
    assert_int_equal(band.high_us, 38);
    forecast_band_of(values, 1, &band);
    assert_int_equal(band.low_us, band.high_us);
}

/* Twenty forecasts of an hour that came after four hours. */
static void bands_grow_by_what_earlier_ones_were_wrong_by(void **state)
{
    (void)state;
    const uint64_t now_us = 1000 * HOUR;
    memset(&learned, 0, sizeof learned);
    const struct mr_forecast_band raw = {now_us + HOUR / 2, now_us + HOUR, now_us + HOUR};
    struct mr_forecast_band band = raw, first;
    struct mr_forecast_band never = {MR_FORECAST_NEVER, MR_FORECAST_NEVER, MR_FORECAST_NEVER};
    forecast_widen(&learned, now_us, &band);
    first = band;
    assert_in_range(band.high_us, now_us + HOUR * 14 / 10, now_us + HOUR * 18 / 10);
    for (uint32_t i = 0; i < 20; i++)
        mr_forecast_scored(&learned, now_us, &raw, now_us + 4 * HOUR);
    band = raw;
    forecast_widen(&learned, now_us, &band);
    assert_in_range(band.high_us, now_us + 4 * HOUR, now_us + 5 * HOUR);
    assert_in_range(band.low_us, now_us + HOUR / 16, now_us + HOUR / 6);
    assert_true(band.low_us < first.low_us);
    /* Right ones push the wrong ones out, but no band becomes narrower than its futures. */
    for (uint32_t i = 0; i < MR_FORECAST_SCORES; i++)
        mr_forecast_scored(&learned, now_us, &raw, now_us + HOUR * 3 / 4);
    band = raw;
    forecast_widen(&learned, now_us, &band);
    assert_true(band.low_us <= raw.low_us && band.high_us >= raw.high_us);
    assert_true(band.high_us < first.high_us);
    forecast_widen(&learned, now_us, &never);
    assert_true(never.low_us == MR_FORECAST_NEVER && never.high_us == MR_FORECAST_NEVER);
    mr_forecast_scored(&learned, now_us, &never, now_us + HOUR); /* it came after all */
    forecast_widen(&learned, now_us, &band);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_job_waits_for_the_one_that_runs),
        CASE(the_live_block_is_untouched_bit_for_bit),
        CASE(equal_questions_have_equal_answers),
        CASE(unknown_lengths_give_no_time),
        CASE(a_gang_waits_for_the_delivery_that_is_enough),
        CASE(a_limit_bounds_the_wait),
        CASE(others_who_will_submit_are_counted_with),
        CASE(bounds_are_kept_and_told),
        CASE(wrong_questions_are_refused),
        CASE(the_band_is_of_ninety_per_cent),
        CASE(bands_grow_by_what_earlier_ones_were_wrong_by),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
