/* SPDX-License-Identifier: Apache-2.0 */
/* The queue: waiting workloads in classes of equal ones, tried head by head.
 *
 * Workloads that are alike in tenant, priority, shape, size and topology wait in one class, first
 * come first served; if its head cannot start, none behind it can. A class that cannot start waits
 * for what it lacks: for a node with room for one more task (in a list by devices needed), or for
 * a tenant's quota. A step tries only the classes that what it freed may help, in the order of
 * priority, then shares of the tenant and of those above it, then arrival; who is
 * within its own quota goes before who borrows.
 *
 * Owns:       classes and their lists, the candidates of a step.
 * Invariants: (1) a class has a member; its members are alike;
 *             (2) a class stands in one list, by what its head waits for;
 *             (3) after a step no class stands in the candidates.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(1) to wait; a step O(log classes) for each class it tries, however many wait.
 * Idea:       docs/internals/core.md   Tests: tests/unit/core/test_core_queue.c
 */
#include "core_quota.h"
#include "core_reserve.h"

/* --- classes ------------------------------------------------------------------------------- */

static void key_of(const struct mr_core *core, const struct core_workload *w,
                   struct core_class *ret)
{
    *ret = (struct core_class){.shape = w->shape,
                               .tenant = w->tenant,
                               .priority = w->priority,
                               .kind = core_is_service(w) ? MR_KIND_SERVICE : MR_KIND_JOB,
                               .topology = w->topology,
                               .preemptible = w->preemptible,
                               .reserved = w->reserved,
                               .segment = w->segment,
                               .spread = w->spread,
                               .spread_max = w->spread_max,
                               .exclusive = w->exclusive};
    if (w->apart != 0) {
        const struct core_apart *a = core_apart(core, w->apart);
        ret->apart_by = a->by;
        ret->apart[0] = (uint32_t)a->group;
        ret->apart[1] = (uint32_t)(a->group >> 32);
    }
    if (core_is_service(w)) return; /* replicas are placed one by one, whatever the target */
    uint64_t minutes = (core_length_us(w) >> 26) + 1;
    if (core_length_us(w) != 0) ret->length = (uint8_t)(64 - __builtin_clzll(minutes));
    ret->tasks_min = w->tasks_min;
    ret->tasks_max = w->tasks_max + w->spares;
}

static bool alike(const struct core_class *a, const struct core_class *b)
{
    return memcmp(a, b, offsetof(struct core_class, head)) == 0;
}

static uint32_t *class_bucket(const struct mr_core *core, const struct core_class *key)
{
    uint64_t hash = mr_hash64(key, offsetof(struct core_class, head), 7);
    return core_bucket(core, CORE_CLASS_BUCKETS, hash);
}

uint32_t core_class_find(const struct mr_core *core, uint32_t workload)
{
    struct core_class key;
    key_of(core, core_workload(core, workload), &key);
    uint32_t slot = *class_bucket(core, &key);
    while (slot != 0 && !alike(core_class(core, slot), &key)) {
        slot = core_class(core, slot)->hash_next;
    }
    return slot;
}

static uint32_t bucket_of(const struct mr_shape *shape)
{
    if (shape->accel_milli == 0) return 0;
    if (shape->accel_milli < CORE_WHOLE) return 1;
    return 1 + shape->accel_milli / CORE_WHOLE;
}

static uint32_t *wait_head(struct mr_core *core, struct core_class *c)
{
    if (c->wait_list == CORE_WAIT_QUOTA) return &core_tenant(core, c->wait_tenant)->blocked_first;
    return &core->wait_first[c->wait_list - 1];
}

static void wait_leave(struct mr_core *core, uint32_t class_of)
{
    struct core_class *c = core_class(core, class_of);
    if (c->wait_list == 0) return;
    if (c->wait_prev != 0)
        core_class(core, c->wait_prev)->wait_next = c->wait_next;
    else
        *wait_head(core, c) = c->wait_next;
    if (c->wait_next != 0) core_class(core, c->wait_next)->wait_prev = c->wait_prev;
    c->wait_list = 0;
    c->wait_tenant = 0;
    c->wait_prev = 0;
    c->wait_next = 0;
}

static void also_leave(struct mr_core *core, uint32_t class_of)
{
    struct core_class *c = core_class(core, class_of);
    if (c->also_tenant == 0) return;
    if (c->also_prev != 0)
        core_class(core, c->also_prev)->also_next = c->also_next;
    else
        core_tenant(core, c->also_tenant)->also_first = c->also_next;
    if (c->also_next != 0) core_class(core, c->also_next)->also_prev = c->also_prev;
    c->also_tenant = 0;
    c->also_prev = 0;
    c->also_next = 0;
}

static void also_join(struct mr_core *core, uint32_t class_of, uint32_t tenant)
{
    struct core_class *c = core_class(core, class_of);
    also_leave(core, class_of);
    if (tenant == 0) return;
    uint32_t *head = &core_tenant(core, tenant)->also_first;
    c->also_tenant = tenant;
    c->also_next = *head;
    if (*head != 0) core_class(core, *head)->also_prev = class_of;
    *head = class_of;
}

/* tenant 0: for room. */
static void wait_join(struct mr_core *core, uint32_t class_of, uint32_t tenant)
{
    struct core_class *c = core_class(core, class_of);
    wait_leave(core, class_of);
    c->wait_list = tenant != 0 ? CORE_WAIT_QUOTA : 1 + bucket_of(&c->shape);
    c->wait_tenant = tenant;
    uint32_t *head = wait_head(core, c);
    c->wait_next = *head;
    if (*head != 0) core_class(core, *head)->wait_prev = class_of;
    *head = class_of;
}

static uint32_t class_make(struct mr_core *core, uint32_t workload)
{
    uint32_t slot = core_slot_take(core, CORE_CLASSES);
    if (slot == 0) return 0;
    struct core_class *c = core_class(core, slot);
    key_of(core, core_workload(core, workload), c);
    uint32_t *bucket = class_bucket(core, c);
    c->hash_next = *bucket;
    *bucket = slot;
    c->ticket_first = 1u << 31;
    c->ticket_last = 1u << 31;
    wait_join(core, slot, 0);
    return slot;
}

static void class_drop(struct mr_core *core, uint32_t class_of)
{
    struct core_class *c = core_class(core, class_of);
    MR_INVARIANT(1, c->count == 0 && c->head == 0 && c->tail == 0);
    wait_leave(core, class_of);
    also_leave(core, class_of);
    uint32_t *link = class_bucket(core, c);
    while (*link != class_of) {
        MR_ASSERT(*link != 0);
        link = &core_class(core, *link)->hash_next;
    }
    *link = c->hash_next;
    core_slot_give(core, CORE_CLASSES, class_of);
}

/* Behind those that arrived before it; who waits again is mostly older than all, so the search
 * from the front is short, and bounded. */
static void members_insert(struct mr_core *core, struct core_class *c, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    uint32_t after = c->tail;
    if (after != 0 && core_workload(core, after)->order > w->order) {
        after = 0;
        uint32_t next = c->head;
        for (uint32_t i = 0; i < CORE_WALK && core_workload(core, next)->order < w->order; i++) {
            after = next;
            next = core_workload(core, next)->queue_next;
        }
    }
    w->queue_prev = after;
    w->queue_next = after != 0 ? core_workload(core, after)->queue_next : c->head;
    if (after != 0)
        core_workload(core, after)->queue_next = workload;
    else
        c->head = workload;
    if (w->queue_next != 0)
        core_workload(core, w->queue_next)->queue_prev = workload;
    else
        c->tail = workload;
    w->ticket = c->tail == workload ? ++c->ticket_last : c->ticket_first--;
    c->count++;
}

bool core_class_join(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    MR_ASSERT(w->class_of == 0 && w->queue_prev == 0 && w->queue_next == 0);
    uint32_t class_of = core_class_find(core, workload);
    if (class_of == 0) class_of = class_make(core, workload);
    if (class_of == 0) return false;
    struct core_class *c = core_class(core, class_of);
    members_insert(core, c, workload);
    w->class_of = class_of;
    if (c->head == workload) {
        core_candidate_add(core, class_of);
    }
    return true;
}

void core_class_leave(struct mr_core *core, uint32_t workload)
{
    struct core_workload *w = core_workload(core, workload);
    uint32_t class_of = w->class_of;
    MR_ASSERT(class_of != 0);
    struct core_class *c = core_class(core, class_of);
    MR_INVARIANT(1, c->count > 0);
    bool was_head = c->head == workload;
    if (w->queue_prev != 0)
        core_workload(core, w->queue_prev)->queue_next = w->queue_next;
    else
        c->head = w->queue_next;
    if (w->queue_next != 0)
        core_workload(core, w->queue_next)->queue_prev = w->queue_prev;
    else
        c->tail = w->queue_prev;
    c->count--;
    w->class_of = 0;
    w->queue_prev = 0;
    w->queue_next = 0;
    if (c->count == 0) {
        if (c->candidate == 0) class_drop(core, class_of);
        return;
    }
    if (was_head) {
        core_candidate_add(core, class_of);
    }
}

uint64_t core_class_ahead(const struct mr_core *core, uint32_t workload)
{
    const struct core_workload *w = core_workload(core, workload);
    if (w->queue_next == 0) return core_class(core, w->class_of)->count - 1; /* the last of all */
    uint64_t ahead = 0;
    uint32_t at = w->queue_prev;
    for (; at != 0 && ahead < CORE_WALK; at = core_workload(core, at)->queue_prev) {
        ahead++;
    }
    if (at == 0) return ahead;
    const struct core_class *c = core_class(core, w->class_of);
    uint64_t tickets = w->ticket - core_workload(core, c->head)->ticket;
    return MR_MIN(tickets, (uint64_t)c->count - 1);
}

/* --- candidates of a step: a heap by priority, share, arrival --------------------------------- */

bool core_candidate_sooner(const struct core_candidate *a, const struct core_candidate *b)
{
    if (a->borrows != b->borrows) return a->borrows < b->borrows;
    if (a->priority != b->priority) return a->priority < b->priority;
    for (uint32_t i = 0; i < CORE_SHARE_LEVELS; i++) {
        if (a->share[i] != b->share[i]) return a->share[i] < b->share[i];
    }
    return a->order < b->order;
}

static void candidate_sift_up(struct mr_core *core, uint32_t at)
{
    struct core_candidate moved = *core_candidate(core, at);
    while (at > 1 && core_candidate_sooner(&moved, core_candidate(core, at / 2))) {
        *core_candidate(core, at) = *core_candidate(core, at / 2);
        at /= 2;
    }
    *core_candidate(core, at) = moved;
}

/* Whether its next start would use what belongs to others. Who is within its own quota goes first,
 * whatever the class: that saves taking it back. */
static bool class_borrows(const struct mr_core *core, const struct core_class *c)
{
    bool lends = false;
    for (uint32_t at = c->tenant; at != 0; at = core_tenant(core, at)->parent)
        lends = lends || core_tenant(core, at)->lends != 0;
    const struct core_ask ask = {
        .shape = &c->shape, .tenant = c->tenant, .most = MR_MAX(c->tasks_min, 1u)};
    return lends && core_quota_borrows(core, &ask, 0);
}

void core_candidate_fill(struct mr_core *core, uint32_t class_of, struct core_candidate *ret)
{
    const struct core_class *c = core_class(core, class_of);
    ret->class_of = class_of;
    ret->borrows = class_borrows(core, c);
    ret->priority = c->priority;
    ret->order = core_workload(core, c->head)->order;
    core_share_path(core, c->tenant, ret->share);
}

void core_candidate_add(struct mr_core *core, uint32_t class_of)
{
    struct core_class *c = core_class(core, class_of);
    if (c->candidate) return;
    c->candidate = 1;
    MR_ASSERT(c->head != 0);
    core->candidate_count++;
    core_candidate_fill(core, class_of, core_candidate(core, core->candidate_count));
    candidate_sift_up(core, core->candidate_count);
}

static struct core_candidate candidate_pop(struct mr_core *core)
{
    MR_ASSERT(core->candidate_count > 0);
    struct core_candidate first = *core_candidate(core, 1);
    struct core_candidate last = *core_candidate(core, core->candidate_count--);
    uint32_t at = 1;
    while (2 * at <= core->candidate_count) {
        uint32_t child = 2 * at;
        if (child < core->candidate_count &&
            core_candidate_sooner(core_candidate(core, child + 1), core_candidate(core, child))) {
            child++;
        }
        if (!core_candidate_sooner(core_candidate(core, child), &last)) break;
        *core_candidate(core, at) = *core_candidate(core, child);
        at = child;
    }
    if (core->candidate_count > 0) *core_candidate(core, at) = last;
    core_class(core, first.class_of)->candidate = 0;
    return first;
}

/* Whether one more task of the class may fit on what became free. */
static bool released_fits(const struct mr_core *core, const struct core_class *c)
{
    for (uint32_t left = core->released_mask; left != 0; left &= left - 1) {
        uint32_t type = (uint32_t)__builtin_ctz(left);
        const struct core_released *r = &core->released[type];
        if (!core_shape_accepts(&c->shape, type)) continue;
        if (r->cpu_milli < c->shape.cpu_milli || r->mem_mib < c->shape.mem_mib) continue;
        if (c->shape.accel_milli == 0) return true;
        if (c->shape.accel_milli < CORE_WHOLE) {
            if (r->whole > 0 || r->part >= c->shape.accel_milli) return true;
        } else if (r->whole >= c->shape.accel_milli / CORE_WHOLE) {
            return true;
        }
    }
    return false;
}

/* Whether others that could make room for the class came since its head was tried. */
static bool victims_came(const struct mr_core *core, const struct core_class *c)
{
    if (c->victim_epoch == core->victim_epoch) return false;
    for (uint32_t priority = c->priority + 1u; priority < MR_PRIORITY_COUNT; priority++) {
        if (core->victim_count[priority] > 0) return true;
    }
    return false;
}

/* Whether the gang fits in a place around the node. Places elsewhere did not change. */
static bool fits_around(const struct mr_core *core, const struct core_class *c, uint32_t node)
{
    uint32_t type = c->shape.accel_milli == 0 ? 0 : core_node(core, node)->accel_type;
    uint32_t most = MR_MIN(c->tasks_min, MR_TASKS_PER_NODE_MAX);
    if (core_node_fit(core, node, type, &c->shape, most) >= c->tasks_min) return true;
    uint32_t levels = core_topology_levels((enum mr_topology)c->topology);
    for (uint32_t i = 0; i < levels; i++) {
        uint32_t place =
            core_place_above(core, core_node(core, node)->place, core_topology_widen[i]);
        if (place == 0) continue;
        if (core_place_bound(core, place, type, &c->shape) < c->tasks_min) continue;
        if (core_place_fit(core, place, type, &c->shape, c->tasks_min) >= c->tasks_min) return true;
    }
    return false;
}

/* Whether trying the class again is worth it. For a gang that failed before: in a topology, when
 * it fits around a node that became freer; in any, when room for as many tasks as it was short of
 * may have come since. */
static bool released_helps(struct mr_core *core, struct core_class *c)
{
    if (!released_fits(core, c)) return false;
    if (c->reserved != 0) return true; /* its nodes are few, and in no sum */
    core_view_reset(core);             /* whether it is gone in time, the plan will see */
    if (c->kind != MR_KIND_JOB || c->tasks_min == 1 || victims_came(core, c)) return true;
    if (core->released_count > CORE_RELEASED_KEPT) return true;
    bool unbounded = core_topology_unbounded((enum mr_topology)c->topology);
    for (uint32_t i = 0; i < core->released_count; i++) {
        uint32_t node = core->released_node[i];
        uint32_t type = core_node(core, node)->accel_type;
        if (!core_shape_accepts(&c->shape, type)) continue;
        if (!unbounded && fits_around(core, c, node)) return true;
        uint32_t fit = core_node_fit(core, node, type, &c->shape, MR_TASKS_PER_NODE_MAX);
        c->credit += MR_MIN(fit, UINT32_MAX - c->credit);
    }
    return unbounded && c->credit >= c->shortage;
}

static bool released_gather(struct mr_core *core)
{
    uint32_t whole = 0;
    for (uint32_t left = core->released_mask; left != 0; left &= left - 1) {
        whole = MR_MAX(whole, (uint32_t)core->released[__builtin_ctz(left)].whole);
    }
    bool all = core->retry_all != 0;
    core->retry_all = 0;
    if (core->released_mask == 0 && !all) return false;
    if (all) whole = MR_DEVICES_PER_NODE_MAX;
    for (uint32_t b = 0; b < 2 + whole; b++) {
        uint32_t class_of = core->wait_first[b];
        for (; class_of != 0; class_of = core_class(core, class_of)->wait_next) {
            struct core_class *c = core_class(core, class_of);
            if (!c->candidate && c->count > 0 && (all || released_helps(core, c))) {
                core_candidate_add(core, class_of);
            }
        }
    }
    memset(core->released, 0, sizeof core->released);
    core->released_count = 0;
    core->released_mask = 0;
    return true;
}

void core_class_tenant_freed(struct mr_core *core, uint32_t tenant)
{
    uint32_t class_of = core_tenant(core, tenant)->blocked_first;
    for (; class_of != 0; class_of = core_class(core, class_of)->wait_next) {
        if (core_class(core, class_of)->count > 0) core_candidate_add(core, class_of);
    }
    class_of = core_tenant(core, tenant)->also_first;
    for (; class_of != 0; class_of = core_class(core, class_of)->also_next) {
        if (core_class(core, class_of)->count > 0) core_candidate_add(core, class_of);
    }
}

static void class_try(struct mr_core *core, const struct core_candidate *candidate)
{
    uint32_t class_of = candidate->class_of;
    struct core_class *c = core_class(core, class_of);
    if (c->count == 0) {
        class_drop(core, class_of);
        return;
    }
    /* Shares only rise while a step starts work: a key that is out of date sorts too early. */
    struct core_candidate fresh;
    core_candidate_fill(core, class_of, &fresh);
    if (core->candidate_count > 0 && core_candidate_sooner(candidate, &fresh)) {
        core_candidate_add(core, class_of);
        return;
    }
    uint32_t head = c->head;
    struct mr_reason reason = {.code = MR_REASON_NONE};
    uint32_t tenant = 0;
    bool service = core_is_service(core_workload(core, head));
    core->plan_short = 0;
    core->plan_also = 0;
    c->victim_epoch = core->victim_epoch;
    c->candidate = 1; /* so that it is not dropped when its last member leaves */
    bool started = service ? core_service_try(core, head, &reason, &tenant)
                           : core_gang_try(core, head, &reason, &tenant);
    c->candidate = 0;
    if (c->count == 0) {
        class_drop(core, class_of);
    } else if (started) {
        core_candidate_add(core, class_of);
    } else {
        wait_join(core, class_of, tenant);
        if (!service && tenant == 0) core_hold_arm(core, core->now_us + CORE_HOLD_US);
        also_join(core, class_of, core->plan_also);
        c->shortage = core->plan_short == UINT32_MAX ? 0 : core->plan_short;
        c->credit = 0;
        core_trace(core, "workload %llu waits: %s",
                   (unsigned long long)core_workload(core, head)->id, mr_reason_name(reason.code));
    }
}

void core_queue_run(struct mr_core *core)
{
    while (released_gather(core) || core->candidate_count > 0) {
        while (core->candidate_count > 0) {
            struct core_candidate candidate = candidate_pop(core);
            class_try(core, &candidate);
        }
    }
    MR_INVARIANT(3, core->candidate_count == 0);
}
