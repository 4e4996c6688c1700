/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the benches of core: a cloud in a block of its own, fleets, and what steps cost.
 *
 * A cloud is one core with 50 tenants. Its clock is the number of its steps, in microseconds.
 */
#ifndef MR_CMD_BENCH_WORLD_H
#define MR_CMD_BENCH_WORLD_H

#include "bench.h"
#include "core/core.h"

#define BENCH_GPU_TYPE 1u
#define BENCH_TENANTS  50u

struct bench_cloud {
    struct mr_core *core;
    void *block;
    size_t bytes;
    uint64_t now_us;
    uint64_t starts, tasks; /* START effects so far, and tasks in them */
    uint64_t accepted;      /* workload of the last ACCEPTED */
    uint64_t lease_oldest;  /* a ring of started leases, so that some can end */
    uint64_t leases[1u << 20];
    uint64_t lease_count;
};

/* An empty cloud with BENCH_TENANTS tenants without quotas; MR_ENO_MEMORY. */
int bench_cloud_new(struct bench_cloud **ret, const struct mr_core_limits *limits);
void bench_cloud_free(struct bench_cloud *cloud);
/* Steps the event one microsecond later and returns what the step took, in nanoseconds. */
uint64_t bench_cloud_step(struct bench_cloud *cloud, struct mr_event *event);
/* The same without reading a clock: for rates over many steps. */
void bench_cloud_push(struct bench_cloud *cloud, struct mr_event *event);
/* The lease of the ring that started longest ago and was not asked for yet. */
uint64_t bench_cloud_oldest(struct bench_cloud *cloud);

/* `nodes` nodes: every second group of 18 is an NVLink domain of 72 devices, the others are CPU
 * nodes of 192 vCPUs; a block is 36 of these groups, a cell 16 blocks. */
void bench_fleet_fill(struct bench_cloud *cloud, uint32_t nodes);
/* `domains` NVLink domains of 18 nodes with 4 devices each, then `cpu_nodes` nodes of 192 vCPUs; a
 * block is 36 domains or 648 CPU nodes, a cell 16 blocks. */
void bench_fleet_full(struct bench_cloud *cloud, uint32_t domains, uint32_t cpu_nodes);
/* A job of `tasks` tasks of that much CPU, 2 GiB and devices each. */
struct mr_event bench_job(uint32_t tenant, uint32_t tasks, uint32_t cpu_milli,
                          uint32_t accel_milli);
struct mr_event bench_started(uint64_t lease);
struct mr_event bench_exited(uint64_t lease);

struct bench_spread {
    uint64_t median_ns, p99_ns, sum_ns;
};
/* Sorts the samples. */
struct bench_spread bench_spread_of(uint64_t *samples, uint32_t count);

/* CPU time of this thread: for rates of one core on a machine that others use too. */
uint64_t bench_cpu_ns(void);

/* Bars without a peer; lower is better. A negative goal means none. */
void bench_bar_low(struct bench_report *report, const char *name, double ours, const char *unit,
                   double goal, const char *note);
void bench_bar_spread(struct bench_report *report, const char *what, const struct bench_spread *s,
                      double goal_median_us, double goal_p99_us, const char *note);

/* Instructions of this process in user space since `begin`; UINT64_MAX where the kernel or the
 * machine does not count them. */
int bench_instructions_begin(void); /* a descriptor, or -1 */
uint64_t bench_instructions_end(int fd);

#endif
