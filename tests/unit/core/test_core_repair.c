/* SPDX-License-Identifier: Apache-2.0 */
/* Gangs that lose nodes: the rest is kept, what is missing is replaced near by, racks at once. */
#include "core_test.h"

static struct cloud c;

/* Two domains of four nodes with four devices in one block, a third in another. */
static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    for (uint32_t i = 1; i <= 12; i++) {
        node_set_in(&c, i, 4, 1 + (i - 1) / 4, i <= 8 ? 1 : 2, 1);
    }
    forget(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

static void domain_state(uint32_t domain, enum mr_node_state to)
{
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_NODE_STATE,
                                     .u.node_state = {.domain = domain, .state = to}});
}

static uint64_t gang(uint32_t tasks, enum mr_topology topology)
{
    struct mr_event event = job(tasks, 4000);
    event.u.submit.topology = topology;
    uint64_t id = submit(&c, event);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    forget(&c);
    return id;
}

/* The nodes of its leases as bits. */
static uint32_t nodes_of(uint64_t id)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < info(&c, id).lease_count; i++) {
        bits |= 1u << lease_of(&c, id, i).node.v;
    }
    return bits;
}

static void a_lost_node_is_replaced_in_its_domain(void **state)
{
    (void)state;
    uint64_t id = gang(3, MR_TOPOLOGY_DOMAIN);
    assert_int_equal(nodes_of(id), 0xe00); /* 9, 10, 11: the smaller block */
    node_state(&c, 10, MR_NODE_DOWN);
    told(&c, "node 10 is down\n"
             "lease 2 of workload 1 ended: lost 0\n"
             "workload 1: running to completing\n"
             "workload 1 keeps 2 tasks and gets 1 elsewhere\n");
    /* Nobody can take that room while the rest still stops. */
    uint64_t other = submit(&c, job(4, 4000));
    assert_int_equal(nodes_of(other) & 0x1e00, 0);
    forget(&c);
    exited(&c, 1, MR_EXIT_SIGNAL, 15);
    exited(&c, 3, MR_EXIT_SIGNAL, 15);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).run, 2);
    assert_int_equal(info(&c, id).tasks, 3);
    assert_int_equal(nodes_of(id), 0x1a00); /* 9, 11 and 12 */
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(lease_of(&c, id, i).start.rank_first, i);
        assert_int_equal(lease_of(&c, id, i).start.world_size, 3);
    }
}

static void several_lost_nodes_of_one_gang_are_replaced_in_place(void **state)
{
    (void)state;
    uint64_t id = gang(6, MR_TOPOLOGY_BLOCK);
    uint32_t before = nodes_of(id);
    node_state(&c, 1, MR_NODE_DOWN);
    node_state(&c, 2, MR_NODE_DOWN);
    assert_int_equal(state_of(&c, id), MR_STATE_COMPLETING);
    all_exit(&c, id, 75);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).tasks, 6);
    assert_int_equal(info(&c, id).run, 2);
    uint32_t kept = before & ~0x06u;
    assert_int_equal(nodes_of(id) & kept, kept);
    assert_int_equal(nodes_of(id), 0x1f8); /* 3 to 8: all of the block that is left */
}

static void a_rack_is_one_event(void **state)
{
    (void)state;
    uint64_t id = gang(8, MR_TOPOLOGY_ANY); /* domains 1 and 2, or whichever two */
    uint32_t domain = lease_of(&c, id, 0).node.v <= 4 ? 1 : lease_of(&c, id, 0).node.v <= 8 ? 2 : 3;
    uint32_t rack = 0x1eu << (4 * (domain - 1)), before = nodes_of(id);
    assert_int_equal(before & rack, rack);
    domain_state(domain, MR_NODE_DOWN);
    assert_int_equal(effects_of(&c, MR_EFFECT_NODE), 4);
    assert_int_equal(state_of(&c, id), MR_STATE_COMPLETING);
    all_exit(&c, id, 75);
    assert_int_equal(info(&c, id).tasks, 8);
    assert_int_equal(info(&c, id).run, 2);
    assert_int_equal(nodes_of(id) & rack, 0);
    assert_int_equal(nodes_of(id) & before, before & ~rack);
    domain_state(domain, MR_NODE_UP);
    assert_int_equal(effects_of(&c, MR_EFFECT_NODE), 4);
    domain_state(9, MR_NODE_UP); /* no such domain */
    assert_int_equal(effects_of(&c, MR_EFFECT_NODE), 0);
}

static void without_room_an_elastic_gang_goes_on_with_what_it_has(void **state)
{
    (void)state;
    struct mr_event event = job(4, 4000);
    event.u.submit.topology = MR_TOPOLOGY_DOMAIN;
    event.u.submit.tasks_min = 2;
    uint64_t id = submit(&c, event);
    assert_int_equal(info(&c, id).tasks, 4);
    node_state(&c, lease_of(&c, id, 3).node.v, MR_NODE_DOWN);
    all_exit(&c, id, 75);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).tasks, 3);
}

static void without_room_a_rigid_gang_queues_again(void **state)
{
    (void)state;
    uint64_t id = gang(4, MR_TOPOLOGY_DOMAIN);
    uint64_t others[2] = {gang(4, MR_TOPOLOGY_DOMAIN), gang(4, MR_TOPOLOGY_DOMAIN)};
    node_state(&c, lease_of(&c, id, 0).node.v, MR_NODE_DOWN);
    all_exit(&c, id, 75);
    assert_int_equal(state_of(&c, id), MR_STATE_PENDING);
    assert_int_equal(info(&c, id).lease_count, 0);
    all_exit(&c, others[0], 0);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, others[1]), MR_STATE_RUNNING);
}

static void a_replacement_that_is_lost_too_is_replaced(void **state)
{
    (void)state;
    uint64_t id = gang(3, MR_TOPOLOGY_ANY);
    assert_int_equal(nodes_of(id), 0xe00);
    node_state(&c, 10, MR_NODE_DOWN);
    node_state(&c, 12, MR_NODE_DOWN); /* what was claimed in its place */
    all_exit(&c, id, 75);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).tasks, 3);
    assert_int_equal(nodes_of(id) & 0xe00u, 0xa00u); /* 9 and 11 were kept */
}

static void a_cancelled_gang_is_not_repaired(void **state)
{
    (void)state;
    uint64_t id = gang(3, MR_TOPOLOGY_DOMAIN);
    cancel(&c, id);
    node_state(&c, 10, MR_NODE_DOWN);
    all_exit(&c, id, 0);
    assert_int_equal(state_of(&c, id), MR_STATE_CANCELLED);
    uint64_t next = gang(3, MR_TOPOLOGY_DOMAIN);
    node_state(&c, lease_of(&c, next, 0).node.v, MR_NODE_DOWN);
    cancel(&c, next);
    all_exit(&c, next, 0);
    assert_int_equal(state_of(&c, next), MR_STATE_CANCELLED);
    assert_int_equal(info(&c, next).lease_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_lost_node_is_replaced_in_its_domain, setup, teardown),
        cmocka_unit_test_setup_teardown(several_lost_nodes_of_one_gang_are_replaced_in_place, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_rack_is_one_event, setup, teardown),
        cmocka_unit_test_setup_teardown(without_room_an_elastic_gang_goes_on_with_what_it_has,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(without_room_a_rigid_gang_queues_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_replacement_that_is_lost_too_is_replaced, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_cancelled_gang_is_not_repaired, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
