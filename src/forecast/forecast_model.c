/* SPDX-License-Identifier: Apache-2.0 */
/* How long work runs: from counts of what has ended, and of what still runs, to draws.
 *
 * Running times are survival curves over logarithmic bins (Kaplan and Meier 1958): the chance to
 * end within a bin is the number that did over the number that came so far, and work that still
 * runs counts among those that came. So long jobs that have not ended yet are not forgotten, and
 * "given that it has run for so long" is one division. A tenant's curve leans on everybody's as
 * long as little is known of the tenant.
 *
 * Owns:       nothing; the model is the caller's.
 * Invariants: (1) survival never grows from one bin to the next;
 *             (2) a draw is never shorter than what has run already.
 * Never:      I/O, clock, float, allocation, recursion.
 * Cost:       a model O(rows * bins + leases), a draw O(log bins).
 * Idea:       docs/internals/forecast.md   Tests: tests/unit/forecast/test_forecast_model.c
 */
#include "forecast_int.h"

#define COUNT_ONE 64u /* counts are in 64ths */
#define TAIL      12u /* behind all that is known half ends within a doubling: 1 in 12 a bin */

uint32_t forecast_bin(uint64_t value)
{
    if (value < 8) return (uint32_t)value;
    uint32_t exponent = 63u - (uint32_t)__builtin_clzll(value);
    uint64_t bin = (exponent - 2u) * 8u + ((value >> (exponent - 3u)) & 7u);
    return (uint32_t)MR_MIN(bin, (uint64_t)MR_FORECAST_BINS - 1);
}

uint64_t forecast_bin_from(uint32_t bin)
{
    MR_ASSERT(bin <= MR_FORECAST_BINS);
    if (bin < 8) return bin;
    return (uint64_t)(8u + bin % 8u) << (bin / 8u - 1u);
}

uint32_t forecast_row(uint32_t tenant)
{
    return 1u + tenant % (MR_FORECAST_ROWS - 1u);
}

enum mr_forecast_basis forecast_basis(uint64_t estimate_us, uint64_t time_limit_us,
                                      uint64_t *ret_base_us)
{
    *ret_base_us = estimate_us != 0 ? estimate_us : time_limit_us;
    if (estimate_us != 0) return MR_FORECAST_ESTIMATE;
    if (time_limit_us != 0) return MR_FORECAST_LIMIT;
    *ret_base_us = 1u << FORECAST_RUN_SHIFT;
    return MR_FORECAST_RUN;
}

/* a * b / c, at most 2^40. */
static uint64_t scaled(uint64_t a, uint64_t b, uint64_t c)
{
    const uint64_t most = (uint64_t)1 << 40;
    uint64_t limit = UINT64_MAX / b;
    if (a > limit) return a / c >= most / b ? most : MR_MIN(a / c * b, most);
    return MR_MIN(a * b / c, most);
}

uint64_t forecast_measure(enum mr_forecast_basis basis, uint64_t base_us, uint64_t ran_us)
{
    if (basis == MR_FORECAST_RUN) return ran_us >> FORECAST_RUN_SHIFT;
    return scaled(ran_us, FORECAST_RATIO_ONE, base_us);
}

/* --- the model ----------------------------------------------------------------------------- */

/* 64ths of an ended job in the bin, before anything is known. Users ask for up to 64 times what
 * they need, and estimate to a factor of 4. */
static uint64_t prior(enum mr_forecast_basis basis, uint32_t bin)
{
    uint32_t one = forecast_bin(FORECAST_RATIO_ONE);
    if (basis == MR_FORECAST_LIMIT) return bin + 48 >= one && bin < one ? 3 : 0;
    if (basis == MR_FORECAST_ESTIMATE) return bin + 16 >= one && bin < one + 16 ? 4 : 0;
    return 0;
}

/* Chances to end within each bin, of FORECAST_ONE. Everybody's: the longest that was seen will not
 * stay the longest, so half a job more is taken to come to each bin. */
static void chances(const struct mr_forecast_row *row, const uint32_t *running,
                    enum mr_forecast_basis basis, uint64_t *ret)
{
    uint64_t came = 0; /* to the bin, in 64ths */
    for (uint32_t bin = MR_FORECAST_BINS; bin-- > 0;) {
        uint64_t ended = (uint64_t)row->bins[bin] * COUNT_ONE + prior(basis, bin);
        came += ended;
        ret[bin] = came == 0 ? FORECAST_ONE / TAIL : ended * FORECAST_ONE / (came + COUNT_ONE / 2);
        came += (uint64_t)running[bin] * COUNT_ONE; /* they passed the bins below */
    }
}

/* The same of one tenant, who is like everybody until more is known. */
static void chances_of(const struct mr_forecast_row *row, const uint32_t *running,
                       const uint64_t *all, uint64_t *ret)
{
    const uint64_t lean = (uint64_t)FORECAST_PRIOR * COUNT_ONE;
    uint64_t came = 0;
    for (uint32_t bin = MR_FORECAST_BINS; bin-- > 0;) {
        uint64_t ended = (uint64_t)row->bins[bin] * COUNT_ONE;
        came += ended;
        ret[bin] = (ended * FORECAST_ONE + lean * all[bin]) / (came + lean);
        came += (uint64_t)running[bin] * COUNT_ONE;
    }
}

static void survival_make(const uint64_t *chance, uint32_t *ret)
{
    uint64_t left = FORECAST_ONE;
    for (uint32_t bin = 0; bin < MR_FORECAST_BINS; bin++) {
        left -= left * MR_MIN(chance[bin], (uint64_t)FORECAST_ONE) / FORECAST_ONE;
        MR_INVARIANT(1, bin == 0 || left <= ret[bin - 1]);
        ret[bin] = (uint32_t)left;
    }
}

/* What runs has lasted so long at least. */
static void running_count(struct forecast_model *model, const struct mr_core *core, uint64_t now_us)
{
    struct mr_lease_info lease;
    struct mr_workload_info info;
    uint32_t cursor = 0;
    while (mr_core_lease_next(core, &cursor, &lease) == 0) {
        if (lease.start.rank_first != 0 || lease.state != MR_LEASE_RUNNING) continue;
        if (mr_core_workload(core, lease.workload, &info) != 0) continue;
        if (info.kind != MR_KIND_JOB || now_us < info.run_started_us) continue;
        uint64_t base_us, ran_us = info.ran_us + (now_us - info.run_started_us);
        enum mr_forecast_basis basis =
            forecast_basis(info.estimate_us, info.time_limit_us, &base_us);
        uint32_t bin = forecast_bin(forecast_measure(basis, base_us, ran_us));
        model->running[basis][0][bin]++;
        model->running[basis][forecast_row(info.tenant.v)][bin]++;
    }
}

void forecast_model_make(struct forecast_model *model, const struct mr_forecast_learned *learned,
                         const struct mr_core *core, uint64_t now_us)
{
    memset(model, 0, sizeof *model);
    running_count(model, core, now_us);
    for (uint32_t basis = 0; basis < MR_FORECAST_BASIS_COUNT; basis++) {
        uint64_t all[MR_FORECAST_BINS], own[MR_FORECAST_BINS];
        chances(&learned->rows[basis][0], model->running[basis][0], (enum mr_forecast_basis)basis,
                all);
        survival_make(all, model->survival[basis][0]);
        for (uint32_t row = 1; row < MR_FORECAST_ROWS; row++) {
            chances_of(&learned->rows[basis][row], model->running[basis][row], all, own);
            survival_make(own, model->survival[basis][row]);
        }
        model->known[basis] =
            basis != MR_FORECAST_RUN || learned->rows[basis][0].count >= FORECAST_UNKNOWN_MIN;
    }
}

/* --- draws --------------------------------------------------------------------------------- */

static uint64_t survival_at(const uint32_t *survival, uint64_t measure)
{
    uint32_t bin = forecast_bin(measure);
    uint64_t from = forecast_bin_from(bin), to = forecast_bin_from(bin + 1);
    uint64_t before = bin == 0 ? FORECAST_ONE : survival[bin - 1], after = survival[bin];
    uint64_t part = MR_MIN(measure - from, to - from);
    return before - (before - after) * part / (to - from);
}

/* Where survival falls to `wanted`. */
static uint64_t measure_of(const uint32_t *survival, uint64_t wanted)
{
    uint32_t low = 0, high = MR_FORECAST_BINS; /* the first bin behind which less is left */
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (survival[middle] < wanted)
            high = middle;
        else
            low = middle + 1;
    }
    if (low == MR_FORECAST_BINS) return forecast_bin_from(MR_FORECAST_BINS);
    uint64_t from = forecast_bin_from(low), to = forecast_bin_from(low + 1);
    uint64_t before = low == 0 ? FORECAST_ONE : survival[low - 1], after = survival[low];
    MR_ASSERT(before >= wanted && wanted > after);
    return from + mr_mul_div_u64(to - from, before - wanted, before - after);
}

uint64_t forecast_draw_us(const struct forecast_model *model, const struct mr_workload_info *info,
                          uint64_t ran_us, uint64_t draw)
{
    uint64_t base_us, whole_us;
    enum mr_forecast_basis basis = forecast_basis(info->estimate_us, info->time_limit_us, &base_us);
    if (!model->known[basis]) return UINT64_MAX;
    const uint32_t *survival = model->survival[basis][forecast_row(info->tenant.v)];
    uint64_t left = survival_at(survival, forecast_measure(basis, base_us, ran_us));
    uint64_t uniform = draw & FORECAST_ONE;
    uint64_t wanted = left * uniform >> 32;
    if (left < 64) {
        /* Longer than everything that is known: as long again at most. */
        whole_us = ran_us + mr_mul_div_u64(ran_us, uniform, FORECAST_ONE);
    } else if (basis == MR_FORECAST_RUN) {
        whole_us = measure_of(survival, wanted) << FORECAST_RUN_SHIFT;
    } else {
        uint64_t measure = measure_of(survival, wanted);
        whole_us = measure > UINT64_MAX / base_us ? UINT64_MAX / FORECAST_RATIO_ONE
                                                  : measure * base_us / FORECAST_RATIO_ONE;
    }
    whole_us = MR_MAX(whole_us, ran_us);
    MR_INVARIANT(2, whole_us >= ran_us);
    return MR_MIN(whole_us, (uint64_t)1 << 56);
}
