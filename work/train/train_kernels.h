/* SPDX-License-Identifier: Apache-2.0 */
/* Private to work/train and its tests: the inner loops of training, one table per instruction set.
 *
 * train_kernels.c is compiled once for each instruction set; at start the best table that this CPU
 * can run is taken. All matrices are row-major, sizes are counts of elements, ld is the distance
 * of two rows in elements. One thread; no allocation; nothing is kept between calls.
 */
#ifndef TRAIN_KERNELS_H
#define TRAIN_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Scalars of one AdamW step; the corrections are 1 - beta^step. */
struct train_adamw {
    float rate, beta1, beta2, epsilon, decay, correction1, correction2, gradient_scale;
};

/* Where the rows of one attention head lie: row t of the query is q + t * ld. */
struct train_rope {
    const float *cosine; /* [position][dims / 2] */
    const float *sine;
    size_t dims; /* rotated dimensions of a head, pairs (2i, 2i + 1) */
};

struct train_kernels {
    const char *isa;
    size_t panel; /* columns of a packed panel */
    bool has_bf16;

    /* Packs w[n][k] (or its transpose, given as w[k][n]) into panels of `panel` columns, padded
     * with zeros: packed[n / panel][k][panel]. bf16: pairs of k lie beside each other. */
    void (*pack_f32)(const float *w, size_t n, size_t k, bool transposed, float *packed);
    void (*pack_bf16)(const float *w, size_t n, size_t k, bool transposed, uint16_t *packed);
    /* y[m][n] = x[m][k] * w^T. The bf16 one needs scratch of m * (k + 2) halves. */
    void (*product_f32)(const float *x, size_t ldx, const float *packed, float *y, size_t ldy,
                        size_t m, size_t n, size_t k);
    void (*product_bf16)(const float *x, size_t ldx, const uint16_t *packed, float *y, size_t ldy,
                         size_t m, size_t n, size_t k, uint16_t *scratch);
    /* c[m][n] = (add ? c : 0) + alpha * p[m][k] * q[k][n]; p's element (i, j) is p[i*pr + j*pc]. */
    void (*small_nn)(size_t m, size_t n, size_t k, float alpha, const float *p, size_t pr,
                     size_t pc, const float *q, size_t ldq, bool add, float *c, size_t ldc);
    /* c[m][n] = alpha * x[m][k] * a[n][k]^T */
    void (*small_nt)(size_t m, size_t n, size_t k, float alpha, const float *x, size_t ldx,
                     const float *a, size_t lda, float *c, size_t ldc);

    /* y = x * rstd * weight for m rows; rstd[m] is left for the way back. */
    void (*rms_norm)(const float *x, const float *weight, float epsilon, size_t m, size_t n,
                     float *y, float *rstd);
    /* dx += the gradient of rms_norm at x, given dy. */
    void (*rms_norm_back)(const float *dy, const float *x, const float *weight, const float *rstd,
                          size_t m, size_t n, float *dx);
    /* y[m][n] = silu(gate) * up, where a row of gate_up holds n of the one, then n of the other. */
    void (*swiglu)(const float *gate_up, size_t m, size_t n, float *y);
    /* Replaces gate_up by its gradient. */
    void (*swiglu_back)(const float *dy, size_t m, size_t n, float *gate_up);
    /* Turns m rows of `heads` heads in place; direction 1 forward, -1 back. */
    void (*rope)(float *x, size_t ld, size_t m, size_t heads, size_t head_dims,
                 const uint32_t *positions, const struct train_rope *rope, float direction);
    /* s[m][n] to probabilities in place; row i sees the first `seen + i` columns, others become 0.
     * lse[i] is the logarithm of the sum, or given when `known` (the way back). */
    void (*softmax)(float *s, size_t ld, size_t m, size_t n, size_t seen, bool known, float *lse);
    /* ds = p * (dp - sum(dp * p)) * scale, into dp; row i has `seen + i` columns. */
    void (*softmax_back)(const float *p, float *dp, size_t ld, size_t m, size_t n, size_t seen,
                         float scale);
    /* Returns the loss of one row of n logits; replaces them by scale * (softmax - one-hot). */
    double (*cross_entropy)(float *logits, size_t n, size_t target, float scale, bool back);
    void (*add)(float *y, const float *x, size_t n);
    void (*adamw)(const struct train_adamw *step, size_t n, const float *gradient, float *m,
                  float *v, float *weight);
};

/* NULL when this build or this CPU does not have it. */
extern const struct train_kernels train_kernels_base;
#if defined(__x86_64__)
extern const struct train_kernels train_kernels_avx2;
extern const struct train_kernels train_kernels_avx512;
extern const struct train_kernels train_kernels_bf16;
#endif
/* The best table that this CPU can run. */
const struct train_kernels *train_kernels_find(void);

#endif
