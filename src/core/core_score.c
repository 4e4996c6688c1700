/* SPDX-License-Identifier: Apache-2.0 */
/* Where a task goes: to the free state whose value falls least.
 *
 * For each shape a heap holds the live states that take it, best first. States that are new since
 * the shape was placed last are added when it is placed again, states that are gone are dropped
 * when they come to the top. The heaps are scratch: what they answer follows from the state alone.
 *
 * Owns:       the heaps.
 * Invariants: (1) a heap that is caught up holds every live state that takes its shape;
 *             (2) what it answers fits.
 * Never:      I/O, clock, allocation, recursion, float.
 * Cost:       O(log states) and one score for each state born since; new futures: all states.
 * Idea:       docs/internals/placement.md   Tests: tests/unit/core/test_core_value.c
 */
#include "core_value.h"

#define QUANTUM   5  /* milli-devices */
#define TIGHTNESS 60 /* milli-devices for a node with 256 vCPUs or 16 devices left */

/* --- the score ------------------------------------------------------------------------------- */

static void spot_score(struct mr_core *core, const struct core_fit_shape *shape, uint16_t part,
                       const struct core_free_state *s, struct core_fit_free *after,
                       struct core_fit_entry *ret)
{
    uint64_t milli = 0;
    uint32_t before = core_value_of(core, s->class_of, after);
    uint64_t hash = after->parts_hash;
    uint32_t at = 0;
    after->cpu_milli -= shape->cpu_milli;
    after->mem_mib -= shape->mem_mib;
    if (shape->accel_milli >= CORE_WHOLE) {
        after->whole -= shape->accel_milli / CORE_WHOLE;
    } else if (shape->accel_milli > 0) {
        uint16_t left = (uint16_t)(part - shape->accel_milli);
        for (at = 0; at < after->part_count && after->parts[at] != part;) {
            at++;
        }
        if (part == CORE_WHOLE) {
            after->whole--;
            at = after->part_count++;
        } else {
            after->parts_hash -= mr_hash_mix(part);
        }
        after->parts[at] = left;
        if (left > 0) after->parts_hash += mr_hash_mix(left);
        if (left == 0) after->parts[at] = after->parts[--after->part_count];
    }
    for (uint32_t i = 0; i < after->part_count; i++) {
        milli += after->parts[i];
    }
    milli += (uint64_t)after->whole * CORE_WHOLE;
    int64_t value = (int64_t)core_value_of(core, s->class_of, after) - (int64_t)before;
    /* In 1 / 256,000 of a milli-device, rounded down to quanta. */
    int64_t waste = (int64_t)after->cpu_milli + 16 * (int64_t)milli;
    int64_t exact =
        value * (256000 / (int64_t)(CORE_FIT_FUTURES_K * CORE_FIT_WORTH)) - TIGHTNESS * waste;
    int64_t quantum = (int64_t)QUANTUM * 256000;
    int64_t score = exact >= 0 ? exact / quantum : -((-exact + quantum - 1) / quantum);
    ret->score = (int32_t)MR_MAX(MR_MIN(score, (int64_t)INT32_MAX), (int64_t)INT32_MIN);
    ret->waste = (uint32_t)MR_MIN(waste, (int64_t)UINT32_MAX);
    ret->part = part;
    after->parts_hash = hash;
}

static bool better(const struct core_fit_entry *a, const struct core_fit_entry *b)
{
    if (a->score != b->score) return a->score > b->score;
    if (a->waste != b->waste) return a->waste < b->waste;
    if (a->part != b->part) return a->part < b->part;
    return a->born < b->born;
}

static bool state_takes(const struct core_free_state *s, const struct core_fit_shape *shape)
{
    if (s->cpu_milli < shape->cpu_milli || s->mem_mib < shape->mem_mib) return false;
    if (shape->accel_milli == 0) return true;
    if (((shape->types >> s->accel_type) & 1u) == 0) return false;
    if (shape->accel_milli >= CORE_WHOLE) return s->whole >= shape->accel_milli / CORE_WHOLE;
    return s->whole > 0 || s->part >= shape->accel_milli;
}

/* Devices that are alike need one look: the next smaller amount that is enough, 0 at the end. */
static uint16_t part_below(const struct core_fit_free *free, uint32_t least, uint32_t below)
{
    uint16_t next = 0;
    for (uint32_t i = 0; i < free->part_count; i++) {
        uint16_t part = free->parts[i];
        if (part >= least && part < below && part > next) next = part;
    }
    return next;
}

/* The best way to take the shape from the state; false: it does not fit. */
static bool state_score(struct mr_core *core, const struct core_fit_shape *shape, uint32_t state,
                        struct core_fit_entry *ret)
{
    const struct core_free_state *s = core_free_state(core, state);
    if (!state_takes(s, shape)) return false;
    struct core_fit_free free, after;
    core_fit_free_of(core, s->node_first, &free);
    struct core_fit_entry best = {.state = 0};
    bool shared = shape->accel_milli > 0 && shape->accel_milli < CORE_WHOLE;
    uint16_t part = 0;
    if (shared)
        part =
            s->whole > 0 ? (uint16_t)CORE_WHOLE : part_below(&free, shape->accel_milli, CORE_WHOLE);
    do {
        struct core_fit_entry entry = {.born = s->born, .state = state};
        memcpy(&after, &free, offsetof(struct core_fit_free, parts));
        memcpy(after.parts, free.parts, free.part_count * sizeof free.parts[0]);
        spot_score(core, shape, part, s, &after, &entry);
        if (best.state == 0 || better(&entry, &best)) best = entry;
        part = shared ? part_below(&free, shape->accel_milli, part) : 0;
    } while (part != 0);
    *ret = best;
    return true;
}

/* --- heaps ----------------------------------------------------------------------------------- */

static struct core_fit_entry *entry_at(const struct mr_core *core, uint32_t slot, uint32_t i)
{
    return core_item(core, CORE_FIT_HEAPS, (slot - 1) * core->limits.fit_states + i);
}

static bool entry_live(const struct mr_core *core, const struct core_fit_entry *entry)
{
    const struct core_free_state *s = core_free_state(core, entry->state);
    return s->node_count > 0 && s->born == entry->born;
}

static void sift_down(struct mr_core *core, uint32_t slot, uint32_t count, uint32_t at)
{
    struct core_fit_entry moved = *entry_at(core, slot, at);
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count) break;
        if (child + 1 < count &&
            better(entry_at(core, slot, child + 1), entry_at(core, slot, child)))
            child++;
        if (!better(entry_at(core, slot, child), &moved)) break;
        *entry_at(core, slot, at) = *entry_at(core, slot, child);
        at = child;
    }
    *entry_at(core, slot, at) = moved;
}

/* Drops the states that are gone. */
static void heap_compact(struct mr_core *core, uint32_t slot, struct core_fit_index *index)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < index->count; i++) {
        struct core_fit_entry entry = *entry_at(core, slot, i);
        if (entry_live(core, &entry)) *entry_at(core, slot, kept++) = entry;
    }
    index->count = kept;
    for (uint32_t i = kept / 2; i-- > 0;) {
        sift_down(core, slot, kept, i);
    }
}

static void heap_push(struct mr_core *core, uint32_t slot, struct core_fit_index *index,
                      const struct core_fit_entry *entry)
{
    uint32_t most = core->limits.fit_states;
    if (index->count == most) {
        heap_compact(core, slot, index);
        /* With little room left it would be compacted again and again. */
        if (index->count >= most - most / 4) index->over = 1;
    }
    if (index->over) return;
    uint32_t at = index->count++;
    for (; at > 0 && better(entry, entry_at(core, slot, (at - 1) / 2)); at = (at - 1) / 2) {
        *entry_at(core, slot, at) = *entry_at(core, slot, (at - 1) / 2);
    }
    *entry_at(core, slot, at) = *entry;
}

static void state_add(struct mr_core *core, uint32_t slot, struct core_fit_index *index,
                      uint32_t state)
{
    struct core_fit_entry entry;
    if (state_score(core, core_fit_shape(core, slot), state, &entry))
        heap_push(core, slot, index, &entry);
}

static void heap_catch_up(struct mr_core *core, uint32_t slot, struct core_fit_index *index)
{
    uint32_t ring = core->tables[CORE_FIT_BIRTHS].capacity;
    bool fresh = index->epoch != core->fit_epoch || core->fit_born - index->seen > ring;
    /* Too many states: another look when as many as a heap holds have come. */
    if (index->over && core->fit_born - index->seen > core->limits.fit_states) fresh = true;
    if (!fresh && index->over) return;
    if (fresh) {
        *index = (struct core_fit_index){.epoch = core->fit_epoch};
        uint32_t used = core->tables[CORE_STATES].used;
        index->over = core->tables[CORE_STATES].live > 4 * core->limits.fit_states;
        for (uint32_t i = 1; i < used && !index->over; i++) {
            const struct core_free_state *s = core_free_state(core, i);
            if (s->node_count > 0 && s->born != 0) state_add(core, slot, index, i);
        }
    } else {
        for (uint64_t born = index->seen + 1; born <= core->fit_born && !index->over; born++) {
            const uint32_t *state = core_item(core, CORE_FIT_BIRTHS, (uint32_t)(born & (ring - 1)));
            const struct core_free_state *s = core_free_state(core, *state);
            if (s->node_count > 0 && s->born == born) state_add(core, slot, index, *state);
        }
    }
    index->seen = core->fit_born;
}

bool core_score_find(struct mr_core *core, const struct mr_shape *shape, uint32_t tasks,
                     uint32_t types, struct core_fit_spot *ret)
{
    if (core->fit_epoch <= 1 || core->limits.fit_states == 0) return false;
    if (tasks > 1 && shape->accel_milli > 0 && shape->accel_milli < CORE_WHOLE) return false;
    uint64_t cpu = (uint64_t)shape->cpu_milli * tasks, mem = (uint64_t)shape->mem_mib * tasks;
    uint64_t accel = (uint64_t)shape->accel_milli * tasks;
    if (cpu > UINT32_MAX || mem > UINT32_MAX || accel > UINT32_MAX) return false;
    struct core_fit_shape key = {.cpu_milli = (uint32_t)cpu,
                                 .mem_mib = (uint32_t)mem,
                                 .accel_milli = (uint32_t)accel,
                                 .types = types};
    uint32_t slot = core_fit_shape_find(core, &key, true);
    if (slot == 0) return false;
    struct core_fit_index *index = core_item(core, CORE_FIT_INDEX, slot);
    heap_catch_up(core, slot, index);
    while (!index->over && index->count > 0) {
        struct core_fit_entry top = *entry_at(core, slot, 0);
        if (entry_live(core, &top)) {
            ret->node = core_state_node(core, top.state);
            ret->part = top.part;
            MR_INVARIANT(2, core_node_fit(core, ret->node, core_node(core, ret->node)->accel_type,
                                          shape, tasks) == tasks);
            return true;
        }
        *entry_at(core, slot, 0) = *entry_at(core, slot, --index->count);
        if (index->count > 0) sift_down(core, slot, index->count, 0);
    }
    return false;
}
