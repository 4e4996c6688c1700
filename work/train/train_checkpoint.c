/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: everything that training needs to go on as if nothing had happened.
 *
 * A file is a head of 128 bytes (magic, version, counters, recipe, product), the adapter and both
 * moments as little-endian floats, and a hash of all that. The random state is not stored: the
 * order of the examples follows from the seed and the step.
 *
 * Owns:       nothing between calls; the two newest files of a folder.
 * Invariants: (1) a file is whole or is not taken; (2) the older one is removed only after the
 * newer one is durable; (3) a checkpoint of another recipe is never continued. Fails:      MR_EIO,
 * MR_ENO_SPACE, MR_ECORRUPT, MR_ESTATE, MR_ENOT_FOUND. Ends:       files and folders are closed in
 * the call that opened them. Tests:      tests/unit/train/test_train_checkpoint.c,
 * tests/fuzz/train/fuzz_train_checkpoint.c
 */
#include "train.h"

#include <dirent.h>
#include <errno.h>
#include <unistd.h>

#define MAGIC      "MRTRAIN"
#define VERSION    1u
#define NAME_HEAD  "checkpoint-"
#define NAME_TAIL  ".mrt"
#define KEPT       2u
#define FILES_MAX  64u
#define HASH_BYTES 8u

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "floats are stored as they lie in memory");
_Static_assert(sizeof(float) == 4, "floats are stored as they lie in memory");

static void double_put(struct mr_buf *buf, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    mr_buf_put_u64(buf, bits);
}

static double double_read(struct mr_reader *reader)
{
    uint64_t bits = mr_read_u64(reader);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void head_put(struct mr_buf *buf, const struct train_checkpoint *checkpoint)
{
    mr_buf_put(buf, MAGIC, 8);
    mr_buf_put_u32(buf, VERSION);
    mr_buf_put_u32(buf, 0);
    mr_buf_put_u64(buf, checkpoint->step);
    mr_buf_put_u64(buf, checkpoint->tokens);
    mr_buf_put_u64(buf, checkpoint->targets);
    mr_buf_put_u64(buf, checkpoint->elapsed_us);
    mr_buf_put_u64(buf, checkpoint->recipe);
    mr_buf_put_u64(buf, checkpoint->count);
    double_put(buf, checkpoint->held_before);
    double_put(buf, checkpoint->loss);
    mr_buf_put(buf, checkpoint->product, sizeof checkpoint->product);
    mr_buf_put_u64(buf, 0);
    mr_buf_put_u64(buf, 0);
}

int train_checkpoint_decode(struct mr_str bytes, struct train_checkpoint *ret)
{
    struct train_checkpoint read = *ret;
    char magic[8];
    size_t vector_bytes;
    if (bytes.n < TRAIN_CHECKPOINT_HEAD_BYTES + HASH_BYTES) return MR_ECORRUPT;
    struct mr_reader reader = mr_reader_from(bytes);
    memcpy(magic, bytes.p, sizeof magic);
    (void)mr_read_u64(&reader);
    if (memcmp(magic, MAGIC, sizeof magic) != 0) return MR_ECORRUPT;
    if (mr_read_u32(&reader) != VERSION) return MR_EUNSUPPORTED;
    if (mr_read_u32(&reader) != 0) return MR_ECORRUPT;
    read.step = mr_read_u64(&reader);
    read.tokens = mr_read_u64(&reader);
    read.targets = mr_read_u64(&reader);
    read.elapsed_us = mr_read_u64(&reader);
    read.recipe = mr_read_u64(&reader);
    read.count = mr_read_u64(&reader);
    read.held_before = double_read(&reader);
    read.loss = double_read(&reader);
    memcpy(read.product, reader.p, sizeof read.product);
    if (read.product[sizeof read.product - 1] != 0) return MR_ECORRUPT;
    size_t body = bytes.n - TRAIN_CHECKPOINT_HEAD_BYTES - HASH_BYTES;
    if (read.count == 0 || read.count > body / 12 || read.count * 12 != body) return MR_ECORRUPT;
    struct mr_reader tail =
        mr_reader_from((struct mr_str){bytes.p + bytes.n - HASH_BYTES, HASH_BYTES});
    if (mr_hash64(bytes.p, bytes.n - HASH_BYTES, VERSION) != mr_read_u64(&tail)) return MR_ECORRUPT;
    vector_bytes = (size_t)read.count * sizeof(float);
    if (ret->weights != NULL && ret->m != NULL && ret->v != NULL && ret->count == read.count &&
        ret->recipe == read.recipe) {
        const char *at = bytes.p + TRAIN_CHECKPOINT_HEAD_BYTES;
        memcpy(ret->weights, at, vector_bytes);
        memcpy(ret->m, at + vector_bytes, vector_bytes);
        memcpy(ret->v, at + 2 * vector_bytes, vector_bytes);
    }
    *ret = read;
    return 0;
}

/* --- the folder ---------------------------------------------------------------------------- */

static bool name_parse(const char *name, uint64_t *ret_step)
{
    struct mr_str s = mr_str_from(name);
    size_t head = sizeof NAME_HEAD - 1, tail = sizeof NAME_TAIL - 1;
    if (s.n <= head + tail || !mr_str_starts(s, MR_STR(NAME_HEAD))) return false;
    if (strcmp(name + s.n - tail, NAME_TAIL) != 0) return false;
    return mr_str_to_u64((struct mr_str){name + head, s.n - head - tail}, ret_step) == 0;
}

static void path_of(char *path, size_t size, const char *folder, uint64_t step)
{
    (void)snprintf(path, size, "%s/" NAME_HEAD "%llu" NAME_TAIL, folder, (unsigned long long)step);
}

/* The steps of the files there, newest first; at most FILES_MAX, the newest are kept. */
static int steps_list(const char *folder, uint64_t steps[FILES_MAX], size_t *ret_count,
                      struct train_problem *problem)
{
    size_t count = 0;
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        if (errno == ENOENT) return *ret_count = 0, 0;
        return train_problem_set(problem, MR_EIO, "cannot read %s: %s", folder, strerror(errno));
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        uint64_t step;
        if (!name_parse(entry->d_name, &step)) continue;
        size_t at = count;
        while (at > 0 && steps[at - 1] < step) {
            at--;
        }
        if (at == FILES_MAX) continue;
        if (count == FILES_MAX) {
            count--;
        }
        memmove(&steps[at + 1], &steps[at], (count - at) * sizeof steps[0]);
        steps[at] = step;
        count++;
    }
    (void)closedir(dir); /* only read from */
    *ret_count = count;
    return 0;
}

int train_checkpoint_write(const char *folder, const struct train_checkpoint *checkpoint,
                           struct train_problem *problem)
{
    char path[TRAIN_PATH_BYTES_MAX];
    uint64_t steps[FILES_MAX];
    size_t count = 0, vector_bytes = (size_t)checkpoint->count * sizeof(float);
    mr_cleanup(mr_buf_done) struct mr_buf whole;
    mr_buf_init(&whole, SIZE_MAX / 2);
    head_put(&whole, checkpoint);
    MR_ASSERT(whole.failed || whole.n == TRAIN_CHECKPOINT_HEAD_BYTES);
    mr_buf_put(&whole, checkpoint->weights, vector_bytes);
    mr_buf_put(&whole, checkpoint->m, vector_bytes);
    mr_buf_put(&whole, checkpoint->v, vector_bytes);
    mr_buf_put_u64(&whole, mr_hash64(whole.p, whole.n, VERSION));
    if (whole.failed) {
        return train_problem_set(problem, MR_ENO_MEMORY, "out of memory for a checkpoint");
    }
    path_of(path, sizeof path, folder, checkpoint->step);
    struct mr_str bytes = mr_buf_str(&whole);
    int error = train_file_replace(path, &bytes, 1, problem);
    if (error != 0) return error;
    error = steps_list(folder, steps, &count, problem);
    for (size_t i = KEPT; error == 0 && i < count; i++) {
        path_of(path, sizeof path, folder, steps[i]);
        (void)unlink(path); /* tried again after the next one */
    }
    return error;
}

int train_checkpoint_read(const char *folder, struct train_checkpoint *checkpoint, size_t *ret_torn,
                          struct train_problem *problem)
{
    uint64_t steps[FILES_MAX];
    size_t count = 0, torn = 0, other = 0;
    int error = steps_list(folder, steps, &count, problem);
    for (size_t i = 0; error == 0 && i < count; i++) {
        char path[TRAIN_PATH_BYTES_MAX];
        struct mr_str bytes;
        struct train_checkpoint read = *checkpoint;
        path_of(path, sizeof path, folder, steps[i]);
        int got = train_file_read(path, TRAIN_DATA_BYTES_MAX, &bytes, problem);
        if (got == 0) {
            got = train_checkpoint_decode(bytes, &read);
            mr_free((void *)(uintptr_t)bytes.p);
        }
        if (got != 0) {
            torn++;
        } else if (read.recipe != checkpoint->recipe || read.count != checkpoint->count) {
            other++;
        } else {
            *checkpoint = read;
            *ret_torn = torn;
            return 0;
        }
    }
    if (error != 0) return error;
    *ret_torn = torn;
    if (other > 0) {
        return train_problem_set(
            problem, MR_ESTATE,
            "the checkpoints in %s were made with other data, another model or "
            "other settings; delete them or take another folder",
            folder);
    }
    return MR_ENOT_FOUND;
}
