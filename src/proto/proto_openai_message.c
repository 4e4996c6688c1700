/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of a chat request: roles, texts, parts, and the calls of finished turns.
 *
 * Owns:  nothing; everything lies in the caller's arena.
 * Never: recursion: we look three levels deep.
 * Cost:  O(messages and their parts).
 * Tests: tests/unit/proto/test_proto_openai.c
 */
#include "proto/proto_openai_int.h"

#include <stdio.h>

#define MESSAGE_KEYS(X)                                                                            \
    X(ROLE, "role")                                                                                \
    X(CONTENT, "content")                                                                          \
    X(REFUSAL, "refusal")                                                                          \
    X(TOOL_CALLS, "tool_calls")                                                                    \
    X(FUNCTION_CALL, "function_call")

enum message_key {
#define X(name, text) MESSAGE_##name,
    MESSAGE_KEYS(X)
#undef X
        MESSAGE_KEY_COUNT
};
static const struct mr_str message_keys[] = {
#define X(name, text) {text, sizeof(text) - 1},
    MESSAGE_KEYS(X)
#undef X
};

static int role_take(struct chat_parse *parse, yyjson_val *value, size_t index,
                     enum mr_role *ret_role)
{
    static const struct {
        struct mr_str name;
        enum mr_role role;
    } roles[] = {
        {{"user", 4}, MR_ROLE_USER},     {{"assistant", 9}, MR_ROLE_ASSISTANT},
        {{"system", 6}, MR_ROLE_SYSTEM}, {{"developer", 9}, MR_ROLE_SYSTEM},
        {{"tool", 4}, MR_ROLE_TOOL},     {{"function", 8}, MR_ROLE_TOOL},
    };
    if (yyjson_is_str(value)) {
        struct mr_str name = chat_str(value);
        for (size_t i = 0; i < MR_COUNT_OF(roles); i++) {
            if (!mr_str_equal(name, roles[i].name)) continue;
            *ret_role = roles[i].role;
            return 0;
        }
    }
    struct chat_param param = proto_chat_param(index, ".role");
    if (!is_given(value)) return proto_chat_missing_complain(parse, param.text);
    if (!yyjson_is_str(value))
        return proto_chat_type_complain(parse, param.text, "a string", value);
    struct mr_str name = proto_chat_quoted(value);
    return proto_chat_complain(
        parse, MR_EINVALID, param.text, "invalid_value",
        "Invalid value: '%.*s'. Supported values are: 'developer', 'system', 'user', "
        "'assistant', 'tool' and 'function'.",
        MR_STR_ARG(name));
}

static struct chat_param param_of_part(size_t index, size_t part_index, const char *member)
{
    struct chat_param param;
    (void)snprintf(param.text, sizeof(param.text), "messages[%zu].content[%zu]%s", index,
                   part_index, member); /* fits */
    return param;
}

/* One element of a content array to its text. */
static int part_take(struct chat_parse *parse, yyjson_val *part, size_t index, size_t part_index,
                     struct mr_str *ret_text)
{
    struct chat_param param;
    if (!yyjson_is_obj(part)) {
        param = param_of_part(index, part_index, "");
        return proto_chat_type_complain(parse, param.text, "an object", part);
    }
    yyjson_val *type = yyjson_obj_get(part, "type");
    bool is_refusal = yyjson_equals_str(type, "refusal");
    if (!is_refusal && !yyjson_equals_str(type, "text")) {
        param = param_of_part(index, part_index, ".type");
        if (!is_given(type)) return proto_chat_missing_complain(parse, param.text);
        if (!yyjson_is_str(type))
            return proto_chat_type_complain(parse, param.text, "a string", type);
        struct mr_str name = proto_chat_quoted(type);
        return proto_chat_complain(parse, MR_EINVALID, param.text, "unsupported_value",
                                   "Content of type '%.*s' is not supported here; only 'text' is.",
                                   MR_STR_ARG(name));
    }
    yyjson_val *text = yyjson_obj_get(part, is_refusal ? "refusal" : "text");
    if (!yyjson_is_str(text)) {
        param = param_of_part(index, part_index, is_refusal ? ".refusal" : ".text");
        if (!is_given(text)) return proto_chat_missing_complain(parse, param.text);
        return proto_chat_type_complain(parse, param.text, "a string", text);
    }
    *ret_text = chat_str(text);
    return 0;
}

/* The texts of a content array, joined by line ends. */
static int parts_take(struct chat_parse *parse, yyjson_val *parts, size_t index, struct mr_str *ret)
{
    size_t total_n = 0;
    size_t i, count;
    yyjson_val *part;
    struct mr_str text = {"", 0};
    yyjson_arr_foreach(parts, i, count, part)
    {
        int error = part_take(parse, part, index, i, &text);
        if (error != 0) return error;
        total_n += text.n + 1;
    }
    if (yyjson_arr_size(parts) <= 1) {
        *ret = text;
        return 0;
    }
    char *joined = proto_chat_alloc(parse, total_n);
    if (joined == NULL) return proto_chat_memory_complain(parse);
    size_t n = 0;
    yyjson_arr_foreach(parts, i, count, part)
    {
        int error = part_take(parse, part, index, i, &text);
        if (error != 0) return error;
        if (i > 0) joined[n++] = '\n';
        memcpy(joined + n, text.p, text.n);
        n += text.n;
    }
    *ret = (struct mr_str){joined, n};
    return 0;
}

/* The finished calls of an assistant's turn as the JSON they came as: the turns after it refer to
 * them, so the model must see them. */
static int calls_take(struct chat_parse *parse, yyjson_val *calls, struct mr_str *content)
{
    yyjson_alc allocator = proto_chat_json_allocator(parse);
    size_t json_n;
    char *json = yyjson_val_write_opts(calls, YYJSON_WRITE_NOFLAG, &allocator, &json_n, NULL);
    if (json == NULL) return proto_chat_memory_complain(parse);
    if (content->n == 0) {
        *content = (struct mr_str){json, json_n};
        return 0;
    }
    char *joined = proto_chat_alloc(parse, content->n + 1 + json_n);
    if (joined == NULL) return proto_chat_memory_complain(parse);
    memcpy(joined, content->p, content->n);
    joined[content->n] = '\n';
    memcpy(joined + content->n + 1, json, json_n);
    *content = (struct mr_str){joined, content->n + 1 + json_n};
    return 0;
}

static int message_take(struct chat_parse *parse, yyjson_val *value, size_t index,
                        struct mr_message *message)
{
    yyjson_val *values[MESSAGE_KEY_COUNT] = {NULL};
    if (!yyjson_is_obj(value)) {
        struct chat_param param = proto_chat_param(index, "");
        return proto_chat_type_complain(parse, param.text, "an object", value);
    }
    int error = proto_chat_keys_take(parse, value, message_keys, MESSAGE_KEY_COUNT, values, index);
    if (error == 0) error = role_take(parse, values[MESSAGE_ROLE], index, &message->role);
    if (error != 0) return error;

    yyjson_val *content = values[MESSAGE_CONTENT];
    message->content = MR_STR("");
    if (yyjson_is_str(content)) {
        message->content = chat_str(content);
    } else if (yyjson_is_arr(content)) {
        error = parts_take(parse, content, index, &message->content);
    } else if (is_given(content)) {
        struct chat_param param = proto_chat_param(index, ".content");
        return proto_chat_type_complain(parse, param.text, "a string or an array of parts",
                                        content);
    } else if (message->role != MR_ROLE_ASSISTANT) {
        struct chat_param param = proto_chat_param(index, ".content");
        return proto_chat_complain(
            parse, MR_EINVALID, param.text, "missing_required_parameter",
            "Missing required parameter: '%s'; only an assistant's may be null.", param.text);
    } else if (yyjson_is_str(values[MESSAGE_REFUSAL])) {
        message->content = chat_str(values[MESSAGE_REFUSAL]);
    }
    if (error != 0 || message->role != MR_ROLE_ASSISTANT) return error;

    if (yyjson_arr_size(values[MESSAGE_TOOL_CALLS]) > 0) {
        error = calls_take(parse, values[MESSAGE_TOOL_CALLS], &message->content);
    } else if (yyjson_is_obj(values[MESSAGE_FUNCTION_CALL])) {
        error = calls_take(parse, values[MESSAGE_FUNCTION_CALL], &message->content);
    }
    return error;
}

int proto_chat_messages_take(struct chat_parse *parse, struct mr_chat *chat)
{
    yyjson_val *value = parse->values[CHAT_MESSAGES];
    if (!is_given(value)) return proto_chat_missing_complain(parse, "messages");
    if (!yyjson_is_arr(value))
        return proto_chat_type_complain(parse, "messages", "an array", value);
    size_t count = yyjson_arr_size(value);
    if (count == 0) {
        return proto_chat_complain(parse, MR_EINVALID, "messages", "empty_array",
                                   "Invalid 'messages': at least one message is needed.");
    }
    if (count > MR_CHAT_MESSAGES_MAX) {
        return proto_chat_complain(parse, MR_EINVALID, "messages", "array_above_max_length",
                                   "Invalid 'messages': at most %u messages, but got %zu.",
                                   MR_CHAT_MESSAGES_MAX, count);
    }
    struct mr_message *messages = proto_chat_alloc(parse, count * sizeof(*messages));
    if (messages == NULL) return proto_chat_memory_complain(parse);
    size_t i;
    yyjson_val *message;
    yyjson_arr_foreach(value, i, count, message)
    {
        int error = message_take(parse, message, i, &messages[i]);
        if (error != 0) return error;
    }
    chat->messages = messages;
    chat->message_count = count;
    return 0;
}
