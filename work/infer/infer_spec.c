/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the worker's two small JSON files: spec.json (what to serve) and the stored choice.
 *
 * Owns:       nothing; strings of a spec lie in the arena that was passed.
 * Invariants: (1) every number that is accepted lies within its stated range; (2) an unknown field
 *             is refused by name, so that a typing error is not a silent default; (3) on failure
 *             the result is untouched.
 * Never:      I/O, clock.
 * Fails:      MR_ESYNTAX, MR_EINVALID, MR_ETOO_LARGE, MR_ENO_MEMORY, with a line for people.
 * Tests:      tests/unit/infer/test_infer_spec.c, tests/fuzz/infer/fuzz_infer_spec.c
 */
#include "infer_int.h"

#include <stdio.h>

#include <yyjson.h>

#define CHOICE_VERSION 1u

struct parse { /* one field at a time */
    struct mr_arena *arena;
    char *problem;
    size_t problem_size;
};

static int problem(const struct parse *parse, int error, const char *field, const char *what)
{
    (void)snprintf(parse->problem, parse->problem_size, "\"%s\" %s", field, what);
    return error;
}

static int text_get(const struct parse *parse, yyjson_val *value, const char *field,
                    const char **ret)
{
    const char *text = yyjson_get_str(value);
    size_t n = yyjson_get_len(value);
    if (text == NULL) return problem(parse, MR_EINVALID, field, "must be a string");
    if (n == 0) return problem(parse, MR_EINVALID, field, "is empty");
    if (n >= INFER_PATH_BYTES_MAX) return problem(parse, MR_EINVALID, field, "is too long");
    if (memchr(text, 0, n) != NULL) return problem(parse, MR_EINVALID, field, "holds a zero byte");
    const char *copy = mr_str_zero(parse->arena, (struct mr_str){text, n});
    if (copy == NULL) return problem(parse, MR_ENO_MEMORY, field, "does not fit in memory");
    *ret = copy;
    return 0;
}

static int number_get(const struct parse *parse, yyjson_val *value, const char *field,
                      uint32_t least, uint32_t most, uint32_t *ret)
{
    if (!yyjson_is_uint(value) || yyjson_get_uint(value) < least || yyjson_get_uint(value) > most) {
        char what[96];
        (void)snprintf(what, sizeof(what), "must be a whole number from %u to %u", least, most);
        return problem(parse, MR_EINVALID, field, what);
    }
    *ret = (uint32_t)yyjson_get_uint(value);
    return 0;
}

static int flag_get(const struct parse *parse, yyjson_val *value, const char *field, bool *ret)
{
    if (!yyjson_is_bool(value)) return problem(parse, MR_EINVALID, field, "must be true or false");
    *ret = yyjson_get_bool(value);
    return 0;
}

static int share_get(const struct parse *parse, yyjson_val *value, const char *field, double *ret)
{
    double share = yyjson_get_num(value);
    if (!yyjson_is_num(value) || !(share >= 0.0 && share <= 1.0)) {
        return problem(parse, MR_EINVALID, field, "must be a number from 0 to 1");
    }
    *ret = share;
    return 0;
}

static int adapters_get(const struct parse *parse, yyjson_val *value, struct infer_config *config)
{
    if (!yyjson_is_arr(value)) {
        return problem(parse, MR_EINVALID, "adapters", "must be a list of file names");
    }
    if (yyjson_arr_size(value) > INFER_ADAPTERS_MAX) {
        return problem(parse, MR_EINVALID, "adapters", "has more than 8 entries");
    }
    config->adapter_count = 0;
    size_t i = 0;
    size_t count = 0;
    yyjson_val *item = NULL;
    yyjson_arr_foreach(value, i, count, item)
    {
        int error = text_get(parse, item, "adapters", &config->adapters[i]);
        if (error != 0) return error;
        config->adapter_count++;
    }
    return 0;
}

static int field_get(const struct parse *parse, const char *key, yyjson_val *value,
                     struct infer_config *config)
{
    if (strcmp(key, "model") == 0) return text_get(parse, value, "model", &config->model);
    if (strcmp(key, "served_name") == 0) {
        return text_get(parse, value, "served_name", &config->name);
    }
    if (strcmp(key, "adapters") == 0) return adapters_get(parse, value, config);
    if (strcmp(key, "slots") == 0) {
        return number_get(parse, value, "slots", 1, INFER_SLOTS_MAX, &config->slots);
    }
    if (strcmp(key, "context") == 0) {
        return number_get(parse, value, "context", 0, INFER_CONTEXT_MAX, &config->context);
    }
    if (strcmp(key, "threads") == 0) {
        return number_get(parse, value, "threads", 1, INFER_THREADS_MAX, &config->threads);
    }
    if (strcmp(key, "itl_ms") == 0) {
        return number_get(parse, value, "itl_ms", 1, INFER_ITL_MS_MAX, &config->itl_ms);
    }
    if (strcmp(key, "grace_ms") == 0) {
        return number_get(parse, value, "grace_ms", 0, INFER_GRACE_MS_MAX, &config->grace_ms);
    }
    if (strcmp(key, "quality_bound") == 0) {
        return share_get(parse, value, "quality_bound", &config->quality_bound);
    }
    if (strcmp(key, "no_convert") == 0) {
        return flag_get(parse, value, "no_convert", &config->no_convert);
    }
    if (strcmp(key, "no_tune") == 0) return flag_get(parse, value, "no_tune", &config->no_tune);
    (void)snprintf(parse->problem, parse->problem_size, "unknown field \"%.64s\"", key);
    return MR_EINVALID;
}

/* The document and its root object, or NULL with the problem said. The caller frees. */
static yyjson_doc *document_read(const struct parse *parse, struct mr_str json, int *ret_error)
{
    yyjson_read_err failure = {0};
    /* yyjson only writes to its input when asked to parse in place. */
    yyjson_doc *doc = json.n == 0 ? NULL
                                  : yyjson_read_opts((char *)(uintptr_t)json.p, json.n,
                                                     YYJSON_READ_NOFLAG, NULL, &failure);
    if (doc == NULL) {
        (void)snprintf(parse->problem, parse->problem_size, "is not JSON: %s at byte %zu",
                       failure.msg != NULL ? failure.msg : "it is empty", failure.pos);
        *ret_error = MR_ESYNTAX;
        return NULL;
    }
    if (!yyjson_is_obj(yyjson_doc_get_root(doc))) {
        (void)snprintf(parse->problem, parse->problem_size, "is not a JSON object");
        *ret_error = MR_ESYNTAX;
        yyjson_doc_free(doc);
        return NULL;
    }
    return doc;
}

int infer_spec_parse(struct mr_str json, struct mr_arena *arena, struct infer_config *config,
                     char *ret_problem, size_t problem_size)
{
    struct parse parse = {arena, ret_problem, problem_size};
    if (json.n > MR_SPEC_BYTES_MAX) {
        (void)snprintf(ret_problem, problem_size, "is larger than %u bytes", MR_SPEC_BYTES_MAX);
        return MR_ETOO_LARGE;
    }
    int error = 0;
    yyjson_doc *doc = document_read(&parse, json, &error);
    if (doc == NULL) return error;
    struct infer_config result = *config;
    size_t i = 0;
    size_t count = 0;
    yyjson_val *key = NULL;
    yyjson_val *value = NULL;
    yyjson_obj_foreach(yyjson_doc_get_root(doc), i, count, key, value)
    {
        error = field_get(&parse, yyjson_get_str(key), value, &result);
        if (error != 0) break;
    }
    yyjson_doc_free(doc);
    if (error == 0 && result.model == NULL) {
        error = problem(&parse, MR_EINVALID, "model", "is missing: name a GGUF file");
    }
    if (error == 0) {
        *config = result;
    }
    return error;
}

/* --- the stored choice ---------------------------------------------------------------------- */

static bool string_copy(yyjson_val *root, const char *name, char *ret, size_t size)
{
    yyjson_val *value = yyjson_obj_get(root, name);
    const char *text = yyjson_get_str(value);
    size_t n = yyjson_get_len(value);
    if (text == NULL || n >= size || memchr(text, 0, n) != NULL) return false;
    memcpy(ret, text, n + 1);
    return true;
}

int infer_choice_parse(struct mr_str json, struct infer_choice *ret_choice)
{
    char ignored[128];
    struct parse parse = {NULL, ignored, sizeof(ignored)};
    if (json.n > MR_SPEC_BYTES_MAX) return MR_ETOO_LARGE;
    int error = 0;
    yyjson_doc *doc = document_read(&parse, json, &error);
    if (doc == NULL) return error;
    yyjson_val *root = yyjson_doc_get_root(doc);
    struct infer_choice choice = {.measured = true};
    yyjson_val *version = yyjson_obj_get(root, "version");
    yyjson_val *ubatch = yyjson_obj_get(root, "ubatch");
    yyjson_val *flash = yyjson_obj_get(root, "flash_attention");
    yyjson_val *streams = yyjson_obj_get(root, "streams");
    yyjson_val *bytes = yyjson_obj_get(root, "file_bytes");
    bool good = yyjson_is_uint(version) && yyjson_get_uint(version) == CHOICE_VERSION &&
                yyjson_is_uint(ubatch) && yyjson_get_uint(ubatch) >= INFER_UBATCH_MIN &&
                yyjson_get_uint(ubatch) <= INFER_BATCH_TOKENS && yyjson_is_bool(flash) &&
                yyjson_is_bool(streams) && yyjson_is_uint(bytes) &&
                string_copy(root, "file", choice.file, sizeof(choice.file)) &&
                string_copy(root, "format", choice.format, sizeof(choice.format)) &&
                string_copy(root, "summary", choice.summary, sizeof(choice.summary));
    if (good) {
        choice.ubatch = (uint32_t)yyjson_get_uint(ubatch);
        choice.flash_attention = yyjson_get_bool(flash);
        choice.streams = yyjson_get_bool(streams);
        choice.file_bytes = yyjson_get_uint(bytes);
        *ret_choice = choice;
    }
    yyjson_doc_free(doc);
    return good ? 0 : MR_EUNSUPPORTED;
}

void infer_choice_put(struct mr_buf *buf, const struct infer_choice *choice)
{
    mr_buf_printf(buf, "{\"version\":%u,\"file\":", CHOICE_VERSION);
    mr_json_put_string(buf, mr_str_from(choice->file));
    mr_buf_printf(buf, ",\"file_bytes\":%llu,\"format\":", (unsigned long long)choice->file_bytes);
    mr_json_put_string(buf, mr_str_from(choice->format));
    mr_buf_printf(buf, ",\"flash_attention\":%s,\"streams\":%s,\"ubatch\":%u,\"summary\":",
                  choice->flash_attention ? "true" : "false", choice->streams ? "true" : "false",
                  choice->ubatch);
    mr_json_put_string(buf, mr_str_from(choice->summary));
    mr_buf_put_str(buf, MR_STR("}\n"));
}
