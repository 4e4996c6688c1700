/* SPDX-License-Identifier: Apache-2.0 */
/* The meter slot: what a worker killed at any store leaves behind is the old or the new record. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/proto.h"

static struct mr_meter_record record_draw(struct mr_prng *prng)
{
    uint32_t prompt = (uint32_t)mr_prng_next(prng);
    return (struct mr_meter_record){
        .state = mr_prng_chance(prng, 500) ? MR_METER_RUNNING : MR_METER_ENDED,
        .serial = 1 + mr_prng_below(prng, UINT64_MAX),
        .tenant = (uint32_t)mr_prng_next(prng),
        .usage = {prompt, prompt / 2, (uint32_t)mr_prng_next(prng)},
    };
}

static bool records_equal(const struct mr_meter_record *a, const struct mr_meter_record *b)
{
    return a->state == b->state && a->serial == b->serial && a->tenant == b->tenant &&
           memcmp(&a->usage, &b->usage, sizeof(a->usage)) == 0;
}

static void records_come_back_as_they_went(void **state)
{
    (void)state;
    struct mr_prng prng;
    mr_prng_init(&prng, 3);
    for (int round = 0; round < 10000; round++) {
        struct mr_meter_record record = record_draw(&prng), got;
        uint8_t slot[MR_METER_RECORD_BYTES];
        mr_meter_encode(&record, slot);
        assert_true(mr_meter_decode(slot, &got));
        assert_true(records_equal(&record, &got));
    }
}

static void free_slots_hold_nothing(void **state)
{
    (void)state;
    struct mr_meter_record free_record = {.state = MR_METER_FREE}, got = {.serial = 9};
    uint8_t slot[MR_METER_RECORD_BYTES];
    static const uint8_t zero[MR_METER_RECORD_BYTES];
    mr_meter_encode(&free_record, slot);
    assert_memory_equal(slot, zero, sizeof(slot)); /* like a fresh file */
    assert_false(mr_meter_decode(slot, &got));
    assert_int_equal(got.serial, 9);
}

/* The stores of an encode in their order: first word of a half to zero, the rest, the first word;
 * then the other half. Killed after any byte of them. */
static void a_killed_writer_leaves_the_old_or_the_new(void **state)
{
    (void)state;
    enum { HALF = MR_METER_RECORD_BYTES / 2 };
    struct mr_prng prng;
    mr_prng_init(&prng, 4);
    for (int round = 0; round < 500; round++) {
        struct mr_meter_record before = record_draw(&prng), after = record_draw(&prng), got;
        uint8_t slot[MR_METER_RECORD_BYTES], target[MR_METER_RECORD_BYTES];
        bool old_seen = false, new_seen = false;
        mr_meter_encode(&before, slot);
        mr_meter_encode(&after, target);
        for (size_t half = 0; half < 2; half++) {
            uint8_t *to = slot + half * HALF;
            const uint8_t *from = target + half * HALF;
            for (size_t step = 0; step < 4 + HALF; step++) {
                if (step < 4)
                    to[step] = 0;
                else if (step < HALF)
                    to[step] = from[step];
                else
                    to[step - HALF] = from[step - HALF];
                assert_true(mr_meter_decode(slot, &got));
                bool is_old = records_equal(&got, &before), is_new = records_equal(&got, &after);
                assert_true(is_old || is_new);
                assert_false(new_seen && is_old); /* never back */
                old_seen = old_seen || is_old;
                new_seen = new_seen || is_new;
            }
        }
        assert_true(old_seen && new_seen);
        assert_memory_equal(slot, target, sizeof(slot));
    }
}

static void a_flipped_bit_is_noticed(void **state)
{
    (void)state;
    struct mr_prng prng;
    mr_prng_init(&prng, 5);
    struct mr_meter_record record = record_draw(&prng), got;
    uint8_t good[MR_METER_RECORD_BYTES], slot[MR_METER_RECORD_BYTES];
    mr_meter_encode(&record, good);
    for (size_t bit = 0; bit < MR_METER_RECORD_BYTES * 8 / 2; bit++) {
        memcpy(slot, good, sizeof(slot));
        slot[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_true(mr_meter_decode(slot, &got)); /* the other half */
        assert_true(records_equal(&record, &got));
        slot[MR_METER_RECORD_BYTES / 2 + bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_false(mr_meter_decode(slot, &got));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back_as_they_went),
        cmocka_unit_test(free_slots_hold_nothing),
        cmocka_unit_test(a_killed_writer_leaves_the_old_or_the_new),
        cmocka_unit_test(a_flipped_bit_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
