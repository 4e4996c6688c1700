/* SPDX-License-Identifier: Apache-2.0 */
/* `when`: when a workload starts and ends, as the futures say that the daemon computes.
 *
 * Owns:  nothing between calls.
 * Fails: as the call does.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

#include "cmd.h"

/* Seconds of a band's edge as text; "later than is looked" when there is none. */
static const char *edge(yyjson_val *band, const char *name)
{
    yyjson_val *value = yyjson_obj_get(band, name);
    if (!yyjson_is_num(value)) return "more than is looked ahead";
    return cmd_duration((uint64_t)(yyjson_get_num(value) * 1e6));
}

static void print_band(const char *what, yyjson_val *root, const char *name)
{
    yyjson_val *band = yyjson_obj_get(root, name);
    if (yyjson_is_null(yyjson_obj_get(band, "low"))) {
        printf("%s: not within %" PRIu64 " days, as far as is known\n", what,
               cmd_json_u64(root, "horizon_s", 0) / 86400);
        return;
    }
    printf("%s in %s; in 90 of 100 futures between %s and %s\n", what, edge(band, "median_s"),
           edge(band, "low_s"), edge(band, "high_s"));
}

static void print_doubts(yyjson_val *root)
{
    uint64_t unknown = cmd_json_u64(root, "unknown", 0), cut = cmd_json_u64(root, "cut", 0);
    uint64_t samples = cmd_json_u64(root, "samples", 0);
    if (unknown > 0) {
        printf("%" PRIu64 " %s neither `estimate` nor `time_limit`, and too few have ended "
               "to know how long\nsuch jobs run: they are taken to run for ever. Give them one "
               "of the two.\n",
               unknown, unknown == 1 ? "job has" : "jobs have");
    }
    if (cut > 0) {
        printf("%" PRIu64 " of %" PRIu64 " futures were longer than what is computed; they count "
               "as later than all others.\n",
               cut, samples);
    }
}

static void print_when(yyjson_val *root)
{
    const char *reason = cmd_json_str(root, "reason", ""), *state = cmd_json_str(root, "state", "");
    yyjson_val *start = yyjson_obj_get(root, "start");
    printf("workload %" PRIu64 " is %s%s%s\n", cmd_json_u64(root, "id", 0), state,
           reason[0] != 0 ? ": " : "", reason);
    if (strcmp(state, "pending") == 0) {
        print_band("starts", root, "start");
    } else {
        printf("started at %s\n", cmd_json_str(start, "median", "?"));
    }
    print_band("ends", root, "end");
    print_doubts(root);
}

int cmd_verb_when(struct cmd *cmd)
{
    char path[64];
    uint64_t id;
    struct cmd_client client;
    if (cmd->positional_count != 1 || mr_str_to_u64(mr_str_from(cmd->positional[0]), &id) != 0) {
        return cmd_usage(cmd, "give the id of one workload; `millrace queue` lists them");
    }
    snprintf(path, sizeof path, "/api/workloads/%" PRIu64 "/when", id);
    int code = cmd_client_open(cmd, &client);
    if (code != 0) return code;
    yyjson_doc *doc = cmd_get_json(&client, path, &code);
    if (doc != NULL && cmd->json) {
        cmd_print_body(&client);
    } else if (doc != NULL) {
        print_when(yyjson_doc_get_root(doc));
    }
    yyjson_doc_free(doc);
    cmd_client_close(&client);
    return code;
}
