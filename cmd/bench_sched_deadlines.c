/* SPDX-License-Identifier: Apache-2.0 */
/* `bench sched deadlines`: the ElasticFlow traces through the production core, beside the published
 * ratios (Gu et al., ASPLOS 2023, figure 8b), at the published sizes and at a quarter of them.
 *
 * The traces are not part of the project: ../shared/data/elasticflow, or MILLRACE_ELASTICFLOW.
 *
 * Owns:   the files' texts, for the length of the run.
 * Thread: one.
 * Fails:  MR_E… of reading or replaying; without the traces one bar says so.
 * Ends:   nothing outlives the call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_sched.h"
#include "bench_world.h"
#include "cmd.h"
#include "sim/sim.h"

#define BYTES_MAX    ((size_t)64 * 1024 * 1024)
#define RESULT_BYTES 65536u
#define MODELS       7u

/* The published ratio, and the share of jobs that is feasible at all. */
static const struct {
    const char *trace;
    uint32_t gpus;
    double published, bound;
} traces[] = {{"cluster10", 256, .981, .989},
              {"cluster01", 512, .788, .984},
              {"cluster02", 512, .822, .965},
              {"cluster05", 512, .832, .987},
              {"cluster04", 1024, .631, .933}};
static const char *const models[MODELS] = {"bert",     "deepspeech2",      "gpt2", "inception3",
                                           "resnet50", "resnet50_cifar10", "vgg16"};

struct inputs {
    struct mr_buf texts[MODELS];
    struct mr_sim_file throughputs[MODELS];
    struct mr_buf trace;
};

struct outcome {
    double ratio, broken, cpu_s;
};

static int replay(const struct inputs *inputs, struct mr_sim_replay_options options,
                  struct outcome *ret)
{
    struct mr_buf json;
    options.format = MR_STR("elasticflow");
    options.workload = (struct mr_sim_file){MR_STR("trace"), mr_buf_str(&inputs->trace)};
    options.throughputs = inputs->throughputs;
    options.throughput_count = MODELS;
    mr_buf_init(&json, RESULT_BYTES);
    int error = bench_replay(&options, &json);
    if (error == 0)
        *ret =
            (struct outcome){bench_figure(&json, "deadline_satisfactory_ratio"),
                             bench_figure(&json, "broken_promises"), bench_figure(&json, "cpu_s")};
    mr_buf_done(&json);
    return error;
}

static void ratio_bar(struct bench_report *report, const char *name, const struct outcome *o,
                      double published, double goal)
{
    struct bench_bar bar = {.ours = o->ratio,
                            .unit = "of the jobs",
                            .peer = published,
                            .peer_name = "ElasticFlow, published",
                            .goal = goal};
    snprintf(bar.name, sizeof bar.name, "%s", name);
    snprintf(bar.note, sizeof bar.note, "%.0f promises broken; %.2f s of CPU time", o->broken,
             o->cpu_s);
    bench_add(report, &bar);
}

/* One trace at its size, at a quarter, with speeds that are 20 % off and with the harsher overhead;
 * sums for the means. */
static int trace_run(struct bench_report *report, const char *folder, struct inputs *inputs,
                     size_t i, struct outcome sums[4])
{
    char path[600], name[96];
    const struct mr_sim_replay_options ways[4] = {
        {.gpus = traces[i].gpus},
        {.gpus = traces[i].gpus / 4},
        {.gpus = traces[i].gpus, .speed_error_permille = 200, .seed = 1},
        {.gpus = traces[i].gpus, .overhead = MR_SIM_OV2},
    };
    mr_buf_reset(&inputs->trace);
    snprintf(path, sizeof path, "%s/%s.csv", folder, traces[i].trace);
    int error = cmd_file_read(path, &inputs->trace);
    for (size_t way = 0; way < MR_COUNT_OF(ways) && error == 0; way++) {
        struct outcome o = {0};
        error = replay(inputs, ways[way], &o);
        sums[way].ratio += o.ratio;
        sums[way].broken += o.broken;
        sums[way].cpu_s += o.cpu_s;
        if (error != 0 || way > 0) continue;
        snprintf(name, sizeof name, "%s on %u GPUs, deadlines met", traces[i].trace,
                 traces[i].gpus);
        ratio_bar(report, name, &o, traces[i].published, traces[i].bound - .003);
    }
    return error;
}

static int all_run(struct bench_report *report, const char *folder, struct inputs *inputs)
{
    static const char *const names[4] = {"mean at the published sizes",
                                         "mean at a quarter of the GPUs",
                                         "mean with speeds 20 % off", "mean with OV2"};
    static const double goals[4] = {.944, .92, .93, -1};
    struct outcome sums[4] = {{0}};
    size_t count = report->quick ? 1 : MR_COUNT_OF(traces);
    for (size_t i = 0; i < count; i++) {
        int error = trace_run(report, folder, inputs, i, sums);
        if (error != 0) return error;
    }
    for (size_t way = 0; way < 4; way++) {
        sums[way].ratio /= (double)count;
        ratio_bar(report, names[way], &sums[way], -1, goals[way]);
        bench_bar_low(report, "promises broken there", sums[way].broken, "promises", 0, "");
    }
    return 0;
}

int bench_sched_deadlines(struct bench_report *report)
{
    const char *folder = getenv("MILLRACE_ELASTICFLOW");
    char path[600];
    if (folder == NULL) folder = "../shared/data/elasticflow";
    if (access(folder, R_OK) != 0) {
        bench_bar_low(report, "deadlines met", -1, "of the jobs", -1,
                      "the traces are not in ../shared/data/elasticflow (nor where "
                      "MILLRACE_ELASTICFLOW says)");
        return 0;
    }
    struct inputs *inputs = calloc(1, sizeof *inputs);
    if (inputs == NULL) return MR_ENO_MEMORY;
    int error = 0;
    mr_buf_init(&inputs->trace, BYTES_MAX);
    for (size_t i = 0; i < MODELS; i++) {
        mr_buf_init(&inputs->texts[i], BYTES_MAX);
        snprintf(path, sizeof path, "%s/throughputs_A100/%s.csv", folder, models[i]);
        if (error == 0) error = cmd_file_read(path, &inputs->texts[i]);
        inputs->throughputs[i] =
            (struct mr_sim_file){mr_str_from(models[i]), mr_buf_str(&inputs->texts[i])};
    }
    if (error == 0) error = all_run(report, folder, inputs);
    for (size_t i = 0; i < MODELS; i++) {
        mr_buf_done(&inputs->texts[i]);
    }
    mr_buf_done(&inputs->trace);
    free(inputs);
    return error;
}
