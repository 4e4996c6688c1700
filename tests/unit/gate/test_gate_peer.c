/* SPDX-License-Identifier: Apache-2.0 */
/* The wire to replicas and the way of an END to the ledger. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gate_world.h"

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
static struct gate_peer *peer_at(struct world *w, uint64_t lease)
{
    for (struct gate_peer *p = w->gate->services->peers; p != NULL; p = p->next) {
        if (p->lease.v == lease) return p;
    }
    return NULL;
}

static void settled_is_sent_only_after_ctl_answered(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct mr_conn *c = client_open(w);
    w->hold[MR_CTL_METER] = true;
    client_chat(c, WORLD_USER_KEY, "hi", "");
    assert_int_equal(client_status(c), 200); /* the client does not wait for the ledger */
    assert_int_equal(w->workers[0].settled_count, 0);
    world_pass(w, 10000000);
    assert_int_equal(w->workers[0].settled_count, 0);
    world_answer(w, 0, "{}");
    assert_int_equal(w->workers[0].settled_count, 1);
    assert_int_equal(w->workers[0].settled[0], 1);
    assert_int_equal(w->workers[0].unsettled_count, 0);
    teardown(w);
}

static void a_meter_that_ctl_cannot_take_now_is_sent_again(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct mr_conn *c = client_open(w);
    w->error[MR_CTL_METER] = MR_EUNAVAILABLE;
    client_chat(c, WORLD_USER_KEY, "hi", "");
    world_pass(w, 3 * GATE_METER_RETRY_US + 1000);
    assert_int_equal(w->calls[MR_CTL_METER], 4);
    assert_int_equal(w->workers[0].settled_count, 0);
    w->error[MR_CTL_METER] = 0;
    world_pass(w, GATE_METER_RETRY_US + 1000);
    assert_int_equal(w->workers[0].settled_count, 1);
    assert_int_equal(w->metered_tokens, 4);
    teardown(w);
}

static void a_meter_that_ctl_will_never_take_does_not_fill_the_worker(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct mr_conn *c = client_open(w);
    w->error[MR_CTL_METER] = MR_ENOT_FOUND;
    client_chat(c, WORLD_USER_KEY, "hi", "");
    world_pass(w, 10000000);
    assert_int_equal(w->calls[MR_CTL_METER], 1);
    assert_int_equal(w->workers[0].settled_count, 1);
    assert_int_equal(w->gate->meters_refused, 1);
    teardown(w);
}

static void unsettled_ends_are_metered_after_a_reconnect(void **state)
{
    (void)state;
    struct world *w = setup(0);
    struct worker *worker = &w->workers[0];
    worker->unsettled[worker->unsettled_count++] = 41;
    worker->unsettled[worker->unsettled_count++] = 42;
    w->models[0].replica_count = 1;
    world_publish(w);
    assert_int_equal(w->metered, 2);
    assert_int_equal(worker->settled_count, 2);
    assert_int_equal(worker->unsettled_count, 0);
    teardown(w);
}

static void a_lost_wire_is_connected_again_ever_more_slowly(void **state)
{
    (void)state;
    struct world *w = setup(1);
    w->workers[0].refuses = true;
    worker_die(&w->workers[0]);
    world_run(w);
    struct gate_peer *peer = peer_at(w, 100);
    assert_false(gate_peer_room(peer));
    world_pass(w, 1000000);
    uint64_t slow = peer->backoff_us;
    assert_true(slow > GATE_BACKOFF_MIN_US);
    world_pass(w, 60000000);
    assert_int_equal(peer->backoff_us, GATE_BACKOFF_MAX_US);
    w->workers[0].refuses = false;
    world_pass(w, GATE_BACKOFF_MAX_US + 1000);
    assert_true(gate_peer_room(peer));
    assert_int_equal(peer->backoff_us, GATE_BACKOFF_MIN_US);
    teardown(w);
}

static void a_worker_of_another_lease_gets_no_work(void **state)
{
    (void)state;
    struct world *w = setup(0);
    struct mr_conn *c = client_open(w);
    w->workers[0].lease.v = 77; /* an old worker still holds the socket */
    w->models[0].replica_count = 1;
    world_publish(w);
    client_chat(c, WORLD_USER_KEY, "hi", "");
    world_pass(w, 10000000);
    assert_int_equal(w->workers[0].submits, 0);
    w->workers[0].lease.v = 100;
    world_pass(w, 3000000);
    assert_int_equal(client_status(c), 200);
    teardown(w);
}

static void a_worker_that_speaks_another_language_is_left(void **state)
{
    (void)state;
    static const char *const garbage[] = {"HTTP/1.1 400 Bad Request\r\n\r\n",
                                          "\x08\0\0\0\x02\x01\0\0\0\0\0\0", "\xff\xff\xff\xff!!!!"};
    for (size_t i = 0; i < MR_COUNT_OF(garbage); i++) {
        struct world *w = setup(1);
        struct mr_conn *c = client_open(w);
        w->workers[0].automatic = false;
        client_chat(c, WORLD_USER_KEY, "hi", "");
        mr_buf_put(&w->workers[0].conn->to_gate, garbage[i], i == 1 ? 12 : strlen(garbage[i]));
        world_run(w);
        assert_null(w->workers[0].conn);
        w->workers[0].automatic = true;
        world_pass(w, 1000000);
        assert_int_equal(client_status(c), 200); /* the chat went on after the reconnect */
        teardown(w);
    }
}

static void frames_may_be_cut_at_every_byte(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct mr_conn *c = client_open(w);
    char text[128];
    w->byte_by_byte = true;
    client_chat(c, WORLD_USER_KEY, "hi", ",\"stream\":true");
    client_deltas(c, text, sizeof text);
    assert_string_equal(text, "Hello there, dear caller.");
    teardown(w);
}

static void a_replica_taken_from_the_routes_finishes_what_it_has(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct worker *worker = &w->workers[0];
    struct mr_conn *c = client_open(w), *late = client_open(w);
    worker->automatic = false;
    client_chat(c, WORLD_USER_KEY, "hi", ",\"stream\":true");
    w->models[0].replica_count = 0;
    w->hold[MR_CTL_METER] = true;
    world_publish(w);
    client_chat(late, WORLD_USER_KEY, "hi", "");
    worker_tokens(worker, 1, 1, "Hello");
    worker_end(worker, 1, MR_FINISH_STOP, 0, "");
    world_run(w);
    assert_non_null(strstr(client_text(c), "[DONE]"));
    assert_int_equal(worker->submits, 1); /* nothing new */
    assert_non_null(worker->conn);        /* the END is not settled yet */
    world_answer(w, 0, "{}");
    assert_int_equal(worker->settled_count, 1);
    assert_null(worker->conn);
    assert_null(w->gate->services->peers);
    teardown(w);
}

static void a_silent_replica_is_asked_and_then_given_up(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct worker *worker = &w->workers[0];
    struct mr_conn *c = client_open(w);
    worker->automatic = false;
    client_chat(c, WORLD_USER_KEY, "hi", "");
    world_pass(w, 120000000);
    assert_true(worker->pings >= 8); /* it answered: a long prefill is no death */
    assert_int_equal(worker->submits, 1);
    worker->deaf = true;
    world_pass(w, GATE_SILENT_DEAD_US + GATE_SILENT_PING_US);
    assert_int_equal(worker->submits, 2); /* given up, connected again, gone on */
    teardown(w);
}

static void a_replica_that_had_nothing_to_say_is_not_given_up(void **state)
{
    (void)state;
    struct world *w = setup(2);
    struct mr_conn *c = client_open(w), *d = client_open(w);
    for (size_t i = 0; i < 2; i++)
        w->workers[i].automatic = false;
    client_chat(c, WORLD_USER_KEY, "hi", ""); /* the watch runs from here on */
    uint32_t first = w->workers[0].submits == 1 ? 0 : 1;
    world_pass(w, 2 * GATE_SILENT_DEAD_US);
    w->workers[first].slots = 1;
    worker_hello(&w->workers[first], true);
    world_run(w);
    client_chat(d, WORLD_USER_KEY, "hi", ""); /* to the other one, silent for a minute */
    world_pass(w, 2 * GATE_WATCH_US);
    assert_int_equal(w->workers[!first].submits, 1);
    assert_non_null(w->workers[!first].conn);
    teardown(w);
}

static void what_other_gates_do_there_is_counted(void **state)
{
    (void)state;
    struct world *w = setup(2);
    for (size_t i = 0; i < 2; i++)
        w->workers[i].automatic = false;
    w->env.lane_count = 3; /* two gates */
    worker_say(&w->workers[0],
               &(struct mr_wire_frame){.type = MR_WIRE_STATS, .u.stats = {.running = 4}});
    world_run(w);
    for (size_t i = 0; i < 4; i++) {
        struct mr_conn *c = client_open(w);
        client_chat(c, WORLD_USER_KEY, "hi", "");
    }
    assert_int_equal(w->workers[1].submits, 4);
    /* Its own part of a replica is a gate's whatever the others do: half of four slots. */
    for (size_t i = 0; i < 4; i++) {
        struct mr_conn *c = client_open(w);
        client_chat(c, WORLD_USER_KEY, "hi", "");
    }
    assert_int_equal(w->workers[0].submits, 2);
    worker_say(&w->workers[0],
               &(struct mr_wire_frame){.type = MR_WIRE_STATS, .u.stats = {.running = 2}});
    world_run(w);
    assert_int_equal(w->workers[0].submits, 4);
    teardown(w);
}

static void load_signals_come_when_it_changed_and_not_too_often(void **state)
{
    (void)state;
    struct world *w = setup(1);
    w->workers[0].automatic = false;
    for (uint32_t i = 1; i <= 6; i++) {
        struct mr_conn *c = client_open(w);
        client_chat(c, WORLD_USER_KEY, "hi", "");
    }
    assert_int_equal(w->calls[MR_CTL_LOAD], 1);
    assert_int_equal(w->last_load.running, 1);
    world_pass(w, GATE_LOAD_EVERY_US - 1);
    assert_int_equal(w->calls[MR_CTL_LOAD], 1);
    world_pass(w, 2);
    assert_int_equal(w->calls[MR_CTL_LOAD], 2);
    assert_int_equal(w->last_load.running, 4);
    assert_int_equal(w->last_load.waiting, 2);
    world_pass(w, 10000000);
    assert_int_equal(w->calls[MR_CTL_LOAD], 2); /* nothing changed */
    w->hold[MR_CTL_LOAD] = true;
    for (uint32_t s = 1; s <= 2; s++) {
        worker_end(&w->workers[0], s, MR_FINISH_STOP, 0, "");
        world_pass(w, 1000000);
    }
    assert_int_equal(w->calls[MR_CTL_LOAD], 3); /* one at a time */
    world_answer(w, 0, "{}");
    world_pass(w, 1000000);
    assert_int_equal(w->calls[MR_CTL_LOAD], 4);
    assert_int_equal(w->last_load.waiting, 0);
    teardown(w);
}

static void a_stream_id_is_not_used_again_before_its_end(void **state)
{
    (void)state;
    struct world *w = setup(1);
    struct worker *worker = &w->workers[0];
    worker->automatic = false;
    worker->slots = 64;
    worker_hello(worker, true);
    world_run(w);
    struct mr_conn *c[40];
    for (size_t i = 0; i < 40; i++) { /* worker_submit checks that no id is live twice */
        c[i] = client_open(w);
        client_chat(c[i], WORLD_USER_KEY, "hi", ",\"stream\":true");
        if (i % 3 == 0) client_leave(c[i]);
    }
    world_run(w);
    assert_int_equal(worker->submits, 40);
    assert_int_equal(worker->cancels, 14);
    assert_int_equal(worker_live(worker), 26);
    teardown(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settled_is_sent_only_after_ctl_answered),
        cmocka_unit_test(a_meter_that_ctl_cannot_take_now_is_sent_again),
        cmocka_unit_test(a_meter_that_ctl_will_never_take_does_not_fill_the_worker),
        cmocka_unit_test(unsettled_ends_are_metered_after_a_reconnect),
        cmocka_unit_test(a_lost_wire_is_connected_again_ever_more_slowly),
        cmocka_unit_test(a_worker_of_another_lease_gets_no_work),
        cmocka_unit_test(a_worker_that_speaks_another_language_is_left),
        cmocka_unit_test(frames_may_be_cut_at_every_byte),
        cmocka_unit_test(a_replica_taken_from_the_routes_finishes_what_it_has),
        cmocka_unit_test(a_silent_replica_is_asked_and_then_given_up),
        cmocka_unit_test(a_replica_that_had_nothing_to_say_is_not_given_up),
        cmocka_unit_test(what_other_gates_do_there_is_counted),
        cmocka_unit_test(load_signals_come_when_it_changed_and_not_too_often),
        cmocka_unit_test(a_stream_id_is_not_used_again_before_its_end),
    };
    return cmocka_run_group_tests_name("gate_peer", tests, NULL, NULL);
}
