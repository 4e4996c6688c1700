/* SPDX-License-Identifier: Apache-2.0 */
/* Starts the tasks of a lease: environment, program, standard files, limits, groups.
 *
 * One process for each task, or one mpirun for all ranks of an MPI job. mpirun forwards output in a
 * way of its own, so each rank opens a pipe of ours by name instead; its logs are then the same as
 * everybody's.
 *
 * Invariants: (1) either every task was exec'd or none is left alive;
 *             (2) a task dies with its supervisor (PDEATHSIG).
 * Fails:      with super->end set to START_FAILED and a text that names what is missing.
 */
#include "engine/engine_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATH_DEFAULT  "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define NOFILE_MAX    65536u
#define MPI_ARGS      32u
#define FILE_PATH_MAX (PATH_MAX + 64)

/* Run by mpirun for each rank: %s are filled in by the environment, not by us. */
static const char rank_script[] =
    "r=$OMPI_COMM_WORLD_RANK\n"
    "RANK=$((r + MILLRACE_RANK_FIRST)) LOCAL_RANK=$OMPI_COMM_WORLD_LOCAL_RANK\n"
    "export RANK LOCAL_RANK\n"
    "exec \"$@\" <\"$MILLRACE_STDIN\" >\"$MILLRACE_PIPES/out.$r\" 2>\"$MILLRACE_PIPES/err.$r\"\n";

/* What one task is started with; everything is made before fork. */
struct launch {
    struct mr_arena arena;
    const char **argv, **env;
    size_t env_count;
    const char *program;  /* resolved */
    const char *work_dir; /* zero-terminated */
    char stdin_path[FILE_PATH_MAX];
    int out_fd, err_fd; /* -1: /dev/null */
};

static void fail(struct engine_super *super, int32_t code, const char *what, const char *why)
{
    engine_end_set(&super->end, ENGINE_EXIT_START_FAILED, code, "%s: %s", what, why);
}

/* --- environment ---------------------------------------------------------------------------- */

static void env_put(struct launch *launch, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void env_put(struct launch *launch, const char *name, const char *format, ...)
{
    char text[PATH_MAX + 64];
    va_list args;
    size_t length = strlen(name);
    int head = snprintf(text, sizeof text, "%s=", name);
    va_start(args, format);
    int n = vsnprintf(text + head, sizeof text - (size_t)head, format, args);
    va_end(args);
    if (n < 0 || (size_t)(head + n) >= sizeof text) return;
    const char *line = mr_str_zero(&launch->arena, mr_str_from(text));
    if (line == NULL) return;
    for (size_t i = 0; i < launch->env_count; i++) {
        if (strncmp(launch->env[i], line, length + 1) != 0) continue;
        launch->env[i] = line;
        return;
    }
    launch->env[launch->env_count++] = line;
}

static void env_pass(struct launch *launch, const char *name, const char *fallback)
{
    const char *value = getenv(name);
    if (value == NULL) value = fallback;
    if (value != NULL) env_put(launch, name, "%s", value);
}

static unsigned master_port(const struct mr_engine_start *s)
{
    /* The same on every node of the gang, another one for the next run. */
    return 20000u + (unsigned)(mr_hash_mix(s->workload.v * 4096 + s->run) % 10000u);
}

static void env_rank(struct launch *launch, const struct mr_engine_start *s, uint32_t task)
{
    env_put(launch, "RANK", "%u", s->rank_first + task);
    env_put(launch, "LOCAL_RANK", "%u", task);
}

static int env_make(struct launch *launch, const struct engine_super *super)
{
    const struct mr_engine_start *s = &super->order.s;
    launch->env = mr_arena_alloc_zero(&launch->arena, (s->env_count + 48) * sizeof *launch->env);
    if (launch->env == NULL) return -ENOMEM;
    env_pass(launch, "PATH", PATH_DEFAULT);
    env_pass(launch, "HOME", super->paths.job);
    env_pass(launch, "LANG", "C.UTF-8");
    env_pass(launch, "TMPDIR", NULL);
    for (size_t i = 0; i < s->env_count; i++) {
        struct mr_str rest = s->env[i], name;
        if (!mr_str_split(&rest, '=', &name)) continue;
        char *zero = mr_str_zero(&launch->arena, name);
        char *line = mr_str_zero(&launch->arena, s->env[i]);
        if (zero == NULL || line == NULL) return -ENOMEM;
        size_t at = 0;
        while (at < launch->env_count &&
               !(strncmp(launch->env[at], zero, name.n) == 0 && launch->env[at][name.n] == '=')) {
            at++;
        }
        launch->env[at] = line;
        if (at == launch->env_count) launch->env_count++;
    }
    env_put(launch, "MILLRACE_RUN_DIR", "%s", super->paths.run);
    env_put(launch, "MILLRACE_JOB_DIR", "%s", super->paths.job);
    env_put(launch, "MILLRACE_WORKLOAD", "%llu", (unsigned long long)s->workload.v);
    env_put(launch, "MILLRACE_LEASE", "%llu", (unsigned long long)s->lease.v);
    env_put(launch, "MILLRACE_RUN", "%u", s->run);
    env_put(launch, "MILLRACE_CACHE_DIR", "%.*s", MR_STR_ARG(super->order.cache_dir));
    env_put(launch, "MILLRACE_CPU_MILLI", "%u", s->cpu_milli);
    env_put(launch, "MILLRACE_MEM_MIB", "%u", s->mem_mib);
    env_put(launch, "WORLD_SIZE", "%u", s->world_size > 0 ? s->world_size : s->tasks);
    env_put(launch, "LOCAL_WORLD_SIZE", "%u", s->tasks);
    env_put(launch, "GROUP_RANK", "%u", s->node_rank);
    env_put(launch, "GROUP_WORLD_SIZE", "%u", s->node_count > 0 ? s->node_count : 1);
    env_put(launch, "MASTER_ADDR", "127.0.0.1");
    env_put(launch, "MASTER_PORT", "%u", master_port(s));
    if (s->devices != 0) {
        char list[256] = "";
        size_t n = 0;
        for (unsigned i = 0; i < 64; i++) {
            if ((s->devices >> i & 1) == 0) continue;
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%u", n > 0 ? "," : "", i);
        }
        env_put(launch, "CUDA_VISIBLE_DEVICES", "%s", list);
    }
    if (engine_is_infer(s)) {
        char socket[108];
        if (engine_socket_path(super->order.home, s->lease, true, socket) != 0) return -EACCES;
        env_put(launch, "MILLRACE_SOCKET", "%s", socket);
    }
    return 0;
}

static const char *env_value(const struct launch *launch, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < launch->env_count; i++) {
        if (strncmp(launch->env[i], name, n) == 0 && launch->env[i][n] == '=') {
            return launch->env[i] + n + 1;
        }
    }
    return NULL;
}

/* --- program -------------------------------------------------------------------------------- */

static int is_program(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) return -errno;
    if (S_ISDIR(st.st_mode)) return -EISDIR;
    return access(path, X_OK) == 0 ? 0 : -EACCES;
}

/* As execvp looks, but in the task's PATH and from the task's folder. NULL: *ret_error says why. */
static const char *resolve(struct launch *launch, const char *name, int *ret_error)
{
    char path[PATH_MAX];
    *ret_error = -ENOENT;
    if (strchr(name, '/') != NULL) {
        int n = name[0] == '/' ? snprintf(path, sizeof path, "%s", name)
                               : snprintf(path, sizeof path, "%s/%s", launch->work_dir, name);
        if (n >= (int)sizeof path) return NULL;
        *ret_error = is_program(path);
        return *ret_error == 0 ? mr_str_zero(&launch->arena, mr_str_from(path)) : NULL;
    }
    const char *list = env_value(launch, "PATH");
    struct mr_str rest = mr_str_from(list != NULL ? list : PATH_DEFAULT), folder;
    while (mr_str_split(&rest, ':', &folder)) {
        int n = snprintf(path, sizeof path, "%.*s/%s", MR_STR_ARG(folder), name);
        if (folder.n == 0 || n >= (int)sizeof path) continue;
        int error = is_program(path);
        if (error == 0) return mr_str_zero(&launch->arena, mr_str_from(path));
        if (error == -EACCES) *ret_error = error;
    }
    return NULL;
}

static bool worker_path(const struct engine_super *super, struct mr_str name, char ret[PATH_MAX])
{
    if (!mr_str_equal(name, MR_STR("infer")) && !mr_str_equal(name, MR_STR("train")) &&
        !mr_str_equal(name, MR_STR("sandbox"))) {
        return false;
    }
    (void)snprintf(ret, PATH_MAX, "%.*s/millrace-%.*s", MR_STR_ARG(super->order.programs),
                   MR_STR_ARG(name));
    return true;
}

static void fail_program(struct engine_super *super, const char *name, int error)
{
    if (error == -ENOENT || error == -ENOTDIR) {
        engine_end_set(&super->end, ENGINE_EXIT_START_FAILED, ENOENT, "program not found: %s",
                       name);
    } else if (error == -EISDIR) {
        engine_end_set(&super->end, ENGINE_EXIT_START_FAILED, EISDIR, "%s is a folder, no program",
                       name);
    } else if (error == -EACCES) {
        engine_end_set(&super->end, ENGINE_EXIT_START_FAILED, EACCES,
                       "%s may not be run: permission denied (chmod +x?)", name);
    } else {
        engine_end_set(&super->end, ENGINE_EXIT_START_FAILED, -error, "%s cannot be run: %s", name,
                       engine_errno_text(-error));
    }
}

static int argv_make(struct launch *launch, struct engine_super *super)
{
    const struct mr_engine_start *s = &super->order.s;
    char worker[PATH_MAX];
    int error = 0;
    launch->argv = mr_arena_alloc_zero(&launch->arena, (s->argv_count + 1) * sizeof *launch->argv);
    if (launch->argv == NULL) return -ENOMEM;
    for (size_t i = 0; i < s->argv_count; i++) {
        launch->argv[i] = mr_str_zero(&launch->arena, s->argv[i]);
        if (launch->argv[i] == NULL) return -ENOMEM;
    }
    if (worker_path(super, s->argv[0], worker)) {
        launch->argv[0] = mr_str_zero(&launch->arena, mr_str_from(worker));
    }
    launch->program = launch->argv[0] != NULL ? resolve(launch, launch->argv[0], &error) : NULL;
    if (launch->program == NULL) {
        fail_program(super, launch->argv[0] != NULL ? launch->argv[0] : "", error);
        return -1;
    }
    return 0;
}

/* Puts mpirun and the script before the program. */
static int argv_mpi(struct launch *launch, struct engine_super *super)
{
    char ranks[16];
    int error = 0;
    size_t count = 0, n = 0;
    while (launch->argv[count] != NULL)
        count++;
    const char **argv =
        mr_arena_alloc_zero(&launch->arena, (count + MPI_ARGS + 1) * sizeof *launch->argv);
    const char *mpirun = resolve(launch, "mpirun", &error);
    if (argv == NULL) return -ENOMEM;
    if (mpirun == NULL) {
        fail_program(super, "mpirun", error);
        return -1;
    }
    (void)snprintf(ranks, sizeof ranks, "%u", super->order.s.tasks);
    const char *const head[] = {
        "mpirun", "-np", mr_str_zero(&launch->arena, mr_str_from(ranks)), "--oversubscribe",
        "--bind-to", "none",
        /* One machine, maybe without any network: no remote shell, shared memory, loopback. */
        "--mca", "plm", "isolated", "--mca", "btl", "self,vader", "--mca", "oob_tcp_if_include",
        "lo", "--mca", "pmix", "^s1,s2,cray",
        /* Its session folder goes with the lease, also when it was killed. */
        "--mca", "orte_tmpdir_base", super->paths.lease, "/bin/sh", "-c", rank_script, "sh"};
    _Static_assert(MR_COUNT_OF(head) <= MPI_ARGS, "room for mpirun's own arguments");
    for (size_t i = 0; i < MR_COUNT_OF(head); i++)
        argv[n++] = head[i];
    argv[n++] = launch->program;
    for (size_t i = 1; i < count; i++)
        argv[n++] = launch->argv[i];
    launch->argv = argv;
    launch->program = mpirun;
    if (getuid() == 0) {
        env_put(launch, "OMPI_ALLOW_RUN_AS_ROOT", "1");
        env_put(launch, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    }
    env_put(launch, "MILLRACE_RANK_FIRST", "%u", super->order.s.rank_first);
    env_put(launch, "MILLRACE_STDIN", "%s", launch->stdin_path);
    env_put(launch, "MILLRACE_PIPES", "%s", super->paths.lease);
    return 0;
}

/* --- the child ------------------------------------------------------------------------------ */

static void limits_set(void)
{
    struct rlimit limit = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &limit); /* a core file would fill the disk */
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = MR_MIN(limit.rlim_max, (rlim_t)NOFILE_MAX);
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

_Noreturn static void child_run(const struct engine_super *super, const struct launch *launch,
                                pid_t parent, int error_fd)
{
    sigset_t none;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(125); /* it died before we asked to die with it */
    (void)setsid();                      /* a group of its own, and no terminal */
    (void)sigemptyset(&none);
    for (int i = 1; i < 32; i++)
        (void)signal(i, SIG_DFL); /* KILL and STOP refuse: fine */
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    limits_set();
    engine_cgroups_enter(&super->groups);
    /* Ranks open their input themselves; mpirun would forward it to the first, and crashes now and
     * then when that one has ended before. */
    const char *input = super->order.s.mpi ? "/dev/null" : launch->stdin_path;
    int in = open(input, O_RDONLY | O_CLOEXEC);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int out = launch->out_fd >= 0 ? launch->out_fd : null;
    int err = launch->err_fd >= 0 ? launch->err_fd : null;
    int error = 0;
    if (in < 0 || null < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
        error = errno;
    if (error == 0 && chdir(launch->work_dir) != 0) error = errno;
    if (error == 0) {
        int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        /* If the machine runs out, the kernel takes tasks rather than what looks after them. */
        if (score >= 0) (void)!write(score, "500", 3);
        (void)execve(launch->program, (char *const *)launch->argv, (char *const *)launch->env);
        if (errno == ENOEXEC) {
            /* A script without a first line that says what runs it, as execvp treats it. */
            const char *shell[] = {"sh", launch->program, NULL};
            (void)execve("/bin/sh", (char *const *)shell, (char *const *)launch->env);
        }
        error = errno;
    }
    (void)!write(error_fd, &error, sizeof error); /* the reader treats silence as success of exec */
    _exit(127);
}

/* 0 or -errno of what failed in the child. */
static int task_spawn(struct engine_super *super, const struct launch *launch,
                      struct engine_task *task)
{
    int ends[2], error = 0;
    pid_t self = getpid();
    if (pipe2(ends, O_CLOEXEC) != 0) return -errno;
    pid_t pid = fork();
    if (pid == 0) child_run(super, launch, self, ends[1]);
    if (pid < 0) error = -errno;
    (void)close(ends[1]); /* the child's end */
    if (pid > 0) {
        int code = 0;
        ssize_t n;
        do {
            n = read(ends[0], &code, sizeof code);
        } while (n < 0 && errno == EINTR);
        if (n == (ssize_t)sizeof code) {
            (void)waitpid(pid, NULL, 0);
            error = code > 0 ? -code : -EIO;
        } else {
            task->pid = pid;
        }
    }
    (void)close(ends[0]); /* read only */
    return error;
}

/* --- standard files ------------------------------------------------------------------------- */

static struct engine_log *log_add(struct engine_super *super, uint32_t rank, bool error_stream,
                                  int *ret_error)
{
    char name[64];
    struct engine_log *log = &super->logs[super->log_count];
    (void)snprintf(name, sizeof name, "rank-%u.%s", rank, error_stream ? "stderr" : "stdout");
    *ret_error = engine_log_open(log, super->paths.run, name);
    if (*ret_error != 0) return NULL;
    super->log_count++;
    return log;
}

static void pipe_add(struct engine_super *super, int fd, struct engine_log *log, bool mpirun)
{
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    super->pipes[super->pipe_count++] =
        (struct engine_pipe){.fd = fd, .log = log, .mpirun = mpirun};
}

/* Pipes with names for the ranks of an MPI job; our end is open for writing too, so that it never
 * reads as ended and a rank never waits to open it. */
static int named_pipes_make(struct engine_super *super)
{
    const struct mr_engine_start *s = &super->order.s;
    for (uint32_t i = 0; i < s->tasks * 2; i++) {
        char path[FILE_PATH_MAX];
        int error;
        (void)snprintf(path, sizeof path, "%s/%s.%u", super->paths.lease,
                       i % 2 == 0 ? "out" : "err", i / 2);
        struct engine_log *log = log_add(super, s->rank_first + i / 2, i % 2 == 1, &error);
        if (log == NULL) return error;
        if (mkfifo(path, 0600) != 0 && errno != EEXIST) return -errno;
        int fd = open(path, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) return -errno;
        pipe_add(super, fd, log, false);
    }
    return 0;
}

/* Our ends go to super->pipes, the task's into the launch, whose owner closes them after fork. */
static int task_pipes_make(struct engine_super *super, struct launch *launch, uint32_t task,
                           bool mpirun)
{
    uint32_t rank = super->order.s.rank_first + task;
    for (int i = 0; i < 2; i++) {
        int ends[2], error = 0;
        /* mpirun's own words go where those of its first rank go. */
        struct engine_log *log = mpirun ? &super->logs[i] : log_add(super, rank, i == 1, &error);
        if (log == NULL) return error;
        if (pipe2(ends, O_CLOEXEC) != 0) return -errno;
        pipe_add(super, ends[0], log, mpirun);
        *(i == 0 ? &launch->out_fd : &launch->err_fd) = ends[1];
    }
    return 0;
}

static int stdin_make(struct engine_super *super, struct launch *launch)
{
    struct mr_str bytes = super->order.s.stdin_bytes;
    (void)snprintf(launch->stdin_path, sizeof launch->stdin_path, "/dev/null");
    if (bytes.n == 0) return 0;
    (void)snprintf(launch->stdin_path, sizeof launch->stdin_path, "%s/stdin", super->paths.lease);
    return engine_file_put(super->paths.lease, "stdin", bytes, false);
}

/* --- all of them ---------------------------------------------------------------------------- */

static int launch_make(struct launch *launch, struct engine_super *super)
{
    const struct mr_engine_start *s = &super->order.s;
    struct stat st;
    launch->work_dir =
        s->work_dir.n > 0 ? mr_str_zero(&launch->arena, s->work_dir) : super->paths.job;
    int error = launch->work_dir == NULL ? -ENOMEM : stdin_make(super, launch);
    if (error == 0) error = env_make(launch, super);
    if (error != 0) {
        fail(super, -error, "the task cannot be prepared", engine_errno_text(-error));
        return -1;
    }
    if (stat(launch->work_dir, &st) != 0 || !S_ISDIR(st.st_mode)) {
        fail(super, ENOENT, launch->work_dir, "work_dir is not a folder of this machine");
        return -1;
    }
    error = argv_make(launch, super);
    if (error == 0 && s->mpi) error = argv_mpi(launch, super);
    if (error == -ENOMEM) fail(super, ENOMEM, "the task cannot be prepared", "out of memory");
    return error == 0 ? 0 : -1;
}

static void nothing(void *arg, pid_t pid, int status)
{
    (void)arg;
    (void)pid;
    (void)status;
}

static int tables_make(struct engine_super *super)
{
    const struct mr_engine_start *s = &super->order.s;
    struct rlimit limit;
    super->task_count = s->mpi ? 1 : s->tasks;
    super->tasks = mr_alloc_zero(super->task_count * sizeof *super->tasks);
    super->logs = mr_alloc_zero(s->tasks * 2 * sizeof *super->logs);
    super->pipes = mr_alloc_zero((s->tasks * 2 + 2) * sizeof *super->pipes);
    if (super->tasks == NULL || super->logs == NULL || super->pipes == NULL) return -ENOMEM;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max; /* four for each task, at most 2,048 */
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    return s->mpi ? named_pipes_make(super) : 0;
}

int engine_tasks_start(struct engine_super *super)
{
    struct launch launch = {.out_fd = -1, .err_fd = -1};
    int result = 0, error = tables_make(super);
    mr_arena_init(&launch.arena, 2 * ENGINE_START_BYTES_MAX);
    if (error != 0) {
        fail(super, -error, super->paths.run, engine_errno_text(-error));
        result = -1;
    }
    if (result == 0) result = launch_make(&launch, super);
    for (uint32_t i = 0; result == 0 && i < super->task_count; i++) {
        struct engine_task *task = &super->tasks[i];
        task->rank = super->order.s.rank_first + i;
        if (!super->order.s.mpi) env_rank(&launch, &super->order.s, i);
        error = task_pipes_make(super, &launch, i, super->order.s.mpi);
        if (error == 0) {
            engine_point("before a task");
            error = task_spawn(super, &launch, task);
            engine_point("behind a task");
            if (error != 0) {
                fail_program(super, launch.argv[0], error);
                result = -1;
            }
        } else {
            fail(super, -error, super->paths.run, engine_errno_text(-error));
            result = -1;
        }
        if (launch.out_fd >= 0) (void)close(launch.out_fd); /* the task has it now */
        if (launch.err_fd >= 0) (void)close(launch.err_fd);
        launch.out_fd = launch.err_fd = -1;
    }
    if (result != 0) (void)engine_tree_kill(10000000, nothing, NULL); /* invariant 1 */
    mr_arena_done(&launch.arena);
    return result;
}

/* mpirun tells of a rank's end in words only. */
void engine_mpi_end(const struct engine_super *super, struct engine_end *end)
{
    unsigned rank = 0;
    int number = 0;
    const char *p = strstr(super->words, "noticed that process rank ");
    const char *signalled = p != NULL ? strstr(p, "exited on signal ") : NULL;
    if (signalled != NULL && sscanf(p, "noticed that process rank %9u", &rank) == 1 &&
        sscanf(signalled, "exited on signal %9d", &number) == 1 && number > 0 && number < 65) {
        const char *name = sigdescr_np(number);
        engine_end_set(end, ENGINE_EXIT_SIGNAL, number, "rank %u was killed by signal %d (%s)",
                       super->order.s.rank_first + rank, number, name != NULL ? name : "unknown");
        return;
    }
    p = strstr(super->words, "Process name: [[");
    const char *comma = p != NULL ? strstr(p, "],") : NULL;
    const char *code = p != NULL ? strstr(p, "Exit code:") : NULL;
    if (comma != NULL && code != NULL && sscanf(comma, "],%9u]", &rank) == 1 &&
        sscanf(code, "Exit code: %9d", &number) == 1) {
        engine_end_set(end, ENGINE_EXIT_CODE, number, "rank %u ended with exit code %d",
                       super->order.s.rank_first + rank, number);
        return;
    }
    /* It does not always find the time to say which; its code tells of signals as a shell's does.
     */
    number = end->code - 128;
    if (number > 0 && number < 65) {
        const char *name = sigdescr_np(number);
        engine_end_set(end, ENGINE_EXIT_SIGNAL, number, "a rank was killed by signal %d (%s)",
                       number, name != NULL ? name : "unknown");
    }
}
