/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events: what is written is read back, and the reader follows the standard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/proto.h"

static void expect_written(struct mr_buf *buf, const char *text)
{
    assert_false(buf->failed);
    mr_buf_put_char(buf, '\0');
    assert_string_equal((char *)buf->p, text);
    mr_buf_reset(buf);
}

static void events_are_lines_and_an_empty_line(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 4096);
    mr_sse_put_data(&buf, MR_STR("[DONE]"));
    expect_written(&buf, "data: [DONE]\n\n");
    mr_sse_put_data(&buf, MR_STR("a\nb\r\nc\rd\n"));
    expect_written(&buf, "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n");
    mr_sse_put_data(&buf, MR_STR(""));
    expect_written(&buf, "data: \n\n");
    mr_sse_put_event(&buf, MR_STR("error\ndata: forged"), MR_STR("x"));
    expect_written(&buf, "event: error\ndata: x\n\n");
    mr_sse_put_comment(&buf, MR_STR("keep-alive"));
    expect_written(&buf, ": keep-alive\n\n");
    mr_sse_put_comment(&buf, MR_STR("a\ndata: forged"));
    expect_written(&buf, ": a\n: data: forged\n\n");
    mr_buf_done(&buf);
}

static void run(struct mr_str bytes, size_t piece, struct mr_buf *out)
{
    struct mr_sse_parser *parser;
    struct mr_str event, data;
    assert_int_equal(mr_sse_parser_new(&parser), 0);
    for (size_t at = 0; at < bytes.n; at += piece) {
        size_t n = MR_MIN(piece, bytes.n - at);
        assert_int_equal(mr_sse_parser_feed(parser, bytes.p + at, n), 0);
        int got;
        while ((got = mr_sse_parser_next(parser, &event, &data)) == 1) {
            mr_buf_printf(out, "(%.*s|%.*s)", MR_STR_ARG(event), MR_STR_ARG(data));
        }
        assert_int_equal(got, 0);
    }
    mr_sse_parser_free(parser);
}

static void expect(struct mr_str bytes, const char *events)
{
    struct mr_buf out;
    mr_buf_init(&out, 1u << 16);
    for (size_t piece = bytes.n; piece > 0; piece--) {
        mr_buf_reset(&out);
        run(bytes, piece, &out);
        mr_buf_put_char(&out, '\0');
        assert_string_equal((char *)out.p, events);
    }
    mr_buf_done(&out);
}

static void streams_are_read_by_the_standard(void **state)
{
    (void)state;
    expect(MR_STR("data: a\n\ndata:b\n\n"), "(|a)(|b)");
    expect(MR_STR("data: a\r\n\r\ndata:  b\r\rdata\n\n"), "(|a)(| b)(|)");
    expect(MR_STR("event: e\ndata: 1\ndata: 2\nid: 7\nretry: 1\n: comment\nother\n\ndata: 3\n\n"),
           "(e|1\n2)(|3)");
    expect(MR_STR("event: e\r\ndata: 1\r\ndata: 2\r\n\r\ndata: 3\r\rdata: 4\r\n\n"),
           "(e|1\n2)(|3)(|4)");
    expect(MR_STR("event: lost\n\ndata: x\n\n: c\n\ndata: not ended\n"), "(|x)");
    expect(MR_STR("\xef\xbb\xbf"
                  "data: bom\n\n\xef\xbb\xbf"
                  "data: no field\n\n"),
           "(|bom)");
    expect(MR_STR("data: \xc3\xa9\xf0\x9f\x98\x80\n\n"), "(|\xc3\xa9\xf0\x9f\x98\x80)");
    expect(MR_STR("data\n\n\n\ndatas: x\nevent:e:f\ndata:\n\n"), "(|)(e:f|)");
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    struct mr_prng prng;
    struct mr_buf text, stream, out, expected;
    mr_prng_init(&prng, 7);
    mr_buf_init(&text, 1u << 16);
    mr_buf_init(&stream, 1u << 20);
    mr_buf_init(&out, 1u << 20);
    mr_buf_init(&expected, 1u << 20);
    for (int round = 0; round < 300; round++) {
        mr_buf_reset(&stream);
        mr_buf_reset(&out);
        mr_buf_reset(&expected);
        for (uint64_t i = mr_prng_below(&prng, 6); i > 0; i--) {
            mr_buf_reset(&text);
            for (uint64_t n = mr_prng_below(&prng, 30); n > 0; n--) {
                mr_buf_put_char(&text, "ab: \ndata\xc3"[mr_prng_below(&prng, 10)]);
            }
            mr_sse_put_event(&stream, MR_STR("e"), mr_buf_str(&text));
            mr_buf_printf(&expected, "(e|%.*s)", (int)text.n, text.n > 0 ? (char *)text.p : "");
        }
        if (stream.n == 0) continue;
        run(mr_buf_str(&stream), 1 + mr_prng_below(&prng, 40), &out);
        assert_true(mr_str_equal(mr_buf_str(&out), mr_buf_str(&expected)));
    }
    mr_buf_done(&text);
    mr_buf_done(&stream);
    mr_buf_done(&out);
    mr_buf_done(&expected);
}

static void an_event_that_never_ends_is_too_large(void **state)
{
    (void)state;
    struct mr_sse_parser *parser;
    struct mr_str event, data;
    static char line[1u << 20];
    memset(line, 'x', sizeof(line));
    memcpy(line, "data:", 5);
    line[sizeof(line) - 1] = '\n';
    assert_int_equal(mr_sse_parser_new(&parser), 0);
    /* Each line adds its value and a line end but for the first: 32 lines of 2^20 - 6 + 1. */
    int error = 0;
    size_t lines = 0;
    while (error == 0 && lines < 64) {
        assert_int_equal(mr_sse_parser_feed(parser, line, sizeof(line)), 0);
        error = mr_sse_parser_next(parser, &event, &data);
        lines++;
    }
    assert_int_equal(error, MR_ETOO_LARGE);
    assert_int_equal(lines, MR_HTTP_BODY_BYTES_MAX / sizeof(line) + 1);
    mr_sse_parser_free(parser);
    /* One line without an end. */
    assert_int_equal(mr_sse_parser_new(&parser), 0);
    line[sizeof(line) - 1] = 'x';
    for (lines = 0, error = 0; error == 0 && lines < 100; lines++) {
        error = mr_sse_parser_feed(parser, line, sizeof(line));
        if (error == 0) assert_int_equal(mr_sse_parser_next(parser, &event, &data), 0);
    }
    assert_int_equal(error, MR_ETOO_LARGE);
    mr_sse_parser_free(parser);
    mr_sse_parser_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_lines_and_an_empty_line),
        cmocka_unit_test(streams_are_read_by_the_standard),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(an_event_that_never_ends_is_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
