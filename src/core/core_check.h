/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/core: what the two halves of mr_core_check share. */
#ifndef MR_CORE_CHECK_H
#define MR_CORE_CHECK_H

#include "core_int.h"

struct core_check {
    const struct mr_core *core;
    const char *text; /* of the first invariant that does not hold */
};

bool core_check_holds(struct core_check *check, bool condition, const char *text);
bool core_check_index(struct core_check *check, enum core_table_kind kind, uint32_t i);
void core_check_work_range(struct core_check *check);
void core_check_work(struct core_check *check);

void core_check_fit(struct core_check *check);           /* core_check_fit.c */
void core_check_reserve_range(struct core_check *check); /* core_check_reserve.c */
void core_check_reserve(struct core_check *check);

#endif
