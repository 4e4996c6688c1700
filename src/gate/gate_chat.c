/* SPDX-License-Identifier: Apache-2.0 */
/* A chat from its body to its end: which model, which replica, what if that dies.
 *
 * Owns:       the chat, in its request's arena.
 * Invariants: (1) a chat is NEW, then WAITING and RUNNING by turns, then ENDED once;
 *             (2) what a client reads is the text of its replicas, each token once: a replica that
 *                 takes over gets what was decoded and goes on behind it;
 *             (3) a client that is gone leaves neither the queue nor a replica with its chat.
 * Never:      a chat without an answer: an error has one too.
 * Cost:       O(body) + O(replicas).
 * Idea:       docs/internals/gate.md   Tests: tests/unit/gate/test_gate_chat.c
 */
#include "gate_int.h"

static const struct gate_request_ops chat_ops;

/* --- models ---------------------------------------------------------------------------------- */

struct mr_problem gate_model_unknown(struct gate_request *request, struct mr_str name)
{
    const struct mr_routes *routes = request->gate->routes;
    mr_cleanup(mr_buf_done) struct mr_buf text;
    size_t shown = 0;
    mr_buf_init(&text, 4096);
    mr_buf_printf(&text, "there is no model \"%.*s\"", (int)MR_MIN(name.n, 200u), name.p);
    for (size_t i = 0; i < routes->model_count && shown < 16; i++) {
        if (!gate_model_visible(&routes->models[i], request)) continue;
        mr_buf_put_str(&text, shown++ == 0 ? MR_STR("; there are: ") : MR_STR(", "));
        mr_buf_put_str(&text, routes->models[i].name);
    }
    if (shown == 0) {
        mr_buf_put_str(&text, MR_STR("; none is served yet: `millrace serve` starts one"));
    }
    return (struct mr_problem){.error = MR_ENOT_FOUND,
                               .param = MR_STR("model"),
                               .code = MR_STR("model_not_found"),
                               .text = mr_str_copy(&request->arena, mr_buf_str(&text))};
}

static struct mr_openai_model model_of(const struct mr_route_model *model)
{
    return (struct mr_openai_model){
        .id = model->name, .created_s = model->created_s, .owned_by = MR_STR("millrace")};
}

void gate_handle_models(struct gate_request *request, const struct mr_http_request *http)
{
    (void)http;
    struct mr_gate *gate = request->gate;
    const struct mr_routes *routes = gate->routes;
    struct mr_openai_model *list =
        mr_arena_alloc(&request->arena, (routes->model_count + 1) * sizeof *list);
    size_t count = 0;
    if (list == NULL) {
        struct mr_problem problem = gate_problem(MR_ENO_MEMORY, "out of memory; try again");
        gate_reply_problem(request, &problem);
        return;
    }
    for (size_t i = 0; i < routes->model_count; i++) {
        if (!gate_model_visible(&routes->models[i], request)) continue;
        list[count++] = model_of(&routes->models[i]);
    }
    mr_buf_reset(&gate->body);
    mr_openai_put_models(&gate->body, list, count);
    gate_reply(request, 200, MR_STR("application/json"), mr_buf_str(&gate->body), MR_STR(""));
}

void gate_handle_model(struct gate_request *request, const struct mr_http_request *http)
{
    (void)http;
    struct mr_gate *gate = request->gate;
    struct gate_service *service;
    const struct mr_route_model *model =
        gate_model_find(gate, request, request->params[0], &service);
    if (model == NULL) {
        struct mr_problem problem = gate_model_unknown(request, request->params[0]);
        gate_reply_problem(request, &problem);
        return;
    }
    struct mr_openai_model shown = model_of(model);
    mr_buf_reset(&gate->body);
    mr_openai_put_model(&gate->body, &shown);
    gate_reply(request, 200, MR_STR("application/json"), mr_buf_str(&gate->body), MR_STR(""));
}

/* --- starting -------------------------------------------------------------------------------- */

/* A user may stand back behind the tenant's others; to go before the default takes an
 * administrator. */
static uint8_t priority_of(const struct gate_request *request, const struct mr_http_request *http)
{
    struct mr_str header = mr_http_header_get(http, MR_STR("x-millrace-priority"));
    uint64_t priority = MR_PRIORITY_DEFAULT;
    if (header.n == 0 || mr_str_to_u64(mr_str_trim(header), &priority) != 0 ||
        priority >= MR_PRIORITY_COUNT) {
        return MR_PRIORITY_DEFAULT;
    }
    if (!request->admin && priority < MR_PRIORITY_DEFAULT) return MR_PRIORITY_DEFAULT;
    return (uint8_t)priority;
}

static void chat_run(struct gate_chat *chat, struct gate_peer *peer)
{
    struct gate_service *service = chat->service;
    uint32_t before = chat->prompt_guess;
    /* Four bytes a token is what tokenizers make of text; the END corrects it. */
    uint64_t bytes = chat->request->text.n + chat->prefix.total_bytes;
    chat->prompt_guess = (uint32_t)MR_MIN(bytes / 4 + 1, UINT32_MAX / 4);
    gate_queue_charge(chat->tenant, (int64_t)chat->prompt_guess - (int64_t)before, 0);
    chat->state = GATE_CHAT_RUNNING;
    service->running++;
    gate_prefix_note(service, &chat->prefix, peer->bit);
    gate_peer_submit(peer, chat);
}

static void chat_wait(struct gate_chat *chat, bool front)
{
    MR_ASSERT(chat->state == GATE_CHAT_NEW || chat->state == GATE_CHAT_RUNNING);
    chat->state = GATE_CHAT_WAITING;
    chat->service->gate->stats.waiting_now++;
    gate_queue_push(chat, front);
    gate_due_set(chat->service->gate, GATE_DUE_WAITING, &chat->waiting);
}

static void chat_unwait(struct gate_chat *chat)
{
    MR_INVARIANT(1, chat->state == GATE_CHAT_WAITING);
    gate_due_clear(chat->service->gate, &chat->waiting);
    gate_queue_remove(chat);
    chat->service->gate->stats.waiting_now--;
    chat->state = GATE_CHAT_NEW;
}

void gate_service_dispatch(struct gate_service *service)
{
    while (service->waiting > 0) {
        struct gate_chat *chat = gate_queue_first(service);
        struct gate_peer *peer = gate_service_choose(service, chat);
        if (peer == NULL) break;
        chat_unwait(chat);
        chat_run(chat, peer);
    }
    gate_service_load(service);
}

/* Fills the chat from the body; false after an error answer. */
static bool chat_read(struct gate_request *request, const struct mr_http_request *http,
                      struct gate_chat *chat)
{
    struct mr_gate *gate = request->gate;
    struct mr_problem problem = {0};
    int error = mr_openai_chat_parse(http->body, &request->arena, &chat->chat, &problem);
    if (error == 0 && gate_model_find(gate, request, chat->chat.model, &chat->service) == NULL) {
        problem = gate_model_unknown(request, chat->chat.model);
        error = problem.error;
    }
    if (error != 0) {
        gate_reply_problem(request, &problem);
        return false;
    }
    chat->tenant = gate_queue_tenant(chat->service, request->tenant);
    if (chat->tenant == NULL || !gate_prefix_read(chat, request->tenant)) {
        problem = gate_problem(MR_ENO_MEMORY, "out of memory; try again");
        gate_reply_problem(request, &problem);
        return false;
    }
    return true;
}

void gate_handle_chat(struct gate_request *request, const struct mr_http_request *http)
{
    struct mr_gate *gate = request->gate;
    struct gate_chat *chat = mr_arena_alloc_zero(&request->arena, sizeof *chat);
    if (chat == NULL) {
        struct mr_problem problem = gate_problem(MR_ENO_MEMORY, "out of memory; try again");
        gate_reply_problem(request, &problem);
        return;
    }
    chat->request = request;
    if (!chat_read(request, http, chat)) return;
    struct gate_service *service = chat->service;
    chat->model = chat->chat.model;
    chat->created_s = gate->now_us / 1000000;
    chat->waited_from_us = gate->now_us;
    chat->priority = priority_of(request, http);
    struct gate_peer *peer = service->waiting == 0 ? gate_service_choose(service, chat) : NULL;
    if (peer == NULL && gate->stats.waiting_now >= gate->waiting_max) {
        struct mr_problem problem = {.error = MR_ELIMIT, .code = MR_STR("rate_limit_exceeded")};
        problem.text = gate_format(request, "%u chats wait here already; try again in a moment",
                                   gate->stats.waiting_now);
        gate_reply_problem(request, &problem);
        return;
    }
    gate->chats++;
    request->own = chat;
    request->ops = &chat_ops;
    if (chat->chat.stream) gate_due_set(gate, GATE_DUE_QUIET, &request->quiet);
    if (peer != NULL) {
        gate_queue_lift(service, chat->tenant);
        chat_run(chat, peer);
        gate_service_load(service);
    } else {
        chat_wait(chat, false);
        gate_service_dispatch(service);
    }
}

/* --- running --------------------------------------------------------------------------------- */

static void credit_top_up(struct gate_chat *chat)
{
    if (chat->state != GATE_CHAT_RUNNING || !chat->chat.stream) return;
    if (chat->request->conn->full || chat->credit > GATE_CREDIT_WINDOW / 2) return;
    uint32_t more = GATE_CREDIT_WINDOW - chat->credit;
    chat->credit += more;
    gate_peer_credit(chat->peer, chat->stream, more);
}

void gate_chat_tokens(struct gate_chat *chat, uint32_t count, struct mr_str text)
{
    struct gate_request *request = chat->request;
    MR_INVARIANT(1, chat->state == GATE_CHAT_RUNNING);
    mr_buf_put_str(&request->text, text);
    if (request->text.failed) {
        struct mr_problem problem = gate_problem(MR_ETOO_LARGE, "the answer is too long");
        gate_chat_fail(chat, &problem);
        return;
    }
    chat->tokens += count;
    chat->credit -= MR_MIN(chat->credit, count);
    gate_queue_charge(chat->tenant, 0, count);
    if (!chat->chat.stream) return;
    if (text.n > 0) gate_chat_put_tokens(chat, text);
    if (chat->state == GATE_CHAT_RUNNING) credit_top_up(chat);
}

/* Leaves its peer. The peer's stream is the peer's to free. */
static void chat_left_peer(struct gate_chat *chat)
{
    MR_ASSERT(chat->service->running > 0);
    chat->service->running--;
    chat->peer = NULL;
}

static void chat_done(struct gate_chat *chat, enum mr_finish finish, const struct mr_usage *usage)
{
    struct mr_gate *gate = chat->service->gate;
    chat->state = GATE_CHAT_ENDED;
    gate->tokens_prompt += usage->prompt_tokens;
    gate->tokens_completion += usage->completion_tokens;
    gate_chat_put_end(chat, finish, usage);
}

void gate_chat_fail(struct gate_chat *chat, const struct mr_problem *problem)
{
    struct gate_request *request = chat->request;
    if (chat->state == GATE_CHAT_WAITING) chat_unwait(chat);
    if (chat->state == GATE_CHAT_RUNNING && chat->peer != NULL) {
        struct gate_peer *peer = chat->peer;
        chat_left_peer(chat);
        gate_peer_cancel(peer, chat->stream);
    }
    chat->state = GATE_CHAT_ENDED;
    chat->service->gate->chats_failed++;
    if (request->streaming) {
        gate_stream_problem(request, problem);
    } else {
        gate_reply_problem(request, problem);
    }
}

/* Goes to another replica, behind what was decoded, or gives up. One that was refused did not cost
 * its replica anything and may try for as long as a chat may wait. */
static void chat_again(struct gate_chat *chat, bool refused)
{
    struct mr_gate *gate = chat->service->gate;
    uint32_t max = chat->chat.sampling.max_tokens;
    uint64_t waited_us = gate->now_us - chat->waited_from_us;
    bool over = refused ? waited_us >= gate->dues[GATE_DUE_WAITING].delay_us
                        : ++chat->attempts >= GATE_ATTEMPTS_MAX;
    chat_left_peer(chat);
    if (!refused) chat->waited_from_us = gate->now_us;
    chat->resumed_tokens = chat->tokens;
    chat->credit = 0;
    if (!chat->service->routed || over) {
        struct mr_problem problem = gate_problem(
            MR_EUNAVAILABLE, "the replicas that worked on this chat were lost; try again");
        chat->state = GATE_CHAT_NEW;
        gate_chat_fail(chat, &problem);
        return;
    }
    if (max > 0 && chat->tokens >= max) {
        /* It died between its last token and its END. */
        struct mr_usage usage = {.prompt_tokens = chat->prompt_guess,
                                 .completion_tokens = chat->tokens};
        chat_done(chat, MR_FINISH_LENGTH, &usage);
        return;
    }
    gate->resumes += !refused;
    chat_wait(chat, true);
}

void gate_chat_orphaned(struct gate_chat *chat)
{
    struct gate_service *service = chat->service;
    MR_INVARIANT(1, chat->state == GATE_CHAT_RUNNING);
    chat_again(chat, false);
    gate_service_dispatch(service);
}

static void end_problem(struct gate_chat *chat, const struct mr_wire_end *end,
                        struct mr_problem *ret)
{
    struct gate_request *request = chat->request;
    *ret = (struct mr_problem){.error = end->error != 0 ? end->error : MR_EINTERNAL};
    ret->text = mr_str_copy(&request->arena, end->text);
    if (ret->text.n == 0) ret->text = mr_str_from(mr_error_text(ret->error));
    if (ret->error == MR_ETOO_LARGE) {
        /* OpenAI's word for a prompt that does not fit, on which clients rely. */
        ret->error = MR_EINVALID;
        ret->code = MR_STR("context_length_exceeded");
        ret->param = MR_STR("messages");
    }
}

void gate_chat_end(struct gate_chat *chat, const struct mr_wire_end *end)
{
    MR_INVARIANT(1, chat->state == GATE_CHAT_RUNNING);
    bool whole = end->finish == MR_FINISH_STOP || end->finish == MR_FINISH_LENGTH;
    bool again = end->finish == MR_FINISH_CANCELLED ||
                 (end->finish == MR_FINISH_ERROR && mr_error_retryable(end->error));
    gate_queue_charge(chat->tenant, (int64_t)end->usage.prompt_tokens - (int64_t)chat->prompt_guess,
                      0);
    chat->prompt_guess = end->usage.prompt_tokens;
    if (whole) {
        struct mr_usage usage = end->usage;
        /* What a dead replica decoded was part of the prompt of the one that went on. */
        usage.prompt_tokens -= MR_MIN(usage.prompt_tokens, chat->resumed_tokens);
        usage.cached_tokens = MR_MIN(usage.cached_tokens, usage.prompt_tokens);
        usage.completion_tokens += chat->resumed_tokens;
        chat_left_peer(chat);
        chat_done(chat, end->finish, &usage);
        return;
    }
    if (again) {
        chat_again(chat, end->serial == 0);
        return;
    }
    struct mr_problem problem;
    end_problem(chat, end, &problem);
    chat_left_peer(chat);
    gate_chat_fail(chat, &problem);
}

/* --- the client ------------------------------------------------------------------------------ */

static void chat_drained(struct gate_request *request)
{
    credit_top_up(request->own);
}

static void chat_gone(struct gate_request *request)
{
    struct gate_chat *chat = request->own;
    struct gate_service *service = chat->service;
    if (chat->state == GATE_CHAT_ENDED) return;
    if (chat->state == GATE_CHAT_WAITING) chat_unwait(chat);
    if (chat->state == GATE_CHAT_RUNNING) {
        struct gate_peer *peer = chat->peer;
        chat_left_peer(chat);
        gate_peer_cancel(peer, chat->stream);
    }
    chat->state = GATE_CHAT_ENDED;
    gate_service_dispatch(service);
}

static void chat_quiet(struct gate_request *request)
{
    gate_chat_put_quiet(request->own);
}

static const struct gate_request_ops chat_ops = {
    .drain = chat_drained,
    .gone = chat_gone,
    .quiet = chat_quiet,
};

void gate_chat_waiting_over(struct gate_due *due)
{
    struct gate_chat *chat =
        (struct gate_chat *)(void *)((char *)due - offsetof(struct gate_chat, waiting));
    struct gate_service *service = chat->service;
    struct mr_problem problem = {.error = MR_EUNAVAILABLE};
    uint32_t peers = 0, ready = 0;
    for (struct gate_peer *peer = service->peers; peer != NULL; peer = peer->next) {
        peers += !peer->retired;
        ready += peer->ready && !peer->retired;
    }
    problem.text = gate_format(
        chat->request,
        "no replica of \"%.*s\" was free within %u s: %u replicas, %u of them ready, %u chats "
        "waiting here; try again, or give the service more replicas",
        MR_STR_ARG(service->name),
        (unsigned)(service->gate->dues[GATE_DUE_WAITING].delay_us / 1000000), peers, ready,
        service->waiting);
    gate_chat_fail(chat, &problem);
    gate_service_load(service);
}
