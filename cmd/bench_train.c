/* SPDX-License-Identifier: Apache-2.0 */
/* `bench train`: LoRA steps of millrace-train beside PyTorch with peft, and two ranks beside one.
 *
 * Both sides train the shape of SmolLM2-135M with random weights, rank 8 on all seven linear
 * layers, 128 tokens a sequence, one thread, and count a core's CPU time, so that neighbours matter
 * little. Two ranks can only be timed by the clock: the best step of each is taken, since a
 * neighbour only ever slows a step down.
 *
 * Owns:   the child processes, for the length of the call.
 * Thread: one.
 * Fails:  when millrace-train cannot run; without PyTorch the bars have no peer and say so.
 * Ends:   bench_train.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <yyjson.h>

#include "bench.h"
#include "cmd_child.h"

#define OUTPUT_BYTES_MAX (1u << 20)
#define ROUNDS           3u
#define PEER_MISSING     "PyTorch is not there; `tools/setup torch` installs it (3 GB)"

struct bench {
    struct bench_report *report;
    char program[PATH_MAX];
    char script[PATH_MAX];
    char python[PATH_MAX];
    char product[64];
    double core[2][ROUNDS]; /* tokens per CPU-second with batch 1 and 4 */
    double clock[2];        /* best tokens per second with one rank and two; negative: none */
    double eager, compiled; /* the peer's best; negative: none */
    char eager_name[64], compiled_name[64];
};

static double number(yyjson_val *object, const char *key)
{
    yyjson_val *value = yyjson_obj_get(object, key);
    return yyjson_is_num(value) ? yyjson_get_num(value) : -1;
}

/* --- our side ------------------------------------------------------------------------------- */

static int ours_run(struct bench *b, uint32_t ranks, const char *batch, uint32_t round)
{
    mr_cleanup(mr_buf_done) struct mr_buf out;
    const char *seconds = b->report->quick ? "1" : "6";
    const char *const mpi[] = {"mpirun",    "-np",   "2",     "--oversubscribe",
                               "--bind-to", "none",  "--mca", "plm",
                               "isolated",  "--mca", "btl",   "self,vader"};
    const char *const own[] = {b->program,  "--bench", "--json",    "--batch", batch,
                               "--seconds", seconds,   "--product", b->product};
    const char *args[MR_COUNT_OF(mpi) + MR_COUNT_OF(own) + 1] = {0};
    size_t count = 0;
    for (size_t i = 0; ranks == 2 && i < MR_COUNT_OF(mpi); i++)
        args[count++] = mpi[i];
    for (size_t i = 0; i < MR_COUNT_OF(own) - (b->product[0] == 0 ? 2u : 0u); i++)
        args[count++] = own[i];
    mr_buf_init(&out, OUTPUT_BYTES_MAX);
    if (cmd_child_run(args, &out, false) != 0) return MR_EUNAVAILABLE;
    yyjson_doc *doc = yyjson_read((const char *)out.p, out.n, 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    const char *product = yyjson_get_str(yyjson_obj_get(root, "product"));
    if (b->product[0] == 0 && product != NULL) {
        (void)snprintf(b->product, sizeof b->product, "%s", product);
    }
    if (ranks == 1) b->core[batch[0] == '4'][round] = number(root, "tokens_per_core_s");
    double clock = number(root, "tokens_per_s_best");
    if (batch[0] == '4') b->clock[ranks - 1] = MR_MAX(b->clock[ranks - 1], clock);
    int error = root == NULL ? MR_ESYNTAX : 0;
    yyjson_doc_free(doc);
    return error;
}

/* --- the peer ------------------------------------------------------------------------------- */

static void peer_take(struct bench *b, yyjson_val *results)
{
    size_t i = 0, count = 0;
    yyjson_val *item = NULL;
    yyjson_arr_foreach(results, i, count, item)
    {
        const char *name = yyjson_get_str(yyjson_obj_get(item, "name"));
        double rate = number(item, "tokens_per_core_s");
        bool compiled = name != NULL && strncmp(name, "compile", 7) == 0;
        double *best = compiled ? &b->compiled : &b->eager;
        char *best_name = compiled ? b->compiled_name : b->eager_name;
        if (name == NULL || rate <= *best) continue;
        *best = rate;
        (void)snprintf(best_name, sizeof b->eager_name, "PyTorch %s, batch %.0f", name,
                       number(item, "batch"));
    }
}

static void peer_run(struct bench *b)
{
    mr_cleanup(mr_buf_done) struct mr_buf out;
    const char *args[4] = {b->python, b->script, b->report->quick ? "--quick" : NULL, NULL};
    mr_buf_init(&out, OUTPUT_BYTES_MAX);
    if (access(b->python, X_OK) != 0 || access(b->script, R_OK) != 0) return;
    (void)setenv("OMP_NUM_THREADS", "1", 1); /* read when PyTorch is loaded */
    if (cmd_child_run(args, &out, false) != 0) return;
    yyjson_doc *doc = yyjson_read((const char *)out.p, out.n, 0);
    peer_take(b, yyjson_obj_get(yyjson_doc_get_root(doc), "results"));
    yyjson_doc_free(doc);
}

/* --- bars ----------------------------------------------------------------------------------- */

static void bar_core(struct bench *b, const char *name, double peer, const char *peer_name,
                     double goal)
{
    struct bench_bar bar = {
        .ours = -1, .peer = peer, .goal = goal, .goal_is_ratio = true, .unit = "tokens/s"};
    size_t best = b->core[1][ROUNDS / 2] > b->core[0][ROUNDS / 2]; /* each side's better batch */
    double *rates = b->core[best];
    bar.ours = rates[ROUNDS / 2];
    (void)snprintf(bar.name, sizeof bar.name, "%s", name);
    (void)snprintf(bar.peer_name, sizeof bar.peer_name, "%s", peer_name);
    (void)snprintf(bar.note, sizeof bar.note, "%s, batch %d, median of %u runs, %.0f to %.0f%s%s",
                   b->product, best ? 4 : 1, ROUNDS, rates[0], rates[ROUNDS - 1],
                   peer > 0 ? "" : "; ", peer > 0 ? "" : PEER_MISSING);
    bench_add(b->report, &bar);
}

static void bars_add(struct bench *b)
{
    struct bench_bar bar = {.ours = -1, .peer = -1, .goal = 1.9, .unit = "x"};
    for (size_t i = 0; i < 2; i++) {
        (void)bench_median(b->core[i], ROUNDS); /* sorted: bar_core looks at the middle and ends */
    }
    bar_core(b, "LoRA on 135M, T=128, one core: eager", b->eager, b->eager_name, 1.25);
    bar_core(b, "LoRA on 135M, T=128, one core: torch.compile", b->compiled, b->compiled_name, 1.0);
    (void)snprintf(bar.name, sizeof bar.name, "two ranks over one, by the clock");
    if (b->clock[0] > 0 && b->clock[1] > 0) {
        bar.ours = b->clock[1] / b->clock[0];
        (void)snprintf(
            bar.note, sizeof bar.note,
            "batch 4 a rank, best step of %u runs each: %.0f and %.0f tokens/s; wants two "
            "free cores",
            ROUNDS, b->clock[1], b->clock[0]);
    } else {
        (void)snprintf(bar.note, sizeof bar.note, "mpirun does not start two ranks here");
    }
    bench_add(b->report, &bar);
}

static int places_find(struct bench *b)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    const char *cache = getenv("MILLRACE_CACHE"), *home = getenv("HOME");
    if (n <= 0) return MR_EIO;
    self[n] = 0;
    char *slash = strrchr(self, '/');
    if (slash == NULL) return MR_EIO;
    *slash = 0;
    int a = snprintf(b->program, sizeof b->program, "%s/millrace-train", self);
    int c = snprintf(b->script, sizeof b->script, "%s/../tools/peer_torch.py", self);
    int d = snprintf(b->python, sizeof b->python, "%s%s/peer-torch/bin/python",
                     cache != NULL  ? cache
                     : home != NULL ? home
                                    : "",
                     cache != NULL ? "" : "/.cache/millrace");
    if (MR_MAX(a, MR_MAX(c, d)) >= PATH_MAX) return MR_ETOO_LARGE;
    return access(b->program, X_OK) == 0 ? 0 : MR_ENOT_FOUND;
}

int bench_train(struct bench_report *report)
{
    struct bench *b = calloc(1, sizeof *b);
    if (b == NULL) return MR_ENO_MEMORY;
    b->report = report;
    b->eager = b->compiled = b->clock[0] = b->clock[1] = -1;
    if (getuid() == 0) { /* Open MPI asks twice */
        (void)setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);
        (void)setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
    }
    int error = places_find(b);
    for (uint32_t round = 0; error == 0 && round < ROUNDS; round++) {
        error = ours_run(b, 1, "1", round);
        if (error == 0) error = ours_run(b, 1, "4", round);
        if (error == 0) (void)ours_run(b, 2, "4", round); /* a machine may have no mpirun */
    }
    if (error == 0) {
        peer_run(b);
        bars_add(b);
    }
    free(b);
    return error;
}
