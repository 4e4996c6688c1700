/* SPDX-License-Identifier: Apache-2.0 */
/* Measuring and its result: a tiny model of random weights with the default model's vocabulary.
 *
 * Seeds: fixed. The figures themselves are not tested, only what is done with them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ggml.h>
#include <gguf.h>

#include "infer_client.h"
#include "infer_int.h"

#define WIDTH 64

static struct worker worker;
static char model[300];

static void tensor_put(struct ggml_context *ctx, struct gguf_context *gguf, struct mr_prng *prng,
                       const char *name, int64_t columns, int64_t rows)
{
    struct ggml_tensor *tensor = rows == 0 ? ggml_new_tensor_1d(ctx, GGML_TYPE_F32, columns)
                                           : ggml_new_tensor_2d(ctx, GGML_TYPE_F32, columns, rows);
    float *data = tensor->data;
    for (int64_t i = 0; i < columns * (rows == 0 ? 1 : rows); i++) {
        float noise = (float)mr_prng_below(prng, 2001) / 10000.0f - 0.1f;
        data[i] = rows == 0 ? 1.0f : noise;
    }
    (void)ggml_set_name(tensor, name);
    gguf_add_tensor(gguf, tensor);
}

/* One layer of 64 columns. */
static void model_write(const char *path, int64_t vocab)
{
    static const char *const square[] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                         "ffn_gate", "ffn_up", "ffn_down"};
    struct gguf_context *from = gguf_init_from_file(
        getenv("MILLRACE_TEST_MODEL"), (struct gguf_init_params){.no_alloc = true, .ctx = NULL});
    assert_non_null(from);
    struct gguf_context *gguf = gguf_init_empty();
    gguf_set_kv(gguf, from);
    gguf_set_val_u32(gguf, "llama.block_count", 1);
    gguf_set_val_u32(gguf, "llama.embedding_length", WIDTH);
    gguf_set_val_u32(gguf, "llama.feed_forward_length", WIDTH);
    gguf_set_val_u32(gguf, "llama.attention.head_count", 1);
    gguf_set_val_u32(gguf, "llama.attention.head_count_kv", 1);
    gguf_set_val_u32(gguf, "llama.rope.dimension_count", WIDTH);
    gguf_set_val_u32(gguf, "llama.context_length", 1024);
    gguf_set_val_u32(gguf, "general.file_type", 0);
    struct ggml_context *ctx =
        ggml_init((struct ggml_init_params){.mem_size = 64u << 20, .no_alloc = false});
    struct mr_prng prng;
    char name[64];
    mr_prng_init(&prng, 4);
    tensor_put(ctx, gguf, &prng, "token_embd.weight", WIDTH, vocab);
    tensor_put(ctx, gguf, &prng, "output_norm.weight", WIDTH, 0);
    tensor_put(ctx, gguf, &prng, "blk.0.attn_norm.weight", WIDTH, 0);
    tensor_put(ctx, gguf, &prng, "blk.0.ffn_norm.weight", WIDTH, 0);
    for (size_t i = 0; i < MR_COUNT_OF(square); i++) {
        (void)snprintf(name, sizeof(name), "blk.0.%s.weight", square[i]);
        tensor_put(ctx, gguf, &prng, name, WIDTH, WIDTH);
    }
    assert_true(gguf_write_to_file(gguf, path, false));
    ggml_free(ctx);
    gguf_free(gguf);
    gguf_free(from);
}

/* Runs `millrace-infer --tune` with one more option; what it said. */
static int tune(const char *more, char *ret_said, size_t size)
{
    const char *args[] = {worker.program, "--tune",  "--model", model, "--cache-dir",
                          worker.dir,     "--slots", "4",       more,  NULL};
    char *envp[] = {NULL};
    char path[600];
    pid_t pid = 0;
    (void)snprintf(path, sizeof(path), "%s/stderr", worker.dir);
    (void)unlink(path);
    posix_spawn_file_actions_t actions;
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(posix_spawn_file_actions_addopen(&actions, 2, path, O_WRONLY | O_CREAT, 0600),
                     0);
    assert_int_equal(
        posix_spawn(&pid, worker.program, &actions, NULL, (char *const *)(uintptr_t)args, envp), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    FILE *file = fopen(path, "rbe");
    assert_non_null(file);
    size_t n = fread(ret_said, 1, size - 1, file);
    ret_said[n] = '\0';
    (void)fclose(file);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The path of the only file that ends so; false: there is none. */
static bool file_ending(const char *end, char *ret, size_t size)
{
    DIR *dir = opendir(worker.dir);
    struct dirent *entry = NULL;
    size_t count = 0;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        size_t n = strlen(entry->d_name);
        if (n >= strlen(end) && strcmp(entry->d_name + n - strlen(end), end) == 0) {
            (void)snprintf(ret, size, "%s/%s", worker.dir, entry->d_name);
            count++;
        }
    }
    (void)closedir(dir);
    assert_true(count <= 1);
    return count == 1;
}

static int case_start(void **state)
{
    (void)state;
    worker = (struct worker){.program = getenv("MILLRACE_INFER"), .model = model};
    (void)snprintf(worker.dir, sizeof(worker.dir), "/tmp/millrace-tune-XXXXXX");
    assert_non_null(mkdtemp(worker.dir));
    (void)snprintf(model, sizeof(model), "%s/tiny.gguf", worker.dir);
    model_write(model, 49152);
    return 0;
}

static int case_end(void **state)
{
    (void)state;
    worker_end(&worker);
    return 0;
}

/* What a worker that starts now says it has chosen. */
static void engine_line(char *ret, size_t size)
{
    struct client client;
    worker_start(&worker, ",\"slots\":4,\"no_tune\":false");
    client_open(&client, &worker);
    (void)snprintf(ret, size, "%.*s", MR_STR_ARG(client.hello.engine));
    client_close(&client);
    worker_kill(&worker, SIGTERM);
    assert_int_equal(worker_wait(&worker), 0);
}

static void a_result_is_kept_and_used(void **state)
{
    (void)state;
    char said[8192], path[600], line[512];
    engine_line(line, sizeof(line));
    assert_non_null(strstr(line, "not measured"));
    assert_int_equal(tune(NULL, said, sizeof(said)), 0);
    assert_non_null(strstr(said, "as shipped"));
    assert_non_null(strstr(said, "with flash attention"));
    assert_true(file_ending(".tune.json", path, sizeof(path)));
    assert_false(file_ending(".part", path, sizeof(path)));
    assert_int_equal(tune(NULL, said, sizeof(said)), 0);
    assert_non_null(strstr(said, "already measured"));
    engine_line(line, sizeof(line));
    assert_non_null(strstr(line, "times as shipped"));
}

static void a_damaged_result_is_ignored(void **state)
{
    (void)state;
    char said[8192], path[600], line[512];
    assert_int_equal(tune("--no-convert", said, sizeof(said)), 0);
    assert_null(strstr(said, "BF16"));
    assert_true(file_ending(".tune.json", path, sizeof(path)));
    assert_int_equal(truncate(path, 40), 0);
    assert_int_equal(tune("--no-convert", said, sizeof(said)), 0); /* it measures anew */
    assert_null(strstr(said, "already measured"));
    engine_line(line, sizeof(line)); /* other settings than --no-convert: another key */
    assert_non_null(strstr(line, "not measured"));
}

static void no_loss_allowed_means_no_lossy_conversion(void **state)
{
    (void)state;
    char said[8192], path[600];
    assert_int_equal(tune("--quality-bound=0", said, sizeof(said)), 0);
    assert_true(file_ending(".tune.json", path, sizeof(path)));
    FILE *file = fopen(path, "rbe");
    assert_non_null(file);
    char text[4096];
    size_t n = fread(text, 1, sizeof(text), file);
    (void)fclose(file);
    struct infer_choice choice;
    assert_int_equal(infer_choice_parse((struct mr_str){text, n}, &choice), 0);
    /* Whatever was chosen did not raise the perplexity, not even by its error. */
    const char *at = strstr(choice.summary, "perplexity +");
    assert_true(at == NULL || strncmp(at, "perplexity +0.00", 16) == 0);
}

int main(void)
{
    if (getenv("MILLRACE_INFER") == NULL || getenv("MILLRACE_TEST_MODEL") == NULL ||
        access(getenv("MILLRACE_TEST_MODEL"), R_OK) != 0) {
        (void)fprintf(stderr, "skipped: no model; run `tools/setup model`\n");
        return 77;
    }
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_result_is_kept_and_used, case_start, case_end),
        cmocka_unit_test_setup_teardown(a_damaged_result_is_ignored, case_start, case_end),
        cmocka_unit_test_setup_teardown(no_loss_allowed_means_no_lossy_conversion, case_start,
                                        case_end),
    };
    return cmocka_run_group_tests_name("infer_tune", tests, NULL, NULL);
}
