/* SPDX-License-Identifier: Apache-2.0 */
/* Reservations and maintenance: what is booked is there in its time, for its members alone. */
#include "core/core_reserve.h"
#include "core_reserve_test.h"

static void four_nodes(struct cloud *c)
{
    cloud_init(c, &tiny_limits);
    c->now_us = SECOND; /* times are whole seconds */
    tenant_set(c, 1, 0, UINT64_MAX);
    for (uint32_t i = 1; i <= 4; i++)
        node_set(c, i, 8);
}

static void run(struct cloud *c, uint64_t workload)
{
    all_leases(c, workload, MR_EVENT_LEASE_STARTED);
}

static uint32_t closed_nodes(struct cloud *c)
{
    uint32_t count = 0;
    for (uint32_t i = 1; i <= 16; i++) {
        struct mr_node_info node;
        if (mr_core_node(c->core, (struct mr_node_id){i}, &node) == 0)
            count += node.reserved.v != 0;
    }
    return count;
}

/* --- booking --------------------------------------------------------------------------------- */

static void a_reservation_has_its_nodes_at_its_begin(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    uint64_t r = reserve(&c, booking(2, 8000, HOUR, HOUR));
    assert_int_not_equal(r, 0);
    assert_state(&c, r, MR_STATE_PENDING);
    assert_int_equal(info(&c, r).tasks, 2);
    tick(&c, HOUR);
    assert_state(&c, r, MR_STATE_RUNNING);
    assert_int_equal(closed_nodes(&c), 2);
    tick(&c, HOUR);
    assert_state(&c, r, MR_STATE_COMPLETED);
    assert_int_equal(closed_nodes(&c), 0);
    cloud_done(&c);
}

static void what_cannot_be_kept_is_not_promised(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    run(&c, submit(&c, job(1, 8000))); /* without an end, and may not be stopped */
    assert_int_equal(reserve(&c, booking(4, 8000, HOUR, HOUR)), 0);
    assert_int_equal(c.effects[0].u.answer.error, MR_EUNAVAILABLE);
    assert_int_equal(c.effects[0].u.answer.reason.code, MR_REASON_NO_WINDOW);
    assert_int_equal(c.effects[0].u.answer.reason.a, 0);
    assert_int_not_equal(reserve(&c, booking(3, 8000, HOUR, HOUR)), 0);
    cloud_done(&c);
}

static void a_refusal_says_from_when_on_it_would_fit(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    uint64_t begin_us = c.now_us + HOUR;
    assert_int_not_equal(reserve(&c, booking(3, 8000, HOUR, 2 * HOUR)), 0);
    assert_int_equal(reserve(&c, booking(2, 8000, HOUR, HOUR)), 0);
    assert_int_equal(c.effects[0].u.answer.reason.a, begin_us + 2 * HOUR);
    assert_int_not_equal(reserve(&c, booking(2, 8000, 3 * HOUR, HOUR)), 0);
    cloud_done(&c);
}

static void reservations_share_nodes_at_different_times(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    uint64_t late = reserve(&c, booking(4, 8000, 3 * HOUR, HOUR));
    uint64_t early = reserve(&c, booking(4, 8000, HOUR, HOUR));
    assert_int_not_equal(late, 0);
    assert_int_not_equal(early, 0);
    assert_int_equal(reserve(&c, booking(1, 8000, 90 * MINUTE, 10 * MINUTE)), 0);
    assert_int_not_equal(reserve(&c, booking(4, 8000, 2 * HOUR, HOUR)), 0);
    tick(&c, HOUR);
    assert_state(&c, early, MR_STATE_RUNNING);
    tick(&c, 2 * HOUR);
    assert_state(&c, early, MR_STATE_COMPLETED);
    assert_state(&c, late, MR_STATE_RUNNING);
    cloud_done(&c);
}

static void a_repeated_key_books_once(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    struct mr_event event = booking(1, 8000, HOUR, HOUR);
    event.u.reserve.key_low = 7;
    uint64_t first = reserve(&c, event);
    assert_int_equal(reserve(&c, event), first);
    assert_true(c.effects[0].u.answer.known);
    cloud_done(&c);
}

static void nonsense_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    struct mr_event event = booking(1, 8000, HOUR, HOUR);
    event.u.reserve.end_us = event.u.reserve.begin_us;
    assert_int_equal(reserve(&c, event), 0);
    event = booking(0, 8000, HOUR, HOUR);
    assert_int_equal(reserve(&c, event), 0);
    event = booking(1, 8500, HOUR, HOUR);
    assert_int_equal(reserve(&c, event), 0);
    event = booking(1, 8000, HOUR, HOUR);
    event.u.reserve.tenant.v = 5;
    assert_int_equal(reserve(&c, event), 0);
    assert_int_equal(c.effects[0].u.answer.error, MR_ENOT_FOUND);
    event = maintenance(17, HOUR, HOUR);
    assert_int_equal(reserve(&c, event), 0);
    event = maintenance(1, HOUR, HOUR);
    event.u.reserve.domain = 1;
    assert_int_equal(reserve(&c, event), 0);
    assert_int_equal(c.core->tables[CORE_RESERVED].live, 0);
    assert_int_equal(c.core->tables[CORE_WINDOWS].live, 0);
    cloud_done(&c);
}

static void a_topology_holds_for_its_nodes(void **state)
{
    (void)state;
    struct cloud c;
    cloud_init(&c, &tiny_limits);
    c.now_us = SECOND;
    tenant_set(&c, 1, 0, UINT64_MAX);
    for (uint32_t i = 1; i <= 6; i++)
        node_set_in(&c, i, 8, 1 + (i - 1) / 3, 0, 0);
    run(&c, submit(&c, job(1, 8000)));
    struct mr_event event = booking(3, 8000, HOUR, HOUR);
    event.u.reserve.topology = MR_TOPOLOGY_DOMAIN;
    uint64_t r = reserve(&c, event);
    assert_int_not_equal(r, 0);
    struct mr_window_info window;
    uint32_t cursor = 0, domain = 0, count = 0;
    while (mr_core_window_next(c.core, (struct mr_workload_id){r}, (struct mr_node_id){0}, &cursor,
                               &window) == 0) {
        struct mr_node_info node;
        assert_int_equal(mr_core_node(c.core, window.node, &node), 0);
        if (domain != 0) assert_int_equal(node.node.domain, domain);
        domain = node.node.domain;
        count++;
    }
    assert_int_equal(count, 3);
    assert_int_equal(reserve(&c, event), 0); /* the other domain has two nodes left */
    cloud_done(&c);
}

/* --- others ---------------------------------------------------------------------------------- */

static void who_has_ended_by_then_may_run_there(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    assert_int_not_equal(reserve(&c, booking(4, 8000, HOUR, HOUR)), 0);
    uint64_t endless = submit(&c, job(1, 8000));
    assert_state(&c, endless, MR_STATE_PENDING);
    assert_reason(&c, endless, MR_REASON_KEPT);
    struct mr_event event = job(1, 8000);
    event.u.submit.time_limit_us = HOUR - 10 * SECOND; /* and its grace is ten seconds */
    uint64_t just = submit(&c, event);
    assert_state(&c, just, MR_STATE_RUNNING);
    event.u.submit.time_limit_us = HOUR - 9 * SECOND;
    assert_state(&c, submit(&c, event), MR_STATE_PENDING);
    cloud_done(&c);
}

static void who_may_be_stopped_runs_there_and_goes_in_time(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    uint64_t r = reserve(&c, booking(4, 8000, HOUR, HOUR));
    struct mr_event event = job(4, 8000);
    event.u.submit.preemptible = true;
    uint64_t guest = submit(&c, event);
    assert_state(&c, guest, MR_STATE_RUNNING);
    tick(&c, HOUR - 11 * SECOND);
    assert_state(&c, guest, MR_STATE_RUNNING);
    tick(&c, SECOND);
    assert_state(&c, guest, MR_STATE_COMPLETING);
    all_exit(&c, guest, MR_EXIT_CODE_REQUEUE);
    assert_state(&c, guest, MR_STATE_PENDING);
    tick(&c, 10 * SECOND);
    assert_state(&c, r, MR_STATE_RUNNING);
    assert_state(&c, guest, MR_STATE_PENDING);
    tick(&c, HOUR);
    assert_state(&c, guest, MR_STATE_RUNNING);
    cloud_done(&c);
}

static void who_outstays_its_estimate_makes_way(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    struct mr_event event = job(4, 8000);
    event.u.submit.estimate_us = 30 * MINUTE;
    uint64_t guest = submit(&c, event);
    uint64_t r = reserve(&c, booking(4, 8000, HOUR, HOUR));
    assert_int_not_equal(r, 0);
    tick(&c, HOUR);
    assert_state(&c, r, MR_STATE_RUNNING);
    assert_state(&c, guest, MR_STATE_COMPLETING);
    cloud_done(&c);
}

static void what_was_there_before_and_cannot_go_stays(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    uint64_t old = submit(&c, job(4, 4000)); /* on two nodes */
    uint64_t r = reserve(&c, booking(4, 4000, HOUR, HOUR));
    assert_int_not_equal(r, 0);
    tick(&c, HOUR);
    assert_state(&c, r, MR_STATE_RUNNING);
    assert_state(&c, old, MR_STATE_RUNNING);
    uint64_t member = submit(&c, of(job(4, 4000), r));
    assert_state(&c, member, MR_STATE_RUNNING);
    cloud_done(&c);
}

static void what_ends_too_late_and_cannot_go_stays(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    struct mr_event event = job(4, 4000);
    event.u.submit.time_limit_us = 10 * HOUR;
    uint64_t old = submit(&c, event);
    assert_int_equal(reserve(&c, booking(4, 8000, HOUR, HOUR)), 0);
    uint64_t r = reserve(&c, booking(4, 4000, HOUR, HOUR));
    assert_int_not_equal(r, 0);
    tick(&c, HOUR);
    assert_state(&c, r, MR_STATE_RUNNING);
    assert_state(&c, old, MR_STATE_RUNNING);
    cloud_done(&c);
}

static void nobody_else_is_placed_on_its_nodes(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    uint64_t r = reserve(&c, booking(4, 8000, 0, HOUR));
    assert_state(&c, r, MR_STATE_RUNNING);
    struct mr_event event = job(1, 1000);
    event.u.submit.preemptible = true;
    event.u.submit.time_limit_us = MINUTE;
    event.u.submit.priority = 0;
    uint64_t other = submit(&c, event);
    assert_state(&c, other, MR_STATE_PENDING);
    assert_state(&c, submit(&c, of(job(1, 1000), r)), MR_STATE_RUNNING);
    cancel(&c, r);
    assert_state(&c, r, MR_STATE_CANCELLED);
    assert_state(&c, other, MR_STATE_RUNNING);
    cloud_done(&c);
}

/* --- members --------------------------------------------------------------------------------- */

static void members_wait_for_it_and_start_with_it(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    uint64_t r = reserve(&c, booking(2, 8000, HOUR, HOUR));
    uint64_t gang = submit(&c, of(job(2, 8000), r));
    uint64_t replicas = submit(&c, of(service(1, 1, 1000), r));
    assert_state(&c, gang, MR_STATE_PENDING);
    assert_reason(&c, gang, MR_REASON_NOT_YET);
    tick(&c, HOUR);
    assert_state(&c, gang, MR_STATE_RUNNING);
    assert_state(&c, replicas, MR_STATE_PENDING); /* the gang has all devices */
    assert_reason(&c, replicas, MR_REASON_RESOURCES);
    all_exit(&c, gang, 0);
    assert_state(&c, replicas, MR_STATE_RUNNING);
    assert_int_equal(info(&c, replicas).reservation.v, r);
    cloud_done(&c);
}

static void at_its_end_members_go_and_go_on_elsewhere(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    uint64_t r = reserve(&c, booking(2, 8000, 0, HOUR));
    uint64_t gang = submit(&c, of(job(2, 8000), r));
    uint64_t waits = submit(&c, of(job(2, 8000), r));
    assert_state(&c, gang, MR_STATE_RUNNING);
    assert_state(&c, waits, MR_STATE_PENDING);
    tick(&c, HOUR - 10 * SECOND);
    assert_state(&c, gang, MR_STATE_COMPLETING);
    all_exit(&c, gang, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(info(&c, gang).reservation.v, 0);
    assert_state(&c, gang, MR_STATE_RUNNING); /* on the nodes that were never reserved */
    tick(&c, 10 * SECOND);
    assert_state(&c, r, MR_STATE_COMPLETED);
    assert_state(&c, waits, MR_STATE_RUNNING);
    cloud_done(&c);
}

static void only_its_tenant_and_those_below_may_name_it(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    tenant_set(&c, 2, 1, UINT64_MAX);
    tenant_set(&c, 3, 0, UINT64_MAX);
    uint64_t r = reserve(&c, booking(2, 8000, 0, HOUR));
    struct mr_event event = of(job(1, 1000), r);
    event.u.submit.tenant.v = 2;
    assert_state(&c, submit(&c, event), MR_STATE_RUNNING);
    event.u.submit.tenant.v = 3;
    assert_int_equal(submit(&c, event), 0);
    assert_int_equal(c.effects[0].u.answer.error, MR_EFORBIDDEN);
    assert_int_equal(submit(&c, of(job(1, 1000), r + 100)), 0);
    assert_int_equal(c.effects[0].u.answer.error, MR_ENOT_FOUND);
    cancel(&c, r);
    assert_int_equal(submit(&c, of(job(1, 1000), r)), 0);
    assert_int_equal(c.effects[0].u.answer.error, MR_ESTATE);
    cloud_done(&c);
}

static void members_of_a_cancelled_one_are_ordinary_work(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    uint64_t r = reserve(&c, booking(2, 8000, HOUR, HOUR));
    uint64_t gang = submit(&c, of(job(2, 8000), r));
    cancel(&c, r);
    assert_state(&c, gang, MR_STATE_RUNNING);
    r = reserve(&c, booking(2, 8000, 0, HOUR));
    uint64_t other = submit(&c, of(job(2, 8000), r));
    cancel(&c, r);
    assert_state(&c, other, MR_STATE_RUNNING); /* it is not stopped for that */
    cloud_done(&c);
}

/* --- losses ---------------------------------------------------------------------------------- */

static void a_lost_node_is_replaced(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    uint64_t r = reserve(&c, booking(2, 8000, HOUR, HOUR));
    uint32_t node = first_node(&c, r);
    node_state(&c, node, MR_NODE_DOWN);
    assert_int_equal(info(&c, r).tasks, 2);
    assert_int_not_equal(first_node(&c, r), node);
    tick(&c, HOUR);
    node_state(&c, first_node(&c, r), MR_NODE_DOWN);
    tick(&c, 0);
    assert_int_equal(info(&c, r).tasks, 2);
    assert_int_equal(closed_nodes(&c), 2);
    node_state(&c, first_node(&c, r), MR_NODE_DOWN);
    tick(&c, 0);
    assert_int_equal(info(&c, r).tasks, 1); /* there is no other */
    node_state(&c, node, MR_NODE_UP);
    tick(&c, MINUTE);
    assert_int_equal(info(&c, r).tasks, 2);
    cloud_done(&c);
}

/* --- maintenance ----------------------------------------------------------------------------- */

static void maintenance_clears_a_node_and_gives_it_back(void **state)
{
    (void)state;
    struct cloud c;
    cloud_init(&c, &tiny_limits);
    c.now_us = SECOND;
    tenant_set(&c, 1, 0, UINT64_MAX);
    node_set(&c, 1, 8);
    uint64_t old = submit(&c, job(1, 8000)); /* without an end: it is asked to go all the same */
    uint64_t m = reserve(&c, maintenance(1, HOUR, HOUR));
    assert_int_not_equal(m, 0);
    assert_true(info(&c, m).maintenance);
    tick(&c, HOUR - 10 * SECOND);
    assert_state(&c, old, MR_STATE_COMPLETING);
    all_exit(&c, old, MR_EXIT_CODE_REQUEUE);
    tick(&c, 10 * SECOND);
    assert_state(&c, m, MR_STATE_RUNNING);
    assert_state(&c, old, MR_STATE_PENDING);
    node_state(&c, 1, MR_NODE_DOWN);
    node_state(&c, 1, MR_NODE_UP); /* before the time is over */
    assert_state(&c, old, MR_STATE_PENDING);
    tick(&c, HOUR);
    assert_state(&c, m, MR_STATE_COMPLETED);
    assert_state(&c, old, MR_STATE_RUNNING);
    cloud_done(&c);
}

static void maintenance_binds_placement_a_week_before(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    for (uint32_t node = 1; node <= 4; node++)
        assert_int_not_equal(reserve(&c, maintenance(node, 200 * HOUR, HOUR)), 0);
    uint64_t before = submit(&c, job(1, 8000));
    assert_state(&c, before, MR_STATE_RUNNING);
    tick(&c, 32 * HOUR);
    assert_state(&c, submit(&c, job(1, 8000)), MR_STATE_PENDING);
    assert_int_equal(reserve(&c, booking(1, 8000, 167 * HOUR, 2 * HOUR)), 0);
    assert_int_equal(reserve(&c, maintenance(1, 168 * HOUR, HOUR)), 0);
    assert_int_equal(c.effects[0].u.answer.error, MR_ESTATE);
    cloud_done(&c);
}

static void maintenance_takes_a_whole_domain(void **state)
{
    (void)state;
    struct cloud c;
    cloud_init(&c, &tiny_limits);
    c.now_us = SECOND;
    tenant_set(&c, 1, 0, UINT64_MAX);
    for (uint32_t i = 1; i <= 6; i++)
        node_set_in(&c, i, 8, 1 + (i - 1) / 3, 0, 0);
    struct mr_event event = maintenance(0, 0, HOUR);
    event.u.reserve.domain = 2;
    assert_int_not_equal(reserve(&c, event), 0);
    assert_int_equal(closed_nodes(&c), 3);
    cloud_done(&c);
}

/* --- money ----------------------------------------------------------------------------------- */

static void what_is_reserved_and_not_used_is_billed(void **state)
{
    (void)state;
    struct cloud c;
    four_nodes(&c);
    cloud_step(&c,
               (struct mr_event){
                   .kind = MR_EVENT_PRICE_SET,
                   .u.price = {.sku = MR_SKU_ACCEL, .accel_type = GPU, .price_nusd = 1000000000}});
    uint64_t r = reserve(&c, booking(2, 8000, HOUR, 4 * HOUR));
    tick(&c, HOUR);
    assert_int_equal(c.charged, 0);
    uint64_t gang = submit(&c, of(job(1, 8000), r));
    run(&c, gang);
    tick(&c, HOUR);
    tick(&c, 30 * MINUTE);
    all_exit(&c, gang, 0);
    tick(&c, 150 * MINUTE);
    assert_state(&c, r, MR_STATE_COMPLETED);
    /* Sixteen devices for four hours, a dollar each, whoever used them. */
    assert_in_range(c.charged, 63999999900, 64000000000);
    int64_t own = 0;
    struct mr_bill_line line;
    for (uint64_t cursor = 0; mr_core_bill_next(c.core, c.now_us, &cursor, &line) == 0;)
        if (line.workload.v == r) own += line.charge_nusd;
    assert_in_range(own, 51999999900, 52000000000); /* less eight for an hour and a half */
    cloud_done(&c);
}

static void what_is_promised_by_deadline_counts_what_is_reserved(void **state)
{
    (void)state;
    struct mr_core_limits limits = tiny_limits;
    struct cloud c;
    limits.planned = 8;
    cloud_init(&c, &limits);
    c.now_us = SECOND;
    tenant_set(&c, 1, 0, UINT64_MAX);
    for (uint32_t i = 1; i <= 4; i++)
        node_set(&c, i, 8);
    assert_int_not_equal(reserve(&c, booking(3, 8000, MINUTE, 2 * HOUR)), 0);
    struct mr_event event = job(1, 8000);
    event.u.submit.tasks_max = 4;
    event.u.submit.deadline_us = c.now_us + HOUR;
    event.u.submit.promise = true;
    event.u.submit.curve =
        (struct mr_curve){.work = 3600, .count = 2, .points = {{1, 500000, 0}, {4, 2000000, 0}}};
    uint64_t large = submit(&c, event); /* wants four nodes for half an hour */
    tick(&c, MINUTE);
    assert_false(info(&c, large).promised);
    event.u.submit.curve.work = 1200;
    uint64_t small = submit(&c, event); /* one node for forty minutes */
    tick(&c, MINUTE);
    assert_true(info(&c, small).promised);
    cloud_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reservation_has_its_nodes_at_its_begin),
        cmocka_unit_test(what_cannot_be_kept_is_not_promised),
        cmocka_unit_test(a_refusal_says_from_when_on_it_would_fit),
        cmocka_unit_test(reservations_share_nodes_at_different_times),
        cmocka_unit_test(a_repeated_key_books_once),
        cmocka_unit_test(nonsense_is_refused_and_changes_nothing),
        cmocka_unit_test(a_topology_holds_for_its_nodes),
        cmocka_unit_test(who_has_ended_by_then_may_run_there),
        cmocka_unit_test(who_may_be_stopped_runs_there_and_goes_in_time),
        cmocka_unit_test(who_outstays_its_estimate_makes_way),
        cmocka_unit_test(what_was_there_before_and_cannot_go_stays),
        cmocka_unit_test(what_ends_too_late_and_cannot_go_stays),
        cmocka_unit_test(nobody_else_is_placed_on_its_nodes),
        cmocka_unit_test(members_wait_for_it_and_start_with_it),
        cmocka_unit_test(at_its_end_members_go_and_go_on_elsewhere),
        cmocka_unit_test(only_its_tenant_and_those_below_may_name_it),
        cmocka_unit_test(members_of_a_cancelled_one_are_ordinary_work),
        cmocka_unit_test(a_lost_node_is_replaced),
        cmocka_unit_test(maintenance_clears_a_node_and_gives_it_back),
        cmocka_unit_test(maintenance_binds_placement_a_week_before),
        cmocka_unit_test(maintenance_takes_a_whole_domain),
        cmocka_unit_test(what_is_reserved_and_not_used_is_billed),
        cmocka_unit_test(what_is_promised_by_deadline_counts_what_is_reserved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
