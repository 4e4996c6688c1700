/* SPDX-License-Identifier: Apache-2.0 */
/* ENDs on their way to the ledger, and back to the worker as SETTLED.
 *
 * Owns:       a record for each END from its arrival until ctl answered.
 * Invariants: (1) SETTLED is sent only after ctl said that the METER is durable, or known already;
 *             (2) an END that ctl could not take is tried again for as long as its worker lives
 *                 here: the worker keeps it, and its file outlives both of us.
 * Never:      a client that waits for the ledger.
 * Cost:       O(1), no allocation once the pool is warm.
 */
#include "gate_int.h"

static void meter_done(struct mr_ctl_call *call);

static struct gate_peer *peer_of(struct mr_gate *gate, struct mr_lease_id lease)
{
    for (struct gate_service *s = gate->services; s != NULL; s = s->next) {
        for (struct gate_peer *p = s->peers; p != NULL; p = p->next) {
            if (p->lease.v == lease.v) return p;
        }
    }
    return NULL;
}

static void meter_post(struct gate_meter *meter)
{
    struct mr_gate *gate = meter->gate;
    struct mr_event_meter what = meter->call.meter;
    meter->call = (struct mr_ctl_call){
        .ctl = gate->ctl,
        .op = MR_CTL_METER,
        .reply_lane = gate->env->lane,
        .done = meter_done,
        .arg = meter,
        .tenant = what.tenant,
        .admin = true,
        .meter = what,
    };
    gate->calls_busy++;
    mr_ctl_call(gate->env, &meter->call);
}

static void meter_free(struct gate_meter *meter)
{
    struct mr_gate *gate = meter->gate;
    struct gate_peer *peer = peer_of(gate, meter->call.meter.lease);
    meter->next = gate->free_meters;
    gate->free_meters = meter;
    if (peer != NULL) {
        MR_ASSERT(peer->metering > 0);
        peer->metering--;
        gate_peer_settle_down(peer);
    }
    gate_drain_check(gate);
}

static void meter_retry(void *arg)
{
    struct gate_meter *meter = arg;
    meter->timer = NULL;
    gate_now(meter->gate);
    if (meter->gate->draining) {
        meter_free(meter); /* the worker sends it again to the next daemon */
    } else {
        meter_post(meter);
    }
}

static void meter_done(struct mr_ctl_call *call)
{
    struct gate_meter *meter = call->arg;
    struct mr_gate *gate = meter->gate;
    struct gate_peer *peer = peer_of(gate, call->meter.lease);
    int error = call->error;
    mr_buf_done(&call->out);
    mr_buf_done(&call->out_text);
    gate_now(gate);
    gate->calls_busy--;
    if (error != 0 && mr_error_retryable(error) && peer != NULL && !gate->draining &&
        gate->env->ops->timer_start(gate->env, gate->now_us + GATE_METER_RETRY_US, meter_retry,
                                    meter, &meter->timer) == 0) {
        return;
    }
    if (error == 0) gate->meters++;
    if (error != 0) gate->meters_refused++;
    /* What ctl will never take must not fill the worker's table: it is settled and counted. */
    if (peer != NULL && (error == 0 || !mr_error_retryable(error))) {
        gate_peer_send(
            peer, &(struct mr_wire_frame){.type = MR_WIRE_SETTLED, .u.serial = call->meter.serial});
    }
    meter_free(meter);
}

void gate_meter_send(struct gate_peer *peer, const struct mr_wire_end *end)
{
    struct mr_gate *gate = peer->gate;
    struct gate_meter *meter = gate->free_meters;
    if (meter != NULL) gate->free_meters = meter->next;
    if (meter == NULL) meter = mr_alloc_zero(sizeof *meter);
    if (meter == NULL) return; /* the worker keeps it and sends it again on its next connection */
    *meter = (struct gate_meter){.gate = gate};
    meter->call.meter = (struct mr_event_meter){
        .lease = peer->lease,
        .serial = end->serial,
        .tenant = {end->tenant},
        .prompt_tokens = end->usage.prompt_tokens,
        .cached_tokens = end->usage.cached_tokens,
        .completion_tokens = end->usage.completion_tokens,
    };
    peer->metering++;
    meter_post(meter);
}

void gate_meters_free(struct mr_gate *gate)
{
    while (gate->free_meters != NULL) {
        struct gate_meter *meter = gate->free_meters;
        gate->free_meters = meter->next;
        mr_free(meter);
    }
}
