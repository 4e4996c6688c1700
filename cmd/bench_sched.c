/* SPDX-License-Identifier: Apache-2.0 */
/* `bench sched`: the scheduler at full size, in parts that can be run alone by name.
 *
 * Owns:   one cloud at a time, made here and freed here.
 * Thread: one.
 * Fails:  MR_ENO_MEMORY when a block of full size does not fit; MR_ENOT_FOUND for an unknown part.
 * Ends:   bench_cloud_free.
 */
#include "bench_sched.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_world.h"
#include "cmd.h"

#define SAMPLES_MAX 50000u
#define GANG_NODES  4096u /* of 4 devices: 16,384 */
#define GANG_TIMES  11u

struct part {
    const char *name, *summary;
    int (*run)(struct bench_report *report);
};
static const struct part parts[] = {
    {"fleet", "500,000 GPUs and 20,000,000 vCPUs: placing, a 16,384-GPU gang, memory",
     bench_sched_fleet},
    {"queue", "a step at 100 and at 1,000,000 waiting", bench_sched_queue},
    {"gangs", "5,000 nodes in 50 racks, 750 gangs of 4", bench_sched_gangs},
    {"decisions", "exits, starts and submissions of all kinds on a full fleet",
     bench_sched_decisions},
    {"slurm", "beside Slurm, where it is installed", bench_sched_slurm},
    {"packing", "openb lists beside FGD", bench_sched_packing},
    {"deadlines", "elasticflow traces beside the bound", bench_sched_deadlines},
    {"kueue", "Kueue's generators beside Kueue", bench_sched_kueue},
    {"when", "how often a start lies in its estimate's band", bench_sched_when},
    {"goodput", "a 100,000-GPU job under published failure rates", bench_sched_goodput},
    {"moves", "gangs of whole domains among small work that may be moved", bench_sched_moves},
};

/* For --quick and tests: a few dozen MiB instead of the fleet's. */
static const struct mr_core_limits quick_limits = {.nodes = 12000,
                                                   .domains = 1024,
                                                   .blocks = 64,
                                                   .cells = 16,
                                                   .tenants = 64,
                                                   .workloads = 60000,
                                                   .leases = 60000,
                                                   .shapes = 256};

static const struct mr_core_limits *limits_of(const struct bench_report *report)
{
    return report->quick ? &quick_limits : &mr_core_limits_fleet;
}

/* --- the full fleet ------------------------------------------------------------------------ */

static struct bench_spread place_many(struct bench_cloud *c, uint64_t *samples, uint32_t count,
                                      uint32_t cpu_milli, uint32_t accel_milli)
{
    for (uint32_t i = 0; i < count; i++) {
        struct mr_event event = bench_job(1 + i % BENCH_TENANTS, 1, cpu_milli, accel_milli);
        samples[i] = bench_cloud_step(c, &event);
    }
    return bench_spread_of(samples, count);
}

static void gang_end(struct bench_cloud *c, uint64_t first)
{
    for (uint64_t i = first; i < c->lease_count; i++) {
        struct mr_event event = bench_exited(c->leases[i & (MR_COUNT_OF(c->leases) - 1)]);
        bench_cloud_push(c, &event);
    }
}

/* Domains that some of the gang's leases lie in: nodes of a domain have consecutive numbers. */
static uint32_t gang_domains(const struct bench_cloud *c, uint64_t first)
{
    uint32_t count = 0;
    uint8_t *seen = calloc(1u << 16, 1);
    for (uint64_t i = first; seen != NULL && i < c->lease_count; i++) {
        struct mr_lease_info lease;
        struct mr_node_info node;
        uint64_t id = c->leases[i & (MR_COUNT_OF(c->leases) - 1)];
        if (mr_core_lease(c->core, (struct mr_lease_id){id}, &lease) != 0) continue;
        if (mr_core_node(c->core, lease.node, &node) != 0) continue;
        uint32_t domain = node.node.domain & 0xffffu;
        count += !seen[domain];
        seen[domain] = 1;
    }
    free(seen);
    return count;
}

static void large_gang(struct bench_report *report, struct bench_cloud *c, uint32_t nodes)
{
    uint64_t samples[GANG_TIMES];
    uint32_t domains = 0, times = 0;
    char name[96], note[160];
    for (; times < GANG_TIMES; times++) {
        uint64_t before = c->starts, first = c->lease_count;
        struct mr_event event = bench_job(1, nodes, 32000, 4000);
        samples[times] = bench_cloud_step(c, &event);
        if (c->starts - before != nodes) break;
        domains = gang_domains(c, first);
        gang_end(c, first);
    }
    snprintf(name, sizeof name, "%u-GPU gang on whole domains", nodes * 4);
    if (times < GANG_TIMES) {
        bench_bar_low(report, name, -1, "ms", 10, "did not fit");
        return;
    }
    struct bench_spread s = bench_spread_of(samples, GANG_TIMES);
    snprintf(note, sizeof note,
             "%u nodes in %u domains (%u can hold it); %u times, slowest %.2f ms", nodes, domains,
             (nodes + 17) / 18, GANG_TIMES, (double)samples[GANG_TIMES - 1] / 1e6);
    bench_bar_low(report, name, (double)s.median_ns / 1e6, "ms", 10, note);
}

static void instructions(struct bench_report *report, const char *name, uint64_t count,
                         uint32_t placements)
{
    if (count == UINT64_MAX) {
        bench_bar_low(report, name, -1, "instructions", -1,
                      "this machine does not let them be counted (perf_event_open)");
        return;
    }
    char note[96];
    snprintf(note, sizeof note, "user space, mean of %u", placements);
    bench_bar_low(report, name, (double)count / placements, "instructions", -1, note);
}

/* Each placement is a submission, its START, and the engine's word that it started. */
static void burst(struct bench_report *report, struct bench_cloud *c, uint32_t count)
{
    uint64_t before = c->starts;
    int counter = bench_instructions_begin();
    uint64_t from_ns = bench_cpu_ns();
    for (uint32_t i = 0; i < count; i++) {
        struct mr_event event = bench_job(1 + i % BENCH_TENANTS, 1, 1000, 0);
        bench_cloud_push(c, &event);
        event = bench_started(c->leases[(c->lease_count - 1) & (MR_COUNT_OF(c->leases) - 1)]);
        bench_cloud_push(c, &event);
    }
    uint64_t took_ns = bench_cpu_ns() - from_ns;
    uint64_t counted = bench_instructions_end(counter);
    struct bench_bar rate = {.ours = (double)count * 1e9 / (double)(took_ns + 1),
                             .unit = "1/s",
                             .peer = 1000,
                             .peer_name = "GKE at 130,000 nodes, published",
                             .goal = 1000000};
    snprintf(rate.name, sizeof rate.name, "placements, one submission each");
    snprintf(rate.note, sizeof rate.note,
             "%u sandboxes, all placed: %s; SUBMIT, START, STARTED; a second of CPU", count,
             c->starts - before == count ? "yes" : "NO");
    bench_add(report, &rate);
    instructions(report, "instructions a placement", counted, count);
}

/* One submission of many replicas: what a burst of a pool costs. */
static void pool(struct bench_report *report, struct bench_cloud *c, uint32_t count)
{
    struct mr_event event = bench_job(1, count, 1000, 0);
    event.u.submit.kind = MR_KIND_POOL;
    uint64_t before = c->starts, first = c->lease_count;
    uint64_t from_ns = bench_cpu_ns();
    bench_cloud_push(c, &event);
    for (uint64_t i = first; i < c->lease_count; i++) {
        event = bench_started(c->leases[i & (MR_COUNT_OF(c->leases) - 1)]);
        bench_cloud_push(c, &event);
    }
    uint64_t took_ns = bench_cpu_ns() - from_ns;
    struct bench_bar rate = {.ours = (double)(c->starts - before) * 1e9 / (double)(took_ns + 1),
                             .unit = "1/s",
                             .peer = 100000.0 / 24,
                             .peer_name = "100,000 live in 24 s, published",
                             .goal = 1000000};
    snprintf(rate.name, sizeof rate.name, "placements, one pool of %u sandboxes", count);
    snprintf(rate.note, sizeof rate.note, "%llu placed in %.1f ms of CPU",
             (unsigned long long)(c->starts - before), (double)took_ns / 1e6);
    bench_add(report, &rate);
}

int bench_sched_fleet(struct bench_report *report)
{
    bool quick = report->quick;
    uint32_t count = quick ? 2000 : SAMPLES_MAX;
    struct bench_cloud *c = NULL;
    uint64_t *samples = calloc(SAMPLES_MAX, sizeof *samples);
    if (samples == NULL) return MR_ENO_MEMORY;
    int error = bench_cloud_new(&c, limits_of(report));
    if (error != 0) {
        free(samples);
        return error;
    }
    bench_fleet_full(c, quick ? 300 : 6945, quick ? 5000 : 104167);
    struct mr_totals totals;
    char note[160];
    mr_core_totals(c->core, &totals);
    snprintf(note, sizeof note, "%u nodes, %llu GPUs, %llu vCPUs with the GPU nodes'",
             totals.nodes_up, (unsigned long long)totals.accel_milli / 1000,
             (unsigned long long)totals.cpu_milli / 1000);
    bench_bar_low(report, "block of full size", (double)c->bytes / (1024.0 * 1024.0), "MiB", 1024,
                  note);
    large_gang(report, c, quick ? 1024 : GANG_NODES);
    snprintf(note, sizeof note, "%u submissions, each placed; bare step, no journal", count);
    struct bench_spread s = place_many(c, samples, count, 1000, 0);
    bench_bar_spread(report, "1-vCPU sandbox placed", &s, 20, 100, note);
    s = place_many(c, samples, MR_MIN(count, 20000u), 8000, 1000);
    bench_bar_spread(report, "1-GPU replica placed", &s, 20, 100, note);
    burst(report, c, quick ? 20000 : 400000);
    pool(report, c, quick ? 10000 : 100000);
    bench_cloud_free(c);
    free(samples);
    return 0;
}

/* --- the depth of the queue ---------------------------------------------------------------- */

struct depth {
    struct bench_cloud *cloud;
    uint64_t *samples;
    uint32_t count, waiting;
};

/* With `waiting` workloads that cannot start: one lease ends, one waiting workload starts in its
 * place, and one new submission joins the queue. */
static struct bench_spread depth_measure(struct depth *d, uint32_t waiting)
{
    struct bench_cloud *c = d->cloud;
    for (; d->waiting < waiting; ++d->waiting) {
        struct mr_event event = bench_job(1 + d->waiting % BENCH_TENANTS, 1, 8000, 1000);
        bench_cloud_push(c, &event);
    }
    for (uint32_t i = 0; i < d->count; i++) {
        struct mr_event ended = bench_exited(bench_cloud_oldest(c));
        struct mr_event again = bench_job(1 + i % BENCH_TENANTS, 1, 8000, 1000);
        d->samples[i] = bench_cloud_step(c, &ended);
        d->samples[i] += bench_cloud_step(c, &again);
    }
    return bench_spread_of(d->samples, d->count);
}

int bench_sched_queue(struct bench_report *report)
{
    struct depth d = {.count = report->quick ? 1000 : 10000};
    uint32_t many = report->quick ? 20000 : 1000000;
    char name[96], note[160];
    d.samples = calloc(d.count, sizeof *d.samples);
    if (d.samples == NULL) return MR_ENO_MEMORY;
    int error = bench_cloud_new(&d.cloud, limits_of(report));
    if (error != 0) {
        free(d.samples);
        return error;
    }
    bench_fleet_fill(d.cloud, 1000);
    uint64_t before;
    do {
        before = d.cloud->starts;
        struct mr_event event = bench_job(1, 1, 8000, 1000);
        bench_cloud_push(d.cloud, &event);
    } while (d.cloud->starts > before);
    d.waiting = 1;
    struct bench_spread few = depth_measure(&d, 100), lots = depth_measure(&d, many);
    snprintf(note, sizeof note, "%u times an exit, a start and a submission, %u tenants", d.count,
             BENCH_TENANTS);
    bench_bar_spread(report, "step at 100 waiting", &few, -1, -1, note);
    snprintf(name, sizeof name, "step at %u waiting", many);
    bench_bar_spread(report, name, &lots, -1, -1, note);
    snprintf(name, sizeof name, "queue depth 100 to %u, cost of a step", many);
    snprintf(note, sizeof note, "ratio of the medians; as sums %.2f",
             (double)lots.sum_ns / (double)(few.sum_ns + 1));
    bench_bar_low(report, name, (double)lots.median_ns / (double)(few.median_ns + 1), "ratio", 2,
                  note);
    bench_cloud_free(d.cloud);
    free(d.samples);
    return 0;
}

/* --- gangs with topology ------------------------------------------------------------------- */

#define RACKS      50u
#define RACK_NODES 100u

/* `gangs` gangs of 4 pods, each gang within one rack; pods/s. `cpu_milli` decides whether a node
 * holds one pod or more. */
static double gangs_run(struct bench_cloud *c, uint32_t gangs, uint32_t cpu_milli, bool *ret_all)
{
    uint64_t before = c->starts, tasks = c->tasks, from_ns = bench_cpu_ns();
    for (uint32_t i = 0; i < gangs; i++) {
        struct mr_event event = bench_job(1, 4, cpu_milli, 0);
        event.u.submit.topology = MR_TOPOLOGY_DOMAIN;
        bench_cloud_push(c, &event);
    }
    uint64_t took_ns = bench_cpu_ns() - from_ns;
    for (uint64_t i = c->lease_count - (c->starts - before); i < c->lease_count; i++) {
        struct mr_event event = bench_started(c->leases[i & (MR_COUNT_OF(c->leases) - 1)]);
        bench_cloud_push(c, &event);
    }
    *ret_all = c->tasks - tasks == (uint64_t)gangs * 4;
    return (double)gangs * 4e9 / (double)(took_ns + 1);
}

int bench_sched_gangs(struct bench_report *report)
{
    static const struct mr_core_limits limits = {.nodes = RACKS * RACK_NODES,
                                                 .domains = RACKS,
                                                 .blocks = 1,
                                                 .cells = 1,
                                                 .tenants = 64,
                                                 .workloads = 16384,
                                                 .leases = 32768,
                                                 .shapes = 256};
    for (uint32_t large = 0; large < 2; large++) {
        struct bench_cloud *c = NULL;
        int error = bench_cloud_new(&c, &limits);
        if (error != 0) return error;
        for (uint32_t i = 0; i < RACKS * RACK_NODES; i++) {
            struct mr_event event = {.kind = MR_EVENT_NODE_SET,
                                     .u.node = {.id = {i + 1},
                                                .cpu_milli = 32000,
                                                .mem_mib = 131072,
                                                .domain = i / RACK_NODES + 1,
                                                .block = 1,
                                                .cell = 1}};
            bench_cloud_push(c, &event);
        }
        bool all = true;
        struct bench_bar bar = {.ours = gangs_run(c, 750, large ? 20000 : 2000, &all),
                                .unit = "pods/s",
                                .peer = 114,
                                .peer_name = "kube-scheduler, all scored, published",
                                .goal = 100000};
        snprintf(bar.name, sizeof bar.name, "750 gangs of 4 in one rack each, %s",
                 large ? "a node a pod" : "small pods");
        snprintf(bar.note, sizeof bar.note,
                 "5,000 nodes, 50 racks, in order of score; a second of CPU%s",
                 all ? "" : "; NOT ALL WERE PLACED");
        bench_add(report, &bar);
        bench_cloud_free(c);
    }
    return 0;
}

/* --- all kinds of work on a full fleet ----------------------------------------------------- */

/* What comes: mostly sandboxes, replicas of one GPU, some nodes, some gangs in a domain. */
static struct mr_event mixed(struct mr_prng *prng)
{
    uint64_t draw = mr_prng_below(prng, 100);
    uint32_t tenant = 1 + (uint32_t)mr_prng_below(prng, BENCH_TENANTS);
    if (draw < 70) return bench_job(tenant, 1, 1000u << mr_prng_below(prng, 4), 0);
    if (draw < 88) return bench_job(tenant, 1, 8000, 1000);
    if (draw < 96) return bench_job(tenant, 1, 32000, 4000);
    struct mr_event event = bench_job(tenant, 4u << mr_prng_below(prng, 3), 32000, 4000);
    event.u.submit.topology = MR_TOPOLOGY_DOMAIN;
    return event;
}

int bench_sched_decisions(struct bench_report *report)
{
    bool quick = report->quick;
    uint32_t count = quick ? 2000 : SAMPLES_MAX;
    struct mr_prng prng;
    struct bench_cloud *c = NULL;
    char note[160];
    mr_prng_init(&prng, 1);
    uint64_t *samples = calloc(SAMPLES_MAX, sizeof *samples);
    if (samples == NULL) return MR_ENO_MEMORY;
    int error = bench_cloud_new(&c, limits_of(report));
    if (error != 0) {
        free(samples);
        return error;
    }
    bench_fleet_full(c, quick ? 30 : 1000, quick ? 100 : 2000);
    uint32_t filled = quick ? 5000 : 200000;
    for (uint32_t i = 0; i < filled; i++) {
        struct mr_event event = mixed(&prng);
        bench_cloud_push(c, &event);
    }
    uint64_t before = c->starts, from_ns = bench_cpu_ns();
    for (uint32_t i = 0; i < count; i++) {
        struct mr_event ended = bench_exited(bench_cloud_oldest(c)), again = mixed(&prng);
        samples[i] = bench_cloud_step(c, &ended);
        samples[i] += bench_cloud_step(c, &again);
    }
    double seconds = (double)(bench_cpu_ns() - from_ns) / 1e9;
    struct mr_totals totals;
    mr_core_totals(c->core, &totals);
    struct bench_spread s = bench_spread_of(samples, count);
    snprintf(note, sizeof note, "%u nodes, %u running, %u waiting; %llu leases started meanwhile",
             totals.nodes_up, totals.running, totals.pending,
             (unsigned long long)(c->starts - before));
    bench_bar_spread(report, "an exit and a submission, mixed work", &s, 20, 100, note);
    struct bench_bar rate = {.ours = 2.0 * count / seconds, .unit = "1/s", .peer = -1, .goal = -1};
    snprintf(rate.name, sizeof rate.name, "decisions, mixed work");
    snprintf(rate.note, sizeof rate.note,
             "events that change what can run, with their starts; a second of CPU");
    bench_add(report, &rate);
    bench_cloud_free(c);
    free(samples);
    return 0;
}

/* --- replays --------------------------------------------------------------------------------- */

int bench_replay(struct mr_sim_replay_options *options, struct mr_buf *ret_json)
{
    struct mr_sim_replay_result result;
    const size_t most = (size_t)64 * 1024 * 1024;
    options->cpu_ns = bench_cpu_ns;
    mr_buf_init(&result.json, most);
    mr_buf_init(&result.text, most);
    mr_buf_init(&result.html, most);
    mr_buf_init(&result.problem, most);
    int error = mr_sim_replay(options, &result);
    if (error == 0)
        mr_buf_put_str(ret_json, mr_buf_str(&result.json));
    else
        cmd_say("%.*s", MR_STR_ARG(mr_buf_str(&result.problem)));
    mr_buf_put_char(ret_json, 0);
    mr_buf_done(&result.json);
    mr_buf_done(&result.text);
    mr_buf_done(&result.html);
    mr_buf_done(&result.problem);
    return error;
}

double bench_figure(struct mr_buf *json, const char *name)
{
    char key[48];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr((const char *)json->p, key);
    return at != NULL ? strtod(at + strlen(key), NULL) : -1;
}

/* --- all of it ----------------------------------------------------------------------------- */

int bench_sched(struct bench_report *report)
{
    bool found = false;
    for (size_t i = 0; i < MR_COUNT_OF(parts); i++) {
        if (report->arg != NULL && strcmp(report->arg, parts[i].name) != 0) continue;
        found = true;
        cmd_say("sched %s: %s", parts[i].name, parts[i].summary);
        int error = parts[i].run(report);
        if (error != 0) return error;
    }
    if (found) return 0;
    cmd_say("no part of sched is called '%s'; there are:", report->arg);
    for (size_t i = 0; i < MR_COUNT_OF(parts); i++)
        cmd_say("  %-10s %s", parts[i].name, parts[i].summary);
    return MR_ENOT_FOUND;
}
