/* SPDX-License-Identifier: Apache-2.0 */
/* One connection is bytes in, bytes out: routes, keys, admission, routing, streaming, metering.
 *
 * One gate per loop lane, sharing nothing. A request lives in one arena that dies with it. Streams
 * are pulled: a source sends only what the consumer can take and is told exactly once when the
 * client is gone. Pure (grade P1). Idea: docs/internals/gate.md.
 */
#ifndef MR_GATE_H
#define MR_GATE_H

#include "ctl/ctl.h"
#include "port/env.h"
#include "port/wire.h"

struct mr_gate;

struct mr_gate_config {
    struct mr_env *env; /* of this gate's lane */
    struct mr_wire *wire;
    struct mr_ctl *ctl;        /* posted to only; may be set later with mr_gate_ctl_set */
    uint32_t waiting_max;      /* chats waiting here; 0: MR_GATE_WAITING_MAX */
    uint64_t idle_timeout_us;  /* keep-alive connections; 0: 75 s */
    uint64_t head_timeout_us;  /* an unfinished request; 0: 30 s */
    uint64_t keep_alive_us;    /* SSE comments while nothing is to be said; 0: 15 s */
    uint64_t queue_timeout_us; /* a chat waiting for a replica; 0: 120 s */
    struct mr_str page;        /* answered at GET /; may be empty */
};
int mr_gate_new(const struct mr_gate_config *config, struct mr_gate **ret_gate);
void mr_gate_ctl_set(struct mr_gate *gate, struct mr_ctl *ctl);
/* The listener to give to ctl. */
struct mr_ctl_listener mr_gate_listener(struct mr_gate *gate);
/* A new connection. The gate sets its handler or closes it (over a limit). */
void mr_gate_accept(struct mr_gate *gate, struct mr_conn *conn);
/* Lets streams finish until the deadline, refuses new requests with 503, then calls done: no
 * connection is left and every END was given to ctl. */
void mr_gate_drain(struct mr_gate *gate, uint64_t deadline_us, void (*done)(void *arg), void *arg);
void mr_gate_free(struct mr_gate *gate); /* after drain, or never accepted */

struct mr_gate_stats {
    uint64_t connections, requests, answers_4xx, answers_5xx;
    uint32_t connections_now, streams_now, waiting_now;
};
void mr_gate_stats(const struct mr_gate *gate, struct mr_gate_stats *ret);

#endif
