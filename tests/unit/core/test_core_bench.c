/* SPDX-License-Identifier: Apache-2.0 */
/* The bench of core in its quick form: that it runs, and that depth does not set the cost.
 * Of the release build only: with checks, every step would verify the whole state. */
#include "core_test.h"

#include <time.h>

#include "../../../cmd/bench.h"

static struct bench_report report;

uint64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void bench_add(struct bench_report *into, const struct bench_bar *bar)
{
    assert_true(into->count < MR_COUNT_OF(into->bars));
    into->bars[into->count++] = *bar;
    print_message("%s: %.3f %s\n", bar->name, bar->ours, bar->unit);
}

static void the_bench_measures_everything_it_names(void **state)
{
    (void)state;
    report.quick = true;
    assert_int_equal(bench_core(&report), 0);
    assert_true(report.count > 20);
    for (uint32_t i = 0; i < report.count; i++) {
        assert_true(report.bars[i].ours > 0);
    }
}

static void queue_depth_does_not_set_the_cost_of_a_step(void **state)
{
    (void)state;
    assert_true(report.count > 0);
    for (uint32_t i = 0; i < report.count; i++) {
        if (strstr(report.bars[i].name, "queue depth") == NULL) continue;
        /* The bar is 2; a hundred times the queue must not even come near a hundred here. */
        assert_true(report.bars[i].ours < 8);
        return;
    }
    fail_msg("no bar for the queue's depth");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bench_measures_everything_it_names),
        cmocka_unit_test(queue_depth_does_not_set_the_cost_of_a_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
