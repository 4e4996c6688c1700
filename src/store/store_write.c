/* SPDX-License-Identifier: Apache-2.0 */
/* What the writer's thread does to the database: one transaction a group.
 *
 * Thread:     the writer's; its connection and statements are nobody else's.
 * Invariants: (1) the epoch is looked at inside the transaction that writes; (2) a group is there
 *             whole or not at all; (3) an error leaves no open transaction.
 * Fails:      MR_EFENCED, MR_ENO_SPACE (nothing written, usable on), MR_EIO (state unknown).
 */
#include "store/store_int.h"

#include <errno.h>

uint64_t store_checksum(uint64_t seq, struct mr_str bytes)
{
    return mr_hash64(bytes.p, bytes.n, seq ^ 0x6d696c6c72616365u);
}

int store_error(sqlite3 *db, int result)
{
    int extended = db != NULL ? sqlite3_extended_errcode(db) : result;
    int reason = db != NULL ? sqlite3_system_errno(db) : 0;
    result &= 0xff;
    if (result == SQLITE_FULL) return MR_ENO_SPACE;
    /* A WAL that cannot grow reports a failed write; the system's reason tells why. A failed sync
     * is never taken for it: nobody knows what such a disk holds. */
    if (extended == SQLITE_IOERR_WRITE && (reason == ENOSPC || reason == EDQUOT))
        return MR_ENO_SPACE;
    if ((extended & 0xff) == SQLITE_NOMEM) return MR_ENO_MEMORY;
    if (result == SQLITE_CORRUPT || result == SQLITE_NOTADB) return MR_ECORRUPT;
    return MR_EIO;
}

static int prepare(sqlite3 *db, const char *sql, sqlite3_stmt **ret)
{
    int result = sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
    return result == SQLITE_OK ? 0 : store_error(db, result);
}

int store_prepare(struct store *s)
{
    int error = prepare(s->writer, "BEGIN IMMEDIATE", &s->begin);
    if (error == 0) error = prepare(s->writer, "COMMIT", &s->commit);
    if (error == 0) error = prepare(s->writer, "ROLLBACK", &s->rollback);
    if (error == 0)
        error = prepare(s->writer, "SELECT value FROM meta WHERE name='epoch'", &s->epoch);
    if (error == 0) {
        error =
            prepare(s->writer, "INSERT INTO records(seq,checksum,bytes) VALUES(?,?,?)", &s->record);
    }
    if (error == 0) {
        error =
            prepare(s->writer, "INSERT OR IGNORE INTO ledger(entry,bytes) VALUES(?,?)", &s->line);
    }
    return error;
}

void store_finish(struct store *s)
{
    sqlite3_stmt *all[] = {s->begin, s->commit, s->rollback, s->epoch, s->record, s->line};
    for (size_t i = 0; i < MR_COUNT_OF(all); i++)
        (void)sqlite3_finalize(all[i]); /* NULL is fine */
}

/* Runs a statement that returns no row. */
static int run(struct store *s, sqlite3_stmt *statement)
{
    int result = sqlite3_step(statement);
    int error = result == SQLITE_DONE || result == SQLITE_ROW ? 0 : store_error(s->writer, result);
    (void)sqlite3_reset(statement); /* repeats the error of the step */
    return error;
}

static int check_epoch(struct store *s, uint64_t epoch)
{
    int result = sqlite3_step(s->epoch);
    int error = result == SQLITE_ROW ? 0 : store_error(s->writer, result);
    if (error == 0 && (uint64_t)sqlite3_column_int64(s->epoch, 0) != epoch) error = MR_EFENCED;
    (void)sqlite3_reset(s->epoch); /* repeats the error of the step */
    return error;
}

static int put_records(struct store *s, const struct mr_store_group *group)
{
    int error = 0;
    for (size_t i = 0; i < group->record_count && error == 0; i++) {
        const struct mr_store_record *r = &group->records[i];
        (void)sqlite3_bind_int64(s->record, 1,
                                 (sqlite3_int64)r->seq); /* cannot fail on a reset one */
        (void)sqlite3_bind_int64(s->record, 2, (sqlite3_int64)store_checksum(r->seq, r->bytes));
        (void)sqlite3_bind_blob64(s->record, 3, r->bytes.p, r->bytes.n, SQLITE_STATIC);
        error = run(s, s->record);
    }
    for (size_t i = 0; i < group->ledger_count && error == 0; i++) {
        const struct mr_store_ledger *l = &group->ledger[i];
        (void)sqlite3_bind_int64(s->line, 1, (sqlite3_int64)l->entry);
        (void)sqlite3_bind_blob64(s->line, 2, l->bytes.p, l->bytes.n, SQLITE_STATIC);
        error = run(s, s->line);
    }
    return error;
}

/* Ends a transaction that failed; what cannot be rolled back is in an unknown state. */
static int give_up(struct store *s, int error)
{
    if (sqlite3_get_autocommit(s->writer) == 0 && run(s, s->rollback) != 0) return MR_EIO;
    return error;
}

int store_append_now(struct store *s, uint64_t epoch, const struct mr_store_group *group)
{
    int error = run(s, s->begin);
    if (error != 0) return error;
    error = check_epoch(s, epoch);
    if (error == 0) error = put_records(s, group);
    if (error == 0) error = run(s, s->commit);
    return error != 0 ? give_up(s, error) : 0;
}

static int exec(struct store *s, const char *sql, uint64_t a, uint64_t b,
                const struct mr_str *bytes)
{
    sqlite3_stmt *statement = NULL;
    int error = prepare(s->writer, sql, &statement);
    if (error != 0) return error;
    if (sqlite3_bind_parameter_count(statement) >= 1) {
        (void)sqlite3_bind_int64(statement, 1, (sqlite3_int64)a);
    }
    if (sqlite3_bind_parameter_count(statement) >= 2) {
        (void)sqlite3_bind_int64(statement, 2, (sqlite3_int64)b);
    }
    if (bytes != NULL) (void)sqlite3_bind_blob64(statement, 3, bytes->p, bytes->n, SQLITE_STATIC);
    error = run(s, statement);
    (void)sqlite3_finalize(statement);
    return error;
}

/* Snapshots that cannot be read do not count as kept ones. */
static int drop_damaged(struct store *s)
{
    sqlite3_stmt *all = NULL;
    int result = SQLITE_DONE;
    int error = prepare(s->writer, "SELECT seq,checksum,bytes FROM snapshots", &all);
    while (error == 0 && (result = sqlite3_step(all)) == SQLITE_ROW) {
        uint64_t seq = (uint64_t)sqlite3_column_int64(all, 0);
        struct mr_str bytes = {sqlite3_column_blob(all, 2), (size_t)sqlite3_column_bytes(all, 2)};
        if (store_checksum(seq, bytes) == (uint64_t)sqlite3_column_int64(all, 1)) continue;
        error = exec(s, "DELETE FROM snapshots WHERE seq=?", seq, 0, NULL);
    }
    if (error == 0 && result != SQLITE_DONE) error = store_error(s->writer, result);
    (void)sqlite3_finalize(all);
    return error;
}

int store_snapshot_now(struct store *s, uint64_t epoch, uint64_t seq, struct mr_str bytes)
{
    int error = run(s, s->begin);
    if (error != 0) return error;
    error = check_epoch(s, epoch);
    if (error == 0) error = drop_damaged(s);
    if (error == 0) {
        error = exec(s, "INSERT OR REPLACE INTO snapshots(seq,checksum,bytes) VALUES(?,?,?)", seq,
                     store_checksum(seq, bytes), &bytes);
    }
    if (error == 0) {
        error = exec(s,
                     "DELETE FROM snapshots WHERE seq NOT IN "
                     "(SELECT seq FROM snapshots ORDER BY seq DESC LIMIT 2)",
                     0, 0, NULL);
    }
    /* Records stay that the older of two kept snapshots needs; with one kept, all of them. */
    if (error == 0) {
        error = exec(s,
                     "DELETE FROM records WHERE (SELECT count(*) FROM snapshots) >= 2 AND "
                     "seq <= (SELECT min(seq) FROM snapshots)",
                     0, 0, NULL);
    }
    if (error == 0) error = run(s, s->commit);
    return error != 0 ? give_up(s, error) : 0;
}
