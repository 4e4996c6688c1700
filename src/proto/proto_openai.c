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
#include "proto/proto_openai_int.h"

#include <float.h>

static const struct mr_str chat_keys[] = {
#define X(name, text) {text, sizeof(text) - 1},
    CHAT_KEYS(X)
#undef X
};

/* The largest count of tokens that may be asked for. */
#define TOKENS_MAX INT32_MAX

static int model_take(struct chat_parse *parse, struct mr_chat *chat);
static int sampling_take(struct chat_parse *parse, struct mr_sampling *sampling);
static int stops_take(struct chat_parse *parse, struct mr_chat *chat);
static int stream_take(struct chat_parse *parse, struct mr_chat *chat);
static int unsupported_refuse(struct chat_parse *parse);

int mr_openai_chat_parse(struct mr_str body, struct mr_arena *arena, struct mr_chat *ret_chat,
                         struct mr_problem *ret_problem)
{
    struct chat_parse parse = {.arena = arena, .problem = ret_problem};
    struct mr_chat chat = {.sampling = {.temperature = 1.0f, .top_p = 1.0f}};
    yyjson_val *root = NULL;
    int error = proto_chat_body_read(&parse, body, &root);
    if (error == 0) {
        error =
            proto_chat_keys_take(&parse, root, chat_keys, CHAT_KEY_COUNT, parse.values, NO_MESSAGE);
    }
    if (error == 0) error = model_take(&parse, &chat);
    if (error == 0) error = proto_chat_messages_take(&parse, &chat);
    if (error == 0) error = sampling_take(&parse, &chat.sampling);
    if (error == 0) error = stops_take(&parse, &chat);
    if (error == 0) error = stream_take(&parse, &chat);
    if (error == 0) error = unsupported_refuse(&parse);
    if (error == 0) *ret_chat = chat;
    return error;
}

static int bool_take(struct chat_parse *parse, yyjson_val *value, const char *param, bool *ret)
{
    *ret = false;
    if (!is_given(value)) return 0;
    if (!yyjson_is_bool(value)) return proto_chat_type_complain(parse, param, "a boolean", value);
    *ret = yyjson_get_bool(value);
    return 0;
}

/* --- parameters ---------------------------------------------------------------------------- */

static int model_take(struct chat_parse *parse, struct mr_chat *chat)
{
    yyjson_val *value = parse->values[CHAT_MODEL];
    if (!is_given(value)) {
        return proto_chat_complain(
            parse, MR_EINVALID, "model", "missing_required_parameter",
            "Missing required parameter: 'model'. GET /v1/models lists the names.");
    }
    if (!yyjson_is_str(value)) return proto_chat_type_complain(parse, "model", "a string", value);
    chat->model = chat_str(value);
    if (chat->model.n == 0 || chat->model.n > MR_CHAT_MODEL_BYTES_MAX) {
        return proto_chat_complain(parse, MR_EINVALID, "model", "invalid_value",
                                   "Invalid 'model': a name has 1 to %u bytes, this one has %zu.",
                                   MR_CHAT_MODEL_BYTES_MAX, chat->model.n);
    }
    return 0;
}

/* --- sampling ------------------------------------------------------------------------------ */

static int float_take(struct chat_parse *parse, enum chat_key key, double low, double high,
                      float *ret)
{
    yyjson_val *value = parse->values[key];
    const char *param = chat_keys[key].p;
    if (!is_given(value)) return 0;
    if (!yyjson_is_num(value)) return proto_chat_type_complain(parse, param, "a number", value);
    double number = yyjson_get_num(value);
    if (!(number >= low && number <= high)) {
        return proto_chat_complain(parse, MR_EINVALID, param, "invalid_value",
                                   "Invalid '%s': expected a value from %g to %g, but got %g.",
                                   param, low, high, number);
    }
    *ret = (float)number;
    return 0;
}

static int max_tokens_take(struct chat_parse *parse, enum chat_key key, uint32_t *ret)
{
    yyjson_val *value = parse->values[key];
    const char *param = chat_keys[key].p;
    int64_t tokens;
    if (!is_given(value)) return 0;
    if (!yyjson_is_num(value)) return proto_chat_type_complain(parse, param, "an integer", value);
    if (!proto_chat_integer_get(value, &tokens) || tokens < 1 || tokens > TOKENS_MAX) {
        return proto_chat_complain(
            parse, MR_EINVALID, param, "invalid_value",
            "Invalid '%s': expected an integer from 1 to %d; leave it out for as many "
            "as fit.",
            param, TOKENS_MAX);
    }
    *ret = (uint32_t)tokens;
    return 0;
}

static int sampling_take(struct chat_parse *parse, struct mr_sampling *sampling)
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
    } else if (proto_chat_integer_get(seed, &number)) {
        sampling->seed = (uint64_t)number;
    } else if (yyjson_is_num(seed)) {
        return proto_chat_complain(parse, MR_EINVALID, "seed", "invalid_value",
                                   "Invalid 'seed': expected an integer of 64 bits.");
    } else {
        return proto_chat_type_complain(parse, "seed", "an integer", seed);
    }
    return 0;
}

static int stop_take(struct chat_parse *parse, yyjson_val *value, struct mr_chat *chat,
                     struct mr_str *stops)
{
    if (!yyjson_is_str(value)) {
        return proto_chat_type_complain(parse, "stop", "a string or an array of strings", value);
    }
    struct mr_str stop = chat_str(value);
    if (stop.n == 0) return 0; /* stops nowhere */
    if (stop.n > MR_CHAT_STOP_BYTES_MAX) {
        return proto_chat_complain(
            parse, MR_EINVALID, "stop", "string_above_max_length",
            "Invalid 'stop': a stop text has at most %u bytes, this one has %zu.",
            MR_CHAT_STOP_BYTES_MAX, stop.n);
    }
    stops[chat->stop_count++] = stop;
    return 0;
}

static int stops_take(struct chat_parse *parse, struct mr_chat *chat)
{
    yyjson_val *value = parse->values[CHAT_STOP];
    if (!is_given(value)) return 0;
    size_t count = yyjson_is_arr(value) ? yyjson_arr_size(value) : 1;
    if (count > MR_CHAT_STOPS_MAX) {
        return proto_chat_complain(parse, MR_EINVALID, "stop", "array_above_max_length",
                                   "Invalid 'stop': at most %u texts, but got %zu.",
                                   MR_CHAT_STOPS_MAX, count);
    }
    struct mr_str *stops = proto_chat_alloc(parse, MR_CHAT_STOPS_MAX * sizeof(*stops));
    if (stops == NULL) return proto_chat_memory_complain(parse);
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

static int stream_take(struct chat_parse *parse, struct mr_chat *chat)
{
    int error = bool_take(parse, parse->values[CHAT_STREAM], "stream", &chat->stream);
    yyjson_val *options = parse->values[CHAT_STREAM_OPTIONS];
    if (error != 0 || !is_given(options)) return error;
    if (!yyjson_is_obj(options)) {
        return proto_chat_type_complain(parse, "stream_options", "an object", options);
    }
    if (!chat->stream) {
        return proto_chat_complain(
            parse, MR_EINVALID, "stream_options", "invalid_value",
            "The 'stream_options' parameter is only allowed when 'stream' is true.");
    }
    return bool_take(parse, yyjson_obj_get(options, "include_usage"),
                     "stream_options.include_usage", &chat->include_usage);
}

/* --- what we cannot honour ----------------------------------------------------------------- */

static int refuse(struct chat_parse *parse, enum chat_key key, const char *code, const char *hint)
{
    const char *param = chat_keys[key].p;
    return proto_chat_complain(parse, MR_EINVALID, param, code, "'%s' is not supported here%s.",
                               param, hint);
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
static int tools_refuse(struct chat_parse *parse, enum chat_key tools, enum chat_key choice)
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

static int unsupported_refuse(struct chat_parse *parse)
{
    yyjson_val **values = parse->values;
    int64_t n = 1;
    if (is_given(values[CHAT_N])) {
        if (!yyjson_is_num(values[CHAT_N])) {
            return proto_chat_type_complain(parse, "n", "an integer", values[CHAT_N]);
        }
        if (!proto_chat_integer_get(values[CHAT_N], &n) || n != 1) {
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
