/* SPDX-License-Identifier: Apache-2.0 */
/* Replays a list of pods on a list of GPU nodes: the protocol of the openb packing tables.
 *
 * Pods come one by one in an order shuffled by the seed, on an empty cluster, and never leave; the
 * list is topped up with random re-draws until the GPUs asked for reach 1.3 times the cluster's; a
 * pod that does not fit is dropped. The figure is allocated over all milli-GPUs.
 *
 * Owns:       the pods read, for the length of the call.
 * Invariants: (1) what core holds is what it started;
 *             (2) a pod is placed or dropped, once.
 * Never:      a decision: core places.
 * Cost:       O(pods * step).
 * Idea:       docs/internals/sim.md; Weng et al., ATC 2023, section 6
 */
#include <string.h>

#include "sim_csv_int.h"
#include "sim_formats_int.h"
#include "sim_replay_int.h"

#define PODS_MAX        1000000u
#define NODES_MAX       200000u
#define TARGET_PER_CENT 130u

struct pod {
    struct mr_shape shape;
};
struct openb {
    const struct mr_sim_replay_options *options;
    struct mr_sim_replay_result *result;
    struct sim_replay replay;
    struct mr_event *nodes;
    uint32_t node_count;
    struct mr_str types[MR_ACCEL_TYPES_MAX]; /* by number; 0 is none */
    uint32_t type_count;
    struct pod *pods;
    uint32_t pod_count;
    uint64_t gpu_milli;                 /* of the cluster */
    uint64_t asked_milli, placed_milli; /* GPUs */
    uint64_t milli_at_100;              /* placed when as much was asked for as there is */
    uint64_t arrived, placed, cpu_only, cpu_only_placed;
    uint64_t accepted; /* workload of the last submission, 0: refused */
    bool started;
};

static uint64_t began(void *context, uint64_t workload, uint32_t run, uint32_t tasks)
{
    (void)context, (void)workload, (void)run, (void)tasks;
    return UINT64_MAX;
}

static uint64_t stopped(void *context, uint64_t workload, uint32_t run, uint64_t ran_us)
{
    (void)context, (void)workload, (void)run, (void)ran_us;
    return 0;
}

static void on_effect(void *context, const struct mr_effect *effect)
{
    struct openb *o = context;
    if (effect->kind == MR_EFFECT_ACCEPTED) o->accepted = effect->u.answer.workload.v;
    if (effect->kind == MR_EFFECT_START) o->started = true;
}

/* --- reading ------------------------------------------------------------------------------- */

static uint8_t type_of(struct openb *o, struct mr_str name, bool make)
{
    for (uint32_t i = 1; i <= o->type_count; i++) {
        if (mr_str_equal(o->types[i], name)) return (uint8_t)i;
    }
    if (!make || o->type_count + 1 >= MR_ACCEL_TYPES_MAX) return 0;
    o->types[++o->type_count] = name;
    return (uint8_t)o->type_count;
}

static int nodes_read(struct openb *o)
{
    struct sim_csv csv;
    uint32_t cpu, mem, gpu, model;
    int error = sim_csv_open(&csv, &o->options->fleet, ',', &o->result->problem);
    if (error == 0) error = sim_csv_column(&csv, "cpu_milli", &cpu);
    if (error == 0) error = sim_csv_column(&csv, "memory_mib", &mem);
    if (error == 0) error = sim_csv_column(&csv, "gpu", &gpu);
    if (error == 0) error = sim_csv_column(&csv, "model", &model);
    if (error != 0) return error;
    size_t rows = 0;
    for (size_t i = 0; i < csv.rest.n; i++)
        rows += csv.rest.p[i] == '\n';
    if (rows + 1 > NODES_MAX) return sim_csv_wrong(&csv, "more than %u nodes", NODES_MAX);
    o->nodes = mr_alloc_zero((rows + 1) * sizeof *o->nodes);
    if (o->nodes == NULL) return MR_ENO_MEMORY;
    while ((error = sim_csv_next(&csv)) == 0) {
        uint64_t amounts[3];
        if ((error = sim_csv_number(&csv, cpu, 0, UINT32_MAX, &amounts[0])) != 0) return error;
        if ((error = sim_csv_number(&csv, mem, 0, UINT32_MAX, &amounts[1])) != 0) return error;
        error = sim_csv_number(&csv, gpu, 0, MR_DEVICES_PER_NODE_MAX, &amounts[2]);
        if (error != 0) return error;
        struct mr_event *event = &o->nodes[o->node_count++];
        event->kind = MR_EVENT_NODE_SET;
        event->u.node = (struct mr_event_node){.id = {o->node_count},
                                               .cpu_milli = (uint32_t)amounts[0],
                                               .mem_mib = (uint32_t)amounts[1],
                                               .accel_count = (uint8_t)amounts[2]};
        if (amounts[2] == 0) continue;
        event->u.node.accel_type = type_of(o, csv.fields[model], true);
        if (event->u.node.accel_type == 0)
            return sim_csv_wrong(&csv, "more than %u GPU models", MR_ACCEL_TYPES_MAX - 1);
        o->gpu_milli += amounts[2] * 1000;
    }
    if (error != MR_ENOT_FOUND) return error;
    if (o->gpu_milli == 0) return sim_csv_wrong(&csv, "no node has a GPU");
    return 0;
}

/* "V100M16|V100M32" into the shape; a model that no node has is left out. */
static int models_read(struct openb *o, struct sim_csv *csv, struct mr_str models,
                       struct mr_shape *shape)
{
    struct mr_str name;
    uint32_t count = 0;
    while (mr_str_split(&models, '|', &name)) {
        uint8_t type = type_of(o, mr_str_trim(name), false);
        if (type == 0) continue;
        if (count >= MR_SHAPE_ALTERNATIVES)
            return sim_csv_wrong(csv, "more than %u GPU models", MR_SHAPE_ALTERNATIVES);
        shape->accel_types[count++] = type;
    }
    shape->accel_order = MR_ACCEL_ORDER_FIT;
    /* Only models that the cluster lacks: it can never run, but it arrives. */
    if (count == 0) shape->accel_types[0] = MR_ACCEL_TYPES_MAX - 1;
    return 0;
}

static int pod_read(struct openb *o, struct sim_csv *csv, const uint32_t columns[5])
{
    uint64_t v[4];
    static const uint64_t most[4] = {UINT32_MAX, UINT32_MAX, MR_DEVICES_PER_NODE_MAX, 1000};
    for (uint32_t i = 0; i < 4; i++) {
        int error = sim_csv_number(csv, columns[i], 0, most[i], &v[i]);
        if (error != 0) return error;
    }
    struct pod *pod = &o->pods[o->pod_count++];
    pod->shape = (struct mr_shape){.cpu_milli = (uint32_t)v[0], .mem_mib = (uint32_t)v[1]};
    if (v[2] > 0)
        pod->shape.accel_milli = v[2] == 1 && v[3] > 0 ? (uint32_t)v[3] : (uint32_t)v[2] * 1000u;
    if (v[2] == 0 || columns[4] == SIM_CSV_NONE || csv->fields[columns[4]].n == 0) return 0;
    return models_read(o, csv, csv->fields[columns[4]], &pod->shape);
}

static int pods_read(struct openb *o)
{
    static const char *const names[4] = {"cpu_milli", "memory_mib", "num_gpu", "gpu_milli"};
    struct sim_csv csv;
    uint32_t columns[5];
    int error = sim_csv_open(&csv, &o->options->workload, ',', &o->result->problem);
    for (uint32_t i = 0; i < 4 && error == 0; i++) {
        error = sim_csv_column(&csv, names[i], &columns[i]);
    }
    if (error != 0) return error;
    columns[4] = sim_csv_find(&csv, "gpu_spec");
    size_t rows = 0;
    for (size_t i = 0; i < csv.rest.n; i++)
        rows += csv.rest.p[i] == '\n';
    if (rows + 1 > PODS_MAX) return sim_csv_wrong(&csv, "more than %u pods", PODS_MAX);
    o->pods = mr_alloc_zero((rows + 1) * sizeof *o->pods);
    if (o->pods == NULL) return MR_ENO_MEMORY;
    while ((error = sim_csv_next(&csv)) == 0) {
        if ((error = pod_read(o, &csv, columns)) != 0) return error;
    }
    if (error != MR_ENOT_FOUND) return error;
    for (uint32_t i = 0; i < o->pod_count; i++) {
        if (o->pods[i].shape.accel_milli > 0) return 0;
    }
    return sim_csv_wrong(&csv, "no pod asks for a GPU");
}

/* --- replaying ----------------------------------------------------------------------------- */

static struct mr_event submission(const struct pod *pod)
{
    return (struct mr_event){.kind = MR_EVENT_SUBMIT,
                             .u.submit = {.tenant = {1},
                                          .kind = MR_KIND_JOB,
                                          .shape = pod->shape,
                                          .tasks_min = 1,
                                          .tasks_max = 1,
                                          .priority = MR_PRIORITY_DEFAULT}};
}

static void pod_arrives(struct openb *o, const struct pod *pod)
{
    struct mr_event event = submission(pod);
    o->accepted = 0;
    o->started = false;
    sim_replay_event(&o->replay, &event);
    o->arrived++;
    o->asked_milli += pod->shape.accel_milli;
    o->cpu_only += pod->shape.accel_milli == 0;
    if (o->started) {
        o->placed++;
        o->placed_milli += pod->shape.accel_milli;
        o->cpu_only_placed += pod->shape.accel_milli == 0;
    } else if (o->accepted != 0) {
        struct mr_event drop = {.kind = MR_EVENT_CANCEL, .u.cancel = {o->accepted}};
        sim_replay_event(&o->replay, &drop);
    }
    if (o->asked_milli <= o->gpu_milli) o->milli_at_100 = o->placed_milli;
}

/* The list's shapes, known beforehand: all of it is submitted while there is no node yet, and
 * withdrawn. Core learns from submissions, whatever becomes of them. */
static void prior_teach(struct openb *o)
{
    for (uint32_t i = 0; i < o->pod_count && !o->replay.failed; i++) {
        struct mr_event event = submission(&o->pods[i]);
        o->accepted = 0;
        sim_replay_event(&o->replay, &event);
        if (o->accepted == 0) continue;
        struct mr_event drop = {.kind = MR_EVENT_CANCEL, .u.cancel = {o->accepted}};
        sim_replay_event(&o->replay, &drop);
    }
}

static int openb_run(struct openb *o)
{
    struct mr_prng prng;
    struct mr_event tenant = {.kind = MR_EVENT_TENANT_SET,
                              .u.tenant = {.id = {1},
                                           .weight = 1,
                                           .quota_cpu_milli = UINT64_MAX,
                                           .quota_mem_mib = UINT64_MAX,
                                           .quota_accel_milli = UINT64_MAX,
                                           .running_max = UINT32_MAX}};
    mr_prng_init(&prng, o->options->seed);
    sim_replay_event(&o->replay, &tenant);
    if (o->options->prior_list) prior_teach(o);
    for (uint32_t i = 0; i < o->node_count; i++)
        sim_replay_event(&o->replay, &o->nodes[i]);
    o->replay.core_ns = 0;
    o->replay.submissions = 0;
    for (uint32_t i = o->pod_count; i > 1; i--) {
        uint64_t other = mr_prng_below(&prng, i);
        struct pod pod = o->pods[i - 1];
        o->pods[i - 1] = o->pods[other];
        o->pods[other] = pod;
    }
    uint64_t target_milli = o->gpu_milli / 100 * TARGET_PER_CENT;
    for (uint64_t i = 0; o->asked_milli < target_milli && !o->replay.failed; i++) {
        uint64_t at = i < o->pod_count ? i : mr_prng_below(&prng, o->pod_count);
        pod_arrives(o, &o->pods[at]);
    }
    return o->replay.failed ? MR_ENO_MEMORY : 0;
}

static void openb_report(struct openb *o)
{
    double all = (double)o->gpu_milli;
    double share = (double)o->placed_milli / all, share_100 = (double)o->milli_at_100 / all;
    double cpu_only = o->cpu_only > 0 ? (double)o->cpu_only_placed / (double)o->cpu_only : 1.0;
    double rate = o->replay.core_ns > 0
                      ? (double)o->replay.submissions * 1e9 / (double)o->replay.core_ns
                      : 0.0;
    mr_buf_printf(&o->result->json,
                  "{\"allocated_gpu_share\":%.6f,\"allocated_gpu_share_at_100\":%.6f,"
                  "\"cpu_only_share\":%.6f,\"arrived\":%llu,\"placed\":%llu,\"dropped\":%llu,"
                  "\"decisions_per_s\":%.0f}",
                  share, share_100, cpu_only, (unsigned long long)o->arrived,
                  (unsigned long long)o->placed, (unsigned long long)(o->arrived - o->placed),
                  rate);
    mr_buf_printf(&o->result->text,
                  "%u nodes, %llu GPUs, %u pods listed\n"
                  "GPUs allocated at 130 %% arrived  %.2f %%\n"
                  "GPUs allocated at 100 %% arrived  %.2f %%\n"
                  "CPU-only pods placed             %.2f %%\n"
                  "%llu pods arrived, %llu placed, %llu dropped; %.0f decisions/s\n",
                  o->node_count, (unsigned long long)(o->gpu_milli / 1000), o->pod_count,
                  share * 100, share_100 * 100, cpu_only * 100, (unsigned long long)o->arrived,
                  (unsigned long long)o->placed, (unsigned long long)(o->arrived - o->placed),
                  rate);
}

int sim_openb_replay(const struct mr_sim_replay_options *options,
                     struct mr_sim_replay_result *result)
{
    struct openb o = {.options = options, .result = result};
    const struct sim_replay_hooks hooks = {
        .context = &o, .began = began, .stopped = stopped, .effect = on_effect};
    int error = nodes_read(&o);
    if (error == 0) error = pods_read(&o);
    if (error == 0) {
        struct mr_core_limits limits = mr_core_limits_small;
        limits.nodes = o.node_count;
        limits.domains = o.node_count;
        limits.leases = o.node_count * MR_DEVICES_PER_NODE_MAX;
        limits.workloads = limits.leases + 1;
        limits.fit_shapes = 1024;
        limits.fit_states = 2048;
        error = sim_replay_init(&o.replay, &limits, &hooks, options->cpu_ns);
    }
    if (error == 0) {
        mr_core_trace_set(o.replay.core, options->trace);
        error = openb_run(&o);
        if (error == 0) openb_report(&o);
        sim_replay_done(&o.replay);
    }
    mr_free(o.nodes);
    mr_free(o.pods);
    return error;
}
