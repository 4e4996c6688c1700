/* SPDX-License-Identifier: Apache-2.0 */
/* `bench sched kueue`: the generators of Kueue's performance tests through the production core
 * under a virtual clock, beside the times that Kueue's own tests expect of it.
 *
 * The ideal is what the quotas alone allow (sim_kueue.c); a cluster's real time is not in it, the
 * processor time of our decisions is a bar of its own.
 *
 * Owns:  the files for the length of the call.
 * Fails: when a file that is there cannot be read; one that is not is a bar that was not measured.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench_sched.h"
#include "bench_world.h"
#include "cmd.h"

#define BYTES_MAX ((size_t)64 * 1024 * 1024)

/* Makespans that rangespec.yaml of Kueue's own runs names, in seconds. */
static const struct {
    const char *name, *file;
    double published_s;
} generators[] = {{"baseline", "baseline-generator.yaml", 351.116},
                  {"tas", "tas-generator.yaml", 401.5}};

static int replay(const char *path, struct mr_buf *ret_json)
{
    mr_cleanup(mr_buf_done) struct mr_buf yaml, json, problem;
    mr_buf_init(&yaml, BYTES_MAX);
    mr_buf_init(&json, BYTES_MAX);
    mr_buf_init(&problem, 65536);
    int error = cmd_file_read(path, &yaml);
    if (error == 0) error = cmd_yaml_to_json(mr_buf_str(&yaml), &json, &problem);
    if (error != 0) {
        cmd_say("%s: %.*s", path, MR_STR_ARG(mr_buf_str(&problem)));
        return error;
    }
    struct mr_sim_replay_options options = {.format = MR_STR("kueue"),
                                            .workload = {mr_str_from(path), mr_buf_str(&json)}};
    return bench_replay(&options, ret_json);
}

static void bars_add(struct bench_report *report, size_t which, struct mr_buf *json)
{
    double made = bench_figure(json, "makespan_s"), ideal = bench_figure(json, "ideal_s");
    struct bench_bar bar = {.ours = made,
                            .unit = "s",
                            .peer = ideal,
                            .peer_name = "ideal of its quotas",
                            .goal = 1.1,
                            .goal_is_ratio = true,
                            .lower_is_better = true};
    snprintf(bar.name, sizeof bar.name, "Kueue's %s, makespan", generators[which].name);
    snprintf(bar.note, sizeof bar.note, "Kueue's own: %.1f s (published); %.0f admissions/s",
             generators[which].published_s, bench_figure(json, "admissions_per_s"));
    bench_add(report, &bar);
    bar = (struct bench_bar){.ours = bench_figure(json, "cpu_s"),
                             .unit = "s",
                             .peer = -1,
                             .goal = 1,
                             .lower_is_better = true};
    snprintf(bar.name, sizeof bar.name, "Kueue's %s, processor time of the decisions",
             generators[which].name);
    snprintf(bar.note, sizeof bar.note, "one run on one core");
    bench_add(report, &bar);
}

int bench_sched_kueue(struct bench_report *report)
{
    const char *folder = getenv("MILLRACE_KUEUE");
    if (folder == NULL) folder = "../shared/data/kueue";
    for (size_t i = 0; i < MR_COUNT_OF(generators); i++) {
        char path[600];
        mr_cleanup(mr_buf_done) struct mr_buf json;
        mr_buf_init(&json, BYTES_MAX);
        snprintf(path, sizeof path, "%s/%s", folder, generators[i].file);
        if (access(path, R_OK) != 0) {
            bench_bar_low(report, "Kueue's generators", -1, "s", -1,
                          "they are not in ../shared/data/kueue (nor where MILLRACE_KUEUE says)");
            continue;
        }
        int error = replay(path, &json);
        if (error != 0) return error;
        bars_add(report, i, &json);
    }
    return 0;
}
