/* SPDX-License-Identifier: Apache-2.0 */
/* Every call to the disk fails once, and for ever: what was acknowledged is there, nothing is in
 * part. */
#include "store_world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store_vfs.h"

#define GROUPS 4u
#define ROWS   20u

struct outcome {
    bool opened;
    uint32_t acknowledged; /* groups that were answered with 0 */
    int failed;            /* the error of the first one that was not */
    bool snapshot;
};

/* A whole life on a disk that fails somewhere in it. */
static struct outcome life(struct store_world *w)
{
    struct outcome o = {0};
    uint64_t epoch;
    if (world_open(w) != 0) {
        assert_true(w->problem[0] != 0); /* it always says something */
        return o;
    }
    o.opened = true;
    if (world_epoch(w, &epoch) != 0) return o;
    for (uint32_t i = 0; i < GROUPS && o.failed == 0; i++) {
        o.failed = world_append(w, epoch, 1 + i * ROWS, ROWS);
        if (o.failed == 0) o.acknowledged++;
        if (i == 1 && o.failed == 0) o.snapshot = world_snapshot(w, epoch, 1, "one") == 0;
    }
    return o;
}

static void check(struct store_world *w, const struct outcome *o)
{
    uint64_t first, count = 0;
    assert_int_equal(world_open(w), 0);
    assert_int_equal(world_read(w, 1, &first, &count), 0);
    uint64_t durable = (uint64_t)o->acknowledged * ROWS;
    assert_true(count >= durable);
    assert_int_equal(count % ROWS, 0); /* no group in part */
    /* One group more may be there when its end is unknown, never after "no space". */
    assert_true(count <= durable + (o->failed == MR_EIO ? ROWS : 0));
    if (o->snapshot) {
        struct mr_buf bytes;
        mr_buf_init(&bytes, SIZE_MAX);
        assert_int_equal(w->store->ops->snapshot_get(w->store, 0, &bytes, &first), 0);
        mr_buf_done(&bytes);
    }
}

static void fail_each(uint32_t calls, bool for_ever, int result, int reason)
{
    for (uint64_t nth = 1; nth < 400; nth++) {
        struct store_world w;
        world_init(&w);
        vfs_fail(calls, nth, for_ever, result, reason);
        struct outcome o = life(&w);
        bool failed = vfs_failed();
        world_close(&w);
        vfs_fail(0, 0, false, 0, 0);
        check(&w, &o);
        world_done(&w);
        if (!failed) {
            assert_int_equal(o.acknowledged, GROUPS);
            assert_true(nth > 1); /* there was something to fail */
            return;
        }
    }
    fail_msg("it never came to an end without a failure");
}

static void each_write_fails_once(void **state)
{
    (void)state;
    fail_each(VFS_WRITE, false, SQLITE_IOERR_WRITE, EIO);
}

static void each_write_fails_for_ever(void **state)
{
    (void)state;
    fail_each(VFS_WRITE, true, SQLITE_IOERR_WRITE, EIO);
}

static void disk_is_full_at_each_write(void **state)
{
    (void)state;
    fail_each(VFS_WRITE, true, SQLITE_FULL, ENOSPC);
    fail_each(VFS_WRITE, false, SQLITE_IOERR_WRITE, ENOSPC);
}

static void each_sync_fails_once(void **state)
{
    (void)state;
    fail_each(VFS_SYNC, false, SQLITE_IOERR_FSYNC, EIO);
}

static void each_sync_fails_for_ever(void **state)
{
    (void)state;
    fail_each(VFS_SYNC, true, SQLITE_IOERR_FSYNC, EIO);
}

static void each_open_and_truncate_fails_once(void **state)
{
    (void)state;
    fail_each(VFS_OPEN, false, SQLITE_CANTOPEN, EACCES);
    vfs_fail(0, 0, false, 0, 0);
}

static void each_read_fails_once(void **state)
{
    (void)state;
    fail_each(VFS_READ, false, SQLITE_IOERR_READ, EIO);
}

static void full_disk_is_waited_out(void **state)
{
    struct store_world w;
    uint64_t epoch, first, count;
    (void)state;
    world_init(&w);
    assert_int_equal(world_open(&w), 0);
    assert_int_equal(world_epoch(&w, &epoch), 0);
    assert_int_equal(world_append(&w, epoch, 1, 3), 0);
    vfs_fail(VFS_WRITE, 1, true, SQLITE_FULL, ENOSPC);
    for (int i = 0; i < 3; i++)
        assert_int_equal(world_append(&w, epoch, 4, 3), MR_ENO_SPACE);
    assert_int_equal(world_snapshot(&w, epoch, 3, "three"), MR_ENO_SPACE);
    vfs_fail(0, 0, false, 0, 0);
    assert_int_equal(world_append(&w, epoch, 4, 3), 0); /* the same numbers: nothing was taken */
    assert_int_equal(world_read(&w, 1, &first, &count), 0);
    assert_int_equal(count, 6);
    world_done(&w);
}

static void failed_sync_is_never_taken_for_a_full_disk(void **state)
{
    struct store_world w;
    uint64_t epoch;
    (void)state;
    world_init(&w);
    assert_int_equal(world_open(&w), 0);
    assert_int_equal(world_epoch(&w, &epoch), 0);
    vfs_fail(VFS_SYNC, 1, true, SQLITE_IOERR_FSYNC, ENOSPC);
    assert_int_equal(world_append(&w, epoch, 1, 1), MR_EIO);
    vfs_fail(0, 0, false, 0, 0);
    world_done(&w);
}

static int installed(void **state)
{
    (void)state;
    vfs_install();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_write_fails_once),
        cmocka_unit_test(each_write_fails_for_ever),
        cmocka_unit_test(disk_is_full_at_each_write),
        cmocka_unit_test(each_sync_fails_once),
        cmocka_unit_test(each_sync_fails_for_ever),
        cmocka_unit_test(each_open_and_truncate_fails_once),
        cmocka_unit_test(each_read_fails_once),
        cmocka_unit_test(full_disk_is_waited_out),
        cmocka_unit_test(failed_sync_is_never_taken_for_a_full_disk),
    };
    return cmocka_run_group_tests(tests, installed, NULL);
}
