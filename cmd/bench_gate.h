/* SPDX-License-Identifier: Apache-2.0 */
/* Private to cmd/bench_gate*.c: the world of `bench gate`, of which one half measures and the other
 * stands in for what lies behind a gate. */
#ifndef MR_CMD_BENCH_GATE_H
#define MR_CMD_BENCH_GATE_H

#include <sys/types.h>

#include "bench.h"
#include "ctl/ctl.h"
#include "gate/gate.h"
#include "loop/loop.h"

#define BENCH_CLIENTS_MAX 64

/* The worker when it is slow: so few slots, and answers that differ by tenant. */
#define BENCH_SLOW_SLOTS          4u
#define BENCH_PROMPT_TOKENS       20u
#define BENCH_SLOW_TOKENS(tenant) ((tenant) % 2 ? 16u : 64u)

struct bench_world {
    struct bench_report *report;
    char folder[64];
    /* the real thing */
    struct mr_loop *loop;
    struct mr_store store;
    struct mr_engine engine;
    struct mr_ctl *ctl;
    struct mr_gate *gate;
    void (*report_fn)(void *arg, const struct mr_engine_report *report);
    void *report_arg;
    struct mr_engine_report started[2];
    struct mr_post start_post, append_post, step_post, drain_post, stop_post;
    mr_store_done append_done, snapshot_done;
    void *append_arg, *snapshot_arg;
    struct mr_post snapshot_post;
    struct mr_ctl_call call;
    uint32_t step;
    char keys[2][128]; /* of two tenants */
    uint32_t key_count;
    uint16_t port, bare_port, http_port, nginx_port;
    bool ready, failed; /* atomic */
    uint64_t metered;   /* SETTLED that the worker got, atomic */
    /* mocks */
    int wire_fd, http_fd;
    bool stop; /* atomic */
    bool slow; /* atomic: the worker has few slots and takes its time */
    pid_t nginx;
};

static inline bool bench_flag_get(const bool *flag)
{
    return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}
static inline void bench_flag_set(bool *flag)
{
    __atomic_store_n(flag, true, __ATOMIC_RELEASE);
}
#define BENCH_WORLD_OF(pointer, member)                                                            \
    ((struct bench_world *)(void *)((char *)(pointer) - offsetof(struct bench_world, member)))

/* A journal in memory; an engine that says of every lease that it started and is ready. */
extern const struct mr_store_ops bench_gate_store_ops;
extern const struct mr_engine_ops bench_gate_engine_ops;

/* A socket that listens on any free port of this machine, or -1. */
int bench_gate_listen(uint16_t *ret_port);
/* One that is connected to that port, or -1. */
int bench_gate_dial(uint16_t port);
/* Blocks until all of it is written, or the peer is gone. */
void bench_gate_write_all(int fd, const void *bytes, size_t n);

/* Threads: a worker at wire_fd, a server at http_fd. Both answer at once. */
void *bench_gate_mock_worker(void *world);
void *bench_gate_mock_http(void *world);

/* Takes a connection for the bare proxy to http_port; on lane 1 of world->loop. */
void bench_gate_bare_accept(struct bench_world *w, struct mr_conn *conn);

/* Starts nginx as a bare proxy to http_port when it is installed; then nginx_port is set. */
void bench_gate_nginx_start(struct bench_world *w);
void bench_gate_nginx_stop(struct bench_world *w);

#endif
