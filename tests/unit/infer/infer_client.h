/* SPDX-License-Identifier: Apache-2.0 */
/* Private to tests/unit/infer: starts a real millrace-infer and speaks the worker wire to it.
 *
 * Every helper fails the running case when something is not as it must be.
 */
#ifndef INFER_CLIENT_H
#define INFER_CLIENT_H

#include <sys/types.h>

#include "base/base.h"
#include "proto/proto.h"

struct worker {
    char dir[256]; /* RUN_DIR, made and removed by us */
    char socket[300];
    pid_t pid; /* 0: not running */
    const char *program, *model;
};
/* `fields`: more of spec.json, for example ",\"slots\":4". Returns when RUN_DIR/ready is there. */
void worker_start(struct worker *worker, const char *fields);
/* Starts with a whole spec that cannot be served; the exit code, and what it said on stderr. */
int worker_fails(struct worker *worker, const char *spec, char *ret_said, size_t size);
void worker_kill(struct worker *worker, int signal);
int worker_wait(struct worker *worker); /* the exit code, or -signal */
void worker_end(struct worker *worker); /* kills, removes the folder */
/* Reads the meter file; the records in use. */
size_t worker_meter(const struct worker *worker, struct mr_meter_record ret[MR_WIRE_UNSETTLED_MAX]);

struct client {
    int fd;
    struct mr_buf in;
    struct mr_arena arena;
    size_t used; /* of `in`, by the frame last given out */
    struct mr_wire_hello hello;
};
void client_open(struct client *client, const struct worker *worker); /* takes HELLO */
void client_close(struct client *client);
void client_send(struct client *client, const struct mr_wire_frame *frame);
void client_send_bytes(struct client *client, const void *bytes, size_t n);
/* The next frame that is not STATS; valid until the next call. false: closed, or nothing came
 * within the time. */
bool client_next(struct client *client, int timeout_ms, struct mr_wire_frame *ret);

struct ask { /* what to submit; zero is fine */
    const char *text, *system, *resume;
    uint32_t tenant, max_tokens, credit; /* credit 0: plenty */
    uint8_t priority;
    float temperature, presence, frequency;
    uint64_t seed;
    const char *stop;
};
void client_submit(struct client *client, uint32_t stream, const struct ask *ask);
void client_credit(struct client *client, uint32_t stream, uint32_t n);
void client_cancel(struct client *client, uint32_t stream);
void client_settle(struct client *client, uint64_t serial);

struct answer {
    char text[65536];
    size_t n;
    uint32_t tokens, frames; /* sent in TOKENS */
    bool ended;
    struct mr_wire_end end; /* its text is cut off: see error_text */
    char error_text[512];
};
/* Takes frames until the END of every stream 1..count came; answers[stream - 1]. */
void client_collect(struct client *client, struct answer *answers, uint32_t count);
/* Submits one, collects it, settles it. The answer is static: valid until the next call. */
struct answer *client_ask(struct client *client, const struct ask *ask);

/* A text of `words` words that differ by `seed`. Static: valid until the next call with the same
 * `seed % 4`. */
const char *words_of(uint32_t words, uint32_t seed);

#endif
