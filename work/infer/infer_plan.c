/* SPDX-License-Identifier: Apache-2.0 */
/* Decides how much prefill fits between two tokens, and who gives way when the cache is full.
 *
 * Owns:       nothing.
 * Invariants: (1) a chunk is never empty, so a prompt always gets on; (2) equal inputs give equal
 *             answers.
 * Never:      I/O, clock, allocation.
 * Idea:       chunked prefill sized by measured pace (Sarathi-Serve, OSDI'24), see README.md.
 * Tests:      tests/unit/infer/test_infer_pure.c
 */
#include "infer_int.h"

#define PACE_WEIGHT  0.3      /* of the newest measurement */
#define ROUND_US_MAX 400000.0 /* of prefill alone: so long may a cancel or a newcomer wait */
#define CHUNK_ALONE  64u      /* smaller ones are slow, and nobody waits for a token */
#define CHUNK_FIRST  128u     /* before anything was measured */

static void mean_update(double *mean, double value)
{
    *mean = *mean <= 0.0 ? value : *mean + PACE_WEIGHT * (value - *mean);
}

void infer_pace_decode(struct infer_pace *pace, uint64_t us)
{
    mean_update(&pace->decode_us, (double)us);
}

void infer_pace_prefill(struct infer_pace *pace, uint64_t us, uint32_t tokens)
{
    /* A few tokens measure the fixed cost of a step and not the cost of a token. */
    if (tokens >= INFER_CHUNK_MIN) {
        mean_update(&pace->prefill_token_us, (double)us / tokens);
    }
}

uint32_t infer_plan_chunk(const struct infer_pace *pace, uint32_t running, uint64_t slo_us)
{
    if (pace->prefill_token_us <= 0.0) {
        return running == 0 ? CHUNK_FIRST : 4 * INFER_CHUNK_MIN;
    }
    /* A fifth is kept for what other work on this machine does to us. */
    double left_us = running == 0 ? ROUND_US_MAX : 0.8 * (double)slo_us - pace->decode_us;
    double tokens = left_us / pace->prefill_token_us;
    uint32_t least = running == 0 ? CHUNK_ALONE : INFER_CHUNK_MIN;
    if (tokens <= (double)least) return least;
    if (tokens >= (double)INFER_BATCH_TOKENS) return INFER_BATCH_TOKENS;
    return (uint32_t)tokens;
}

size_t infer_plan_victim(const struct infer_victim *victims, size_t count)
{
    MR_ASSERT(count > 0);
    size_t best = 0;
    for (size_t i = 1; i < count; i++) {
        const struct infer_victim *a = &victims[i];
        const struct infer_victim *b = &victims[best];
        if (a->priority != b->priority) {
            best = a->priority > b->priority ? i : best;
        } else if (a->cells != b->cells) {
            best = a->cells > b->cells ? i : best;
        } else if (a->arrived_us > b->arrived_us) {
            best = i;
        }
    }
    return best;
}
