/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/sim and its tests: the world's parts.
 *
 * What the daemon owns dies with it: its memory carries the tag of its incarnation, its queued
 * callbacks too. What the world owns (disk, processes, callers) has tag 0 and goes on.
 */
#ifndef SIM_INT_H
#define SIM_INT_H

#include <setjmp.h>

#include "ctl/ctl.h"
#include "gate/gate.h"
#include "sim/sim.h"

#define SIM_NODES_MAX   16u
#define SIM_GATES_MAX   2u
#define SIM_CLIENTS_MAX 8u
#define SIM_MODELS      2u
#define SIM_TENANTS_MAX 3u /* beside the default one */
#define SIM_SECOND_US   1000000u

/* --- the queue (sim_queue.c) ------------------------------------------------------------------ */

struct sim_item {
    uint64_t at_us, order;
    uint32_t incarnation; /* 0: the world's; else dropped when another daemon lives */
    void (*fn)(void *arg);
    void *arg;
    void (*drop)(void *arg); /* called instead of fn when dropped; may be NULL */
};
struct sim_queue {
    struct sim_item *items; /* binary heap by (at_us, order) */
    size_t count, capacity;
    uint64_t order;
};
bool sim_queue_put(struct sim_queue *queue, const struct sim_item *item);
bool sim_queue_take(struct sim_queue *queue, struct sim_item *ret);

/* --- memory by owner (sim_memory.c) --------------------------------------------------------------
 */

struct sim_block {
    struct sim_block *next, *previous;
    size_t size_bytes;
    uint32_t tag;
};
struct sim_memory {
    struct sim_block head; /* a ring */
    uint32_t tag;          /* of new blocks */
    uint64_t live_bytes;
};
void sim_memory_init(struct sim_memory *memory);
void *sim_memory_realloc(void *context, void *p, size_t size_bytes);
void sim_memory_drop(struct sim_memory *memory, uint32_t tag); /* frees all blocks of the tag */
void sim_memory_done(struct sim_memory *memory);               /* frees all */

/* --- connections (sim_wire.c) ----------------------------------------------------------------- */

struct mr_conn {
    struct sim *sim;
    struct mr_conn *peer, *next; /* next: all connections of the run */
    struct mr_conn_handler handler;
    void *arg;
    uint32_t incarnation; /* of the daemon that owns this end; 0: the world's */
    struct mr_buf inbox;  /* sent by the peer, not delivered yet */
    bool opening, paused, closed, close_told, end_pending, end_told, delivering, above_high;
};

/* --- disk (sim_store.c) ----------------------------------------------------------------------- */

struct sim_record {
    uint64_t seq;
    uint8_t *bytes;
    size_t n;
};
struct sim_snapshot {
    uint64_t seq;
    uint8_t *bytes;
    size_t n;
    bool torn;
};
struct sim_write { /* in flight */
    bool used, is_snapshot;
    uint64_t epoch;
    struct sim_record *records;
    size_t record_count;
    uint64_t ledger_first, ledger_last;
    struct sim_snapshot snapshot;
    mr_store_done done;
    void *arg;
    int result;
    uint32_t serial; /* tells the write of a finished item apart */
};
struct sim_store {
    struct mr_store base;
    struct sim *sim;
    uint64_t epoch;
    struct sim_record *records;
    size_t record_count, record_capacity;
    uint64_t seq_first, seq_last;
    struct sim_snapshot snapshots[2]; /* 0 is the newest */
    uint64_t ledger_entries;          /* entries 1 … n are there */
    struct sim_write writes[2];       /* append, snapshot */
};

/* --- processes (sim_engine.c, sim_worker.c) --------------------------------------------------- */

enum sim_lease_state { SIM_LEASE_UNKNOWN, SIM_LEASE_ALIVE, SIM_LEASE_EXITED, SIM_LEASE_FORGOTTEN };
struct sim_worker;
struct sim_lease {
    uint64_t id, workload;
    enum sim_lease_state state;
    uint32_t node, run, tasks, rank_first, world_size, cpu_milli, mem_mib;
    uint64_t devices;
    bool started_told, swept, asked_to_stop, checkpoints, is_infer, disturbed, shares_device;
    uint64_t started_us, ended_us; /* of its tasks */
    int32_t plan_code;
    uint64_t plan_us;
    int exit_kind;
    int32_t exit_code;
    uint32_t checkpoint_step;
    uint32_t adopted_by; /* incarnation */
    struct sim_worker *worker;
};
struct sim_engine {
    struct mr_engine base;
    struct sim *sim;
    void (*report)(void *arg, const struct mr_engine_report *report);
    void *report_arg;
    struct sim_lease *leases; /* by id */
    size_t capacity;
};

/* --- callers (sim_client.c) ------------------------------------------------------------------- */

enum sim_want {
    SIM_WANT_SUBMIT,
    SIM_WANT_RESERVE,
    SIM_WANT_TENANT, /* another quota, or nodes to come */
    SIM_WANT_CANCEL,
    SIM_WANT_CHAT,
    SIM_WANT_STREAM,
    SIM_WANT_LOOK,
    SIM_WANT_COUNT
};
struct sim_client {
    struct sim *sim;
    uint32_t index;
    struct mr_conn *conn;
    struct mr_buf request, answer;
    size_t sent_bytes;
    enum sim_want want;
    uint64_t key;            /* idempotency key of the submission under way */
    uint64_t workload;       /* to cancel */
    uint32_t prompt, tokens; /* of the chat under way */
    bool busy, again;        /* again: the same request, its answer was lost */
    uint32_t hang_up_at;     /* bytes of answer after which it goes away; 0: stays */
    uint32_t tries;
};

/* What callers were told, for the checkers. */
struct sim_job {
    uint64_t key, workload; /* workload 0: not acknowledged yet */
    int32_t code;           /* how its tasks end by themselves */
    bool elastic, cancelled, is_service, is_reservation;
    enum mr_topology topology; /* where its tasks may lie: as it was asked for */
    enum mr_spread spread;
    uint32_t segment, spread_max;
};

/* --- the world -------------------------------------------------------------------------------- */

struct sim_conditions {
    uint32_t nodes, gates, clients;
    uint32_t jobs_max, tenants;
    uint32_t reserve_permille, quota_permille; /* of what callers do */
    uint32_t crash_ppm, crash_call_ppm;        /* per step, per port call */
    uint32_t cut_ppm, node_ppm, worker_ppm, start_fail_ppm, repeat_ppm;
    uint32_t full_ppm, io_ppm, slow_ppm, torn_snapshot_permille;
    uint32_t disk_us, net_us, hang_up_permille;
    uint32_t domain_nodes, block_domains, cell_blocks; /* 0: all nodes lie in no place */
    uint32_t expect_permille;      /* of what callers do: nodes that are to be delivered */
    uint32_t domain_ppm, move_ppm; /* a rack fails; a node is found to lie elsewhere */
    uint64_t steps_max, snapshot_every, group_delay_us;
};
struct sim_node {
    uint32_t cpu_milli, mem_mib, accel_count;
    uint32_t domain, block;   /* 0: none; block: of a node in no domain */
    bool up, telling, moving; /* its state, or its place, is on the way to the daemon */
};
struct sim_lane {
    struct mr_env env;
    struct mr_wire wire;
    struct sim *sim;
    uint64_t post_us[SIM_GATES_MAX + 1]; /* last post to each lane */
};

struct sim {
    struct sim_memory memory;
    struct sim_queue queue;
    struct mr_prng prng;
    struct sim_conditions c;
    struct sim_lane lanes[SIM_GATES_MAX + 1];
    struct sim_store store;
    struct sim_engine engine;
    struct sim_node nodes[SIM_NODES_MAX + 1];
    uint32_t block_of[SIM_NODES_MAX + 1], cell_of[SIM_NODES_MAX + 1]; /* of domain, of block */
    struct sim_client clients[SIM_CLIENTS_MAX];
    struct mr_conn *conns;
    struct sim_job *jobs;
    size_t job_count, job_capacity;
    uint64_t decoded_tokens; /* by workers, of ended requests */
    uint64_t now_us;
    uint32_t incarnation; /* of the living daemon */
    bool up, starting, quiet, set_up, failed;
    uint32_t set_up_step;
    uint32_t lifted; /* tenants whose quotas were taken off at the end */
    struct mr_ctl *ctl;
    struct mr_gate *gates[SIM_GATES_MAX];
    struct mr_ctl_call call; /* the operator's */
    char call_body[512];
    char key[80]; /* an administrator's */
    jmp_buf jump;
    bool in_daemon;
    char panic[300];
    struct mr_sim_report *report;
    const struct mr_trace *trace;
};

enum { SIM_JUMP_CRASH = 1, SIM_JUMP_PANIC = 2 };

/* sim_world.c */
bool sim_chance(struct sim *sim, uint32_t ppm); /* never in the quiet phase */
uint64_t sim_draw(struct sim *sim, uint64_t low, uint64_t high);
void sim_say(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Ends the run with a verdict; the first one counts. */
void sim_verdict(struct sim *sim, enum mr_sim_verdict verdict, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Calls fn(arg) at now + delay: in the daemon (dropped when it dies) or in the world. */
void sim_in_daemon(struct sim *sim, uint64_t delay_us, void (*fn)(void *arg), void *arg,
                   void (*drop)(void *arg));
void sim_in_world(struct sim *sim, uint64_t delay_us, void (*fn)(void *arg), void *arg);
/* At the entry of a port's function: memory is the world's from here on; may crash the daemon. */
uint32_t sim_enter(struct sim *sim, bool may_crash);
void sim_leave(struct sim *sim, uint32_t tag);
void sim_crash(struct sim *sim);
void sim_restart_later(struct sim *sim);
void sim_env_init(struct sim *sim);

/* sim_store.c */
void sim_store_init(struct sim *sim);
void sim_store_crash(struct sim *sim);

/* sim_engine.c */
void sim_engine_init(struct sim *sim);
struct sim_lease *sim_lease_get(struct sim *sim, uint64_t id); /* NULL: unknown */
void sim_lease_exit(struct sim *sim, struct sim_lease *lease, int kind, int32_t code);
void sim_node_die(struct sim *sim, uint32_t node);
void sim_node_back(struct sim *sim, uint32_t node); /* says what ended while it was away */
void sim_worker_kill(struct sim *sim);              /* a random live one */
void sim_report_meter(struct sim *sim, const struct sim_lease *lease, uint64_t serial,
                      uint32_t tenant, const struct mr_usage *usage);

/* sim_worker.c */
struct sim_worker *sim_worker_new(struct sim *sim, struct sim_lease *lease);
void sim_worker_accept(struct sim_worker *worker, struct mr_conn *conn);
/* Its process ends: reports what was not settled, closes its connections. */
void sim_worker_end(struct sim_worker *worker);
uint32_t sim_worker_unsettled(const struct sim_worker *worker);
/* The n-th word of the answer to a prompt. */
uint32_t sim_word(char ret[16], uint32_t prompt, uint32_t n);

/* sim_wire.c */
void sim_wire_init(struct sim *sim);
/* A pair: the daemon's end and the world's end. */
struct mr_conn *sim_conn_pair(struct sim *sim, struct mr_conn **ret_world_end);
void sim_conn_handle(struct mr_conn *conn, const struct mr_conn_handler *handler, void *arg);
size_t sim_conn_send(struct mr_conn *conn, const void *bytes, size_t n);
void sim_conn_close(struct mr_conn *conn, bool now);
void sim_conn_cut(struct mr_conn *conn);
void sim_wire_crash(struct sim *sim);

/* sim_client.c */
void sim_clients_start(struct sim *sim);
struct sim_job *sim_job_of(struct sim *sim, uint64_t workload);

/* sim_check.c */
void sim_check_start(struct sim *sim, const struct sim_lease *lease);
/* True when everything that was asked for has ended and is billed. `what`: what is still missing.
 */
bool sim_check_quiet(struct sim *sim, char *what, size_t size);
void sim_check_end(struct sim *sim);

/* sim_daemon.c */
void sim_daemon_start(void *sim);
/* The document that describes the node. */
void sim_node_describe(const struct sim *sim, uint32_t node, char *ret, size_t size);

/* sim_place.c */
/* Gives part of the worlds domains, blocks and cells, and more nodes to lie in them. */
void sim_places_draw(struct sim *sim, uint64_t seed);
/* sim_supply.c: nodes that are promised to the operator. */
void sim_supply_draw(struct sim *sim, uint64_t seed);
bool sim_supply_asks(struct sim *sim); /* whether the next call is about them */
void sim_supply_ask(struct sim *sim, char path[64], char body[300]);
/* The domain, block or cell that the node lies in, 0: none; for MR_TOPOLOGY_NODE itself. */
uint32_t sim_place_of(const struct sim *sim, uint32_t node, enum mr_topology level);
/* The node turns out to lie elsewhere, or the whole domain does. False: not now. */
bool sim_place_move(struct sim *sim, uint32_t node);
/* What the job asks for beside its shape; its sizes become multiples of its segment. */
void sim_layout_draw(struct sim *sim, struct sim_job *job, bool may_spread, uint32_t *low,
                     uint32_t *high);
size_t sim_layout_put(const struct sim_job *job, char *ret, size_t size);
/* Whether so many tasks as the job needs at least would fit as it asks, with so many on each node.
 */
bool sim_layout_fits(const struct sim *sim, const struct mr_workload_info *info,
                     const uint64_t fits[SIM_NODES_MAX + 1]);
/* (W10) every run lay as it was asked to. */
void sim_layout_check(struct sim *sim);

#endif
