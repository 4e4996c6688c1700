/* SPDX-License-Identifier: Apache-2.0 */
/* The second half of mr_core_check: workloads, leases, the queue, tenants, money.
 *
 * Owns:       nothing.
 * Invariants: (10) to (19), (23), (24) and (26), each with its text where it is verified.
 * Never:      I/O, clock, allocation, recursion; asserts: a damaged block is an error.
 * Cost:       O(state).
 * Tests:      tests/unit/core/test_core_save.c damages blocks
 */
#include "core_check.h"
#include "core_quota.h"

/* --- indexes ------------------------------------------------------------------------------- */

static void workloads_range(struct core_check *check)
{
    const struct mr_core *core = check->core;
    for (uint32_t i = 1; i < core->tables[CORE_WORKLOADS].used; i++) {
        const struct core_workload *w = core_workload(core, i);
        if (w->phase == CORE_FREE) continue;
        const uint32_t others[] = {w->queue_prev,  w->queue_next,   w->id_prev,
                                   w->id_next,     w->id_hash_next, w->key_hash_next,
                                   w->victim_prev, w->victim_next,  w->own_prev,
                                   w->own_next,    w->over_prev,    w->over_next};
        for (size_t k = 0; k < MR_COUNT_OF(others); k++) {
            core_check_index(check, CORE_WORKLOADS, others[k]);
        }
        core_check_index(check, CORE_CLASSES, w->class_of);
        core_check_index(check, CORE_APARTS, w->apart);
        core_check_index(check, CORE_LEASES, w->lease_first);
        core_check_index(check, CORE_LEASES, w->lease_last);
        core_check_index(check, CORE_TENANTS, w->tenant);
        core_check_index(check, CORE_TENANTS, w->over);
        core_check_index(check, CORE_LINES, w->line_first);
        core_check_holds(check,
                         w->phase < CORE_PHASE_COUNT && w->state < MR_STATE_COUNT &&
                             w->kind < MR_KIND_COUNT && w->priority < MR_PRIORITY_COUNT &&
                             w->topology < MR_TOPOLOGY_COUNT && w->tenant != 0,
                         "(1) a workload's fields are within their bounds");
    }
}

static void leases_range(struct core_check *check)
{
    const struct mr_core *core = check->core;
    for (uint32_t i = 1; i < core->tables[CORE_LEASES].used; i++) {
        const struct core_lease *l = core_lease(core, i);
        if (l->state == MR_LEASE_NONE) continue;
        const uint32_t others[] = {l->of_prev,   l->of_next,   l->node_prev,
                                   l->node_next, l->cut_prev,  l->cut_next,
                                   l->stop_prev, l->stop_next, l->hash_next};
        for (size_t k = 0; k < MR_COUNT_OF(others); k++) {
            core_check_index(check, CORE_LEASES, others[k]);
        }
        core_check_index(check, CORE_WORKLOADS, l->workload);
        core_check_index(check, CORE_NODES, l->node);
        core_check_index(check, CORE_METERS, l->meter);
        core_check_holds(check,
                         l->state <= CORE_LEASE_CLAIM && l->tasks > 0 && l->node != 0 &&
                             l->workload != 0 && l->accel_type < MR_ACCEL_TYPES_MAX,
                         "(1) a lease's fields are within their bounds");
    }
}

void core_check_work_range(struct core_check *check)
{
    const struct mr_core *core = check->core;
    workloads_range(check);
    leases_range(check);
    for (uint32_t i = 1; i < core->tables[CORE_CLASSES].used; i++) {
        const struct core_class *c = core_class(core, i);
        if (c->count == 0) continue;
        core_check_index(check, CORE_WORKLOADS, c->head);
        core_check_index(check, CORE_WORKLOADS, c->tail);
        core_check_index(check, CORE_CLASSES, c->wait_prev);
        core_check_index(check, CORE_CLASSES, c->wait_next);
        core_check_index(check, CORE_TENANTS, c->wait_tenant);
        core_check_index(check, CORE_TENANTS, c->also_tenant);
        core_check_index(check, CORE_CLASSES, c->also_prev);
        core_check_index(check, CORE_CLASSES, c->also_next);
        core_check_index(check, CORE_TENANTS, c->tenant);
    }
    for (uint32_t i = 0; i < core->tables[CORE_TENANTS].used; i++) {
        const struct core_tenant *t = core_tenant(core, i);
        const uint32_t others[] = {t->parent, t->child_first, t->child_prev, t->child_next};
        for (size_t k = 0; k < MR_COUNT_OF(others); k++)
            core_check_index(check, CORE_TENANTS, others[k]);
        core_check_index(check, CORE_WORKLOADS, t->victim_first);
        core_check_index(check, CORE_WORKLOADS, t->claim_first);
    }
    for (uint32_t i = 1; i <= core->timers; i++) {
        if (!core_check_index(check, CORE_TIMERS, i)) return;
        core_check_index(check, CORE_WORKLOADS, *core_timer(core, i));
    }
    for (uint32_t i = 1; i < core->tables[CORE_LINES].used; i++) {
        core_check_index(check, CORE_WORKLOADS, core_line(core, i)->workload);
    }
}

/* --- workloads and leases ------------------------------------------------------------------ */

static void lease_check(struct core_check *check, const struct core_workload *w, uint32_t slot,
                        uint32_t lease, uint32_t prev)
{
    const struct core_lease *l = core_lease(check->core, lease);
    core_check_holds(check, l->workload == slot && l->of_prev == prev,
                     "(10) a workload's leases are linked both ways");
    core_check_holds(check, core_lease_find(check->core, l->id) == lease,
                     "(10) a lease is found by its id");
    bool claim = l->state == CORE_LEASE_CLAIM;
    core_check_holds(check, claim || core_is_service(w) || l->run == w->run,
                     "(11) the leases of a gang that hold are of one run");
    core_check_holds(check, !claim || (l->started_us == 0 && l->meter == 0),
                     "(11) a claim has not started");
    core_check_holds(check,
                     core_is_service(w) || claim || w->phase != CORE_ACTIVE ||
                         (l->world_size <= w->tasks && w->tasks - l->world_size <= w->spares),
                     "(11) what a gang holds beyond its world are spares that it asked for");
    core_check_holds(check, (l->started_us != 0) == (l->in_cut != 0),
                     "(12) what runs is in the order of hourly entries");
    core_check_holds(check, (l->state == MR_LEASE_STOPPING) == (l->in_stop != 0),
                     "(12) what stops is in the list of what stops");
}

struct tally {
    uint32_t count, claimed, live, tasks, ready, wait;
};

static struct tally leases_tally(struct core_check *check, uint32_t slot)
{
    const struct mr_core *core = check->core;
    const struct core_workload *w = core_workload(core, slot);
    struct tally t = {.count = 0};
    uint32_t prev = 0;
    for (uint32_t i = w->lease_first; i != 0 && t.count <= w->lease_count; t.count++) {
        lease_check(check, w, slot, i, prev);
        const struct core_lease *l = core_lease(core, i);
        bool lives = l->state == MR_LEASE_STARTING || l->state == MR_LEASE_RUNNING;
        t.claimed += l->state == CORE_LEASE_CLAIM;
        t.live += lives;
        t.ready += l->ready;
        t.wait += l->state == CORE_LEASE_CLAIM && core_node(core, l->node)->unsound;
        t.tasks += lives ? l->tasks : 0;
        prev = i;
        i = l->of_next;
    }
    return t;
}

static void size_check(struct core_check *check, const struct core_workload *w,
                       const struct tally *t)
{
    if (w->phase != CORE_ACTIVE || w->kind == MR_KIND_RESERVATION) return;
    if (!core_is_service(w)) {
        core_check_holds(check, t->live > 0 && t->tasks + w->gone == w->tasks,
                         "(11) a gang runs whole");
        return;
    }
    core_check_holds(check, t->live == w->tasks, "(11) a service knows how many replicas it has");
    core_check_holds(check, w->target >= w->tasks_min && w->target <= w->tasks_max,
                     "(11) a service's target lies between its bounds");
}

static void phase_check(struct core_check *check, const struct core_workload *w,
                        const struct tally *t)
{
    bool idle = w->phase == CORE_HELD || w->phase == CORE_ENDED;
    core_check_holds(check, !idle || w->lease_count == 0,
                     "(11) what waits or has ended holds nothing");
    bool holds = w->hold_us != 0 && w->lease_count > 0;
    core_check_holds(
        check, w->phase != CORE_WAITING || (t->claimed == t->count && holds == (t->claimed > 0)),
        "(11) what waits has claims only, and only if it holds room");
    core_check_holds(check, w->hold_us == 0 || (w->phase == CORE_WAITING && holds),
                     "(24) what holds room waits and has claims");
    core_check_holds(check,
                     (w->end_bucket != 0) == (w->phase == CORE_ACTIVE && w->kind == MR_KIND_JOB),
                     "(24) exactly the running jobs are listed by their end");
    core_check_holds(check, w->phase != CORE_CLAIMING || (t->claimed == t->count && t->claimed > 0),
                     "(11) what makes room has its claims and no leases");
    core_check_holds(check,
                     w->phase != CORE_ENDING || w->outcome != CORE_OUTCOME_CLAIM || t->claimed > 0,
                     "(11) what goes on with a claimed run has claims");
    core_check_holds(check, (w->phase == CORE_ENDED) == mr_state_final((enum mr_state)w->state),
                     "(13) what has ended is in a final state");
    bool service_lives = core_is_service(w) && w->phase == CORE_ACTIVE;
    core_check_holds(check, (w->phase == CORE_WAITING) == (w->class_of != 0) || service_lives,
                     "(14) what waits stands in a class");
}

static void workload_check(struct core_check *check, uint32_t slot)
{
    const struct mr_core *core = check->core;
    const struct core_workload *w = core_workload(core, slot);
    struct tally t = leases_tally(check, slot);
    core_check_holds(check,
                     t.count == w->lease_count && t.claimed == w->claimed && t.ready == w->ready,
                     "(10) a workload knows how many leases it has");
    core_check_holds(check, core_workload_find(core, w->id) == slot,
                     "(10) a workload is found by its id");
    core_check_holds(check, t.wait == w->claim_wait,
                     "(12) a claim waits while its node holds more than it has");
    size_check(check, w, &t);
    phase_check(check, w, &t);
    core_check_holds(check,
                     (w->phase != CORE_ACTIVE || core_near_holds(core, slot, false)) &&
                         (w->claimed == 0 || core_near_holds(core, slot, true)),
                     "(26) a gang lies in its place, and each of its segments in one domain");
    core_check_holds(check, (w->timer_at != 0) == (w->timer_us != UINT64_MAX),
                     "(15) a timer that is set stands in the heap");
    bool claim_ready = (w->phase == CORE_CLAIMING || w->hold_us != 0) && w->claim_wait == 0;
    core_check_holds(check,
                     (w->phase != CORE_HELD && !claim_ready) || w->timer_at != 0 || w->planned != 0,
                     "(15) what waits for its time has a timer");
}

/* The members of one list of ends; at most `most` are counted. */
static uint32_t ends_check(struct core_check *check, uint32_t bucket, uint32_t most)
{
    const struct mr_core *core = check->core;
    uint32_t at = *core_end_head(core, bucket), prev = 0, count = 0;
    for (; at != 0 && count <= most; count++) {
        if (!core_check_index(check, CORE_WORKLOADS, at)) return count;
        const struct core_workload *w = core_workload(core, at);
        core_check_holds(check, w->end_bucket == 1 + bucket && w->end_prev == prev,
                         "(24) a list of ends is linked both ways");
        prev = at;
        at = w->end_next;
    }
    return count;
}

static void holds_check(struct core_check *check)
{
    const struct mr_core *core = check->core;
    uint32_t holding = 0, listed = 0, ending = 0;
    for (uint32_t i = 1; i < core->tables[CORE_WORKLOADS].used; i++) {
        const struct core_workload *w = core_workload(core, i);
        if (w->phase == CORE_FREE) continue;
        holding += w->hold_us != 0;
        ending += w->end_bucket != 0;
    }
    for (uint32_t i = 0; i < core->hold_count && i < CORE_HOLDS; i++) {
        if (!core_check_index(check, CORE_WORKLOADS, core->holds[i])) return;
        core_check_holds(check, core_workload(core, core->holds[i])->hold_us != 0,
                         "(24) a hold is a waiting job's");
    }
    core_check_holds(check, core->hold_count <= CORE_HOLDS && holding == core->hold_count,
                     "(24) every hold is listed");
    const uint32_t *heads = core_end_head(core, 0);
    for (uint32_t word = 0; word < CORE_END_RING / 64; word++) {
        uint32_t any = 0; /* most are empty: 64 at once */
        for (uint32_t i = 0; i < 64; i++)
            any |= heads[64 * word + i];
        if (any == 0 && core->end_bits[word] == 0) continue;
        for (uint32_t b = 64 * word; b < 64 * (word + 1); b++) {
            core_check_holds(check, mr_bit_get(core->end_bits, b) == (heads[b] != 0),
                             "(24) a bit says which lists of ends have members");
            listed += ends_check(check, b, ending);
        }
    }
    listed += ends_check(check, CORE_END_RING, ending);
    listed += ends_check(check, CORE_END_RING + 1, ending);
    core_check_holds(check, listed == ending, "(24) every job with an end is listed once");
}

/* --- the queue ----------------------------------------------------------------------------- */

static void class_check(struct core_check *check, uint32_t slot)
{
    const struct mr_core *core = check->core;
    const struct core_class *c = core_class(core, slot);
    uint32_t count = 0, prev = 0;
    for (uint32_t i = c->head; i != 0 && count <= c->count; count++) {
        const struct core_workload *w = core_workload(core, i);
        bool member = w->class_of == slot && w->queue_prev == prev && w->phase != CORE_FREE;
        core_check_holds(check, member, "(14) a class's members are linked both ways");
        if (!member) return;
        core_check_holds(check,
                         w->tenant == c->tenant && w->priority == c->priority &&
                             memcmp(&w->shape, &c->shape, sizeof w->shape) == 0,
                         "(14) a class's members are alike");
        prev = i;
        i = w->queue_next;
    }
    core_check_holds(check, count == c->count && prev == c->tail,
                     "(14) a class knows how many wait in it");
    core_check_holds(check, c->wait_list != 0 && c->candidate == 0,
                     "(14) a class waits for something");
    core_check_holds(check, c->head == 0 || core_class_find(core, c->head) == slot,
                     "(14) a class is found by its members");
}

static void timers_check(struct core_check *check)
{
    const struct mr_core *core = check->core;
    for (uint32_t i = 1; i <= core->timers; i++) {
        const struct core_workload *w = core_workload(core, *core_timer(core, i));
        core_check_holds(check, w->timer_at == i && w->phase != CORE_FREE,
                         "(15) a timer belongs to a workload");
        if (i == 1) continue;
        core_check_holds(check,
                         core_workload(core, *core_timer(core, i / 2))->timer_us <= w->timer_us,
                         "(15) no timer is due before the one above it");
    }
}

static void lists_check(struct core_check *check)
{
    const struct mr_core *core = check->core;
    uint32_t count = 0, limit = core->tables[CORE_WORKLOADS].live;
    uint64_t last = 0;
    for (uint32_t i = core->id_first; i != 0 && count <= limit; count++) {
        const struct core_workload *w = core_workload(core, i);
        core_check_holds(check,
                         w->phase != CORE_FREE && w->id > last && w->id < core->workload_next,
                         "(16) workloads are listed by ascending id");
        last = w->id;
        i = w->id_next;
    }
    core_check_holds(check, count == limit, "(16) every workload is listed");
    uint32_t running = 0, cut = 0;
    last = 0;
    for (uint32_t i = core->cut_first; i != 0 && cut <= core->tables[CORE_LEASES].live; cut++) {
        const struct core_lease *l = core_lease(core, i);
        core_check_holds(check, l->billed_us >= last && l->billed_us <= core->now_us,
                         "(12) leases are billed in the order of their last entry");
        last = l->billed_us;
        i = l->cut_next;
    }
    for (uint32_t i = 1; i < core->tables[CORE_LEASES].used; i++) {
        const struct core_lease *l = core_lease(core, i);
        running += l->state != MR_LEASE_NONE && l->in_cut;
    }
    core_check_holds(check, cut == running, "(12) every running lease is billed");
}

/* --- tenants and money --------------------------------------------------------------------- */

static uint64_t amount_key(uint32_t tenant, uint32_t amount)
{
    return mr_hash_mix((uint64_t)tenant << 8 | amount);
}

/* What leases hold against what tenants hold beside those below them, and loads the same way. */
static void amounts_check(struct core_check *check)
{
    const struct mr_core *core = check->core;
    uint64_t own = 0, kept = 0;
    for (uint32_t i = 1; i < core->tables[CORE_LEASES].used; i++) {
        const struct core_lease *l = core_lease(core, i);
        if (l->state == MR_LEASE_NONE) continue;
        const struct core_workload *w = core_workload(core, l->workload);
        struct core_charge c;
        core_charge_of(core, l, &c);
        uint64_t accel = (uint64_t)c.shape->accel_milli * c.tasks;
        own += amount_key(w->tenant, 0) * c.shape->cpu_milli * c.tasks;
        own += amount_key(w->tenant, 1) * c.shape->mem_mib * c.tasks;
        own += amount_key(w->tenant, CORE_ACCEL) * accel;
        if (accel > 0) own += amount_key(w->tenant, CORE_ACCEL + c.type) * accel;
    }
    for (uint32_t i = 1; i < core->tables[CORE_TENANTS].used; i++) {
        const struct core_tenant *t = core_tenant(core, i);
        for (uint32_t k = 0; k < CORE_AMOUNTS; k++) {
            const struct core_amount *a = &t->amounts[k];
            if (a->held == 0 && a->load == 0 && a->keep == 0) continue;
            uint64_t here = amount_key(i, k), above = amount_key(t->parent, k);
            own -= here * a->held;
            kept += here * (a->load - a->held);
            if (t->parent == 0) continue;
            own += above * a->held;
            kept -= above * (MR_MAX(a->load, a->keep) - a->held);
        }
    }
    core_check_holds(check, own == 0, "(17) a tenant holds what its leases and those below hold");
    core_check_holds(check, kept == 0,
                     "(17) a tenant's load is what it and those below use or keep");
}

static void tree_check(struct core_check *check)
{
    const struct mr_core *core = check->core;
    uint32_t children = 0, tenants = 0;
    for (uint32_t i = 0; i < core->tables[CORE_TENANTS].used; i++) {
        const struct core_tenant *t = core_tenant(core, i);
        uint32_t n = 0, prev = 0, depth = 0;
        for (uint32_t at = t->child_first; at != 0 && n < core->tables[CORE_TENANTS].used; n++) {
            const struct core_tenant *child = core_tenant(core, at);
            core_check_holds(check, child->parent == i && child->child_prev == prev,
                             "(17) the tenants below one are linked both ways");
            prev = at;
            at = child->child_next;
        }
        children += n;
        if (i == 0 || !t->present) continue;
        tenants++;
        for (uint32_t at = i; at != 0 && depth <= CORE_TENANT_DEPTH; depth++)
            at = core_tenant(core, at)->parent;
        core_check_holds(check, depth == t->depth && depth <= CORE_TENANT_DEPTH,
                         "(17) the tree of tenants has no cycle and no more levels than it may");
        core_check_holds(check,
                         t->weight > 0 && t->fold_us <= t->mean_us && t->mean_us <= core->now_us,
                         "(17) a tenant's past lies in the past");
    }
    core_check_holds(check, children == tenants, "(17) every tenant is listed once");
}

/* The lists that hang on tenants: work that may go, claims that wait. */
static void tenant_lists_check(struct core_check *check)
{
    const struct mr_core *core = check->core;
    uint64_t listed = 0;
    uint32_t limit = core->tables[CORE_WORKLOADS].live;
    for (uint32_t i = 1; i < core->tables[CORE_WORKLOADS].used; i++) {
        const struct core_workload *w = core_workload(core, i);
        if (w->phase == CORE_FREE) continue;
        if (w->victim_list != 0) listed += mr_hash_mix(i);
        if (w->over != 0) listed += mr_hash_mix(i + 1u);
        core_check_holds(check, w->over == 0 || (w->phase == CORE_CLAIMING && w->claimed > 0),
                         "(17) only a claim waits for what lies above a limit");
    }
    for (uint32_t i = 1; i < core->tables[CORE_TENANTS].used; i++) {
        const struct core_tenant *t = core_tenant(core, i);
        uint32_t n = 0;
        for (uint32_t at = t->victim_first; at != 0 && n <= limit; n++) {
            const struct core_workload *w = core_workload(core, at);
            core_check_holds(check, w->tenant == i, "(17) a tenant lists its own work");
            listed -= mr_hash_mix(at);
            at = w->own_next;
        }
        n = 0;
        for (uint32_t at = t->claim_first; at != 0 && n <= limit; n++) {
            const struct core_workload *w = core_workload(core, at);
            core_check_holds(check, w->over == i, "(17) a claim waits for one tenant");
            listed -= mr_hash_mix(at + 1u);
            at = w->over_next;
        }
    }
    core_check_holds(check, listed == 0, "(17) what may go and what waits is listed once");
}

static void tenants_check(struct core_check *check)
{
    const struct mr_core *core = check->core;
    uint64_t counts = 0;
    for (uint32_t i = 1; i < core->tables[CORE_WORKLOADS].used; i++) {
        const struct core_workload *w = core_workload(core, i);
        if (w->phase == CORE_FREE || !(w->counted_running || w->counted_pending)) continue;
        for (uint32_t at = w->tenant, n = 0; at != 0 && n < CORE_TENANT_DEPTH; n++) {
            uint64_t key = mr_hash_mix(at);
            counts += key * w->counted_running + (key ^ 1) * w->counted_pending;
            at = core_tenant(core, at)->parent;
        }
    }
    for (uint32_t i = 1; i < core->tables[CORE_TENANTS].used; i++) {
        const struct core_tenant *t = core_tenant(core, i);
        uint64_t key = mr_hash_mix(i);
        counts -= key * t->running + (key ^ 1) * t->pending;
    }
    core_check_holds(check, counts == 0, "(17) a tenant knows how many of its workloads run");
    tree_check(check);
    amounts_check(check);
    tenant_lists_check(check);
}

static void money_check(struct core_check *check)
{
    const struct mr_core *core = check->core;
    uint64_t lines = 0;
    for (uint32_t i = 0; i < core->tables[CORE_SUM_LINES].used; i++) {
        const struct core_line *line = (const struct core_line *)core_item(core, CORE_SUM_LINES, i);
        lines += (uint64_t)line->charge_nusd;
    }
    for (uint32_t i = 1; i < core->tables[CORE_LINES].used; i++) {
        const struct core_line *line = core_line(core, i);
        if (line->workload != 0) lines += (uint64_t)line->charge_nusd;
    }
    core_check_holds(check, core->saturated || lines == core->charged_nusd,
                     "(18) the lines of the bill add up to the entries of the ledger");
    for (uint32_t i = 1; i < core->tables[CORE_LEASES].used; i++) {
        const struct core_lease *l = core_lease(core, i);
        if (l->state == MR_LEASE_NONE || l->meter == 0) continue;
        core_check_holds(check, core_meter(core, l->meter)->lease == l->id,
                         "(19) a meter belongs to its lease");
    }
}

static void planned_check(struct core_check *check)
{
    const struct mr_core *core = check->core;
    uint32_t count = 0, prev = 0;
    for (uint32_t i = core->planned_first; i != 0; i = core_planned(core, i)->next_job) {
        if (!core_check_index(check, CORE_PLANNED, i)) return;
        const struct core_planned *p = core_planned(core, i);
        if (++count > core->tables[CORE_PLANNED].live) break;
        if (!core_check_index(check, CORE_WORKLOADS, p->workload)) return;
        const struct core_workload *w = core_workload(core, p->workload);
        core_check_holds(check, p->prev_job == prev && w->planned == i && w->phase != CORE_ENDED,
                         "(23) a planned job lives and knows its plan");
        core_check_holds(check, p->size == CORE_SIZE_NONE || p->size < p->sizes,
                         "(23) a planned job runs with one of its sizes");
        for (uint32_t k = 0; k < p->plan.count && k < CORE_PIECES; k++) {
            bool later = k == 0 || p->plan.start_us[k] > p->plan.start_us[k - 1];
            bool known = p->plan.size[k] == CORE_SIZE_NONE || p->plan.size[k] < p->sizes;
            core_check_holds(check, later && known, "(23) a plan's pieces follow each other");
        }
        prev = i;
    }
    core_check_holds(check, count == core->tables[CORE_PLANNED].live,
                     "(23) every planned job stands in the list");
}

void core_check_work(struct core_check *check)
{
    planned_check(check);
    holds_check(check);
    const struct mr_core *core = check->core;
    for (uint32_t i = 1; i < core->tables[CORE_WORKLOADS].used && check->text == NULL; i++) {
        if (core_workload(core, i)->phase != CORE_FREE) workload_check(check, i);
    }
    for (uint32_t i = 1; i < core->tables[CORE_CLASSES].used && check->text == NULL; i++) {
        if (core_class(core, i)->count > 0) class_check(check, i);
    }
    if (check->text != NULL) return;
    timers_check(check);
    lists_check(check);
    tenants_check(check);
    money_check(check);
}
