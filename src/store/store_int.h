/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/store and its tests. */
#ifndef STORE_INT_H
#define STORE_INT_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "store/store.h"

#define STORE_VERSION        1
#define STORE_SNAPSHOTS_KEPT 2

struct store_job { /* one append or one snapshot, on its way through the writer */
    struct mr_post post;
    struct store *store;
    bool busy, is_snapshot;
    uint64_t epoch, seq;
    const struct mr_store_group *group;
    struct mr_str bytes;
    mr_store_done done;
    void *arg;
    int result;
};

struct store {
    struct mr_store base;
    struct mr_env *env;
    sqlite3 *writer, *reader; /* of the thread; of the lane */
    sqlite3_stmt *begin, *commit, *rollback, *epoch, *record, *line;
    int lock_fd;
    char *path;
    pthread_t thread;
    pthread_mutex_t mutex; /* jobs, order and stop */
    pthread_cond_t wake;
    struct store_job append, snapshot;
    struct store_job *queue[2];
    uint32_t queued;
    bool stop, closing;
    struct mr_store_group group; /* a copy: its arrays are the caller's until done */
    atomic_uint_fast64_t commits, commit_us, first_seq, last_seq;
};

/* Opens without the lock that keeps other processes out: tests open two at once. */
int store_open(struct mr_str folder, struct mr_env *env, bool locked, struct mr_store **ret_store,
               struct mr_buf *problem);
/* SQLite's result as ours: full disks can be waited out, the rest cannot. */
int store_error(sqlite3 *db, int result);
/* store_write.c: the writer's side. */
int store_prepare(struct store *store);
void store_finish(struct store *store);
int store_append_now(struct store *store, uint64_t epoch, const struct mr_store_group *group);
int store_snapshot_now(struct store *store, uint64_t epoch, uint64_t seq, struct mr_str bytes);
uint64_t store_checksum(uint64_t seq, struct mr_str bytes);

#endif
