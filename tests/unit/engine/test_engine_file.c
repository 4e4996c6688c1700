/* SPDX-License-Identifier: Apache-2.0 */
/* Logs across rotation, files by name, and the bytes of the stored records. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine_world.h"

static int setup(void **state)
{
    *state = world_new();
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

static int get(struct world *w, const char *name, uint64_t offset, size_t max, struct mr_buf *buf)
{
    mr_buf_reset(buf);
    return w->engine->ops->file_read(w->engine, (struct mr_workload_id){1}, 0, 0, mr_str_from(name),
                                     offset, max, buf);
}

static void want(const struct mr_buf *buf, const char *text)
{
    assert_int_equal(buf->n, strlen(text));
    assert_memory_equal(buf->p, text, buf->n);
}

/* The byte at each offset of the log is known. */
static uint8_t byte_at(uint64_t offset)
{
    return (uint8_t)mr_hash_mix(offset);
}

static void offsets_hold_across_rotation(void **state)
{
    enum { LIMIT = 1000, TOTAL = 7350 };
    struct world *w = *state;
    char folder[PATH_MAX];
    struct engine_log log;
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, 65536);
    world_path(w, folder, "workloads/1/run-1");
    assert_int_equal(engine_mkdirs(folder), 0);
    assert_int_equal(engine_log_open(&log, folder, "rank-0.stdout"), 0);
    log.limit_bytes = LIMIT;
    assert_int_equal(get(w, "stdout.base", 0, 100, &buf), 0);
    want(&buf, "0");
    for (uint64_t at = 0; at < TOTAL; at += 50) {
        uint8_t piece[50];
        for (unsigned i = 0; i < sizeof piece; i++)
            piece[i] = byte_at(at + i);
        engine_log_put(&log, piece, sizeof piece);
        /* What was just written is there, whichever file it went to. */
        assert_int_equal(get(w, "stdout", at, 100, &buf), 0);
        assert_int_equal(buf.n, sizeof piece);
        assert_memory_equal(buf.p, piece, 50);
    }
    engine_log_close(&log);
    /* Three full files before the current one are kept. */
    uint64_t oldest = 4000;
    assert_int_equal(get(w, "stdout.base", 0, 100, &buf), 0);
    want(&buf, "4000");
    assert_int_equal(get(w, "stdout", oldest - 1, 10, &buf), MR_ESTATE);
    assert_int_equal(get(w, "stdout", 0, 10, &buf), MR_ESTATE);
    uint64_t at = oldest;
    while (get(w, "stdout", at, 300, &buf) == 0 && buf.n > 0) {
        if (buf.n < 300) assert_int_equal(at + buf.n, TOTAL);
        for (size_t i = 0; i < buf.n; i++)
            assert_int_equal(buf.p[i], byte_at(at + i));
        at += buf.n;
    }
    assert_int_equal(at, TOTAL);
    assert_int_equal(get(w, "stdout", TOTAL, 10, &buf), 0);
    assert_int_equal(buf.n, 0);
    assert_int_equal(get(w, "stdout", UINT64_MAX, 10, &buf), 0);
    assert_int_equal(buf.n, 0);
}

static void big_output_loses_nothing(void **state)
{
    struct world *w = *state;
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, (size_t)2 << 20);
    /* 40 MB in lines of 16 bytes: two rotations. */
    world_sh(w, 1, "seq -f %015.0f 1 2500000");
    assert_int_equal(world_end(w, 1)->r.code, 0);
    uint64_t at = 0, number = 0;
    for (;;) {
        assert_int_equal(get(w, "stdout", at, (size_t)1 << 20, &buf), 0);
        if (buf.n == 0) break;
        at += buf.n;
        /* A short answer means the end, also where one file ends and the next begins. */
        if (buf.n < (size_t)1 << 20) assert_int_equal(at, 2500000 * 16);
        for (size_t i = 0; i < buf.n; i += 16) {
            uint64_t v = 0;
            assert_int_equal(mr_str_to_u64((struct mr_str){(char *)buf.p + i, 15}, &v), 0);
            assert_int_equal(v, ++number);
        }
    }
    assert_int_equal(number, 2500000);
    char path[PATH_MAX];
    struct stat st;
    world_path(w, path, "workloads/1/run-1/rank-0.stdout.1");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, MR_LOG_BYTES_MAX);
}

static void names_lead_nowhere_else(void **state)
{
    static const char *const bad[] = {
        "../../daemon.log", "/etc/passwd", "..",    ".",           "",     "link",
        "linkdir/x",        "fifo",        "run-1", "a/../secret", "a//b", "run-1/../../x"};
    struct world *w = *state;
    char path[PATH_MAX];
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, 65536);
    world_path(w, path, "secret");
    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    world_sh(w, 1,
             "cd \"$MILLRACE_JOB_DIR\"; echo in > file; mkdir a; echo deep > a/b; echo here > "
             "run-1/result.json; ln -s ../../secret link; ln -s ../.. linkdir; mkfifo fifo");
    assert_int_equal(world_end(w, 1)->r.code, 0);
    assert_int_equal(get(w, "file", 0, 100, &buf), 0);
    want(&buf, "in\n");
    assert_int_equal(get(w, "a/b", 1, 2, &buf), 0);
    want(&buf, "ee");
    assert_int_equal(get(w, "result.json", 0, 100, &buf), 0);
    want(&buf, "here\n");
    for (size_t i = 0; i < MR_COUNT_OF(bad); i++) {
        assert_int_equal(get(w, bad[i], 0, 100, &buf), MR_ENOT_FOUND);
        assert_int_equal(buf.n, 0);
    }
    assert_int_equal(w->engine->ops->file_read(w->engine, (struct mr_workload_id){1}, 0, 0,
                                               (struct mr_str){"file\0x", 6}, 0, 100, &buf),
                     MR_ENOT_FOUND);
    assert_int_equal(w->engine->ops->file_read(w->engine, (struct mr_workload_id){99}, 0, 0,
                                               MR_STR("file"), 0, 100, &buf),
                     MR_ENOT_FOUND);
    assert_int_equal(w->engine->ops->file_read(w->engine, (struct mr_workload_id){1}, 7, 0,
                                               MR_STR("stdout"), 0, 100, &buf),
                     MR_ENOT_FOUND);
}

static void newest_run_is_read_unless_told(void **state)
{
    struct world *w = *state;
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, 65536);
    for (uint32_t run = 9; run <= 11; run++) {
        struct mr_engine_start order = world_order(run);
        order.workload.v = 1;
        order.run = run;
        world_sh_order(w, order, "echo run $MILLRACE_RUN");
        world_end(w, run);
    }
    assert_int_equal(get(w, "stdout", 0, 100, &buf), 0);
    want(&buf, "run 11\n");
    mr_buf_reset(&buf);
    assert_int_equal(w->engine->ops->file_read(w->engine, (struct mr_workload_id){1}, 9, 0,
                                               MR_STR("stdout"), 0, 100, &buf),
                     0);
    want(&buf, "run 9\n");
}

/* --- records -------------------------------------------------------------------------------- */

static void records_come_back_as_they_were(void **state)
{
    struct mr_str argv[] = {MR_STR("a"), MR_STR(""), MR_STR("c d")}, env[] = {MR_STR("X=1")};
    struct mr_engine_start s = world_order(3);
    struct engine_order order;
    struct mr_arena arena;
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    (void)state;
    mr_buf_init(&buf, ENGINE_START_BYTES_MAX);
    mr_arena_init(&arena, ENGINE_START_BYTES_MAX);
    s.argv = argv;
    s.argv_count = 3;
    s.env = env;
    s.env_count = 1;
    s.devices = UINT64_MAX;
    s.mpi = true;
    s.time_limit_us = 123456789;
    s.spec_json = MR_STR("{}");
    engine_start_encode(&buf, &s, MR_STR("/home"), MR_STR("/programs"), MR_STR("/cache"));
    assert_int_equal(engine_start_decode(mr_buf_str(&buf), &arena, &order), 0);
    assert_int_equal(order.s.lease.v, 3);
    assert_int_equal(order.s.argv_count, 3);
    assert_true(mr_str_equal(order.s.argv[2], MR_STR("c d")));
    assert_true(mr_str_equal(order.s.env[0], MR_STR("X=1")));
    assert_true(order.s.devices == UINT64_MAX);
    assert_true(order.s.mpi);
    assert_true(mr_str_equal(order.programs, MR_STR("/programs")));
    /* One bit anywhere, or one byte less, and it is not taken. */
    for (size_t i = 0; i < buf.n; i++) {
        buf.p[i] ^= 4;
        assert_int_equal(engine_start_decode(mr_buf_str(&buf), &arena, &order), MR_ECORRUPT);
        buf.p[i] ^= 4;
        assert_int_equal(engine_start_decode((struct mr_str){(char *)buf.p, i}, &arena, &order),
                         MR_ECORRUPT);
    }
    mr_arena_done(&arena);
}

static void ends_come_back_as_they_were(void **state)
{
    struct engine_end end, got;
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    (void)state;
    mr_buf_init(&buf, ENGINE_EXIT_BYTES_MAX);
    for (int kind = 0; kind < ENGINE_EXIT_COUNT; kind++) {
        mr_buf_reset(&buf);
        engine_end_set(&end, (enum engine_exit_kind)kind, -kind, "text %d", kind);
        engine_exit_encode(&buf, &end);
        assert_int_equal(engine_exit_decode(mr_buf_str(&buf), &got), 0);
        assert_int_equal(got.kind, kind);
        assert_int_equal(got.code, -kind);
        assert_string_equal(got.text, end.text);
    }
    for (size_t i = 0; i < buf.n; i++) {
        buf.p[i] ^= 1;
        assert_int_equal(engine_exit_decode(mr_buf_str(&buf), &got), MR_ECORRUPT);
        buf.p[i] ^= 1;
    }
}

static void orders_past_a_limit_are_told_which(void **state)
{
    static struct mr_str many[MR_ARGV_MAX + 1];
    struct mr_engine_start s = world_order(1);
    const char *text = NULL;
    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(many); i++)
        many[i] = MR_STR("x");
    s.argv = many;
    s.argv_count = MR_ARGV_MAX;
    s.tasks = MR_TASKS_PER_NODE_MAX;
    assert_int_equal(engine_start_check(&s, &text), 0);
    s.argv_count++;
    assert_int_equal(engine_start_check(&s, &text), MR_EINVALID);
    assert_string_equal(text, "too many arguments");
    s.argv_count = 1;
    struct mr_str env[] = {MR_STR("=x")};
    s.env = env;
    s.env_count = 1;
    assert_int_equal(engine_start_check(&s, &text), MR_EINVALID);
    assert_string_equal(text, "an environment variable is not NAME=value");
    s.env_count = 0;
    many[0] = (struct mr_str){"a\0b", 3};
    assert_int_equal(engine_start_check(&s, &text), MR_EINVALID);
    assert_string_equal(text, "an argument holds a zero byte");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(offsets_hold_across_rotation),
        T(big_output_loses_nothing),
        T(names_lead_nowhere_else),
        T(newest_run_is_read_unless_told),
        cmocka_unit_test(records_come_back_as_they_were),
        cmocka_unit_test(ends_come_back_as_they_were),
        cmocka_unit_test(orders_past_a_limit_are_told_which),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
