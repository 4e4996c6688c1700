/* SPDX-License-Identifier: Apache-2.0 */
/* A program that is nothing but the supervisor: `engine_supervisor supervise FOLDER`.
 *
 * MILLRACE_TEST=N kills it at the N-th of its points, for the tests of what a killed supervisor
 * leaves. Tests: tests/unit/engine
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine_int.h"

static uint64_t points_left;

static const char *wait_path;

static void on_point(const char *where)
{
    while (wait_path != NULL && strcmp(where, "before lock") == 0 && access(wait_path, F_OK) != 0) {
        usleep(1000);
    }
    if (points_left > 0 && --points_left == 0) raise(SIGKILL);
}

int main(int argc, char **argv)
{
    const char *test = getenv("MILLRACE_TEST");
    if (argc != 3 || strcmp(argv[1], "supervise") != 0) return 2;
    if (test != NULL && test[0] == '/') {
        wait_path = test;
        engine_point_hook = on_point;
    }
    if (test != NULL && mr_str_to_u64(mr_str_from(test), &points_left) == 0) {
        engine_point_hook = on_point;
    }
    return mr_engine_supervise(argv[2]);
}
