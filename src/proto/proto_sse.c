/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events (WHATWG HTML, 9.2): the writer of our streams, and a reader for the
 * command line and the tests.
 *
 * Owns:       the parser's buffers.
 * Invariants: (1) an event ends with an empty line, what has none is not given out;
 *             (2) the same bytes give the same events, however they are cut.
 * Never:      I/O, clock.
 * Cost:       O(bytes).
 * Tests:      tests/unit/proto/test_proto_sse.c
 */
#include "proto/proto.h"

/* An event may be as large as a body. */
#define EVENT_BYTES_MAX MR_HTTP_BODY_BYTES_MAX

/* --- writing ------------------------------------------------------------------------------- */

/* Bytes before the first CR or LF. Two searches of the C library's are faster than one of ours. */
static size_t line_length(struct mr_str s)
{
    if (s.n == 0) return 0;
    const char *lf = memchr(s.p, '\n', s.n);
    size_t n = lf == NULL ? s.n : (size_t)(lf - s.p);
    const char *cr = n == 0 ? NULL : memchr(s.p, '\r', n);
    return cr == NULL ? n : (size_t)(cr - s.p);
}

/* Each line of `text` with `prefix` before it. CR LF, CR and LF all end a line. */
static void lines_put(struct mr_buf *buf, struct mr_str prefix, struct mr_str text)
{
    while (true) {
        size_t n = line_length(text);
        if (!mr_buf_reserve(buf, prefix.n + n + 2)) return;
        mr_buf_put_str(buf, prefix);
        if (n > 0) mr_buf_put(buf, text.p, n);
        mr_buf_put_char(buf, '\n');
        if (n == text.n) return;
        size_t end_n = text.p[n] == '\r' && n + 1 < text.n && text.p[n + 1] == '\n' ? 2 : 1;
        text.p += n + end_n;
        text.n -= n + end_n;
    }
}

void mr_sse_put_data(struct mr_buf *buf, struct mr_str data)
{
    lines_put(buf, MR_STR("data: "), data);
    mr_buf_put_char(buf, '\n');
}

void mr_sse_put_event(struct mr_buf *buf, struct mr_str event, struct mr_str data)
{
    /* A name is one line; what follows a line end is not part of it. */
    event.n = line_length(event);
    mr_buf_put_str(buf, MR_STR("event: "));
    if (event.n > 0) mr_buf_put_str(buf, event);
    mr_buf_put_char(buf, '\n');
    mr_sse_put_data(buf, data);
}

void mr_sse_put_comment(struct mr_buf *buf, struct mr_str text)
{
    lines_put(buf, MR_STR(": "), text);
    mr_buf_put_char(buf, '\n');
}

/* --- reading ------------------------------------------------------------------------------- */

struct mr_sse_parser {
    struct mr_buf input;
    size_t used;   /* bytes of input that are behind us */
    size_t scan;   /* first byte not looked at, >= used */
    bool after_cr; /* the last line ended with CR: a LF belongs to it */
    bool bom_passed;
    bool has_data;
    struct mr_buf event;
    struct mr_buf data;
    bool given; /* event and data were returned by the last call */
};

int mr_sse_parser_new(struct mr_sse_parser **ret_parser)
{
    struct mr_sse_parser *parser = mr_alloc_zero(sizeof(*parser));
    if (parser == NULL) return MR_ENO_MEMORY;
    mr_buf_init(&parser->input, 2u * EVENT_BYTES_MAX);
    mr_buf_init(&parser->event, EVENT_BYTES_MAX);
    mr_buf_init(&parser->data, EVENT_BYTES_MAX);
    *ret_parser = parser;
    return 0;
}

void mr_sse_parser_free(struct mr_sse_parser *parser)
{
    if (parser == NULL) return;
    mr_buf_done(&parser->input);
    mr_buf_done(&parser->event);
    mr_buf_done(&parser->data);
    mr_free(parser);
}

static int buf_error(const struct mr_buf *buf, size_t more_n)
{
    return more_n > buf->limit_bytes - MR_MIN(buf->n, buf->limit_bytes) ? MR_ETOO_LARGE
                                                                        : MR_ENO_MEMORY;
}

int mr_sse_parser_feed(struct mr_sse_parser *parser, const void *bytes, size_t n)
{
    if (n == 0) return 0;
    /* Moving no more than what was read since the last move keeps all moves O(n). */
    if (parser->used > 0 && parser->used >= parser->input.n - parser->used) {
        mr_buf_drop_front(&parser->input, parser->used);
        parser->scan -= parser->used;
        parser->used = 0;
    }
    int error = buf_error(&parser->input, n);
    mr_buf_put(&parser->input, bytes, n);
    return parser->input.failed ? error : 0;
}

/* True and the next line without its end. */
static bool line_take(struct mr_sse_parser *parser, struct mr_str *ret_line)
{
    const char *p = (const char *)parser->input.p;
    if (parser->after_cr && parser->used < parser->input.n) {
        if (p[parser->used] == '\n') parser->used++;
        parser->after_cr = false;
        parser->scan = MR_MAX(parser->scan, parser->used);
    }
    size_t i = parser->scan;
    while (i < parser->input.n && p[i] != '\n' && p[i] != '\r') {
        i++;
    }
    parser->scan = i;
    if (i == parser->input.n) return false;
    *ret_line = (struct mr_str){p + parser->used, i - parser->used};
    parser->after_cr = p[i] == '\r';
    parser->used = parser->scan = i + 1;
    if (!parser->bom_passed) {
        parser->bom_passed = true;
        if (mr_str_starts(*ret_line, MR_STR("\xef\xbb\xbf"))) {
            ret_line->p += 3;
            ret_line->n -= 3;
        }
    }
    return true;
}

static int field_take(struct mr_sse_parser *parser, struct mr_str line)
{
    if (line.p[0] == ':') return 0;
    const char *colon = memchr(line.p, ':', line.n);
    struct mr_str name = {line.p, colon == NULL ? line.n : (size_t)(colon - line.p)};
    struct mr_str value = {"", 0};
    if (colon != NULL) value = (struct mr_str){colon + 1, line.n - name.n - 1};
    if (value.n > 0 && value.p[0] == ' ') value = (struct mr_str){value.p + 1, value.n - 1};

    if (mr_str_equal(name, MR_STR("data"))) {
        int error = buf_error(&parser->data, value.n + 1);
        if (parser->has_data) mr_buf_put_char(&parser->data, '\n');
        if (value.n > 0) mr_buf_put_str(&parser->data, value);
        parser->has_data = true;
        if (parser->data.failed) return error;
    } else if (mr_str_equal(name, MR_STR("event"))) {
        mr_buf_reset(&parser->event);
        int error = buf_error(&parser->event, value.n);
        if (value.n > 0) mr_buf_put_str(&parser->event, value);
        if (parser->event.failed) return error;
    }
    return 0; /* id, retry and what we do not know */
}

int mr_sse_parser_next(struct mr_sse_parser *parser, struct mr_str *ret_event,
                       struct mr_str *ret_data)
{
    if (parser->given) {
        mr_buf_reset(&parser->event);
        mr_buf_reset(&parser->data);
        parser->has_data = parser->given = false;
    }
    struct mr_str line;
    while (line_take(parser, &line)) {
        if (line.n > 0) {
            int error = field_take(parser, line);
            if (error != 0) return error;
            continue;
        }
        if (!parser->has_data) {
            /* An event without data is none, and its name does not carry over. */
            mr_buf_reset(&parser->event);
            continue;
        }
        parser->given = true;
        *ret_event = mr_buf_str(&parser->event);
        *ret_data = mr_buf_str(&parser->data);
        return 1;
    }
    return 0;
}
