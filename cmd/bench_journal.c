/* SPDX-License-Identifier: Apache-2.0 */
/* `bench journal`: durable events a second through the store, beside what the disk can do.
 *
 * The store is the production one, on a loop of its own, in a temporary folder beside the home. The
 * floor in the same run: SQLite alone with the same settings, and a plain write with fdatasync.
 *
 * Owns:  the folder until the end.
 * Fails: MR_EIO when no folder can be made.
 */
#include <fcntl.h>
#include <ftw.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"
#include "loop/loop.h"
#include "store/store.h"

#define RECORD_BYTES 200u
#define GROUP_MAX    512u
#define ROUNDS       5u

struct journal {
    struct mr_loop *loop;
    struct mr_store *store;
    struct mr_post start;
    uint64_t epoch, seq, left, begin_ns;
    uint32_t group_size;
    struct mr_store_record records[GROUP_MAX];
    struct mr_store_group group;
    uint8_t bytes[RECORD_BYTES];
    double rates[ROUNDS];
    uint32_t round;
    uint64_t events;
    int error;
};

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(double *values, uint32_t count)
{
    qsort(values, count, sizeof *values, by_size);
    return values[count / 2];
}

/* --- through the store ----------------------------------------------------------------------- */

static void append(struct journal *j);

static void appended(void *arg, int error)
{
    struct journal *j = arg;
    j->error = error;
    if (error == 0) j->left -= MR_MIN(j->left, (uint64_t)j->group_size);
    if (error == 0 && j->left == 0) {
        double seconds = (double)(bench_now_ns() - j->begin_ns) / 1e9;
        j->rates[j->round++] = (double)j->events / seconds;
        j->left = j->events;
        j->begin_ns = bench_now_ns();
    }
    if (error != 0 || j->round == ROUNDS) {
        mr_loop_stop(j->loop);
        return;
    }
    append(j);
}

static void append(struct journal *j)
{
    for (uint32_t i = 0; i < j->group_size; i++) {
        j->records[i] = (struct mr_store_record){.seq = ++j->seq,
                                                 .bytes = {(const char *)j->bytes, sizeof j->bytes}};
    }
    j->group = (struct mr_store_group){.records = j->records, .record_count = j->group_size};
    j->store->ops->append(j->store, j->epoch, &j->group, appended, j);
}

static void begin(struct mr_post *post)
{
    struct journal *j = (struct journal *)(void *)((uint8_t *)post - offsetof(struct journal, start));
    j->begin_ns = bench_now_ns();
    append(j);
}

static int run_store(const char *folder, uint32_t group_size, uint64_t events, struct bench_bar *bar)
{
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    struct journal *j = calloc(1, sizeof *j);
    mr_buf_init(&problem, 4096);
    if (j == NULL) return MR_ENO_MEMORY;
    memset(j->bytes, 0x5a, sizeof j->bytes);
    j->group_size = group_size;
    j->events = j->left = events;
    int error = mr_loop_new(1, &j->loop);
    if (error == 0) {
        error = mr_store_sqlite_open(mr_str_from(folder), mr_loop_env(j->loop, 0), &j->store, &problem);
    }
    if (error == 0) error = j->store->ops->epoch_take(j->store, &j->epoch);
    if (error == 0) {
        struct mr_store_stats stats;
        struct mr_env *env = mr_loop_env(j->loop, 0);
        j->store->ops->stats(j->store, &stats);
        j->seq = stats.last_seq;
        j->start.fn = begin;
        env->ops->post(env, 0, &j->start);
        error = mr_loop_run(j->loop);
        if (error == 0) error = j->error;
    }
    if (error == 0) {
        bar->ours = median(j->rates, ROUNDS);
        (void)snprintf(bar->note, sizeof bar->note,
                       "median of %u rounds of %llu events of %u bytes, %.0f to %.0f", ROUNDS,
                       (unsigned long long)events, RECORD_BYTES, j->rates[0], j->rates[ROUNDS - 1]);
    }
    mr_store_sqlite_close(j->store);
    mr_loop_free(j->loop);
    free(j);
    return error;
}

/* --- the floor -------------------------------------------------------------------------------- */

static double floor_sqlite(const char *folder, uint32_t group_size, uint64_t events)
{
    char path[4200];
    uint8_t bytes[RECORD_BYTES] = {0};
    sqlite3 *db = NULL;
    sqlite3_stmt *insert = NULL;
    double rates[ROUNDS] = {0};
    (void)snprintf(path, sizeof path, "%s/floor.db", folder);
    if (sqlite3_open(path, &db) != SQLITE_OK ||
        sqlite3_exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                         "CREATE TABLE IF NOT EXISTS r(seq INTEGER PRIMARY KEY, bytes BLOB);",
                     NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, "INSERT INTO r(bytes) VALUES(?)", -1, &insert, NULL) != SQLITE_OK) {
        (void)sqlite3_close(db);
        return -1;
    }
    (void)sqlite3_bind_blob(insert, 1, bytes, sizeof bytes, SQLITE_STATIC);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint64_t begin_ns = bench_now_ns();
        for (uint64_t i = 0; i < events; i += group_size) {
            (void)sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
            for (uint32_t k = 0; k < group_size; k++) {
                (void)sqlite3_step(insert);
                (void)sqlite3_reset(insert);
            }
            (void)sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
        }
        rates[round] = (double)events / ((double)(bench_now_ns() - begin_ns) / 1e9);
    }
    (void)sqlite3_finalize(insert);
    (void)sqlite3_close(db);
    return median(rates, ROUNDS);
}

static double floor_write(const char *folder, uint64_t events)
{
    char path[4200];
    uint8_t bytes[RECORD_BYTES] = {0};
    (void)snprintf(path, sizeof path, "%s/floor.raw", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    uint64_t begin_ns = bench_now_ns();
    for (uint64_t i = 0; i < events; i++) {
        if (write(fd, bytes, sizeof bytes) != (ssize_t)sizeof bytes || fdatasync(fd) != 0) break;
    }
    double rate = (double)events / ((double)(bench_now_ns() - begin_ns) / 1e9);
    (void)close(fd); /* it is thrown away */
    return rate;
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    (void)about;
    (void)kind;
    (void)where;
    return remove(path);
}

int bench_journal(struct bench_report *report)
{
    static const struct {
        uint32_t group;
        double goal;
    } sizes[] = {{1, -1}, {64, -1}, {GROUP_MAX, 100000}};
    char folder[4096];
    const char *temporary = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%s/millrace-bench-XXXXXX",
                   temporary != NULL ? temporary : "/var/tmp");
    if (mkdtemp(folder) == NULL) return MR_EIO;
    int error = 0;
    for (size_t i = 0; i < MR_COUNT_OF(sizes) && error == 0; i++) {
        uint64_t events = sizes[i].group * (report->quick ? 8u : sizes[i].group == 1 ? 2000u : 200u);
        struct bench_bar bar = {.unit = "events/s", .goal = sizes[i].goal};
        (void)snprintf(bar.name, sizeof bar.name, "durable events, groups of %u", sizes[i].group);
        (void)snprintf(bar.peer_name, sizeof bar.peer_name, "bare SQLite");
        bar.peer = floor_sqlite(folder, sizes[i].group, events);
        error = run_store(folder, sizes[i].group, events, &bar);
        if (error == 0) bench_add(report, &bar);
    }
    struct bench_bar raw = {.name = "the disk: 200-byte writes with fdatasync",
                            .ours = floor_write(folder, report->quick ? 8 : 1000),
                            .unit = "writes/s",
                            .peer = -1,
                            .goal = -1,
                            .note = "the floor, one run"};
    if (error == 0) bench_add(report, &raw);
    (void)nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS); /* what stays is in a temporary folder */
    return error;
}
