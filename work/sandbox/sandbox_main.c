/* SPDX-License-Identifier: Apache-2.0 */
/* millrace-sandbox: runs one program in isolation, as RUN_DIR/spec.json says.
 *
 *     millrace-sandbox            $MILLRACE_RUN_DIR/spec.json in, result.json beside it out
 *     millrace-sandbox --check    what isolation this machine has, as JSON; exit code 0: usable
 *     millrace-sandbox --help
 *
 * Fails: never runs anything without isolation; says which step the kernel refused, exit code 125.
 * Idea:  work/sandbox/README.md, docs/guides/sandbox.md
 */
#include "sandbox_int.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESULT_BYTES_MAX ((size_t)512 * 1024 * 1024)

static const char help[] =
    "millrace-sandbox: runs one program in isolation\n"
    "\n"
    "  millrace-sandbox           runs $MILLRACE_RUN_DIR/spec.json, writes result.json beside it\n"
    "  millrace-sandbox --check   prints what isolation this machine has, as JSON\n"
    "\n"
    "spec.json:\n"
    "  command       [\"program\",\"argument\"…], or\n"
    "  code          text of a program; language: \"python\" (default) or \"sh\"\n"
    "  stdin         base64\n"
    "  files         {\"name\": base64}, put into /work\n"
    "  outputs       [\"name\"…], taken from /work when it has ended\n"
    "  time_s        60     memory  \"512MiB\"     processes  64\n"
    "  disk          \"64MiB\", of /work and /tmp together\n"
    "  output_bytes  1048576, of stdout and of stderr each\n"
    "\n"
    "exit codes: the program's; 128 + its signal; 124 time limit; 137 out of memory;\n"
    "  127 program not found; 126 not to be run; 125 no isolation or a wrong document\n";

static int file_read(const char *path, struct mr_buf *buf)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    for (;;) {
        uint8_t piece[65536];
        ssize_t n = read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        mr_buf_put(buf, piece, (size_t)n);
    }
    (void)close(fd); /* read only */
    return buf->failed ? -EFBIG : 0;
}

/* Seen whole or not at all. */
static int file_put(const char *folder, const char *name, struct mr_str bytes)
{
    char path[PATH_MAX], temporary[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    if (snprintf(temporary, sizeof temporary, "%s/.%s.tmp", folder, name) >=
        (int)sizeof temporary) {
        return -ENAMETOOLONG;
    }
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return -errno;
    size_t done = 0;
    while (done < bytes.n) {
        ssize_t n = write(fd, bytes.p + done, bytes.n - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            int error = n < 0 ? -errno : -EIO;
            (void)close(fd); /* it has failed already */
            return error;
        }
        done += (size_t)n;
    }
    if (close(fd) != 0) return -errno;
    return rename(temporary, path) == 0 ? 0 : -errno;
}

/* The lease's own limit holds too; the engine adds what the keeper needs. */
static void limits_fit(struct sandbox_spec *spec)
{
    uint64_t mib;
    if (mr_str_to_u64(mr_str_from(getenv("MILLRACE_MEM_MIB")), &mib) != 0 || mib == 0) return;
    spec->memory_bytes = MR_MIN(spec->memory_bytes, mib << 20);
}

static int run(const char *folder)
{
    char path[PATH_MAX];
    struct sandbox_spec spec = {0};
    struct sandbox_result result;
    mr_cleanup(mr_buf_done) struct mr_buf json, bytes;
    mr_cleanup(mr_arena_done) struct mr_arena arena;
    mr_buf_init(&bytes, SANDBOX_SPEC_BYTES_MAX);
    mr_buf_init(&json, RESULT_BYTES_MAX);
    mr_arena_init(&arena, 4 * SANDBOX_SPEC_BYTES_MAX);
    sandbox_result_init(&result);
    (void)snprintf(path, sizeof path, "%s/spec.json", folder);
    int error = file_read(path, &bytes);
    if (error != 0) {
        mr_buf_printf(&result.problem, "%s cannot be read: %s", path, strerrordesc_np(-error));
    } else {
        error = sandbox_spec_parse(mr_buf_str(&bytes), &arena, &spec, &result.problem);
    }
    if (error == 0) {
        limits_fit(&spec);
        sandbox_keeper_run(&spec, true, &result);
    } else {
        result.kind = SANDBOX_KIND_START_FAILED;
        result.exit_code = SANDBOX_EXIT_REFUSED;
        (void)snprintf(result.text, sizeof result.text, "%.*s",
                       MR_STR_ARG(mr_buf_str(&result.problem)));
    }
    if (result.kind != SANDBOX_KIND_CODE) fprintf(stderr, "millrace-sandbox: %s\n", result.text);
    sandbox_result_json(error == 0 ? &spec : NULL, &result, &json);
    int code = result.exit_code;
    error = json.failed ? -EFBIG : file_put(folder, "result.json", mr_buf_str(&json));
    if (error != 0) {
        fprintf(stderr, "millrace-sandbox: %s/result.json cannot be written: %s\n", folder,
                strerrordesc_np(-error));
        if (code == 0) code = SANDBOX_EXIT_REFUSED;
    }
    sandbox_result_done(&result, &spec);
    return code;
}

static int check(void)
{
    static const char *argv[] = {"/bin/sh", "-c", "test -r /proc/self/status && echo proc", NULL};
    struct sandbox_spec spec = {.argv = argv,
                                .time_s = 10,
                                .processes = 8,
                                .memory_bytes = (uint64_t)64 << 20,
                                .disk_bytes = (uint64_t)8 << 20,
                                .output_bytes = 4096};
    struct sandbox_result result;
    mr_cleanup(mr_buf_done) struct mr_buf json;
    mr_cleanup(mr_arena_done) struct mr_arena arena;
    const char *python = NULL, *prefix;
    mr_buf_init(&json, 65536);
    mr_arena_init(&arena, 65536);
    sandbox_result_init(&result);
    if (sandbox_filter_possible() != 0) {
        (void)snprintf(result.text, sizeof result.text, "the kernel has no seccomp");
        result.kind = SANDBOX_KIND_START_FAILED;
    } else {
        sandbox_keeper_run(&spec, false, &result);
    }
    bool usable = result.kind == SANDBOX_KIND_CODE;
    bool proc = mr_str_starts(mr_buf_str(&result.out), MR_STR("proc"));
    if (sandbox_python_find(&arena, &python, &prefix) != 0) python = NULL;
    mr_buf_printf(&json, "{\"usable\":%s,\"reason\":", usable ? "true" : "false");
    mr_json_put_string(&json, mr_str_from(usable ? "" : result.text));
    mr_buf_printf(&json,
                  ",\"namespaces\":%s,\"seccomp\":%s,\"proc\":%s,\"privileged\":%s,\"python\":",
                  usable ? "[\"user\",\"pid\",\"mount\",\"net\",\"ipc\",\"uts\",\"cgroup\"]" : "[]",
                  sandbox_filter_possible() == 0 ? "true" : "false", proc ? "true" : "false",
                  geteuid() == 0 ? "true" : "false");
    if (python != NULL) {
        mr_json_put_string(&json, mr_str_from(python));
    } else {
        mr_buf_put_str(&json, MR_STR("null"));
    }
    mr_buf_put_str(&json, MR_STR("}\n"));
    fwrite(json.p, 1, json.n, stdout);
    sandbox_result_done(&result, &spec);
    return usable ? 0 : SANDBOX_EXIT_REFUSED;
}

int main(int argc, char **argv)
{
    (void)umask(077);
    if (argc == 2 && strcmp(argv[1], "--check") == 0) return check();
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return 0;
    }
    const char *folder = getenv("MILLRACE_RUN_DIR");
    if (argc != 1 || folder == NULL) {
        fputs(help, stderr);
        return 2;
    }
    return run(folder);
}
