/* SPDX-License-Identifier: Apache-2.0 */
/* The files `start`, `exit` and `stop` from a disk that lies: whatever the bytes are, a decoder
 * takes a record whole or refuses it, and what it takes encodes to the same bytes.
 *
 * The first byte picks the kind; the hash is mended for most inputs, so that the fields behind it
 * are reached.
 */
#include "engine/engine_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void start_try(struct mr_str bytes)
{
    struct engine_order order;
    struct mr_arena arena;
    mr_cleanup(mr_buf_done) struct mr_buf again;
    mr_arena_init(&arena, ENGINE_START_BYTES_MAX);
    mr_buf_init(&again, ENGINE_START_BYTES_MAX);
    if (engine_start_decode(bytes, &arena, &order) == 0) {
        MR_ASSERT(order.s.argv_count >= 1);
        MR_ASSERT(order.s.tasks >= 1 && order.s.tasks <= MR_TASKS_PER_NODE_MAX);
        engine_start_encode(&again, &order.s, order.home, order.programs, order.cache_dir);
        MR_INVARIANT(1, mr_str_equal(mr_buf_str(&again), bytes));
    }
    mr_arena_done(&arena);
}

static void exit_try(struct mr_str bytes)
{
    struct engine_end end;
    mr_cleanup(mr_buf_done) struct mr_buf again;
    mr_buf_init(&again, ENGINE_EXIT_BYTES_MAX);
    if (engine_exit_decode(bytes, &end) != 0) return;
    MR_ASSERT(end.kind < ENGINE_EXIT_COUNT);
    engine_exit_encode(&again, &end);
    MR_INVARIANT(1, mr_str_equal(mr_buf_str(&again), bytes));
}

static void stop_try(struct mr_str bytes)
{
    struct engine_stop stop;
    mr_cleanup(mr_buf_done) struct mr_buf again;
    mr_buf_init(&again, ENGINE_EXIT_BYTES_MAX);
    if (engine_stop_decode(bytes, &stop) != 0) return;
    engine_stop_encode(&again, &stop);
    MR_INVARIANT(1, mr_str_equal(mr_buf_str(&again), bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 65536) return 0;
    mr_cleanup(mr_buf_done) struct mr_buf copy;
    mr_buf_init(&copy, 65536);
    mr_buf_put(&copy, data + 1, size - 1);
    if ((data[0] & 0x80) == 0 && copy.n >= 16) {
        static const uint32_t magics[] = {0x5453524d, 0x5845524d, 0x5053524d};
        mr_cleanup(mr_buf_done) struct mr_buf head;
        mr_buf_init(&head, 64);
        mr_buf_put_u32(&head, magics[data[0] % 3]);
        mr_buf_put_u32(&head, 1);
        mr_buf_put_u64(&head, mr_hash64(copy.p + 16, copy.n - 16, 1));
        memcpy(copy.p, head.p, 16);
    }
    struct mr_str bytes = mr_buf_str(&copy);
    start_try(bytes);
    exit_try(bytes);
    stop_try(bytes);
    return 0;
}
