/* SPDX-License-Identifier: Apache-2.0 */
/* What ctl needs of an engine: start, watch and stop leases on nodes.
 *
 * A lease outlives the daemon. start and stop are idempotent by lease id for ever: a lease that was
 * started once is never started again, also after a crash of the daemon at any moment. An end is
 * reported until it is forgotten, so none is lost.
 */
#ifndef MR_PORT_ENGINE_H
#define MR_PORT_ENGINE_H

#include "base/base.h"

struct mr_engine;

/* Everything a worker is started with. All memory is the caller's and is copied. */
struct mr_engine_start {
    struct mr_lease_id lease;
    struct mr_workload_id workload;
    struct mr_node_id node;
    uint32_t run, tasks, rank_first, world_size, node_rank, node_count;
    uint64_t devices;          /* bit mask */
    const struct mr_str *argv; /* argv[0]: "infer", "train", "sandbox" name our own workers */
    size_t argv_count;         /*   (found beside the daemon); anything else is a command */
    const struct mr_str *env;  /* "NAME=value", added to a clean environment */
    size_t env_count;
    struct mr_str spec_json;     /* written to RUN_DIR/spec.json; may be empty */
    struct mr_str stdin_bytes;   /* fed to every task; usually empty */
    struct mr_str work_dir;      /* empty: the workload's own folder */
    bool mpi;                    /* the tasks are ranks of one MPI job */
    uint32_t cpu_milli, mem_mib; /* per task, enforced where the kernel lets us */
    uint64_t time_limit_us;      /* 0: none; the engine's own fence besides the core's */
};

enum mr_engine_report_kind {
    MR_ENGINE_STARTED,
    MR_ENGINE_READY,    /* the wire socket answers (inference workers) */
    MR_ENGINE_PROGRESS, /* checkpoint_step or, now and then, work_done changed */
    MR_ENGINE_METER,    /* after EXITED of an inference worker: what it had not settled */
    MR_ENGINE_EXITED    /* repeated after each restart until forgotten */
};
struct mr_engine_report {
    enum mr_engine_report_kind kind;
    struct mr_lease_id lease;
    uint32_t checkpoint_step;
    uint64_t work_done; /* PROGRESS: units of the document's work, over all runs; 0: not said */
    int exit_kind;      /* enum mr_exit_kind of the core, by value */
    int32_t code;
    uint64_t ran_us; /* STARTED: it has run so long already; EXITED: it ran so long. 0: unknown */
    struct mr_str text; /* for people: "rank 1 was killed by signal 9 (Killed)" */
    /* METER: as in MR_WIRE_END */
    uint64_t serial;
    uint32_t tenant, prompt_tokens, cached_tokens, completion_tokens;
};

struct mr_engine_ops {
    /* Reports come on this lane, never inside a call. METER reports of a lease come before its
     * EXITED. Only one watcher. */
    void (*watch)(struct mr_engine *engine,
                  void (*report)(void *arg, const struct mr_engine_report *report), void *arg);
    /* Always answered by a report: STARTED or EXITED (START_FAILED). A known lease is adopted: its
     * STARTED or EXITED is reported again. */
    void (*start)(struct mr_engine *engine, const struct mr_engine_start *start);
    /* After a restart of the daemon: takes up a lease that the core believes started. Reported as
     * STARTED, EXITED, or EXITED with LOST when there is no trace of it. Nothing is ever started.
     */
    void (*adopt)(struct mr_engine *engine, struct mr_lease_id lease);
    /* Asks with SIGTERM, kills after the grace (0: at once). Unknown or ended: nothing. */
    void (*stop)(struct mr_engine *engine, struct mr_lease_id lease, uint64_t grace_us);
    /* The end is durable with ctl: the lease's traces may go (logs stay with the workload). */
    void (*forget)(struct mr_engine *engine, struct mr_lease_id lease);
    /* Leases with traces that nobody adopted within this process's life are stopped and reported no
     * more: call once after all adopt calls. */
    void (*sweep)(struct mr_engine *engine);
    /* Where the worker's wire socket is, as wire.connect takes it; empty when it has none. Into
     * `buf`. */
    void (*address)(struct mr_engine *engine, struct mr_lease_id lease, struct mr_buf *buf);
    /* Bytes of a workload's file from offset on, newest run last: "stdout", "stderr" of a rank, or
     * "progress.json", "result.json". Up to max bytes into buf. Synchronous but bounded (1 MiB).
     * MR_ENOT_FOUND. run 0: the newest. A short answer is the end of the file. Of a log only the
     * newest part is kept: MR_ESTATE before it, and "stdout.base", "stderr.base" tell where it
     * begins (a number as text). */
    int (*file_read)(struct mr_engine *engine, struct mr_workload_id workload, uint32_t run,
                     uint32_t rank, struct mr_str name, uint64_t offset, size_t max_bytes,
                     struct mr_buf *buf);
};

struct mr_engine {
    const struct mr_engine_ops *ops;
};

#endif
