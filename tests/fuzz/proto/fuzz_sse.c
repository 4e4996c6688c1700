/* SPDX-License-Identifier: Apache-2.0 */
/* The event reader: the same events however the stream is cut, and what the writer writes of an
 * event is read back as that event.
 *
 * Thread: one.   Fails: with a trap.   Ends: nothing outlives a call.
 */
#include "proto/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const uint8_t *data, size_t size, struct mr_prng *prng, struct mr_buf *out)
{
    struct mr_sse_parser *parser;
    if (mr_sse_parser_new(&parser) != 0) return;
    for (size_t at = 0; at < size;) {
        size_t n = prng == NULL ? size : 1 + mr_prng_below(prng, 16);
        n = MR_MIN(n, size - at);
        MR_ASSERT(mr_sse_parser_feed(parser, data + at, n) == 0);
        at += n;
        struct mr_str event, text;
        int got;
        while ((got = mr_sse_parser_next(parser, &event, &text)) == 1) {
            mr_buf_put_bytes32(out, event);
            mr_buf_put_bytes32(out, text);
        }
        MR_ASSERT(got == 0);
    }
    mr_sse_parser_free(parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    struct mr_prng prng;
    mr_prng_init(&prng, data[0]);
    data++;
    size--;
    struct mr_buf whole, cut, again, events;
    mr_buf_init(&whole, SIZE_MAX / 4);
    mr_buf_init(&cut, SIZE_MAX / 4);
    mr_buf_init(&again, SIZE_MAX / 4);
    mr_buf_init(&events, SIZE_MAX / 4);
    run(data, size, NULL, &whole);
    run(data, size, &prng, &cut);
    MR_ASSERT(mr_str_equal(mr_buf_str(&whole), mr_buf_str(&cut)));

    /* Written out again and read, they are the same events. */
    struct mr_reader reader = mr_reader_from(mr_buf_str(&whole));
    while (reader.n > 0) {
        struct mr_str event = mr_read_bytes32(&reader);
        struct mr_str text = mr_read_bytes32(&reader);
        mr_sse_put_comment(&events, text);
        mr_sse_put_event(&events, event, text);
    }
    run(events.p, events.n, NULL, &again);
    MR_ASSERT(mr_str_equal(mr_buf_str(&whole), mr_buf_str(&again)));
    mr_buf_done(&whole);
    mr_buf_done(&cut);
    mr_buf_done(&again);
    mr_buf_done(&events);
    return 0;
}
