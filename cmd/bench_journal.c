/* SPDX-License-Identifier: Apache-2.0 */
/* `bench journal`: durable events a second, beside what SQLite and the disk can do at all.
 *
 * The floors run in the same rounds on the same folder: a bare SQLite loop with the same table and
 * pragmas, and raw write + fdatasync of the same bytes. Then the whole of ctl: documents in,
 * answers out, each after its event is durable. The folder is the bench's argument, else /var/tmp:
 * a folder in memory would measure nothing.
 *
 * Owns:   a folder of its own, removed at the end.
 * Thread: one, and the store's.
 * Ends:   bench_journal.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"
#include "ctl/ctl.h"
#include "store/store.h"

#define RECORD_BYTES 160u /* a core event and its head */
#define ROUNDS       5u
#define CLIENTS      32u
#define BATCH        512u

struct world { /* a lane: posts and timers, taken in turn */
    struct mr_env env;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct mr_post *first, **last;
    struct mr_timer *timers;
    uint64_t random;
    char folder[256];
    uint64_t seq, epoch;
};
struct mr_timer {
    struct mr_timer *next;
    uint64_t at_us;
    void (*fn)(void *arg);
    void *arg;
};

/* --- the lane ------------------------------------------------------------------------------- */

static uint64_t env_now(struct mr_env *env)
{
    (void)env;
    return 1800000000000000u + bench_now_ns() / 1000u;
}

static void env_random(struct mr_env *env, uint8_t ret[16])
{
    for (size_t i = 0; i < 16; i++)
        ret[i] = (uint8_t)mr_hash_mix(++((struct world *)(void *)env)->random);
}

static int env_timer_start(struct mr_env *env, uint64_t at_us, void (*fn)(void *arg), void *arg,
                           struct mr_timer **ret_timer)
{
    struct world *w = (struct world *)(void *)env;
    struct mr_timer *timer = calloc(1, sizeof *timer);
    if (timer == NULL) return MR_ENO_MEMORY;
    *timer = (struct mr_timer){w->timers, at_us, fn, arg};
    w->timers = *ret_timer = timer;
    return 0;
}

static void env_timer_stop(struct mr_env *env, struct mr_timer *timer)
{
    struct world *w = (struct world *)(void *)env;
    for (struct mr_timer **link = &w->timers; *link != NULL; link = &(*link)->next) {
        if (*link != timer) continue;
        *link = timer->next;
        free(timer);
        return;
    }
}

static void env_post(struct mr_env *env, uint32_t lane, struct mr_post *post)
{
    struct world *w = (struct world *)(void *)env;
    (void)lane;
    (void)pthread_mutex_lock(&w->mutex);
    post->next = NULL;
    *w->last = post;
    w->last = &post->next;
    (void)pthread_cond_signal(&w->wake);
    (void)pthread_mutex_unlock(&w->mutex);
}

static const struct mr_env_ops env_ops = {.now_us = env_now,
                                          .random = env_random,
                                          .timer_start = env_timer_start,
                                          .timer_stop = env_timer_stop,
                                          .post = env_post};

static bool run_timer(struct world *w)
{
    uint64_t now_us = env_now(&w->env);
    for (struct mr_timer **link = &w->timers; *link != NULL; link = &(*link)->next) {
        if ((*link)->at_us > now_us) continue;
        struct mr_timer timer = **link;
        free(*link);
        *link = timer.next;
        timer.fn(timer.arg);
        return true;
    }
    return false;
}

static void run_until(struct world *w, const bool *done)
{
    while (!*done) {
        if (run_timer(w)) continue;
        (void)pthread_mutex_lock(&w->mutex);
        if (w->first == NULL && w->timers != NULL) {
            struct timespec at;
            (void)clock_gettime(CLOCK_REALTIME, &at); /* cannot fail with this clock */
            at.tv_nsec += 1000000;
            at.tv_sec += at.tv_nsec / 1000000000;
            at.tv_nsec %= 1000000000;
            (void)pthread_cond_timedwait(&w->wake, &w->mutex, &at); /* or a timer is due */
        }
        while (w->first == NULL && w->timers == NULL)
            (void)pthread_cond_wait(&w->wake, &w->mutex);
        struct mr_post *post = w->first;
        if (post != NULL) w->first = post->next;
        if (w->first == NULL) w->last = &w->first;
        (void)pthread_mutex_unlock(&w->mutex);
        if (post != NULL) post->fn(post);
    }
}

/* --- floors ----------------------------------------------------------------------------------- */

static void record_fill(uint8_t bytes[RECORD_BYTES], uint64_t seq)
{
    for (size_t i = 0; i < RECORD_BYTES; i += 8) {
        uint64_t word = mr_hash_mix(seq + i);
        memcpy(bytes + i, &word, 8);
    }
}

/* Rows a second of a bare loop, or a negative number. */
static double sqlite_rate(const char *folder, uint32_t group, uint32_t groups)
{
    static const char sql[] =
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
        "PRAGMA wal_autocheckpoint=4000; CREATE TABLE IF NOT EXISTS records"
        "(seq INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, bytes BLOB NOT NULL);";
    char path[300];
    uint8_t bytes[RECORD_BYTES];
    sqlite3 *db = NULL;
    sqlite3_stmt *insert = NULL;
    sqlite3_int64 seq = 0;
    (void)snprintf(path, sizeof path, "%s/floor.db", folder);
    bool fine =
        sqlite3_open(path, &db) == SQLITE_OK &&
        sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_exec(db, "DELETE FROM records", NULL, NULL, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(db, "INSERT INTO records VALUES(?,?,?)", -1, &insert, NULL) == SQLITE_OK;
    uint64_t from_ns = bench_now_ns();
    for (uint32_t g = 0; g < groups && fine; g++) {
        fine = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK;
        for (uint32_t i = 0; i < group && fine; i++) {
            record_fill(bytes, (uint64_t)++seq);
            fine = sqlite3_bind_int64(insert, 1, seq) == SQLITE_OK &&
                   sqlite3_bind_int64(insert, 2, seq) == SQLITE_OK &&
                   sqlite3_bind_blob(insert, 3, bytes, sizeof bytes, SQLITE_STATIC) == SQLITE_OK &&
                   sqlite3_step(insert) == SQLITE_DONE && sqlite3_reset(insert) == SQLITE_OK;
        }
        fine = fine && sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK;
    }
    double rate = (double)group * groups * 1e9 / (double)(bench_now_ns() - from_ns);
    (void)sqlite3_finalize(insert); /* nothing hangs on their ends */
    (void)sqlite3_close(db);
    return fine ? rate : -1;
}

static double raw_rate(const char *folder, uint32_t group, uint32_t groups)
{
    char path[300];
    size_t n = (size_t)group * RECORD_BYTES;
    uint8_t *bytes = malloc(n);
    (void)snprintf(path, sizeof path, "%s/floor.raw", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool fine = fd >= 0 && bytes != NULL;
    uint64_t from_ns = bench_now_ns();
    for (uint32_t g = 0; g < groups && fine; g++) {
        for (uint32_t i = 0; i < group; i++)
            record_fill(bytes + (size_t)i * RECORD_BYTES, i);
        fine = write(fd, bytes, n) == (ssize_t)n && fdatasync(fd) == 0;
    }
    double rate = (double)group * groups * 1e9 / (double)(bench_now_ns() - from_ns);
    if (fd >= 0) (void)close(fd); /* its bytes are not wanted */
    (void)unlink(path);
    free(bytes);
    return fine ? rate : -1;
}

/* --- the store -------------------------------------------------------------------------------- */

struct wait {
    bool done;
    int error;
};

static void wait_done(void *arg, int error)
{
    struct wait *wait = arg;
    wait->error = error;
    wait->done = true;
}

static double store_rate(struct world *w, struct mr_store *store, uint32_t group, uint32_t groups)
{
    uint8_t(*bytes)[RECORD_BYTES] = malloc((size_t)group * RECORD_BYTES);
    struct mr_store_record *records = calloc(group, sizeof *records);
    bool fine = bytes != NULL && records != NULL;
    uint64_t from_ns = bench_now_ns();
    for (uint32_t g = 0; g < groups && fine; g++) {
        struct wait wait = {0};
        for (uint32_t i = 0; i < group; i++) {
            record_fill(bytes[i], ++w->seq);
            records[i] = (struct mr_store_record){w->seq, {(const char *)bytes[i], RECORD_BYTES}};
        }
        struct mr_store_group one = {.records = records, .record_count = group};
        store->ops->append(store, w->epoch, &one, wait_done, &wait);
        run_until(w, &wait.done);
        fine = wait.error == 0;
    }
    double rate = (double)group * groups * 1e9 / (double)(bench_now_ns() - from_ns);
    free(bytes);
    free(records);
    return fine ? rate : -1;
}

/* --- ctl -------------------------------------------------------------------------------------- */

struct client {
    struct mr_ctl_call call;
    struct run *run;
};
struct run {
    struct world *world;
    struct mr_ctl *ctl;
    struct client clients[CLIENTS];
    struct mr_buf body;
    uint32_t left, busy, per_call; /* calls to make, under way; documents in one */
    bool done, failed;
};

static void engine_watch(struct mr_engine *e,
                         void (*report)(void *arg, const struct mr_engine_report *r), void *arg)
{
    (void)e, (void)report, (void)arg;
}
static void engine_start(struct mr_engine *e, const struct mr_engine_start *start)
{
    (void)e, (void)start;
}
static void engine_lease(struct mr_engine *e, struct mr_lease_id lease)
{
    (void)e, (void)lease;
}
static void engine_stop(struct mr_engine *e, struct mr_lease_id lease, uint64_t grace_us)
{
    (void)e, (void)lease, (void)grace_us;
}
static void engine_sweep(struct mr_engine *e)
{
    (void)e;
}
static void engine_address(struct mr_engine *e, struct mr_lease_id lease, struct mr_buf *buf)
{
    (void)e, (void)lease, (void)buf;
}

/* Starts nothing: what is measured is taking work, not running it. */
static const struct mr_engine_ops engine_ops = {.watch = engine_watch,
                                                .start = engine_start,
                                                .adopt = engine_lease,
                                                .stop = engine_stop,
                                                .forget = engine_lease,
                                                .sweep = engine_sweep,
                                                .address = engine_address};

static void client_next(struct client *c);

static void client_done(struct mr_ctl_call *call)
{
    struct client *c = call->arg;
    if (call->error != 0) c->run->failed = true;
    mr_buf_done(&call->out);
    mr_buf_done(&call->out_text);
    c->run->busy--;
    client_next(c);
}

static void client_next(struct client *c)
{
    struct run *run = c->run;
    if (run->left == 0) {
        run->done = run->busy == 0;
        return;
    }
    run->left--;
    run->busy++;
    c->call = (struct mr_ctl_call){.ctl = run->ctl,
                                   .op = MR_CTL_SUBMIT,
                                   .done = client_done,
                                   .arg = c,
                                   .admin = true,
                                   .body = mr_buf_str(&run->body)};
    mr_ctl_call(&run->world->env, &c->call);
}

static double ctl_rate(struct run *run, uint32_t clients, uint32_t per_call, uint32_t calls)
{
    const struct mr_str one = MR_STR("{\"command\":[\"true\"],\"name\":\"bench\"}");
    mr_buf_reset(&run->body);
    if (per_call > 1) mr_buf_put_str(&run->body, MR_STR("{\"workloads\":["));
    for (uint32_t i = 0; i < per_call; i++) {
        if (i > 0) mr_buf_put_char(&run->body, ',');
        mr_buf_put_str(&run->body, one);
    }
    if (per_call > 1) mr_buf_put_str(&run->body, MR_STR("]}"));
    run->left = calls;
    run->done = false;
    uint64_t from_ns = bench_now_ns();
    for (uint32_t i = 0; i < clients; i++) {
        run->clients[i].run = run;
        client_next(&run->clients[i]);
    }
    run_until(run->world, &run->done);
    double rate = (double)calls * per_call * 1e9 / (double)(bench_now_ns() - from_ns);
    return run->failed ? -1 : rate;
}

static void flag_set(void *arg)
{
    *(bool *)arg = true;
}

struct first_call {
    struct mr_ctl_call call;
    bool done;
};

static void first_done(struct mr_ctl_call *call)
{
    mr_buf_done(&call->out);
    mr_buf_done(&call->out_text);
    ((struct first_call *)call->arg)->done = true;
}

static int first_ask(struct run *run, enum mr_ctl_op op, const char *body)
{
    struct first_call ask = {.done = false};
    ask.call = (struct mr_ctl_call){.ctl = run->ctl,
                                    .op = op,
                                    .done = first_done,
                                    .arg = &ask,
                                    .admin = true,
                                    .body = mr_str_from(body)};
    mr_ctl_call(&run->world->env, &ask.call);
    run_until(run->world, &ask.done);
    return ask.call.error;
}

/* --- bars ------------------------------------------------------------------------------------- */

struct rates {
    double values[ROUNDS];
};

static double median(struct rates *rates)
{
    double middle = bench_median(rates->values, ROUNDS);
    return rates->values[0] < 0 ? -1 : middle;
}

static void bar(struct bench_report *report, const char *name, struct rates *ours, double peer,
                const char *peer_name, double goal, bool is_ratio, const char *extra)
{
    struct bench_bar b = {.ours = median(ours),
                          .unit = "events/s",
                          .peer = peer,
                          .goal = goal,
                          .goal_is_ratio = is_ratio};
    (void)snprintf(b.name, sizeof b.name, "%s", name);
    (void)snprintf(b.peer_name, sizeof b.peer_name, "%s", peer_name);
    (void)snprintf(b.note, sizeof b.note, "median of %u rounds, %.0f to %.0f; %s", ROUNDS,
                   ours->values[0], ours->values[ROUNDS - 1], extra);
    bench_add(report, &b);
}

static void bars_of_store(struct bench_report *report, struct world *w, struct mr_store *store)
{
    static const uint32_t groups[] = {1, 64, 512};
    for (size_t g = 0; g < MR_COUNT_OF(groups); g++) {
        struct rates ours, sqlite, raw;
        uint32_t commits = report->quick ? 20 : groups[g] == 1 ? 1000 : 200;
        char name[64], extra[120];
        for (uint32_t round = 0; round < ROUNDS; round++) {
            ours.values[round] = store_rate(w, store, groups[g], commits);
            sqlite.values[round] = sqlite_rate(w->folder, groups[g], commits);
            raw.values[round] = raw_rate(w->folder, groups[g], commits);
        }
        (void)snprintf(name, sizeof name, "durable events in groups of %u", groups[g]);
        (void)snprintf(extra, sizeof extra,
                       "raw write+fdatasync of the same bytes %.0f/s; %u bytes an event",
                       median(&raw), RECORD_BYTES);
        bar(report, name, &ours, median(&sqlite), "bare SQLite loop, same pragmas", 0.9, true,
            extra);
    }
}

static int bars_of_ctl(struct bench_report *report, struct world *w, struct mr_store *store)
{
    struct run *run = calloc(1, sizeof *run);
    struct mr_engine engine = {.ops = &engine_ops};
    struct mr_ctl_config config = {.env = &w->env,
                                   .store = store,
                                   .engine = &engine,
                                   .limits = mr_core_limits_small,
                                   .snapshot_every_records = UINT64_MAX};
    struct mr_buf problem;
    if (run == NULL) return MR_ENO_MEMORY;
    config.limits.workloads = 400000;
    mr_buf_init(&problem, 4096);
    mr_buf_init(&run->body, 1u << 20);
    run->world = w;
    int error = mr_ctl_new(&config, &run->ctl);
    if (error == 0) error = mr_ctl_start(run->ctl, &problem);
    if (error == 0) error = first_ask(run, MR_CTL_TENANT_SET, "{\"name\":\"default\"}");
    if (error == 0)
        error = first_ask(run, MR_CTL_NODE_SET, "{\"id\":1,\"cpu_milli\":1000,\"mem_mib\":2048}");
    if (error == 0) {
        struct rates single, batch;
        uint32_t calls = report->quick ? 320 : 6400, batches = report->quick ? 4 : 64;
        for (uint32_t round = 0; round < ROUNDS; round++) {
            single.values[round] = ctl_rate(run, CLIENTS, 1, calls);
            batch.values[round] = ctl_rate(run, 4, BATCH, batches);
        }
        bar(report, "submissions through ctl, one at a time, 32 clients", &single, -1, "", 15000,
            false, "document in, durable, answer out; without HTTP");
        bar(report, "submissions through ctl, batches of 512, 4 clients", &batch, -1, "", 100000,
            false, "document in, durable, answer out; without HTTP");
        bool stopped = false;
        mr_ctl_stop(run->ctl, flag_set, &stopped);
        run_until(w, &stopped);
    }
    if (problem.n > 0)
        (void)fprintf(stderr, "bench journal: %.*s\n", MR_STR_ARG(mr_buf_str(&problem)));
    mr_ctl_free(run->ctl);
    mr_buf_done(&run->body);
    mr_buf_done(&problem);
    free(run);
    return error;
}

static void folder_remove(const char *folder)
{
    static const char *const names[] = {"journal.db",   "journal.db-wal", "journal.db-shm",
                                        "journal.lock", "floor.db",       "floor.db-wal",
                                        "floor.db-shm"};
    char path[300];
    for (size_t i = 0; i < MR_COUNT_OF(names); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)unlink(path); /* it may not be there */
    }
    (void)rmdir(folder);
}

static int with_store(struct bench_report *report, struct world *w, bool ctl)
{
    struct mr_store *store = NULL;
    struct mr_buf problem;
    mr_buf_init(&problem, 4096);
    (void)snprintf(w->folder, sizeof w->folder, "%s/millrace-bench-XXXXXX",
                   report->arg != NULL ? report->arg : "/var/tmp");
    if (mkdtemp(w->folder) == NULL) {
        (void)fprintf(stderr, "bench journal: cannot make a folder like %s: %s; name another\n",
                      w->folder, strerror(errno));
        return MR_EIO;
    }
    int error = mr_store_sqlite_open(mr_str_from(w->folder), &w->env, &store, &problem);
    if (error == 0 && !ctl) error = store->ops->epoch_take(store, &w->epoch);
    if (error == 0 && !ctl) bars_of_store(report, w, store);
    if (error == 0 && ctl) error = bars_of_ctl(report, w, store);
    if (problem.n > 0)
        (void)fprintf(stderr, "bench journal: %.*s\n", MR_STR_ARG(mr_buf_str(&problem)));
    mr_store_sqlite_close(store);
    mr_buf_done(&problem);
    folder_remove(w->folder);
    return error;
}

int bench_journal(struct bench_report *report)
{
    struct world w = {.env = {.ops = &env_ops, .lane_count = 1}};
    w.last = &w.first;
    (void)pthread_mutex_init(&w.mutex, NULL); /* cannot fail with default attributes */
    (void)pthread_cond_init(&w.wake, NULL);
    int error = with_store(report, &w, false);
    if (error == 0) error = with_store(report, &w, true);
    (void)pthread_cond_destroy(&w.wake);
    (void)pthread_mutex_destroy(&w.mutex);
    return error;
}
