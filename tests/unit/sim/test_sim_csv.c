/* SPDX-License-Identifier: Apache-2.0 */
/* Tables as text: what is read, and what is said of what cannot be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim/sim_csv_int.h"

static struct mr_buf problem;

static int open_text(struct sim_csv *csv, struct mr_sim_file *file, const char *text)
{
    *file = (struct mr_sim_file){MR_STR("t.csv"), mr_str_from(text)};
    mr_buf_init(&problem, 4096);
    return sim_csv_open(csv, file, ',', &problem);
}

static void said(const char *text)
{
    assert_string_equal((mr_buf_put_char(&problem, 0), (const char *)problem.p), text);
    mr_buf_done(&problem);
}

static void rows_are_read_by_name(void **state)
{
    (void)state;
    struct sim_csv csv;
    struct mr_sim_file file;
    uint32_t b;
    uint64_t value;
    assert_int_equal(open_text(&csv, &file,
                               "\xef\xbb\xbf"
                               "a,B\r\n1,\"x,y\"\r\n\n2,7.9\n3"),
                     0);
    assert_int_equal(sim_csv_column(&csv, "b", &b), 0);
    assert_int_equal(b, 1);
    assert_int_equal(sim_csv_find(&csv, "c"), SIM_CSV_NONE);
    assert_int_equal(sim_csv_next(&csv), 0);
    assert_true(mr_str_equal(csv.fields[1], MR_STR("x,y")));
    assert_int_equal(sim_csv_next(&csv), 0);
    assert_int_equal(sim_csv_number(&csv, b, 0, 100, &value), 0);
    assert_int_equal(value, 7);
    assert_int_equal(sim_csv_next(&csv), 0);
    assert_int_equal(sim_csv_number(&csv, b, 42, 100, &value), 0);
    assert_int_equal(value, 42);
    assert_int_equal(sim_csv_next(&csv), MR_ENOT_FOUND);
    mr_buf_done(&problem);
}

static void what_is_wrong_is_said_with_its_line(void **state)
{
    (void)state;
    struct sim_csv csv;
    struct mr_sim_file file;
    uint32_t column;
    uint64_t value;
    assert_int_equal(open_text(&csv, &file, ""), MR_ESYNTAX);
    said("t.csv:0: empty: a row of column names is wanted");
    assert_int_equal(open_text(&csv, &file, "a\n1,2\n"), 0);
    assert_int_equal(sim_csv_next(&csv), MR_ESYNTAX);
    said("t.csv:2: more fields than the 1 that have names");
    assert_int_equal(open_text(&csv, &file, "a\n\"x\n"), 0);
    assert_int_equal(sim_csv_next(&csv), MR_ESYNTAX);
    said("t.csv:2: a quote that does not end");
    assert_int_equal(open_text(&csv, &file, "a\n11\n"), 0);
    assert_int_equal(sim_csv_column(&csv, "n", &column), MR_ESYNTAX);
    said("t.csv:1: no column is called 'n'");
    assert_int_equal(open_text(&csv, &file, "a\n11\n"), 0);
    assert_int_equal(sim_csv_next(&csv), 0);
    assert_int_equal(sim_csv_number(&csv, 0, 0, 11, &value), 0);
    assert_int_equal(sim_csv_number(&csv, 0, 0, 10, &value), MR_ESYNTAX);
    said("t.csv:2: a is '11', not a number from 0 to 10");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_read_by_name),
        cmocka_unit_test(what_is_wrong_is_said_with_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
