/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes from a disk as a checkpoint: refused untouched, or whole. A second try gets a right hash,
 * so that what lies behind it is reached too.
 */
#include "train.h"

#define COUNT      3u
#define BYTES_MAX  4096u
#define HASH_BYTES 8u

static void decode_try(struct mr_str bytes)
{
    float vectors[3 * COUNT] = {0};
    struct train_checkpoint read = {.recipe = 1,
                                    .count = COUNT,
                                    .weights = vectors,
                                    .m = vectors + COUNT,
                                    .v = vectors + 2 * COUNT};
    struct train_checkpoint before = read;
    if (train_checkpoint_decode(bytes, &read) != 0) {
        MR_ASSERT(memcmp(&read, &before, sizeof read) == 0);
        return;
    }
    MR_ASSERT(read.count * 12 + TRAIN_CHECKPOINT_HEAD_BYTES + HASH_BYTES == bytes.n);
    MR_ASSERT(memchr(read.product, 0, sizeof read.product) != NULL);
    MR_ASSERT(read.weights == vectors);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t copy[BYTES_MAX];
    decode_try((struct mr_str){(const char *)data, size});
    if (size <= HASH_BYTES || size > sizeof copy) return 0;
    memcpy(copy, data, size);
    uint64_t hash = mr_hash64(copy, size - HASH_BYTES, 1);
    for (size_t i = 0; i < HASH_BYTES; i++) {
        copy[size - HASH_BYTES + i] = (uint8_t)(hash >> (8 * i));
    }
    decode_try((struct mr_str){(const char *)copy, size});
    return 0;
}
