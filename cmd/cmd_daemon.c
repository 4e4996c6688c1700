/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon: loop, store, engine, ctl and the gates, wired; and its first calls to itself.
 *
 * Thread: lane 0 runs ctl, store and engine on the caller's thread; each gate has its own.
 * Fails:  with one line for people. Stopping is orderly: no new connections, streams end, ctl
 *         commits and snapshots; workers go on. A second signal hurries.
 * Ends:   daemon_done, whatever was reached.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <yyjson.h>

#include "cmd_daemon.h"
#include "ctl/ctl.h"
#include "gate/gate.h"
#include "loop/loop.h"
#include "store/store.h"

#define GATES_MAX      16u
#define LISTEN_DEFAULT "127.0.0.1:7411"
#define DRAIN_US       10000000u
#define PROBLEM_BYTES  65536u

struct gate_end { /* one gate's way down */
    struct mr_post post;
    struct daemon *daemon;
    uint32_t index;
};

/* What the daemon asks of itself when it starts, in order. */
enum step {
    STEP_TENANT,
    STEP_ADMIN_KEY,
    STEP_API_KEY,
    STEP_NODE,
    STEP_STATUS,
    STEP_MODEL,
    STEP_READY
};

struct daemon {
    struct cmd *cmd;
    struct mr_loop *loop;
    struct mr_engine *engine;
    struct mr_store *store;
    struct mr_ctl *ctl;
    struct mr_gate *gates[GATES_MAX];
    uint32_t gate_count, gates_ended;
    struct gate_end ends[GATES_MAX];
    struct mr_engine_machine machine;
    struct mr_core_limits limits;
    void (*ready)(void *arg, const struct cmd_daemon_ready *ready);
    void *arg;
    struct mr_ctl_call call;
    struct mr_buf body;
    enum step step;
    char url[160];
    char admin_key[128], api_key[128];
    char *model_path, *model_name, *programs, *cache;
    bool fresh, has_model, stopping;
    int code;
};

/* --- stopping ------------------------------------------------------------------------------ */

static void ctl_stopped(void *arg)
{
    struct daemon *d = arg;
    mr_loop_stop(d->loop);
}

static void gate_count_down(struct mr_post *post)
{
    struct gate_end *end = (struct gate_end *)(void *)post;
    struct daemon *d = end->daemon;
    if (++d->gates_ended == d->gate_count) mr_ctl_stop(d->ctl, ctl_stopped, d);
}

static void gate_drained(void *arg)
{
    struct gate_end *end = arg;
    struct mr_env *env = mr_loop_env(end->daemon->loop, end->index + 1);
    end->post.fn = gate_count_down;
    env->ops->post(env, 0, &end->post);
}

static void gate_drain(struct mr_post *post)
{
    struct gate_end *end = (struct gate_end *)(void *)post;
    struct mr_env *env = mr_loop_env(end->daemon->loop, end->index + 1);
    mr_gate_drain(end->daemon->gates[end->index], env->ops->now_us(env) + DRAIN_US, gate_drained,
                  end);
}

static void daemon_stop(struct daemon *d)
{
    struct mr_env *env = mr_loop_env(d->loop, 0);
    if (d->stopping) return;
    d->stopping = true;
    mr_loop_listen_stop(d->loop);
    for (uint32_t i = 0; i < d->gate_count; i++) {
        d->ends[i] = (struct gate_end){.post = {.fn = gate_drain}, .daemon = d, .index = i};
        env->ops->post(env, i + 1, &d->ends[i].post);
    }
}

static void on_signal(void *arg, int number)
{
    struct daemon *d = arg;
    (void)number;
    if (d->stopping) { /* asked twice: what is durable stays durable */
        mr_loop_stop(d->loop);
        return;
    }
    if (!d->cmd->json)
        cmd_say("millrace: stopping; workers go on (`millrace down --all` stops them)");
    daemon_stop(d);
}

static void on_fatal(void *arg, int error, struct mr_str text)
{
    struct daemon *d = arg;
    d->code = cmd_fail("%s: %.*s", mr_error_text(error), MR_STR_ARG(text));
    mr_loop_stop(d->loop);
}

/* --- first calls ---------------------------------------------------------------------------- */

static void step_next(struct daemon *d);

static void give_up(struct daemon *d, const char *what)
{
    d->code = cmd_fail("%s: %.*s", what, MR_STR_ARG(mr_buf_str(&d->call.out_text)));
    daemon_stop(d);
}

static void copy_field(struct mr_str json, const char *field, char *ret, size_t size)
{
    yyjson_doc *doc = yyjson_read(json.p, json.n, 0);
    const char *text = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), field));
    snprintf(ret, size, "%s", text != NULL ? text : "");
    yyjson_doc_free(doc);
}

static bool status_has_model(struct daemon *d, struct mr_str json)
{
    yyjson_doc *doc = yyjson_read(json.p, json.n, 0);
    yyjson_val *models = yyjson_obj_get(yyjson_doc_get_root(doc), "models"), *model;
    size_t index, max;
    bool found = false;
    yyjson_arr_foreach(models, index, max, model)
    {
        const char *name = cmd_json_str(model, "name", "");
        found = found || (d->model_name != NULL && strcmp(name, d->model_name) == 0);
    }
    yyjson_doc_free(doc);
    return found;
}

static bool keep_admin_key(struct daemon *d)
{
    char *path = cmd_path(d->cmd->home, "admin.key");
    mr_buf_reset(&d->body);
    mr_buf_printf(&d->body, "%s\n", d->admin_key);
    int error = path != NULL ? cmd_file_write(path, mr_buf_str(&d->body), 0600) : MR_ENO_MEMORY;
    free(path);
    if (error == 0) return true;
    d->code = cmd_fail("cannot write %s/admin.key: %s", d->cmd->home, mr_error_text(error));
    daemon_stop(d);
    return false;
}

static void step_done(struct mr_ctl_call *call)
{
    struct daemon *d = call->arg;
    static const char *const names[] = {"no default tenant", "no administrator's key",
                                        "no API key",        "this machine cannot be a node",
                                        "no status",         "the model is not served"};
    struct mr_str out = mr_buf_str(&call->out);
    bool fine = call->error == 0;
    if (!fine) give_up(d, names[d->step]);
    if (fine && d->step == STEP_ADMIN_KEY) {
        copy_field(out, "key", d->admin_key, sizeof d->admin_key);
        fine = keep_admin_key(d);
    }
    if (fine && d->step == STEP_API_KEY) copy_field(out, "key", d->api_key, sizeof d->api_key);
    if (fine && d->step == STEP_STATUS) d->has_model = status_has_model(d, out);
    mr_buf_done(&call->out);
    mr_buf_done(&call->out_text);
    if (!fine) return;
    d->step++;
    step_next(d);
}

static void ask(struct daemon *d, enum mr_ctl_op op)
{
    d->call = (struct mr_ctl_call){.ctl = d->ctl,
                                   .op = op,
                                   .reply_lane = 0,
                                   .done = step_done,
                                   .arg = d,
                                   .admin = true,
                                   .body = mr_buf_str(&d->body)};
    mr_ctl_call(mr_loop_env(d->loop, 0), &d->call);
}

static void put_node(struct daemon *d)
{
    mr_buf_printf(&d->body, "{\"id\":1,\"cpu_milli\":%u,\"mem_mib\":%u,\"accel_count\":%u",
                  d->machine.cpu_milli, d->machine.mem_mib, d->machine.accel_count);
    if (d->machine.accel_count > 0) {
        mr_buf_put_str(&d->body, MR_STR(",\"accelerator\":"));
        mr_json_put_string(&d->body, mr_str_from(d->machine.accel_name));
    }
    mr_buf_put_char(&d->body, '}');
}

/* Half of the cores, at most four, serve the model: the rest is for what people submit. */
static void put_model(struct daemon *d)
{
    uint32_t threads = MR_MAX(1u, MR_MIN(4u, d->machine.cpu_milli / 2000u));
    mr_buf_put_str(&d->body, MR_STR("{\"kind\":\"service\",\"tenant\":\"default\",\"name\":"));
    mr_json_put_string(&d->body, mr_str_from(d->model_name));
    mr_buf_printf(&d->body,
                  ",\"replicas\":1,\"resources\":{\"cpus\":%u,\"memory\":\"2GiB\"},"
                  "\"infer\":{\"threads\":%u,\"served_name\":",
                  threads, threads);
    mr_json_put_string(&d->body, mr_str_from(d->model_name));
    mr_buf_put_str(&d->body, MR_STR(",\"model\":"));
    mr_json_put_string(&d->body, mr_str_from(d->model_path));
    mr_buf_put_str(&d->body, MR_STR("}}"));
}

static void tell_ready(struct daemon *d)
{
    char *path = cmd_path(d->cmd->home, "daemon.json");
    mr_buf_printf(&d->body, "{\"url\":\"%s\",\"pid\":%d,\"version\":\"%s\"}\n", d->url,
                  (int)getpid(), MR_VERSION);
    int error = path != NULL ? cmd_file_write(path, mr_buf_str(&d->body), 0600) : MR_ENO_MEMORY;
    free(path);
    if (error != 0) {
        d->code = cmd_fail("cannot write %s/daemon.json: %s", d->cmd->home, mr_error_text(error));
        daemon_stop(d);
        return;
    }
    struct cmd_daemon_ready ready = {.url = d->url,
                                     .home = d->cmd->home,
                                     .self = d->cmd->self,
                                     .api_key = d->fresh ? d->api_key : "",
                                     .admin_key = d->fresh ? d->admin_key : "",
                                     .model = d->model_name != NULL ? d->model_name : "",
                                     .machine = &d->machine,
                                     .json = d->cmd->json};
    d->ready(d->arg, &ready);
}

static bool admin_key_is_kept(const struct daemon *d)
{
    char *path = cmd_path(d->cmd->home, "admin.key");
    bool kept = path != NULL && access(path, R_OK) == 0;
    free(path);
    return kept;
}

/* Does the first step from d->step on that is needed. */
static void step_next(struct daemon *d)
{
    mr_buf_reset(&d->body);
    /* A first start that was cut short left no key: it is made good, its steps are idempotent. */
    if (d->step == STEP_TENANT && !admin_key_is_kept(d)) d->fresh = true;
    if (d->step == STEP_TENANT && d->fresh) {
        mr_buf_put_str(&d->body, MR_STR("{\"name\":\"default\"}"));
        ask(d, MR_CTL_TENANT_SET);
        return;
    }
    if (d->step <= STEP_ADMIN_KEY) {
        d->step = STEP_ADMIN_KEY;
        /* Whoever can write to the home is its administrator: a lost key is made anew. */
        if (d->fresh || !admin_key_is_kept(d)) {
            mr_buf_put_str(&d->body, MR_STR("{\"tenant\":\"default\",\"role\":\"admin\"}"));
            ask(d, MR_CTL_KEY_NEW);
            return;
        }
    }
    if (d->step <= STEP_API_KEY && d->fresh) {
        d->step = STEP_API_KEY;
        mr_buf_put_str(&d->body, MR_STR("{\"tenant\":\"default\",\"role\":\"user\"}"));
        ask(d, MR_CTL_KEY_NEW);
        return;
    }
    if (d->step <= STEP_NODE) {
        d->step = STEP_NODE;
        put_node(d);
        ask(d, MR_CTL_NODE_SET);
        return;
    }
    if (d->step == STEP_STATUS) {
        ask(d, MR_CTL_STATUS);
        return;
    }
    bool wanted = d->fresh || cmd_value(d->cmd, "model") != NULL;
    if (d->step == STEP_MODEL && d->model_path != NULL && wanted && !d->has_model) {
        put_model(d);
        ask(d, MR_CTL_SUBMIT);
        return;
    }
    d->step = STEP_READY;
    tell_ready(d);
}

static void first_step(struct mr_post *post)
{
    struct gate_end *start = (struct gate_end *)(void *)post;
    step_next(start->daemon);
}

/* --- wiring --------------------------------------------------------------------------------- */

static void on_accept(void *arg, uint32_t lane, struct mr_conn *conn)
{
    struct daemon *d = arg;
    MR_ASSERT(lane >= 1 && lane <= d->gate_count);
    mr_gate_accept(d->gates[lane - 1], conn);
}

static int fail_with(int error, struct mr_buf *problem, const char *what)
{
    struct mr_str text = mr_buf_str(problem);
    if (text.n > 0) return cmd_fail("%.*s", MR_STR_ARG(text));
    return cmd_fail("%s: %s", what, mr_error_text(error));
}

/* The size of a home is chosen once: the state in its journal has it. */
static int limits_find(struct daemon *d)
{
    const char *wanted = cmd_value(d->cmd, "size"), *has = "small";
    mr_cleanup(mr_buf_done) struct mr_buf text;
    char *path = cmd_path(d->cmd->home, "size"), *journal = cmd_path(d->cmd->home, "journal.db");
    mr_buf_init(&text, 4096);
    int error = path != NULL && journal != NULL ? cmd_file_read(path, &text) : MR_ENO_MEMORY;
    bool large = mr_str_equal(mr_buf_str(&text), MR_STR("fleet\n"));
    bool fresh = journal != NULL && access(journal, F_OK) != 0;
    if (large) has = "fleet";
    if (error == MR_ENOT_FOUND) error = 0;
    if (error != 0) {
        error = cmd_fail("cannot read the size of the home %s", d->cmd->home);
    } else if (wanted != NULL && strcmp(wanted, "small") != 0 && strcmp(wanted, "fleet") != 0) {
        error = cmd_fail("--size is small or fleet, not '%s'", wanted);
    } else if (wanted != NULL && strcmp(wanted, has) != 0 && !fresh) {
        error = cmd_fail("the home %s is of size %s, which is chosen once; another size is another "
                         "home: set MILLRACE_HOME",
                         d->cmd->home, has);
    } else if (wanted != NULL && strcmp(wanted, has) != 0) {
        large = strcmp(wanted, "fleet") == 0;
        if (cmd_file_write(path, large ? MR_STR("fleet\n") : MR_STR("small\n"), 0600) != 0)
            error = cmd_fail("cannot write %s", path);
    }
    d->limits = large ? mr_core_limits_fleet : mr_core_limits_small;
    free(path);
    free(journal);
    return error;
}

static int open_world(struct daemon *d, struct mr_buf *problem)
{
    int error = mr_loop_new(d->gate_count + 1, &d->loop);
    if (error != 0) return fail_with(error, problem, "no event loop");
    struct mr_env *env = mr_loop_env(d->loop, 0);
    error = mr_store_sqlite_open(mr_str_from(d->cmd->home), env, &d->store, problem);
    if (error != 0) return fail_with(error, problem, "the journal cannot be opened");
    struct mr_engine_local_config config = {.env = env,
                                            .home = mr_str_from(d->cmd->home),
                                            .programs = mr_str_from(d->programs),
                                            .cache_dir = mr_str_from(d->cache)};
    error = mr_engine_local_open(&config, &d->engine, problem);
    return error != 0 ? fail_with(error, problem, "no engine") : 0;
}

static int open_gates(struct daemon *d, struct mr_buf *problem)
{
    uint16_t port = 0;
    for (uint32_t i = 0; i < d->gate_count; i++) {
        struct mr_gate_config config = {.env = mr_loop_env(d->loop, i + 1),
                                        .wire = mr_loop_wire(d->loop, i + 1)};
        int error = mr_gate_new(&config, &d->gates[i]);
        if (error != 0) return fail_with(error, problem, "no gate");
    }
    const char *listen = cmd_value(d->cmd, "listen");
    if (listen == NULL) listen = LISTEN_DEFAULT;
    int error = mr_loop_listen(d->loop, mr_str_from(listen), on_accept, d, &port, problem);
    if (error != 0) return fail_with(error, problem, "cannot listen");
    const char *colon = strrchr(listen, ':');
    int host_length = colon != NULL ? (int)(colon - listen) : (int)strlen(listen);
    bool any = strncmp(listen, "0.0.0.0", 7) == 0 || strncmp(listen, "[::]", 4) == 0;
    if (any) {
        snprintf(d->url, sizeof d->url, "http://127.0.0.1:%u", port);
    } else {
        snprintf(d->url, sizeof d->url, "http://%.*s:%u", host_length, listen, port);
    }
    if (strncmp(listen, "127.", 4) != 0 && strncmp(listen, "localhost", 9) != 0 &&
        strncmp(listen, "[::1]", 5) != 0) {
        cmd_say(
            "millrace: %s is reachable from other machines, without TLS: keys can be read on the "
            "way; put a TLS proxy before it",
            listen);
    }
    return 0;
}

static int open_ctl(struct daemon *d, struct mr_buf *problem)
{
    struct mr_ctl_listener listeners[GATES_MAX];
    for (uint32_t i = 0; i < d->gate_count; i++)
        listeners[i] = mr_gate_listener(d->gates[i]);
    struct mr_ctl_config config = {.env = mr_loop_env(d->loop, 0),
                                   .store = d->store,
                                   .engine = d->engine,
                                   .limits = d->limits,
                                   .listeners = listeners,
                                   .listener_count = d->gate_count,
                                   .fatal = on_fatal,
                                   .fatal_arg = d};
    int error = mr_ctl_new(&config, &d->ctl);
    if (error == 0) error = mr_ctl_start(d->ctl, problem);
    if (error != 0) return fail_with(error, problem, "the state cannot be recovered");
    for (uint32_t i = 0; i < d->gate_count; i++)
        mr_gate_ctl_set(d->gates[i], d->ctl);
    d->fresh = mr_ctl_is_new(d->ctl);
    return 0;
}

static int find_files(struct daemon *d)
{
    const char *model = cmd_value(d->cmd, "model");
    char *slash;
    d->programs = strdup(d->cmd->self != NULL ? d->cmd->self : "/");
    if (d->programs == NULL) return cmd_fail("out of memory");
    slash = strrchr(d->programs, '/');
    if (slash != NULL) *slash = 0;
    d->cache = cmd_path(d->cmd->home, "models");
    if (d->cache == NULL || cmd_home_make(d->cache) != 0) return CMD_FAILED;
    if (model != NULL) {
        d->model_path = realpath(model, NULL);
    } else if (!cmd_flag(d->cmd, "no-model")) {
        d->model_path = cmd_model_find(d->cmd->home);
        if (d->model_path == NULL) {
            cmd_say(
                "millrace: no model file found; `make up` fetches the default one, `millrace serve "
                "--model FILE.gguf` serves yours");
        }
    }
    if (d->model_path != NULL) d->model_name = cmd_model_name(d->model_path);
    return 0;
}

static void daemon_done(struct daemon *d)
{
    mr_store_sqlite_close(d->store); /* waits for its thread, which reads what ctl owns */
    mr_ctl_free(d->ctl);
    for (uint32_t i = 0; i < d->gate_count; i++) {
        if (d->gates[i] != NULL) mr_gate_free(d->gates[i]);
    }
    mr_engine_local_close(d->engine);
    mr_loop_free(d->loop);
    mr_buf_done(&d->body);
    free(d->model_path);
    free(d->model_name);
    free(d->programs);
    free(d->cache);
    free(d);
}

int cmd_daemon_run(struct cmd *cmd, void (*ready)(void *arg, const struct cmd_daemon_ready *ready),
                   void *arg)
{
    uint64_t threads;
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    mr_buf_init(&problem, PROBLEM_BYTES);
    if (!cmd_number(cmd, "threads", 1, GATES_MAX, &threads)) return CMD_USAGE;
    struct daemon *d = calloc(1, sizeof *d);
    if (d == NULL) return cmd_fail("out of memory");
    d->cmd = cmd;
    d->ready = ready;
    d->arg = arg;
    d->gate_count = MR_MAX((uint32_t)threads, 1u);
    mr_buf_init(&d->body, MR_SPEC_BYTES_MAX);
    mr_engine_machine_read(&d->machine);
    d->code = find_files(d);
    if (d->code == 0) d->code = limits_find(d);
    if (d->code == 0) d->code = open_world(d, &problem);
    if (d->code == 0) d->code = open_gates(d, &problem);
    if (d->code == 0) d->code = open_ctl(d, &problem);
    if (d->code == 0) {
        struct mr_env *env = mr_loop_env(d->loop, 0);
        struct gate_end start = {.post = {.fn = first_step}, .daemon = d};
        /* Without them Ctrl-C would kill it half-way: rather not begin. */
        if (mr_loop_signals(d->loop, on_signal, d) != 0) {
            d->code = cmd_fail("signals cannot be handled here; nothing was started");
        } else {
            env->ops->post(env, 0, &start.post);
            if (mr_loop_run(d->loop) != 0)
                d->code = cmd_fail("the event loop could not be started");
        }
    }
    int code = d->code;
    daemon_done(d);
    return code;
}
