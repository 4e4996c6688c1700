/* SPDX-License-Identifier: Apache-2.0 */
/* Verifies what placement by value keeps: classes, shapes, kinds and futures.
 *
 * Owns:       nothing.
 * Invariants: the text of each stands where it is verified.
 * Never:      I/O, clock, allocation, recursion; asserts: a damaged block is an error.
 * Cost:       O(classes * draws + shapes + nodes).
 * Tests:      tests/unit/core/test_core_value.c damages blocks
 */
#include "core_check.h"
#include "core_value.h"

static bool future_sound(const struct mr_core *core, uint32_t class_of)
{
    const struct core_fit_future *f = core_fit_future(core, class_of);
    for (uint32_t k = 0; k < CORE_FIT_FUTURES_K; k++) {
        for (uint32_t i = 0; i < CORE_FIT_ORDER; i++) {
            if (f->rank[k][i] == 0 || f->rank[k][i] > core_fit_kinds(core)) return false;
            if (f->at[k][i] >= CORE_FIT_DRAWS) return false;
        }
    }
    return true;
}

static void shapes_check(struct core_check *check)
{
    const struct mr_core *core = check->core;
    const struct core_table *table = &core->tables[CORE_FIT_SHAPES];
    uint32_t found = 0;
    for (uint32_t b = 0; b < core->tables[CORE_FIT_BUCKETS].capacity; b++) {
        uint32_t slot = *core_bucket(core, CORE_FIT_BUCKETS, b);
        for (; slot != 0 && found <= table->live; found++) {
            if (!core_check_index(check, CORE_FIT_SHAPES, slot)) return;
            slot = core_fit_shape(core, slot)->hash_next;
        }
    }
    core_check_holds(check, found == table->live, "(20) every shape is found by its demand");
    core_check_holds(check, core->fit_hand < table->used || core->fit_hand == 0,
                     "(1) every index lies in the used part of its table");
}

void core_check_fit(struct core_check *check)
{
    const struct mr_core *core = check->core;
    uint32_t classes = core->tables[CORE_FIT_CLASSES].used;
    uint64_t up = 0;
    if (!core_check_holds(check, core->tables[CORE_FIT_FUTURES].used == classes,
                          "(21) every class has its futures")) {
        return;
    }
    for (uint32_t i = 1; i < classes; i++) {
        const struct core_fit_class *c = core_fit_class(core, i);
        up += mr_hash_mix(i) * c->up;
        bool sound = c->accel_count > 0 && c->accel_count <= MR_DEVICES_PER_NODE_MAX &&
                     c->accel_type < MR_ACCEL_TYPES_MAX && c->pressure_q16 <= 16u << 16;
        core_check_holds(check, sound, "(1) a class's fields are within their bounds");
        if (c->mean_q8 == 0) continue;
        core_check_holds(check, future_sound(core, i), "(21) a future draws from the kinds");
    }
    for (uint32_t i = 1; i < core->tables[CORE_NODES].used; i++) {
        const struct core_node *n = core_node(core, i);
        if (n->fit_class == 0) continue;
        if (!core_check_index(check, CORE_FIT_CLASSES, n->fit_class)) return;
        up -= mr_hash_mix(n->fit_class);
        core_check_holds(check, n->state == MR_NODE_UP, "(22) only nodes that are up have a class");
    }
    core_check_holds(check, up == 0, "(22) a class counts its nodes");
    shapes_check(check);
}
