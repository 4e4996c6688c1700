/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/sim and its tests: a story while it is played, and what makes its nodes fail. */
#ifndef MR_SIM_PLAY_INT_H
#define MR_SIM_PLAY_INT_H

#include "sim_replay_int.h"
#include "sim_story_int.h"

struct sim_play_domain { /* milli of what is counted */
    uint64_t used, up;
    uint64_t mark;
    uint32_t nodes, pad;
};
struct sim_play_node {
    uint32_t domain, leases;
    uint64_t workload; /* that it held last, */
    uint32_t run;      /* in this run */
    uint32_t failures; /* lately */
    uint8_t state;     /* enum mr_node_state */
    uint8_t gone;      /* given back */
    uint8_t lemon, mended, pad[4];
};
struct sim_play_lease {
    uint64_t workload, accel_milli, cpu_milli, milli, started_us;
    uint32_t node; /* 0: not live */
    bool spare;
};
struct sim_play_run { /* the present run of a job; tasks 0: none */
    uint64_t began_us, overhead_us, lasts_us;
    uint32_t tasks;
    bool warm; /* every node of its world held its last run */
};
struct sim_play_failures; /* sim_failure.c */

struct sim_play {
    const struct sim_story *story;
    const struct mr_sim_fleet *fleet;
    const struct mr_sim_replay_options *options;
    struct sim_result *result;
    struct sim_replay replay;
    struct sim_play_domain *domains;
    struct sim_play_node *nodes;
    struct sim_play_lease *leases; /* by lease id */
    size_t lease_room;
    struct sim_play_run *runs; /* by job */
    uint32_t *job_of;          /* by workload id */
    uint64_t accepted, live, queued;
    uint64_t accel_used, accel_up, cpu_used, cpu_up, free_whole, domains_free, down;
    uint64_t gang_mark;
    uint32_t gang_domains;
    uint32_t suspect;        /* node that core keeps out although it was said to be up; 0: none */
    uint64_t busy_us;        /* when something ran last */
    bool failing, node_died; /* nodes may fail at all; one does just now */
    struct sim_play_failures *failures;
};

void sim_play_settle(struct sim_play *play);
struct sim_outcome *sim_play_outcome(struct sim_play *play, uint64_t workload);
/* Tells core, and counts. */
void sim_play_node_change(struct sim_play *play, uint32_t node, enum mr_node_state state);
/* The nodes from first to last are a domain, which goes down in one event. */
void sim_play_domain_down(struct sim_play *play, uint32_t first, uint32_t last);

/* -ln(u), 0 < u <= 1; without libm. */
double sim_minus_ln(double u);
/* A time drawn from an exponential distribution; equal seeds, equal times, on any machine. */
uint64_t sim_draw_exponential(struct mr_prng *prng, double mean_us);

/* sim_failure.c: nodes and racks that fail and come back, as options->failures says. */
int sim_failure_init(struct sim_play *play, struct mr_buf *problem);
void sim_failure_done(struct sim_play *play);
uint64_t sim_failure_next_us(const struct sim_play *play); /* UINT64_MAX: none */
void sim_failure_due(struct sim_play *play);               /* carries out what is due now */

#endif
