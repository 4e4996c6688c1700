/* SPDX-License-Identifier: Apache-2.0 */
/* Reservations as documents: what may be booked, and what is shown.
 *
 *   {"name": "run-42", "tenant": "research", "num_tasks": 16, "topology": "block",
 *    "resources": {"accelerators": "H100:8", "cpus": 96, "memory": "1TiB"},
 *    "begin": "2026-12-01T09:00:00Z", "duration": "14d"}
 *   {"name": "firmware", "maintenance": {"node": 7}, "begin": "8h", "duration": "2h"}
 *   {"name": "term ends", "maintenance": {"node": 101, "nodes": 36}, "begin":
 * "2034-01-01T00:00:00Z"}
 *
 * Owns:       nothing.
 * Invariants: (1) a tenant's key sees its own tenant's only, and maintenance.
 * Fails:      with the field's full name.
 */
#include <yyjson.h>

#include "ctl/ctl_field.h"
#include "ctl/ctl_int.h"

#define FOR_EVER_US ((uint64_t)1 << 58) /* the year 11,104 */

/* --- reading ---------------------------------------------------------------------------------- */

static int read_times(const struct ctl_fields *f, uint64_t now_us, struct mr_event_reserve *e)
{
    uint64_t duration_us = 0;
    bool ends = yyjson_obj_get(f->map, "end") != NULL;
    bool lasts = yyjson_obj_get(f->map, "duration") != NULL;
    e->begin_us = now_us;
    int error = ctl_field_when(f, "begin", now_us, &e->begin_us);
    if (error == 0 && e->maintenance && !ends && !lasts) { /* their term ends */
        e->begin_us = MR_MAX(e->begin_us, now_us);
        e->end_us = FOR_EVER_US;
        return 0;
    }
    if (error == 0 && ends == lasts)
        return ctl_field_wrong(f, "duration", "%s; give duration, like 4h, or end",
                               ends ? "and end are two ways to say one thing" : "is missing");
    if (error == 0) error = ctl_field_when(f, "end", now_us, &e->end_us);
    if (error == 0) error = ctl_field_duration(f, "duration", &duration_us);
    e->begin_us = MR_MAX(e->begin_us, now_us);
    if (error == 0 && lasts && !mr_add_u64(e->begin_us, duration_us, &e->end_us))
        return ctl_field_wrong(f, "duration", "is too long");
    if (error == 0 && e->end_us <= e->begin_us)
        return ctl_field_wrong(f, ends ? "end" : "duration", "must lie behind begin");
    return error;
}

static int read_maintenance(struct mr_ctl *ctl, const struct ctl_fields *top,
                            struct mr_event_reserve *e)
{
    static const char *const names[] = {"node", "nodes", "domain"};
    static const char *const others[] = {"num_tasks", "resources", "topology"};
    const struct mr_core_limits *limits = &ctl->config.limits;
    struct ctl_fields f = *top;
    struct mr_node_info info;
    uint64_t node = 0, nodes = 1, domain = 0;
    f.map = yyjson_obj_get(top->map, "maintenance");
    f.prefix = "maintenance.";
    for (size_t i = 0; i < MR_COUNT_OF(others); i++) {
        if (yyjson_obj_get(top->map, others[i]) != NULL)
            return ctl_field_wrong(top, others[i], "is not for maintenance, which names nodes");
    }
    if (!yyjson_is_obj(f.map))
        return ctl_field_wrong(top, "maintenance",
                               "wants {node: ID, nodes: HOW MANY} or {domain: ID}");
    int error = ctl_fields_known(&f, names, MR_COUNT_OF(names));
    if (error == 0) error = ctl_field_u64(&f, "node", 1, limits->nodes, &node);
    if (error == 0) error = ctl_field_u64(&f, "nodes", 1, limits->nodes, &nodes);
    if (error == 0) error = ctl_field_u64(&f, "domain", 1, limits->domains, &domain);
    if (error == 0 && domain != 0 && nodes > 1)
        return ctl_field_wrong(&f, "nodes", "goes with node, from which on they are counted");
    if (error == 0 && (node != 0) == (domain != 0))
        return ctl_field_wrong(top, "maintenance", "wants one of {node: ID} and {domain: ID}");
    e->node.v = (uint32_t)node;
    e->nodes = node != 0 ? (uint32_t)nodes : 0;
    e->domain = (uint32_t)domain;
    for (uint64_t id = node; error == 0 && node != 0 && id < node + nodes; id++) {
        struct mr_node_id each = {(uint32_t)id};
        if (id > limits->nodes || mr_core_node(ctl->core, each, &info) != 0)
            return ctl_field_wrong(&f, "node", "no node %llu; `millrace fleet` lists them",
                                   (unsigned long long)id);
    }
    e->maintenance = true;
    return error;
}

static int read_size(struct mr_ctl *ctl, const struct ctl_fields *f, struct mr_event_reserve *e)
{
    uint64_t tasks = 1;
    int error = ctl_field_u64(f, "num_tasks", 1, ctl->config.limits.leases, &tasks);
    if (error == 0) error = ctl_resources_read(f, &ctl->book, &e->shape);
    if (error == 0) error = ctl_topology_read(f, &e->topology);
    e->tasks = (uint32_t)tasks;
    return error;
}

int ctl_reserve_read(struct mr_ctl *ctl, struct mr_ctl_call *call, const struct ctl_fields *f,
                     struct ctl_record *record)
{
    static const char *const names[] = {"name",  "tenant", "num_tasks", "resources",  "topology",
                                        "begin", "end",    "duration",  "maintenance"};
    struct mr_event_reserve *e = &record->event.u.reserve;
    struct mr_str tenant = {0};
    int error = ctl_fields_known(f, names, MR_COUNT_OF(names));
    if (error == 0) error = ctl_field_text(f, "name", MR_NAME_BYTES_MAX, &record->name);
    if (error == 0) error = ctl_field_text(f, "tenant", CTL_TENANT_NAME_MAX, &tenant);
    e->tenant.v = ctl_tenant_find(&ctl->book, tenant.n > 0 ? tenant : MR_STR("default"));
    if (error == 0 && e->tenant.v == 0)
        return ctl_field_wrong(f, "tenant", "no tenant '%.*s'", MR_STR_ARG(tenant));
    bool maintenance = yyjson_obj_get(f->map, "maintenance") != NULL;
    if (error == 0) error = maintenance ? read_maintenance(ctl, f, e) : read_size(ctl, f, e);
    if (error == 0) error = read_times(f, ctl->env->ops->now_us(ctl->env), e);
    if (record->name.n == 0)
        record->name = maintenance ? MR_STR("maintenance") : MR_STR("reserved");
    record->document = call->body;
    ctl_key_of(call, e->tenant, 0, &e->key_high, &e->key_low);
    return error;
}

/* --- showing ---------------------------------------------------------------------------------- */

static void put_one(struct mr_ctl *ctl, struct mr_buf *out, const struct mr_workload_info *info)
{
    const struct ctl_spec *spec = ctl_spec_find(&ctl->book, info->id.v);
    struct mr_window_info window;
    uint32_t cursor = 0;
    bool first = true;
    mr_buf_printf(out, "{\"id\":%llu,\"name\":", (unsigned long long)info->id.v);
    mr_json_put_string(out, mr_str_from(spec != NULL ? spec->name : "?"));
    mr_buf_printf(
        out, ",\"kind\":\"%s\",\"tenant\":", info->maintenance ? "maintenance" : "reservation");
    mr_json_put_string(out, mr_str_from(ctl_tenant_name(&ctl->book, info->tenant.v)));
    mr_buf_printf(out, ",\"state\":\"%s\",\"tasks\":%u,\"tasks_wanted\":%u",
                  mr_state_name(info->state), info->tasks, info->tasks_min);
    ctl_put_time(out, "begin", info->begin_us);
    uint64_t end_us = info->begin_us + info->time_limit_us;
    ctl_put_time(out, "end", end_us < FOR_EVER_US ? end_us : 0);
    mr_buf_printf(out, ",\"cpu_milli\":%u,\"mem_mib\":%u,\"accel_milli\":%u,\"nodes\":[",
                  info->shape.cpu_milli, info->shape.mem_mib, info->shape.accel_milli);
    while (mr_core_window_next(ctl->core, info->id, (struct mr_node_id){0}, &cursor, &window) ==
           0) {
        mr_buf_printf(out, "%s%u", first ? "" : ",", window.node.v);
        first = false;
    }
    mr_buf_put_str(out, MR_STR("]}"));
}

void ctl_put_reservations(struct mr_ctl *ctl, const struct mr_ctl_call *call, struct mr_buf *out)
{
    struct mr_workload_info info;
    uint32_t cursor = 0;
    bool first = true;
    mr_buf_put_str(out, MR_STR("{\"reservations\":["));
    while (mr_core_reservation_next(ctl->core, &cursor, &info) == 0) {
        if (!info.maintenance && !ctl_may_see(call, info.tenant)) continue;
        if (!first) mr_buf_put_char(out, ',');
        first = false;
        put_one(ctl, out, &info);
    }
    mr_buf_put_str(out, MR_STR("]}"));
}
