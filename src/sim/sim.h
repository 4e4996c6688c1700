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
#include "core/core.h"

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
    char conditions[400]; /* what was drawn, one line */
};
/* Runs one seed to its end. Not reentrant: it replaces the process's allocator and panic hook while
 * it runs, and must be the only user of base then. 0, or MR_ENO_MEMORY. */
int mr_sim_run(const struct mr_sim_options *options, struct mr_sim_report *ret_report);

/* --- fleets -------------------------------------------------------------------------------- */

/* A file that the caller has read; the texts belong to the caller. */
struct mr_sim_file {
    struct mr_str name; /* without its folder */
    struct mr_str text;
};

/* The machines of a fleet file, numbered and placed: docs/reference/fleet-file.md. */
struct mr_sim_fleet;
/* From the file as JSON; `catalog` may be NULL, or a table of instance types and prices (columns of
 * an EC2 catalog) that are added to the known ones and replace them. 0; MR_ESYNTAX with the place
 * and what is wrong in `problem`; MR_ENO_MEMORY. *ret_fleet is the caller's. */
int mr_sim_fleet_read(const struct mr_sim_file *json, const struct mr_sim_file *catalog,
                      struct mr_sim_fleet **ret_fleet, struct mr_buf *problem);
/* No machines, only the types that are known, and those of the table. */
int mr_sim_fleet_types(const struct mr_sim_file *catalog, struct mr_sim_fleet **ret_fleet,
                       struct mr_buf *problem);
void mr_sim_fleet_free(struct mr_sim_fleet *fleet); /* NULL is fine */
/* What it comes to; one JSON document without an end of line, or lines for people. */
void mr_sim_fleet_put_json(const struct mr_sim_fleet *fleet, struct mr_buf *out);
void mr_sim_fleet_put_text(const struct mr_sim_fleet *fleet, struct mr_buf *out);
void mr_sim_types_put(const struct mr_sim_fleet *fleet, bool json, struct mr_buf *out);
#define MR_SIM_FLEET_RUN_NODES 16384u /* of a run at most: as many as one call describes */
/* Nodes that are alike and follow each other, in one block: ids ascend, and so do domains. */
struct mr_sim_fleet_run {
    struct mr_event_node first;   /* ids, domains, blocks and cells count from 1 within the fleet */
    uint32_t count, domain_nodes; /* of each of its domains; without one: 1 */
    struct mr_str type, accelerator; /* the fleet's; of the instance, "" without devices */
    uint64_t from_us, until_us;      /* 0, UINT64_MAX: no date */
};
/* The next run: *cursor starts at 0; MR_ENOT_FOUND at the end. O(its nodes). */
int mr_sim_fleet_run_next(const struct mr_sim_fleet *fleet, uint32_t *cursor,
                          struct mr_sim_fleet_run *ret);
struct mr_str mr_sim_fleet_name(const struct mr_sim_fleet *fleet);

/* --- replaying workloads ------------------------------------------------------------------- */

/* name, what it reads. Each has a file sim_NAME.c with `sim_NAME_replay`. */
#define MR_SIM_FORMATS(X)                                                                          \
    X(openb)       /* GPU nodes and pods as CSV */                                                 \
    X(elasticflow) /* training jobs with deadlines, as CSV */                                      \
    X(kueue)       /* a generator of Kueue's performance tests, as JSON */                         \
    X(swf)         /* Standard Workload Format */                                                  \
    X(sacct)       /* what Slurm's accounting prints */                                            \
    X(millrace)    /* our own: a JSON object a line */

enum mr_sim_overhead { MR_SIM_OV1, MR_SIM_OV2, MR_SIM_OVERHEAD_NONE, MR_SIM_OVERHEAD_COUNT };

/* A recorded or drawn workload through the production core under a virtual clock, without faults of
 * the control plane. What a format does not use is ignored. */
struct mr_sim_replay_options {
    struct mr_str format;
    struct mr_sim_file fleet, workload;    /* text empty: not given. The fleet of swf, sacct and
                                              millrace is JSON (mr_sim_fleet_read) */
    struct mr_sim_file catalog;            /* instance types and prices for such a fleet */
    struct mr_str failures;                /* llama3, rsc, none or empty */
    struct mr_str draw;                    /* millrace: acme, philly, …: no workload file */
    uint32_t jobs, load_per_cent;          /* of the draw; 0: 10,000 and 80 */
    const struct mr_sim_file *throughputs; /* elasticflow: one file a model */
    uint32_t throughput_count;
    uint32_t gpus; /* elasticflow: size of the cluster */
    uint64_t seed;
    enum mr_sim_overhead overhead; /* elasticflow */
    uint32_t speed_error_permille; /* elasticflow: the plan's speeds are off by so much */
    bool no_promises;              /* elasticflow */
    bool prior_list;               /* openb: shapes' frequencies are known beforehand */
    bool report;                   /* also fill html */
    uint64_t (*cpu_ns)(void);      /* CPU time of this thread, for decisions_per_s; may
                                      be NULL */
    const struct mr_trace *trace;  /* core's narration; may be NULL */
};
/* What a replay gives. The caller makes and frees the buffers. */
struct mr_sim_replay_result {
    struct mr_buf json;    /* one document, one line */
    struct mr_buf text;    /* the same for people */
    struct mr_buf html;    /* one self-contained page, when asked for */
    struct mr_buf problem; /* on failure: file, line, what is wrong, what to do */
};
/* 0; MR_EUNSUPPORTED (unknown format), MR_EINVALID or MR_ESYNTAX with the problem said,
 * MR_ENO_MEMORY. Equal options give equal results but for CPU time. */
int mr_sim_replay(const struct mr_sim_replay_options *options, struct mr_sim_replay_result *result);

#endif
