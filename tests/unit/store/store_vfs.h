/* SPDX-License-Identifier: Apache-2.0 */
/* Private to tests/unit/store: a disk between SQLite and the real one that fails when it is told
 * to. */
#ifndef STORE_VFS_H
#define STORE_VFS_H

#include <stdbool.h>
#include <stdint.h>

enum vfs_call { VFS_WRITE = 1, VFS_SYNC = 2, VFS_TRUNCATE = 4, VFS_OPEN = 8, VFS_READ = 16 };

/* Becomes the disk of every database that is opened from now on. */
void vfs_install(void);
/* The nth call (from 1) of the kinds in `calls` fails with SQLite's `result`; `for_ever`: and all
 * after it. `reason` is what the system says, an errno. nth 0: none fails. */
void vfs_fail(uint32_t calls, uint64_t nth, bool for_ever, int result, int reason);
/* Calls of these kinds since vfs_fail. */
uint64_t vfs_calls(void);
/* Whether the failure came. */
bool vfs_failed(void);
void vfs_read_only(bool yes); /* files are opened for reading only, as on a mount that is */

#endif
