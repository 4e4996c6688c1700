/* SPDX-License-Identifier: Apache-2.0 */
/* The fleet: nodes with their devices, the places they lie in, and what is free in each.
 *
 * Owns:       nodes, places, free states and the roots of their trees, the fleet's sums.
 * Invariants: (1) a node that is up and in no window of its calendar is in the index under exactly
 *                 what is free on it and until when, others are not in it;
 *             (2) the free amounts of a place are the sums over the nodes in and below it;
 *             (3) places lie in the bucket of what is free in them;
 *             (4) the fleet's sums are the sums over the nodes that are up;
 *             (5) nodes in the index on which nothing is held are listed by type.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(log nodes + devices of the node) for each change of a node.
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_fleet.c
 */
#include "core_reserve.h"

void core_fleet_init(struct mr_core *core)
{
    core_place(core, CORE_ROOT_PLACE)->level = CORE_ROOT;
    for (uint32_t i = 1; i <= core->limits.cells; i++) {
        core_place(core, core_place_slot(core, CORE_CELL, i))->level = CORE_CELL;
    }
    for (uint32_t i = 1; i <= core->limits.blocks; i++) {
        core_place(core, core_place_slot(core, CORE_BLOCK, i))->level = CORE_BLOCK;
    }
    for (uint32_t i = 1; i <= core->limits.domains; i++) {
        core_place(core, core_place_slot(core, CORE_DOMAIN, i))->level = CORE_DOMAIN;
    }
}

uint32_t core_place_slot(const struct mr_core *core, enum core_level level, uint32_t number)
{
    switch (level) {
    case CORE_CELL:
        return number == 0 ? 0 : CORE_ROOT_PLACE + number;
    case CORE_BLOCK:
        return number == 0 ? 0 : CORE_ROOT_PLACE + core->limits.cells + number;
    case CORE_DOMAIN:
        return number == 0 ? 0
                           : CORE_ROOT_PLACE + core->limits.cells + core->limits.blocks + number;
    default:
        return CORE_ROOT_PLACE;
    }
}

uint32_t core_place_number(const struct mr_core *core, uint32_t place)
{
    if (place <= CORE_ROOT_PLACE) return 0;
    place -= CORE_ROOT_PLACE;
    if (place <= core->limits.cells) return place;
    place -= core->limits.cells;
    if (place <= core->limits.blocks) return place;
    return place - core->limits.blocks;
}

uint32_t core_place_above(const struct mr_core *core, uint32_t place, enum core_level level)
{
    while (place != 0 && core_place(core, place)->level > level) {
        place = core_place(core, place)->parent;
    }
    if (place == 0) return 0;
    return core_place(core, place)->level == level ? place : 0;
}

/* --- places -------------------------------------------------------------------------------- */

uint32_t core_place_bucket_of(uint64_t free_milli)
{
    uint64_t free = (free_milli + CORE_WHOLE - 1) / CORE_WHOLE;
    if (free < 128) return (uint32_t)free;
    uint32_t log = 63 - (uint32_t)__builtin_clzll(free);
    uint32_t bucket = 128 + (log - 7) * 8 + (uint32_t)((free >> (log - 3)) & 7);
    return MR_MIN(bucket, CORE_PLACE_BUCKETS - 1);
}

static void bucket_move(struct mr_core *core, uint32_t place, uint32_t type, uint32_t bucket)
{
    struct core_place_type *p = core_place_type(core, place, type);
    uint32_t level = core_place(core, place)->level;
    MR_ASSERT(level != CORE_ROOT);
    if (p->bucket == bucket) return;
    if (p->bucket != 0) {
        uint32_t *head = &core->place_bucket[level][type][p->bucket];
        if (p->prev != 0) {
            core_place_type(core, p->prev, type)->next = p->next;
        } else {
            MR_ASSERT(*head == place);
            *head = p->next;
        }
        if (p->next != 0) core_place_type(core, p->next, type)->prev = p->prev;
        if (*head == 0) mr_bit_clear(core->place_mask[level][type], p->bucket);
    }
    p->bucket = bucket;
    p->prev = 0;
    p->next = 0;
    if (bucket == 0) return;
    uint32_t *head = &core->place_bucket[level][type][bucket];
    p->next = *head;
    if (*head != 0) core_place_type(core, *head, type)->prev = place;
    *head = place;
    mr_bit_set(core->place_mask[level][type], bucket);
}

static void place_whole_add(struct mr_core *core, uint32_t place, uint32_t from, int sign)
{
    for (uint32_t at = place; at > CORE_ROOT_PLACE; at = core_place(core, at)->parent) {
        for (uint32_t type = 1; type < MR_ACCEL_TYPES_MAX; type++) {
            const struct core_place_type *part = core_place_type(core, from, type);
            struct core_place_type *p = core_place_type(core, at, type);
            for (uint32_t i = 0; i < CORE_WHOLE_LOGS; i++) {
                p->by_whole[i] += (uint32_t)sign * part->by_whole[i];
            }
        }
    }
}

static void place_add(struct mr_core *core, uint32_t place, uint32_t type, int64_t milli)
{
    if (milli == 0) return;
    for (uint32_t at = place; at > CORE_ROOT_PLACE; at = core_place(core, at)->parent) {
        struct core_place_type *p = core_place_type(core, at, type);
        MR_INVARIANT(2, milli > 0 || p->free_milli >= (uint64_t)-milli);
        p->free_milli += (uint64_t)milli;
        bucket_move(core, at, type, core_place_bucket_of(p->free_milli));
    }
}

static uint32_t whole_log(uint32_t whole)
{
    MR_ASSERT(whole > 0 && whole <= MR_DEVICES_PER_NODE_MAX);
    return 31 - (uint32_t)__builtin_clz(whole);
}

static void whole_move(struct mr_core *core, struct core_node *n, uint8_t whole)
{
    if (n->whole_indexed == whole) return;
    for (uint32_t at = n->place; at > CORE_ROOT_PLACE; at = core_place(core, at)->parent) {
        struct core_place_type *p = core_place_type(core, at, n->accel_type);
        if (n->whole_indexed > 0) p->by_whole[whole_log(n->whole_indexed)]--;
        if (whole > 0) p->by_whole[whole_log(whole)]++;
    }
    n->whole_indexed = whole;
}

static void nodes_add(struct mr_core *core, uint32_t place, int32_t count)
{
    for (uint32_t at = place; at != 0; at = core_place(core, at)->parent) {
        core_place(core, at)->nodes += (uint32_t)count;
    }
}

/* The newest word about where a place lies counts. True: it lies elsewhere now, with what is in it,
 * and with the node that said so. */
static bool place_move(struct mr_core *core, uint32_t place, uint32_t parent)
{
    struct core_place *p = core_place(core, place);
    MR_ASSERT(core_place(core, parent)->level < p->level);
    if (p->parent == parent) return false;
    core->retry_all = 1; /* gangs may fit in a place that was put together just now */
    if (p->parent != 0) {
        struct core_place *old = core_place(core, p->parent);
        if (p->child_prev != 0)
            core_place(core, p->child_prev)->child_next = p->child_next;
        else
            old->child_first = p->child_next;
        if (p->child_next != 0) core_place(core, p->child_next)->child_prev = p->child_prev;
        for (uint32_t type = 0; type < MR_ACCEL_TYPES_MAX; type++) {
            uint64_t milli = core_place_type(core, place, type)->free_milli;
            place_add(core, p->parent, type, -(int64_t)milli);
        }
        nodes_add(core, p->parent, -(int32_t)p->nodes);
        place_whole_add(core, p->parent, place, -1);
    }
    struct core_place *above = core_place(core, parent);
    p->parent = parent;
    p->child_prev = 0;
    p->child_next = above->child_first;
    if (above->child_first != 0) core_place(core, above->child_first)->child_prev = place;
    above->child_first = place;
    for (uint32_t type = 0; type < MR_ACCEL_TYPES_MAX; type++) {
        place_add(core, parent, type, (int64_t)core_place_type(core, place, type)->free_milli);
    }
    nodes_add(core, parent, (int32_t)p->nodes);
    place_whole_add(core, parent, place, 1);
    return true;
}

static void node_attach(struct mr_core *core, uint32_t node, uint32_t place)
{
    struct core_node *n = core_node(core, node);
    struct core_place *p = core_place(core, place);
    MR_ASSERT(n->place == 0);
    n->place = place;
    n->place_next = 0;
    n->place_prev = p->node_last;
    if (p->node_last != 0)
        core_node(core, p->node_last)->place_next = node;
    else
        p->node_first = node;
    p->node_last = node;
    nodes_add(core, place, 1);
}

static void node_detach(struct mr_core *core, uint32_t node)
{
    struct core_node *n = core_node(core, node);
    MR_ASSERT(n->place != 0);
    struct core_place *p = core_place(core, n->place);
    if (n->place_prev != 0)
        core_node(core, n->place_prev)->place_next = n->place_next;
    else
        p->node_first = n->place_next;
    if (n->place_next != 0)
        core_node(core, n->place_next)->place_prev = n->place_prev;
    else
        p->node_last = n->place_prev;
    nodes_add(core, n->place, -1);
    n->place = 0;
}

/* --- the index of nodes -------------------------------------------------------------------- */

static void state_leave(struct mr_core *core, uint32_t node)
{
    struct core_node *n = core_node(core, node);
    uint32_t state = n->free_state;
    struct core_free_state *s = core_free_state(core, state);
    if (n->state_prev != 0)
        core_node(core, n->state_prev)->state_next = n->state_next;
    else
        s->node_first = n->state_next;
    if (n->state_next != 0) core_node(core, n->state_next)->state_prev = n->state_prev;
    core->whole_nodes[s->accel_type][s->whole]--;
    n->free_state = 0;
    n->state_prev = 0;
    n->state_next = 0;
    MR_ASSERT(s->node_count > 0);
    if (--s->node_count > 0) return;
    MR_ASSERT(s->node_first == 0);
    uint32_t *root = &core->whole_root[s->accel_type][s->whole];
    core_tree_remove(core, root, 0, state);
    if (*root == 0) mr_bit_clear(core->whole_mask[s->accel_type], s->whole);
    if (s->part > 0) {
        uint32_t group = s->part / CORE_PART_STEP;
        root = &core->part_root[s->accel_type][group];
        core_tree_remove(core, root, 1, state);
        if (*root == 0) mr_bit_clear(&core->part_mask[s->accel_type], group);
    }
    core_slot_give(core, CORE_STATES, state);
}

static void state_join(struct mr_core *core, uint32_t node, const struct core_free_state *key)
{
    struct core_node *n = core_node(core, node);
    uint32_t *root = &core->whole_root[key->accel_type][key->whole];
    uint32_t state = core_tree_find(core, *root, 0, key);
    if (state == 0) {
        state = core_slot_take(core, CORE_STATES);
        MR_ASSERT(state != 0); /* never more states than nodes */
        *core_free_state(core, state) = *key;
        core_fit_born(core, state);
        core_tree_insert(core, root, 0, state);
        mr_bit_set(core->whole_mask[key->accel_type], key->whole);
        if (key->part > 0) {
            uint32_t group = key->part / CORE_PART_STEP;
            core_tree_insert(core, &core->part_root[key->accel_type][group], 1, state);
            mr_bit_set(&core->part_mask[key->accel_type], group);
        }
    }
    struct core_free_state *s = core_free_state(core, state);
    core->whole_nodes[s->accel_type][s->whole]++;
    n->free_state = state;
    n->state_prev = 0;
    n->state_next = s->node_first;
    if (s->node_first != 0) core_node(core, s->node_first)->state_prev = node;
    s->node_first = node;
    s->node_count++;
}

/* Listed as wholly free, or not any more. */
static void idle_move(struct mr_core *core, uint32_t node, bool idle)
{
    struct core_node *n = core_node(core, node);
    uint32_t *head = &core->idle_first[n->accel_type];
    n->idle = idle;
    if (idle) {
        core->idle_nodes[n->accel_type]++;
        n->idle_prev = 0;
        n->idle_next = *head;
        if (*head != 0) core_node(core, *head)->idle_prev = node;
        *head = node;
        return;
    }
    MR_INVARIANT(5, core->idle_nodes[n->accel_type] > 0);
    core->idle_nodes[n->accel_type]--;
    if (n->idle_prev != 0)
        core_node(core, n->idle_prev)->idle_next = n->idle_next;
    else
        *head = n->idle_next;
    if (n->idle_next != 0) core_node(core, n->idle_next)->idle_prev = n->idle_prev;
    n->idle_prev = 0;
    n->idle_next = 0;
}

static uint32_t clamp_u32(int64_t value)
{
    if (value <= 0) return 0;
    return value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
}

static void sums_add(struct mr_core *core, struct core_node *n, uint32_t cpu, uint32_t mem,
                     uint32_t accel)
{
    int64_t more_cpu = (int64_t)cpu - n->cpu_indexed;
    int64_t more_accel = (int64_t)accel - n->accel_indexed;
    core->cpu_free_milli += (uint64_t)more_cpu;
    core->mem_free_mib += (uint64_t)((int64_t)mem - n->mem_indexed);
    core->accel_free_milli += (uint64_t)more_accel;
    core->type_free_milli[n->accel_type] += (uint64_t)more_accel;
    if (n->place > CORE_ROOT_PLACE) {
        place_add(core, n->place, 0, more_cpu);
        if (n->accel_type != 0) place_add(core, n->place, n->accel_type, more_accel);
    }
    n->cpu_indexed = cpu;
    n->mem_indexed = mem;
    n->accel_indexed = accel;
}

/* What is free on the node's devices; returns the milli-devices. */
static uint32_t devices_sum(struct core_node *n, struct core_free_state *key)
{
    uint32_t accel = 0;
    for (uint32_t i = 0; i < n->accel_count; i++) {
        int16_t free = n->device_free[i];
        MR_ASSERT(free <= CORE_WHOLE);
        if (free > 0) accel += (uint16_t)free;
        if (free == CORE_WHOLE) key->whole++;
        if (free <= 0 || free == CORE_WHOLE) continue;
        key->part = MR_MAX(key->part, (uint16_t)free);
        key->parts += mr_hash_mix((uint16_t)free);
    }
    n->whole = key->whole;
    n->part = key->part;
    return accel;
}

static bool state_equal(const struct core_free_state *a, const struct core_free_state *b)
{
    return a->cpu_milli == b->cpu_milli && a->mem_mib == b->mem_mib && a->whole == b->whole &&
           a->part == b->part && a->accel_type == b->accel_type && a->parts == b->parts &&
           a->class_of == b->class_of && a->until_s == b->until_s;
}

/* Brings the index and the sums in line with the node's free amounts. */
static void node_refresh(struct mr_core *core, uint32_t node)
{
    struct core_node *n = core_node(core, node);
    struct core_free_state key = {.cpu_milli = clamp_u32(n->cpu_free_milli),
                                  .mem_mib = clamp_u32(n->mem_free_mib),
                                  .accel_type = n->accel_type,
                                  .class_of = n->fit_class,
                                  .until_s = core_until_s(n)};
    uint32_t accel = devices_sum(n, &key);
    bool sound = core_node_sound(n);
    if (sound == n->unsound) {
        n->unsound = !sound;
        core_node_sound_changed(core, node);
    }
    bool indexed = n->state == MR_NODE_UP && n->closed == 0, idle = indexed && core_node_idle(n);
    if (idle != (n->idle != 0)) idle_move(core, node, idle);
    if (!indexed) {
        if (n->free_state != 0) state_leave(core, node);
        sums_add(core, n, 0, 0, 0);
        whole_move(core, n, 0);
        return;
    }
    sums_add(core, n, key.cpu_milli, key.mem_mib, accel);
    whole_move(core, n, n->whole);
    if (n->free_state != 0) {
        if (state_equal(core_free_state(core, n->free_state), &key)) return;
        state_leave(core, node);
    }
    state_join(core, node, &key);
    MR_INVARIANT(1, n->free_state != 0);
}

static void released_note(struct mr_core *core, uint32_t node)
{
    const struct core_node *n = core_node(core, node);
    if (n->state != MR_NODE_UP) return;
    struct core_released *r = &core->released[n->accel_type];
    core->released_mask |= (uint32_t)1 << n->accel_type;
    r->cpu_milli = MR_MAX(r->cpu_milli, clamp_u32(n->cpu_free_milli));
    r->mem_mib = MR_MAX(r->mem_mib, clamp_u32(n->mem_free_mib));
    r->part = MR_MAX(r->part, n->part);
    r->whole = MR_MAX(r->whole, n->whole);
    uint32_t count = core->released_count;
    if (count > 0 && count <= CORE_RELEASED_KEPT && core->released_node[count - 1] == node) return;
    if (count < CORE_RELEASED_KEPT) core->released_node[count] = node;
    if (count <= CORE_RELEASED_KEPT) core->released_count++;
}

void core_released_keep(const struct mr_core *core, struct core_released_kept *kept)
{
    memcpy(kept->released, core->released, sizeof kept->released);
    kept->count = core->released_count;
    kept->retry_all = core->retry_all;
    kept->mask = core->released_mask;
}

void core_released_back(struct mr_core *core, const struct core_released_kept *kept)
{
    MR_ASSERT(core->released_count >= kept->count);
    memcpy(core->released, kept->released, sizeof kept->released);
    core->released_count = kept->count;
    /* Slots of claims that were made and given up: who lacks slots lacks them still. */
    if (core->retry_all != kept->retry_all) core->leases_short = 1;
    core->retry_all = kept->retry_all;
    core->released_mask = kept->mask;
}

static void released_max(struct core_released *into, const struct core_released *more)
{
    into->cpu_milli = MR_MAX(into->cpu_milli, more->cpu_milli);
    into->mem_mib = MR_MAX(into->mem_mib, more->mem_mib);
    into->part = MR_MAX(into->part, more->part);
    into->whole = MR_MAX(into->whole, more->whole);
}

void core_released_move(struct mr_core *core, const struct core_released_kept *kept)
{
    for (uint32_t left = core->released_mask; left != 0; left &= left - 1) {
        uint32_t type = (uint32_t)__builtin_ctz(left);
        released_max(&core->moved[type], &core->released[type]);
    }
    core->moved_mask |= core->released_mask;
    core_released_back(core, kept);
}

void core_released_merge(struct mr_core *core)
{
    for (uint32_t left = core->moved_mask; left != 0; left &= left - 1) {
        uint32_t type = (uint32_t)__builtin_ctz(left);
        released_max(&core->released[type], &core->moved[type]);
        core->released_count = CORE_RELEASED_KEPT + 1; /* not one by one */
    }
    core->released_mask |= core->moved_mask;
    core->moved_mask = 0;
    memset(core->moved, 0, sizeof core->moved);
}

static void held_change(struct core_node *n, const struct mr_shape *shape, uint32_t tasks,
                        uint64_t devices, int sign)
{
    n->cpu_free_milli += sign * (int64_t)((uint64_t)shape->cpu_milli * tasks);
    n->mem_free_mib += sign * (int64_t)((uint64_t)shape->mem_mib * tasks);
    if (shape->accel_milli == 0) {
        MR_ASSERT(devices == 0);
        return;
    }
    uint32_t each = CORE_WHOLE;
    uint32_t count = (uint32_t)__builtin_popcountll(devices);
    if (shape->accel_milli < CORE_WHOLE) {
        MR_ASSERT(count == 1);
        each = shape->accel_milli * tasks;
        MR_ASSERT(each <= CORE_WHOLE);
    } else {
        MR_ASSERT(count == tasks * (shape->accel_milli / CORE_WHOLE));
    }
    for (uint64_t left = devices; left != 0; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(left);
        MR_ASSERT(i < n->accel_count);
        n->device_free[i] = (int16_t)(n->device_free[i] + sign * (int32_t)each);
    }
}

void core_node_take(struct mr_core *core, uint32_t node, const struct mr_shape *shape,
                    uint32_t tasks, uint64_t devices)
{
    MR_ASSERT(tasks > 0);
    struct core_node *n = core_node(core, node);
    held_change(n, shape, tasks, devices, -1);
    node_refresh(core, node);
}

void core_node_give(struct mr_core *core, uint32_t node, const struct mr_shape *shape,
                    uint32_t tasks, uint64_t devices)
{
    MR_ASSERT(tasks > 0);
    struct core_node *n = core_node(core, node);
    held_change(n, shape, tasks, devices, 1);
    MR_ASSERT(n->cpu_free_milli <= n->cpu_milli);
    MR_ASSERT(n->mem_free_mib <= n->mem_mib);
    node_refresh(core, node);
    released_note(core, node);
}

void core_node_whole(struct mr_core *core, uint32_t node, bool take)
{
    struct core_node *n = core_node(core, node);
    int sign = take ? -1 : 1;
    n->cpu_free_milli += sign * (int64_t)n->cpu_milli;
    n->mem_free_mib += sign * (int64_t)n->mem_mib;
    for (uint32_t i = 0; i < n->accel_count; i++) {
        n->device_free[i] = (int16_t)(n->device_free[i] + sign * CORE_WHOLE);
    }
    node_refresh(core, node);
    if (!take) released_note(core, node);
}

void core_node_dated(struct mr_core *core, uint32_t node, uint32_t closed, uint64_t dated_us,
                     bool freer)
{
    struct core_node *n = core_node(core, node);
    n->closed = closed;
    n->dated_us = dated_us;
    node_refresh(core, node);
    if (freer) released_note(core, node);
}

bool core_node_sound(const struct core_node *node)
{
    if (node->cpu_free_milli < 0 || node->mem_free_mib < 0) return false;
    for (uint32_t i = 0; i < node->accel_count; i++) {
        if (node->device_free[i] < 0) return false;
    }
    return true;
}

/* --- nodes come, change and go ------------------------------------------------------------- */

static uint32_t node_amount(const struct core_node *n, enum mr_resource resource)
{
    if (resource == MR_RESOURCE_CPU) return n->cpu_milli;
    if (resource == MR_RESOURCE_MEMORY) return n->mem_mib;
    return n->accel_count * (uint32_t)CORE_WHOLE;
}

static void largest_add(struct mr_core *core, const struct core_node *n)
{
    core->types_present |= (uint32_t)1 << n->accel_type;
    for (uint32_t r = 0; r < MR_RESOURCE_COUNT; r++) {
        uint32_t amount = node_amount(n, (enum mr_resource)r);
        uint32_t *largest = &core->largest[n->accel_type][r];
        uint32_t *count = &core->largest_count[n->accel_type][r];
        if (*count == 0 || amount > *largest) {
            *largest = amount;
            *count = 1;
        } else if (amount == *largest) {
            ++*count;
        }
    }
}

/* Only when the last of the largest nodes of a type shrinks or goes are all nodes looked at. */
static void largest_remove(struct mr_core *core, uint32_t node)
{
    const struct core_node *n = core_node(core, node);
    for (uint32_t r = 0; r < MR_RESOURCE_COUNT; r++) {
        uint32_t *largest = &core->largest[n->accel_type][r];
        uint32_t *count = &core->largest_count[n->accel_type][r];
        if (node_amount(n, (enum mr_resource)r) != *largest) continue;
        MR_ASSERT(*count > 0);
        if (--*count > 0) continue;
        *largest = 0;
        for (uint32_t i = 1; i < core->tables[CORE_NODES].used; i++) {
            const struct core_node *other = core_node(core, i);
            if (i == node || other->state == MR_NODE_ABSENT) continue;
            if (other->accel_type != n->accel_type) continue;
            uint32_t amount = node_amount(other, (enum mr_resource)r);
            if (*count == 0 || amount > *largest) {
                *largest = amount;
                *count = 1;
            } else if (amount == *largest) {
                ++*count;
            }
        }
    }
    if (core->largest_count[n->accel_type][0] == 0) /* it was the last of its type */
        core->types_present &= ~((uint32_t)1 << n->accel_type);
}

static void up_count(struct mr_core *core, struct core_node *n, int sign)
{
    if (sign < 0) core_fit_class_leave(core, n->fit_class);
    n->fit_class = sign > 0 ? core_fit_class_join(core, n) : 0;
    uint64_t accel = (uint64_t)n->accel_count * CORE_WHOLE;
    core->cpu_milli += (uint64_t)(sign * (int64_t)n->cpu_milli);
    core->mem_mib += (uint64_t)(sign * (int64_t)n->mem_mib);
    core->accel_milli += (uint64_t)(sign * (int64_t)accel);
    core->type_milli[n->accel_type] += (uint64_t)(sign * (int64_t)accel);
    core->type_nodes_up[n->accel_type] += (uint32_t)sign;
    core->share_epoch++;
    if (core->share_epoch == 0) core->share_epoch = 1;
}

bool mr_core_node_valid(const struct mr_core *core, const struct mr_event_node *event)
{
    if (event->id.v == 0 || event->id.v > core->limits.nodes) return false;
    if (event->accel_type >= MR_ACCEL_TYPES_MAX) return false;
    if (event->accel_count > MR_DEVICES_PER_NODE_MAX) return false;
    if ((event->accel_type == 0) != (event->accel_count == 0)) return false;
    if (event->cpu_milli == 0 || event->mem_mib == 0) return false;
    if (event->domain > core->limits.domains || event->block > core->limits.blocks) return false;
    return event->cell <= core->limits.cells && core_delivery_valid(core, event);
}

/* The place of a node, with the places above it moved to where the event says they lie. */
static uint32_t place_of_event(struct mr_core *core, const struct mr_event_node *event,
                               uint32_t *ret_moved)
{
    const uint32_t path[] = {core_place_slot(core, CORE_CELL, event->cell),
                             core_place_slot(core, CORE_BLOCK, event->block),
                             core_place_slot(core, CORE_DOMAIN, event->domain)};
    uint32_t place = CORE_ROOT_PLACE;
    *ret_moved = 0;
    for (uint32_t i = 0; i < MR_COUNT_OF(path); i++) {
        if (path[i] == 0) continue;
        bool moved = place_move(core, path[i], place);
        place = path[i];
        if (moved && *ret_moved == 0) *ret_moved = place;
    }
    return place;
}

void core_node_state_set(struct mr_core *core, uint32_t node, enum mr_node_state state)
{
    struct core_node *n = core_node(core, node);
    MR_ASSERT(state < MR_NODE_STATE_COUNT);
    MR_ASSERT(n->state != state && n->state != MR_NODE_ABSENT);
    MR_ASSERT(core->nodes_by_state[n->state] > 0);
    if (n->state == MR_NODE_UP) up_count(core, n, -1);
    if (state == MR_NODE_UP) up_count(core, n, 1);
    core_delivery_leave(core, node);
    core->nodes_by_state[n->state]--;
    if (state != MR_NODE_ABSENT) core->nodes_by_state[state]++;
    if (state == MR_NODE_ABSENT) largest_remove(core, node);
    n->state = (uint8_t)state;
    node_refresh(core, node);
    released_note(core, node);
    struct mr_effect effect = {.kind = MR_EFFECT_NODE, .u.node = {.id = {node}, .state = state}};
    core_emit(core, &effect);
}

void core_node_foresee(struct mr_core *core, uint32_t node, bool there)
{
    struct core_node *n = core_node(core, node);
    MR_ASSERT(n->state == (there ? MR_NODE_EXPECTED : MR_NODE_UP) && n->delivery != 0);
    if (!there) up_count(core, n, -1);
    core->nodes_by_state[n->state]--;
    n->state = there ? MR_NODE_UP : MR_NODE_EXPECTED;
    core->nodes_by_state[n->state]++;
    if (there) up_count(core, n, 1);
    node_refresh(core, node);
}

void core_node_remove(struct mr_core *core, uint32_t node)
{
    const struct core_node *n = core_node(core, node);
    MR_ASSERT(n->state == MR_NODE_ABSENT && n->lease_count == 0);
    MR_ASSERT(n->free_state == 0);
    node_detach(core, node);
    core->tables[CORE_NODES].live--;
}

bool core_node_set(struct mr_core *core, const struct mr_event_node *event, uint32_t *ret_moved)
{
    if (!mr_core_node_valid(core, event)) return false;
    uint32_t node = event->id.v;
    core_delivery_leave(core, node);
    struct core_table *table = &core->tables[CORE_NODES];
    if (node >= table->used) table->used = node + 1;
    struct core_node *n = core_node(core, node);
    if (n->state != MR_NODE_ABSENT) {
        /* Out of every sum under its old capacity and place, back under the new. */
        if (n->state == MR_NODE_UP) up_count(core, n, -1);
        largest_remove(core, node);
        core->nodes_by_state[n->state]--;
    } else {
        table->live++;
    }
    uint8_t before = n->state;
    n->state = MR_NODE_ABSENT;
    node_refresh(core, node);
    if (n->place != 0) node_detach(core, node);
    node_attach(core, node, place_of_event(core, event, ret_moved));
    n->cpu_free_milli += (int64_t)event->cpu_milli - n->cpu_milli;
    n->mem_free_mib += (int64_t)event->mem_mib - n->mem_mib;
    n->cpu_milli = event->cpu_milli;
    n->mem_mib = event->mem_mib;
    for (uint32_t i = n->accel_count; i < event->accel_count; i++) {
        n->device_free[i] = CORE_WHOLE;
    }
    for (uint32_t i = event->accel_count; i < n->accel_count; i++) {
        MR_ASSERT(n->device_free[i] == CORE_WHOLE); /* the caller ended its leases */
        n->device_free[i] = 0;
    }
    n->accel_type = event->accel_type;
    n->accel_count = event->accel_count;
    n->state = event->from_us > core->now_us ? MR_NODE_EXPECTED : MR_NODE_UP;
    if (n->state == MR_NODE_UP)
        up_count(core, n, 1);
    else
        core_delivery_join(core, node, event->from_us);
    largest_add(core, n);
    core->nodes_by_state[n->state]++;
    node_refresh(core, node);
    released_note(core, node);
    if (before != n->state) {
        struct mr_effect effect = {.kind = MR_EFFECT_NODE,
                                   .u.node = {.id = {node}, .state = (enum mr_node_state)n->state}};
        core_emit(core, &effect);
    }
    return true;
}
