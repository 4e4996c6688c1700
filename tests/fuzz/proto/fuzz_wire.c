/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of the worker wire: what is accepted has no other spelling, and no part of it is enough.
 *
 * Thread: one.   Fails: with a trap.   Ends: nothing outlives a call.
 */
#include "proto/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_str rest = {(const char *)data, size};
    struct mr_arena arena;
    struct mr_buf again;
    mr_arena_init(&arena, 1u << 24);
    mr_buf_init(&again, SIZE_MAX / 4);
    while (true) {
        struct mr_wire_frame frame, part;
        size_t used, part_used;
        int got = mr_wire_get(rest, &arena, &frame, &used);
        if (got != 1) break;
        MR_ASSERT(used >= MR_WIRE_HEADER_BYTES && used <= rest.n);
        mr_buf_reset(&again);
        mr_wire_put(&again, &frame);
        MR_ASSERT(!again.failed);
        MR_ASSERT(mr_str_equal(mr_buf_str(&again), (struct mr_str){rest.p, used}));
        for (size_t n = used - 1; n > 0; n /= 2) {
            MR_ASSERT(mr_wire_get((struct mr_str){rest.p, n}, &arena, &part, &part_used) == 0);
        }
        rest.p += used;
        rest.n -= used;
    }
    mr_arena_done(&arena);
    mr_buf_done(&again);
    return 0;
}
