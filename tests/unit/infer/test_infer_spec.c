/* SPDX-License-Identifier: Apache-2.0 */
/* spec.json, the stored choice, and the comparison of measurements.
 *
 * Seeds: fixed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "infer_measure.h"

static struct mr_arena arena;
static char problem[256];

static int parse(const char *json, struct infer_config *config)
{
    problem[0] = '\0';
    return infer_spec_parse(mr_str_from(json), &arena, config, problem, sizeof(problem));
}

static int setup(void **state)
{
    (void)state;
    mr_arena_init(&arena, 1u << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_arena_done(&arena);
    return 0;
}

static void every_field_is_taken(void **state)
{
    (void)state;
    struct infer_config config = {.slots = 16, .threads = 1};
    assert_int_equal(
        parse(
            "{\"model\":\"/m.gguf\",\"served_name\":\"n\",\"adapters\":[\"/a\",\"/b\"],\"slots\":4,"
            "\"context\":2048,\"threads\":2,\"itl_ms\":50,\"grace_ms\":0,\"no_convert\":true,"
            "\"no_tune\":true,\"quality_bound\":0.02}",
            &config),
        0);
    assert_string_equal(config.model, "/m.gguf");
    assert_string_equal(config.name, "n");
    assert_int_equal(config.adapter_count, 2);
    assert_string_equal(config.adapters[1], "/b");
    assert_int_equal(config.slots, 4);
    assert_int_equal(config.context, 2048);
    assert_int_equal(config.threads, 2);
    assert_int_equal(config.itl_ms, 50);
    assert_int_equal(config.grace_ms, 0);
    assert_true(config.no_convert);
    assert_true(config.no_tune);
    assert_true(config.quality_bound > 0.0199 && config.quality_bound < 0.0201);
}

static void only_the_model_is_needed(void **state)
{
    (void)state;
    struct infer_config config = {.slots = 16};
    assert_int_equal(parse("{\"model\":\"m\"}", &config), 0);
    assert_int_equal(config.slots, 16);
    assert_int_equal(parse("{}", &config), 0); /* it was named before: options and spec add up */
}

static void a_spec_without_a_model_is_refused(void **state)
{
    (void)state;
    struct infer_config config = {0};
    assert_int_equal(parse("{\"slots\":3}", &config), MR_EINVALID);
    assert_non_null(strstr(problem, "model"));
    assert_int_equal(config.slots, 0); /* untouched */
}

static void bad_values_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *json, *word;
        int error;
    } cases[] = {
        {"", "empty", MR_ESYNTAX},
        {"{", "JSON", MR_ESYNTAX},
        {"[]", "object", MR_ESYNTAX},
        {"{\"model\":\"m\"} x", "JSON", MR_ESYNTAX},
        {"{\"modle\":\"m\"}", "modle", MR_EINVALID},
        {"{\"model\":1}", "string", MR_EINVALID},
        {"{\"model\":\"\"}", "empty", MR_EINVALID},
        {"{\"model\":\"a\\u0000b\"}", "zero", MR_EINVALID},
        {"{\"model\":\"m\",\"slots\":0}", "slots", MR_EINVALID},
        {"{\"model\":\"m\",\"slots\":65}", "64", MR_EINVALID},
        {"{\"model\":\"m\",\"slots\":-1}", "slots", MR_EINVALID},
        {"{\"model\":\"m\",\"slots\":1.5}", "slots", MR_EINVALID},
        {"{\"model\":\"m\",\"context\":1048577}", "context", MR_EINVALID},
        {"{\"model\":\"m\",\"threads\":257}", "threads", MR_EINVALID},
        {"{\"model\":\"m\",\"itl_ms\":0}", "itl_ms", MR_EINVALID},
        {"{\"model\":\"m\",\"quality_bound\":1.1}", "quality_bound", MR_EINVALID},
        {"{\"model\":\"m\",\"quality_bound\":\"0\"}", "quality_bound", MR_EINVALID},
        {"{\"model\":\"m\",\"no_tune\":1}", "no_tune", MR_EINVALID},
        {"{\"model\":\"m\",\"adapters\":\"a\"}", "list", MR_EINVALID},
        {"{\"model\":\"m\",\"adapters\":[1]}", "adapters", MR_EINVALID},
        {"{\"model\":\"m\",\"adapters\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]}",
         "8", MR_EINVALID},
    };
    for (size_t i = 0; i < MR_COUNT_OF(cases); i++) {
        struct infer_config config = {.slots = 16};
        assert_int_equal(parse(cases[i].json, &config), cases[i].error);
        assert_non_null(strstr(problem, cases[i].word));
        assert_null(config.model);
        assert_int_equal(config.slots, 16);
    }
}

static void limits_hold_at_and_one_past(void **state)
{
    (void)state;
    struct infer_config config = {0};
    assert_int_equal(parse("{\"model\":\"m\",\"slots\":64,\"context\":1048576,\"threads\":256,"
                           "\"itl_ms\":60000,\"quality_bound\":1}",
                           &config),
                     0);
    char json[INFER_PATH_BYTES_MAX + 64];
    for (uint32_t extra = 0; extra < 2; extra++) {
        uint32_t n = INFER_PATH_BYTES_MAX - 1 + extra;
        (void)snprintf(json, sizeof(json), "{\"model\":\"%0*d\"}", (int)n, 0);
        assert_int_equal(parse(json, &config), extra == 0 ? 0 : MR_EINVALID);
    }
    mr_cleanup(mr_buf_done) struct mr_buf big;
    mr_buf_init(&big, MR_SPEC_BYTES_MAX + 16);
    mr_buf_put_str(&big, MR_STR("{\"model\":\"m\"}"));
    while (big.n < MR_SPEC_BYTES_MAX) {
        mr_buf_put_char(&big, ' ');
    }
    assert_int_equal(infer_spec_parse(mr_buf_str(&big), &arena, &config, problem, 256), 0);
    mr_buf_put_char(&big, ' ');
    assert_int_equal(infer_spec_parse(mr_buf_str(&big), &arena, &config, problem, 256),
                     MR_ETOO_LARGE);
}

/* --- the stored choice ---------------------------------------------------------------------- */

static struct infer_choice choice_example(void)
{
    return (struct infer_choice){.file = "/a \"b\".gguf",
                                 .format = "BF16",
                                 .summary = "fast\nand good",
                                 .file_bytes = 1ull << 40,
                                 .flash_attention = 1,
                                 .streams = true,
                                 .ubatch = 128};
}

static void a_choice_comes_back_as_it_was_stored(void **state)
{
    (void)state;
    struct infer_choice choice = choice_example();
    struct infer_choice back = {0};
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, 8192);
    infer_choice_put(&buf, &choice);
    assert_int_equal(infer_choice_parse(mr_buf_str(&buf), &back), 0);
    assert_string_equal(back.file, choice.file);
    assert_string_equal(back.format, choice.format);
    assert_string_equal(back.summary, choice.summary);
    assert_true(back.file_bytes == choice.file_bytes);
    assert_int_equal(back.flash_attention, 1);
    assert_true(back.streams);
    assert_int_equal(back.ubatch, 128);
    assert_true(back.measured);
}

static void a_cut_off_or_foreign_choice_is_refused(void **state)
{
    (void)state;
    struct infer_choice choice = choice_example();
    struct infer_choice back = {.ubatch = 77};
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, 8192);
    infer_choice_put(&buf, &choice);
    for (size_t n = 0; n + 2 < buf.n; n++) {
        assert_true(infer_choice_parse((struct mr_str){(char *)buf.p, n}, &back) < 0);
    }
    buf.p[11] = '2'; /* the version */
    assert_int_equal(infer_choice_parse(mr_buf_str(&buf), &back), MR_EUNSUPPORTED);
    assert_int_equal(back.ubatch, 77);
}

/* --- choosing ------------------------------------------------------------------------------- */

static void a_rise_counts_at_the_upper_end_of_its_error(void **state)
{
    (void)state;
    static struct infer_loss base;
    static struct infer_loss other;
    base.count = other.count = 400;
    for (uint32_t i = 0; i < 400; i++) {
        base.nats[i] = (float)(i % 7);           /* a large spread, which must cancel */
        other.nats[i] = base.nats[i] + 0.00995f; /* 1 % of perplexity, every token */
    }
    double rise = infer_choose_rise(&base, &other);
    assert_true(rise > 0.0098 && rise < 0.0102);
    for (uint32_t i = 0; i < 400; i++) {
        other.nats[i] = base.nats[i] + (i % 2 == 0 ? 0.4f : -0.4f); /* nothing, with much noise */
    }
    rise = infer_choose_rise(&base, &other);
    assert_true(rise > 0.019 && rise < 0.022); /* one standard error: .4 / 20 */
    other.count = 1;
    assert_true(infer_choose_rise(&base, &other) > 1.0); /* nothing was compared */
}

static void a_way_that_is_slower_somewhere_is_not_taken(void **state)
{
    (void)state;
    struct infer_speed base = {{100, 50, 80, 100}};
    struct infer_speed noise = {{97, 49, 78, 97}};
    struct infer_speed one = {{900, 45, 900, 900}};
    assert_true(infer_choose_nowhere_slower(&base, &base));
    assert_true(infer_choose_nowhere_slower(&base, &noise));
    assert_false(infer_choose_nowhere_slower(&base, &one));
}

static void a_score_is_a_mean_of_ratios(void **state)
{
    (void)state;
    struct infer_speed base = {{100, 50, 80, 100}};
    struct infer_speed twice = {{200, 100, 160, 200}};
    struct infer_speed failed = {{200, 0, 160, 200}};
    double ratio = infer_choose_score(&twice) / infer_choose_score(&base);
    assert_true(ratio > 1.999 && ratio < 2.001);
    assert_true(infer_choose_score(&failed) <= 0.0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_taken),
        cmocka_unit_test(only_the_model_is_needed),
        cmocka_unit_test(a_spec_without_a_model_is_refused),
        cmocka_unit_test(bad_values_are_refused_by_name),
        cmocka_unit_test(limits_hold_at_and_one_past),
        cmocka_unit_test(a_choice_comes_back_as_it_was_stored),
        cmocka_unit_test(a_cut_off_or_foreign_choice_is_refused),
        cmocka_unit_test(a_rise_counts_at_the_upper_end_of_its_error),
        cmocka_unit_test(a_way_that_is_slower_somewhere_is_not_taken),
        cmocka_unit_test(a_score_is_a_mean_of_ratios),
    };
    return cmocka_run_group_tests_name("infer_spec", tests, setup, teardown);
}
