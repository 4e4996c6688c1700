/* SPDX-License-Identifier: Apache-2.0 */
/* The backward pass written by hand against ggml's autograd and against finite differences.
 *
 * A small random llama model is built twice from the same weights: packed for our pass, and as a
 * ggml graph whose gradients ggml derives itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include <ggml-cpu.h>
#include <ggml.h>

#include "train.h"

#define SEED         7u
#define LENGTH       13u /* odd, shorter than a vector */
#define SEGMENTS     3u
#define TOKENS       (LENGTH * SEGMENTS)
#define RANK         3u
#define MATRICES_MAX 64u

static const struct train_shape shape = {.embd = 24,
                                         .heads = 3,
                                         .kv_heads = 1,
                                         .head_dims = 8,
                                         .ff = 40,
                                         .layers = 2,
                                         .vocab = 53,
                                         .rope_dims = 8,
                                         .context = 64,
                                         .epsilon = 1e-5f,
                                         .rope_base = 10000.0f,
                                         .rope_scale = 1.0f};

struct world {
    struct train_model model;
    struct train_lora lora;
    struct train_pass *pass;
    float *weights[MATRICES_MAX]; /* in the order of train_model_random */
    size_t n[MATRICES_MAX], k[MATRICES_MAX], count;
    uint32_t ids[TOKENS], positions[TOKENS];
    int32_t targets[TOKENS];
    size_t starts[SEGMENTS + 1];
    struct train_batch batch;
};

static void keep(void *context, const float *weights, size_t n, size_t k)
{
    struct world *world = context;
    assert_true(world->count < MATRICES_MAX);
    float *copy = malloc(n * k * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, weights, n * k * sizeof *copy);
    world->weights[world->count] = copy;
    world->n[world->count] = n;
    world->k[world->count++] = k;
}

static void world_open(struct world *world, const char *way)
{
    struct train_product product;
    struct mr_prng prng;
    *world = (struct world){0};
    assert_int_equal(train_product_open_named(way, &product), 0);
    assert_int_equal(train_model_random(&shape, SEED, &product, 64, keep, world, &world->model), 0);
    assert_int_equal(train_lora_init(&shape, RANK, 6.0, SEED, &world->lora), 0);
    assert_int_equal(train_pass_new(&world->model, &world->lora, TOKENS, &world->pass), 0);
    mr_prng_init(&prng, SEED);
    /* B is zero at the start, which would hide half of the gradient. */
    for (size_t i = 0; i < world->lora.count; i++) {
        if (world->lora.weights[i] == 0.0f) {
            world->lora.weights[i] = (float)mr_prng_below(&prng, 1000) * 1e-4f - 0.05f;
        }
    }
    for (size_t t = 0; t < TOKENS; t++) {
        world->ids[t] = (uint32_t)mr_prng_below(&prng, shape.vocab);
        world->positions[t] = (uint32_t)(t % LENGTH);
        world->targets[t] = t % 4 == 0 ? -1 : (int32_t)mr_prng_below(&prng, shape.vocab);
    }
    for (size_t e = 0; e <= SEGMENTS; e++) {
        world->starts[e] = e * LENGTH;
    }
    world->batch = (struct train_batch){TOKENS,         SEGMENTS,         world->ids,
                                        world->targets, world->positions, world->starts};
}

static void world_close(struct world *world)
{
    for (size_t i = 0; i < world->count; i++) {
        free(world->weights[i]);
    }
    train_pass_free(world->pass);
    train_lora_done(&world->lora);
    train_model_done(&world->model);
}

static size_t target_count(const struct world *world)
{
    size_t count = 0;
    for (size_t t = 0; t < TOKENS; t++) {
        count += world->targets[t] >= 0;
    }
    return count;
}

/* --- the same in ggml ----------------------------------------------------------------------- */

struct oracle {
    struct world *world;
    struct ggml_context *context;
    size_t next;                       /* of the kept weights */
    struct ggml_tensor *a[64], *b[64]; /* trained, in the order of layers and parts */
    size_t pairs;
};

static struct ggml_tensor *frozen(struct oracle *o, size_t n, size_t k)
{
    size_t i = o->next++;
    assert_int_equal(o->world->n[i], n);
    assert_int_equal(o->world->k[i], k);
    struct ggml_tensor *w = ggml_new_tensor_2d(o->context, GGML_TYPE_F32, (int64_t)k, (int64_t)n);
    memcpy(w->data, o->world->weights[i], n * k * sizeof(float));
    return w;
}

/* W x + scale B A x */
static struct ggml_tensor *linear(struct oracle *o, const struct train_group *group, size_t part,
                                  struct ggml_tensor *w, struct ggml_tensor *x)
{
    const struct train_lora *lora = &o->world->lora;
    size_t out = group->part_out[part];
    struct ggml_tensor *a = ggml_new_tensor_2d(o->context, GGML_TYPE_F32, (int64_t)group->in, RANK);
    struct ggml_tensor *b = ggml_new_tensor_2d(o->context, GGML_TYPE_F32, RANK, (int64_t)out);
    memcpy(a->data, lora->weights + group->a + part * RANK * group->in,
           RANK * group->in * sizeof(float));
    for (size_t i = 0; i < out; i++) {
        for (size_t r = 0; r < RANK; r++) {
            ((float *)b->data)[i * RANK + r] = lora->weights[group->b[part] + r * out + i];
        }
    }
    ggml_set_param(a);
    ggml_set_param(b);
    o->a[o->pairs] = a;
    o->b[o->pairs++] = b;
    struct ggml_tensor *low = ggml_mul_mat(o->context, b, ggml_mul_mat(o->context, a, x));
    return ggml_add(o->context, ggml_mul_mat(o->context, w, x),
                    ggml_scale(o->context, low, lora->scale));
}

static struct ggml_tensor *norm(struct oracle *o, struct ggml_tensor *x, struct ggml_tensor *weight)
{
    struct ggml_tensor *y = ggml_rms_norm(o->context, x, shape.epsilon);
    return ggml_mul(o->context, y, weight);
}

/* Three dimensions: head_dims, heads, tokens; turned by position. */
static struct ggml_tensor *turned(struct oracle *o, struct ggml_tensor *x, size_t heads,
                                  struct ggml_tensor *positions)
{
    struct ggml_context *c = o->context;
    x = ggml_reshape_3d(c, x, (int64_t)shape.head_dims, (int64_t)heads, TOKENS);
    if (positions == NULL) return x;
    return ggml_rope_ext(c, x, positions, NULL, (int)shape.rope_dims, 0, 64, shape.rope_base, 1.0f,
                         0.0f, 1.0f, 0.0f, 0.0f);
}

static struct ggml_tensor *attention(struct oracle *o, struct ggml_tensor *q, struct ggml_tensor *k,
                                     struct ggml_tensor *v, struct ggml_tensor *mask)
{
    struct ggml_context *c = o->context;
    q = ggml_cont(c, ggml_permute(c, q, 0, 2, 1, 3));
    k = ggml_cont(c, ggml_permute(c, k, 0, 2, 1, 3));
    v = ggml_cont(c, ggml_permute(c, v, 1, 2, 0, 3));
    struct ggml_tensor *s = ggml_mul_mat(c, k, q);
    s = ggml_soft_max_ext(c, s, mask, 1.0f / sqrtf((float)shape.head_dims), 0.0f);
    struct ggml_tensor *y = ggml_mul_mat(c, v, s);
    y = ggml_cont(c, ggml_permute(c, y, 0, 2, 1, 3));
    return ggml_reshape_2d(c, y, (int64_t)(shape.heads * shape.head_dims), TOKENS);
}

static struct ggml_tensor *layer(struct oracle *o, size_t i, struct ggml_tensor *x,
                                 struct ggml_tensor *positions, struct ggml_tensor *mask)
{
    const struct train_group *g = &o->world->lora.groups[i * TRAIN_GROUPS];
    struct ggml_context *c = o->context;
    size_t q_out = shape.heads * shape.head_dims, kv = shape.kv_heads * shape.head_dims;
    struct ggml_tensor *in = norm(o, x, frozen(o, 1, shape.embd));
    struct ggml_tensor *q = linear(o, &g[0], 0, frozen(o, q_out, shape.embd), in);
    struct ggml_tensor *k = linear(o, &g[0], 1, frozen(o, kv, shape.embd), in);
    struct ggml_tensor *v = linear(o, &g[0], 2, frozen(o, kv, shape.embd), in);
    struct ggml_tensor *y =
        attention(o, turned(o, q, shape.heads, positions), turned(o, k, shape.kv_heads, positions),
                  turned(o, v, shape.kv_heads, NULL), mask);
    x = ggml_add(c, x, linear(o, &g[1], 0, frozen(o, shape.embd, q_out), y));
    in = norm(o, x, frozen(o, 1, shape.embd));
    struct ggml_tensor *gate = linear(o, &g[2], 0, frozen(o, shape.ff, shape.embd), in);
    struct ggml_tensor *up = linear(o, &g[2], 1, frozen(o, shape.ff, shape.embd), in);
    struct ggml_tensor *act = ggml_mul(c, ggml_silu(c, gate), up);
    return ggml_add(c, x, linear(o, &g[3], 0, frozen(o, shape.embd, shape.ff), act));
}

static struct ggml_tensor *mask_new(struct oracle *o)
{
    struct ggml_tensor *mask = ggml_new_tensor_2d(o->context, GGML_TYPE_F32, TOKENS, TOKENS);
    for (size_t i = 0; i < TOKENS; i++) {
        for (size_t j = 0; j < TOKENS; j++) {
            bool seen = j <= i && i / LENGTH == j / LENGTH;
            ((float *)mask->data)[i * TOKENS + j] = seen ? 0.0f : -INFINITY;
        }
    }
    return mask;
}

/* The mean over wanted tokens, times their count, is the sum that our pass returns. */
static struct ggml_tensor *loss_of(struct oracle *o, struct ggml_tensor *x)
{
    struct ggml_context *c = o->context;
    size_t wanted = target_count(o->world), at = 0;
    struct ggml_tensor *rows = ggml_new_tensor_1d(c, GGML_TYPE_I32, (int64_t)wanted);
    struct ggml_tensor *labels =
        ggml_new_tensor_2d(c, GGML_TYPE_F32, (int64_t)shape.vocab, (int64_t)wanted);
    memset(labels->data, 0, ggml_nbytes(labels));
    for (size_t t = 0; t < TOKENS; t++) {
        if (o->world->targets[t] < 0) continue;
        ((int32_t *)rows->data)[at] = (int32_t)t;
        ((float *)labels->data)[at * shape.vocab + (size_t)o->world->targets[t]] = 1.0f;
        at++;
    }
    size_t last = o->next;
    o->next = 0;
    struct ggml_tensor *head = frozen(o, shape.vocab, shape.embd);
    o->next = last;
    struct ggml_tensor *logits = ggml_mul_mat(c, head, ggml_get_rows(c, x, rows));
    return ggml_cross_entropy_loss(c, logits, labels);
}

/* Builds, runs, and compares the loss and every gradient; returns the worst relative error. */
static double against_autograd(struct world *world, double *ret_loss)
{
    struct ggml_init_params params = {.mem_size = (size_t)256 * 1024 * 1024};
    struct oracle o = {.world = world, .context = ggml_init(params)};
    struct ggml_context *c = o.context;
    assert_non_null(c);
    struct ggml_tensor *positions = ggml_new_tensor_1d(c, GGML_TYPE_I32, TOKENS);
    struct ggml_tensor *ids = ggml_new_tensor_1d(c, GGML_TYPE_I32, TOKENS);
    for (size_t t = 0; t < TOKENS; t++) {
        ((int32_t *)positions->data)[t] = (int32_t)world->positions[t];
        ((int32_t *)ids->data)[t] = (int32_t)world->ids[t];
    }
    struct ggml_tensor *mask = mask_new(&o);
    struct ggml_tensor *x = ggml_get_rows(c, frozen(&o, shape.vocab, shape.embd), ids);
    for (size_t i = 0; i < shape.layers; i++) {
        x = layer(&o, i, x, positions, mask);
    }
    x = norm(&o, x, frozen(&o, 1, shape.embd));
    assert_int_equal(o.next, world->count);
    struct ggml_tensor *loss = loss_of(&o, x);
    ggml_set_loss(loss);
    struct ggml_cgraph *graph = ggml_new_graph_custom(c, 8192, true);
    ggml_build_forward_expand(graph, loss);
    ggml_build_backward_expand(c, graph, NULL);
    ggml_graph_reset(graph);
    assert_int_equal(ggml_graph_compute_with_ctx(c, graph, 1), GGML_STATUS_SUCCESS);
    *ret_loss = (double)*(float *)loss->data * (double)target_count(world);

    double worst = 0;
    size_t pair = 0;
    for (size_t i = 0; i < shape.layers * TRAIN_GROUPS; i++) {
        const struct train_group *group = &world->lora.groups[i];
        for (size_t part = 0; part < group->parts; part++, pair++) {
            const float *da = ggml_graph_get_grad(graph, o.a[pair])->data;
            const float *db = ggml_graph_get_grad(graph, o.b[pair])->data;
            const float *a = world->lora.gradient + group->a + part * RANK * group->in;
            const float *b = world->lora.gradient + group->b[part];
            size_t out = group->part_out[part];
            double largest = 0, difference = 0;
            for (size_t j = 0; j < RANK * group->in; j++) {
                largest = fmax(largest, fabs((double)da[j]));
                difference = fmax(difference, fabs((double)da[j] - (double)a[j]));
            }
            for (size_t j = 0; j < out; j++) {
                for (size_t r = 0; r < RANK; r++) {
                    double want = (double)db[j * RANK + r];
                    largest = fmax(largest, fabs(want));
                    difference = fmax(difference, fabs(want - (double)b[r * out + j]));
                }
            }
            assert_true(largest > 1e-6); /* a gradient of nothing would agree with anything */
            worst = fmax(worst, difference / largest);
        }
    }
    ggml_free(c);
    return worst;
}

static double pass_once(struct world *world, float scale)
{
    double loss = 0;
    memset(world->lora.gradient, 0, world->lora.count * sizeof(float));
    assert_int_equal(train_pass_run(world->pass, &world->batch, scale, &loss), 0);
    return loss;
}

static void gradients_agree_with_autograd_to_1e5(void **unused)
{
    (void)unused;
    struct world world;
    double theirs;
    world_open(&world, "own-f32");
    double ours = pass_once(&world, 1.0f / (float)target_count(&world));
    double worst = against_autograd(&world, &theirs);
    print_message("loss %.9f, autograd's %.9f, worst gradient %.2e\n", ours, theirs, worst);
    assert_true(fabs(ours - theirs) < 1e-5 * theirs);
    assert_true(worst < 1e-5);
    world_close(&world);
}

static void gradients_agree_with_finite_differences_to_1e2(void **unused)
{
    (void)unused;
    struct world world;
    struct mr_prng prng;
    world_open(&world, "own-f32");
    (void)pass_once(&world, 1.0f);
    float *gradient = malloc(world.lora.count * sizeof *gradient);
    assert_non_null(gradient);
    memcpy(gradient, world.lora.gradient, world.lora.count * sizeof *gradient);
    mr_prng_init(&prng, SEED);
    /* Along random directions: each tries all parameters at once. */
    for (int direction = 0; direction < 20; direction++) {
        float *saved = malloc(world.lora.count * sizeof *saved);
        double expected = 0, step = 2e-3, losses[2];
        struct mr_prng same = prng;
        assert_non_null(saved);
        memcpy(saved, world.lora.weights, world.lora.count * sizeof *saved);
        for (size_t i = 0; i < world.lora.count; i++) {
            double sign = mr_prng_next(&prng) & 1u ? 1.0 : -1.0;
            expected += sign * (double)gradient[i];
        }
        for (int side = 0; side < 2; side++) {
            struct mr_prng again = same;
            for (size_t i = 0; i < world.lora.count; i++) {
                double sign = mr_prng_next(&again) & 1u ? 1.0 : -1.0;
                world.lora.weights[i] = saved[i] + (float)(side == 0 ? sign * step : -sign * step);
            }
            losses[side] = pass_once(&world, 0);
        }
        memcpy(world.lora.weights, saved, world.lora.count * sizeof *saved);
        double measured = (losses[0] - losses[1]) / (2 * step);
        assert_true(fabs(measured - expected) < 1e-2 * fmax(fabs(expected), 10.0));
        free(saved);
    }
    free(gradient);
    world_close(&world);
}

static void every_product_gives_the_same_loss_within_its_precision(void **unused)
{
    (void)unused;
    struct train_product product;
    double reference = -1;
    for (size_t i = 0; train_product_open(i, &product) == 0; i++) {
        struct world world;
        bool halves = strstr(product.name, "bf16") != NULL;
        world_open(&world, product.name);
        double loss = pass_once(&world, 1.0f);
        double norm_squared = 0;
        for (size_t j = 0; j < world.lora.count; j++) {
            norm_squared += (double)world.lora.gradient[j] * (double)world.lora.gradient[j];
        }
        print_message("%s: loss %.6f, gradient %.6f\n", product.name, loss, sqrt(norm_squared));
        if (reference < 0) {
            reference = loss; /* own-f32 */
        }
        assert_true(fabs(loss - reference) < (halves ? 1e-2 : 1e-5) * reference);
        assert_true(norm_squared > 0);
        world_close(&world);
    }
}

static void examples_in_one_pass_do_not_see_each_other(void **unused)
{
    (void)unused;
    struct world world;
    double together, alone = 0;
    world_open(&world, "own-f32");
    together = pass_once(&world, 1.0f);
    float *gradient = malloc(world.lora.count * sizeof *gradient);
    assert_non_null(gradient);
    memcpy(gradient, world.lora.gradient, world.lora.count * sizeof *gradient);
    memset(world.lora.gradient, 0, world.lora.count * sizeof *gradient);
    for (size_t e = 0; e < SEGMENTS; e++) {
        size_t starts[2] = {0, LENGTH}, at = e * LENGTH;
        struct train_batch one = {
            LENGTH, 1, world.ids + at, world.targets + at, world.positions + at, starts};
        assert_int_equal(train_pass_run(world.pass, &one, 1.0f, &alone), 0);
    }
    assert_true(fabs(together - alone) < 1e-5 * together);
    for (size_t i = 0; i < world.lora.count; i++) {
        assert_true(fabsf(gradient[i] - world.lora.gradient[i]) < 1e-4f);
    }
    free(gradient);
    world_close(&world);
}

static void equal_passes_give_equal_bits(void **unused)
{
    (void)unused;
    struct train_product product;
    for (size_t i = 0; train_product_open(i, &product) == 0; i++) {
        struct world world;
        world_open(&world, product.name);
        double first = pass_once(&world, 1.0f);
        uint64_t hash = mr_hash64(world.lora.gradient, world.lora.count * sizeof(float), 0);
        double second = pass_once(&world, 1.0f);
        assert_true(first == second);
        assert_true(hash == mr_hash64(world.lora.gradient, world.lora.count * sizeof(float), 0));
        world_close(&world);
    }
}

static void a_few_steps_learn_one_batch(void **unused)
{
    (void)unused;
    struct world world;
    world_open(&world, "own-f32");
    double before = pass_once(&world, 0);
    for (int step = 1; step <= 60; step++) {
        struct train_adamw adamw = {.rate = 0.02f,
                                    .beta1 = 0.9f,
                                    .beta2 = 0.999f,
                                    .epsilon = 1e-8f,
                                    .correction1 = 1.0f - powf(0.9f, (float)step),
                                    .correction2 = 1.0f - powf(0.999f, (float)step),
                                    .gradient_scale = 1.0f};
        (void)pass_once(&world, 1.0f / (float)target_count(&world));
        world.model.product.kernels->adamw(&adamw, world.lora.count, world.lora.gradient,
                                           world.lora.m, world.lora.v, world.lora.weights);
    }
    double after = pass_once(&world, 0);
    print_message("loss %.3f to %.3f\n", before, after);
    assert_true(after < before * 0.5);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_agree_with_autograd_to_1e5),
        cmocka_unit_test(gradients_agree_with_finite_differences_to_1e2),
        cmocka_unit_test(every_product_gives_the_same_loss_within_its_precision),
        cmocka_unit_test(examples_in_one_pass_do_not_see_each_other),
        cmocka_unit_test(equal_passes_give_equal_bits),
        cmocka_unit_test(a_few_steps_learn_one_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
