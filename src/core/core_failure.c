/* SPDX-License-Identifier: Apache-2.0 */
/* Suspects: nodes that failed again and again come back as draining and take nothing new.
 *
 * A node that went down three times, each within a week of the one before, is a suspect when it is
 * said to be up again: it drains instead, until someone says once more that it is up, or describes
 * it anew. At most one node in fifty is kept out so; in a smaller fleet none is.
 *
 * Owns:       each node's count of failures, and whether it is a suspect.
 * Invariants: (1) a suspect drains; (2) suspects are counted.
 * Never:      I/O, clock, allocation, recursion.
 * Cost:       O(1).
 * Idea:       docs/internals/core.md; Kokolis et al. (lemon nodes), HPCA 2025
 *             Tests: tests/unit/core/test_core_failure.c
 */
#include "core_int.h"

#define HOUR_US (3600ull * 1000000ull)

static void clear(struct mr_core *core, struct core_node *n)
{
    if (!n->suspect) return;
    MR_INVARIANT(1, n->state == MR_NODE_DRAINING);
    MR_INVARIANT(2, core->suspects > 0);
    n->suspect = 0;
    core->suspects--;
}

void core_failure_forget(struct mr_core *core, uint32_t node)
{
    struct core_node *n = core_node(core, node);
    clear(core, n);
    n->failures = 0;
}

/* The hour as 16 bits: differences are right for seven years, and older ones do not matter. */
static uint16_t hour_of(uint64_t time_us)
{
    return (uint16_t)(time_us / HOUR_US);
}

static void failure_note(struct mr_core *core, struct core_node *n)
{
    uint16_t hour = hour_of(core->now_us);
    if ((uint16_t)(hour - n->failed_hour) >= CORE_SUSPECT_HOURS) n->failures = 0;
    if (n->failures < CORE_SUSPECT_FAILURES) n->failures++;
    n->failed_hour = hour;
}

static bool suspected(const struct mr_core *core, const struct core_node *n)
{
    uint16_t since = (uint16_t)(hour_of(core->now_us) - n->failed_hour);
    if (n->failures < CORE_SUSPECT_FAILURES || since >= CORE_SUSPECT_HOURS) return false;
    uint64_t kept_out = ((uint64_t)core->suspects + 1) * CORE_SUSPECT_ONE_IN;
    return kept_out <= core->tables[CORE_NODES].live;
}

enum mr_node_state core_failure_state(struct mr_core *core, uint32_t node, enum mr_node_state state)
{
    struct core_node *n = core_node(core, node);
    MR_ASSERT(n->state != MR_NODE_ABSENT);
    if (state == MR_NODE_ABSENT || (state == MR_NODE_UP && n->suspect)) {
        core_failure_forget(core, node);
    } else if (state == MR_NODE_DOWN) {
        if (n->state != MR_NODE_DOWN) failure_note(core, n);
        clear(core, n);
    } else if (state == MR_NODE_UP && n->state == MR_NODE_DOWN && suspected(core, n)) {
        core_trace(core, "node %u is suspect: it failed %u times, each within %u hours of the last",
                   node, CORE_SUSPECT_FAILURES, CORE_SUSPECT_HOURS);
        n->suspect = 1;
        core->suspects++;
        return MR_NODE_DRAINING;
    }
    return state;
}
