/* SPDX-License-Identifier: Apache-2.0 */
/* Listening: who has the port, how many are let in, several lanes on one socket. */
#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "loop/loop_int.h"

#define GATES   3u
#define CLIENTS 8u
#define ROUNDS  25u

static int dial(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval patience = {10, 0};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    close(fd);
    return -1;
}

static void nobody_accepts(void *arg, uint32_t lane, struct mr_conn *conn)
{
    (void)arg;
    (void)lane;
    (void)conn;
}

static int listen_try(const char *address, uint16_t *port, struct mr_buf *problem)
{
    struct mr_loop *loop;
    assert_int_equal(mr_loop_new(1, &loop), 0);
    mr_buf_reset(problem);
    int error = mr_loop_listen(loop, mr_str_from(address), nobody_accepts, NULL, port, problem);
    mr_loop_free(loop);
    return error;
}

static bool has(const struct mr_buf *text, const char *part)
{
    return memmem(text->p, text->n, part, strlen(part)) != NULL;
}

static void a_taken_port_names_the_process_that_has_it(void **state)
{
    (void)state;
    struct mr_loop *loop;
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    uint16_t port = 0, other = 7;
    char address[64], pid[64];
    mr_buf_init(&problem, 1024);
    assert_int_equal(mr_loop_new(2, &loop), 0);
    assert_int_equal(
        mr_loop_listen(loop, MR_STR("127.0.0.1:0"), nobody_accepts, NULL, &port, &problem), 0);
    snprintf(address, sizeof address, "127.0.0.1:%u", port);
    snprintf(pid, sizeof pid, "process %d (test_loop_lis", (int)getpid());
    assert_int_equal(listen_try(address, &other, &problem), MR_EEXISTS);
    assert_int_equal(other, 7);
    assert_true(has(&problem, pid));
    assert_true(has(&problem, "port 0"));
    mr_loop_free(loop);
    assert_int_equal(listen_try(address, &other, &problem), 0);
    assert_int_equal(other, port);
}

static void a_wrong_address_says_what_a_right_one_is(void **state)
{
    (void)state;
    static const char *const bad[] = {"",          "8080",        ":8080",           "127.0.0.1:",
                                      "1.2.3.4:x", "::1:8080",    "127.0.0.1:65536", "[::1]",
                                      "no name:1", "127.0.0.1:-1"};
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    uint16_t port = 0;
    mr_buf_init(&problem, 1024);
    for (size_t i = 0; i < MR_COUNT_OF(bad); i++) {
        assert_int_equal(listen_try(bad[i], &port, &problem), MR_EINVALID);
        assert_true(has(&problem, "HOST:PORT"));
    }
    assert_int_equal(listen_try("192.0.2.1:0", &port, &problem), MR_EINVALID);
    assert_true(has(&problem, "no interface"));
    assert_int_equal(port, 0);
    assert_int_equal(listen_try("[::1]:0", &port, &problem), 0);
}

/* --- echo on several lanes ------------------------------------------------------------------- */

struct echo_world;
struct echo_conn {
    struct echo_world *world;
    struct mr_conn *conn;
    uint32_t lane;
};
struct echo_world {
    struct mr_loop *loop;
    uint16_t port;
    uint32_t opened, closed, clients_done, failures; /* atomic */
    uint32_t per_lane[GATES + 1];                    /* each on its lane */
};

static void echo_data(void *arg, const uint8_t *bytes, size_t n)
{
    struct echo_conn *c = arg;
    struct mr_wire *wire = mr_loop_wire(c->world->loop, c->lane);
    wire->ops->send(c->conn, bytes, n);
    if (bytes[n - 1] == '.') wire->ops->close(c->conn, false);
}
static void echo_close(void *arg, int error)
{
    struct echo_conn *c = arg;
    (void)error;
    __atomic_add_fetch(&c->world->closed, 1, __ATOMIC_ACQ_REL);
    free(c);
}
static const struct mr_conn_handler echo_handler = {.on_data = echo_data, .on_close = echo_close};

static void echo_accept(void *arg, uint32_t lane, struct mr_conn *conn)
{
    struct echo_world *w = arg;
    struct echo_conn *c = calloc(1, sizeof *c);
    *c = (struct echo_conn){w, conn, lane};
    w->per_lane[lane]++;
    __atomic_add_fetch(&w->opened, 1, __ATOMIC_ACQ_REL);
    mr_loop_wire(w->loop, lane)->ops->handle(conn, &echo_handler, c);
}

static void *echo_client(void *arg)
{
    struct echo_world *w = arg;
    char buf[8];
    for (unsigned i = 0; i < ROUNDS; i++) {
        int fd = dial(w->port);
        bool good = fd >= 0 && send(fd, "abc.", 4, MSG_NOSIGNAL) == 4;
        size_t got = 0;
        while (good && got < 4) {
            ssize_t n = read(fd, buf + got, sizeof buf - got);
            if (n <= 0) good = false;
            if (n > 0) got += (size_t)n;
        }
        good = good && memcmp(buf, "abc.", 4) == 0 && read(fd, buf, 1) == 0;
        if (!good) __atomic_add_fetch(&w->failures, 1, __ATOMIC_ACQ_REL);
        if (fd >= 0) close(fd);
    }
    if (__atomic_add_fetch(&w->clients_done, 1, __ATOMIC_ACQ_REL) == CLIENTS) {
        mr_loop_stop(w->loop);
    }
    return NULL;
}

static void lanes_share_one_listening_socket(void **state)
{
    (void)state;
    struct echo_world w = {0};
    pthread_t threads[CLIENTS];
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    mr_buf_init(&problem, 1024);
    assert_int_equal(mr_loop_new(GATES + 1, &w.loop), 0);
    assert_int_equal(
        mr_loop_listen(w.loop, MR_STR("127.0.0.1:0"), echo_accept, &w, &w.port, &problem), 0);
    for (unsigned i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, echo_client, &w), 0);
    }
    assert_int_equal(mr_loop_run(w.loop), 0);
    for (unsigned i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(w.failures, 0);
    assert_int_equal(w.opened, CLIENTS * ROUNDS);
    assert_int_equal(w.closed, w.opened);
    assert_int_equal(w.per_lane[0], 0); /* lane 0 is ctl's */
    mr_loop_free(w.loop);
}

/* --- the limit ------------------------------------------------------------------------------- */

static void *limit_client(void *arg)
{
    struct echo_world *w = arg;
    int fd[3];
    char c;
    for (unsigned i = 0; i < 3; i++) {
        fd[i] = dial(w->port);
        bool good = fd[i] >= 0 && send(fd[i], "x", 1, MSG_NOSIGNAL) == 1 && read(fd[i], &c, 1) == 1;
        if (good != (i < 2)) w->failures++;
    }
    close(fd[2]);
    close(fd[0]);
    /* A place is free again once the lane has seen the close. */
    bool in = false;
    for (unsigned i = 0; i < 1000 && !in; i++) {
        fd[0] = dial(w->port);
        in = fd[0] >= 0 && send(fd[0], "x", 1, MSG_NOSIGNAL) == 1 && read(fd[0], &c, 1) == 1;
        if (!in && fd[0] >= 0) close(fd[0]);
    }
    if (!in) w->failures++;
    if (in) close(fd[0]);
    close(fd[1]);
    mr_loop_stop(w->loop);
    return NULL;
}

static void one_connection_past_the_limit_is_closed(void **state)
{
    (void)state;
    struct echo_world w = {0};
    pthread_t thread;
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    mr_buf_init(&problem, 1024);
    assert_int_equal(mr_loop_new(1, &w.loop), 0);
    assert_int_equal(w.loop->lanes[0].conns_max, MR_CONNS_PER_LOOP_MAX);
    w.loop->lanes[0].conns_max = 2;
    assert_int_equal(
        mr_loop_listen(w.loop, MR_STR("127.0.0.1:0"), echo_accept, &w, &w.port, &problem), 0);
    assert_int_equal(pthread_create(&thread, NULL, limit_client, &w), 0);
    assert_int_equal(mr_loop_run(w.loop), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(w.failures, 0);
    assert_int_equal(w.opened, 3);
    assert_int_equal(w.closed, 3);
    mr_loop_free(w.loop);
}

static void *stop_client(void *arg)
{
    struct echo_world *w = arg;
    char c;
    int fd = dial(w->port);
    if (fd < 0 || send(fd, "x", 1, MSG_NOSIGNAL) != 1 || read(fd, &c, 1) != 1) w->failures++;
    mr_loop_listen_stop(w->loop);
    int refused = dial(w->port);
    if (refused >= 0) w->failures++;
    /* What is open stays. */
    if (send(fd, "y", 1, MSG_NOSIGNAL) != 1 || read(fd, &c, 1) != 1) w->failures++;
    close(fd);
    mr_loop_stop(w->loop);
    return NULL;
}

static void after_listen_stop_callers_are_refused_and_open_connections_stay(void **state)
{
    (void)state;
    struct echo_world w = {0};
    pthread_t thread;
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    mr_buf_init(&problem, 1024);
    assert_int_equal(mr_loop_new(2, &w.loop), 0);
    assert_int_equal(
        mr_loop_listen(w.loop, MR_STR("127.0.0.1:0"), echo_accept, &w, &w.port, &problem), 0);
    assert_int_equal(pthread_create(&thread, NULL, stop_client, &w), 0);
    assert_int_equal(mr_loop_run(w.loop), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(w.failures, 0);
    assert_int_equal(w.closed, 1);
    mr_loop_free(w.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_taken_port_names_the_process_that_has_it),
        cmocka_unit_test(a_wrong_address_says_what_a_right_one_is),
        cmocka_unit_test(lanes_share_one_listening_socket),
        cmocka_unit_test(one_connection_past_the_limit_is_closed),
        cmocka_unit_test(after_listen_stop_callers_are_refused_and_open_connections_stay),
    };
    return cmocka_run_group_tests_name("loop_listen", tests, NULL, NULL);
}
