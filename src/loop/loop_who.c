/* SPDX-License-Identifier: Apache-2.0 */
/* Who listens on a port, so that "address in use" names somebody.
 *
 * Owns:   nothing between calls.
 * Thread: any; blocks for as long as a walk over /proc takes.
 * Fails:  silently: the answer is empty when /proc is not there or not ours to read.
 * Ends:   nothing.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "loop_int.h"

#define WHO_TABLE_LINES_MAX 100000u
#define WHO_STATE_LISTEN    0x0Au

/* The inode of the listening socket of that port, 0 when there is none in this table. */
static uint64_t inode_of_port(const char *table, uint16_t port)
{
    FILE *file = fopen(table, "re");
    char line[512];
    uint64_t found = 0;
    if (file == NULL) return 0;
    for (unsigned i = 0; i < WHO_TABLE_LINES_MAX && found == 0; i++) {
        unsigned local_port = 0, state = 0;
        uint64_t inode = 0;
        if (fgets(line, sizeof line, file) == NULL) break;
        int fields = sscanf(line,
                            " %*u: %*32[0-9A-Fa-f]:%4x %*32[0-9A-Fa-f]:%*x %2x %*x:%*x %*x:%*x %*x "
                            "%*u %*u %" SCNu64,
                            &local_port, &state, &inode);
        if (fields == 3 && local_port == port && state == WHO_STATE_LISTEN) found = inode;
    }
    (void)fclose(file); /* was only read */
    return found;
}

static bool process_has(int process_fd, const char *wanted)
{
    int fd = openat(process_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    bool found = false;
    if (folder == NULL) {
        if (fd >= 0) (void)close(fd); /* was not opened for writing */
        return false;
    }
    for (struct dirent *entry = readdir(folder); entry != NULL && !found; entry = readdir(folder)) {
        char target[64];
        ssize_t n = readlinkat(fd, entry->d_name, target, sizeof target - 1);
        if (n <= 0) continue;
        target[n] = 0;
        found = strcmp(target, wanted) == 0;
    }
    (void)closedir(folder); /* was only read */
    return found;
}

static void name_put(int process_fd, const char *pid, struct mr_buf *buf)
{
    char name[64];
    int fd = openat(process_fd, "comm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, name, sizeof name) : -1;
    if (fd >= 0) (void)close(fd); /* was only read */
    mr_buf_printf(buf, "process %s", pid);
    if (n > 1) mr_buf_printf(buf, " (%.*s)", (int)(n - 1), name);
}

void loop_who_listens(uint16_t port, struct mr_buf *buf)
{
    uint64_t inode = inode_of_port("/proc/net/tcp", port);
    if (inode == 0) inode = inode_of_port("/proc/net/tcp6", port);
    DIR *proc = inode != 0 ? opendir("/proc") : NULL;
    char wanted[64];
    bool found = false;
    if (proc == NULL) return;
    (void)snprintf(wanted, sizeof wanted, "socket:[%" PRIu64 "]", inode);
    for (struct dirent *entry = readdir(proc); entry != NULL && !found; entry = readdir(proc)) {
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
        int fd = openat(dirfd(proc), entry->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) continue;
        found = process_has(fd, wanted);
        if (found) name_put(fd, entry->d_name, buf);
        (void)close(fd); /* only named a folder */
    }
    (void)closedir(proc); /* was only read */
}
