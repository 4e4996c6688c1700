/* SPDX-License-Identifier: Apache-2.0 */
/* kill -9 of the daemon and of supervisors at every point that can matter, and at random moments.
 *
 * A "daemon" is a forked process that uses the engine and is killed at its n-th point; the test is
 * the daemon that comes after it. Whatever happened: a task ran at most once, an end that was there
 * is kept, and no process is left.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine_world.h"

#define POINTS_MAX 64

static unsigned points_left;

static void kill_at_point(const char *where)
{
    (void)where;
    if (points_left > 0 && --points_left == 0) raise(SIGKILL);
}

static int setup(void **state)
{
    *state = world_new();
    world_close(*state); /* no thread while we fork */
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

static const char script[] = "echo ran >> \"$MILLRACE_JOB_DIR/ran\"; sleep 0.02; exit 5";

/* The daemon that dies at point n. True when it did. */
static bool daemon_dies(struct world *w, unsigned n, uint64_t lease,
                        void (*act)(struct world *w, uint64_t lease))
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        engine_point_hook = kill_at_point;
        points_left = n;
        world_open(w);
        act(w, lease);
        world_close(w);
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status)) assert_int_equal(WTERMSIG(status), SIGKILL);
    return WIFSIGNALED(status);
}

static void act_start(struct world *w, uint64_t lease)
{
    world_sh(w, lease, script);
    (void)world_wait(w, MR_ENGINE_EXITED, lease, 0);
}

/* For a supervisor that does not come: asks and sees what happens for a moment. */
static void act_start_only(struct world *w, uint64_t lease)
{
    world_sh(w, lease, script);
    world_pump(w, 100);
}

static void daemon_killed_at_any_point_of_start_runs_it_once(void **state)
{
    struct world *w = *state;
    uint64_t lease = 0;
    bool died = true;
    for (unsigned n = 1; died; n++) {
        assert_true(n < POINTS_MAX);
        died = daemon_dies(w, n, ++lease, act_start);
        size_t before = w->report_count;
        world_open(w);
        world_sh(w, lease, script);
        struct world_report *end = world_wait(w, MR_ENGINE_EXITED, lease, before);
        assert_non_null(end);
        assert_int_equal(end->r.exit_kind, ENGINE_EXIT_CODE);
        assert_int_equal(end->r.code, 5);
        assert_int_equal(world_lines(w, lease, "ran"), 1);
        world_close(w);
    }
    assert_true(lease > 6); /* there were points */
}

static void daemon_killed_at_any_point_of_start_is_told_the_truth_by_adopt(void **state)
{
    struct world *w = *state;
    uint64_t lease = 0;
    bool died = true;
    for (unsigned n = 1; died; n++) {
        assert_true(n < POINTS_MAX);
        died = daemon_dies(w, n, ++lease, act_start);
        size_t before = w->report_count;
        world_open(w);
        w->engine->ops->adopt(w->engine, (struct mr_lease_id){lease});
        struct world_report *end = world_wait(w, MR_ENGINE_EXITED, lease, before);
        assert_non_null(end);
        size_t ran = world_lines(w, lease, "ran");
        if (end->r.exit_kind == ENGINE_EXIT_CODE) {
            assert_int_equal(end->r.code, 5);
            assert_int_equal(ran, 1);
        } else {
            /* It had not begun, and now it never will. */
            assert_int_equal(end->r.exit_kind, ENGINE_EXIT_LOST);
            assert_int_equal(ran, 0);
        }
        world_close(w);
    }
}

static void act_stop(struct world *w, uint64_t lease)
{
    world_sh(w, lease, "echo up; exec sleep 1000");
    (void)world_wait(w, MR_ENGINE_STARTED, lease, 0);
    w->engine->ops->stop(w->engine, (struct mr_lease_id){lease}, 5000000);
    (void)world_wait(w, MR_ENGINE_EXITED, lease, 0);
}

static void stop_is_not_lost_with_the_daemon(void **state)
{
    struct world *w = *state;
    uint64_t lease = 0;
    bool died = true;
    for (unsigned n = 1; died; n++) {
        assert_true(n < POINTS_MAX);
        died = daemon_dies(w, n, ++lease, act_stop);
        size_t before = w->report_count;
        char path[PATH_MAX];
        world_path(w, path, "leases/%llu/stop", (unsigned long long)lease);
        bool written = access(path, F_OK) == 0;
        world_open(w);
        world_sh(w, lease, "echo up; exec sleep 1000");
        if (!written) {
            assert_non_null(world_wait(w, MR_ENGINE_STARTED, lease, before));
            w->engine->ops->stop(w->engine, (struct mr_lease_id){lease}, 5000000);
        }
        struct world_report *end = world_wait(w, MR_ENGINE_EXITED, lease, before);
        assert_non_null(end);
        assert_int_equal(end->r.exit_kind, ENGINE_EXIT_SIGNAL);
        assert_int_equal(end->r.code, SIGTERM);
        world_close(w);
    }
}

static void act_forget(struct world *w, uint64_t lease)
{
    world_sh(w, lease, script);
    (void)world_wait(w, MR_ENGINE_EXITED, lease, 0);
    w->engine->ops->forget(w->engine, (struct mr_lease_id){lease});
}

static void forgetting_half_way_starts_nothing_again(void **state)
{
    struct world *w = *state;
    uint64_t lease = 0;
    bool died = true;
    for (unsigned n = 1; died; n++) {
        assert_true(n < POINTS_MAX);
        died = daemon_dies(w, n, ++lease, act_forget);
        size_t before = w->report_count;
        world_open(w);
        world_sh(w, lease, script);
        struct world_report *end = world_wait(w, MR_ENGINE_EXITED, lease, before);
        assert_non_null(end);
        assert_int_equal(end->r.code, 5);
        assert_int_equal(world_lines(w, lease, "ran"), 1);
        world_close(w);
    }
}

static void supervisor_killed_at_any_point_runs_it_at_most_once(void **state)
{
    struct world *w = *state;
    uint64_t lease = 0;
    for (unsigned n = 1; n < POINTS_MAX; n++) {
        char number[16];
        lease++;
        snprintf(number, sizeof number, "%u", n);
        setenv("MILLRACE_TEST", number, 1);
        world_open(w);
        size_t before = w->report_count;
        world_sh(w, lease, script);
        struct world_report *end = world_wait(w, MR_ENGINE_EXITED, lease, before);
        unsetenv("MILLRACE_TEST");
        assert_non_null(end);
        int kind = end->r.exit_kind;
        size_t ran = world_lines(w, lease, "ran");
        assert_true(ran <= 1);
        if (kind == ENGINE_EXIT_CODE) {
            assert_int_equal(end->r.code, 5);
            assert_int_equal(ran, 1);
        } else if (kind == ENGINE_EXIT_START_FAILED) {
            assert_int_equal(ran, 0);
        } else {
            assert_int_equal(kind, ENGINE_EXIT_LOST);
        }
        assert_int_equal(world_processes(w), 0);
        world_close(w);
        /* The same end for the daemon after this one, and still it is not started. */
        before = w->report_count;
        world_open(w);
        world_sh(w, lease, script);
        end = world_wait(w, MR_ENGINE_EXITED, lease, before);
        assert_non_null(end);
        assert_int_equal(end->r.exit_kind, kind);
        assert_int_equal(world_lines(w, lease, "ran"), ran);
        world_close(w);
        char path[PATH_MAX];
        world_path(w, path, "leases/%llu/exit", (unsigned long long)lease);
        if (kind == ENGINE_EXIT_CODE && n > 20) return; /* past its last point */
    }
}

/* Two supervisors for one lease: the daemon died right behind spawning the first, which was slow.
 */
static void second_supervisor_of_a_lease_finds_the_door_shut(void **state)
{
    struct world *w = *state;
    char go[PATH_MAX];
    unsigned spawned = 0;
    world_path(w, go, "go");
    for (unsigned n = 1; n < POINTS_MAX; n++) {
        uint64_t lease = n;
        setenv("MILLRACE_TEST", go, 1);
        bool died = daemon_dies(w, n, lease, act_start_only);
        unsetenv("MILLRACE_TEST");
        world_open(w);
        world_sh(w, lease, script);
        struct world_report *end = world_end(w, lease);
        assert_int_equal(end->r.code, 5);
        world_close(w);
        spawned += world_processes_of(w, "supervise");
        /* Now the first one comes. */
        close(open(go, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        while (world_processes_of(w, "supervise") > 0)
            usleep(1000);
        assert_int_equal(world_lines(w, lease, "ran"), 1);
        assert_int_equal(unlink(go), 0);
        if (!died) break;
    }
    assert_true(spawned > 0); /* it did happen */
}

static void random_kills_of_the_daemon_lose_and_repeat_nothing(void **state)
{
    enum { ROUNDS = 25, LEASES = 4 };
    struct world *w = *state;
    struct mr_prng prng;
    mr_prng_init(&prng, 20251123);
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t first = 1 + round * LEASES;
        int status;
        pid_t pid = fork();
        if (pid == 0) {
            world_open(w);
            for (uint64_t id = first; id < first + LEASES; id++)
                world_sh(w, id, script);
            world_pump(w, 10000);
            _exit(0);
        }
        usleep((useconds_t)mr_prng_below(&prng, 60000));
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        size_t before = w->report_count;
        world_open(w);
        for (uint64_t id = first; id < first + LEASES; id++)
            world_sh(w, id, script);
        for (uint64_t id = first; id < first + LEASES; id++) {
            struct world_report *end = world_wait(w, MR_ENGINE_EXITED, id, before);
            assert_non_null(end);
            assert_int_equal(end->r.exit_kind, ENGINE_EXIT_CODE);
            assert_int_equal(end->r.code, 5);
            assert_int_equal(world_lines(w, id, "ran"), 1);
        }
        world_close(w);
    }
}

static void killed_supervisor_leaves_no_orphan(void **state)
{
    struct world *w = *state;
    world_open(w);
    world_sh(w, 1,
             "(setsid sleep 1000 &); sleep 1000 & (trap '' TERM; setsid sh -c 'sleep 1000; :' &)\n"
             "echo up; sleep 1000");
    assert_non_null(world_wait(w, MR_ENGINE_STARTED, 1, 0));
    assert_true(world_file_wait(w, 1, "rank-0.stdout"));
    pid_t supervisor = world_supervisor(w, 1);
    assert_true(supervisor > 1);
    assert_int_equal(kill(supervisor, SIGKILL), 0);
    struct world_report *end = world_end(w, 1);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_LOST);
    for (int i = 0; i < 500 && world_processes(w) > 0; i++)
        usleep(10000);
    assert_int_equal(world_processes(w), 0);
}

static void recycled_number_fools_nobody(void **state)
{
    struct world *w = *state;
    char path[PATH_MAX], text[32];
    int status;
    world_open(w);
    world_sh(w, 1, "exec sleep 1000");
    assert_non_null(world_wait(w, MR_ENGINE_STARTED, 1, 0));
    world_close(w);
    assert_int_equal(kill(world_supervisor(w, 1), SIGKILL), 0);
    while (world_supervisor(w, 1) != 0)
        usleep(1000);
    /* An innocent process that has got the supervisor's number, as far as the folder can tell. */
    pid_t innocent = fork();
    if (innocent == 0) {
        pause();
        _exit(0);
    }
    snprintf(text, sizeof text, "%d\n", (int)innocent);
    world_path(w, path, "leases/1");
    assert_int_equal(engine_file_put(path, "claimed", mr_str_from(text), false), 0);
    size_t before = w->report_count;
    world_open(w);
    w->engine->ops->adopt(w->engine, (struct mr_lease_id){1});
    w->engine->ops->stop(w->engine, (struct mr_lease_id){1}, 0);
    struct world_report *end = world_wait(w, MR_ENGINE_EXITED, 1, before);
    assert_non_null(end);
    assert_int_equal(end->r.exit_kind, ENGINE_EXIT_LOST);
    assert_int_equal(waitpid(innocent, &status, WNOHANG), 0);
    kill(innocent, SIGKILL);
    assert_int_equal(waitpid(innocent, &status, 0), innocent);
}

/* In a mount namespace of its own with a home of 256 KiB. Exit codes tell what went wrong. */
static int full_disk(struct world *w)
{
    char path[PATH_MAX];
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return 77;
    if (mount("home", w->home, "tmpfs", 0, "size=256k") != 0) return 77;
    world_open(w);
    world_path(w, path, "filler");
    FILE *file = fopen(path, "w");
    if (file == NULL) return 1;
    while (fputs("all of the disk is taken by this\n", file) >= 0 && fflush(file) == 0) {
    }
    fclose(file);
    world_sh(w, 1, "true");
    struct world_report *end = world_wait(w, MR_ENGINE_EXITED, 1, 0);
    if (end == NULL) return 2;
    if (end->r.exit_kind != ENGINE_EXIT_START_FAILED) return 3;
    if (strstr(end->text, "the disk of the home is full") == NULL) return 4;
    /* With room again the next lease runs. */
    unlink(path);
    world_sh(w, 2, "exit 3");
    end = world_wait(w, MR_ENGINE_EXITED, 2, 0);
    if (end == NULL || end->r.exit_kind != ENGINE_EXIT_CODE || end->r.code != 3) return 5;
    world_close(w);
    return 0;
}

static void full_disk_is_said_and_survived(void **state)
{
    struct world *w = *state;
    int status;
    pid_t pid = fork();
    if (pid == 0) _exit(full_disk(w));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(daemon_killed_at_any_point_of_start_runs_it_once),
        T(daemon_killed_at_any_point_of_start_is_told_the_truth_by_adopt),
        T(stop_is_not_lost_with_the_daemon),
        T(forgetting_half_way_starts_nothing_again),
        T(supervisor_killed_at_any_point_runs_it_at_most_once),
        T(second_supervisor_of_a_lease_finds_the_door_shut),
        T(random_kills_of_the_daemon_lose_and_repeat_nothing),
        T(killed_supervisor_leaves_no_orphan),
        T(recycled_number_fools_nobody),
        T(full_disk_is_said_and_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
