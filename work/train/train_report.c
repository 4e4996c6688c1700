/* SPDX-License-Identifier: Apache-2.0 */
/* What a run shows while it goes on (progress.json), and what it leaves (result.json).
 *
 * Owns:       nothing between calls.
 * Thread:     rank 0's only.
 * Fails:      progress never fails a run; a result does.
 * Ends:       files are closed in the call that opened them.
 */
#include "train_run.h"

#include <math.h>

#define DOCUMENT_BYTES_MAX 65536u

static void number_put(struct mr_buf *json, const char *field, double value)
{
    if (isfinite(value)) {
        mr_buf_printf(json, ",\"%s\":%.9g", field, value);
    } else {
        mr_buf_printf(json, ",\"%s\":null", field);
    }
}

static void text_put(struct mr_buf *json, const char *field, const char *value)
{
    mr_buf_printf(json, ",\"%s\":", field);
    mr_json_put_string(json, mr_str_from(value));
}

static double rate_of(const struct train_state *state)
{
    double seconds = (double)(train_now_us() - state->started_us) * 1e-6;
    uint64_t tokens = state->at.tokens - state->started_tokens;
    return seconds > 0 ? (double)tokens / seconds : 0;
}

void train_progress_write(struct train_state *state, bool now)
{
    char path[TRAIN_PATH_BYTES_MAX + 32];
    struct train_problem ignored; /* a full disk must not end a run that needs no disk now */
    mr_cleanup(mr_buf_done) struct mr_buf json;
    if (state->run->run_dir[0] == 0 || !now) return;
    mr_buf_init(&json, DOCUMENT_BYTES_MAX);
    uint64_t seen = state->at.step * state->run->spec.batch;
    double rate = rate_of(state);
    double mean = state->at.step > 0 ? (double)state->at.tokens / (double)state->at.step : 0;
    double eta = rate > 0 ? mean * (double)(state->steps - state->at.step) / rate : NAN;
    mr_buf_printf(&json, "{\"step\":%llu,\"steps\":%llu,\"checkpoint_step\":%llu",
                  (unsigned long long)state->at.step, (unsigned long long)state->steps,
                  (unsigned long long)state->saved_step);
    number_put(&json, "epoch", (double)seen / (double)state->data.count);
    number_put(&json, "loss", state->at.step > 0 ? state->at.loss : NAN);
    number_put(&json, "tokens_per_s", rate);
    number_put(&json, "eta_s", eta);
    number_put(&json, "held_out_loss", state->held_now);
    number_put(&json, "held_out_loss_before", state->at.held_before);
    mr_buf_printf(&json, ",\"tokens\":%llu,\"examples\":%zu,\"held_out\":%zu,\"ranks\":%d",
                  (unsigned long long)state->at.tokens, state->data.count, state->data.held_count,
                  state->run->ranks);
    text_put(&json, "product", state->model.product.name);
    mr_buf_put_str(&json, MR_STR("}\n"));
    (void)snprintf(path, sizeof path, "%s/progress.json", state->run->run_dir);
    (void)train_file_show(path, mr_buf_str(&json), &ignored);
}

static void counts_put(struct mr_buf *json, const struct train_state *state)
{
    const struct train_data *data = &state->data;
    mr_buf_printf(
        json,
        ",\"steps\":%llu,\"tokens\":%llu,\"trained_tokens\":%llu,\"examples\":%zu,"
        "\"held_out\":%zu,\"truncated\":%zu,\"dropped\":%zu,\"parameters\":%zu,\"ranks\":%d",
        (unsigned long long)state->at.step, (unsigned long long)state->at.tokens,
        (unsigned long long)state->at.targets, data->count, data->held_count, data->truncated,
        data->dropped, state->lora.count, state->run->ranks);
}

int train_result_write(struct train_state *state, double held_after, const char *out)
{
    char path[TRAIN_PATH_BYTES_MAX + 32];
    mr_cleanup(mr_buf_done) struct mr_buf json;
    double seconds = (double)state->at.elapsed_us * 1e-6;
    mr_buf_init(&json, DOCUMENT_BYTES_MAX);
    mr_buf_put_str(&json, MR_STR("{\"adapter\":"));
    mr_json_put_string(&json, mr_str_from(out));
    text_put(&json, "model", state->run->spec.model);
    number_put(&json, "held_out_loss_before", state->at.held_before);
    number_put(&json, "held_out_loss", held_after);
    number_put(&json, "loss", state->at.loss);
    counts_put(&json, state);
    number_put(&json, "seconds", seconds);
    number_put(&json, "tokens_per_s", seconds > 0 ? (double)state->at.tokens / seconds : NAN);
    text_put(&json, "product", state->model.product.name);
    mr_buf_printf(&json, ",\"resumed\":%s,\"gflops\":{", state->resumed ? "true" : "false");
    for (size_t i = 0; i < state->measure.count; i++) {
        mr_buf_printf(&json, "%s\"%s\":%.1f", i > 0 ? "," : "", state->measure.names[i],
                      state->measure.gflops[i]);
    }
    mr_buf_put_str(&json, MR_STR("}}\n"));
    struct mr_str text = mr_buf_str(&json);
    if (!state->run->quiet) printf("%.*s", MR_STR_ARG(text));
    if (state->run->run_dir[0] == 0) return 0;
    (void)snprintf(path, sizeof path, "%s/result.json", state->run->run_dir);
    return train_file_replace(path, &text, 1, state->problem);
}
