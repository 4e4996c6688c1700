/* SPDX-License-Identifier: Apache-2.0 */
/* The invariants of a gate's state, checked between events in builds with -Dchecks=true.
 *
 * Owns:       nothing.
 * Invariants: (1) connections_now is the number of connections, and a connection and its request
 *                 point to each other;
 *             (2) a service's waiting chats are those in its tenants' queues, a tenant is active
 *                 exactly when it has some, and waiting_now is their sum;
 *             (3) a service that is not routed has nobody waiting;
 *             (4) a peer's live streams are its used ones, a stream and its chat point to each
 *                 other, and a service's running chats are those on its peers;
 *             (5) a list of deadlines is in order of time;
 *             (6) a subscriber has a client.
 * Never:      a change.
 * Cost:       O(state) for each event.
 */
#include "gate_int.h"

static void check_conns(const struct mr_gate *gate)
{
    uint32_t count = 0;
    for (const struct gate_conn *c = gate->conns; c != NULL; c = c->next) {
        count++;
        MR_INVARIANT(1, c->wire != NULL);
        MR_INVARIANT(1, c->request == NULL || c->request->conn == c);
        MR_INVARIANT(1, c->next == NULL || c->next->prev == c);
    }
    MR_INVARIANT(1, count == gate->stats.connections_now);
}

static uint32_t check_tenant(const struct gate_service *service, const struct gate_tenant *tenant)
{
    uint32_t waiting = 0;
    bool active = false;
    for (size_t priority = 0; priority < MR_PRIORITY_COUNT; priority++) {
        const struct gate_chat *last = NULL;
        for (const struct gate_chat *c = tenant->first[priority]; c != NULL; c = c->next) {
            waiting++;
            last = c;
            MR_INVARIANT(2, c->state == GATE_CHAT_WAITING && c->tenant == tenant);
            MR_INVARIANT(2, c->service == service && c->priority == priority && c->waiting.set);
        }
        MR_INVARIANT(2, tenant->last[priority] == last);
    }
    for (const struct gate_tenant *t = service->active; t != NULL; t = t->active_next) {
        active = active || t == tenant;
    }
    MR_INVARIANT(2, waiting == tenant->waiting);
    MR_INVARIANT(2, active == (waiting > 0));
    return waiting;
}

static uint32_t check_peer(const struct gate_peer *peer)
{
    uint32_t live = 0, chats = 0;
    for (uint32_t i = 0; i < peer->stream_count; i++) {
        const struct gate_peer_stream *s = &peer->streams[i];
        live += s->used;
        if (s->chat == NULL) continue;
        chats++;
        MR_INVARIANT(4, s->used && s->chat->state == GATE_CHAT_RUNNING);
        MR_INVARIANT(4, s->chat->peer == peer && s->chat->stream == i + 1);
    }
    MR_INVARIANT(4, live == peer->live);
    MR_INVARIANT(4, peer->conn != NULL || live == 0);
    return chats;
}

static uint32_t check_service(const struct gate_service *service)
{
    uint32_t waiting = 0, running = 0;
    for (size_t i = 0; i < GATE_TENANT_BUCKETS; i++) {
        for (const struct gate_tenant *t = service->buckets[i]; t != NULL; t = t->bucket_next) {
            waiting += check_tenant(service, t);
        }
    }
    for (const struct gate_peer *p = service->peers; p != NULL; p = p->next) {
        running += check_peer(p);
    }
    MR_INVARIANT(2, waiting == service->waiting);
    MR_INVARIANT(3, service->routed || waiting == 0);
    MR_INVARIANT(4, running == service->running);
    return waiting;
}

void gate_check(const struct mr_gate *gate)
{
    uint32_t waiting = 0;
    check_conns(gate);
    for (const struct gate_service *s = gate->services; s != NULL; s = s->next) {
        waiting += check_service(s);
    }
    MR_INVARIANT(2, waiting == gate->stats.waiting_now);
    for (size_t kind = 0; kind < GATE_DUE_COUNT; kind++) {
        for (const struct gate_due *d = gate->dues[kind].first; d != NULL; d = d->next) {
            MR_INVARIANT(5, d->set && d->kind == kind);
            MR_INVARIANT(5, d->next == NULL || d->next->at_us >= d->at_us);
        }
    }
    for (const struct gate_request *r = gate->subscribers; r != NULL; r = r->sub_next) {
        MR_INVARIANT(6, r->conn != NULL && r->conn->request == r);
    }
}
