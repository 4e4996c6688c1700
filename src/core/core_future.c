/* SPDX-License-Identifier: Apache-2.0 */
/* Futures: for each class of nodes a few fixed samples of the work that is its fair share.
 *
 * A shape's arrivals are spread evenly over the devices of all nodes that take it when empty (a
 * shape without devices over their vCPUs), so a class gets more of what few others can take. The
 * draws are stratified over the samples at each position; equal shapes, weights and fleets give
 * equal futures.
 *
 * Owns:       kinds, futures, pressures and means.
 * Invariants: (1) kinds descend in devices, then ascend in vCPUs; (2) a draw fits its empty node.
 * Never:      I/O, clock, allocation, recursion, float.
 * Cost:       O(classes * (shapes + draws * log shapes)): a few ms for 15 classes.
 * Idea:       docs/internals/placement.md   Tests: tests/unit/core/test_core_value.c
 */
#include "core_value.h"

static int kind_compare(const struct core_fit_kind *a, const struct core_fit_kind *b)
{
    if (a->accel_milli != b->accel_milli) return a->accel_milli > b->accel_milli ? -1 : 1;
    if (a->cpu_milli != b->cpu_milli) return a->cpu_milli < b->cpu_milli ? -1 : 1;
    if (a->mem_mib != b->mem_mib) return a->mem_mib < b->mem_mib ? -1 : 1;
    if (a->types != b->types) return a->types < b->types ? -1 : 1;
    return 0;
}

static void kinds_sort(struct mr_core *core, uint32_t count)
{
    static const uint32_t gaps[] = {1750, 701, 301, 132, 57, 23, 10, 4, 1};
    for (size_t g = 0; g < MR_COUNT_OF(gaps); g++) {
        for (uint32_t i = gaps[g]; i < count; i++) {
            struct core_fit_kind moved = *core_fit_kind(core, i + 1);
            uint32_t at = i;
            while (at >= gaps[g] &&
                   kind_compare(&moved, core_fit_kind(core, at - gaps[g] + 1)) < 0) {
                *core_fit_kind(core, at + 1) = *core_fit_kind(core, at - gaps[g] + 1);
                at -= gaps[g];
            }
            *core_fit_kind(core, at + 1) = moved;
        }
    }
}

bool core_fit_holds(const struct core_fit_class *c, uint32_t cpu_milli, uint32_t mem_mib,
                    uint32_t accel_milli, uint32_t types)
{
    if (cpu_milli > c->cpu_milli || mem_mib > c->mem_mib) return false;
    if (accel_milli == 0) return true;
    if (((types >> c->accel_type) & 1u) == 0) return false;
    return accel_milli <= c->accel_count * (uint32_t)CORE_WHOLE;
}

static bool kind_fits(const struct core_fit_class *c, const struct core_fit_kind *kind)
{
    return core_fit_holds(c, kind->cpu_milli, kind->mem_mib, kind->accel_milli, kind->types);
}

/* Scarce shapes are worth more: 1.4 times their devices when hardly any node takes them. */
static void kind_weigh(struct mr_core *core, struct core_fit_kind *kind, uint64_t bare_cpu)
{
    uint64_t devices = core->accel_milli / CORE_WHOLE;
    kind->supply = kind->accel_milli == 0 ? bare_cpu : 0;
    for (uint32_t i = 1; i < core->tables[CORE_FIT_CLASSES].used; i++) {
        const struct core_fit_class *c = core_fit_class(core, i);
        if (!kind_fits(c, kind)) continue;
        uint64_t each = kind->accel_milli == 0 ? c->cpu_milli : c->accel_count;
        kind->supply += each * c->up;
    }
    uint64_t milli = (uint64_t)kind->accel_milli * CORE_FIT_WORTH;
    uint64_t scarce = 1400 * devices - 400 * MR_MIN(kind->supply, devices);
    uint64_t worth = mr_mul_div_u64(milli, scarce, 1000 * devices);
    if (kind->accel_milli == 0) worth = (uint64_t)kind->cpu_milli * 5 * CORE_FIT_WORTH / 1000;
    kind->worth = (uint32_t)worth;
}

static void kinds_build(struct mr_core *core)
{
    struct core_table *table = &core->tables[CORE_FIT_KINDS];
    uint32_t count = 0;
    memset(core_item(core, CORE_FIT_KINDS, 0), 0, (size_t)table->used * table->item_bytes);
    for (uint32_t i = 1; i < core->tables[CORE_FIT_SHAPES].used; i++) {
        const struct core_fit_shape *s = core_fit_shape(core, i);
        if (s->weight == 0) continue;
        *core_fit_kind(core, ++count) = (struct core_fit_kind){.cpu_milli = s->cpu_milli,
                                                               .mem_mib = s->mem_mib,
                                                               .accel_milli = s->accel_milli,
                                                               .types = s->types,
                                                               .weight = s->weight};
    }
    table->used = count + 1;
    table->live = count;
    kinds_sort(core, count);
    uint64_t bare_cpu = core->cpu_milli;
    for (uint32_t i = 1; i < core->tables[CORE_FIT_CLASSES].used; i++) {
        const struct core_fit_class *c = core_fit_class(core, i);
        bare_cpu -= MR_MIN((uint64_t)c->cpu_milli * c->up, bare_cpu);
    }
    for (uint32_t i = 1; i <= count; i++) {
        kind_weigh(core, core_fit_kind(core, i), bare_cpu);
    }
}

/* --- draws ----------------------------------------------------------------------------------- */

static uint64_t *running_sum(const struct mr_core *core, uint32_t i)
{
    return core_item(core, CORE_FIT_SUMS, i);
}

/* Arrivals for each device of the class: pure vCPU work is counted one and a half times. */
static uint64_t rate_of(const struct core_fit_class *c, const struct core_fit_kind *kind)
{
    if (!kind_fits(c, kind) || kind->supply == 0) return 0;
    uint64_t weight = (uint64_t)kind->weight << 24;
    if (kind->accel_milli > 0) return weight / kind->supply;
    return mr_mul_div_u64(weight + weight / 2, c->cpu_milli, kind->supply * c->accel_count);
}

static uint16_t draw(const struct mr_core *core, uint64_t point)
{
    uint32_t low = 1, high = core_fit_kinds(core);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (*running_sum(core, middle) > point)
            high = middle;
        else
            low = middle + 1;
    }
    return (uint16_t)low;
}

/* Each of the prefixes largest first: from the longest the shorter ones follow. */
static void order_put(struct core_fit_future *future, uint32_t k, const uint16_t *ranks)
{
    uint8_t order[CORE_FIT_DRAWS];
    for (uint32_t i = 0; i < CORE_FIT_DRAWS; i++) {
        uint32_t at = i;
        for (; at > 0 && ranks[order[at - 1]] > ranks[i]; at--) {
            order[at] = order[at - 1];
        }
        order[at] = (uint8_t)i;
    }
    uint32_t put = 0;
    for (uint32_t prefix = 8; prefix <= CORE_FIT_DRAWS; prefix *= 2) {
        for (uint32_t i = 0; i < CORE_FIT_DRAWS; i++) {
            if (order[i] >= prefix) continue;
            future->rank[k][put] = ranks[order[i]];
            future->at[k][put++] = order[i];
        }
    }
    MR_ASSERT(put == CORE_FIT_ORDER);
}

static void future_draw(struct mr_core *core, uint32_t class_of, uint64_t sum)
{
    uint16_t ranks[CORE_FIT_FUTURES_K][CORE_FIT_DRAWS];
    const struct core_fit_class *c = core_fit_class(core, class_of);
    struct mr_prng prng;
    mr_prng_init(&prng, mr_hash_mix(((uint64_t)c->cpu_milli << 32 | c->mem_mib) +
                                    c->accel_type * 256u + c->accel_count));
    for (uint32_t i = 0; i < CORE_FIT_DRAWS; i++) {
        uint32_t strata[CORE_FIT_FUTURES_K];
        for (uint32_t k = 0; k < CORE_FIT_FUTURES_K; k++) {
            uint32_t other = (uint32_t)mr_prng_below(&prng, k + 1);
            strata[k] = strata[other];
            strata[other] = k;
        }
        for (uint32_t k = 0; k < CORE_FIT_FUTURES_K; k++) {
            uint64_t point = ((uint64_t)strata[k] << 27) + (mr_prng_next(&prng) >> 37);
            ranks[k][i] = draw(core, mr_mul_div_u64(sum, point, (uint64_t)1 << 32));
        }
    }
    for (uint32_t k = 0; k < CORE_FIT_FUTURES_K; k++) {
        order_put(core_fit_future(core, class_of), k, ranks[k]);
    }
}

static void class_build(struct mr_core *core, uint32_t class_of, uint64_t asked)
{
    struct core_fit_class *c = core_fit_class(core, class_of);
    uint64_t sum = 0, milli = 0;
    for (uint32_t i = 1; i <= core_fit_kinds(core); i++) {
        const struct core_fit_kind *kind = core_fit_kind(core, i);
        uint64_t rate = rate_of(c, kind);
        sum += rate;
        milli += rate * kind->accel_milli;
        *running_sum(core, i) = sum;
    }
    c->mean_q8 = 0;
    c->pressure_q16 = 0;
    if (sum == 0 || asked == 0) return;
    c->mean_q8 = (uint32_t)MR_MIN(mr_mul_div_u64(milli, 256, sum), (uint64_t)UINT32_MAX);
    c->pressure_q16 = (uint32_t)MR_MIN(mr_mul_div_u64(milli, 65536, asked), (uint64_t)16 << 16);
    if (c->mean_q8 > 0) future_draw(core, class_of, sum);
}

void core_future_build(struct mr_core *core)
{
    uint64_t asked = 0;
    uint64_t devices = MR_MAX(core->accel_milli / CORE_WHOLE, (uint64_t)1);
    kinds_build(core);
    for (uint32_t i = 1; i <= core_fit_kinds(core); i++) {
        const struct core_fit_kind *kind = core_fit_kind(core, i);
        asked += (((uint64_t)kind->weight * kind->accel_milli) << 24) / devices;
    }
    for (uint32_t i = 1; i < core->tables[CORE_FIT_CLASSES].used; i++) {
        class_build(core, i, asked);
    }
    core->fit_epoch++;
    core_trace(core, "futures %u drawn from %u shapes", core->fit_epoch, core_fit_kinds(core));
}
