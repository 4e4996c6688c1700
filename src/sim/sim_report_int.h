/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/sim and its tests: the figures of a played story, and how they are shown. */
#ifndef MR_SIM_REPORT_INT_H
#define MR_SIM_REPORT_INT_H

#include "sim_story_int.h"

struct sim_spread {
    uint64_t count;
    double mean, median, p90, p99, max;
};
/* Sorts the values. */
struct sim_spread sim_spread_of(double *values, uint64_t count);

struct sim_figures {
    struct sim_spread wait, slowdown, recorded; /* seconds, 1, seconds */
    uint64_t never_started, requeues, deadlines, deadlines_met;
    uint64_t states[MR_STATE_COUNT];
    double accel_used, cpu_used, used_until_last, queue_mean, domains_free_mean, fragmentation;
    /* Of all device time (or CPU time) that the fleet had; they sum up to 1. */
    double share_productive, share_ended_badly, share_checkpoint, share_restart, share_lost;
    double share_swap, share_spare, share_down, share_idle;
    double goodput_of_held;  /* of what jobs held: not lost, not overhead, not spare */
    double goodput_of_world; /* the same without spares */
};
/* 0 or MR_ENO_MEMORY. */
int sim_figures_of(const struct sim_result *result, struct sim_figures *ret);
void sim_figures_series(const struct sim_result *result, struct sim_figures *figures);
double sim_fragmentation_at(const struct sim_result *result, uint32_t cell);
void sim_put_time(struct mr_buf *out, double seconds);

/* Fills json and text, and html when options->report. 0, MR_ENO_MEMORY, MR_ETOO_LARGE. */
int sim_report(const struct sim_result *result, const struct mr_sim_replay_options *options,
               struct mr_sim_replay_result *ret);
/* One page that needs nothing else. */
int sim_report_html(const struct sim_result *result, const struct sim_figures *figures,
                    const struct mr_sim_replay_options *options, struct mr_buf *html);

#endif
