/* SPDX-License-Identifier: Apache-2.0 */
/* Events as bytes, and the names of everything that has one.
 *
 * One list of fields for each event drives both directions, so that they cannot differ.
 *
 * Owns:       nothing.
 * Invariants: (1) what put wrote, get reads back equal; (2) get takes nothing else: unknown
 *             versions, kinds and enum values, short and long input are refused.
 * Never:      I/O, clock, allocation beyond the caller's buffer, recursion.
 * Cost:       O(fields).
 * Tests:      tests/unit/core/test_core_codec.c, tests/fuzz/core/fuzz_core_event.c
 */
#include "core_int.h"

#define EVENT_VERSION 1u

/* One pass over the fields either writes or reads them. */
struct codec {
    struct mr_buf *out;      /* when writing */
    struct mr_reader reader; /* when reading */
    bool bad;
};

static void u8_pass(struct codec *c, uint8_t *v)
{
    if (c->out != NULL)
        mr_buf_put_u8(c->out, *v);
    else
        *v = mr_read_u8(&c->reader);
}

static void u32_pass(struct codec *c, uint32_t *v)
{
    if (c->out != NULL)
        mr_buf_put_u32(c->out, *v);
    else
        *v = mr_read_u32(&c->reader);
}

static void u64_pass(struct codec *c, uint64_t *v)
{
    if (c->out != NULL)
        mr_buf_put_u64(c->out, *v);
    else
        *v = mr_read_u64(&c->reader);
}

static void bool_pass(struct codec *c, bool *v)
{
    uint8_t byte = c->out != NULL ? (uint8_t)*v : 0;
    u8_pass(c, &byte);
    if (byte > 1) c->bad = true;
    *v = byte == 1;
}

/* Enums are one byte; `count` bounds them. */
static uint8_t enum_pass(struct codec *c, uint32_t value, uint32_t count)
{
    uint8_t byte = (uint8_t)value;
    MR_ASSERT(c->out == NULL || value < count);
    u8_pass(c, &byte);
    if (byte >= count) {
        c->bad = true;
        byte = 0;
    }
    return byte;
}

static void shape_pass(struct codec *c, struct mr_shape *shape)
{
    u32_pass(c, &shape->cpu_milli);
    u32_pass(c, &shape->mem_mib);
    u32_pass(c, &shape->accel_milli);
    for (uint32_t i = 0; i < MR_SHAPE_ALTERNATIVES; i++) {
        u8_pass(c, &shape->accel_types[i]);
    }
    shape->accel_order = enum_pass(c, shape->accel_order, MR_ACCEL_ORDER_COUNT);
}

static void lending_pass(struct codec *c, struct mr_lending *lending)
{
    u64_pass(c, &lending->borrow_max);
    u64_pass(c, &lending->keep);
}

static void tenant_pass(struct codec *c, struct mr_event_tenant *e)
{
    u32_pass(c, &e->id.v);
    u32_pass(c, &e->parent.v);
    u32_pass(c, &e->weight);
    u64_pass(c, &e->quota_cpu_milli);
    u64_pass(c, &e->quota_mem_mib);
    u64_pass(c, &e->quota_accel_milli);
    u32_pass(c, &e->running_max);
    for (uint32_t i = 0; i < MR_RESOURCE_COUNT; i++) {
        lending_pass(c, &e->lending[i]);
    }
    for (uint32_t i = 0; i < MR_TENANT_TYPES_MAX; i++) {
        u8_pass(c, &e->types[i].accel_type);
        u64_pass(c, &e->types[i].quota_milli);
        lending_pass(c, &e->types[i].lending);
    }
    e->reclaim = (enum mr_preempt)enum_pass(c, e->reclaim, MR_PREEMPT_COUNT);
    e->within = (enum mr_preempt)enum_pass(c, e->within, MR_PREEMPT_COUNT);
    u64_pass(c, &e->half_life_us);
}

static void price_pass(struct codec *c, struct mr_event_price *e)
{
    e->sku = (enum mr_sku)enum_pass(c, e->sku, MR_SKU_COUNT);
    u8_pass(c, &e->accel_type);
    uint64_t price = (uint64_t)e->price_nusd;
    u64_pass(c, &price);
    e->price_nusd = (int64_t)price;
}

static void node_pass(struct codec *c, struct mr_event_node *e)
{
    u32_pass(c, &e->id.v);
    u32_pass(c, &e->cpu_milli);
    u32_pass(c, &e->mem_mib);
    u8_pass(c, &e->accel_type);
    u8_pass(c, &e->accel_count);
    u32_pass(c, &e->domain);
    u32_pass(c, &e->block);
    u32_pass(c, &e->cell);
    u64_pass(c, &e->from_us);
}

static void curve_pass(struct codec *c, struct mr_curve *curve)
{
    u64_pass(c, &curve->work);
    u32_pass(c, &curve->error_permille);
    curve->count = enum_pass(c, curve->count, MR_CURVE_POINTS_MAX + 1);
    for (uint32_t i = 0; i < curve->count; i++) {
        u32_pass(c, &curve->points[i].tasks);
        u64_pass(c, &curve->points[i].rate_micro);
        u64_pass(c, &curve->points[i].resize_us);
    }
}

static void submit_pass(struct codec *c, struct mr_event_submit *e)
{
    u64_pass(c, &e->tag);
    u64_pass(c, &e->key_high);
    u64_pass(c, &e->key_low);
    u32_pass(c, &e->tenant.v);
    e->kind = (enum mr_workload_kind)enum_pass(c, e->kind, MR_KIND_COUNT);
    shape_pass(c, &e->shape);
    u32_pass(c, &e->tasks_min);
    u32_pass(c, &e->tasks_max);
    u8_pass(c, &e->priority);
    e->topology = (enum mr_topology)enum_pass(c, e->topology, MR_TOPOLOGY_COUNT);
    bool_pass(c, &e->preemptible);
    u64_pass(c, &e->begin_us);
    u64_pass(c, &e->time_limit_us);
    u64_pass(c, &e->estimate_us);
    u64_pass(c, &e->deadline_us);
    u64_pass(c, &e->grace_us);
    u64_pass(c, &e->checkpoint_us);
    u32_pass(c, &e->restarts_max);
    u32_pass(c, &e->load_per_replica);
    u32_pass(c, &e->spares);
    bool_pass(c, &e->promise);
    bool_pass(c, &e->late_ends);
    u64_pass(c, &e->reservation.v);
    u32_pass(c, &e->segment);
    e->spread = (enum mr_spread)enum_pass(c, e->spread, MR_SPREAD_COUNT);
    u32_pass(c, &e->spread_max);
    e->exclusive = (enum mr_exclusive)enum_pass(c, e->exclusive, MR_EXCLUSIVE_COUNT);
    u64_pass(c, &e->apart);
    e->apart_by = (enum mr_spread)enum_pass(c, e->apart_by, MR_SPREAD_COUNT);
    curve_pass(c, &e->curve);
}

static void lease_pass(struct codec *c, struct mr_event_lease *e)
{
    u64_pass(c, &e->lease.v);
    u32_pass(c, &e->checkpoint_step);
    e->exit = (enum mr_exit_kind)enum_pass(c, e->exit, MR_EXIT_COUNT);
    uint32_t code = (uint32_t)e->code;
    u32_pass(c, &code);
    e->code = (int32_t)code;
    u64_pass(c, &e->ran_us);
    u64_pass(c, &e->work_done);
}

static void meter_pass(struct codec *c, struct mr_event_meter *e)
{
    u64_pass(c, &e->lease.v);
    u64_pass(c, &e->serial);
    u32_pass(c, &e->tenant.v);
    u32_pass(c, &e->prompt_tokens);
    u32_pass(c, &e->cached_tokens);
    u32_pass(c, &e->completion_tokens);
}

static void reserve_pass(struct codec *c, struct mr_event_reserve *e)
{
    u64_pass(c, &e->tag);
    u64_pass(c, &e->key_high);
    u64_pass(c, &e->key_low);
    u32_pass(c, &e->tenant.v);
    shape_pass(c, &e->shape);
    u32_pass(c, &e->tasks);
    e->topology = (enum mr_topology)enum_pass(c, e->topology, MR_TOPOLOGY_COUNT);
    u64_pass(c, &e->begin_us);
    u64_pass(c, &e->end_us);
    bool_pass(c, &e->maintenance);
    u32_pass(c, &e->node.v);
    u32_pass(c, &e->nodes);
    u32_pass(c, &e->domain);
}

/* Of the fleet and its tenants. */
static void fleet_event_pass(struct codec *c, struct mr_event *event)
{
    switch (event->kind) {
    case MR_EVENT_TENANT_SET:
        tenant_pass(c, &event->u.tenant);
        break;
    case MR_EVENT_PRICE_SET:
        price_pass(c, &event->u.price);
        break;
    case MR_EVENT_NODE_SET:
        node_pass(c, &event->u.node);
        break;
    case MR_EVENT_NODE_STATE:
        u32_pass(c, &event->u.node_state.id.v);
        u32_pass(c, &event->u.node_state.domain);
        event->u.node_state.state =
            (enum mr_node_state)enum_pass(c, event->u.node_state.state, MR_NODE_STATE_COUNT);
        break;
    default:
        c->bad = true;
    }
}

static void event_pass(struct codec *c, struct mr_event *event)
{
    u64_pass(c, &event->time_us);
    switch (event->kind) {
    case MR_EVENT_TICK:
        break;
    case MR_EVENT_SUBMIT:
        submit_pass(c, &event->u.submit);
        break;
    case MR_EVENT_CANCEL:
        u64_pass(c, &event->u.cancel.v);
        break;
    case MR_EVENT_SCALE:
        u64_pass(c, &event->u.scale.workload.v);
        u32_pass(c, &event->u.scale.tasks_min);
        u32_pass(c, &event->u.scale.tasks_max);
        break;
    case MR_EVENT_LOAD:
        u64_pass(c, &event->u.load.workload.v);
        u32_pass(c, &event->u.load.running);
        u32_pass(c, &event->u.load.waiting);
        break;
    case MR_EVENT_LEASE_STARTED:
    case MR_EVENT_LEASE_READY:
    case MR_EVENT_LEASE_PROGRESS:
    case MR_EVENT_LEASE_EXITED:
        lease_pass(c, &event->u.lease);
        break;
    case MR_EVENT_METER:
        meter_pass(c, &event->u.meter);
        break;
    case MR_EVENT_RESERVE:
        reserve_pass(c, &event->u.reserve);
        break;
    default:
        fleet_event_pass(c, event);
    }
}

void mr_event_put(struct mr_buf *buf, const struct mr_event *event)
{
    MR_ASSERT(event->kind < MR_EVENT_COUNT);
    struct mr_event copy = *event;
    struct codec codec = {.out = buf};
    mr_buf_put_u8(buf, EVENT_VERSION);
    mr_buf_put_u8(buf, (uint8_t)event->kind);
    event_pass(&codec, &copy);
    MR_ASSERT(!codec.bad);
}

int mr_event_get(struct mr_str bytes, struct mr_event *ret_event)
{
    struct codec codec = {.reader = mr_reader_from(bytes)};
    uint8_t version = mr_read_u8(&codec.reader);
    uint8_t kind = mr_read_u8(&codec.reader);
    if (codec.reader.failed) return MR_ESYNTAX;
    if (version != EVENT_VERSION || kind >= MR_EVENT_COUNT) return MR_EUNSUPPORTED;
    struct mr_event event;
    memset(&event, 0, sizeof event);
    event.kind = (enum mr_event_kind)kind;
    event_pass(&codec, &event);
    if (codec.bad || codec.reader.failed || codec.reader.n != 0) return MR_ESYNTAX;
    *ret_event = event;
    return 0;
}

/* --- names --------------------------------------------------------------------------------- */

const char *mr_state_name(enum mr_state state)
{
    static const char *const names[MR_STATE_COUNT] = {
#define X(name, text) [MR_STATE_##name] = text,
        MR_STATES(X)
#undef X
    };
    MR_ASSERT(state < MR_STATE_COUNT);
    return names[state];
}

bool mr_state_final(enum mr_state state)
{
    MR_ASSERT(state < MR_STATE_COUNT);
    switch (state) {
    case MR_STATE_COMPLETED:
    case MR_STATE_FAILED:
    case MR_STATE_CANCELLED:
    case MR_STATE_TIMEOUT:
    case MR_STATE_NODE_FAIL:
    case MR_STATE_OUT_OF_MEMORY:
        return true;
    default:
        return false; /* a preempted one goes on */
    }
}

const char *mr_node_state_name(enum mr_node_state state)
{
    static const char *const names[MR_NODE_STATE_COUNT] = {"absent", "up", "draining", "down",
                                                           "expected"};
    MR_ASSERT(state < MR_NODE_STATE_COUNT);
    return names[state];
}

const char *mr_event_name(enum mr_event_kind kind)
{
    static const char *const names[MR_EVENT_COUNT] = {
#define X(name) [MR_EVENT_##name] = #name,
        MR_EVENTS(X)
#undef X
    };
    MR_ASSERT(kind < MR_EVENT_COUNT);
    return names[kind];
}

const char *mr_reason_name(enum mr_reason_code code)
{
    static const char *const names[MR_REASON_COUNT] = {
#define X(name, text) [MR_REASON_##name] = text,
        MR_REASONS(X)
#undef X
    };
    MR_ASSERT(code < MR_REASON_COUNT);
    return names[code];
}

const char *mr_sku_name(enum mr_sku sku)
{
    static const char *const names[MR_SKU_COUNT] = {
        [MR_SKU_CPU] = "vcpu-hour",
        [MR_SKU_MEMORY] = "memory-gib-hour",
        [MR_SKU_ACCEL] = "accelerator-hour",
        [MR_SKU_TOKENS_PROMPT] = "prompt-tokens",
        [MR_SKU_TOKENS_CACHED] = "cached-tokens",
        [MR_SKU_TOKENS_COMPLETION] = "completion-tokens",
    };
    MR_ASSERT(sku < MR_SKU_COUNT);
    return names[sku];
}
