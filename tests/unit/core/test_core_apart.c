/* SPDX-License-Identifier: Apache-2.0 */
/* Work of a group that is kept apart: no node, domain or block holds two of them, ever. */
#include "core_test.h"

#define GROUP 77

static struct cloud c;

/* Six nodes of four devices, two to a domain, four to a block. */
static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    tenant_set(&c, 2, 0, UINT64_MAX);
    for (uint32_t i = 0; i < 6; i++)
        node_set_in(&c, i + 1, 4, 1 + i / 2, 1 + i / 4, 1);
    forget(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

static struct mr_event apart(struct mr_event event, enum mr_spread by)
{
    event.u.submit.apart = GROUP;
    event.u.submit.apart_by = by;
    return event;
}

static uint32_t node_of(uint64_t id, uint32_t n)
{
    return lease_of(&c, id, n).node.v;
}

static uint32_t domain_of(uint64_t id, uint32_t n)
{
    return 1 + (node_of(id, n) - 1) / 2;
}

static void two_of_a_group_share_no_node(void **state)
{
    (void)state;
    uint64_t ids[7];
    uint32_t seen = 0;
    for (uint32_t i = 0; i < 7; i++)
        ids[i] = submit(&c, apart(job(1, 1000), MR_SPREAD_NODE));
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(state_of(&c, ids[i]), MR_STATE_RUNNING);
        seen |= 1u << node_of(ids[i], 0);
    }
    assert_int_equal(seen, 0x7e);
    struct mr_reason reason = info(&c, ids[6]).reason;
    assert_int_equal(reason.code, MR_REASON_APART);
    assert_int_equal(reason.a, ids[0]);
    assert_int_equal(reason.b, 6);
    struct mr_buf text;
    mr_buf_init(&text, 512);
    mr_reason_put(&text, &reason);
    mr_buf_put_char(&text, 0);
    assert_string_equal((const char *)text.p,
                        "6 nodes have room, but lie where others of its group are, from which it "
                        "is kept apart, workload 1 first; it starts when such a one ends, or with "
                        "room in another place.");
    mr_buf_done(&text);
    /* Others go beside them as ever. */
    assert_int_equal(state_of(&c, submit(&c, job(1, 3000))), MR_STATE_RUNNING);
}

static void it_starts_when_another_of_its_group_has_ended(void **state)
{
    (void)state;
    uint64_t ids[4];
    for (uint32_t i = 0; i < 4; i++) {
        ids[i] = submit(&c, apart(job(1, 4000), MR_SPREAD_DOMAIN));
        if (i < 3) all_leases(&c, ids[i], MR_EVENT_LEASE_STARTED);
    }
    assert_int_equal(info(&c, ids[3]).reason.code, MR_REASON_APART);
    /* The node beside is as free as before: it is the end of the other that helps. */
    uint32_t node = node_of(ids[1], 0);
    cancel(&c, ids[1]);
    assert_int_equal(state_of(&c, ids[3]), MR_STATE_PENDING);
    uint64_t filler = submit(&c, job(1, 500));
    assert_int_not_equal(filler, 0);
    all_exit(&c, ids[1], 1);
    assert_int_equal(state_of(&c, ids[3]), MR_STATE_RUNNING);
    assert_int_equal(domain_of(ids[3], 0), 1 + (node - 1) / 2);
}

static void of_two_levels_the_wider_one_holds(void **state)
{
    (void)state;
    uint64_t first = submit(&c, apart(job(1, 1000), MR_SPREAD_NODE));
    uint64_t second = submit(&c, apart(job(1, 1000), MR_SPREAD_BLOCK));
    uint64_t third = submit(&c, apart(job(1, 1000), MR_SPREAD_NODE));
    uint32_t block_of_first = 1 + (node_of(first, 0) - 1) / 4;
    assert_int_not_equal(1 + (node_of(second, 0) - 1) / 4, block_of_first);
    /* Beside the first it may lie but for the node, beside the second nowhere in the block. */
    assert_int_equal(1 + (node_of(third, 0) - 1) / 4, block_of_first);
    assert_int_not_equal(node_of(third, 0), node_of(first, 0));
}

static void groups_are_of_one_tenant(void **state)
{
    (void)state;
    struct mr_event event = apart(job(1, 1000), MR_SPREAD_NODE);
    uint64_t first = submit(&c, event);
    event.u.submit.tenant.v = 2;
    uint64_t second = submit(&c, event);
    assert_int_equal(node_of(first, 0), node_of(second, 0)); /* the tightest */
    event.u.submit.apart = GROUP + 1;
    assert_int_equal(node_of(submit(&c, event), 0), node_of(first, 0));
}

static void gangs_and_services_of_a_group_lie_in_different_domains(void **state)
{
    (void)state;
    uint64_t one = submit(&c, apart(service(2, 2, 1000), MR_SPREAD_DOMAIN));
    uint64_t two = submit(&c, apart(job(8, 1000), MR_SPREAD_DOMAIN));
    assert_int_equal(info(&c, two).lease_count, 2);
    assert_int_equal(domain_of(one, 0), domain_of(one, 1)); /* its own are beside each other */
    assert_int_equal(domain_of(two, 0), domain_of(two, 1));
    assert_int_not_equal(domain_of(one, 0), domain_of(two, 0));
    cloud_step(&c,
               (struct mr_event){.kind = MR_EVENT_SCALE,
                                 .u.scale = {.workload = {one}, .tasks_min = 17, .tasks_max = 17}});
    /* Sixteen devices are in the two other domains; the last replica waits. */
    assert_int_equal(info(&c, one).tasks, 16);
    for (uint32_t i = 0; i < 16; i++)
        assert_int_not_equal(domain_of(one, i), domain_of(two, 0));
    assert_int_equal(info(&c, one).reason.code, MR_REASON_RESOURCES);
    all_leases(&c, two, MR_EVENT_LEASE_STARTED);
    all_exit(&c, two, 0);
    assert_int_equal(info(&c, one).tasks, 17);
}

static void spread_goes_beside_it(void **state)
{
    (void)state;
    struct mr_event event = apart(service(4, 4, 1000), MR_SPREAD_NODE);
    event.u.submit.spread = MR_SPREAD_NODE;
    event.u.submit.spread_max = 1;
    uint64_t one = submit(&c, event);
    event.u.submit.tasks_min = 3;
    event.u.submit.tasks_max = 3;
    uint64_t two = submit(&c, event);
    assert_int_equal(info(&c, one).tasks, 4);
    assert_int_equal(info(&c, two).tasks, 2);
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t k = 0; k < 2; k++)
            assert_int_not_equal(node_of(one, i), node_of(two, k));
    }
    assert_int_equal(info(&c, two).reason.code, MR_REASON_APART);
}

static void a_lost_one_comes_back_away_from_the_others(void **state)
{
    (void)state;
    uint64_t one = submit(&c, apart(service(1, 1, 1000), MR_SPREAD_DOMAIN));
    uint64_t two = submit(&c, apart(service(1, 1, 1000), MR_SPREAD_DOMAIN));
    uint64_t three = submit(&c, apart(service(1, 1, 1000), MR_SPREAD_DOMAIN));
    all_leases(&c, one, MR_EVENT_LEASE_STARTED);
    uint32_t domain = domain_of(one, 0);
    node_state(&c, 2 * domain - 1, MR_NODE_DOWN);
    node_state(&c, 2 * domain, MR_NODE_DOWN);
    tick(&c, MINUTE);
    assert_int_equal(info(&c, one).tasks, 0);
    assert_int_equal(info(&c, one).reason.code, MR_REASON_APART);
    cancel(&c, two);
    all_exit(&c, two, 0);
    assert_int_equal(info(&c, one).tasks, 1);
    assert_int_not_equal(domain_of(one, 0), domain_of(three, 0));
}

static void a_gang_that_lost_a_node_is_mended_away_from_the_others(void **state)
{
    (void)state;
    uint64_t one = submit(&c, apart(job(8, 1000), MR_SPREAD_NODE));
    all_leases(&c, one, MR_EVENT_LEASE_STARTED);
    uint32_t lost = node_of(one, 1);
    uint64_t others[3];
    for (uint32_t i = 0; i < 3; i++)
        others[i] = submit(&c, apart(job(1, 1000), MR_SPREAD_NODE));
    node_state(&c, lost, MR_NODE_DOWN);
    all_exit(&c, one, 75);
    tick(&c, MINUTE);
    assert_int_equal(state_of(&c, one), MR_STATE_RUNNING);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_not_equal(node_of(others[i], 0), node_of(one, 0));
        assert_int_not_equal(node_of(others[i], 0), node_of(one, 1));
    }
}

static void a_higher_class_takes_no_place_of_its_own_group(void **state)
{
    (void)state;
    uint64_t low[6];
    for (uint32_t i = 0; i < 6; i++) {
        struct mr_event event = job(1, 4000);
        event.u.submit.preemptible = true;
        event.u.submit.priority = 6;
        if (i == 0) event = apart(event, MR_SPREAD_DOMAIN);
        low[i] = submit(&c, event);
        all_leases(&c, low[i], MR_EVENT_LEASE_STARTED);
    }
    struct mr_event event = apart(job(1, 1000), MR_SPREAD_DOMAIN);
    event.u.submit.priority = 1;
    uint64_t id = submit(&c, event);
    assert_int_equal(info(&c, id).reason.code, MR_REASON_MAKING_ROOM);
    assert_int_equal(state_of(&c, low[0]), MR_STATE_RUNNING);
    for (uint32_t i = 1; i < 6; i++) {
        if (state_of(&c, low[i]) == MR_STATE_COMPLETING) all_exit(&c, low[i], 75);
    }
    tick(&c, 1);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_not_equal(domain_of(id, 0), domain_of(low[0], 0));
}

static void nodes_that_move_do_not_bring_them_together(void **state)
{
    (void)state;
    uint64_t one = submit(&c, apart(service(1, 1, 1000), MR_SPREAD_DOMAIN));
    uint64_t two = submit(&c, apart(service(1, 1, 1000), MR_SPREAD_DOMAIN));
    all_leases(&c, one, MR_EVENT_LEASE_STARTED);
    all_leases(&c, two, MR_EVENT_LEASE_STARTED);
    uint32_t node = node_of(one, 0);
    uint64_t lease = lease_of(&c, one, 0).id.v;
    node_set_in(&c, node, 4, domain_of(two, 0), 1, 1);  /* into the other's rack */
    assert_int_equal(lease_of(&c, one, 0).id.v, lease); /* it is asked to stop, not given up */
    assert_int_equal(state_of(&c, two), MR_STATE_RUNNING);
    exited(&c, lease, MR_EXIT_SIGNAL, 15);
    tick(&c, MINUTE);
    assert_int_equal(info(&c, one).tasks, 1);
    assert_int_not_equal(node_of(one, 0), node);
    /* The invariant is verified after each step; a whole domain that moves is the same. */
    uint64_t far = submit(&c, apart(service(1, 1, 1000), MR_SPREAD_BLOCK));
    node_set_in(&c, 5, 4, 3, 1, 1);
    tick(&c, MINUTE);
    assert_int_equal(info(&c, far).tasks, 0);
}

static void exclusive_and_apart_go_together(void **state)
{
    (void)state;
    struct mr_event event = apart(job(1, 1000), MR_SPREAD_DOMAIN);
    event.u.submit.exclusive = MR_EXCLUSIVE_NODE;
    uint64_t one = submit(&c, event), two = submit(&c, event), three = submit(&c, event);
    assert_int_not_equal(domain_of(one, 0), domain_of(two, 0));
    assert_int_not_equal(domain_of(one, 0), domain_of(three, 0));
    assert_int_not_equal(domain_of(two, 0), domain_of(three, 0));
    assert_int_equal(state_of(&c, submit(&c, event)), MR_STATE_PENDING);
}

static void a_snapshot_keeps_groups(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2; i++)
        (void)submit(&c, apart(job(1, 1000), MR_SPREAD_DOMAIN));
    struct cloud to;
    cloud_load(&to, &c);
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t next = submit(&c, apart(job(1, 1000), MR_SPREAD_DOMAIN));
        assert_int_equal(submit(&to, apart(job(1, 1000), MR_SPREAD_DOMAIN)), next);
        assert_int_equal(state_of(&to, next), i == 0 ? MR_STATE_RUNNING : MR_STATE_PENDING);
    }
    assert_true(mr_core_hash(to.core) == mr_core_hash(c.core));
    cloud_done(&to);
}

static void a_group_has_a_limit_and_contradictions_are_refused(void **state)
{
    (void)state;
    struct mr_event event = apart(job(1, 1000), MR_SPREAD_NONE);
    assert_int_equal(submit(&c, event), 0);
    event = job(1, 1000);
    event.u.submit.apart_by = MR_SPREAD_NODE;
    assert_int_equal(submit(&c, event), 0);
    event.u.submit.apart_by = MR_SPREAD_COUNT;
    assert_int_equal(submit(&c, event), 0);
    struct mr_core_limits limits = tiny_limits;
    cloud_done(&c);
    limits.workloads = CORE_APART_MEMBERS + 8;
    cloud_init(&c, &limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    event = apart(job(1, 1000), MR_SPREAD_NODE);
    uint64_t last = 0;
    for (uint32_t i = 0; i < CORE_APART_MEMBERS; i++)
        last = submit(&c, event);
    assert_int_not_equal(last, 0);
    assert_int_equal(submit(&c, event), 0);
    cancel(&c, last);
    assert_int_not_equal(submit(&c, event), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(two_of_a_group_share_no_node),
        CASE(it_starts_when_another_of_its_group_has_ended),
        CASE(of_two_levels_the_wider_one_holds),
        CASE(groups_are_of_one_tenant),
        CASE(gangs_and_services_of_a_group_lie_in_different_domains),
        CASE(spread_goes_beside_it),
        CASE(a_lost_one_comes_back_away_from_the_others),
        CASE(a_gang_that_lost_a_node_is_mended_away_from_the_others),
        CASE(a_higher_class_takes_no_place_of_its_own_group),
        CASE(nodes_that_move_do_not_bring_them_together),
        CASE(exclusive_and_apart_go_together),
        CASE(a_snapshot_keeps_groups),
        CASE(a_group_has_a_limit_and_contradictions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
