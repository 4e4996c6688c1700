/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox's document, which a stranger may have written: taken with everything within its
 * limits, or refused with words.
 */
#include "sandbox_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sandbox_spec spec;
    struct mr_arena arena;
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    if (size > 65536) return 0;
    mr_buf_init(&problem, 4096);
    mr_arena_init(&arena, (size_t)16 << 20);
    int error =
        sandbox_spec_parse((struct mr_str){(const char *)data, size}, &arena, &spec, &problem);
    if (error == 0) {
        MR_INVARIANT(1, spec.argv[0] != NULL && spec.argv[0][0] != 0);
        MR_ASSERT(spec.time_s >= 1 && spec.time_s <= SANDBOX_TIME_S_MAX);
        MR_ASSERT(spec.processes >= 1 && spec.processes <= SANDBOX_PROCESSES_MAX);
        MR_ASSERT(spec.memory_bytes >= (uint64_t)SANDBOX_MEMORY_MIB_MIN << 20);
        MR_ASSERT(spec.output_bytes <= SANDBOX_OUTPUT_BYTES_MAX);
        for (size_t i = 0; i < spec.file_count; i++)
            MR_ASSERT(sandbox_name_safe(spec.files[i].name));
        for (size_t i = 0; i < spec.output_count; i++)
            MR_ASSERT(sandbox_name_safe(spec.outputs[i]));
    } else {
        MR_ASSERT(problem.n > 0);
    }
    mr_arena_done(&arena);
    return 0;
}
