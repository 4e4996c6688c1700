/* SPDX-License-Identifier: Apache-2.0 */
/* What gates see: an immutable picture of keys, models and replicas, and the feed of events.
 *
 * Owns:   each picture until its last reader has let go; counts are atomic since readers are on
 *         other lanes.
 * Thread: made on lane 0; handed over by posts; freed wherever the last reference goes.
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "ctl/ctl_int.h"

#define ROUTES_BYTES_MAX ((size_t)256 * 1024 * 1024)

struct ctl_routes { /* mr_routes is its first member */
    struct mr_routes routes;
    atomic_uint refs;
    struct mr_arena arena;
};
struct ctl_feed_item {
    struct mr_feed_item item;
    atomic_uint refs;
};
struct ctl_publish { /* one delivery to one gate */
    struct mr_post post;
    struct mr_ctl_listener listener;
    const struct mr_routes *routes;
    const struct mr_feed_item *item;
};

void mr_routes_ref(const struct mr_routes *routes)
{
    struct ctl_routes *own = (struct ctl_routes *)(uintptr_t)routes;
    atomic_fetch_add_explicit(&own->refs, 1, memory_order_relaxed);
}

void mr_routes_unref(const struct mr_routes *routes)
{
    struct ctl_routes *own = (struct ctl_routes *)(uintptr_t)routes;
    if (own == NULL || atomic_fetch_sub_explicit(&own->refs, 1, memory_order_acq_rel) != 1) return;
    mr_arena_done(&own->arena);
    mr_free(own);
}

void mr_feed_item_ref(const struct mr_feed_item *item)
{
    struct ctl_feed_item *own = (struct ctl_feed_item *)(uintptr_t)item;
    atomic_fetch_add_explicit(&own->refs, 1, memory_order_relaxed);
}

void mr_feed_item_unref(const struct mr_feed_item *item)
{
    struct ctl_feed_item *own = (struct ctl_feed_item *)(uintptr_t)item;
    if (own == NULL || atomic_fetch_sub_explicit(&own->refs, 1, memory_order_acq_rel) != 1) return;
    mr_free(own);
}

/* --- delivery --------------------------------------------------------------------------------- */

static void deliver(struct mr_post *post)
{
    struct ctl_publish *publish = (struct ctl_publish *)(void *)post;
    struct mr_ctl_listener listener = publish->listener;
    const struct mr_routes *routes = publish->routes;
    const struct mr_feed_item *item = publish->item;
    mr_free(publish);
    if (routes != NULL) listener.routes(listener.arg, routes);
    if (item != NULL) listener.feed(listener.arg, item);
}

static void publish(struct mr_ctl *ctl, const struct mr_routes *routes,
                    const struct mr_feed_item *item)
{
    for (size_t i = 0; i < ctl->config.listener_count; i++) {
        const struct mr_ctl_listener *listener = &ctl->config.listeners[i];
        if (routes != NULL ? listener->routes == NULL : listener->feed == NULL) continue;
        struct ctl_publish *post = mr_alloc_zero(sizeof *post);
        if (post == NULL) continue; /* the next picture has all of it again */
        if (routes != NULL) mr_routes_ref(routes);
        if (item != NULL) mr_feed_item_ref(item);
        *post = (struct ctl_publish){
            .post = {.fn = deliver}, .listener = *listener, .routes = routes, .item = item};
        ctl->env->ops->post(ctl->env, listener->lane, &post->post);
    }
}

void ctl_feed(struct mr_ctl *ctl, struct mr_tenant_id tenant, struct mr_str event,
              struct mr_str json)
{
    if (ctl->config.listener_count == 0) return;
    struct ctl_feed_item *own = mr_alloc_zero(sizeof *own + json.n);
    if (own == NULL) return; /* subscribers miss one line */
    char *text = (char *)(own + 1);
    memcpy(text, json.p, json.n);
    atomic_init(&own->refs, 1);
    own->item = (struct mr_feed_item){
        .id = ++ctl->feed_id, .tenant = tenant, .event = event, .json = {text, json.n}};
    publish(ctl, NULL, &own->item);
    mr_feed_item_unref(&own->item);
}

/* --- the picture ------------------------------------------------------------------------------ */

static void fill_replicas(struct mr_ctl *ctl, struct ctl_routes *own, struct mr_route_model *model)
{
    struct mr_lease_info lease;
    struct mr_route_replica *replicas =
        mr_arena_alloc_zero(&own->arena, MR_REPLICAS_PER_SERVICE * sizeof *replicas);
    struct mr_buf address;
    uint32_t cursor = 0;
    mr_buf_init(&address, 4096);
    while (replicas != NULL && model->replica_count < MR_REPLICAS_PER_SERVICE &&
           mr_core_lease_of(ctl->core, model->service, &cursor, &lease) == 0) {
        if (lease.state != MR_LEASE_RUNNING) continue;
        mr_buf_reset(&address);
        ctl->engine->ops->address(ctl->engine, lease.id, &address);
        if (address.n == 0) continue;
        replicas[model->replica_count++] = (struct mr_route_replica){
            .lease = lease.id, .address = mr_str_copy(&own->arena, mr_buf_str(&address))};
    }
    mr_buf_done(&address);
    model->replicas = replicas;
}

static int by_name(const void *a, const void *b)
{
    const struct mr_route_model *left = a, *right = b;
    int order = mr_str_compare(left->name, right->name);
    return order != 0 ? order
                      : (left->service.v > right->service.v) - (left->service.v < right->service.v);
}

static void fill_models(struct mr_ctl *ctl, struct ctl_routes *own)
{
    size_t count = 0;
    struct mr_route_model *models =
        mr_arena_alloc_zero(&own->arena, (ctl->book.service_count + 1) * sizeof *models);
    for (size_t i = 0; models != NULL && i < ctl->book.service_count; i++) {
        struct mr_workload_info info;
        const struct ctl_spec *spec = ctl_spec_find(&ctl->book, ctl->book.services[i]);
        if (spec == NULL) continue;
        if (mr_core_workload(ctl->core, (struct mr_workload_id){spec->workload}, &info) != 0)
            continue;
        if (mr_state_final(info.state)) continue;
        struct mr_route_model *model = &models[count];
        model->name = mr_str_copy(&own->arena, mr_str_from(spec->served_name));
        model->service = info.id;
        model->owner.v = spec->shared ? 0 : info.tenant.v;
        model->created_s = spec->created_us / 1000000u;
        fill_replicas(ctl, own, model);
        count++;
    }
    if (count > 0) qsort(models, count, sizeof *models, by_name);
    size_t kept = 0; /* of two with one name the older is called */
    for (size_t i = 0; i < count; i++) {
        if (kept > 0 && mr_str_equal(models[kept - 1].name, models[i].name)) continue;
        models[kept++] = models[i];
    }
    own->routes.models = models;
    own->routes.model_count = kept;
}

static void fill_keys(struct mr_ctl *ctl, struct ctl_routes *own)
{
    struct mr_route_key *keys =
        mr_arena_alloc_zero(&own->arena, (ctl->book.key_count + 1) * sizeof *keys);
    for (size_t i = 0; keys != NULL && i < ctl->book.key_count; i++) {
        const struct ctl_key *key = &ctl->book.keys[i];
        memcpy(keys[i].sha256, key->sha256, sizeof keys[i].sha256);
        keys[i].tenant.v = key->tenant;
        keys[i].role = (enum mr_key_role)key->role;
    }
    own->routes.keys = keys;
    own->routes.key_count = keys != NULL ? ctl->book.key_count : 0;
}

void ctl_routes_publish(struct mr_ctl *ctl)
{
    struct ctl_routes *own = mr_alloc_zero(sizeof *own);
    if (own == NULL) return; /* stays dirty: the next group tries again */
    atomic_init(&own->refs, 1);
    mr_arena_init(&own->arena, ROUTES_BYTES_MAX);
    own->routes.version = ++ctl->routes_version;
    fill_keys(ctl, own);
    fill_models(ctl, own);
    ctl->routes_dirty = false;
    publish(ctl, &own->routes, NULL);
    mr_routes_unref(ctl->routes);
    ctl->routes = &own->routes;
}
