/* SPDX-License-Identifier: Apache-2.0 */
/* When a workload will start, and what a change would do: forks of core's block, driven forward.
 *
 * A fork is a copy of the block. It is stepped on with events that are made up: what starts ends
 * after a time drawn from what is known of such work, and others are submitted as they were lately.
 * Many such futures, each with other draws, give a median and a band. The production scheduler
 * decides in every one of them. The live block is only read.
 *
 * Equal blocks, equal knowledge and equal options give equal answers, bit for bit. No clock, no
 * I/O, no float, no allocation, no recursion. Idea: docs/internals/forecast.md. Grade P0.
 */
#ifndef MR_FORECAST_H
#define MR_FORECAST_H

#include "core/core.h"

/* --- what is learned ----------------------------------------------------------------------- */

#define MR_FORECAST_BINS     288u /* eighths of a doubling over 36 doublings */
#define MR_FORECAST_ROWS     33u  /* 0: everybody; tenants share the others by number */
#define MR_FORECAST_ARRIVALS 512u /* the newest jobs submitted */
#define MR_FORECAST_SCORES   256u /* the newest forecasts that were compared with what came */

/* What a running time is measured against. */
enum mr_forecast_basis {
    MR_FORECAST_ESTIMATE, /* share of the job's own estimate */
    MR_FORECAST_LIMIT,    /* share of its time limit, when it has no estimate */
    MR_FORECAST_RUN,      /* the time itself, when it has neither */
    MR_FORECAST_BASIS_COUNT
};
struct mr_forecast_row {
    uint32_t count; /* in all bins; halved with them now and then, so that the newest count most */
    uint16_t bins[MR_FORECAST_BINS];
};
struct mr_forecast_arrival { /* a job as it was submitted */
    uint64_t gap_us;         /* since the one before it */
    uint64_t time_limit_us, estimate_us, checkpoint_us, grace_us;
    struct mr_shape shape;
    uint32_t tenant, tasks_min, tasks_max, spares;
    uint8_t priority, topology, preemptible, pad[5];
};
/* All zero is "nothing yet". A plain value: copy it to hand it over. It is no part of the durable
 * state: mr_forecast_known makes one from what a core still knows. */
struct mr_forecast_learned {
    struct mr_forecast_row rows[MR_FORECAST_BASIS_COUNT][MR_FORECAST_ROWS];
    struct mr_forecast_arrival arrivals[MR_FORECAST_ARRIVALS]; /* a ring */
    uint64_t arrived;                                          /* jobs ever put into it */
    uint64_t arrived_us;                                       /* when the newest came */
    uint64_t scored;                    /* forecasts whose outcome is known */
    int16_t scores[MR_FORECAST_SCORES]; /* of the newest of them: a ring */
};
/* A job was accepted at that time. Services and pools are not counted. O(1). */
void mr_forecast_arrived(struct mr_forecast_learned *learned, uint64_t time_us,
                         const struct mr_event_submit *submit);
/* A job has ended; how long it ran is learned. Others than jobs, and what never ran, teach nothing.
 * O(1) amortised. */
void mr_forecast_ended(struct mr_forecast_learned *learned, const struct mr_workload_info *info);
/* Everything that can be learned from the workloads that core still knows. O(those). */
void mr_forecast_known(struct mr_forecast_learned *learned, const struct mr_core *core);

/* --- asking -------------------------------------------------------------------------------- */

#define MR_FORECAST_SAMPLES     40u /* the default; 5 % and 95 % fall on samples */
#define MR_FORECAST_SAMPLES_MAX 200u
#define MR_FORECAST_WATCHED     1024u /* workloads that whatif compares */
#define MR_FORECAST_NEVER       UINT64_MAX

struct mr_forecast_options {
    uint64_t seed;
    uint64_t now_us;     /* 0, or earlier than core's: core's */
    uint64_t horizon_us; /* how far it looks; 0: 30 days, behind the delivery that it waits for */
    uint64_t steps_max;  /* of all forks together, about; 0: 2,000,000 */
    uint32_t samples;    /* 0: MR_FORECAST_SAMPLES */
    bool no_arrivals;    /* nobody submits anything more */
};
/* 5 %, 50 % and 95 % of the samples lie at or before these times (absolute).
 * MR_FORECAST_NEVER: not within the horizon. */
struct mr_forecast_band {
    uint64_t low_us, middle_us, high_us;
};
struct mr_forecast_answer {
    struct mr_forecast_band start, end;
    struct mr_forecast_band raw; /* of starts, as the futures have it: start is made wider by what
                                    such bands were wrong by. For mr_forecast_scored */
    uint32_t samples;            /* futures looked at */
    uint32_t started;            /* of these, in so many it started within the horizon */
    uint32_t cut;        /* so many ended at the bound of steps: their starts count as never */
    uint32_t unknown;    /* workloads that run or wait, of whose length nothing is known: they are
                            taken to run for ever */
    uint64_t steps;      /* done in all */
    uint64_t horizon_us; /* so far it looked */
};

/* A forecast made at asked_us has come true: the workload started at started_us. O(1). */
void mr_forecast_scored(struct mr_forecast_learned *learned, uint64_t asked_us,
                        const struct mr_forecast_band *raw, uint64_t started_us);

/* Memory that the calls below need for a core of these limits; 0 when the limits are absurd. */
size_t mr_forecast_bytes(const struct mr_core_limits *limits);
struct mr_forecast_question {
    struct mr_forecast_options options;
    struct mr_workload_id workload;
    bool end; /* also when it ends: the forks go on for so long */
};
/* When a workload that waits will start. One that runs answers with the time when it did. Without
 * question->end the band of ends is that of starts it did not look for: MR_FORECAST_NEVER.
 * `scratch`: 16-byte aligned, mr_forecast_bytes. MR_ENOT_FOUND; MR_ESTATE when it has ended;
 * MR_ENO_SPACE when the scratch is too small. Cost: samples * (copy of the block + steps until it
 * starts). */
int mr_forecast_when(const struct mr_core *core, const struct mr_forecast_learned *learned,
                     const struct mr_forecast_question *question, void *scratch, size_t bytes,
                     struct mr_forecast_answer *ret);

/* --- whatif -------------------------------------------------------------------------------- */

/* What a change would do: in each of many futures the cloud goes on without and with it, with equal
 * draws, and those are compared. */
struct mr_forecast_shift { /* of one workload that waits or runs now */
    struct mr_workload_id workload;
    struct mr_forecast_band before, after; /* of its next start; one that runs: when it did, unless
                                              it has to go */
    int64_t middle_us, mean_us; /* it starts so much later, negative: earlier; a start beyond the
                                   horizon counts as at its end */
    uint32_t later, earlier;    /* in so many of the futures */
    uint32_t never_before, never_after; /* it does not start within the horizon */
    uint32_t stops_before, stops_after; /* times that it has to go, over all futures */
};
struct mr_forecast_change {
    struct mr_forecast_options options;
    struct mr_event
        event; /* SUBMIT, RESERVE, CANCEL, SCALE, TENANT_SET, NODE_STATE, NODE_SET: now */
    struct mr_forecast_shift *shifts; /* the caller's: filled in, the latest first */
    uint32_t shift_room;
};
struct mr_forecast_whatif {
    int error;               /* core refuses the change: MR_E…, and nothing below is filled in */
    struct mr_reason reason; /* with its numbers */
    struct mr_workload_id guest;        /* the number that it would get; 0: nothing is submitted */
    struct mr_forecast_band start, end; /* of the guest */
    int64_t cost_nusd;                  /* that it is billed in the middle future, to its end or the
                                           horizon */
    uint32_t watched,
        left_out;         /* workloads compared; more than MR_FORECAST_WATCHED - 1: the rest */
    uint32_t changed;     /* of these, differ in some future */
    uint32_t shift_count; /* of these, in change->shifts */
    uint32_t samples, cut, unknown; /* as in mr_forecast_answer; pairs */
    uint64_t steps;
};
size_t mr_forecast_whatif_bytes(const struct mr_core_limits *limits);
/* `scratch` as above. MR_EINVALID: no such change; MR_ENO_SPACE. Cost: twice that of
 * mr_forecast_when, until all that waits has started. */
int mr_forecast_whatif(const struct mr_core *core, const struct mr_forecast_learned *learned,
                       const struct mr_forecast_change *change, void *scratch, size_t bytes,
                       struct mr_forecast_whatif *ret);

#endif
