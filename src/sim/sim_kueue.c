/* SPDX-License-Identifier: Apache-2.0 */
/* Replays a generator file of Kueue's performance tests: cohorts, queues, quotas, priorities.
 *
 * A cohort is a tenant whose quota is the sum of its queues'; a queue is a tenant below it with its
 * nominal quota. Without a topology there is as much room as there is quota; with one its nodes
 * are the fleet, racks are domains, the level above is a block. A run that is preempted begins
 * anew, as theirs does.
 *
 * Owns:       the file as it was read, for the length of the call.
 * Invariants: (1) a workload is admitted first once and ends once; (2) core decides, nobody else.
 * Never:      a decision; knowledge of a runtime before it has passed.
 * Cost:       O(arrivals * step).
 * Idea:       docs/internals/tenancy.md   Tests: tests/unit/sim/test_sim_kueue.c
 */
#include "sim_kueue_int.h"

#include "sim_formats_int.h"
#include "sim_replay_int.h"

#define FLAT_NODE_MILLI 1000000000u /* without a topology: nodes of a million vCPUs */

struct world {
    struct sim_kueue kueue;
    struct sim_replay replay;
    uint32_t *arrival_of; /* by workload id: index + 1 */
    uint64_t ended, rejected, makespan_us;
};

/* --- hooks ------------------------------------------------------------------------------------ */

static struct sim_kueue_arrival *arrival_of(struct world *w, uint64_t workload)
{
    MR_ASSERT(workload <= w->kueue.arrival_count && w->arrival_of[workload] != 0);
    return &w->kueue.arrivals[w->arrival_of[workload] - 1];
}

static uint64_t began(void *context, uint64_t workload, uint32_t run, uint32_t tasks)
{
    struct world *w = context;
    struct sim_kueue_arrival *a = arrival_of(w, workload);
    struct sim_kueue_kind *kind = &w->kueue.kinds[a->kind];
    (void)run, (void)tasks;
    if (!a->admitted) {
        uint64_t wait_us = w->replay.now_us - a->time_us;
        a->admitted = true;
        kind->admitted++;
        kind->wait_sum_us += wait_us;
        kind->wait_most_us = MR_MAX(kind->wait_most_us, wait_us);
    }
    return a->runtime_us;
}

static uint64_t stopped(void *context, uint64_t workload, uint32_t run, uint64_t ran_us)
{
    struct world *w = context;
    (void)run, (void)ran_us;
    w->kueue.kinds[arrival_of(w, workload)->kind].preempted++;
    return 0;
}

static void on_effect(void *context, const struct mr_effect *effect)
{
    struct world *w = context;
    if (effect->kind == MR_EFFECT_ACCEPTED)
        w->arrival_of[effect->u.answer.workload.v] = (uint32_t)effect->u.answer.tag;
    w->rejected += effect->kind == MR_EFFECT_REJECTED;
    if (effect->kind != MR_EFFECT_STATE || !mr_state_final(effect->u.state.state)) return;
    struct sim_kueue_arrival *a = arrival_of(w, effect->u.state.workload.v);
    MR_INVARIANT(1, !a->ended);
    a->ended = true;
    w->ended++;
    w->makespan_us = MR_MAX(w->makespan_us, w->replay.now_us);
}

/* --- the cloud -------------------------------------------------------------------------------- */

static uint64_t node_count(const struct sim_kueue *k)
{
    uint64_t count = 1, milli = 0;
    for (uint32_t i = 0; i < k->level_count; i++)
        count *= k->levels[i].count;
    if (k->level_count > 0) return count;
    for (uint32_t i = 0; i < k->queue_count; i++) {
        if (k->queues[i].cohort == 0) milli += k->queues[i].nominal_milli;
    }
    return 1 + milli / FLAT_NODE_MILLI;
}

static void nodes_set(struct world *w)
{
    const struct sim_kueue *k = &w->kueue;
    uint64_t count = node_count(k);
    for (uint64_t i = 0; i < count; i++) {
        struct mr_event event = {.kind = MR_EVENT_NODE_SET,
                                 .u.node = {.id = {(uint32_t)i + 1},
                                            .cpu_milli = FLAT_NODE_MILLI,
                                            .mem_mib = UINT32_MAX}};
        if (k->level_count > 0) {
            uint32_t number = (uint32_t)i, above[SIM_KUEUE_LEVELS_MAX] = {0};
            for (uint32_t up = 1; up < k->level_count; up++) {
                number /= k->levels[k->level_count - up].count;
                above[up] = number + 1;
            }
            event.u.node.cpu_milli = k->node_cpu_milli;
            event.u.node.mem_mib = k->node_mem_mib;
            event.u.node.domain = above[1];
            event.u.node.block = above[2];
            event.u.node.cell = above[3];
        }
        sim_replay_event(&w->replay, &event);
    }
}

static void tenants_set(struct world *w)
{
    for (uint32_t i = 0; i < w->kueue.queue_count; i++) {
        const struct sim_kueue_queue *q = &w->kueue.queues[i];
        uint64_t keep_milli = 0;
        if (q->lend_milli < q->nominal_milli) keep_milli = q->nominal_milli - q->lend_milli;
        struct mr_event event = {.kind = MR_EVENT_TENANT_SET,
                                 .u.tenant = {.id = {i + 1},
                                              .parent = {q->cohort},
                                              .weight = 1,
                                              .quota_cpu_milli = q->nominal_milli,
                                              .quota_mem_mib = UINT64_MAX,
                                              .quota_accel_milli = UINT64_MAX,
                                              .running_max = UINT32_MAX,
                                              .reclaim = (enum mr_preempt)q->reclaim,
                                              .within = (enum mr_preempt)q->within}};
        event.u.tenant.lending[MR_RESOURCE_CPU] =
            (struct mr_lending){.borrow_max = q->borrow_milli, .keep = keep_milli};
        sim_replay_event(&w->replay, &event);
    }
}

static void arrives(struct world *w, uint32_t index)
{
    const struct sim_kueue_arrival *a = &w->kueue.arrivals[index];
    struct mr_event event = {.kind = MR_EVENT_SUBMIT,
                             .u.submit = {.tag = index + 1,
                                          .tenant = {a->queue + 1},
                                          .kind = MR_KIND_JOB,
                                          .shape = {.cpu_milli = a->request_milli},
                                          .tasks_min = a->tasks,
                                          .tasks_max = a->tasks,
                                          .priority = a->rank,
                                          .topology = (enum mr_topology)a->topology,
                                          .preemptible = true}};
    sim_replay_event(&w->replay, &event);
}

static int replay_run(struct world *w)
{
    nodes_set(w);
    tenants_set(w);
    w->replay.core_ns = 0;
    w->replay.submissions = 0;
    for (uint32_t i = 0; i < w->kueue.arrival_count && !w->replay.failed; i++) {
        sim_replay_advance(&w->replay, w->kueue.arrivals[i].time_us);
        arrives(w, i);
    }
    while (w->ended + w->rejected < w->kueue.arrival_count && !w->replay.failed) {
        uint64_t next_us = sim_replay_next_us(&w->replay);
        if (next_us == UINT64_MAX) break; /* the rest can never run */
        sim_replay_advance(&w->replay, MR_MAX(next_us, w->replay.now_us));
    }
    return w->replay.failed ? MR_ENO_MEMORY : 0;
}

/* --- the report ------------------------------------------------------------------------------- */

static void kinds_put(const struct sim_kueue *k, struct mr_buf *json, struct mr_buf *text)
{
    mr_buf_put_str(json, MR_STR("\"by_class\":{"));
    for (uint32_t i = 0; i < k->kind_count; i++) {
        const struct sim_kueue_kind *kind = &k->kinds[i];
        double mean_s = 0;
        if (kind->admitted > 0) mean_s = (double)kind->wait_sum_us / 1e6 / (double)kind->admitted;
        if (i > 0) mr_buf_put_char(json, ',');
        mr_json_put_string(json, mr_str_from(kind->name.text));
        mr_buf_printf(json,
                      ":{\"count\":%llu,\"admitted\":%llu,\"mean_time_to_admission_s\":%.3f,"
                      "\"max_time_to_admission_s\":%.3f,\"preempted\":%llu}",
                      (unsigned long long)kind->count, (unsigned long long)kind->admitted, mean_s,
                      (double)kind->wait_most_us / 1e6, (unsigned long long)kind->preempted);
        mr_buf_printf(text, "%-24s %7llu  to admission: mean %8.3f s, longest %8.3f s; %llu lost\n",
                      kind->name.text, (unsigned long long)kind->count, mean_s,
                      (double)kind->wait_most_us / 1e6, (unsigned long long)kind->preempted);
    }
    mr_buf_put_char(json, '}');
}

static void report(const struct world *w, struct mr_sim_replay_result *result)
{
    const struct sim_kueue *k = &w->kueue;
    double makespan_s = (double)w->makespan_us / 1e6, ideal_s = (double)sim_kueue_ideal_us(k) / 1e6;
    double rate = makespan_s > 0 ? (double)w->ended / makespan_s : 0;
    double cpu_s = (double)w->replay.core_ns / 1e9;
    uint64_t left = k->arrival_count - w->ended - w->rejected;
    mr_buf_printf(&result->json,
                  "{\"makespan_s\":%.3f,\"ideal_s\":%.3f,\"admissions_per_s\":%.1f,"
                  "\"cpu_s\":%.4f,\"workloads\":%u,\"completed\":%llu,\"rejected\":%llu,"
                  "\"never_admitted\":%llu,\"events\":%llu,",
                  makespan_s, ideal_s, rate, cpu_s, k->arrival_count, (unsigned long long)w->ended,
                  (unsigned long long)w->rejected, (unsigned long long)left,
                  (unsigned long long)w->replay.events);
    mr_buf_printf(&result->text,
                  "%u workloads, %llu completed in %.3f s; no scheduler can be faster than %.3f s\n"
                  "%.1f admissions/s of that time; all decisions took %.4f s of CPU\n",
                  k->arrival_count, (unsigned long long)w->ended, makespan_s, ideal_s, rate, cpu_s);
    if (left + w->rejected > 0) {
        mr_buf_printf(&result->text, "%llu were never admitted: they ask for more than they may\n",
                      (unsigned long long)(left + w->rejected));
    }
    kinds_put(k, &result->json, &result->text);
    struct mr_str ignored = {(const char *)k->ignored.p, k->ignored.n};
    if (ignored.n > 0) ignored.n--; /* its terminating zero */
    mr_buf_printf(&result->json, ",\"ignored_keys\":[%.*s]}", MR_STR_ARG(ignored));
    if (ignored.n > 0) mr_buf_printf(&result->text, "ignored: %.*s\n", MR_STR_ARG(ignored));
}

static struct mr_core_limits limits_of(const struct sim_kueue *k)
{
    struct mr_core_limits limits = mr_core_limits_small;
    uint64_t nodes = node_count(k), leases = 1;
    for (uint32_t i = 0; i < k->arrival_count; i++)
        leases += MR_MIN(k->arrivals[i].tasks, nodes);
    limits.nodes = (uint32_t)nodes;
    limits.domains = (uint32_t)MR_MIN(nodes, 1u << 18);
    limits.blocks = (uint32_t)MR_MIN(nodes, 1u << 14);
    limits.cells = limits.blocks;
    limits.tenants = k->queue_count;
    limits.workloads = k->arrival_count;
    limits.leases = (uint32_t)MR_MIN(leases, 1u << 20);
    limits.shapes = (uint32_t)MR_MIN((uint64_t)k->queue_count * (k->kind_count + 1),
                                     (uint64_t)k->arrival_count);
    return limits;
}

int sim_kueue_replay(const struct mr_sim_replay_options *options,
                     struct mr_sim_replay_result *result)
{
    struct world *w = mr_alloc_zero(sizeof *w); /* its classes are too many for a stack */
    if (w == NULL) return MR_ENO_MEMORY;
    const struct sim_replay_hooks hooks = {
        .context = w, .began = began, .stopped = stopped, .effect = on_effect};
    int error = sim_kueue_read(&options->workload, &result->problem, &w->kueue);
    if (error == 0) {
        w->arrival_of = mr_alloc_zero((w->kueue.arrival_count + 1) * sizeof *w->arrival_of);
        if (w->arrival_of == NULL) error = MR_ENO_MEMORY;
    }
    if (error == 0) {
        struct mr_core_limits limits = limits_of(&w->kueue);
        error = sim_replay_init(&w->replay, &limits, &hooks, options->cpu_ns);
    }
    if (error == 0) {
        mr_core_trace_set(w->replay.core, options->trace);
        error = replay_run(w);
        if (error == 0) report(w, result);
        sim_replay_done(&w->replay);
    }
    mr_free(w->arrival_of);
    sim_kueue_done(&w->kueue);
    mr_free(w);
    return error;
}
