/* SPDX-License-Identifier: Apache-2.0 */
/* Makes engines: local process groups under a supervisor each, which outlive the daemon.
 *
 * Grade P2. Idea: src/engine/README.md; the folders and files: docs/internals/lease-folder.md.
 */
#ifndef MR_ENGINE_ENGINE_H
#define MR_ENGINE_ENGINE_H

#include "port/engine.h"
#include "port/env.h"

struct mr_engine_local_config {
    struct mr_env *env;      /* of the lane that calls and is reported to */
    struct mr_str home;      /* leases/, workloads/ and run sockets lie under it */
    struct mr_str programs;  /* folder of millrace, millrace-infer, millrace-train, … */
    struct mr_str cache_dir; /* for the workers: converted weights, tuning results */
};
/* On failure one line for people in `problem`. The caller closes it. */
int mr_engine_local_open(const struct mr_engine_local_config *config, struct mr_engine **ret_engine,
                         struct mr_buf *problem);
/* Leases go on running. NULL is fine. */
void mr_engine_local_close(struct mr_engine *engine);

/* Stops every lease of a home that no daemon serves now (its lock is the caller's): asks, waits for
 * the grace, kills. Synchronous. 0 and how many ran, or MR_EIO when some could not be stopped. */
int mr_engine_local_stop_all(struct mr_str home, uint64_t grace_us, uint32_t *ret_count);

/* The supervisor's main: `millrace supervise FOLDER`, started by the engine only. Returns an exit
 * code. */
int mr_engine_supervise(const char *folder);

/* What this machine has, for the node that it becomes. Text fields point into the struct. */
struct mr_engine_machine {
    uint32_t cpu_milli; /* that this process may use (affinity, cgroup quota) */
    uint32_t mem_mib;   /* that may be used (cgroup limit), less a reserve for the system */
    uint32_t accel_count;
    char accel_name[64]; /* "H100"; empty: none */
    char cpu_name[96];
    char cgroup[96];  /* "v2", "v1", "none (…why)": what limits can be enforced */
    char sandbox[96]; /* "namespaces, seccomp", or why there is none */
};
void mr_engine_machine_read(struct mr_engine_machine *ret);

#endif
