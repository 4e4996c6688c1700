/* SPDX-License-Identifier: Apache-2.0 */
/* One lease as the daemon sees it: start at most once, find again, end, forget.
 *
 * The folder tells everything, whatever was killed in between:
 *
 *     lock held                 alive: its supervisor runs (or is about to claim)
 *     else exit                 ended
 *     else claimed              lost: it was started and its supervisor is gone
 *     else start                fresh: nothing was ever started
 *
 * A supervisor that was spawned and has not locked yet looks fresh; then a second one may be
 * spawned. Both can go on: the lock lets one in, and `claimed` turns the other away.
 *
 * Invariants: (1) a lease is spawned only when it is fresh;
 *             (2) a lease that we give up is fenced (lock, claimed, exit) before its end is
 * reported; (3) METER reports come before EXITED. Thread:     the engine's. Fails:      every start
 * is answered: STARTED, or EXITED with START_FAILED and what to do. Idea:
 * docs/internals/lease-folder.md
 */
#include "engine/engine_local_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <yyjson.h>

#include "proto/proto.h"

#define SWEEP_GRACE_US  5000000u
#define FENCE_TRIES_MAX 50
#define WORK_TOLD_US    10000000u

enum look { LOOK_NONE, LOOK_FRESH, LOOK_ALIVE, LOOK_LOST, LOOK_ENDED };

static void take_up(struct engine_local *local, struct engine_lease *lease, bool may_start);

/* --- reports -------------------------------------------------------------------------------- */

/* How long its tasks have run; 0 when that is not known. */
static uint64_t ran_us(const struct engine_lease *lease)
{
    uint64_t started_us, now_us = engine_wall_us();
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, ENGINE_SMALL_FILE_MAX);
    if (engine_file_get(lease->paths.lease, "started", &buf) != 0) return 0;
    if (mr_str_to_u64(mr_str_trim(mr_buf_str(&buf)), &started_us) != 0) return 0;
    return now_us > started_us ? now_us - started_us : 0; /* clocks are set back, too */
}

static void report(struct engine_local *local, const struct engine_lease *lease,
                   enum mr_engine_report_kind kind)
{
    if (lease->silent) return;
    struct mr_engine_report message = {
        .kind = kind, .lease = lease->id, .checkpoint_step = lease->checkpoint_step};
    if (kind == MR_ENGINE_PROGRESS) message.work_done = lease->work_done;
    if (kind == MR_ENGINE_EXITED) {
        message.exit_kind = (int)lease->end.kind;
        message.code = lease->end.code;
        message.ran_us = lease->end.ran_us;
    }
    if (kind == MR_ENGINE_STARTED) message.ran_us = ran_us(lease);
    engine_report_push(local, &message, kind == MR_ENGINE_EXITED ? lease->end.text : NULL);
}

static void report_meters(struct engine_local *local, const struct engine_lease *lease)
{
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, (size_t)MR_WIRE_UNSETTLED_MAX * MR_METER_RECORD_BYTES * 2);
    if (lease->silent || !lease->infer || engine_file_get(lease->paths.run, "meter", &buf) != 0) {
        return;
    }
    for (size_t at = 0; at + MR_METER_RECORD_BYTES <= buf.n; at += MR_METER_RECORD_BYTES) {
        struct mr_meter_record record;
        if (!mr_meter_decode(buf.p + at, &record)) continue;
        struct mr_engine_report message = {.kind = MR_ENGINE_METER,
                                           .lease = lease->id,
                                           .serial = record.serial,
                                           .tenant = record.tenant,
                                           .prompt_tokens = record.usage.prompt_tokens,
                                           .cached_tokens = record.usage.cached_tokens,
                                           .completion_tokens = record.usage.completion_tokens};
        engine_report_push(local, &message, NULL);
    }
}

static void report_end(struct engine_local *local, const struct engine_lease *lease)
{
    report_meters(local, lease); /* invariant 3; a repeated serial changes nothing */
    report(local, lease, MR_ENGINE_EXITED);
}

/* Swept leases are removed when they end; others wait for forget. */
static void ended(struct engine_local *local, struct engine_lease *lease)
{
    lease->state = ENGINE_LEASE_ENDED;
    engine_lease_unwatch(local, lease);
    engine_lease_pidfd_set(local, lease, -1);
    report_end(local, lease);
    if (lease->silent) engine_lease_forget(local, lease->id);
}

/* A checkpoint is told at once; work alone only so often, because each report is journalled. */
static void progress_take(struct engine_local *local, struct engine_lease *lease,
                          struct mr_str text)
{
    yyjson_doc *doc = yyjson_read(text.p, text.n, 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *step = yyjson_obj_get(root, "checkpoint_step");
    yyjson_val *work = yyjson_obj_get(root, "work_done");
    uint64_t now_us = engine_wall_us();
    bool saved = yyjson_is_uint(step) && yyjson_get_uint(step) <= UINT32_MAX &&
                 yyjson_get_uint(step) != lease->checkpoint_step;
    bool due = now_us < lease->work_told_us || now_us - lease->work_told_us >= WORK_TOLD_US;
    bool worked = yyjson_is_uint(work) && yyjson_get_uint(work) != lease->work_done;
    if (saved) lease->checkpoint_step = (uint32_t)yyjson_get_uint(step);
    if (worked && (saved || due)) {
        lease->work_done = yyjson_get_uint(work);
        lease->work_told_us = now_us;
    }
    if (saved || (worked && due)) report(local, lease, MR_ENGINE_PROGRESS);
    yyjson_doc_free(doc);
}

void engine_lease_look(struct engine_local *local, struct engine_lease *lease)
{
    if (lease->state == ENGINE_LEASE_ENDED) return;
    if (lease->state == ENGINE_LEASE_STARTING &&
        engine_file_exists(lease->paths.lease, "started")) {
        lease->state = ENGINE_LEASE_RUNNING;
        report(local, lease, MR_ENGINE_STARTED);
    }
    if (lease->state != ENGINE_LEASE_RUNNING || lease->paths.run[0] == 0) return;
    if (lease->infer && !lease->ready && engine_file_exists(lease->paths.run, "ready")) {
        lease->ready = true;
        report(local, lease, MR_ENGINE_READY);
    }
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    mr_buf_init(&buf, ENGINE_SMALL_FILE_MAX);
    if (engine_file_get(lease->paths.run, "progress.json", &buf) != 0) return;
    progress_take(local, lease, mr_buf_str(&buf));
}

/* --- where it stands ------------------------------------------------------------------------ */

/* Reads the order for the paths and the kind of worker; false when there is none (any more). */
static bool order_load(struct engine_lease *lease)
{
    struct engine_order order;
    mr_cleanup(mr_buf_done) struct mr_buf bytes;
    mr_cleanup(mr_arena_done) struct mr_arena arena;
    mr_buf_init(&bytes, ENGINE_START_BYTES_MAX);
    mr_arena_init(&arena, ENGINE_START_BYTES_MAX);
    if (engine_file_get(lease->paths.lease, "start", &bytes) != 0 ||
        engine_start_decode(mr_buf_str(&bytes), &arena, &order) != 0) {
        return false;
    }
    lease->workload = order.s.workload;
    lease->infer = engine_is_infer(&order.s);
    engine_paths_run(&lease->paths, order.s.workload, order.s.run);
    return true;
}

/* The lock is looked at again behind `claimed`: only its holder writes that, so a lock that is free
 * then means that the holder is dead; and `exit` behind that, since it may have been its last act.
 */
static enum look look_at(const struct engine_lease *lease, pid_t *ret_holder)
{
    const char *folder = lease->paths.lease;
    *ret_holder = engine_lock_holder(folder);
    if (*ret_holder > 0) return LOOK_ALIVE;
    bool claimed = engine_file_exists(folder, "claimed");
    *ret_holder = engine_lock_holder(folder);
    if (*ret_holder > 0) return LOOK_ALIVE;
    if (engine_file_exists(folder, "exit")) return LOOK_ENDED;
    if (claimed) return LOOK_LOST;
    return engine_file_exists(folder, "start") ? LOOK_FRESH : LOOK_NONE;
}

/* Ends it for ever, unless it turns out to live or to have ended otherwise. */
static void give_up(struct engine_local *local, struct engine_lease *lease,
                    const struct engine_end *end)
{
    int error = 0;
    for (int i = 0; i < FENCE_TRIES_MAX; i++) {
        error = engine_end_fence(lease->paths.lease, end);
        if (error != -EAGAIN) break;
        pid_t holder = engine_lock_holder(lease->paths.lease);
        if (holder > 0) {
            take_up(local, lease, false);
            return;
        }
    }
    lease->end = *end;
    if (error == -EEXIST) (void)engine_end_read(lease->paths.lease, &lease->end);
    /* Any other failure (a full disk): it is reported all the same; after a restart of the daemon
     * it is found in the same state and given up again. */
    ended(local, lease);
}

static void start_failed(struct engine_local *local, struct engine_lease *lease, int error_number,
                         const char *what)
{
    struct engine_end end;
    engine_end_set(&end, ENGINE_EXIT_START_FAILED, error_number, "%s: %s", what,
                   engine_errno_text(error_number));
    give_up(local, lease, &end);
}

static void lost(struct engine_local *local, struct engine_lease *lease)
{
    struct engine_end end;
    struct engine_cgroups groups;
    engine_cgroups_find(&groups, local->home, lease->id);
    engine_cgroups_remove(&groups);
    /* Twice: what was being forked during the first walk is there for the second. */
    if (engine_orphans_kill(local->home, lease->id, NULL, NULL) > 0) {
        (void)engine_orphans_kill(local->home, lease->id, NULL, NULL);
    }
    engine_end_set(
        &end, ENGINE_EXIT_LOST, 0,
        "its supervisor was killed or the machine was restarted; how it ended is not known");
    give_up(local, lease, &end);
}

/* --- spawning ------------------------------------------------------------------------------- */

/* The supervisor's environment: what tasks inherit of ours, and no secrets. 0 or an errno. */
static int spawn(struct engine_local *local, struct engine_lease *lease, pid_t *ret_pid)
{
    static const char *const names[] = {
        "PATH",         "HOME",          "LANG",         "TMPDIR",       "LD_LIBRARY_PATH",
        "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "MILLRACE_TEST"};
    char lines[MR_COUNT_OF(names)][PATH_MAX];
    char *env[MR_COUNT_OF(names) + 1] = {NULL};
    char verb[] = "supervise";
    char *argv[] = {local->supervisor, verb, lease->paths.lease, NULL};
    size_t n = 0;
    for (size_t i = 0; i < MR_COUNT_OF(names); i++) {
        const char *value = getenv(names[i]);
        if (value == NULL) continue;
        int length = snprintf(lines[n], sizeof lines[n], "%s=%s", names[i], value);
        if (length > 0 && length < (int)sizeof lines[n]) {
            env[n] = lines[n];
            n++;
        }
    }
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0) return error;
    error = posix_spawnattr_init(&attr);
    if (error == 0) {
        for (int fd = 0; fd < 3 && error == 0; fd++) {
            error = posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
        }
        if (error == 0) error = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
        if (error == 0) error = posix_spawnattr_setsigmask(&attr, &none);
        if (error == 0) error = posix_spawnattr_setsigdefault(&attr, &all);
        if (error == 0) {
            error = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
                                                        POSIX_SPAWN_SETSIGDEF);
        }
        if (error == 0) {
            error = posix_spawn(ret_pid, local->supervisor, &actions, &attr, argv, env);
        }
        (void)posix_spawnattr_destroy(&attr);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return error;
}

static void spawn_fresh(struct engine_local *local, struct engine_lease *lease)
{
    pid_t pid;
    engine_point("before spawn");
    int error = spawn(local, lease, &pid);
    engine_point("spawned");
    if (error != 0) {
        char what[PATH_MAX + 64];
        (void)snprintf(what, sizeof what, "the supervisor %.300s cannot be run", local->supervisor);
        start_failed(local, lease, error, what);
        return;
    }
    /* Our own child, not waited for yet: the number is its own. */
    int pidfd = local->no_pidfds ? -1 : pidfd_open(pid, 0);
    engine_lease_pidfd_set(local, lease, pidfd);
    if (pidfd >= 0) return;
    lease->child = pid;
    engine_lease_poll(local, lease);
}

/* --- taking up ------------------------------------------------------------------------------ */

static void take_up_alive(struct engine_local *local, struct engine_lease *lease, pid_t holder)
{
    int pidfd = local->no_pidfds ? -1 : pidfd_open(holder, 0);
    if (pidfd >= 0 && engine_lock_holder(lease->paths.lease) != holder) {
        (void)close(pidfd); /* it has ended meanwhile; the number may be another's */
        take_up(local, lease, false);
        return;
    }
    engine_lease_pidfd_set(local, lease, pidfd);
    if (pidfd < 0) engine_lease_poll(local, lease);
    /* A stop may have been written by a daemon that died before it could say so. */
    if (engine_file_exists(lease->paths.lease, "stop") && pidfd >= 0) {
        (void)pidfd_send_signal(pidfd, SIGTERM, NULL, 0); /* gone already is as good */
    }
    engine_lease_look(local, lease);
}

/* Each turn of lives and deaths comes back here; a lease has few of them. */
static void take_up(struct engine_local *local, struct engine_lease *lease, bool may_start)
{
    struct engine_end end;
    pid_t holder;
    lease->state = ENGINE_LEASE_STARTING;
    enum look look = look_at(lease, &holder);
    if (look == LOOK_ALIVE || (look == LOOK_FRESH && may_start)) engine_lease_watch(local, lease);
    switch (look) {
    case LOOK_ALIVE:
        take_up_alive(local, lease, holder);
        break;
    case LOOK_ENDED:
        (void)engine_end_read(lease->paths.lease, &lease->end); /* it was there: LOST at worst */
        ended(local, lease);
        break;
    case LOOK_LOST:
        lost(local, lease);
        break;
    case LOOK_FRESH:
        if (may_start) {
            spawn_fresh(local, lease);
            break;
        }
        engine_end_set(&end, ENGINE_EXIT_LOST, 0, "it was never started");
        give_up(local, lease, &end);
        break;
    case LOOK_NONE:
        engine_end_set(&lease->end, ENGINE_EXIT_LOST, 0, "this machine has no trace of it");
        ended(local, lease);
        break;
    }
}

void engine_lease_supervisor_gone(struct engine_local *local, struct engine_lease *lease)
{
    siginfo_t info = {0};
    pid_t holder;
    struct engine_end end;
    lease->child = 0; /* waited for, when there was one */
    if (lease->pidfd >= 0) {
        /* Ours or a predecessor's; only ours can be waited for. */
        (void)waitid(P_PIDFD, (id_t)lease->pidfd, &info, WEXITED | WNOHANG);
        engine_lease_pidfd_set(local, lease, -1);
    }
    if (look_at(lease, &holder) != LOOK_FRESH) {
        engine_lease_look(local, lease); /* STARTED goes before EXITED, also when both are news */
        take_up(local, lease, false);
        return;
    }
    if (info.si_code == CLD_EXITED && info.si_status > ENGINE_CLAIM_FAILED) {
        start_failed(local, lease, info.si_status - ENGINE_CLAIM_FAILED,
                     "the lease cannot be claimed");
        return;
    }
    engine_end_set(&end, ENGINE_EXIT_START_FAILED, info.si_status,
                   "its supervisor ended before it took the lease (%s %d)",
                   info.si_code == CLD_EXITED ? "exit code" : "signal", info.si_status);
    give_up(local, lease, &end);
}

/* --- calls ---------------------------------------------------------------------------------- */

static void report_again(struct engine_local *local, const struct engine_lease *lease)
{
    if (lease->state == ENGINE_LEASE_ENDED) {
        report_end(local, lease);
    } else if (lease->state == ENGINE_LEASE_RUNNING) {
        report(local, lease, MR_ENGINE_STARTED);
        if (lease->ready) report(local, lease, MR_ENGINE_READY);
    }
}

/* The marks of a lease that was forgotten long ago; its end, so that start stays idempotent. */
static bool mark_read(const struct engine_lease *lease, struct engine_end *ret)
{
    mr_cleanup(mr_buf_done) struct mr_buf buf;
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", lease->paths.mark);
    char *slash = strrchr(folder, '/');
    if (slash == NULL) return false;
    *slash = 0;
    mr_buf_init(&buf, ENGINE_EXIT_BYTES_MAX);
    return engine_file_get(folder, slash + 1, &buf) == 0 &&
           engine_exit_decode(mr_buf_str(&buf), ret) == 0;
}

/* Makes the folders and files. 0 or an errno, and what it was about. */
static int folder_make(const struct engine_lease *lease, const struct mr_engine_start *s,
                       struct mr_str start, const char **ret_what)
{
    *ret_what = lease->paths.run;
    int error = engine_mkdirs(lease->paths.run);
    engine_point("run folder");
    if (error == 0 && s->spec_json.n > 0) {
        error = engine_file_put(lease->paths.run, "spec.json", s->spec_json, false);
    }
    if (error != 0) return -error;
    *ret_what = lease->paths.lease;
    error = engine_mkdirs(lease->paths.lease);
    engine_point("lease folder");
    /* Its bytes reach the disk with `claimed`: before that nothing has happened. */
    if (error == 0) error = engine_file_put(lease->paths.lease, "start", start, false);
    engine_point("start written");
    return -error;
}

void engine_lease_start(struct engine_local *local, struct mr_lease_id id, struct mr_buf *start)
{
    struct engine_order order;
    struct engine_lease *lease = engine_lease_find(local, id);
    mr_cleanup(mr_arena_done) struct mr_arena arena;
    mr_arena_init(&arena, ENGINE_START_BYTES_MAX);
    if (lease != NULL) {
        lease->silent = false;
        report_again(local, lease);
        return;
    }
    int error = engine_start_decode(mr_buf_str(start), &arena, &order);
    MR_ASSERT(error != MR_ECORRUPT); /* we have encoded it ourselves, and checked it */
    lease = error == 0 ? engine_lease_add(local, id) : NULL;
    if (lease == NULL) {
        struct mr_engine_report refused = {.kind = MR_ENGINE_EXITED,
                                           .lease = id,
                                           .exit_kind = ENGINE_EXIT_START_FAILED,
                                           .code = MR_ENO_MEMORY};
        engine_report_push(local, &refused, "the daemon is out of memory");
        return;
    }
    lease->workload = order.s.workload;
    lease->infer = engine_is_infer(&order.s);
    engine_paths_run(&lease->paths, order.s.workload, order.s.run);
    if (mark_read(lease, &lease->end)) {
        ended(local, lease);
        return;
    }
    if (!engine_file_exists(lease->paths.lease, "start")) {
        const char *what;
        error = folder_make(lease, &order.s, mr_buf_str(start), &what);
        if (error != 0) {
            char text[PATH_MAX + 32];
            (void)snprintf(text, sizeof text, "%.300s cannot be made", what);
            start_failed(local, lease, error, text);
            return;
        }
    }
    take_up(local, lease, true);
}

void engine_lease_adopt(struct engine_local *local, struct mr_lease_id id)
{
    struct engine_lease *lease = engine_lease_find(local, id);
    if (lease != NULL) {
        lease->silent = false;
        report_again(local, lease);
        return;
    }
    lease = engine_lease_add(local, id);
    if (lease == NULL) {
        struct mr_engine_report refused = {.kind = MR_ENGINE_EXITED,
                                           .lease = id,
                                           .exit_kind = ENGINE_EXIT_LOST,
                                           .code = MR_ENO_MEMORY};
        engine_report_push(local, &refused, "the daemon is out of memory");
        return;
    }
    (void)order_load(lease); /* without it the look below finds no trace, or an end */
    take_up(local, lease, false);
}

void engine_lease_stop(struct engine_local *local, struct mr_lease_id id, uint64_t grace_us)
{
    struct engine_lease *lease = engine_lease_find(local, id);
    if (lease == NULL || lease->state == ENGINE_LEASE_ENDED) return;
    (void)engine_stop_ask(lease->paths.lease, grace_us); /* not locked yet: it reads `stop` */
}

void engine_lease_forget(struct engine_local *local, struct mr_lease_id id)
{
    struct engine_lease *lease = engine_lease_find(local, id);
    char path[PATH_MAX], socket[108];
    if (lease == NULL || lease->state != ENGINE_LEASE_ENDED) return;
    if (lease->paths.mark[0] != 0 && engine_path(path, lease->paths.lease, "exit") == 0) {
        (void)link(path, lease->paths.mark); /* there already, or a full disk: then only the id
                                                counter keeps it from being started again */
    }
    engine_point("marked");
    if (engine_socket_path(mr_str_from(local->home), id, false, socket) == 0) (void)unlink(socket);
    engine_tree_remove(lease->paths.lease);
    engine_lease_drop(local, lease);
}

/* --- sweep ---------------------------------------------------------------------------------- */

static bool spare_known(void *arg, struct mr_lease_id id)
{
    const struct engine_lease *lease = engine_lease_find(arg, id);
    return lease != NULL && lease->state != ENGINE_LEASE_ENDED;
}

void engine_lease_sweep(struct engine_local *local)
{
    char folder[PATH_MAX];
    const struct dirent *entry;
    DIR *dir = engine_path(folder, local->home, "leases") == 0 ? opendir(folder) : NULL;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        struct mr_lease_id id;
        if (mr_str_to_u64(mr_str_from(entry->d_name), &id.v) != 0 || id.v == 0) continue;
        if (engine_lease_find(local, id) != NULL) continue;
        struct engine_lease *lease = engine_lease_add(local, id);
        if (lease == NULL) break; /* the next sweep finds it */
        lease->silent = true;
        (void)order_load(lease); /* without it there is only the folder to remove */
        if (!engine_file_exists(lease->paths.lease, "exit")) {
            (void)engine_stop_ask(lease->paths.lease, SWEEP_GRACE_US); /* if anybody is there */
        }
        take_up(local, lease, false);
    }
    if (dir != NULL) (void)closedir(dir); /* read only */
    (void)engine_orphans_kill(local->home, (struct mr_lease_id){0}, spare_known, local);
}
