/* SPDX-License-Identifier: Apache-2.0 */
/* `bench sched moves`: gangs of whole NVLink domains among small work that may be moved, or may
 * not.
 *
 * 24 domains of 72 GPUs for a week, jobs at random times that ask for so many per cent of them: 30
 * % of it gangs of a whole domain for half an hour to four hours, the rest jobs of 1 to 16 GPUs for
 * ten minutes to a day, all of one class. The same week runs twice: once the small work is
 * preemptible, once it is not, and nothing else differs.
 *
 * Owns:   the text of a week, for the length of a run.
 * Thread: one.
 * Fails:  MR_ENO_MEMORY.
 * Ends:   nothing outlives the call.
 */
#include <stdio.h>

#include "bench_sched.h"
#include "sim/sim.h"

#define TEXT_BYTES   ((size_t)16 * 1024 * 1024)
#define RESULT_BYTES ((size_t)4 * 1024 * 1024)
#define WEEK_S       (7u * 86400)
#define DOMAINS      24u
#define DOMAIN_GPUS  72u

struct outcome {
    double mean_s, p99_s, stops;
};

static void job_put(struct mr_buf *text, struct mr_prng *prng, uint32_t run_s, uint32_t tasks,
                    uint32_t gpus, const char *rest)
{
    mr_buf_printf(text,
                  "{\"submit\":%u,\"run\":%u,\"num_tasks\":%u,\"accelerators\":\"GB200:%u\","
                  "\"cpus\":%u,\"time_limit\":%u,\"checkpoint\":900,\"checkpoint_cost\":5,"
                  "\"restart_cost\":60%s}\n",
                  (uint32_t)mr_prng_below(prng, WEEK_S), run_s, tasks, gpus, 8 * gpus,
                  2 * run_s + 600, rest);
}

/* Until so many GPU-seconds are asked for in each way. */
static void week_put(struct mr_buf *text, uint32_t load, bool preemptible)
{
    static const struct {
        uint32_t tasks, gpus;
    } small[] = {{1, 1}, {1, 1}, {1, 2}, {1, 4}, {2, 4}, {4, 4}};
    struct mr_prng prng;
    mr_prng_init(&prng, load);
    int64_t all = (int64_t)DOMAINS * DOMAIN_GPUS * WEEK_S / 100 * load;
    int64_t large_left = all / 10 * 3, small_left = all - large_left;
    while (large_left > 0) {
        uint32_t run_s = 1800u << mr_prng_below(&prng, 4);
        job_put(text, &prng, run_s, DOMAIN_GPUS / 4, 4, ",\"topology\":\"domain\"");
        large_left -= (int64_t)run_s * DOMAIN_GPUS;
    }
    while (small_left > 0) {
        uint64_t i = mr_prng_below(&prng, MR_COUNT_OF(small));
        uint32_t run_s = 600u << mr_prng_below(&prng, 7);
        run_s += (uint32_t)mr_prng_below(&prng, run_s);
        job_put(text, &prng, run_s, small[i].tasks, small[i].gpus,
                preemptible ? ",\"preemptible\":true" : "");
        small_left -= (int64_t)run_s * small[i].tasks * small[i].gpus;
    }
}

static int week_play(uint32_t load, bool preemptible, struct outcome *ret)
{
    char fleet[96];
    struct mr_buf text, json;
    snprintf(fleet, sizeof fleet, "{\"nodes\":[{\"type\":\"u-p6e-gb200x72\",\"count\":%u}]}",
             DOMAINS);
    mr_buf_init(&text, TEXT_BYTES);
    mr_buf_init(&json, RESULT_BYTES);
    week_put(&text, load, preemptible);
    struct mr_sim_replay_options options = {
        .format = MR_STR("millrace"),
        .fleet = {MR_STR("fleet"), mr_str_from(fleet)},
        .workload = {MR_STR("week"), mr_buf_str(&text)},
        .failures = MR_STR("none"),
    };
    int error = text.failed ? MR_ENO_MEMORY : bench_replay(&options, &json);
    if (error == 0) /* of these names the first ones are those of the waits */
        *ret = (struct outcome){bench_figure(&json, "mean"), bench_figure(&json, "p99"),
                                bench_figure(&json, "requeues")};
    mr_buf_done(&text);
    mr_buf_done(&json);
    return error;
}

static void wait_bar(struct bench_report *report, uint32_t load, const char *what, double ours,
                     double fixed, double goal, const struct outcome *moved)
{
    struct bench_bar bar = {.ours = ours,
                            .unit = "s",
                            .peer = fixed,
                            .peer_name = "the same week, small work not preemptible",
                            .goal = goal,
                            .goal_is_ratio = true,
                            .lower_is_better = true};
    snprintf(bar.name, sizeof bar.name, "wait at %u %% load, %s", load, what);
    snprintf(bar.note, sizeof bar.note, "%.0f moves in the week", moved->stops);
    bench_add(report, &bar);
}

int bench_sched_moves(struct bench_report *report)
{
    static const uint32_t loads[] = {80, 70, 90};
    size_t count = report->quick ? 1 : MR_COUNT_OF(loads);
    for (size_t i = 0; i < count; i++) {
        struct outcome moved = {0}, fixed = {0};
        int error = week_play(loads[i], true, &moved);
        if (error == 0) error = week_play(loads[i], false, &fixed);
        if (error != 0) return error;
        wait_bar(report, loads[i], "mean of all jobs", moved.mean_s, fixed.mean_s, 0.5, &moved);
        wait_bar(report, loads[i], "99th percentile", moved.p99_s, fixed.p99_s, -1, &moved);
    }
    return 0;
}
