/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: the wire of a lane.
 *
 * Owns:       each connection from connect or accept until its close callback.
 * Invariants: (1) on_close comes once, last, and never inside a call of the service;
 *             (2) a connection's memory goes in conn_closed, in no other place;
 *             (3) nothing is handed to the service after close was asked for, but on_close;
 *             (4) bytes leave in the order in which they were sent, or not at all.
 * Thread:     the lane's.
 * Fails:      connect with MR_EINVALID, MR_ENO_MEMORY, MR_ECLOSED; all else through on_close.
 * Ends:       conn_closed.
 * Idea:       src/loop/README.md   Tests: tests/unit/loop
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop_int.h"

static void conn_ready(uv_poll_t *poll, int status, int events);
static void conn_flush(struct mr_conn *conn);

int loop_error_from_errno(int error)
{
    switch (error) {
    case 0:
        return 0;
    case ECONNRESET:
    case EPIPE:
        return MR_ECLOSED;
    case ECONNREFUSED:
    case ENOENT:
    case EAGAIN:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return MR_EUNAVAILABLE;
    case ETIMEDOUT:
        return MR_ETIMEOUT;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
        return MR_ENO_MEMORY;
    case EACCES:
    case EPERM:
        return MR_EFORBIDDEN;
    default:
        return MR_EIO;
    }
}

/* --- life ------------------------------------------------------------------------------------ */

static void conn_closed(uv_handle_t *handle)
{
    struct mr_conn *conn = (struct mr_conn *)(void *)handle;
    struct loop_lane *lane = conn->lane;
    if (conn->prev != NULL) conn->prev->next = conn->next;
    if (conn->prev == NULL) lane->conns = conn->next;
    if (conn->next != NULL) conn->next->prev = conn->prev;
    if (conn->accepted) lane->accepted_count--;
    (void)close(conn->fd); /* nothing is left to write */
    mr_buf_done(&conn->out);
    const struct mr_conn_handler *handler = conn->handler;
    void *arg = conn->arg;
    int error = conn->error;
    mr_free(conn);
    if (handler != NULL && handler->on_close != NULL) handler->on_close(arg, error);
}

static void conn_finish(struct mr_conn *conn, int error)
{
    if (conn->state == LOOP_CONN_CLOSING) return;
    struct loop_lane *lane = conn->lane;
    if (conn->state == LOOP_CONN_FLUSHING || conn->state == LOOP_CONN_LINGERING) {
        lane->lingering_count--;
        error = 0; /* we closed; how the peer took it is no news any more */
    }
    if (conn->dirty) {
        struct mr_conn **at = &lane->dirty;
        while (*at != conn)
            at = &(*at)->dirty_next;
        *at = conn->dirty_next;
        conn->dirty = false;
    }
    conn->state = LOOP_CONN_CLOSING;
    conn->error = error;
    uv_close((uv_handle_t *)&conn->poll, conn_closed);
}

static struct mr_conn *conn_new(struct loop_lane *lane, int take_fd)
{
    struct mr_conn *conn = mr_alloc_zero(sizeof *conn);
    if (conn == NULL || uv_poll_init(&lane->uv, &conn->poll, take_fd) != 0) {
        mr_free(conn);
        (void)close(take_fd);
        return NULL;
    }
    conn->lane = lane;
    conn->fd = take_fd;
    mr_buf_init(&conn->out, SIZE_MAX / 2);
    conn->next = lane->conns;
    if (lane->conns != NULL) lane->conns->prev = conn;
    lane->conns = conn;
    return conn;
}

static void conn_watch(struct mr_conn *conn)
{
    int events = 0;
    switch (conn->state) {
    case LOOP_CONN_CONNECTING:
        events = UV_WRITABLE;
        break;
    case LOOP_CONN_OPEN:
        /* A paused one is told of a peer that is gone, but not of bytes. */
        if (!conn->ended) events = conn->paused ? UV_DISCONNECT : UV_READABLE;
        break;
    case LOOP_CONN_LINGERING:
        events = UV_READABLE;
        break;
    case LOOP_CONN_FLUSHING:
        break;
    case LOOP_CONN_CLOSING:
        return;
    }
    if (conn->blocked) events |= UV_WRITABLE;
    if (events == conn->events) return;
    conn->events = events;
    int error =
        events == 0 ? uv_poll_stop(&conn->poll) : uv_poll_start(&conn->poll, events, conn_ready);
    MR_ASSERT(error == 0); /* fails only on a closing handle */
}

struct mr_conn *loop_conn_adopt(struct loop_lane *lane, int take_fd)
{
    struct mr_conn *conn = conn_new(lane, take_fd);
    if (conn == NULL) return NULL;
    conn->accepted = true;
    lane->accepted_count++;
    conn->state = LOOP_CONN_OPEN;
    conn_watch(conn);
    return conn;
}

static int wire_connect(struct mr_wire *wire, struct mr_str address,
                        const struct mr_conn_handler *handler, void *arg, struct mr_conn **ret_conn)
{
    struct loop_lane *lane =
        (struct loop_lane *)(void *)((char *)wire - offsetof(struct loop_lane, wire));
    if (lane->stopping) return MR_ECLOSED;
    int fd = -1, refused = 0;
    int error = loop_dial(address, &fd, &refused);
    if (error != 0) return error;
    struct mr_conn *conn = conn_new(lane, fd);
    if (conn == NULL) return MR_ENO_MEMORY;
    conn->handler = handler;
    conn->arg = arg;
    conn->state = LOOP_CONN_CONNECTING;
    if (refused != 0) {
        conn_finish(conn, loop_error_from_errno(refused));
    } else {
        conn_watch(conn);
    }
    *ret_conn = conn;
    return 0;
}

static void wire_handle(struct mr_conn *conn, const struct mr_conn_handler *handler, void *arg)
{
    MR_ASSERT(handler != NULL);
    conn->handler = handler;
    conn->arg = arg;
}

/* --- writing --------------------------------------------------------------------------------- */

static size_t conn_queued(const struct mr_conn *conn)
{
    return conn->out.n - conn->out_at;
}

/* After the last byte our side is shut and the peer's last bytes are read and dropped: closing with
 * unread bytes would reset the connection and destroy an answer that is still on its way. */
static void conn_flushed(struct mr_conn *conn)
{
    if (conn->state != LOOP_CONN_FLUSHING) return;
    if (conn->ended || !conn->accepted || shutdown(conn->fd, SHUT_WR) != 0) {
        conn_finish(conn, 0);
        return;
    }
    conn->state = LOOP_CONN_LINGERING;
    conn->deadline_ms = uv_now(&conn->lane->uv) + LOOP_LINGER_MS;
    conn_watch(conn);
}

static void conn_flush(struct mr_conn *conn)
{
    conn->dirty = false;
    conn->blocked = false;
    while (conn_queued(conn) > 0) {
        ssize_t n = send(conn->fd, conn->out.p + conn->out_at, conn_queued(conn), MSG_NOSIGNAL);
        if (n > 0) conn->out_at += (size_t)n;
        if (n >= 0 || errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            conn->blocked = true;
            break;
        }
        conn_finish(conn, loop_error_from_errno(errno));
        return;
    }
    if (conn_queued(conn) == 0) {
        conn->out_at = 0;
        mr_buf_reset(&conn->out);
        if (conn->out.capacity > LOOP_KEEP_BYTES) {
            mr_buf_done(&conn->out);
            mr_buf_init(&conn->out, SIZE_MAX / 2);
        }
    } else if (conn->out_at > conn->out.n / 2) {
        mr_buf_drop_front(&conn->out, conn->out_at);
        conn->out_at = 0;
    }
    conn_watch(conn);
    if (conn->state == LOOP_CONN_FLUSHING && conn_queued(conn) == 0) conn_flushed(conn);
}

/* Not inside a call of the service: it may be told that the queue has drained. */
static void conn_flush_and_tell(struct mr_conn *conn)
{
    conn_flush(conn);
    if (conn->state == LOOP_CONN_OPEN && conn->above_high &&
        conn_queued(conn) < LOOP_WRITE_BYTES_LOW) {
        conn->above_high = false;
        if (conn->handler->on_drain != NULL) conn->handler->on_drain(conn->arg);
    }
}

void loop_conns_flush(struct loop_lane *lane)
{
    while (lane->dirty != NULL) {
        struct mr_conn *conn = lane->dirty;
        lane->dirty = conn->dirty_next;
        conn_flush_and_tell(conn);
    }
}

static void conn_dirty(struct mr_conn *conn)
{
    if (conn->dirty || conn->blocked || conn->state == LOOP_CONN_CONNECTING) return;
    conn->dirty = true;
    conn->dirty_next = conn->lane->dirty;
    conn->lane->dirty = conn;
}

static size_t wire_send(struct mr_conn *conn, const void *bytes, size_t n)
{
    if (conn->state != LOOP_CONN_CONNECTING && conn->state != LOOP_CONN_OPEN) return 0;
    mr_buf_put(&conn->out, bytes, n);
    if (conn->out.failed) {
        /* Half of a stream is worth nothing: the peer sees the end, the service its on_close. */
        conn_finish(conn, MR_ENO_MEMORY);
        return 0;
    }
    if (n > 0) conn_dirty(conn);
    if (conn->dirty && conn_queued(conn) > LOOP_FLUSH_BYTES) {
        struct mr_conn **at = &conn->lane->dirty;
        while (*at != conn)
            at = &(*at)->dirty_next;
        *at = conn->dirty_next;
        conn_flush(conn);
    }
    size_t queued = conn_queued(conn);
    if (queued > MR_CONN_WRITE_BYTES_HIGH) conn->above_high = true;
    return queued;
}

static void wire_close(struct mr_conn *conn, bool now)
{
    bool open = conn->state == LOOP_CONN_OPEN;
    if (conn->state == LOOP_CONN_CLOSING) return;
    if (now || conn->state == LOOP_CONN_CONNECTING) {
        conn_finish(conn, 0);
        return;
    }
    if (!open) return; /* on its way already */
    conn->state = LOOP_CONN_FLUSHING;
    conn->deadline_ms = uv_now(&conn->lane->uv) + LOOP_FLUSH_MS;
    if (conn->lane->lingering_count++ == 0) loop_linger_start(conn->lane);
    conn_watch(conn);
    /* The end is reached from the flush of this turn, never from inside this call. */
    conn_dirty(conn);
}

/* --- reading --------------------------------------------------------------------------------- */

static void wire_read_pause(struct mr_conn *conn, bool paused)
{
    conn->paused = paused;
    if (conn->state == LOOP_CONN_OPEN) conn_watch(conn);
}

static void conn_ended(struct mr_conn *conn)
{
    conn->ended = true;
    conn_watch(conn);
    if (conn->handler->on_end != NULL) {
        conn->handler->on_end(conn->arg);
    } else {
        conn_finish(conn, 0);
    }
}

static void conn_read(struct mr_conn *conn)
{
    struct loop_lane *lane = conn->lane;
    ssize_t n = recv(conn->fd, lane->read_bytes, sizeof lane->read_bytes, 0);
    if (n < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return;
        conn_finish(conn, loop_error_from_errno(errno));
    } else if (conn->state == LOOP_CONN_LINGERING) {
        if (n == 0) conn_finish(conn, 0);
    } else if (n == 0) {
        conn_ended(conn);
    } else {
        conn->handler->on_data(conn->arg, lane->read_bytes, (size_t)n);
    }
}

static int socket_error(const struct mr_conn *conn)
{
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
    return error;
}

static void conn_opened(struct mr_conn *conn)
{
    int error = socket_error(conn);
    if (error != 0) {
        conn_finish(conn, loop_error_from_errno(error));
        return;
    }
    conn->state = LOOP_CONN_OPEN;
    conn_watch(conn);
    if (conn_queued(conn) > 0) conn_dirty(conn); /* sent before it was open */
    if (conn->handler->on_open != NULL) conn->handler->on_open(conn->arg, conn);
}

static void conn_ready(uv_poll_t *poll, int status, int events)
{
    struct mr_conn *conn = (struct mr_conn *)(void *)poll;
    if (status < 0) {
        /* uv stopped watching; bytes that came before the error are still there. */
        conn->events = 0;
        if (conn->state == LOOP_CONN_OPEN && !conn->paused && !conn->ended) {
            conn_read(conn);
            if (conn->state == LOOP_CONN_OPEN && !conn->ended && conn->events == 0) {
                conn_watch(conn);
                return;
            }
        }
        int error = socket_error(conn);
        conn_finish(conn, error != 0 ? loop_error_from_errno(error) : MR_ECLOSED);
        return;
    }
    if (conn->state == LOOP_CONN_CONNECTING) {
        if (events & UV_WRITABLE) conn_opened(conn);
        return;
    }
    bool reads = conn->state == LOOP_CONN_LINGERING ||
                 (conn->state == LOOP_CONN_OPEN && !conn->paused && !conn->ended);
    if ((events & UV_READABLE) && reads) conn_read(conn);
    if ((events & UV_WRITABLE) && conn->state != LOOP_CONN_CLOSING && conn->blocked) {
        conn_flush_and_tell(conn);
    }
    if ((events & UV_DISCONNECT) && conn->state == LOOP_CONN_OPEN && conn->paused) {
        /* A half-close as likely as an end: it is read when reading goes on. Not asked again, since
         * the kernel would tell it for ever. */
        conn->events = 0;
        (void)uv_poll_stop(&conn->poll); /* fails only on a closing handle */
        if (conn->blocked) {
            conn->events = UV_WRITABLE;
            (void)uv_poll_start(&conn->poll, UV_WRITABLE, conn_ready);
        }
    }
}

/* --- all of a lane --------------------------------------------------------------------------- */

void loop_conns_close(struct loop_lane *lane)
{
    for (struct mr_conn *conn = lane->conns; conn != NULL; conn = conn->next)
        conn_finish(conn, 0);
}

void loop_conns_linger(struct loop_lane *lane)
{
    uint64_t now_ms = uv_now(&lane->uv);
    if (lane->lingering_count == 0) return;
    for (struct mr_conn *conn = lane->conns; conn != NULL; conn = conn->next) {
        bool leaving = conn->state == LOOP_CONN_FLUSHING || conn->state == LOOP_CONN_LINGERING;
        if (leaving && now_ms >= conn->deadline_ms) conn_finish(conn, 0);
    }
}

const struct mr_wire_ops loop_wire_ops = {
    .connect = wire_connect,
    .handle = wire_handle,
    .send = wire_send,
    .read_pause = wire_read_pause,
    .close = wire_close,
};
