/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic at its limits, the published vectors of the generator, hashes, bit searches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/base.h"
#include "panics.h"

static void unsigned_overflow_is_told_and_changes_nothing(void **state)
{
    uint64_t v = 7;

    (void)state;
    assert_true(mr_add_u64(UINT64_MAX - 1, 1, &v));
    assert_true(v == UINT64_MAX);
    v = 7;
    assert_false(mr_add_u64(UINT64_MAX, 1, &v));
    assert_int_equal(v, 7);
    assert_true(mr_mul_u64(UINT64_C(1) << 32, (UINT64_C(1) << 32) - 1, &v));
    assert_true(v == UINT64_C(0xFFFFFFFF00000000));
    v = 7;
    assert_false(mr_mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 32, &v));
    assert_int_equal(v, 7);
    assert_true(mr_mul_u64(0, UINT64_MAX, &v));
    assert_int_equal(v, 0);
}

static void signed_overflow_is_told_and_changes_nothing(void **state)
{
    int64_t v = 7;

    (void)state;
    assert_true(mr_add_i64(INT64_MAX - 1, 1, &v));
    assert_true(v == INT64_MAX);
    assert_true(mr_add_i64(INT64_MIN + 1, -1, &v));
    assert_true(v == INT64_MIN);
    v = 7;
    assert_false(mr_add_i64(INT64_MAX, 1, &v));
    assert_false(mr_add_i64(INT64_MIN, -1, &v));
    assert_false(mr_mul_i64(INT64_MIN, -1, &v));
    assert_false(mr_mul_i64(INT64_MAX, 2, &v));
    assert_int_equal(v, 7);
    assert_true(mr_mul_i64(INT64_MIN, 1, &v));
    assert_true(v == INT64_MIN);
}

static void mul_div_does_not_overflow_in_between(void **state)
{
    (void)state;
    assert_true(mr_mul_div_u64(UINT64_MAX, UINT64_MAX, UINT64_MAX) == UINT64_MAX);
    assert_true(mr_mul_div_u64(UINT64_MAX, 1000, 1001) == UINT64_C(18428315757951600014));
    assert_int_equal(mr_mul_div_u64(7, 3, 2), 10);
    assert_int_equal(mr_mul_div_u64(0, UINT64_MAX, 1), 0);
    assert_true(mr_mul_div_u64(UINT64_C(1) << 62, 6, 3) == UINT64_C(1) << 63);
    assert_true(PANICS(mr_mul_div_u64(1, 1, 0)));
    assert_true(PANICS(mr_mul_div_u64(UINT64_MAX, 2, 1)));
}

/* The authors' reference program from the state 1, 2, 3, 4. */
static void the_generator_gives_the_published_numbers(void **state)
{
    static const uint64_t wanted[] = {
        UINT64_C(11520),
        UINT64_C(0),
        UINT64_C(1509978240),
        UINT64_C(1215971899390074240),
        UINT64_C(1216172134540287360),
        UINT64_C(607988272756665600),
        UINT64_C(16172922978634559625),
        UINT64_C(8476171486693032832),
        UINT64_C(10595114339597558777),
        UINT64_C(2904607092377533576),
    };
    struct mr_prng prng = {.s = {1, 2, 3, 4}};

    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(wanted); i++) {
        assert_true(mr_prng_next(&prng) == wanted[i]);
    }
}

/* splitmix64 from 1234567, then the generator seeded with 0. */
static void seeding_is_splitmix64(void **state)
{
    static const uint64_t split[] = {
        UINT64_C(6457827717110365317),
        UINT64_C(3203168211198807973),
        UINT64_C(9817491932198370423),
        UINT64_C(4593380528125082431),
    };
    struct mr_prng prng;

    (void)state;
    mr_prng_init(&prng, 1234567);
    for (size_t i = 0; i < 4; i++) {
        assert_true(prng.s[i] == split[i]);
    }
    mr_prng_init(&prng, 0);
    assert_true(mr_prng_next(&prng) == UINT64_C(11091344671253066420));
    assert_true(mr_prng_next(&prng) == UINT64_C(13793997310169335082));
}

static void below_stays_below_and_reaches_every_value(void **state)
{
    struct mr_prng prng;
    size_t seen[7] = {0};

    (void)state;
    mr_prng_init(&prng, 42);
    for (size_t i = 0; i < 70000; i++) {
        uint64_t v = mr_prng_below(&prng, 7);
        assert_true(v < 7);
        seen[v]++;
    }
    for (size_t i = 0; i < 7; i++) {
        /* 10,000 expected, standard deviation 93 */
        assert_in_range(seen[i], 9500, 10500);
    }
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(mr_prng_below(&prng, 1), 0);
        assert_true(mr_prng_below(&prng, UINT64_MAX) < UINT64_MAX);
    }
    assert_true(PANICS(mr_prng_below(&prng, 0)));
}

/* A bound of 3/4 of 2^64: without the second draw the lowest third would come up twice as often. */
static void below_is_unbiased_for_huge_bounds(void **state)
{
    struct mr_prng prng;
    uint64_t bound = UINT64_C(3) << 62;
    size_t low_count = 0;

    (void)state;
    mr_prng_init(&prng, 5);
    for (size_t i = 0; i < 30000; i++) {
        low_count += mr_prng_below(&prng, bound) < bound / 3 ? 1 : 0;
    }
    assert_in_range(low_count, 9600, 10400);
}

static void chance_is_never_at_0_and_always_at_1000(void **state)
{
    struct mr_prng prng;
    size_t hits = 0;

    (void)state;
    mr_prng_init(&prng, 9);
    for (size_t i = 0; i < 10000; i++) {
        assert_false(mr_prng_chance(&prng, 0));
        assert_true(mr_prng_chance(&prng, 1000));
        hits += mr_prng_chance(&prng, 250) ? 1 : 0;
    }
    assert_in_range(hits, 2300, 2700);
}

static void hashes_never_change(void **state)
{
    (void)state;
    /* Stored in journals and compared between machines: these numbers are a format. */
    assert_true(mr_hash64("", 0, 0) == UINT64_C(0x48218226FF3CD4BF));
    assert_true(mr_hash64("a", 1, 0) == UINT64_C(0x7A9D2E0BACFC05C3));
    assert_true(mr_hash64("12345678", 8, 0) == UINT64_C(0xED9A49EF8D2FD1F4));
    assert_true(mr_hash64("123456789", 9, 1) == UINT64_C(0x115CBE5F4FA252FD));
    assert_true(mr_hash_mix(0) == 0);
    assert_true(mr_hash_mix(1) == UINT64_C(0x5692161D100B05E5));
}

static void a_hash_sees_length_order_and_seed(void **state)
{
    (void)state;
    assert_true(mr_hash64("a", 1, 0) != mr_hash64("a\0", 2, 0));
    assert_true(mr_hash64("\0", 1, 0) != mr_hash64("\0\0", 2, 0));
    assert_true(mr_hash64("12345678abcdefgh", 16, 0) != mr_hash64("abcdefgh12345678", 16, 0));
    assert_true(mr_hash64("a", 1, 0) != mr_hash64("a", 1, 1));
    assert_true(mr_hash64(NULL, 0, 3) == mr_hash64("", 0, 3));
}

static void a_hash_does_not_depend_on_alignment(void **state)
{
    char bytes[64];

    (void)state;
    for (size_t shift = 0; shift < 16; shift++) {
        memcpy(bytes + shift, "0123456789abcdefXYZ", 19);
        assert_true(mr_hash64(bytes + shift, 19, 0) == mr_hash64("0123456789abcdefXYZ", 19, 0));
    }
}

/* Each flipped input bit changes about half of the output bits. */
static void one_flipped_bit_changes_half_of_the_hash(void **state)
{
    uint8_t bytes[24] = {0};

    (void)state;
    for (size_t n = 1; n <= sizeof bytes; n++) {
        uint64_t before = mr_hash64(bytes, n, 0);
        size_t total = 0;
        for (size_t bit = 0; bit < n * 8; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            total += (size_t)__builtin_popcountll(before ^ mr_hash64(bytes, n, 0));
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        assert_in_range(total / (n * 8), 26, 38);
    }
}

static void bits_are_found_across_words(void **state)
{
    uint64_t words[3] = {0};

    (void)state;
    assert_int_equal(mr_bit_find_set(words, 192, 0), 192);
    assert_int_equal(mr_bit_find_clear(words, 192, 5), 5);
    mr_bit_set(words, 0);
    mr_bit_set(words, 63);
    mr_bit_set(words, 64);
    mr_bit_set(words, 191);
    assert_true(mr_bit_get(words, 63));
    assert_false(mr_bit_get(words, 62));
    assert_int_equal(mr_bit_find_set(words, 192, 0), 0);
    assert_int_equal(mr_bit_find_set(words, 192, 1), 63);
    assert_int_equal(mr_bit_find_set(words, 192, 64), 64);
    assert_int_equal(mr_bit_find_set(words, 192, 65), 191);
    assert_int_equal(mr_bit_find_clear(words, 192, 63), 65);
    mr_bit_clear(words, 63);
    assert_int_equal(mr_bit_find_set(words, 192, 1), 64);
}

static void bits_past_the_count_are_not_seen(void **state)
{
    uint64_t words[2] = {0, UINT64_C(1) << 6};

    (void)state;
    assert_int_equal(mr_bit_find_set(words, 70, 0), 70);
    assert_int_equal(mr_bit_find_set(words, 71, 0), 70);
    assert_int_equal(mr_bit_find_set(words, 70, 70), 70);
    assert_int_equal(mr_bit_find_set(words, 64, 64), 64);
    assert_int_equal(mr_bit_find_set(words, 0, 0), 0);
    words[0] = ~(uint64_t)0;
    words[1] = 0x3F;
    assert_int_equal(mr_bit_find_clear(words, 70, 0), 70);
    assert_int_equal(mr_bit_find_clear(words, 71, 0), 70);
    assert_int_equal(mr_bit_find_clear(words, 64, 3), 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsigned_overflow_is_told_and_changes_nothing),
        cmocka_unit_test(signed_overflow_is_told_and_changes_nothing),
        cmocka_unit_test(mul_div_does_not_overflow_in_between),
        cmocka_unit_test(the_generator_gives_the_published_numbers),
        cmocka_unit_test(seeding_is_splitmix64),
        cmocka_unit_test(below_stays_below_and_reaches_every_value),
        cmocka_unit_test(below_is_unbiased_for_huge_bounds),
        cmocka_unit_test(chance_is_never_at_0_and_always_at_1000),
        cmocka_unit_test(hashes_never_change),
        cmocka_unit_test(a_hash_sees_length_order_and_seed),
        cmocka_unit_test(a_hash_does_not_depend_on_alignment),
        cmocka_unit_test(one_flipped_bit_changes_half_of_the_hash),
        cmocka_unit_test(bits_are_found_across_words),
        cmocka_unit_test(bits_past_the_count_are_not_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
