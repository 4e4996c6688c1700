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
#include "proto/proto.h"

enum read_state {
    READ_START,      /* the request line, or one empty line before it */
    READ_HEADERS,    /* header lines */
    READ_BODY,       /* Content-Length bytes */
    READ_CHUNK_SIZE, /* a chunk's first line */
    READ_CHUNK_DATA, /* its bytes */
    READ_CHUNK_END,  /* the CR LF after them */
    READ_TRAILERS,   /* header lines after the last chunk */
    READ_DONE,       /* a whole request is here */
    READ_CLOSED,     /* the last request of the connection was taken: bytes are dropped */
    READ_FAILED
};

struct mr_http_parser {
    char *p;
    size_t n, capacity;
    size_t start; /* first byte of this message */
    size_t line;  /* first byte of the line that is being read */
    size_t scan;  /* first byte not looked at yet */

    enum read_state state;
    bool held;            /* the request is out */
    bool blank_skipped;   /* the one empty line before a request was there */
    bool version_1_0;     /* HTTP/1.0 */
    bool says_close;      /* Connection: close */
    bool says_keep_alive; /* Connection: keep-alive */
    bool has_host, has_length, chunked, expects_continue;
    bool continue_asked; /* mr_http_parser_wants_continue has said true */
    enum mr_http_method method;
    uint32_t path_at, path_n, query_at, query_n; /* offsets from start */
    uint64_t body_n;                             /* Content-Length, or de-chunked so far */
    size_t body;                                 /* absolute, like start, line and scan */
    uint64_t chunk_left;
    size_t extra_n; /* bytes of chunk extensions and trailers */

    struct mr_http_header *headers; /* into the buffer; they move with it */
    size_t header_count, header_capacity;

    char *spill; /* bytes that came while the request was out and did not fit */
    size_t spill_n, spill_capacity;

    int error, status;
    const char *reason;
};

/* A chunk-size line without extensions: 16 digits, CR, LF. */
#define CHUNK_LINE_BYTES 18u
/* What a request line holds beside the target: method, two spaces, version, CR LF. */
#define REQUEST_LINE_REST_BYTES 64u
#define BUFFER_BYTES_MIN        2048u
/* A larger buffer is given back when it is empty, so that idle connections stay small. */
#define BUFFER_KEPT_BYTES_MAX (64u * 1024u)
#define PIPELINED_BYTES_MAX   ((size_t)MR_HTTP_HEAD_BYTES_MAX + MR_HTTP_BODY_BYTES_MAX)
/* Dead bytes between the joined chunks and the unread rest that are worth a move. */
#define CHUNK_GAP_BYTES 4096u
/* Zeroes after the last byte: they belong to no name, target or value, so that a scan stops there
 * without asking for the end, and reads of eight bytes stay inside. */
#define STOP_BYTES 8u

_Static_assert(MR_HTTP_URL_BYTES_MAX + REQUEST_LINE_REST_BYTES < MR_HTTP_HEAD_BYTES_MAX,
               "a request line fits in the head");
_Static_assert(PIPELINED_BYTES_MAX < UINT32_MAX, "offsets of a head fit in 32 bits");

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

static int fail(struct mr_http_parser *parser, int error, int status, const char *reason)
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
        return fail(parser, MR_ETOO_LARGE, 413, "too many bytes were sent ahead of the answer");
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
        if (n > SIZE_MAX / 4 - parser->n) return fail(parser, MR_ETOO_LARGE, 413, "too large");
        size_t need_n = parser->n + n;
        size_t want_n = MR_MAX(MR_MAX(need_n, 2 * parser->capacity), (size_t)BUFFER_BYTES_MIN);
        if (parser->state == READ_BODY) {
            /* The end is known: do not grow far past it. */
            size_t end = parser->body + (size_t)parser->body_n;
            want_n = MR_MAX(need_n, MR_MIN(want_n, end));
        }
        uintptr_t old_p = (uintptr_t)parser->p;
        char *p = mr_realloc(parser->p, want_n + STOP_BYTES);
        if (p == NULL) return fail(parser, MR_ENO_MEMORY, 503, "out of memory");
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
        if (spill == NULL) return fail(parser, MR_ENO_MEMORY, 503, "out of memory");
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

/* Room for one more header. */
static inline int headers_reserve(struct mr_http_parser *parser)
{
    if (parser->header_count < parser->header_capacity) return 0;
    size_t capacity =
        MR_MIN(MR_MAX(parser->header_capacity * 2, (size_t)24), (size_t)MR_HTTP_HEADERS_MAX);
    struct mr_http_header *headers = mr_realloc(parser->headers, capacity * sizeof(*headers));
    if (headers == NULL) return fail(parser, MR_ENO_MEMORY, 503, "out of memory");
    parser->headers = headers;
    parser->header_capacity = capacity;
    return 0;
}

/* --- lines --------------------------------------------------------------------------------- */

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

static bool text_is_clean(const char *p, size_t n)
{
    return n == 0 || control_find(p) >= p + n;
}

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
        return fail(parser, MR_ETOO_LARGE, status, reason);
    }
    if (end == NULL) {
        parser->scan = parser->n;
        return 0;
    }
    if (line_n < 2 || end[-1] != '\r') {
        return fail(parser, MR_ESYNTAX, 400, "a line must end with CR LF");
    }
    *ret_line = (struct mr_str){parser->p + parser->line, line_n - 2};
    parser->line += line_n;
    parser->scan = parser->line;
    return 1;
}

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
    if (target.n == 0) return fail(parser, MR_ESYNTAX, 400, "the request target is empty");
    if (target.n > MR_HTTP_URL_BYTES_MAX) {
        return fail(parser, MR_ETOO_LARGE, 414, "the URL is too long");
    }
    uint8_t bad = 0;
    for (size_t i = 0; i < target.n; i++) {
        uint8_t c = (uint8_t)target.p[i];
        bad |= (uint8_t)((c <= 0x20) | (c >= 0x7f) | (c == '#'));
    }
    if (bad) {
        return fail(parser, MR_ESYNTAX, 400, "the URL has a byte that must be percent-encoded");
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
            return fail(parser, MR_ESYNTAX, 400, "the request target must begin with a slash");
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

static int request_line_take(struct mr_http_parser *parser, struct mr_str line)
{
    if (line.n == 0) {
        /* RFC 9112 2.2: one empty line before a request is forgiven. */
        if (parser->blank_skipped) return fail(parser, MR_ESYNTAX, 400, "the request is empty");
        parser->blank_skipped = true;
        parser->start = parser->line;
        return 0;
    }
    size_t method_n = 0;
    while (method_n < line.n && token_table[(uint8_t)line.p[method_n]]) {
        method_n++;
    }
    if (method_n == 0 || method_n == line.n || line.p[method_n] != ' ') {
        return fail(parser, MR_ESYNTAX, 400, "the request line has no method");
    }
    parser->method = method_from((struct mr_str){line.p, method_n});
    const char *target = line.p + method_n + 1;
    size_t rest_n = line.n - method_n - 1;
    const char *space = memchr(target, ' ', rest_n);
    if (space == NULL) return fail(parser, MR_ESYNTAX, 400, "the request line has no version");
    struct mr_str version = {space + 1, rest_n - (size_t)(space - target) - 1};
    if (version.n != 8 || memcmp(version.p, "HTTP/", 5) != 0 || version.p[6] != '.' ||
        version.p[5] < '0' || version.p[5] > '9' || version.p[7] < '0' || version.p[7] > '9') {
        return fail(parser, MR_ESYNTAX, 400, "the request line must end with HTTP/1.1");
    }
    if (version.p[5] != '1') {
        return fail(parser, MR_ESYNTAX, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
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
    if (value.n == 0) return fail(parser, MR_ESYNTAX, 400, "Content-Length is empty");
    for (size_t i = 0; i < value.n; i++) {
        char c = value.p[i];
        if (c < '0' || c > '9') {
            return fail(parser, MR_ESYNTAX, 400, "Content-Length must be one decimal number");
        }
        /* It stays above the limit once it is there, and cannot wrap. */
        if (length <= MR_HTTP_BODY_BYTES_MAX) length = length * 10 + (uint64_t)(c - '0');
    }
    if (parser->has_length && length != parser->body_n) {
        return fail(parser, MR_ESYNTAX, 400, "two Content-Length headers differ");
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
        if (parser->has_host) return fail(parser, MR_ESYNTAX, 400, "two Host headers");
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
        if (parser->chunked) return fail(parser, MR_ESYNTAX, 400, "two Transfer-Encoding headers");
        if (!TEXT_IS(value, "chunked")) {
            return fail(parser, MR_ESYNTAX, 501, "the only Transfer-Encoding here is chunked");
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
    return fail(parser, MR_ESYNTAX, 400,
                "a header line must be a name, a colon without space before it, and a value "
                "without control characters");
}

/* The empty line after the headers: what follows? */
static int head_end(struct mr_http_parser *parser)
{
    if (!parser->has_host && !parser->version_1_0) {
        return fail(parser, MR_ESYNTAX, 400, "the Host header is missing");
    }
    if (parser->chunked && parser->has_length) {
        return fail(parser, MR_ESYNTAX, 400, "both Content-Length and Transfer-Encoding");
    }
    if (parser->chunked && parser->version_1_0) {
        return fail(parser, MR_ESYNTAX, 400, "HTTP/1.0 has no Transfer-Encoding");
    }
    if (parser->body_n > MR_HTTP_BODY_BYTES_MAX) {
        return fail(parser, MR_ETOO_LARGE, 413, "the body is too large");
    }
    if (parser->version_1_0) parser->expects_continue = false; /* RFC 9110 10.1.1 */
    parser->body = parser->scan;
    parser->state = parser->chunked ? READ_CHUNK_SIZE : parser->body_n > 0 ? READ_BODY : READ_DONE;
    return 0;
}

static inline int header_take(struct mr_http_parser *parser, struct mr_str name,
                              struct mr_str value)
{
    if (parser->header_count == MR_HTTP_HEADERS_MAX) {
        return fail(parser, MR_ETOO_LARGE, 431, "too many headers");
    }
    int error = headers_reserve(parser);
    if (error != 0) return error;
    parser->headers[parser->header_count++] = (struct mr_http_header){name, value};
    return header_apply(parser, name, value);
}

static int header_line_take(struct mr_http_parser *parser, struct mr_str line)
{
    if (line.n == 0) return head_end(parser);
    struct mr_str name, value;
    int error = header_split(parser, line, &name, &value);
    return error != 0 ? error : header_take(parser, name, value);
}

/* Takes header lines that are whole and good in one pass each, without looking for their ends
 * first. 0 when the next one is not; line_take finds out why, which keeps invariant 2. */
static int headers_take(struct mr_http_parser *parser)
{
    size_t limit = parser->start + MR_HTTP_HEAD_BYTES_MAX;
    while (parser->scan == parser->line) {
        struct mr_str name, value;
        size_t line_n = header_scan(parser->p + parser->line, &name, &value);
        if (line_n == 0 || line_n > limit - parser->line) return 0;
        parser->line += line_n;
        parser->scan = parser->line;
        int error = header_take(parser, name, value);
        if (error != 0) return error;
    }
    return 0;
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
        return fail(parser, MR_ESYNTAX, 400, "a chunk must begin with its size in hexadecimal");
    }
    size_t at = digits_n;
    while (at < line.n && (line.p[at] == ' ' || line.p[at] == '\t')) {
        at++;
    }
    bool extension_begins = at < line.n && line.p[at] == ';';
    if ((digits_n < line.n && !extension_begins) || !text_is_clean(line.p + at, line.n - at)) {
        return fail(parser, MR_ESYNTAX, 400, "a chunk size is followed by something else");
    }
    parser->extra_n += line.n - digits_n;
    if (size > MR_HTTP_BODY_BYTES_MAX - parser->body_n) {
        return fail(parser, MR_ETOO_LARGE, 413, "the body is too large");
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
    struct mr_str name, value; /* checked and dropped: RFC 9110 6.5.1 */
    return header_split(parser, line, &name, &value);
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
        return fail(parser, MR_ESYNTAX, 400, "a chunk is longer than its size says");
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
    int r = parser->state == READ_HEADERS ? headers_take(parser) : 0;
    if (r == 0) r = line_take(parser, &line);
    if (r != 1) return r;
    switch (parser->state) {
    case READ_START:
        r = request_line_take(parser, line);
        break;
    case READ_HEADERS:
        r = header_line_take(parser, line);
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
