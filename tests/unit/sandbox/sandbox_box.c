/* SPDX-License-Identifier: Apache-2.0 */
/* See sandbox_box.h.
 *
 * Owns: a temporary folder for each box, removed by box_remove.
 */
#include "sandbox_box.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void file_read(const char *path, char *ret, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, ret, size - 1) : 0;
    ret[n > 0 ? n : 0] = 0;
    if (fd >= 0) close(fd);
}

void box_make(struct box *box, const char *spec)
{
    char path[96];
    *box = (struct box){.folder = "/tmp/mr-sandbox-XXXXXX"};
    assert_non_null(mkdtemp(box->folder));
    assert_int_equal(chmod(box->folder, 0777), 0);
    snprintf(path, sizeof path, "%s/spec.json", box->folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    size_t n = strlen(spec);
    assert_int_equal(write(fd, spec, n), (ssize_t)n);
    close(fd);
}

pid_t box_start(struct box *box, uid_t user, int *ret_out_fd)
{
    int ends[2];
    char variable[96];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    snprintf(variable, sizeof variable, "MILLRACE_RUN_DIR=%s", box->folder);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char *argv[] = {(char *)(uintptr_t)TEST_SANDBOX, NULL};
        char secret[] = "MR_SECRET=1", path[] = "PATH=/usr/bin:/bin";
        char *env[] = {variable, secret, path, NULL};
        int null = open("/dev/null", O_RDWR);
        dup2(ends[1], 1);
        dup2(null, 2);
        /* Descriptors that nobody closed: they must not get in. */
        dup2(open("/", O_RDONLY | O_DIRECTORY), 77);
        if (user != 0 && (setgid(user) != 0 || setuid(user) != 0)) _exit(99);
        execve(argv[0], argv, env);
        _exit(98);
    }
    close(ends[1]);
    *ret_out_fd = ends[0];
    return pid;
}

void box_wait(struct box *box, pid_t pid, int out_fd)
{
    int status;
    size_t n = 0;
    char path[96], drop[4096];
    for (;;) {
        bool full = n >= sizeof box->out - 1;
        ssize_t got =
            read(out_fd, full ? drop : box->out + n, full ? sizeof drop : sizeof box->out - 1 - n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        if (!full) n += (size_t)got;
    }
    box->out[n] = 0;
    close(out_fd);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    box->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    snprintf(path, sizeof path, "%s/result.json", box->folder);
    file_read(path, box->result, sizeof box->result);
}

void box_remove(struct box *box)
{
    static const char *const names[] = {"spec.json", "result.json", ".result.json.tmp"};
    for (size_t i = 0; i < MR_COUNT_OF(names); i++) {
        char path[96];
        snprintf(path, sizeof path, "%s/%s", box->folder, names[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(box->folder), 0);
}

void box_run(struct box *box, const char *spec)
{
    int out;
    box_make(box, spec);
    pid_t pid = box_start(box, 0, &out);
    box_wait(box, pid, out);
    box_remove(box);
}

void box_need(void)
{
    struct box box;
    box_run(&box, "{\"command\":[\"true\"]}");
    if (box.exit_code == 125 && strstr(box.result, "no isolation") != NULL) {
        print_message("%s\n", box.result);
        skip();
    }
}

void box_want(const struct box *box, const char *text)
{
    if (strstr(box->result, text) == NULL) fail_msg("no %s in %s", text, box->result);
}
