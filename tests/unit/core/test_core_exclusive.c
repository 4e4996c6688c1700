/* SPDX-License-Identifier: Apache-2.0 */
/* Exclusive work: nodes of its own, whole, from the claim to the last exit, and charged whole. */
#include "core_test.h"

static struct cloud c;

/* Four nodes of four devices, two to a domain. */
static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    for (uint32_t i = 0; i < 4; i++)
        node_set_in(&c, i + 1, 4, 1 + i / 2, 1, 1);
    forget(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

static struct mr_event alone(struct mr_event event)
{
    event.u.submit.exclusive = MR_EXCLUSIVE_NODE;
    return event;
}

static uint32_t node_of(uint64_t id, uint32_t n)
{
    return lease_of(&c, id, n).node.v;
}

static uint32_t free_on(uint32_t node)
{
    struct mr_node_info ret;
    assert_int_equal(mr_core_node(c.core, (struct mr_node_id){node}, &ret), 0);
    return ret.accel_free_milli + ret.cpu_free_milli + ret.mem_free_mib;
}

static struct mr_tenant_info tenant(uint32_t id)
{
    struct mr_tenant_info ret;
    assert_int_equal(mr_core_tenant(c.core, (struct mr_tenant_id){id}, &ret), 0);
    return ret;
}

static void tasks_share_whole_nodes_on_which_nobody_else_gets(void **state)
{
    (void)state;
    uint64_t small = submit(&c, job(1, 1000)); /* on one of the nodes */
    uint64_t id = submit(&c, alone(job(6, 1000)));
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).lease_count, 2);
    for (uint32_t n = 0; n < 2; n++) {
        assert_int_not_equal(node_of(id, n), node_of(small, 0));
        assert_int_equal(free_on(node_of(id, n)), 0);
    }
    /* The two devices that it leaves on its second node are nobody's. */
    for (uint32_t i = 0; i < 7; i++)
        assert_int_equal(state_of(&c, submit(&c, job(1, 1000))), MR_STATE_RUNNING);
    uint64_t more = submit(&c, job(1, 1000));
    assert_int_equal(info(&c, more).reason.code, MR_REASON_RESOURCES);
}

static void small_ones_of_others_do_not_scatter_it(void **state)
{
    (void)state;
    struct mr_event event = alone(job(8, 1000));
    event.u.submit.topology = MR_TOPOLOGY_DOMAIN;
    uint64_t small = submit(&c, job(1, 0));
    uint64_t id = submit(&c, event);
    assert_int_equal(info(&c, id).lease_count, 2);
    uint32_t domain = 1 + (node_of(id, 0) - 1) / 2;
    assert_int_equal(1 + (node_of(id, 1) - 1) / 2, domain);
    assert_int_not_equal(1 + (node_of(small, 0) - 1) / 2, domain);
}

static void quotas_and_the_bill_count_whole_nodes(void **state)
{
    (void)state;
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_PRICE_SET,
                                     .u.price = {MR_SKU_ACCEL, GPU, 1000000000}});
    tenant_set(&c, 2, 0, 7000);
    struct mr_event event = alone(job(1, 1000));
    event.u.submit.tenant.v = 2;
    uint64_t id = submit(&c, event);
    assert_int_equal(tenant(2).accel_milli, 4000);
    assert_int_equal(tenant(2).cpu_milli, 64000);
    uint64_t second = submit(&c, event);
    struct mr_reason reason = info(&c, second).reason;
    assert_int_equal(reason.code, MR_REASON_QUOTA);
    assert_int_equal(reason.a, 4000);
    assert_int_equal(reason.b, 7000);
    assert_int_equal(reason.c, 4000);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    c.now_us += HOUR;
    all_exit(&c, id, 0);
    assert_int_equal(c.charged, 4000000000); /* an hour of four devices */
    assert_int_equal(state_of(&c, second), MR_STATE_RUNNING);
    assert_int_equal(tenant(2).accel_milli, 4000);
}

static void it_waits_until_nodes_are_wholly_free(void **state)
{
    (void)state;
    uint64_t others[4];
    for (uint32_t i = 0; i < 4; i++) {
        others[i] = submit(&c, job(1, 4000));
        all_leases(&c, others[i], MR_EVENT_LEASE_STARTED);
    }
    uint64_t beside = submit(&c, job(1, 0)); /* one vCPU on a node whose devices are in use */
    all_exit(&c, others[0], 0);
    all_exit(&c, others[1], 0);
    uint64_t id = submit(&c, alone(job(8, 1000)));
    struct mr_reason reason = info(&c, id).reason;
    assert_int_equal(reason.code, MR_REASON_EXCLUSIVE);
    assert_int_equal(reason.a, 1);
    assert_int_equal(reason.b, 4);
    assert_int_equal(reason.c, 2);
    struct mr_buf text;
    mr_buf_init(&text, 256);
    mr_reason_put(&text, &reason);
    mr_buf_put_char(&text, 0);
    assert_string_equal((const char *)text.p,
                        "It needs 2 nodes of its own; 1 of 4 nodes are wholly free; beside others, "
                        "without exclusive, it would start now.");
    mr_buf_done(&text);
    all_exit(&c, beside, 0);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
}

static void a_cancelled_one_has_its_nodes_until_its_last_exit(void **state)
{
    (void)state;
    uint64_t id = submit(&c, alone(job(16, 1000)));
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    uint64_t next = submit(&c, job(1, 0));
    cancel(&c, id);
    assert_int_equal(state_of(&c, next), MR_STATE_PENDING);
    all_exit(&c, id, 0);
    assert_int_equal(state_of(&c, id), MR_STATE_CANCELLED);
    assert_int_equal(state_of(&c, next), MR_STATE_RUNNING);
    assert_int_equal(tenant(1).accel_milli, 0);
}

static void a_gang_that_loses_a_node_gets_another_whole_one(void **state)
{
    (void)state;
    uint64_t id = submit(&c, alone(job(8, 1000)));
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    uint32_t kept = node_of(id, 0), lost = node_of(id, 1);
    uint64_t small = submit(&c, job(1, 0));
    all_leases(&c, small, MR_EVENT_LEASE_STARTED);
    node_state(&c, lost, MR_NODE_DOWN);
    all_exit(&c, id, 1);
    tick(&c, SECOND);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).lease_count, 2);
    assert_int_equal(node_of(id, 0), kept);
    assert_int_not_equal(node_of(id, 1), node_of(small, 0));
    assert_int_equal(free_on(node_of(id, 1)), 0);
}

static void a_higher_class_clears_a_node_and_nobody_slips_in(void **state)
{
    (void)state;
    uint64_t victims[8];
    for (uint32_t i = 0; i < 8; i++) {
        struct mr_event event = job(1, 2000);
        event.u.submit.preemptible = true;
        event.u.submit.priority = 6;
        victims[i] = submit(&c, event);
        all_leases(&c, victims[i], MR_EVENT_LEASE_STARTED);
    }
    struct mr_event event = alone(job(1, 1000));
    event.u.submit.priority = 1;
    uint64_t id = submit(&c, event);
    assert_int_equal(info(&c, id).reason.code, MR_REASON_MAKING_ROOM);
    uint32_t node = 0, stopping = 0;
    for (uint32_t i = 0; i < 8; i++) {
        if (state_of(&c, victims[i]) != MR_STATE_COMPLETING) continue;
        assert_true(node == 0 || node == node_of(victims[i], 0));
        node = node_of(victims[i], 0);
        stopping++;
    }
    assert_int_equal(stopping, 2); /* both of one node, and no others */
    uint64_t small = submit(&c, job(1, 0));
    assert_int_not_equal(node_of(small, 0), node);
    for (uint32_t i = 0; i < 8; i++) {
        if (state_of(&c, victims[i]) == MR_STATE_COMPLETING) all_exit(&c, victims[i], 75);
    }
    tick(&c, 1);
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(node_of(id, 0), node);
}

static void an_exclusive_one_that_is_preempted_gives_way_as_a_whole(void **state)
{
    (void)state;
    struct mr_event event = alone(job(4, 1000));
    event.u.submit.preemptible = true;
    event.u.submit.priority = 6;
    uint64_t low[4];
    for (uint32_t i = 0; i < 4; i++) {
        low[i] = submit(&c, event);
        all_leases(&c, low[i], MR_EVENT_LEASE_STARTED);
    }
    event = job(1, 0);
    event.u.submit.priority = 0;
    uint64_t first = submit(&c, event);
    assert_int_equal(info(&c, first).reason.code, MR_REASON_MAKING_ROOM);
    for (uint32_t i = 0; i < 4; i++) {
        if (state_of(&c, low[i]) == MR_STATE_COMPLETING) all_exit(&c, low[i], 75);
    }
    tick(&c, 1);
    assert_int_equal(state_of(&c, first), MR_STATE_RUNNING);
}

static void who_makes_room_within_a_quota_waits_for_whole_nodes(void **state)
{
    (void)state;
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_TENANT_SET,
                                     .u.tenant = {.id = {2},
                                                  .weight = 1,
                                                  .quota_cpu_milli = UINT64_MAX,
                                                  .quota_mem_mib = UINT64_MAX,
                                                  .quota_accel_milli = 8000,
                                                  .running_max = UINT32_MAX,
                                                  .within = MR_PREEMPT_LOWER}});
    struct mr_event low = job(2, 4000), event = alone(job(1, 0));
    low.u.submit.tenant.v = 2;
    low.u.submit.priority = 6;
    low.u.submit.preemptible = true;
    uint64_t lower = submit(&c, low);
    assert_int_equal(tenant(2).accel_milli, 8000);
    event.u.submit.tenant.v = 2;
    event.u.submit.priority = 2;
    uint64_t higher = submit(&c, event); /* needs no device, but closes a node with four */
    tick(&c, CORE_RECLAIM_US);
    assert_int_equal(state_of(&c, lower), MR_STATE_COMPLETING);
    assert_int_equal(state_of(&c, higher), MR_STATE_PENDING);
    all_exit(&c, lower, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(state_of(&c, higher), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, lower), MR_STATE_PENDING);
    assert_int_equal(tenant(2).accel_milli, 4000);
}

static void each_replica_has_a_node_of_its_own(void **state)
{
    (void)state;
    uint64_t id = submit(&c, alone(service(2, 4, 1000)));
    assert_int_equal(info(&c, id).tasks, 2);
    assert_int_not_equal(node_of(id, 0), node_of(id, 1));
    cloud_step(&c,
               (struct mr_event){.kind = MR_EVENT_SCALE,
                                 .u.scale = {.workload = {id}, .tasks_min = 4, .tasks_max = 4}});
    assert_int_equal(info(&c, id).tasks, 4);
    assert_int_equal(tenant(1).accel_milli, 16000);
    uint64_t small = submit(&c, job(1, 0));
    assert_int_equal(state_of(&c, small), MR_STATE_PENDING);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    exited(&c, lease_of(&c, id, 3).id.v, MR_EXIT_CODE, 1);
    assert_int_equal(state_of(&c, small), MR_STATE_RUNNING);
    tick(&c, 2 * SECOND);
    struct mr_reason reason = info(&c, id).reason; /* the fourth waits for a node */
    assert_int_equal(reason.code, MR_REASON_EXCLUSIVE);
    assert_int_equal(reason.a, 0);
}

static void a_node_that_grows_stays_its_own(void **state)
{
    (void)state;
    for (uint32_t i = 2; i <= 4; i++)
        node_state(&c, i, MR_NODE_DOWN);
    uint64_t id = submit(&c, alone(job(1, 1000)));
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    c.now_us += MINUTE;
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_NODE_SET,
                                     .u.node = {{1}, 96000, 524288, GPU, 6, 1, 1, 1, 0}});
    assert_int_equal(state_of(&c, id), MR_STATE_RUNNING);
    assert_int_equal(free_on(1), 0);
    assert_int_equal(tenant(1).accel_milli, 6000);
    assert_int_equal(state_of(&c, submit(&c, job(1, 0))), MR_STATE_PENDING);
    all_exit(&c, id, 0);
    assert_int_equal(tenant(1).accel_milli, 0);
}

static void work_without_devices_prefers_nodes_without(void **state)
{
    (void)state;
    node_set(&c, 5, 0);
    uint64_t first = submit(&c, alone(job(1, 0))), second = submit(&c, alone(job(1, 0)));
    assert_int_equal(node_of(first, 0), 5);
    assert_int_equal(tenant(1).accel_milli, 4000); /* the second closes four devices, and pays */
    assert_int_equal(free_on(node_of(second, 0)), 0);
}

static void a_snapshot_keeps_nodes_apart(void **state)
{
    (void)state;
    uint64_t id = submit(&c, alone(job(6, 1000)));
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    struct cloud to;
    cloud_load(&to, &c);
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t next = submit(&c, alone(job(4, 1000)));
        assert_int_equal(submit(&to, alone(job(4, 1000))), next);
        assert_int_equal(state_of(&to, next), state_of(&c, next));
        assert_int_equal(state_of(&to, next), i < 2 ? MR_STATE_RUNNING : MR_STATE_PENDING);
    }
    assert_true(mr_core_hash(to.core) == mr_core_hash(c.core));
    cloud_done(&to);
}

static void what_contradicts_itself_is_refused(void **state)
{
    (void)state;
    assert_int_equal(submit(&c, alone(job(1, 500))), 0);
    struct mr_event event = alone(job(2, 1000));
    event.u.submit.spread = MR_SPREAD_NODE;
    assert_int_equal(submit(&c, event), 0);
    event = job(2, 1000);
    event.u.submit.exclusive = MR_EXCLUSIVE_COUNT;
    assert_int_equal(submit(&c, event), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(tasks_share_whole_nodes_on_which_nobody_else_gets),
        CASE(small_ones_of_others_do_not_scatter_it),
        CASE(quotas_and_the_bill_count_whole_nodes),
        CASE(it_waits_until_nodes_are_wholly_free),
        CASE(a_cancelled_one_has_its_nodes_until_its_last_exit),
        CASE(a_gang_that_loses_a_node_gets_another_whole_one),
        CASE(a_higher_class_clears_a_node_and_nobody_slips_in),
        CASE(an_exclusive_one_that_is_preempted_gives_way_as_a_whole),
        CASE(who_makes_room_within_a_quota_waits_for_whole_nodes),
        CASE(each_replica_has_a_node_of_its_own),
        CASE(a_node_that_grows_stays_its_own),
        CASE(work_without_devices_prefers_nodes_without),
        CASE(a_snapshot_keeps_nodes_apart),
        CASE(what_contradicts_itself_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
