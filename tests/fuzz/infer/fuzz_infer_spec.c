/* SPDX-License-Identifier: Apache-2.0 */
/* spec.json and the stored choice, which lie on a disk and may be anything.
 *
 * Holds: what is accepted lies within its limits; what is refused leaves a text and no trace; a
 * choice that is accepted is the same after it was stored again.
 */
#include "infer_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_str json = {(const char *)data, size};
    struct mr_arena arena;
    mr_arena_init(&arena, 1u << 20);
    struct infer_config config = {.slots = 3, .threads = 1, .itl_ms = 1};
    char problem[256] = "";
    int error = infer_spec_parse(json, &arena, &config, problem, sizeof(problem));
    if (error == 0) {
        MR_ASSERT(config.model != NULL && strlen(config.model) < INFER_PATH_BYTES_MAX);
        MR_ASSERT(config.slots >= 1 && config.slots <= INFER_SLOTS_MAX);
        MR_ASSERT(config.context <= INFER_CONTEXT_MAX);
        MR_ASSERT(config.threads >= 1 && config.threads <= INFER_THREADS_MAX);
        MR_ASSERT(config.adapter_count <= INFER_ADAPTERS_MAX);
        MR_ASSERT(config.quality_bound >= 0.0 && config.quality_bound <= 1.0);
    } else {
        MR_ASSERT(problem[0] != '\0');
        MR_ASSERT(config.slots == 3 && config.model == NULL);
    }
    struct infer_choice choice;
    struct infer_choice again;
    if (infer_choice_parse(json, &choice) == 0) {
        struct mr_buf buf;
        mr_buf_init(&buf, 1u << 20);
        infer_choice_put(&buf, &choice);
        MR_ASSERT(!buf.failed);
        MR_ASSERT(infer_choice_parse(mr_buf_str(&buf), &again) == 0);
        MR_ASSERT(strcmp(choice.file, again.file) == 0 && choice.ubatch == again.ubatch);
        mr_buf_done(&buf);
    }
    mr_arena_done(&arena);
    return 0;
}
