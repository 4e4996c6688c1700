/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs with deadlines: the least share that makes it, promises that hold, a price that rises. */
#include "core_test.h"

static struct cloud c;

static const struct mr_core_limits limits = {.nodes = 16,
                                             .domains = 8,
                                             .blocks = 4,
                                             .cells = 2,
                                             .tenants = 8,
                                             .workloads = 256,
                                             .leases = 256,
                                             .shapes = 32,
                                             .planned = 64};

/* Two nodes with eight devices each. */
static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    node_set(&c, 1, 8);
    node_set(&c, 2, 8);
    forget(&c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

/* One, two, four, eight tasks with one device each: 1, 1.8, 3.2 and 5.6 units a second; a change of
 * size costs ten seconds. */
static struct mr_event due_job(uint64_t work, uint64_t deadline_us)
{
    struct mr_event event = job(1, 1000);
    event.u.submit.tasks_max = 8;
    event.u.submit.deadline_us = deadline_us;
    event.u.submit.promise = true;
    event.u.submit.late_ends = true;
    event.u.submit.curve = (struct mr_curve){.work = work,
                                             .count = 4,
                                             .points = {{1, 1000000, 10 * SECOND},
                                                        {2, 1800000, 10 * SECOND},
                                                        {4, 3200000, 10 * SECOND},
                                                        {8, 5600000, 10 * SECOND}}};
    return event;
}

/* Time passes minute by minute; who is asked to stop does, and runs last as their curve says. */
static uint64_t ends_us[64], begun_run[64];

static void settle(uint64_t last_id)
{
    for (uint64_t id = 1; id <= last_id; id++) {
        struct mr_workload_info w = info(&c, id);
        while (w.state == MR_STATE_COMPLETING && w.lease_count > 0) {
            exited(&c, lease_of(&c, id, 0).id.v, MR_EXIT_CODE, 75);
            w = info(&c, id);
        }
    }
}

static void play(uint64_t last_id, const uint64_t *work, uint64_t until_us)
{
    static const uint64_t rate[9] = {0, 1000000, 1800000, 0, 3200000, 0, 0, 0, 5600000};
    static uint64_t left[64], began_us[64];
    static uint32_t tasks[64];
    if (c.now_us < MINUTE) {
        memset(begun_run, 0, sizeof begun_run);
        memset(ends_us, 0, sizeof ends_us);
        memset(tasks, 0, sizeof tasks);
        memset(left, 0, sizeof left);
    }
    while (c.now_us < until_us) {
        for (uint64_t id = 1; id <= last_id; id++) {
            struct mr_workload_info w = info(&c, id);
            if (begun_run[id] == 0) left[id] = work[id] * 1000000;
            uint64_t ran_us = c.now_us - began_us[id], done = 0;
            if (tasks[id] > 0 && ran_us > 10 * SECOND)
                done = (ran_us - 10 * SECOND) * rate[tasks[id]] / 1000000;
            if (w.run != begun_run[id] || w.state != MR_STATE_RUNNING) {
                left[id] -= MR_MIN(done, left[id]);
                tasks[id] = w.state == MR_STATE_RUNNING ? w.tasks : 0;
                begun_run[id] = w.run;
                began_us[id] = c.now_us;
            } else if (done >= left[id]) {
                all_exit(&c, id, 0);
                ends_us[id] = c.now_us;
                tasks[id] = 0;
            }
        }
        settle(last_id);
        tick(&c, SECOND);
        settle(last_id);
    }
}

static void a_job_gets_the_least_share_that_makes_it(void **state)
{
    (void)state;
    /* 1,000 units in 20 minutes: one device does 1,190 of them. */
    uint64_t id = submit(&c, due_job(1000, 20 * MINUTE));
    assert_int_equal(info(&c, id).state, MR_STATE_PENDING);
    assert_int_equal(info(&c, id).reason.code, MR_REASON_DEADLINE);
    tick(&c, MINUTE - c.now_us);
    assert_int_equal(info(&c, id).state, MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).tasks, 1);
    assert_true(info(&c, id).promised);
    assert_true(info(&c, id).planned_us <= 20 * MINUTE);
    /* 3,000 need more than two devices all the time, and four only towards the end. */
    id = submit(&c, due_job(3000, 21 * MINUTE));
    tick(&c, MINUTE);
    assert_int_equal(info(&c, id).tasks, 2);
    assert_true(info(&c, id).promised);
}

static void what_cannot_be_done_in_time_is_said_and_given_up(void **state)
{
    (void)state;
    uint64_t id = submit(&c, due_job(1000000, 20 * MINUTE));
    tick(&c, MINUTE);
    assert_int_equal(info(&c, id).state, MR_STATE_TIMEOUT);
    /* Who does not say that late is worthless goes on as an ordinary job. */
    struct mr_event event = due_job(1000000, 21 * MINUTE);
    event.u.submit.late_ends = false;
    id = submit(&c, event);
    tick(&c, MINUTE);
    tick(&c, MINUTE);
    assert_int_equal(info(&c, id).state, MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).tasks, 8);
    assert_false(info(&c, id).promised);
}

static void promises_are_kept_whatever_comes_later(void **state)
{
    (void)state;
    uint64_t work[64] = {0}, ids = 0;
    struct mr_prng prng;
    mr_prng_init(&prng, 7);
    bool promised[64] = {0};
    uint32_t kept = 0, dropped = 0;
    for (uint64_t minute = 1; minute <= 75; minute++) {
        if (minute <= 40) { /* one comes each minute */
            uint64_t deadline_us = (minute + 8 + mr_prng_below(&prng, 25)) * MINUTE;
            work[ids + 1] = 200 + mr_prng_below(&prng, 3500);
            ids = submit(&c, due_job(work[ids + 1], deadline_us));
        }
        play(ids, work, minute * MINUTE);
        for (uint64_t id = 1; id <= ids; id++) {
            promised[id] = promised[id] || info(&c, id).promised;
        }
    }
    for (uint64_t id = 1; id <= ids; id++) {
        struct mr_workload_info w = info(&c, id);
        assert_true(mr_state_final(w.state));
        dropped += w.state == MR_STATE_TIMEOUT;
        if (!promised[id]) continue;
        kept++;
        assert_int_equal(w.state, MR_STATE_COMPLETED);
        /* The test's clock goes in seconds. */
        assert_true(ends_us[id] <= w.deadline_us + 2 * SECOND);
    }
    assert_true(kept > 2);
    assert_true(dropped > 3); /* there was more than could be done */
}

static void a_lost_node_takes_its_share_of_the_plan(void **state)
{
    (void)state;
    uint64_t id = submit(&c, due_job(6000, 30 * MINUTE));
    tick(&c, MINUTE);
    uint32_t before = info(&c, id).tasks;
    assert_true(before >= 4);
    node_state(&c, lease_of(&c, id, 0).node.v, MR_NODE_DOWN);
    settle(id);
    tick(&c, MINUTE);
    settle(id);
    tick(&c, MINUTE);
    assert_int_equal(info(&c, id).state, MR_STATE_RUNNING);
    assert_true(info(&c, id).tasks <= 8);
}

static void who_cancels_or_scales_a_job_takes_it_out_of_the_plan(void **state)
{
    (void)state;
    uint64_t id = submit(&c, due_job(3000, 30 * MINUTE));
    cancel(&c, id);
    assert_int_equal(info(&c, id).state, MR_STATE_CANCELLED);
    id = submit(&c, due_job(3000, 30 * MINUTE));
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_SCALE, .u.scale = {{id}, 3, 3}});
    assert_int_equal(info(&c, id).state, MR_STATE_RUNNING);
    assert_int_equal(info(&c, id).tasks, 3);
    assert_int_equal(info(&c, id).planned_us, 0);
    tick(&c, 2 * MINUTE);
    assert_int_equal(info(&c, id).tasks, 3);
}

static void a_saved_cloud_plans_on_as_before(void **state)
{
    (void)state;
    uint64_t id = submit(&c, due_job(3000, 30 * MINUTE));
    tick(&c, MINUTE);
    struct mr_buf saved;
    mr_buf_init(&saved, 1 << 28);
    mr_core_save(c.core, &saved);
    struct mr_core *other = NULL;
    void *block = aligned_alloc(64, (c.bytes + 63) & ~(size_t)63);
    assert_int_equal(mr_core_load(mr_buf_str(&saved), block, c.bytes, &other), 0);
    assert_true(mr_core_hash(other) == mr_core_hash(c.core));
    assert_true(mr_core_wake_us(other) == mr_core_wake_us(c.core));
    assert_true(info(&c, id).promised);
    free(block);
    mr_buf_done(&saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_job_gets_the_least_share_that_makes_it, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_done_in_time_is_said_and_given_up, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(promises_are_kept_whatever_comes_later, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_node_takes_its_share_of_the_plan, setup, teardown),
        cmocka_unit_test_setup_teardown(who_cancels_or_scales_a_job_takes_it_out_of_the_plan, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_saved_cloud_plans_on_as_before, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
