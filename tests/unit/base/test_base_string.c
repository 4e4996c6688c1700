/* SPDX-License-Identifier: Apache-2.0 */
/* Strings with a length: comparing, cutting, numbers at their limits, UTF-8 as RFC 3629 has it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/base.h"

static const struct mr_str nothing = {0};

static void null_and_empty_are_the_same_string(void **state)
{
    (void)state;
    assert_int_equal(mr_str_from(NULL).n, 0);
    assert_true(mr_str_equal(mr_str_from(NULL), nothing));
    assert_true(mr_str_equal(MR_STR(""), nothing));
    assert_true(mr_str_equal_nocase(MR_STR(""), nothing));
    assert_true(mr_str_starts(nothing, nothing));
    assert_true(mr_str_starts(MR_STR("a"), nothing));
    assert_int_equal(mr_str_compare(MR_STR(""), nothing), 0);
    assert_int_equal(mr_str_trim(nothing).n, 0);
    assert_int_equal(mr_utf8_valid_prefix(nothing), 0);
}

static void equality_sees_length_and_zero_bytes(void **state)
{
    (void)state;
    assert_true(mr_str_equal(MR_STR("a\0b"), MR_STR("a\0b")));
    assert_false(mr_str_equal(MR_STR("a\0b"), MR_STR("a\0c")));
    assert_false(mr_str_equal(MR_STR("a"), MR_STR("a\0")));
    assert_false(mr_str_equal(MR_STR("a"), MR_STR("A")));
}

static void nocase_folds_ascii_letters_only(void **state)
{
    (void)state;
    assert_true(mr_str_equal_nocase(MR_STR("Content-LENGTH"), MR_STR("content-length")));
    assert_true(mr_str_equal_nocase(MR_STR("AZ"), MR_STR("az")));
    assert_false(mr_str_equal_nocase(MR_STR("@"), MR_STR("`")));
    assert_false(mr_str_equal_nocase(MR_STR("["), MR_STR("{")));
    assert_false(mr_str_equal_nocase(MR_STR("\xC4"), MR_STR("\xE4")));
    assert_false(mr_str_equal_nocase(MR_STR("a"), MR_STR("ab")));
}

static void compare_is_bytewise_then_by_length(void **state)
{
    (void)state;
    assert_true(mr_str_compare(MR_STR("a"), MR_STR("b")) < 0);
    assert_true(mr_str_compare(MR_STR("b"), MR_STR("a")) > 0);
    assert_true(mr_str_compare(MR_STR("a"), MR_STR("ab")) < 0);
    assert_true(mr_str_compare(MR_STR("ab"), MR_STR("a")) > 0);
    assert_true(mr_str_compare(MR_STR("\x7F"), MR_STR("\x80")) < 0);
    assert_int_equal(mr_str_compare(MR_STR("ab"), MR_STR("ab")), 0);
}

static void starts_needs_the_whole_prefix(void **state)
{
    (void)state;
    assert_true(mr_str_starts(MR_STR("/v1/chat"), MR_STR("/v1/")));
    assert_false(mr_str_starts(MR_STR("/v1"), MR_STR("/v1/")));
    assert_false(mr_str_starts(MR_STR("/v2/"), MR_STR("/v1/")));
}

static void trim_takes_white_space_at_both_ends_only(void **state)
{
    (void)state;
    assert_true(mr_str_equal(mr_str_trim(MR_STR(" \t\r\n\v\fa b ")), MR_STR("a b")));
    assert_int_equal(mr_str_trim(MR_STR(" \n ")).n, 0);
    assert_true(mr_str_equal(mr_str_trim(MR_STR("\0")), MR_STR("\0")));
    assert_true(mr_str_equal(mr_str_trim(MR_STR("\xA0")), MR_STR("\xA0")));
}

static void split_gives_every_part_also_empty_ones(void **state)
{
    static const struct {
        const char *text;
        const char *parts[5];
        size_t count;
    } cases[] = {
        {"a,,b", {"a", "", "b"}, 3}, {"", {""}, 1},        {",", {"", ""}, 2}, {"a", {"a"}, 1},
        {"a,", {"a", ""}, 2},        {",a", {"", "a"}, 2},
    };

    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(cases); i++) {
        struct mr_str rest = mr_str_from(cases[i].text);
        struct mr_str part = {0};
        size_t count = 0;
        while (mr_str_split(&rest, ',', &part)) {
            assert_true(count < cases[i].count);
            assert_true(mr_str_equal(part, mr_str_from(cases[i].parts[count])));
            count++;
        }
        assert_int_equal(count, cases[i].count);
        assert_null(rest.p);
        assert_false(mr_str_split(&rest, ',', &part));
    }
}

static void u64_is_read_up_to_its_limit_and_not_past_it(void **state)
{
    uint64_t v = 7;

    (void)state;
    assert_int_equal(mr_str_to_u64(MR_STR("0"), &v), 0);
    assert_int_equal(v, 0);
    assert_int_equal(mr_str_to_u64(MR_STR("00042"), &v), 0);
    assert_int_equal(v, 42);
    assert_int_equal(mr_str_to_u64(MR_STR("18446744073709551615"), &v), 0);
    assert_true(v == UINT64_MAX);
    v = 7;
    assert_int_equal(mr_str_to_u64(MR_STR("18446744073709551616"), &v), MR_ETOO_LARGE);
    assert_int_equal(mr_str_to_u64(MR_STR("99999999999999999999"), &v), MR_ETOO_LARGE);
    assert_int_equal(mr_str_to_u64(MR_STR("184467440737095516150"), &v), MR_ETOO_LARGE);
    assert_int_equal(v, 7);
}

static void what_is_not_a_whole_decimal_number_is_refused(void **state)
{
    static const char *const texts[] = {"",   "-1",  "+1", " 1", "1 ", "0x1",
                                        "1.", "1e3", "-",  "a",  "1a", "99999999999999999999z"};
    uint64_t v = 7;

    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(texts); i++) {
        assert_int_equal(mr_str_to_u64(mr_str_from(texts[i]), &v), MR_ESYNTAX);
    }
    assert_int_equal(mr_str_to_u64(MR_STR("1\0"), &v), MR_ESYNTAX);
    assert_int_equal(mr_str_to_u64(nothing, &v), MR_ESYNTAX);
    assert_int_equal(v, 7);
}

static void i64_is_read_from_its_lowest_to_its_highest(void **state)
{
    int64_t v = 7;

    (void)state;
    assert_int_equal(mr_str_to_i64(MR_STR("9223372036854775807"), &v), 0);
    assert_true(v == INT64_MAX);
    assert_int_equal(mr_str_to_i64(MR_STR("-9223372036854775808"), &v), 0);
    assert_true(v == INT64_MIN);
    assert_int_equal(mr_str_to_i64(MR_STR("-0"), &v), 0);
    assert_int_equal(v, 0);
    assert_int_equal(mr_str_to_i64(MR_STR("-1"), &v), 0);
    assert_int_equal(v, -1);
    v = 7;
    assert_int_equal(mr_str_to_i64(MR_STR("9223372036854775808"), &v), MR_ETOO_LARGE);
    assert_int_equal(mr_str_to_i64(MR_STR("-9223372036854775809"), &v), MR_ETOO_LARGE);
    assert_int_equal(mr_str_to_i64(MR_STR("--1"), &v), MR_ESYNTAX);
    assert_int_equal(mr_str_to_i64(MR_STR("-"), &v), MR_ESYNTAX);
    assert_int_equal(mr_str_to_i64(MR_STR("+1"), &v), MR_ESYNTAX);
    assert_int_equal(mr_str_to_i64(nothing, &v), MR_ESYNTAX);
    assert_int_equal(v, 7);
}

static void a_copy_is_independent_and_zero_terminated(void **state)
{
    struct mr_arena arena;
    char text[] = "abc";
    struct mr_str copy;

    (void)state;
    mr_arena_init(&arena, 64);
    copy = mr_str_copy(&arena, mr_str_from(text));
    text[0] = 'x';
    assert_int_equal(copy.n, 3);
    assert_string_equal(copy.p, "abc");
    copy = mr_str_copy(&arena, nothing);
    assert_non_null(copy.p);
    assert_int_equal(copy.n, 0);
    assert_string_equal(mr_str_zero(&arena, (struct mr_str){"abcdef", 2}), "ab");
    /* 48 of 64 are used: 15 characters and their zero still fit, then nothing does */
    assert_null(mr_str_copy(&arena, MR_STR("0123456789abcdef")).p);
    assert_non_null(mr_str_copy(&arena, MR_STR("0123456789abcde")).p);
    assert_null(mr_str_copy(&arena, nothing).p);
    mr_arena_done(&arena);
}

static void valid_utf8_is_a_prefix_of_itself(void **state)
{
    static const struct mr_str texts[] = {
        {"abc", 3},
        {"\x00", 1},
        {"\x7F", 1},
        {"\xC2\x80", 2},         /* U+0080, the first of two bytes */
        {"\xDF\xBF", 2},         /* U+07FF */
        {"\xE0\xA0\x80", 3},     /* U+0800 */
        {"\xED\x9F\xBF", 3},     /* U+D7FF, the last before the surrogates */
        {"\xEE\x80\x80", 3},     /* U+E000, the first after them */
        {"\xEF\xBF\xBF", 3},     /* U+FFFF */
        {"\xF0\x90\x80\x80", 4}, /* U+10000 */
        {"\xF4\x8F\xBF\xBF", 4}, /* U+10FFFF, the last */
    };

    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(texts); i++) {
        assert_int_equal(mr_utf8_valid_prefix(texts[i]), texts[i].n);
    }
}

static void invalid_utf8_ends_the_prefix(void **state)
{
    static const struct mr_str texts[] = {
        {"ab\x80", 3},               /* a continuation alone */
        {"ab\xC0\x80", 4},           /* overlong zero */
        {"ab\xC1\xBF", 4},           /* overlong U+007F */
        {"ab\xE0\x9F\xBF", 5},       /* overlong U+07FF */
        {"ab\xF0\x8F\xBF\xBF", 6},   /* overlong U+FFFF */
        {"ab\xED\xA0\x80", 5},       /* the first surrogate */
        {"ab\xED\xBF\xBF", 5},       /* the last surrogate */
        {"ab\xF4\x90\x80\x80", 6},   /* U+110000 */
        {"ab\xF5\x80\x80\x80", 6},   /* no such first byte */
        {"ab\xFF", 3},               /* nor this */
        {"ab\xE2\x82", 4},           /* cut in the middle */
        {"ab\xF0\x9F\x98", 5},       /* cut in the middle */
        {"ab\xE2\x28\xA1", 5},       /* second byte is no continuation */
        {"ab\xE2\x82\x28", 5},       /* third byte is none */
        {"ab\xF0\x9F\x98\x28xy", 8}, /* fourth byte is none */
    };

    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(texts); i++) {
        assert_int_equal(mr_utf8_valid_prefix(texts[i]), 2);
    }
}

/* Every code point, encoded by the rule, is valid; so are exactly 1,112,064 of them. */
static void all_code_points_are_valid_except_surrogates(void **state)
{
    size_t count = 0;

    (void)state;
    for (uint32_t c = 0x10000; c <= 0x1FFFFF; c++) {
        const char text[4] = {(char)(0xF0 | c >> 18), (char)(0x80 | (c >> 12 & 63)),
                              (char)(0x80 | (c >> 6 & 63)), (char)(0x80 | (c & 63))};
        count += mr_utf8_valid_prefix((struct mr_str){text, 4}) == 4 ? 1 : 0;
    }
    for (uint32_t c = 0; c <= 0xFFFF; c++) {
        const char text[3] = {(char)(0xE0 | c >> 12), (char)(0x80 | (c >> 6 & 63)),
                              (char)(0x80 | (c & 63))};
        count += mr_utf8_valid_prefix((struct mr_str){text, 3}) == 3 ? 1 : 0;
    }
    for (uint32_t c = 0; c <= 0x7FF; c++) {
        const char text[2] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 63))};
        count += mr_utf8_valid_prefix((struct mr_str){text, 2}) == 2 ? 1 : 0;
    }
    for (int c = 0; c <= 0xFF; c++) {
        const char text[1] = {(char)c};
        count += mr_utf8_valid_prefix((struct mr_str){text, 1}) == 1 ? 1 : 0;
    }
    assert_int_equal(count, 0x110000 - 0x800);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_and_empty_are_the_same_string),
        cmocka_unit_test(equality_sees_length_and_zero_bytes),
        cmocka_unit_test(nocase_folds_ascii_letters_only),
        cmocka_unit_test(compare_is_bytewise_then_by_length),
        cmocka_unit_test(starts_needs_the_whole_prefix),
        cmocka_unit_test(trim_takes_white_space_at_both_ends_only),
        cmocka_unit_test(split_gives_every_part_also_empty_ones),
        cmocka_unit_test(u64_is_read_up_to_its_limit_and_not_past_it),
        cmocka_unit_test(what_is_not_a_whole_decimal_number_is_refused),
        cmocka_unit_test(i64_is_read_from_its_lowest_to_its_highest),
        cmocka_unit_test(a_copy_is_independent_and_zero_terminated),
        cmocka_unit_test(valid_utf8_is_a_prefix_of_itself),
        cmocka_unit_test(invalid_utf8_ends_the_prefix),
        cmocka_unit_test(all_code_points_are_valid_except_surrogates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
