/* SPDX-License-Identifier: Apache-2.0 */
/* When a workload starts and ends: many futures, each with other draws, and the band they fall in.
 *
 * Owns:       nothing between calls; all memory is the caller's scratch.
 * Invariants: (1) the live block is only read;
 *             (2) equal questions have equal answers.
 * Never:      I/O, clock, float, allocation, recursion.
 * Cost:       samples * (a copy of the block + the steps until it has started).
 * Idea:       docs/internals/forecast.md   Tests: tests/unit/forecast/test_forecast_when.c
 */
#include "forecast_int.h"

size_t mr_forecast_bytes(const struct mr_core_limits *limits)
{
    if (mr_core_bytes(limits) == 0) return 0;
    return forecast_fork_bytes(limits) + ((sizeof(struct forecast_model) + 63) & ~(size_t)63);
}

/* Insertion: there are a few hundred at most. */
void forecast_sort(uint64_t *values, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        uint64_t value = values[i];
        uint32_t at = i;
        while (at > 0 && values[at - 1] > value) {
            values[at] = values[at - 1];
            at--;
        }
        values[at] = value;
    }
}

void forecast_band_of(uint64_t *values, uint32_t count, struct mr_forecast_band *ret)
{
    MR_ASSERT(count > 0);
    forecast_sort(values, count);
    /* The k-th of n splits off k / (n + 1) of what is still to come. */
    uint32_t low = MR_MAX((count + 11) / 20, 1u) - 1;
    ret->low_us = values[low];
    ret->middle_us = values[count / 2];
    ret->high_us = values[count - 1 - low];
}

/* Waiting and running workloads of whose length nothing is known. */
uint32_t forecast_unknown(const struct mr_core *core, const struct forecast_model *model)
{
    struct mr_workload_info info = {.id = {0}};
    uint32_t count = 0;
    if (model->known[MR_FORECAST_RUN]) return 0;
    while (mr_core_workload_next(core, info.id, &info) == 0) {
        uint64_t base_us;
        if (info.kind != MR_KIND_JOB || mr_state_final(info.state)) continue;
        count += forecast_basis(info.estimate_us, info.time_limit_us, &base_us) == MR_FORECAST_RUN;
    }
    return count;
}

int forecast_prepare(struct forecast_fork *fork, const struct mr_core *core,
                     const struct mr_forecast_learned *learned,
                     const struct mr_forecast_options *options, void *scratch, size_t bytes)
{
    const struct mr_core_limits *limits = mr_core_limits_of(core);
    uint8_t *at = scratch;
    MR_ASSERT(((uintptr_t)scratch & 15) == 0);
    if (bytes < mr_forecast_bytes(limits)) return MR_ENO_SPACE;
    *fork = (struct forecast_fork){.live = core, .learned = learned};
    bool fits = forecast_fork_place(fork, limits, &at, &bytes);
    MR_ASSERT(fits);
    struct forecast_model *model = (struct forecast_model *)(void *)at;
    uint64_t now_us = MR_MAX(options->now_us, mr_core_now_us(core));
    uint64_t horizon_us = options->horizon_us != 0 ? options->horizon_us : FORECAST_HORIZON_US;
    forecast_model_make(model, learned, core, now_us);
    fork->model = model;
    fork->until_us = now_us + MR_MIN(horizon_us, UINT64_MAX / 4);
    return 0;
}

int mr_forecast_when(const struct mr_core *core, const struct mr_forecast_learned *learned,
                     const struct mr_forecast_question *question, void *scratch, size_t bytes,
                     struct mr_forecast_answer *ret)
{
    const struct mr_forecast_options *options = &question->options;
    struct forecast_fork fork;
    struct mr_workload_info info;
    uint64_t starts[MR_FORECAST_SAMPLES_MAX], ends[MR_FORECAST_SAMPLES_MAX];
    uint32_t samples = options->samples != 0 ? options->samples : MR_FORECAST_SAMPLES;
    if (mr_core_workload(core, question->workload, &info) != 0) return MR_ENOT_FOUND;
    if (mr_state_final(info.state)) return MR_ESTATE;
    int error = forecast_prepare(&fork, core, learned, options, scratch, bytes);
    if (error != 0) return error;
    uint64_t asked_us = MR_MAX(options->now_us, mr_core_now_us(core));
    bool waits = info.reason.code == MR_REASON_DELIVERY && info.reason.a > asked_us;
    if (options->horizon_us == 0 && waits) fork.until_us = info.reason.a + FORECAST_HORIZON_US;
    *ret = (struct mr_forecast_answer){.samples = MR_MIN(samples, MR_FORECAST_SAMPLES_MAX),
                                       .horizon_us = fork.until_us - asked_us};
    uint64_t steps = options->steps_max != 0 ? options->steps_max : FORECAST_STEPS;
    fork.steps_max = MR_MAX(steps / ret->samples, 1u);
    for (uint32_t i = 0; i < ret->samples; i++) {
        fork.watched_count = fork.waiting = 0;
        forecast_watch_add(&fork, &info);
        fork.watched[0].wanted = question->end;
        fork.waiting += question->end;
        fork.no_arrivals = options->no_arrivals;
        forecast_fork_begin(&fork, options->seed * MR_FORECAST_SAMPLES_MAX + i, options->now_us);
        forecast_drive(&fork);
        starts[i] = fork.watched[0].started_us;
        ends[i] = fork.watched[0].ended_us;
        ret->started += starts[i] != MR_FORECAST_NEVER;
        ret->cut += fork.cut;
        ret->steps += fork.steps;
    }
    ret->unknown = forecast_unknown(core, fork.model);
    forecast_band_of(starts, ret->samples, &ret->start);
    forecast_band_of(ends, ret->samples, &ret->end);
    ret->raw = ret->start;
    if (info.state == MR_STATE_PENDING) forecast_widen(learned, asked_us, &ret->start);
    return 0;
}
