/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP parser against itself, cut in other places, and against llhttp.
 *
 * The first two bytes of an input draw the cuts; the rest is what a peer sends. llhttp may refuse
 * what we take (an unknown method) and takes much that we refuse, but a request that both take must
 * be the same request: that is what keeps a proxy in front of us from seeing another one.
 *
 * Thread: one.   Fails: with a trap.   Ends: nothing outlives a call.
 */
#include <llhttp.h>

#include "proto/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Requests one after the other, as text. `marks` are the ends of each. */
#define REQUESTS_MAX 64
struct outcome {
    struct mr_buf text;
    size_t marks[REQUESTS_MAX];
    size_t count;
    /* llhttp's only */
    struct mr_buf url, body;
    enum { FIELD, VALUE } part;
    struct mr_buf headers;
};

static void outcome_init(struct outcome *outcome)
{
    memset(outcome, 0, sizeof(*outcome));
    mr_buf_init(&outcome->text, SIZE_MAX / 4);
    mr_buf_init(&outcome->url, SIZE_MAX / 4);
    mr_buf_init(&outcome->body, SIZE_MAX / 4);
    mr_buf_init(&outcome->headers, SIZE_MAX / 4);
}

static void outcome_done(struct outcome *outcome)
{
    mr_buf_done(&outcome->text);
    mr_buf_done(&outcome->url);
    mr_buf_done(&outcome->body);
    mr_buf_done(&outcome->headers);
}

static void mark(struct outcome *outcome)
{
    MR_ASSERT(!outcome->text.failed);
    if (outcome->count < REQUESTS_MAX) outcome->marks[outcome->count++] = outcome->text.n;
}

/* --- ours ---------------------------------------------------------------------------------- */

static void request_put(struct outcome *outcome, const struct mr_http_request *request)
{
    struct mr_buf *text = &outcome->text;
    mr_buf_put_u8(text, (uint8_t)request->method);
    mr_buf_put_str(text, request->path);
    mr_buf_put_char(text, '\n');
    mr_buf_put_str(text, request->query);
    mr_buf_put_char(text, '\n');
    for (size_t i = 0; i < request->header_count; i++) {
        mr_buf_put_str(text, request->headers[i].name);
        mr_buf_put_char(text, ':');
        mr_buf_put_str(text, request->headers[i].value);
        mr_buf_put_char(text, '\n');
        MR_ASSERT(request->headers[i].name.n > 0);
        MR_ASSERT(memchr(request->headers[i].value.p, '\n', request->headers[i].value.n) == NULL);
    }
    mr_buf_put_char(text, '\n');
    mr_buf_put_str(text, request->body);
    mark(outcome);

    struct mr_arena arena;
    struct mr_str decoded;
    mr_arena_init(&arena, 1u << 20);
    (void)mr_http_percent_decode(&arena, request->path, &decoded);
    (void)mr_http_query_get(request, MR_STR("key"), &arena, &decoded);
    mr_arena_done(&arena);
}

static int ours_run(const uint8_t *data, size_t size, struct mr_prng *prng, size_t piece_max,
                    struct outcome *outcome)
{
    struct mr_http_parser *parser;
    if (mr_http_parser_new(&parser) != 0) return 0;
    int error = 0;
    for (size_t at = 0; at < size && error == 0;) {
        size_t n = piece_max == 0 ? size : 1 + mr_prng_below(prng, piece_max);
        n = MR_MIN(n, size - at);
        error = mr_http_parser_feed(parser, data + at, n);
        at += n;
        struct mr_http_request request;
        int got;
        while ((got = mr_http_parser_next(parser, &request)) == 1) {
            request_put(outcome, &request);
        }
        MR_ASSERT(error == 0 || got == error);
        error = got;
        (void)mr_http_parser_wants_continue(parser);
        (void)mr_http_parser_busy(parser);
    }
    int status = mr_http_parser_status(parser);
    MR_ASSERT((status != 0) == (error != 0));
    MR_ASSERT((mr_http_parser_reason(parser).n != 0) == (error != 0));
    mr_http_parser_free(parser);
    return status;
}

/* --- llhttp -------------------------------------------------------------------------------- */

static int on_field(llhttp_t *parser, const char *at, size_t n)
{
    struct outcome *outcome = parser->data;
    if (outcome->part == VALUE) mr_buf_put_char(&outcome->headers, '\n');
    outcome->part = FIELD;
    mr_buf_put(&outcome->headers, at, n);
    return 0;
}

static int on_field_complete(llhttp_t *parser)
{
    struct outcome *outcome = parser->data;
    mr_buf_put_char(&outcome->headers, ':');
    outcome->part = VALUE;
    return 0;
}

static int on_value(llhttp_t *parser, const char *at, size_t n)
{
    struct outcome *outcome = parser->data;
    mr_buf_put(&outcome->headers, at, n);
    return 0;
}

static int on_url(llhttp_t *parser, const char *at, size_t n)
{
    struct outcome *outcome = parser->data;
    mr_buf_put(&outcome->url, at, n);
    return 0;
}

static enum mr_http_method method_of(const llhttp_t *parser)
{
    switch (parser->method) {
    case HTTP_GET:
        return MR_HTTP_GET;
    case HTTP_POST:
        return MR_HTTP_POST;
    case HTTP_PUT:
        return MR_HTTP_PUT;
    case HTTP_DELETE:
        return MR_HTTP_DELETE;
    case HTTP_HEAD:
        return MR_HTTP_HEAD;
    case HTTP_OPTIONS:
        return MR_HTTP_OPTIONS;
    case HTTP_PATCH:
        return MR_HTTP_PATCH;
    default:
        return MR_HTTP_OTHER;
    }
}

/* llhttp gives the target as it came: cut it as RFC 9112 3.2 says. */
static void target_put(struct outcome *outcome, enum mr_http_method method)
{
    struct mr_str rest = mr_buf_str(&outcome->url), path;
    const char *scheme_end = memmem(rest.p, rest.n, "://", 3);
    if (rest.p[0] != '/' && method != MR_HTTP_OTHER && scheme_end != NULL) {
        rest.n -= (size_t)(scheme_end + 3 - rest.p);
        rest.p = scheme_end + 3;
        while (rest.n > 0 && rest.p[0] != '/' && rest.p[0] != '?') {
            rest.p++;
            rest.n--;
        }
    }
    (void)mr_str_split(&rest, '?', &path); /* there is at least an empty one */
    mr_buf_put_u8(&outcome->text, (uint8_t)method);
    mr_buf_put_str(&outcome->text, path.n > 0 ? path : MR_STR("/"));
    mr_buf_put_char(&outcome->text, '\n');
    mr_buf_put_str(&outcome->text, rest);
    mr_buf_put_char(&outcome->text, '\n');
    mr_buf_reset(&outcome->url);
}

/* It leaves white space after a value. */
static int on_value_complete(llhttp_t *parser)
{
    struct mr_buf *headers = &((struct outcome *)parser->data)->headers;
    while (headers->n > 0 &&
           (headers->p[headers->n - 1] == ' ' || headers->p[headers->n - 1] == '\t')) {
        headers->n--;
    }
    return 0;
}

/* Trailers come as headers after the body; they do not count. */
static int on_headers_complete(llhttp_t *parser)
{
    struct outcome *outcome = parser->data;
    if (outcome->part == VALUE) mr_buf_put_char(&outcome->headers, '\n');
    outcome->part = FIELD;
    target_put(outcome, method_of(parser));
    mr_buf_put_str(&outcome->text, mr_buf_str(&outcome->headers));
    mr_buf_put_char(&outcome->text, '\n');
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t n)
{
    struct outcome *outcome = parser->data;
    mr_buf_put(&outcome->text, at, n);
    return 0;
}

static int on_message_complete(llhttp_t *parser)
{
    struct outcome *outcome = parser->data;
    mark(outcome);
    mr_buf_reset(&outcome->headers);
    outcome->part = FIELD;
    return 0;
}

static void llhttp_run(const uint8_t *data, size_t size, struct outcome *outcome)
{
    llhttp_settings_t settings;
    llhttp_t parser;
    llhttp_settings_init(&settings);
    settings.on_url = on_url;
    settings.on_header_field = on_field;
    settings.on_header_field_complete = on_field_complete;
    settings.on_header_value = on_value;
    settings.on_header_value_complete = on_value_complete;
    settings.on_headers_complete = on_headers_complete;
    settings.on_body = on_body;
    settings.on_message_complete = on_message_complete;
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    parser.data = outcome;
    (void)llhttp_execute(&parser, (const char *)data, size); /* what it took is in the outcome */
}

/* --- both ---------------------------------------------------------------------------------- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    struct mr_prng prng;
    mr_prng_init(&prng, data[0]);
    size_t piece_max = 1 + data[1] % 64u;
    data += 2;
    size -= 2;

    struct outcome whole, cut, theirs;
    outcome_init(&whole);
    outcome_init(&cut);
    outcome_init(&theirs);
    int whole_status = ours_run(data, size, &prng, 0, &whole);
    int cut_status = ours_run(data, size, &prng, piece_max, &cut);
    MR_ASSERT(whole_status == cut_status);
    MR_ASSERT(whole.count == cut.count);
    MR_ASSERT(mr_str_equal(mr_buf_str(&whole.text), mr_buf_str(&cut.text)));

    llhttp_run(data, size, &theirs);
    size_t both = MR_MIN(whole.count, theirs.count);
    for (size_t i = 0; i < both; i++) {
        MR_ASSERT(whole.marks[i] == theirs.marks[i]);
        MR_ASSERT(memcmp(whole.text.p, theirs.text.p, whole.marks[i]) == 0);
    }
    outcome_done(&whole);
    outcome_done(&cut);
    outcome_done(&theirs);
    return 0;
}
