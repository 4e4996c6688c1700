/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of training: plan a batch, go forward and back, join the ranks, move the weights.
 *
 * Owns:       nothing; the state is the run's.
 * Invariants: (1) the examples of step n depend on the seed and n only; (2) after a step all ranks
 *             hold the same weights, bit for bit: one rank sums, the others receive; (3) all ranks
 *             stop at the same step.
 * Thread:     one for each rank.
 * Fails:      any rank's failure ends the step on all of them alike.
 * Ends:       train_steps_run.
 * Tests:      tests/unit/train/train_it.py
 */
#include "train_run.h"

#include <math.h>
#include <stdlib.h>

#include <mpi.h>

#define CHECKPOINT_US 60000000u
#define SHOW_US       1000000u
#define CLIP_NORM     1.0
#define RATE_LAST     0.1
#define HELD_OUT_MAX  512u

double train_rate(double peak, uint64_t step, uint64_t steps, uint64_t warmup)
{
    if (step < warmup) return peak * (double)(step + 1) / (double)(warmup + 1);
    if (steps <= warmup + 1) return peak;
    double part = (double)(step - warmup) / (double)(steps - warmup);
    return peak *
           (RATE_LAST + (1.0 - RATE_LAST) * 0.5 * (1.0 + cos(part * 3.14159265358979323846)));
}

/* --- sharing a batch ------------------------------------------------------------------------ */

/* Longest first to the rank with the least, so that ranks end together. `examples` is sorted. */
static void share(struct train_state *state, const uint32_t *examples, size_t count)
{
    int ranks = state->run->ranks;
    uint64_t load[64] = {0};
    size_t wide = MR_MIN((size_t)ranks, MR_COUNT_OF(load));
    state->mine_count = 0;
    for (size_t i = 0; i < count; i++) {
        size_t least = 0;
        for (size_t r = 1; r < wide; r++) {
            if (load[r] < load[least]) {
                least = r;
            }
        }
        /* With more ranks than we weigh, they take turns. */
        if ((size_t)ranks > wide) {
            least = i % (size_t)ranks;
        } else {
            load[least] += state->data.examples[examples[i]].tokens;
        }
        if (least == (size_t)state->run->rank) {
            state->mine[state->mine_count++] = examples[i];
        }
    }
}

/* Longest first, then in the order of the stream: an insertion that keeps equal ones in place. */
static void insert_by_length(const struct train_data *data, uint32_t *list, size_t count,
                             uint32_t example)
{
    size_t at = count;
    while (at > 0 && data->examples[list[at - 1]].tokens < data->examples[example].tokens) {
        list[at] = list[at - 1];
        at--;
    }
    list[at] = example;
}

uint64_t train_batch_plan(struct train_state *state, uint64_t step, uint64_t *ret_tokens)
{
    uint32_t batch = state->run->spec.batch;
    uint64_t targets = 0, tokens = 0;
    for (uint32_t i = 0; i < batch; i++) {
        uint32_t example = (uint32_t)train_order_at(&state->order, step * batch + i);
        insert_by_length(&state->data, state->batch_examples, i, example);
        targets += state->data.examples[example].targets;
        tokens += state->data.examples[example].tokens - 1u;
    }
    share(state, state->batch_examples, batch);
    *ret_tokens = tokens;
    return targets;
}

/* --- one rank's passes ---------------------------------------------------------------------- */

static size_t example_put(struct train_state *state, const struct train_example *example, size_t at)
{
    const struct train_data *data = &state->data;
    size_t n = example->tokens - 1u; /* the last token is only a target */
    for (size_t i = 0; i < n; i++) {
        size_t from = example->at + i;
        state->ids[at + i] = data->ids[from];
        state->positions[at + i] = (uint32_t)i;
        state->targets[at + i] = data->wanted[from + 1] != 0 ? (int32_t)data->ids[from + 1] : -1;
    }
    return n;
}

/* Puts as many of the examples together as fit into a pass; returns how many it took. */
static size_t pass_fill(struct train_state *state, const uint32_t *examples, size_t count,
                        struct train_batch *batch)
{
    size_t taken = 0, tokens = 0;
    while (taken < count && taken < state->segments_max) {
        const struct train_example *example = &state->data.examples[examples[taken]];
        if (tokens + example->tokens - 1u > state->pass_tokens) break;
        state->starts[taken++] = tokens;
        tokens += example_put(state, example, tokens);
    }
    MR_ASSERT(taken > 0);
    state->starts[taken] = tokens;
    *batch = (struct train_batch){tokens,           taken,        state->ids, state->targets,
                                  state->positions, state->starts};
    return taken;
}

static int examples_run(struct train_state *state, const uint32_t *examples, size_t count,
                        float scale, double *loss)
{
    struct train_batch batch;
    int error = 0;
    for (size_t i = 0; error == 0 && i < count;) {
        i += pass_fill(state, examples + i, count - i, &batch);
        error = train_pass_run(state->pass, &batch, scale, loss);
    }
    if (error != 0) {
        (void)train_problem_set(state->problem, error,
                                "out of memory in a step; lower "
                                "sequence_tokens");
    }
    return error;
}

int train_held_out(struct train_state *state, double *ret)
{
    struct train_data *data = &state->data;
    size_t held = MR_MIN(data->held_count, (size_t)HELD_OUT_MAX);
    double sums[2] = {0, 0}; /* loss, targets */
    int error = 0;
    for (size_t i = (size_t)state->run->rank; error == 0 && i < held;
         i += (size_t)state->run->ranks) {
        uint32_t example = (uint32_t)(data->count + i);
        error = examples_run(state, &example, 1, 0, &sums[0]);
        sums[1] += data->examples[example].targets;
    }
    error = train_agree(state->run, error, state->problem);
    if (error != 0) return error;
    (void)MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    *ret = sums[1] > 0 ? sums[0] / sums[1] : NAN;
    return 0;
}

/* --- joining -------------------------------------------------------------------------------- */

/* What ranks tell each other after each step, beside the gradient. */
enum { TELL_LOSS, TELL_FAILED, TELL_STOP, TELL_SAVE, TELL_COUNT };

/* One rank sums and sends the sum: equal everywhere, whatever the library does with an all-reduce.
 */
static void join(struct train_state *state, double tell[TELL_COUNT])
{
    struct train_lora *lora = &state->lora;
    if (state->run->ranks == 1) return;
    (void)MPI_Allreduce(MPI_IN_PLACE, tell, TELL_COUNT, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    bool root = state->run->rank == 0;
    (void)MPI_Reduce(root ? MPI_IN_PLACE : lora->gradient, root ? lora->gradient : NULL,
                     (int)lora->count, MPI_FLOAT, MPI_SUM, 0, MPI_COMM_WORLD);
    (void)MPI_Bcast(lora->gradient, (int)lora->count, MPI_FLOAT, 0, MPI_COMM_WORLD);
}

static double norm_of(const float *x, size_t n)
{
    double total = 0;
    for (size_t i = 0; i < n; i += 4096) {
        float part = 0;
        size_t end = MR_MIN(i + 4096, n);
        for (size_t j = i; j < end; j++) {
            part += x[j] * x[j];
        }
        total += (double)part;
    }
    return sqrt(total);
}

static void weights_move(struct train_state *state)
{
    struct train_lora *lora = &state->lora;
    const struct train_spec *spec = &state->run->spec;
    double norm = norm_of(lora->gradient, lora->count), done = (double)state->at.step + 1.0;
    struct train_adamw adamw = {
        .rate = (float)train_rate(spec->learning_rate, state->at.step, state->steps, state->warmup),
        .beta1 = 0.9f,
        .beta2 = 0.999f,
        .epsilon = 1e-8f,
        .decay = (float)spec->weight_decay,
        .correction1 = (float)(1.0 - pow(0.9, done)),
        .correction2 = (float)(1.0 - pow(0.999, done)),
        .gradient_scale = norm > CLIP_NORM ? (float)(CLIP_NORM / norm) : 1.0f,
    };
    state->model.product.kernels->adamw(&adamw, lora->count, lora->gradient, lora->m, lora->v,
                                        lora->weights);
}

static bool save_due(const struct train_state *state)
{
    uint32_t every = state->run->spec.checkpoint_every_steps;
    if (every > 0) return (state->at.step + 1) % every == 0;
    return train_now_us() - state->saved_us >= CHECKPOINT_US;
}

/* Rank 0 writes; all learn whether it is durable. */
static int save(struct train_state *state)
{
    int error = 0;
    uint64_t now = train_now_us();
    if (state->saved_step == state->at.step) return 0;
    if (state->run->rank == 0) {
        struct train_checkpoint checkpoint = state->at;
        checkpoint.elapsed_us += now - state->started_us;
        error = train_checkpoint_write(state->run->job_dir, &checkpoint, state->problem);
    }
    error = train_agree(state->run, error, state->problem);
    if (error != 0) return error;
    state->saved_step = state->at.step;
    state->saved_us = train_now_us();
    return 0;
}

static void curve_put(struct train_state *state)
{
    if (state->curve == NULL) return;
    fprintf(state->curve, "{\"step\":%llu,\"loss\":%.17g}\n", (unsigned long long)state->at.step,
            state->at.loss);
    (void)fflush(state->curve); /* only looked at by people */
}

static void step_show(struct train_state *state)
{
    uint64_t now = train_now_us();
    bool last = state->at.step == state->steps;
    if (state->run->rank != 0 || (!last && now - state->shown_us < SHOW_US)) return;
    state->shown_us = now;
    train_progress_write(state, true);
    if (state->run->quiet) return;
    double seconds = (double)(now - state->started_us) * 1e-6;
    fprintf(stderr, "step %llu of %llu: loss %.4f, %.0f tokens/s\n",
            (unsigned long long)state->at.step, (unsigned long long)state->steps, state->at.loss,
            (double)(state->at.tokens - state->started_tokens) / seconds);
}

/* One step; *ret_stop is set alike on all ranks. */
static int step(struct train_state *state, bool *ret_stop)
{
    double tell[TELL_COUNT] = {0};
    uint64_t tokens = 0;
    uint64_t targets = train_batch_plan(state, state->at.step, &tokens);
    memset(state->lora.gradient, 0, state->lora.count * sizeof(float));
    int error = examples_run(state, state->mine, state->mine_count, 1.0f / (float)targets,
                             &tell[TELL_LOSS]);
    tell[TELL_FAILED] = error != 0;
    tell[TELL_STOP] = *state->run->stop != 0;
    tell[TELL_SAVE] = state->run->rank == 0 && save_due(state);
    join(state, tell);
    if (tell[TELL_FAILED] > 0) return train_agree(state->run, error, state->problem);
    double loss = tell[TELL_LOSS] / (double)targets;
    if (!isfinite(loss)) {
        return train_problem_set(state->problem, MR_EINVALID,
                                 "the loss is no longer a number at step %llu; lower learning_rate",
                                 (unsigned long long)state->at.step + 1);
    }
    weights_move(state);
    state->at.step++;
    state->at.loss = loss;
    state->at.tokens += tokens;
    state->at.targets += targets;
    curve_put(state);
    *ret_stop = tell[TELL_STOP] > 0;
    bool end = state->at.step == state->steps;
    if (*ret_stop || end || tell[TELL_SAVE] > 0) {
        error = save(state);
    }
    step_show(state);
    return error;
}

int train_steps_run(struct train_state *state)
{
    bool stop = false;
    int error = 0;
    state->started_us = state->saved_us = train_now_us();
    state->started_tokens = state->at.tokens;
    if (state->run->rank == 0) train_progress_write(state, true);
    while (error == 0 && !stop && state->at.step < state->steps) {
        error = step(state, &stop);
    }
    state->at.elapsed_us += train_now_us() - state->started_us;
    if (error == 0 && stop && state->at.step < state->steps) {
        if (state->run->rank == 0) train_progress_write(state, true);
        return train_problem_set(state->problem, MR_ECANCELLED,
                                 "stopped at step %llu of %llu; the checkpoint is in %s",
                                 (unsigned long long)state->at.step,
                                 (unsigned long long)state->steps, state->run->job_dir);
    }
    return error;
}
