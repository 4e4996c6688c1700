/* SPDX-License-Identifier: Apache-2.0 */
/* The body of POST /v1/chat/completions to a struct mr_chat, or to a problem that says which
 * parameter is wrong and why.
 *
 * One pass over the top level files each known key away, then each is checked in a fixed order, so
 * that the same body always meets the same complaint. JSON is read by yyjson with the arena as its
 * allocator: the one copy of the body lies there, and all strings point into it.
 *
 * Owns:       nothing; everything lies in the caller's arena.
 * Invariants: (1) a parameter that changes the answer is honoured or refused, never dropped;
 *             (2) all strings of the result are valid UTF-8 (a NUL may be among them);
 *             (3) the result's ranges are those of the header's comments.
 * Never:      recursion: yyjson's reader and writer are loops, and we look three levels deep.
 * Cost:       O(body).
 * Tests:      tests/unit/proto/test_proto_openai.c, tests/fuzz/proto/fuzz_openai_chat.c
 */
#include "proto/proto.h"

#include <float.h>
#include <stdio.h>

#include <yyjson.h>

/* Every key that means something to us; any other is ignored, because clients invent them. */
#define CHAT_KEYS(X)                                                                               \
    X(MODEL, "model")                                                                              \
    X(MESSAGES, "messages")                                                                        \
    X(TEMPERATURE, "temperature")                                                                  \
    X(TOP_P, "top_p")                                                                              \
    X(PRESENCE_PENALTY, "presence_penalty")                                                        \
    X(FREQUENCY_PENALTY, "frequency_penalty")                                                      \
    X(SEED, "seed")                                                                                \
    X(MAX_TOKENS, "max_tokens")                                                                    \
    X(MAX_COMPLETION_TOKENS, "max_completion_tokens")                                              \
    X(STOP, "stop")                                                                                \
    X(STREAM, "stream")                                                                            \
    X(STREAM_OPTIONS, "stream_options")                                                            \
    X(N, "n")                                                                                      \
    X(TOOLS, "tools")                                                                              \
    X(TOOL_CHOICE, "tool_choice")                                                                  \
    X(FUNCTIONS, "functions")                                                                      \
    X(FUNCTION_CALL, "function_call")                                                              \
    X(LOGPROBS, "logprobs")                                                                        \
    X(TOP_LOGPROBS, "top_logprobs")                                                                \
    X(LOGIT_BIAS, "logit_bias")                                                                    \
    X(RESPONSE_FORMAT, "response_format")                                                          \
    X(MODALITIES, "modalities")                                                                    \
    X(AUDIO, "audio")                                                                              \
    X(WEB_SEARCH_OPTIONS, "web_search_options")

#define MESSAGE_KEYS(X)                                                                            \
    X(ROLE, "role")                                                                                \
    X(CONTENT, "content")                                                                          \
    X(REFUSAL, "refusal")                                                                          \
    X(TOOL_CALLS, "tool_calls")                                                                    \
    X(FUNCTION_CALL, "function_call")

enum chat_key {
#define X(name, text) CHAT_##name,
    CHAT_KEYS(X)
#undef X
        CHAT_KEY_COUNT
};
enum message_key {
#define X(name, text) MESSAGE_##name,
    MESSAGE_KEYS(X)
#undef X
        MESSAGE_KEY_COUNT
};
static const struct mr_str chat_keys[] = {
#define X(name, text) {text, sizeof(text) - 1},
    CHAT_KEYS(X)
#undef X
};
static const struct mr_str message_keys[] = {
#define X(name, text) {text, sizeof(text) - 1},
    MESSAGE_KEYS(X)
#undef X
};

/* The largest count of tokens that may be asked for. */
#define TOKENS_MAX INT32_MAX
/* Doubles hold every integer up to here. */
#define EXACT_DOUBLE_MAX 9007199254740992.0
#define NO_MESSAGE       SIZE_MAX
/* What of a value of the caller is repeated in a complaint. */
#define QUOTED_BYTES_MAX 64u

struct parse {
    struct mr_arena *arena;
    struct mr_problem *problem;
    bool arena_full; /* an allocation failed because of the arena's limit */
    yyjson_val *values[CHAT_KEY_COUNT];
};

static int model_take(struct parse *parse, struct mr_chat *chat);
static int messages_take(struct parse *parse, struct mr_chat *chat);
static int sampling_take(struct parse *parse, struct mr_sampling *sampling);
static int stops_take(struct parse *parse, struct mr_chat *chat);
static int stream_take(struct parse *parse, struct mr_chat *chat);
static int unsupported_refuse(struct parse *parse);
static int body_read(struct parse *parse, struct mr_str body, yyjson_val **ret_root);
static int keys_take(struct parse *parse, yyjson_val *object, const struct mr_str *keys,
                     size_t key_count, yyjson_val **values, size_t message_index);

int mr_openai_chat_parse(struct mr_str body, struct mr_arena *arena, struct mr_chat *ret_chat,
                         struct mr_problem *ret_problem)
{
    struct parse parse = {.arena = arena, .problem = ret_problem};
    struct mr_chat chat = {.sampling = {.temperature = 1.0f, .top_p = 1.0f}};
    yyjson_val *root = NULL;
    int error = body_read(&parse, body, &root);
    if (error == 0)
        error = keys_take(&parse, root, chat_keys, CHAT_KEY_COUNT, parse.values, NO_MESSAGE);
    if (error == 0) error = model_take(&parse, &chat);
    if (error == 0) error = messages_take(&parse, &chat);
    if (error == 0) error = sampling_take(&parse, &chat.sampling);
    if (error == 0) error = stops_take(&parse, &chat);
    if (error == 0) error = stream_take(&parse, &chat);
    if (error == 0) error = unsupported_refuse(&parse);
    if (error == 0) *ret_chat = chat;
    return error;
}

/* --- complaints ---------------------------------------------------------------------------- */

/* Files the problem and returns its error. `param` and `code` may be empty. */
__attribute__((format(printf, 5, 6))) static int complain(struct parse *parse, int error,
                                                          const char *param, const char *code,
                                                          const char *format, ...)
{
    char text[512]; /* longer than any: what is quoted of the caller's is cut */
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    size_t text_n = n < 0 ? 0 : MR_MIN((size_t)n, sizeof(text) - 1);
    struct mr_str copy = mr_str_copy(parse->arena, (struct mr_str){text, text_n});
    struct mr_str param_copy = mr_str_copy(parse->arena, mr_str_from(param));
    *parse->problem = (struct mr_problem){
        .error = error,
        .param = param_copy.p != NULL ? param_copy : MR_STR(""),
        .code = mr_str_from(code),
        .text = copy.p != NULL ? copy : mr_str_from(mr_error_text(error)),
    };
    return error;
}

/* The name of a message's member, made only when there is something to complain about. */
struct param {
    char text[96];
};

static struct param param_of(size_t index, const char *member)
{
    struct param param;
    /* Both numbers are below the count of messages or parts: it fits. */
    (void)snprintf(param.text, sizeof(param.text), "messages[%zu]%s%s", index,
                   member[0] != '\0' && member[0] != '.' && member[0] != '[' ? "." : "", member);
    return param;
}

static const char *type_name(yyjson_val *value)
{
    switch (yyjson_get_type(value)) {
    case YYJSON_TYPE_NULL:
        return "null";
    case YYJSON_TYPE_BOOL:
        return "a boolean";
    case YYJSON_TYPE_NUM:
        return "a number";
    case YYJSON_TYPE_STR:
        return "a string";
    case YYJSON_TYPE_ARR:
        return "an array";
    default:
        return "an object";
    }
}

static int type_complain(struct parse *parse, const char *param, const char *expected,
                         yyjson_val *value)
{
    return complain(parse, MR_EINVALID, param, "invalid_type",
                    "Invalid type for '%s': expected %s, but got %s instead.", param, expected,
                    type_name(value));
}

static int missing_complain(struct parse *parse, const char *param)
{
    return complain(parse, MR_EINVALID, param, "missing_required_parameter",
                    "Missing required parameter: '%s'.", param);
}

static int memory_complain(struct parse *parse)
{
    if (parse->arena_full) {
        return complain(parse, MR_ETOO_LARGE, "", "",
                        "The request needs more memory than one request may have (%u MiB).",
                        MR_REQUEST_ARENA_BYTES_MAX / (1024u * 1024u));
    }
    return complain(parse, MR_ENO_MEMORY, "", "", "Out of memory; try again in a moment.");
}

static struct mr_str str_from(yyjson_val *value)
{
    return (struct mr_str){yyjson_get_str(value), yyjson_get_len(value)};
}

/* The part of a caller's string that a complaint repeats. */
static struct mr_str quoted(yyjson_val *value)
{
    struct mr_str s = str_from(value);
    s.n = mr_utf8_valid_prefix((struct mr_str){s.p, MR_MIN(s.n, (size_t)QUOTED_BYTES_MAX)});
    return s;
}

/* --- JSON ---------------------------------------------------------------------------------- */

static void *arena_get(struct parse *parse, size_t size_bytes)
{
    void *p = mr_arena_alloc(parse->arena, size_bytes);
    if (p == NULL) {
        size_t left_bytes = parse->arena->limit_bytes - parse->arena->used_bytes;
        /* The arena rounds up a little. */
        parse->arena_full = size_bytes + 64 > left_bytes;
    }
    return p;
}

static void *json_malloc(void *context, size_t size_bytes)
{
    return arena_get(context, size_bytes);
}

static void *json_realloc(void *context, void *p, size_t old_bytes, size_t size_bytes)
{
    if (size_bytes <= old_bytes) return p;
    void *grown = arena_get(context, size_bytes);
    if (grown != NULL && old_bytes > 0) memcpy(grown, p, old_bytes);
    return grown;
}

static void json_free(void *context, void *p)
{
    (void)context; /* the arena frees everything at once */
    (void)p;
}

static yyjson_alc json_allocator(struct parse *parse)
{
    return (yyjson_alc){
        .malloc = json_malloc, .realloc = json_realloc, .free = json_free, .ctx = parse};
}

static int body_read(struct parse *parse, struct mr_str body, yyjson_val **ret_root)
{
    if (body.n == 0) {
        return complain(parse, MR_ESYNTAX, "", "",
                        "The body is empty; send a JSON object with 'model' and 'messages'.");
    }
    yyjson_alc allocator = json_allocator(parse);
    yyjson_read_err error;
    /* Without the in-situ flag yyjson copies its input, and never writes to it. */
    yyjson_doc *doc =
        yyjson_read_opts((char *)(uintptr_t)body.p, body.n, YYJSON_READ_NOFLAG, &allocator, &error);
    if (doc == NULL) {
        if (error.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION) return memory_complain(parse);
        return complain(parse, MR_ESYNTAX, "", "", "The body is not valid JSON: %s at byte %zu.",
                        error.msg, error.pos);
    }
    yyjson_val *root = yyjson_doc_get_root(doc);
    if (!yyjson_is_obj(root)) {
        return complain(parse, MR_EINVALID, "", "invalid_type",
                        "The body must be a JSON object, not %s.", type_name(root));
    }
    *ret_root = root;
    return 0;
}

/* Files the values of the known keys away. Two values for one key are a way to say one thing to
 * one reader and another to the next: refused. */
static int keys_take(struct parse *parse, yyjson_val *object, const struct mr_str *keys,
                     size_t key_count, yyjson_val **values, size_t message_index)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    yyjson_val *key;
    while ((key = yyjson_obj_iter_next(&iter)) != NULL) {
        struct mr_str name = str_from(key);
        size_t i = 0;
        while (i < key_count && (keys[i].n != name.n || keys[i].p[0] != name.p[0] ||
                                 memcmp(keys[i].p, name.p, name.n) != 0)) {
            i++;
        }
        if (i == key_count) continue;
        if (values[i] != NULL) {
            struct param param = {.text = ""};
            (void)snprintf(param.text, sizeof(param.text), "%s", keys[i].p); /* fits */
            if (message_index != NO_MESSAGE) param = param_of(message_index, keys[i].p);
            return complain(parse, MR_EINVALID, param.text, "invalid_value",
                            "The key '%s' appears twice.", param.text);
        }
        values[i] = yyjson_obj_iter_get_val(key);
    }
    return 0;
}

/* Absent and null mean the same. */
static bool is_given(yyjson_val *value)
{
    return value != NULL && !yyjson_is_null(value);
}

/* 1 and 1.0 are the same number. */
static bool integer_get(yyjson_val *value, int64_t *ret)
{
    if (yyjson_is_uint(value)) {
        uint64_t v = yyjson_get_uint(value);
        if (v > INT64_MAX) return false;
        *ret = (int64_t)v;
        return true;
    }
    if (yyjson_is_sint(value)) {
        *ret = yyjson_get_sint(value);
        return true;
    }
    if (!yyjson_is_real(value)) return false;
    double real = yyjson_get_real(value);
    if (!(real >= -EXACT_DOUBLE_MAX && real <= EXACT_DOUBLE_MAX)) return false;
    int64_t whole = (int64_t)real;
    if ((double)whole != real) return false;
    *ret = whole;
    return true;
}

static int bool_take(struct parse *parse, yyjson_val *value, const char *param, bool *ret)
{
    *ret = false;
    if (!is_given(value)) return 0;
    if (!yyjson_is_bool(value)) return type_complain(parse, param, "a boolean", value);
    *ret = yyjson_get_bool(value);
    return 0;
}

/* --- model and messages -------------------------------------------------------------------- */

static int model_take(struct parse *parse, struct mr_chat *chat)
{
    yyjson_val *value = parse->values[CHAT_MODEL];
    if (!is_given(value)) {
        return complain(parse, MR_EINVALID, "model", "missing_required_parameter",
                        "Missing required parameter: 'model'. GET /v1/models lists the names.");
    }
    if (!yyjson_is_str(value)) return type_complain(parse, "model", "a string", value);
    chat->model = str_from(value);
    if (chat->model.n == 0 || chat->model.n > MR_CHAT_MODEL_BYTES_MAX) {
        return complain(parse, MR_EINVALID, "model", "invalid_value",
                        "Invalid 'model': a name has 1 to %u bytes, this one has %zu.",
                        MR_CHAT_MODEL_BYTES_MAX, chat->model.n);
    }
    return 0;
}

static int role_take(struct parse *parse, yyjson_val *value, size_t index, enum mr_role *ret_role)
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
        struct mr_str name = str_from(value);
        for (size_t i = 0; i < MR_COUNT_OF(roles); i++) {
            if (!mr_str_equal(name, roles[i].name)) continue;
            *ret_role = roles[i].role;
            return 0;
        }
    }
    struct param param = param_of(index, ".role");
    if (!is_given(value)) return missing_complain(parse, param.text);
    if (!yyjson_is_str(value)) return type_complain(parse, param.text, "a string", value);
    struct mr_str name = quoted(value);
    return complain(parse, MR_EINVALID, param.text, "invalid_value",
                    "Invalid value: '%.*s'. Supported values are: 'developer', 'system', 'user', "
                    "'assistant', 'tool' and 'function'.",
                    MR_STR_ARG(name));
}

static struct param param_of_part(size_t index, size_t part_index, const char *member)
{
    struct param param;
    (void)snprintf(param.text, sizeof(param.text), "messages[%zu].content[%zu]%s", index,
                   part_index, member); /* fits */
    return param;
}

/* One element of a content array to its text. */
static int part_take(struct parse *parse, yyjson_val *part, size_t index, size_t part_index,
                     struct mr_str *ret_text)
{
    struct param param;
    if (!yyjson_is_obj(part)) {
        param = param_of_part(index, part_index, "");
        return type_complain(parse, param.text, "an object", part);
    }
    yyjson_val *type = yyjson_obj_get(part, "type");
    bool is_refusal = yyjson_equals_str(type, "refusal");
    if (!is_refusal && !yyjson_equals_str(type, "text")) {
        param = param_of_part(index, part_index, ".type");
        if (!is_given(type)) return missing_complain(parse, param.text);
        if (!yyjson_is_str(type)) return type_complain(parse, param.text, "a string", type);
        struct mr_str name = quoted(type);
        return complain(parse, MR_EINVALID, param.text, "unsupported_value",
                        "Content of type '%.*s' is not supported here; only 'text' is.",
                        MR_STR_ARG(name));
    }
    yyjson_val *text = yyjson_obj_get(part, is_refusal ? "refusal" : "text");
    if (!yyjson_is_str(text)) {
        param = param_of_part(index, part_index, is_refusal ? ".refusal" : ".text");
        if (!is_given(text)) return missing_complain(parse, param.text);
        return type_complain(parse, param.text, "a string", text);
    }
    *ret_text = str_from(text);
    return 0;
}

/* The texts of a content array, joined by line ends. */
static int parts_take(struct parse *parse, yyjson_val *parts, size_t index, struct mr_str *ret)
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
    char *joined = arena_get(parse, total_n);
    if (joined == NULL) return memory_complain(parse);
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
static int calls_take(struct parse *parse, yyjson_val *calls, struct mr_str *content)
{
    yyjson_alc allocator = json_allocator(parse);
    size_t json_n;
    char *json = yyjson_val_write_opts(calls, YYJSON_WRITE_NOFLAG, &allocator, &json_n, NULL);
    if (json == NULL) return memory_complain(parse);
    if (content->n == 0) {
        *content = (struct mr_str){json, json_n};
        return 0;
    }
    char *joined = arena_get(parse, content->n + 1 + json_n);
    if (joined == NULL) return memory_complain(parse);
    memcpy(joined, content->p, content->n);
    joined[content->n] = '\n';
    memcpy(joined + content->n + 1, json, json_n);
    *content = (struct mr_str){joined, content->n + 1 + json_n};
    return 0;
}

static int message_take(struct parse *parse, yyjson_val *value, size_t index,
                        struct mr_message *message)
{
    yyjson_val *values[MESSAGE_KEY_COUNT] = {NULL};
    if (!yyjson_is_obj(value)) {
        struct param param = param_of(index, "");
        return type_complain(parse, param.text, "an object", value);
    }
    int error = keys_take(parse, value, message_keys, MESSAGE_KEY_COUNT, values, index);
    if (error == 0) error = role_take(parse, values[MESSAGE_ROLE], index, &message->role);
    if (error != 0) return error;

    yyjson_val *content = values[MESSAGE_CONTENT];
    message->content = MR_STR("");
    if (yyjson_is_str(content)) {
        message->content = str_from(content);
    } else if (yyjson_is_arr(content)) {
        error = parts_take(parse, content, index, &message->content);
    } else if (is_given(content)) {
        struct param param = param_of(index, ".content");
        return type_complain(parse, param.text, "a string or an array of parts", content);
    } else if (message->role != MR_ROLE_ASSISTANT) {
        struct param param = param_of(index, ".content");
        return complain(parse, MR_EINVALID, param.text, "missing_required_parameter",
                        "Missing required parameter: '%s'; only an assistant's may be null.",
                        param.text);
    } else if (yyjson_is_str(values[MESSAGE_REFUSAL])) {
        message->content = str_from(values[MESSAGE_REFUSAL]);
    }
    if (error != 0 || message->role != MR_ROLE_ASSISTANT) return error;

    if (yyjson_arr_size(values[MESSAGE_TOOL_CALLS]) > 0) {
        error = calls_take(parse, values[MESSAGE_TOOL_CALLS], &message->content);
    } else if (yyjson_is_obj(values[MESSAGE_FUNCTION_CALL])) {
        error = calls_take(parse, values[MESSAGE_FUNCTION_CALL], &message->content);
    }
    return error;
}

static int messages_take(struct parse *parse, struct mr_chat *chat)
{
    yyjson_val *value = parse->values[CHAT_MESSAGES];
    if (!is_given(value)) return missing_complain(parse, "messages");
    if (!yyjson_is_arr(value)) return type_complain(parse, "messages", "an array", value);
    size_t count = yyjson_arr_size(value);
    if (count == 0) {
        return complain(parse, MR_EINVALID, "messages", "empty_array",
                        "Invalid 'messages': at least one message is needed.");
    }
    if (count > MR_CHAT_MESSAGES_MAX) {
        return complain(parse, MR_EINVALID, "messages", "array_above_max_length",
                        "Invalid 'messages': at most %u messages, but got %zu.",
                        MR_CHAT_MESSAGES_MAX, count);
    }
    struct mr_message *messages = arena_get(parse, count * sizeof(*messages));
    if (messages == NULL) return memory_complain(parse);
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

/* --- sampling ------------------------------------------------------------------------------ */

static int float_take(struct parse *parse, enum chat_key key, double low, double high, float *ret)
{
    yyjson_val *value = parse->values[key];
    const char *param = chat_keys[key].p;
    if (!is_given(value)) return 0;
    if (!yyjson_is_num(value)) return type_complain(parse, param, "a number", value);
    double number = yyjson_get_num(value);
    if (!(number >= low && number <= high)) {
        return complain(parse, MR_EINVALID, param, "invalid_value",
                        "Invalid '%s': expected a value from %g to %g, but got %g.", param, low,
                        high, number);
    }
    *ret = (float)number;
    return 0;
}

static int max_tokens_take(struct parse *parse, enum chat_key key, uint32_t *ret)
{
    yyjson_val *value = parse->values[key];
    const char *param = chat_keys[key].p;
    int64_t tokens;
    if (!is_given(value)) return 0;
    if (!yyjson_is_num(value)) return type_complain(parse, param, "an integer", value);
    if (!integer_get(value, &tokens) || tokens < 1 || tokens > TOKENS_MAX) {
        return complain(parse, MR_EINVALID, param, "invalid_value",
                        "Invalid '%s': expected an integer from 1 to %d; leave it out for as many "
                        "as fit.",
                        param, TOKENS_MAX);
    }
    *ret = (uint32_t)tokens;
    return 0;
}

static int sampling_take(struct parse *parse, struct mr_sampling *sampling)
{
    int error = float_take(parse, CHAT_TEMPERATURE, 0, 2, &sampling->temperature);
    if (error == 0) error = float_take(parse, CHAT_TOP_P, 0, 1, &sampling->top_p);
    if (error == 0) {
        error = float_take(parse, CHAT_PRESENCE_PENALTY, -2, 2, &sampling->presence_penalty);
    }
    if (error == 0) {
        error = float_take(parse, CHAT_FREQUENCY_PENALTY, -2, 2, &sampling->frequency_penalty);
    }
    /* The newer name wins over the older one. */
    if (error == 0) error = max_tokens_take(parse, CHAT_MAX_TOKENS, &sampling->max_tokens);
    if (error == 0) {
        error = max_tokens_take(parse, CHAT_MAX_COMPLETION_TOKENS, &sampling->max_tokens);
    }
    if (error != 0) return error;
    /* OpenAI allows 0, which can only mean the likeliest token. */
    if (sampling->top_p < FLT_MIN) sampling->top_p = FLT_MIN;

    yyjson_val *seed = parse->values[CHAT_SEED];
    if (!is_given(seed)) return 0;
    int64_t number;
    sampling->has_seed = true;
    if (yyjson_is_uint(seed)) {
        sampling->seed = yyjson_get_uint(seed);
    } else if (integer_get(seed, &number)) {
        sampling->seed = (uint64_t)number;
    } else if (yyjson_is_num(seed)) {
        return complain(parse, MR_EINVALID, "seed", "invalid_value",
                        "Invalid 'seed': expected an integer of 64 bits.");
    } else {
        return type_complain(parse, "seed", "an integer", seed);
    }
    return 0;
}

static int stop_take(struct parse *parse, yyjson_val *value, struct mr_chat *chat,
                     struct mr_str *stops)
{
    if (!yyjson_is_str(value)) {
        return type_complain(parse, "stop", "a string or an array of strings", value);
    }
    struct mr_str stop = str_from(value);
    if (stop.n == 0) return 0; /* stops nowhere */
    if (stop.n > MR_CHAT_STOP_BYTES_MAX) {
        return complain(parse, MR_EINVALID, "stop", "string_above_max_length",
                        "Invalid 'stop': a stop text has at most %u bytes, this one has %zu.",
                        MR_CHAT_STOP_BYTES_MAX, stop.n);
    }
    stops[chat->stop_count++] = stop;
    return 0;
}

static int stops_take(struct parse *parse, struct mr_chat *chat)
{
    yyjson_val *value = parse->values[CHAT_STOP];
    if (!is_given(value)) return 0;
    size_t count = yyjson_is_arr(value) ? yyjson_arr_size(value) : 1;
    if (count > MR_CHAT_STOPS_MAX) {
        return complain(parse, MR_EINVALID, "stop", "array_above_max_length",
                        "Invalid 'stop': at most %u texts, but got %zu.", MR_CHAT_STOPS_MAX, count);
    }
    struct mr_str *stops = arena_get(parse, MR_CHAT_STOPS_MAX * sizeof(*stops));
    if (stops == NULL) return memory_complain(parse);
    chat->stops = stops;
    if (!yyjson_is_arr(value)) return stop_take(parse, value, chat, stops);
    size_t i;
    yyjson_val *element;
    yyjson_arr_foreach(value, i, count, element)
    {
        int error = stop_take(parse, element, chat, stops);
        if (error != 0) return error;
    }
    return 0;
}

static int stream_take(struct parse *parse, struct mr_chat *chat)
{
    int error = bool_take(parse, parse->values[CHAT_STREAM], "stream", &chat->stream);
    yyjson_val *options = parse->values[CHAT_STREAM_OPTIONS];
    if (error != 0 || !is_given(options)) return error;
    if (!yyjson_is_obj(options)) {
        return type_complain(parse, "stream_options", "an object", options);
    }
    if (!chat->stream) {
        return complain(parse, MR_EINVALID, "stream_options", "invalid_value",
                        "The 'stream_options' parameter is only allowed when 'stream' is true.");
    }
    return bool_take(parse, yyjson_obj_get(options, "include_usage"),
                     "stream_options.include_usage", &chat->include_usage);
}

/* --- what we cannot honour ----------------------------------------------------------------- */

static int refuse(struct parse *parse, enum chat_key key, const char *code, const char *hint)
{
    const char *param = chat_keys[key].p;
    return complain(parse, MR_EINVALID, param, code, "'%s' is not supported here%s.", param, hint);
}

static bool is_filled(yyjson_val *value)
{
    if (!is_given(value)) return false;
    return !(yyjson_is_ctn(value) && yyjson_get_len(value) == 0);
}

static bool is_zero_or_false(yyjson_val *value)
{
    if (!is_given(value)) return true;
    if (yyjson_is_bool(value)) return !yyjson_get_bool(value);
    return yyjson_is_num(value) && yyjson_get_num(value) <= 0;
}

/* `tools` and `functions` are harmless when they are empty or may not be called. */
static int tools_refuse(struct parse *parse, enum chat_key tools, enum chat_key choice)
{
    yyjson_val *chosen = parse->values[choice];
    bool none = yyjson_equals_str(chosen, "none");
    if (is_filled(parse->values[tools]) && !none) {
        return refuse(parse, tools, "unsupported_parameter",
                      "; leave it out, or forbid its use with the choice 'none'");
    }
    if (is_given(chosen) && !none && !yyjson_equals_str(chosen, "auto")) {
        return refuse(parse, choice, "unsupported_value", " with a value other than 'none'");
    }
    return 0;
}

static int unsupported_refuse(struct parse *parse)
{
    yyjson_val **values = parse->values;
    int64_t n = 1;
    if (is_given(values[CHAT_N])) {
        if (!yyjson_is_num(values[CHAT_N])) {
            return type_complain(parse, "n", "an integer", values[CHAT_N]);
        }
        if (!integer_get(values[CHAT_N], &n) || n != 1) {
            return refuse(parse, CHAT_N, "unsupported_value",
                          " with a value other than 1; send the request several times instead");
        }
    }
    int error = tools_refuse(parse, CHAT_TOOLS, CHAT_TOOL_CHOICE);
    if (error == 0) error = tools_refuse(parse, CHAT_FUNCTIONS, CHAT_FUNCTION_CALL);
    if (error != 0) return error;
    if (!is_zero_or_false(values[CHAT_LOGPROBS])) {
        return refuse(parse, CHAT_LOGPROBS, "unsupported_parameter", "");
    }
    if (!is_zero_or_false(values[CHAT_TOP_LOGPROBS])) {
        return refuse(parse, CHAT_TOP_LOGPROBS, "unsupported_parameter", "");
    }
    if (is_filled(values[CHAT_LOGIT_BIAS])) {
        return refuse(parse, CHAT_LOGIT_BIAS, "unsupported_parameter", "");
    }
    yyjson_val *format = values[CHAT_RESPONSE_FORMAT];
    if (is_given(format) && !yyjson_equals_str(yyjson_obj_get(format, "type"), "text")) {
        return refuse(parse, CHAT_RESPONSE_FORMAT, "unsupported_value",
                      " with a type other than 'text'");
    }
    yyjson_val *modalities = values[CHAT_MODALITIES];
    if (is_given(modalities) && !(yyjson_arr_size(modalities) == 1 &&
                                  yyjson_equals_str(yyjson_arr_get_first(modalities), "text"))) {
        return refuse(parse, CHAT_MODALITIES, "unsupported_value", " other than [\"text\"]");
    }
    if (is_filled(values[CHAT_AUDIO])) {
        return refuse(parse, CHAT_AUDIO, "unsupported_parameter", "");
    }
    if (is_filled(values[CHAT_WEB_SEARCH_OPTIONS])) {
        return refuse(parse, CHAT_WEB_SEARCH_OPTIONS, "unsupported_parameter", "");
    }
    return 0;
}
