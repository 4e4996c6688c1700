/* SPDX-License-Identifier: Apache-2.0 */
/* The stored form of events, byte by byte where it matters, and the names. */
#include "core_test.h"

static void the_form_is_fixed(void **state)
{
    (void)state;
    struct mr_event event = {.kind = MR_EVENT_SCALE,
                             .time_us = 0x0102030405060708ull,
                             .u.scale = {.workload = {9}, .tasks_min = 2, .tasks_max = 3}};
    static const uint8_t bytes[] = {
        1, MR_EVENT_SCALE, 8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0};
    struct mr_buf buf;
    mr_buf_init(&buf, 256);
    mr_event_put(&buf, &event);
    assert_int_equal(buf.n, sizeof bytes);
    assert_memory_equal(buf.p, bytes, sizeof bytes);
    mr_buf_done(&buf);
}

static void what_is_unknown_is_refused(void **state)
{
    (void)state;
    struct mr_event event = {.kind = MR_EVENT_NODE_STATE,
                             .u.node_state = {.id = {1}, .state = MR_NODE_DOWN}};
    struct mr_buf buf;
    mr_buf_init(&buf, 256);
    mr_event_put(&buf, &event);
    struct mr_event back = {.kind = MR_EVENT_METER};
    buf.p[0] = 2;
    assert_int_equal(mr_event_get(mr_buf_str(&buf), &back), MR_EUNSUPPORTED);
    buf.p[0] = 1;
    buf.p[1] = MR_EVENT_COUNT;
    assert_int_equal(mr_event_get(mr_buf_str(&buf), &back), MR_EUNSUPPORTED);
    buf.p[1] = MR_EVENT_NODE_STATE;
    buf.p[buf.n - 1] = MR_NODE_STATE_COUNT;
    assert_int_equal(mr_event_get(mr_buf_str(&buf), &back), MR_ESYNTAX);
    assert_int_equal(back.kind, MR_EVENT_METER); /* untouched */
    buf.p[buf.n - 1] = MR_NODE_DOWN;
    assert_int_equal(mr_event_get(mr_buf_str(&buf), &back), 0);
    assert_int_equal(back.u.node_state.state, MR_NODE_DOWN);
    assert_int_equal(mr_event_get((struct mr_str){NULL, 0}, &back), MR_ESYNTAX);
    mr_buf_done(&buf);
}

static void a_truth_is_zero_or_one(void **state)
{
    (void)state;
    struct mr_event event = job(1, 1000);
    struct mr_buf buf;
    mr_buf_init(&buf, 256);
    mr_event_put(&buf, &event);
    /* preemptible, before six times, three numbers, two truths, a reservation, a segment, a
     * spread, exclusive, a group and a curve without points */
    size_t at = buf.n - 8 * 6 - 12 - 2 - 8 - 4 - 5 - 1 - 9 - 13 - 1;
    assert_int_equal(buf.p[at], 0);
    struct mr_event back;
    buf.p[at] = 1;
    assert_int_equal(mr_event_get(mr_buf_str(&buf), &back), 0);
    assert_true(back.u.submit.preemptible);
    buf.p[at] = 2;
    assert_int_equal(mr_event_get(mr_buf_str(&buf), &back), MR_ESYNTAX);
    mr_buf_done(&buf);
}

static void everything_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < MR_STATE_COUNT; i++) {
        for (uint32_t k = 0; k < i; k++) {
            assert_string_not_equal(mr_state_name((enum mr_state)i),
                                    mr_state_name((enum mr_state)k));
        }
    }
    for (uint32_t i = 0; i < MR_REASON_COUNT; i++) {
        assert_non_null(mr_reason_name((enum mr_reason_code)i));
    }
    for (uint32_t i = 0; i < MR_EVENT_COUNT; i++) {
        assert_non_null(mr_event_name((enum mr_event_kind)i));
    }
    for (uint32_t i = 0; i < MR_SKU_COUNT; i++) {
        assert_non_null(mr_sku_name((enum mr_sku)i));
    }
    assert_string_equal(mr_state_name(MR_STATE_OUT_OF_MEMORY), "out_of_memory");
    assert_true(mr_state_final(MR_STATE_TIMEOUT));
    assert_false(mr_state_final(MR_STATE_PREEMPTED));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_form_is_fixed),
        cmocka_unit_test(what_is_unknown_is_refused),
        cmocka_unit_test(a_truth_is_zero_or_one),
        cmocka_unit_test(everything_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
