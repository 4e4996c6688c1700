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

static void a_change_is_weighed_and_not_made(void **state)
{
    static const char *const wrong[][2] = {
        {"{}", "submit: give one change"},
        {"{\"cancel\":1,\"node\":{}}", "submit: give one change"},
        {"{\"stop\":1}", "stop"},
        {"{\"cancel\":9}", "cancel: no workload 9"},
        {"{\"scale\":{\"id\":1,\"min\":3,\"max\":2}}", "scale.max: must not be below min"},
        {"{\"node\":{\"id\":7,\"state\":\"down\"}}", "node.id: no such node"},
        {"{\"node\":{\"id\":1,\"state\":\"gone\"}}", "node.state: wants up"},
        {"{\"tenant\":7}", "tenant: wants a map"},
        {"{\"reserve\":{\"begin\":\"1h\"}}", "reserve.duration: is missing"},
        {"{\"submit\":{\"run\":7}}", "run"},
    };
    struct ctl_world *w = home();
    (void)state;
    submit(w, "{" WHOLE ",\"time_limit\":\"1h\"}");
    world_say(w, MR_ENGINE_STARTED, 1, 0, 0);
    submit(w, "{" WHOLE ",\"time_limit\":\"1h\",\"name\":\"second\"}");
    uint64_t hash = mr_core_hash(mr_ctl_core(w->ctl)), seq = mr_ctl_seq(w->ctl);
    for (size_t i = 0; i < MR_COUNT_OF(wrong); i++) {
        assert_int_equal(world_ask(w, MR_CTL_WHATIF, ADMIN, 0, wrong[i][0]), MR_EINVALID);
        if (strstr(w->problem, wrong[i][1]) == NULL) fail_msg("%s: %s", wrong[i][1], w->problem);
    }
    const char *high = "{\"submit\":{" WHOLE ",\"time_limit\":\"1h\",\"priority\":0}}";
    assert_int_equal(world_ask(w, MR_CTL_WHATIF, USER(1), 0, high), 0);
    assert_non_null(strstr(w->out, "{\"change\":\"submit\",\"workload\":{\"id\":3,\"start\":"));
    assert_non_null(strstr(w->out, "\"shifted\":[{\"id\":2,\"name\":\"second\",\"tenant\":"
                                   "\"default\",\"state\":\"pending\""));
    assert_non_null(strstr(w->out, "\"later_in\":40,\"earlier_in\":0"));
    assert_true(world_number(w->out, "cost_nusd") > 0);
    assert_int_equal(world_ask(w, MR_CTL_WHATIF, USER(1), 0, "{\"cancel\":1}"), 0);
    assert_non_null(strstr(w->out, "\"later_in\":0,\"earlier_in\":40"));
    assert_int_equal(
        world_ask(w, MR_CTL_WHATIF, ADMIN, 0, "{\"node\":{\"id\":1,\"state\":\"down\"}}"), 0);
    assert_non_null(strstr(w->out, "\"never_after\":40"));
    assert_int_equal(world_ask(w, MR_CTL_WHATIF, ADMIN, 0,
                               "{\"reserve\":{\"begin\":\"2h\",\"duration\":\"1h\"}}"),
                     0);
    assert_int_equal(world_ask(w, MR_CTL_WHATIF, ADMIN, 0,
                               "{\"tenant\":{\"name\":\"default\",\"quota\":{\"cpus\":1}}}"),
                     0);
    /* What core would refuse is refused, and what is the administrator's needs their key. */
    assert_int_equal(world_ask(w, MR_CTL_WHATIF, ADMIN, 0,
                               "{\"reserve\":{\"begin\":\"30m\",\"duration\":\"1h\","
                               "\"resources\":{\"cpus\":8}}}"),
                     MR_EUNAVAILABLE);
    assert_non_null(strstr(w->problem, "There is no such room at that time"));
    assert_int_equal(
        world_ask(w, MR_CTL_WHATIF, USER(1), 0, "{\"node\":{\"id\":1,\"state\":\"down\"}}"),
        MR_EFORBIDDEN);
    assert_int_equal(mr_core_hash(mr_ctl_core(w->ctl)), hash);
    assert_int_equal(mr_ctl_seq(w->ctl), seq);
    world_free(w);
}

static void a_gang_in_segments_is_not_scaled_to_a_part_of_one(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    submit(w, "{\"run\":\"x\",\"num_tasks\":4,\"segment\":2}");
    const char *odd = "{\"scale\":{\"id\":1,\"max\":5}}";
    assert_int_equal(world_ask(w, MR_CTL_WHATIF, ADMIN, 0, odd), MR_EINVALID);
    assert_non_null(strstr(w->problem, "scale.max: min and max must be multiples of its segment"));
    const char *even = "{\"scale\":{\"id\":1,\"max\":6}}";
    assert_int_equal(world_ask(w, MR_CTL_WHATIF, ADMIN, 0, even), 0);
    world_free(w);
}

static void another_tenant_learns_only_how_many(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    assert_int_equal(world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0, "{\"name\":\"other\"}"), 0);
    submit(w, "{" WHOLE ",\"time_limit\":\"1h\"}");
    world_say(w, MR_ENGINE_STARTED, 1, 0, 0);
    submit(w, "{" WHOLE ",\"time_limit\":\"1h\",\"name\":\"second\"}");
    const char *high = "{\"submit\":{" WHOLE ",\"time_limit\":\"1h\",\"priority\":0}}";
    assert_int_equal(world_ask(w, MR_CTL_WHATIF, USER(2), 0, high), 0);
    assert_null(strstr(w->out, "second"));
    assert_non_null(strstr(w->out, "\"shifted\":[],\"others_shifted\":1"));
    assert_int_equal(world_ask(w, MR_CTL_WHATIF, USER(2), 0, "{\"cancel\":1}"), MR_EINVALID);
    assert_non_null(strstr(w->problem, "cancel: no workload 1"));
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_waiting_job_is_told_when),
        cmocka_unit_test(what_is_not_known_is_said),
        cmocka_unit_test(ended_jobs_teach_and_a_restart_forgets_nothing),
        cmocka_unit_test(what_has_ended_has_no_when),
        cmocka_unit_test(a_change_is_weighed_and_not_made),
        cmocka_unit_test(a_gang_in_segments_is_not_scaled_to_a_part_of_one),
        cmocka_unit_test(another_tenant_learns_only_how_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
