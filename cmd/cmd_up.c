/* SPDX-License-Identifier: Apache-2.0 */
/* `up`: takes the home, goes to the background when asked, and says what is ready.
 *
 * The daemon itself is in cmd_daemon.c; here is what a person or a script sees of it.
 *
 * Owns:  the home's lock for as long as the daemon lives.
 * Fails: with one line on standard error before anything was changed; the parent of a detached
 *        daemon hands on its exit code.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cmd_daemon.h"

#define LOCK_TRIES       150u
#define REPORT_BYTES_MAX ((size_t)1024 * 1024)

/* Where the parent of a detached daemon waits: an exit code's byte, then what is to be printed. */
struct reporter {
    int fd; /* -1: print it here */
    char *home;
};

static void put_devices_json(struct mr_buf *out, const struct mr_engine_machine *machine)
{
    mr_buf_put_str(out, MR_STR("[{\"type\":\"cpu\",\"name\":"));
    mr_json_put_string(out, mr_str_from(machine->cpu_name));
    mr_buf_printf(out, ",\"count\":%u,\"memory_mib\":%u}", machine->cpu_milli / 1000,
                  machine->mem_mib);
    if (machine->accel_count > 0) {
        mr_buf_put_str(out, MR_STR(",{\"type\":\"accelerator\",\"name\":"));
        mr_json_put_string(out, mr_str_from(machine->accel_name));
        mr_buf_printf(out, ",\"count\":%u}", machine->accel_count);
    }
    mr_buf_put_char(out, ']');
}

static void put_field(struct mr_buf *out, const char *name, const char *value)
{
    mr_buf_printf(out, ",\"%s\":", name);
    mr_json_put_string(out, mr_str_from(value));
}

static void put_json(struct mr_buf *out, const struct cmd_daemon_ready *ready)
{
    mr_buf_put_str(out, MR_STR("{\"url\":"));
    mr_json_put_string(out, mr_str_from(ready->url));
    mr_buf_printf(out, ",\"pid\":%d,\"version\":\"%s\"", (int)getpid(), MR_VERSION);
    if (ready->api_key[0] != 0) {
        put_field(out, "api_key", ready->api_key);
        put_field(out, "admin_key", ready->admin_key);
    }
    mr_buf_put_str(out, MR_STR(",\"devices\":"));
    put_devices_json(out, ready->machine);
    mr_buf_put_str(out, MR_STR(",\"models\":["));
    if (ready->model[0] != 0) mr_json_put_string(out, mr_str_from(ready->model));
    mr_buf_put_str(out, MR_STR("]}\n"));
}

/* Text between single quotes of a shell: each of its own becomes '\\''. */
static void put_in_quotes(struct mr_buf *out, struct mr_str text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\'') mr_buf_put_str(out, MR_STR("'\\'"));
        mr_buf_put_char(out, text.p[i]);
    }
}

static void put_paste(struct mr_buf *out, const struct cmd_daemon_ready *ready)
{
    const char *key = ready->api_key[0] != 0 ? ready->api_key : "$MILLRACE_API_KEY";
    mr_cleanup(mr_buf_done) struct mr_buf model;
    mr_buf_init(&model, REPORT_BYTES_MAX);
    mr_json_put_string(&model, mr_str_from(ready->model));
    mr_buf_printf(out,
                  "\npaste one of these:\n"
                  "  curl %s/v1/chat/completions -H \"Authorization: Bearer %s\" -H "
                  "\"Content-Type: application/json\" -d '{\"model\":",
                  ready->url, key);
    put_in_quotes(out, mr_buf_str(&model));
    mr_buf_printf(out,
                  ",\"messages\":[{\"role\":\"user\",\"content\":\"What is a millrace?\"}]}'\n"
                  "  export OPENAI_BASE_URL=%s/v1 OPENAI_API_KEY=%s\n"
                  "  '",
                  ready->url, key);
    put_in_quotes(out, mr_str_from(ready->self));
    mr_buf_put_str(out, MR_STR("' chat \"What is a millrace?\"\n"));
}

static void put_text(struct mr_buf *out, const struct cmd_daemon_ready *ready)
{
    const struct mr_engine_machine *machine = ready->machine;
    mr_buf_printf(out, "Millrace %s is up at %s\n", MR_VERSION, ready->url);
    mr_buf_printf(out, "home:      %s\n", ready->home);
    mr_buf_printf(out, "devices:   %u vCPU (%s), %.1f GiB of memory", machine->cpu_milli / 1000,
                  machine->cpu_name, machine->mem_mib / 1024.0);
    if (machine->accel_count > 0) {
        mr_buf_printf(out, ", %u x %s\n", machine->accel_count, machine->accel_name);
    } else {
        mr_buf_put_str(out, MR_STR("; no accelerator\n"));
    }
    if (ready->model[0] != 0) {
        mr_buf_printf(out, "model:     %s; it loads now, chats wait for it\n", ready->model);
    } else {
        mr_buf_put_str(out,
                       MR_STR("model:     none; `millrace serve --model FILE.gguf` serves one\n"));
    }
    if (ready->api_key[0] != 0) {
        mr_buf_printf(out,
                      "admin key: %s   (kept in %s/admin.key)\n"
                      "API key:   %s   (shown once; only its hash is kept)\n",
                      ready->admin_key, ready->home, ready->api_key);
    } else {
        mr_buf_put_str(out, MR_STR("keys:      as before; `millrace key` makes another\n"));
    }
    if (ready->model[0] != 0) put_paste(out, ready);
}

static void on_ready(void *arg, const struct cmd_daemon_ready *ready)
{
    struct reporter *reporter = arg;
    mr_cleanup(mr_buf_done) struct mr_buf out;
    mr_buf_init(&out, REPORT_BYTES_MAX);
    if (reporter->fd >= 0) mr_buf_put_char(&out, 0);
    if (ready->json) {
        put_json(&out, ready);
    } else {
        put_text(&out, ready);
    }
    if (reporter->fd < 0) {
        (void)fwrite(out.p, 1, out.n, stdout); /* a closed standard output stops no daemon */
        (void)fflush(stdout);
        return;
    }
    for (size_t at = 0; at < out.n;) {
        ssize_t n = write(reporter->fd, out.p + at, out.n - at);
        if (n <= 0) break; /* the parent was stopped: it wanted to know no more */
        at += (size_t)n;
    }
    (void)close(reporter->fd);
    reporter->fd = -1;
    /* From here on the terminal is somebody else's. */
    char *path = cmd_path(reporter->home, "daemon.log");
    int log = path != NULL ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    free(path);
    if (log >= 0) {
        (void)dup2(log, STDOUT_FILENO);
        (void)dup2(log, STDERR_FILENO);
        (void)close(log);
    }
}

/* The parent's end: what the daemon said, or that it died. */
static int wait_ready(struct cmd *cmd, int fd, pid_t child)
{
    mr_cleanup(mr_buf_done) struct mr_buf said;
    mr_buf_init(&said, REPORT_BYTES_MAX);
    while (mr_buf_reserve(&said, 4096)) {
        ssize_t n = read(fd, said.p + said.n, said.capacity - said.n);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        said.n += (size_t)n;
    }
    (void)close(fd);
    if (said.n > 0) {
        (void)fwrite(said.p + 1, 1, said.n - 1, stdout);
        return said.p[0];
    }
    int status = 0;
    if (waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        return WEXITSTATUS(status); /* it has said why */
    }
    return cmd_fail("the daemon died while it started; see %s/daemon.log", cmd->home);
}

static int run(struct cmd *cmd, int fd, int lock)
{
    struct reporter reporter = {.fd = fd, .home = cmd->home};
    char pid[16];
    int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    if (ftruncate(lock, 0) != 0 || pwrite(lock, pid, (size_t)n, 0) != n) {
        return cmd_fail("cannot write to %s: %s", cmd->home, strerror(errno));
    }
    return cmd_daemon_run(cmd, on_ready, &reporter);
}

static int detach(struct cmd *cmd, int lock)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return cmd_fail("no pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0) return cmd_fail("cannot start another process: %s", strerror(errno));
    if (child > 0) {
        (void)close(ends[1]);
        return wait_ready(cmd, ends[0], child);
    }
    (void)close(ends[0]);
    (void)setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) (void)dup2(null, STDIN_FILENO);
    _exit(run(cmd, ends[1], lock));
}

/* No such process, or one that is dead and waits for its parent to see it. */
static bool is_gone(int pid)
{
    char path[64], text[256] = {0};
    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return true;
    ssize_t n = read(fd, text, sizeof text - 1);
    (void)close(fd);                                     /* read only */
    const char *end = n > 0 ? strrchr(text, ')') : NULL; /* the name may hold anything */
    return end == NULL || (end[1] == ' ' && (end[2] == 'Z' || end[2] == 'X'));
}

/* A daemon that was killed while it started a worker leaves the lock with that worker for the
 * moment until it runs its own program. */
static int take_lock(struct cmd *cmd, int *ret_lock, int *ret_pid)
{
    for (uint32_t tries = 0;; tries++) {
        int error = cmd_home_lock(cmd->home, ret_lock, ret_pid);
        bool waits = error == MR_EEXISTS && *ret_pid > 0 && is_gone(*ret_pid);
        if (!waits || tries >= LOCK_TRIES) return error;
        struct timespec pause = {.tv_nsec = 20000000};
        (void)nanosleep(&pause, NULL); /* woken early is fine */
    }
}

int cmd_verb_up(struct cmd *cmd)
{
    int lock = -1, pid = 0;
    int code = cmd_home_make(cmd->home);
    if (code != 0) return code;
    const char *model = cmd_value(cmd, "model");
    if (model != NULL && cmd_model_check(model) != 0) return CMD_FAILED;
    int error = take_lock(cmd, &lock, &pid);
    if (error == MR_EEXISTS) {
        return cmd_fail("Millrace already runs on %s (process %d); `millrace status` shows it, "
                        "`millrace down` stops it, MILLRACE_HOME=… names another home",
                        cmd->home, pid);
    }
    if (error != 0) return cmd_fail("cannot use %s: %s", cmd->home, strerror(errno));
    code = cmd_flag(cmd, "detach") ? detach(cmd, lock) : run(cmd, -1, lock);
    (void)close(lock);
    return code;
}
