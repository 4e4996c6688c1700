/* SPDX-License-Identifier: Apache-2.0 */
/* /api: calls that ctl answers; health, page, metrics.
 *
 * Owns:       nothing.
 * Invariants: (1) ctl hears the tenant and role of the key, never what the request says of itself;
 *             (2) an idempotency key is the tenant's own: two tenants' equal keys differ.
 * Never:      an answer before ctl's.
 * Cost:       O(body).
 */
#include <inttypes.h>

#include "gate_int.h"

#define IDEMPOTENCY_BYTES 16u

static void api_done(struct gate_request *request)
{
    struct mr_ctl_call *call = &request->call;
    if (call->error != 0) {
        struct mr_problem problem = gate_call_problem(request);
        gate_reply_problem(request, &problem);
        return;
    }
    gate_reply(request, 200, MR_STR("application/json"), mr_buf_str(&call->out), MR_STR(""));
}

/* The parser's memory is the connection's, which may go before ctl has read the body. */
static bool keep(struct gate_request *request, struct mr_str from, struct mr_str *ret)
{
    *ret = from.n > 0 ? mr_str_copy(&request->arena, from) : (struct mr_str){0};
    if (ret->n == from.n) return true;
    struct mr_problem problem = gate_problem(MR_ENO_MEMORY, "out of memory; try again");
    gate_reply_problem(request, &problem);
    return false;
}

static struct mr_str idempotency_of(struct gate_request *request,
                                    const struct mr_http_request *http)
{
    struct mr_str header = mr_http_header_get(http, MR_STR("idempotency-key"));
    uint8_t hash[32];
    char *bytes = mr_arena_alloc(&request->arena, header.n + 4);
    if (header.n == 0 || bytes == NULL) return (struct mr_str){0};
    memcpy(bytes, &request->tenant.v, 4);
    memcpy(bytes + 4, header.p, header.n);
    mr_sha256(bytes, header.n + 4, hash);
    char *key = mr_arena_alloc(&request->arena, IDEMPOTENCY_BYTES);
    if (key == NULL) return (struct mr_str){0};
    memcpy(key, hash, IDEMPOTENCY_BYTES);
    return (struct mr_str){key, IDEMPOTENCY_BYTES};
}

void gate_handle_api(struct gate_request *request, const struct mr_http_request *http)
{
    struct mr_ctl_call *call = gate_call_init(request, request->route->op);
    if (request->param_count > 0 && !gate_param_id(request, &call->id)) return;
    if (call->op == MR_CTL_SUBMIT) call->key = idempotency_of(request, http);
    if (!keep(request, http->body, &call->body)) return;
    if (!keep(request, http->query, &call->query)) return;
    gate_call_send(request, api_done);
}

void gate_handle_healthz(struct gate_request *request, const struct mr_http_request *http)
{
    (void)http;
    struct mr_gate *gate = request->gate;
    struct mr_str type = MR_STR("application/json");
    if (gate->draining) {
        gate_reply(request, 503, type, MR_STR("{\"status\":\"stopping\"}"), MR_STR(""));
    } else if (gate->routes == NULL) {
        gate_reply(request, 503, type, MR_STR("{\"status\":\"starting\"}"), MR_STR(""));
    } else {
        gate_reply(request, 200, type, MR_STR("{\"status\":\"ok\"}"), MR_STR(""));
    }
}

void gate_handle_page(struct gate_request *request, const struct mr_http_request *http)
{
    (void)http;
    struct mr_str page = request->gate->page;
    if (page.n == 0) {
        gate_reply(request, 200, MR_STR("text/plain; charset=utf-8"),
                   MR_STR("Millrace. OpenAI's API is at /v1, the cloud's own at /api.\n"),
                   MR_STR(""));
        return;
    }
    gate_reply(request, 200, MR_STR("text/html; charset=utf-8"), page,
               MR_STR("X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n"));
}

/* --- metrics --------------------------------------------------------------------------------- */

struct metric {
    const char *name, *type, *help;
    uint64_t value;
};

/* Each gate counts for itself: a scrape meets one of them, which says by its label which. */
static void metrics_put(struct mr_gate *gate, struct mr_buf *buf)
{
    const struct mr_gate_stats *s = &gate->stats;
    const struct metric list[] = {
        {"connections", "counter", "Connections accepted", s->connections},
        {"requests", "counter", "Requests read", s->requests},
        {"answers_4xx", "counter", "Answers that blame the client", s->answers_4xx},
        {"answers_5xx", "counter", "Answers that blame us", s->answers_5xx},
        {"chats", "counter", "Chats begun", gate->chats},
        {"chats_failed", "counter", "Chats that ended with an error", gate->chats_failed},
        {"resumes", "counter", "Chats that went on at another replica", gate->resumes},
        {"prompt_tokens", "counter", "Prompt tokens of ended chats", gate->tokens_prompt},
        {"completion_tokens", "counter", "Completion tokens of ended chats",
         gate->tokens_completion},
        {"meters", "counter", "ENDs that are in the ledger", gate->meters},
        {"meters_refused", "counter", "ENDs that the ledger refused", gate->meters_refused},
        {"keep_alives", "counter", "Comments sent to quiet streams", gate->keep_alives},
        {"connections_now", "gauge", "Connections open", s->connections_now},
        {"streams_now", "gauge", "Answers being streamed", s->streams_now},
        {"waiting_now", "gauge", "Chats without a replica", s->waiting_now},
    };
    for (size_t i = 0; i < MR_COUNT_OF(list); i++) {
        const struct metric *m = &list[i];
        bool counter = m->type[0] == 'c';
        mr_buf_printf(buf, "# TYPE millrace_gate_%s %s\n# HELP millrace_gate_%s %s.\n", m->name,
                      m->type, m->name, m->help);
        mr_buf_printf(buf, "millrace_gate_%s%s{lane=\"%u\"} %" PRIu64 "\n", m->name,
                      counter ? "_total" : "", gate->env->lane, m->value);
    }
}

static void metrics_done(struct gate_request *request)
{
    struct mr_gate *gate = request->gate;
    struct mr_ctl_call *call = &request->call;
    if (call->error != 0) {
        struct mr_problem problem = gate_call_problem(request);
        gate_reply_problem(request, &problem);
        return;
    }
    /* One document has one end: ctl's comes last, whether or not ctl wrote it. */
    static const char eof[] = "# EOF\n";
    struct mr_str theirs = mr_buf_str(&call->out);
    if (theirs.n >= sizeof eof - 1 &&
        memcmp(theirs.p + theirs.n - (sizeof eof - 1), eof, sizeof eof - 1) == 0) {
        theirs.n -= sizeof eof - 1;
    }
    mr_buf_reset(&gate->body);
    metrics_put(gate, &gate->body);
    mr_buf_put_str(&gate->body, theirs);
    mr_buf_put_str(&gate->body, mr_str_from(eof));
    gate_reply(request, 200, MR_STR("application/openmetrics-text; version=1.0.0; charset=utf-8"),
               mr_buf_str(&gate->body), MR_STR(""));
}

void gate_handle_metrics(struct gate_request *request, const struct mr_http_request *http)
{
    (void)http;
    (void)gate_call_init(request, MR_CTL_METRICS); /* needs nothing more */
    gate_call_send(request, metrics_done);
}
