/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of clients into a gate, with a world of memory around it.
 *
 * An input that starts with a letter is what one client sends, cut in two at every eighth of its
 * length by turns. Any other is a script: clients send, leave, stall; workers say something, die,
 * come back; time passes; routes change. Whatever happens, the gate drains at the end and nothing
 * is left: world_done checks.
 *
 * Owns:  the world, for one input.
 * Never: a step count that an input can raise without bytes.
 */
#include <stdlib.h>

#include "gate_world.h"

#define CLIENTS 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct script {
    struct world *w;
    struct mr_conn *clients[CLIENTS];
    const uint8_t *p;
    size_t n;
};

static uint8_t next_byte(struct script *s)
{
    if (s->n == 0) return 0;
    s->n--;
    return *s->p++;
}

static const char *const asks[] = {
    "GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " WORLD_USER_KEY "\r\n\r\n",
    "GET /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " WORLD_ADMIN_KEY "\r\n\r\n",
    "GET /api/workloads/7/logs?follow=1 HTTP/1.1\r\nHost: x\r\nAuthorization: "
    "Bearer " WORLD_USER_KEY "\r\n\r\n",
    "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " WORLD_USER_KEY
    "\r\nContent-Length: 73\r\n\r\n"
    "{\"model\":\"tiny\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}",
    "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " WORLD_OTHER_KEY
    "\r\nContent-Length: 59\r\n\r\n"
    "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
    "POST /api/workloads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " WORLD_USER_KEY
    "\r\nContent-Length: 2\r\n\r\n{}",
    "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "DELETE /api/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " WORLD_ADMIN_KEY "\r\n\r\n",
};

static struct mr_conn *client_of(struct script *s, uint8_t which)
{
    struct mr_conn **at = &s->clients[which % CLIENTS];
    if (*at != NULL && (*at)->closed) {
        client_free(*at);
        *at = NULL;
    }
    if (*at == NULL) *at = client_open(s->w);
    return *at;
}

static void worker_act(struct script *s, uint8_t what)
{
    struct worker *worker = &s->w->workers[what % 2];
    uint32_t stream = 1 + next_byte(s) % 8;
    struct worker_stream *live = &worker->streams[stream];
    switch ((what >> 1) % 6) {
    case 0:
        if (worker->conn != NULL && live->used && live->credit > 0) {
            worker_tokens(worker, stream, 1, "word ");
        }
        break;
    case 1:
        if (worker->conn != NULL && live->used && worker->unsettled_count < 64) {
            worker_end(worker, stream, (enum mr_finish)(1 + next_byte(s) % 4), MR_EUNAVAILABLE,
                       "e");
        }
        break;
    case 2:
        worker_die(worker);
        break;
    case 3:
        worker->refuses = false;
        break;
    case 4:
        worker->automatic = next_byte(s) % 2;
        break;
    default: {
        uint8_t n = next_byte(s);
        size_t take = MR_MIN((size_t)n, s->n);
        if (worker->conn != NULL) mr_buf_put(&worker->conn->to_gate, s->p, take);
        s->p += take;
        s->n -= take;
    }
    }
}

static void world_act(struct script *s, uint8_t what)
{
    static const enum mr_ctl_op ops[] = {MR_CTL_METER, MR_CTL_SUBMIT, MR_CTL_FILE, MR_CTL_LOAD};
    struct world *w = s->w;
    switch (what % 6) {
    case 0:
        world_pass(w, (uint64_t)next_byte(s) * 200000);
        break;
    case 1:
        w->models[0].replica_count = next_byte(s) % 3;
        world_publish(w);
        break;
    case 2:
        w->hold[ops[next_byte(s) % 4]] ^= true;
        break;
    case 3:
        if (w->held_count > 0) world_answer(w, next_byte(s) % 2 ? MR_EUNAVAILABLE : 0, "{}");
        break;
    case 4:
        w->user_revoked = next_byte(s) % 2;
        world_publish_models(w, next_byte(s) % 2);
        break;
    default:
        world_feed(w, 1, 1 + next_byte(s) % 3, "workload", "{}");
    }
}

static void client_act(struct script *s, uint8_t what)
{
    struct mr_conn *c = client_of(s, what);
    switch ((what >> 2) % 6) {
    case 0:
    case 1:
        client_send(c, asks[next_byte(s) % MR_COUNT_OF(asks)]);
        break;
    case 2:
        client_leave(c);
        break;
    case 3:
        client_half_close(c);
        break;
    case 4:
        client_stall(c, next_byte(s) % 2);
        break;
    default: {
        uint8_t n = next_byte(s);
        size_t take = MR_MIN((size_t)n, s->n);
        client_send_bytes(c, s->p, take);
        s->p += take;
        s->n -= take;
    }
    }
}

static void script_run(struct script *s)
{
    for (uint32_t steps = 0; s->n > 0 && steps < 400; steps++) {
        uint8_t op = next_byte(s);
        if (op < 128) {
            client_act(s, op);
        } else if (op < 208) {
            worker_act(s, op);
        } else {
            world_act(s, op);
        }
        if (op & 1) world_run(s->w);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world *w = malloc(sizeof *w);
    if (w == NULL || size > 65536) {
        free(w);
        return 0;
    }
    world_init(w, 2);
    w->out[MR_CTL_QUEUE] = "{\"workloads\":[{\"ended\":null}]}";
    w->file = "some log";
    if (size > 0 && data[0] >= 'A' && data[0] <= 'Z') {
        struct mr_conn *c = client_open(w);
        size_t cut = size * (size % 8) / 8;
        client_send_bytes(c, data, cut);
        world_run(w);
        client_send_bytes(c, data + cut, size - cut);
        world_pass(w, 200000000);
    } else {
        struct script s = {.w = w, .p = data, .n = size};
        script_run(&s);
    }
    world_done(w);
    free(w);
    return 0;
}
