/* SPDX-License-Identifier: Apache-2.0 */
/* Starts a real millrace-infer and speaks the worker wire to it. See infer_client.h.
 *
 * Owns:  the worker's process and folder.
 * Fails: the running case.
 */
#include "infer_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_MS_MAX  120000
#define ANSWER_MS_MAX 120000

extern char **environ;

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "wbe");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static void spawn(struct worker *worker)
{
    char lease[] = "MILLRACE_LEASE=7";
    char run_dir[300];
    char sock[400];
    char cache[300];
    char errors[300];
    (void)snprintf(run_dir, sizeof(run_dir), "MILLRACE_RUN_DIR=%s", worker->dir);
    (void)snprintf(sock, sizeof(sock), "MILLRACE_SOCKET=%s", worker->socket);
    (void)snprintf(cache, sizeof(cache), "MILLRACE_CACHE_DIR=%s", worker->dir);
    (void)snprintf(errors, sizeof(errors), "%s/stderr", worker->dir);
    char path[] = "PATH=/usr/bin:/bin";
    char *envp[] = {lease, run_dir, sock, cache, path, NULL};
    char name[] = "millrace-infer";
    char *argv[] = {name, NULL};
    posix_spawn_file_actions_t actions;
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(
        posix_spawn_file_actions_addopen(&actions, 2, errors, O_WRONLY | O_CREAT | O_APPEND, 0600),
        0);
    assert_int_equal(posix_spawn(&worker->pid, worker->program, &actions, NULL, argv, envp), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
}

static void stderr_print(const struct worker *worker)
{
    char path[300];
    char line[512];
    (void)snprintf(path, sizeof(path), "%s/stderr", worker->dir);
    FILE *file = fopen(path, "rbe");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        print_message("worker: %s", line);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

static void folder_make(struct worker *worker)
{
    if (worker->dir[0] == '\0') {
        (void)snprintf(worker->dir, sizeof(worker->dir), "/tmp/millrace-infer-XXXXXX");
        assert_non_null(mkdtemp(worker->dir));
    }
    (void)snprintf(worker->socket, sizeof(worker->socket), "%s/s", worker->dir);
}

int worker_fails(struct worker *worker, const char *spec, char *ret_said, size_t size)
{
    char path[300];
    folder_make(worker);
    (void)snprintf(path, sizeof(path), "%s/stderr", worker->dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/spec.json", worker->dir);
    write_file(path, spec);
    spawn(worker);
    int code = worker_wait(worker);
    (void)snprintf(path, sizeof(path), "%s/stderr", worker->dir);
    FILE *file = fopen(path, "rbe");
    assert_non_null(file);
    size_t n = fread(ret_said, 1, size - 1, file);
    ret_said[n] = '\0';
    (void)fclose(file);
    return code;
}

void worker_start(struct worker *worker, const char *fields)
{
    folder_make(worker);
    char path[300];
    char spec[4096];
    (void)snprintf(path, sizeof(path), "%s/spec.json", worker->dir);
    (void)snprintf(spec, sizeof(spec),
                   "{\"model\":\"%s\",\"served_name\":\"little\",\"no_tune\":true%s}",
                   worker->model, fields); /* of two equal fields the later one counts */
    write_file(path, spec);
    (void)snprintf(path, sizeof(path), "%s/ready", worker->dir);
    (void)unlink(path);
    spawn(worker);
    for (int waited = 0; access(path, F_OK) != 0; waited += 10) {
        int status = 0;
        if (waited > START_MS_MAX || waitpid(worker->pid, &status, WNOHANG) != 0) {
            stderr_print(worker);
            fail_msg("the worker did not become ready");
        }
        (void)usleep(10000);
    }
}

void worker_kill(struct worker *worker, int signal)
{
    assert_int_equal(kill(worker->pid, signal), 0);
}

int worker_wait(struct worker *worker)
{
    int status = 0;
    assert_int_equal(waitpid(worker->pid, &status, 0), worker->pid);
    worker->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void worker_end(struct worker *worker)
{
    if (worker->pid > 0) {
        (void)kill(worker->pid, SIGKILL);
        (void)waitpid(worker->pid, NULL, 0);
        worker->pid = 0;
    }
    DIR *dir = worker->dir[0] == '\0' ? NULL : opendir(worker->dir);
    struct dirent *entry = NULL;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        (void)unlinkat(dirfd(dir), entry->d_name, 0); /* "." and ".." refuse */
    }
    if (dir != NULL) {
        (void)closedir(dir);
        (void)rmdir(worker->dir);
    }
    worker->dir[0] = '\0';
}

size_t worker_meter(const struct worker *worker, struct mr_meter_record ret[MR_WIRE_UNSETTLED_MAX])
{
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/meter", worker->dir);
    FILE *file = fopen(path, "rbe");
    assert_non_null(file);
    size_t count = 0;
    uint8_t bytes[MR_METER_RECORD_BYTES];
    size_t slots = 0;
    while (fread(bytes, 1, sizeof(bytes), file) == sizeof(bytes)) {
        slots++;
        if (mr_meter_decode(bytes, &ret[count])) {
            count++;
        }
    }
    (void)fclose(file);
    assert_int_equal(slots, MR_WIRE_UNSETTLED_MAX);
    return count;
}

/* --- the wire ------------------------------------------------------------------------------- */

void client_open(struct client *client, const struct worker *worker)
{
    *client = (struct client){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_true(client->fd >= 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t n = strlen(worker->socket);
    assert_true(n < sizeof(address.sun_path));
    memcpy(address.sun_path, worker->socket, n + 1);
    assert_int_equal(connect(client->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    mr_buf_init(&client->in, 64u << 20);
    mr_arena_init(&client->arena, 64u << 20);
    struct mr_wire_frame frame;
    assert_true(client_next(client, ANSWER_MS_MAX, &frame));
    assert_int_equal(frame.type, MR_WIRE_HELLO);
    client->hello = frame.u.hello;
}

void client_close(struct client *client)
{
    (void)close(client->fd);
    mr_buf_done(&client->in);
    mr_arena_done(&client->arena);
}

void client_send_bytes(struct client *client, const void *bytes, size_t n)
{
    assert_int_equal(send(client->fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

void client_send(struct client *client, const struct mr_wire_frame *frame)
{
    struct mr_buf buf;
    mr_buf_init(&buf, 64u << 20);
    mr_wire_put(&buf, frame);
    assert_false(buf.failed);
    client_send_bytes(client, buf.p, buf.n);
    mr_buf_done(&buf);
}

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool client_next(struct client *client, int timeout_ms, struct mr_wire_frame *ret)
{
    int64_t until_ms = now_ms() + timeout_ms;
    for (;;) {
        mr_buf_drop_front(&client->in, client->used);
        client->used = 0;
        mr_arena_reset(&client->arena);
        int got = mr_wire_get(mr_buf_str(&client->in), &client->arena, ret, &client->used);
        assert_true(got >= 0);
        if (got == 1 && ret->type != MR_WIRE_STATS) return true;
        if (got == 1) continue;
        struct pollfd pfd = {.fd = client->fd, .events = POLLIN};
        int64_t left_ms = until_ms - now_ms(); /* STATS come for ever */
        if (left_ms <= 0 || poll(&pfd, 1, (int)left_ms) <= 0) return false;
        assert_true(mr_buf_reserve(&client->in, 65536));
        ssize_t n = recv(client->fd, client->in.p + client->in.n, 65536, 0);
        if (n <= 0) return false;
        client->in.n += (size_t)n;
    }
}

void client_submit(struct client *client, uint32_t stream, const struct ask *ask)
{
    struct mr_message messages[2];
    size_t count = 0;
    if (ask->system != NULL) {
        messages[count++] = (struct mr_message){MR_ROLE_SYSTEM, mr_str_from(ask->system)};
    }
    messages[count++] = (struct mr_message){MR_ROLE_USER, mr_str_from(ask->text)};
    struct mr_str stop = mr_str_from(ask->stop);
    struct mr_wire_frame frame = {.type = MR_WIRE_SUBMIT, .stream = stream};
    frame.u.submit = (struct mr_wire_submit){
        .tenant = ask->tenant != 0 ? ask->tenant : 1,
        .credit = ask->credit != 0 ? ask->credit : 1000000,
        .priority = ask->priority,
        .chat = {.messages = messages,
                 .message_count = count,
                 .sampling = {.temperature = ask->temperature,
                              .top_p = 1.0f,
                              .presence_penalty = ask->presence,
                              .frequency_penalty = ask->frequency,
                              .seed = ask->seed,
                              .has_seed = ask->seed != 0,
                              .max_tokens = ask->max_tokens},
                 .stops = &stop,
                 .stop_count = ask->stop != NULL ? 1 : 0},
        .resume = mr_str_from(ask->resume),
    };
    client_send(client, &frame);
}

void client_credit(struct client *client, uint32_t stream, uint32_t n)
{
    client_send(client,
                &(struct mr_wire_frame){.type = MR_WIRE_CREDIT, .stream = stream, .u.credit = n});
}

void client_cancel(struct client *client, uint32_t stream)
{
    client_send(client, &(struct mr_wire_frame){.type = MR_WIRE_CANCEL, .stream = stream});
}

void client_settle(struct client *client, uint64_t serial)
{
    client_send(client, &(struct mr_wire_frame){.type = MR_WIRE_SETTLED, .u.serial = serial});
}

static void answer_take(struct answer *answer, const struct mr_wire_frame *frame)
{
    if (frame->type == MR_WIRE_TOKENS) {
        struct mr_str text = frame->u.tokens.text;
        assert_false(answer->ended);
        assert_int_equal(mr_utf8_valid_prefix(text), text.n);
        assert_true(answer->n + text.n < sizeof(answer->text));
        memcpy(answer->text + answer->n, text.p, text.n);
        answer->n += text.n;
        answer->text[answer->n] = '\0';
        answer->tokens += frame->u.tokens.count;
        answer->frames++;
        return;
    }
    assert_int_equal(frame->type, MR_WIRE_END);
    assert_false(answer->ended); /* exactly one */
    answer->ended = true;
    answer->end = frame->u.end;
    (void)snprintf(answer->error_text, sizeof(answer->error_text), "%.*s",
                   MR_STR_ARG(frame->u.end.text));
    answer->end.text = (struct mr_str){0};
}

void client_collect(struct client *client, struct answer *answers, uint32_t count)
{
    uint32_t ended = 0;
    for (uint32_t i = 0; i < count; i++) {
        answers[i].n = 0;
        answers[i].text[0] = '\0';
        answers[i].tokens = 0;
        answers[i].frames = 0;
        answers[i].ended = false;
    }
    while (ended < count) {
        struct mr_wire_frame frame;
        assert_true(client_next(client, ANSWER_MS_MAX, &frame));
        if (frame.type == MR_WIRE_HELLO) continue;
        assert_in_range(frame.stream, 1, count);
        answer_take(&answers[frame.stream - 1], &frame);
        ended += frame.type == MR_WIRE_END;
    }
}

struct answer *client_ask(struct client *client, const struct ask *ask)
{
    static struct answer answer;
    client_submit(client, 1, ask);
    client_collect(client, &answer, 1);
    if (answer.end.serial != 0) {
        client_settle(client, answer.end.serial);
    }
    return &answer;
}

const char *words_of(uint32_t words, uint32_t seed)
{
    static char texts[4][65536];
    static const char *const list[] = {"river", "stone", "light", "paper",  "garden", "window",
                                       "music", "bread", "horse", "letter", "bridge", "cloud"};
    char *text = texts[seed % 4];
    size_t n = 0;
    struct mr_prng prng;
    mr_prng_init(&prng, seed);
    text[0] = '\0';
    for (uint32_t i = 0; i < words && n + 16 < sizeof(texts[0]); i++) {
        n += (size_t)snprintf(text + n, sizeof(texts[0]) - n, "%s%s", i > 0 ? " " : "",
                              list[mr_prng_below(&prng, MR_COUNT_OF(list))]);
    }
    return text;
}
