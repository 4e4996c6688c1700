/* SPDX-License-Identifier: Apache-2.0 */
/* A SQLite VFS that hands everything on and counts, and fails the call that it is told to.
 *
 * Owns:   the settings; they are atomic since the store's thread writes beside the lane.
 * Never:  keeps bytes of its own: a failed call does nothing at all.
 */
#include "store_vfs.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>

struct vfs_file {
    sqlite3_file base;
    sqlite3_file *real; /* behind this struct */
};

static sqlite3_vfs *real_vfs;
static sqlite3_vfs own_vfs;
static atomic_uint fail_calls;
static atomic_ullong fail_nth, calls;
static atomic_bool fail_for_ever, failed, read_only;
static atomic_int fail_result, fail_reason;

void vfs_fail(uint32_t kinds, uint64_t nth, bool for_ever, int result, int reason)
{
    atomic_store(&fail_nth, 0);
    atomic_store(&calls, 0);
    atomic_store(&failed, false);
    atomic_store(&fail_calls, kinds);
    atomic_store(&fail_for_ever, for_ever);
    atomic_store(&fail_result, result);
    atomic_store(&fail_reason, reason);
    atomic_store(&fail_nth, nth);
}

uint64_t vfs_calls(void)
{
    return atomic_load(&calls);
}

bool vfs_failed(void)
{
    return atomic_load(&failed);
}

void vfs_read_only(bool yes)
{
    atomic_store(&read_only, yes);
}

static bool fails(enum vfs_call call)
{
    if ((atomic_load(&fail_calls) & (unsigned)call) == 0) return false;
    uint64_t number = atomic_fetch_add(&calls, 1) + 1, nth = atomic_load(&fail_nth);
    bool yes = nth != 0 && (number == nth || (number > nth && atomic_load(&fail_for_ever)));
    if (yes) atomic_store(&failed, true);
    return yes;
}

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((struct vfs_file *)(void *)file)->real;
}

static int vfs_close(sqlite3_file *file)
{
    return real_of(file)->pMethods->xClose(real_of(file));
}

static int vfs_read(sqlite3_file *file, void *bytes, int n, sqlite3_int64 at)
{
    if (fails(VFS_READ)) return SQLITE_IOERR_READ;
    return real_of(file)->pMethods->xRead(real_of(file), bytes, n, at);
}

static int vfs_write(sqlite3_file *file, const void *bytes, int n, sqlite3_int64 at)
{
    if (fails(VFS_WRITE)) return atomic_load(&fail_result);
    return real_of(file)->pMethods->xWrite(real_of(file), bytes, n, at);
}

static int vfs_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    if (fails(VFS_TRUNCATE)) return SQLITE_IOERR_TRUNCATE;
    return real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int vfs_sync(sqlite3_file *file, int flags)
{
    if (fails(VFS_SYNC)) return SQLITE_IOERR_FSYNC;
    return real_of(file)->pMethods->xSync(real_of(file), flags);
}

static int vfs_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int vfs_lock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int vfs_unlock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int vfs_check_lock(sqlite3_file *file, int *ret)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), ret);
}

static int vfs_control(sqlite3_file *file, int op, void *arg)
{
    return real_of(file)->pMethods->xFileControl(real_of(file), op, arg);
}

static int vfs_sector(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int vfs_device(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int vfs_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **ret)
{
    return real_of(file)->pMethods->xShmMap(real_of(file), page, size, extend, ret);
}

static int vfs_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return real_of(file)->pMethods->xShmLock(real_of(file), offset, n, flags);
}

static void vfs_shm_barrier(sqlite3_file *file)
{
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int vfs_shm_unmap(sqlite3_file *file, int delete)
{
    return real_of(file)->pMethods->xShmUnmap(real_of(file), delete);
}

static const sqlite3_io_methods methods = {.iVersion = 2,
                                           .xClose = vfs_close,
                                           .xRead = vfs_read,
                                           .xWrite = vfs_write,
                                           .xTruncate = vfs_truncate,
                                           .xSync = vfs_sync,
                                           .xFileSize = vfs_size,
                                           .xLock = vfs_lock,
                                           .xUnlock = vfs_unlock,
                                           .xCheckReservedLock = vfs_check_lock,
                                           .xFileControl = vfs_control,
                                           .xSectorSize = vfs_sector,
                                           .xDeviceCharacteristics = vfs_device,
                                           .xShmMap = vfs_shm_map,
                                           .xShmLock = vfs_shm_lock,
                                           .xShmBarrier = vfs_shm_barrier,
                                           .xShmUnmap = vfs_shm_unmap};

static int vfs_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags,
                    int *ret_flags)
{
    struct vfs_file *own = (struct vfs_file *)(void *)file;
    (void)vfs;
    own->base.pMethods = NULL;
    own->real = (sqlite3_file *)(void *)(own + 1);
    if (fails(VFS_OPEN)) return SQLITE_CANTOPEN;
    if (atomic_load(&read_only)) {
        flags = (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
    }
    int result = real_vfs->xOpen(real_vfs, name, own->real, flags, ret_flags);
    if (result == SQLITE_OK) own->base.pMethods = &methods;
    return result;
}

static int vfs_last_error(sqlite3_vfs *vfs, int n, char *text)
{
    (void)vfs;
    int reason = atomic_load(&fail_reason);
    return reason != 0 && vfs_failed() ? reason : real_vfs->xGetLastError(real_vfs, n, text);
}

void vfs_install(void)
{
    if (real_vfs != NULL) return;
    real_vfs = sqlite3_vfs_find(NULL);
    own_vfs = *real_vfs;
    own_vfs.szOsFile = (int)sizeof(struct vfs_file) + real_vfs->szOsFile;
    own_vfs.zName = "millrace-test";
    own_vfs.pNext = NULL;
    own_vfs.xOpen = vfs_open;
    own_vfs.xGetLastError = vfs_last_error;
    (void)sqlite3_vfs_register(&own_vfs, 1); /* a second time would do nothing */
}
