/* SPDX-License-Identifier: Apache-2.0 */
/* Tables: any text is refused with a word, or gives fields that lie within it.
 *
 * Thread: one.
 * Fails:  by assertion.
 * Ends:   nothing outlives a call.
 */
#include "sim/sim_csv_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_buf problem;
    struct sim_csv csv;
    const struct mr_sim_file file = {MR_STR("f"), {(const char *)data, size}};
    mr_buf_init(&problem, 4096);
    int error = sim_csv_open(&csv, &file, ',', &problem);
    while (error == 0 && (error = sim_csv_next(&csv)) == 0) {
        for (uint32_t i = 0; i < csv.column_count; i++) {
            uint64_t value;
            if (csv.fields[i].n > 0) {
                MR_ASSERT(csv.fields[i].p >= file.text.p);
                MR_ASSERT(csv.fields[i].p + csv.fields[i].n <= file.text.p + size);
            }
            if (sim_csv_number(&csv, i, 3, 1000, &value) == 0) MR_ASSERT(value <= 1000);
        }
    }
    MR_ASSERT(error == MR_ENOT_FOUND || (error == MR_ESYNTAX && problem.n > 0));
    mr_buf_done(&problem);
    return 0;
}
