/* SPDX-License-Identifier: Apache-2.0 */
/* Control groups of a lease, in version 2 or 1, where this process may make any.
 *
 * Groups are made only below a group that is ours: the root of a hierarchy as we see it, one that a
 * manager has delegated to us (systemd marks it), or, without root, one that belongs to us. A group
 * that somebody else manages is left alone. Without groups the supervisor watches the memory itself
 * and walks the process tree to end it.
 *
 * Fails: never; `memory` and `cpu` say what the kernel enforces.
 * Ends:  engine_cgroups_remove, by the supervisor or, when that was killed, by the daemon.
 */
#include "engine/engine_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CPU_PERIOD_US 100000u

/* Cgroup files take each write whole and tell at once whether they like it. */
static bool put_text(const char *folder, const char *name, const char *text)
{
    char path[PATH_MAX];
    if (engine_path(path, folder, name) != 0) return false;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = write(fd, text, strlen(text));
    (void)close(fd); /* the write has told */
    return n == (ssize_t)strlen(text);
}

static bool put_number(const char *folder, const char *name, uint64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return put_text(folder, name, text);
}

static bool get_text(const char *folder, const char *name, char *ret, size_t size)
{
    char path[PATH_MAX];
    if (engine_path(path, folder, name) != 0) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, ret, size - 1);
    (void)close(fd); /* read only */
    if (n < 0) return false;
    ret[n] = 0;
    return true;
}

static bool has_word(struct mr_str list, char separator, struct mr_str word)
{
    struct mr_str part;
    while (mr_str_split(&list, separator, &part)) {
        if (mr_str_equal(part, word)) return true;
    }
    return false;
}

/* The value of "NAME number" in a file of such lines, 0 without it. */
static uint64_t line_value(const char *text, const char *name)
{
    struct mr_str rest = mr_str_from(text), line;
    while (mr_str_split(&rest, '\n', &line)) {
        struct mr_str key;
        uint64_t v;
        if (!mr_str_split(&line, ' ', &key) || !mr_str_equal(key, mr_str_from(name))) continue;
        return mr_str_to_u64(mr_str_trim(line), &v) == 0 ? v : 0;
    }
    return 0;
}

/* This process's group in the hierarchy of the controller ("" for version 2). */
static bool own_group(struct mr_str controller, char *ret, size_t size)
{
    char text[8192];
    if (!get_text("/proc/self", "cgroup", text, sizeof text)) return false;
    struct mr_str rest = mr_str_from(text), line;
    while (mr_str_split(&rest, '\n', &line)) {
        struct mr_str number, names;
        if (!mr_str_split(&line, ':', &number) || !mr_str_split(&line, ':', &names)) continue;
        if (controller.n == 0 ? names.n != 0 : !has_word(names, ',', controller)) continue;
        return snprintf(ret, size, "%.*s", MR_STR_ARG(line)) < (int)size;
    }
    return false;
}

static bool mount_of(struct mr_str controller, char *ret, size_t size)
{
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, ENGINE_SMALL_FILE_MAX * 4);
    if (engine_file_get("/proc/self", "mounts", &buf) != 0) return false;
    struct mr_str rest = mr_buf_str(&buf), line;
    while (mr_str_split(&rest, '\n', &line)) {
        struct mr_str device, folder, type, options;
        if (!mr_str_split(&line, ' ', &device) || !mr_str_split(&line, ' ', &folder) ||
            !mr_str_split(&line, ' ', &type) || !mr_str_split(&line, ' ', &options)) {
            continue;
        }
        bool right = controller.n == 0 ? mr_str_equal(type, MR_STR("cgroup2"))
                                       : mr_str_equal(type, MR_STR("cgroup")) &&
                                             has_word(options, ',', controller);
        if (right) return snprintf(ret, size, "%.*s", MR_STR_ARG(folder)) < (int)size;
    }
    return false;
}

static bool is_ours(const char *group, const char *folder)
{
    char value[8] = "";
    struct stat st;
    if (strcmp(group, "/") == 0) return true;
    if (stat(folder, &st) != 0) return false;
    if (getuid() != 0 && st.st_uid == getuid()) return true;
    return (getxattr(folder, "user.delegate", value, sizeof value - 1) > 0 ||
            getxattr(folder, "trusted.delegate", value, sizeof value - 1) > 0) &&
           value[0] == '1';
}

/* The folder below which groups may be made; false and why not. */
static bool base_of(struct mr_str controller, char ret[PATH_MAX], const char **ret_why)
{
    char mount[PATH_MAX / 2], group[PATH_MAX / 2];
    *ret_why = "not mounted";
    if (!mount_of(controller, mount, sizeof mount)) return false;
    if (!own_group(controller, group, sizeof group)) return false;
    (void)snprintf(ret, PATH_MAX, "%s%s", mount, strcmp(group, "/") == 0 ? "" : group);
    *ret_why = "our group is managed by somebody else";
    if (!is_ours(group, ret)) return false;
    *ret_why = "no permission";
    return access(ret, W_OK) == 0;
}

static const struct mr_str controllers[ENGINE_CGROUP_COUNT] = {
    [ENGINE_CGROUP_UNIFIED] = {"", 0},
    [ENGINE_CGROUP_CPU] = {"cpu", 3},
    [ENGINE_CGROUP_MEMORY] = {"memory", 6},
};

static bool group_path(enum engine_cgroup_part part, const char *home, struct mr_lease_id lease,
                       char ret[PATH_MAX])
{
    char base[PATH_MAX];
    const char *why;
    if (!base_of(controllers[part], base, &why)) return false;
    uint64_t hash = mr_hash64(home, strlen(home), 1);
    return snprintf(ret, PATH_MAX, "%.*s/millrace-%08x-%llu", PATH_MAX - 64, base, (unsigned)hash,
                    (unsigned long long)lease.v) < PATH_MAX;
}

void engine_cgroups_find(struct engine_cgroups *groups, const char *home, struct mr_lease_id lease)
{
    *groups = (struct engine_cgroups){0};
    for (int i = 0; i < ENGINE_CGROUP_COUNT; i++) {
        char *path = groups->path[i];
        if (!group_path((enum engine_cgroup_part)i, home, lease, path) || access(path, F_OK) != 0) {
            path[0] = 0;
        }
    }
}

void engine_cgroups_make(struct engine_cgroups *groups, const char *home, struct mr_lease_id lease,
                         uint64_t cpu_milli, uint64_t mem_mib)
{
    *groups = (struct engine_cgroups){0};
    uint64_t mem_bytes = mem_mib * 1024 * 1024, quota_us = cpu_milli * CPU_PERIOD_US / 1000;
    /* A group that could hold every processor needs no quota, and is faster without. */
    if (cpu_milli >= (uint64_t)sysconf(_SC_NPROCESSORS_ONLN) * 1000) quota_us = 0;
    for (int i = 0; i < ENGINE_CGROUP_COUNT; i++) {
        char *path = groups->path[i];
        if ((i == ENGINE_CGROUP_CPU && quota_us == 0) ||
            (i == ENGINE_CGROUP_MEMORY && mem_mib == 0) ||
            !group_path((enum engine_cgroup_part)i, home, lease, path)) {
            path[0] = 0;
            continue;
        }
        if (i == ENGINE_CGROUP_UNIFIED) {
            char base[PATH_MAX];
            const char *why;
            if (base_of(controllers[i], base, &why)) {
                (void)put_text(base, "cgroup.subtree_control", "+memory"); /* if it is there */
                (void)put_text(base, "cgroup.subtree_control", "+cpu");
            }
        }
        if (mkdir(path, 0755) != 0 && errno != EEXIST) path[0] = 0;
    }
    const char *unified = groups->path[ENGINE_CGROUP_UNIFIED];
    const char *cpu = groups->path[ENGINE_CGROUP_CPU];
    const char *memory = groups->path[ENGINE_CGROUP_MEMORY];
    if (unified[0] != 0 && quota_us > 0) {
        char text[48];
        (void)snprintf(text, sizeof text, "%llu %u", (unsigned long long)quota_us, CPU_PERIOD_US);
        groups->cpu = put_text(unified, "cpu.max", text);
    }
    if (unified[0] != 0 && mem_mib > 0) {
        groups->memory = put_number(unified, "memory.max", mem_bytes);
        if (groups->memory) (void)put_text(unified, "memory.swap.max", "0"); /* if there is swap */
    }
    if (cpu[0] != 0) groups->cpu = put_number(cpu, "cpu.cfs_quota_us", quota_us) || groups->cpu;
    if (memory[0] != 0) {
        groups->memory = put_number(memory, "memory.limit_in_bytes", mem_bytes) || groups->memory;
    }
}

void engine_cgroups_enter(const struct engine_cgroups *groups)
{
    for (int i = 0; i < ENGINE_CGROUP_COUNT; i++) {
        /* Without it the task runs with fewer limits, as on a machine without cgroups. */
        if (groups->path[i][0] != 0) (void)put_text(groups->path[i], "cgroup.procs", "0");
    }
}

bool engine_cgroups_oom(const struct engine_cgroups *groups)
{
    char text[1024];
    const char *unified = groups->path[ENGINE_CGROUP_UNIFIED];
    const char *memory = groups->path[ENGINE_CGROUP_MEMORY];
    if (unified[0] != 0 && get_text(unified, "memory.events", text, sizeof text) &&
        line_value(text, "oom_kill") > 0) {
        return true;
    }
    return memory[0] != 0 && get_text(memory, "memory.oom_control", text, sizeof text) &&
           line_value(text, "oom_kill") > 0;
}

static void kill_members(const char *folder)
{
    char text[16384];
    if (!get_text(folder, "cgroup.procs", text, sizeof text)) return;
    struct mr_str rest = mr_str_from(text), line;
    while (mr_str_split(&rest, '\n', &line)) {
        uint64_t pid;
        if (mr_str_to_u64(line, &pid) == 0 && pid > 1 && pid <= INT_MAX) {
            (void)kill((pid_t)pid, SIGKILL); /* gone already is as good */
        }
    }
}

void engine_cgroups_remove(struct engine_cgroups *groups)
{
    for (int i = 0; i < ENGINE_CGROUP_COUNT; i++) {
        char *path = groups->path[i];
        /* Members that were killed leave their group a moment later. */
        for (int tries = 0; path[0] != 0 && tries < 500; tries++) {
            if (rmdir(path) == 0 || errno == ENOENT) break;
            if (i != ENGINE_CGROUP_UNIFIED || !put_text(path, "cgroup.kill", "1")) {
                kill_members(path);
            }
            (void)poll(NULL, 0, 2);
        }
        path[0] = 0;
    }
}

void engine_cgroups_describe(char ret[96])
{
    char base[PATH_MAX], text[1024] = "";
    const char *why, *why_cpu, *why_memory;
    bool unified = base_of(controllers[ENGINE_CGROUP_UNIFIED], base, &why);
    if (unified) (void)get_text(base, "cgroup.controllers", text, sizeof text);
    struct mr_str list = mr_str_trim(mr_str_from(text));
    bool cpu2 = has_word(list, ' ', MR_STR("cpu")), memory2 = has_word(list, ' ', MR_STR("memory"));
    bool cpu1 = base_of(controllers[ENGINE_CGROUP_CPU], base, &why_cpu);
    bool memory1 = base_of(controllers[ENGINE_CGROUP_MEMORY], base, &why_memory);
    if (unified && (cpu2 || memory2)) {
        (void)snprintf(ret, 96, "v2 (%s%s%s)", cpu2 ? "cpu" : "", cpu2 && memory2 ? ", " : "",
                       memory2 ? "memory" : "");
    } else if (cpu1 && memory1) {
        (void)snprintf(ret, 96, "v1 (cpu, memory)");
    } else if (cpu1) {
        (void)snprintf(ret, 96, "v1 (cpu; memory is watched: %s)", why_memory);
    } else if (memory1) {
        (void)snprintf(ret, 96, "v1 (memory; no cpu limit: %s)", why_cpu);
    } else {
        (void)snprintf(ret, 96, "none (%s); memory is watched", why);
    }
}

bool engine_cgroup_limit_text(const char *controller, const char *name, char *ret, size_t size)
{
    char mount[PATH_MAX / 2], group[PATH_MAX / 2], folder[PATH_MAX];
    struct mr_str which = mr_str_from(controller);
    if (!mount_of(which, mount, sizeof mount) || !own_group(which, group, sizeof group))
        return false;
    for (;;) {
        (void)snprintf(folder, sizeof folder, "%s%s", mount, group);
        /* "max" and -1 say that the limit, if any, is further up. */
        if (get_text(folder, name, ret, size) && ret[0] >= '0' && ret[0] <= '9') return true;
        char *slash = strrchr(group, '/');
        if (slash == NULL || group[1] == 0) return false;
        *(slash == group ? slash + 1 : slash) = 0;
    }
}
