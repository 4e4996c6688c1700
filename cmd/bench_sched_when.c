/* SPDX-License-Identifier: Apache-2.0 */
/* `bench sched when`: how often the band of a forecast holds what then happens.
 *
 * The ElasticFlow traces, each on a quarter of its published cluster so that jobs wait, as rigid
 * gangs of one-GPU tasks through the production core. Users' estimates are drawn: the true length
 * times 2^-1 to 2^2, so they are wrong by a factor and mostly too long. From a quarter of the trace
 * on, jobs that have just been submitted and wait are asked about; what was learned then is from
 * jobs that had ended, nothing else. The true start is the replay's.
 *
 * The traces are not part of the project: ../shared/data/elasticflow, or MILLRACE_ELASTICFLOW.
 *
 * Owns:   a core, the memory of its forks and the jobs, for the length of a replay.
 * Thread: one.
 * Fails:  MR_E… of reading; without the traces one bar says so.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_sched.h"
#include "cmd.h"
#include "forecast/forecast.h"

#define BYTES_MAX  ((size_t)64 * 1024 * 1024)
#define SECOND_US  1000000ull
#define EPOCH_US   (1700000000ull * SECOND_US)
#define JOBS_MAX   16000u
#define ASKED_MAX  150u
#define NODE_GPUS  8u
#define GPU_TYPE   1u
#define LEASES_MAX 8192u

static const struct {
    const char *trace;
    uint32_t gpus;
} traces[] = {{"cluster01", 128}, {"cluster02", 128}, {"cluster05", 128}};

struct job {
    uint64_t submit_us, run_us, estimate_us, started_us;
    uint32_t gpus;
};
struct end { /* of a run, in a heap by time */
    uint64_t at_us, workload;
};
struct asked {
    uint64_t now_us, workload;
    struct mr_forecast_band band, raw;
    bool scored;
};
struct replay {
    struct mr_core *core;
    void *block, *scratch;
    size_t block_bytes, scratch_bytes;
    struct mr_forecast_learned learned;
    struct job *jobs; /* job i is workload i + 1 */
    uint32_t job_count, next;
    struct end *ends;
    uint32_t end_count;
    uint64_t now_us, lease_of[LEASES_MAX]; /* leases that were started in the step */
    uint32_t leases;
    struct asked asked[ASKED_MAX];
    uint32_t asked_count;
};

/* --- the trace -------------------------------------------------------------------------------- */

static int job_before(const void *a, const void *b)
{
    uint64_t x = ((const struct job *)a)->submit_us, y = ((const struct job *)b)->submit_us;
    return (x > y) - (x < y);
}

/* job_id,submission_time,num_iteration,model_name,deadline,batch_size,num_gpu,duration */
static bool line_read(const char *line, size_t n, uint64_t ret[8])
{
    size_t at = 0;
    for (uint32_t column = 0; column < 8; column++) {
        size_t from = at;
        while (at < n && line[at] != ',')
            at++;
        ret[column] = 0;
        for (size_t i = from; i < at && line[i] >= '0' && line[i] <= '9'; i++)
            ret[column] = ret[column] * 10 + (uint64_t)(line[i] - '0');
        if (column < 7 && at >= n) return false;
        at++;
    }
    return true;
}

static int trace_read(struct replay *r, const char *path, uint32_t gpus)
{
    struct mr_buf text;
    struct mr_prng prng;
    mr_buf_init(&text, BYTES_MAX);
    mr_prng_init(&prng, gpus);
    int error = cmd_file_read(path, &text);
    const char *at = (const char *)text.p, *end = at + text.n;
    while (error == 0 && at < end && r->job_count < JOBS_MAX) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t n = newline != NULL ? (size_t)(newline - at) : (size_t)(end - at);
        uint64_t v[8];
        if (line_read(at, n, v) && v[6] > 0 && v[7] > 0) {
            struct job *job = &r->jobs[r->job_count++];
            /* 2^-1 … 2^2 in 1024ths, by halves of a doubling. */
            static const uint32_t factors[] = {512, 724, 1024, 1448, 2048, 2896, 4096};
            uint64_t factor = factors[mr_prng_below(&prng, MR_COUNT_OF(factors))];
            *job = (struct job){.submit_us = EPOCH_US + v[1] * SECOND_US,
                                .run_us = v[7] * SECOND_US,
                                .estimate_us = v[7] * SECOND_US / 1024 * factor,
                                .gpus = (uint32_t)MR_MIN(v[6], (uint64_t)gpus)};
        }
        at += n + 1;
    }
    mr_buf_done(&text);
    if (r->job_count > 0) qsort(r->jobs, r->job_count, sizeof *r->jobs, job_before);
    return error == 0 && r->job_count == 0 ? MR_ESYNTAX : error;
}

/* --- the replay ------------------------------------------------------------------------------- */

static void emit(void *context, const struct mr_effect *effect)
{
    struct replay *r = context;
    if (effect->kind != MR_EFFECT_START) return;
    MR_ASSERT(r->leases < LEASES_MAX);
    r->lease_of[r->leases++] = effect->u.start.lease.v;
    struct job *job = &r->jobs[effect->u.start.workload.v - 1];
    if (job->started_us == 0) job->started_us = r->now_us;
}

static void step(struct replay *r, struct mr_event event)
{
    struct mr_effect_sink sink = {.emit = emit, .context = r};
    event.time_us = r->now_us;
    mr_core_step(r->core, &event, &sink);
}

static void end_push(struct replay *r, struct end end)
{
    uint32_t at = r->end_count++;
    for (; at > 0 && r->ends[(at - 1) / 2].at_us > end.at_us; at = (at - 1) / 2)
        r->ends[at] = r->ends[(at - 1) / 2];
    r->ends[at] = end;
}

static struct end end_pop(struct replay *r)
{
    struct end first = r->ends[0], last = r->ends[--r->end_count];
    uint32_t at = 0;
    for (uint32_t child = 1; child < r->end_count; child = 2 * at + 1) {
        if (child + 1 < r->end_count && r->ends[child + 1].at_us < r->ends[child].at_us) child++;
        if (r->ends[child].at_us >= last.at_us) break;
        r->ends[at] = r->ends[child];
        at = child;
    }
    r->ends[at] = last;
    return first;
}

/* What a step started begins to run; a gang's run is one end. */
static void starts_take(struct replay *r)
{
    while (r->leases > 0) {
        uint64_t lease = r->lease_of[--r->leases];
        struct mr_lease_info info;
        if (mr_core_lease(r->core, (struct mr_lease_id){lease}, &info) != 0) continue;
        step(r, (struct mr_event){.kind = MR_EVENT_LEASE_STARTED, .u.lease = {.lease = {lease}}});
        if (info.start.rank_first > 0) continue;
        end_push(r, (struct end){r->now_us + r->jobs[info.workload.v - 1].run_us, info.workload.v});
    }
}

static void run_ends(struct replay *r, uint64_t workload)
{
    struct mr_workload_info info;
    struct mr_lease_info lease;
    uint32_t cursor = 0;
    while (mr_core_lease_of(r->core, (struct mr_workload_id){workload}, &cursor, &lease) == 0) {
        step(r, (struct mr_event){.kind = MR_EVENT_LEASE_EXITED,
                                  .u.lease = {.lease = lease.id, .exit = MR_EXIT_CODE}});
        cursor = 0;
        starts_take(r);
    }
    if (mr_core_workload(r->core, (struct mr_workload_id){workload}, &info) == 0)
        mr_forecast_ended(&r->learned, &info);
}

static void job_submit(struct replay *r)
{
    const struct job *job = &r->jobs[r->next++];
    struct mr_event event = {
        .kind = MR_EVENT_SUBMIT,
        .u.submit = {.tag = r->next,
                     .tenant = {1},
                     .kind = MR_KIND_JOB,
                     .shape = {.cpu_milli = 1000, .mem_mib = 1024, .accel_milli = 1000},
                     .tasks_min = job->gpus,
                     .tasks_max = job->gpus,
                     .priority = MR_PRIORITY_DEFAULT,
                     .estimate_us = job->estimate_us}};
    step(r, event);
    mr_forecast_arrived(&r->learned, r->now_us, &event.u.submit);
    starts_take(r);
}

/* What was forecast and has come by now. */
static void outcomes_learn(struct replay *r)
{
    for (uint32_t i = 0; i < r->asked_count; i++) {
        struct asked *q = &r->asked[i];
        uint64_t started_us = r->jobs[q->workload - 1].started_us;
        if (q->scored || started_us == 0) continue;
        q->scored = true;
        mr_forecast_scored(&r->learned, q->now_us, &q->raw, started_us);
    }
}

static void ask(struct replay *r)
{
    struct mr_forecast_question question = {
        .options = {.seed = r->next, .now_us = r->now_us, .steps_max = 1000000},
        .workload = {r->next}};
    struct mr_forecast_answer answer;
    outcomes_learn(r);
    if (mr_forecast_when(r->core, &r->learned, &question, r->scratch, r->scratch_bytes, &answer) !=
        0)
        return;
    r->asked[r->asked_count++] = (struct asked){
        .now_us = r->now_us, .workload = r->next, .band = answer.start, .raw = answer.raw};
}

/* One of so many submissions that wait is asked about. */
static void play(struct replay *r, uint32_t one_in)
{
    uint32_t waiting = 0;
    while (r->next < r->job_count || r->end_count > 0) {
        uint64_t submit_us = r->next < r->job_count ? r->jobs[r->next].submit_us : UINT64_MAX;
        uint64_t end_us = r->end_count > 0 ? r->ends[0].at_us : UINT64_MAX;
        uint64_t wake_us = MR_MAX(mr_core_wake_us(r->core), r->now_us);
        r->now_us = MR_MAX(r->now_us, MR_MIN(MR_MIN(submit_us, end_us), wake_us));
        if (end_us <= r->now_us) {
            run_ends(r, end_pop(r).workload);
        } else if (submit_us <= r->now_us) {
            job_submit(r);
            bool waits = r->jobs[r->next - 1].started_us == 0;
            if (r->next < r->job_count / 4 || !waits || r->asked_count == ASKED_MAX) continue;
            if (waiting++ % one_in == 0) ask(r);
        } else {
            step(r, (struct mr_event){.kind = MR_EVENT_TICK});
            starts_take(r);
        }
    }
}

/* --- the bars --------------------------------------------------------------------------------- */

struct sums {
    uint32_t asked, inside;
};

static void result_bar(struct bench_report *report, const struct replay *r, const char *trace,
                       uint32_t gpus, struct sums *sums)
{
    static double widths[ASKED_MAX], errors[ASKED_MAX], waits[ASKED_MAX];
    uint32_t inside = 0, finite = 0;
    for (uint32_t i = 0; i < r->asked_count; i++) {
        const struct asked *q = &r->asked[i];
        uint64_t start_us = r->jobs[q->workload - 1].started_us;
        double wait = (double)(start_us - q->now_us);
        inside += start_us >= q->band.low_us && start_us <= q->band.high_us;
        if (q->band.high_us == MR_FORECAST_NEVER) continue;
        waits[finite] = wait / 60e6;
        widths[finite] = (double)(q->band.high_us - q->band.low_us) / 60e6;
        double middle = (double)q->band.middle_us - (double)start_us;
        errors[finite++] = (middle < 0 ? -middle : middle) / 60e6;
    }
    sums->asked += r->asked_count;
    sums->inside += inside;
    struct bench_bar bar = {.unit = "of the starts", .peer = -1, .goal = 0.9};
    (void)snprintf(bar.name, sizeof bar.name, "%s on %u GPUs, inside the 90 %% band", trace, gpus);
    bar.ours = r->asked_count > 0 ? (double)inside / r->asked_count : -1;
    (void)snprintf(bar.note, sizeof bar.note,
                   "%u asked, %u without an upper end; medians: wait %.0f min, band %.0f min wide, "
                   "off by %.0f min",
                   r->asked_count, r->asked_count - finite, bench_median(waits, finite),
                   bench_median(widths, finite), bench_median(errors, finite));
    bench_add(report, &bar);
}

static int core_make(struct replay *r, uint32_t gpus)
{
    const struct mr_core_limits limits = {.nodes = 256,
                                          .domains = 256,
                                          .blocks = 4,
                                          .cells = 2,
                                          .tenants = 4,
                                          .workloads = JOBS_MAX + 16,
                                          .leases = LEASES_MAX,
                                          .shapes = 4096};
    r->block_bytes = mr_core_bytes(&limits);
    r->scratch_bytes = mr_forecast_bytes(&limits);
    r->block = aligned_alloc(64, (r->block_bytes + 63) & ~(size_t)63);
    r->scratch = aligned_alloc(64, (r->scratch_bytes + 63) & ~(size_t)63);
    if (r->block == NULL || r->scratch == NULL) return MR_ENO_MEMORY;
    int error = mr_core_init(r->block, r->block_bytes, &limits, &r->core);
    if (error != 0) return error;
    r->now_us = EPOCH_US;
    step(r, (struct mr_event){.kind = MR_EVENT_TENANT_SET,
                              .u.tenant = {.id = {1},
                                           .weight = 1,
                                           .quota_cpu_milli = UINT64_MAX,
                                           .quota_mem_mib = UINT64_MAX,
                                           .quota_accel_milli = UINT64_MAX,
                                           .running_max = UINT32_MAX}});
    for (uint32_t i = 1; i <= gpus / NODE_GPUS; i++) {
        step(r, (struct mr_event){.kind = MR_EVENT_NODE_SET,
                                  .u.node = {.id = {i},
                                             .cpu_milli = 64000,
                                             .mem_mib = 262144,
                                             .accel_type = GPU_TYPE,
                                             .accel_count = NODE_GPUS}});
    }
    return 0;
}

static int trace_replay(struct bench_report *report, const char *path, const char *trace,
                        uint32_t gpus, struct sums *sums)
{
    struct replay *r = calloc(1, sizeof *r);
    if (r == NULL) return MR_ENO_MEMORY;
    r->jobs = calloc(JOBS_MAX, sizeof *r->jobs);
    r->ends = calloc(JOBS_MAX, sizeof *r->ends);
    int error = r->jobs != NULL && r->ends != NULL ? core_make(r, gpus) : MR_ENO_MEMORY;
    if (error == 0) error = trace_read(r, path, gpus);
    if (error == 0) {
        play(r, report->quick ? 40 : 5);
        result_bar(report, r, trace, gpus, sums);
    }
    free(r->jobs);
    free(r->ends);
    free(r->block);
    free(r->scratch);
    free(r);
    return error;
}

int bench_sched_when(struct bench_report *report)
{
    const char *folder = getenv("MILLRACE_ELASTICFLOW");
    struct sums sums = {0, 0};
    struct bench_bar bar = {.name = "starts inside the 90 % band, all traces",
                            .unit = "of the starts",
                            .peer = -1,
                            .goal = 0.9};
    int error = 0;
    for (size_t i = 0; error == 0 && i < MR_COUNT_OF(traces); i++) {
        char path[4096];
        (void)snprintf(path, sizeof path, "%s/%s.csv",
                       folder != NULL ? folder : "../shared/data/elasticflow", traces[i].trace);
        error = trace_replay(report, path, traces[i].trace, traces[i].gpus, &sums);
    }
    if (error == MR_ENOT_FOUND) {
        bar.ours = -1;
        (void)snprintf(bar.note, sizeof bar.note,
                       "the traces are not there: name their folder in MILLRACE_ELASTICFLOW");
        error = 0;
    } else {
        bar.ours = sums.asked > 0 ? (double)sums.inside / sums.asked : -1;
        (void)snprintf(bar.note, sizeof bar.note,
                       "%u asked; estimates are wrong by a factor of 0.5 to 4", sums.asked);
    }
    if (error == 0) bench_add(report, &bar);
    return error;
}
