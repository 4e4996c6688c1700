/* SPDX-License-Identifier: Apache-2.0 */
/* A virtual world that runs the unchanged core, ctl and gate from a seed, with faults.
 *
 * Time, network, disk and processes are simulated; what is tested is the production code. A seed
 * and a commit reproduce everything: the fleet, the load, the faults and their order. Grade P1.
 * Idea: docs/internals/sim.md.
 */
#ifndef MR_SIM_H
#define MR_SIM_H

#include "base/base.h"

#define MR_SIM_FAULTS(X)                                                                           \
    X(crashes)          /* the daemon died between two steps */                                    \
    X(crashes_in_call)  /* the daemon died inside a call of a port */                              \
    X(torn_writes)      /* a group was being written when it died: nothing or all of it stayed */  \
    X(torn_snapshots)   /* the newest snapshot cannot be read */                                   \
    X(disk_full)        /* an append was refused */                                                \
    X(disk_errors)      /* an append failed, state unknown */                                      \
    X(slow_writes)      /* an append took 100 times as long */                                     \
    X(connections_cut)  /* at any byte */                                                          \
    X(reports_repeated) /* an engine's report came twice */                                        \
    X(nodes_died)                                                                                  \
    X(workers_killed)                                                                              \
    X(starts_failed)                                                                               \
    X(clients_gone) /* a caller hung up within its request */

struct mr_sim_faults {
#define X(name) uint64_t name;
    MR_SIM_FAULTS(X)
#undef X
};

enum mr_sim_verdict {
    MR_SIM_FINE,
    MR_SIM_CRASH, /* an assert or an invariant of the code */
    MR_SIM_WRONG, /* an invariant of the world: lost, twice, in part, not billed */
    MR_SIM_STUCK, /* work that could go on did not */
    MR_SIM_VERDICT_COUNT
};
const char *mr_sim_verdict_name(enum mr_sim_verdict verdict);

struct mr_sim_options {
    uint64_t seed;
    uint64_t steps_max;           /* of the loaded phase; 0: drawn from the seed */
    const struct mr_trace *trace; /* what happens, line by line; NULL: silent */
};
struct mr_sim_report {
    uint64_t seed, steps, events, virtual_us;
    uint64_t jobs, chats, tokens;
    struct mr_sim_faults faults;
    enum mr_sim_verdict verdict;
    char invariant[300];  /* what broke, with its numbers; empty when fine */
    char conditions[300]; /* what was drawn, one line */
};
/* Runs one seed to its end. Not reentrant: it replaces the process's allocator and panic hook while
 * it runs, and must be the only user of base then. 0, or MR_ENO_MEMORY. */
int mr_sim_run(const struct mr_sim_options *options, struct mr_sim_report *ret_report);

#endif
