/* SPDX-License-Identifier: Apache-2.0 */
/* What goes out over HTTP/1.1, and the small readers of a request: headers, query, percent-coding.
 *
 * A head is written into space that is reserved once, by copying constants: no printf on the way
 * of every answer.
 *
 * Owns:  nothing.
 * Never: I/O, clock (the caller says what time it is).
 * Cost:  O(bytes written or read).
 * Tests: tests/unit/proto/test_proto_http_put.c
 */
#include "proto/proto.h"

/* What a head needs beside content type and extra lines, generously. */
#define HEAD_BYTES_MAX 512u

const char *mr_http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {200, "OK"},
        {100, "Continue"},
        {101, "Switching Protocols"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {424, "Failed Dependency"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < MR_COUNT_OF(texts); i++) {
        if (texts[i].status == status) return texts[i].text;
    }
    return "Unknown";
}

/* --- writing ------------------------------------------------------------------------------- */

static uint8_t *str_write(uint8_t *to, struct mr_str s)
{
    if (s.n == 0) return to;
    memcpy(to, s.p, s.n);
    return to + s.n;
}

static uint8_t *digits_write(uint8_t *to, uint64_t value, size_t digits)
{
    for (size_t i = digits; i > 0; i--) {
        to[i - 1] = (uint8_t)('0' + value % 10);
        value /= 10;
    }
    return to + digits;
}

static uint8_t *number_write(uint8_t *to, uint64_t value)
{
    size_t digits = 1;
    for (uint64_t rest = value; rest >= 10; rest /= 10) {
        digits++;
    }
    return digits_write(to, value, digits);
}

/* "Mon, 23 Nov 2026 09:05:50 GMT" (RFC 9110 5.6.7), 29 bytes. */
static uint8_t *date_write(uint8_t *to, uint64_t time_us)
{
    static const char weekdays[] = "ThuFriSatSunMonTueWed"; /* 1970-01-01 was a Thursday */
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    uint64_t seconds = time_us / 1000000u;
    uint64_t days = seconds / 86400u;
    uint64_t second = seconds % 86400u;
    /* Civil from days: years begin in March, so that the leap day is the last of its year. An era
     * is 400 years or 146097 days. */
    uint64_t shifted = days + 719468u;
    uint64_t era = shifted / 146097u;
    uint64_t day_of_era = shifted % 146097u;
    uint64_t year_of_era =
        (day_of_era - day_of_era / 1460u + day_of_era / 36524u - day_of_era / 146096u) / 365u;
    uint64_t day_of_year =
        day_of_era - (365u * year_of_era + year_of_era / 4u - year_of_era / 100u);
    uint64_t month_from_march = (5u * day_of_year + 2u) / 153u;
    uint64_t day = day_of_year - (153u * month_from_march + 2u) / 5u + 1u;
    uint64_t month = month_from_march < 10u ? month_from_march + 2u : month_from_march - 10u;
    uint64_t year = era * 400u + year_of_era + (month < 2u ? 1u : 0u);

    to = str_write(to, (struct mr_str){weekdays + 3u * (days % 7u), 3});
    to = str_write(to, MR_STR(", "));
    to = digits_write(to, day, 2);
    *to++ = ' ';
    to = str_write(to, (struct mr_str){months + 3u * month, 3});
    *to++ = ' ';
    to = digits_write(to, year, 4);
    *to++ = ' ';
    to = digits_write(to, second / 3600u, 2);
    *to++ = ':';
    to = digits_write(to, second / 60u % 60u, 2);
    *to++ = ':';
    to = digits_write(to, second % 60u, 2);
    return str_write(to, MR_STR(" GMT"));
}

void mr_http_put_head(struct mr_buf *buf, int status, struct mr_str content_type,
                      int64_t content_length, bool keep_alive, uint64_t time_us,
                      struct mr_str extra)
{
    MR_ASSERT(status >= 100 && status <= 999);
    MR_ASSERT(extra.n == 0 || (extra.n >= 2 && extra.p[extra.n - 1] == '\n'));
    /* A line end in the type would let its author write headers. */
    MR_ASSERT(content_type.n == 0 || memchr(content_type.p, '\n', content_type.n) == NULL);
    if (!mr_buf_reserve(buf, HEAD_BYTES_MAX + content_type.n + extra.n)) return;

    uint8_t *to = buf->p + buf->n;
    to = str_write(to, MR_STR("HTTP/1.1 "));
    to = digits_write(to, (uint64_t)status, 3);
    *to++ = ' ';
    to = str_write(to, mr_str_from(mr_http_status_text(status)));
    to = str_write(to, MR_STR("\r\nDate: "));
    to = date_write(to, time_us);
    if (content_type.n > 0) {
        to = str_write(to, MR_STR("\r\nContent-Type: "));
        to = str_write(to, content_type);
    }
    /* RFC 9110 8.6: these have no body, and must not say that they have. */
    bool bodiless = status < 200 || status == 204 || status == 304;
    if (!bodiless && content_length >= 0) {
        to = str_write(to, MR_STR("\r\nContent-Length: "));
        to = number_write(to, (uint64_t)content_length);
    } else if (!bodiless) {
        to = str_write(to, MR_STR("\r\nTransfer-Encoding: chunked"));
    }
    to = str_write(to, keep_alive ? MR_STR("\r\nConnection: keep-alive\r\n")
                                  : MR_STR("\r\nConnection: close\r\n"));
    to = str_write(to, extra);
    to = str_write(to, MR_STR("\r\n"));
    buf->n = (size_t)(to - buf->p);
}

void mr_http_put_chunk(struct mr_buf *buf, struct mr_str bytes)
{
    /* An empty chunk would end the body. */
    if (bytes.n == 0) return;
    if (!mr_buf_reserve(buf, bytes.n + 20)) return;
    uint8_t *to = buf->p + buf->n;
    unsigned digits = 1;
    while (digits < 16 && bytes.n >> (4 * digits) != 0) {
        digits++;
    }
    for (unsigned i = digits; i > 0; i--) {
        *to++ = (uint8_t)"0123456789abcdef"[(bytes.n >> (4 * (i - 1))) & 15u];
    }
    to = str_write(to, MR_STR("\r\n"));
    to = str_write(to, bytes);
    to = str_write(to, MR_STR("\r\n"));
    buf->n = (size_t)(to - buf->p);
}

void mr_http_put_last_chunk(struct mr_buf *buf)
{
    mr_buf_put_str(buf, MR_STR("0\r\n\r\n"));
}

/* --- reading ------------------------------------------------------------------------------- */

struct mr_str mr_http_header_get(const struct mr_http_request *request, struct mr_str name)
{
    for (size_t i = 0; i < request->header_count; i++) {
        const struct mr_http_header *header = &request->headers[i];
        if (header->name.n == name.n && mr_str_equal_nocase(header->name, name)) {
            return header->value;
        }
    }
    return MR_STR("");
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The next decoded byte of *rest, or -1: a bad escape, or one of NUL, which would cut the text
 * short for whatever ends strings with it. */
static int decoded_take(struct mr_str *rest, bool plus_is_space)
{
    char c = rest->p[0];
    size_t used_n = 1;
    int byte = (uint8_t)c;
    if (c == '%') {
        if (rest->n < 3) return -1;
        int high = hex_value(rest->p[1]);
        int low = hex_value(rest->p[2]);
        if (high < 0 || low < 0 || (high == 0 && low == 0)) return -1;
        byte = high * 16 + low;
        used_n = 3;
    } else if (c == '+' && plus_is_space) {
        byte = ' ';
    }
    rest->p += used_n;
    rest->n -= used_n;
    return byte;
}

static int decode(struct mr_arena *arena, struct mr_str s, bool plus_is_space, struct mr_str *ret)
{
    if (s.n == 0 ||
        (memchr(s.p, '%', s.n) == NULL && (!plus_is_space || memchr(s.p, '+', s.n) == NULL))) {
        *ret = s;
        return 0;
    }
    char *p = mr_arena_alloc(arena, s.n);
    if (p == NULL) return MR_ENO_MEMORY;
    size_t n = 0;
    while (s.n > 0) {
        int byte = decoded_take(&s, plus_is_space);
        if (byte < 0) return MR_ESYNTAX;
        p[n++] = (char)byte;
    }
    *ret = (struct mr_str){p, n};
    return 0;
}

int mr_http_percent_decode(struct mr_arena *arena, struct mr_str s, struct mr_str *ret)
{
    return decode(arena, s, false, ret);
}

static bool decoded_equal(struct mr_str encoded, struct mr_str plain)
{
    size_t i = 0;
    while (encoded.n > 0) {
        int byte = decoded_take(&encoded, true);
        if (byte < 0 || i == plain.n || (char)byte != plain.p[i]) return false;
        i++;
    }
    return i == plain.n;
}

bool mr_http_query_get(const struct mr_http_request *request, struct mr_str key,
                       struct mr_arena *arena, struct mr_str *ret_value)
{
    struct mr_str rest = request->query;
    if (rest.n == 0) return false;
    struct mr_str pair;
    while (mr_str_split(&rest, '&', &pair)) {
        const char *equals = pair.n == 0 ? NULL : memchr(pair.p, '=', pair.n);
        size_t name_n = equals == NULL ? pair.n : (size_t)(equals - pair.p);
        struct mr_str value = {"", 0};
        if (equals != NULL) value = (struct mr_str){equals + 1, pair.n - name_n - 1};
        if (decoded_equal((struct mr_str){pair.p, name_n}, key)) {
            return decode(arena, value, true, ret_value) == 0;
        }
    }
    return false;
}
