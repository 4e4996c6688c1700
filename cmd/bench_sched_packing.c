/* SPDX-License-Identifier: Apache-2.0 */
/* `bench sched packing`: the openb pod lists through the production core, beside FGD's published
 * figures (Weng et al., ATC 2023), at 130 % and at 100 % arrived.
 *
 * The lists are not part of the project: ../shared/data/openb, or MILLRACE_OPENB.
 *
 * Owns:   the files' texts, for the length of the run.
 * Thread: one.
 * Fails:  MR_E… of reading or replaying; without the lists one bar says so.
 * Ends:   nothing outlives the call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench_sched.h"
#include "bench_world.h"
#include "cmd.h"
#include "sim/sim.h"

#define SEEDS        10u
#define BYTES_MAX    ((size_t)64 * 1024 * 1024)
#define GAIN_WANTED  0.85
#define RESULT_BYTES 65536u

/* Figures of FGD, means of 10 seeds, from the published results of its simulator. */
static const struct {
    const char *list;
    double at_130, at_100;
} published[] = {
    {"default", 95.39, 95.23},    {"cpu050", 95.21, 95.00},      {"cpu200", 95.05, 94.82},
    {"gpushare40", 94.15, 93.96}, {"gpushare100", 86.90, 86.64}, {"gpuspec10", 94.95, 94.66},
    {"gpuspec33", 94.55, 87.84},  {"multigpu50", 97.18, 97.09},
};

struct packing {
    double at_130, at_100, cpu_only, rate; /* means; shares in per cent */
    double lowest, highest;                /* at 130 % */
};

static uint64_t thread_cpu_ns(void)
{
    struct timespec at;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at) != 0) return 0;
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static double figure(const char *json, const char *name)
{
    char key[48];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(json, key);
    return at != NULL ? strtod(at + strlen(key), NULL) : 0;
}

static int replay(struct mr_str nodes, struct mr_str pods, uint64_t seed, struct packing *sum)
{
    const struct mr_sim_replay_options options = {.format = MR_STR("openb"),
                                                  .fleet = {MR_STR("nodes.csv"), nodes},
                                                  .workload = {MR_STR("pods"), pods},
                                                  .seed = seed,
                                                  .cpu_ns = thread_cpu_ns};
    struct mr_sim_replay_result result;
    mr_buf_init(&result.json, RESULT_BYTES);
    mr_buf_init(&result.text, RESULT_BYTES);
    mr_buf_init(&result.html, RESULT_BYTES);
    mr_buf_init(&result.problem, RESULT_BYTES);
    int error = mr_sim_replay(&options, &result);
    mr_buf_put_char(&result.json, 0);
    mr_buf_put_char(&result.problem, 0);
    if (error == 0) {
        const char *json = (const char *)result.json.p;
        double share = 100 * figure(json, "allocated_gpu_share");
        sum->at_130 += share;
        sum->at_100 += 100 * figure(json, "allocated_gpu_share_at_100");
        sum->cpu_only += 100 * figure(json, "cpu_only_share");
        sum->rate += figure(json, "decisions_per_s");
        sum->lowest = MR_MIN(sum->lowest, share);
        sum->highest = MR_MAX(sum->highest, share);
    } else {
        cmd_say("%s", (const char *)result.problem.p);
    }
    mr_buf_done(&result.json);
    mr_buf_done(&result.text);
    mr_buf_done(&result.html);
    mr_buf_done(&result.problem);
    return error;
}

static void bar_put(struct bench_report *report, const char *list, const char *point, double ours,
                    double fgd, const char *note)
{
    struct bench_bar bar = {
        .ours = ours, .unit = "%", .peer = fgd, .peer_name = "FGD, published", .goal = fgd};
    snprintf(bar.name, sizeof bar.name, "openb %s, GPUs allocated at %s arrived", list, point);
    snprintf(bar.note, sizeof bar.note, "%s", note);
    bench_add(report, &bar);
}

/* Adds the list's two bars; *gain grows by what is gained at 130 %. MR_ENOT_FOUND: no such file. */
static int list_run(struct bench_report *report, const char *folder, struct mr_str nodes, size_t i,
                    double *gain)
{
    char path[600], note[160];
    uint32_t seeds = report->quick ? 1 : SEEDS;
    struct mr_buf pods;
    mr_buf_init(&pods, BYTES_MAX);
    snprintf(path, sizeof path, "%s/pods_%s.csv", folder, published[i].list);
    int error = cmd_file_read(path, &pods);
    struct packing sum = {.lowest = 100};
    for (uint64_t seed = 1; seed <= seeds && error == 0; seed++) {
        error = replay(nodes, mr_buf_str(&pods), seed, &sum);
    }
    mr_buf_done(&pods);
    if (error != 0) return error;
    double n = seeds;
    snprintf(note, sizeof note,
             "%u seeds, %.2f to %.2f at 130 %%; CPU-only pods placed %.2f %%; %.0f decisions/s",
             seeds, sum.lowest, sum.highest, sum.cpu_only / n, sum.rate / n);
    bar_put(report, published[i].list, "130 %", sum.at_130 / n, published[i].at_130, note);
    bar_put(report, published[i].list, "100 %", sum.at_100 / n, published[i].at_100, note);
    *gain += sum.at_130 / n - published[i].at_130;
    return 0;
}

int bench_sched_packing(struct bench_report *report)
{
    const char *folder = getenv("MILLRACE_OPENB");
    char path[600];
    if (folder == NULL) folder = "../shared/data/openb";
    snprintf(path, sizeof path, "%s/nodes.csv", folder);
    if (access(path, R_OK) != 0) {
        bench_bar_low(report, "openb, GPUs allocated", -1, "%", -1,
                      "the lists are not in ../shared/data/openb (nor where MILLRACE_OPENB says)");
        return 0;
    }
    struct mr_buf nodes;
    double gain = 0;
    size_t lists = report->quick ? 1 : MR_COUNT_OF(published);
    mr_buf_init(&nodes, BYTES_MAX);
    int error = cmd_file_read(path, &nodes);
    for (size_t i = 0; i < lists && error == 0; i++) {
        error = list_run(report, folder, mr_buf_str(&nodes), i, &gain);
    }
    mr_buf_done(&nodes);
    if (error != 0) return error;
    struct bench_bar bar = {
        .ours = gain / (double)lists, .unit = "points", .peer = -1, .goal = GAIN_WANTED};
    snprintf(bar.name, sizeof bar.name, "openb, above FGD at 130 %%, mean of %zu lists", lists);
    snprintf(bar.note, sizeof bar.note, "shapes learned as they come, nothing known beforehand");
    bench_add(report, &bar);
    return 0;
}
