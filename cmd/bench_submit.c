/* SPDX-License-Identifier: Apache-2.0 */
/* `bench submit`: durable submissions a second through the HTTP API of a real daemon.
 *
 * A daemon of the size `fleet` is started on a home of its own, its journal on the disk with
 * synchronous=FULL; each answer comes after the submission is durable. Submitted are jobs that
 * begin tomorrow, so nothing is placed and nothing runs. Singly over 32 connections, then 512 in a
 * call over 4. The client is one thread on the same machine and takes its share of it.
 *
 * Owns:   the home and the daemon, from start to stop.
 * Thread: one.
 * Fails:  MR_E… when no daemon starts; answers other than 200 and 201 are counted and told.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <yyjson.h>

#include "bench.h"
#include "cmd.h"
#include "cmd_child.h"

#define CONNECTIONS 32u
#define IN_A_CALL   512u
#define ROUNDS      5u

struct conn {
    int fd;
    char answer[262144];
    size_t got, sent;
};
struct load {
    char home[64], key[64];
    uint16_t port;
    struct conn *conns;
    char *request;
    size_t request_bytes;
    uint64_t refused;
};

/* --- the daemon ------------------------------------------------------------------------------- */

/* `env MILLRACE_HOME=HOME millrace`, to be followed by the arguments of a call. */
static int millrace_on(const struct load *load, char *ret_home, char *ret_self, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", ret_self, size - 1);
    if (n <= 0) return MR_EIO;
    ret_self[n] = 0;
    (void)snprintf(ret_home, size, "MILLRACE_HOME=%s", load->home);
    return 0;
}

static int daemon_start(struct load *load)
{
    char home[4096], self[4096];
    mr_cleanup(mr_buf_done) struct mr_buf said;
    mr_buf_init(&said, 65536);
    int error = millrace_on(load, home, self, sizeof self);
    if (error != 0) return error;
    const char *const up[] = {"env",    home,    self,       "up",          "-d",     "--no-model",
                              "--size", "fleet", "--listen", "127.0.0.1:0", "--json", NULL};
    if (cmd_child_run(up, &said, true) != 0) return MR_EIO;
    yyjson_doc *doc = yyjson_read((const char *)said.p, said.n, 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    const char *url = yyjson_get_str(yyjson_obj_get(root, "url"));
    const char *key = yyjson_get_str(yyjson_obj_get(root, "api_key"));
    uint64_t port = 0;
    const char *colon = url != NULL ? strrchr(url, ':') : NULL;
    if (colon == NULL || key == NULL || mr_str_to_u64(mr_str_from(colon + 1), &port) != 0) {
        error = MR_ESYNTAX;
    } else {
        load->port = (uint16_t)port;
        (void)snprintf(load->key, sizeof load->key, "%s", key);
    }
    yyjson_doc_free(doc);
    return error;
}

static void daemon_stop(const struct load *load)
{
    char home[4096], self[4096];
    const char *const down[] = {"env", home, self, "down", "--all", NULL};
    if (millrace_on(load, home, self, sizeof self) == 0) (void)cmd_child_run(down, NULL, true);
}

/* --- the client ------------------------------------------------------------------------------- */

static int request_make(struct load *load, uint32_t jobs)
{
    static const char job[] = "{\"run\":\"true\",\"begin\":\"1d\",\"name\":\"bench\"}";
    struct mr_buf body, request;
    mr_buf_init(&body, 1 << 24);
    mr_buf_init(&request, 1 << 24);
    if (jobs > 1) mr_buf_put_str(&body, MR_STR("{\"workloads\":["));
    for (uint32_t i = 0; i < jobs; i++) {
        if (i > 0) mr_buf_put_char(&body, ',');
        mr_buf_put_str(&body, mr_str_from(job));
    }
    if (jobs > 1) mr_buf_put_str(&body, MR_STR("]}"));
    mr_buf_printf(&request,
                  "POST /api/workloads HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %s\r\n"
                  "content-type: application/json\r\ncontent-length: %zu\r\n\r\n",
                  load->key, body.n);
    mr_buf_put_str(&request, mr_buf_str(&body));
    bool failed = body.failed || request.failed;
    free(load->request);
    load->request = failed ? NULL : malloc(request.n);
    if (load->request != NULL) memcpy(load->request, request.p, request.n);
    load->request_bytes = request.n;
    mr_buf_done(&body);
    mr_buf_done(&request);
    return load->request != NULL ? 0 : MR_ENO_MEMORY;
}

static int conn_open(const struct load *load, struct conn *conn)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(load->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (conn->fd < 0) return MR_EIO;
    if (connect(conn->fd, (struct sockaddr *)&address, sizeof address) != 0) return MR_EIO;
    (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fcntl(conn->fd, F_SETFL, O_NONBLOCK) == 0 ? 0 : MR_EIO;
}

/* Bytes of the whole answer when it is there; 0: not yet. */
static size_t answer_bytes(const struct conn *conn)
{
    const char *end = memmem(conn->answer, conn->got, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    const char *length = memmem(conn->answer, (size_t)(end - conn->answer), "content-length: ", 16);
    uint64_t body = 0;
    for (const char *p = length != NULL ? length + 16 : end; *p >= '0' && *p <= '9'; p++)
        body = body * 10 + (uint64_t)(*p - '0');
    size_t all = (size_t)(end - conn->answer) + 4 + body;
    return conn->got >= all ? all : 0;
}

/* Sends what fits and reads what came; *ret_done: an answer is complete. */
static int conn_turn(struct load *load, struct conn *conn, bool *ret_done)
{
    *ret_done = false;
    while (conn->sent < load->request_bytes) {
        ssize_t n = send(conn->fd, load->request + conn->sent, load->request_bytes - conn->sent,
                         MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return MR_EIO;
        if (n < 0) return 0;
        conn->sent += (size_t)n;
    }
    for (;;) {
        ssize_t n = recv(conn->fd, conn->answer + conn->got, sizeof conn->answer - conn->got, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) return MR_EIO;
        if (n < 0) break;
        conn->got += (size_t)n;
        if (conn->got == sizeof conn->answer) return MR_ETOO_LARGE;
    }
    if (answer_bytes(conn) == 0) return 0;
    if (memcmp(conn->answer, "HTTP/1.1 20", 11) != 0) load->refused++;
    *ret_done = true;
    return 0;
}

struct run {
    uint32_t calls, begun, ended;
};

/* As far as it gets without waiting, one call after the other. */
static int conn_run(struct load *load, struct conn *conn, struct run *run)
{
    for (;;) {
        bool done;
        int error = conn_turn(load, conn, &done);
        if (error != 0 || !done) return error;
        run->ended++;
        conn->got = 0;
        if (run->begun == run->calls) return 0;
        run->begun++;
        conn->sent = 0;
    }
}

/* `calls` calls over so many connections; seconds. */
static int calls_run(struct load *load, uint32_t connections, uint32_t calls, double *ret_seconds)
{
    struct pollfd polls[CONNECTIONS];
    struct run run = {.calls = calls};
    uint64_t start_ns = bench_now_ns();
    int error = 0;
    for (uint32_t i = 0; error == 0 && i < connections; i++) {
        struct conn *conn = &load->conns[i];
        bool first = run.begun < calls;
        run.begun += first;
        conn->got = 0;
        conn->sent = first ? 0 : load->request_bytes;
        error = conn_run(load, conn, &run);
    }
    while (error == 0 && run.ended < calls) {
        for (uint32_t i = 0; i < connections; i++) {
            const struct conn *conn = &load->conns[i];
            bool sending = conn->sent < load->request_bytes;
            polls[i] = (struct pollfd){.fd = conn->fd,
                                       .events = (short)(POLLIN | (sending ? POLLOUT : 0))};
        }
        if (poll(polls, connections, 30000) <= 0) return MR_ETIMEOUT;
        for (uint32_t i = 0; error == 0 && i < connections; i++) {
            if (polls[i].revents != 0) error = conn_run(load, &load->conns[i], &run);
        }
    }
    *ret_seconds = (double)(bench_now_ns() - start_ns) / 1e9;
    return error;
}

/* --- bars ------------------------------------------------------------------------------------- */

static int rate_bar(struct bench_report *report, struct load *load, const char *name,
                    uint32_t connections, uint32_t jobs, uint32_t calls, double goal)
{
    double rates[ROUNDS], seconds = 0;
    struct bench_bar bar = {.unit = "jobs/s", .peer = -1, .goal = goal};
    int error = request_make(load, jobs);
    load->refused = 0;
    for (uint32_t i = 0; error == 0 && i < ROUNDS; i++) {
        error = calls_run(load, connections, calls, &seconds);
        rates[i] = (double)calls * jobs / seconds;
    }
    if (error != 0) return error;
    (void)snprintf(bar.name, sizeof bar.name, "%s", name);
    bar.ours = bench_median(rates, ROUNDS);
    (void)snprintf(bar.note, sizeof bar.note,
                   "%u rounds of %u calls, %.0f to %.0f; fsync on; %llu refused", ROUNDS, calls,
                   rates[0], rates[ROUNDS - 1], (unsigned long long)load->refused);
    bench_add(report, &bar);
    return load->refused == 0 ? 0 : MR_EIO;
}

static int bars(struct bench_report *report, struct load *load)
{
    uint32_t part = report->quick ? 20 : 1;
    int error = 0;
    for (uint32_t i = 0; error == 0 && i < CONNECTIONS; i++) {
        error = conn_open(load, &load->conns[i]);
    }
    if (error == 0)
        error = rate_bar(report, load, "submissions, one a call, 32 connections", CONNECTIONS, 1,
                         20000 / part, 15000);
    if (error == 0)
        error = rate_bar(report, load, "submissions, 512 a call, 4 connections", 4, IN_A_CALL,
                         200 / part, 100000);
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        if (load->conns[i].fd > 0) (void)close(load->conns[i].fd);
    }
    return error;
}

int bench_submit(struct bench_report *report)
{
    struct load load = {.home = "/var/tmp/millrace-bench-XXXXXX"};
    if (mkdtemp(load.home) == NULL) return MR_EIO;
    load.conns = calloc(CONNECTIONS, sizeof *load.conns);
    int error = load.conns != NULL ? daemon_start(&load) : MR_ENO_MEMORY;
    if (error == 0) error = bars(report, &load);
    daemon_stop(&load);
    cmd_folder_remove(load.home);
    free(load.conns);
    free(load.request);
    return error;
}
