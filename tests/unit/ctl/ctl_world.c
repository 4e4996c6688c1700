/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest world for ctl: everything is one queue, so every order of things can be written
 * down.
 *
 * Owns:       all of it, until world_free.
 * Invariants: (1) a lease is started once in its life, whatever is asked; (2) what was acknowledged
 * by the store survives world_kill, what was not may or may not.
 */
#include "ctl_world.h"

#include <stdio.h>

struct mr_timer {
    struct mr_timer *next;
    uint64_t at_us;
    void (*fn)(void *arg);
    void *arg;
};

/* --- env ------------------------------------------------------------------------------------- */

static struct ctl_world *of_env(struct mr_env *env)
{
    return (struct ctl_world *)(void *)env;
}

static uint64_t env_now(struct mr_env *env)
{
    return of_env(env)->now_us;
}

static void env_random(struct mr_env *env, uint8_t ret[16])
{
    for (size_t i = 0; i < 16; i += 8) {
        uint64_t word = mr_hash_mix(++of_env(env)->random);
        memcpy(ret + i, &word, 8);
    }
}

static int env_timer_start(struct mr_env *env, uint64_t at_us, void (*fn)(void *arg), void *arg,
                           struct mr_timer **ret_timer)
{
    struct mr_timer *timer = calloc(1, sizeof *timer);
    *timer = (struct mr_timer){of_env(env)->timers, at_us, fn, arg};
    of_env(env)->timers = timer;
    *ret_timer = timer;
    return 0;
}

static void env_timer_stop(struct mr_env *env, struct mr_timer *timer)
{
    for (struct mr_timer **link = &of_env(env)->timers; *link != NULL; link = &(*link)->next) {
        if (*link != timer) continue;
        *link = timer->next;
        free(timer);
        return;
    }
    assert_null(timer); /* one that has fired is forgotten by its owner */
}

static void env_post(struct mr_env *env, uint32_t lane, struct mr_post *post)
{
    struct ctl_world *w = of_env(env);
    assert_true(w->post_count < MR_COUNT_OF(w->posts));
    w->posts[w->post_count].post = post;
    w->posts[w->post_count++].lane = lane;
}

/* Computed at once, told later. */
struct work_post {
    struct mr_post post;
    struct mr_work *work;
};

static void work_told(struct mr_post *post)
{
    struct mr_work *work = ((struct work_post *)(void *)post)->work;
    free(post);
    work->done(work);
}

static int env_work(struct mr_env *env, struct mr_work *work)
{
    struct work_post *told = calloc(1, sizeof *told);
    *told = (struct work_post){.post = {.fn = work_told}, .work = work};
    of_env(env)->works++;
    work->run(work);
    env_post(env, 0, &told->post);
    return 0;
}

static const struct mr_env_ops env_ops = {.now_us = env_now,
                                          .random = env_random,
                                          .timer_start = env_timer_start,
                                          .timer_stop = env_timer_stop,
                                          .post = env_post,
                                          .work = env_work};

static bool run_post(struct ctl_world *w)
{
    if (w->post_count == 0) return false;
    struct mr_post *post = w->posts[0].post;
    memmove(w->posts, w->posts + 1, --w->post_count * sizeof w->posts[0]);
    post->fn(post);
    return true;
}

static bool run_timer(struct ctl_world *w)
{
    struct mr_timer **due = NULL;
    for (struct mr_timer **link = &w->timers; *link != NULL; link = &(*link)->next) {
        if ((*link)->at_us <= w->now_us && (due == NULL || (*link)->at_us < (*due)->at_us))
            due = link;
    }
    if (due == NULL) return false;
    struct mr_timer timer = **due;
    free(*due);
    *due = timer.next;
    timer.fn(timer.arg);
    return true;
}

void world_run(struct ctl_world *w)
{
    for (uint32_t i = 0; !w->crashed && (run_post(w) || run_timer(w)); i++) {
        assert_true(i < 100000); /* it comes to rest */
        w->now_us += 1;
        if (w->ctl != NULL && mr_ctl_seq(w->ctl) > 0 && !w->append.busy) {
            uint64_t hash = mr_core_hash(mr_ctl_core(w->ctl));
            w->hash_by_seq[mr_ctl_seq(w->ctl)] = hash;
        }
    }
}

void world_pass(struct ctl_world *w, uint64_t us)
{
    w->now_us += us;
    world_run(w);
}

/* --- store ------------------------------------------------------------------------------------ */

static struct ctl_world *of_store(struct mr_store *store)
{
    return (struct ctl_world *)(void *)((char *)store - offsetof(struct ctl_world, store));
}

static int store_epoch(struct mr_store *store, uint64_t *ret)
{
    *ret = ++of_store(store)->epoch;
    return 0;
}

static void appended(struct mr_post *post)
{
    struct ctl_world *w =
        (struct ctl_world *)(void *)((char *)post - offsetof(struct ctl_world, append.post));
    w->append.busy = false;
    w->append.done(w->append.arg, w->append.error);
}

static void snapshotted(struct mr_post *post)
{
    struct ctl_world *w =
        (struct ctl_world *)(void *)((char *)post - offsetof(struct ctl_world, snapshot.post));
    w->snapshot.busy = false;
    w->snapshot.done(w->snapshot.arg, w->snapshot.error);
}

static void keep(struct world_bytes *to, struct mr_str bytes)
{
    free(to->p);
    to->p = malloc(bytes.n + 1);
    memcpy(to->p, bytes.p, bytes.n);
    to->n = bytes.n;
}

static void store_group(struct ctl_world *w, const struct mr_store_group *group)
{
    for (size_t i = 0; i < group->record_count; i++) {
        assert_int_equal(group->records[i].seq, w->last_seq + 1); /* consecutive, always */
        assert_true(w->last_seq + 1 < WORLD_RECORDS);
        keep(&w->records[++w->last_seq], group->records[i].bytes);
    }
    for (size_t i = 0; i < group->ledger_count; i++) {
        bool known = false;
        for (size_t k = 0; k < w->ledger_count; k++)
            known = known || w->ledger[k] == group->ledger[i].entry;
        if (known) continue;
        w->ledger[w->ledger_count++] = group->ledger[i].entry;
        struct mr_reader reader = mr_reader_from(group->ledger[i].bytes);
        assert_int_equal(mr_read_u8(&reader), 1);
        (void)mr_read_u32(&reader);
        (void)mr_read_u64(&reader);
        (void)mr_read_u64(&reader);
        (void)mr_read_u16(&reader); /* sku and type */
        (void)mr_read_u64(&reader);
        (void)mr_read_u64(&reader);
        w->ledger_sum_nusd += (int64_t)mr_read_u64(&reader);
        assert_false(reader.failed);
    }
}

static void store_append(struct mr_store *store, uint64_t epoch, const struct mr_store_group *group,
                         mr_store_done done, void *arg)
{
    struct ctl_world *w = of_store(store);
    uint64_t number = ++w->appends;
    assert_false(w->append.busy); /* one in flight */
    w->append.busy = true;
    w->append.done = done;
    w->append.arg = arg;
    w->append.error = epoch == w->epoch ? 0 : MR_EFENCED;
    w->append.post.fn = appended;
    if (w->fail_at != 0 && (number == w->fail_at || (number > w->fail_at && w->fail_for_ever))) {
        w->append.error = w->fail_error;
    }
    bool crash = w->crash_at != 0 && number == w->crash_at;
    if (w->append.error == 0 && (!crash || w->crash_stored)) store_group(w, group);
    if (crash) {
        w->crashed = true;
        return;
    }
    env_post(&w->env, 0, &w->append.post);
}

static int store_read(struct mr_store *store, uint64_t seq,
                      int (*visit)(void *arg, const struct mr_store_record *record), void *arg)
{
    struct ctl_world *w = of_store(store);
    for (uint64_t s = MR_MAX(seq, w->first_seq); s <= w->last_seq; s++) {
        struct mr_store_record record = {s, {w->records[s].p, w->records[s].n}};
        int error = visit(arg, &record);
        if (error != 0) return error;
    }
    return 0;
}

static void store_snapshot_put(struct mr_store *store, uint64_t epoch, uint64_t seq,
                               struct mr_str bytes, mr_store_done done, void *arg)
{
    struct ctl_world *w = of_store(store);
    assert_false(w->snapshot.busy);
    w->snapshot.busy = true;
    w->snapshot.done = done;
    w->snapshot.arg = arg;
    w->snapshot.error = epoch == w->epoch ? 0 : MR_EFENCED;
    w->snapshot.post.fn = snapshotted;
    if (w->snapshot.error == 0) {
        struct world_bytes old = w->snapshots[1];
        w->snapshots[1] = w->snapshots[0];
        w->snapshot_seqs[1] = w->snapshot_seqs[0];
        w->snapshots[0] = (struct world_bytes){0};
        keep(&w->snapshots[0], bytes);
        w->snapshot_seqs[0] = seq;
        free(old.p);
        if (w->snapshots[1].p != NULL) w->first_seq = w->snapshot_seqs[1] + 1;
    }
    env_post(&w->env, 0, &w->snapshot.post);
}

static int store_snapshot_get(struct mr_store *store, uint32_t n, struct mr_buf *buf,
                              uint64_t *ret_seq)
{
    struct ctl_world *w = of_store(store);
    if (n >= 2 || w->snapshots[n].p == NULL) return MR_ENOT_FOUND;
    mr_buf_put(buf, w->snapshots[n].p, w->snapshots[n].n);
    *ret_seq = w->snapshot_seqs[n];
    return 0;
}

static void store_stats(struct mr_store *store, struct mr_store_stats *ret)
{
    *ret = (struct mr_store_stats){.last_seq = of_store(store)->last_seq};
}

static const struct mr_store_ops store_ops = {.epoch_take = store_epoch,
                                              .append = store_append,
                                              .read = store_read,
                                              .snapshot_put = store_snapshot_put,
                                              .snapshot_get = store_snapshot_get,
                                              .stats = store_stats};

/* --- engine ----------------------------------------------------------------------------------- */

static struct ctl_world *of_engine(struct mr_engine *engine)
{
    return (struct ctl_world *)(void *)((char *)engine - offsetof(struct ctl_world, engine));
}

static struct world_lease *lease_of(struct mr_engine *engine, uint64_t id)
{
    assert_true(id > 0 && id < WORLD_LEASES);
    return &of_engine(engine)->leases[id];
}

static void engine_watch(struct mr_engine *engine,
                         void (*report)(void *arg, const struct mr_engine_report *report),
                         void *arg)
{
    of_engine(engine)->report = report;
    of_engine(engine)->report_arg = arg;
}

static void copy(char *to, size_t size, struct mr_str from)
{
    snprintf(to, size, "%.*s", (int)MR_MIN(from.n, size - 1), from.n > 0 ? from.p : "");
}

static void engine_start(struct mr_engine *engine, const struct mr_engine_start *start)
{
    struct world_lease *lease = lease_of(engine, start->lease.v);
    lease->adopted = true;
    if (lease->started) return; /* for ever */
    lease->started = true;
    lease->starts++;
    lease->workload = start->workload.v;
    lease->mpi = start->mpi;
    copy(lease->argv0, sizeof lease->argv0, start->argv[0]);
    copy(lease->argv_last, sizeof lease->argv_last, start->argv[start->argv_count - 1]);
    copy(lease->spec, sizeof lease->spec, start->spec_json);
    lease->env[0] = 0;
    for (size_t i = 0, n = 0; i < start->env_count && n < sizeof lease->env; i++) {
        n += (size_t)snprintf(lease->env + n, sizeof lease->env - n, "%.*s;",
                              MR_STR_ARG(start->env[i]));
    }
}

static void engine_adopt(struct mr_engine *engine, struct mr_lease_id id)
{
    lease_of(engine, id.v)->adopted = true;
    assert_true(lease_of(engine, id.v)->started); /* the core believes only what was asked for */
}

static void engine_stop(struct mr_engine *engine, struct mr_lease_id id, uint64_t grace_us)
{
    lease_of(engine, id.v)->stop_asked = true;
    lease_of(engine, id.v)->stopped_grace_us = grace_us;
}

static void engine_forget(struct mr_engine *engine, struct mr_lease_id id)
{
    struct ctl_world *w = of_engine(engine);
    struct mr_lease_info info;
    w->leases[id.v].forgotten = true;
    /* Its end is durable only when the core has stepped it. */
    if (mr_core_lease(mr_ctl_core(w->ctl), id, &info) == 0) w->forgot_early = true;
}

static void engine_sweep(struct mr_engine *engine)
{
    of_engine(engine)->swept = true;
}

static void engine_address(struct mr_engine *engine, struct mr_lease_id id, struct mr_buf *buf)
{
    if (lease_of(engine, id.v)->started)
        mr_buf_printf(buf, "unix:/lease-%llu", (unsigned long long)id.v);
}

static int engine_file(struct mr_engine *engine, struct mr_workload_id workload, uint32_t run,
                       uint32_t rank, struct mr_str name, uint64_t offset, size_t max,
                       struct mr_buf *buf)
{
    (void)engine, (void)max;
    if (!mr_str_equal(name, MR_STR("stdout"))) return MR_ENOT_FOUND;
    mr_buf_printf(buf, "out of %llu.%u.%u at %llu", (unsigned long long)workload.v, run, rank,
                  (unsigned long long)offset);
    return 0;
}

static const struct mr_engine_ops engine_ops = {.watch = engine_watch,
                                                .start = engine_start,
                                                .adopt = engine_adopt,
                                                .stop = engine_stop,
                                                .forget = engine_forget,
                                                .sweep = engine_sweep,
                                                .address = engine_address,
                                                .file_read = engine_file};

void world_say(struct ctl_world *w, enum mr_engine_report_kind kind, uint64_t lease, int exit,
               int code)
{
    struct mr_engine_report report = {
        .kind = kind, .lease = {lease}, .exit_kind = exit, .code = code, .checkpoint_step = 1};
    if (kind == MR_ENGINE_EXITED) w->leases[lease].ended = true;
    w->report(w->report_arg, &report);
    world_run(w);
}

/* --- life ------------------------------------------------------------------------------------- */

static void on_routes(void *arg, const struct mr_routes *routes)
{
    struct ctl_world *w = arg;
    mr_routes_unref(w->routes);
    w->routes = routes;
}

static void on_feed(void *arg, const struct mr_feed_item *item)
{
    ((struct ctl_world *)arg)->feeds++;
    mr_feed_item_unref(item);
}

static void on_fatal(void *arg, int error, struct mr_str text)
{
    struct ctl_world *w = arg;
    w->fatals++;
    w->fatal_error = (uint32_t)-error;
    assert_true(text.n > 0);
}

struct ctl_world *world_new(void)
{
    struct ctl_world *w = calloc(1, sizeof *w);
    w->env = (struct mr_env){.ops = &env_ops, .lane_count = 2};
    w->store.ops = &store_ops;
    w->engine.ops = &engine_ops;
    w->now_us = 1800000000000000u;
    w->first_seq = 1;
    w->config = (struct mr_ctl_config){.limits = mr_core_limits_small};
    return w;
}

int world_start(struct ctl_world *w)
{
    struct mr_ctl_listener listener = {.lane = 1, .routes = on_routes, .feed = on_feed, .arg = w};
    struct mr_buf problem;
    w->crashed = false;
    w->config.env = &w->env;
    w->config.store = &w->store;
    w->config.engine = &w->engine;
    w->config.listeners = &listener;
    w->config.listener_count = 1;
    w->config.fatal = on_fatal;
    w->config.fatal_arg = w;
    assert_int_equal(mr_ctl_new(&w->config, &w->ctl), 0);
    mr_buf_init(&problem, 4096);
    int error = mr_ctl_start(w->ctl, &problem);
    snprintf(w->problem, sizeof w->problem, "%.*s", MR_STR_ARG(mr_buf_str(&problem)));
    mr_buf_done(&problem);
    if (error == 0) return 0;
    mr_ctl_free(w->ctl);
    w->ctl = NULL;
    return error;
}

void world_kill(struct ctl_world *w)
{
    /* What was posted to others was sent; what is for ctl is lost with it. */
    for (size_t i = 0; i < w->post_count; i++) {
        if (w->posts[i].lane != 0) w->posts[i].post->fn(w->posts[i].post);
    }
    w->post_count = 0;
    w->append.busy = w->snapshot.busy = false;
    mr_ctl_free(w->ctl);
    w->ctl = NULL;
    assert_null(w->timers); /* ctl leaves none behind */
    for (size_t i = 0; i < WORLD_LEASES; i++)
        w->leases[i].adopted = false;
}

static void stopped(void *arg)
{
    *(bool *)arg = true;
}

void world_stop(struct ctl_world *w)
{
    bool done = false;
    mr_ctl_stop(w->ctl, stopped, &done);
    assert_false(done);
    world_run(w);
    assert_true(done);
    world_kill(w);
}

void world_free(struct ctl_world *w)
{
    if (w->ctl != NULL) world_kill(w);
    for (size_t i = 0; i < WORLD_RECORDS; i++)
        free(w->records[i].p);
    free(w->snapshots[0].p);
    free(w->snapshots[1].p);
    mr_routes_unref(w->routes);
    free(w);
}

/* --- calls ------------------------------------------------------------------------------------ */

static void answered(struct mr_ctl_call *call)
{
    assert_int_equal(*(int *)call->arg, 0); /* once */
    *(int *)call->arg = 1;
}

int world_ask_call(struct ctl_world *w, struct mr_ctl_call *call)
{
    int done = 0;
    call->ctl = w->ctl;
    call->reply_lane = 1;
    call->done = answered;
    call->arg = &done;
    mr_ctl_call(&w->env, call);
    assert_int_equal(done, 0);
    world_run(w);
    for (int i = 0; i < 20 && done == 0 && !w->crashed; i++)
        world_pass(w, 100000); /* a full disk */
    if (w->crashed) world_kill(w);
    if (done == 0) {
        assert_true(w->crashed);
        mr_buf_done(&call->out);
        mr_buf_done(&call->out_text);
        return 1;
    }
    copy(w->out, sizeof w->out, mr_buf_str(&call->out));
    copy(w->problem, sizeof w->problem, call->problem);
    copy(w->param, sizeof w->param, call->problem_param);
    assert_true(call->error == 0 || w->problem[0] != 0); /* a refusal says why */
    mr_buf_done(&call->out);
    mr_buf_done(&call->out_text);
    return call->error;
}

int world_ask(struct ctl_world *w, enum mr_ctl_op op, struct world_who who, uint64_t id,
              const char *body)
{
    struct mr_ctl_call call = {
        .op = op, .tenant = {who.tenant}, .admin = who.admin, .id = id, .body = mr_str_from(body)};
    return world_ask_call(w, &call);
}

int world_ask_key(struct ctl_world *w, struct world_who who, const char *body, const char *key)
{
    struct mr_ctl_call call = {.op = MR_CTL_SUBMIT,
                               .tenant = {who.tenant},
                               .admin = who.admin,
                               .key = mr_str_from(key),
                               .body = mr_str_from(body)};
    return world_ask_call(w, &call);
}

uint64_t world_number(const char *json, const char *name)
{
    char needle[64];
    snprintf(needle, sizeof needle, "\"%s\":", name);
    const char *at = strstr(json, needle);
    return at != NULL ? strtoull(at + strlen(needle), NULL, 10) : 0;
}

void world_home(struct ctl_world *w)
{
    assert_int_equal(world_start(w), 0);
    world_run(w);
    assert_true(mr_ctl_is_new(w->ctl));
    assert_int_equal(world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0, "{\"name\":\"default\"}"), 0);
    assert_int_equal(world_number(w->out, "id"), 1);
    assert_int_equal(
        world_ask(w, MR_CTL_NODE_SET, ADMIN, 0, "{\"id\":1,\"cpu_milli\":8000,\"mem_mib\":16384}"),
        0);
}
