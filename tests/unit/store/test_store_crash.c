/* SPDX-License-Identifier: Apache-2.0 */
/* kill -9 in the middle of writing, many times on one journal: what was acknowledged stays. */
#include "store_world.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 25u
#define ROWS   8u

/* Appends until it is killed; tells each group that was acknowledged. */
static void child(struct store_world *w, int tell, uint64_t next)
{
    uint64_t epoch;
    if (world_open(w) != 0 || world_epoch(w, &epoch) != 0) _exit(2);
    for (uint32_t i = 0;; i++, next += ROWS) {
        if (world_append(w, epoch, next, ROWS) != 0) _exit(3);
        uint64_t last = next + ROWS - 1;
        if (write(tell, &last, sizeof last) != sizeof last) _exit(4);
        if (i % 5 == 4 && world_snapshot(w, epoch, last, "state") != 0) _exit(5);
    }
}

static void kill_at_any_moment_loses_nothing(void **state)
{
    struct store_world w;
    struct mr_prng prng;
    uint64_t acknowledged = 0, first, count, next = 1;
    (void)state;
    world_init(&w);
    mr_prng_init(&prng, 7);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        int tell[2];
        uint64_t last = 0;
        assert_int_equal(pipe(tell), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            close(tell[0]);
            child(&w, tell[1], next);
        }
        close(tell[1]);
        uint64_t groups = 1 + mr_prng_below(&prng, 12);
        for (uint64_t i = 0; i < groups; i++) {
            assert_int_equal(read(tell[0], &last, sizeof last), sizeof last);
            acknowledged = last;
        }
        usleep((unsigned)mr_prng_below(&prng, 1500)); /* anywhere within what comes next */
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        while (read(tell[0], &last, sizeof last) == sizeof last)
            acknowledged = last;
        close(tell[0]);
        assert_int_equal(world_open(&w), 0);
        assert_int_equal(world_read(&w, 1, &first, &count), 0);
        if (count > 0) {
            uint64_t end = first + count - 1;
            assert_true(end >= acknowledged);
            assert_true(end <= acknowledged + ROWS); /* at most the group that was under way */
            assert_int_equal(end % ROWS, 0);
            next = end + 1;
        } else { /* all of it lies in snapshots */
            next = acknowledged + 1;
        }
        world_close(&w);
    }
    world_done(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(kill_at_any_moment_loses_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
