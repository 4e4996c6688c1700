/* SPDX-License-Identifier: Apache-2.0 */
/* How often forecasts were right, and bands made wide enough for that.
 *
 * Futures differ by what is drawn; what the model itself gets wrong is in none of them, so their
 * band is too narrow. Each forecast that was given is compared with what came: the score is by how
 * much the true wait lay outside the band, in eighths of a doubling, negative when inside. A new
 * band is widened by the score that 19 of 20 of the newest ones did not exceed. If the next
 * forecast is like those, its band holds so often, whatever the model (conformalized quantile
 * regression: Romano, Patterson, Candès 2019). 19 of 20 for a band of 9 of 10, because outcomes
 * are known late and short waits first.
 *
 * Owns:       nothing; the scores are the caller's.
 * Invariants: (1) a band is never made narrower.
 * Never:      I/O, clock, float, allocation, recursion.
 * Cost:       O(1) to score, O(scores^2) to widen, 256 at most.
 * Idea:       docs/internals/forecast.md   Tests: tests/unit/forecast/test_forecast_when.c
 */
#include "forecast_int.h"

#define GRACE_US     60000000u /* a minute more or less is no error */
#define SCORES_LEAST 8u
#define SCORE_FIRST  4 /* half a doubling, until so many are known */

/* The wait in bins of an eighth of a doubling. */
static int32_t wait_bin(uint64_t time_us, uint64_t now_us)
{
    uint64_t wait_us = (time_us > now_us ? time_us - now_us : 0) + GRACE_US;
    return (int32_t)forecast_bin(wait_us >> FORECAST_RUN_SHIFT);
}

void mr_forecast_scored(struct mr_forecast_learned *learned, uint64_t asked_us,
                        const struct mr_forecast_band *raw, uint64_t started_us)
{
    int32_t came = wait_bin(started_us, asked_us);
    int32_t early = raw->low_us == MR_FORECAST_NEVER ? (int32_t)MR_FORECAST_BINS - came
                                                     : wait_bin(raw->low_us, asked_us) - came;
    int32_t late =
        raw->high_us == MR_FORECAST_NEVER ? -came : came - wait_bin(raw->high_us, asked_us);
    learned->scores[learned->scored++ % MR_FORECAST_SCORES] = (int16_t)MR_MAX(early, late);
}

/* The score that 19 of 20 did not exceed; at least 0. */
static uint32_t score_of(const struct mr_forecast_learned *learned)
{
    int16_t sorted[MR_FORECAST_SCORES];
    uint32_t count = (uint32_t)MR_MIN(learned->scored, (uint64_t)MR_FORECAST_SCORES);
    if (count < SCORES_LEAST) return SCORE_FIRST;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] > learned->scores[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = learned->scores[i];
    }
    uint32_t rank = MR_MIN((19 * (count + 1) + 19) / 20, count);
    return (uint32_t)MR_MAX(sorted[rank - 1], 0);
}

void forecast_widen(const struct mr_forecast_learned *learned, uint64_t now_us,
                    struct mr_forecast_band *band)
{
    uint32_t by = score_of(learned);
    if (band->low_us > now_us && band->low_us != MR_FORECAST_NEVER) {
        uint32_t bin = (uint32_t)wait_bin(band->low_us, now_us);
        uint64_t wait_us = forecast_bin_from(bin > by ? bin - by : 0) << FORECAST_RUN_SHIFT;
        uint64_t low_us = now_us + (wait_us > GRACE_US ? wait_us - GRACE_US : 0);
        band->low_us = MR_MIN(band->low_us, low_us);
    }
    if (band->high_us != MR_FORECAST_NEVER) {
        uint32_t bin = MR_MIN((uint32_t)wait_bin(band->high_us, now_us) + by + 1, MR_FORECAST_BINS);
        uint64_t wait_us = forecast_bin_from(bin) << FORECAST_RUN_SHIFT;
        band->high_us = MR_MAX(band->high_us, now_us + wait_us - MR_MIN(wait_us, GRACE_US));
    }
}
