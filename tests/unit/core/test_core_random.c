/* SPDX-License-Identifier: Apache-2.0 */
/* Properties over random event streams, every invariant verified after every step.
 *
 * Seeds 1 … SEEDS; MR_SEED and MR_STEPS in the environment choose one and its length.
 */
#include "core_random.h"

#define SEEDS 60u
#define STEPS 1500u

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t value = otherwise;
    if (text != NULL) (void)mr_str_to_u64(mr_str_from(text), &value);
    return value;
}

static void step_at(struct cloud *c, const struct mr_event *event)
{
    c->now_us = event->time_us;
    cloud_step(c, *event);
}

static int64_t bill_sum(const struct cloud *c)
{
    int64_t sum = 0;
    uint64_t cursor = 0;
    struct mr_bill_line line;
    while (mr_core_bill_next(c->core, mr_core_now_us(c->core), &cursor, &line) == 0) {
        if (!line.accrued) sum += line.charge_nusd;
    }
    return sum;
}

/* The head of a class waits only for what is missing. */
static void nothing_waits_that_could_start(const struct cloud *c)
{
    if (c->core->hold_due_us <= c->now_us) return; /* holds are made anew, then they are tried */
    for (uint32_t i = 1; i < c->core->tables[CORE_CLASSES].used; i++) {
        const struct core_class *class_of = core_class(c->core, i);
        if (class_of->count == 0) continue;
        uint32_t tasks = MR_MAX(class_of->tasks_min, 1u);
        if (!core_slot_left(c->core, CORE_LEASES, tasks)) continue;
        const struct core_workload *head = core_workload(c->core, class_of->head);
        struct mr_reason reason;
        assert_int_equal(mr_core_why(c->core, (struct mr_workload_id){head->id}, &reason), 0);
        if (reason.code != MR_REASON_NONE) continue;
        fail_msg("workload %llu waits and could start", (unsigned long long)head->id);
    }
}

static void run(struct cloud *c, uint64_t seed, uint64_t steps)
{
    struct mr_prng prng;
    mr_prng_init(&prng, seed);
    for (uint32_t i = 1; i <= 4; i++) {
        tenant_set(c, i, 0, UINT64_MAX);
    }
    for (uint64_t i = 0; i < steps; i++) {
        struct mr_event event = random_event(c->core, &prng);
        step_at(c, &event);
        nothing_waits_that_could_start(c);
        mr_buf_reset(&c->narration);
    }
}

static void every_invariant_holds_after_every_step(void **state)
{
    (void)state;
    uint64_t first = from_environment("MR_SEED", 1);
    uint64_t last = getenv("MR_SEED") != NULL ? first : SEEDS;
    for (uint64_t seed = first; seed <= last; seed++) {
        struct cloud c;
        cloud_init(&c, seed % 2 == 0 ? &tiny_limits : &calm_limits);
        if (getenv("MR_SEED") == NULL) print_message("seed %llu\n", (unsigned long long)seed);
        run(&c, seed, from_environment("MR_STEPS", STEPS));
        assert_int_equal(bill_sum(&c), c.charged);
        assert_int_equal(c.entries + 1, c.core->entry_next);
        cloud_done(&c);
    }
}

static void equal_events_give_equal_states_and_effects(void **state)
{
    (void)state;
    for (uint64_t seed = 100; seed < 110; seed++) {
        struct cloud a, b;
        cloud_init(&a, &tiny_limits);
        cloud_init(&b, &tiny_limits);
        run(&a, seed, 600);
        mr_core_trace_set(b.core, NULL); /* narration is not part of the state */
        run(&b, seed, 600);
        assert_true(a.digest == b.digest);
        assert_true(mr_core_hash(a.core) == mr_core_hash(b.core));
        cloud_done(&a);
        cloud_done(&b);
    }
}

static void a_fork_is_one_memcpy(void **state)
{
    (void)state;
    for (uint64_t seed = 200; seed < 210; seed++) {
        struct cloud a, b;
        cloud_init(&a, &tiny_limits);
        cloud_init(&b, &tiny_limits);
        run(&a, seed, 500);
        memcpy(b.block, a.block, a.bytes);
        assert_int_equal(mr_core_open(b.block, b.bytes, true, &b.core), 0);
        assert_true(mr_core_hash(a.core) == mr_core_hash(b.core));
        a.digest = 0;
        run(&a, seed + 1000, 500);
        run(&b, seed + 1000, 500);
        assert_true(a.digest == b.digest);
        assert_true(mr_core_hash(a.core) == mr_core_hash(b.core));
        cloud_done(&a);
        cloud_done(&b);
    }
}

static void a_saved_state_goes_on_like_the_original(void **state)
{
    (void)state;
    for (uint64_t seed = 300; seed < 310; seed++) {
        struct cloud a, b;
        cloud_init(&a, &tiny_limits);
        cloud_init(&b, &tiny_limits);
        run(&a, seed, 500);
        struct mr_buf saved;
        mr_buf_init(&saved, 1 << 26);
        mr_core_save(a.core, &saved);
        assert_false(saved.failed);
        memset(b.block, 0xa5, b.bytes);
        assert_int_equal(mr_core_load(mr_buf_str(&saved), b.block, b.bytes, &b.core), 0);
        cloud_check(&b);
        assert_true(mr_core_hash(a.core) == mr_core_hash(b.core));
        a.digest = 0;
        run(&a, seed + 1000, 300);
        run(&b, seed + 1000, 300);
        assert_true(a.digest == b.digest);
        assert_true(mr_core_hash(a.core) == mr_core_hash(b.core));
        mr_buf_done(&saved);
        cloud_done(&a);
        cloud_done(&b);
    }
}

static void events_survive_the_codec(void **state)
{
    (void)state;
    struct cloud c;
    cloud_init(&c, &tiny_limits);
    struct mr_prng prng;
    mr_prng_init(&prng, 7);
    struct mr_buf bytes, again;
    mr_buf_init(&bytes, 4096);
    mr_buf_init(&again, 4096);
    for (uint32_t i = 0; i < 20000; i++) {
        struct mr_event event = random_event(c.core, &prng), back;
        mr_buf_reset(&bytes);
        mr_buf_reset(&again);
        mr_event_put(&bytes, &event);
        assert_int_equal(mr_event_get(mr_buf_str(&bytes), &back), 0);
        mr_event_put(&again, &back);
        assert_true(mr_str_equal(mr_buf_str(&bytes), mr_buf_str(&again)));
        struct mr_str cut = mr_buf_str(&bytes);
        cut.n = (size_t)mr_prng_below(&prng, cut.n);
        assert_int_not_equal(mr_event_get(cut, &back), 0);
        mr_buf_put_u8(&bytes, 0);
        assert_int_equal(mr_event_get(mr_buf_str(&bytes), &back), MR_ESYNTAX);
    }
    mr_buf_done(&bytes);
    mr_buf_done(&again);
    cloud_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_invariant_holds_after_every_step),
        cmocka_unit_test(equal_events_give_equal_states_and_effects),
        cmocka_unit_test(a_fork_is_one_memcpy),
        cmocka_unit_test(a_saved_state_goes_on_like_the_original),
        cmocka_unit_test(events_survive_the_codec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
