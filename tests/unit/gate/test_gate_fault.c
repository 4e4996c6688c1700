/* SPDX-License-Identifier: Apache-2.0 */
/* Every call of the gate that can fail, failed once and from then on: memory, timers, connects.
 *
 * Whatever fails, nothing crashes or is left over, no answer is half an answer, and once there is
 * memory again the gate serves as before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gate_world.h"

/* Complete answers only: what was said to be n bytes has n bytes, a chunked one its last chunk,
 * unless the connection was closed. */
static void check_answers(struct mr_conn *c, bool endless)
{
    const char *at = client_text(c);
    while (*at != 0) {
        const char *end = strstr(at, "\r\n\r\n");
        assert_non_null(end);
        end += 4;
        const char *length = strstr(at, "Content-Length: ");
        if (length != NULL && length < end) {
            uint64_t n = 0;
            length += 16;
            assert_int_equal(mr_str_to_u64((struct mr_str){length, strcspn(length, "\r")}, &n), 0);
            assert_true(strlen(end) >= n);
            at = end + n;
            continue;
        }
        const char *last = strstr(end, "\r\n0\r\n\r\n");
        if (last == NULL) {
            assert_true(c->closed || endless); /* cut, so nobody takes it for whole */
            return;
        }
        at = last + 7;
    }
}

static void scenario(struct world *w, struct mr_conn *c[6])
{
    for (size_t i = 0; i < 6; i++)
        c[i] = client_open(w);
    world_run(w);
    for (size_t i = 0; i < 6; i++) {
        if (c[i]->closed) continue;
        switch (i) {
        case 0:
            client_chat(c[i], WORLD_USER_KEY, "hi", ",\"stream\":true");
            break;
        case 1:
            client_chat(c[i], WORLD_OTHER_KEY, "hi", "");
            break;
        case 2:
            client_ask(c[i], "GET", "/api/events", WORLD_USER_KEY, NULL);
            break;
        case 3:
            client_ask(c[i], "POST", "/api/workloads", WORLD_USER_KEY, "{\"run\":\"x\"}");
            break;
        case 4:
            client_ask(c[i], "GET", "/api/workloads/7/logs?follow=1", WORLD_USER_KEY, NULL);
            break;
        default:
            client_ask(c[i], "GET", "/v1/models", WORLD_USER_KEY, NULL);
        }
    }
    world_feed(w, 1, 2, "workload", "{}");
    /* A replica dies in the middle, another takes over. */
    if (w->workers[0].conn != NULL) {
        for (uint32_t s = 1; s <= 2; s++) {
            if (w->workers[0].streams[s].used) worker_tokens(&w->workers[0], s, 1, "Hello ");
        }
    }
    world_run(w);
    worker_die(&w->workers[0]);
    w->models[0].replica_count = 2;
    world_publish(w);
    world_pass(w, 20000000);
}

static bool run_with(uint64_t nth, bool for_ever)
{
    struct world *w = malloc(sizeof *w);
    world_faults_set(0, false);
    world_init_config(w, 1, &(struct mr_gate_config){.queue_timeout_us = 5000000});
    w->workers[0].automatic = false;
    w->out[MR_CTL_QUEUE] = "{\"workloads\":[{\"ended\":null}]}";
    w->file = "some log";
    world_faults_set(nth, for_ever);
    struct mr_conn *all[6];
    scenario(w, all);
    bool hit = world_faults_done();
    world_faults_set(0, false);
    /* There is memory again. */
    world_publish(w);
    world_pass(w, 5000000);
    struct mr_conn *c = client_open(w);
    client_chat(c, WORLD_USER_KEY, "hi", "");
    world_pass(w, 3000000);
    assert_int_equal(client_status(c), 200);
    /* Deadlines that had no timer are set right by the next one. */
    world_pass(w, 20000000);
    for (size_t i = 0; i < 6; i++)
        check_answers(all[i], i == 2 || i == 4);
    world_done(w);
    free(w);
    return hit;
}

static void each_call_may_fail_once(void **state)
{
    (void)state;
    uint64_t nth = 1;
    for (; run_with(nth, false); nth++) {
        assert_true(nth < 5000);
    }
    assert_true(nth > 50); /* there was something to fail */
}
static void each_call_and_all_after_it_may_fail(void **state)
{
    (void)state;
    for (uint64_t nth = 1; run_with(nth, true); nth++) {
        assert_true(nth < 5000);
    }
}

static void a_gate_that_cannot_be_made_leaves_nothing(void **state)
{
    (void)state;
    struct world *w = malloc(sizeof *w);
    world_faults_set(0, false);
    world_init(w, 0);
    struct mr_gate_config config = {.env = &w->env, .wire = &w->wire, .page = MR_STR("x")};
    uint64_t nth = 1;
    for (;; nth++) {
        struct mr_gate *gate = NULL;
        world_faults_set(nth, false);
        int error = world_gate_new(&config, &gate);
        bool hit = world_faults_done();
        world_faults_set(0, false);
        assert_int_equal(error, hit ? MR_ENO_MEMORY : 0);
        assert_true(hit == (gate == NULL));
        mr_gate_free(gate);
        if (!hit) break;
    }
    assert_int_equal(nth, 3); /* the gate and its page */
    world_done(w);
    free(w);
    mr_gate_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_may_fail_once),
        cmocka_unit_test(each_call_and_all_after_it_may_fail),
        cmocka_unit_test(a_gate_that_cannot_be_made_leaves_nothing),
    };
    return cmocka_run_group_tests_name("gate_fault", tests, NULL, NULL);
}
