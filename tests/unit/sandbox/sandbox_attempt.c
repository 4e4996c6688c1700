/* SPDX-License-Identifier: Apache-2.0 */
/* Runs inside the sandbox and tries to get out: `sandbox_attempt NAME [ARGUMENT]`.
 *
 * Prints "refused ERRNO" or "escaped" for one attempt of the table. It is told nothing of the jail,
 * so it makes the system calls themselves.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* Nothing of ours is linked: it is a stranger's program, and built without sanitizers. */
static uint64_t number_of(const char *text)
{
    uint64_t v = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        v = v * 10 + (uint64_t)(*text - '0');
    return v;
}

#define TRY(name) static int name(const char *arg)
/* 0: it worked, which is an escape; else the errno. */
static int of(long result)
{
    return result >= 0 ? 0 : errno;
}

static int open_it(const char *path, int flags)
{
    return of(open(path, flags | O_CLOEXEC, 0600));
}

TRY(read_path)
{
    return open_it(arg, O_RDONLY);
}
TRY(write_path)
{
    return open_it(arg, O_WRONLY | O_CREAT);
}
TRY(kill_pid)
{
    return of(kill((pid_t)number_of(arg), 0));
}
TRY(see_pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%s", arg);
    return of(access(path, F_OK));
}
TRY(count_processes)
{
    (void)arg;
    DIR *dir = opendir("/proc");
    const struct dirent *entry;
    int count = 0;
    if (dir == NULL) return errno;
    while ((entry = readdir(dir)) != NULL)
        count += entry->d_name[0] >= '0' && entry->d_name[0] <= '9';
    closedir(dir);
    return count <= 1 ? ENOENT : 0; /* itself only: not even the warden */
}
TRY(mount_tmpfs)
{
    (void)arg;
    return of(mount("x", "/tmp", "tmpfs", 0, NULL));
}
TRY(remount_usr)
{
    (void)arg;
    return of(mount(NULL, "/usr", NULL, MS_BIND | MS_REMOUNT, NULL));
}
TRY(umount_work)
{
    (void)arg;
    return of(umount2("/work", MNT_DETACH));
}
TRY(make_device)
{
    (void)arg;
    return of(mknod("/work/mem", S_IFCHR | 0666, makedev(1, 1)));
}
TRY(unshare_user)
{
    (void)arg;
    return of(unshare(CLONE_NEWUSER));
}
TRY(clone_user)
{
    (void)arg;
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) _exit(0);
    return of(pid);
}
TRY(clone3_call)
{
    (void)arg;
    uint64_t args[11] = {0};
    return of(syscall(SYS_clone3, args, sizeof args));
}
TRY(setns_own)
{
    (void)arg;
    return of(setns(open("/proc/self/ns/net", O_RDONLY), 0));
}
TRY(chroot_out)
{
    (void)arg;
    mkdir("/tmp/x", 0700);
    return of(chroot("/tmp/x"));
}
TRY(pivot)
{
    (void)arg;
    return of(syscall(SYS_pivot_root, ".", "."));
}
TRY(trace_warden)
{
    (void)arg;
    return of(ptrace(PTRACE_ATTACH, 1, NULL, NULL));
}
TRY(read_warden)
{
    (void)arg;
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)(uintptr_t)0x400000, 1};
    return of(process_vm_readv(1, &here, 1, &there, 1, 0));
}
TRY(kill_warden)
{
    (void)arg;
    kill(1, SIGKILL);
    kill(1, SIGTERM);
    usleep(100000);
    return EPERM; /* still here, so the warden is too */
}
TRY(connect_host)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)number_of(arg))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return of(connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof to));
}
TRY(connect_world)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(80)};
    (void)arg;
    to.sin_addr.s_addr = htonl(0x01010101);
    return of(connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&to, sizeof to));
}
TRY(connect_abstract)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path + 1, arg, sizeof to.sun_path - 2);
    return of(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&to,
                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(arg))));
}
TRY(open_socket)
{
    int family = (int)number_of(arg), type = SOCK_DGRAM;
    if (family == AF_INET) type = SOCK_RAW;
    return of(socket(family, type, 0));
}
TRY(become_root)
{
    (void)arg;
    return of(setuid(0));
}
TRY(set_user_id)
{
    (void)arg;
    struct statvfs st;
    if (statvfs("/usr", &st) != 0) return errno;
    bool no_new = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
    return (st.f_flag & ST_NOSUID) != 0 && no_new ? EPERM : 0;
}
TRY(raise_capabilities)
{
    (void)arg;
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    if (syscall(SYS_capget, &head, data) != 0) return errno;
    if ((data[0].effective | data[0].permitted | data[0].inheritable | data[1].permitted) != 0)
        return 0;
    for (int cap = 0; cap < 41; cap++) {
        if (prctl(PR_CAPBSET_READ, cap) == 1) return 0;
    }
    data[0].effective = data[0].permitted = 1u << CAP_SYS_ADMIN;
    return of(syscall(SYS_capset, &head, data));
}
TRY(raise_limit)
{
    (void)arg;
    struct rlimit limit = {100000, 100000};
    return of(setrlimit(RLIMIT_NPROC, &limit));
}
TRY(system_call)
{
    long number = (long)number_of(arg);
    static uint8_t zeros[256];
    return of(syscall(number, 0, zeros, 0, 0, 0, 0));
}
TRY(push_terminal)
{
    (void)arg;
    char c = 'x';
    return of(ioctl(0, TIOCSTI, &c));
}
TRY(find_descriptor)
{
    (void)arg;
    for (int fd = 3; fd < 4096; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) return 0;
    }
    return EBADF;
}
TRY(find_environment)
{
    extern char **environ;
    (void)arg;
    for (char **line = environ; *line != NULL; line++) {
        if (strncmp(*line, "MILLRACE", 8) == 0 || strncmp(*line, "MR_", 3) == 0) return 0;
    }
    return ENOENT;
}
TRY(link_host_file)
{
    (void)arg;
    return of(link("/usr/bin/env", "/work/env"));
}
TRY(chmod_host_file)
{
    (void)arg;
    return of(chmod("/usr/bin/env", 0777));
}
TRY(old_architecture)
{
    (void)arg;
#ifdef __x86_64__
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory"); /* getpid of 32 bits */
    return result > 0 ? 0 : (int)-result;
#else
    raise(SIGSYS);
    return 0;
#endif
}
TRY(fork_bomb)
{
    int most = (int)number_of(arg), count = 0;
    for (int i = 0; i < 4 * most; i++) {
        pid_t pid = fork();
        if (pid < 0) {
            printf("%d processes, then ", count);
            return count < most ? errno : 0;
        }
        if (pid == 0) {
            pause();
            _exit(0);
        }
        count++;
    }
    return 0;
}
TRY(giant_file)
{
    static char block[1 << 20];
    (void)arg;
    signal(SIGXFSZ, SIG_IGN);
    for (int file = 0; file < 64; file++) {
        char name[32];
        snprintf(name, sizeof name, "/work/big%d", file);
        int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) return errno;
        for (int i = 0; i < 64; i++) {
            memset(block, file + i, sizeof block);
            if (write(fd, block, sizeof block) != (ssize_t)sizeof block) break;
        }
        close(fd);
    }
    int fd = open("/tmp/more", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return of(fd < 0 ? -1 : write(fd, block, sizeof block));
}

/* A chain of processes, the last of which takes the memory: counted, however deep. */
TRY(deep_memory)
{
    for (uint64_t depth = number_of(arg); depth > 0; depth--) {
        pid_t pid = fork();
        if (pid < 0) return 0;
        if (pid > 0) {
            waitpid(pid, NULL, 0);
            _exit(0);
        }
    }
    volatile char *p = malloc((size_t)300 << 20);
    for (size_t i = 0; p != NULL && i < (size_t)300 << 20; i += 4096)
        p[i] = 1;
    sleep(20);
    return 0;
}

static const struct {
    const char *name;
    int (*try)(const char *arg);
} attempts[] = {
#define T(name) {#name, name}
    T(read_path),          T(write_path),       T(kill_pid),       T(see_pid),
    T(count_processes),    T(mount_tmpfs),      T(remount_usr),    T(umount_work),
    T(make_device),        T(unshare_user),     T(clone_user),     T(clone3_call),
    T(setns_own),          T(chroot_out),       T(pivot),          T(trace_warden),
    T(read_warden),        T(kill_warden),      T(connect_host),   T(connect_world),
    T(connect_abstract),   T(open_socket),      T(become_root),    T(set_user_id),
    T(raise_capabilities), T(raise_limit),      T(system_call),    T(push_terminal),
    T(find_descriptor),    T(find_environment), T(link_host_file), T(chmod_host_file),
    T(old_architecture),   T(fork_bomb),        T(deep_memory),    T(giant_file)};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc >= 2 && i < sizeof attempts / sizeof attempts[0]; i++) {
        if (strcmp(attempts[i].name, argv[1]) != 0) continue;
        int error = attempts[i].try(argc > 2 ? argv[2] : "");
        printf(error == 0 ? "escaped\n" : "refused %s\n", strerrorname_np(error));
        return 0;
    }
    return 2;
}
