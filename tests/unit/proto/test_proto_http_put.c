/* SPDX-License-Identifier: Apache-2.0 */
/* Response heads and chunks; queries and percent-coding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <time.h>

#include "proto/proto.h"

static void expect_head(int status, struct mr_str type, int64_t length, bool keep_alive,
                        struct mr_str extra, const char *text)
{
    struct mr_buf buf;
    mr_buf_init(&buf, 4096);
    mr_http_put_head(&buf, status, type, length, keep_alive, 1795770350u * 1000000ull, extra);
    assert_false(buf.failed);
    mr_buf_put_char(&buf, '\0');
    assert_string_equal((char *)buf.p, text);
    mr_buf_done(&buf);
}
#define DATE "Date: Fri, 27 Nov 2026 09:05:50 GMT\r\n"

static void heads_say_how_the_body_ends(void **state)
{
    (void)state;
    expect_head(200, MR_STR("application/json"), 12, true, MR_STR(""),
                "HTTP/1.1 200 OK\r\n" DATE "Content-Type: application/json\r\n"
                "Content-Length: 12\r\nConnection: keep-alive\r\n\r\n");
    expect_head(200, MR_STR("text/event-stream"), -1, true, MR_STR("X-A: b\r\nX-C: d\r\n"),
                "HTTP/1.1 200 OK\r\n" DATE "Content-Type: text/event-stream\r\n"
                "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\nX-A: b\r\nX-C: d\r\n\r\n");
    expect_head(431, MR_STR(""), 0, false, MR_STR(""),
                "HTTP/1.1 431 Request Header Fields Too Large\r\n" DATE "Content-Length: 0\r\n"
                "Connection: close\r\n\r\n");
    expect_head(204, MR_STR(""), 0, true, MR_STR(""),
                "HTTP/1.1 204 No Content\r\n" DATE "Connection: keep-alive\r\n\r\n");
    expect_head(299, MR_STR(""), INT64_MAX, true, MR_STR(""),
                "HTTP/1.1 299 Unknown\r\n" DATE "Content-Length: 9223372036854775807\r\n"
                "Connection: keep-alive\r\n\r\n");
}

/* Against libc's calendar, over all leap rules. */
static void dates_are_libcs(void **state)
{
    (void)state;
    for (uint64_t day = 0; day < 160000; day++) {
        uint64_t seconds = day * 86400u + day * 7919u % 86400u;
        time_t t = (time_t)seconds;
        struct tm tm;
        char expected[128];
        assert_non_null(gmtime_r(&t, &tm));
        size_t n = strftime(expected, sizeof(expected), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        struct mr_buf buf;
        mr_buf_init(&buf, 4096);
        mr_http_put_head(&buf, 204, MR_STR(""), 0, true, seconds * 1000000u + 999999u, MR_STR(""));
        if (memmem(buf.p, buf.n, expected, n) == NULL) fail_msg("no %s", expected);
        mr_buf_done(&buf);
    }
}

static void every_error_of_ours_has_a_status_text(void **state)
{
    (void)state;
    for (int error = -(int)MR_EI_COUNT; error <= 0; error++) {
        assert_string_not_equal(mr_http_status_text(mr_error_status(error)), "Unknown");
    }
    static const int of_the_parser[] = {400, 413, 414, 431, 501, 503, 505};
    for (size_t i = 0; i < MR_COUNT_OF(of_the_parser); i++) {
        assert_string_not_equal(mr_http_status_text(of_the_parser[i]), "Unknown");
    }
}

static void chunks_carry_their_size(void **state)
{
    (void)state;
    struct mr_buf buf;
    static char big[0x12345];
    memset(big, 'x', sizeof(big));
    mr_buf_init(&buf, 1u << 20);
    mr_http_put_chunk(&buf, MR_STR("hello"));
    mr_http_put_chunk(&buf, MR_STR(""));
    mr_http_put_chunk(&buf, MR_STR("0123456789abcdef"));
    mr_http_put_last_chunk(&buf);
    assert_true(mr_str_equal(mr_buf_str(&buf),
                             MR_STR("5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n")));
    mr_buf_reset(&buf);
    mr_http_put_chunk(&buf, (struct mr_str){big, sizeof(big)});
    assert_int_equal(buf.n, sizeof(big) + 9);
    assert_memory_equal(buf.p, "12345\r\n", 7);
    mr_buf_done(&buf);
}

static void full_buffers_fail_and_stay_as_they_were(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 16);
    mr_buf_put_str(&buf, MR_STR("abc"));
    mr_http_put_chunk(&buf, MR_STR("0123456789abcdef"));
    assert_true(buf.failed);
    assert_int_equal(buf.n, 3);
    mr_buf_reset(&buf);
    mr_http_put_head(&buf, 200, MR_STR("a/b"), 1, true, 0, MR_STR(""));
    assert_true(buf.failed);
    assert_int_equal(buf.n, 0);
    mr_buf_done(&buf);
}

static void headers_are_found_in_any_case(void **state)
{
    (void)state;
    struct mr_http_header headers[] = {{MR_STR("Content-Type"), MR_STR("a/b")},
                                       {MR_STR("X"), MR_STR("1")},
                                       {MR_STR("x"), MR_STR("2")}};
    struct mr_http_request request = {.headers = headers, .header_count = 3};
    assert_true(mr_str_equal(mr_http_header_get(&request, MR_STR("content-TYPE")), MR_STR("a/b")));
    assert_true(mr_str_equal(mr_http_header_get(&request, MR_STR("X")), MR_STR("1")));
    assert_int_equal(mr_http_header_get(&request, MR_STR("y")).n, 0);
}

static void expect_query(struct mr_str query, struct mr_str key, const char *value)
{
    struct mr_arena arena;
    mr_arena_init(&arena, 1u << 16);
    struct mr_http_request request = {.query = query};
    struct mr_str got;
    bool found = mr_http_query_get(&request, key, &arena, &got);
    assert_int_equal(found, value != NULL);
    if (found) assert_true(mr_str_equal(got, mr_str_from(value)));
    mr_arena_done(&arena);
}

static void queries_are_decoded(void **state)
{
    (void)state;
    struct mr_str query = MR_STR("a=1&b=x+y%20z%2B&include%5B%5D=q&c&d=&e=f=g&bad=%4&nul=%00&a=2");
    expect_query(query, MR_STR("a"), "1");
    expect_query(query, MR_STR("b"), "x y z+");
    expect_query(query, MR_STR("include[]"), "q");
    expect_query(query, MR_STR("c"), "");
    expect_query(query, MR_STR("d"), "");
    expect_query(query, MR_STR("e"), "f=g");
    expect_query(query, MR_STR("bad"), NULL);
    expect_query(query, MR_STR("nul"), NULL);
    expect_query(query, MR_STR("x"), NULL);
    expect_query(query, MR_STR("aa"), NULL);
    expect_query(MR_STR(""), MR_STR(""), NULL);
    expect_query(MR_STR("%=1&%zz=2&&k=3"), MR_STR("k"), "3");
}

static void percent_escapes_are_decoded_or_refused(void **state)
{
    (void)state;
    struct mr_arena arena;
    mr_arena_init(&arena, 1u << 16);
    struct mr_str got = MR_STR("untouched");
    static const char *bad[] = {"%", "%4", "a%zz", "%4g", "%00", "x%"};
    for (size_t i = 0; i < MR_COUNT_OF(bad); i++) {
        assert_int_equal(mr_http_percent_decode(&arena, mr_str_from(bad[i]), &got), MR_ESYNTAX);
        assert_true(mr_str_equal(got, MR_STR("untouched")));
    }
    assert_int_equal(mr_http_percent_decode(&arena, MR_STR("ft:gpt::abc%2Fxyz%201%c3%A9+"), &got),
                     0);
    assert_true(mr_str_equal(got, MR_STR("ft:gpt::abc/xyz 1\xc3\xa9+")));
    assert_int_equal(mr_http_percent_decode(&arena, MR_STR(""), &got), 0);
    assert_int_equal(got.n, 0);
    mr_arena_done(&arena);
    mr_arena_init(&arena, 0);
    assert_int_equal(mr_http_percent_decode(&arena, MR_STR("%41"), &got), MR_ENO_MEMORY);
    mr_arena_done(&arena);
}

static void sha256_is_fips_180s(void **state)
{
    (void)state;
    static const uint8_t abc[32] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea,
                                    0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
                                    0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
                                    0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    uint8_t got[32];
    mr_sha256("abc", 3, got);
    assert_memory_equal(got, abc, 32);
    mr_sha256("", 0, got);
    assert_int_equal(got[0], 0xe3);
    assert_int_equal(got[31], 0x55);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_say_how_the_body_ends),
        cmocka_unit_test(dates_are_libcs),
        cmocka_unit_test(every_error_of_ours_has_a_status_text),
        cmocka_unit_test(chunks_carry_their_size),
        cmocka_unit_test(full_buffers_fail_and_stay_as_they_were),
        cmocka_unit_test(headers_are_found_in_any_case),
        cmocka_unit_test(queries_are_decoded),
        cmocka_unit_test(percent_escapes_are_decoded_or_refused),
        cmocka_unit_test(sha256_is_fips_180s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
