/* SPDX-License-Identifier: Apache-2.0 */
/* The block of memory: where each table lies, and the slots that tables hand out.
 *
 * Owns:       the layout; equal limits give equal offsets on every machine.
 * Invariants: (1) slot 0 of a table is never handed out;
 *             (2) used, live and the chain of freed slots of a table agree;
 *             (3) a slot that was handed out is all zeros.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       a slot is taken and given back in O(1).
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_block.c
 */
#include "core_reserve.h"
#include "core_value.h"

#define CORE_MAGIC  0x45524f43524d3031ull /* "10MRCORE" */
#define CORE_FORMAT 1u

const struct mr_core_limits mr_core_limits_small = {
    .nodes = 256,
    .domains = 128,
    .blocks = 32,
    .cells = 8,
    .tenants = 256,
    .workloads = 8192,
    .leases = 4096,
    .shapes = 1024,
    .fit_shapes = 96,
    .fit_states = 256,
    .planned = 256,
    .reservations = 64,
};
const struct mr_core_limits mr_core_limits_fleet = {
    .nodes = 240000,
    .domains = 32768,
    .blocks = 4096,
    .cells = 256,
    .tenants = 16384,
    .workloads = 1100000,
    .leases = 700000,
    .shapes = 65536,
    .fit_shapes = 512,
    .fit_states = 8192,
    .planned = 4096,
    .reservations = 4096,
};

_Static_assert(sizeof(struct core_node) == 128 + 2 * MR_DEVICES_PER_NODE_MAX, "no padding");
_Static_assert(sizeof(struct core_place) == 32, "no padding");
_Static_assert(sizeof(struct core_place_type) == 48, "no padding");
_Static_assert(sizeof(struct core_free_state) == 80, "no padding");
_Static_assert(sizeof(struct core_tenant) == 160 + CORE_AMOUNTS * sizeof(struct core_amount),
               "no padding");
_Static_assert(sizeof(struct core_line) == 64, "no padding");
_Static_assert(sizeof(struct core_workload) == 432, "no padding");
_Static_assert(sizeof(struct core_lease) == 136, "no padding");
_Static_assert(sizeof(struct core_class) == 132, "no padding");
_Static_assert(sizeof(struct core_apart) == 24, "no padding");
_Static_assert(sizeof(struct core_meter) == 48 + CORE_METER_WINDOW / 8, "no padding");
_Static_assert(sizeof(struct core_fit_class) == 24, "no padding");
_Static_assert(sizeof(struct core_fit_future) == 3 * CORE_FIT_FUTURES_K * CORE_FIT_ORDER,
               "no padding");
_Static_assert(sizeof(struct core_fit_shape) == 40, "no padding");
_Static_assert(sizeof(struct core_fit_kind) == 32, "no padding");
_Static_assert(sizeof(struct core_reserved) == 104, "no padding");
_Static_assert(sizeof(struct core_delivery) == 56, "no padding");
_Static_assert(sizeof(struct core_plan) == 16, "no padding");
_Static_assert(sizeof(struct core_pieces) == 8 * CORE_PIECES + 8 + CORE_PIECES + 4, "no padding");
_Static_assert(sizeof(struct core_planned) ==
                   48 + 20 * MR_CURVE_POINTS_MAX + 2 * sizeof(struct core_pieces) + 32,
               "no padding");
_Static_assert(sizeof(struct core_candidate) == 48, "no padding");

static uint32_t power_of_two(uint32_t at_least)
{
    uint32_t power = 16;
    while (power < at_least) {
        power *= 2;
    }
    return power;
}

static bool limits_sound(const struct mr_core_limits *limits)
{
    const uint32_t most = 1u << 24;
    const uint32_t bounds[][2] = {
        {limits->nodes, most},       {limits->domains, most / MR_ACCEL_TYPES_MAX},
        {limits->blocks, 1u << 16},  {limits->cells, 1u << 16},
        {limits->tenants, 1u << 20}, {limits->workloads, most},
        {limits->leases, most},      {limits->shapes, most},
    };
    for (size_t i = 0; i < MR_COUNT_OF(bounds); i++) {
        if (bounds[i][0] == 0 || bounds[i][0] > bounds[i][1]) return false;
    }
    if (limits->fit_shapes > 4096 || limits->fit_states > 1u << 16) return false;
    if ((limits->fit_shapes == 0) != (limits->fit_states == 0)) return false;
    return limits->planned <= 1u << 16 && limits->reservations <= 1u << 16;
}

/* These are addressed directly, not handed out. */
static void direct_use(struct core_table *tables)
{
    static const enum core_table_kind direct[] = {
        CORE_ID_BUCKETS,    CORE_KEY_BUCKETS,  CORE_LEASE_BUCKETS, CORE_METER_BUCKETS,
        CORE_CLASS_BUCKETS, CORE_LINE_BUCKETS, CORE_PLACES,        CORE_PLACE_TYPES,
        CORE_FIT_BUCKETS,   CORE_ENDS,         CORE_APART_BUCKETS,
    };
    for (size_t i = 0; i < MR_COUNT_OF(direct); i++) {
        tables[direct[i]].used = tables[direct[i]].capacity;
    }
}

bool core_layout(const struct mr_core_limits *limits, struct core_table *tables, size_t *ret_bytes)
{
    if (!limits_sound(limits)) return false;
    uint32_t places = 2 + limits->cells + limits->blocks + limits->domains;
    uint32_t lines = MR_MIN(4 * limits->workloads, limits->workloads + 131072u);
    uint32_t meters = MR_MIN(limits->leases, 65536u + limits->leases / 8);
    /* Without placement by value these have slot 0 alone. */
    bool by_value = limits->fit_shapes > 0;
    uint32_t classes = by_value ? MR_MIN(65u, 9 + limits->nodes / 16) : 1;
    uint32_t entries = limits->fit_shapes * limits->fit_states;
    uint32_t steps = 4 + 2 * CORE_PIECES * limits->planned + 2 * limits->reservations;
    /* As many dates and types as reservations, which book against them. */
    uint32_t deliveries = 1 + limits->reservations;
    uint32_t windows = limits->reservations > 0 ? limits->nodes + 16 * limits->reservations : 0;
    const struct {
        uint32_t capacity;
        size_t item_bytes;
    } sizes[CORE_TABLE_COUNT] = {
        [CORE_NODES] = {1 + limits->nodes, sizeof(struct core_node)},
        [CORE_PLACES] = {places, sizeof(struct core_place)},
        [CORE_PLACE_TYPES] = {places * MR_ACCEL_TYPES_MAX, sizeof(struct core_place_type)},
        [CORE_STATES] = {2 + limits->nodes, sizeof(struct core_free_state)},
        [CORE_TENANTS] = {1 + limits->tenants, sizeof(struct core_tenant)},
        [CORE_SUM_LINES] = {(1 + limits->tenants) * CORE_SUMS, sizeof(struct core_line)},
        [CORE_WORKLOADS] = {1 + limits->workloads, sizeof(struct core_workload)},
        [CORE_LEASES] = {1 + limits->leases, sizeof(struct core_lease)},
        [CORE_CLASSES] = {1 + limits->shapes, sizeof(struct core_class)},
        [CORE_APARTS] = {1 + MR_MIN(limits->workloads, UINT16_MAX), sizeof(struct core_apart)},
        [CORE_PLANNED] = {1 + limits->planned, sizeof(struct core_planned)},
        [CORE_RESERVED] = {1 + limits->reservations, sizeof(struct core_reserved)},
        [CORE_WINDOWS] = {1 + windows, sizeof(struct core_window)},
        [CORE_DELIVERIES] = {deliveries, sizeof(struct core_delivery)},
        [CORE_ENDS] = {CORE_END_RING + 2, sizeof(uint32_t)},
        [CORE_METERS] = {1 + meters, sizeof(struct core_meter)},
        [CORE_LINES] = {1 + lines, sizeof(struct core_line)},
        [CORE_ID_BUCKETS] = {power_of_two(limits->workloads), sizeof(uint32_t)},
        [CORE_KEY_BUCKETS] = {power_of_two(limits->workloads), sizeof(uint32_t)},
        [CORE_LEASE_BUCKETS] = {power_of_two(limits->leases), sizeof(uint32_t)},
        [CORE_METER_BUCKETS] = {power_of_two(meters), sizeof(uint32_t)},
        [CORE_CLASS_BUCKETS] = {power_of_two(limits->shapes), sizeof(uint32_t)},
        [CORE_APART_BUCKETS] = {power_of_two(MR_MIN(limits->workloads, 65536u)), sizeof(uint32_t)},
        [CORE_BARRED] = {1 + limits->nodes + places, sizeof(uint32_t)},
        [CORE_LINE_BUCKETS] = {power_of_two(lines), sizeof(uint32_t)},
        [CORE_TIMERS] = {1 + limits->workloads, sizeof(uint32_t)},
        [CORE_FIT_CLASSES] = {classes, sizeof(struct core_fit_class)},
        [CORE_FIT_FUTURES] = {classes, sizeof(struct core_fit_future)},
        [CORE_FIT_SHAPES] = {1 + limits->fit_shapes, sizeof(struct core_fit_shape)},
        [CORE_FIT_BUCKETS] = {power_of_two(limits->fit_shapes), sizeof(uint32_t)},
        [CORE_FIT_KINDS] = {1 + limits->fit_shapes, sizeof(struct core_fit_kind)},
        [CORE_FIT_INDEX] = {1 + limits->fit_shapes, sizeof(struct core_fit_index)},
        [CORE_FIT_HEAPS] = {1 + entries, sizeof(struct core_fit_entry)},
        [CORE_FIT_BIRTHS] = {power_of_two(2 * limits->fit_states), sizeof(uint32_t)},
        [CORE_FIT_VALUES] = {power_of_two(entries / 8), sizeof(struct core_fit_value)},
        [CORE_FIT_SUMS] = {1 + limits->fit_shapes, sizeof(uint64_t)},
        [CORE_PLAN] = {1 + limits->leases, sizeof(struct core_plan)},
        [CORE_CANDIDATES] = {2 + limits->shapes, sizeof(struct core_candidate)},
        [CORE_FREE_STEPS] = {steps, sizeof(struct core_free_step)},
        [CORE_PLAN_ORDER] = {1 + limits->planned, sizeof(uint32_t)},
    };
    size_t at = (sizeof(struct mr_core) + 63) & ~(size_t)63;
    for (uint32_t i = 0; i < CORE_TABLE_COUNT; i++) {
        tables[i] = (struct core_table){.offset_bytes = at,
                                        .item_bytes = (uint32_t)sizes[i].item_bytes,
                                        .capacity = sizes[i].capacity,
                                        .used = 1};
        at += ((size_t)sizes[i].capacity * sizes[i].item_bytes + 63) & ~(size_t)63;
    }
    direct_use(tables);
    *ret_bytes = at;
    return true;
}

uint32_t core_item_check(void)
{
    const uint64_t sizes[] = {
        sizeof(struct core_node),       sizeof(struct core_place),
        sizeof(struct core_place_type), sizeof(struct core_line),
        sizeof(struct core_workload),   sizeof(struct core_free_state),
        sizeof(struct core_lease),      sizeof(struct core_class),
        sizeof(struct core_meter),      sizeof(struct mr_core),
        sizeof(struct core_tenant),     CORE_FORMAT,
        sizeof(struct core_fit_class),  sizeof(struct core_fit_future),
        sizeof(struct core_fit_shape),  sizeof(struct core_fit_kind),
        sizeof(struct core_planned),    sizeof(struct core_amount),
        sizeof(struct core_reserved),   sizeof(struct core_apart),
        sizeof(struct core_window),     sizeof(struct core_delivery),
    };
    return (uint32_t)mr_hash64(sizes, sizeof sizes, 1);
}

size_t mr_core_bytes(const struct mr_core_limits *limits)
{
    struct core_table tables[CORE_TABLE_COUNT];
    size_t bytes = 0;
    return core_layout(limits, tables, &bytes) ? bytes : 0;
}

int mr_core_init(void *block, size_t bytes, const struct mr_core_limits *limits,
                 struct mr_core **ret_core)
{
    MR_ASSERT(((uintptr_t)block & 15) == 0);
    size_t need = mr_core_bytes(limits);
    if (need == 0) return MR_EINVALID;
    if (bytes < need) return MR_ENO_SPACE;
    memset(block, 0, need);
    struct mr_core *core = block;
    core->magic = CORE_MAGIC;
    core->format = CORE_FORMAT;
    core->item_check = core_item_check();
    core->bytes = need;
    core->limits = *limits;
    core->workload_next = 1;
    core->lease_next = 1;
    core->entry_next = 1;
    core->order_next = 1;
    core->share_epoch = 1;
    core->fit_epoch = 1; /* no futures yet: every value is 0, the tightest spot is the best */
    core->plan_due_us = UINT64_MAX;
    core->hold_due_us = UINT64_MAX;
    bool fits = core_layout(limits, core->tables, &need);
    MR_ASSERT(fits);
    core_fleet_init(core);
    *ret_core = core;
    return 0;
}

static bool table_sound(const struct core_table *table, const struct core_table *wanted)
{
    if (table->offset_bytes != wanted->offset_bytes) return false;
    if (table->item_bytes != wanted->item_bytes) return false;
    if (table->capacity != wanted->capacity) return false;
    if (table->used == 0 || table->used > table->capacity) return false;
    return table->live < table->capacity && table->free < table->used;
}

/* The header is that of a block of this version, and its tables lie where the limits put them. */
static bool header_sound(const struct mr_core *core, size_t bytes)
{
    if (bytes < sizeof *core || core->magic != CORE_MAGIC) return false;
    if (core->format != CORE_FORMAT || core->item_check != core_item_check()) return false;
    struct core_table tables[CORE_TABLE_COUNT];
    size_t need = 0;
    if (!core_layout(&core->limits, tables, &need)) return false;
    if (need != core->bytes || need > bytes) return false;
    for (uint32_t i = 0; i < CORE_TABLE_COUNT; i++) {
        if (!table_sound(&core->tables[i], &tables[i])) return false;
    }
    return true;
}

int mr_core_open(void *block, size_t bytes, bool check, struct mr_core **ret_core)
{
    MR_ASSERT(((uintptr_t)block & 15) == 0);
    struct mr_core *core = block;
    if (!header_sound(core, bytes)) return MR_ECORRUPT;
    core->sink = NULL;
    core->trace = NULL;
    core->plan_count = 0;
    core->repair_count = 0;
    core->candidate_count = 0;
    core->retry_all = 0;
    memset(core->released, 0, sizeof core->released);
    core->released_count = 0;
    core->released_mask = 0;
    core_view_reset(core);
    core->barred_epoch = 0;
    memset(core_item(core, CORE_BARRED, 0), 0,
           (size_t)core->tables[CORE_BARRED].capacity * sizeof(uint32_t));
    if (check) {
        const char *text;
        int error = mr_core_check(core, &text);
        if (error != 0) return error;
    }
    *ret_core = core;
    return 0;
}

const struct mr_core_limits *mr_core_limits_of(const struct mr_core *core)
{
    return &core->limits;
}

void mr_core_trace_set(struct mr_core *core, const struct mr_trace *trace)
{
    core->trace = trace;
}

/* The first four bytes of a freed item link it to the one freed before. */
uint32_t core_slot_take(struct mr_core *core, enum core_table_kind kind)
{
    struct core_table *table = &core->tables[kind];
    uint32_t i = table->free;
    if (i != 0) {
        uint8_t *item = core_item(core, kind, i);
        memcpy(&table->free, item, sizeof table->free);
        MR_INVARIANT(2, table->free < table->used);
        memset(item, 0, sizeof(uint32_t));
    } else {
        if (table->used == table->capacity) return 0;
        i = table->used++;
    }
    table->live++;
    MR_INVARIANT(1, i != 0);
    MR_INVARIANT(2, table->live < table->capacity);
    return i;
}

void core_slot_give(struct mr_core *core, enum core_table_kind kind, uint32_t i)
{
    struct core_table *table = &core->tables[kind];
    MR_INVARIANT(1, i != 0);
    MR_ASSERT(i < table->used);
    MR_ASSERT(table->live > 0);
    uint8_t *item = core_item(core, kind, i);
    memset(item, 0, table->item_bytes);
    memcpy(item, &table->free, sizeof table->free);
    table->free = i;
    table->live--;
}

bool core_slot_left(const struct mr_core *core, enum core_table_kind kind, uint32_t count)
{
    const struct core_table *table = &core->tables[kind];
    MR_ASSERT(table->live < table->capacity);
    return count <= table->capacity - 1 - table->live;
}
