/* SPDX-License-Identifier: Apache-2.0 */
/* The maps of our own workers in a workload document: infer, train, sandbox.
 *
 * A worker reads its map again when it starts; what it would refuse then is refused here, where the
 * person who wrote it is still listening. One table says each field's name, type and range.
 *
 * Owns:  nothing.
 * Fails: as ctl_spec.c.
 */
#include <stdio.h>

#include "ctl/ctl_field.h"
#include "ctl/ctl_int.h"

#define CHECKPOINT_DEFAULT_US                                                                      \
    60000000u                  /* what a fine-tune loses at most, until it says otherwise */
#define INFER_PATH_BYTES 1023u /* as work/infer and work/train have it */
#define TRAIN_PATH_BYTES 4031u
#define FILES_MAX        256u

enum kind { TEXT, COUNT, REAL, FLAG, TEXTS, BASE64, FILES, SIZE };
struct field {
    const char *name;
    enum kind kind;
    double min, max; /* TEXT: bytes; TEXTS: how many */
    bool needed;
};

static const struct field infer_fields[] = {
    {"model", TEXT, 1, INFER_PATH_BYTES, true},
    {"served_name", TEXT, 1, MR_CHAT_MODEL_BYTES_MAX, false},
    {"adapters", TEXTS, 0, 8, false},
    {"slots", COUNT, 1, 64, false},
    {"context", COUNT, 0, 1048576, false},
    {"threads", COUNT, 1, 256, false},
    {"itl_ms", COUNT, 1, 60000, false},
    {"grace_ms", COUNT, 0, 3600000, false},
    {"no_convert", FLAG, 0, 0, false},
    {"no_tune", FLAG, 0, 0, false},
    {"quality_bound", REAL, 0, 1, false},
};
static const struct field train_fields[] = {
    {"model", TEXT, 1, TRAIN_PATH_BYTES, true},
    {"data", TEXT, 1, TRAIN_PATH_BYTES, true},
    {"out", TEXT, 1, TRAIN_PATH_BYTES, false},
    {"epochs", REAL, 0.001, 10000, false},
    {"max_steps", COUNT, 1, 10000000, false},
    {"learning_rate", REAL, 1e-9, 1, false},
    {"weight_decay", REAL, 0, 1, false},
    {"warmup_steps", COUNT, 0, 10000000, false},
    {"batch", COUNT, 1, 4096, false},
    {"rank", COUNT, 1, 256, false},
    {"alpha", REAL, 0.001, 10000, false},
    {"sequence_tokens", COUNT, 8, 8192, false},
    {"seed", COUNT, 0, 9e15, false},
    {"checkpoint_every_steps", COUNT, 1, 10000000, false},
    {"held_out", REAL, 0, 0.9, false},
};
static const struct field sandbox_fields[] = {
    {"command", TEXTS, 1, MR_ARGV_MAX, false},
    {"code", TEXT, 0, MR_SPEC_BYTES_MAX, false},
    {"language", TEXT, 1, 16, false},
    {"stdin", BASE64, 0, 0, false},
    {"files", FILES, 0, FILES_MAX, false},
    {"outputs", TEXTS, 0, 256, false},
    {"time_s", COUNT, 1, 86400, false},
    {"memory", SIZE, 0, 0, false},
    {"processes", COUNT, 1, 4096, false},
    {"output_bytes", COUNT, 1, 64 << 20, false},
    {"disk", SIZE, 0, 0, false},
};
#define FIELDS_MAX 16u
_Static_assert(MR_COUNT_OF(train_fields) <= FIELDS_MAX, "names of a map");

static int wrong_type(const struct ctl_fields *f, const struct field *field, yyjson_val *value,
                      const char *wants)
{
    return ctl_field_wrong(f, field->name, "wants %s, not %s", wants, ctl_type_name(value));
}

static int wrong_range(const struct ctl_fields *f, const struct field *field, const char *what)
{
    return ctl_field_wrong(f, field->name, "wants %s from %.12g to %.12g", what, field->min,
                           field->max);
}

static int check_number(const struct ctl_fields *f, const struct field *field, yyjson_val *value)
{
    const char *what = field->kind == COUNT ? "a whole number" : "a number";
    bool right = field->kind == COUNT ? yyjson_is_int(value) : yyjson_is_num(value);
    double number = yyjson_get_num(value);
    if (!yyjson_is_num(value)) return wrong_type(f, field, value, what);
    if (!right || number < field->min || number > field->max) return wrong_range(f, field, what);
    return 0;
}

static int check_base64(const struct ctl_fields *f, const char *name, yyjson_val *value)
{
    struct mr_buf bytes;
    struct mr_str text = {yyjson_get_str(value), yyjson_get_len(value)};
    if (!yyjson_is_str(value)) {
        return ctl_field_wrong(f, name, "wants base64 text, not %s", ctl_type_name(value));
    }
    mr_buf_init(&bytes, MR_SPEC_BYTES_MAX);
    int error = mr_base64_get(&bytes, text);
    mr_buf_done(&bytes);
    return error == 0 ? 0 : ctl_field_wrong(f, name, "is not base64");
}

/* Inside the folder and nowhere else. */
static bool path_is_safe(struct mr_str name)
{
    struct mr_str part;
    if (name.n == 0 || name.n > 255 || name.p[0] == '/' || memchr(name.p, 0, name.n) != NULL)
        return false;
    while (mr_str_split(&name, '/', &part)) {
        if (part.n == 0 || mr_str_equal(part, MR_STR(".")) || mr_str_equal(part, MR_STR("..")))
            return false;
    }
    return true;
}

static int check_files(const struct ctl_fields *f, const struct field *field, yyjson_val *value)
{
    yyjson_val *key, *item;
    size_t index, max;
    if (!yyjson_is_obj(value)) return wrong_type(f, field, value, "a map of names to base64 text");
    if (yyjson_obj_size(value) > FILES_MAX) {
        return ctl_field_wrong(f, field->name, "takes at most %u files", FILES_MAX);
    }
    yyjson_obj_foreach(value, index, max, key, item)
    {
        struct mr_str name = {yyjson_get_str(key), yyjson_get_len(key)};
        if (!path_is_safe(name)) {
            return ctl_field_wrong(f, field->name, "'%.*s' is no relative name without '..'",
                                   (int)MR_MIN(name.n, 60u), name.p);
        }
        int error = check_base64(f, field->name, item);
        if (error != 0) return error;
    }
    return 0;
}

static int check_text(const struct ctl_fields *f, const struct field *field, yyjson_val *value)
{
    struct mr_str text = {0};
    if (field->min < 1 && yyjson_is_str(value) && yyjson_get_len(value) == 0) return 0;
    return ctl_field_text(f, field->name, (size_t)field->max, &text);
}

static int check(const struct ctl_fields *f, const struct field *field)
{
    yyjson_val *value = yyjson_obj_get(f->map, field->name);
    uint64_t number;
    bool flag;
    if (value == NULL) return field->needed ? ctl_field_wrong(f, field->name, "is missing") : 0;
    switch (field->kind) {
    case TEXT:
        return check_text(f, field, value);
    case COUNT:
    case REAL:
        return check_number(f, field, value);
    case FLAG:
        return ctl_field_bool(f, field->name, &flag);
    case TEXTS:
        return ctl_field_texts(f, field->name, (size_t)field->min, (size_t)field->max);
    case BASE64:
        return check_base64(f, field->name, value);
    case FILES:
        return check_files(f, field, value);
    default:
        return ctl_field_mib(f, field->name, UINT32_MAX, &number);
    }
}

static int check_map(const struct ctl_fields *top, const char *name, const char *prefix,
                     const struct field *fields, size_t count, struct ctl_fields *ret)
{
    const char *names[FIELDS_MAX];
    yyjson_val *map = yyjson_obj_get(top->map, name);
    if (!yyjson_is_obj(map))
        return ctl_field_wrong(top, name, "wants a map, not %s", ctl_type_name(map));
    *ret = *top;
    ret->map = map;
    ret->prefix = prefix;
    for (size_t i = 0; i < count; i++)
        names[i] = fields[i].name;
    int error = ctl_fields_known(ret, names, count);
    for (size_t i = 0; i < count && error == 0; i++)
        error = check(ret, &fields[i]);
    return error;
}

static int read_infer(const struct ctl_fields *top, struct ctl_submit *ret)
{
    struct ctl_fields f;
    struct mr_str served = mr_str_from(ret->name);
    int error = check_map(top, "infer", "infer.", infer_fields, MR_COUNT_OF(infer_fields), &f);
    if (error == 0) error = ctl_field_text(&f, "served_name", MR_CHAT_MODEL_BYTES_MAX, &served);
    if (error == 0 && ret->event.kind != MR_KIND_SERVICE) {
        error = ctl_field_wrong(top, "kind", "a model is served by a service");
    }
    if (error != 0) return error;
    (void)snprintf(ret->served_name, sizeof ret->served_name, "%.*s", MR_STR_ARG(served));
    return 0;
}

static int read_sandbox(const struct ctl_fields *top)
{
    struct ctl_fields f;
    struct mr_str language = {0};
    int error =
        check_map(top, "sandbox", "sandbox.", sandbox_fields, MR_COUNT_OF(sandbox_fields), &f);
    if (error != 0) return error;
    error = ctl_field_command(&f);
    if (error != 0) return error;
    bool code = yyjson_obj_get(f.map, "code") != NULL;
    if ((yyjson_obj_get(f.map, "command") != NULL) == code) {
        return ctl_field_wrong(&f, "command", "give either command or code");
    }
    error = ctl_field_text(&f, "language", 16, &language);
    if (error != 0 || language.p == NULL) return error;
    if (mr_str_equal(language, MR_STR("python")) || mr_str_equal(language, MR_STR("sh"))) return 0;
    return ctl_field_wrong(&f, "language", "wants python or sh, not '%.*s'", MR_STR_ARG(language));
}

int ctl_worker_read(const struct ctl_fields *top, const char *name, struct ctl_submit *ret)
{
    struct ctl_fields f;
    if (strcmp(name, "infer") == 0) return read_infer(top, ret);
    if (strcmp(name, "sandbox") == 0) return read_sandbox(top);
    /* It saves on its own, so the core may count on a checkpoint when it looks for room. */
    if (ret->event.checkpoint_us == 0) ret->event.checkpoint_us = CHECKPOINT_DEFAULT_US;
    return check_map(top, "train", "train.", train_fields, MR_COUNT_OF(train_fields), &f);
}

int ctl_base64_check(const struct ctl_fields *f, const char *name)
{
    yyjson_val *value = yyjson_obj_get(f->map, name);
    return value == NULL ? 0 : check_base64(f, name, value);
}
