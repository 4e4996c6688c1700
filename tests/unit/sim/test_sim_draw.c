/* SPDX-License-Identifier: Apache-2.0 */
/* Drawn workloads: they have the figures that were published, and ask for what was wished. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sim/sim_play_int.h"
#include "sim/sim_report_int.h"

#define JOBS 100000u

static struct sim_story story;
static struct mr_sim_fleet *fleet;
static struct mr_buf problem;

static int draw(const char *name, uint64_t seed, uint32_t load)
{
    const struct mr_sim_replay_options options = {
        .draw = mr_str_from(name), .seed = seed, .jobs = JOBS, .load_per_cent = load};
    sim_story_done(&story);
    sim_story_init(&story);
    return sim_story_draw(&options, fleet, &story, &problem);
}

static int begin(void **state)
{
    (void)state;
    const struct mr_sim_file file = {
        MR_STR("f"), MR_STR("{\"nodes\":[{\"type\":\"p4de.24xlarge\",\"count\":250}]}")};
    mr_buf_init(&problem, 4096);
    sim_story_init(&story);
    return mr_sim_fleet_read(&file, NULL, &fleet, &problem);
}

static int end(void **state)
{
    (void)state;
    sim_story_done(&story);
    mr_sim_fleet_free(fleet);
    mr_buf_done(&problem);
    return 0;
}

static double gpus_of(const struct sim_job *job)
{
    return (double)job->tasks_max * job->shape.accel_milli / 1000;
}

static bool near(double value, double wanted, double part)
{
    return value > wanted * (1 - part) && value < wanted * (1 + part);
}

static void acme_has_the_published_means_medians_and_shares(void **state)
{
    (void)state;
    double *runs = malloc(JOBS * sizeof *runs);
    double run = 0, gpus = 0, all = 0, badly = 0;
    uint64_t failed = 0;
    assert_non_null(runs);
    assert_int_equal(draw("acme", 1, 80), 0);
    for (uint32_t i = 0; i < JOBS; i++) {
        const struct sim_job *job = &story.jobs[i];
        runs[i] = (double)job->run_us / 1e6;
        run += runs[i];
        gpus += gpus_of(job);
        all += runs[i] * gpus_of(job);
        badly += job->ended_badly ? runs[i] * gpus_of(job) : 0;
        failed += job->ended_badly;
        assert_true(job->limit_us >= job->run_us);
    }
    struct sim_spread spread = sim_spread_of(runs, JOBS);
    free(runs);
    assert_true(near(run / JOBS, 1414, 0.1));
    assert_true(near(spread.median, 122, 0.05));
    assert_true(near(gpus / JOBS, 5.68, 0.05));
    assert_true(near((double)failed / JOBS, 0.503, 0.02)); /* failed and cancelled */
    assert_true(near(badly / all, 0.788, 0.1));
}

static void kalos_and_pai_have_their_sizes(void **state)
{
    (void)state;
    double gpus = 0;
    assert_int_equal(draw("kalos", 1, 80), 0);
    for (uint32_t i = 0; i < JOBS; i++) {
        gpus += gpus_of(&story.jobs[i]);
        assert_true(gpus_of(&story.jobs[i]) <= 1024);
    }
    assert_true(near(gpus / JOBS, 26.77, 0.05));
    uint64_t half = 0;
    assert_int_equal(draw("pai", 1, 80), 0);
    for (uint32_t i = 0; i < JOBS; i++)
        half += gpus_of(&story.jobs[i]) <= 0.5;
    assert_true(half > JOBS / 2); /* the median is half a GPU */
}

static void they_ask_for_the_load_that_was_wished(void **state)
{
    (void)state;
    double work = 0;
    assert_int_equal(draw("acme", 5, 50), 0);
    for (uint32_t i = 0; i < JOBS; i++)
        work += (double)story.jobs[i].run_us * gpus_of(&story.jobs[i]);
    double time = (double)story.jobs[JOBS - 1].submit_us;
    assert_true(near(work / (time * 2000), 0.5, 0.15));
}

static void equal_seeds_draw_equal_workloads(void **state)
{
    (void)state;
    assert_int_equal(draw("helios", 3, 80), 0);
    uint64_t first = mr_hash64(story.jobs, JOBS * sizeof *story.jobs, 1);
    assert_int_equal(draw("helios", 3, 80), 0);
    assert_int_equal(mr_hash64(story.jobs, JOBS * sizeof *story.jobs, 1), first);
    assert_int_equal(draw("helios", 4, 80), 0);
    assert_int_not_equal(mr_hash64(story.jobs, JOBS * sizeof *story.jobs, 1), first);
}

static void an_unknown_name_is_told(void **state)
{
    (void)state;
    assert_int_equal(draw("mill", 1, 80), MR_EINVALID);
    mr_buf_put_char(&problem, 0);
    assert_string_equal((char *)problem.p, "nothing to draw is called 'mill'; there are: acme "
                                           "kalos philly helios pai");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(acme_has_the_published_means_medians_and_shares),
        CASE(kalos_and_pai_have_their_sizes),
        CASE(they_ask_for_the_load_that_was_wished),
        CASE(equal_seeds_draw_equal_workloads),
        CASE(an_unknown_name_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
