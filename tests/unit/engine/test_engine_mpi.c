/* SPDX-License-Identifier: Apache-2.0 */
/* MPI jobs under a real mpirun: ranks, logs, ends. Skipped without mpirun.
 *
 * Owns: a world with a home of its own for each case.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine_world.h"

static int setup(void **state)
{
    *state = world_new();
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

static void need_mpirun(void)
{
    if (access("/usr/bin/mpirun", X_OK) != 0) {
        print_message("no mpirun is installed\n");
        skip();
    }
}

static struct mr_engine_start mpi_order(uint32_t ranks)
{
    struct mr_engine_start order = world_order(1);
    order.mpi = true;
    order.tasks = order.world_size = ranks;
    return order;
}

static void each_rank_has_its_number_and_its_log(void **state)
{
    struct world *w = *state;
    struct mr_engine_start order = mpi_order(3);
    need_mpirun();
    order.stdin_bytes = MR_STR("in\n");
    world_sh_order(w, order, "read x; echo rank $RANK of $WORLD_SIZE got $x; echo e$RANK >&2");
    struct world_report *end = world_end(w, 1);
    assert_string_equal(end->text, "");
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_CODE);
    assert_int_equal(end->r.code, 0);
    assert_string_equal(world_file(w, 1, "rank-0.stdout"), "rank 0 of 3 got in\n");
    assert_string_equal(world_file(w, 1, "rank-2.stdout"), "rank 2 of 3 got in\n");
    assert_string_equal(world_file(w, 1, "rank-2.stderr"), "e2\n");
}

static void killed_rank_ends_the_job_by_its_number(void **state)
{
    struct world *w = *state;
    need_mpirun();
    world_sh_order(w, mpi_order(2), "if [ $RANK = 1 ]; then kill -9 $$; fi; sleep 1000");
    struct world_report *end = world_end(w, 1);
    if (strcmp(end->text, "a rank was killed by signal 9 (Killed)") != 0) {
        assert_string_equal(end->text, "rank 1 was killed by signal 9 (Killed)");
    }
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_SIGNAL);
    assert_int_equal(end->r.code, SIGKILL);
    assert_int_equal(world_processes(w), 0);
}

static void failed_rank_ends_the_job_with_its_code(void **state)
{
    struct world *w = *state;
    need_mpirun();
    world_sh_order(w, mpi_order(2), "if [ $RANK = 1 ]; then exit 7; fi; sleep 1000");
    struct world_report *end = world_end(w, 1);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_CODE);
    assert_int_equal(end->r.code, 7);
    /* mpirun does not always say which rank it was. */
    if (strcmp(end->text, "the MPI job ended with exit code 7") != 0) {
        assert_string_equal(end->text, "rank 1 ended with exit code 7");
    }
}

static void stopped_ranks_may_save(void **state)
{
    struct world *w = *state;
    need_mpirun();
    world_sh_order(
        w, mpi_order(2),
        "trap 'sleep 2; echo saved; exit 75' TERM; echo up; while :; do sleep 0.05; done");
    assert_true(world_file_wait(w, 1, "rank-0.stdout"));
    assert_true(world_file_wait(w, 1, "rank-1.stdout"));
    w->engine->ops->stop(w->engine, (struct mr_lease_id){1}, 20000000);
    struct world_report *end = world_end(w, 1);
    assert_string_equal(world_file(w, 1, "rank-0.stdout"), "up\nsaved\n");
    assert_string_equal(world_file(w, 1, "rank-1.stdout"), "up\nsaved\n");
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_CODE);
    assert_int_equal(end->r.code, 75);
}

static void program_that_is_not_there_is_named(void **state)
{
    struct world *w = *state;
    struct mr_engine_start order = mpi_order(2);
    struct mr_str argv[] = {MR_STR("no-such-program-here")};
    order.argv = argv;
    order.argv_count = 1;
    w->engine->ops->start(w->engine, &order);
    assert_string_equal(world_end(w, 1)->text, "program not found: no-such-program-here");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(each_rank_has_its_number_and_its_log),   T(killed_rank_ends_the_job_by_its_number),
        T(failed_rank_ends_the_job_with_its_code), T(stopped_ranks_may_save),
        T(program_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
