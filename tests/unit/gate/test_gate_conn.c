/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: however bytes are cut, pipelined, late, too many, or left unread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gate_world.h"

#define AUTH "Authorization: Bearer " WORLD_USER_KEY "\r\n"

static struct world *setup(const struct mr_gate_config *config)
{
    struct world *w = malloc(sizeof *w);
    world_init_config(w, 1, config);
    return w;
}
static void teardown(struct world *w)
{
    world_done(w);
    free(w);
}

static const char request_text[] =
    "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" AUTH "Content-Length: 74\r\n\r\n"
    "{\"model\":\"tiny\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"
    "GET /v1/models HTTP/1.1\r\nHost: x\r\n" AUTH "\r\n";

/* What is equal whatever the date and the ids: the statuses and the deltas. */
static void digest(struct mr_conn *c, char ret[512])
{
    char deltas[256];
    client_deltas(c, deltas, sizeof deltas);
    snprintf(ret, 512, "%u %u %s %u", text_count(client_text(c), "HTTP/1.1 200"),
             text_count(client_text(c), "HTTP/1.1 "), deltas,
             text_count(client_text(c), "\"id\":\"tiny\""));
}

static void a_request_may_be_cut_at_every_byte(void **state)
{
    (void)state;
    const size_t n = sizeof request_text - 1;
    char want[512], got[512];
    struct world *w = setup(&(struct mr_gate_config){0});
    struct mr_conn *c = client_open(w);
    client_send(c, request_text);
    world_run(w);
    digest(c, want);
    assert_string_equal(want, "2 2 Hello there, dear caller. 1");
    for (size_t cut = 1; cut < n; cut++) {
        c = client_open(w);
        client_send_bytes(c, request_text, cut);
        world_run(w);
        client_send_bytes(c, request_text + cut, n - cut);
        world_run(w);
        digest(c, got);
        assert_string_equal(got, want);
        client_leave(c);
        world_run(w);
        client_free(c);
    }
    w->byte_by_byte = true;
    c = client_open(w);
    client_send(c, request_text);
    world_run(w);
    digest(c, got);
    assert_string_equal(got, want);
    teardown(w);
}

static void pipelined_answers_keep_their_order(void **state)
{
    (void)state;
    struct world *w = setup(&(struct mr_gate_config){0});
    struct mr_conn *c = client_open(w);
    w->hold[MR_CTL_STATUS] = true;
    client_send(c, "GET /api/status HTTP/1.1\r\nHost: x\r\n" AUTH "\r\n"
                   "GET /v1/models HTTP/1.1\r\nHost: x\r\n" AUTH "\r\n"
                   "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    world_run(w);
    assert_int_equal(client_status(c), 0);
    world_answer(w, 0, "{\"first\":1}");
    const char *all = client_text(c);
    assert_int_equal(text_count(all, "HTTP/1.1 200"), 3);
    assert_true(strstr(all, "first") < strstr(all, "tiny"));
    assert_true(strstr(all, "tiny") < strstr(all, "\"ok\""));
    teardown(w);
}

static void connection_close_is_honoured(void **state)
{
    (void)state;
    struct world *w = setup(&(struct mr_gate_config){0});
    struct mr_conn *c = client_open(w);
    client_send(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                   "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    world_run(w);
    assert_true(c->closed);
    assert_int_equal(text_count(client_text(c), "HTTP/1.1 "), 1);
    assert_non_null(strstr(client_text(c), "Connection: close"));
    teardown(w);
}

static void a_half_closed_client_gets_the_answers_that_are_on_their_way(void **state)
{
    (void)state;
    struct world *w = setup(&(struct mr_gate_config){0});
    struct mr_conn *c = client_open(w);
    w->hold[MR_CTL_STATUS] = true;
    client_send(c, "GET /api/status HTTP/1.1\r\nHost: x\r\n" AUTH "\r\n");
    client_half_close(c);
    world_run(w);
    assert_false(c->closed);
    world_answer(w, 0, "{\"late\":1}");
    assert_non_null(strstr(client_text(c), "late"));
    assert_true(c->closed);
    teardown(w);
}

static void a_client_may_leave_while_ctl_works(void **state)
{
    (void)state;
    struct world *w = setup(&(struct mr_gate_config){0});
    struct mr_conn *c = client_open(w);
    w->hold[MR_CTL_SUBMIT] = true;
    client_ask(c, "POST", "/api/workloads", WORLD_USER_KEY, "{\"run\":\"true\"}");
    client_leave(c);
    world_run(w);
    assert_true(c->closed);
    world_answer(w, 0, "{\"id\":1}"); /* reads the body: ASan tells if it is gone */
    teardown(w);
}

static void too_large_and_malformed_requests_are_told_apart(void **state)
{
    (void)state;
    struct world *w = setup(&(struct mr_gate_config){0});
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"GET / HTTP/3\r\n\r\n", 400},
        {"\x16\x03\x01 hello\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 33554433\r\n\r\n", 413},
    };
    for (size_t i = 0; i < MR_COUNT_OF(cases); i++) {
        struct mr_conn *c = client_open(w);
        client_send(c, cases[i].text);
        world_run(w);
        assert_int_equal(client_status(c), cases[i].status);
        assert_non_null(strstr(client_text(c), "{\"error\":{\"message\""));
        assert_non_null(strstr(client_text(c), "x-request-id: req_"));
        assert_true(c->closed);
    }
    struct mr_conn *c = client_open(w);
    client_send(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 33554432\r\n\r\n");
    world_run(w);
    assert_int_equal(client_status(c), 0); /* at the limit */
    char *long_path = malloc(MR_HTTP_URL_BYTES_MAX + 64);
    memset(long_path, 'a', MR_HTTP_URL_BYTES_MAX + 63);
    memcpy(long_path, "GET /", 5);
    long_path[MR_HTTP_URL_BYTES_MAX + 63] = 0;
    c = client_open(w);
    client_send(c, long_path);
    client_send(c, " HTTP/1.1\r\nHost: x\r\n\r\n");
    world_run(w);
    assert_int_equal(client_status(c), 414);
    c = client_open(w);
    client_send(c, "GET / HTTP/1.1\r\n");
    for (size_t i = 0; i < 101; i++)
        client_send(c, "x: y\r\n");
    world_run(w);
    assert_int_equal(client_status(c), 431);
    free(long_path);
    teardown(w);
}

static void expect_100_continue_is_answered_however_the_head_is_cut(void **state)
{
    (void)state;
    struct world *w = setup(&(struct mr_gate_config){0});
    static const char head[] = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" AUTH
                               "Expect: 100-continue\r\nContent-Length: 58\r\n\r\n";
    for (size_t cut = 0; cut < sizeof head - 1; cut += 7) {
        struct mr_conn *c = client_open(w);
        client_send_bytes(c, head, cut);
        world_run(w);
        assert_string_equal(client_text(c), "");
        client_send(c, head + cut);
        world_run(w);
        assert_string_equal(client_text(c), "HTTP/1.1 100 Continue\r\n\r\n");
        client_clear(c);
        client_send(c, "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}");
        world_run(w);
        assert_int_equal(client_status(c), 200);
        assert_int_equal(text_count(client_text(c), "100 Continue"), 0);
    }
    teardown(w);
}

static void an_unfinished_request_is_given_up_after_its_time(void **state)
{
    (void)state;
    struct world *w =
        setup(&(struct mr_gate_config){.head_timeout_us = 10000000, .idle_timeout_us = 50000000});
    struct mr_conn *slow = client_open(w), *idle = client_open(w), *busy = client_open(w);
    client_send(slow, "GET /heal");
    client_send(busy, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                      "Content-Length: 1000000\r\n\r\n");
    char *piece = calloc(1, GATE_AHEAD_BYTES_MAX + 1);
    memset(piece, 'x', GATE_AHEAD_BYTES_MAX);
    for (uint32_t i = 0; i < 9; i++) {
        client_send(slow, "t"); /* a byte a second is not enough */
        client_send(busy, i % 2 ? "" : piece);
        world_pass(w, 1000000);
    }
    assert_int_equal(client_status(slow), 0);
    world_pass(w, 1000001);
    assert_int_equal(client_status(slow), 408);
    assert_true(slow->closed);
    assert_false(busy->closed); /* it goes on, so it may */
    world_pass(w, 20000000);
    assert_int_equal(client_status(busy), 408);
    assert_false(idle->closed);
    world_pass(w, 20000000);
    assert_true(idle->closed);
    assert_int_equal(client_status(idle), 0);
    free(piece);
    teardown(w);
}

static void keep_alive_starts_anew_with_each_answer(void **state)
{
    (void)state;
    struct world *w = setup(&(struct mr_gate_config){.idle_timeout_us = 50000000});
    struct mr_conn *c = client_open(w);
    for (uint32_t i = 0; i < 4; i++) {
        world_pass(w, 40000000);
        client_ask(c, "GET", "/healthz", NULL, NULL);
    }
    assert_false(c->closed);
    assert_int_equal(text_count(client_text(c), "200 OK"), 4);
    world_pass(w, 50000001);
    assert_true(c->closed);
    teardown(w);
}

static void a_request_in_progress_is_not_idle(void **state)
{
    (void)state;
    struct world *w = setup(&(struct mr_gate_config){0});
    struct mr_conn *c = client_open(w);
    w->hold[MR_CTL_STATUS] = true;
    client_ask(c, "GET", "/api/status", WORLD_USER_KEY, NULL);
    world_pass(w, 600000000);
    assert_false(c->closed);
    world_answer(w, 0, "{}");
    assert_int_equal(client_status(c), 200);
    teardown(w);
}

static void bytes_behind_a_running_request_are_bounded(void **state)
{
    (void)state;
    struct world *w = setup(&(struct mr_gate_config){0});
    struct mr_conn *c = client_open(w);
    w->hold[MR_CTL_STATUS] = true;
    client_ask(c, "GET", "/api/status", WORLD_USER_KEY, NULL);
    static const char next[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    uint32_t sent = 0;
    for (; !c->paused; sent++) {
        client_send(c, next);
        world_run(w);
        assert_true(sent < 10000);
    }
    assert_true(sent * (sizeof next - 1) <= GATE_AHEAD_BYTES_MAX + sizeof next);
    world_answer(w, 0, "{}");
    assert_false(c->paused);
    assert_int_equal(text_count(client_text(c), "HTTP/1.1 200"), sent + 1);
    teardown(w);
}

static void answers_that_nobody_reads_stop_the_pipeline(void **state)
{
    (void)state;
    struct world *w = setup(&(struct mr_gate_config){0});
    struct mr_conn *c = client_open(w);
    client_stall(c, true);
    for (uint32_t i = 0; i < 4000; i++)
        client_send(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    world_run(w);
    assert_true(c->queued.n > MR_CONN_WRITE_BYTES_HIGH);
    assert_true(c->queued.n < MR_CONN_WRITE_BYTES_HIGH + 1024);
    client_stall(c, false);
    world_run(w);
    assert_int_equal(text_count(client_text(c), "HTTP/1.1 200"), 4000);
    teardown(w);
}

static uint32_t drains;
static void count_drain(void *arg)
{
    (void)arg;
    drains++;
}
/* Frees a world whose gate was drained by the test itself. */
static void ended(struct world *w)
{
    mr_gate_free(w->gate);
    while (w->conns != NULL)
        client_free(w->conns);
    assert_null(w->timers);
    assert_null(w->posts);
    free(w);
}

static void drain_lets_streams_finish_and_refuses_the_rest(void **state)
{
    (void)state;
    struct world *w = setup(&(struct mr_gate_config){0});
    struct worker *worker = &w->workers[0];
    worker->automatic = false;
    struct mr_conn *stream = client_open(w), *idle = client_open(w), *feed = client_open(w);
    client_chat(stream, WORLD_USER_KEY, "hi", ",\"stream\":true");
    client_ask(feed, "GET", "/api/events", WORLD_USER_KEY, NULL);
    worker_tokens(worker, 1, 1, "Hello ");
    world_run(w);
    drains = 0;
    mr_gate_drain(w->gate, w->now_us + 10000000, count_drain, NULL);
    assert_int_equal(drains, 0);
    world_run(w);
    assert_true(idle->closed);
    assert_true(feed->closed);
    assert_non_null(strstr(client_text(feed), "\r\n0\r\n\r\n"));
    assert_false(stream->closed);
    struct mr_conn *late = client_open(w);
    world_run(w);
    assert_true(late->closed);
    worker_tokens(worker, 1, 1, "there.");
    worker_end(worker, 1, MR_FINISH_STOP, 0, "");
    world_run(w);
    assert_non_null(strstr(client_text(stream), "[DONE]"));
    assert_true(stream->closed);
    assert_int_equal(w->metered, 1);
    assert_int_equal(worker->settled_count, 1);
    assert_int_equal(drains, 1);
    ended(w);
}

static void after_the_deadline_streams_are_cut_and_billed(void **state)
{
    (void)state;
    struct world *w = setup(&(struct mr_gate_config){0});
    struct worker *worker = &w->workers[0];
    worker->automatic = false;
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", ",\"stream\":true");
    worker_tokens(worker, 1, 2, "Hello there");
    world_run(w);
    w->hold[MR_CTL_METER] = true;
    drains = 0;
    mr_gate_drain(w->gate, w->now_us + 10000000, count_drain, NULL);
    world_pass(w, 9999999);
    assert_false(c->closed);
    world_pass(w, 2);
    assert_true(c->closed);
    assert_int_equal(worker->cancels, 1);
    assert_int_equal(drains, 0); /* the END is not with ctl yet */
    while (w->held_count > 0)
        world_answer(w, 0, "{}");
    assert_int_equal(drains, 1);
    ended(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_may_be_cut_at_every_byte),
        cmocka_unit_test(pipelined_answers_keep_their_order),
        cmocka_unit_test(connection_close_is_honoured),
        cmocka_unit_test(a_half_closed_client_gets_the_answers_that_are_on_their_way),
        cmocka_unit_test(a_client_may_leave_while_ctl_works),
        cmocka_unit_test(too_large_and_malformed_requests_are_told_apart),
        cmocka_unit_test(expect_100_continue_is_answered_however_the_head_is_cut),
        cmocka_unit_test(an_unfinished_request_is_given_up_after_its_time),
        cmocka_unit_test(keep_alive_starts_anew_with_each_answer),
        cmocka_unit_test(a_request_in_progress_is_not_idle),
        cmocka_unit_test(bytes_behind_a_running_request_are_bounded),
        cmocka_unit_test(answers_that_nobody_reads_stop_the_pipeline),
        cmocka_unit_test(drain_lets_streams_finish_and_refuses_the_rest),
        cmocka_unit_test(after_the_deadline_streams_are_cut_and_billed),
    };
    return cmocka_run_group_tests_name("gate_conn", tests, NULL, NULL);
}
