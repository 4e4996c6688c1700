/* SPDX-License-Identifier: Apache-2.0 */
/* Text codecs: hex, base64, RFC 3339 time, JSON strings; and the comparison of secrets.
 *
 * Owns:       nothing; all output goes to the caller's buffer.
 * Invariants: (1) a call puts its whole output or nothing (then `failed` is set);
 *             (2) what a reader accepts is what the writer of the same format may write, and
 *                 nothing else: no white space, no stray bits.
 * Never:      I/O, clock, locale.
 * Cost:       O(n).
 * Idea:       src/base/README.md   Tests: tests/unit/base/test_base_codec.c
 */
#include "base/base.h"

#include "base/base_int.h"

static const char hex_digits[] = "0123456789abcdef";
static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#define SECONDS_PER_DAY     UINT64_C(86400)
#define RFC3339_SECONDS_MAX UINT64_C(253402300799) /* 9999-12-31T23:59:59Z */

/* Takes back what a call has put, when a later part of it failed. */
static void buf_all_or_nothing(struct mr_buf *buf, size_t n_before)
{
    if (buf->failed) {
        buf->n = n_before;
    }
}

void mr_hex_put(struct mr_buf *buf, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;

    if (n > SIZE_MAX / 2) {
        buf->failed = true;
        return;
    }
    if (!mr_buf_reserve(buf, n * 2)) return;
    for (size_t i = 0; i < n; i++) {
        mr_buf_put_char(buf, hex_digits[p[i] >> 4]);
        mr_buf_put_char(buf, hex_digits[p[i] & 15]);
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

int mr_hex_get(struct mr_str hex, uint8_t *ret, size_t n)
{
    if (n > SIZE_MAX / 2 || hex.n != n * 2) return MR_ESYNTAX;
    /* Checked as a whole before the first byte is written: ret is untouched on failure. */
    for (size_t i = 0; i < hex.n; i++) {
        if (hex_value(hex.p[i]) < 0) return MR_ESYNTAX;
    }
    for (size_t i = 0; i < n; i++) {
        ret[i] = (uint8_t)(hex_value(hex.p[2 * i]) * 16 + hex_value(hex.p[2 * i + 1]));
    }
    return 0;
}

void mr_base64_put(struct mr_buf *buf, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;

    if (n > SIZE_MAX / 4 * 3 - 3) {
        buf->failed = true;
        return;
    }
    if (!mr_buf_reserve(buf, (n + 2) / 3 * 4)) return;
    for (size_t i = 0; i < n; i += 3) {
        size_t count = MR_MIN(n - i, (size_t)3);
        uint32_t group = (uint32_t)p[i] << 16;
        char text[4];

        group |= count > 1 ? (uint32_t)p[i + 1] << 8 : 0;
        group |= count > 2 ? (uint32_t)p[i + 2] : 0;
        text[0] = base64_digits[group >> 18];
        text[1] = base64_digits[(group >> 12) & 63];
        text[2] = count > 1 ? base64_digits[(group >> 6) & 63] : '=';
        text[3] = count > 2 ? base64_digits[group & 63] : '=';
        mr_buf_put(buf, text, sizeof text);
    }
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+') return 62;
    if (c == '/') return 63;
    return -1;
}

/* Without its padding; MR_ESYNTAX when the padding there is does not fill a group of four. */
static int base64_unpad(struct mr_str *text)
{
    size_t padding = 0;

    while (padding < 2 && text->n > padding && text->p[text->n - 1 - padding] == '=') {
        padding++;
    }
    if (padding > 0 && text->n % 4 != 0) return MR_ESYNTAX;
    text->n -= padding;
    return text->n % 4 == 1 ? MR_ESYNTAX : 0;
}

int mr_base64_get(struct mr_buf *buf, struct mr_str text)
{
    size_t before = buf->n;
    size_t bytes_count = 0;
    uint32_t bits = 0;
    unsigned bit_count = 0;
    int error = base64_unpad(&text);

    if (error) return error;
    bytes_count = text.n / 4 * 3 + (text.n % 4 > 0 ? text.n % 4 - 1 : 0);
    if (buf->n + bytes_count > buf->limit_bytes) return MR_ETOO_LARGE;
    if (!mr_buf_reserve(buf, bytes_count)) return MR_ENO_MEMORY;
    for (size_t i = 0; i < text.n; i++) {
        int value = base64_value(text.p[i]);
        if (value < 0) {
            buf->n = before;
            return MR_ESYNTAX;
        }
        bits = (bits << 6 | (uint32_t)value) & 0xFFFF;
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            mr_buf_put_u8(buf, (uint8_t)(bits >> bit_count));
        }
    }
    /* Left-over bits that are not zero would give two texts for the same bytes. */
    if ((bits & ((1u << bit_count) - 1)) != 0) {
        buf->n = before;
        return MR_ESYNTAX;
    }
    return 0;
}

/* --- time ------------------------------------------------------------------------------------ */

static void digits_put(struct mr_buf *buf, uint64_t value, size_t digit_count)
{
    char digits[4];

    for (size_t i = digit_count; i > 0; i--) {
        digits[i - 1] = (char)('0' + value % 10);
        value /= 10;
    }
    mr_buf_put(buf, digits, digit_count);
}

void mr_time_put_rfc3339(struct mr_buf *buf, uint64_t time_us)
{
    size_t before = buf->n;
    uint64_t seconds = MR_MIN(time_us / 1000000, RFC3339_SECONDS_MAX);
    uint64_t day_second = seconds % SECONDS_PER_DAY;
    /* Days since 0000-03-01: a year that begins in March ends with the leap day, so months and
     * years follow from divisions (146097 days are 400 years, 153 days are five months). */
    uint64_t days = seconds / SECONDS_PER_DAY + 719468;
    uint64_t era = days / 146097;
    uint64_t era_day = days % 146097;
    uint64_t era_year = (era_day - era_day / 1460 + era_day / 36524 - era_day / 146096) / 365;
    uint64_t year_day = era_day - (365 * era_year + era_year / 4 - era_year / 100);
    uint64_t month_from_march = (5 * year_day + 2) / 153;
    uint64_t day = year_day - (153 * month_from_march + 2) / 5 + 1;
    uint64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    uint64_t year = era * 400 + era_year + (month <= 2 ? 1 : 0);

    digits_put(buf, year, 4);
    mr_buf_put_char(buf, '-');
    digits_put(buf, month, 2);
    mr_buf_put_char(buf, '-');
    digits_put(buf, day, 2);
    mr_buf_put_char(buf, 'T');
    digits_put(buf, day_second / 3600, 2);
    mr_buf_put_char(buf, ':');
    digits_put(buf, day_second / 60 % 60, 2);
    mr_buf_put_char(buf, ':');
    digits_put(buf, day_second % 60, 2);
    mr_buf_put_char(buf, 'Z');
    buf_all_or_nothing(buf, before);
}

/* --- JSON ------------------------------------------------------------------------------------ */

/* The letter behind the backslash for what JSON has a short escape, or 0 (RFC 8259, 7). */
static char json_escape_letter(uint8_t c)
{
    switch (c) {
    case '"':
        return '"';
    case '\\':
        return '\\';
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

static void json_put_escaped(struct mr_buf *buf, uint8_t c)
{
    char letter = json_escape_letter(c);

    if (letter != 0) {
        mr_buf_put_char(buf, '\\');
        mr_buf_put_char(buf, letter);
        return;
    }
    mr_buf_put_str(buf, MR_STR("\\u00"));
    mr_hex_put(buf, &c, 1);
}

/* Bytes from p that are ASCII and stand for themselves in JSON. Eight at a time: no top bit set
 * means that no byte met a test; one that is set may be a borrow, then the bytes are looked at
 * singly. */
static size_t json_plain_length(const uint8_t *p, size_t n)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t tops = UINT64_C(0x8080808080808080);
    size_t at = 0;

    for (; n - at >= sizeof(uint64_t); at += sizeof(uint64_t)) {
        uint64_t word = 0;
        uint64_t quote = 0;
        uint64_t backslash = 0;

        memcpy(&word, p + at, sizeof(word));
        quote = word ^ (ones * '"');
        backslash = word ^ (ones * '\\');
        if ((((word - ones * 0x20) | (quote - ones) | (backslash - ones) | word) & tops) != 0) {
            break;
        }
    }
    while (at < n && p[at] >= 0x20 && p[at] < 0x80 && p[at] != '"' && p[at] != '\\') {
        at++;
    }
    return at;
}

void mr_json_put_string(struct mr_buf *buf, struct mr_str s)
{
    const uint8_t *p = (const uint8_t *)s.p;
    size_t before = buf->n;
    size_t plain_from = 0; /* bytes that go out as they are gather here */
    size_t at = 0;

    mr_buf_put_char(buf, '"');
    while (at < s.n) {
        bool valid = false;
        bool escape = false;
        size_t step = json_plain_length(p + at, s.n - at);

        if (step > 0) {
            at += step;
            continue;
        }
        step = base_utf8_step(p + at, s.n - at, &valid);
        escape = valid && (p[at] < 0x20 || p[at] == '"' || p[at] == '\\');

        if (!valid || escape) {
            mr_buf_put(buf, p + plain_from, at - plain_from);
            plain_from = at + step;
        }
        if (!valid) {
            mr_buf_put_str(buf, MR_STR("\xEF\xBF\xBD"));
        } else if (escape) {
            json_put_escaped(buf, p[at]);
        }
        at += step;
    }
    if (at > plain_from) {
        mr_buf_put(buf, p + plain_from, at - plain_from);
    }
    mr_buf_put_char(buf, '"');
    buf_all_or_nothing(buf, before);
}

/* --- secrets --------------------------------------------------------------------------------- */

bool mr_secret_equal(struct mr_str a, struct mr_str b)
{
    /* volatile: the compiler must not leave the loop at the first difference. */
    volatile uint8_t difference = 0;

    if (a.n != b.n) return false;
    for (size_t i = 0; i < a.n; i++) {
        difference = (uint8_t)(difference | ((uint8_t)a.p[i] ^ (uint8_t)b.p[i]));
    }
    return difference == 0;
}
