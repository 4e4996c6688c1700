/* SPDX-License-Identifier: Apache-2.0 */
/* The document: what to run, on which input, within which limits.
 *
 * Unknown keys are refused by name, so that a typing error is no silent default. Names of files are
 * relative paths without "..": they are made inside the jail, but they come from strangers.
 *
 * Invariants: (1) argv has at least one entry and ends with NULL;
 *             (2) no C string of the result holds a zero byte.
 * Fuzz:       tests/fuzz/sandbox/
 */
#include "sandbox_int.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yyjson.h>

static const char *const keys[] = {"command",   "code",         "language", "stdin",
                                   "files",     "outputs",      "time_s",   "memory",
                                   "processes", "output_bytes", "disk"};

/* Empty when it is no string: the length of a map is not that of a text. */
static struct mr_str json_str(yyjson_val *value)
{
    if (!yyjson_is_str(value)) return (struct mr_str){NULL, 0};
    return (struct mr_str){yyjson_get_str(value), yyjson_get_len(value)};
}

static bool is_c_string(struct mr_str s)
{
    return s.n == 0 || memchr(s.p, 0, s.n) == NULL;
}

bool sandbox_name_safe(struct mr_str name)
{
    struct mr_str rest = name, part;
    if (name.n == 0 || name.n > SANDBOX_NAME_BYTES_MAX || !is_c_string(name)) return false;
    while (mr_str_split(&rest, '/', &part)) {
        if (part.n == 0 || mr_str_equal(part, MR_STR(".")) || mr_str_equal(part, MR_STR(".."))) {
            return false;
        }
    }
    return true;
}

int sandbox_size_parse(struct mr_str text, uint64_t *ret_bytes)
{
    static const struct {
        const char *unit;
        uint64_t bytes;
    } units[] = {{"", 1},           {"B", 1},          {"K", 1024},
                 {"KiB", 1024},     {"M", 1048576},    {"MiB", 1048576},
                 {"MB", 1000000},   {"G", 1073741824}, {"GiB", 1073741824},
                 {"GB", 1000000000}};
    size_t n = 0;
    uint64_t whole, milli = 0, scale = 100, bytes;
    text = mr_str_trim(text);
    while (n < text.n && text.p[n] >= '0' && text.p[n] <= '9')
        n++;
    if (mr_str_to_u64((struct mr_str){text.p, n}, &whole) != 0) return MR_ESYNTAX;
    if (n < text.n && text.p[n] == '.') {
        for (n++; n < text.n && text.p[n] >= '0' && text.p[n] <= '9'; n++, scale /= 10) {
            milli += (uint64_t)(text.p[n] - '0') * scale;
        }
    }
    struct mr_str unit = mr_str_trim((struct mr_str){text.p + n, text.n - n});
    for (size_t i = 0; i < MR_COUNT_OF(units); i++) {
        if (!mr_str_equal(unit, mr_str_from(units[i].unit))) continue;
        if (!mr_mul_u64(whole, units[i].bytes, &bytes)) return MR_ESYNTAX;
        if (!mr_add_u64(bytes, units[i].bytes * milli / 1000, &bytes)) return MR_ESYNTAX;
        *ret_bytes = bytes;
        return 0;
    }
    return MR_ESYNTAX;
}

/* --- the interpreter ------------------------------------------------------------------------ */

/* A program, not a script that would look for one. */
static bool is_binary(const char *path)
{
    unsigned char magic[4] = {0};
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    size_t n = fread(magic, 1, sizeof magic, file);
    (void)fclose(file); /* read only */
    return n == 4 && magic[0] == 0x7f && magic[1] == 'E' && access(path, X_OK) == 0;
}

int sandbox_python_find(struct mr_arena *arena, const char **ret_program, const char **ret_prefix)
{
    char path[PATH_MAX], real[PATH_MAX];
    *ret_prefix = NULL;
    if (is_binary("/usr/bin/python3")) {
        *ret_program = "/usr/bin/python3";
        return 0;
    }
    struct mr_str rest = mr_str_from(getenv("PATH")), folder;
    while (mr_str_split(&rest, ':', &folder)) {
        int n = snprintf(path, sizeof path, "%.*s/python3", MR_STR_ARG(folder));
        if (folder.n == 0 || n >= (int)sizeof path || realpath(path, real) == NULL) continue;
        char *slash = is_binary(real) ? strrchr(real, '/') : NULL;
        if (slash == NULL || slash - real < 5 || strncmp(slash - 4, "/bin", 4) != 0) continue;
        *ret_program = mr_str_zero(arena, mr_str_from(real));
        slash[-4] = 0;
        if (strncmp(real, "/usr", 4) != 0) *ret_prefix = mr_str_zero(arena, mr_str_from(real));
        return *ret_program == NULL ? MR_ENO_MEMORY : 0;
    }
    return MR_ENOT_FOUND;
}

/* --- parts ---------------------------------------------------------------------------------- */

static int wrong(struct mr_buf *problem, const char *key, const char *what)
{
    mr_buf_printf(problem, "sandbox.%s: %s", key, what);
    return MR_EINVALID;
}

static int keys_check(yyjson_val *root, struct mr_buf *problem)
{
    yyjson_val *key, *value;
    size_t index, max;
    yyjson_obj_foreach(root, index, max, key, value)
    {
        bool known = false;
        for (size_t i = 0; i < MR_COUNT_OF(keys); i++) {
            known = known || mr_str_equal(json_str(key), mr_str_from(keys[i]));
        }
        if (known) continue;
        struct mr_str name = json_str(key);
        mr_buf_printf(problem, "sandbox.%.*s is not known; known are", (int)MR_MIN(name.n, 64u),
                      name.p);
        for (size_t i = 0; i < MR_COUNT_OF(keys); i++)
            mr_buf_printf(problem, " %s", keys[i]);
        return MR_EINVALID;
    }
    return 0;
}

static int number_get(yyjson_val *root, const char *key, uint64_t fallback, uint64_t max,
                      uint64_t *ret, struct mr_buf *problem)
{
    yyjson_val *value = yyjson_obj_get(root, key);
    *ret = fallback;
    if (value == NULL) return 0;
    if (!yyjson_is_uint(value) || yyjson_get_uint(value) == 0 || yyjson_get_uint(value) > max) {
        mr_buf_printf(problem, "sandbox.%s: give a whole number from 1 to %llu", key,
                      (unsigned long long)max);
        return MR_EINVALID;
    }
    *ret = yyjson_get_uint(value);
    return 0;
}

static int size_get(yyjson_val *root, const char *key, uint64_t fallback, uint64_t *ret,
                    struct mr_buf *problem)
{
    yyjson_val *value = yyjson_obj_get(root, key);
    *ret = fallback;
    if (value == NULL) return 0;
    if (yyjson_is_uint(value)) {
        /* As everywhere in a workload document a bare number is GiB. */
        if (!mr_mul_u64(yyjson_get_uint(value), 1073741824, ret)) *ret = 0;
    } else if (!yyjson_is_str(value) || sandbox_size_parse(json_str(value), ret) != 0) {
        return wrong(problem, key, "give a size as \"512MiB\" or \"2GiB\"");
    }
    if (*ret < (uint64_t)SANDBOX_MEMORY_MIB_MIN * 1048576 || *ret > (uint64_t)1 << 50) {
        return wrong(problem, key, "give at least 8MiB");
    }
    return 0;
}

static int base64_get(yyjson_val *value, struct mr_arena *arena, struct mr_str *ret)
{
    mr_cleanup(mr_buf_done) struct mr_buf bytes;
    mr_buf_init(&bytes, SANDBOX_SPEC_BYTES_MAX);
    if (!yyjson_is_str(value)) return MR_ESYNTAX;
    int error = mr_base64_get(&bytes, json_str(value));
    if (error != 0) return error;
    *ret = mr_str_copy(arena, mr_buf_str(&bytes));
    return ret->p == NULL ? MR_ENO_MEMORY : 0;
}

static int command_get(yyjson_val *command, struct mr_arena *arena, struct sandbox_spec *spec,
                       struct mr_buf *problem)
{
    size_t count = yyjson_arr_size(command), index, max;
    yyjson_val *word;
    if (!yyjson_is_arr(command) || count == 0 || count > MR_ARGV_MAX) {
        return wrong(problem, "command", "give a list: the program and its arguments");
    }
    spec->argv = mr_arena_alloc_zero(arena, (count + 1) * sizeof *spec->argv);
    if (spec->argv == NULL) return MR_ENO_MEMORY;
    yyjson_arr_foreach(command, index, max, word)
    {
        if (!yyjson_is_str(word) || !is_c_string(json_str(word))) {
            return wrong(problem, "command", "every word is a string without zero bytes");
        }
        spec->argv[index] = mr_str_zero(arena, json_str(word));
        if (spec->argv[index] == NULL) return MR_ENO_MEMORY;
    }
    return spec->argv[0][0] != 0 ? 0 : wrong(problem, "command", "the program is empty");
}

/* Code becomes the file main.py or main.sh in the working folder. */
static int code_get(yyjson_val *root, struct mr_arena *arena, struct sandbox_spec *spec,
                    struct mr_buf *problem)
{
    yyjson_val *code = yyjson_obj_get(root, "code"), *language = yyjson_obj_get(root, "language");
    struct mr_str name = language == NULL ? MR_STR("python") : json_str(language);
    bool python = mr_str_equal(name, MR_STR("python")), sh = mr_str_equal(name, MR_STR("sh"));
    if (!yyjson_is_str(code)) return wrong(problem, "code", "give the program as a string");
    if (!python && !sh)
        return wrong(problem, "language", "\"python\" and \"sh\" are what there is");
    spec->argv = mr_arena_alloc_zero(arena, 3 * sizeof *spec->argv);
    if (spec->argv == NULL) return MR_ENO_MEMORY;
    spec->argv[0] = "/bin/sh";
    spec->argv[1] = sh ? "main.sh" : "main.py";
    if (python) {
        int error = sandbox_python_find(arena, &spec->argv[0], &spec->python_prefix);
        if (error == MR_ENOT_FOUND) {
            return wrong(problem, "language", "there is no python3 on this machine");
        }
        if (error != 0) return error;
    }
    spec->python = python;
    struct sandbox_file *file = &spec->files[spec->file_count++];
    file->name = mr_str_from(spec->argv[1]);
    file->bytes = mr_str_copy(arena, json_str(code));
    return file->bytes.p == NULL && json_str(code).n > 0 ? MR_ENO_MEMORY : 0;
}

static int files_get(yyjson_val *root, struct mr_arena *arena, struct sandbox_spec *spec,
                     struct mr_buf *problem)
{
    yyjson_val *files = yyjson_obj_get(root, "files"), *key, *value;
    size_t index, max;
    spec->files = mr_arena_alloc_zero(arena, (SANDBOX_FILES_MAX + 1) * sizeof *spec->files);
    if (spec->files == NULL) return MR_ENO_MEMORY;
    if (files == NULL) return 0;
    if (!yyjson_is_obj(files) || yyjson_obj_size(files) > SANDBOX_FILES_MAX) {
        return wrong(problem, "files", "give a map of at most 256 names to base64");
    }
    yyjson_obj_foreach(files, index, max, key, value)
    {
        struct sandbox_file *file = &spec->files[spec->file_count];
        if (!sandbox_name_safe(json_str(key))) {
            return wrong(problem, "files", "a name is a relative path without '..'");
        }
        file->name = mr_str_copy(arena, json_str(key));
        int error = file->name.p == NULL ? MR_ENO_MEMORY : base64_get(value, arena, &file->bytes);
        if (error == MR_ENO_MEMORY) return error;
        if (error != 0) return wrong(problem, "files", "the contents are not base64");
        spec->file_count++;
    }
    return 0;
}

static int outputs_get(yyjson_val *root, struct mr_arena *arena, struct sandbox_spec *spec,
                       struct mr_buf *problem)
{
    yyjson_val *outputs = yyjson_obj_get(root, "outputs"), *value;
    size_t index, max;
    if (outputs == NULL) return 0;
    if (!yyjson_is_arr(outputs) || yyjson_arr_size(outputs) > SANDBOX_OUTPUTS_MAX) {
        return wrong(problem, "outputs", "give a list of at most 256 names");
    }
    spec->outputs =
        mr_arena_alloc_zero(arena, (yyjson_arr_size(outputs) + 1) * sizeof(struct mr_str));
    if (spec->outputs == NULL) return MR_ENO_MEMORY;
    yyjson_arr_foreach(outputs, index, max, value)
    {
        if (!yyjson_is_str(value) || !sandbox_name_safe(json_str(value))) {
            return wrong(problem, "outputs", "a name is a relative path without '..'");
        }
        spec->outputs[spec->output_count] = mr_str_copy(arena, json_str(value));
        if (spec->outputs[spec->output_count++].p == NULL) return MR_ENO_MEMORY;
    }
    return 0;
}

static int root_get(yyjson_val *root, struct mr_arena *arena, struct sandbox_spec *spec,
                    struct mr_buf *problem)
{
    uint64_t time_s, processes;
    yyjson_val *input = yyjson_obj_get(root, "stdin"), *command = yyjson_obj_get(root, "command");
    bool code = yyjson_obj_get(root, "code") != NULL;
    if (!yyjson_is_obj(root)) return wrong(problem, "", "the document is no map");
    int error = keys_check(root, problem);
    if (error == 0 && (command != NULL) == code) {
        error = wrong(problem, "command", "give either command or code");
    }
    if (error == 0) error = files_get(root, arena, spec, problem);
    if (error == 0) {
        error = code ? code_get(root, arena, spec, problem)
                     : command_get(command, arena, spec, problem);
    }
    if (error == 0) error = outputs_get(root, arena, spec, problem);
    if (error == 0 && input != NULL) {
        error = base64_get(input, arena, &spec->stdin_bytes);
        if (error != 0 && error != MR_ENO_MEMORY) error = wrong(problem, "stdin", "is not base64");
    }
    if (error == 0) error = number_get(root, "time_s", 60, SANDBOX_TIME_S_MAX, &time_s, problem);
    if (error == 0) {
        error = number_get(root, "processes", 64, SANDBOX_PROCESSES_MAX, &processes, problem);
    }
    if (error == 0) {
        error = number_get(root, "output_bytes", 1048576, SANDBOX_OUTPUT_BYTES_MAX,
                           &spec->output_bytes, problem);
    }
    if (error == 0) {
        error = size_get(root, "memory", (uint64_t)512 << 20, &spec->memory_bytes, problem);
    }
    if (error == 0) error = size_get(root, "disk", (uint64_t)64 << 20, &spec->disk_bytes, problem);
    if (error != 0) return error;
    spec->time_s = (uint32_t)time_s;
    spec->processes = (uint32_t)processes;
    return 0;
}

int sandbox_spec_parse(struct mr_str json, struct mr_arena *arena, struct sandbox_spec *ret,
                       struct mr_buf *problem)
{
    struct sandbox_spec spec = {0};
    yyjson_read_err err;
    if (json.n > SANDBOX_SPEC_BYTES_MAX) {
        mr_buf_printf(problem, "the document is larger than %zu bytes", SANDBOX_SPEC_BYTES_MAX);
        return MR_ETOO_LARGE;
    }
    /* yyjson takes a pointer without const for in-place reading, which is not asked for here. */
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)json.p, json.n, 0, NULL, &err);
    if (doc == NULL) {
        mr_buf_printf(problem, "the document is no JSON: %s at byte %zu", err.msg, err.pos);
        return MR_ESYNTAX;
    }
    int error = root_get(yyjson_doc_get_root(doc), arena, &spec, problem);
    yyjson_doc_free(doc);
    if (error == MR_ENO_MEMORY) mr_buf_printf(problem, "the document does not fit into memory");
    if (error != 0) return error;
    *ret = spec;
    return 0;
}
