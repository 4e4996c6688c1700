/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/forecast and its tests: the model of running times, and one fork. */
#ifndef MR_FORECAST_INT_H
#define MR_FORECAST_INT_H

#include "forecast/forecast.h"

#define FORECAST_HALVE       4096u  /* counts of a row from which on they are halved */
#define FORECAST_PRIOR       4u     /* what a tenant has in common with all others counts so much */
#define FORECAST_RATIO_ONE   65536u /* a ratio of 1 */
#define FORECAST_RUN_SHIFT   10u    /* running times are binned in units of 1,024 us */
#define FORECAST_UNKNOWN_MIN 3u     /* ended jobs below which nothing is known of running times */
#define FORECAST_HORIZON_US  (30ull * 86400ull * 1000000ull)
#define FORECAST_STEPS       2000000u
#define FORECAST_ONE         0xffffffffu /* a probability of 1 */
#define FORECAST_JUMP        16u /* arrivals come in the order they had, for about so many */

/* --- forecast_model.c: from counts to draws ------------------------------------------------ */

/* Survival after each bin, of FORECAST_ONE, by basis and row. */
struct forecast_model {
    uint32_t survival[MR_FORECAST_BASIS_COUNT][MR_FORECAST_ROWS][MR_FORECAST_BINS];
    uint32_t running[MR_FORECAST_BASIS_COUNT][MR_FORECAST_ROWS][MR_FORECAST_BINS];
    bool known[MR_FORECAST_BASIS_COUNT];
};
uint32_t forecast_bin(uint64_t value);
/* Where the bin begins; of MR_FORECAST_BINS: where the last one ends. */
uint64_t forecast_bin_from(uint32_t bin);
uint32_t forecast_row(uint32_t tenant);
/* How it is measured, and against what (1,024 us for MR_FORECAST_RUN). */
enum mr_forecast_basis forecast_basis(uint64_t estimate_us, uint64_t time_limit_us,
                                      uint64_t *ret_base_us);
uint64_t forecast_measure(enum mr_forecast_basis basis, uint64_t base_us, uint64_t ran_us);
/* From what has ended, and from what runs and has not. O(rows * bins + leases). */
void forecast_model_make(struct forecast_model *model, const struct mr_forecast_learned *learned,
                         const struct mr_core *core, uint64_t now_us);
/* The whole running time of work that has run for ran_us already; `draw` is uniform over 32 bits.
 * UINT64_MAX: nothing is known. O(log bins). */
uint64_t forecast_draw_us(const struct forecast_model *model, const struct mr_workload_info *info,
                          uint64_t ran_us, uint64_t draw);

/* --- forecast_fork.c, forecast_drive.c: one future ----------------------------------------- */

struct forecast_due { /* lease 0: the run ends by itself */
    uint64_t time_us, order, workload, lease;
    uint32_t run, pad;
};
struct forecast_told {
    uint64_t workload, lease, grace_us;
    uint32_t run, rank_first;
    bool start;
};
struct forecast_watch { /* a workload whose fate is followed */
    uint64_t id;
    uint64_t started_us, ended_us; /* MR_FORECAST_NEVER: not yet; a requeue resets started_us */
    int64_t charged_nusd;
    uint32_t tasks, tasks_least; /* while it ran */
    uint32_t stopped;            /* times that it had to go */
    bool waits;                  /* counted in fork->waiting */
    bool wanted;                 /* the fork goes on until it has ended, not only started */
};
struct forecast_fork {
    const struct mr_core *live;
    const struct mr_forecast_learned *learned;
    const struct forecast_model *model;
    void *block;
    size_t block_bytes;
    struct mr_core *core;
    struct forecast_due *due; /* heap by (time, order) */
    uint32_t due_count, due_room;
    struct forecast_told *told;
    uint32_t told_first, told_count, told_room;
    struct forecast_watch *watched; /* by id */
    uint32_t watched_count, watched_room;
    uint32_t waiting; /* watched ones that have not started, and wanted ones that have not ended */
    uint64_t now_us, until_us, order_next, steps, steps_max;
    uint64_t seed; /* of this sample */
    struct mr_prng prng;
    /* others who submit */
    uint64_t delivers_us; /* what is expected next comes then; UINT64_MAX: nothing */
    uint64_t arrives_us, arrival_until_us;
    uint64_t arrival_scale; /* of the gaps, in thousandths */
    uint32_t arrival_at, arrival_window, arrival_first;
    bool no_arrivals;
    struct mr_workload_id answered; /* the last submission's; 0: rejected */
    int error;                      /* why */
    struct mr_reason reason;
    uint64_t guest; /* the workload that is only assumed; 0: none */
    bool cut, overflow;
};
/* Carves the fork's memory out of the scratch. False: too small. */
bool forecast_fork_place(struct forecast_fork *fork, const struct mr_core_limits *limits,
                         uint8_t **scratch, size_t *bytes);
size_t forecast_fork_bytes(const struct mr_core_limits *limits);
/* Copies the live block and takes over what runs in it. */
void forecast_fork_begin(struct forecast_fork *fork, uint64_t seed, uint64_t now_us);
/* One more workload is followed; before begin. Ids must ascend. */
void forecast_watch_add(struct forecast_fork *fork, const struct mr_workload_info *info);
/* Steps the event at the fork's present time and answers what core asks of the world. */
void forecast_event(struct forecast_fork *fork, struct mr_event *event);
/* Goes on until nothing watched waits any more, the horizon, or the bound of steps. */
void forecast_drive(struct forecast_fork *fork);

/* forecast_when.c */
int forecast_prepare(struct forecast_fork *fork, const struct mr_core *core,
                     const struct mr_forecast_learned *learned,
                     const struct mr_forecast_options *options, void *scratch, size_t bytes);
uint32_t forecast_unknown(const struct mr_core *core, const struct forecast_model *model);
void forecast_sort(uint64_t *values, uint32_t count);
void forecast_band_of(uint64_t *values, uint32_t count, struct mr_forecast_band *ret); /* sorts */

/* forecast_check.c */
void forecast_widen(const struct mr_forecast_learned *learned, uint64_t now_us,
                    struct mr_forecast_band *band);

/* of each other */
void forecast_due_push(struct forecast_fork *fork, struct forecast_due due);
struct forecast_due forecast_due_pop(struct forecast_fork *fork);
struct forecast_watch *forecast_watch_find(const struct forecast_fork *fork, uint64_t id);
/* 48 random bits for this run of this workload. */
uint64_t forecast_draw(const struct forecast_fork *fork, uint64_t workload, uint32_t run);
void forecast_run_lasts(struct forecast_fork *fork, uint64_t workload, uint32_t run);
void forecast_lease_starts(struct forecast_fork *fork, const struct forecast_told *told);
void forecast_lease_stops(struct forecast_fork *fork, const struct forecast_told *told);
void forecast_settle(struct forecast_fork *fork); /* answers all that was told */
void forecast_delivery_next(struct forecast_fork *fork);
void forecast_arrival_next(struct forecast_fork *fork);

#endif
