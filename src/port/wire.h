/* SPDX-License-Identifier: Apache-2.0 */
/* What a gate needs of connections: bytes come in, bytes go out, one side closes.
 *
 * The world owns the socket, the service owns what it hangs on it. on_close comes exactly once for
 * every connection, last, and never inside a call of the service; after it the pointer is dead.
 */
#ifndef MR_PORT_WIRE_H
#define MR_PORT_WIRE_H

#include "base/base.h"

struct mr_wire;
struct mr_conn;

struct mr_conn_handler {
    void (*on_open)(void *arg, struct mr_conn *conn); /* connect() succeeded; not for accepted */
    void (*on_data)(void *arg, const uint8_t *bytes, size_t n); /* n > 0; bytes die on return */
    void (*on_drain)(
        void *arg);            /* the write queue fell below the low mark after being above high */
    void (*on_end)(void *arg); /* the peer half-closed: no more on_data */
    void (*on_close)(void *arg, int error); /* 0: we closed or the peer ended cleanly */
};

struct mr_wire_ops {
    /* Connects to "unix:/path" or "tcp:127.0.0.1:8080". on_open or on_close follows. */
    int (*connect)(struct mr_wire *wire, struct mr_str address,
                   const struct mr_conn_handler *handler, void *arg, struct mr_conn **ret_conn);
    /* Sets handler and argument; for accepted connections inside the accept callback. */
    void (*handle)(struct mr_conn *conn, const struct mr_conn_handler *handler, void *arg);
    /* Queues a copy (written at once when the socket takes it). Returns the bytes that are queued
     * now; above MR_CONN_WRITE_BYTES_HIGH stop producing until on_drain. Nothing after close. */
    size_t (*send)(struct mr_conn *conn, const void *bytes, size_t n);
    /* Stops and resumes on_data: back-pressure to the peer. */
    void (*read_pause)(struct mr_conn *conn, bool paused);
    /* Flushes what is queued, then closes; `now` drops what is queued. on_close follows. */
    void (*close)(struct mr_conn *conn, bool now);
};

struct mr_wire {
    const struct mr_wire_ops *ops;
};

#endif
