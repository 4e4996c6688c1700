/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that change nothing: lists, reasons, files, figures, as JSON.
 *
 * Owns:  nothing.
 * Cost:  O(1) for one workload; a list is O(what it looks through), at most CTL_QUEUE_SCAN_MAX.
 */
#include <stdio.h>

#include "ctl/ctl_int.h"

#define FILE_BYTES_MAX (1024u * 1024u)

bool ctl_may_see(const struct mr_ctl_call *call, struct mr_tenant_id tenant)
{
    return call->admin || tenant.v == call->tenant.v;
}

void ctl_put_reason(struct mr_buf *out, const struct mr_reason *reason)
{
    struct mr_buf text;
    mr_buf_init(&text, 4096);
    if (reason->code != MR_REASON_NONE) mr_reason_put(&text, reason);
    mr_json_put_string(out, mr_buf_str(&text));
    mr_buf_done(&text);
}

/* --- one workload ----------------------------------------------------------------------------- */

void ctl_put_time(struct mr_buf *out, const char *name, uint64_t time_us)
{
    mr_buf_printf(out, ",\"%s\":", name);
    if (time_us == 0) {
        mr_buf_put_str(out, MR_STR("null"));
        return;
    }
    mr_buf_put_char(out, '"');
    mr_time_put_rfc3339(out, time_us);
    mr_buf_put_char(out, '"');
}

static const char *signal_name(int32_t number)
{
    static const struct {
        int32_t number;
        const char *name;
    } names[] = {{1, "hangup"},          {2, "interrupt"},           {4, "illegal instruction"},
                 {6, "aborted"},         {7, "bus error"},           {8, "arithmetic error"},
                 {9, "killed"},          {11, "segmentation fault"}, {15, "terminated"},
                 {24, "CPU time limit"}, {25, "file size limit"}};
    for (size_t i = 0; i < MR_COUNT_OF(names); i++) {
        if (names[i].number == number) return names[i].name;
    }
    return "signal";
}

static void put_exit(struct mr_buf *out, enum mr_exit_kind kind, int32_t code)
{
    static const char *const names[] = {"code",       "signal",       "out_of_memory",
                                        "time_limit", "start_failed", "lost"};
    mr_buf_printf(out, ",\"exit\":{\"kind\":\"%s\",\"code\":%d,\"text\":\"", names[kind], code);
    switch (kind) {
    case MR_EXIT_CODE:
        mr_buf_printf(out, "exited with code %d", code);
        break;
    case MR_EXIT_SIGNAL:
        mr_buf_printf(out, "ended by signal %d (%s)", code, signal_name(code));
        break;
    case MR_EXIT_OUT_OF_MEMORY:
        mr_buf_printf(out, "used more than its memory limit");
        break;
    case MR_EXIT_TIME_LIMIT:
        mr_buf_printf(out, "ran longer than its time limit");
        break;
    case MR_EXIT_START_FAILED:
        mr_buf_printf(out, "could not be started (error %d)", code);
        break;
    default:
        mr_buf_printf(out, "its node or supervisor is gone");
    }
    mr_buf_put_str(out, MR_STR("\"}"));
}

static void put_nodes(struct mr_ctl *ctl, struct mr_buf *out, struct mr_workload_id id)
{
    struct mr_lease_info lease;
    uint32_t cursor = 0;
    bool first = true;
    mr_buf_put_str(out, MR_STR(",\"nodes\":["));
    while (mr_core_lease_of(ctl->core, id, &cursor, &lease) == 0) {
        mr_buf_printf(out, "%s%u", first ? "" : ",", lease.node.v);
        first = false;
    }
    struct mr_window_info window; /* a reservation's */
    cursor = 0;
    while (mr_core_window_next(ctl->core, id, (struct mr_node_id){0}, &cursor, &window) == 0) {
        mr_buf_printf(out, "%s%u", first ? "" : ",", window.node.v);
        first = false;
    }
    mr_buf_put_char(out, ']');
}

void ctl_put_workload(struct mr_ctl *ctl, struct mr_buf *out, const struct mr_workload_info *info)
{
    static const char *const kinds[MR_KIND_COUNT] = {"job", "service", "pool", "reservation"};
    const struct ctl_spec *spec = ctl_spec_find(&ctl->book, info->id.v);
    mr_buf_printf(out, "{\"id\":%llu,\"name\":", (unsigned long long)info->id.v);
    mr_json_put_string(out, mr_str_from(spec != NULL ? spec->name : "?"));
    mr_buf_printf(
        out, ",\"kind\":\"%s\",\"tenant\":", info->maintenance ? "maintenance" : kinds[info->kind]);
    mr_json_put_string(out, mr_str_from(ctl_tenant_name(&ctl->book, info->tenant.v)));
    mr_buf_printf(out, ",\"state\":\"%s\",\"reason\":", mr_state_name(info->state));
    ctl_put_reason(out, &info->reason);
    mr_buf_printf(out,
                  ",\"tasks\":%u,\"tasks_min\":%u,\"tasks_max\":%u,\"target\":%u,\"ready\":%u,"
                  "\"priority\":%u,\"run\":%u,\"restarts\":%u,\"checkpoint_step\":%u",
                  info->tasks, info->tasks_min, info->tasks_max, info->target, info->ready,
                  info->priority, info->run, info->restarts, info->checkpoint_step);
    put_nodes(ctl, out, info->id);
    if (info->reservation.v != 0)
        mr_buf_printf(out, ",\"reservation\":%llu", (unsigned long long)info->reservation.v);
    ctl_put_time(out, "begin", info->begin_us);
    if (info->deadline_us != 0) {
        ctl_put_time(out, "deadline", info->deadline_us);
        mr_buf_printf(out, ",\"promised\":%s", info->promised ? "true" : "false");
        ctl_put_time(out, "planned_end", info->planned_us);
    }
    ctl_put_time(out, "submitted", info->submitted_us);
    ctl_put_time(out, "started", info->started_us);
    ctl_put_time(out, "ended", info->ended_us);
    if (mr_state_final(info->state) && info->run > 0 && info->state != MR_STATE_CANCELLED) {
        put_exit(out, info->exit, info->exit_code);
    } else {
        mr_buf_put_str(out, MR_STR(",\"exit\":null"));
    }
    mr_buf_put_char(out, '}');
}

bool ctl_find(struct mr_ctl *ctl, struct mr_ctl_call *call, struct mr_workload_info *ret)
{
    if (mr_core_workload(ctl->core, (struct mr_workload_id){call->id}, ret) == 0 &&
        ctl_may_see(call, ret->tenant)) {
        return true;
    }
    ctl_problem(call, "no workload %llu", (unsigned long long)call->id);
    call->error = MR_ENOT_FOUND;
    return false;
}

/* --- the queue -------------------------------------------------------------------------------- */

struct filter {
    struct mr_str state, tenant;
    uint64_t limit, after;
};

static struct filter filter_of(struct mr_str query)
{
    struct filter filter = {.limit = CTL_QUEUE_LIMIT};
    struct mr_str part;
    while (mr_str_split(&query, '&', &part)) {
        struct mr_str value = part, name;
        if (!mr_str_split(&value, '=', &name) || value.p == NULL) continue;
        if (mr_str_equal(name, MR_STR("state"))) filter.state = value;
        if (mr_str_equal(name, MR_STR("tenant"))) filter.tenant = value;
        if (mr_str_equal(name, MR_STR("limit"))) (void)mr_str_to_u64(value, &filter.limit);
        if (mr_str_equal(name, MR_STR("after"))) (void)mr_str_to_u64(value, &filter.after);
    }
    filter.limit = MR_MAX(1u, MR_MIN(filter.limit, (uint64_t)CTL_QUEUE_LIMIT_MAX));
    return filter;
}

static void look_queue(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    struct mr_buf *out = &call->out;
    struct mr_workload_info info;
    if (call->id != 0) {
        if (!ctl_find(ctl, call, &info)) return;
        mr_buf_put_str(out, MR_STR("{\"workloads\":["));
        ctl_put_workload(ctl, out, &info);
        mr_buf_put_str(out, MR_STR("]}"));
        return;
    }
    struct filter filter = filter_of(call->query);
    uint64_t found = 0, seen = 0;
    bool more = false;
    info.id.v = filter.after;
    mr_buf_put_str(out, MR_STR("{\"workloads\":["));
    while (!more && mr_core_workload_next(ctl->core, info.id, &info) == 0) {
        const char *tenant = ctl_tenant_name(&ctl->book, info.tenant.v);
        if (++seen > CTL_QUEUE_SCAN_MAX) more = true;
        if (!ctl_may_see(call, info.tenant)) continue;
        if (filter.state.n > 0 &&
            !mr_str_equal(filter.state, mr_str_from(mr_state_name(info.state)))) {
            continue;
        }
        if (filter.tenant.n > 0 && !mr_str_equal(filter.tenant, mr_str_from(tenant))) continue;
        if (found == filter.limit) {
            more = true;
            break;
        }
        if (found++ > 0) mr_buf_put_char(out, ',');
        ctl_put_workload(ctl, out, &info);
    }
    mr_buf_printf(out, "],\"has_more\":%s}", more ? "true" : "false");
}

static void look_why(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    static const char *const resources[] = {"cpu", "memory", "accelerator"};
    struct mr_workload_info info;
    struct mr_reason reason;
    if (!ctl_find(ctl, call, &info)) return;
    reason = info.reason;
    if (info.state == MR_STATE_PENDING)
        (void)mr_core_why(ctl->core, info.id, &reason); /* else as kept */
    mr_buf_printf(&call->out,
                  "{\"id\":%llu,\"state\":\"%s\",\"reason\":", (unsigned long long)info.id.v,
                  mr_state_name(info.state));
    ctl_put_reason(&call->out, &reason);
    mr_buf_printf(
        &call->out, ",\"code\":\"%s\",\"resource\":\"%s\",\"a\":%llu,\"b\":%llu,\"c\":%llu}",
        mr_reason_name(reason.code), resources[reason.resource % 3], (unsigned long long)reason.a,
        (unsigned long long)reason.b, (unsigned long long)reason.c);
}

/* --- the fleet -------------------------------------------------------------------------------- */

static void put_models(struct mr_ctl *ctl, const struct mr_ctl_call *call, struct mr_buf *out)
{
    bool first = true;
    mr_buf_put_str(out, MR_STR(",\"models\":["));
    for (size_t i = 0; ctl->routes != NULL && i < ctl->routes->model_count; i++) {
        const struct mr_route_model *model = &ctl->routes->models[i];
        struct mr_workload_info info;
        if (model->owner.v != 0 && !ctl_may_see(call, model->owner)) continue;
        if (mr_core_workload(ctl->core, model->service, &info) != 0) continue;
        mr_buf_put_str(out, first ? MR_STR("{\"name\":") : MR_STR(",{\"name\":"));
        mr_json_put_string(out, model->name);
        mr_buf_printf(out, ",\"workload\":%llu,\"replicas\":%u,\"ready\":%u}",
                      (unsigned long long)info.id.v, info.tasks, info.ready);
        first = false;
    }
    mr_buf_put_char(out, ']');
}

static void look_status(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    struct mr_totals t;
    struct mr_store_stats store = {0};
    struct mr_buf *out = &call->out;
    uint64_t now_us = ctl->env->ops->now_us(ctl->env);
    mr_core_totals(ctl->core, &t);
    ctl->store->ops->stats(ctl->store, &store);
    mr_buf_printf(out,
                  "{\"version\":\"%s\",\"uptime_s\":%llu,\"epoch\":%llu,\"seq\":%llu,"
                  "\"state_hash\":\"%016llx\",",
                  MR_VERSION, (unsigned long long)((now_us - ctl->started_us) / 1000000u),
                  (unsigned long long)ctl->epoch, (unsigned long long)ctl->seq,
                  (unsigned long long)mr_core_hash(ctl->core));
    mr_buf_printf(
        out,
        "\"totals\":{\"nodes_up\":%u,\"nodes_down\":%u,\"nodes_draining\":%u,"
        "\"nodes_expected\":%u,\"pending\":%u,"
        "\"running\":%u,\"leases\":%u,\"cpu_milli\":%llu,\"cpu_free_milli\":%llu,"
        "\"mem_mib\":%llu,\"mem_free_mib\":%llu,\"accel_milli\":%llu,\"accel_free_milli\":%llu}",
        t.nodes_up, t.nodes_down, t.nodes_draining, t.nodes_expected, t.pending, t.running,
        t.leases, (unsigned long long)t.cpu_milli, (unsigned long long)t.cpu_free_milli,
        (unsigned long long)t.mem_mib, (unsigned long long)t.mem_free_mib,
        (unsigned long long)t.accel_milli, (unsigned long long)t.accel_free_milli);
    put_models(ctl, call, out);
    mr_buf_printf(out,
                  ",\"journal\":{\"records\":%llu,\"bytes\":%llu,\"commits\":%llu,\"full\":%s}}",
                  (unsigned long long)store.records, (unsigned long long)store.bytes,
                  (unsigned long long)store.commits, ctl->full ? "true" : "false");
}

/* --- files ------------------------------------------------------------------------------------ */

/* Inside the workload's folder and nowhere else: no absolute name, no "..". */
static bool name_is_safe(struct mr_str name)
{
    struct mr_str part;
    if (name.n == 0 || name.p[0] == '/' || memchr(name.p, 0, name.n) != NULL) return false;
    while (mr_str_split(&name, '/', &part)) {
        if (part.n == 0 || mr_str_equal(part, MR_STR(".")) || mr_str_equal(part, MR_STR(".."))) {
            return false;
        }
    }
    return true;
}

/* Where the oldest byte of a log is that was not rotated away: the engine tells it under a name of
 * its own. 0 when it is no log. */
static uint64_t log_oldest(struct mr_ctl *ctl, struct mr_ctl_call *call, struct mr_workload_id id)
{
    bool out = mr_str_equal(call->name, MR_STR("stdout"));
    uint64_t oldest = 0;
    if (!out && !mr_str_equal(call->name, MR_STR("stderr"))) return 0;
    int error = ctl->engine->ops->file_read(ctl->engine, id, call->run, call->rank,
                                            out ? MR_STR("stdout.base") : MR_STR("stderr.base"), 0,
                                            32, &call->out);
    if (error != 0 || mr_str_to_u64(mr_buf_str(&call->out), &oldest) != 0) oldest = 0;
    mr_buf_reset(&call->out);
    return oldest;
}

static void look_file(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    struct mr_workload_info info;
    size_t most = call->limit != 0 ? MR_MIN(call->limit, FILE_BYTES_MAX) : FILE_BYTES_MAX;
    if (!ctl_find(ctl, call, &info)) return;
    if (!name_is_safe(call->name)) {
        ctl_problem(call, "'%.*s' is no name of a file of a workload", MR_STR_ARG(call->name));
        call->error = MR_EINVALID;
        return;
    }
    call->error = ctl->engine->ops->file_read(ctl->engine, info.id, call->run, call->rank,
                                              call->name, call->offset, most, &call->out);
    if (call->error == MR_ESTATE) {
        /* The beginning was rotated away: on from what is left, and the call says where that is. */
        call->offset = MR_MAX(call->offset, log_oldest(ctl, call, info.id));
        call->error = ctl->engine->ops->file_read(ctl->engine, info.id, call->run, call->rank,
                                                  call->name, call->offset, most, &call->out);
    }
    if (call->error == MR_ENOT_FOUND) {
        ctl_problem(call, "workload %llu has no %.*s%s", (unsigned long long)info.id.v,
                    MR_STR_ARG(call->name), info.run == 0 ? " yet: it has not started" : "");
    }
}

void ctl_look(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    call->error = 0;
    switch (call->op) {
    case MR_CTL_QUEUE:
        look_queue(ctl, call);
        break;
    case MR_CTL_WHY:
        look_why(ctl, call);
        break;
    case MR_CTL_FLEET:
        ctl_put_fleet(ctl, &call->out);
        break;
    case MR_CTL_TIMELINE:
        ctl_put_timeline(ctl, call);
        break;
    case MR_CTL_TENANTS:
        ctl_put_tenants(ctl, call, &call->out);
        break;
    case MR_CTL_RESERVATIONS:
        ctl_put_reservations(ctl, call, &call->out);
        break;
    case MR_CTL_USAGE:
        ctl_put_usage(ctl, call, &call->out);
        break;
    case MR_CTL_STATUS:
        look_status(ctl, call);
        break;
    case MR_CTL_FILE:
        look_file(ctl, call);
        break;
    case MR_CTL_METRICS:
        ctl_put_metrics(ctl, &call->out);
        break;
    default:
        call->error = MR_EUNSUPPORTED;
    }
    ctl_answer(ctl, call, call->error);
}
