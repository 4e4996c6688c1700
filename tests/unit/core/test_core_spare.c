/* SPDX-License-Identifier: Apache-2.0 */
/* Spares: spread over domains, swapped in where something is lost, sent away at the end. */
#include "core_test.h"

static struct cloud c;

/* Three domains of four nodes with four devices each, in one block. */
static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    for (uint32_t i = 1; i <= 12; i++) {
        node_set_in(&c, i, 4, 1 + (i - 1) / 4, 1, 1);
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

static uint64_t gang(uint32_t tasks, uint32_t spares)
{
    struct mr_event event = job(tasks, 4000);
    event.u.submit.spares = spares;
    uint64_t id = submit(&c, event);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    return id;
}

/* The node that holds this rank. */
static uint32_t node_of(uint64_t id, uint32_t rank)
{
    for (uint32_t i = 0; i < info(&c, id).lease_count; i++) {
        struct mr_lease_info lease = lease_of(&c, id, i);
        if (lease.start.rank_first == rank) return lease.node.v;
    }
    return 0;
}

static uint32_t domain_of(uint32_t node)
{
    return 1 + (node - 1) / 4;
}

static void spares_lie_in_every_domain(void **state)
{
    (void)state;
    uint64_t id = gang(6, 2); /* two domains whole: three and one in each */
    assert_int_equal(info(&c, id).tasks, 8);
    assert_int_equal(info(&c, id).spares, 2);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(lease_of(&c, id, i).start.world_size, 6);
    assert_int_equal(domain_of(node_of(id, 0)), domain_of(node_of(id, 2)));
    assert_int_equal(domain_of(node_of(id, 3)), domain_of(node_of(id, 5)));
    assert_int_equal(domain_of(node_of(id, 6)), domain_of(node_of(id, 0)));
    assert_int_equal(domain_of(node_of(id, 7)), domain_of(node_of(id, 3)));
}

static void a_spare_of_the_domain_takes_the_lost_rank_and_no_other_moves(void **state)
{
    (void)state;
    uint64_t id = gang(6, 2);
    uint32_t before[8];
    for (uint32_t i = 0; i < 8; i++)
        before[i] = node_of(id, i);
    node_state(&c, before[4], MR_NODE_DOWN);
    all_exit(&c, id, 75);
    assert_int_equal(info(&c, id).run, 2);
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(node_of(id, i), i == 4 ? before[7] : before[i]);
    /* The third domain has room, so there are two spares again. */
    assert_int_equal(info(&c, id).spares, 2);
    assert_int_equal(node_of(id, 6), before[6]);
    assert_int_equal(domain_of(node_of(id, 7)), 6 - domain_of(before[0]) - domain_of(before[4]));
}

static void without_room_it_goes_on_with_fewer_spares_and_gets_them_back_later(void **state)
{
    (void)state;
    uint64_t id = gang(6, 2);
    uint64_t other = submit(&c, job(4, 4000)); /* takes the third domain */
    uint32_t lost = node_of(id, 1), again = node_of(id, 3);
    node_state(&c, lost, MR_NODE_DOWN);
    all_exit(&c, id, 75);
    assert_int_equal(info(&c, id).tasks, 7);
    assert_int_equal(info(&c, id).spares, 1);
    assert_int_equal(lease_of(&c, id, 0).start.world_size, 6);
    all_exit(&c, other, 0);
    node_state(&c, lost, MR_NODE_UP);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    node_state(&c, again, MR_NODE_DOWN);
    all_exit(&c, id, 75);
    assert_int_equal(info(&c, id).tasks, 8);
    assert_int_equal(info(&c, id).spares, 2);
}

static void a_lost_spare_does_not_stop_the_gang(void **state)
{
    (void)state;
    uint64_t id = gang(6, 2);
    forget(&c);
    node_state(&c, node_of(id, 7), MR_NODE_DOWN);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).run, 1);
    assert_int_equal(info(&c, id).tasks, 7);
    assert_int_equal(info(&c, id).spares, 1);
    all_exit(&c, id, 0);
    assert_int_equal(state_of(&c, id), MR_STATE_COMPLETED);
}

static void it_starts_without_spares_when_there_is_no_room_for_them(void **state)
{
    (void)state;
    uint64_t id = gang(12, 2);
    assert_int_equal(info(&c, id).tasks, 12);
    assert_int_equal(info(&c, id).spares, 0);
    assert_int_equal(lease_of(&c, id, 0).start.world_size, 12);
}

static void spares_are_sent_away_when_the_world_has_ended(void **state)
{
    (void)state;
    uint64_t id = gang(3, 1), spare = 0;
    uint64_t ids[4];
    for (uint32_t i = 0; i < 4; i++) {
        struct mr_lease_info lease = lease_of(&c, id, i);
        ids[i] = lease.id.v;
        if (lease.start.rank_first == 3) spare = lease.id.v;
    }
    for (uint32_t i = 0; i < 4; i++) {
        if (ids[i] == spare) continue;
        assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
        exited(&c, ids[i], MR_EXIT_CODE, 0);
    }
    assert_int_equal(state_of(&c, id), MR_STATE_COMPLETING);
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 1);
    exited(&c, spare, MR_EXIT_SIGNAL, 15);
    assert_int_equal(state_of(&c, id), MR_STATE_COMPLETED);
}

static void a_gang_scaled_meanwhile_ends_with_its_world_too(void **state)
{
    (void)state;
    uint64_t id = gang(3, 1), spare = lease_of(&c, id, 3).id.v;
    uint64_t world[3];
    for (uint32_t i = 0; i < 3; i++)
        world[i] = lease_of(&c, id, i).id.v;
    assert_int_equal(lease_of(&c, id, 3).start.rank_first, 3);
    cloud_step(&c,
               (struct mr_event){.kind = MR_EVENT_SCALE,
                                 .u.scale = {.workload = {id}, .tasks_min = 3, .tasks_max = 8}});
    for (uint32_t i = 0; i < 3; i++)
        exited(&c, world[i], MR_EXIT_CODE, 0);
    assert_int_equal(state_of(&c, id), MR_STATE_COMPLETING);
    exited(&c, spare, MR_EXIT_CODE, 0);
    assert_int_equal(state_of(&c, id), MR_STATE_COMPLETED);
}

static void a_service_has_no_spares_and_too_many_are_refused(void **state)
{
    (void)state;
    struct mr_event event = job(2, 4000);
    event.u.submit.spares = tiny_limits.leases;
    assert_int_equal(submit(&c, event), 0);
    event.u.submit.spares = tiny_limits.leases - 2;
    assert_int_not_equal(submit(&c, event), 0);
    event.u.submit.kind = MR_KIND_SERVICE;
    event.u.submit.spares = 1;
    assert_int_equal(submit(&c, event), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(spares_lie_in_every_domain),
        CASE(a_spare_of_the_domain_takes_the_lost_rank_and_no_other_moves),
        CASE(without_room_it_goes_on_with_fewer_spares_and_gets_them_back_later),
        CASE(a_lost_spare_does_not_stop_the_gang),
        CASE(it_starts_without_spares_when_there_is_no_room_for_them),
        CASE(spares_are_sent_away_when_the_world_has_ended),
        CASE(a_gang_scaled_meanwhile_ends_with_its_world_too),
        CASE(a_service_has_no_spares_and_too_many_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
