/* SPDX-License-Identifier: Apache-2.0 */
/* Private to cmd: what the verbs share. One file per verb; the table in cmd_verbs.c is the source
 * of
 * --help, of tab completion and of docs/reference/cli.md.
 *
 * People's text goes to standard error, results to standard output; with --json standard output
 * holds one document and nothing else. Exit codes: see enum cmd_exit.
 */
#ifndef MR_CMD_H
#define MR_CMD_H

#include <stdio.h>

#include "base/base.h"

struct yyjson_doc;
struct yyjson_val;
struct yyjson_mut_doc;

enum cmd_exit {
    CMD_DONE = 0,
    CMD_FAILED = 1,
    CMD_USAGE = 2,
    CMD_UNREACHABLE = 3,
    CMD_REFUSED = 4,
};

#define CMD_OPTIONS_MAX     32u
#define CMD_POSITIONALS_MAX 64u

struct cmd_option {
    const char *name;  /* long, without the dashes */
    char letter;       /* short, or 0 */
    const char *value; /* what follows it, for help; NULL: a flag */
    const char *help;
};

struct cmd;
struct cmd_verb {
    const char *name;
    const char *arguments; /* for help: "FILE | -- COMMAND…" */
    const char *summary;   /* one line */
    const char *details;   /* paragraphs and examples, may be NULL */
    const struct cmd_option *options;
    size_t option_count;
    uint32_t positional_max;
    bool rest; /* what follows "--" (or the first argument that is none of its options) is a command
                */
    int (*run)(struct cmd *cmd);
};

struct cmd {
    const struct cmd_verb *verb;
    const char *values[CMD_OPTIONS_MAX]; /* by option; "" for a flag that is set; NULL: not given */
    const char *positional[CMD_POSITIONALS_MAX];
    uint32_t positional_count;
    char **rest; /* NULL-terminated */
    uint32_t rest_count;
    bool json;
    char *home; /* where this cloud keeps everything */
    char *self; /* path of this binary */
};

extern const struct cmd_verb cmd_verbs[];
extern const size_t cmd_verb_count;

/* --- options (cmd_options.c) --------------------------------------------------------------- */

/* Fills cmd from argv (argv[0] is the verb). 0, or a message and CMD_USAGE; -1: help was printed.
 */
int cmd_parse(struct cmd *cmd, int argc, char **argv);
const char *cmd_value(const struct cmd *cmd, const char *option); /* NULL: not given */
bool cmd_flag(const struct cmd *cmd, const char *option);
/* A whole number of an option; `fallback` when not given; prints and returns false on nonsense. */
bool cmd_number(const struct cmd *cmd, const char *option, uint64_t fallback, uint64_t max,
                uint64_t *ret);
/* Asks what the change would do and prints it (cmd_whatif.c); `kind` as in POST /api/whatif. */
int cmd_plan(struct cmd *cmd, const char *kind, struct mr_str json);
/* Appends ,"field":"value" when the option was given. */
void cmd_put_option(const struct cmd *cmd, struct mr_buf *json, const char *option,
                    const char *field);
void cmd_help_verb(FILE *out, const struct cmd_verb *verb);
void cmd_help_all(FILE *out);
/* "millrace VERB: text" on standard error; returns CMD_USAGE. */
int cmd_usage(const struct cmd *cmd, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "millrace: text" on standard error; returns CMD_FAILED. */
int cmd_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void cmd_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* --- home (cmd_home.c) --------------------------------------------------------------------- */

/* The caller frees each. NULL when out of memory. */
char *cmd_home_find(void);
char *cmd_path(const char *folder, const char *name);
/* What is behind the last '/', all of it when nothing is. Points into path. */
const char *cmd_file_name(const char *path);
int cmd_home_make(const char *home); /* mode 0700; prints on failure */
/* Whole file into buf (limit bytes), MR_ENOT_FOUND and so on. */
int cmd_file_read(const char *path, struct mr_buf *buf);
/* Temporary name, fsync, rename. */
int cmd_file_write(const char *path, struct mr_str bytes, unsigned mode);
/* The default model's file: $MILLRACE_HOME/models, then the set-up's cache. NULL: none there. */
char *cmd_model_find(const char *home);
/* 0 when the file can be read and begins as a GGUF does; else prints one clear line. */
int cmd_model_check(const char *path);
/* What a model file is served as: its name without folder, ".gguf" and ".Q4_1"-like endings. The
 * caller frees. */
char *cmd_model_name(const char *path);
/* Takes the lock that the daemon of this home holds while it lives. 0 and the descriptor;
 * MR_EEXISTS and the holder's pid (0: not known yet); MR_EIO. */
int cmd_home_lock(const char *home, int *ret_fd, int *ret_pid);

/* --- HTTP to the daemon (cmd_client.c) ------------------------------------------------------ */

struct cmd_client {
    char *url;
    char *key;
    void *curl;
    long status;        /* of the last answer */
    struct mr_buf body; /* of the last answer */
};
/* From the home, or MILLRACE_URL and MILLRACE_API_KEY. CMD_UNREACHABLE and a line when neither. */
int cmd_client_open(struct cmd *cmd, struct cmd_client *client);
void cmd_client_close(struct cmd_client *client);
/* One call. 0 for 2xx. Otherwise prints the server's problem and returns the exit code. `body` may
 * be empty. extra_header may be NULL. */
int cmd_call(struct cmd_client *client, const char *method, const char *path, struct mr_str body,
             const char *extra_header);
/* The same, the body handed to on_bytes as it comes; on_bytes returns false to stop. */
int cmd_call_stream(struct cmd_client *client, const char *method, const char *path,
                    struct mr_str body, bool (*on_bytes)(void *arg, struct mr_str bytes),
                    void *arg);
/* GET and parse. NULL after a printed problem, exit code in *ret_code. Free with yyjson_doc_free.
 */
struct yyjson_doc *cmd_get_json(struct cmd_client *client, const char *path, int *ret_code);
/* GET that prints nothing: 0 or MR_ENOT_FOUND; the answer is in client->body. */
int cmd_call_quiet(struct cmd_client *client, const char *path);
/* Only reaches out: true when the daemon answers /healthz. Prints nothing. */
bool cmd_alive(struct cmd_client *client);

/* --- text and tables (cmd_text.c) ----------------------------------------------------------- */

const char *cmd_json_str(struct yyjson_val *object, const char *key, const char *fallback);
uint64_t cmd_json_u64(struct yyjson_val *object, const char *key, uint64_t fallback);
/* Prints the last answer as it came, with a newline: for --json. */
void cmd_print_body(const struct cmd_client *client);
/* Aligned columns under their heads: cells row by row. */
struct cmd_table {
    struct mr_buf cells; /* zero-terminated strings */
    uint32_t columns;
    uint32_t cell_count;
};
void cmd_table_init(struct cmd_table *table, const char *const *heads, uint32_t columns);
void cmd_table_cell(struct cmd_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void cmd_table_print(struct cmd_table *table, FILE *out); /* and frees */
/* "3 h 12 min", "4.2 s". Into a static ring of buffers. */
const char *cmd_duration(uint64_t us);

/* --- workload documents (cmd_yaml.c, cmd_sbatch.c) ------------------------------------------ */

/* YAML text to a JSON document of the same structure. On failure a message with line and column. */
int cmd_yaml_to_json(struct mr_str yaml, struct mr_buf *json, struct mr_buf *problem);
/* A script with #SBATCH lines to a workload document. */
bool cmd_sbatch_is(struct mr_str text);
int cmd_sbatch_to_json(struct mr_str text, const char *file_name, struct mr_buf *json,
                       struct mr_buf *problem);

/* --- fleets in files (cmd_fleet.c) ----------------------------------------------------------- */

/* A fleet file as JSON. 0, or a message and CMD_FAILED. */
int cmd_fleet_json(const char *path, struct mr_buf *json);
/* `fleet` with a word. Returns the exit code. */
int cmd_fleet_file(struct cmd *cmd);
/* `fleet expect`, of the file that was read (cmd_expect.c). */
struct mr_sim_fleet;
int cmd_fleet_expect(struct cmd *cmd, const struct mr_sim_fleet *fleet);
/* `fleet node|domain ID STATE`. */
int cmd_fleet_state(struct cmd *cmd);

/* --- following a workload (cmd_follow.c) ----------------------------------------------------- */

/* Waits until the workload is final, printing progress of fine-tunes when `progress`. Fills the
 * state's name. Ctrl-C stops waiting, not the workload. */
int cmd_wait(struct cmd_client *client, uint64_t id, bool progress, char ret_state[32]);
/* The same, and says nothing at the end either. */
int cmd_wait_quiet(struct cmd_client *client, uint64_t id, char ret_state[32]);
/* Submits and returns the id (0 on failure, exit code in *ret_code). */
uint64_t cmd_submit_json(struct cmd_client *client, struct mr_str json, int *ret_code);

/* --- replaying workloads (cmd_replay.c) ----------------------------------------------------- */

/* `sim --format`. Returns the exit code. */
int cmd_replay(struct cmd *cmd);

/* --- verbs ----------------------------------------------------------------------------------- */

int cmd_verb_up(struct cmd *cmd);
int cmd_verb_down(struct cmd *cmd);
int cmd_verb_status(struct cmd *cmd);
int cmd_verb_chat(struct cmd *cmd);
int cmd_verb_submit(struct cmd *cmd);
int cmd_verb_queue(struct cmd *cmd);
int cmd_verb_cancel(struct cmd *cmd);
int cmd_verb_logs(struct cmd *cmd);
int cmd_verb_serve(struct cmd *cmd);
int cmd_verb_finetune(struct cmd *cmd);
int cmd_verb_sandbox(struct cmd *cmd);
int cmd_verb_usage(struct cmd *cmd);
int cmd_verb_fleet(struct cmd *cmd);
int cmd_verb_why(struct cmd *cmd);
int cmd_verb_when(struct cmd *cmd);
int cmd_verb_key(struct cmd *cmd);
int cmd_verb_tenant(struct cmd *cmd);
int cmd_verb_reserve(struct cmd *cmd);
int cmd_verb_whatif(struct cmd *cmd);
int cmd_verb_doctor(struct cmd *cmd);
int cmd_verb_demo(struct cmd *cmd);
int cmd_verb_sim(struct cmd *cmd);
int cmd_verb_bench(struct cmd *cmd);
int cmd_verb_completion(struct cmd *cmd);
int cmd_verb_help(struct cmd *cmd);
int cmd_verb_version(struct cmd *cmd);

#endif
