/* SPDX-License-Identifier: Apache-2.0 */
/* The home: the folder in which one cloud keeps everything.
 *
 * Owns:  nothing; each returned path is the caller's to free.
 * Fails: with MR_E…, or one printed line where the header says so.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd.h"

#define FILE_BYTES_MAX ((size_t)64 * 1024 * 1024)
#define DEFAULT_MODEL  "SmolLM2-135M-Instruct.Q4_1.gguf"

char *cmd_path(const char *folder, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

char *cmd_home_find(void)
{
    const char *set = getenv("MILLRACE_HOME");
    if (set != NULL && set[0] == '/') return strdup(set);
    if (set != NULL && set[0] != 0) {
        char folder[PATH_MAX];
        return getcwd(folder, sizeof folder) != NULL ? cmd_path(folder, set) : NULL;
    }
    const char *user = getenv("HOME");
    return cmd_path(user != NULL && user[0] != 0 ? user : "/tmp", ".millrace");
}

int cmd_home_make(const char *home)
{
    if (mkdir(home, 0700) == 0 || errno == EEXIST) {
        if (access(home, R_OK | W_OK | X_OK) == 0) return 0;
    }
    return cmd_fail("cannot use the home folder %s: %s; set MILLRACE_HOME to a folder that you may "
                    "write to",
                    home, strerror(errno));
}

int cmd_file_read(const char *path, struct mr_buf *buf)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? MR_ENOT_FOUND : MR_EIO;
    int error = 0;
    for (;;) {
        uint8_t piece[16384];
        ssize_t n = read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) error = MR_EIO;
        if (n <= 0) break;
        mr_buf_put(buf, piece, (size_t)n);
        if (buf->failed || buf->n > FILE_BYTES_MAX) {
            error = MR_ETOO_LARGE;
            break;
        }
    }
    (void)close(fd); /* read only */
    return error;
}

static int write_all(int fd, struct mr_str bytes)
{
    while (bytes.n > 0) {
        ssize_t n = write(fd, bytes.p, bytes.n);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno == ENOSPC || errno == EDQUOT ? MR_ENO_SPACE : MR_EIO;
        bytes.p += n;
        bytes.n -= (size_t)n;
    }
    return 0;
}

int cmd_file_write(const char *path, struct mr_str bytes, unsigned mode)
{
    char *part = NULL;
    if (asprintf(&part, "%s.part", path) < 0) return MR_ENO_MEMORY;
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    int error = fd < 0 ? (errno == ENOSPC ? MR_ENO_SPACE : MR_EIO) : write_all(fd, bytes);
    if (error == 0 && fsync(fd) != 0) error = MR_EIO;
    if (fd >= 0 && close(fd) != 0 && error == 0) error = MR_EIO;
    if (error == 0 && rename(part, path) != 0) error = MR_EIO;
    if (error != 0) (void)unlink(part);
    free(part);
    return error;
}

static char *readable(char *path)
{
    if (path != NULL && access(path, R_OK) == 0) return path;
    free(path);
    return NULL;
}

char *cmd_model_find(const char *home)
{
    char *path = NULL;
    if (asprintf(&path, "%s/models/%s", home, DEFAULT_MODEL) < 0) return NULL;
    path = readable(path);
    if (path != NULL) return path;
    const char *cache = getenv("MILLRACE_CACHE");
    const char *user = getenv("HOME");
    int n = cache != NULL ? asprintf(&path, "%s/models/%s", cache, DEFAULT_MODEL)
                          : asprintf(&path, "%s/.cache/millrace/models/%s",
                                     user != NULL ? user : "/root", DEFAULT_MODEL);
    return n < 0 ? NULL : readable(path);
}

int cmd_model_check(const char *path)
{
    char magic[4];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return cmd_fail(
            "cannot read the model %s: %s; give a GGUF file with --model FILE, or fetch "
            "the default one with `make up`",
            path, strerror(errno));
    }
    ssize_t n = read(fd, magic, sizeof magic);
    (void)close(fd); /* read only */
    if (n == (ssize_t)sizeof magic && memcmp(magic, "GGUF", 4) == 0) return 0;
    return cmd_fail("%s is not a GGUF file (it does not begin with \"GGUF\"); models for other "
                    "programs must be converted first, for example with llama.cpp's "
                    "convert_hf_to_gguf.py",
                    path);
}

const char *cmd_file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL && slash[1] != 0 ? slash + 1 : path;
}

char *cmd_model_name(const char *path)
{
    char *name = strdup(cmd_file_name(path));
    if (name == NULL) return NULL;
    char *dot = strrchr(name, '.');
    if (dot != NULL && strcasecmp(dot, ".gguf") == 0) *dot = 0;
    dot = strrchr(name, '.');
    if (dot != NULL && dot != name && dot[1] == 'Q' && dot[2] >= '0' && dot[2] <= '9') *dot = 0;
    return name;
}

int cmd_home_lock(const char *home, int *ret_fd, int *ret_pid)
{
    char text[16] = {0};
    char *path = cmd_path(home, "daemon.lock");
    int fd = path != NULL ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    free(path);
    if (fd < 0) return MR_EIO;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *ret_fd = fd;
        return 0;
    }
    int error = errno == EWOULDBLOCK ? MR_EEXISTS : MR_EIO;
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    uint64_t pid = 0;
    if (n > 0)
        (void)mr_str_to_u64(mr_str_trim((struct mr_str){text, (size_t)n}), &pid); /* 0 then */
    *ret_pid = (int)pid;
    (void)close(fd); /* nothing was written */
    return error;
}
