/* SPDX-License-Identifier: Apache-2.0 */
/* Placeholder until its commit. */
#include "core_int.h"
bool core_room_make(struct mr_core *core, uint32_t workload, const struct core_request *request)
{
    (void)core, (void)workload, (void)request;
    return false;
}
bool core_room_resize(struct mr_core *core, uint32_t workload, uint32_t tasks_min,
                      uint32_t tasks_max)
{
    (void)core, (void)workload, (void)tasks_min, (void)tasks_max;
    return false;
}
void core_victim_join(struct mr_core *core, uint32_t workload) { (void)core, (void)workload; }
void core_victim_leave(struct mr_core *core, uint32_t workload) { (void)core, (void)workload; }
