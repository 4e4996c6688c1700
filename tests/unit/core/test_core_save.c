/* SPDX-License-Identifier: Apache-2.0 */
/* Saving, loading, opening: what is damaged is refused, never loaded and never a crash. */
#include "core_random.h"

static struct cloud c;

static int setup(void **state)
{
    (void)state;
    cloud_init(&c, &tiny_limits);
    struct mr_prng prng;
    mr_prng_init(&prng, 4242);
    for (uint32_t i = 0; i < 400; i++) {
        struct mr_event event = random_event(c.core, &prng);
        c.now_us = event.time_us;
        cloud_step(&c, event);
    }
    tenant_set(&c, 1, 0, UINT64_MAX);
    node_set_in(&c, 1, 8, 1, 1, 1);
    for (uint32_t i = 0; i < 12; i++) {
        struct mr_event event = job(1, 1000);
        event.u.submit.priority = 0;
        submit(&c, event);
    }
    submit(&c, job(1, 64000)); /* waits */
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cloud_done(&c);
    return 0;
}

static void every_damaged_byte_of_a_save_is_noticed(void **state)
{
    (void)state;
    struct cloud to;
    cloud_init(&to, &tiny_limits);
    struct mr_buf saved;
    mr_buf_init(&saved, 1 << 26);
    mr_core_save(c.core, &saved);
    struct mr_prng prng;
    mr_prng_init(&prng, 1);
    struct mr_core *core = NULL;
    for (uint32_t i = 0; i < 300; i++) {
        size_t at = i < 40 ? i : (size_t)mr_prng_below(&prng, saved.n);
        uint8_t bit = (uint8_t)(1u << mr_prng_below(&prng, 8));
        saved.p[at] ^= bit;
        int error = mr_core_load(mr_buf_str(&saved), to.block, to.bytes, &core);
        assert_true(error == MR_ECORRUPT || error == MR_EUNSUPPORTED);
        saved.p[at] ^= bit;
    }
    for (size_t n = 0; n < saved.n; n += 1 + saved.n / 200) {
        struct mr_str cut = {(const char *)saved.p, n};
        assert_int_equal(mr_core_load(cut, to.block, to.bytes, &core), MR_ECORRUPT);
    }
    assert_null(core);
    assert_int_equal(mr_core_load(mr_buf_str(&saved), to.block, to.bytes - 1, &core), MR_ENO_SPACE);
    assert_int_equal(mr_core_load(mr_buf_str(&saved), to.block, to.bytes, &core), 0);
    assert_true(mr_core_hash(core) == mr_core_hash(c.core));
    mr_buf_done(&saved);
    cloud_done(&to);
}

static void a_save_that_does_not_fit_its_buffer_fails(void **state)
{
    (void)state;
    struct mr_buf saved;
    mr_buf_init(&saved, 1000);
    mr_core_save(c.core, &saved);
    assert_true(saved.failed);
    mr_buf_done(&saved);
}

static void an_empty_cloud_saves_small(void **state)
{
    (void)state;
    struct cloud empty;
    cloud_init(&empty, &mr_core_limits_small);
    struct mr_buf saved;
    mr_buf_init(&saved, 1 << 26);
    mr_core_save(empty.core, &saved);
    assert_true(saved.n < 512 * 1024);
    assert_true(saved.n < empty.bytes / 8);
    mr_buf_done(&saved);
    cloud_done(&empty);
}

/* Damages one field at a time; opening with the check must say so. */
static void opened_refuses(struct cloud *damaged, const char *number)
{
    struct mr_core *core = NULL;
    const char *text = NULL;
    if (mr_core_check(damaged->core, &text) == 0) fail_msg("did not find %s", number);
    assert_int_equal(mr_core_open(damaged->block, damaged->bytes, true, &core), MR_ECORRUPT);
    assert_null(core);
    assert_int_equal(mr_core_check(damaged->core, &text), MR_ECORRUPT);
    if (strncmp(text, number, strlen(number)) != 0) fail_msg("found %s, not %s", text, number);
}

static void every_kind_of_damage_to_a_block_is_named(void **state)
{
    (void)state;
    struct cloud d;
    cloud_init(&d, &tiny_limits);
    uint32_t node = 0, lease = 0, class_of = 0;
#define DAMAGE(number, statement)                                                                  \
    do {                                                                                           \
        memcpy(d.block, c.block, c.bytes);                                                         \
        d.core->trace = NULL;                                                                      \
        statement;                                                                                 \
        opened_refuses(&d, number);                                                                \
    } while (0)
    for (uint32_t i = 1; i < c.core->tables[CORE_NODES].used; i++) {
        const struct core_node *n = core_node(c.core, i);
        if (n->state == MR_NODE_UP && n->lease_count > 0 && n->accel_count > 0) node = i;
    }
    assert_int_not_equal(node, 0);
    lease = core_node(c.core, node)->lease_first;
    uint32_t workload = core_lease(c.core, lease)->workload;
    for (uint32_t i = 1; i < c.core->tables[CORE_CLASSES].used; i++) {
        if (core_class(c.core, i)->count > 0) class_of = i;
    }
    assert_int_not_equal(class_of, 0);
    DAMAGE("(1)", core_node(d.core, node)->lease_first = 100000);
    DAMAGE("(1)", core_workload(d.core, workload)->tenant = 0);
    DAMAGE("(2)", d.core->tables[CORE_LEASES].live++);
    DAMAGE("(4)", core_lease(d.core, lease)->node_prev = lease);
    DAMAGE("(5)", core_node(d.core, node)->cpu_free_milli--);
    DAMAGE("(5)", core_node(d.core, node)->device_free[0]--);
    DAMAGE("(7)", core_node(d.core, node)->whole ^= 1);
    DAMAGE("(8)", d.core->cpu_milli++);
    DAMAGE("(9)", core_place_type(d.core, 2, 0)->free_milli++);
    DAMAGE("(10)", core_workload(d.core, workload)->lease_count++);
    DAMAGE("(13)", core_workload(d.core, workload)->state = MR_STATE_FAILED);
    DAMAGE("(14)", core_class(d.core, class_of)->count++);
    DAMAGE("(15)", core_workload(d.core, workload)->timer_at ^= 1);
    DAMAGE("(16)", d.core->id_first = core_workload(d.core, d.core->id_first)->id_next);
    DAMAGE("(17)", core_tenant(d.core, 1)->amounts[0].held++);
    DAMAGE("(17)", core_tenant(d.core, 1)->pending++);
    DAMAGE("(18)", d.core->charged_nusd++);
#undef DAMAGE
    cloud_done(&d);
}

static void a_block_of_another_kind_is_refused(void **state)
{
    (void)state;
    struct cloud d;
    cloud_init(&d, &tiny_limits);
    struct mr_core *core = NULL;
    memcpy(d.block, c.block, c.bytes);
    assert_int_equal(mr_core_open(d.block, d.bytes - 1, false, &core), MR_ECORRUPT);
    assert_int_equal(mr_core_open(d.block, 8, false, &core), MR_ECORRUPT);
    d.core->format++;
    assert_int_equal(mr_core_open(d.block, d.bytes, false, &core), MR_ECORRUPT);
    d.core->format--;
    d.core->limits.nodes++;
    assert_int_equal(mr_core_open(d.block, d.bytes, false, &core), MR_ECORRUPT);
    d.core->limits.nodes--;
    d.core->tables[CORE_LEASES].offset_bytes += 64;
    assert_int_equal(mr_core_open(d.block, d.bytes, false, &core), MR_ECORRUPT);
    d.core->tables[CORE_LEASES].offset_bytes -= 64;
    assert_int_equal(mr_core_open(d.block, d.bytes, true, &core), 0);
    cloud_done(&d);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(every_damaged_byte_of_a_save_is_noticed),
        CASE(a_save_that_does_not_fit_its_buffer_fails),
        CASE(an_empty_cloud_saves_small),
        CASE(every_kind_of_damage_to_a_block_is_named),
        CASE(a_block_of_another_kind_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
