/* SPDX-License-Identifier: Apache-2.0 */
/* The packing protocol on lists that are small enough to know the answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sim/sim.h"

static const char nodes[] = "sn,cpu_milli,memory_mib,gpu,model\n"
                            "a,8000,1000,2,T4\nb,8000,1000,2,P100\n";

static bool prior;

static int replay(const char *pods, uint64_t seed, struct mr_sim_replay_result *result)
{
    const struct mr_sim_replay_options options = {
        .format = MR_STR("openb"),
        .fleet = {MR_STR("nodes.csv"), MR_STR(nodes)},
        .workload = {MR_STR("pods.csv"), mr_str_from(pods)},
        .seed = seed,
        .prior_list = prior};
    mr_buf_init(&result->json, 65536);
    mr_buf_init(&result->text, 65536);
    mr_buf_init(&result->html, 65536);
    mr_buf_init(&result->problem, 65536);
    int error = mr_sim_replay(&options, result);
    mr_buf_put_char(&result->json, 0);
    mr_buf_put_char(&result->problem, 0);
    return error;
}

static void done(struct mr_sim_replay_result *result)
{
    mr_buf_done(&result->json);
    mr_buf_done(&result->text);
    mr_buf_done(&result->html);
    mr_buf_done(&result->problem);
}

static void whole_devices_fill_the_cluster(void **state)
{
    (void)state;
    struct mr_sim_replay_result result;
    const char *pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
                       "p,1000,10,1,1000,T4|P100\np,1000,10,1,1000,\n";
    assert_int_equal(replay(pods, 1, &result), 0);
    assert_non_null(strstr((char *)result.json.p, "\"allocated_gpu_share\":1.000000,"
                                                  "\"allocated_gpu_share_at_100\":1.000000"));
    assert_non_null(strstr((char *)result.json.p, "\"arrived\":6,\"placed\":4,\"dropped\":2"));
    done(&result);
}

static void a_pod_for_a_model_that_is_full_is_dropped(void **state)
{
    (void)state;
    struct mr_sim_replay_result result;
    const char *pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
                       "p,1000,10,1,500,T4\n";
    assert_int_equal(replay(pods, 1, &result), 0);
    assert_non_null(strstr((char *)result.json.p, "\"allocated_gpu_share\":0.500000"));
    assert_non_null(strstr((char *)result.json.p, "\"placed\":4,"));
    done(&result);
}

static void a_list_without_its_columns_is_refused(void **state)
{
    (void)state;
    struct mr_sim_replay_result result;
    assert_int_equal(replay("name,cpu_milli\np,1\n", 1, &result), MR_ESYNTAX);
    assert_string_equal((char *)result.problem.p, "pods.csv:1: no column is called 'memory_mib'");
    done(&result);
}

static void a_prior_is_taught_before_the_nodes_come(void **state)
{
    (void)state;
    struct mr_sim_replay_result result;
    const char *pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
                       "p,1000,10,1,1000,T4|P100\np,1000,10,1,1000,\n";
    prior = true;
    assert_int_equal(replay(pods, 1, &result), 0);
    prior = false;
    assert_non_null(strstr((char *)result.json.p, "\"arrived\":6,\"placed\":4,\"dropped\":2"));
    done(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_devices_fill_the_cluster),
        cmocka_unit_test(a_pod_for_a_model_that_is_full_is_dropped),
        cmocka_unit_test(a_list_without_its_columns_is_refused),
        cmocka_unit_test(a_prior_is_taught_before_the_nodes_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
