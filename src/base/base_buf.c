/* SPDX-License-Identifier: Apache-2.0 */
/* The growing byte buffer, the reader of what it wrote, and the trace line.
 *
 * Owns:       the buffer's memory, from the first put to mr_buf_done.
 * Invariants: (1) n <= capacity <= limit_bytes, and capacity + 1 bytes are allocated, so that
 *                 vsnprintf always has room for its zero;
 *             (2) a failed put leaves p, n and the bytes as they were;
 *             (3) after a failure nothing more is put until reset.
 * Never:      I/O, clock, recursion.
 * Cost:       O(bytes put) amortised.
 * Idea:       src/base/README.md   Tests: tests/unit/base/test_base_buf.c
 */
#include "base/base.h"

#include <stdio.h>

#define BUF_BYTES_MIN        ((size_t)63)
#define TRACE_LINE_BYTES_MAX 1024

void mr_buf_init(struct mr_buf *buf, size_t limit_bytes)
{
    *buf = (struct mr_buf){.limit_bytes = MR_MIN(limit_bytes, (size_t)PTRDIFF_MAX - 1)};
}

void mr_buf_done(struct mr_buf *buf)
{
    mr_free(buf->p);
    *buf = (struct mr_buf){.limit_bytes = buf->limit_bytes};
}

void mr_buf_reset(struct mr_buf *buf)
{
    buf->n = 0;
    buf->failed = false;
}

bool mr_buf_reserve(struct mr_buf *buf, size_t more_bytes)
{
    size_t wanted = 0;
    uint8_t *p = NULL;

    if (buf->failed) return false;
    if (more_bytes <= buf->capacity - buf->n && buf->p) return true;
    if (buf->n > buf->limit_bytes || more_bytes > buf->limit_bytes - buf->n) {
        buf->failed = true;
        return false;
    }
    wanted = MR_MAX(buf->n + more_bytes, BUF_BYTES_MIN);
    if (buf->capacity <= buf->limit_bytes / 2) {
        wanted = MR_MAX(wanted, buf->capacity * 2);
    } else {
        wanted = MR_MAX(wanted, buf->limit_bytes);
    }
    wanted = MR_MIN(wanted, buf->limit_bytes);
    p = mr_realloc(buf->p, wanted + 1);
    if (!p) {
        buf->failed = true;
        return false;
    }
    buf->p = p;
    buf->capacity = wanted;
    MR_INVARIANT(1, buf->capacity <= buf->limit_bytes);
    return true;
}

void mr_buf_put(struct mr_buf *buf, const void *bytes, size_t n)
{
    if (n == 0 || !mr_buf_reserve(buf, n)) return;
    memcpy(buf->p + buf->n, bytes, n);
    buf->n += n;
    MR_INVARIANT(1, buf->n <= buf->capacity);
}

void mr_buf_put_str(struct mr_buf *buf, struct mr_str s)
{
    mr_buf_put(buf, s.p, s.n);
}

void mr_buf_put_char(struct mr_buf *buf, char c)
{
    mr_buf_put(buf, &c, 1);
}

void mr_buf_put_u64_text(struct mr_buf *buf, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    mr_buf_put(buf, digits + at, sizeof digits - at);
}

void mr_buf_put_i64_text(struct mr_buf *buf, int64_t value)
{
    size_t before = buf->n;

    if (value < 0) {
        mr_buf_put_char(buf, '-');
    }
    /* 0 - x on the unsigned value: the magnitude of INT64_MIN has no int64_t. */
    mr_buf_put_u64_text(buf, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
    if (buf->failed) {
        buf->n = before;
    }
}

static void buf_vprintf(struct mr_buf *buf, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

static void buf_vprintf(struct mr_buf *buf, const char *format, va_list arguments)
{
    va_list again;
    size_t room = 0;
    int wanted = 0;

    /* Room for a line, or for what the limit leaves; then the exact size, when it was more. */
    if (!mr_buf_reserve(buf, 0)) return;
    room = buf->capacity - buf->n;
    va_copy(again, arguments);
    wanted = vsnprintf((char *)buf->p + buf->n, room + 1, format, arguments);
    if (wanted < 0) {
        buf->failed = true;
    } else if ((size_t)wanted <= room) {
        buf->n += (size_t)wanted;
    } else if (mr_buf_reserve(buf, (size_t)wanted)) {
        room = buf->capacity - buf->n;
        wanted = vsnprintf((char *)buf->p + buf->n, room + 1, format, again);
        MR_ASSERT(wanted >= 0 && (size_t)wanted <= room);
        buf->n += (size_t)wanted;
    }
    va_end(again);
}

void mr_buf_printf(struct mr_buf *buf, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    buf_vprintf(buf, format, arguments);
    va_end(arguments);
}

/* --- little-endian --------------------------------------------------------------------------- */

static void buf_put_le(struct mr_buf *buf, uint64_t v, size_t n)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(v >> (8 * i));
    }
    mr_buf_put(buf, bytes, n);
}

void mr_buf_put_u8(struct mr_buf *buf, uint8_t v)
{
    buf_put_le(buf, v, 1);
}

void mr_buf_put_u16(struct mr_buf *buf, uint16_t v)
{
    buf_put_le(buf, v, 2);
}

void mr_buf_put_u32(struct mr_buf *buf, uint32_t v)
{
    buf_put_le(buf, v, 4);
}

void mr_buf_put_u64(struct mr_buf *buf, uint64_t v)
{
    buf_put_le(buf, v, 8);
}

void mr_buf_put_bytes32(struct mr_buf *buf, struct mr_str s)
{
    /* Both parts or none: the room is there before the length is written. */
    if (s.n > UINT32_MAX || s.n > SIZE_MAX - 4) {
        buf->failed = true;
        return;
    }
    if (!mr_buf_reserve(buf, s.n + 4)) return;
    mr_buf_put_u32(buf, (uint32_t)s.n);
    mr_buf_put_str(buf, s);
}

void mr_buf_drop_front(struct mr_buf *buf, size_t n)
{
    MR_ASSERT(n <= buf->n);
    if (n == 0) return;
    memmove(buf->p, buf->p + n, buf->n - n);
    buf->n -= n;
}

struct mr_str mr_buf_str(const struct mr_buf *buf)
{
    if (buf->n == 0) return MR_STR("");
    return (struct mr_str){.p = (const char *)buf->p, .n = buf->n};
}

/* --- reader ---------------------------------------------------------------------------------- */

struct mr_reader mr_reader_from(struct mr_str bytes)
{
    return (struct mr_reader){.p = (const uint8_t *)bytes.p, .n = bytes.n};
}

static uint64_t read_le(struct mr_reader *reader, size_t n)
{
    uint64_t v = 0;

    if (reader->failed || reader->n < n) {
        reader->failed = true;
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        v |= (uint64_t)reader->p[i] << (8 * i);
    }
    reader->p += n;
    reader->n -= n;
    return v;
}

uint8_t mr_read_u8(struct mr_reader *reader)
{
    return (uint8_t)read_le(reader, 1);
}

uint16_t mr_read_u16(struct mr_reader *reader)
{
    return (uint16_t)read_le(reader, 2);
}

uint32_t mr_read_u32(struct mr_reader *reader)
{
    return (uint32_t)read_le(reader, 4);
}

uint64_t mr_read_u64(struct mr_reader *reader)
{
    return read_le(reader, 8);
}

struct mr_str mr_read_bytes32(struct mr_reader *reader)
{
    size_t n = mr_read_u32(reader);
    struct mr_str bytes = MR_STR("");

    if (reader->failed || n > reader->n) {
        reader->failed = true;
        return bytes;
    }
    bytes = (struct mr_str){.p = (const char *)reader->p, .n = n};
    reader->p += n;
    reader->n -= n;
    return bytes;
}

struct mr_str mr_read_rest(struct mr_reader *reader)
{
    struct mr_str rest = MR_STR("");

    if (reader->failed || reader->n == 0) return rest;
    rest = (struct mr_str){.p = (const char *)reader->p, .n = reader->n};
    reader->p += reader->n;
    reader->n = 0;
    return rest;
}

/* --- trace ----------------------------------------------------------------------------------- */

void mr_trace_line(const struct mr_trace *trace, const char *format, ...)
{
    char line[TRACE_LINE_BYTES_MAX];
    va_list arguments;
    int n = 0;

    if (!trace || !trace->line) return;
    va_start(arguments, format);
    n = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (n < 0) return;
    /* A sentence of a trace is short; what is longer is cut, so that tracing never fails. */
    trace->line(trace->context,
                (struct mr_str){.p = line, .n = MR_MIN((size_t)n, sizeof line - 1)});
}
