/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/proto: what the two halves of the HTTP parser share. proto_http.c owns the bytes
 * and the order of things, proto_http_head.c knows what a line of a head may say.
 */
#ifndef PROTO_INT_H
#define PROTO_INT_H

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

/* What a request line holds beside the target: method, two spaces, version, CR LF. */
#define REQUEST_LINE_REST_BYTES 64u
/* Zeroes after the last byte: they belong to no name, target or value, so that a scan stops there
 * without asking for the end, and reads of eight bytes stay inside. */
#define STOP_BYTES 8u

_Static_assert(MR_HTTP_URL_BYTES_MAX + REQUEST_LINE_REST_BYTES < MR_HTTP_HEAD_BYTES_MAX,
               "a request line fits in the head");
/* Ends the parser with that error, status and static sentence. Returns `error`. */
int proto_http_fail(struct mr_http_parser *parser, int error, int status, const char *reason);

/* The line between start and READ_HEADERS; an empty one is forgiven once. 0 or the error. */
int proto_http_request_line_take(struct mr_http_parser *parser, struct mr_str line);
/* Takes header lines that are whole and good in one pass each, without looking for their ends
 * first. 0 when the next one is not: the caller looks for its end and finds out why. */
int proto_http_headers_take(struct mr_http_parser *parser);
/* A header line, or the empty one that ends the head. 0 or the error. */
int proto_http_header_line_take(struct mr_http_parser *parser, struct mr_str line);
/* Checks a line of a trailer. 0 or the error. */
int proto_http_trailer_check(struct mr_http_parser *parser, struct mr_str line);
/* True when no byte is a control other than HTAB. A control must follow the text. */
bool proto_http_text_is_clean(struct mr_str text);

#endif
