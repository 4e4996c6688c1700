/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the most recent latencies and answers their percentiles; reads the clock.
 *
 * Owns:       a ring of INFER_SAMPLES values.
 * Invariants: (1) only the newest INFER_SAMPLES values count.
 * Cost:       add O(1); get O(n log n) over the ring, once a second.
 * Tests:      tests/unit/infer/test_infer_pure.c
 */
#include "infer_int.h"

#include <stdlib.h>
#include <time.h>

uint64_t infer_now_us(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail for this clock */
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

void infer_stat_add(struct infer_stat *stat, uint64_t us)
{
    stat->us[stat->count % INFER_SAMPLES] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
    stat->count++;
    if (stat->count == 2 * INFER_SAMPLES) {
        stat->count = INFER_SAMPLES; /* the index stays, the count never wraps */
    }
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

uint32_t infer_stat_get(const struct infer_stat *stat, uint32_t permille)
{
    uint32_t sorted[INFER_SAMPLES];
    uint32_t n = MR_MIN(stat->count, INFER_SAMPLES);
    if (n == 0) {
        return 0;
    }
    memcpy(sorted, stat->us, n * sizeof(sorted[0]));
    qsort(sorted, n, sizeof(sorted[0]), compare_u32);
    uint32_t at = (uint32_t)(((uint64_t)n * permille + 999) / 1000);
    return sorted[at == 0 ? 0 : MR_MIN(at, n) - 1];
}
