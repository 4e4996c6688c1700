/* SPDX-License-Identifier: Apache-2.0 */
/* The lease's folder: paths, whole files, the lock, and the end as it is stored.
 *
 * Invariants: (1) a file is seen whole or not at all (temporary, rename);
 *             (2) `exit` is written once, by the holder of the lock only;
 *             (3) nothing outside the home is removed: symbolic links are never followed.
 * Fails:      with -errno, of which engine_errno_text makes words.
 * Idea:       docs/internals/lease-folder.md
 */
#include "engine/engine_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void (*engine_point_hook)(const char *where);

uint64_t engine_wall_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t); /* cannot fail with a valid clock */
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

uint64_t engine_mono_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail with a valid clock */
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

const char *engine_errno_text(int error_number)
{
    switch (error_number) {
    case ENOSPC:
    case EDQUOT:
        return "the disk of the home is full; free some space there";
    case EROFS:
        return "the home lies on a read-only file system";
    case EMFILE:
    case ENFILE:
        return "too many open files; raise `ulimit -n`";
    case EAGAIN:
        return "too many processes; raise `ulimit -u` or the container's limit";
    case ENOMEM:
        return "the machine is out of memory";
    case EACCES:
        return "permission denied";
    default:
        return strerrordesc_np(error_number) != NULL ? strerrordesc_np(error_number)
                                                     : "unknown error";
    }
}

void engine_end_set(struct engine_end *end, enum engine_exit_kind kind, int32_t code,
                    const char *format, ...)
{
    va_list args;
    *end = (struct engine_end){.kind = kind, .code = code};
    va_start(args, format);
    int n = vsnprintf(end->text, sizeof end->text, format, args);
    va_end(args);
    if (n < 0) end->text[0] = 0;
}

int engine_path(char ret[PATH_MAX], const char *folder, const char *name)
{
    int n = snprintf(ret, PATH_MAX, "%s/%s", folder, name);
    return n > 0 && n < PATH_MAX ? 0 : MR_ETOO_LARGE;
}

bool engine_is_infer(const struct mr_engine_start *start)
{
    return start->argv_count > 0 && mr_str_equal(start->argv[0], MR_STR("infer"));
}

void engine_paths_lease(struct engine_paths *paths, struct mr_str home, struct mr_lease_id lease)
{
    MR_ASSERT(home.n > 0 && home.n <= ENGINE_HOME_BYTES_MAX);
    *paths = (struct engine_paths){0};
    (void)snprintf(paths->home, sizeof paths->home, "%.*s", MR_STR_ARG(home));
    (void)snprintf(paths->lease, sizeof paths->lease, "%.*s/leases/%llu", MR_STR_ARG(home),
                   (unsigned long long)lease.v);
}

void engine_paths_run(struct engine_paths *paths, struct mr_workload_id workload, uint32_t run)
{
    char lease[24], folder[ENGINE_HOME_BYTES_MAX + 64];
    (void)snprintf(lease, sizeof lease, "%s", strrchr(paths->lease, '/') + 1);
    (void)snprintf(folder, sizeof folder, "%.*s/workloads/%llu", (int)ENGINE_HOME_BYTES_MAX,
                   paths->home, (unsigned long long)workload.v);
    (void)snprintf(paths->job, sizeof paths->job, "%s", folder);
    (void)snprintf(paths->mark, sizeof paths->mark, "%s/run-%u/lease-%s.exit", folder, run, lease);
    (void)snprintf(paths->run, sizeof paths->run, "%s/run-%u", folder, run);
}

int engine_mkdirs(const char *path)
{
    char part[PATH_MAX];
    int n = snprintf(part, sizeof part, "%s", path);
    if (n <= 0 || n >= (int)sizeof part) return -ENAMETOOLONG;
    if (mkdir(part, 0700) == 0) return 0;
    for (char *p = part + 1; *p != 0; p++) {
        if (*p != '/') continue;
        *p = 0;
        if (mkdir(part, 0700) != 0 && errno != EEXIST) return -errno;
        *p = '/';
    }
    if (mkdir(part, 0700) == 0) return 0;
    if (errno != EEXIST) return -errno;
    struct stat st;
    if (stat(part, &st) != 0) return -errno;
    return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int engine_socket_path(struct mr_str home, struct mr_lease_id lease, bool make, char ret[108])
{
    struct stat st;
    unsigned long long id = (unsigned long long)lease.v;
    if (home.n + sizeof "/leases/18446744073709551615/socket" < 108) {
        (void)snprintf(ret, 108, "%.*s/leases/%llu/socket", MR_STR_ARG(home), id);
        return 0;
    }
    /* The home's name is too long for a socket's address: a folder of our own elsewhere, whose name
     * tells this home from others. */
    char folder[64];
    uint64_t hash = mr_hash64(home.p, home.n, 1);
    (void)snprintf(folder, sizeof folder, "/tmp/millrace-%u-%016llx", (unsigned)getuid(),
                   (unsigned long long)hash);
    if (make && mkdir(folder, 0700) != 0 && errno != EEXIST) return MR_EIO;
    if (lstat(folder, &st) != 0) return make ? MR_EIO : MR_ENOT_FOUND;
    if (!S_ISDIR(st.st_mode) || st.st_uid != getuid() || (st.st_mode & 077) != 0) {
        return MR_EFORBIDDEN;
    }
    (void)snprintf(ret, 108, "%s/%llu", folder, id);
    return 0;
}

int engine_folder_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int error = fsync(fd) == 0 ? 0 : -errno;
    (void)close(fd); /* nothing was written through it */
    return error;
}

static int write_all(int fd, struct mr_str bytes)
{
    size_t done = 0;
    while (done < bytes.n) {
        ssize_t n = write(fd, bytes.p + done, bytes.n - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? -errno : -EIO;
        done += (size_t)n;
    }
    return 0;
}

int engine_file_put(const char *folder, const char *name, struct mr_str bytes, bool durable)
{
    char path[PATH_MAX], temporary[PATH_MAX];
    if (engine_path(path, folder, name) != 0) return -ENAMETOOLONG;
    int n = snprintf(temporary, sizeof temporary, "%s/.%s.%d.tmp", folder, name, (int)getpid());
    if (n <= 0 || n >= (int)sizeof temporary) return -ENAMETOOLONG;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return -errno;
    int error = write_all(fd, bytes);
    if (error == 0 && durable && fsync(fd) != 0) error = -errno;
    if (close(fd) != 0 && error == 0) error = -errno;
    engine_point("file written, not renamed");
    if (error == 0 && rename(temporary, path) != 0) error = -errno;
    if (error != 0) {
        (void)unlink(temporary); /* it is of no use to anybody */
        return error;
    }
    return durable ? engine_folder_sync(folder) : 0;
}

int engine_file_get(const char *folder, const char *name, struct mr_buf *buf)
{
    char path[PATH_MAX];
    if (engine_path(path, folder, name) != 0) return -ENAMETOOLONG;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return -errno;
    struct stat st;
    int error = fstat(fd, &st) != 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;
    while (error == 0) {
        uint8_t piece[16384];
        ssize_t n = read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) error = -errno;
        if (n <= 0) break;
        mr_buf_put(buf, piece, (size_t)n);
        if (buf->failed) error = -EFBIG;
    }
    (void)close(fd); /* read only */
    return error;
}

bool engine_file_exists(const char *folder, const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    return engine_path(path, folder, name) == 0 && lstat(path, &st) == 0;
}

static void tree_remove_at(int parent, const char *name, unsigned depth)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT || depth > 32) return;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        if (fd >= 0) (void)close(fd); /* nothing was written */
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        tree_remove_at(fd, entry->d_name, depth + 1);
    }
    (void)closedir(dir);                        /* read only */
    (void)unlinkat(parent, name, AT_REMOVEDIR); /* best effort, as the header says */
}

void engine_tree_remove(const char *path)
{
    tree_remove_at(AT_FDCWD, path, 0);
}

int engine_lock_take(const char *lease_folder, int *ret_fd)
{
    char path[PATH_MAX];
    if (engine_path(path, lease_folder, "lock") != 0) return -ENAMETOOLONG;
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return -errno;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_SETLK, &lock) != 0) {
        int error = errno == EACCES ? -EAGAIN : -errno;
        (void)close(fd); /* this process holds no lock that closing would drop */
        return error;
    }
    *ret_fd = fd;
    return 0;
}

pid_t engine_lock_holder(const char *lease_folder)
{
    char path[PATH_MAX];
    if (engine_path(path, lease_folder, "lock") != 0) return 0;
    int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return 0;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    pid_t holder = 0;
    if (fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK) holder = lock.l_pid;
    (void)close(fd); /* this process holds no lock that closing would drop */
    return holder;
}

bool engine_end_read(const char *lease_folder, struct engine_end *ret)
{
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, ENGINE_EXIT_BYTES_MAX);
    int error = engine_file_get(lease_folder, "exit", &buf);
    if (error == -ENOENT || error == -ENOTDIR) return false;
    if (error == 0 && engine_exit_decode(mr_buf_str(&buf), ret) == 0) return true;
    engine_end_set(ret, ENGINE_EXIT_LOST, 0, "how it ended is not known: %s/exit cannot be read",
                   lease_folder);
    return true;
}

int engine_end_fence(const char *lease_folder, const struct engine_end *end)
{
    int lock = -1;
    int error = engine_lock_take(lease_folder, &lock);
    if (error != 0) return error;
    if (engine_file_exists(lease_folder, "exit")) {
        error = -EEXIST;
    } else {
        mr_cleanup(mr_buf_done) struct mr_buf buf;
        mr_buf_init(&buf, ENGINE_EXIT_BYTES_MAX);
        engine_exit_encode(&buf, end);
        /* claimed first: whatever happens between, no supervisor may start it any more. */
        error = engine_file_put(lease_folder, "claimed", MR_STR("fenced\n"), false);
        engine_point("fenced, no exit");
        if (error == 0) error = engine_file_put(lease_folder, "exit", mr_buf_str(&buf), true);
    }
    (void)close(lock); /* drops the lock, which is wanted */
    return error;
}

bool engine_stop_ask(const char *lease_folder, uint64_t grace_us)
{
    struct engine_stop stop = {.grace_us = grace_us};
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, ENGINE_EXIT_BYTES_MAX);
    if (!mr_add_u64(engine_wall_us(), grace_us, &stop.deadline_us)) stop.deadline_us = UINT64_MAX;
    engine_stop_encode(&buf, &stop);
    /* A full disk: the signal alone stops it too, with the supervisor's own grace. */
    (void)engine_file_put(lease_folder, "stop", mr_buf_str(&buf), false);
    engine_point("stop written");
    pid_t holder = engine_lock_holder(lease_folder);
    if (holder <= 0) return false;
    int pidfd = pidfd_open(holder, 0);
    if (pidfd < 0) return false;
    /* Still the holder: then the descriptor is the supervisor's, whatever happened to the number.
     */
    bool live = engine_lock_holder(lease_folder) == holder;
    if (live) (void)pidfd_send_signal(pidfd, SIGTERM, NULL, 0); /* gone already is as good */
    (void)close(pidfd);
    return live;
}
