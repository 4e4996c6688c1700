/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a fleet document and, behind a zero byte, a table of types: refused with a place, or
 * a fleet whose numbers agree.
 *
 * Thread: one.
 * Fails:  by assertion.
 * Ends:   nothing outlives a call.
 */
#include <string.h>

#include "sim/sim_fleet_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *zero = size > 0 ? memchr(text, 0, size) : NULL;
    size_t n = zero != NULL ? (size_t)(zero - text) : size;
    const struct mr_sim_file json = {MR_STR("f"), {text, n}};
    const struct mr_sim_file table = {
        MR_STR("c"), {zero != NULL ? zero + 1 : NULL, zero != NULL ? size - n - 1 : 0}};
    struct mr_buf problem, out;
    struct mr_sim_fleet *fleet;
    mr_buf_init(&problem, 4096);
    int error = mr_sim_fleet_read(&json, &table, &fleet, &problem);
    MR_ASSERT(error == 0 || (error == MR_ESYNTAX && problem.n > 0));
    if (error == 0) {
        uint64_t nodes = 0;
        for (uint32_t i = 0; i < fleet->line_count; i++)
            nodes += fleet->lines[i].nodes;
        MR_ASSERT(nodes == fleet->node_count && nodes > 0 && nodes <= SIM_FLEET_NODES_MAX);
        mr_buf_init(&out, (size_t)16 * 1024 * 1024);
        mr_sim_fleet_put_json(fleet, &out);
        mr_sim_fleet_put_text(fleet, &out);
        mr_buf_done(&out);
        mr_sim_fleet_free(fleet);
    }
    mr_buf_done(&problem);
    return 0;
}
