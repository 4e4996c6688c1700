/* SPDX-License-Identifier: Apache-2.0 */
/* The block: limits, slots, timers, and that it fits where it has to. */
#include "core_test.h"

static void limits_of_zero_or_absurd_ones_have_no_size(void **state)
{
    (void)state;
    assert_true(mr_core_bytes(&tiny_limits) > 0);
    uint32_t *fields[8];
    struct mr_core_limits l = tiny_limits;
    fields[0] = &l.nodes, fields[1] = &l.domains, fields[2] = &l.blocks, fields[3] = &l.cells;
    fields[4] = &l.tenants, fields[5] = &l.workloads, fields[6] = &l.leases;
    fields[7] = &l.shapes;
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t kept = *fields[i];
        *fields[i] = 0;
        assert_int_equal(mr_core_bytes(&l), 0);
        *fields[i] = UINT32_MAX;
        assert_int_equal(mr_core_bytes(&l), 0);
        *fields[i] = kept;
    }
    struct mr_core *core = NULL;
    uint64_t block[8];
    assert_int_equal(mr_core_init(block, sizeof block, &l, &core), MR_ENO_SPACE);
    l.nodes = 0;
    assert_int_equal(mr_core_init(block, sizeof block, &l, &core), MR_EINVALID);
    assert_null(core);
}

static void a_small_cloud_is_small_and_a_fleet_fits_one_gibibyte(void **state)
{
    (void)state;
    assert_true(mr_core_bytes(&mr_core_limits_small) < 16u << 20);
    assert_true(mr_core_bytes(&mr_core_limits_fleet) < 1u << 30);
    assert_true(mr_core_limits_fleet.nodes >= 230000);
    assert_true(mr_core_limits_fleet.workloads >= 1000000);
}

static void slots_come_back_zeroed_last_in_first_out(void **state)
{
    (void)state;
    struct cloud c;
    cloud_init(&c, &tiny_limits);
    uint32_t first = core_slot_take(c.core, CORE_LINES);
    uint32_t second = core_slot_take(c.core, CORE_LINES);
    assert_int_equal(first, 1);
    assert_int_equal(second, 2);
    memset(core_line(c.core, first), 0xff, sizeof(struct core_line));
    core_slot_give(c.core, CORE_LINES, first);
    assert_int_equal(core_slot_take(c.core, CORE_LINES), first);
    const uint8_t *bytes = (const uint8_t *)core_line(c.core, first);
    for (size_t i = 0; i < sizeof(struct core_line); i++) {
        assert_int_equal(bytes[i], 0);
    }
    cloud_done(&c);
}

static void a_table_has_as_many_slots_as_its_limit(void **state)
{
    (void)state;
    struct cloud c;
    cloud_init(&c, &tiny_limits);
    for (uint32_t i = 0; i < tiny_limits.leases; i++) {
        assert_true(core_slot_left(c.core, CORE_LEASES, 1));
        assert_int_not_equal(core_slot_take(c.core, CORE_LEASES), 0);
    }
    assert_false(core_slot_left(c.core, CORE_LEASES, 1));
    assert_int_equal(core_slot_take(c.core, CORE_LEASES), 0);
    core_slot_give(c.core, CORE_LEASES, 5);
    assert_true(core_slot_left(c.core, CORE_LEASES, 1));
    assert_false(core_slot_left(c.core, CORE_LEASES, 2));
    cloud_done(&c);
}

static void timers_come_due_in_order_whatever_is_set_and_unset(void **state)
{
    (void)state;
    struct cloud c;
    cloud_init(&c, &tiny_limits);
    struct mr_prng prng;
    mr_prng_init(&prng, 3);
    uint64_t due[41];
    for (uint32_t i = 1; i <= 40; i++) {
        assert_int_equal(core_slot_take(c.core, CORE_WORKLOADS), i);
        core_workload(c.core, i)->timer_us = UINT64_MAX;
        due[i] = UINT64_MAX;
    }
    for (uint32_t round = 0; round < 4000; round++) {
        uint32_t i = 1 + (uint32_t)mr_prng_below(&prng, 40);
        due[i] = mr_prng_chance(&prng, 250) ? UINT64_MAX : mr_prng_below(&prng, 50);
        core_timer_set(c.core, i, due[i]);
        uint64_t first = UINT64_MAX;
        for (uint32_t k = 1; k <= 40; k++) {
            first = MR_MIN(first, due[k]);
            uint32_t at = core_workload(c.core, k)->timer_at;
            assert_int_equal(at == 0, due[k] == UINT64_MAX);
            if (at > 1) {
                assert_true(due[*core_timer(c.core, at / 2)] <= due[k]);
            }
        }
        assert_true(core_timer_first_us(c.core) == first);
    }
    cloud_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_of_zero_or_absurd_ones_have_no_size),
        cmocka_unit_test(a_small_cloud_is_small_and_a_fleet_fits_one_gibibyte),
        cmocka_unit_test(slots_come_back_zeroed_last_in_first_out),
        cmocka_unit_test(a_table_has_as_many_slots_as_its_limit),
        cmocka_unit_test(timers_come_due_in_order_whatever_is_set_and_unset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
