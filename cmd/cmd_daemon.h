/* SPDX-License-Identifier: Apache-2.0 */
/* Private to cmd: the daemon, wired from all modules. */
#ifndef MR_CMD_DAEMON_H
#define MR_CMD_DAEMON_H

#include "cmd.h"
#include "engine/engine.h"

struct cmd_daemon_ready {
    const char *url, *home, *self;
    const char *api_key, *admin_key; /* empty unless the home is new */
    const char *model;               /* served name of the model that was asked for, or empty */
    const struct mr_engine_machine *machine;
    bool json;
};

/* Runs until it is told to stop; returns an exit code. `ready` is called once, when calls are
 * answered. */
int cmd_daemon_run(struct cmd *cmd, void (*ready)(void *arg, const struct cmd_daemon_ready *ready),
                   void *arg);

#endif
