/* SPDX-License-Identifier: Apache-2.0 */
/* Private to work/sandbox and its tests: the parts of the isolated runner.
 *
 * Three processes. The keeper (outside, sandbox_keeper.c) starts the warden, feeds, watches and
 * kills. The warden (process 1 inside, sandbox_warden.c) builds the jail, locks itself in, starts
 * the program, and hands its files out. The program never was outside.
 */
#ifndef MR_SANDBOX_INT_H
#define MR_SANDBOX_INT_H

#include <sys/types.h>

#include "base/base.h"

#define SANDBOX_SPEC_BYTES_MAX   ((size_t)16 * 1024 * 1024)
#define SANDBOX_FILES_MAX        256u
#define SANDBOX_OUTPUTS_MAX      256u
#define SANDBOX_NAME_BYTES_MAX   255u
#define SANDBOX_TIME_S_MAX       86400u
#define SANDBOX_PROCESSES_MAX    4096u
#define SANDBOX_OUTPUT_BYTES_MAX ((uint64_t)64 * 1024 * 1024)
#define SANDBOX_TAKEN_BYTES_MAX  ((size_t)16 * 1024 * 1024) /* all output files together */
#define SANDBOX_MEMORY_MIB_MIN   8u
#define SANDBOX_UID              65534u /* inside */

/* Exit codes of our own; else the program's, or 128 and its signal. */
#define SANDBOX_EXIT_TIME    124
#define SANDBOX_EXIT_REFUSED 125 /* no isolation to be had, or the document is wrong */
#define SANDBOX_EXIT_NOT_RUN 126
#define SANDBOX_EXIT_MISSING 127
#define SANDBOX_EXIT_MEMORY  137

/* --- the document (sandbox_spec.c) -------------------------------------------------------- */

struct sandbox_file {
    struct mr_str name, bytes;
};
struct sandbox_spec {
    const char **argv; /* ends with NULL */
    struct mr_str stdin_bytes;
    struct sandbox_file *files;
    size_t file_count;
    struct mr_str *outputs;
    size_t output_count;
    uint32_t time_s, processes;
    uint64_t memory_bytes, disk_bytes, output_bytes;
    bool python;               /* asked for as a language */
    const char *python_prefix; /* NULL: under /usr */
};
/* Everything lies in the arena. On failure one line for people in `problem`. 0, MR_ESYNTAX,
 * MR_EINVALID, MR_ETOO_LARGE or MR_ENO_MEMORY. */
int sandbox_spec_parse(struct mr_str json, struct mr_arena *arena, struct sandbox_spec *ret,
                       struct mr_buf *problem);
/* "512MiB", "2GiB", "1.5G", "1048576"; MR_ESYNTAX. */
int sandbox_size_parse(struct mr_str text, uint64_t *ret_bytes);
/* A relative path without "." and "..", of at most SANDBOX_NAME_BYTES_MAX bytes. */
bool sandbox_name_safe(struct mr_str name);
/* Finds the interpreter: *ret_program is in the arena, *ret_prefix NULL when it is under /usr. */
int sandbox_python_find(struct mr_arena *arena, const char **ret_program, const char **ret_prefix);

/* --- inside ------------------------------------------------------------------------------- */

/* What the warden tells the keeper, in order: READY, then EXIT or PROBLEM, then FILEs, then DONE.
 */
enum sandbox_word { SANDBOX_READY = 1, SANDBOX_PROBLEM, SANDBOX_EXIT, SANDBOX_FILE, SANDBOX_DONE };
struct sandbox_frame {
    uint32_t word;
    int32_t status; /* EXIT: as wait gives it; PROBLEM: exit code of ours; FILE: index of output */
    uint32_t bytes; /* that follow: FILE: contents, PROBLEM: text */
};

struct sandbox_inside {
    const struct sandbox_spec *spec;
    int go_fd;  /* one byte comes when the user map is written */
    int say_fd; /* frames to the keeper */
    int in_fd, out_fd, err_fd;
    int python_fd; /* O_PATH of the prefix, or -1 */
};
/* The warden's main; the only way out of it is _exit. */
_Noreturn void sandbox_warden(const struct sandbox_inside *inside);

/* Builds the file tree and makes it the root. 0, or -errno and which step in *ret_step. */
int sandbox_jail_build(const struct sandbox_inside *inside, const char **ret_step);
/* Gives up every privilege for good, also those that exec could bring. */
int sandbox_privileges_drop(const char **ret_step);
/* Loads the list of allowed system calls. 0 or -errno. */
int sandbox_filter_load(void);
int sandbox_filter_possible(void);

/* --- outside ------------------------------------------------------------------------------ */

enum sandbox_kind {
    SANDBOX_KIND_CODE,
    SANDBOX_KIND_SIGNAL,
    SANDBOX_KIND_MEMORY,
    SANDBOX_KIND_TIME,
    SANDBOX_KIND_START_FAILED
};
struct sandbox_result {
    enum sandbox_kind kind;
    int code;      /* the program's, its signal, or one of ours */
    int exit_code; /* what we exit with */
    char text[512];
    struct mr_buf out, err, problem;
    bool truncated;
    struct mr_buf *files; /* one for each output */
    bool *file_taken;
    uint64_t wall_ms, cpu_ms, max_rss_mib;
};
void sandbox_result_init(struct sandbox_result *result);
void sandbox_result_done(struct sandbox_result *result, const struct sandbox_spec *spec);
/* Runs it. pass_through: stdout and stderr go to ours too, as they come. Always gives a result. */
void sandbox_keeper_run(const struct sandbox_spec *spec, bool pass_through,
                        struct sandbox_result *result);
void sandbox_result_json(const struct sandbox_spec *spec, const struct sandbox_result *result,
                         struct mr_buf *json);
/* Memory of the process and everything below it. */
void sandbox_usage(pid_t root, uint64_t *ret_bytes, bool exact);
uint64_t sandbox_now_us(void);

#endif
