/* SPDX-License-Identifier: Apache-2.0 */
/* What a change would do: pairs of futures of a small cloud. */
#include "forecast_test.h"

static struct mr_forecast_whatif answer;
static struct mr_forecast_shift shifts[8];

static int setup(void **state)
{
    (void)state;
    world_init(2, mr_forecast_whatif_bytes(&tiny_limits));
    punctual();
    return 0;
}

static uint64_t running(uint32_t tasks, uint64_t estimate_us)
{
    uint64_t id = submitted(tasks, estimate_us);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    return id;
}

static void ask(struct mr_event event)
{
    const struct mr_forecast_change change = {.options = {.seed = 1, .now_us = c.now_us},
                                              .event = event,
                                              .shifts = shifts,
                                              .shift_room = MR_COUNT_OF(shifts)};
    assert_int_equal(mr_forecast_whatif(c.core, &learned, &change, scratch, scratch_bytes, &answer),
                     0);
}

static void a_change_that_changes_nothing_shifts_nothing(void **state)
{
    (void)state;
    (void)running(8, HOUR);
    (void)submitted(4, HOUR);
    (void)submitted(8, HOUR);
    ask((struct mr_event){.kind = MR_EVENT_CANCEL, .u.cancel = {77}});
    assert_int_equal(answer.watched, 3);
    assert_int_equal(answer.changed, 0);
    assert_int_equal(answer.shift_count, 0);
    assert_int_equal(answer.guest.v, 0);
}

static void a_higher_class_pushes_back_those_behind_it(void **state)
{
    (void)state;
    (void)running(8, HOUR);
    uint64_t second = submitted(8, HOUR);
    struct mr_event event = estimated(8, 2 * HOUR);
    event.u.submit.priority = 1;
    ask(event);
    assert_int_equal(answer.error, 0);
    assert_int_equal(answer.guest.v, second + 1);
    assert_int_equal(answer.changed, 1);
    assert_int_equal(shifts[0].workload.v, second);
    assert_int_equal(shifts[0].later, answer.samples);
    assert_int_equal(shifts[0].earlier, 0);
    assert_in_range(shifts[0].middle_us, 2 * HOUR * 9 / 10, 2 * HOUR * 12 / 10);
    assert_in_range(answer.start.middle_us, c.now_us + HOUR * 9 / 10, c.now_us + HOUR * 12 / 10);
    assert_true(answer.end.middle_us > answer.start.middle_us + HOUR * 3 / 2);
    /* Behind them it shifts nobody. */
    event.u.submit.priority = 7;
    ask(event);
    assert_int_equal(answer.changed, 0);
}

static void who_is_stopped_is_named(void **state)
{
    (void)state;
    struct mr_event low = estimated(8, HOUR), high = estimated(8, HOUR);
    low.u.submit.preemptible = true;
    low.u.submit.priority = 7;
    uint64_t id = submit(&c, low);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    c.now_us += HOUR / 10;
    ask(high);
    assert_int_equal(answer.changed, 1);
    assert_int_equal(shifts[0].workload.v, id);
    assert_int_equal(shifts[0].stops_before, 0);
    assert_int_equal(shifts[0].stops_after, answer.samples);
    assert_int_equal(shifts[0].before.middle_us, info(&c, id).started_us);
    assert_true(shifts[0].after.middle_us > c.now_us + HOUR * 9 / 10);
}

static void a_lost_node_delays_what_ran_on_it(void **state)
{
    (void)state;
    uint64_t a = running(4, HOUR), b = running(4, HOUR);
    uint32_t node = lease_of(&c, b, 0).node.v;
    ask((struct mr_event){.kind = MR_EVENT_NODE_STATE,
                          .u.node_state = {.id = {node}, .state = MR_NODE_DOWN}});
    assert_int_equal(answer.changed, 1);
    assert_int_equal(shifts[0].workload.v, b);
    assert_int_equal(shifts[0].stops_after, answer.samples);
    assert_in_range(shifts[0].after.middle_us, c.now_us + HOUR * 9 / 10, c.now_us + HOUR * 12 / 10);
    (void)a;
}

static void a_larger_quota_starts_its_tenants_work_sooner(void **state)
{
    (void)state;
    tenant_set(&c, 2, 0, 4000);
    struct mr_event event = estimated(4, HOUR);
    event.u.submit.tenant.v = 2;
    uint64_t first = submit(&c, event), second = submit(&c, event);
    all_leases(&c, first, MR_EVENT_LEASE_STARTED);
    struct mr_event set = {.kind = MR_EVENT_TENANT_SET,
                           .u.tenant = {.id = {2},
                                        .weight = 1,
                                        .quota_cpu_milli = UINT64_MAX,
                                        .quota_mem_mib = UINT64_MAX,
                                        .quota_accel_milli = 8000,
                                        .running_max = UINT32_MAX}};
    ask(set);
    assert_int_equal(answer.changed, 1);
    assert_int_equal(shifts[0].workload.v, second);
    assert_int_equal(shifts[0].earlier, answer.samples);
    assert_int_equal(shifts[0].after.middle_us, c.now_us);
}

static void a_cancelled_one_makes_place_and_never_starts(void **state)
{
    (void)state;
    (void)running(8, HOUR);
    uint64_t second = submitted(8, HOUR), third = submitted(8, HOUR);
    ask((struct mr_event){.kind = MR_EVENT_CANCEL, .u.cancel = {second}});
    assert_int_equal(answer.changed, 2);
    assert_int_equal(shifts[0].workload.v, second);
    assert_int_equal(shifts[0].never_after, answer.samples);
    assert_int_equal(shifts[1].workload.v, third);
    assert_int_equal(shifts[1].earlier, answer.samples);
    assert_true(shifts[1].middle_us < 0);
}

static void a_reservation_pushes_back_who_would_overlap_it(void **state)
{
    (void)state;
    c.now_us = SECOND;
    (void)running(8, HOUR);
    uint64_t second = submitted(8, 3 * HOUR);
    struct mr_event like = job(1, 4000);
    ask((struct mr_event){.kind = MR_EVENT_RESERVE,
                          .u.reserve = {.tenant = {1},
                                        .shape = like.u.submit.shape,
                                        .tasks = 2,
                                        .begin_us = c.now_us + 3 * HOUR,
                                        .end_us = c.now_us + 4 * HOUR}});
    assert_int_equal(answer.error, 0);
    assert_int_equal(answer.start.low_us, c.now_us + 3 * HOUR);
    assert_int_equal(answer.end.high_us, c.now_us + 4 * HOUR);
    assert_int_equal(answer.changed, 1);
    assert_int_equal(shifts[0].workload.v, second);
    assert_in_range(shifts[0].after.low_us, c.now_us + 4 * HOUR, c.now_us + 4 * HOUR + MINUTE);
}

static void what_it_costs_is_its_rate_times_its_time(void **state)
{
    (void)state;
    cloud_step(&c,
               (struct mr_event){
                   .kind = MR_EVENT_PRICE_SET,
                   .u.price = {.sku = MR_SKU_ACCEL, .accel_type = GPU, .price_nusd = 1000000000}});
    ask(estimated(8, 2 * HOUR));
    /* Eight devices for about two hours at a dollar. */
    assert_in_range(answer.cost_nusd, 16000000000 * 9 / 10, 16000000000 * 12 / 10);
    assert_int_equal(answer.start.middle_us, c.now_us);
}

static void what_core_refuses_is_said(void **state)
{
    (void)state;
    struct mr_event event = estimated(1, HOUR);
    event.u.submit.tenant.v = 7;
    ask(event);
    assert_int_equal(answer.error, MR_ENOT_FOUND);
    assert_int_equal(answer.shift_count, 0);
}

static void equal_questions_have_equal_answers_and_leave_all_as_it_is(void **state)
{
    (void)state;
    (void)running(8, HOUR);
    (void)submitted(8, HOUR);
    uint64_t bytes = mr_hash64(c.block, c.bytes, 0);
    struct mr_event event = estimated(4, 2 * HOUR);
    event.u.submit.priority = 1;
    ask(event);
    struct mr_forecast_whatif first = answer;
    struct mr_forecast_shift shift = shifts[0];
    memset(scratch, 0xa5, scratch_bytes);
    ask(event);
    assert_memory_equal(&first, &answer, sizeof first);
    assert_memory_equal(&shift, &shifts[0], sizeof shift);
    assert_int_equal(mr_hash64(c.block, c.bytes, 0), bytes);
}

static void too_little_memory_and_no_change_are_refused(void **state)
{
    (void)state;
    struct mr_forecast_change change = {.event = {.kind = MR_EVENT_TICK}};
    assert_int_equal(mr_forecast_whatif(c.core, &learned, &change, scratch, scratch_bytes, &answer),
                     MR_EINVALID);
    change.event = estimated(1, HOUR);
    assert_int_equal(
        mr_forecast_whatif(c.core, &learned, &change, scratch, scratch_bytes - 1, &answer),
        MR_ENO_SPACE);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_change_that_changes_nothing_shifts_nothing),
        CASE(a_higher_class_pushes_back_those_behind_it),
        CASE(who_is_stopped_is_named),
        CASE(a_lost_node_delays_what_ran_on_it),
        CASE(a_larger_quota_starts_its_tenants_work_sooner),
        CASE(a_cancelled_one_makes_place_and_never_starts),
        CASE(a_reservation_pushes_back_who_would_overlap_it),
        CASE(what_it_costs_is_its_rate_times_its_time),
        CASE(what_core_refuses_is_said),
        CASE(equal_questions_have_equal_answers_and_leave_all_as_it_is),
        CASE(too_little_memory_and_no_change_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
