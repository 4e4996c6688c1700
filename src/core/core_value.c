/* SPDX-License-Identifier: Apache-2.0 */
/* What placement by value learns: classes of nodes that are alike when empty, and how often which
 * demand arrives.
 *
 * Owns:       classes, shapes with their weights, the schedule of the futures.
 * Invariants: (1) a class counts the nodes that are up and of it;
 *             (2) no two shapes are alike;
 *             (3) weights fade: what came 2,048 arrivals ago counts 15/16.
 * Never:      I/O, clock, allocation, recursion, float.
 * Cost:       O(1) an arrival, O(shapes) every 2,048, and the futures when these drifted.
 * Idea:       docs/internals/placement.md   Tests: tests/unit/core/test_core_value.c
 */
#include "core_value.h"

#define LOOKED_TO_EVICT 16u
#define WEIGHT_MAX      (1u << 22)
#define DRIFT_Q16       (65536u / 32u)

/* --- classes --------------------------------------------------------------------------------- */

/* Machines of one kind report a few MiB more or less: the leading five bits tell kinds apart. */
static uint32_t coarse(uint32_t amount)
{
    if (amount < 32) return amount;
    uint32_t shift = 27u - (uint32_t)__builtin_clz(amount);
    return amount >> shift << shift;
}

uint32_t core_fit_class_join(struct mr_core *core, const struct core_node *n)
{
    struct core_table *table = &core->tables[CORE_FIT_CLASSES];
    uint32_t empty = 0;
    if (n->accel_type == 0 || table->capacity <= 1) return 0;
    for (uint32_t i = 1; i < table->used; i++) {
        struct core_fit_class *c = core_fit_class(core, i);
        if (c->up == 0 && empty == 0) empty = i;
        if (c->accel_type != n->accel_type || c->accel_count != n->accel_count) continue;
        if (coarse(c->cpu_milli) != coarse(n->cpu_milli)) continue;
        if (coarse(c->mem_mib) != coarse(n->mem_mib)) continue;
        c->up++;
        return i;
    }
    if (table->used < table->capacity) {
        empty = table->used++;
        table->live++;
        core->tables[CORE_FIT_FUTURES].used = table->used;
        core->tables[CORE_FIT_FUTURES].live = table->live;
    }
    if (empty == 0) return 0;
    memset(core_fit_future(core, empty), 0, sizeof(struct core_fit_future));
    *core_fit_class(core, empty) = (struct core_fit_class){.cpu_milli = n->cpu_milli,
                                                           .mem_mib = n->mem_mib,
                                                           .up = 1,
                                                           .accel_type = n->accel_type,
                                                           .accel_count = n->accel_count};
    core->fit_stale = 1;
    return empty;
}

void core_fit_class_leave(struct mr_core *core, uint32_t class_of)
{
    if (class_of == 0) return;
    struct core_fit_class *c = core_fit_class(core, class_of);
    MR_INVARIANT(1, c->up > 0);
    c->up--;
}

void core_fit_born(struct mr_core *core, uint32_t state)
{
    struct core_free_state *s = core_free_state(core, state);
    if (s->class_of == 0 || s->until_s != UINT32_MAX) return;
    s->born = ++core->fit_born;
    uint32_t ring = core->tables[CORE_FIT_BIRTHS].capacity;
    uint32_t *slot = core_item(core, CORE_FIT_BIRTHS, (uint32_t)(s->born & (ring - 1)));
    *slot = state;
}

/* --- shapes ---------------------------------------------------------------------------------- */

uint32_t core_fit_types(const struct mr_shape *shape)
{
    uint32_t types = 0;
    if (shape->accel_milli == 0) return 0;
    for (uint32_t i = 0; i < MR_SHAPE_ALTERNATIVES; i++) {
        if (shape->accel_types[i] != 0) types |= (uint32_t)1 << shape->accel_types[i];
    }
    return types != 0 ? types : ~(uint32_t)1;
}

static uint32_t *shape_bucket(const struct mr_core *core, const struct core_fit_shape *key)
{
    return core_bucket(core, CORE_FIT_BUCKETS,
                       mr_hash64(key, offsetof(struct core_fit_shape, weight), 11));
}

static void shape_drop(struct mr_core *core, uint32_t slot)
{
    struct core_fit_shape *s = core_fit_shape(core, slot);
    uint32_t *link = shape_bucket(core, s);
    while (*link != slot) {
        MR_ASSERT(*link != 0);
        link = &core_fit_shape(core, *link)->hash_next;
    }
    *link = s->hash_next;
    core_slot_give(core, CORE_FIT_SHAPES, slot);
}

/* Of a few in turn the one that was used longest ago; all slots are in use. */
static void shape_evict(struct mr_core *core)
{
    const struct core_table *table = &core->tables[CORE_FIT_SHAPES];
    uint32_t oldest = 0;
    for (uint32_t i = 0; i < LOOKED_TO_EVICT; i++) {
        core->fit_hand = core->fit_hand + 1 < table->used ? core->fit_hand + 1 : 1;
        const struct core_fit_shape *s = core_fit_shape(core, core->fit_hand);
        if (oldest == 0 || s->used < core_fit_shape(core, oldest)->used) oldest = core->fit_hand;
    }
    shape_drop(core, oldest);
}

uint32_t core_fit_shape_find(struct mr_core *core, const struct core_fit_shape *key, bool make)
{
    if (core->tables[CORE_FIT_SHAPES].capacity <= 1) return 0;
    uint32_t *bucket = shape_bucket(core, key);
    uint32_t slot = *bucket;
    while (slot != 0) {
        struct core_fit_shape *s = core_fit_shape(core, slot);
        if (memcmp(s, key, offsetof(struct core_fit_shape, weight)) == 0) break;
        slot = s->hash_next;
    }
    if (slot == 0 && make) {
        if (!core_slot_left(core, CORE_FIT_SHAPES, 1)) shape_evict(core);
        slot = core_slot_take(core, CORE_FIT_SHAPES);
        MR_ASSERT(slot != 0);
        struct core_fit_shape *s = core_fit_shape(core, slot);
        memcpy(s, key, offsetof(struct core_fit_shape, weight));
        s->hash_next = *bucket;
        *bucket = slot;
        memset(core_item(core, CORE_FIT_INDEX, slot), 0, sizeof(struct core_fit_index));
    }
    if (slot != 0 && make) core_fit_shape(core, slot)->used = core->fit_arrivals;
    return slot;
}

/* --- learning -------------------------------------------------------------------------------- */

static uint64_t weight_sum(const struct mr_core *core)
{
    uint64_t sum = 0;
    for (uint32_t i = 1; i < core->tables[CORE_FIT_SHAPES].used; i++) {
        sum += core_fit_shape(core, i)->weight;
    }
    return sum;
}

/* A freed slot keeps the link to the next one in its first field and is zero beyond. */
static void weights_fade(struct mr_core *core)
{
    for (uint32_t i = 1; i < core->tables[CORE_FIT_SHAPES].used; i++) {
        struct core_fit_shape *s = core_fit_shape(core, i);
        bool there = s->used != 0;
        s->weight -= (s->weight + 15) / 16;
        if (there && s->weight == 0 && s->used + CORE_FIT_KEEP < core->fit_arrivals)
            shape_drop(core, i);
    }
}

/* Whether the shares of the shapes differ from those that the futures were drawn with. */
static bool shares_drifted(const struct mr_core *core)
{
    uint64_t sum = weight_sum(core), apart = 0;
    for (uint32_t i = 1; i < core->tables[CORE_FIT_SHAPES].used; i++) {
        const struct core_fit_shape *s = core_fit_shape(core, i);
        uint64_t share = sum > 0 ? (uint64_t)s->weight * 65536 / sum : 0;
        apart += share > s->built_q16 ? share - s->built_q16 : s->built_q16 - share;
    }
    return apart / 2 > DRIFT_Q16;
}

static void built_note(struct mr_core *core)
{
    uint64_t sum = weight_sum(core);
    for (uint32_t i = 1; i < core->tables[CORE_FIT_SHAPES].used; i++) {
        struct core_fit_shape *s = core_fit_shape(core, i);
        if (sum > 0) s->built_q16 = (uint32_t)((uint64_t)s->weight * 65536 / sum);
    }
    core->fit_stale = 0;
    core->fit_built_milli = core->accel_milli;
}

void core_fit_learn(struct mr_core *core, const struct mr_shape *shape)
{
    if (core->tables[CORE_FIT_SHAPES].capacity <= 1) return;
    struct core_fit_shape key = {.cpu_milli = shape->cpu_milli,
                                 .mem_mib = shape->mem_mib,
                                 .accel_milli = shape->accel_milli,
                                 .types = core_fit_types(shape)};
    uint64_t arrivals = ++core->fit_arrivals;
    struct core_fit_shape *s = core_fit_shape(core, core_fit_shape_find(core, &key, true));
    s->weight = MR_MIN(s->weight + CORE_FIT_WEIGHT, WEIGHT_MAX);
    if (arrivals < CORE_FIT_FIRST) return;
    uint64_t milli = core->accel_milli, built = core->fit_built_milli;
    bool due = core->fit_stale || (milli > built ? milli - built : built - milli) > built / 4;
    bool early = arrivals < CORE_FIT_EVERY && (arrivals & (arrivals - 1)) == 0;
    if (arrivals % CORE_FIT_EVERY == 0) {
        weights_fade(core);
        due = due || shares_drifted(core);
    }
    due = due || early;
    if (!due || core->accel_milli == 0) return;
    core_future_build(core);
    built_note(core);
}
