/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated callers: they submit, cancel, chat, look, hang up, and try again when an answer is
 * lost.
 *
 * They speak HTTP to the gates, byte by byte, and check each answer: a chat's text must be exactly
 * the words of its prompt, whatever died on the way.
 *
 * Owns:       one connection and one request each.
 * Invariants: (1) a repeated submission carries the same key; (2) one key, one workload.
 */
#include "sim/sim_int.h"

#include <stdio.h>
#include <stdlib.h>

#define ANSWER_BYTES ((size_t)4 * 1024 * 1024)

static void think(struct sim_client *client);

/* --- what was asked for ----------------------------------------------------------------------- */

struct sim_job *sim_job_of(struct sim *sim, uint64_t workload)
{
    for (size_t i = 0; i < sim->job_count; i++) {
        if (sim->jobs[i].workload == workload && workload != 0) return &sim->jobs[i];
    }
    return NULL;
}

static struct sim_job *job_by_key(struct sim *sim, uint64_t key)
{
    for (size_t i = 0; i < sim->job_count; i++) {
        if (sim->jobs[i].key == key) return &sim->jobs[i];
    }
    return NULL;
}

static struct sim_job *job_new(struct sim *sim)
{
    if (sim->job_count == sim->job_capacity) {
        sim->job_capacity = sim->job_capacity > 0 ? 2 * sim->job_capacity : 64;
        sim->jobs = mr_realloc(sim->jobs, sim->job_capacity * sizeof *sim->jobs);
        MR_ASSERT(sim->jobs != NULL);
    }
    struct sim_job *job = &sim->jobs[sim->job_count++];
    *job = (struct sim_job){.key = sim->job_count};
    return job;
}

/* --- requests --------------------------------------------------------------------------------- */

static void put_request(struct sim_client *client, const char *method, const char *path,
                        const char *extra, const char *body)
{
    mr_buf_reset(&client->request);
    mr_buf_printf(&client->request,
                  "%s %s HTTP/1.1\r\nHost: sim\r\nAuthorization: Bearer %s\r\n%s"
                  "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                  method, path, client->sim->key, extra, strlen(body), body);
}

/* What it asks for is tried again under its key until there is an answer. */
static bool is_kept(const struct sim_client *client)
{
    return client->want == SIM_WANT_SUBMIT || client->want == SIM_WANT_RESERVE;
}

/* The newest reservation that was acknowledged; 0: none. */
static uint64_t reservation_of(const struct sim *sim)
{
    for (size_t i = sim->job_count; i-- > 0;) {
        const struct sim_job *job = &sim->jobs[i];
        if (job->is_reservation && job->workload != 0 && !job->cancelled) return job->workload;
    }
    return 0;
}

static void put_service(struct sim *sim, struct sim_job *job, char *body, size_t size)
{
    job->is_service = true;
    (void)snprintf(body, size,
                   "{\"kind\":\"service\",\"name\":\"m%llu\",\"replicas\":{\"min\":1,\"max\":3},"
                   "\"load_per_replica\":2,\"resources\":{\"cpus\":0.2,\"memory\":\"128MiB\"},%s"
                   "\"infer\":{\"model\":\"/m.gguf\",\"served_name\":\"m%llu\"}}",
                   (unsigned long long)job->key,
                   sim_draw(sim, 0, 1) == 0 ? "\"spread\":\"node\"," : "",
                   (unsigned long long)job->key);
}

/* What its tasks need, and how many there are. */
struct wish {
    uint32_t low, high, spares, cpus, mem, accel;
    uint64_t plan_us;
};

/* Two groups, whose work is kept apart by nodes, or by places where there are some. */
static void put_apart(struct sim *sim, char *more, size_t size)
{
    static const char *const levels[] = {"node", "domain", "block"};
    size_t n = strlen(more);
    if (sim_draw(sim, 0, 5) != 0) return;
    n += (size_t)snprintf(more + n, size - n, "\"apart\":\"g%u\",", (uint32_t)sim_draw(sim, 1, 2));
    if (sim->c.domain_nodes != 0)
        (void)snprintf(more + n, size - n, "\"apart_by\":\"%s\",", levels[sim_draw(sim, 0, 2)]);
}

/* For whom it runs, how long about, and where it may lie. */
static void put_more(struct sim *sim, struct sim_job *job, struct wish *w, char *more, size_t size)
{
    uint64_t reservation = sim_draw(sim, 0, 2) == 0 ? reservation_of(sim) : 0;
    size_t n = 0;
    if (sim->c.tenants > 0 && reservation == 0)
        n += (size_t)snprintf(more, size, "\"tenant\":\"t%u\",",
                              (uint32_t)sim_draw(sim, 1, sim->c.tenants));
    if (reservation != 0)
        n += (size_t)snprintf(more + n, size - n, "\"reservation\":%llu,",
                              (unsigned long long)reservation);
    if (sim_draw(sim, 0, 1) == 0)
        n += (size_t)snprintf(more + n, size - n, "\"estimate\":\"%us\",",
                              (uint32_t)(1 + 2 * w->plan_us / SIM_SECOND_US));
    bool may_spread = w->spares == 0 && reservation == 0;
    if (sim->c.domain_nodes != 0) {
        sim_layout_draw(sim, job, may_spread, &w->low, &w->high);
        n += sim_layout_put(job, more + n, size - n);
    } else if (may_spread && sim_draw(sim, 0, 3) == 0) {
        (void)snprintf(more + n, size - n, "\"spread\":\"node\",");
        put_apart(sim, more, size);
        return;
    }
    if (w->accel != 2 && sim_draw(sim, 0, 7) == 0)
        (void)snprintf(more + n, size - n, "\"exclusive\":\"node\",");
    put_apart(sim, more, size);
}

static void put_job(struct sim *sim, struct sim_job *job, struct wish *w, char *body, size_t size)
{
    static const char *const accels[] = {"", ",\"accelerators\":\"SIM:1\"",
                                         ",\"accelerators\":\"SIM:0.5\""};
    char more[300] = "";
    bool fails = sim_draw(sim, 0, 5) == 0;
    job->code = fails ? 7 : 0;
    job->elastic = sim_draw(sim, 0, 2) == 0;
    w->spares = sim_draw(sim, 0, 5) == 0 ? (uint32_t)sim_draw(sim, 1, 2) : 0;
    if (!job->elastic) w->high = w->low;
    w->plan_us = sim_draw(sim, 1000, 20 * SIM_SECOND_US);
    put_more(sim, job, w, more, sizeof more);
    uint32_t restarts = (uint32_t)sim_draw(sim, 0, 2), grace = (uint32_t)sim_draw(sim, 0, 5);
    bool preemptible = sim_draw(sim, 0, 1) == 0;
    uint32_t priority = (uint32_t)sim_draw(sim, 2, 6);
    sim_say(sim, "job %llu asks for %u..%u tasks and %u spares, %u milli-vCPU, %u MiB%s: %s",
            (unsigned long long)job->key, w->low, w->high, w->spares, w->cpus, w->mem,
            accels[w->accel], more);
    (void)snprintf(body, size,
                   "{\"name\":\"j%llu\",%s\"num_tasks\":{\"min\":%u,\"max\":%u},\"priority\":%u,"
                   "\"preemptible\":%s,\"grace\":%u,\"restarts\":%u,\"spares\":%u,%s"
                   "\"resources\":{\"cpus\":%u.%u,\"memory\":\"%uMiB\"%s},"
                   "\"command\":[\"job\",\"%llu\",\"%d\",\"%d\",\"%d\"]}",
                   (unsigned long long)job->key, more, w->low, w->high, priority,
                   preemptible ? "true" : "false", grace, restarts, w->spares,
                   job->elastic ? "\"checkpoint\":\"1s\"," : "", w->cpus / 1000,
                   w->cpus % 1000 / 100, w->mem, accels[w->accel], (unsigned long long)w->plan_us,
                   job->code, job->elastic ? 1 : 0, w->accel == 2 ? 1 : 0);
}

static void ask_submit(struct sim_client *client)
{
    struct sim *sim = client->sim;
    char body[900], extra[64];
    struct sim_job *job = job_new(sim);
    struct wish w = {.low = (uint32_t)sim_draw(sim, 1, 3)};
    w.high = w.low + (uint32_t)sim_draw(sim, 0, 3);
    w.cpus = (uint32_t)sim_draw(sim, 1, 20) * 100;
    w.mem = (uint32_t)sim_draw(sim, 1, 8) * 128;
    w.accel = sim_draw(sim, 0, 3) == 0 ? (uint32_t)sim_draw(sim, 1, 2) : 0;
    client->key = job->key;
    if (job->key <= SIM_MODELS)
        put_service(sim, job, body, sizeof body);
    else
        put_job(sim, job, &w, body, sizeof body);
    (void)snprintf(extra, sizeof extra, "Idempotency-Key: job-%llu\r\n",
                   (unsigned long long)job->key);
    put_request(client, "POST", "/api/workloads", extra, body);
}

static void ask_reserve(struct sim_client *client)
{
    struct sim *sim = client->sim;
    char body[300], extra[64], what[160];
    struct sim_job *job = job_new(sim);
    job->is_reservation = true;
    client->key = job->key;
    if (sim_draw(sim, 0, 3) == 0) {
        (void)snprintf(what, sizeof what, "\"maintenance\":{\"node\":%u}",
                       (uint32_t)sim_draw(sim, 1, sim->c.nodes));
    } else {
        uint32_t cpus = (uint32_t)sim_draw(sim, 1, 4), tasks = (uint32_t)sim_draw(sim, 1, 3);
        (void)snprintf(what, sizeof what,
                       "\"num_tasks\":%u,\"resources\":{\"cpus\":%u,\"memory\":\"256MiB\"}", tasks,
                       cpus);
    }
    uint32_t length_s = (uint32_t)sim_draw(sim, 1, 30), begin_s = (uint32_t)sim_draw(sim, 0, 20);
    (void)snprintf(body, sizeof body,
                   "{\"name\":\"r%llu\",%s,\"begin\":\"%us\",\"duration\":\"%us\"}",
                   (unsigned long long)job->key, what, begin_s, length_s);
    (void)snprintf(extra, sizeof extra, "Idempotency-Key: job-%llu\r\n",
                   (unsigned long long)job->key);
    put_request(client, "POST", "/api/reservations", extra, body);
}

/* Another quota, or none; who may borrow, and what is taken back. */
static void ask_tenant(struct sim_client *client)
{
    static const char *const reclaims[] = {"never", "lower", "any"};
    struct sim *sim = client->sim;
    char body[300], cpus[16] = "null";
    uint32_t tenant = (uint32_t)sim_draw(sim, 1, sim->c.tenants);
    if (sim_draw(sim, 0, 3) != 0)
        (void)snprintf(cpus, sizeof cpus, "%u", (uint32_t)sim_draw(sim, 1, 16));
    uint32_t half_life = (uint32_t)sim_draw(sim, 0, 60), reclaim = (uint32_t)sim_draw(sim, 0, 2);
    uint32_t keep = (uint32_t)sim_draw(sim, 0, 2), borrow = (uint32_t)sim_draw(sim, 0, 8);
    uint32_t weight = (uint32_t)sim_draw(sim, 1, 4);
    (void)snprintf(
        body, sizeof body,
        "{\"name\":\"t%u\",\"weight\":%u,\"quota\":{\"cpus\":%s},\"borrow\":{\"cpus\":%u},"
        "\"keep\":{\"cpus\":%u},\"reclaim\":\"%s\",\"half_life\":%u}",
        tenant, weight, cpus, borrow, keep, reclaims[reclaim], half_life);
    put_request(client, "POST", "/api/tenants", "", body);
}

static void ask_chat(struct sim_client *client)
{
    struct sim *sim = client->sim;
    char body[300];
    client->prompt = (uint32_t)sim_draw(sim, 1, 1000000);
    client->tokens = (uint32_t)sim_draw(sim, 1, 40);
    (void)snprintf(body, sizeof body,
                   "{\"model\":\"m%llu\",\"messages\":[{\"role\":\"user\",\"content\":\"p%u\"}],"
                   "\"max_tokens\":%u%s}",
                   (unsigned long long)sim_draw(sim, 1, SIM_MODELS), client->prompt, client->tokens,
                   client->want == SIM_WANT_STREAM
                       ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"
                       : "");
    put_request(client, "POST", "/v1/chat/completions", "", body);
}

static void ask_cancel(struct sim_client *client)
{
    struct sim *sim = client->sim;
    char path[64];
    struct sim_job *job =
        sim->job_count > 0 ? &sim->jobs[sim_draw(sim, 0, sim->job_count - 1)] : NULL;
    if (job == NULL || job->workload == 0 || job->is_service) {
        client->want = SIM_WANT_LOOK;
        put_request(client, "GET", "/api/fleet", "", "");
        return;
    }
    job->cancelled = true; /* from here on either end is right */
    client->workload = job->workload;
    (void)snprintf(path, sizeof path, "/api/workloads/%llu", (unsigned long long)job->workload);
    put_request(client, "DELETE", path, "", "");
}

static void choose(struct sim_client *client)
{
    struct sim *sim = client->sim;
    static const char *const looks[] = {"/api/workloads?limit=20",
                                        "/api/usage",
                                        "/api/fleet",
                                        "/api/status",
                                        "/v1/models",
                                        "/metrics"};
    uint64_t draw = sim_draw(sim, 0, 99);
    client->hang_up_at = 0;
    client->tries = 0;
    bool may_submit = sim->job_count < sim->c.jobs_max;
    uint64_t other = sim_draw(sim, 0, 999);
    if (sim_supply_asks(sim)) {
        char path[64], body[300];
        client->want = SIM_WANT_TENANT;
        sim_supply_ask(sim, path, body);
        put_request(client, "POST", path, "", body);
    } else if (other < sim->c.reserve_permille && may_submit && sim->job_count >= SIM_MODELS) {
        client->want = SIM_WANT_RESERVE;
        ask_reserve(client);
    } else if (other >= 1000 - sim->c.quota_permille) {
        client->want = SIM_WANT_TENANT;
        ask_tenant(client);
    } else if ((draw < 40 || sim->job_count < SIM_MODELS) && may_submit) {
        client->want = SIM_WANT_SUBMIT;
        ask_submit(client);
    } else if (draw < 65) {
        client->want = draw < 52 ? SIM_WANT_CHAT : SIM_WANT_STREAM;
        ask_chat(client);
    } else if (draw < 72) {
        client->want = SIM_WANT_CANCEL;
        ask_cancel(client);
    } else {
        client->want = SIM_WANT_LOOK;
        put_request(client, "GET", looks[sim_draw(sim, 0, MR_COUNT_OF(looks) - 1)], "", "");
    }
    if (!is_kept(client) && !sim->quiet && sim_draw(sim, 0, 999) < sim->c.hang_up_permille) {
        client->hang_up_at = (uint32_t)sim_draw(sim, 1, 600);
    }
}

/* --- answers ---------------------------------------------------------------------------------- */

/* The body's bytes so far, de-chunked into `ret`; true when it is whole. */
static bool body_of(const struct mr_buf *answer, int *ret_status, struct mr_buf *ret)
{
    const char *text = (const char *)answer->p;
    if (text == NULL) return false;
    const char *end = answer->n > 12 ? memmem(text, answer->n, "\r\n\r\n", 4) : NULL;
    if (end == NULL) return false;
    uint64_t status = 0;
    (void)mr_str_to_u64((struct mr_str){text + 9, 3}, &status); /* 0 is no status */
    *ret_status = (int)status;
    struct mr_str head = {text, (size_t)(end - text)}, rest = {end + 4, answer->n - head.n - 4};
    const char *length = memmem(head.p, head.n, "ontent-Length: ", 15);
    if (length == NULL) length = memmem(head.p, head.n, "ontent-length: ", 15);
    if (length != NULL) {
        char *stop;
        unsigned long long wanted = strtoull(length + 15, &stop, 10);
        mr_buf_put(ret, rest.p, MR_MIN(rest.n, (size_t)wanted));
        return rest.n >= wanted;
    }
    while (rest.p != NULL && rest.n > 0) {
        const char *line = memmem(rest.p, rest.n, "\r\n", 2);
        if (line == NULL) return false;
        size_t size = (size_t)strtoull(rest.p, NULL, 16), used = (size_t)(line - rest.p) + 2;
        if (size == 0) return rest.n >= used + 2;
        if (rest.n < used + size + 2) return false;
        mr_buf_put(ret, rest.p + used, size);
        rest.p += used + size + 2;
        rest.n -= used + size + 2;
    }
    return false;
}

static uint64_t number_after(const struct mr_buf *body, const char *field)
{
    const char *at = body->n > 0 ? memmem(body->p, body->n, field, strlen(field)) : NULL;
    if (at == NULL) return 0;
    at += strlen(field);
    uint64_t value = 0;
    for (; at < (const char *)body->p + body->n && *at >= '0' && *at <= '9'; at++) {
        value = value * 10 + (uint64_t)(*at - '0');
    }
    return value;
}

static void took_submit(struct sim_client *client, int status, const struct mr_buf *body)
{
    struct sim *sim = client->sim;
    struct sim_job *job = job_by_key(sim, client->key);
    if (status != 200) {
        const char *room = body->n > 0 ? memmem(body->p, body->n, "such room", 9) : NULL;
        if (room != NULL) status = 409; /* there is no such room: nobody waits for that */
        /* Refused for good (an impossible shape): it was never taken. */
        if (status < 500 && status != 429) job->cancelled = true;
        client->again = status >= 500 || status == 429;
        return;
    }
    uint64_t id = number_after(body, "\"id\":");
    if (id == 0) {
        sim_verdict(sim, MR_SIM_WRONG, "an accepted submission has no id");
    } else if (job->workload != 0 && job->workload != id) {
        sim_verdict(sim, MR_SIM_WRONG, "one idempotency key, two workloads: %llu and %llu",
                    (unsigned long long)job->workload, (unsigned long long)id);
    } else if (job->workload == 0 && sim_job_of(sim, id) != NULL) {
        sim_verdict(sim, MR_SIM_WRONG, "two keys, one workload: %llu", (unsigned long long)id);
    }
    job->workload = id;
    sim_say(sim, "caller %u: job %llu is workload %llu", client->index,
            (unsigned long long)job->key, (unsigned long long)id);
}

/* Joins the contents of an answer or of all chunks; words need no escapes. */
static void contents_of(const struct mr_buf *body, struct mr_buf *ret)
{
    static const char field[] = "\"content\":\"";
    const char *at = (const char *)body->p, *end = at + body->n;
    while (at < end && (at = memmem(at, (size_t)(end - at), field, sizeof field - 1)) != NULL) {
        at += sizeof field - 1;
        const char *quote = memchr(at, '"', (size_t)(end - at));
        if (quote == NULL) return;
        mr_buf_put(ret, at, (size_t)(quote - at));
        at = quote;
    }
}

static uint32_t count_of(const struct mr_buf *body, const char *part)
{
    const char *at = (const char *)body->p, *end = at + body->n;
    uint32_t count = 0;
    while (at < end && (at = memmem(at, (size_t)(end - at), part, strlen(part))) != NULL) {
        at += strlen(part);
        count++;
    }
    return count;
}

static void took_chat(struct sim_client *client, int status, const struct mr_buf *body)
{
    struct sim *sim = client->sim;
    struct mr_buf got, wanted;
    char word[16];
    if (status != 200) return; /* no such model yet, or too busy: fine */
    if (memmem(body->p, body->n, "\"error\"", 7) != NULL) return; /* broken off, and said so */
    mr_buf_init(&got, ANSWER_BYTES);
    mr_buf_init(&wanted, ANSWER_BYTES);
    contents_of(body, &got);
    for (uint32_t i = 0; i < client->tokens; i++) {
        uint32_t n = sim_word(word, client->prompt, i);
        mr_buf_put(&wanted, word, n);
    }
    if (!mr_str_equal(mr_buf_str(&got), mr_buf_str(&wanted))) {
        sim_verdict(sim, MR_SIM_WRONG, "a chat lost or repeated tokens: '%.*s' is not '%.*s'",
                    (int)MR_MIN(got.n, 100u), (char *)got.p, (int)MR_MIN(wanted.n, 100u),
                    (char *)wanted.p);
    } else if (number_after(body, "\"completion_tokens\":") != client->tokens) {
        sim_verdict(sim, MR_SIM_WRONG, "a chat of %u tokens says %llu", client->tokens,
                    (unsigned long long)number_after(body, "\"completion_tokens\":"));
    }
    /* A client that sees two ends counts the chat twice. */
    uint32_t ends = count_of(body, "\"finish_reason\":\""), dones = count_of(body, "[DONE]");
    if (ends != 1 || dones != (client->want == SIM_WANT_STREAM)) {
        sim_verdict(sim, MR_SIM_WRONG, "a chat ended %u times, with %u [DONE]", ends, dones);
    }
    sim->report->chats++;
    mr_buf_done(&got);
    mr_buf_done(&wanted);
}

static void took_answer(struct sim_client *client, int status, const struct mr_buf *body)
{
    client->again = false;
    if (status == 401) sim_verdict(client->sim, MR_SIM_WRONG, "an administrator's key was refused");
    switch (client->want) {
    case SIM_WANT_SUBMIT:
    case SIM_WANT_RESERVE:
        took_submit(client, status, body);
        break;
    case SIM_WANT_CHAT:
    case SIM_WANT_STREAM:
        took_chat(client, status, body);
        break;
    default:
        if (status >= 500 && status != 503 && status != 507 && status != 504) {
            sim_verdict(client->sim, MR_SIM_WRONG, "a harmless call got status %d: %.*s", status,
                        (int)MR_MIN(body->n, 160u), (char *)body->p);
        }
    }
}

/* --- the connection --------------------------------------------------------------------------- */

static void on_data(void *arg, const uint8_t *bytes, size_t n)
{
    struct sim_client *client = arg;
    struct mr_buf body;
    int status = 0;
    if (client->conn == NULL || !client->busy) return;
    mr_buf_put(&client->answer, bytes, n);
    if (client->hang_up_at > 0 && client->answer.n >= client->hang_up_at) {
        client->sim->report->faults.clients_gone++;
        client->busy = false;
        sim_conn_close(client->conn, sim_draw(client->sim, 0, 1) == 0);
        return;
    }
    mr_buf_init(&body, ANSWER_BYTES);
    if (body_of(&client->answer, &status, &body) && status >= 200) {
        client->busy = false;
        took_answer(client, status, &body);
        sim_conn_close(client->conn, false);
    }
    mr_buf_done(&body);
}

static void on_end(void *arg)
{
    struct sim_client *client = arg;
    if (client->conn != NULL) sim_conn_close(client->conn, false);
}

static void on_close(void *arg, int error)
{
    struct sim_client *client = arg;
    (void)error;
    client->conn = NULL;
    /* No whole answer: a submission is tried again under its key, the rest is forgotten. */
    if (client->busy && is_kept(client)) client->again = true;
    client->busy = false;
    think(client);
}

static const struct mr_conn_handler handler = {
    .on_data = on_data, .on_end = on_end, .on_close = on_close};

struct sim_accept {
    struct sim *sim;
    uint32_t gate;
    struct mr_conn *conn;
};

static void accept_drop(void *arg)
{
    mr_free(arg);
}

static void accept_run(void *arg)
{
    struct sim_accept accept = *(struct sim_accept *)arg;
    mr_free(arg);
    if (!accept.conn->closed) mr_gate_accept(accept.sim->gates[accept.gate], accept.conn);
}

static void act(void *arg)
{
    struct sim_client *client = arg;
    struct sim *sim = client->sim;
    if (sim->failed) return;
    if (!sim->up || !sim->set_up) {
        think(client);
        return;
    }
    if (!client->again) {
        if (sim->quiet) return; /* no new wishes */
        choose(client);
    }
    if (++client->tries > 2000) {
        sim_verdict(sim, MR_SIM_STUCK, "caller %u tried 2000 times", client->index);
        return;
    }
    struct mr_conn *world_end, *conn = sim_conn_pair(sim, &world_end);
    struct sim_accept *accept = mr_alloc_zero(sizeof *accept);
    MR_ASSERT(accept != NULL);
    *accept = (struct sim_accept){
        .sim = sim, .gate = (uint32_t)sim_draw(sim, 0, sim->c.gates - 1), .conn = conn};
    client->conn = world_end;
    client->busy = true;
    mr_buf_reset(&client->answer);
    sim_conn_handle(world_end, &handler, client);
    sim_in_daemon(sim, 0, accept_run, accept, accept_drop);
    (void)sim_conn_send(world_end, client->request.p, client->request.n);
}

static void think(struct sim_client *client)
{
    struct sim *sim = client->sim;
    sim_in_world(sim, sim_draw(sim, 100, client->again || !sim->up ? 200000 : 400000), act, client);
}

void sim_clients_start(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->c.clients; i++) {
        struct sim_client *client = &sim->clients[i];
        *client = (struct sim_client){.sim = sim, .index = i};
        mr_buf_init(&client->request, 65536);
        mr_buf_init(&client->answer, ANSWER_BYTES);
        think(client);
    }
}
