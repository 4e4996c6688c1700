/* SPDX-License-Identifier: Apache-2.0 */
/* See engine_world.h.
 *
 * Owns:   one temporary home for each world, removed with everything that runs in it.
 * Thread: the test's; the engine posts from its own.
 */
#include "engine_world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define WAIT_US 30000000u

static uint64_t env_now(struct mr_env *env)
{
    (void)env;
    return engine_wall_us();
}

static void env_post(struct mr_env *env, uint32_t lane, struct mr_post *post)
{
    struct world *world = (struct world *)env;
    assert_int_equal(lane, 0);
    pthread_mutex_lock(&world->mutex);
    post->next = NULL;
    *world->last = post;
    world->last = &post->next;
    pthread_cond_signal(&world->more);
    pthread_mutex_unlock(&world->mutex);
}

static const struct mr_env_ops env_ops = {.now_us = env_now, .post = env_post};

static void on_report(void *arg, const struct mr_engine_report *report)
{
    struct world *world = arg;
    assert_true(world->report_count < WORLD_REPORTS_MAX);
    struct world_report *copy = &world->reports[world->report_count++];
    copy->r = *report;
    assert_true(report->text.n < sizeof copy->text);
    memcpy(copy->text, report->text.p, report->text.n);
    copy->text[report->text.n] = 0;
}

/* Runs what is posted, or waits for it up to the time. */
static void run_posts(struct world *world, uint64_t until_us)
{
    struct timespec until = {.tv_sec = (time_t)(until_us / 1000000u),
                             .tv_nsec = (long)(until_us % 1000000u) * 1000};
    pthread_mutex_lock(&world->mutex);
    if (world->first == NULL) (void)pthread_cond_timedwait(&world->more, &world->mutex, &until);
    struct mr_post *post = world->first;
    world->first = NULL;
    world->last = &world->first;
    pthread_mutex_unlock(&world->mutex);
    while (post != NULL) {
        struct mr_post *next = post->next;
        post->fn(post);
        post = next;
    }
}

void world_pump(struct world *world, unsigned ms)
{
    uint64_t until = engine_wall_us() + (uint64_t)ms * 1000;
    while (engine_wall_us() < until)
        run_posts(world, until);
}

struct world_report *world_wait(struct world *world, enum mr_engine_report_kind kind,
                                uint64_t lease, size_t from)
{
    uint64_t until = engine_wall_us() + WAIT_US;
    for (;;) {
        for (; from < world->report_count; from++) {
            struct world_report *report = &world->reports[from];
            if (report->r.kind == kind && report->r.lease.v == lease) return report;
        }
        if (engine_wall_us() >= until) return NULL;
        run_posts(world, until);
    }
}

struct world_report *world_end(struct world *world, uint64_t lease)
{
    struct world_report *end = world_wait(world, MR_ENGINE_EXITED, lease, 0);
    if (end == NULL) fail_msg("lease %llu did not end", (unsigned long long)lease);
    return end;
}

size_t world_count(const struct world *world, enum mr_engine_report_kind kind, uint64_t lease)
{
    size_t count = 0;
    for (size_t i = 0; i < world->report_count; i++) {
        const struct mr_engine_report *r = &world->reports[i].r;
        if (r->kind == kind && r->lease.v == lease) count++;
    }
    return count;
}

void world_open(struct world *world)
{
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    const char *programs = world->programs != NULL ? world->programs : TEST_PROGRAMS;
    mr_buf_init(&problem, 4096);
    struct mr_engine_local_config config = {.env = &world->env,
                                            .home = mr_str_from(world->home),
                                            .programs = mr_str_from(programs),
                                            .cache_dir = MR_STR("/tmp")};
    int error = mr_engine_local_open(&config, &world->engine, &problem);
    if (error != 0) fail_msg("engine: %.*s", MR_STR_ARG(mr_buf_str(&problem)));
    engine_supervisor_set(world->engine, TEST_SUPERVISOR);
    world->engine->ops->watch(world->engine, on_report, world);
}

void world_close(struct world *world)
{
    mr_engine_local_close(world->engine);
    world->engine = NULL;
    while (world->first != NULL)
        run_posts(world, 0); /* the post that frees it */
}

struct world *world_new(void)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->env = (struct mr_env){.ops = &env_ops, .lane = 0, .lane_count = 1};
    pthread_mutex_init(&world->mutex, NULL);
    pthread_cond_init(&world->more, NULL);
    world->last = &world->first;
    snprintf(world->home, sizeof world->home, "/tmp/mr-engine-XXXXXX");
    assert_non_null(mkdtemp(world->home));
    world_open(world);
    return world;
}

void world_free(struct world *world)
{
    uint32_t count;
    if (world->engine != NULL) world_close(world);
    assert_int_equal(mr_engine_local_stop_all(mr_str_from(world->home), 0, &count), 0);
    assert_int_equal(world_processes(world), 0);
    engine_tree_remove(world->home);
    pthread_mutex_destroy(&world->mutex);
    pthread_cond_destroy(&world->more);
    free(world);
}

struct mr_engine_start world_order(uint64_t lease)
{
    return (struct mr_engine_start){.lease = {lease},
                                    .workload = {lease},
                                    .node = {1},
                                    .run = 1,
                                    .tasks = 1,
                                    .world_size = 1,
                                    .node_count = 1,
                                    .cpu_milli = 1000};
}

void world_sh_order(struct world *world, struct mr_engine_start start, const char *script)
{
    struct mr_str argv[] = {MR_STR("/bin/sh"), MR_STR("-c"), mr_str_from(script)};
    start.argv = argv;
    start.argv_count = 3;
    world->engine->ops->start(world->engine, &start);
}

void world_sh(struct world *world, uint64_t lease, const char *script)
{
    world_sh_order(world, world_order(lease), script);
}

void world_path(struct world *world, char ret[PATH_MAX], const char *format, ...)
{
    va_list args;
    int n = snprintf(ret, PATH_MAX, "%s/", world->home);
    va_start(args, format);
    vsnprintf(ret + n, PATH_MAX - (size_t)n, format, args);
    va_end(args);
}

const char *world_file(struct world *world, uint64_t workload, const char *name)
{
    static char text[1 << 20];
    char path[PATH_MAX];
    world_path(world, path, "workloads/%llu/run-1/%s", (unsigned long long)workload, name);
    if (access(path, F_OK) != 0) {
        world_path(world, path, "workloads/%llu/%s", (unsigned long long)workload, name);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return "";
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    return text;
}

size_t world_lines(struct world *world, uint64_t workload, const char *name)
{
    size_t count = 0;
    for (const char *p = world_file(world, workload, name); *p != 0; p++)
        count += *p == '\n';
    return count;
}

bool world_file_wait(struct world *world, uint64_t workload, const char *name)
{
    uint64_t until = engine_wall_us() + WAIT_US;
    while (engine_wall_us() < until) {
        if (world_file(world, workload, name)[0] != 0) return true;
        world_pump(world, 5);
    }
    return false;
}

/* Processes of which /proc/PID/FILE holds both texts. */
static unsigned processes_with(const char *file, const char *a, const char *b)
{
    DIR *dir = opendir("/proc");
    const struct dirent *entry;
    unsigned count = 0;
    static char text[1 << 20];
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        char path[320];
        snprintf(path, sizeof path, "/proc/%s/%s", entry->d_name, file);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) continue;
        ssize_t got = read(fd, text, sizeof text);
        close(fd);
        if (got > 0 && memmem(text, (size_t)got, a, strlen(a)) != NULL &&
            memmem(text, (size_t)got, b, strlen(b)) != NULL) {
            count++;
        }
    }
    closedir(dir);
    return count;
}

unsigned world_processes(struct world *world)
{
    char home[160];
    snprintf(home, sizeof home, "MILLRACE_RUN_DIR=%s/", world->home);
    return processes_with("environ", home, "");
}

unsigned world_processes_of(struct world *world, const char *word)
{
    return processes_with("cmdline", word, world->home);
}

pid_t world_supervisor(struct world *world, uint64_t lease)
{
    char path[PATH_MAX];
    world_path(world, path, "leases/%llu", (unsigned long long)lease);
    return engine_lock_holder(path);
}
