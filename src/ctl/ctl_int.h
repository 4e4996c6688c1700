/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/ctl and its tests: what ctl keeps and how its parts call each other.
 *
 * What is durable (the book and the core) changes only in ctl_apply, at runtime and in a replay
 * alike. What is not (calls that wait, loads, timers) dies with the process and is not missed.
 */
#ifndef CTL_INT_H
#define CTL_INT_H

#include "ctl/ctl.h"
#include "forecast/forecast.h"

#define CTL_TENANT_NAME_MAX  64u
#define CTL_KEYS_MAX         65536u
#define CTL_PENDING_MAX      65536u  /* records that wait for the disk: 429 */
#define CTL_SNAPSHOT_RECORDS 20000u  /* default of snapshot_every_records */
#define CTL_HASH_RECORDS     4096u   /* a state hash is journalled this often */
#define CTL_RETRY_US         500000u /* after a full disk */
#define CTL_LOAD_US          250000u /* load of one service is journalled at most this often */
#define CTL_QUEUE_LIMIT      100u    /* workloads in an answer, by default */
#define CTL_QUEUE_LIMIT_MAX  1000u
#define CTL_QUEUE_SCAN_MAX   200000u

/* --- the book: names and documents that the core has no room for ------------------------------ */

struct ctl_spec {
    uint64_t workload;     /* 0: empty slot */
    char *name, *document; /* zero-terminated; document is JSON */
    char *served_name;     /* NULL unless it serves a model */
    bool shared;           /* every tenant may call the model */
    uint64_t created_us;
};
struct ctl_key {
    uint8_t sha256[32];
    uint32_t tenant;
    uint8_t role;
};
struct ctl_book {
    char *tenants[256]; /* by id; 0 is unused */
    uint32_t tenant_count;
    char *accels[MR_ACCEL_TYPES_MAX]; /* by type; 0 is unused */
    uint32_t accel_count;
    struct ctl_key *keys; /* sorted by sha256 */
    size_t key_count, key_capacity;
    struct ctl_spec *specs; /* hash table by workload, open addressing, power of two */
    size_t spec_count, spec_capacity;
    uint64_t *services; /* workloads that serve a model, in order of submission */
    size_t service_count, service_capacity;
};
void ctl_book_done(struct ctl_book *book);
uint32_t ctl_tenant_find(const struct ctl_book *book, struct mr_str name); /* 0: unknown */
const char *ctl_tenant_name(const struct ctl_book *book, uint32_t id);     /* "?" when unknown */
/* Finds or makes; 0 when full. */
uint32_t ctl_tenant_make(struct ctl_book *book, struct mr_str name);
uint8_t ctl_accel_find(const struct ctl_book *book, struct mr_str name);
uint8_t ctl_accel_make(struct ctl_book *book, struct mr_str name);
const char *ctl_accel_name(const struct ctl_book *book, uint8_t type); /* "" for none */
int ctl_key_put(struct ctl_book *book, const struct ctl_key *key);
bool ctl_key_drop(struct ctl_book *book, const uint8_t sha256[32]);
struct ctl_spec *ctl_spec_find(const struct ctl_book *book, uint64_t workload);
int ctl_spec_put(struct ctl_book *book, const struct ctl_spec *take_spec); /* owns its strings */
/* Drops documents of workloads that the core has forgotten. O(specs). */
void ctl_specs_sweep(struct ctl_book *book, const struct mr_core *core);
void ctl_book_save(const struct ctl_book *book, struct mr_buf *buf);
int ctl_book_load(struct ctl_book *book, struct mr_reader *reader);

/* --- records ---------------------------------------------------------------------------------- */

enum ctl_record_kind {
    CTL_RECORD_NONE,
    CTL_RECORD_EVENT,  /* a core event */
    CTL_RECORD_SUBMIT, /* a core event, name and document */
    CTL_RECORD_KEY,
    CTL_RECORD_TENANT, /* name; the id is found or given when it is applied */
    CTL_RECORD_NODE,   /* a core event and the accelerator's name */
    CTL_RECORD_HASH,   /* of the core before this record */
    CTL_RECORD_KIND_COUNT
};
struct ctl_record {
    enum ctl_record_kind kind;
    struct mr_event event;
    struct mr_str name, document, served_name; /* TENANT and NODE use name */
    bool shared, revoked;
    struct ctl_key key;
    uint64_t hash;
};
void ctl_record_put(struct mr_buf *buf, const struct ctl_record *record);
int ctl_record_get(struct mr_str bytes, struct ctl_record *ret); /* strings point into bytes */

/* --- workload documents (ctl_spec.c, ctl_field.c) --------------------------------------------- */

struct ctl_submit { /* what a document says */
    struct mr_event_submit event;
    char name[MR_NAME_BYTES_MAX + 1];
    char tenant[CTL_TENANT_NAME_MAX + 1];          /* empty: the key's */
    char served_name[MR_CHAT_MODEL_BYTES_MAX + 1]; /* empty: serves no model */
};
struct yyjson_val;
/* Fills `ret` from a parsed document. On failure one line in `problem` that names the field, and
 * the field in *ret_param (static or into the document). */
int ctl_spec_read(const struct ctl_book *book, struct yyjson_val *document, uint64_t now_us,
                  struct ctl_submit *ret, struct mr_buf *problem, struct mr_str *ret_param);
struct ctl_fields;
/* `resources` (absent: one vCPU, 1 GiB) and `topology` of a document. */
int ctl_resources_read(const struct ctl_fields *top, const struct ctl_book *book,
                       struct mr_shape *shape);
/* ctl_curve.c: work, scaling and what else the planner of deadlines is told. */
int ctl_curve_read(const struct ctl_fields *f, struct mr_event_submit *e);
int ctl_topology_read(const struct ctl_fields *f, enum mr_topology *ret);
/* The engine's start of a lease, from the document; strings live in the arena. */
int ctl_spec_start(const struct ctl_spec *spec, const struct mr_effect_start *start,
                   const struct ctl_book *book, struct mr_arena *arena,
                   struct mr_engine_start *ret);

/* --- the machine ------------------------------------------------------------------------------ */

struct ctl_group_call { /* a call and how many of its records are not through yet */
    struct mr_ctl_call *call;
    uint32_t left, number;   /* number: results so far */
    bool batch, taken, full; /* taken: one is through; full: one found no space */
};
struct ctl_pending {
    struct ctl_pending *next;
    struct mr_buf bytes;
    struct ctl_group_call *answer; /* NULL: nobody waits */
    uint64_t forget;               /* lease to forget once this is through */
    int refused;                   /* its place in a batch's answer is this error */
    struct mr_buf problem;         /* and this text */
    bool is_tick;
};
struct ctl_line { /* of the ledger, not durable yet */
    uint64_t entry;
    uint8_t bytes[96];
    uint32_t n;
};
struct ctl_asked { /* a forecast of a start, to be compared with what comes */
    uint64_t workload, asked_us;
    struct mr_forecast_band raw;
};
#define CTL_ASKED 64u
struct ctl_load { /* of one service, as each gate sees it; not durable */
    uint64_t workload;
    uint32_t running[64], waiting[64]; /* by lane */
    uint32_t told_running, told_waiting;
    uint64_t told_us;
    bool dirty;
};
struct mr_ctl {
    struct mr_ctl_config config;
    struct mr_ctl_listener listeners[64];
    struct mr_env *env;
    struct mr_store *store;
    struct mr_engine *engine;
    struct mr_core *core;
    void *block;
    size_t block_bytes;
    struct ctl_book book;
    uint64_t epoch, seq;
    uint64_t records_since_snapshot, bytes_since_snapshot, records_since_hash, started_us;
    struct mr_post commit_post; /* to itself */
    bool commit_posted;
    struct ctl_pending *first, **last; /* wait for the disk */
    uint32_t pending_count;
    struct ctl_pending *flight; /* in the append under way, in order */
    struct mr_store_record *flight_records;
    struct mr_store_ledger *flight_lines;
    size_t flight_count, flight_line_count;
    struct ctl_line *lines; /* not durable; the first flight_line_count are under way */
    size_t line_count, line_capacity;
    struct ctl_pending *applying;    /* whose record is being stepped */
    const struct ctl_record *record; /* the same, decoded */
    struct mr_workload_id accepted;  /* by the step under way */
    size_t specs_kept;               /* after the last sweep */
    struct mr_buf snapshot;
    struct mr_ctl_call *snapshot_calls, *snapshot_wanted; /* of the one under way, of the next */
    uint64_t snapshot_seq, snapshots, snapshot_bytes;     /* bytes: of the newest */
    struct mr_timer *tick_timer, *commit_timer, *load_timer, *stop_timer;
    uint64_t tick_at_us;
    struct ctl_load *loads;
    size_t load_count, load_capacity;
    uint64_t routes_version, feed_id;
    const struct mr_routes *routes;
    uint64_t commits, retries, calls;
    struct mr_forecast_learned *learned; /* of running times and submissions; not durable */
    uint32_t forecasts;                  /* being computed */
    struct ctl_asked asked[CTL_ASKED];   /* forecasts that were given: a ring */
    uint32_t asked_next;
    void (*stopped)(void *arg);
    void *stopped_arg;
    bool is_new, appending, snapshotting, replaying, live, stopping, final_snapshot, dead, ended;
    bool hash_differs; /* a replay came to another state than the journal says */
    bool routes_dirty, tick_pending, full, waited;
};

/* ctl_commit.c */
/* Takes a record for the next group. answer may be NULL. False: too many wait. */
struct ctl_pending *ctl_push(struct mr_ctl *ctl, const struct ctl_record *record,
                             struct ctl_group_call *answer);
void ctl_push_event(struct mr_ctl *ctl, const struct mr_event *event, uint64_t forget);
void ctl_commit(struct mr_ctl *ctl);       /* begins an append when there is something to write */
void ctl_stop_further(struct mr_ctl *ctl); /* goes on with stopping, when it does */
void ctl_snapshot_begin(struct mr_ctl *ctl);
void ctl_snapshot_call(struct mr_ctl *ctl, struct mr_ctl_call *call); /* answered when durable */
/* The journal cannot go on: answers everybody who waits, once, and tells the world. */
void ctl_die(struct mr_ctl *ctl, int error, struct mr_str text);
void ctl_tick_plan(struct mr_ctl *ctl);
void ctl_pending_free(struct ctl_pending *pending);

/* ctl_apply.c */
/* Changes book and core by one durable record; effects are carried out unless replaying. 0, or
 * MR_ECORRUPT when it cannot be (then the state hash would differ). */
int ctl_apply(struct mr_ctl *ctl, struct mr_str bytes);
/* Carries effects out: for mr_core_outstanding too. */
void ctl_effect(void *ctl, const struct mr_effect *effect);

/* ctl_call.c */
void ctl_answer(struct mr_ctl *ctl, struct mr_ctl_call *call, int error);
void ctl_problem(struct mr_ctl_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void ctl_refuse(struct mr_ctl *ctl, struct mr_ctl_call *call, int error, const char *text);
/* For a call of so many records; NULL: the call is answered already. */
struct ctl_group_call *ctl_group_new(struct mr_ctl *ctl, struct mr_ctl_call *call, uint32_t left);
/* One record, answered with `out` as it stands. */
void ctl_change(struct mr_ctl *ctl, struct mr_ctl_call *call, struct ctl_record *record);
#define CTL_BUSY "too many changes wait for the disk; try again in a moment"
/* The body as a JSON map; NULL: the call is answered already. */
struct yyjson_doc *ctl_body_json(struct mr_ctl *ctl, struct mr_ctl_call *call);
/* `min` and `max` of a workload that is scaled: they stay as they are where they are absent. */
int ctl_scale_read(const struct ctl_fields *f, const struct mr_workload_info *info,
                   struct mr_event *ret);
/* The answer names the field that is wrong. */
int ctl_field_problem(struct mr_ctl *ctl, struct mr_ctl_call *call, struct mr_buf *problem,
                      size_t param_n);

/* ctl_node.c */
#define CTL_NODE_STATES "up, draining, down or absent"
bool ctl_node_state_find(struct mr_str name, enum mr_node_state *ret); /* one of these */
/* Of one node, or of every node of a domain: a rack that fails is one event. */
void ctl_node_state_take(struct mr_ctl *ctl, struct mr_ctl_call *call);
void ctl_node_take(struct mr_ctl *ctl, struct mr_ctl_call *call); /* described or expected */
void ctl_put_fleet(struct mr_ctl *ctl, struct mr_buf *out);
/* ctl_timeline.c: into the call's answer, or its error. */
void ctl_put_timeline(struct mr_ctl *ctl, struct mr_ctl_call *call);

/* ctl_submit.c */
/* Takes the submission or the batch of them in the call's body. */
void ctl_submit_take(struct mr_ctl *ctl, struct mr_ctl_call *call);
/* A workload's document into the event that submits it, for the key's tenant or another. */
int ctl_submit_read(struct mr_ctl *ctl, struct mr_ctl_call *call, struct yyjson_val *document,
                    struct ctl_submit *submit, struct mr_buf *problem, struct mr_str *param);
/* One refused document's place in the answer of a batch. */
void ctl_batch_problem(struct ctl_group_call *group, const struct mr_buf *problem, int error);
/* 128 bits over tenant, place in the batch and the call's idempotency key; 0: it has none. */
void ctl_key_of(const struct mr_ctl_call *call, struct mr_tenant_id tenant, uint32_t index,
                uint64_t *ret_high, uint64_t *ret_low);

/* ctl_load.c */
void ctl_load_take(struct mr_ctl *ctl, struct mr_ctl_call *call); /* answers at once */
void ctl_load_flush(struct mr_ctl *ctl);

/* ctl_look.c */
void ctl_look(struct mr_ctl *ctl,
              struct mr_ctl_call *call); /* answers a call that changes nothing */
/* ctl_tenant.c: a tenant's document into the event of a record, over what is set already; all that
 * the key may see. */
int ctl_tenant_read(struct mr_ctl *ctl, struct mr_ctl_call *call, const struct ctl_fields *f,
                    struct ctl_record *record);
void ctl_put_tenants(struct mr_ctl *ctl, const struct mr_ctl_call *call, struct mr_buf *out);
bool ctl_may_see(const struct mr_ctl_call *call, struct mr_tenant_id tenant);
void ctl_put_workload(struct mr_ctl *ctl, struct mr_buf *out, const struct mr_workload_info *info);
void ctl_put_reason(struct mr_buf *out, const struct mr_reason *reason); /* a JSON string */

/* ctl_reserve.c: reservations and maintenance. */
int ctl_reserve_read(struct mr_ctl *ctl, struct mr_ctl_call *call, const struct ctl_fields *f,
                     struct ctl_record *record);
void ctl_put_reservations(struct mr_ctl *ctl, const struct mr_ctl_call *call, struct mr_buf *out);
void ctl_put_time(struct mr_buf *out, const char *name, uint64_t time_us); /* null: 0 */

bool ctl_find(struct mr_ctl *ctl, struct mr_ctl_call *call, struct mr_workload_info *ret);

/* ctl_forecast.c */
/* A copy of the state, and what is computed on it beside the writer's thread. The first member of
 * what a caller makes. */
struct ctl_question {
    struct mr_work work;
    struct mr_ctl *ctl;
    struct mr_ctl_call *call;
    void *block, *scratch;
    size_t scratch_bytes;
    struct mr_core *core; /* in block */
    struct mr_forecast_learned learned;
    uint64_t now_us;
    int error;
    int (*compute)(struct ctl_question *q); /* on another thread: touches the question alone */
    int (*answer)(struct ctl_question *q);  /* puts call->out; an error is the call's */
};
/* NULL: the call is answered already. `bytes`: of the caller's struct. */
struct ctl_question *ctl_question_new(struct mr_ctl *ctl, struct mr_ctl_call *call, size_t bytes,
                                      size_t scratch_bytes);
struct mr_forecast_options ctl_question_options(const struct ctl_question *q);
void ctl_question_ask(struct ctl_question *take_q);
void ctl_question_free(struct ctl_question *q);
void ctl_put_band(struct mr_buf *out, const char *name, const struct mr_forecast_band *band,
                  uint64_t now_us);
/* ctl_whatif.c */
void ctl_whatif(struct mr_ctl *ctl, struct mr_ctl_call *call); /* answers later */

void ctl_forecast(struct mr_ctl *ctl, struct mr_ctl_call *call); /* answers later */
void ctl_learn_submit(struct mr_ctl *ctl, const struct mr_event *event);
void ctl_learn_end(struct mr_ctl *ctl, const struct mr_workload_info *info);

/* ctl_usage.c */
void ctl_put_usage(struct mr_ctl *ctl, const struct mr_ctl_call *call, struct mr_buf *out);
void ctl_put_metrics(struct mr_ctl *ctl, struct mr_buf *out);
int ctl_prices_push(struct mr_ctl *ctl); /* the default price list, on a new home */

/* ctl_routes.c */
void ctl_routes_publish(struct mr_ctl *ctl);
void ctl_feed(struct mr_ctl *ctl, struct mr_tenant_id tenant, struct mr_str event,
              struct mr_str json);

/* ctl_start.c */
void ctl_state_save(const struct mr_ctl *ctl, struct mr_buf *buf);

#endif
