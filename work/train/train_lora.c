/* SPDX-License-Identifier: Apache-2.0 */
/* The adapter: where each A and B lies in one vector, its start values, its file.
 *
 * Owns:       the four vectors (weights, gradient, two moments) and the table of groups.
 * Invariants: (1) every parameter belongs to exactly one A or B; (2) A is random and B is zero at
 *             the start, so that the adapted model begins as the base.
 * Fails:      MR_ENO_MEMORY, MR_EIO, MR_ENO_SPACE.
 * Ends:       train_lora_done.
 * Idea:       work/train/README.md   Tests: tests/unit/train/test_train_grad.c
 */
#include "train.h"

#include <math.h>
#include <stdlib.h>

#include <ggml.h>
#include <gguf.h>

#define ALIGN_FLOATS 16u

static size_t take(size_t *count, size_t floats)
{
    size_t at = *count;
    *count += (floats + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
    return at;
}

static void group_set(struct train_group *group, size_t in, const size_t *outs,
                      const char *const *names, size_t parts, size_t rank, size_t *count)
{
    *group = (struct train_group){.in = in, .parts = parts};
    group->a = take(count, parts * rank * in);
    for (size_t i = 0; i < parts; i++) {
        group->part_out[i] = outs[i];
        group->names[i] = names[i];
        group->out += outs[i];
        group->b[i] = take(count, rank * outs[i]);
    }
}

static float *floats_new(size_t count)
{
    void *p = NULL;
    if (posix_memalign(&p, 64, count * sizeof(float)) != 0) return NULL;
    memset(p, 0, count * sizeof(float));
    return p;
}

static double uniform(struct mr_prng *prng)
{
    return (double)(mr_prng_next(prng) >> 11) * 0x1p-53 * 2.0 - 1.0;
}

/* Kaiming's uniform with a = sqrt(5), as everybody starts A: within 1 / sqrt(in). */
static void lora_fill(struct train_lora *lora, uint64_t seed)
{
    struct mr_prng prng;
    mr_prng_init(&prng, mr_hash_mix(seed ^ 0x6c6f7261u));
    for (size_t i = 0; i < lora->layers * TRAIN_GROUPS; i++) {
        const struct train_group *group = &lora->groups[i];
        double bound = 1.0 / sqrt((double)group->in);
        for (size_t j = 0; j < group->parts * lora->rank * group->in; j++) {
            lora->weights[group->a + j] = (float)(uniform(&prng) * bound);
        }
    }
}

int train_lora_init(const struct train_shape *shape, size_t rank, double alpha, uint64_t seed,
                    struct train_lora *ret)
{
    static const char *const qkv[] = {"attn_q", "attn_k", "attn_v"};
    static const char *const output[] = {"attn_output"};
    static const char *const gate_up[] = {"ffn_gate", "ffn_up"};
    static const char *const down[] = {"ffn_down"};
    size_t q = shape->heads * shape->head_dims, kv = shape->kv_heads * shape->head_dims;
    struct train_lora lora = {.rank = rank,
                              .alpha = alpha,
                              .scale = (float)(alpha / (double)rank),
                              .layers = shape->layers};
    lora.groups = mr_alloc_zero(shape->layers * TRAIN_GROUPS * sizeof *lora.groups);
    if (lora.groups == NULL) return MR_ENO_MEMORY;
    for (size_t i = 0; i < shape->layers; i++) {
        struct train_group *groups = &lora.groups[i * TRAIN_GROUPS];
        group_set(&groups[0], shape->embd, (size_t[]){q, kv, kv}, qkv, 3, rank, &lora.count);
        group_set(&groups[1], q, (size_t[]){shape->embd}, output, 1, rank, &lora.count);
        group_set(&groups[2], shape->embd, (size_t[]){shape->ff, shape->ff}, gate_up, 2, rank,
                  &lora.count);
        group_set(&groups[3], shape->ff, (size_t[]){shape->embd}, down, 1, rank, &lora.count);
    }
    lora.weights = floats_new(lora.count);
    lora.gradient = floats_new(lora.count);
    lora.m = floats_new(lora.count);
    lora.v = floats_new(lora.count);
    if (lora.weights == NULL || lora.gradient == NULL || lora.m == NULL || lora.v == NULL) {
        train_lora_done(&lora);
        return MR_ENO_MEMORY;
    }
    lora_fill(&lora, seed);
    *ret = lora;
    return 0;
}

void train_lora_done(struct train_lora *lora)
{
    mr_free(lora->groups);
    free(lora->weights);
    free(lora->gradient);
    free(lora->m);
    free(lora->v);
    *lora = (struct train_lora){0};
}

/* --- the file ------------------------------------------------------------------------------ */

/* Adds one pair. A is stored as we hold it; B is turned, since we keep its transpose. */
static bool pair_add(struct ggml_context *context, struct gguf_context *gguf,
                     const struct train_lora *lora, size_t layer, const struct train_group *group,
                     size_t part)
{
    size_t rank = lora->rank, out = group->part_out[part];
    struct ggml_tensor *a =
        ggml_new_tensor_2d(context, GGML_TYPE_F32, (int64_t)group->in, (int64_t)rank);
    struct ggml_tensor *b = ggml_new_tensor_2d(context, GGML_TYPE_F32, (int64_t)rank, (int64_t)out);
    if (a == NULL || b == NULL) return false;
    (void)ggml_format_name(a, "blk.%zu.%s.weight.lora_a", layer, group->names[part]);
    (void)ggml_format_name(b, "blk.%zu.%s.weight.lora_b", layer, group->names[part]);
    memcpy(a->data, lora->weights + group->a + part * rank * group->in,
           rank * group->in * sizeof(float));
    float *to = b->data;
    for (size_t o = 0; o < out; o++) {
        for (size_t r = 0; r < rank; r++) {
            to[o * rank + r] = lora->weights[group->b[part] + r * out + o];
        }
    }
    gguf_add_tensor(gguf, a);
    gguf_add_tensor(gguf, b);
    return true;
}

static int lora_encode(const struct train_lora *lora, struct gguf_context *gguf,
                       struct ggml_context *context, const char *path,
                       struct train_problem *problem)
{
    gguf_set_val_str(gguf, "general.type", "adapter");
    gguf_set_val_str(gguf, "general.architecture", "llama");
    gguf_set_val_str(gguf, "adapter.type", "lora");
    gguf_set_val_f32(gguf, "adapter.lora.alpha", (float)lora->alpha);
    for (size_t i = 0; i < lora->layers * TRAIN_GROUPS; i++) {
        for (size_t part = 0; part < lora->groups[i].parts; part++) {
            if (!pair_add(context, gguf, lora, i / TRAIN_GROUPS, &lora->groups[i], part)) {
                return train_problem_set(problem, MR_ENO_MEMORY, "out of memory for the adapter");
            }
        }
    }
    size_t head_bytes = gguf_get_meta_size(gguf);
    struct mr_str parts[2] = {{0}, {0}};
    size_t data_bytes = 0;
    for (int64_t i = 0; i < gguf_get_n_tensors(gguf); i++) {
        size_t end = gguf_get_tensor_offset(gguf, i) +
                     ggml_nbytes(ggml_get_tensor(context, gguf_get_tensor_name(gguf, i)));
        data_bytes = MR_MAX(data_bytes, (end + 31) / 32 * 32);
    }
    uint8_t *head = mr_alloc_zero(head_bytes);
    uint8_t *data = mr_alloc_zero(data_bytes);
    int error = MR_ENO_MEMORY;
    if (head != NULL && data != NULL) {
        gguf_get_meta_data(gguf, head);
        for (int64_t i = 0; i < gguf_get_n_tensors(gguf); i++) {
            const struct ggml_tensor *tensor =
                ggml_get_tensor(context, gguf_get_tensor_name(gguf, i));
            memcpy(data + gguf_get_tensor_offset(gguf, i), tensor->data, ggml_nbytes(tensor));
        }
        parts[0] = (struct mr_str){(const char *)head, head_bytes};
        parts[1] = (struct mr_str){(const char *)data, data_bytes};
        error = train_file_replace(path, parts, 2, problem);
    } else {
        (void)train_problem_set(problem, error, "out of memory for the adapter");
    }
    mr_free(head);
    mr_free(data);
    return error;
}

int train_lora_write(const struct train_lora *lora, const char *path, struct train_problem *problem)
{
    size_t tensors = lora->layers * TRAIN_LINEARS * 2;
    struct ggml_init_params params = {.mem_size = tensors * (ggml_tensor_overhead() + 64) +
                                                  lora->count * sizeof(float) + 65536};
    struct ggml_context *context = ggml_init(params);
    struct gguf_context *gguf = gguf_init_empty();
    int error = MR_ENO_MEMORY;
    if (context != NULL && gguf != NULL) {
        error = lora_encode(lora, gguf, context, path, problem);
    } else {
        (void)train_problem_set(problem, error, "out of memory for the adapter");
    }
    gguf_free(gguf);
    ggml_free(context);
    return error;
}
