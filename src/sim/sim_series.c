/* SPDX-License-Identifier: Apache-2.0 */
/* Amounts over a time whose end nobody knows yet, in a fixed number of cells.
 *
 * Owns:       nothing.
 * Invariants: (1) the integral over all cells stays the same when cells are joined.
 * Never:      I/O, clock.
 * Cost:       O(cells touched); joining is O(cells), log(time) times.
 * Idea:       docs/internals/sim.md   Tests: tests/unit/sim/test_sim_story.c
 */
#include "sim_story_int.h"

static void join(double *of)
{
    for (uint32_t i = 0; i < SIM_SERIES_CELLS; i++)
        of[i] = i < SIM_SERIES_CELLS / 2 ? of[2 * i] + of[2 * i + 1] : 0;
}

void sim_series_reach(struct sim_series *series, uint64_t time_us)
{
    while (time_us / series->cell_us >= SIM_SERIES_CELLS) {
        double *all[] = {series->queue,  series->accel_used, series->accel_up,     series->cpu_used,
                         series->cpu_up, series->free_whole, series->domains_free, series->down};
        for (uint32_t i = 0; i < MR_COUNT_OF(all); i++)
            join(all[i]);
        series->cell_us *= 2;
        series->cells = (series->cells + 1) / 2;
    }
    series->cells = MR_MAX(series->cells, (uint32_t)(time_us / series->cell_us) + 1);
}

void sim_series_add(struct sim_series *series, double *of, uint64_t from_us, uint64_t to_us,
                    double value)
{
    if (value == 0) return;
    for (uint64_t at = from_us; at < to_us;) {
        uint64_t cell = at / series->cell_us;
        uint64_t end = MR_MIN((cell + 1) * series->cell_us, to_us);
        MR_ASSERT(cell < SIM_SERIES_CELLS);
        of[cell] += value * (double)(end - at);
        at = end;
    }
}
