/* SPDX-License-Identifier: Apache-2.0 */
/* `logs`: what a workload's tasks wrote, once or as it comes.
 *
 * Owns:  nothing between calls.
 * Fails: as the call does.
 */
#include <inttypes.h>
#include <stdio.h>

#include "cmd.h"

static bool pass_through(void *arg, struct mr_str bytes)
{
    (void)arg;
    return fwrite(bytes.p, 1, bytes.n, stdout) == bytes.n && fflush(stdout) == 0;
}

int cmd_verb_logs(struct cmd *cmd)
{
    struct cmd_client client;
    uint64_t id, rank, run;
    char path[256];
    if (cmd->positional_count != 1 || mr_str_to_u64(mr_str_from(cmd->positional[0]), &id) != 0) {
        return cmd_usage(cmd, "give the id of one workload");
    }
    if (!cmd_number(cmd, "rank", 0, UINT32_MAX, &rank)) return CMD_USAGE;
    if (!cmd_number(cmd, "run", 0, UINT32_MAX, &run)) return CMD_USAGE;
    int code = cmd_client_open(cmd, &client);
    if (code != 0) return code;
    snprintf(path, sizeof path,
             "/api/workloads/%" PRIu64 "/logs?rank=%" PRIu64 "&run=%" PRIu64 "&stream=%s&raw=1%s",
             id, rank, run, cmd_flag(cmd, "stderr") ? "stderr" : "stdout",
             cmd_flag(cmd, "follow") ? "&follow=1" : "");
    code = cmd_call_stream(&client, "GET", path, (struct mr_str){0}, pass_through, NULL);
    cmd_client_close(&client);
    return code;
}
