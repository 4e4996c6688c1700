/* SPDX-License-Identifier: Apache-2.0 */
/* A log file that rotates: NAME is written, NAME.1 is the one before it, NAME.3 the oldest.
 *
 * Everything a task writes goes through its supervisor, so that no byte is lost when a file is
 * full: the next byte simply goes into the next file. Offsets count the whole log from the task's
 * first byte; NAME.base says at which of them the current file begins.
 *
 * Invariants: (1) a file other than the oldest kept holds exactly limit_bytes when it is rotated;
 *             (2) NAME.base + size of NAME = bytes logged.
 * Fails:      a full disk loses bytes, counts them, and says so in the log as soon as it can.
 * Ends:       engine_log_close.
 */
#include "engine/engine_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int base_put(const struct engine_log *log)
{
    char name[80], text[24];
    (void)snprintf(name, sizeof name, "%s.base", log->name);
    int n = snprintf(text, sizeof text, "%llu\n", (unsigned long long)log->base);
    return engine_file_put(log->folder, name, (struct mr_str){text, (size_t)n}, false);
}

int engine_log_open(struct engine_log *log, const char *folder, const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    *log = (struct engine_log){.fd = -1, .limit_bytes = MR_LOG_BYTES_MAX};
    (void)snprintf(log->folder, sizeof log->folder, "%s", folder);
    (void)snprintf(log->name, sizeof log->name, "%s", name);
    if (engine_path(path, folder, name) != 0) return -ENAMETOOLONG;
    log->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (log->fd < 0) return -errno;
    if (fstat(log->fd, &st) != 0) return -errno;
    log->bytes = (uint64_t)st.st_size;
    return 0;
}

/* Oldest first, so that a crash between two renames loses nothing that was to be kept. */
static void rotate(struct engine_log *log)
{
    char from[PATH_MAX], to[PATH_MAX];
    for (unsigned i = MR_LOG_FILES_MAX - 1; i > 0; i--) {
        int n = snprintf(to, sizeof to, "%s/%s.%u", log->folder, log->name, i);
        int m = i > 1 ? snprintf(from, sizeof from, "%s/%s.%u", log->folder, log->name, i - 1)
                      : snprintf(from, sizeof from, "%s/%s", log->folder, log->name);
        if (n >= (int)sizeof to || m >= (int)sizeof from) return;
        (void)rename(from, to); /* ENOENT: there are not so many yet */
    }
    int fd = open(from, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return;   /* go on in the renamed file rather than lose anything */
    (void)close(log->fd); /* its bytes were accepted by write */
    log->fd = fd;
    log->base += log->bytes;
    log->bytes = 0;
    (void)base_put(log); /* without it readers begin at the oldest file, with wrong offsets */
}

static size_t put_some(struct engine_log *log, const uint8_t *bytes, size_t n)
{
    if (log->bytes >= log->limit_bytes) rotate(log);
    size_t room = log->bytes < log->limit_bytes ? (size_t)(log->limit_bytes - log->bytes) : n;
    for (;;) {
        ssize_t done = write(log->fd, bytes, MR_MIN(n, room));
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return 0;
        log->bytes += (uint64_t)done;
        return (size_t)done;
    }
}

void engine_log_put(struct engine_log *log, const uint8_t *bytes, size_t n)
{
    if (log->fd < 0) return;
    if (log->lost_bytes > 0) {
        char text[128];
        int length = snprintf(text, sizeof text, "\n[millrace: %llu bytes were lost: disk full]\n",
                              (unsigned long long)log->lost_bytes);
        if (put_some(log, (const uint8_t *)text, (size_t)length) == 0) {
            log->lost_bytes += n;
            return;
        }
        log->lost_bytes = 0;
    }
    while (n > 0) {
        size_t done = put_some(log, bytes, n);
        if (done == 0) {
            log->lost_bytes += n;
            return;
        }
        bytes += done;
        n -= done;
    }
}

void engine_log_close(struct engine_log *log)
{
    if (log->fd >= 0) (void)close(log->fd); /* its bytes were accepted by write */
    log->fd = -1;
}
