/* SPDX-License-Identifier: Apache-2.0 */
/* What the store keeps, in which order, and whom it refuses. */
#include "store_world.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store_vfs.h"

static void opened(struct store_world *w, uint64_t *epoch)
{
    world_init(w);
    assert_int_equal(world_open(w), 0);
    assert_int_equal(world_epoch(w, epoch), 0);
}

static void again(struct store_world *w, uint64_t *epoch)
{
    world_close(w);
    assert_int_equal(world_open(w), 0);
    assert_int_equal(world_epoch(w, epoch), 0);
}

static void records_come_back_in_order(void **state)
{
    struct store_world w;
    uint64_t epoch, first, count;
    (void)state;
    opened(&w, &epoch);
    assert_int_equal(epoch, 1);
    assert_int_equal(world_append(&w, epoch, 1, 1), 0);
    assert_int_equal(world_append(&w, epoch, 2, 64), 0);
    assert_int_equal(world_append(&w, epoch, 66, MR_GROUP_RECORDS_MAX), 0);
    again(&w, &epoch);
    assert_int_equal(epoch, 2);
    assert_int_equal(world_read(&w, 1, &first, &count), 0);
    assert_int_equal(count, 65 + MR_GROUP_RECORDS_MAX);
    assert_int_equal(world_read(&w, 60, &first, &count), 0);
    assert_int_equal(first, 60);
    assert_int_equal(count, 6 + MR_GROUP_RECORDS_MAX);
    struct mr_store_stats stats;
    w.store->ops->stats(w.store, &stats);
    assert_int_equal(stats.first_seq, 1);
    assert_int_equal(stats.last_seq, 65 + MR_GROUP_RECORDS_MAX);
    assert_int_equal(stats.records, 65 + MR_GROUP_RECORDS_MAX);
    assert_true(stats.bytes > 0);
    world_done(&w);
}

static int stop_at_three(void *arg, const struct mr_store_record *record)
{
    (void)arg;
    return record->seq == 3 ? MR_ECANCELLED : 0;
}

static void what_visit_returns_ends_the_read(void **state)
{
    struct store_world w;
    uint64_t epoch;
    (void)state;
    opened(&w, &epoch);
    assert_int_equal(world_append(&w, epoch, 1, 5), 0);
    assert_int_equal(w.store->ops->read(w.store, 1, stop_at_three, NULL), MR_ECANCELLED);
    world_done(&w);
}

static void older_epoch_is_refused_and_changes_nothing(void **state)
{
    struct store_world w;
    struct mr_store *second = NULL;
    struct mr_buf problem;
    uint64_t old, young, first, count;
    (void)state;
    opened(&w, &old);
    assert_int_equal(world_append(&w, old, 1, 2), 0);
    mr_buf_init(&problem, 4096);
    assert_int_equal(store_open(mr_str_from(w.folder), &w.env, false, &second, &problem), 0);
    assert_int_equal(second->ops->epoch_take(second, &young), 0);
    assert_int_equal(young, old + 1);
    assert_int_equal(world_append(&w, old, 3, 2), MR_EFENCED);
    assert_int_equal(world_append_ledger(&w, old, 9, "line"), MR_EFENCED);
    assert_int_equal(world_snapshot(&w, old, 2, "state"), MR_EFENCED);
    assert_int_equal(world_read(&w, 1, &first, &count), 0);
    assert_int_equal(count, 2);
    struct mr_buf bytes;
    mr_buf_init(&bytes, SIZE_MAX);
    assert_int_equal(w.store->ops->snapshot_get(w.store, 0, &bytes, &first), MR_ENOT_FOUND);
    mr_buf_done(&bytes);
    /* The younger one goes on where the older one was stopped. */
    struct mr_store *own = w.store;
    w.store = second;
    assert_int_equal(world_append(&w, young, 3, 1), 0);
    w.store = own;
    mr_store_sqlite_close(second);
    mr_buf_done(&problem);
    world_done(&w);
}

static void epoch_from_the_future_is_refused(void **state)
{
    struct store_world w;
    uint64_t epoch;
    (void)state;
    opened(&w, &epoch);
    assert_int_equal(world_append(&w, epoch + 1, 1, 1), MR_EFENCED);
    world_done(&w);
}

static void torn_end_is_dropped(void **state)
{
    struct store_world w;
    uint64_t epoch, first, count;
    (void)state;
    opened(&w, &epoch);
    assert_int_equal(world_append(&w, epoch, 1, 3), 0);
    world_close(&w);
    world_sql(&w, "UPDATE records SET bytes=x'00' WHERE seq=3");
    assert_int_equal(world_open(&w), 0);
    assert_int_equal(world_read(&w, 1, &first, &count), 0);
    assert_int_equal(count, 2);
    assert_int_equal(world_epoch(&w, &epoch), 0);
    assert_int_equal(world_append(&w, epoch, 3, 1), 0); /* its place is free again */
    world_done(&w);
}

static void damage_before_the_end_is_told(void **state)
{
    struct store_world w;
    uint64_t epoch, first, count;
    (void)state;
    opened(&w, &epoch);
    assert_int_equal(world_append(&w, epoch, 1, 3), 0);
    world_close(&w);
    world_sql(&w, "UPDATE records SET bytes=x'00' WHERE seq=2");
    assert_int_equal(world_open(&w), 0);
    assert_int_equal(world_read(&w, 1, &first, &count), MR_ECORRUPT);
    assert_int_equal(count, 1);
    world_done(&w);
}

static void record_that_moved_is_damage(void **state)
{
    struct store_world w;
    uint64_t epoch, first, count;
    (void)state;
    opened(&w, &epoch);
    assert_int_equal(world_append(&w, epoch, 1, 4), 0);
    world_close(&w);
    world_sql(&w, "UPDATE records SET seq=100 WHERE seq=2; UPDATE records SET seq=2 WHERE seq=3;"
                  "UPDATE records SET seq=3 WHERE seq=100");
    assert_int_equal(world_open(&w), 0);
    assert_int_equal(world_read(&w, 1, &first, &count),
                     MR_ECORRUPT); /* bytes are whole, places not */
    world_done(&w);
}

static void snapshots_keep_two_and_the_records_they_need(void **state)
{
    struct store_world w;
    struct mr_buf bytes;
    uint64_t epoch, seq = 0, first, count;
    (void)state;
    opened(&w, &epoch);
    mr_buf_init(&bytes, SIZE_MAX);
    assert_int_equal(world_append(&w, epoch, 1, 10), 0);
    assert_int_equal(world_snapshot(&w, epoch, 10, "ten"), 0);
    assert_int_equal(world_read(&w, 1, &first, &count), 0);
    assert_int_equal(count, 10); /* one snapshot alone might be damaged */
    assert_int_equal(world_append(&w, epoch, 11, 10), 0);
    assert_int_equal(world_snapshot(&w, epoch, 20, "twenty"), 0);
    assert_int_equal(world_read(&w, 1, &first, &count), 0);
    assert_int_equal(first, 11);
    assert_int_equal(count, 10);
    assert_int_equal(world_append(&w, epoch, 21, 5), 0);
    assert_int_equal(world_snapshot(&w, epoch, 25, "twenty-five"), 0);
    assert_int_equal(w.store->ops->snapshot_get(w.store, 0, &bytes, &seq), 0);
    assert_int_equal(seq, 25);
    assert_true(mr_str_equal(mr_buf_str(&bytes), MR_STR("twenty-five")));
    mr_buf_reset(&bytes);
    assert_int_equal(w.store->ops->snapshot_get(w.store, 1, &bytes, &seq), 0);
    assert_int_equal(seq, 20);
    assert_int_equal(w.store->ops->snapshot_get(w.store, 2, &bytes, &seq), MR_ENOT_FOUND);
    assert_int_equal(world_read(&w, 1, &first, &count), 0);
    assert_int_equal(first, 21);
    mr_buf_done(&bytes);
    world_done(&w);
}

static void damaged_snapshot_is_told_and_does_not_count_as_kept(void **state)
{
    struct store_world w;
    struct mr_buf bytes;
    uint64_t epoch, seq = 0, first, count;
    (void)state;
    opened(&w, &epoch);
    mr_buf_init(&bytes, SIZE_MAX);
    assert_int_equal(world_append(&w, epoch, 1, 4), 0);
    assert_int_equal(world_snapshot(&w, epoch, 2, "two"), 0);
    assert_int_equal(world_snapshot(&w, epoch, 4, "four"), 0);
    world_close(&w);
    world_sql(&w, "UPDATE snapshots SET bytes=x'31' WHERE seq=4");
    assert_int_equal(world_open(&w), 0);
    assert_int_equal(world_epoch(&w, &epoch), 0);
    assert_int_equal(w.store->ops->snapshot_get(w.store, 0, &bytes, &seq), MR_ECORRUPT);
    assert_int_equal(w.store->ops->snapshot_get(w.store, 1, &bytes, &seq), 0);
    assert_int_equal(world_append(&w, epoch, 5, 1), 0);
    assert_int_equal(world_snapshot(&w, epoch, 5, "five"), 0);
    assert_int_equal(world_read(&w, 1, &first, &count), 0);
    assert_int_equal(first, 3); /* 2 and 5 are what is kept, so 3 and 4 are needed */
    mr_buf_done(&bytes);
    world_done(&w);
}

static void journal_does_not_grow_for_ever(void **state)
{
    struct store_world w;
    struct mr_store_stats stats;
    uint64_t epoch, seq = 1;
    const uint32_t state_bytes = 1000000, rounds = 60; /* 60 MB pass through */
    char *large = calloc(1, state_bytes + 1);
    (void)state;
    opened(&w, &epoch);
    memset(large, 'x', state_bytes);
    for (uint32_t round = 0; round < rounds; round++, seq += 1000) {
        assert_int_equal(world_append(&w, epoch, seq, 500), 0);
        assert_int_equal(world_append(&w, epoch, seq + 500, 500), 0);
        assert_int_equal(world_snapshot(&w, epoch, seq + 999, large), 0);
        w.store->ops->stats(w.store, &stats);
        assert_true(stats.records <= 2000);
        assert_true(stats.bytes <= 26000000); /* 16 MB of WAL, three states, the records */
    }
    free(large);
    world_done(&w);
}

static int count_line(void *arg, const struct mr_store_ledger *line)
{
    uint64_t *sum = arg;
    *sum = *sum * 10 + line->entry;
    assert_true(mr_str_equal(line->bytes, MR_STR("first")));
    return 0;
}

static void ledger_line_that_is_put_again_changes_nothing(void **state)
{
    struct store_world w;
    uint64_t epoch, sum = 0;
    (void)state;
    opened(&w, &epoch);
    for (uint64_t entry = 1; entry <= 4; entry++) {
        assert_int_equal(world_append_ledger(&w, epoch, entry, "first"), 0);
    }
    assert_int_equal(world_append_ledger(&w, epoch, 3, "second"), 0);
    assert_int_equal(w.store->ops->ledger_read(w.store, 2, 2, count_line, &sum), 0);
    assert_int_equal(sum, 23);
    world_done(&w);
}

static void second_daemon_is_refused_and_told_whom_to_stop(void **state)
{
    struct store_world w, other;
    uint64_t epoch;
    char pid[32];
    (void)state;
    opened(&w, &epoch);
    other = w;
    other.store = NULL;
    assert_int_equal(world_open(&other), MR_EFENCED);
    snprintf(pid, sizeof pid, "process %d ", (int)getpid());
    assert_non_null(strstr(other.problem, pid));
    assert_int_equal(world_append(&w, epoch, 1, 1), 0); /* the first one is not disturbed */
    world_done(&w);
}

static void other_version_is_refused_and_left_alone(void **state)
{
    struct store_world w;
    uint64_t epoch;
    (void)state;
    opened(&w, &epoch);
    world_close(&w);
    world_sql(&w, "UPDATE meta SET value=2 WHERE name='version'; DROP TABLE ledger");
    assert_int_equal(world_open(&w), MR_EUNSUPPORTED);
    assert_non_null(strstr(w.problem, "format 2"));
    world_sql(&w, "CREATE TABLE ledger(untouched)"); /* it was not made again */
    world_done(&w);
}

static void file_that_is_no_database_is_told(void **state)
{
    struct store_world w;
    char path[128];
    (void)state;
    world_init(&w);
    snprintf(path, sizeof path, "%s/journal.db", w.folder);
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 1000; i++)
        fputs("this is a diary, not a database\n", file);
    fclose(file);
    assert_int_equal(world_open(&w), MR_ECORRUPT);
    assert_non_null(strstr(w.problem, "backup"));
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_size, 32000); /* nothing was written into it */
    world_done(&w);
}

static void missing_folder_is_told(void **state)
{
    struct store_world w;
    (void)state;
    world_init(&w);
    struct store_world lost = w;
    snprintf(lost.folder, sizeof lost.folder, "/tmp/mr-store-none/none");
    assert_int_equal(world_open(&lost), MR_EIO);
    assert_non_null(strstr(lost.problem, "MILLRACE_HOME"));
    world_done(&w);
}

static void read_only_disk_is_told(void **state)
{
    struct store_world w;
    uint64_t epoch;
    (void)state;
    vfs_install();
    opened(&w, &epoch);
    world_close(&w);
    vfs_read_only(true);
    assert_int_equal(world_open(&w), MR_EIO);
    assert_non_null(strstr(w.problem, "can be written"));
    vfs_read_only(false);
    world_done(&w);
}

static void files_are_the_owners_only(void **state)
{
    struct store_world w;
    struct stat about;
    uint64_t epoch;
    char path[128];
    (void)state;
    opened(&w, &epoch);
    snprintf(path, sizeof path, "%s/journal.db", w.folder);
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    world_done(&w);
}

static void snapshot_and_append_go_side_by_side(void **state)
{
    struct store_world w;
    uint64_t epoch, first, count;
    char scratch[64];
    (void)state;
    opened(&w, &epoch);
    assert_int_equal(world_append(&w, epoch, 1, 1), 0);
    struct world_wait snapshot = {.world = &w}, append = {.world = &w};
    struct mr_store_record record = {2, world_record(2, scratch)};
    struct mr_store_group group = {.records = &record, .record_count = 1};
    w.store->ops->snapshot_put(w.store, epoch, 1, MR_STR("one"), world_done_fn, &snapshot);
    w.store->ops->append(w.store, epoch, &group, world_done_fn, &append);
    assert_int_equal(world_wait(&append), 0);
    assert_int_equal(world_wait(&snapshot), 0);
    assert_int_equal(world_read(&w, 1, &first, &count), 0);
    assert_int_equal(count, 2);
    world_done(&w);
}

static void close_waits_for_what_is_under_way(void **state)
{
    struct store_world w;
    uint64_t epoch, first, count;
    char scratch[64];
    (void)state;
    opened(&w, &epoch);
    struct world_wait append = {.world = &w};
    struct mr_store_record record = {1, world_record(1, scratch)};
    struct mr_store_group group = {.records = &record, .record_count = 1};
    w.store->ops->append(w.store, epoch, &group, world_done_fn, &append);
    world_close(&w);
    assert_int_equal(world_open(&w), 0);
    assert_int_equal(world_read(&w, 1, &first, &count), 0);
    assert_int_equal(count, 1);
    world_done(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back_in_order),
        cmocka_unit_test(what_visit_returns_ends_the_read),
        cmocka_unit_test(older_epoch_is_refused_and_changes_nothing),
        cmocka_unit_test(epoch_from_the_future_is_refused),
        cmocka_unit_test(torn_end_is_dropped),
        cmocka_unit_test(damage_before_the_end_is_told),
        cmocka_unit_test(record_that_moved_is_damage),
        cmocka_unit_test(snapshots_keep_two_and_the_records_they_need),
        cmocka_unit_test(damaged_snapshot_is_told_and_does_not_count_as_kept),
        cmocka_unit_test(journal_does_not_grow_for_ever),
        cmocka_unit_test(ledger_line_that_is_put_again_changes_nothing),
        cmocka_unit_test(second_daemon_is_refused_and_told_whom_to_stop),
        cmocka_unit_test(other_version_is_refused_and_left_alone),
        cmocka_unit_test(file_that_is_no_database_is_told),
        cmocka_unit_test(missing_folder_is_told),
        cmocka_unit_test(read_only_disk_is_told),
        cmocka_unit_test(files_are_the_owners_only),
        cmocka_unit_test(snapshot_and_append_go_side_by_side),
        cmocka_unit_test(close_waits_for_what_is_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
