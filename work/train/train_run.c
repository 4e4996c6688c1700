/* SPDX-License-Identifier: Apache-2.0 */
/* One run from spec to adapter: read the data, load the model, go on from a checkpoint, train.
 *
 * Owns:       everything of a train_state.
 * Invariants: (1) a step that can fail on one rank only is followed by train_agree, so that no rank
 *             waits for one that is gone; (2) rank 0 alone writes; (3) a run that goes on takes the
 *             matrix product of its checkpoint, so that its numbers are the same.
 * Thread:     one for each rank.
 * Fails:      with one line on rank 0.
 * Ends:       train_run frees all of it.
 * Tests:      tests/unit/train/train_it.py
 */
#include "train_run.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include <mpi.h>

#define RECIPE_VERSION 1u
#define FILE_PART      ((size_t)1024 * 1024)

int train_agree(const struct train_run *run, int error, struct train_problem *problem)
{
    struct {
        int error, rank;
    } worst = {error != 0 ? 0 : 1, run->rank};
    if (run->ranks == 1) return error;
    (void)MPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_2INT, MPI_MINLOC, MPI_COMM_WORLD);
    if (worst.error == 1) return 0;
    (void)MPI_Bcast(problem->text, sizeof problem->text, MPI_CHAR, worst.rank, MPI_COMM_WORLD);
    (void)MPI_Bcast(&error, 1, MPI_INT, worst.rank, MPI_COMM_WORLD);
    return error;
}

/* --- what makes a run what it is ------------------------------------------------------------ */

/* Size, first and last MiB: a GGUF's header names all of its tensors, and its end changes with any
 * of the usual ways to make another one. */
static int model_hash(const char *path, uint64_t *ret, struct train_problem *problem)
{
    FILE *file = fopen(path, "rbe");
    uint8_t *part = mr_alloc(FILE_PART);
    int error = 0;
    uint64_t hash = 0;
    if (file == NULL || part == NULL || fseeko(file, 0, SEEK_END) != 0) {
        error = train_problem_set(problem, MR_EIO, "cannot read %s: %s", path, strerror(errno));
    } else {
        off_t size = ftello(file);
        off_t places[2] = {0, MR_MAX((off_t)0, size - (off_t)FILE_PART)};
        hash = mr_hash_mix((uint64_t)size);
        for (size_t i = 0; i < 2; i++) {
            (void)fseeko(file, places[i], SEEK_SET); /* within the file */
            size_t n = fread(part, 1, FILE_PART, file);
            hash = mr_hash64(part, n, hash);
        }
    }
    if (file != NULL) (void)fclose(file); /* only read from */
    mr_free(part);
    if (error == 0) {
        *ret = hash;
    }
    return error;
}

static int recipe_of(const struct train_state *state, uint64_t *ret)
{
    struct train_spec spec = state->run->spec;
    uint64_t model = 0;
    int error = model_hash(spec.model, &model, state->problem);
    if (error != 0) return error;
    memset(spec.model, 0, sizeof spec.model);
    memset(spec.data, 0, sizeof spec.data);
    memset(spec.out, 0, sizeof spec.out);
    spec.checkpoint_every_steps = 0; /* saving changes nothing */
    uint64_t words[] = {RECIPE_VERSION,
                        model,
                        state->data.hash,
                        state->data.count,
                        state->steps,
                        train_shape_hash(&state->model.shape),
                        mr_hash64(&spec, sizeof spec, RECIPE_VERSION)};
    *ret = mr_hash64(words, sizeof words, 0);
    return 0;
}

/* --- setting up ----------------------------------------------------------------------------- */

static int data_load(struct train_state *state)
{
    struct train_run *run = state->run;
    struct train_spec *spec = &run->spec;
    struct train_problem *problem = state->problem;
    struct train_shape shape;
    if (spec->data[0] == 0) {
        return train_problem_set(
            problem, MR_EINVALID,
            "train: no \"data\"; give a file with one {\"messages\":[…]} a line");
    }
    int error = train_model_look(spec->model, &shape, problem);
    if (error != 0) return error;
    if (spec->sequence_tokens > shape.context) {
        spec->sequence_tokens = (uint32_t)shape.context;
    }
    state->model.shape = shape; /* for the choice of a product, until the model is there */
    error = train_tokenizer_open(spec->model, &state->tokenizer, problem);
    if (error != 0) return error;
    error = train_data_read(spec->data, &state->tokenizer, spec->sequence_tokens, spec->held_out,
                            &state->data, problem);
    train_tokenizer_close(&state->tokenizer);
    if (error != 0) return error;
    struct train_data *data = &state->data;
    if (spec->batch > data->count) {
        spec->batch = (uint32_t)data->count;
    }
    double wanted = ceil(spec->epochs * (double)data->count / spec->batch - 1e-9);
    state->steps = spec->max_steps > 0 ? spec->max_steps : (uint64_t)MR_MAX(wanted, 1.0);
    state->warmup = spec->warmup_steps != UINT32_MAX ? spec->warmup_steps
                                                     : (uint32_t)MR_MIN(state->steps / 10, 20u);
    for (size_t i = 0; i < data->count + data->held_count; i++) {
        if (data->examples[i].tokens > 0 && data->examples[i].tokens - 1u > state->pass_tokens) {
            state->pass_tokens = data->examples[i].tokens - 1u;
        }
    }
    if (train_order_init(&state->order, spec->seed, data->count) != 0) {
        return train_problem_set(problem, MR_ENO_MEMORY, "out of memory for the order of examples");
    }
    return 0;
}

static void measure_say(const struct train_state *state, const char *name)
{
    if (state->run->quiet) return;
    fprintf(stderr, "matrix product: %s", name);
    for (size_t i = 0; i < state->measure.count; i++) {
        fprintf(stderr, "%s %s %.0f", i == 0 ? "; measured, in GFLOP/s:" : ",",
                state->measure.names[i], state->measure.gflops[i]);
    }
    fprintf(stderr, "\n");
}

/* Rank 0 decides: what was asked for, what the checkpoint was made with, the fastest. */
static int product_choose(struct train_state *state, const char *wanted, struct train_product *ret)
{
    char name[32] = "";
    int error = 0;
    if (state->run->rank == 0) {
        size_t shapes[8][2];
        struct train_product product = {.name = ""};
        size_t count = train_shape_products(&state->model.shape, shapes);
        if (wanted == NULL || train_product_open_named(wanted, &product) != 0) {
            if (wanted != NULL && state->run->product != NULL) {
                error = train_problem_set(state->problem, MR_ENOT_FOUND,
                                          "no matrix product '%s' on this machine", wanted);
            } else {
                error = train_product_choose((const size_t(*)[2])shapes, count, &state->measure,
                                             &product);
                if (wanted != NULL) {
                    fprintf(stderr,
                            "this machine has no matrix product '%s': the run goes on, but "
                            "not bit for bit as before\n",
                            wanted);
                }
            }
        }
        if (error == 0) {
            (void)snprintf(name, sizeof name, "%s", product.name);
            measure_say(state, name);
        }
        train_product_done(&product);
    }
    error = train_agree(state->run, error, state->problem);
    if (error != 0) return error;
    (void)MPI_Bcast(name, sizeof name, MPI_CHAR, 0, MPI_COMM_WORLD); /* errors end the program */
    error = train_product_open_named(name, ret);
    if (error != 0) {
        (void)train_problem_set(state->problem, error,
                                "rank %d has no matrix product '%s'; run on like machines",
                                state->run->rank, name);
    }
    return train_agree(state->run, error, state->problem);
}

static int room_get(struct train_state *state)
{
    size_t batch = state->run->spec.batch, tokens = state->pass_tokens;
    state->segments_max = MR_MAX(tokens / 2, (size_t)1);
    state->mine = mr_alloc_zero(batch * sizeof *state->mine);
    state->batch_examples = mr_alloc_zero((batch + 1) * sizeof *state->batch_examples);
    state->ids = mr_alloc_zero(tokens * sizeof *state->ids);
    state->positions = mr_alloc_zero(tokens * sizeof *state->positions);
    state->targets = mr_alloc_zero(tokens * sizeof *state->targets);
    state->starts = mr_alloc_zero((state->segments_max + 1) * sizeof *state->starts);
    if (state->mine == NULL || state->batch_examples == NULL || state->ids == NULL ||
        state->positions == NULL || state->targets == NULL || state->starts == NULL) {
        return MR_ENO_MEMORY;
    }
    return train_pass_new(&state->model, &state->lora, tokens, &state->pass);
}

/* Fills the adapter from the newest checkpoint, if there is one, on every rank alike. */
static int resume(struct train_state *state)
{
    struct train_lora *lora = &state->lora;
    size_t torn = 0;
    int error = recipe_of(state, &state->at.recipe);
    state->at.count = lora->count;
    state->at.weights = lora->weights;
    state->at.m = lora->m;
    state->at.v = lora->v;
    state->at.held_before = NAN;
    if (error == 0 && state->run->rank == 0) {
        error = train_checkpoint_read(state->run->job_dir, &state->at, &torn, state->problem);
        state->resumed = error == 0;
        if (torn > 0) {
            fprintf(stderr, "%zu damaged checkpoint%s in %s passed over\n", torn,
                    torn > 1 ? "s" : "", state->run->job_dir);
        }
        if (error == MR_ENOT_FOUND) {
            error = 0;
        }
    }
    error = train_agree(state->run, error, state->problem);
    if (error != 0 || state->run->ranks == 1) return error;
    struct train_checkpoint at = state->at;
    (void)MPI_Bcast(&at, sizeof at, MPI_BYTE, 0, MPI_COMM_WORLD); /* errors end the program */
    at.weights = lora->weights;
    at.m = lora->m;
    at.v = lora->v;
    if (at.recipe != state->at.recipe) {
        error = train_problem_set(state->problem, MR_EINVALID,
                                  "rank %d sees another model or other data than rank 0",
                                  state->run->rank);
    }
    error = train_agree(state->run, error, state->problem);
    if (error != 0) return error;
    state->at = at;
    (void)MPI_Bcast(lora->weights, (int)lora->count, MPI_FLOAT, 0, MPI_COMM_WORLD);
    (void)MPI_Bcast(lora->m, (int)lora->count, MPI_FLOAT, 0, MPI_COMM_WORLD);
    (void)MPI_Bcast(lora->v, (int)lora->count, MPI_FLOAT, 0, MPI_COMM_WORLD);
    return 0;
}

static void data_say(const struct train_state *state)
{
    const struct train_data *data = &state->data;
    const struct train_spec *spec = &state->run->spec;
    if (state->run->quiet) return;
    fprintf(stderr, "data: %zu examples to train on, %zu held out", data->count, data->held_count);
    if (data->truncated > 0) {
        fprintf(stderr, "; %zu cut to %u tokens (sequence_tokens)", data->truncated,
                spec->sequence_tokens);
    }
    if (data->dropped > 0) {
        fprintf(stderr, "; %zu left out, no assistant token within the cut", data->dropped);
    }
    fprintf(stderr, "\nadapter: rank %u, %zu parameters; %llu steps of %u examples on %d rank%s\n",
            spec->rank, state->lora.count, (unsigned long long)state->steps, spec->batch,
            state->run->ranks, state->run->ranks > 1 ? "s" : "");
    if (state->resumed) {
        fprintf(stderr, "going on from the checkpoint of step %llu\n",
                (unsigned long long)state->at.step);
    }
}

/* The curve of a run that goes on keeps what the checkpoint knows. */
static int curve_open(struct train_state *state)
{
    char path[TRAIN_PATH_BYTES_MAX + 32];
    struct mr_str text = {0}, line;
    struct train_problem ignored; /* a missing curve is as good as an empty one */
    mr_cleanup(mr_buf_done) struct mr_buf kept;
    mr_buf_init(&kept, TRAIN_DATA_BYTES_MAX);
    (void)snprintf(path, sizeof path, "%s/loss.jsonl", state->run->job_dir);
    if (state->at.step > 0 && train_file_read(path, TRAIN_DATA_BYTES_MAX, &text, &ignored) == 0) {
        struct mr_str rest = text;
        for (uint64_t i = 0; i < state->at.step && mr_str_split(&rest, '\n', &line); i++) {
            mr_buf_put_str(&kept, line);
            mr_buf_put_char(&kept, '\n');
        }
    }
    mr_free((void *)(uintptr_t)text.p);
    int error = train_file_show(path, mr_buf_str(&kept), state->problem);
    if (error != 0) return error;
    state->curve = fopen(path, "abe");
    if (state->curve == NULL) {
        return train_problem_set(state->problem, MR_EIO, "cannot write %s: %s", path,
                                 strerror(errno));
    }
    return 0;
}

/* Where the adapter goes must be writable before hours are spent on it. */
static int out_check(struct train_state *state, char *out, size_t size)
{
    struct train_run *run = state->run;
    char folder[TRAIN_PATH_BYTES_MAX];
    if (run->spec.out[0] != 0) {
        (void)snprintf(out, size, "%s", run->spec.out);
    } else {
        (void)snprintf(out, size, "%s/adapter.gguf", run->job_dir);
    }
    if (run->rank != 0) return 0;
    const char *slash = strrchr(out, '/');
    (void)snprintf(folder, sizeof folder, "%.*s",
                   slash == NULL  ? 1
                   : slash == out ? 1
                                  : (int)(slash - out),
                   slash == NULL ? "." : out);
    const char *const folders[] = {folder, run->job_dir};
    for (size_t i = 0; i < MR_COUNT_OF(folders); i++) {
        if (access(folders[i], W_OK | X_OK) != 0) {
            return train_problem_set(state->problem, MR_EIO, "cannot write in %s: %s", folders[i],
                                     strerror(errno));
        }
    }
    return 0;
}

static int set_up(struct train_state *state)
{
    struct train_run *run = state->run;
    struct train_product product = {.name = NULL};
    int error = train_agree(run, data_load(state), state->problem);
    if (error != 0) return error;
    error = train_lora_init(&state->model.shape, run->spec.rank,
                            run->spec.alpha > 0 ? run->spec.alpha : 2.0 * run->spec.rank,
                            run->spec.seed, &state->lora);
    if (error != 0) {
        (void)train_problem_set(state->problem, error, "out of memory for the adapter; lower rank");
    }
    error = train_agree(run, error, state->problem);
    if (error == 0) {
        error = resume(state);
    }
    if (error == 0) {
        const char *wanted = run->product != NULL ? run->product
                             : state->at.step > 0 ? state->at.product
                                                  : NULL;
        error = product_choose(state, wanted, &product);
    }
    if (error != 0) return error;
    (void)snprintf(state->at.product, sizeof state->at.product, "%s", product.name);
    state->model = (struct train_model){0};
    error = train_model_load(run->spec.model, &product, run->spec.sequence_tokens, &state->model,
                             state->problem);
    if (error == 0 && room_get(state) != 0) {
        error = train_problem_set(state->problem, MR_ENO_MEMORY,
                                  "out of memory: lower sequence_tokens or batch");
    }
    train_product_done(&product);
    error = train_agree(run, error, state->problem);
    if (error == 0 && run->rank == 0) {
        data_say(state);
        error = curve_open(state);
    }
    return train_agree(run, error, state->problem);
}

static int finish(struct train_state *state, const char *out)
{
    int error = train_held_out(state, &state->held_now);
    if (error != 0) return error;
    if (state->run->rank == 0) {
        error = train_lora_write(&state->lora, out, state->problem);
        if (error == 0) {
            error = train_result_write(state, state->held_now, out);
        }
        train_progress_write(state, true);
    }
    error = train_agree(state->run, error, state->problem);
    if (error == 0 && state->run->rank == 0 && !state->run->quiet) {
        fprintf(stderr, "adapter: %s; held-out loss %.4f before, %.4f after\n", out,
                state->at.held_before, state->held_now);
    }
    return error;
}

static void state_done(struct train_state *state)
{
    if (state->curve != NULL) (void)fclose(state->curve); /* only looked at by people */
    train_pass_free(state->pass);
    train_lora_done(&state->lora);
    train_model_done(&state->model);
    train_order_done(&state->order);
    train_data_done(&state->data);
    mr_free(state->mine);
    mr_free(state->batch_examples);
    mr_free(state->ids);
    mr_free(state->positions);
    mr_free(state->targets);
    mr_free(state->starts);
    mr_free(state);
}

int train_run(struct train_run *run, struct train_problem *problem)
{
    char out[TRAIN_PATH_BYTES_MAX + 32];
    struct train_state *state = mr_alloc_zero(sizeof *state);
    if (state == NULL) return train_problem_set(problem, MR_ENO_MEMORY, "out of memory");
    state->run = run;
    state->problem = problem;
    state->pass_tokens = TRAIN_PASS_TOKENS;
    state->held_now = NAN;
    int error = train_agree(run, out_check(state, out, sizeof out), problem);
    if (error == 0) {
        error = set_up(state);
    }
    if (error == 0 && state->at.step == 0) {
        error = train_held_out(state, &state->at.held_before);
    }
    if (error == 0) {
        state->saved_step = state->at.step;
        state->held_now = state->at.held_before;
        error = train_steps_run(state);
    }
    if (error == 0) {
        error = finish(state, out);
    }
    state_done(state);
    return error;
}
