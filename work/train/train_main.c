/* SPDX-License-Identifier: Apache-2.0 */
/* millrace-train: fine-tunes a model as one rank of many, or measures how fast that goes here.
 *
 * Owns:    the process: MPI, signals, exit codes.
 * Thread:  one.
 * Fails:   exit 1 with one line, 2 on wrong usage, 75 when it was asked to stop and may go on
 * later. Ends:    main.
 */
#include "train_run.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <ggml.h>
#include <llama.h>
#include <mpi.h>

static const char usage[] =
    "usage: [mpirun -np N] millrace-train [--spec FILE] [--job-dir DIR] [--run-dir DIR]\n"
    "       [mpirun -np N] millrace-train --bench [--json] [--batch N] [--tokens N] [--seconds N]\n"
    "\n"
    "Fine-tunes a llama-architecture GGUF with LoRA on chats, one {\"messages\":[...]} a line, "
    "one\n"
    "thread for each rank. Without --spec it reads spec.json in $MILLRACE_RUN_DIR.\n"
    "\n"
    "  --spec FILE     JSON: model, data, out, epochs, max_steps, learning_rate, weight_decay,\n"
    "                  warmup_steps, batch, rank, alpha, sequence_tokens, seed,\n"
    "                  checkpoint_every_steps, held_out\n"
    "  --job-dir DIR   checkpoints, loss.jsonl and the adapter; default $MILLRACE_JOB_DIR, else .\n"
    "  --run-dir DIR   progress.json and result.json; default $MILLRACE_RUN_DIR, else the job dir\n"
    "  --product NAME  own-f32, own-bf16, ggml-f32, ggml-bf16, onednn-f32; default: the fastest "
    "here\n"
    "  --quiet         only problems\n"
    "  --bench         whole steps on SmolLM2-135M's shape, random weights, LoRA rank 8\n"
    "  --json          one document on standard output\n"
    "\n"
    "SIGTERM or SIGINT: a checkpoint at the end of the step, then exit 75; start it again and it "
    "goes\n"
    "on. Exit codes: 0 done, 1 failed, 2 wrong usage, 75 stopped.\n";

static volatile sig_atomic_t stop_asked;

static void on_stop(int number)
{
    (void)number; /* either means the same */
    stop_asked = 1;
}

static void on_panic(const char *file, int line, const char *what)
{
    fprintf(stderr, "millrace-train: a mistake of ours at %s:%d: %s\n", file, line, what);
}

static void on_library_log(enum ggml_log_level level, const char *text, void *context)
{
    (void)level; /* what matters of it we say ourselves, with what to do */
    (void)text;
    (void)context;
}

static void stop_catch(void)
{
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    (void)sigemptyset(&action.sa_mask);      /* cannot fail */
    (void)sigaction(SIGTERM, &action, NULL); /* cannot fail with this signal */
    (void)sigaction(SIGINT, &action, NULL);
}

struct options {
    const char *spec, *job_dir, *run_dir, *product;
    bool bench, json, quiet, help;
    uint32_t batch, tokens, seconds;
};

enum {
    OPTION_SPEC = 256,
    OPTION_JOB,
    OPTION_RUN,
    OPTION_PRODUCT,
    OPTION_BENCH,
    OPTION_JSON,
    OPTION_QUIET,
    OPTION_BATCH,
    OPTION_TOKENS,
    OPTION_SECONDS,
    OPTION_HELP
};

static bool number_read(const char *text, uint64_t least, uint64_t most, uint32_t *ret)
{
    uint64_t value;
    if (mr_str_to_u64(mr_str_from(text), &value) != 0 || value < least || value > most)
        return false;
    *ret = (uint32_t)value;
    return true;
}

static bool options_read(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {{"spec", required_argument, NULL, OPTION_SPEC},
                                          {"job-dir", required_argument, NULL, OPTION_JOB},
                                          {"run-dir", required_argument, NULL, OPTION_RUN},
                                          {"product", required_argument, NULL, OPTION_PRODUCT},
                                          {"bench", no_argument, NULL, OPTION_BENCH},
                                          {"json", no_argument, NULL, OPTION_JSON},
                                          {"quiet", no_argument, NULL, OPTION_QUIET},
                                          {"batch", required_argument, NULL, OPTION_BATCH},
                                          {"tokens", required_argument, NULL, OPTION_TOKENS},
                                          {"seconds", required_argument, NULL, OPTION_SECONDS},
                                          {"help", no_argument, NULL, OPTION_HELP},
                                          {NULL, 0, NULL, 0}};
    *options = (struct options){.batch = 1, .tokens = 128, .seconds = 5};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (option) {
        case OPTION_SPEC:
            options->spec = optarg;
            break;
        case OPTION_JOB:
            options->job_dir = optarg;
            break;
        case OPTION_RUN:
            options->run_dir = optarg;
            break;
        case OPTION_PRODUCT:
            options->product = optarg;
            break;
        case OPTION_BENCH:
            options->bench = true;
            break;
        case OPTION_JSON:
            options->json = true;
            break;
        case OPTION_QUIET:
            options->quiet = true;
            break;
        case OPTION_BATCH:
            if (!number_read(optarg, 1, 64, &options->batch)) return false;
            break;
        case OPTION_TOKENS:
            if (!number_read(optarg, 1, 2048, &options->tokens)) return false;
            break;
        case OPTION_SECONDS:
            if (!number_read(optarg, 1, 600, &options->seconds)) return false;
            break;
        case OPTION_HELP:
            options->help = true;
            break;
        default:
            return false;
        }
    }
    return optind == argc;
}

/* The first that is set, for a folder. */
static const char *folder_of(const char *option, const char *variable, const char *fallback)
{
    const char *value = option != NULL ? option : getenv(variable);
    return value != NULL && value[0] != 0 ? value : fallback;
}

static int spec_read(const struct options *options, struct train_run *run,
                     struct train_problem *problem)
{
    char path[TRAIN_PATH_BYTES_MAX + 32];
    struct mr_str text;
    (void)snprintf(path, sizeof path, "%s/spec.json", run->run_dir);
    int error = train_file_read(options->spec != NULL ? options->spec : path, MR_SPEC_BYTES_MAX,
                                &text, problem);
    if (error != 0) return error;
    error = train_spec_parse(text, &run->spec, problem);
    mr_free((void *)(uintptr_t)text.p);
    return error;
}

static void model_default(struct train_spec *spec)
{
    const char *cache = getenv("MILLRACE_CACHE"), *home = getenv("HOME");
    if (spec->model[0] != 0) return;
    (void)snprintf(spec->model, sizeof spec->model, "%s%s/models/SmolLM2-135M-Instruct.Q4_1.gguf",
                   cache != NULL  ? cache
                   : home != NULL ? home
                                  : "",
                   cache != NULL ? "" : "/.cache/millrace");
}

static int fine_tune(const struct options *options, int rank, int ranks,
                     struct train_problem *problem)
{
    struct train_run *run = mr_alloc_zero(sizeof *run);
    if (run == NULL) return train_problem_set(problem, MR_ENO_MEMORY, "out of memory");
    run->rank = rank;
    run->ranks = ranks;
    run->quiet = options->quiet;
    run->product = options->product;
    run->stop = &stop_asked;
    (void)snprintf(run->job_dir, sizeof run->job_dir, "%s",
                   folder_of(options->job_dir, "MILLRACE_JOB_DIR", "."));
    (void)snprintf(run->run_dir, sizeof run->run_dir, "%s",
                   folder_of(options->run_dir, "MILLRACE_RUN_DIR", run->job_dir));
    train_spec_init(&run->spec);
    /* Rank 0 reads for all: others may run where the folder is not. */
    int error = rank == 0 ? spec_read(options, run, problem) : 0;
    error = train_agree(run, error, problem);
    if (error == 0) {
        (void)MPI_Bcast(&run->spec, sizeof run->spec, MPI_BYTE, 0, MPI_COMM_WORLD);
        model_default(&run->spec);
        error = train_run(run, problem);
    }
    mr_free(run);
    return error;
}

/* Ranks that torchrun's way of starting made would each train alone. */
static bool started_apart(int ranks)
{
    const char *rank = getenv("RANK");
    return ranks == 1 && rank != NULL && rank[0] != 0 && strcmp(rank, "0") != 0;
}

int main(int argc, char **argv)
{
    struct options options;
    struct train_problem problem = {{0}};
    int rank = 0, ranks = 1, error = 0;
    mr_panic_hook_set(on_panic);
    if (!options_read(argc, argv, &options) || options.help) {
        fputs(usage, options.help ? stdout : stderr);
        return options.help ? 0 : 2;
    }
    stop_catch();
    /* Ranks share cores: who waits must let others run. Containers forbid one kind of copying. */
    (void)setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    (void)setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
    (void)setenv("OMP_NUM_THREADS", "1", 1); /* oneDNN's */
    if (MPI_Init(&argc, &argv) != MPI_SUCCESS) {
        fputs("millrace-train: MPI does not start here\n", stderr);
        return 1;
    }
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank); /* errors end the program */
    (void)MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    llama_log_set(on_library_log, NULL);
    ggml_log_set(on_library_log, NULL);
    if (started_apart(ranks)) {
        error = train_problem_set(&problem, MR_EINVALID,
                                  "ranks find each other through MPI: start as mpirun -np N");
    } else if (options.bench) {
        struct train_bench bench = {.tokens = options.tokens,
                                    .batch = options.batch,
                                    .seconds = options.seconds,
                                    .rank = rank,
                                    .ranks = ranks,
                                    .json = options.json,
                                    .product = options.product};
        error = train_bench(&bench, &problem);
    } else {
        error = fine_tune(&options, rank, ranks, &problem);
    }
    if (error != 0 && (rank == 0 || ranks == 1) && !(options.quiet && error == MR_ECANCELLED)) {
        fprintf(stderr, "millrace-train: %s\n", problem.text);
    }
    (void)MPI_Finalize(); /* nothing follows that needs it */
    return error == 0 ? 0 : error == MR_ECANCELLED ? TRAIN_EXIT_AGAIN : 1;
}
