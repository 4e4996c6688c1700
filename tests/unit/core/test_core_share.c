/* SPDX-License-Identifier: Apache-2.0 */
/* Fair shares over time and along the tree. */
#include "core_test.h"

#include "core/core_quota.h"

static struct cloud c;

static void tenant_of(uint32_t id, uint32_t parent, uint32_t weight, uint64_t half_life_us)
{
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_TENANT_SET,
                                     .u.tenant = {.id = {id},
                                                  .parent = {parent},
                                                  .weight = weight,
                                                  .quota_cpu_milli = UINT64_MAX,
                                                  .quota_mem_mib = UINT64_MAX,
                                                  .quota_accel_milli = UINT64_MAX,
                                                  .running_max = UINT32_MAX,
                                                  .half_life_us = half_life_us}});
}

static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    tenant_of(1, 0, 1, HOUR);
    tenant_of(2, 0, 1, HOUR);
    node_set(&c, 1, 8);
    forget(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

static uint64_t run(uint32_t tenant, uint32_t accel_milli)
{
    struct mr_event event = job(1, accel_milli);
    event.u.submit.tenant.v = tenant;
    return submit(&c, event);
}

static struct mr_tenant_info tenant(uint32_t id)
{
    struct mr_tenant_info t;
    assert_int_equal(mr_core_tenant(c.core, (struct mr_tenant_id){id}, &t), 0);
    return t;
}

static void past_use_halves_in_a_half_life(void **state)
{
    (void)state;
    uint64_t id = run(1, 8000);
    tick(&c, HOUR);
    assert_in_range(tenant(1).past[MR_RESOURCE_ACCEL], 3999, 4001);
    all_exit(&c, id, 0);
    tick(&c, HOUR);
    assert_in_range(tenant(1).past[MR_RESOURCE_ACCEL], 1999, 2001);
    tick(&c, 10 * HOUR);
    assert_in_range(tenant(1).past[MR_RESOURCE_ACCEL], 1, 2);
}

static void many_small_steps_give_the_same_past_as_one(void **state)
{
    (void)state;
    uint64_t id = run(1, 4000);
    for (uint32_t i = 0; i < 3000; i++) {
        c.now_us += HOUR / 3000;
        uint64_t other = run(1, 0); /* changes what it holds in each step */
        all_exit(&c, other, 0);
    }
    assert_in_range(tenant(1).past[MR_RESOURCE_ACCEL], 1998, 2002);
    all_exit(&c, id, 0);
}

static void who_used_less_before_goes_first(void **state)
{
    (void)state;
    uint64_t before = run(1, 8000);
    c.now_us += HOUR;
    uint64_t first = run(1, 4000), second = run(2, 8000); /* in this order */
    all_exit(&c, before, 0);
    assert_int_equal(state_of(&c, second), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, first), MR_STATE_PENDING);
    /* When the other has caught up, it is its turn again. */
    uint64_t again = run(2, 8000);
    c.now_us += 2 * HOUR;
    all_exit(&c, second, 0);
    assert_int_equal(state_of(&c, first), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, again), MR_STATE_PENDING);
}

static void without_a_half_life_only_the_present_counts(void **state)
{
    (void)state;
    tenant_of(1, 0, 1, 0);
    tenant_of(2, 0, 1, 0);
    uint64_t before = run(1, 8000);
    c.now_us += HOUR;
    uint64_t first = run(1, 8000), second = run(2, 8000);
    all_exit(&c, before, 0);
    assert_int_equal(state_of(&c, first), MR_STATE_RUNNING);
    assert_int_equal(state_of(&c, second), MR_STATE_PENDING);
}

/* Two that always have work, one device each run: over a day each has had what its weight says. */
static void service_over_time_follows_the_weights(void **state)
{
    (void)state;
    tenant_of(1, 0, 3, HOUR);
    uint64_t queue[64], head = 0, tail = 0, used[3] = {0};
    uint32_t owner[64];
    for (uint32_t i = 0; i < 24; i++) {
        owner[tail % 64] = 1 + i % 2;
        queue[tail++ % 64] = run(1 + i % 2, 1000);
    }
    for (uint32_t i = 0; i < 2000; i++) {
        c.now_us += MINUTE;
        used[1] += tenant(1).running;
        used[2] += tenant(2).running;
        /* The first of those that run ends, and its owner submits another. */
        uint64_t at = head;
        while (at < tail &&
               (queue[at % 64] == 0 || state_of(&c, queue[at % 64]) != MR_STATE_RUNNING))
            at++;
        assert_true(at < tail);
        uint32_t who = owner[at % 64];
        all_exit(&c, queue[at % 64], 0);
        queue[at % 64] = 0;
        while (head < tail && queue[head % 64] == 0)
            head++;
        owner[tail % 64] = who;
        queue[tail++ % 64] = run(who, 1000);
    }
    assert_in_range(used[1] * 100 / (used[1] + used[2]), 73, 77);
}

static void an_organisation_gains_nothing_by_many_projects(void **state)
{
    (void)state;
    tenant_of(1, 0, 1, 0);
    tenant_of(2, 0, 1, 0);
    for (uint32_t i = 3; i <= 6; i++)
        tenant_of(i, 1, 1, 0); /* four projects of 1 */
    tenant_of(7, 2, 1, 0);     /* one of 2 */
    uint64_t all = run(7, 8000), ids[16];
    for (uint32_t i = 0; i < 8; i++) {
        ids[i] = run(3 + i % 4, 1000);
        ids[8 + i] = run(7, 1000);
    }
    all_exit(&c, all, 0);
    uint32_t first = 0, second = 0;
    for (uint32_t i = 0; i < 8; i++) {
        first += state_of(&c, ids[i]) == MR_STATE_RUNNING;
        second += state_of(&c, ids[8 + i]) == MR_STATE_RUNNING;
    }
    assert_int_equal(first, 4);
    assert_int_equal(second, 4);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(past_use_halves_in_a_half_life),
        CASE(many_small_steps_give_the_same_past_as_one),
        CASE(who_used_less_before_goes_first),
        CASE(without_a_half_life_only_the_present_counts),
        CASE(service_over_time_follows_the_weights),
        CASE(an_organisation_gains_nothing_by_many_projects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
