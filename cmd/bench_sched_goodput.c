/* SPDX-License-Identifier: Apache-2.0 */
/* `bench sched goodput`: a 100,000-GPU job while nodes fail at Llama 3's rate, and six times it.
 *
 * The job's own figures are assumptions, said in each bar: a checkpoint to the memory of peers
 * after 30 s of work takes 0.15 s, a run on nodes that hold the program begins to work after 20 s,
 * one that needs a new node after 300 s. What core decides is what it costs: which nodes are kept,
 * whether a spare was at hand.
 *
 * Owns:   the texts of a fleet and a job, for the length of a run.
 * Thread: one.
 * Fails:  MR_ENO_MEMORY.
 * Ends:   nothing outlives the call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_sched.h"
#include "sim/sim.h"

#define RESULT_BYTES_MAX ((size_t)1024 * 1024)

/* The number behind "name": in the part of the document about goodput; negative: not there. */
static double figure(struct mr_buf *json, const char *part, const char *name)
{
    char key[48];
    mr_buf_put_char(json, 0);
    const char *from = json->failed ? NULL : strstr((const char *)json->p, part);
    json->n--;
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = from != NULL ? strstr(from, key) : NULL;
    return at != NULL ? strtod(at + strlen(key), NULL) : -1;
}

static int play(const char *fleet, const char *job, const char *failures, struct mr_buf *json)
{
    const struct mr_sim_replay_options options = {
        .format = MR_STR("millrace"),
        .fleet = {MR_STR("fleet"), mr_str_from(fleet)},
        .workload = {MR_STR("job"), mr_str_from(job)},
        .failures = mr_str_from(failures),
        .seed = 1,
    };
    struct mr_sim_replay_result result;
    mr_buf_init(&result.json, RESULT_BYTES_MAX);
    mr_buf_init(&result.text, RESULT_BYTES_MAX);
    mr_buf_init(&result.html, RESULT_BYTES_MAX);
    mr_buf_init(&result.problem, 4096);
    int error = mr_sim_replay(&options, &result);
    if (error == 0) *json = result.json;
    if (error != 0) mr_buf_done(&result.json);
    mr_buf_done(&result.text);
    mr_buf_done(&result.html);
    mr_buf_done(&result.problem);
    return error;
}

static int measure(struct bench_report *report, const char *failures, bool spares, double goal)
{
    char fleet[96], job[400];
    uint32_t domains = report->quick ? 60 : 1600, world = report->quick ? 800 : 25008;
    snprintf(fleet, sizeof fleet, "{\"nodes\":[{\"type\":\"u-p6e-gb200x72\",\"count\":%u}]}",
             domains);
    snprintf(job, sizeof job,
             "{\"run\":%u,\"num_tasks\":%u,\"spares\":%u,\"cpus\":100,\"memory\":\"500GiB\","
             "\"accelerators\":\"GB200:4\",\"checkpoint\":30,\"checkpoint_cost\":0.15,"
             "\"restart_cost\":300,\"swap_cost\":20}",
             7 * 86400, world, spares ? world / 8 : 0);
    struct mr_buf json;
    int error = play(fleet, job, failures, &json);
    if (error != 0) return error;
    double all = figure(&json, "\"goodput\"", "productive");
    struct bench_bar bar = {.ours = figure(&json, "\"goodput\"", "of_world"),
                            .unit = "share",
                            .peer = 0.97,
                            .peer_name = "ByteRobust at 9,600 GPUs, published",
                            .goal = goal};
    /* In per cent of the time of the GPUs that compute. */
    static const char *const names[] = {"checkpoint", "restart", "swap", "lost_work"};
    double parts[4], sum = all;
    for (size_t i = 0; i < 4; i++) {
        parts[i] = figure(&json, "\"goodput\"", names[i]);
        sum += parts[i];
    }
    snprintf(bar.name, sizeof bar.name, "goodput of %u GPUs for 7 d, rate %s, %s", world * 4,
             failures, spares ? "2 of 18 nodes spare" : "no spares");
    snprintf(bar.note, sizeof bar.note,
             "%.0f interruptions; %% checkpoints %.2f restarts %.2f swaps %.2f lost %.2f; with "
             "spares held %.3f",
             figure(&json, "\"failures\"", "interruptions"), parts[0] / sum * 100,
             parts[1] / sum * 100, parts[2] / sum * 100, parts[3] / sum * 100,
             figure(&json, "\"goodput\"", "of_held"));
    bench_add(report, &bar);
    mr_buf_done(&json);
    return 0;
}

int bench_sched_goodput(struct bench_report *report)
{
    int error = measure(report, "llama3", true, 0.97);
    if (error == 0) error = measure(report, "llama3", false, -1);
    if (error == 0) error = measure(report, "rsc", true, -1);
    return error;
}
