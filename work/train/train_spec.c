/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the `train` map of a workload.
 *
 * Owns:       nothing; a spec is plain data and can be sent as it is.
 * Invariants: (1) every number that is accepted lies within its stated range; (2) an unknown field
 *             is refused by name; (3) on failure the result is untouched.
 * Never:      I/O, clock.
 * Fails:      MR_ESYNTAX, MR_EINVALID, MR_ENO_MEMORY, with a line for people.
 * Tests:      tests/unit/train/test_train_data.c
 */
#include "train.h"

#include <math.h>

#include <yyjson.h>

#define DEFAULT_EPOCHS   3.0
#define DEFAULT_RATE     5e-4
#define DEFAULT_BATCH    8u
#define DEFAULT_RANK     8u
#define DEFAULT_SEQUENCE 512u
#define DEFAULT_HELD_OUT 0.1

void train_spec_init(struct train_spec *spec)
{
    memset(spec, 0, sizeof *spec); /* it is sent and hashed whole */
    spec->epochs = DEFAULT_EPOCHS;
    spec->learning_rate = DEFAULT_RATE;
    spec->weight_decay = 0.01;
    spec->warmup_steps = UINT32_MAX; /* a tenth of the steps, at most 20 */
    spec->batch = DEFAULT_BATCH;
    spec->rank = DEFAULT_RANK;
    spec->sequence_tokens = DEFAULT_SEQUENCE;
    spec->seed = 1;
    spec->held_out = DEFAULT_HELD_OUT;
}

enum kind { KIND_PATH, KIND_COUNT, KIND_SEED, KIND_REAL };

static const struct field {
    const char *name;
    enum kind kind;
    size_t offset;
    double least, most;
} fields[] = {
    {"model", KIND_PATH, offsetof(struct train_spec, model), 0, 0},
    {"data", KIND_PATH, offsetof(struct train_spec, data), 0, 0},
    {"out", KIND_PATH, offsetof(struct train_spec, out), 0, 0},
    {"epochs", KIND_REAL, offsetof(struct train_spec, epochs), 0.001, TRAIN_EPOCHS_MAX},
    {"max_steps", KIND_COUNT, offsetof(struct train_spec, max_steps), 1, TRAIN_STEPS_MAX},
    {"learning_rate", KIND_REAL, offsetof(struct train_spec, learning_rate), 1e-9, 1},
    {"weight_decay", KIND_REAL, offsetof(struct train_spec, weight_decay), 0, 1},
    {"warmup_steps", KIND_COUNT, offsetof(struct train_spec, warmup_steps), 0, TRAIN_STEPS_MAX},
    {"batch", KIND_COUNT, offsetof(struct train_spec, batch), 1, TRAIN_BATCH_MAX},
    {"rank", KIND_COUNT, offsetof(struct train_spec, rank), 1, TRAIN_RANK_MAX},
    {"alpha", KIND_REAL, offsetof(struct train_spec, alpha), 0.001, 10000},
    {"sequence_tokens", KIND_COUNT, offsetof(struct train_spec, sequence_tokens),
     TRAIN_SEQUENCE_MIN, TRAIN_SEQUENCE_MAX},
    {"seed", KIND_SEED, offsetof(struct train_spec, seed), 0, 0},
    {"checkpoint_every_steps", KIND_COUNT, offsetof(struct train_spec, checkpoint_every_steps), 1,
     TRAIN_STEPS_MAX},
    {"held_out", KIND_REAL, offsetof(struct train_spec, held_out), 0, 0.9},
};

static int path_set(const struct field *field, yyjson_val *value, struct train_spec *spec,
                    struct train_problem *problem)
{
    const char *text = yyjson_get_str(value);
    size_t n = yyjson_get_len(value);
    if (text == NULL || n == 0 || n >= TRAIN_PATH_BYTES_MAX - 64u || memchr(text, 0, n) != NULL) {
        return train_problem_set(problem, MR_EINVALID, "train: \"%s\" must be the name of a file",
                                 field->name);
    }
    char *to = (char *)spec + field->offset;
    memset(to, 0, TRAIN_PATH_BYTES_MAX);
    memcpy(to, text, n);
    return 0;
}

static int field_set(const struct field *field, yyjson_val *value, struct train_spec *spec,
                     struct train_problem *problem)
{
    uint8_t *to = (uint8_t *)spec + field->offset;
    double real = yyjson_get_num(value);
    bool within = yyjson_is_num(value) && real >= field->least && real <= field->most;
    if (field->kind == KIND_PATH) return path_set(field, value, spec, problem);
    if (field->kind == KIND_SEED) {
        if (!yyjson_is_uint(value)) {
            return train_problem_set(problem, MR_EINVALID,
                                     "train: \"%s\" must be a whole number from 0", field->name);
        }
        uint64_t seed = yyjson_get_uint(value);
        memcpy(to, &seed, sizeof seed);
        return 0;
    }
    if (field->kind == KIND_COUNT && (!within || !yyjson_is_uint(value))) {
        return train_problem_set(problem, MR_EINVALID,
                                 "train: \"%s\" must be a whole number from %.0f to %.0f",
                                 field->name, field->least, field->most);
    }
    if (!within) {
        return train_problem_set(problem, MR_EINVALID,
                                 "train: \"%s\" must be a number from %g to %g", field->name,
                                 field->least, field->most);
    }
    if (field->kind == KIND_COUNT) {
        uint32_t count = (uint32_t)yyjson_get_uint(value);
        memcpy(to, &count, sizeof count);
    } else {
        memcpy(to, &real, sizeof real);
    }
    return 0;
}

static int object_read(yyjson_val *root, struct train_spec *spec, struct train_problem *problem)
{
    size_t index = 0, count = 0;
    yyjson_val *key = NULL, *value = NULL;
    if (!yyjson_is_obj(root)) {
        return train_problem_set(problem, MR_EINVALID, "train: must be a map of fields");
    }
    yyjson_obj_foreach(root, index, count, key, value)
    {
        const struct field *found = NULL;
        for (size_t i = 0; i < MR_COUNT_OF(fields); i++) {
            if (yyjson_equals_str(key, fields[i].name)) {
                found = &fields[i];
            }
        }
        if (found == NULL) {
            return train_problem_set(problem, MR_EINVALID, "train: no field \"%.80s\"",
                                     yyjson_get_str(key));
        }
        int error = field_set(found, value, spec, problem);
        if (error != 0) return error;
    }
    return 0;
}

int train_spec_parse(struct mr_str json, struct train_spec *spec, struct train_problem *problem)
{
    yyjson_read_err where;
    struct train_spec read = *spec;
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)json.p, json.n, 0, NULL, &where);
    if (doc == NULL) {
        return train_problem_set(problem, MR_ESYNTAX, "train: not JSON at byte %zu: %s", where.pos,
                                 where.msg);
    }
    int error = object_read(yyjson_doc_get_root(doc), &read, problem);
    yyjson_doc_free(doc);
    if (error != 0) return error;
    *spec = read;
    return 0;
}
