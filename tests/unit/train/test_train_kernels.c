/* SPDX-License-Identifier: Apache-2.0 */
/* Every table of inner loops that this CPU can run, against plain double arithmetic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "train.h"

#define SEED 11u

static size_t tables(const struct train_kernels *ret[4])
{
    size_t count = 0;
    ret[count++] = &train_kernels_base;
#if defined(__x86_64__)
    const char *best = train_kernels_find()->isa;
    if (strcmp(best, "base") != 0) ret[count++] = &train_kernels_avx2;
    if (strcmp(best, "avx512") == 0 || strcmp(best, "bf16") == 0)
        ret[count++] = &train_kernels_avx512;
    if (strcmp(best, "bf16") == 0) ret[count++] = &train_kernels_bf16;
#endif
    return count;
}

static float *random_floats(struct mr_prng *prng, size_t n)
{
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 64, (n + 16) * sizeof(float)), 0);
    float *x = p;
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)mr_prng_below(prng, 2000) * 1e-3f - 1.0f;
    }
    return x;
}

/* Sizes around every edge: rows of a tile, columns of a panel, the block of k, odd k. */
static const size_t product_sizes[][3] = {{1, 1, 1},     {3, 33, 7},    {12, 32, 16},
                                          {13, 31, 17},  {29, 65, 768}, {5, 40, 769},
                                          {4, 96, 1537}, {25, 7, 2305}};

static void products_are_right_at_every_edge(void **unused)
{
    (void)unused;
    const struct train_kernels *all[4];
    struct mr_prng prng;
    mr_prng_init(&prng, SEED);
    for (size_t table = 0, count = tables(all); table < count; table++) {
        for (size_t s = 0; s < MR_COUNT_OF(product_sizes); s++) {
            const struct train_kernels *kernels = all[table];
            size_t m = product_sizes[s][0], n = product_sizes[s][1], k = product_sizes[s][2];
            size_t padded = (n + kernels->panel - 1) / kernels->panel * kernels->panel;
            float *x = random_floats(&prng, m * k), *w = random_floats(&prng, n * k);
            float *turned = random_floats(&prng, n * k), *y = random_floats(&prng, m * n);
            float *packed = random_floats(&prng, padded * (k + 1));
            uint16_t *scratch = malloc(m * (k + 2) * sizeof *scratch);
            for (size_t i = 0; i < n * k; i++) {
                turned[(i % k) * n + i / k] = w[i];
            }
            for (int way = 0; way < 4; way++) {
                bool halves = way >= 2, transposed = way % 2 == 1;
                if (halves && !kernels->has_bf16) continue;
                if (halves) {
                    kernels->pack_bf16(transposed ? turned : w, n, k, transposed, (void *)packed);
                    kernels->product_bf16(x, k, (void *)packed, y, n, m, n, k, scratch);
                } else {
                    kernels->pack_f32(transposed ? turned : w, n, k, transposed, packed);
                    kernels->product_f32(x, k, packed, y, n, m, n, k);
                }
                for (size_t i = 0; i < m * n; i++) {
                    double want = 0, size = 0;
                    for (size_t j = 0; j < k; j++) {
                        double term = (double)x[i / n * k + j] * (double)w[i % n * k + j];
                        want += term;
                        size += fabs(term);
                    }
                    assert_true(fabs((double)y[i] - want) <= size * (halves ? 8e-3 : 1e-6) + 1e-6);
                }
            }
            free(x);
            free(w);
            free(turned);
            free(y);
            free(packed);
            free(scratch);
        }
    }
}

static void small_products_are_right_at_every_edge(void **unused)
{
    (void)unused;
    static const size_t sizes[][3] = {
        {1, 1, 1}, {7, 17, 3}, {6, 64, 8}, {13, 83, 24}, {24, 5, 130}};
    const struct train_kernels *all[4];
    struct mr_prng prng;
    mr_prng_init(&prng, SEED);
    for (size_t table = 0, count = tables(all); table < count; table++) {
        for (size_t s = 0; s < MR_COUNT_OF(sizes); s++) {
            size_t m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];
            float *p = random_floats(&prng, m * k), *q = random_floats(&prng, k * n);
            float *c = random_floats(&prng, m * n), *before = malloc(m * n * sizeof *before);
            memcpy(before, c, m * n * sizeof *c);
            /* p is given turned: element (i, j) lies at j * m + i. */
            all[table]->small_nn(m, n, k, 0.5f, p, 1, m, q, n, true, c, n);
            for (size_t i = 0; i < m * n; i++) {
                double want = (double)before[i];
                for (size_t j = 0; j < k; j++) {
                    want += 0.5 * (double)p[j * m + i / n] * (double)q[j * n + i % n];
                }
                assert_true(fabs((double)c[i] - want) < 1e-4);
            }
            all[table]->small_nt(m, n, k, 2.0f, p, k, q, k, c, n);
            for (size_t i = 0; i < m * n; i++) {
                double want = 0;
                for (size_t j = 0; j < k; j++) {
                    want += 2.0 * (double)p[i / n * k + j] * (double)q[i % n * k + j];
                }
                assert_true(fabs((double)c[i] - want) < 1e-4);
            }
            free(p);
            free(q);
            free(c);
            free(before);
        }
    }
}

static void cross_entropy_holds_for_logits_far_apart(void **unused)
{
    (void)unused;
    const struct train_kernels *all[4];
    for (size_t table = 0, count = tables(all); table < count; table++) {
        float logits[37];
        for (size_t i = 0; i < 37; i++) {
            logits[i] = i == 5 ? 300.0f : -300.0f + (float)i;
        }
        double loss = all[table]->cross_entropy(logits, 37, 5, 1.0f, true);
        assert_true(fabs(loss) < 1e-6);
        for (size_t i = 0; i < 37; i++) {
            assert_true(fabsf(logits[i]) < 1e-6f); /* nothing left to learn */
        }
        for (size_t i = 0; i < 37; i++) {
            logits[i] = 2.0f;
        }
        loss = all[table]->cross_entropy(logits, 37, 36, 0.5f, true);
        assert_true(fabs(loss - log(37.0)) < 1e-5);
        assert_true(fabsf(logits[36] - 0.5f * (1.0f / 37.0f - 1.0f)) < 1e-6f);
        assert_true(fabsf(logits[0] - 0.5f / 37.0f) < 1e-6f);
    }
}

static void a_query_sees_nothing_behind_itself(void **unused)
{
    (void)unused;
    const struct train_kernels *all[4];
    for (size_t table = 0, count = tables(all); table < count; table++) {
        float s[3 * 48], lse[3];
        for (size_t i = 0; i < 3 * 48; i++) {
            s[i] = (float)(i % 7) * 0.3f;
        }
        all[table]->softmax(s, 48, 3, 48, 20, false, lse);
        for (size_t t = 0; t < 3; t++) {
            double sum = 0;
            for (size_t i = 0; i < 48; i++) {
                sum += (double)s[t * 48 + i];
                assert_true(i < 20 + t ? s[t * 48 + i] > 0 : s[t * 48 + i] == 0.0f);
            }
            assert_true(fabs(sum - 1.0) < 1e-5);
        }
    }
}

static void products_are_found_by_name_and_number(void **unused)
{
    (void)unused;
    struct train_product product;
    size_t count = 0;
    while (train_product_open(count, &product) == 0) {
        struct train_product named;
        assert_int_equal(train_product_open_named(product.name, &named), 0);
        assert_string_equal(named.name, product.name);
        count++;
    }
    assert_in_range(count, 3, TRAIN_PRODUCTS_MAX);
    assert_int_equal(train_product_open_named("no-such", &product), MR_ENOT_FOUND);
}

static void the_fastest_product_is_chosen(void **unused)
{
    (void)unused;
    const size_t shapes[][2] = {{64, 64}, {96, 128}};
    struct train_measure measure;
    struct train_product product;
    assert_int_equal(train_product_choose(shapes, 2, &measure, &product), 0);
    double best = 0;
    for (size_t i = 0; i < measure.count; i++) {
        assert_true(measure.gflops[i] > 0);
        best = fmax(best, measure.gflops[i]);
    }
    for (size_t i = 0; i < measure.count; i++) {
        if (strcmp(measure.names[i], product.name) == 0) assert_true(measure.gflops[i] == best);
    }
    train_product_done(&product);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_right_at_every_edge),
        cmocka_unit_test(small_products_are_right_at_every_edge),
        cmocka_unit_test(cross_entropy_holds_for_logits_far_apart),
        cmocka_unit_test(a_query_sees_nothing_behind_itself),
        cmocka_unit_test(products_are_found_by_name_and_number),
        cmocka_unit_test(the_fastest_product_is_chosen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
