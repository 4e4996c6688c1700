/* SPDX-License-Identifier: Apache-2.0 */
/* The document: defaults, limits at the limit and one past it, and what is refused with which
 * words. */
#include "sandbox_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct mr_arena arena;
static struct mr_buf problem;

static int setup(void **state)
{
    (void)state;
    mr_arena_init(&arena, (size_t)64 << 20);
    mr_buf_init(&problem, 4096);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mr_arena_done(&arena);
    mr_buf_done(&problem);
    return 0;
}

static int parse(const char *json, struct sandbox_spec *ret)
{
    mr_buf_reset(&problem);
    return sandbox_spec_parse(mr_str_from(json), &arena, ret, &problem);
}

static void refused(const char *json, const char *words)
{
    struct sandbox_spec spec;
    char text[4200];
    if (parse(json, &spec) == 0) fail_msg("taken: %s", json);
    snprintf(text, sizeof text, "%.*s", MR_STR_ARG(mr_buf_str(&problem)));
    if (strstr(text, words) == NULL) fail_msg("%s: want '%s', got '%s'", json, words, text);
}

static void defaults_are_those_of_the_manual(void **state)
{
    struct sandbox_spec spec;
    (void)state;
    assert_int_equal(parse("{\"command\":[\"a\",\"b\"]}", &spec), 0);
    assert_string_equal(spec.argv[0], "a");
    assert_string_equal(spec.argv[1], "b");
    assert_null(spec.argv[2]);
    assert_int_equal(spec.time_s, 60);
    assert_int_equal(spec.processes, 64);
    assert_int_equal(spec.memory_bytes, 512u << 20);
    assert_int_equal(spec.disk_bytes, 64u << 20);
    assert_int_equal(spec.output_bytes, 1u << 20);
    assert_int_equal(spec.file_count, 0);
}

static void limits_hold_at_the_limit_and_not_past_it(void **state)
{
    struct sandbox_spec spec;
    (void)state;
    assert_int_equal(parse("{\"command\":[\"a\"],\"time_s\":86400,\"processes\":4096,"
                           "\"output_bytes\":67108864,\"memory\":\"8MiB\"}",
                           &spec),
                     0);
    refused("{\"command\":[\"a\"],\"time_s\":86401}", "sandbox.time_s: give a whole number from 1");
    refused("{\"command\":[\"a\"],\"time_s\":0}", "sandbox.time_s");
    refused("{\"command\":[\"a\"],\"processes\":4097}", "sandbox.processes");
    refused("{\"command\":[\"a\"],\"output_bytes\":67108865}", "sandbox.output_bytes");
    refused("{\"command\":[\"a\"],\"memory\":\"7MiB\"}", "sandbox.memory: give at least 8MiB");
}

static void sizes_are_read_as_people_write_them(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"512MiB", 512u << 20},
                {"2GiB", (uint64_t)2 << 30},
                {"1.5G", (uint64_t)3 << 29},
                {"1000", 1000},
                {" 3 K ", 3072},
                {"1MB", 1000000}};
    static const char *const bad[] = {
        "", "MiB", "-1", "5 XiB", "1..5G", "99999999999999999999", "99999999999G"};
    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(good); i++) {
        uint64_t bytes = 0;
        assert_int_equal(sandbox_size_parse(mr_str_from(good[i].text), &bytes), 0);
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < MR_COUNT_OF(bad); i++) {
        uint64_t bytes = 7;
        assert_int_equal(sandbox_size_parse(mr_str_from(bad[i]), &bytes), MR_ESYNTAX);
        assert_int_equal(bytes, 7);
    }
}

static void names_cannot_lead_out(void **state)
{
    static const char *const bad[] = {"",     "/etc/passwd", "../x", "a/../../x",
                                      "a//b", ".",           "a/.",  "a/"};
    char longest[300];
    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(bad); i++) {
        assert_false(sandbox_name_safe(mr_str_from(bad[i])));
    }
    assert_false(sandbox_name_safe((struct mr_str){"a\0b", 3}));
    assert_true(sandbox_name_safe(MR_STR("a/b/c.txt")));
    assert_true(sandbox_name_safe(MR_STR("...")));
    memset(longest, 'a', sizeof longest);
    assert_true(sandbox_name_safe((struct mr_str){longest, SANDBOX_NAME_BYTES_MAX}));
    assert_false(sandbox_name_safe((struct mr_str){longest, SANDBOX_NAME_BYTES_MAX + 1}));
    refused("{\"command\":[\"a\"],\"files\":{\"../x\":\"\"}}",
            "sandbox.files: a name is a relative");
    refused("{\"command\":[\"a\"],\"outputs\":[\"/x\"]}", "sandbox.outputs: a name is a relative");
}

static void wrong_documents_are_refused_with_words(void **state)
{
    (void)state;
    refused("", "no JSON");
    refused("{\"command\":", "no JSON");
    refused("[]", "is no map");
    refused("{}", "give either command or code");
    refused("{\"command\":[\"a\"],\"code\":\"b\"}", "give either command or code");
    refused("{\"command\":[]}", "give a list");
    refused("{\"command\":\"a\"}", "give a list");
    refused("{\"command\":[1]}", "every word is a string");
    refused("{\"command\":[\"a\\u0000b\"]}", "every word is a string");
    refused("{\"command\":[\"\"]}", "the program is empty");
    refused("{\"code\":5}", "give the program as a string");
    refused("{\"code\":\"x\",\"language\":\"cobol\"}", "\"python\" and \"sh\"");
    refused("{\"command\":[\"a\"],\"stdin\":\"?\"}", "sandbox.stdin: is not base64");
    refused("{\"command\":[\"a\"],\"files\":{\"x\":\"?\"}}", "the contents are not base64");
    refused("{\"command\":[\"a\"],\"nework\":true}", "sandbox.nework is not known; known are");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(defaults_are_those_of_the_manual),       T(limits_hold_at_the_limit_and_not_past_it),
        T(sizes_are_read_as_people_write_them),    T(names_cannot_lead_out),
        T(wrong_documents_are_refused_with_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
