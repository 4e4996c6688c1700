/* SPDX-License-Identifier: Apache-2.0 */
/* Why a workload waits, found afresh, and as a sentence with the smallest change that helps.
 *
 * Owns:       nothing; looks only.
 * Invariants: (1) looking changes nothing.
 * Never:      I/O, clock, allocation beyond the caller's buffer, recursion, floats.
 * Cost:       O(log nodes), for topologies as in core_place.c.
 * Tests:      tests/unit/core/test_core_reason.c
 */
#include "core_quota.h"
#include "core_reserve.h"

/* Enough of what it is short of is free, but held for others. */
static void held_for_others(const struct mr_core *core, const struct core_request *request,
                            struct mr_reason *reason)
{
    uint64_t held = 0;
    if (reason->code != MR_REASON_RESOURCES) return;
    for (uint32_t i = 0; i < core->hold_count; i++) {
        const struct core_workload *h = core_workload(core, core->holds[i]);
        if (!core_shape_accepts(request->shape, h->accel_type)) continue;
        held += core_shape_needs(&h->shape, reason->resource) * h->tasks_min;
        if (held < reason->a) continue;
        *reason = (struct mr_reason){.code = MR_REASON_HELD,
                                     .resource = reason->resource,
                                     .a = core_workload(core, core->holds[0])->id,
                                     .b = reason->a,
                                     .c = core_workload(core, core->holds[0])->hold_us};
        return;
    }
}

/* On the nodes of its own reservation. */
static void member_why(const struct mr_core *core, const struct core_workload *w, uint32_t least,
                       struct mr_reason *ret)
{
    uint8_t type = core_reserved(core, w->reserved)->accel_type;
    uint64_t end_us = core_reserved(core, w->reserved)->end_us;
    if (end_us < core->view_end_us) { /* not worth it any more: it begins as ordinary work */
        *ret = (struct mr_reason){.code = MR_REASON_NOT_YET, .a = end_us};
        return;
    }
    if (w->shape.accel_milli == 0) type = 0;
    uint32_t fit = core_window_fit(core, w->reserved, type, &w->shape, least);
    enum mr_resource resource = w->shape.accel_milli > 0 ? MR_RESOURCE_ACCEL : MR_RESOURCE_CPU;
    uint64_t each = core_shape_needs(&w->shape, resource);
    *ret = (struct mr_reason){.code = fit < least ? MR_REASON_RESOURCES : MR_REASON_TOPOLOGY,
                              .resource = resource,
                              .a = each * (least - fit),
                              .b = each * least};
    if (fit >= least) ret->a = each * fit;
}

/* What it is short of is free on the nodes of an active reservation. */
static bool kept_now(struct mr_core *core, const struct core_request *request,
                     struct mr_reason *ret)
{
    uint64_t each = core_shape_needs(request->shape, ret->resource);
    uint32_t missing = request->tasks_min;
    if (core->tables[CORE_RESERVED].live == 0 || each == 0) return false;
    if (ret->code == MR_REASON_RESOURCES) missing = (uint32_t)((ret->a + each - 1) / each);
    for (uint32_t i = 1; i < core->tables[CORE_RESERVED].used; i++) {
        const struct core_reserved *r = core_reserved(core, i);
        uint8_t type = request->shape->accel_milli > 0 ? r->accel_type : 0;
        if (r->workload == 0 || !r->active || !core_shape_accepts(request->shape, type)) continue;
        core_view_set(core, i, 0);
        if (core_window_fit(core, i, type, request->shape, missing) < missing) continue;
        *ret = (struct mr_reason){.code = MR_REASON_KEPT,
                                  .a = core_workload(core, r->workload)->id,
                                  .b = r->end_us,
                                  .c = r->begin_us};
        return true;
    }
    return false;
}

/* Free and without a claim, but somebody's before it would have ended. */
static bool kept_free(struct mr_core *core, const struct core_request *request,
                      struct mr_reason *ret)
{
    struct mr_reason without;
    uint32_t first = 0;
    if (core->tables[CORE_RESERVED].live == 0) return false;
    core_view_reset(core);
    core_place_reason(core, request, &without);
    if (without.code != MR_REASON_NONE) return false;
    for (uint32_t i = 1; i < core->tables[CORE_RESERVED].used; i++) {
        const struct core_reserved *r = core_reserved(core, i);
        if (r->workload == 0 || r->active || !r->shown) continue;
        if (first == 0 || r->begin_us < core_reserved(core, first)->begin_us) first = i;
    }
    if (first == 0) return false;
    const struct core_reserved *r = core_reserved(core, first);
    *ret = (struct mr_reason){
        .code = MR_REASON_KEPT, .a = core_workload(core, r->workload)->id, .c = r->begin_us};
    return true;
}

/* For whom nodes are looked at is scratch: it is set for the look, and back after it. */
static void place_why(const struct mr_core *core, uint32_t workload,
                      const struct core_request *request, struct mr_reason *ret)
{
    struct mr_core *scratch = (struct mr_core *)(uintptr_t)core;
    const struct core_workload *w = core_workload(core, workload);
    uint64_t end_us = core->view_end_us;
    uint32_t reserved = core->view_reserved, picky = core->view_picky;
    core_view_of(scratch, workload, core_view_goes(core, workload));
    if (w->reserved != 0) {
        if (!core_place_never(core, request, ret)) member_why(core, w, request->tasks_min, ret);
    } else {
        core_place_reason(core, request, ret);
        if (w->exclusive != MR_EXCLUSIVE_NONE) core_alone_why(scratch, workload, request, ret);
        if (w->apart != 0) core_apart_why(scratch, workload, request, ret);
        bool waits = ret->code != MR_REASON_NONE && ret->code != MR_REASON_QUOTA &&
                     ret->code != MR_REASON_EXCLUSIVE && ret->code != MR_REASON_APART;
        if (waits && !kept_free(scratch, request, ret)) (void)kept_now(scratch, request, ret);
    }
    core_view_set(scratch, reserved, end_us);
    if (picky != 0) core_picky_view(scratch, picky);
}

static void waiting_why(const struct mr_core *core, uint32_t workload, struct mr_reason *ret)
{
    const struct core_workload *w = core_workload(core, workload);
    if (w->hold_us != 0) {
        *ret = (struct mr_reason){
            .code = MR_REASON_RESERVED, .a = w->hold_us, .b = w->claimed, .c = w->claim_wait};
        return;
    }
    if (w->queue_prev != 0) {
        *ret = (struct mr_reason){.code = MR_REASON_BEHIND, .a = core_class_ahead(core, workload)};
        return;
    }
    bool service = core_is_service(w);
    uint32_t least = service ? 1 : w->tasks_min;
    const struct core_request request = core_request_make(core, workload, least, least);
    struct core_ask ask = {.shape = &w->shape,
                           .tenant = w->tenant,
                           .most = least,
                           .one_more_running = !service || w->tasks == 0,
                           .borrow = w->preemptible != 0};
    struct core_bound bound = {.tenant = 0};
    struct core_passes passes;
    core_passes_begin(core, &passes, &request, w->tenant);
    bool allowed = core_passes_next(core, &passes, &ask, &bound) && passes.at <= passes.present;
    if (!allowed && bound.tenant != 0) {
        if (bound.reason.code == MR_REASON_QUOTA) bound.reason.c *= least;
        *ret = bound.reason;
        return;
    }
    place_why(core, workload, allowed ? &passes.request : &request, ret);
    if (!service) held_for_others(core, &request, ret);
}

static void held_why(const struct mr_core *core, uint32_t workload, struct mr_reason *ret)
{
    const struct core_workload *w = core_workload(core, workload);
    uint64_t begin_us = MR_MAX(w->begin_us, core_member_begin_us(core, w));
    if (begin_us > core->now_us) {
        *ret = (struct mr_reason){.code = MR_REASON_NOT_YET, .a = begin_us};
    } else if (w->planned != 0) {
        *ret = (struct mr_reason){.code = MR_REASON_DEADLINE,
                                  .a = core_deadline_start_us(core, workload),
                                  .b = w->deadline_us};
    } else {
        *ret = (struct mr_reason){.code = MR_REASON_BACKOFF, .a = w->timer_us};
    }
}

int mr_core_why(const struct mr_core *core, struct mr_workload_id id, struct mr_reason *ret)
{
    uint32_t workload = core_workload_find(core, id.v);
    if (workload == 0) return MR_ENOT_FOUND;
    const struct core_workload *w = core_workload(core, workload);
    *ret = (struct mr_reason){.code = MR_REASON_NONE};
    switch ((enum core_phase)w->phase) {
    case CORE_HELD:
        held_why(core, workload, ret);
        break;
    case CORE_WAITING:
        waiting_why(core, workload, ret);
        break;
    case CORE_CLAIMING:
        *ret = (struct mr_reason){.code = MR_REASON_MAKING_ROOM,
                                  .a = MR_MAX(w->claim_wait, w->over != 0 ? 1u : 0u)};
        break;
    case CORE_ENDING:
        if (w->outcome == CORE_OUTCOME_END) break;
        *ret = (struct mr_reason){
            .code = MR_REASON_STOPPING, .a = w->lease_count - w->claimed, .b = w->claimed};
        break;
    case CORE_ACTIVE:
        if (!core_is_service(w) || w->tasks >= w->target) break;
        if (w->claimed > 0) {
            *ret = (struct mr_reason){.code = MR_REASON_MAKING_ROOM, .a = w->claim_wait};
        } else if (w->class_of != 0) {
            waiting_why(core, workload, ret);
        } else if (w->backoff_us > core->now_us) {
            bool first = w->backoff_us == w->begin_us;
            *ret = (struct mr_reason){.code = first ? MR_REASON_NOT_YET : MR_REASON_BACKOFF,
                                      .a = w->backoff_us};
        }
        break;
    default:
        break;
    }
    return 0;
}

/* --- as a sentence ------------------------------------------------------------------------- */

static const char *resource_name(enum mr_resource resource)
{
    static const char *const names[MR_RESOURCE_COUNT] = {"vCPU", "GiB of memory", "accelerators"};
    MR_ASSERT(resource < MR_RESOURCE_COUNT);
    return names[resource];
}

/* An amount in people's units with at most three digits after the point. */
static void amount_put(struct mr_buf *buf, enum mr_resource resource, uint64_t amount)
{
    uint64_t unit = resource == MR_RESOURCE_MEMORY ? 1024 : 1000;
    uint64_t milli = mr_mul_div_u64(amount % unit, 1000, unit);
    mr_buf_put_u64_text(buf, amount / unit);
    if (milli > 0) {
        char digits[4] = {(char)('0' + milli / 100), (char)('0' + milli / 10 % 10),
                          (char)('0' + milli % 10), 0};
        for (size_t n = 3; n > 0 && digits[n - 1] == '0'; n--) {
            digits[n - 1] = 0;
        }
        mr_buf_printf(buf, ".%s", digits);
    }
    bool one = resource == MR_RESOURCE_ACCEL && amount == unit;
    mr_buf_printf(buf, " %s", one ? "accelerator" : resource_name(resource));
}

static void number_put(struct mr_buf *buf, uint64_t number, const char *one, const char *many)
{
    mr_buf_put_u64_text(buf, number);
    mr_buf_put_str(buf, mr_str_from(number == 1 ? one : many));
}

static void delivery_put(struct mr_buf *buf, const struct mr_reason *reason)
{
    mr_buf_put_str(buf, MR_STR("It needs "));
    amount_put(buf, reason->resource, reason->c);
    mr_buf_put_str(buf, MR_STR(", "));
    amount_put(buf, reason->resource, reason->b);
    mr_buf_put_str(buf, MR_STR(" more than all nodes that are up have; with what is to be "
                               "delivered until "));
    mr_time_put_rfc3339(buf, reason->a);
    mr_buf_put_str(buf, MR_STR(" there is enough."));
}

void mr_reason_put(struct mr_buf *buf, const struct mr_reason *reason)
{
    const enum mr_resource resource = reason->resource;
    switch (reason->code) {
    case MR_REASON_NONE:
        mr_buf_put_str(buf, MR_STR("Nothing holds it back."));
        break;
    case MR_REASON_BEHIND:
        mr_buf_put_str(buf, MR_STR("It waits behind "));
        number_put(buf, reason->a, " workload like it", " workloads like it");
        mr_buf_put_str(buf, MR_STR("; a higher priority would put it before them."));
        break;
    case MR_REASON_RESOURCES:
        mr_buf_put_str(buf, MR_STR("It needs "));
        amount_put(buf, resource, reason->b);
        mr_buf_put_str(buf, MR_STR("; "));
        amount_put(buf, resource, reason->a);
        mr_buf_put_str(buf, MR_STR(" more must become free, or it must ask for so much less."));
        break;
    case MR_REASON_FRAGMENTED:
        mr_buf_put_str(buf, MR_STR("It needs "));
        amount_put(buf, resource, reason->b);
        mr_buf_put_str(buf, MR_STR("; "));
        amount_put(buf, resource, reason->a);
        mr_buf_put_str(buf, MR_STR(" are free, but not together on nodes that also have the rest "
                                   "of what a task needs; smaller tasks would fit."));
        break;
    case MR_REASON_TOPOLOGY:
        mr_buf_put_str(buf, MR_STR("It needs "));
        amount_put(buf, resource, reason->b);
        mr_buf_put_str(buf, MR_STR(" close together; "));
        amount_put(buf, resource, reason->a);
        mr_buf_put_str(buf, MR_STR(" are free, but in no single place that its topology allows; "
                                   "topology any would start it now."));
        break;
    case MR_REASON_NO_SUCH_NODE:
        mr_buf_put_str(buf, MR_STR("One node must have "));
        amount_put(buf, resource, reason->b);
        mr_buf_put_str(buf, MR_STR(", the largest has "));
        amount_put(buf, resource, reason->a);
        mr_buf_put_str(buf, MR_STR("; ask for no more than that, or add a larger node."));
        break;
    case MR_REASON_QUOTA:
        mr_buf_put_str(buf, MR_STR("The tenant's quota is "));
        amount_put(buf, resource, reason->b);
        mr_buf_put_str(buf, MR_STR(", with "));
        amount_put(buf, resource, reason->a);
        mr_buf_put_str(buf, MR_STR(" in use, and it asks for "));
        amount_put(buf, resource, reason->c);
        mr_buf_put_str(buf, MR_STR("; raise the quota by "));
        uint64_t over = reason->a + reason->c;
        amount_put(buf, resource, over > reason->b ? over - reason->b : 0);
        mr_buf_put_str(buf, MR_STR(" or end work of the tenant."));
        break;
    case MR_REASON_DELIVERY:
        delivery_put(buf, reason);
        break;
    case MR_REASON_TENANT_JOBS:
        mr_buf_put_str(buf, MR_STR("The tenant runs "));
        number_put(buf, reason->a, " workload", " workloads");
        mr_buf_put_str(buf, MR_STR(" and may run "));
        mr_buf_put_u64_text(buf, reason->b);
        mr_buf_put_str(buf, MR_STR("; one must end, or the limit be raised by 1."));
        break;
    default:
        core_reason_time_put(buf, reason);
    }
}

static void exclusive_put(struct mr_buf *buf, const struct mr_reason *reason)
{
    mr_buf_put_str(buf, MR_STR("It needs "));
    number_put(buf, reason->c, " node of its own; ", " nodes of its own; ");
    mr_buf_put_u64_text(buf, reason->a);
    mr_buf_put_str(buf, MR_STR(" of "));
    number_put(buf, reason->b, " node is wholly free", " nodes are wholly free");
    if (reason->a >= reason->c) mr_buf_put_str(buf, MR_STR(", but not where it may use them"));
    mr_buf_put_str(buf, MR_STR("; beside others, without exclusive, it would start now."));
}

static void apart_put(struct mr_buf *buf, const struct mr_reason *reason)
{
    number_put(buf, reason->b, " node has room, but lies", " nodes have room, but lie");
    mr_buf_printf(buf,
                  " where others of its group are, from which it is kept apart, workload %llu "
                  "first; it starts when such a one ends, or with room in another place.",
                  (unsigned long long)reason->a);
}

static void reserved_put(struct mr_buf *buf, const struct mr_reason *reason)
{
    if (reason->code == MR_REASON_APART) {
        apart_put(buf, reason);
    } else if (reason->code == MR_REASON_EXCLUSIVE) {
        exclusive_put(buf, reason);
    } else if (reason->code == MR_REASON_KEPT) {
        mr_buf_printf(buf, "Nodes that would do are reservation %llu's %s ",
                      (unsigned long long)reason->a, reason->b != 0 ? "until" : "from");
        mr_time_put_rfc3339(buf, reason->b != 0 ? reason->b : reason->c);
        mr_buf_put_str(buf, reason->b != 0
                                ? MR_STR("; if it may use them, let it name the reservation.")
                                : MR_STR(" on; with a time limit that ends before that, or "
                                         "preemptible, it may run there until then."));
    } else if (reason->code == MR_REASON_NO_WINDOW && reason->a == 0) {
        mr_buf_put_str(buf, MR_STR("No such room comes free within eight weeks; ask for less, or "
                                   "for a time that ends before other reservations begin."));
    } else if (reason->code == MR_REASON_NO_WINDOW) {
        mr_buf_put_str(buf, MR_STR("There is no such room at that time; from "));
        mr_time_put_rfc3339(buf, reason->a);
        mr_buf_put_str(buf, MR_STR(" on it would fit."));
    } else {
        mr_buf_put_str(buf, MR_STR("Unknown."));
    }
}

void core_reason_time_put(struct mr_buf *buf, const struct mr_reason *reason)
{
    switch (reason->code) {
    case MR_REASON_MAKING_ROOM:
        mr_buf_put_str(buf, MR_STR("Room is being made for it: "));
        number_put(buf, reason->a, " of its places is", " of its places are");
        mr_buf_put_str(buf, MR_STR(" still held by work that was asked to stop."));
        break;
    case MR_REASON_RESERVED:
        mr_buf_put_str(buf, MR_STR("Room is held for it from about "));
        mr_time_put_rfc3339(buf, reason->a);
        mr_buf_put_str(buf, MR_STR(" on; "));
        number_put(buf, reason->c, " of its places is", " of its places are");
        mr_buf_put_str(buf, MR_STR(" still held by work that is expected to end by then."));
        break;
    case MR_REASON_HELD:
        mr_buf_put_str(buf, MR_STR("It is short of "));
        amount_put(buf, reason->resource, reason->b);
        mr_buf_printf(buf, ", which is held for others before it, first workload %llu at about ",
                      (unsigned long long)reason->a);
        mr_time_put_rfc3339(buf, reason->c);
        mr_buf_put_str(buf, MR_STR("; with a time limit that ends before that it may run first."));
        break;
    case MR_REASON_STOPPING:
        mr_buf_put_str(buf, MR_STR("Its last run still ends: "));
        number_put(buf, reason->a, " lease is left", " leases are left");
        mr_buf_put_str(buf, reason->b == 0
                                ? MR_STR(".")
                                : MR_STR("; then it goes on at once, its room is kept."));
        break;
    case MR_REASON_BACKOFF:
        mr_buf_put_str(buf, MR_STR("It failed and is tried again at "));
        mr_time_put_rfc3339(buf, reason->a);
        mr_buf_put_str(buf, MR_STR("; its log says why."));
        break;
    case MR_REASON_NOT_YET:
        mr_buf_put_str(buf, MR_STR("It was asked to begin at "));
        mr_time_put_rfc3339(buf, reason->a);
        mr_buf_put_char(buf, '.');
        break;
    case MR_REASON_DEADLINE:
        if (reason->a != 0) {
            mr_buf_put_str(buf, MR_STR("It is planned to begin at "));
            mr_time_put_rfc3339(buf, reason->a);
            mr_buf_put_str(buf, MR_STR(" and to meet its deadline, "));
        } else {
            mr_buf_put_str(buf, MR_STR("There is no room for it before its deadline, "));
        }
        mr_time_put_rfc3339(buf, reason->b);
        mr_buf_put_str(buf, reason->a != 0
                                ? MR_STR(".")
                                : MR_STR("; a later one, less work or more devices would help."));
        break;
    case MR_REASON_FLEET_EMPTY:
        mr_buf_put_str(buf, MR_STR("No node is up; add one or bring one back."));
        break;
    default:
        reserved_put(buf, reason);
    }
}
