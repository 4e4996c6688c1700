/* SPDX-License-Identifier: Apache-2.0 */
/* Private to tests/unit/store: a folder, a lane, and appends that wait for their end. */
#ifndef STORE_WORLD_H
#define STORE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>

#include "store/store_int.h"

struct store_world {
    struct mr_env env;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct mr_post *first, **last; /* for the lane */
    char folder[64];
    char problem[512];
    struct mr_store *store;
};

void world_init(struct store_world *w); /* makes a folder */
void world_done(struct store_world *w); /* closes and removes it */
int world_open(struct store_world *w);  /* 0 or the error, with its text in w->problem */
void world_close(struct store_world *w);
int world_epoch(struct store_world *w, uint64_t *ret);
/* Appends records first … first + count - 1, each with world_record's bytes, and waits. */
int world_append(struct store_world *w, uint64_t epoch, uint64_t first, uint32_t count);
int world_append_ledger(struct store_world *w, uint64_t epoch, uint64_t entry, const char *bytes);
int world_snapshot(struct store_world *w, uint64_t epoch, uint64_t seq, const char *bytes);
struct mr_str world_record(uint64_t seq, char scratch[64]);
/* The number of records from `from` on; fails the test when one is out of order or altered. */
int world_read(struct store_world *w, uint64_t from, uint64_t *ret_first, uint64_t *ret_count);
/* Runs SQL on the closed database's file, as a stranger would. */
void world_sql(struct store_world *w, const char *sql);
/* Waits for one done; its error. */
struct world_wait {
    struct store_world *world;
    bool come;
    int error;
};
void world_done_fn(void *arg, int error);
int world_wait(struct world_wait *wait);

#endif
