/* SPDX-License-Identifier: Apache-2.0 */
/* Process trees: who descends from whom, what they hold in memory, and their end.
 *
 * A supervisor is a child subreaper, so a process that double-forks or opens a session of its own
 * stays below it; when the supervisor has no child left, nobody is left. When the supervisor itself
 * was killed, what it leaves is found by the lease's number in its environment.
 *
 * Invariants: (1) a process is killed only while it is known to be a descendant or to carry the
 *                 lease: through a pidfd, so that a recycled number hits nobody else;
 *             (2) walks are bounded by TREE_MAX.
 * Fails:      with what /proc does not tell.
 */
#include "engine/engine_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define TREE_MAX           65536u
#define ENVIRON_BYTES_MAX  ((size_t)2 * 1024 * 1024)
#define CHILDREN_BYTES_MAX ((size_t)256 * 1024)

struct process {
    pid_t pid, parent;
    bool in; /* descends from the root */
};

/* Reads up to size - 1 bytes and terminates them; -1 when the process is gone. */
static ssize_t proc_read(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t done = 0;
    if (fd < 0) return -1;
    while (done < size - 1) {
        ssize_t n = read(fd, buf + done, size - 1 - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += (size_t)n;
    }
    (void)close(fd); /* read only */
    buf[done] = 0;
    return (ssize_t)done;
}

static bool pid_from_name(const char *name, pid_t *ret)
{
    uint64_t v;
    if (mr_str_to_u64(mr_str_from(name), &v) != 0 || v == 0 || v > INT_MAX) return false;
    *ret = (pid_t)v;
    return true;
}

/* The parent is the second field behind the name, which may hold anything but ends at the last ')'.
 */
static pid_t parent_of(pid_t pid)
{
    char path[48], text[512];
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (proc_read(path, text, sizeof text) <= 0) return -1;
    const char *p = strrchr(text, ')');
    if (p == NULL || strlen(p) < 5) return -1;
    struct mr_str rest = mr_str_from(p + 4), field;
    uint64_t parent;
    if (!mr_str_split(&rest, ' ', &field) || mr_str_to_u64(field, &parent) != 0) return -1;
    return (pid_t)parent;
}

static int by_pid(const void *a, const void *b)
{
    pid_t x = ((const struct process *)a)->pid, y = ((const struct process *)b)->pid;
    return x < y ? -1 : x > y;
}

static int all_processes(struct process **ret, size_t *ret_count)
{
    DIR *dir = opendir("/proc");
    struct process *list = NULL;
    size_t count = 0, capacity = 0;
    const struct dirent *entry;
    if (dir == NULL) return -errno;
    while ((entry = readdir(dir)) != NULL && count < TREE_MAX) {
        pid_t pid;
        if (!pid_from_name(entry->d_name, &pid)) continue;
        if (count == capacity) {
            size_t more = capacity == 0 ? 256 : capacity * 2;
            struct process *grown = mr_realloc(list, more * sizeof *list);
            if (grown == NULL) break;
            list = grown;
            capacity = more;
        }
        list[count++] = (struct process){.pid = pid, .parent = parent_of(pid)};
    }
    (void)closedir(dir); /* read only */
    *ret = list;
    *ret_count = count;
    return 0;
}

/* Processes found whose own children were not looked for yet. */
struct walk {
    pid_t *pids;
    size_t count, capacity;
};

static bool walk_add(struct walk *walk, pid_t pid)
{
    if (walk->count == TREE_MAX) return false;
    if (walk->count == walk->capacity) {
        size_t more = walk->capacity == 0 ? 64 : walk->capacity * 2;
        pid_t *grown = mr_realloc(walk->pids, more * sizeof *grown);
        if (grown == NULL) return false;
        walk->pids = grown;
        walk->capacity = more;
    }
    walk->pids[walk->count++] = pid;
    return true;
}

static void children_add(struct walk *walk, pid_t pid, char *text)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    const struct dirent *entry;
    if (dir == NULL) return; /* gone: its children are the supervisor's now, seen the next time */
    while ((entry = readdir(dir)) != NULL) {
        pid_t thread;
        if (!pid_from_name(entry->d_name, &thread)) continue;
        (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)thread);
        if (proc_read(path, text, CHILDREN_BYTES_MAX) < 0) continue;
        struct mr_str rest = mr_str_from(text), word;
        while (mr_str_split(&rest, ' ', &word)) {
            uint64_t child;
            if (word.n > 0 && mr_str_to_u64(word, &child) == 0) (void)walk_add(walk, (pid_t)child);
        }
    }
    (void)closedir(dir); /* read only */
}

/* With CONFIG_PROC_CHILDREN the children of a thread are one file: no look at all processes. In
 * breadth, however deep the tree is. */
static int children_visit(pid_t root, void (*visit)(void *arg, pid_t pid), void *arg)
{
    struct walk walk = {0};
    mr_cleanup(mr_free_pointer) char *text = mr_alloc(CHILDREN_BYTES_MAX);
    if (text == NULL) return -ENOMEM;
    children_add(&walk, root, text);
    for (size_t i = 0; i < walk.count; i++) {
        visit(arg, walk.pids[i]);
        children_add(&walk, walk.pids[i], text);
    }
    mr_free(walk.pids);
    return (int)walk.count;
}

static bool has_children_files(void)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)gettid());
    return access(path, R_OK) == 0;
}

int engine_tree_visit(pid_t root, void (*visit)(void *arg, pid_t pid), void *arg)
{
    if (has_children_files()) return children_visit(root, visit, arg);
    mr_cleanup(mr_free_pointer) struct process *list = NULL;
    size_t count = 0;
    int found = 0;
    int error = all_processes(&list, &count);
    if (error != 0) return error;
    if (count > 0) qsort(list, count, sizeof *list, by_pid);
    /* Numbers wrap, so a child may have a smaller one than its parent: until nothing is added. */
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < count; i++) {
            if (list[i].in || list[i].parent <= 0) continue;
            struct process key = {.pid = list[i].parent};
            const struct process *parent = bsearch(&key, list, count, sizeof *list, by_pid);
            if (list[i].parent != root && (parent == NULL || !parent->in)) continue;
            list[i].in = more = true;
            found++;
            visit(arg, list[i].pid);
        }
    }
    return found;
}

static uint64_t field_bytes(const char *text, const char *name)
{
    const char *p = strstr(text, name);
    uint64_t v = 0;
    if (p == NULL) return 0;
    for (p += strlen(name); *p == ' ' || *p == '\t'; p++) {
    }
    for (; *p >= '0' && *p <= '9'; p++)
        v = v * 10 + (uint64_t)(*p - '0');
    return v * 1024;
}

struct usage_walk {
    struct engine_usage *usage;
    bool exact;
};

static void usage_add(void *arg, pid_t pid)
{
    struct usage_walk *walk = arg;
    char path[48], text[4096];
    walk->usage->processes++;
    (void)snprintf(path, sizeof path, walk->exact ? "/proc/%d/smaps_rollup" : "/proc/%d/status",
                   (int)pid);
    if (proc_read(path, text, sizeof text) <= 0) return;
    if (walk->exact) {
        walk->usage->anon_bytes += field_bytes(text, "Pss_Anon:") +
                                   field_bytes(text, "Pss_Shmem:") + field_bytes(text, "SwapPss:");
    } else {
        walk->usage->anon_bytes += field_bytes(text, "RssAnon:") + field_bytes(text, "RssShmem:") +
                                   field_bytes(text, "VmSwap:");
    }
}

void engine_tree_usage(pid_t root, bool exact, struct engine_usage *ret)
{
    *ret = (struct engine_usage){0};
    struct usage_walk walk = {.usage = ret, .exact = exact};
    if (root != getpid()) usage_add(&walk, root);
    (void)engine_tree_visit(root, usage_add, &walk); /* what cannot be read counts as nothing */
}

static void kill_one(void *arg, pid_t pid)
{
    (void)arg;
    (void)kill(pid, SIGKILL); /* our descendant, not reaped yet: the number is still its own */
}

uint32_t engine_tree_kill(uint64_t patience_us, void (*reaped)(void *arg, pid_t pid, int status),
                          void *arg)
{
    uint64_t until = engine_mono_us() + patience_us;
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG | __WALL);
        if (pid > 0) {
            reaped(arg, pid, status);
            continue;
        }
        if (pid < 0 && errno == ECHILD) return 0;
        int left = engine_tree_visit(getpid(), kill_one, NULL);
        if (engine_mono_us() > until) return left > 0 ? (uint32_t)left : 1;
        /* A kill takes effect when the process next runs; no event says so for grandchildren. */
        (void)poll(NULL, 0, 2);
    }
}

/* The value of NAME in the block of zero-terminated NAME=value strings; NULL when absent. */
static const char *environ_get(const char *block, size_t n, const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < n; i += strlen(block + i) + 1) {
        if (strncmp(block + i, name, length) == 0 && block[i + length] == '=') {
            return block + i + length + 1;
        }
    }
    return NULL;
}

uint32_t engine_orphans_kill(const char *home, struct mr_lease_id lease,
                             bool (*spare)(void *arg, struct mr_lease_id lease), void *arg)
{
    DIR *dir = opendir("/proc");
    const struct dirent *entry;
    uint32_t killed = 0;
    size_t home_bytes = strlen(home);
    mr_cleanup(mr_free_pointer) char *block = mr_alloc(ENVIRON_BYTES_MAX);
    if (dir == NULL || block == NULL) {
        if (dir != NULL) (void)closedir(dir); /* read only */
        return 0;
    }
    while ((entry = readdir(dir)) != NULL) {
        pid_t pid;
        uint64_t id;
        char path[48];
        if (!pid_from_name(entry->d_name, &pid) || pid == getpid()) continue;
        /* Opened before it is looked at: what is killed is what was looked at. */
        int pidfd = pidfd_open(pid, 0);
        if (pidfd < 0) continue;
        (void)snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
        ssize_t n = proc_read(path, block, ENVIRON_BYTES_MAX);
        const char *number = n > 0 ? environ_get(block, (size_t)n, "MILLRACE_LEASE") : NULL;
        const char *run = n > 0 ? environ_get(block, (size_t)n, "MILLRACE_RUN_DIR") : NULL;
        if (number != NULL && run != NULL && strncmp(run, home, home_bytes) == 0 &&
            strncmp(run + home_bytes, "/workloads/", 11) == 0 &&
            mr_str_to_u64(mr_str_from(number), &id) == 0 &&
            (lease.v != 0 ? id == lease.v : !spare(arg, (struct mr_lease_id){id})) &&
            pidfd_send_signal(pidfd, SIGKILL, NULL, 0) == 0) {
            killed++;
        }
        (void)close(pidfd); /* nothing was written */
    }
    (void)closedir(dir); /* read only */
    return killed;
}
