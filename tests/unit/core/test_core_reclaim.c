/* SPDX-License-Identifier: Apache-2.0 */
/* Borrowing, lending, reclaim: what siblings use of each other's, and how it comes back. */
#include "core_test.h"

#include "core/core_quota.h"

static struct cloud c;

/* An organisation (1) of 8 devices on 16; its projects 2 and 3 have 4 each and borrow. */
static struct mr_event project(uint32_t id, uint64_t borrow, uint64_t keep)
{
    struct mr_event event = {.kind = MR_EVENT_TENANT_SET,
                             .u.tenant = {.id = {id},
                                          .parent = {1},
                                          .weight = 1,
                                          .quota_cpu_milli = UINT64_MAX,
                                          .quota_mem_mib = UINT64_MAX,
                                          .quota_accel_milli = 4000,
                                          .running_max = UINT32_MAX,
                                          .reclaim = MR_PREEMPT_ANY,
                                          .within = MR_PREEMPT_LOWER}};
    event.u.tenant.lending[MR_RESOURCE_ACCEL] =
        (struct mr_lending){.borrow_max = borrow, .keep = keep};
    return event;
}

static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, 8000);
    cloud_step(&c, project(2, UINT64_MAX, 0));
    cloud_step(&c, project(3, UINT64_MAX, 0));
    node_set(&c, 1, 16);
    forget(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

/* Preemptible work of a tenant. */
static uint64_t run(uint32_t tenant, uint32_t tasks, uint32_t accel_milli)
{
    struct mr_event event = job(tasks, accel_milli);
    event.u.submit.tenant.v = tenant;
    event.u.submit.preemptible = true;
    uint64_t id = submit(&c, event);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    return id;
}

static struct mr_tenant_info tenant(uint32_t id)
{
    struct mr_tenant_info t;
    assert_int_equal(mr_core_tenant(c.core, (struct mr_tenant_id){id}, &t), 0);
    return t;
}

static void a_tenant_borrows_what_its_siblings_do_not_use(void **state)
{
    (void)state;
    assert_int_equal(state_of(&c, run(2, 1, 8000)), MR_STATE_RUNNING);
    assert_int_equal(tenant(2).accel_milli, 8000);
    uint64_t over = run(3, 1, 1000);
    assert_int_equal(info(&c, over).reason.code, MR_REASON_QUOTA);
    assert_int_equal(info(&c, over).reason.b, 8000); /* the organisation's */
}

static void borrowing_has_its_limit(void **state)
{
    (void)state;
    cloud_step(&c, project(2, 2000, 0));
    assert_int_equal(state_of(&c, run(2, 6, 1000)), MR_STATE_RUNNING);
    uint64_t over = run(2, 1, 1000);
    assert_int_equal(info(&c, over).reason.code, MR_REASON_QUOTA);
    assert_int_equal(info(&c, over).reason.a, 6000);
    assert_int_equal(info(&c, over).reason.b, 6000);
}

static void what_a_tenant_keeps_nobody_borrows(void **state)
{
    (void)state;
    cloud_step(&c, project(3, UINT64_MAX, 3000));
    uint64_t six = run(2, 1, 6000);
    assert_int_equal(info(&c, six).reason.code, MR_REASON_QUOTA);
    assert_int_equal(info(&c, six).reason.a, 3000); /* of the organisation's 8000 */
    assert_int_equal(state_of(&c, run(2, 1, 5000)), MR_STATE_RUNNING);
    assert_int_equal(tenant(1).used[MR_RESOURCE_ACCEL], 8000);
    assert_int_equal(tenant(1).accel_milli, 5000);
    /* Its own is there at once. */
    assert_int_equal(state_of(&c, run(3, 3, 1000)), MR_STATE_RUNNING);
    assert_int_equal(tenant(1).used[MR_RESOURCE_ACCEL], 8000);
}

static void only_what_may_be_asked_to_go_borrows(void **state)
{
    (void)state;
    struct mr_event stays = job(1, 5000);
    stays.u.submit.tenant.v = 2;
    uint64_t id = submit(&c, stays);
    assert_int_equal(info(&c, id).reason.code, MR_REASON_QUOTA);
    assert_int_equal(info(&c, id).reason.b, 4000);
}

static void who_is_within_its_quota_gets_it_back(void **state)
{
    (void)state;
    uint64_t borrowers[4];
    for (uint32_t i = 0; i < 4; i++)
        borrowers[i] = run(2, 1, 2000);
    tick(&c, MINUTE);
    /* The third has saved its work: it loses the least. */
    uint64_t third = lease_of(&c, borrowers[2], 0).id.v;
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_LEASE_PROGRESS,
                                     .u.lease = {.lease = {third}, .checkpoint_step = 1}});
    uint64_t own = run(3, 1, 2000);
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 0);
    forget(&c);
    /* Not at once: for as long as a restart loses. */
    tick(&c, CORE_RESTART_US - 1);
    told(&c, "");
    tick(&c, 1);
    told(&c, "workload 5 waits: quota\n"); /* what the third has done since counts, too */
    tick(&c, CORE_RECLAIM_US - CORE_RESTART_US);
    told(&c, "workload 5 reclaims\n"
             "workload 3 is preempted for 5\n"
             "workload 3: running to completing\n");
    assert_int_equal(info(&c, own).reason.code, MR_REASON_MAKING_ROOM);
    assert_int_equal(state_of(&c, own), MR_STATE_PENDING); /* the limit holds while it stops */
    exited(&c, third, MR_EXIT_CODE, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(state_of(&c, own), MR_STATE_RUNNING);
    assert_int_equal(tenant(1).accel_milli, 8000);
    assert_int_equal(info(&c, borrowers[2]).reason.code, MR_REASON_QUOTA);
}

static void nobody_gives_what_is_its_own(void **state)
{
    (void)state;
    uint64_t own = run(2, 1, 4000), lent = run(2, 1, 4000);
    run(3, 1, 4000);
    tick(&c, CORE_RECLAIM_US);
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 1);
    all_exit(&c, lent, MR_EXIT_CODE_REQUEUE);
    all_exit(&c, own, MR_EXIT_CODE_REQUEUE); /* by itself: it goes first again */
    /* Each has its 4000 now; the fifth of 3 would have to take of 2's own. */
    uint64_t more = run(3, 1, 1000);
    tick(&c, 10 * CORE_RECLAIM_US);
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 0);
    assert_int_equal(info(&c, more).reason.code, MR_REASON_QUOTA);
}

static void an_elastic_borrower_shrinks_rather_than_goes(void **state)
{
    (void)state;
    struct mr_event wide = job(2, 1000);
    wide.u.submit.tenant.v = 2;
    wide.u.submit.tasks_max = 8;
    wide.u.submit.preemptible = true;
    uint64_t elastic = submit(&c, wide);
    all_leases(&c, elastic, MR_EVENT_LEASE_STARTED);
    assert_int_equal(info(&c, elastic).tasks, 8);
    uint64_t own = run(3, 1, 3000);
    forget(&c);
    tick(&c, CORE_RECLAIM_US);
    told(&c, "workload 2 reclaims\n"
             "workload 1 shrinks for 2\n"
             "workload 1: running to completing\n");
    all_exit(&c, elastic, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(info(&c, elastic).tasks, 5);
    assert_int_equal(state_of(&c, elastic), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, own), MR_STATE_RUNNING);
}

static void its_own_higher_work_goes_before_its_lower(void **state)
{
    (void)state;
    run(3, 1, 4000);
    uint64_t low = run(2, 1, 4000);
    struct mr_event event = job(1, 4000);
    event.u.submit.tenant.v = 2;
    event.u.submit.preemptible = true;
    event.u.submit.priority = 1;
    uint64_t high = submit(&c, event);
    tick(&c, CORE_RECLAIM_US);
    all_exit(&c, low, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(state_of(&c, high), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, low), MR_STATE_PENDING);
}

static void a_borrower_of_higher_class_is_spared_when_asked_so(void **state)
{
    (void)state;
    struct mr_event careful = project(3, UINT64_MAX, 0);
    careful.u.tenant.reclaim = MR_PREEMPT_LOWER;
    cloud_step(&c, careful);
    run(2, 1, 8000);
    run(3, 1, 4000);
    tick(&c, 10 * CORE_RECLAIM_US);
    assert_int_equal(effects_of(&c, MR_EFFECT_STOP), 0);
}

/* Two borrowers; the one that hides its checkpoints gives no later than the one that saves. */
static void hiding_checkpoints_does_not_pay(void **state)
{
    (void)state;
    tenant_set(&c, 1, 0, 12000);
    struct mr_event third = project(4, UINT64_MAX, 0);
    cloud_step(&c, third);
    uint64_t hides = run(2, 1, 7000), saves = run(3, 1, 5000);
    for (uint32_t i = 0; i < 4; i++) {
        c.now_us += 10 * MINUTE;
        uint64_t lease = lease_of(&c, saves, 0).id.v;
        cloud_step(&c, (struct mr_event){.kind = MR_EVENT_LEASE_PROGRESS,
                                         .u.lease = {.lease = {lease}, .checkpoint_step = i}});
    }
    run(4, 1, 4000);
    tick(&c, CORE_RECLAIM_US);
    assert_int_equal(state_of(&c, hides), MR_STATE_COMPLETING); /* it borrows most */
    assert_int_equal(state_of(&c, saves), MR_STATE_RUNNING);
}

static void whole_nodes_come_back_also_from_who_asked_for_no_device(void **state)
{
    (void)state;
    node_state(&c, 1, MR_NODE_ABSENT);
    node_set(&c, 2, 4);
    node_set(&c, 3, 4);
    uint64_t borrowers[2];
    for (uint32_t i = 0; i < 2; i++) {
        struct mr_event event = job(1, 0);
        event.u.submit.tenant.v = 2;
        event.u.submit.preemptible = true;
        event.u.submit.exclusive = MR_EXCLUSIVE_NODE;
        borrowers[i] = submit(&c, event);
        all_leases(&c, borrowers[i], MR_EVENT_LEASE_STARTED);
    }
    assert_int_equal(tenant(2).accel_milli, 8000);
    uint64_t own = run(3, 1, 4000);
    tick(&c, CORE_RECLAIM_US);
    uint32_t asked = 0;
    for (uint32_t i = 0; i < 2; i++) {
        if (state_of(&c, borrowers[i]) != MR_STATE_COMPLETING) continue;
        all_exit(&c, borrowers[i], MR_EXIT_CODE_REQUEUE);
        asked++;
    }
    assert_int_equal(asked, 1);
    assert_int_equal(state_of(&c, own), MR_STATE_RUNNING);
}

static void who_is_within_its_quota_goes_before_who_borrows(void **state)
{
    (void)state;
    uint64_t full = run(2, 1, 8000);
    uint64_t borrows = run(2, 1, 5000), within = run(3, 1, 4000);
    all_exit(&c, full, 0);
    assert_int_equal(state_of(&c, within), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, borrows), MR_STATE_PENDING);
}

static void a_quota_of_a_type_holds_beside_the_sum(void **state)
{
    (void)state;
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_NODE_SET,
                                     .u.node = {.id = {2},
                                                .cpu_milli = 64000,
                                                .mem_mib = 262144,
                                                .accel_type = 2,
                                                .accel_count = 8}});
    struct mr_event typed = project(2, UINT64_MAX, 0);
    typed.u.tenant.types[0] = (struct mr_type_quota){.accel_type = GPU, .quota_milli = 1000};
    cloud_step(&c, typed);
    uint64_t first = run(2, 1, 1000), second = run(2, 1, 1000);
    assert_int_equal(lease_of(&c, first, 0).node.v, 1);
    assert_int_equal(lease_of(&c, second, 0).node.v, 2); /* of the other type */
    struct mr_event only = job(1, 1000);
    only.u.submit.tenant.v = 2;
    only.u.submit.shape.accel_types[0] = GPU;
    uint64_t waits = submit(&c, only);
    assert_int_equal(info(&c, waits).reason.code, MR_REASON_QUOTA);
    assert_int_equal(info(&c, waits).reason.b, 1000);
    assert_int_equal(tenant(2).type_milli[0], 1000);
    all_exit(&c, first, 0);
    assert_int_equal(state_of(&c, waits), MR_STATE_RUNNING);
}

static void a_claim_that_no_quota_comes_for_waits_again(void **state)
{
    (void)state;
    uint64_t lent = run(2, 1, 8000), own = run(3, 1, 4000);
    tick(&c, CORE_RECLAIM_US);
    assert_int_equal(info(&c, own).reason.code, MR_REASON_MAKING_ROOM);
    assert_int_equal(state_of(&c, lent), MR_STATE_COMPLETING);
    tenant_set(&c, 1, 0, 2000); /* now there is too little for it */
    assert_int_equal(info(&c, own).reason.code, MR_REASON_QUOTA);
    all_exit(&c, lent, MR_EXIT_CODE_REQUEUE);
    assert_int_equal(state_of(&c, own), MR_STATE_PENDING);
    assert_int_equal(tenant(1).accel_milli, 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_tenant_borrows_what_its_siblings_do_not_use),
        CASE(borrowing_has_its_limit),
        CASE(what_a_tenant_keeps_nobody_borrows),
        CASE(only_what_may_be_asked_to_go_borrows),
        CASE(who_is_within_its_quota_gets_it_back),
        CASE(nobody_gives_what_is_its_own),
        CASE(an_elastic_borrower_shrinks_rather_than_goes),
        CASE(its_own_higher_work_goes_before_its_lower),
        CASE(a_borrower_of_higher_class_is_spared_when_asked_so),
        CASE(hiding_checkpoints_does_not_pay),
        CASE(whole_nodes_come_back_also_from_who_asked_for_no_device),
        CASE(who_is_within_its_quota_goes_before_who_borrows),
        CASE(a_quota_of_a_type_holds_beside_the_sum),
        CASE(a_claim_that_no_quota_comes_for_waits_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
