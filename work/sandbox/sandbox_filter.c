/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls that a program in the sandbox may make.
 *
 * An allow-list: what is not on it does not exist (ENOSYS), so a call that a future kernel adds is
 * refused before anybody has thought about it. Calls that reach for more power answer EPERM, which
 * says plainly that they are refused. Calls of another architecture end the process.
 *
 * Memory that no process has mapped cannot be counted without control groups, so the calls that
 * make it (memfd_create, System V shared memory and message queues) are missing too.
 *
 * Invariants: (1) no call that makes a namespace, mounts, traces, loads code into the kernel, opens
 *                 by handle, or makes sockets of other families is allowed;
 *             (2) arguments are compared whole, so upper bits cannot hide anything.
 * Idea:       docs/guides/sandbox.md
 */
#include "sandbox_int.h"

#include <errno.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>

static const char *const allowed[] = {
    /* files */
    "access", "chdir", "chmod", "chown", "close", "close_range", "copy_file_range", "creat", "dup",
    "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod",
    "fchmodat", "fchown", "fchownat", "fcntl", "fdatasync", "fgetxattr", "flistxattr", "flock",
    "fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync", "ftruncate", "futimesat", "getcwd",
    "getdents", "getdents64", "getxattr", "inotify_add_watch", "inotify_init", "inotify_init1",
    "inotify_rm_watch", "lchown", "lgetxattr", "link", "linkat", "listxattr", "llistxattr",
    "lremovexattr", "lseek", "lsetxattr", "lstat", "mkdir", "mkdirat", "newfstatat", "open",
    "openat", "pipe", "pipe2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2",
    "read", "readahead", "readlink", "readlinkat", "readv", "removexattr", "rename", "renameat",
    "renameat2", "rmdir", "sendfile", "setxattr", "stat", "statfs", "statx", "symlink", "symlinkat",
    "sync_file_range", "syncfs", "truncate", "umask", "unlink", "unlinkat", "utime", "utimensat",
    "utimes", "write", "writev",
    /* memory */
    "brk", "madvise", "membarrier", "mincore", "mlock", "mlock2", "mlockall", "mmap", "mprotect",
    "mremap", "msync", "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free",
    "pkey_mprotect",
    /* processes and threads */
    "arch_prctl", "capget", "capset", "execve", "execveat", "exit", "exit_group", "fork", "futex",
    "futex_waitv", "get_robust_list", "get_thread_area", "getcpu", "getegid", "geteuid", "getgid",
    "getgroups", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid",
    "getresuid", "getrlimit", "getrusage", "getsid", "gettid", "getuid", "ioprio_get", "kill",
    "pause", "pidfd_open", "pidfd_send_signal", "prlimit64", "restart_syscall", "rseq",
    "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn",
    "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity", "sched_yield",
    "set_robust_list", "set_thread_area", "set_tid_address", "setfsgid", "setfsuid", "setgid",
    "setgroups", "setpgid", "setpriority", "setregid", "setresgid", "setresuid", "setreuid",
    "setrlimit", "setsid", "setuid", "sigaltstack", "sysinfo", "tgkill", "times", "tkill", "uname",
    "vfork", "wait4", "waitid", "waitpid",
    /* time, waiting */
    "alarm", "clock_getres", "clock_gettime", "clock_nanosleep", "epoll_create", "epoll_create1",
    "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2", "getitimer",
    "gettimeofday", "nanosleep", "poll", "ppoll", "pselect6", "select", "setitimer", "signalfd",
    "signalfd4", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
    "timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime",
    /* talking inside: the network namespace holds nothing but its own loopback */
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
    "recv", "recvfrom", "recvmmsg", "recvmsg", "send", "sendmmsg", "sendmsg", "sendto",
    "setsockopt", "shutdown"};

/* Known and refused. */
static const char *const refused[] = {"_sysctl",
                                      "acct",
                                      "add_key",
                                      "adjtimex",
                                      "bpf",
                                      "chroot",
                                      "clock_adjtime",
                                      "clock_settime",
                                      "create_module",
                                      "delete_module",
                                      "fanotify_init",
                                      "fanotify_mark",
                                      "finit_module",
                                      "fsconfig",
                                      "fsmount",
                                      "fsopen",
                                      "fspick",
                                      "init_module",
                                      "io_uring_enter",
                                      "io_uring_register",
                                      "io_uring_setup",
                                      "ioperm",
                                      "iopl",
                                      "kcmp",
                                      "kexec_file_load",
                                      "kexec_load",
                                      "keyctl",
                                      "lookup_dcookie",
                                      "mknod",
                                      "mknodat",
                                      "modify_ldt",
                                      "mount",
                                      "mount_setattr",
                                      "move_mount",
                                      "move_pages",
                                      "migrate_pages",
                                      "mbind",
                                      "set_mempolicy",
                                      "name_to_handle_at",
                                      "nfsservctl",
                                      "open_by_handle_at",
                                      "open_tree",
                                      "perf_event_open",
                                      "personality",
                                      "pidfd_getfd",
                                      "pivot_root",
                                      "process_madvise",
                                      "process_mrelease",
                                      "process_vm_readv",
                                      "process_vm_writev",
                                      "ptrace",
                                      "query_module",
                                      "quotactl",
                                      "quotactl_fd",
                                      "reboot",
                                      "request_key",
                                      "seccomp",
                                      "setdomainname",
                                      "sethostname",
                                      "setns",
                                      "settimeofday",
                                      "stime",
                                      "swapoff",
                                      "swapon",
                                      "syslog",
                                      "umount",
                                      "umount2",
                                      "unshare",
                                      "uselib",
                                      "userfaultfd",
                                      "ustat",
                                      "vhangup"};

/* Terminals and descriptors may be asked about; nothing may be pushed into a terminal. */
static const uint32_t ioctls[] = {0x5401 /* TCGETS */,
                                  0x5413 /* TIOCGWINSZ */,
                                  0x540f /* TIOCGPGRP */,
                                  0x541b /* FIONREAD */,
                                  0x5421 /* FIONBIO */,
                                  0x5450 /* FIONCLEX */,
                                  0x5451 /* FIOCLEX */};

static const int prctls[] = {
    PR_SET_NAME,         PR_GET_NAME,      PR_SET_DUMPABLE,        PR_GET_DUMPABLE,
    PR_SET_PDEATHSIG,    PR_GET_PDEATHSIG, PR_CAPBSET_READ,        PR_GET_NO_NEW_PRIVS,
    PR_SET_NO_NEW_PRIVS, PR_GET_SECCOMP,   PR_SET_CHILD_SUBREAPER, 0x53564d41 /* PR_SET_VMA */};

#define NAMESPACE_FLAGS 0x7e020000u /* every CLONE_NEW… that clone knows */

static int names_add(scmp_filter_ctx filter, uint32_t action, const char *const *names,
                     size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int number = seccomp_syscall_resolve_name(names[i]);
        if (number == __NR_SCMP_ERROR || number < 0) continue; /* not of this architecture */
        int error = seccomp_rule_add(filter, action, number, 0);
        if (error != 0) return error;
    }
    return 0;
}

static struct scmp_arg_cmp equal(unsigned argument, scmp_datum_t value)
{
    return (struct scmp_arg_cmp){.arg = argument, .op = SCMP_CMP_EQ, .datum_a = value};
}

static struct scmp_arg_cmp masked(unsigned argument, scmp_datum_t mask, scmp_datum_t value)
{
    return (struct scmp_arg_cmp){
        .arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
}

static int arguments_add(scmp_filter_ctx filter)
{
    static const int families[] = {AF_UNIX, AF_INET, AF_INET6};
    int error =
        seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, masked(0, NAMESPACE_FLAGS, 0));
    /* The flags of clone3 lie in memory, where a filter cannot look: it is absent (ENOSYS), and
     * libc takes clone. */
    for (size_t i = 0; error == 0 && i < MR_COUNT_OF(families); i++) {
        for (int type = SOCK_STREAM; error == 0 && type <= SOCK_DGRAM; type++) {
            error = seccomp_rule_add(
                filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2, equal(0, (scmp_datum_t)families[i]),
                masked(1, ~(scmp_datum_t)(SOCK_CLOEXEC | SOCK_NONBLOCK), (scmp_datum_t)type));
        }
    }
    if (error == 0) {
        error =
            seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1, equal(0, AF_UNIX));
    }
    for (size_t i = 0; error == 0 && i < MR_COUNT_OF(ioctls); i++) {
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, equal(1, ioctls[i]));
    }
    for (size_t i = 0; error == 0 && i < MR_COUNT_OF(prctls); i++) {
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                                 equal(0, (scmp_datum_t)prctls[i]));
    }
    return error;
}

int sandbox_filter_possible(void)
{
    return prctl(PR_GET_SECCOMP) >= 0 ? 0 : -errno;
}

int sandbox_filter_load(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    if (filter == NULL) return -ENOMEM;
    int error = names_add(filter, SCMP_ACT_ALLOW, allowed, MR_COUNT_OF(allowed));
    if (error == 0) {
        error = names_add(filter, SCMP_ACT_ERRNO(EPERM), refused, MR_COUNT_OF(refused));
    }
    if (error == 0) error = arguments_add(filter);
    if (error == 0)
        error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (error == 0) error = seccomp_load(filter);
    seccomp_release(filter);
    return error;
}
