/* SPDX-License-Identifier: Apache-2.0 */
/* `submit`: a YAML file, an #SBATCH script, a JSON document or a command becomes a workload.
 *
 * Owns:  the document for the length of the call.
 * Fails: with the file, the line and what is wrong; the server checks the rest and names the field.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <yyjson.h>

#include "cmd.h"

uint64_t cmd_submit_json(struct cmd_client *client, struct mr_str json, int *ret_code)
{
    /* The key makes a repeated request (a retry after a lost answer) the same submission. */
    uint8_t noise[16] = {0};
    char header[80] = "Idempotency-Key: ";
    if (getentropy(noise, sizeof noise) == 0) {
        size_t at = strlen(header);
        for (size_t i = 0; i < sizeof noise; i++) {
            snprintf(header + at + 2 * i, 3, "%02x", noise[i]);
        }
    }
    *ret_code = cmd_call(client, "POST", "/api/workloads", json, header);
    if (*ret_code != 0) return 0;
    yyjson_doc *doc = yyjson_read((const char *)client->body.p, client->body.n, 0);
    uint64_t id = cmd_json_u64(yyjson_doc_get_root(doc), "id", 0);
    yyjson_doc_free(doc);
    if (id == 0) *ret_code = cmd_fail("the server gave no id");
    return id;
}

/* "4" or "1..4" as a number or {"min","max"}. */
static bool put_range(struct mr_buf *json, const struct cmd *cmd)
{
    const char *text = cmd_value(cmd, "tasks");
    if (text == NULL) return true;
    const char *dots = strstr(text, "..");
    uint64_t min, max;
    if (dots == NULL) {
        if (mr_str_to_u64(mr_str_from(text), &min) != 0) return false;
        mr_buf_printf(json, ",\"num_tasks\":%llu", (unsigned long long)min);
        return true;
    }
    if (mr_str_to_u64((struct mr_str){text, (size_t)(dots - text)}, &min) != 0 ||
        mr_str_to_u64(mr_str_from(dots + 2), &max) != 0) {
        return false;
    }
    mr_buf_printf(json, ",\"num_tasks\":{\"min\":%llu,\"max\":%llu}", (unsigned long long)min,
                  (unsigned long long)max);
    return true;
}

/* "1:3.2,4:11" as a list of sizes with their speeds. */
static bool put_scaling(struct mr_buf *json, const struct cmd *cmd)
{
    struct mr_str left = mr_str_from(cmd_value(cmd, "scaling")), point;
    if (left.n == 0) return true;
    mr_buf_put_str(json, MR_STR(",\"scaling\":["));
    for (bool first = true; mr_str_split(&left, ',', &point); first = false) {
        struct mr_str rate = point, tasks;
        uint64_t number;
        if (!mr_str_split(&rate, ':', &tasks) || rate.n == 0) return false;
        if (mr_str_to_u64(tasks, &number) != 0) return false;
        mr_buf_printf(json, "%s{\"tasks\":%llu,\"rate\":", first ? "" : ",",
                      (unsigned long long)number);
        mr_json_put_string(json, rate);
        mr_buf_put_char(json, '}');
    }
    mr_buf_put_char(json, ']');
    return true;
}

static int from_command(struct cmd *cmd, struct mr_buf *json)
{
    char folder[4096];
    const char *name = cmd_value(cmd, "name");
    mr_buf_put_str(json, MR_STR("{\"name\":"));
    const char *program = cmd_file_name(cmd->rest[0]);
    mr_json_put_string(json, mr_str_from(name != NULL ? name : program));
    cmd_put_option(cmd, json, "priority", "priority");
    cmd_put_option(cmd, json, "time-limit", "time_limit");
    uint64_t reservation, work;
    if (!cmd_number(cmd, "reservation", 0, UINT64_MAX, &reservation)) return CMD_USAGE;
    if (reservation != 0)
        mr_buf_printf(json, ",\"reservation\":%llu", (unsigned long long)reservation);
    if (!cmd_number(cmd, "work", 0, UINT64_MAX, &work)) return CMD_USAGE;
    cmd_put_option(cmd, json, "deadline", "deadline");
    if (work != 0) mr_buf_printf(json, ",\"work\":%llu", (unsigned long long)work);
    if (!put_scaling(json, cmd))
        return cmd_usage(cmd, "--scaling wants TASKS:RATE,…, like 1:3,2:5");
    cmd_put_option(cmd, json, "apart", "apart");
    cmd_put_option(cmd, json, "apart-by", "apart_by");
    if (cmd_flag(cmd, "exclusive")) mr_buf_put_str(json, MR_STR(",\"exclusive\":\"node\""));
    if (!put_range(json, cmd)) return cmd_usage(cmd, "--tasks wants a number or MIN..MAX");
    const char *cpus = cmd_value(cmd, "cpus");
    mr_buf_put_str(json, MR_STR(",\"resources\":{\"cpus\":"));
    mr_json_put_string(json, mr_str_from(cpus != NULL ? cpus : "1"));
    cmd_put_option(cmd, json, "memory", "memory");
    cmd_put_option(cmd, json, "accelerators", "accelerators");
    mr_buf_put_str(json, MR_STR("},\"work_dir\":"));
    mr_json_put_string(json, mr_str_from(getcwd(folder, sizeof folder) != NULL ? folder : "/"));
    mr_buf_put_str(json, MR_STR(",\"command\":["));
    for (uint32_t i = 0; i < cmd->rest_count; i++) {
        if (i > 0) mr_buf_put_char(json, ',');
        mr_json_put_string(json, mr_str_from(cmd->rest[i]));
    }
    mr_buf_put_str(json, MR_STR("]}"));
    return 0;
}

static int from_file(const char *path, struct mr_buf *json)
{
    mr_cleanup(mr_buf_done) struct mr_buf text;
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    mr_buf_init(&text, MR_SPEC_BYTES_MAX);
    mr_buf_init(&problem, 65536);
    int error = cmd_file_read(strcmp(path, "-") == 0 ? "/dev/stdin" : path, &text);
    if (error == MR_ENOT_FOUND) return cmd_fail("no file %s", path);
    if (error != 0) return cmd_fail("cannot read %s: %s", path, mr_error_text(error));
    struct mr_str bytes = mr_buf_str(&text);
    if (mr_str_starts(mr_str_trim(bytes), MR_STR("{"))) {
        mr_buf_put_str(json, bytes);
        return 0;
    }
    if (mr_str_starts(bytes, MR_STR("#!"))) {
        error = cmd_sbatch_to_json(bytes, cmd_file_name(path), json, &problem);
    } else {
        error = cmd_yaml_to_json(bytes, json, &problem);
    }
    if (error == 0) return 0;
    struct mr_str why = mr_buf_str(&problem);
    if (why.n == 0) why = mr_str_from(mr_error_text(error));
    return cmd_fail("%s: %.*s", path, MR_STR_ARG(why));
}

int cmd_verb_submit(struct cmd *cmd)
{
    struct cmd_client client;
    mr_cleanup(mr_buf_done) struct mr_buf json;
    mr_buf_init(&json, MR_SPEC_BYTES_MAX);
    if ((cmd->positional_count == 0) == (cmd->rest_count == 0)) {
        return cmd_usage(cmd, "give either a file or a command behind '--'");
    }
    int code =
        cmd->rest_count > 0 ? from_command(cmd, &json) : from_file(cmd->positional[0], &json);
    if (code == 0 && cmd_flag(cmd, "plan")) return cmd_plan(cmd, "submit", mr_buf_str(&json));
    if (code == 0) code = cmd_client_open(cmd, &client);
    if (code != 0) return code;
    uint64_t id = cmd_submit_json(&client, mr_buf_str(&json), &code);
    if (code == 0 && cmd->json && !cmd_flag(cmd, "wait")) {
        cmd_print_body(&client);
    } else if (code == 0) {
        if (!cmd->json) {
            yyjson_doc *doc = yyjson_read((const char *)client.body.p, client.body.n, 0);
            yyjson_val *root = yyjson_doc_get_root(doc);
            const char *reason = cmd_json_str(root, "reason", "");
            cmd_say("workload %llu: %s%s%s", (unsigned long long)id,
                    cmd_json_str(root, "state", "pending"), reason[0] != 0 ? "; " : "", reason);
            yyjson_doc_free(doc);
        }
        if (cmd_flag(cmd, "wait")) {
            char state[32];
            code = cmd_wait(&client, id, true, state);
            if (cmd->json)
                printf("{\"id\":%llu,\"state\":\"%s\"}\n", (unsigned long long)id, state);
        }
    }
    cmd_client_close(&client);
    return code;
}
