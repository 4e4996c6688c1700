/* SPDX-License-Identifier: Apache-2.0 */
/* Private to work/infer and its tests: sockets on the engine.
 *
 * Idea: work/infer/README.md, "The loop".
 */
#ifndef INFER_LOOP_H
#define INFER_LOOP_H

#include "infer_int.h"

#include <sys/types.h>

struct infer_conn {
    bool used;
    int fd;
    struct mr_buf in, out;
    size_t sent;           /* of out */
    struct mr_arena arena; /* of the frame being handled */
};

/* The measuring child: see infer_idle.c. */
enum infer_idle_state {
    INFER_IDLE_OFF,
    INFER_IDLE_WAITS,
    INFER_IDLE_RUNS,
    INFER_IDLE_PAUSED,
    INFER_IDLE_DONE,
    INFER_IDLE_STATE_COUNT
};
struct infer_idle {
    enum infer_idle_state state;
    pid_t child;
    uint64_t quiet_since_us; /* when the last request was seen */
};

struct infer_loop {
    struct infer_engine *engine;
    struct infer_conn conns[INFER_CONNS_MAX];
    int listen_fd, signal_fd;
    uint32_t load_permille;
    uint64_t polled_us, stats_us; /* when last */
    uint64_t stop_us;             /* when what still runs is cancelled */
    bool stats_wanted, stopping, broken;
    struct infer_idle idle;
};

/* One connection (infer_conn.c). read and write: false means close it. */
void infer_conn_open(struct infer_loop *loop, int index, int fd);
void infer_conn_close(struct infer_loop *loop, int index);
void infer_conn_hello(struct infer_loop *loop, struct infer_conn *conn);
void infer_conn_stats(struct infer_conn *conn, const struct mr_wire_stats *stats);
bool infer_conn_read(struct infer_loop *loop, int index);
bool infer_conn_write(struct infer_conn *conn);
size_t infer_conn_unsent(const struct infer_conn *conn);
/* The engine's sink; context is the loop. */
void infer_conn_sink_tokens(void *context, const struct infer_request *request, uint32_t count,
                            struct mr_str text);
void infer_conn_sink_end(void *context, const struct infer_request *request,
                         const struct mr_wire_end *end);
bool infer_conn_sink_can_take(void *context, int owner);

/* Measuring while nothing else is to do (infer_idle.c). */
void infer_idle_init(struct infer_loop *loop);
/* Starts, pauses or goes on with the child. true: it has ended and may have left a result. */
bool infer_idle_turn(struct infer_loop *loop, uint64_t now_us, bool busy);
/* Milliseconds until the next turn is due, or -1. */
int infer_idle_timeout_ms(const struct infer_loop *loop, uint64_t now_us);
void infer_idle_end(struct infer_loop *loop);

#endif
