/* SPDX-License-Identifier: Apache-2.0 */
/* Calls from gates and from the daemon: checked, journalled when they change something, answered
 * once.
 *
 * Owns:       a call from its post to its answer.
 * Invariants: (1) each call is answered exactly once; (2) a changing call is answered after its
 *             records were stepped; (3) a key of one tenant learns nothing of another's workloads.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

#include "ctl/ctl_field.h"
#include "ctl/ctl_int.h"

#define OUT_BYTES_MAX ((size_t)256 * 1024 * 1024)

/* --- answering -------------------------------------------------------------------------------- */

void ctl_problem(struct mr_ctl_call *call, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments); /* a longer text is cut */
    va_end(arguments);
    mr_buf_reset(&call->out_text);
    mr_buf_printf(&call->out_text, "%s", text);
}

static void reply(struct mr_post *post)
{
    struct mr_ctl_call *call = (struct mr_ctl_call *)(void *)post;
    call->done(call);
}

void ctl_answer(struct mr_ctl *ctl, struct mr_ctl_call *call, int error)
{
    ctl->calls++;
    call->error = error;
    if (error == 0 && call->out.failed) {
        call->error = MR_ENO_MEMORY;
        ctl_problem(call, "the answer is too large");
    }
    if (call->error != 0 && call->out_text.n == 0) {
        ctl_problem(call, "%s", mr_error_text(call->error));
    }
    call->problem = mr_buf_str(&call->out_text);
    call->post.fn = reply;
    ctl->env->ops->post(ctl->env, call->reply_lane, &call->post);
}

void ctl_refuse(struct mr_ctl *ctl, struct mr_ctl_call *call, int error, const char *text)
{
    ctl_problem(call, "%s", text);
    ctl_answer(ctl, call, error);
}

/* --- changing calls --------------------------------------------------------------------------- */

struct ctl_group_call *ctl_group_new(struct mr_ctl *ctl, struct mr_ctl_call *call, uint32_t left)
{
    struct ctl_group_call *group = mr_alloc_zero(sizeof *group);
    if (group == NULL) {
        ctl_answer(ctl, call, MR_ENO_MEMORY);
        return NULL;
    }
    group->call = call;
    group->left = left;
    call->error = 0;
    return group;
}

void ctl_change(struct mr_ctl *ctl, struct mr_ctl_call *call, struct ctl_record *record)
{
    struct ctl_group_call *group = ctl_group_new(ctl, call, 1);
    if (group == NULL) return;
    record->event.time_us = ctl->env->ops->now_us(ctl->env);
    if (ctl_push(ctl, record, group) == NULL) {
        mr_free(group);
        ctl_refuse(ctl, call, MR_ELIMIT, CTL_BUSY);
        return;
    }
    ctl_commit(ctl);
}

int ctl_field_problem(struct mr_ctl *ctl, struct mr_ctl_call *call, struct mr_buf *problem,
                      size_t param_n)
{
    mr_buf_reset(&call->out_text);
    mr_buf_put_str(&call->out_text, mr_buf_str(problem));
    call->problem_param = (struct mr_str){(const char *)call->out_text.p, param_n};
    ctl_answer(ctl, call, MR_EINVALID);
    return MR_EINVALID;
}

/* --- workloads -------------------------------------------------------------------------------- */

/* The workload, or an answer that there is none (also when it is somebody else's). */
static bool find(struct mr_ctl *ctl, struct mr_ctl_call *call, struct mr_workload_info *ret)
{
    if (ctl_find(ctl, call, ret)) return true;
    ctl_answer(ctl, call, call->error);
    return false;
}

static void op_cancel(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    struct mr_workload_info info;
    if (!find(ctl, call, &info)) return;
    struct ctl_record record = {.kind = CTL_RECORD_EVENT,
                                .event = {.kind = MR_EVENT_CANCEL, .u.cancel = info.id}};
    bool ended = mr_state_final(info.state);
    mr_buf_printf(&call->out, "{\"id\":%llu,\"state\":\"%s\"}", (unsigned long long)info.id.v,
                  ended ? mr_state_name(info.state) : "cancelled");
    if (ended) {
        ctl_answer(ctl, call, 0);
    } else {
        ctl_change(ctl, call, &record);
    }
}

yyjson_doc *ctl_body_json(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    yyjson_doc *doc = yyjson_read(call->body.p, call->body.n, 0);
    if (yyjson_is_obj(yyjson_doc_get_root(doc))) return doc;
    yyjson_doc_free(doc);
    ctl_refuse(ctl, call, MR_ESYNTAX, "the body must be a JSON map");
    return NULL;
}

int ctl_scale_read(const struct ctl_fields *f, const struct mr_workload_info *info,
                   struct mr_event *ret)
{
    uint64_t min = info->tasks_min, max = info->tasks_max;
    int error = ctl_field_u64(f, "min", info->kind == MR_KIND_JOB ? 1 : 0, 1000000, &min);
    if (error == 0) error = ctl_field_u64(f, "max", 1, 1000000, &max);
    if (error == 0 && max < min) error = ctl_field_wrong(f, "max", "must not be below min");
    if (error == 0 && info->segment != 0 && (min % info->segment != 0 || max % info->segment != 0))
        error = ctl_field_wrong(f, "max", "min and max must be multiples of its segment, %u",
                                info->segment);
    if (error != 0) return error;
    *ret = (struct mr_event){.kind = MR_EVENT_SCALE,
                             .u.scale = {info->id, (uint32_t)min, (uint32_t)max}};
    return 0;
}

static void op_scale(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    struct mr_workload_info info;
    if (!find(ctl, call, &info)) return;
    if (info.kind == MR_KIND_RESERVATION) {
        ctl_refuse(ctl, call, MR_ESTATE, "a reservation has one size; cancel it and book another");
        return;
    }
    yyjson_doc *doc = ctl_body_json(ctl, call);
    if (doc == NULL) return;
    struct mr_buf problem;
    struct mr_str param = {0};
    mr_buf_init(&problem, 4096);
    struct ctl_fields f = {
        .map = yyjson_doc_get_root(doc), .prefix = "", .problem = &problem, .param = &param};
    struct ctl_record record = {.kind = CTL_RECORD_EVENT};
    int error = ctl_scale_read(&f, &info, &record.event);
    if (error != 0) {
        (void)ctl_field_problem(ctl, call, &problem, param.n);
    } else if (mr_state_final(info.state)) {
        ctl_refuse(ctl, call, MR_ESTATE, "it has ended");
    } else {
        mr_buf_printf(&call->out, "{\"id\":%llu,\"state\":\"%s\"}", (unsigned long long)info.id.v,
                      mr_state_name(info.state));
        ctl_change(ctl, call, &record);
    }
    mr_buf_done(&problem);
    yyjson_doc_free(doc);
}

/* --- documents ----------------------------------------------------------------------------------
 */

/* The body, read by `read`, is one record. */
static void op_document(struct mr_ctl *ctl, struct mr_ctl_call *call, struct ctl_record *record,
                        int (*read)(struct mr_ctl *ctl, struct mr_ctl_call *call,
                                    const struct ctl_fields *f, struct ctl_record *record))
{
    yyjson_doc *doc = ctl_body_json(ctl, call);
    struct mr_buf problem;
    struct mr_str param = {0};
    if (doc == NULL) return;
    mr_buf_init(&problem, 4096);
    struct ctl_fields f = {
        .map = yyjson_doc_get_root(doc), .prefix = "", .problem = &problem, .param = &param};
    if (read(ctl, call, &f, record) != 0)
        (void)ctl_field_problem(ctl, call, &problem, param.n);
    else
        ctl_change(ctl, call, record);
    mr_buf_done(&problem);
    yyjson_doc_free(doc);
}

static void op_tenant_set(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    struct ctl_record record = {.kind = CTL_RECORD_TENANT, .event = {.kind = MR_EVENT_TENANT_SET}};
    op_document(ctl, call, &record, ctl_tenant_read); /* the answer has the id that it gets */
}

static void op_reserve(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    struct ctl_record record = {.kind = CTL_RECORD_SUBMIT, .event = {.kind = MR_EVENT_RESERVE}};
    op_document(ctl, call, &record, ctl_reserve_read);
}

/* --- keys ------------------------------------------------------------------------------------- */

static void put_key_answer(struct mr_buf *out, struct mr_str text, const uint8_t sha256[32],
                           struct mr_str tenant, bool admin)
{
    mr_buf_printf(out, "{\"key\":\"%.*s\",\"sha256\":\"", MR_STR_ARG(text));
    mr_hex_put(out, sha256, 32);
    mr_buf_put_str(out, MR_STR("\",\"tenant\":"));
    mr_json_put_string(out, tenant);
    mr_buf_printf(out, ",\"role\":\"%s\"}", admin ? "admin" : "user");
}

static void op_key_new(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    uint8_t random[16];
    struct mr_buf text;
    yyjson_doc *doc = ctl_body_json(ctl, call);
    if (doc == NULL) return;
    yyjson_val *root = yyjson_doc_get_root(doc);
    struct mr_str tenant = mr_str_from(yyjson_get_str(yyjson_obj_get(root, "tenant")));
    struct mr_str role = mr_str_from(yyjson_get_str(yyjson_obj_get(root, "role")));
    bool admin = mr_str_equal(role, MR_STR("admin"));
    uint32_t id = ctl_tenant_find(&ctl->book, tenant);
    if (id == 0) {
        ctl_problem(call,
                    "no tenant '%.*s'; make it first: millrace key --tenant NAME --new-tenant",
                    (int)MR_MIN(tenant.n, 64u), tenant.p != NULL ? tenant.p : "");
        ctl_answer(ctl, call, MR_ENOT_FOUND);
    } else if (!admin && role.n > 0 && !mr_str_equal(role, MR_STR("user"))) {
        ctl_refuse(ctl, call, MR_EINVALID, "role: wants user or admin");
    } else if (ctl->book.key_count >= CTL_KEYS_MAX) {
        ctl_refuse(ctl, call, MR_ELIMIT, "no more keys fit; revoke some");
    } else {
        struct ctl_record record = {
            .kind = CTL_RECORD_KEY,
            .key = {.tenant = id, .role = admin ? MR_KEY_ADMIN : MR_KEY_USER}};
        mr_buf_init(&text, 64);
        ctl->env->ops->random(ctl->env, random);
        mr_buf_put_str(&text, MR_STR("mr-"));
        mr_hex_put(&text, random, sizeof random);
        mr_sha256(text.p, text.n, record.key.sha256);
        put_key_answer(&call->out, mr_buf_str(&text), record.key.sha256, tenant, admin);
        ctl_change(ctl, call, &record);
        mr_buf_done(&text);
    }
    yyjson_doc_free(doc);
}

static void op_key_revoke(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    struct ctl_record record = {.kind = CTL_RECORD_KEY, .revoked = true};
    yyjson_doc *doc = ctl_body_json(ctl, call);
    if (doc == NULL) return;
    struct mr_str key =
        mr_str_from(yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "key")));
    struct mr_str hex =
        mr_str_from(yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "sha256")));
    bool known = false;
    if (key.n > 0) mr_sha256(key.p, key.n, record.key.sha256);
    if (key.n == 0 && mr_hex_get(hex, record.key.sha256, 32) != 0) {
        ctl_refuse(ctl, call, MR_EINVALID, "give key, or sha256 with 64 hex digits");
        yyjson_doc_free(doc);
        return;
    }
    for (size_t i = 0; i < ctl->book.key_count; i++) {
        known = known || memcmp(ctl->book.keys[i].sha256, record.key.sha256, 32) == 0;
    }
    if (!known) {
        ctl_refuse(ctl, call, MR_ENOT_FOUND, "no such key");
    } else {
        mr_buf_put_str(&call->out, MR_STR("{\"revoked\":true}"));
        ctl_change(ctl, call, &record);
    }
    yyjson_doc_free(doc);
}

/* --- from gates ------------------------------------------------------------------------------- */

static void op_meter(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    struct ctl_record record = {.kind = CTL_RECORD_EVENT,
                                .event = {.kind = MR_EVENT_METER, .u.meter = call->meter}};
    ctl_change(ctl, call, &record);
}

/* --- dispatch --------------------------------------------------------------------------------- */

static bool is_admins(enum mr_ctl_op op)
{
    return op == MR_CTL_NODE || op == MR_CTL_DOMAIN || op == MR_CTL_NODE_SET ||
           op == MR_CTL_TENANT_SET || op == MR_CTL_RESERVE || op == MR_CTL_KEY_NEW ||
           op == MR_CTL_KEY_REVOKE || op == MR_CTL_SNAPSHOT;
}

static void dispatch(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    switch (call->op) {
    case MR_CTL_SUBMIT:
        ctl_submit_take(ctl, call);
        break;
    case MR_CTL_CANCEL:
        op_cancel(ctl, call);
        break;
    case MR_CTL_SCALE:
        op_scale(ctl, call);
        break;
    case MR_CTL_NODE:
    case MR_CTL_DOMAIN:
        ctl_node_state_take(ctl, call);
        break;
    case MR_CTL_NODE_SET:
        ctl_node_take(ctl, call);
        break;
    case MR_CTL_TENANT_SET:
        op_tenant_set(ctl, call);
        break;
    case MR_CTL_RESERVE:
        op_reserve(ctl, call);
        break;
    case MR_CTL_KEY_NEW:
        op_key_new(ctl, call);
        break;
    case MR_CTL_KEY_REVOKE:
        op_key_revoke(ctl, call);
        break;
    case MR_CTL_METER:
        op_meter(ctl, call);
        break;
    case MR_CTL_LOAD:
        ctl_load_take(ctl, call);
        break;
    case MR_CTL_WHEN:
        ctl_forecast(ctl, call);
        break;
    case MR_CTL_WHATIF:
        ctl_whatif(ctl, call);
        break;
    case MR_CTL_SNAPSHOT:
        ctl_snapshot_call(ctl, call);
        break;
    default:
        ctl_look(ctl, call);
    }
}

static void receive(struct mr_post *post)
{
    struct mr_ctl_call *call = (struct mr_ctl_call *)(void *)post;
    struct mr_ctl *ctl = call->ctl;
    mr_buf_init(&call->out, OUT_BYTES_MAX);
    mr_buf_init(&call->out_text, 65536);
    call->error = 0;
    call->problem = call->problem_param = (struct mr_str){0};
    if (!ctl->live || ctl->dead || (ctl->stopping && call->op != MR_CTL_METER)) {
        ctl_refuse(ctl, call, MR_EUNAVAILABLE, "Millrace is stopping");
    } else if (is_admins(call->op) && !call->admin) {
        ctl_refuse(ctl, call, MR_EFORBIDDEN, "this needs an administrator's key");
    } else {
        dispatch(ctl, call);
    }
}

void mr_ctl_call(struct mr_env *from, struct mr_ctl_call *call)
{
    call->post.fn = receive;
    from->ops->post(from, 0, &call->post);
}
