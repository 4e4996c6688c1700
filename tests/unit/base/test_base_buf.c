/* SPDX-License-Identifier: Apache-2.0 */
/* The buffer at its limit and out of memory, the reader past its end, the trace line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/base.h"
#include "fail_alloc.h"
#include "panics.h"

static int libc_again(void **state)
{
    (void)state;
    mr_allocator_set(NULL);
    return 0;
}

static void assert_holds(const struct mr_buf *buf, struct mr_str wanted)
{
    assert_int_equal(buf->n, wanted.n);
    assert_memory_equal(mr_buf_str(buf).p, wanted.p, wanted.n);
}

static void an_untouched_buffer_owns_nothing(void **state)
{
    struct fail_alloc fail = {0};
    struct mr_buf buf;

    (void)state;
    fail_alloc_use(&fail);
    mr_buf_init(&buf, 100);
    mr_buf_put(&buf, NULL, 0);
    mr_buf_put_str(&buf, (struct mr_str){0});
    assert_int_equal(mr_buf_str(&buf).n, 0);
    assert_non_null(mr_buf_str(&buf).p);
    mr_buf_drop_front(&buf, 0);
    mr_buf_done(&buf);
    mr_buf_done(&buf);
    assert_int_equal(fail.calls, 0);
}

static void buffer_takes_its_limit_and_not_one_byte_more(void **state)
{
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 1000);
    for (size_t i = 0; i < 1000; i++) {
        mr_buf_put_char(&buf, (char)('a' + i % 26));
    }
    assert_false(buf.failed);
    assert_int_equal(buf.n, 1000);
    mr_buf_put_char(&buf, 'z');
    assert_true(buf.failed);
    assert_int_equal(buf.n, 1000);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(buf.p[i], 'a' + i % 26);
    }
    mr_buf_done(&buf);
}

static void a_failure_sticks_until_reset(void **state)
{
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 4);
    mr_buf_put_str(&buf, MR_STR("ab"));
    mr_buf_put_str(&buf, MR_STR("cde"));
    assert_true(buf.failed);
    mr_buf_put_str(&buf, MR_STR("c"));
    mr_buf_printf(&buf, "%d", 1);
    assert_false(mr_buf_reserve(&buf, 0));
    assert_holds(&buf, MR_STR("ab"));
    mr_buf_reset(&buf);
    assert_false(buf.failed);
    mr_buf_put_str(&buf, MR_STR("wxyz"));
    assert_false(buf.failed);
    assert_holds(&buf, MR_STR("wxyz"));
    mr_buf_done(&buf);
}

static void sizes_that_overflow_fail_cleanly(void **state)
{
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, SIZE_MAX);
    mr_buf_put_char(&buf, 'a');
    assert_false(mr_buf_reserve(&buf, SIZE_MAX));
    mr_buf_reset(&buf);
    assert_false(mr_buf_reserve(&buf, PTRDIFF_MAX));
    mr_buf_done(&buf);
}

static void printf_fills_the_buffer_to_its_limit(void **state)
{
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 300);
    mr_buf_printf(&buf, "%s=%d ", "a", -5);
    assert_holds(&buf, MR_STR("a=-5 "));
    mr_buf_printf(&buf, "%0295d", 7);
    assert_false(buf.failed);
    assert_int_equal(buf.n, 300);
    assert_int_equal(buf.p[299], '7');
    mr_buf_printf(&buf, "%s", "");
    assert_false(buf.failed);
    mr_buf_printf(&buf, "%s", "x");
    assert_true(buf.failed);
    assert_int_equal(buf.n, 300);
    mr_buf_done(&buf);
    mr_buf_init(&buf, 300);
    mr_buf_printf(&buf, "%0301d", 7);
    assert_true(buf.failed);
    assert_int_equal(buf.n, 0);
    mr_buf_done(&buf);
}

static void numbers_are_written_from_lowest_to_highest(void **state)
{
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 200);
    mr_buf_put_u64_text(&buf, 0);
    mr_buf_put_char(&buf, ' ');
    mr_buf_put_i64_text(&buf, 0);
    mr_buf_put_char(&buf, ' ');
    mr_buf_put_u64_text(&buf, UINT64_MAX);
    mr_buf_put_char(&buf, ' ');
    mr_buf_put_i64_text(&buf, INT64_MIN);
    mr_buf_put_char(&buf, ' ');
    mr_buf_put_i64_text(&buf, INT64_MAX);
    mr_buf_put_char(&buf, ' ');
    mr_buf_put_i64_text(&buf, -1);
    assert_holds(&buf,
                 MR_STR("0 0 18446744073709551615 -9223372036854775808 9223372036854775807 -1"));
    mr_buf_done(&buf);
}

static void a_number_is_put_whole_or_not_at_all(void **state)
{
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 3);
    mr_buf_put_i64_text(&buf, -123);
    assert_true(buf.failed);
    assert_int_equal(buf.n, 0);
    mr_buf_reset(&buf);
    mr_buf_put_i64_text(&buf, -12);
    assert_holds(&buf, MR_STR("-12"));
    mr_buf_done(&buf);
}

static void stored_integers_are_little_endian(void **state)
{
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 100);
    mr_buf_put_u8(&buf, 0x01);
    mr_buf_put_u16(&buf, 0x0203);
    mr_buf_put_u32(&buf, 0x04050607);
    mr_buf_put_u64(&buf, UINT64_C(0x08090A0B0C0D0E0F));
    mr_buf_put_bytes32(&buf, MR_STR("hi"));
    assert_holds(&buf, MR_STR("\x01\x03\x02\x07\x06\x05\x04\x0F\x0E\x0D\x0C\x0B\x0A\x09\x08"
                              "\x02\x00\x00\x00hi"));
    mr_buf_done(&buf);
}

static void the_reader_gives_back_what_was_put(void **state)
{
    struct mr_buf buf;
    struct mr_reader reader;

    (void)state;
    mr_buf_init(&buf, 100);
    mr_buf_put_u8(&buf, UINT8_MAX);
    mr_buf_put_u16(&buf, UINT16_MAX);
    mr_buf_put_u32(&buf, UINT32_MAX);
    mr_buf_put_u64(&buf, UINT64_MAX - 1);
    mr_buf_put_bytes32(&buf, MR_STR("a\0b"));
    mr_buf_put_bytes32(&buf, (struct mr_str){0});
    mr_buf_put_str(&buf, MR_STR("rest"));
    reader = mr_reader_from(mr_buf_str(&buf));
    assert_int_equal(mr_read_u8(&reader), UINT8_MAX);
    assert_int_equal(mr_read_u16(&reader), UINT16_MAX);
    assert_true(mr_read_u32(&reader) == UINT32_MAX);
    assert_true(mr_read_u64(&reader) == UINT64_MAX - 1);
    assert_true(mr_str_equal(mr_read_bytes32(&reader), MR_STR("a\0b")));
    assert_int_equal(mr_read_bytes32(&reader).n, 0);
    assert_true(mr_str_equal(mr_read_rest(&reader), MR_STR("rest")));
    assert_int_equal(mr_read_rest(&reader).n, 0);
    assert_false(reader.failed);
    mr_buf_done(&buf);
}

static void reading_past_the_end_gives_zeros_and_sticks(void **state)
{
    struct mr_reader reader = mr_reader_from(MR_STR("\x01\x02\x03"));

    (void)state;
    assert_int_equal(mr_read_u32(&reader), 0);
    assert_true(reader.failed);
    assert_int_equal(mr_read_u8(&reader), 0);
    assert_int_equal(mr_read_bytes32(&reader).n, 0);
    assert_int_equal(mr_read_rest(&reader).n, 0);
    reader = mr_reader_from((struct mr_str){0});
    assert_int_equal(mr_read_rest(&reader).n, 0);
    assert_false(reader.failed);
    assert_int_equal(mr_read_u8(&reader), 0);
    assert_true(reader.failed);
}

static void every_width_is_read_at_the_very_end_and_not_one_byte_past_it(void **state)
{
    static const char bytes[] = "\x11\x22\x33\x44\x55\x66\x77";
    struct mr_reader reader = mr_reader_from((struct mr_str){bytes, 1});

    (void)state;
    assert_int_equal(mr_read_u8(&reader), 0x11);
    assert_false(reader.failed);
    reader = mr_reader_from((struct mr_str){bytes, 2});
    assert_int_equal(mr_read_u16(&reader), 0x2211);
    assert_false(reader.failed);
    reader = mr_reader_from((struct mr_str){bytes, 4});
    assert_int_equal(mr_read_u32(&reader), 0x44332211);
    assert_false(reader.failed);
    reader = mr_reader_from((struct mr_str){bytes, 8});
    assert_true(mr_read_u64(&reader) == UINT64_C(0x0077665544332211));
    assert_false(reader.failed);
    reader = mr_reader_from((struct mr_str){bytes, 1});
    assert_int_equal(mr_read_u16(&reader), 0);
    assert_true(reader.failed);
    reader = mr_reader_from((struct mr_str){bytes, 7});
    assert_true(mr_read_u64(&reader) == 0);
    assert_true(reader.failed);
}

static void a_length_that_does_not_fit_its_prefix_is_refused_unread(void **state)
{
    struct fail_alloc fail = {0};
    struct mr_buf buf;

    (void)state;
    fail_alloc_use(&fail);
    mr_buf_init(&buf, SIZE_MAX);
    mr_buf_put_bytes32(&buf, (struct mr_str){"x", (size_t)UINT32_MAX + 1});
    assert_true(buf.failed);
    mr_buf_reset(&buf);
    mr_buf_put_bytes32(&buf, (struct mr_str){"x", SIZE_MAX});
    assert_true(buf.failed);
    assert_int_equal(fail.calls, 0);
    mr_buf_done(&buf);
}

static void a_length_past_the_end_is_refused_at_the_limit_and_one_past_it(void **state)
{
    struct mr_reader reader = mr_reader_from(MR_STR("\x02\0\0\0ab"));

    (void)state;
    assert_int_equal(mr_read_bytes32(&reader).n, 2);
    assert_false(reader.failed);
    reader = mr_reader_from(MR_STR("\x03\0\0\0ab"));
    assert_int_equal(mr_read_bytes32(&reader).n, 0);
    assert_true(reader.failed);
    reader = mr_reader_from(MR_STR("\xFF\xFF\xFF\xFF"));
    assert_int_equal(mr_read_bytes32(&reader).n, 0);
    assert_true(reader.failed);
}

static void bytes32_is_put_whole_or_not_at_all(void **state)
{
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 7);
    mr_buf_put_bytes32(&buf, MR_STR("abcd"));
    assert_true(buf.failed);
    assert_int_equal(buf.n, 0);
    mr_buf_reset(&buf);
    mr_buf_put_bytes32(&buf, MR_STR("abc"));
    assert_false(buf.failed);
    assert_int_equal(buf.n, 7);
    mr_buf_done(&buf);
}

static void drop_front_keeps_the_rest(void **state)
{
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 10);
    mr_buf_put_str(&buf, MR_STR("abcdef"));
    mr_buf_drop_front(&buf, 2);
    assert_holds(&buf, MR_STR("cdef"));
    mr_buf_drop_front(&buf, 4);
    assert_int_equal(buf.n, 0);
    assert_true(PANICS(mr_buf_drop_front(&buf, 1)));
    mr_buf_done(&buf);
}

static void put_all_kinds(struct mr_buf *buf)
{
    for (size_t i = 0; i < 20; i++) {
        mr_buf_put_str(buf, MR_STR("some text that is longer than a word"));
        mr_buf_put_i64_text(buf, -1234567);
        mr_buf_printf(buf, "%s %100d", "x", 5);
        mr_buf_put_bytes32(buf, MR_STR("bytes"));
        mr_json_put_string(buf, MR_STR("\n\xFF"));
        mr_hex_put(buf, "abc", 3);
        mr_base64_put(buf, "abcd", 4);
        mr_time_put_rfc3339(buf, 0);
    }
}

/* What was put before the failing call is a prefix of the whole, and nothing leaks. */
static void buffer_survives_every_call_failing_once(void **state)
{
    struct mr_buf whole;
    bool failed_once = true;

    (void)state;
    mr_buf_init(&whole, 1u << 20);
    put_all_kinds(&whole);
    assert_false(whole.failed);
    for (size_t fail_at = 1; failed_once; fail_at++) {
        struct fail_alloc fail = {.fail_at = fail_at};
        struct mr_buf buf;

        fail_alloc_use(&fail);
        mr_buf_init(&buf, 1u << 20);
        put_all_kinds(&buf);
        failed_once = fail.calls >= fail_at;
        assert_int_equal(buf.failed, failed_once);
        assert_true(mr_str_starts(mr_buf_str(&whole), mr_buf_str(&buf)));
        assert_true(failed_once || buf.n == whole.n);
        mr_buf_done(&buf);
        assert_int_equal(fail.live, 0);
        mr_allocator_set(NULL);
    }
    mr_buf_done(&whole);
}

/* The same at every limit: whole pieces only, never a byte past it. */
static void buffer_survives_every_limit(void **state)
{
    struct mr_buf whole;

    (void)state;
    mr_buf_init(&whole, 1u << 20);
    put_all_kinds(&whole);
    for (size_t limit = 0; limit <= whole.n; limit++) {
        struct mr_buf buf;
        mr_buf_init(&buf, limit);
        put_all_kinds(&buf);
        assert_int_equal(buf.failed, limit < whole.n);
        assert_true(buf.n <= limit);
        assert_true(mr_str_starts(mr_buf_str(&whole), mr_buf_str(&buf)));
        mr_buf_done(&buf);
    }
    mr_buf_done(&whole);
}

static void growth_is_by_doubling(void **state)
{
    struct fail_alloc fail = {0};
    struct mr_buf buf;

    (void)state;
    fail_alloc_use(&fail);
    mr_buf_init(&buf, 1u << 30);
    for (size_t i = 0; i < 1000000; i++) {
        mr_buf_put_char(&buf, 'x');
    }
    assert_false(buf.failed);
    assert_true(fail.calls < 20);
    mr_buf_done(&buf);
    assert_int_equal(fail.live, 0);
}

struct lines {
    char text[2048];
    size_t n;
    size_t count;
};

static void lines_take(void *context, struct mr_str line)
{
    struct lines *lines = context;
    memcpy(lines->text, line.p, line.n);
    lines->n = line.n;
    lines->count++;
}

static void a_trace_line_arrives_whole_and_a_long_one_is_cut(void **state)
{
    struct lines lines = {0};
    struct mr_trace trace = {.line = lines_take, .context = &lines};
    struct mr_trace silent = {0};

    (void)state;
    mr_trace_line(NULL, "nobody hears %d", 1);
    mr_trace_line(&silent, "nobody hears %d", 1);
    mr_trace_line(&trace, "place  gang %u on %s", 7u, "n1");
    assert_true(mr_str_equal((struct mr_str){lines.text, lines.n}, MR_STR("place  gang 7 on n1")));
    mr_trace_line(&trace, "%01023d", 5);
    assert_int_equal(lines.n, 1023);
    mr_trace_line(&trace, "%01024d", 5);
    assert_int_equal(lines.n, 1023);
    assert_int_equal(lines.count, 3);
}

#define CASE(name) cmocka_unit_test_teardown(name, libc_again)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(an_untouched_buffer_owns_nothing),
        CASE(buffer_takes_its_limit_and_not_one_byte_more),
        CASE(a_failure_sticks_until_reset),
        CASE(sizes_that_overflow_fail_cleanly),
        CASE(printf_fills_the_buffer_to_its_limit),
        CASE(numbers_are_written_from_lowest_to_highest),
        CASE(a_number_is_put_whole_or_not_at_all),
        CASE(stored_integers_are_little_endian),
        CASE(the_reader_gives_back_what_was_put),
        CASE(reading_past_the_end_gives_zeros_and_sticks),
        CASE(every_width_is_read_at_the_very_end_and_not_one_byte_past_it),
        CASE(a_length_that_does_not_fit_its_prefix_is_refused_unread),
        CASE(a_length_past_the_end_is_refused_at_the_limit_and_one_past_it),
        CASE(bytes32_is_put_whole_or_not_at_all),
        CASE(drop_front_keeps_the_rest),
        CASE(buffer_survives_every_call_failing_once),
        CASE(buffer_survives_every_limit),
        CASE(growth_is_by_doubling),
        CASE(a_trace_line_arrives_whole_and_a_long_one_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
