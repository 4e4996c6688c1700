/* SPDX-License-Identifier: Apache-2.0 */
/* What people write, YAML and #SBATCH scripts, as the document that the API takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../../cmd/cmd.h"

static struct mr_buf json, problem;

static int begin(void **state)
{
    (void)state;
    mr_buf_init(&json, 1 << 20);
    mr_buf_init(&problem, 1 << 20);
    return 0;
}

static int end(void **state)
{
    (void)state;
    mr_buf_done(&json);
    mr_buf_done(&problem);
    return 0;
}

static void yaml_is(const char *yaml, const char *expected)
{
    mr_buf_reset(&json);
    mr_buf_reset(&problem);
    assert_int_equal(cmd_yaml_to_json(mr_str_from(yaml), &json, &problem), 0);
    mr_buf_put_char(&json, 0);
    assert_string_equal((const char *)json.p, expected);
}

static void yaml_fails(const char *yaml, const char *said)
{
    mr_buf_reset(&json);
    mr_buf_reset(&problem);
    assert_int_not_equal(cmd_yaml_to_json(mr_str_from(yaml), &json, &problem), 0);
    mr_buf_put_char(&problem, 0);
    assert_string_equal((const char *)problem.p, said);
}

static void yaml_keeps_numbers_and_text_apart(void **state)
{
    (void)state;
    yaml_is("a: 1\nb: \"1\"\nc: 007\nd: 1.5\ne: [true, ~, no]\nf:\n",
            "{\"a\":1,\"b\":\"1\",\"c\":\"007\",\"d\":1.5,\"e\":[true,null,\"no\"],\"f\":null}");
}

static void yaml_that_says_more_than_its_text_is_refused(void **state)
{
    (void)state;
    yaml_fails("a: &x 1\n", "line 1, column 4: anchors (&name) are not supported");
    yaml_fails("a: &x [1]\n", "line 1, column 4: anchors (&name) are not supported");
    yaml_fails("a: &x {b: 1}\n", "line 1, column 4: anchors (&name) are not supported");
    yaml_fails("a: *x\n", "line 1, column 4: aliases (*name) are not supported");
    const char *tags = "tags (!type) are not supported; quotes make text of a value";
    char said[128];
    snprintf(said, sizeof said, "line 2, column 4: %s", tags);
    yaml_fails("a: 1\nb: !!str 2\n", said);
    yaml_fails("a: 1\nb: !mine {c: 1}\n", said);
    yaml_fails("a: 1\nb: !!seq [1]\n", said);
    yaml_fails("", "the file is empty");
}

static void sbatch_is(const char *lines, const char *expected)
{
    char text[1024];
    mr_buf_reset(&json);
    mr_buf_reset(&problem);
    snprintf(text, sizeof text, "#!/bin/sh\n%strue\n", lines);
    assert_true(cmd_sbatch_is(mr_str_from(text)));
    assert_int_equal(cmd_sbatch_to_json(mr_str_from(text), "s", &json, &problem), 0);
    mr_buf_put_char(&json, 0);
    char *command = strstr((char *)json.p, ",\"command\":");
    assert_non_null(command);
    *command = 0;
    assert_string_equal((const char *)json.p, expected);
}

static void sbatch_fails(const char *lines, const char *said)
{
    char text[1024];
    mr_buf_reset(&json);
    mr_buf_reset(&problem);
    snprintf(text, sizeof text, "#!/bin/sh\n%strue\n", lines);
    assert_int_equal(cmd_sbatch_to_json(mr_str_from(text), "s", &json, &problem), MR_ESYNTAX);
    mr_buf_put_char(&problem, 0);
    assert_string_equal((const char *)problem.p, said);
}

static void sbatch_options_become_a_document(void **state)
{
    (void)state;
    sbatch_is("#SBATCH --job-name=\"two words # no comment\" # comment\n#SBATCH -N2\n"
              "#SBATCH -c 4\n#SBATCH --mem-per-cpu 2G\n#SBATCH --time=1-02:03:04\n",
              "{\"name\":\"two words # no comment\",\"num_tasks\":2,\"resources\":{\"cpus\":4,"
              "\"memory\":\"8192MiB\"},\"time_limit\":93784");
    sbatch_is("#SBATCH --gres=gpu:h100:8\n#SBATCH --requeue\n",
              "{\"name\":\"s\",\"num_tasks\":1,\"resources\":{\"cpus\":1,\"accelerators\":"
              "{\"h100\":8}},\"restarts\":3");
    sbatch_is("#SBATCH --nodes=2\n#SBATCH --exclusive\n",
              "{\"name\":\"s\",\"num_tasks\":2,\"resources\":{\"cpus\":1},"
              "\"exclusive\":\"node\"");
    sbatch_fails("#SBATCH --exclusive=user\n",
                 "line 2: #SBATCH --exclusive: is for nodes; no value is known");
}

static void of_requeue_and_no_requeue_the_last_one_holds(void **state)
{
    (void)state;
    const char *plain = "{\"name\":\"s\",\"num_tasks\":1,\"resources\":{\"cpus\":1}";
    char again[128];
    snprintf(again, sizeof again, "%s,\"restarts\":3", plain);
    sbatch_is("#SBATCH --requeue\n#SBATCH --no-requeue\n", plain);
    sbatch_is("#SBATCH --no-requeue\n#SBATCH --requeue\n", again);
}

static void what_only_looks_like_an_option_is_a_comment(void **state)
{
    (void)state;
    assert_false(cmd_sbatch_is(MR_STR("#!/bin/sh\n#SBATCHES are nice\ntrue\n")));
    sbatch_is("#SBATCH\n#SBATCHX --nodes=7\n",
              "{\"name\":\"s\",\"num_tasks\":1,\"resources\":{\"cpus\":1}");
}

static void absurd_numbers_are_refused_not_wrapped(void **state)
{
    (void)state;
    sbatch_fails("#SBATCH -N 18446744073709551615\n",
                 "line 2: #SBATCH -N: want a number above 0 (ranges are not supported)");
    sbatch_fails("#SBATCH --gpus=99999999999\n", "line 2: #SBATCH --gpus: want [type:]count");
    sbatch_fails("#SBATCH -t 1:99999999999999999\n", "line 2: #SBATCH -t: want D-H:M:S or minutes");
    sbatch_fails("#SBATCH -c 1000000\n#SBATCH -n 1000000\n#SBATCH --mem-per-cpu=1000000000T\n",
                 "line 5: #SBATCH 1000000000T: bad memory");
    sbatch_fails("#SBATCH --job-name=\"a\"b\n", "line 2: #SBATCH --job-name: want the whole value "
                                                "in one pair of quotes, or none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(yaml_keeps_numbers_and_text_apart, begin, end),
        cmocka_unit_test_setup_teardown(yaml_that_says_more_than_its_text_is_refused, begin, end),
        cmocka_unit_test_setup_teardown(sbatch_options_become_a_document, begin, end),
        cmocka_unit_test_setup_teardown(of_requeue_and_no_requeue_the_last_one_holds, begin, end),
        cmocka_unit_test_setup_teardown(what_only_looks_like_an_option_is_a_comment, begin, end),
        cmocka_unit_test_setup_teardown(absurd_numbers_are_refused_not_wrapped, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
