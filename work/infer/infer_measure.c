/* SPDX-License-Identifier: Apache-2.0 */
/* Times prefill and decode of a loaded model, and measures its loss on a text of ours.
 *
 * Owns:       contexts, only inside a call.
 * Thread:     the process's only one; llama.cpp's own compute threads besides.
 * Fails:      MR_ENO_MEMORY, MR_EINTERNAL.
 * Ends:       each call frees what it made.
 * Idea:       CPU time of the process, the best of a few runs: what disturbs only ever adds.
 */
#include "infer_measure.h"

#include <math.h>
#include <time.h>

#include <llama.h>

#define CONTEXT_TOKENS 384u /* that the timed tokens stand behind */
#define PREFILL_TOKENS 256u /* that are timed, after a warm-up of the rest */
#define LOSS_ROWS      128u
#define STREAMS_MAX    16u
#define ROWS_TIMED     24u /* each width is timed until so many rows were decoded, */
#define RUNS_MIN       3u  /* and so often at least */

uint32_t infer_measure_tokens(const struct llama_model *model, int32_t *ret_tokens)
{
    struct mr_str text = infer_sample_text();
    int32_t *all = mr_alloc((text.n + 8) * sizeof(all[0]));
    if (all == NULL) return 0;
    int32_t n = llama_tokenize(llama_model_get_vocab(model), text.p, (int32_t)text.n, all,
                               (int32_t)text.n + 8, true, false);
    uint32_t count = n < 0 ? 0 : MR_MIN((uint32_t)n, INFER_MEASURE_TOKENS_MAX);
    memcpy(ret_tokens, all, count * sizeof(all[0]));
    mr_free(all);
    return count;
}

static uint64_t cpu_us(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts); /* cannot fail for this clock */
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static struct llama_context *context_open(struct llama_model *model,
                                          const struct infer_choice *choice, uint32_t threads,
                                          uint32_t streams, uint32_t cells, uint32_t outputs)
{
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = cells * streams;
    params.n_batch = INFER_BATCH_TOKENS;
    params.n_ubatch = choice->ubatch;
    params.n_seq_max = streams;
    params.n_outputs_max = outputs;
    params.n_threads = (int32_t)threads;
    params.n_threads_batch = (int32_t)threads;
    params.flash_attn_type =
        choice->flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.kv_unified = !choice->streams;
    params.no_perf = true;
    infer_log_capture(true);
    struct llama_context *ctx = llama_init_from_model(model, params);
    infer_log_capture(false);
    return ctx;
}

static void row_put(struct llama_batch *batch, int32_t token, uint32_t position, uint32_t id,
                    bool logits)
{
    int32_t i = batch->n_tokens++;
    batch->token[i] = token;
    batch->pos[i] = (llama_pos)position;
    batch->n_seq_id[i] = 1;
    batch->seq_id[i][0] = (llama_seq_id)id;
    batch->logits[i] = logits ? 1 : 0;
}

static int prefill(struct llama_context *ctx, struct llama_batch *batch, const int32_t *tokens,
                   uint32_t count, uint32_t from, uint32_t n)
{
    batch->n_tokens = 0;
    for (uint32_t i = 0; i < n; i++) {
        row_put(batch, tokens[(from + i) % count], from + i, 0, i + 1 == n);
    }
    return llama_decode(ctx, *batch) == 0 ? 0 : MR_EINTERNAL;
}

/* Every stream gets the cells of stream 0, as cells of its own. */
static int streams_fill(struct llama_context *ctx, uint32_t streams)
{
    size_t bytes = llama_state_seq_get_size(ctx, 0);
    uint8_t *state = mr_alloc(bytes);
    if (state == NULL) return MR_ENO_MEMORY;
    size_t n = llama_state_seq_get_data(ctx, state, bytes, 0);
    int error = n > 0 ? 0 : MR_EINTERNAL;
    for (uint32_t id = 1; id < streams && error == 0; id++) {
        if (llama_state_seq_set_data(ctx, state, n, (llama_seq_id)id) == 0) {
            error = MR_EINTERNAL;
        }
    }
    mr_free(state);
    return error;
}

/* Tokens a second when the first `streams` streams decode one each; best of some. 0: failed. */
static double decode_time(struct llama_context *ctx, struct llama_batch *batch, int32_t token,
                          uint32_t streams)
{
    uint64_t best_us = UINT64_MAX;
    uint32_t runs = MR_MAX(ROWS_TIMED / MR_MAX(streams, 2u), RUNS_MIN);
    for (uint32_t run = 0; run < runs; run++) {
        batch->n_tokens = 0;
        for (uint32_t id = 0; id < streams; id++) {
            row_put(batch, token, CONTEXT_TOKENS, id, true);
        }
        uint64_t start_us = cpu_us();
        if (llama_decode(ctx, *batch) != 0) return 0.0;
        best_us = MR_MIN(best_us, cpu_us() - start_us);
        for (uint32_t id = 0; id < streams; id++) {
            (void)llama_memory_seq_rm(llama_get_memory(ctx), (llama_seq_id)id,
                                      (llama_pos)CONTEXT_TOKENS,
                                      -1); /* its last cell: can be cut */
        }
    }
    return (double)streams * 1e6 / (double)MR_MAX(best_us, 1u);
}

static int points_time(struct llama_context *ctx, struct llama_batch *batch, const int32_t *tokens,
                       uint32_t count, uint32_t streams, struct infer_speed *ret)
{
    uint32_t warm = CONTEXT_TOKENS - PREFILL_TOKENS;
    int error = prefill(ctx, batch, tokens, count, 0, warm);
    uint64_t start_us = cpu_us();
    if (error == 0) {
        error = prefill(ctx, batch, tokens, count, warm, PREFILL_TOKENS);
    }
    uint64_t us = MR_MAX(cpu_us() - start_us, 1u);
    if (error == 0) {
        error = streams_fill(ctx, streams);
    }
    if (error != 0) return error;
    ret->tokens_per_s[INFER_POINT_PREFILL] = PREFILL_TOKENS * 1e6 / (double)us;
    ret->tokens_per_s[INFER_POINT_DECODE_1] = decode_time(ctx, batch, tokens[1], 1);
    ret->tokens_per_s[INFER_POINT_DECODE_4] =
        decode_time(ctx, batch, tokens[1], MR_MIN(4u, streams));
    ret->tokens_per_s[INFER_POINT_DECODE_ALL] = decode_time(ctx, batch, tokens[1], streams);
    return 0;
}

int infer_measure_speed(struct llama_model *model, const struct infer_choice *choice,
                        uint32_t threads, uint32_t slots, struct infer_speed *ret)
{
    int32_t tokens[INFER_MEASURE_TOKENS_MAX];
    uint32_t count = infer_measure_tokens(model, tokens);
    if (count < 2) return MR_EINTERNAL;
    uint32_t streams = MR_MIN(slots, STREAMS_MAX);
    struct llama_context *ctx =
        context_open(model, choice, threads, streams, CONTEXT_TOKENS + 128u, streams);
    if (ctx == NULL) return MR_ENO_MEMORY;
    struct llama_batch batch = llama_batch_init((int32_t)INFER_BATCH_TOKENS, 0, 1);
    struct infer_speed speed = {0};
    int error = points_time(ctx, &batch, tokens, count, streams, &speed);
    llama_batch_free(batch);
    llama_free(ctx);
    if (error == 0) {
        for (size_t i = 0; i < INFER_POINT_COUNT; i++) {
            speed.tokens_per_s[i] *= threads; /* CPU time counts every thread */
        }
        *ret = speed;
    }
    return error;
}

static float loss_of(const float *logits, uint32_t vocab, int32_t token)
{
    float best = logits[0];
    for (uint32_t i = 1; i < vocab; i++) {
        best = logits[i] > best ? logits[i] : best;
    }
    double sum = 0.0;
    for (uint32_t i = 0; i < vocab; i++) {
        sum += (double)expf(logits[i] - best);
    }
    return (float)(log(sum) - (double)(logits[token] - best));
}

int infer_measure_loss(struct llama_model *model, uint32_t threads, struct infer_loss *ret)
{
    int32_t tokens[INFER_MEASURE_TOKENS_MAX];
    uint32_t count = infer_measure_tokens(model, tokens);
    if (count < 2) return MR_EINTERNAL;
    struct infer_choice plain = {.ubatch = LOSS_ROWS, .streams = true};
    struct llama_context *ctx =
        context_open(model, &plain, threads, 1, INFER_MEASURE_TOKENS_MAX, LOSS_ROWS);
    if (ctx == NULL) return MR_ENO_MEMORY;
    struct llama_batch batch = llama_batch_init((int32_t)LOSS_ROWS, 0, 1);
    uint32_t vocab = (uint32_t)llama_vocab_n_tokens(llama_model_get_vocab(model));
    ret->count = 0;
    int error = 0;
    for (uint32_t at = 0; at < count && error == 0; at += LOSS_ROWS) {
        uint32_t n = MR_MIN(LOSS_ROWS, count - at);
        batch.n_tokens = 0;
        for (uint32_t i = 0; i < n; i++) {
            row_put(&batch, tokens[at + i], at + i, 0, true);
        }
        error = llama_decode(ctx, batch) == 0 ? 0 : MR_EINTERNAL;
        for (uint32_t i = 0; i < n && at + i + 1 < count && error == 0; i++) {
            const float *logits = llama_get_logits_ith(ctx, (int32_t)i);
            ret->nats[ret->count++] = loss_of(logits, vocab, tokens[at + i + 1]);
        }
    }
    llama_batch_free(batch);
    llama_free(ctx);
    return error;
}
