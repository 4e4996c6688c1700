/* SPDX-License-Identifier: Apache-2.0 */
/* `whatif`: what a change would do, before it is made. The body says one change:
 *
 *   {"submit": {…a workload document…}}      {"cancel": ID}
 *   {"reserve": {…a reservation…}}           {"scale": {"id": ID, "min": N, "max": N}}
 *   {"tenant": {…a tenant…}}                 {"node": {"id": ID, "state": "down"}}
 *                                            {"domain": {"id": ID, "state": "down"}}
 *
 * Owns:       a question from its call to its answer.
 * Invariants: (1) nothing is journalled, nothing changes;
 *             (2) a tenant's key asks about its own work, is told of its own work, and of how many
 *                 others; all else needs an administrator's.
 * Fails:      as the change itself would, with the field's full name.
 */
#include <stdio.h>
#include <yyjson.h>

#include "ctl/ctl_field.h"
#include "ctl/ctl_int.h"

#define SHIFTS_MAX 256u

struct whatif {
    struct ctl_question q;
    const char *kind;
    struct mr_forecast_change change;
    struct mr_forecast_whatif effect;
    struct mr_forecast_shift shifts[SHIFTS_MAX];
    bool admin;
    struct mr_tenant_id tenant;
};

/* --- reading ---------------------------------------------------------------------------------- */

static int read_submit(struct mr_ctl *ctl, struct mr_ctl_call *call, const struct ctl_fields *f,
                       struct mr_event *ret)
{
    struct ctl_submit submit;
    int error =
        ctl_submit_read(ctl, call, yyjson_obj_get(f->map, "submit"), &submit, f->problem, f->param);
    if (error != 0) return error;
    ret->kind = MR_EVENT_SUBMIT;
    ret->u.submit = submit.event;
    return 0;
}

/* Its own, or any for an administrator. */
static int read_workload(struct mr_ctl *ctl, struct mr_ctl_call *call, const struct ctl_fields *f,
                         const char *name, struct mr_workload_info *ret)
{
    uint64_t id = 0;
    int error = ctl_field_u64(f, name, 1, UINT64_MAX, &id);
    if (error != 0) return error;
    if (mr_core_workload(ctl->core, (struct mr_workload_id){id}, ret) != 0 ||
        !ctl_may_see(call, ret->tenant))
        return ctl_field_wrong(f, name, "no workload %llu", (unsigned long long)id);
    if (mr_state_final(ret->state))
        return ctl_field_wrong(f, name, "workload %llu has ended", (unsigned long long)id);
    return 0;
}

static int read_cancel(struct mr_ctl *ctl, struct mr_ctl_call *call, const struct ctl_fields *f,
                       struct mr_event *ret)
{
    struct mr_workload_info info;
    int error = read_workload(ctl, call, f, "cancel", &info);
    if (error != 0) return error;
    ret->kind = MR_EVENT_CANCEL;
    ret->u.cancel = info.id;
    return 0;
}

static struct ctl_fields fields_in(const struct ctl_fields *top, const char *name,
                                   const char *prefix)
{
    struct ctl_fields f = *top;
    f.map = yyjson_obj_get(top->map, name);
    f.prefix = prefix;
    return f;
}

static int read_scale(struct mr_ctl *ctl, struct mr_ctl_call *call, const struct ctl_fields *top,
                      struct mr_event *ret)
{
    struct ctl_fields f = fields_in(top, "scale", "scale.");
    struct mr_workload_info info;
    int error = read_workload(ctl, call, &f, "id", &info);
    if (error != 0) return error;
    return ctl_scale_read(&f, &info, ret);
}

static int read_node(struct mr_ctl *ctl, const struct ctl_fields *top, bool domain,
                     struct mr_event *ret)
{
    struct ctl_fields f = fields_in(top, domain ? "domain" : "node", domain ? "domain." : "node.");
    const struct mr_core_limits *limits = &ctl->config.limits;
    struct mr_node_info info;
    struct mr_str state = {0};
    uint64_t id = 0;
    int error = ctl_field_u64(&f, "id", 1, domain ? limits->domains : limits->nodes, &id);
    if (error == 0) error = ctl_field_text(&f, "state", 16, &state);
    if (error != 0) return error;
    struct mr_node_id node = {(uint32_t)id};
    if (id == 0 || (!domain && mr_core_node(ctl->core, node, &info) != 0))
        return ctl_field_wrong(&f, "id", "no such %s; `millrace fleet` lists them",
                               domain ? "domain" : "node");
    ret->kind = MR_EVENT_NODE_STATE;
    ret->u.node_state.id.v = domain ? 0 : node.v;
    ret->u.node_state.domain = domain ? node.v : 0;
    if (ctl_node_state_find(state, &ret->u.node_state.state)) return 0;
    return ctl_field_wrong(&f, "state", "wants " CTL_NODE_STATES);
}

/* A document that another call takes too. */
static int read_record(struct mr_ctl *ctl, struct mr_ctl_call *call, const struct ctl_fields *top,
                       bool tenant, struct mr_event *ret)
{
    struct ctl_fields f =
        fields_in(top, tenant ? "tenant" : "reserve", tenant ? "tenant." : "reserve.");
    struct ctl_record record = {.event = {.kind = tenant ? MR_EVENT_TENANT_SET : MR_EVENT_RESERVE}};
    if (!yyjson_is_obj(f.map))
        return ctl_field_wrong(top, tenant ? "tenant" : "reserve", "wants a map");
    int error =
        tenant ? ctl_tenant_read(ctl, call, &f, &record) : ctl_reserve_read(ctl, call, &f, &record);
    *ret = record.event;
    return error;
}

static int read_change(struct mr_ctl *ctl, struct mr_ctl_call *call, const struct ctl_fields *f,
                       struct mr_event *ret, const char **ret_kind)
{
    static const char *const kinds[] = {"submit", "cancel", "scale", "reserve",
                                        "tenant", "node",   "domain"};
    size_t kind = MR_COUNT_OF(kinds);
    int error = ctl_fields_known(f, kinds, MR_COUNT_OF(kinds));
    if (error != 0) return error;
    for (size_t i = 0; i < MR_COUNT_OF(kinds); i++) {
        if (yyjson_obj_get(f->map, kinds[i]) != NULL) kind = i;
    }
    if (yyjson_obj_size(f->map) != 1)
        return ctl_field_wrong(f, "submit",
                               "give one change: submit, cancel, scale, reserve, "
                               "tenant, node or domain");
    *ret_kind = kinds[kind];
    memset(ret, 0, sizeof *ret);
    if (kind > 2 && !call->admin) {
        ctl_field_wrong(f, kinds[kind], "needs an administrator's key");
        return MR_EFORBIDDEN;
    }
    if (kind == 0) return read_submit(ctl, call, f, ret);
    if (kind == 1) return read_cancel(ctl, call, f, ret);
    if (kind == 2) return read_scale(ctl, call, f, ret);
    if (kind > 4) return read_node(ctl, f, kind == 6, ret);
    return read_record(ctl, call, f, kind == 4, ret);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void put_seconds(struct mr_buf *out, const char *name, int64_t us)
{
    uint64_t all = (uint64_t)(us < 0 ? -us : us);
    mr_buf_printf(out, ",\"%s\":%s%llu.%03llu", name, us < 0 ? "-" : "",
                  (unsigned long long)(all / 1000000), (unsigned long long)(all / 1000 % 1000));
}

static void put_shift(const struct whatif *w, struct mr_buf *out, const struct mr_forecast_shift *s,
                      const struct mr_workload_info *info)
{
    const struct ctl_book *book = &w->q.ctl->book;
    const struct ctl_spec *spec = ctl_spec_find(book, s->workload.v);
    mr_buf_printf(out, "{\"id\":%llu,\"name\":", (unsigned long long)s->workload.v);
    mr_json_put_string(out, mr_str_from(spec != NULL ? spec->name : "?"));
    mr_buf_put_str(out, MR_STR(",\"tenant\":"));
    mr_json_put_string(out, mr_str_from(ctl_tenant_name(book, info->tenant.v)));
    mr_buf_printf(out, ",\"state\":\"%s\"", mr_state_name(info->state));
    ctl_put_band(out, "before", &s->before, w->q.now_us);
    ctl_put_band(out, "after", &s->after, w->q.now_us);
    put_seconds(out, "later_s", s->middle_us);
    put_seconds(out, "later_mean_s", s->mean_us);
    mr_buf_printf(out,
                  ",\"later_in\":%u,\"earlier_in\":%u,\"never_before\":%u,\"never_after\":%u,"
                  "\"stops_before\":%u,\"stops_after\":%u}",
                  s->later, s->earlier, s->never_before, s->never_after, s->stops_before,
                  s->stops_after);
}

static void put_guest(const struct whatif *w, struct mr_buf *out)
{
    const struct mr_forecast_whatif *e = &w->effect;
    mr_buf_put_str(out, MR_STR(",\"workload\":"));
    if (e->guest.v == 0) {
        mr_buf_put_str(out, MR_STR("null"));
        return;
    }
    mr_buf_printf(out, "{\"id\":%llu", (unsigned long long)e->guest.v);
    ctl_put_band(out, "start", &e->start, w->q.now_us);
    ctl_put_band(out, "end", &e->end, w->q.now_us);
    mr_buf_printf(out, ",\"cost_nusd\":%lld}", (long long)e->cost_nusd);
}

static int whatif_compute(struct ctl_question *q)
{
    struct whatif *w = (struct whatif *)(void *)q;
    return mr_forecast_whatif(q->core, &q->learned, &w->change, q->scratch, q->scratch_bytes,
                              &w->effect);
}

static int whatif_answer(struct ctl_question *q)
{
    struct whatif *w = (struct whatif *)(void *)q;
    const struct mr_forecast_whatif *e = &w->effect;
    struct mr_buf *out = &q->call->out;
    uint32_t others = e->changed - e->shift_count;
    bool first = true;
    if (e->error != 0) {
        struct mr_buf text;
        mr_buf_init(&text, 4096);
        if (e->reason.code != MR_REASON_NONE) mr_reason_put(&text, &e->reason);
        ctl_problem(
            q->call, "%.*s",
            MR_STR_ARG(text.n > 0 ? mr_buf_str(&text) : mr_str_from(mr_error_text(e->error))));
        mr_buf_done(&text);
        return e->error;
    }
    mr_buf_printf(out, "{\"change\":\"%s\"", w->kind);
    put_guest(w, out);
    mr_buf_put_str(out, MR_STR(",\"shifted\":["));
    for (uint32_t i = 0; i < e->shift_count; i++) {
        struct mr_workload_info info;
        bool known = mr_core_workload(q->core, w->shifts[i].workload, &info) == 0;
        if (!known || !(w->admin || info.tenant.v == w->tenant.v)) {
            others++;
            continue;
        }
        if (!first) mr_buf_put_char(out, ',');
        first = false;
        put_shift(w, out, &w->shifts[i], &info);
    }
    mr_buf_printf(out,
                  "],\"others_shifted\":%u,\"watched\":%u,\"left_out\":%u,\"samples\":%u,"
                  "\"cut\":%u,\"unknown\":%u,\"steps\":%llu}",
                  others, e->watched, e->left_out, e->samples, e->cut, e->unknown,
                  (unsigned long long)e->steps);
    return 0;
}

void ctl_whatif(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    yyjson_doc *doc = ctl_body_json(ctl, call);
    struct mr_buf problem;
    struct mr_str param = {0};
    struct mr_event event;
    const char *kind = "";
    if (doc == NULL) return;
    mr_buf_init(&problem, 4096);
    struct ctl_fields f = {
        .map = yyjson_doc_get_root(doc), .prefix = "", .problem = &problem, .param = &param};
    int error = read_change(ctl, call, &f, &event, &kind);
    if (error == MR_EFORBIDDEN) {
        ctl_problem(call, "%.*s", MR_STR_ARG(mr_buf_str(&problem)));
        ctl_answer(ctl, call, error);
    } else if (error != 0) {
        (void)ctl_field_problem(ctl, call, &problem, param.n);
    } else {
        size_t scratch_bytes = mr_forecast_whatif_bytes(&ctl->config.limits);
        struct whatif *w = (struct whatif *)(void *)ctl_question_new(
            ctl, call, sizeof(struct whatif), scratch_bytes);
        if (w != NULL) {
            w->q.compute = whatif_compute;
            w->q.answer = whatif_answer;
            w->kind = kind;
            w->admin = call->admin;
            w->tenant = call->tenant;
            w->change = (struct mr_forecast_change){.options = ctl_question_options(&w->q),
                                                    .event = event,
                                                    .shifts = w->shifts,
                                                    .shift_room = SHIFTS_MAX};
            ctl_question_ask(&w->q);
        }
    }
    mr_buf_done(&problem);
    yyjson_doc_free(doc);
}
