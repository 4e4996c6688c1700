/* SPDX-License-Identifier: Apache-2.0 */
/* The inner loops of training; compiled once per instruction set, with KERNEL_TABLE naming it.
 *
 * Owns:       nothing; every buffer is the caller's.
 * Invariants: (1) equal inputs give equal results, bit for bit, on the same table;
 *             (2) sums of a product run over k in one fixed order.
 * Never:      allocation, I/O, a branch on the data other than clamping.
 * Cost:       products reach about 80 % of the peak of a core once packed.
 * Idea:       work/train/README.md   Tests: tests/unit/train/test_train_kernels.c
 */
#include "train_kernels.h"

#include <math.h>
#include <string.h>

#if defined(__AVX512BF16__) && defined(__AVX512F__)
#include <immintrin.h>
#define HAVE_BF16 1
#else
#define HAVE_BF16 0
#endif

#if defined(__AVX512F__)
#define LANES 16
#define ROWS  12 /* rows of x in one tile: 24 sums, 2 columns, 1 broadcast in 32 registers */
#elif defined(__AVX2__)
#define LANES 8
#define ROWS  6
#else
#define LANES 4
#define ROWS  4
#endif
#define PANEL  (2 * LANES)
#define KBLOCK 768 /* elements of k kept near: a panel of it stays in the second cache */

#define INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef float vfu __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));

INLINE vf load(const float *p)
{
    return (vf) * (const vfu *)(const void *)p;
}
INLINE void store(float *p, vf v)
{
    *(vfu *)(void *)p = (vfu)v;
}
INLINE vf splat(float x)
{
    return x - (vf){0};
}
INLINE float sum_of(vf v)
{
    float lanes[LANES];
    memcpy(lanes, &v, sizeof lanes);
    for (size_t half = LANES / 2; half > 0; half /= 2) {
        for (size_t i = 0; i < half; i++) {
            lanes[i] += lanes[i + half];
        }
    }
    return lanes[0];
}
INLINE vf choose(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

/* e^x within 2 units in the last place for -87 <= x <= 88; clamped outside. */
INLINE vf exp_of(vf x)
{
    const vf low = splat(-87.0f), high = splat(88.0f), magic = splat(12582912.0f);
    x = choose(x < low, low, x);
    x = choose(x > high, high, x);
    vf shifted = x * 1.44269504f + magic;
    vf n = shifted - magic;
    vf r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vf p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    vi exponent = ((vi)shifted - (vi)magic) << 23;
    return (vf)((vi)p + exponent);
}

/* --- packed products ----------------------------------------------------------------------- */

static float weight_at(const float *w, size_t n, size_t k, bool transposed, size_t row,
                       size_t column)
{
    return transposed ? w[column * n + row] : w[row * k + column];
}

static void pack_f32(const float *w, size_t n, size_t k, bool transposed, float *packed)
{
    for (size_t first = 0; first < n; first += PANEL) {
        for (size_t j = 0; j < k; j++) {
            for (size_t i = 0; i < PANEL; i++) {
                bool inside = first + i < n;
                *packed++ = inside ? weight_at(w, n, k, transposed, first + i, j) : 0.0f;
            }
        }
    }
}

/* One tile: `rows` rows of x times one panel. `rows` is a constant wherever this is expanded. */
INLINE void tile_f32(const size_t rows, const float *x, size_t ldx, const float *panel, size_t k,
                     bool add, float *y, size_t ldy)
{
    vf sum[ROWS][2];
#pragma GCC unroll 12
    for (size_t i = 0; i < rows; i++) {
        sum[i][0] = add ? load(y + i * ldy) : (vf){0};
        sum[i][1] = add ? load(y + i * ldy + LANES) : (vf){0};
    }
    for (size_t j = 0; j < k; j++) {
        vf b0 = load(panel + j * PANEL);
        vf b1 = load(panel + j * PANEL + LANES);
#pragma GCC unroll 12
        for (size_t i = 0; i < rows; i++) {
            vf a = splat(x[i * ldx + j]);
            sum[i][0] += a * b0;
            sum[i][1] += a * b1;
        }
    }
#pragma GCC unroll 12
    for (size_t i = 0; i < rows; i++) {
        store(y + i * ldy, sum[i][0]);
        store(y + i * ldy + LANES, sum[i][1]);
    }
}

static size_t rows_f32(const float *x, size_t ldx, const float *panel, size_t k, bool add, float *y,
                       size_t ldy, size_t left)
{
    if (left >= ROWS) {
        tile_f32(ROWS, x, ldx, panel, k, add, y, ldy);
        return ROWS;
    }
    if (left >= 4) {
        tile_f32(4, x, ldx, panel, k, add, y, ldy);
        return 4;
    }
    tile_f32(1, x, ldx, panel, k, add, y, ldy);
    return 1;
}

static void product_f32(const float *x, size_t ldx, const float *packed, float *y, size_t ldy,
                        size_t m, size_t n, size_t k)
{
    float edge[ROWS * PANEL];
    for (size_t from = 0; from < k; from += KBLOCK) {
        size_t width = k - from < KBLOCK ? k - from : KBLOCK;
        for (size_t column = 0; column < n; column += PANEL) {
            const float *panel = packed + column * k + from * PANEL;
            size_t valid = n - column < PANEL ? n - column : PANEL;
            for (size_t row = 0, done; row < m; row += done) {
                float *to = y + row * ldy + column;
                const float *at = x + row * ldx + from;
                if (valid == PANEL) {
                    done = rows_f32(at, ldx, panel, width, from > 0, to, ldy, m - row);
                    continue;
                }
                done = rows_f32(at, ldx, panel, width, false, edge, PANEL, m - row);
                for (size_t i = 0; i < done; i++) {
                    for (size_t j = 0; j < valid; j++) {
                        float before = from > 0 ? to[i * ldy + j] : 0.0f;
                        to[i * ldy + j] = before + edge[i * PANEL + j];
                    }
                }
            }
        }
    }
}

#if HAVE_BF16
static uint16_t half_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static void pack_bf16(const float *w, size_t n, size_t k, bool transposed, uint16_t *packed)
{
    for (size_t first = 0; first < n; first += PANEL) {
        for (size_t j = 0; j < k; j += 2) {
            for (size_t i = 0; i < PANEL; i++) {
                for (size_t part = 0; part < 2; part++) {
                    bool inside = first + i < n && j + part < k;
                    float value =
                        inside ? weight_at(w, n, k, transposed, first + i, j + part) : 0.0f;
                    *packed++ = half_of(value);
                }
            }
        }
    }
}

INLINE void tile_bf16(const size_t rows, const uint16_t *x, size_t ldx, const uint16_t *panel,
                      size_t pairs, bool add, float *y, size_t ldy)
{
    __m512 sum[ROWS][2];
#pragma GCC unroll 12
    for (size_t i = 0; i < rows; i++) {
        sum[i][0] = add ? _mm512_loadu_ps(y + i * ldy) : _mm512_setzero_ps();
        sum[i][1] = add ? _mm512_loadu_ps(y + i * ldy + LANES) : _mm512_setzero_ps();
    }
    for (size_t j = 0; j < pairs; j++) {
        __m512i b0 = _mm512_loadu_si512(panel + j * 2 * PANEL);
        __m512i b1 = _mm512_loadu_si512(panel + j * 2 * PANEL + 2 * LANES);
#pragma GCC unroll 12
        for (size_t i = 0; i < rows; i++) {
            int32_t pair;
            memcpy(&pair, x + i * ldx + 2 * j, sizeof pair);
            __m512i a = _mm512_set1_epi32(pair);
            sum[i][0] = _mm512_dpbf16_ps(sum[i][0], (__m512bh)a, (__m512bh)b0);
            sum[i][1] = _mm512_dpbf16_ps(sum[i][1], (__m512bh)a, (__m512bh)b1);
        }
    }
#pragma GCC unroll 12
    for (size_t i = 0; i < rows; i++) {
        _mm512_storeu_ps(y + i * ldy, sum[i][0]);
        _mm512_storeu_ps(y + i * ldy + LANES, sum[i][1]);
    }
}

static size_t rows_bf16(const uint16_t *x, size_t ldx, const uint16_t *panel, size_t pairs,
                        bool add, float *y, size_t ldy, size_t left)
{
    if (left >= ROWS) {
        tile_bf16(ROWS, x, ldx, panel, pairs, add, y, ldy);
        return ROWS;
    }
    if (left >= 4) {
        tile_bf16(4, x, ldx, panel, pairs, add, y, ldy);
        return 4;
    }
    tile_bf16(1, x, ldx, panel, pairs, add, y, ldy);
    return 1;
}

/* Rows of floats to rows of halves, an odd end padded with zero. */
static void halves_of(const float *x, size_t ldx, size_t m, size_t k, uint16_t *y, size_t ldy)
{
    for (size_t i = 0; i < m; i++) {
        const float *from = x + i * ldx;
        uint16_t *to = y + i * ldy;
        size_t j = 0;
        for (; j + LANES <= k; j += LANES) {
            __m256bh half = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + j));
            memcpy(to + j, &half, sizeof half);
        }
        for (; j < k; j++) {
            to[j] = half_of(from[j]);
        }
        if (k % 2 != 0) {
            to[k] = 0;
        }
    }
}

static void product_bf16(const float *x, size_t ldx, const uint16_t *packed, float *y, size_t ldy,
                         size_t m, size_t n, size_t k, uint16_t *scratch)
{
    const size_t block = 2 * KBLOCK;
    const size_t k_even = (k + 1) / 2 * 2;
    float edge[ROWS * PANEL];
    for (size_t from = 0; from < k; from += block) {
        size_t width = k - from < block ? k - from : block;
        size_t pairs = (width + 1) / 2;
        halves_of(x + from, ldx, m, width, scratch, 2 * pairs);
        for (size_t column = 0; column < n; column += PANEL) {
            const uint16_t *panel = packed + column * k_even + from * PANEL;
            size_t valid = n - column < PANEL ? n - column : PANEL;
            for (size_t row = 0, done; row < m; row += done) {
                float *to = y + row * ldy + column;
                const uint16_t *at = scratch + row * 2 * pairs;
                if (valid == PANEL) {
                    done = rows_bf16(at, 2 * pairs, panel, pairs, from > 0, to, ldy, m - row);
                    continue;
                }
                done = rows_bf16(at, 2 * pairs, panel, pairs, false, edge, PANEL, m - row);
                for (size_t i = 0; i < done; i++) {
                    for (size_t j = 0; j < valid; j++) {
                        float before = from > 0 ? to[i * ldy + j] : 0.0f;
                        to[i * ldy + j] = before + edge[i * PANEL + j];
                    }
                }
            }
        }
    }
}
#endif

/* --- small products ------------------------------------------------------------------------ */

INLINE void tile_nn(const size_t rows, const size_t vectors, size_t k, float alpha, const float *p,
                    size_t pr, size_t pc, const float *q, size_t ldq, bool add, float *c,
                    size_t ldc)
{
    vf sum[6][4];
#pragma GCC unroll 6
    for (size_t i = 0; i < rows; i++) {
#pragma GCC unroll 4
        for (size_t v = 0; v < vectors; v++) {
            sum[i][v] = (vf){0};
        }
    }
    for (size_t j = 0; j < k; j++) {
        vf b[4];
#pragma GCC unroll 4
        for (size_t v = 0; v < vectors; v++) {
            b[v] = load(q + j * ldq + v * LANES);
        }
#pragma GCC unroll 6
        for (size_t i = 0; i < rows; i++) {
            vf a = splat(p[i * pr + j * pc]);
#pragma GCC unroll 4
            for (size_t v = 0; v < vectors; v++) {
                sum[i][v] += a * b[v];
            }
        }
    }
#pragma GCC unroll 6
    for (size_t i = 0; i < rows; i++) {
#pragma GCC unroll 4
        for (size_t v = 0; v < vectors; v++) {
            float *to = c + i * ldc + v * LANES;
            vf scaled = sum[i][v] * alpha;
            store(to, add ? load(to) + scaled : scaled);
        }
    }
}

static void tail_nn(size_t rows, size_t n, size_t k, float alpha, const float *p, size_t pr,
                    size_t pc, const float *q, size_t ldq, bool add, float *c, size_t ldc)
{
    for (size_t i = 0; i < rows; i++) {
        for (size_t column = 0; column < n; column++) {
            float sum = 0;
            for (size_t j = 0; j < k; j++) {
                sum += p[i * pr + j * pc] * q[j * ldq + column];
            }
            c[i * ldc + column] = (add ? c[i * ldc + column] : 0.0f) + alpha * sum;
        }
    }
}

INLINE void strip_nn(const size_t rows, size_t n, size_t k, float alpha, const float *p, size_t pr,
                     size_t pc, const float *q, size_t ldq, bool add, float *c, size_t ldc)
{
    size_t column = 0;
    for (; column + 4 * LANES <= n; column += 4 * LANES) {
        tile_nn(rows, 4, k, alpha, p, pr, pc, q + column, ldq, add, c + column, ldc);
    }
    for (; column + LANES <= n; column += LANES) {
        tile_nn(rows, 1, k, alpha, p, pr, pc, q + column, ldq, add, c + column, ldc);
    }
    if (column < n) {
        tail_nn(rows, n - column, k, alpha, p, pr, pc, q + column, ldq, add, c + column, ldc);
    }
}

static void small_nn(size_t m, size_t n, size_t k, float alpha, const float *p, size_t pr,
                     size_t pc, const float *q, size_t ldq, bool add, float *c, size_t ldc)
{
    size_t row = 0;
    for (; row + 6 <= m; row += 6) {
        strip_nn(6, n, k, alpha, p + row * pr, pr, pc, q, ldq, add, c + row * ldc, ldc);
    }
    for (; row + 2 <= m; row += 2) {
        strip_nn(2, n, k, alpha, p + row * pr, pr, pc, q, ldq, add, c + row * ldc, ldc);
    }
    for (; row < m; row++) {
        strip_nn(1, n, k, alpha, p + row * pr, pr, pc, q, ldq, add, c + row * ldc, ldc);
    }
}

INLINE void tile_nt(const size_t rows, const size_t columns, size_t k, float alpha, const float *x,
                    size_t ldx, const float *a, size_t lda, float *c, size_t ldc)
{
    vf sum[4][4];
    float tail[4][4] = {{0}};
    size_t j = 0;
#pragma GCC unroll 4
    for (size_t i = 0; i < rows; i++) {
#pragma GCC unroll 4
        for (size_t o = 0; o < columns; o++) {
            sum[i][o] = (vf){0};
        }
    }
    for (; j + LANES <= k; j += LANES) {
        vf b[4];
#pragma GCC unroll 4
        for (size_t o = 0; o < columns; o++) {
            b[o] = load(a + o * lda + j);
        }
#pragma GCC unroll 4
        for (size_t i = 0; i < rows; i++) {
            vf left = load(x + i * ldx + j);
#pragma GCC unroll 4
            for (size_t o = 0; o < columns; o++) {
                sum[i][o] += left * b[o];
            }
        }
    }
    for (; j < k; j++) {
        for (size_t i = 0; i < rows; i++) {
            for (size_t o = 0; o < columns; o++) {
                tail[i][o] += x[i * ldx + j] * a[o * lda + j];
            }
        }
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < rows; i++) {
#pragma GCC unroll 4
        for (size_t o = 0; o < columns; o++) {
            c[i * ldc + o] = alpha * (sum_of(sum[i][o]) + tail[i][o]);
        }
    }
}

static void small_nt(size_t m, size_t n, size_t k, float alpha, const float *x, size_t ldx,
                     const float *a, size_t lda, float *c, size_t ldc)
{
    size_t row = 0;
    for (; row + 4 <= m; row += 4) {
        size_t column = 0;
        for (; column + 4 <= n; column += 4) {
            tile_nt(4, 4, k, alpha, x + row * ldx, ldx, a + column * lda, lda,
                    c + row * ldc + column, ldc);
        }
        for (; column < n; column++) {
            tile_nt(4, 1, k, alpha, x + row * ldx, ldx, a + column * lda, lda,
                    c + row * ldc + column, ldc);
        }
    }
    for (; row < m; row++) {
        for (size_t column = 0; column < n; column++) {
            tile_nt(1, 1, k, alpha, x + row * ldx, ldx, a + column * lda, lda,
                    c + row * ldc + column, ldc);
        }
    }
}

/* --- element by element -------------------------------------------------------------------- */

static float dot3(const float *a, const float *b, const float *c, size_t n)
{
    vf sum = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        sum += load(a + i) * load(b + i) * load(c + i);
    }
    float total = sum_of(sum);
    for (; i < n; i++) {
        total += a[i] * b[i] * c[i];
    }
    return total;
}

static float dot2(const float *a, const float *b, size_t n)
{
    vf sum = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        sum += load(a + i) * load(b + i);
    }
    float total = sum_of(sum);
    for (; i < n; i++) {
        total += a[i] * b[i];
    }
    return total;
}

static void rms_norm(const float *x, const float *weight, float epsilon, size_t m, size_t n,
                     float *y, float *rstd)
{
    for (size_t t = 0; t < m; t++, x += n, y += n) {
        float scale = 1.0f / sqrtf(dot2(x, x, n) / (float)n + epsilon);
        rstd[t] = scale;
        size_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            store(y + i, load(x + i) * scale * load(weight + i));
        }
        for (; i < n; i++) {
            y[i] = x[i] * scale * weight[i];
        }
    }
}

static void rms_norm_back(const float *dy, const float *x, const float *weight, const float *rstd,
                          size_t m, size_t n, float *dx)
{
    for (size_t t = 0; t < m; t++, dy += n, x += n, dx += n) {
        float scale = rstd[t];
        float mean = dot3(dy, weight, x, n) / (float)n;
        float pull = mean * scale * scale * scale;
        size_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            vf through = load(dy + i) * load(weight + i) * scale;
            store(dx + i, load(dx + i) + through - load(x + i) * pull);
        }
        for (; i < n; i++) {
            dx[i] += dy[i] * weight[i] * scale - x[i] * pull;
        }
    }
}

/* The last, short vector goes through a padded copy, so that each element is computed alike. */
INLINE vf load_part(const float *p, size_t n)
{
    float lanes[LANES] = {0};
    memcpy(lanes, p, n * sizeof *p);
    return load(lanes);
}
INLINE void store_part(float *p, vf v, size_t n)
{
    float lanes[LANES];
    store(lanes, v);
    memcpy(p, lanes, n * sizeof *p);
}

static void swiglu(const float *gate_up, size_t m, size_t n, float *y)
{
    for (size_t t = 0; t < m; t++, gate_up += 2 * n, y += n) {
        const float *gate = gate_up, *up = gate_up + n;
        size_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            vf g = load(gate + i);
            store(y + i, g / (1.0f + exp_of(-g)) * load(up + i));
        }
        if (i < n) {
            vf g = load_part(gate + i, n - i);
            store_part(y + i, g / (1.0f + exp_of(-g)) * load_part(up + i, n - i), n - i);
        }
    }
}

INLINE void swiglu_back_of(vf dy, vf g, vf u, vf *ret_dg, vf *ret_du)
{
    vf s = 1.0f / (1.0f + exp_of(-g));
    *ret_du = dy * g * s;
    *ret_dg = dy * u * s * (1.0f + g * (1.0f - s));
}

static void swiglu_back(const float *dy, size_t m, size_t n, float *gate_up)
{
    for (size_t t = 0; t < m; t++, gate_up += 2 * n, dy += n) {
        float *gate = gate_up, *up = gate_up + n;
        vf dg, du;
        size_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            swiglu_back_of(load(dy + i), load(gate + i), load(up + i), &dg, &du);
            store(gate + i, dg);
            store(up + i, du);
        }
        if (i < n) {
            swiglu_back_of(load_part(dy + i, n - i), load_part(gate + i, n - i),
                           load_part(up + i, n - i), &dg, &du);
            store_part(gate + i, dg, n - i);
            store_part(up + i, du, n - i);
        }
    }
}

static void rope(float *x, size_t ld, size_t m, size_t heads, size_t head_dims,
                 const uint32_t *positions, const struct train_rope *how, float direction)
{
    size_t pairs = how->dims / 2;
    for (size_t t = 0; t < m; t++) {
        const float *cosine = how->cosine + positions[t] * pairs;
        const float *sine = how->sine + positions[t] * pairs;
        for (size_t h = 0; h < heads; h++) {
            float *head = x + t * ld + h * head_dims;
            for (size_t i = 0; i < pairs; i++) {
                float a = head[2 * i], b = head[2 * i + 1];
                float s = sine[i] * direction;
                head[2 * i] = a * cosine[i] - b * s;
                head[2 * i + 1] = a * s + b * cosine[i];
            }
        }
    }
}

static float max_of(const float *x, size_t n)
{
    vf best = splat(x[0]);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf v = load(x + i);
        best = choose(v > best, v, best);
    }
    float most = x[0];
    for (size_t lane = 0; lane < LANES; lane++) {
        most = best[lane] > most ? best[lane] : most;
    }
    for (; i < n; i++) {
        most = x[i] > most ? x[i] : most;
    }
    return most;
}

/* x = e^(x - shift) * scale in place; the sum is returned. */
static float exp_row(float *x, size_t n, float shift)
{
    vf sum = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vf e = exp_of(load(x + i) - shift);
        store(x + i, e);
        sum += e;
    }
    float total = sum_of(sum);
    if (i < n) {
        float lanes[LANES];
        store(lanes, exp_of(load_part(x + i, n - i) - shift));
        for (size_t j = 0; i < n; i++, j++) {
            x[i] = lanes[j];
            total += lanes[j];
        }
    }
    return total;
}

static void scale_row(float *x, size_t n, float scale)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        store(x + i, load(x + i) * scale);
    }
    for (; i < n; i++) {
        x[i] *= scale;
    }
}

static void softmax(float *s, size_t ld, size_t m, size_t n, size_t seen, bool known, float *lse)
{
    for (size_t t = 0; t < m; t++, s += ld) {
        size_t visible = seen + t;
        if (known) {
            (void)exp_row(s, visible, lse[t]);
        } else {
            float most = max_of(s, visible);
            float total = exp_row(s, visible, most);
            scale_row(s, visible, 1.0f / total);
            lse[t] = most + logf(total);
        }
        memset(s + visible, 0, (n - visible) * sizeof *s);
    }
}

static void softmax_back(const float *p, float *dp, size_t ld, size_t m, size_t n, size_t seen,
                         float scale)
{
    for (size_t t = 0; t < m; t++, p += ld, dp += ld) {
        size_t visible = seen + t;
        float pull = dot2(p, dp, visible);
        size_t i = 0;
        for (; i + LANES <= visible; i += LANES) {
            store(dp + i, load(p + i) * (load(dp + i) - pull) * scale);
        }
        for (; i < visible; i++) {
            dp[i] = p[i] * (dp[i] - pull) * scale;
        }
        memset(dp + visible, 0, (n - visible) * sizeof *dp);
    }
}

static double cross_entropy(float *logits, size_t n, size_t target, float scale, bool back)
{
    float most = max_of(logits, n);
    float wanted = logits[target];
    float total = exp_row(logits, n, most);
    if (back) {
        scale_row(logits, n, scale / total);
        logits[target] -= scale;
    }
    return log((double)total) + (double)most - (double)wanted;
}

static void add(float *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        store(y + i, load(y + i) + load(x + i));
    }
    for (; i < n; i++) {
        y[i] += x[i];
    }
}

static void adamw(const struct train_adamw *step, size_t n, const float *gradient, float *m,
                  float *v, float *weight)
{
    float keep1 = 1.0f - step->beta1, keep2 = 1.0f - step->beta2;
    float shrink = 1.0f - step->rate * step->decay;
    float rate = step->rate / step->correction1;
    float root = 1.0f / sqrtf(step->correction2);
    for (size_t i = 0; i < n; i++) {
        float g = gradient[i] * step->gradient_scale;
        m[i] = step->beta1 * m[i] + keep1 * g;
        v[i] = step->beta2 * v[i] + keep2 * g * g;
        weight[i] = weight[i] * shrink - rate * m[i] / (sqrtf(v[i]) * root + step->epsilon);
    }
}

const struct train_kernels KERNEL_TABLE = {
    .isa = KERNEL_NAME,
    .panel = PANEL,
    .has_bf16 = HAVE_BF16,
    .pack_f32 = pack_f32,
    .product_f32 = product_f32,
#if HAVE_BF16
    .pack_bf16 = pack_bf16,
    .product_bf16 = product_bf16,
#endif
    .small_nn = small_nn,
    .small_nt = small_nt,
    .rms_norm = rms_norm,
    .rms_norm_back = rms_norm_back,
    .swiglu = swiglu,
    .swiglu_back = swiglu_back,
    .rope = rope,
    .softmax = softmax,
    .softmax_back = softmax_back,
    .cross_entropy = cross_entropy,
    .add = add,
    .adamw = adamw,
};
