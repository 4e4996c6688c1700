/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes and places that are described as lying elsewhere, and the gangs that they tear apart. */
#include "core_test.h"

static struct cloud c;

static const struct mr_core_limits wide_limits = {.nodes = 32,
                                                  .domains = 8,
                                                  .blocks = 4,
                                                  .cells = 2,
                                                  .tenants = 8,
                                                  .workloads = 64,
                                                  .leases = 256,
                                                  .shapes = 16,
                                                  .reservations = 4};

/* Three domains of six nodes with four devices, two of them in the first block. */
static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &wide_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    for (uint32_t i = 0; i < 18; i++)
        node_set_in(&c, i + 1, 4, 1 + i / 6, 1 + i / 12, 1);
    forget(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

/* A task is a node. */
static struct mr_event gang(uint32_t tasks, uint32_t segment, enum mr_topology topology)
{
    struct mr_event event = job(tasks, 4000);
    event.u.submit.segment = segment;
    event.u.submit.topology = topology;
    event.u.submit.checkpoint_us = MINUTE;
    return event;
}

static uint64_t running(struct mr_event event)
{
    uint64_t id = submit(&c, event);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    forget(&c);
    return id;
}

static struct mr_event_node described(uint32_t node)
{
    struct mr_node_info known;
    assert_int_equal(mr_core_node(c.core, (struct mr_node_id){node}, &known), 0);
    return known.node;
}

static void node_moves(uint32_t node, uint32_t domain, uint32_t block)
{
    struct mr_event_node said = described(node);
    said.domain = domain;
    said.block = block;
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_NODE_SET, .u.node = said});
}

/* The node of the gang's task lies elsewhere now. */
static void moves(uint64_t id, uint32_t task, uint32_t domain, uint32_t block)
{
    node_moves(lease_of(&c, id, task).node.v, domain, block);
}

/* The node of the first claim there is. */
static uint32_t claimed(void)
{
    for (uint32_t i = 1; i < c.core->tables[CORE_LEASES].used; i++) {
        if (core_lease(c.core, i)->state == CORE_LEASE_CLAIM) return core_lease(c.core, i)->node;
    }
    fail_msg("nobody claims anything");
    return 0;
}

static void said(const char *line)
{
    mr_buf_put_char(&c.narration, 0);
    if (strstr((const char *)c.narration.p, line) == NULL)
        fail_msg("'%s' is not in: %s", line, (const char *)c.narration.p);
    forget(&c);
}

static uint32_t domain_of(uint64_t id, uint32_t task)
{
    return described(lease_of(&c, id, task).node.v).domain;
}

static void a_segment_that_is_torn_apart_goes_on_where_it_is_whole(void **state)
{
    (void)state;
    uint64_t id = running(gang(8, 4, MR_TOPOLOGY_ANY)), other = running(job(1, 1000));
    uint32_t from = domain_of(id, 0);
    moves(id, 0, 7, 2);
    assert_int_equal(state_of(&c, id), MR_STATE_COMPLETING);
    assert_int_equal(state_of(&c, other), MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).lease_count, 8); /* asked, not killed */
    forget(&c);
    all_exit(&c, id, MR_EXIT_CODE_REQUEUE);
    tick(&c, MINUTE);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).run, 2);
    for (uint32_t task = 0; task < 8; task++)
        assert_int_equal(domain_of(id, task), domain_of(id, task / 4 * 4));
    assert_true(from != 7);
}

static void the_same_description_again_disturbs_nobody(void **state)
{
    (void)state;
    uint64_t id = running(gang(8, 4, MR_TOPOLOGY_BLOCK));
    for (uint32_t task = 0; task < 8; task++) {
        uint32_t node = lease_of(&c, id, task).node.v;
        struct mr_event_node same = described(node);
        cloud_step(&c, (struct mr_event){.kind = MR_EVENT_NODE_SET, .u.node = same});
    }
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).run, 1);
}

static void who_asked_for_no_place_stays(void **state)
{
    (void)state;
    uint64_t any = running(gang(4, 0, MR_TOPOLOGY_ANY));
    uint64_t rather = running(gang(4, 0, MR_TOPOLOGY_PREFER_DOMAIN));
    uint64_t one = running(gang(1, 0, MR_TOPOLOGY_DOMAIN)); /* together with itself wherever */
    moves(any, 0, 7, 2);
    moves(rather, 0, 7, 2);
    moves(one, 0, 7, 2);
    assert_int_equal(state_of(&c, any), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, rather), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, one), MR_STATE_RUNNING);
}

static void a_gang_within_a_domain_follows_no_node_out_of_it(void **state)
{
    (void)state;
    uint64_t id = running(gang(3, 0, MR_TOPOLOGY_DOMAIN));
    moves(id, 1, 0, 0);
    assert_int_equal(state_of(&c, id), MR_STATE_COMPLETING);
    all_exit(&c, id, MR_EXIT_CODE_REQUEUE);
    tick(&c, MINUTE);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    for (uint32_t task = 1; task < 3; task++)
        assert_int_equal(domain_of(id, task), domain_of(id, 0));
}

static void a_domain_that_moves_to_another_block_tears_what_the_block_held(void **state)
{
    (void)state;
    uint64_t block = running(gang(8, 4, MR_TOPOLOGY_BLOCK)); /* on both domains of the first */
    uint64_t domain = running(gang(2, 0, MR_TOPOLOGY_DOMAIN));
    moves(block, 0, domain_of(block, 0), 3);
    assert_int_equal(state_of(&c, block), MR_STATE_COMPLETING);
    assert_int_equal(state_of(&c, domain), MR_STATE_RUNNING); /* it moved whole, if at all */
}

static void a_domain_of_one_node_moves_like_others(void **state)
{
    (void)state;
    for (uint32_t node = 19; node <= 20; node++)
        node_set_in(&c, node, 8, node - 15, 3, 1);
    struct mr_event event = gang(2, 0, MR_TOPOLOGY_BLOCK);
    event.u.submit.shape.accel_milli = 8000;
    uint64_t id = running(event);
    moves(id, 0, domain_of(id, 0), 4);
    assert_int_equal(state_of(&c, id), MR_STATE_COMPLETING);
}

static void a_claim_that_is_torn_apart_is_made_anew(void **state)
{
    (void)state;
    struct mr_event event = gang(4, 4, MR_TOPOLOGY_ANY);
    event.u.submit.priority = 1;
    for (uint32_t i = 0; i < 3; i++) {
        struct mr_event low = gang(6, 6, MR_TOPOLOGY_ANY);
        low.u.submit.preemptible = true;
        (void)running(low);
    }
    uint64_t id = submit(&c, event); /* one of them goes for it */
    assert_int_equal(info(&c, id).reason.code, MR_REASON_MAKING_ROOM);
    node_moves(claimed(), 7, 2);
    said("workload 4 loses its claim\n");
    for (uint64_t low = 1; low <= 3; low++)
        if (state_of(&c, low) == MR_STATE_COMPLETING) all_exit(&c, low, MR_EXIT_CODE_REQUEUE);
    tick(&c, MINUTE);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    for (uint32_t task = 1; task < 4; task++)
        assert_int_equal(domain_of(id, task), domain_of(id, 0));
}

static void the_next_run_of_a_gang_that_is_mended_is_torn_too(void **state)
{
    (void)state;
    uint64_t id = running(gang(4, 4, MR_TOPOLOGY_ANY));
    node_state(&c, lease_of(&c, id, 3).node.v, MR_NODE_DOWN);
    said("workload 1 keeps 3 tasks and gets 1 elsewhere\n");
    forget(&c);
    node_moves(claimed(), 7, 2);
    said("workload 1 loses its claim\n");
    for (uint32_t i = 0; i < 4 && state_of(&c, id) != MR_STATE_RUNNING; i++) {
        all_exit(&c, id, MR_EXIT_CODE_REQUEUE);
        tick(&c, MINUTE);
    }
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    for (uint32_t task = 1; task < 4; task++)
        assert_int_equal(domain_of(id, task), domain_of(id, 0));
}

static void what_is_kept_is_not_mended_where_it_is_torn(void **state)
{
    (void)state;
    uint64_t id = running(gang(3, 0, MR_TOPOLOGY_DOMAIN));
    uint32_t first = lease_of(&c, id, 0).node.v;
    node_state(&c, lease_of(&c, id, 2).node.v, MR_NODE_DOWN);
    said("workload 1 keeps 2 tasks and gets 1 elsewhere\n");
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_SCALE, /* two would do now */
                                     .u.scale = {{id}, 2, 3}});
    forget(&c);
    node_moves(first, 7, 2);
    for (uint32_t i = 0; i < 4 && state_of(&c, id) != MR_STATE_RUNNING; i++) {
        all_exit(&c, id, MR_EXIT_CODE_REQUEUE);
        tick(&c, MINUTE);
    }
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(domain_of(id, 0), domain_of(id, 1));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_segment_that_is_torn_apart_goes_on_where_it_is_whole),
        CASE(the_same_description_again_disturbs_nobody),
        CASE(who_asked_for_no_place_stays),
        CASE(a_gang_within_a_domain_follows_no_node_out_of_it),
        CASE(a_domain_that_moves_to_another_block_tears_what_the_block_held),
        CASE(a_domain_of_one_node_moves_like_others),
        CASE(a_claim_that_is_torn_apart_is_made_anew),
        CASE(the_next_run_of_a_gang_that_is_mended_is_torn_too),
        CASE(what_is_kept_is_not_mended_where_it_is_torn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
