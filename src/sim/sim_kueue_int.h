/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/sim and its tests: a generator file of Kueue's performance tests, read. */
#ifndef MR_SIM_KUEUE_INT_H
#define MR_SIM_KUEUE_INT_H

#include "core/core.h"
#include "sim/sim.h"

#define SIM_KUEUE_LEVELS_MAX   4u /* node, rack, block, and one above */
#define SIM_KUEUE_KINDS_MAX    256u
#define SIM_KUEUE_QUEUES_MAX   100000u
#define SIM_KUEUE_ARRIVALS_MAX 2000000u
#define SIM_KUEUE_NAME_MAX     64u

struct sim_kueue_name {
    char text[SIM_KUEUE_NAME_MAX + 1];
};
struct sim_kueue_kind { /* one className: how its workloads fared */
    struct sim_kueue_name name;
    uint64_t count, admitted, preempted;
    uint64_t wait_sum_us, wait_most_us; /* to the first admission */
};
struct sim_kueue_queue { /* a cluster queue, or a cohort: the parent of some */
    uint32_t cohort;     /* index of its parent + 1; 0: none */
    uint64_t nominal_milli;
    uint64_t borrow_milli, lend_milli; /* UINT64_MAX: no limit */
    uint8_t reclaim, within;           /* 0 never, 1 lower priority, 2 any */
    bool is_cohort;
    uint64_t work_milli_us; /* cohorts: what all of it asks for, times how long */
};
struct sim_kueue_arrival {
    uint64_t time_us, runtime_us;
    int64_t priority;
    uint32_t order, queue, kind, tasks, request_milli;
    uint8_t rank, topology;
    bool admitted, ended;
};
struct sim_kueue_level {
    struct sim_kueue_name label;
    uint32_t count; /* within one of the level above */
};
struct sim_kueue {
    struct sim_kueue_queue *queues; /* tenant index + 1; a cohort comes before its queues */
    uint32_t queue_count, queue_room;
    struct sim_kueue_arrival *arrivals; /* in order of time */
    uint32_t arrival_count, arrival_room;
    struct sim_kueue_kind kinds[SIM_KUEUE_KINDS_MAX];
    uint32_t kind_count;
    struct sim_kueue_level levels[SIM_KUEUE_LEVELS_MAX]; /* widest first; the last is the node */
    uint32_t level_count;                                /* 0: no topology */
    uint32_t node_cpu_milli, node_mem_mib;
    struct mr_buf ignored; /* keys that mean nothing here, as a JSON list's inside */
};

/* Fills *ret from the JSON of a generator file, which it then owns: sim_kueue_done, also after a
 * failure. MR_EINVALID or MR_ESYNTAX with the place told in `problem`, MR_ENO_MEMORY. */
int sim_kueue_read(const struct mr_sim_file *file, struct mr_buf *problem, struct sim_kueue *ret);
void sim_kueue_done(struct sim_kueue *kueue);
/* The least time that any scheduler needs: the largest of what a cohort is asked for over its
 * quota, and of each workload's arrival and run. */
uint64_t sim_kueue_ideal_us(const struct sim_kueue *kueue);

#endif
