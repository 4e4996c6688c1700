/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs with deadlines on a small cluster: a line that holds, and what is said of wrong input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/sim.h"

static const char speeds[] = "global_batch_size,1,2,4,8\n64,1.0,1.9,3.5,6.2\n128,0.5,0.9,0.8,2.0\n";
static const struct mr_sim_file tables[] = {{{"net", 3}, {speeds, sizeof speeds - 1}}};
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

static int replay(struct mr_sim_replay_options options, struct mr_str trace)
{
    mr_buf_reset(&result.json);
    mr_buf_reset(&result.problem);
    options.format = MR_STR("elasticflow");
    options.workload = (struct mr_sim_file){MR_STR("trace.csv"), trace};
    options.throughputs = tables;
    options.throughput_count = 1;
    int error = mr_sim_replay(&options, &result);
    mr_buf_put_char(&result.json, 0);
    mr_buf_put_char(&result.problem, 0);
    return error;
}

static double figure(const char *name)
{
    const char *at = strstr((const char *)result.json.p, name);
    assert_non_null(at);
    return strtod(at + strlen(name) + 2, NULL);
}

/* A job a minute or so, of one to forty minutes on one GPU, with half to three times that for it.
 */
static void trace_draw(struct mr_buf *trace, uint32_t jobs)
{
    struct mr_prng prng;
    mr_prng_init(&prng, 11);
    uint64_t at_s = 1000;
    mr_buf_printf(trace, "job_id,submission_time,num_iteration,model_name,deadline,batch_size,"
                         "num_gpu,duration\n");
    for (uint32_t i = 0; i < jobs; i++) {
        uint64_t work = 60 + mr_prng_below(&prng, 2400);
        uint64_t deadline_s = at_s + 60 + work / 2 + mr_prng_below(&prng, 3 * work);
        mr_buf_printf(trace, "j%u,%llu,%llu,net,%llu,64,1,%llu\n", i, (unsigned long long)at_s,
                      (unsigned long long)work, (unsigned long long)deadline_s,
                      (unsigned long long)work);
        at_s += mr_prng_below(&prng, 120);
    }
}

static void most_deadlines_are_met_and_no_promise_is_broken(void **state)
{
    (void)state;
    static const enum mr_sim_overhead overheads[] = {MR_SIM_OVERHEAD_NONE, MR_SIM_OV1, MR_SIM_OV2};
    static const double least[] = {0.90, 0.88, 0.80};
    struct mr_buf trace;
    mr_buf_init(&trace, 1 << 20);
    trace_draw(&trace, 300);
    for (size_t i = 0; i < MR_COUNT_OF(overheads); i++) {
        const struct mr_sim_replay_options options = {.gpus = 24, .overhead = overheads[i]};
        assert_int_equal(replay(options, mr_buf_str(&trace)), 0);
        assert_true(figure("\"deadline_satisfactory_ratio") > least[i]);
        assert_true(figure("\"broken_promises") == 0);
        assert_true(figure("\"admitted") > 30);
    }
    for (uint64_t seed = 1; seed <= 3; seed++) {
        const struct mr_sim_replay_options options = {
            .gpus = 24, .speed_error_permille = 200, .seed = seed};
        assert_int_equal(replay(options, mr_buf_str(&trace)), 0);
        assert_true(figure("\"deadline_satisfactory_ratio") > 0.78);
        assert_true(figure("\"broken_promises") == 0);
    }
    mr_buf_done(&trace);
}

static void without_promises_nobody_is_admitted(void **state)
{
    (void)state;
    struct mr_buf trace;
    mr_buf_init(&trace, 1 << 20);
    trace_draw(&trace, 100);
    const struct mr_sim_replay_options options = {.gpus = 24, .no_promises = true};
    assert_int_equal(replay(options, mr_buf_str(&trace)), 0);
    assert_true(figure("\"admitted") == 0);
    assert_true(figure("\"deadline_satisfactory_ratio") > 0.85);
    mr_buf_done(&trace);
}

static void wrong_input_is_named(void **state)
{
    (void)state;
    const struct mr_sim_replay_options options = {.gpus = 8};
    const char *head = "submission_time,num_iteration,deadline,batch_size,model_name\n";
    char text[256];
    assert_int_equal(replay((struct mr_sim_replay_options){0}, MR_STR("x")), MR_EINVALID);
    assert_non_null(strstr((const char *)result.problem.p, "--gpus"));
    snprintf(text, sizeof text, "%s10,5,99,32,net\n", head);
    assert_int_equal(replay(options, mr_str_from(text)), MR_ESYNTAX);
    assert_string_equal((const char *)result.problem.p,
                        "trace.csv:2: no speeds are known of net with batch 32");
    snprintf(text, sizeof text, "%sten,5,99,64,net\n", head);
    assert_int_equal(replay(options, mr_str_from(text)), MR_ESYNTAX);
    assert_int_equal(replay(options, mr_str_from(head)), MR_ESYNTAX);
    assert_non_null(strstr((const char *)result.problem.p, "no job"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(most_deadlines_are_met_and_no_promise_is_broken, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(without_promises_nobody_is_admitted, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_input_is_named, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
