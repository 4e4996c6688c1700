/* SPDX-License-Identifier: Apache-2.0 */
/* One clock for all lanes: the wall's time that never goes back within a process.
 *
 * Owns:       the offset between the monotonic clock and the wall clock, in struct mr_loop.
 * Invariants: (1) the offset only grows, so what a lane reads never falls;
 *             (2) a wall clock that is set back leaves us ahead of it, running on at its pace; one
 *             that is set forward, or a machine that slept, is followed.
 * Thread:     any.
 * Fails:      never.
 */
#include <time.h>

#include "loop_int.h"

/* Smaller steps are noise between two readings. */
#define CLOCK_STEP_US 1000000

static int64_t clock_read_us(clockid_t id)
{
    struct timespec t = {0};
    (void)clock_gettime(id, &t); /* both clocks exist on every Linux */
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void loop_clock_init(struct mr_loop *loop)
{
    loop->clock_offset_us = clock_read_us(CLOCK_REALTIME) - clock_read_us(CLOCK_MONOTONIC);
}

uint64_t loop_now_us(struct mr_loop *loop)
{
    int64_t monotonic = clock_read_us(CLOCK_MONOTONIC);
    int64_t seen = clock_read_us(CLOCK_REALTIME) - monotonic;
    int64_t offset = __atomic_load_n(&loop->clock_offset_us, __ATOMIC_RELAXED);
    while (seen > offset + CLOCK_STEP_US) {
        if (__atomic_compare_exchange_n(&loop->clock_offset_us, &offset, seen, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            offset = seen;
        }
    }
    return (uint64_t)(monotonic + offset);
}
