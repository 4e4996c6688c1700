/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a llama-architecture GGUF: its geometry, and its weights into packed matrices.
 *
 * Owns:       the header while it reads; the mapped file goes to the model.
 * Invariants: (1) no tensor is read before its type, shape and place in the file are checked;
 *             (2) what we cannot train exactly as llama.cpp computes it is refused by name.
 * Fails:      with a line that names the file and what is wrong in it.
 * Ends:       nothing is kept on failure.
 * Tests:      tests/unit/train/test_train_data.c, tests/unit/train/train_it.py
 */
#include "train.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ggml.h>
#include <gguf.h>

#define SIZE_MAX_SANE 1000000u

struct reader {
    const char *path;
    struct gguf_context *gguf;
    struct ggml_context *tensors; /* shapes only */
    struct train_problem *problem;
    const uint8_t *file;
    size_t file_bytes;
    int error;
};

static int bad(struct reader *reader, int error, const char *what)
{
    if (reader->error == 0) {
        reader->error = train_problem_set(reader->problem, error, "%s: %s", reader->path, what);
    }
    return reader->error;
}

static double number(struct reader *reader, const char *key, double fallback)
{
    int64_t id = gguf_find_key(reader->gguf, key);
    if (id < 0) return fallback;
    switch (gguf_get_kv_type(reader->gguf, id)) {
    case GGUF_TYPE_UINT32:
        return (double)gguf_get_val_u32(reader->gguf, id);
    case GGUF_TYPE_INT32:
        return (double)gguf_get_val_i32(reader->gguf, id);
    case GGUF_TYPE_UINT64:
        return (double)gguf_get_val_u64(reader->gguf, id);
    case GGUF_TYPE_UINT16:
        return (double)gguf_get_val_u16(reader->gguf, id);
    case GGUF_TYPE_FLOAT32:
        return (double)gguf_get_val_f32(reader->gguf, id);
    default:
        break;
    }
    (void)bad(reader, MR_EUNSUPPORTED, key);
    return fallback;
}

/* A count that must be there unless a fallback is given. */
static size_t count_get(struct reader *reader, const char *key, size_t fallback)
{
    double value = number(reader, key, (double)fallback);
    if (value >= 1 && value <= SIZE_MAX_SANE && floor(value) == value) return (size_t)value;
    if (reader->error == 0) {
        char what[160];
        (void)snprintf(what, sizeof what, "%s is missing or out of range; is it a whole model?",
                       key);
        (void)bad(reader, MR_EINVALID, what);
    }
    return 1;
}

static const char *text_get(struct reader *reader, const char *key)
{
    int64_t id = gguf_find_key(reader->gguf, key);
    if (id < 0 || gguf_get_kv_type(reader->gguf, id) != GGUF_TYPE_STRING) return "";
    return gguf_get_val_str(reader->gguf, id);
}

static void refuse_unsupported(struct reader *reader)
{
    const char *scaling = text_get(reader, "llama.rope.scaling.type");
    if (scaling[0] != 0 && strcmp(scaling, "none") != 0 && strcmp(scaling, "linear") != 0) {
        (void)bad(reader, MR_EUNSUPPORTED, "its rope scaling is neither none nor linear");
    }
    if (number(reader, "llama.expert_count", 0) > 0) {
        (void)bad(reader, MR_EUNSUPPORTED,
                  "it is a mixture of experts; only dense models train here");
    }
    if (number(reader, "llama.attention.scale", 0) > 0) {
        (void)bad(reader, MR_EUNSUPPORTED, "it has an attention scale of its own");
    }
    for (struct ggml_tensor *t = ggml_get_first_tensor(reader->tensors); t != NULL;
         t = ggml_get_next_tensor(reader->tensors, t)) {
        size_t n = strlen(t->name);
        if (n > 5 && strcmp(t->name + n - 5, ".bias") == 0) {
            (void)bad(reader, MR_EUNSUPPORTED, "its linear layers have biases; not trained here");
        }
    }
}

static void shape_get(struct reader *reader, struct train_shape *shape)
{
    const struct ggml_tensor *embedding = ggml_get_tensor(reader->tensors, "token_embd.weight");
    if (embedding == NULL) {
        (void)bad(reader, MR_EINVALID, "has no token_embd.weight; is it a whole model?");
        return;
    }
    shape->embd = count_get(reader, "llama.embedding_length", 0);
    shape->heads = count_get(reader, "llama.attention.head_count", 0);
    shape->kv_heads = count_get(reader, "llama.attention.head_count_kv", shape->heads);
    shape->head_dims = count_get(reader, "llama.attention.key_length", shape->embd / shape->heads);
    shape->ff = count_get(reader, "llama.feed_forward_length", 0);
    shape->layers = count_get(reader, "llama.block_count", 0);
    shape->rope_dims = count_get(reader, "llama.rope.dimension_count", shape->head_dims);
    shape->context = count_get(reader, "llama.context_length", 0);
    shape->vocab = (size_t)embedding->ne[1];
    shape->epsilon = (float)number(reader, "llama.attention.layer_norm_rms_epsilon", 1e-5);
    shape->rope_base = (float)number(reader, "llama.rope.freq_base", 10000.0);
    double factor = number(reader, "llama.rope.scaling.factor", 1.0);
    shape->rope_scale = factor > 0 ? (float)(1.0 / factor) : 1.0f;
    refuse_unsupported(reader);
    if (reader->error != 0) return;
    if (shape->heads % shape->kv_heads != 0 || shape->rope_dims > shape->head_dims ||
        shape->rope_dims % 2 != 0 || shape->layers > TRAIN_LAYERS_MAX) {
        (void)bad(reader, MR_EUNSUPPORTED, "its heads, rotation or layers do not fit together");
    }
}

static int reader_open(struct reader *reader, const char *path, struct train_problem *problem)
{
    struct stat status;
    *reader = (struct reader){.path = path, .problem = problem};
    if (stat(path, &status) != 0) {
        return train_problem_set(problem, MR_ENOT_FOUND, "cannot read the model %s: %s", path,
                                 strerror(errno));
    }
    if (!S_ISREG(status.st_mode))
        return bad(reader, MR_EINVALID, "is not a file; give a GGUF model");
    struct gguf_init_params params = {.no_alloc = true, .ctx = &reader->tensors};
    reader->gguf = gguf_init_from_file(path, params);
    if (reader->gguf == NULL) return bad(reader, MR_EINVALID, "is not a whole GGUF model file");
    const char *architecture = text_get(reader, "general.architecture");
    if (strcmp(architecture, "llama") != 0) {
        char what[160];
        (void)snprintf(what, sizeof what,
                       "is of architecture '%.40s'; only 'llama' models are trained here",
                       architecture);
        return bad(reader, MR_EUNSUPPORTED, what);
    }
    const char *type = text_get(reader, "general.type");
    if (type[0] != 0 && strcmp(type, "model") != 0) {
        return bad(reader, MR_EINVALID, "is an adapter; give the base model");
    }
    return 0;
}

static void reader_close(struct reader *reader)
{
    gguf_free(reader->gguf);
    ggml_free(reader->tensors);
}

int train_model_look(const char *path, struct train_shape *ret, struct train_problem *problem)
{
    struct reader reader;
    struct train_shape shape = {0};
    int error = reader_open(&reader, path, problem);
    if (error == 0) {
        shape_get(&reader, &shape);
        error = reader.error;
    }
    reader_close(&reader);
    if (error == 0) {
        *ret = shape;
    }
    return error;
}

/* Where a tensor of exactly this shape lies in the file, or NULL. */
static const uint8_t *tensor_find(struct reader *reader, const char *name, size_t n, size_t k,
                                  enum ggml_type *ret_type)
{
    char what[160];
    int64_t id = gguf_find_tensor(reader->gguf, name);
    const struct ggml_tensor *tensor = id < 0 ? NULL : ggml_get_tensor(reader->tensors, name);
    if (tensor == NULL || tensor->ne[0] != (int64_t)k || tensor->ne[1] != (int64_t)n ||
        ggml_nelements(tensor) != (int64_t)(n * k)) {
        (void)snprintf(what, sizeof what, "%s is missing or not %zu x %zu", name, n, k);
        (void)bad(reader, MR_EINVALID, what);
        return NULL;
    }
    size_t offset = gguf_get_data_offset(reader->gguf) + gguf_get_tensor_offset(reader->gguf, id);
    if (offset > reader->file_bytes || ggml_nbytes(tensor) > reader->file_bytes - offset) {
        (void)bad(reader, MR_ECORRUPT, "ends too early; fetch it again");
        return NULL;
    }
    if (tensor->type != GGML_TYPE_F32 && ggml_get_type_traits(tensor->type)->to_float == NULL) {
        (void)snprintf(what, sizeof what, "%s has a type that cannot be unpacked", name);
        (void)bad(reader, MR_EUNSUPPORTED, what);
        return NULL;
    }
    *ret_type = tensor->type;
    return reader->file + offset;
}

static bool tensor_read(struct reader *reader, const char *name, size_t n, size_t k, float *to)
{
    enum ggml_type type;
    const uint8_t *at = tensor_find(reader, name, n, k, &type);
    if (at == NULL) return false;
    if (type == GGML_TYPE_F32) {
        memcpy(to, at, n * k * sizeof *to);
    } else {
        ggml_get_type_traits(type)->to_float(at, to, (int64_t)(n * k));
    }
    return true;
}

static bool layer_tensor_read(struct reader *reader, size_t layer, const char *name, size_t n,
                              size_t k, float *to)
{
    char full[96];
    (void)snprintf(full, sizeof full, "blk.%zu.%s.weight", layer, name);
    return tensor_read(reader, full, n, k, to);
}

static int layer_load(struct reader *reader, struct train_model *model, size_t i, float *w)
{
    const struct train_shape *s = &model->shape;
    struct train_layer *layer = &model->layers[i];
    size_t q = s->heads * s->head_dims, kv = s->kv_heads * s->head_dims, embd = s->embd;
    layer->attn_norm = train_block_new(model, embd * sizeof(float));
    layer->ffn_norm = train_block_new(model, embd * sizeof(float));
    if (layer->attn_norm == NULL || layer->ffn_norm == NULL) return MR_ENO_MEMORY;
    if (!layer_tensor_read(reader, i, "attn_norm", 1, embd, layer->attn_norm) ||
        !layer_tensor_read(reader, i, "ffn_norm", 1, embd, layer->ffn_norm) ||
        !layer_tensor_read(reader, i, "attn_q", q, embd, w) ||
        !layer_tensor_read(reader, i, "attn_k", kv, embd, w + q * embd) ||
        !layer_tensor_read(reader, i, "attn_v", kv, embd, w + (q + kv) * embd)) {
        return reader->error;
    }
    int error = train_matrix_set(model, &layer->groups[0], w, q + 2 * kv, embd);
    if (error != 0) return error;
    if (!layer_tensor_read(reader, i, "attn_output", embd, q, w)) return reader->error;
    error = train_matrix_set(model, &layer->groups[1], w, embd, q);
    if (error != 0) return error;
    if (!layer_tensor_read(reader, i, "ffn_gate", s->ff, embd, w) ||
        !layer_tensor_read(reader, i, "ffn_up", s->ff, embd, w + s->ff * embd)) {
        return reader->error;
    }
    error = train_matrix_set(model, &layer->groups[2], w, 2 * s->ff, embd);
    if (error != 0) return error;
    if (!layer_tensor_read(reader, i, "ffn_down", embd, s->ff, w)) return reader->error;
    return train_matrix_set(model, &layer->groups[3], w, embd, s->ff);
}

static int ends_load(struct reader *reader, struct train_model *model)
{
    const struct train_shape *s = &model->shape;
    enum ggml_type type;
    bool tied = gguf_find_tensor(reader->gguf, "output.weight") < 0;
    const uint8_t *rows = tensor_find(reader, "token_embd.weight", s->vocab, s->embd, &type);
    if (rows == NULL) return reader->error;
    model->embedding = rows;
    model->embedding_type = (int)type;
    model->embedding_row_bytes = ggml_row_size(type, (int64_t)s->embd);
    model->output_norm = train_block_new(model, s->embd * sizeof(float));
    if (model->output_norm == NULL) return MR_ENO_MEMORY;
    if (!tensor_read(reader, "output_norm.weight", 1, s->embd, model->output_norm)) {
        return reader->error;
    }
    float *w = mr_alloc(s->vocab * s->embd * sizeof *w);
    if (w == NULL) return MR_ENO_MEMORY;
    int error = reader->error;
    if (tensor_read(reader, tied ? "token_embd.weight" : "output.weight", s->vocab, s->embd, w)) {
        error = train_matrix_set(model, &model->head, w, s->vocab, s->embd);
    } else {
        error = reader->error;
    }
    mr_free(w);
    return error;
}

static int weights_load(struct reader *reader, struct train_model *model, size_t positions)
{
    const struct train_shape *s = &model->shape;
    float *factors = NULL;
    size_t widest = MR_MAX(2 * s->ff, (s->heads + 2 * s->kv_heads) * s->head_dims);
    float *w = mr_alloc(widest * s->embd * sizeof *w);
    int error = w == NULL ? MR_ENO_MEMORY : 0;
    if (error == 0 && gguf_find_tensor(reader->gguf, "rope_freqs.weight") >= 0) {
        factors = mr_alloc(s->rope_dims / 2 * sizeof *factors);
        if (factors == NULL) {
            error = MR_ENO_MEMORY;
        } else if (!tensor_read(reader, "rope_freqs.weight", 1, s->rope_dims / 2, factors)) {
            error = reader->error;
        }
    }
    if (error == 0) {
        error = train_model_prepare(model, positions, factors);
    }
    if (error == 0) {
        error = ends_load(reader, model);
    }
    for (size_t i = 0; error == 0 && i < s->layers; i++) {
        error = layer_load(reader, model, i, w);
    }
    mr_free(factors);
    mr_free(w);
    if (error == MR_ENO_MEMORY) (void)bad(reader, error, "does not fit in memory");
    return error;
}

static int file_map(struct reader *reader, struct train_model *model)
{
    struct stat status;
    int fd = open(reader->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0) {
        if (fd >= 0) (void)close(fd); /* only read from */
        return bad(reader, MR_EIO, strerror(errno));
    }
    void *file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    (void)close(fd); /* the mapping stays */
    if (file == MAP_FAILED) return bad(reader, MR_EIO, "cannot be mapped");
    model->file = file;
    model->file_bytes = (size_t)status.st_size;
    reader->file = file;
    reader->file_bytes = model->file_bytes;
    return 0;
}

int train_model_load(const char *path, struct train_product *product, size_t positions,
                     struct train_model *ret, struct train_problem *problem)
{
    struct reader reader;
    struct train_model model = {0};
    mr_arena_init(&model.arena, (size_t)64 * 1024 * 1024);
    int error = reader_open(&reader, path, problem);
    if (error == 0) {
        shape_get(&reader, &model.shape);
        error = reader.error;
    }
    if (error == 0) {
        error = file_map(&reader, &model);
    }
    model.product = *product;
    if (error == 0) {
        error = weights_load(&reader, &model, positions);
    }
    reader_close(&reader);
    if (error != 0) {
        model.product = (struct train_product){0}; /* stays the caller's */
        train_model_done(&model);
        return error;
    }
    *product = (struct train_product){0};
    *ret = model;
    return 0;
}
