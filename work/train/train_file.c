/* SPDX-License-Identifier: Apache-2.0 */
/* Files that survive a crash, problems that a person can read, and the clock of training.
 *
 * Owns:       nothing between calls.
 * Invariants: (1) a name never points to a half-written file: written beside, synced, renamed,
 *             and the folder synced.
 * Thread:     one.
 * Fails:      MR_EIO, MR_ENO_SPACE, MR_ENOT_FOUND, MR_ETOO_LARGE, MR_ENO_MEMORY, with a line.
 * Ends:       descriptors are closed in the call that opened them.
 */
#include "train.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int train_problem_set(struct train_problem *problem, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(problem->text, sizeof problem->text, format, arguments); /* cut is fine */
    va_end(arguments);
    return error;
}

uint64_t train_now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static int failed(struct train_problem *problem, const char *doing, const char *path)
{
    int error = errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? MR_ENO_SPACE
                : errno == ENOENT                                    ? MR_ENOT_FOUND
                                                                     : MR_EIO;
    return train_problem_set(problem, error, "cannot %s %s: %s", doing, path, strerror(errno));
}

static bool write_all(int fd, struct mr_str bytes)
{
    while (bytes.n > 0) {
        ssize_t n = write(fd, bytes.p, bytes.n);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            if (n == 0) errno = ENOSPC;
            return false;
        }
        bytes.p += n;
        bytes.n -= (size_t)n;
    }
    return true;
}

/* A rename is durable once the folder is. Some file systems cannot sync a folder: then it is not
 * in our hands. */
static void folder_sync(const char *path)
{
    char folder[TRAIN_PATH_BYTES_MAX];
    const char *slash = strrchr(path, '/');
    size_t n = slash == NULL ? 1 : MR_MAX((size_t)(slash - path), (size_t)1);
    if (n >= sizeof folder) return;
    memcpy(folder, slash == NULL ? "." : path, n);
    folder[n] = 0;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)fsync(fd); /* see above */
    (void)close(fd); /* only read from */
}

static int replace(const char *path, const struct mr_str *parts, size_t part_count, bool durable,
                   struct train_problem *problem)
{
    char beside[TRAIN_PATH_BYTES_MAX + 8];
    (void)snprintf(beside, sizeof beside, "%s.part", path);
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return failed(problem, "write", beside);
    bool good = true;
    for (size_t i = 0; good && i < part_count; i++) {
        good = write_all(fd, parts[i]);
    }
    good = good && (!durable || fsync(fd) == 0);
    int kept = errno;
    if (close(fd) != 0 && good) {
        good = false;
        kept = errno;
    }
    if (good && rename(beside, path) == 0) {
        if (durable) folder_sync(path);
        return 0;
    }
    if (!good) errno = kept;
    int error = failed(problem, "write", path);
    (void)unlink(beside); /* the first problem is the one to tell */
    return error;
}

int train_file_replace(const char *path, const struct mr_str *parts, size_t part_count,
                       struct train_problem *problem)
{
    return replace(path, parts, part_count, true, problem);
}

int train_file_show(const char *path, struct mr_str bytes, struct train_problem *problem)
{
    return replace(path, &bytes, 1, false, problem);
}

int train_file_read(const char *path, size_t limit_bytes, struct mr_str *ret,
                    struct train_problem *problem)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return failed(problem, "read", path);
    int error = 0;
    if (fstat(fd, &status) != 0) {
        error = failed(problem, "read", path);
    } else if (!S_ISREG(status.st_mode)) {
        error = train_problem_set(problem, MR_EINVALID, "%s is not a file", path);
    } else if ((uint64_t)status.st_size > limit_bytes) {
        error = train_problem_set(problem, MR_ETOO_LARGE, "%s is larger than %zu MiB", path,
                                  limit_bytes >> 20);
    }
    size_t size = error == 0 ? (size_t)status.st_size : 0, have = 0;
    char *bytes = error == 0 ? mr_alloc(size + 1) : NULL;
    if (error == 0 && bytes == NULL) {
        error = train_problem_set(problem, MR_ENO_MEMORY, "%s does not fit in memory", path);
    }
    while (error == 0 && have < size) {
        ssize_t n = read(fd, bytes + have, size - have);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) error = failed(problem, "read", path);
        if (n <= 0) break; /* it became shorter meanwhile */
        have += (size_t)n;
    }
    (void)close(fd); /* only read from */
    if (error != 0) {
        mr_free(bytes);
        return error;
    }
    bytes[have] = 0;
    *ret = (struct mr_str){bytes, have};
    return 0;
}
