/* SPDX-License-Identifier: Apache-2.0 */
/* Workload files: any text is refused with a word, or becomes one whole JSON document.
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
    struct mr_buf json, problem;
    mr_buf_init(&json, (size_t)16 * 1024 * 1024);
    mr_buf_init(&problem, 65536);
    int error = cmd_yaml_to_json((struct mr_str){(const char *)data, size}, &json, &problem);
    if (error == 0) {
        yyjson_doc *doc = yyjson_read((const char *)json.p, json.n, 0);
        MR_ASSERT(doc != NULL);
        yyjson_doc_free(doc);
    } else {
        MR_ASSERT(error == MR_ETOO_LARGE || problem.n > 0);
    }
    mr_buf_done(&json);
    mr_buf_done(&problem);
    return 0;
}
