/* SPDX-License-Identifier: Apache-2.0 */
/* The local engine as its lane sees it: calls become commands, reports come back by post.
 *
 * Invariants: (1) no report is delivered inside a call;
 *             (2) at most one post is on its way, and it carries everything that is queued.
 * Thread:     the lane's; the engine's own thread does the work (engine_watch.c).
 * Ends:       mr_engine_local_close, or the last post after it.
 * Idea:       src/engine/README.md
 */
#include "engine/engine_local_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

static struct engine_local *local_of(struct mr_engine *engine)
{
    return (struct engine_local *)engine; /* the table is its first member */
}

static void command_send(struct engine_local *local, const struct engine_command *command)
{
    struct engine_command *copy = mr_alloc(sizeof *copy);
    MR_ASSERT(copy != NULL); /* a hundred bytes: nothing else could go on either */
    *copy = *command;
    copy->next = NULL;
    (void)pthread_mutex_lock(&local->mutex); /* our own, always valid */
    *local->command_last = copy;
    local->command_last = &copy->next;
    (void)pthread_mutex_unlock(&local->mutex);
    uint64_t one = 1;
    (void)!write(local->wake_fd, &one, sizeof one); /* full means that it is awake anyway */
}

static void local_watch(struct mr_engine *engine,
                        void (*report)(void *arg, const struct mr_engine_report *report), void *arg)
{
    struct engine_local *local = local_of(engine);
    local->report = report;
    local->report_arg = arg;
}

static void local_start(struct mr_engine *engine, const struct mr_engine_start *start)
{
    struct engine_local *local = local_of(engine);
    struct engine_command command = {.kind = ENGINE_DO_START, .lease = start->lease};
    const char *text = NULL;
    struct mr_engine_report refused = {
        .kind = MR_ENGINE_EXITED, .lease = start->lease, .exit_kind = ENGINE_EXIT_START_FAILED};
    mr_buf_init(&command.start, ENGINE_START_BYTES_MAX);
    if (engine_start_check(start, &text) == 0) {
        engine_start_encode(&command.start, start, mr_str_from(local->home),
                            mr_str_from(local->programs), mr_str_from(local->cache_dir));
        if (command.start.failed) text = "the daemon is out of memory";
        refused.code = MR_ENO_MEMORY;
    } else {
        refused.code = MR_EINVALID;
    }
    if (text == NULL) {
        command_send(local, &command);
        return;
    }
    mr_buf_done(&command.start);
    engine_report_push(local, &refused, text);
}

static void local_adopt(struct mr_engine *engine, struct mr_lease_id lease)
{
    command_send(local_of(engine),
                 &(struct engine_command){.kind = ENGINE_DO_ADOPT, .lease = lease});
}

static void local_stop(struct mr_engine *engine, struct mr_lease_id lease, uint64_t grace_us)
{
    command_send(
        local_of(engine),
        &(struct engine_command){.kind = ENGINE_DO_STOP, .lease = lease, .grace_us = grace_us});
}

static void local_forget(struct mr_engine *engine, struct mr_lease_id lease)
{
    command_send(local_of(engine),
                 &(struct engine_command){.kind = ENGINE_DO_FORGET, .lease = lease});
}

static void local_sweep(struct mr_engine *engine)
{
    command_send(local_of(engine), &(struct engine_command){.kind = ENGINE_DO_SWEEP});
}

static void local_address(struct mr_engine *engine, struct mr_lease_id lease, struct mr_buf *buf)
{
    struct engine_local *local = local_of(engine);
    struct engine_paths paths;
    struct engine_order order;
    char socket[108];
    mr_cleanup(mr_buf_done) struct mr_buf bytes;
    mr_cleanup(mr_arena_done) struct mr_arena arena;
    mr_buf_init(&bytes, ENGINE_START_BYTES_MAX);
    mr_arena_init(&arena, ENGINE_START_BYTES_MAX);
    engine_paths_lease(&paths, mr_str_from(local->home), lease);
    if (engine_file_get(paths.lease, "start", &bytes) != 0 ||
        engine_start_decode(mr_buf_str(&bytes), &arena, &order) != 0 ||
        !engine_is_infer(&order.s) ||
        engine_socket_path(mr_str_from(local->home), lease, false, socket) != 0) {
        return;
    }
    mr_buf_put_str(buf, MR_STR("unix:"));
    mr_buf_put_str(buf, mr_str_from(socket));
}

static int local_file_read(struct mr_engine *engine, struct mr_workload_id workload, uint32_t run,
                           uint32_t rank, struct mr_str name, uint64_t offset, size_t max_bytes,
                           struct mr_buf *buf)
{
    struct engine_local *local = local_of(engine);
    return engine_file_read(mr_str_from(local->home), workload, run, rank, name, offset, max_bytes,
                            buf);
}

static const struct mr_engine_ops local_ops = {.watch = local_watch,
                                               .start = local_start,
                                               .adopt = local_adopt,
                                               .stop = local_stop,
                                               .forget = local_forget,
                                               .sweep = local_sweep,
                                               .address = local_address,
                                               .file_read = local_file_read};

/* --- reports -------------------------------------------------------------------------------- */

static void messages_free(struct engine_message *message)
{
    while (message != NULL) {
        struct engine_message *next = message->next;
        mr_free(message);
        message = next;
    }
}

static void local_free(struct engine_local *local)
{
    struct engine_command *command = local->command_first;
    while (command != NULL) {
        struct engine_command *next = command->next;
        if (command->kind == ENGINE_DO_START) mr_buf_done(&command->start);
        mr_free(command);
        command = next;
    }
    messages_free(local->message_first);
    if (local->wake_fd >= 0) (void)close(local->wake_fd);
    if (local->epoll_fd >= 0) (void)close(local->epoll_fd);
    if (local->inotify_fd >= 0) (void)close(local->inotify_fd);
    (void)pthread_mutex_destroy(&local->mutex); /* nobody waits: the thread is joined */
    mr_free(local);
}

static void on_post(struct mr_post *post)
{
    struct engine_local *local =
        (struct engine_local *)((char *)post - offsetof(struct engine_local, post));
    (void)pthread_mutex_lock(&local->mutex);
    struct engine_message *message = local->message_first;
    local->message_first = NULL;
    local->message_last = &local->message_first;
    local->posted = false;
    (void)pthread_mutex_unlock(&local->mutex);
    if (local->closed) {
        messages_free(message);
        local_free(local);
        return;
    }
    while (message != NULL) {
        struct engine_message *next = message->next;
        if (local->report != NULL) local->report(local->report_arg, &message->report);
        mr_free(message);
        message = next;
    }
}

void engine_report_push(struct engine_local *local, const struct mr_engine_report *report,
                        const char *text)
{
    struct engine_message *message;
    /* A report may not be lost; memory comes back or the process does not live on. */
    while ((message = mr_alloc(sizeof *message)) == NULL)
        (void)poll(NULL, 0, 10);
    message->next = NULL;
    message->report = *report;
    (void)snprintf(message->text, sizeof message->text, "%s", text != NULL ? text : "");
    message->report.text = mr_str_from(message->text);
    (void)pthread_mutex_lock(&local->mutex);
    *local->message_last = message;
    local->message_last = &message->next;
    bool post = !local->posted;
    local->posted = true;
    (void)pthread_mutex_unlock(&local->mutex);
    if (post) local->env->ops->post(local->env, local->env->lane, &local->post);
}

/* --- open and close ------------------------------------------------------------------------- */

static int config_copy(struct engine_local *local, const struct mr_engine_local_config *config,
                       struct mr_buf *problem)
{
    char given[PATH_MAX], folder[PATH_MAX];
    if (config->home.n == 0 || config->home.n > ENGINE_HOME_BYTES_MAX ||
        config->programs.n >= PATH_MAX - 32 || config->cache_dir.n >= PATH_MAX) {
        mr_buf_printf(problem,
                      "the home's path is empty or longer than %u bytes; set MILLRACE_HOME",
                      ENGINE_HOME_BYTES_MAX);
        return MR_EINVALID;
    }
    (void)snprintf(given, sizeof given, "%.*s", MR_STR_ARG(config->home));
    int error = engine_mkdirs(given);
    if (error != 0 || realpath(given, local->home) == NULL) {
        mr_buf_printf(problem, "the home %s cannot be made: %s", given,
                      engine_errno_text(error != 0 ? -error : errno));
        return MR_EIO;
    }
    (void)snprintf(local->programs, sizeof local->programs, "%.*s", MR_STR_ARG(config->programs));
    (void)snprintf(local->cache_dir, sizeof local->cache_dir, "%.*s",
                   MR_STR_ARG(config->cache_dir));
    if (engine_path(local->supervisor, local->programs, "millrace") != 0) return MR_EINVALID;
    static const char *const names[] = {"leases", "workloads"};
    for (size_t i = 0; i < MR_COUNT_OF(names); i++) {
        if (engine_path(folder, local->home, names[i]) != 0) return MR_EINVALID;
        error = engine_mkdirs(folder);
        if (error != 0) {
            mr_buf_printf(problem, "%s cannot be made: %s", folder, engine_errno_text(-error));
            return MR_EIO;
        }
    }
    return 0;
}

static int descriptors_open(struct engine_local *local)
{
    local->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    local->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    /* Without inotify (a limit for each user) leases are looked at from time to time instead. */
    local->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (local->wake_fd < 0 || local->epoll_fd < 0) return -errno;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &local->wake_fd};
    if (epoll_ctl(local->epoll_fd, EPOLL_CTL_ADD, local->wake_fd, &event) != 0) return -errno;
    event.data.ptr = &local->inotify_fd;
    if (local->inotify_fd >= 0 &&
        epoll_ctl(local->epoll_fd, EPOLL_CTL_ADD, local->inotify_fd, &event) != 0) {
        return -errno;
    }
    return 0;
}

int mr_engine_local_open(const struct mr_engine_local_config *config, struct mr_engine **ret_engine,
                         struct mr_buf *problem)
{
    struct engine_local *local = mr_alloc_zero(sizeof *local);
    if (local == NULL) return MR_ENO_MEMORY;
    local->engine.ops = &local_ops;
    local->env = config->env;
    local->wake_fd = local->epoll_fd = local->inotify_fd = -1;
    local->command_last = &local->command_first;
    local->message_last = &local->message_first;
    local->post.fn = on_post;
    (void)pthread_mutex_init(&local->mutex, NULL); /* cannot fail on Linux without attributes */
    int error = config_copy(local, config, problem);
    if (error == 0) {
        int number = descriptors_open(local);
        if (number == 0) number = -pthread_create(&local->thread, NULL, engine_watch_main, local);
        if (number != 0) {
            mr_buf_printf(problem, "the engine cannot be started: %s", engine_errno_text(-number));
            error = MR_EIO;
        }
    }
    if (error != 0) {
        local_free(local);
        return error;
    }
    local->thread_runs = true;
    *ret_engine = &local->engine;
    return 0;
}

void mr_engine_local_close(struct mr_engine *engine)
{
    if (engine == NULL) return;
    struct engine_local *local = local_of(engine);
    command_send(local, &(struct engine_command){.kind = ENGINE_DO_END});
    (void)pthread_join(local->thread, NULL); /* ours, joined once */
    local->closed = true;
    (void)pthread_mutex_lock(&local->mutex);
    bool posted = local->posted;
    (void)pthread_mutex_unlock(&local->mutex);
    if (!posted) local_free(local); /* else the post frees it */
}

void engine_supervisor_set(struct mr_engine *engine, const char *path)
{
    struct engine_local *local = local_of(engine);
    (void)snprintf(local->supervisor, sizeof local->supervisor, "%s", path);
}

void engine_polling_force(struct mr_engine *engine)
{
    struct engine_local *local = local_of(engine);
    if (local->inotify_fd >= 0) (void)close(local->inotify_fd); /* leaves epoll with it */
    local->inotify_fd = -1;
    local->no_pidfds = true;
}

/* --- without a daemon ----------------------------------------------------------------------- */

static bool stop_one(const char *home, const char *name, uint64_t grace_us)
{
    struct engine_paths paths;
    uint64_t id;
    if (mr_str_to_u64(mr_str_from(name), &id) != 0 || id == 0) return false;
    engine_paths_lease(&paths, mr_str_from(home), (struct mr_lease_id){id});
    return engine_stop_ask(paths.lease, grace_us);
}

/* Leases with a live supervisor; asks each to stop when `ask`. */
static uint32_t count_live(const char *home, bool ask, uint64_t grace_us)
{
    char folder[PATH_MAX];
    uint32_t count = 0;
    if (engine_path(folder, home, "leases") != 0) return 0;
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    if (dir == NULL) return 0;
    while ((entry = readdir(dir)) != NULL) {
        char lease[PATH_MAX];
        if (entry->d_name[0] == '.' || engine_path(lease, folder, entry->d_name) != 0) continue;
        if (engine_lock_holder(lease) == 0) continue;
        count++;
        if (ask) (void)stop_one(home, entry->d_name, grace_us); /* counted again below */
    }
    (void)closedir(dir); /* read only */
    return count;
}

static bool spare_none(void *arg, struct mr_lease_id lease)
{
    (void)arg;
    (void)lease;
    return false;
}

int mr_engine_local_stop_all(struct mr_str home, uint64_t grace_us, uint32_t *ret_count)
{
    char given[PATH_MAX], real[PATH_MAX];
    if (home.n == 0 || home.n > ENGINE_HOME_BYTES_MAX) return MR_EINVALID;
    (void)snprintf(given, sizeof given, "%.*s", MR_STR_ARG(home));
    if (realpath(given, real) == NULL) {
        *ret_count = 0;
        return 0; /* no home, no leases */
    }
    uint32_t count = count_live(real, true, grace_us);
    /* The supervisors kill at the grace and give up 10 s later. */
    uint64_t until = engine_mono_us() + grace_us + 12000000u;
    while (count_live(real, false, 0) > 0 && engine_mono_us() < until)
        (void)poll(NULL, 0, 20);
    uint32_t left = count_live(real, false, 0);
    if (left == 0) (void)engine_orphans_kill(real, (struct mr_lease_id){0}, spare_none, NULL);
    *ret_count = count;
    return left == 0 ? 0 : MR_EIO;
}
