/* SPDX-License-Identifier: Apache-2.0 */
/* Opens the model file and its adapters, and says in one line what is wrong when it cannot.
 *
 * Owns:       llama_model and its adapters.
 * Thread:     the worker's only one.
 * Fails:      MR_EINVALID for what the caller must fix (said on stderr), MR_ENO_MEMORY.
 * Ends:       infer_model_free.
 * Tests:      tests/unit/infer/test_infer_worker.c
 */
#include "infer_int.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include <gguf.h>
#include <llama.h>

struct log_state {
    bool verbose, capture;
    enum ggml_log_level level; /* of the line that CONT goes on with */
    char last[512];
};
/* llama's log hook is process-wide, and so is what it keeps. */
static struct log_state g_log;

static void log_line(enum ggml_log_level level, const char *text, void *context)
{
    struct log_state *log = context;
    if (level == GGML_LOG_LEVEL_CONT) {
        level = log->level;
    }
    log->level = level;
    bool important = level == GGML_LOG_LEVEL_WARN || level == GGML_LOG_LEVEL_ERROR;
    if (level == GGML_LOG_LEVEL_ERROR) {
        (void)snprintf(log->last, sizeof(log->last), "%s", text);
        log->last[strcspn(log->last, "\n")] = '\0';
    }
    if (log->verbose || (important && !log->capture)) {
        (void)fputs(text, stderr); /* nothing to do about a closed stderr */
    }
}

void infer_log_init(bool verbose)
{
    g_log = (struct log_state){.verbose = verbose};
    llama_log_set(log_line, &g_log);
}

void infer_log_capture(bool capture)
{
    g_log.capture = capture;
    if (capture) {
        g_log.last[0] = '\0';
    }
}

const char *infer_log_last(void)
{
    return g_log.last;
}

static bool complain(const char *what, const char *path, const char *problem, const char *advice)
{
    (void)fprintf(stderr, "millrace-infer: %s %s: %s; %s\n", what, path, problem, advice);
    return false;
}

/* Compares the file's length with what its own index promises. */
static bool whole_file(const char *path, const char *what, uint64_t size)
{
    infer_log_capture(true);
    struct gguf_context *gguf =
        gguf_init_from_file(path, (struct gguf_init_params){.no_alloc = true, .ctx = NULL});
    infer_log_capture(false);
    if (gguf == NULL) {
        return complain(what, path, "its GGUF header is damaged or cut off",
                        "fetch or convert it again");
    }
    uint64_t need = gguf_get_data_offset(gguf);
    for (int64_t i = 0; i < gguf_get_n_tensors(gguf); i++) {
        uint64_t end = gguf_get_data_offset(gguf) + gguf_get_tensor_offset(gguf, i) +
                       gguf_get_tensor_size(gguf, i);
        need = MR_MAX(need, end);
    }
    gguf_free(gguf);
    if (size >= need) return true;
    char problem[128];
    (void)snprintf(problem, sizeof(problem), "is cut off: %llu bytes of %llu",
                   (unsigned long long)size, (unsigned long long)need);
    return complain(what, path, problem, "fetch or copy it again");
}

bool infer_model_check(const char *path, const char *what)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        return complain(what, path, strerror(errno),
                        errno == ENOENT ? "name an existing GGUF file, for example with --model, "
                                          "or fetch the default one with `make up`"
                                        : "check the path and its rights");
    }
    if (!S_ISREG(info.st_mode)) {
        return complain(what, path, "is not a file", "name a GGUF file");
    }
    FILE *file = fopen(path, "rbe");
    if (file == NULL) return complain(what, path, strerror(errno), "check its rights");
    char magic[4] = {0};
    size_t got = fread(magic, 1, sizeof(magic), file);
    (void)fclose(file); /* read only */
    if (got != sizeof(magic) || memcmp(magic, "GGUF", sizeof(magic)) != 0) {
        return complain(what, path, "is not a GGUF file",
                        "convert the model to GGUF (convert_hf_to_gguf.py of llama.cpp) or name "
                        "another file");
    }
    return whole_file(path, what, (uint64_t)info.st_size);
}

static int adapters_load(struct infer_model *model, const struct infer_config *config)
{
    for (size_t i = 0; i < config->adapter_count; i++) {
        if (!infer_model_check(config->adapters[i], "adapter")) return MR_EINVALID;
        infer_log_capture(true);
        model->adapters[i] = llama_adapter_lora_init(model->model, config->adapters[i]);
        infer_log_capture(false);
        if (model->adapters[i] == NULL) {
            char problem[640];
            (void)snprintf(problem, sizeof(problem), "does not fit the model %s (%s)",
                           config->model, infer_log_last());
            (void)complain("adapter", config->adapters[i], problem,
                           "use the adapter with the model that it was trained on");
            return MR_EINVALID;
        }
        model->adapter_count++;
    }
    return 0;
}

struct progress {
    infer_progress_fn fn;
    void *context;
    bool given_up;
};

static bool progress_pass(float done, void *context)
{
    struct progress *progress = context;
    progress->given_up = progress->fn != NULL && !progress->fn(done, progress->context);
    return !progress->given_up;
}

static void facts_fill(struct infer_model *model)
{
    const struct llama_model *m = model->model;
    model->vocab = llama_model_get_vocab(m);
    model->vocab_count = (uint32_t)llama_vocab_n_tokens(model->vocab);
    model->context_train = (uint32_t)MR_MAX(llama_model_n_ctx_train(m), 1);
    uint64_t head = (uint64_t)(llama_model_n_embd(m) / MR_MAX(llama_model_n_head(m), 1));
    uint64_t row = head * (uint64_t)llama_model_n_head_kv(m) * 2u; /* F16 */
    model->kv_bytes_per_token = MR_MAX(2u * row * (uint64_t)llama_model_n_layer(m), 1u);
    model->can_trim = !llama_model_is_recurrent(m) && !llama_model_is_hybrid(m);
}

int infer_model_load(struct infer_model *model, const struct infer_config *config,
                     const struct infer_choice *choice, infer_progress_fn progress, void *context)
{
    *model = (struct infer_model){.choice = *choice};
    if (!infer_model_check(choice->file, "model")) return MR_EINVALID;
    struct progress pass = {.fn = progress, .context = context};
    struct llama_model_params params = llama_model_default_params();
    params.progress_callback = progress_pass;
    params.progress_callback_user_data = &pass;
    infer_log_capture(true);
    model->model = llama_model_load_from_file(choice->file, params);
    infer_log_capture(false);
    if (model->model == NULL && pass.given_up) return MR_ECANCELLED;
    if (model->model == NULL) {
        char problem[640];
        (void)snprintf(problem, sizeof(problem), "could not be loaded (%s)", infer_log_last());
        (void)complain("model", choice->file, problem,
                       "check that it is a text model that llama.cpp supports and fits in memory");
        return MR_EINVALID;
    }
    if (!llama_model_has_decoder(model->model) || llama_model_has_encoder(model->model)) {
        (void)complain("model", choice->file, "is not a text generator",
                       "name a decoder-only model");
        infer_model_free(model);
        return MR_EINVALID;
    }
    facts_fill(model);
    int error = infer_chat_prepare(model);
    if (error == 0) {
        error = adapters_load(model, config);
    }
    if (error != 0) {
        infer_model_free(model);
    }
    return error;
}

void infer_model_free(struct infer_model *model)
{
    infer_chat_done(model);
    if (model->model != NULL) {
        llama_model_free(model->model); /* with its adapters */
    }
    *model = (struct infer_model){0};
}
