/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever base reads: UTF-8, base64, hex, numbers, the little-endian reader. What was accepted is
 * written again and must be the same.
 *
 * Invariants: (1) a JSON string is always valid UTF-8;
 *             (2) base64 that was accepted and written again gives the same text, but for padding;
 *             (3) a reader never returns more bytes than it was given.
 */
#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_base64(struct mr_str text)
{
    struct mr_buf bytes;
    struct mr_buf again;

    mr_buf_init(&bytes, 1u << 22);
    mr_buf_init(&again, 1u << 22);
    if (mr_base64_get(&bytes, text) == 0) {
        mr_base64_put(&again, bytes.p, bytes.n);
        while (text.n > 0 && text.p[text.n - 1] == '=') {
            text.n--;
        }
        MR_INVARIANT(2, mr_str_starts(mr_buf_str(&again), text));
        MR_INVARIANT(2, again.n < text.n + 3);
    } else {
        MR_INVARIANT(2, bytes.n == 0);
    }
    mr_buf_done(&bytes);
    mr_buf_done(&again);
}

static void check_json(struct mr_str text)
{
    struct mr_buf json;

    mr_buf_init(&json, 1u << 24);
    mr_json_put_string(&json, text);
    MR_INVARIANT(1, !json.failed);
    MR_INVARIANT(1, mr_utf8_valid_prefix(mr_buf_str(&json)) == json.n);
    MR_INVARIANT(1, json.n >= 2 && json.p[0] == '"' && json.p[json.n - 1] == '"');
    mr_buf_done(&json);
}

static void check_numbers(struct mr_str text)
{
    struct mr_buf digits;
    uint64_t u = 0;
    int64_t i = 0;

    mr_buf_init(&digits, 64);
    if (mr_str_to_u64(text, &u) == 0) {
        mr_buf_put_u64_text(&digits, u);
        while (text.n > 1 && text.p[0] == '0') {
            text.p++;
            text.n--;
        }
        MR_ASSERT(mr_str_equal(mr_buf_str(&digits), text));
    }
    if (mr_str_to_i64(text, &i) == 0) {
        mr_buf_reset(&digits);
        mr_buf_put_i64_text(&digits, i);
        MR_ASSERT(digits.n <= 20);
    }
    mr_buf_done(&digits);
}

static void check_reader(struct mr_str bytes)
{
    struct mr_reader reader = mr_reader_from(bytes);
    size_t total = 0;

    while (!reader.failed && reader.n > 0) {
        struct mr_str part = mr_read_bytes32(&reader);
        total += part.n;
        (void)mr_read_u8(&reader); /* only moves on */
    }
    MR_INVARIANT(3, total <= bytes.n);
    MR_INVARIANT(3, mr_read_rest(&reader).n <= bytes.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_str text = {.p = (const char *)data, .n = size};
    uint8_t bytes[64];

    check_base64(text);
    check_json(text);
    check_numbers(text);
    check_reader(text);
    (void)mr_hex_get(text, bytes, MR_MIN(size / 2, sizeof bytes)); /* either answer is fine */
    return 0;
}
