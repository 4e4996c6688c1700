/* SPDX-License-Identifier: Apache-2.0 */
/* `whatif`, and `--plan` of the verbs that change something: what would happen.
 *
 * Owns:  nothing between calls.
 * Fails: as the change itself would; nothing is changed in any case.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

#include "cmd.h"

#define SHOWN_MAX 20u

/* --- showing ---------------------------------------------------------------------------------- */

/* "in 3m" or "-"; into the caller's buffer, because cmd_duration's is shared. */
static const char *wait_of(char *text, size_t size, yyjson_val *band)
{
    yyjson_val *value = yyjson_obj_get(band, "median_s");
    if (!yyjson_is_num(value)) {
        (void)snprintf(text, size, "not in 30 days");
        return text;
    }
    double seconds = yyjson_get_num(value);
    (void)snprintf(text, size, seconds < 0.5 ? "now" : "in %s",
                   cmd_duration((uint64_t)(seconds * 1e6)));
    return text;
}

static void print_guest(yyjson_val *root)
{
    yyjson_val *guest = yyjson_obj_get(root, "workload");
    char text[64];
    if (!yyjson_is_obj(guest)) return;
    yyjson_val *start = yyjson_obj_get(guest, "start"), *end = yyjson_obj_get(guest, "end");
    bool sure = yyjson_is_num(yyjson_obj_get(start, "low_s"));
    printf("it starts %s", wait_of(text, sizeof text, start));
    if (sure) {
        printf(" (90 of 100 futures: between %s",
               cmd_duration((uint64_t)(yyjson_get_num(yyjson_obj_get(start, "low_s")) * 1e6)));
        bool high = yyjson_is_num(yyjson_obj_get(start, "high_s"));
        printf(" and %s from now)",
               high
                   ? cmd_duration((uint64_t)(yyjson_get_num(yyjson_obj_get(start, "high_s")) * 1e6))
                   : "more than 30 days");
    }
    printf(", ends %s", wait_of(text, sizeof text, end));
    printf(", and costs about %.6f USD until then\n",
           (double)cmd_json_u64(guest, "cost_nusd", 0) / 1e9);
}

static void shift_cells(struct cmd_table *table, yyjson_val *s, uint64_t samples)
{
    double later = yyjson_get_num(yyjson_obj_get(s, "later_s"));
    double mean = yyjson_get_num(yyjson_obj_get(s, "later_mean_s"));
    uint64_t before = cmd_json_u64(s, "stops_before", 0), after = cmd_json_u64(s, "stops_after", 0);
    char text[64], was[64];
    double by = later < 0.5 && later > -0.5 ? mean : later;
    cmd_table_cell(table, "%" PRIu64, cmd_json_u64(s, "id", 0));
    cmd_table_cell(table, "%s", cmd_json_str(s, "name", ""));
    cmd_table_cell(table, "%s", cmd_json_str(s, "tenant", ""));
    cmd_table_cell(table, "%s", cmd_json_str(s, "state", ""));
    bool ran = strcmp(cmd_json_str(s, "state", ""), "running") == 0;
    bool never = cmd_json_u64(s, "never_after", 0) > samples / 2;
    wait_of(was, sizeof was, yyjson_obj_get(s, "before"));
    cmd_table_cell(table, "%s", ran ? "runs" : was);
    cmd_table_cell(table, "%s", wait_of(text, sizeof text, yyjson_obj_get(s, "after")));
    if (never)
        cmd_table_cell(table, "for good, as it looks");
    else
        cmd_table_cell(table, "%s %s", cmd_duration((uint64_t)((by < 0 ? -by : by) * 1e6)),
                       by < 0 ? "sooner" : "later");
    cmd_table_cell(table, "%" PRIu64 " of %" PRIu64,
                   MR_MAX(cmd_json_u64(s, "later_in", 0), cmd_json_u64(s, "earlier_in", 0)),
                   samples);
    if (after > before)
        cmd_table_cell(table, "%.1f more", (double)(after - before) / (double)samples);
    else if (after < before)
        cmd_table_cell(table, "%.1f fewer", (double)(before - after) / (double)samples);
    else
        cmd_table_cell(table, "-");
}

static void print_shifts(yyjson_val *root)
{
    static const char *const heads[] = {"ID",   "NAME", "TENANT",  "STATE", "START WITHOUT",
                                        "WITH", "BY",   "FUTURES", "STOPS"};
    yyjson_val *list = yyjson_obj_get(root, "shifted"), *s;
    uint64_t samples = MR_MAX(cmd_json_u64(root, "samples", 1), 1u);
    uint64_t others = cmd_json_u64(root, "others_shifted", 0);
    struct cmd_table table;
    size_t index, max;
    if (yyjson_arr_size(list) == 0 && others == 0) {
        printf("nobody else starts later, sooner, or is stopped for it\n");
        return;
    }
    cmd_table_init(&table, heads, MR_COUNT_OF(heads));
    yyjson_arr_foreach(list, index, max, s)
    {
        if (index < SHOWN_MAX) shift_cells(&table, s, samples);
    }
    if (yyjson_arr_size(list) > 0) cmd_table_print(&table, stdout);
    if (yyjson_arr_size(list) > SHOWN_MAX) others += yyjson_arr_size(list) - SHOWN_MAX;
    if (others > 0) printf("and %" PRIu64 " more\n", others);
}

static void print_doubts(yyjson_val *root)
{
    uint64_t unknown = cmd_json_u64(root, "unknown", 0), cut = cmd_json_u64(root, "cut", 0);
    if (unknown > 0)
        cmd_say("%" PRIu64
                " jobs have neither `estimate` nor `time_limit`, and too little is known "
                "of how long such run: they are taken to run for ever",
                unknown);
    if (cut > 0)
        cmd_say("%" PRIu64 " futures were longer than what is computed and end before all is over",
                cut);
}

int cmd_plan(struct cmd *cmd, const char *kind, struct mr_str json)
{
    struct cmd_client client;
    mr_cleanup(mr_buf_done) struct mr_buf body;
    mr_buf_init(&body, MR_SPEC_BYTES_MAX + 1024);
    mr_buf_printf(&body, "{\"%s\":", kind);
    mr_buf_put_str(&body, json);
    mr_buf_put_char(&body, '}');
    int code = cmd_client_open(cmd, &client);
    if (code != 0) return code;
    code = cmd_call(&client, "POST", "/api/whatif", mr_buf_str(&body), NULL);
    if (code == 0 && cmd->json) {
        cmd_print_body(&client);
    } else if (code == 0) {
        yyjson_doc *doc = yyjson_read((const char *)client.body.p, client.body.n, 0);
        yyjson_val *root = yyjson_doc_get_root(doc);
        print_guest(root);
        print_shifts(root);
        print_doubts(root);
        cmd_say("nothing was changed");
        yyjson_doc_free(doc);
    }
    cmd_client_close(&client);
    return code;
}

/* --- the verb --------------------------------------------------------------------------------- */

static bool number_of(const struct cmd *cmd, uint32_t at, uint64_t *ret)
{
    return at < cmd->positional_count && mr_str_to_u64(mr_str_from(cmd->positional[at]), ret) == 0;
}

int cmd_verb_whatif(struct cmd *cmd)
{
    const char *what = cmd->positional_count > 0 ? cmd->positional[0] : "";
    char json[160];
    uint64_t id, min, max;
    if (strcmp(what, "cancel") == 0 && number_of(cmd, 1, &id)) {
        (void)snprintf(json, sizeof json, "%" PRIu64, id);
    } else if (strcmp(what, "scale") == 0 && number_of(cmd, 1, &id) && number_of(cmd, 2, &min) &&
               number_of(cmd, 3, &max)) {
        (void)snprintf(json, sizeof json,
                       "{\"id\":%" PRIu64 ",\"min\":%" PRIu64 ",\"max\":%" PRIu64 "}", id, min,
                       max);
    } else if ((strcmp(what, "node") == 0 || strcmp(what, "domain") == 0) &&
               number_of(cmd, 1, &id) && cmd->positional_count == 3) {
        (void)snprintf(json, sizeof json, "{\"id\":%" PRIu64 ",\"state\":\"%.16s\"}", id,
                       cmd->positional[2]);
    } else {
        return cmd_usage(cmd,
                         "say cancel ID, scale ID MIN MAX, node ID down|draining|up, or domain "
                         "ID down|draining|up; for a submission: millrace submit --plan");
    }
    return cmd_plan(cmd, what, mr_str_from(json));
}
