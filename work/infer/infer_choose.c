/* SPDX-License-Identifier: Apache-2.0 */
/* Compares ways to run a model: which is faster on the whole, and which loses too much.
 *
 * Owns:       nothing.
 * Invariants: (1) equal inputs give equal answers; (2) a way that is slower than the model as
 *             shipped at any point is not chosen, however fast it is elsewhere.
 * Never:      I/O, clock, allocation.
 * Idea:       losses are compared token by token: the text's own spread cancels, so that a thousand
 *             tokens tell 1 % apart.
 * Tests:      tests/unit/infer/test_infer_spec.c
 */
#include "infer_measure.h"

#include <math.h>

#define NOISE 0.04 /* two runs of one setting differ by less, in CPU time */

static const double weights[INFER_POINT_COUNT] = {
    [INFER_POINT_PREFILL] = 2.0,
    [INFER_POINT_DECODE_1] = 1.0,
    [INFER_POINT_DECODE_4] = 1.0,
    [INFER_POINT_DECODE_ALL] = 1.0,
};

double infer_choose_rise(const struct infer_loss *base, const struct infer_loss *other)
{
    uint32_t n = MR_MIN(base->count, other->count);
    if (n < 2) return 1e9; /* nothing was compared: nothing is allowed */
    double sum = 0.0;
    double squares = 0.0;
    for (uint32_t i = 0; i < n; i++) {
        double d = (double)other->nats[i] - (double)base->nats[i];
        sum += d;
        squares += d * d;
    }
    double mean = sum / n;
    double variance = (squares - sum * mean) / (n - 1);
    double error = sqrt(variance > 0.0 ? variance / n : 0.0);
    return exp(mean + error) - 1.0;
}

double infer_choose_score(const struct infer_speed *speed)
{
    double sum = 0.0;
    double weight = 0.0;
    for (size_t i = 0; i < INFER_POINT_COUNT; i++) {
        if (!(speed->tokens_per_s[i] > 0.0)) return 0.0;
        sum += weights[i] * log(speed->tokens_per_s[i]);
        weight += weights[i];
    }
    return exp(sum / weight);
}

bool infer_choose_nowhere_slower(const struct infer_speed *base, const struct infer_speed *speed)
{
    for (size_t i = 0; i < INFER_POINT_COUNT; i++) {
        if (speed->tokens_per_s[i] < base->tokens_per_s[i] * (1.0 - NOISE)) return false;
    }
    return true;
}
