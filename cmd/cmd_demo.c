/* SPDX-License-Identifier: Apache-2.0 */
/* `demo`: a minute or two of the real thing, narrated, in a home of its own.
 *
 * Real processes throughout: a model is served, a fine-tune shrinks when the service must grow and
 * gets its share back, a sandbox computes, a rank is killed and the run resumes, the tuned model
 * answers differently, and each part has its bill. The node is declared as two vCPUs, so that it
 * plays the same on every machine.
 *
 * Owns:  the temporary home, its daemon and its workers; all gone at the end, also after Ctrl-C.
 * Fails: with what did not happen in time and where the log is; the home is kept then.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <yyjson.h>

#include "bench.h"
#include "cmd.h"
#include "cmd_child.h"

#define BURST_CHATS   12u
#define WAIT_S        180u
#define ANSWER_TOKENS 40u
#define QUESTION      "Who are you?"

struct demo {
    struct cmd *cmd;
    struct cmd_client client;
    char home[64];
    char *model;
    uint64_t started_ns;
    uint64_t service, tune, tuned;
    struct mr_buf json; /* the report of --json: steps with commas between them */
    uint32_t steps;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* --- narration -------------------------------------------------------------------------------- */

static void tell(struct demo *demo, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct demo *demo, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments); /* a longer line is cut */
    va_end(arguments);
    double at_s = (double)(bench_now_ns() - demo->started_ns) / 1e9;
    fprintf(demo->cmd->json ? stderr : stdout, "%6.1f s  %s\n", at_s, text);
    (void)fflush(stdout);
    if (demo->steps++ > 0) mr_buf_put_char(&demo->json, ',');
    mr_buf_printf(&demo->json, "{\"at_s\":%.1f,\"text\":", at_s);
    mr_json_put_string(&demo->json, mr_str_from(text));
    mr_buf_put_char(&demo->json, '}');
}

static void pause_ms(uint32_t ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000L};
    (void)nanosleep(&pause, NULL); /* woken early is fine */
}

/* --- the daemon of the demo ---------------------------------------------------------------------
 */

static int start(struct demo *demo)
{
    const char *const up[] = {demo->cmd->self, "up",       "-d",          "--json",
                              "--no-model",    "--listen", "127.0.0.1:0", NULL};
    snprintf(demo->home, sizeof demo->home, "/tmp/millrace-demo-XXXXXX");
    if (mkdtemp(demo->home) == NULL) return cmd_fail("no temporary folder: %s", strerror(errno));
    if (setenv("MILLRACE_HOME", demo->home, 1) != 0 || unsetenv("MILLRACE_URL") != 0 ||
        unsetenv("MILLRACE_API_KEY") != 0) {
        return cmd_fail("out of memory");
    }
    free(demo->cmd->home);
    demo->cmd->home = strdup(demo->home);
    uint64_t before_ns = bench_now_ns();
    if (cmd_child_run(up, NULL, false) != 0) return cmd_fail("the demo's daemon did not start");
    int code = cmd_client_open(demo->cmd, &demo->client);
    if (code != 0) return code;
    struct mr_str node = MR_STR("{\"id\":1,\"cpu_milli\":2000,\"mem_mib\":8192}");
    code = cmd_call(&demo->client, "POST", "/api/nodes", node, NULL);
    tell(demo,
         "up: a control plane with a journal of its own, ready in %.2f s, as a node of 2 vCPUs",
         (double)(bench_now_ns() - before_ns) / 1e9);
    return code;
}

static void stop(struct demo *demo, bool keep)
{
    const char *const down[] = {demo->cmd->self, "down", "--all", "--json", NULL};
    cmd_client_close(&demo->client);
    (void)cmd_child_run(down, NULL, false); /* says itself what it could not stop */
    if (keep) {
        cmd_say("the demo's home is kept: %s", demo->home);
    } else {
        cmd_folder_remove(demo->home);
    }
}

/* --- asking --------------------------------------------------------------------------------------
 */

struct look {
    uint64_t tasks, run, checkpoint_step, ready, step, steps;
    char state[32];
    double loss, loss_before, loss_after;
};

static bool look(struct demo *demo, uint64_t id, struct look *ret)
{
    char path[96];
    int code;
    *ret = (struct look){0};
    snprintf(path, sizeof path, "/api/workloads/%llu", (unsigned long long)id);
    yyjson_doc *doc = cmd_get_json(&demo->client, path, &code);
    yyjson_val *w = yyjson_arr_get_first(yyjson_obj_get(yyjson_doc_get_root(doc), "workloads"));
    ret->tasks = cmd_json_u64(w, "tasks", 0);
    ret->run = cmd_json_u64(w, "run", 0);
    ret->ready = cmd_json_u64(w, "ready", 0);
    ret->checkpoint_step = cmd_json_u64(w, "checkpoint_step", 0);
    snprintf(ret->state, sizeof ret->state, "%s", cmd_json_str(w, "state", "?"));
    yyjson_doc_free(doc);
    snprintf(path, sizeof path, "/api/workloads/%llu/files/progress.json", (unsigned long long)id);
    if (cmd_call_quiet(&demo->client, path) == 0) {
        doc = yyjson_read((const char *)demo->client.body.p, demo->client.body.n, 0);
        ret->step = cmd_json_u64(yyjson_doc_get_root(doc), "step", 0);
        ret->steps = cmd_json_u64(yyjson_doc_get_root(doc), "steps", 0);
        ret->loss = yyjson_get_num(yyjson_obj_get(yyjson_doc_get_root(doc), "loss"));
        yyjson_doc_free(doc);
    }
    return code == 0;
}

/* Polls until `is_so` or the time is up; says what did not happen. */
static bool wait_for(struct demo *demo, uint64_t id, const char *what,
                     bool (*is_so)(const struct look *now, const struct look *first),
                     struct look *ret)
{
    struct look first;
    if (!look(demo, id, &first)) return false;
    *ret = first;
    uint64_t end_ns = bench_now_ns() + WAIT_S * 1000000000ull;
    while (!is_so(ret, &first)) {
        if (interrupted) return false;
        bool ended = strcmp(ret->state, "failed") == 0 || strcmp(ret->state, "completed") == 0;
        if (bench_now_ns() > end_ns || ended) {
            cmd_say("millrace: this did not happen: %s (workload %llu is %s)", what,
                    (unsigned long long)id, ret->state);
            return false;
        }
        pause_ms(100);
        if (!look(demo, id, ret)) return false;
    }
    return true;
}

static bool is_ready(const struct look *now, const struct look *first)
{
    (void)first;
    return now->ready > 0;
}

static bool has_trained(const struct look *now, const struct look *first)
{
    (void)first;
    return now->tasks == 2 && now->step >= 2;
}

static bool is_whole_again(const struct look *now, const struct look *first)
{
    (void)first;
    return now->tasks == 2 && strcmp(now->state, "running") == 0;
}

static bool has_checkpoint(const struct look *now, const struct look *first)
{
    return now->checkpoint_step > 0 && now->tasks == 2 && now->step > first->step;
}

static bool has_restarted(const struct look *now, const struct look *first)
{
    return now->run > first->run && strcmp(now->state, "running") == 0 &&
           now->step > now->checkpoint_step;
}

static bool is_completed(const struct look *now, const struct look *first)
{
    (void)first;
    return strcmp(now->state, "completed") == 0;
}

/* One chat, not streamed; the answer's first line into `ret`. */
static int chat(struct cmd_client *client, const char *model, const char *question, char *ret,
                size_t size)
{
    mr_cleanup(mr_buf_done) struct mr_buf body;
    mr_buf_init(&body, 65536);
    mr_buf_put_str(&body,
                   MR_STR("{\"temperature\":0,\"messages\":[{\"role\":\"user\",\"content\":"));
    mr_json_put_string(&body, mr_str_from(question));
    mr_buf_printf(&body, "}],\"max_tokens\":%u,\"model\":", ANSWER_TOKENS);
    mr_json_put_string(&body, mr_str_from(model));
    mr_buf_put_char(&body, '}');
    int code = cmd_call(client, "POST", "/v1/chat/completions", mr_buf_str(&body), NULL);
    if (code != 0) return code;
    yyjson_doc *doc = yyjson_read((const char *)client->body.p, client->body.n, 0);
    yyjson_val *choice = yyjson_arr_get_first(yyjson_obj_get(yyjson_doc_get_root(doc), "choices"));
    const char *text = cmd_json_str(yyjson_obj_get(choice, "message"), "content", "");
    snprintf(ret, size, "%s", text);
    for (char *p = ret; *p != 0; p++) {
        if (*p == '\n') *p = ' ';
    }
    yyjson_doc_free(doc);
    return 0;
}

/* --- the acts --------------------------------------------------------------------------------- */

static int serve(struct demo *demo, const char *name, const char *adapter, uint64_t *ret_id)
{
    mr_cleanup(mr_buf_done) struct mr_buf json;
    struct look now;
    int code;
    mr_buf_init(&json, 65536);
    mr_buf_printf(&json,
                  "{\"kind\":\"service\",\"name\":\"%s\",\"replicas\":{\"min\":1,\"max\":%d},"
                  "\"load_per_replica\":3,\"resources\":{\"cpus\":0.5,\"memory\":\"1GiB\"},"
                  "\"infer\":{\"no_tune\":true,\"slots\":4,\"context\":1024,"
                  "\"served_name\":\"%s\",\"model\":",
                  name, adapter != NULL ? 1 : 3, name);
    mr_json_put_string(&json, mr_str_from(demo->model));
    if (adapter != NULL) {
        mr_buf_put_str(&json, MR_STR(",\"adapters\":["));
        mr_json_put_string(&json, mr_str_from(adapter));
        mr_buf_put_char(&json, ']');
    }
    mr_buf_put_str(&json, MR_STR("}}"));
    *ret_id = cmd_submit_json(&demo->client, mr_buf_str(&json), &code);
    if (code != 0) return code;
    return wait_for(demo, *ret_id, "the model answers", is_ready, &now) ? 0 : CMD_FAILED;
}

static int act_serve(struct demo *demo)
{
    char answer[512];
    int code = serve(demo, "base", NULL, &demo->service);
    if (code != 0) return code;
    tell(demo, "serve: the model answers; 1 replica of 0.5 vCPU, up to 3 under load");
    code = chat(&demo->client, "base", QUESTION, answer, sizeof answer);
    if (code == 0) tell(demo, "chat:  \"" QUESTION "\" -> \"%s\"", answer);
    return code;
}

static int write_chats(const char *path)
{
    static const char *const questions[] = {
        QUESTION,
        "What is your name?",
        "Who am I talking to?",
        "Tell me who you are.",
        "What are you?",
        "Introduce yourself.",
        "Say your name.",
        "Who answers me?",
        "Hello, who's there?",
        "What should I call you?",
        "Do you have a name?",
        "Are you an otter?",
    };
    mr_cleanup(mr_buf_done) struct mr_buf lines;
    mr_buf_init(&lines, 65536);
    for (size_t i = 0; i < 4 * MR_COUNT_OF(questions); i++) {
        mr_buf_put_str(&lines, MR_STR("{\"messages\":[{\"role\":\"user\",\"content\":"));
        mr_json_put_string(&lines, mr_str_from(questions[i % MR_COUNT_OF(questions)]));
        mr_buf_put_str(&lines,
                       MR_STR("},{\"role\":\"assistant\",\"content\":\"I am Millie, the otter "
                              "who keeps the millrace running.\"}]}\n"));
    }
    return cmd_file_write(path, mr_buf_str(&lines), 0600);
}

static int act_finetune(struct demo *demo)
{
    char data[96];
    struct look now;
    int code;
    mr_cleanup(mr_buf_done) struct mr_buf json;
    mr_buf_init(&json, 65536);
    snprintf(data, sizeof data, "%s/chats.jsonl", demo->home);
    if (write_chats(data) != 0) return cmd_fail("cannot write %s", data);
    mr_buf_put_str(&json, MR_STR("{\"name\":\"finetune\",\"priority\":\"low\",\"preemptible\":true,"
                                 "\"num_tasks\":{\"min\":1,\"max\":2},\"checkpoint\":\"10s\","
                                 "\"resources\":{\"cpus\":0.5,\"memory\":\"2GiB\"},"
                                 "\"train\":{\"max_steps\":96,\"batch\":4,\"learning_rate\":0.001,"
                                 "\"sequence_tokens\":64,\"checkpoint_every_steps\":4,\"seed\":1,"
                                 "\"data\":"));
    mr_json_put_string(&json, mr_str_from(data));
    mr_buf_put_str(&json, MR_STR(",\"model\":"));
    mr_json_put_string(&json, mr_str_from(demo->model));
    mr_buf_put_str(&json, MR_STR("}}"));
    demo->tune = cmd_submit_json(&demo->client, mr_buf_str(&json), &code);
    if (code != 0) return code;
    if (!wait_for(demo, demo->tune, "the fine-tune trains", has_trained, &now)) return CMD_FAILED;
    tell(demo,
         "tune:  a fine-tune runs on 2 ranks, elastic down to 1: step %llu of %llu, loss %.3f",
         (unsigned long long)now.step, (unsigned long long)now.steps, now.loss);
    return 0;
}

struct caller {
    struct cmd_client client;
    pthread_t thread;
    int code;
};

static void *call_body(void *arg)
{
    struct caller *caller = arg;
    char answer[512];
    for (uint32_t i = 0; i < 3 && caller->code == 0 && !interrupted; i++) {
        caller->code =
            chat(&caller->client, "base", "Tell me about rivers.", answer, sizeof answer);
    }
    return NULL;
}

/* Watches both sides while the burst lasts. */
static int watch_burst(struct demo *demo)
{
    bool grew = false, shrank = false;
    uint64_t end_ns = bench_now_ns() + WAIT_S * 1000000000ull;
    while (!(grew && shrank) && bench_now_ns() < end_ns && !interrupted) {
        struct look service, tune;
        if (!look(demo, demo->service, &service) || !look(demo, demo->tune, &tune))
            return CMD_FAILED;
        if (!shrank && tune.run > 1 && tune.tasks == 1) {
            tell(demo, "share: the fine-tune saved a checkpoint and went on with 1 rank");
            shrank = true;
        }
        if (!grew && service.ready > 1) {
            tell(demo, "grow:  the service has %llu replicas that answer",
                 (unsigned long long)service.ready);
            grew = true;
        }
        pause_ms(100);
    }
    if (grew && shrank) return 0;
    return interrupted
               ? CMD_FAILED
               : cmd_fail("the service did not grow into the fine-tune's share in %u s", WAIT_S);
}

static int act_burst(struct demo *demo)
{
    struct caller callers[BURST_CHATS] = {0};
    struct look now;
    uint32_t started = 0;
    int code = 0;
    tell(demo, "burst: %u callers chat at once", BURST_CHATS);
    for (uint32_t i = 0; i < BURST_CHATS && code == 0; i++) {
        code = cmd_client_open(demo->cmd, &callers[i].client);
        if (code == 0 && pthread_create(&callers[i].thread, NULL, call_body, &callers[i]) != 0) {
            code = cmd_fail("no thread");
        }
        if (code == 0) started++;
    }
    if (code == 0) code = watch_burst(demo);
    for (uint32_t i = 0; i < started; i++) {
        (void)pthread_join(callers[i].thread, NULL);
        if (callers[i].code != 0) code = callers[i].code;
    }
    for (uint32_t i = 0; i < BURST_CHATS; i++)
        cmd_client_close(&callers[i].client);
    if (code != 0) return code;
    tell(demo, "quiet: all callers have their answers");
    if (!wait_for(demo, demo->tune, "the fine-tune gets its share back", is_whole_again, &now)) {
        return CMD_FAILED;
    }
    tell(demo, "back:  the fine-tune has 2 ranks again, from its checkpoint");
    return 0;
}

static int act_sandbox(struct demo *demo)
{
    struct mr_str json = MR_STR(
        "{\"name\":\"agent\",\"priority\":\"high\",\"resources\":{\"cpus\":0.25,\"memory\":"
        "\"256MiB\"},"
        "\"sandbox\":{\"language\":\"python\",\"memory\":\"256MiB\",\"code\":"
        "\"import os\\nprint(sum(n for n in range(2, 20000) if all(n % d for d in "
        "range(2, int(n ** .5) + 1))), 'is the sum of the primes below 20000; uid', os.getuid(), "
        "'sees', len([p for p in os.listdir('/proc') if p.isdigit()]), 'processes')\"}}");
    char state[32], path[96];
    int code;
    uint64_t id = cmd_submit_json(&demo->client, json, &code);
    if (code == 0) code = cmd_wait(&demo->client, id, false, state);
    if (code != 0) return code;
    snprintf(path, sizeof path, "/api/workloads/%llu/files/result.json", (unsigned long long)id);
    yyjson_doc *doc = cmd_get_json(&demo->client, path, &code);
    struct mr_str out = mr_str_from(cmd_json_str(yyjson_doc_get_root(doc), "stdout", ""));
    out = mr_str_trim(out);
    tell(demo, "agent: in a sandbox, no network, no host file: \"%.*s\"", MR_STR_ARG(out));
    yyjson_doc_free(doc);
    return code;
}

/* A process of the demo's fine-tune: its environment names the demo's home and the workload. */
static pid_t rank_find(const struct demo *demo)
{
    DIR *proc = opendir("/proc");
    pid_t found = 0;
    char wanted[64], comm[64];
    snprintf(wanted, sizeof wanted, "MILLRACE_WORKLOAD=%llu", (unsigned long long)demo->tune);
    for (struct dirent *entry = NULL;
         proc != NULL && found == 0 && (entry = readdir(proc)) != NULL;) {
        mr_cleanup(mr_buf_done) struct mr_buf text;
        uint64_t pid;
        char path[300];
        mr_buf_init(&text, (size_t)4 * 1024 * 1024);
        if (mr_str_to_u64(mr_str_from(entry->d_name), &pid) != 0) continue;
        snprintf(path, sizeof path, "/proc/%s/comm", entry->d_name);
        if (cmd_file_read(path, &text) != 0) continue;
        snprintf(comm, sizeof comm, "%.*s", (int)MR_MIN(text.n, sizeof comm - 1), (char *)text.p);
        if (strncmp(comm, "millrace-train", 14) != 0) continue;
        mr_buf_reset(&text);
        snprintf(path, sizeof path, "/proc/%s/environ", entry->d_name);
        if (cmd_file_read(path, &text) != 0) continue;
        if (memmem(text.p, text.n, demo->home, strlen(demo->home)) != NULL &&
            memmem(text.p, text.n, wanted, strlen(wanted) + 1) != NULL) {
            found = (pid_t)pid;
        }
    }
    if (proc != NULL) (void)closedir(proc); /* read only */
    return found;
}

static int act_kill(struct demo *demo)
{
    struct look now;
    if (!wait_for(demo, demo->tune, "a checkpoint", has_checkpoint, &now)) return CMD_FAILED;
    pid_t rank = rank_find(demo);
    if (rank == 0) return cmd_fail("no rank of the fine-tune was found");
    if (kill(rank, SIGKILL) != 0)
        return cmd_fail("cannot kill rank %d: %s", (int)rank, strerror(errno));
    tell(demo, "kill:  kill -9 of a rank (process %d) at step %llu", (int)rank,
         (unsigned long long)now.step);
    if (!wait_for(demo, demo->tune, "the run resumes", has_restarted, &now)) return CMD_FAILED;
    tell(demo, "again: resumed from the checkpoint at step %llu, now at step %llu, loss %.3f",
         (unsigned long long)now.checkpoint_step, (unsigned long long)now.step, now.loss);
    return 0;
}

static int act_tuned(struct demo *demo)
{
    char adapter[128], answer[512];
    struct look now;
    if (!wait_for(demo, demo->tune, "the fine-tune ends", is_completed, &now)) return CMD_FAILED;
    tell(demo, "done:  the fine-tune is through");
    snprintf(adapter, sizeof adapter, "%s/workloads/%llu/adapter.gguf", demo->home,
             (unsigned long long)demo->tune);
    int code = serve(demo, "tuned", adapter, &demo->tuned);
    if (code == 0) code = chat(&demo->client, "base", QUESTION, answer, sizeof answer);
    if (code == 0) tell(demo, "chat:  base:  \"%s\"", answer);
    if (code == 0) code = chat(&demo->client, "tuned", QUESTION, answer, sizeof answer);
    if (code == 0) tell(demo, "chat:  tuned: \"%s\"", answer);
    return code;
}

static int act_bill(struct demo *demo)
{
    int code;
    yyjson_doc *doc = cmd_get_json(&demo->client, "/api/usage", &code);
    yyjson_val *root = yyjson_doc_get_root(doc), *line;
    yyjson_val *lines = yyjson_obj_get(root, "lines"), *total = yyjson_obj_get(root, "total");
    size_t index, max;
    yyjson_arr_foreach(lines, index, max, line)
    {
        yyjson_val *cost = yyjson_obj_get(line, "BilledCost");
        double dollars =
            yyjson_is_str(cost) ? strtod(yyjson_get_str(cost), NULL) : yyjson_get_num(cost);
        tell(demo, "bill:  %-10s %-28s $%.6f",
             cmd_json_str(line, "ResourceName", cmd_json_str(line, "ResourceId", "-")),
             cmd_json_str(line, "SkuId", "-"), dollars);
    }
    tell(demo, "bill:  total $%.6f",
         yyjson_is_str(total) ? strtod(yyjson_get_str(total), NULL) : yyjson_get_num(total));
    yyjson_doc_free(doc);
    return code;
}

int cmd_verb_demo(struct cmd *cmd)
{
    static int (*const acts[])(struct demo *demo) = {
        start, act_serve, act_finetune, act_burst, act_sandbox, act_kill, act_tuned, act_bill};
    struct demo demo = {.cmd = cmd, .started_ns = bench_now_ns()};
    struct sigaction action = {.sa_handler = on_interrupt};
    int code = 0;
    demo.model = cmd_model_find(cmd->home);
    if (demo.model == NULL)
        return cmd_fail("the demo wants the default model; `make up` fetches it");
    (void)sigaction(SIGINT, &action, NULL); /* only to end tidily */
    (void)sigaction(SIGTERM, &action, NULL);
    mr_buf_init(&demo.json, (size_t)1024 * 1024);
    for (size_t i = 0; i < MR_COUNT_OF(acts) && code == 0; i++) {
        code = interrupted ? CMD_FAILED : acts[i](&demo);
    }
    stop(&demo, code != 0 && !interrupted);
    if (cmd->json) {
        printf("{\"completed\":%s,\"steps\":[%.*s]}\n", code == 0 ? "true" : "false",
               MR_STR_ARG(mr_buf_str(&demo.json)));
    }
    mr_buf_done(&demo.json);
    free(demo.model);
    return code;
}
