/* SPDX-License-Identifier: Apache-2.0 */
/* `serve` and `finetune`: the two workloads that most people start with, from a few options.
 *
 * Owns:  the document for the length of the call.
 * Fails: before submitting when a file is not what it should be; then as submit does.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <yyjson.h>

#include "cmd.h"

/* Absolute, since the daemon does not share our folder. The caller frees. */
static char *absolute(const char *path)
{
    char *real = realpath(path, NULL);
    return real != NULL ? real : strdup(path);
}

static void put_text(struct mr_buf *json, const char *field, const char *value)
{
    if (value == NULL) return;
    mr_buf_printf(json, ",\"%s\":", field);
    mr_json_put_string(json, mr_str_from(value));
}

static void put_raw(struct mr_buf *json, const struct cmd *cmd, const char *option,
                    const char *field)
{
    const char *value = cmd_value(cmd, option);
    char *end = NULL;
    if (value == NULL) return;
    (void)strtod(value, &end);
    mr_buf_printf(json, ",\"%s\":", field);
    if (end != value && *end == 0) {
        mr_buf_put_str(json, mr_str_from(value));
    } else {
        mr_json_put_string(json, mr_str_from(value)); /* the server says what it wants */
    }
}

static char *model_of(struct cmd *cmd)
{
    const char *named = cmd_value(cmd, "model");
    char *path = named != NULL ? absolute(named) : cmd_model_find(cmd->home);
    if (path == NULL) {
        (void)cmd_fail("no model: give one with --model FILE.gguf, or fetch the default one with "
                       "`make up`");
        return NULL;
    }
    if (cmd_model_check(path) == 0) return path;
    free(path);
    return NULL;
}

static int put_replicas(struct mr_buf *json, struct cmd *cmd)
{
    uint64_t min, max;
    if (!cmd_number(cmd, "min", 1, 1000000, &min)) return CMD_USAGE;
    if (!cmd_number(cmd, "max", min > 1 ? min : 1, 1000000, &max)) return CMD_USAGE;
    if (max < min) return cmd_usage(cmd, "--max must not be below --min");
    mr_buf_printf(json, ",\"replicas\":{\"min\":%llu,\"max\":%llu}", (unsigned long long)min,
                  (unsigned long long)max);
    return 0;
}

static void put_resources(struct mr_buf *json, struct cmd *cmd, const char *cpus,
                          const char *memory)
{
    const char *set = cmd_value(cmd, "cpus");
    const char *set_memory = cmd_value(cmd, "memory");
    mr_buf_put_str(json, MR_STR(",\"resources\":{\"cpus\":"));
    mr_json_put_string(json, mr_str_from(set != NULL ? set : cpus));
    put_text(json, "memory", set_memory != NULL ? set_memory : memory);
    put_text(json, "accelerators", cmd_value(cmd, "accelerators"));
    mr_buf_put_char(json, '}');
}

static int submit_and_tell(struct cmd *cmd, struct mr_buf *json, bool wait)
{
    struct cmd_client client;
    char state[32] = "pending";
    int code = cmd_client_open(cmd, &client);
    if (code != 0) return code;
    uint64_t id = cmd_submit_json(&client, mr_buf_str(json), &code);
    if (code == 0 && !wait) {
        if (cmd->json) cmd_print_body(&client);
        if (!cmd->json) {
            cmd_say("workload %llu; `millrace queue %llu` shows it, `millrace cancel %llu` ends it",
                    (unsigned long long)id, (unsigned long long)id, (unsigned long long)id);
        }
    } else if (code == 0) {
        if (!cmd->json) cmd_say("workload %llu", (unsigned long long)id);
        code = cmd_wait(&client, id, true, state);
        if (cmd->json) printf("{\"id\":%llu,\"state\":\"%s\"}\n", (unsigned long long)id, state);
        char path[96];
        snprintf(path, sizeof path, "/api/workloads/%llu/files/result.json",
                 (unsigned long long)id);
        if (code == 0 && !cmd->json && cmd_call_quiet(&client, path) == 0) cmd_print_body(&client);
    }
    cmd_client_close(&client);
    return code;
}

int cmd_verb_serve(struct cmd *cmd)
{
    mr_cleanup(mr_buf_done) struct mr_buf json;
    mr_buf_init(&json, MR_SPEC_BYTES_MAX);
    char *model = model_of(cmd);
    if (model == NULL) return CMD_FAILED;
    const char *name = cmd_value(cmd, "name");
    char *base = cmd_model_name(model);
    mr_buf_put_str(&json, MR_STR("{\"kind\":\"service\",\"name\":"));
    mr_json_put_string(&json, mr_str_from(name != NULL ? name : base));
    int code = put_replicas(&json, cmd);
    put_raw(&json, cmd, "load-per-replica", "load_per_replica");
    put_resources(&json, cmd, "1", "1GiB");
    mr_buf_put_str(&json, MR_STR(",\"infer\":{\"served_name\":"));
    mr_json_put_string(&json, mr_str_from(name != NULL ? name : base));
    put_text(&json, "model", model);
    put_raw(&json, cmd, "slots", "slots");
    put_raw(&json, cmd, "context", "context");
    put_raw(&json, cmd, "threads", "threads");
    const char *adapter = cmd_value(cmd, "adapter");
    if (code == 0 && adapter != NULL) {
        char *path = absolute(adapter);
        code = path != NULL ? cmd_model_check(path) : CMD_FAILED;
        mr_buf_put_str(&json, MR_STR(",\"adapters\":["));
        mr_json_put_string(&json, mr_str_from(path));
        mr_buf_put_char(&json, ']');
        free(path);
    }
    mr_buf_put_str(&json, MR_STR("}}"));
    free(base);
    free(model);
    return code != 0 ? code : submit_and_tell(cmd, &json, false);
}

static int put_ranks(struct mr_buf *json, struct cmd *cmd)
{
    uint64_t ranks, least;
    if (!cmd_number(cmd, "ranks", 1, 1000000, &ranks)) return CMD_USAGE;
    if (!cmd_number(cmd, "ranks-min", ranks, 1000000, &least)) return CMD_USAGE;
    if (ranks == 0 || least == 0 || least > ranks) {
        return cmd_usage(cmd, "--ranks-min must be 1 or more and not above --ranks");
    }
    mr_buf_printf(json, ",\"num_tasks\":{\"min\":%llu,\"max\":%llu}", (unsigned long long)least,
                  (unsigned long long)ranks);
    return 0;
}

int cmd_verb_finetune(struct cmd *cmd)
{
    mr_cleanup(mr_buf_done) struct mr_buf json;
    mr_buf_init(&json, MR_SPEC_BYTES_MAX);
    if (cmd->positional_count != 1) return cmd_usage(cmd, "give one file of chats (JSONL)");
    if (access(cmd->positional[0], R_OK) != 0) {
        return cmd_fail("cannot read %s; it must hold one {\"messages\":[…]} a line",
                        cmd->positional[0]);
    }
    char *model = model_of(cmd);
    if (model == NULL) return CMD_FAILED;
    char *data = absolute(cmd->positional[0]);
    const char *name = cmd_value(cmd, "name");
    mr_buf_put_str(&json, MR_STR("{\"kind\":\"job\",\"name\":"));
    mr_json_put_string(&json, mr_str_from(name != NULL ? name : "finetune"));
    int code = put_ranks(&json, cmd);
    put_text(&json, "priority", cmd_value(cmd, "priority"));
    put_text(&json, "checkpoint", "60s");
    put_resources(&json, cmd, "1", "2GiB");
    mr_buf_put_str(&json, MR_STR(",\"train\":{\"model\":"));
    mr_json_put_string(&json, mr_str_from(model));
    put_text(&json, "data", data);
    char *out = cmd_value(cmd, "out") != NULL ? absolute(cmd_value(cmd, "out")) : NULL;
    put_text(&json, "out", out);
    static const char *const numbers[][2] = {
        {"epochs", "epochs"},
        {"max-steps", "max_steps"},
        {"learning-rate", "learning_rate"},
        {"batch", "batch"},
        {"rank", "rank"},
        {"sequence-tokens", "sequence_tokens"},
        {"seed", "seed"},
        {"checkpoint-every", "checkpoint_every_steps"},
    };
    for (size_t i = 0; i < MR_COUNT_OF(numbers); i++) {
        put_raw(&json, cmd, numbers[i][0], numbers[i][1]);
    }
    mr_buf_put_str(&json, MR_STR("}}"));
    free(model);
    free(data);
    free(out);
    return code != 0 ? code : submit_and_tell(cmd, &json, cmd_flag(cmd, "wait"));
}
