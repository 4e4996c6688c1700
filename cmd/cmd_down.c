/* SPDX-License-Identifier: Apache-2.0 */
/* `down`: stops the daemon of this home, and with --all the workers that outlive it.
 *
 * Owns:  nothing; the home's lock tells who runs, so that a recycled process number fools nobody.
 * Fails: when the daemon does not end in time; it says where its log is.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cmd.h"
#include "engine/engine.h"

#define WAIT_MS  30000u
#define POLL_MS  20u
#define GRACE_US 10000000u

/* Waits until the lock is free, or the time is up. */
static int wait_for_lock(struct cmd *cmd, int *ret_fd)
{
    int pid = 0, error = MR_EEXISTS;
    for (uint32_t waited_ms = 0; waited_ms <= WAIT_MS; waited_ms += POLL_MS) {
        error = cmd_home_lock(cmd->home, ret_fd, &pid);
        if (error != MR_EEXISTS) return error;
        struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
        (void)nanosleep(&pause, NULL); /* woken early is fine */
    }
    return error;
}

int cmd_verb_down(struct cmd *cmd)
{
    int lock = -1, pid = 0;
    uint32_t workers = 0;
    bool ran = false;
    if (access(cmd->home, F_OK) != 0) {
        return cmd_fail("there is no home %s; MILLRACE_HOME=… names another", cmd->home);
    }
    int error = cmd_home_lock(cmd->home, &lock, &pid);
    if (error == MR_EEXISTS && pid > 0) {
        ran = true;
        if (kill(pid, SIGTERM) != 0 && errno != ESRCH) {
            return cmd_fail("cannot stop process %d: %s", pid, strerror(errno));
        }
        error = wait_for_lock(cmd, &lock);
    }
    if (error == MR_EEXISTS) {
        return cmd_fail("process %d does not end; see %s/daemon.log", pid, cmd->home);
    }
    if (error != 0) return cmd_fail("cannot look at %s: %s", cmd->home, strerror(errno));
    /* With the lock held no new daemon can start workers while these are stopped. */
    if (cmd_flag(cmd, "all")) {
        error = mr_engine_local_stop_all(mr_str_from(cmd->home), GRACE_US, &workers);
        if (error != 0)
            cmd_say("millrace: not every worker could be stopped: %s", mr_error_text(error));
    }
    (void)close(lock);
    if (cmd->json) {
        printf("{\"stopped\":%s,\"workers_stopped\":%u}\n", ran ? "true" : "false", workers);
    } else if (cmd_flag(cmd, "all")) {
        cmd_say("%s; %u worker%s stopped", ran ? "stopped" : "nothing was running", workers,
                workers == 1 ? "" : "s");
    } else {
        cmd_say("%s", ran ? "stopped; workers go on, `millrace up` finds them again"
                          : "nothing was running");
    }
    return error == 0 ? CMD_DONE : CMD_FAILED;
}
