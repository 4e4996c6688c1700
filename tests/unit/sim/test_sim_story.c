/* SPDX-License-Identifier: Apache-2.0 */
/* Workloads of three formats: what is read, and what becomes of it, counted by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim/sim_play_int.h"
#include "sim/sim_report_int.h"

static struct mr_buf problem;
static struct sim_story story;

static struct mr_sim_file text_file(const char *name, const char *text)
{
    return (struct mr_sim_file){mr_str_from(name), mr_str_from(text)};
}

static struct mr_sim_fleet *fleet_of(const char *json)
{
    struct mr_sim_fleet *fleet = NULL;
    const struct mr_sim_file file = text_file("f", json);
    assert_int_equal(mr_sim_fleet_read(&file, NULL, &fleet, &problem), 0);
    return fleet;
}

static const char *said(void)
{
    mr_buf_put_char(&problem, 0);
    return (char *)problem.p;
}

static int begin(void **state)
{
    (void)state;
    mr_buf_init(&problem, 4096);
    sim_story_init(&story);
    return 0;
}

static int end(void **state)
{
    (void)state;
    mr_buf_done(&problem);
    sim_story_done(&story);
    return 0;
}

/* --- reading ------------------------------------------------------------------------------- */

static const char *const swf = "; MaxNodes: 4\n; MaxProcs: 16 \n;UnixStartTime: 1767225600\n"
                               "1    0  0  600  8 -1 -1  8  900 -1 1 1 1 -1 1 -1 -1 -1\n"
                               "2   10  0  300  8 -1 -1  8  600 -1 1 2 1 -1 1 -1 -1 -1\n"
                               "3   20 290 100 16 -1 -1 16  200 -1 1 1 1 -1 1 -1 -1 -1\n\n"
                               "4   30  5   60  2 -1.0 -1  2  100 -1 0 2 1 -1 1 -1 -1 -1\r\n"
                               "5   40 -1   -1 -1 -1 -1  4  100 -1 5 2 1 -1 1 -1 -1 -1\n"
                               "6  700  0   50 16 -1 -1 -1   -1 -1 1 1 1 -1 1 -1 -1 -1\n";

static void swf_jobs_are_gangs_of_processors(void **state)
{
    (void)state;
    const struct mr_sim_file file = text_file("a.swf", swf);
    assert_int_equal(sim_swf_read(&file, &story, &problem), 0);
    assert_int_equal(story.job_count, 5);
    assert_int_equal(story.skipped, 1);
    assert_int_equal(story.max_nodes, 4);
    assert_int_equal(story.max_procs, 16);
    assert_int_equal(story.epoch_us, UINT64_C(1767225600000000));
    assert_int_equal(story.tenant_count, 2);
    assert_int_equal(story.jobs[3].tasks_max, 2);
    assert_int_equal(story.jobs[3].tenant, 2);
    assert_true(story.jobs[3].ended_badly);
    assert_int_equal(story.jobs[2].recorded_wait_us, 290000000);
    assert_int_equal(story.jobs[2].limit_us, 200000000);
    assert_int_equal(story.jobs[4].tasks_max, 16); /* what it got, when nothing was asked for */
}

static void a_swf_line_that_is_none_is_refused(void **state)
{
    (void)state;
    struct mr_sim_file file = text_file("a.swf", "; x\n1 2 3\n");
    assert_int_equal(sim_swf_read(&file, &story, &problem), MR_ESYNTAX);
    assert_string_equal(said(), "a.swf:2: fewer than 18 fields");
    file = text_file("a.swf", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 eighteen\n");
    assert_int_equal(sim_swf_read(&file, &story, &problem), MR_ESYNTAX);
    assert_string_equal(said(), "a.swf:1: a field that is not a number");
    file = text_file("a.swf", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19\n");
    assert_int_equal(sim_swf_read(&file, &story, &problem), MR_ESYNTAX);
    assert_string_equal(said(), "a.swf:1: more than 18 fields");
}

static void sacct_jobs_are_gangs_of_nodes(void **state)
{
    (void)state;
    struct mr_sim_fleet *fleet = fleet_of("{\"nodes\":[{\"type\":\"p5.48xlarge\",\"count\":4}]}");
    const struct mr_sim_file file = text_file(
        "s", "JobID|User|Account|State|Submit|Start|End|Elapsed|Timelimit|AllocTRES\n"
             "7|u|lab|COMPLETED|2026-01-01T00:00:00|2026-01-01T00:10:00|2026-01-01T01:10:00|"
             "01:00:00|1-00:00:00|billing=8,cpu=16,gres/gpu:h100=16,gres/gpu=16,mem=128G,node=2\n"
             "7.batch||lab|COMPLETED|2026-01-01T00:00:00|2026-01-01T00:10:00|Unknown|01:00:00||\n"
             "8|u|lab|CANCELLED by 5|2026-01-01T00:00:00|Unknown|Unknown|00:00:00|UNLIMITED|\n"
             "9|v||TIMEOUT|2026-01-01T00:01:00|2026-01-01T00:02:00|2026-01-01T00:03:00||"
             "UNLIMITED|cpu=3,mem=1500M,node=1\n");
    assert_int_equal(sim_sacct_read(&file, fleet, &story, &problem), 0);
    assert_int_equal(story.job_count, 2);
    assert_int_equal(story.skipped, 1);
    const struct sim_job *job = &story.jobs[0];
    assert_int_equal(job->tasks_max, 2);
    assert_int_equal(job->shape.cpu_milli, 8000);
    assert_int_equal(job->shape.accel_milli, 8000);
    assert_int_equal(job->shape.accel_types[0], 1);
    assert_int_equal(job->shape.mem_mib, 64 * 1024);
    assert_int_equal(job->run_us, UINT64_C(3600000000));
    assert_int_equal(job->limit_us, UINT64_C(86400000000));
    assert_int_equal(job->recorded_wait_us, UINT64_C(600000000));
    job++;
    assert_true(job->ended_badly);
    assert_int_equal(job->run_us, 60000000);
    assert_int_equal(job->limit_us, 0);
    assert_int_equal(job->shape.mem_mib, 1500);
    assert_int_equal(story.tenant_count, 2);
    mr_sim_fleet_free(fleet);
}

static void a_sacct_table_says_what_it_lacks(void **state)
{
    (void)state;
    struct mr_sim_fleet *fleet = fleet_of("{\"nodes\":[{\"type\":\"p5.48xlarge\",\"count\":4}]}");
    struct mr_sim_file file = text_file("s", "JobID|State\n");
    assert_int_equal(sim_sacct_read(&file, fleet, &story, &problem), MR_ESYNTAX);
    assert_non_null(strstr(said(), "s:1: no column Submit; print with: sacct "));
    file = text_file("s", "JobID|State|Submit|Start|ElapsedRaw|AllocTRES\n"
                          "1|COMPLETED|2026-01-01T00:00:00|2026-01-01T00:00:00|5|"
                          "cpu=1,gres/gpu:a100=1,node=1\n");
    assert_int_equal(sim_sacct_read(&file, fleet, &story, &problem), MR_ESYNTAX);
    assert_string_equal(said(), "s:2: the fleet has no 'a100'");
    mr_sim_fleet_free(fleet);
}

static void our_own_lines_name_what_is_wrong(void **state)
{
    (void)state;
    struct mr_sim_fleet *fleet = fleet_of("{\"nodes\":[{\"type\":\"p5.48xlarge\",\"count\":4}]}");
    struct mr_sim_file file = text_file(
        "j", "# a comment\n{\"submit\":1.5,\"run\":60,\"num_tasks\":{\"min\":1,\"max\":4},\"cpus\":"
             "0.5,\"memory\":\"2GiB\",\"accelerators\":\"A100|H100:8\",\"topology\":\"domain\","
             "\"priority\":2,\"checkpoint\":10,\"checkpoint_cost\":0.5}\n");
    assert_int_equal(sim_millrace_read(&file, fleet, &story, &problem), 0);
    const struct sim_job *job = &story.jobs[0];
    assert_int_equal(job->submit_us, 1500000);
    assert_int_equal(job->tasks_min, 1);
    assert_int_equal(job->tasks_max, 4);
    assert_int_equal(job->shape.cpu_milli, 500);
    assert_int_equal(job->shape.accel_milli, 8000);
    assert_int_equal(job->topology, MR_TOPOLOGY_DOMAIN);
    assert_int_equal(job->checkpoint_cost_us, 500000);
    file = text_file("j", "\n{\"run\":60,\"acelerators\":\"H100:1\"}\n");
    assert_int_equal(sim_millrace_read(&file, fleet, &story, &problem), MR_ESYNTAX);
    assert_non_null(strstr(said(), "j:2: no field 'acelerators' here; there are: name, submit,"));
    file = text_file("j", "{\"run\":60,\"accelerators\":\"B200:8\"}");
    assert_int_equal(sim_millrace_read(&file, fleet, &story, &problem), MR_ESYNTAX);
    assert_string_equal(said(), "j:1: accelerators: the fleet has no 'B200'");
    file = text_file("j", "{\"submit\":0}");
    assert_int_equal(sim_millrace_read(&file, fleet, &story, &problem), MR_ESYNTAX);
    assert_string_equal(said(), "j:1: run: its running time in seconds, above 0, is wanted");
    mr_sim_fleet_free(fleet);
}

/* --- playing ------------------------------------------------------------------------------- */

static void played(const char *format, const char *fleet, const char *jobs,
                   struct mr_sim_replay_result *result)
{
    struct mr_sim_replay_options options = {
        .format = mr_str_from(format), .workload = text_file("w<1>", jobs), .report = true};
    if (fleet != NULL) options.fleet = text_file("f", fleet);
    mr_buf_init(&result->json, 1 << 20);
    mr_buf_init(&result->text, 1 << 20);
    mr_buf_init(&result->html, 1 << 20);
    mr_buf_init(&result->problem, 4096);
    assert_int_equal(mr_sim_replay(&options, result), 0);
    mr_buf_put_char(&result->json, 0);
    mr_buf_put_char(&result->html, 0);
}

static void done(struct mr_sim_replay_result *result)
{
    mr_buf_done(&result->json);
    mr_buf_done(&result->text);
    mr_buf_done(&result->html);
    mr_buf_done(&result->problem);
}

#define HAS(text) assert_non_null(strstr((char *)result.json.p, text))

static void a_job_waits_as_long_as_those_before_it_run(void **state)
{
    (void)state;
    struct mr_sim_replay_result result;
    const char *jobs = "{\"submit\":0,\"run\":100,\"num_tasks\":2,\"cpus\":192}\n"
                       "{\"submit\":10,\"run\":50,\"num_tasks\":1,\"cpus\":192}\n"
                       "{\"submit\":20,\"run\":50,\"num_tasks\":1,\"cpus\":96}\n";
    played("millrace", "{\"nodes\":[{\"type\":\"m8g.48xlarge\",\"count\":2}]}", jobs, &result);
    /* Waits of 0, 90 and 80 s; 384 vCPUs for 100 s, then 288 for 50 s, of 384 for 150 s. */
    HAS("\"makespan_s\":150.000");
    HAS("\"wait_s\":{\"count\":3,\"mean\":56.667,\"median\":80.000,\"p90\":90.000,");
    HAS("\"cpus\":0.916667");
    HAS("\"productive\":0.916667");
    HAS("\"queue\":{\"mean\":1.133,\"max\":2}");
    HAS("\"states\":{\"completed\":3}");
    done(&result);
}

static void a_processor_record_needs_no_fleet(void **state)
{
    (void)state;
    struct mr_sim_replay_result result;
    played("swf", NULL, swf, &result);
    HAS("\"nodes\":4,");
    HAS("\"jobs\":5,\"skipped\":1,");
    assert_null(strstr((char *)result.json.p, "nan"));
    HAS("\"productive\":0.8");
    HAS("\"ended_badly\":0.01");
    HAS("\"recorded_wait_s\":{\"count\":5,\"mean\":59.000,");
    done(&result);
}

static void an_elastic_gang_keeps_what_it_did_and_goes_on_larger(void **state)
{
    (void)state;
    struct mr_sim_replay_result result;
    /* One node of two is taken for 100 s: the elastic gang begins on one, at half its speed. */
    const char *jobs = "{\"submit\":0,\"run\":100,\"cpus\":192}\n"
                       "{\"submit\":1,\"run\":200,\"num_tasks\":{\"min\":1,\"max\":2},\"cpus\":192,"
                       "\"checkpoint\":1000,\"checkpoint_cost\":5}\n";
    played("millrace", "{\"nodes\":[{\"type\":\"m8g.48xlarge\",\"count\":2}]}", jobs, &result);
    HAS("\"states\":{\"completed\":2}");
    HAS("\"requeues\":1,");
    HAS("\"lost_work\":0.000000");
    done(&result);
}

static void a_gang_that_no_fleet_holds_is_told_and_ends_the_story(void **state)
{
    (void)state;
    struct mr_sim_replay_result result;
    played("millrace", "{\"nodes\":[{\"type\":\"m8g.48xlarge\",\"count\":2}]}",
           "{\"run\":10,\"num_tasks\":3,\"cpus\":192}\n{\"run\":10,\"cpus\":1}\n", &result);
    HAS("\"never_started\":1,");
    HAS("\"states\":{\"completed\":1}");
    done(&result);
}

static void machines_come_and_go_by_their_dates(void **state)
{
    (void)state;
    struct mr_sim_replay_result result;
    /* The second job finds room when the second machine is delivered, 100 s later. */
    played("millrace",
           "{\"nodes\":[{\"type\":\"m8g.48xlarge\"},"
           "{\"type\":\"m8g.48xlarge\",\"from\":\"2026-01-01T00:01:40Z\"}]}",
           "{\"submit\":\"2026-01-01\",\"run\":500,\"cpus\":192}\n"
           "{\"submit\":\"2026-01-01\",\"run\":10,\"cpus\":192}\n",
           &result);
    HAS("\"wait_s\":{\"count\":2,\"mean\":50.000,");
    HAS("\"makespan_s\":500.000");
    done(&result);
}

static void without_dates_all_machines_are_there_from_the_beginning(void **state)
{
    (void)state;
    struct mr_sim_replay_result result;
    played("millrace", "{\"from\":\"2026-01-01\",\"nodes\":[{\"type\":\"m8g.48xlarge\"}]}",
           "{\"submit\":600,\"run\":10,\"cpus\":192}\n", &result);
    HAS("\"never_started\":0,");
    HAS("\"makespan_s\":10.000");
    done(&result);
}

static void the_page_stands_alone_and_escapes_names(void **state)
{
    (void)state;
    struct mr_sim_replay_result result;
    played("swf", NULL, swf, &result);
    const char *page = (char *)result.html.p;
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "src="));
    assert_null(strstr(page, "href="));
    assert_non_null(strstr(page, "w&lt;1&gt;"));
    uint32_t plots = 0;
    for (const char *at = page; (at = strstr(at, "<svg ")) != NULL; at++)
        plots++;
    assert_int_equal(plots, 6);
    done(&result);
}

/* --- sums ---------------------------------------------------------------------------------- */

static void joined_cells_keep_their_integral(void **state)
{
    (void)state;
    static struct sim_series s;
    s = (struct sim_series){.cell_us = 10};
    double sum = 0;
    for (uint64_t at = 0; at < 100000; at += 500) {
        sim_series_reach(&s, at + 500);
        sim_series_add(&s, s.queue, at, at + 500, 3);
    }
    for (uint32_t i = 0; i < s.cells; i++)
        sum += s.queue[i];
    assert_true(sum == 300000);
    assert_true(s.cells <= SIM_SERIES_CELLS);
}

static void percentiles_are_those_of_the_sorted_values(void **state)
{
    (void)state;
    double values[100];
    for (uint32_t i = 0; i < 100; i++)
        values[i] = (double)((i * 37) % 100);
    struct sim_spread s = sim_spread_of(values, 100);
    assert_true(s.mean == 49.5 && s.median == 50 && s.p90 == 90 && s.p99 == 99 && s.max == 99);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(swf_jobs_are_gangs_of_processors),
        CASE(a_swf_line_that_is_none_is_refused),
        CASE(sacct_jobs_are_gangs_of_nodes),
        CASE(a_sacct_table_says_what_it_lacks),
        CASE(our_own_lines_name_what_is_wrong),
        CASE(a_job_waits_as_long_as_those_before_it_run),
        CASE(a_processor_record_needs_no_fleet),
        CASE(an_elastic_gang_keeps_what_it_did_and_goes_on_larger),
        CASE(a_gang_that_no_fleet_holds_is_told_and_ends_the_story),
        CASE(machines_come_and_go_by_their_dates),
        CASE(without_dates_all_machines_are_there_from_the_beginning),
        CASE(the_page_stands_alone_and_escapes_names),
        CASE(joined_cells_keep_their_integral),
        CASE(percentiles_are_those_of_the_sorted_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
