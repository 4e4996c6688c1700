/* SPDX-License-Identifier: Apache-2.0 */
/* Other programs as children: started, read, waited for, killed.
 *
 * Owns:   nothing after a call; a started child and its pipe are the caller's.
 * Thread: any.
 * Fails:  with -1; what the child says itself goes to our standard error unless it is quiet.
 */
#include "cmd_child.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

pid_t cmd_child_start(const char *const *args, int *ret_out, bool quiet)
{
    posix_spawn_file_actions_t actions;
    int pipes[2] = {-1, -1};
    pid_t pid = -1;
    if (posix_spawn_file_actions_init(&actions) != 0) return -1;
    if (ret_out != NULL && pipe2(pipes, O_CLOEXEC) != 0) goto done;
    if (ret_out != NULL) {
        (void)posix_spawn_file_actions_adddup2(&actions, pipes[1], STDOUT_FILENO);
    } else {
        (void)posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    }
    if (quiet) {
        (void)posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    }
    /* posix_spawnp does not write to its arguments. */
    if (posix_spawnp(&pid, args[0], &actions, NULL, (char *const *)(uintptr_t)args, environ) != 0)
        pid = -1;
    if (ret_out == NULL) goto done;
    (void)close(pipes[1]); /* the child has its own */
    if (pid > 0)
        *ret_out = pipes[0];
    else
        (void)close(pipes[0]); /* only to be read from */
done:
    (void)posix_spawn_file_actions_destroy(&actions);
    return pid;
}

int cmd_child_wait(pid_t pid)
{
    int status = 0;
    if (waitpid(pid, &status, 0) != pid) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int cmd_child_run(const char *const *args, struct mr_buf *out, bool quiet)
{
    char chunk[4096];
    ssize_t n = 0;
    int fd = -1;
    pid_t pid = cmd_child_start(args, out != NULL ? &fd : NULL, quiet);
    if (pid < 0) return -1;
    while (out != NULL && (n = read(fd, chunk, sizeof chunk)) > 0)
        mr_buf_put(out, chunk, (size_t)n);
    if (out != NULL) (void)close(fd); /* only read from */
    int code = cmd_child_wait(pid);
    return n == 0 && (out == NULL || !out->failed) ? code : -1;
}

void cmd_child_kill(pid_t pid)
{
    if (pid <= 0) return;
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0); /* gone either way */
}

void cmd_folder_remove(const char *folder)
{
    const char *const rm[] = {"rm", "-rf", folder, NULL};
    (void)cmd_child_run(rm, NULL, false); /* says itself what it could not remove */
}

uint16_t cmd_port_free(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return 0;
    bool good = bind(fd, (struct sockaddr *)&address, n) == 0 &&
                getsockname(fd, (struct sockaddr *)&address, &n) == 0;
    (void)close(fd); /* only asked for a number */
    return good ? ntohs(address.sin_port) : 0;
}
