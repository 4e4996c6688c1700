/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the Standard Workload Format: eighteen numbers a line, a header behind semicolons.
 *
 * A processor is a vCPU, a job a gang of as many tasks as it asked processors for, its user a
 * tenant. What never ran (cancelled while it waited) or has no size is passed over and counted.
 *
 * Owns:       nothing.
 * Invariants: (1) a job has a running time above 0 and at least one task.
 * Never:      I/O, clock.
 * Cost:       O(bytes).
 * Idea:       docs/guides/simulate.md   Tests: tests/unit/sim/test_sim_story.c, fuzz sim_swf
 */
#include <stdarg.h>
#include <stdio.h>

#include "sim_story_int.h"

#define SWF_FIELDS 18u
enum {
    JOB,
    SUBMIT,
    WAIT,
    RUN,
    PROCS,
    CPU_TIME,
    MEM_USED,
    PROCS_ASKED,
    TIME_ASKED,
    MEM_ASKED,
    STATUS,
    USER
};
#define SWF_PROCS_MAX 16777216
#define SWF_TIME_MAX  4000000000ll /* seconds: beyond 100 years */

static int wrong(const struct mr_sim_file *file, uint32_t line, struct mr_buf *problem,
                 const char *text)
{
    mr_buf_reset(problem);
    mr_buf_printf(problem, "%.*s:%u: %s", MR_STR_ARG(file->name), line, text);
    return MR_ESYNTAX;
}

/* "; MaxProcs: 128" and its like; others are passed over. */
static void header_read(struct mr_str line, struct sim_story *story)
{
    struct mr_str name, rest = {line.p + 1, line.n - 1};
    uint64_t value;
    while (rest.n > 0 && rest.p[0] == ';')
        rest = (struct mr_str){rest.p + 1, rest.n - 1};
    if (!mr_str_split(&rest, ':', &name) || rest.p == NULL) return;
    name = mr_str_trim(name);
    rest = mr_str_trim(rest);
    size_t digits = 0;
    while (digits < rest.n && rest.p[digits] >= '0' && rest.p[digits] <= '9')
        digits++;
    if (mr_str_to_u64((struct mr_str){rest.p, digits}, &value) != 0) return;
    if (mr_str_equal_nocase(name, MR_STR("MaxProcs")) && value <= SWF_PROCS_MAX)
        story->max_procs = (uint32_t)value;
    if (mr_str_equal_nocase(name, MR_STR("MaxNodes")) && value <= SIM_FLEET_NODES_MAX)
        story->max_nodes = (uint32_t)value;
    if (mr_str_equal_nocase(name, MR_STR("UnixStartTime")) && value < (1ull << 40))
        story->epoch_us = value * SIM_SECOND_US;
}

/* A number that may be negative or have a fraction, which is cut. */
static bool number_get(struct mr_str text, int64_t *ret)
{
    struct mr_str rest = text, whole;
    uint64_t fraction;
    if (!mr_str_split(&rest, '.', &whole)) return false;
    if (rest.p != NULL && rest.n > 0 && (rest.n > 18 || mr_str_to_u64(rest, &fraction) != 0))
        return false;
    return mr_str_to_i64(whole, ret) == 0;
}

/* The next word of a line cut at blanks; false at its end. */
static bool word_next(struct mr_str *rest, struct mr_str *ret)
{
    size_t n = 0;
    *rest = mr_str_trim(*rest);
    while (n < rest->n && rest->p[n] != ' ' && rest->p[n] != '\t')
        n++;
    *ret = (struct mr_str){rest->p, n};
    *rest = (struct mr_str){rest->p + n, rest->n - n};
    return n > 0;
}

static int job_read(const int64_t v[SWF_FIELDS], struct sim_story *story)
{
    int64_t procs = v[PROCS_ASKED] > 0 ? v[PROCS_ASKED] : v[PROCS];
    int64_t run = v[RUN];
    bool fits = procs > 0 && procs <= SWF_PROCS_MAX && run > 0 && run <= SWF_TIME_MAX &&
                v[SUBMIT] >= 0 && v[SUBMIT] <= SWF_TIME_MAX;
    if (!fits) {
        story->skipped++;
        return 0;
    }
    struct sim_job *job = sim_story_add(story);
    if (job == NULL) return MR_ENO_MEMORY;
    char user[24];
    int n = snprintf(user, sizeof user, "%lld", (long long)v[USER]);
    job->tenant = sim_story_tenant(story, (struct mr_str){user, n > 0 ? (size_t)n : 0});
    job->submit_us = (uint64_t)v[SUBMIT] * SIM_SECOND_US;
    job->run_us = (uint64_t)run * SIM_SECOND_US;
    if (v[TIME_ASKED] > 0 && v[TIME_ASKED] <= SWF_TIME_MAX)
        job->limit_us = (uint64_t)v[TIME_ASKED] * SIM_SECOND_US;
    if (v[WAIT] >= 0 && v[WAIT] <= SWF_TIME_MAX)
        job->recorded_wait_us = (uint64_t)v[WAIT] * SIM_SECOND_US;
    job->tasks_min = job->tasks_max = (uint32_t)procs;
    job->shape.cpu_milli = 1000;
    job->ended_badly = v[STATUS] == 0 || v[STATUS] == 5;
    return 0;
}

int sim_swf_read(const struct mr_sim_file *file, struct sim_story *story, struct mr_buf *problem)
{
    struct mr_str rest = file->text, line;
    uint32_t number = 0;
    while (mr_str_split(&rest, '\n', &line)) {
        int64_t v[SWF_FIELDS];
        uint32_t count = 0;
        struct mr_str word;
        number++;
        line = mr_str_trim(line);
        if (line.n > 0 && line.p[0] == ';') header_read(line, story);
        if (line.n == 0 || line.p[0] == ';') continue;
        while (word_next(&line, &word)) {
            if (count == SWF_FIELDS) return wrong(file, number, problem, "more than 18 fields");
            if (!number_get(word, &v[count++]))
                return wrong(file, number, problem, "a field that is not a number");
        }
        if (count < SWF_FIELDS) return wrong(file, number, problem, "fewer than 18 fields");
        if (story->job_count == SIM_JOBS_MAX)
            return wrong(file, number, problem, "more than 4,000,000 jobs");
        int error = job_read(v, story);
        if (error != 0) return error;
    }
    return 0;
}
