/* SPDX-License-Identifier: Apache-2.0 */
/* A gate's life: made, fed with routes, drained, freed.
 *
 * Owns:       everything of one lane between clients and replicas.
 * Invariants: (1) stats.connections_now is the length of the list of connections;
 *             (2) after drain's done no connection, no call and no wire of this gate is left.
 * Never:      I/O, clock but through env, other lanes but through ctl's calls.
 * Cost:       O(1) for each event, O(replicas) for each chat.
 * Idea:       docs/internals/gate.md   Tests: tests/unit/gate
 */
#include "gate_int.h"

#define SCRATCH_BYTES_MAX (64u * 1024u * 1024u)

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
    return value != 0 ? value : otherwise;
}

int mr_gate_new(const struct mr_gate_config *config, struct mr_gate **ret_gate)
{
    MR_ASSERT(config->env != NULL && config->wire != NULL);
    struct mr_gate *gate = mr_alloc_zero(sizeof *gate);
    if (gate == NULL) return MR_ENO_MEMORY;
    char *page = mr_alloc(config->page.n + 1);
    if (page == NULL) {
        mr_free(gate);
        return MR_ENO_MEMORY;
    }
    if (config->page.n > 0) memcpy(page, config->page.p, config->page.n);
    gate->page = (struct mr_str){page, config->page.n};
    gate->env = config->env;
    gate->wire = config->wire;
    gate->ctl = config->ctl;
    gate->waiting_max = (uint32_t)or_default(config->waiting_max, MR_GATE_WAITING_MAX);
    gate->dues[GATE_DUE_IDLE].delay_us = or_default(config->idle_timeout_us, 75000000);
    gate->dues[GATE_DUE_HEAD].delay_us = or_default(config->head_timeout_us, 30000000);
    gate->dues[GATE_DUE_QUIET].delay_us = or_default(config->keep_alive_us, 15000000);
    gate->dues[GATE_DUE_WAITING].delay_us = or_default(config->queue_timeout_us, 120000000);
    mr_buf_init(&gate->out, SCRATCH_BYTES_MAX);
    mr_buf_init(&gate->body, SCRATCH_BYTES_MAX);
    mr_buf_init(&gate->frame, MR_WIRE_FRAME_BYTES_MAX + MR_WIRE_HEADER_BYTES);
    mr_arena_init(&gate->scratch, SCRATCH_BYTES_MAX);
    uint8_t seed[16];
    uint64_t words[2];
    gate->env->ops->random(gate->env, seed);
    memcpy(words, seed, sizeof words);
    mr_prng_init(&gate->prng, words[0] ^ mr_hash_mix(words[1]));
    gate_now(gate);
    *ret_gate = gate;
    return 0;
}

void mr_gate_ctl_set(struct mr_gate *gate, struct mr_ctl *ctl)
{
    gate->ctl = ctl;
}

void gate_now(struct mr_gate *gate)
{
#ifdef MR_CHECKS
    gate_check(gate); /* the event before this one is over */
#endif
    gate->now_us = gate->env->ops->now_us(gate->env);
}

void mr_gate_stats(const struct mr_gate *gate, struct mr_gate_stats *ret)
{
    *ret = gate->stats;
}

/* --- ctl's ear ------------------------------------------------------------------------------- */

static void listener_routes(void *arg, const struct mr_routes *take_routes)
{
    struct mr_gate *gate = arg;
    gate_now(gate);
    gate_services_route(gate, take_routes);
    gate_drain_check(gate);
}

static void listener_feed(void *arg, const struct mr_feed_item *take_item)
{
    struct mr_gate *gate = arg;
    gate_now(gate);
    gate_feed_item(gate, take_item);
}

struct mr_ctl_listener mr_gate_listener(struct mr_gate *gate)
{
    return (struct mr_ctl_listener){gate->env->lane, listener_routes, listener_feed, gate};
}

/* --- the end --------------------------------------------------------------------------------- */

static void drain_done(struct mr_post *post)
{
    struct mr_gate *gate =
        (struct mr_gate *)(void *)((char *)post - offsetof(struct mr_gate, drain_post));
    gate->drain_done(gate->drain_arg);
}

static uint32_t streams_live(const struct mr_gate *gate)
{
    uint32_t live = 0;
    for (struct gate_service *s = gate->services; s != NULL; s = s->next) {
        for (struct gate_peer *p = s->peers; p != NULL; p = p->next)
            live += p->live + p->metering;
    }
    return live;
}

void gate_drain_check(struct mr_gate *gate)
{
    if (!gate->draining || gate->drain_posted || gate->conns != NULL) return;
    /* Cancelled streams still have an END to come, which is to be billed: wires stay until then. */
    if (!gate->drain_late && streams_live(gate) > 0) return;
    gate_peers_close(gate);
    if (gate->peers_open > 0 || gate->calls_busy > 0) return;
    gate->drain_posted = true;
    gate->env->ops->timer_stop(gate->env, gate->drain_timer);
    gate->drain_timer = NULL;
    gate->drain_post.fn = drain_done;
    gate->env->ops->post(gate->env, gate->env->lane, &gate->drain_post);
}

/* Workers that did not answer a CANCEL in time keep their ENDs for the next daemon. */
static void drain_last(void *arg)
{
    struct mr_gate *gate = arg;
    gate->drain_timer = NULL;
    gate->drain_late = true;
    gate_now(gate);
    gate_drain_check(gate);
}

static void drain_deadline(void *arg)
{
    struct mr_gate *gate = arg;
    gate->drain_timer = NULL;
    gate_now(gate);
    for (struct gate_conn *conn = gate->conns; conn != NULL; conn = conn->next) {
        gate_conn_close(conn, true);
    }
    if (gate->env->ops->timer_start(gate->env, gate->now_us + GATE_DRAIN_GRACE_US, drain_last, gate,
                                    &gate->drain_timer) != 0) {
        drain_last(gate);
        return;
    }
    gate_drain_check(gate);
}

void mr_gate_drain(struct mr_gate *gate, uint64_t deadline_us, void (*done)(void *arg), void *arg)
{
    MR_ASSERT(!gate->draining);
    gate->draining = true;
    gate->drain_done = done;
    gate->drain_arg = arg;
    gate_now(gate);
    for (struct gate_conn *conn = gate->conns; conn != NULL; conn = conn->next) {
        if (conn->request == NULL) gate_conn_close(conn, false);
    }
    /* Streams that have no end of their own. */
    while (gate->subscribers != NULL)
        gate_stream_end(gate->subscribers);
    if (gate->env->ops->timer_start(gate->env, deadline_us, drain_deadline, gate,
                                    &gate->drain_timer) != 0) {
        gate->drain_timer = NULL;
        drain_deadline(gate);
        return;
    }
    gate_drain_check(gate);
}

void mr_gate_free(struct mr_gate *gate)
{
    if (gate == NULL) return;
    MR_ASSERT(gate->conns == NULL);
    gate_services_free(gate);
    gate_meters_free(gate);
    while (gate->free_requests != NULL) {
        struct gate_request *request = gate->free_requests;
        gate->free_requests = request->next_free;
        mr_arena_done(&request->arena);
        mr_buf_done(&request->text);
        mr_free(request);
    }
    gate->env->ops->timer_stop(gate->env, gate->timer);
    gate->env->ops->timer_stop(gate->env, gate->watch_timer);
    gate->env->ops->timer_stop(gate->env, gate->drain_timer);
    mr_buf_done(&gate->out);
    mr_buf_done(&gate->body);
    mr_buf_done(&gate->frame);
    mr_arena_done(&gate->scratch);
    mr_free((void *)(uintptr_t)gate->page.p);
    mr_free(gate);
}
