/* SPDX-License-Identifier: Apache-2.0 */
/* A simulated inference worker: speaks the worker wire, decodes a known text, keeps its meter.
 *
 * The answer to prompt p is the words word(p, 0), word(p, 1), …: a caller can tell a lost, a
 * repeated and a foreign token.
 *
 * Owns:       its requests and what was not settled; it lives as long as the world, since its meter
 *             file is read after its end.
 * Invariants: (1) each accepted SUBMIT gets one serial and one END; (2) an END is kept until
 * SETTLED; (3) no token is sent without credit.
 */
#include "sim/sim_int.h"

#include <stdio.h>

#define CONNS_MAX     8u
#define REQUESTS_MAX  64u
#define SLOTS         4u
#define PROMPT_TOKENS 5u

struct sim_request {
    bool used, ended, cancelled;
    int conn; /* -1: its connection is gone */
    uint32_t stream, tenant, prompt, first, max, made;
    int64_t credit;
    uint64_t serial;
    struct mr_wire_end end;
};
struct sim_worker {
    struct sim *sim;
    uint64_t lease;
    bool dead, ticking;
    uint64_t serial;
    struct mr_conn *conns[CONNS_MAX];
    struct mr_buf inboxes[CONNS_MAX];
    struct sim_request requests[REQUESTS_MAX];
};
struct sim_port { /* a connection's argument */
    struct sim_worker *worker;
    int index;
};

uint32_t sim_word(char ret[16], uint32_t prompt, uint32_t n)
{
    uint32_t value = (uint32_t)(mr_hash_mix(((uint64_t)prompt << 32) + n + 1) % 100000u);
    return (uint32_t)snprintf(ret, 16, "w%u ", value);
}

/* --- sending ---------------------------------------------------------------------------------- */

static void send_frame(struct sim_worker *worker, int conn, const struct mr_wire_frame *frame)
{
    struct mr_buf buf;
    if (conn < 0 || worker->conns[conn] == NULL || worker->dead) return;
    mr_buf_init(&buf, MR_WIRE_FRAME_BYTES_MAX);
    mr_wire_put(&buf, frame);
    MR_ASSERT(!buf.failed);
    (void)sim_conn_send(worker->conns[conn], buf.p, buf.n); /* the inbox is the only queue */
    mr_buf_done(&buf);
}

static void hello(struct sim_worker *worker, int conn)
{
    struct mr_wire_frame frame = {.type = MR_WIRE_HELLO,
                                  .u.hello = {.lease = worker->lease,
                                              .ready = true,
                                              .load_permille = 1000,
                                              .slots = SLOTS,
                                              .context_tokens = 4096,
                                              .model = MR_STR("sim"),
                                              .engine = MR_STR("simulated")}};
    send_frame(worker, conn, &frame);
}

static void send_end(struct sim_worker *worker, int conn, uint32_t stream,
                     const struct mr_wire_end *end)
{
    struct mr_wire_frame frame = {.type = MR_WIRE_END, .stream = stream, .u.end = *end};
    send_frame(worker, conn, &frame);
}

static void request_end(struct sim_worker *worker, struct sim_request *r, enum mr_finish finish)
{
    r->ended = true;
    r->end = (struct mr_wire_end){
        .serial = r->serial,
        .tenant = r->tenant,
        .finish = finish,
        .usage = {.prompt_tokens = PROMPT_TOKENS, .completion_tokens = r->made}};
    worker->sim->decoded_tokens += r->made;
    send_end(worker, r->conn, r->stream, &r->end);
}

/* --- decoding --------------------------------------------------------------------------------- */

static void tick(void *arg);

static void tick_later(struct sim_worker *worker)
{
    if (worker->ticking || worker->dead) return;
    worker->ticking = true;
    sim_in_world(worker->sim, sim_draw(worker->sim, 500, 5000), tick, worker);
}

static void tick(void *arg)
{
    struct sim_worker *worker = arg;
    bool more = false;
    worker->ticking = false;
    if (worker->dead) return;
    for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
        struct sim_request *r = &worker->requests[i];
        char word[16];
        if (!r->used || r->ended || r->credit <= 0) continue;
        uint32_t n = sim_word(word, r->prompt, r->first + r->made);
        struct mr_wire_frame frame = {.type = MR_WIRE_TOKENS,
                                      .stream = r->stream,
                                      .u.tokens = {.count = 1, .text = {word, n}}};
        r->made++;
        r->credit--;
        send_frame(worker, r->conn, &frame);
        if (r->made >= r->max) request_end(worker, r, MR_FINISH_LENGTH);
        more = more || (!r->ended && r->credit > 0);
    }
    if (more) tick_later(worker);
}

/* --- what gates say --------------------------------------------------------------------------- */

static uint32_t count_words(struct mr_str text)
{
    uint32_t n = 0;
    for (size_t i = 0; i < text.n; i++)
        n += text.p[i] == ' ';
    return n;
}

static uint32_t prompt_of(const struct mr_chat *chat)
{
    struct mr_str text = chat->messages[chat->message_count - 1].content;
    uint64_t value = 0;
    if (text.n < 2) return 0;
    text.p++;
    text.n--;
    return mr_str_to_u64(text, &value) == 0 ? (uint32_t)value : 0;
}

static void on_submit(struct sim_worker *worker, int conn, uint32_t stream,
                      const struct mr_wire_submit *submit)
{
    struct sim_request *r = NULL;
    for (uint32_t i = 0; i < REQUESTS_MAX && r == NULL; i++) {
        if (!worker->requests[i].used) r = &worker->requests[i];
    }
    if (r == NULL) {
        struct mr_wire_end end = {.tenant = submit->tenant,
                                  .finish = MR_FINISH_ERROR,
                                  .error = MR_ELIMIT,
                                  .text = MR_STR("too many requests")};
        send_end(worker, conn, stream, &end);
        return;
    }
    *r = (struct sim_request){.used = true,
                              .conn = conn,
                              .stream = stream,
                              .tenant = submit->tenant,
                              .prompt = prompt_of(&submit->chat),
                              .first = count_words(submit->resume),
                              .max = submit->chat.sampling.max_tokens,
                              .credit = submit->credit,
                              .serial = ++worker->serial};
    if (r->max == 0) {
        sim_verdict(worker->sim, MR_SIM_WRONG, "a replica was asked for no token");
        r->max = 1;
    }
    tick_later(worker);
}

static struct sim_request *request_of(struct sim_worker *worker, int conn, uint32_t stream)
{
    for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
        struct sim_request *r = &worker->requests[i];
        if (r->used && !r->ended && r->conn == conn && r->stream == stream) return r;
    }
    return NULL;
}

static void on_frame(struct sim_worker *worker, int conn, const struct mr_wire_frame *frame)
{
    struct sim_request *r = request_of(worker, conn, frame->stream);
    struct mr_wire_frame pong = {.type = MR_WIRE_PONG, .stream = frame->stream};
    switch (frame->type) {
    case MR_WIRE_SUBMIT:
        on_submit(worker, conn, frame->stream, &frame->u.submit);
        break;
    case MR_WIRE_CREDIT:
        if (r != NULL) r->credit += frame->u.credit;
        tick_later(worker);
        break;
    case MR_WIRE_CANCEL:
        if (r != NULL) request_end(worker, r, MR_FINISH_CANCELLED);
        break;
    case MR_WIRE_SETTLED:
        for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
            struct sim_request *one = &worker->requests[i];
            if (one->used && one->ended && one->serial == frame->u.serial) one->used = false;
        }
        break;
    case MR_WIRE_PING:
        send_frame(worker, conn, &pong);
        break;
    default:
        sim_verdict(worker->sim, MR_SIM_WRONG, "a gate sent frame type %d", (int)frame->type);
    }
}

/* --- connections ------------------------------------------------------------------------------ */

static void on_data(void *arg, const uint8_t *bytes, size_t n)
{
    struct sim_port *port = arg;
    struct sim_worker *worker = port->worker;
    struct mr_buf *inbox = &worker->inboxes[port->index];
    struct mr_arena arena;
    size_t used = 0;
    mr_buf_put(inbox, bytes, n);
    for (;;) {
        struct mr_wire_frame frame;
        mr_arena_init(&arena, MR_WIRE_FRAME_BYTES_MAX);
        int got = mr_wire_get(mr_buf_str(inbox), &arena, &frame, &used);
        if (got == 1) on_frame(worker, port->index, &frame);
        if (got < 0) {
            sim_verdict(worker->sim, MR_SIM_WRONG, "a gate sent what is no frame: %s",
                        mr_error_text(got));
        }
        mr_arena_done(&arena);
        if (got != 1) return;
        mr_buf_drop_front(inbox, used);
    }
}

/* Ends whose connection is gone, on that one. */
static void orphans_send(struct sim_worker *worker, int index)
{
    for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
        struct sim_request *r = &worker->requests[i];
        if (!r->used || !r->ended || r->conn >= 0) continue;
        r->conn = index;
        r->stream = 0;
        send_end(worker, index, 0, &r->end);
    }
}

static void conn_gone(struct sim_port *port)
{
    struct sim_worker *worker = port->worker;
    worker->conns[port->index] = NULL;
    for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
        struct sim_request *r = &worker->requests[i];
        if (!r->used || r->conn != port->index) continue;
        r->conn = -1;
        if (!r->ended) request_end(worker, r, MR_FINISH_CANCELLED);
    }
    mr_buf_reset(&worker->inboxes[port->index]);
    /* The daemon's next life may have connected before the end of its last was seen. */
    int other = 0;
    while (other < (int)CONNS_MAX && worker->conns[other] == NULL)
        other++;
    if (!worker->dead && other < (int)CONNS_MAX) orphans_send(worker, other);
}

static void on_end(void *arg)
{
    struct sim_port *port = arg;
    struct mr_conn *conn = port->worker->conns[port->index];
    if (conn != NULL) sim_conn_close(conn, false);
}

static void on_close(void *arg, int error)
{
    (void)error;
    conn_gone(arg);
    mr_free(arg);
}

static const struct mr_conn_handler handler = {
    .on_data = on_data, .on_end = on_end, .on_close = on_close};

static const struct mr_conn_handler deaf = {0};

void sim_worker_accept(struct sim_worker *worker, struct mr_conn *conn)
{
    int index = -1;
    for (int i = 0; i < (int)CONNS_MAX && index < 0; i++) {
        if (worker->conns[i] == NULL) index = i;
    }
    struct sim_port *port = index >= 0 ? mr_alloc_zero(sizeof *port) : NULL;
    if (port == NULL) {
        sim_conn_handle(conn, &deaf, NULL);
        sim_conn_close(conn, true);
        return;
    }
    *port = (struct sim_port){.worker = worker, .index = index};
    worker->conns[index] = conn;
    sim_conn_handle(conn, &handler, port);
    hello(worker, index);
    orphans_send(worker, index);
}

struct sim_worker *sim_worker_new(struct sim *sim, struct sim_lease *lease)
{
    struct sim_worker *worker = mr_alloc_zero(sizeof *worker);
    MR_ASSERT(worker != NULL);
    worker->sim = sim;
    worker->lease = lease->id;
    for (uint32_t i = 0; i < CONNS_MAX; i++)
        mr_buf_init(&worker->inboxes[i], 2 * MR_WIRE_FRAME_BYTES_MAX);
    return worker;
}

/* What its meter file holds is reported as the engine does; the process and its sockets are gone.
 */
void sim_worker_end(struct sim_worker *worker)
{
    struct sim_lease *lease = sim_lease_get(worker->sim, worker->lease);
    for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
        struct sim_request *r = &worker->requests[i];
        if (r->used && !r->ended) request_end(worker, r, MR_FINISH_CANCELLED);
        if (r->used) sim_report_meter(worker->sim, lease, r->serial, r->tenant, &r->end.usage);
    }
    if (worker->dead) return;
    worker->dead = true;
    for (uint32_t i = 0; i < CONNS_MAX; i++) {
        if (worker->conns[i] != NULL) sim_conn_cut(worker->conns[i]);
    }
}

uint32_t sim_worker_unsettled(const struct sim_worker *worker)
{
    uint32_t n = 0, conns = 0;
    for (uint32_t i = 0; i < CONNS_MAX; i++)
        conns += worker->conns[i] != NULL;
    for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
        const struct sim_request *r = &worker->requests[i];
        n += r->used;
        if (r->used) {
            sim_say(worker->sim,
                    "lease %llu: serial %llu is not settled: %s, stream %u, connection %d of %u, "
                    "made %u of %u, credit %lld",
                    (unsigned long long)worker->lease, (unsigned long long)r->serial,
                    r->ended ? "ended" : "runs", r->stream, r->conn, conns, r->made, r->max,
                    (long long)r->credit);
        }
    }
    return n;
}
