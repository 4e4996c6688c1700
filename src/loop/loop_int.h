/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/loop and its tests: what the parts of the loop know of each other.
 *
 * A lane is a thread, a uv loop, a stack of posts from other lanes, the timers and connections that
 * belong to it. Sockets are watched with uv_poll and read and written by ourselves, so that the
 * sends of one turn of the loop become one system call and nothing is allocated per write.
 */
#ifndef LOOP_INT_H
#define LOOP_INT_H

#include <uv.h>

#include "loop/loop.h"

#define LOOP_LANES_MAX        64u
#define LOOP_READ_BYTES       65536u /* one read; shared by all connections of a lane */
#define LOOP_WRITE_BYTES_LOW  (MR_CONN_WRITE_BYTES_HIGH / 4u) /* on_drain below this */
#define LOOP_FLUSH_BYTES      65536u /* more than this is written before the turn ends */
#define LOOP_KEEP_BYTES       8192u  /* an empty write buffer larger than this is given back */
#define LOOP_ACCEPTS_PER_TURN 8u     /* so that lanes share the connections that come at once */
#define LOOP_ACCEPT_RETRY_MS  50u    /* after running out of file descriptors */
#define LOOP_LINGER_MS        2000u  /* what the peer still sends after our last byte is read */
#define LOOP_FLUSH_MS         30000u /* a peer that does not take the last bytes is dropped */
#define LOOP_BACKLOG          4096

struct loop_lane;

struct mr_timer {
    uv_timer_t uv; /* first: the handle is the timer */
    struct loop_lane *lane;
    void (*fn)(void *arg);
    void *arg;
    uint64_t at_us;
    struct mr_timer *next, *prev; /* of the lane's live ones */
};

enum loop_conn_state {
    LOOP_CONN_CONNECTING,
    LOOP_CONN_OPEN,
    LOOP_CONN_FLUSHING,  /* close was asked for, bytes are left */
    LOOP_CONN_LINGERING, /* our side is shut, the peer's last bytes are dropped */
    LOOP_CONN_CLOSING    /* the handle closes; on_close is next and last */
};

struct mr_conn {
    uv_poll_t poll; /* first: the handle is the connection */
    struct loop_lane *lane;
    const struct mr_conn_handler *handler;
    void *arg;
    struct mr_conn *next, *prev; /* of the lane's */
    struct mr_conn *dirty_next;
    struct mr_buf out;
    size_t out_at;        /* bytes of out that are written already */
    uint64_t deadline_ms; /* of FLUSHING and LINGERING, on uv's clock */
    int fd;
    int error;  /* for on_close */
    int events; /* watched now */
    enum loop_conn_state state;
    bool accepted, paused, ended, above_high, dirty, blocked;
};

struct loop_lane {
    struct mr_env env;
    struct mr_wire wire;
    struct mr_loop *loop;
    uv_loop_t uv;
    uv_async_t async;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_poll_t listener;
    uv_timer_t accept_retry, linger;
    uv_signal_t signals[2];
    struct mr_post *posts; /* atomic stack, newest first */
    struct mr_timer *timers;
    struct mr_conn *conns, *dirty;
    uint32_t accepted_count, conns_max, lingering_count;
    bool has_uv, has_listener, has_signals, stopping;
    uv_thread_t thread;
    uint8_t read_bytes[LOOP_READ_BYTES];
};

struct mr_loop {
    struct loop_lane *lanes;
    uint32_t lane_count;
    int listen_fd; /* -1: none */
    void (*accept)(void *arg, uint32_t lane, struct mr_conn *conn);
    void *accept_arg;
    void (*signal_fn)(void *arg, int signal);
    void *signal_arg;
    int64_t clock_offset_us; /* atomic: wall clock less monotonic clock; only grows */
    bool stop;               /* atomic */
    bool listen_stop;        /* atomic */
};

/* loop_clock.c */
uint64_t loop_now_us(struct mr_loop *loop);
void loop_clock_init(struct mr_loop *loop);

/* loop_env.c */
extern const struct mr_env_ops loop_env_ops;
void loop_posts_run(struct loop_lane *lane);
bool loop_posts_any(const struct loop_lane *lane);
void loop_timers_halt(struct loop_lane *lane); /* none will fire; they stay their owners' */
void loop_timers_free(struct loop_lane *lane);

/* loop_conn.c */
extern const struct mr_wire_ops loop_wire_ops;
/* Takes the descriptor; NULL (and closed) when out of memory. */
struct mr_conn *loop_conn_adopt(struct loop_lane *lane, int take_fd);
void loop_conns_flush(struct loop_lane *lane);
void loop_conns_close(struct loop_lane *lane);
void loop_conns_linger(struct loop_lane *lane); /* closes those past their deadline */
int loop_error_from_errno(int error);

/* loop_dial.c: a socket that connects to "unix:…" or "tcp:…", or MR_E…. When the kernel refused at
 * once, its errno is in *ret_refused and the socket is of no more use. */
int loop_dial(struct mr_str address, int *ret_fd, int *ret_refused);

/* loop_lane.c */
void loop_linger_start(struct loop_lane *lane);

/* loop_listen.c */
int loop_listener_start(struct loop_lane *lane);
void loop_listener_stop(struct loop_lane *lane);

/* loop_who.c: the process that listens on a TCP port, as /proc tells; "" when it does not. Writes
 * "process 1234 (nginx)" into buf. */
void loop_who_listens(uint16_t port, struct mr_buf *buf);

#endif
