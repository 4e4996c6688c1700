/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes that fail again and again: kept out, a few of them, until someone vouches for them. */
#include "core_test.h"

static struct cloud c;
static const struct mr_core_limits limits = {.nodes = 128,
                                             .domains = 8,
                                             .blocks = 4,
                                             .cells = 2,
                                             .tenants = 8,
                                             .workloads = 64,
                                             .leases = 64,
                                             .shapes = 16};

static void nodes_make(uint32_t count)
{
    cloud_init(&c, &limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    for (uint32_t i = 1; i <= count; i++)
        node_set(&c, i, 4);
    forget(&c);
}

static void fails(uint32_t node, uint32_t times)
{
    for (uint32_t i = 0; i < times; i++) {
        node_state(&c, node, MR_NODE_DOWN);
        c.now_us += HOUR;
        node_state(&c, node, MR_NODE_UP);
        c.now_us += HOUR;
    }
}

static enum mr_node_state state_of_node(uint32_t node)
{
    struct mr_node_info info;
    assert_int_equal(mr_core_node(c.core, (struct mr_node_id){node}, &info), 0);
    return info.state;
}

static void the_third_failure_makes_a_suspect(void **state)
{
    (void)state;
    nodes_make(100);
    fails(7, 2);
    assert_int_equal(state_of_node(7), MR_NODE_UP);
    forget(&c);
    fails(7, 1);
    told(&c, "node 7 is down\n"
             "node 7 is suspect: it failed 3 times, each within 168 hours of the last\n"
             "node 7 is draining\n");
    assert_int_equal(state_of_node(7), MR_NODE_DRAINING);
    cloud_check(&c);
    cloud_done(&c);
}

static void who_vouches_for_it_is_believed(void **state)
{
    (void)state;
    nodes_make(100);
    fails(7, 3);
    node_state(&c, 7, MR_NODE_UP);
    assert_int_equal(state_of_node(7), MR_NODE_UP);
    fails(7, 2); /* it begins at nothing */
    assert_int_equal(state_of_node(7), MR_NODE_UP);
    fails(7, 1);
    assert_int_equal(state_of_node(7), MR_NODE_DRAINING);
    node_set(&c, 7, 4);
    assert_int_equal(state_of_node(7), MR_NODE_UP);
    cloud_check(&c);
    cloud_done(&c);
}

static void failures_long_ago_are_forgotten(void **state)
{
    (void)state;
    nodes_make(100);
    fails(7, 2);
    c.now_us += 8 * 24 * HOUR;
    fails(7, 2);
    assert_int_equal(state_of_node(7), MR_NODE_UP);
    cloud_done(&c);
}

static void at_most_one_in_fifty_is_kept_out(void **state)
{
    (void)state;
    nodes_make(100);
    for (uint32_t i = 1; i <= 3; i++)
        fails(i, 3);
    assert_int_equal(state_of_node(1), MR_NODE_DRAINING);
    assert_int_equal(state_of_node(2), MR_NODE_DRAINING);
    assert_int_equal(state_of_node(3), MR_NODE_UP);
    node_state(&c, 1, MR_NODE_ABSENT); /* it makes place among the suspects */
    fails(4, 3);
    assert_int_equal(state_of_node(4), MR_NODE_UP); /* 99 nodes: one */
    cloud_check(&c);
    cloud_done(&c);
    nodes_make(49);
    fails(1, 9);
    assert_int_equal(state_of_node(1), MR_NODE_UP);
    cloud_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_third_failure_makes_a_suspect),
        cmocka_unit_test(who_vouches_for_it_is_believed),
        cmocka_unit_test(failures_long_ago_are_forgotten),
        cmocka_unit_test(at_most_one_in_fifty_is_kept_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
