/* SPDX-License-Identifier: Apache-2.0 */
/* Puts sockets on the engine: listens, reads, steps, writes, and stops when asked to.
 *
 * Owns:       the listening socket, the signal descriptor, the connections, the engine.
 * Invariants: (1) RUN_DIR/ready exists only after the model is loaded and the socket answers;
 *             (2) sockets are looked at between any two rounds and while the model loads, so that
 *             a cancel takes effect before the next token; (3) after SIGTERM nothing new is taken,
 *             every request that was taken still gets its END.
 * Thread:     the worker's only one; signals come as reads of a descriptor.
 * Fails:      with one line on stderr.
 * Ends:       infer_loop_run, on every path.
 * Idea:       work/infer/README.md, "The loop".  Tests: tests/it/infer
 */
#include "infer_loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define STATS_EVERY_US     1000000u
#define STATS_AFTER_END_US 20000u /* several ends at once share one STATS */
#define LOAD_POLL_US       20000u
#define SETTLE_WAIT_US     1000000u /* at the end: for gates to settle, then the file has to do */
#define SWAP_BYTES_MAX     (2ull << 30) /* a larger model loads too long for a swap under way */

/* --- start ---------------------------------------------------------------------------------- */

static int listen_on(const char *path, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n >= sizeof(address.sun_path)) {
        (void)fprintf(stderr,
                      "millrace-infer: socket %s: the path is longer than %zu bytes; use a "
                      "shorter one\n",
                      path, sizeof(address.sun_path) - 1);
        return MR_EINVALID;
    }
    memcpy(address.sun_path, path, n + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return MR_EIO;
    /* An older worker's socket of the same name is dead: a lease is never started twice. */
    (void)unlink(path);
    mode_t old = umask(0177);
    int rc = bind(fd, (struct sockaddr *)&address, sizeof(address));
    (void)umask(old);
    if (rc != 0 || listen(fd, 64) != 0) {
        (void)fprintf(stderr, "millrace-infer: socket %s: %s; check its folder and its rights\n",
                      path, strerror(errno));
        (void)close(fd);
        return MR_EIO;
    }
    *ret_fd = fd;
    return 0;
}

static int signals_open(int *ret_fd)
{
    sigset_t set;
    (void)sigemptyset(&set); /* these cannot fail for signals that exist */
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) return MR_EIO;
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) return MR_EIO;
    *ret_fd = fd;
    return 0;
}

static void ready_write(const struct infer_config *config)
{
    if (config->run_dir == NULL) {
        return;
    }
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/ready", config->run_dir);
    int fd =
        n < 0 || (size_t)n >= sizeof(path) ? -1 : open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        (void)fprintf(stderr,
                      "millrace-infer: %s: %s; nobody will know that this worker is ready\n", path,
                      strerror(errno));
        return;
    }
    (void)close(fd); /* empty */
}

/* --- one turn ------------------------------------------------------------------------------- */

static void hello_all(struct infer_loop *loop)
{
    for (int i = 0; i < (int)INFER_CONNS_MAX; i++) {
        if (loop->conns[i].used) {
            infer_conn_hello(loop, &loop->conns[i]);
        }
    }
}

static void stop_begin(struct infer_loop *loop)
{
    if (loop->stopping) {
        return;
    }
    loop->stopping = true;
    loop->stop_us = infer_now_us() + (uint64_t)loop->engine->config.grace_ms * 1000u;
    infer_idle_end(loop);
    hello_all(loop);
}

static void signals_read(struct infer_loop *loop)
{
    struct signalfd_siginfo info;
    while (read(loop->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
            stop_begin(loop);
        }
    }
}

static void accept_all(struct infer_loop *loop)
{
    for (;;) {
        int fd = accept4(loop->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED) continue;
            return; /* nobody waits, or no descriptor is free: then the next turn tries again */
        }
        int index = 0;
        while (index < (int)INFER_CONNS_MAX && loop->conns[index].used) {
            index++;
        }
        if (index == (int)INFER_CONNS_MAX) {
            (void)close(fd); /* INFER_CONNS_MAX gates are connected */
            continue;
        }
        infer_conn_open(loop, index, fd);
    }
}

static void write_all(struct infer_loop *loop)
{
    for (int i = 0; i < (int)INFER_CONNS_MAX; i++) {
        struct infer_conn *conn = &loop->conns[i];
        if (conn->used && (infer_conn_unsent(conn) > 0 || conn->out.failed) &&
            !infer_conn_write(conn)) {
            (void)infer_conn_read(loop, i); /* it may have settled something before it went */
            infer_conn_close(loop, i);
        }
    }
}

/* Waits at most `timeout_ms` for news of sockets and signals, and handles it. */
static void turn(struct infer_loop *loop, int timeout_ms)
{
    struct pollfd polls[INFER_CONNS_MAX + 2];
    int owners[INFER_CONNS_MAX + 2];
    nfds_t count = 0;
    polls[count++] = (struct pollfd){.fd = loop->signal_fd, .events = POLLIN};
    polls[count++] = (struct pollfd){.fd = loop->listen_fd, .events = POLLIN};
    for (int i = 0; i < (int)INFER_CONNS_MAX; i++) {
        const struct infer_conn *conn = &loop->conns[i];
        if (conn->used) {
            bool unsent = infer_conn_unsent(conn) > 0;
            owners[count] = i;
            polls[count++] =
                (struct pollfd){.fd = conn->fd, .events = (short)(POLLIN | (unsent ? POLLOUT : 0))};
        }
    }
    loop->polled_us = infer_now_us();
    if (poll(polls, count, timeout_ms) <= 0) {
        return;
    }
    if (polls[0].revents != 0) {
        signals_read(loop);
    }
    for (nfds_t i = 2; i < count; i++) {
        int index = owners[i];
        if ((polls[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0 &&
            !infer_conn_read(loop, index)) {
            infer_conn_close(loop, index);
        }
    }
    if (polls[1].revents != 0) {
        accept_all(loop);
    }
    write_all(loop);
}

static void stats_turn(struct infer_loop *loop, uint64_t now_us)
{
    uint64_t since_us = now_us - loop->stats_us;
    if (since_us < (loop->stats_wanted ? STATS_AFTER_END_US : STATS_EVERY_US)) {
        return;
    }
    loop->stats_us = now_us;
    loop->stats_wanted = false;
    struct mr_wire_stats stats;
    infer_engine_stats(loop->engine, &stats);
    for (int i = 0; i < (int)INFER_CONNS_MAX; i++) {
        if (loop->conns[i].used) {
            infer_conn_stats(&loop->conns[i], &stats);
        }
    }
}

static int timeout_get(const struct infer_loop *loop, uint64_t now_us)
{
    uint64_t every_us = loop->stats_wanted ? STATS_AFTER_END_US : STATS_EVERY_US;
    uint64_t due_us = loop->stats_us + every_us;
    int wait_ms = due_us <= now_us ? 0 : (int)((due_us - now_us) / 1000 + 1);
    int idle_ms = infer_idle_timeout_ms(loop, now_us);
    wait_ms = idle_ms >= 0 ? MR_MIN(wait_ms, idle_ms) : wait_ms;
    return loop->stopping ? MR_MIN(wait_ms, 20) : wait_ms;
}

/* --- loading -------------------------------------------------------------------------------- */

/* Gates may connect and ask while the weights are read; false gives the loading up. */
static bool load_progress(float done, void *context)
{
    struct infer_loop *loop = context;
    loop->load_permille = (uint32_t)(done * 1000.0f);
    if (infer_now_us() - loop->polled_us >= LOAD_POLL_US) {
        turn(loop, 0);
    }
    return !loop->stopping;
}

/* While idle: goes over to what was measured; back to the model as shipped if that fails. */
static void choice_swap(struct infer_loop *loop)
{
    struct infer_engine *engine = loop->engine;
    struct infer_choice choice;
    infer_tune_choice(&engine->config, &choice);
    if (!choice.measured || choice.file_bytes > SWAP_BYTES_MAX) {
        return; /* at the next start */
    }
    struct infer_choice before = engine->model.choice;
    if (infer_engine_reload(engine, &choice) != 0 && infer_engine_reload(engine, &before) != 0) {
        loop->broken = true;
        return;
    }
    (void)fprintf(stderr, "millrace-infer: now with %s\n", engine->model.choice.summary);
    hello_all(loop);
}

/* --- the loop ------------------------------------------------------------------------------- */

/* true when everything that was taken has its END and the gates know it. */
static bool stop_done(struct infer_loop *loop, uint64_t now_us)
{
    struct infer_engine *engine = loop->engine;
    if (engine->running + engine->waiting > 0) {
        if (now_us < loop->stop_us) return false;
        for (size_t i = 0; i < MR_WIRE_UNSETTLED_MAX; i++) {
            if (engine->requests[i].used) {
                infer_engine_cancel(engine, &engine->requests[i]);
            }
        }
    }
    write_all(loop);
    bool connected = false;
    for (size_t i = 0; i < INFER_CONNS_MAX; i++) {
        connected |= loop->conns[i].used;
    }
    /* What nobody settles is in the meter file. */
    return engine->meter.used == 0 || !connected || now_us >= loop->stop_us + SETTLE_WAIT_US;
}

static void serve(struct infer_loop *loop)
{
    struct infer_engine *engine = loop->engine;
    bool swap = false;
    for (;;) {
        bool progress = infer_engine_step(engine);
        uint64_t now_us = infer_now_us();
        bool busy = engine->running + engine->waiting > 0;
        if (!loop->stopping) {
            swap |= infer_idle_turn(loop, now_us, busy);
            if (swap && !busy) {
                swap = false;
                choice_swap(loop);
            }
        }
        stats_turn(loop, now_us);
        write_all(loop);
        turn(loop, progress ? 0 : timeout_get(loop, now_us));
        if (loop->broken || (loop->stopping && stop_done(loop, infer_now_us()))) {
            return;
        }
    }
}

static int loop_open(struct infer_loop *loop, const struct infer_config *config)
{
    struct infer_sink sink = {.tokens = infer_conn_sink_tokens,
                              .end = infer_conn_sink_end,
                              .can_take = infer_conn_sink_can_take,
                              .context = loop};
    int error = signals_open(&loop->signal_fd);
    if (error == 0) {
        error = infer_engine_new(config, &sink, &loop->engine);
    }
    if (error != 0) {
        (void)fprintf(stderr, "millrace-infer: cannot start: %s%s%s\n", mr_error_text(error),
                      config->run_dir != NULL ? "; is this folder writable: " : "",
                      config->run_dir != NULL ? config->run_dir : "");
        return error;
    }
    return listen_on(config->socket, &loop->listen_fd);
}

static void loop_close(struct infer_loop *loop)
{
    infer_idle_end(loop);
    for (int i = 0; i < (int)INFER_CONNS_MAX && loop->engine != NULL; i++) {
        infer_conn_close(loop, i);
    }
    if (loop->listen_fd >= 0) {
        (void)unlink(loop->engine->config.socket);
        (void)close(loop->listen_fd);
    }
    if (loop->signal_fd >= 0) {
        (void)close(loop->signal_fd);
    }
    infer_engine_free(loop->engine);
    mr_free(loop);
}

int infer_loop_run(const struct infer_config *config, const struct infer_choice *choice)
{
    struct infer_loop *loop = mr_alloc_zero(sizeof(*loop));
    if (loop == NULL) return MR_ENO_MEMORY;
    loop->listen_fd = -1;
    loop->signal_fd = -1;
    int error = loop_open(loop, config);
    if (error == 0) {
        error = infer_engine_load(loop->engine, choice, load_progress, loop);
    }
    if (error == 0) {
        ready_write(config);
        hello_all(loop);
        infer_idle_init(loop);
        (void)fprintf(stderr, "millrace-infer: %s ready on %s, %s\n", config->name, config->socket,
                      loop->engine->model.choice.summary);
        serve(loop);
        error = loop->broken ? MR_EINTERNAL : 0;
    } else if (loop->stopping) {
        error = 0; /* asked to stop while loading */
    }
    loop_close(loop);
    return error;
}
