/* SPDX-License-Identifier: Apache-2.0 */
/* What the benches of core share: clouds, fleets, samples and their spread.
 *
 * Owns:   one block for each cloud, freed with it.
 * Thread: one.
 * Fails:  MR_ENO_MEMORY when a block of full size does not fit.
 * Ends:   bench_cloud_free.
 */
#include "bench_world.h"

#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void effect_note(void *context, const struct mr_effect *effect)
{
    struct bench_cloud *c = context;
    if (effect->kind == MR_EFFECT_START) {
        c->starts++;
        c->tasks += effect->u.start.tasks;
        c->leases[c->lease_count++ & (MR_COUNT_OF(c->leases) - 1)] = effect->u.start.lease.v;
    }
    if (effect->kind == MR_EFFECT_ACCEPTED) c->accepted = effect->u.answer.workload.v;
}

void bench_cloud_push(struct bench_cloud *cloud, struct mr_event *event)
{
    struct mr_effect_sink sink = {.emit = effect_note, .context = cloud};
    event->time_us = ++cloud->now_us;
    mr_core_step(cloud->core, event, &sink);
}

uint64_t bench_cloud_step(struct bench_cloud *cloud, struct mr_event *event)
{
    uint64_t from_ns = bench_now_ns();
    bench_cloud_push(cloud, event);
    return bench_now_ns() - from_ns;
}

uint64_t bench_cloud_oldest(struct bench_cloud *cloud)
{
    MR_ASSERT(cloud->lease_oldest < cloud->lease_count);
    return cloud->leases[cloud->lease_oldest++ & (MR_COUNT_OF(cloud->leases) - 1)];
}

int bench_cloud_new(struct bench_cloud **ret, const struct mr_core_limits *limits)
{
    struct bench_cloud *c = calloc(1, sizeof *c);
    if (c == NULL) return MR_ENO_MEMORY;
    c->bytes = mr_core_bytes(limits);
    c->block = aligned_alloc(64, (c->bytes + 63) & ~(size_t)63);
    int error =
        c->block == NULL ? MR_ENO_MEMORY : mr_core_init(c->block, c->bytes, limits, &c->core);
    if (error != 0) {
        bench_cloud_free(c);
        return error;
    }
    *ret = c;
    struct mr_event tenant = {.kind = MR_EVENT_TENANT_SET,
                              .u.tenant = {.weight = 1,
                                           .quota_cpu_milli = UINT64_MAX,
                                           .quota_mem_mib = UINT64_MAX,
                                           .quota_accel_milli = UINT64_MAX,
                                           .running_max = UINT32_MAX}};
    for (uint32_t i = 1; i <= BENCH_TENANTS; i++) {
        tenant.u.tenant.id.v = i;
        bench_cloud_push(c, &tenant);
    }
    return 0;
}

void bench_cloud_free(struct bench_cloud *cloud)
{
    if (cloud == NULL) return;
    free(cloud->block);
    free(cloud);
}

/* --- fleets -------------------------------------------------------------------------------- */

static void node_add(struct bench_cloud *cloud, uint32_t id, uint32_t domain, uint32_t block)
{
    bool gpu = domain != 0;
    struct mr_event event = {.kind = MR_EVENT_NODE_SET,
                             .u.node = {.id = {id},
                                        .cpu_milli = gpu ? 144000 : 192000,
                                        .mem_mib = gpu ? 983040 : 786432,
                                        .accel_type = gpu ? BENCH_GPU_TYPE : 0,
                                        .accel_count = gpu ? 4 : 0,
                                        .domain = domain,
                                        .block = block,
                                        .cell = (block - 1) / 16 + 1}};
    bench_cloud_push(cloud, &event);
}

void bench_fleet_fill(struct bench_cloud *cloud, uint32_t nodes)
{
    for (uint32_t i = 1; i <= nodes; i++) {
        uint32_t group = (i - 1) / 18 + 1;
        node_add(cloud, i, group % 2 == 0 ? group : 0, (group - 1) / 36 + 1);
    }
}

void bench_fleet_full(struct bench_cloud *cloud, uint32_t domains, uint32_t cpu_nodes)
{
    uint32_t id = 0, group = 0;
    for (; group < domains; group++) {
        for (uint32_t i = 0; i < 18; i++)
            node_add(cloud, ++id, group + 1, group / 36 + 1);
    }
    uint32_t blocks = (group + 35) / 36;
    for (uint32_t i = 0; i < cpu_nodes; i++)
        node_add(cloud, ++id, 0, blocks + i / 648 + 1);
}

/* --- events -------------------------------------------------------------------------------- */

struct mr_event bench_job(uint32_t tenant, uint32_t tasks, uint32_t cpu_milli, uint32_t accel_milli)
{
    return (struct mr_event){
        .kind = MR_EVENT_SUBMIT,
        .u.submit = {.tenant = {tenant},
                     .shape = {.cpu_milli = cpu_milli, .mem_mib = 2048, .accel_milli = accel_milli},
                     .tasks_min = tasks,
                     .tasks_max = tasks,
                     .priority = MR_PRIORITY_DEFAULT}};
}

struct mr_event bench_started(uint64_t lease)
{
    return (struct mr_event){.kind = MR_EVENT_LEASE_STARTED, .u.lease = {.lease = {lease}}};
}

struct mr_event bench_exited(uint64_t lease)
{
    return (struct mr_event){.kind = MR_EVENT_LEASE_EXITED, .u.lease = {.lease = {lease}}};
}

uint64_t bench_cpu_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* cannot fail with this clock */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- samples and bars ---------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

struct bench_spread bench_spread_of(uint64_t *samples, uint32_t count)
{
    struct bench_spread ret = {0, 0, 0};
    for (uint32_t i = 0; i < count; i++) {
        ret.sum_ns += samples[i];
    }
    qsort(samples, count, sizeof samples[0], compare);
    ret.median_ns = samples[count / 2];
    ret.p99_ns = samples[(uint64_t)count * 99 / 100];
    return ret;
}

void bench_bar_low(struct bench_report *report, const char *name, double ours, const char *unit,
                   double goal, const char *note)
{
    struct bench_bar b = {.ours = ours, .peer = -1, .goal = goal, .lower_is_better = true};
    snprintf(b.name, sizeof b.name, "%s", name);
    snprintf(b.unit, sizeof b.unit, "%s", unit);
    snprintf(b.note, sizeof b.note, "%s", note);
    bench_add(report, &b);
}

void bench_bar_spread(struct bench_report *report, const char *what, const struct bench_spread *s,
                      double goal_median_us, double goal_p99_us, const char *note)
{
    char name[96];
    snprintf(name, sizeof name, "%s, median", what);
    bench_bar_low(report, name, (double)s->median_ns / 1000.0, "us", goal_median_us, note);
    snprintf(name, sizeof name, "%s, p99", what);
    bench_bar_low(report, name, (double)s->p99_ns / 1000.0, "us", goal_p99_us, note);
}

/* --- instructions -------------------------------------------------------------------------- */

int bench_instructions_begin(void)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_HARDWARE,
                                   .size = sizeof attr,
                                   .config = PERF_COUNT_HW_INSTRUCTIONS,
                                   .exclude_kernel = 1,
                                   .exclude_hv = 1};
    return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

uint64_t bench_instructions_end(int fd)
{
    uint64_t count = UINT64_MAX;
    if (fd < 0) return UINT64_MAX;
    if (read(fd, &count, sizeof count) != (ssize_t)sizeof count) count = UINT64_MAX;
    (void)close(fd); /* read only */
    return count == 0 ? UINT64_MAX : count;
}
