/* SPDX-License-Identifier: Apache-2.0 */
/* The trees over free states against a list that is searched from end to end. */
#include "core_test.h"

#define ENTRIES 300u

static struct core_free_state key_at(struct mr_prng *prng)
{
    return (struct core_free_state){.cpu_milli = 10 * (uint32_t)mr_prng_below(prng, 40),
                                    .mem_mib = (uint32_t)mr_prng_below(prng, 60),
                                    .part = (uint16_t)mr_prng_below(prng, 50)};
}

static uint32_t best_of_list(const struct mr_core *core, const bool *in, uint64_t cpu, uint64_t mem,
                             uint32_t part)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i <= ENTRIES; i++) {
        const struct core_free_state *s = core_free_state(core, i);
        if (!in[i] || s->cpu_milli < cpu || s->mem_mib < mem || s->part < part) continue;
        const struct core_free_state *b = core_free_state(core, best);
        if (best == 0 || s->cpu_milli < b->cpu_milli ||
            (s->cpu_milli == b->cpu_milli &&
             (s->mem_mib < b->mem_mib || (s->mem_mib == b->mem_mib && s->part < b->part)))) {
            best = i;
        }
    }
    return best;
}

static void the_tree_finds_what_a_search_of_all_finds(void **state)
{
    (void)state;
    struct mr_core_limits limits = tiny_limits;
    limits.nodes = ENTRIES + 10;
    struct cloud c;
    cloud_init(&c, &limits);
    struct mr_prng prng;
    mr_prng_init(&prng, 99);
    static bool in[ENTRIES + 1];
    uint32_t root[2] = {0, 0}, count = 0;
    for (uint32_t i = 1; i <= ENTRIES; i++) {
        assert_int_equal(core_slot_take(c.core, CORE_STATES), i);
    }
    for (uint32_t round = 0; round < 20000; round++) {
        uint32_t i = 1 + (uint32_t)mr_prng_below(&prng, ENTRIES);
        struct core_free_state *s = core_free_state(c.core, i);
        if (in[i]) {
            core_tree_remove(c.core, &root[0], 0, i);
            core_tree_remove(c.core, &root[1], 1, i);
            in[i] = false;
            count--;
        } else {
            struct core_free_state key = key_at(&prng);
            if (core_tree_find(c.core, root[0], 0, &key) != 0) continue;
            *s = key;
            core_tree_insert(c.core, &root[0], 0, i);
            core_tree_insert(c.core, &root[1], 1, i);
            in[i] = true;
            count++;
        }
        uint64_t cpu = mr_prng_below(&prng, 410), mem = mr_prng_below(&prng, 62);
        uint32_t part = (uint32_t)mr_prng_below(&prng, 52);
        assert_int_equal(core_tree_best(c.core, root[0], 0, cpu, mem, 0),
                         best_of_list(c.core, in, cpu, mem, 0));
        assert_int_equal(core_tree_best(c.core, root[1], 1, cpu, mem, part),
                         best_of_list(c.core, in, cpu, mem, part));
        if (round % 100 != 0) continue;
        struct core_tree_walk walk;
        core_tree_walk_start(c.core, &walk, root[0], 0);
        uint32_t walked = 0, last = 0, at;
        while ((at = core_tree_walk_next(c.core, &walk)) != 0) {
            assert_true(in[at]);
            assert_true(last == 0 || core_free_state(c.core, last)->cpu_milli <=
                                         core_free_state(c.core, at)->cpu_milli);
            last = at;
            walked++;
        }
        assert_int_equal(walked, count);
    }
    cloud_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tree_finds_what_a_search_of_all_finds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
