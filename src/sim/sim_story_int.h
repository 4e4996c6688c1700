/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/sim and its tests: a recorded or drawn workload, and what became of it.
 *
 * A reader fills a story; sim_play takes it through core on a fleet; sim_report writes it down.
 */
#ifndef MR_SIM_STORY_INT_H
#define MR_SIM_STORY_INT_H

#include "core/core.h"
#include "sim_fleet_int.h"

#define SIM_JOBS_MAX     4000000u
#define SIM_TENANTS_MAX  4096u
#define SIM_SERIES_CELLS 512u
#define SIM_UNKNOWN      UINT64_MAX
#define SIM_SECOND_US    1000000u
#define SIM_HORIZON_US   (UINT64_C(40) * 365 * 86400 * SIM_SECOND_US)

struct sim_job {
    uint64_t submit_us; /* since the story began */
    uint64_t run_us;    /* at full size, without overhead */
    uint64_t limit_us;  /* as asked for; 0: none */
    uint64_t deadline_us;
    uint64_t checkpoint_us, checkpoint_cost_us; /* 0: does not */
    uint64_t restart_us;                        /* from a start to the first step of work */
    uint64_t swap_us;          /* the same, when all nodes of its world held it before */
    uint64_t recorded_wait_us; /* SIM_UNKNOWN: not in the record */
    struct mr_shape shape;
    uint32_t tasks_min, tasks_max, tenant, spares;
    uint8_t priority, topology;
    bool preemptible;
    bool ended_badly; /* the record says that it failed, was cancelled or ran into its limit */
};

struct sim_story {
    struct mr_arena arena; /* names */
    struct sim_job *jobs;  /* in order of submission once sorted */
    uint32_t job_count, job_room;
    struct mr_str tenants[SIM_TENANTS_MAX]; /* by number - 1 */
    uint32_t tenant_buckets[SIM_TENANTS_MAX * 2];
    uint32_t tenant_count;
    uint64_t epoch_us; /* when it began, since 1970; 0: unknown */
    uint64_t skipped;  /* records that are no jobs: never started, without a size, steps */
    uint32_t max_nodes, max_procs; /* of a header; 0: not given */
};

/* What the cluster held, over time: `cells` of equal length, doubled when time runs on. */
struct sim_series {
    uint64_t cell_us, last_us;
    uint32_t cells;
    /* Integrals over each cell: amount times microseconds. */
    double queue[SIM_SERIES_CELLS], accel_used[SIM_SERIES_CELLS], accel_up[SIM_SERIES_CELLS];
    double cpu_used[SIM_SERIES_CELLS], cpu_up[SIM_SERIES_CELLS];
    double free_whole[SIM_SERIES_CELLS];   /* free milli in domains that are wholly free */
    double domains_free[SIM_SERIES_CELLS]; /* domains wholly free */
    double down[SIM_SERIES_CELLS];         /* milli of nodes that failed */
};

/* Device time (CPU time on a fleet without devices) by what it went into, in milli-microseconds. */
struct sim_goodput {
    double productive, ended_badly, checkpoint, restart, lost, swap, spare;
};

struct sim_outcome {               /* of one job */
    uint64_t started_us, ended_us; /* SIM_UNKNOWN: not */
    uint64_t done_us;              /* work that will not be done again, at full size */
    uint32_t runs, failures;
    uint8_t state;        /* enum mr_state */
    uint8_t badly_placed; /* its first run lay in more domains than needed */
    uint8_t counted;      /* its placement was looked at */
};

struct sim_result {
    const struct sim_story *story;
    const struct mr_sim_fleet *fleet;
    struct sim_outcome *outcomes; /* by job */
    struct sim_series series;
    struct sim_goodput goodput;
    double capacity_milli_us, down_milli_us; /* of the counted resource, over the makespan */
    uint64_t end_us, last_submit_us, events, submissions, core_ns;
    uint64_t rejected, queue_max, interruptions, racks_failed, suspects, swaps;
    uint64_t gangs, gangs_tight; /* of several nodes; on as few domains as can hold them */
    double cost_usd;             /* of the fleet while it was there */
    bool by_cpu;                 /* the fleet has no devices: CPU is what is counted */
};

void sim_story_init(struct sim_story *story);
void sim_story_done(struct sim_story *story);
/* A job more, all zero but what is usual; NULL: out of memory or SIM_JOBS_MAX are there. */
struct sim_job *sim_story_add(struct sim_story *story);
/* The number of the tenant of this name, from 1; those past SIM_TENANTS_MAX share numbers. */
uint32_t sim_story_tenant(struct sim_story *story, struct mr_str name);
/* By time of submission, in the order of the file where equal; the first at 0. */
void sim_story_sort(struct sim_story *story);

/* Readers. 0, or MR_ESYNTAX with the problem said, MR_ENO_MEMORY. */
int sim_swf_read(const struct mr_sim_file *file, struct sim_story *story, struct mr_buf *problem);
int sim_sacct_read(const struct mr_sim_file *file, struct mr_sim_fleet *fleet,
                   struct sim_story *story, struct mr_buf *problem);
int sim_millrace_read(const struct mr_sim_file *file, struct mr_sim_fleet *fleet,
                      struct sim_story *story, struct mr_buf *problem);

/* A drawn workload (options->draw, jobs, load_per_cent, seed) for this fleet. MR_EINVALID with the
 * problem said. */
int sim_story_draw(const struct mr_sim_replay_options *options, const struct mr_sim_fleet *fleet,
                   struct sim_story *story, struct mr_buf *problem);
/* The accelerator types of a fleet that a text names ("H100", "H100|A100"), into the shape; true
 * when at least one is there or the text is empty. */
bool sim_shape_types(const struct mr_sim_fleet *fleet, struct mr_str names, struct mr_shape *shape);

/* Takes the story through core on the fleet. 0, MR_ENO_MEMORY, or MR_EINVALID with the problem
 * said. The result's outcomes are the caller's (mr_free). */
int sim_play(const struct sim_story *story, const struct mr_sim_fleet *fleet,
             const struct mr_sim_replay_options *options, struct sim_result *ret,
             struct mr_buf *problem);

/* sim_series.c */
void sim_series_add(struct sim_series *series, double *of, uint64_t from_us, uint64_t to_us,
                    double value);
/* Makes room for times up to `time_us`. */
void sim_series_reach(struct sim_series *series, uint64_t time_us);

#endif
