/* SPDX-License-Identifier: Apache-2.0 */
/* The frozen model: its large blocks, packed matrices, rotation tables, and a random one.
 *
 * Owns:       every block of memory that a model points to, and the mapped file.
 * Invariants: (1) a matrix is packed twice, once for each direction, from the same weights;
 *             (2) equal seeds give equal random models, bit for bit.
 * Fails:      MR_ENO_MEMORY.
 * Ends:       train_model_done.
 * Idea:       work/train/README.md   Tests: tests/unit/train/test_train_grad.c
 */
#include "train.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <ggml.h>

#define BLOCKS_PER_LAYER 12u /* two norms, four matrices twice, room to spare */
#define BLOCKS_ELSE      16u
#define HUGE_BYTES       ((size_t)2 * 1024 * 1024)

void *train_block_new(struct train_model *model, size_t bytes)
{
    void *p = NULL;
    size_t most = model->shape.layers * BLOCKS_PER_LAYER + BLOCKS_ELSE;
    if (model->blocks == NULL) {
        model->blocks = mr_alloc_zero(most * sizeof *model->blocks);
        if (model->blocks == NULL) return NULL;
    }
    MR_ASSERT(model->block_count < most);
    if (posix_memalign(&p, bytes >= HUGE_BYTES ? HUGE_BYTES : 64, bytes) != 0) return NULL;
    if (bytes >= HUGE_BYTES) {
        (void)madvise(p, bytes, MADV_HUGEPAGE); /* only faster */
    }
    model->blocks[model->block_count++] = p;
    return p;
}

int train_matrix_set(struct train_model *model, struct train_matrix *matrix, const float *w,
                     size_t n, size_t k)
{
    *matrix = (struct train_matrix){.n = n, .k = k};
    matrix->forward = train_block_new(model, train_product_bytes(&model->product, n, k));
    matrix->back = train_block_new(model, train_product_bytes(&model->product, k, n));
    if (matrix->forward == NULL || matrix->back == NULL) return MR_ENO_MEMORY;
    train_product_pack(&model->product, w, n, k, false, matrix->forward);
    train_product_pack(&model->product, w, k, n, true, matrix->back);
    return 0;
}

int train_model_prepare(struct train_model *model, size_t positions, const float *rope_factors)
{
    const struct train_shape *shape = &model->shape;
    size_t pairs = shape->rope_dims / 2;
    model->layers = mr_arena_alloc_zero(&model->arena, shape->layers * sizeof *model->layers);
    model->rope_cosine = train_block_new(model, positions * pairs * sizeof(float));
    model->rope_sine = train_block_new(model, positions * pairs * sizeof(float));
    if (model->layers == NULL || model->rope_cosine == NULL || model->rope_sine == NULL) {
        return MR_ENO_MEMORY;
    }
    model->positions = positions;
    for (size_t t = 0; t < positions; t++) {
        for (size_t i = 0; i < pairs; i++) {
            double power = -2.0 * (double)i / (double)shape->rope_dims;
            double angle =
                (double)t * pow((double)shape->rope_base, power) * (double)shape->rope_scale;
            if (rope_factors != NULL) {
                angle /= (double)rope_factors[i];
            }
            model->rope_cosine[t * pairs + i] = (float)cos(angle);
            model->rope_sine[t * pairs + i] = (float)sin(angle);
        }
    }
    return 0;
}

void train_model_done(struct train_model *model)
{
    for (size_t i = 0; i < model->block_count; i++) {
        free(model->blocks[i]);
    }
    mr_free(model->blocks);
    mr_arena_done(&model->arena);
    if (model->file != NULL) {
        (void)munmap(model->file, model->file_bytes); /* only read from */
    }
    train_product_done(&model->product);
    *model = (struct train_model){0};
}

size_t train_shape_products(const struct train_shape *shape, size_t ret[8][2])
{
    size_t q = shape->heads * shape->head_dims;
    size_t qkv = q + 2 * shape->kv_heads * shape->head_dims;
    const size_t shapes[][2] = {
        {qkv, shape->embd},       {shape->embd, q}, {2 * shape->ff, shape->embd},
        {shape->embd, shape->ff}, {q, shape->embd}, {shape->embd, 2 * shape->ff}};
    memcpy(ret, shapes, sizeof shapes);
    return MR_COUNT_OF(shapes);
}

uint64_t train_shape_hash(const struct train_shape *shape)
{
    uint64_t words[12] = {shape->embd, shape->heads,  shape->kv_heads, shape->head_dims,
                          shape->ff,   shape->layers, shape->vocab,    shape->rope_dims};
    memcpy(&words[8], &shape->epsilon, sizeof shape->epsilon);
    memcpy(&words[9], &shape->rope_base, sizeof shape->rope_base);
    memcpy(&words[10], &shape->rope_scale, sizeof shape->rope_scale);
    return mr_hash64(words, sizeof words, 0);
}

/* --- a random one -------------------------------------------------------------------------- */

struct dice {
    struct mr_prng prng;
    train_keep_fn keep;
    void *context;
};

/* Uniform with the given deviation around `middle`. */
static void dice_fill(struct dice *dice, float *w, size_t n, size_t k, float middle,
                      float deviation)
{
    float width = deviation * 1.7320508f * 2.0f;
    for (size_t i = 0; i < n * k; i++) {
        float u = (float)(mr_prng_next(&dice->prng) >> 40) * 0x1p-24f - 0.5f;
        w[i] = middle + u * width;
    }
    if (dice->keep != NULL) {
        dice->keep(dice->context, w, n, k);
    }
}

static int layer_random(struct train_model *model, struct train_layer *layer, struct dice *dice,
                        float *w)
{
    const struct train_shape *s = &model->shape;
    size_t q = s->heads * s->head_dims, kv = s->kv_heads * s->head_dims;
    float deviation = 1.0f / sqrtf((float)s->embd);
    layer->attn_norm = train_block_new(model, s->embd * sizeof(float));
    layer->ffn_norm = train_block_new(model, s->embd * sizeof(float));
    if (layer->attn_norm == NULL || layer->ffn_norm == NULL) return MR_ENO_MEMORY;
    dice_fill(dice, layer->attn_norm, 1, s->embd, 1.0f, 0.1f);
    dice_fill(dice, w, q, s->embd, 0, deviation);
    dice_fill(dice, w + q * s->embd, kv, s->embd, 0, deviation);
    dice_fill(dice, w + (q + kv) * s->embd, kv, s->embd, 0, deviation);
    int error = train_matrix_set(model, &layer->groups[0], w, q + 2 * kv, s->embd);
    dice_fill(dice, w, s->embd, q, 0, deviation);
    if (error == 0) {
        error = train_matrix_set(model, &layer->groups[1], w, s->embd, q);
    }
    dice_fill(dice, layer->ffn_norm, 1, s->embd, 1.0f, 0.1f);
    dice_fill(dice, w, s->ff, s->embd, 0, deviation);
    dice_fill(dice, w + s->ff * s->embd, s->ff, s->embd, 0, deviation);
    if (error == 0) {
        error = train_matrix_set(model, &layer->groups[2], w, 2 * s->ff, s->embd);
    }
    dice_fill(dice, w, s->embd, s->ff, 0, 1.0f / sqrtf((float)s->ff));
    if (error == 0) {
        error = train_matrix_set(model, &layer->groups[3], w, s->embd, s->ff);
    }
    return error;
}

int train_model_random(const struct train_shape *shape, uint64_t seed,
                       struct train_product *product, size_t positions, train_keep_fn keep,
                       void *context, struct train_model *ret)
{
    struct train_model model = {.shape = *shape, .product = *product};
    struct dice dice = {.keep = keep, .context = context};
    mr_prng_init(&dice.prng, seed);
    mr_arena_init(&model.arena, (size_t)64 * 1024 * 1024);
    size_t widest = MR_MAX(2 * shape->ff, (shape->heads + 2 * shape->kv_heads) * shape->head_dims);
    float *w = mr_alloc(widest * shape->embd * sizeof *w);
    float *embedding = train_block_new(&model, shape->vocab * shape->embd * sizeof *embedding);
    int error = w == NULL || embedding == NULL ? MR_ENO_MEMORY
                                               : train_model_prepare(&model, positions, NULL);
    if (error == 0) {
        dice_fill(&dice, embedding, shape->vocab, shape->embd, 0, 0.5f / sqrtf((float)shape->embd));
        model.embedding = (const uint8_t *)embedding;
        model.embedding_type = GGML_TYPE_F32;
        model.embedding_row_bytes = shape->embd * sizeof *embedding;
        error = train_matrix_set(&model, &model.head, embedding, shape->vocab, shape->embd);
    }
    for (size_t i = 0; error == 0 && i < shape->layers; i++) {
        error = layer_random(&model, &model.layers[i], &dice, w);
    }
    if (error == 0) {
        model.output_norm = train_block_new(&model, shape->embd * sizeof(float));
        error = model.output_norm == NULL ? MR_ENO_MEMORY : 0;
    }
    if (error == 0) {
        dice_fill(&dice, model.output_norm, 1, shape->embd, 1.0f, 0.1f);
    }
    mr_free(w);
    if (error != 0) {
        model.product = (struct train_product){0}; /* stays the caller's */
        train_model_done(&model);
        return error;
    }
    *product = (struct train_product){0};
    *ret = model;
    return 0;
}
