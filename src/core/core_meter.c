/* SPDX-License-Identifier: Apache-2.0 */
/* Money: from what leases hold and workers decode to ledger entries and the lines of the bill.
 *
 * A charge is quantity * price / divisor, rounded down; the fraction that is cut off is carried to
 * the lease's (for tokens: the tenant's) next entry, so that cutting a lease into entries does not
 * change its sum.
 *
 * Owns:       prices, bill lines, meters, the order of hourly cuts.
 * Invariants: (1) the sum over all lines equals the sum over all LEDGER effects;
 *             (2) a serial of a lease is billed at most once;
 *             (3) a lease is billed without gap or overlap from its start to its end;
 *             (4) leases stand in the cut queue in the order of their last entry.
 * Never:      I/O, clock, allocation, recursion, floats.
 * Cost:       O(1) for each entry.
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_meter.c
 */
#include "core_reserve.h"

__extension__ typedef unsigned __int128 u128;

#define PRICE_NUSD_MAX 1000000000000000ll /* a million dollars per unit */
#define HOUR_US        3600000000ull

uint64_t core_sku_divisor(enum mr_sku sku)
{
    switch (sku) {
    case MR_SKU_CPU:
    case MR_SKU_ACCEL:
        return 1000u * HOUR_US;
    case MR_SKU_MEMORY:
        return 1024u * HOUR_US;
    default:
        return 1000000u;
    }
}

static uint32_t sum_index(enum mr_sku sku, uint32_t accel_type)
{
    MR_ASSERT(sku < MR_SKU_COUNT && accel_type < MR_ACCEL_TYPES_MAX);
    if (sku == MR_SKU_ACCEL) return 5 + accel_type;
    return sku < MR_SKU_ACCEL ? (uint32_t)sku : (uint32_t)sku - 1;
}

bool core_price_set(struct mr_core *core, const struct mr_event_price *event)
{
    if (event->sku >= MR_SKU_COUNT || event->accel_type >= MR_ACCEL_TYPES_MAX) return false;
    if (event->price_nusd < 0 || event->price_nusd > PRICE_NUSD_MAX) return false;
    core->price[sum_index(event->sku, event->accel_type)] = event->price_nusd;
    return true;
}

int64_t core_price(const struct mr_core *core, enum mr_sku sku, uint32_t type)
{
    return core->price[sum_index(sku, type)];
}

int64_t core_charge(uint64_t quantity, int64_t price, uint64_t divisor, uint64_t *rest)
{
    MR_ASSERT(price >= 0 && price <= PRICE_NUSD_MAX);
    MR_ASSERT(divisor > 0 && *rest < divisor);
    u128 exact = (u128)quantity * (uint64_t)price + *rest;
    u128 charge = exact / divisor;
    *rest = (uint64_t)(exact % divisor);
    return charge > INT64_MAX ? INT64_MAX : (int64_t)charge;
}

/* --- lines --------------------------------------------------------------------------------- */

static void line_add(struct mr_core *core, struct core_line *line, uint64_t quantity,
                     int64_t charge, uint64_t from_us, uint64_t to_us)
{
    if (line->quantity == 0 && line->charge_nusd == 0) line->from_us = from_us;
    line->from_us = MR_MIN(line->from_us, from_us);
    line->to_us = MR_MAX(line->to_us, to_us);
    if (!mr_add_u64(line->quantity, quantity, &line->quantity)) line->quantity = UINT64_MAX;
    if (!mr_add_i64(line->charge_nusd, charge, &line->charge_nusd)) {
        line->charge_nusd = INT64_MAX;
        core->saturated = 1;
    }
}

static uint32_t *line_bucket(const struct mr_core *core, uint32_t tenant, uint32_t workload,
                             uint32_t sum)
{
    uint64_t hash = mr_hash_mix(((uint64_t)tenant << 40) ^ ((uint64_t)workload << 8) ^ sum);
    return core_bucket(core, CORE_LINE_BUCKETS, hash);
}

/* The line of a workload that is still known; when the table is full, the tenant's own. */
static struct core_line *line_of(struct mr_core *core, uint32_t tenant, uint32_t workload,
                                 enum mr_sku sku, uint32_t type)
{
    uint32_t sum = sum_index(sku, type);
    uint32_t slot = 0;
    if (workload != 0) {
        uint32_t *bucket = line_bucket(core, tenant, workload, sum);
        for (slot = *bucket; slot != 0; slot = core_line(core, slot)->hash_next) {
            struct core_line *line = core_line(core, slot);
            if (line->tenant == tenant && line->workload == workload && line->sku == sku &&
                line->accel_type == type) {
                return line;
            }
        }
        slot = core_slot_take(core, CORE_LINES);
        if (slot != 0) {
            struct core_line *line = core_line(core, slot);
            line->hash_next = *bucket;
            *bucket = slot;
            line->owner_next = core_workload(core, workload)->line_first;
            core_workload(core, workload)->line_first = slot;
            line->workload = workload;
        }
    }
    struct core_line *line = slot != 0 ? core_line(core, slot) : core_sum_line(core, tenant, sum);
    line->tenant = tenant;
    line->sku = (uint8_t)sku;
    line->accel_type = (uint8_t)type;
    return line;
}

void core_lines_fold(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    while (w->line_first != 0) {
        uint32_t slot = w->line_first;
        struct core_line *line = core_line(core, slot);
        MR_ASSERT(line->workload == workload);
        w->line_first = line->owner_next;
        uint32_t sum = sum_index((enum mr_sku)line->sku, line->accel_type);
        uint32_t *link = line_bucket(core, line->tenant, workload, sum);
        while (*link != slot) {
            MR_ASSERT(*link != 0);
            link = &core_line(core, *link)->hash_next;
        }
        *link = line->hash_next;
        struct core_line *into =
            line_of(core, line->tenant, 0, (enum mr_sku)line->sku, line->accel_type);
        line_add(core, into, line->quantity, line->charge_nusd, line->from_us, line->to_us);
        core_slot_give(core, CORE_LINES, slot);
    }
}

static void ledger_put(struct mr_core *core, struct mr_effect_ledger *entry, uint64_t *rest)
{
    entry->entry = core->entry_next++;
    entry->price_nusd = core_price(core, entry->sku, entry->accel_type);
    entry->charge_nusd =
        core_charge(entry->quantity, entry->price_nusd, core_sku_divisor(entry->sku), rest);
    core->charged_nusd += (uint64_t)entry->charge_nusd;
    uint32_t workload = core_workload_find(core, entry->workload.v);
    struct core_line *line =
        line_of(core, entry->tenant.v, workload, entry->sku, entry->accel_type);
    line_add(core, line, entry->quantity, entry->charge_nusd, entry->from_us, entry->to_us);
    struct mr_effect effect = {.kind = MR_EFFECT_LEDGER, .u.ledger = *entry};
    core_emit(core, &effect);
}

/* --- what leases hold ---------------------------------------------------------------------- */

void core_lease_bill(struct mr_core *core, uint32_t lease, uint64_t until_us)
{
    struct core_lease *l = core_lease(core, lease);
    if (l->started_us == 0 || l->billed_us >= until_us) return;
    const struct core_workload *w = core_workload(core, l->workload);
    struct core_charge c;
    core_charge_of(core, l, &c);
    const struct {
        enum mr_sku sku;
        uint64_t amount;
    } held[3] = {{MR_SKU_CPU, (uint64_t)c.shape->cpu_milli * c.tasks},
                 {MR_SKU_MEMORY, (uint64_t)c.shape->mem_mib * c.tasks},
                 {MR_SKU_ACCEL, (uint64_t)c.shape->accel_milli * c.tasks}};
    for (uint32_t i = 0; i < 3; i++) {
        if (held[i].amount == 0) continue;
        uint64_t quantity;
        if (!mr_mul_u64(held[i].amount, until_us - l->billed_us, &quantity)) quantity = UINT64_MAX;
        struct mr_effect_ledger entry = {
            .tenant = {w->tenant},
            .workload = {w->id},
            .lease = {l->id},
            .sku = held[i].sku,
            .accel_type = held[i].sku == MR_SKU_ACCEL ? c.type : 0,
            .quantity = quantity,
            .from_us = l->billed_us,
            .to_us = until_us,
        };
        ledger_put(core, &entry, &l->rest[i]);
        if (w->reserved != 0) {
            uint64_t *used = &core_reserved(core, w->reserved)->used[i];
            if (!mr_add_u64(*used, quantity, used)) *used = UINT64_MAX;
        }
    }
    MR_INVARIANT(3, l->billed_us < until_us);
    l->billed_us = until_us;
}

void core_cut_join(struct mr_core *core, uint32_t lease)
{
    struct core_lease *l = core_lease(core, lease);
    MR_ASSERT(!l->in_cut);
    MR_INVARIANT(4, core->cut_last == 0 ||
                        core_lease(core, core->cut_last)->billed_us <= l->billed_us);
    l->in_cut = 1;
    l->cut_prev = core->cut_last;
    l->cut_next = 0;
    if (core->cut_last != 0)
        core_lease(core, core->cut_last)->cut_next = lease;
    else
        core->cut_first = lease;
    core->cut_last = lease;
}

void core_cut_leave(struct mr_core *core, uint32_t lease)
{
    struct core_lease *l = core_lease(core, lease);
    if (!l->in_cut) return;
    if (l->cut_prev != 0)
        core_lease(core, l->cut_prev)->cut_next = l->cut_next;
    else
        core->cut_first = l->cut_next;
    if (l->cut_next != 0)
        core_lease(core, l->cut_next)->cut_prev = l->cut_prev;
    else
        core->cut_last = l->cut_prev;
    l->in_cut = 0;
    l->cut_prev = 0;
    l->cut_next = 0;
}

void core_cut_due(struct mr_core *core)
{
    for (uint32_t i = 0; i < CORE_DUE_PER_STEP && core->cut_first != 0; i++) {
        uint32_t lease = core->cut_first;
        struct core_lease *l = core_lease(core, lease);
        if (core->now_us - l->billed_us < CORE_CUT_US) return;
        core_cut_leave(core, lease);
        core_lease_bill(core, lease, core->now_us);
        core_cut_join(core, lease);
    }
}

/* What was promised and not held by members, over the time since it was billed last. */
static void reserve_bill(struct mr_core *core, struct core_reserved *r)
{
    const struct core_workload *w = core_workload(core, r->workload);
    const uint64_t amounts[3] = {w->shape.cpu_milli, w->shape.mem_mib, w->shape.accel_milli};
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t promised, used = r->used[i];
        r->used[i] = 0;
        if (!mr_mul_u64(amounts[i] * r->tasks, core->now_us - r->billed_us, &promised))
            promised = UINT64_MAX;
        if (promised <= used) continue;
        enum mr_sku sku = (enum mr_sku)(MR_SKU_CPU + i);
        struct mr_effect_ledger entry = {
            .tenant = {w->tenant},
            .workload = {w->id},
            .sku = sku,
            .accel_type = sku == MR_SKU_ACCEL ? r->accel_type : 0,
            .quantity = promised - used,
            .from_us = r->billed_us,
            .to_us = core->now_us,
        };
        ledger_put(core, &entry, &r->rest[i]);
    }
}

void core_reserve_bill(struct mr_core *core, uint32_t reserved)
{
    struct core_reserved *r = core_reserved(core, reserved);
    if (r->billed_us >= core->now_us) return;
    for (uint32_t at = r->window_first; at != 0; at = core_window(core, at)->of_next) {
        uint32_t lease = core_node(core, core_window(core, at)->node)->lease_first;
        for (; lease != 0; lease = core_lease(core, lease)->node_next) {
            if (core_workload(core, core_lease(core, lease)->workload)->reserved != reserved)
                continue;
            if (!core_lease(core, lease)->in_cut) continue;
            core_cut_leave(core, lease);
            core_lease_bill(core, lease, core->now_us);
            core_cut_join(core, lease);
        }
    }
    if (!r->maintenance) reserve_bill(core, r);
    r->billed_us = core->now_us;
}

/* --- tokens -------------------------------------------------------------------------------- */

static uint32_t meter_find(const struct mr_core *core, uint64_t lease)
{
    uint32_t slot = *core_bucket(core, CORE_METER_BUCKETS, lease);
    while (slot != 0 && core_meter(core, slot)->lease != lease) {
        slot = core_meter(core, slot)->hash_next;
    }
    return slot;
}

static void ended_meter_drop(struct mr_core *core)
{
    uint32_t slot = core->meter_first;
    MR_ASSERT(slot != 0);
    struct core_meter *m = core_meter(core, slot);
    MR_ASSERT(m->ended_us != 0 && m->ended_prev == 0);
    core->meter_first = m->ended_next;
    if (m->ended_next != 0)
        core_meter(core, m->ended_next)->ended_prev = 0;
    else
        core->meter_last = 0;
    uint32_t *link = core_bucket(core, CORE_METER_BUCKETS, m->lease);
    while (*link != slot) {
        MR_ASSERT(*link != 0);
        link = &core_meter(core, *link)->hash_next;
    }
    *link = m->hash_next;
    core_slot_give(core, CORE_METERS, slot);
}

bool core_meter_open(struct mr_core *core, uint32_t lease)
{
    struct core_lease *l = core_lease(core, lease);
    if (l->meter != 0) return true;
    if (!core_slot_left(core, CORE_METERS, 1)) {
        if (core->meter_first == 0) return false;
        ended_meter_drop(core);
    }
    uint32_t slot = core_slot_take(core, CORE_METERS);
    MR_ASSERT(slot != 0);
    const struct core_workload *w = core_workload(core, l->workload);
    struct core_meter *m = core_meter(core, slot);
    m->lease = l->id;
    m->workload = w->id;
    m->tenant = w->tenant;
    uint32_t *bucket = core_bucket(core, CORE_METER_BUCKETS, l->id);
    m->hash_next = *bucket;
    *bucket = slot;
    l->meter = slot;
    return true;
}

void core_meter_end(struct mr_core *core, uint32_t lease)
{
    while (core->meter_first != 0 &&
           core->now_us - core_meter(core, core->meter_first)->ended_us > CORE_METER_KEEP_US) {
        ended_meter_drop(core);
    }
    uint32_t slot = core_lease(core, lease)->meter;
    if (slot == 0) return;
    struct core_meter *m = core_meter(core, slot);
    MR_ASSERT(m->ended_us == 0);
    m->ended_us = MR_MAX(core->now_us, 1u);
    m->ended_prev = core->meter_last;
    m->ended_next = 0;
    if (core->meter_last != 0)
        core_meter(core, core->meter_last)->ended_next = slot;
    else
        core->meter_first = slot;
    core->meter_last = slot;
}

/* True when the serial is new; it is known from then on. */
static bool serial_new(struct core_meter *m, uint64_t serial)
{
    if (serial <= m->below) return false;
    while (serial - m->below > CORE_METER_WINDOW) {
        /* Older ones than a window can hold are given up: never billed twice. */
        uint64_t shift = MR_MIN(serial - m->below - CORE_METER_WINDOW, (uint64_t)CORE_METER_WINDOW);
        uint64_t moved[CORE_METER_WINDOW / 64] = {0};
        for (uint64_t i = shift; i < CORE_METER_WINDOW; i++) {
            if (mr_bit_get(m->seen, i)) mr_bit_set(moved, i - shift);
        }
        memcpy(m->seen, moved, sizeof moved);
        m->below = shift < CORE_METER_WINDOW ? m->below + shift : serial - CORE_METER_WINDOW;
    }
    uint64_t at = serial - m->below - 1;
#ifdef MR_PLANT_CORE_METER_TWICE
    if (mr_bit_get(m->seen, at)) return true;
#endif
    if (mr_bit_get(m->seen, at)) return false;
    mr_bit_set(m->seen, at);
    while (m->seen[0] == UINT64_MAX) {
        memmove(m->seen, m->seen + 1, sizeof m->seen - sizeof m->seen[0]);
        m->seen[CORE_METER_WINDOW / 64 - 1] = 0;
        m->below += 64;
    }
    return true;
}

static void tokens_bill(struct mr_core *core, const struct core_meter *m,
                        const struct mr_event_meter *event)
{
    uint32_t tenant = event->tenant.v;
    if (tenant == 0 || tenant > core->limits.tenants || !core_tenant(core, tenant)->present) {
        tenant = m->tenant;
    }
    uint32_t cached = MR_MIN(event->cached_tokens, event->prompt_tokens);
    const struct {
        enum mr_sku sku;
        uint32_t tokens;
    } parts[3] = {{MR_SKU_TOKENS_PROMPT, event->prompt_tokens - cached},
                  {MR_SKU_TOKENS_CACHED, cached},
                  {MR_SKU_TOKENS_COMPLETION, event->completion_tokens}};
    for (uint32_t i = 0; i < 3; i++) {
        if (parts[i].tokens == 0) continue;
        struct mr_effect_ledger entry = {.tenant = {tenant},
                                         .workload = {m->workload},
                                         .lease = {m->lease},
                                         .sku = parts[i].sku,
                                         .quantity = parts[i].tokens,
                                         .from_us = core->now_us,
                                         .to_us = core->now_us};
        uint64_t *rest = &core_sum_line(core, tenant, sum_index(parts[i].sku, 0))->rest;
        ledger_put(core, &entry, rest);
    }
}

void core_meter_take(struct mr_core *core, const struct mr_event_meter *event)
{
    uint32_t lease = core_lease_find(core, event->lease.v);
    uint32_t slot = 0;
    if (lease != 0) {
        bool live = core_lease(core, lease)->state != CORE_LEASE_CLAIM;
        if (live && core_meter_open(core, lease)) slot = core_lease(core, lease)->meter;
    } else {
        slot = meter_find(core, event->lease.v);
        if (slot != 0 && core->now_us - core_meter(core, slot)->ended_us > CORE_METER_KEEP_US) {
            slot = 0;
        }
    }
    if (slot == 0) {
        core_trace(core, "meter of lease %llu is too late", (unsigned long long)event->lease.v);
    } else if (event->serial != 0 && serial_new(core_meter(core, slot), event->serial)) {
        tokens_bill(core, core_meter(core, slot), event);
    } else {
        core_trace(core, "meter %llu of lease %llu is known", (unsigned long long)event->serial,
                   (unsigned long long)event->lease.v);
    }
    struct mr_effect effect = {.kind = MR_EFFECT_METERED, .u.metered = *event};
    core_emit(core, &effect);
}
