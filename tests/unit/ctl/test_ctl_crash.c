/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon dies at every append, before and after it reached the disk; every append fails once.
 */
#include "ctl_world.h"

#include <stdio.h>

/* What the outside knows for certain. */
struct facts {
    bool tenant, node;
    uint64_t ids[3]; /* acknowledged submissions */
    uint64_t cancelled;
    bool key;
    uint8_t sha256[32];
};

/* One client's day; what is known already is not asked again. 1 when the world crashed in it. */
static int day(struct ctl_world *w, struct facts *f)
{
    static const char *const keys[] = {"a", "b", "c"};
    int error = 0;
    if (!f->tenant) {
        error = world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0, "{\"name\":\"default\"}");
        if (error != 0) return error;
        f->tenant = true;
    }
    if (!f->node) {
        error = world_ask(w, MR_CTL_NODE_SET, ADMIN, 0,
                          "{\"id\":1,\"cpu_milli\":8000,\"mem_mib\":16384}");
        if (error != 0) return error;
        f->node = true;
    }
    for (size_t i = 0; i < 3; i++) {
        if (f->ids[i] != 0) continue;
        error = world_ask_key(
            w, USER(1), i == 1 ? "{\"run\":\"sleep 9\"}" : "{\"command\":[\"true\"]}", keys[i]);
        if (error != 0) return error;
        f->ids[i] = world_number(w->out, "id");
        assert_int_equal(f->ids[i], i + 1); /* never twice, never skipped */
    }
    if (!f->key) {
        error = world_ask(w, MR_CTL_KEY_NEW, ADMIN, 0, "{\"tenant\":\"default\"}");
        if (error != 0) return error;
        const char *hex = strstr(w->out, "\"sha256\":\"");
        assert_non_null(hex);
        assert_int_equal(mr_hex_get((struct mr_str){hex + 10, 64}, f->sha256, 32), 0);
        f->key = true;
    }
    for (uint64_t lease = 1; lease <= 3; lease++) {
        if (w->leases[lease].forgotten) continue;
        world_say(w, MR_ENGINE_STARTED, lease, 0, 0);
        if (w->crashed) return 1;
        world_pass(w, 3600000000u);
        if (w->crashed) return 1;
        if (lease != 2) world_say(w, MR_ENGINE_EXITED, lease, MR_EXIT_CODE, 0);
        if (w->crashed) return 1;
    }
    if (f->cancelled == 0) {
        error = world_ask(w, MR_CTL_CANCEL, USER(1), 2, NULL);
        if (error != 0) return error;
        f->cancelled = 2;
    }
    world_say(w, MR_ENGINE_EXITED, 2, MR_EXIT_SIGNAL, 15);
    return w->crashed ? 1 : 0;
}

static bool has_key(const struct mr_routes *routes, const struct facts *f)
{
    for (size_t i = 0; i < routes->key_count; i++) {
        if (memcmp(routes->keys[i].sha256, f->sha256, 32) == 0) return true;
    }
    return false;
}

/* After a start: the state is the journal's, and what was acknowledged is in it. */
static void check(struct ctl_world *w, const struct facts *f, uint64_t durable)
{
    const struct mr_core *core = mr_ctl_core(w->ctl);
    struct mr_workload_info info;
    const char *text = NULL;
    uint64_t seq = mr_ctl_seq(w->ctl);
    assert_int_equal(seq, durable);
    if (w->hash_by_seq[seq] != 0) assert_int_equal(mr_core_hash(core), w->hash_by_seq[seq]);
    w->hash_by_seq[seq] = mr_core_hash(core);
    assert_int_equal(mr_core_check(core, &text), 0);
    assert_true(w->swept);
    for (size_t i = 0; i < 3; i++) {
        if (f->ids[i] != 0) {
            assert_int_equal(mr_core_workload(core, (struct mr_workload_id){f->ids[i]}, &info), 0);
        }
    }
    for (size_t i = 0; i < WORLD_LEASES; i++)
        assert_true(w->leases[i].starts <= 1);
    assert_false(w->forgot_early);
}

static void restart(struct ctl_world *w, const struct facts *f)
{
    if (w->ctl != NULL) world_kill(w);
    w->crash_at = 0;
    w->swept = false;
    uint64_t durable = w->last_seq;
    assert_int_equal(world_start(w), 0);
    check(w, f, durable);
    world_run(w);
    if (f->key) assert_true(has_key(w->routes, f));
    /* Ends that were not forgotten are reported again. */
    for (uint64_t lease = 1; lease < WORLD_LEASES; lease++) {
        if (w->leases[lease].ended && !w->leases[lease].forgotten) {
            world_say(w, MR_ENGINE_EXITED, lease, lease == 2 ? MR_EXIT_SIGNAL : MR_EXIT_CODE,
                      lease == 2 ? 15 : 0);
        }
    }
}

static void check_end(struct ctl_world *w, const struct facts *f)
{
    struct mr_workload_info info;
    struct mr_bill_line line;
    uint64_t cursor = 0;
    int64_t sum = 0;
    world_run(w);
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(mr_core_workload(mr_ctl_core(w->ctl), (struct mr_workload_id){i}, &info),
                         0);
        assert_int_equal(info.state, i == f->cancelled ? MR_STATE_CANCELLED : MR_STATE_COMPLETED);
        assert_int_equal(w->leases[i].starts, 1); /* each ran once, whatever happened */
        assert_true(w->leases[i].forgotten);
    }
    while (mr_core_bill_next(mr_ctl_core(w->ctl), w->now_us, &cursor, &line) == 0) {
        if (!line.accrued) sum += line.charge_nusd;
    }
    assert_true(sum > 0);
    assert_int_equal(sum, w->ledger_sum_nusd); /* the bill is the ledger, exactly */
}

static uint64_t appends_of_a_day(void)
{
    struct ctl_world *w = world_new();
    struct facts f = {0};
    assert_int_equal(world_start(w), 0);
    world_run(w);
    assert_int_equal(day(w, &f), 0);
    check_end(w, &f);
    uint64_t appends = w->appends;
    world_free(w);
    return appends;
}

static void crash_each(bool stored, uint64_t snapshot_every)
{
    uint64_t appends = appends_of_a_day();
    assert_true(appends > 10);
    for (uint64_t at = 1; at <= appends; at++) {
        struct ctl_world *w = world_new();
        struct facts f = {0};
        w->config.snapshot_every_records = snapshot_every;
        w->crash_at = at;
        w->crash_stored = stored;
        assert_int_equal(world_start(w), 0);
        world_run(w);
        for (int tries = 0; w->crashed || day(w, &f) != 0; tries++) {
            assert_true(tries < 3);
            restart(w, &f);
        }
        check_end(w, &f);
        restart(w, &f); /* once more, and nothing changes */
        check_end(w, &f);
        world_free(w);
    }
}

static void crash_before_any_append_loses_nothing_acknowledged(void **state)
{
    (void)state;
    crash_each(false, 0);
}

static void crash_after_any_append_takes_nothing_twice(void **state)
{
    (void)state;
    crash_each(true, 0);
}

static void crash_between_snapshots_is_the_same(void **state)
{
    (void)state;
    crash_each(false, 7);
    crash_each(true, 7);
}

static void every_append_fails(int failure, bool fatal)
{
    uint64_t appends = appends_of_a_day();
    for (uint64_t at = 1; at <= appends; at++) {
        struct ctl_world *w = world_new();
        struct facts f = {0};
        w->fail_at = at;
        w->fail_error = failure;
        assert_int_equal(world_start(w), 0);
        world_run(w);
        for (int tries = 0;; tries++) {
            int error = day(w, &f);
            if (w->fatals > 0) {
                assert_true(fatal);
                assert_int_equal(w->fatals, 1);
                assert_int_equal(w->fatal_error, -failure);
                /* Nobody is left waiting, and the next call is answered too. */
                assert_int_equal(world_ask(w, MR_CTL_STATUS, ADMIN, 0, NULL), MR_EUNAVAILABLE);
                w->fatals = 0;
                w->fail_at = 0;
                restart(w, &f);
                continue;
            }
            if (error == 0) break;
            assert_int_equal(error, MR_ENO_SPACE);
            assert_non_null(strstr(w->problem, "space"));
            assert_true(tries < 3);
        }
        world_pass(w, 2 * CTL_RETRY_US);                /* what reports wait for is tried again */
        for (uint64_t lease = 1; lease <= 3; lease++) { /* said until it is forgotten */
            if (!w->leases[lease].forgotten) {
                world_say(w, MR_ENGINE_EXITED, lease, lease == 2 ? MR_EXIT_SIGNAL : MR_EXIT_CODE,
                          lease == 2 ? 15 : 0);
            }
        }
        check_end(w, &f);
        restart(w, &f);
        check_end(w, &f);
        world_free(w);
    }
}

static void full_disk_at_any_append_refuses_and_goes_on(void **state)
{
    (void)state;
    every_append_fails(MR_ENO_SPACE, false);
}

static void broken_disk_at_any_append_ends_the_daemon(void **state)
{
    (void)state;
    every_append_fails(MR_EIO, true);
}

static void replaced_leader_ends_at_any_append(void **state)
{
    (void)state;
    every_append_fails(MR_EFENCED, true);
}

static void stop_leaves_a_snapshot_that_is_the_state(void **state)
{
    struct ctl_world *w = world_new();
    struct facts f = {0};
    (void)state;
    assert_int_equal(world_start(w), 0);
    world_run(w);
    assert_int_equal(day(w, &f), 0);
    world_stop(w);
    assert_int_equal(w->snapshot_seqs[0], w->last_seq);
    restart(w, &f);
    check_end(w, &f);
    world_free(w);
}

static void damaged_snapshot_is_no_loss(void **state)
{
    struct ctl_world *w = world_new();
    struct facts f = {0};
    (void)state;
    assert_int_equal(world_start(w), 0);
    world_run(w);
    assert_int_equal(day(w, &f), 0);
    world_stop(w);
    w->snapshots[0].p[w->snapshots[0].n / 2] ^= 1;
    restart(w, &f); /* from the journal's first record */
    check_end(w, &f);
    world_free(w);
}

static void nothing_but_damaged_snapshots_is_not_a_new_home(void **state)
{
    struct ctl_world *w = world_new();
    struct facts f = {0};
    (void)state;
    assert_int_equal(world_start(w), 0);
    world_run(w);
    assert_int_equal(day(w, &f), 0);
    world_stop(w);
    assert_int_equal(world_start(w), 0);
    world_stop(w);
    assert_int_equal(world_start(w), 0);
    world_stop(w);
    for (int i = 0; i < 2; i++)
        w->snapshots[i].p[w->snapshots[i].n / 2] ^= 1;
    w->first_seq = w->last_seq + 1;
    assert_int_equal(world_start(w), MR_ECORRUPT);
    assert_non_null(strstr(w->problem, "backup"));
    world_free(w);
}

static void other_state_than_the_journals_refuses_to_serve(void **state)
{
    struct ctl_world *w = world_new();
    struct facts f = {0};
    struct mr_buf bytes;
    (void)state;
    assert_int_equal(world_start(w), 0);
    world_run(w);
    assert_int_equal(day(w, &f), 0);
    world_kill(w);
    mr_buf_init(&bytes, 4096);
    struct ctl_record record = {.kind = CTL_RECORD_HASH, .hash = 12345};
    ctl_record_put(&bytes, &record);
    struct mr_str text = mr_buf_str(&bytes);
    w->records[++w->last_seq] = (struct world_bytes){calloc(1, text.n), text.n};
    memcpy(w->records[w->last_seq].p, text.p, text.n);
    mr_buf_done(&bytes);
    assert_int_equal(world_start(w), MR_ECORRUPT);
    assert_non_null(strstr(w->problem, "another state"));
    assert_non_null(strstr(w->problem, "Run the version that wrote the journal"));
    world_free(w);
}

static void each_start_checks_the_state_of_the_one_before(void **state)
{
    struct ctl_world *w = world_new();
    struct facts f = {0};
    struct ctl_record record;
    (void)state;
    assert_int_equal(world_start(w), 0);
    world_run(w);
    assert_int_equal(day(w, &f), 0);
    restart(w, &f);
    assert_int_equal(world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0, "{\"name\":\"default\"}"), 0);
    bool found = false;
    for (uint64_t seq = 1; seq <= w->last_seq; seq++) {
        struct mr_str bytes = {w->records[seq].p, w->records[seq].n};
        assert_int_equal(ctl_record_get(bytes, &record), 0);
        found = found || record.kind == CTL_RECORD_HASH;
    }
    assert_true(found);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash_before_any_append_loses_nothing_acknowledged),
        cmocka_unit_test(crash_after_any_append_takes_nothing_twice),
        cmocka_unit_test(crash_between_snapshots_is_the_same),
        cmocka_unit_test(full_disk_at_any_append_refuses_and_goes_on),
        cmocka_unit_test(broken_disk_at_any_append_ends_the_daemon),
        cmocka_unit_test(replaced_leader_ends_at_any_append),
        cmocka_unit_test(stop_leaves_a_snapshot_that_is_the_state),
        cmocka_unit_test(damaged_snapshot_is_no_loss),
        cmocka_unit_test(nothing_but_damaged_snapshots_is_not_a_new_home),
        cmocka_unit_test(other_state_than_the_journals_refuses_to_serve),
        cmocka_unit_test(each_start_checks_the_state_of_the_one_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
