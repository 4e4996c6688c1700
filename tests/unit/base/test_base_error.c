/* SPDX-License-Identifier: Apache-2.0 */
/* The error table and panics: every error has its four facts, and a panic never returns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/base.h"
#include "panics.h"

static const struct {
    int error;
    const char *name;
    int status;
    bool retryable;
    const char *text;
} wanted[] = {
#define X(name, status, retry, text) {MR_E##name, #name, status, retry, text},
    MR_ERRORS(X)
#undef X
};

static void every_error_has_its_row(void **state)
{
    (void)state;
    assert_int_equal(MR_COUNT_OF(wanted), MR_EI_COUNT);
    for (size_t i = 0; i < MR_COUNT_OF(wanted); i++) {
        assert_int_equal(wanted[i].error, -(int)i - 1);
        assert_string_equal(mr_error_text(wanted[i].error), wanted[i].text);
        assert_int_equal(mr_error_status(wanted[i].error), wanted[i].status);
        assert_int_equal(mr_error_retryable(wanted[i].error), wanted[i].retryable);
    }
}

static void names_are_the_table_in_lower_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(wanted); i++) {
        const char *name = mr_error_name(wanted[i].error);
        assert_true(mr_str_equal_nocase(mr_str_from(name), mr_str_from(wanted[i].name)));
        for (const char *c = name; *c; c++) {
            assert_false(*c >= 'A' && *c <= 'Z');
        }
    }
    assert_string_equal(mr_error_name(MR_ENOT_FOUND), "not_found");
}

static void zero_is_ok(void **state)
{
    (void)state;
    assert_string_equal(mr_error_text(0), "ok");
    assert_string_equal(mr_error_name(0), "ok");
    assert_int_equal(mr_error_status(0), 200);
    assert_false(mr_error_retryable(0));
}

static void unknown_values_answer_as_internal(void **state)
{
    static const int unknown[] = {1, 400, INT32_MAX, -(int)MR_EI_COUNT - 1, -1000, INT32_MIN};

    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(unknown); i++) {
        assert_string_equal(mr_error_name(unknown[i]), "internal");
        assert_int_equal(mr_error_status(unknown[i]), 500);
        assert_string_equal(mr_error_text(unknown[i]), mr_error_text(MR_EINTERNAL));
        assert_false(mr_error_retryable(unknown[i]));
    }
}

static void a_broken_assert_tells_its_condition(void **state)
{
    int one = 1;

    (void)state;
    assert_true(PANICS(MR_ASSERT(one == 2)));
    assert_string_equal(panics_what, "one == 2");
    assert_true(PANICS(MR_INVARIANT(7, one > 1)));
    assert_string_equal(panics_what, "invariant 7: one > 1");
}

static void a_held_assert_is_silent_and_evaluates_once(void **state)
{
    static int calls; /* static: a longjmp may clobber a local one */

    bool panicked = PANICS(MR_ASSERT(++calls == 1));

    (void)state;
    assert_false(panicked);
    assert_int_equal(calls, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_its_row),
        cmocka_unit_test(names_are_the_table_in_lower_case),
        cmocka_unit_test(zero_is_ok),
        cmocka_unit_test(unknown_values_answer_as_internal),
        cmocka_unit_test(a_broken_assert_tells_its_condition),
        cmocka_unit_test(a_held_assert_is_silent_and_evaluates_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
