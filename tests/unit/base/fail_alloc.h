/* SPDX-License-Identifier: Apache-2.0 */
/* For tests only: an allocator that fails its n-th call, and counts what is still allocated. */
#ifndef MR_TESTS_FAIL_ALLOC_H
#define MR_TESTS_FAIL_ALLOC_H

#include <stdbool.h>
#include <stdlib.h>

#include "base/base.h"

struct fail_alloc {
    size_t fail_at;   /* the call that fails, counted from 1; 0: none */
    bool for_ever;    /* and every call after it */
    size_t calls;     /* allocating calls so far */
    size_t live;      /* blocks not yet freed */
    size_t last_size; /* of the last allocating call */
};

static inline void *fail_alloc_realloc(void *context, void *p, size_t size_bytes)
{
    struct fail_alloc *fail = context;
    void *moved = NULL;

    if (size_bytes == 0) {
        fail->live -= p ? 1 : 0;
        free(p);
        return NULL;
    }
    fail->calls++;
    fail->last_size = size_bytes;
    if (fail->fail_at > 0 &&
        (fail->for_ever ? fail->calls >= fail->fail_at : fail->calls == fail->fail_at)) {
        return NULL;
    }
    moved = realloc(p, size_bytes);
    fail->live += (moved && !p) ? 1 : 0;
    return moved;
}

static inline void fail_alloc_use(struct fail_alloc *fail)
{
    struct mr_allocator allocator = {.realloc = fail_alloc_realloc, .context = fail};
    mr_allocator_set(&allocator);
}

#endif
