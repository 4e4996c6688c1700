/* SPDX-License-Identifier: Apache-2.0 */
/* One pass over a batch: the forward computation of a llama model, and its backward by hand.
 *
 * Owns:       the activations that the way back needs, for tokens_max tokens.
 * Invariants: (1) a token attends to itself and to earlier tokens of its own example only;
 *             (2) frozen weights get no gradient: each linear layer costs two large products;
 *             (3) equal batches give equal gradients, bit for bit, on the same product.
 * Never:      I/O, clock, allocation after train_pass_new, other than a product's scratch.
 * Cost:       4 x parameters x tokens operations and the adapters' small products.
 * Idea:       work/train/README.md   Tests: tests/unit/train/test_train_grad.c
 */
#include "train.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <ggml.h>

#define HEAD_ROWS   64u /* rows of logits at a time */
#define QUERY_ROWS  36u /* queries of one tile of attention */
#define LANES_ROUND 16u

/* What a layer leaves for the way back. */
struct kept {
    float *input, *middle;       /* [T][embd] residual stream before attention and before the FFN */
    float *rstd_attn, *rstd_ffn; /* [T] */
    float *qkv;                  /* [T][q + 2kv], rotated */
    float *attention;            /* [T][q] */
    float *lse;                  /* [heads][T] */
    float *gate_up;              /* [T][2 ff] */
    float *act;                  /* [T][ff] */
    float *z[TRAIN_GROUPS];      /* [T][parts * rank]: A x */
};

struct train_pass {
    struct train_model *model;
    struct train_lora *lora;
    size_t tokens_max;
    struct kept *kept;
    float *stream; /* [T][embd] */
    float *normed; /* [T][embd] */
    float *wide;   /* [T][max(2 ff, q + 2kv, embd)] */
    float *d_stream, *d_normed, *d_wide, *d_qkv;
    float *u;      /* [T][3 rank] */
    float *turned; /* [head_dims][T rounded]: K or V turned */
    float *turned_v;
    float *scores, *d_scores; /* [QUERY_ROWS][T rounded] */
    float *rows, *d_rows;     /* [HEAD_ROWS][embd] */
    float *logits;            /* [HEAD_ROWS][vocab] */
    float *rstd_rows;         /* [T] */
    size_t *wanted;           /* [T] tokens with a target */
    float *memory;
    size_t memory_floats, memory_used;
};

/* --- memory -------------------------------------------------------------------------------- */

/* With memory NULL it only counts. */
static float *take(struct train_pass *pass, size_t floats)
{
    size_t at = pass->memory_used;
    pass->memory_used += (floats + LANES_ROUND - 1) / LANES_ROUND * LANES_ROUND;
    return pass->memory == NULL ? NULL : pass->memory + at;
}

static size_t round_up(size_t n)
{
    return (n + LANES_ROUND - 1) / LANES_ROUND * LANES_ROUND;
}

static void layout(struct train_pass *pass)
{
    const struct train_shape *s = &pass->model->shape;
    size_t t = pass->tokens_max, q = s->heads * s->head_dims;
    size_t qkv = q + 2 * s->kv_heads * s->head_dims;
    size_t wide = MR_MAX(MR_MAX(2 * s->ff, qkv), MR_MAX(s->embd, q));
    pass->memory_used = 0;
    for (size_t i = 0; i < s->layers; i++) {
        struct kept *kept = &pass->kept[i];
        kept->input = take(pass, t * s->embd);
        kept->middle = take(pass, t * s->embd);
        kept->rstd_attn = take(pass, t);
        kept->rstd_ffn = take(pass, t);
        kept->qkv = take(pass, t * qkv);
        kept->attention = take(pass, t * q);
        kept->lse = take(pass, t * s->heads);
        kept->gate_up = take(pass, t * 2 * s->ff);
        kept->act = take(pass, t * s->ff);
        for (size_t g = 0; g < TRAIN_GROUPS; g++) {
            kept->z[g] = take(pass, t * pass->lora->groups[g].parts * pass->lora->rank);
        }
    }
    pass->stream = take(pass, t * s->embd);
    pass->normed = take(pass, t * s->embd);
    pass->wide = take(pass, t * wide);
    pass->d_stream = take(pass, t * s->embd);
    pass->d_normed = take(pass, t * MR_MAX(s->embd, q));
    pass->d_wide = take(pass, t * s->ff);
    pass->d_qkv = take(pass, t * qkv);
    pass->u = take(pass, t * 3 * pass->lora->rank);
    pass->turned = take(pass, s->head_dims * round_up(t));
    pass->turned_v = take(pass, s->head_dims * round_up(t));
    pass->scores = take(pass, QUERY_ROWS * round_up(t));
    pass->d_scores = take(pass, QUERY_ROWS * round_up(t));
    pass->rows = take(pass, HEAD_ROWS * s->embd);
    pass->d_rows = take(pass, HEAD_ROWS * s->embd);
    pass->logits = take(pass, HEAD_ROWS * s->vocab);
    pass->rstd_rows = take(pass, t);
}

int train_pass_new(struct train_model *model, struct train_lora *lora, size_t tokens_max,
                   struct train_pass **ret)
{
    struct train_pass *pass = mr_alloc_zero(sizeof *pass);
    if (pass == NULL) return MR_ENO_MEMORY;
    pass->model = model;
    pass->lora = lora;
    pass->tokens_max = tokens_max;
    pass->kept = mr_alloc_zero(model->shape.layers * sizeof *pass->kept);
    pass->wanted = mr_alloc_zero(tokens_max * sizeof *pass->wanted);
    void *memory = NULL;
    if (pass->kept != NULL && pass->wanted != NULL) {
        layout(pass); /* counts */
        pass->memory_floats = pass->memory_used;
        size_t align = (size_t)2 * 1024 * 1024;
        if (posix_memalign(&memory, align, pass->memory_floats * sizeof(float)) != 0) {
            memory = NULL;
        }
    }
    if (memory == NULL) {
        train_pass_free(pass);
        return MR_ENO_MEMORY;
    }
    (void)madvise(memory, pass->memory_floats * sizeof(float), MADV_HUGEPAGE); /* only faster */
    pass->memory = memory;
    layout(pass);
    *ret = pass;
    return 0;
}

void train_pass_free(struct train_pass *pass)
{
    if (pass == NULL) return;
    free(pass->memory);
    mr_free(pass->kept);
    mr_free(pass->wanted);
    mr_free(pass);
}

/* --- a group of linear layers with their adapters ------------------------------------------ */

/* y = x W^T + scale * (x A^T) B^T; z = x A^T is kept. */
static int group_forward(struct train_pass *pass, size_t layer, size_t g, const float *x, float *y,
                         size_t t)
{
    const struct train_group *group = &pass->lora->groups[layer * TRAIN_GROUPS + g];
    const struct train_matrix *w = &pass->model->layers[layer].groups[g];
    const struct train_kernels *k = pass->model->product.kernels;
    size_t rank = pass->lora->rank, width = group->parts * rank, column = 0;
    float *z = pass->kept[layer].z[g];
    int error = train_product_run(&pass->model->product, x, group->in, w->forward, y, group->out, t,
                                  group->out, group->in);
    if (error != 0) return error;
    k->small_nt(t, width, group->in, 1.0f, x, group->in, pass->lora->weights + group->a, group->in,
                z, width);
    for (size_t part = 0; part < group->parts; part++) {
        k->small_nn(t, group->part_out[part], rank, pass->lora->scale, z + part * rank, width, 1,
                    pass->lora->weights + group->b[part], group->part_out[part], true, y + column,
                    group->out);
        column += group->part_out[part];
    }
    return 0;
}

/* Gradients of A and B from dy and x; dx = dy W + u A unless it is NULL. */
static int group_back(struct train_pass *pass, size_t layer, size_t g, const float *dy,
                      const float *x, float *dx, size_t t)
{
    const struct train_group *group = &pass->lora->groups[layer * TRAIN_GROUPS + g];
    const struct train_matrix *w = &pass->model->layers[layer].groups[g];
    const struct train_kernels *k = pass->model->product.kernels;
    struct train_lora *lora = pass->lora;
    size_t rank = lora->rank, width = group->parts * rank, column = 0;
    const float *z = pass->kept[layer].z[g];
    for (size_t part = 0; part < group->parts; part++) {
        size_t out = group->part_out[part];
        k->small_nt(t, rank, out, lora->scale, dy + column, group->out,
                    lora->weights + group->b[part], out, pass->u + part * rank, width);
        k->small_nn(rank, out, t, lora->scale, z + part * rank, 1, width, dy + column, group->out,
                    true, lora->gradient + group->b[part], out);
        column += out;
    }
    k->small_nn(width, group->in, t, 1.0f, pass->u, 1, width, x, group->in, true,
                lora->gradient + group->a, group->in);
    if (dx == NULL) return 0;
    int error = train_product_run(&pass->model->product, dy, group->out, w->back, dx, group->in, t,
                                  group->in, group->out);
    if (error != 0) return error;
    k->small_nn(t, group->in, width, 1.0f, pass->u, width, 1, lora->weights + group->a, group->in,
                true, dx, group->in);
    return 0;
}

/* --- attention ----------------------------------------------------------------------------- */

/* One head of one example: its rows lie `ld` apart in qkv. */
struct head {
    const float *q, *k, *v;
    size_t ld, length;
    float *lse;
};

static struct head head_of(const struct train_pass *pass, const struct kept *kept, size_t first,
                           size_t length, size_t h)
{
    const struct train_shape *s = &pass->model->shape;
    size_t q = s->heads * s->head_dims, kv = s->kv_heads * s->head_dims;
    size_t group = h / (s->heads / s->kv_heads);
    const float *base = kept->qkv + first * (q + 2 * kv);
    return (struct head){.q = base + h * s->head_dims,
                         .k = base + q + group * s->head_dims,
                         .v = base + q + kv + group * s->head_dims,
                         .ld = q + 2 * kv,
                         .length = length,
                         .lse = kept->lse + h * pass->tokens_max + first};
}

/* to[d][t] = from[t][d], columns past `length` zero up to a whole vector. */
static void turn(const float *from, size_t ld, size_t length, size_t dims, float *to)
{
    size_t width = round_up(length);
    for (size_t d = 0; d < dims; d++) {
        float *row = to + d * width;
        for (size_t t = 0; t < length; t++) {
            row[t] = from[t * ld + d];
        }
        memset(row + length, 0, (width - length) * sizeof *row);
    }
}

static void attention_forward(struct train_pass *pass, struct kept *kept, size_t first,
                              size_t length)
{
    const struct train_shape *s = &pass->model->shape;
    const struct train_kernels *k = pass->model->product.kernels;
    size_t width = round_up(length), out_ld = s->heads * s->head_dims, dims = s->head_dims;
    float scale = 1.0f / sqrtf((float)dims);
    for (size_t h = 0; h < s->heads; h++) {
        struct head head = head_of(pass, kept, first, length, h);
        if (h % (s->heads / s->kv_heads) == 0) {
            turn(head.k, head.ld, length, dims, pass->turned);
        }
        for (size_t row = 0; row < length; row += QUERY_ROWS) {
            size_t rows = MR_MIN((size_t)QUERY_ROWS, length - row), seen = row + rows;
            k->small_nn(rows, round_up(seen), dims, scale, head.q + row * head.ld, head.ld, 1,
                        pass->turned, width, false, pass->scores, width);
            k->softmax(pass->scores, width, rows, round_up(seen), row + 1, false, head.lse + row);
            k->small_nn(rows, dims, seen, 1.0f, pass->scores, width, 1, head.v, head.ld, false,
                        kept->attention + (first + row) * out_ld + h * dims, out_ld);
        }
    }
}

/* d_out[T][q] to d_qkv[T][q + 2kv], which was zeroed. Scores are computed again from q and k. */
static void attention_back(struct train_pass *pass, const struct kept *kept, const float *d_out,
                           size_t first, size_t length)
{
    const struct train_shape *s = &pass->model->shape;
    const struct train_kernels *k = pass->model->product.kernels;
    size_t width = round_up(length), out_ld = s->heads * s->head_dims, dims = s->head_dims;
    float scale = 1.0f / sqrtf((float)dims);
    for (size_t h = 0; h < s->heads; h++) {
        struct head head = head_of(pass, kept, first, length, h);
        float *dq = pass->d_qkv + (head.q - kept->qkv);
        float *dk = pass->d_qkv + (head.k - kept->qkv);
        float *dv = pass->d_qkv + (head.v - kept->qkv);
        if (h % (s->heads / s->kv_heads) == 0) {
            turn(head.k, head.ld, length, dims, pass->turned);
            turn(head.v, head.ld, length, dims, pass->turned_v);
        }
        for (size_t row = 0; row < length; row += QUERY_ROWS) {
            size_t rows = MR_MIN((size_t)QUERY_ROWS, length - row), seen = row + rows;
            const float *dy = d_out + (first + row) * out_ld + h * dims;
            k->small_nn(rows, round_up(seen), dims, scale, head.q + row * head.ld, head.ld, 1,
                        pass->turned, width, false, pass->scores, width);
            k->softmax(pass->scores, width, rows, round_up(seen), row + 1, true, head.lse + row);
            k->small_nn(seen, dims, rows, 1.0f, pass->scores, 1, width, dy, out_ld, true, dv,
                        head.ld);
            k->small_nn(rows, round_up(seen), dims, 1.0f, dy, out_ld, 1, pass->turned_v, width,
                        false, pass->d_scores, width);
            k->softmax_back(pass->scores, pass->d_scores, width, rows, round_up(seen), row + 1,
                            scale);
            k->small_nn(rows, dims, seen, 1.0f, pass->d_scores, width, 1, head.k, head.ld, false,
                        dq + row * head.ld, head.ld);
            k->small_nn(seen, dims, rows, 1.0f, pass->d_scores, 1, width, head.q + row * head.ld,
                        head.ld, true, dk, head.ld);
        }
    }
}

/* --- layers -------------------------------------------------------------------------------- */

static void rotate(const struct train_pass *pass, const struct train_batch *batch, float *qkv,
                   float direction)
{
    const struct train_model *model = pass->model;
    const struct train_shape *s = &model->shape;
    struct train_rope rope = {model->rope_cosine, model->rope_sine, s->rope_dims};
    size_t ld = (s->heads + 2 * s->kv_heads) * s->head_dims;
    /* Queries and keys lie beside each other. */
    model->product.kernels->rope(qkv, ld, batch->tokens, s->heads + s->kv_heads, s->head_dims,
                                 batch->positions, &rope, direction);
}

static int layer_forward(struct train_pass *pass, const struct train_batch *batch, size_t i)
{
    const struct train_shape *s = &pass->model->shape;
    const struct train_kernels *k = pass->model->product.kernels;
    const struct train_layer *layer = &pass->model->layers[i];
    struct kept *kept = &pass->kept[i];
    size_t t = batch->tokens;
    memcpy(kept->input, pass->stream, t * s->embd * sizeof(float));
    k->rms_norm(pass->stream, layer->attn_norm, s->epsilon, t, s->embd, pass->normed,
                kept->rstd_attn);
    int error = group_forward(pass, i, 0, pass->normed, kept->qkv, t);
    if (error != 0) return error;
    rotate(pass, batch, kept->qkv, 1.0f);
    for (size_t e = 0; e < batch->segments; e++) {
        attention_forward(pass, kept, batch->starts[e], batch->starts[e + 1] - batch->starts[e]);
    }
    error = group_forward(pass, i, 1, kept->attention, pass->wide, t);
    if (error != 0) return error;
    k->add(pass->stream, pass->wide, t * s->embd);
    memcpy(kept->middle, pass->stream, t * s->embd * sizeof(float));
    k->rms_norm(pass->stream, layer->ffn_norm, s->epsilon, t, s->embd, pass->normed,
                kept->rstd_ffn);
    error = group_forward(pass, i, 2, pass->normed, kept->gate_up, t);
    if (error != 0) return error;
    k->swiglu(kept->gate_up, t, s->ff, kept->act);
    error = group_forward(pass, i, 3, kept->act, pass->wide, t);
    if (error != 0) return error;
    k->add(pass->stream, pass->wide, t * s->embd);
    return 0;
}

static int layer_back(struct train_pass *pass, const struct train_batch *batch, size_t i)
{
    const struct train_shape *s = &pass->model->shape;
    const struct train_kernels *k = pass->model->product.kernels;
    const struct train_layer *layer = &pass->model->layers[i];
    struct kept *kept = &pass->kept[i];
    size_t t = batch->tokens, qkv = (s->heads + 2 * s->kv_heads) * s->head_dims;
    /* The feed-forward half: down, swiglu, gate and up, norm. */
    int error = group_back(pass, i, 3, pass->d_stream, kept->act, pass->d_wide, t);
    if (error != 0) return error;
    k->swiglu_back(pass->d_wide, t, s->ff, kept->gate_up);
    k->rms_norm(kept->middle, layer->ffn_norm, s->epsilon, t, s->embd, pass->normed,
                kept->rstd_ffn);
    error = group_back(pass, i, 2, kept->gate_up, pass->normed, pass->d_normed, t);
    if (error != 0) return error;
    k->rms_norm_back(pass->d_normed, kept->middle, layer->ffn_norm, kept->rstd_ffn, t, s->embd,
                     pass->d_stream);
    /* The attention half: output, attention, rotation, qkv, norm. */
    error = group_back(pass, i, 1, pass->d_stream, kept->attention, pass->d_normed, t);
    if (error != 0) return error;
    memset(pass->d_qkv, 0, t * qkv * sizeof(float));
    for (size_t e = 0; e < batch->segments; e++) {
        attention_back(pass, kept, pass->d_normed, batch->starts[e],
                       batch->starts[e + 1] - batch->starts[e]);
    }
    rotate(pass, batch, pass->d_qkv, -1.0f);
    k->rms_norm(kept->input, layer->attn_norm, s->epsilon, t, s->embd, pass->normed,
                kept->rstd_attn);
    /* Below the first layer lies only the frozen embedding. */
    error = group_back(pass, i, 0, pass->d_qkv, pass->normed, i > 0 ? pass->d_normed : NULL, t);
    if (error != 0 || i == 0) return error;
    k->rms_norm_back(pass->d_normed, kept->input, layer->attn_norm, kept->rstd_attn, t, s->embd,
                     pass->d_stream);
    return 0;
}

/* --- both ends ----------------------------------------------------------------------------- */

static void embed(struct train_pass *pass, const struct train_batch *batch)
{
    const struct train_model *model = pass->model;
    size_t embd = model->shape.embd;
    enum ggml_type type = (enum ggml_type)model->embedding_type;
    for (size_t t = 0; t < batch->tokens; t++) {
        const uint8_t *row = model->embedding + batch->ids[t] * model->embedding_row_bytes;
        if (type == GGML_TYPE_F32) {
            memcpy(pass->stream + t * embd, row, embd * sizeof(float));
        } else {
            ggml_get_type_traits(type)->to_float(row, pass->stream + t * embd, (int64_t)embd);
        }
    }
}

/* The losses of up to HEAD_ROWS tokens, and the gradient at the head's input in d_rows. */
static int head_rows(struct train_pass *pass, const struct train_batch *batch, const size_t *which,
                     size_t count, float scale, double *loss)
{
    struct train_model *model = pass->model;
    const struct train_kernels *k = model->product.kernels;
    size_t embd = model->shape.embd, vocab = model->shape.vocab;
    for (size_t i = 0; i < count; i++) {
        memcpy(pass->rows + i * embd, pass->normed + which[i] * embd, embd * sizeof(float));
    }
    int error = train_product_run(&model->product, pass->rows, embd, model->head.forward,
                                  pass->logits, vocab, count, vocab, embd);
    if (error != 0) return error;
    for (size_t i = 0; i < count; i++) {
        *loss += k->cross_entropy(pass->logits + i * vocab, vocab, (size_t)batch->targets[which[i]],
                                  scale, scale > 0);
    }
    if (!(scale > 0)) return 0;
    error = train_product_run(&model->product, pass->logits, vocab, model->head.back, pass->d_rows,
                              embd, count, embd, vocab);
    for (size_t i = 0; error == 0 && i < count; i++) {
        memcpy(pass->d_normed + which[i] * embd, pass->d_rows + i * embd, embd * sizeof(float));
    }
    return error;
}

/* Only tokens with a target go through the head: elsewhere the gradient is zero. */
static int head_both(struct train_pass *pass, const struct train_batch *batch, float scale,
                     double *loss)
{
    struct train_model *model = pass->model;
    const struct train_kernels *k = model->product.kernels;
    size_t embd = model->shape.embd, count = 0;
    k->rms_norm(pass->stream, model->output_norm, model->shape.epsilon, batch->tokens, embd,
                pass->normed, pass->rstd_rows);
    for (size_t t = 0; t < batch->tokens; t++) {
        if (batch->targets[t] >= 0) {
            MR_ASSERT((size_t)batch->targets[t] < model->shape.vocab);
            pass->wanted[count++] = t;
        }
    }
    memset(pass->d_normed, 0, batch->tokens * embd * sizeof(float));
    for (size_t i = 0; i < count; i += HEAD_ROWS) {
        int error = head_rows(pass, batch, pass->wanted + i, MR_MIN((size_t)HEAD_ROWS, count - i),
                              scale, loss);
        if (error != 0) return error;
    }
    if (!(scale > 0)) return 0;
    memset(pass->d_stream, 0, batch->tokens * embd * sizeof(float));
    k->rms_norm_back(pass->d_normed, pass->stream, model->output_norm, pass->rstd_rows,
                     batch->tokens, embd, pass->d_stream);
    return 0;
}

int train_pass_run(struct train_pass *pass, const struct train_batch *batch, float scale,
                   double *loss)
{
    const struct train_shape *s = &pass->model->shape;
    MR_ASSERT(batch->tokens > 0 && batch->tokens <= pass->tokens_max);
    MR_ASSERT(batch->starts[0] == 0 && batch->starts[batch->segments] == batch->tokens);
    for (size_t t = 0; t < batch->tokens; t++) {
        MR_ASSERT(batch->ids[t] < s->vocab);
        MR_ASSERT(batch->positions[t] < pass->model->positions);
    }
    embed(pass, batch);
    int error = 0;
    for (size_t i = 0; error == 0 && i < s->layers; i++) {
        error = layer_forward(pass, batch, i);
    }
    if (error == 0) {
        error = head_both(pass, batch, scale, loss);
    }
    for (size_t i = s->layers; error == 0 && scale > 0 && i-- > 0;) {
        error = layer_back(pass, batch, i);
    }
    return error;
}
