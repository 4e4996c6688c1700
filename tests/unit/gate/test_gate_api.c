/* SPDX-License-Identifier: Apache-2.0 */
/* /api: what ctl is asked, and what becomes of its answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gate_world.h"

static struct world *setup(void)
{
    struct world *w = malloc(sizeof *w);
    world_init(w, 1);
    return w;
}
static void teardown(struct world *w)
{
    world_done(w);
    free(w);
}

static void calls_carry_id_query_body_and_who_asks(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path;
        enum mr_ctl_op op;
        uint64_t id;
    } cases[] = {
        {"POST", "/api/workloads", MR_CTL_SUBMIT, 0},
        {"GET", "/api/workloads?state=running&limit=5", MR_CTL_QUEUE, 0},
        {"GET", "/api/workloads/18446744073709551615", MR_CTL_QUEUE, UINT64_MAX},
        {"DELETE", "/api/workloads/7", MR_CTL_CANCEL, 7},
        {"POST", "/api/workloads/7/scale", MR_CTL_SCALE, 7},
        {"GET", "/api/workloads/7/why", MR_CTL_WHY, 7},
        {"GET", "/api/workloads/7/when", MR_CTL_WHEN, 7},
        {"GET", "/api/fleet", MR_CTL_FLEET, 0},
        {"GET", "/api/timeline", MR_CTL_TIMELINE, 0},
        {"POST", "/api/nodes", MR_CTL_NODE_SET, 0},
        {"POST", "/api/nodes/3", MR_CTL_NODE, 3},
        {"POST", "/api/domains/4", MR_CTL_DOMAIN, 4},
        {"GET", "/api/usage", MR_CTL_USAGE, 0},
        {"GET", "/api/status", MR_CTL_STATUS, 0},
        {"GET", "/api/tenants", MR_CTL_TENANTS, 0},
        {"POST", "/api/tenants", MR_CTL_TENANT_SET, 0},
        {"POST", "/api/keys", MR_CTL_KEY_NEW, 0},
        {"DELETE", "/api/keys", MR_CTL_KEY_REVOKE, 0},
        {"POST", "/api/snapshot", MR_CTL_SNAPSHOT, 0},
    };
    struct world *w = setup();
    struct mr_conn *c = client_open(w);
    for (size_t i = 0; i < MR_COUNT_OF(cases); i++) {
        w->out[cases[i].op] = "{\"from\":\"ctl\"}";
        client_clear(c);
        client_ask(c, cases[i].method, cases[i].path, WORLD_ADMIN_KEY, "{\"the\":\"body\"}");
        assert_int_equal(client_status(c), 200);
        assert_int_equal(w->last.op, cases[i].op);
        assert_int_equal(w->last.id, cases[i].id);
        assert_int_equal(w->last.tenant.v, 1);
        assert_string_equal(w->last_body, "{\"the\":\"body\"}");
        assert_string_equal(w->last_query, i == 1 ? "state=running&limit=5" : "");
        assert_non_null(strstr(client_text(c), "application/json"));
        assert_non_null(strstr(client_text(c), "\r\n\r\n{\"from\":\"ctl\"}"));
    }
    teardown(w);
}

static void ids_that_are_none_are_not_found(void **state)
{
    (void)state;
    static const char *const bad[] = {"x", "-1", "0", "18446744073709551616", "7x", "%31x"};
    struct world *w = setup();
    struct mr_conn *c = client_open(w);
    char path[64];
    for (size_t i = 0; i < MR_COUNT_OF(bad); i++) {
        client_clear(c);
        snprintf(path, sizeof path, "/api/workloads/%s", bad[i]);
        client_ask(c, "GET", path, WORLD_USER_KEY, NULL);
        assert_int_equal(client_status(c), 404);
    }
    assert_int_equal(w->calls[MR_CTL_QUEUE], 0);
    client_clear(c);
    client_ask(c, "GET", "/api/workloads/%37", WORLD_USER_KEY, NULL);
    assert_int_equal(w->last.id, 7);
    teardown(w);
}

static void errors_of_ctl_keep_their_status_and_text(void **state)
{
    (void)state;
    static const int errors[] = {MR_EINVALID,     MR_ENOT_FOUND, MR_EFORBIDDEN, MR_EQUOTA,
                                 MR_EUNAVAILABLE, MR_ELIMIT,     MR_EFENCED,    MR_ECANCELLED};
    struct world *w = setup();
    struct mr_conn *c = client_open(w);
    char text[64];
    for (size_t i = 0; i < MR_COUNT_OF(errors); i++) {
        w->error[MR_CTL_SUBMIT] = errors[i];
        client_clear(c);
        client_ask(c, "POST", "/api/workloads", WORLD_USER_KEY, "{}");
        int want = errors[i] == MR_ECANCELLED ? 503 : mr_error_status(errors[i]);
        assert_int_equal(client_status(c), want);
        snprintf(text, sizeof text, "ctl says %s", mr_error_name(errors[i]));
        assert_non_null(strstr(client_text(c), text));
        assert_int_equal(strstr(client_text(c), "retry-after") != NULL,
                         (want == 429 || want == 503) && mr_error_retryable(errors[i]));
    }
    teardown(w);
}

static void submit_with_key(struct world *w, const char *key, const char *idempotency)
{
    struct mr_conn *c = client_open(w);
    mr_buf_printf(&c->to_gate,
                  "POST /api/workloads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
                  "Idempotency-Key: %s\r\nContent-Length: 2\r\n\r\n{}",
                  key, idempotency);
    world_run(w);
    assert_int_equal(client_status(c), 200);
}
static void idempotency_keys_are_hashed_and_a_tenants_own(void **state)
{
    (void)state;
    struct world *w = setup();
    char first[16];
    submit_with_key(w, WORLD_USER_KEY, "abc");
    assert_int_equal(w->last.key.n, 16);
    memcpy(first, w->last_key, 16);
    submit_with_key(w, WORLD_USER_KEY, "abc");
    assert_memory_equal(first, w->last_key, 16);
    submit_with_key(w, WORLD_USER_KEY, "abd");
    assert_memory_not_equal(first, w->last_key, 16);
    submit_with_key(w, WORLD_OTHER_KEY, "abc");
    assert_memory_not_equal(first, w->last_key, 16);
    struct mr_conn *c = client_open(w);
    client_ask(c, "POST", "/api/workloads", WORLD_USER_KEY, "{}");
    assert_int_equal(w->last.key.n, 0);
    teardown(w);
}

/* --- logs and files -------------------------------------------------------------------------- */

static void a_log_is_read_from_its_offset_and_says_where_it_ends(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c = client_open(w);
    w->file = "one two three";
    client_ask(c, "GET", "/api/workloads/7/logs?offset=4&rank=2&run=3&stream=stderr",
               WORLD_USER_KEY, NULL);
    assert_int_equal(client_status(c), 200);
    assert_non_null(strstr(client_text(c), "\r\n\r\ntwo three"));
    assert_non_null(strstr(client_text(c), "x-next-offset: 13\r\n"));
    assert_int_equal(w->last.id, 7);
    assert_int_equal(w->last.rank, 2);
    assert_int_equal(w->last.run, 3);
    assert_string_equal(w->last_name, "stderr");
    static const char *const bad[] = {"offset=x", "rank=-1", "run=4294967296", "stream=both"};
    char path[96];
    for (size_t i = 0; i < MR_COUNT_OF(bad); i++) {
        client_clear(c);
        snprintf(path, sizeof path, "/api/workloads/7/logs?%s", bad[i]);
        client_ask(c, "GET", path, WORLD_USER_KEY, NULL);
        assert_int_equal(client_status(c), 400);
    }
    teardown(w);
}

static void a_followed_log_ends_when_the_workload_has_and_misses_nothing(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c = client_open(w);
    w->file = "first ";
    w->out[MR_CTL_QUEUE] =
        "{\"workloads\":[{\"id\":7,\"name\":\"\\\"ended\\\":1\",\"ended\":null}]}";
    client_ask(c, "GET", "/api/workloads/7/logs?follow=1", WORLD_USER_KEY, NULL);
    assert_non_null(strstr(client_text(c), "first "));
    world_pass(w, 5000000);
    w->file = "first second ";
    world_pass(w, 1000000);
    assert_non_null(strstr(client_text(c), "second "));
    assert_null(strstr(client_text(c), "\r\n0\r\n\r\n"));
    /* It writes once more and ends. */
    w->file = "first second third";
    w->out[MR_CTL_QUEUE] = "{\"workloads\":[{\"id\":7,\"ended\":\"2026-01-01T00:00:00Z\"}]}";
    world_pass(w, 1000000);
    assert_non_null(strstr(client_text(c), "third"));
    assert_non_null(strstr(client_text(c), "\r\n0\r\n\r\n"));
    assert_int_equal(text_count(client_text(c), "first"), 1);
    teardown(w);
}

static void a_log_that_is_not_there_yet_is_followed_all_the_same(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c = client_open(w);
    w->error[MR_CTL_FILE] = MR_ENOT_FOUND;
    w->out[MR_CTL_QUEUE] = "{\"workloads\":[{\"id\":7,\"ended\":null}]}";
    client_ask(c, "GET", "/api/workloads/7/logs?follow=1", WORLD_USER_KEY, NULL);
    world_pass(w, 1000000);
    assert_int_equal(client_status(c), 200);
    w->error[MR_CTL_FILE] = 0;
    w->file = "now";
    world_pass(w, 1000000);
    assert_non_null(strstr(client_text(c), "now"));
    client_leave(c);
    world_pass(w, 1000000);
    uint32_t calls = w->calls[MR_CTL_FILE];
    world_pass(w, 5000000);
    assert_int_equal(w->calls[MR_CTL_FILE], calls); /* nobody reads for who is gone */
    c = client_open(w);
    w->error[MR_CTL_QUEUE] = MR_ENOT_FOUND;
    client_ask(c, "GET", "/api/workloads/8/logs?follow=1", WORLD_USER_KEY, NULL);
    assert_int_equal(client_status(c), 404);
    teardown(w);
}

static void a_large_file_is_pulled_as_it_is_read(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c = client_open(w);
    const size_t n = 5u * GATE_PIECE_BYTES + 17;
    char *file = malloc(n + 1);
    memset(file, 'z', n);
    file[n] = 0;
    w->file = file;
    client_stall(c, true);
    client_ask(c, "GET", "/api/workloads/7/files/out/model%20x.bin", WORLD_USER_KEY, NULL);
    assert_string_equal(w->last_name, "out/model x.bin");
    assert_int_equal(w->calls[MR_CTL_FILE], 1); /* one piece is more than the mark */
    client_stall(c, false);
    world_run(w);
    assert_int_equal(w->calls[MR_CTL_FILE], 6);
    size_t got = 0;
    for (const char *at = client_text(c); *at != 0; at++)
        got += *at == 'z';
    assert_int_equal(got, n);
    w->file = "{}";
    client_clear(c);
    client_ask(c, "GET", "/api/workloads/7/files/result.json", WORLD_USER_KEY, NULL);
    assert_non_null(strstr(client_text(c), "Content-Type: application/json"));
    assert_non_null(strstr(client_text(c), "Content-Length: 2"));
    client_clear(c);
    w->error[MR_CTL_FILE] = MR_ENOT_FOUND;
    client_ask(c, "GET", "/api/workloads/7/files/nope", WORLD_USER_KEY, NULL);
    assert_int_equal(client_status(c), 404);
    free(file);
    teardown(w);
}

/* --- events and metrics ---------------------------------------------------------------------- */

static void a_key_hears_its_tenants_events_only(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *user = client_open(w), *admin = client_open(w);
    client_send(user, "GET /api/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 17\r\n"
                      "Authorization: Bearer " WORLD_USER_KEY "\r\n\r\n");
    client_ask(admin, "GET", "/api/events", WORLD_ADMIN_KEY, NULL);
    assert_int_equal(client_status(user), 200);
    assert_non_null(strstr(client_text(user), "text/event-stream"));
    world_feed(w, 1, 2, "workload", "{\"id\":5}");
    world_feed(w, 2, 3, "workload", "{\"id\":6}");
    assert_non_null(strstr(client_text(user), "id: 1\nevent: workload\ndata: {\"id\":5}\n\n"));
    assert_null(strstr(client_text(user), "{\"id\":6}"));
    assert_non_null(strstr(client_text(admin), "{\"id\":5}"));
    assert_non_null(strstr(client_text(admin), "{\"id\":6}"));
    world_pass(w, 40000000);
    assert_true(text_count(client_text(user), ": keep-alive") >= 3);
    client_leave(user);
    world_run(w);
    world_feed(w, 3, 2, "workload", "{\"id\":7}");
    assert_non_null(strstr(client_text(admin), "{\"id\":7}"));
    teardown(w);
}

static void a_subscriber_that_does_not_read_is_told_what_it_missed(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c = client_open(w);
    char json[512];
    memset(json, 'j', sizeof json - 1);
    json[sizeof json - 1] = 0;
    client_ask(c, "GET", "/api/events", WORLD_USER_KEY, NULL);
    client_stall(c, true);
    for (uint64_t i = 0; i < 1000; i++)
        world_feed(w, i + 1, 2, "workload", json);
    assert_true(c->queued.n < MR_CONN_WRITE_BYTES_HIGH + 1024);
    client_stall(c, false);
    world_run(w);
    uint32_t got = text_count(client_text(c), "event: workload");
    char missed[64];
    snprintf(missed, sizeof missed, "event: missed\ndata: {\"missed\":%u}\n\n", 1000 - got);
    assert_true(got > 100 && got < 1000);
    assert_non_null(strstr(client_text(c), missed));
    teardown(w);
}

static void metrics_are_the_gates_and_ctls_in_one_document(void **state)
{
    (void)state;
    struct world *w = setup();
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", "");
    client_clear(c);
    w->out[MR_CTL_METRICS] = "# TYPE millrace_nodes gauge\nmillrace_nodes 3\n# EOF\n";
    client_ask(c, "GET", "/metrics", WORLD_ADMIN_KEY, NULL);
    const char *all = client_text(c);
    assert_non_null(strstr(all, "application/openmetrics-text"));
    assert_non_null(strstr(all, "millrace_gate_chats_total{lane=\"1\"} 1\n"));
    assert_non_null(strstr(all, "millrace_gate_completion_tokens_total{lane=\"1\"} 4\n"));
    assert_non_null(strstr(all, "millrace_nodes 3\n# EOF\n"));
    assert_int_equal(text_count(all, "# EOF"), 1);
    teardown(w);
}

static void the_page_is_answered_without_a_key(void **state)
{
    (void)state;
    struct world *w = malloc(sizeof *w);
    world_init_config(w, 1, &(struct mr_gate_config){.page = MR_STR("<!doctype html>hello")});
    struct mr_conn *c = client_open(w);
    client_ask(c, "GET", "/", NULL, NULL);
    assert_int_equal(client_status(c), 200);
    assert_non_null(strstr(client_text(c), "text/html"));
    assert_non_null(strstr(client_text(c), "<!doctype html>hello"));
    teardown(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_carry_id_query_body_and_who_asks),
        cmocka_unit_test(ids_that_are_none_are_not_found),
        cmocka_unit_test(errors_of_ctl_keep_their_status_and_text),
        cmocka_unit_test(idempotency_keys_are_hashed_and_a_tenants_own),
        cmocka_unit_test(a_log_is_read_from_its_offset_and_says_where_it_ends),
        cmocka_unit_test(a_followed_log_ends_when_the_workload_has_and_misses_nothing),
        cmocka_unit_test(a_log_that_is_not_there_yet_is_followed_all_the_same),
        cmocka_unit_test(a_large_file_is_pulled_as_it_is_read),
        cmocka_unit_test(a_key_hears_its_tenants_events_only),
        cmocka_unit_test(a_subscriber_that_does_not_read_is_told_what_it_missed),
        cmocka_unit_test(metrics_are_the_gates_and_ctls_in_one_document),
        cmocka_unit_test(the_page_is_answered_without_a_key),
    };
    return cmocka_run_group_tests_name("gate_api", tests, NULL, NULL);
}
