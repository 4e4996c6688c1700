/* SPDX-License-Identifier: Apache-2.0 */
/* What stands behind and beside the gate in `bench gate`: a journal in memory, an engine that has
 * started everything already, a worker and a server that answer at once, the proxies.
 *
 * Owns:   its connections; nginx from start to stop.
 * Thread: journal and engine on lane 0, the proxy on lane 1 of its own loop, a thread for each
 * mock. Fails:  by not answering: whoever measures says so. Ends:   bench_gate_nginx_stop; the
 * mocks when their sockets are shut.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench_gate.h"

#define ANSWER_TOKENS 16u
#define NGINX         "nginx"

static const char answer_text[] = "A cloud of one's own is a cloud that answers when it is asked.";

/* --- a journal in memory --------------------------------------------------------------------- */

static int memory_epoch(struct mr_store *store, uint64_t *ret_epoch)
{
    (void)store;
    *ret_epoch = 1;
    return 0;
}
static void memory_appended(struct mr_post *post)
{
    struct bench_world *w = BENCH_WORLD_OF(post, append_post);
    w->append_done(w->append_arg, 0);
}
static void memory_append(struct mr_store *store, uint64_t epoch,
                          const struct mr_store_group *group, mr_store_done done, void *arg)
{
    struct bench_world *w = BENCH_WORLD_OF(store, store);
    struct mr_env *env = mr_loop_env(w->loop, 0);
    (void)epoch;
    (void)group;
    w->append_done = done;
    w->append_arg = arg;
    w->append_post.fn = memory_appended;
    env->ops->post(env, 0, &w->append_post);
}
static int memory_read(struct mr_store *store, uint64_t seq,
                       int (*visit)(void *arg, const struct mr_store_record *record), void *arg)
{
    (void)store;
    (void)seq;
    (void)visit;
    (void)arg;
    return 0;
}
static void memory_snapped(struct mr_post *post)
{
    struct bench_world *w = BENCH_WORLD_OF(post, snapshot_post);
    w->snapshot_done(w->snapshot_arg, 0);
}
static void memory_snapshot_put(struct mr_store *store, uint64_t epoch, uint64_t seq,
                                struct mr_str bytes, mr_store_done done, void *arg)
{
    struct bench_world *w = BENCH_WORLD_OF(store, store);
    struct mr_env *env = mr_loop_env(w->loop, 0);
    (void)epoch;
    (void)seq;
    (void)bytes;
    w->snapshot_done = done;
    w->snapshot_arg = arg;
    w->snapshot_post.fn = memory_snapped;
    env->ops->post(env, 0, &w->snapshot_post);
}
static int memory_snapshot_get(struct mr_store *store, uint32_t n, struct mr_buf *buf,
                               uint64_t *ret_seq)
{
    (void)store;
    (void)n;
    (void)buf;
    (void)ret_seq;
    return MR_ENOT_FOUND;
}
static int memory_ledger_read(struct mr_store *store, uint64_t from, uint32_t max,
                              int (*visit)(void *arg, const struct mr_store_ledger *line),
                              void *arg)
{
    (void)store;
    (void)from;
    (void)max;
    (void)visit;
    (void)arg;
    return 0;
}
static void memory_stats(struct mr_store *store, struct mr_store_stats *ret)
{
    (void)store;
    *ret = (struct mr_store_stats){0};
}
const struct mr_store_ops bench_gate_store_ops = {
    memory_epoch,        memory_append,      memory_read,  memory_snapshot_put,
    memory_snapshot_get, memory_ledger_read, memory_stats,
};

/* --- an engine that has started everything already ------------------------------------------- */

static void engine_watch(struct mr_engine *engine,
                         void (*report)(void *arg, const struct mr_engine_report *report),
                         void *arg)
{
    struct bench_world *w = BENCH_WORLD_OF(engine, engine);
    w->report_fn = report;
    w->report_arg = arg;
}
static void engine_started(struct mr_post *post)
{
    struct bench_world *w = BENCH_WORLD_OF(post, start_post);
    for (size_t i = 0; i < 2; i++)
        w->report_fn(w->report_arg, &w->started[i]);
}
static void engine_start(struct mr_engine *engine, const struct mr_engine_start *start)
{
    struct bench_world *w = BENCH_WORLD_OF(engine, engine);
    struct mr_env *env = mr_loop_env(w->loop, 0);
    w->started[0] = (struct mr_engine_report){.kind = MR_ENGINE_STARTED, .lease = start->lease};
    w->started[1] = (struct mr_engine_report){.kind = MR_ENGINE_READY, .lease = start->lease};
    w->start_post.fn = engine_started;
    env->ops->post(env, 0, &w->start_post);
}
static void engine_nothing(struct mr_engine *engine, struct mr_lease_id lease)
{
    (void)engine;
    (void)lease;
}
static void engine_stop(struct mr_engine *engine, struct mr_lease_id lease, uint64_t grace_us)
{
    (void)engine;
    (void)lease;
    (void)grace_us;
}
static void engine_sweep(struct mr_engine *engine)
{
    (void)engine;
}
static void engine_address(struct mr_engine *engine, struct mr_lease_id lease, struct mr_buf *buf)
{
    struct bench_world *w = BENCH_WORLD_OF(engine, engine);
    (void)lease;
    mr_buf_printf(buf, "unix:%s/wire", w->folder);
}
static int engine_file_read(struct mr_engine *engine, struct mr_workload_id workload, uint32_t run,
                            uint32_t rank, struct mr_str name, uint64_t offset, size_t max_bytes,
                            struct mr_buf *buf)
{
    (void)engine;
    (void)workload;
    (void)run;
    (void)rank;
    (void)name;
    (void)offset;
    (void)max_bytes;
    (void)buf;
    return MR_ENOT_FOUND;
}
const struct mr_engine_ops bench_gate_engine_ops = {
    .watch = engine_watch,
    .start = engine_start,
    .adopt = engine_nothing,
    .stop = engine_stop,
    .forget = engine_nothing,
    .sweep = engine_sweep,
    .address = engine_address,
    .file_read = engine_file_read,
};

/* --- the bare proxy: one upstream connection for each client, bytes passed as they come ------- */

struct bare {
    struct bench_world *w;
    struct mr_conn *side[2]; /* client, upstream */
    uint32_t open;
};
static void bare_pass(struct bare *b, uint32_t to, const uint8_t *bytes, size_t n)
{
    struct mr_wire *wire = mr_loop_wire(b->w->loop, 1);
    if (b->side[to] != NULL) (void)wire->ops->send(b->side[to], bytes, n); /* never far ahead */
}
static void bare_closed(struct bare *b, uint32_t which)
{
    struct mr_wire *wire = mr_loop_wire(b->w->loop, 1);
    b->side[which] = NULL;
    if (b->side[!which] != NULL) wire->ops->close(b->side[!which], false);
    if (--b->open == 0) free(b);
}
static void bare_client_data(void *arg, const uint8_t *bytes, size_t n)
{
    bare_pass(arg, 1, bytes, n);
}
static void bare_client_close(void *arg, int error)
{
    (void)error;
    bare_closed(arg, 0);
}
static void bare_upstream_data(void *arg, const uint8_t *bytes, size_t n)
{
    bare_pass(arg, 0, bytes, n);
}
static void bare_upstream_close(void *arg, int error)
{
    (void)error;
    bare_closed(arg, 1);
}
static const struct mr_conn_handler bare_client = {.on_data = bare_client_data,
                                                   .on_close = bare_client_close};
static const struct mr_conn_handler bare_upstream = {.on_data = bare_upstream_data,
                                                     .on_close = bare_upstream_close};

void bench_gate_bare_accept(struct bench_world *w, struct mr_conn *conn)
{
    struct mr_wire *wire = mr_loop_wire(w->loop, 1);
    struct bare *b = calloc(1, sizeof *b);
    char address[32];
    int n = snprintf(address, sizeof address, "tcp:127.0.0.1:%u", w->http_port);
    if (b == NULL) return; /* a connection without a handler is closed */
    b->w = w;
    if (wire->ops->connect(wire, (struct mr_str){address, (size_t)n}, &bare_upstream, b,
                           &b->side[1]) != 0) {
        free(b);
        return;
    }
    b->side[0] = conn;
    b->open = 2;
    wire->ops->handle(conn, &bare_client, b);
}

/* --- sockets --------------------------------------------------------------------------------- */

int bench_gate_dial(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* only slower without */
        return fd;
    }
    if (fd >= 0) (void)close(fd); /* was never open */
    return -1;
}

int bench_gate_listen(uint16_t *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, 1024) != 0 || getsockname(fd, (struct sockaddr *)&address, &length) != 0) {
        if (fd >= 0) (void)close(fd); /* was never used */
        return -1;
    }
    *ret_port = ntohs(address.sin_port);
    return fd;
}

/* --- mocks ----------------------------------------------------------------------------------- */

/* Blocking writes of small answers to a peer that reads. */
void bench_gate_write_all(int fd, const void *bytes, size_t n)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t done = send(fd, p, n, MSG_NOSIGNAL);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return; /* the peer is gone; reading tells */
        p += done;
        n -= (size_t)done;
    }
}

static void mock_hello(const struct bench_world *w, uint32_t slots, struct mr_buf *out)
{
    /* The lease is the first that this cloud gives. */
    mr_wire_put(out, &(struct mr_wire_frame){.type = MR_WIRE_HELLO,
                                             .u.hello = {.lease = w->started[0].lease.v,
                                                         .ready = true,
                                                         .slots = slots,
                                                         .context_tokens = 4096,
                                                         .model = MR_STR("mock")}});
}

static void mock_answer(struct bench_world *w, const struct mr_wire_frame *frame, uint64_t *serial,
                        struct mr_buf *out)
{
    if (frame->type == MR_WIRE_SETTLED) {
        __atomic_add_fetch(&w->metered, 1, __ATOMIC_RELAXED);
    }
    if (frame->type != MR_WIRE_SUBMIT) return;
    uint32_t tenant = frame->u.submit.tenant;
    bool slow = bench_flag_get(&w->slow);
    uint32_t tokens = slow ? BENCH_SLOW_TOKENS(tenant) : ANSWER_TOKENS;
    if (slow) (void)poll(NULL, 0, 1); /* so that others wait */
    mr_wire_put(out, &(struct mr_wire_frame){.type = MR_WIRE_TOKENS,
                                             .stream = frame->stream,
                                             .u.tokens = {tokens, mr_str_from(answer_text)}});
    mr_wire_put(out, &(struct mr_wire_frame){.type = MR_WIRE_END,
                                             .stream = frame->stream,
                                             .u.end = {.serial = ++*serial,
                                                       .tenant = tenant,
                                                       .finish = MR_FINISH_STOP,
                                                       .usage = {BENCH_PROMPT_TOKENS, 0, tokens}}});
}

/* The worker: one connection, the gate's; answers each SUBMIT with TOKENS and END at once. */
void *bench_gate_mock_worker(void *arg)
{
    struct bench_world *w = arg;
    struct mr_buf in, out;
    struct mr_arena arena;
    uint64_t serial = 0;
    int fd = accept(w->wire_fd, NULL, NULL);
    mr_buf_init(&in, 64u << 20);
    mr_buf_init(&out, 64u << 20);
    mr_arena_init(&arena, 64u << 20);
    bool slow = false;
    mock_hello(w, 256, &out);
    while (fd >= 0) {
        if (out.n > 0) bench_gate_write_all(fd, out.p, out.n);
        mr_buf_reset(&out);
        if (!mr_buf_reserve(&in, 65536)) break;
        ssize_t n = recv(fd, in.p + in.n, in.capacity - in.n, 0);
        if (n <= 0) break;
        in.n += (size_t)n;
        size_t at = 0, used = 0;
        for (;;) {
            struct mr_wire_frame frame;
            mr_arena_reset(&arena);
            struct mr_str rest = {(const char *)in.p + at, in.n - at};
            if (mr_wire_get(rest, &arena, &frame, &used) != 1) break;
            at += used;
            mock_answer(w, &frame, &serial, &out);
        }
        mr_buf_drop_front(&in, at);
        if (!slow && bench_flag_get(&w->slow)) {
            slow = true;
            mock_hello(w, BENCH_SLOW_SLOTS, &out);
        }
    }
    if (fd >= 0) (void)close(fd); /* nothing is left to say */
    mr_buf_done(&in);
    mr_buf_done(&out);
    mr_arena_done(&arena);
    return NULL;
}

/* The same answer over HTTP: one for each request, found by its last byte, which ends the body. */
static size_t http_answer(char *to, size_t n)
{
    char body[1024];
    int length =
        snprintf(body, sizeof body,
                 "{\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":"
                 "\"chat.completion\",\"created\":1700000000,\"model\":\"mock\",\"choices\":"
                 "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\","
                 "\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":"
                 "{\"prompt_tokens\":20,\"completion_tokens\":16,\"total_tokens\":36,"
                 "\"prompt_tokens_details\":{\"cached_tokens\":0},"
                 "\"completion_tokens_details\":{\"reasoning_tokens\":0}}}",
                 answer_text);
    int all = snprintf(to, n,
                       "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                       "x-request-id: req_0123456789abcdef0123456789abcdef\r\n\r\n%s",
                       length, body);
    return (size_t)all;
}

void *bench_gate_mock_http(void *arg)
{
    struct bench_world *w = arg;
    struct epoll_event events[BENCH_CLIENTS_MAX];
    char bytes[65536], answer[2048];
    size_t answer_n = http_answer(answer, sizeof answer);
    int epoll = epoll_create1(EPOLL_CLOEXEC), on = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = w->http_fd};
    (void)epoll_ctl(epoll, EPOLL_CTL_ADD, w->http_fd,
                    &event); /* else nothing answers: told later */
    while (!bench_flag_get(&w->stop)) {
        int count = epoll_wait(epoll, events, BENCH_CLIENTS_MAX, 100);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == w->http_fd) {
                event.data.fd = accept4(w->http_fd, NULL, NULL, SOCK_CLOEXEC);
                if (event.data.fd < 0) continue;
                (void)setsockopt(event.data.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                (void)epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
                continue;
            }
            ssize_t n = recv(fd, bytes, sizeof bytes, 0);
            if (n <= 0) {
                (void)close(fd); /* the proxy is done with it */
                continue;
            }
            /* A request ends with "}]}": nothing else in it does. */
            if (n >= 3 && memcmp(bytes + n - 3, "}]}", 3) == 0)
                bench_gate_write_all(fd, answer, answer_n);
        }
    }
    (void)close(epoll); /* the connections' other ends are gone */
    return NULL;
}

/* --- nginx, when it is there ----------------------------------------------------------------- */

void bench_gate_nginx_start(struct bench_world *w)
{
    extern char **environ;
    char path[128];
    uint16_t port = 0;
    int held = bench_gate_listen(&port);
    if (held >= 0) (void)close(held); /* only to learn a port that is free */
    (void)snprintf(path, sizeof path, "%s/nginx.conf", w->folder);
    FILE *file = fopen(path, "we");
    if (file == NULL || held < 0) {
        if (file != NULL) (void)fclose(file);
        return;
    }
    (void)fprintf(file,
                  "worker_processes 1; daemon off; pid %s/pid; error_log %s/error crit;\n"
                  "events { worker_connections 1024; }\nhttp { access_log off;\n"
                  "client_body_temp_path %s/b; proxy_temp_path %s/p; fastcgi_temp_path %s/f;\n"
                  "uwsgi_temp_path %s/u; scgi_temp_path %s/s;\n"
                  "upstream mock { server 127.0.0.1:%u; keepalive 64; }\n"
                  "server { listen 127.0.0.1:%u; keepalive_requests 100000000;\n"
                  "location / { proxy_pass http://mock; proxy_http_version 1.1;\n"
                  "proxy_set_header Connection \"\"; } } }\n",
                  w->folder, w->folder, w->folder, w->folder, w->folder, w->folder, w->folder,
                  w->http_port, port);
    if (fclose(file) != 0) return;
    char *const argv[] = {(char[]){NGINX}, (char[]){"-c"},     path,
                          (char[]){"-e"},  (char[]){"stderr"}, NULL};
    if (posix_spawnp(&w->nginx, NGINX, NULL, NULL, argv, environ) != 0) {
        w->nginx = 0;
        return;
    }
    for (uint32_t i = 0; i < 100 && w->nginx_port == 0; i++) {
        (void)poll(NULL, 0, 20);
        int fd = bench_gate_dial(port);
        if (fd >= 0) {
            w->nginx_port = port;
            (void)close(fd); /* was only to see it there */
        }
    }
}

void bench_gate_nginx_stop(struct bench_world *w)
{
    if (w->nginx == 0) return;
    (void)kill(w->nginx, SIGTERM); /* ours; gone is fine too */
    (void)waitpid(w->nginx, NULL, 0);
}
