/* SPDX-License-Identifier: Apache-2.0 */
/* One slot of the worker's meter file: what a request has used, readable after kill -9.
 *
 * A slot is two halves of 32 bytes with the same content, written one after the other. Killed in
 * the first, the second still says what was true before; killed in the second, the first is new.
 * Within a half the first word, which holds the version and the state, is taken away before the
 * rest is written and put back last, so that a half-written half says that it is none.
 *
 *   half = u8 version (1) | u8 state | u16 zero | u32 tenant | u64 serial
 *        | u32 prompt | u32 cached | u32 completion tokens | u32 check        (little-endian)
 *
 * Owns:       nothing.
 * Invariants: (1) at every moment of an encode over a valid slot, decode gives the old or the new
 *                 record, never none and never a mixture.
 * Never:      I/O. A loss of power is not covered: the file is for the worker's death.
 * Cost:       O(1).
 * Idea:       docs/internals/wire.md   Tests: tests/unit/proto/test_proto_meter.c
 */
#include "proto/proto.h"

#include <stdatomic.h>

#define VERSION     1u
#define HALF_BYTES  (MR_METER_RECORD_BYTES / 2)
#define WORD_BYTES  4u
#define CHECK_BYTES 28u /* what the check covers */
#define CHECK_SEED  0x6d65746572u

_Static_assert(HALF_BYTES == CHECK_BYTES + 4, "the check ends the half");

static void u32_write(uint8_t *to, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint32_t u32_read(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
           (uint32_t)from[3] << 24;
}

static uint32_t check_of(const uint8_t half[HALF_BYTES])
{
    return (uint32_t)mr_hash64(half, CHECK_BYTES, CHECK_SEED);
}

/* The order of the three copies is what a killed process leaves behind, so the compiler must keep
 * it; the processor does, for whoever reads the file later. */
static void half_write(uint8_t *to, const uint8_t half[HALF_BYTES])
{
    memset(to, 0, WORD_BYTES);
    atomic_signal_fence(memory_order_seq_cst);
    memcpy(to + WORD_BYTES, half + WORD_BYTES, HALF_BYTES - WORD_BYTES);
    atomic_signal_fence(memory_order_seq_cst);
    memcpy(to, half, WORD_BYTES);
    atomic_signal_fence(memory_order_seq_cst);
}

void mr_meter_encode(const struct mr_meter_record *record, uint8_t ret[MR_METER_RECORD_BYTES])
{
    uint8_t half[HALF_BYTES] = {0};
    if (record->state != MR_METER_FREE) {
        MR_ASSERT(record->serial != 0);
        MR_ASSERT(record->usage.cached_tokens <= record->usage.prompt_tokens);
        half[0] = VERSION;
        half[1] = (uint8_t)record->state;
        u32_write(half + 4, record->tenant);
        u32_write(half + 8, (uint32_t)record->serial);
        u32_write(half + 12, (uint32_t)(record->serial >> 32));
        u32_write(half + 16, record->usage.prompt_tokens);
        u32_write(half + 20, record->usage.cached_tokens);
        u32_write(half + 24, record->usage.completion_tokens);
        u32_write(half + CHECK_BYTES, check_of(half));
    }
    half_write(ret, half);
    half_write(ret + HALF_BYTES, half);
}

static bool half_read(const uint8_t *half, struct mr_meter_record *ret)
{
    if (half[0] != VERSION || half[2] != 0 || half[3] != 0) return false;
    if (half[1] != MR_METER_RUNNING && half[1] != MR_METER_ENDED) return false;
    if (u32_read(half + CHECK_BYTES) != check_of(half)) return false;
    struct mr_meter_record record = {
        .state = (enum mr_meter_state)half[1],
        .serial = u32_read(half + 8) | (uint64_t)u32_read(half + 12) << 32,
        .tenant = u32_read(half + 4),
        .usage = {.prompt_tokens = u32_read(half + 16),
                  .cached_tokens = u32_read(half + 20),
                  .completion_tokens = u32_read(half + 24)},
    };
    if (record.serial == 0 || record.usage.cached_tokens > record.usage.prompt_tokens) return false;
    *ret = record;
    return true;
}

bool mr_meter_decode(const uint8_t bytes[MR_METER_RECORD_BYTES], struct mr_meter_record *ret)
{
    return half_read(bytes, ret) || half_read(bytes + HALF_BYTES, ret);
}
