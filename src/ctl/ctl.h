/* SPDX-License-Identifier: Apache-2.0 */
/* The single writer: journal the event, then step the core, then act and answer.
 *
 * Everything that changes the cloud passes here, in one order, on lane 0. Gates ask through calls
 * that travel between lanes; ctl gives gates an immutable picture of keys, models and replicas.
 * Pure (grade P1): the world is in the port tables, so the simulator crashes it between any two
 * steps. Idea: docs/internals/ctl.md.
 */
#ifndef MR_CTL_H
#define MR_CTL_H

#include "core/core.h"
#include "port/engine.h"
#include "port/env.h"
#include "port/store.h"
#include "proto/proto.h"

struct mr_ctl;

/* --- what gates see ------------------------------------------------------------------------ */

enum mr_key_role {
    MR_KEY_USER,  /* its tenant's chats and workloads */
    MR_KEY_ADMIN, /* everything */
    MR_KEY_ROLE_COUNT
};
struct mr_route_key {
    uint8_t sha256[32]; /* of the key's text */
    struct mr_tenant_id tenant;
    enum mr_key_role role;
};
struct mr_route_replica {
    struct mr_lease_id lease;
    struct mr_str address; /* for wire.connect */
};
struct mr_route_model {
    struct mr_str name; /* what callers write */
    struct mr_workload_id service;
    struct mr_tenant_id owner; /* 0: every tenant may call it */
    uint64_t created_s;
    const struct mr_route_replica *replicas; /* running leases, ready or not */
    uint32_t replica_count;
};
/* Immutable once published; counted references; freed by the last unref, on any lane. */
struct mr_routes {
    uint64_t version;
    const struct mr_route_key *keys; /* sorted by sha256 */
    size_t key_count;
    const struct mr_route_model *models; /* sorted by name */
    size_t model_count;
};
void mr_routes_ref(const struct mr_routes *routes);
void mr_routes_unref(const struct mr_routes *routes); /* NULL is fine */

/* One JSON document for subscribers of /api/events; counted like routes. */
struct mr_feed_item {
    uint64_t id; /* counts up: SSE id */
    struct mr_tenant_id tenant;
    struct mr_str event; /* "workload", "node", "lease" */
    struct mr_str json;
};
void mr_feed_item_ref(const struct mr_feed_item *item);
void mr_feed_item_unref(const struct mr_feed_item *item);

/* A gate's ear; called on the gate's lane. The reference passes to the callee. */
struct mr_ctl_listener {
    uint32_t lane;
    void (*routes)(void *arg, const struct mr_routes *take_routes);
    void (*feed)(void *arg, const struct mr_feed_item *take_item);
    void *arg;
};

/* --- calls --------------------------------------------------------------------------------- */

#define MR_CTL_OPS(X)                                                                              \
    X(SUBMIT) /* body: workload JSON, or {"workloads":[…]}; key: idempotency */                    \
    X(CANCEL) /* id */                                                                             \
    X(SCALE)  /* id, body {"min","max"} */                                                         \
    X(QUEUE)  /* id or 0; query: state, tenant, limit, after */                                    \
    X(WHY)    /* id */                                                                             \
    X(WHATIF) /* body: a change; nothing is changed */                                             \
    X(WHEN)   /* id */                                                                             \
    X(FLEET)                                                                                       \
    X(TIMELINE)     /* query: days, steps */                                                       \
    X(NODE)         /* id; body {"state":"up|draining|down"} */                                    \
    X(DOMAIN)       /* id: of an NVLink domain, body: state of all its nodes; admin */             \
    X(NODE_SET)     /* body: capacity; admin */                                                    \
    X(USAGE)        /* sums in FOCUS names */                                                      \
    X(STATUS)       /* what runs, epoch, journal, hash */                                          \
    X(FILE)         /* id, name, offset, run, rank: raw bytes into out; offset grows to the oldest \
                     * that a rotated log still has */                                             \
    X(TENANTS)      /* the key's own, or all */                                                    \
    X(TENANT_SET)   /* body; admin */                                                              \
    X(RESERVATIONS) /* booked and active ones, the key's own or all */                             \
    X(RESERVE)      /* body: a reservation or a maintenance; key: idempotency; admin */            \
    X(KEY_NEW)      /* body {"tenant","role"}; admin; the key's text is in the answer only */      \
    X(KEY_REVOKE)   /* body {"sha256"} or {"key"}; admin */                                        \
    X(METER)        /* meter: settle one END; answered when durable */                             \
    X(LOAD)         /* load: of one service, from one gate */                                      \
    X(METRICS)      /* OpenMetrics text of ctl and core */                                         \
    X(SNAPSHOT)     /* take one now; admin */
enum mr_ctl_op {
#define X(name) MR_CTL_##name,
    MR_CTL_OPS(X)
#undef X
        MR_CTL_OP_COUNT
};

/* The caller owns the call until it is posted and again from `done` on. */
struct mr_ctl_call {
    struct mr_post post; /* the worlds' */
    struct mr_ctl *ctl;  /* whom to call */
    enum mr_ctl_op op;
    uint32_t reply_lane;
    void (*done)(struct mr_ctl_call *call); /* on reply_lane */
    void *arg;                              /* the caller's */
    /* in: strings must stay until done */
    struct mr_tenant_id tenant; /* of the key; sees and stops only its own unless admin */
    bool admin;
    uint64_t id; /* workload or node */
    struct mr_str body, name, key, query;
    uint64_t offset;
    uint32_t run, rank, limit;
    struct mr_event_meter meter;
    struct mr_event_load load;
    /* out */
    int error;
    struct mr_str problem; /* for people, in out_text */
    struct mr_str problem_param;
    struct mr_buf out;      /* JSON, text or bytes; the caller frees it (mr_buf_done) */
    struct mr_buf out_text; /* the caller frees it */
};
/* Posts to ctl's lane. Always answered exactly once, also while ctl stops (MR_EUNAVAILABLE).
 * Changing calls are answered after their event is durable. */
void mr_ctl_call(struct mr_env *from, struct mr_ctl_call *call);

/* --- life ---------------------------------------------------------------------------------- */

struct mr_ctl_config {
    struct mr_env *env; /* of lane 0 */
    struct mr_store *store;
    struct mr_engine *engine;
    struct mr_core_limits limits;
    const struct mr_ctl_listener *listeners; /* copied */
    size_t listener_count;
    uint64_t snapshot_every_records; /* 0: a default */
    uint64_t group_delay_us;         /* wait this long for company before a commit; 0: none */
    const struct mr_trace *trace;    /* may be NULL */
    void (*fatal)(void *arg, int error, struct mr_str text); /* fenced, store failed: stop */
    void *fatal_arg;
};
int mr_ctl_new(const struct mr_ctl_config *config, struct mr_ctl **ret_ctl);
/* Takes the epoch, loads the newest good snapshot, replays, checks the state hash, adopts what
 * runs. Synchronous. On failure a text for people in `problem`: what is wrong and how to go on. */
int mr_ctl_start(struct mr_ctl *ctl, struct mr_buf *problem);
/* True when the journal was empty: keys, tenants and nodes are to be made. */
bool mr_ctl_is_new(const struct mr_ctl *ctl);
/* No new calls; commits what is queued, writes a snapshot, then calls done. Leases go on running.
 */
void mr_ctl_stop(struct mr_ctl *ctl, void (*done)(void *arg), void *arg);
void mr_ctl_free(
    struct mr_ctl *ctl); /* after stop's done, or after start failed, or never started */

/* For the simulator's checkers and the tests; lane 0 only. */
const struct mr_core *mr_ctl_core(const struct mr_ctl *ctl);
uint64_t mr_ctl_seq(const struct mr_ctl *ctl); /* last durable record */
uint64_t mr_ctl_epoch(const struct mr_ctl *ctl);

/* --- stored form --------------------------------------------------------------------------- */

/* What a journal record holds: version, kind (core event; event with spec; key; …), a running hash
 * of the state before it now and then, the payload. For fuzzing: 0 or MR_ESYNTAX. */
int mr_ctl_record_check(struct mr_str bytes);

#endif
