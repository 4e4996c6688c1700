/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/sim and its tests: core alone under a virtual clock, for replaying workloads.
 *
 * The world is obedient: what core starts is up at once, what it stops is gone after the time that
 * the format says, and a run lasts as long as the format says. No control plane, no network, no
 * faults but the node states that the format itself sends. The format is the story; core decides.
 */
#ifndef MR_SIM_REPLAY_INT_H
#define MR_SIM_REPLAY_INT_H

#include "core/core.h"
#include "sim/sim.h"

/* What a format decides and hears. None may call back into the replay. */
struct sim_replay_hooks {
    void *context;
    /* All leases of a run are up, with `tasks` tasks in sum: after how long it ends by itself, in
     * microseconds; UINT64_MAX: only when stopped. Services are never asked. */
    uint64_t (*began)(void *context, uint64_t workload, uint32_t run, uint32_t tasks);
    /* A run was asked to stop after `ran_us` since it began (0: it had not): how long it takes. */
    uint64_t (*stopped)(void *context, uint64_t workload, uint32_t run, uint64_t ran_us);
    /* A run ended by itself after `ran_us`; its leases end next. May be NULL. */
    void (*completed)(void *context, uint64_t workload, uint64_t ran_us);
    /* A lease is gone; core hears of it next. May be NULL. */
    void (*ended)(void *context, uint64_t lease);
    /* Every effect of core, in order; may be NULL. */
    void (*effect)(void *context, const struct mr_effect *effect);
};

struct sim_replay_run { /* the newest run of one workload */
    uint64_t began_us, ends_us;
    uint32_t run, tasks_up, world_size;
    bool began, stopping;
};
struct sim_replay_due {
    uint64_t time_us, order;
    uint64_t workload, lease; /* lease 0: the run ends by itself */
    uint32_t run;
};
struct sim_replay_told { /* an effect that the world answers after the step */
    uint64_t workload, lease;
    uint32_t run, tasks, world_size;
    bool start;
};

struct sim_replay {
    struct mr_core *core;
    void *block;
    const struct sim_replay_hooks *hooks;
    uint64_t (*cpu_ns)(void);
    uint64_t now_us, order_next;
    uint64_t events, submissions, core_ns; /* core_ns: CPU time within mr_core_step */
    struct sim_replay_run *runs;           /* by workload id */
    size_t run_room;
    struct sim_replay_due *due; /* heap by (time, order) */
    size_t due_count, due_room;
    struct sim_replay_told *told;
    size_t told_first, told_count, told_room;
    uint64_t *lease_workload; /* by lease id: the workload, 0: gone */
    size_t lease_room;
    bool failed; /* out of memory: nothing it says holds from then on */
};

/* An empty cloud of these limits. hooks, and what they point to, must outlive it. MR_ENO_MEMORY. */
int sim_replay_init(struct sim_replay *replay, const struct mr_core_limits *limits,
                    const struct sim_replay_hooks *hooks, uint64_t (*cpu_ns)(void));
void sim_replay_done(struct sim_replay *replay);
/* Steps core with the event at the present time (its time_us is set), and answers what it starts
 * and stops. O(step + leases told, each log of what is due). */
void sim_replay_event(struct sim_replay *replay, struct mr_event *event);
/* Carries out all that is due up to `time_us`, in order of time, and ends with that as now. */
void sim_replay_advance(struct sim_replay *replay, uint64_t time_us);
/* The workload's present run ends so much later than was said; nothing when it does not run. */
void sim_replay_delay(struct sim_replay *replay, uint64_t workload, uint64_t by_us);
/* When something is due next, UINT64_MAX: nothing is. */
uint64_t sim_replay_next_us(const struct sim_replay *replay);

#endif
