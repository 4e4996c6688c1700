/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of forecasts share: a small cloud, what was learned of it, room to compute in.
 *
 * Included by one test file each; everything in it is static.
 */
#ifndef MR_FORECAST_TEST_H
#define MR_FORECAST_TEST_H

#include "../core/core_test.h"
#include "forecast/forecast_int.h"

static struct cloud c;
static struct mr_forecast_learned learned;
static void *scratch;
static size_t scratch_bytes;

/* One tenant, so many nodes of four vCPUs, nothing learned yet. */
static inline void world_init(uint32_t nodes, size_t bytes)
{
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    for (uint32_t i = 1; i <= nodes; i++) {
        node_set(&c, i, 4);
    }
    memset(&learned, 0, sizeof learned);
    scratch_bytes = bytes;
    scratch = aligned_alloc(64, (scratch_bytes + 63) & ~(size_t)63);
    assert_non_null(scratch);
}

static inline int teardown(void **state)
{
    (void)state;
    free(scratch);
    cloud_done(&c);
    return 0;
}

/* The tenant is known to keep its estimates. */
static inline void punctual(void)
{
    struct mr_workload_info info = {
        .tenant = {1}, .kind = MR_KIND_JOB, .run = 1, .estimate_us = HOUR, .ran_us = HOUR};
    for (uint32_t i = 0; i < 2000; i++) {
        mr_forecast_ended(&learned, &info);
    }
}

static inline struct mr_event estimated(uint32_t tasks, uint64_t estimate_us)
{
    struct mr_event event = job(tasks, 1000);
    event.u.submit.estimate_us = estimate_us;
    return event;
}

static inline uint64_t submitted(uint32_t tasks, uint64_t estimate_us)
{
    return submit(&c, estimated(tasks, estimate_us));
}

#endif
