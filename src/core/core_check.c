/* SPDX-License-Identifier: Apache-2.0 */
/* Placeholder until its commit. */
#include "core_int.h"
int mr_core_check(const struct mr_core *core, const char **ret_text)
{
    *ret_text = "";
    return core->now_us == UINT64_MAX ? MR_ECORRUPT : 0;
}
