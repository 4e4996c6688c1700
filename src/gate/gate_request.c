/* SPDX-License-Identifier: Apache-2.0 */
/* A request from its head to its answer: memory, replies, streams, calls to ctl.
 *
 * Owns:       the request and its arena; from a pool, back into the pool.
 * Invariants: (1) a request is freed when it was answered or its client is gone, and no call of its
 *                 is out;
 *             (2) every answer carries x-request-id, and every error OpenAI's form;
 *             (3) a call's `done` never runs for a client that is gone.
 * Never:      a second head.
 * Cost:       no allocation once the pool is warm.
 */
#include <stdio.h>

#include "gate_int.h"

/* --- life ------------------------------------------------------------------------------------ */

static void id_make(struct gate_request *request)
{
    static const char digits[] = "0123456789abcdef";
    uint64_t id[2] = {mr_prng_next(&request->gate->prng), mr_prng_next(&request->gate->prng)};
    memcpy(request->id_bytes, id, sizeof id);
    memcpy(request->id, "req_", 4);
    for (size_t i = 0; i < 16; i++) {
        request->id[4 + 2 * i] = digits[request->id_bytes[i] >> 4];
        request->id[5 + 2 * i] = digits[request->id_bytes[i] & 15];
    }
    request->id[36] = 0;
}

struct gate_request *gate_request_new(struct gate_conn *conn, const struct mr_http_request *http)
{
    struct mr_gate *gate = conn->gate;
    struct gate_request *request = gate->free_requests;
    if (request != NULL) {
        gate->free_requests = request->next_free;
        gate->free_request_count--;
    } else {
        request = mr_alloc_zero(sizeof *request);
        if (request == NULL) return NULL;
        mr_arena_init(&request->arena, MR_REQUEST_ARENA_BYTES_MAX);
        mr_buf_init(&request->text, GATE_TEXT_BYTES_MAX);
    }
    struct mr_arena arena = request->arena;
    struct mr_buf text = request->text;
    *request = (struct gate_request){.gate = gate,
                                     .conn = conn,
                                     .arena = arena,
                                     .text = text,
                                     .keep_alive = http->keep_alive,
                                     .head_only = http->method == MR_HTTP_HEAD};
    id_make(request);
    gate->stats.requests++;
    return request;
}

static void request_free(struct gate_request *request)
{
    struct mr_gate *gate = request->gate;
    MR_INVARIANT(1, request->conn == NULL && !request->call_busy);
    gate_due_clear(gate, &request->quiet);
    gate->env->ops->timer_stop(gate->env, request->timer);
    request->timer = NULL;
    if (gate->free_request_count >= GATE_POOL_REQUESTS_MAX) {
        mr_arena_done(&request->arena);
        mr_buf_done(&request->text);
        mr_free(request);
        return;
    }
    if (request->arena.used_bytes > GATE_POOL_BYTES_MAX) mr_arena_done(&request->arena);
    mr_arena_reset(&request->arena);
    if (request->text.capacity > GATE_POOL_BYTES_MAX) {
        mr_buf_done(&request->text);
        mr_buf_init(&request->text, GATE_TEXT_BYTES_MAX);
    }
    mr_buf_reset(&request->text);
    request->next_free = gate->free_requests;
    gate->free_requests = request;
    gate->free_request_count++;
}

void gate_request_gone(struct gate_request *request)
{
    request->conn->request = NULL;
    request->conn = NULL;
    gate_due_clear(request->gate, &request->quiet);
    if (request->streaming) request->gate->stats.streams_now--;
    if (request->ops != NULL && request->ops->gone != NULL) request->ops->gone(request);
    if (!request->call_busy) request_free(request);
}

static void request_answered(struct gate_request *request)
{
    struct gate_conn *conn = request->conn;
    bool keep_alive = request->keep_alive;
    MR_ASSERT(!request->call_busy); /* nobody answers before ctl did */
    request->conn = NULL;
    request_free(request);
    gate_conn_answered(conn, keep_alive);
}

/* --- whole answers --------------------------------------------------------------------------- */

static void status_count(struct mr_gate *gate, int status)
{
    if (status >= 500) {
        gate->stats.answers_5xx++;
    } else if (status >= 400) {
        gate->stats.answers_4xx++;
    }
}

static void head_put(struct gate_request *request, int status, struct mr_str type, int64_t length,
                     struct mr_str extra)
{
    struct mr_gate *gate = request->gate;
    char lines[768];
    /* The id is hex and `extra` is ours, so no line end comes from outside. */
    int n =
        snprintf(lines, sizeof lines, "x-request-id: %s\r\n%.*s", request->id, MR_STR_ARG(extra));
    MR_ASSERT(n > 0 && (size_t)n < sizeof lines);
    bool keep_alive = request->keep_alive && !gate->draining;
    request->keep_alive = keep_alive;
    status_count(gate, status);
    mr_buf_reset(&gate->out);
    mr_http_put_head(&gate->out, status, type, length, keep_alive, gate->now_us,
                     (struct mr_str){lines, (size_t)n});
}

/* What was put is sent whole or the connection ends: half an answer would be taken for one. */
static void out_send(struct gate_request *request)
{
    struct mr_gate *gate = request->gate;
    if (gate->out.failed || gate->body.failed || gate->frame.failed) {
        mr_buf_reset(&gate->body);
        mr_buf_reset(&gate->frame);
        request->keep_alive = false;
        gate_conn_close(request->conn, true);
        return;
    }
    gate_conn_send(request->conn, gate->out.p, gate->out.n);
}

void gate_reply(struct gate_request *request, int status, struct mr_str type, struct mr_str body,
                struct mr_str extra)
{
    MR_ASSERT(!request->streaming);
    head_put(request, status, type, (int64_t)body.n, extra);
    if (!request->head_only) mr_buf_put_str(&request->gate->out, body);
    out_send(request);
    request_answered(request);
}

void gate_reply_problem_extra(struct gate_request *request, const struct mr_problem *problem,
                              int status, struct mr_str extra)
{
    struct mr_gate *gate = request->gate;
    mr_buf_reset(&gate->body);
    mr_openai_put_error(&gate->body, problem);
    gate_reply(request, status, MR_STR("application/json"), mr_buf_str(&gate->body), extra);
}

void gate_reply_problem(struct gate_request *request, const struct mr_problem *problem)
{
    int status = mr_error_status(problem->error);
    /* 499 is a name that only proxies use among themselves. */
    if (status == 499) status = 503;
    bool later = mr_error_retryable(problem->error) && (status == 429 || status == 503);
    gate_reply_problem_extra(request, problem, status,
                             later ? MR_STR("retry-after: " GATE_RETRY_AFTER "\r\n") : MR_STR(""));
}

struct mr_problem gate_problem(int error, const char *text)
{
    return (struct mr_problem){.error = error, .text = mr_str_from(text)};
}

struct mr_str gate_format(struct gate_request *request, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = n >= 0 ? mr_arena_alloc(&request->arena, (size_t)n + 1) : NULL;
    if (text != NULL) (void)vsnprintf(text, (size_t)n + 1, format, again); /* n was measured */
    va_end(again);
    return (struct mr_str){text, text != NULL ? (size_t)n : 0};
}

/* --- answers in pieces ----------------------------------------------------------------------- */

void gate_stream_begin(struct gate_request *request, struct mr_str type, struct mr_str extra)
{
    MR_ASSERT(!request->streaming);
    head_put(request, 200, type, -1, extra);
    request->streaming = true;
    request->gate->stats.streams_now++;
    out_send(request);
    if (request->ops != NULL && request->ops->quiet != NULL) {
        gate_due_set(request->gate, GATE_DUE_QUIET, &request->quiet);
    }
}

void gate_stream_data(struct gate_request *request, struct mr_str bytes)
{
    struct mr_gate *gate = request->gate;
    MR_ASSERT(request->streaming);
    if (request->head_only) return;
    mr_buf_reset(&gate->out);
    mr_http_put_chunk(&gate->out, bytes);
    out_send(request);
    if (request->quiet.set) gate_due_set(gate, GATE_DUE_QUIET, &request->quiet);
}

static void stream_left(struct gate_request *request)
{
    MR_ASSERT(request->streaming);
    request->streaming = false;
    request->gate->stats.streams_now--;
    gate_due_clear(request->gate, &request->quiet);
    if (request->ops != NULL && request->ops->gone != NULL) {
        /* Its work is over either way; whoever ends it from outside relies on this. */
        void (*gone)(struct gate_request *request_) = request->ops->gone;
        request->ops = NULL;
        gone(request);
    }
}

void gate_stream_end(struct gate_request *request)
{
    struct mr_gate *gate = request->gate;
    if (!request->head_only) {
        mr_buf_reset(&gate->out);
        mr_http_put_last_chunk(&gate->out);
        out_send(request);
    }
    stream_left(request);
    if (request->call_busy) {
        /* The answer is whole, the call is not back yet: it frees the request. */
        struct gate_conn *conn = request->conn;
        bool keep_alive = request->keep_alive;
        request->conn = NULL;
        gate_conn_answered(conn, keep_alive);
        return;
    }
    request_answered(request);
}

void gate_stream_problem(struct gate_request *request, const struct mr_problem *problem)
{
    struct mr_gate *gate = request->gate;
    mr_buf_reset(&gate->body);
    mr_openai_put_error(&gate->body, problem);
    mr_buf_reset(&gate->frame);
    mr_sse_put_data(&gate->frame, mr_buf_str(&gate->body));
    gate_stream_data(request, mr_buf_str(&gate->frame));
    gate_stream_end(request);
}

void gate_request_quiet_over(struct gate_due *due)
{
    struct gate_request *request =
        (struct gate_request *)(void *)((char *)due - offsetof(struct gate_request, quiet));
    gate_due_set(request->gate, GATE_DUE_QUIET, due);
    if (request->ops == NULL || request->ops->quiet == NULL) return;
    /* A client that takes nothing for this long holds a slot of a replica for nobody. */
    if (request->conn->full && request->conn->full_quiet++ > 0) {
        gate_conn_close(request->conn, true);
        return;
    }
    if (request->conn->full) return;
    request->conn->full_quiet = 0;
    request->gate->keep_alives++;
    request->ops->quiet(request);
}

/* --- calls ----------------------------------------------------------------------------------- */

static void call_returned(struct mr_ctl_call *call)
{
    struct gate_request *request = call->arg;
    struct mr_gate *gate = request->gate;
    gate_now(gate);
    gate->calls_busy--;
    request->call_busy = false;
    /* done may answer, which gives the request back: what the call owns is taken out before. */
    struct mr_buf out = call->out, out_text = call->out_text;
    if (request->conn == NULL) {
        request_free(request);
    } else {
        request->call_done(request);
    }
    mr_buf_done(&out);
    mr_buf_done(&out_text);
    gate_drain_check(gate);
}

struct mr_ctl_call *gate_call_init(struct gate_request *request, enum mr_ctl_op op)
{
    MR_ASSERT(!request->call_busy);
    request->call = (struct mr_ctl_call){
        .ctl = request->gate->ctl,
        .op = op,
        .reply_lane = request->gate->env->lane,
        .done = call_returned,
        .arg = request,
        .tenant = request->tenant,
        .admin = request->admin,
    };
    return &request->call;
}

void gate_call_send(struct gate_request *request, void (*done)(struct gate_request *request))
{
    struct mr_gate *gate = request->gate;
    MR_ASSERT(gate->ctl != NULL); /* nobody has a key before ctl published them */
    request->call_done = done;
    request->call_busy = true;
    gate->calls_busy++;
    mr_ctl_call(gate->env, &request->call);
}

struct mr_problem gate_call_problem(struct gate_request *request)
{
    const struct mr_ctl_call *call = &request->call;
    struct mr_problem problem = {.error = call->error};
    problem.text = mr_str_copy(&request->arena, call->problem);
    problem.param = mr_str_copy(&request->arena, call->problem_param);
    if (problem.text.n == 0) problem.text = mr_str_from(mr_error_text(call->error));
    return problem;
}
