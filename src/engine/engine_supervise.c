/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor: one process for each lease, which starts its tasks, watches them and writes the
 * end.
 *
 * It lives on when the daemon dies. It takes the lock, marks the lease claimed, and only then
 * starts anything; so whoever sees `claimed` without a lock knows that it was started and is over.
 *
 * Invariants: (1) `claimed` is on disk before the first task exists;
 *             (2) no task is alive when `exit` appears;
 *             (3) the end is that of the first task that failed, else exit code 0.
 * Thread:     one. Sleeps in poll; wakes for output, signals, and the nearest due time.
 * Fails:      before the claim: silently, the daemon sees that nobody claimed. After it:
 * START_FAILED. Idea:       src/engine/README.md, docs/internals/lease-folder.md
 */
#include "engine/engine_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRACE_DEFAULT_US   10000000u /* asked by SIGTERM without a `stop`; and at the time limit */
#define GANG_GRACE_US      5000000u  /* for the others when one task has failed */
#define KILL_PATIENCE_US   10000000u
#define MEMORY_LOOK_US_MIN 20000u
#define MEMORY_LOOK_US_MAX 1000000u
#define MEMORY_BYTES_PER_S                                                                         \
    1073741824u /* how fast a task may fill memory, to choose the next look */
#define SANDBOX_KEEPER_MIB 32u
#define EXIT_TRIES         30
#define RESERVE_BYTES      8192

/* --- the end -------------------------------------------------------------------------------- */

static void who(const struct engine_super *super, const struct engine_task *task, char ret[32])
{
    if (super->order.s.world_size > 1 || super->order.s.tasks > 1) {
        (void)snprintf(ret, 32, super->order.s.mpi ? "the MPI job" : "rank %u", task->rank);
    } else {
        (void)snprintf(ret, 32, "it");
    }
}

static void decide(struct engine_super *super, const struct engine_task *task)
{
    char name[32];
    who(super, task, name);
    super->decided = true;
    if (WIFSIGNALED(task->status)) {
        int number = WTERMSIG(task->status);
        const char *text = sigdescr_np(number);
        engine_end_set(&super->end, ENGINE_EXIT_SIGNAL, number, "%s was killed by signal %d (%s)%s",
                       name, number, text != NULL ? text : "unknown",
                       !super->stopping    ? ""
                       : number == SIGKILL ? ": it did not stop within its grace"
                                           : " as it was asked to stop");
        return;
    }
    engine_end_set(&super->end, ENGINE_EXIT_CODE, WEXITSTATUS(task->status),
                   "%s ended with exit code %d", name, WEXITSTATUS(task->status));
}

/* --- stopping ------------------------------------------------------------------------------- */

struct mpi_walk {
    pid_t mpirun;
    uint32_t count;
};

static void term_rank(void *arg, pid_t pid)
{
    struct mpi_walk *walk = arg;
    if (pid == walk->mpirun) return;
    walk->count++;
    (void)kill(pid, SIGTERM); /* gone already is as good */
}

static void ask_to_stop(struct engine_super *super)
{
    for (uint32_t i = 0; i < super->task_count; i++) {
        struct engine_task *task = &super->tasks[i];
        if (task->ended || task->pid == 0) continue;
        struct mpi_walk walk = {.mpirun = task->pid};
        /* mpirun would kill its ranks instead of letting them save. */
        if (super->order.s.mpi) (void)engine_tree_visit(getpid(), term_rank, &walk);
        if (walk.count == 0) (void)kill(-task->pid, SIGTERM);
    }
}

/* Later calls can only bring the end nearer. */
static void stop_begin(struct engine_super *super, uint64_t grace_us)
{
    uint64_t now = engine_mono_us(), at;
    if (!mr_add_u64(now, grace_us, &at)) at = UINT64_MAX;
    if (at < super->kill_us) super->kill_us = at;
    if (super->stopping) return;
    super->stopping = true;
    if (grace_us > 0) ask_to_stop(super);
}

/* What the daemon has written; false when it has written nothing. */
static bool stop_read(struct engine_super *super)
{
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    struct engine_stop stop;
    mr_buf_init(&buf, ENGINE_EXIT_BYTES_MAX);
    int error = engine_file_get(super->paths.lease, "stop", &buf);
    if (error == -ENOENT) return false;
    if (error != 0 || engine_stop_decode(mr_buf_str(&buf), &stop) != 0) {
        stop_begin(super, GRACE_DEFAULT_US); /* asked, but how long cannot be read */
        return true;
    }
    uint64_t now = engine_wall_us();
    uint64_t left = stop.deadline_us > now ? stop.deadline_us - now : 0;
    /* The wall clock may have been set: never longer than the grace. */
    stop_begin(super, MR_MIN(left, stop.grace_us));
    return true;
}

/* --- events --------------------------------------------------------------------------------- */

static void task_ended(void *arg, pid_t pid, int status)
{
    struct engine_super *super = arg;
    for (uint32_t i = 0; i < super->task_count; i++) {
        struct engine_task *task = &super->tasks[i];
        if (task->pid != pid || task->ended) continue;
        task->ended = true;
        task->status = status;
        if (super->decided || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) return;
        bool asked = super->stopping;
        decide(super, task);
        if (!asked) stop_begin(super, GANG_GRACE_US); /* the first failure ends the gang */
        return;
    }
}

static bool all_ended(const struct engine_super *super)
{
    for (uint32_t i = 0; i < super->task_count; i++) {
        if (!super->tasks[i].ended) return false;
    }
    return true;
}

static void children_reap(struct engine_super *super)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        task_ended(super, pid, status);
}

static void words_keep(struct engine_super *super, const uint8_t *bytes, size_t n)
{
    size_t max = sizeof super->words - 1;
    if (n > max) {
        bytes += n - max;
        n = max;
    }
    size_t over = super->words_bytes + n > max ? super->words_bytes + n - max : 0;
    memmove(super->words, super->words + over, super->words_bytes - over);
    super->words_bytes -= over;
    memcpy(super->words + super->words_bytes, bytes, n);
    super->words_bytes += n;
    super->words[super->words_bytes] = 0;
}

/* Takes what is there, at most `rounds` pieces, so that one flood does not starve the rest. */
static void pipe_pump(struct engine_super *super, struct engine_pipe *pipe, unsigned rounds)
{
    uint8_t bytes[65536];
    while (pipe->fd >= 0 && rounds-- > 0) {
        ssize_t n = read(pipe->fd, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            (void)close(pipe->fd); /* read only */
            pipe->fd = -1;
            return;
        }
        engine_log_put(pipe->log, bytes, (size_t)n);
        if (pipe->mpirun) words_keep(super, bytes, (size_t)n);
    }
}

static void signals_take(struct engine_super *super)
{
    struct signalfd_siginfo info;
    while (read(super->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD) continue; /* all of them are reaped below */
        if (!stop_read(super)) stop_begin(super, GRACE_DEFAULT_US);
    }
    children_reap(super);
}

/* --- memory --------------------------------------------------------------------------------- */

static void memory_over(struct engine_super *super, const struct engine_task *task)
{
    char name[32];
    who(super, task, name);
    super->decided = super->over_memory = true;
    super->kill_us = 0;
    engine_end_set(&super->end, ENGINE_EXIT_OUT_OF_MEMORY, SIGKILL,
                   "%s used more than its memory limit of %u MiB", name, super->order.s.mem_mib);
}

/* What a task may hold, 0: anything. The keeper of a sandbox comes on top of what is in it, so that
 * the sandbox's own limit, which tells more, is met first. */
static uint64_t memory_limit_mib(const struct mr_engine_start *s)
{
    bool sandbox = mr_str_equal(s->argv[0], MR_STR("sandbox"));
    return s->mem_mib == 0 ? 0 : (uint64_t)s->mem_mib + (sandbox ? SANDBOX_KEEPER_MIB : 0);
}

/* Looks at each task's tree, then at all together, which counts what has left its task. */
static void memory_look(struct engine_super *super)
{
    uint64_t limit = memory_limit_mib(&super->order.s) * 1024 * 1024, room = limit;
    struct engine_usage usage;
    for (uint32_t i = 0; i <= super->task_count && !super->decided; i++) {
        bool all = i == super->task_count;
        const struct engine_task *task = &super->tasks[all ? 0 : i];
        if (!all && (task->ended || super->task_count == 1)) continue;
        pid_t root = all ? getpid() : task->pid;
        uint64_t most = all ? limit * super->order.s.tasks : limit;
        engine_tree_usage(root, false, &usage);
        /* Processes that share memory were counted too high: look again, exactly. */
        if (usage.anon_bytes > most && usage.processes > 1) engine_tree_usage(root, true, &usage);
        if (usage.anon_bytes > most) {
            memory_over(super, task);
        } else {
            room = MR_MIN(room, most - usage.anon_bytes);
        }
    }
    uint64_t wait = mr_mul_div_u64(room, 1000000, MEMORY_BYTES_PER_S);
    wait = MR_MAX(MR_MIN(wait, (uint64_t)MEMORY_LOOK_US_MAX), (uint64_t)MEMORY_LOOK_US_MIN);
    super->memory_due_us = super->decided ? UINT64_MAX : engine_mono_us() + wait;
}

/* --- the loop ------------------------------------------------------------------------------- */

static void due_now(struct engine_super *super)
{
    uint64_t now = engine_mono_us();
    if (now >= super->memory_due_us) memory_look(super);
    if (now >= super->limit_us && !super->decided) {
        super->decided = super->time_over = true;
        super->limit_us = UINT64_MAX;
        engine_end_set(&super->end, ENGINE_EXIT_TIME_LIMIT, 0,
                       "it ran into its time limit of %.6g s",
                       (double)super->order.s.time_limit_us / 1e6);
        stop_begin(super, GRACE_DEFAULT_US);
    }
}

static int poll_timeout_ms(const struct engine_super *super)
{
    uint64_t now = engine_mono_us();
    uint64_t at = MR_MIN(MR_MIN(super->kill_us, super->limit_us), super->memory_due_us);
    if (at == UINT64_MAX) return -1;
    if (at <= now) return 0;
    return (int)MR_MIN((at - now) / 1000 + 1, (uint64_t)60000);
}

static void loop_run(struct engine_super *super)
{
    mr_cleanup(mr_free_pointer) struct pollfd *fds =
        mr_alloc_zero((super->pipe_count + 1) * sizeof *fds);
    MR_ASSERT(fds != NULL); /* a few kilobytes, before anything has grown */
    while (!all_ended(super) && engine_mono_us() < super->kill_us) {
        fds[0] = (struct pollfd){.fd = super->signal_fd, .events = POLLIN};
        for (size_t i = 0; i < super->pipe_count; i++) {
            fds[i + 1] = (struct pollfd){.fd = super->pipes[i].fd, .events = POLLIN};
        }
        int n = poll(fds, (nfds_t)super->pipe_count + 1, poll_timeout_ms(super));
        for (size_t i = 0; n > 0 && i < super->pipe_count; i++) {
            if (fds[i + 1].revents != 0) pipe_pump(super, &super->pipes[i], 4);
        }
        if (n > 0 && fds[0].revents != 0) signals_take(super);
        due_now(super);
    }
}

static void finish(struct engine_super *super)
{
    /* While the tree dies its output is not read, so a killed writer cannot hold us up. */
    uint32_t left = engine_tree_kill(KILL_PATIENCE_US, task_ended, super);
    for (size_t i = 0; i < super->pipe_count; i++)
        pipe_pump(super, &super->pipes[i], 1024);
    bool kernel_oom = engine_cgroups_oom(&super->groups);
    if (super->decided && super->end.kind == ENGINE_EXIT_SIGNAL && super->end.code == SIGKILL &&
        kernel_oom) {
        memory_over(super, &super->tasks[0]);
    } else if (super->decided && super->order.s.mpi && super->end.kind == ENGINE_EXIT_CODE) {
        engine_mpi_end(super, &super->end);
    } else if (!super->decided) {
        engine_end_set(&super->end, ENGINE_EXIT_CODE, 0, "%s", "");
    }
    if (left > 0) {
        size_t n = strlen(super->end.text);
        (void)snprintf(super->end.text + n, sizeof super->end.text - n,
                       "; %u of its processes could not be killed", left);
    }
    engine_cgroups_remove(&super->groups);
}

static int end_write(struct engine_super *super)
{
    char reserve[PATH_MAX];
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, ENGINE_EXIT_BYTES_MAX);
    if (super->started_us != 0) super->end.ran_us = engine_mono_us() - super->started_us;
    engine_exit_encode(&buf, &super->end);
    engine_point("before exit");
    /* Makes room on a full disk. */
    if (engine_path(reserve, super->paths.lease, "reserve") == 0) (void)unlink(reserve);
    for (int i = 0; i < EXIT_TRIES; i++) {
        if (engine_file_put(super->paths.lease, "exit", mr_buf_str(&buf), true) == 0) return 0;
        (void)poll(NULL, 0, 1000);
    }
    return 5;
}

/* --- the beginning -------------------------------------------------------------------------- */

/* Invariant 1. */
static int claim(struct engine_super *super)
{
    static const char zeros[RESERVE_BYTES] = {0};
    char text[64], parent[PATH_MAX];
    int n = snprintf(text, sizeof text, "%d\n", (int)getpid());
    int error =
        engine_file_put(super->paths.lease, "reserve", (struct mr_str){zeros, sizeof zeros}, false);
    engine_point("before claimed");
    if (error == 0) {
        error =
            engine_file_put(super->paths.lease, "claimed", (struct mr_str){text, (size_t)n}, true);
    }
    (void)snprintf(parent, sizeof parent, "%.*s/leases", (int)ENGINE_HOME_BYTES_MAX,
                   super->paths.home);
    if (error == 0) error = engine_folder_sync(parent);
    engine_point("claimed");
    return error;
}

static int signals_open(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) return -1;
    (void)signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* When its tasks were started, for a daemon that was not there. News, no state: an error is fine.
 */
static void started_write(const struct engine_super *super)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%llu\n", (unsigned long long)engine_wall_us());
    (void)engine_file_put(super->paths.lease, "started", (struct mr_str){text, (size_t)n}, false);
}

static void run(struct engine_super *super)
{
    const struct mr_engine_start *s = &super->order.s;
    uint64_t at;
    if (stop_read(super)) {
        engine_end_set(&super->end, ENGINE_EXIT_SIGNAL, SIGTERM,
                       "it was stopped before it started");
        return;
    }
    engine_cgroups_make(&super->groups, super->paths.home, s->lease,
                        (uint64_t)s->cpu_milli * s->tasks, memory_limit_mib(s) * s->tasks);
    if (engine_tasks_start(super) != 0) {
        engine_cgroups_remove(&super->groups);
        return;
    }
    super->started_us = engine_mono_us();
    started_write(super);
    engine_point("started");
    if (s->time_limit_us > 0 && mr_add_u64(engine_mono_us(), s->time_limit_us, &at)) {
        super->limit_us = at;
    }
    /* With several tasks the group holds them together only: each is watched for itself. */
    if (s->mem_mib > 0 && (!super->groups.memory || s->tasks > 1)) super->memory_due_us = 0;
    loop_run(super);
    finish(super);
}

static void super_done(struct engine_super *super)
{
    for (size_t i = 0; i < super->pipe_count; i++) {
        if (super->pipes[i].fd >= 0) (void)close(super->pipes[i].fd); /* read only */
    }
    for (size_t i = 0; i < super->log_count; i++)
        engine_log_close(&super->logs[i]);
    mr_free(super->tasks);
    mr_free(super->logs);
    mr_free(super->pipes);
}

/* The lease's number and the home are in the folder's name; the rest in `start`. */
static int order_read(struct engine_super *super, const char *folder, struct mr_buf *bytes,
                      struct mr_arena *arena)
{
    char expected[PATH_MAX];
    if (engine_file_get(folder, "start", bytes) != 0) return -1;
    if (engine_start_decode(mr_buf_str(bytes), arena, &super->order) != 0) return -1;
    engine_paths_lease(&super->paths, super->order.home, super->order.s.lease);
    engine_paths_run(&super->paths, super->order.s.workload, super->order.s.run);
    /* A home that was moved or copied: its leases are not ours to run. */
    if (realpath(folder, expected) == NULL) return -1;
    return strcmp(expected, super->paths.lease) == 0 ? 0 : -1;
}

int mr_engine_supervise(const char *folder)
{
    struct engine_super super = {.lock_fd = -1,
                                 .signal_fd = -1,
                                 .kill_us = UINT64_MAX,
                                 .limit_us = UINT64_MAX,
                                 .memory_due_us = UINT64_MAX};
    mr_cleanup(mr_buf_done) struct mr_buf bytes;
    mr_cleanup(mr_arena_done) struct mr_arena arena;
    mr_buf_init(&bytes, ENGINE_START_BYTES_MAX);
    mr_arena_init(&arena, ENGINE_START_BYTES_MAX);
    (void)close_range(3, ~0u, 0); /* nobody's descriptors */
    (void)setsid();               /* fails when we lead a session already */
    (void)umask(077);
    if (order_read(&super, folder, &bytes, &arena) != 0) return 2;
    /* Before the lock: whoever sees a holder may send it signals. */
    super.signal_fd = signals_open();
    if (super.signal_fd < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return 4;
    engine_point("before lock");
    if (engine_lock_take(super.paths.lease, &super.lock_fd) != 0) return 3;
    engine_point("locked");
    if (engine_file_exists(super.paths.lease, "claimed") ||
        engine_file_exists(super.paths.lease, "exit")) {
        return 0; /* somebody was here before us: it is never started again */
    }
    int error = claim(&super);
    if (error != 0) return ENGINE_CLAIM_FAILED + MR_MIN(-error, 180);
    run(&super);
    int code = end_write(&super);
    super_done(&super);
    engine_point("exit written");
    (void)close(super.signal_fd); /* read only */
    (void)close(super.lock_fd);   /* drops the lock */
    return code;
}
