/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/gate and its tests: the parts of a gate and what they ask of each other.
 *
 *   conn      bytes of a client to requests, one at a time          gate_conn.c
 *   request   what is being answered; owns an arena                 gate_request.c gate_route.c
 *   chat      a request that a model answers                        gate_chat.c gate_stream.c
 *   service   a model's queue and its replicas                      gate_service.c gate_queue.c
 *   peer      the wire to one replica                               gate_peer.c gate_meter.c
 *   due       deadlines that all have the same delay                gate_due.c
 */
#ifndef GATE_INT_H
#define GATE_INT_H

#include "gate/gate.h"

/* --- sizes and times ------------------------------------------------------------------------- */

#define GATE_CREDIT_WINDOW      64u        /* tokens that may be on their way to a client */
#define GATE_CREDIT_ALL         (1u << 30) /* an answer that is not streamed */
#define GATE_AHEAD_BYTES_MAX    65536u     /* pipelined behind a running request: reading pauses */
#define GATE_AUTH_BYTES_MAX     160u       /* longer headers are hashed each time */
#define GATE_POOL_REQUESTS_MAX  1024u
#define GATE_POOL_BYTES_MAX     65536u /* a request that grew larger gives its memory back */
#define GATE_TEXT_BYTES_MAX     (16u * 1024u * 1024u) /* of one answer */
#define GATE_ATTEMPTS_MAX       5u                    /* replicas that may die under one chat */
#define GATE_BACKOFF_MIN_US     20000u
#define GATE_BACKOFF_MAX_US     2000000u
#define GATE_REFUSED_US         100000u /* a replica that refused is left alone for this long */
#define GATE_LOAD_EVERY_US      250000u
#define GATE_METER_RETRY_US     500000u
#define GATE_WATCH_US           5000000u /* how often silent replicas are looked for */
#define GATE_SILENT_PING_US     10000000u
#define GATE_SILENT_DEAD_US     30000000u
#define GATE_DRAIN_GRACE_US     2000000u       /* for the ENDs of what a drain's deadline cut */
#define GATE_FOLLOW_US          300000u        /* how often a followed log is looked at */
#define GATE_PIECE_BYTES        (256u * 1024u) /* of a file */
#define GATE_PREFIX_BLOCK_BYTES 2048u          /* about 512 tokens */
#define GATE_PREFIX_BLOCKS_MAX  1024u          /* of one prompt: what lies behind does not decide */
#define GATE_PREFIX_ENTRIES     131072u        /* of one service: 2 MiB */
#define GATE_PREFIX_WORTH       8u             /* a match below 1/8 of the prompt is none */
#define GATE_TENANT_BUCKETS     64u
#define GATE_VTC_PROMPT         1u /* weights of the virtual token counter (Sheng et al. 2024) */
#define GATE_VTC_COMPLETION     2u
#define GATE_RETRY_AFTER        "1"

struct gate_conn;
struct gate_request;
struct gate_chat;
struct gate_service;
struct gate_peer;

/* --- deadlines (gate_due.c) ------------------------------------------------------------------ */

enum gate_due_kind {
    GATE_DUE_IDLE,    /* a connection between requests */
    GATE_DUE_HEAD,    /* a connection with an unfinished request */
    GATE_DUE_QUIET,   /* a stream on which nothing was said */
    GATE_DUE_WAITING, /* a chat without a replica */
    GATE_DUE_COUNT
};
/* One deadline; embedded. All of a kind have the same delay, so a list in order of setting is a
 * list in order of time: setting, clearing and finding the next are O(1). */
struct gate_due {
    struct gate_due *next, *prev;
    uint64_t at_us;
    enum gate_due_kind kind;
    bool set;
};
struct gate_dues {
    struct gate_due *first, *last;
    uint64_t delay_us;
};
void gate_due_set(struct mr_gate *gate, enum gate_due_kind kind, struct gate_due *due);
void gate_due_clear(struct mr_gate *gate, struct gate_due *due);
/* What happens when one is over: each clears or sets its due again. */
void gate_conn_idle_over(struct gate_due *due);
void gate_conn_head_over(struct gate_due *due);
void gate_request_quiet_over(struct gate_due *due);
void gate_chat_waiting_over(struct gate_due *due);

/* --- clients (gate_conn.c) ------------------------------------------------------------------- */

/* Invariants: (1) at most one request is being answered; (2) wire is NULL from on_close on, which
 * is when it is freed; (3) it is in exactly one of the lists IDLE, HEAD or none, none meaning that
 * a request is being answered or that it closes. */
struct gate_conn {
    struct mr_gate *gate;
    struct mr_conn *wire;
    struct mr_http_parser *parser;
    struct gate_request *request;
    struct gate_conn *next, *prev;
    struct gate_due due;
    size_t ahead_bytes; /* fed since the request began */
    size_t head_bytes;  /* fed since the head's deadline was set */
    bool pumping, closing, ended, full, paused;
    uint32_t full_quiet; /* times that a quiet deadline found it full */
    /* The last key that was good, so that it is not hashed again for each request. */
    uint64_t auth_version;
    struct mr_tenant_id auth_tenant;
    enum mr_key_role auth_role;
    uint8_t auth_n;
    char auth[GATE_AUTH_BYTES_MAX];
};
/* Sends; marks the connection full when more than enough is queued. */
void gate_conn_send(struct gate_conn *conn, const void *bytes, size_t n);
/* The request is answered: the next one, or the end. */
void gate_conn_answered(struct gate_conn *conn, bool keep_alive);
void gate_conn_close(struct gate_conn *conn, bool now);

/* --- requests (gate_request.c) --------------------------------------------------------------- */

struct gate_route {
    enum mr_http_method method;
    const char *pattern; /* "/api/workloads/{id}"; "{rest}" takes all that is left */
    uint8_t role;        /* enum gate_role */
    void (*handle)(struct gate_request *request, const struct mr_http_request *http);
    enum mr_ctl_op op; /* of handlers that only pass on */
};
enum gate_role { GATE_ROLE_NONE, GATE_ROLE_USER, GATE_ROLE_ADMIN };

/* What a kind of request does when its client can take more, is gone, or heard nothing for long.
 * NULL: nothing. After `gone` the request's conn is NULL; it is freed when no call is out. */
struct gate_request_ops {
    void (*drain)(struct gate_request *request);
    void (*gone)(struct gate_request *request);
    void (*quiet)(struct gate_request *request);
};

struct gate_request {
    struct mr_gate *gate;
    struct gate_conn *conn; /* NULL: the client is gone */
    struct gate_request *next_free;
    const struct gate_request_ops *ops;
    const struct gate_route *route;
    struct mr_arena arena;
    struct mr_buf text; /* scratch that lives as long as the request; a chat's answer so far */
    char id[37];        /* "req_" and 32 digits */
    uint8_t id_bytes[16];
    struct mr_tenant_id tenant;
    bool admin, keep_alive, head_only, streaming, call_busy;
    struct mr_str params[2];
    size_t param_count;
    struct gate_due quiet;
    struct mr_ctl_call call;
    void (*call_done)(struct gate_request *request);
    void *own;                                /* of its kind, in the arena */
    struct gate_request *sub_next, *sub_prev; /* subscribers of the feed */
    struct mr_timer *timer;
};

struct gate_request *gate_request_new(struct gate_conn *conn, const struct mr_http_request *http);
/* The client is gone: told once. */
void gate_request_gone(struct gate_request *request);
/* Whole answers; they end the request, whose pointer is dead afterwards. `extra`: header lines with
 * CRLF. */
void gate_reply(struct gate_request *request, int status, struct mr_str type, struct mr_str body,
                struct mr_str extra);
void gate_reply_problem(struct gate_request *request, const struct mr_problem *problem);
void gate_reply_problem_extra(struct gate_request *request, const struct mr_problem *problem,
                              int status, struct mr_str extra);
/* An answer in pieces: begin once, data, end. */
void gate_stream_begin(struct gate_request *request, struct mr_str type, struct mr_str extra);
void gate_stream_data(struct gate_request *request, struct mr_str bytes);
void gate_stream_end(struct gate_request *request);
/* The event that tells of an error inside a stream, and its end. */
void gate_stream_problem(struct gate_request *request, const struct mr_problem *problem);
/* Asks ctl; done(request) comes unless the client is gone by then. The call's inputs are the
 * caller's to fill, in request->call, after gate_call_init. */
struct mr_ctl_call *gate_call_init(struct gate_request *request, enum mr_ctl_op op);
void gate_call_send(struct gate_request *request, void (*done)(struct gate_request *request));
/* The problem that a call that failed tells of; texts lie in the request's arena. */
struct mr_problem gate_call_problem(struct gate_request *request);
struct mr_problem gate_problem(int error, const char *text);
/* Formats into the arena; the empty string when it is full. */
struct mr_str gate_format(struct gate_request *request, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* --- routes (gate_route.c, gate_auth.c) ------------------------------------------------------ */

const struct gate_route *gate_route_table(size_t *ret_count);
void gate_route(struct gate_request *request, const struct mr_http_request *http);
/* True when the key is good: fills tenant and admin. */
bool gate_auth(struct gate_conn *conn, const struct mr_http_request *http,
               struct gate_request *request);

void gate_handle_page(struct gate_request *request, const struct mr_http_request *http);
void gate_handle_healthz(struct gate_request *request, const struct mr_http_request *http);
void gate_handle_metrics(struct gate_request *request, const struct mr_http_request *http);
void gate_handle_models(struct gate_request *request, const struct mr_http_request *http);
void gate_handle_model(struct gate_request *request, const struct mr_http_request *http);
void gate_handle_chat(struct gate_request *request, const struct mr_http_request *http);
void gate_handle_api(struct gate_request *request, const struct mr_http_request *http);
void gate_handle_logs(struct gate_request *request, const struct mr_http_request *http);
void gate_handle_file(struct gate_request *request, const struct mr_http_request *http);
void gate_handle_events(struct gate_request *request, const struct mr_http_request *http);
/* Parameter {id} as a number; false after an error answer. */
bool gate_param_id(struct gate_request *request, uint64_t *ret);

/* --- chats (gate_chat.c, gate_stream.c) ------------------------------------------------------ */

enum gate_chat_state { GATE_CHAT_NEW, GATE_CHAT_WAITING, GATE_CHAT_RUNNING, GATE_CHAT_ENDED };

/* The beginnings of a prompt, shortest first (gate_prefix.c). */
struct gate_prefix {
    struct gate_prefix_block {
        uint64_t hash;
        uint64_t end_bytes; /* of the prompt, up to this block's end */
    } *blocks;
    size_t count;
    uint64_t end_bytes, total_bytes;
};

/* Invariants: (1) WAITING exactly when it is in its tenant's queue; (2) RUNNING exactly when its
 * peer's stream points to it; (3) request->text is all text that any replica decoded for it. */
struct gate_chat {
    struct gate_request *request;
    struct gate_service *service;
    struct gate_tenant *tenant;
    struct gate_peer *peer;
    struct gate_chat *next, *prev; /* waiting of its tenant and priority */
    struct gate_due waiting;
    struct mr_chat chat;
    struct mr_str model; /* as the answer names it */
    enum gate_chat_state state;
    uint32_t stream; /* on the peer's wire */
    uint8_t priority;
    bool role_sent;
    uint32_t attempts;
    uint32_t credit;         /* tokens that the replica may still send */
    uint32_t tokens;         /* decoded so far, by all replicas */
    uint32_t resumed_tokens; /* of these, by replicas that died */
    uint32_t prompt_guess;   /* tokens charged at dispatch */
    uint64_t created_s;
    struct gate_prefix prefix;
    uint64_t waited_from_us; /* since when it has had no replica that took it */
};
/* From the peer. `text` dies on return. */
void gate_chat_tokens(struct gate_chat *chat, uint32_t count, struct mr_str text);
void gate_chat_end(struct gate_chat *chat, const struct mr_wire_end *end);
/* Its replica is lost: waits at the head of its queue for another. */
void gate_chat_orphaned(struct gate_chat *chat);
/* Ends with an error, in the form that fits what was sent already. */
void gate_chat_fail(struct gate_chat *chat, const struct mr_problem *problem);
struct mr_problem gate_model_unknown(struct gate_request *request, struct mr_str name);
/* Streaming. */
void gate_chat_put_tokens(struct gate_chat *chat, struct mr_str text);
void gate_chat_put_end(struct gate_chat *chat, enum mr_finish finish, const struct mr_usage *usage);
void gate_chat_put_quiet(struct gate_chat *chat);

/* --- services and queues (gate_service.c, gate_queue.c) -------------------------------------- */

/* A tenant at one service: its virtual token counter and its waiting chats by priority. */
struct gate_tenant {
    struct mr_tenant_id id;
    struct gate_tenant *bucket_next;
    struct gate_tenant *active_next; /* of those that have somebody waiting */
    uint64_t counter;
    uint32_t waiting;
    struct gate_chat *first[MR_PRIORITY_COUNT], *last[MR_PRIORITY_COUNT];
};

/* Invariants: (1) waiting is the sum over its tenants; (2) a tenant is active exactly when it has
 * somebody waiting; (3) running is the number of chats on its peers. */
struct gate_service {
    struct mr_gate *gate;
    struct gate_service *next;
    struct mr_workload_id id;
    struct mr_str name; /* for messages; a copy */
    bool routed;        /* in the current routes */
    struct gate_peer *peers;
    uint32_t running, waiting;
    struct gate_tenant *buckets[GATE_TENANT_BUCKETS];
    struct gate_tenant *active;
    struct gate_prefix_entry *prefixes; /* NULL until the first chat */
    uint32_t prefix_tick;
    uint64_t floor; /* counter of the tenant that left the queue last */
    /* load signals */
    uint32_t load_running, load_waiting;
    uint64_t load_at_us;
    bool load_busy;
    struct mr_timer *load_timer;
    struct mr_ctl_call load_call;
};
void gate_services_route(struct mr_gate *gate, const struct mr_routes *take_routes);
void gate_services_free(struct mr_gate *gate);
/* The model that this tenant may call under that name, and its service. */
const struct mr_route_model *gate_model_find(struct mr_gate *gate, struct gate_request *request,
                                             struct mr_str name, struct gate_service **ret_service);
bool gate_model_visible(const struct mr_route_model *model, const struct gate_request *request);
/* Gives waiting chats to replicas that have room. */
void gate_service_dispatch(struct gate_service *service);
/* The counts changed: ctl is told soon. */
void gate_service_load(struct gate_service *service);
/* The replica for a chat, NULL when none has room. */
struct gate_peer *gate_service_choose(struct gate_service *service, const struct gate_chat *chat);

/* Cuts the chat's messages; false without memory. */
bool gate_prefix_read(struct gate_chat *chat, struct mr_tenant_id tenant);
/* Those of `among` (bits of peers) that were given most of the prompt's beginning, and how much. */
uint64_t gate_prefix_longest(struct gate_service *service, const struct gate_prefix *prefix,
                             uint64_t among, uint64_t *ret_bytes);
void gate_prefix_note(struct gate_service *service, const struct gate_prefix *prefix,
                      uint64_t peer_bit);
void gate_prefix_forget(struct gate_service *service, uint64_t peer_bit);

struct gate_tenant *gate_queue_tenant(struct gate_service *service, struct mr_tenant_id id);
void gate_queue_push(struct gate_chat *chat, bool front);
void gate_queue_remove(struct gate_chat *chat);
struct gate_chat *gate_queue_first(struct gate_service *service); /* whose turn it is */
void gate_queue_lift(struct gate_service *service, struct gate_tenant *tenant);
void gate_queue_charge(struct gate_tenant *tenant, int64_t prompt, uint32_t completion);
void gate_queue_free(struct gate_service *service);

/* --- replicas (gate_peer.c, gate_meter.c) ---------------------------------------------------- */

/* Invariants: (1) live is the number of used streams: submitted and not ended; (2) a stream's chat
 * is NULL once its client is gone; (3) conn is NULL between on_close and the next connect. */
struct gate_peer {
    struct mr_gate *gate;
    struct gate_service *service;
    struct gate_peer *next;
    struct mr_lease_id lease;
    uint64_t bit;          /* its place in the table of prefixes; shared from the 65th peer on */
    struct mr_str address; /* a copy */
    struct mr_conn *conn;
    struct mr_buf in; /* part of a frame */
    struct gate_peer_stream {
        struct gate_chat *chat;
        uint32_t next_free; /* index + 1 */
        bool used;
    } *streams; /* stream id is the index + 1 */
    uint32_t stream_count, stream_free;
    uint32_t live, metering;
    uint32_t slots, elsewhere; /* elsewhere: what other gates have there, by its STATS */
    bool open, ready, retired, clogged, pinged;
    uint64_t heard_us, refused_until_us;
    uint64_t backoff_us;
    struct mr_timer *timer; /* until the next connect, or the end of a refusal */
};
struct gate_peer *gate_peer_new(struct gate_service *service, const struct mr_route_replica *from);
/* Not in the routes any more: ends when its streams have. */
void gate_peer_retire(struct gate_peer *peer);
/* Connects one that is neither connected nor waiting to be: it ran out of memory for that. */
void gate_peer_wake(struct gate_peer *peer);
void gate_peer_free(struct gate_peer *peer); /* only without a connection */
bool gate_peer_room(const struct gate_peer *peer);
uint32_t gate_peer_load(const struct gate_peer *peer);
void gate_peer_submit(struct gate_peer *peer, struct gate_chat *chat);
void gate_peer_credit(struct gate_peer *peer, uint32_t stream, uint32_t tokens);
/* The chat does not want it any more. */
void gate_peer_cancel(struct gate_peer *peer, uint32_t stream);
void gate_peer_send(struct gate_peer *peer, const struct mr_wire_frame *frame);
/* After anything that may let a retired peer go. */
void gate_peer_settle_down(struct gate_peer *peer);
void gate_peers_watch(struct mr_gate *gate);
/* Closes every wire, for the end of a drain. */
void gate_peers_close(struct mr_gate *gate);

/* One END on its way to the ledger. */
struct gate_meter {
    struct mr_ctl_call call;
    struct mr_gate *gate;
    struct gate_meter *next;
    struct mr_timer *timer;
};
void gate_meter_send(struct gate_peer *peer, const struct mr_wire_end *end);
void gate_meters_free(struct mr_gate *gate);

/* --- the feed (gate_feed.c) ------------------------------------------------------------------ */

void gate_feed_item(struct mr_gate *gate, const struct mr_feed_item *take_item);

/* --- the gate (gate.c) ----------------------------------------------------------------------- */

struct mr_gate {
    struct mr_env *env;
    struct mr_wire *wire;
    struct mr_ctl *ctl;
    uint32_t waiting_max;
    struct mr_str page;
    uint64_t now_us; /* of the event that is being handled */
    struct mr_prng prng;
    const struct mr_routes *routes;
    struct gate_service *services;
    struct gate_service **model_services; /* beside routes->models */
    struct gate_conn *conns;
    struct gate_request *subscribers;
    struct gate_request *free_requests;
    uint32_t free_request_count;
    struct gate_meter *free_meters;
    struct gate_dues dues[GATE_DUE_COUNT];
    struct mr_timer *timer;
    uint64_t timer_at_us;
    struct mr_timer *watch_timer;
    struct mr_buf out, body, frame; /* scratch of one event */
    struct mr_arena scratch;
    struct mr_gate_stats stats;
    uint32_t calls_busy, peers_open;
    /* for /metrics */
    uint64_t chats, chats_failed, tokens_prompt, tokens_completion, meters, meters_refused;
    uint64_t auth_hashes, resumes, keep_alives;
    /* drain */
    bool draining, drain_late, drain_posted;
    struct mr_timer *drain_timer;
    void (*drain_done)(void *arg);
    void *drain_arg;
    struct mr_post drain_post;
};
void gate_now(struct mr_gate *gate); /* reads the clock: first thing in each event */
void gate_drain_check(struct mr_gate *gate);
/* Every invariant of the state, between events; in builds with checks gate_now does it. */
void gate_check(const struct mr_gate *gate);

#endif
