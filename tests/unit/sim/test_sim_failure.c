/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes that fail: at the rate that was asked for, the same for every policy; spares are worth it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sim/sim_play_int.h"

static struct mr_sim_replay_result result;

static int played(const char *fleet, const char *jobs, const char *failures, uint64_t seed)
{
    const struct mr_sim_replay_options options = {
        .format = MR_STR("millrace"),
        .fleet = {MR_STR("f"), mr_str_from(fleet)},
        .workload = {MR_STR("w"), mr_str_from(jobs)},
        .failures = mr_str_from(failures),
        .seed = seed,
    };
    mr_buf_init(&result.json, 1 << 20);
    mr_buf_init(&result.text, 1 << 20);
    mr_buf_init(&result.html, 1 << 20);
    mr_buf_init(&result.problem, 4096);
    int error = mr_sim_replay(&options, &result);
    mr_buf_put_char(&result.json, 0);
    return error;
}

static void done(void)
{
    mr_buf_done(&result.json);
    mr_buf_done(&result.text);
    mr_buf_done(&result.html);
    mr_buf_done(&result.problem);
}

static double figure(const char *name)
{
    const char *at = strstr((char *)result.json.p, name);
    assert_non_null(at);
    return strtod(at + strlen(name), NULL);
}

static void drawn_times_have_their_mean(void **state)
{
    (void)state;
    struct mr_prng prng;
    double sum = 0;
    mr_prng_init(&prng, 1);
    for (uint32_t i = 0; i < 100000; i++)
        sum += (double)sim_draw_exponential(&prng, 1e6);
    assert_true(sum / 100000 > 0.99e6 && sum / 100000 < 1.01e6);
}

#define FLEET "{\"nodes\":[{\"type\":\"u-p6e-gb200x72\",\"count\":5}]}"
#define JOB(extra)                                                                                 \
    "{\"run\":2592000,\"num_tasks\":72,\"cpus\":100,\"accelerators\":\"GB200:4\","                 \
    "\"checkpoint\":600,\"checkpoint_cost\":5,\"restart_cost\":600,\"swap_cost\":30" extra "}"

static void nodes_fail_at_the_published_rate(void **state)
{
    (void)state;
    /* 288 GPUs for 30 days at 4.74e-4 a day: 4.1 interruptions; a little more for whole racks.
     */
    double sum = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        assert_int_equal(played(FLEET, JOB(""), "llama3", seed), 0);
        sum += figure("\"interruptions\":");
        done();
    }
    assert_true(sum / 10 > 2.5 && sum / 10 < 6);
    sum = 0;
    for (uint64_t seed = 1; seed <= 5; seed++) { /* six times as many: 24.6 each */
        assert_int_equal(played(FLEET, JOB(""), "rsc", seed), 0);
        sum += figure("\"interruptions\":");
        done();
    }
    assert_true(sum / 5 > 17 && sum / 5 < 36);
    assert_int_equal(played(FLEET, JOB(""), "none", 1), 0);
    assert_true(figure("\"interruptions\":") == 0);
    assert_true(figure("\"lost_work\":") == 0);
    done();
}

static void equal_seeds_give_equal_stories(void **state)
{
    (void)state;
    assert_int_equal(played(FLEET, JOB(""), "rsc", 7), 0);
    struct mr_buf first = result.json;
    mr_buf_init(&result.json, 1);
    done();
    assert_int_equal(played(FLEET, JOB(""), "rsc", 7), 0);
    assert_int_equal(result.json.n, first.n);
    assert_memory_equal(result.json.p, first.p, first.n);
    mr_buf_done(&first);
    done();
}

static void spares_turn_restarts_into_swaps(void **state)
{
    (void)state;
    assert_int_equal(played(FLEET, JOB(""), "rsc", 3), 0);
    double without = figure("\"of_world\":");
    assert_true(figure("\"swap\":") == 0);
    assert_true(figure("\"restart\":") > 0);
    done();
    assert_int_equal(played(FLEET, JOB(",\"spares\":9"), "rsc", 3), 0);
    assert_true(figure("\"swap\":") > 0);
    assert_true(figure("\"spare\":") > 0);
    assert_true(figure("\"of_world\":") > without);
    done();
}

static void an_unknown_model_is_told(void **state)
{
    (void)state;
    assert_int_equal(played(FLEET, JOB(""), "murphy", 1), MR_EINVALID);
    mr_buf_put_char(&result.problem, 0);
    assert_string_equal((char *)result.problem.p,
                        "no failure model is called 'murphy'; there are: llama3 rsc none");
    done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drawn_times_have_their_mean),
        cmocka_unit_test(nodes_fail_at_the_published_rate),
        cmocka_unit_test(equal_seeds_give_equal_stories),
        cmocka_unit_test(spares_turn_restarts_into_swaps),
        cmocka_unit_test(an_unknown_model_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
