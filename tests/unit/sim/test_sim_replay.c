/* SPDX-License-Identifier: Apache-2.0 */
/* Core under a virtual clock: runs last as long as the story says, stops take as long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim/sim_replay_int.h"

struct story {
    uint64_t lasts_us, stop_us;
    uint32_t began, stopped;
    uint64_t ran_us, workload;
};

static uint64_t began(void *context, uint64_t workload, uint32_t run, uint32_t tasks)
{
    struct story *story = context;
    assert_int_equal(run, story->began + 1);
    assert_int_equal(tasks, 3);
    story->workload = workload;
    story->began++;
    return story->lasts_us;
}

static uint64_t stopped(void *context, uint64_t workload, uint32_t run, uint64_t ran_us)
{
    struct story *story = context;
    (void)workload, (void)run;
    story->stopped++;
    story->ran_us = ran_us;
    return story->stop_us;
}

static void set_up(struct sim_replay *r, const struct sim_replay_hooks *hooks)
{
    struct mr_event tenant = {.kind = MR_EVENT_TENANT_SET,
                              .u.tenant = {.id = {1},
                                           .weight = 1,
                                           .quota_cpu_milli = UINT64_MAX,
                                           .quota_mem_mib = UINT64_MAX,
                                           .quota_accel_milli = UINT64_MAX,
                                           .running_max = UINT32_MAX}};
    struct mr_event job = {.kind = MR_EVENT_SUBMIT,
                           .u.submit = {.tenant = {1},
                                        .kind = MR_KIND_JOB,
                                        .shape = {.cpu_milli = 1000, .mem_mib = 1},
                                        .tasks_min = 3,
                                        .tasks_max = 3,
                                        .priority = MR_PRIORITY_DEFAULT}};
    assert_int_equal(sim_replay_init(r, &mr_core_limits_small, hooks, NULL), 0);
    sim_replay_event(r, &tenant);
    for (uint32_t i = 1; i <= 2; i++) {
        struct mr_event node = {.kind = MR_EVENT_NODE_SET,
                                .u.node = {.id = {i}, .cpu_milli = 2000, .mem_mib = 100}};
        sim_replay_event(r, &node);
    }
    sim_replay_event(r, &job);
}

static enum mr_state state_of(const struct sim_replay *r, uint64_t id)
{
    struct mr_workload_info info;
    assert_int_equal(mr_core_workload(r->core, (struct mr_workload_id){id}, &info), 0);
    return info.state;
}

static void a_gang_ends_when_its_time_is_over(void **state)
{
    (void)state;
    struct sim_replay r;
    struct story story = {.lasts_us = 500};
    const struct sim_replay_hooks hooks = {.context = &story, .began = began, .stopped = stopped};
    set_up(&r, &hooks);
    assert_int_equal(story.began, 1);
    sim_replay_advance(&r, 499);
    assert_int_equal(state_of(&r, story.workload), MR_STATE_RUNNING);
    sim_replay_advance(&r, 500);
    assert_int_equal(state_of(&r, story.workload), MR_STATE_COMPLETED);
    assert_int_equal(story.stopped, 0);
    sim_replay_done(&r);
}

static void a_stopped_run_takes_its_time_and_does_not_end_again(void **state)
{
    (void)state;
    struct sim_replay r;
    struct story story = {.lasts_us = 500, .stop_us = 50};
    const struct sim_replay_hooks hooks = {.context = &story, .began = began, .stopped = stopped};
    set_up(&r, &hooks);
    sim_replay_advance(&r, 100);
    struct mr_event cancel = {.kind = MR_EVENT_CANCEL, .u.cancel = {story.workload}};
    sim_replay_event(&r, &cancel);
    assert_int_equal(story.stopped, 1);
    assert_int_equal(story.ran_us, 100);
    sim_replay_advance(&r, 149);
    assert_int_equal(state_of(&r, story.workload), MR_STATE_COMPLETING);
    sim_replay_advance(&r, 1000);
    assert_int_equal(state_of(&r, story.workload), MR_STATE_CANCELLED);
    assert_int_equal(story.began, 1);
    sim_replay_done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gang_ends_when_its_time_is_over),
        cmocka_unit_test(a_stopped_run_takes_its_time_and_does_not_end_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
