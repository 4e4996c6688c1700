/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of whole runs need of libllama and ggml.
 *
 *   train_helper tiny BASE OUT         a random model of two thin layers with BASE's vocabulary
 *   train_helper adapter BASE ADAPTER  loads both as serving does; prints the largest change of a
 *                                      logit, and fails when there is none
 *   train_helper compare BASE PERMILLE  our loss on a sentence beside the one from libllama's
 * logits
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <ggml.h>
#include <gguf.h>
#include <llama.h>

#include "train.h"

#define TINY_EMBD   32u
#define TINY_FF     48u
#define TINY_LAYERS 2u

static void quiet(enum ggml_log_level level, const char *text, void *context)
{
    (void)level;
    (void)text;
    (void)context;
}

static int fail(const char *what)
{
    fprintf(stderr, "train_helper: %s\n", what);
    return 1;
}

/* --- tiny ----------------------------------------------------------------------------------- */

static void tensor_add(struct ggml_context *context, struct gguf_context *gguf,
                       struct mr_prng *prng, const char *name, size_t n, size_t k)
{
    struct ggml_tensor *t =
        n == 1 ? ggml_new_tensor_1d(context, GGML_TYPE_F32, (int64_t)k)
               : ggml_new_tensor_2d(context, GGML_TYPE_F32, (int64_t)k, (int64_t)n);
    float *w = t->data;
    (void)ggml_set_name(t, name);
    for (size_t i = 0; i < n * k; i++) {
        float u = (float)mr_prng_below(prng, 2001) * 1e-3f - 1.0f;
        w[i] = n == 1 ? 1.0f : u / sqrtf((float)k);
    }
    gguf_add_tensor(gguf, t);
}

static int tiny(const char *base, const char *out)
{
    struct gguf_init_params none = {.no_alloc = true};
    struct gguf_context *from = gguf_init_from_file(base, none);
    struct gguf_context *gguf = gguf_init_empty();
    struct ggml_init_params params = {.mem_size = (size_t)64 * 1024 * 1024};
    struct ggml_context *context = ggml_init(params);
    struct mr_prng prng;
    if (from == NULL || gguf == NULL || context == NULL) return fail("cannot read the base");
    mr_prng_init(&prng, 5);
    gguf_set_kv(gguf, from);
    gguf_set_val_u32(gguf, "llama.block_count", TINY_LAYERS);
    gguf_set_val_u32(gguf, "llama.embedding_length", TINY_EMBD);
    gguf_set_val_u32(gguf, "llama.feed_forward_length", TINY_FF);
    gguf_set_val_u32(gguf, "llama.attention.head_count", 4);
    gguf_set_val_u32(gguf, "llama.attention.head_count_kv", 2);
    gguf_set_val_u32(gguf, "llama.rope.dimension_count", 8);
    tensor_add(context, gguf, &prng, "token_embd.weight", 49152, TINY_EMBD);
    tensor_add(context, gguf, &prng, "output_norm.weight", 1, TINY_EMBD);
    for (size_t i = 0; i < TINY_LAYERS; i++) {
        static const struct {
            const char *name;
            size_t n, k;
        } tensors[] = {{"attn_norm", 1, TINY_EMBD},      {"attn_q", 32, TINY_EMBD},
                       {"attn_k", 16, TINY_EMBD},        {"attn_v", 16, TINY_EMBD},
                       {"attn_output", TINY_EMBD, 32},   {"ffn_norm", 1, TINY_EMBD},
                       {"ffn_gate", TINY_FF, TINY_EMBD}, {"ffn_up", TINY_FF, TINY_EMBD},
                       {"ffn_down", TINY_EMBD, TINY_FF}};
        for (size_t j = 0; j < MR_COUNT_OF(tensors); j++) {
            char name[64];
            (void)snprintf(name, sizeof name, "blk.%zu.%s.weight", i, tensors[j].name);
            tensor_add(context, gguf, &prng, name, tensors[j].n, tensors[j].k);
        }
    }
    bool written = gguf_write_to_file(gguf, out, false);
    gguf_free(from);
    gguf_free(gguf);
    ggml_free(context);
    return written ? 0 : fail("cannot write the tiny model");
}

/* --- with libllama --------------------------------------------------------------------------- */

static const char sentence[] = "The lighthouse keeper counted the ships again before the storm.";

struct served {
    struct llama_model *model;
    struct llama_adapter_lora *adapter;
    int32_t ids[64];
    int32_t count, vocab;
    float *logits; /* [count][vocab] */
};

static int served_run(struct served *served)
{
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = 128;
    params.n_threads = params.n_threads_batch = 1;
    struct llama_context *context = llama_init_from_model(served->model, params);
    struct llama_batch batch = llama_batch_init(64, 0, 1);
    float scale = 1.0f;
    int error = context == NULL;
    if (error == 0 && served->adapter != NULL) {
        error = llama_set_adapters_lora(context, &served->adapter, 1, &scale);
    }
    for (int32_t i = 0; i < served->count; i++) {
        batch.token[i] = served->ids[i];
        batch.pos[i] = i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    batch.n_tokens = served->count;
    error = error != 0 || llama_decode(context, batch) != 0;
    for (int32_t i = 0; error == 0 && i < served->count; i++) {
        memcpy(served->logits + (size_t)i * (size_t)served->vocab, llama_get_logits_ith(context, i),
               (size_t)served->vocab * sizeof(float));
    }
    llama_batch_free(batch);
    llama_free(context);
    return error;
}

static int served_open(struct served *served, const char *base)
{
    struct llama_model_params params = llama_model_default_params();
    *served = (struct served){.model = llama_model_load_from_file(base, params)};
    if (served->model == NULL) return fail("libllama does not load the base");
    const struct llama_vocab *vocab = llama_model_get_vocab(served->model);
    served->vocab = llama_vocab_n_tokens(vocab);
    served->count = llama_tokenize(vocab, sentence, (int32_t)sizeof sentence - 1, served->ids, 64,
                                   false, false);
    served->logits = malloc((size_t)served->count * (size_t)served->vocab * sizeof(float));
    return served->count < 2 || served->logits == NULL ? fail("cannot tokenize") : 0;
}

static int adapter(const char *base, const char *path)
{
    struct served served;
    if (served_open(&served, base) != 0 || served_run(&served) != 0) return fail("no logits");
    size_t n = (size_t)served.count * (size_t)served.vocab;
    float *before = malloc(n * sizeof *before);
    if (before == NULL) return fail("out of memory");
    memcpy(before, served.logits, n * sizeof *before);
    served.adapter = llama_adapter_lora_init(served.model, path);
    if (served.adapter == NULL) return fail("libllama does not load the adapter");
    if (served_run(&served) != 0) return fail("no logits with the adapter");
    double largest = 0;
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)before[i] - (double)served.logits[i]));
    }
    printf("%.6f\n", largest);
    free(before);
    free(served.logits);
    llama_model_free(served.model);
    return largest > 1e-3 ? 0 : fail("the adapter changes nothing");
}

/* --- our forward pass beside libllama's ------------------------------------------------------ */

static double libllama_loss(const struct served *served)
{
    double total = 0;
    for (int32_t i = 0; i + 1 < served->count; i++) {
        const float *row = served->logits + (size_t)i * (size_t)served->vocab;
        double most = -1e30, sum = 0;
        for (int32_t j = 0; j < served->vocab; j++) {
            most = fmax(most, (double)row[j]);
        }
        for (int32_t j = 0; j < served->vocab; j++) {
            sum += exp((double)row[j] - most);
        }
        total += most + log(sum) - (double)row[served->ids[i + 1]];
    }
    return total / (served->count - 1);
}

static int compare(const char *base, const char *permille)
{
    struct served served;
    struct train_problem problem;
    struct train_product product;
    struct train_model model;
    struct train_lora lora;
    struct train_pass *pass;
    uint32_t ids[64], positions[64];
    int32_t targets[64];
    if (served_open(&served, base) != 0 || served_run(&served) != 0) return fail("no logits");
    size_t tokens = (size_t)served.count - 1, starts[2] = {0, tokens};
    double loss = 0, theirs = libllama_loss(&served);
    for (size_t i = 0; i < tokens; i++) {
        ids[i] = (uint32_t)served.ids[i];
        positions[i] = (uint32_t)i;
        targets[i] = served.ids[i + 1];
    }
    if (train_product_open_named("own-f32", &product) != 0 ||
        train_model_load(base, &product, 64, &model, &problem) != 0 ||
        train_lora_init(&model.shape, 4, 8, 1, &lora) != 0 ||
        train_pass_new(&model, &lora, 64, &pass) != 0) {
        return fail("our model does not load");
    }
    struct train_batch batch = {tokens, 1, ids, targets, positions, starts};
    if (train_pass_run(pass, &batch, 0, &loss) != 0) return fail("our pass fails");
    loss /= (double)tokens;
    printf("%.6f %.6f\n", loss, theirs);
    train_pass_free(pass);
    train_lora_done(&lora);
    train_model_done(&model);
    free(served.logits);
    llama_model_free(served.model);
    uint64_t allowed = 0;
    if (mr_str_to_u64(mr_str_from(permille), &allowed) != 0) return fail("not a number");
    return fabs(loss - theirs) * 1000.0 < (double)allowed * theirs ? 0 : fail("the losses differ");
}

int main(int argc, char **argv)
{
    llama_log_set(quiet, NULL);
    ggml_log_set(quiet, NULL);
    if (argc == 4 && strcmp(argv[1], "tiny") == 0) return tiny(argv[2], argv[3]);
    if (argc == 4 && strcmp(argv[1], "adapter") == 0) return adapter(argv[2], argv[3]);
    if (argc == 4 && strcmp(argv[1], "compare") == 0) return compare(argv[2], argv[3]);
    return fail("see the top of train_helper.c");
}
