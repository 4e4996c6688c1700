/* SPDX-License-Identifier: Apache-2.0 */
/* Private to work/train and its tests: supervised fine-tuning with LoRA of llama-architecture
 * models.
 *
 * A model is frozen and packed for the matrix product that is fastest here; all that is trained
 * lies in one contiguous vector, and its gradient in another, so that ranks join with one
 * all-reduce. Errors for people are written once, where they are found, into a train_problem.
 */
#ifndef TRAIN_H
#define TRAIN_H

#include <signal.h>
#include <stdio.h>

#include "base/base.h"
#include "train_kernels.h"

#define TRAIN_PATH_BYTES_MAX 4096u
#define TRAIN_RANK_MAX       256u
#define TRAIN_SEQUENCE_MAX   8192u
#define TRAIN_SEQUENCE_MIN   8u
#define TRAIN_BATCH_MAX      4096u
#define TRAIN_STEPS_MAX      10000000u
#define TRAIN_EPOCHS_MAX     10000u
#define TRAIN_LINE_BYTES_MAX (4u * 1024u * 1024u)
#define TRAIN_DATA_BYTES_MAX (2ull * 1024u * 1024u * 1024u)
#define TRAIN_EXAMPLES_MAX   10000000u
#define TRAIN_LAYERS_MAX     256u
#define TRAIN_PASS_TOKENS    256u /* examples are put together until a pass has so many tokens */
#define TRAIN_EXIT_AGAIN     75
#define TRAIN_LINEARS        7u
#define TRAIN_GROUPS         4u

/* One line for a person: what, where, what to do. */
struct train_problem {
    char text[512];
};
int train_problem_set(struct train_problem *problem, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* --- what to do: the `train` map ------------------------------------------------------------ */

struct train_spec {
    char model[TRAIN_PATH_BYTES_MAX];
    char data[TRAIN_PATH_BYTES_MAX];
    char out[TRAIN_PATH_BYTES_MAX];
    double epochs;
    uint32_t max_steps; /* 0: by epochs */
    double learning_rate;
    double weight_decay;
    uint32_t warmup_steps;
    uint32_t batch; /* examples in one step, whatever the number of ranks */
    uint32_t rank;  /* of the adapter */
    double alpha;   /* 0: twice the rank */
    uint32_t sequence_tokens;
    uint64_t seed;
    uint32_t checkpoint_every_steps; /* 0: by time */
    double held_out;                 /* share of the examples */
};
void train_spec_init(struct train_spec *spec);
/* Unknown fields are refused by name. */
int train_spec_parse(struct mr_str json, struct train_spec *spec, struct train_problem *problem);

/* --- matrix products ------------------------------------------------------------------------ */

struct train_product {
    const char *name;
    const struct train_kernels *kernels;
    const struct train_product_how *how;
    void *scratch; /* grows in run; freed by train_product_done */
    size_t scratch_bytes;
};
/* The ways that this machine has, by number from 0; MR_ENOT_FOUND past the last. */
int train_product_open(size_t index, struct train_product *ret);
/* MR_ENOT_FOUND when there is no such way here. */
int train_product_open_named(const char *name, struct train_product *ret);
void train_product_done(struct train_product *product);
size_t train_product_bytes(const struct train_product *product, size_t n, size_t k);
/* Packs w[n][k], or its transpose given as w[k][n]. `packed` is 64-byte aligned. */
void train_product_pack(const struct train_product *product, const float *w, size_t n, size_t k,
                        bool transposed, void *packed);
/* y[m][n] = x[m][k] * w^T; MR_ENO_MEMORY when the scratch cannot grow. */
int train_product_run(struct train_product *product, const float *x, size_t ldx, const void *packed,
                      float *y, size_t ldy, size_t m, size_t n, size_t k);
/* Measures all ways on a model's shapes and opens the fastest; gflops[i] by index (0: absent). */
#define TRAIN_PRODUCTS_MAX 8u
struct train_measure {
    size_t count;
    const char *names[TRAIN_PRODUCTS_MAX];
    double gflops[TRAIN_PRODUCTS_MAX];
};
int train_product_choose(const size_t shapes[][2], size_t shape_count,
                         struct train_measure *measure, struct train_product *ret);

/* --- the model ------------------------------------------------------------------------------ */

struct train_shape {
    size_t embd, heads, kv_heads, head_dims, ff, layers, vocab, rope_dims, context;
    float epsilon, rope_base, rope_scale;
};

/* Linear layers that share their input are one product: qkv, output, gate and up, down. */
struct train_group {
    size_t in, out, parts;
    size_t part_out[3];   /* columns of each part */
    size_t a;             /* offset of A[parts * rank][in] in the parameters */
    size_t b[3];          /* offset of each part's B^T[rank][part_out] */
    const char *names[3]; /* of the base tensors, without blk.N. and .weight */
};

struct train_matrix {
    size_t n, k;
    void *forward, *back;
};

struct train_layer {
    float *attn_norm, *ffn_norm;
    struct train_matrix groups[TRAIN_GROUPS];
};

struct train_model {
    struct train_shape shape;
    struct train_product product;
    struct train_layer *layers;
    float *output_norm;
    struct train_matrix head;
    float *rope_cosine, *rope_sine; /* [context][rope_dims / 2] */
    size_t positions;
    const uint8_t *embedding; /* rows in their own type, inside `file` */
    int embedding_type;
    size_t embedding_row_bytes;
    uint8_t *file; /* the mapped GGUF, or NULL when made in memory */
    size_t file_bytes;
    struct mr_arena arena; /* small things */
    void **blocks;         /* large ones */
    size_t block_count;
};

/* The geometry and limits of a GGUF; says what is not supported. Cheap: reads the header only. */
int train_model_look(const char *path, struct train_shape *ret, struct train_problem *problem);
/* Loads and packs; takes the product over on success. `positions`: longest sequence. */
int train_model_load(const char *path, struct train_product *product, size_t positions,
                     struct train_model *ret, struct train_problem *problem);
/* Random weights, for benches and tests: the same for equal seeds. With `keep` not NULL every
 * matrix is handed out as f32 too, in the order embedding, per layer (attn_norm, q, k, v, output,
 * ffn_norm, gate, up, down), output_norm. The head is the embedding. */
typedef void (*train_keep_fn)(void *context, const float *weights, size_t n, size_t k);
int train_model_random(const struct train_shape *shape, uint64_t seed,
                       struct train_product *product, size_t positions, train_keep_fn keep,
                       void *context, struct train_model *ret);
void train_model_done(struct train_model *model);
/* The shapes to measure products with; returns the count, at most 8. */
size_t train_shape_products(const struct train_shape *shape, size_t ret[8][2]);
uint64_t train_shape_hash(const struct train_shape *shape);
/* Used by both loaders. */
int train_model_prepare(struct train_model *model, size_t positions, const float *rope_factors);
void *train_block_new(struct train_model *model, size_t bytes);
int train_matrix_set(struct train_model *model, struct train_matrix *matrix, const float *w,
                     size_t n, size_t k);

/* --- the adapter ---------------------------------------------------------------------------- */

struct train_lora {
    size_t rank;
    float scale; /* alpha / rank */
    double alpha;
    size_t layers;
    struct train_group *groups; /* [layers * TRAIN_GROUPS] */
    size_t count;               /* parameters */
    float *weights, *gradient, *m, *v;
};
int train_lora_init(const struct train_shape *shape, size_t rank, double alpha, uint64_t seed,
                    struct train_lora *ret);
void train_lora_done(struct train_lora *lora);
/* A GGUF that llama.cpp loads with llama_adapter_lora_init; written beside, synced, renamed. */
int train_lora_write(const struct train_lora *lora, const char *path,
                     struct train_problem *problem);

/* --- one pass forward and back -------------------------------------------------------------- */

/* Examples lie one behind the other; each attends to itself only. */
struct train_batch {
    size_t tokens, segments;
    const uint32_t *ids;       /* [tokens] */
    const int32_t *targets;    /* [tokens]; the next token, or -1 where no loss is taken */
    const uint32_t *positions; /* [tokens] */
    const size_t *starts;      /* [segments + 1] */
};
struct train_pass;
int train_pass_new(struct train_model *model, struct train_lora *lora, size_t tokens_max,
                   struct train_pass **ret);
void train_pass_free(struct train_pass *pass);
/* Adds the sum of the losses to *loss. With scale > 0 it goes back too and adds
 * scale * gradient(sum of losses) to lora->gradient. */
int train_pass_run(struct train_pass *pass, const struct train_batch *batch, float scale,
                   double *loss);

/* --- data ----------------------------------------------------------------------------------- */

struct train_example {
    size_t at; /* first token in train_data.ids */
    uint32_t tokens, targets;
    uint64_t hash; /* of the line */
};
struct train_data {
    uint32_t *ids;
    uint8_t *wanted; /* 1: a loss is taken on this token */
    size_t id_count;
    struct train_example *examples;
    size_t count;      /* examples to train on come first */
    size_t held_count; /* and these are behind them */
    size_t truncated;  /* cut to the sequence length */
    size_t dropped;    /* nothing left to learn after the cut */
    size_t skipped;    /* empty lines */
    uint64_t hash;     /* of all that decides the order of training */
};
/* One chat of a line. Contents point into `arena`. */
struct train_message {
    struct mr_str role, content;
};
struct train_chat {
    struct train_message *messages;
    size_t count;
};
/* MR_ESYNTAX with what is wrong (without the line's number). */
int train_chat_parse(struct mr_str line, struct mr_arena *arena, struct train_chat *ret,
                     struct train_problem *problem);

struct train_tokenizer {
    void *model; /* llama_model, vocabulary only */
    const void *vocab;
    uint32_t turn_start, turn_end;
    bool add_bos;
    uint32_t bos;
    struct mr_str default_system;
};
int train_tokenizer_open(const char *path, struct train_tokenizer *ret,
                         struct train_problem *problem);
void train_tokenizer_close(struct train_tokenizer *tokenizer);
/* Appends u32 ids and one byte for each that says whether a loss is taken on it. */
int train_chat_tokenize(const struct train_tokenizer *tokenizer, const struct train_chat *chat,
                        struct mr_buf *ids, struct mr_buf *wanted);
/* The text between a ChatML template's own system marks, or empty. */
struct mr_str train_default_system(struct mr_str chat_template);

int train_data_read(const char *path, const struct train_tokenizer *tokenizer,
                    size_t sequence_tokens, double held_share, struct train_data *ret,
                    struct train_problem *problem);
void train_data_done(struct train_data *data);

/* --- order of the examples ------------------------------------------------------------------ */

/* Example number `index` of the endless stream of epochs, each shuffled by (seed, epoch). `order`
 * holds the shuffle of `order_epoch` and is redone when the epoch changes. */
struct train_order {
    uint64_t seed;
    size_t count;
    uint64_t epoch; /* of `order`, UINT64_MAX: none yet */
    uint32_t *order;
};
int train_order_init(struct train_order *order, uint64_t seed, size_t count);
void train_order_done(struct train_order *order);
size_t train_order_at(struct train_order *order, uint64_t index);

/* --- checkpoints ---------------------------------------------------------------------------- */

struct train_checkpoint {
    uint64_t step;          /* steps done */
    uint64_t tokens;        /* input tokens trained on so far */
    uint64_t targets;       /* of them with a loss */
    uint64_t elapsed_us;    /* training time so far */
    uint64_t recipe;        /* hash of all that must be equal to go on exactly */
    uint64_t count;         /* parameters */
    double held_before;     /* held-out loss before the first step */
    double loss;            /* of the last step */
    char product[32];       /* the matrix product that computed it */
    float *weights, *m, *v; /* borrowed */
};
#define TRAIN_CHECKPOINT_HEAD_BYTES 128u
/* Writes `folder`/checkpoint-<step>.mrt durably and keeps the newest two. */
int train_checkpoint_write(const char *folder, const struct train_checkpoint *checkpoint,
                           struct train_problem *problem);
/* Decodes the bytes of a file; the vectors are filled when count fits and they are not NULL. */
int train_checkpoint_decode(struct mr_str bytes, struct train_checkpoint *ret);
/* The newest whole one whose recipe and count match; MR_ENOT_FOUND when there is none. *ret_torn
 * counts damaged ones that were passed over; MR_ESTATE when whole ones are of another recipe. */
int train_checkpoint_read(const char *folder, struct train_checkpoint *checkpoint, size_t *ret_torn,
                          struct train_problem *problem);

/* --- files ---------------------------------------------------------------------------------- */

/* Writes beside, syncs, renames, syncs the folder. */
int train_file_replace(const char *path, const struct mr_str *parts, size_t part_count,
                       struct train_problem *problem);
/* The same without syncing, for what is only looked at: nobody sees half of it. */
int train_file_show(const char *path, struct mr_str bytes, struct train_problem *problem);
/* The whole file, at most `limit_bytes`; the caller frees ret->p with mr_free. */
int train_file_read(const char *path, size_t limit_bytes, struct mr_str *ret,
                    struct train_problem *problem);

/* --- running -------------------------------------------------------------------------------- */

uint64_t train_now_us(void);
struct train_run {
    struct train_spec spec;
    char run_dir[TRAIN_PATH_BYTES_MAX];
    char job_dir[TRAIN_PATH_BYTES_MAX];
    bool quiet;
    const char *product; /* NULL: measure */
    int rank, ranks;
    const volatile sig_atomic_t *stop;
};
/* 0, MR_ECANCELLED (checkpointed, run again) or an error with the problem set. */
int train_run(struct train_run *run, struct train_problem *problem);
struct train_bench {
    uint32_t tokens, batch, seconds;
    int rank, ranks;
    bool json;
    const char *product;
    const char *model; /* NULL: the 135M shape with random weights */
};
int train_bench(const struct train_bench *bench, struct train_problem *problem);

#endif
