/* SPDX-License-Identifier: Apache-2.0 */
/* Strings that carry their length: compare, cut, read numbers, check UTF-8.
 *
 * Owns:       nothing; a cut string points into the one it was cut from.
 * Invariants: (1) p is NULL only when n is 0;
 *             (2) no byte outside [p, p + n) is read.
 * Never:      I/O, allocation other than from the arena that was passed, locale.
 * Cost:       O(n).
 * Idea:       src/base/README.md   Tests: tests/unit/base/test_base_string.c
 */
#include "base/base.h"

#include "base/base_int.h"

struct mr_str mr_str_from(const char *zero_terminated)
{
    if (!zero_terminated) return MR_STR("");
    return (struct mr_str){.p = zero_terminated, .n = strlen(zero_terminated)};
}

bool mr_str_equal(struct mr_str a, struct mr_str b)
{
    /* memcmp must not see NULL, even with length 0. */
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static char lower_ascii(char c)
{
    return (c >= 'A' && c <= 'Z') ? (char)(c - 'A' + 'a') : c;
}

bool mr_str_equal_nocase(struct mr_str a, struct mr_str b)
{
    if (a.n != b.n) return false;
    for (size_t i = 0; i < a.n; i++) {
        if (lower_ascii(a.p[i]) != lower_ascii(b.p[i])) return false;
    }
    return true;
}

bool mr_str_starts(struct mr_str s, struct mr_str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

int mr_str_compare(struct mr_str a, struct mr_str b)
{
    size_t common = MR_MIN(a.n, b.n);
    int order = common == 0 ? 0 : memcmp(a.p, b.p, common);

    if (order != 0) return order;
    return (a.n > b.n) - (a.n < b.n);
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

struct mr_str mr_str_trim(struct mr_str s)
{
    while (s.n > 0 && is_space(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && is_space(s.p[s.n - 1])) {
        s.n--;
    }
    return s;
}

bool mr_str_split(struct mr_str *rest, char separator, struct mr_str *ret_part)
{
    const char *found = NULL;

    if (!rest->p) return false;
    found = rest->n > 0 ? memchr(rest->p, separator, rest->n) : NULL;
    if (!found) {
        *ret_part = *rest;
        *rest = (struct mr_str){0};
        return true;
    }
    *ret_part = (struct mr_str){.p = rest->p, .n = (size_t)(found - rest->p)};
    rest->p = found + 1;
    rest->n -= ret_part->n + 1;
    return true;
}

int mr_str_to_u64(struct mr_str s, uint64_t *ret)
{
    uint64_t value = 0;
    bool fits = true;

    if (s.n == 0) return MR_ESYNTAX;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') return MR_ESYNTAX;
        fits = fits && mr_mul_u64(value, 10, &value) &&
               mr_add_u64(value, (uint64_t)(s.p[i] - '0'), &value);
    }
    if (!fits) return MR_ETOO_LARGE;
    *ret = value;
    return 0;
}

int mr_str_to_i64(struct mr_str s, int64_t *ret)
{
    bool negative = s.n > 0 && s.p[0] == '-';
    uint64_t magnitude = 0;
    int error = 0;

    if (negative) {
        s.p++;
        s.n--;
    }
    error = mr_str_to_u64(s, &magnitude);
    if (error) return error;
    if (magnitude > (uint64_t)INT64_MAX + (negative ? 1u : 0u)) return MR_ETOO_LARGE;
    if (!negative) {
        *ret = (int64_t)magnitude;
    } else {
        /* -(m - 1) - 1, so that INT64_MIN is reached without passing INT64_MAX. */
        *ret = magnitude == 0 ? 0 : -(int64_t)(magnitude - 1) - 1;
    }
    return 0;
}

struct mr_str mr_str_copy(struct mr_arena *arena, struct mr_str s)
{
    char *p = mr_str_zero(arena, s);
    if (!p) return (struct mr_str){0};
    return (struct mr_str){.p = p, .n = s.n};
}

char *mr_str_zero(struct mr_arena *arena, struct mr_str s)
{
    char *p = NULL;

    if (s.n == SIZE_MAX) return NULL;
    p = mr_arena_alloc(arena, s.n + 1);
    if (!p) return NULL;
    if (s.n > 0) {
        memcpy(p, s.p, s.n);
    }
    p[s.n] = '\0';
    return p;
}

/* RFC 3629, section 4: the first byte fixes the length and the range of the second byte; the
 * ranges exclude overlong forms, surrogates and what is above U+10FFFF. */
size_t base_utf8_step(const uint8_t *p, size_t n, bool *ret_valid)
{
    uint8_t first = p[0];
    uint8_t low = 0x80;
    uint8_t high = 0xBF;
    size_t length = 0;

    *ret_valid = true;
    if (first < 0x80) return 1;
    *ret_valid = false;
    if (first < 0xC2 || first > 0xF4) return 1;
    length = first < 0xE0 ? 2 : (first < 0xF0 ? 3 : 4);
    if (first == 0xE0) {
        low = 0xA0;
    } else if (first == 0xED) {
        high = 0x9F;
    } else if (first == 0xF0) {
        low = 0x90;
    } else if (first == 0xF4) {
        high = 0x8F;
    }
    for (size_t i = 1; i < length; i++) {
        if (i == n || p[i] < low || p[i] > high) return i;
        low = 0x80;
        high = 0xBF;
    }
    *ret_valid = true;
    return length;
}

size_t mr_utf8_valid_prefix(struct mr_str s)
{
    const uint8_t *p = (const uint8_t *)s.p;
    size_t at = 0;

    while (at < s.n) {
        bool valid = false;
        uint64_t word = 0;
        size_t step = 0;

        if (s.n - at >= sizeof(word)) {
            memcpy(&word, p + at, sizeof(word));
            if ((word & UINT64_C(0x8080808080808080)) == 0) {
                at += sizeof(word); /* eight bytes of ASCII */
                continue;
            }
        }
        if (p[at] < 0x80) {
            at++;
            continue;
        }
        step = base_utf8_step(p + at, s.n - at, &valid);
        if (!valid) return at;
        at += step;
    }
    return at;
}
