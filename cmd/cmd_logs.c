/* SPDX-License-Identifier: Apache-2.0 */
/* `logs`: what a workload's tasks wrote, once or as it comes.
 *
 * With --json it is one document with the whole text, printed when all of it is there: with
 * --follow that is when the workload has ended.
 *
 * Owns:  the text, for the length of the call.
 * Fails: as the call does.
 */
#include <inttypes.h>
#include <stdio.h>

#include "cmd.h"

#define TEXT_BYTES_MAX ((size_t)256 * 1024 * 1024)

static bool pass_through(void *arg, struct mr_str bytes)
{
    (void)arg;
    return fwrite(bytes.p, 1, bytes.n, stdout) == bytes.n && fflush(stdout) == 0;
}

static bool keep(void *arg, struct mr_str bytes)
{
    struct mr_buf *text = arg;
    mr_buf_put_str(text, bytes);
    return !text->failed;
}

static int print_json(const struct cmd *cmd, uint64_t id, uint64_t rank, const struct mr_buf *text)
{
    mr_cleanup(mr_buf_done) struct mr_buf out;
    mr_buf_init(&out, TEXT_BYTES_MAX * 6 + 4096);
    if (text->failed) return cmd_fail("the log is longer than %zu MiB", TEXT_BYTES_MAX >> 20);
    mr_buf_printf(&out, "{\"id\":%" PRIu64 ",\"rank\":%" PRIu64 ",\"stream\":\"%s\",\"text\":", id,
                  rank, cmd_flag(cmd, "stderr") ? "stderr" : "stdout");
    mr_json_put_string(&out, mr_buf_str(text));
    mr_buf_put_str(&out, MR_STR("}\n"));
    if (out.failed) return cmd_fail("out of memory");
    return fwrite(out.p, 1, out.n, stdout) == out.n ? CMD_DONE : CMD_FAILED;
}

int cmd_verb_logs(struct cmd *cmd)
{
    mr_cleanup(mr_buf_done) struct mr_buf text;
    mr_buf_init(&text, TEXT_BYTES_MAX);
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
    code = cmd_call_stream(&client, "GET", path, (struct mr_str){0},
                           cmd->json ? keep : pass_through, &text);
    cmd_client_close(&client);
    if (cmd->json && (code == 0 || text.failed)) code = print_json(cmd, id, rank, &text);
    return code;
}
