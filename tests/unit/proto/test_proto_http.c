/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1.1 parser: what it takes, what it refuses, and that cuts in the stream do not matter.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/proto.h"

#define HOST "Host: a\r\n"

/* Everything that a stream of bytes came to, as text, so that two runs compare as a whole. */
static void outcome_take(struct mr_http_parser *parser, struct mr_buf *out)
{
    struct mr_http_request r;
    int got;
    while ((got = mr_http_parser_next(parser, &r)) == 1) {
        mr_buf_printf(out, "[%d %.*s ? %.*s", (int)r.method, MR_STR_ARG(r.path),
                      MR_STR_ARG(r.query));
        /* Copied, not printed: a sanitizer sees a header that points to where it was. */
        for (size_t i = 0; i < r.header_count; i++) {
            mr_buf_put_char(out, '|');
            mr_buf_put_str(out, r.headers[i].name);
            mr_buf_put_char(out, '=');
            mr_buf_put_str(out, r.headers[i].value);
        }
        mr_buf_printf(out, "|%s|%zu:", r.keep_alive ? "keep" : "close", r.body.n);
        if (r.body.n > 0) mr_buf_put_str(out, r.body);
        mr_buf_put_char(out, ']');
    }
    if (got < 0) {
        assert_true(mr_http_parser_status(parser) >= 400);
        assert_true(mr_http_parser_reason(parser).n > 0);
    }
}

static void outcome_end(struct mr_http_parser *parser, struct mr_buf *out)
{
    mr_buf_printf(out, "{%d busy %d}", mr_http_parser_status(parser), mr_http_parser_busy(parser));
}

/* Feeds in pieces of the sizes that `prng` draws, or of `piece` bytes when it is NULL. */
static void run(struct mr_str bytes, size_t piece, struct mr_prng *prng, struct mr_buf *out)
{
    struct mr_http_parser *parser;
    assert_int_equal(mr_http_parser_new(&parser), 0);
    size_t at = 0;
    while (at < bytes.n) {
        size_t n = prng != NULL ? 1 + mr_prng_below(prng, piece) : piece;
        n = MR_MIN(n, bytes.n - at);
        /* A block of exactly that size, so that a sanitizer sees one byte too many. */
        char *block = mr_alloc(n);
        assert_non_null(block);
        memcpy(block, bytes.p + at, n);
        (void)mr_http_parser_feed(parser, block, n); /* next says it again */
        mr_free(block);
        at += n;
        outcome_take(parser, out);
    }
    outcome_end(parser, out);
    assert_false(out->failed);
    mr_http_parser_free(parser);
}

static void expect(struct mr_str bytes, const char *outcome)
{
    struct mr_buf out;
    mr_buf_init(&out, 1u << 24);
    run(bytes, bytes.n, NULL, &out);
    mr_buf_put_char(&out, '\0');
    assert_string_equal((char *)out.p, outcome);
    mr_buf_done(&out);
}
#define EXPECT(literal, outcome) expect(MR_STR(literal), outcome)

static int status_of_pieces(struct mr_str bytes, size_t piece)
{
    struct mr_http_parser *parser;
    struct mr_http_request request;
    assert_int_equal(mr_http_parser_new(&parser), 0);
    int error = 0;
    for (size_t at = 0; at < bytes.n && error == 0; at += piece) {
        error = mr_http_parser_feed(parser, bytes.p + at, MR_MIN(piece, bytes.n - at));
        while (error == 0 && (error = mr_http_parser_next(parser, &request)) == 1) {
            error = 0;
        }
    }
    int status = mr_http_parser_status(parser);
    assert_int_equal(status != 0, error != 0);
    mr_http_parser_free(parser);
    return status;
}

/* The status that the bytes end in, however they are cut; 0 when they do not. */
static int status_of(struct mr_str bytes)
{
    int status = status_of_pieces(bytes, bytes.n);
    for (size_t piece = 1; piece <= 8; piece++) {
        assert_int_equal(status_of_pieces(bytes, piece), status);
    }
    return status;
}
#define REFUSED(literal, status) assert_int_equal(status_of(MR_STR(literal)), status)

static const struct mr_str valid_streams[] = {
    {"GET / HTTP/1.1\r\n" HOST "\r\n", 27},
#define S(literal) {literal, sizeof(literal) - 1}
    S("POST /v1/chat/completions?a=b&c HTTP/1.1\r\nhost: 127.0.0.1:46611\r\n"
      "connection: keep-alive\r\nauthorization: Bearer sk-test\r\ncontent-length: 12\r\n\r\n"
      "{\"model\":1}\n"),
    S("POST /x HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
      "5\r\nhello\r\n1;ext=\"v\"\r\n \r\n00A\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n"),
    S("GET /1 HTTP/1.1\r\n" HOST "\r\nGET /2 HTTP/1.1\r\n" HOST "\r\n"
      "POST /3 HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc\r\n"
      "DELETE /4 HTTP/1.1\r\n" HOST "Connection: x, Close\r\n\r\n"
      "GET /ignored HTTP/1.1\r\n"),
    S("PUT http://h:1/p?q HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n"
      "OPTIONS * HTTP/1.1\r\n" HOST "\r\nHEAD http://h HTTP/1.1\r\n" HOST "X:\r\nY: \t \r\n\r\n"),
    S("GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /older HTTP/1.0\r\n\r\n"),
    S("BREW /pot HTTP/1.1\r\n" HOST "A: \xc3\xa9 b\tc\r\n\r\n"),
};

static void requests_are_taken_apart(void **state)
{
    (void)state;
    EXPECT("GET /a/b%20c?x=1&y HTTP/1.1\r\nHost: h\r\nX-Y:  z z \t\r\n\r\n",
           "[0 /a/b%20c ? x=1&y|Host=h|X-Y=z z|keep|0:]{0 busy 0}");
    expect(valid_streams[1],
           "[1 /v1/chat/completions ? a=b&c|host=127.0.0.1:46611|connection=keep-alive|"
           "authorization=Bearer sk-test|content-length=12|keep|12:{\"model\":1}\n]{0 busy 0}");
    expect(valid_streams[4], "[2 /p ? q|Host=a|Content-Length=0|keep|0:]"
                             "[5 * ? |Host=a|keep|0:][4 / ? |Host=a|X=|Y=|keep|0:]{0 busy 0}");
    EXPECT("PATCH / HTTP/1.1\r\n" HOST "\r\n", "[6 / ? |Host=a|keep|0:]{0 busy 0}");
    EXPECT("GET http://h?q HTTP/1.1\r\n" HOST "\r\n", "[0 / ? q|Host=a|keep|0:]{0 busy 0}");
}

static void chunks_are_joined_and_trailers_dropped(void **state)
{
    (void)state;
    expect(valid_streams[2], "[1 /x ? |Host=a|Transfer-Encoding=chunked|keep|16:hello 0123456789]"
                             "{0 busy 0}");
    EXPECT("POST /x HTTP/1.1\r\n" HOST "Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n"
           "GET /y HTTP/1.1\r\n" HOST "\r\n",
           "[1 /x ? |Host=a|Transfer-Encoding=CHUNKED|keep|0:][0 /y ? |Host=a|keep|0:]{0 busy 0}");
}

static void connections_end_when_a_request_says_so(void **state)
{
    (void)state;
    expect(valid_streams[3], "[0 /1 ? |Host=a|keep|0:][0 /2 ? |Host=a|keep|0:]"
                             "[1 /3 ? |Host=a|Content-Length=3|keep|3:abc]"
                             "[3 /4 ? |Host=a|Connection=x, Close|close|0:]{0 busy 0}");
    expect(valid_streams[5], "[0 /old ? |Connection=keep-alive|keep|0:]"
                             "[0 /older ? |close|0:]{0 busy 0}");
}

static void cuts_do_not_matter(void **state)
{
    (void)state;
    struct mr_buf whole, cut;
    struct mr_prng prng;
    mr_prng_init(&prng, 42);
    mr_buf_init(&whole, 1u << 20);
    mr_buf_init(&cut, 1u << 20);
    for (size_t i = 0; i < MR_COUNT_OF(valid_streams); i++) {
        struct mr_str bytes = valid_streams[i];
        mr_buf_reset(&whole);
        run(bytes, bytes.n, NULL, &whole);
        for (size_t piece = 1; piece <= bytes.n; piece++) {
            mr_buf_reset(&cut);
            run(bytes, piece, NULL, &cut);
            assert_true(mr_str_equal(mr_buf_str(&whole), mr_buf_str(&cut)));
        }
        for (int round = 0; round < 200; round++) {
            mr_buf_reset(&cut);
            run(bytes, 1 + (size_t)round / 8, &prng, &cut);
            assert_true(mr_str_equal(mr_buf_str(&whole), mr_buf_str(&cut)));
        }
    }
    mr_buf_done(&whole);
    mr_buf_done(&cut);
}

/* Long enough that the buffer grows, and moves while a head is in it. */
static void a_long_pipeline_may_be_cut_anywhere(void **state)
{
    (void)state;
    struct mr_buf stream, whole, cut;
    struct mr_prng prng;
    mr_prng_init(&prng, 43);
    mr_buf_init(&stream, 1u << 20);
    mr_buf_init(&whole, 1u << 20);
    mr_buf_init(&cut, 1u << 20);
    for (int i = 0; i < 300; i++) {
        mr_buf_printf(&stream, "POST /%d HTTP/1.1\r\n" HOST, i);
        for (uint64_t more = mr_prng_below(&prng, 60); more > 0; more--) {
            mr_buf_printf(&stream, "name-%d: value %d of %d\r\n", (int)more, (int)more, i);
        }
        if (i % 3 == 0) {
            mr_buf_printf(&stream, "Content-Length: 5\r\n\r\n<%03d>", i);
        } else {
            mr_buf_printf(&stream,
                          "Transfer-Encoding: chunked\r\n\r\n2\r\n<%d\r\n"
                          "1\r\n>\r\n0\r\n\r\n",
                          i % 10);
        }
    }
    run(mr_buf_str(&stream), stream.n, NULL, &whole);
    for (size_t piece = 1; piece < 5000; piece = piece * 3 + 1) {
        mr_buf_reset(&cut);
        run(mr_buf_str(&stream), piece, &prng, &cut);
        assert_true(mr_str_equal(mr_buf_str(&whole), mr_buf_str(&cut)));
    }
    assert_true(whole.n > 300 * 100);
    mr_buf_done(&stream);
    mr_buf_done(&whole);
    mr_buf_done(&cut);
}

/* Also the broken ones: one byte of a valid stream changed, at every place, to many values. */
static void errors_do_not_depend_on_cuts(void **state)
{
    (void)state;
    static const char values[] = "\0\r\n\t :;,0\x7f\x80#\"x";
    struct mr_buf whole, cut;
    mr_buf_init(&whole, 1u << 20);
    mr_buf_init(&cut, 1u << 20);
    int refused = 0;
    for (size_t i = 0; i < MR_COUNT_OF(valid_streams); i++) {
        for (size_t at = 0; at < valid_streams[i].n; at++) {
            for (size_t v = 0; v + 1 < sizeof(values); v++) {
                char broken[512];
                assert_true(valid_streams[i].n <= sizeof(broken));
                memcpy(broken, valid_streams[i].p, valid_streams[i].n);
                broken[at] = values[v];
                mr_buf_reset(&whole);
                mr_buf_reset(&cut);
                run((struct mr_str){broken, valid_streams[i].n}, 512, NULL, &whole);
                run((struct mr_str){broken, valid_streams[i].n}, 1, NULL, &cut);
                if (!mr_str_equal(mr_buf_str(&whole), mr_buf_str(&cut))) {
                    fail_msg("stream %zu byte %zu value %d: %.*s and %.*s", i, at, values[v],
                             MR_STR_ARG(mr_buf_str(&whole)), MR_STR_ARG(mr_buf_str(&cut)));
                }
                refused += memmem(whole.p, whole.n, "{400", 4) != NULL;
            }
        }
    }
    assert_true(refused > 1000);
    mr_buf_done(&whole);
    mr_buf_done(&cut);
}

static void every_prefix_needs_more_and_is_no_error(void **state)
{
    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(valid_streams); i++) {
        for (size_t n = 0; n < valid_streams[i].n; n++) {
            struct mr_http_parser *parser;
            struct mr_http_request request;
            assert_int_equal(mr_http_parser_new(&parser), 0);
            assert_int_equal(mr_http_parser_feed(parser, valid_streams[i].p, n), 0);
            int got;
            while ((got = mr_http_parser_next(parser, &request)) == 1) {
            }
            assert_int_equal(got, 0);
            assert_int_equal(mr_http_parser_status(parser), 0);
            assert_int_equal(mr_http_parser_reason(parser).n, 0);
            mr_http_parser_free(parser);
        }
    }
}

static void request_lines_that_are_wrong_are_refused(void **state)
{
    (void)state;
    REFUSED("GET  / HTTP/1.1\r\n" HOST "\r\n", 400);
    REFUSED("GET / HTTP/1.1 \r\n" HOST "\r\n", 400);
    REFUSED(" GET / HTTP/1.1\r\n" HOST "\r\n", 400);
    REFUSED("GET\t/ HTTP/1.1\r\n" HOST "\r\n", 400);
    REFUSED("GET /\r\n" HOST "\r\n", 400);
    REFUSED("GET\r\n", 400);
    REFUSED("G(T / HTTP/1.1\r\n" HOST "\r\n", 400);
    REFUSED("GET / HTTP/1.1\n" HOST "\r\n", 400);
    REFUSED("GET / HTTP/1.1\r\r\n" HOST "\r\n", 400);
    REFUSED("GET / http/1.1\r\n" HOST "\r\n", 400);
    REFUSED("GET / HTTP/11\r\n" HOST "\r\n", 400);
    REFUSED("GET /\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n", 400);
    REFUSED("GET /\x01 HTTP/1.1\r\n" HOST "\r\n", 400);
    REFUSED("GET /\0 HTTP/1.1\r\n" HOST "\r\n", 400);
    REFUSED("GET /a#b HTTP/1.1\r\n" HOST "\r\n", 400);
    REFUSED("GET a HTTP/1.1\r\n" HOST "\r\n", 400);
    REFUSED("GET :// HTTP/1.1\r\n" HOST "\r\n", 400);
    REFUSED("\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n", 400);
    REFUSED("\r\nGET / HTTP/1.1\r\n" HOST "\r\n", 0);
    REFUSED("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    REFUSED("GET / HTTP/0.9\r\n\r\n", 505);
    REFUSED("GET / HTTP/1.7\r\n" HOST "\r\n", 0);
}

static void header_lines_that_are_wrong_are_refused(void **state)
{
    (void)state;
    REFUSED("GET / HTTP/1.1\r\n" HOST "X : y\r\n\r\n", 400);
    REFUSED("GET / HTTP/1.1\r\n" HOST "X\r\n\r\n", 400);
    REFUSED("GET / HTTP/1.1\r\n" HOST ": y\r\n\r\n", 400);
    REFUSED("GET / HTTP/1.1\r\n X: y\r\n" HOST "\r\n", 400);
    REFUSED("GET / HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n", 400);     /* folded */
    REFUSED("GET / HTTP/1.1\r\n" HOST "X: a\r\n\tb: c\r\n\r\n", 400); /* folded */
    REFUSED("GET / HTTP/1.1\r\n" HOST "X:\rY: z\r\n\r\n", 400);       /* CR alone */
    REFUSED("GET / HTTP/1.1\r\n" HOST "X: a\nY: z\r\n\r\n", 400);     /* LF alone */
    REFUSED("GET / HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n", 400);
    REFUSED("GET / HTTP/1.1\r\n" HOST "X: 12345678\x7f\r\n\r\n", 400);
    REFUSED("GET / HTTP/1.1\r\n" HOST "X\x80: a\r\n\r\n", 400);
    REFUSED("GET / HTTP/1.1\r\n\r\n", 400);
    REFUSED("GET / HTTP/1.1\r\n" HOST HOST "\r\n", 400);
    REFUSED("GET / HTTP/1.0\r\n\r\n", 0);
    REFUSED("GET / HTTP/1.1\r\n" HOST "X: \x80\xff\t,;()\r\n\r\n", 0);
}

/* Each of these has been a way to slip a second request past somebody. */
static void requests_cannot_be_smuggled(void **state)
{
    (void)state;
#define POST(headers, body) "POST / HTTP/1.1\r\n" HOST headers "\r\n" body
    REFUSED(POST("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400);
    REFUSED(POST("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n"), 400);
    REFUSED(POST("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"), 400);
    REFUSED(POST("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), 0);
    REFUSED(POST("Content-Length: 0\r\nContent-Length: 3\r\n", "abc"), 400);
    REFUSED(POST("Content-Length: 3, 3\r\n", "abc"), 400);
    REFUSED(POST("Content-Length: +3\r\n", "abc"), 400);
    REFUSED(POST("Content-Length: -3\r\n", "abc"), 400);
    REFUSED(POST("Content-Length: 0x3\r\n", "abc"), 400);
    REFUSED(POST("Content-Length: 3 \x0b\r\n", "abc"), 400);
    REFUSED(POST("Content-Length:\r\n", "abc"), 400);
    REFUSED(POST("Content-Length : 3\r\n", "abc"), 400);
    REFUSED(POST(" Content-Length: 3\r\n", "abc"), 400);
    REFUSED(POST("Content-Length: 18446744073709551619\r\n", "abc"), 413);
    REFUSED(POST("Content-Length: 00000000000000000000003\r\n", "abc"), 0);
    REFUSED(POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400);
    REFUSED(POST("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), 501);
    REFUSED(POST("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501);
    REFUSED(POST("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 501);
    REFUSED(POST("Transfer-Encoding: \x0b"
                 "chunked\r\n",
                 "0\r\n\r\n"),
            400);
    REFUSED("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
    REFUSED(POST("X:\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400);
    /* Found by the fuzzer: a large length, then chunks, and the head not whole yet. */
    REFUSED(POST("Content-Length: 277\r\nTransfer-Encoding: chunked\r\nX: y\r\n", ""), 400);
#define CHUNKED(body) POST("Transfer-Encoding: chunked\r\n", body)
    REFUSED(CHUNKED("3\r\nabcX"), 400);
    REFUSED(CHUNKED("3\r\nabc\rX"), 400);
    REFUSED(CHUNKED("3\r\nabc\n0\r\n\r\n"), 400);
    REFUSED(CHUNKED("3\nabc\r\n0\r\n\r\n"), 400);
    REFUSED(CHUNKED("0x3\r\nabc\r\n0\r\n\r\n"), 400);
    REFUSED(CHUNKED("-3\r\nabc\r\n0\r\n\r\n"), 400);
    REFUSED(CHUNKED(" 3\r\nabc\r\n0\r\n\r\n"), 400);
    REFUSED(CHUNKED("3 4\r\nabc\r\n0\r\n\r\n"), 400);
    REFUSED(CHUNKED("\r\n"), 400);
    REFUSED(CHUNKED(";x\r\n"), 400);
    REFUSED(CHUNKED("3;a\nb\r\nabc\r\n0\r\n\r\n"), 400);
    REFUSED(CHUNKED("3;a\rb\r\nabc\r\n0\r\n\r\n"), 400);
    REFUSED(CHUNKED("3 ;a\r\nabc\r\n0\r\n\r\n"), 0);
    REFUSED(CHUNKED("0000000000000003\r\nabc\r\n0\r\n\r\n"), 0);
    REFUSED(CHUNKED("00000000000000003\r\nabc\r\n0\r\n\r\n"), 400);
    REFUSED(CHUNKED("ffffffffffffffff\r\n"), 413);
    REFUSED(CHUNKED("0\r\nX: a\r\n b\r\n\r\n"), 400);
    REFUSED(CHUNKED("0\r\nX\r\n\r\n"), 400);
}

/* --- limits: at each and one past it -------------------------------------------------------- */

static void buf_fill(struct mr_buf *buf, char c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mr_buf_put_char(buf, c);
    }
}

static void url_limit_is_414_one_past(void **state)
{
    (void)state;
    for (size_t past = 0; past <= 1; past++) {
        struct mr_buf buf;
        mr_buf_init(&buf, 1u << 20);
        mr_buf_put_str(&buf, MR_STR("GET /"));
        buf_fill(&buf, 'a', MR_HTTP_URL_BYTES_MAX - 1 + past);
        mr_buf_put_str(&buf, MR_STR(" HTTP/1.1\r\n" HOST "\r\n"));
        assert_int_equal(status_of(mr_buf_str(&buf)), past ? 414 : 0);
        mr_buf_done(&buf);
    }
    /* A line that never ends is refused as soon as it is too long, not at its end. */
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 20);
    mr_buf_put_str(&buf, MR_STR("GET /"));
    buf_fill(&buf, 'a', MR_HTTP_URL_BYTES_MAX + 100);
    assert_int_equal(status_of(mr_buf_str(&buf)), 414);
    mr_buf_done(&buf);
}

static void head_limit_is_431_one_past(void **state)
{
    (void)state;
    static const char first[] = "GET / HTTP/1.1\r\n" HOST "X: ";
    static const size_t pasts[] = {0, 1, 2, 3, 4, 1000, 70000};
    for (size_t i = 0; i < MR_COUNT_OF(pasts); i++) {
        size_t past = pasts[i];
        struct mr_buf buf;
        mr_buf_init(&buf, 1u << 20);
        mr_buf_put_str(&buf, MR_STR(first));
        buf_fill(&buf, 'a', MR_HTTP_HEAD_BYTES_MAX - (sizeof(first) - 1) - 4 + past);
        mr_buf_put_str(&buf, MR_STR("\r\n\r\n"));
        assert_int_equal(buf.n, MR_HTTP_HEAD_BYTES_MAX + past);
        assert_int_equal(status_of(mr_buf_str(&buf)), past ? 431 : 0);
        struct mr_buf out;
        mr_buf_init(&out, 1u << 20);
        run(mr_buf_str(&buf), 1, NULL, &out);
        assert_true((memmem(out.p, out.n, "{431", 4) != NULL) == (past > 0));
        mr_buf_done(&out);
        mr_buf_done(&buf);
    }
}

static void header_count_limit_is_431_one_past(void **state)
{
    (void)state;
    for (size_t past = 0; past <= 1; past++) {
        struct mr_buf buf;
        mr_buf_init(&buf, 1u << 20);
        mr_buf_put_str(&buf, MR_STR("GET / HTTP/1.1\r\n" HOST));
        for (size_t i = 1; i < MR_HTTP_HEADERS_MAX + past; i++) {
            mr_buf_printf(&buf, "x%zu: y\r\n", i);
        }
        mr_buf_put_str(&buf, MR_STR("\r\n"));
        assert_int_equal(status_of(mr_buf_str(&buf)), past ? 431 : 0);
        mr_buf_done(&buf);
    }
}

static void body_limit_is_413_one_past_and_before_it_comes(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 20);
    mr_buf_printf(&buf, "POST / HTTP/1.1\r\n" HOST "Content-Length: %u\r\n\r\n",
                  MR_HTTP_BODY_BYTES_MAX + 1);
    assert_int_equal(status_of(mr_buf_str(&buf)), 413);
    mr_buf_reset(&buf);
    mr_buf_printf(&buf, "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n%x\r\n",
                  MR_HTTP_BODY_BYTES_MAX + 1);
    assert_int_equal(status_of(mr_buf_str(&buf)), 413);
    mr_buf_done(&buf);
}

/* With a length, in chunks, and in chunks that are one byte more. */
static void a_body_at_the_limit_comes_through_whole(void **state)
{
    (void)state;
    enum { PIECE = 64 * 1024 };
    static uint8_t piece[PIECE + 16];
    for (int chunked = 0; chunked <= 2; chunked++) {
        struct mr_http_parser *parser;
        struct mr_http_request request;
        struct mr_buf head;
        assert_int_equal(mr_http_parser_new(&parser), 0);
        mr_buf_init(&head, 4096);
        mr_buf_printf(&head, "POST / HTTP/1.1\r\n" HOST);
        if (chunked)
            mr_buf_printf(&head, "Transfer-Encoding: chunked\r\n\r\n");
        else
            mr_buf_printf(&head, "Content-Length: %u\r\n\r\n", MR_HTTP_BODY_BYTES_MAX);
        assert_int_equal(mr_http_parser_feed(parser, head.p, head.n), 0);
        for (size_t at = 0; at < MR_HTTP_BODY_BYTES_MAX; at += PIECE) {
            assert_int_equal(mr_http_parser_next(parser, &request), 0);
            if (chunked) assert_int_equal(mr_http_parser_feed(parser, "10000\r\n", 7), 0);
            memset(piece, (int)(at / PIECE) & 0xff, PIECE);
            assert_int_equal(mr_http_parser_feed(parser, piece, PIECE), 0);
            if (chunked) assert_int_equal(mr_http_parser_feed(parser, "\r\n", 2), 0);
        }
        if (chunked) {
            assert_int_equal(mr_http_parser_next(parser, &request), 0);
            if (chunked == 2) { /* one byte more than all together may have */
                assert_int_equal(mr_http_parser_feed(parser, "1\r\n", 3), MR_ETOO_LARGE);
                assert_int_equal(mr_http_parser_status(parser), 413);
                mr_buf_done(&head);
                mr_http_parser_free(parser);
                break;
            }
            assert_int_equal(mr_http_parser_feed(parser, "0\r\n\r\n", 5), 0);
        }
        assert_int_equal(mr_http_parser_next(parser, &request), 1);
        assert_int_equal(request.body.n, MR_HTTP_BODY_BYTES_MAX);
        for (size_t at = 0; at < MR_HTTP_BODY_BYTES_MAX; at += 4093) {
            assert_int_equal((uint8_t)request.body.p[at], (at / PIECE) & 0xff);
        }
        mr_buf_done(&head);
        mr_http_parser_free(parser);
    }
}

static void chunk_extensions_and_trailers_are_limited(void **state)
{
    (void)state;
    for (size_t past = 0; past <= 1; past++) {
        struct mr_buf buf;
        mr_buf_init(&buf, 1u << 20);
        mr_buf_put_str(&buf, MR_STR("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                                    "0\r\nX: "));
        buf_fill(&buf, 'a', MR_HTTP_HEAD_BYTES_MAX - 5 - 2 + past);
        mr_buf_put_str(&buf, MR_STR("\r\n\r\n"));
        assert_int_equal(status_of(mr_buf_str(&buf)), past ? 431 : 0);
        mr_buf_done(&buf);
    }
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 20);
    mr_buf_put_str(&buf, MR_STR("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"));
    for (size_t i = 0; i < 1025; i++) {
        mr_buf_put_str(&buf, MR_STR("1;"));
        buf_fill(&buf, 'e', 63);
        mr_buf_put_str(&buf, MR_STR("\r\nx\r\n"));
    }
    assert_int_equal(status_of(mr_buf_str(&buf)), 431);
    mr_buf_done(&buf);
}

static size_t largest_bytes;

static void *watched_realloc(void *context, void *p, size_t size_bytes)
{
    (void)context;
    largest_bytes = MR_MAX(largest_bytes, size_bytes);
    if (size_bytes == 0) {
        test_free(p);
        return NULL;
    }
    return p == NULL ? test_malloc(size_bytes) : test_realloc(p, size_bytes);
}

static void small_chunks_cost_no_memory(void **state)
{
    (void)state;
    struct mr_allocator allocator = {.realloc = watched_realloc};
    struct mr_http_parser *parser;
    struct mr_http_request request;
    mr_allocator_set(&allocator);
    assert_int_equal(mr_http_parser_new(&parser), 0);
    struct mr_str head = MR_STR("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    assert_int_equal(mr_http_parser_feed(parser, head.p, head.n), 0);
    enum { CHUNKS = 200000 };
    for (int i = 0; i < CHUNKS; i++) {
        char chunk[] = "1\r\nx\r\n";
        chunk[3] = (char)('a' + i % 26);
        assert_int_equal(mr_http_parser_feed(parser, chunk, 6), 0);
    }
    assert_int_equal(mr_http_parser_feed(parser, "0\r\n\r\n", 5), 0);
    assert_int_equal(mr_http_parser_next(parser, &request), 1);
    assert_int_equal(request.body.n, CHUNKS);
    for (int i = 0; i < CHUNKS; i++) {
        assert_int_equal(request.body.p[i], 'a' + i % 26);
    }
    /* Six times the body was sent; the buffer doubles as it grows. */
    assert_true(largest_bytes < 2 * (CHUNKS + 8192));
    mr_http_parser_free(parser);
    mr_allocator_set(NULL);
}

/* --- a request that is out ------------------------------------------------------------------ */

static void a_request_stays_valid_while_more_is_fed(void **state)
{
    (void)state;
    struct mr_http_parser *parser;
    struct mr_http_request request, later;
    assert_int_equal(mr_http_parser_new(&parser), 0);
    struct mr_str first = MR_STR("POST /first HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nbody");
    assert_int_equal(mr_http_parser_feed(parser, first.p, first.n), 0);
    assert_int_equal(mr_http_parser_next(parser, &request), 1);
    assert_false(mr_http_parser_busy(parser));
    /* Far more than the buffer has room for. */
    enum { LATER = 5000 };
    for (int i = 0; i < LATER; i++) {
        struct mr_str next = MR_STR("GET /later HTTP/1.1\r\n" HOST "\r\n");
        assert_int_equal(mr_http_parser_feed(parser, next.p, next.n), 0);
        assert_true(mr_http_parser_busy(parser));
    }
    assert_true(mr_str_equal(request.path, MR_STR("/first")));
    assert_true(mr_str_equal(request.body, MR_STR("body")));
    assert_true(mr_str_equal(mr_http_header_get(&request, MR_STR("HOST")), MR_STR("a")));
    for (int i = 0; i < LATER; i++) {
        assert_int_equal(mr_http_parser_next(parser, &later), 1);
        assert_true(mr_str_equal(later.path, MR_STR("/later")));
        assert_int_equal(later.header_count, 1);
    }
    assert_int_equal(mr_http_parser_next(parser, &later), 0);
    assert_false(mr_http_parser_busy(parser));
    mr_http_parser_free(parser);
}

static void bytes_ahead_of_the_answer_are_limited(void **state)
{
    (void)state;
    struct mr_http_parser *parser;
    struct mr_http_request request;
    static uint8_t piece[64 * 1024];
    assert_int_equal(mr_http_parser_new(&parser), 0);
    struct mr_str first = MR_STR("GET / HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(mr_http_parser_feed(parser, first.p, first.n), 0);
    assert_int_equal(mr_http_parser_next(parser, &request), 1);
    size_t limit = MR_HTTP_HEAD_BYTES_MAX + MR_HTTP_BODY_BYTES_MAX;
    for (size_t at = 0; at < limit; at += sizeof(piece)) {
        assert_int_equal(mr_http_parser_feed(parser, piece, sizeof(piece)), 0);
    }
    assert_int_equal(mr_http_parser_feed(parser, piece, 1), MR_ETOO_LARGE);
    assert_int_equal(mr_http_parser_status(parser), 413);
    assert_true(mr_str_equal(request.path, MR_STR("/")));
    assert_int_equal(mr_http_parser_next(parser, &request), MR_ETOO_LARGE);
    mr_http_parser_free(parser);
}

static void continue_is_wanted_once_and_only_before_the_body(void **state)
{
    (void)state;
    struct mr_http_parser *parser;
    struct mr_http_request request;
    struct mr_str head =
        MR_STR("POST / HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n");
    assert_int_equal(mr_http_parser_new(&parser), 0);
    assert_int_equal(mr_http_parser_feed(parser, head.p, head.n - 1), 0);
    assert_false(mr_http_parser_wants_continue(parser));
    assert_int_equal(mr_http_parser_feed(parser, head.p + head.n - 1, 1), 0);
    assert_int_equal(mr_http_parser_next(parser, &request), 0);
    assert_true(mr_http_parser_wants_continue(parser));
    assert_false(mr_http_parser_wants_continue(parser));
    assert_true(mr_http_parser_busy(parser));
    assert_int_equal(mr_http_parser_feed(parser, "abc", 3), 0);
    assert_int_equal(mr_http_parser_next(parser, &request), 1);
    /* The body came along: nobody waits for an interim answer. */
    assert_int_equal(mr_http_parser_feed(parser, head.p, head.n), 0);
    assert_int_equal(mr_http_parser_feed(parser, "a", 1), 0);
    assert_int_equal(mr_http_parser_next(parser, &request), 0);
    assert_false(mr_http_parser_wants_continue(parser));
    assert_int_equal(mr_http_parser_feed(parser, "bc", 2), 0);
    assert_int_equal(mr_http_parser_next(parser, &request), 1);
    assert_true(mr_str_equal(request.body, MR_STR("abc")));
    /* No body, an old version: nothing to wait for. */
    struct mr_str others =
        MR_STR("POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n"
               "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_int_equal(mr_http_parser_feed(parser, others.p, others.n), 0);
    assert_int_equal(mr_http_parser_next(parser, &request), 1);
    assert_false(mr_http_parser_wants_continue(parser));
    assert_int_equal(mr_http_parser_next(parser, &request), 0);
    assert_false(mr_http_parser_wants_continue(parser));
    mr_http_parser_free(parser);
    /* Chunked. */
    struct mr_str chunked = MR_STR("POST / HTTP/1.1\r\n" HOST
                                   "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_int_equal(mr_http_parser_new(&parser), 0);
    assert_int_equal(mr_http_parser_feed(parser, chunked.p, chunked.n), 0);
    assert_true(mr_http_parser_wants_continue(parser));
    mr_http_parser_free(parser);
}

static void busy_means_an_unfinished_request(void **state)
{
    (void)state;
    struct mr_http_parser *parser;
    struct mr_http_request request;
    assert_int_equal(mr_http_parser_new(&parser), 0);
    assert_false(mr_http_parser_busy(parser));
    assert_int_equal(mr_http_parser_feed(parser, "\r\n", 2), 0);
    assert_false(mr_http_parser_busy(parser));
    assert_int_equal(mr_http_parser_feed(parser, "GET / HTTP/1.0\r\n\r\n", 18), 0);
    assert_true(mr_http_parser_busy(parser));
    assert_int_equal(mr_http_parser_next(parser, &request), 1);
    assert_false(mr_http_parser_busy(parser));
    assert_int_equal(mr_http_parser_next(parser, &request), 0);
    /* Closed: what follows is dropped. */
    assert_int_equal(mr_http_parser_feed(parser, "GET", 3), 0);
    assert_false(mr_http_parser_busy(parser));
    mr_http_parser_free(parser);
    mr_http_parser_free(NULL);
}

/* --- memory -------------------------------------------------------------------------------- */

struct failing {
    size_t calls, fail_at;
};

static void *failing_realloc(void *context, void *p, size_t size_bytes)
{
    struct failing *failing = context;
    if (size_bytes == 0) {
        test_free(p);
        return NULL;
    }
    if (++failing->calls == failing->fail_at) return NULL;
    return p == NULL ? test_malloc(size_bytes) : test_realloc(p, size_bytes);
}

static void every_allocation_can_fail_once(void **state)
{
    (void)state;
    for (size_t fail_at = 1;; fail_at++) {
        struct failing failing = {.fail_at = fail_at};
        struct mr_allocator allocator = {.realloc = failing_realloc, .context = &failing};
        mr_allocator_set(&allocator);
        struct mr_http_parser *parser = NULL;
        int error = mr_http_parser_new(&parser);
        struct mr_http_request request;
        for (size_t i = 0; error == 0 && i < MR_COUNT_OF(valid_streams) - 4; i++) {
            error = mr_http_parser_feed(parser, valid_streams[i].p, valid_streams[i].n);
            if (error == 0) error = MR_MIN(mr_http_parser_next(parser, &request), 0);
        }
        for (size_t i = 0; error == 0 && i < 100; i++) {
            error = mr_http_parser_feed(parser, valid_streams[2].p, valid_streams[2].n);
        }
        if (error == 0) error = MR_MIN(mr_http_parser_next(parser, &request), 0);
        if (parser != NULL && error != 0) assert_int_equal(mr_http_parser_status(parser), 503);
        mr_http_parser_free(parser);
        mr_allocator_set(NULL);
        if (failing.calls < fail_at) {
            assert_int_equal(error, 0);
            assert_true(fail_at > 5);
            return;
        }
        assert_int_equal(error, MR_ENO_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_taken_apart),
        cmocka_unit_test(chunks_are_joined_and_trailers_dropped),
        cmocka_unit_test(connections_end_when_a_request_says_so),
        cmocka_unit_test(cuts_do_not_matter),
        cmocka_unit_test(a_long_pipeline_may_be_cut_anywhere),
        cmocka_unit_test(errors_do_not_depend_on_cuts),
        cmocka_unit_test(every_prefix_needs_more_and_is_no_error),
        cmocka_unit_test(request_lines_that_are_wrong_are_refused),
        cmocka_unit_test(header_lines_that_are_wrong_are_refused),
        cmocka_unit_test(requests_cannot_be_smuggled),
        cmocka_unit_test(url_limit_is_414_one_past),
        cmocka_unit_test(head_limit_is_431_one_past),
        cmocka_unit_test(header_count_limit_is_431_one_past),
        cmocka_unit_test(body_limit_is_413_one_past_and_before_it_comes),
        cmocka_unit_test(a_body_at_the_limit_comes_through_whole),
        cmocka_unit_test(chunk_extensions_and_trailers_are_limited),
        cmocka_unit_test(small_chunks_cost_no_memory),
        cmocka_unit_test(a_request_stays_valid_while_more_is_fed),
        cmocka_unit_test(bytes_ahead_of_the_answer_are_limited),
        cmocka_unit_test(continue_is_wanted_once_and_only_before_the_body),
        cmocka_unit_test(busy_means_an_unfinished_request),
        cmocka_unit_test(every_allocation_can_fail_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
