/* SPDX-License-Identifier: Apache-2.0 */
/* Save, load and hash: the used part of the block.
 *
 * Saved form: u64 magic, u32 version, u32 check of the struct sizes, the header's state, then each
 * table's used part as runs of bytes that are not zero (u32 first, u32 count in units of 64 bytes;
 * a run of count 0 ends the table), then u64 hash of all before. A reader of another version or of
 * other structs refuses it: the caller replays its journal then.
 *
 * Owns:       nothing.
 * Invariants: (1) equal states save to equal bytes and hash alike;
 *             (2) a loaded block equals the saved one but for scratch.
 * Never:      I/O, clock, allocation beyond the caller's buffer, recursion.
 * Cost:       O(used part of the block).
 * Tests:      tests/unit/core/test_core_save.c
 */
#include "core_int.h"

#define SAVE_MAGIC   0x5641534552304d31ull
#define SAVE_VERSION 1u
#define UNIT_BYTES   64u

static size_t used_bytes(const struct core_table *table)
{
    return (size_t)table->used * table->item_bytes;
}

static bool unit_zero(const uint8_t *at)
{
    uint64_t words[UNIT_BYTES / 8], any = 0;
    memcpy(words, at, sizeof words);
    for (size_t i = 0; i < UNIT_BYTES / 8; i++) {
        any |= words[i];
    }
    return any == 0;
}

/* Tables begin and end on units, and what lies past the used part is zero. */
static uint32_t units_of(const struct core_table *table)
{
    return (uint32_t)((used_bytes(table) + UNIT_BYTES - 1) / UNIT_BYTES);
}

static void table_save(const struct mr_core *core, const struct core_table *table,
                       struct mr_buf *buf)
{
    const uint8_t *base = (const uint8_t *)core + table->offset_bytes;
    uint32_t units = units_of(table);
    uint32_t at = 0;
    while (at < units) {
        while (at < units && unit_zero(base + (size_t)at * UNIT_BYTES)) {
            at++;
        }
        uint32_t first = at;
        while (at < units && !unit_zero(base + (size_t)at * UNIT_BYTES)) {
            at++;
        }
        if (at == first) break;
        mr_buf_put_u32(buf, first);
        mr_buf_put_u32(buf, at - first);
        mr_buf_put(buf, base + (size_t)first * UNIT_BYTES, (size_t)(at - first) * UNIT_BYTES);
    }
    mr_buf_put_u32(buf, units);
    mr_buf_put_u32(buf, 0);
}

void mr_core_save(const struct mr_core *core, struct mr_buf *buf)
{
    MR_ASSERT(core->sink == NULL); /* not within a step */
    size_t from = buf->n;
    mr_buf_put_u64(buf, SAVE_MAGIC);
    mr_buf_put_u32(buf, SAVE_VERSION);
    mr_buf_put_u32(buf, core->item_check);
    mr_buf_put(buf, core, core_header_bytes());
    for (uint32_t i = 0; i < CORE_STORED; i++) {
        table_save(core, &core->tables[i], buf);
    }
    if (buf->failed) return;
    mr_buf_put_u64(buf, mr_hash64(buf->p + from, buf->n - from, SAVE_VERSION));
}

static bool table_load(struct mr_core *core, const struct core_table *table,
                       struct mr_reader *reader)
{
    uint8_t *base = (uint8_t *)core + table->offset_bytes;
    uint32_t units = units_of(table);
    uint32_t at = 0;
    for (;;) {
        uint32_t first = mr_read_u32(reader);
        uint32_t count = mr_read_u32(reader);
        if (reader->failed || first < at || first > units || count > units - first) return false;
        if (count == 0) return first == units;
        size_t bytes = (size_t)count * UNIT_BYTES;
        if (reader->n < bytes) return false;
        memcpy(base + (size_t)first * UNIT_BYTES, reader->p, bytes);
        reader->p += bytes;
        reader->n -= bytes;
        at = first + count;
    }
}

int mr_core_load(struct mr_str bytes, void *block, size_t block_bytes, struct mr_core **ret_core)
{
    MR_ASSERT(((uintptr_t)block & 15) == 0);
    size_t head = 16 + core_header_bytes();
    if (bytes.n < head + 8) return MR_ECORRUPT;
    struct mr_str last = {bytes.p + bytes.n - 8, 8};
    struct mr_reader end = mr_reader_from(last);
    if (mr_read_u64(&end) != mr_hash64(bytes.p, bytes.n - 8, SAVE_VERSION)) return MR_ECORRUPT;
    struct mr_reader reader = mr_reader_from((struct mr_str){bytes.p, bytes.n - 8});
    if (mr_read_u64(&reader) != SAVE_MAGIC) return MR_ECORRUPT;
    if (mr_read_u32(&reader) != SAVE_VERSION) return MR_EUNSUPPORTED;
    if (mr_read_u32(&reader) != core_item_check()) return MR_EUNSUPPORTED;
    struct mr_core_limits limits;
    memcpy(&limits, reader.p + offsetof(struct mr_core, limits), sizeof limits);
    struct mr_core *core = NULL;
    int error = mr_core_init(block, block_bytes, &limits, &core);
    if (error != 0) return error == MR_EINVALID ? MR_ECORRUPT : error;
    memcpy(core, reader.p, core_header_bytes());
    reader.p += core_header_bytes();
    reader.n -= core_header_bytes();
    /* Offsets and capacities are verified before a table is written. */
    error = mr_core_open(block, block_bytes, false, &core);
    for (uint32_t i = 0; error == 0 && i < CORE_STORED; i++) {
        if (!table_load(core, &core->tables[i], &reader)) error = MR_ECORRUPT;
    }
    if (error == 0 && reader.n != 0) error = MR_ECORRUPT;
    if (error == 0) *ret_core = core;
    return error;
}

uint64_t mr_core_hash(const struct mr_core *core)
{
    uint64_t hash = mr_hash64(core, core_header_bytes(), SAVE_VERSION);
    for (uint32_t i = 0; i < CORE_STORED; i++) {
        const struct core_table *table = &core->tables[i];
        hash = mr_hash64((const uint8_t *)core + table->offset_bytes, used_bytes(table), hash);
    }
    return hash;
}
