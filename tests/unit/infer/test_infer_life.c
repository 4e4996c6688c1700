/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's life: bad files, a full cache, preemption, SIGTERM, kill -9.
 *
 * Each case starts a real process of its own. Seeds: fixed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "infer_client.h"

static struct worker worker;

static int case_end(void **state)
{
    (void)state;
    worker_end(&worker);
    return 0;
}

static void start(const char *fields)
{
    worker = (struct worker){.program = getenv("MILLRACE_INFER"),
                             .model = getenv("MILLRACE_TEST_MODEL")};
    worker_start(&worker, fields);
}

static size_t lines_of(const char *text)
{
    size_t n = 0;
    for (; *text != '\0'; text++) {
        n += *text == '\n';
    }
    return n;
}

static void fails_with(const char *spec, const char *word, const char *advice)
{
    char said[4096];
    assert_int_equal(worker_fails(&worker, spec, said, sizeof(said)), 1);
    if (strstr(said, word) == NULL || strstr(said, advice) == NULL || lines_of(said) != 1) {
        fail_msg("it said: %s", said);
    }
}

/* The first `bytes` of the model, as a file in the worker's folder. */
static void cut_off_copy(const char *name, size_t bytes)
{
    char path[400];
    (void)snprintf(path, sizeof(path), "%s/%s", worker.dir, name);
    char *block = malloc(bytes);
    FILE *from = fopen(worker.model, "rbe");
    FILE *to = fopen(path, "wbe");
    assert_non_null(block);
    assert_non_null(from);
    assert_non_null(to);
    assert_int_equal(fread(block, 1, bytes, from), bytes);
    assert_int_equal(fwrite(block, 1, bytes, to), bytes);
    assert_int_equal(fclose(to), 0);
    (void)fclose(from);
    free(block);
}

static void a_bad_file_gives_one_line_and_exit_1(void **state)
{
    (void)state;
    char spec[600];
    start(""); /* makes the folder */
    worker_kill(&worker, SIGKILL);
    (void)worker_wait(&worker);
    fails_with("{\"model\":\"/nonexistent.gguf\"}", "/nonexistent.gguf", "name an existing");
    fails_with("{\"model\":\"/tmp\"}", "not a file", "name a GGUF");
    fails_with("{\"model\":\"/etc/passwd\"}", "not a GGUF file", "convert");
    fails_with("{\"slots\":3}", "model", "is missing");
    fails_with("{\"model\":\"m\",\"slot\":3}", "slot", "unknown field");
    fails_with("{", "spec.json", "not JSON");
    cut_off_copy("cut.gguf", 3000000);
    (void)snprintf(spec, sizeof(spec), "{\"model\":\"%s/cut.gguf\"}", worker.dir);
    fails_with(spec, "cut off", "again");
    cut_off_copy("head.gguf", 1000);
    (void)snprintf(spec, sizeof(spec), "{\"model\":\"%s/head.gguf\"}", worker.dir);
    fails_with(spec, "damaged or cut off", "again");
    (void)snprintf(spec, sizeof(spec), "{\"model\":\"%s\",\"adapters\":[\"/nonexistent.lora\"]}",
                   worker.model);
    fails_with(spec, "adapter", "/nonexistent.lora");
    (void)snprintf(spec, sizeof(spec), "{\"model\":\"%s\",\"adapters\":[\"%s\"]}", worker.model,
                   worker.model);
    fails_with(spec, "does not fit", "adapter");
}

static void kill_9_leaves_a_meter_of_what_was_decoded(void **state)
{
    (void)state;
    start("");
    struct client client;
    client_open(&client, &worker);
    client_submit(&client, 1,
                  &(struct ask){.text = "Tell me a long story.", .max_tokens = 500, .tenant = 9});
    uint32_t tokens = 0;
    struct mr_wire_frame frame;
    while (tokens < 10 && client_next(&client, 60000, &frame)) {
        assert_int_equal(frame.type, MR_WIRE_TOKENS);
        tokens += frame.u.tokens.count;
    }
    worker_kill(&worker, SIGKILL);
    assert_int_equal(worker_wait(&worker), -SIGKILL);
    while (client_next(&client, 60000, &frame)) { /* what was under way */
        tokens += frame.type == MR_WIRE_TOKENS ? frame.u.tokens.count : 0;
    }
    client_close(&client);
    static struct mr_meter_record records[MR_WIRE_UNSETTLED_MAX];
    assert_int_equal(worker_meter(&worker, records), 1);
    assert_int_equal(records[0].state, MR_METER_RUNNING);
    assert_int_equal(records[0].serial, 1);
    assert_int_equal(records[0].tenant, 9);
    assert_true(records[0].usage.prompt_tokens > 20);
    /* Counted before it is sent, and sent at the latest in the same round. */
    assert_in_range(records[0].usage.completion_tokens, tokens, tokens + 2);
}

static void sigterm_lets_finish_what_runs_and_takes_nothing_new(void **state)
{
    (void)state;
    start(",\"grace_ms\":60000");
    struct client client;
    client_open(&client, &worker);
    client_submit(&client, 1, &(struct ask){.text = "Tell me a long story.", .max_tokens = 30});
    struct mr_wire_frame frame;
    assert_true(client_next(&client, 60000, &frame));
    uint32_t tokens = frame.u.tokens.count;
    worker_kill(&worker, SIGTERM);
    bool refused = false;
    bool told = false;
    for (;;) {
        assert_true(client_next(&client, 60000, &frame));
        tokens += frame.type == MR_WIRE_TOKENS ? frame.u.tokens.count : 0;
        if (frame.type == MR_WIRE_HELLO) {
            told = !frame.u.hello.ready;
            client_submit(&client, 2, &(struct ask){.text = "Hi", .max_tokens = 3});
        }
        if (frame.type == MR_WIRE_END && frame.stream == 2) {
            refused = true;
            assert_int_equal(frame.u.end.error, MR_EUNAVAILABLE);
            assert_int_equal(frame.u.end.serial, 0);
        }
        if (frame.type == MR_WIRE_END && frame.stream == 1) break;
    }
    assert_true(told);
    assert_true(refused);
    assert_int_equal(frame.u.end.finish, MR_FINISH_LENGTH);
    assert_int_equal(tokens, 30);
    client_settle(&client, frame.u.end.serial);
    assert_int_equal(worker_wait(&worker), 0);
    static struct mr_meter_record records[MR_WIRE_UNSETTLED_MAX];
    assert_int_equal(worker_meter(&worker, records), 0);
    client_close(&client);
}

static void an_unsettled_end_comes_again_on_another_connection(void **state)
{
    (void)state;
    start("");
    struct client first, second;
    client_open(&first, &worker);
    client_open(&second, &worker);
    client_submit(&first, 1, &(struct ask){.text = "Hi", .max_tokens = 3});
    struct mr_wire_frame frame;
    do {
        assert_true(client_next(&first, 60000, &frame));
    } while (frame.type != MR_WIRE_END);
    uint64_t serial = frame.u.end.serial;
    uint32_t tokens = frame.u.end.usage.completion_tokens;
    client_close(&first);
    do {
        assert_true(client_next(&second, 60000, &frame));
    } while (frame.type != MR_WIRE_END);
    assert_int_equal(frame.stream, 0);
    assert_int_equal(frame.u.end.serial, serial);
    assert_int_equal(frame.u.end.usage.completion_tokens, tokens);
    client_settle(&second, serial);
    client_close(&second);
}

static void after_the_grace_what_runs_is_cancelled_and_billed(void **state)
{
    (void)state;
    start(",\"grace_ms\":100");
    struct client client;
    client_open(&client, &worker);
    client_submit(&client, 1, &(struct ask){.text = "Tell me a long story.", .max_tokens = 4000});
    struct mr_wire_frame frame;
    assert_true(client_next(&client, 60000, &frame));
    worker_kill(&worker, SIGTERM);
    do {
        assert_true(client_next(&client, 60000, &frame));
    } while (frame.type != MR_WIRE_END);
    assert_int_equal(frame.u.end.finish, MR_FINISH_CANCELLED);
    uint64_t serial = frame.u.end.serial;
    uint32_t tokens = frame.u.end.usage.completion_tokens;
    assert_int_equal(worker_wait(&worker), 0); /* though nobody settled it */
    static struct mr_meter_record records[MR_WIRE_UNSETTLED_MAX];
    assert_int_equal(worker_meter(&worker, records), 1);
    assert_int_equal(records[0].state, MR_METER_ENDED);
    assert_int_equal(records[0].serial, serial);
    assert_int_equal(records[0].usage.completion_tokens, tokens);
    client_close(&client);
}

static void a_full_cache_stops_one_and_nobody_fails(void **state)
{
    (void)state;
    start(",\"context\":512,\"slots\":4");
    struct client client;
    client_open(&client, &worker);
    assert_int_equal(client.hello.context_tokens, 512);
    static struct answer alone[3];
    static struct answer together[3];
    static const char *const tasks[] = {"Tell me a long story about it.",
                                        "Write a long letter about it.",
                                        "Write a long poem about it."};
    const char *system = words_of(262, 5); /* a family: they share its cells */
    for (uint32_t i = 0; i < 3; i++) {
        struct ask ask = {.text = tasks[i], .system = system, .max_tokens = 140};
        alone[i] = *client_ask(&client, &ask);
    }
    for (uint32_t i = 0; i < 3; i++) {
        /* 262 shared cells and three times 170 do not fit in 512 */
        struct ask ask = {.text = tasks[i], .system = system, .max_tokens = 140, .tenant = 2};
        client_submit(&client, i + 1, &ask);
    }
    client_collect(&client, together, 3);
    uint32_t sum = 0;
    uint32_t same = 0;
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(together[i].end.finish == MR_FINISH_LENGTH ||
                    together[i].end.finish == MR_FINISH_STOP);
        assert_int_equal(together[i].tokens, together[i].end.usage.completion_tokens);
        sum += together[i].tokens;
        same += memcmp(alone[i].text, together[i].text, 40) == 0;
        client_settle(&client, together[i].end.serial);
    }
    print_message("%u tokens decoded in 512 cells with 262 shared\n", sum);
    assert_true(sum > 250); /* else nothing was full, and this case shows nothing */
    assert_true(same >= 2);
    client_close(&client);
}

static void a_large_prompt_does_not_fail_its_neighbours(void **state)
{
    (void)state;
    start(",\"context\":2048,\"slots\":4");
    struct client client;
    client_open(&client, &worker);
    static struct answer answers[4];
    for (uint32_t i = 0; i < 3; i++) {
        client_submit(&client, i + 1,
                      &(struct ask){.text = "Tell me a story.", .tenant = i + 1, .max_tokens = 30});
    }
    client_submit(&client, 4, &(struct ask){.text = words_of(1950, 3), .tenant = 9});
    client_collect(&client, answers, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(answers[i].end.finish == MR_FINISH_LENGTH ||
                    answers[i].end.finish == MR_FINISH_STOP);
    }
    assert_true(answers[3].end.usage.prompt_tokens > 1900);
    client_close(&client);
}

static void a_higher_priority_takes_the_slot_and_gives_it_back(void **state)
{
    (void)state;
    start(",\"slots\":1");
    struct client client;
    client_open(&client, &worker);
    struct ask low = {.text = "Tell me a long story.", .max_tokens = 60, .priority = 5};
    struct answer alone = *client_ask(&client, &low);
    client_submit(&client, 1, &low);
    struct mr_wire_frame frame;
    assert_true(client_next(&client, 60000, &frame));
    char text[8192] = "";
    strncat(text, frame.u.tokens.text.p, frame.u.tokens.text.n);
    client_submit(&client, 2,
                  &(struct ask){.text = "Hello!", .max_tokens = 5, .priority = 1, .tenant = 8});
    bool high_ended = false;
    for (;;) {
        assert_true(client_next(&client, 60000, &frame));
        if (frame.type == MR_WIRE_END && frame.stream == 2) {
            high_ended = true;
        } else if (frame.type == MR_WIRE_END) {
            break;
        } else if (frame.stream == 1) {
            strncat(text, frame.u.tokens.text.p, frame.u.tokens.text.n);
        }
    }
    assert_true(high_ended); /* before the low one, which had begun first */
    assert_int_equal(frame.u.end.finish, alone.end.finish);
    assert_string_equal(text, alone.text);
    client_close(&client);
}

static void running_streams_are_not_held_up_by_a_long_prompt(void **state)
{
    (void)state;
    start(",\"itl_ms\":400");
    struct client client;
    client_open(&client, &worker);
    client_submit(&client, 1, &(struct ask){.text = "Tell me a long story.", .max_tokens = 60});
    struct mr_wire_frame frame;
    assert_true(client_next(&client, 60000, &frame));
    client_submit(&client, 2,
                  &(struct ask){.text = words_of(1500, 1), .max_tokens = 1, .tenant = 2});
    uint32_t between = 0;
    for (bool done = false; !done;) {
        assert_true(client_next(&client, 60000, &frame));
        between += frame.type == MR_WIRE_TOKENS && frame.stream == 1;
        done = frame.stream == 2; /* the long prompt has its first token */
    }
    /* 1,500 tokens take many seconds; without chunks the stream would get one token in that time.
     */
    assert_true(between >= 8);
    client_close(&client);
}

int main(void)
{
    if (getenv("MILLRACE_INFER") == NULL || getenv("MILLRACE_TEST_MODEL") == NULL ||
        access(getenv("MILLRACE_TEST_MODEL"), R_OK) != 0) {
        (void)fprintf(stderr, "skipped: no model; run `tools/setup model`\n");
        return 77;
    }
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_bad_file_gives_one_line_and_exit_1, case_end),
        cmocka_unit_test_teardown(kill_9_leaves_a_meter_of_what_was_decoded, case_end),
        cmocka_unit_test_teardown(sigterm_lets_finish_what_runs_and_takes_nothing_new, case_end),
        cmocka_unit_test_teardown(an_unsettled_end_comes_again_on_another_connection, case_end),
        cmocka_unit_test_teardown(after_the_grace_what_runs_is_cancelled_and_billed, case_end),
        cmocka_unit_test_teardown(a_full_cache_stops_one_and_nobody_fails, case_end),
        cmocka_unit_test_teardown(a_large_prompt_does_not_fail_its_neighbours, case_end),
        cmocka_unit_test_teardown(a_higher_priority_takes_the_slot_and_gives_it_back, case_end),
        cmocka_unit_test_teardown(running_streams_are_not_held_up_by_a_long_prompt, case_end),
    };
    return cmocka_run_group_tests_name("infer_life", tests, NULL, NULL);
}
