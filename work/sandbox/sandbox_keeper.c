/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper: starts the warden in namespaces of its own, takes what comes out, and ends it in
 * time.
 *
 * What comes from inside is a stranger's: lengths are checked, output past its limit is read and
 * dropped, and nothing inside is ever opened from here.
 *
 * Invariants: (1) nothing runs without all six namespaces, the map of a user that owns nothing
 * here, and the warden's word that filter and privileges are in place; (2) when sandbox_keeper_run
 * returns, no process of the sandbox is alive. Fails:      with a result of kind START_FAILED that
 * says which step the kernel refused.
 */
#include "sandbox_int.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOK_US_MIN   10000u
#define LOOK_US_MAX   200000u
#define FILL_BYTES_S  2147483648u /* how fast memory may be filled, to choose the next look */
#define FRAME_BYTES   65536u
#define USER_ID_FIRST 2000000000u /* outside: belongs to nobody, one for each sandbox */

struct keeper {
    const struct sandbox_spec *spec;
    struct sandbox_result *result;
    bool pass_through;
    pid_t warden;
    int pidfd, signal_fd, out_fd, err_fd, say_fd;
    uint64_t begin_us, time_us, look_us;
    uint8_t frame[sizeof(struct sandbox_frame) + FRAME_BYTES];
    size_t frame_bytes;
    bool ready, exited, done, killed;
    int status;
};

uint64_t sandbox_now_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail with a valid clock */
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void end(struct sandbox_result *result, enum sandbox_kind kind, int code, int exit_code,
                const char *format, ...) __attribute__((format(printf, 5, 6)));
static void end(struct sandbox_result *result, enum sandbox_kind kind, int code, int exit_code,
                const char *format, ...)
{
    va_list args;
    result->kind = kind;
    result->code = code;
    result->exit_code = exit_code;
    va_start(args, format);
    (void)vsnprintf(result->text, sizeof result->text, format, args);
    va_end(args);
}

static void refuse(struct sandbox_result *result, const char *step, int error)
{
    const char *hint = "";
    if (error == EPERM || error == EACCES) {
        hint =
            "; user namespaces seem to be forbidden here (sysctl kernel.unprivileged_userns_clone, "
            "kernel.apparmor_restrict_unprivileged_userns, or the container's seccomp profile)";
    } else if (error == ENOSPC) {
        hint = "; raise sysctl user.max_user_namespaces";
    }
    end(result, SANDBOX_KIND_START_FAILED, error, SANDBOX_EXIT_REFUSED,
        "no isolation, so nothing was run: %s: %s%s", step, strerrordesc_np(error), hint);
}

/* --- starting ------------------------------------------------------------------------------- */

static int stdin_make(struct mr_str bytes)
{
    if (bytes.n == 0) return open("/dev/null", O_RDONLY | O_CLOEXEC);
    int fd = memfd_create("stdin", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    size_t done = 0;
    while (fd >= 0 && done < bytes.n) {
        ssize_t n = write(fd, bytes.p + done, bytes.n - done);
        if (n <= 0) {
            (void)close(fd); /* it has failed already */
            return -1;
        }
        done += (size_t)n;
    }
    if (fd >= 0 &&
        (lseek(fd, 0, SEEK_SET) != 0 ||
         fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)) {
        (void)close(fd); /* it has failed already */
        return -1;
    }
    return fd;
}

static bool file_put(pid_t pid, const char *name, const char *text)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = write(fd, text, strlen(text));
    int error = errno;
    (void)close(fd); /* the write has told */
    errno = error;
    return n == (ssize_t)strlen(text);
}

/* Is user 0 here user 0 of the whole machine, who owns /proc/sys and more? */
static bool is_global_root(void)
{
    char text[64] = "";
    unsigned inside, outside, count;
    int fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0) (void)close(fd); /* read only */
    if (n <= 0 || sscanf(text, "%u %u %u", &inside, &outside, &count) != 3) return true;
    return inside == 0 && outside == 0;
}

/* With privilege the inside user is one that owns nothing outside and differs from sandbox to
 * sandbox; without it there is only one's own. */
static int map_users(pid_t pid)
{
    char text[64];
    unsigned candidates[] = {USER_ID_FIRST + (unsigned)pid, SANDBOX_UID, (unsigned)geteuid()};
    bool root = geteuid() == 0;
    for (size_t i = root ? 0 : 2; i < MR_COUNT_OF(candidates); i++) {
        if (i == 2 && root && is_global_root()) break;
        if (i == 2) (void)file_put(pid, "setgroups", "deny"); /* must be before the map */
        (void)snprintf(text, sizeof text, "%u %u 1", SANDBOX_UID,
                       i == 2 ? (unsigned)getegid() : candidates[i]);
        if (!file_put(pid, "gid_map", text)) continue;
        (void)snprintf(text, sizeof text, "%u %u 1", SANDBOX_UID, candidates[i]);
        /* A map is written once: when only one of the two was taken, there is no second try. */
        return file_put(pid, "uid_map", text) ? 0 : -errno;
    }
    return -EPERM;
}

static int prefix_open(const struct sandbox_spec *spec)
{
    if (spec->python_prefix == NULL) return -1;
    return open(spec->python_prefix, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static pid_t warden_clone(int *ret_pidfd)
{
    unsigned long flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC |
                          CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_PIDFD | SIGCHLD;
    return (pid_t)syscall(SYS_clone, flags, NULL, ret_pidfd, NULL, NULL);
}

struct pipes {
    int go[2], say[2], out[2], err[2];
};

static bool pipes_make(struct pipes *pipes)
{
    *pipes = (struct pipes){{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    return pipe2(pipes->go, O_CLOEXEC) == 0 && pipe2(pipes->say, O_CLOEXEC) == 0 &&
           pipe2(pipes->out, O_CLOEXEC) == 0 && pipe2(pipes->err, O_CLOEXEC) == 0;
}

static void close_if(int fd)
{
    if (fd >= 0) (void)close(fd); /* pipes: nothing can be lost */
}

/* 0 with keeper's descriptors set, or -1 with the result set. */
static int start(struct keeper *keeper)
{
    struct pipes pipes;
    struct sandbox_inside inside = {.spec = keeper->spec, .python_fd = prefix_open(keeper->spec)};
    inside.in_fd = stdin_make(keeper->spec->stdin_bytes);
    if (inside.in_fd < 0 || !pipes_make(&pipes)) {
        refuse(keeper->result, "making pipes", errno);
        return -1;
    }
    inside.go_fd = pipes.go[0];
    inside.say_fd = pipes.say[1];
    inside.out_fd = pipes.out[1];
    inside.err_fd = pipes.err[1];
    keeper->warden = warden_clone(&keeper->pidfd);
    int error = errno;
    if (keeper->warden == 0) {
        /* Its own ends only: when the keeper dies, reading and writing must tell. */
        (void)close(pipes.go[1]);
        (void)close(pipes.say[0]);
        (void)close(pipes.out[0]);
        (void)close(pipes.err[0]);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* again later, when the user has changed */
        sandbox_warden(&inside);
    }
    close_if(inside.in_fd);
    close_if(inside.python_fd);
    close_if(pipes.go[0]);
    close_if(pipes.say[1]);
    close_if(pipes.out[1]);
    close_if(pipes.err[1]);
    keeper->say_fd = pipes.say[0];
    keeper->out_fd = pipes.out[0];
    keeper->err_fd = pipes.err[0];
    if (keeper->warden < 0) {
        close_if(pipes.go[1]);
        refuse(keeper->result, "making namespaces", error);
        return -1;
    }
    error = map_users(keeper->warden);
    if (error != 0) refuse(keeper->result, "mapping the user", -error);
    /* Without the byte the warden ends at once. */
    bool gone = error == 0 && write(pipes.go[1], "g", 1) != 1;
    close_if(pipes.go[1]);
    if (gone) refuse(keeper->result, "starting the warden", EPIPE);
    return error == 0 && !gone ? 0 : -1;
}

/* --- watching ------------------------------------------------------------------------------- */

static void kill_all(struct keeper *keeper)
{
    keeper->killed = true;
    (void)pidfd_send_signal(keeper->pidfd, SIGKILL, NULL, 0); /* process 1: takes all with it */
}

static void pass_on(int fd, const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, bytes, n);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return; /* nobody reads: the result has it too */
        bytes += done;
        n -= (size_t)done;
    }
}

/* False at the end. */
static bool output_take(struct keeper *keeper, int fd, struct mr_buf *buf, int to)
{
    uint8_t bytes[65536];
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n < 0) return errno == EINTR || errno == EAGAIN;
    if (n == 0) return false;
    size_t room = (size_t)keeper->spec->output_bytes - buf->n, take = MR_MIN((size_t)n, room);
    if (take < (size_t)n) keeper->result->truncated = true;
    mr_buf_put(buf, bytes, take);
    if (keeper->pass_through) pass_on(to, bytes, take);
    return true;
}

static void frame_handle(struct keeper *keeper, const struct sandbox_frame *frame,
                         const uint8_t *bytes)
{
    struct sandbox_result *result = keeper->result;
    if (frame->word == SANDBOX_READY) {
        keeper->ready = true;
    } else if (frame->word == SANDBOX_PROBLEM && !keeper->ready) {
        char step[512];
        (void)snprintf(step, sizeof step, "%.*s", (int)MR_MIN(frame->bytes, 480u),
                       (const char *)bytes);
        end(result, SANDBOX_KIND_START_FAILED, frame->status, SANDBOX_EXIT_REFUSED,
            "no isolation, so nothing was run: %s", step);
    } else if (frame->word == SANDBOX_PROBLEM) {
        end(result, SANDBOX_KIND_START_FAILED, frame->status, frame->status, "%.*s",
            (int)MR_MIN(frame->bytes, 480u), (const char *)bytes);
    } else if (frame->word == SANDBOX_EXIT) {
        keeper->exited = true;
        keeper->status = frame->status;
    } else if (frame->word == SANDBOX_FILE && frame->status >= 0 &&
               (size_t)frame->status < keeper->spec->output_count) {
        result->file_taken[frame->status] = true;
        mr_buf_put(&result->files[frame->status], bytes, frame->bytes);
    } else if (frame->word == SANDBOX_DONE) {
        keeper->done = true;
    }
}

/* False at the end, or when what comes is not what a warden says. */
static bool frames_take(struct keeper *keeper)
{
    struct sandbox_frame frame;
    ssize_t n = read(keeper->say_fd, keeper->frame + keeper->frame_bytes,
                     sizeof keeper->frame - keeper->frame_bytes);
    if (n < 0) return errno == EINTR || errno == EAGAIN;
    if (n == 0) return false;
    keeper->frame_bytes += (size_t)n;
    size_t at = 0;
    while (keeper->frame_bytes - at >= sizeof frame) {
        memcpy(&frame, keeper->frame + at, sizeof frame);
        if (frame.bytes > FRAME_BYTES) return false;
        if (keeper->frame_bytes - at < sizeof frame + frame.bytes) break;
        frame_handle(keeper, &frame, keeper->frame + at + sizeof frame);
        at += sizeof frame + frame.bytes;
    }
    memmove(keeper->frame, keeper->frame + at, keeper->frame_bytes - at);
    keeper->frame_bytes -= at;
    return true;
}

static void memory_look(struct keeper *keeper)
{
    uint64_t bytes, limit = keeper->spec->memory_bytes, wait = LOOK_US_MIN;
    sandbox_usage(keeper->warden, &bytes, false);
    if (bytes > limit) sandbox_usage(keeper->warden, &bytes, true);
    keeper->result->max_rss_mib = MR_MAX(keeper->result->max_rss_mib, bytes >> 20);
    if (bytes > limit) {
        end(keeper->result, SANDBOX_KIND_MEMORY, SANDBOX_EXIT_MEMORY, SANDBOX_EXIT_MEMORY,
            "it used more than its %llu MiB of memory", (unsigned long long)(limit >> 20));
        kill_all(keeper);
    } else {
        wait = mr_mul_div_u64(limit - bytes, 1000000, FILL_BYTES_S);
    }
    wait = MR_MAX(MR_MIN(wait, (uint64_t)LOOK_US_MAX), (uint64_t)LOOK_US_MIN);
    keeper->look_us = sandbox_now_us() + wait;
}

static void due_now(struct keeper *keeper)
{
    uint64_t now = sandbox_now_us();
    if (keeper->killed || keeper->exited) return;
    if (now >= keeper->time_us) {
        end(keeper->result, SANDBOX_KIND_TIME, SANDBOX_EXIT_TIME, SANDBOX_EXIT_TIME,
            "it ran into its time limit of %u s", keeper->spec->time_s);
        kill_all(keeper);
    } else if (now >= keeper->look_us) {
        memory_look(keeper);
    }
}

static void watch(struct keeper *keeper)
{
    enum { OUT, ERR, SAY, SIGNALS, COUNT };
    bool open[COUNT] = {true, true, true, true};
    while (open[OUT] || open[ERR] || open[SAY]) {
        struct pollfd fds[COUNT] = {
            [OUT] = {.fd = open[OUT] ? keeper->out_fd : -1, .events = POLLIN},
            [ERR] = {.fd = open[ERR] ? keeper->err_fd : -1, .events = POLLIN},
            [SAY] = {.fd = open[SAY] ? keeper->say_fd : -1, .events = POLLIN},
            [SIGNALS] = {.fd = keeper->signal_fd, .events = POLLIN}};
        uint64_t now = sandbox_now_us(), at = MR_MIN(keeper->time_us, keeper->look_us);
        int timeout = keeper->killed || keeper->exited ? -1
                      : at > now                       ? (int)((at - now) / 1000 + 1)
                                                       : 0;
        int n = poll(fds, COUNT, timeout);
        if (n > 0 && fds[OUT].revents != 0) {
            open[OUT] = output_take(keeper, keeper->out_fd, &keeper->result->out, STDOUT_FILENO);
        }
        if (n > 0 && fds[ERR].revents != 0) {
            open[ERR] = output_take(keeper, keeper->err_fd, &keeper->result->err, STDERR_FILENO);
        }
        if (n > 0 && fds[SAY].revents != 0) {
            open[SAY] = frames_take(keeper);
            if (!open[SAY] && !keeper->done && !keeper->killed) kill_all(keeper);
        }
        if (n > 0 && fds[SIGNALS].revents != 0 && !keeper->killed) {
            struct signalfd_siginfo info;
            if (read(keeper->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
                end(keeper->result, SANDBOX_KIND_SIGNAL, 128 + (int)info.ssi_signo,
                    128 + (int)info.ssi_signo, "it was stopped");
                kill_all(keeper);
            }
        }
        due_now(keeper);
    }
}

static void conclude(struct keeper *keeper)
{
    struct sandbox_result *result = keeper->result;
    if (result->exit_code != 0 || result->text[0] != 0) return; /* said already */
    if (!keeper->ready) {
        refuse(result, "the warden ended before it was ready", EPERM);
    } else if (!keeper->exited) {
        end(result, SANDBOX_KIND_SIGNAL, 128 + SIGKILL, 128 + SIGKILL,
            "it was killed from outside, maybe for want of memory");
    } else if (WIFSIGNALED(keeper->status)) {
        int number = WTERMSIG(keeper->status);
        const char *name = sigdescr_np(number);
        end(result, SANDBOX_KIND_SIGNAL, 128 + number, 128 + number,
            "it was killed by signal %d (%s)", number, name != NULL ? name : "unknown");
    } else {
        int code = WEXITSTATUS(keeper->status);
        end(result, SANDBOX_KIND_CODE, code, code, "it ended with exit code %d", code);
    }
}

void sandbox_keeper_run(const struct sandbox_spec *spec, bool pass_through,
                        struct sandbox_result *result)
{
    struct rusage usage = {0};
    sigset_t set;
    struct keeper keeper = {.spec = spec,
                            .result = result,
                            .pass_through = pass_through,
                            .warden = -1,
                            .pidfd = -1,
                            .out_fd = -1,
                            .err_fd = -1,
                            .say_fd = -1,
                            .begin_us = sandbox_now_us()};
    for (int i = 0; i < 2; i++)
        mr_buf_init(i == 0 ? &result->out : &result->err, spec->output_bytes);
    if (spec->output_count > 0) {
        result->files = mr_alloc_zero(spec->output_count * sizeof *result->files);
        result->file_taken = mr_alloc_zero(spec->output_count * sizeof *result->file_taken);
        if (result->files == NULL || result->file_taken == NULL) {
            refuse(result, "preparing", ENOMEM);
            return;
        }
    }
    for (size_t i = 0; i < spec->output_count; i++) {
        mr_buf_init(&result->files[i], SANDBOX_TAKEN_BYTES_MAX);
    }
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    keeper.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    keeper.time_us = keeper.begin_us + (uint64_t)spec->time_s * 1000000u;
    keeper.look_us = keeper.begin_us + LOOK_US_MIN;
    if (start(&keeper) == 0) {
        watch(&keeper);
    } else if (keeper.warden > 0) {
        kill_all(&keeper);
    }
    if (keeper.warden > 0) {
        while (wait4(keeper.warden, NULL, __WALL, &usage) < 0 && errno == EINTR) {
        } /* invariant 2 */
        conclude(&keeper);
    }
    close_if(keeper.signal_fd);
    close_if(keeper.pidfd);
    close_if(keeper.out_fd);
    close_if(keeper.err_fd);
    close_if(keeper.say_fd);
    result->wall_ms = (sandbox_now_us() - keeper.begin_us) / 1000;
    result->cpu_ms = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
                     (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}
