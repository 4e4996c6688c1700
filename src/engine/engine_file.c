/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what a workload left: logs across their rotated parts, and files of its folder by safe
 * names.
 *
 * The names come from the network. A path is opened part by part below the workload's folder and no
 * symbolic link is followed, so it cannot lead out; only regular files are read.
 *
 * Invariants: (1) no byte outside home/workloads/W is ever returned;
 *             (2) equal offsets give equal bytes of a log, until they are rotated away: MR_ESTATE.
 * Cost:       one open for each part of the path, one read.
 */
#include "engine/engine_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 16
#define RACES_MAX 8

/* Opens name below the folder; -1 when it is not there, not regular, or not to be followed. */
static int open_below(int folder, struct mr_str name)
{
    struct mr_str rest = name, part;
    int at = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), depth = 0;
    if (name.n == 0 || name.n >= PATH_MAX || memchr(name.p, 0, name.n) != NULL) {
        if (at >= 0) (void)close(at); /* read only */
        return -1;
    }
    while (at >= 0 && mr_str_split(&rest, '/', &part)) {
        char zero[NAME_MAX + 1];
        bool last = rest.p == NULL;
        int next = -1;
        if (part.n > 0 && part.n <= NAME_MAX && !mr_str_equal(part, MR_STR(".")) &&
            !mr_str_equal(part, MR_STR("..")) && depth++ < DEPTH_MAX) {
            memcpy(zero, part.p, part.n);
            zero[part.n] = 0;
            next =
                openat(at, zero,
                       O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | (last ? 0 : O_DIRECTORY));
        }
        (void)close(at); /* read only */
        at = next;
    }
    struct stat st;
    if (at >= 0 && (fstat(at, &st) != 0 || !S_ISREG(st.st_mode))) {
        (void)close(at); /* read only */
        return -1;
    }
    return at;
}

/* The number behind `prefix` when the whole name is prefix and number. */
static bool numbered(const char *name, const char *prefix, uint64_t *ret)
{
    struct mr_str s = mr_str_from(name);
    size_t before = strlen(prefix);
    if (s.n <= before || !mr_str_starts(s, mr_str_from(prefix))) return false;
    return mr_str_to_u64((struct mr_str){s.p + before, s.n - before}, ret) == 0;
}

/* The largest number of the entries named so, 0 without any. */
static uint64_t largest_of(int folder, const char *prefix)
{
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    uint64_t v, largest = 0;
    if (dir == NULL) {
        if (fd >= 0) (void)close(fd); /* read only */
        return 0;
    }
    while ((entry = readdir(dir)) != NULL) {
        if (numbered(entry->d_name, prefix, &v) && v > largest) largest = v;
    }
    (void)closedir(dir); /* read only */
    return largest;
}

/* The folder of the run; 0: the newest. */
static int run_open(int job, uint32_t run)
{
    char name[48];
    uint64_t number = run != 0 ? run : largest_of(job, "run-");
    if (number == 0) return -1;
    (void)snprintf(name, sizeof name, "run-%llu", (unsigned long long)number);
    return openat(job, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int read_at(int fd, uint64_t offset, size_t max_bytes, struct mr_buf *buf)
{
    size_t left = MR_MIN(max_bytes, ENGINE_READ_BYTES_MAX);
    if (offset > INT64_MAX) return 0;
    while (left > 0) {
        uint8_t piece[16384];
        ssize_t n = pread(fd, piece, MR_MIN(left, sizeof piece), (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return MR_EIO;
        if (n == 0) return 0;
        mr_buf_put(buf, piece, (size_t)n);
        if (buf->failed) return MR_ENO_MEMORY;
        offset += (uint64_t)n;
        left -= (size_t)n;
    }
    return 0;
}

static uint64_t base_read(int run, const char *log)
{
    char name[80], text[24];
    uint64_t base = 0;
    (void)snprintf(name, sizeof name, "%s.base", log);
    int fd = open_below(run, mr_str_from(name));
    if (fd < 0) return 0;
    ssize_t n = pread(fd, text, sizeof text, 0);
    (void)close(fd); /* read only */
    if (n <= 0 || mr_str_to_u64(mr_str_trim((struct mr_str){text, (size_t)n}), &base) != 0)
        return 0;
    return base;
}

/* One attempt; the log may be rotated meanwhile. */
static int log_read_once(int run, const char *log, uint64_t base, uint64_t offset, size_t max_bytes,
                         struct mr_buf *buf)
{
    uint64_t first = base;
    for (unsigned i = 0; i < MR_LOG_FILES_MAX; i++) {
        char name[80];
        struct stat st;
        (void)snprintf(name, sizeof name, i == 0 ? "%s" : "%s.%u", log, i);
        int fd = open_below(run, mr_str_from(name));
        if (fd < 0) return i == 0 ? MR_ENOT_FOUND : MR_ESTATE;
        int error = fstat(fd, &st) != 0 ? MR_EIO : 0;
        uint64_t size = error == 0 ? (uint64_t)st.st_size : 0;
        if (i > 0) first = first >= size ? first - size : 0;
        bool here = error == 0 && offset >= first;
        if (here) error = read_at(fd, offset - first, max_bytes, buf);
        (void)close(fd); /* read only */
        if (here || error != 0) return error;
    }
    return MR_ESTATE;
}

/* On into the next file, so that a short answer means the end of the log. */
static int log_read_all(int run, const char *log, uint64_t base, uint64_t offset, size_t max_bytes,
                        struct mr_buf *buf)
{
    size_t before = buf->n, most = MR_MIN(max_bytes, ENGINE_READ_BYTES_MAX);
    for (;;) {
        size_t done = buf->n - before;
        if (done >= most) return 0;
        int error = log_read_once(run, log, base, offset + done, most - done, buf);
        if (error != 0 || buf->n - before == done) return error;
    }
}

static int log_read(int run, const char *log, uint64_t offset, size_t max_bytes, struct mr_buf *buf)
{
    for (int i = 0; i < RACES_MAX; i++) {
        size_t before = buf->n;
        uint64_t base = base_read(run, log);
        int error = log_read_all(run, log, base, offset, max_bytes, buf);
        if (base_read(run, log) == base) return error;
        buf->n = before; /* it was rotated while we looked */
    }
    return MR_EUNAVAILABLE;
}

/* The oldest offset that is still there. */
static uint64_t log_first(int run, const char *log)
{
    uint64_t first = base_read(run, log);
    for (unsigned i = 1; i < MR_LOG_FILES_MAX; i++) {
        char name[80];
        struct stat st;
        (void)snprintf(name, sizeof name, "%s.%u", log, i);
        if (fstatat(run, name, &st, AT_SYMLINK_NOFOLLOW) != 0) break;
        first = first >= (uint64_t)st.st_size ? first - (uint64_t)st.st_size : 0;
    }
    return first;
}

static int stream_read(int run, uint32_t rank, struct mr_str name, uint64_t offset,
                       size_t max_bytes, struct mr_buf *buf)
{
    char log[64];
    bool err = mr_str_starts(name, MR_STR("stderr"));
    (void)snprintf(log, sizeof log, "rank-%u.%s", rank, err ? "stderr" : "stdout");
    if (name.n == 6) return log_read(run, log, offset, max_bytes, buf);
    mr_buf_put_u64_text(buf, log_first(run, log));
    return buf->failed ? MR_ENO_MEMORY : 0;
}

int engine_file_read(struct mr_str home, struct mr_workload_id workload, uint32_t run,
                     uint32_t rank, struct mr_str name, uint64_t offset, size_t max_bytes,
                     struct mr_buf *buf)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%.*s/workloads/%llu", MR_STR_ARG(home),
                   (unsigned long long)workload.v);
    int job = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (job < 0) return MR_ENOT_FOUND;
    int error = MR_ENOT_FOUND, run_fd = run_open(job, run);
    bool stream = mr_str_equal(name, MR_STR("stdout")) || mr_str_equal(name, MR_STR("stderr")) ||
                  mr_str_equal(name, MR_STR("stdout.base")) ||
                  mr_str_equal(name, MR_STR("stderr.base"));
    if (stream && run_fd >= 0) {
        error = stream_read(run_fd, rank, name, offset, max_bytes, buf);
    } else if (!stream) {
        int fd = run_fd >= 0 ? open_below(run_fd, name) : -1;
        if (fd < 0) fd = open_below(job, name);
        if (fd >= 0) {
            error = read_at(fd, offset, max_bytes, buf);
            (void)close(fd); /* read only */
        }
    }
    if (run_fd >= 0) (void)close(run_fd); /* read only */
    (void)close(job);                     /* read only */
    return error;
}
