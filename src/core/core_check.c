/* SPDX-License-Identifier: Apache-2.0 */
/* Verifies every invariant of the block: first that every index lies in its table, then what the
 * tables say about each other.
 *
 * Sums over many owners are compared as sketches: each owner's amount times a hash of the owner,
 * added modulo 2^64. A wrong distribution over owners is found but for one time in 2^64, in one
 * pass and without memory.
 *
 * Owns:       nothing.
 * Invariants: the text of each stands where it is verified; (1) to (9) here, (10) to (19) in
 *             core_check_work.c, (20) and on in core_check_fit.c, (27) and (28) here.
 * Never:      I/O, clock, allocation, recursion; asserts: a damaged block is an error.
 * Cost:       O(state).
 * Tests:      tests/unit/core/test_core_save.c damages blocks
 */
#include "core_int.h"

#include "core_check.h"

bool core_check_holds(struct core_check *check, bool condition, const char *text)
{
    if (!condition && check->text == NULL) check->text = text;
    return condition;
}

bool core_check_index(struct core_check *check, enum core_table_kind kind, uint32_t i)
{
    return core_check_holds(check, i < check->core->tables[kind].used,
                            "(1) every index lies in the used part of its table");
}

/* --- slots --------------------------------------------------------------------------------- */

static void slots_check(struct core_check *check, enum core_table_kind kind)
{
    const struct core_table *table = &check->core->tables[kind];
    uint32_t freed = 0;
    for (uint32_t i = table->free; i != 0 && freed < table->used; freed++) {
        if (!core_check_index(check, kind, i)) return;
        memcpy(&i, core_item(check->core, kind, i), sizeof i);
    }
    core_check_holds(check, freed + table->live + 1 == table->used,
                     "(2) used, live and freed slots of a table agree");
}

/* --- indexes ------------------------------------------------------------------------------- */

static void nodes_range(struct core_check *check)
{
    const struct mr_core *core = check->core;
    for (uint32_t i = 1; i < core->tables[CORE_NODES].used; i++) {
        const struct core_node *n = core_node(core, i);
        core_check_index(check, CORE_PLACES, n->place);
        core_check_index(check, CORE_NODES, n->place_prev);
        core_check_index(check, CORE_NODES, n->place_next);
        core_check_index(check, CORE_STATES, n->free_state);
        core_check_index(check, CORE_NODES, n->state_prev);
        core_check_index(check, CORE_NODES, n->state_next);
        core_check_index(check, CORE_NODES, n->idle_prev);
        core_check_index(check, CORE_NODES, n->idle_next);
        core_check_index(check, CORE_LEASES, n->lease_first);
        core_check_holds(check,
                         n->state < MR_NODE_STATE_COUNT && n->accel_type < MR_ACCEL_TYPES_MAX &&
                             n->accel_count <= MR_DEVICES_PER_NODE_MAX,
                         "(1) a node's fields are within their bounds");
    }
    for (uint32_t i = 1; i < core->tables[CORE_PLACES].used; i++) {
        const struct core_place *p = core_place(core, i);
        core_check_index(check, CORE_PLACES, p->parent);
        core_check_index(check, CORE_PLACES, p->child_first);
        core_check_index(check, CORE_PLACES, p->child_next);
        core_check_index(check, CORE_PLACES, p->child_prev);
        core_check_index(check, CORE_NODES, p->node_first);
        core_check_index(check, CORE_NODES, p->node_last);
        if (!core_check_holds(check, p->level < CORE_LEVEL_COUNT, "(1) a place has a level"))
            return;
        bool above = p->parent == 0 || core_place(core, p->parent)->level < p->level;
        core_check_holds(check, above, "(3) a place lies in a larger one");
        for (uint32_t type = 0; type < MR_ACCEL_TYPES_MAX; type++) {
            const struct core_place_type *t = core_place_type(core, i, type);
            core_check_index(check, CORE_PLACES, t->next);
            core_check_index(check, CORE_PLACES, t->prev);
            core_check_holds(check, t->bucket < CORE_PLACE_BUCKETS, "(1) a bucket exists");
        }
    }
    for (uint32_t i = 1; i < core->tables[CORE_STATES].used; i++) {
        const struct core_free_state *s = core_free_state(core, i);
        for (uint32_t which = 0; s->node_count > 0 && which < 2; which++) {
            core_check_index(check, CORE_STATES, s->left[which]);
            core_check_index(check, CORE_STATES, s->right[which]);
        }
        core_check_index(check, CORE_NODES, s->node_first);
    }
}

/* --- the fleet ----------------------------------------------------------------------------- */

struct held {
    uint64_t cpu, mem;         /* of leases that are no claims */
    uint64_t all_cpu, all_mem; /* and of claims */
    uint32_t leases, alone;    /* that are no claims; those of exclusive workloads */
    int32_t device[MR_DEVICES_PER_NODE_MAX], all_device[MR_DEVICES_PER_NODE_MAX];
};

static void lease_add(const struct mr_core *core, const struct core_lease *l, struct held *held)
{
    const struct core_workload *w = core_workload(core, l->workload);
    const struct core_node *n = core_node(core, l->node);
    const struct mr_shape *shape = &w->shape;
    bool claim = l->state == CORE_LEASE_CLAIM;
    uint64_t cpu = (uint64_t)shape->cpu_milli * l->tasks, devices = l->devices;
    uint64_t mem = (uint64_t)shape->mem_mib * l->tasks;
    int32_t each =
        shape->accel_milli < CORE_WHOLE ? (int32_t)(shape->accel_milli * l->tasks) : CORE_WHOLE;
    if (w->exclusive != MR_EXCLUSIVE_NONE) {
        cpu = n->cpu_milli;
        mem = n->mem_mib;
        each = CORE_WHOLE;
        devices = n->accel_count == 64 ? UINT64_MAX : ((uint64_t)1 << n->accel_count) - 1;
        held->alone += !claim;
    }
    held->leases += !claim;
    held->all_cpu += cpu;
    held->all_mem += mem;
    held->cpu += claim ? 0 : cpu;
    held->mem += claim ? 0 : mem;
    for (uint32_t i = 0; i < MR_DEVICES_PER_NODE_MAX; i++) {
        if (!((devices >> i) & 1)) continue;
        held->all_device[i] += each;
        held->device[i] += claim ? 0 : each;
    }
}

static void node_leases_check(struct core_check *check, uint32_t node)
{
    const struct mr_core *core = check->core;
    const struct core_node *n = core_node(core, node);
    struct held held = {.cpu = 0};
    uint32_t count = 0, prev = 0;
    for (uint32_t i = n->lease_first; i != 0 && count <= n->lease_count; count++) {
        const struct core_lease *l = core_lease(core, i);
        if (!core_check_holds(check, l->node == node && l->node_prev == prev,
                              "(4) a node's leases are linked both ways")) {
            return;
        }
        lease_add(core, l, &held);
        prev = i;
        i = l->node_next;
    }
    core_check_holds(check, count == n->lease_count, "(4) a node knows how many leases it has");
    bool exact = n->cpu_free_milli == (int64_t)n->cpu_milli - (int64_t)held.all_cpu &&
                 n->mem_free_mib == (int64_t)n->mem_mib - (int64_t)held.all_mem;
    bool sound = held.cpu <= n->cpu_milli && held.mem <= n->mem_mib;
    for (uint32_t i = 0; i < MR_DEVICES_PER_NODE_MAX; i++) {
        int32_t has = i < n->accel_count ? CORE_WHOLE : 0;
        exact = exact && n->device_free[i] == has - held.all_device[i];
        sound = sound && held.device[i] <= has;
    }
    core_check_holds(check, exact, "(5) free is what a node has less what is held on it");
    core_check_holds(check, core_node_sound(n) == !n->unsound, "(6) a node knows if it is full");
    core_check_holds(check, held.alone == 0 || held.leases == 1,
                     "(28) an exclusive workload's node is nobody else's");
    core_check_holds(check, sound, "(6) no device, vCPU or memory is used twice");
}

static void state_check(struct core_check *check, uint32_t state, uint32_t first_node)
{
    const struct mr_core *core = check->core;
    const struct core_free_state *s = core_free_state(core, state);
    core_check_holds(check, s->node_first == first_node, "(7) a state knows its nodes");
    if (s->whole >= CORE_WHOLE_GROUPS) return;
    uint32_t root = core->whole_root[s->accel_type][s->whole];
    core_check_holds(check, core_tree_find(core, root, 0, s) == state,
                     "(7) a state is in the tree of its whole devices");
    if (s->part == 0 || s->part >= CORE_WHOLE) return;
    root = core->part_root[s->accel_type][s->part / CORE_PART_STEP];
    core_check_holds(check, core_tree_find(core, root, 1, s) == state,
                     "(7) a state is in the tree of its part");
}

static bool state_exact(const struct core_node *n, const struct core_free_state *s)
{
    int64_t cpu = n->cpu_free_milli > 0 ? n->cpu_free_milli : 0;
    int64_t mem = n->mem_free_mib > 0 ? n->mem_free_mib : 0;
    if (s->cpu_milli != (uint64_t)cpu || s->mem_mib != (uint64_t)mem) return false;
    if (n->cpu_indexed != s->cpu_milli || n->mem_indexed != s->mem_mib) return false;
    uint64_t parts = 0;
    for (uint32_t i = 0; i < n->accel_count; i++) {
        int16_t free = n->device_free[i];
        if (free > 0 && free < CORE_WHOLE) parts += mr_hash_mix((uint16_t)free);
    }
    if (s->parts != parts || s->class_of != n->fit_class) return false;
    return s->accel_type == n->accel_type && s->whole == n->whole && s->part == n->part;
}

static void node_index_check(struct core_check *check, uint32_t node)
{
    const struct mr_core *core = check->core;
    const struct core_node *n = core_node(core, node);
    core_check_holds(check, (n->state == MR_NODE_UP && n->closed == 0) == (n->free_state != 0),
                     "(7) the nodes that are up and in no window are in the index");
    if (n->state == MR_NODE_ABSENT) {
        core_check_holds(check, n->place == 0 && n->lease_count == 0, "(7) an absent node is bare");
        return;
    }
    core_check_holds(check, n->place != 0, "(7) a node lies somewhere");
    if (n->free_state == 0) return;
    const struct core_free_state *s = core_free_state(core, n->free_state);
    core_check_holds(check, state_exact(n, s) && s->until_s == core_until_s(n),
                     "(7) a node is indexed under what is free on it, and until when");
    if (n->state_prev == 0) state_check(check, n->free_state, node);
}

static uint64_t sketch(uint64_t owner, uint64_t type, uint64_t amount)
{
    return mr_hash_mix(owner * MR_ACCEL_TYPES_MAX + type) * amount;
}

/* What the places above a node should count of it. */
static void node_sketch(const struct mr_core *core, const struct core_node *n, uint64_t *places,
                        uint64_t *nodes)
{
    for (uint32_t at = n->place; at > 1; at = core_place(core, at)->parent) {
        *places += sketch(at, 0, n->cpu_indexed);
        if (n->accel_type != 0) *places += sketch(at, n->accel_type, n->accel_indexed);
        *nodes += mr_hash_mix(at);
        if (n->whole_indexed > 0) {
            uint32_t log = 31 - (uint32_t)__builtin_clz(n->whole_indexed);
            *nodes += sketch(at, n->accel_type, mr_hash_mix(log));
        }
    }
}

static void idle_check(struct core_check *check)
{
    const struct mr_core *core = check->core;
    uint64_t listed = 0;
    for (uint32_t i = 1; i < core->tables[CORE_NODES].used; i++) {
        const struct core_node *n = core_node(core, i);
        bool idle = n->free_state != 0 && core_node_idle(n);
        core_check_holds(check, idle == (n->idle != 0), "(7) a node knows if it is wholly free");
        if (idle) listed += mr_hash_mix(i);
    }
    for (uint32_t type = 0; type < MR_ACCEL_TYPES_MAX; type++) {
        uint32_t at = core->idle_first[type], prev = 0, count = 0;
        for (; at != 0 && count <= core->idle_nodes[type]; count++) {
            if (!core_check_index(check, CORE_NODES, at)) return;
            const struct core_node *n = core_node(core, at);
            core_check_holds(check, n->idle_prev == prev && n->accel_type == type,
                             "(7) wholly free nodes are linked both ways");
            listed -= mr_hash_mix(at);
            prev = at;
            at = n->idle_next;
        }
        core_check_holds(check, count == core->idle_nodes[type],
                         "(7) wholly free nodes are counted");
    }
    core_check_holds(check, listed == 0, "(7) every wholly free node is listed once");
}

/* Those who live and are kept apart are chained by group. */
static void groups_check(struct core_check *check)
{
    const struct mr_core *core = check->core;
    uint64_t listed = 0;
    for (uint32_t i = 1; i < core->tables[CORE_WORKLOADS].used; i++) {
        const struct core_workload *w = core_workload(core, i);
        if (w->phase == CORE_FREE || w->apart == 0) continue;
        core_check_holds(check, core_apart(core, w->apart)->workload == i && w->phase != CORE_ENDED,
                         "(27) who is kept apart lives");
        listed += mr_hash_mix(w->apart);
    }
    for (uint32_t i = 0; i < core->tables[CORE_APART_BUCKETS].capacity; i++) {
        uint32_t at = *core_bucket(core, CORE_APART_BUCKETS, i), prev = 0;
        for (uint32_t n = 0; at != 0 && n < core->tables[CORE_APARTS].used; n++) {
            if (!core_check_index(check, CORE_APARTS, at)) return;
            const struct core_apart *a = core_apart(core, at);
            bool linked = a->prev == prev && core_check_index(check, CORE_WORKLOADS, a->workload);
            core_check_holds(check, linked && a->by < MR_SPREAD_COUNT,
                             "(27) groups are linked both ways");
            listed -= mr_hash_mix(at);
            prev = at;
            at = a->next;
        }
    }
    core_check_holds(check, listed == 0, "(27) what is kept apart is in one group");
}

static void apart_check(struct core_check *check)
{
    struct mr_core *core = (struct mr_core *)(uintptr_t)check->core; /* marks are no state */
    groups_check(check);
    for (uint32_t i = 1; check->text == NULL && i < core->tables[CORE_WORKLOADS].used; i++) {
        const struct core_workload *w = core_workload(core, i);
        if (w->phase == CORE_FREE || w->apart == 0) continue;
        core_check_holds(check, core_apart_torn(core, i) == 0,
                         "(27) what is kept apart shares no place");
    }
}

static void states_count_check(struct core_check *check)
{
    const struct mr_core *core = check->core;
    uint64_t states = 0;
    uint64_t groups = 0;
    for (uint32_t i = 1; i < core->tables[CORE_STATES].used; i++) {
        const struct core_free_state *s = core_free_state(core, i);
        states += s->node_count;
        if (s->node_count > 0) groups += sketch(s->whole, s->accel_type, s->node_count);
    }
    for (uint32_t type = 0; type < MR_ACCEL_TYPES_MAX; type++) {
        for (uint32_t w = 0; w < CORE_WHOLE_GROUPS; w++) {
            groups -= sketch(w, type, core->whole_nodes[type][w]);
        }
    }
    core_check_holds(check, groups == 0, "(7) nodes are counted by their whole devices");
    uint64_t closed = 0;
    uint32_t types = 0;
    for (uint32_t i = 1; i < core->tables[CORE_NODES].used; i++) {
        const struct core_node *n = core_node(core, i);
        closed += n->state == MR_NODE_UP && n->closed != 0;
        if (n->state != MR_NODE_ABSENT) types |= (uint32_t)1 << n->accel_type;
    }
    core_check_holds(check, types == core->types_present, "(8) the types of nodes are known");
    core_check_holds(check, states + closed == core->nodes_by_state[MR_NODE_UP],
                     "(7) every node that is up is counted in one state");
}

static void fleet_sums_check(struct core_check *check)
{
    const struct mr_core *core = check->core;
    uint64_t cpu = 0, mem = 0, accel = 0, cpu_free = 0, mem_free = 0, accel_free = 0;
    uint64_t places = 0, nodes = 0, up = 0, suspects = 0;
    for (uint32_t i = 1; i < core->tables[CORE_NODES].used; i++) {
        const struct core_node *n = core_node(core, i);
        cpu_free += n->cpu_indexed;
        mem_free += n->mem_indexed;
        accel_free += n->accel_indexed;
        node_sketch(core, n, &places, &nodes);
        suspects += n->suspect;
        core_check_holds(check, !n->suspect || n->state == MR_NODE_DRAINING,
                         "(8) a suspect drains");
        if (n->state != MR_NODE_UP) continue;
        up++;
        cpu += n->cpu_milli;
        mem += n->mem_mib;
        accel += (uint64_t)n->accel_count * CORE_WHOLE;
    }
    core_check_holds(check,
                     cpu == core->cpu_milli && mem == core->mem_mib && accel == core->accel_milli &&
                         up == core->nodes_by_state[MR_NODE_UP],
                     "(8) the fleet's sums are those of the nodes that are up");
    core_check_holds(check, suspects == core->suspects, "(8) suspects are counted");
    core_check_holds(check,
                     cpu_free == core->cpu_free_milli && mem_free == core->mem_free_mib &&
                         accel_free == core->accel_free_milli,
                     "(8) what is free in the fleet is free on its nodes");
    for (uint32_t i = 2; i < core->tables[CORE_PLACES].used; i++) {
        const struct core_place *p = core_place(core, i);
        nodes -= mr_hash_mix(i) * p->nodes;
        for (uint32_t type = 0; type < MR_ACCEL_TYPES_MAX; type++) {
            const struct core_place_type *t = core_place_type(core, i, type);
            if (t->free_milli != 0) places -= sketch(i, type, t->free_milli);
            for (uint32_t log = 0; type > 0 && log < CORE_WHOLE_LOGS; log++) {
                if (t->by_whole[log] == 0) continue;
                nodes -= sketch(i, type, mr_hash_mix(log)) * t->by_whole[log];
            }
            core_check_holds(check, t->bucket == core_place_bucket_of(t->free_milli),
                             "(9) a place lies in the bucket of what is free in it");
        }
    }
    core_check_holds(check, places == 0, "(9) what is free in a place is free on its nodes");
    core_check_holds(check, nodes == 0, "(9) a place knows which nodes lie in it");
}

int mr_core_check(const struct mr_core *core, const char **ret_text)
{
    static const enum core_table_kind handed_out[] = {
        CORE_STATES,     CORE_WORKLOADS, CORE_LEASES,   CORE_CLASSES, CORE_METERS,     CORE_LINES,
        CORE_FIT_SHAPES, CORE_APARTS,    CORE_RESERVED, CORE_WINDOWS, CORE_DELIVERIES,
    };
    struct core_check check = {.core = core};
    for (size_t i = 0; i < MR_COUNT_OF(handed_out); i++) {
        slots_check(&check, handed_out[i]);
    }
    nodes_range(&check);
    core_check_work_range(&check);
    core_check_reserve_range(&check);
    core_check_fit(&check);
    if (check.text == NULL) {
        for (uint32_t i = 1; i < core->tables[CORE_NODES].used; i++) {
            node_leases_check(&check, i);
            node_index_check(&check, i);
        }
        fleet_sums_check(&check);
        states_count_check(&check);
        idle_check(&check);
        apart_check(&check);
        core_check_work(&check);
        core_check_reserve(&check);
    }
    if (check.text == NULL) return 0;
    *ret_text = check.text;
    return MR_ECORRUPT;
}
