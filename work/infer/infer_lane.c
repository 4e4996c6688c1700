/* SPDX-License-Identifier: Apache-2.0 */
/* Wraps one llama_context: which sequence lies under which id, and moving cells about.
 *
 * Owns:       the context.
 * Invariants: (1) by_id[i] is NULL or a sequence whose lane and id say the same; (2) the cells of a
 *             sequence are positions 0 to computed_count - 1, no more; (3) an id without sequence
 *             has no cells.
 * Fails:      restore, in a full lane: the caller makes room, or computes the tokens again.
 * Ends:       infer_lane_close.
 * Idea:       work/infer/README.md, "Two kinds of lane".  Tests:
 * tests/unit/infer/test_infer_worker.c
 */
#include "infer_int.h"

#include <llama.h>

int infer_lane_open(struct infer_lane *lane, const struct infer_model *model,
                    const struct infer_config *config, bool unified, uint32_t ids, uint32_t cells)
{
    *lane = (struct infer_lane){.unified = unified, .ids = ids};
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = unified ? cells : cells * ids;
    params.n_batch = INFER_BATCH_TOKENS + INFER_SLOTS_MAX;
    params.n_ubatch = model->choice.ubatch;
    params.n_seq_max = ids;
    params.n_outputs_max = ids;
    params.n_threads = (int32_t)config->threads;
    params.n_threads_batch = (int32_t)config->threads;
    params.flash_attn_type = model->choice.flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED
                                                           : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.kv_unified = unified;
    params.swa_full = true; /* so that a sequence can be cut anywhere */
    params.no_perf = true;
    infer_log_capture(true);
    lane->ctx = llama_init_from_model(model->model, params);
    infer_log_capture(false);
    if (lane->ctx == NULL) {
        return MR_ENO_MEMORY;
    }
    float scales[INFER_ADAPTERS_MAX];
    struct llama_adapter_lora *adapters[INFER_ADAPTERS_MAX];
    for (size_t i = 0; i < model->adapter_count; i++) {
        scales[i] = 1.0f;
        adapters[i] = model->adapters[i];
    }
    if (model->adapter_count > 0 &&
        llama_set_adapters_lora(lane->ctx, adapters, model->adapter_count, scales) != 0) {
        infer_lane_close(lane);
        return MR_EINVALID;
    }
    lane->cells = llama_n_ctx_seq(lane->ctx);
    return 0;
}

void infer_lane_close(struct infer_lane *lane)
{
    if (lane->ctx != NULL) {
        llama_free(lane->ctx);
    }
    *lane = (struct infer_lane){0};
}

int32_t infer_lane_free_id(const struct infer_lane *lane)
{
    for (uint32_t i = 0; i < lane->ids; i++) {
        if (lane->by_id[i] == NULL) return (int32_t)i;
    }
    return -1;
}

void infer_lane_attach(struct infer_lane *lane, struct infer_seq *seq, int32_t id)
{
    MR_ASSERT(seq->lane == NULL);
    MR_INVARIANT(1, lane->by_id[id] == NULL);
    lane->by_id[id] = seq;
    seq->lane = lane;
    seq->id = id;
    seq->computed_count = 0;
    seq->shared_count = 0;
}

void infer_lane_detach(struct infer_seq *seq)
{
    struct infer_lane *lane = seq->lane;
    if (lane == NULL) {
        return;
    }
    MR_INVARIANT(1, lane->by_id[seq->id] == seq);
    /* A whole sequence can always be removed. */
    (void)llama_memory_seq_rm(llama_get_memory(lane->ctx), seq->id, -1, -1);
    lane->by_id[seq->id] = NULL;
    seq->lane = NULL;
    seq->computed_count = 0;
}

void infer_lane_trim(struct infer_seq *seq, uint32_t count)
{
    if (count >= seq->computed_count) {
        return;
    }
    llama_memory_t memory = llama_get_memory(seq->lane->ctx);
    if (count > 0 && llama_memory_seq_rm(memory, seq->id, (llama_pos)count, -1)) {
        seq->computed_count = count;
        return;
    }
    (void)llama_memory_seq_rm(memory, seq->id, -1, -1); /* never fails for the whole */
    seq->computed_count = 0;
}

void infer_lane_fork(struct infer_seq *donor, struct infer_seq *seq, uint32_t count)
{
    struct infer_lane *lane = seq->lane;
    MR_ASSERT(donor->lane == lane && donor != seq);
    MR_ASSERT(count <= donor->computed_count && seq->computed_count == 0);
    llama_memory_t memory = llama_get_memory(lane->ctx);
    if (lane->unified) {
        llama_memory_seq_cp(memory, donor->id, seq->id, 0, (llama_pos)count);
        seq->computed_count = count;
        seq->shared_count = count;
        return;
    }
    /* Between streams only whole buffers are copied. */
    llama_memory_seq_cp(memory, donor->id, seq->id, -1, -1);
    seq->computed_count = donor->computed_count;
    infer_lane_trim(seq, count);
}

void infer_lane_saved_drop(struct infer_seq *seq)
{
    mr_free(seq->saved);
    seq->saved = NULL;
    seq->saved_bytes = 0;
    seq->saved_count = 0;
}

int infer_lane_save(struct infer_seq *seq)
{
    infer_lane_saved_drop(seq);
    struct llama_context *ctx = seq->lane->ctx;
    size_t bytes = llama_state_seq_get_size(ctx, seq->id);
    seq->saved = mr_alloc(bytes);
    if (seq->saved == NULL) return MR_ENO_MEMORY;
    seq->saved_bytes = llama_state_seq_get_data(ctx, seq->saved, bytes, seq->id);
    if (seq->saved_bytes == 0) {
        infer_lane_saved_drop(seq);
        return MR_EINTERNAL;
    }
    seq->saved_count = seq->computed_count;
    return 0;
}

int infer_lane_restore(struct infer_seq *seq)
{
    MR_ASSERT(seq->saved != NULL && seq->computed_count == 0);
    infer_log_capture(true); /* a full lane is no error: we compute again */
    size_t used = llama_state_seq_set_data(seq->lane->ctx, seq->saved, seq->saved_bytes, seq->id);
    infer_log_capture(false);
    if (used == 0) {
        (void)llama_memory_seq_rm(llama_get_memory(seq->lane->ctx), seq->id, -1, -1);
        return MR_EINTERNAL;
    }
    seq->computed_count = seq->saved_count;
    infer_lane_saved_drop(seq);
    return 0;
}

uint32_t infer_lane_used(const struct infer_lane *lane)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < lane->ids; i++) {
        const struct infer_seq *seq = lane->by_id[i];
        if (seq != NULL) {
            sum += seq->computed_count - MR_MIN(seq->shared_count, seq->computed_count);
        }
    }
    return MR_MIN(sum, lane->cells);
}

struct infer_seq *infer_lane_parked(const struct infer_lane *lane)
{
    struct infer_seq *oldest = NULL;
    for (uint32_t i = 0; i < lane->ids; i++) {
        struct infer_seq *seq = lane->by_id[i];
        if (seq != NULL && seq->request == NULL &&
            (oldest == NULL || seq->touched < oldest->touched)) {
            oldest = seq;
        }
    }
    return oldest;
}

uint32_t infer_lane_running(const struct infer_lane *lane)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < lane->ids; i++) {
        n += lane->by_id[i] != NULL && lane->by_id[i]->request != NULL;
    }
    return n;
}
