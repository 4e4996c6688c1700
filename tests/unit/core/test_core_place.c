/* SPDX-License-Identifier: Apache-2.0 */
/* Placement: the narrowest place, the tightest node, whole devices and domains left whole. */
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

static struct mr_event within(struct mr_event event, enum mr_topology topology)
{
    event.u.submit.topology = topology;
    return event;
}

/* Domains 1 to 4 of two nodes with 4 devices; blocks of two domains; one cell of both. */
static void fleet(void)
{
    for (uint32_t i = 1; i <= 8; i++) {
        uint32_t domain = (i + 1) / 2;
        node_set_in(&c, i, 4, domain, (domain + 1) / 2, 1);
    }
    forget(&c);
}

static void work_goes_where_the_least_is_left(void **state)
{
    (void)state;
    node_set(&c, 1, 8);
    node_set(&c, 2, 4);
    node_set(&c, 3, 0);
    assert_int_equal(lease_of(&c, submit(&c, job(1, 2000)), 0).node.v, 2);
    assert_int_equal(lease_of(&c, submit(&c, job(1, 8000)), 0).node.v, 1);
    assert_int_equal(lease_of(&c, submit(&c, job(1, 2000)), 0).node.v, 2);
    /* Work without devices keeps off nodes that have some. */
    assert_int_equal(lease_of(&c, submit(&c, job(1, 0)), 0).node.v, 3);
    /* And of those with devices it takes one whose devices are all in use. */
    uint64_t fills = submit(&c, job(63, 0));
    assert_int_equal(lease_of(&c, fills, 0).node.v, 3);
    uint64_t spill = submit(&c, job(1, 0));
    assert_int_not_equal(lease_of(&c, spill, 0).node.v, 3);
}

static void shares_fill_one_device_before_the_next(void **state)
{
    (void)state;
    node_set(&c, 1, 4);
    uint64_t first = submit(&c, job(1, 400));
    uint64_t second = submit(&c, job(1, 500));
    uint64_t third = submit(&c, job(1, 500));
    uint64_t whole = submit(&c, job(1, 2000));
    assert_int_equal(lease_of(&c, first, 0).start.devices, 1);
    assert_int_equal(lease_of(&c, second, 0).start.devices, 1);
    assert_int_equal(lease_of(&c, third, 0).start.devices, 2);
    assert_int_equal(lease_of(&c, whole, 0).start.devices, 0xc);
    uint64_t rest = submit(&c, job(1, 600));
    assert_int_equal(info(&c, rest).reason.code, MR_REASON_FRAGMENTED);
    assert_int_equal(info(&c, rest).reason.a, 600);
}

static void a_gang_of_shares_has_a_lease_for_each_device(void **state)
{
    (void)state;
    node_set(&c, 1, 4);
    uint64_t id = submit(&c, job(5, 400));
    assert_int_equal(info(&c, id).lease_count, 3);
    assert_int_equal(lease_of(&c, id, 0).start.tasks, 2);
    assert_int_equal(lease_of(&c, id, 2).start.tasks, 1);
    assert_int_equal(lease_of(&c, id, 2).start.rank_first, 4);
}

static void a_shape_takes_the_first_type_that_has_room(void **state)
{
    (void)state;
    for (uint32_t i = 1; i <= 2; i++) {
        cloud_step(&c, (struct mr_event){.kind = MR_EVENT_NODE_SET,
                                         .u.node = {.id = {i},
                                                    .cpu_milli = 64000,
                                                    .mem_mib = 65536,
                                                    .accel_type = (uint8_t)(i + 1),
                                                    .accel_count = 4}});
    }
    struct mr_event event = job(1, 4000);
    event.u.submit.shape.accel_types[0] = 3;
    event.u.submit.shape.accel_types[1] = 2;
    uint64_t first = submit(&c, event);
    uint64_t second = submit(&c, event);
    uint64_t third = submit(&c, event);
    assert_int_equal(lease_of(&c, first, 0).start.shape.accel_types[0], 3);
    assert_int_equal(lease_of(&c, second, 0).start.shape.accel_types[0], 2);
    assert_int_equal(state_of(&c, third), MR_STATE_PENDING);
    event.u.submit.shape.accel_types[0] = 9;
    event.u.submit.shape.accel_types[1] = 0;
    uint64_t never = submit(&c, event);
    assert_int_equal(info(&c, never).reason.code, MR_REASON_NO_SUCH_NODE);
    assert_int_equal(info(&c, never).reason.a, 0);
}

static void a_shape_by_price_takes_the_cheapest_type_that_has_room(void **state)
{
    (void)state;
    for (uint32_t i = 1; i <= 2; i++) {
        cloud_step(&c, (struct mr_event){.kind = MR_EVENT_NODE_SET,
                                         .u.node = {.id = {i},
                                                    .cpu_milli = 64000,
                                                    .mem_mib = 65536,
                                                    .accel_type = (uint8_t)(i + 1),
                                                    .accel_count = 4}});
        cloud_step(&c, (struct mr_event){.kind = MR_EVENT_PRICE_SET,
                                         .u.price = {.sku = MR_SKU_ACCEL,
                                                     .accel_type = (uint8_t)(i + 1),
                                                     .price_nusd = 100 * (int64_t)i}});
    }
    struct mr_event event = job(1, 4000);
    event.u.submit.shape.accel_types[0] = 3;
    event.u.submit.shape.accel_types[7] = 2;
    event.u.submit.shape.accel_order = MR_ACCEL_ORDER_PRICE;
    uint64_t first = submit(&c, event);
    uint64_t second = submit(&c, event);
    assert_int_equal(lease_of(&c, first, 0).start.shape.accel_types[0], 2);
    assert_int_equal(lease_of(&c, second, 0).start.shape.accel_types[0], 3);
    event.u.submit.shape.accel_order = MR_ACCEL_ORDER_COUNT;
    assert_int_equal(submit(&c, event), 0);
}

static void place_numbers(uint64_t id, uint32_t *ret_domains, uint32_t *ret_blocks)
{
    uint32_t domains = 0, blocks = 0;
    for (uint32_t i = 0; i < info(&c, id).lease_count; i++) {
        struct mr_node_info n;
        assert_int_equal(mr_core_node(c.core, lease_of(&c, id, i).node, &n), 0);
        domains |= 1u << n.node.domain;
        blocks |= 1u << n.node.block;
    }
    *ret_domains = (uint32_t)__builtin_popcount(domains);
    *ret_blocks = (uint32_t)__builtin_popcount(blocks);
}

static void topologies_bound_a_gang(void **state)
{
    (void)state;
    fleet();
    uint32_t domains, blocks;
    uint64_t one = submit(&c, within(job(4, 1000), MR_TOPOLOGY_NODE));
    assert_int_equal(info(&c, one).lease_count, 1);
    uint64_t two = submit(&c, within(job(2, 4000), MR_TOPOLOGY_DOMAIN));
    place_numbers(two, &domains, &blocks);
    assert_int_equal(domains, 1);
    uint64_t four = submit(&c, within(job(4, 4000), MR_TOPOLOGY_BLOCK));
    place_numbers(four, &domains, &blocks);
    assert_int_equal(blocks, 1);
    assert_int_equal(domains, 2);
    /* One node is left: two more do not lie in any one domain. */
    uint64_t more = submit(&c, within(job(2, 4000), MR_TOPOLOGY_DOMAIN));
    assert_int_equal(state_of(&c, more), MR_STATE_PENDING);
    node_set_in(&c, 9, 4, 5, 3, 2);
    assert_int_equal(info(&c, more).reason.code, MR_REASON_TOPOLOGY);
    uint64_t any = submit(&c, within(job(2, 4000), MR_TOPOLOGY_PREFER_DOMAIN));
    assert_int_equal(state_of(&c, any), MR_STATE_RUNNING);
}

static void a_node_request_larger_than_any_node_is_told_so(void **state)
{
    (void)state;
    fleet();
    uint64_t id = submit(&c, within(job(5, 1000), MR_TOPOLOGY_NODE));
    assert_int_equal(info(&c, id).reason.code, MR_REASON_NO_SUCH_NODE);
    assert_int_equal(info(&c, id).reason.a, 4000);
    assert_int_equal(info(&c, id).reason.b, 5000);
}

static void small_work_breaks_the_domain_that_is_broken_already(void **state)
{
    (void)state;
    fleet();
    submit(&c, job(1, 4000)); /* one node of some domain */
    uint32_t broken = lease_of(&c, 1, 0).node.v;
    uint64_t next = submit(&c, job(1, 4000));
    assert_int_equal((lease_of(&c, next, 0).node.v + 1) / 2, (broken + 1) / 2);
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t pair = submit(&c, within(job(2, 4000), MR_TOPOLOGY_DOMAIN));
        assert_int_equal(state_of(&c, pair), MR_STATE_RUNNING);
    }
}

static void a_large_gang_takes_whole_domains(void **state)
{
    (void)state;
    fleet();
    uint64_t id = submit(&c, job(6, 4000));
    uint32_t domains, blocks;
    place_numbers(id, &domains, &blocks);
    assert_int_equal(domains, 3);
}

static void the_tightest_domain_that_fits_is_taken(void **state)
{
    (void)state;
    node_set_in(&c, 1, 8, 1, 1, 1);
    node_set_in(&c, 2, 8, 1, 1, 1);
    node_set_in(&c, 3, 4, 2, 1, 1);
    node_set_in(&c, 4, 4, 2, 1, 1);
    uint64_t id = submit(&c, within(job(2, 4000), MR_TOPOLOGY_DOMAIN));
    /* A single node holds both: narrower still. */
    assert_int_equal(info(&c, id).lease_count, 1);
    uint64_t wide = submit(&c, within(job(4, 2000), MR_TOPOLOGY_DOMAIN));
    assert_int_equal(info(&c, wide).lease_count, 1);
    uint64_t two = submit(&c, within(job(2, 3000), MR_TOPOLOGY_DOMAIN));
    assert_int_equal(info(&c, two).lease_count, 2);
    assert_int_equal(lease_of(&c, two, 0).node.v, 3);
    assert_int_equal(lease_of(&c, two, 1).node.v, 4);
}

static void leases_at_their_limit_hold_a_gang_back(void **state)
{
    (void)state;
    for (uint32_t i = 1; i <= 16; i++) {
        node_set(&c, i, 64);
    }
    for (uint32_t i = 0; i < tiny_limits.leases - 1; i++) {
        submit(&c, job(1, 1000));
    }
    for (uint32_t i = 0; i < 64; i++) {
        cancel(&c, 1 + i);
    }
    assert_int_equal(c.core->tables[CORE_LEASES].live, tiny_limits.leases - 1);
    uint64_t too_many = submit(&c, within(job(2, 64000), MR_TOPOLOGY_ANY));
    assert_int_equal(state_of(&c, too_many), MR_STATE_PENDING);
    exited(&c, 1, MR_EXIT_CODE, 0);
    assert_int_equal(state_of(&c, too_many), MR_STATE_RUNNING);
    assert_int_equal(c.core->tables[CORE_LEASES].live, tiny_limits.leases);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(work_goes_where_the_least_is_left),
        CASE(shares_fill_one_device_before_the_next),
        CASE(a_gang_of_shares_has_a_lease_for_each_device),
        CASE(a_shape_takes_the_first_type_that_has_room),
        CASE(a_shape_by_price_takes_the_cheapest_type_that_has_room),
        CASE(topologies_bound_a_gang),
        CASE(a_node_request_larger_than_any_node_is_told_so),
        CASE(small_work_breaks_the_domain_that_is_broken_already),
        CASE(a_large_gang_takes_whole_domains),
        CASE(the_tightest_domain_that_fits_is_taken),
        CASE(leases_at_their_limit_hold_a_gang_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
