/* SPDX-License-Identifier: Apache-2.0 */
/* Who is next: fair across tenants by virtual token counters, by class and arrival within one.
 *
 * Sheng, Cao, Li et al., "Fairness in Serving Large Language Models", OSDI 2024: each tenant has a
 * counter of the tokens that it was served, prompt tokens counting 1 and completion tokens 2, and
 * the waiting tenant with the smallest counter is next. One that comes (back) to the queue is
 * lifted to those that are in it, so that nobody saves up service by staying away. Two tenants that
 * both always wait then differ by no more than 2 max(prompt, 2 completion tokens of what runs at
 * once).
 *
 * Owns:       the tenants' counters, for the service's life.
 * Invariants: (1) a tenant is in the active list exactly when it has somebody waiting;
 *             (2) counters never fall below zero.
 * Never:      a tenant that waits for ever: counters of those that are served grow.
 * Cost:       O(active tenants) for each choice.
 */
#include "gate_int.h"

struct gate_tenant *gate_queue_tenant(struct gate_service *service, struct mr_tenant_id id)
{
    struct gate_tenant **bucket = &service->buckets[mr_hash_mix(id.v) % GATE_TENANT_BUCKETS];
    for (struct gate_tenant *tenant = *bucket; tenant != NULL; tenant = tenant->bucket_next) {
        if (tenant->id.v == id.v) return tenant;
    }
    struct gate_tenant *tenant = mr_alloc_zero(sizeof *tenant);
    if (tenant == NULL) return NULL;
    tenant->id = id;
    tenant->bucket_next = *bucket;
    *bucket = tenant;
    return tenant;
}

void gate_queue_lift(struct gate_service *service, struct gate_tenant *tenant)
{
    uint64_t floor = service->active != NULL ? UINT64_MAX : service->floor;
    if (tenant->waiting > 0) return;
    for (struct gate_tenant *t = service->active; t != NULL; t = t->active_next) {
        floor = MR_MIN(floor, t->counter);
    }
    tenant->counter = MR_MAX(tenant->counter, floor);
    /* Nobody waits: it comes and leaves at once, and is the last that left. */
    if (service->active == NULL) service->floor = MR_MAX(service->floor, tenant->counter);
}

void gate_queue_push(struct gate_chat *chat, bool front)
{
    struct gate_service *service = chat->service;
    struct gate_tenant *tenant = chat->tenant;
    struct gate_chat **first = &tenant->first[chat->priority];
    struct gate_chat **last = &tenant->last[chat->priority];
    if (tenant->waiting == 0) {
        gate_queue_lift(service, tenant);
        tenant->active_next = service->active;
        service->active = tenant;
    }
    chat->prev = front ? NULL : *last;
    chat->next = front ? *first : NULL;
    if (chat->prev != NULL) chat->prev->next = chat;
    if (chat->next != NULL) chat->next->prev = chat;
    if (chat->prev == NULL) *first = chat;
    if (chat->next == NULL) *last = chat;
    tenant->waiting++;
    service->waiting++;
}

void gate_queue_remove(struct gate_chat *chat)
{
    struct gate_service *service = chat->service;
    struct gate_tenant *tenant = chat->tenant;
    if (chat->prev != NULL) chat->prev->next = chat->next;
    if (chat->prev == NULL) tenant->first[chat->priority] = chat->next;
    if (chat->next != NULL) chat->next->prev = chat->prev;
    if (chat->next == NULL) tenant->last[chat->priority] = chat->prev;
    chat->next = NULL;
    chat->prev = NULL;
    MR_ASSERT(tenant->waiting > 0 && service->waiting > 0);
    tenant->waiting--;
    service->waiting--;
    if (tenant->waiting > 0) return;
    struct gate_tenant **at = &service->active;
    while (*at != tenant)
        at = &(*at)->active_next;
    *at = tenant->active_next;
    tenant->active_next = NULL;
    service->floor = MR_MAX(service->floor, tenant->counter);
}

struct gate_chat *gate_queue_first(struct gate_service *service)
{
    struct gate_tenant *best = service->active;
    for (struct gate_tenant *t = best; t != NULL; t = t->active_next) {
        bool less = t->counter < best->counter;
        if (less || (t->counter == best->counter && t->id.v < best->id.v)) best = t;
    }
    for (size_t priority = 0; best != NULL && priority < MR_PRIORITY_COUNT; priority++) {
        if (best->first[priority] != NULL) return best->first[priority];
    }
    return NULL;
}

void gate_queue_charge(struct gate_tenant *tenant, int64_t prompt, uint32_t completion)
{
    int64_t change =
        prompt * (int64_t)GATE_VTC_PROMPT + (int64_t)completion * (int64_t)GATE_VTC_COMPLETION;
    if (change < 0 && tenant->counter < (uint64_t)-change) {
        tenant->counter = 0;
    } else {
        tenant->counter += (uint64_t)change; /* wraps as two's complement: a subtraction */
    }
}

void gate_queue_free(struct gate_service *service)
{
    for (size_t i = 0; i < GATE_TENANT_BUCKETS; i++) {
        while (service->buckets[i] != NULL) {
            struct gate_tenant *tenant = service->buckets[i];
            MR_ASSERT(tenant->waiting == 0);
            service->buckets[i] = tenant->bucket_next;
            mr_free(tenant);
        }
    }
}
