/* SPDX-License-Identifier: Apache-2.0 */
/* Generators of cohorts and queues that are small enough to know the answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sim/sim.h"

static struct mr_sim_replay_result result;

static int setup(void **state)
{
    (void)state;
    mr_buf_init(&result.json, 65536);
    mr_buf_init(&result.text, 65536);
    mr_buf_init(&result.html, 65536);
    mr_buf_init(&result.problem, 65536);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_buf_done(&result.json);
    mr_buf_done(&result.text);
    mr_buf_done(&result.html);
    mr_buf_done(&result.problem);
    return 0;
}

static int replay(const char *json)
{
    const struct mr_sim_replay_options options = {
        .format = MR_STR("kueue"), .workload = {MR_STR("g.json"), mr_str_from(json)}};
    int error = mr_sim_replay(&options, &result);
    mr_buf_put_char(&result.json, 0);
    mr_buf_put_char(&result.problem, 0);
    return error;
}

static void gives(const char *part)
{
    if (strstr((const char *)result.json.p, part) == NULL)
        fail_msg("no %s in %s", part, (const char *)result.json.p);
}

#define QUEUE(nominal, borrow)                                                                     \
    "{\"cohorts\":[{\"className\":\"c\",\"count\":1,\"queuesSets\":[{\"className\":\"q\","         \
    "\"count\":2,\"nominalQuota\":" nominal ",\"borrowingLimit\":" borrow ",\"workloadsSets\":["
#define END "]}]}]}"
#define SET(count, request)                                                                        \
    "{\"count\":" count ",\"creationIntervalMs\":1000,\"workloads\":[{\"className\":\"w\","        \
    "\"runtimeMs\":10000,\"priority\":5,\"request\":" request "}]}"

static void quota_bounds_the_makespan(void **state)
{
    (void)state;
    /* Two queues, each four runs of 10 s on 2 of its 2: one after the other, from second 1. */
    assert_int_equal(replay(QUEUE("2", "0") SET("4", "2") END), 0);
    gives("\"makespan_s\":41.000,\"ideal_s\":40.000");
    gives("\"workloads\":8,\"completed\":8,\"rejected\":0,\"never_admitted\":0");
    /* They wait 0, 9, 18 and 27 s. */
    gives("\"w\":{\"count\":8,\"admitted\":8,\"mean_time_to_admission_s\":13.500,"
          "\"max_time_to_admission_s\":27.000");
}

static void a_queue_borrows_what_the_other_does_not_use(void **state)
{
    (void)state;
    /* Requests of 3 fit in no queue alone, but in the cohort's 4. */
    assert_int_equal(replay(QUEUE("2", "1") SET("1", "\"3000m\"") END), 0);
    gives("\"makespan_s\":21.000,\"ideal_s\":15.000");
}

static void what_may_never_be_admitted_is_told(void **state)
{
    (void)state;
    assert_int_equal(replay(QUEUE("2", "0") SET("1", "3") "," SET("1", "1") END), 0);
    gives("\"workloads\":4,\"completed\":2,\"rejected\":0,\"never_admitted\":2");
}

static void a_required_rack_holds_all_pods(void **state)
{
    (void)state;
    /* Two racks of two nodes of 2 vCPUs: a gang of 4 pods takes a whole rack. */
    static const char text[] =
        "{\"topology\":{\"name\":\"t\",\"levels\":["
        "{\"name\":\"rack\",\"count\":2,\"nodeLabel\":\"r\"},"
        "{\"name\":\"node\",\"count\":2,\"nodeLabel\":\"n\",\"capacity\":{\"cpu\":\"2\","
        "\"memory\":\"1Gi\"}}]},"
        "\"cohorts\":[{\"className\":\"c\",\"queuesSets\":[{\"className\":\"q\","
        "\"nominalQuota\":\"100\",\"workloadsSets\":[{\"count\":3,\"creationIntervalMs\":1000,"
        "\"workloads\":[{\"className\":\"g\",\"runtimeMs\":10000,\"priority\":1,\"request\":\"1\","
        "\"podCount\":4,\"tasConstraint\":\"required\",\"tasLevel\":\"r\"}]}]}]}]}";
    assert_int_equal(replay(text), 0);
    gives("\"makespan_s\":21.000,\"ideal_s\":13.000");
    gives("\"ignored_keys\":[]");
}

static void what_is_wrong_is_told_with_its_place(void **state)
{
    (void)state;
    assert_int_equal(replay("{"), MR_ESYNTAX);
    assert_string_equal((const char *)result.problem.p, "g.json: neither YAML nor JSON");
    mr_buf_reset(&result.problem);
    assert_int_equal(replay(QUEUE("\"many\"", "0") SET("1", "1") END), MR_EINVALID);
    assert_string_equal((const char *)result.problem.p,
                        "g.json: queuesSets: nominalQuota wants an amount such as 20, \"500m\" or "
                        "\"256Gi\"");
    mr_buf_reset(&result.problem);
    assert_int_equal(replay("{\"dra\":{},\"cohorts\":[]}"), MR_EINVALID);
    assert_string_equal((const char *)result.problem.p,
                        "g.json: the file: dra is not replayed yet: only vCPUs are");
}

static void keys_that_mean_nothing_are_told(void **state)
{
    (void)state;
    assert_int_equal(replay("{\"colour\":1,\"cohorts\":[{\"size\":2,\"colour\":3,\"queuesSets\":[{"
                            "\"nominalQuota\":2,\"workloadsSets\":[" SET("1", "1") "]}]}]}"),
                     0);
    gives("\"ignored_keys\":[\"colour\",\"size\"]");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(quota_bounds_the_makespan),
        CASE(a_queue_borrows_what_the_other_does_not_use),
        CASE(what_may_never_be_admitted_is_told),
        CASE(a_required_rack_holds_all_pods),
        CASE(what_is_wrong_is_told_with_its_place),
        CASE(keys_that_mean_nothing_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
