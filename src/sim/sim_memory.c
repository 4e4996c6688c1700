/* SPDX-License-Identifier: Apache-2.0 */
/* Memory by owner: when the simulated daemon dies, so does all that it had allocated.
 *
 * Every block of base's allocator carries the tag that was set when it was made; a crash drops a
 * tag as the kernel drops a process's pages.
 *
 * Owns:       every block until it is freed, dropped or done.
 * Invariants: (1) each live block is in the ring once; (2) a block keeps its tag over realloc.
 * Cost:       O(1) for each call, O(live blocks) for a crash.
 */
#include <stdlib.h>

#include "sim/sim_int.h"

/* Room before each block, a multiple of 16 so that alignment is kept. */
#define HEAD_BYTES ((sizeof(struct sim_block) + 15u) / 16u * 16u)

void sim_memory_init(struct sim_memory *memory)
{
    *memory = (struct sim_memory){0};
    memory->head.next = memory->head.previous = &memory->head;
}

static void unlink_block(struct sim_memory *memory, struct sim_block *block)
{
    block->next->previous = block->previous;
    block->previous->next = block->next;
    memory->live_bytes -= block->size_bytes;
}

static void link_block(struct sim_memory *memory, struct sim_block *block, size_t size_bytes,
                       uint32_t tag)
{
    block->size_bytes = size_bytes;
    block->tag = tag;
    block->next = memory->head.next;
    block->previous = &memory->head;
    block->next->previous = block;
    memory->head.next = block;
    memory->live_bytes += size_bytes;
}

static struct sim_block *block_of(void *p)
{
    return (struct sim_block *)(void *)((uint8_t *)p - HEAD_BYTES);
}

void *sim_memory_realloc(void *context, void *p, size_t size_bytes)
{
    struct sim_memory *memory = context;
    struct sim_block *block = p != NULL ? block_of(p) : NULL;
    uint32_t tag = block != NULL ? block->tag : memory->tag;
    size_t old_bytes = block != NULL ? block->size_bytes : 0;
    if (size_bytes > SIZE_MAX - HEAD_BYTES) return NULL;
    if (block != NULL) unlink_block(memory, block);
    if (size_bytes == 0) {
        free(block);
        return NULL;
    }
    struct sim_block *made = realloc(block, HEAD_BYTES + size_bytes);
    if (made == NULL) {
        if (block != NULL) link_block(memory, block, old_bytes, tag);
        return NULL;
    }
    link_block(memory, made, size_bytes, tag);
    return (uint8_t *)made + HEAD_BYTES;
}

void sim_memory_drop(struct sim_memory *memory, uint32_t tag)
{
    struct sim_block *block = memory->head.next;
    while (block != &memory->head) {
        struct sim_block *next = block->next;
        if (block->tag == tag) {
            unlink_block(memory, block);
            free(block);
        }
        block = next;
    }
}

void sim_memory_done(struct sim_memory *memory)
{
    while (memory->head.next != &memory->head) {
        struct sim_block *block = memory->head.next;
        unlink_block(memory, block);
        free(block);
    }
}
