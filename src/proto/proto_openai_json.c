/* SPDX-License-Identifier: Apache-2.0 */
/* The chat parser's ground: JSON into the request's arena, and complaints in words.
 *
 * yyjson gets the arena as its allocator: the one copy of the body lies there, and all strings of
 * the result point into it. Neither its reader nor its writer recurses.
 *
 * Owns:  nothing; everything lies in the caller's arena.
 * Never: I/O, clock.
 * Cost:  O(body).
 * Tests: tests/unit/proto/test_proto_openai.c
 */
#include "proto/proto_openai_int.h"

#include <stdio.h>

/* Doubles hold every integer up to here. */
#define EXACT_DOUBLE_MAX 9007199254740992.0
/* What of a value of the caller is repeated in a complaint. */
#define QUOTED_BYTES_MAX 64u

/* --- complaints ---------------------------------------------------------------------------- */

/* Files the problem and returns its error. `param` and `code` may be empty. */
__attribute__((format(printf, 5, 6))) int proto_chat_complain(struct chat_parse *parse, int error,
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

struct chat_param proto_chat_param(size_t index, const char *member)
{
    struct chat_param param;
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

int proto_chat_type_complain(struct chat_parse *parse, const char *param, const char *expected,
                             yyjson_val *value)
{
    return proto_chat_complain(parse, MR_EINVALID, param, "invalid_type",
                               "Invalid type for '%s': expected %s, but got %s instead.", param,
                               expected, type_name(value));
}

int proto_chat_missing_complain(struct chat_parse *parse, const char *param)
{
    return proto_chat_complain(parse, MR_EINVALID, param, "missing_required_parameter",
                               "Missing required parameter: '%s'.", param);
}

int proto_chat_memory_complain(struct chat_parse *parse)
{
    if (parse->arena_full) {
        return proto_chat_complain(
            parse, MR_ETOO_LARGE, "", "",
            "The request needs more memory than one request may have (%u MiB).",
            MR_REQUEST_ARENA_BYTES_MAX / (1024u * 1024u));
    }
    return proto_chat_complain(parse, MR_ENO_MEMORY, "", "",
                               "Out of memory; try again in a moment.");
}

/* The part of a caller's string that a complaint repeats. */
struct mr_str proto_chat_quoted(yyjson_val *value)
{
    struct mr_str s = chat_str(value);
    s.n = mr_utf8_valid_prefix((struct mr_str){s.p, MR_MIN(s.n, (size_t)QUOTED_BYTES_MAX)});
    return s;
}

/* --- JSON ---------------------------------------------------------------------------------- */

void *proto_chat_alloc(struct chat_parse *parse, size_t size_bytes)
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
    return proto_chat_alloc(context, size_bytes);
}

static void *json_realloc(void *context, void *p, size_t old_bytes, size_t size_bytes)
{
    if (size_bytes <= old_bytes) return p;
    void *grown = proto_chat_alloc(context, size_bytes);
    if (grown != NULL && old_bytes > 0) memcpy(grown, p, old_bytes);
    return grown;
}

static void json_free(void *context, void *p)
{
    (void)context; /* the arena frees everything at once */
    (void)p;
}

yyjson_alc proto_chat_json_allocator(struct chat_parse *parse)
{
    return (yyjson_alc){
        .malloc = json_malloc, .realloc = json_realloc, .free = json_free, .ctx = parse};
}

int proto_chat_body_read(struct chat_parse *parse, struct mr_str body, yyjson_val **ret_root)
{
    if (body.n == 0) {
        return proto_chat_complain(
            parse, MR_ESYNTAX, "", "",
            "The body is empty; send a JSON object with 'model' and 'messages'.");
    }
    yyjson_alc allocator = proto_chat_json_allocator(parse);
    yyjson_read_err error;
    /* Without the in-situ flag yyjson copies its input, and never writes to it. */
    yyjson_doc *doc =
        yyjson_read_opts((char *)(uintptr_t)body.p, body.n, YYJSON_READ_NOFLAG, &allocator, &error);
    if (doc == NULL) {
        if (error.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION)
            return proto_chat_memory_complain(parse);
        return proto_chat_complain(parse, MR_ESYNTAX, "", "",
                                   "The body is not valid JSON: %s at byte %zu.", error.msg,
                                   error.pos);
    }
    yyjson_val *root = yyjson_doc_get_root(doc);
    if (!yyjson_is_obj(root)) {
        return proto_chat_complain(parse, MR_EINVALID, "", "invalid_type",
                                   "The body must be a JSON object, not %s.", type_name(root));
    }
    *ret_root = root;
    return 0;
}

/* Files the values of the known keys away. Two values for one key are a way to say one thing to
 * one reader and another to the next: refused. */
int proto_chat_keys_take(struct chat_parse *parse, yyjson_val *object, const struct mr_str *keys,
                         size_t key_count, yyjson_val **values, size_t message_index)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    yyjson_val *key;
    while ((key = yyjson_obj_iter_next(&iter)) != NULL) {
        struct mr_str name = chat_str(key);
        size_t i = 0;
        while (i < key_count && (keys[i].n != name.n || keys[i].p[0] != name.p[0] ||
                                 memcmp(keys[i].p, name.p, name.n) != 0)) {
            i++;
        }
        if (i == key_count) continue;
        if (values[i] != NULL) {
            struct chat_param param = {.text = ""};
            (void)snprintf(param.text, sizeof(param.text), "%s", keys[i].p); /* fits */
            if (message_index != NO_MESSAGE) param = proto_chat_param(message_index, keys[i].p);
            return proto_chat_complain(parse, MR_EINVALID, param.text, "invalid_value",
                                       "The key '%s' appears twice.", param.text);
        }
        values[i] = yyjson_obj_iter_get_val(key);
    }
    return 0;
}

/* 1 and 1.0 are the same number. */
bool proto_chat_integer_get(yyjson_val *value, int64_t *ret)
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
