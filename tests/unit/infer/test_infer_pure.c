/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the worker that know no model: text, prefix, plan, sampling, latencies, meter.
 *
 * Seeds: fixed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "infer_int.h"

/* --- text ----------------------------------------------------------------------------------- */

struct text_case {
    const char *stops[3], *pieces[8], *expected;
    bool stopped;
};

/* Pushes the pieces; what came out must be valid UTF-8 at every step. */
static void text_run(const struct text_case *c)
{
    struct mr_str stops[3];
    size_t count = 0;
    while (count < 3 && c->stops[count] != NULL) {
        stops[count] = mr_str_from(c->stops[count]);
        count++;
    }
    struct infer_text text;
    struct mr_buf out;
    infer_text_init(&text, stops, count);
    mr_buf_init(&out, 1u << 20);
    for (size_t i = 0; i < MR_COUNT_OF(c->pieces) && c->pieces[i] != NULL; i++) {
        infer_text_push(&text, mr_str_from(c->pieces[i]), false, &out);
        assert_int_equal(mr_utf8_valid_prefix(mr_buf_str(&out)), out.n);
    }
    assert_int_equal(text.stopped, c->stopped);
    infer_text_push(&text, MR_STR(""), true, &out);
    assert_int_equal(out.n, strlen(c->expected));
    assert_memory_equal(out.p, c->expected, out.n);
    mr_buf_done(&out);
    infer_text_done(&text);
}

static void text_is_cut_before_the_earliest_stop_string(void **state)
{
    (void)state;
    static const struct text_case cases[] = {
        {{"END"}, {"one EN", "D two"}, "one ", true},
        {{"END"}, {"one E", "N two"}, "one EN two", false},
        {{"END"}, {"one EN"}, "one EN", false}, /* what is held comes out at the end */
        {{"b", "ab"}, {"xab"}, "x", true},      /* the earliest, not the first in the list */
        {{"aab"}, {"a", "a", "a", "b", "c"}, "a", true},
        {{"\n\n"}, {"x\n", "y\n", "\nz"}, "x\ny", true},
        {{"stop"}, {"stop"}, "", true},
        {{NULL}, {"plain", " text"}, "plain text", false},
    };
    for (size_t i = 0; i < MR_COUNT_OF(cases); i++) {
        text_run(&cases[i]);
    }
}

static void text_never_splits_a_character(void **state)
{
    (void)state;
    static const struct text_case cases[] = {
        {{NULL}, {"\xc3", "\xa4"}, "\xc3\xa4", false},
        {{NULL}, {"a\xf0\x9f", "\x98", "\x80z"}, "a\xf0\x9f\x98\x80z", false},
        {{NULL},
         {"a\xff", "b"},
         "a\xef\xbf\xbd"
         "b",
         false}, /* no such byte */
        {{NULL},
         {"\xc3", "a"},
         "\xef\xbf\xbd"
         "a",
         false},                                                   /* broken off */
        {{NULL}, {"\xe2\x82"}, "\xef\xbf\xbd\xef\xbf\xbd", false}, /* unfinished at the end */
        {{NULL},
         {"\xed\xa0", "\x80"},
         "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd",
         false},                                       /* surrogate */
        {{"\xc3\xa4"}, {"o\xc3", "\xa4u"}, "o", true}, /* a stop of two bytes */
        {{"x"}, {"\xc3", "\xa4x"}, "\xc3\xa4", true},
    };
    for (size_t i = 0; i < MR_COUNT_OF(cases); i++) {
        text_run(&cases[i]);
    }
}

static void text_out_is_text_in_however_it_is_cut(void **state)
{
    (void)state;
    static const char whole[] = "Grüße, 世界! 👋 a\n\nstop here \xff end";
    struct mr_prng prng;
    mr_prng_init(&prng, 1);
    struct mr_buf first;
    mr_buf_init(&first, 4096);
    for (int turn = 0; turn < 2000; turn++) {
        struct mr_str stop = MR_STR("nowhere");
        struct infer_text text;
        struct mr_buf out;
        infer_text_init(&text, &stop, 1);
        mr_buf_init(&out, 4096);
        size_t at = 0;
        while (at < sizeof(whole) - 1) {
            size_t n = (size_t)mr_prng_below(&prng, 5) + 1;
            n = MR_MIN(n, sizeof(whole) - 1 - at);
            infer_text_push(&text, (struct mr_str){whole + at, n}, false, &out);
            at += n;
        }
        infer_text_push(&text, MR_STR(""), true, &out);
        if (turn == 0) {
            mr_buf_put_str(&first, mr_buf_str(&out));
        }
        assert_true(mr_str_equal(mr_buf_str(&out), mr_buf_str(&first)));
        mr_buf_done(&out);
        infer_text_done(&text);
    }
    mr_buf_done(&first);
}

/* --- prefixes ------------------------------------------------------------------------------- */

static void prefix_never_crosses_tenants(void **state)
{
    (void)state;
    static const int32_t tokens[] = {1, 2, 3, 4};
    struct infer_donor donor = {tokens, 4, 4, 9, false};
    struct infer_prefix_match match = infer_prefix_find(8, tokens, 4, &donor, 1);
    assert_int_equal(match.now, -1);
    assert_int_equal(match.later, -1);
    match = infer_prefix_find(9, tokens, 4, &donor, 1);
    assert_int_equal(match.now, 0);
}

static void prefix_leaves_the_last_token_to_be_computed(void **state)
{
    (void)state;
    static const int32_t tokens[] = {1, 2, 3, 4};
    struct infer_donor donor = {tokens, 4, 4, 1, false};
    assert_int_equal(infer_prefix_find(1, tokens, 4, &donor, 1).now_count, 3);
    assert_int_equal(infer_prefix_find(1, tokens, 1, &donor, 1).now, -1);
    assert_int_equal(infer_prefix_find(1, tokens, 0, &donor, 1).now, -1);
}

static void prefix_counts_only_what_is_computed(void **state)
{
    (void)state;
    static const int32_t tokens[] = {1, 2, 3, 4, 5, 6};
    struct infer_donor donors[] = {
        {tokens, 6, 2, 1, true},  /* being computed: 2 now, 5 later */
        {tokens, 3, 3, 1, false}, /* parked: 3 now */
    };
    struct infer_prefix_match match = infer_prefix_find(1, tokens, 6, donors, 2);
    assert_int_equal(match.now, 1);
    assert_int_equal(match.now_count, 3);
    assert_int_equal(match.later, 0);
    assert_int_equal(match.later_count, 5);
}

static void prefix_prefers_a_parked_one_between_equals(void **state)
{
    (void)state;
    static const int32_t tokens[] = {1, 2, 3};
    struct infer_donor donors[] = {
        {tokens, 3, 3, 1, true}, {tokens, 3, 3, 1, false}, {tokens, 3, 3, 1, false}};
    assert_int_equal(infer_prefix_find(1, tokens, 3, donors, 3).now, 1);
}

/* --- plan ----------------------------------------------------------------------------------- */

static void chunk_alone_is_bounded_by_time(void **state)
{
    (void)state;
    struct infer_pace pace = {.decode_us = 1e9};
    assert_int_equal(infer_plan_chunk(&pace, 0, 1), 128); /* nothing was measured yet */
    pace.prefill_token_us = 1.0;
    assert_int_equal(infer_plan_chunk(&pace, 0, 1), INFER_BATCH_TOKENS);
    pace.prefill_token_us = 2000.0;
    assert_int_equal(infer_plan_chunk(&pace, 0, 1), 200); /* 400 ms */
    pace.prefill_token_us = 1e9;
    assert_int_equal(infer_plan_chunk(&pace, 0, 1), 64); /* smaller ones are slow */
}

static void chunk_and_decode_fit_in_the_slo(void **state)
{
    (void)state;
    struct mr_prng prng;
    mr_prng_init(&prng, 3);
    for (int i = 0; i < 10000; i++) {
        struct infer_pace pace = {.decode_us = (double)mr_prng_below(&prng, 300000),
                                  .prefill_token_us = 1.0 + (double)mr_prng_below(&prng, 20000)};
        uint64_t slo = 1000 + mr_prng_below(&prng, 400000);
        uint32_t chunk = infer_plan_chunk(&pace, 1, slo);
        assert_in_range(chunk, INFER_CHUNK_MIN, INFER_BATCH_TOKENS);
        if (chunk > INFER_CHUNK_MIN) {
            assert_true(pace.decode_us + chunk * pace.prefill_token_us <= 0.8 * (double)slo + 1.0);
        }
    }
}

static void pace_ignores_chunks_too_small_to_tell(void **state)
{
    (void)state;
    struct infer_pace pace = {0};
    infer_pace_prefill(&pace, 1000000, INFER_CHUNK_MIN - 1);
    assert_true(pace.prefill_token_us <= 0.0);
    infer_pace_prefill(&pace, 1600, INFER_CHUNK_MIN);
    assert_true(pace.prefill_token_us > 99.0 && pace.prefill_token_us < 101.0);
}

static void victim_is_lowest_priority_then_largest_then_latest(void **state)
{
    (void)state;
    struct infer_victim victims[] = {{1, 900, 5}, {4, 10, 1}, {4, 20, 2}, {4, 20, 3}};
    assert_int_equal(infer_plan_victim(victims, 4), 3);
    assert_int_equal(infer_plan_victim(victims, 3), 2);
    assert_int_equal(infer_plan_victim(victims, 2), 1);
    assert_int_equal(infer_plan_victim(victims, 1), 0);
}

/* --- sampling ------------------------------------------------------------------------------- */

#define VOCAB 64u

static void logits_fill(float *logits, struct mr_prng *prng)
{
    for (uint32_t i = 0; i < VOCAB; i++) {
        logits[i] = (float)mr_prng_below(prng, 1000) / 100.0f;
    }
}

static void greedy_takes_the_greatest_and_the_lowest_among_equals(void **state)
{
    (void)state;
    float logits[VOCAB] = {0};
    logits[7] = 3.0f;
    logits[9] = 3.0f;
    struct infer_sampler sampler;
    struct mr_sampling sampling = {.top_p = 1.0f};
    assert_int_equal(infer_sampler_init(&sampler, &sampling, VOCAB, 1), 0);
    assert_int_equal(infer_sampler_next(&sampler, logits), 7);
    infer_sampler_done(&sampler);
}

static void a_seed_fixes_the_draws(void **state)
{
    (void)state;
    struct mr_sampling sampling = {.temperature = 1.0f, .top_p = 0.9f, .seed = 5, .has_seed = true};
    int32_t first[200];
    for (int turn = 0; turn < 2; turn++) {
        struct infer_sampler sampler;
        struct mr_prng prng;
        mr_prng_init(&prng, 9);
        assert_int_equal(infer_sampler_init(&sampler, &sampling, VOCAB, (uint64_t)turn), 0);
        for (int i = 0; i < 200; i++) {
            float logits[VOCAB];
            logits_fill(logits, &prng);
            int32_t id = infer_sampler_next(&sampler, logits);
            if (turn == 0) {
                first[i] = id;
            }
            assert_int_equal(id, first[i]);
        }
        infer_sampler_done(&sampler);
    }
}

static void draws_follow_the_probabilities(void **state)
{
    (void)state;
    float base[4] = {0.0f, 0.6931472f, 1.3862944f, -1e9f}; /* 1/7, 2/7, 4/7, 0 */
    uint32_t counts[4] = {0};
    struct mr_sampling sampling = {
        .temperature = 1.0f, .top_p = 1.0f, .seed = 17, .has_seed = true};
    struct infer_sampler sampler;
    assert_int_equal(infer_sampler_init(&sampler, &sampling, 4, 1), 0);
    for (int i = 0; i < 70000; i++) {
        float logits[4];
        memcpy(logits, base, sizeof(logits));
        counts[infer_sampler_next(&sampler, logits)]++;
    }
    infer_sampler_done(&sampler);
    assert_in_range(counts[0], 9600, 10400);
    assert_in_range(counts[1], 19500, 20500);
    assert_in_range(counts[2], 39400, 40600);
    assert_int_equal(counts[3], 0);
}

static void top_p_cuts_off_the_tail(void **state)
{
    (void)state;
    float base[4] = {0.0f, 0.6931472f, 1.3862944f, -0.7f}; /* .13 .27 .53 .07 */
    static const float mass[] = {0.5f, 0.6f, 0.9f, 1.0f};
    static const uint32_t reach[] = {1, 2, 3, 4};
    for (size_t k = 0; k < 4; k++) {
        struct mr_sampling sampling = {
            .temperature = 1.0f, .top_p = mass[k], .seed = 3, .has_seed = true};
        struct infer_sampler sampler;
        assert_int_equal(infer_sampler_init(&sampler, &sampling, 4, 1), 0);
        bool seen[4] = {false};
        for (int i = 0; i < 3000; i++) {
            float logits[4];
            memcpy(logits, base, sizeof(logits));
            seen[infer_sampler_next(&sampler, logits)] = true;
        }
        infer_sampler_done(&sampler);
        uint32_t kinds = 0;
        for (int i = 0; i < 4; i++) {
            kinds += seen[i];
        }
        assert_int_equal(kinds, reach[k]);
    }
}

static void penalties_count_what_was_generated(void **state)
{
    (void)state;
    struct mr_sampling sampling = {
        .top_p = 1.0f, .presence_penalty = 0.5f, .frequency_penalty = 0.25f};
    struct infer_sampler sampler;
    assert_int_equal(infer_sampler_init(&sampler, &sampling, 3, 1), 0);
    static const int32_t expected[] = {0, 1, 0, 0, 0, 1, 2}; /* 2-.75 < 1.5; 2-1.5 < .75 */
    for (size_t i = 0; i < MR_COUNT_OF(expected); i++) {
        float logits[3] = {2.0f, 1.5f, 0.6f};
        assert_int_equal(infer_sampler_next(&sampler, logits), expected[i]);
    }
    infer_sampler_done(&sampler);
}

static void broken_logits_give_some_token(void **state)
{
    (void)state;
    struct mr_sampling sampling = {.temperature = 1.0f, .top_p = 0.5f};
    for (int turn = 0; turn < 2; turn++) {
        struct infer_sampler sampler;
        float logits[VOCAB];
        for (uint32_t i = 0; i < VOCAB; i++) {
            logits[i] = turn == 0 ? __builtin_nanf("") : -__builtin_inff();
        }
        assert_int_equal(infer_sampler_init(&sampler, &sampling, VOCAB, 1), 0);
        assert_in_range(infer_sampler_next(&sampler, logits), 0, VOCAB - 1);
        infer_sampler_done(&sampler);
    }
}

/* --- latencies ------------------------------------------------------------------------------ */

static void percentiles_are_of_the_newest_samples(void **state)
{
    (void)state;
    static struct infer_stat stat;
    stat = (struct infer_stat){0};
    assert_int_equal(infer_stat_get(&stat, 500), 0);
    for (uint32_t i = 0; i < 5 * INFER_SAMPLES; i++) {
        infer_stat_add(&stat, 1000000);
    }
    for (uint32_t i = 1; i <= INFER_SAMPLES; i++) {
        infer_stat_add(&stat, i);
    }
    assert_int_equal(infer_stat_get(&stat, 0), 1);
    assert_int_equal(infer_stat_get(&stat, 500), INFER_SAMPLES / 2);
    assert_int_equal(infer_stat_get(&stat, 990), (INFER_SAMPLES * 99 + 99) / 100);
    assert_int_equal(infer_stat_get(&stat, 1000), INFER_SAMPLES);
    infer_stat_add(&stat, UINT64_MAX);
    assert_int_equal(infer_stat_get(&stat, 1000), UINT32_MAX);
}

/* --- meter ---------------------------------------------------------------------------------- */

static char dir[64];

static int dir_make(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/millrace-meter-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int dir_remove(void **state)
{
    (void)state;
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/meter", dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/meter.prev", dir);
    (void)unlink(path);
    return rmdir(dir);
}

/* The records in the file, as somebody else would read them. */
static size_t file_records(const char *name, struct mr_meter_record *ret, size_t most)
{
    char path[128];
    uint8_t bytes[MR_METER_RECORD_BYTES];
    size_t count = 0;
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "rbe");
    assert_non_null(file);
    while (fread(bytes, 1, sizeof(bytes), file) == sizeof(bytes)) {
        struct mr_meter_record record;
        if (mr_meter_decode(bytes, &record)) {
            assert_true(count < most);
            ret[count++] = record;
        }
    }
    (void)fclose(file);
    return count;
}

static void the_file_says_what_the_memory_says(void **state)
{
    (void)state;
    static struct infer_meter meter;
    struct mr_meter_record records[8];
    assert_int_equal(infer_meter_open(&meter, dir), 0);
    assert_int_equal(file_records("meter", records, 8), 0);
    int a = infer_meter_begin(&meter, 5);
    int b = infer_meter_begin(&meter, 6);
    infer_meter_update(&meter, a, &(struct mr_usage){10, 4, 3});
    assert_int_equal(file_records("meter", records, 8), 2);
    assert_int_equal(records[0].state, MR_METER_RUNNING);
    assert_int_equal(records[0].serial, 1);
    assert_int_equal(records[0].tenant, 5);
    assert_int_equal(records[0].usage.prompt_tokens, 10);
    assert_int_equal(records[0].usage.cached_tokens, 4);
    assert_int_equal(records[0].usage.completion_tokens, 3);
    struct mr_wire_end end = {.finish = MR_FINISH_STOP, .usage = {10, 4, 9}};
    infer_meter_end(&meter, a, &end, 0);
    assert_int_equal(end.serial, 1);
    assert_int_equal(end.tenant, 5);
    assert_int_equal(file_records("meter", records, 8), 2);
    assert_int_equal(records[0].state, MR_METER_ENDED);
    assert_int_equal(records[0].usage.completion_tokens, 9);
    assert_false(infer_meter_settle(&meter, 2)); /* it still runs */
    assert_true(infer_meter_settle(&meter, 1));
    assert_false(infer_meter_settle(&meter, 1));
    assert_int_equal(file_records("meter", records, 8), 1);
    assert_int_equal(records[0].serial, 2);
    (void)b;
    infer_meter_close(&meter);
}

static void older_records_are_kept_aside(void **state)
{
    (void)state;
    static struct infer_meter meter;
    struct mr_meter_record records[8];
    assert_int_equal(infer_meter_open(&meter, dir), 0);
    infer_meter_update(&meter, infer_meter_begin(&meter, 5), &(struct mr_usage){1, 0, 2});
    infer_meter_close(&meter); /* as if it had been killed: the file keeps the record */
    assert_int_equal(infer_meter_open(&meter, dir), 0);
    assert_int_equal(file_records("meter", records, 8), 0);
    assert_int_equal(file_records("meter.prev", records, 8), 1);
    assert_int_equal(records[0].usage.completion_tokens, 2);
    infer_meter_close(&meter);
}

static void the_meter_takes_as_many_as_its_limit_and_no_more(void **state)
{
    (void)state;
    static struct infer_meter meter;
    assert_int_equal(infer_meter_open(&meter, NULL), 0);
    for (uint32_t i = 0; i < MR_WIRE_UNSETTLED_MAX; i++) {
        assert_true(infer_meter_begin(&meter, 1) >= 0);
    }
    assert_int_equal(infer_meter_begin(&meter, 1), -1);
    struct mr_wire_end end = {.finish = MR_FINISH_STOP};
    infer_meter_end(&meter, 77, &end, 0);
    assert_int_equal(infer_meter_begin(&meter, 1), -1); /* ended is not settled */
    assert_true(infer_meter_settle(&meter, end.serial));
    int slot = infer_meter_begin(&meter, 1);
    assert_int_equal(slot, 77);
    assert_int_equal(meter.slots[slot].end.serial, MR_WIRE_UNSETTLED_MAX + 1); /* never reused */
    infer_meter_close(&meter);
}

static void a_folder_that_cannot_be_written_is_an_error(void **state)
{
    (void)state;
    static struct infer_meter meter;
    assert_int_equal(infer_meter_open(&meter, "/nonexistent/folder"), MR_EIO);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_cut_before_the_earliest_stop_string),
        cmocka_unit_test(text_never_splits_a_character),
        cmocka_unit_test(text_out_is_text_in_however_it_is_cut),
        cmocka_unit_test(prefix_never_crosses_tenants),
        cmocka_unit_test(prefix_leaves_the_last_token_to_be_computed),
        cmocka_unit_test(prefix_counts_only_what_is_computed),
        cmocka_unit_test(prefix_prefers_a_parked_one_between_equals),
        cmocka_unit_test(chunk_alone_is_bounded_by_time),
        cmocka_unit_test(chunk_and_decode_fit_in_the_slo),
        cmocka_unit_test(pace_ignores_chunks_too_small_to_tell),
        cmocka_unit_test(victim_is_lowest_priority_then_largest_then_latest),
        cmocka_unit_test(greedy_takes_the_greatest_and_the_lowest_among_equals),
        cmocka_unit_test(a_seed_fixes_the_draws),
        cmocka_unit_test(draws_follow_the_probabilities),
        cmocka_unit_test(top_p_cuts_off_the_tail),
        cmocka_unit_test(penalties_count_what_was_generated),
        cmocka_unit_test(broken_logits_give_some_token),
        cmocka_unit_test(percentiles_are_of_the_newest_samples),
        cmocka_unit_test_setup_teardown(the_file_says_what_the_memory_says, dir_make, dir_remove),
        cmocka_unit_test_setup_teardown(older_records_are_kept_aside, dir_make, dir_remove),
        cmocka_unit_test(the_meter_takes_as_many_as_its_limit_and_no_more),
        cmocka_unit_test(a_folder_that_cannot_be_written_is_an_error),
    };
    return cmocka_run_group_tests_name("infer_pure", tests, NULL, NULL);
}
