/* SPDX-License-Identifier: Apache-2.0 */
/* Runs one round on a lane: builds batches, decodes, samples, makes room when the cache is full.
 *
 * Owns:       the llama_batch of the engine.
 * Invariants: (1) rows of one sequence are consecutive positions; (2) the meter is written before a
 *             token is sent; (3) a full cache stops one sequence, never all.
 * Fails:      a sequence whose rows llama.cpp refuses ends with an error; the others go on.
 * Idea:       work/infer/README.md, "A round".  Tests: tests/unit/infer/test_infer_worker.c
 */
#include "infer_int.h"

#include <stdlib.h>

#include <llama.h>

#define PIECE_BYTES_MAX 512u
#define BRIDGE_MAX      2  /* rows for idle ids that are cheaper than a second micro-batch */
#define LONG_ROUNDS     3u /* a prompt that needs more rounds shares them */
#define BATCH_ROWS      (INFER_BATCH_TOKENS + INFER_SLOTS_MAX)

int infer_step_init(struct infer_engine *engine)
{
    engine->batch = mr_alloc_zero(sizeof(*engine->batch));
    if (engine->batch == NULL) return MR_ENO_MEMORY;
    *engine->batch = llama_batch_init((int32_t)BATCH_ROWS, 0, 1);
    return 0;
}

void infer_step_done(struct infer_engine *engine)
{
    if (engine->batch != NULL) {
        llama_batch_free(*engine->batch);
        mr_free(engine->batch);
        engine->batch = NULL;
    }
}

/* --- after decode: one token more ------------------------------------------------------------- */

static bool token_append(struct infer_seq *seq, int32_t token)
{
    if (seq->token_count == seq->token_capacity) {
        uint32_t capacity = seq->token_capacity + seq->token_capacity / 2 + 64;
        int32_t *grown = mr_realloc(seq->tokens, capacity * sizeof(seq->tokens[0]));
        if (grown == NULL) return false;
        seq->tokens = grown;
        seq->token_capacity = capacity;
    }
    seq->tokens[seq->token_count++] = token;
    return true;
}

static void latency_note(struct infer_engine *engine, struct infer_request *request)
{
    uint64_t now = infer_now_us();
    if (request->first_us == 0) {
        request->first_us = now;
        infer_stat_add(&engine->ttft, now - request->arrived_us);
    } else {
        infer_stat_add(&engine->itl, now - request->last_us);
    }
    request->last_us = now;
}

static void token_sample(struct infer_engine *engine, struct infer_request *request, float *logits)
{
    int32_t token = infer_sampler_next(&request->sampler, logits);
    latency_note(engine, request);
    if (llama_vocab_is_eog(engine->model.vocab, token)) {
        infer_engine_finish(engine, request, MR_FINISH_STOP, 0, MR_STR(""));
        return;
    }
    if (!token_append(request->seq, token)) {
        infer_engine_finish(engine, request, MR_FINISH_ERROR, MR_ENO_MEMORY,
                            MR_STR("the worker is out of memory"));
        return;
    }
    request->usage.completion_tokens++;
    engine->totals.completion_tokens++;
    infer_meter_update(&engine->meter, request->meter_slot, &request->usage);
    char piece[PIECE_BYTES_MAX];
    size_t n = infer_chat_piece(&engine->model, token, piece, sizeof(piece));
    infer_text_push(&request->text, (struct mr_str){piece, n}, false, &engine->out);
    request->held_tokens++;
    if (request->text.stopped) {
        infer_engine_finish(engine, request, MR_FINISH_STOP, 0, MR_STR(""));
        return;
    }
    if (engine->out.n > 0) {
        engine->sink.tokens(engine->sink.context, request, request->held_tokens,
                            mr_buf_str(&engine->out));
        request->credit -= request->held_tokens;
        request->held_tokens = 0;
        mr_buf_reset(&engine->out);
    }
    if (request->usage.completion_tokens >= request->max_tokens ||
        request->seq->token_count >= engine->context_tokens) {
        infer_engine_finish(engine, request, MR_FINISH_LENGTH, 0, MR_STR(""));
    }
}

/* --- batches ---------------------------------------------------------------------------------- */

static void row_put(struct llama_batch *batch, int32_t token, uint32_t position, int32_t id,
                    bool logits)
{
    int32_t i = batch->n_tokens++;
    MR_ASSERT(i < (int32_t)BATCH_ROWS);
    batch->token[i] = token;
    batch->pos[i] = (llama_pos)position;
    batch->n_seq_id[i] = 1;
    batch->seq_id[i][0] = id;
    batch->logits[i] = logits ? 1 : 0;
}

static uint32_t missing(const struct infer_seq *seq)
{
    return seq->token_count - seq->computed_count;
}

/* Rows of every sequence with a `take`, in the order of ids, which is what separate streams need to
 * lie in one micro-batch. Small holes between ids are bridged by rows that are removed again. */
static void batch_build(struct infer_engine *engine, struct infer_lane *lane, bool bridge)
{
    struct llama_batch *batch = engine->batch;
    batch->n_tokens = 0;
    int32_t last = -1;
    for (int32_t id = 0; id < (int32_t)lane->ids; id++) {
        struct infer_seq *seq = lane->by_id[id];
        if (seq == NULL || seq->take == 0) {
            continue;
        }
        for (int32_t hole = last + 1;
             bridge && last >= 0 && id - last - 1 <= BRIDGE_MAX && hole < id; hole++) {
            const struct infer_seq *idle = lane->by_id[hole];
            uint32_t position = idle != NULL ? idle->computed_count : 0;
            if (position < lane->cells) {
                row_put(batch, 0, position, hole, false);
            }
        }
        for (uint32_t i = 0; i < seq->take; i++) {
            uint32_t at = seq->computed_count + i;
            row_put(batch, seq->tokens[at], at, id, at + 1 == seq->token_count);
        }
        last = id;
    }
}

static void bridges_remove(struct infer_engine *engine, struct infer_lane *lane)
{
    llama_memory_t memory = llama_get_memory(lane->ctx);
    const struct llama_batch *batch = engine->batch;
    for (int32_t i = 0; i < batch->n_tokens; i++) {
        int32_t id = batch->seq_id[i][0];
        const struct infer_seq *seq = lane->by_id[id];
        if (seq == NULL || seq->take == 0) {
            /* The last cell of a stream that can be cut; the lane of streams has no other kind. */
            (void)llama_memory_seq_rm(memory, id, batch->pos[i], -1);
        }
    }
}

static void takes_clear(struct infer_lane *lane)
{
    for (uint32_t i = 0; i < lane->ids; i++) {
        if (lane->by_id[i] != NULL) {
            lane->by_id[i]->take = 0;
        }
    }
}

/* Counts what was computed and samples where a sequence is complete. */
static void rows_done(struct infer_engine *engine, struct infer_lane *lane)
{
    int32_t row = 0;
    while (row < engine->batch->n_tokens) {
        struct infer_seq *seq = lane->by_id[engine->batch->seq_id[row][0]];
        if (seq == NULL || seq->take == 0) {
            row++; /* a bridge */
            continue;
        }
        struct infer_request *request = seq->request;
        uint32_t take = seq->take;
        seq->take = 0;
        seq->computed_count += take;
        row += (int32_t)take;
        uint32_t before = request->usage.prompt_tokens;
        uint32_t after = MR_MIN(seq->computed_count, request->prompt_count);
        if (after > before) {
            request->usage.prompt_tokens = after;
            engine->totals.prompt_tokens += after - before;
            infer_meter_update(&engine->meter, request->meter_slot, &request->usage);
        }
        if (seq->computed_count == seq->token_count) {
            float *logits = llama_get_logits_ith(lane->ctx, row - 1);
            token_sample(engine, request, logits);
        }
    }
}

/* Ends those whose rows were in a batch that llama.cpp refused for good. */
static void rows_failed(struct infer_engine *engine, struct infer_lane *lane)
{
    for (uint32_t i = 0; i < lane->ids; i++) {
        struct infer_seq *seq = lane->by_id[i];
        if (seq != NULL && seq->take > 0 && seq->request != NULL) {
            seq->take = 0;
            /* What lies in the cache is not known any more. */
            struct infer_request *request = seq->request;
            infer_lane_trim(seq, 0);
            infer_engine_finish(engine, request, MR_FINISH_ERROR, MR_EINTERNAL,
                                MR_STR("the engine could not compute this request"));
        }
    }
}

/* The cache is full: first what is parked goes, then one sequence gives way. false: only one is
 * left, and it does not fit. */
static bool room_make(struct infer_engine *engine, struct infer_lane *lane)
{
    if (infer_engine_room(engine, lane)) return true;
    struct infer_victim victims[INFER_SLOTS_MAX + 1];
    struct infer_request *list[INFER_SLOTS_MAX + 1];
    size_t count = 0;
    for (uint32_t i = 0; i < lane->ids; i++) {
        struct infer_seq *seq = lane->by_id[i];
        if (seq != NULL && seq->request != NULL) {
            uint32_t own = seq->computed_count - MR_MIN(seq->shared_count, seq->computed_count);
            victims[count] =
                (struct infer_victim){seq->request->priority, own, seq->request->arrived_us};
            list[count++] = seq->request;
        }
    }
    if (count < 2) return false;
    struct infer_request *victim = list[infer_plan_victim(victims, count)];
    victim->seq->take = 0;
    infer_engine_evict(engine, victim);
    return true;
}

/* Decodes the rows of all takes. Never fails for all because of one. */
static void takes_decode(struct infer_engine *engine, struct infer_lane *lane, bool bridge)
{
    for (;;) {
        batch_build(engine, lane, bridge && !lane->unified);
        if (engine->batch->n_tokens == 0) return;
        infer_log_capture(true); /* "no slot" is what we answer here, not an error */
        int32_t rc = llama_decode(lane->ctx, *engine->batch);
        infer_log_capture(false);
        if (rc == 0) {
            bridges_remove(engine, lane);
            rows_done(engine, lane);
            return;
        }
        if (rc != 1 || !room_make(engine, lane)) {
            rows_failed(engine, lane);
            return;
        }
    }
}

/* --- what to take ----------------------------------------------------------------------------- */

static int compare_prefill(const void *a, const void *b)
{
    const struct infer_request *x = (*(struct infer_seq *const *)a)->request;
    const struct infer_request *y = (*(struct infer_seq *const *)b)->request;
    if (x->priority != y->priority) return x->priority < y->priority ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

/* Marks one row for each sequence that waits for its next token; answers how many. A stream that
 * has outgrown its cells leaves for a lane with more. */
static uint32_t decode_takes(struct infer_engine *engine, struct infer_lane *lane)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < lane->ids; i++) {
        struct infer_seq *seq = lane->by_id[i];
        if (seq == NULL || seq->request == NULL || missing(seq) != 1 ||
            !infer_engine_may_decode(engine, seq->request)) {
            continue;
        }
        if (!lane->unified && seq->computed_count + 1 > lane->cells) {
            infer_engine_evict(engine, seq->request);
            continue;
        }
        seq->take = 1;
        rows++;
    }
    return rows;
}

static size_t prefill_list(struct infer_lane *lane, struct infer_seq **list)
{
    size_t count = 0;
    for (uint32_t i = 0; i < lane->ids; i++) {
        struct infer_seq *seq = lane->by_id[i];
        if (seq != NULL && seq->request != NULL && missing(seq) > 1) {
            list[count++] = seq;
        }
    }
    qsort(list, count, sizeof(struct infer_seq *), compare_prefill);
    return count;
}

/* How many of its missing tokens this sequence may compute now. */
static uint32_t prefill_take(struct infer_engine *engine, struct infer_seq *seq, uint32_t chunk)
{
    uint32_t take = MR_MIN(missing(seq), chunk);
    if (take == missing(seq) && !infer_engine_may_decode(engine, seq->request)) {
        take--; /* its last row gives a token, which nobody asked for yet */
    }
    uint32_t room = seq->lane->cells - MR_MIN(seq->computed_count, seq->lane->cells);
    return MR_MIN(take, room);
}

/* The prompts to go on with, and how much of each, in `take`. The first in order has the whole
 * chunk, unless it is so long that others would wait for many rounds: then it leaves half to the
 * shortest. */
static size_t prefill_takes(struct infer_engine *engine, struct infer_lane *lane,
                            struct infer_seq **list, uint32_t *chunk_left)
{
    size_t count = prefill_list(lane, list);
    if (count > 1 && missing(list[0]) >= LONG_ROUNDS * *chunk_left) {
        size_t shortest = 1;
        for (size_t i = 2; i < count; i++) {
            shortest = missing(list[i]) < missing(list[shortest]) ? i : shortest;
        }
        struct infer_seq *seq = list[shortest];
        memmove(&list[1], &list[0], shortest * sizeof(list[0]));
        list[0] = seq;
        seq->take = prefill_take(engine, seq, *chunk_left / 2);
        *chunk_left -= seq->take;
    }
    for (size_t i = 0; i < count && *chunk_left > 0; i++) {
        if (list[i]->take == 0) {
            list[i]->take = prefill_take(engine, list[i], *chunk_left);
            *chunk_left -= list[i]->take;
        }
    }
    return count;
}

static bool streams_step(struct infer_engine *engine, struct infer_lane *lane, uint32_t *chunk_left)
{
    uint64_t start = infer_now_us();
    uint32_t rows = decode_takes(engine, lane);
    if (rows > 0) {
        takes_decode(engine, lane, true);
        engine->decode_us += infer_now_us() - start;
    }
    struct infer_seq *list[INFER_SLOTS_MAX + 1];
    uint32_t takes[INFER_SLOTS_MAX + 1];
    size_t count = prefill_takes(engine, lane, list, chunk_left);
    bool progress = rows > 0;
    for (size_t i = 0; i < count; i++) { /* one at a time: streams of unlike lengths do not mix */
        takes[i] = list[i]->take;
        list[i]->take = 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (takes[i] == 0 || list[i]->lane != lane) {
            continue; /* nothing now, or it gave way to another */
        }
        start = infer_now_us();
        list[i]->take = takes[i];
        takes_decode(engine, lane, false);
        infer_pace_prefill(&engine->pace, infer_now_us() - start, takes[i]);
        progress = true;
    }
    return progress;
}

static bool family_step(struct infer_engine *engine, struct infer_lane *lane, uint32_t *chunk_left)
{
    uint64_t start = infer_now_us();
    uint32_t rows = decode_takes(engine, lane);
    uint32_t prefill = 0;
    struct infer_seq *list[INFER_SLOTS_MAX + 1];
    size_t count = prefill_takes(engine, lane, list, chunk_left);
    for (size_t i = 0; i < count; i++) {
        prefill += list[i]->take;
    }
    if (rows + prefill == 0) return false;
    takes_decode(engine, lane, false);
    uint64_t us = infer_now_us() - start;
    if (prefill == 0) {
        engine->decode_us += us;
    } else {
        uint64_t decode_us = rows > 0 ? (uint64_t)engine->pace.decode_us : 0;
        infer_pace_prefill(&engine->pace, us - MR_MIN(decode_us, us / 2), prefill);
    }
    return true;
}

bool infer_step_lane(struct infer_engine *engine, struct infer_lane *lane, uint32_t *chunk_left)
{
    takes_clear(lane);
    return lane->unified ? family_step(engine, lane, chunk_left)
                         : streams_step(engine, lane, chunk_left);
}
