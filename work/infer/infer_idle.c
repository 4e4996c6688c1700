/* SPDX-License-Identifier: Apache-2.0 */
/* Measures settings in a child process while no request wants this machine.
 *
 * The worker serves at once with the model as shipped. Once nothing has come for a while, a child
 * (`millrace-infer --tune`, the lowest priority there is) converts and measures; a request stops it
 * (SIGSTOP) and silence lets it go on. It measures CPU time, which pauses do not touch. Its result
 * lies in the cache folder; the loop then takes it over while idle.
 *
 * Owns:       the child.
 * Invariants: (1) at most one child; (2) a child never outlives the worker (parent-death signal).
 * Thread:     the worker's only one.
 * Fails:      silently: the model as shipped is always good enough to serve.
 * Ends:       infer_idle_end.
 */
#include "infer_loop.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define QUIET_BEFORE_START_US  (15u * 1000000u)
#define QUIET_BEFORE_RESUME_US (500u * 1000u)
#define ARGS_MAX               16u

extern char **environ;

void infer_idle_init(struct infer_loop *loop)
{
    const struct infer_config *config = &loop->engine->config;
    bool room = config->mem_mib == 0 || config->mem_mib >= INFER_TUNE_MIB_MIN;
    bool wanted = !config->no_tune && room && config->cache_dir != NULL &&
                  !loop->engine->model.choice.measured;
    loop->idle = (struct infer_idle){
        .state = wanted ? INFER_IDLE_WAITS : INFER_IDLE_OFF,
        .quiet_since_us = infer_now_us(),
    };
}

static bool child_start(struct infer_loop *loop)
{
    const struct infer_config *config = &loop->engine->config;
    char threads[16];
    char slots[16];
    char bound[32];
    (void)snprintf(threads, sizeof(threads), "%u", config->threads);
    (void)snprintf(slots, sizeof(slots), "%u", config->slots);
    (void)snprintf(bound, sizeof(bound), "%.6f", config->quality_bound);
    const char *args[ARGS_MAX] = {"millrace-infer",
                                  "--tune",
                                  "--background",
                                  "--model",
                                  config->model,
                                  "--cache-dir",
                                  config->cache_dir,
                                  "--threads",
                                  threads,
                                  "--slots",
                                  slots,
                                  "--quality-bound",
                                  bound};
    size_t n = 13; /* adapters change neither the speed nor the loss by much */
    if (config->no_convert) {
        args[n] = "--no-convert";
    }
    posix_spawnattr_t attributes;
    if (posix_spawnattr_init(&attributes) != 0) return false;
    sigset_t none;
    (void)sigemptyset(&none); /* cannot fail */
    (void)posix_spawnattr_setsigmask(&attributes, &none);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    /* posix_spawn does not write to what it is given. */
    int rc = posix_spawn(&loop->idle.child, "/proc/self/exe", NULL, &attributes,
                         (char *const *)(uintptr_t)args, environ);
    (void)posix_spawnattr_destroy(&attributes);
    return rc == 0;
}

/* true when the child is gone. */
static bool child_reaped(struct infer_loop *loop)
{
    int status = 0;
    pid_t pid = waitpid(loop->idle.child, &status, WNOHANG);
    return pid == loop->idle.child || (pid < 0 && errno == ECHILD);
}

bool infer_idle_turn(struct infer_loop *loop, uint64_t now_us, bool busy)
{
    struct infer_idle *idle = &loop->idle;
    if (busy) {
        idle->quiet_since_us = now_us;
    }
    uint64_t quiet_us = now_us - idle->quiet_since_us;
    bool child = idle->state == INFER_IDLE_RUNS || idle->state == INFER_IDLE_PAUSED;
    if (child && child_reaped(loop)) {
        idle->state = INFER_IDLE_DONE;
        idle->child = 0;
        return true;
    }
    if (idle->state == INFER_IDLE_WAITS && quiet_us >= QUIET_BEFORE_START_US) {
        idle->state = child_start(loop) ? INFER_IDLE_RUNS : INFER_IDLE_OFF;
    } else if (idle->state == INFER_IDLE_RUNS && busy) {
        idle->state = INFER_IDLE_PAUSED;
        (void)kill(idle->child, SIGSTOP); /* gone already: the next turn sees it */
    } else if (idle->state == INFER_IDLE_PAUSED && quiet_us >= QUIET_BEFORE_RESUME_US) {
        idle->state = INFER_IDLE_RUNS;
        (void)kill(idle->child, SIGCONT);
    }
    return false;
}

int infer_idle_timeout_ms(const struct infer_loop *loop, uint64_t now_us)
{
    uint64_t wait_us = 0;
    switch (loop->idle.state) {
    case INFER_IDLE_WAITS:
        wait_us = QUIET_BEFORE_START_US;
        break;
    case INFER_IDLE_PAUSED:
        wait_us = QUIET_BEFORE_RESUME_US;
        break;
    default:
        return -1; /* the child's end comes as a signal */
    }
    uint64_t due_us = loop->idle.quiet_since_us + wait_us;
    return due_us <= now_us ? 0 : (int)((due_us - now_us) / 1000 + 1);
}

void infer_idle_end(struct infer_loop *loop)
{
    if (loop->idle.child <= 0) {
        return;
    }
    (void)kill(loop->idle.child, SIGKILL);
    (void)waitpid(loop->idle.child, NULL, 0);
    loop->idle = (struct infer_idle){.state = INFER_IDLE_OFF};
}
