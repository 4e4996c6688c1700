/* SPDX-License-Identifier: Apache-2.0 */
/* One fork: its memory, what is due in it, whom it follows, and how it begins.
 *
 * Owns:       the copy of the block and the tables beside it, in the caller's scratch.
 * Invariants: (1) what is due is never in the past;
 *             (2) a draw depends on the sample, the workload and its run only, so two forks of one
 *                 sample differ by their events and not by their luck.
 * Never:      I/O, clock, float, allocation, recursion; a write to the live block.
 * Cost:       beginning: a copy of the block, O(live leases) steps.
 * Idea:       docs/internals/forecast.md   Tests: tests/unit/forecast/test_forecast_when.c
 */
#include "forecast_int.h"

/* --- memory -------------------------------------------------------------------------------- */

static size_t aligned(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static uint32_t due_room(const struct mr_core_limits *limits)
{
    return limits->leases * 3 + 1024;
}

static uint32_t told_room(const struct mr_core_limits *limits)
{
    return limits->leases * 2 + 256;
}

size_t forecast_fork_bytes(const struct mr_core_limits *limits)
{
    return aligned(mr_core_bytes(limits)) +
           aligned(due_room(limits) * sizeof(struct forecast_due)) +
           aligned(told_room(limits) * sizeof(struct forecast_told)) +
           aligned(MR_FORECAST_WATCHED * sizeof(struct forecast_watch));
}

static void *carve(uint8_t **scratch, size_t *left, size_t bytes)
{
    void *p = *scratch;
    MR_ASSERT(aligned(bytes) <= *left);
    *scratch += aligned(bytes);
    *left -= aligned(bytes);
    return p;
}

bool forecast_fork_place(struct forecast_fork *fork, const struct mr_core_limits *limits,
                         uint8_t **scratch, size_t *bytes)
{
    if (*bytes < forecast_fork_bytes(limits)) return false;
    fork->block_bytes = mr_core_bytes(limits);
    fork->due_room = due_room(limits);
    fork->told_room = told_room(limits);
    fork->watched_room = MR_FORECAST_WATCHED;
    fork->block = carve(scratch, bytes, fork->block_bytes);
    fork->due = carve(scratch, bytes, fork->due_room * sizeof *fork->due);
    fork->told = carve(scratch, bytes, fork->told_room * sizeof *fork->told);
    fork->watched = carve(scratch, bytes, fork->watched_room * sizeof *fork->watched);
    return true;
}

/* --- what is due --------------------------------------------------------------------------- */

static bool before(const struct forecast_due *a, const struct forecast_due *b)
{
    return a->time_us != b->time_us ? a->time_us < b->time_us : a->order < b->order;
}

void forecast_due_push(struct forecast_fork *fork, struct forecast_due due)
{
    if (fork->due_count == fork->due_room) {
        fork->overflow = true;
        return;
    }
    MR_INVARIANT(1, due.time_us >= fork->now_us);
    due.order = fork->order_next++;
    uint32_t at = fork->due_count++;
    while (at > 0 && before(&due, &fork->due[(at - 1) / 2])) {
        fork->due[at] = fork->due[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    fork->due[at] = due;
}

struct forecast_due forecast_due_pop(struct forecast_fork *fork)
{
    MR_ASSERT(fork->due_count > 0);
    struct forecast_due first = fork->due[0], last = fork->due[--fork->due_count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= fork->due_count) break;
        if (child + 1 < fork->due_count && before(&fork->due[child + 1], &fork->due[child])) {
            child++;
        }
        if (!before(&fork->due[child], &last)) break;
        fork->due[at] = fork->due[child];
        at = child;
    }
    fork->due[at] = last;
    return first;
}

/* --- whom it follows ----------------------------------------------------------------------- */

void forecast_watch_add(struct forecast_fork *fork, const struct mr_workload_info *info)
{
    MR_ASSERT(fork->watched_count < fork->watched_room);
    MR_ASSERT(fork->watched_count == 0 || fork->watched[fork->watched_count - 1].id < info->id.v);
    bool runs = info->state == MR_STATE_RUNNING;
    fork->watched[fork->watched_count++] =
        (struct forecast_watch){.id = info->id.v,
                                .started_us = runs ? info->started_us : MR_FORECAST_NEVER,
                                .ended_us = MR_FORECAST_NEVER,
                                .tasks = info->tasks,
                                .tasks_least = runs ? info->tasks : UINT32_MAX,
                                .waits = !runs};
    if (!runs) fork->waiting++;
}

struct forecast_watch *forecast_watch_find(const struct forecast_fork *fork, uint64_t id)
{
    uint32_t low = 0, high = fork->watched_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (fork->watched[middle].id == id) return &fork->watched[middle];
        if (fork->watched[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* Those who are submitted in a fork with a guest have one number more than in one without. */
uint64_t forecast_draw(const struct forecast_fork *fork, uint64_t workload, uint32_t run)
{
    uint64_t key = workload;
    if (fork->guest != 0 && workload == fork->guest) key = UINT64_MAX;
    if (fork->guest != 0 && workload > fork->guest) key--;
    return mr_hash_mix(fork->seed ^ mr_hash_mix(key * 2654435761u + run)) >> 16;
}

/* --- beginning ----------------------------------------------------------------------------- */

/* Whose arrivals are repeated: all that are known, or only the newest; which, each sample draws. */
static void arrivals_begin(struct forecast_fork *fork)
{
    const struct mr_forecast_learned *learned = fork->learned;
    uint64_t known = learned->arrived > 0 ? MR_MIN(learned->arrived - 1, MR_FORECAST_ARRIVALS) : 0;
    uint32_t window = (uint32_t)known >> mr_prng_below(&fork->prng, 4);
    window = MR_MAX(window, MR_MIN((uint32_t)known, 32u));
    fork->arrives_us = UINT64_MAX;
    uint64_t span_us = 0, all_us = 0;
    for (uint32_t i = 0; i < known; i++) {
        uint64_t at = (learned->arrived - 1 - i) % MR_FORECAST_ARRIVALS;
        if (i < window) span_us += learned->arrivals[at].gap_us;
        all_us += learned->arrivals[at].gap_us;
    }
    if (fork->no_arrivals || span_us == 0) {
        fork->no_arrivals = true;
        return;
    }
    /* The time since the newest one belongs to what was seen. */
    uint64_t since_us = fork->now_us > learned->arrived_us ? fork->now_us - learned->arrived_us : 0;
    fork->arrival_window = window;
    fork->arrival_first = (uint32_t)((learned->arrived - window) % MR_FORECAST_ARRIVALS);
    fork->arrival_at = (uint32_t)mr_prng_below(&fork->prng, window);
    fork->arrival_scale = MR_MIN(
        1000 + mr_mul_div_u64(MR_MIN(since_us, span_us * 1000), 1000, span_us), (uint64_t)1000000);
    /* What was seen for an hour says nothing of next week. */
    fork->arrival_until_us = fork->now_us + MR_MIN(2 * (all_us + since_us), UINT64_MAX / 4);
    fork->arrives_us = fork->now_us;
    forecast_arrival_next(fork);
}

static void lease_adopt(struct forecast_fork *fork, const struct mr_lease_info *lease)
{
    if (lease->state == MR_LEASE_STOPPING) {
        struct forecast_told told = {
            .workload = lease->workload.v, .lease = lease->id.v, .run = lease->start.run};
        forecast_lease_stops(fork, &told);
        return;
    }
    struct forecast_told told = {.workload = lease->workload.v,
                                 .lease = lease->id.v,
                                 .run = lease->start.run,
                                 .rank_first = lease->start.rank_first,
                                 .start = true};
    if (lease->state == MR_LEASE_STARTING) {
        forecast_lease_starts(fork, &told);
    } else if (lease->start.rank_first == 0) {
        forecast_run_lasts(fork, lease->workload.v, lease->start.run);
    }
}

void forecast_fork_begin(struct forecast_fork *fork, uint64_t seed, uint64_t now_us)
{
    struct mr_lease_info lease;
    uint32_t cursor = 0;
    memcpy(fork->block, fork->live, fork->block_bytes);
    int error = mr_core_open(fork->block, fork->block_bytes, false, &fork->core);
    MR_ASSERT(error == 0);
    fork->now_us = MR_MAX(now_us, mr_core_now_us(fork->live));
    fork->due_count = fork->told_first = fork->told_count = 0;
    fork->order_next = fork->steps = 0;
    fork->guest = 0;
    fork->cut = fork->overflow = false;
    fork->seed = mr_hash_mix(seed + 0x9e3779b97f4a7c15u);
    mr_prng_init(&fork->prng, fork->seed);
    struct mr_event tick = {.kind = MR_EVENT_TICK};
    forecast_event(fork, &tick);
    while (mr_core_lease_next(fork->live, &cursor, &lease) == 0) {
        lease_adopt(fork, &lease);
    }
    forecast_settle(fork);
    forecast_delivery_next(fork);
    arrivals_begin(fork);
}
