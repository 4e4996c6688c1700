/* SPDX-License-Identifier: Apache-2.0 */
/* Replays training jobs with deadlines on a cluster of equal GPUs, as the ElasticFlow traces say.
 *
 * A job has so many iterations to do by its deadline; a table says how many a second its model does
 * with its batch on 1, 2, 4, … GPUs. A change of size costs 7 + 2 (log2 n + 1) seconds (OV1); OV2
 * takes 7 s more from every running job whenever anything changes, and 47 s at every 60th change.
 * Core decides all; this file keeps the true progress. A job counts as satisfied when it really
 * ends by its deadline; every job of the trace is in the denominator, the impossible ones too.
 *
 * Owns:       the jobs read and the speeds, for the length of the call.
 * Invariants: (1) a job ends once, when its true work is done.
 * Never:      a decision: core admits and sizes.
 * Cost:       O(events * (log jobs + a plan)).
 * Idea:       docs/internals/deadlines.md; Gu et al. (ElasticFlow), ASPLOS 2023, section 6
 */
#include <string.h>

#include "sim_csv_int.h"
#include "sim_formats_int.h"
#include "sim_replay_int.h"

#define JOBS_MAX      1000000u
#define SPEEDS_MAX    512u /* rows of all tables */
#define GPUS_PER_NODE 8u
#define SECOND_US     1000000ull
#define SLOT_US       (60 * SECOND_US)
/* Thousandths that OV2 may take from each minute: (7 + 47 / 60) / 60, and room for more. */
#define OV2_SHARE 230u

struct speeds { /* one model with one batch */
    struct mr_str model;
    uint64_t batch;
    uint32_t count;
    uint64_t rate_micro[MR_CURVE_POINTS_MAX]; /* iterations per second with tasks[i] GPUs */
    uint32_t tasks[MR_CURVE_POINTS_MAX];
};
struct job {
    uint64_t arrival_us, deadline_us, work;
    const struct speeds *speeds;
    uint64_t left_micro, began_us; /* true work; when the present run began */
    uint64_t lost_us;              /* of the present run, to OV2 */
    uint32_t tasks;                /* of the present run, 0: it does not run */
    uint32_t run;
    uint32_t error_permille; /* of true speed to said speed, around 1000 */
    bool admitted, satisfied, ended;
};
struct elasticflow {
    const struct mr_sim_replay_options *options;
    struct mr_sim_replay_result *result;
    struct sim_replay replay;
    struct speeds speeds[SPEEDS_MAX];
    uint32_t speeds_count;
    struct job *jobs;
    uint32_t job_count;
    uint32_t *by_workload; /* job + 1 */
    size_t workload_room;
    uint32_t submitting;
    uint64_t charged_slot;
    uint64_t changes;    /* OV2: counted */
    uint64_t changed_us; /* something began or stopped at that time; 0: that was dealt with */
};

/* --- reading ------------------------------------------------------------------------------- */

/* "12.5" as millionths; digits behind the sixth are cut. */
static bool decimal_read(struct mr_str text, uint64_t *ret_micro)
{
    struct mr_str rest = text, whole;
    uint64_t value, fraction = 0;
    if (!mr_str_split(&rest, '.', &whole) || mr_str_to_u64(whole, &value) != 0) return false;
    if (rest.n > 6) rest.n = 6;
    if (rest.n > 0 && mr_str_to_u64(rest, &fraction) != 0) return false;
    for (size_t i = rest.n; i < 6; i++) {
        fraction *= 10;
    }
    if (value > 1000000000u) return false;
    *ret_micro = value * 1000000u + fraction;
    return true;
}

static int speeds_row(struct elasticflow *e, struct sim_csv *csv, struct mr_str model)
{
    if (e->speeds_count == SPEEDS_MAX)
        return sim_csv_wrong(csv, "more than %u rows of speeds", SPEEDS_MAX);
    struct speeds *s = &e->speeds[e->speeds_count++];
    s->model = model;
    int error = sim_csv_number(csv, 0, 0, UINT32_MAX, &s->batch);
    for (uint32_t i = 1; error == 0 && i < csv->column_count; i++) {
        uint64_t tasks, rate;
        if (csv->fields[i].n == 0) continue;
        if (mr_str_to_u64(csv->columns[i], &tasks) != 0 || tasks == 0 || tasks > 65536)
            return sim_csv_wrong(csv, "the columns are numbers of GPUs, not '%.*s'",
                                 MR_STR_ARG(csv->columns[i]));
        if (!decimal_read(csv->fields[i], &rate))
            return sim_csv_wrong(csv, "'%.*s' is no speed", MR_STR_ARG(csv->fields[i]));
        if (rate == 0) continue;
        if (s->count == MR_CURVE_POINTS_MAX)
            return sim_csv_wrong(csv, "more than %u sizes", MR_CURVE_POINTS_MAX);
        if (s->count > 0 && tasks <= s->tasks[s->count - 1])
            return sim_csv_wrong(csv, "the numbers of GPUs must ascend");
        s->tasks[s->count] = (uint32_t)tasks;
        s->rate_micro[s->count++] = rate;
    }
    return error;
}

static int speeds_read(struct elasticflow *e)
{
    for (uint32_t i = 0; i < e->options->throughput_count; i++) {
        struct sim_csv csv;
        const struct mr_sim_file *file = &e->options->throughputs[i];
        int error = sim_csv_open(&csv, file, ',', &e->result->problem);
        while (error == 0 && (error = sim_csv_next(&csv)) == 0) {
            error = speeds_row(e, &csv, file->name);
        }
        if (error != MR_ENOT_FOUND) return error;
    }
    if (e->speeds_count > 0) return 0;
    mr_buf_printf(
        &e->result->problem,
        "--throughputs DIR is missing: one CSV a model, a row a batch size, columns 1, 2, "
        "4, … GPUs, values in iterations a second");
    return MR_EINVALID;
}

static const struct speeds *speeds_find(const struct elasticflow *e, struct mr_str model,
                                        uint64_t batch)
{
    for (uint32_t i = 0; i < e->speeds_count; i++) {
        if (e->speeds[i].batch == batch && mr_str_equal(e->speeds[i].model, model))
            return &e->speeds[i];
    }
    return NULL;
}

static int job_read(struct elasticflow *e, struct sim_csv *csv, const uint32_t columns[5])
{
    uint64_t v[4];
    struct job *job = &e->jobs[e->job_count++];
    for (uint32_t i = 0; i < 4; i++) {
        int error = sim_csv_number(csv, columns[i], 0, (uint64_t)1 << 40, &v[i]);
        if (error != 0) return error;
    }
    job->arrival_us = v[0] * SECOND_US;
    job->work = v[1];
    job->deadline_us = v[2] * SECOND_US;
    job->left_micro = job->work * 1000000u;
    job->error_permille = 1000;
    job->speeds = speeds_find(e, csv->fields[columns[4]], v[3]);
    if (job->speeds != NULL) return 0;
    return sim_csv_wrong(csv, "no speeds are known of %.*s with batch %llu",
                         MR_STR_ARG(csv->fields[columns[4]]), (unsigned long long)v[3]);
}

static void swap(struct job *a, struct job *b)
{
    struct job kept = *a;
    *a = *b;
    *b = kept;
}

/* By arrival, in the file's order among equals: insertion, as traces are nearly sorted. */
static void jobs_sort(struct elasticflow *e)
{
    for (uint32_t i = 1; i < e->job_count; i++) {
        for (uint32_t at = i; at > 0 && e->jobs[at].arrival_us < e->jobs[at - 1].arrival_us; at--) {
            swap(&e->jobs[at], &e->jobs[at - 1]);
        }
    }
}

static int jobs_read(struct elasticflow *e)
{
    static const char *const names[5] = {"submission_time", "num_iteration", "deadline",
                                         "batch_size", "model_name"};
    struct sim_csv csv;
    uint32_t columns[5];
    int error = sim_csv_open(&csv, &e->options->workload, ',', &e->result->problem);
    for (uint32_t i = 0; i < 5 && error == 0; i++) {
        error = sim_csv_column(&csv, names[i], &columns[i]);
    }
    if (error != 0) return error;
    size_t rows = 1;
    for (size_t i = 0; i < csv.rest.n; i++) {
        rows += csv.rest.p[i] == '\n';
    }
    if (rows > JOBS_MAX) return sim_csv_wrong(&csv, "more than %u jobs", JOBS_MAX);
    e->jobs = mr_alloc_zero(rows * sizeof *e->jobs);
    if (e->jobs == NULL) return MR_ENO_MEMORY;
    while ((error = sim_csv_next(&csv)) == 0) {
        if ((error = job_read(e, &csv, columns)) != 0) return error;
    }
    if (error != MR_ENOT_FOUND) return error;
    if (e->job_count == 0) return sim_csv_wrong(&csv, "no job");
    jobs_sort(e);
    return 0;
}

/* --- overhead ------------------------------------------------------------------------------ */

static uint64_t resize_us(const struct elasticflow *e, uint32_t tasks)
{
    uint64_t log = 0;
    if (e->options->overhead == MR_SIM_OVERHEAD_NONE) return 0;
    while ((tasks >> (log + 1)) != 0) {
        log++;
    }
    return (7 + 2 * (log + 1)) * SECOND_US;
}

/* --- what core does ------------------------------------------------------------------------ */

static struct job *job_of(struct elasticflow *e, uint64_t workload)
{
    if (workload >= e->workload_room || e->by_workload[workload] == 0) return NULL;
    return &e->jobs[e->by_workload[workload] - 1];
}

static uint64_t true_rate(const struct job *job, uint32_t tasks)
{
    for (uint32_t i = 0; i < job->speeds->count; i++) {
        if (job->speeds->tasks[i] == tasks)
            return mr_mul_div_u64(job->speeds->rate_micro[i], job->error_permille, 1000);
    }
    return 0;
}

/* A run takes its start-up and then what is left; core knows the speeds, not the errors. */
static uint64_t began(void *context, uint64_t workload, uint32_t run, uint32_t tasks)
{
    struct elasticflow *e = context;
    struct job *job = job_of(e, workload);
    MR_ASSERT(job != NULL);
    job->tasks = tasks;
    job->run = run;
    job->began_us = e->replay.now_us;
    job->lost_us = 0;
    e->changed_us = e->replay.now_us;
    uint64_t rate = true_rate(job, tasks);
    if (rate == 0) return UINT64_MAX;
    return resize_us(e, tasks) + mr_mul_div_u64(job->left_micro, 1000000u, rate) + 1;
}

static void job_advance(struct elasticflow *e, struct job *job, uint64_t ran_us)
{
    uint64_t idle_us = resize_us(e, job->tasks) + job->lost_us;
    if (job->tasks == 0 || ran_us <= idle_us) return;
    uint64_t done = mr_mul_div_u64(true_rate(job, job->tasks), ran_us - idle_us, 1000000u);
    job->left_micro = done < job->left_micro ? job->left_micro - done : 1;
}

static uint64_t stopped(void *context, uint64_t workload, uint32_t run, uint64_t ran_us)
{
    struct elasticflow *e = context;
    struct job *job = job_of(e, workload);
    MR_ASSERT(job != NULL);
    (void)run;
    job_advance(e, job, ran_us);
    job->tasks = 0;
    e->changed_us = e->replay.now_us;
    return 0;
}

static void on_effect(void *context, const struct mr_effect *effect)
{
    struct elasticflow *e = context;
    if (effect->kind == MR_EFFECT_ACCEPTED) {
        uint64_t id = effect->u.answer.workload.v;
        if (id < e->workload_room) e->by_workload[id] = e->submitting + 1;
        return;
    }
    if (effect->kind != MR_EFFECT_STATE) return;
    struct job *job = job_of(e, effect->u.state.workload.v);
    if (job == NULL || job->ended) return;
    job->admitted = job->admitted || effect->u.state.promised;
    if (!mr_state_final(effect->u.state.state)) return;
    job->ended = true;
    if (job->tasks > 0) e->changed_us = e->replay.now_us;
    job->tasks = 0;
    job->satisfied =
        effect->u.state.state == MR_STATE_COMPLETED && e->replay.now_us <= job->deadline_us;
}

/* --- replaying ----------------------------------------------------------------------------- */

static void set_up(struct elasticflow *e)
{
    struct mr_event tenant = {.kind = MR_EVENT_TENANT_SET,
                              .u.tenant = {.id = {1},
                                           .weight = 1,
                                           .quota_cpu_milli = UINT64_MAX,
                                           .quota_mem_mib = UINT64_MAX,
                                           .quota_accel_milli = UINT64_MAX,
                                           .running_max = UINT32_MAX}};
    sim_replay_event(&e->replay, &tenant);
    for (uint32_t i = 0; i * GPUS_PER_NODE < e->options->gpus; i++) {
        uint32_t gpus = MR_MIN(GPUS_PER_NODE, e->options->gpus - i * GPUS_PER_NODE);
        struct mr_event node = {.kind = MR_EVENT_NODE_SET,
                                .u.node = {.id = {i + 1},
                                           .cpu_milli = 1000 * gpus,
                                           .mem_mib = 1024 * gpus,
                                           .accel_type = 1,
                                           .accel_count = (uint8_t)gpus}};
        sim_replay_event(&e->replay, &node);
    }
}

static void submit(struct elasticflow *e, uint32_t index)
{
    const struct job *job = &e->jobs[index];
    const struct speeds *s = job->speeds;
    struct mr_event event = {.kind = MR_EVENT_SUBMIT};
    event.u.submit = (struct mr_event_submit){
        .tenant = {1},
        .kind = MR_KIND_JOB,
        .shape = {.cpu_milli = 1000, .mem_mib = 1024, .accel_milli = 1000, .accel_types = {1}},
        .tasks_min = s->tasks[0],
        .tasks_max = s->tasks[s->count - 1],
        .priority = MR_PRIORITY_DEFAULT,
        .deadline_us = job->deadline_us,
        /* Late is worth nothing here, so no GPU goes to a job that is late for sure. */
        .promise = !e->options->no_promises,
        .late_ends = true,
        .curve = {.work = job->work, .count = s->count}};
    uint32_t error = e->options->speed_error_permille;
    if (e->options->overhead == MR_SIM_OV2) error = error + OV2_SHARE - error * OV2_SHARE / 1000;
    event.u.submit.curve.error_permille = error;
    for (uint32_t i = 0; i < s->count; i++) {
        event.u.submit.curve.points[i] =
            (struct mr_curve_point){.tasks = s->tasks[i],
                                    .rate_micro = s->rate_micro[i],
                                    .resize_us = resize_us(e, s->tasks[i])};
    }
    e->submitting = index;
    sim_replay_event(&e->replay, &event);
}

/* OV2: who runs through a change of others loses time, too. */
static void changes_charge(struct elasticflow *e)
{
    if (e->changed_us == 0 || e->options->overhead != MR_SIM_OV2) return;
    uint64_t lost_us = 7 * SECOND_US, slot = e->replay.now_us / SLOT_US;
    e->changed_us = 0;
    if (slot == e->charged_slot) return; /* what changes within a slot is one event */
    e->charged_slot = slot;
    if (++e->changes % 60 == 0) lost_us += 47 * SECOND_US;
    for (uint64_t workload = 1; workload < e->workload_room; workload++) {
        struct job *job = job_of(e, workload);
        if (job == NULL || job->tasks == 0 || job->ended) continue;
        if (job->began_us >= e->replay.now_us) continue;
        job->lost_us += lost_us;
        sim_replay_delay(&e->replay, workload, lost_us);
    }
}

/* Time moves on from one thing that is due to the next. */
static void advance(struct elasticflow *e, uint64_t time_us)
{
    while (!e->replay.failed && sim_replay_next_us(&e->replay) <= time_us) {
        sim_replay_advance(&e->replay, MR_MAX(sim_replay_next_us(&e->replay), e->replay.now_us));
        changes_charge(e);
    }
    if (time_us != UINT64_MAX - 1)
        sim_replay_advance(&e->replay, MR_MAX(time_us, e->replay.now_us));
}

static int replay(struct elasticflow *e)
{
    struct mr_prng prng;
    mr_prng_init(&prng, e->options->seed);
    set_up(e);
    e->replay.core_ns = 0;
    for (uint32_t i = 0; i < e->job_count && !e->replay.failed; i++) {
        uint32_t error = e->options->speed_error_permille;
        if (error > 0)
            e->jobs[i].error_permille =
                1000 - error + (uint32_t)mr_prng_below(&prng, 2 * error + 1);
        advance(e, e->jobs[i].arrival_us);
        submit(e, i);
    }
    advance(e, UINT64_MAX - 1);
    return e->replay.failed ? MR_ENO_MEMORY : 0;
}

static void report(struct elasticflow *e)
{
    uint64_t satisfied = 0, admitted = 0, broken = 0;
    for (uint32_t i = 0; i < e->job_count; i++) {
        satisfied += e->jobs[i].satisfied;
        admitted += e->jobs[i].admitted;
        broken += e->jobs[i].admitted && !e->jobs[i].satisfied;
    }
    double ratio = (double)satisfied / (double)e->job_count;
    double cpu_s = (double)e->replay.core_ns / 1e9;
    mr_buf_printf(&e->result->json,
                  "{\"deadline_satisfactory_ratio\":%.6f,\"jobs\":%u,\"admitted\":%llu,"
                  "\"broken_promises\":%llu,\"satisfied\":%llu,\"cpu_s\":%.3f}",
                  ratio, e->job_count, (unsigned long long)admitted, (unsigned long long)broken,
                  (unsigned long long)satisfied, cpu_s);
    mr_buf_printf(&e->result->text,
                  "%u jobs on %u GPUs\nended by their deadline   %.2f %%\npromised   %llu, "
                  "broken   %llu\n%.2f s of CPU time for all decisions\n",
                  e->job_count, e->options->gpus, ratio * 100, (unsigned long long)admitted,
                  (unsigned long long)broken, cpu_s);
}

int sim_elasticflow_replay(const struct mr_sim_replay_options *options,
                           struct mr_sim_replay_result *result)
{
    if (options->gpus == 0) {
        mr_buf_printf(&result->problem, "--gpus N is missing: the size of the cluster");
        return MR_EINVALID;
    }
    struct elasticflow *e = mr_alloc_zero(sizeof *e);
    if (e == NULL) return MR_ENO_MEMORY;
    e->options = options;
    e->result = result;
    const struct sim_replay_hooks hooks = {
        .context = e, .began = began, .stopped = stopped, .effect = on_effect};
    int error = speeds_read(e);
    if (error == 0) error = jobs_read(e);
    if (error == 0) {
        struct mr_core_limits limits = mr_core_limits_small;
        limits.nodes = (options->gpus + GPUS_PER_NODE - 1) / GPUS_PER_NODE;
        limits.domains = limits.nodes;
        limits.leases = 2 * options->gpus + 64;
        limits.workloads = e->job_count + 1;
        limits.planned = MR_MIN(e->job_count, 8192u);
        e->workload_room = (size_t)e->job_count + 2;
        e->by_workload = mr_alloc_zero(e->workload_room * sizeof *e->by_workload);
        error = e->by_workload == NULL
                    ? MR_ENO_MEMORY
                    : sim_replay_init(&e->replay, &limits, &hooks, options->cpu_ns);
    }
    if (error == 0) {
        mr_core_trace_set(e->replay.core, options->trace);
        error = replay(e);
        if (error == 0) report(e);
        sim_replay_done(&e->replay);
    }
    mr_free(e->by_workload);
    mr_free(e->jobs);
    mr_free(e);
    return error;
}
