/* SPDX-License-Identifier: Apache-2.0 */
/* Specs, chats, tokens and their marks, held-out shares, the order of examples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <unistd.h>

#include <ggml.h>
#include <llama.h>

#include "train.h"

/* --- specs ---------------------------------------------------------------------------------- */

static int parse(const char *json, struct train_spec *spec, struct train_problem *problem)
{
    train_spec_init(spec);
    return train_spec_parse(mr_str_from(json), spec, problem);
}

static void a_spec_sets_what_it_names(void **unused)
{
    (void)unused;
    struct train_spec spec;
    struct train_problem problem;
    assert_int_equal(
        parse("{\"model\":\"m\",\"data\":\"d\",\"out\":\"o\",\"epochs\":2,\"max_steps\":9,"
              "\"learning_rate\":0.001,\"batch\":4,\"rank\":16,\"sequence_tokens\":64,"
              "\"seed\":18446744073709551615,\"checkpoint_every_steps\":3}",
              &spec, &problem),
        0);
    assert_string_equal(spec.model, "m");
    assert_string_equal(spec.data, "d");
    assert_string_equal(spec.out, "o");
    assert_true(spec.epochs == 2.0);
    assert_int_equal(spec.max_steps, 9);
    assert_true(spec.learning_rate == 0.001);
    assert_int_equal(spec.batch, 4);
    assert_int_equal(spec.rank, 16);
    assert_int_equal(spec.sequence_tokens, 64);
    assert_true(spec.seed == UINT64_MAX);
    assert_int_equal(spec.checkpoint_every_steps, 3);
}

static void a_bad_spec_is_refused_by_name_and_changes_nothing(void **unused)
{
    (void)unused;
    static const char *const bad[][2] = {
        {"{\"bacth\":1}", "bacth"},
        {"{\"batch\":0}", "batch"},
        {"{\"batch\":4097}", "batch"},
        {"{\"batch\":\"4\"}", "batch"},
        {"{\"batch\":1.5}", "batch"},
        {"{\"rank\":257}", "rank"},
        {"{\"epochs\":-1}", "epochs"},
        {"{\"learning_rate\":2}", "learning_rate"},
        {"{\"model\":\"\"}", "model"},
        {"{\"model\":7}", "model"},
        {"{\"seed\":-1}", "seed"},
        {"{\"sequence_tokens\":7}", "sequence_tokens"},
        {"{\"sequence_tokens\":8193}", "sequence_tokens"},
        {"[]", "map"},
        {"{\"batch\":1", "byte"},
    };
    for (size_t i = 0; i < MR_COUNT_OF(bad); i++) {
        struct train_spec spec, before;
        struct train_problem problem;
        train_spec_init(&before);
        assert_true(parse(bad[i][0], &spec, &problem) < 0);
        assert_non_null(strstr(problem.text, bad[i][1]));
        assert_memory_equal(&spec, &before, sizeof spec);
    }
}

static void limits_of_a_spec_are_themselves_allowed(void **unused)
{
    (void)unused;
    struct train_spec spec;
    struct train_problem problem;
    assert_int_equal(
        parse("{\"batch\":4096,\"rank\":256,\"sequence_tokens\":8192}", &spec, &problem), 0);
    assert_int_equal(parse("{\"batch\":1,\"rank\":1,\"sequence_tokens\":8}", &spec, &problem), 0);
}

/* --- chats ---------------------------------------------------------------------------------- */

static int chat_of(const char *line, struct train_chat *chat, struct mr_arena *arena,
                   struct train_problem *problem)
{
    mr_arena_init(arena, 1u << 20);
    return train_chat_parse(mr_str_from(line), arena, chat, problem);
}

static void a_bad_line_is_told_apart(void **unused)
{
    (void)unused;
    static const char *const bad[][2] = {
        {"{\"messages\":[", "not JSON"},
        {"[1]", "messages"},
        {"{\"messages\":[]}", "messages"},
        {"{\"messages\":\"x\"}", "messages"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", "no assistant"},
        {"{\"messages\":[{\"role\":\"robot\",\"content\":\"x\"}]}", "role"},
        {"{\"messages\":[{\"role\":\"assistant\",\"content\":null}]}", "content"},
        {"{\"messages\":[{\"role\":\"assistant\"}]}", "content"},
        {"{\"messages\":[7]}", "role"},
    };
    for (size_t i = 0; i < MR_COUNT_OF(bad); i++) {
        struct train_chat chat;
        struct mr_arena arena;
        struct train_problem problem;
        assert_true(chat_of(bad[i][0], &chat, &arena, &problem) < 0);
        assert_non_null(strstr(problem.text, bad[i][1]));
        mr_arena_done(&arena);
    }
}

static void a_template_tells_its_own_system_text(void **unused)
{
    (void)unused;
    struct mr_str text =
        train_default_system(MR_STR("{% if messages[0]['role'] != 'system' %}{{ "
                                    "'<|im_start|>system\\nBe kind.<|im_end|>\\n' }}"));
    assert_int_equal(text.n, 8);
    assert_memory_equal(text.p, "Be kind.", 8);
    assert_int_equal(train_default_system(MR_STR("")).n, 0);
    assert_int_equal(train_default_system(MR_STR("x != 'system' <|im_start|>system")).n, 0);
    assert_int_equal(
        train_default_system(MR_STR("x != 'system' <|im_start|>system\\n' + y + '<|im_end|>")).n,
        0);
}

/* --- tokens, with the real vocabulary -------------------------------------------------------- */

static void quiet(enum ggml_log_level level, const char *text, void *context)
{
    (void)level;
    (void)text;
    (void)context;
}

static bool tokenizer_open(struct train_tokenizer *tokenizer)
{
    char path[512];
    struct train_problem problem;
    const char *cache = getenv("MILLRACE_CACHE"), *home = getenv("HOME");
    (void)snprintf(path, sizeof path, "%s%s/models/SmolLM2-135M-Instruct.Q4_1.gguf",
                   cache != NULL  ? cache
                   : home != NULL ? home
                                  : "",
                   cache != NULL ? "" : "/.cache/millrace");
    llama_log_set(quiet, NULL);
    if (access(path, R_OK) != 0) return false;
    assert_int_equal(train_tokenizer_open(path, tokenizer, &problem), 0);
    return true;
}

static void text_of(const struct train_tokenizer *tokenizer, const struct mr_buf *ids,
                    const struct mr_buf *wanted, bool only_wanted, char *text, size_t size)
{
    size_t at = 0;
    text[0] = 0;
    for (size_t i = 0; i < wanted->n; i++) {
        uint32_t id;
        memcpy(&id, ids->p + i * sizeof id, sizeof id);
        if (only_wanted && wanted->p[i] == 0) continue;
        int32_t n = llama_token_to_piece(tokenizer->vocab, (llama_token)id, text + at,
                                         (int32_t)(size - at - 1), 0, true);
        assert_true(n >= 0);
        at += (size_t)n;
        text[at] = 0;
    }
}

static void a_loss_is_taken_on_answers_and_their_end_only(void **unused)
{
    (void)unused;
    struct train_tokenizer tokenizer;
    struct train_chat chat;
    struct mr_arena arena;
    struct train_problem problem;
    struct mr_buf ids, wanted;
    char text[2000];
    if (!tokenizer_open(&tokenizer)) skip();
    mr_buf_init(&ids, 1u << 20);
    mr_buf_init(&wanted, 1u << 20);
    assert_int_equal(chat_of("{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},"
                             "{\"role\":\"user\",\"content\":\"one\"},"
                             "{\"role\":\"assistant\",\"content\":\"First answer.\"},"
                             "{\"role\":\"user\",\"content\":\"two\"},"
                             "{\"role\":\"assistant\",\"content\":\"Second.\"}]}",
                             &chat, &arena, &problem),
                     0);
    assert_int_equal(train_chat_tokenize(&tokenizer, &chat, &ids, &wanted), 0);
    assert_int_equal(ids.n, wanted.n * 4);
    text_of(&tokenizer, &ids, &wanted, false, text, sizeof text);
    assert_string_equal(text, "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\none<|im_end|>\n"
                              "<|im_start|>assistant\nFirst answer.<|im_end|>\n"
                              "<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\nSecond."
                              "<|im_end|>\n");
    text_of(&tokenizer, &ids, &wanted, true, text, sizeof text);
    assert_string_equal(text, "First answer.<|im_end|>Second.<|im_end|>");
    mr_buf_done(&ids);
    mr_buf_done(&wanted);
    mr_arena_done(&arena);
    train_tokenizer_close(&tokenizer);
}

static void marks_in_a_message_stay_text(void **unused)
{
    (void)unused;
    struct train_tokenizer tokenizer;
    struct train_chat chat;
    struct mr_arena arena;
    struct train_problem problem;
    struct mr_buf ids, wanted;
    size_t ends = 0;
    if (!tokenizer_open(&tokenizer)) skip();
    mr_buf_init(&ids, 1u << 20);
    mr_buf_init(&wanted, 1u << 20);
    assert_int_equal(chat_of("{\"messages\":[{\"role\":\"user\",\"content\":\"<|im_end|>\"},"
                             "{\"role\":\"assistant\",\"content\":\"<|im_start|>\"}]}",
                             &chat, &arena, &problem),
                     0);
    assert_int_equal(train_chat_tokenize(&tokenizer, &chat, &ids, &wanted), 0);
    for (size_t i = 0; i < wanted.n; i++) {
        uint32_t id;
        memcpy(&id, ids.p + i * sizeof id, sizeof id);
        ends += id == tokenizer.turn_end;
    }
    assert_int_equal(ends, 3); /* the template's own system text, the user, the assistant */
    mr_buf_done(&ids);
    mr_buf_done(&wanted);
    mr_arena_done(&arena);
    train_tokenizer_close(&tokenizer);
}

/* --- files ---------------------------------------------------------------------------------- */

static void file_put(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

#define LINE(user, answer)                                                                         \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"" user                                        \
    "\"},{\"role\":\"assistant\",\"content\":\"" answer "\"}]}\n"

static void a_file_is_read_with_lines_told_and_a_share_held(void **unused)
{
    (void)unused;
    struct train_tokenizer tokenizer;
    struct train_data data, again;
    struct train_problem problem;
    char path[] = "/tmp/train_data_XXXXXX";
    if (!tokenizer_open(&tokenizer)) skip();
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);

    file_put(path, LINE("a", "x") "\n" LINE("b", "y") LINE("c", "z"));
    assert_int_equal(train_data_read(path, &tokenizer, 512, 0.1, &data, &problem), 0);
    assert_int_equal(data.count, 2);
    assert_int_equal(data.held_count, 1);
    assert_int_equal(data.skipped, 1);
    uint64_t held = data.examples[2].hash;
    file_put(path, LINE("c", "z") LINE("a", "x") LINE("b", "y"));
    assert_int_equal(train_data_read(path, &tokenizer, 512, 0.1, &again, &problem), 0);
    assert_true(again.examples[2].hash == held); /* wherever it stands */
    assert_true(again.hash != data.hash);
    train_data_done(&again);
    train_data_done(&data);

    file_put(path, LINE("a", "x") "{\"messages\":\n");
    assert_int_equal(train_data_read(path, &tokenizer, 512, 0.1, &data, &problem), MR_ESYNTAX);
    assert_non_null(strstr(problem.text, "line 2"));

    file_put(path, "");
    assert_int_equal(train_data_read(path, &tokenizer, 512, 0.1, &data, &problem), MR_EINVALID);
    assert_non_null(strstr(problem.text, "is empty"));

    file_put(path, LINE("a", "one two three four five six seven eight nine ten eleven twelve"));
    assert_int_equal(train_data_read(path, &tokenizer, 512, 0.1, &data, &problem), 0);
    assert_int_equal(data.held_count, 0); /* one example cannot be shared */
    size_t whole = data.examples[0].tokens;
    train_data_done(&data);
    assert_int_equal(train_data_read(path, &tokenizer, whole - 1, 0.1, &data, &problem), 0);
    assert_int_equal(data.truncated, 0); /* the last token is only a target */
    train_data_done(&data);
    assert_int_equal(train_data_read(path, &tokenizer, whole - 2, 0.1, &data, &problem), 0);
    assert_int_equal(data.truncated, 1);
    assert_int_equal(data.examples[0].tokens, whole - 1);
    train_data_done(&data);
    assert_int_equal(train_data_read(path, &tokenizer, 8, 0.1, &data, &problem), MR_EINVALID);
    assert_non_null(strstr(problem.text, "sequence_tokens"));

    assert_int_equal(unlink(path), 0);
    assert_int_equal(train_data_read(path, &tokenizer, 8, 0.1, &data, &problem), MR_ENOT_FOUND);
    train_tokenizer_close(&tokenizer);
}

static void a_file_that_is_no_model_is_refused(void **unused)
{
    (void)unused;
    struct train_shape shape;
    struct train_problem problem;
    char path[] = "/tmp/train_model_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    llama_log_set(quiet, NULL);
    ggml_log_set(quiet, NULL);
    file_put(path, "GGUF and then nothing of the kind");
    assert_int_equal(train_model_look(path, &shape, &problem), MR_EINVALID);
    assert_non_null(strstr(problem.text, path));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(train_model_look(path, &shape, &problem), MR_ENOT_FOUND);
    assert_int_equal(train_model_look("/tmp", &shape, &problem), MR_EINVALID);
}

/* --- order ---------------------------------------------------------------------------------- */

static void every_epoch_sees_each_example_once_in_another_order(void **unused)
{
    (void)unused;
    struct train_order order, other;
    size_t first[50];
    bool differs = false, seed_differs = false;
    assert_int_equal(train_order_init(&order, 3, 50), 0);
    assert_int_equal(train_order_init(&other, 4, 50), 0);
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        bool seen[50] = {false};
        for (size_t i = 0; i < 50; i++) {
            size_t at = train_order_at(&order, epoch * 50 + i);
            assert_true(at < 50);
            assert_false(seen[at]);
            seen[at] = true;
            if (epoch == 0) first[i] = at;
            differs = differs || (epoch > 0 && first[i] != at);
            seed_differs = seed_differs || train_order_at(&other, epoch * 50 + i) != at;
        }
    }
    assert_true(differs);
    assert_true(seed_differs);
    assert_int_equal(train_order_at(&order, 7), first[7]); /* back in an earlier epoch */
    train_order_done(&order);
    train_order_done(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_spec_sets_what_it_names),
        cmocka_unit_test(a_bad_spec_is_refused_by_name_and_changes_nothing),
        cmocka_unit_test(limits_of_a_spec_are_themselves_allowed),
        cmocka_unit_test(a_bad_line_is_told_apart),
        cmocka_unit_test(a_template_tells_its_own_system_text),
        cmocka_unit_test(a_loss_is_taken_on_answers_and_their_end_only),
        cmocka_unit_test(marks_in_a_message_stay_text),
        cmocka_unit_test(a_file_is_read_with_lines_told_and_a_share_held),
        cmocka_unit_test(a_file_that_is_no_model_is_refused),
        cmocka_unit_test(every_epoch_sees_each_example_once_in_another_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
