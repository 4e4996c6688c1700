/* SPDX-License-Identifier: Apache-2.0 */
/* `chat`: a conversation with a served model, streamed as it comes.
 *
 * With words on the command line it asks once; on a terminal without words it holds a conversation;
 * otherwise it asks what standard input says.
 *
 * Owns:  the conversation so far.
 * Fails: with the server's words; what was already printed stays.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <yyjson.h>

#include "cmd.h"
#include "proto/proto.h"

#define CONVERSATION_BYTES_MAX ((size_t)4 * 1024 * 1024)

struct chat {
    struct cmd *cmd;
    struct cmd_client client;
    struct mr_buf messages; /* JSON objects with commas between them */
    struct mr_buf answer;
    struct mr_sse_parser *parser;
    char model[MR_CHAT_MODEL_BYTES_MAX + 1];
    bool failed;
    uint64_t prompt_tokens, completion_tokens;
};

static void message_add(struct chat *chat, const char *role, struct mr_str content)
{
    if (chat->messages.n > 0) mr_buf_put_char(&chat->messages, ',');
    mr_buf_printf(&chat->messages, "{\"role\":\"%s\",\"content\":", role);
    mr_json_put_string(&chat->messages, content);
    mr_buf_put_char(&chat->messages, '}');
}

static void take_chunk(struct chat *chat, struct mr_str data)
{
    yyjson_doc *doc = yyjson_read(data.p, data.n, 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *choice = yyjson_arr_get_first(yyjson_obj_get(root, "choices"));
    yyjson_val *content = yyjson_obj_get(yyjson_obj_get(choice, "delta"), "content");
    yyjson_val *usage = yyjson_obj_get(root, "usage");
    yyjson_val *error = yyjson_obj_get(root, "error");
    if (error != NULL) {
        cmd_say("\nmillrace: %s", cmd_json_str(error, "message", "the stream broke"));
        chat->failed = true;
    }
    if (yyjson_is_str(content)) {
        struct mr_str text = {yyjson_get_str(content), yyjson_get_len(content)};
        mr_buf_put_str(&chat->answer, text);
        if (!chat->cmd->json) {
            (void)fwrite(text.p, 1, text.n, stdout);
            (void)fflush(stdout);
        }
    }
    if (yyjson_is_obj(usage)) {
        chat->prompt_tokens = cmd_json_u64(usage, "prompt_tokens", 0);
        chat->completion_tokens = cmd_json_u64(usage, "completion_tokens", 0);
    }
    yyjson_doc_free(doc);
}

static bool on_bytes(void *arg, struct mr_str bytes)
{
    struct chat *chat = arg;
    struct mr_str event, data;
    if (mr_sse_parser_feed(chat->parser, bytes.p, bytes.n) != 0) return false;
    while (mr_sse_parser_next(chat->parser, &event, &data) == 1) {
        if (!mr_str_equal(data, MR_STR("[DONE]"))) take_chunk(chat, data);
    }
    return true;
}

/* The first model that the server lists, when none was named. */
static int model_pick(struct chat *chat)
{
    const char *named = cmd_value(chat->cmd, "model");
    if (named != NULL) {
        snprintf(chat->model, sizeof chat->model, "%s", named);
        return 0;
    }
    int code;
    yyjson_doc *doc = cmd_get_json(&chat->client, "/v1/models", &code);
    if (doc == NULL) return code;
    yyjson_val *first = yyjson_arr_get_first(yyjson_obj_get(yyjson_doc_get_root(doc), "data"));
    snprintf(chat->model, sizeof chat->model, "%s", cmd_json_str(first, "id", ""));
    yyjson_doc_free(doc);
    if (chat->model[0] != 0) return 0;
    return cmd_fail("no model is served; start one with `millrace serve --model FILE`");
}

static void put_number(struct mr_buf *body, struct cmd *cmd, const char *option, const char *field)
{
    const char *value = cmd_value(cmd, option);
    if (value != NULL) mr_buf_printf(body, ",\"%s\":%s", field, value);
}

static bool numbers_are_fine(struct cmd *cmd)
{
    static const char *const names[] = {"temperature", "top-p", "max-tokens", "seed"};
    for (size_t i = 0; i < MR_COUNT_OF(names); i++) {
        const char *value = cmd_value(cmd, names[i]);
        char *end = NULL;
        if (value == NULL) continue;
        (void)strtod(value, &end);
        if (end == value || *end != 0) {
            (void)cmd_usage(cmd, "--%s wants a number, not '%s'", names[i], value);
            return false;
        }
    }
    return true;
}

static int ask(struct chat *chat, struct mr_str words)
{
    mr_cleanup(mr_buf_done) struct mr_buf body;
    mr_buf_init(&body, CONVERSATION_BYTES_MAX);
    message_add(chat, "user", words);
    mr_buf_put_str(&body, MR_STR("{\"model\":"));
    mr_json_put_string(&body, mr_str_from(chat->model));
    mr_buf_put_str(&body, MR_STR(",\"messages\":["));
    mr_buf_put_str(&body, mr_buf_str(&chat->messages));
    mr_buf_put_str(&body, MR_STR("],\"stream\":true,\"stream_options\":{\"include_usage\":true}"));
    put_number(&body, chat->cmd, "temperature", "temperature");
    put_number(&body, chat->cmd, "top-p", "top_p");
    put_number(&body, chat->cmd, "max-tokens", "max_completion_tokens");
    put_number(&body, chat->cmd, "seed", "seed");
    mr_buf_put_char(&body, '}');
    if (body.failed) return cmd_fail("the conversation is too long");
    mr_buf_reset(&chat->answer);
    int code = cmd_call_stream(&chat->client, "POST", "/v1/chat/completions", mr_buf_str(&body),
                               on_bytes, chat);
    if (!chat->cmd->json && chat->answer.n > 0) putchar('\n');
    message_add(chat, "assistant", mr_buf_str(&chat->answer));
    return code != 0 ? code : (chat->failed ? CMD_FAILED : CMD_DONE);
}

static void print_json(struct chat *chat)
{
    mr_cleanup(mr_buf_done) struct mr_buf out;
    mr_buf_init(&out, CONVERSATION_BYTES_MAX);
    mr_buf_put_str(&out, MR_STR("{\"model\":"));
    mr_json_put_string(&out, mr_str_from(chat->model));
    mr_buf_put_str(&out, MR_STR(",\"content\":"));
    mr_json_put_string(&out, mr_buf_str(&chat->answer));
    mr_buf_printf(&out, ",\"usage\":{\"prompt_tokens\":%llu,\"completion_tokens\":%llu}}\n",
                  (unsigned long long)chat->prompt_tokens,
                  (unsigned long long)chat->completion_tokens);
    (void)fwrite(out.p, 1, out.n, stdout);
}

static int converse(struct chat *chat)
{
    char *line = NULL;
    size_t capacity = 0;
    int code = CMD_DONE;
    cmd_say("%s; an empty line or Ctrl-D ends", chat->model);
    for (;;) {
        fputs("> ", stderr);
        ssize_t n = getline(&line, &capacity, stdin);
        if (n <= 1) break;
        code = ask(chat, mr_str_trim((struct mr_str){line, (size_t)n}));
        if (code == CMD_UNREACHABLE || code == CMD_REFUSED) break;
    }
    free(line);
    return code;
}

static int talk(struct chat *chat)
{
    mr_cleanup(mr_buf_done) struct mr_buf words;
    mr_buf_init(&words, CONVERSATION_BYTES_MAX);
    const char *system = cmd_value(chat->cmd, "system");
    if (system != NULL) message_add(chat, "system", mr_str_from(system));
    if (chat->cmd->positional_count == 0 && isatty(STDIN_FILENO)) return converse(chat);
    for (uint32_t i = 0; i < chat->cmd->positional_count; i++) {
        if (i > 0) mr_buf_put_char(&words, ' ');
        mr_buf_put_str(&words, mr_str_from(chat->cmd->positional[i]));
    }
    if (words.n == 0 && cmd_file_read("/dev/stdin", &words) != 0) {
        return cmd_fail("cannot read standard input");
    }
    int code = ask(chat, mr_str_trim(mr_buf_str(&words)));
    if (code == 0 && chat->cmd->json) print_json(chat);
    return code;
}

int cmd_verb_chat(struct cmd *cmd)
{
    struct chat chat = {.cmd = cmd};
    if (!numbers_are_fine(cmd)) return CMD_USAGE;
    int code = cmd_client_open(cmd, &chat.client);
    if (code != 0) return code;
    mr_buf_init(&chat.messages, CONVERSATION_BYTES_MAX);
    mr_buf_init(&chat.answer, CONVERSATION_BYTES_MAX);
    code = mr_sse_parser_new(&chat.parser) == 0 ? model_pick(&chat) : cmd_fail("out of memory");
    if (code == 0) code = talk(&chat);
    mr_sse_parser_free(chat.parser);
    mr_buf_done(&chat.messages);
    mr_buf_done(&chat.answer);
    cmd_client_close(&chat.client);
    return code;
}
