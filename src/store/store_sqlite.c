/* SPDX-License-Identifier: Apache-2.0 */
/* The embedded store: SQLite in WAL mode, synchronous=FULL, a thread that writes.
 *
 * Thread: everything is called on the opener's lane; only the writer's thread touches the writing
 *         connection. `done` travels back by a post, so no completion comes inside a call.
 * Fails:  as port/store.h says; opening tells in words.
 * Ends:   mr_store_sqlite_close, which waits for what is under way.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/store_int.h"

#define BUSY_MS       10000
#define LOCK_TRIES    50u
#define WAL_PAGES     4000 /* checkpoint after 16 MB */
#define JOURNAL_BYTES 67108864

static const char schema[] = /* in one transaction: a home is made whole or not at all */
    "BEGIN IMMEDIATE;"
    "CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS records(seq INTEGER PRIMARY KEY, checksum INTEGER NOT NULL,"
    " bytes BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS snapshots(seq INTEGER PRIMARY KEY, checksum INTEGER NOT NULL,"
    " bytes BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS ledger(entry INTEGER PRIMARY KEY, bytes BLOB NOT NULL);"
    "INSERT OR IGNORE INTO meta(name,value) VALUES('version',1),('epoch',0);"
    "COMMIT;";

static struct store *store_of(struct mr_store *store)
{
    return (struct store *)(void *)store; /* base is its first member */
}

/* --- the writer ------------------------------------------------------------------------------- */

static uint64_t monotonic_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void told(struct mr_post *post)
{
    struct store_job *job = (struct store_job *)(void *)post;
    mr_store_done done = job->done;
    void *arg = job->arg;
    int result = job->result;
    job->busy = false;
    done(arg, result);
}

static void job_run(struct store *s, struct store_job *job)
{
    uint64_t begin_us = monotonic_us();
    if (job->is_snapshot) {
        job->result = store_snapshot_now(s, job->epoch, job->seq, job->bytes);
    } else {
        job->result = store_append_now(s, job->epoch, job->group);
        size_t n = job->group->record_count;
        if (job->result == 0 && n > 0) atomic_store(&s->last_seq, job->group->records[n - 1].seq);
    }
    atomic_fetch_add(&s->commits, 1);
    atomic_fetch_add(&s->commit_us, monotonic_us() - begin_us);
}

static void *writer_main(void *arg)
{
    struct store *s = arg;
    (void)pthread_mutex_lock(&s->mutex);
    for (;;) {
        while (s->queued == 0 && !s->stop)
            (void)pthread_cond_wait(&s->wake, &s->mutex);
        if (s->queued == 0) break;
        struct store_job *job = s->queue[0];
        s->queue[0] = s->queue[1];
        s->queued--;
        (void)pthread_mutex_unlock(&s->mutex);
        job_run(s, job);
        (void)pthread_mutex_lock(&s->mutex);
        if (!s->closing) s->env->ops->post(s->env, s->env->lane, &job->post);
    }
    (void)pthread_mutex_unlock(&s->mutex);
    return NULL;
}

static void job_give(struct store *s, struct store_job *job)
{
    job->post.fn = told;
    (void)pthread_mutex_lock(&s->mutex);
    MR_ASSERT(s->queued < MR_COUNT_OF(s->queue));
    s->queue[s->queued++] = job;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->mutex);
}

/* --- the table -------------------------------------------------------------------------------- */

static int op_epoch_take(struct mr_store *store, uint64_t *ret_epoch)
{
    struct store *s = store_of(store);
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(
        s->reader, "UPDATE meta SET value=value+1 WHERE name='epoch' RETURNING value", -1,
        &statement, NULL);
    if (result == SQLITE_OK) result = sqlite3_step(statement);
    int error = result == SQLITE_ROW ? 0 : store_error(s->reader, result);
    uint64_t epoch = error == 0 ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
    if (error == 0 && sqlite3_step(statement) != SQLITE_DONE)
        error = store_error(s->reader, SQLITE_IOERR);
    (void)sqlite3_finalize(statement);
    if (error == 0) *ret_epoch = epoch;
    return error;
}

static void op_append(struct mr_store *store, uint64_t epoch, const struct mr_store_group *group,
                      mr_store_done done, void *arg)
{
    struct store *s = store_of(store);
    MR_ASSERT(!s->append.busy);
    s->group = *group;
    s->append = (struct store_job){
        .store = s, .busy = true, .epoch = epoch, .group = &s->group, .done = done, .arg = arg};
    job_give(s, &s->append);
}

static void op_snapshot_put(struct mr_store *store, uint64_t epoch, uint64_t seq,
                            struct mr_str bytes, mr_store_done done, void *arg)
{
    struct store *s = store_of(store);
    MR_ASSERT(!s->snapshot.busy);
    s->snapshot = (struct store_job){.store = s,
                                     .busy = true,
                                     .is_snapshot = true,
                                     .epoch = epoch,
                                     .seq = seq,
                                     .bytes = bytes,
                                     .done = done,
                                     .arg = arg};
    job_give(s, &s->snapshot);
}

static uint64_t number(struct store *s, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    uint64_t value = 0;
    if (sqlite3_prepare_v2(s->reader, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        value = (uint64_t)sqlite3_column_int64(statement, 0);
    }
    (void)sqlite3_finalize(statement);
    return value;
}

static int drop_torn(struct store *s, uint64_t seq)
{
    sqlite3_stmt *statement = NULL;
    int result =
        sqlite3_prepare_v2(s->reader, "DELETE FROM records WHERE seq>=?", -1, &statement, NULL);
    if (result == SQLITE_OK) {
        (void)sqlite3_bind_int64(statement, 1, (sqlite3_int64)seq);
        result = sqlite3_step(statement);
    }
    (void)sqlite3_finalize(statement);
    return result == SQLITE_DONE ? 0 : store_error(s->reader, result);
}

/* One row: handed on, dropped as torn (MR_ENOT_FOUND), or the journal is damaged. */
static int visit_row(struct store *s, sqlite3_stmt *rows, uint64_t last,
                     int (*visit)(void *arg, const struct mr_store_record *record), void *arg)
{
    struct mr_store_record record = {
        .seq = (uint64_t)sqlite3_column_int64(rows, 0),
        .bytes = {sqlite3_column_blob(rows, 2), (size_t)sqlite3_column_bytes(rows, 2)}};
    (void)s;
    if (store_checksum(record.seq, record.bytes) != (uint64_t)sqlite3_column_int64(rows, 1)) {
        return record.seq == last ? MR_ENOT_FOUND : MR_ECORRUPT;
    }
    return visit(arg, &record);
}

static int op_read(struct mr_store *store, uint64_t seq,
                   int (*visit)(void *arg, const struct mr_store_record *record), void *arg)
{
    struct store *s = store_of(store);
    sqlite3_stmt *rows = NULL;
    uint64_t last = number(s, "SELECT max(seq) FROM records");
    int error = 0;
    int result = sqlite3_prepare_v2(
        s->reader, "SELECT seq,checksum,bytes FROM records WHERE seq>=? ORDER BY seq", -1, &rows,
        NULL);
    if (result != SQLITE_OK) return store_error(s->reader, result);
    (void)sqlite3_bind_int64(rows, 1, (sqlite3_int64)seq);
    while (error == 0 && (result = sqlite3_step(rows)) == SQLITE_ROW) {
        error = visit_row(s, rows, last, visit, arg);
    }
    (void)sqlite3_finalize(rows);
    if (error == MR_ENOT_FOUND) return drop_torn(s, last);
    if (error == 0 && result != SQLITE_DONE) error = store_error(s->reader, result);
    return error;
}

static int op_snapshot_get(struct mr_store *store, uint32_t n, struct mr_buf *buf,
                           uint64_t *ret_seq)
{
    struct store *s = store_of(store);
    sqlite3_stmt *rows = NULL;
    int result = sqlite3_prepare_v2(
        s->reader, "SELECT seq,checksum,bytes FROM snapshots ORDER BY seq DESC LIMIT 1 OFFSET ?",
        -1, &rows, NULL);
    if (result != SQLITE_OK) return store_error(s->reader, result);
    (void)sqlite3_bind_int64(rows, 1, n);
    result = sqlite3_step(rows);
    int error = result == SQLITE_ROW ? 0 : result == SQLITE_DONE ? MR_ENOT_FOUND : MR_ECORRUPT;
    if (error == 0) {
        uint64_t seq = (uint64_t)sqlite3_column_int64(rows, 0);
        struct mr_str bytes = {sqlite3_column_blob(rows, 2), (size_t)sqlite3_column_bytes(rows, 2)};
        if (store_checksum(seq, bytes) != (uint64_t)sqlite3_column_int64(rows, 1)) {
            error = MR_ECORRUPT;
        } else {
            mr_buf_put_str(buf, bytes);
            error = buf->failed ? MR_ENO_MEMORY : 0;
            *ret_seq = seq;
        }
    }
    (void)sqlite3_finalize(rows);
    return error;
}

static int op_ledger_read(struct mr_store *store, uint64_t from, uint32_t max,
                          int (*visit)(void *arg, const struct mr_store_ledger *line), void *arg)
{
    struct store *s = store_of(store);
    sqlite3_stmt *rows = NULL;
    int error = 0,
        result = sqlite3_prepare_v2(
            s->reader, "SELECT entry,bytes FROM ledger WHERE entry>=? ORDER BY entry LIMIT ?", -1,
            &rows, NULL);
    if (result != SQLITE_OK) return store_error(s->reader, result);
    (void)sqlite3_bind_int64(rows, 1, (sqlite3_int64)from);
    (void)sqlite3_bind_int64(rows, 2, max);
    while (error == 0 && (result = sqlite3_step(rows)) == SQLITE_ROW) {
        struct mr_store_ledger line = {
            .entry = (uint64_t)sqlite3_column_int64(rows, 0),
            .bytes = {sqlite3_column_blob(rows, 1), (size_t)sqlite3_column_bytes(rows, 1)}};
        error = visit(arg, &line);
    }
    (void)sqlite3_finalize(rows);
    if (error == 0 && result != SQLITE_DONE) error = store_error(s->reader, result);
    return error;
}

static uint64_t file_bytes(const char *path, const char *end)
{
    char name[4352];
    struct stat about;
    (void)snprintf(name, sizeof name, "%s%s", path, end);
    return stat(name, &about) == 0 ? (uint64_t)about.st_size : 0;
}

static void op_stats(struct mr_store *store, struct mr_store_stats *ret)
{
    struct store *s = store_of(store);
    uint64_t first = number(s, "SELECT min(seq) FROM records");
    uint64_t last = number(s, "SELECT max(seq) FROM records");
    *ret = (struct mr_store_stats){.bytes = file_bytes(s->path, "") + file_bytes(s->path, "-wal"),
                                   .records = first > 0 ? last - first + 1 : 0,
                                   .first_seq = first,
                                   .last_seq = last,
                                   .commits = atomic_load(&s->commits),
                                   .commit_us = atomic_load(&s->commit_us)};
}

static const struct mr_store_ops store_ops = {.epoch_take = op_epoch_take,
                                              .append = op_append,
                                              .read = op_read,
                                              .snapshot_put = op_snapshot_put,
                                              .snapshot_get = op_snapshot_get,
                                              .ledger_read = op_ledger_read,
                                              .stats = op_stats};

/* --- opening ---------------------------------------------------------------------------------- */

static int take_lock(struct store *s, const char *folder, struct mr_buf *problem)
{
    char *path = NULL;
    char text[16] = {0};
    if (asprintf(&path, "%s/journal.lock", folder) < 0) return MR_ENO_MEMORY;
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    free(path);
    if (s->lock_fd < 0) {
        mr_buf_printf(problem,
                      "cannot write to %s: %s; set MILLRACE_HOME to a folder that you may write to",
                      folder, strerror(errno));
        return errno == ENOSPC || errno == EDQUOT ? MR_ENO_SPACE : MR_EIO;
    }
    int locked = flock(s->lock_fd, LOCK_EX | LOCK_NB);
    /* A killed holder's child lets go only when it runs its own program: a moment's patience. */
    for (uint32_t i = 0; locked != 0 && errno == EWOULDBLOCK && i < LOCK_TRIES; i++) {
        struct timespec pause = {.tv_nsec = 20000000};
        (void)nanosleep(&pause, NULL); /* woken early is fine */
        locked = flock(s->lock_fd, LOCK_EX | LOCK_NB);
    }
    if (locked != 0) {
        if (pread(s->lock_fd, text, sizeof text - 1, 0) < 0) text[0] = 0;
        text[strcspn(text, "\n")] = 0;
        mr_buf_printf(problem,
                      "process %s holds the journal in %s; stop it first, or name another home",
                      text[0] != 0 ? text : "(unknown)", folder);
        return MR_EFENCED;
    }
    int n = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(s->lock_fd, 0) != 0 || pwrite(s->lock_fd, text, (size_t)n, 0) != n) {
        mr_buf_printf(problem, "cannot write to %s: %s; free some space", folder, strerror(errno));
        return MR_ENO_SPACE;
    }
    return 0;
}

static int open_db(struct store *s, sqlite3 **ret)
{
    char *why = NULL;
    int result = sqlite3_open_v2(
        s->path, ret, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (result == SQLITE_OK) result = sqlite3_busy_timeout(*ret, BUSY_MS);
    if (result == SQLITE_OK) {
        char pragmas[256];
        (void)snprintf(pragmas, sizeof pragmas,
                       "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY;"
                       "PRAGMA wal_autocheckpoint=%d; PRAGMA journal_size_limit=%d;",
                       WAL_PAGES, JOURNAL_BYTES);
        result = sqlite3_exec(*ret, pragmas, NULL, NULL, &why);
        sqlite3_free(why);
    }
    if (result == SQLITE_OK && sqlite3_db_readonly(*ret, "main") != 0) result = SQLITE_READONLY;
    return result == SQLITE_OK ? 0 : store_error(*ret, result);
}

static int check_version(struct store *s, struct mr_buf *problem)
{
    uint64_t version = number(s, "SELECT value FROM meta WHERE name='version'");
    if (version == STORE_VERSION) return 0;
    mr_buf_printf(
        problem,
        "%s was written by another version of Millrace (format %llu, this one knows %d); run that "
        "version, or name another home",
        s->path, (unsigned long long)version, STORE_VERSION);
    return MR_EUNSUPPORTED;
}

static int open_all(struct store *s, struct mr_buf *problem)
{
    int error = open_db(s, &s->reader);
    /* Of another version nothing is touched. */
    if (error == 0 && number(s, "SELECT count(*) FROM sqlite_master WHERE name='meta'") > 0) {
        error = check_version(s, problem);
    }
    if (error == 0) {
        int result = sqlite3_exec(s->reader, schema, NULL, NULL, NULL);
        if (result != SQLITE_OK) error = store_error(s->reader, result);
    }
    if (error == 0) error = check_version(s, problem);
    if (error == 0) error = open_db(s, &s->writer);
    if (error == 0) error = store_prepare(s);
    if (error != 0 && problem->n == 0) {
        mr_buf_printf(problem, "%s cannot be opened: %s (%s); %s", s->path, mr_error_text(error),
                      s->reader != NULL ? sqlite3_errmsg(s->reader) : "no memory",
                      error == MR_ENO_SPACE  ? "free some space and start again"
                      : error == MR_ECORRUPT ? "keep a copy of it and restore one from a backup"
                                             : "check that it can be written and start again");
    }
    return error;
}

static void store_free(struct store *s)
{
    if (s == NULL) return;
    store_finish(s);
    (void)sqlite3_close(s->writer); /* nothing is open in it any more */
    (void)sqlite3_close(s->reader);
    if (s->lock_fd >= 0) (void)close(s->lock_fd); /* lets the lock go */
    (void)pthread_cond_destroy(&s->wake);
    (void)pthread_mutex_destroy(&s->mutex);
    free(s->path);
    mr_free(s);
}

int store_open(struct mr_str folder, struct mr_env *env, bool locked, struct mr_store **ret_store,
               struct mr_buf *problem)
{
    struct store *s = mr_alloc_zero(sizeof *s);
    if (s == NULL) return MR_ENO_MEMORY;
    s->base.ops = &store_ops;
    s->env = env;
    s->lock_fd = -1;
    (void)pthread_mutex_init(&s->mutex, NULL); /* cannot fail with default attributes */
    (void)pthread_cond_init(&s->wake, NULL);
    char *name = strndup(folder.p, folder.n);
    int error = name != NULL && asprintf(&s->path, "%s/journal.db", name) >= 0 ? 0 : MR_ENO_MEMORY;
    if (error == 0 && locked) error = take_lock(s, name, problem);
    if (error == 0) {
        int fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* SQLite would make it 0644 */
        if (fd < 0) {
            mr_buf_printf(
                problem, "cannot write %s: %s; set MILLRACE_HOME to a folder that you may write to",
                s->path, strerror(errno));
            error = errno == ENOSPC || errno == EDQUOT ? MR_ENO_SPACE : MR_EIO;
        } else {
            (void)close(fd);
            error = open_all(s, problem);
        }
    }
    free(name);
    if (error == 0 && pthread_create(&s->thread, NULL, writer_main, s) != 0) {
        mr_buf_printf(problem, "no thread for the journal: too many processes?");
        error = MR_ENO_MEMORY;
    }
    if (error != 0) {
        store_free(s);
        return error;
    }
    *ret_store = &s->base;
    return 0;
}

int mr_store_sqlite_open(struct mr_str folder, struct mr_env *env, struct mr_store **ret_store,
                         struct mr_buf *problem)
{
    return store_open(folder, env, true, ret_store, problem);
}

void mr_store_sqlite_close(struct mr_store *store)
{
    if (store == NULL) return;
    struct store *s = store_of(store);
    (void)pthread_mutex_lock(&s->mutex);
    s->stop = s->closing = true;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->mutex);
    (void)pthread_join(s->thread, NULL);
    store_free(s);
}
