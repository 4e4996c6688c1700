/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs that only look: status, queue, fleet, usage, why. Each is one GET and one table.
 *
 * Owns:  nothing between calls.
 * Fails: as the call does.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "cmd.h"

typedef void (*printer)(yyjson_val *root);

/* GET path; with --json as it came, else through `print`. */
static int look(struct cmd *cmd, const char *path, printer print)
{
    struct cmd_client client;
    int code = cmd_client_open(cmd, &client);
    if (code != 0) return code;
    yyjson_doc *doc = cmd_get_json(&client, path, &code);
    if (doc != NULL) {
        if (cmd->json) {
            cmd_print_body(&client);
        } else {
            print(yyjson_doc_get_root(doc));
        }
    }
    yyjson_doc_free(doc);
    cmd_client_close(&client);
    return code;
}

static void print_workloads(yyjson_val *root)
{
    static const char *const heads[] = {"ID",    "NAME",  "KIND",      "TENANT",
                                        "STATE", "TASKS", "SUBMITTED", "REASON"};
    struct cmd_table table;
    yyjson_val *list = yyjson_obj_get(root, "workloads"), *w;
    size_t index, max;
    cmd_table_init(&table, heads, MR_COUNT_OF(heads));
    yyjson_arr_foreach(list, index, max, w)
    {
        cmd_table_cell(&table, "%" PRIu64, cmd_json_u64(w, "id", 0));
        cmd_table_cell(&table, "%s", cmd_json_str(w, "name", "-"));
        cmd_table_cell(&table, "%s", cmd_json_str(w, "kind", "-"));
        cmd_table_cell(&table, "%s", cmd_json_str(w, "tenant", "-"));
        cmd_table_cell(&table, "%s", cmd_json_str(w, "state", "-"));
        cmd_table_cell(&table, "%" PRIu64, cmd_json_u64(w, "tasks", 0));
        cmd_table_cell(&table, "%s", cmd_json_str(w, "submitted", "-"));
        cmd_table_cell(&table, "%s", cmd_json_str(w, "reason", ""));
    }
    cmd_table_print(&table, stdout);
}

int cmd_verb_queue(struct cmd *cmd)
{
    char path[256];
    const char *id = cmd->positional_count > 0 ? cmd->positional[0] : NULL;
    const char *state = cmd_value(cmd, "state");
    uint64_t number;
    if (id != NULL) {
        if (mr_str_to_u64(mr_str_from(id), &number) != 0) {
            return cmd_usage(cmd, "'%s' is no workload id; `millrace queue` lists them", id);
        }
        snprintf(path, sizeof path, "/api/workloads/%" PRIu64, number);
    } else {
        snprintf(path, sizeof path, "/api/workloads%s%.64s", state != NULL ? "?state=" : "",
                 state != NULL ? state : "");
    }
    return look(cmd, path, print_workloads);
}

static void print_status(yyjson_val *root)
{
    yyjson_val *totals = yyjson_obj_get(root, "totals");
    if (totals == NULL) totals = root;
    printf("Millrace %s, up %s, epoch %" PRIu64 ", journal at record %" PRIu64 "\n",
           cmd_json_str(root, "version", "?"),
           cmd_duration(cmd_json_u64(root, "uptime_s", 0) * 1000000u),
           cmd_json_u64(root, "epoch", 0), cmd_json_u64(root, "seq", 0));
    printf("nodes: %" PRIu64 " up, %" PRIu64 " down; workloads: %" PRIu64 " running, %" PRIu64
           " pending; leases: %" PRIu64 "\n",
           cmd_json_u64(totals, "nodes_up", 0), cmd_json_u64(totals, "nodes_down", 0),
           cmd_json_u64(totals, "running", 0), cmd_json_u64(totals, "pending", 0),
           cmd_json_u64(totals, "leases", 0));
    yyjson_val *models = yyjson_obj_get(root, "models"), *model;
    size_t index, max;
    yyjson_arr_foreach(models, index, max, model)
    {
        printf("model %s: %" PRIu64 " of %" PRIu64 " replicas ready%s%s\n",
               cmd_json_str(model, "name", "?"), cmd_json_u64(model, "ready", 0),
               cmd_json_u64(model, "replicas", 0),
               cmd_json_str(model, "engine", "")[0] != 0 ? "; " : "",
               cmd_json_str(model, "engine", ""));
    }
}

int cmd_verb_status(struct cmd *cmd)
{
    return look(cmd, "/api/status", print_status);
}

static void print_fleet(yyjson_val *root)
{
    static const char *const heads[] = {"NODE", "STATE",       "VCPU FREE",    "OF", "MEMORY FREE",
                                        "OF",   "ACCELERATOR", "DEVICES FREE", "OF", "LEASES"};
    struct cmd_table table;
    yyjson_val *list = yyjson_obj_get(root, "nodes"), *n;
    size_t index, max;
    cmd_table_init(&table, heads, MR_COUNT_OF(heads));
    yyjson_arr_foreach(list, index, max, n)
    {
        cmd_table_cell(&table, "%" PRIu64, cmd_json_u64(n, "id", 0));
        cmd_table_cell(&table, "%s", cmd_json_str(n, "state", "-"));
        cmd_table_cell(&table, "%.2f", (double)cmd_json_u64(n, "cpu_free_milli", 0) / 1000);
        cmd_table_cell(&table, "%.2f", (double)cmd_json_u64(n, "cpu_milli", 0) / 1000);
        cmd_table_cell(&table, "%.1f GiB", (double)cmd_json_u64(n, "mem_free_mib", 0) / 1024);
        cmd_table_cell(&table, "%.1f GiB", (double)cmd_json_u64(n, "mem_mib", 0) / 1024);
        cmd_table_cell(&table, "%s", cmd_json_str(n, "accelerator", "-"));
        cmd_table_cell(&table, "%.2f", (double)cmd_json_u64(n, "accel_free_milli", 0) / 1000);
        cmd_table_cell(&table, "%" PRIu64, cmd_json_u64(n, "accel_count", 0));
        cmd_table_cell(&table, "%" PRIu64, cmd_json_u64(n, "leases", 0));
    }
    cmd_table_print(&table, stdout);
    yyjson_arr_foreach(yyjson_obj_get(root, "deliveries"), index, max, n)
    {
        bool late = yyjson_get_bool(yyjson_obj_get(n, "late"));
        printf("%s %s: %" PRIu64 " nodes with %" PRIu64 " %s\n", late ? "late, since" : "from",
               cmd_json_str(n, "from", "?"), cmd_json_u64(n, "nodes", 0),
               cmd_json_u64(n, "accel_count", 0) > 0 ? cmd_json_u64(n, "accel_count", 0)
                                                     : cmd_json_u64(n, "cpu_milli", 0) / 1000,
               cmd_json_str(n, "accelerator", "vCPUs"));
    }
}

static bool step_changes(yyjson_val *a, yyjson_val *b)
{
    static const char *const names[] = {"installed", "maintenance", "reserved", "running", "free"};
    for (size_t i = 0; a != NULL && i < MR_COUNT_OF(names); i++) {
        if (cmd_json_u64(a, names[i], 0) != cmd_json_u64(b, names[i], 0)) return true;
    }
    return a == NULL;
}

/* The times at which something changes. */
static void print_timeline(yyjson_val *root)
{
    static const char *const heads[] = {"RESOURCE", "FROM",    "INSTALLED", "MAINTENANCE",
                                        "RESERVED", "RUNNING", "FREE"};
    struct cmd_table table;
    yyjson_val *type, *step;
    size_t index, max, at, count;
    cmd_table_init(&table, heads, MR_COUNT_OF(heads));
    yyjson_arr_foreach(yyjson_obj_get(root, "types"), index, max, type)
    {
        yyjson_val *last = NULL;
        yyjson_arr_foreach(yyjson_obj_get(type, "steps"), at, count, step)
        {
            if (!step_changes(last, step)) continue;
            cmd_table_cell(&table, "%s", cmd_json_str(type, "resource", "?"));
            cmd_table_cell(&table, "%s", cmd_json_str(step, "time", "?"));
            cmd_table_cell(&table, "%" PRIu64, cmd_json_u64(step, "installed", 0));
            cmd_table_cell(&table, "%" PRIu64, cmd_json_u64(step, "maintenance", 0));
            cmd_table_cell(&table, "%" PRIu64, cmd_json_u64(step, "reserved", 0));
            cmd_table_cell(&table, "%" PRIu64, cmd_json_u64(step, "running", 0));
            cmd_table_cell(&table, "%" PRIu64, cmd_json_u64(step, "free", 0));
            last = step;
        }
    }
    cmd_table_print(&table, stdout);
}

static int timeline(struct cmd *cmd)
{
    char path[64];
    uint64_t days = 56;
    const char *given = cmd->positional_count > 1 ? cmd->positional[1] : "56";
    if (mr_str_to_u64(mr_str_from(given), &days) != 0 || days == 0 || days > 3660)
        return cmd_usage(cmd, "'%s' is no number of days, 1 to 3660", given);
    (void)snprintf(path, sizeof path, "/api/timeline?days=%" PRIu64 "&steps=%" PRIu64, days,
                   days <= 41 ? 24 * days : MR_MIN(days, (uint64_t)1000));
    return look(cmd, path, print_timeline);
}

int cmd_verb_fleet(struct cmd *cmd)
{
    if (cmd->positional_count > 0 && strcmp(cmd->positional[0], "timeline") == 0)
        return timeline(cmd);
    if (cmd->positional_count > 0) return cmd_fleet_file(cmd);
    return look(cmd, "/api/fleet", print_fleet);
}

static double json_number(yyjson_val *object, const char *key)
{
    yyjson_val *value = yyjson_obj_get(object, key);
    if (yyjson_is_str(value)) return strtod(yyjson_get_str(value), NULL);
    return yyjson_get_num(value);
}

static void print_usage(yyjson_val *root)
{
    static const char *const heads[] = {"TENANT", "WORKLOAD", "SKU", "QUANTITY", "UNIT", "COST"};
    struct cmd_table table;
    yyjson_val *list = yyjson_obj_get(root, "lines"), *line;
    size_t index, max;
    cmd_table_init(&table, heads, MR_COUNT_OF(heads));
    yyjson_arr_foreach(list, index, max, line)
    {
        cmd_table_cell(
            &table, "%s",
            cmd_json_str(line, "SubAccountName", cmd_json_str(line, "SubAccountId", "-")));
        cmd_table_cell(&table, "%s",
                       cmd_json_str(line, "ResourceName", cmd_json_str(line, "ResourceId", "-")));
        cmd_table_cell(&table, "%s", cmd_json_str(line, "SkuId", "-"));
        cmd_table_cell(&table, "%.4f", json_number(line, "ConsumedQuantity"));
        cmd_table_cell(&table, "%s", cmd_json_str(line, "ConsumedUnit", "-"));
        cmd_table_cell(&table, "%.6f", json_number(line, "BilledCost"));
    }
    cmd_table_print(&table, stdout);
    printf("total: %.6f %s\n", json_number(root, "total"), cmd_json_str(root, "currency", "USD"));
}

int cmd_verb_usage(struct cmd *cmd)
{
    return look(cmd, "/api/usage", print_usage);
}

static void print_why(yyjson_val *root)
{
    printf("workload %" PRIu64 " is %s", cmd_json_u64(root, "id", 0),
           cmd_json_str(root, "state", "?"));
    const char *reason = cmd_json_str(root, "reason", "");
    printf("%s%s\n", reason[0] != 0 ? ": " : "", reason);
}

int cmd_verb_why(struct cmd *cmd)
{
    char path[64];
    uint64_t id;
    if (cmd->positional_count != 1 || mr_str_to_u64(mr_str_from(cmd->positional[0]), &id) != 0) {
        return cmd_usage(cmd, "give the id of one workload");
    }
    snprintf(path, sizeof path, "/api/workloads/%" PRIu64 "/why", id);
    return look(cmd, path, print_why);
}
