/* SPDX-License-Identifier: Apache-2.0 */
/* Random but possible events against a cloud: what nodes, workers and people may send, with wrong
 * and repeated ones mixed in. Equal seeds give equal events for equal states. */
#ifndef MR_CORE_RANDOM_H
#define MR_CORE_RANDOM_H

#include "core/core_reserve.h"
#include "core_test.h"

static inline uint64_t random_workload(const struct mr_core *core, struct mr_prng *prng)
{
    uint32_t slot = (uint32_t)mr_prng_below(prng, core->tables[CORE_WORKLOADS].used);
    if (slot != 0 && core_workload(core, slot)->phase != CORE_FREE && mr_prng_chance(prng, 700)) {
        return core_workload(core, slot)->id;
    }
    uint64_t last = core->workload_next;
    uint64_t back = mr_prng_below(prng, 40);
    return last > back ? last - back : 1;
}

static inline uint64_t random_lease(const struct mr_core *core, struct mr_prng *prng)
{
    uint32_t used = core->tables[CORE_LEASES].used;
    for (uint32_t i = 0; i < 20; i++) {
        uint32_t at = (uint32_t)mr_prng_below(prng, used);
        const struct core_lease *l = core_lease(core, at);
        if (at != 0 && l->state != MR_LEASE_NONE && l->state != CORE_LEASE_CLAIM) return l->id;
    }
    return mr_prng_below(prng, core->lease_next + 2);
}

static inline void random_submit(struct mr_prng *prng, struct mr_event_submit *s)
{
    static const uint32_t sizes[] = {0, 0, 250, 500, 1000, 1000, 2000, 4000, 8000, 1500, 64000};
    memset(s, 0, sizeof *s);
    s->tag = mr_prng_next(prng);
    if (mr_prng_chance(prng, 100)) s->key_low = 1 + mr_prng_below(prng, 50);
    s->tenant.v = (uint32_t)mr_prng_below(prng, 5);
    s->kind = MR_KIND_JOB;
    if (mr_prng_chance(prng, 200)) s->kind = (enum mr_workload_kind)mr_prng_below(prng, 3);
    s->shape.cpu_milli = 500u * (uint32_t)mr_prng_below(prng, 9);
    s->shape.mem_mib = 512u * (uint32_t)mr_prng_below(prng, 9);
    s->shape.accel_milli = sizes[mr_prng_below(prng, MR_COUNT_OF(sizes))];
    if (mr_prng_chance(prng, 300)) s->shape.accel_types[0] = (uint8_t)mr_prng_below(prng, 4);
    if (mr_prng_chance(prng, 200)) s->shape.accel_types[1] = 1;
    s->shape.accel_order = (uint8_t)mr_prng_below(prng, MR_ACCEL_ORDER_COUNT);
    s->tasks_min = (uint32_t)mr_prng_below(prng, 6);
    s->tasks_max = s->tasks_min + (uint32_t)mr_prng_below(prng, 6);
    s->priority = (uint8_t)mr_prng_below(prng, MR_PRIORITY_COUNT);
    s->topology = (enum mr_topology)mr_prng_below(prng, MR_TOPOLOGY_COUNT);
    s->preemptible = mr_prng_chance(prng, 400);
    if (mr_prng_chance(prng, 50)) s->begin_us = mr_prng_below(prng, 2 * HOUR);
    if (mr_prng_chance(prng, 200)) s->time_limit_us = 1 + mr_prng_below(prng, HOUR);
    s->grace_us = mr_prng_below(prng, MINUTE);
    s->restarts_max = (uint32_t)mr_prng_below(prng, 3);
    s->load_per_replica = (uint32_t)mr_prng_below(prng, 8);
    bool spares = s->kind == MR_KIND_JOB ? mr_prng_chance(prng, 400) : mr_prng_chance(prng, 20);
    if (spares) s->spares = (uint32_t)mr_prng_below(prng, 4);
    if (mr_prng_chance(prng, 150)) {
        s->apart = mr_prng_below(prng, 4);
        s->apart_by = (enum mr_spread)mr_prng_below(prng, MR_SPREAD_COUNT);
    }
    if (mr_prng_chance(prng, 150)) {
        s->exclusive = (enum mr_exclusive)mr_prng_below(prng, MR_EXCLUSIVE_COUNT);
        if (s->shape.accel_milli < 1000) s->shape.accel_milli = 0;
    } else if (mr_prng_chance(prng, 150)) {
        s->spread = (enum mr_spread)mr_prng_below(prng, MR_SPREAD_COUNT);
        s->spread_max = (uint32_t)mr_prng_below(prng, 3);
        if (s->spread == MR_SPREAD_NONE) s->spread_max = 0;
        s->spares = 0;
    } else if (mr_prng_chance(prng, 150)) {
        s->segment = 1 + (uint32_t)mr_prng_below(prng, 3);
        if (mr_prng_chance(prng, 900)) { /* mostly a possible one */
            s->tasks_min = s->segment * MR_MAX(s->tasks_min, 1u);
            s->tasks_max = s->segment * MR_MAX(s->tasks_max, 1u);
        }
    }
}

static inline void random_lease_event(const struct mr_core *core, struct mr_prng *prng,
                                      struct mr_event *event)
{
    event->u.lease.lease.v = random_lease(core, prng);
    event->u.lease.checkpoint_step = (uint32_t)mr_prng_below(prng, 100);
    event->u.lease.exit = (enum mr_exit_kind)mr_prng_below(prng, MR_EXIT_COUNT);
    if (mr_prng_chance(prng, 600)) event->u.lease.exit = MR_EXIT_CODE;
    static const int32_t codes[] = {0, 0, 0, 1, MR_EXIT_CODE_REQUEUE};
    event->u.lease.code = codes[mr_prng_below(prng, MR_COUNT_OF(codes))];
}

static inline void random_fleet_event(struct mr_prng *prng, struct mr_event *event)
{
    uint32_t id = (uint32_t)mr_prng_below(prng, 18);
    if (event->kind == MR_EVENT_NODE_STATE) {
        if (mr_prng_chance(prng, 100)) {
            event->u.node_state.domain = id; /* a rack at once */
        } else {
            event->u.node_state.id.v = id;
        }
        event->u.node_state.state = (enum mr_node_state)mr_prng_below(prng, MR_NODE_STATE_COUNT);
        return;
    }
    bool plain = mr_prng_chance(prng, 300);
    event->u.node = (struct mr_event_node){
        .id = {id},
        .cpu_milli = 16000u + 8000u * (uint32_t)mr_prng_below(prng, 3),
        .mem_mib = 32768,
        .accel_type = plain ? 0 : (uint8_t)(1 + mr_prng_below(prng, 3)),
        .accel_count = plain ? 0 : (uint8_t)(4 + 4 * mr_prng_below(prng, 2)),
        .domain = (uint32_t)mr_prng_below(prng, 9),
        .block = (uint32_t)mr_prng_below(prng, 5),
        .cell = (uint32_t)mr_prng_below(prng, 3),
        .from_us = mr_prng_chance(prng, 200) ? event->time_us + mr_prng_below(prng, 2 * HOUR) : 0,
    };
}

static inline void random_tenant(struct mr_prng *prng, struct mr_event_tenant *ret)
{
    *ret = (struct mr_event_tenant){.id = {(uint32_t)mr_prng_below(prng, 6)},
                                    .parent = {(uint32_t)mr_prng_below(prng, 5)},
                                    .weight = (uint32_t)mr_prng_below(prng, 4),
                                    .quota_cpu_milli = UINT64_MAX,
                                    .quota_mem_mib = mr_prng_chance(prng, 500) ? UINT64_MAX : 65536,
                                    .quota_accel_milli = mr_prng_chance(prng, 300)
                                                             ? UINT64_MAX
                                                             : 1000 * mr_prng_below(prng, 60),
                                    .running_max = (uint32_t)mr_prng_below(prng, 30)};
    static const uint64_t most[] = {0, 4000, 16000, UINT64_MAX};
    for (uint32_t i = 0; i < MR_RESOURCE_COUNT; i++) {
        ret->lending[i].borrow_max = most[mr_prng_below(prng, MR_COUNT_OF(most))];
        ret->lending[i].keep = most[mr_prng_below(prng, 3)];
    }
    for (uint32_t i = 0; mr_prng_chance(prng, 400) && i < MR_TENANT_TYPES_MAX; i++) {
        ret->types[i] = (struct mr_type_quota){
            .accel_type = (uint8_t)mr_prng_below(prng, 4),
            .quota_milli = 1000 * mr_prng_below(prng, 20),
            .lending = {.borrow_max = most[mr_prng_below(prng, MR_COUNT_OF(most))],
                        .keep = most[mr_prng_below(prng, 3)]}};
    }
    ret->reclaim = (enum mr_preempt)mr_prng_below(prng, MR_PREEMPT_COUNT);
    ret->within = (enum mr_preempt)mr_prng_below(prng, MR_PREEMPT_ANY);
    if (mr_prng_chance(prng, 500)) ret->half_life_us = 1 + mr_prng_below(prng, HOUR);
}

static inline uint64_t random_reservation(const struct mr_core *core, struct mr_prng *prng)
{
    uint32_t at = (uint32_t)mr_prng_below(prng, core->tables[CORE_RESERVED].used);
    uint32_t workload = core_reserved(core, at)->workload;
    return workload != 0 ? core_workload(core, workload)->id : random_workload(core, prng);
}

static inline void random_reserve(struct mr_prng *prng, uint64_t now_us,
                                  struct mr_event_reserve *ret)
{
    struct mr_event_submit like;
    random_submit(prng, &like);
    *ret = (struct mr_event_reserve){.tag = like.tag,
                                     .key_low = like.key_low,
                                     .tenant = like.tenant,
                                     .shape = like.shape,
                                     .tasks = like.tasks_min,
                                     .topology = like.topology};
    ret->begin_us = now_us + mr_prng_below(prng, mr_prng_chance(prng, 300) ? 1 : HOUR);
    ret->end_us = ret->begin_us + mr_prng_below(prng, 2 * HOUR);
    ret->maintenance = mr_prng_chance(prng, 300);
    if (!ret->maintenance) return;
    ret->tasks = 0;
    if (mr_prng_chance(prng, 200))
        ret->domain = (uint32_t)mr_prng_below(prng, 9);
    else
        ret->node.v = (uint32_t)mr_prng_below(prng, 18);
    if (ret->domain == 0) ret->nodes = (uint32_t)mr_prng_below(prng, 4);
}

static inline void random_meter(const struct mr_core *core, struct mr_prng *prng,
                                struct mr_event_meter *ret)
{
    *ret = (struct mr_event_meter){.lease = {random_lease(core, prng)},
                                   .serial =
                                       mr_prng_below(prng, mr_prng_chance(prng, 50) ? 100000 : 40),
                                   .tenant = {(uint32_t)mr_prng_below(prng, 6)},
                                   .prompt_tokens = (uint32_t)mr_prng_below(prng, 2000),
                                   .cached_tokens = (uint32_t)mr_prng_below(prng, 2000),
                                   .completion_tokens = (uint32_t)mr_prng_below(prng, 500)};
}

static inline struct mr_event random_event(const struct mr_core *core, struct mr_prng *prng)
{
    /* How often each comes, in the order of MR_EVENTS. */
    static const uint32_t wild[MR_EVENT_COUNT] = {6, 2, 1, 2, 1, 20, 8, 3, 6, 20, 6, 4, 20, 8, 3};
    static const uint32_t calm[MR_EVENT_COUNT] = {9, 1, 0, 1, 0, 20, 5, 1, 9, 15, 6, 4, 16, 4, 3};
    const uint32_t *weights = core->limits.shapes % 2 == 0 ? wild : calm;
    uint32_t total = 0, kind = 0;
    for (uint32_t i = 0; i < MR_EVENT_COUNT; i++) {
        total += weights[i];
    }
    uint32_t draw = (uint32_t)mr_prng_below(prng, total);
    while (draw >= weights[kind]) {
        draw -= weights[kind++];
    }
    struct mr_event event;
    memset(&event, 0, sizeof event);
    event.kind = (enum mr_event_kind)kind;
    event.time_us = mr_core_now_us(core) + mr_prng_below(prng, 20 * SECOND);
    if (mr_prng_chance(prng, 20)) event.time_us += mr_prng_below(prng, 2 * HOUR);
    switch (event.kind) {
    case MR_EVENT_TENANT_SET:
        random_tenant(prng, &event.u.tenant);
        break;
    case MR_EVENT_PRICE_SET:
        event.u.price =
            (struct mr_event_price){.sku = (enum mr_sku)mr_prng_below(prng, MR_SKU_COUNT),
                                    .accel_type = (uint8_t)mr_prng_below(prng, 4),
                                    .price_nusd = (int64_t)mr_prng_below(prng, 5000000000u)};
        break;
    case MR_EVENT_NODE_SET:
    case MR_EVENT_NODE_STATE:
        random_fleet_event(prng, &event);
        break;
    case MR_EVENT_SUBMIT:
        random_submit(prng, &event.u.submit);
        if (mr_prng_chance(prng, 200))
            event.u.submit.reservation.v = random_reservation(core, prng);
        break;
    case MR_EVENT_RESERVE:
        random_reserve(prng, event.time_us, &event.u.reserve);
        break;
    case MR_EVENT_CANCEL:
        event.u.cancel.v = random_workload(core, prng);
        break;
    case MR_EVENT_SCALE:
        event.u.scale = (struct mr_event_scale){.workload = {random_workload(core, prng)},
                                                .tasks_min = (uint32_t)mr_prng_below(prng, 4),
                                                .tasks_max = (uint32_t)mr_prng_below(prng, 8)};
        break;
    case MR_EVENT_LOAD:
        event.u.load = (struct mr_event_load){.workload = {random_workload(core, prng)},
                                              .running = (uint32_t)mr_prng_below(prng, 40),
                                              .waiting = (uint32_t)mr_prng_below(prng, 20)};
        break;
    case MR_EVENT_METER:
        random_meter(core, prng, &event.u.meter);
        break;
    case MR_EVENT_LEASE_STARTED:
    case MR_EVENT_LEASE_READY:
    case MR_EVENT_LEASE_PROGRESS:
    case MR_EVENT_LEASE_EXITED:
        random_lease_event(core, prng, &event);
        break;
    default:
        break;
    }
    return event;
}

#endif
