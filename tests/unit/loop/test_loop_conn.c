/* SPDX-License-Identifier: Apache-2.0 */
/* Real sockets on real lanes: each claim of port/wire.h, with a blocking peer in a thread. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "loop/loop_int.h"

#define BIG_BYTES (8u * 1024u * 1024u)

/* One accepted or connected connection and all that happened to it. */
struct side {
    struct world *world;
    struct mr_conn *conn;
    struct mr_buf in;
    unsigned opens, ends, closes, drains;
    int error;
    bool inside;  /* a call of the wire is running */
    bool reentry; /* a callback came inside one */
    bool paused;
    size_t queued_max;
};
struct world {
    struct mr_loop *loop;
    struct mr_env *env;
    struct mr_wire *wire;
    uint16_t port;
    struct side side;
    void (*on_data)(struct side *side, const uint8_t *bytes, size_t n);
    void (*on_end)(struct side *side);
    void (*on_open)(struct side *side);
    void (*on_drain)(struct side *side);
    void (*on_accept)(struct side *side);
    void (*peer)(struct world *w, int fd);
    char path[PATH_MAX];
    unsigned accepted;
    uint64_t peer_got;
    int go[2]; /* a pipe: the peer reads the socket only after a byte came */
    bool peer_failed;
};

static void side_open(void *arg, struct mr_conn *conn)
{
    struct side *s = arg;
    assert_ptr_equal(s->conn, conn);
    s->reentry |= s->inside;
    s->opens++;
    if (s->world->on_open != NULL) s->world->on_open(s);
}
static void side_data(void *arg, const uint8_t *bytes, size_t n)
{
    struct side *s = arg;
    assert_true(n > 0);
    assert_int_equal(s->closes, 0);
    assert_false(s->paused);
    s->reentry |= s->inside;
    if (s->world->on_data != NULL) {
        s->world->on_data(s, bytes, n);
    } else {
        mr_buf_put(&s->in, bytes, n);
    }
}
static void side_drain(void *arg)
{
    struct side *s = arg;
    s->reentry |= s->inside;
    s->drains++;
    if (s->world->on_drain != NULL) s->world->on_drain(s);
}
static void side_end(void *arg)
{
    struct side *s = arg;
    s->reentry |= s->inside;
    s->ends++;
    if (s->world->on_end != NULL) s->world->on_end(s);
}
static void side_close(void *arg, int error)
{
    struct side *s = arg;
    s->reentry |= s->inside;
    s->closes++;
    s->error = error;
    mr_loop_stop(s->world->loop);
}
static const struct mr_conn_handler side_handler = {side_open, side_data, side_drain, side_end,
                                                    side_close};

static size_t side_send(struct side *s, const void *bytes, size_t n)
{
    s->inside = true;
    size_t queued = s->world->wire->ops->send(s->conn, bytes, n);
    s->inside = false;
    if (queued > s->queued_max) s->queued_max = queued;
    return queued;
}
static void side_shut(struct side *s, bool now)
{
    s->inside = true;
    s->world->wire->ops->close(s->conn, now);
    s->inside = false;
}

static void world_accept(void *arg, uint32_t lane, struct mr_conn *conn)
{
    struct world *w = arg;
    assert_int_equal(lane, 0);
    w->accepted++;
    w->side.conn = conn;
    w->wire->ops->handle(conn, &side_handler, &w->side);
    if (w->on_accept != NULL) w->on_accept(&w->side);
}

static void world_new(struct world *w)
{
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    mr_buf_init(&problem, 1024);
    *w = (struct world){.side = {.world = w}};
    mr_buf_init(&w->side.in, 64u << 20);
    assert_int_equal(pipe(w->go), 0);
    assert_int_equal(mr_loop_new(1, &w->loop), 0);
    w->env = mr_loop_env(w->loop, 0);
    w->wire = mr_loop_wire(w->loop, 0);
    assert_int_equal(
        mr_loop_listen(w->loop, MR_STR("127.0.0.1:0"), world_accept, w, &w->port, &problem), 0);
    assert_true(w->port != 0);
}

static void world_free(struct world *w)
{
    assert_int_equal(w->side.closes, 1);
    assert_false(w->side.reentry);
    assert_false(w->peer_failed);
    mr_loop_free(w->loop);
    mr_buf_done(&w->side.in);
    close(w->go[0]);
    close(w->go[1]);
}

static void *peer_main(void *arg)
{
    struct world *w = arg;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(w->port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) w->peer_failed = true;
    w->peer(w, fd);
    close(fd);
    return NULL;
}

/* Runs the lane with one blocking peer that connects to it. */
static void world_run(struct world *w, void (*peer)(struct world *w, int fd))
{
    pthread_t thread;
    w->peer = peer;
    assert_int_equal(pthread_create(&thread, NULL, peer_main, w), 0);
    assert_int_equal(mr_loop_run(w->loop), 0);
    mr_loop_listen_stop(w->loop);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static size_t read_all(int fd, char *buf, size_t n)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = read(fd, buf + got, n - got);
        if (r <= 0) break;
        got += (size_t)r;
    }
    return got;
}

/* --- claims ---------------------------------------------------------------------------------- */

static void echo_back(struct side *s, const uint8_t *bytes, size_t n)
{
    side_send(s, bytes, n);
}
static void end_closes(struct side *s)
{
    side_shut(s, false);
}
static void peer_says_and_half_closes(struct world *w, int fd)
{
    char buf[64];
    if (write(fd, "hello", 5) != 5) w->peer_failed = true;
    shutdown(fd, SHUT_WR);
    w->peer_got = read_all(fd, buf, sizeof buf);
    if (w->peer_got != 5 || memcmp(buf, "hello", 5) != 0) w->peer_failed = true;
}
static void a_half_closed_peer_still_gets_its_answer(void **state)
{
    (void)state;
    struct world w;
    world_new(&w);
    w.on_data = echo_back;
    w.on_end = end_closes;
    world_run(&w, peer_says_and_half_closes);
    assert_int_equal(w.side.ends, 1);
    assert_int_equal(w.side.error, 0);
    world_free(&w);
}

static void accept_sends_big(struct side *s)
{
    uint8_t *bytes = malloc(BIG_BYTES);
    memset(bytes, 'x', BIG_BYTES);
    size_t queued = side_send(s, bytes, BIG_BYTES);
    assert_true(queued > MR_CONN_WRITE_BYTES_HIGH && queued < BIG_BYTES);
    free(bytes);
    assert_int_equal(write(s->world->go[1], "g", 1), 1);
}
static void drain_closes(struct side *s)
{
    side_send(s, "end", 3);
    side_shut(s, false);
    assert_int_equal(side_send(s, "lost", 4), 0);
}
static void peer_reads_all(struct world *w, int fd)
{
    char *buf = malloc(BIG_BYTES + 64);
    if (read(w->go[0], buf, 1) != 1) w->peer_failed = true;
    w->peer_got = read_all(fd, buf, BIG_BYTES + 64);
    if (w->peer_got != BIG_BYTES + 3 || memcmp(buf + BIG_BYTES, "end", 3) != 0) {
        w->peer_failed = true;
    }
    free(buf);
}
static void the_queue_is_counted_drained_once_and_flushed_by_close(void **state)
{
    (void)state;
    struct world w;
    world_new(&w);
    w.on_accept = accept_sends_big;
    w.on_drain = drain_closes;
    world_run(&w, peer_reads_all);
    assert_int_equal(w.side.drains, 1);
    assert_int_equal(w.side.error, 0);
    world_free(&w);
}

static void accept_sends_and_drops(struct side *s)
{
    accept_sends_big(s);
    side_shut(s, true);
    side_shut(s, true);
    side_shut(s, false);
}
static void peer_reads_what_comes(struct world *w, int fd)
{
    char *buf = malloc(BIG_BYTES);
    if (read(w->go[0], buf, 1) != 1) w->peer_failed = true;
    w->peer_got = read_all(fd, buf, BIG_BYTES);
    free(buf);
}
static void close_now_drops_what_is_queued_and_is_told_once(void **state)
{
    (void)state;
    struct world w;
    world_new(&w);
    w.on_accept = accept_sends_and_drops;
    world_run(&w, peer_reads_what_comes);
    assert_true(w.peer_got < BIG_BYTES);
    world_free(&w);
}

static void accept_closes(struct side *s)
{
    side_send(s, "413", 3);
    side_shut(s, false);
}
static void peer_sends_much_then_reads(struct world *w, int fd)
{
    char *bytes = calloc(1, 1u << 20);
    size_t sent = 0;
    while (sent < 4u << 20) {
        ssize_t n = send(fd, bytes, 1u << 20, MSG_NOSIGNAL);
        if (n <= 0) break;
        sent += (size_t)n;
    }
    shutdown(fd, SHUT_WR);
    w->peer_got = read_all(fd, bytes, 100);
    if (sent != 4u << 20 || w->peer_got != 3) w->peer_failed = true;
    free(bytes);
}
static void an_early_answer_survives_bytes_that_nobody_read(void **state)
{
    (void)state;
    struct world w;
    world_new(&w);
    w.on_accept = accept_closes;
    world_run(&w, peer_sends_much_then_reads);
    assert_int_equal(w.side.in.n, 0); /* nothing is handed over after close */
    world_free(&w);
}

static void unpause(void *arg)
{
    struct side *s = arg;
    s->paused = false;
    s->world->wire->ops->read_pause(s->conn, false);
}
static void accept_pauses(struct side *s)
{
    struct mr_timer *timer;
    struct mr_env *env = s->world->env;
    s->paused = true;
    s->world->wire->ops->read_pause(s->conn, true);
    assert_int_equal(env->ops->timer_start(env, env->ops->now_us(env) + 50000, unpause, s, &timer),
                     0);
}
static void a_paused_connection_gets_its_bytes_and_its_end_later(void **state)
{
    (void)state;
    struct world w;
    world_new(&w);
    w.on_accept = accept_pauses;
    w.on_data = echo_back;
    w.on_end = end_closes;
    world_run(&w, peer_says_and_half_closes);
    assert_int_equal(w.side.ends, 1);
    world_free(&w);
}

static void peer_resets(struct world *w, int fd)
{
    struct linger linger = {1, 0};
    if (write(fd, "x", 1) != 1) w->peer_failed = true;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}
static void a_reset_closes_with_an_error(void **state)
{
    (void)state;
    struct world w;
    world_new(&w);
    world_run(&w, peer_resets);
    assert_int_equal(w.side.error, MR_ECLOSED);
    world_free(&w);
}

/* --- connecting ------------------------------------------------------------------------------ */

static void open_greets(struct side *s)
{
    side_send(s, "ping", 4);
}
static void data_closes(struct side *s, const uint8_t *bytes, size_t n)
{
    mr_buf_put(&s->in, bytes, n);
    side_shut(s, false);
}
static void connect_to(struct world *w, const char *address)
{
    w->side.inside = true;
    assert_int_equal(w->wire->ops->connect(w->wire, mr_str_from(address), &side_handler, &w->side,
                                           &w->side.conn),
                     0);
    w->side.inside = false;
}

static void *unix_server(void *arg)
{
    int listener = *(int *)arg;
    char buf[8];
    int fd = accept(listener, NULL, NULL);
    if (fd >= 0 && read_all(fd, buf, 4) == 4 && write(fd, "pong", 4) != 4) close(fd);
    if (fd >= 0) close(fd);
    return NULL;
}

/* A folder so deep that its path does not fit into a unix address. */
static void long_path(char *ret, size_t n, bool is_long)
{
    char folder[PATH_MAX];
    snprintf(ret, n, "/tmp/mr-loop-XXXXXX");
    assert_non_null(mkdtemp(ret));
    for (unsigned i = 0; i < (is_long ? 3u : 0u); i++) {
        snprintf(folder, sizeof folder, "%s/%050u", ret, i);
        assert_int_equal(mkdir(folder, 0700), 0);
        snprintf(ret, n, "%s", folder);
    }
}
static void folder_remove(char *path)
{
    while (strlen(path) >= strlen("/tmp/mr-loop-XXXXXX") && rmdir(path) == 0) {
        *strrchr(path, '/') = 0;
    }
}

static void connect_over_unix(bool is_long)
{
    struct world w;
    char folder[PATH_MAX], address[PATH_MAX + 16];
    struct sockaddr_un bound = {.sun_family = AF_UNIX};
    pthread_t thread;
    world_new(&w);
    long_path(folder, sizeof folder, is_long);
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(bound.sun_path, sizeof bound.sun_path, "wire.sock");
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&bound, sizeof bound), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(fchdir(here), 0);
    close(here);
    snprintf(address, sizeof address, "unix:%s/wire.sock", folder);
    assert_int_equal(strlen(address) > 112, is_long);
    assert_int_equal(pthread_create(&thread, NULL, unix_server, &listener), 0);
    w.on_open = open_greets;
    w.on_data = data_closes;
    connect_to(&w, address);
    assert_int_equal(mr_loop_run(w.loop), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(w.side.opens, 1);
    assert_int_equal(w.side.in.n, 4);
    assert_memory_equal(w.side.in.p, "pong", 4);
    world_free(&w);
    close(listener);
    unlink(address + 5);
    folder_remove(folder);
}
static void connects_over_a_unix_socket(void **state)
{
    (void)state;
    connect_over_unix(false);
}
static void connects_over_a_unix_path_longer_than_an_address_holds(void **state)
{
    (void)state;
    connect_over_unix(true);
}

static void a_refused_connect_is_told_by_on_close_only(void **state)
{
    (void)state;
    static const char *const nowhere[] = {"unix:/tmp/no/such/socket", "tcp:127.0.0.1:1",
                                          "tcp:[::1]:1"};
    for (size_t i = 0; i < MR_COUNT_OF(nowhere); i++) {
        struct world w;
        world_new(&w);
        connect_to(&w, nowhere[i]);
        assert_int_equal(mr_loop_run(w.loop), 0);
        assert_int_equal(w.side.opens, 0);
        assert_int_equal(w.side.error, MR_EUNAVAILABLE);
        world_free(&w);
    }
}

static void addresses_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",       "unix", "unix:",         "tcp:",          "tcp:127.0.0.1",    "tcp::",
        "http:x", "x:y",  "tcp:no.name:1", "tcp:1.2.3.4:0", "tcp:1.2.3.4:65536"};
    struct world w;
    world_new(&w);
    for (size_t i = 0; i < MR_COUNT_OF(bad); i++) {
        struct mr_conn *conn = NULL;
        assert_int_equal(
            w.wire->ops->connect(w.wire, mr_str_from(bad[i]), &side_handler, &w.side, &conn),
            MR_EINVALID);
        assert_null(conn);
    }
    mr_loop_free(w.loop);
    mr_buf_done(&w.side.in);
    close(w.go[0]);
    close(w.go[1]);
}

static void open_closes(struct side *s)
{
    side_shut(s, true);
}
static void tcp_connects_to_our_own_listener(void **state)
{
    (void)state;
    struct world w;
    char address[64];
    world_new(&w);
    snprintf(address, sizeof address, "tcp:localhost:%u", w.port);
    w.loop->lanes[0].conns_max = 0; /* what we dial is not accepted, and does not count */
    w.on_open = open_closes;
    connect_to(&w, address);
    assert_int_equal(mr_loop_run(w.loop), 0);
    assert_int_equal(w.side.opens, 1);
    assert_int_equal(w.accepted, 0);
    world_free(&w);
}

static void sent_before_it_was_open_goes_out_then(void **state)
{
    (void)state;
    struct world w;
    char folder[PATH_MAX], address[PATH_MAX + 16];
    struct sockaddr_un bound = {.sun_family = AF_UNIX};
    pthread_t thread;
    world_new(&w);
    long_path(folder, sizeof folder, false);
    snprintf(bound.sun_path, sizeof bound.sun_path, "%.90s/s", folder);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&bound, sizeof bound), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(pthread_create(&thread, NULL, unix_server, &listener), 0);
    snprintf(address, sizeof address, "unix:%s", bound.sun_path);
    w.on_data = data_closes;
    connect_to(&w, address);
    assert_int_equal(side_send(&w.side, "ping", 4), 4);
    assert_int_equal(mr_loop_run(w.loop), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(w.side.in.n, 4);
    world_free(&w);
    close(listener);
    unlink(bound.sun_path);
    folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_half_closed_peer_still_gets_its_answer),
        cmocka_unit_test(the_queue_is_counted_drained_once_and_flushed_by_close),
        cmocka_unit_test(close_now_drops_what_is_queued_and_is_told_once),
        cmocka_unit_test(an_early_answer_survives_bytes_that_nobody_read),
        cmocka_unit_test(a_paused_connection_gets_its_bytes_and_its_end_later),
        cmocka_unit_test(a_reset_closes_with_an_error),
        cmocka_unit_test(connects_over_a_unix_socket),
        cmocka_unit_test(connects_over_a_unix_path_longer_than_an_address_holds),
        cmocka_unit_test(a_refused_connect_is_told_by_on_close_only),
        cmocka_unit_test(addresses_that_are_none_are_refused),
        cmocka_unit_test(tcp_connects_to_our_own_listener),
        cmocka_unit_test(sent_before_it_was_open_goes_out_then),
    };
    return cmocka_run_group_tests_name("loop_conn", tests, NULL, NULL);
}
