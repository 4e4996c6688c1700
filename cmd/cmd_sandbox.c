/* SPDX-License-Identifier: Apache-2.0 */
/* `sandbox run`: a program in isolation, its files in and out, as one workload.
 *
 * Owns:  the document for the length of the call.
 * Fails: with the program's own exit code; otherwise as submit does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <yyjson.h>

#include "cmd.h"

#define FILE_BYTES_MAX ((size_t)512 * 1024)

static int put_file(struct mr_buf *json, const char *path)
{
    mr_cleanup(mr_buf_done) struct mr_buf bytes;
    mr_buf_init(&bytes, FILE_BYTES_MAX);
    int error = cmd_file_read(path, &bytes);
    if (error != 0) return cmd_fail("cannot read %s: %s", path, mr_error_text(error));
    mr_buf_put_str(json, MR_STR(",\"files\":{"));
    mr_json_put_string(json, mr_str_from(cmd_file_name(path)));
    mr_buf_put_str(json, MR_STR(":\""));
    mr_base64_put(json, bytes.p, bytes.n);
    mr_buf_put_str(json, MR_STR("\"}"));
    return 0;
}

static int put_program(struct mr_buf *json, struct cmd *cmd)
{
    if (cmd->rest_count > 0) {
        mr_buf_put_str(json, MR_STR("\"command\":["));
        for (uint32_t i = 0; i < cmd->rest_count; i++) {
            if (i > 0) mr_buf_put_char(json, ',');
            mr_json_put_string(json, mr_str_from(cmd->rest[i]));
        }
        mr_buf_put_char(json, ']');
        return 0;
    }
    if (isatty(STDIN_FILENO))
        return cmd_usage(cmd, "give a command behind '--', or a program on standard input");
    mr_cleanup(mr_buf_done) struct mr_buf code;
    mr_buf_init(&code, FILE_BYTES_MAX);
    int error = cmd_file_read("/dev/stdin", &code);
    if (error != 0) return cmd_fail("cannot read standard input: %s", mr_error_text(error));
    const char *language = cmd_value(cmd, "language");
    mr_buf_put_str(json, MR_STR("\"language\":"));
    mr_json_put_string(json, mr_str_from(language != NULL ? language : "python"));
    mr_buf_put_str(json, MR_STR(",\"code\":"));
    mr_json_put_string(json, mr_buf_str(&code));
    return 0;
}

static int put_document(struct mr_buf *json, struct cmd *cmd)
{
    uint64_t time_s, processes;
    const char *memory = cmd_value(cmd, "memory"), *file = cmd_value(cmd, "file");
    if (memory == NULL) memory = "512MiB";
    if (!cmd_number(cmd, "time", 60, 86400, &time_s)) return CMD_USAGE;
    if (!cmd_number(cmd, "processes", 64, 4096, &processes)) return CMD_USAGE;
    mr_buf_put_str(json, MR_STR("{\"kind\":\"job\",\"name\":\"sandbox\",\"resources\":{\"cpus\":1,"
                                "\"memory\":"));
    mr_json_put_string(json, mr_str_from(memory));
    mr_buf_put_str(json, MR_STR("},\"priority\":\"high\",\"sandbox\":{"));
    int code = put_program(json, cmd);
    if (code != 0) return code;
    mr_buf_printf(json,
                  ",\"time_s\":%llu,\"processes\":%llu,\"memory\":", (unsigned long long)time_s,
                  (unsigned long long)processes);
    mr_json_put_string(json, mr_str_from(memory));
    if (file != NULL) code = put_file(json, file);
    const char *output = cmd_value(cmd, "output");
    if (output != NULL) {
        mr_buf_put_str(json, MR_STR(",\"outputs\":["));
        mr_json_put_string(json, mr_str_from(output));
        mr_buf_put_char(json, ']');
    }
    mr_buf_put_str(json, MR_STR("}}"));
    if (code == 0 && json->failed) code = cmd_fail("the program and its files are too large");
    return code;
}

static int write_outputs(yyjson_val *files)
{
    yyjson_val *name, *value;
    size_t index, max;
    if (files == NULL) return CMD_DONE;
    yyjson_obj_foreach(files, index, max, name, value)
    {
        mr_cleanup(mr_buf_done) struct mr_buf bytes;
        mr_buf_init(&bytes, (size_t)64 * 1024 * 1024);
        const char *file = cmd_file_name(yyjson_get_str(name));
        struct mr_str text = mr_str_from(yyjson_get_str(value));
        if (mr_base64_get(&bytes, text) != 0) return cmd_fail("%s came back damaged", file);
        int error = cmd_file_write(file, mr_buf_str(&bytes), 0644);
        if (error != 0) return cmd_fail("cannot write %s: %s", file, mr_error_text(error));
        cmd_say("wrote %s (%zu bytes)", file, bytes.n);
    }
    return 0;
}

/* Prints what the program wrote and returns its exit code. */
static int show(struct cmd *cmd, struct cmd_client *client, uint64_t id, int code)
{
    char path[96];
    snprintf(path, sizeof path, "/api/workloads/%llu/files/result.json", (unsigned long long)id);
    if (cmd_call_quiet(client, path) != 0) {
        /* It was never run, or its end is unknown; cmd_wait has said what there is to say. */
        return code != 0 ? code : cmd_fail("sandbox %llu left no result", (unsigned long long)id);
    }
    if (cmd->json) cmd_print_body(client);
    yyjson_doc *doc = yyjson_read((const char *)client->body.p, client->body.n, 0);
    yyjson_val *root = yyjson_doc_get_root(doc), *exit_of = yyjson_obj_get(root, "exit");
    if (!cmd->json) {
        fputs(cmd_json_str(root, "stdout", ""), stdout);
        fflush(stdout);
        fputs(cmd_json_str(root, "stderr", ""), stderr);
    }
    const char *text = cmd_json_str(exit_of, "text", "");
    code = (int)yyjson_get_int(yyjson_obj_get(exit_of, "code"));
    bool plain = strcmp(cmd_json_str(exit_of, "kind", "code"), "code") == 0;
    if (!plain) {
        cmd_say("millrace: %s", text);
        if (code == 0) code = CMD_FAILED;
    }
    int written = write_outputs(yyjson_obj_get(root, "files"));
    yyjson_doc_free(doc);
    return code != 0 ? code : written;
}

int cmd_verb_sandbox(struct cmd *cmd)
{
    struct cmd_client client;
    char state[32];
    mr_cleanup(mr_buf_done) struct mr_buf json;
    mr_buf_init(&json, MR_SPEC_BYTES_MAX);
    if (cmd->positional_count != 1 || strcmp(cmd->positional[0], "run") != 0) {
        return cmd_usage(cmd, "`run` is what there is");
    }
    int code = put_document(&json, cmd);
    if (code == 0) code = cmd_client_open(cmd, &client);
    if (code != 0) return code;
    uint64_t id = cmd_submit_json(&client, mr_buf_str(&json), &code);
    if (id != 0) {
        code = cmd_wait_quiet(&client, id, state);
        if (code == 0 || code == CMD_FAILED) code = show(cmd, &client, id, code);
    }
    cmd_client_close(&client);
    return code;
}
