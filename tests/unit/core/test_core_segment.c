/* SPDX-License-Identifier: Apache-2.0 */
/* Gangs in segments: each lies within one NVLink domain, and whole domains stay whole. */
#include "core_test.h"

static struct cloud c;

static const struct mr_core_limits wide_limits = {.nodes = 64,
                                                  .domains = 8,
                                                  .blocks = 4,
                                                  .cells = 2,
                                                  .tenants = 8,
                                                  .workloads = 64,
                                                  .leases = 256,
                                                  .shapes = 16,
                                                  .reservations = 4};

/* So many domains of so many nodes with four devices each, two domains to a block. */
static void domains(uint32_t count, uint32_t nodes)
{
    cloud_init(&c, &wide_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    for (uint32_t i = 0; i < count * nodes; i++)
        node_set_in(&c, i + 1, 4, 1 + i / nodes, 1 + i / nodes / 2, 1);
}

/* A task is a node. */
static struct mr_event segmented(uint32_t tasks, uint32_t segment)
{
    struct mr_event event = job(tasks, 4000);
    event.u.submit.segment = segment;
    return event;
}

static uint32_t domain_of(uint32_t node)
{
    struct mr_node_info info;
    assert_int_equal(mr_core_node(c.core, (struct mr_node_id){node}, &info), 0);
    return info.node.domain;
}

/* Tasks of the world by domain; asserts that each segment lies in one. */
static void spread_of(uint64_t id, uint32_t segment, uint32_t ret[9])
{
    struct mr_lease_info lease;
    uint32_t cursor = 0, of_segment[64] = {0};
    memset(ret, 0, 9 * sizeof *ret);
    while (mr_core_lease_of(c.core, (struct mr_workload_id){id}, &cursor, &lease) == 0) {
        uint32_t domain = domain_of(lease.node.v);
        for (uint32_t t = 0; t < lease.start.tasks; t++) {
            uint32_t rank = lease.start.rank_first + t;
            if (rank >= lease.start.world_size) continue;
            uint32_t *known = &of_segment[rank / segment];
            if (*known != 0) assert_int_equal(*known, domain);
            *known = domain;
            ret[domain]++;
        }
    }
}

static void segments_of_twelve_on_domains_of_seventeen_are_whole(void **state)
{
    (void)state;
    uint32_t by[9];
    domains(3, 17);
    uint64_t id = submit(&c, segmented(36, 12));
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    spread_of(id, 12, by);
    for (uint32_t d = 1; d <= 3; d++)
        assert_int_equal(by[d], 12); /* not 17 + 17 + 2 */
    cloud_done(&c);
}

static void a_segment_takes_what_others_left_and_spares_whole_domains(void **state)
{
    (void)state;
    uint32_t by[9];
    domains(3, 6);
    uint64_t first = submit(&c, segmented(2, 2));
    spread_of(first, 2, by);
    uint32_t begun = by[1] ? 1 : by[2] ? 2 : 3;
    uint64_t second = submit(&c, segmented(4, 4));
    spread_of(second, 4, by);
    assert_int_equal(by[begun], 4);
    uint64_t third = submit(&c, segmented(12, 6));
    assert_int_equal(state_of(&c, third), MR_STATE_RUNNING);
    cloud_done(&c);
}

static void without_room_for_whole_segments_it_waits_for_the_topology(void **state)
{
    (void)state;
    domains(3, 6);
    for (uint32_t i = 0; i < 3; i++)
        (void)submit(&c, segmented(3, 3));
    uint64_t id = submit(&c, segmented(8, 4)); /* nine nodes are free, three in each domain */
    assert_int_equal(state_of(&c, id), MR_STATE_PENDING);
    struct mr_reason reason;
    assert_int_equal(mr_core_why(c.core, (struct mr_workload_id){id}, &reason), 0);
    assert_int_equal(reason.code, MR_REASON_TOPOLOGY);
    all_exit(&c, 1, 0);
    assert_int_equal(state_of(&c, id), MR_STATE_PENDING); /* one segment would fit */
    all_exit(&c, 2, 0);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    cloud_done(&c);
}

static void an_elastic_gang_has_as_many_segments_as_fit(void **state)
{
    (void)state;
    uint32_t by[9];
    domains(3, 6);
    (void)submit(&c, segmented(4, 4));
    struct mr_event event = segmented(4, 4);
    event.u.submit.tasks_max = 16;
    uint64_t id = submit(&c, event);
    assert_int_equal(info(&c, id).tasks, 8);
    spread_of(id, 4, by);
    tick(&c, MINUTE);
    assert_int_equal(info(&c, id).tasks, 8);
    all_exit(&c, 1, 0);
    tick(&c, MINUTE);
    all_exit(&c, id, MR_EXIT_CODE_REQUEUE); /* it grows: its next run is larger */
    assert_int_equal(info(&c, id).tasks, 12);
    spread_of(id, 4, by);
    cloud_done(&c);
}

static void all_segments_lie_in_one_block_when_that_is_asked(void **state)
{
    (void)state;
    uint32_t by[9];
    domains(6, 6);
    (void)submit(&c, segmented(3, 3)); /* in one domain of a block: two segments of 4 no longer fit
                                          there beside it */
    struct mr_event event = segmented(8, 4);
    event.u.submit.topology = MR_TOPOLOGY_BLOCK;
    uint64_t id = submit(&c, event);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    spread_of(id, 4, by);
    uint32_t blocks[4] = {by[1] + by[2], by[3] + by[4], by[5] + by[6]};
    assert_true(blocks[0] == 8 || blocks[1] == 8 || blocks[2] == 8);
    event = segmented(16, 4);
    event.u.submit.topology = MR_TOPOLOGY_BLOCK;
    uint64_t large = submit(&c, event); /* no block holds four segments of 4 */
    assert_int_equal(state_of(&c, large), MR_STATE_PENDING);
    assert_int_equal(info(&c, large).reason.code, MR_REASON_TOPOLOGY);
    cloud_done(&c);
}

static void spares_lie_in_the_domains_of_the_segments_and_fill_in(void **state)
{
    (void)state;
    uint32_t by[9];
    domains(2, 6);
    struct mr_event event = segmented(8, 4);
    event.u.submit.spares = 2;
    event.u.submit.checkpoint_us = MINUTE;
    uint64_t id = submit(&c, event);
    assert_int_equal(info(&c, id).tasks, 10);
    assert_int_equal(info(&c, id).spares, 2);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    struct mr_lease_info third = lease_of(&c, id, 2);
    uint32_t lost = third.node.v, domain = domain_of(lost);
    node_state(&c, lost, MR_NODE_DOWN);
    for (uint32_t i = 0; i < 12 && state_of(&c, id) != MR_STATE_RUNNING; i++)
        all_exit(&c, id, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    spread_of(id, 4, by);
    assert_int_equal(by[domain], 4);
    assert_int_equal(by[1] + by[2], 8);
    cloud_done(&c);
}

static void a_lost_domain_is_no_half_segment(void **state)
{
    (void)state;
    uint32_t by[9];
    domains(3, 6);
    struct mr_event event = segmented(8, 4);
    event.u.submit.checkpoint_us = MINUTE;
    uint64_t id = submit(&c, event);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    uint32_t domain = domain_of(lease_of(&c, id, 0).node.v);
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_NODE_STATE,
                                     .u.node_state = {.domain = domain, .state = MR_NODE_DOWN}});
    for (uint32_t i = 0; i < 12 && state_of(&c, id) != MR_STATE_RUNNING; i++)
        all_exit(&c, id, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    spread_of(id, 4, by);
    assert_int_equal(by[domain], 0);
    cloud_done(&c);
}

static void segments_lie_on_the_nodes_of_a_reservation(void **state)
{
    (void)state;
    uint32_t by[9];
    domains(2, 6);
    struct mr_event like = segmented(1, 1);
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_RESERVE,
                                     .u.reserve = {.tenant = {1},
                                                   .shape = like.u.submit.shape,
                                                   .tasks = 12,
                                                   .end_us = c.now_us + HOUR}});
    tick(&c, 0);
    struct mr_event event = segmented(10, 5);
    event.u.submit.reservation.v = 1;
    uint64_t id = submit(&c, event);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    spread_of(id, 5, by);
    event = segmented(2, 2);
    event.u.submit.reservation.v = 1;
    assert_int_equal(state_of(&c, submit(&c, event)), MR_STATE_PENDING); /* one left in each */
    cloud_done(&c);
}

static void segments_of_exclusive_work_share_its_nodes(void **state)
{
    (void)state;
    uint32_t by[9];
    domains(1, 2);
    node_set_in(&c, 13, 4, 0, 0, 0); /* in no domain */
    node_set_in(&c, 14, 4, 0, 0, 0);
    struct mr_event event = segmented(24, 2);
    event.u.submit.shape = (struct mr_shape){.cpu_milli = 10000, .mem_mib = 1024};
    event.u.submit.exclusive = MR_EXCLUSIVE_NODE;
    uint64_t id = submit(&c, event); /* six tasks on each of the four nodes */
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).lease_count, 4);
    spread_of(id, 2, by);
    cloud_done(&c);
}

static void sizes_are_multiples(void **state)
{
    (void)state;
    domains(1, 6);
    assert_int_equal(submit(&c, segmented(5, 2)), 0);
    struct mr_event event = segmented(4, 2);
    event.u.submit.topology = MR_TOPOLOGY_DOMAIN;
    assert_int_equal(submit(&c, event), 0);
    event = segmented(4, 2);
    event.u.submit.kind = MR_KIND_SERVICE;
    assert_int_equal(submit(&c, event), 0);
    uint64_t id = submit(&c, segmented(4, 2));
    cloud_step(&c,
               (struct mr_event){.kind = MR_EVENT_SCALE,
                                 .u.scale = {.workload = {id}, .tasks_min = 3, .tasks_max = 4}});
    assert_int_equal(info(&c, id).tasks_min, 4);
    cloud_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_of_twelve_on_domains_of_seventeen_are_whole),
        cmocka_unit_test(a_segment_takes_what_others_left_and_spares_whole_domains),
        cmocka_unit_test(without_room_for_whole_segments_it_waits_for_the_topology),
        cmocka_unit_test(an_elastic_gang_has_as_many_segments_as_fit),
        cmocka_unit_test(all_segments_lie_in_one_block_when_that_is_asked),
        cmocka_unit_test(spares_lie_in_the_domains_of_the_segments_and_fill_in),
        cmocka_unit_test(a_lost_domain_is_no_half_segment),
        cmocka_unit_test(segments_lie_on_the_nodes_of_a_reservation),
        cmocka_unit_test(segments_of_exclusive_work_share_its_nodes),
        cmocka_unit_test(sizes_are_multiples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
