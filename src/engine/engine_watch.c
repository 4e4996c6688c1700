/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's thread: commands in, events of supervisors and folders in, reports out.
 *
 * Sleeps in epoll on three things: an eventfd (commands), inotify (a lease's folder and its run's
 * folder), and one pidfd for each supervisor. Nothing is polled, except leases for which the user's
 * inotify watches were used up.
 *
 * Invariants: (1) a lease is in the table of its id once, and in those of its watches iff they are
 *                 set;
 *             (2) ENDED leases have neither pidfd nor watches.
 * Thread:     this one alone touches leases.
 * Cost:       O(1) for each event.
 */
#include "engine/engine_local_int.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

#define EVENTS_MAX     64
#define POLLED_LOOK_MS 250

static size_t bucket(uint64_t key)
{
    return (size_t)(mr_hash_mix(key) % ENGINE_BUCKETS);
}

struct engine_lease *engine_lease_find(struct engine_local *local, struct mr_lease_id id)
{
    struct engine_lease *lease = local->by_id[bucket(id.v)];
    while (lease != NULL && lease->id.v != id.v)
        lease = lease->next_id;
    return lease;
}

struct engine_lease *engine_lease_add(struct engine_local *local, struct mr_lease_id id)
{
    MR_INVARIANT(1, engine_lease_find(local, id) == NULL);
    struct engine_lease *lease = mr_alloc_zero(sizeof *lease);
    if (lease == NULL) return NULL;
    lease->id = id;
    lease->pidfd = lease->lease_wd = lease->run_wd = -1;
    lease->next_id = local->by_id[bucket(id.v)];
    local->by_id[bucket(id.v)] = lease;
    engine_paths_lease(&lease->paths, mr_str_from(local->home), id);
    return lease;
}

void engine_lease_drop(struct engine_local *local, struct engine_lease *lease)
{
    engine_lease_unwatch(local, lease);
    engine_lease_pidfd_set(local, lease, -1);
    struct engine_lease **link = &local->by_id[bucket(lease->id.v)];
    while (*link != lease)
        link = &(*link)->next_id;
    *link = lease->next_id;
    mr_free(lease);
}

void engine_lease_pidfd_set(struct engine_local *local, struct engine_lease *lease, int pidfd)
{
    if (lease->pidfd >= 0) (void)close(lease->pidfd); /* leaves epoll with it */
    lease->pidfd = pidfd;
    if (pidfd < 0) return;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = lease};
    if (epoll_ctl(local->epoll_fd, EPOLL_CTL_ADD, pidfd, &event) != 0)
        engine_lease_poll(local, lease);
}

/* Out of watches or descriptors: it is looked at from time to time instead. */
void engine_lease_poll(struct engine_local *local, struct engine_lease *lease)
{
    if (!lease->polled) local->polled_count++;
    lease->polled = true;
}

/* Has a supervisor ended that no pidfd tells of? */
static bool is_gone(const struct engine_lease *lease)
{
    if (lease->pidfd >= 0) return false;
    if (lease->child > 0) return waitpid(lease->child, NULL, WNOHANG) != 0;
    return engine_lock_holder(lease->paths.lease) == 0;
}

/* --- inotify -------------------------------------------------------------------------------- */

void engine_lease_watch(struct engine_local *local, struct engine_lease *lease)
{
    uint32_t mask = IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE | IN_ONLYDIR;
    if (lease->lease_wd < 0 && local->inotify_fd >= 0) {
        lease->lease_wd = inotify_add_watch(local->inotify_fd, lease->paths.lease, mask);
        if (lease->lease_wd >= 0) {
            size_t at = bucket((uint64_t)lease->lease_wd);
            lease->next_lease_wd = local->by_lease_wd[at];
            local->by_lease_wd[at] = lease;
        }
    }
    if (lease->run_wd < 0 && local->inotify_fd >= 0 && lease->paths.run[0] != 0) {
        lease->run_wd = inotify_add_watch(local->inotify_fd, lease->paths.run, mask);
        if (lease->run_wd >= 0) {
            size_t at = bucket((uint64_t)lease->run_wd);
            lease->next_run_wd = local->by_run_wd[at];
            local->by_run_wd[at] = lease;
        }
    }
    if (lease->lease_wd < 0 || lease->run_wd < 0) engine_lease_poll(local, lease);
}

void engine_lease_unwatch(struct engine_local *local, struct engine_lease *lease)
{
    if (lease->lease_wd >= 0) {
        struct engine_lease **link = &local->by_lease_wd[bucket((uint64_t)lease->lease_wd)];
        while (*link != lease)
            link = &(*link)->next_lease_wd;
        *link = lease->next_lease_wd;
        (void)inotify_rm_watch(local->inotify_fd,
                               lease->lease_wd); /* gone with the folder, maybe */
        lease->lease_wd = -1;
    }
    if (lease->run_wd >= 0) {
        bool shared = false;
        struct engine_lease **link = &local->by_run_wd[bucket((uint64_t)lease->run_wd)];
        for (struct engine_lease *l = *link; l != NULL; l = l->next_run_wd) {
            shared = shared || (l != lease && l->run_wd == lease->run_wd);
        }
        while (*link != lease)
            link = &(*link)->next_run_wd;
        *link = lease->next_run_wd;
        /* Leases of one run share a folder and so a watch. */
        if (!shared) (void)inotify_rm_watch(local->inotify_fd, lease->run_wd);
        lease->run_wd = -1;
    }
    if (lease->polled) local->polled_count--;
    lease->polled = false;
}

static bool is_news(const char *name)
{
    return strcmp(name, "started") == 0 || strcmp(name, "ready") == 0 ||
           strcmp(name, "progress.json") == 0;
}

static void folder_changed(struct engine_local *local, int wd)
{
    struct engine_lease *lease = local->by_lease_wd[bucket((uint64_t)wd)], *next;
    for (; lease != NULL; lease = next) {
        next = lease->next_lease_wd;
        if (lease->lease_wd == wd) engine_lease_look(local, lease);
    }
    lease = local->by_run_wd[bucket((uint64_t)wd)];
    for (; lease != NULL; lease = next) {
        next = lease->next_run_wd;
        if (lease->run_wd == wd) engine_lease_look(local, lease);
    }
}

static void look_at_all(struct engine_local *local, bool polled_only)
{
    for (size_t i = 0; i < ENGINE_BUCKETS; i++) {
        struct engine_lease *next;
        for (struct engine_lease *lease = local->by_id[i]; lease != NULL; lease = next) {
            next = lease->next_id;
            if (lease->state == ENGINE_LEASE_ENDED || (polled_only && !lease->polled)) continue;
            engine_lease_look(local, lease);
            if (lease->polled && is_gone(lease)) engine_lease_supervisor_gone(local, lease);
        }
    }
}

static void inotify_take(struct engine_local *local)
{
    _Alignas(struct inotify_event) char bytes[16384];
    ssize_t n;
    while ((n = read(local->inotify_fd, bytes, sizeof bytes)) > 0) {
        for (size_t at = 0; at < (size_t)n;) {
            const struct inotify_event *event = (const struct inotify_event *)(bytes + at);
            at += sizeof *event + event->len;
            if ((event->mask & IN_Q_OVERFLOW) != 0) {
                look_at_all(local, false);
            } else if (event->len > 0 && is_news(event->name)) {
                folder_changed(local, event->wd);
            }
        }
    }
}

/* --- commands ------------------------------------------------------------------------------- */

/* False at the last one. */
static bool command_run(struct engine_local *local, struct engine_command *command)
{
    switch (command->kind) {
    case ENGINE_DO_START:
        engine_lease_start(local, command->lease, &command->start);
        mr_buf_done(&command->start);
        return true;
    case ENGINE_DO_ADOPT:
        engine_lease_adopt(local, command->lease);
        return true;
    case ENGINE_DO_STOP:
        engine_lease_stop(local, command->lease, command->grace_us);
        return true;
    case ENGINE_DO_FORGET:
        engine_lease_forget(local, command->lease);
        return true;
    case ENGINE_DO_SWEEP:
        engine_lease_sweep(local);
        return true;
    case ENGINE_DO_END:
        break;
    }
    return false;
}

static bool commands_take(struct engine_local *local)
{
    uint64_t count;
    bool go_on = true;
    (void)!read(local->wake_fd, &count,
                sizeof count); /* empties it; the queue says what there is */
    (void)pthread_mutex_lock(&local->mutex);
    struct engine_command *command = local->command_first;
    local->command_first = NULL;
    local->command_last = &local->command_first;
    (void)pthread_mutex_unlock(&local->mutex);
    while (command != NULL) {
        struct engine_command *next = command->next;
        if (go_on) go_on = command_run(local, command);
        mr_free(command);
        command = next;
    }
    return go_on;
}

void *engine_watch_main(void *arg)
{
    struct engine_local *local = arg;
    struct epoll_event events[EVENTS_MAX];
    sigset_t all;
    /* Signals are for the lane's thread. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (bool go_on = true; go_on;) {
        int n = epoll_wait(local->epoll_fd, events, EVENTS_MAX,
                           local->polled_count > 0 ? POLLED_LOOK_MS : -1);
        bool woken = false, folders = false;
        /* Supervisors first: their leases may be dropped by commands, never by each other. */
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &local->wake_fd) {
                woken = true;
            } else if (events[i].data.ptr == &local->inotify_fd) {
                folders = true;
            } else {
                engine_lease_supervisor_gone(local, events[i].data.ptr);
            }
        }
        if (folders) inotify_take(local);
        if (local->polled_count > 0) look_at_all(local, true);
        if (woken) go_on = commands_take(local);
    }
    for (size_t i = 0; i < ENGINE_BUCKETS; i++) {
        while (local->by_id[i] != NULL)
            engine_lease_drop(local, local->by_id[i]);
    }
    return NULL;
}
