/* SPDX-License-Identifier: Apache-2.0 */
/* One connected gate: bytes to frames and back, and what each frame asks of the engine.
 *
 * Owns:       the connection's socket, buffers and arena.
 * Invariants: (1) HELLO is the first frame; (2) an END that nobody settled and whose connection is
 *             gone is sent again on another, at once or when it comes, with stream 0, and belongs
 *             to that one then; (3) a connection is closed in infer_conn_close only, never inside
 *             a call of the engine.
 * Thread:     the worker's only one.
 * Fails:      a gate that breaks the protocol or does not read is closed; its streams are
 *             cancelled.
 * Ends:       infer_conn_close.
 * Tests:      tests/unit/infer
 */
#include "infer_loop.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define ARENA_BYTES_MAX (96u * 1024u * 1024u)
#define READ_BYTES      65536u

/* Ends whose connection is gone, on that one. */
static void orphans_send(struct infer_loop *loop, int index)
{
    struct infer_meter *meter = &loop->engine->meter;
    for (size_t i = 0; i < MR_WIRE_UNSETTLED_MAX; i++) {
        struct infer_meter_slot *slot = &meter->slots[i];
        if (slot->state != MR_METER_ENDED || slot->owner >= 0) continue;
        slot->owner = index;
        struct mr_wire_frame frame = {.type = MR_WIRE_END, .u.end = slot->end};
        mr_wire_put(&loop->conns[index].out, &frame);
    }
}

void infer_conn_open(struct infer_loop *loop, int index, int fd)
{
    struct infer_conn *conn = &loop->conns[index];
    *conn = (struct infer_conn){.used = true, .fd = fd};
    mr_buf_init(&conn->in, MR_WIRE_FRAME_BYTES_MAX + READ_BYTES + MR_WIRE_HEADER_BYTES);
    mr_buf_init(&conn->out, INFER_CONN_BYTES_MAX);
    mr_arena_init(&conn->arena, ARENA_BYTES_MAX);
    infer_conn_hello(loop, conn);
    orphans_send(loop, index);
}

void infer_conn_close(struct infer_loop *loop, int index)
{
    struct infer_conn *conn = &loop->conns[index];
    if (!conn->used) {
        return;
    }
    (void)close(conn->fd); /* what was not sent is unsettled and comes again */
    infer_engine_disown(loop->engine, index);
    mr_buf_done(&conn->in);
    mr_buf_done(&conn->out);
    mr_arena_done(&conn->arena);
    *conn = (struct infer_conn){0};
    /* The daemon's next life may have connected before the end of its last was seen. */
    for (int other = 0; other < (int)INFER_CONNS_MAX; other++) {
        if (!loop->conns[other].used) continue;
        orphans_send(loop, other);
        return;
    }
}

void infer_conn_hello(struct infer_loop *loop, struct infer_conn *conn)
{
    const struct infer_engine *engine = loop->engine;
    struct mr_wire_frame frame = {
        .type = MR_WIRE_HELLO,
        .u.hello = {.lease = engine->config.lease,
                    .ready = engine->ready && !loop->stopping,
                    .load_permille = engine->ready ? 1000u : loop->load_permille,
                    .slots = engine->config.slots,
                    .context_tokens = engine->context_tokens,
                    .model = mr_str_from(engine->config.name),
                    .engine = mr_str_from(engine->model.choice.summary)},
    };
    mr_wire_put(&conn->out, &frame);
}

void infer_conn_stats(struct infer_conn *conn, const struct mr_wire_stats *stats)
{
    struct mr_wire_frame frame = {.type = MR_WIRE_STATS, .u.stats = *stats};
    mr_wire_put(&conn->out, &frame);
}

static void submit(struct infer_loop *loop, int index, const struct mr_wire_frame *frame)
{
    struct infer_conn *conn = &loop->conns[index];
    struct mr_wire_end end = {0};
    int error = 0;
    if (loop->stopping) {
        end = (struct mr_wire_end){.tenant = frame->u.submit.tenant,
                                   .finish = MR_FINISH_ERROR,
                                   .error = MR_EUNAVAILABLE,
                                   .text = MR_STR("this replica is shutting down")};
        error = MR_EUNAVAILABLE;
    } else {
        error = infer_engine_submit(loop->engine, index, frame->stream, &frame->u.submit, &end);
    }
    if (error != 0) {
        struct mr_wire_frame answer = {.type = MR_WIRE_END, .stream = frame->stream, .u.end = end};
        mr_wire_put(&conn->out, &answer);
    }
}

/* false: the gate broke the protocol. */
static bool frame_handle(struct infer_loop *loop, int index, const struct mr_wire_frame *frame)
{
    struct infer_conn *conn = &loop->conns[index];
    struct infer_engine *engine = loop->engine;
    struct infer_request *request = NULL;
    switch (frame->type) {
    case MR_WIRE_SUBMIT:
        if (frame->stream == 0 || infer_engine_find(engine, index, frame->stream) != NULL) {
            return false;
        }
        submit(loop, index, frame);
        return true;
    case MR_WIRE_CREDIT:
        /* Its END may have crossed this frame: then there is nothing left to send. */
        request = infer_engine_find(engine, index, frame->stream);
        if (request != NULL) {
            request->credit = MR_MIN(request->credit + (int64_t)frame->u.credit, INT64_MAX / 2);
        }
        return true;
    case MR_WIRE_CANCEL:
        request = infer_engine_find(engine, index, frame->stream);
        if (request != NULL) {
            infer_engine_cancel(engine, request);
        }
        return true;
    case MR_WIRE_SETTLED:
        /* Settled twice is fine: a gate that came back may repeat itself. */
        (void)infer_meter_settle(&engine->meter, frame->u.serial);
        return true;
    case MR_WIRE_PING: {
        struct mr_wire_frame pong = {.type = MR_WIRE_PONG, .stream = frame->stream};
        mr_wire_put(&conn->out, &pong);
        return true;
    }
    default:
        return false; /* a worker's frame, from a gate */
    }
}

/* Handles every whole frame that was read; false: close it. */
static bool frames_take(struct infer_loop *loop, int index)
{
    struct infer_conn *conn = &loop->conns[index];
    size_t at = 0;
    bool good = true;
    while (good && at < conn->in.n) {
        struct mr_wire_frame frame;
        size_t used = 0;
        mr_arena_reset(&conn->arena);
        struct mr_str bytes = {(const char *)conn->in.p + at, conn->in.n - at};
        int got = mr_wire_get(bytes, &conn->arena, &frame, &used);
        if (got == 0) {
            break;
        }
        good = got > 0 && frame_handle(loop, index, &frame);
        at += got > 0 ? used : 0;
    }
    mr_buf_drop_front(&conn->in, at);
    return good;
}

bool infer_conn_read(struct infer_loop *loop, int index)
{
    struct infer_conn *conn = &loop->conns[index];
    /* So much at once that a large prompt gets in quickly, and no more, so that tokens get out. */
    for (int turn = 0; turn < 64; turn++) {
        if (!mr_buf_reserve(&conn->in, READ_BYTES)) return false;
        ssize_t n = recv(conn->fd, conn->in.p + conn->in.n, READ_BYTES, 0);
        if (n < 0) {
            if (errno == EINTR) continue;
            return errno == EAGAIN || errno == EWOULDBLOCK;
        }
        if (n == 0) return false;
        conn->in.n += (size_t)n;
        if (!frames_take(loop, index)) return false;
        if ((size_t)n < READ_BYTES) return true;
    }
    return true;
}

bool infer_conn_write(struct infer_conn *conn)
{
    if (conn->out.failed) return false; /* it does not read: INFER_CONN_BYTES_MAX are waiting */
    while (conn->sent < conn->out.n) {
        ssize_t n = send(conn->fd, conn->out.p + conn->sent, conn->out.n - conn->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno == EINTR) continue;
            if (errno != EAGAIN && errno != EWOULDBLOCK) return false;
            break;
        }
        conn->sent += (size_t)n;
    }
    if (conn->sent == conn->out.n) {
        mr_buf_reset(&conn->out);
        conn->sent = 0;
    } else if (conn->sent > INFER_CONN_BYTES_MAX / 4) {
        mr_buf_drop_front(&conn->out, conn->sent);
        conn->sent = 0;
    }
    return true;
}

size_t infer_conn_unsent(const struct infer_conn *conn)
{
    return conn->out.n - conn->sent;
}

/* --- what the engine calls ------------------------------------------------------------------ */

static struct infer_conn *owner_of(struct infer_loop *loop, int owner)
{
    return owner >= 0 && loop->conns[owner].used ? &loop->conns[owner] : NULL;
}

void infer_conn_sink_tokens(void *context, const struct infer_request *request, uint32_t count,
                            struct mr_str text)
{
    struct infer_conn *conn = owner_of(context, request->owner);
    if (conn == NULL) {
        return;
    }
    struct mr_wire_frame frame = {.type = MR_WIRE_TOKENS,
                                  .stream = request->stream,
                                  .u.tokens = {.count = count, .text = text}};
    mr_wire_put(&conn->out, &frame);
}

void infer_conn_sink_end(void *context, const struct infer_request *request,
                         const struct mr_wire_end *end)
{
    struct infer_loop *loop = context;
    struct infer_conn *conn = owner_of(loop, request->owner);
    loop->stats_wanted = true;
    if (conn == NULL) {
        return;
    }
    struct mr_wire_frame frame = {.type = MR_WIRE_END, .stream = request->stream, .u.end = *end};
    mr_wire_put(&conn->out, &frame);
}

bool infer_conn_sink_can_take(void *context, int owner)
{
    const struct infer_conn *conn = owner_of(context, owner);
    return conn != NULL && infer_conn_unsent(conn) < MR_CONN_WRITE_BYTES_HIGH;
}
