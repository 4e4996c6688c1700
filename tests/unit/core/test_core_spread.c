/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas and tasks over failure domains: the fewest beside each other, and never above the bound.
 */
#include "core_test.h"

static struct cloud c;

/* Six nodes of four devices, two to a domain. */
static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    for (uint32_t i = 0; i < 6; i++)
        node_set_in(&c, i + 1, 4, 1 + i / 2, 1 + i / 4, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

static struct mr_event over(struct mr_event event, enum mr_spread spread, uint32_t most)
{
    event.u.submit.spread = spread;
    event.u.submit.spread_max = most;
    return event;
}

/* Tasks on each node, and by domain. */
static void tasks_of(uint64_t id, uint32_t nodes[7], uint32_t domains[4])
{
    struct mr_lease_info lease;
    uint32_t cursor = 0;
    memset(nodes, 0, 7 * sizeof *nodes);
    memset(domains, 0, 4 * sizeof *domains);
    while (mr_core_lease_of(c.core, (struct mr_workload_id){id}, &cursor, &lease) == 0) {
        nodes[lease.node.v] += lease.start.tasks;
        domains[1 + (lease.node.v - 1) / 2] += lease.start.tasks;
    }
}

static void replicas_lie_in_different_domains(void **state)
{
    (void)state;
    uint32_t nodes[7], domains[4];
    uint64_t id = submit(&c, over(service(3, 3, 1000), MR_SPREAD_DOMAIN, 0));
    tasks_of(id, nodes, domains);
    for (uint32_t d = 1; d <= 3; d++)
        assert_int_equal(domains[d], 1);
    cloud_step(&c,
               (struct mr_event){.kind = MR_EVENT_SCALE,
                                 .u.scale = {.workload = {id}, .tasks_min = 6, .tasks_max = 6}});
    tasks_of(id, nodes, domains);
    for (uint32_t d = 1; d <= 3; d++)
        assert_int_equal(domains[d], 2);
}

static void replicas_lie_on_different_nodes(void **state)
{
    (void)state;
    uint32_t nodes[7], domains[4];
    uint64_t id = submit(&c, over(service(6, 6, 1000), MR_SPREAD_NODE, 0));
    tasks_of(id, nodes, domains);
    for (uint32_t n = 1; n <= 6; n++)
        assert_int_equal(nodes[n], 1);
}

static void a_bound_is_kept_and_is_the_reason(void **state)
{
    (void)state;
    uint32_t nodes[7], domains[4];
    uint64_t id = submit(&c, over(service(4, 4, 1000), MR_SPREAD_DOMAIN, 1));
    tasks_of(id, nodes, domains);
    assert_int_equal(domains[1] + domains[2] + domains[3], 3);
    assert_int_equal(info(&c, id).reason.code, MR_REASON_TOPOLOGY);
    node_set_in(&c, 7, 4, 4, 1, 1);
    struct mr_lease_info fourth = lease_of(&c, id, 3);
    assert_int_equal(fourth.node.v, 7);
}

static void a_lost_replica_comes_back_where_the_fewest_are(void **state)
{
    (void)state;
    uint32_t nodes[7], domains[4];
    uint64_t id = submit(&c, over(service(3, 3, 1000), MR_SPREAD_DOMAIN, 1));
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    uint32_t node = lease_of(&c, id, 0).node.v;
    node_state(&c, node, MR_NODE_DOWN);
    tick(&c, 2 * SECOND);
    tasks_of(id, nodes, domains);
    for (uint32_t d = 1; d <= 3; d++)
        assert_int_equal(domains[d], 1);
    assert_int_equal(nodes[node], 0);
}

static void the_tasks_of_a_gang_are_spread_and_a_node_has_one_lease(void **state)
{
    (void)state;
    uint32_t nodes[7], domains[4];
    uint64_t id = submit(&c, over(job(12, 1000), MR_SPREAD_NODE, 2));
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    tasks_of(id, nodes, domains);
    for (uint32_t n = 1; n <= 6; n++)
        assert_int_equal(nodes[n], 2);
    assert_int_equal(info(&c, id).lease_count, 6);
    uint64_t more = submit(&c, over(job(13, 1000), MR_SPREAD_NODE, 2));
    assert_int_equal(info(&c, more).reason.code, MR_REASON_RESOURCES); /* twelve are free */
    cancel(&c, more);
    more = submit(&c, over(job(7, 1000), MR_SPREAD_NODE, 1));
    assert_int_equal(info(&c, more).reason.code, MR_REASON_TOPOLOGY);
}

static void what_contradicts_itself_is_refused(void **state)
{
    (void)state;
    struct mr_event event = over(job(2, 1000), MR_SPREAD_NODE, 1);
    event.u.submit.topology = MR_TOPOLOGY_DOMAIN;
    assert_int_equal(submit(&c, event), 0);
    event = over(job(2, 1000), MR_SPREAD_NONE, 1);
    assert_int_equal(submit(&c, event), 0);
    event = over(job(2, 1000), MR_SPREAD_NODE, 1);
    event.u.submit.spares = 1;
    assert_int_equal(submit(&c, event), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(replicas_lie_in_different_domains),
        CASE(replicas_lie_on_different_nodes),
        CASE(a_bound_is_kept_and_is_the_reason),
        CASE(a_lost_replica_comes_back_where_the_fewest_are),
        CASE(the_tasks_of_a_gang_are_spread_and_a_node_has_one_lease),
        CASE(what_contradicts_itself_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
