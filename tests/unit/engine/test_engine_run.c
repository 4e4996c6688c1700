/* SPDX-License-Identifier: Apache-2.0 */
/* Leases from start to forget, with real processes: what a task sees, what is reported, how it
 * ends.
 *
 * Owns: a world with a home of its own for each case.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
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

static void task_runs_and_its_end_is_reported(void **state)
{
    struct world *w = *state;
    world_sh(w, 1, "echo out; echo err >&2; exit 3");
    assert_non_null(world_wait(w, MR_ENGINE_STARTED, 1, 0));
    struct world_report *end = world_end(w, 1);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_CODE);
    assert_int_equal(end->r.code, 3);
    assert_string_equal(end->text, "it ended with exit code 3");
    assert_string_equal(world_file(w, 1, "rank-0.stdout"), "out\n");
    assert_string_equal(world_file(w, 1, "rank-0.stderr"), "err\n");
}

static void end_is_reported_again_until_forgotten_and_never_run_twice(void **state)
{
    struct world *w = *state;
    world_sh(w, 1, "echo x >> \"$MILLRACE_JOB_DIR/ran\"");
    world_end(w, 1);
    size_t before = w->report_count;
    world_sh(w, 1, "echo x >> \"$MILLRACE_JOB_DIR/ran\"");
    assert_non_null(world_wait(w, MR_ENGINE_EXITED, 1, before));
    world_close(w);
    world_open(w);
    before = w->report_count;
    w->engine->ops->adopt(w->engine, (struct mr_lease_id){1});
    assert_non_null(world_wait(w, MR_ENGINE_EXITED, 1, before));
    w->engine->ops->forget(w->engine, (struct mr_lease_id){1});
    /* Even when it is forgotten: started again it only tells its end. */
    before = w->report_count;
    world_sh(w, 1, "echo x >> \"$MILLRACE_JOB_DIR/ran\"");
    struct world_report *end = world_wait(w, MR_ENGINE_EXITED, 1, before);
    assert_non_null(end);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_CODE);
    assert_int_equal(end->r.code, 0);
    assert_int_equal(world_lines(w, 1, "ran"), 1);
    char path[PATH_MAX];
    world_path(w, path, "leases/1");
    assert_int_not_equal(access(path, F_OK), 0);
}

static void environment_is_clean_and_says_what_it_should(void **state)
{
    struct world *w = *state;
    struct mr_engine_start order = world_order(7);
    struct mr_str env[] = {MR_STR("COLOUR=green"), MR_STR("RANK=9"), MR_STR("EMPTY=")};
    setenv("MR_SECRET", "do not tell", 1);
    order.tasks = 2;
    order.rank_first = 2;
    order.world_size = 4;
    order.node_rank = 1;
    order.node_count = 2;
    order.mem_mib = 64;
    order.devices = 0x5;
    order.env = env;
    order.env_count = 3;
    world_sh_order(w, order, "env");
    assert_int_equal(world_end(w, 7)->r.code, 0);
    const char *text = world_file(w, 7, "rank-3.stdout");
    static const char *const wanted[] = {"COLOUR=green\n",
                                         "EMPTY=\n",
                                         "RANK=3\n",
                                         "LOCAL_RANK=1\n",
                                         "WORLD_SIZE=4\n",
                                         "LOCAL_WORLD_SIZE=2\n",
                                         "GROUP_RANK=1\n",
                                         "GROUP_WORLD_SIZE=2\n",
                                         "MASTER_ADDR=127.0.0.1\n",
                                         "MASTER_PORT=2",
                                         "MILLRACE_WORKLOAD=7\n",
                                         "MILLRACE_LEASE=7\n",
                                         "MILLRACE_RUN=1\n",
                                         "MILLRACE_CPU_MILLI=1000\n",
                                         "MILLRACE_MEM_MIB=64\n",
                                         "MILLRACE_CACHE_DIR=/tmp\n",
                                         "CUDA_VISIBLE_DEVICES=0,2\n",
                                         "PATH=",
                                         "HOME=",
                                         "LANG="};
    for (size_t i = 0; i < MR_COUNT_OF(wanted); i++) {
        if (strstr(text, wanted[i]) == NULL) fail_msg("no %s in: %s", wanted[i], text);
    }
    assert_null(strstr(text, "MR_SECRET"));
    assert_null(strstr(text, "MILLRACE_SOCKET"));
}

static void input_document_and_folder_are_given(void **state)
{
    struct world *w = *state;
    struct mr_engine_start order = world_order(1);
    order.tasks = order.world_size = 2;
    order.stdin_bytes = MR_STR("two\nlines\n");
    order.spec_json = MR_STR("{\"a\":1}");
    world_sh_order(w, order, "wc -l; cat \"$MILLRACE_RUN_DIR/spec.json\"; pwd");
    assert_int_equal(world_end(w, 1)->r.code, 0);
    for (int i = 0; i < 2; i++) {
        const char *text = world_file(w, 1, i == 0 ? "rank-0.stdout" : "rank-1.stdout");
        assert_non_null(strstr(text, "2\n{\"a\":1}"));
        assert_non_null(strstr(text, "/workloads/1\n"));
    }
}

static void what_cannot_be_run_fails_to_start_with_words(void **state)
{
    struct world *w = *state;
    struct mr_str missing[] = {MR_STR("no-such-program-here")}, folder[] = {MR_STR("/tmp")};
    struct mr_str plain[] = {MR_STR("/etc/passwd")};
    struct mr_engine_start order = world_order(1);
    order.argv = missing;
    order.argv_count = 1;
    w->engine->ops->start(w->engine, &order);
    struct world_report *end = world_end(w, 1);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_START_FAILED);
    assert_int_equal(end->r.code, ENOENT);
    assert_string_equal(end->text, "program not found: no-such-program-here");
    assert_int_equal(world_count(w, MR_ENGINE_STARTED, 1), 0);
    order.lease.v = order.workload.v = 2;
    order.argv = folder;
    w->engine->ops->start(w->engine, &order);
    assert_string_equal(world_end(w, 2)->text, "/tmp is a folder, no program");
    order.lease.v = order.workload.v = 3;
    order.argv = plain;
    w->engine->ops->start(w->engine, &order);
    end = world_end(w, 3);
    assert_int_equal(end->r.code, EACCES);
    order = world_order(4);
    order.work_dir = MR_STR("/no/such/folder");
    world_sh_order(w, order, "true");
    end = world_end(w, 4);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_START_FAILED);
    assert_non_null(strstr(end->text, "/no/such/folder: work_dir is not a folder"));
}

static void order_past_a_limit_is_refused_at_once(void **state)
{
    struct world *w = *state;
    struct mr_engine_start order = world_order(1);
    order.tasks = MR_TASKS_PER_NODE_MAX + 1;
    world_sh_order(w, order, "true");
    struct world_report *end = world_end(w, 1);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_START_FAILED);
    assert_int_equal(end->r.code, MR_EINVALID);
    assert_string_equal(end->text, "too many tasks on one node");
    order = world_order(2);
    order.mpi = true;
    order.node_count = 2;
    world_sh_order(w, order, "true");
    assert_non_null(strstr(world_end(w, 2)->text, "must lie on one node"));
}

static void first_failing_task_ends_the_gang(void **state)
{
    struct world *w = *state;
    struct mr_engine_start order = world_order(1);
    order.tasks = order.world_size = 3;
    world_sh_order(w, order, "if [ $RANK = 1 ]; then kill -9 $$; fi; sleep 1000");
    struct world_report *end = world_end(w, 1);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_SIGNAL);
    assert_int_equal(end->r.code, SIGKILL);
    assert_string_equal(end->text, "rank 1 was killed by signal 9 (Killed)");
    assert_int_equal(world_processes(w), 0);
}

static void stop_asks_first(void **state)
{
    struct world *w = *state;
    world_sh(w, 1, "trap 'echo asked; exit 75' TERM; echo up; while :; do sleep 0.05; done");
    assert_true(world_file_wait(w, 1, "rank-0.stdout"));
    w->engine->ops->stop(w->engine, (struct mr_lease_id){1}, 20000000);
    struct world_report *end = world_end(w, 1);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_CODE);
    assert_int_equal(end->r.code, 75);
    assert_string_equal(world_file(w, 1, "rank-0.stdout"), "up\nasked\n");
}

/* A task that ignores SIGTERM, a child of it, and one that has left for a session of its own. */
static const char stubborn[] = "trap '' TERM\n"
                               "(trap '' TERM; sleep 1000) &\n"
                               "(setsid sh -c 'trap \"\" TERM; sleep 1001; :' &)\n"
                               "echo up; while :; do sleep 1; done";

static void stop_kills_the_whole_tree_behind_the_grace(void **state)
{
    struct world *w = *state;
    world_sh(w, 1, stubborn);
    assert_true(world_file_wait(w, 1, "rank-0.stdout"));
    uint64_t before = engine_mono_us();
    w->engine->ops->stop(w->engine, (struct mr_lease_id){1}, 500000);
    struct world_report *end = world_end(w, 1);
    assert_true(engine_mono_us() - before >= 450000);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_SIGNAL);
    assert_int_equal(end->r.code, SIGKILL);
    assert_non_null(strstr(end->text, "did not stop within its grace"));
    assert_int_equal(world_processes(w), 0);
}

static void stop_without_grace_kills_at_once(void **state)
{
    struct world *w = *state;
    world_sh(w, 1, stubborn);
    assert_true(world_file_wait(w, 1, "rank-0.stdout"));
    w->engine->ops->stop(w->engine, (struct mr_lease_id){1}, 20000000);
    w->engine->ops->stop(w->engine, (struct mr_lease_id){1}, 0);
    assert_int_equal(world_end(w, 1)->r.code, SIGKILL);
    assert_int_equal(world_processes(w), 0);
}

static void stop_right_behind_start_is_honoured(void **state)
{
    struct world *w = *state;
    for (uint64_t id = 1; id <= 20; id++) {
        world_sh(w, id, "sleep 1000");
        w->engine->ops->stop(w->engine, (struct mr_lease_id){id}, 5000000);
    }
    for (uint64_t id = 1; id <= 20; id++) {
        struct world_report *end = world_end(w, id);
        assert_int_equal(end->r.exit_kind, ENGINE_EXIT_SIGNAL);
        assert_int_equal(end->r.code, SIGTERM);
    }
}

static void end_of_the_task_ends_what_it_left_behind(void **state)
{
    struct world *w = *state;
    world_sh(w, 1, "(setsid sleep 1000 &) ; sleep 1000 & exit 0");
    assert_int_equal(world_end(w, 1)->r.code, 0);
    assert_int_equal(world_processes(w), 0);
}

static void time_limit_ends_it(void **state)
{
    struct world *w = *state;
    struct mr_engine_start order = world_order(1);
    order.time_limit_us = 300000;
    world_sh_order(w, order, "sleep 1000");
    struct world_report *end = world_end(w, 1);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_TIME_LIMIT);
    assert_string_equal(end->text, "it ran into its time limit of 0.3 s");
}

static void memory_past_the_limit_is_told_from_a_plain_kill(void **state)
{
    struct world *w = *state;
    struct mr_engine_start order = world_order(1);
    order.mem_mib = 64;
    world_sh_order(
        w, order,
        "exec /usr/bin/python3 -c 'b = bytearray(200 << 20)\nimport time\ntime.sleep(60)'");
    struct world_report *end = world_end(w, 1);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_OUT_OF_MEMORY);
    assert_string_equal(end->text, "it used more than its memory limit of 64 MiB");
    /* Below the limit nothing happens, also when the memory is shared among many. */
    order = world_order(2);
    order.mem_mib = 96;
    world_sh_order(
        w, order,
        "exec /usr/bin/python3 -c '\nimport os, time\nb = bytearray(b\"x\") * (40 << 20)\n"
        "kids = [os.fork() for _ in range(1)]\n"
        "time.sleep(1.5)\nif kids[0]: os.wait()\n'");
    end = world_end(w, 2);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_CODE);
    assert_int_equal(end->r.code, 0);
}

static void memory_is_counted_however_deep_it_lies(void **state)
{
    struct world *w = *state;
    struct mr_engine_start order = world_order(1);
    order.mem_mib = 256;
    world_sh_order(w, order,
                   "n=${1:-0}; export n; cat > d.sh <<'E'\n"
                   "n=$((n + 1)); export n\n"
                   "if [ $n -lt 100 ]; then sh d.sh; exit; fi\n"
                   "/usr/bin/python3 -c 'b = bytearray(b\"x\") * (400 << 20)\nimport time\n"
                   "time.sleep(60)'\n"
                   "E\n"
                   "sh d.sh; exit 0");
    assert_int_equal(world_end(w, 1)->r.exit_kind, ENGINE_EXIT_OUT_OF_MEMORY);
    assert_int_equal(world_processes(w), 0);
}

static void progress_and_readiness_are_reported(void **state)
{
    struct world *w = *state;
    world_sh(
        w, 1,
        "cd $MILLRACE_RUN_DIR; sleep 0.1\n"
        "echo '{\"checkpoint_step\":5}' > t && mv t progress.json; sleep 0.3\n"
        "echo '{\"checkpoint_step\":9,\"work_done\":70}' > t && mv t progress.json; sleep 0.3\n"
        "echo '{\"work_done\":-1}' > t && mv t progress.json; sleep 1000");
    struct world_report *report = world_wait(w, MR_ENGINE_PROGRESS, 1, 0);
    assert_non_null(report);
    assert_int_equal(report->r.checkpoint_step, 5);
    assert_int_equal(report->r.work_done, 0);
    report = world_wait(w, MR_ENGINE_PROGRESS, 1, (size_t)(report - w->reports) + 1);
    assert_non_null(report);
    assert_int_equal(report->r.checkpoint_step, 9);
    assert_int_equal(report->r.work_done, 70);
    assert_int_equal(world_count(w, MR_ENGINE_READY, 1), 0);
    w->engine->ops->stop(w->engine, (struct mr_lease_id){1}, 0);
    world_end(w, 1);
}

static void two_hundred_leases_at_once_run_once_each(void **state)
{
    struct world *w = *state;
    for (uint64_t id = 1; id <= 200; id++) {
        world_sh(w, id, "echo x >> \"$MILLRACE_JOB_DIR/ran\"; exit $((MILLRACE_LEASE % 7))");
    }
    for (uint64_t id = 1; id <= 200; id++) {
        struct world_report *end = world_end(w, id);
        assert_int_equal(end->r.exit_kind, ENGINE_EXIT_CODE);
        assert_int_equal(end->r.code, (int)(id % 7));
        assert_int_equal(world_lines(w, id, "ran"), 1);
        assert_int_equal(world_count(w, MR_ENGINE_EXITED, id), 1);
    }
}

static uint64_t cpu_us(void)
{
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000u +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void daemon_sleeps_while_three_hundred_leases_run(void **state)
{
    enum { LEASES = 300 };
    struct world *w = *state;
    for (uint64_t id = 1; id <= LEASES; id++)
        world_sh(w, id, "exec sleep 1000");
    for (uint64_t id = 1; id <= LEASES; id++)
        assert_non_null(world_wait(w, MR_ENGINE_STARTED, id, 0));
    uint64_t before = cpu_us();
    sleep(1);
    assert_true(cpu_us() - before <
                20000); /* polling a file of each 10 times a second takes more */
    for (uint64_t id = 1; id <= LEASES; id++) {
        w->engine->ops->stop(w->engine, (struct mr_lease_id){id}, 0);
    }
    for (uint64_t id = 1; id <= LEASES; id++)
        assert_int_equal(world_end(w, id)->r.code, SIGKILL);
}

static void sandbox_is_a_worker_like_others(void **state)
{
    struct world *w = *state;
    struct mr_engine_start order = world_order(1);
    struct mr_str argv[] = {MR_STR("sandbox")};
    if (access(TEST_PROGRAMS "/millrace-sandbox", X_OK) != 0) {
        print_message("millrace-sandbox was not built\n");
        skip();
    }
    order.argv = argv;
    order.argv_count = 1;
    order.mem_mib = 256;
    order.spec_json = MR_STR("{\"code\":\"print(6 * 7)\\nopen('o', 'w').write('x')\\nexit(3)\","
                             "\"outputs\":[\"o\"]}");
    w->engine->ops->start(w->engine, &order);
    struct world_report *end = world_end(w, 1);
    if (end->r.code == 125) {
        print_message("the kernel has no isolation to give\n");
        skip();
    }
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_CODE);
    assert_int_equal(end->r.code, 3);
    assert_string_equal(world_file(w, 1, "rank-0.stdout"), "42\n");
    assert_non_null(strstr(world_file(w, 1, "result.json"), "\"files\":{\"o\":\"eA==\"}"));
    /* Killed with its supervisor, also what runs inside. */
    order.lease.v = order.workload.v = 2;
    order.spec_json = MR_STR("{\"command\":[\"sh\",\"-c\",\"echo up; sleep 1000\"]}");
    w->engine->ops->start(w->engine, &order);
    assert_true(world_file_wait(w, 2, "rank-0.stdout"));
    assert_int_equal(kill(world_supervisor(w, 2), SIGKILL), 0);
    assert_int_equal(world_end(w, 2)->r.exit_kind, ENGINE_EXIT_LOST);
    for (int i = 0; i < 500 && world_processes(w) > 0; i++)
        usleep(10000);
    assert_int_equal(world_processes(w), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(task_runs_and_its_end_is_reported),
        T(end_is_reported_again_until_forgotten_and_never_run_twice),
        T(environment_is_clean_and_says_what_it_should),
        T(input_document_and_folder_are_given),
        T(what_cannot_be_run_fails_to_start_with_words),
        T(order_past_a_limit_is_refused_at_once),
        T(first_failing_task_ends_the_gang),
        T(stop_asks_first),
        T(stop_kills_the_whole_tree_behind_the_grace),
        T(stop_without_grace_kills_at_once),
        T(stop_right_behind_start_is_honoured),
        T(end_of_the_task_ends_what_it_left_behind),
        T(time_limit_ends_it),
        T(memory_past_the_limit_is_told_from_a_plain_kill),
        T(memory_is_counted_however_deep_it_lies),
        T(progress_and_readiness_are_reported),
        T(two_hundred_leases_at_once_run_once_each),
        T(daemon_sleeps_while_three_hundred_leases_run),
        T(sandbox_is_a_worker_like_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
