/* SPDX-License-Identifier: Apache-2.0 */
/* The small verbs that change something: cancel, key.
 *
 * Owns:  nothing between calls.
 * Fails: as the call does; several ids are all tried, and the worst code is returned.
 */
#include <inttypes.h>
#include <stdio.h>
#include <yyjson.h>

#include "cmd.h"

int cmd_verb_cancel(struct cmd *cmd)
{
    struct cmd_client client;
    if (cmd->positional_count == 0) return cmd_usage(cmd, "which workload?");
    int code = cmd_client_open(cmd, &client);
    if (code != 0) return code;
    for (uint32_t i = 0; i < cmd->positional_count; i++) {
        uint64_t id;
        char path[64];
        if (mr_str_to_u64(mr_str_from(cmd->positional[i]), &id) != 0) {
            code = cmd_usage(cmd, "'%s' is no workload id", cmd->positional[i]);
            continue;
        }
        snprintf(path, sizeof path, "/api/workloads/%" PRIu64, id);
        int one = cmd_call(&client, "DELETE", path, (struct mr_str){0}, NULL);
        if (one != 0) {
            code = one;
        } else if (cmd->json) {
            cmd_print_body(&client);
        } else {
            cmd_say("workload %" PRIu64 ": asked to stop", id);
        }
    }
    cmd_client_close(&client);
    return code;
}

int cmd_verb_key(struct cmd *cmd)
{
    struct cmd_client client;
    const char *tenant = cmd_value(cmd, "tenant");
    mr_cleanup(mr_buf_done) struct mr_buf body;
    mr_buf_init(&body, 4096);
    mr_buf_put_str(&body, MR_STR("{\"tenant\":"));
    mr_json_put_string(&body, mr_str_from(tenant != NULL ? tenant : "default"));
    mr_buf_printf(&body, ",\"role\":\"%s\"}", cmd_flag(cmd, "admin") ? "admin" : "user");
    int code = cmd_client_open(cmd, &client);
    if (code != 0) return code;
    const char *revoke = cmd_value(cmd, "revoke");
    if (revoke != NULL) {
        mr_buf_reset(&body);
        mr_buf_put_str(&body, MR_STR("{\"key\":"));
        mr_json_put_string(&body, mr_str_from(revoke));
        mr_buf_put_char(&body, '}');
    } else if (cmd_flag(cmd, "new-tenant") && tenant != NULL) {
        mr_cleanup(mr_buf_done) struct mr_buf make;
        mr_buf_init(&make, 4096);
        mr_buf_put_str(&make, MR_STR("{\"name\":"));
        mr_json_put_string(&make, mr_str_from(tenant));
        mr_buf_put_char(&make, '}');
        code = cmd_call(&client, "POST", "/api/tenants", mr_buf_str(&make), NULL);
    }
    if (code == 0) {
        code = cmd_call(&client, revoke != NULL ? "DELETE" : "POST", "/api/keys", mr_buf_str(&body),
                        NULL);
    }
    if (code == 0 && cmd->json) {
        cmd_print_body(&client);
    } else if (code == 0 && revoke == NULL) {
        yyjson_doc *doc = yyjson_read((const char *)client.body.p, client.body.n, 0);
        printf("%s\n", cmd_json_str(yyjson_doc_get_root(doc), "key", "?"));
        cmd_say("this key is shown once; only its hash is kept");
        yyjson_doc_free(doc);
    }
    cmd_client_close(&client);
    return code;
}
