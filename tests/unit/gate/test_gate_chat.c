/* SPDX-License-Identifier: Apache-2.0 */
/* Chats: what the client reads, who is billed, what happens when somebody is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gate_world.h"

#define REPLY "Hello there, dear caller."

static struct world *setup(uint32_t workers)
{
    struct world *w = malloc(sizeof *w);
    world_init(w, workers);
    return w;
}
static void teardown(struct world *w)
{
    world_done(w);
    free(w);
}

static void a_chat_is_answered_and_metered(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", "");
    assert_int_equal(client_status(c), 200);
    assert_non_null(strstr(client_text(c), "\"content\":\"" REPLY "\""));
    assert_non_null(strstr(client_text(c), "\"finish_reason\":\"stop\""));
    assert_non_null(strstr(client_text(c), "\"prompt_tokens\":10,\"completion_tokens\":4"));
    assert_non_null(strstr(client_text(c), "x-request-id: req_"));
    assert_int_equal(w->metered, 1);
    assert_int_equal(w->metered_tokens, 4);
    assert_int_equal(w->workers[0].settled_count, 1);
    assert_int_equal(w->workers[0].order[0], 2);
    assert_int_equal(c->closing, false);
    teardown(w);
}

static void a_stream_joins_to_the_unstreamed_answer(void **state)
{
    (void)state;
    struct world *w = setup(1);
    char text[256];
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi",
                ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    const char *all = client_text(c);
    client_deltas(c, text, sizeof text);
    assert_int_equal(client_status(c), 200);
    assert_string_equal(text, REPLY);
    assert_non_null(strstr(all, "text/event-stream"));
    assert_int_equal(text_count(all, "\"role\":\"assistant\""), 1);
    assert_true(strstr(all, "\"role\":\"assistant\"") < strstr(all, "Hello"));
    assert_int_equal(text_count(all, "\"finish_reason\":\"stop\""), 1);
    assert_int_equal(text_count(all, "\"usage\":null"), 6); /* role, four tokens, finish */
    assert_non_null(strstr(all, "\"choices\":[],\"usage\":{\"prompt_tokens\":10,"
                                "\"completion_tokens\":4"));
    assert_int_equal(text_count(all, "data: [DONE]\n\n"), 1);
    assert_non_null(strstr(all, "\r\n0\r\n\r\n"));
    /* The connection serves the next one. */
    client_clear(c);
    client_chat(c, WORLD_USER_KEY, "again", "");
    assert_non_null(strstr(client_text(c), REPLY));
    teardown(w);
}

static void without_include_usage_no_usage_is_sent(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", ",\"stream\":true");
    assert_int_equal(text_count(client_text(c), "usage"), 0);
    assert_int_equal(text_count(client_text(c), "[DONE]"), 1);
    teardown(w);
}

static void an_unknown_model_is_told_which_there_are(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct mr_conn *c = client_open(w);
    client_ask(c, "POST", "/v1/chat/completions", WORLD_USER_KEY,
               "{\"model\":\"nope\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    assert_int_equal(client_status(c), 404);
    assert_non_null(strstr(client_text(c), "model_not_found"));
    assert_non_null(strstr(client_text(c), "there are: tiny"));
    client_clear(c);
    client_ask(c, "POST", "/v1/chat/completions", WORLD_USER_KEY, "{\"model\":");
    assert_int_equal(client_status(c), 400);
    assert_int_equal(w->workers[0].submits, 0);
    teardown(w);
}

static void another_tenants_model_does_not_exist(void **state)
{
    (void)state;
    struct world *w = setup(1);
    w->models[0].owner.v = 3;
    world_publish(w);
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", "");
    assert_int_equal(client_status(c), 404);
    assert_null(strstr(client_text(c), "tiny, "));
    assert_null(strstr(client_text(c), "there are"));
    client_clear(c);
    client_ask(c, "GET", "/v1/models", WORLD_USER_KEY, NULL);
    assert_null(strstr(client_text(c), "tiny"));
    client_clear(c);
    client_ask(c, "GET", "/v1/models/tiny", WORLD_USER_KEY, NULL);
    assert_int_equal(client_status(c), 404);
    client_clear(c);
    client_chat(c, WORLD_OTHER_KEY, "hi", "");
    assert_int_equal(client_status(c), 200);
    teardown(w);
}

static void a_model_that_loads_is_waited_for(void **state)
{
    (void)state;
    struct world *w = setup(0);
    w->workers[0].not_ready = true;
    w->models[0].replica_count = 1;
    world_publish(w);
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", "");
    world_pass(w, 5000000);
    assert_int_equal(client_status(c), 0);
    assert_int_equal(w->last_load.waiting, 1);
    assert_int_equal(w->last_load.workload.v, 10);
    w->workers[0].not_ready = false;
    worker_hello(&w->workers[0], true);
    world_pass(w, 1000000);
    assert_int_equal(client_status(c), 200);
    assert_int_equal(w->last_load.waiting, 0);
    teardown(w);
}

static void nobody_waits_longer_than_the_queue_timeout(void **state)
{
    (void)state;
    struct world *w = malloc(sizeof *w);
    world_init_config(w, 0, &(struct mr_gate_config){.queue_timeout_us = 3000000});
    struct mr_conn *c = client_open(w), *s = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", "");
    client_chat(s, WORLD_USER_KEY, "hi", ",\"stream\":true");
    world_pass(w, 2999999);
    assert_int_equal(client_status(c), 0);
    world_pass(w, 2);
    assert_int_equal(client_status(c), 503);
    assert_non_null(strstr(client_text(c), "0 replicas"));
    assert_non_null(strstr(client_text(c), "retry-after: "));
    assert_int_equal(client_status(s), 503); /* nothing was said yet: a status of its own */
    teardown(w);
}

static void a_stream_that_waits_is_kept_alive_and_fails_inside(void **state)
{
    (void)state;
    struct world *w = malloc(sizeof *w);
    world_init_config(
        w, 0, &(struct mr_gate_config){.queue_timeout_us = 40000000, .keep_alive_us = 15000000});
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", ",\"stream\":true");
    world_pass(w, 14999999);
    assert_int_equal(client_status(c), 0);
    world_pass(w, 20000000);
    assert_int_equal(client_status(c), 200);
    assert_int_equal(text_count(client_text(c), ": keep-alive\n"), 2);
    world_pass(w, 10000000);
    assert_non_null(strstr(client_text(c), "data: {\"error\":{"));
    assert_non_null(strstr(client_text(c), "\r\n0\r\n\r\n"));
    assert_null(strstr(client_text(c), "[DONE]"));
    teardown(w);
}

static void one_past_waiting_max_gets_429(void **state)
{
    (void)state;
    struct world *w = malloc(sizeof *w);
    world_init_config(w, 0, &(struct mr_gate_config){.waiting_max = 2});
    struct mr_conn *c[3];
    for (size_t i = 0; i < 3; i++) {
        c[i] = client_open(w);
        client_chat(c[i], WORLD_USER_KEY, "hi", "");
    }
    assert_int_equal(client_status(c[0]), 0);
    assert_int_equal(client_status(c[1]), 0);
    assert_int_equal(client_status(c[2]), 429);
    assert_non_null(strstr(client_text(c[2]), "rate_limit_exceeded"));
    assert_non_null(strstr(client_text(c[2]), "retry-after: "));
    /* Who leaves makes room. */
    client_leave(c[0]);
    world_run(w);
    client_clear(c[2]);
    client_chat(c[2], WORLD_USER_KEY, "hi", "");
    assert_int_equal(client_status(c[2]), 0);
    teardown(w);
}

static void a_replica_never_gets_more_than_its_slots(void **state)
{
    (void)state;
    struct world *w = setup(2);
    struct mr_conn *c[10];
    for (size_t i = 0; i < 2; i++)
        w->workers[i].automatic = false;
    for (size_t i = 0; i < 10; i++) {
        c[i] = client_open(w);
        client_chat(c[i], WORLD_USER_KEY, "hi", "");
    }
    assert_int_equal(worker_live(&w->workers[0]), 4);
    assert_int_equal(worker_live(&w->workers[1]), 4);
    struct mr_gate_stats stats;
    mr_gate_stats(w->gate, &stats);
    assert_int_equal(stats.waiting_now, 2);
    for (uint32_t s = 1; s <= 2; s++)
        worker_end(&w->workers[0], s, MR_FINISH_STOP, 0, "");
    world_run(w);
    assert_int_equal(worker_live(&w->workers[0]), 4);
    mr_gate_stats(w->gate, &stats);
    assert_int_equal(stats.waiting_now, 0);
    teardown(w);
}

static void chats_that_begin_alike_go_to_one_replica_others_spread(void **state)
{
    (void)state;
    struct world *w = setup(4);
    struct mr_conn *c = client_open(w);
    for (size_t i = 0; i < 8; i++)
        client_chat(c, WORLD_USER_KEY, "the same beginning", "");
    uint32_t with = 0;
    for (size_t i = 0; i < 4; i++)
        with += w->workers[i].submits > 0;
    assert_int_equal(with, 1);
    char content[32];
    for (int i = 0; i < 64; i++) {
        snprintf(content, sizeof content, "number %d", i);
        client_chat(c, WORLD_USER_KEY, content, "");
    }
    for (size_t i = 0; i < 4; i++)
        assert_true(w->workers[i].submits >= 4);
    teardown(w);
}

static void load_is_counted_before_dispatch(void **state)
{
    (void)state;
    struct world *w = setup(2);
    struct mr_conn *c[4];
    for (size_t i = 0; i < 2; i++)
        w->workers[i].automatic = false;
    for (size_t i = 0; i < 4; i++) {
        c[i] = client_open(w);
        mr_buf_printf(&c[i]->to_gate, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                                      "Authorization: Bearer " WORLD_USER_KEY "\r\n"
                                      "Content-Length: 68\r\n\r\n{\"model\":\"tiny\",\"messages\":"
                                      "[{\"role\":\"user\",\"content\":\"all alike\"}]} ");
    }
    world_run(w); /* all four before any worker has answered */
    uint32_t a = worker_live(&w->workers[0]), b = worker_live(&w->workers[1]);
    assert_int_equal(a + b, 4);
    assert_true(a >= 1 && b >= 1); /* alike, yet not all on one */
    teardown(w);
}

static void a_stream_is_pulled_as_the_client_reads(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct worker *worker = &w->workers[0];
    struct mr_conn *c = client_open(w);
    char *big = malloc(3001);
    memset(big, 'x', 3000);
    big[3000] = 0;
    worker->automatic = false;
    client_stall(c, true);
    client_chat(c, WORLD_USER_KEY, "hi", ",\"stream\":true");
    /* Sends all that it may, until nothing more is granted. */
    uint32_t sent = 0;
    for (; worker->streams[1].credit > 0; sent++) {
        worker_tokens(worker, 1, 1, big);
        world_run(w);
        assert_true(sent < 1000);
    }
    assert_true(c->queued.n > MR_CONN_WRITE_BYTES_HIGH);
    assert_true(c->queued.n < MR_CONN_WRITE_BYTES_HIGH + (GATE_CREDIT_WINDOW + 1) * 3400u);
    uint32_t credits = worker->credits;
    world_pass(w, 1000000);
    assert_int_equal(worker->credits, credits);
    client_stall(c, false);
    world_run(w);
    assert_int_equal(worker->credits, credits + 1);
    assert_int_equal(worker->streams[1].credit, GATE_CREDIT_WINDOW);
    worker_end(worker, 1, MR_FINISH_STOP, 0, "");
    world_run(w);
    assert_int_equal(text_count(client_text(c), "[DONE]"), 1);
    free(big);
    teardown(w);
}

static void a_client_that_reads_nothing_is_dropped_in_the_end(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct worker *worker = &w->workers[0];
    struct mr_conn *c = client_open(w);
    char *big = malloc(10001);
    memset(big, 'x', 10000);
    big[10000] = 0;
    worker->automatic = false;
    client_stall(c, true);
    client_chat(c, WORLD_USER_KEY, "hi", ",\"stream\":true");
    for (uint32_t i = 0; i < 40; i++)
        worker_tokens(worker, 1, 1, big);
    world_run(w);
    world_pass(w, 60000000);
    assert_true(c->closed);
    assert_int_equal(worker->cancels, 1);
    free(big);
    teardown(w);
}

static void a_client_that_leaves_is_cancelled_at_once_and_billed(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct worker *worker = &w->workers[0];
    worker->automatic = false;
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", ",\"stream\":true");
    worker_tokens(worker, 1, 3, "one two three");
    world_run(w);
    client_leave(c);
    world_run(w);
    assert_int_equal(worker->cancels, 1);
    assert_int_equal(worker_live(worker), 0);
    assert_int_equal(w->metered_tokens, 3);
    assert_int_equal(worker->settled_count, 1);
    teardown(w);
}

/* The client goes after each number of tokens, by leaving or by closing its half, streamed or not:
 * exactly one CANCEL, and what was decoded is billed. */
static void gone_at(bool half, bool stream, uint32_t tokens)
{
    struct world *w = setup(1);
    struct worker *worker = &w->workers[0];
    worker->automatic = false;
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", stream ? ",\"stream\":true" : "");
    for (uint32_t i = 0; i < tokens; i++) {
        worker_tokens(worker, 1, 1, "word ");
        if (i % 2) world_run(w);
    }
    if (half) {
        client_half_close(c);
    } else {
        client_leave(c);
    }
    world_run(w);
    assert_true(c->closed);
    assert_int_equal(worker->cancels, 1);
    assert_int_equal(w->metered, 1);
    assert_int_equal(w->metered_tokens, tokens);
    world_pass(w, 300000);
    assert_int_equal(w->last_load.running, 0);
    teardown(w);
}
static void a_client_may_leave_at_every_point_of_a_stream(void **state)
{
    (void)state;
    for (uint32_t tokens = 0; tokens < 12; tokens++) {
        for (uint32_t kind = 0; kind < 4; kind++)
            gone_at(kind & 1, kind & 2, tokens);
    }
}

static void a_client_that_leaves_while_waiting_costs_nothing(void **state)
{
    (void)state;
    struct world *w = setup(0);
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", "");
    client_leave(c);
    world_run(w);
    w->models[0].replica_count = 1;
    world_publish(w);
    assert_int_equal(w->workers[0].submits, 0);
    teardown(w);
}

/* --- replicas that die ----------------------------------------------------------------------- */

/* The first replica decodes `tokens` words and dies; another goes on. */
static void death_at(bool stream, uint32_t tokens)
{
    static const char *const words[] = {"Hello ", "there, ", "dear ", "caller."};
    struct world *w = setup(1);
    char text[256];
    w->workers[0].automatic = false;
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi",
                stream ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true}" : "");
    for (uint32_t i = 0; i < tokens; i++)
        worker_tokens(&w->workers[0], 1, 1, words[i]);
    world_run(w);
    w->models[0].replica_count = 2;
    world_publish(w); /* the second one is there */
    worker_die(&w->workers[0]);
    world_run(w);
    assert_int_equal(w->workers[1].submits, 1);
    assert_int_equal(client_status(c), 200);
    client_deltas(c, text, sizeof text);
    assert_string_equal(text, REPLY);
    assert_int_equal(text_count(client_text(c), "\"finish_reason\":\"stop\""), 1);
    assert_int_equal(text_count(client_text(c), "\"role\":\"assistant\""), 1);
    assert_non_null(strstr(client_text(c), "\"completion_tokens\":4"));
    teardown(w);
}
static void a_replica_may_die_at_every_point_and_no_text_is_lost_or_repeated(void **state)
{
    (void)state;
    for (uint32_t tokens = 0; tokens <= 4; tokens++) {
        death_at(true, tokens);
        death_at(false, tokens);
    }
}

static void max_tokens_holds_across_replicas(void **state)
{
    (void)state;
    struct world *w = setup(1);
    char text[256];
    w->workers[0].automatic = false;
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", ",\"stream\":true,\"max_tokens\":3");
    worker_tokens(&w->workers[0], 1, 1, "Hello ");
    worker_tokens(&w->workers[0], 1, 1, "there, ");
    world_run(w);
    w->models[0].replica_count = 2;
    world_publish(w);
    worker_die(&w->workers[0]);
    world_run(w);
    client_deltas(c, text, sizeof text);
    assert_string_equal(text, "Hello there, dear ");
    assert_non_null(strstr(client_text(c), "\"finish_reason\":\"length\""));
    /* Dies after the last token, before its END: nothing is left to decode. */
    client_clear(c);
    w->workers[1].automatic = false;
    client_chat(c, WORLD_USER_KEY, "hi", ",\"stream\":true,\"max_tokens\":1");
    worker_tokens(&w->workers[1], 1, 1, "Hello ");
    world_run(w);
    worker_die(&w->workers[1]);
    world_run(w);
    assert_non_null(strstr(client_text(c), "\"finish_reason\":\"length\""));
    teardown(w);
}

static void without_another_replica_the_client_is_told(void **state)
{
    (void)state;
    struct world *w = malloc(sizeof *w);
    world_init_config(w, 1, &(struct mr_gate_config){.queue_timeout_us = 5000000});
    w->workers[0].automatic = false;
    struct mr_conn *c = client_open(w), *s = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", "");
    client_chat(s, WORLD_USER_KEY, "hi", ",\"stream\":true");
    worker_tokens(&w->workers[0], 2, 1, "Hello ");
    world_run(w);
    worker_die(&w->workers[0]);
    world_run(w);
    assert_int_equal(client_status(c), 0);
    world_pass(w, 5000001);
    assert_int_equal(client_status(c), 503);
    assert_non_null(strstr(client_text(s), "data: {\"error\":{"));
    teardown(w);
}

static void the_same_replica_may_come_back_and_go_on(void **state)
{
    (void)state;
    struct world *w = setup(1);
    char text[256];
    w->workers[0].automatic = false;
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", ",\"stream\":true");
    worker_tokens(&w->workers[0], 1, 1, "Hello ");
    world_run(w);
    worker_die(&w->workers[0]);
    world_run(w);
    w->workers[0].refuses = false;
    w->workers[0].automatic = true;
    world_pass(w, 3000000);
    client_deltas(c, text, sizeof text);
    assert_string_equal(text, REPLY);
    teardown(w);
}

static void replicas_that_die_again_and_again_end_the_chat(void **state)
{
    (void)state;
    struct world *w = setup(1);
    w->workers[0].automatic = false;
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", "");
    for (uint32_t i = 0; i < GATE_ATTEMPTS_MAX; i++) {
        assert_int_equal(client_status(c), 0);
        assert_int_equal(w->workers[0].submits, i + 1);
        w->workers[0].conn->far_gone = true;
        world_pass(w, 3000000);
    }
    assert_int_equal(client_status(c), 503);
    teardown(w);
}

static void a_model_taken_away_ends_those_that_wait_for_it(void **state)
{
    (void)state;
    struct world *w = setup(0);
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", "");
    world_publish_models(w, 0);
    assert_int_equal(client_status(c), 404);
    assert_non_null(strstr(client_text(c), "none is served yet"));
    teardown(w);
}

/* --- ends ------------------------------------------------------------------------------------ */

static void errors_of_a_replica_have_their_own_status(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct worker *worker = &w->workers[0];
    worker->automatic = false;
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", "");
    worker_end(worker, 1, MR_FINISH_ERROR, MR_ETOO_LARGE, "context length is 2048 tokens");
    world_run(w);
    assert_int_equal(client_status(c), 400);
    assert_non_null(strstr(client_text(c), "context_length_exceeded"));
    assert_non_null(strstr(client_text(c), "context length is 2048 tokens"));
    client_clear(c);
    client_chat(c, WORLD_USER_KEY, "hi", "");
    worker_end(worker, 1, MR_FINISH_ERROR, MR_EINTERNAL, "it broke");
    world_run(w);
    assert_int_equal(client_status(c), 500);
    assert_non_null(strstr(client_text(c), "it broke"));
    client_clear(c);
    client_chat(c, WORLD_USER_KEY, "hi", ",\"stream\":true");
    worker_tokens(worker, 1, 1, "Hello ");
    worker_end(worker, 1, MR_FINISH_ERROR, MR_EINTERNAL, "it broke");
    world_run(w);
    assert_int_equal(client_status(c), 200);
    assert_non_null(strstr(client_text(c), "data: {\"error\":{"));
    teardown(w);
}

static void a_refusal_is_tried_again_a_little_later(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct worker *worker = &w->workers[0];
    worker->automatic = false;
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", "");
    worker->streams[1].used = false;
    worker_say(worker, &(struct mr_wire_frame){
                           .type = MR_WIRE_END,
                           .stream = 1,
                           .u.end = {.finish = MR_FINISH_ERROR, .error = MR_ELIMIT, .tenant = 2}});
    world_run(w);
    assert_int_equal(client_status(c), 0);
    assert_int_equal(worker->submits, 1);
    assert_int_equal(w->calls[MR_CTL_METER], 0); /* serial 0: nothing to bill */
    worker->automatic = true;
    world_pass(w, GATE_REFUSED_US + 1000);
    assert_int_equal(worker->submits, 2);
    assert_int_equal(client_status(c), 200);
    teardown(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chat_is_answered_and_metered),
        cmocka_unit_test(a_stream_joins_to_the_unstreamed_answer),
        cmocka_unit_test(without_include_usage_no_usage_is_sent),
        cmocka_unit_test(an_unknown_model_is_told_which_there_are),
        cmocka_unit_test(another_tenants_model_does_not_exist),
        cmocka_unit_test(a_model_that_loads_is_waited_for),
        cmocka_unit_test(nobody_waits_longer_than_the_queue_timeout),
        cmocka_unit_test(a_stream_that_waits_is_kept_alive_and_fails_inside),
        cmocka_unit_test(one_past_waiting_max_gets_429),
        cmocka_unit_test(a_replica_never_gets_more_than_its_slots),
        cmocka_unit_test(chats_that_begin_alike_go_to_one_replica_others_spread),
        cmocka_unit_test(load_is_counted_before_dispatch),
        cmocka_unit_test(a_stream_is_pulled_as_the_client_reads),
        cmocka_unit_test(a_client_that_reads_nothing_is_dropped_in_the_end),
        cmocka_unit_test(a_client_that_leaves_is_cancelled_at_once_and_billed),
        cmocka_unit_test(a_client_may_leave_at_every_point_of_a_stream),
        cmocka_unit_test(a_client_that_leaves_while_waiting_costs_nothing),
        cmocka_unit_test(a_replica_may_die_at_every_point_and_no_text_is_lost_or_repeated),
        cmocka_unit_test(max_tokens_holds_across_replicas),
        cmocka_unit_test(without_another_replica_the_client_is_told),
        cmocka_unit_test(the_same_replica_may_come_back_and_go_on),
        cmocka_unit_test(replicas_that_die_again_and_again_end_the_chat),
        cmocka_unit_test(a_model_taken_away_ends_those_that_wait_for_it),
        cmocka_unit_test(errors_of_a_replica_have_their_own_status),
        cmocka_unit_test(a_refusal_is_tried_again_a_little_later),
    };
    return cmocka_run_group_tests_name("gate_chat", tests, NULL, NULL);
}
