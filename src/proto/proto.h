/* SPDX-License-Identifier: Apache-2.0 */
/* Codecs between bytes and structs: HTTP/1.1, SSE, the OpenAI chat surface, the worker wire.
 *
 * A parser never reads past its input, never recurses without a limit, and either fills its struct
 * or answers an error and a text that a person can act on. Strings in results point into the input
 * or into the arena that was passed. Every parser has a target in tests/fuzz.
 *
 * Grade P1: no clock, file, socket or thread. Idea: src/proto/README.md.
 */
#ifndef MR_PROTO_H
#define MR_PROTO_H

#include "base/base.h"

/* --- HTTP/1.1 (RFC 9112) ------------------------------------------------------------------- */

enum mr_http_method {
    MR_HTTP_GET,
    MR_HTTP_POST,
    MR_HTTP_PUT,
    MR_HTTP_DELETE,
    MR_HTTP_HEAD,
    MR_HTTP_OPTIONS,
    MR_HTTP_PATCH,
    MR_HTTP_OTHER,
    MR_HTTP_METHOD_COUNT
};

struct mr_http_header {
    struct mr_str name; /* as sent; compare with mr_str_equal_nocase */
    struct mr_str value;
};

/* A whole request. Everything points into the parser's own buffers and stays valid until the next
 * mr_http_parser_next or done. */
struct mr_http_request {
    enum mr_http_method method;
    struct mr_str path;  /* percent-encoded, without the query */
    struct mr_str query; /* without '?' */
    const struct mr_http_header *headers;
    size_t header_count;
    struct mr_str body; /* de-chunked */
    bool keep_alive;
};

/* Collects bytes of one connection into requests. Pipelining is kept in order: the next request is
 * parsed only when asked for. The parser is stricter than the RFC asks, see src/proto/README.md. */
struct mr_http_parser;
int mr_http_parser_new(struct mr_http_parser **ret_parser);
void mr_http_parser_free(struct mr_http_parser *parser);
/* Takes bytes (copied). 0, or MR_ETOO_LARGE / MR_ESYNTAX / MR_ENO_MEMORY: then only an error answer
 * and a close are left; `mr_http_parser_status` is the HTTP status for it (400, 413, 414, 431; 501
 * for an unknown transfer coding, 503 without memory, 505 for HTTP/2), 0 before. Bytes after a
 * request that ends the connection are dropped. */
int mr_http_parser_feed(struct mr_http_parser *parser, const void *bytes, size_t n);
/* 1 and the request when one is complete, 0 when more bytes are needed, or the error of feed. */
int mr_http_parser_next(struct mr_http_parser *parser, struct mr_http_request *ret_request);
int mr_http_parser_status(const struct mr_http_parser *parser);
/* What was wrong, one static sentence for the answer's body; empty before an error. */
struct mr_str mr_http_parser_reason(const struct mr_http_parser *parser);
/* True once, when a request said "Expect: 100-continue" and its body has not come yet. */
bool mr_http_parser_wants_continue(struct mr_http_parser *parser);
/* True when bytes of an unfinished request are held (for read timeouts and graceful shutdown). */
bool mr_http_parser_busy(const struct mr_http_parser *parser);

/* The first header of that name, or an empty string. O(headers). */
struct mr_str mr_http_header_get(const struct mr_http_request *request, struct mr_str name);
/* The decoded value of a query key into the arena; false when absent. */
bool mr_http_query_get(const struct mr_http_request *request, struct mr_str key,
                       struct mr_arena *arena, struct mr_str *ret_value);
/* Percent-decodes one path segment; MR_ESYNTAX on a bad escape. */
int mr_http_percent_decode(struct mr_arena *arena, struct mr_str s, struct mr_str *ret);

/* Writes a response head. content_length < 0: chunked transfer. `extra` is whole header lines with
 * CRLF, or empty. Date comes from time_us. */
void mr_http_put_head(struct mr_buf *buf, int status, struct mr_str content_type,
                      int64_t content_length, bool keep_alive, uint64_t time_us,
                      struct mr_str extra);
void mr_http_put_chunk(struct mr_buf *buf, struct mr_str bytes); /* n == 0 writes nothing */
void mr_http_put_last_chunk(struct mr_buf *buf);
const char *mr_http_status_text(int status);

/* --- hashes -------------------------------------------------------------------------------- */

/* SHA-256 (FIPS 180-4) by OpenSSL. O(n). */
void mr_sha256(const void *bytes, size_t n, uint8_t ret[32]);

/* --- server-sent events -------------------------------------------------------------------- */

void mr_sse_put_data(struct mr_buf *buf, struct mr_str data); /* one event; data may hold LF */
void mr_sse_put_event(struct mr_buf *buf, struct mr_str event, struct mr_str data);
void mr_sse_put_comment(struct mr_buf *buf, struct mr_str text);
/* Reads a stream back (CLI, tests): feed bytes, take events. */
struct mr_sse_parser;
int mr_sse_parser_new(struct mr_sse_parser **ret_parser);
void mr_sse_parser_free(struct mr_sse_parser *parser);
int mr_sse_parser_feed(struct mr_sse_parser *parser, const void *bytes, size_t n);
/* 1 and the event (valid until the next call), 0 when more bytes are needed. */
int mr_sse_parser_next(struct mr_sse_parser *parser, struct mr_str *ret_event,
                       struct mr_str *ret_data);

/* --- chat, whatever the dialect ------------------------------------------------------------ */

enum mr_role {
    MR_ROLE_SYSTEM, /* "developer" too */
    MR_ROLE_USER,
    MR_ROLE_ASSISTANT,
    MR_ROLE_TOOL,
    MR_ROLE_COUNT
};
struct mr_str mr_role_name(enum mr_role role);

struct mr_message {
    enum mr_role role;
    struct mr_str content;
};

struct mr_sampling {
    float temperature;       /* 0 is greedy */
    float top_p;             /* (0, 1] */
    float presence_penalty;  /* [-2, 2] */
    float frequency_penalty; /* [-2, 2] */
    uint64_t seed;           /* used when has_seed */
    bool has_seed;
    uint32_t max_tokens; /* 0: as many as fit in the context */
};

struct mr_chat {
    struct mr_str model;
    const struct mr_message *messages;
    size_t message_count;
    struct mr_sampling sampling;
    const struct mr_str *stops;
    size_t stop_count;
    bool stream;
    bool include_usage; /* stream_options.include_usage */
};

enum mr_finish {
    MR_FINISH_NONE, /* not finished */
    MR_FINISH_STOP,
    MR_FINISH_LENGTH,
    MR_FINISH_CANCELLED,
    MR_FINISH_ERROR,
    MR_FINISH_COUNT
};

struct mr_usage {
    uint32_t prompt_tokens;
    uint32_t cached_tokens; /* of prompt_tokens, read from cache */
    uint32_t completion_tokens;
};

/* An error in words, with the parameter that is wrong where there is one. `text` and `param` point
 * to static text or into the arena. */
struct mr_problem {
    int error; /* MR_E… */
    struct mr_str param;
    struct mr_str code; /* OpenAI's, for example "model_not_found"; empty: derived from error */
    struct mr_str text;
};

/* --- OpenAI's dialect ---------------------------------------------------------------------- */

/* Parses the body of POST /v1/chat/completions. Unknown keys are ignored. What we cannot honour
 * (n > 1, tools, logprobs, images) is refused with a problem that names the parameter. All strings
 * lie in the arena. 0 or the problem's error. */
int mr_openai_chat_parse(struct mr_str body, struct mr_arena *arena, struct mr_chat *ret_chat,
                         struct mr_problem *ret_problem);
/* Body of an answer that is not streamed. */
void mr_openai_put_chat(struct mr_buf *buf, struct mr_str id, uint64_t created_s,
                        struct mr_str model, struct mr_str content, enum mr_finish finish,
                        const struct mr_usage *usage);
/* One streamed chunk's JSON (the caller frames it as SSE). `role` is sent with the first chunk
 * only; finish NONE gives null; with_usage_null adds "usage":null. */
void mr_openai_put_chunk(struct mr_buf *buf, struct mr_str id, uint64_t created_s,
                         struct mr_str model, bool role, struct mr_str content,
                         enum mr_finish finish, bool with_usage_null);
/* The extra chunk with "choices":[] and the usage. */
void mr_openai_put_usage_chunk(struct mr_buf *buf, struct mr_str id, uint64_t created_s,
                               struct mr_str model, const struct mr_usage *usage);
void mr_openai_put_error(struct mr_buf *buf, const struct mr_problem *problem);
struct mr_openai_model {
    struct mr_str id;
    uint64_t created_s;
    struct mr_str owned_by;
};
void mr_openai_put_models(struct mr_buf *buf, const struct mr_openai_model *models, size_t count);
void mr_openai_put_model(struct mr_buf *buf, const struct mr_openai_model *model);

/* --- the worker wire ----------------------------------------------------------------------- */

/* Between a gate and an inference worker, over a stream socket. All integers little-endian.
 *
 *   frame  = u32 length of what follows (8 + payload) | u8 version (1) | u8 type | u16 zero
 *            | u32 stream | payload
 *
 * `stream` is chosen by the gate, unique among its live streams on this connection; 0 speaks of the
 * connection. A source is pulled: the worker sends TOKENS only while it has credit (in tokens).
 *
 *   gate -> worker              worker -> gate
 *   SUBMIT  a chat              HELLO   first frame, and again when readiness changes
 *   CREDIT  may send n more     TOKENS  text of n decoded tokens, whole UTF-8
 *   CANCEL  stop it now         END     exactly one for each SUBMIT; counts what to bill
 *   SETTLED END was metered     STATS   load, each second and after each END
 *   PING                        PONG
 *
 * Metering survives any crash of the gate: the worker numbers its requests (serial, from 1, per
 * lease) and keeps each END until it is SETTLED; on a new connection it sends HELLO and then each
 * unsettled END again with stream 0. It also keeps them in a file (see mr_meter_record), so that
 * the engine can bill them when the worker itself was killed. A closed connection cancels all of
 * its streams; their ENDs become unsettled ones. */
#define MR_WIRE_VERSION      1u
#define MR_WIRE_HEADER_BYTES 12u

enum mr_wire_type {
    MR_WIRE_NONE,
    MR_WIRE_HELLO,
    MR_WIRE_SUBMIT,
    MR_WIRE_CREDIT,
    MR_WIRE_CANCEL,
    MR_WIRE_TOKENS,
    MR_WIRE_END,
    MR_WIRE_SETTLED,
    MR_WIRE_STATS,
    MR_WIRE_PING,
    MR_WIRE_PONG,
    MR_WIRE_TYPE_COUNT
};

struct mr_wire_hello {
    uint64_t lease;         /* which lease this worker is */
    bool ready;             /* the model is loaded; SUBMITs are refused before */
    uint32_t load_permille; /* progress while not ready */
    uint32_t slots;         /* streams that it decodes at once */
    uint32_t context_tokens;
    struct mr_str model;  /* name served */
    struct mr_str engine; /* what was measured and chosen, one line for people */
};
struct mr_wire_submit {
    uint32_t tenant;                          /* KV is shared within one tenant only */
    uint32_t credit;                          /* tokens that may be sent at once */
    uint8_t priority;                         /* 0 highest */
    uint64_t request_id_high, request_id_low; /* for logs */
    struct mr_chat chat;                      /* model, stream and include_usage are not sent */
    struct mr_str resume; /* assistant's text already sent to the client by a dead replica */
};
struct mr_wire_tokens {
    uint32_t count;
    struct mr_str text;
};
struct mr_wire_end {
    uint64_t serial; /* 0: refused before it was accepted, nothing to bill */
    uint32_t tenant;
    enum mr_finish finish;
    struct mr_usage usage;
    uint32_t queue_us, prefill_us, decode_us; /* saturating */
    int32_t error;                            /* MR_E…, when finish is ERROR */
    struct mr_str text;                       /* what went wrong, for people */
};
struct mr_wire_stats {
    uint32_t running, waiting, slots;
    uint32_t kv_used_permille;
    uint64_t prompt_tokens, completion_tokens, cached_tokens; /* since start */
    uint64_t requests;                                        /* ended since start */
    uint32_t ttft_us_p50, ttft_us_p99;                        /* time to first token, recent */
    uint32_t itl_us_p50, itl_us_p99;                          /* inter-token latency, recent */
    uint64_t rss_bytes;
};

struct mr_wire_frame {
    enum mr_wire_type type;
    uint32_t stream;
    union {
        struct mr_wire_hello hello;
        struct mr_wire_submit submit;
        uint32_t credit; /* CREDIT: tokens more */
        uint64_t serial; /* SETTLED */
        struct mr_wire_tokens tokens;
        struct mr_wire_end end;
        struct mr_wire_stats stats;
    } u;
};

/* Appends the frame whole or not at all; buf.failed tells. What mr_wire_get would refuse is not
 * sent either: text that is not UTF-8, a value out of range, a stream that does not go with the
 * type, an END whose finish is NONE or whose error is set when finish is not ERROR. */
void mr_wire_put(struct mr_buf *buf, const struct mr_wire_frame *frame);
/* Decodes the first frame of `bytes`: 1 and the number of bytes used, 0 when incomplete, or
 * MR_ESYNTAX / MR_ETOO_LARGE / MR_EUNSUPPORTED (version) / MR_ENO_MEMORY. Arrays (messages, stops)
 * lie in the arena, strings point into `bytes`. */
int mr_wire_get(struct mr_str bytes, struct mr_arena *arena, struct mr_wire_frame *ret_frame,
                size_t *ret_used);

/* The worker's meter file: MR_WIRE_UNSETTLED_MAX fixed slots of 64 bytes, mapped and written in
 * place, so that what was decoded is known after kill -9. A slot holds the record twice; encode
 * writes one after the other, in each the state last, so that a reader of the slot finds the old
 * or the new record at any moment. `ret` may (and should) be the mapped slot itself. */
#define MR_METER_RECORD_BYTES 64u
enum mr_meter_state { MR_METER_FREE, MR_METER_RUNNING, MR_METER_ENDED };
struct mr_meter_record {
    enum mr_meter_state state;
    uint64_t serial;
    uint32_t tenant;
    struct mr_usage usage; /* so far */
};
void mr_meter_encode(const struct mr_meter_record *record, uint8_t ret[MR_METER_RECORD_BYTES]);
/* false when the slot is free, damaged or of another version. */
bool mr_meter_decode(const uint8_t bytes[MR_METER_RECORD_BYTES], struct mr_meter_record *ret);

#endif
