/* SPDX-License-Identifier: Apache-2.0 */
/* #SBATCH scripts: refused with the line's number, or one whole document that holds the script.
 *
 * Thread: one.
 * Fails:  by assertion.
 * Ends:   nothing outlives a call.
 */
#include <yyjson.h>

#include "../../../cmd/cmd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct mr_str text = {(const char *)data, size};
    struct mr_buf json, problem;
    if (!cmd_sbatch_is(text)) return 0;
    mr_buf_init(&json, (size_t)16 * 1024 * 1024);
    mr_buf_init(&problem, 65536);
    if (cmd_sbatch_to_json(text, "script", &json, &problem) == 0) {
        yyjson_doc *doc = yyjson_read((const char *)json.p, json.n, 0);
        yyjson_val *root = yyjson_doc_get_root(doc);
        MR_ASSERT(root != NULL);
        MR_ASSERT(yyjson_get_uint(yyjson_obj_get(root, "num_tasks")) > 0);
        MR_ASSERT(yyjson_arr_size(yyjson_obj_get(root, "command")) >= 2);
        yyjson_doc_free(doc);
    } else {
        MR_ASSERT(problem.n > 0);
    }
    mr_buf_done(&json);
    mr_buf_done(&problem);
    return 0;
}
