/* SPDX-License-Identifier: Apache-2.0 */
/* Requests from submission to END: who waits, who runs, what each must be billed.
 *
 * Owns:       requests, sequences, lanes, model and meter of one worker.
 * Invariants: (1) a request that was taken gets exactly one END; (2) a request is running exactly
 *             when its sequence has a place in a lane; (3) the meter is ahead of what was sent;
 *             (4) the counts of TOKENS sum to the completion tokens of an END that was not
 *             cancelled.
 * Thread:     the worker's only one. The sink is called inside step, submit and cancel, and must
 *             not call back.
 * Ends:       infer_engine_free.
 * Idea:       work/infer/README.md   Tests: tests/unit/infer/test_infer_worker.c
 */
#include "infer_int.h"

#include <stdio.h>
#include <unistd.h>

#define OUT_BYTES_MAX (4u << 20)

int infer_engine_new(const struct infer_config *config, const struct infer_sink *sink,
                     struct infer_engine **ret_engine)
{
    struct infer_engine *engine = mr_alloc_zero(sizeof(*engine));
    if (engine == NULL) return MR_ENO_MEMORY;
    engine->config = *config;
    engine->sink = *sink;
    mr_buf_init(&engine->out, OUT_BYTES_MAX);
    int error = infer_meter_open(&engine->meter, config->run_dir);
    if (error != 0) {
        mr_buf_done(&engine->out);
        mr_free(engine);
        return error;
    }
    *ret_engine = engine;
    return 0;
}

/* Cells of one stream and of a family, from the memory that we were given or allow ourselves. */
static void capacity_plan(struct infer_engine *engine)
{
    const struct infer_model *model = &engine->model;
    uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t given = (uint64_t)engine->config.mem_mib << 20;
    uint64_t ours = given != 0 ? MR_MIN(given, ram) : ram / 2;
    engine->kv_bytes_max = ours / 8 * 5;
    engine->host_bytes_max = ours / 8;
    uint64_t wanted = engine->config.context != 0 ? engine->config.context : model->context_train;
    uint64_t most = MR_MAX(ours / 4 / model->kv_bytes_per_token, 512u);
    uint64_t context = MR_MAX(MR_MIN(wanted, most), 256u);
    engine->context_tokens = (uint32_t)((context + 255) / 256 * 256);
    uint64_t budget = MR_MIN(INFER_KV_BYTES_DEFAULT, ours / 8 * 3);
    uint64_t cells = budget / model->kv_bytes_per_token / engine->config.slots / 256 * 256;
    engine->stream_cells = (uint32_t)MR_MIN(MR_MAX(cells, 256u), (uint64_t)engine->context_tokens);
}

/* Bytes of all caches that are open. */
static uint64_t lanes_bytes(const struct infer_engine *engine)
{
    uint64_t cells = 0;
    for (size_t i = 0; i < engine->lane_count; i++) {
        const struct infer_lane *lane = &engine->lanes[i];
        cells += (uint64_t)lane->cells * (lane->unified ? 1u : lane->ids);
    }
    return cells * engine->model.kv_bytes_per_token;
}

int infer_engine_load(struct infer_engine *engine, const struct infer_choice *choice,
                      infer_progress_fn progress, void *context)
{
    int error = infer_model_load(&engine->model, &engine->config, choice, progress, context);
    if (error != 0) return error;
    capacity_plan(engine);
    bool streams = engine->model.choice.streams;
    error = infer_step_init(engine);
    if (error == 0) {
        error = infer_lane_open(&engine->lanes[0], &engine->model, &engine->config, !streams,
                                engine->config.slots,
                                streams ? engine->stream_cells : engine->context_tokens);
    }
    if (error != 0) {
        (void)fprintf(stderr,
                      "millrace-infer: no memory for the cache of %u streams; use a smaller "
                      "--context or --slots (%s)\n",
                      engine->config.slots, infer_log_last());
        return error;
    }
    engine->lane_count = 1;
    engine->ready = true;
    return 0;
}

/* Sequences, caches and weights; what was not loaded is fine. */
static void engine_unload(struct infer_engine *engine)
{
    engine->ready = false;
    for (size_t i = 0; i < INFER_SEQS_MAX; i++) {
        if (engine->seqs[i].used) {
            infer_engine_seq_drop(engine, &engine->seqs[i]);
        }
    }
    for (size_t i = 0; i < engine->lane_count; i++) {
        infer_lane_close(&engine->lanes[i]);
    }
    infer_step_done(engine);
    infer_model_free(&engine->model);
    engine->lane_count = 0;
}

int infer_engine_reload(struct infer_engine *engine, const struct infer_choice *choice)
{
    MR_ASSERT(engine->running + engine->waiting == 0);
    engine_unload(engine);
    engine->pace = (struct infer_pace){0};
    return infer_engine_load(engine, choice, NULL, NULL);
}

void infer_engine_free(struct infer_engine *engine)
{
    if (engine == NULL) {
        return;
    }
    for (size_t i = 0; i < MR_WIRE_UNSETTLED_MAX; i++) {
        struct infer_request *request = &engine->requests[i];
        if (request->used) {
            infer_engine_finish(engine, request, MR_FINISH_CANCELLED, 0, MR_STR(""));
        }
    }
    engine_unload(engine);
    infer_meter_close(&engine->meter);
    mr_buf_done(&engine->out);
    mr_free(engine);
}

struct infer_seq *infer_engine_seq_new(struct infer_engine *engine)
{
    struct infer_seq *oldest = NULL;
    for (size_t i = 0; i < INFER_SEQS_MAX; i++) {
        struct infer_seq *seq = &engine->seqs[i];
        if (!seq->used) {
            *seq = (struct infer_seq){.used = true, .touched = ++engine->ticks};
            return seq;
        }
        if (seq->request == NULL && (oldest == NULL || seq->touched < oldest->touched)) {
            oldest = seq;
        }
    }
    MR_ASSERT(oldest != NULL); /* there are more sequences than requests */
    infer_engine_seq_drop(engine, oldest);
    *oldest = (struct infer_seq){.used = true, .touched = ++engine->ticks};
    return oldest;
}

void infer_engine_seq_drop(struct infer_engine *engine, struct infer_seq *seq)
{
    infer_lane_detach(seq);
    engine->saved_bytes -= seq->saved_bytes;
    infer_lane_saved_drop(seq);
    mr_free(seq->tokens);
    *seq = (struct infer_seq){0};
}

bool infer_engine_room(struct infer_engine *engine, struct infer_lane *lane)
{
    struct infer_seq *seq = infer_lane_parked(lane);
    if (seq == NULL) return false;
    infer_engine_seq_drop(engine, seq);
    return true;
}

void infer_engine_evict(struct infer_engine *engine, struct infer_request *request)
{
    struct infer_seq *seq = request->seq;
    MR_INVARIANT(2, request->running && seq->lane != NULL);
    /* Without host memory for it the tokens are computed again later: slower, nothing lost. */
    if (seq->computed_count > 0 && engine->saved_bytes < engine->host_bytes_max &&
        infer_lane_save(seq) == 0) {
        engine->saved_bytes += seq->saved_bytes;
    }
    infer_lane_detach(seq);
    request->running = false;
    engine->running--;
    engine->waiting++;
    engine->evictions++;
}

struct infer_lane *infer_engine_family(struct infer_engine *engine)
{
    struct infer_lane *best = NULL;
    for (size_t i = 0; i < engine->lane_count; i++) {
        struct infer_lane *lane = &engine->lanes[i];
        if (lane->unified &&
            (best == NULL || infer_lane_running(lane) < infer_lane_running(best))) {
            best = lane;
        }
    }
    /* A family alone in its lane is fastest; a second lane costs another cache's memory. */
    bool open = best == NULL || (infer_lane_running(best) > 0 && engine->model.choice.streams);
    uint64_t more = engine->context_tokens * engine->model.kv_bytes_per_token;
    if (!open || engine->lane_count == INFER_LANES_MAX) return best;
    /* The first one always: a long prompt fits nowhere else. */
    if (best != NULL && lanes_bytes(engine) + more > engine->kv_bytes_max) return best;
    struct infer_lane *lane = &engine->lanes[engine->lane_count];
    if (infer_lane_open(lane, &engine->model, &engine->config, true, engine->config.slots,
                        engine->context_tokens) != 0) {
        return best;
    }
    engine->lane_count++;
    return lane;
}

/* --- submission ------------------------------------------------------------------------------- */

static int refuse(struct infer_engine *engine, struct mr_wire_end *ret_refused, uint32_t tenant,
                  int error, const char *text)
{
    if (text != engine->note) {
        (void)snprintf(engine->note, sizeof(engine->note), "%s", text);
    }
    *ret_refused = (struct mr_wire_end){
        .tenant = tenant,
        .finish = MR_FINISH_ERROR,
        .error = error,
        .text = mr_str_from(engine->note),
    };
    return error;
}

static struct infer_request *request_slot(struct infer_engine *engine)
{
    for (size_t i = 0; i < MR_WIRE_UNSETTLED_MAX; i++) {
        if (!engine->requests[i].used) return &engine->requests[i];
    }
    return NULL;
}

static int stops_copy(struct infer_request *request, const struct mr_chat *chat)
{
    mr_arena_init(&request->arena, MR_CHAT_STOPS_MAX * (MR_CHAT_STOP_BYTES_MAX + 64u) + 4096u);
    size_t count = MR_MIN(chat->stop_count, (size_t)MR_CHAT_STOPS_MAX);
    for (size_t i = 0; i < count; i++) {
        request->stops[i] = mr_str_copy(&request->arena, chat->stops[i]);
        if (chat->stops[i].n > 0 && request->stops[i].p == NULL) {
            mr_arena_done(&request->arena);
            return MR_ENO_MEMORY;
        }
    }
    infer_text_init(&request->text, request->stops, count);
    return 0;
}

/* Fills a fresh request; on failure nothing is held. */
static int request_init(struct infer_engine *engine, struct infer_request *request,
                        const struct mr_wire_submit *submit, int32_t *take_tokens, uint32_t count)
{
    uint64_t now = infer_now_us();
    uint32_t wanted = submit->chat.sampling.max_tokens;
    uint32_t room = engine->context_tokens - count;
    *request = (struct infer_request){
        .tenant = submit->tenant,
        .priority = submit->priority,
        .arrived_us = now,
        .order = ++engine->orders,
        .credit = submit->credit,
        .prompt_count = count,
        .max_tokens = wanted == 0 ? room : MR_MIN(wanted, room),
    };
    int error = infer_sampler_init(&request->sampler, &submit->chat.sampling,
                                   engine->model.vocab_count, mr_hash_mix(now ^ request->order));
    if (error == 0) {
        error = stops_copy(request, &submit->chat);
    }
    if (error != 0) {
        infer_sampler_done(&request->sampler);
        mr_free(take_tokens);
        return error;
    }
    struct infer_seq *seq = infer_engine_seq_new(engine);
    seq->tenant = submit->tenant;
    seq->tokens = take_tokens;
    seq->token_count = count;
    seq->token_capacity = count;
    seq->request = request;
    request->seq = seq;
    request->used = true;
    return 0;
}

int infer_engine_submit(struct infer_engine *engine, int owner, uint32_t stream,
                        const struct mr_wire_submit *submit, struct mr_wire_end *ret_refused)
{
    uint32_t tenant = submit->tenant;
    if (!engine->ready) {
        return refuse(engine, ret_refused, tenant, MR_EUNAVAILABLE, "the model is still loading");
    }
    struct infer_request *request = request_slot(engine);
    if (engine->meter.used >= MR_WIRE_UNSETTLED_MAX || request == NULL) {
        return refuse(engine, ret_refused, tenant, MR_ELIMIT,
                      "this replica has as many requests as it may hold; try again");
    }
    int32_t *tokens = NULL;
    uint32_t count = 0;
    int error = infer_chat_tokens(&engine->model, &submit->chat, submit->resume, &tokens, &count);
    if (error == 0 && count == 0) {
        mr_free(tokens);
        return refuse(engine, ret_refused, tenant, MR_EINVALID, "the messages are empty");
    }
    if (error == 0 && count >= engine->context_tokens) {
        mr_free(tokens);
        (void)snprintf(engine->note, sizeof(engine->note),
                       "This model's maximum context length is %u tokens, but the messages have "
                       "%u tokens. Please shorten them.",
                       engine->context_tokens, count);
        return refuse(engine, ret_refused, tenant, MR_ETOO_LARGE, engine->note);
    }
    if (error == 0) {
        error = request_init(engine, request, submit, tokens, count);
    }
    if (error != 0) return refuse(engine, ret_refused, tenant, error, mr_error_text(error));
    request->meter_slot = infer_meter_begin(&engine->meter, tenant);
    MR_ASSERT(request->meter_slot >= 0); /* asked above */
    request->owner = owner;
    request->stream = stream;
    engine->waiting++;
    return 0;
}

struct infer_request *infer_engine_find(struct infer_engine *engine, int owner, uint32_t stream)
{
    for (size_t i = 0; i < MR_WIRE_UNSETTLED_MAX; i++) {
        struct infer_request *request = &engine->requests[i];
        if (request->used && request->owner == owner && request->stream == stream) return request;
    }
    return NULL;
}

/* --- the end ---------------------------------------------------------------------------------- */

static uint32_t saturate(uint64_t us)
{
    return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static void end_fill(const struct infer_request *request, struct mr_wire_end *end)
{
    uint64_t now = infer_now_us();
    uint64_t admitted = request->admitted_us != 0 ? request->admitted_us : now;
    uint64_t first = request->first_us != 0 ? request->first_us : now;
    end->usage = request->usage;
    end->queue_us = saturate(admitted - request->arrived_us);
    end->prefill_us = saturate(first - admitted);
    end->decode_us = saturate(now - first);
}

/* The cells may serve the next prompt that starts like this one. */
static void seq_park(struct infer_engine *engine, struct infer_seq *seq)
{
    seq->request = NULL;
    seq->touched = ++engine->ticks;
    if (seq->lane == NULL || seq->computed_count < INFER_PREFIX_MIN || !engine->model.can_trim) {
        infer_engine_seq_drop(engine, seq);
        return;
    }
    seq->token_count = seq->computed_count;
}

void infer_engine_finish(struct infer_engine *engine, struct infer_request *request,
                         enum mr_finish finish, int error, struct mr_str text)
{
    MR_INVARIANT(1, request->used);
    bool whole = finish == MR_FINISH_STOP || finish == MR_FINISH_LENGTH;
    if (whole) {
        infer_text_push(&request->text, MR_STR(""), true, &engine->out);
        if (request->held_tokens > 0 || engine->out.n > 0) {
            engine->sink.tokens(engine->sink.context, request, request->held_tokens,
                                mr_buf_str(&engine->out));
        }
        request->held_tokens = 0;
        mr_buf_reset(&engine->out);
    }
    struct mr_wire_end end = {.finish = finish, .error = error, .text = text};
    end_fill(request, &end);
    infer_meter_end(&engine->meter, request->meter_slot, &end, request->owner);
    engine->totals.requests++;
    engine->totals.cached_tokens += request->usage.cached_tokens;
    if (request->running) {
        engine->running--;
    } else {
        engine->waiting--;
    }
    engine->sink.end(engine->sink.context, request, &end);
    seq_park(engine, request->seq);
    infer_sampler_done(&request->sampler);
    infer_text_done(&request->text);
    mr_arena_done(&request->arena);
    *request = (struct infer_request){0};
}

void infer_engine_cancel(struct infer_engine *engine, struct infer_request *request)
{
    infer_engine_finish(engine, request, MR_FINISH_CANCELLED, 0, MR_STR(""));
}

void infer_engine_disown(struct infer_engine *engine, int owner)
{
    for (size_t i = 0; i < MR_WIRE_UNSETTLED_MAX; i++) {
        struct infer_request *request = &engine->requests[i];
        if (request->used && request->owner == owner) {
            request->owner = -1;
            infer_engine_cancel(engine, request);
        }
    }
    infer_meter_disown(&engine->meter, owner);
}

/* --- the round -------------------------------------------------------------------------------- */

bool infer_engine_may_decode(struct infer_engine *engine, const struct infer_request *request)
{
    return request->credit > (int64_t)request->held_tokens &&
           engine->sink.can_take(engine->sink.context, request->owner);
}

bool infer_engine_step(struct infer_engine *engine)
{
    if (!engine->ready || engine->running + engine->waiting == 0) return false;
    if (engine->waiting > 0) {
        infer_admit(engine);
    }
    uint32_t decoding = 0;
    for (size_t i = 0; i < MR_WIRE_UNSETTLED_MAX; i++) {
        const struct infer_request *request = &engine->requests[i];
        decoding += request->used && request->running && request->first_us != 0;
    }
    uint32_t chunk =
        infer_plan_chunk(&engine->pace, decoding, (uint64_t)engine->config.itl_ms * 1000u);
    engine->decode_us = 0;
    bool progress = false;
    for (size_t i = 0; i < engine->lane_count; i++) {
        progress |= infer_step_lane(engine, &engine->lanes[i], &chunk);
    }
    if (engine->decode_us > 0) {
        infer_pace_decode(&engine->pace, engine->decode_us);
    }
    return progress;
}

static uint64_t rss_bytes(void)
{
    unsigned long long size = 0;
    unsigned long long resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) return 0;
    int got = fscanf(file, "%llu %llu", &size, &resident);
    (void)fclose(file); /* read only */
    return got == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

void infer_engine_stats(struct infer_engine *engine, struct mr_wire_stats *ret)
{
    *ret = engine->totals;
    ret->running = engine->running;
    ret->waiting = engine->waiting;
    ret->slots = engine->config.slots;
    uint64_t used = 0;
    uint64_t cells = 0;
    for (size_t i = 0; i < engine->lane_count; i++) {
        const struct infer_lane *lane = &engine->lanes[i];
        used += infer_lane_used(lane);
        cells += (uint64_t)lane->cells * (lane->unified ? 1u : lane->ids);
    }
    ret->kv_used_permille = cells == 0 ? 0 : (uint32_t)MR_MIN(used * 1000 / cells, 1000u);
    ret->ttft_us_p50 = infer_stat_get(&engine->ttft, 500);
    ret->ttft_us_p99 = infer_stat_get(&engine->ttft, 990);
    ret->itl_us_p50 = infer_stat_get(&engine->itl, 500);
    ret->itl_us_p99 = infer_stat_get(&engine->itl, 990);
    ret->rss_bytes = rss_bytes();
}
