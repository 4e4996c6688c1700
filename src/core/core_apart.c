/* SPDX-License-Identifier: Apache-2.0 */
/* Work of a group that is kept apart: two of them share no node, no NVLink domain or no block.
 *
 * Before nodes are looked at for one of them, the places in which others of its group have leases,
 * claims too, are barred: marked with the epoch of this look. A node is open to it when neither it
 * nor a place around it is barred. So every search works that asks a node whether it will do. Of
 * two levels the wider one holds, whoever asks for it.
 *
 * Owns:       the chains of live workloads by group, the marks of a look.
 * Invariants: (1) who lives and is kept apart stands in the chain of its group;
 *             (2) what is found is not barred.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(leases of its group) for a look, at most CORE_APART_MEMBERS workloads; to find a
 *             node at most NODES_LOOKED states and barred nodes.
 * Idea:       docs/internals/core.md; Kubernetes' podAntiAffinity, which is symmetric too
 *             Tests: tests/unit/core/test_core_apart.c
 */
#include "core_quota.h"

#define NODES_LOOKED 4096u

/* --- groups ---------------------------------------------------------------------------------- */

static uint32_t *chain_of(const struct mr_core *core, uint32_t tenant, uint64_t group)
{
    return core_bucket(core, CORE_APART_BUCKETS, mr_hash_mix(group ^ mr_hash_mix(tenant)));
}

/* The next of the group in the chain, from this one on; 0: no more. */
static uint32_t member_from(const struct mr_core *core, uint32_t at, uint32_t tenant,
                            uint64_t group)
{
    while (at != 0) {
        const struct core_apart *a = core_apart(core, at);
        if (a->group == group && core_workload(core, a->workload)->tenant == tenant) break;
        at = a->next;
    }
    return at;
}

static uint32_t member_first(const struct mr_core *core, const struct core_workload *w)
{
    uint64_t group = core_apart(core, w->apart)->group;
    return member_from(core, *chain_of(core, w->tenant, group), w->tenant, group);
}

static uint32_t member_next(const struct mr_core *core, uint32_t member)
{
    const struct core_apart *a = core_apart(core, member);
    return member_from(core, a->next, core_workload(core, a->workload)->tenant, a->group);
}

bool core_apart_full(const struct mr_core *core, const struct mr_event_submit *event)
{
    uint32_t tenant = event->tenant.v, count = 0;
    uint32_t at = member_from(core, *chain_of(core, tenant, event->apart), tenant, event->apart);
    for (; at != 0 && count < CORE_APART_MEMBERS; at = member_next(core, at)) {
        count++;
    }
    return count == CORE_APART_MEMBERS || !core_slot_left(core, CORE_APARTS, 1);
}

void core_apart_join(struct mr_core *core, uint32_t workload, const struct mr_event_submit *event)
{
    struct core_workload *w = core_workload(core, workload);
    if (event->apart == 0) return;
    uint32_t slot = core_slot_take(core, CORE_APARTS);
    MR_ASSERT(slot != 0 && slot <= UINT16_MAX); /* the submission was checked */
    uint32_t *head = chain_of(core, w->tenant, event->apart);
    *core_apart(core, slot) = (struct core_apart){
        .group = event->apart, .workload = workload, .next = *head, .by = (uint8_t)event->apart_by};
    if (*head != 0) core_apart(core, *head)->prev = slot;
    *head = slot;
    w->apart = (uint16_t)slot;
}

void core_apart_leave(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    if (w->apart == 0) return;
    const struct core_apart *a = core_apart(core, w->apart);
    if (a->prev != 0) {
        core_apart(core, a->prev)->next = a->next;
    } else {
        uint32_t *head = chain_of(core, w->tenant, a->group);
        MR_INVARIANT(1, *head == w->apart);
        *head = a->next;
    }
    if (a->next != 0) core_apart(core, a->next)->prev = a->prev;
    core_slot_give(core, CORE_APARTS, w->apart);
    w->apart = 0;
}

void core_apart_freed(struct mr_core *core, uint32_t workload)
{
    if (core->quiet) return;
    uint32_t at = member_first(core, core_workload(core, workload));
    for (; at != 0; at = member_next(core, at)) {
        uint32_t class_of = core_workload(core, core_apart(core, at)->workload)->class_of;
        if (class_of != 0) core_candidate_add(core, class_of);
    }
}

/* --- what is barred -------------------------------------------------------------------------- */

static uint32_t *node_mark(const struct mr_core *core, uint32_t node)
{
    return (uint32_t *)core_item(core, CORE_BARRED, node);
}

static uint32_t *place_mark(const struct mr_core *core, uint32_t place)
{
    return (uint32_t *)core_item(core, CORE_BARRED, 1 + core->limits.nodes + place);
}

/* The place of that level around the node; where there is none, the next narrower one; 0: the node
 * alone. */
static uint32_t place_around(const struct mr_core *core, uint32_t node, uint32_t by)
{
    uint32_t at = core_node(core, node)->place, found = 0;
    if (by == MR_SPREAD_BLOCK) found = core_place_above(core, at, CORE_BLOCK);
    if (found == 0 && by >= MR_SPREAD_DOMAIN) found = core_place_above(core, at, CORE_DOMAIN);
    return found;
}

/* `live`: what stops already bars nothing. */
static bool bar(struct mr_core *core, uint32_t workload, bool live)
{
    const struct core_workload *w = core_workload(core, workload);
    bool any = false;
    if (++core->barred_epoch == 0) { /* once in four billion looks */
        memset(node_mark(core, 0), 0,
               (size_t)core->tables[CORE_BARRED].capacity * sizeof(uint32_t));
        core->barred_epoch = 1;
    }
    for (uint32_t at = member_first(core, w); at != 0; at = member_next(core, at)) {
        const struct core_apart *other = core_apart(core, at);
        uint32_t by = MR_MAX(core_apart(core, w->apart)->by, other->by);
        uint32_t lease = at == w->apart ? 0 : core_workload(core, other->workload)->lease_first;
        for (; lease != 0; lease = core_lease(core, lease)->of_next) {
            uint32_t node = core_lease(core, lease)->node, place = place_around(core, node, by);
            if (live && core_lease(core, lease)->state == MR_LEASE_STOPPING) continue;
            *(place != 0 ? place_mark(core, place) : node_mark(core, node)) = core->barred_epoch;
            any = true;
        }
    }
    return any;
}

bool core_apart_bar(struct mr_core *core, uint32_t workload)
{
    return bar(core, workload, false);
}

uint32_t core_apart_torn(struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    if (w->apart == 0 || !bar(core, workload, true)) return 0;
    for (uint32_t i = w->lease_first; i != 0; i = core_lease(core, i)->of_next) {
        const struct core_lease *l = core_lease(core, i);
        if (l->state != MR_LEASE_STOPPING && core_apart_barred(core, l->node)) return i;
    }
    return 0;
}

bool core_apart_barred(const struct mr_core *core, uint32_t node)
{
    if (*node_mark(core, node) == core->barred_epoch) return true;
    for (uint32_t at = core_node(core, node)->place; at > CORE_ROOT_PLACE;
         at = core_place(core, at)->parent) {
        if (*place_mark(core, at) == core->barred_epoch) return true;
    }
    return false;
}

/* --- finding a node -------------------------------------------------------------------------- */

struct look {
    const struct mr_core *core;
    const struct mr_shape *shape;
    uint64_t cpu_milli;
    uint32_t tasks, looked;
    uint32_t barred; /* with room, but barred */
    bool count;      /* these alone are asked for */
};

/* The first node of the group that will do, those with the least cpu first. */
static uint32_t group_find(struct look *look, uint32_t type, uint32_t whole)
{
    const struct mr_core *core = look->core;
    struct core_tree_walk walk;
    uint32_t state;
    core_tree_walk_from(core, &walk, core->whole_root[type][whole], 0, look->cpu_milli);
    while ((state = core_tree_walk_next(core, &walk)) != 0 && look->looked < NODES_LOOKED) {
        uint32_t node = core_free_state(core, state)->node_first;
        look->looked++;
        if (core_node_room(core, node, type, look->shape, look->tasks) < look->tasks) continue;
        for (; node != 0 && look->looked < NODES_LOOKED; node = core_node(core, node)->state_next) {
            bool barred = core_apart_barred(core, node);
            look->looked++;
            look->barred += barred;
            if (!look->count && !barred && core_node_open(core, node)) return node;
        }
    }
    return 0;
}

static uint32_t look_at(struct look *look, uint32_t type)
{
    const struct mr_core *core = look->core;
    const struct mr_shape *shape = look->shape;
    uint32_t last = shape->accel_milli == 0 ? MR_ACCEL_TYPES_MAX - 1 : type;
    uint64_t least = (uint64_t)(shape->accel_milli / CORE_WHOLE) * look->tasks;
    look->cpu_milli = (uint64_t)shape->cpu_milli * look->tasks;
    for (uint32_t t = type; t <= last; t++) {
        for (uint64_t w = least; w < CORE_WHOLE_GROUPS; w++) {
            w = mr_bit_find_set(core->whole_mask[t], CORE_WHOLE_GROUPS, w);
            if (w >= CORE_WHOLE_GROUPS) break;
            uint32_t node = group_find(look, t, (uint32_t)w);
            if (node != 0) return node;
        }
    }
    return 0;
}

uint32_t core_apart_find(const struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                         uint32_t tasks)
{
    struct look look = {.core = core, .shape = shape, .tasks = tasks};
    uint32_t node = look_at(&look, type);
    MR_INVARIANT(2, node == 0 || !core_apart_barred(core, node));
    return node;
}

/* --- why not --------------------------------------------------------------------------------- */

void core_apart_why(struct mr_core *core, uint32_t workload, const struct core_request *request,
                    struct mr_reason *ret)
{
    struct mr_reason beside;
    bool waits = ret->code == MR_REASON_FRAGMENTED || ret->code == MR_REASON_TOPOLOGY;
    if (!waits || core->view_picky == 0) return;
    core_picky_waive(core, workload, CORE_WAIVED_APART);
    core_place_reason(core, request, &beside);
    core_picky_view(core, workload);
    if (beside.code != MR_REASON_NONE) return;
    const struct core_workload *w = core_workload(core, workload);
    uint8_t types[MR_ACCEL_TYPES_MAX];
    uint32_t count = core_shape_types(core, request->shape, types);
    struct look look = {.core = core, .shape = request->shape, .tasks = 1, .count = true};
    for (uint32_t i = 0; i < count; i++) {
        (void)look_at(&look, types[i]);
    }
    uint64_t first = UINT64_MAX;
    for (uint32_t at = member_first(core, w); at != 0; at = member_next(core, at)) {
        const struct core_workload *other = core_workload(core, core_apart(core, at)->workload);
        if (at != w->apart && other->lease_first != 0) first = MR_MIN(first, other->id);
    }
    *ret = (struct mr_reason){.code = MR_REASON_APART, .a = first, .b = look.barred};
}
