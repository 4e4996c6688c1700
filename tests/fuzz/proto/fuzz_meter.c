/* SPDX-License-Identifier: Apache-2.0 */
/* Slots of a meter file: any 64 bytes are a record or none, and a record is written as it was read.
 *
 * Thread: one.   Fails: with a trap.   Ends: nothing outlives a call.
 */
#include "proto/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t slot[MR_METER_RECORD_BYTES] = {0}, again[MR_METER_RECORD_BYTES];
    memcpy(slot, data, MR_MIN(size, sizeof(slot)));
    struct mr_meter_record record, got;
    if (mr_meter_decode(slot, &record)) {
        MR_ASSERT(record.state == MR_METER_RUNNING || record.state == MR_METER_ENDED);
        MR_ASSERT(record.serial != 0);
        mr_meter_encode(&record, again);
        MR_ASSERT(mr_meter_decode(again, &got));
        MR_ASSERT(got.serial == record.serial && got.tenant == record.tenant);
        size_t half_n = sizeof(slot) / 2;
        MR_ASSERT(memcmp(again, slot, half_n) == 0 || memcmp(again, slot + half_n, half_n) == 0);
    }
    /* The input as a record: what a worker would write is read back. */
    if (size >= 29) {
        struct mr_reader reader = mr_reader_from((struct mr_str){(const char *)data, size});
        record = (struct mr_meter_record){
            .state = mr_read_u8(&reader) % 2 ? MR_METER_RUNNING : MR_METER_ENDED,
            .serial = mr_read_u64(&reader) | 1,
            .tenant = mr_read_u32(&reader),
            .usage = {.completion_tokens = mr_read_u32(&reader)},
        };
        record.usage.prompt_tokens = mr_read_u32(&reader);
        record.usage.cached_tokens = record.usage.prompt_tokens / 2;
        mr_meter_encode(&record, slot); /* over whatever was there */
        MR_ASSERT(mr_meter_decode(slot, &got));
        MR_ASSERT(got.state == record.state && got.serial == record.serial);
        MR_ASSERT(memcmp(&got.usage, &record.usage, sizeof(got.usage)) == 0);
    }
    return 0;
}
