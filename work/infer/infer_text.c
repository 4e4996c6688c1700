/* SPDX-License-Identifier: Apache-2.0 */
/* Holds decoded bytes back until they may be sent: stop strings and whole UTF-8.
 *
 * Owns:       the held bytes.
 * Invariants: (1) what was released plus what is held is what was pushed, with each malformed byte
 *                 replaced by U+FFFD; (2) nothing released holds a stop string or part of one that
 *                 later completed; (3) every release is valid UTF-8.
 * Never:      I/O, clock.
 * Cost:       O(held x stops) per push; held is at most a stop string and a piece long.
 * Tests:      tests/unit/infer/test_infer_pure.c
 */
#include "infer_int.h"

#define TEXT_HELD_BYTES_MAX (1u << 20)

void infer_text_init(struct infer_text *text, const struct mr_str *stops, size_t stop_count)
{
    *text = (struct infer_text){.stops = stops, .stop_count = stop_count};
    mr_buf_init(&text->held, TEXT_HELD_BYTES_MAX);
}

void infer_text_done(struct infer_text *text)
{
    mr_buf_done(&text->held);
}

/* Where the earliest stop string begins in `s`, or s.n. */
static size_t stop_find(const struct infer_text *text, struct mr_str s)
{
    size_t best = s.n;
    for (size_t i = 0; i < text->stop_count; i++) {
        struct mr_str stop = text->stops[i];
        if (stop.n == 0 || stop.n > s.n) {
            continue;
        }
        const char *hit = memmem(s.p, s.n, stop.p, stop.n);
        if (hit != NULL) {
            best = MR_MIN(best, (size_t)(hit - s.p));
        }
    }
    return best;
}

/* Length of the longest end of `s` that begins some stop string. */
static size_t stop_tail(const struct infer_text *text, struct mr_str s)
{
    size_t best = 0;
    for (size_t i = 0; i < text->stop_count; i++) {
        struct mr_str stop = text->stops[i];
        if (stop.n == 0) {
            continue;
        }
        size_t n = MR_MIN(stop.n - 1, s.n);
        while (n > best && memcmp(s.p + s.n - n, stop.p, n) != 0) {
            n--;
        }
        best = MR_MAX(best, n);
    }
    return best;
}

/* True when `s`, which is not valid UTF-8 yet, may become so by more bytes. */
static bool utf8_unfinished(struct mr_str s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t need = p[0] >= 0xf0 && p[0] <= 0xf4   ? 4
                  : p[0] >= 0xe0                 ? 3
                  : p[0] >= 0xc2 && p[0] <= 0xdf ? 2
                                                 : 0;
    if (p[0] > 0xf4 || need == 0 || s.n >= need) {
        return false;
    }
    for (size_t i = 1; i < s.n; i++) {
        if ((p[i] & 0xc0) != 0x80) return false;
    }
    /* The second byte rules out overlong forms, surrogates and what lies past U+10FFFF. */
    return s.n < 2 || !((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
                        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f));
}

/* Appends valid text of `s` and answers how many bytes of it were used up. */
static size_t utf8_release(struct mr_str s, bool last, struct mr_buf *ret)
{
    size_t at = 0;
    while (at < s.n) {
        struct mr_str rest = {s.p + at, s.n - at};
        size_t good = mr_utf8_valid_prefix(rest);
        mr_buf_put(ret, rest.p, good);
        at += good;
        if (at == s.n) {
            break;
        }
        rest = (struct mr_str){s.p + at, s.n - at};
        if (!last && utf8_unfinished(rest)) {
            break;
        }
        mr_buf_put_str(ret, MR_STR("\xef\xbf\xbd"));
        at++;
    }
    return at;
}

void infer_text_push(struct infer_text *text, struct mr_str piece, bool last, struct mr_buf *ret)
{
    if (text->stopped) {
        return;
    }
    mr_buf_put_str(&text->held, piece);
    struct mr_str held = mr_buf_str(&text->held);
    size_t stop = stop_find(text, held);
    if (stop < held.n) {
        (void)utf8_release((struct mr_str){held.p, stop}, true, ret); /* all of it goes */
        text->stopped = true;
        mr_buf_reset(&text->held);
        return;
    }
    size_t keep = last ? 0 : stop_tail(text, held);
    size_t used = utf8_release((struct mr_str){held.p, held.n - keep}, last || keep > 0, ret);
    mr_buf_drop_front(&text->held, used);
}
