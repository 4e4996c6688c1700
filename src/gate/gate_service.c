/* SPDX-License-Identifier: Apache-2.0 */
/* Models and their replicas, as ctl's routes say; which replica gets a chat; load signals.
 *
 * Owns:       services and peers, from the routes that name them first until they are idle again.
 * Invariants: (1) model_services[i] is the service of routes->models[i];
 *             (2) a service that is not routed has nobody waiting;
 *             (3) at most one load signal of a service is on its way.
 * Never:      a chat on a replica that is not ready, full or retired.
 * Cost:       O(replicas of the service) for a choice, O(models x services) for new routes.
 */
#include "gate_int.h"

/* --- routes ---------------------------------------------------------------------------------- */

static struct gate_service *service_find(struct mr_gate *gate, struct mr_workload_id id)
{
    for (struct gate_service *s = gate->services; s != NULL; s = s->next) {
        if (s->id.v == id.v) return s;
    }
    return NULL;
}

static struct gate_service *service_get(struct mr_gate *gate, const struct mr_route_model *model)
{
    struct gate_service *service = service_find(gate, model->service);
    if (service != NULL) return service;
    service = mr_alloc_zero(sizeof *service);
    char *name = mr_alloc(model->name.n + 1);
    if (service == NULL || name == NULL) {
        mr_free(service);
        mr_free(name);
        return NULL;
    }
    memcpy(name, model->name.p, model->name.n);
    service->gate = gate;
    service->id = model->service;
    service->name = (struct mr_str){name, model->name.n};
    service->next = gate->services;
    gate->services = service;
    return service;
}

static bool routed_replica(const struct mr_route_model *model, struct mr_lease_id lease)
{
    for (uint32_t i = 0; i < model->replica_count; i++) {
        if (model->replicas[i].lease.v == lease.v) return true;
    }
    return false;
}

static struct gate_peer *peer_find(struct gate_service *service, struct mr_lease_id lease)
{
    for (struct gate_peer *p = service->peers; p != NULL; p = p->next) {
        if (p->lease.v == lease.v) return p;
    }
    return NULL;
}

/* The routes may give a service several names: its replicas are the same under each. */
static void service_route(struct gate_service *service, const struct mr_route_model *model)
{
    for (struct gate_peer *p = service->peers, *next; p != NULL; p = next) {
        next = p->next; /* a peer without a wire goes at once */
        if (!p->retired && !routed_replica(model, p->lease)) gate_peer_retire(p);
    }
    for (uint32_t i = 0; i < model->replica_count; i++) {
        struct gate_peer *known = peer_find(service, model->replicas[i].lease);
        if (known != NULL) {
            gate_peer_wake(known);
            continue;
        }
        /* Without memory for it the replica is not used until the next routes. */
        (void)gate_peer_new(service, &model->replicas[i]);
    }
}

static void service_unroute(struct gate_service *service)
{
    for (struct gate_peer *p = service->peers, *next; p != NULL; p = next) {
        next = p->next;
        if (!p->retired) gate_peer_retire(p);
    }
    while (service->waiting > 0) {
        struct gate_chat *chat = gate_queue_first(service);
        struct mr_problem problem = gate_model_unknown(chat->request, chat->model);
        gate_chat_fail(chat, &problem);
    }
}

static void service_free(struct gate_service *service)
{
    struct mr_gate *gate = service->gate;
    while (service->peers != NULL)
        gate_peer_free(service->peers);
    gate->env->ops->timer_stop(gate->env, service->load_timer);
    gate_queue_free(service);
    mr_free(service->prefixes);
    mr_free((void *)(uintptr_t)service->name.p);
    mr_free(service);
}

/* Services that were taken from the routes go when nothing of them is left. */
static void services_tidy(struct mr_gate *gate)
{
    struct gate_service **at = &gate->services;
    while (*at != NULL) {
        struct gate_service *s = *at;
        if (s->routed || s->peers != NULL || s->running > 0 || s->load_busy) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        service_free(s);
    }
}

void gate_services_route(struct mr_gate *gate, const struct mr_routes *take_routes)
{
    struct gate_service **list =
        mr_alloc_zero((take_routes->model_count + 1) * sizeof(struct gate_service *));
    if (list == NULL) {
        mr_routes_unref(take_routes); /* the last ones still hold; new ones come with any change */
        return;
    }
    for (struct gate_service *s = gate->services; s != NULL; s = s->next)
        s->routed = false;
    for (size_t i = 0; i < take_routes->model_count; i++) {
        list[i] = service_get(gate, &take_routes->models[i]);
        if (list[i] != NULL) list[i]->routed = true;
    }
    const struct mr_routes *old = gate->routes;
    mr_free(gate->model_services);
    gate->model_services = list;
    gate->routes = take_routes;
    for (size_t i = 0; i < take_routes->model_count; i++) {
        if (list[i] != NULL) service_route(list[i], &take_routes->models[i]);
    }
    for (struct gate_service *s = gate->services; s != NULL; s = s->next) {
        if (!s->routed) service_unroute(s);
    }
    services_tidy(gate);
    mr_routes_unref(old);
}

bool gate_model_visible(const struct mr_route_model *model, const struct gate_request *request)
{
    return model->owner.v == 0 || model->owner.v == request->tenant.v || request->admin;
}

const struct mr_route_model *gate_model_find(struct mr_gate *gate, struct gate_request *request,
                                             struct mr_str name, struct gate_service **ret_service)
{
    const struct mr_routes *routes = gate->routes;
    const struct mr_route_model *found = NULL;
    size_t low = 0, high = routes->model_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (mr_str_compare(routes->models[middle].name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    /* Several tenants may have a model of that name: one's own goes before everybody's. */
    for (size_t i = low; i < routes->model_count; i++) {
        const struct mr_route_model *model = &routes->models[i];
        if (!mr_str_equal(model->name, name)) break;
        if (!gate_model_visible(model, request) || gate->model_services[i] == NULL) continue;
        if (found != NULL && model->owner.v != request->tenant.v) continue;
        found = model;
        *ret_service = gate->model_services[i];
    }
    return found;
}

/* --- choosing -------------------------------------------------------------------------------- */

static bool near_least(const struct gate_peer *peer, uint32_t least)
{
    return gate_peer_room(peer) && gate_peer_load(peer) <= least + peer->slots / 4;
}

/* Among those near the least load the one that was given most of this prompt before: its cache is
 * worth more than a place less in a batch. A beginning that everybody shares decides nothing, nor
 * does one that is short for the prompt: then the least load does, and among equals the one that a
 * prompt with this beginning always meets (rendezvous hashing). */
struct gate_peer *gate_service_choose(struct gate_service *service, const struct gate_chat *chat)
{
    const struct gate_prefix *prefix = &chat->prefix;
    uint32_t least = UINT32_MAX;
    uint64_t among = 0, matched = 0;
    for (struct gate_peer *p = service->peers; p != NULL; p = p->next) {
        if (gate_peer_room(p)) least = MR_MIN(least, gate_peer_load(p));
    }
    if (least == UINT32_MAX) return NULL;
    for (struct gate_peer *p = service->peers; p != NULL; p = p->next) {
        if (near_least(p, least)) among |= p->bit;
    }
    uint64_t longest =
        (among & (among - 1)) == 0 ? among : gate_prefix_longest(service, prefix, among, &matched);
    if (matched * GATE_PREFIX_WORTH >= prefix->total_bytes && matched > 0) among = longest;
    struct gate_peer *best = NULL;
    uint64_t best_score = 0, first = prefix->count > 0 ? prefix->blocks[0].hash : 0;
    for (struct gate_peer *p = service->peers; p != NULL; p = p->next) {
        if ((p->bit & among) == 0 || !near_least(p, least)) continue;
        uint64_t score = mr_hash_mix(first ^ mr_hash_mix(p->lease.v));
        uint32_t load = gate_peer_load(p), best_load = best != NULL ? gate_peer_load(best) : 0;
        if (best == NULL || load < best_load || (load == best_load && score > best_score)) {
            best = p;
            best_score = score;
        }
    }
    return best;
}

/* --- load signals ---------------------------------------------------------------------------- */

static void load_done(struct mr_ctl_call *call);

static void load_send(struct gate_service *service)
{
    struct mr_gate *gate = service->gate;
    service->load_busy = true;
    service->load_at_us = gate->now_us;
    service->load_running = service->running;
    service->load_waiting = service->waiting;
    service->load_call = (struct mr_ctl_call){
        .ctl = gate->ctl,
        .op = MR_CTL_LOAD,
        .reply_lane = gate->env->lane,
        .done = load_done,
        .arg = service,
        .admin = true,
        .load = {service->id, service->running, service->waiting},
    };
    gate->calls_busy++;
    mr_ctl_call(gate->env, &service->load_call);
}

static void load_time(void *arg)
{
    struct gate_service *service = arg;
    service->load_timer = NULL;
    gate_now(service->gate);
    gate_service_load(service);
}

static void load_done(struct mr_ctl_call *call)
{
    struct gate_service *service = call->arg;
    struct mr_gate *gate = service->gate;
    mr_buf_done(&call->out);
    mr_buf_done(&call->out_text);
    gate_now(gate);
    gate->calls_busy--;
    service->load_busy = false;
    gate_service_load(service);
    gate_drain_check(gate);
}

void gate_service_load(struct gate_service *service)
{
    struct mr_gate *gate = service->gate;
    bool same =
        service->running == service->load_running && service->waiting == service->load_waiting;
    if (same || service->load_busy || service->load_timer != NULL || !service->routed ||
        gate->ctl == NULL || gate->drain_posted) {
        return;
    }
    uint64_t next_us = service->load_at_us + GATE_LOAD_EVERY_US;
    if (gate->now_us >= next_us) {
        load_send(service);
    } else if (gate->env->ops->timer_start(gate->env, next_us, load_time, service,
                                           &service->load_timer) != 0) {
        service->load_timer = NULL; /* the next change tries again */
    }
}

/* --- the end --------------------------------------------------------------------------------- */

void gate_services_free(struct mr_gate *gate)
{
    while (gate->services != NULL) {
        struct gate_service *service = gate->services;
        gate->services = service->next;
        service_free(service);
    }
    mr_free(gate->model_services);
    mr_routes_unref(gate->routes);
    gate->routes = NULL;
}
