/* SPDX-License-Identifier: Apache-2.0 */
/* The warden: process 1 of the sandbox. Builds the jail, locks itself in, starts the program,
 * waits, kills what is left, and hands the asked-for files out through a pipe.
 *
 * Files are opened here, inside: a symbolic link of the program's can only lead to what the program
 * could read anyway, and even that is not followed.
 *
 * Invariants: (1) nothing of the program runs before every privilege is gone and the filter is
 * loaded; (2) the program holds descriptors 0, 1 and 2 and no other; (3) the program cannot trace
 * or signal the warden to death: it is not dumpable, and process 1 has no handlers. Ends: with
 * _exit; the kernel then kills all that is left in the namespace.
 */
#include "sandbox_int.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM_PATH "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

static bool write_all(int fd, const void *bytes, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t got = write(fd, (const char *)bytes + done, n - done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        done += (size_t)got;
    }
    return true;
}

static void say(const struct sandbox_inside *inside, enum sandbox_word word, int status,
                const void *bytes, size_t n)
{
    struct sandbox_frame frame = {.word = (uint32_t)word, .status = status, .bytes = (uint32_t)n};
    /* Nobody to tell means that the keeper is gone, and we with it. */
    if (!write_all(inside->say_fd, &frame, sizeof frame) || !write_all(inside->say_fd, bytes, n)) {
        _exit(1);
    }
}

_Noreturn static void give_up(const struct sandbox_inside *inside, int code, const char *step,
                              int error)
{
    char text[512];
    int n = snprintf(text, sizeof text, "%s: %s", step, strerrordesc_np(-error));
    say(inside, SANDBOX_PROBLEM, code, text, n > 0 ? (size_t)n : 0);
    say(inside, SANDBOX_DONE, 0, "", 0);
    _exit(1);
}

static void limit(__rlimit_resource_t which, uint64_t value)
{
    struct rlimit rlimit = {.rlim_cur = value, .rlim_max = value};
    (void)setrlimit(which, &rlimit); /* lower is allowed always; it cannot be higher than ours */
}

static void limits_set(const struct sandbox_spec *spec)
{
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NOFILE, 256);
    limit(RLIMIT_FSIZE, spec->disk_bytes);
    limit(RLIMIT_MEMLOCK, 65536);
    limit(RLIMIT_MSGQUEUE, 0);
    limit(RLIMIT_NICE, 0);
    limit(RLIMIT_RTPRIO, 0);
    limit(RLIMIT_SIGPENDING, 1024);
    /* Counted for this user in this namespace: the warden and what the program makes. */
    limit(RLIMIT_NPROC, spec->processes + 1);
}

/* Becomes the inside user; capabilities stay until they are dropped. */
static int become_user(void)
{
    if (prctl(PR_SET_KEEPCAPS, 1) != 0) return -errno;
    /* Ours would still open what they open outside. Without privilege the kernel forbids dropping
     * them; they are then of one's own. */
    if (setgroups(0, NULL) != 0 && errno != EPERM) return -errno;
    if (setresgid(SANDBOX_UID, SANDBOX_UID, SANDBOX_UID) != 0) return -errno;
    if (setresuid(SANDBOX_UID, SANDBOX_UID, SANDBOX_UID) != 0) return -errno;
    return 0;
}

static bool wait_for_go(const struct sandbox_inside *inside)
{
    char byte;
    ssize_t n;
    do {
        n = read(inside->go_fd, &byte, 1);
    } while (n < 0 && errno == EINTR);
    return n == 1;
}

/* --- the program ---------------------------------------------------------------------------- */

_Noreturn static void program_run(const struct sandbox_inside *inside, int error_fd)
{
    static char path[] = "PATH=" PROGRAM_PATH, home[] = "HOME=/work", lang[] = "LANG=C.UTF-8",
                tmp[] = "TMPDIR=/tmp", user[] = "USER=sandbox",
                bytecode[] = "PYTHONDONTWRITEBYTECODE=1";
    char *const env[] = {path, home, lang, tmp, user, bytecode, NULL};
    sigset_t none;
    (void)sigemptyset(&none);
    for (int i = 1; i < NSIG; i++)
        (void)signal(i, SIG_DFL); /* KILL and STOP refuse: fine */
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setsid();
    int error = 0;
    if (dup2(inside->in_fd, 0) < 0 || dup2(inside->out_fd, 1) < 0 || dup2(inside->err_fd, 2) < 0) {
        error = errno;
    }
    /* Invariant 2: all others are born close-on-exec, but be sure. */
    if (error == 0 && close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) != 0) error = errno;
    if (error == 0) {
        (void)setenv("PATH", PROGRAM_PATH, 1); /* where execvpe looks */
        (void)execvpe(inside->spec->argv[0], (char *const *)inside->spec->argv, env);
        error = errno;
    }
    (void)!write(error_fd, &error, sizeof error); /* silence means that exec succeeded */
    _exit(127);
}

static pid_t program_start(const struct sandbox_inside *inside)
{
    int ends[2], error = 0;
    char text[PATH_MAX];
    if (pipe2(ends, O_CLOEXEC) != 0) give_up(inside, SANDBOX_EXIT_NOT_RUN, "making a pipe", -errno);
    pid_t pid = fork();
    if (pid == 0) program_run(inside, ends[1]);
    if (pid < 0) give_up(inside, SANDBOX_EXIT_NOT_RUN, "starting the program", -errno);
    (void)close(ends[1]); /* the child's end */
    ssize_t n = read(ends[0], &error, sizeof error);
    (void)close(ends[0]); /* read only */
    if (n != (ssize_t)sizeof error) return pid;
    (void)waitpid(pid, NULL, 0);
    (void)snprintf(text, sizeof text, error == ENOENT ? "program not found: %.200s" : "%.200s",
                   inside->spec->argv[0]);
    if (error == ENOENT) {
        say(inside, SANDBOX_PROBLEM, SANDBOX_EXIT_MISSING, text, strlen(text));
        say(inside, SANDBOX_DONE, 0, "", 0);
        _exit(1);
    }
    give_up(inside, SANDBOX_EXIT_NOT_RUN, text, -error);
}

/* --- files out ------------------------------------------------------------------------------ */

/* Part by part from /work, following no link; regular files only. -1: not there. */
static int output_open(struct mr_str name)
{
    int at = open("/work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct mr_str rest = name, part;
    struct stat st;
    while (at >= 0 && mr_str_split(&rest, '/', &part)) {
        char zero[SANDBOX_NAME_BYTES_MAX + 1];
        bool last = rest.p == NULL;
        memcpy(zero, part.p, part.n);
        zero[part.n] = 0;
        int next = openat(
            at, zero, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (last ? 0 : O_DIRECTORY));
        (void)close(at); /* read only */
        at = next;
    }
    if (at >= 0 && (fstat(at, &st) != 0 || !S_ISREG(st.st_mode))) {
        (void)close(at); /* read only */
        return -1;
    }
    return at;
}

static void outputs_say(const struct sandbox_inside *inside)
{
    static char piece[65536];
    size_t left = SANDBOX_TAKEN_BYTES_MAX;
    for (size_t i = 0; i < inside->spec->output_count; i++) {
        int fd = output_open(inside->spec->outputs[i]);
        if (fd < 0) continue;
        ssize_t n;
        say(inside, SANDBOX_FILE, (int)i, "", 0); /* it is there, even when it is empty */
        while (left > 0 && (n = read(fd, piece, MR_MIN(sizeof piece, left))) > 0) {
            say(inside, SANDBOX_FILE, (int)i, piece, (size_t)n);
            left -= (size_t)n;
        }
        (void)close(fd); /* read only */
    }
}

_Noreturn void sandbox_warden(const struct sandbox_inside *inside)
{
    const char *step;
    int status = 0;
    pid_t pid, ended;
    if (!wait_for_go(inside)) _exit(1);
    int error = become_user();
    if (error != 0) give_up(inside, SANDBOX_EXIT_REFUSED, "becoming an ordinary user", error);
    error = sandbox_jail_build(inside, &step);
    if (error != 0) give_up(inside, SANDBOX_EXIT_REFUSED, step, error);
    (void)setsid();
    limits_set(inside->spec);
    error = sandbox_privileges_drop(&step);
    if (error != 0) give_up(inside, SANDBOX_EXIT_REFUSED, step, error);
    /* Invariant 3. Behind the changes of user and capabilities, which reset both. */
    if (prctl(PR_SET_DUMPABLE, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
        give_up(inside, SANDBOX_EXIT_REFUSED, "hiding the warden", -errno);
    }
    error = sandbox_filter_load();
    if (error != 0) give_up(inside, SANDBOX_EXIT_REFUSED, "loading the seccomp filter", error);
    say(inside, SANDBOX_READY, 0, "", 0);
    pid = program_start(inside);
    do {
        ended = waitpid(-1, &status, 0);
    } while (ended != pid && (ended > 0 || errno == EINTR));
    (void)kill(-1, SIGKILL); /* everybody here but us */
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
    }
    say(inside, SANDBOX_EXIT, status, "", 0);
    outputs_say(inside);
    say(inside, SANDBOX_DONE, 0, "", 0);
    _exit(0);
}
