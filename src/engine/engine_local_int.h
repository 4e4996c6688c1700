/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/engine: the daemon's side of the local engine: two halves that share two queues.
 *
 * The lane's half (engine_local.c) copies each call into a command and hands reports on. The
 * engine's thread (engine_watch.c, engine_lease.c) owns every lease, does all input and output, and
 * sleeps in epoll. Nothing else is shared.
 */
#ifndef MR_ENGINE_LOCAL_INT_H
#define MR_ENGINE_LOCAL_INT_H

#include <pthread.h>

#include "engine/engine_int.h"

enum engine_command_kind {
    ENGINE_DO_START,
    ENGINE_DO_ADOPT,
    ENGINE_DO_STOP,
    ENGINE_DO_FORGET,
    ENGINE_DO_SWEEP,
    ENGINE_DO_END
};
struct engine_command {
    struct engine_command *next;
    enum engine_command_kind kind;
    struct mr_lease_id lease;
    uint64_t grace_us;
    struct mr_buf start; /* START: encoded, so that it is a copy of everything */
};
struct engine_message {
    struct engine_message *next;
    struct mr_engine_report report; /* text points to `text` */
    char text[ENGINE_TEXT_BYTES_MAX];
};

enum engine_lease_state {
    ENGINE_LEASE_STARTING, /* a supervisor was spawned or found, no task yet */
    ENGINE_LEASE_RUNNING,
    ENGINE_LEASE_ENDED
};
/* Owned by the engine's thread. */
struct engine_lease {
    struct engine_lease *next_id, *next_lease_wd, *next_run_wd; /* hash chains */
    struct mr_lease_id id;
    struct mr_workload_id workload;
    struct engine_paths paths;
    enum engine_lease_state state;
    int pidfd;   /* -1: none */
    pid_t child; /* our supervisor when there is no pidfd of it, else 0 */
    bool infer;
    bool ready;
    bool silent; /* swept: ended without reports, then removed */
    bool polled; /* inotify would not watch it */
    bool forgotten;
    int lease_wd, run_wd; /* -1: none */
    uint32_t checkpoint_step;
    uint64_t work_done, work_told_us; /* as it was told last, and when */
    struct engine_end end;            /* ENDED */
};
#define ENGINE_BUCKETS 4096u

struct engine_local {
    struct mr_engine engine; /* first */
    struct mr_env *env;
    char home[PATH_MAX], programs[PATH_MAX], cache_dir[PATH_MAX], supervisor[PATH_MAX];
    pthread_t thread;
    bool thread_runs;

    /* Shared, under the mutex. */
    pthread_mutex_t mutex;
    struct engine_command *command_first, **command_last;
    struct engine_message *message_first, **message_last;
    bool posted; /* `post` is on its way to the lane */
    int wake_fd; /* written when there are commands */

    /* The lane's. */
    struct mr_post post;
    bool closed;
    void (*report)(void *arg, const struct mr_engine_report *report);
    void *report_arg;

    /* The thread's. */
    int epoll_fd, inotify_fd;
    bool no_pidfds; /* for tests */
    uint32_t polled_count;
    struct engine_lease *by_id[ENGINE_BUCKETS];
    struct engine_lease *by_lease_wd[ENGINE_BUCKETS], *by_run_wd[ENGINE_BUCKETS];
};

/* engine_watch.c: the thread. */
void *engine_watch_main(void *local);
/* Queues a copy of the report and posts to the lane. `text` may be NULL. */
void engine_report_push(struct engine_local *local, const struct mr_engine_report *report,
                        const char *text);
struct engine_lease *engine_lease_find(struct engine_local *local, struct mr_lease_id id);
/* NULL when out of memory. */
struct engine_lease *engine_lease_add(struct engine_local *local, struct mr_lease_id id);
void engine_lease_drop(struct engine_local *local, struct engine_lease *lease);
void engine_lease_watch(struct engine_local *local, struct engine_lease *lease);
void engine_lease_unwatch(struct engine_local *local, struct engine_lease *lease);
/* Takes over the descriptor. */
void engine_lease_pidfd_set(struct engine_local *local, struct engine_lease *lease, int pidfd);
void engine_lease_poll(struct engine_local *local, struct engine_lease *lease);

/* engine_lease.c: what happens to one lease; on the thread. */
void engine_lease_start(struct engine_local *local, struct mr_lease_id id, struct mr_buf *start);
void engine_lease_adopt(struct engine_local *local, struct mr_lease_id id);
void engine_lease_stop(struct engine_local *local, struct mr_lease_id id, uint64_t grace_us);
void engine_lease_forget(struct engine_local *local, struct mr_lease_id id);
void engine_lease_sweep(struct engine_local *local);
void engine_lease_supervisor_gone(struct engine_local *local, struct engine_lease *lease);
/* Looks at started, ready and progress, and reports what is new. */
void engine_lease_look(struct engine_local *local, struct engine_lease *lease);

#endif
