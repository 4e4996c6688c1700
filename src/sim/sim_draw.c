/* SPDX-License-Identifier: Apache-2.0 */
/* Draws workloads that have the published aggregates of real clusters.
 *
 * A drawn job ends in one of up to three ways, each with its share of the jobs and a log-normal
 * running time (clipped at 30 days) whose median and spread were fitted so that means, medians and
 * shares of GPU time are as published. Sizes are powers of two with geometric weights that give the
 * published mean. Arrivals are Poisson, at a rate that asks for the given share of the fleet.
 * What was published for which cluster, and what is our assumption: docs/guides/simulate.md.
 *
 * Owns:       nothing.
 * Invariants: (1) equal seeds give equal workloads on any machine: no libm.
 * Never:      I/O, clock.
 * Cost:       O(jobs).
 * Idea:       docs/guides/simulate.md; Hu et al., NSDI 2024 (Acme); Hu et al., SC 2021 (Helios);
 * Jeon et al., ATC 2019 (Philly); Weng et al., NSDI 2022 (PAI) Tests:
 * tests/unit/sim/test_sim_draw.c
 */
#include "sim_play_int.h"

#define RUN_S_MAX 2592000.0
#define DOUBLINGS 11u
#define TENANTS   50u

struct way { /* of ending */
    double share, median_s, sigma;
    bool badly;
};
struct model {
    struct mr_str name;
    struct way ways[3];
    double ratio;             /* weight of twice the GPUs to weight of once */
    uint32_t doublings;       /* largest size: 2 to the power of it */
    uint32_t shared_permille; /* of jobs that ask for a quarter or half of a device */
};
static const struct model models[] = {
    {{"acme", 4},
     {{.497, 105, 1.8699, false}, {.429, 105, 1.6487, true}, {.074, 1800, 1.9875, true}},
     .50394,
     10,
     0},
    {{"kalos", 5},
     {{.603, 125, 2.3952, false}, {.397, 115, 1.3471, true}, {0, 1, 0, false}},
     .68517,
     10,
     0},
    {{"philly", 6}, {{1, 780, 2.8764, false}, {0, 1, 0, false}, {0, 1, 0, false}}, .31406, 7, 0},
    {{"helios", 6}, {{1, 206, 2.6884, false}, {0, 1, 0, false}, {0, 1, 0, false}}, .44791, 10, 0},
    {{"pai", 3}, {{1, 122, 2.2135, false}, {0, 1, 0, false}, {0, 1, 0, false}}, .44791, 10, 550},
};

/* --- chance -------------------------------------------------------------------------------- */

static double uniform(struct mr_prng *prng)
{
    return (double)((mr_prng_next(prng) >> 11) + 1) / 9007199254740992.0; /* 2^53 */
}

/* e^x by halving x and squaring back: sums and products only. */
static double exponential(double x)
{
    double small = x / 1024, term = 1, sum = 1;
    for (int i = 1; i < 20; i++) {
        term *= small / i;
        sum += term;
    }
    for (int i = 0; i < 10; i++)
        sum *= sum;
    return sum;
}

static double root(double x)
{
    double y = x > 1 ? x : 1;
    for (int i = 0; i < 60; i++)
        y = (y + x / y) / 2;
    return y;
}

/* Marsaglia's polar method: one of its two values. */
static double normal(struct mr_prng *prng)
{
    for (;;) {
        double u = 2 * uniform(prng) - 1, v = 2 * uniform(prng) - 1, s = u * u + v * v;
        if (s >= 1 || s < 1e-12) continue;
        return u * root(2 * sim_minus_ln(s) / s);
    }
}

/* --- a job --------------------------------------------------------------------------------- */

struct drawer {
    const struct model *model;
    struct mr_prng prng;
    double weights[DOUBLINGS], weight_sum, mean_gpus;
    uint32_t node_devices, cpu_milli, mem_mib; /* of a node; the rest for each device */
};

static double run_draw(struct drawer *d, bool *ret_badly)
{
    double pick = uniform(&d->prng);
    const struct way *way = &d->model->ways[0];
    for (uint32_t i = 0; i < 3 && d->model->ways[i].share > 0; i++) {
        way = &d->model->ways[i];
        if (pick <= way->share) break;
        pick -= way->share;
    }
    *ret_badly = way->badly;
    double seconds = way->median_s * exponential(way->sigma * normal(&d->prng));
    return MR_MAX(1.0, MR_MIN(seconds, RUN_S_MAX));
}

static uint32_t gpus_draw(struct drawer *d)
{
    double pick = uniform(&d->prng) * d->weight_sum;
    for (uint32_t i = 0; i <= d->model->doublings; i++) {
        if (pick <= d->weights[i]) return 1u << i;
        pick -= d->weights[i];
    }
    return 1u << d->model->doublings;
}

static void job_draw(struct drawer *d, struct sim_job *job)
{
    bool badly;
    double seconds = run_draw(d, &badly);
    uint32_t gpus = gpus_draw(d);
    bool shared = mr_prng_below(&d->prng, 1000) < d->model->shared_permille;
    uint32_t each = MR_MIN(gpus, d->node_devices);
    job->run_us = (uint64_t)(seconds * 1e6);
    /* People ask for one to four times as long as it takes. */
    job->limit_us = (uint64_t)(seconds * (1 + 3 * uniform(&d->prng)) * 1e6);
    job->ended_badly = badly;
    job->tenant = 1 + (uint32_t)mr_prng_below(&d->prng, TENANTS);
    job->tasks_min = job->tasks_max = (gpus + each - 1) / each;
    job->shape.accel_milli = each * 1000;
    if (shared) {
        job->tasks_min = job->tasks_max = 1;
        job->shape.accel_milli = mr_prng_chance(&d->prng, 500) ? 250 : 500;
        each = 1;
    }
    job->shape.cpu_milli = MR_MAX(d->cpu_milli * each, 1u);
    job->shape.mem_mib = d->mem_mib * each;
}

/* The line with the most devices says what a node is. */
static bool machine_look(struct drawer *d, const struct mr_sim_fleet *fleet, uint64_t *ret_devices)
{
    uint64_t most = 0, devices = 0;
    for (uint32_t i = 0; i < fleet->line_count; i++) {
        const struct sim_fleet_line *line = &fleet->lines[i];
        uint64_t here = (uint64_t)line->nodes * line->type.accel_count;
        devices += here;
        if (here <= most) continue;
        most = here;
        d->node_devices = line->type.accel_count;
        d->cpu_milli = (uint32_t)((uint64_t)line->type.cpus * 800 / line->type.accel_count);
        d->mem_mib = line->type.mem_mib / line->type.accel_count * 4 / 5;
    }
    *ret_devices = devices;
    return devices > 0;
}

/* Seconds of GPU time of one job in the mean, by a thousand trial draws: clipped as the jobs are.
 */
static double work_mean(struct drawer d)
{
    double sum = 0;
    bool badly;
    mr_prng_init(&d.prng, 12345);
    for (uint32_t i = 0; i < 20000; i++)
        sum += run_draw(&d, &badly);
    double gpus = d.mean_gpus;
    double shared = d.model->shared_permille / 1000.0;
    return sum / 20000 * (gpus * (1 - shared) + 0.375 * shared);
}

static const struct model *model_find(struct mr_str name, struct mr_buf *problem)
{
    for (size_t i = 0; i < MR_COUNT_OF(models); i++) {
        if (mr_str_equal(models[i].name, name)) return &models[i];
    }
    mr_buf_printf(problem, "nothing to draw is called '%.*s'; there are:", MR_STR_ARG(name));
    for (size_t i = 0; i < MR_COUNT_OF(models); i++)
        mr_buf_printf(problem, " %.*s", MR_STR_ARG(models[i].name));
    return NULL;
}

int sim_story_draw(const struct mr_sim_replay_options *options, const struct mr_sim_fleet *fleet,
                   struct sim_story *story, struct mr_buf *problem)
{
    struct drawer d = {.model = model_find(options->draw, problem)};
    uint64_t devices;
    uint32_t jobs = options->jobs > 0 ? options->jobs : 10000;
    if (d.model == NULL) return MR_EINVALID;
    if (!machine_look(&d, fleet, &devices)) {
        mr_buf_printf(problem, "the fleet has no accelerator: drawn jobs ask for some");
        return MR_EINVALID;
    }
    double weight = 1;
    for (uint32_t i = 0; i <= d.model->doublings; i++) {
        d.weights[i] = weight;
        d.weight_sum += weight;
        d.mean_gpus += weight * (double)(1u << i);
        weight *= d.model->ratio;
    }
    d.mean_gpus /= d.weight_sum;
    double load = (double)(options->load_per_cent > 0 ? options->load_per_cent : 80) / 100;
    double between_us = work_mean(d) * 1e6 / ((double)devices * load);
    uint64_t at_us = 0;
    mr_prng_init(&d.prng, options->seed);
    for (uint32_t i = 1; i <= TENANTS; i++) {
        char name[8] = {'t', (char)('0' + i / 10), (char)('0' + i % 10)};
        (void)sim_story_tenant(story, mr_str_from(name)); /* its number is what counts */
    }
    for (uint32_t i = 0; i < jobs; i++) {
        struct sim_job *job = sim_story_add(story);
        if (job == NULL) return MR_ENO_MEMORY;
        at_us += sim_draw_exponential(&d.prng, between_us);
        job_draw(&d, job);
        job->submit_us = at_us;
    }
    return 0;
}
