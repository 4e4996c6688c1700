/* SPDX-License-Identifier: Apache-2.0 */
/* The wire to one replica: connect, hello, streams, and coming back after a loss.
 *
 * Owns:       the connection, the table of streams, and part of a frame.
 * Invariants: (1) live is the number of used streams; a stream is used from SUBMIT to END;
 *             (2) each chat that runs here is told of its END, or of the loss, once;
 *             (3) every END with a serial is metered, also of streams that nobody waits for.
 * Never:      a SUBMIT before HELLO said ready, or to a worker of another lease.
 * Cost:       O(bytes).
 * Idea:       docs/internals/gate.md   Tests: tests/unit/gate/test_gate_peer.c
 */
#include "gate_int.h"

static void peer_connect(struct gate_peer *peer);

/* --- life ------------------------------------------------------------------------------------ */

static uint64_t bit_free(const struct gate_service *service)
{
    uint64_t taken = 0;
    for (const struct gate_peer *p = service->peers; p != NULL; p = p->next)
        taken |= p->bit;
    return ~taken != 0 ? ~taken & (taken + 1) : 1;
}

struct gate_peer *gate_peer_new(struct gate_service *service, const struct mr_route_replica *from)
{
    struct gate_peer *peer = mr_alloc_zero(sizeof *peer);
    char *address = mr_alloc(from->address.n + 1);
    if (peer == NULL || address == NULL) {
        mr_free(peer);
        mr_free(address);
        return NULL;
    }
    memcpy(address, from->address.p, from->address.n);
    peer->gate = service->gate;
    peer->service = service;
    peer->lease = from->lease;
    peer->address = (struct mr_str){address, from->address.n};
    peer->backoff_us = GATE_BACKOFF_MIN_US;
    mr_buf_init(&peer->in, MR_WIRE_FRAME_BYTES_MAX + MR_WIRE_HEADER_BYTES);
    peer->bit = bit_free(service);
    peer->next = service->peers;
    service->peers = peer;
    peer_connect(peer);
    return peer;
}

void gate_peer_free(struct gate_peer *peer)
{
    static const struct mr_conn_handler nobody = {0};
    struct mr_gate *gate = peer->gate;
    struct gate_peer **at = &peer->service->peers;
    while (*at != peer)
        at = &(*at)->next;
    *at = peer->next;
    gate_prefix_forget(peer->service, peer->bit);
    gate->env->ops->timer_stop(gate->env, peer->timer);
    if (peer->conn != NULL) { /* only when the whole gate goes without a drain */
        gate->wire->ops->handle(peer->conn, &nobody, NULL);
        gate->wire->ops->close(peer->conn, true);
    }
    mr_buf_done(&peer->in);
    mr_free(peer->streams);
    mr_free((void *)(uintptr_t)peer->address.p);
    mr_free(peer);
}

void gate_peer_settle_down(struct gate_peer *peer)
{
    if (!peer->retired || peer->live > 0 || peer->metering > 0) return;
    if (peer->conn != NULL) {
        peer->gate->wire->ops->close(peer->conn, false);
    } else {
        gate_peer_free(peer);
    }
}

void gate_peer_retire(struct gate_peer *peer)
{
    peer->retired = true;
    gate_peer_settle_down(peer);
}

void gate_peers_close(struct mr_gate *gate)
{
    for (struct gate_service *s = gate->services; s != NULL; s = s->next) {
        for (struct gate_peer *p = s->peers; p != NULL; p = p->next) {
            gate->env->ops->timer_stop(gate->env, p->timer);
            p->timer = NULL;
            if (p->conn != NULL) gate->wire->ops->close(p->conn, false);
        }
    }
}

/* --- room ------------------------------------------------------------------------------------ */

uint32_t gate_peer_load(const struct gate_peer *peer)
{
    return peer->live + peer->elsewhere;
}

/* Each gate may fill its part of a replica whatever the others do there, and the rest when they
 * leave it: else one that asks a moment later would never get in. */
bool gate_peer_room(const struct gate_peer *peer)
{
    const struct mr_env *env = peer->gate->env;
    uint32_t gates = env->lane_count > 1 ? env->lane_count - 1 : 1;
    uint32_t part = MR_MAX(peer->slots / gates, 1u);
    if (!peer->open || !peer->ready || peer->retired || peer->clogged) return false;
    if (peer->gate->now_us < peer->refused_until_us) return false;
    if (peer->live >= MR_WIRE_STREAMS_MAX) return false;
    return peer->live < part || gate_peer_load(peer) < peer->slots;
}

static bool streams_grow(struct gate_peer *peer)
{
    uint32_t count = MR_MIN(MR_MAX(peer->stream_count * 2, 16u), MR_WIRE_STREAMS_MAX);
    struct gate_peer_stream *streams = mr_realloc(peer->streams, count * sizeof *streams);
    if (streams == NULL) return false;
    for (uint32_t i = count; i > peer->stream_count; i--) {
        streams[i - 1] = (struct gate_peer_stream){.next_free = peer->stream_free};
        peer->stream_free = i;
    }
    peer->streams = streams;
    peer->stream_count = count;
    return true;
}

static struct gate_peer_stream *stream_find(struct gate_peer *peer, uint32_t stream)
{
    if (stream == 0 || stream > peer->stream_count) return NULL;
    return peer->streams[stream - 1].used ? &peer->streams[stream - 1] : NULL;
}

static struct gate_chat *stream_free(struct gate_peer *peer, uint32_t stream)
{
    struct gate_peer_stream *s = &peer->streams[stream - 1];
    struct gate_chat *chat = s->chat;
    MR_INVARIANT(1, s->used && peer->live > 0);
    *s = (struct gate_peer_stream){.next_free = peer->stream_free};
    peer->stream_free = stream;
    peer->live--;
    return chat;
}

/* --- out ------------------------------------------------------------------------------------- */

static void peer_put(struct gate_peer *peer, const void *bytes, size_t n)
{
    if (peer->gate->wire->ops->send(peer->conn, bytes, n) > MR_CONN_WRITE_BYTES_HIGH) {
        peer->clogged = true;
    }
}

static void peer_lost(struct gate_peer *peer)
{
    peer->open = false;
    peer->ready = false;
    if (peer->conn != NULL) peer->gate->wire->ops->close(peer->conn, true);
}

void gate_peer_send(struct gate_peer *peer, const struct mr_wire_frame *frame)
{
    struct mr_gate *gate = peer->gate;
    if (!peer->open) return;
    mr_buf_reset(&gate->frame);
    mr_wire_put(&gate->frame, frame);
    if (!gate->frame.failed) {
        peer_put(peer, gate->frame.p, gate->frame.n);
    } else if (frame->type != MR_WIRE_SUBMIT) {
        /* Out of memory. A stream without its CREDIT or CANCEL would hang: the loss of the wire
         * ends all of them, and ENDs come again on the next one. */
        mr_buf_reset(&gate->frame);
        peer_lost(peer);
    }
}

static void watch_start(struct mr_gate *gate);

void gate_peer_submit(struct gate_peer *peer, struct gate_chat *chat)
{
    struct mr_gate *gate = peer->gate;
    const struct gate_request *request = chat->request;
    MR_ASSERT(gate_peer_room(peer));
    chat->peer = peer;
    if (peer->stream_free == 0 && !streams_grow(peer)) {
        struct mr_problem problem = gate_problem(MR_ENO_MEMORY, "out of memory; try again");
        chat->peer = NULL;
        chat->service->running--;
        chat->state = GATE_CHAT_NEW;
        gate_chat_fail(chat, &problem);
        return;
    }
    uint32_t stream = peer->stream_free;
    struct gate_peer_stream *s = &peer->streams[stream - 1];
    peer->stream_free = s->next_free;
    *s = (struct gate_peer_stream){.chat = chat, .used = true};
    /* One that had nothing to do had nothing to say: its silence counts from here. */
    if (peer->live++ == 0) peer->heard_us = gate->now_us;
    chat->stream = stream;
    chat->credit = chat->chat.stream ? GATE_CREDIT_WINDOW : GATE_CREDIT_ALL;
    if (chat->request->conn->full) chat->credit = 0; /* it drains before it is sent more */
    struct mr_wire_frame frame = {.type = MR_WIRE_SUBMIT, .stream = stream};
    frame.u.submit = (struct mr_wire_submit){
        .tenant = request->tenant.v,
        .credit = chat->credit,
        .priority = chat->priority,
        .chat = chat->chat,
        .resume = mr_buf_str(&request->text),
    };
    memcpy(&frame.u.submit.request_id_high, request->id_bytes, 8);
    memcpy(&frame.u.submit.request_id_low, request->id_bytes + 8, 8);
    uint32_t *max = &frame.u.submit.chat.sampling.max_tokens;
    MR_ASSERT(*max == 0 || *max > chat->tokens);
    if (*max > 0) *max -= chat->tokens;
    gate_peer_send(peer, &frame);
    if (gate->frame.failed) {
        struct mr_problem problem = gate_problem(MR_ETOO_LARGE, "the messages are too large");
        mr_buf_reset(&gate->frame);
        (void)stream_free(peer, stream); /* it is this chat */
        chat->peer = NULL;
        chat->service->running--;
        chat->state = GATE_CHAT_NEW;
        gate_chat_fail(chat, &problem);
        return;
    }
    watch_start(gate);
}

void gate_peer_credit(struct gate_peer *peer, uint32_t stream, uint32_t tokens)
{
    gate_peer_send(peer, &(struct mr_wire_frame){
                             .type = MR_WIRE_CREDIT, .stream = stream, .u.credit = tokens});
}

void gate_peer_cancel(struct gate_peer *peer, uint32_t stream)
{
    struct gate_peer_stream *s = stream_find(peer, stream);
    MR_ASSERT(s != NULL);
    s->chat = NULL;
#ifndef MR_PLANT_GATE_NO_CANCEL
    gate_peer_send(peer, &(struct mr_wire_frame){.type = MR_WIRE_CANCEL, .stream = stream});
#endif
}

/* --- in -------------------------------------------------------------------------------------- */

static void refusal_over(void *arg)
{
    struct gate_peer *peer = arg;
    peer->timer = NULL;
    gate_now(peer->gate);
    gate_service_dispatch(peer->service);
}

static void peer_refused(struct gate_peer *peer)
{
    struct mr_gate *gate = peer->gate;
    peer->refused_until_us = gate->now_us + GATE_REFUSED_US;
    if (peer->timer != NULL) return;
    if (gate->env->ops->timer_start(gate->env, peer->refused_until_us, refusal_over, peer,
                                    &peer->timer) != 0) {
        peer->refused_until_us = 0; /* nobody would wake the queue */
        peer->timer = NULL;
    }
}

static void peer_end(struct gate_peer *peer, uint32_t stream, const struct mr_wire_end *end)
{
    if (end->serial != 0) gate_meter_send(peer, end);
    if (stream == 0 || stream_find(peer, stream) == NULL) return; /* of an earlier connection */
    struct gate_chat *chat = stream_free(peer, stream);
    if (end->serial == 0 && end->finish == MR_FINISH_ERROR && mr_error_retryable(end->error)) {
        peer_refused(peer);
    }
    if (chat != NULL) gate_chat_end(chat, end);
    gate_service_dispatch(peer->service);
}

/* False: not our worker. */
static bool peer_hello(struct gate_peer *peer, const struct mr_wire_hello *hello)
{
    if (hello->lease != peer->lease.v) return false;
    peer->ready = hello->ready;
    peer->slots = MR_MIN(MR_MAX(hello->slots, 1u), MR_WIRE_STREAMS_MAX);
    peer->backoff_us = GATE_BACKOFF_MIN_US;
    if (peer->ready) gate_service_dispatch(peer->service);
    return true;
}

/* False: the peer does not speak our language. */
static bool peer_frame(struct gate_peer *peer, const struct mr_wire_frame *frame)
{
    switch (frame->type) {
    case MR_WIRE_HELLO:
        return peer_hello(peer, &frame->u.hello);
    case MR_WIRE_TOKENS: {
        struct gate_peer_stream *s = stream_find(peer, frame->stream);
        if (s != NULL && s->chat != NULL) {
            gate_chat_tokens(s->chat, frame->u.tokens.count, frame->u.tokens.text);
        }
        return true;
    }
    case MR_WIRE_END:
        peer_end(peer, frame->stream, &frame->u.end);
        return true;
    case MR_WIRE_STATS: {
        uint32_t there = frame->u.stats.running + frame->u.stats.waiting;
        uint32_t before = peer->elsewhere;
        peer->elsewhere = there > peer->live ? there - peer->live : 0;
        if (peer->elsewhere < before) gate_service_dispatch(peer->service);
        return true;
    }
    case MR_WIRE_PONG:
        return true;
    default:
        return false;
    }
}

/* Takes whole frames; returns the bytes used, or MR_E…. */
static int64_t frames_take(struct gate_peer *peer, struct mr_str bytes)
{
    struct mr_gate *gate = peer->gate;
    size_t taken = 0;
    while (peer->open) {
        struct mr_wire_frame frame;
        size_t used = 0;
        mr_arena_reset(&gate->scratch);
        int got = mr_wire_get((struct mr_str){bytes.p + taken, bytes.n - taken}, &gate->scratch,
                              &frame, &used);
        if (got < 0) return got;
        if (got == 0) break;
        taken += used;
        if (!peer_frame(peer, &frame)) return MR_ESYNTAX;
    }
    return (int64_t)taken;
}

static void peer_data(void *arg, const uint8_t *bytes, size_t n)
{
    struct gate_peer *peer = arg;
    if (!peer->open) return;
    gate_now(peer->gate);
    peer->heard_us = peer->gate->now_us;
    peer->pinged = false;
    struct mr_str all = {(const char *)bytes, n};
    if (peer->in.n > 0) {
        mr_buf_put(&peer->in, bytes, n);
        all = mr_buf_str(&peer->in);
    }
    int64_t taken = peer->in.failed ? MR_ETOO_LARGE : frames_take(peer, all);
    if (taken < 0) {
        peer_lost(peer); /* on_close tells the chats and comes back */
    } else if (peer->in.n > 0) {
        mr_buf_drop_front(&peer->in, (size_t)taken);
        if (peer->in.n == 0 && peer->in.capacity > GATE_POOL_BYTES_MAX) {
            mr_buf_done(&peer->in);
            mr_buf_init(&peer->in, MR_WIRE_FRAME_BYTES_MAX + MR_WIRE_HEADER_BYTES);
        }
    } else if ((size_t)taken < n) {
        mr_buf_put(&peer->in, bytes + taken, n - (size_t)taken);
    }
    if (taken >= 0) gate_peer_settle_down(peer);
}

static void peer_opened(void *arg, struct mr_conn *conn)
{
    struct gate_peer *peer = arg;
    (void)conn;
    gate_now(peer->gate);
    peer->open = true;
    peer->heard_us = peer->gate->now_us;
}

static void peer_drained(void *arg)
{
    struct gate_peer *peer = arg;
    gate_now(peer->gate);
    peer->clogged = false;
    gate_service_dispatch(peer->service);
}

static void peer_ended(void *arg)
{
    peer_lost(arg);
}

/* --- coming and going ------------------------------------------------------------------------ */

static void reconnect_time(void *arg)
{
    struct gate_peer *peer = arg;
    peer->timer = NULL;
    gate_now(peer->gate);
    peer_connect(peer);
}

static void reconnect_later(struct gate_peer *peer)
{
    struct mr_gate *gate = peer->gate;
    gate->env->ops->timer_stop(gate->env, peer->timer);
    peer->timer = NULL;
    /* Without memory for a timer it stays away until the next routes. */
    if (gate->env->ops->timer_start(gate->env, gate->now_us + peer->backoff_us, reconnect_time,
                                    peer, &peer->timer) != 0) {
        peer->timer = NULL;
    }
    peer->backoff_us = MR_MIN(peer->backoff_us * 2, (uint64_t)GATE_BACKOFF_MAX_US);
}

void gate_peer_wake(struct gate_peer *peer)
{
    if (peer->conn == NULL && peer->timer == NULL && !peer->retired) peer_connect(peer);
}

static void peer_closed(void *arg, int error)
{
    struct gate_peer *peer = arg;
    struct mr_gate *gate = peer->gate;
    (void)error; /* that it is gone is all that matters */
    gate_now(gate);
    gate->peers_open--;
    peer->conn = NULL;
    peer->open = false;
    peer->ready = false;
    peer->clogged = false;
    peer->pinged = false;
    peer->elsewhere = 0;
    mr_buf_reset(&peer->in);
    for (uint32_t stream = 1; stream <= peer->stream_count; stream++) {
        if (!peer->streams[stream - 1].used) continue;
        struct gate_chat *chat = stream_free(peer, stream);
        if (chat != NULL) gate_chat_orphaned(chat);
    }
    MR_INVARIANT(1, peer->live == 0);
    if (peer->retired) {
        gate_peer_settle_down(peer);
    } else if (!gate->draining || gate->conns != NULL) {
        reconnect_later(peer);
    }
    gate_drain_check(gate);
}

static const struct mr_conn_handler peer_handler = {
    .on_open = peer_opened,
    .on_data = peer_data,
    .on_drain = peer_drained,
    .on_end = peer_ended,
    .on_close = peer_closed,
};

static void peer_connect(struct gate_peer *peer)
{
    struct mr_gate *gate = peer->gate;
    int error =
        gate->wire->ops->connect(gate->wire, peer->address, &peer_handler, peer, &peer->conn);
    if (error == 0) {
        gate->peers_open++;
    } else {
        peer->conn = NULL;
        reconnect_later(peer);
    }
}

/* --- silence --------------------------------------------------------------------------------- */

static void watch_time(void *arg)
{
    struct mr_gate *gate = arg;
    gate->watch_timer = NULL;
    gate_now(gate);
    gate_peers_watch(gate);
}

static void watch_start(struct mr_gate *gate)
{
    if (gate->watch_timer != NULL) return;
    if (gate->env->ops->timer_start(gate->env, gate->now_us + GATE_WATCH_US, watch_time, gate,
                                    &gate->watch_timer) != 0) {
        gate->watch_timer = NULL; /* the next SUBMIT tries again */
    }
}

/* A worker that hangs holds its chats for ever: one that says nothing is asked, one that does not
 * answer is given up. */
void gate_peers_watch(struct mr_gate *gate)
{
    bool any = false;
    for (struct gate_service *s = gate->services; s != NULL; s = s->next) {
        for (struct gate_peer *p = s->peers; p != NULL; p = p->next) {
            if (!p->open || p->live == 0) continue;
            any = true;
            uint64_t silent_us = gate->now_us - p->heard_us;
            if (silent_us >= GATE_SILENT_DEAD_US && p->pinged) {
                peer_lost(p);
            } else if (silent_us >= GATE_SILENT_PING_US && !p->pinged) {
                p->pinged = true;
                gate_peer_send(p, &(struct mr_wire_frame){.type = MR_WIRE_PING});
            }
        }
    }
    if (any) watch_start(gate);
}
