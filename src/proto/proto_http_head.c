/* SPDX-License-Identifier: Apache-2.0 */
/* The head of an HTTP/1.1 request: its first line, its headers, and what they say about the body.
 *
 * The grammar of RFC 9112 and nothing beside it. No loop here asks for the end of the buffer: the
 * zeroes after it belong to no name, target or value. A name is walked by a table, a value eight
 * bytes at a time.
 *
 * Owns:  nothing; headers point into the parser's buffer.
 * Never: a guess about a line that is not exactly right.
 * Cost:  O(line).
 * Idea:  src/proto/README.md   Tests: tests/unit/proto/test_proto_http.c
 */
#include "proto/proto_int.h"

/* 1: may stand in a token (RFC 9110 5.6.2). */
/* clang-format off */
static const uint8_t token_table[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 0x00 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 0x10 */
    0, 1, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 1, 1, 0, /* 0x20 */
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, /* 0x30 */
    0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, /* 0x40 */
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, /* 0x50 */
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, /* 0x60 */
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 1, 0, /* 0x70 */
};
/* clang-format on */

/* The first control at or after p other than HTAB (RFC 9110 5.5). There is one: the zeroes after
 * the buffer's end. Eight at a time: the lowest top bit that is set is always of a real match, only
 * those above it may come from a borrow. */
static const char *control_find(const char *p)
{
    const uint64_t ones = 0x0101010101010101u;
    const uint64_t tops = 0x8080808080808080u;
    while (true) {
        uint64_t word;
        memcpy(&word, p, sizeof(word));
        uint64_t below_space = (word - ones * 0x20) & ~word;
        uint64_t del = word ^ (ones * 0x7f);
        uint64_t is_del = (del - ones) & ~del;
        uint64_t found = (below_space | is_del) & tops;
        if (found == 0) {
            p += sizeof(word);
            continue;
        }
        p += __builtin_ctzll(found) / 8;
        if (*p != '\t') return p;
        p++;
    }
}

bool proto_http_text_is_clean(struct mr_str text)
{
    return text.n == 0 || control_find(text.p) >= text.p + text.n;
}

/* --- the first line ------------------------------------------------------------------------ */

static enum mr_http_method method_from(struct mr_str name)
{
    static const struct {
        struct mr_str name;
        enum mr_http_method method;
    } methods[] = {
        {{"POST", 4}, MR_HTTP_POST},     {{"GET", 3}, MR_HTTP_GET},
        {{"DELETE", 6}, MR_HTTP_DELETE}, {{"PUT", 3}, MR_HTTP_PUT},
        {{"HEAD", 4}, MR_HTTP_HEAD},     {{"OPTIONS", 7}, MR_HTTP_OPTIONS},
        {{"PATCH", 5}, MR_HTTP_PATCH},
    };
    for (size_t i = 0; i < MR_COUNT_OF(methods); i++) {
        if (mr_str_equal(methods[i].name, name)) return methods[i].method;
    }
    return MR_HTTP_OTHER;
}

/* Sets path and query from the request target (RFC 9112 3.2), whose first byte is at offset `at`
 * from the message's start. */
static int target_take(struct mr_http_parser *parser, struct mr_str target, size_t at)
{
    if (target.n == 0)
        return proto_http_fail(parser, MR_ESYNTAX, 400, "the request target is empty");
    if (target.n > MR_HTTP_URL_BYTES_MAX) {
        return proto_http_fail(parser, MR_ETOO_LARGE, 414, "the URL is too long");
    }
    uint8_t bad = 0;
    for (size_t i = 0; i < target.n; i++) {
        uint8_t c = (uint8_t)target.p[i];
        bad |= (uint8_t)((c <= 0x20) | (c >= 0x7f) | (c == '#'));
    }
    if (bad) {
        return proto_http_fail(parser, MR_ESYNTAX, 400,
                               "the URL has a byte that must be percent-encoded");
    }
    size_t path_at = 0;
    if (target.p[0] != '/' && parser->method != MR_HTTP_OTHER) {
        /* The absolute form; "*" stands as it is. */
        const char *colon = memchr(target.p, ':', target.n);
        size_t scheme_n = colon == NULL ? target.n : (size_t)(colon - target.p);
        if (scheme_n + 3 <= target.n && memcmp(colon, "://", 3) == 0 && scheme_n > 0) {
            path_at = scheme_n + 3;
            while (path_at < target.n && target.p[path_at] != '/' && target.p[path_at] != '?') {
                path_at++;
            }
        } else if (target.n != 1 || target.p[0] != '*') {
            return proto_http_fail(parser, MR_ESYNTAX, 400,
                                   "the request target must begin with a slash");
        }
    }
    const char *mark = memchr(target.p + path_at, '?', target.n - path_at);
    size_t path_end = mark == NULL ? target.n : (size_t)(mark - target.p);
    parser->path_at = (uint32_t)(at + path_at);
    parser->path_n = (uint32_t)(path_end - path_at);
    parser->query_at = (uint32_t)(at + (mark == NULL ? target.n : path_end + 1));
    parser->query_n = (uint32_t)(mark == NULL ? 0 : target.n - path_end - 1);
    return 0;
}

int proto_http_request_line_take(struct mr_http_parser *parser, struct mr_str line)
{
    if (line.n == 0) {
        /* RFC 9112 2.2: one empty line before a request is forgiven. */
        if (parser->blank_skipped)
            return proto_http_fail(parser, MR_ESYNTAX, 400, "the request is empty");
        parser->blank_skipped = true;
        parser->start = parser->line;
        return 0;
    }
    size_t method_n = 0;
    while (method_n < line.n && token_table[(uint8_t)line.p[method_n]]) {
        method_n++;
    }
    if (method_n == 0 || method_n == line.n || line.p[method_n] != ' ') {
        return proto_http_fail(parser, MR_ESYNTAX, 400, "the request line has no method");
    }
    parser->method = method_from((struct mr_str){line.p, method_n});
    const char *target = line.p + method_n + 1;
    size_t rest_n = line.n - method_n - 1;
    const char *space = memchr(target, ' ', rest_n);
    if (space == NULL)
        return proto_http_fail(parser, MR_ESYNTAX, 400, "the request line has no version");
    struct mr_str version = {space + 1, rest_n - (size_t)(space - target) - 1};
    if (version.n != 8 || memcmp(version.p, "HTTP/", 5) != 0 || version.p[6] != '.' ||
        version.p[5] < '0' || version.p[5] > '9' || version.p[7] < '0' || version.p[7] > '9') {
        return proto_http_fail(parser, MR_ESYNTAX, 400, "the request line must end with HTTP/1.1");
    }
    if (version.p[5] != '1') {
        return proto_http_fail(parser, MR_ESYNTAX, 505,
                               "only HTTP/1.1 and HTTP/1.0 are spoken here");
    }
    parser->version_1_0 = version.p[7] == '0';
    parser->state = READ_HEADERS;
    return target_take(parser, (struct mr_str){target, (size_t)(space - target)},
                       (size_t)(target - (parser->p + parser->start)));
}

/* --- headers ------------------------------------------------------------------------------- */

static int content_length_take(struct mr_http_parser *parser, struct mr_str value)
{
    uint64_t length = 0;
    if (value.n == 0) return proto_http_fail(parser, MR_ESYNTAX, 400, "Content-Length is empty");
    for (size_t i = 0; i < value.n; i++) {
        char c = value.p[i];
        if (c < '0' || c > '9') {
            return proto_http_fail(parser, MR_ESYNTAX, 400,
                                   "Content-Length must be one decimal number");
        }
        /* It stays above the limit once it is there, and cannot wrap. */
        if (length <= MR_HTTP_BODY_BYTES_MAX) length = length * 10 + (uint64_t)(c - '0');
    }
    if (parser->has_length && length != parser->body_n) {
        return proto_http_fail(parser, MR_ESYNTAX, 400, "two Content-Length headers differ");
    }
    parser->has_length = true;
    parser->body_n = length;
    return 0;
}

static void connection_take(struct mr_http_parser *parser, struct mr_str value)
{
    struct mr_str part;
    if (value.n == 10 && memcmp(value.p, "keep-alive", 10) == 0) { /* what nearly all say */
        parser->says_keep_alive = true;
        return;
    }
    while (mr_str_split(&value, ',', &part)) {
        part = mr_str_trim(part);
        if (mr_str_equal_nocase(part, MR_STR("close"))) parser->says_close = true;
        if (mr_str_equal_nocase(part, MR_STR("keep-alive"))) parser->says_keep_alive = true;
    }
}

/* Compares without regard to case. `lower` is a literal of lower-case letters, digits and dashes:
 * setting the bit that makes the case leaves digits and dashes as they are, and makes none of them
 * or of the letters out of anything else that a name or value may hold. */
#define TEXT_IS(text, lower)                                                                       \
    ((text).n == sizeof(lower) - 1 && text_is((text).p, (lower), sizeof(lower) - 1))
static inline bool text_is(const char *p, const char *lower, size_t n)
{
    uint8_t difference = 0;
    for (size_t i = 0; i < n; i++) {
        difference |= (uint8_t)(((uint8_t)p[i] | 0x20u) ^ (uint8_t)lower[i]);
    }
    return difference == 0;
}

/* What a header means for the framing of this message and the life of the connection. */
static inline int header_apply(struct mr_http_parser *parser, struct mr_str name,
                               struct mr_str value)
{
    switch (name.n) {
    case 4:
        if (!TEXT_IS(name, "host")) return 0;
        if (parser->has_host) return proto_http_fail(parser, MR_ESYNTAX, 400, "two Host headers");
        parser->has_host = true;
        return 0;
    case 6:
        if (TEXT_IS(name, "expect")) parser->expects_continue = TEXT_IS(value, "100-continue");
        return 0;
    case 10:
        if (TEXT_IS(name, "connection")) connection_take(parser, value);
        return 0;
    case 14:
        return TEXT_IS(name, "content-length") ? content_length_take(parser, value) : 0;
    case 17:
        if (!TEXT_IS(name, "transfer-encoding")) return 0;
        if (parser->chunked)
            return proto_http_fail(parser, MR_ESYNTAX, 400, "two Transfer-Encoding headers");
        if (!TEXT_IS(value, "chunked")) {
            return proto_http_fail(parser, MR_ESYNTAX, 501,
                                   "the only Transfer-Encoding here is chunked");
        }
        parser->chunked = true;
        return 0;
    default:
        return 0;
    }
}

/* The parts of the header line at p, and its length with the line end. 0 when it is not whole or
 * not good; the zeroes after the buffer's end stop every loop. */
static inline size_t header_scan(const char *p, struct mr_str *ret_name, struct mr_str *ret_value)
{
    const char *name = p;
    while (token_table[(uint8_t)*p]) {
        p++;
    }
    if (*p != ':' || p == name) return 0;
    size_t name_n = (size_t)(p - name);
    do {
        p++;
    } while (*p == ' ' || *p == '\t');
    const char *value = p;
    p = control_find(p);
    if (p[0] != '\r' || p[1] != '\n') return 0;
    const char *end = p;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    *ret_name = (struct mr_str){name, name_n};
    *ret_value = (struct mr_str){value, (size_t)(end - value)};
    return (size_t)(p + 2 - name);
}

/* The parts of a line that line_take has found. */
static int header_split(struct mr_http_parser *parser, struct mr_str line, struct mr_str *ret_name,
                        struct mr_str *ret_value)
{
    if (header_scan(line.p, ret_name, ret_value) == line.n + 2) return 0;
    return proto_http_fail(
        parser, MR_ESYNTAX, 400,
        "a header line must be a name, a colon without space before it, and a value "
        "without control characters");
}

int proto_http_trailer_check(struct mr_http_parser *parser, struct mr_str line)
{
    struct mr_str name, value; /* dropped: RFC 9110 6.5.1 */
    return header_split(parser, line, &name, &value);
}

/* The empty line after the headers: what follows? */
static int head_end(struct mr_http_parser *parser)
{
    if (!parser->has_host && !parser->version_1_0) {
        return proto_http_fail(parser, MR_ESYNTAX, 400, "the Host header is missing");
    }
    if (parser->chunked && parser->has_length) {
        return proto_http_fail(parser, MR_ESYNTAX, 400,
                               "both Content-Length and Transfer-Encoding");
    }
    if (parser->chunked && parser->version_1_0) {
        return proto_http_fail(parser, MR_ESYNTAX, 400, "HTTP/1.0 has no Transfer-Encoding");
    }
    if (parser->body_n > MR_HTTP_BODY_BYTES_MAX) {
        return proto_http_fail(parser, MR_ETOO_LARGE, 413, "the body is too large");
    }
    if (parser->version_1_0) parser->expects_continue = false; /* RFC 9110 10.1.1 */
    parser->body = parser->scan;
    parser->state = parser->chunked ? READ_CHUNK_SIZE : parser->body_n > 0 ? READ_BODY : READ_DONE;
    return 0;
}

/* Room for one more header. */
static inline int headers_reserve(struct mr_http_parser *parser)
{
    if (parser->header_count < parser->header_capacity) return 0;
    size_t capacity =
        MR_MIN(MR_MAX(parser->header_capacity * 2, (size_t)24), (size_t)MR_HTTP_HEADERS_MAX);
    struct mr_http_header *headers = mr_realloc(parser->headers, capacity * sizeof(*headers));
    if (headers == NULL) return proto_http_fail(parser, MR_ENO_MEMORY, 503, "out of memory");
    parser->headers = headers;
    parser->header_capacity = capacity;
    return 0;
}

static inline int header_take(struct mr_http_parser *parser, struct mr_str name,
                              struct mr_str value)
{
    if (parser->header_count == MR_HTTP_HEADERS_MAX) {
        return proto_http_fail(parser, MR_ETOO_LARGE, 431, "too many headers");
    }
    int error = headers_reserve(parser);
    if (error != 0) return error;
    parser->headers[parser->header_count++] = (struct mr_http_header){name, value};
    return header_apply(parser, name, value);
}

int proto_http_header_line_take(struct mr_http_parser *parser, struct mr_str line)
{
    if (line.n == 0) return head_end(parser);
    struct mr_str name = {NULL, 0}, value = {NULL, 0};
    int error = header_split(parser, line, &name, &value);
    return error != 0 ? error : header_take(parser, name, value);
}

/* Takes header lines that are whole and good in one pass each, without looking for their ends
 * first. 0 when the next one is not; line_take finds out why, which keeps invariant 2. */
int proto_http_headers_take(struct mr_http_parser *parser)
{
    size_t limit = parser->start + MR_HTTP_HEAD_BYTES_MAX;
    while (parser->scan == parser->line) {
        struct mr_str name = {NULL, 0}, value = {NULL, 0};
        size_t line_n = header_scan(parser->p + parser->line, &name, &value);
        if (line_n == 0 || line_n > limit - parser->line) return 0;
        parser->line += line_n;
        parser->scan = parser->line;
        int error = header_take(parser, name, value);
        if (error != 0) return error;
    }
    return 0;
}
