/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/proto: what the three parts of the chat parser share. proto_openai.c knows the
 * parameters, proto_openai_message.c the messages, proto_openai_json.c reads JSON and complains.
 */
#ifndef PROTO_OPENAI_INT_H
#define PROTO_OPENAI_INT_H

#include <yyjson.h>

#include "proto/proto.h"

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

enum chat_key {
#define X(name, text) CHAT_##name,
    CHAT_KEYS(X)
#undef X
        CHAT_KEY_COUNT
};

struct chat_parse {
    struct mr_arena *arena;
    struct mr_problem *problem;
    bool arena_full; /* an allocation failed because of the arena's limit */
    yyjson_val *values[CHAT_KEY_COUNT];
};

/* The name of a message's member, made only when there is something to complain about. */
struct chat_param {
    char text[96];
};

/* --- complaints: each files the problem and returns its error ------------------------------- */

/* `param` and `code` may be empty. */
__attribute__((format(printf, 5, 6))) int proto_chat_complain(struct chat_parse *parse, int error,
                                                              const char *param, const char *code,
                                                              const char *format, ...);
int proto_chat_type_complain(struct chat_parse *parse, const char *param, const char *expected,
                             yyjson_val *value);
int proto_chat_missing_complain(struct chat_parse *parse, const char *param);
int proto_chat_memory_complain(struct chat_parse *parse);
/* "messages[index].member"; a member may begin with the point or a bracket of its own. */
struct chat_param proto_chat_param(size_t message_index, const char *member);
/* The part of a caller's string that a complaint repeats. */
struct mr_str proto_chat_quoted(yyjson_val *value);

/* --- JSON ---------------------------------------------------------------------------------- */

void *proto_chat_alloc(struct chat_parse *parse, size_t size_bytes);
yyjson_alc proto_chat_json_allocator(struct chat_parse *parse);
/* The object that the body is; 0 or the error. */
int proto_chat_body_read(struct chat_parse *parse, struct mr_str body, yyjson_val **ret_root);
#define NO_MESSAGE SIZE_MAX
/* Files the values of the known keys away; the same key twice is an error. */
int proto_chat_keys_take(struct chat_parse *parse, yyjson_val *object, const struct mr_str *keys,
                         size_t key_count, yyjson_val **values, size_t message_index);
/* 1 and 1.0 are the same number; false when it is no whole one of 64 bits. */
bool proto_chat_integer_get(yyjson_val *value, int64_t *ret);

static inline struct mr_str chat_str(yyjson_val *value)
{
    return (struct mr_str){yyjson_get_str(value), yyjson_get_len(value)};
}

/* Absent and null mean the same. */
static inline bool is_given(yyjson_val *value)
{
    return value != NULL && !yyjson_is_null(value);
}

/* The messages of parse->values; 0 or the error. */
int proto_chat_messages_take(struct chat_parse *parse, struct mr_chat *chat);

#endif
