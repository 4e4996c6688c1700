/* SPDX-License-Identifier: Apache-2.0 */
/* A world of memory for one gate: clock, timers, connections, workers and a ctl that answer as
 * told.
 *
 * Nothing happens but in world_run, which delivers posts, bytes and closes until nothing is left to
 * deliver, and in world_pass, which lets time pass. So no callback comes inside a call, as the
 * ports promise. Checks of its own: on_close once, nothing after it, no use of a dead connection.
 */
#ifndef GATE_WORLD_H
#define GATE_WORLD_H

#include "gate/gate_int.h"

#define WORLD_CALLS_MAX   4096u
#define WORLD_STREAMS_MAX 128u /* of one worker */
#define WORLD_ENDS_MAX    1024u
#define WORLD_WORKERS_MAX 8u
#define WORLD_MODELS_MAX  8u

struct world;

struct mr_conn {
    struct world *world;
    struct mr_conn *next;
    const struct mr_conn_handler *handler;
    void *arg;
    struct mr_buf to_gate;   /* waits to be handed to the gate */
    struct mr_buf from_gate; /* what the gate sent and the far side read */
    struct mr_buf queued;    /* what the gate sent and the far side did not take yet */
    struct worker *worker;   /* NULL: a client */
    bool opening, stalled, above_high, paused, far_end, far_end_told, far_gone, closing, closed,
        dropped;
    int error;
    uint32_t accepted_sends;
};

/* A worker decodes what the gate sends, and does what its mode says. */
struct worker {
    struct world *world;
    struct mr_lease_id lease;
    char address[32];
    bool refuses; /* connects fail */
    bool silent;  /* no HELLO by itself */
    bool not_ready;
    bool deaf;      /* does not answer PING */
    bool automatic; /* answers each SUBMIT with reply, token by token as credit allows */
    uint32_t slots;
    const char *reply; /* words, one token each */
    void (*on_submit)(struct worker *worker, uint32_t stream, const struct mr_wire_submit *submit);
    struct mr_conn *conn;
    size_t decoded; /* bytes of conn->from_gate */
    uint64_t serial;
    uint32_t submits, credits, cancels, pings;
    uint64_t settled[WORLD_ENDS_MAX];
    uint32_t settled_count;
    uint64_t unsettled[WORLD_ENDS_MAX];
    uint32_t unsettled_count;
    struct worker_stream {
        bool used;
        uint32_t tenant, sent, credit, max_tokens;
        size_t at; /* of reply */
        char resume[512];
        uint8_t priority;
    } streams[WORLD_STREAMS_MAX + 1];
    uint32_t order[WORLD_ENDS_MAX]; /* tenants in the order of their SUBMITs */
    uint64_t decoded_tokens, billed_tokens;
};

struct world {
    struct mr_env env;
    struct mr_wire wire;
    struct mr_gate *gate;
    uint64_t now_us;
    uint64_t randoms;
    struct mr_timer *timers;
    struct mr_post *posts, *posts_last;
    struct mr_conn *conns;
    struct worker workers[WORLD_WORKERS_MAX];
    /* ctl */
    struct mr_ctl_call *held[WORLD_CALLS_MAX]; /* not answered yet */
    uint32_t held_count;
    bool hold[MR_CTL_OP_COUNT]; /* calls of this kind wait for world_answer */
    int error[MR_CTL_OP_COUNT];
    const char *out[MR_CTL_OP_COUNT];
    uint32_t calls[MR_CTL_OP_COUNT];
    struct mr_ctl_call last; /* copy of the last call but LOAD and METER; strings are in last_… */
    char last_body[4096], last_query[256], last_name[256], last_key[64];
    struct mr_event_load last_load;
    const char *file; /* FILE answers from here */
    uint64_t metered_tokens;
    uint32_t metered;
    /* routes */
    struct mr_route_model models[WORLD_MODELS_MAX];
    size_t model_count;
    struct mr_route_replica replicas[WORLD_MODELS_MAX][WORLD_WORKERS_MAX];
    uint64_t version;
    bool user_revoked;
    uint32_t feed_live, drained;
    bool byte_by_byte; /* what clients send comes one byte at a time */
};

/* The n-th call of the gate for memory, a timer or a connection fails, once or from then on; 0:
 * none. What the world itself allocates is not counted. world_faults_done says whether it came to
 * that. */
void world_faults_set(uint64_t nth, bool for_ever);
bool world_faults_done(void);
int world_gate_new(const struct mr_gate_config *config, struct mr_gate **ret_gate);

#define WORLD_USER_KEY  "mr-user-key"  /* tenant 2 */
#define WORLD_OTHER_KEY "mr-other-key" /* tenant 3 */
#define WORLD_ADMIN_KEY "mr-admin-key" /* tenant 1 */

/* One model "tiny" of service 10 with `workers` ready workers of 4 slots; automatic. */
void world_init(struct world *w, uint32_t workers);
void world_init_config(struct world *w, uint32_t workers, const struct mr_gate_config *config);
/* Drains, frees, checks that nothing is left. */
void world_done(struct world *w);
void world_publish(struct world *w);
void world_publish_models(struct world *w, size_t model_count);
void world_run(struct world *w);
void world_pass(struct world *w, uint64_t us);
/* Answers the oldest held call. */
void world_answer(struct world *w, int error, const char *out);
void world_feed(struct world *w, uint64_t id, uint32_t tenant, const char *event, const char *json);

struct mr_conn *client_open(struct world *w);
void client_send(struct mr_conn *c, const char *text);
void client_send_bytes(struct mr_conn *c, const void *bytes, size_t n);
void client_half_close(struct mr_conn *c);
void client_leave(struct mr_conn *c); /* gone, for good */
void client_stall(struct mr_conn *c, bool stalled);
/* What came so far, zero-terminated; client_clear forgets it. */
const char *client_text(struct mr_conn *c);
void client_clear(struct mr_conn *c);
/* Forgets a closed client. */
void client_free(struct mr_conn *c);

/* A GET, or a POST with a body, with a key (NULL: none). */
void client_ask(struct mr_conn *c, const char *method, const char *path, const char *key,
                const char *body);
/* POST /v1/chat/completions; extra is more members of the body, or "". */
void client_chat(struct mr_conn *c, const char *key, const char *content, const char *extra);
int client_status(struct mr_conn *c); /* of the first answer, 0: none */
/* Joined deltas of the streams in what came; the body of a chunked answer without its frames. */
void client_deltas(struct mr_conn *c, char *ret, size_t n);
/* How often it occurs. */
uint32_t text_count(const char *text, const char *part);

void worker_say(struct worker *worker, const struct mr_wire_frame *frame);
void worker_hello(struct worker *worker, bool ready);
void worker_tokens(struct worker *worker, uint32_t stream, uint32_t count, const char *text);
void worker_end(struct worker *worker, uint32_t stream, enum mr_finish finish, int error,
                const char *text);
void worker_die(struct worker *worker); /* its connection is lost and refused */
uint32_t worker_live(const struct worker *worker);

#endif
