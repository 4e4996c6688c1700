/* SPDX-License-Identifier: Apache-2.0 */
/* The ways to compute y = x * W^T with a frozen W, and the choice of the fastest at start.
 *
 * Owns:       the scratch of a product.
 * Invariants: (1) equal inputs give equal results, bit for bit, on the same way;
 *             (2) W is packed once, for the way that was chosen, and never changed.
 * Fails:      MR_ENO_MEMORY, MR_ENOT_FOUND.
 * Ends:       train_product_done.
 * Idea:       work/train/README.md   Tests: tests/unit/train/test_train_kernels.c
 */
#include "train.h"

#include <stdlib.h>
#include <time.h>

#include <ggml-cpu.h>
#include <ggml.h>
#if defined(HAVE_DNNL)
#include <dnnl.h>
#endif

#define ROWS_AT_ONCE 384 /* rows of x that stay near while all of W passes by */
#define MEASURE_ROWS 128u
#define MEASURE_FLOP 2.0e9 /* for each way and shape: a few hundredths of a second */

struct train_product_how {
    const char *name;
    size_t (*bytes)(const struct train_product *product, size_t n, size_t k);
    void (*pack)(const struct train_product *product, const float *w, size_t n, size_t k,
                 bool transposed, void *packed);
    size_t (*scratch)(size_t m, size_t n, size_t k);
    void (*run)(struct train_product *product, const float *x, size_t ldx, const void *packed,
                float *y, size_t ldy, size_t m, size_t n, size_t k);
    bool (*usable)(const struct train_kernels *kernels);
    int type; /* ggml's, for its own ways */
};

const struct train_kernels *train_kernels_find(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("avx512cd");
    bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("bmi2");
    if (v3 && v4 && __builtin_cpu_supports("avx512bf16")) return &train_kernels_bf16;
    if (v3 && v4) return &train_kernels_avx512;
    if (v3) return &train_kernels_avx2;
#endif
    return &train_kernels_base;
}

/* --- our own packed kernels ---------------------------------------------------------------- */

static size_t panels(const struct train_product *product, size_t n)
{
    size_t panel = product->kernels->panel;
    return (n + panel - 1) / panel * panel;
}

static size_t f32_bytes(const struct train_product *product, size_t n, size_t k)
{
    return panels(product, n) * k * sizeof(float);
}

static void f32_pack(const struct train_product *product, const float *w, size_t n, size_t k,
                     bool transposed, void *packed)
{
    product->kernels->pack_f32(w, n, k, transposed, packed);
}

static void f32_run(struct train_product *product, const float *x, size_t ldx, const void *packed,
                    float *y, size_t ldy, size_t m, size_t n, size_t k)
{
    for (size_t row = 0; row < m; row += ROWS_AT_ONCE) {
        product->kernels->product_f32(x + row * ldx, ldx, packed, y + row * ldy, ldy,
                                      MR_MIN(m - row, (size_t)ROWS_AT_ONCE), n, k);
    }
}

static size_t bf16_bytes(const struct train_product *product, size_t n, size_t k)
{
    return panels(product, n) * ((k + 1) / 2 * 2) * sizeof(uint16_t);
}

static void bf16_pack(const struct train_product *product, const float *w, size_t n, size_t k,
                      bool transposed, void *packed)
{
    product->kernels->pack_bf16(w, n, k, transposed, packed);
}

static size_t bf16_scratch(size_t m, size_t n, size_t k)
{
    (void)n; /* only x is converted */
    return MR_MIN(m, (size_t)ROWS_AT_ONCE) * (k + 2) * sizeof(uint16_t);
}

static void bf16_run(struct train_product *product, const float *x, size_t ldx, const void *packed,
                     float *y, size_t ldy, size_t m, size_t n, size_t k)
{
    for (size_t row = 0; row < m; row += ROWS_AT_ONCE) {
        product->kernels->product_bf16(x + row * ldx, ldx, packed, y + row * ldy, ldy,
                                       MR_MIN(m - row, (size_t)ROWS_AT_ONCE), n, k,
                                       product->scratch);
    }
}

static bool has_bf16(const struct train_kernels *kernels)
{
    return kernels->has_bf16;
}

/* --- ggml's mul_mat ------------------------------------------------------------------------ */

static size_t ggml_row_bytes(const struct train_product *product, size_t k)
{
    return ggml_row_size((enum ggml_type)product->how->type, (int64_t)k);
}

static size_t ggml_bytes(const struct train_product *product, size_t n, size_t k)
{
    return n * ggml_row_bytes(product, k);
}

static void ggml_pack(const struct train_product *product, const float *w, size_t n, size_t k,
                      bool transposed, void *packed)
{
    uint8_t *to = packed;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < k; j++) {
            float value = transposed ? w[j * n + i] : w[i * k + j];
            if (product->how->type == GGML_TYPE_F32) {
                memcpy(to + j * sizeof value, &value, sizeof value);
            } else {
                ggml_bf16_t half = ggml_fp32_to_bf16(value);
                memcpy(to + j * sizeof half, &half, sizeof half);
            }
        }
        to += ggml_row_bytes(product, k);
    }
}

/* A graph of one node for each call: its cost is a microsecond or two against milliseconds. */
#define GGML_CONTEXT_BYTES ((size_t)64 * 1024)

static size_t ggml_scratch(size_t m, size_t n, size_t k)
{
    (void)n; /* ggml's work area holds x in the other type, and a little for each thread */
    return GGML_CONTEXT_BYTES + m * k * sizeof(float) + 65536;
}

static void ggml_way_run(struct train_product *product, const float *x, size_t ldx,
                         const void *packed, float *y, size_t ldy, size_t m, size_t n, size_t k)
{
    struct ggml_init_params params = {
        .mem_size = GGML_CONTEXT_BYTES, .mem_buffer = product->scratch, .no_alloc = true};
    struct ggml_context *context = ggml_init(params);
    MR_ASSERT(ldy == n);
    struct ggml_tensor *w =
        ggml_new_tensor_2d(context, (enum ggml_type)product->how->type, (int64_t)k, (int64_t)n);
    struct ggml_tensor *rows = ggml_new_tensor_2d(context, GGML_TYPE_F32, (int64_t)k, (int64_t)m);
    rows->nb[1] = ldx * sizeof(float);
    rows->nb[2] = rows->nb[1] * m;
    rows->nb[3] = rows->nb[2];
    struct ggml_tensor *out = ggml_mul_mat(context, w, rows);
    w->data = (void *)(uintptr_t)packed; /* only read */
    rows->data = (void *)(uintptr_t)x;
    out->data = y;
    struct ggml_cgraph *graph = ggml_new_graph_custom(context, 8, false);
    ggml_build_forward_expand(graph, out);
    struct ggml_cplan plan = ggml_graph_plan(graph, 1, NULL);
    MR_ASSERT(plan.work_size + GGML_CONTEXT_BYTES <= product->scratch_bytes);
    plan.work_data = (uint8_t *)product->scratch + GGML_CONTEXT_BYTES;
    enum ggml_status status = ggml_graph_compute(graph, &plan);
    MR_ASSERT(status == GGML_STATUS_SUCCESS);
    ggml_free(context);
}

/* --- oneDNN -------------------------------------------------------------------------------- */

#if defined(HAVE_DNNL)
static size_t dnnl_bytes(const struct train_product *product, size_t n, size_t k)
{
    (void)product; /* as it is */
    return n * k * sizeof(float);
}

static void dnnl_pack(const struct train_product *product, const float *w, size_t n, size_t k,
                      bool transposed, void *packed)
{
    (void)product; /* as it is */
    float *to = packed;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < k; j++) {
            *to++ = transposed ? w[j * n + i] : w[i * k + j];
        }
    }
}

static void dnnl_run(struct train_product *product, const float *x, size_t ldx, const void *packed,
                     float *y, size_t ldy, size_t m, size_t n, size_t k)
{
    (void)product; /* it keeps its own scratch */
    dnnl_status_t status =
        dnnl_sgemm('N', 'T', (dnnl_dim_t)m, (dnnl_dim_t)n, (dnnl_dim_t)k, 1.0f, x, (dnnl_dim_t)ldx,
                   packed, (dnnl_dim_t)k, 0.0f, y, (dnnl_dim_t)ldy);
    MR_ASSERT(status == dnnl_success);
}
#endif

static const struct train_product_how ways[] = {
    {.name = "own-f32", .bytes = f32_bytes, .pack = f32_pack, .run = f32_run},
    {.name = "own-bf16",
     .bytes = bf16_bytes,
     .pack = bf16_pack,
     .run = bf16_run,
     .scratch = bf16_scratch,
     .usable = has_bf16},
    {.name = "ggml-f32",
     .bytes = ggml_bytes,
     .pack = ggml_pack,
     .run = ggml_way_run,
     .scratch = ggml_scratch,
     .type = GGML_TYPE_F32},
    {.name = "ggml-bf16",
     .bytes = ggml_bytes,
     .pack = ggml_pack,
     .run = ggml_way_run,
     .scratch = ggml_scratch,
     .type = GGML_TYPE_BF16},
#if defined(HAVE_DNNL)
    {.name = "onednn-f32", .bytes = dnnl_bytes, .pack = dnnl_pack, .run = dnnl_run},
#endif
};
_Static_assert(MR_COUNT_OF(ways) <= TRAIN_PRODUCTS_MAX, "one figure for each way");

int train_product_open(size_t index, struct train_product *ret)
{
    const struct train_kernels *kernels = train_kernels_find();
    for (size_t i = 0; i < MR_COUNT_OF(ways); i++) {
        if (ways[i].usable != NULL && !ways[i].usable(kernels)) continue;
        if (index-- > 0) continue;
        *ret = (struct train_product){.name = ways[i].name, .kernels = kernels, .how = &ways[i]};
        return 0;
    }
    return MR_ENOT_FOUND;
}

int train_product_open_named(const char *name, struct train_product *ret)
{
    struct train_product product;
    for (size_t i = 0; train_product_open(i, &product) == 0; i++) {
        if (strcmp(product.name, name) == 0) {
            *ret = product;
            return 0;
        }
    }
    return MR_ENOT_FOUND;
}

void train_product_done(struct train_product *product)
{
    free(product->scratch);
    product->scratch = NULL;
    product->scratch_bytes = 0;
}

size_t train_product_bytes(const struct train_product *product, size_t n, size_t k)
{
    return product->how->bytes(product, n, k);
}

void train_product_pack(const struct train_product *product, const float *w, size_t n, size_t k,
                        bool transposed, void *packed)
{
    product->how->pack(product, w, n, k, transposed, packed);
}

int train_product_run(struct train_product *product, const float *x, size_t ldx, const void *packed,
                      float *y, size_t ldy, size_t m, size_t n, size_t k)
{
    size_t wanted = product->how->scratch != NULL ? product->how->scratch(m, n, k) : 0;
    MR_ASSERT(m > 0 && n > 0 && k > 0);
    if (wanted > product->scratch_bytes) {
        void *grown = NULL;
        if (posix_memalign(&grown, 64, wanted) != 0) return MR_ENO_MEMORY;
        free(product->scratch);
        product->scratch = grown;
        product->scratch_bytes = wanted;
    }
    product->how->run(product, x, ldx, packed, y, ldy, m, n, k);
    return 0;
}

/* --- the choice ---------------------------------------------------------------------------- */

static double cpu_seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* cannot fail with this clock */
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Seconds for one run on this shape, the best of several: neighbours only ever slow us down. */
static double shape_seconds(struct train_product *product, size_t n, size_t k)
{
    size_t m = MEASURE_ROWS;
    size_t packed_bytes = train_product_bytes(product, n, k);
    float *x = mr_alloc_zero(m * k * sizeof *x);
    float *y = mr_alloc_zero(m * n * sizeof *y);
    void *packed = NULL;
    double best = -1;
    if (x != NULL && y != NULL && posix_memalign(&packed, 64, packed_bytes) == 0) {
        memset(packed, 0, packed_bytes); /* products take as long on zeros */
        size_t turns = (size_t)(MEASURE_FLOP / (2.0 * (double)m * (double)n * (double)k)) + 2;
        for (size_t i = 0; i < turns; i++) {
            double start = cpu_seconds();
            if (train_product_run(product, x, k, packed, y, n, m, n, k) != 0) break;
            double took = cpu_seconds() - start;
            if (i > 0 && (best < 0 || took < best)) {
                best = took; /* the first one warms up */
            }
        }
    }
    mr_free(x);
    mr_free(y);
    free(packed);
    return best;
}

int train_product_choose(const size_t shapes[][2], size_t shape_count,
                         struct train_measure *measure, struct train_product *ret)
{
    struct train_product product, best = {0};
    double best_gflops = 0;
    *measure = (struct train_measure){0};
    for (size_t i = 0; train_product_open(i, &product) == 0; i++) {
        double seconds = 0, flop = 0;
        for (size_t s = 0; s < shape_count; s++) {
            double took = shape_seconds(&product, shapes[s][0], shapes[s][1]);
            if (took < 0) return train_product_done(&product), MR_ENO_MEMORY;
            seconds += took;
            flop += 2.0 * MEASURE_ROWS * (double)shapes[s][0] * (double)shapes[s][1];
        }
        train_product_done(&product);
        double gflops = seconds > 0 ? flop / seconds * 1e-9 : 0;
        measure->names[i] = product.name;
        measure->gflops[i] = gflops;
        measure->count = i + 1;
        if (gflops > best_gflops) {
            best_gflops = gflops;
            best = product;
        }
    }
    if (best.name == NULL) return MR_EUNSUPPORTED;
    *ret = best;
    return 0;
}
