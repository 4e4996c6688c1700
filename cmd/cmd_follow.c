/* SPDX-License-Identifier: Apache-2.0 */
/* Following a workload to its end, with a line of progress for people.
 *
 * Owns:  nothing between calls.
 * Fails: as the calls it makes do. Ctrl-C ends the following, never the workload.
 */
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <yyjson.h>

#include "cmd.h"

#define POLL_NS_MIN 10000000L
#define POLL_NS_MAX 1000000000L

static bool is_final(const char *state)
{
    static const char *const live[] = {"pending", "running", "suspended", "completing"};
    for (size_t i = 0; i < MR_COUNT_OF(live); i++) {
        if (strcmp(state, live[i]) == 0) return false;
    }
    return true;
}

/* One line that is written over, when a person looks. */
static void show_progress(struct cmd_client *client, uint64_t id, const char *state)
{
    char path[128];
    struct mr_buf kept = client->body;
    mr_buf_init(&client->body, 65536);
    snprintf(path, sizeof path, "/api/workloads/%llu/files/progress.json", (unsigned long long)id);
    char line[200];
    int n = snprintf(line, sizeof line, "workload %llu: %s", (unsigned long long)id, state);
    if (cmd_call_quiet(client, path) == 0) {
        yyjson_doc *doc = yyjson_read((const char *)client->body.p, client->body.n, 0);
        yyjson_val *root = yyjson_doc_get_root(doc);
        double loss = yyjson_get_num(yyjson_obj_get(root, "loss"));
        double rate = yyjson_get_num(yyjson_obj_get(root, "tokens_per_s"));
        double eta = yyjson_get_num(yyjson_obj_get(root, "eta_s"));
        if (root != NULL && n > 0) {
            snprintf(line + n, sizeof line - (size_t)n,
                     ", step %llu of %llu, loss %.3f, %.0f tokens/s, %s left",
                     (unsigned long long)cmd_json_u64(root, "step", 0),
                     (unsigned long long)cmd_json_u64(root, "steps", 0), loss, rate,
                     cmd_duration(eta > 0 ? (uint64_t)(eta * 1e6) : 0));
        }
        yyjson_doc_free(doc);
    }
    fprintf(stderr, "\r\033[K%s", line);
    fflush(stderr);
    mr_buf_done(&client->body);
    client->body = kept;
}

enum follow { FOLLOW_SILENT, FOLLOW_PLAIN, FOLLOW_PROGRESS };

static int follow(struct cmd_client *client, uint64_t id, enum follow how, char ret_state[32])
{
    char path[64];
    long pause_ns = POLL_NS_MIN;
    bool shown = false;
    snprintf(path, sizeof path, "/api/workloads/%llu", (unsigned long long)id);
    for (;;) {
        int code;
        yyjson_doc *doc = cmd_get_json(client, path, &code);
        if (doc == NULL) return code;
        yyjson_val *list = yyjson_obj_get(yyjson_doc_get_root(doc), "workloads");
        yyjson_val *workload = yyjson_arr_get_first(list);
        snprintf(ret_state, 32, "%s", cmd_json_str(workload, "state", "?"));
        char reason[300];
        snprintf(reason, sizeof reason, "%s", cmd_json_str(workload, "reason", ""));
        yyjson_doc_free(doc);
        if (is_final(ret_state)) {
            if (shown) fputs("\r\033[K", stderr);
            bool done = strcmp(ret_state, "completed") == 0;
            if (!done && how != FOLLOW_SILENT) {
                cmd_say("workload %llu: %s%s%s", (unsigned long long)id, ret_state,
                        reason[0] != 0 ? ", " : "", reason);
            }
            return done ? CMD_DONE : CMD_FAILED;
        }
        if (how == FOLLOW_PROGRESS && isatty(STDERR_FILENO)) {
            show_progress(client, id, ret_state);
            shown = true;
        }
        struct timespec pause = {.tv_sec = pause_ns / 1000000000L,
                                 .tv_nsec = pause_ns % 1000000000L};
        (void)nanosleep(&pause, NULL); /* woken early is fine */
        pause_ns = MR_MIN(pause_ns * 5 / 4, POLL_NS_MAX);
    }
}

int cmd_wait(struct cmd_client *client, uint64_t id, bool progress, char ret_state[32])
{
    return follow(client, id, progress ? FOLLOW_PROGRESS : FOLLOW_PLAIN, ret_state);
}

int cmd_wait_quiet(struct cmd_client *client, uint64_t id, char ret_state[32])
{
    return follow(client, id, FOLLOW_SILENT, ret_state);
}
