/* SPDX-License-Identifier: Apache-2.0 */
/* Any stream of events: no assertion breaks, every invariant holds, the bill is the ledger's sum.
 *
 * Input: for each event a byte with its length and so many bytes, taken as an event of the stored
 * form when they are one; else the bytes draw a possible event for the cloud as it is.
 *
 * Thread: one.
 * Fails:  by assertion.
 * Ends:   nothing outlives a call.
 */
#include <stdlib.h>

#include "core/core.h"

static const struct mr_core_limits limits = {.nodes = 6,
                                             .reservations = 5,
                                             .domains = 3,
                                             .blocks = 2,
                                             .cells = 2,
                                             .tenants = 3,
                                             .workloads = 12,
                                             .leases = 16,
                                             .shapes = 6};

struct ledger {
    uint64_t sum;
};

static void effect_sum(void *context, const struct mr_effect *effect)
{
    struct ledger *ledger = context;
    if (effect->kind == MR_EFFECT_LEDGER) ledger->sum += (uint64_t)effect->u.ledger.charge_nusd;
}

static struct mr_event_submit submit_drawn(const uint8_t b[16])
{
    return (struct mr_event_submit){
        .tenant = {b[3] % 4u},
        .kind = (enum mr_workload_kind)(b[4] % MR_KIND_COUNT),
        .shape = {.cpu_milli = b[5] * 100u, .mem_mib = b[6] * 64u, .accel_milli = b[7] * 250u},
        .tasks_min = b[8] % 8u,
        .tasks_max = b[8] % 8u + b[9] % 8u,
        .priority = b[10] % MR_PRIORITY_COUNT,
        .topology = (enum mr_topology)(b[11] % MR_TOPOLOGY_COUNT),
        .preemptible = b[12] & 1,
        .restarts_max = b[12] >> 6,
        .time_limit_us = (uint64_t)b[13] * 1000000,
        .load_per_replica = b[14],
        /* Two sizes, the second nearly twice as fast. */
        .promise = b[12] >> 1 & 1,
        .late_ends = b[12] >> 2 & 1,
        .deadline_us = b[15] == 0 ? 0 : (uint64_t)b[15] * 600000000,
        .curve = {.work = b[13] * 1000u,
                  .count = b[9] % 8u > 0 && b[8] % 8u > 0 ? 2 : 0,
                  .points = {{b[8] % 8u, 1000000, 0}, {b[8] % 8u + b[9] % 8u, 1900000, 5000000}}}};
}

/* Where it may lie. */
static void placed_drawn(const uint8_t b[16], struct mr_event_submit *ret)
{
    if (b[2] >= 192) ret->reservation.v = b[2] % 8u;
    if (b[2] % 64 >= 48) ret->segment = b[2] % 4u;
    if (b[2] % 64 < 16) ret->spread = (enum mr_spread)(b[2] % 4u);
    if (b[2] % 64 >= 40) ret->exclusive = (enum mr_exclusive)(b[1] % 3u);
    if (ret->spread != MR_SPREAD_NONE) ret->spread_max = b[1] % 3u;
    if (b[1] < 160) return;
    ret->apart = b[1] % 3u;
    ret->apart_by = (enum mr_spread)(b[2] % 5u);
}

static struct mr_event_reserve reserve_drawn(const uint8_t b[16], uint64_t now_us)
{
    struct mr_event_reserve ret = {
        .tenant = {b[3] % 4u},
        .shape = {.cpu_milli = b[5] * 100u, .mem_mib = b[6] * 64u, .accel_milli = b[7] * 250u},
        .tasks = b[8] % 8u,
        .topology = (enum mr_topology)(b[11] % MR_TOPOLOGY_COUNT),
        .begin_us = now_us + (uint64_t)b[9] * 10000000,
        .maintenance = b[12] & 1,
    };
    ret.end_us = ret.begin_us + (uint64_t)b[10] * 30000000;
    if (!ret.maintenance) return ret;
    ret.tasks = 0;
    ret.node.v = b[13] % 7u;
    if (ret.node.v == 0) ret.domain = b[14] % 4u;
    if (ret.node.v != 0) ret.nodes = b[14] % 4u;
    return ret;
}

/* An event whose ids and sizes lie where the cloud has something. */
static struct mr_event drawn(const struct mr_core *core, const uint8_t *p, size_t n)
{
    uint8_t b[16] = {0};
    memcpy(b, p, MR_MIN(n, sizeof b));
    struct mr_event event;
    memset(&event, 0, sizeof event);
    event.kind = (enum mr_event_kind)(b[0] % MR_EVENT_COUNT);
    event.time_us = mr_core_now_us(core) + ((uint64_t)b[1] << (b[2] % 32));
    switch (event.kind) {
    case MR_EVENT_TENANT_SET:
        event.u.tenant = (struct mr_event_tenant){.id = {b[3] % 4u},
                                                  .parent = {b[4] % 4u},
                                                  .weight = b[5],
                                                  .quota_cpu_milli = (uint64_t)b[6] * 1000,
                                                  .quota_mem_mib = UINT64_MAX,
                                                  .quota_accel_milli = (uint64_t)b[7] * 500,
                                                  .running_max = b[8]};
        break;
    case MR_EVENT_NODE_SET:
        event.u.node = (struct mr_event_node){.id = {b[3] % 7u},
                                              .cpu_milli = b[4] * 1000u,
                                              .mem_mib = b[5] * 1024u,
                                              .accel_type = b[6] % 3,
                                              .accel_count = b[6] % 3 == 0 ? 0 : b[7] % 65,
                                              .domain = b[8] % 4u,
                                              .block = b[9] % 3u,
                                              .cell = b[10] % 3u,
                                              .from_us = (uint64_t)b[11] * 100000000};
        break;
    case MR_EVENT_SUBMIT:
        event.u.submit = submit_drawn(b);
        placed_drawn(b, &event.u.submit);
        break;
    case MR_EVENT_RESERVE:
        event.u.reserve = reserve_drawn(b, event.time_us);
        break;
    case MR_EVENT_NODE_STATE:
        event.u.node_state.id.v = b[3] % 7u;
        if (event.u.node_state.id.v == 0) event.u.node_state.domain = b[3] / 7u % 4u;
        event.u.node_state.state = (enum mr_node_state)(b[4] % MR_NODE_STATE_COUNT);
        break;
    case MR_EVENT_CANCEL:
        event.u.cancel.v = b[3];
        break;
    case MR_EVENT_SCALE:
        event.u.scale = (struct mr_event_scale){{b[3]}, b[4] % 8u, b[5] % 16u};
        break;
    case MR_EVENT_LOAD:
        event.u.load = (struct mr_event_load){{b[3]}, b[4], b[5]};
        break;
    case MR_EVENT_METER:
        event.u.meter = (struct mr_event_meter){{b[3]}, b[4], {b[5] % 4u}, b[6], b[7], b[8]};
        break;
    case MR_EVENT_PRICE_SET:
        event.u.price = (struct mr_event_price){(enum mr_sku)(b[3] % MR_SKU_COUNT), b[4] % 3,
                                                (int64_t)b[5] << (b[6] % 40)};
        break;
    default:
        event.u.lease = (struct mr_event_lease){{b[3]},
                                                b[4],
                                                (enum mr_exit_kind)(b[5] % MR_EXIT_COUNT),
                                                b[6] % 4 == 0 ? 75 : b[6] % 4,
                                                (uint64_t)b[7] * 100000,
                                                (uint64_t)b[8] << (b[9] % 40)};
        break;
    }
    return event;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t bytes = mr_core_bytes(&limits);
    void *block = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    struct mr_core *core = NULL;
    if (block == NULL || mr_core_init(block, bytes, &limits, &core) != 0) return 0;
    struct ledger ledger = {0};
    struct mr_effect_sink sink = {.emit = effect_sum, .context = &ledger};
    while (size > 1) {
        size_t n = MR_MIN((size_t)data[0], size - 1);
        struct mr_event event;
        if (mr_event_get((struct mr_str){(const char *)data + 1, n}, &event) != 0) {
            event = drawn(core, data + 1, n);
        }
        mr_core_step(core, &event, &sink);
        const char *text = NULL;
        if (mr_core_check(core, &text) != 0) mr_panic(__FILE__, __LINE__, text);
        data += 1 + n;
        size -= 1 + n;
    }
    uint64_t cursor = 0, sum = 0;
    struct mr_bill_line line;
    bool full = false; /* absurd prices: a line is at its type's end */
    while (mr_core_bill_next(core, mr_core_now_us(core), &cursor, &line) == 0) {
        if (line.charge_nusd == INT64_MAX) full = true;
        if (!line.accrued) sum += (uint64_t)line.charge_nusd;
    }
    MR_ASSERT(full || sum == ledger.sum);
    free(block);
    return 0;
}
