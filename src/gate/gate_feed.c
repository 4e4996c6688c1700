/* SPDX-License-Identifier: Apache-2.0 */
/* /api/events: what changes in the cloud, as it changes.
 *
 * Owns:       the list of subscribers.
 * Invariants: (1) a subscriber sees its tenant's items only, an administrator all;
 *             (2) one that does not read misses items and is told how many, it never makes us keep
 *                 them.
 * Never:      replay: Last-Event-ID is accepted and ignored, `GET /api/workloads` tells the state.
 * Cost:       O(subscribers) for each item.
 */
#include "gate_int.h"

struct feed_subscriber {
    uint64_t missed;
};

static void missed_tell(struct gate_request *request)
{
    struct feed_subscriber *own = request->own;
    struct mr_gate *gate = request->gate;
    if (own->missed == 0) return;
    mr_buf_reset(&gate->frame);
    mr_buf_printf(&gate->frame, "event: missed\ndata: {\"missed\":%llu}\n\n",
                  (unsigned long long)own->missed);
    own->missed = 0;
    gate_stream_data(request, mr_buf_str(&gate->frame));
}

static void feed_quiet(struct gate_request *request)
{
    struct mr_gate *gate = request->gate;
    mr_buf_reset(&gate->frame);
    mr_sse_put_comment(&gate->frame, MR_STR("keep-alive"));
    gate_stream_data(request, mr_buf_str(&gate->frame));
}

static void feed_gone(struct gate_request *request)
{
    struct mr_gate *gate = request->gate;
    if (request->sub_prev != NULL) request->sub_prev->sub_next = request->sub_next;
    if (request->sub_prev == NULL) gate->subscribers = request->sub_next;
    if (request->sub_next != NULL) request->sub_next->sub_prev = request->sub_prev;
    request->sub_next = NULL;
    request->sub_prev = NULL;
}

static const struct gate_request_ops feed_ops = {
    .drain = missed_tell,
    .gone = feed_gone,
    .quiet = feed_quiet,
};

void gate_handle_events(struct gate_request *request, const struct mr_http_request *http)
{
    (void)http;
    struct mr_gate *gate = request->gate;
    struct feed_subscriber *own = mr_arena_alloc_zero(&request->arena, sizeof *own);
    if (own == NULL) {
        struct mr_problem problem = gate_problem(MR_ENO_MEMORY, "out of memory; try again");
        gate_reply_problem(request, &problem);
        return;
    }
    if (request->head_only) {
        gate_reply(request, 200, MR_STR("text/event-stream"), MR_STR(""), MR_STR(""));
        return;
    }
    request->own = own;
    request->ops = &feed_ops;
    request->sub_next = gate->subscribers;
    if (gate->subscribers != NULL) gate->subscribers->sub_prev = request;
    gate->subscribers = request;
    gate_stream_begin(request, MR_STR("text/event-stream"), MR_STR("Cache-Control: no-cache\r\n"));
    /* A first byte tells the client that it is subscribed: what happens from now on, it hears. */
    feed_quiet(request);
}

void gate_feed_item(struct mr_gate *gate, const struct mr_feed_item *take_item)
{
    for (struct gate_request *r = gate->subscribers, *next; r != NULL; r = next) {
        struct feed_subscriber *own = r->own;
        next = r->sub_next;
        if (!r->admin && r->tenant.v != take_item->tenant.v) continue;
        if (r->conn->full) {
            own->missed++;
            continue;
        }
        mr_buf_reset(&gate->frame);
        mr_buf_printf(&gate->frame, "id: %llu\n", (unsigned long long)take_item->id);
        mr_sse_put_event(&gate->frame, take_item->event, take_item->json);
        gate_stream_data(r, mr_buf_str(&gate->frame));
    }
    mr_feed_item_unref(take_item);
}
