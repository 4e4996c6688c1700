/* SPDX-License-Identifier: Apache-2.0 */
/* `bench infer`: prefill and decode of our worker beside llama-server, same model, same prompts.
 *
 * Our side is `millrace-infer --bench`; the peer is a real llama-server of the same llama.cpp,
 * asked over HTTP. For each point all streams first ask for one token (prefill), then the same
 * prompts for some more (decode). Rates are per CPU-second of the process, so that neighbours on
 * this machine count for little; both sides have the same number of threads. The peer's best flags
 * get the weights that we converted, too: what we gain by choosing weights is measured against its
 * defaults.
 *
 * Owns:   the child processes, for the length of the call.
 * Thread: one.
 * Fails:  when our worker cannot run; without llama-server the bars have no peer and say so.
 * Ends:   bench_infer.
 */
#include <curl/curl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <yyjson.h>

#include "bench.h"
#include "cmd.h"
#include "cmd_child.h"

#define POINTS_MAX     16u
#define STREAMS_MAX    16u
#define GENERATE       48u /* as in work/infer/infer_bench.c, and so are the prompts */
#define ARGS_MAX       32u
#define START_S_MAX    120u
#define ANSWER_MAX     (4u << 20)
#define SERVER_MISSING "llama-server is not built; `tools/setup server` builds it (slow)"

struct rate { /* tokens per CPU-second; negative: not measured */
    double prefill, decode, overall;
};
struct point {
    uint32_t streams, prompt, shared;
    struct rate ours, shipped, best, defaults;
    uint64_t seed;
};
struct bench {
    struct bench_report *report;
    char *worker, *server, *model, *cache;
    char weights[1024]; /* what our worker chose */
    struct point points[POINTS_MAX];
    uint32_t point_count;
    uint32_t threads;
    bool flash;                  /* our worker chose flash attention: the peer gets it, too */
    double cold_ours, cold_peer; /* prefills of one prefix */
    double gap_ms, gap_slo_ms;
};

/* --- children --------------------------------------------------------------------------------- */

/* User and system time of a running process; 0 when it is gone. */
static double child_cpu_s(pid_t pid)
{
    char path[64];
    char text[1024];
    unsigned long long user = 0, system_time = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) return 0;
    size_t n = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file); /* read only */
    text[n] = '\0';
    const char *at = strrchr(text, ')'); /* the name may hold anything */
    if (at == NULL || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu",
                             &user, &system_time) != 2) {
        return 0;
    }
    return (double)(user + system_time) / (double)sysconf(_SC_CLK_TCK);
}

/* --- our side --------------------------------------------------------------------------------- */

static double number(yyjson_val *object, const char *key)
{
    yyjson_val *value = yyjson_obj_get(object, key);
    return yyjson_is_num(value) ? yyjson_get_num(value) : -1;
}

static struct rate rate_of(double prompt, double completion, double prefill, double decode)
{
    double time_s = prefill > 0 && decode > 0 ? prompt / prefill + completion / decode : -1;
    return (struct rate){prefill, decode, time_s > 0 ? (prompt + completion) / time_s : -1};
}

static void ours_take(struct bench *b, yyjson_val *root)
{
    const char *weights = yyjson_get_str(yyjson_obj_get(root, "weights"));
    (void)snprintf(b->weights, sizeof b->weights, "%s", weights != NULL ? weights : "");
    b->flash = yyjson_get_bool(yyjson_obj_get(root, "flash_attention"));
    size_t i = 0, count = 0;
    yyjson_val *item = NULL;
    yyjson_arr_foreach(yyjson_obj_get(root, "points"), i, count, item)
    {
        if (i == POINTS_MAX) break;
        struct rate none = {-1, -1, -1};
        b->points[i] = (struct point){
            .streams = (uint32_t)number(item, "streams"),
            .prompt = (uint32_t)number(item, "prompt"),
            .shared = (uint32_t)number(item, "shared"),
            .seed = 1000 * (i + 1),
            .ours = rate_of(number(item, "prompt_tokens"), number(item, "completion_tokens"),
                            number(item, "prefill_tokens_per_cpu_s"),
                            number(item, "decode_tokens_per_cpu_s")),
            .shipped = none,
            .best = none,
            .defaults = none,
        };
        b->points[i].streams = MR_MIN(b->points[i].streams, STREAMS_MAX);
        b->point_count++;
    }
    b->cold_ours = number(yyjson_obj_get(root, "cold_prefix"), "prefills");
    b->gap_ms = number(yyjson_obj_get(root, "long_prompt"), "gap_ms_p99");
    b->gap_slo_ms = number(yyjson_obj_get(root, "long_prompt"), "itl_ms");
}

static int ours_run(struct bench *b)
{
    const char *tune[] = {b->worker, "--tune", "--model", b->model, "--cache-dir", b->cache, NULL};
    const char *args[] = {b->worker,     "--bench", "--json", "--model", b->model,
                          "--cache-dir", b->cache,  NULL,     NULL,      NULL};
    if (b->report->quick) {
        args[7] = "--quick";
        args[8] = "--no-tune";
    }
    if (!b->report->quick) {
        if (cmd_child_run(tune, NULL, false) != 0) cmd_say("bench infer: could not be tuned");
    }
    mr_cleanup(mr_buf_done) struct mr_buf out;
    mr_buf_init(&out, ANSWER_MAX);
    if (cmd_child_run(args, &out, false) != 0) return MR_EIO;
    yyjson_doc *doc = yyjson_read((const char *)out.p, out.n, 0);
    if (doc == NULL) return MR_ECORRUPT;
    ours_take(b, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    return b->point_count > 0 ? 0 : MR_ECORRUPT;
}

/* --- the peer --------------------------------------------------------------------------------- */

struct server {
    pid_t pid;
    uint16_t port;
};
struct ask {
    CURL *curl;
    struct mr_buf body, answer;
    struct curl_slist *headers;
};

static size_t answer_put(char *bytes, size_t size, size_t n, void *context)
{
    mr_buf_put(context, bytes, size * n);
    return size * n;
}

static bool server_healthy(const struct server *server)
{
    char url[64];
    long status = 0;
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/health", server->port);
    struct mr_buf ignored;
    mr_buf_init(&ignored, 65536);
    CURL *curl = curl_easy_init();
    if (curl == NULL) return false;
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, answer_put);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, &ignored);
    if (curl_easy_perform(curl) == CURLE_OK) {
        (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    }
    curl_easy_cleanup(curl);
    mr_buf_done(&ignored);
    return status == 200;
}

static void server_stop(struct server *server)
{
    cmd_child_kill(server->pid);
    server->pid = 0;
}

/* `flags`: separated by single spaces. */
static bool server_start(struct bench *b, const char *model, const char *flags,
                         struct server *server)
{
    char port[8], threads[8], own[256];
    const char *args[ARGS_MAX] = {b->server, "-m", model, "--port", port, "-t", threads};
    size_t n = 7;
    server->port = cmd_port_free();
    (void)snprintf(port, sizeof port, "%u", server->port);
    (void)snprintf(threads, sizeof threads, "%u", b->threads);
    (void)snprintf(own, sizeof own, "%s", flags);
    for (char *at = own; *at != '\0' && n + 1 < ARGS_MAX;) {
        args[n++] = at;
        at += strcspn(at, " ");
        if (*at == ' ') *at++ = '\0';
    }
    server->pid = server->port != 0 ? cmd_child_start(args, NULL, true) : -1;
    for (uint32_t waited = 0; server->pid > 0 && waited < START_S_MAX * 5; waited++) {
        if (server_healthy(server)) return true;
        if (waitpid(server->pid, NULL, WNOHANG) != 0) {
            server->pid = 0; /* it could not start */
            return false;
        }
        (void)usleep(200000);
    }
    server_stop(server);
    return false;
}

/* The very words of work/infer/infer_bench.c. */
static void words_put(struct mr_buf *buf, uint64_t seed, uint32_t count)
{
    static const char *const words[] = {"river", "stone",  "light", "paper", "garden", "window",
                                        "music", "winter", "bread", "horse", "letter", "bridge",
                                        "cloud", "market", "story", "green"};
    struct mr_prng prng;
    mr_prng_init(&prng, seed);
    for (uint32_t i = 0; i < count; i++)
        mr_buf_printf(buf, " %s", words[mr_prng_below(&prng, MR_COUNT_OF(words))]);
}

static void body_put(struct mr_buf *body, const struct point *p, uint32_t index, uint32_t generate)
{
    mr_cleanup(mr_buf_done) struct mr_buf text;
    mr_buf_init(&text, 1u << 20);
    words_put(&text, p->seed, p->shared);
    words_put(&text, p->seed + 1 + index, p->prompt - MR_MIN(p->prompt, p->shared + 40));
    mr_buf_put_str(&text, MR_STR(" Tell me a very long story with these words."));
    mr_buf_put_str(body, MR_STR("{\"messages\":[{\"role\":\"user\",\"content\":"));
    mr_json_put_string(body, mr_buf_str(&text));
    mr_buf_printf(body, "}],\"max_tokens\":%u,\"temperature\":0,\"cache_prompt\":true}", generate);
}

/* prompt, cached and completion tokens of one answer, added up; false: it is no answer. */
static bool usage_add(const struct mr_buf *answer, double ret[3])
{
    yyjson_doc *doc = answer->n == 0 ? NULL : yyjson_read((const char *)answer->p, answer->n, 0);
    yyjson_val *usage = yyjson_obj_get(yyjson_doc_get_root(doc), "usage");
    yyjson_val *details = yyjson_obj_get(usage, "prompt_tokens_details");
    bool good = number(usage, "prompt_tokens") > 0;
    if (good) {
        ret[0] += number(usage, "prompt_tokens");
        ret[1] += details != NULL ? MR_MAX(number(details, "cached_tokens"), 0) : 0;
        ret[2] += number(usage, "completion_tokens");
    }
    yyjson_doc_free(doc);
    return good;
}

static bool asks_perform(CURLM *multi)
{
    int running = 1;
    while (running > 0) {
        if (curl_multi_perform(multi, &running) != CURLM_OK) return false;
        if (running > 0 && curl_multi_wait(multi, NULL, 0, 200, NULL) != CURLM_OK) return false;
    }
    return true;
}

/* All streams of a point at once: what the server's process spent, and the sums of usage. */
static bool peer_turn(const struct server *server, const struct point *p, uint32_t generate,
                      double *ret_cpu_s, double ret_usage[3])
{
    struct ask asks[STREAMS_MAX] = {0};
    char url[80];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/v1/chat/completions", server->port);
    CURLM *multi = curl_multi_init();
    bool good = multi != NULL;
    for (uint32_t i = 0; i < p->streams && good; i++) {
        struct ask *a = &asks[i];
        mr_buf_init(&a->body, ANSWER_MAX);
        mr_buf_init(&a->answer, ANSWER_MAX);
        body_put(&a->body, p, i, generate);
        mr_buf_put_char(&a->body, '\0');
        a->curl = curl_easy_init();
        a->headers = curl_slist_append(NULL, "Content-Type: application/json");
        good = a->curl != NULL && !a->body.failed;
        (void)curl_easy_setopt(a->curl, CURLOPT_URL, url);
        (void)curl_easy_setopt(a->curl, CURLOPT_HTTPHEADER, a->headers);
        (void)curl_easy_setopt(a->curl, CURLOPT_POSTFIELDS, (char *)a->body.p);
        (void)curl_easy_setopt(a->curl, CURLOPT_WRITEFUNCTION, answer_put);
        (void)curl_easy_setopt(a->curl, CURLOPT_WRITEDATA, &a->answer);
        good = good && curl_multi_add_handle(multi, a->curl) == CURLM_OK;
    }
    double start_s = child_cpu_s(server->pid);
    good = good && asks_perform(multi);
    *ret_cpu_s = child_cpu_s(server->pid) - start_s;
    for (uint32_t i = 0; i < p->streams; i++) {
        good = usage_add(&asks[i].answer, ret_usage) && good;
        if (asks[i].curl != NULL) (void)curl_multi_remove_handle(multi, asks[i].curl);
        curl_easy_cleanup(asks[i].curl);
        curl_slist_free_all(asks[i].headers);
        mr_buf_done(&asks[i].body);
        mr_buf_done(&asks[i].answer);
    }
    (void)curl_multi_cleanup(multi);
    return good && *ret_cpu_s > 0;
}

static bool peer_point(const struct bench *b, const struct server *server, const struct point *p,
                       struct rate *ret)
{
    double cpu_s[2] = {0}, first[3] = {0}, second[3] = {0};
    if (!peer_turn(server, p, 1, &cpu_s[0], first) ||
        !peer_turn(server, p, GENERATE, &cpu_s[1], second)) {
        return false;
    }
    struct rate rate = rate_of(first[0], second[2], first[0] / cpu_s[0] * b->threads,
                               second[2] / cpu_s[1] * b->threads);
    cmd_say("llama-server: %2u streams, %4u tokens, %4u shared: prefill %7.1f, decode %6.1f tokens "
            "per CPU-second (%.0f prompt tokens, %.0f cached, then %.0f; %.0f decoded)",
            p->streams, p->prompt, p->shared, rate.prefill, rate.decode, first[0], first[1],
            second[1], second[2]);
    ret->prefill = MR_MAX(ret->prefill, rate.prefill);
    ret->decode = MR_MAX(ret->decode, rate.decode);
    ret->overall = MR_MAX(ret->overall, rate.overall);
    return true;
}

enum which { SHIPPED_ONE, BEST_APART, BEST_SHARED, DEFAULTS };

static bool wanted(enum which which, const struct point *p)
{
    switch (which) {
    case SHIPPED_ONE:
        return p->streams == 1; /* where fewer bytes of weights may win */
    case BEST_APART:
        return p->shared == 0;
    case BEST_SHARED:
        return p->shared > 0;
    case DEFAULTS:
        return p->streams == 16 && p->prompt > 1000;
    }
    return false;
}

static void peer_run(struct bench *b, const char *model, const char *flags, enum which which)
{
    struct server server = {0};
    bool any = false;
    for (uint32_t i = 0; i < b->point_count; i++)
        any = any || wanted(which, &b->points[i]);
    if (!any) return;
    cmd_say("llama-server -m %s -t %u %s", model, b->threads, flags);
    if (!server_start(b, model, flags, &server)) {
        cmd_say("bench infer: llama-server did not start");
        return;
    }
    for (uint32_t i = 0; i < b->point_count; i++) {
        struct point *p = &b->points[i];
        struct rate *to = which == DEFAULTS ? &p->defaults : &p->best;
        if (wanted(which, p) && !peer_point(b, &server, p, to)) {
            cmd_say("bench infer: llama-server did not answer");
        }
    }
    if (which == DEFAULTS) {
        struct point cold = {.streams = 4, .prompt = 1264, .shared = 1200, .seed = 99000};
        double cpu_s = 0, usage[3] = {0};
        if (peer_turn(&server, &cold, 1, &cpu_s, usage)) {
            b->cold_peer = (usage[0] - usage[1]) / (usage[0] / 4);
        }
    }
    server_stop(&server);
}

/* --- bars ------------------------------------------------------------------------------------- */

static void bar_rate(struct bench *b, const struct point *p, const char *what, double ours,
                     double peer, const char *peer_name, double goal)
{
    struct bench_bar bar = {.ours = ours, .peer = peer, .goal = goal, .goal_is_ratio = true};
    (void)snprintf(bar.name, sizeof bar.name, "%s, %u stream%s, %u tokens%s", what, p->streams,
                   p->streams == 1 ? "" : "s", p->prompt,
                   p->shared > 0 ? ", 1000 of them shared" : "");
    (void)snprintf(bar.unit, sizeof bar.unit, "tokens/CPU-s");
    (void)snprintf(bar.peer_name, sizeof bar.peer_name, "%s", peer_name);
    (void)snprintf(bar.note, sizeof bar.note, "%s",
                   peer < 0 && b->server == NULL ? SERVER_MISSING
                   : peer < 0                    ? "the peer did not answer"
                                                 : "one run each");
    bench_add(b->report, &bar);
}

static void bars_add(struct bench *b)
{
    for (uint32_t i = 0; i < b->point_count; i++) {
        const struct point *p = &b->points[i];
        bar_rate(b, p, "prefill", p->ours.prefill, p->best.prefill, "llama-server, best flags", 1);
        bar_rate(b, p, "decode", p->ours.decode, p->best.decode, "llama-server, best flags", 1);
        if (p->streams == 16 && p->prompt > 1000) {
            bar_rate(b, p, "overall", p->ours.overall, p->defaults.overall,
                     "llama-server, defaults", p->shared > 0 ? 4 : 2);
        }
    }
    if (b->report->quick) return;
    struct bench_bar cold = {.name = "four cold requests with one prefix of 1200 tokens",
                             .ours = b->cold_ours,
                             .unit = "prefills",
                             .peer = b->cold_peer,
                             .peer_name = "llama-server, defaults",
                             .goal = 1.2,
                             .lower_is_better = true,
                             .note = "the prefix once and each request's own 64 tokens: 1.15"};
    bench_add(b->report, &cold);
    struct bench_bar gap = {.name = "p99 between two tokens beside a prompt of 6000",
                            .ours = b->gap_ms,
                            .unit = "ms",
                            .peer = -1,
                            .goal = b->gap_slo_ms,
                            .lower_is_better = true,
                            .note = "wall time; the goal is the configured itl_ms"};
    bench_add(b->report, &gap);
}

/* --- finding things --------------------------------------------------------------------------- */

static char *worker_find(void)
{
    char self[1024];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) return NULL;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (slash != NULL) *slash = '\0';
    char *path = cmd_path(self, "millrace-infer");
    if (path != NULL && access(path, X_OK) == 0) return path;
    free(path);
    return NULL;
}

static char *server_find(const char *cache)
{
    const char *named = getenv("MILLRACE_LLAMA_SERVER");
    if (named != NULL) return strdup(named);
    char *pattern = cmd_path(cache, "llama-*/bin/llama-server");
    char *found = NULL;
    glob_t list = {0};
    if (pattern != NULL && glob(pattern, 0, NULL, &list) == 0 && list.gl_pathc > 0) {
        found = strdup(list.gl_pathv[0]);
    }
    globfree(&list);
    free(pattern);
    return found;
}

static char *cache_find(void)
{
    const char *named = getenv("MILLRACE_CACHE");
    const char *user = getenv("HOME");
    return named != NULL ? strdup(named)
                         : cmd_path(user != NULL ? user : "/root", ".cache/millrace");
}

static int bench_all(struct bench *b)
{
    cmd_say("bench infer: %s, %u thread, rates per CPU-second", b->model, b->threads);
    int error = ours_run(b);
    if (error != 0) return error;
    if (b->server != NULL) {
        const char *weights = b->weights[0] != '\0' ? b->weights : b->model;
        const char *apart =
            b->flash ? "-np 16 -c 20480 -fa on -no-kvu" : "-np 16 -c 20480 -fa off -no-kvu";
        const char *together =
            b->flash ? "-np 16 -c 20480 -fa on -kvu" : "-np 16 -c 20480 -fa off -kvu";
        peer_run(b, weights, apart, BEST_APART);
        peer_run(b, b->model, "-np 1 -c 2048 -fa off", SHIPPED_ONE);
        peer_run(b, weights, together, BEST_SHARED);
        peer_run(b, b->model, "", DEFAULTS);
    }
    bars_add(b);
    return 0;
}

int bench_infer(struct bench_report *report)
{
    struct bench *b = calloc(1, sizeof *b);
    char *cache = cache_find();
    if (b == NULL || cache == NULL) {
        free(b);
        free(cache);
        return MR_ENO_MEMORY;
    }
    b->report = report;
    b->threads = 1;
    b->cold_peer = -1;
    b->worker = worker_find();
    b->server = server_find(cache);
    b->model = report->arg != NULL ? strdup(report->arg) : cmd_model_find(cache);
    b->cache = cmd_path(cache, "bench");
    int error = MR_ENOT_FOUND;
    if (b->worker == NULL) {
        cmd_say("bench infer: millrace-infer is not beside this program; `make build` makes it");
    } else if (b->model == NULL) {
        cmd_say("bench infer: no model; `tools/setup model` fetches the default one");
    } else if (b->cache == NULL || (mkdir(b->cache, 0700) != 0 && access(b->cache, W_OK) != 0)) {
        cmd_say("bench infer: the cache folder %s cannot be written", cache);
        error = MR_EIO;
    } else {
        error = bench_all(b);
    }
    free(b->worker);
    free(b->server);
    free(b->model);
    free(b->cache);
    free(b);
    free(cache);
    return error;
}
