/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/engine and its tests: what the daemon's side and the supervisor share: records,
 * the folder, processes, cgroups.
 *
 * Two programs meet here: the daemon (engine_local, engine_lease, engine_watch) and the supervisor
 * (engine_supervise, engine_task, engine_log). They speak through the lease's folder only.
 */
#ifndef MR_ENGINE_INT_H
#define MR_ENGINE_INT_H

#include <limits.h>
#include <sys/types.h>

#include "engine/engine.h"
#include "port/engine.h"

#define ENGINE_START_BYTES_MAX ((size_t)8 * 1024 * 1024)
#define ENGINE_EXIT_BYTES_MAX  ((size_t)4096)
#define ENGINE_ENV_MAX         1024u
#define ENGINE_TEXT_BYTES_MAX  512u
#define ENGINE_SMALL_FILE_MAX  ((size_t)64 * 1024)
#define ENGINE_READ_BYTES_MAX  ((size_t)1024 * 1024)

/* By value as in the core; port/engine.h says so. tests/unit/engine checks that they agree. */
enum engine_exit_kind {
    ENGINE_EXIT_CODE,
    ENGINE_EXIT_SIGNAL,
    ENGINE_EXIT_OUT_OF_MEMORY,
    ENGINE_EXIT_TIME_LIMIT,
    ENGINE_EXIT_START_FAILED,
    ENGINE_EXIT_LOST,
    ENGINE_EXIT_COUNT
};

/* --- records (engine_record.c) ---------------------------------------------------------- */

/* Everything that a supervisor has to know. */
struct engine_order {
    struct mr_engine_start s; /* argv, env and strings point into the bytes or the arena */
    struct mr_str home, programs, cache_dir;
};
void engine_start_encode(struct mr_buf *buf, const struct mr_engine_start *start,
                         struct mr_str home, struct mr_str programs, struct mr_str cache_dir);
/* 0, MR_ECORRUPT or MR_ENO_MEMORY. Strings point into `bytes`, the tables lie in the arena. */
int engine_start_decode(struct mr_str bytes, struct mr_arena *arena, struct engine_order *ret);
/* What a caller may not ask for; the text names it. 0 or MR_EINVALID. */
int engine_start_check(const struct mr_engine_start *start, const char **ret_text);

struct engine_end {
    enum engine_exit_kind kind;
    int32_t code;
    uint64_t ran_us; /* from the start of its tasks to the last one's end; 0: not known */
    char text[ENGINE_TEXT_BYTES_MAX]; /* zero-terminated */
};
void engine_exit_encode(struct mr_buf *buf, const struct engine_end *end);
int engine_exit_decode(struct mr_str bytes, struct engine_end *ret); /* 0 or MR_ECORRUPT */

struct engine_stop {
    uint64_t grace_us;
    uint64_t deadline_us; /* wall clock: after it everything is killed */
};
void engine_stop_encode(struct mr_buf *buf, const struct engine_stop *stop);
int engine_stop_decode(struct mr_str bytes, struct engine_stop *ret);

/* --- the folder (engine_folder.c) ------------------------------------------------------- */

#define ENGINE_HOME_BYTES_MAX 512u
#define ENGINE_OWN_PATH_MAX   (ENGINE_HOME_BYTES_MAX + 128u)

/* Absolute, zero-terminated; cut paths do not arise: engine_local_open limits the home's length. */
struct engine_paths {
    char home[ENGINE_OWN_PATH_MAX];
    char lease[ENGINE_OWN_PATH_MAX]; /* home/leases/L */
    char job[ENGINE_OWN_PATH_MAX];   /* home/workloads/W */
    char run[ENGINE_OWN_PATH_MAX];   /* job/run-R: each replica of a service is a run of its own */
    char mark[ENGINE_OWN_PATH_MAX];  /* job/run-R/lease-L.exit: the end, kept when the lease is
                                        forgotten */
};
void engine_paths_lease(struct engine_paths *paths, struct mr_str home, struct mr_lease_id lease);
void engine_paths_run(struct engine_paths *paths, struct mr_workload_id workload, uint32_t run);
bool engine_is_infer(const struct mr_engine_start *start);
/* "unix:"-less path of the worker's socket, short enough for sun_path. The folder is made and
 * checked to be ours alone. 0, MR_EIO or MR_EFORBIDDEN. */
int engine_socket_path(struct mr_str home, struct mr_lease_id lease, bool make, char ret[108]);

/* snprintf of "folder/name"; MR_ETOO_LARGE. */
int engine_path(char ret[PATH_MAX], const char *folder, const char *name);
int engine_mkdirs(const char *path); /* with parents, 0700; 0 or -errno */
/* Writes folder/name by a temporary and rename; `durable` adds fsync of file and folder. 0 or
 * -errno (an errno: the caller has a text to make of it). */
int engine_file_put(const char *folder, const char *name, struct mr_str bytes, bool durable);
/* Appends the whole file to buf. 0, or -errno; -EFBIG past the buffer's limit. */
int engine_file_get(const char *folder, const char *name, struct mr_buf *buf);
bool engine_file_exists(const char *folder, const char *name);
void engine_tree_remove(const char *path); /* best effort, follows no symbolic link */
int engine_folder_sync(const char *path);  /* 0 or -errno */

/* The lock: a POSIX record lock, which dies with its process and no child inherits. Whoever holds
 * it opens the file once and never closes it, since any close would drop the lock. */
int engine_lock_take(const char *lease_folder, int *ret_fd); /* 0, -EAGAIN when held, -errno */
pid_t engine_lock_holder(const char *lease_folder);          /* 0: nobody */

/* The end as stored in the lease's folder; false when there is none. */
bool engine_end_read(const char *lease_folder, struct engine_end *ret);
/* Ends a lease that no supervisor holds: takes the lock, marks it claimed, writes the end. 0,
 * -EAGAIN when a supervisor is alive after all, -EEXIST when an end is there already, -errno. */
int engine_end_fence(const char *lease_folder, const struct engine_end *end);
/* Writes `stop` and wakes the supervisor, if there is one: false when nobody holds the lease. */
bool engine_stop_ask(const char *lease_folder, uint64_t grace_us);
void engine_end_set(struct engine_end *end, enum engine_exit_kind kind, int32_t code,
                    const char *format, ...) __attribute__((format(printf, 4, 5)));

/* What an errno of ours means to a person, with what to do. */
const char *engine_errno_text(int error_number);
uint64_t engine_wall_us(void);
uint64_t engine_mono_us(void);

/* Tests kill the process at the n-th of these points. NULL in production. Set before threads are.
 */
extern void (*engine_point_hook)(const char *where);
static inline void engine_point(const char *where)
{
    if (engine_point_hook != NULL) engine_point_hook(where);
}

/* --- processes (engine_tree.c) ---------------------------------------------------------- */

struct engine_usage {
    uint64_t anon_bytes; /* anonymous, shared and swapped memory: what cannot be dropped */
    uint32_t processes;
};
/* Calls visit for every descendant of `root` (not root itself), parents first. Returns how many, or
 * -errno when /proc cannot be read. */
int engine_tree_visit(pid_t root, void (*visit)(void *arg, pid_t pid), void *arg);
/* Sum over root (when it is not this process) and its descendants. `exact` counts shared pages
 * once, which costs more. */
void engine_tree_usage(pid_t root, bool exact, struct engine_usage *ret);
/* Kills and reaps all descendants of this process, which must be a child subreaper. `reaped` is
 * told of each child. Returns how many were left after the time. */
uint32_t engine_tree_kill(uint64_t patience_us, void (*reaped)(void *arg, pid_t pid, int status),
                          void *arg);
/* Kills every process of this user whose environment says MILLRACE_LEASE=lease and a
 * MILLRACE_RUN_DIR under home. lease 0: of every lease for which `spare` is false. Returns how many
 * were found. */
uint32_t engine_orphans_kill(const char *home, struct mr_lease_id lease,
                             bool (*spare)(void *arg, struct mr_lease_id lease), void *arg);

/* --- cgroups (engine_cgroup.c) ---------------------------------------------------------- */

enum engine_cgroup_part {
    ENGINE_CGROUP_UNIFIED, /* version 2: cgroup.kill, and limits where the controllers are there */
    ENGINE_CGROUP_CPU,     /* version 1 */
    ENGINE_CGROUP_MEMORY,  /* version 1 */
    ENGINE_CGROUP_COUNT
};
struct engine_cgroups {
    char path[ENGINE_CGROUP_COUNT][PATH_MAX]; /* empty: none */
    bool memory, cpu;                         /* the limit is enforced by the kernel */
};
/* Makes groups for one lease where this process may. Limits 0: none. Never fails: what cannot be
 * had is left out. `root` is /sys/fs/cgroup but in tests. */
void engine_cgroups_make(struct engine_cgroups *groups, const char *home, struct mr_lease_id lease,
                         uint64_t cpu_milli, uint64_t mem_mib);
/* Puts the calling process in, in a child between fork and exec: system calls only. */
void engine_cgroups_enter(const struct engine_cgroups *groups);
bool engine_cgroups_oom(const struct engine_cgroups *groups); /* did its limit kill? */
void engine_cgroups_remove(struct engine_cgroups *groups);    /* kills what is in it first */
/* Names of a lease's groups, made by whoever; for the sweep. */
void engine_cgroups_find(struct engine_cgroups *groups, const char *home, struct mr_lease_id lease);
void engine_cgroups_describe(char ret[96]);
/* The text of a limit of our own group, the nearest group upwards that has one which is a number.
 * Controller "" is version 2. */
bool engine_cgroup_limit_text(const char *controller, const char *name, char *ret, size_t size);

/* engine_machine.c; for tests */
void engine_accel_name_short(struct mr_str name, char ret[64]);

/* --- the supervisor's parts ------------------------------------------------------------- */

/* A log file that rotates; the reader's side is in engine_file.c. */
struct engine_log {
    char folder[PATH_MAX];
    char name[64];
    int fd;               /* -1: not open */
    uint64_t base, bytes; /* offset of the file's first byte in the whole log; size now */
    uint64_t lost_bytes;  /* could not be written, the disk being full */
    uint64_t limit_bytes;
};
int engine_log_open(struct engine_log *log, const char *folder, const char *name); /* 0 or -errno */
void engine_log_put(struct engine_log *log, const uint8_t *bytes, size_t n);
void engine_log_close(struct engine_log *log);

struct engine_task {
    pid_t pid; /* 0: none (any more) */
    int status;
    bool ended;
    uint32_t rank;
};
struct engine_pipe {
    int fd;                 /* read end, -1: at its end */
    struct engine_log *log; /* where it goes */
    bool mpirun;            /* its last words are looked at when the job fails */
};
struct engine_super {
    struct engine_order order;
    struct engine_paths paths;
    struct engine_cgroups groups;
    int lock_fd, signal_fd;
    struct engine_task *tasks;
    uint32_t task_count; /* processes started: 1 for MPI */
    struct engine_log *logs;
    size_t log_count;
    struct engine_pipe *pipes;
    size_t pipe_count;
    char words[4096]; /* the last that mpirun said */
    size_t words_bytes;
    bool stopping, decided, time_over, over_memory;
    uint64_t kill_us;       /* monotonic: then everything is killed; UINT64_MAX: not asked */
    uint64_t limit_us;      /* monotonic: the time limit; UINT64_MAX: none */
    uint64_t memory_due_us; /* monotonic: the next look at the memory; UINT64_MAX: never */
    uint64_t started_us;    /* monotonic: its tasks were started; 0: they were not */
    struct engine_end end;
};
/* The supervisor's exit code when it could not claim: this plus the errno. */
#define ENGINE_CLAIM_FAILED 64
/* engine_task.c: starts all tasks, or sets super->end and returns -1. */
int engine_tasks_start(struct engine_super *super);
void engine_mpi_end(const struct engine_super *super, struct engine_end *end);

/* --- files for readers (engine_file.c) -------------------------------------------------- */

int engine_file_read(struct mr_str home, struct mr_workload_id workload, uint32_t run,
                     uint32_t rank, struct mr_str name, uint64_t offset, size_t max_bytes,
                     struct mr_buf *buf);

/* --- for tests -------------------------------------------------------------------------- */

/* The program that is started as the supervisor, instead of programs/millrace. */
void engine_supervisor_set(struct mr_engine *engine, const char *path);
/* As on a machine whose inotify watches are used up and whose kernel has no pidfd left to give.
 * Before the first lease. */
void engine_polling_force(struct mr_engine *engine);

#endif
