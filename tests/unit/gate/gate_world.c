/* SPDX-License-Identifier: Apache-2.0 */
/* The world of gate_world.h.
 *
 * Owns:       all of it.
 * Invariants: (1) a connection gets on_close once; (2) no call of the gate uses one after that;
 *             (3) at the end no timer, call, connection or reference is left.
 */
#include "gate_world.h"

#include <stdio.h>
#include <stdlib.h>

struct mr_timer {
    struct mr_timer *next;
    uint64_t at_us;
    void (*fn)(void *arg);
    void *arg;
};
struct world_routes {
    struct mr_routes routes;
    struct mr_route_key keys[3];
    struct mr_route_model models[WORLD_MODELS_MAX];
    struct mr_route_replica replicas[WORLD_MODELS_MAX][WORLD_WORKERS_MAX];
    uint32_t refs;
};
struct world_item {
    struct mr_feed_item item;
    uint32_t refs;
    struct world *world;
    char event[32], json[512];
};

static void need(bool condition, const char *what)
{
    if (!condition) {
        (void)fprintf(stderr, "gate_world: %s\n", what);
        abort();
    }
}

/* --- faults ---------------------------------------------------------------------------------- */

/* Depth of the world's own work inside calls of the gate: only what the gate does is to fail. */
static struct {
    uint64_t nth, seen;
    bool for_ever, hit, inside; /* inside: the gate runs */
} faults;

static bool fault_now(void)
{
    if (faults.nth == 0 || !faults.inside) return false;
    faults.seen++;
    bool fails = faults.for_ever ? faults.seen >= faults.nth : faults.seen == faults.nth;
    faults.hit |= fails;
    return fails;
}
static void *fault_realloc(void *context, void *p, size_t n)
{
    (void)context;
    if (n == 0) {
        free(p);
        return NULL;
    }
    return fault_now() ? NULL : realloc(p, n);
}
void world_faults_set(uint64_t nth, bool for_ever)
{
    static const struct mr_allocator failing = {fault_realloc, NULL};
    mr_allocator_set(&failing);
    faults.nth = nth;
    faults.seen = 0;
    faults.for_ever = for_ever;
    faults.hit = false;
}
bool world_faults_done(void)
{
    return faults.hit;
}
/* The gate is entered or left; returns what was before. */
static bool gate_enter(bool inside)
{
    bool before = faults.inside;
    faults.inside = inside;
    return before;
}
static void gate_leave(bool *before)
{
    faults.inside = *before;
}
#define IN_GATE  mr_cleanup(gate_leave) bool gate_before __attribute__((unused)) = gate_enter(true)
#define IN_WORLD mr_cleanup(gate_leave) bool gate_before __attribute__((unused)) = gate_enter(false)

/* --- env ------------------------------------------------------------------------------------- */

static struct world *world_of(struct mr_env *env)
{
    return (struct world *)(void *)((char *)env - offsetof(struct world, env));
}
static uint64_t env_now_us(struct mr_env *env)
{
    return world_of(env)->now_us;
}
static void env_random(struct mr_env *env, uint8_t ret[16])
{
    uint64_t words[2];
    words[0] = mr_hash_mix(++world_of(env)->randoms);
    words[1] = mr_hash_mix(words[0]);
    memcpy(ret, words, 16);
}
static int env_timer_start(struct mr_env *env, uint64_t at_us, void (*fn)(void *arg), void *arg,
                           struct mr_timer **ret_timer)
{
    struct world *w = world_of(env);
    if (fault_now()) return MR_ENO_MEMORY;
    struct mr_timer *timer = malloc(sizeof *timer);
    *timer = (struct mr_timer){w->timers, at_us, fn, arg};
    w->timers = timer;
    *ret_timer = timer;
    return 0;
}
static void env_timer_stop(struct mr_env *env, struct mr_timer *timer)
{
    if (timer == NULL) return;
    struct mr_timer **at = &world_of(env)->timers;
    while (*at != NULL && *at != timer)
        at = &(*at)->next;
    need(*at == timer, "a timer is stopped that is none");
    *at = timer->next;
    free(timer);
}
static void env_post(struct mr_env *env, uint32_t lane, struct mr_post *post)
{
    struct world *w = world_of(env);
    need(lane == 1, "only lane 1 is here");
    post->next = NULL;
    if (w->posts == NULL) w->posts = post;
    if (w->posts_last != NULL) w->posts_last->next = post;
    w->posts_last = post;
}
static const struct mr_env_ops env_ops = {.now_us = env_now_us,
                                          .random = env_random,
                                          .timer_start = env_timer_start,
                                          .timer_stop = env_timer_stop,
                                          .post = env_post};

/* --- wire ------------------------------------------------------------------------------------ */

static struct mr_conn *conn_new(struct world *w)
{
    struct mr_conn *conn = calloc(1, sizeof *conn);
    conn->world = w;
    mr_buf_init(&conn->to_gate, 256u << 20);
    mr_buf_init(&conn->from_gate, 256u << 20);
    mr_buf_init(&conn->queued, 256u << 20);
    struct mr_conn **at = &w->conns; /* the oldest first: what is delivered first */
    while (*at != NULL)
        at = &(*at)->next;
    *at = conn;
    return conn;
}
static void conn_forget(struct mr_conn *conn)
{
    struct mr_conn **at = &conn->world->conns;
    while (*at != conn)
        at = &(*at)->next;
    *at = conn->next;
    mr_buf_done(&conn->to_gate);
    mr_buf_done(&conn->from_gate);
    mr_buf_done(&conn->queued);
    free(conn);
}
static int wire_connect(struct mr_wire *wire, struct mr_str address,
                        const struct mr_conn_handler *handler, void *arg, struct mr_conn **ret_conn)
{
    struct world *w = (struct world *)(void *)((char *)wire - offsetof(struct world, wire));
    if (fault_now()) return MR_ENO_MEMORY;
    IN_WORLD;
    struct mr_conn *conn = conn_new(w);
    conn->handler = handler;
    conn->arg = arg;
    conn->opening = true;
    for (size_t i = 0; i < WORLD_WORKERS_MAX; i++) {
        if (mr_str_equal(mr_str_from(w->workers[i].address), address))
            conn->worker = &w->workers[i];
    }
    if (conn->worker == NULL || conn->worker->refuses) conn->far_gone = true;
    *ret_conn = conn;
    return 0;
}
static void wire_handle(struct mr_conn *conn, const struct mr_conn_handler *handler, void *arg)
{
    need(!conn->closed, "handle after on_close");
    conn->handler = handler;
    conn->arg = arg;
}
static size_t wire_send(struct mr_conn *conn, const void *bytes, size_t n)
{
    IN_WORLD;
    need(!conn->closed, "send after on_close");
    need(!conn->closing, "send after close");
    need(conn->world->gate == NULL || conn->handler != NULL, "send without a handler");
    mr_buf_put(conn->stalled ? &conn->queued : &conn->from_gate, bytes, n);
    if (conn->queued.n > MR_CONN_WRITE_BYTES_HIGH) conn->above_high = true;
    return conn->queued.n;
}
static void wire_read_pause(struct mr_conn *conn, bool paused)
{
    need(!conn->closed, "read_pause after on_close");
    conn->paused = paused;
}
static void wire_close(struct mr_conn *conn, bool now)
{
    need(!conn->closed, "close after on_close");
    conn->dropped |= now;
    conn->closing = true;
}
static const struct mr_wire_ops wire_ops = {wire_connect, wire_handle, wire_send, wire_read_pause,
                                            wire_close};

/* --- ctl ------------------------------------------------------------------------------------- */

void mr_routes_ref(const struct mr_routes *routes)
{
    ((struct world_routes *)(uintptr_t)routes)->refs++;
}
void mr_routes_unref(const struct mr_routes *routes)
{
    struct world_routes *r = (struct world_routes *)(uintptr_t)routes;
    if (r != NULL && --r->refs == 0) free(r);
}
void mr_feed_item_ref(const struct mr_feed_item *item)
{
    ((struct world_item *)(uintptr_t)item)->refs++;
}
void mr_feed_item_unref(const struct mr_feed_item *item)
{
    struct world_item *i = (struct world_item *)(uintptr_t)item;
    if (i != NULL && --i->refs == 0) {
        i->world->feed_live--;
        free(i);
    }
}

static void call_post(struct mr_post *post)
{
    struct mr_ctl_call *call = (struct mr_ctl_call *)(void *)post;
    IN_GATE;
    call->done(call);
}
static void call_finish(struct world *w, struct mr_ctl_call *call, int error, const char *out)
{
    mr_buf_init(&call->out, 64u << 20);
    mr_buf_init(&call->out_text, 1u << 20);
    call->error = error;
    if (error == 0 && out != NULL) mr_buf_put_str(&call->out, mr_str_from(out));
    if (error != 0) mr_buf_printf(&call->out_text, "ctl says %s", mr_error_name(error));
    if (error != 0) call->problem = mr_buf_str(&call->out_text);
    call->post.fn = call_post;
    env_post(&w->env, call->reply_lane, &call->post);
}
static void copy_text(char *to, size_t n, struct mr_str from)
{
    size_t count = MR_MIN(from.n, n - 1);
    if (count > 0) memcpy(to, from.p, count);
    to[count] = 0;
}
static void call_file(struct world *w, struct mr_ctl_call *call)
{
    size_t all = strlen(w->file);
    mr_buf_init(&call->out, 64u << 20);
    mr_buf_init(&call->out_text, 1u << 20);
    if (call->offset < all) {
        mr_buf_put(&call->out, w->file + call->offset, MR_MIN(all - call->offset, call->limit));
    }
    call->post.fn = call_post;
    env_post(&w->env, call->reply_lane, &call->post);
}
void mr_ctl_call(struct mr_env *from, struct mr_ctl_call *call)
{
    IN_WORLD;
    struct world *w = world_of(from);
    w->calls[call->op]++;
    need(call->reply_lane == 1 && call->done != NULL && call->ctl != NULL, "a call is half filled");
    if (call->op == MR_CTL_LOAD) {
        w->last_load = call->load;
    } else if (call->op == MR_CTL_METER) {
        if (w->error[MR_CTL_METER] == 0 && !w->hold[MR_CTL_METER]) {
            w->metered++;
            w->metered_tokens += call->meter.completion_tokens;
        }
    } else {
        w->last = *call;
        copy_text(w->last_body, sizeof w->last_body, call->body);
        copy_text(w->last_query, sizeof w->last_query, call->query);
        copy_text(w->last_name, sizeof w->last_name, call->name);
        memset(w->last_key, 0, sizeof w->last_key);
        memcpy(w->last_key, call->key.p != NULL ? call->key.p : "", call->key.n);
    }
    if (w->hold[call->op]) {
        need(w->held_count < WORLD_CALLS_MAX, "too many calls");
        w->held[w->held_count++] = call;
    } else if (call->op == MR_CTL_FILE && w->file != NULL && w->error[MR_CTL_FILE] == 0) {
        call_file(w, call);
    } else {
        call_finish(w, call, w->error[call->op], w->out[call->op]);
    }
}
void world_answer(struct world *w, int error, const char *out)
{
    need(w->held_count > 0, "no call is held");
    struct mr_ctl_call *call = w->held[0];
    memmove(w->held, w->held + 1, --w->held_count * sizeof(struct mr_ctl_call *));
    call_finish(w, call, error, out);
    world_run(w);
}

/* --- workers --------------------------------------------------------------------------------- */

void worker_say(struct worker *worker, const struct mr_wire_frame *frame)
{
    need(worker->conn != NULL, "the worker is not connected");
    mr_wire_put(&worker->conn->to_gate, frame);
}
void worker_hello(struct worker *worker, bool ready)
{
    worker_say(worker, &(struct mr_wire_frame){.type = MR_WIRE_HELLO,
                                               .u.hello = {.lease = worker->lease.v,
                                                           .ready = ready,
                                                           .slots = worker->slots,
                                                           .context_tokens = 2048,
                                                           .model = MR_STR("tiny")}});
}
void worker_tokens(struct worker *worker, uint32_t stream, uint32_t count, const char *text)
{
    struct worker_stream *s = &worker->streams[stream];
    need(s->used, "tokens of a stream that is none");
    need(s->credit >= count, "the script sends more than it may");
    s->credit -= count;
    s->sent += count;
    worker->decoded_tokens += count;
    worker_say(worker, &(struct mr_wire_frame){.type = MR_WIRE_TOKENS,
                                               .stream = stream,
                                               .u.tokens = {count, mr_str_from(text)}});
}
void worker_end(struct worker *worker, uint32_t stream, enum mr_finish finish, int error,
                const char *text)
{
    struct worker_stream *s = &worker->streams[stream];
    need(s->used, "END of a stream that is none");
    s->used = false;
    uint64_t serial = ++worker->serial;
    need(worker->unsettled_count < WORLD_ENDS_MAX, "too many ENDs");
    worker->unsettled[worker->unsettled_count++] = serial;
    worker->billed_tokens += s->sent;
    worker_say(worker,
               &(struct mr_wire_frame){
                   .type = MR_WIRE_END,
                   .stream = stream,
                   .u.end = {.serial = serial,
                             .tenant = s->tenant,
                             .finish = finish,
                             .usage = {10 + (uint32_t)text_count(s->resume, " "), 4, s->sent},
                             .error = error,
                             .text = mr_str_from(text)}});
}
static void worker_work(struct worker *worker, uint32_t stream)
{
    struct worker_stream *s = &worker->streams[stream];
    while (worker->automatic && s->used && s->credit > 0) {
        const char *word = worker->reply + s->at;
        if (*word == 0 || (s->max_tokens > 0 && s->sent >= s->max_tokens)) {
            worker_end(worker, stream, *word == 0 ? MR_FINISH_STOP : MR_FINISH_LENGTH, 0, "");
            return;
        }
        size_t n = strcspn(word, " ");
        if (word[n] == ' ') n++;
        char token[256];
        copy_text(token, sizeof token, (struct mr_str){word, n});
        s->at += n;
        worker_tokens(worker, stream, 1, token);
    }
}
static void worker_submit(struct worker *worker, const struct mr_wire_frame *frame)
{
    const struct mr_wire_submit *submit = &frame->u.submit;
    struct worker_stream *s = &worker->streams[frame->stream];
    need(frame->stream > 0 && frame->stream <= WORLD_STREAMS_MAX && !s->used,
         "SUBMIT on a stream that is live");
    need(!worker->not_ready, "SUBMIT before the worker was ready");
    *s = (struct worker_stream){.used = true,
                                .tenant = submit->tenant,
                                .credit = submit->credit,
                                .priority = submit->priority,
                                .max_tokens = submit->chat.sampling.max_tokens};
    copy_text(s->resume, sizeof s->resume, submit->resume);
    /* Goes on behind what was said, which a wild worker may have made longer than the reply. */
    s->at = MR_MIN(submit->resume.n, strlen(worker->reply));
    if (worker->submits < MR_COUNT_OF(worker->order)) {
        worker->order[worker->submits] = submit->tenant;
    }
    worker->submits++;
    if (worker->on_submit != NULL) worker->on_submit(worker, frame->stream, submit);
    worker_work(worker, frame->stream);
}
static void worker_take(struct worker *worker, const struct mr_wire_frame *frame)
{
    struct worker_stream *s =
        &worker->streams[frame->stream <= WORLD_STREAMS_MAX ? frame->stream : 0];
    switch (frame->type) {
    case MR_WIRE_SUBMIT:
        worker_submit(worker, frame);
        break;
    case MR_WIRE_CREDIT:
        worker->credits++;
        if (!s->used) break; /* its END is on its way */
        s->credit += frame->u.credit;
        worker_work(worker, frame->stream);
        break;
    case MR_WIRE_CANCEL:
        worker->cancels++;
        if (s->used) worker_end(worker, frame->stream, MR_FINISH_CANCELLED, 0, "");
        break;
    case MR_WIRE_SETTLED:
        if (worker->settled_count < WORLD_ENDS_MAX) {
            worker->settled[worker->settled_count++] = frame->u.serial;
        }
        for (uint32_t i = 0; i < worker->unsettled_count; i++) {
            if (worker->unsettled[i] != frame->u.serial) continue;
            worker->unsettled[i] = worker->unsettled[--worker->unsettled_count];
        }
        break;
    case MR_WIRE_PING:
        worker->pings++;
        if (!worker->deaf) worker_say(worker, &(struct mr_wire_frame){.type = MR_WIRE_PONG});
        break;
    default:
        need(false, "a gate does not send this");
    }
}
static bool worker_read(struct mr_conn *conn)
{
    struct worker *worker = conn->worker;
    struct mr_arena arena;
    bool any = false;
    mr_arena_init(&arena, 64u << 20);
    while (worker->decoded < conn->from_gate.n) {
        struct mr_wire_frame frame;
        size_t used;
        struct mr_str all = mr_buf_str(&conn->from_gate);
        struct mr_str rest = {all.p + worker->decoded, all.n - worker->decoded};
        int got = mr_wire_get(rest, &arena, &frame, &used);
        need(got >= 0, "the gate sends frames that cannot be read");
        if (got == 0) break;
        worker->decoded += used;
        worker_take(worker, &frame);
        any = true;
    }
    mr_arena_done(&arena);
    return any;
}
void worker_die(struct worker *worker)
{
    worker->refuses = true;
    if (worker->conn != NULL) worker->conn->far_gone = true;
    memset(worker->streams, 0, sizeof worker->streams);
}
uint32_t worker_live(const struct worker *worker)
{
    uint32_t live = 0;
    for (size_t i = 0; i <= WORLD_STREAMS_MAX; i++)
        live += worker->streams[i].used;
    return live;
}

/* --- running --------------------------------------------------------------------------------- */

static void conn_close_deliver(struct mr_conn *conn)
{
    struct worker *worker = conn->worker;
    need(!conn->closed, "on_close twice");
    conn->closed = true;
    if (worker != NULL && worker->conn == conn) {
        worker->conn = NULL;
        memset(worker->streams, 0, sizeof worker->streams);
    }
    if (conn->handler != NULL && conn->handler->on_close != NULL) {
        IN_GATE;
        conn->handler->on_close(conn->arg, conn->closing ? 0 : MR_ECLOSED);
    }
    if (worker != NULL) conn_forget(conn);
}

static void conn_opened(struct mr_conn *conn)
{
    struct worker *worker = conn->worker;
    conn->opening = false;
    worker->conn = conn;
    worker->decoded = 0;
    if (!worker->silent) worker_hello(worker, !worker->not_ready);
    for (uint32_t i = 0; i < worker->unsettled_count; i++) {
        worker_say(worker, &(struct mr_wire_frame){.type = MR_WIRE_END,
                                                   .u.end = {.serial = worker->unsettled[i],
                                                             .tenant = 2,
                                                             .finish = MR_FINISH_CANCELLED}});
    }
    IN_GATE;
    conn->handler->on_open(conn->arg, conn);
}

/* One step of one connection; false when there is nothing to do. */
static bool conn_step(struct mr_conn *conn)
{
    if (conn->closed) return false;
    if (conn->closing || conn->far_gone) {
        bool flushed = !conn->dropped && !conn->far_gone && conn->worker != NULL;
        if (flushed && !conn->opening && worker_read(conn)) return true;
        conn_close_deliver(conn);
        return true;
    }
    if (conn->opening) {
        conn_opened(conn);
        return true;
    }
    if (conn->to_gate.n > 0 && !conn->paused) {
        size_t n = conn->world->byte_by_byte ? 1 : conn->to_gate.n;
        uint8_t *bytes = malloc(n); /* its own block, so that a late read is found */
        memcpy(bytes, conn->to_gate.p, n);
        mr_buf_drop_front(&conn->to_gate, n);
        {
            IN_GATE;
            conn->handler->on_data(conn->arg, bytes, n);
        }
        free(bytes);
        return true;
    }
    if (conn->worker != NULL && worker_read(conn)) return true;
    if (conn->above_high && !conn->stalled) {
        conn->above_high = false;
        IN_GATE;
        conn->handler->on_drain(conn->arg);
        return true;
    }
    if (conn->far_end && !conn->far_end_told && !conn->paused && conn->to_gate.n == 0) {
        conn->far_end_told = true;
        IN_GATE;
        conn->handler->on_end(conn->arg);
        return true;
    }
    return false;
}

void world_run(struct world *w)
{
    bool any = true;
    for (uint64_t guard = 0; any; guard++) {
        need(guard < 20000000, "the world never comes to rest");
        any = false;
        while (w->posts != NULL) {
            struct mr_post *post = w->posts;
            w->posts = post->next;
            if (w->posts == NULL) w->posts_last = NULL;
            post->fn(post);
            any = true;
        }
        for (struct mr_conn *conn = w->conns, *next; conn != NULL; conn = next) {
            next = conn->next;
            if (conn_step(conn)) {
                any = true;
                break; /* the list may have changed */
            }
        }
    }
}

void world_pass(struct world *w, uint64_t us)
{
    uint64_t until = w->now_us + us;
    world_run(w);
    for (;;) {
        struct mr_timer *first = NULL;
        for (struct mr_timer *t = w->timers; t != NULL; t = t->next) {
            if (first == NULL || t->at_us < first->at_us) first = t;
        }
        if (first == NULL || first->at_us > until) break;
        w->now_us = MR_MAX(w->now_us, first->at_us);
        void (*fn)(void *arg) = first->fn;
        void *arg = first->arg;
        env_timer_stop(&w->env, first);
        {
            IN_GATE;
            fn(arg);
        }
        world_run(w);
    }
    w->now_us = until;
}

/* --- making ---------------------------------------------------------------------------------- */

void world_publish_models(struct world *w, size_t model_count)
{
    static const char *const keys[3] = {WORLD_ADMIN_KEY, WORLD_USER_KEY, WORLD_OTHER_KEY};
    struct world_routes *r = calloc(1, sizeof *r);
    r->refs = 1;
    memcpy(r->models, w->models, sizeof r->models);
    memcpy(r->replicas, w->replicas, sizeof r->replicas);
    for (size_t i = 0; i < WORLD_MODELS_MAX; i++)
        r->models[i].replicas = r->replicas[i];
    size_t count = 0;
    for (uint32_t i = 0; i < 3; i++) {
        if (i == 1 && w->user_revoked) continue;
        struct mr_route_key key = {.tenant = {i + 1}};
        key.role = i == 0 ? MR_KEY_ADMIN : MR_KEY_USER;
        mr_sha256(keys[i], strlen(keys[i]), key.sha256);
        size_t at = count++;
        for (; at > 0 && memcmp(r->keys[at - 1].sha256, key.sha256, 32) > 0; at--) {
            r->keys[at] = r->keys[at - 1];
        }
        r->keys[at] = key;
    }
    r->routes = (struct mr_routes){++w->version, r->keys, count, r->models, model_count};
    struct mr_ctl_listener listener = mr_gate_listener(w->gate);
    need(listener.lane == 1, "the listener's lane");
    {
        IN_GATE;
        listener.routes(listener.arg, &r->routes);
    }
    world_run(w);
}
void world_publish(struct world *w)
{
    world_publish_models(w, w->model_count);
}

void world_feed(struct world *w, uint64_t id, uint32_t tenant, const char *event, const char *json)
{
    struct world_item *i = calloc(1, sizeof *i);
    i->refs = 1;
    i->world = w;
    w->feed_live++;
    copy_text(i->event, sizeof i->event, mr_str_from(event));
    copy_text(i->json, sizeof i->json, mr_str_from(json));
    i->item = (struct mr_feed_item){id, {tenant}, mr_str_from(i->event), mr_str_from(i->json)};
    struct mr_ctl_listener listener = mr_gate_listener(w->gate);
    {
        IN_GATE;
        listener.feed(listener.arg, &i->item);
    }
    world_run(w);
}

int world_gate_new(const struct mr_gate_config *config, struct mr_gate **ret_gate)
{
    IN_GATE;
    return mr_gate_new(config, ret_gate);
}

void world_init_config(struct world *w, uint32_t workers, const struct mr_gate_config *config)
{
    memset(w, 0, sizeof *w);
    w->env = (struct mr_env){&env_ops, 1, 2};
    w->wire = (struct mr_wire){&wire_ops};
    w->now_us = 1700000000000000u;
    for (uint32_t i = 0; i < WORLD_WORKERS_MAX; i++) {
        struct worker *worker = &w->workers[i];
        worker->world = w;
        worker->lease.v = 100 + i;
        worker->slots = 4;
        worker->automatic = true;
        worker->reply = "Hello there, dear caller.";
        (void)snprintf(worker->address, sizeof worker->address, "unix:/run/w%u", i);
        w->replicas[0][i] = (struct mr_route_replica){{100 + i}, mr_str_from(worker->address)};
    }
    w->models[0] = (struct mr_route_model){
        .name = MR_STR("tiny"), .service = {10}, .created_s = 1690000000, .replica_count = workers};
    w->model_count = 1;
    for (size_t op = 0; op < MR_CTL_OP_COUNT; op++)
        w->out[op] = "{}";
    struct mr_gate_config c = *config;
    c.env = &w->env;
    c.wire = &w->wire;
    c.ctl = (struct mr_ctl *)(void *)w; /* never looked into */
    need(mr_gate_new(&c, &w->gate) == 0, "no gate");
    world_publish(w);
}
void world_init(struct world *w, uint32_t workers)
{
    world_init_config(w, workers, &(struct mr_gate_config){0});
}

static void drained(void *arg)
{
    ((struct world *)arg)->drained++;
}
void world_done(struct world *w)
{
    for (struct mr_conn *c = w->conns; c != NULL; c = c->next) {
        c->stalled = false;
        if (c->worker == NULL) c->far_gone = true;
    }
    world_run(w);
    memset(w->hold, 0, sizeof w->hold);
    while (w->held_count > 0)
        world_answer(w, MR_EUNAVAILABLE, NULL);
    mr_gate_drain(w->gate, w->now_us + 1000000, drained, w);
    need(w->drained == 0, "drain's done came inside the call");
    world_pass(w, 5000000); /* the deadline, and the grace for ENDs that may never come */
    need(w->drained == 1, "the gate did not drain");
    struct mr_gate_stats stats;
    mr_gate_stats(w->gate, &stats);
    need(stats.connections_now == 0 && stats.streams_now == 0 && stats.waiting_now == 0,
         "something is counted that is not there");
    mr_gate_free(w->gate);
    while (w->conns != NULL) {
        need(w->conns->closed, "a connection is left open");
        conn_forget(w->conns);
    }
    need(w->timers == NULL, "a timer is left");
    need(w->posts == NULL, "a post is left");
    need(w->feed_live == 0, "an item of the feed is left");
}

/* --- clients --------------------------------------------------------------------------------- */

struct mr_conn *client_open(struct world *w)
{
    struct mr_conn *c = conn_new(w);
    IN_GATE;
    mr_gate_accept(w->gate, c);
    need(c->handler != NULL || c->closing, "accepted and forgotten");
    return c;
}
void client_send_bytes(struct mr_conn *c, const void *bytes, size_t n)
{
    mr_buf_put(&c->to_gate, bytes, n);
}
void client_send(struct mr_conn *c, const char *text)
{
    client_send_bytes(c, text, strlen(text));
}
void client_half_close(struct mr_conn *c)
{
    c->far_end = true;
}
void client_leave(struct mr_conn *c)
{
    c->far_gone = true;
}
void client_stall(struct mr_conn *c, bool stalled)
{
    c->stalled = stalled;
    if (stalled) return;
    mr_buf_put_str(&c->from_gate, mr_buf_str(&c->queued));
    mr_buf_reset(&c->queued);
}
const char *client_text(struct mr_conn *c)
{
    mr_buf_put_char(&c->from_gate, 0);
    c->from_gate.n--;
    return (const char *)c->from_gate.p;
}
void client_clear(struct mr_conn *c)
{
    mr_buf_reset(&c->from_gate);
}
void client_free(struct mr_conn *c)
{
    need(c->closed, "the client is still there");
    conn_forget(c);
}
void client_ask(struct mr_conn *c, const char *method, const char *path, const char *key,
                const char *body)
{
    mr_buf_printf(&c->to_gate, "%s %s HTTP/1.1\r\nHost: x\r\n", method, path);
    if (key != NULL) mr_buf_printf(&c->to_gate, "Authorization: Bearer %s\r\n", key);
    if (body != NULL) mr_buf_printf(&c->to_gate, "Content-Length: %zu\r\n", strlen(body));
    mr_buf_printf(&c->to_gate, "\r\n%s", body != NULL ? body : "");
    world_run(c->world);
}
void client_chat(struct mr_conn *c, const char *key, const char *content, const char *extra)
{
    mr_cleanup(mr_buf_done) struct mr_buf body;
    mr_buf_init(&body, 1u << 20);
    mr_buf_put_str(&body,
                   MR_STR("{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":"));
    mr_json_put_string(&body, mr_str_from(content));
    mr_buf_printf(&body, "}]%s}", extra);
    mr_buf_put_char(&body, 0);
    client_ask(c, "POST", "/v1/chat/completions", key, (const char *)body.p);
}
int client_status(struct mr_conn *c)
{
    const char *text = client_text(c);
    uint64_t status = 0;
    if (c->from_gate.n > 12) (void)mr_str_to_u64((struct mr_str){text + 9, 3}, &status);
    return (int)status;
}
void client_deltas(struct mr_conn *c, char *ret, size_t n)
{
    const char *at = client_text(c);
    size_t count = 0;
    static const char mark[] = "\"content\":\"";
    while ((at = strstr(at, mark)) != NULL) {
        at += sizeof mark - 1;
        while (*at != '"' && count + 1 < n)
            ret[count++] = *at++;
    }
    ret[count] = 0;
}
uint32_t text_count(const char *text, const char *part)
{
    uint32_t count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
        count++;
    return count;
}
