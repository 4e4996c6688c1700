/* SPDX-License-Identifier: Apache-2.0 */
/* `bench core`: what a step costs as the fleet and the queue grow.
 *
 * Owns:   one block of memory at a time, made here and freed here.
 * Thread: one.
 * Fails:  MR_ENO_MEMORY when a block of full size does not fit; what was measured stays.
 * Ends:   cloud_done.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"
#include "bench.h"
#include "core/core.h"

#define SAMPLES_MAX 20000u
#define GPU_TYPE    1u

struct cloud {
    struct mr_core *core;
    void *block;
    size_t bytes;
    uint64_t now_us;
    uint64_t starts;       /* START effects so far */
    uint64_t accepted;     /* workload of the last ACCEPTED */
    uint64_t lease_oldest; /* a ring of started leases, so that some can end */
    uint64_t leases[1u << 18];
    uint64_t lease_count;
};

static void effect_note(void *context, const struct mr_effect *effect)
{
    struct cloud *c = context;
    if (effect->kind == MR_EFFECT_START) {
        c->starts++;
        c->leases[c->lease_count++ & (MR_COUNT_OF(c->leases) - 1)] = effect->u.start.lease.v;
    }
    if (effect->kind == MR_EFFECT_ACCEPTED) c->accepted = effect->u.answer.workload.v;
}

/* Steps the event and returns its cost. */
static uint64_t step(struct cloud *c, struct mr_event *event)
{
    struct mr_effect_sink sink = {.emit = effect_note, .context = c};
    event->time_us = ++c->now_us;
    uint64_t from_ns = bench_now_ns();
    mr_core_step(c->core, event, &sink);
    return bench_now_ns() - from_ns;
}

static int cloud_init(struct cloud **ret, const struct mr_core_limits *limits)
{
    struct cloud *c = calloc(1, sizeof *c);
    if (c == NULL) return MR_ENO_MEMORY;
    c->bytes = mr_core_bytes(limits);
    c->block = aligned_alloc(64, (c->bytes + 63) & ~(size_t)63);
    int error =
        c->block == NULL ? MR_ENO_MEMORY : mr_core_init(c->block, c->bytes, limits, &c->core);
    if (error != 0) {
        free(c->block);
        free(c);
        return error;
    }
    *ret = c;
    struct mr_event tenant = {.kind = MR_EVENT_TENANT_SET,
                              .u.tenant = {.weight = 1,
                                           .quota_cpu_milli = UINT64_MAX,
                                           .quota_mem_mib = UINT64_MAX,
                                           .quota_accel_milli = UINT64_MAX,
                                           .running_max = UINT32_MAX}};
    for (uint32_t i = 1; i <= 50; i++) {
        tenant.u.tenant.id.v = i;
        (void)step(c, &tenant);
    }
    return 0;
}

static void cloud_done(struct cloud *c)
{
    if (c == NULL) return;
    free(c->block);
    free(c);
}

/* Every second group of 18 nodes is an NVLink domain of 72 devices, the others are CPU nodes; a
 * block is 36 of these groups, a cell 16 blocks. */
static void fleet_fill(struct cloud *c, uint32_t nodes)
{
    for (uint32_t i = 1; i <= nodes; i++) {
        uint32_t group = (i - 1) / 18 + 1;
        bool gpu = group % 2 == 0;
        uint32_t block = (group - 1) / 36 + 1;
        struct mr_event event = {.kind = MR_EVENT_NODE_SET,
                                 .u.node = {.id = {i},
                                            .cpu_milli = gpu ? 144000 : 192000,
                                            .mem_mib = gpu ? 983040 : 786432,
                                            .accel_type = gpu ? GPU_TYPE : 0,
                                            .accel_count = gpu ? 4 : 0,
                                            .domain = gpu ? group : 0,
                                            .block = block,
                                            .cell = (block - 1) / 16 + 1}};
        (void)step(c, &event);
    }
}

static struct mr_event job(uint32_t tenant, uint32_t tasks, uint32_t cpu_milli,
                           uint32_t accel_milli)
{
    return (struct mr_event){
        .kind = MR_EVENT_SUBMIT,
        .u.submit = {.tenant = {tenant},
                     .shape = {.cpu_milli = cpu_milli, .mem_mib = 2048, .accel_milli = accel_milli},
                     .tasks_min = tasks,
                     .tasks_max = tasks,
                     .priority = MR_PRIORITY_DEFAULT}};
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

struct spread {
    uint64_t median_ns, p99_ns, sum_ns;
};

static struct spread spread_of(uint64_t *samples, uint32_t count)
{
    struct spread ret = {0, 0, 0};
    for (uint32_t i = 0; i < count; i++) {
        ret.sum_ns += samples[i];
    }
    qsort(samples, count, sizeof samples[0], compare);
    ret.median_ns = samples[count / 2];
    ret.p99_ns = samples[(uint64_t)count * 99 / 100];
    return ret;
}

static void bar(struct bench_report *report, const char *name, double ours, const char *unit,
                double goal, const char *note)
{
    struct bench_bar b = {.ours = ours, .peer = -1, .goal = goal, .lower_is_better = true};
    snprintf(b.name, sizeof b.name, "%s", name);
    snprintf(b.unit, sizeof b.unit, "%s", unit);
    snprintf(b.note, sizeof b.note, "%s", note);
    bench_add(report, &b);
}

static void spread_bars(struct bench_report *report, const char *what, const struct spread *s,
                        double goal_median, double goal_p99, const char *note)
{
    char name[96];
    snprintf(name, sizeof name, "%s, median", what);
    bar(report, name, (double)s->median_ns / 1000.0, "us", goal_median, note);
    snprintf(name, sizeof name, "%s, p99", what);
    bar(report, name, (double)s->p99_ns / 1000.0, "us", goal_p99, note);
}

/* The time one submission, its placement and its START take. */
static struct spread place_many(struct cloud *c, uint64_t *samples, uint32_t count, uint32_t tasks,
                                uint32_t cpu_milli, uint32_t accel_milli)
{
    for (uint32_t i = 0; i < count; i++) {
        struct mr_event event = job(1 + i % 50, tasks, cpu_milli, accel_milli);
        samples[i] = step(c, &event);
    }
    return spread_of(samples, count);
}

static void placing(struct bench_report *report, struct cloud *c, uint32_t nodes, uint32_t count,
                    uint64_t *samples)
{
    char what[80], note[160];
    snprintf(note, sizeof note, "%u submissions, each placed; bare step, no journal", count);
    snprintf(what, sizeof what, "1-vCPU sandbox placed, %u nodes", nodes);
    struct spread s = place_many(c, samples, count, 1, 1000, 0);
    spread_bars(report, what, &s, 20, 100, note);
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
    spread_bars(report, what, &s, 20, 100, note);
    uint32_t gangs = MR_MIN(count / 16 + 1, nodes / 72 + 1);
    snprintf(note, sizeof note, "%u gangs, each within one NVLink domain", gangs);
    snprintf(what, sizeof what, "16-GPU gang in a domain placed, %u nodes", nodes);
    for (uint32_t i = 0; i < gangs; i++) {
        struct mr_event event = job(1 + i % 50, 4, 32000, 4000);
        event.u.submit.topology = MR_TOPOLOGY_DOMAIN;
        samples[i] = step(c, &event);
    }
    s = spread_of(samples, gangs);
    spread_bars(report, what, &s, -1, -1, note);
}

/* With `waiting` workloads that cannot start: one lease ends, one waiting workload starts in its
 * place, and one new submission joins the queue. */
static struct spread depth_measure(struct cloud *c, uint64_t *samples, uint32_t count,
                                   uint32_t *waiting_now, uint32_t waiting)
{
    for (; *waiting_now < waiting; ++*waiting_now) {
        struct mr_event event = job(1 + *waiting_now % 50, 1, 8000, 1000);
        (void)step(c, &event);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t lease = c->leases[c->lease_oldest++ & (MR_COUNT_OF(c->leases) - 1)];
        struct mr_event ended = {.kind = MR_EVENT_LEASE_EXITED, .u.lease = {.lease = {lease}}};
        struct mr_event again = job(1 + i % 50, 1, 8000, 1000);
        samples[i] = step(c, &ended);
        samples[i] += step(c, &again);
    }
    return spread_of(samples, count);
}

static void depth(struct bench_report *report, const struct mr_core_limits *limits, uint32_t many,
                  uint32_t count, uint64_t *samples)
{
    struct cloud *c = NULL;
    if (cloud_init(&c, limits) != 0) {
        bar(report, "queue depth", -1, "us", -1, "out of memory");
        return;
    }
    fleet_fill(c, 1000);
    uint64_t before;
    do {
        before = c->starts;
        struct mr_event event = job(1, 1, 8000, 1000);
        (void)step(c, &event);
    } while (c->starts > before);
    uint32_t waiting = 1;
    char what[80], note[160];
    snprintf(note, sizeof note, "%u times an exit, a start and a submission, 50 tenants", count);
    struct spread few = depth_measure(c, samples, count, &waiting, 100);
    spread_bars(report, "step at 100 waiting", &few, -1, -1, note);
    struct spread lots = depth_measure(c, samples, count, &waiting, many);
    snprintf(what, sizeof what, "step at %u waiting", many);
    spread_bars(report, what, &lots, -1, -1, note);
    struct bench_bar ratio = {.ours = (double)lots.median_ns / (double)(few.median_ns + 1),
                              .unit = "ratio",
                              .peer = -1,
                              .goal = 2.0,
                              .lower_is_better = true};
    snprintf(ratio.name, sizeof ratio.name, "queue depth 100 to %u, cost of a step", many);
    snprintf(ratio.note, sizeof ratio.note, "ratio of the medians; as sums %.2f",
             (double)lots.sum_ns / (double)(few.sum_ns + 1));
    bench_add(report, &ratio);
    cloud_done(c);
}

static void memory(struct bench_report *report, struct cloud *c)
{
    bar(report, "block of full size", (double)c->bytes / (1024.0 * 1024.0), "MiB", 1024,
        report->quick ? "--quick: limits for a test"
                      : "240,000 nodes, 1,100,000 workloads, 700,000 leases");
    void *fork = malloc(c->bytes);
    if (fork == NULL) {
        bar(report, "fork of the cloud", -1, "ms", -1, "out of memory for a second block");
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
    bar(report, "fork of the cloud", ms[1], "ms", -1, note);
    free(fork);
}

static void large_gang(struct bench_report *report, struct cloud *c)
{
    struct mr_event event = job(1, 4096, 32000, 4000);
    uint64_t before = c->starts;
    uint64_t ns = step(c, &event);
    bool placed = c->starts - before == 4096;
    bar(report, "16,384-GPU gang on whole domains", placed ? (double)ns / 1e6 : -1, "ms", 10,
        placed ? "4,096 nodes, once" : "did not fit");
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
        struct cloud *c = NULL;
        int error = cloud_init(&c, limits);
        if (error != 0) {
            free(samples);
            return error;
        }
        fleet_fill(c, nodes);
        if (nodes >= 100000) large_gang(report, c);
        placing(report, c, nodes, count, samples);
        if (i == 1) memory(report, c);
        cloud_done(c);
    }
    depth(report, limits, report->quick ? 10000 : 100000, count / 2, samples);
    if (!report->quick) depth(report, limits, 1000000, count / 2, samples);
    free(samples);
    return 0;
}
