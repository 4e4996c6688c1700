/* SPDX-License-Identifier: Apache-2.0 */
/* The fleet: nodes come, change, move and go; sums follow (verified after every step). */
#include "core_test.h"

static struct cloud c;

static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

static struct mr_node_info node_info(uint32_t id)
{
    struct mr_node_info n;
    assert_int_equal(mr_core_node(c.core, (struct mr_node_id){id}, &n), 0);
    return n;
}

static void a_domain_moves_with_all_its_nodes(void **state)
{
    (void)state;
    node_set_in(&c, 1, 4, 1, 1, 1);
    node_set_in(&c, 2, 4, 1, 1, 1);
    assert_int_equal(node_info(2).node.block, 1);
    node_set_in(&c, 1, 4, 1, 2, 2); /* the newest word counts */
    assert_int_equal(node_info(2).node.block, 2);
    assert_int_equal(node_info(2).node.cell, 2);
    node_set_in(&c, 2, 4, 0, 0, 0);
    assert_int_equal(node_info(2).node.domain, 0);
    assert_int_equal(node_info(1).node.domain, 1);
}

static void totals_count_what_is_up(void **state)
{
    (void)state;
    node_set(&c, 1, 4);
    node_set(&c, 2, 8);
    node_set(&c, 3, 0);
    submit(&c, job(1, 3000));
    struct mr_totals t;
    mr_core_totals(c.core, &t);
    assert_int_equal(t.nodes_up, 3);
    assert_int_equal(t.accel_milli, 12000);
    assert_int_equal(t.accel_free_milli, 9000);
    assert_int_equal(t.cpu_free_milli, 3 * 64000 - 1000);
    node_state(&c, 2, MR_NODE_DRAINING);
    mr_core_totals(c.core, &t);
    assert_int_equal(t.nodes_draining, 1);
    assert_int_equal(t.accel_milli, 4000);
    node_state(&c, 2, MR_NODE_DOWN);
    mr_core_totals(c.core, &t);
    assert_int_equal(t.nodes_down, 1);
    node_state(&c, 2, MR_NODE_ABSENT);
    struct mr_node_info n;
    assert_int_equal(mr_core_node(c.core, (struct mr_node_id){2}, &n), MR_ENOT_FOUND);
    node_state(&c, 2, MR_NODE_UP); /* it has to be set again first */
    assert_int_equal(mr_core_node(c.core, (struct mr_node_id){2}, &n), MR_ENOT_FOUND);
}

static void impossible_nodes_are_not_taken(void **state)
{
    (void)state;
    struct mr_event_node good = {
        .id = {1}, .cpu_milli = 1000, .mem_mib = 1, .domain = 8, .block = 4, .cell = 2};
    struct mr_event_node bad[8];
    for (uint32_t i = 0; i < 8; i++) {
        bad[i] = good;
    }
    bad[0].id.v = 0;
    bad[1].id.v = tiny_limits.nodes + 1;
    bad[2].domain = tiny_limits.domains + 1;
    bad[3].block = tiny_limits.blocks + 1;
    bad[4].cell = tiny_limits.cells + 1;
    bad[5].cpu_milli = 0;
    bad[6].accel_count = 4; /* of no type */
    bad[7].accel_type = MR_ACCEL_TYPES_MAX;
    bad[7].accel_count = 1;
    for (uint32_t i = 0; i < 8; i++) {
        cloud_step(&c, (struct mr_event){.kind = MR_EVENT_NODE_SET, .u.node = bad[i]});
        assert_int_equal(c.count, 0);
    }
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_NODE_SET, .u.node = good});
    assert_int_equal(c.count, 1);
    assert_int_equal(node_info(1).node.domain, 8);
}

static void a_node_that_grows_keeps_its_work(void **state)
{
    (void)state;
    node_set(&c, 1, 4);
    uint64_t id = submit(&c, job(1, 4000));
    uint64_t waits = submit(&c, job(1, 4000));
    node_set(&c, 1, 8);
    assert_int_equal(info(&c, id).run, 1);
    assert_int_equal(state_of(&c, waits), MR_STATE_RUNNING);
    assert_int_equal(lease_of(&c, waits, 0).start.devices, 0xf0);
}

static void a_machine_that_became_another_one_lost_its_work(void **state)
{
    (void)state;
    node_set(&c, 1, 4);
    uint64_t id = submit(&c, job(1, 1000));
    node_set(&c, 1, 2);
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 1);
    assert_int_equal(info(&c, id).run, 2);
    assert_int_equal(node_info(1).accel_free_milli, 1000);
}

static void nothing_starts_on_a_node_that_is_down(void **state)
{
    (void)state;
    node_set(&c, 1, 4);
    node_state(&c, 1, MR_NODE_DOWN);
    uint64_t id = submit(&c, job(1, 1000));
    assert_int_equal(state_of(&c, id), MR_STATE_PENDING);
    node_state(&c, 1, MR_NODE_UP);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_domain_moves_with_all_its_nodes),
        CASE(totals_count_what_is_up),
        CASE(impossible_nodes_are_not_taken),
        CASE(a_node_that_grows_keeps_its_work),
        CASE(a_machine_that_became_another_one_lost_its_work),
        CASE(nothing_starts_on_a_node_that_is_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
