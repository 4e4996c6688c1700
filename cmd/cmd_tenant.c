/* SPDX-License-Identifier: Apache-2.0 */
/* `tenant`: who may use how much; shows all, or sets one.
 *
 * Owns:  nothing between calls.
 * Fails: as the call does; a list that is none says which part of it is wrong.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "cmd.h"

/* --- showing ---------------------------------------------------------------------------------- */

/* "held of quota", or what is held when there is no quota. */
static const char *held_of(char *text, size_t size, double held, yyjson_val *quota, double unit)
{
    if (quota == NULL || yyjson_is_null(quota))
        (void)snprintf(text, size, "%g", held / unit);
    else
        (void)snprintf(text, size, "%g of %g", held / unit, yyjson_get_num(quota) / unit);
    return text;
}

static void types_put(char *text, size_t size, yyjson_val *quota)
{
    static const char *const known[] = {"cpus", "memory_mib", "accelerators", "running"};
    size_t used = 0;
    yyjson_obj_iter iter;
    yyjson_obj_iter_init(quota, &iter);
    text[0] = 0;
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter)) != NULL;) {
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        bool resource = false;
        for (size_t i = 0; i < MR_COUNT_OF(known); i++) {
            resource = resource || strcmp(yyjson_get_str(key), known[i]) == 0;
        }
        if (resource || yyjson_is_null(value) || used >= size) continue;
        int n = snprintf(text + used, size - used, "%s%s %g", used > 0 ? ", " : "",
                         yyjson_get_str(key), yyjson_get_num(value));
        used += n > 0 ? (size_t)n : 0;
    }
}

static void print_tenants(yyjson_val *root, const char *only)
{
    static const char *const heads[] = {"TENANT", "PARENT", "WEIGHT",  "VCPUS",   "GIB",
                                        "ACCELS", "TYPES",  "RUNNING", "PENDING", "SHARE"};
    struct cmd_table table;
    yyjson_val *list = yyjson_obj_get(root, "tenants"), *t;
    size_t index, max;
    cmd_table_init(&table, heads, MR_COUNT_OF(heads));
    yyjson_arr_foreach(list, index, max, t)
    {
        char weight[16], cpus[48], memory[48], accels[48], types[160], running[48], pending[16];
        char share[24];
        yyjson_val *held = yyjson_obj_get(t, "held"), *quota = yyjson_obj_get(t, "quota");
        const char *name = cmd_json_str(t, "name", "?");
        if (only != NULL && strcmp(only, name) != 0) continue;
        (void)snprintf(weight, sizeof weight, "%" PRIu64, cmd_json_u64(t, "weight", 0));
        (void)snprintf(pending, sizeof pending, "%" PRIu64, cmd_json_u64(t, "pending", 0));
        (void)snprintf(share, sizeof share, "%.2f %%",
                       (double)cmd_json_u64(t, "share_ppm", 0) / 10000.0);
        types_put(types, sizeof types, quota);
        const char *const row[] = {
            name,
            cmd_json_str(t, "parent", ""),
            weight,
            held_of(cpus, sizeof cpus, yyjson_get_num(yyjson_obj_get(held, "cpus")),
                    yyjson_obj_get(quota, "cpus"), 1),
            held_of(memory, sizeof memory, yyjson_get_num(yyjson_obj_get(held, "memory_mib")),
                    yyjson_obj_get(quota, "memory_mib"), 1024),
            held_of(accels, sizeof accels, yyjson_get_num(yyjson_obj_get(held, "accelerators")),
                    yyjson_obj_get(quota, "accelerators"), 1),
            types,
            held_of(running, sizeof running, (double)cmd_json_u64(t, "running", 0),
                    yyjson_obj_get(quota, "running"), 1),
            pending,
            share,
        };
        for (size_t i = 0; i < MR_COUNT_OF(row); i++) {
            cmd_table_cell(&table, "%s", row[i]);
        }
    }
    cmd_table_print(&table, stdout);
}

static yyjson_val *tenant_of(yyjson_val *root, const char *name)
{
    yyjson_val *t;
    size_t index, max;
    yyjson_arr_foreach(yyjson_obj_get(root, "tenants"), index, max, t)
    {
        if (strcmp(cmd_json_str(t, "name", ""), name) == 0) return t;
    }
    return NULL;
}

static void print_one(yyjson_val *root, const char *name)
{
    char *text = yyjson_val_write(tenant_of(root, name), 0, NULL);
    if (text != NULL) printf("%s\n", text);
    free(text);
}

static int tenants_show(struct cmd *cmd, const char *only)
{
    struct cmd_client client;
    int code = cmd_client_open(cmd, &client);
    if (code != 0) return code;
    yyjson_doc *doc = cmd_get_json(&client, "/api/tenants", &code);
    yyjson_val *root = yyjson_doc_get_root(doc);
    if (doc != NULL && only != NULL && tenant_of(root, only) == NULL)
        code = cmd_fail("no tenant '%s'; `millrace tenant` lists them, `millrace tenant set %s` "
                        "makes it",
                        only, only);
    else if (doc != NULL && cmd->json && only != NULL)
        print_one(root, only);
    else if (doc != NULL && cmd->json)
        cmd_print_body(&client);
    else if (doc != NULL)
        print_tenants(root, only);
    yyjson_doc_free(doc);
    cmd_client_close(&client);
    return code;
}

/* --- setting ---------------------------------------------------------------------------------- */

/* "cpus=8,H100=none" as a JSON map. */
static int list_put(struct cmd *cmd, struct mr_buf *body, const char *option, const char *field)
{
    const char *list = cmd_value(cmd, option);
    if (list == NULL) return 0;
    mr_buf_put_str(body, MR_STR(",\""));
    mr_buf_put_str(body, mr_str_from(field));
    mr_buf_put_str(body, MR_STR("\":{"));
    for (const char *at = list; *at != 0;) {
        size_t n = strcspn(at, ","), name = strcspn(at, "=,");
        if (name == 0 || name >= n || name + 1 == n) {
            return cmd_usage(cmd, "--%s wants NAME=AMOUNT,…, not '%s'", option, list);
        }
        struct mr_str value = {at + name + 1, n - name - 1};
        if (at != list) mr_buf_put_char(body, ',');
        mr_json_put_string(body, (struct mr_str){at, name});
        mr_buf_put_char(body, ':');
        if (mr_str_equal(value, MR_STR("none")))
            mr_buf_put_str(body, MR_STR("null"));
        else if (mr_str_equal((struct mr_str){at, name}, MR_STR("running")))
            mr_buf_put_str(body, value);
        else
            mr_json_put_string(body, value);
        at += n + (at[n] == ',');
    }
    mr_buf_put_char(body, '}');
    return 0;
}

static int tenant_set(struct cmd *cmd, const char *name)
{
    struct cmd_client client;
    mr_cleanup(mr_buf_done) struct mr_buf body;
    const char *weight = cmd_value(cmd, "weight");
    uint64_t number;
    mr_buf_init(&body, 65536);
    mr_buf_put_str(&body, MR_STR("{\"name\":"));
    mr_json_put_string(&body, mr_str_from(name));
    if (weight != NULL && mr_str_to_u64(mr_str_from(weight), &number) != 0)
        return cmd_usage(cmd, "--weight is a number from 1 to 1000, not '%s'", weight);
    if (weight != NULL) mr_buf_printf(&body, ",\"weight\":%" PRIu64, number);
    cmd_put_option(cmd, &body, "parent", "parent");
    cmd_put_option(cmd, &body, "reclaim", "reclaim");
    cmd_put_option(cmd, &body, "preempt-own", "preempt_own");
    cmd_put_option(cmd, &body, "half-life", "half_life");
    int code = list_put(cmd, &body, "quota", "quota");
    if (code == 0) code = list_put(cmd, &body, "borrow", "borrow");
    if (code == 0) code = list_put(cmd, &body, "keep", "keep");
    mr_buf_put_char(&body, '}');
    if (code != 0) return code;
    if (cmd_flag(cmd, "plan")) return cmd_plan(cmd, "tenant", mr_buf_str(&body));
    code = cmd_client_open(cmd, &client);
    if (code != 0) return code;
    code = cmd_call(&client, "POST", "/api/tenants", mr_buf_str(&body), NULL);
    if (code == 0 && cmd->json) cmd_print_body(&client);
    cmd_client_close(&client);
    if (code == 0 && !cmd->json) return tenants_show(cmd, name);
    return code;
}

int cmd_verb_tenant(struct cmd *cmd)
{
    const char *word = cmd->positional_count > 0 ? cmd->positional[0] : NULL;
    if (word != NULL && strcmp(word, "set") == 0) {
        if (cmd->positional_count < 2) return cmd_usage(cmd, "which tenant?");
        return tenant_set(cmd, cmd->positional[1]);
    }
    if (cmd->positional_count > 1) return cmd_usage(cmd, "'%s' is not known here; say set", word);
    return tenants_show(cmd, word);
}
