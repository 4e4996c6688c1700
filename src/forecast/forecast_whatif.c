/* SPDX-License-Identifier: Apache-2.0 */
/* What a change would do: pairs of futures, one without and one with it.
 *
 * Both of a pair have the same seed, and a draw belongs to a workload and its run (the guest's
 * number is left out of the count), so what differs follows from the change and not from luck:
 * common random numbers (Heikes, Montgomery and Rardin 1976). That is worth more than ten times as
 * many futures drawn apart.
 *
 * Owns:       nothing between calls; all memory is the caller's scratch.
 * Invariants: (1) the live block is only read;
 *             (2) equal questions have equal answers;
 *             (3) a change that changes nothing shifts nothing.
 * Never:      I/O, clock, float, allocation, recursion.
 * Cost:       pairs * 2 * (a copy of the block + the steps until all that waits has started).
 * Idea:       docs/internals/forecast.md   Tests: tests/unit/forecast/test_forecast_whatif.c
 */
#include "forecast_int.h"

#define GUEST_ROOM 1u

struct pairs {
    struct forecast_fork fork;
    struct mr_workload_info *infos; /* of the watched ones, as they are now */
    uint64_t *starts[2];            /* [changed][watched * samples + sample] */
    uint32_t *stops[2];             /* [changed][watched], over all samples */
    uint64_t guest_starts[MR_FORECAST_SAMPLES_MAX], guest_ends[MR_FORECAST_SAMPLES_MAX];
    uint64_t guest_costs[MR_FORECAST_SAMPLES_MAX];
    uint32_t watched, left_out, samples, cut;
    uint64_t guest, steps, steps_each;
    const struct mr_forecast_change *change;
};

/* --- memory -------------------------------------------------------------------------------- */

static size_t aligned(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static size_t beside_bytes(void)
{
    size_t starts = (size_t)MR_FORECAST_WATCHED * MR_FORECAST_SAMPLES_MAX * sizeof(uint64_t);
    return aligned(MR_FORECAST_WATCHED * sizeof(struct mr_workload_info)) + 2 * aligned(starts) +
           2 * aligned(MR_FORECAST_WATCHED * sizeof(uint32_t));
}

size_t mr_forecast_whatif_bytes(const struct mr_core_limits *limits)
{
    size_t bytes = mr_forecast_bytes(limits);
    return bytes == 0 ? 0 : aligned(bytes) + beside_bytes();
}

static void *carve(uint8_t **at, size_t bytes)
{
    void *p = *at;
    *at += aligned(bytes);
    return p;
}

static void place(struct pairs *p, void *scratch, const struct mr_core_limits *limits)
{
    uint8_t *at = (uint8_t *)scratch + aligned(mr_forecast_bytes(limits));
    size_t starts = (size_t)MR_FORECAST_WATCHED * MR_FORECAST_SAMPLES_MAX * sizeof(uint64_t);
    p->infos = carve(&at, MR_FORECAST_WATCHED * sizeof *p->infos);
    for (uint32_t i = 0; i < 2; i++) {
        p->starts[i] = carve(&at, starts);
        p->stops[i] = carve(&at, MR_FORECAST_WATCHED * sizeof(uint32_t));
        memset(p->stops[i], 0, MR_FORECAST_WATCHED * sizeof(uint32_t));
    }
}

/* --- who is compared ------------------------------------------------------------------------- */

static void watched_find(struct pairs *p, const struct mr_core *core)
{
    struct mr_workload_info info = {.id = {0}};
    while (mr_core_workload_next(core, info.id, &info) == 0) {
        if (mr_state_final(info.state) || info.kind == MR_KIND_RESERVATION) continue;
        if (p->watched == MR_FORECAST_WATCHED - GUEST_ROOM)
            p->left_out++;
        else
            p->infos[p->watched++] = info;
    }
}

static void fork_begin(struct pairs *p, uint32_t sample, bool changed)
{
    struct forecast_fork *fork = &p->fork;
    fork->watched_count = fork->waiting = 0;
    for (uint32_t i = 0; i < p->watched; i++) {
        forecast_watch_add(fork, &p->infos[i]);
    }
    if (changed && p->guest != 0) {
        const struct mr_workload_info guest = {.id = {p->guest}, .state = MR_STATE_PENDING};
        forecast_watch_add(fork, &guest);
        fork->watched[fork->watched_count - 1].wanted = true;
        fork->waiting++;
    }
    fork->no_arrivals = p->change->options.no_arrivals;
    forecast_fork_begin(fork, p->change->options.seed * MR_FORECAST_SAMPLES_MAX + sample,
                        p->change->options.now_us);
    if (!changed) return;
    struct mr_event event = p->change->event;
    fork->guest = p->guest;
    fork->answered.v = 0;
    fork->error = 0;
    forecast_event(fork, &event);
}

/* --- the futures ------------------------------------------------------------------------------ */

static void future(struct pairs *p, uint32_t sample, bool changed)
{
    struct forecast_fork *fork = &p->fork;
    fork_begin(p, sample, changed);
    fork->steps_max = p->steps_each;
    forecast_drive(fork);
    p->steps += fork->steps;
    p->cut += fork->cut && changed;
    for (uint32_t i = 0; i < p->watched; i++) {
        p->starts[changed][(size_t)i * p->samples + sample] = fork->watched[i].started_us;
        p->stops[changed][i] += fork->watched[i].stopped;
    }
    if (!changed || p->guest == 0) return;
    const struct forecast_watch *guest = &fork->watched[p->watched];
    p->guest_starts[sample] = guest->started_us;
    p->guest_ends[sample] = guest->ended_us;
    p->guest_costs[sample] = (uint64_t)MR_MAX(guest->charged_nusd, (int64_t)0);
}

/* --- comparing -------------------------------------------------------------------------------- */

static int64_t difference(const struct pairs *p, uint64_t before_us, uint64_t after_us)
{
    before_us = MR_MIN(before_us, p->fork.until_us);
    after_us = MR_MIN(after_us, p->fork.until_us);
    return (int64_t)after_us - (int64_t)before_us;
}

static int64_t middle_of(int64_t *values, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        int64_t value = values[i];
        uint32_t at = i;
        for (; at > 0 && values[at - 1] > value; at--) {
            values[at] = values[at - 1];
        }
        values[at] = value;
    }
    return values[count / 2];
}

/* False: nothing differs. */
static bool shift_of(struct pairs *p, uint32_t watched, struct mr_forecast_shift *ret)
{
    uint64_t *before = &p->starts[0][(size_t)watched * p->samples];
    uint64_t *after = &p->starts[1][(size_t)watched * p->samples];
    int64_t apart[MR_FORECAST_SAMPLES_MAX], sum = 0;
    *ret = (struct mr_forecast_shift){.workload = p->infos[watched].id,
                                      .stops_before = p->stops[0][watched],
                                      .stops_after = p->stops[1][watched]};
    for (uint32_t i = 0; i < p->samples; i++) {
        apart[i] = difference(p, before[i], after[i]);
        sum += apart[i] / (int64_t)p->samples;
        ret->later += apart[i] > 0;
        ret->earlier += apart[i] < 0;
        ret->never_before += before[i] == MR_FORECAST_NEVER;
        ret->never_after += after[i] == MR_FORECAST_NEVER;
    }
    ret->mean_us = sum;
    ret->middle_us = middle_of(apart, p->samples);
    forecast_band_of(before, p->samples, &ret->before);
    forecast_band_of(after, p->samples, &ret->after);
    return ret->later + ret->earlier > 0 || ret->stops_before != ret->stops_after;
}

static void compare(struct pairs *p, struct mr_forecast_whatif *ret)
{
    struct mr_forecast_shift shift, *shifts = p->change->shifts;
    uint32_t room = p->change->shift_room, count = 0;
    for (uint32_t i = 0; i < p->watched; i++) {
        if (!shift_of(p, i, &shift)) continue;
        ret->changed++;
        uint32_t at = count;
        if (count == room && (room == 0 || shift.mean_us <= shifts[room - 1].mean_us)) continue;
        if (count < room)
            count++;
        else
            at = room - 1;
        for (; at > 0 && shifts[at - 1].mean_us < shift.mean_us; at--) {
            shifts[at] = shifts[at - 1];
        }
        shifts[at] = shift;
    }
    ret->shift_count = count;
}

static bool may_be_asked(enum mr_event_kind kind)
{
    return kind == MR_EVENT_SUBMIT || kind == MR_EVENT_RESERVE || kind == MR_EVENT_CANCEL ||
           kind == MR_EVENT_SCALE || kind == MR_EVENT_TENANT_SET || kind == MR_EVENT_NODE_STATE ||
           kind == MR_EVENT_NODE_SET;
}

int mr_forecast_whatif(const struct mr_core *core, const struct mr_forecast_learned *learned,
                       const struct mr_forecast_change *change, void *scratch, size_t bytes,
                       struct mr_forecast_whatif *ret)
{
    const struct mr_forecast_options *options = &change->options;
    const enum mr_event_kind kind = change->event.kind;
    struct pairs p = {.change = change};
    if (!may_be_asked(kind)) return MR_EINVALID;
    if (bytes < mr_forecast_whatif_bytes(mr_core_limits_of(core))) return MR_ENO_SPACE;
    int error = forecast_prepare(&p.fork, core, learned, options, scratch, bytes);
    if (error != 0) return error;
    place(&p, scratch, mr_core_limits_of(core));
    p.samples = options->samples != 0 ? options->samples : MR_FORECAST_SAMPLES;
    p.samples = MR_MIN(p.samples, MR_FORECAST_SAMPLES_MAX);
    p.steps_each = options->steps_max != 0 ? options->steps_max : FORECAST_STEPS;
    p.steps_each = MR_MAX(p.steps_each / (2 * p.samples), 1u);
    watched_find(&p, core);
    /* Which number a submission gets, or why it is refused. */
    fork_begin(&p, 0, true);
    *ret = (struct mr_forecast_whatif){.error = p.fork.error, .reason = p.fork.reason};
    if (p.fork.error != 0) return 0;
    if (kind == MR_EVENT_SUBMIT || kind == MR_EVENT_RESERVE) p.guest = p.fork.answered.v;
    for (uint32_t i = 0; i < p.samples; i++) {
        future(&p, i, false);
        future(&p, i, true);
    }
    *ret = (struct mr_forecast_whatif){.guest = {p.guest},
                                       .watched = p.watched,
                                       .left_out = p.left_out,
                                       .samples = p.samples,
                                       .cut = p.cut,
                                       .steps = p.steps,
                                       .unknown = forecast_unknown(core, p.fork.model)};
    compare(&p, ret);
    if (p.guest == 0) return 0;
    forecast_band_of(p.guest_starts, p.samples, &ret->start);
    forecast_band_of(p.guest_ends, p.samples, &ret->end);
    forecast_sort(p.guest_costs, p.samples);
    ret->cost_nusd = (int64_t)p.guest_costs[p.samples / 2];
    return 0;
}
