/* SPDX-License-Identifier: Apache-2.0 */
/* The worker as a gate sees it: one real process, the real model, the wire.
 *
 * Seeds: fixed. Nothing sleeps but the wait for a process to start.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "infer_client.h"

static struct worker worker;
static struct client client;

static int group_start(void **state)
{
    (void)state;
    worker.program = getenv("MILLRACE_INFER");
    worker.model = getenv("MILLRACE_TEST_MODEL");
    worker_start(&worker, ",\"context\":4096,\"slots\":8");
    client_open(&client, &worker);
    return 0;
}

static int group_end(void **state)
{
    (void)state;
    client_close(&client);
    worker_end(&worker);
    return 0;
}

static const struct ask story = {.text = "Tell me a story about a miller and his daughter.",
                                 .max_tokens = 40};

static void hello_says_what_is_served(void **state)
{
    (void)state;
    struct client second;
    client_open(&second, &worker);
    assert_int_equal(second.hello.lease, 7);
    assert_true(second.hello.ready);
    assert_int_equal(second.hello.load_permille, 1000);
    assert_int_equal(second.hello.slots, 8);
    assert_int_equal(second.hello.context_tokens, 4096);
    assert_true(mr_str_equal(second.hello.model, MR_STR("little")));
    assert_true(second.hello.engine.n > 0);
    client_close(&second);
}

static void ping_gives_pong(void **state)
{
    (void)state;
    struct mr_wire_frame frame = {.type = MR_WIRE_PING};
    client_send(&client, &frame);
    assert_true(client_next(&client, 10000, &frame));
    assert_int_equal(frame.type, MR_WIRE_PONG);
}

static void an_answer_without_a_limit_ends_by_itself(void **state)
{
    (void)state;
    struct ask ask = {.text = "Hi! Please answer with a short greeting."};
    struct answer *answer = client_ask(&client, &ask);
    assert_int_equal(answer->end.finish, MR_FINISH_STOP);
    assert_true(answer->n > 0);
    assert_int_equal(answer->tokens, answer->end.usage.completion_tokens);
    assert_null(strstr(answer->text, "<|im_end|>"));
}

static void text_by_single_credits_equals_text_at_once(void **state)
{
    (void)state;
    struct answer whole = *client_ask(&client, &story);
    struct ask slow = story;
    slow.credit = 1;
    client_submit(&client, 1, &slow);
    char text[65536] = "";
    uint32_t tokens = 0;
    struct mr_wire_frame frame;
    for (;;) {
        assert_true(client_next(&client, 60000, &frame));
        if (frame.type == MR_WIRE_END) break;
        assert_int_equal(frame.type, MR_WIRE_TOKENS);
        strncat(text, frame.u.tokens.text.p, frame.u.tokens.text.n);
        tokens += frame.u.tokens.count;
        client_credit(&client, 1, frame.u.tokens.count);
    }
    client_settle(&client, frame.u.end.serial);
    assert_string_equal(text, whole.text);
    assert_int_equal(tokens, frame.u.end.usage.completion_tokens);
}

static void no_token_is_sent_without_credit(void **state)
{
    (void)state;
    struct ask ask = story;
    ask.credit = 3;
    client_submit(&client, 1, &ask);
    struct mr_wire_frame frame;
    uint32_t tokens = 0;
    while (client_next(&client, 1000, &frame)) {
        assert_int_equal(frame.type, MR_WIRE_TOKENS);
        tokens += frame.u.tokens.count;
    }
    assert_int_equal(tokens, 3);
    client_credit(&client, 1, 1000);
    static struct answer answer;
    client_collect(&client, &answer, 1);
    assert_int_equal(answer.tokens, 37);
    assert_int_equal(answer.end.usage.completion_tokens, 40);
    client_settle(&client, answer.end.serial);
}

static void max_tokens_is_the_limit(void **state)
{
    (void)state;
    for (uint32_t limit = 1; limit <= 3; limit++) {
        struct ask ask = story;
        ask.max_tokens = limit;
        struct answer *answer = client_ask(&client, &ask);
        assert_int_equal(answer->end.finish, MR_FINISH_LENGTH);
        assert_int_equal(answer->end.usage.completion_tokens, limit);
        assert_int_equal(answer->tokens, limit);
    }
}

static void stop_string_ends_the_text_before_it(void **state)
{
    (void)state;
    struct answer whole = *client_ask(&client, &story);
    assert_true(whole.n > 60);
    char stop[12];
    memcpy(stop, whole.text + 40, 11);
    stop[11] = '\0';
    struct ask ask = story;
    ask.stop = stop;
    struct answer *answer = client_ask(&client, &ask);
    size_t expected = (size_t)(strstr(whole.text, stop) - whole.text);
    assert_int_equal(answer->end.finish, MR_FINISH_STOP);
    assert_int_equal(answer->n, expected);
    assert_memory_equal(answer->text, whole.text, expected);
    assert_true(answer->end.usage.completion_tokens < whole.end.usage.completion_tokens);
    assert_int_equal(answer->tokens, answer->end.usage.completion_tokens);
}

static void a_seed_gives_one_text(void **state)
{
    (void)state;
    struct ask ask = story;
    ask.temperature = 1.0f;
    ask.seed = 11;
    struct answer first = *client_ask(&client, &ask);
    assert_string_equal(client_ask(&client, &ask)->text, first.text);
    ask.seed = 12;
    assert_string_not_equal(client_ask(&client, &ask)->text, first.text);
}

static void penalties_change_a_greedy_text(void **state)
{
    (void)state;
    struct ask ask = {.text = "Count from one to fifty, one number on each line.",
                      .max_tokens = 40};
    struct answer plain = *client_ask(&client, &ask);
    ask.frequency = 2.0f;
    assert_string_not_equal(client_ask(&client, &ask)->text, plain.text);
}

static void a_resumed_text_goes_on_where_it_stopped(void **state)
{
    (void)state;
    struct answer whole = *client_ask(&client, &story);
    struct ask half = story;
    half.max_tokens = 20;
    struct answer first = *client_ask(&client, &half);
    struct ask rest = story;
    rest.max_tokens = 20;
    rest.resume = first.text;
    struct answer *second = client_ask(&client, &rest);
    assert_memory_equal(whole.text, first.text, first.n);
    assert_string_equal(second->text, whole.text + first.n);
}

static void cancel_ends_a_stream_at_once(void **state)
{
    (void)state;
    struct ask ask = story;
    ask.max_tokens = 2000;
    client_submit(&client, 1, &ask);
    struct mr_wire_frame frame;
    assert_true(client_next(&client, 60000, &frame));
    assert_int_equal(frame.type, MR_WIRE_TOKENS);
    client_cancel(&client, 1);
    uint32_t after = 0;
    while (client_next(&client, 60000, &frame) && frame.type == MR_WIRE_TOKENS) {
        after++;
    }
    assert_int_equal(frame.type, MR_WIRE_END);
    assert_int_equal(frame.u.end.finish, MR_FINISH_CANCELLED);
    /* What was decoded is billed, also what the client never read. */
    assert_in_range(frame.u.end.usage.completion_tokens, 1 + after, 1 + after + 2);
    assert_true(frame.u.end.usage.completion_tokens < 200);
    client_settle(&client, frame.u.end.serial);
}

static void cancel_and_credit_for_unknown_streams_do_nothing(void **state)
{
    (void)state;
    client_cancel(&client, 77);
    client_credit(&client, 78, 5);
    client_settle(&client, 123456789);
    ping_gives_pong(state);
}

static void a_common_prefix_is_computed_once(void **state)
{
    (void)state;
    static struct answer answers[4];
    const char *system = words_of(900, 5); /* about 900 tokens */
    char texts[4][64];
    for (uint32_t i = 0; i < 4; i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "Say the number %u%u%u.", i, i, i);
        struct ask ask = {.text = texts[i], .system = system, .max_tokens = 4, .tenant = 3};
        client_submit(&client, i + 1, &ask);
    }
    client_collect(&client, answers, 4);
    uint32_t prompt = 0;
    uint32_t computed = 0;
    for (uint32_t i = 0; i < 4; i++) {
        const struct mr_usage *usage = &answers[i].end.usage;
        prompt += usage->prompt_tokens;
        computed += usage->prompt_tokens - usage->cached_tokens;
        client_settle(&client, answers[i].end.serial);
    }
    assert_true(prompt > 3600);
    assert_in_range(computed, prompt / 4, prompt / 4 + 100);
}

/* `count` requests of one family at once; the tokens that had to be computed, and all of them. */
static uint32_t family_ask(uint32_t seed, uint32_t count, uint32_t *ret_prompt)
{
    static struct answer answers[8];
    char text[64];
    uint32_t computed = 0;
    *ret_prompt = 0;
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(text, sizeof(text), "Say the number %u%u%u.", i, i, i);
        struct ask ask = {
            .text = text, .system = words_of(400, seed), .max_tokens = 2, .tenant = 50};
        client_submit(&client, i + 1, &ask);
    }
    client_collect(&client, answers, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct mr_usage *usage = &answers[i].end.usage;
        *ret_prompt += usage->prompt_tokens;
        computed += usage->prompt_tokens - usage->cached_tokens;
        client_settle(&client, answers[i].end.serial);
    }
    return computed;
}

static void families_find_their_prefix_again(void **state)
{
    (void)state;
    uint32_t prompt = 0;
    uint32_t computed = family_ask(9, 6, &prompt);
    assert_in_range(computed, 400, prompt / 6 + 6 * 40);
    computed = family_ask(9, 6, &prompt); /* all of it lies there */
    assert_in_range(computed, 6, 6 * 25);
    computed = family_ask(10, 4, &prompt); /* another family, beside what is parked */
    assert_in_range(computed, 400, prompt / 4 + 4 * 40);
    computed = family_ask(9, 6, &prompt);
    assert_in_range(computed, 6, prompt / 6 + 6 * 40);
}

static void a_second_turn_computes_only_what_is_new(void **state)
{
    (void)state;
    struct ask ask = {.text = words_of(300, 6), .max_tokens = 2};
    struct answer first = *client_ask(&client, &ask);
    assert_true(first.end.usage.cached_tokens < 40);
    struct answer *second = client_ask(&client, &ask);
    assert_int_equal(second->end.usage.prompt_tokens, first.end.usage.prompt_tokens);
    assert_int_equal(second->end.usage.cached_tokens, first.end.usage.prompt_tokens - 1);
    assert_string_equal(second->text, first.text);
}

static void tenants_share_nothing(void **state)
{
    (void)state;
    struct ask ask = {.text = words_of(200, 7), .max_tokens = 2, .tenant = 41};
    struct answer first = *client_ask(&client, &ask);
    assert_int_equal(first.end.tenant, 41);
    ask.tenant = 42;
    struct answer *second = client_ask(&client, &ask);
    assert_int_equal(second->end.usage.cached_tokens, 0);
    assert_string_equal(second->text, first.text);
}

static void what_a_user_writes_is_text(void **state)
{
    (void)state;
    struct ask plain = {.text = "abc", .max_tokens = 1};
    uint32_t base = client_ask(&client, &plain)->end.usage.prompt_tokens;
    struct ask odd = {.text = "abc<|im_end|>", .max_tokens = 1};
    /* As a special token it would be one more; as text it is several. */
    assert_true(client_ask(&client, &odd)->end.usage.prompt_tokens > base + 2);
}

static void a_prompt_longer_than_the_context_is_refused(void **state)
{
    (void)state;
    struct ask ask = {.text = words_of(5000, 8), .max_tokens = 1};
    struct answer *answer = client_ask(&client, &ask);
    assert_int_equal(answer->end.finish, MR_FINISH_ERROR);
    assert_int_equal(answer->end.error, MR_ETOO_LARGE);
    assert_int_equal(answer->end.serial, 0);
    assert_non_null(strstr(answer->error_text, "4096 tokens"));
}

static void more_requests_than_slots_wait_for_their_turn(void **state)
{
    (void)state;
    static struct answer answers[20];
    for (uint32_t i = 0; i < 20; i++) {
        struct ask ask = {.text = words_of(10 + i, i), .max_tokens = 4};
        client_submit(&client, i + 1, &ask);
    }
    client_collect(&client, answers, 20);
    for (uint32_t i = 0; i < 20; i++) {
        assert_true(answers[i].end.finish == MR_FINISH_LENGTH ||
                    answers[i].end.finish == MR_FINISH_STOP);
        for (uint32_t j = 0; j < i; j++) {
            assert_true(answers[i].end.serial != answers[j].end.serial);
        }
        client_settle(&client, answers[i].end.serial);
    }
}

static void streams_together_say_what_they_say_alone(void **state)
{
    (void)state;
    static struct answer alone[4];
    static struct answer together[4];
    static const char *const texts[] = {"Name three rivers.", "Why is the sky blue?",
                                        "Write a short poem about rain.", "What is 2 + 2?"};
    for (uint32_t i = 0; i < 4; i++) {
        struct ask ask = {.text = texts[i], .max_tokens = 12};
        alone[i] = *client_ask(&client, &ask);
    }
    for (uint32_t i = 0; i < 4; i++) {
        struct ask ask = {.text = texts[i], .max_tokens = 12, .tenant = 60 + i};
        client_submit(&client, i + 1, &ask);
    }
    client_collect(&client, together, 4);
    /* Rounding differs with the number of rows; most texts must still be the same. */
    uint32_t same = 0;
    for (uint32_t i = 0; i < 4; i++) {
        same += strcmp(alone[i].text, together[i].text) == 0;
        client_settle(&client, together[i].end.serial);
    }
    assert_true(same >= 3);
}

static void an_end_comes_again_until_it_is_settled(void **state)
{
    (void)state;
    struct client second;
    client_close(&client); /* else it would come again there */
    client_open(&second, &worker);
    client_submit(&second, 1, &(struct ask){.text = "Hello!", .max_tokens = 3});
    static struct answer answer;
    client_collect(&second, &answer, 1);
    uint64_t serial = answer.end.serial;
    client_close(&second);
    for (int turn = 0; turn < 2; turn++) {
        struct mr_wire_frame frame;
        client_open(&second, &worker);
        assert_true(client_next(&second, 60000, &frame));
        assert_int_equal(frame.type, MR_WIRE_END);
        assert_int_equal(frame.stream, 0);
        assert_int_equal(frame.u.end.serial, serial);
        assert_int_equal(frame.u.end.usage.completion_tokens, answer.end.usage.completion_tokens);
        if (turn == 1) {
            client_settle(&second, serial);
            client_send(&second, &(struct mr_wire_frame){.type = MR_WIRE_PING});
            assert_true(client_next(&second, 60000, &frame));
        }
        client_close(&second);
    }
    client_open(&second, &worker);
    client_send(&second, &(struct mr_wire_frame){.type = MR_WIRE_PING});
    struct mr_wire_frame frame;
    assert_true(client_next(&second, 60000, &frame));
    assert_int_equal(frame.type, MR_WIRE_PONG); /* and no END before it */
    client_close(&second);
    client_open(&client, &worker);
}

static void a_closed_connection_cancels_its_streams(void **state)
{
    (void)state;
    struct client second;
    struct mr_wire_frame frame;
    client_close(&client);
    client_open(&second, &worker);
    struct ask ask = story;
    ask.max_tokens = 2000;
    client_submit(&second, 5, &ask);
    assert_true(client_next(&second, 60000, &frame));
    assert_int_equal(frame.type, MR_WIRE_TOKENS);
    client_close(&second);
    client_open(&second, &worker);
    assert_true(client_next(&second, 60000, &frame));
    assert_int_equal(frame.type, MR_WIRE_END);
    assert_int_equal(frame.stream, 0);
    assert_int_equal(frame.u.end.finish, MR_FINISH_CANCELLED);
    assert_in_range(frame.u.end.usage.completion_tokens, 1, 200);
    client_settle(&second, frame.u.end.serial);
    client_close(&second);
    client_open(&client, &worker);
}

static void a_gate_that_breaks_the_protocol_is_closed_alone(void **state)
{
    (void)state;
    static const uint8_t bad[][16] = {
        {8, 0, 0, 0, 9, 1, 0, 0, 0, 0, 0, 0},            /* another version */
        {8, 0, 0, 0, 1, 99, 0, 0, 0, 0, 0, 0},           /* no such type */
        {255, 255, 255, 255, 1, 1, 0, 0, 0, 0, 0, 0},    /* longer than anything */
        {8, 0, 0, 0, 1, MR_WIRE_PONG, 0, 0, 0, 0, 0, 0}, /* a worker's frame */
    };
    for (size_t i = 0; i < MR_COUNT_OF(bad); i++) {
        struct client second;
        struct mr_wire_frame frame;
        client_open(&second, &worker);
        client_send_bytes(&second, bad[i], 12);
        assert_false(client_next(&second, 10000, &frame));
        client_close(&second);
    }
    ping_gives_pong(state);
}

static void a_stream_in_use_cannot_be_submitted_again(void **state)
{
    (void)state;
    struct client second;
    client_close(&client);
    client_open(&second, &worker);
    struct ask ask = story;
    ask.credit = 1;
    client_submit(&second, 9, &ask);
    client_submit(&second, 9, &ask);
    struct mr_wire_frame frame;
    while (client_next(&second, 10000, &frame)) {
        assert_int_equal(frame.type, MR_WIRE_TOKENS);
    }
    client_close(&second);
    client_open(&second, &worker);
    assert_true(client_next(&second, 60000, &frame));
    client_settle(&second, frame.u.end.serial);
    client_close(&second);
    client_open(&client, &worker);
}

int main(void)
{
    if (getenv("MILLRACE_INFER") == NULL || getenv("MILLRACE_TEST_MODEL") == NULL ||
        access(getenv("MILLRACE_TEST_MODEL"), R_OK) != 0) {
        (void)fprintf(stderr, "skipped: no model; run `tools/setup model`\n");
        return 77;
    }
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_says_what_is_served),
        cmocka_unit_test(ping_gives_pong),
        cmocka_unit_test(an_answer_without_a_limit_ends_by_itself),
        cmocka_unit_test(text_by_single_credits_equals_text_at_once),
        cmocka_unit_test(no_token_is_sent_without_credit),
        cmocka_unit_test(max_tokens_is_the_limit),
        cmocka_unit_test(stop_string_ends_the_text_before_it),
        cmocka_unit_test(a_seed_gives_one_text),
        cmocka_unit_test(penalties_change_a_greedy_text),
        cmocka_unit_test(a_resumed_text_goes_on_where_it_stopped),
        cmocka_unit_test(cancel_ends_a_stream_at_once),
        cmocka_unit_test(cancel_and_credit_for_unknown_streams_do_nothing),
        cmocka_unit_test(a_common_prefix_is_computed_once),
        cmocka_unit_test(families_find_their_prefix_again),
        cmocka_unit_test(a_second_turn_computes_only_what_is_new),
        cmocka_unit_test(tenants_share_nothing),
        cmocka_unit_test(what_a_user_writes_is_text),
        cmocka_unit_test(a_prompt_longer_than_the_context_is_refused),
        cmocka_unit_test(more_requests_than_slots_wait_for_their_turn),
        cmocka_unit_test(streams_together_say_what_they_say_alone),
        cmocka_unit_test(an_end_comes_again_until_it_is_settled),
        cmocka_unit_test(a_closed_connection_cancels_its_streams),
        cmocka_unit_test(a_gate_that_breaks_the_protocol_is_closed_alone),
        cmocka_unit_test(a_stream_in_use_cannot_be_submitted_again),
    };
    return cmocka_run_group_tests_name("infer_worker", tests, group_start, group_end);
}
