/* SPDX-License-Identifier: Apache-2.0 */
/* A client's connection: bytes in, one request at a time, bytes out.
 *
 * Owns:       the parser, and the request that is being answered.
 * Invariants: (1) answers leave in the order of their requests: the next request is taken only when
 *                 the last one was answered (RFC 9112 9.3.2);
 *             (2) a request hears once that its client is gone;
 *             (3) it is freed in conn_gone, in no other place.
 * Never:      more than GATE_AHEAD_BYTES_MAX plus one read of pipelined bytes.
 * Cost:       O(bytes).
 * Tests:      tests/unit/gate/test_gate_conn.c, tests/fuzz/gate
 */
#include "gate_int.h"

static struct gate_conn *conn_of(struct gate_due *due)
{
    return (struct gate_conn *)(void *)((char *)due - offsetof(struct gate_conn, due));
}

void gate_conn_send(struct gate_conn *conn, const void *bytes, size_t n)
{
    if (conn->closing) return;
    if (conn->gate->wire->ops->send(conn->wire, bytes, n) > MR_CONN_WRITE_BYTES_HIGH) {
        conn->full = true;
    }
}

void gate_conn_close(struct gate_conn *conn, bool now)
{
    if (conn->closing && !now) return;
    conn->closing = true;
    gate_due_clear(conn->gate, &conn->due);
    conn->gate->wire->ops->close(conn->wire, now);
}

/* --- errors that have no request ------------------------------------------------------------- */

static void refuse(struct gate_conn *conn, int status, struct mr_str text)
{
    struct mr_gate *gate = conn->gate;
    struct mr_problem problem = {.error = MR_ESYNTAX, .text = text};
    uint64_t id[2] = {mr_prng_next(&gate->prng), mr_prng_next(&gate->prng)};
    char extra[64] = "x-request-id: req_";
    static const char digits[] = "0123456789abcdef";
    size_t at = strlen(extra);
    for (size_t i = 0; i < 32; i++)
        extra[at++] = digits[(id[i / 16] >> (i % 16 * 4)) & 15];
    extra[at++] = '\r';
    extra[at++] = '\n';
    gate->stats.requests++;
    if (status >= 500) {
        gate->stats.answers_5xx++;
    } else {
        gate->stats.answers_4xx++;
    }
    mr_buf_reset(&gate->body);
    mr_openai_put_error(&gate->body, &problem);
    mr_buf_reset(&gate->out);
    mr_http_put_head(&gate->out, status, MR_STR("application/json"), (int64_t)gate->body.n, false,
                     gate->now_us, (struct mr_str){extra, at});
    mr_buf_put_str(&gate->out, mr_buf_str(&gate->body));
    bool whole = !gate->out.failed && !gate->body.failed;
    mr_buf_reset(&gate->body);
    if (whole) gate_conn_send(conn, gate->out.p, gate->out.n);
    gate_conn_close(conn, false);
}

static void refuse_bytes(struct gate_conn *conn)
{
    int status = mr_http_parser_status(conn->parser);
    struct mr_str text = MR_STR("the request is not valid HTTP/1.1");
    if (status == 413) text = MR_STR("the request's body is larger than this server takes");
    if (status == 414) text = MR_STR("the request's path is longer than this server takes");
    if (status >= 500) text = MR_STR("out of memory; try again");
    if (status == 431) text = MR_STR("the request's headers are larger than this server takes");
    refuse(conn, status, text);
}

/* --- taking requests ------------------------------------------------------------------------- */

static void conn_wait(struct gate_conn *conn)
{
    struct mr_gate *gate = conn->gate;
    if (conn->closing || conn->request != NULL) return;
    bool busy = mr_http_parser_busy(conn->parser);
    if (conn->ended || (gate->draining && !busy)) {
        gate_conn_close(conn, false);
        return;
    }
    enum gate_due_kind kind = busy ? GATE_DUE_HEAD : GATE_DUE_IDLE;
    if (!conn->due.set || conn->due.kind != kind) {
        conn->head_bytes = 0;
        gate_due_set(gate, kind, &conn->due);
    }
    if (busy && mr_http_parser_wants_continue(conn->parser)) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        gate_conn_send(conn, go_on, sizeof go_on - 1);
    }
}

/* Takes requests until one is not answered at once. Runs in one place at a time: an answer that is
 * given at once must not start the next request inside this one. */
static void conn_pump(struct gate_conn *conn)
{
    if (conn->pumping) return;
    conn->pumping = true;
    while (!conn->closing && conn->request == NULL && !conn->full) {
        struct mr_http_request http;
        int got = mr_http_parser_next(conn->parser, &http);
        if (got < 0) {
            refuse_bytes(conn);
            break;
        }
        if (got == 0) break;
        gate_due_clear(conn->gate, &conn->due);
        conn->ahead_bytes = 0;
        struct gate_request *request = gate_request_new(conn, &http);
        if (request == NULL) {
            refuse(conn, 503, MR_STR("out of memory; try again"));
            break;
        }
        conn->request = request;
        gate_route(request, &http);
    }
    conn->pumping = false;
    if (conn->paused && conn->request == NULL && !conn->full && !conn->closing) {
        conn->paused = false;
        conn->gate->wire->ops->read_pause(conn->wire, false);
    }
    conn_wait(conn);
}

void gate_conn_answered(struct gate_conn *conn, bool keep_alive)
{
    conn->request = NULL;
    if (!keep_alive || conn->gate->draining) {
        gate_conn_close(conn, false);
        return;
    }
    conn_pump(conn);
}

/* --- the wire's news ------------------------------------------------------------------------- */

static void conn_data(void *arg, const uint8_t *bytes, size_t n)
{
    struct gate_conn *conn = arg;
    if (conn->closing) return;
    gate_now(conn->gate);
    conn->head_bytes += n;
    int error = mr_http_parser_feed(conn->parser, bytes, n);
    if (conn->request != NULL || conn->full) {
        /* What is wrong with it is said when its turn comes. */
        conn->ahead_bytes += n;
        if (conn->ahead_bytes > GATE_AHEAD_BYTES_MAX && !conn->paused) {
            conn->paused = true;
            conn->gate->wire->ops->read_pause(conn->wire, true);
        }
        return;
    }
    if (error != 0) {
        refuse_bytes(conn);
        return;
    }
    conn_pump(conn);
}

static void conn_drained(void *arg)
{
    struct gate_conn *conn = arg;
    conn->full = false;
    conn->full_quiet = 0;
    if (conn->closing) return;
    gate_now(conn->gate);
    if (conn->request == NULL) {
        conn_pump(conn);
    } else if (conn->request->ops != NULL && conn->request->ops->drain != NULL) {
        conn->request->ops->drain(conn->request);
    }
}

/* The peer will send no more. Whoever waits for tokens and closes its half is taken to be gone, as
 * every proxy does: nothing else tells that a client's process has ended. Answers that are on their
 * way are still given. */
static void conn_ended(void *arg)
{
    struct gate_conn *conn = arg;
    conn->ended = true;
    if (conn->closing) return;
    gate_now(conn->gate);
    struct gate_request *request = conn->request;
    if (request != NULL && request->ops != NULL && request->ops->gone != NULL) {
        conn->request = NULL;
        gate_request_gone(request);
        gate_conn_close(conn, true);
        return;
    }
    conn_wait(conn);
}

static void conn_gone(void *arg, int error)
{
    struct gate_conn *conn = arg;
    struct mr_gate *gate = conn->gate;
    (void)error; /* that it is gone is all that matters */
    gate_now(gate);
    conn->closing = true;
    conn->wire = NULL;
    gate_due_clear(gate, &conn->due);
    if (conn->request != NULL) gate_request_gone(conn->request);
    if (conn->prev != NULL) conn->prev->next = conn->next;
    if (conn->prev == NULL) gate->conns = conn->next;
    if (conn->next != NULL) conn->next->prev = conn->prev;
    mr_http_parser_free(conn->parser);
    mr_free(conn);
    gate->stats.connections_now--;
    gate_drain_check(gate);
}

static const struct mr_conn_handler conn_handler = {
    .on_data = conn_data,
    .on_drain = conn_drained,
    .on_end = conn_ended,
    .on_close = conn_gone,
};

void mr_gate_accept(struct mr_gate *gate, struct mr_conn *wire)
{
    gate_now(gate);
    struct gate_conn *conn = gate->draining ? NULL : mr_alloc_zero(sizeof *conn);
    if (conn == NULL || mr_http_parser_new(&conn->parser) != 0) {
        mr_free(conn);
        gate->wire->ops->close(wire, true);
        return;
    }
    conn->gate = gate;
    conn->wire = wire;
    conn->next = gate->conns;
    if (gate->conns != NULL) gate->conns->prev = conn;
    gate->conns = conn;
    gate->stats.connections++;
    gate->stats.connections_now++;
    gate->wire->ops->handle(wire, &conn_handler, conn);
    gate_due_set(gate, GATE_DUE_IDLE, &conn->due);
}

/* --- deadlines ------------------------------------------------------------------------------- */

void gate_conn_idle_over(struct gate_due *due)
{
    gate_conn_close(conn_of(due), false);
}

void gate_conn_head_over(struct gate_due *due)
{
    struct gate_conn *conn = conn_of(due);
    /* A large body on a slow line is no attack: it may go on as long as it goes on. */
    if (conn->head_bytes >= GATE_AHEAD_BYTES_MAX) {
        conn->head_bytes = 0;
        gate_due_set(conn->gate, GATE_DUE_HEAD, due);
        return;
    }
    refuse(conn, 408, MR_STR("the request did not come in time"));
}
