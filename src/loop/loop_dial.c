/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that connect: addresses of workers to descriptors.
 *
 * Owns:   the descriptor until it is handed over.
 * Thread: any.
 * Fails:  MR_EINVALID for an address that is none, MR_ENO_MEMORY without a descriptor.
 * Ends:   nothing.
 *
 * A unix address holds 107 bytes of path at most. Homes lie deeper than that, so a longer path is
 * reached through /proc/self/fd of its folder, which is held open while connecting.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "loop_int.h"

static int path_to_unix(struct mr_str path, struct sockaddr_un *ret, int *ret_folder_fd)
{
    ret->sun_family = AF_UNIX;
    if (path.n < sizeof ret->sun_path) {
        memcpy(ret->sun_path, path.p, path.n);
        return 0;
    }
    const char *slash = memrchr(path.p, '/', path.n);
    char folder[PATH_MAX];
    if (slash == NULL || (size_t)(slash - path.p) >= sizeof folder) return MR_EINVALID;
    size_t folder_length = (size_t)(slash - path.p);
    memcpy(folder, path.p, folder_length);
    folder[folder_length] = 0;
    struct mr_str name = {slash + 1, path.n - folder_length - 1};
    int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return loop_error_from_errno(errno);
    int n = snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/%.*s", fd,
                     MR_STR_ARG(name));
    if (n < 0 || (size_t)n >= sizeof ret->sun_path) {
        (void)close(fd); /* was only opened to be named */
        return MR_EINVALID;
    }
    *ret_folder_fd = fd;
    return 0;
}

static int dial(const struct sockaddr *address, socklen_t length, int *ret_fd, int *ret_refused)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return loop_error_from_errno(errno);
    int on = 1;
    if (address->sa_family != AF_UNIX) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* only slower without */
    }
    *ret_refused = connect(fd, address, length) == 0 || errno == EINPROGRESS ? 0 : errno;
    *ret_fd = fd;
    return 0;
}

static int dial_unix(struct mr_str path, int *ret_fd, int *ret_refused)
{
    struct sockaddr_un address = {0};
    int folder_fd = -1;
    if (path.n == 0 || memchr(path.p, 0, path.n) != NULL) return MR_EINVALID;
    int error = path_to_unix(path, &address, &folder_fd);
    if (error == 0) {
        error = dial((const struct sockaddr *)&address, sizeof address, ret_fd, ret_refused);
    }
    if (folder_fd >= 0) (void)close(folder_fd); /* a unix connect is done or refused by now */
    return error;
}

static int dial_tcp(struct mr_str rest, int *ret_fd, int *ret_refused)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    const char *colon = rest.n == 0 ? NULL : memrchr(rest.p, ':', rest.n);
    uint64_t port = 0;
    if (colon == NULL) return MR_EINVALID;
    struct mr_str host = {rest.p, (size_t)(colon - rest.p)};
    struct mr_str port_text = {colon + 1, rest.n - host.n - 1};
    if (mr_str_to_u64(port_text, &port) != 0 || port == 0 || port > UINT16_MAX) return MR_EINVALID;
    if (host.n >= 2 && host.p[0] == '[' && host.p[host.n - 1] == ']') {
        host = (struct mr_str){host.p + 1, host.n - 2};
    }
    if (mr_str_equal(host, MR_STR("localhost"))) host = MR_STR("127.0.0.1");
    char text[INET6_ADDRSTRLEN];
    if (host.n == 0 || host.n >= sizeof text) return MR_EINVALID;
    memcpy(text, host.p, host.n);
    text[host.n] = 0;
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        v4.sin_port = htons((uint16_t)port);
        return dial((const struct sockaddr *)&v4, sizeof v4, ret_fd, ret_refused);
    }
    if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) {
        v6.sin6_port = htons((uint16_t)port);
        return dial((const struct sockaddr *)&v6, sizeof v6, ret_fd, ret_refused);
    }
    return MR_EINVALID; /* names are not looked up: that would stop the lane */
}

int loop_dial(struct mr_str address, int *ret_fd, int *ret_refused)
{
    struct mr_str rest = address, scheme;
    if (!mr_str_split(&rest, ':', &scheme) || rest.p == NULL) return MR_EINVALID;
    if (mr_str_equal(scheme, MR_STR("unix"))) return dial_unix(rest, ret_fd, ret_refused);
    if (mr_str_equal(scheme, MR_STR("tcp"))) return dial_tcp(rest, ret_fd, ret_refused);
    return MR_EINVALID;
}
