/* SPDX-License-Identifier: Apache-2.0 */
/* Makes stores: SQLite in WAL mode, the embedded default.
 *
 * The writer is a thread of its own, so that no lane waits for a disk; `done` is posted to the
 * opener's lane. Grade P2. Idea: src/store/README.md.
 */
#ifndef MR_STORE_STORE_H
#define MR_STORE_STORE_H

#include "port/env.h"
#include "port/store.h"

/* Opens or makes the database in `folder` (mode 0600, one live process only: MR_EFENCED and the
 * holder's pid in `problem`). `env` is the lane on which everything of the store is called and
 * answered. On failure one line for people in `problem`: what is wrong and how to go on (disk full,
 * read-only, damaged, made by a newer version). The caller closes it. */
int mr_store_sqlite_open(struct mr_str folder, struct mr_env *env, struct mr_store **ret_store,
                         struct mr_buf *problem);
/* Waits for what is in flight; its `done` may not come any more. NULL is fine. */
void mr_store_sqlite_close(struct mr_store *store);

#endif
