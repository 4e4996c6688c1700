/* SPDX-License-Identifier: Apache-2.0 */
/* What fails in a loop: memory, descriptors, peers that are gone or never close. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "loop/loop_int.h"

/* --- memory that fails ----------------------------------------------------------------------- */

static struct {
    uint64_t nth, seen; /* atomic: clients are threads, but allocate nothing */
    bool hit;
} faults;

static void *fault_realloc(void *context, void *p, size_t n)
{
    (void)context;
    if (n == 0) {
        free(p);
        return NULL;
    }
    if (faults.nth > 0 && ++faults.seen == faults.nth) {
        faults.hit = true;
        return NULL;
    }
    return realloc(p, n);
}
static void faults_set(uint64_t nth)
{
    static const struct mr_allocator failing = {fault_realloc, NULL};
    mr_allocator_set(&failing);
    faults.nth = nth;
    faults.seen = 0;
    faults.hit = false;
}

/* --- a world of one lane --------------------------------------------------------------------- */

struct place {
    struct mr_loop *loop;
    struct mr_env *env;
    struct mr_wire *wire;
    uint16_t port;
    struct mr_conn *conn, *out;
    unsigned accepted, closed, out_closed, data;
    int error, out_error, connect_error, timer_error;
    struct mr_timer *timer;
    struct mr_post post;
    unsigned failures; /* of the client */
    void (*script)(struct place *w);
};

static int dial(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval patience = {10, 0};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    close(fd);
    return -1;
}

static void on_data(void *arg, const uint8_t *bytes, size_t n)
{
    struct place *w = arg;
    w->data++;
    (void)w->wire->ops->send(w->conn, bytes, n);
}
static void on_close(void *arg, int error)
{
    struct place *w = arg;
    w->error = error;
    __atomic_add_fetch(&w->closed, 1, __ATOMIC_RELEASE);
    w->conn = NULL;
}
static const struct mr_conn_handler in_handler = {.on_data = on_data, .on_close = on_close};

static void on_accept(void *arg, uint32_t lane, struct mr_conn *conn)
{
    struct place *w = arg;
    (void)lane;
    __atomic_add_fetch(&w->accepted, 1, __ATOMIC_RELEASE);
    w->conn = conn;
    w->wire->ops->handle(conn, &in_handler, w);
}

static int place_new(struct place *w)
{
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    mr_buf_init(&problem, 1024);
    *w = (struct place){0};
    int error = mr_loop_new(1, &w->loop);
    if (error != 0) return error;
    w->env = mr_loop_env(w->loop, 0);
    w->wire = mr_loop_wire(w->loop, 0);
    return mr_loop_listen(w->loop, MR_STR("127.0.0.1:0"), on_accept, w, &w->port, &problem);
}

static void *client_main(void *arg)
{
    struct place *w = arg;
    w->script(w);
    mr_loop_stop(w->loop);
    return NULL;
}
static void place_run(struct place *w, void (*script)(struct place *w))
{
    pthread_t thread;
    w->script = script;
    assert_int_equal(pthread_create(&thread, NULL, client_main, w), 0);
    assert_int_equal(mr_loop_run(w->loop), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* --- claims ---------------------------------------------------------------------------------- */

static void out_closed(void *arg, int error)
{
    struct place *w = arg;
    w->out_closed++;
    w->out_error = error;
}
static void ignore(void *arg)
{
    (void)arg;
}
static void on_post(struct mr_post *post)
{
    static const struct mr_conn_handler handler = {.on_close = out_closed};
    struct place *w = (struct place *)(void *)((char *)post - offsetof(struct place, post));
    w->connect_error =
        w->wire->ops->connect(w->wire, MR_STR("unix:/no/such/socket"), &handler, w, &w->out);
    w->timer_error = w->env->ops->timer_start(w->env, UINT64_MAX / 2, ignore, w, &w->timer);
}
static void script_echo(struct place *w)
{
    char c;
    int fd = dial(w->port);
    /* Either it is answered, or the connection ends. */
    if (fd >= 0 && send(fd, "x", 1, MSG_NOSIGNAL) == 1 && read(fd, &c, 1) == 1 && c != 'x') {
        w->failures++;
    }
    if (fd >= 0) close(fd);
}

static void each_allocation_may_fail(void **state)
{
    (void)state;
    bool hit = true;
    uint64_t nth = 1;
    for (; hit; nth++) {
        struct place w;
        assert_true(nth < 100);
        faults_set(nth);
        int error = place_new(&w);
        if (error != 0) {
            assert_int_equal(error, MR_ENO_MEMORY);
            hit = faults.hit;
            mr_loop_free(w.loop);
            continue;
        }
        w.post.fn = on_post;
        w.env->ops->post(w.env, 0, &w.post);
        place_run(&w, script_echo);
        hit = faults.hit;
        faults_set(0);
        assert_int_equal(w.failures, 0);
        assert_int_equal(w.closed, w.accepted);
        assert_true(w.connect_error == 0 || w.connect_error == MR_ENO_MEMORY);
        assert_int_equal(w.out_closed, w.connect_error == 0);
        if (w.timer_error == 0) w.env->ops->timer_stop(w.env, w.timer);
        assert_true(w.timer_error == 0 || w.timer_error == MR_ENO_MEMORY);
        if (w.closed > 0 && w.error != 0) assert_int_equal(w.error, MR_ENO_MEMORY);
        mr_loop_free(w.loop);
    }
    assert_true(nth > 6); /* loop, lanes, connections, timer, buffer */
    faults_set(0);
}

static void script_out_of_descriptors(struct place *w)
{
    struct rlimit old, low;
    int first = dial(w->port), held[64], count = 0;
    char c;
    if (first < 0 || send(first, "x", 1, MSG_NOSIGNAL) != 1 || read(first, &c, 1) != 1) {
        w->failures++;
    }
    /* A socket of our own is ready before the last descriptor is gone. */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    getrlimit(RLIMIT_NOFILE, &old);
    low = old;
    low.rlim_cur = (rlim_t)fd + 1;
    setrlimit(RLIMIT_NOFILE, &low);
    while (count < 64 && (held[count] = fcntl(0, F_DUPFD_CLOEXEC, 0)) >= 0)
        count++; /* holes below, if any */
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(w->port)};
    struct timeval patience = {10, 0};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    /* The kernel takes it into the backlog; we cannot. What is open is served all the same. */
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) w->failures++;
    for (unsigned i = 0; i < 100; i++) {
        if (send(first, "y", 1, MSG_NOSIGNAL) != 1 || read(first, &c, 1) != 1) w->failures++;
    }
    if (__atomic_load_n(&w->accepted, __ATOMIC_ACQUIRE) != 1) w->failures++;
    for (int i = 0; i < count; i++)
        close(held[i]);
    setrlimit(RLIMIT_NOFILE, &old);
    close(first);
    if (send(fd, "z", 1, MSG_NOSIGNAL) != 1 || read(fd, &c, 1) != 1 || c != 'z') w->failures++;
    close(fd);
}
static void without_descriptors_callers_wait_and_others_are_served(void **state)
{
    (void)state;
    struct place w;
    assert_int_equal(place_new(&w), 0);
    place_run(&w, script_out_of_descriptors);
    assert_int_equal(w.failures, 0);
    assert_int_equal(w.accepted, 2);
    mr_loop_free(w.loop);
}

static void close_after_answer(struct place *w)
{
    if (w->conn == NULL) return;
    (void)w->wire->ops->send(w->conn, "bye", 3);
    w->wire->ops->close(w->conn, false);
}
static void on_close_post(struct mr_post *post)
{
    close_after_answer((struct place *)(void *)((char *)post - offsetof(struct place, post)));
}
static void script_never_closes(struct place *w)
{
    char buf[8];
    struct timespec nap = {0, 20000000};
    int fd = dial(w->port);
    if (fd < 0 || send(fd, "x", 1, MSG_NOSIGNAL) != 1 || read(fd, buf, 1) != 1) w->failures++;
    w->post.fn = on_close_post;
    w->env->ops->post(w->env, 0, &w->post);
    size_t got = 0;
    while (got < 3) {
        ssize_t n = read(fd, buf, 3 - got);
        if (n <= 0) break;
        got += (size_t)n;
    }
    if (got != 3 || memcmp(buf, "bye", 3) != 0) w->failures++;
    if (read(fd, buf, 1) != 0) w->failures++; /* our side is shut at once */
    /* The peer neither sends nor closes: it is let go after the time for that. */
    for (unsigned i = 0; i < 500 && !__atomic_load_n(&w->closed, __ATOMIC_ACQUIRE); i++) {
        (void)nanosleep(&nap, NULL);
    }
    close(fd);
}
static void a_peer_that_never_closes_is_let_go(void **state)
{
    (void)state;
    struct place w;
    assert_int_equal(place_new(&w), 0);
    place_run(&w, script_never_closes);
    assert_int_equal(w.failures, 0);
    assert_int_equal(w.closed, 1);
    assert_int_equal(w.error, 0);
    mr_loop_free(w.loop);
}

static void script_goes_away(struct place *w)
{
    int fd = dial(w->port);
    struct linger linger = {1, 0};
    struct timespec nap = {0, 5000000};
    if (fd < 0 || send(fd, "x", 1, MSG_NOSIGNAL) != 1) w->failures++;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd); /* with what was echoed unread: a reset */
    for (unsigned i = 0; i < 1000 && !__atomic_load_n(&w->closed, __ATOMIC_ACQUIRE); i++) {
        (void)nanosleep(&nap, NULL);
    }
}
static void writing_to_a_peer_that_is_gone_ends_the_connection_and_nothing_else(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        struct place w;
        assert_int_equal(place_new(&w), 0);
        place_run(&w, script_goes_away);
        assert_int_equal(w.failures, 0);
        assert_int_equal(w.closed, w.accepted);
        mr_loop_free(w.loop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_may_fail),
        cmocka_unit_test(without_descriptors_callers_wait_and_others_are_served),
        cmocka_unit_test(a_peer_that_never_closes_is_let_go),
        cmocka_unit_test(writing_to_a_peer_that_is_gone_ends_the_connection_and_nothing_else),
    };
    return cmocka_run_group_tests_name("loop_fault", tests, NULL, NULL);
}
