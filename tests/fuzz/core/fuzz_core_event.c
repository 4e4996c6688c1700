/* SPDX-License-Identifier: Apache-2.0 */
/* Stored events: any bytes are refused or read, and what was read is written back as it was.
 *
 * Thread: one.
 * Fails:  by assertion.
 * Ends:   nothing outlives a call.
 */
#include "core/core.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_event event;
    struct mr_str bytes = {(const char *)data, size};
    if (mr_event_get(bytes, &event) != 0) return 0;
    struct mr_buf again;
    mr_buf_init(&again, 4096);
    mr_event_put(&again, &event);
    MR_ASSERT(!again.failed);
    MR_ASSERT(mr_str_equal(mr_buf_str(&again), bytes));
    MR_ASSERT(mr_event_name(event.kind) != NULL);
    mr_buf_done(&again);
    return 0;
}
