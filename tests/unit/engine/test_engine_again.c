/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon that finds leases of the one before it: adopt, sweep, stop_all; and inference workers,
 * whose socket, readiness and meters have to be found too.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine_world.h"
#include "proto/proto.h"

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

static void lease_goes_on_without_a_daemon_and_is_found_again(void **state)
{
    struct world *w = *state;
    world_sh(w, 1, "echo up; while [ ! -e \"$MILLRACE_JOB_DIR/go\" ]; do sleep 0.01; done; exit 6");
    assert_true(world_file_wait(w, 1, "rank-0.stdout"));
    world_close(w);
    assert_true(world_supervisor(w, 1) > 0);
    size_t before = w->report_count;
    world_open(w);
    w->engine->ops->adopt(w->engine, (struct mr_lease_id){1});
    assert_non_null(world_wait(w, MR_ENGINE_STARTED, 1, before));
    char path[PATH_MAX];
    world_path(w, path, "workloads/1/go");
    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    struct world_report *end = world_wait(w, MR_ENGINE_EXITED, 1, before);
    assert_non_null(end);
    assert_int_equal(end->r.code, 6);
}

static void end_without_a_daemon_is_reported_to_the_next(void **state)
{
    struct world *w = *state;
    world_sh(w, 1, "echo up; sleep 0.2; exit 6");
    assert_true(world_file_wait(w, 1, "rank-0.stdout"));
    world_close(w);
    while (world_supervisor(w, 1) > 0)
        usleep(1000);
    world_open(w);
    w->engine->ops->adopt(w->engine, (struct mr_lease_id){1});
    assert_int_equal(world_end(w, 1)->r.code, 6);
}

static void lease_without_a_trace_is_lost(void **state)
{
    struct world *w = *state;
    w->engine->ops->adopt(w->engine, (struct mr_lease_id){404});
    struct world_report *end = world_end(w, 404);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_LOST);
    assert_string_equal(end->text, "this machine has no trace of it");
    w->engine->ops->forget(w->engine, (struct mr_lease_id){404});
    w->engine->ops->stop(w->engine, (struct mr_lease_id){405}, 0); /* unknown: nothing */
    world_pump(w, 50);
    assert_int_equal(world_count(w, MR_ENGINE_EXITED, 405), 0);
}

static void sweep_stops_what_nobody_adopted_and_is_silent(void **state)
{
    struct world *w = *state;
    char path[PATH_MAX];
    for (uint64_t id = 1; id <= 3; id++)
        world_sh(w, id, "echo up; exec sleep 1000");
    for (uint64_t id = 1; id <= 3; id++)
        assert_true(world_file_wait(w, id, "rank-0.stdout"));
    world_close(w);
    size_t before = w->report_count;
    world_open(w);
    w->engine->ops->adopt(w->engine, (struct mr_lease_id){2});
    w->engine->ops->sweep(w->engine);
    assert_non_null(world_wait(w, MR_ENGINE_STARTED, 2, before));
    for (uint64_t id = 1; id <= 3; id += 2) {
        world_path(w, path, "leases/%llu", (unsigned long long)id);
        for (int i = 0; i < 500 && access(path, F_OK) == 0; i++)
            world_pump(w, 10);
        assert_int_not_equal(access(path, F_OK), 0);
        assert_int_equal(world_count(w, MR_ENGINE_EXITED, id), 0);
    }
    assert_true(world_supervisor(w, 2) > 0);
    assert_int_equal(world_count(w, MR_ENGINE_EXITED, 2), 0);
}

static void stop_all_stops_without_a_daemon(void **state)
{
    struct world *w = *state;
    uint32_t count = 99;
    for (uint64_t id = 1; id <= 3; id++)
        world_sh(w, id, "echo up; exec sleep 1000");
    for (uint64_t id = 1; id <= 3; id++)
        assert_true(world_file_wait(w, id, "rank-0.stdout"));
    world_close(w);
    assert_int_equal(mr_engine_local_stop_all(mr_str_from(w->home), 5000000, &count), 0);
    assert_int_equal(count, 3);
    assert_int_equal(world_processes(w), 0);
    assert_int_equal(mr_engine_local_stop_all(mr_str_from(w->home), 5000000, &count), 0);
    assert_int_equal(count, 0);
    assert_int_equal(mr_engine_local_stop_all(MR_STR("/no/such/home"), 0, &count), 0);
}

static void leases_are_looked_at_when_nothing_can_be_watched(void **state)
{
    struct world *w = *state;
    world_close(w);
    setenv("MILLRACE_TEST", "1", 1); /* its supervisor dies before it takes the lock */
    world_open(w);
    engine_polling_force(w->engine);
    world_sh(w, 3, "true");
    struct world_report *end = world_end(w, 3);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_START_FAILED);
    world_close(w);
    unsetenv("MILLRACE_TEST");
    world_open(w);
    engine_polling_force(w->engine);
    world_sh(w, 1,
             "sleep 0.3; echo '{\"checkpoint_step\":4}' > $MILLRACE_RUN_DIR/progress.json; "
             "sleep 0.6; exit 8");
    world_sh(w, 2, "no-such-program");
    assert_non_null(world_wait(w, MR_ENGINE_STARTED, 1, 0));
    assert_non_null(world_wait(w, MR_ENGINE_PROGRESS, 1, 0));
    assert_int_equal(world_end(w, 1)->r.code, 8);
    assert_int_equal(world_end(w, 2)->r.code, 127);
    /* Also one that was found. */
    world_sh(w, 4, "sleep 0.5; exit 9");
    assert_non_null(world_wait(w, MR_ENGINE_STARTED, 4, 0));
    world_close(w);
    world_open(w);
    engine_polling_force(w->engine);
    w->engine->ops->adopt(w->engine, (struct mr_lease_id){4});
    assert_int_equal(world_end(w, 4)->r.code, 9);
}

static void home_has_the_longest_path_that_it_may_have(void **state)
{
    struct world *w = *state;
    char home[ENGINE_HOME_BYTES_MAX + 2];
    struct mr_engine *engine = NULL;
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    struct mr_engine_local_config config = {.env = &w->env, .programs = MR_STR("/")};
    mr_buf_init(&problem, 4096);
    size_t n = strlen(w->home);
    memcpy(home, w->home, n);
    while (n < sizeof home) {
        home[n] = n % 100 == 0 ? '/' : 'h';
        n++;
    }
    home[strlen(w->home)] = '/';
    config.home = (struct mr_str){home, ENGINE_HOME_BYTES_MAX};
    assert_int_equal(mr_engine_local_open(&config, &engine, &problem), 0);
    mr_engine_local_close(engine);
    config.home.n++;
    assert_int_equal(mr_engine_local_open(&config, &engine, &problem), MR_EINVALID);
    assert_true(problem.n > 0);
}

/* A worker that says that it is ready, leaves three meters, and waits to be killed. */
static const char fake_infer[] = "#!/bin/sh\n"
                                 "cp \"$MILLRACE_JOB_DIR/meter.bin\" \"$MILLRACE_RUN_DIR/meter\"\n"
                                 "echo \"$MILLRACE_SOCKET\"\n"
                                 "sleep 0.1; : > \"$MILLRACE_RUN_DIR/ready\"\n"
                                 "exec sleep 1000\n";

static void inference_worker_is_found_ready_and_its_meters_are_reported(void **state)
{
    struct world *w = *state;
    char path[PATH_MAX], programs[PATH_MAX];
    uint8_t meters[4 * MR_METER_RECORD_BYTES] = {0};
    struct mr_str argv[] = {MR_STR("infer")};
    struct mr_engine_start order = world_order(1);
    mr_cleanup(mr_buf_done) struct mr_buf address;
    world_close(w);
    world_path(w, programs, "programs");
    assert_int_equal(engine_mkdirs(programs), 0);
    assert_int_equal(engine_file_put(programs, "millrace-infer", mr_str_from(fake_infer), false),
                     0);
    world_path(w, path, "programs/millrace-infer");
    assert_int_equal(chmod(path, 0755), 0);
    for (unsigned i = 0; i < 3; i++) {
        struct mr_meter_record record = {
            .state = i == 1 ? MR_METER_RUNNING : MR_METER_ENDED,
            .serial = i + 1,
            .tenant = 7,
            .usage = {.prompt_tokens = 100 + i, .cached_tokens = 10, .completion_tokens = 5 * i}};
        mr_meter_encode(&record, meters + (size_t)i * MR_METER_RECORD_BYTES);
    }
    world_path(w, path, "workloads/1");
    assert_int_equal(engine_mkdirs(path), 0);
    assert_int_equal(engine_file_put(path, "meter.bin",
                                     (struct mr_str){(const char *)meters, sizeof meters}, false),
                     0);
    w->programs = programs;
    world_open(w);
    order.argv = argv;
    order.argv_count = 1;
    w->engine->ops->start(w->engine, &order);
    assert_non_null(world_wait(w, MR_ENGINE_READY, 1, 0));
    mr_buf_init(&address, 256);
    w->engine->ops->address(w->engine, (struct mr_lease_id){1}, &address);
    mr_buf_put_char(&address, '\n');
    mr_buf_put_char(&address, 0);
    assert_string_equal((char *)address.p + 5, world_file(w, 1, "rank-0.stdout"));
    assert_int_equal(memcmp(address.p, "unix:", 5), 0);
    w->engine->ops->stop(w->engine, (struct mr_lease_id){1}, 0);
    struct world_report *end = world_end(w, 1);
    assert_int_equal(world_count(w, MR_ENGINE_METER, 1), 3);
    for (struct world_report *r = w->reports; r < end; r++) {
        if (r->r.kind != MR_ENGINE_METER) continue;
        assert_int_equal(r->r.tenant, 7);
        assert_int_equal(r->r.prompt_tokens, 99 + r->r.serial);
        assert_int_equal(r->r.completion_tokens, 5 * (r->r.serial - 1));
    }
    for (struct world_report *r = end; r < w->reports + w->report_count; r++) {
        assert_int_not_equal(r->r.kind, MR_ENGINE_METER);
    }
    /* Of what serves nothing there is no address. */
    mr_buf_reset(&address);
    world_sh(w, 2, "true");
    world_end(w, 2);
    w->engine->ops->address(w->engine, (struct mr_lease_id){2}, &address);
    assert_int_equal(address.n, 0);
}

static void socket_fits_whatever_the_home_is(void **state)
{
    char home[300], other[300], a[108] = "", b[108] = "";
    (void)state;
    memset(home, 'x', sizeof home);
    home[0] = '/';
    home[sizeof home - 1] = 0;
    memcpy(other, home, sizeof home);
    other[100] = 'y';
    assert_int_equal(
        engine_socket_path(mr_str_from(home), (struct mr_lease_id){UINT64_MAX}, true, a), 0);
    assert_int_equal(
        engine_socket_path(mr_str_from(other), (struct mr_lease_id){UINT64_MAX}, true, b), 0);
    assert_true(strlen(a) < 108);
    assert_string_not_equal(a, b);
    *strrchr(a, '/') = 0;
    *strrchr(b, '/') = 0;
    /* A folder that others can write is refused: they could put a socket of theirs there. */
    assert_int_equal(chmod(a, 0777), 0);
    assert_int_equal(engine_socket_path(mr_str_from(home), (struct mr_lease_id){1}, true, a),
                     MR_EFORBIDDEN);
    *strrchr(b, 0) = 0;
    assert_int_equal(rmdir(b), 0);
    assert_int_equal(rmdir(a), 0);
}

static void machine_is_described(void **state)
{
    struct mr_engine_machine machine;
    char name[64];
    (void)state;
    mr_engine_machine_read(&machine);
    assert_true(machine.cpu_milli >= 100);
    assert_true(machine.mem_mib > 100);
    assert_true(machine.cgroup[0] != 0);
    assert_true(machine.sandbox[0] != 0);
    assert_true((machine.accel_count > 0) == (machine.accel_name[0] != 0));
    print_message("%u mcpu of %s, %u MiB, cgroup %s, sandbox %s, %u x %s\n", machine.cpu_milli,
                  machine.cpu_name, machine.mem_mib, machine.cgroup, machine.sandbox,
                  machine.accel_count, machine.accel_name);
    static const char *const names[][2] = {{"NVIDIA H100 80GB HBM3", "H100"},
                                           {"NVIDIA A100-SXM4-80GB", "A100"},
                                           {"Tesla V100-SXM2-16GB", "V100"},
                                           {"NVIDIA GeForce RTX 4090", "RTX4090"},
                                           {"", ""}};
    for (size_t i = 0; i < MR_COUNT_OF(names); i++) {
        engine_accel_name_short(mr_str_from(names[i][0]), name);
        assert_string_equal(name, names[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(lease_goes_on_without_a_daemon_and_is_found_again),
        T(end_without_a_daemon_is_reported_to_the_next),
        T(lease_without_a_trace_is_lost),
        T(sweep_stops_what_nobody_adopted_and_is_silent),
        T(stop_all_stops_without_a_daemon),
        T(inference_worker_is_found_ready_and_its_meters_are_reported),
        T(leases_are_looked_at_when_nothing_can_be_watched),
        T(home_has_the_longest_path_that_it_may_have),
        cmocka_unit_test(socket_fits_whatever_the_home_is),
        cmocka_unit_test(machine_is_described),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
