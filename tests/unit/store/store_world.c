/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest world for a store: posts come in a list, and the test is the lane that takes them.
 *
 * Owns:   its folder under /tmp, removed at the end.
 * Thread: the test's; post is called from the store's.
 */
#include "store_world.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void env_post(struct mr_env *env, uint32_t lane, struct mr_post *post)
{
    struct store_world *w = (struct store_world *)(void *)env;
    (void)lane;
    pthread_mutex_lock(&w->mutex);
    post->next = NULL;
    *w->last = post;
    w->last = &post->next;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
}

static const struct mr_env_ops env_ops = {.post = env_post};

void world_init(struct store_world *w)
{
    memset(w, 0, sizeof *w);
    w->env.ops = &env_ops;
    w->env.lane_count = 1;
    w->last = &w->first;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->wake, NULL);
    snprintf(w->folder, sizeof w->folder, "/tmp/mr-store-XXXXXX");
    assert_non_null(mkdtemp(w->folder));
}

void world_done(struct store_world *w)
{
    char path[400];
    world_close(w);
    DIR *dir = opendir(w->folder);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", w->folder, entry->d_name);
        (void)unlink(path); /* "." and ".." stay */
    }
    if (dir != NULL) closedir(dir);
    assert_int_equal(rmdir(w->folder), 0);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
}

int world_open(struct store_world *w)
{
    struct mr_buf problem;
    mr_buf_init(&problem, 4096);
    int error = mr_store_sqlite_open(mr_str_from(w->folder), &w->env, &w->store, &problem);
    snprintf(w->problem, sizeof w->problem, "%.*s", MR_STR_ARG(mr_buf_str(&problem)));
    mr_buf_done(&problem);
    return error;
}

void world_close(struct store_world *w)
{
    mr_store_sqlite_close(w->store);
    w->store = NULL;
}

void world_done_fn(void *arg, int error)
{
    struct world_wait *wait = arg;
    assert_false(wait->come); /* once */
    wait->come = true;
    wait->error = error;
}

int world_wait(struct world_wait *wait)
{
    struct store_world *w = wait->world;
    while (!wait->come) {
        pthread_mutex_lock(&w->mutex);
        while (w->first == NULL)
            pthread_cond_wait(&w->wake, &w->mutex);
        struct mr_post *post = w->first;
        w->first = post->next;
        if (w->first == NULL) w->last = &w->first;
        pthread_mutex_unlock(&w->mutex);
        post->fn(post);
    }
    return wait->error;
}

int world_epoch(struct store_world *w, uint64_t *ret)
{
    return w->store->ops->epoch_take(w->store, ret);
}

struct mr_str world_record(uint64_t seq, char scratch[64])
{
    int n = snprintf(scratch, 64, "record %llu %.*s", (unsigned long long)seq, (int)(seq % 30),
                     "..............................");
    return (struct mr_str){scratch, (size_t)n};
}

int world_append(struct store_world *w, uint64_t epoch, uint64_t first, uint32_t count)
{
    struct mr_store_record *records = calloc(count + 1, sizeof *records);
    char(*text)[64] = calloc(count + 1, 64);
    assert_true(records != NULL && text != NULL);
    for (uint32_t i = 0; i < count; i++) {
        records[i] = (struct mr_store_record){first + i, world_record(first + i, text[i])};
    }
    struct mr_store_group group = {.records = records, .record_count = count};
    struct world_wait wait = {.world = w};
    w->store->ops->append(w->store, epoch, &group, world_done_fn, &wait);
    assert_false(wait.come); /* never inside the call */
    int error = world_wait(&wait);
    free(records);
    free(text);
    return error;
}

int world_append_ledger(struct store_world *w, uint64_t epoch, uint64_t entry, const char *bytes)
{
    struct mr_store_ledger line = {.entry = entry, .bytes = mr_str_from(bytes)};
    struct mr_store_group group = {.ledger = &line, .ledger_count = 1};
    struct world_wait wait = {.world = w};
    w->store->ops->append(w->store, epoch, &group, world_done_fn, &wait);
    return world_wait(&wait);
}

int world_snapshot(struct store_world *w, uint64_t epoch, uint64_t seq, const char *bytes)
{
    struct world_wait wait = {.world = w};
    w->store->ops->snapshot_put(w->store, epoch, seq, mr_str_from(bytes), world_done_fn, &wait);
    return world_wait(&wait);
}

struct reading {
    uint64_t first, count;
};

static int visit(void *arg, const struct mr_store_record *record)
{
    struct reading *r = arg;
    char scratch[64];
    if (r->count == 0) r->first = record->seq;
    assert_int_equal(record->seq, r->first + r->count);
    assert_true(mr_str_equal(record->bytes, world_record(record->seq, scratch)));
    r->count++;
    return 0;
}

int world_read(struct store_world *w, uint64_t from, uint64_t *ret_first, uint64_t *ret_count)
{
    struct reading r = {0};
    int error = w->store->ops->read(w->store, from, visit, &r);
    *ret_first = r.first;
    *ret_count = r.count;
    return error;
}

void world_sql(struct store_world *w, const char *sql)
{
    char path[128];
    sqlite3 *db = NULL;
    snprintf(path, sizeof path, "%s/journal.db", w->folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}
