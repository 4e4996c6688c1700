/* SPDX-License-Identifier: Apache-2.0 */
/* Gives waiting requests a place: which lane, which cells they can share, who must wait.
 *
 * Owns:       nothing.
 * Invariants: (1) cells are shared within one tenant only; (2) order is priority, then arrival; a
 *             request that waits for a running prefill of its own prefix lets others pass; (3) at
 *             most `slots` requests run.
 * Cost:       O(waiting x sequences x prefix), only while a slot is free.
 * Idea:       work/infer/README.md, "Who shares what".  Tests: tests/unit/infer/test_infer_worker.c
 */
#include "infer_int.h"

#include <stdlib.h>

#define WAIT_GAIN_MIN   16u   /* tokens that another prefill must save us before we wait for it */
#define GROWTH_EXPECTED 256u  /* tokens that an answer without a limit is expected to have */
#define COPY_BYTES_US   3000u /* bytes that memory copies in a microsecond, on the safe side */

static int compare_waiting(const void *a, const void *b)
{
    const struct infer_request *x = *(struct infer_request *const *)a;
    const struct infer_request *y = *(struct infer_request *const *)b;
    if (x->priority != y->priority) return x->priority < y->priority ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static size_t waiting_list(struct infer_engine *engine, struct infer_request **list)
{
    size_t count = 0;
    for (size_t i = 0; i < MR_WIRE_UNSETTLED_MAX; i++) {
        struct infer_request *request = &engine->requests[i];
        if (request->used && !request->running) {
            list[count++] = request;
        }
    }
    qsort(list, count, sizeof(list[0]), compare_waiting);
    return count;
}

/* Sequences in lanes whose cells `seq` might share; index i of donors is seqs[i]. */
static size_t donors_list(struct infer_engine *engine, const struct infer_seq *seq,
                          struct infer_donor *donors, struct infer_seq **seqs)
{
    size_t count = 0;
    if (!engine->model.can_trim) return 0;
    for (size_t i = 0; i < INFER_SEQS_MAX; i++) {
        struct infer_seq *s = &engine->seqs[i];
        if (!s->used || s == seq || s->lane == NULL) {
            continue;
        }
        donors[count] = (struct infer_donor){s->tokens, s->token_count, s->computed_count,
                                             s->tenant, s->request != NULL};
        seqs[count++] = s;
    }
    return count;
}

/* Another that waits starts with the same long prefix: together they are a family from the start.
 */
static bool family_waits(struct infer_engine *engine, const struct infer_request *request)
{
    const struct infer_seq *seq = request->seq;
    for (size_t i = 0; i < MR_WIRE_UNSETTLED_MAX; i++) {
        const struct infer_request *other = &engine->requests[i];
        if (other->used && !other->running && other != request &&
            other->tenant == request->tenant &&
            infer_prefix_common(seq->tokens, seq->token_count - 1, other->seq->tokens,
                                other->seq->token_count) >= INFER_FAMILY_MIN) {
            return true;
        }
    }
    return false;
}

static uint32_t need_cells(const struct infer_request *request)
{
    uint32_t left = request->max_tokens - request->usage.completion_tokens;
    return request->seq->token_count + MR_MIN(left, GROWTH_EXPECTED);
}

/* A free id in the lane, dropping what is parked there if it must; -1 when there is none. */
static int32_t id_take(struct infer_engine *engine, struct infer_lane *lane)
{
    int32_t id = infer_lane_free_id(lane);
    if (id < 0 && infer_engine_room(engine, lane)) {
        id = infer_lane_free_id(lane);
    }
    return id;
}

/* True when `more` cells fit, now or after dropping parked sequences other than `keep`. */
static bool cells_fit(struct infer_engine *engine, struct infer_lane *lane, uint32_t more,
                      const struct infer_seq *keep)
{
    if (!lane->unified) return more <= lane->cells;
    while (infer_lane_used(lane) + more > lane->cells) {
        struct infer_seq *parked = infer_lane_parked(lane);
        if (parked == NULL || parked == keep) break;
        infer_engine_seq_drop(engine, parked);
    }
    return infer_lane_used(lane) + more <= lane->cells || infer_lane_running(lane) == 0;
}

/* Saved cells go into the lane, over what is parked there if they must. What is used of a lane is
 * only an estimate, so it may be full all the same: then the tokens are computed again. */
static void restore(struct infer_engine *engine, struct infer_seq *seq)
{
    while (infer_lane_restore(seq) != 0) {
        if (!infer_engine_room(engine, seq->lane)) {
            infer_lane_saved_drop(seq);
            return;
        }
    }
}

/* Moves a running sequence, cells and all, to another lane. false: it stays where it was. */
static bool seq_move(struct infer_engine *engine, struct infer_seq *seq, struct infer_lane *lane)
{
    if (!cells_fit(engine, lane, seq->token_count, seq)) return false;
    int32_t id = id_take(engine, lane);
    if (id < 0 || infer_lane_save(seq) != 0) return false;
    infer_lane_detach(seq);
    infer_lane_attach(lane, seq, id);
    restore(engine, seq);
    return true;
}

static void admitted(struct infer_engine *engine, struct infer_request *request, uint32_t cached)
{
    request->running = true;
    request->seq->touched = ++engine->ticks;
    engine->running++;
    engine->waiting--;
    if (request->admitted_us == 0) {
        request->admitted_us = infer_now_us();
        request->usage.cached_tokens = MR_MIN(cached, request->prompt_count);
        request->usage.prompt_tokens = request->usage.cached_tokens;
        infer_meter_update(&engine->meter, request->meter_slot, &request->usage);
    }
}

/* The request's sequence takes the place of a parked one and keeps its first `count` cells. */
static void take_over(struct infer_engine *engine, struct infer_request *request,
                      struct infer_seq *parked, uint32_t count)
{
    struct infer_seq *seq = request->seq;
    infer_lane_trim(parked, count);
    seq->lane = parked->lane;
    seq->id = parked->id;
    seq->computed_count = parked->computed_count;
    seq->shared_count = MR_MIN(parked->shared_count, parked->computed_count);
    seq->lane->by_id[seq->id] = seq;
    parked->lane = NULL;
    infer_engine_seq_drop(engine, parked);
    engine->saved_bytes -= seq->saved_bytes;
    infer_lane_saved_drop(seq);
    admitted(engine, request, seq->computed_count);
}

/* A place of its own in `lane`; `donor` (same lane, or NULL) gives `count` tokens' cells. */
static bool place(struct infer_engine *engine, struct infer_request *request,
                  struct infer_lane *lane, struct infer_seq *donor, uint32_t count)
{
    struct infer_seq *seq = request->seq;
    if (donor != NULL) {
        donor->touched = ++engine->ticks; /* so that it is not the one to be dropped */
    }
    uint32_t more = need_cells(request) - (lane->unified ? count : 0u);
    if (!cells_fit(engine, lane, more, donor)) return false;
    int32_t id = id_take(engine, lane);
    if (id < 0) return false;
    if (donor != NULL && donor->lane != lane) {
        donor = NULL; /* it was dropped to make room */
    }
    infer_lane_attach(lane, seq, id);
    if (seq->saved != NULL) {
        engine->saved_bytes -= seq->saved_bytes;
        restore(engine, seq);
    } else if (donor != NULL && count > 0) {
        infer_lane_fork(donor, seq, count);
    }
    admitted(engine, request, seq->computed_count);
    return true;
}

/* Between streams a whole buffer is copied; is that quicker than computing `count` tokens? */
static bool copy_pays(const struct infer_engine *engine, const struct infer_lane *lane,
                      uint32_t count)
{
    if (lane->unified) return count >= INFER_PREFIX_MIN;
    double copy_us =
        (double)(lane->cells * engine->model.kv_bytes_per_token) / (double)COPY_BYTES_US;
    return count >= INFER_PREFIX_MIN && (double)count * engine->pace.prefill_token_us > copy_us;
}

static struct infer_lane *lane_choose(struct infer_engine *engine,
                                      const struct infer_request *request)
{
    struct infer_lane *streams = &engine->lanes[0];
    if (streams->unified) return streams;
    if (need_cells(request) > streams->cells) return infer_engine_family(engine);
    if (request->seq->token_count > INFER_FAMILY_MIN && family_waits(engine, request)) {
        struct infer_lane *family = infer_engine_family(engine);
        return family != NULL ? family : streams;
    }
    return streams;
}

/* Two live streams with a long common prefix belong into one lane. */
static bool join_family(struct infer_engine *engine, struct infer_request *request,
                        struct infer_seq *donor, uint32_t count)
{
    if (!donor->lane->unified) {
        struct infer_lane *family = infer_engine_family(engine);
        if (family == NULL || !seq_move(engine, donor, family)) return false;
        count = MR_MIN(count, donor->computed_count);
    }
    return place(engine, request, donor->lane, donor, count);
}

static bool try_admit(struct infer_engine *engine, struct infer_request *request)
{
    struct infer_seq *seq = request->seq;
    struct infer_donor donors[INFER_SEQS_MAX];
    struct infer_seq *seqs[INFER_SEQS_MAX];
    size_t count = donors_list(engine, seq, donors, seqs);
    struct infer_prefix_match match =
        infer_prefix_find(seq->tenant, seq->tokens, seq->token_count, donors, count);
    if (match.later >= 0 && match.later_count >= match.now_count + WAIT_GAIN_MIN &&
        match.later_count >= seq->saved_count + WAIT_GAIN_MIN) {
        return false; /* the prefix is being computed right now: once is enough */
    }
    if (match.now < 0 || match.now_count <= seq->saved_count) {
        struct infer_lane *lane = lane_choose(engine, request);
        return lane != NULL && place(engine, request, lane, NULL, 0);
    }
    struct infer_seq *donor = seqs[match.now];
    bool live = donor->request != NULL;
    if (live && match.now_count >= INFER_FAMILY_MIN &&
        join_family(engine, request, donor, match.now_count)) {
        return true;
    }
    /* A short prefix is no reason to go where others' cells are read, too. */
    bool among = donor->lane == &engine->lanes[0] || match.now_count >= INFER_FAMILY_MIN;
    bool fits = donor->lane->unified || need_cells(request) <= donor->lane->cells;
    /* A parked sequence of which less than half would be kept is worth more where it is. Those that
     * wait for the same prefix then share with this one. */
    if (!live && among && fits && match.now_count * 2 >= donor->computed_count) {
        take_over(engine, request, donor, match.now_count);
        return true;
    }
    /* Where the prefix lies already; another lane would compute it again. */
    if (among && donor->lane->unified && match.now_count >= INFER_PREFIX_MIN &&
        place(engine, request, donor->lane, donor, match.now_count)) {
        return true;
    }
    struct infer_lane *lane = lane_choose(engine, request);
    if (lane == NULL) return false;
    bool same = donor->lane == lane && copy_pays(engine, lane, match.now_count);
    return place(engine, request, lane, same ? donor : NULL, same ? match.now_count : 0);
}

/* A request of higher priority takes the slot of the least important one that runs. */
static bool preempt_for(struct infer_engine *engine, const struct infer_request *request)
{
    struct infer_victim victims[MR_WIRE_UNSETTLED_MAX];
    struct infer_request *list[MR_WIRE_UNSETTLED_MAX];
    size_t count = 0;
    for (size_t i = 0; i < MR_WIRE_UNSETTLED_MAX; i++) {
        struct infer_request *other = &engine->requests[i];
        if (other->used && other->running && other->priority > request->priority) {
            victims[count] = (struct infer_victim){other->priority, other->seq->computed_count,
                                                   other->arrived_us};
            list[count++] = other;
        }
    }
    if (count == 0) return false;
    infer_engine_evict(engine, list[infer_plan_victim(victims, count)]);
    return true;
}

void infer_admit(struct infer_engine *engine)
{
    struct infer_request *list[MR_WIRE_UNSETTLED_MAX];
    size_t count = waiting_list(engine, list);
    for (size_t i = 0; i < count; i++) {
        if (engine->running >= engine->config.slots && !preempt_for(engine, list[i])) {
            return;
        }
        (void)try_admit(engine, list[i]); /* else it waits for the next round */
    }
}
