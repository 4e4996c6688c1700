/* SPDX-License-Identifier: Apache-2.0 */
/* What is learned from the jobs that came and from those that ended.
 *
 * Owns:       nothing; the state is the caller's.
 * Invariants: (1) a row's count is the sum of its bins;
 *             (2) what is the same for everybody is in row 0, and once more in the tenant's row.
 * Never:      I/O, clock, float, allocation, recursion.
 * Cost:       O(1) amortised for each job.
 * Idea:       docs/internals/forecast.md   Tests: tests/unit/forecast/test_forecast_model.c
 */
#include "forecast_int.h"

_Static_assert(sizeof(struct mr_forecast_arrival) == 40 + sizeof(struct mr_shape) + 24, "no pad");

void mr_forecast_arrived(struct mr_forecast_learned *learned, uint64_t time_us,
                         const struct mr_event_submit *submit)
{
    if (submit->kind != MR_KIND_JOB) return;
    bool first = learned->arrived == 0;
    uint64_t before_us = learned->arrived_us;
    learned->arrivals[learned->arrived % MR_FORECAST_ARRIVALS] = (struct mr_forecast_arrival){
        .gap_us = first || time_us < before_us ? 0 : time_us - before_us,
        .time_limit_us = submit->time_limit_us,
        .estimate_us = submit->estimate_us,
        .checkpoint_us = submit->checkpoint_us,
        .grace_us = submit->grace_us,
        .shape = submit->shape,
        .tenant = submit->tenant.v,
        .tasks_min = submit->tasks_min,
        .tasks_max = submit->tasks_max,
        .spares = submit->spares,
        .priority = submit->priority,
        .topology = (uint8_t)submit->topology,
        .preemptible = submit->preemptible,
    };
    learned->arrived++;
    learned->arrived_us = MR_MAX(before_us, time_us);
}

static void row_add(struct mr_forecast_row *row, uint32_t bin)
{
    if (row->count >= FORECAST_HALVE) {
        row->count = 0;
        for (uint32_t i = 0; i < MR_FORECAST_BINS; i++) {
            row->bins[i] /= 2;
            row->count += row->bins[i];
        }
    }
    row->bins[bin]++;
    row->count++;
}

void mr_forecast_ended(struct mr_forecast_learned *learned, const struct mr_workload_info *info)
{
    if (info->kind != MR_KIND_JOB || info->run == 0 || info->ran_us == 0) return;
    uint64_t base_us;
    enum mr_forecast_basis basis = forecast_basis(info->estimate_us, info->time_limit_us, &base_us);
    uint32_t bin = forecast_bin(forecast_measure(basis, base_us, info->ran_us));
    row_add(&learned->rows[basis][0], bin);
    row_add(&learned->rows[basis][forecast_row(info->tenant.v)], bin);
}

void mr_forecast_known(struct mr_forecast_learned *learned, const struct mr_core *core)
{
    struct mr_workload_info info = {.id = {0}};
    while (mr_core_workload_next(core, info.id, &info) == 0) {
        struct mr_event_submit submit = {.tenant = info.tenant,
                                         .kind = info.kind,
                                         .shape = info.shape,
                                         .tasks_min = info.tasks_min,
                                         .tasks_max = info.tasks_max,
                                         .priority = info.priority,
                                         .topology = info.topology,
                                         .preemptible = info.preemptible,
                                         .time_limit_us = info.time_limit_us,
                                         .estimate_us = info.estimate_us,
                                         .grace_us = info.grace_us,
                                         .checkpoint_us = info.checkpoint_us};
        mr_forecast_arrived(learned, info.submitted_us, &submit);
        if (mr_state_final(info.state)) mr_forecast_ended(learned, &info);
    }
}
