/* SPDX-License-Identifier: Apache-2.0 */
/* `when` through ctl: computed beside the lane, changes nothing, learns from what has ended. */
#include "ctl_world.h"

static struct ctl_world *home(void)
{
    struct ctl_world *w = world_new();
    world_home(w);
    return w;
}

static uint64_t submit(struct ctl_world *w, const char *json)
{
    int error = world_ask(w, MR_CTL_SUBMIT, USER(1), 0, json);
    if (error != 0) fail_msg("%s: %s", json, w->problem);
    return world_number(w->out, "id");
}

#define WHOLE "\"resources\":{\"cpus\":8},\"run\":\"x\""

static void a_waiting_job_is_told_when(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    submit(w, "{" WHOLE ",\"time_limit\":\"1h\"}");
    world_say(w, MR_ENGINE_STARTED, 1, 0, 0);
    submit(w, "{" WHOLE ",\"time_limit\":\"1h\"}");
    uint64_t hash = mr_core_hash(mr_ctl_core(w->ctl)), seq = mr_ctl_seq(w->ctl);
    assert_int_equal(world_ask(w, MR_CTL_WHEN, USER(1), 2, NULL), 0);
    assert_non_null(strstr(w->out, "{\"id\":2,\"state\":\"pending\",\"reason\":"));
    assert_non_null(strstr(w->out, "\"samples\":40,\"started\":40,\"cut\":0,\"unknown\":0"));
    uint64_t median_s = world_number(w->out, "median_s");
    assert_true(median_s > 0 && median_s <= 3600);
    assert_true(world_number(w->out, "high_s") <= 6000);
    assert_int_equal(mr_core_hash(mr_ctl_core(w->ctl)), hash);
    assert_int_equal(mr_ctl_seq(w->ctl), seq);
    assert_int_equal(w->works, 1); /* not on the writer's lane */
    world_free(w);
}

static void what_is_not_known_is_said(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    submit(w, "{" WHOLE "}");
    world_say(w, MR_ENGINE_STARTED, 1, 0, 0);
    submit(w, "{" WHOLE "}");
    assert_int_equal(world_ask(w, MR_CTL_WHEN, USER(1), 2, NULL), 0);
    assert_non_null(strstr(w->out, "\"start\":{\"low\":null,\"median\":null,\"high\":null"));
    assert_int_equal(world_number(w->out, "unknown"), 2);
    world_free(w);
}

static void ended_jobs_teach_and_a_restart_forgets_nothing(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    for (uint64_t i = 1; i <= 12; i++) {
        assert_int_equal(submit(w, "{" WHOLE "}"), i);
        world_say(w, MR_ENGINE_STARTED, i, 0, 0);
        world_pass(w, 60000000);
        world_say(w, MR_ENGINE_EXITED, i, MR_EXIT_CODE, 0);
    }
    submit(w, "{" WHOLE "}");
    world_say(w, MR_ENGINE_STARTED, 13, 0, 0);
    submit(w, "{" WHOLE "}");
    for (int again = 0; again < 2; again++) {
        assert_int_equal(world_ask(w, MR_CTL_WHEN, USER(1), 14, NULL), 0);
        assert_int_equal(world_number(w->out, "unknown"), 0);
        uint64_t median_s = world_number(w->out, "median_s");
        assert_in_range(median_s, 50, 70);
        world_kill(w);
        assert_int_equal(world_start(w), 0);
        world_run(w);
    }
    world_free(w);
}

static void what_has_ended_has_no_when(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    submit(w, "{\"run\":\"x\"}");
    world_say(w, MR_ENGINE_STARTED, 1, 0, 0);
    assert_int_equal(world_ask(w, MR_CTL_WHEN, USER(1), 1, NULL), 0); /* it runs: since when */
    assert_non_null(strstr(w->out, "\"low_s\":0.000"));
    world_say(w, MR_ENGINE_EXITED, 1, MR_EXIT_CODE, 0);
    assert_int_equal(world_ask(w, MR_CTL_WHEN, USER(1), 1, NULL), MR_ESTATE);
    assert_non_null(strstr(w->problem, "workload 1 has ended (completed)"));
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_waiting_job_is_told_when),
        cmocka_unit_test(what_is_not_known_is_said),
        cmocka_unit_test(ended_jobs_teach_and_a_restart_forgets_nothing),
        cmocka_unit_test(what_has_ended_has_no_when),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
