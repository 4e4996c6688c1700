/* SPDX-License-Identifier: Apache-2.0 */
/* The process's allocator and the arena on top of it.
 *
 * Owns:       the allocator table, set once before other threads exist; an arena owns its chunks.
 * Invariants: (1) a chunk's used_bytes never passes its size_bytes and is a multiple of 16;
 *             (2) used_bytes of an arena is the sum of what it handed out, each rounded up to 16;
 *             (3) nothing is handed out past limit_bytes.
 * Never:      I/O, clock, recursion.
 * Cost:       O(1) amortised for each allocation, O(chunks) for reset and done.
 * Idea:       src/base/README.md   Tests: tests/unit/base/test_base_memory.c
 */
#include "base/base.h"

#include <stdlib.h>

/* A request's first chunk holds most requests whole; doubling keeps the chain short. */
#define ARENA_CHUNK_BYTES_MIN ((size_t)4096)
#define ARENA_CHUNK_BYTES_MAX ((size_t)1024 * 1024)
#define ARENA_ALIGN           ((size_t)16)

struct mr_arena_chunk {
    struct mr_arena_chunk *next; /* older */
    size_t size_bytes;           /* of the room behind this header */
    size_t used_bytes;
    size_t padding;
};
_Static_assert(sizeof(struct mr_arena_chunk) % ARENA_ALIGN == 0, "the room starts aligned");

static void *libc_realloc(void *context, void *p, size_t size_bytes)
{
    (void)context; /* libc's heap is the context */
    if (size_bytes == 0) {
        free(p);
        return NULL;
    }
    return realloc(p, size_bytes);
}

/* A mutable global on purpose: an allocator in each call would be in each signature. */
static struct mr_allocator allocator_now = {.realloc = libc_realloc};

void mr_allocator_set(const struct mr_allocator *allocator)
{
    MR_ASSERT(!allocator || allocator->realloc);
    allocator_now = allocator ? *allocator : (struct mr_allocator){.realloc = libc_realloc};
}

void *mr_realloc(void *p, size_t size_bytes)
{
    if (size_bytes == 0 && !p) return NULL;
    /* An object larger than PTRDIFF_MAX breaks pointer subtraction; no allocator may be asked. */
    if (size_bytes > PTRDIFF_MAX) return NULL;
    return allocator_now.realloc(allocator_now.context, p, size_bytes);
}

void *mr_alloc(size_t size_bytes)
{
    return mr_realloc(NULL, size_bytes);
}

void *mr_alloc_zero(size_t size_bytes)
{
    void *p = mr_alloc(size_bytes);
    if (p) {
        memset(p, 0, size_bytes);
    }
    return p;
}

void mr_free(void *p)
{
    if (p) {
        (void)mr_realloc(p, 0); /* size 0 frees: the result is NULL by contract */
    }
}

void mr_free_pointer(void *pointer_to_pointer)
{
    void *p = NULL;

    /* memcpy, because the caller's variable is a `struct x *`, not a `void *`. */
    memcpy(&p, pointer_to_pointer, sizeof p);
    mr_free(p);
    p = NULL;
    memcpy(pointer_to_pointer, &p, sizeof p);
}

/* --- arena --------------------------------------------------------------------------------- */

static uint8_t *chunk_room(struct mr_arena_chunk *chunk)
{
    return (uint8_t *)(chunk + 1);
}

static struct mr_arena_chunk *chunk_new(size_t size_bytes)
{
    struct mr_arena_chunk *chunk = NULL;

    if (size_bytes > PTRDIFF_MAX - sizeof *chunk) return NULL;
    chunk = mr_alloc(sizeof *chunk + size_bytes);
    if (!chunk) return NULL;
    *chunk = (struct mr_arena_chunk){.size_bytes = size_bytes};
    return chunk;
}

void mr_arena_init(struct mr_arena *arena, size_t limit_bytes)
{
    *arena = (struct mr_arena){.limit_bytes = limit_bytes};
}

void mr_arena_done(struct mr_arena *arena)
{
    while (arena->chunk) {
        struct mr_arena_chunk *older = arena->chunk->next;
        mr_free(arena->chunk);
        arena->chunk = older;
    }
    arena->used_bytes = 0;
}

void mr_arena_reset(struct mr_arena *arena)
{
    while (arena->chunk && arena->chunk->next) {
        struct mr_arena_chunk *older = arena->chunk->next;
        mr_free(arena->chunk);
        arena->chunk = older;
    }
    if (arena->chunk) {
        arena->chunk->used_bytes = 0;
    }
    arena->used_bytes = 0;
}

/* A chunk with room for size_bytes. One that is made for a large piece goes behind the current
 * one, so that the room left in the current one stays in use. */
static struct mr_arena_chunk *arena_chunk_for(struct mr_arena *arena, size_t size_bytes)
{
    struct mr_arena_chunk *current = arena->chunk;
    struct mr_arena_chunk *chunk = NULL;
    size_t wanted_bytes = ARENA_CHUNK_BYTES_MIN;

    if (current && current->size_bytes - current->used_bytes >= size_bytes) return current;
    if (current) {
        wanted_bytes = MR_MIN(current->size_bytes * 2, ARENA_CHUNK_BYTES_MAX);
    }
    wanted_bytes -= sizeof *chunk;
    wanted_bytes &= ~(ARENA_ALIGN - 1);
    if (current && size_bytes > wanted_bytes / 2) {
        chunk = chunk_new(size_bytes);
        if (!chunk) return NULL;
        chunk->next = current->next;
        current->next = chunk;
        return chunk;
    }
    chunk = chunk_new(MR_MAX(size_bytes, wanted_bytes));
    if (!chunk) return NULL;
    chunk->next = current;
    arena->chunk = chunk;
    return chunk;
}

void *mr_arena_alloc(struct mr_arena *arena, size_t size_bytes)
{
    struct mr_arena_chunk *chunk = NULL;
    size_t rounded_bytes = 0;
    uint8_t *p = NULL;

    if (size_bytes > PTRDIFF_MAX - ARENA_ALIGN) return NULL;
    if (arena->used_bytes > arena->limit_bytes) return NULL;
    if (size_bytes > arena->limit_bytes - arena->used_bytes) return NULL;
    rounded_bytes = (MR_MAX(size_bytes, (size_t)1) + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
    chunk = arena_chunk_for(arena, rounded_bytes);
    if (!chunk) return NULL;
    p = chunk_room(chunk) + chunk->used_bytes;
    chunk->used_bytes += rounded_bytes;
    /* The last piece may round past the limit by less than 16; the next one then fails. */
    arena->used_bytes += rounded_bytes;
    MR_INVARIANT(1, chunk->used_bytes <= chunk->size_bytes);
    return p;
}

void *mr_arena_alloc_zero(struct mr_arena *arena, size_t size_bytes)
{
    void *p = mr_arena_alloc(arena, size_bytes);
    if (p) {
        memset(p, 0, size_bytes);
    }
    return p;
}
