/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine has: processors, memory, accelerators, and which limits can be enforced.
 *
 * What is counted is what this process may use: its affinity and the limits of its control group
 * and of those above it. NVIDIA's devices are counted by their own library, loaded when it is
 * there, or by the kernel driver's folder.
 *
 * Fails: never; what cannot be found out is absent.
 */
#include "engine/engine_int.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESERVE_MIB_MIN 256u
#define RESERVE_PART    16u /* this part of the memory stays with the system */
#define RESERVE_MIB_MAX 4096u

static bool file_text(const char *path, char *ret, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, ret, size - 1);
    (void)close(fd); /* read only */
    if (n < 0) return false;
    ret[n] = 0;
    return true;
}

static bool first_number(const char *text, uint64_t *ret)
{
    struct mr_str rest = mr_str_trim(mr_str_from(text)), word;
    return mr_str_split(&rest, ' ', &word) && mr_str_to_u64(mr_str_trim(word), ret) == 0;
}

static void cpus_read(struct mr_engine_machine *ret)
{
    cpu_set_t set;
    char text[128], cpuinfo[8192];
    uint64_t quota, period;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                            : (int)sysconf(_SC_NPROCESSORS_ONLN);
    ret->cpu_milli = (uint32_t)count * 1000u;
    if (engine_cgroup_limit_text("", "cpu.max", text, sizeof text) && first_number(text, &quota) &&
        mr_str_to_u64(mr_str_trim(mr_str_from(strchr(text, ' '))), &period) == 0 && period > 0) {
        ret->cpu_milli = (uint32_t)MR_MIN((uint64_t)ret->cpu_milli, quota * 1000 / period);
    } else if (engine_cgroup_limit_text("cpu", "cpu.cfs_quota_us", text, sizeof text) &&
               first_number(text, &quota) &&
               engine_cgroup_limit_text("cpu", "cpu.cfs_period_us", text, sizeof text) &&
               first_number(text, &period) && period > 0) {
        ret->cpu_milli = (uint32_t)MR_MIN((uint64_t)ret->cpu_milli, quota * 1000 / period);
    }
    if (!file_text("/proc/cpuinfo", cpuinfo, sizeof cpuinfo)) return;
    const char *name = strstr(cpuinfo, "model name");
    const char *colon = name != NULL ? strchr(name, ':') : NULL;
    if (colon == NULL) return;
    struct mr_str rest = mr_str_from(colon + 1), line;
    if (!mr_str_split(&rest, '\n', &line)) return;
    line = mr_str_trim(line);
    (void)snprintf(ret->cpu_name, sizeof ret->cpu_name, "%.*s", MR_STR_ARG(line));
}

static void memory_read(struct mr_engine_machine *ret)
{
    char text[8192];
    uint64_t bytes = 0, limit;
    if (file_text("/proc/meminfo", text, sizeof text)) {
        const char *p = strstr(text, "MemTotal:");
        uint64_t kib = 0;
        for (p = p != NULL ? p + 9 : ""; *p == ' '; p++) {
        }
        for (; *p >= '0' && *p <= '9'; p++)
            kib = kib * 10 + (uint64_t)(*p - '0');
        bytes = kib * 1024;
    }
    if (engine_cgroup_limit_text("", "memory.max", text, sizeof text) &&
        first_number(text, &limit)) {
        bytes = MR_MIN(bytes, limit);
    }
    if (engine_cgroup_limit_text("memory", "memory.limit_in_bytes", text, sizeof text) &&
        first_number(text, &limit)) {
        bytes = MR_MIN(bytes, limit);
    }
    uint64_t mib = bytes / (1024 * 1024), reserve = mib / RESERVE_PART;
    reserve = MR_MIN(MR_MAX(reserve, (uint64_t)RESERVE_MIB_MIN), (uint64_t)RESERVE_MIB_MAX);
    ret->mem_mib =
        (uint32_t)MR_MIN(mib > 2 * reserve ? mib - reserve : mib / 2, (uint64_t)UINT32_MAX);
}

/* "NVIDIA H100 80GB HBM3" is known to people, and in job files, as H100. */
void engine_accel_name_short(struct mr_str name, char ret[64])
{
    static const char *const brands[] = {"NVIDIA", "Tesla", "GeForce", "Quadro"};
    struct mr_str word;
    ret[0] = 0;
    name = mr_str_trim(name);
    while (mr_str_split(&name, ' ', &word)) {
        bool brand = word.n == 0;
        for (size_t i = 0; i < MR_COUNT_OF(brands); i++) {
            brand = brand || mr_str_equal(word, mr_str_from(brands[i]));
        }
        if (brand) continue;
        struct mr_str model;
        if (!mr_str_split(&word, '-', &model)) return;
        size_t n = strlen(ret);
        (void)snprintf(ret + n, 64 - n, "%.*s", MR_STR_ARG(model));
        if (strcmp(ret, "RTX") != 0 && strcmp(ret, "GTX") != 0) return;
    }
}

/* The three calls that we need, as NVIDIA documents them. */
struct nvml {
    int (*init)(void);
    int (*count)(unsigned *count);
    int (*handle)(unsigned index, void **device);
    int (*name)(void *device, char *name, unsigned length);
    int (*shutdown)(void);
};

static bool nvml_symbol(void *library, const char *name, void *ret_function)
{
    void *p = dlsym(library, name);
    memcpy(ret_function, &p, sizeof p); /* ISO C has no cast from an object to a function */
    return p != NULL;
}

static bool nvml_read(struct mr_engine_machine *ret)
{
    struct nvml nvml = {0};
    char name[96] = "";
    unsigned count = 0;
    void *device, *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    bool found = false;
    if (library == NULL) return false;
    if (nvml_symbol(library, "nvmlInit_v2", &nvml.init) &&
        nvml_symbol(library, "nvmlDeviceGetCount_v2", &nvml.count) &&
        nvml_symbol(library, "nvmlDeviceGetHandleByIndex_v2", &nvml.handle) &&
        nvml_symbol(library, "nvmlDeviceGetName", &nvml.name) &&
        nvml_symbol(library, "nvmlShutdown", &nvml.shutdown) && nvml.init() == 0) {
        if (nvml.count(&count) == 0 && count > 0 && nvml.handle(0, &device) == 0 &&
            nvml.name(device, name, sizeof name) == 0) {
            name[sizeof name - 1] = 0;
            ret->accel_count = count;
            engine_accel_name_short(mr_str_from(name), ret->accel_name);
            found = true;
        }
        (void)nvml.shutdown(); /* read only */
    }
    (void)dlclose(library);
    return found;
}

static void driver_read(struct mr_engine_machine *ret)
{
    DIR *dir = opendir("/proc/driver/nvidia/gpus");
    const struct dirent *entry;
    if (dir == NULL) return;
    while ((entry = readdir(dir)) != NULL) {
        char path[PATH_MAX], text[2048];
        if (entry->d_name[0] == '.') continue;
        (void)snprintf(path, sizeof path, "/proc/driver/nvidia/gpus/%s/information", entry->d_name);
        if (!file_text(path, text, sizeof text)) continue;
        const char *p = strstr(text, "Model:");
        ret->accel_count++;
        if (p == NULL || ret->accel_name[0] != 0) continue;
        struct mr_str rest = mr_str_from(p + 6), line;
        if (mr_str_split(&rest, '\n', &line)) engine_accel_name_short(line, ret->accel_name);
    }
    (void)closedir(dir); /* read only */
}

/* Tried in a child, since a namespace cannot be left again. */
static void sandbox_read(struct mr_engine_machine *ret)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        int flags =
            CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
        if (unshare(flags) == 0) _exit(0);
        _exit(MR_MIN(errno, 127));
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) status = EAGAIN << 8;
    int error = WEXITSTATUS(status);
    if (error != 0) {
        (void)snprintf(ret->sandbox, sizeof ret->sandbox, "none (user namespaces: %s)",
                       error == EPERM    ? "not permitted by the kernel's settings"
                       : error == ENOSPC ? "switched off, sysctl user.max_user_namespaces"
                                         : engine_errno_text(error));
        return;
    }
    if (prctl(PR_GET_SECCOMP) < 0 && errno == EINVAL) {
        (void)snprintf(ret->sandbox, sizeof ret->sandbox, "none (the kernel has no seccomp)");
        return;
    }
    (void)snprintf(ret->sandbox, sizeof ret->sandbox, "namespaces, seccomp");
}

void mr_engine_machine_read(struct mr_engine_machine *ret)
{
    *ret = (struct mr_engine_machine){0};
    cpus_read(ret);
    memory_read(ret);
    if (!nvml_read(ret)) driver_read(ret);
    engine_cgroups_describe(ret->cgroup);
    sandbox_read(ret);
}
