/* SPDX-License-Identifier: Apache-2.0 */
/* Listening: one socket, bound once, from which every gate's lane accepts.
 *
 * Owns:       the listening descriptor until mr_loop_free or until no lane listens any more.
 * Invariants: (1) a lane never has more than conns_max accepted connections;
 *             (2) a connection that the service did not take is closed.
 * Thread:     listen: before mr_loop_run; accepting: each lane for itself.
 * Fails:      listen with a line for people; accept never: a lane without descriptors waits a
 * while. Ends:       mr_loop_free.
 *
 * One shared socket rather than one for each lane with SO_REUSEPORT: with that, a second daemon of
 * the same person could bind the same port and take half of the callers without anybody noticing.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop_int.h"

/* --- accepting ------------------------------------------------------------------------------- */

static void listener_ready(uv_poll_t *poll, int status, int events);

static void accept_again(uv_timer_t *timer)
{
    struct loop_lane *lane = timer->data;
    if (lane->has_listener) (void)uv_poll_start(&lane->listener, UV_READABLE, listener_ready);
}

static void accept_one(struct loop_lane *lane, int take_fd)
{
    int on = 1;
    if (lane->accepted_count >= lane->conns_max) {
        (void)close(take_fd); /* over the limit */
        return;
    }
    (void)setsockopt(take_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* only slower without */
    struct mr_conn *conn = loop_conn_adopt(lane, take_fd);
    if (conn == NULL) return;
    lane->loop->accept(lane->loop->accept_arg, lane->env.lane, conn);
    if (conn->handler == NULL) lane->wire.ops->close(conn, true);
}

static void listener_ready(uv_poll_t *poll, int status, int events)
{
    struct loop_lane *lane = poll->data;
    (void)status;
    (void)events; /* whatever it is, accept4 tells */
    for (unsigned i = 0; i < LOOP_ACCEPTS_PER_TURN && lane->has_listener; i++) {
        int fd = accept4(lane->loop->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            accept_one(lane, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            /* The socket stays readable, so waiting is the only way not to spin. */
            (void)uv_poll_stop(&lane->listener);
            (void)uv_timer_start(&lane->accept_retry, accept_again, LOOP_ACCEPT_RETRY_MS, 0);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return; /* EAGAIN: another lane was faster */
        }
    }
}

int loop_listener_start(struct loop_lane *lane)
{
    if (lane->loop->listen_fd < 0) return 0;
    if (uv_poll_init(&lane->uv, &lane->listener, lane->loop->listen_fd) != 0) return MR_EIO;
    lane->listener.data = lane;
    lane->accept_retry.data = lane;
    lane->has_listener = true;
    return uv_poll_start(&lane->listener, UV_READABLE, listener_ready) == 0 ? 0 : MR_EIO;
}

void loop_listener_stop(struct loop_lane *lane)
{
    if (!lane->has_listener) return;
    lane->has_listener = false;
    (void)uv_timer_stop(&lane->accept_retry); /* cannot fail */
    uv_close((uv_handle_t *)&lane->listener, NULL);
}

/* --- binding --------------------------------------------------------------------------------- */

static int address_bad(struct mr_buf *problem, struct mr_str address, const char *why)
{
    mr_buf_printf(problem,
                  "cannot listen on \"%.*s\": %s; give HOST:PORT, for example 127.0.0.1:8080, "
                  "[::1]:8080 for IPv6, or port 0 for any free one",
                  MR_STR_ARG(address), why);
    return MR_EINVALID;
}

static int address_split(struct mr_str address, char host[256], char port[8],
                         struct mr_buf *problem)
{
    const char *colon = address.n == 0 ? NULL : memrchr(address.p, ':', address.n);
    uint64_t number = 0;
    if (colon == NULL) return address_bad(problem, address, "there is no port");
    struct mr_str host_text = {address.p, (size_t)(colon - address.p)};
    struct mr_str port_text = {colon + 1, address.n - host_text.n - 1};
    if (mr_str_to_u64(port_text, &number) != 0 || number > UINT16_MAX) {
        return address_bad(problem, address, "the port is not a number from 0 to 65535");
    }
    if (host_text.n >= 2 && host_text.p[0] == '[' && host_text.p[host_text.n - 1] == ']') {
        host_text = (struct mr_str){host_text.p + 1, host_text.n - 2};
    } else if (host_text.n > 0 && memchr(host_text.p, ':', host_text.n) != NULL) {
        return address_bad(problem, address, "an IPv6 address needs square brackets");
    }
    if (host_text.n == 0) return address_bad(problem, address, "there is no host");
    if (host_text.n >= 256) return address_bad(problem, address, "the host is too long");
    memcpy(host, host_text.p, host_text.n);
    host[host_text.n] = 0;
    (void)snprintf(port, 8, "%u", (unsigned)number);
    return 0;
}

static int bind_problem(struct mr_buf *problem, struct mr_str address, const char *port, int error)
{
    mr_cleanup(mr_buf_done) struct mr_buf who;
    uint64_t number = 0;
    mr_buf_init(&who, 256);
    mr_buf_printf(problem, "cannot listen on %.*s: ", MR_STR_ARG(address));
    switch (error) {
    case EADDRINUSE:
        (void)mr_str_to_u64(mr_str_from(port), &number); /* was checked when it was split */
        loop_who_listens((uint16_t)number, &who);
        if (who.n == 0) mr_buf_put_str(&who, MR_STR("another process"));
        mr_buf_printf(problem,
                      "port %s is taken by %.*s; stop that, or listen on another port (port 0 "
                      "takes any free one)",
                      port, MR_STR_ARG(mr_buf_str(&who)));
        return MR_EEXISTS;
    case EACCES:
        mr_buf_put_str(problem, MR_STR("ports below 1024 are for root; take one from 1024 on"));
        return MR_EFORBIDDEN;
    case EADDRNOTAVAIL:
        mr_buf_put_str(problem, MR_STR("no interface of this machine has that address; 127.0.0.1 "
                                       "is this machine alone, 0.0.0.0 is every interface"));
        return MR_EINVALID;
    default:
        mr_buf_put_str(problem, mr_str_from(uv_strerror(uv_translate_sys_error(error))));
        return MR_EIO;
    }
}

static int bind_one(const struct addrinfo *info, int *ret_errno)
{
    int on = 1;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        *ret_errno = errno;
        return -1;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* else bind tells */
    if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, LOOP_BACKLOG) == 0) return fd;
    *ret_errno = errno;
    (void)close(fd); /* nothing was sent */
    return -1;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0) return 0;
    if (address.ss_family == AF_INET6) {
        return ntohs(((struct sockaddr_in6 *)(void *)&address)->sin6_port);
    }
    return ntohs(((struct sockaddr_in *)(void *)&address)->sin_port);
}

int mr_loop_listen(struct mr_loop *loop, struct mr_str address,
                   void (*accept_fn)(void *arg, uint32_t lane, struct mr_conn *conn), void *arg,
                   uint16_t *ret_port, struct mr_buf *problem)
{
    char host[256], port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    MR_ASSERT(loop->listen_fd < 0);
    int error = address_split(address, host, port, problem);
    if (error != 0) return error;
    int found = getaddrinfo(host, port, &hints, &list);
    if (found != 0) return address_bad(problem, address, gai_strerror(found));
    int fd = -1, bind_errno = 0;
    for (const struct addrinfo *info = list; info != NULL && fd < 0; info = info->ai_next) {
        fd = bind_one(info, &bind_errno);
    }
    freeaddrinfo(list);
    if (fd < 0) return bind_problem(problem, address, port, bind_errno);
    loop->listen_fd = fd;
    loop->accept = accept_fn;
    loop->accept_arg = arg;
    for (uint32_t i = loop->lane_count > 1 ? 1 : 0; i < loop->lane_count && error == 0; i++) {
        error = loop_listener_start(&loop->lanes[i]);
    }
    if (error != 0) {
        mr_buf_put_str(problem, MR_STR("cannot watch the listening socket"));
        return error;
    }
    *ret_port = port_of(fd);
    return 0;
}
