/* SPDX-License-Identifier: Apache-2.0 */
/* One durable record changes book and core; what the core wants of the world is done here.
 *
 * The same function runs in a replay, where effects change nothing but the book: the world is asked
 * again through mr_core_outstanding afterwards.
 *
 * Owns:  nothing.
 * Never: looks at a clock or at anything that is not in the record, the book or the core.
 */
#include <stdio.h>

#include "ctl/ctl_int.h"

#define START_ARENA_BYTES ((size_t)8 * 1024 * 1024)

/* --- answers to submissions ------------------------------------------------------------------- */

/* After the step, so that it tells what became of the submission in it. */
static void answer_accepted(struct mr_ctl *ctl, struct ctl_group_call *group)
{
    struct mr_workload_info info;
    struct mr_buf *out = &group->call->out;
    if (mr_core_workload(ctl->core, ctl->accepted, &info) != 0) {
        info = (struct mr_workload_info){.id = ctl->accepted, .state = MR_STATE_PENDING};
    }
    if (group->batch && group->number++ > 0) mr_buf_put_char(out, ',');
    mr_buf_printf(out, "{\"id\":%llu,\"state\":\"%s\",\"reason\":", (unsigned long long)info.id.v,
                  mr_state_name(info.state));
    ctl_put_reason(out, &info.reason);
    mr_buf_put_char(out, '}');
}

static void answer_rejected(struct ctl_group_call *group, const struct mr_effect_answer *answer)
{
    struct mr_buf text;
    mr_buf_init(&text, 4096);
    if (answer->reason.code != MR_REASON_NONE) {
        mr_reason_put(&text, &answer->reason);
    } else {
        mr_buf_printf(&text, "%s", mr_error_text(answer->error));
    }
    if (group->batch) {
        struct mr_buf *out = &group->call->out;
        if (group->number++ > 0) mr_buf_put_char(out, ',');
        mr_buf_printf(out,
                      "{\"error\":{\"code\":\"%s\",\"message\":", mr_error_name(answer->error));
        mr_json_put_string(out, mr_buf_str(&text));
        mr_buf_put_str(out, MR_STR("}}"));
    } else {
        group->call->error = answer->error;
        ctl_problem(group->call, "%.*s", MR_STR_ARG(mr_buf_str(&text)));
    }
    mr_buf_done(&text);
}

/* --- effects ---------------------------------------------------------------------------------- */

static void start_failed(struct mr_ctl *ctl, struct mr_lease_id lease, int error)
{
    struct mr_event event = {
        .kind = MR_EVENT_LEASE_EXITED,
        .u.lease = {.lease = lease, .exit = MR_EXIT_START_FAILED, .code = error}};
    ctl_push_event(ctl, &event, lease.v);
}

static void effect_start(struct mr_ctl *ctl, const struct mr_effect_start *start)
{
    struct mr_arena arena;
    struct mr_engine_start engine_start;
    struct ctl_spec *spec = ctl_spec_find(&ctl->book, start->workload.v);
    if (spec == NULL) {
        start_failed(ctl, start->lease, MR_ENOT_FOUND);
        return;
    }
    mr_arena_init(&arena, START_ARENA_BYTES);
    int error = ctl_spec_start(spec, start, &ctl->book, &arena, &engine_start);
    if (error == 0) {
        ctl->engine->ops->start(ctl->engine, &engine_start);
    } else {
        start_failed(ctl, start->lease, error);
    }
    mr_arena_done(&arena);
    if (spec->served_name != NULL) ctl->routes_dirty = true;
}

static void effect_ledger(struct mr_ctl *ctl, const struct mr_effect_ledger *l)
{
    struct mr_buf buf;
    if (ctl->line_count == ctl->line_capacity) {
        size_t capacity = ctl->line_capacity > 0 ? 2 * ctl->line_capacity : 64;
        struct ctl_line *lines = mr_realloc(ctl->lines, capacity * sizeof *lines);
        MR_ASSERT(lines != NULL); /* a line of the bill must not be lost */
        ctl->lines = lines;
        ctl->line_capacity = capacity;
    }
    struct ctl_line *line = &ctl->lines[ctl->line_count++];
    mr_buf_init(&buf, sizeof line->bytes);
    mr_buf_put_u8(&buf, 1);
    mr_buf_put_u32(&buf, l->tenant.v);
    mr_buf_put_u64(&buf, l->workload.v);
    mr_buf_put_u64(&buf, l->lease.v);
    mr_buf_put_u8(&buf, (uint8_t)l->sku);
    mr_buf_put_u8(&buf, l->accel_type);
    mr_buf_put_u64(&buf, l->quantity);
    mr_buf_put_u64(&buf, (uint64_t)l->price_nusd);
    mr_buf_put_u64(&buf, (uint64_t)l->charge_nusd);
    mr_buf_put_u64(&buf, l->from_us);
    mr_buf_put_u64(&buf, l->to_us);
    MR_ASSERT(!buf.failed);
    line->entry = l->entry;
    line->n = (uint32_t)buf.n;
    memcpy(line->bytes, buf.p, buf.n);
    mr_buf_done(&buf);
}

static void effect_state(struct mr_ctl *ctl, const struct mr_effect_state *state)
{
    char json[160];
    struct mr_workload_info info;
    struct ctl_spec *spec = ctl_spec_find(&ctl->book, state->workload.v);
    if (spec != NULL && spec->served_name != NULL) ctl->routes_dirty = true;
    if (mr_core_workload(ctl->core, state->workload, &info) != 0) return;
    if (mr_state_final(state->state)) ctl_learn_end(ctl, &info);
    int n = snprintf(json, sizeof json, "{\"id\":%llu,\"state\":\"%s\",\"run\":%u,\"tasks\":%u}",
                     (unsigned long long)state->workload.v, mr_state_name(state->state), state->run,
                     state->tasks);
    ctl_feed(ctl, info.tenant, MR_STR("workload"), (struct mr_str){json, (size_t)n});
}

static void effect_node(struct mr_ctl *ctl, const struct mr_event_node_state *node)
{
    char json[96];
    int n = snprintf(json, sizeof json, "{\"id\":%u,\"state\":\"%s\"}", node->id.v,
                     mr_node_state_name(node->state));
    ctl_feed(ctl, (struct mr_tenant_id){0}, MR_STR("node"), (struct mr_str){json, (size_t)n});
}

static void spec_keep(struct mr_ctl *ctl, const struct mr_effect_answer *answer);

void ctl_effect(void *arg, const struct mr_effect *effect)
{
    struct mr_ctl *ctl = arg;
    struct ctl_group_call *group = ctl->applying != NULL ? ctl->applying->answer : NULL;
    switch (effect->kind) {
    case MR_EFFECT_ACCEPTED:
        spec_keep(ctl, &effect->u.answer);
        if (!effect->u.answer.known && !ctl->replaying && ctl->record != NULL) {
            ctl_learn_submit(ctl, &ctl->record->event);
        }
        ctl->accepted = effect->u.answer.workload;
        break;
    case MR_EFFECT_REJECTED:
        if (group != NULL) answer_rejected(group, &effect->u.answer);
        break;
    case MR_EFFECT_LEDGER:
        effect_ledger(ctl, &effect->u.ledger);
        break;
    case MR_EFFECT_START:
        if (!ctl->replaying) effect_start(ctl, &effect->u.start);
        break;
    case MR_EFFECT_STOP:
        if (!ctl->replaying) {
            ctl->engine->ops->stop(ctl->engine, effect->u.stop.lease, effect->u.stop.grace_us);
        }
        break;
    case MR_EFFECT_STATE:
        if (!ctl->replaying) effect_state(ctl, &effect->u.state);
        break;
    case MR_EFFECT_NODE:
        if (!ctl->replaying) effect_node(ctl, &effect->u.node);
        break;
    default:
        break; /* METERED: its call is answered with its record */
    }
}

/* --- records ---------------------------------------------------------------------------------- */

static struct mr_str copy_str(struct mr_str s, char **ret)
{
    char *p = mr_alloc(s.n + 1);
    MR_ASSERT(p != NULL); /* the state would differ from the journal's */
    if (s.n > 0) memcpy(p, s.p, s.n);
    p[s.n] = 0;
    *ret = p;
    return (struct mr_str){p, s.n};
}

/* The submission that is being applied was taken: its document is kept under the id it got. */
static void spec_keep(struct mr_ctl *ctl, const struct mr_effect_answer *answer)
{
    const struct ctl_record *record = ctl->record;
    struct ctl_spec spec = {.workload = answer->workload.v};
    if (record == NULL || record->kind != CTL_RECORD_SUBMIT || answer->known) return;
    if (ctl_spec_find(&ctl->book, answer->workload.v) != NULL) return;
    (void)copy_str(record->name, &spec.name);
    (void)copy_str(record->document, &spec.document);
    if (record->served_name.n > 0) (void)copy_str(record->served_name, &spec.served_name);
    spec.shared = record->shared;
    spec.created_us = record->event.time_us;
    MR_ASSERT(ctl_spec_put(&ctl->book, &spec) == 0);
    if (spec.served_name != NULL) ctl->routes_dirty = true;
}

/* A limit that was reached between the call and the disk; the same in a replay. */
static void answer_limit(struct mr_ctl *ctl, const char *text)
{
    struct ctl_group_call *group = ctl->applying != NULL ? ctl->applying->answer : NULL;
    if (group == NULL) return;
    mr_buf_reset(&group->call->out);
    group->call->error = MR_ELIMIT;
    ctl_problem(group->call, "%s", text);
}

static void apply_key(struct mr_ctl *ctl, const struct ctl_record *record)
{
    ctl->routes_dirty = true;
    if (record->revoked) {
        (void)ctl_key_drop(&ctl->book, record->key.sha256); /* revoking twice is fine */
        return;
    }
    int error = ctl_key_put(&ctl->book, &record->key);
    MR_ASSERT(error == 0 || error == MR_ELIMIT); /* the state would differ from the journal's */
    if (error == MR_ELIMIT) answer_limit(ctl, "no more keys fit; revoke some");
}

static bool apply_tenant(struct mr_ctl *ctl, struct ctl_record *record)
{
    struct ctl_group_call *group = ctl->applying != NULL ? ctl->applying->answer : NULL;
    uint32_t id = ctl_tenant_find(&ctl->book, record->name);
    if (id == 0 && ctl->book.tenant_count < mr_core_limits_of(ctl->core)->tenants) {
        id = ctl_tenant_make(&ctl->book, record->name);
    }
    if (id == 0) {
        answer_limit(ctl, "no more tenants fit");
        return false;
    }
    record->event.u.tenant.id.v = id;
    if (group != NULL) {
        mr_buf_printf(&group->call->out, "{\"id\":%u,\"name\":", id);
        mr_json_put_string(&group->call->out, mr_str_from(ctl_tenant_name(&ctl->book, id)));
        mr_buf_put_char(&group->call->out, '}');
    }
    return true;
}

static bool apply_node(struct mr_ctl *ctl, struct ctl_record *record)
{
    uint8_t type = record->name.n > 0 ? ctl_accel_make(&ctl->book, record->name) : 0;
    if (type == 0 && record->name.n > 0) {
        answer_limit(ctl, "no more accelerator types fit");
        return false;
    }
    record->event.u.node.accel_type = type;
    return true;
}

/* A replica that starts, answers or ends changes what gates see, though not the service's state. */
static bool is_of_a_model(struct mr_ctl *ctl, const struct mr_event *event)
{
    struct mr_lease_info lease;
    if (event->kind != MR_EVENT_LEASE_STARTED && event->kind != MR_EVENT_LEASE_READY &&
        event->kind != MR_EVENT_LEASE_EXITED) {
        return false;
    }
    if (mr_core_lease(ctl->core, event->u.lease.lease, &lease) != 0) return false;
    const struct ctl_spec *spec = ctl_spec_find(&ctl->book, lease.workload.v);
    return spec != NULL && spec->served_name != NULL;
}

static void step(struct mr_ctl *ctl, const struct mr_event *event)
{
    struct mr_effect_sink sink = {.emit = ctl_effect, .context = ctl};
    if (is_of_a_model(ctl, event)) ctl->routes_dirty = true;
    ctl->accepted.v = 0;
    mr_core_step(ctl->core, event, &sink);
    struct ctl_group_call *group = ctl->applying != NULL ? ctl->applying->answer : NULL;
    if (ctl->accepted.v != 0 && group != NULL) answer_accepted(ctl, group);
}

static int apply_one(struct mr_ctl *ctl, struct ctl_record *record)
{
    switch (record->kind) {
    case CTL_RECORD_TENANT:
        if (!apply_tenant(ctl, record)) return 0;
        break;
    case CTL_RECORD_NODE:
        if (!apply_node(ctl, record)) return 0;
        break;
    case CTL_RECORD_KEY:
        apply_key(ctl, record);
        return 0;
    case CTL_RECORD_HASH: /* of this very state, when it was just written */
        if (!ctl->replaying) return 0;
        ctl->hash_differs = record->hash != mr_core_hash(ctl->core);
        return ctl->hash_differs ? MR_ECORRUPT : 0;
    default:
        break;
    }
    step(ctl, &record->event);
    return 0;
}

int ctl_apply(struct mr_ctl *ctl, struct mr_str bytes)
{
    struct ctl_record record;
    int error = ctl_record_get(bytes, &record);
    if (error != 0) return MR_ECORRUPT;
    ctl->record = &record;
    error = apply_one(ctl, &record);
    ctl->record = NULL;
    if (ctl->book.spec_count > ctl->specs_kept + ctl->specs_kept / 2 + 1024) {
        ctl_specs_sweep(&ctl->book, ctl->core);
        ctl->specs_kept = ctl->book.spec_count;
    }
    return error;
}
