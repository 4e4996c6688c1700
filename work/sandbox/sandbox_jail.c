/* SPDX-License-Identifier: Apache-2.0 */
/* The file tree of the jail, made of nothing but what a program needs, and the loss of all power.
 *
 *     /            tmpfs, read-only in the end
 *     /usr …       the host's programs and libraries, read-only, no set-user-id, no devices
 *     /etc         a few small files of our own
 *     /dev         null zero full random urandom, and shm
 *     /proc        of the own process namespace, processes only; absent when the kernel says no
 *     /work /tmp   one tmpfs of limited size
 *
 * The host's tree is not hidden, it is absent: the root is another one and the old one is
 * unmounted.
 *
 * Invariants: (1) no mount of the host is writable inside;
 *             (2) after sandbox_privileges_drop no capability can ever come back.
 * Fails:      with the step that the kernel refused; the caller says so and runs nothing.
 */
#include "sandbox_int.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NEW_ROOT "/tmp"

static const char *const runtime[] = {"/usr",   "/bin",   "/sbin",  "/lib",
                                      "/lib32", "/lib64", "/libx32"};
static const char *const etc_files[] = {"/etc/ld.so.cache", "/etc/alternatives", "/etc/ld.so.conf",
                                        "/etc/ld.so.conf.d"};
static const char *const devices[] = {"null", "zero", "full", "random", "urandom"};

static const struct {
    const char *name, *text;
} etc_own[] = {
    {"passwd", "sandbox:x:65534:65534:sandbox:/work:/bin/sh\n"},
    {"group", "sandbox:x:65534:\n"},
    {"hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n"},
    {"nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"},
};

static int file_write(const char *path, const void *bytes, size_t n, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
    size_t done = 0;
    if (fd < 0) return -errno;
    while (done < n) {
        ssize_t got = write(fd, (const char *)bytes + done, n - done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            int error = got < 0 ? -errno : -EIO;
            (void)close(fd); /* it has failed already */
            return error;
        }
        done += (size_t)got;
    }
    return close(fd) == 0 ? 0 : -errno;
}

/* Makes every folder of the path but the last part. */
static int parents_make(const char *path)
{
    char part[PATH_MAX];
    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part) return -ENAMETOOLONG;
    for (char *p = part + 1; *p != 0; p++) {
        if (*p != '/') continue;
        *p = 0;
        if (mkdir(part, 0755) != 0 && errno != EEXIST) return -errno;
        *p = '/';
    }
    return 0;
}

/* Read-only for the whole of a bound tree, also for what is mounted below it. */
static int seal(const char *path, uint64_t flags)
{
    struct mount_attr attr = {.attr_set = flags};
    if (mount_setattr(AT_FDCWD, path, AT_RECURSIVE, &attr, sizeof attr) == 0) return 0;
    return -errno;
}

static int bind_read_only(const char *source, const char *target, bool folder, uint64_t more)
{
    int error = parents_make(target);
    if (error != 0) return error;
    if (folder) {
        if (mkdir(target, 0755) != 0 && errno != EEXIST) return -errno;
    } else {
        error = file_write(target, "", 0, 0644);
        if (error != 0) return error;
    }
    if (mount(source, target, NULL, MS_BIND | (folder ? MS_REC : 0), NULL) != 0) return -errno;
    return seal(target, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | more);
}

/* A link on the host (/bin to usr/bin) is a link here; a folder is bound. */
static int host_path_add(const char *path)
{
    struct stat st;
    char target[PATH_MAX], link[PATH_MAX];
    if (lstat(path, &st) != 0) return 0; /* not every machine has each of them */
    (void)snprintf(target, sizeof target, "%s%s", NEW_ROOT, path);
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlink(path, link, sizeof link - 1);
        if (n < 0) return -errno;
        link[n] = 0;
        int error = parents_make(target);
        if (error != 0) return error;
        return symlink(link, target) == 0 ? 0 : -errno;
    }
    return bind_read_only(path, target, S_ISDIR(st.st_mode), MOUNT_ATTR_NODEV);
}

static int devices_add(void)
{
    if (mkdir(NEW_ROOT "/dev", 0755) != 0) return -errno;
    for (size_t i = 0; i < MR_COUNT_OF(devices); i++) {
        char source[64], target[64];
        (void)snprintf(source, sizeof source, "/dev/%s", devices[i]);
        (void)snprintf(target, sizeof target, "%s/dev/%s", NEW_ROOT, devices[i]);
        int error = bind_read_only(source, target, false, MOUNT_ATTR_NOEXEC);
        if (error != 0) return error;
    }
    static const char *const links[][2] = {{"/proc/self/fd", NEW_ROOT "/dev/fd"},
                                           {"/proc/self/fd/0", NEW_ROOT "/dev/stdin"},
                                           {"/proc/self/fd/1", NEW_ROOT "/dev/stdout"},
                                           {"/proc/self/fd/2", NEW_ROOT "/dev/stderr"}};
    for (size_t i = 0; i < MR_COUNT_OF(links); i++) {
        if (symlink(links[i][0], links[i][1]) != 0) return -errno;
    }
    return 0;
}

/* One small file system for everything that may be written. */
static int writable_add(const struct sandbox_spec *spec)
{
    static const char *const shown[][2] = {{NEW_ROOT "/rw/work", NEW_ROOT "/work"},
                                           {NEW_ROOT "/rw/tmp", NEW_ROOT "/tmp"},
                                           {NEW_ROOT "/rw/shm", NEW_ROOT "/dev/shm"}};
    char options[96];
    uint64_t inodes = MR_MAX(spec->disk_bytes / 4096, (uint64_t)1024);
    (void)snprintf(options, sizeof options, "mode=0700,size=%llu,nr_inodes=%llu",
                   (unsigned long long)spec->disk_bytes, (unsigned long long)inodes);
    if (mkdir(NEW_ROOT "/rw", 0700) != 0) return -errno;
    if (mount("sandbox", NEW_ROOT "/rw", "tmpfs", MS_NOSUID | MS_NODEV, options) != 0)
        return -errno;
    for (size_t i = 0; i < MR_COUNT_OF(shown); i++) {
        if (mkdir(shown[i][0], 0700) != 0 || mkdir(shown[i][1], 0755) != 0) return -errno;
        if (mount(shown[i][0], shown[i][1], NULL, MS_BIND, NULL) != 0) return -errno;
    }
    return 0;
}

static int files_add(const struct sandbox_spec *spec)
{
    for (size_t i = 0; i < spec->file_count; i++) {
        char path[PATH_MAX];
        const struct sandbox_file *file = &spec->files[i];
        (void)snprintf(path, sizeof path, "%s/work/%.*s", NEW_ROOT, MR_STR_ARG(file->name));
        bool script = file->bytes.n > 4 && (memcmp(file->bytes.p, "#!", 2) == 0 ||
                                            memcmp(file->bytes.p, "\177ELF", 4) == 0);
        int error = parents_make(path);
        if (error == 0)
            error = file_write(path, file->bytes.p, file->bytes.n, script ? 0755 : 0644);
        if (error != 0) return error;
    }
    return 0;
}

static int etc_add(void)
{
    if (mkdir(NEW_ROOT "/etc", 0755) != 0) return -errno;
    for (size_t i = 0; i < MR_COUNT_OF(etc_own); i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "%s/etc/%s", NEW_ROOT, etc_own[i].name);
        int error = file_write(path, etc_own[i].text, strlen(etc_own[i].text), 0644);
        if (error != 0) return error;
    }
    for (size_t i = 0; i < MR_COUNT_OF(etc_files); i++) {
        int error = host_path_add(etc_files[i]);
        if (error != 0) return error;
    }
    return 0;
}

/* Processes of this namespace only, and of those only one's own; nothing of the kernel. A container
 * that hides parts of its /proc is not allowed a new one: then there is none. */
static int proc_add(void)
{
    if (mkdir(NEW_ROOT "/proc", 0555) != 0) return -errno;
    (void)mount("proc", NEW_ROOT "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC,
                "subset=pid,hidepid=invisible");
    return 0;
}

static int loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    int error = ioctl(fd, SIOCSIFFLAGS, &request) == 0 ? 0 : -errno;
    (void)close(fd); /* nothing was written */
    return error;
}

static int root_change(void)
{
    if (chdir(NEW_ROOT) != 0) return -errno;
    /* Stacks the old root on the new one and takes it away from there. */
    if (syscall(SYS_pivot_root, ".", ".") != 0) return -errno;
    if (umount2(".", MNT_DETACH) != 0) return -errno;
    if (chdir("/") != 0) return -errno;
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID};
    if (mount_setattr(AT_FDCWD, "/", 0, &attr, sizeof attr) != 0) return -errno;
    return chdir("/work") == 0 ? 0 : -errno;
}

static int python_add(const struct sandbox_inside *inside)
{
    char source[48], target[PATH_MAX];
    if (inside->python_fd < 0) return 0;
    (void)snprintf(source, sizeof source, "/proc/self/fd/%d", inside->python_fd);
    if (snprintf(target, sizeof target, "%s%s", NEW_ROOT, inside->spec->python_prefix) >=
        (int)sizeof target) {
        return -ENAMETOOLONG;
    }
    return bind_read_only(source, target, true, MOUNT_ATTR_NODEV);
}

int sandbox_jail_build(const struct sandbox_inside *inside, const char **ret_step)
{
    int error = 0;
    (void)umask(022);
    *ret_step = "making the mounts private";
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return -errno;
    *ret_step = "mounting a root of its own";
    if (mount("sandbox", NEW_ROOT, "tmpfs", MS_NOSUID | MS_NODEV,
              "mode=0755,size=1m,nr_inodes=512") != 0) {
        return -errno;
    }
    *ret_step = "binding the programs of the host";
    for (size_t i = 0; error == 0 && i < MR_COUNT_OF(runtime); i++)
        error = host_path_add(runtime[i]);
    if (error == 0) error = python_add(inside);
    if (error != 0) return error;
    *ret_step = "making /etc";
    error = etc_add();
    if (error != 0) return error;
    *ret_step = "making /dev";
    error = devices_add();
    if (error != 0) return error;
    *ret_step = "making /work";
    error = writable_add(inside->spec);
    if (error != 0) return error;
    *ret_step = "putting the files into /work (disk says how much fits)";
    error = files_add(inside->spec);
    if (error != 0) return error;
    *ret_step = "making /proc";
    error = proc_add();
    if (error != 0) return error;
    *ret_step = "bringing up its loopback";
    error = loopback_up();
    if (error != 0) return error;
    *ret_step = "changing the root";
    error = root_change();
    if (error != 0) return error;
    *ret_step = "naming the machine";
    return sethostname("sandbox", 7) == 0 ? 0 : -errno;
}

/* --- privileges ----------------------------------------------------------------------------- */

int sandbox_privileges_drop(const char **ret_step)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    *ret_step = "dropping the bounding set";
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap) != 0) return -errno;
    }
    *ret_step = "locking the secure bits";
    if (prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                                     SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                                     SECBIT_NO_CAP_AMBIENT_RAISE |
                                     SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED) != 0) {
        return -errno;
    }
    *ret_step = "dropping the capabilities";
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &head, none) != 0) return -errno;
    *ret_step = "setting no_new_privs";
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : -errno;
}
