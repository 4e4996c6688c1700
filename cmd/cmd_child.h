/* SPDX-License-Identifier: Apache-2.0 */
/* Private to cmd: other programs run as children, by the benches and the demo.
 *
 * Arguments end with NULL; args[0] is a path, or a name that PATH knows. A child's environment is
 * ours; `env NAME=VALUE program …` gives it one of its own.
 */
#ifndef MR_CMD_CHILD_H
#define MR_CMD_CHILD_H

#include <sys/types.h>

#include "base/base.h"

/* Starts it. Its standard output can be read from *ret_out, which the caller closes; where that is
 * NULL it goes nowhere. `quiet`: standard error goes nowhere too. -1: it could not be started. */
pid_t cmd_child_start(const char *const *args, int *ret_out, bool quiet);
/* Waits for its end: the exit code, or -1 when a signal ended it. */
int cmd_child_wait(pid_t pid);
/* Runs it to its end, standard output appended to `out` (NULL: goes nowhere). The exit code; -1
 * when it could not run, a signal ended it, or `out` is full. */
int cmd_child_run(const char *const *args, struct mr_buf *out, bool quiet);
/* Kills it and waits; nothing for pid <= 0. */
void cmd_child_kill(pid_t pid);
/* Removes a folder that we made, with all that is in it. */
void cmd_folder_remove(const char *folder);
/* A TCP port of 127.0.0.1 that nobody listens on now; 0: none. For programs that must be told one:
 * another may take it first, then they say so. */
uint16_t cmd_port_free(void);

#endif
