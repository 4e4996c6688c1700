/* SPDX-License-Identifier: Apache-2.0 */
/* `reserve`: nodes for a time to come, and their maintenance; shows all, or books one.
 *
 * Owns:  nothing between calls.
 * Fails: as the call does; when there is no room at that time, with the time when there is.
 */
#include <inttypes.h>
#include <stdio.h>
#include <yyjson.h>

#include "cmd.h"

/* --- showing ---------------------------------------------------------------------------------- */

/* "2-19,38": runs of ids that follow each other. */
static void nodes_put(char *text, size_t size, yyjson_val *nodes)
{
    size_t used = 0, count = yyjson_arr_size(nodes);
    text[0] = 0;
    for (size_t i = 0, end; i < count; i = end) {
        uint64_t first = yyjson_get_uint(yyjson_arr_get(nodes, i)), last = first;
        for (end = i + 1; end < count; end++, last++) {
            if (yyjson_get_uint(yyjson_arr_get(nodes, end)) != last + 1) break;
        }
        const char *comma = i > 0 ? "," : "";
        if (used + 48 >= size) {
            (void)snprintf(text + used, size - used, ",…");
            return;
        }
        int n = last > first ? snprintf(text + used, size - used, "%s%" PRIu64 "-%" PRIu64, comma,
                                        first, last)
                             : snprintf(text + used, size - used, "%s%" PRIu64, comma, first);
        used += n > 0 ? (size_t)n : 0;
    }
}

static void print_all(yyjson_val *root)
{
    static const char *const heads[] = {"ID",    "NAME",  "KIND", "TENANT", "STATE",
                                        "TASKS", "BEGIN", "END",  "NODES"};
    struct cmd_table table;
    yyjson_val *list = yyjson_obj_get(root, "reservations"), *r;
    size_t index, max;
    cmd_table_init(&table, heads, MR_COUNT_OF(heads));
    yyjson_arr_foreach(list, index, max, r)
    {
        char nodes[96];
        nodes_put(nodes, sizeof nodes, yyjson_obj_get(r, "nodes"));
        cmd_table_cell(&table, "%" PRIu64, cmd_json_u64(r, "id", 0));
        cmd_table_cell(&table, "%s", cmd_json_str(r, "name", ""));
        cmd_table_cell(&table, "%s", cmd_json_str(r, "kind", ""));
        cmd_table_cell(&table, "%s", cmd_json_str(r, "tenant", ""));
        cmd_table_cell(&table, "%s", cmd_json_str(r, "state", ""));
        cmd_table_cell(&table, "%" PRIu64 " of %" PRIu64, cmd_json_u64(r, "tasks", 0),
                       cmd_json_u64(r, "tasks_wanted", 0));
        cmd_table_cell(&table, "%s", cmd_json_str(r, "begin", ""));
        cmd_table_cell(&table, "%s", cmd_json_str(r, "end", "-"));
        cmd_table_cell(&table, "%s", nodes);
    }
    cmd_table_print(&table, stdout);
    if (yyjson_arr_size(list) == 0)
        cmd_say("nothing is reserved; `millrace reserve --help` says how to book something");
}

static int show(struct cmd *cmd)
{
    struct cmd_client client;
    int code = cmd_client_open(cmd, &client);
    if (code != 0) return code;
    yyjson_doc *doc = cmd_get_json(&client, "/api/reservations", &code);
    if (doc != NULL && cmd->json)
        cmd_print_body(&client);
    else if (doc != NULL)
        print_all(yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    cmd_client_close(&client);
    return code;
}

/* --- booking ---------------------------------------------------------------------------------- */

static int shape_put(struct cmd *cmd, struct mr_buf *json)
{
    uint64_t tasks;
    const char *cpus = cmd_value(cmd, "cpus");
    if (!cmd_number(cmd, "tasks", 1, 1000000, &tasks)) return CMD_USAGE;
    mr_buf_printf(json, ",\"num_tasks\":%" PRIu64 ",\"resources\":{\"cpus\":", tasks);
    mr_json_put_string(json, mr_str_from(cpus != NULL ? cpus : "1"));
    cmd_put_option(cmd, json, "memory", "memory");
    cmd_put_option(cmd, json, "accelerators", "accelerators");
    mr_buf_put_char(json, '}');
    cmd_put_option(cmd, json, "topology", "topology");
    return 0;
}

/* "node 7" or "domain 2". */
static int place_put(struct cmd *cmd, struct mr_buf *json)
{
    const char *what = cmd->positional[0];
    uint64_t id;
    bool known = strcmp(what, "node") == 0 || strcmp(what, "domain") == 0;
    if (!known || cmd->positional_count != 2)
        return cmd_usage(cmd, "for maintenance say which: node ID, or domain ID");
    if (mr_str_to_u64(mr_str_from(cmd->positional[1]), &id) != 0)
        return cmd_usage(cmd, "'%s' is no %s; `millrace fleet` lists them", cmd->positional[1],
                         what);
    mr_buf_printf(json, ",\"maintenance\":{\"%s\":%" PRIu64 "}", what, id);
    return 0;
}

static int book(struct cmd *cmd)
{
    struct cmd_client client;
    mr_cleanup(mr_buf_done) struct mr_buf json;
    const char *from = cmd_value(cmd, "from"), *length = cmd_value(cmd, "for");
    if (length == NULL) return cmd_usage(cmd, "for how long? --for 4h");
    mr_buf_init(&json, 65536);
    mr_buf_put_str(&json, MR_STR("{\"begin\":"));
    mr_json_put_string(&json, mr_str_from(from != NULL ? from : "0s"));
    cmd_put_option(cmd, &json, "for", "duration");
    cmd_put_option(cmd, &json, "tenant", "tenant");
    cmd_put_option(cmd, &json, "name", "name");
    int code = cmd->positional_count > 0 ? place_put(cmd, &json) : shape_put(cmd, &json);
    mr_buf_put_char(&json, '}');
    if (code == 0 && cmd_flag(cmd, "plan")) return cmd_plan(cmd, "reserve", mr_buf_str(&json));
    if (code == 0) code = cmd_client_open(cmd, &client);
    if (code != 0) return code;
    code = cmd_call(&client, "POST", "/api/reservations", mr_buf_str(&json), NULL);
    if (code == 0 && cmd->json) {
        cmd_print_body(&client);
    } else if (code == 0) {
        yyjson_doc *doc = yyjson_read((const char *)client.body.p, client.body.n, 0);
        uint64_t id = cmd_json_u64(yyjson_doc_get_root(doc), "id", 0);
        printf("%" PRIu64 "\n", id);
        if (cmd->positional_count == 0)
            cmd_say("reserved; use it with: millrace submit --reservation %" PRIu64
                    " …, give it back with: millrace cancel %" PRIu64,
                    id, id);
        else
            cmd_say("planned; take it back with: millrace cancel %" PRIu64, id);
        yyjson_doc_free(doc);
    }
    cmd_client_close(&client);
    return code;
}

int cmd_verb_reserve(struct cmd *cmd)
{
    bool books = cmd->positional_count > 0 || cmd_value(cmd, "for") != NULL ||
                 cmd_value(cmd, "from") != NULL || cmd_value(cmd, "tasks") != NULL;
    return books ? book(cmd) : show(cmd);
}
