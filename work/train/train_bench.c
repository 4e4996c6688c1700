/* SPDX-License-Identifier: Apache-2.0 */
/* `millrace-train --bench`: whole training steps on the shape of SmolLM2-135M with random weights.
 *
 * Owns:       model, adapter and pass for the length of the call.
 * Invariants: (1) a step is what training does: forward, backward, all-reduce, AdamW.
 * Thread:     one per rank; all ranks call together.
 * Fails:      MR_ENO_MEMORY.
 * Ends:       train_bench.
 */
#include "train.h"

#include <stdlib.h>
#include <time.h>

#include <mpi.h>

#define STEPS_MIN  5u
#define STEPS_MAX  400u
#define LORA_RANK  8u
#define BENCH_SEED 1u

static const struct train_shape shape_135m = {.embd = 576,
                                              .heads = 9,
                                              .kv_heads = 3,
                                              .head_dims = 64,
                                              .ff = 1536,
                                              .layers = 30,
                                              .vocab = 49152,
                                              .rope_dims = 64,
                                              .context = 2048,
                                              .epsilon = 1e-5f,
                                              .rope_base = 10000.0f,
                                              .rope_scale = 1.0f};

struct bench {
    const struct train_bench *how;
    struct train_model model;
    struct train_lora lora;
    struct train_pass *pass;
    uint32_t *ids, *positions;
    int32_t *targets;
    size_t *starts;
    double cpu[STEPS_MAX], wall[STEPS_MAX]; /* seconds of each step */
    size_t steps;
    double loss_first, loss_last;
};

static double cpu_seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* cannot fail with this clock */
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int double_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void batch_fill(struct bench *bench)
{
    struct mr_prng prng;
    size_t t = bench->how->tokens;
    mr_prng_init(&prng, BENCH_SEED + (uint64_t)bench->how->rank);
    for (size_t e = 0; e < bench->how->batch; e++) {
        uint32_t next = (uint32_t)mr_prng_below(&prng, bench->model.shape.vocab);
        bench->starts[e] = e * t;
        for (size_t i = 0; i < t; i++) {
            bench->ids[e * t + i] = next;
            bench->positions[e * t + i] = (uint32_t)i;
            next = (uint32_t)mr_prng_below(&prng, bench->model.shape.vocab);
            bench->targets[e * t + i] = (int32_t)next;
        }
    }
    bench->starts[bench->how->batch] = bench->how->batch * t;
}

static int step(struct bench *bench, size_t number)
{
    size_t tokens = (size_t)bench->how->batch * bench->how->tokens;
    struct train_batch batch = {tokens,         bench->how->batch, bench->ids,
                                bench->targets, bench->positions,  bench->starts};
    struct train_lora *lora = &bench->lora;
    double loss = 0;
    memset(lora->gradient, 0, lora->count * sizeof(float));
    int error = train_pass_run(bench->pass, &batch,
                               1.0f / (float)(tokens * (size_t)bench->how->ranks), &loss);
    if (error != 0) return error;
    if (bench->how->ranks > 1) {
        (void)MPI_Allreduce(MPI_IN_PLACE, lora->gradient, (int)lora->count, MPI_FLOAT, MPI_SUM,
                            MPI_COMM_WORLD); /* errors end the program */
    }
    struct train_adamw adamw = {.rate = 1e-3f,
                                .beta1 = 0.9f,
                                .beta2 = 0.999f,
                                .epsilon = 1e-8f,
                                .correction1 = 1,
                                .correction2 = 1,
                                .gradient_scale = 1};
    bench->model.product.kernels->adamw(&adamw, lora->count, lora->gradient, lora->m, lora->v,
                                        lora->weights);
    bench->loss_last = loss / (double)tokens;
    if (number == 0) {
        bench->loss_first = bench->loss_last;
    }
    return 0;
}

static int run(struct bench *bench)
{
    uint64_t end_us = train_now_us() + (uint64_t)bench->how->seconds * 1000000u;
    int error = step(bench, 0); /* warms up */
    for (int go = 1; error == 0 && go;) {
        double cpu = cpu_seconds();
        uint64_t wall = train_now_us();
        error = step(bench, 1);
        bench->cpu[bench->steps] = cpu_seconds() - cpu;
        bench->wall[bench->steps] = (double)(train_now_us() - wall) * 1e-6;
        bench->steps++;
        go = bench->steps < STEPS_MAX && (bench->steps < STEPS_MIN || train_now_us() < end_us);
        if (bench->how->ranks > 1) {
            (void)MPI_Allreduce(MPI_IN_PLACE, &go, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
        }
    }
    return error;
}

static void tell(struct bench *bench, const struct train_measure *measure)
{
    double tokens = (double)bench->how->batch * (double)bench->how->tokens;
    double all = 0, cpu = 0;
    for (size_t i = 0; i < bench->steps; i++) {
        all += bench->wall[i];
        cpu += bench->cpu[i];
    }
    qsort(bench->cpu, bench->steps, sizeof(double), double_compare);
    qsort(bench->wall, bench->steps, sizeof(double), double_compare);
    double core = tokens / bench->cpu[bench->steps / 2];
    double wall = tokens * bench->how->ranks / bench->wall[bench->steps / 2];
    if (!bench->how->json) {
        fprintf(
            stderr,
            "bench: %s, %d rank%s, %u x %u tokens: %.1f tokens/s of a core's time, %.1f tokens/s "
            "by the clock (median of %zu steps); loss %.3f to %.3f\n",
            bench->model.product.name, bench->how->ranks, bench->how->ranks > 1 ? "s" : "",
            bench->how->batch, bench->how->tokens, core, wall, bench->steps, bench->loss_first,
            bench->loss_last);
        return;
    }
    printf(
        "{\"product\":\"%s\",\"isa\":\"%s\",\"ranks\":%d,\"batch\":%u,\"tokens\":%u,\"steps\":%zu,"
        "\"tokens_per_core_s\":%.2f,\"tokens_per_core_s_mean\":%.2f,\"tokens_per_core_s_best\":%."
        "2f,"
        "\"tokens_per_s\":%.2f,\"tokens_per_s_mean\":%.2f,\"tokens_per_s_best\":%.2f,"
        "\"loss_first\":%.5f,\"loss_last\":%.5f,\"gflops\":{",
        bench->model.product.name, bench->model.product.kernels->isa, bench->how->ranks,
        bench->how->batch, bench->how->tokens, bench->steps, core,
        tokens * (double)bench->steps / cpu, tokens / bench->cpu[0], wall,
        tokens * bench->how->ranks * (double)bench->steps / all,
        tokens * bench->how->ranks / bench->wall[0], bench->loss_first, bench->loss_last);
    for (size_t i = 0; i < measure->count; i++) {
        printf("%s\"%s\":%.1f", i > 0 ? "," : "", measure->names[i], measure->gflops[i]);
    }
    printf("}}\n");
}

/* Rank 0 measures and decides for all. */
static int choose(const struct train_bench *how, struct train_measure *measure,
                  struct train_product *ret)
{
    char name[32] = "";
    size_t shapes[8][2];
    size_t count = train_shape_products(&shape_135m, shapes);
    if (how->product != NULL) return train_product_open_named(how->product, ret);
    if (how->rank == 0) {
        struct train_product product = {.name = ""};
        if (train_product_choose((const size_t(*)[2])shapes, count, measure, &product) == 0) {
            (void)snprintf(name, sizeof name, "%s", product.name);
            train_product_done(&product);
        }
    }
    (void)MPI_Bcast(name, sizeof name, MPI_CHAR, 0, MPI_COMM_WORLD); /* errors end the program */
    return train_product_open_named(name, ret);
}

static int prepare(struct bench *bench, struct train_product *product)
{
    size_t tokens = (size_t)bench->how->batch * bench->how->tokens;
    bench->ids = mr_alloc_zero(tokens * sizeof *bench->ids);
    bench->positions = mr_alloc_zero(tokens * sizeof *bench->positions);
    bench->targets = mr_alloc_zero(tokens * sizeof *bench->targets);
    bench->starts = mr_alloc_zero((bench->how->batch + 1u) * sizeof *bench->starts);
    if (bench->ids == NULL || bench->positions == NULL || bench->targets == NULL ||
        bench->starts == NULL) {
        return MR_ENO_MEMORY;
    }
    int error = train_model_random(&shape_135m, BENCH_SEED, product, bench->how->tokens, NULL, NULL,
                                   &bench->model);
    if (error == 0) {
        error = train_lora_init(&shape_135m, LORA_RANK, 2.0 * LORA_RANK, BENCH_SEED, &bench->lora);
    }
    if (error == 0) {
        error = train_pass_new(&bench->model, &bench->lora, tokens, &bench->pass);
    }
    if (error == 0) {
        batch_fill(bench);
    }
    return error;
}

int train_bench(const struct train_bench *how, struct train_problem *problem)
{
    struct train_measure measure = {0};
    struct train_product product = {.name = NULL};
    struct bench *bench = mr_alloc_zero(sizeof *bench);
    if (bench == NULL) return train_problem_set(problem, MR_ENO_MEMORY, "out of memory");
    bench->how = how;
    int error = choose(how, &measure, &product);
    if (error != 0) {
        (void)train_problem_set(problem, error, "no matrix product '%s' on this machine",
                                how->product != NULL ? how->product : "");
    }
    if (error == 0) {
        error = prepare(bench, &product);
    }
    if (error == 0) {
        error = run(bench);
    }
    if (error == 0 && how->rank == 0) tell(bench, &measure);
    if (error == MR_ENO_MEMORY) {
        (void)train_problem_set(problem, error,
                                "out of memory: the bench needs about 1.5 GiB a rank");
    }
    train_pass_free(bench->pass);
    train_lora_done(&bench->lora);
    train_model_done(&bench->model);
    train_product_done(&product);
    mr_free(bench->ids);
    mr_free(bench->positions);
    mr_free(bench->targets);
    mr_free(bench->starts);
    mr_free(bench);
    return error;
}
