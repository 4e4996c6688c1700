/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of one connection to HTTP/1.1 requests, strictly.
 *
 * The head is parsed where it lies, a line at a time, as soon as the line is complete; bodies are
 * never copied after the bytes were taken in, chunks are moved together in place. Positions are
 * kept as offsets, because the buffer may move until a request is handed out. While one is out, the
 * buffer stays where it is and what does not fit goes to a second one.
 *
 * Owns:       the buffers and the header tables.
 * Invariants: (1) start <= line <= scan <= n <= capacity;
 *             (2) the same bytes give the same requests or the same error, however they are cut;
 *             (3) while a request is out, its bytes do not move;
 *             (4) a message has one length: Content-Length or chunks, never both, never two;
 *             (5) joined chunks end before the bytes that are yet to be read.
 * Never:      a guess. What RFC 9112 lets a recipient repair (bare LF, folded lines, white space
 *             before the colon) is refused, because the next hop may repair it in another way.
 * Cost:       O(n) over all feeds, whatever their sizes; no allocation once warm.
 * Idea:       src/proto/README.md   Tests: tests/unit/proto/test_proto_http.c
 */
#include "proto/proto_int.h"

/* A chunk-size line without extensions: 16 digits, CR, LF. */
#define CHUNK_LINE_BYTES 18u
#define BUFFER_BYTES_MIN 2048u
/* A larger buffer is given back when it is empty, so that idle connections stay small. */
#define BUFFER_KEPT_BYTES_MAX (64u * 1024u)
#define PIPELINED_BYTES_MAX   ((size_t)MR_HTTP_HEAD_BYTES_MAX + MR_HTTP_BODY_BYTES_MAX)
/* Dead bytes between the joined chunks and the unread rest that are worth a move. */
#define CHUNK_GAP_BYTES 4096u

_Static_assert(PIPELINED_BYTES_MAX < UINT32_MAX, "offsets of a head fit in 32 bits");

static int advance(struct mr_http_parser *parser);
static int absorb(struct mr_http_parser *parser, const void *bytes, size_t n);
static int spill_put(struct mr_http_parser *parser, const void *bytes, size_t n);
static int release(struct mr_http_parser *parser);
static void hand_out(struct mr_http_parser *parser, struct mr_http_request *ret_request);

int mr_http_parser_new(struct mr_http_parser **ret_parser)
{
    struct mr_http_parser *parser = mr_alloc_zero(sizeof(*parser));
    if (parser == NULL) return MR_ENO_MEMORY;
    *ret_parser = parser;
    return 0;
}

void mr_http_parser_free(struct mr_http_parser *parser)
{
    if (parser == NULL) return;
    mr_free(parser->p);
    mr_free(parser->spill);
    mr_free(parser->headers);
    mr_free(parser);
}

int proto_http_fail(struct mr_http_parser *parser, int error, int status, const char *reason)
{
    parser->state = READ_FAILED;
    parser->error = error;
    parser->status = status;
    parser->reason = reason;
    return error;
}

int mr_http_parser_feed(struct mr_http_parser *parser, const void *bytes, size_t n)
{
    MR_ASSERT(n == 0 || bytes != NULL);
    if (parser->state == READ_FAILED) return parser->error;
    if (n == 0 || parser->state == READ_CLOSED) return 0;
    if (parser->state != READ_DONE) {
        int error = absorb(parser, bytes, n);
        return error != 0 ? error : advance(parser);
    }
    /* A request is complete or out; the next one waits until it is asked for. */
    size_t waiting_n = parser->n - parser->scan + parser->spill_n;
    if (waiting_n > PIPELINED_BYTES_MAX || n > PIPELINED_BYTES_MAX - waiting_n) {
        return proto_http_fail(parser, MR_ETOO_LARGE, 413,
                               "too many bytes were sent ahead of the answer");
    }
    if (parser->held && (parser->spill_n > 0 || parser->capacity - parser->n < n)) {
        return spill_put(parser, bytes, n);
    }
    return absorb(parser, bytes, n);
}

int mr_http_parser_next(struct mr_http_parser *parser, struct mr_http_request *ret_request)
{
    if (parser->state == READ_FAILED) return parser->error;
    if (parser->held) {
        int error = release(parser);
        if (error != 0) return error;
    }
    if (parser->state != READ_DONE) return 0;
    hand_out(parser, ret_request);
    return 1;
}

int mr_http_parser_status(const struct mr_http_parser *parser)
{
    return parser->status;
}

struct mr_str mr_http_parser_reason(const struct mr_http_parser *parser)
{
    return mr_str_from(parser->reason);
}

bool mr_http_parser_wants_continue(struct mr_http_parser *parser)
{
    if (!parser->expects_continue || parser->continue_asked) return false;
    if (parser->state != READ_BODY && parser->state != READ_CHUNK_SIZE) return false;
    if (parser->n != parser->body) return false;
    parser->continue_asked = true;
    return true;
}

bool mr_http_parser_busy(const struct mr_http_parser *parser)
{
    if (parser->state == READ_FAILED || parser->state == READ_CLOSED) return false;
    if (parser->held) return parser->n > parser->scan || parser->spill_n > 0;
    return parser->n > parser->start;
}

/* --- memory -------------------------------------------------------------------------------- */

/* The buffer's bytes have moved from `old_p`, which is dead, to `new_p`. */
static void headers_move(struct mr_http_parser *parser, uintptr_t old_p, const char *new_p)
{
    for (size_t i = 0; i < parser->header_count; i++) {
        struct mr_http_header *header = &parser->headers[i];
        header->name.p = new_p + ((uintptr_t)header->name.p - old_p);
        header->value.p = new_p + ((uintptr_t)header->value.p - old_p);
    }
}

/* Drops the dead bytes before `start`. */
static void compact(struct mr_http_parser *parser)
{
    size_t dead_n = parser->start;
    headers_move(parser, (uintptr_t)parser->p + dead_n, parser->p);
    memmove(parser->p, parser->p + dead_n, parser->n - dead_n);
    parser->n -= dead_n;
    parser->line -= dead_n;
    parser->scan -= dead_n;
    parser->body -= MR_MIN(parser->body, dead_n);
    parser->start = 0;
}

/* Takes the bytes into the buffer, which may move. */
static int absorb(struct mr_http_parser *parser, const void *bytes, size_t n)
{
    /* Moving no more than what was consumed since the last move keeps all moves O(n). */
    if (parser->capacity - parser->n < n && parser->start > 0 && !parser->held &&
        parser->n - parser->start <= parser->start) {
        compact(parser);
    }
    if (parser->capacity - parser->n < n) {
        MR_INVARIANT(3, !parser->held);
        if (n > SIZE_MAX / 4 - parser->n)
            return proto_http_fail(parser, MR_ETOO_LARGE, 413, "too large");
        size_t need_n = parser->n + n;
        size_t want_n = MR_MAX(MR_MAX(need_n, 2 * parser->capacity), (size_t)BUFFER_BYTES_MIN);
        if (parser->state == READ_BODY) {
            /* The end is known: do not grow far past it. */
            size_t end = parser->body + (size_t)parser->body_n;
            want_n = MR_MAX(need_n, MR_MIN(want_n, end));
        }
        uintptr_t old_p = (uintptr_t)parser->p;
        char *p = mr_realloc(parser->p, want_n + STOP_BYTES);
        if (p == NULL) return proto_http_fail(parser, MR_ENO_MEMORY, 503, "out of memory");
        if ((uintptr_t)p != old_p) headers_move(parser, old_p, p);
        parser->p = p;
        parser->capacity = want_n;
    }
    memcpy(parser->p + parser->n, bytes, n);
    parser->n += n;
    memset(parser->p + parser->n, 0, STOP_BYTES);
    return 0;
}

static int spill_put(struct mr_http_parser *parser, const void *bytes, size_t n)
{
    if (parser->spill_capacity - parser->spill_n < n) {
        size_t want_n = MR_MAX(parser->spill_n + n, 2 * parser->spill_capacity);
        char *spill = mr_realloc(parser->spill, want_n);
        if (spill == NULL) return proto_http_fail(parser, MR_ENO_MEMORY, 503, "out of memory");
        parser->spill = spill;
        parser->spill_capacity = want_n;
    }
    memcpy(parser->spill + parser->spill_n, bytes, n);
    parser->spill_n += n;
    return 0;
}

static bool keeps_alive(const struct mr_http_parser *parser)
{
    return !parser->says_close && (!parser->version_1_0 || parser->says_keep_alive);
}

/* Forgets the request that was out and goes on with what came after it. */
static int release(struct mr_http_parser *parser)
{
    bool last = !keeps_alive(parser);
    parser->held = false;
    parser->start = parser->line = parser->scan;
    parser->body = parser->scan;
    parser->state = READ_START;
    parser->blank_skipped = false;
    parser->version_1_0 = parser->says_close = parser->says_keep_alive = false;
    parser->has_host = parser->has_length = parser->chunked = false;
    parser->expects_continue = parser->continue_asked = false;
    parser->body_n = parser->chunk_left = 0;
    parser->extra_n = 0;
    parser->header_count = 0;
    if (last) {
        /* RFC 9112 9.6: nothing after the last request is looked at. */
        parser->state = READ_CLOSED;
        parser->start = parser->line = parser->scan = parser->n = 0;
        parser->spill_n = 0;
    }
    if (parser->start == parser->n) {
        parser->start = parser->line = parser->scan = parser->n = 0;
        if (parser->capacity > BUFFER_KEPT_BYTES_MAX) {
            mr_free(parser->p);
            parser->p = NULL;
            parser->capacity = 0;
        }
    }
    parser->body = parser->start;
    int error = 0;
    if (parser->spill_n > 0) error = absorb(parser, parser->spill, parser->spill_n);
    if (parser->spill != NULL) {
        mr_free(parser->spill);
        parser->spill = NULL;
        parser->spill_n = parser->spill_capacity = 0;
    }
    if (error != 0 || last) return error;
    return advance(parser);
}

static void hand_out(struct mr_http_parser *parser, struct mr_http_request *ret_request)
{
    const char *base = parser->p + parser->start;
    parser->held = true;
    *ret_request = (struct mr_http_request){
        .method = parser->method,
        /* "http://host" without a path means "/" (RFC 9112 3.2.2). */
        .path = parser->path_n > 0 ? (struct mr_str){base + parser->path_at, parser->path_n}
                                   : MR_STR("/"),
        .query = {base + parser->query_at, parser->query_n},
        .headers = parser->headers,
        .header_count = parser->header_count,
        .body = {parser->p + parser->body, (size_t)parser->body_n},
        .keep_alive = keeps_alive(parser),
    };
}

/* --- lines --------------------------------------------------------------------------------- */

/* Bytes that the line being read may have, its end included, and what is wrong past them. */
static size_t line_limit(const struct mr_http_parser *parser, int *ret_status,
                         const char **ret_reason)
{
    size_t taken_n;
    switch (parser->state) {
    case READ_START:
        *ret_status = 414;
        *ret_reason = "the request line is too long";
        return MR_HTTP_URL_BYTES_MAX + REQUEST_LINE_REST_BYTES;
    case READ_HEADERS:
        *ret_status = 431;
        *ret_reason = "the headers are too large";
        taken_n = parser->line - parser->start;
        return MR_HTTP_HEAD_BYTES_MAX - taken_n;
    case READ_CHUNK_SIZE:
        *ret_status = 431;
        *ret_reason = "the chunk extensions are too large";
        return MR_HTTP_HEAD_BYTES_MAX + CHUNK_LINE_BYTES - parser->extra_n;
    default:
        *ret_status = 431;
        *ret_reason = "the trailers are too large";
        return MR_HTTP_HEAD_BYTES_MAX - MR_MIN(parser->extra_n, (size_t)MR_HTTP_HEAD_BYTES_MAX);
    }
}

/* 1 and the next line without its CR LF, 0 when it is not whole yet. */
static int line_take(struct mr_http_parser *parser, struct mr_str *ret_line)
{
    if (parser->scan == parser->n) return 0;
    const char *from = parser->p + parser->scan;
    const char *end = memchr(from, '\n', parser->n - parser->scan);
    size_t line_n = (end != NULL ? (size_t)(end - parser->p) + 1 : parser->n) - parser->line;
    int status;
    const char *reason;
    /* The limit goes first, with or without an end: invariant 2. */
    if (line_n > line_limit(parser, &status, &reason)) {
        return proto_http_fail(parser, MR_ETOO_LARGE, status, reason);
    }
    if (end == NULL) {
        parser->scan = parser->n;
        return 0;
    }
    if (line_n < 2 || end[-1] != '\r') {
        return proto_http_fail(parser, MR_ESYNTAX, 400, "a line must end with CR LF");
    }
    *ret_line = (struct mr_str){parser->p + parser->line, line_n - 2};
    parser->line += line_n;
    parser->scan = parser->line;
    return 1;
}

/* --- chunks (RFC 9112 7.1) ----------------------------------------------------------------- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static int chunk_line_take(struct mr_http_parser *parser, struct mr_str line)
{
    uint64_t size = 0;
    size_t digits_n = 0;
    while (digits_n < line.n && hex_value(line.p[digits_n]) >= 0) {
        if (size <= MR_HTTP_BODY_BYTES_MAX) {
            size = size * 16 + (uint64_t)hex_value(line.p[digits_n]);
        }
        digits_n++;
    }
    if (digits_n == 0 || digits_n > 16) {
        return proto_http_fail(parser, MR_ESYNTAX, 400,
                               "a chunk must begin with its size in hexadecimal");
    }
    size_t at = digits_n;
    while (at < line.n && (line.p[at] == ' ' || line.p[at] == '\t')) {
        at++;
    }
    bool extension_begins = at < line.n && line.p[at] == ';';
    if ((digits_n < line.n && !extension_begins) ||
        !proto_http_text_is_clean((struct mr_str){line.p + at, line.n - at})) {
        return proto_http_fail(parser, MR_ESYNTAX, 400,
                               "a chunk size is followed by something else");
    }
    parser->extra_n += line.n - digits_n;
    if (size > MR_HTTP_BODY_BYTES_MAX - parser->body_n) {
        return proto_http_fail(parser, MR_ETOO_LARGE, 413, "the body is too large");
    }
    parser->chunk_left = size;
    parser->state = size > 0 ? READ_CHUNK_DATA : READ_TRAILERS;
    return 0;
}

static int trailer_line_take(struct mr_http_parser *parser, struct mr_str line)
{
    if (line.n == 0) {
        parser->state = READ_DONE;
        return 0;
    }
    parser->extra_n += line.n + 2;
    return proto_http_trailer_check(parser, line);
}

/* Moves what is here of the chunk behind the chunks before it. 1 when the chunk is whole. */
static int chunk_data_take(struct mr_http_parser *parser)
{
    size_t here_n = parser->n - parser->scan;
    size_t take_n = here_n < parser->chunk_left ? here_n : (size_t)parser->chunk_left;
    size_t to = parser->body + (size_t)parser->body_n;
    if (to != parser->scan) memmove(parser->p + to, parser->p + parser->scan, take_n);
    parser->body_n += take_n;
    parser->chunk_left -= take_n;
    parser->scan += take_n;
    if (parser->chunk_left > 0) return 0;
    parser->state = READ_CHUNK_END;
    return 1;
}

static int chunk_end_take(struct mr_http_parser *parser)
{
    size_t here_n = parser->n - parser->scan;
    if ((here_n >= 1 && parser->p[parser->scan] != '\r') ||
        (here_n >= 2 && parser->p[parser->scan + 1] != '\n')) {
        return proto_http_fail(parser, MR_ESYNTAX, 400, "a chunk is longer than its size says");
    }
    if (here_n < 2) return 0;
    parser->scan += 2;
    parser->line = parser->scan;
    parser->state = READ_CHUNK_SIZE;
    return 1;
}

/* Closes the gap between the joined chunks and the unread rest, so that framing costs no memory. */
static void chunk_gap_close(struct mr_http_parser *parser)
{
    size_t to = parser->body + (size_t)parser->body_n;
    bool in_line = parser->state == READ_CHUNK_SIZE || parser->state == READ_TRAILERS;
    size_t from = in_line ? parser->line : parser->scan;
    MR_INVARIANT(5, to <= from);
    size_t gap_n = from - to;
    size_t rest_n = parser->n - from;
    if (gap_n < CHUNK_GAP_BYTES || gap_n < rest_n) return;
    memmove(parser->p + to, parser->p + from, rest_n);
    parser->n -= gap_n;
    parser->scan -= gap_n;
    parser->line = in_line ? to : parser->scan;
}

/* --- the machine --------------------------------------------------------------------------- */

static int line_step(struct mr_http_parser *parser)
{
    struct mr_str line = {NULL, 0};
    int r = parser->state == READ_HEADERS ? proto_http_headers_take(parser) : 0;
    if (r == 0) r = line_take(parser, &line);
    if (r != 1) return r;
    switch (parser->state) {
    case READ_START:
        r = proto_http_request_line_take(parser, line);
        break;
    case READ_HEADERS:
        r = proto_http_header_line_take(parser, line);
        break;
    case READ_CHUNK_SIZE:
        r = chunk_line_take(parser, line);
        break;
    default:
        r = trailer_line_take(parser, line);
        break;
    }
    return r < 0 ? r : 1;
}

static int body_step(struct mr_http_parser *parser)
{
    bool whole = parser->n - parser->body >= parser->body_n;
    parser->scan = whole ? parser->body + (size_t)parser->body_n : parser->n;
    parser->line = parser->scan;
    if (whole) parser->state = READ_DONE;
    return 0;
}

/* One step: 1 when there may be more to do, 0 when bytes are missing or the request is whole. */
static int step(struct mr_http_parser *parser)
{
    switch (parser->state) {
    case READ_BODY:
        return body_step(parser);
    case READ_CHUNK_DATA:
        return chunk_data_take(parser);
    case READ_CHUNK_END:
        return chunk_end_take(parser);
    case READ_DONE:
    case READ_CLOSED:
        return 0;
    case READ_FAILED:
        return parser->error;
    default:
        return line_step(parser);
    }
}

static int advance(struct mr_http_parser *parser)
{
    int r;
    do {
        r = step(parser);
    } while (r == 1);
    if (r < 0) return r;
    if (parser->state >= READ_CHUNK_SIZE && parser->state <= READ_TRAILERS) {
        chunk_gap_close(parser);
    }
    MR_INVARIANT(1, parser->start <= parser->line);
    MR_INVARIANT(1, parser->line <= parser->scan);
    MR_INVARIANT(1, parser->scan <= parser->n);
    MR_INVARIANT(1, parser->n <= parser->capacity);
    return 0;
}
