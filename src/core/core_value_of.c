/* SPDX-License-Identifier: Apache-2.0 */
/* The value of free amounts: what of the node's sampled futures they could still host.
 *
 * Owns:       the cache of values.
 * Invariants: (1) equal amounts in equal futures have equal values, cached or not.
 * Never:      I/O, clock, allocation, recursion, float.
 * Cost:       O(1) when cached; else O(futures * draws in the horizon): a few microseconds.
 * Idea:       docs/internals/placement.md   Tests: tests/unit/core/test_core_value.c
 */
#include "core_value.h"

#define HORIZON_MILLI 4000u

void core_fit_free_of(const struct mr_core *core, uint32_t node, struct core_fit_free *ret)
{
    const struct core_node *n = core_node(core, node);
    const struct core_free_state *s = core_free_state(core, n->free_state);
    ret->cpu_milli = s->cpu_milli;
    ret->mem_mib = s->mem_mib;
    ret->whole = s->whole;
    ret->parts_hash = s->parts;
    ret->part_count = 0;
    for (uint32_t i = 0; i < n->accel_count; i++) {
        int16_t free = n->device_free[i];
        if (free > 0 && free < CORE_WHOLE) ret->parts[ret->part_count++] = (uint16_t)free;
    }
}

/* Takes one of the kind, a share from the fullest device that has it. */
static inline bool pack(struct core_fit_free *left, const struct core_fit_kind *kind)
{
    if (kind->cpu_milli > left->cpu_milli || kind->mem_mib > left->mem_mib) return false;
    uint32_t milli = kind->accel_milli;
    if (milli >= CORE_WHOLE) {
        uint32_t devices = milli / CORE_WHOLE;
        if (devices > left->whole) return false;
        left->whole -= devices;
    } else if (milli > 0) {
        uint32_t best = UINT32_MAX, least = UINT32_MAX;
        for (uint32_t i = 0; i < left->part_count; i++) {
            if (left->parts[i] < milli || left->parts[i] >= least) continue;
            least = left->parts[i];
            best = i;
        }
        if (best != UINT32_MAX) {
            left->parts[best] = (uint16_t)(least - milli);
        } else {
            if (left->whole == 0) return false;
            left->whole--;
            left->parts[left->part_count++] = (uint16_t)(CORE_WHOLE - milli);
        }
    }
    left->cpu_milli -= kind->cpu_milli;
    left->mem_mib -= kind->mem_mib;
    return true;
}

static uint64_t hosted(const struct mr_core *core, const struct core_fit_future *future, uint32_t k,
                       uint32_t horizon, struct core_fit_free *left)
{
    const struct core_fit_kind *kinds = core_fit_kind(core, 0);
    uint32_t prefix = 8, first = 0;
    uint64_t worth = 0;
    while (prefix < horizon) {
        first += prefix;
        prefix *= 2;
    }
    const uint16_t *rank = &future->rank[k][first];
    const uint8_t *at = &future->at[k][first];
    for (uint32_t i = 0; i < prefix; i++) {
        if (at[i] >= horizon) continue;
        const struct core_fit_kind *kind = &kinds[rank[i]];
        if (pack(left, kind)) worth += kind->worth;
    }
    return worth;
}

static uint32_t value_compute(const struct mr_core *core, uint32_t class_of,
                              const struct core_fit_free *free)
{
    const struct core_fit_class *c = core_fit_class(core, class_of);
    uint64_t milli = (uint64_t)free->whole * CORE_WHOLE;
    if (c->mean_q8 == 0) return 0;
    for (uint32_t i = 0; i < free->part_count; i++) {
        milli += free->parts[i];
    }
    uint64_t share = ((milli * c->pressure_q16) >> 16) + HORIZON_MILLI;
    uint64_t draws_q6 = share * 64 * 256 / c->mean_q8;
    const struct core_fit_future *future = core_fit_future(core, class_of);
    uint64_t worth = 0;
    for (uint32_t k = 0; k < CORE_FIT_FUTURES_K; k++) {
        uint64_t horizon = MR_MIN((draws_q6 + 2 * k + 1) >> 6, (uint64_t)CORE_FIT_DRAWS);
        struct core_fit_free left;
        memcpy(&left, free, offsetof(struct core_fit_free, parts));
        memcpy(left.parts, free->parts, free->part_count * sizeof left.parts[0]);
        worth += hosted(core, future, k, (uint32_t)horizon, &left);
    }
    return (uint32_t)MR_MIN(worth, (uint64_t)UINT32_MAX);
}

uint32_t core_value_of(struct mr_core *core, uint32_t class_of, const struct core_fit_free *free)
{
    uint64_t key = mr_hash_mix((uint64_t)free->cpu_milli << 32 | free->mem_mib);
    key = mr_hash_mix(key ^ free->parts_hash) + ((uint64_t)class_of << 8 | free->whole);
    key = mr_hash_mix(key);
    uint32_t mask = core->tables[CORE_FIT_VALUES].capacity - 1;
    struct core_fit_value *cached = core_item(core, CORE_FIT_VALUES, (uint32_t)key & mask);
    if (cached->epoch == core->fit_epoch && cached->key == key) return cached->value;
    uint32_t value = value_compute(core, class_of, free);
    *cached = (struct core_fit_value){.key = key, .epoch = core->fit_epoch, .value = value};
    return value;
}
