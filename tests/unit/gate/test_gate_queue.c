/* SPDX-License-Identifier: Apache-2.0 */
/* Who is next when replicas are full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gate_world.h"

static struct world *setup(uint32_t slots)
{
    struct world *w = malloc(sizeof *w);
    world_init(w, 1);
    w->workers[0].automatic = false;
    w->workers[0].slots = slots;
    worker_hello(&w->workers[0], true);
    world_run(w);
    return w;
}
static void teardown(struct world *w)
{
    world_done(w);
    free(w);
}
static struct mr_conn *chat(struct world *w, const char *key, const char *content)
{
    struct mr_conn *c = client_open(w);
    client_chat(c, key, content, "");
    return c;
}
/* Ends the stream that runs on the only slot, after so many tokens. */
static void finish(struct world *w, uint32_t tokens)
{
    worker_tokens(&w->workers[0], 1, tokens, "x");
    worker_end(&w->workers[0], 1, MR_FINISH_STOP, 0, "");
    world_run(w);
}

static void two_backlogged_tenants_get_the_same_service(void **state)
{
    (void)state;
    struct world *w = setup(1);
    uint64_t served[4] = {0};
    /* Tenant 2 sends many long chats, tenant 3 fewer short ones; both always wait. */
    for (uint32_t i = 0; i < 120; i++)
        (void)chat(w, WORLD_USER_KEY, "long");
    for (uint32_t i = 0; i < 120; i++)
        (void)chat(w, WORLD_OTHER_KEY, "short");
    for (uint32_t i = 0; i < 60; i++) {
        uint32_t tenant = w->workers[0].streams[1].tenant;
        uint32_t tokens = tenant == 2 ? 100 : 10;
        served[tenant] += 10 + 2 * tokens; /* as the counter counts */
        finish(w, tokens);
    }
    /* The bound of the paper: one chat of the largest kind each way. */
    uint64_t more = MR_MAX(served[2], served[3]), less = MR_MIN(served[2], served[3]);
    assert_true(less > 0);
    assert_true(more - less <= 2 * (10 + 2 * 100));
    teardown(w);
}

static void staying_away_saves_no_service_up(void **state)
{
    (void)state;
    struct world *w = setup(1);
    for (uint32_t i = 0; i < 60; i++)
        (void)chat(w, WORLD_USER_KEY, "x");
    for (uint32_t i = 0; i < 20; i++)
        finish(w, 50);
    /* Tenant 3 comes late, with as much: from now on they alternate. */
    for (uint32_t i = 0; i < 30; i++)
        (void)chat(w, WORLD_OTHER_KEY, "x");
    uint32_t before = w->workers[0].submits;
    for (uint32_t i = 0; i < 20; i++)
        finish(w, 50);
    uint32_t others = 0;
    for (uint32_t i = before; i < w->workers[0].submits; i++) {
        others += w->workers[0].order[i] == 3;
    }
    assert_true(others >= 9 && others <= 11);
    teardown(w);
}

static void within_a_tenant_class_goes_before_arrival(void **state)
{
    (void)state;
    struct world *w = setup(1);
    static const struct {
        const char *key;
        int asked, want;
    } cases[] = {{WORLD_ADMIN_KEY, 4, 4},
                 {WORLD_ADMIN_KEY, 7, 7},
                 {WORLD_ADMIN_KEY, 0, 0},
                 {WORLD_ADMIN_KEY, 4, 4},
                 {WORLD_ADMIN_KEY, 1, 1}};
    static const uint8_t order[] = {4, 0, 1, 4, 7};
    for (size_t i = 0; i < MR_COUNT_OF(cases); i++) {
        struct mr_conn *c = client_open(w);
        mr_buf_printf(&c->to_gate,
                      "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Millrace-Priority: %d\r\n"
                      "Authorization: Bearer %s\r\nContent-Length: 59\r\n\r\n"
                      "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
                      cases[i].asked, cases[i].key);
        world_run(w);
    }
    for (size_t i = 0; i < MR_COUNT_OF(order); i++) {
        assert_int_equal(w->workers[0].streams[1].priority, order[i]);
        finish(w, 1);
    }
    assert_int_equal(worker_live(&w->workers[0]), 0);
    teardown(w);
}

static void a_user_cannot_step_before_the_default(void **state)
{
    (void)state;
    struct world *w = setup(8);
    static const char *const asked[] = {"0", "3", "4", "6", "8", "-1", "x"};
    static const uint8_t got[] = {4, 4, 4, 6, 4, 4, 4};
    for (size_t i = 0; i < MR_COUNT_OF(asked); i++) {
        struct mr_conn *c = client_open(w);
        mr_buf_printf(&c->to_gate,
                      "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Millrace-Priority: %s\r\n"
                      "Authorization: Bearer " WORLD_USER_KEY "\r\nContent-Length: 59\r\n\r\n"
                      "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
                      asked[i]);
        world_run(w);
        assert_int_equal(w->workers[0].streams[i + 1].priority, got[i]);
    }
    teardown(w);
}

static void arrival_decides_among_equals(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct mr_conn *c[6];
    for (size_t i = 0; i < 6; i++)
        c[i] = chat(w, WORLD_USER_KEY, "x");
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(client_status(c[i]), 0);
        finish(w, 1);
        assert_int_equal(client_status(c[i]), 200);
    }
    teardown(w);
}

static void an_orphan_goes_before_those_that_came_later(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct mr_conn *first = chat(w, WORLD_USER_KEY, "x");
    struct mr_conn *second = chat(w, WORLD_USER_KEY, "y");
    w->workers[0].conn->far_gone = true;
    world_pass(w, 1000000);
    assert_int_equal(worker_live(&w->workers[0]), 1);
    finish(w, 1);
    assert_int_equal(client_status(first), 200);
    assert_int_equal(client_status(second), 0);
    teardown(w);
}

static void charges_never_fall_below_zero(void **state)
{
    (void)state;
    struct gate_tenant tenant = {.counter = 10};
    gate_queue_charge(&tenant, -11, 0);
    assert_int_equal(tenant.counter, 0);
    gate_queue_charge(&tenant, 5, 3);
    assert_int_equal(tenant.counter, 11);
    gate_queue_charge(&tenant, -11, 0);
    assert_int_equal(tenant.counter, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_backlogged_tenants_get_the_same_service),
        cmocka_unit_test(staying_away_saves_no_service_up),
        cmocka_unit_test(within_a_tenant_class_goes_before_arrival),
        cmocka_unit_test(a_user_cannot_step_before_the_default),
        cmocka_unit_test(arrival_decides_among_equals),
        cmocka_unit_test(an_orphan_goes_before_those_that_came_later),
        cmocka_unit_test(charges_never_fall_below_zero),
    };
    return cmocka_run_group_tests_name("gate_queue", tests, NULL, NULL);
}
