/* SPDX-License-Identifier: Apache-2.0 */
/* `bench gate`: the whole way of a chat through the real ctl and gate, beside a proxy that does
 * nothing but pass bytes.
 *
 * One gate lane, ctl on its own; keys, routing, queue, load signals and metering are on, the
 * journal lies in memory. Behind it a mock worker speaks the wire; behind the bare proxy a mock
 * server speaks HTTP. Both answer at once, with answers of the same size, and the same clients
 * drive both, in rounds by turns. The proxy is nginx when it is installed, else sixty lines on our
 * own loop.
 *
 * Owns:   its threads, sockets and folder, for the length of the call.
 * Thread: mocks and clients have one each; what they share is atomic.
 * Fails:  when a socket cannot be made; a part that cannot be measured says so in its bar.
 * Ends:   bench_gate.
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench_gate.h"

#define LATENCIES_MAX  (1u << 20)
#define STREAMS_WANTED 10000u
#define STREAM_GOAL_B  20480.0
#define READY_MS_MAX   10000u
#define ROUNDS         5u

/* --- setting up, on lane 0 ------------------------------------------------------------------- */

static const struct {
    enum mr_ctl_op op;
    const char *body;
} steps[] = {
    {MR_CTL_TENANT_SET, "{\"name\":\"bench\"}"},
    {MR_CTL_KEY_NEW, "{\"tenant\":\"bench\",\"role\":\"user\"}"},
    {MR_CTL_TENANT_SET, "{\"name\":\"other\"}"},
    /* A service is its tenant's own; an administrator's key may call it all the same. */
    {MR_CTL_KEY_NEW, "{\"tenant\":\"other\",\"role\":\"admin\"}"},
    {MR_CTL_NODE_SET, "{\"id\":1,\"cpu_milli\":64000,\"mem_mib\":65536}"},
    {MR_CTL_SUBMIT, "{\"kind\":\"service\",\"tenant\":\"bench\",\"name\":\"mock\",\"replicas\":1,"
                    "\"resources\":{\"cpus\":1,\"memory\":\"64MiB\"},"
                    "\"infer\":{\"served_name\":\"mock\",\"model\":\"/nowhere/mock.gguf\"}}"},
};

static void step_send(struct bench_world *w);

static void step_done(struct mr_ctl_call *call)
{
    struct bench_world *w = call->arg;
    struct mr_str out = mr_buf_str(&call->out);
    if (call->error != 0) {
        (void)fprintf(stderr, "bench gate: step %u: %.*s\n", w->step, MR_STR_ARG(call->problem));
        bench_flag_set(&w->failed);
    }
    const char *key =
        call->op == MR_CTL_KEY_NEW && out.n > 8 ? memmem(out.p, out.n, "\"key\":\"", 7) : NULL;
    if (key != NULL) {
        key += 7;
        size_t left = out.n - (size_t)(key - out.p), n = 0;
        while (n < left && key[n] != '"' && n + 1 < sizeof w->keys[0])
            n++;
        memcpy(w->keys[w->key_count++], key, n);
    }
    mr_buf_done(&call->out);
    mr_buf_done(&call->out_text);
    if (bench_flag_get(&w->failed)) return;
    if (++w->step < MR_COUNT_OF(steps)) {
        step_send(w);
    } else {
        bench_flag_set(&w->ready);
    }
}
static void step_send(struct bench_world *w)
{
    w->call = (struct mr_ctl_call){.ctl = w->ctl,
                                   .op = steps[w->step].op,
                                   .reply_lane = 0,
                                   .done = step_done,
                                   .arg = w,
                                   .admin = true,
                                   .body = mr_str_from(steps[w->step].body)};
    mr_ctl_call(mr_loop_env(w->loop, 0), &w->call);
}
static void step_first(struct mr_post *post)
{
    step_send(BENCH_WORLD_OF(post, step_post));
}

/* --- clients --------------------------------------------------------------------------------- */

struct client {
    int fd;
    uint64_t sent_ns;
    size_t n;
    char in[4096];
};
struct drive {
    uint64_t requests;
    uint64_t elapsed_ns;
    uint32_t *latency_ns;
    uint32_t latency_count;
    bool failed;
    char last[512]; /* the start of an answer that was none */
};

/* Bytes of the whole answer at the front, 0 when more are needed. */
static size_t answer_bytes(const struct client *c)
{
    const char *end = memmem(c->in, c->n, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    size_t head = (size_t)(end - c->in) + 4;
    const char *at = memmem(c->in, head, "ontent-Length: ", 15);
    size_t length = 0;
    if (at == NULL) return 0;
    for (at += 15; *at >= '0' && *at <= '9'; at++)
        length = length * 10 + (size_t)(*at - '0');
    return c->n >= head + length ? head + length : 0;
}

static void client_ask(struct client *c, const char *request, size_t n)
{
    c->sent_ns = bench_now_ns();
    c->n = 0;
    bench_gate_write_all(c->fd, request, n);
}

static bool client_take(struct drive *d, struct client *c, const char *request, size_t n)
{
    ssize_t got = recv(c->fd, c->in + c->n, sizeof c->in - c->n, 0);
    if (got <= 0) return false;
    c->n += (size_t)got;
    if (answer_bytes(c) == 0) return c->n < sizeof c->in;
    if (memcmp(c->in, "HTTP/1.1 200", 12) != 0) {
        size_t kept = MR_MIN(c->n, sizeof d->last - 1);
        memcpy(d->last, c->in, kept);
        d->last[kept] = 0;
        return false;
    }
    if (d->latency_ns != NULL && d->latency_count < LATENCIES_MAX) {
        d->latency_ns[d->latency_count++] = (uint32_t)(bench_now_ns() - c->sent_ns);
    }
    d->requests++;
    client_ask(c, request, n);
    return true;
}

/* One request after the other on each connection, for so long. */
static void drive_run(struct drive *d, uint16_t port, const char *request, uint32_t clients,
                      uint64_t ns)
{
    struct client *list = calloc(BENCH_CLIENTS_MAX, sizeof *list);
    struct epoll_event events[BENCH_CLIENTS_MAX];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    size_t n = strlen(request);
    d->requests = 0;
    d->latency_count = 0;
    d->failed = list == NULL || epoll < 0;
    if (d->failed) clients = 0;
    for (uint32_t i = 0; i < clients; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        list[i].fd = bench_gate_dial(port);
        if (list[i].fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, list[i].fd, &event) != 0) {
            d->failed = true;
        }
    }
    uint64_t start = bench_now_ns(), now = start;
    for (uint32_t i = 0; i < clients && !d->failed; i++)
        client_ask(&list[i], request, n);
    while (!d->failed && now - start < ns) {
        int count = epoll_wait(epoll, events, BENCH_CLIENTS_MAX, 5000);
        if (count <= 0) d->failed = true;
        for (int i = 0; i < count && !d->failed; i++) {
            d->failed = !client_take(d, &list[events[i].data.u32], request, n);
        }
        now = bench_now_ns();
    }
    d->elapsed_ns = now - start;
    for (uint32_t i = 0; i < clients; i++) {
        if (list[i].fd >= 0) (void)close(list[i].fd); /* what is on its way is not counted */
    }
    if (epoll >= 0) (void)close(epoll); /* watched only */
    free(list);
}

static int order_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}
static double latency_us(struct drive *d, double part)
{
    if (d->latency_count == 0) return -1;
    qsort(d->latency_ns, d->latency_count, sizeof *d->latency_ns, order_u32);
    return d->latency_ns[(uint32_t)(part * (d->latency_count - 1))] / 1000.0;
}

static void request_put(char *to, size_t n, const char *key)
{
    static const char body[] =
        "{\"model\":\"mock\",\"messages\":[{\"role\":\"system\",\"content\":\"You are brief.\"},"
        "{\"role\":\"user\",\"content\":\"What is a cloud of one's own?\"}]}";
    (void)snprintf(to, n,
                   "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                   "Authorization: Bearer %s\r\nContent-Type: application/json\r\n"
                   "User-Agent: bench\r\nAccept: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                   key, sizeof body - 1, body);
}

/* --- measuring ------------------------------------------------------------------------------- */

static void bar_put(struct bench_report *report, const char *name, double ours, const char *unit,
                    double goal, bool lower, const char *note)
{
    struct bench_bar bar = {.ours = ours, .peer = -1, .goal = goal, .lower_is_better = lower};
    (void)snprintf(bar.name, sizeof bar.name, "%s", name);
    (void)snprintf(bar.unit, sizeof bar.unit, "%s", unit);
    (void)snprintf(bar.note, sizeof bar.note, "%s", note);
    bench_add(report, &bar);
}

static void measure_rate(struct bench_world *w, struct drive *d, const char *request)
{
    uint64_t ns = w->report->quick ? 200000000u : 1500000000u;
    bool has_nginx = w->nginx_port != 0;
    uint16_t peer_port = has_nginx ? w->nginx_port : w->bare_port;
    double ours[ROUNDS], peer[ROUNDS], ratio[ROUNDS];
    for (uint32_t i = 0; i < ROUNDS; i++) {
        drive_run(d, w->port, request, 32, ns);
        ours[i] = d->failed ? -1 : (double)d->requests * 1e9 / (double)d->elapsed_ns;
        drive_run(d, peer_port, request, 32, ns);
        peer[i] = d->failed ? -1 : (double)d->requests * 1e9 / (double)d->elapsed_ns;
        ratio[i] = ours[i] / peer[i];
    }
    struct bench_bar bar = {.ours = bench_median(ours, ROUNDS),
                            .peer = bench_median(peer, ROUNDS),
                            .goal = 1.0,
                            .goal_is_ratio = true};
    (void)bench_median(ratio, ROUNDS); /* sorted: its ends go into the note */
    (void)snprintf(bar.name, sizeof bar.name, "chats, 32 connections, one gate lane");
    (void)snprintf(bar.unit, sizeof bar.unit, "requests/s");
    (void)snprintf(bar.peer_name, sizeof bar.peer_name, "%s",
                   has_nginx ? "nginx, bare proxy" : "bare proxy on our loop");
    (void)snprintf(
        bar.note, sizeof bar.note,
        "%u rounds by turns of %.1f s; ours %.0f to %.0f, peer %.0f to %.0f, ratio %.2f to "
        "%.2f%s",
        ROUNDS, (double)ns / 1e9, ours[0], ours[ROUNDS - 1], peer[0], peer[ROUNDS - 1], ratio[0],
        ratio[ROUNDS - 1], has_nginx ? "" : "; nginx is not installed");
    bench_add(w->report, &bar);
}

/* What the gate adds at one connection, as the median over rounds by turns: one busy moment of the
 * machine must not decide. */
static void measure_latency(struct bench_world *w, struct drive *d, const char *request)
{
    static const struct {
        const char *name;
        double part, goal;
    } bars[] = {{"p50 added at one connection", 0.5, 0.1},
                {"p99 added at one connection", 0.99, 1.0}};
    uint64_t ns = w->report->quick ? 100000000u : 500000000u;
    double ours[2][ROUNDS], direct[2][ROUNDS], added[2][ROUNDS];
    char note[200];
    for (uint32_t i = 0; i < ROUNDS; i++) {
        drive_run(d, w->http_port, request, 1, ns);
        for (size_t b = 0; b < 2; b++)
            direct[b][i] = latency_us(d, bars[b].part);
        drive_run(d, w->port, request, 1, ns);
        for (size_t b = 0; b < 2; b++)
            ours[b][i] = latency_us(d, bars[b].part);
        for (size_t b = 0; b < 2; b++)
            added[b][i] = ours[b][i] - direct[b][i];
    }
    for (size_t b = 0; b < 2; b++) {
        double mine = bench_median(ours[b], ROUNDS), bare = bench_median(direct[b], ROUNDS);
        double more = bench_median(added[b], ROUNDS); /* sorted now: its ends go into the note */
        (void)snprintf(
            note, sizeof note,
            "%u rounds; %.1f us through the gate, %.1f us to the mock; added %.1f to %.1f", ROUNDS,
            mine, bare, added[b][0], added[b][ROUNDS - 1]);
        bar_put(w->report, bars[b].name, more / 1000, "ms", bars[b].goal, true, note);
    }
}

struct half { /* one tenant's clients */
    struct drive drive;
    struct bench_world *w;
    char request[1024];
    uint32_t clients;
    uint64_t ns;
};
static void *half_main(void *arg)
{
    struct half *half = arg;
    drive_run(&half->drive, half->w->port, half->request, half->clients, half->ns);
    return NULL;
}

/* Two tenants that always wait, one with three times the connections of the other and short
 * answers, at a worker of four slots: the virtual token counter promises that their service differs
 * by no more than twice what may run at once (Sheng et al., OSDI 2024), however long it goes on. */
static void measure_fairness(struct bench_world *w)
{
    static struct half halves[2];
    pthread_t threads[2];
    char note[200];
    double units[2];
    bench_flag_set(&w->slow);
    for (uint32_t i = 0; i < 2; i++) {
        halves[i].w = w;
        halves[i].clients = i == 0 ? 24 : 8;
        halves[i].ns = w->report->quick ? 300000000u : 2000000000u;
        request_put(halves[i].request, sizeof halves[i].request, w->keys[i]);
        if (pthread_create(&threads[i], NULL, half_main, &halves[i]) != 0) return;
    }
    for (uint32_t i = 0; i < 2; i++) {
        (void)pthread_join(threads[i], NULL); /* was just created */
        /* Tenants are numbered from 1. */
        units[i] =
            (double)halves[i].drive.requests * (BENCH_PROMPT_TOKENS + 2 * BENCH_SLOW_TOKENS(i + 1));
    }
    double bound = 2.0 * BENCH_SLOW_SLOTS * (BENCH_PROMPT_TOKENS + 2 * BENCH_SLOW_TOKENS(2));
    double apart = units[0] > units[1] ? units[0] - units[1] : units[1] - units[0];
    bool failed = halves[0].drive.failed || halves[1].drive.failed;
    (void)snprintf(
        note, sizeof note,
        "24 connections got %.0f units in %llu chats, 8 got %.0f in %llu; the goal is the "
        "bound of the virtual token counter",
        units[0], (unsigned long long)halves[0].drive.requests, units[1],
        (unsigned long long)halves[1].drive.requests);
    bar_put(w->report, "two backlogged tenants: service apart", failed ? -1 : apart, "units", bound,
            true, note);
}

static uint64_t rss_bytes(void)
{
    unsigned long long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) return 0;
    if (fscanf(file, "%llu %llu", &size, &resident) != 2) resident = 0;
    (void)fclose(file); /* was only read */
    return resident * 4096u;
}

static void measure_streams(struct bench_world *w)
{
    struct rlimit limit = {0};
    char request[256], note[200], c;
    (void)getrlimit(RLIMIT_NOFILE, &limit); /* else none can be opened: told below */
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    uint64_t room = limit.rlim_cur > 600 ? (limit.rlim_cur - 500) / 2 : 0;
    uint32_t want = (uint32_t)MR_MIN(room, w->report->quick ? 200u : STREAMS_WANTED), open = 0;
    int *fds = calloc(want + 1, sizeof *fds);
    int n = snprintf(request, sizeof request,
                     "GET /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n",
                     w->keys[0]);
    uint64_t before = rss_bytes();
    for (; fds != NULL && open < want; open++) {
        fds[open] = bench_gate_dial(w->port);
        if (fds[open] < 0) break;
        bench_gate_write_all(fds[open], request, (size_t)n);
        if (recv(fds[open], &c, 1, 0) != 1) break;
    }
    double each = open > 0 ? (double)(rss_bytes() - before) / open : -1;
    (void)snprintf(note, sizeof note,
                   "%u streams, each has had its first event; clients' side too%s", open,
                   want == room ? "; the open-files limit allows no more" : "");
    bar_put(w->report, "memory of an idle stream", open == want ? each : -1, "bytes", STREAM_GOAL_B,
            true, note);
    for (uint32_t i = 0; i < open; i++)
        (void)close(fds[i]); /* nothing was to be read */
    free(fds);
}

static void measure_billing(struct bench_world *w, uint64_t asked)
{
    char note[200];
    uint64_t metered = 0;
    for (uint32_t i = 0; i < 100 && metered < asked; i++) {
        (void)poll(NULL, 0, 20);
        metered = __atomic_load_n(&w->metered, __ATOMIC_RELAXED);
    }
    (void)snprintf(note, sizeof note, "%llu answered to clients, %llu settled by the ledger",
                   (unsigned long long)asked, (unsigned long long)metered);
    bar_put(w->report, "answered chats that are not in the ledger",
            metered >= asked ? 0 : (double)(asked - metered), "chats", 0, true, note);
}

/* --- all of it ------------------------------------------------------------------------------- */

static void on_accept(void *arg, uint32_t lane, struct mr_conn *conn)
{
    struct bench_world *w = arg;
    (void)lane;
    mr_gate_accept(w->gate, conn);
}
static void on_bare(void *arg, uint32_t lane, struct mr_conn *conn)
{
    (void)lane;
    bench_gate_bare_accept(arg, conn);
}

static void stopped(void *arg)
{
    struct bench_world *w = arg;
    mr_loop_stop(w->loop);
}
static void stop_ctl(struct mr_post *post)
{
    struct bench_world *w = BENCH_WORLD_OF(post, stop_post);
    mr_ctl_stop(w->ctl, stopped, w);
}
static void drained(void *arg)
{
    struct bench_world *w = arg;
    struct mr_env *env = mr_loop_env(w->loop, 1);
    w->stop_post.fn = stop_ctl;
    env->ops->post(env, 0, &w->stop_post);
}
static void drain(struct mr_post *post)
{
    struct bench_world *w = BENCH_WORLD_OF(post, drain_post);
    struct mr_env *env = mr_loop_env(w->loop, 1);
    mr_gate_drain(w->gate, env->ops->now_us(env) + 1000000, drained, w);
}

/* The bare proxy has a loop of its own. */
static void *bare_main(void *arg)
{
    (void)mr_loop_run(arg); /* it cannot fail with threads that were just to be had */
    return NULL;
}

static void *clients_main(void *arg)
{
    struct bench_world *w = arg;
    struct mr_env *env = mr_loop_env(w->loop, 0);
    struct drive d = {.latency_ns = malloc(LATENCIES_MAX * sizeof(uint32_t))};
    char request[1024];
    for (uint32_t i = 0; i < READY_MS_MAX / 10 && !bench_flag_get(&w->ready); i++) {
        if (bench_flag_get(&w->failed)) break;
        (void)poll(NULL, 0, 10);
    }
    if (bench_flag_get(&w->ready) && d.latency_ns != NULL) {
        request_put(request, sizeof request, w->keys[0]);
        drive_run(&d, w->port, request, 8, 200000000); /* warms up, and waits for the worker */
        if (d.failed) {
            (void)fprintf(stderr, "bench gate: a chat failed after %llu good ones: %s\n",
                          (unsigned long long)d.requests, d.last);
            bench_flag_set(&w->failed);
        }
        if (!d.failed) {
            measure_rate(w, &d, request);
            measure_latency(w, &d, request);
            (void)poll(NULL, 0, 300);
            uint64_t before = __atomic_load_n(&w->metered, __ATOMIC_RELAXED);
            drive_run(&d, w->port, request, 32, 200000000);
            measure_billing(w, before + d.requests);
            measure_streams(w);
            measure_fairness(w);
        }
    } else {
        bench_flag_set(&w->failed);
    }
    free(d.latency_ns);
    w->drain_post.fn = drain;
    env->ops->post(env, 1, &w->drain_post);
    return NULL;
}

static int world_make(struct bench_world *w, struct mr_buf *problem)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(w->folder, sizeof w->folder, "/tmp/millrace-bench-XXXXXX");
    if (mkdtemp(w->folder) == NULL) return MR_EIO;
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/wire", w->folder);
    w->wire_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    w->http_fd = bench_gate_listen(&w->http_port);
    if (w->wire_fd < 0 || w->http_fd < 0 ||
        bind(w->wire_fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(w->wire_fd, 4) != 0) {
        return MR_EIO;
    }
    int error = mr_loop_new(2, &w->loop);
    if (error != 0) return error;
    w->store.ops = &bench_gate_store_ops;
    w->engine.ops = &bench_gate_engine_ops;
    struct mr_gate_config gate = {.env = mr_loop_env(w->loop, 1), .wire = mr_loop_wire(w->loop, 1)};
    error = mr_gate_new(&gate, &w->gate);
    if (error != 0) return error;
    struct mr_ctl_listener listener = mr_gate_listener(w->gate);
    struct mr_ctl_config ctl = {.env = mr_loop_env(w->loop, 0),
                                .store = &w->store,
                                .engine = &w->engine,
                                .limits = mr_core_limits_small,
                                .listeners = &listener,
                                .listener_count = 1};
    error = mr_ctl_new(&ctl, &w->ctl);
    if (error == 0) error = mr_ctl_start(w->ctl, problem);
    if (error != 0) return error;
    mr_gate_ctl_set(w->gate, w->ctl);
    return mr_loop_listen(w->loop, MR_STR("127.0.0.1:0"), on_accept, w, &w->port, problem);
}

static void folder_remove(const struct bench_world *w)
{
    static const char *const names[] = {"wire", "nginx.conf", "pid", "error"};
    static const char *const folders[] = {"b", "p", "f", "u", "s", ""};
    char path[128];
    for (size_t i = 0; i < MR_COUNT_OF(names); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", w->folder, names[i]);
        (void)unlink(path); /* may never have been there */
    }
    for (size_t i = 0; i < MR_COUNT_OF(folders); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", w->folder, folders[i]);
        (void)rmdir(path);
    }
}

static int world_run(struct bench_world *w)
{
    pthread_t worker, http, clients;
    struct bench_world *bare = calloc(1, sizeof *bare);
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    pthread_t bare_thread;
    mr_buf_init(&problem, 1024);
    int error = bare == NULL ? MR_ENO_MEMORY : mr_loop_new(2, &bare->loop);
    if (error == 0) {
        bare->http_port = w->http_port;
        error = mr_loop_listen(bare->loop, MR_STR("127.0.0.1:0"), on_bare, bare, &w->bare_port,
                               &problem);
    }
    if (error != 0) return error;
    if (pthread_create(&worker, NULL, bench_gate_mock_worker, w) != 0 ||
        pthread_create(&http, NULL, bench_gate_mock_http, w) != 0 ||
        pthread_create(&bare_thread, NULL, bare_main, bare->loop) != 0) {
        return MR_EIO;
    }
    bench_gate_nginx_start(w);
    struct mr_env *env = mr_loop_env(w->loop, 0);
    w->step_post.fn = step_first;
    env->ops->post(env, 0, &w->step_post);
    if (pthread_create(&clients, NULL, clients_main, w) != 0) return MR_EIO;
    error = mr_loop_run(w->loop);
    (void)pthread_join(clients, NULL); /* they were just created */
    mr_loop_stop(bare->loop);
    (void)pthread_join(bare_thread, NULL);
    mr_loop_free(bare->loop);
    free(bare);
    bench_flag_set(&w->stop);
    (void)shutdown(w->wire_fd, SHUT_RDWR); /* ends an accept that still waits */
    (void)pthread_join(worker, NULL);
    (void)pthread_join(http, NULL);
    bench_gate_nginx_stop(w);
    return error != 0 ? error : bench_flag_get(&w->failed) ? MR_EIO : 0;
}

int bench_gate(struct bench_report *report)
{
    struct bench_world *w = calloc(1, sizeof *w);
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    mr_buf_init(&problem, 1024);
    if (w == NULL) return MR_ENO_MEMORY;
    w->report = report;
    int error = world_make(w, &problem);
    if (error == 0) error = world_run(w);
    if (problem.n > 0)
        (void)fprintf(stderr, "bench gate: %.*s\n", MR_STR_ARG(mr_buf_str(&problem)));
    if (w->gate != NULL) mr_gate_free(w->gate);
    mr_ctl_free(w->ctl);
    mr_loop_free(w->loop);
    if (w->wire_fd >= 0) (void)close(w->wire_fd); /* nothing is written to either */
    if (w->http_fd >= 0) (void)close(w->http_fd);
    folder_remove(w);
    free(w);
    return error;
}
