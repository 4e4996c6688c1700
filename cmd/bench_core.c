/* SPDX-License-Identifier: Apache-2.0 */
/* `bench core`: what a step costs as the fleet and the queue grow.
 *
 * Owns:   one block of memory at a time, made here and freed here.
 * Thread: one.
 * Fails:  MR_ENO_MEMORY when a block of full size does not fit; what was measured stays.
 * Ends:   bench_cloud_free.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_world.h"

#define SAMPLES_MAX 20000u

/* The time one submission, its placement and its START take. */
static struct bench_spread place_many(struct bench_cloud *c, uint64_t *samples, uint32_t count,
                                      uint32_t tasks, uint32_t cpu_milli, uint32_t accel_milli)
{
    for (uint32_t i = 0; i < count; i++) {
        struct mr_event event = bench_job(1 + i % 50, tasks, cpu_milli, accel_milli);
        samples[i] = bench_cloud_step(c, &event);
    }
    return bench_spread_of(samples, count);
}

static void placing(struct bench_report *report, struct bench_cloud *c, uint32_t nodes,
                    uint32_t count, uint64_t *samples)
{
    char what[80], note[160];
    snprintf(note, sizeof note, "%u submissions, each placed; bare step, no journal", count);
    snprintf(what, sizeof what, "1-vCPU sandbox placed, %u nodes", nodes);
    struct bench_spread s = place_many(c, samples, count, 1, 1000, 0);
    bench_bar_spread(report, what, &s, 20, 100, note);
    struct bench_bar rate = {.ours = (double)count * 1e9 / (double)(s.sum_ns + 1),
                             .unit = "1/s",
                             .peer = 1000,
                             .peer_name = "GKE 130k nodes, published",
                             .goal = 1000000};
    snprintf(rate.name, sizeof rate.name, "placements, %u nodes", nodes);
    snprintf(rate.note, sizeof rate.note, "one thread, one submission each");
    bench_add(report, &rate);
    uint32_t replicas = MR_MIN(count, nodes);
    snprintf(what, sizeof what, "1-GPU job placed, %u nodes", nodes);
    s = place_many(c, samples, replicas, 1, 8000, 1000);
    bench_bar_spread(report, what, &s, 20, 100, note);
    uint32_t gangs = MR_MIN(count / 16 + 1, nodes / 72 + 1);
    snprintf(note, sizeof note, "%u gangs, each within one NVLink domain", gangs);
    snprintf(what, sizeof what, "16-GPU gang in a domain placed, %u nodes", nodes);
    for (uint32_t i = 0; i < gangs; i++) {
        struct mr_event event = bench_job(1 + i % 50, 4, 32000, 4000);
        event.u.submit.topology = MR_TOPOLOGY_DOMAIN;
        samples[i] = bench_cloud_step(c, &event);
    }
    s = bench_spread_of(samples, gangs);
    bench_bar_spread(report, what, &s, -1, -1, note);
}

/* With `waiting` workloads that cannot start: one lease ends, one waiting workload starts in its
 * place, and one new submission joins the queue. */
static struct bench_spread depth_measure(struct bench_cloud *c, uint64_t *samples, uint32_t count,
                                         uint32_t *waiting_now, uint32_t waiting)
{
    for (; *waiting_now < waiting; ++*waiting_now) {
        struct mr_event event = bench_job(1 + *waiting_now % 50, 1, 8000, 1000);
        (void)bench_cloud_step(c, &event);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct mr_event ended = bench_exited(bench_cloud_oldest(c));
        struct mr_event again = bench_job(1 + i % 50, 1, 8000, 1000);
        samples[i] = bench_cloud_step(c, &ended);
        samples[i] += bench_cloud_step(c, &again);
    }
    return bench_spread_of(samples, count);
}

static void depth(struct bench_report *report, const struct mr_core_limits *limits, uint32_t many,
                  uint32_t count, uint64_t *samples)
{
    struct bench_cloud *c = NULL;
    if (bench_cloud_new(&c, limits) != 0) {
        bench_bar_low(report, "queue depth", -1, "us", -1, "out of memory");
        return;
    }
    bench_fleet_fill(c, 1000);
    uint64_t before;
    do {
        before = c->starts;
        struct mr_event event = bench_job(1, 1, 8000, 1000);
        (void)bench_cloud_step(c, &event);
    } while (c->starts > before);
    uint32_t waiting = 1;
    char what[80], note[160];
    snprintf(note, sizeof note, "%u times an exit, a start and a submission, 50 tenants", count);
    struct bench_spread few = depth_measure(c, samples, count, &waiting, 100);
    bench_bar_spread(report, "step at 100 waiting", &few, -1, -1, note);
    struct bench_spread lots = depth_measure(c, samples, count, &waiting, many);
    snprintf(what, sizeof what, "step at %u waiting", many);
    bench_bar_spread(report, what, &lots, -1, -1, note);
    struct bench_bar ratio = {.ours = (double)lots.median_ns / (double)(few.median_ns + 1),
                              .unit = "ratio",
                              .peer = -1,
                              .goal = 2.0,
                              .lower_is_better = true};
    snprintf(ratio.name, sizeof ratio.name, "queue depth 100 to %u, cost of a step", many);
    snprintf(ratio.note, sizeof ratio.note, "ratio of the medians; as sums %.2f",
             (double)lots.sum_ns / (double)(few.sum_ns + 1));
    bench_add(report, &ratio);
    bench_cloud_free(c);
}

static void memory(struct bench_report *report, struct bench_cloud *c)
{
    bench_bar_low(report, "block of full size", (double)c->bytes / (1024.0 * 1024.0), "MiB", 1024,
                  report->quick ? "--quick: limits for a test"
                                : "240,000 nodes, 1,100,000 workloads, 700,000 leases");
    void *fork = malloc(c->bytes);
    if (fork == NULL) {
        bench_bar_low(report, "fork of the cloud", -1, "ms", -1,
                      "out of memory for a second block");
        return;
    }
    double ms[2];
    struct mr_core *forked = NULL;
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t from_ns = bench_now_ns();
        memcpy(fork, c->block, c->bytes);
        ms[i] = (double)(bench_now_ns() - from_ns) / 1e6;
        if (mr_core_open(fork, c->bytes, false, &forked) != 0) ms[i] = -1;
    }
    char note[160];
    snprintf(note, sizeof note, "one memcpy of the whole block; into fresh memory %.0f ms", ms[0]);
    bench_bar_low(report, "fork of the cloud", ms[1], "ms", -1, note);
    free(fork);
}

static void large_gang(struct bench_report *report, struct bench_cloud *c)
{
    struct mr_event event = bench_job(1, 4096, 32000, 4000);
    uint64_t before = c->starts;
    uint64_t ns = bench_cloud_step(c, &event);
    bool placed = c->starts - before == 4096;
    bench_bar_low(report, "16,384-GPU gang on whole domains", placed ? (double)ns / 1e6 : -1, "ms",
                  10, placed ? "4,096 nodes, once" : "did not fit");
}

/* For --quick and tests: a few dozen MiB instead of the fleet's. */
static const struct mr_core_limits quick_limits = {.nodes = 12000,
                                                   .domains = 1024,
                                                   .blocks = 64,
                                                   .cells = 16,
                                                   .tenants = 64,
                                                   .workloads = 40000,
                                                   .leases = 40000,
                                                   .shapes = 256};

int bench_core(struct bench_report *report)
{
    uint64_t *samples = calloc(SAMPLES_MAX, sizeof *samples);
    if (samples == NULL) return MR_ENO_MEMORY;
    uint32_t count = report->quick ? 2000 : SAMPLES_MAX;
    const struct mr_core_limits *limits = report->quick ? &quick_limits : &mr_core_limits_fleet;
    static const uint32_t sizes[2] = {1000, 100000};
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t nodes = report->quick && i == 1 ? 10000 : sizes[i];
        struct bench_cloud *c = NULL;
        int error = bench_cloud_new(&c, limits);
        if (error != 0) {
            free(samples);
            return error;
        }
        bench_fleet_fill(c, nodes);
        if (nodes >= 100000) large_gang(report, c);
        placing(report, c, nodes, count, samples);
        if (i == 1) memory(report, c);
        bench_cloud_free(c);
    }
    depth(report, limits, report->quick ? 10000 : 100000, count / 2, samples);
    if (!report->quick) depth(report, limits, 1000000, count / 2, samples);
    free(samples);
    return 0;
}
