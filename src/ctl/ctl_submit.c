/* SPDX-License-Identifier: Apache-2.0 */
/* Submissions: one document or a batch of them, read, checked against the fleet and journalled.
 *
 * Owns:       a call's group from its first record to its answer.
 * Invariants: (1) equal idempotency keys of one tenant are one workload; (2) the answers of a batch
 *             stand in the order of its documents, taken or refused.
 * Cost:       linear in the documents.
 */
#include <stdlib.h>
#include <yyjson.h>

#include "ctl/ctl_int.h"

static bool name_is_served(const struct mr_ctl *ctl, const char *name)
{
    for (size_t i = 0; i < ctl->book.service_count; i++) {
        struct mr_workload_info info;
        const struct ctl_spec *spec = ctl_spec_find(&ctl->book, ctl->book.services[i]);
        if (spec == NULL || strcmp(spec->served_name, name) != 0) continue;
        if (mr_core_workload(ctl->core, (struct mr_workload_id){spec->workload}, &info) != 0)
            continue;
        if (!mr_state_final(info.state)) return true;
    }
    return false;
}

/* A digest over tenant, place in the batch and key: keys of two tenants never meet. */
void ctl_key_of(const struct mr_ctl_call *call, struct mr_tenant_id tenant, uint32_t index,
                uint64_t *ret_high, uint64_t *ret_low)
{
    struct mr_buf text;
    uint8_t digest[32];
    if (call->key.n == 0) return;
    mr_buf_init(&text, SIZE_MAX);
    mr_buf_put_u32(&text, tenant.v);
    mr_buf_put_u32(&text, index);
    mr_buf_put_str(&text, call->key);
    mr_sha256(text.p, text.n, digest);
    struct mr_reader reader = mr_reader_from((struct mr_str){(const char *)digest, sizeof digest});
    *ret_high = mr_read_u64(&reader);
    *ret_low = mr_read_u64(&reader) | 1; /* both 0 would be none */
    mr_buf_done(&text);
}

static void key_of(const struct mr_ctl_call *call, uint32_t index, struct mr_event_submit *event)
{
    ctl_key_of(call, event->tenant, index, &event->key_high, &event->key_low);
}

/* Reads one document into a record; `document` must outlive the push. */
int ctl_submit_read(struct mr_ctl *ctl, struct mr_ctl_call *call, yyjson_val *document,
                    struct ctl_submit *submit, struct mr_buf *problem, struct mr_str *param)
{
    uint64_t now_us = ctl->env->ops->now_us(ctl->env);
    int error = ctl_spec_read(&ctl->book, document, now_us, submit, problem, param);
    if (error != 0) return error;
    submit->event.tenant = call->tenant;
    if (submit->tenant[0] != 0) {
        uint32_t id = ctl_tenant_find(&ctl->book, mr_str_from(submit->tenant));
        if (id == 0 || (!call->admin && id != call->tenant.v)) {
            mr_buf_printf(problem, "tenant: no tenant '%s' that this key may submit for",
                          submit->tenant);
            return MR_EINVALID;
        }
        submit->event.tenant.v = id;
    }
    if (submit->event.tenant.v == 0) {
        submit->event.tenant.v = ctl_tenant_find(&ctl->book, MR_STR("default"));
    }
    struct mr_workload_id reservation = submit->event.reservation;
    struct mr_workload_info info;
    if (reservation.v != 0 && (mr_core_workload(ctl->core, reservation, &info) != 0 ||
                               info.kind != MR_KIND_RESERVATION || info.maintenance)) {
        mr_buf_printf(problem, "reservation: no reservation %llu; `millrace reserve` lists them",
                      (unsigned long long)reservation.v);
        return MR_EINVALID;
    }
    struct mr_reason reason;
    if (mr_core_possible(ctl->core, &submit->event, &reason)) return 0;
    mr_reason_put(problem, &reason);
    return MR_EINVALID;
}

static int submit_push(struct mr_ctl *ctl, struct ctl_group_call *group, yyjson_val *document,
                       const struct ctl_submit *submit)
{
    size_t n = 0;
    char *json = yyjson_val_write(document, 0, &n);
    if (json == NULL) return MR_ENO_MEMORY;
    struct ctl_record record = {.kind = CTL_RECORD_SUBMIT,
                                .event = {.kind = MR_EVENT_SUBMIT,
                                          .time_us = ctl->env->ops->now_us(ctl->env),
                                          .u.submit = submit->event},
                                .name = mr_str_from(submit->name),
                                .served_name = mr_str_from(submit->served_name),
                                .document = {json, n},
                                .shared = group->call->admin};
    int error = n > MR_SPEC_BYTES_MAX ? MR_ETOO_LARGE : 0;
    if (error == 0 && ctl_push(ctl, &record, group) == NULL) error = MR_ELIMIT;
    free(json);
    return error;
}

static void submit_one(struct mr_ctl *ctl, struct mr_ctl_call *call, yyjson_val *document)
{
    struct ctl_submit submit;
    struct mr_buf problem;
    struct mr_str param = {0};
    mr_buf_init(&problem, 4096);
    int error = ctl_submit_read(ctl, call, document, &submit, &problem, &param);
    if (error == 0) key_of(call, 0, &submit.event);
    if (error != 0) {
        (void)ctl_field_problem(ctl, call, &problem, param.n);
    } else if (submit.served_name[0] != 0 && call->key.n == 0 &&
               name_is_served(ctl, submit.served_name)) {
        ctl_problem(call,
                    "a model is served as '%s' already; give another name, or cancel that one",
                    submit.served_name);
        ctl_answer(ctl, call, MR_EEXISTS);
    } else {
        struct ctl_group_call *group = ctl_group_new(ctl, call, 1);
        error = group != NULL ? submit_push(ctl, group, document, &submit) : 0;
        if (error != 0) {
            mr_free(group);
            ctl_refuse(ctl, call, error,
                       error == MR_ELIMIT ? "too many submissions wait for the disk; try "
                                            "again in a moment"
                                          : mr_error_text(error));
        } else {
            ctl_commit(ctl);
        }
    }
    mr_buf_done(&problem);
}

void ctl_batch_problem(struct ctl_group_call *group, const struct mr_buf *problem, int error)
{
    struct mr_buf *out = &group->call->out;
    if (group->number++ > 0) mr_buf_put_char(out, ',');
    mr_buf_printf(out, "{\"error\":{\"code\":\"%s\",\"message\":", mr_error_name(error));
    mr_json_put_string(out,
                       problem->n > 0 ? mr_buf_str(problem) : mr_str_from(mr_error_text(error)));
    mr_buf_put_str(out, MR_STR("}}"));
}

/* Each document is taken or refused by itself, in order. A refused one in the middle would break
 * the order of answers, so all are read before any is pushed. */
static void submit_batch(struct mr_ctl *ctl, struct mr_ctl_call *call, yyjson_val *list)
{
    size_t count = yyjson_arr_size(list), index, max;
    yyjson_val *document;
    struct mr_buf problem;
    if (count == 0 || count > MR_BATCH_MAX) {
        ctl_problem(call, "workloads: wants 1 to %u documents, not %zu", MR_BATCH_MAX, count);
        ctl_answer(ctl, call, MR_ETOO_LARGE);
        return;
    }
    struct ctl_group_call *group = ctl_group_new(ctl, call, 1);
    if (group == NULL) return;
    group->batch = true;
    mr_buf_put_str(&call->out, MR_STR("{\"workloads\":["));
    mr_buf_init(&problem, 4096);
    uint32_t pushed = 0;
    yyjson_arr_foreach(list, index, max, document)
    {
        struct ctl_submit submit;
        struct mr_str param = {0};
        mr_buf_reset(&problem);
        int error = ctl_submit_read(ctl, call, document, &submit, &problem, &param);
        if (error == 0) {
            key_of(call, (uint32_t)index + 1, &submit.event);
            group->left++;
            error = submit_push(ctl, group, document, &submit);
            if (error != 0) group->left--;
            pushed += error == 0;
        }
        if (error != 0 && pushed > 0) {
            /* Its place among the answers comes when those before it are through. */
            struct ctl_record nothing = {.kind = CTL_RECORD_EVENT,
                                         .event = {.kind = MR_EVENT_TICK}};
            nothing.event.time_us = ctl->env->ops->now_us(ctl->env);
            struct ctl_pending *pending = ctl_push(ctl, &nothing, group);
            if (pending != NULL) {
                group->left++;
                pending->refused = error;
                mr_buf_init(&pending->problem, 4096);
                mr_buf_put_str(&pending->problem, mr_buf_str(&problem));
            } else {
                ctl_batch_problem(group, &problem, error);
            }
        } else if (error != 0) {
            ctl_batch_problem(group, &problem, error);
        }
    }
    mr_buf_done(&problem);
    if (--group->left == 0) { /* none was taken */
        mr_buf_put_str(&call->out, MR_STR("]}"));
        ctl_answer(ctl, call, 0);
        mr_free(group);
        return;
    }
    ctl_commit(ctl);
}

void ctl_submit_take(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    yyjson_read_err why;
    yyjson_doc *doc =
        yyjson_read_opts((char *)(uintptr_t)call->body.p, call->body.n, 0, NULL, &why);
    yyjson_val *root = yyjson_doc_get_root(doc), *list = yyjson_obj_get(root, "workloads");
    if (doc == NULL) {
        ctl_problem(call, "the document is no JSON: %s at byte %zu", why.msg, why.pos);
        ctl_answer(ctl, call, MR_ESYNTAX);
    } else if (yyjson_is_arr(list) && yyjson_obj_size(root) > 1) {
        ctl_problem(call, "workloads: nothing else may stand beside it");
        ctl_answer(ctl, call, MR_EINVALID);
    } else if (yyjson_is_arr(list)) {
        submit_batch(ctl, call, list);
    } else {
        submit_one(ctl, call, root);
    }
    yyjson_doc_free(doc);
}
