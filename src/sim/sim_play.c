/* SPDX-License-Identifier: Apache-2.0 */
/* Takes a story through core: nodes come and go by their dates, jobs arrive, run and end.
 *
 * A run's work counts at the share of the full size that it got. It begins with the job's restart
 * cost, and pauses for a checkpoint after each interval of work; what was done since the last one
 * is lost when a node dies, and kept when core asks the gang to go.
 *
 * Owns:       what is known of each job, lease and domain while the story goes on.
 * Invariants: (1) what a domain is said to hold is the sum of the leases that live in it;
 *             (2) a job's saved work never shrinks, and never passes its running time;
 *             (3) what leases held is what was booked, once all jobs have ended.
 * Never:      a decision: core places, stops and starts.
 * Cost:       O(log) a lease besides core's own.
 * Idea:       docs/internals/sim.md   Tests: tests/unit/sim/test_sim_story.c
 */
#include <stdlib.h>
#include <string.h>

#include "sim_play_int.h"

#define IDLE_US (UINT64_C(30) * 86400 * SIM_SECOND_US)

/* --- sums over time ------------------------------------------------------------------------ */

/* Everything up to now was as it is. */
static void settle(struct sim_play *p)
{
    struct sim_series *s = &p->result->series;
    uint64_t from = s->last_us, to = p->replay.now_us;
    if (to <= from) return;
    if (p->cpu_used > 0 || p->accel_used > 0) p->busy_us = to;
    p->result->queue_max = MR_MAX(p->result->queue_max, p->queued);
    sim_series_reach(s, to);
    sim_series_add(s, s->queue, from, to, (double)p->queued);
    sim_series_add(s, s->accel_used, from, to, (double)p->accel_used);
    sim_series_add(s, s->accel_up, from, to, (double)p->accel_up);
    sim_series_add(s, s->cpu_used, from, to, (double)p->cpu_used);
    sim_series_add(s, s->cpu_up, from, to, (double)p->cpu_up);
    sim_series_add(s, s->free_whole, from, to, (double)p->free_whole);
    sim_series_add(s, s->domains_free, from, to, (double)p->domains_free);
    sim_series_add(s, s->down, from, to, (double)p->down);
    s->last_us = to;
}

void sim_play_settle(struct sim_play *p)
{
    settle(p);
}

/* What is counted: devices, or CPU when the fleet has none. */
static uint64_t counted(const struct sim_play *p, const struct mr_shape *shape)
{
    return p->result->by_cpu ? shape->cpu_milli : shape->accel_milli;
}

static void domain_change(struct sim_play *p, uint32_t domain, int64_t used, int64_t up)
{
    struct sim_play_domain *d = &p->domains[domain];
    if (d->up > 0 && d->used == 0) {
        p->free_whole -= d->up;
        p->domains_free--;
    }
    d->used += (uint64_t)used;
    d->up += (uint64_t)up;
    MR_INVARIANT(1, d->used < UINT64_MAX / 2 && d->up < UINT64_MAX / 2);
    if (d->up > 0 && d->used == 0) {
        p->free_whole += d->up;
        p->domains_free++;
    }
}

static void lease_forget(struct sim_play *p, uint64_t lease)
{
    if (lease >= p->lease_room || p->leases[lease].node == 0) return;
    struct sim_play_lease *l = &p->leases[lease];
    settle(p);
    p->accel_used -= l->accel_milli;
    p->cpu_used -= l->cpu_milli;
    if (l->spare)
        p->result->goodput.spare += (double)l->milli * (double)(p->replay.now_us - l->started_us);
    domain_change(p, p->nodes[l->node - 1].domain, -(int64_t)l->milli, 0);
    p->nodes[l->node - 1].leases--;
    *l = (struct sim_play_lease){0};
}

static bool lease_room(struct sim_play *p, uint64_t lease)
{
    if (lease < p->lease_room) return true;
    size_t room = MR_MAX((size_t)4096, MR_MAX((size_t)lease + 1, p->lease_room * 2));
    struct sim_play_lease *grown = mr_realloc(p->leases, room * sizeof *grown);
    if (grown == NULL) return false;
    memset(grown + p->lease_room, 0, (room - p->lease_room) * sizeof *grown);
    p->leases = grown;
    p->lease_room = room;
    return true;
}

/* Whether a gang's first run lies in no more domains than its number of nodes needs. */
static void placement_look(struct sim_play *p, const struct mr_effect_start *start,
                           struct sim_outcome *o)
{
    struct sim_play_node *n = &p->nodes[start->node.v - 1];
    if (start->node_count < 2 || start->run != 1 || o->counted) return;
    if (start->node_rank == 0) {
        p->gang_domains = 0;
        p->gang_mark++;
    }
    if (p->domains[n->domain].mark != p->gang_mark) {
        p->domains[n->domain].mark = p->gang_mark;
        p->gang_domains++;
    }
    if (start->node_rank + 1 < start->node_count) return;
    uint32_t size = p->domains[n->domain].nodes;
    uint32_t fewest = (start->node_count + size - 1) / size;
    o->counted = 1;
    o->badly_placed = p->gang_domains > fewest;
    p->result->gangs++;
    p->result->gangs_tight += !o->badly_placed;
}

static void on_start(struct sim_play *p, const struct mr_effect_start *start)
{
    if (!lease_room(p, start->lease.v)) {
        p->replay.failed = true;
        return;
    }
    settle(p);
    struct sim_play_lease *l = &p->leases[start->lease.v];
    struct sim_play_node *n = &p->nodes[start->node.v - 1];
    bool spare = start->rank_first >= start->world_size;
    struct sim_outcome *o = sim_play_outcome(p, start->workload.v);
    if (o != NULL && !spare) {
        struct sim_play_run *run = &p->runs[o - p->result->outcomes];
        bool held = n->workload == start->workload.v && n->run + 1 == start->run;
        run->warm = held && (run->warm || start->rank_first == 0);
    }
    n->workload = start->workload.v;
    n->run = start->run;
    *l = (struct sim_play_lease){
        .started_us = p->replay.now_us,
        .spare = spare,
        .workload = start->workload.v,
        .accel_milli = (uint64_t)start->tasks * start->shape.accel_milli,
        .cpu_milli = (uint64_t)start->tasks * start->shape.cpu_milli,
        .milli = start->tasks * counted(p, &start->shape),
        .node = start->node.v,
    };
    p->accel_used += l->accel_milli;
    p->cpu_used += l->cpu_milli;
    n->leases++;
    domain_change(p, n->domain, (int64_t)l->milli, 0);
    if (o != NULL) placement_look(p, start, o);
}

/* --- the life of a job --------------------------------------------------------------------- */

struct sim_outcome *sim_play_outcome(struct sim_play *p, uint64_t workload)
{
    if (workload == 0 || workload > p->accepted) return NULL;
    return &p->result->outcomes[p->job_of[workload]];
}

static void on_state(struct sim_play *p, const struct mr_effect_state *state)
{
    struct sim_outcome *o = sim_play_outcome(p, state->workload.v);
    if (o == NULL) return;
    settle(p);
    bool was = o->state == MR_STATE_PENDING, is = state->state == MR_STATE_PENDING;
    p->queued += (uint64_t)is - (uint64_t)was;
    o->state = (uint8_t)state->state;
    if (state->state == MR_STATE_RUNNING && o->started_us == SIM_UNKNOWN)
        o->started_us = p->replay.now_us;
    o->runs = MR_MAX(o->runs, state->run);
    if (!mr_state_final(state->state)) return;
    o->ended_us = p->replay.now_us;
    p->live--;
}

static void on_effect(void *context, const struct mr_effect *effect)
{
    struct sim_play *p = context;
    if (effect->kind == MR_EFFECT_ACCEPTED) {
        uint64_t workload = effect->u.answer.workload.v;
        MR_ASSERT(workload == p->accepted + 1);
        p->accepted = workload;
        p->job_of[workload] = (uint32_t)effect->u.answer.tag;
        /* Its STATE follows in the same step and finds it neither waiting nor running. */
        p->result->outcomes[effect->u.answer.tag].state = MR_STATE_COUNT;
        p->live++;
    } else if (effect->kind == MR_EFFECT_REJECTED) {
        p->result->rejected++;
    } else if (effect->kind == MR_EFFECT_START) {
        on_start(p, &effect->u.start);
    } else if (effect->kind == MR_EFFECT_NODE && effect->u.node.state == MR_NODE_DRAINING) {
        p->suspect = (uint32_t)effect->u.node.id.v;
    } else if (effect->kind == MR_EFFECT_STATE) {
        on_state(p, &effect->u.state);
    }
}

static void on_ended(void *context, uint64_t lease)
{
    lease_forget(context, lease);
}

/* What a run of `ran_us` came to, in time at its size. */
struct span {
    uint64_t restart_us, work_us, saved_us, checkpoint_us;
};
static struct span span_of(const struct sim_job *job, uint64_t overhead_us, uint64_t ran_us)
{
    struct span s = {.restart_us = MR_MIN(ran_us, overhead_us)};
    uint64_t left_us = ran_us - s.restart_us;
    if (job->checkpoint_us == 0) {
        s.work_us = left_us;
        return s;
    }
    uint64_t cycle_us = job->checkpoint_us + job->checkpoint_cost_us;
    uint64_t whole = left_us / cycle_us, rest_us = left_us % cycle_us;
    s.saved_us = whole * job->checkpoint_us;
    s.work_us = s.saved_us + MR_MIN(rest_us, job->checkpoint_us);
    s.checkpoint_us = left_us - s.work_us;
    return s;
}

/* How long so much work takes with its checkpoints; none follows the end. */
static uint64_t lasts(const struct sim_job *job, uint64_t overhead_us, uint64_t work_us)
{
    uint64_t pauses = 0, paused_us, all_us;
    if (job->checkpoint_us > 0 && work_us > 0) pauses = (work_us - 1) / job->checkpoint_us;
    bool fits = mr_mul_u64(pauses, job->checkpoint_cost_us, &paused_us) &&
                mr_add_u64(overhead_us, work_us, &all_us) && mr_add_u64(all_us, paused_us, &all_us);
    return fits ? all_us : UINT64_MAX; /* beyond the horizon */
}

/* Time at full size to time with `tasks` tasks. */
static uint64_t stretched(const struct sim_job *job, uint64_t us, uint32_t tasks)
{
    uint64_t task_us;
    if (tasks == job->tasks_max) return us;
    return mr_mul_u64(us, job->tasks_max, &task_us) ? task_us / tasks : UINT64_MAX / 2;
}

static uint64_t shrunk(const struct sim_job *job, uint64_t us, uint32_t tasks)
{
    return tasks == job->tasks_max ? us : mr_mul_div_u64(us, tasks, job->tasks_max);
}

static uint64_t began(void *context, uint64_t workload, uint32_t run, uint32_t tasks)
{
    struct sim_play *p = context;
    struct sim_outcome *o = sim_play_outcome(p, workload);
    MR_ASSERT(o != NULL && tasks > 0);
    (void)run;
    const struct sim_job *job = &p->story->jobs[o - p->result->outcomes];
    struct sim_play_run *r = &p->runs[o - p->result->outcomes];
    MR_INVARIANT(2, o->done_us <= job->run_us);
    uint64_t left_us = job->run_us - o->done_us;
    uint64_t overhead_us = r->warm ? job->swap_us : job->restart_us;
    p->result->swaps += r->warm;
    *r = (struct sim_play_run){
        .began_us = p->replay.now_us,
        .overhead_us = overhead_us,
        .warm = r->warm,
        .tasks = tasks,
        .lasts_us = lasts(job, overhead_us, stretched(job, MR_MAX(left_us, 1u), tasks))};
    return r->lasts_us;
}

/* Books a run that is over after `ran_us`; `kept`: what was done is saved or needed no more. */
static void book(struct sim_play *p, struct sim_outcome *o, uint64_t ran_us, bool kept)
{
    const struct sim_job *job = &p->story->jobs[o - p->result->outcomes];
    struct sim_play_run *r = &p->runs[o - p->result->outcomes];
    if (r->tasks == 0) return;
    struct span s = span_of(job, r->overhead_us, ran_us);
    double each = (double)r->tasks * (double)counted(p, &job->shape);
    struct sim_goodput *g = &p->result->goodput;
    uint64_t good_us = kept ? s.work_us : s.saved_us;
    double *good = job->ended_badly ? &g->ended_badly : &g->productive;
    *good += (double)good_us * each;
    g->lost += (double)(s.work_us - good_us) * each;
    g->checkpoint += (double)s.checkpoint_us * each;
    *(r->warm ? &g->swap : &g->restart) += (double)s.restart_us * each;
    o->done_us = MR_MIN(job->run_us, o->done_us + shrunk(job, good_us, r->tasks));
    r->tasks = 0;
}

/* Core asks it to go: what was done is saved first, when it saves at all. */
static uint64_t stopped(void *context, uint64_t workload, uint32_t run, uint64_t ran_us)
{
    struct sim_play *p = context;
    struct sim_outcome *o = sim_play_outcome(p, workload);
    (void)run;
    if (o == NULL) return 0;
    const struct sim_job *job = &p->story->jobs[o - p->result->outcomes];
    struct sim_play_run *r = &p->runs[o - p->result->outcomes];
    bool saves = job->checkpoint_us > 0 && !p->node_died && r->tasks > 0;
    double each = (double)r->tasks * (double)counted(p, &job->shape);
    if (saves) p->result->goodput.checkpoint += (double)job->checkpoint_cost_us * each;
    book(p, o, ran_us, saves);
    if (p->node_died) o->failures++;
    return saves ? job->checkpoint_cost_us : 0;
}

static void completed(void *context, uint64_t workload, uint64_t ran_us)
{
    struct sim_play *p = context;
    struct sim_outcome *o = sim_play_outcome(p, workload);
    if (o != NULL) book(p, o, ran_us, true);
}

/* --- nodes --------------------------------------------------------------------------------- */

static void node_count(struct sim_play *p, uint32_t node, enum mr_node_state state)
{
    const struct mr_event_node *n = &p->fleet->nodes[node].node;
    struct sim_play_node *mine = &p->nodes[node];
    uint64_t accel = (uint64_t)n->accel_count * 1000, cpu = n->cpu_milli;
    uint64_t milli = p->result->by_cpu ? cpu : accel;
    bool was_up = mine->state == MR_NODE_UP, up = state == MR_NODE_UP;
    bool was_down = mine->state == MR_NODE_DOWN, down = state == MR_NODE_DOWN;
    settle(p);
    p->accel_up += up * accel - was_up * accel;
    p->cpu_up += up * cpu - was_up * cpu;
    p->down += down * milli - was_down * milli;
    if (up != was_up) {
        domain_change(p, mine->domain, 0, up ? (int64_t)milli : -(int64_t)milli);
    }
    mine->state = (uint8_t)state;
}

void sim_play_node_change(struct sim_play *p, uint32_t node, enum mr_node_state state)
{
    const struct mr_event_node *n = &p->fleet->nodes[node].node;
    bool up = state == MR_NODE_UP, fresh = up && p->nodes[node].state == MR_NODE_ABSENT;
    node_count(p, node, state);
    struct mr_event event = {.kind = MR_EVENT_NODE_STATE,
                             .u.node_state = {.id = n->id, .state = state}};
    if (fresh) {
        event.kind = MR_EVENT_NODE_SET;
        event.u.node = *n;
    }
    p->node_died = !up;
    p->suspect = 0;
    sim_replay_event(&p->replay, &event);
    p->node_died = false;
    if (p->suspect == 0) return;
    /* Core does not trust it: it is there, and takes nothing. */
    p->result->suspects++;
    node_count(p, node, MR_NODE_DRAINING);
}

void sim_play_domain_down(struct sim_play *p, uint32_t first, uint32_t last)
{
    struct mr_event event = {
        .kind = MR_EVENT_NODE_STATE,
        .u.node_state = {.domain = p->fleet->nodes[first].node.domain, .state = MR_NODE_DOWN}};
    for (uint32_t i = first; i <= last; i++) {
        if (p->nodes[i].state == MR_NODE_UP) node_count(p, i, MR_NODE_DOWN);
    }
    p->node_died = true;
    sim_replay_event(&p->replay, &event);
    p->node_died = false;
}

/* --- the story ----------------------------------------------------------------------------- */

static void tenants_make(struct sim_play *p)
{
    for (uint32_t i = 1; i <= MR_MAX(p->story->tenant_count, 1u); i++) {
        struct mr_event tenant = {.kind = MR_EVENT_TENANT_SET,
                                  .u.tenant = {.id = {i},
                                               .weight = 1,
                                               .quota_cpu_milli = UINT64_MAX,
                                               .quota_mem_mib = UINT64_MAX,
                                               .quota_accel_milli = UINT64_MAX,
                                               .running_max = UINT32_MAX}};
        sim_replay_event(&p->replay, &tenant);
    }
}

static void submit(struct sim_play *p, uint32_t index)
{
    const struct sim_job *job = &p->story->jobs[index];
    uint64_t limit_us = job->limit_us == 0 ? 0 : MR_MAX(job->limit_us, job->run_us);
    struct mr_event event = {.kind = MR_EVENT_SUBMIT};
    event.u.submit = (struct mr_event_submit){.tag = index,
                                              .tenant = {job->tenant},
                                              .kind = MR_KIND_JOB,
                                              .shape = job->shape,
                                              .tasks_min = job->tasks_min,
                                              .tasks_max = job->tasks_max,
                                              .priority = job->priority,
                                              .topology = (enum mr_topology)job->topology,
                                              .preemptible = job->preemptible,
                                              .estimate_us = limit_us,
                                              .deadline_us = job->deadline_us,
                                              .checkpoint_us = job->checkpoint_us,
                                              .spares = job->spares,
                                              .restarts_max = UINT32_MAX};
    /* With failures the limit of the record would end what only has to be done again. */
    if (!p->failing) event.u.submit.time_limit_us = limit_us;
    sim_replay_event(&p->replay, &event);
}

struct date { /* a node comes or goes */
    uint64_t time_us;
    uint32_t node;
    bool comes;
};
static int by_date(const void *a, const void *b)
{
    const struct date *x = a, *y = b;
    if (x->time_us != y->time_us) return x->time_us < y->time_us ? -1 : 1;
    return (x->node > y->node) - (x->node < y->node);
}

/* The dates of a fleet count from the story's own beginning, or from 1970 without one. */
static uint64_t since(const struct sim_play *p, uint64_t time_us)
{
    return time_us > p->story->epoch_us ? time_us - p->story->epoch_us : 0;
}

static uint32_t dates_make(struct sim_play *p, struct date *dates)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->fleet->node_count; i++) {
        const struct sim_fleet_line *line = &p->fleet->lines[p->fleet->nodes[i].line];
        bool dated = p->story->epoch_us > 0;
        uint64_t from_us = dated ? since(p, line->from_us) : 0;
        if (dated && line->until_us <= p->story->epoch_us) continue;
        dates[count++] = (struct date){from_us, i, true};
        if (dated && line->until_us < UINT64_MAX)
            dates[count++] = (struct date){since(p, line->until_us), i, false};
    }
    qsort(dates, count, sizeof *dates, by_date);
    return count;
}

static void play(struct sim_play *p, const struct date *dates, uint32_t date_count)
{
    uint32_t date = 0, job = 0;
    while (!p->replay.failed) {
        bool arrives = job < p->story->job_count, changes = date < date_count;
        uint64_t next_us = sim_replay_next_us(&p->replay);
        if (!arrives && p->live == 0) break;
        if (arrives) next_us = MR_MIN(next_us, p->story->jobs[job].submit_us);
        if (changes) next_us = MR_MIN(next_us, dates[date].time_us);
        /* Nodes fail and come back, but what waits will wait for ever. */
        if (!arrives && !changes && next_us == UINT64_MAX &&
            p->replay.now_us > p->busy_us + IDLE_US) {
            break;
        }
        next_us = MR_MIN(next_us, sim_failure_next_us(p));
        if (next_us > SIM_HORIZON_US) break;
        sim_replay_advance(&p->replay, next_us);
        while (date < date_count && dates[date].time_us <= next_us) {
            bool comes = dates[date].comes;
            uint32_t node = dates[date++].node;
            sim_play_node_change(p, node, comes ? MR_NODE_UP : MR_NODE_ABSENT);
            if (!comes) p->nodes[node].gone = 1;
        }
        sim_failure_due(p);
        while (job < p->story->job_count && p->story->jobs[job].submit_us <= next_us)
            submit(p, job++);
    }
    settle(p);
}

/* --- beginning and end --------------------------------------------------------------------- */

static struct mr_core_limits limits_of(const struct sim_play *p)
{
    uint64_t tasks = 0, slots = 0;
    for (uint32_t i = 0; i < p->story->job_count; i++)
        tasks += p->story->jobs[i].tasks_max + p->story->jobs[i].spares;
    for (uint32_t i = 0; i < p->fleet->node_count; i++) {
        const struct mr_event_node *n = &p->fleet->nodes[i].node;
        slots += MR_MAX(2u * n->accel_count, n->cpu_milli / 500);
    }
    uint64_t leases = MR_MIN(MR_MAX(MR_MIN(tasks, slots), 1024u), 4000000u);
    uint64_t workloads = MR_MIN(MR_MAX(p->story->job_count, 64u), 1100000u);
    return (struct mr_core_limits){.nodes = p->fleet->node_count,
                                   .domains = MR_MAX(p->fleet->domains, 1u),
                                   .blocks = MR_MAX(p->fleet->blocks, 1u),
                                   .cells = MR_MAX(p->fleet->cells, 1u),
                                   .tenants = MR_MAX(p->story->tenant_count, 1u),
                                   .workloads = (uint32_t)workloads,
                                   .leases = (uint32_t)leases,
                                   .shapes = (uint32_t)MR_MIN(workloads, 65536u)};
}

static int tables_make(struct sim_play *p)
{
    uint32_t jobs = p->story->job_count, nodes = p->fleet->node_count;
    p->result->outcomes = mr_alloc_zero(jobs * sizeof *p->result->outcomes);
    p->runs = mr_alloc_zero(jobs * sizeof *p->runs);
    p->job_of = mr_alloc_zero(((size_t)jobs + 1) * sizeof *p->job_of);
    p->nodes = mr_alloc_zero(nodes * sizeof *p->nodes);
    p->domains = mr_alloc_zero(((size_t)p->fleet->domains + nodes + 1) * sizeof *p->domains);
    if (p->result->outcomes == NULL || p->runs == NULL || p->job_of == NULL || p->nodes == NULL ||
        p->domains == NULL) {
        return MR_ENO_MEMORY;
    }
    for (uint32_t i = 0; i < jobs; i++) {
        p->result->outcomes[i].started_us = p->result->outcomes[i].ended_us = SIM_UNKNOWN;
        p->result->outcomes[i].state = MR_STATE_COUNT;
    }
    for (uint32_t i = 0; i < nodes; i++) {
        const struct mr_event_node *n = &p->fleet->nodes[i].node;
        /* A node without a domain is one of its own, numbered behind the others. */
        p->nodes[i].domain = n->domain != 0 ? n->domain : p->fleet->domains + i + 1;
        p->domains[p->nodes[i].domain].nodes++;
        if (n->accel_count > 0) p->result->by_cpu = false;
    }
    return 0;
}

/* Every moment that a lease held something was booked as one thing or another. */
static void books_check(const struct sim_play *p)
{
    const struct sim_result *r = p->result;
    const struct sim_goodput *g = &r->goodput;
    const double *used = r->by_cpu ? r->series.cpu_used : r->series.accel_used;
    double held = 0, booked = g->productive + g->ended_badly + g->checkpoint + g->restart +
                              g->lost + g->swap + g->spare;
    for (uint32_t i = 0; i < r->series.cells; i++)
        held += used[i];
    double off = held > booked ? held - booked : booked - held;
    MR_INVARIANT(3, p->live > 0 || off <= 1e-6 * held + 1e6);
}

static void sum_up(struct sim_play *p)
{
    struct sim_result *r = p->result;
    books_check(p);
    r->end_us = p->replay.now_us;
    r->last_submit_us = p->story->jobs[p->story->job_count - 1].submit_us;
    r->events = p->replay.events;
    r->submissions = p->replay.submissions;
    r->core_ns = p->replay.core_ns;
    const double *up = r->by_cpu ? r->series.cpu_up : r->series.accel_up;
    for (uint32_t i = 0; i < r->series.cells; i++) {
        r->capacity_milli_us += up[i] + r->series.down[i];
        r->down_milli_us += r->series.down[i];
    }
    for (uint32_t i = 0; i < p->fleet->line_count; i++) {
        const struct sim_fleet_line *line = &p->fleet->lines[i];
        bool dated = p->story->epoch_us > 0;
        uint64_t from = dated ? since(p, line->from_us) : 0, to = r->end_us;
        if (dated && line->until_us < UINT64_MAX) to = MR_MIN(to, since(p, line->until_us));
        if (to > from) {
            r->cost_usd +=
                (double)line->nodes * (double)line->price_uusd / 1e6 * (double)(to - from) / 3.6e9;
        }
    }
}

int sim_play(const struct sim_story *story, const struct mr_sim_fleet *fleet,
             const struct mr_sim_replay_options *options, struct sim_result *ret,
             struct mr_buf *problem)
{
    struct sim_play p = {.story = story, .fleet = fleet, .options = options, .result = ret};
    const struct sim_replay_hooks hooks = {.context = &p,
                                           .began = began,
                                           .stopped = stopped,
                                           .completed = completed,
                                           .ended = on_ended,
                                           .effect = on_effect};
    *ret = (struct sim_result){.story = story, .fleet = fleet, .by_cpu = true};
    ret->series.cell_us = SIM_SECOND_US;
    struct date *dates = mr_alloc(2 * (size_t)fleet->node_count * sizeof *dates);
    int error = dates == NULL ? MR_ENO_MEMORY : tables_make(&p);
    if (error == 0) error = sim_failure_init(&p, problem);
    if (error == 0) {
        struct mr_core_limits limits = limits_of(&p);
        error = sim_replay_init(&p.replay, &limits, &hooks, options->cpu_ns);
    }
    if (error == 0) {
        mr_core_trace_set(p.replay.core, options->trace);
        tenants_make(&p);
        play(&p, dates, dates_make(&p, dates));
        if (p.replay.failed) error = MR_ENO_MEMORY;
        if (error == 0) sum_up(&p);
        sim_replay_done(&p.replay);
    }
    sim_failure_done(&p);
    mr_free(dates);
    mr_free(p.runs);
    mr_free(p.job_of);
    mr_free(p.nodes);
    mr_free(p.domains);
    mr_free(p.leases);
    return error;
}
