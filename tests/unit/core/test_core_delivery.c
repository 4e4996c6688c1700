/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes to come: nothing runs on them, what begins later may be promised them. */
#include "core/core_reserve.h"
#include "core_reserve_test.h"

#define DAY (24 * HOUR)

static void one_node(struct cloud *c)
{
    cloud_init(c, &tiny_limits);
    c->now_us = SECOND;
    tenant_set(c, 1, 0, UINT64_MAX);
    node_set(c, 1, 8);
}

static void expect_in(struct cloud *c, uint32_t id, uint64_t later_us, uint32_t domain)
{
    cloud_step(c, (struct mr_event){.kind = MR_EVENT_NODE_SET,
                                    .u.node = {.id = {id},
                                               .cpu_milli = 64000,
                                               .mem_mib = 262144,
                                               .accel_type = GPU,
                                               .accel_count = 8,
                                               .domain = domain,
                                               .from_us = c->now_us + later_us}});
}

static void expect(struct cloud *c, uint32_t id, uint64_t later_us)
{
    expect_in(c, id, later_us, 0);
}

static enum mr_node_state node_is(struct cloud *c, uint32_t id)
{
    struct mr_node_info info;
    assert_int_equal(mr_core_node(c->core, (struct mr_node_id){id}, &info), 0);
    return info.state;
}

static uint32_t deliveries(struct cloud *c, struct mr_delivery_info list[8])
{
    uint32_t cursor = 0, count = 0;
    while (count < 8 && mr_core_delivery_next(c->core, &cursor, &list[count]) == 0)
        count++;
    return count;
}

static void nothing_runs_on_what_has_not_come(void **state)
{
    (void)state;
    struct cloud c;
    one_node(&c);
    expect(&c, 2, DAY);
    uint64_t a = submit(&c, job(1, 8000)), b = submit(&c, job(1, 8000));
    all_leases(&c, a, MR_EVENT_LEASE_STARTED);
    assert_state(&c, b, MR_STATE_PENDING);
    assert_reason(&c, b, MR_REASON_RESOURCES);
    tick(&c, DAY); /* the day alone brings nothing */
    assert_state(&c, b, MR_STATE_PENDING);
    assert_int_equal(node_is(&c, 2), MR_NODE_EXPECTED);
    node_set(&c, 2, 8);
    assert_int_equal(node_is(&c, 2), MR_NODE_UP);
    assert_int_equal(lease_of(&c, b, 0).node.v, 2);
    cloud_done(&c);
}

static void a_ramp_is_listed_by_its_dates(void **state)
{
    (void)state;
    struct cloud c;
    struct mr_delivery_info list[8];
    one_node(&c);
    expect(&c, 4, 3 * DAY);
    expect(&c, 2, DAY);
    expect(&c, 3, DAY);
    expect(&c, 5, 2 * DAY);
    assert_int_equal(deliveries(&c, list), 3);
    assert_int_equal(list[0].nodes, 2);
    assert_int_equal(list[0].accel_milli, 16000);
    assert_int_equal(list[0].from_us, c.now_us + DAY);
    assert_int_equal(list[1].from_us, c.now_us + 2 * DAY);
    assert_int_equal(list[2].from_us, c.now_us + 3 * DAY);
    expect(&c, 4, DAY); /* it comes sooner */
    assert_int_equal(deliveries(&c, list), 2);
    assert_int_equal(list[0].nodes, 3);
    node_state(&c, 2, MR_NODE_ABSENT); /* and one not at all */
    assert_int_equal(deliveries(&c, list), 2);
    assert_int_equal(list[0].nodes, 2);
    assert_false(list[0].late);
    tick(&c, DAY);
    assert_int_equal(deliveries(&c, list), 2);
    assert_true(list[0].late);
    node_state(&c, 0, MR_NODE_UP); /* all that was due has come */
    assert_int_equal(deliveries(&c, list), 1);
    assert_int_equal(node_is(&c, 3), MR_NODE_UP);
    assert_int_equal(node_is(&c, 4), MR_NODE_UP);
    assert_int_equal(node_is(&c, 5), MR_NODE_EXPECTED);
    cloud_done(&c);
}

static void a_reservation_is_promised_what_comes_before_it(void **state)
{
    (void)state;
    struct cloud c;
    one_node(&c);
    expect(&c, 2, DAY);
    expect(&c, 3, DAY);
    assert_int_equal(reserve(&c, booking(3, 8000, HOUR, HOUR)), 0);
    assert_int_equal(c.effects[0].u.answer.reason.code, MR_REASON_NO_WINDOW);
    assert_int_equal(c.effects[0].u.answer.reason.a, c.now_us + DAY);
    uint64_t r = reserve(&c, booking(3, 8000, DAY, DAY));
    assert_int_not_equal(r, 0);
    assert_int_equal(reserve(&c, booking(1, 8000, DAY, DAY)), 0); /* they are taken */
    node_set(&c, 2, 8);
    node_set(&c, 3, 8);
    uint64_t m = submit(&c, of(job(3, 8000), r));
    uint64_t other = submit(&c, job(3, 8000));
    assert_reason(&c, other, MR_REASON_KEPT);
    tick(&c, DAY);
    assert_state(&c, r, MR_STATE_RUNNING);
    assert_int_equal(info(&c, m).lease_count, 3);
    cloud_done(&c);
}

static void what_comes_late_is_replaced_at_the_begin(void **state)
{
    (void)state;
    struct cloud c;
    one_node(&c);
    expect(&c, 2, HOUR);
    struct mr_event event = booking(2, 8000, DAY, DAY);
    uint64_t r = reserve(&c, event);
    assert_int_not_equal(r, 0);
    node_set(&c, 3, 8); /* nobody counted on it */
    tick(&c, DAY);
    assert_state(&c, r, MR_STATE_RUNNING);
    assert_int_equal(info(&c, r).tasks, 2);
    assert_int_equal(node_is(&c, 2), MR_NODE_EXPECTED);
    cloud_done(&c);
}

static void what_comes_late_and_has_no_other_is_looked_for(void **state)
{
    (void)state;
    struct cloud c;
    one_node(&c);
    expect(&c, 2, HOUR);
    uint64_t r = reserve(&c, booking(2, 8000, DAY, DAY));
    uint64_t m = submit(&c, of(job(2, 8000), r));
    tick(&c, DAY);
    assert_state(&c, r, MR_STATE_RUNNING);
    assert_int_equal(info(&c, r).tasks, 1);
    assert_state(&c, m, MR_STATE_PENDING);
    tick(&c, HOUR);
    node_set(&c, 2, 8);
    tick(&c, 60 * SECOND);
    assert_int_equal(info(&c, r).tasks, 2);
    tick(&c, 0);
    assert_int_equal(info(&c, m).lease_count, 2);
    cloud_done(&c);
}

static void what_is_late_is_not_counted_on(void **state)
{
    (void)state;
    struct cloud c;
    one_node(&c);
    expect(&c, 2, HOUR);
    tick(&c, 2 * HOUR);
    assert_int_equal(reserve(&c, booking(2, 8000, DAY, HOUR)), 0);
    expect(&c, 2, HOUR); /* a new date */
    assert_int_not_equal(reserve(&c, booking(2, 8000, DAY, HOUR)), 0);
    cloud_done(&c);
}

static void a_later_date_costs_what_began_before_it(void **state)
{
    (void)state;
    struct cloud c;
    one_node(&c);
    expect(&c, 2, HOUR);
    uint64_t early = reserve(&c, booking(2, 8000, 2 * HOUR, HOUR));
    uint64_t late = reserve(&c, booking(2, 8000, DAY, HOUR));
    expect(&c, 2, 12 * HOUR);
    tick(&c, 0);
    assert_int_equal(info(&c, early).tasks, 1);
    assert_int_equal(info(&c, late).tasks, 2);
    cloud_done(&c);
}

static void what_came_smaller_keeps_what_still_fits(void **state)
{
    (void)state;
    struct cloud c;
    one_node(&c);
    expect(&c, 2, HOUR);
    expect(&c, 3, HOUR);
    uint64_t r = reserve(&c, booking(3, 8000, DAY, HOUR));
    struct mr_event came = {.kind = MR_EVENT_NODE_SET,
                            .u.node = {.id = {2},
                                       .cpu_milli = 64000,
                                       .mem_mib = 250000, /* a little less than was said */
                                       .accel_type = GPU,
                                       .accel_count = 8}};
    cloud_step(&c, came);
    assert_int_equal(info(&c, r).tasks, 3);
    came.u.node.id.v = 3;
    came.u.node.accel_count = 4; /* that is another machine */
    cloud_step(&c, came);
    assert_int_equal(info(&c, r).tasks, 2);
    cloud_done(&c);
}

static void one_that_is_there_is_not_expected_again(void **state)
{
    (void)state;
    struct cloud c;
    one_node(&c);
    expect(&c, 1, DAY);
    assert_int_equal(node_is(&c, 1), MR_NODE_UP);
    expect(&c, 2, (uint64_t)1 << 60); /* nor one in the year 38,000 */
    assert_int_equal(mr_core_node(c.core, (struct mr_node_id){2}, &(struct mr_node_info){0}),
                     MR_ENOT_FOUND);
    node_state(&c, 1, MR_NODE_DOWN);
    expect(&c, 1, DAY);
    assert_int_equal(node_is(&c, 1), MR_NODE_DOWN);
    node_state(&c, 1, MR_NODE_EXPECTED); /* no state that is set */
    assert_int_equal(node_is(&c, 1), MR_NODE_DOWN);
    cloud_done(&c);
}

static void deliveries_beyond_the_table_are_refused(void **state)
{
    (void)state;
    struct cloud c;
    struct mr_delivery_info list[8];
    struct mr_core_limits limits = tiny_limits;
    limits.reservations = 2;
    cloud_init(&c, &limits);
    c.now_us = SECOND;
    expect(&c, 1, DAY);
    expect(&c, 2, 2 * DAY);
    expect(&c, 3, 3 * DAY); /* a third date */
    expect(&c, 4, 2 * DAY);
    assert_int_equal(deliveries(&c, list), 2);
    assert_int_equal(list[1].nodes, 2);
    cloud_done(&c);
}

static void why_names_the_delivery_that_is_enough(void **state)
{
    (void)state;
    struct cloud c;
    one_node(&c);
    expect(&c, 2, DAY);
    expect(&c, 3, 2 * DAY);
    uint64_t a = submit(&c, job(3, 8000));
    assert_reason(&c, a, MR_REASON_DELIVERY);
    assert_int_equal(info(&c, a).reason.a, c.now_us + 2 * DAY);
    assert_int_equal(info(&c, a).reason.b, 16000);
    assert_int_equal(info(&c, a).reason.c, 24000);
    uint64_t b = submit(&c, job(4, 8000)); /* not even then */
    assert_reason(&c, b, MR_REASON_RESOURCES);
    node_set(&c, 2, 8);
    node_set(&c, 3, 8);
    assert_int_equal(info(&c, a).lease_count, 3);
    cloud_done(&c);
}

static void a_term_ends_as_a_maintenance_begins(void **state)
{
    (void)state;
    struct cloud c;
    one_node(&c);
    for (uint32_t i = 2; i <= 4; i++)
        expect(&c, i, DAY);
    struct mr_event term = maintenance(2, 10 * DAY, (uint64_t)1 << 58);
    term.u.reserve.nodes = 3;
    uint64_t end = reserve(&c, term);
    assert_int_not_equal(end, 0);
    assert_int_equal(reserve(&c, booking(2, 8000, 9 * DAY, 2 * DAY)), 0); /* beyond the term */
    assert_int_not_equal(reserve(&c, booking(4, 8000, 8 * DAY, DAY)), 0);
    for (uint32_t i = 2; i <= 4; i++)
        node_set(&c, i, 8);
    tick(&c, 2 * DAY);
    uint64_t a = submit(&c, job(1, 8000));
    uint64_t b = submit(&c, service(1, 1, 8000));
    all_leases(&c, a, MR_EVENT_LEASE_STARTED);
    all_leases(&c, b, MR_EVENT_LEASE_STARTED);
    term = maintenance(4, DAY, DAY);
    term.u.reserve.nodes = 14; /* more than there are */
    assert_int_equal(reserve(&c, term), 0);
    cloud_done(&c);
}

static void a_maintenance_ends_with_the_last_of_its_nodes(void **state)
{
    (void)state;
    struct cloud c;
    struct mr_workload_info left;
    uint32_t cursor = 0;
    one_node(&c);
    for (uint32_t i = 2; i <= 3; i++)
        node_set(&c, i, 8);
    struct mr_event term = maintenance(2, DAY, (uint64_t)1 << 58);
    term.u.reserve.nodes = 2;
    uint64_t end = reserve(&c, term);
    tick(&c, 2 * DAY);
    assert_state(&c, end, MR_STATE_RUNNING);
    node_state(&c, 2, MR_NODE_ABSENT);
    tick(&c, 0);
    assert_state(&c, end, MR_STATE_RUNNING);
    node_state(&c, 3, MR_NODE_ABSENT); /* nothing would end it any more */
    tick(&c, 0);
    assert_state(&c, end, MR_STATE_COMPLETED);
    assert_int_equal(mr_core_reservation_next(c.core, &cursor, &left), MR_ENOT_FOUND);
    cloud_done(&c);
}

static void domains_that_come_are_booked_whole(void **state)
{
    (void)state;
    struct cloud c;
    one_node(&c);
    for (uint32_t i = 2; i <= 5; i++)
        expect_in(&c, i, DAY, 1 + i / 4); /* 2 and 3 in the first, 4 and 5 in the second */
    struct mr_event event = booking(2, 8000, DAY, DAY);
    event.u.reserve.topology = MR_TOPOLOGY_DOMAIN;
    uint64_t r = reserve(&c, event), q = reserve(&c, event);
    assert_int_not_equal(r, 0);
    assert_int_not_equal(q, 0);
    assert_int_equal(reserve(&c, event), 0);
    assert_int_not_equal(first_node(&c, r) / 4, first_node(&c, q) / 4);
    cloud_done(&c);
}

static void a_rack_that_fails_takes_nothing_that_has_not_come(void **state)
{
    (void)state;
    struct cloud c;
    one_node(&c);
    node_set_in(&c, 2, 8, 1, 0, 0);
    expect_in(&c, 3, DAY, 1);
    struct mr_event rack = {.kind = MR_EVENT_NODE_STATE,
                            .u.node_state = {.domain = 1, .state = MR_NODE_DOWN}};
    cloud_step(&c, rack);
    assert_int_equal(node_is(&c, 2), MR_NODE_DOWN);
    assert_int_equal(node_is(&c, 3), MR_NODE_EXPECTED);
    rack.u.node_state.state = MR_NODE_UP; /* the whole rack is there */
    cloud_step(&c, rack);
    assert_int_equal(node_is(&c, 2), MR_NODE_UP);
    assert_int_equal(node_is(&c, 3), MR_NODE_UP);
    cloud_done(&c);
}

static void what_is_expected_outlives_a_restart(void **state)
{
    (void)state;
    struct cloud c, to;
    one_node(&c);
    expect(&c, 2, DAY);
    expect(&c, 3, 2 * DAY);
    assert_int_not_equal(reserve(&c, booking(2, 8000, DAY, HOUR)), 0);
    cloud_load(&to, &c);
    assert_int_equal(node_is(&to, 3), MR_NODE_EXPECTED);
    node_set(&to, 2, 8);
    tick(&to, DAY);
    assert_int_equal(info(&to, 1).tasks, 2);
    cloud_done(&to);
    cloud_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_runs_on_what_has_not_come),
        cmocka_unit_test(a_ramp_is_listed_by_its_dates),
        cmocka_unit_test(a_reservation_is_promised_what_comes_before_it),
        cmocka_unit_test(what_comes_late_is_replaced_at_the_begin),
        cmocka_unit_test(what_comes_late_and_has_no_other_is_looked_for),
        cmocka_unit_test(what_is_late_is_not_counted_on),
        cmocka_unit_test(a_later_date_costs_what_began_before_it),
        cmocka_unit_test(what_came_smaller_keeps_what_still_fits),
        cmocka_unit_test(one_that_is_there_is_not_expected_again),
        cmocka_unit_test(deliveries_beyond_the_table_are_refused),
        cmocka_unit_test(why_names_the_delivery_that_is_enough),
        cmocka_unit_test(a_term_ends_as_a_maintenance_begins),
        cmocka_unit_test(a_maintenance_ends_with_the_last_of_its_nodes),
        cmocka_unit_test(domains_that_come_are_booked_whole),
        cmocka_unit_test(a_rack_that_fails_takes_nothing_that_has_not_come),
        cmocka_unit_test(what_is_expected_outlives_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
