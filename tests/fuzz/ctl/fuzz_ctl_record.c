/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a journal record: refused, or written back as the same bytes. */
#include "ctl/ctl_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct mr_str text = {(const char *)bytes, n};
    struct ctl_record record;
    int error = ctl_record_get(text, &record);
    MR_ASSERT((error == 0) == (mr_ctl_record_check(text) == 0));
    if (error != 0) return 0;
    struct mr_buf again;
    mr_buf_init(&again, SIZE_MAX);
    ctl_record_put(&again, &record);
    MR_ASSERT(!again.failed);
    MR_ASSERT(mr_str_equal(mr_buf_str(&again), text));
    mr_buf_done(&again);
    return 0;
}
