/* SPDX-License-Identifier: Apache-2.0 */
/* Sums over time: what calendars, deliveries, expected ends and plans come to. */
#include "core/core_reserve.h"
#include "core_reserve_test.h"

#define STEPS 8u

static struct mr_timeline_step steps[STEPS];

static void look(struct cloud *c, uint8_t type)
{
    mr_core_timeline(c->core, type, c->now_us, HOUR, steps, STEPS);
    for (uint32_t i = 0; i < STEPS; i++) {
        const struct mr_timeline_step *s = &steps[i];
        assert_int_equal(s->time_us, c->now_us + i * HOUR);
        assert_int_equal(s->installed, s->maintenance + s->reserved + s->running + s->free);
    }
}

static void assert_steps(const char *what, size_t field, const uint32_t expected[STEPS])
{
    for (uint32_t i = 0; i < STEPS; i++) {
        uint64_t is = *(uint64_t *)(void *)((uint8_t *)&steps[i] + field);
        if (is != expected[i] * 1000u)
            fail_msg("%s at hour %u is %llu", what, i, (unsigned long long)is);
    }
}
#define ASSERT_STEPS(name, ...)                                                                    \
    assert_steps(#name, offsetof(struct mr_timeline_step, name), (const uint32_t[]){__VA_ARGS__})

static void two_nodes(struct cloud *c)
{
    struct mr_core_limits limits = tiny_limits;
    limits.planned = 4;
    cloud_init(c, &limits);
    c->now_us = SECOND;
    tenant_set(c, 1, 0, UINT64_MAX);
    node_set(c, 1, 8);
    node_set(c, 2, 8);
}

static void an_empty_fleet_is_free_for_ever(void **state)
{
    (void)state;
    struct cloud c;
    two_nodes(&c);
    look(&c, GPU);
    ASSERT_STEPS(free, 16, 16, 16, 16, 16, 16, 16, 16);
    look(&c, 0);
    ASSERT_STEPS(free, 128, 128, 128, 128, 128, 128, 128, 128);
    look(&c, GPU + 1);
    ASSERT_STEPS(installed, 0, 0, 0, 0, 0, 0, 0, 0);
    cloud_done(&c);
}

static void what_runs_leaves_at_its_expected_end(void **state)
{
    (void)state;
    struct cloud c;
    two_nodes(&c);
    struct mr_event a = job(4, 1000), b = service(1, 1, 2000);
    a.u.submit.estimate_us = 3 * HOUR / 2;
    all_leases(&c, submit(&c, a), MR_EVENT_LEASE_STARTED);
    all_leases(&c, submit(&c, b), MR_EVENT_LEASE_STARTED);
    look(&c, GPU);
    ASSERT_STEPS(running, 6, 6, 2, 2, 2, 2, 2, 2);
    look(&c, 0);
    ASSERT_STEPS(running, 5, 5, 1, 1, 1, 1, 1, 1);
    cloud_done(&c);
}

static void deliveries_reservations_and_terms_add_up(void **state)
{
    (void)state;
    struct cloud c;
    two_nodes(&c);
    cloud_step(&c, (struct mr_event){
                       .kind = MR_EVENT_NODE_SET,
                       .u.node = {{3}, 64000, 262144, GPU, 8, 0, 0, 0, c.now_us + 2 * HOUR}});
    assert_int_not_equal(reserve(&c, booking(3, 8000, 3 * HOUR, HOUR)), 0);
    struct mr_event term = maintenance(3, 6 * HOUR, (uint64_t)1 << 58);
    assert_int_not_equal(reserve(&c, term), 0);
    struct mr_event a = job(1, 8000);
    a.u.submit.preemptible = true; /* it goes when the reservation begins */
    all_leases(&c, submit(&c, a), MR_EVENT_LEASE_STARTED);
    look(&c, GPU);
    ASSERT_STEPS(installed, 16, 16, 24, 24, 24, 24, 24, 24);
    ASSERT_STEPS(reserved, 0, 0, 0, 24, 0, 0, 0, 0);
    ASSERT_STEPS(maintenance, 0, 0, 0, 0, 0, 0, 8, 8);
    ASSERT_STEPS(running, 8, 8, 8, 0, 0, 0, 0, 0);
    c.now_us += 3 * HOUR; /* the third has not come: it is not counted on */
    tick(&c, 0);
    look(&c, GPU);
    ASSERT_STEPS(installed, 16, 16, 16, 16, 16, 16, 16, 16);
    cloud_done(&c);
}

static void plans_of_jobs_with_deadlines_count_as_they_are(void **state)
{
    (void)state;
    struct cloud c;
    two_nodes(&c);
    struct mr_event a = job(1, 1000);
    a.u.submit.tasks_max = 8;
    a.u.submit.deadline_us = c.now_us + 4 * HOUR;
    a.u.submit.promise = true;
    a.u.submit.curve = (struct mr_curve){
        .work = 8 * 3600, .count = 2, .points = {{1, 1000000, 0}, {8, 8000000, 0}}};
    uint64_t id = submit(&c, a);
    tick(&c, 60 * SECOND);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    tick(&c, 60 * SECOND);
    look(&c, GPU);
    uint64_t planned = 0;
    for (uint32_t i = 0; i < STEPS; i++)
        planned += steps[i].running;
    assert_true(planned >= 1000);
    assert_int_equal(steps[5].running, 0); /* its deadline is past by then */
    cloud_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_fleet_is_free_for_ever),
        cmocka_unit_test(what_runs_leaves_at_its_expected_end),
        cmocka_unit_test(deliveries_reservations_and_terms_add_up),
        cmocka_unit_test(plans_of_jobs_with_deadlines_count_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
