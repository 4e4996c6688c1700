/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes: described, expected on a date, said to be up, draining, down or gone.
 *
 *   {"id": 7, "cpu_milli": 192000, "mem_mib": 2097152, "accelerator": "H100", "accel_count": 8}
 *   {"id": 101, "count": 36, "cpu_milli": 144000, "mem_mib": 983040, "accelerator": "GB200",
 *    "accel_count": 4, "domain": 5, "domain_nodes": 18, "block": 2, "from": "2027-01-01T00:00:00Z"}
 *
 * Many that are alike are one call: ids ascend, and so do domains, each of domain_nodes.
 *
 * Owns:       nothing.
 * Invariants: (1) of a call either all nodes are described or none is.
 * Fails:      with the field's full name.
 */
#include <yyjson.h>

#include "ctl/ctl_field.h"
#include "ctl/ctl_int.h"

#define COUNT_MAX 16384u /* records of one call: a part of CTL_PENDING_MAX */

/* --- states ----------------------------------------------------------------------------------- */

bool ctl_node_state_find(struct mr_str name, enum mr_node_state *ret)
{
    static const enum mr_node_state states[] = {MR_NODE_UP, MR_NODE_DRAINING, MR_NODE_DOWN,
                                                MR_NODE_ABSENT};
    for (size_t i = 0; i < MR_COUNT_OF(states); i++) {
        if (!mr_str_equal(name, mr_str_from(mr_node_state_name(states[i])))) continue;
        *ret = states[i];
        return true;
    }
    return false;
}

void ctl_node_state_take(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    struct mr_node_info info;
    enum mr_node_state state;
    bool domain = call->op == MR_CTL_DOMAIN;
    yyjson_doc *doc = ctl_body_json(ctl, call);
    if (doc == NULL) return;
    const char *text = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "state"));
    uint32_t id = (uint32_t)MR_MIN(call->id, (uint64_t)UINT32_MAX);
    bool known = domain ? id > 0 && id <= ctl->config.limits.domains
                        : mr_core_node(ctl->core, (struct mr_node_id){id}, &info) == 0;
    if (!known) {
        ctl_problem(call, "no %s %llu", domain ? "domain" : "node", (unsigned long long)call->id);
        ctl_answer(ctl, call, MR_ENOT_FOUND);
    } else if (text == NULL || !ctl_node_state_find(mr_str_from(text), &state)) {
        ctl_refuse(ctl, call, MR_EINVALID, "state: wants " CTL_NODE_STATES);
    } else {
        struct ctl_record record = {.kind = CTL_RECORD_EVENT,
                                    .event = {.kind = MR_EVENT_NODE_STATE,
                                              .u.node_state = {.id = {domain ? 0 : id},
                                                               .domain = domain ? id : 0,
                                                               .state = state}}};
        mr_buf_printf(&call->out, "{\"id\":%u,\"state\":\"%s\"}", id, text);
        ctl_change(ctl, call, &record);
    }
    yyjson_doc_free(doc);
}

/* --- descriptions ----------------------------------------------------------------------------- */

struct described { /* nodes that are alike, with ids and domains that ascend */
    struct mr_event_node first;
    struct mr_str accelerator;
    uint32_t count, domain_nodes;
};

static struct mr_event_node nth(const struct described *d, uint32_t i)
{
    struct mr_event_node node = d->first;
    node.id.v += i;
    if (node.domain != 0) node.domain += i / d->domain_nodes;
    return node;
}

static int read_accelerator(struct mr_ctl *ctl, const struct ctl_fields *f, struct described *d)
{
    uint64_t count = 0;
    int error = ctl_field_u64(f, "accel_count", 0, MR_DEVICES_PER_NODE_MAX, &count);
    if (error == 0) error = ctl_field_text(f, "accelerator", 64, &d->accelerator);
    if (error == 0 && (count > 0) != (d->accelerator.n > 0))
        return ctl_field_wrong(f, "accelerator", "accelerator and accel_count go together");
    if (error != 0 || count == 0) return error;
    d->first.accel_count = (uint8_t)count;
    d->first.accel_type = ctl_accel_find(&ctl->book, d->accelerator);
    if (d->first.accel_type != 0) return 0;
    if (ctl->book.accel_count + 1 >= MR_ACCEL_TYPES_MAX)
        return ctl_field_wrong(f, "accelerator", "no more than %u types fit",
                               MR_ACCEL_TYPES_MAX - 1);
    d->first.accel_type = (uint8_t)(ctl->book.accel_count + 1); /* as it will be */
    return 0;
}

static int read_place(struct mr_ctl *ctl, const struct ctl_fields *f, struct described *d)
{
    const struct mr_core_limits *limits = &ctl->config.limits;
    uint64_t domain = 0, nodes = d->count, block = 0, cell = 0;
    int error = ctl_field_u64(f, "domain", 0, limits->domains, &domain);
    if (error == 0) error = ctl_field_u64(f, "domain_nodes", 1, COUNT_MAX, &nodes);
    if (error == 0) error = ctl_field_u64(f, "block", 0, limits->blocks, &block);
    if (error == 0) error = ctl_field_u64(f, "cell", 0, limits->cells, &cell);
    if (error != 0) return error;
    d->domain_nodes = (uint32_t)nodes;
    d->first.domain = (uint32_t)domain;
    d->first.block = (uint32_t)block;
    d->first.cell = (uint32_t)cell;
    if (nth(d, d->count - 1).domain > limits->domains)
        return ctl_field_wrong(f, "domain", "the last of them would be above %u", limits->domains);
    return 0;
}

/* As core will take them, all or none. */
static int possible(struct mr_ctl *ctl, const struct ctl_fields *f, const struct described *d)
{
    struct mr_node_info info;
    for (uint32_t i = 0; i < d->count; i++) {
        const struct mr_event_node node = nth(d, i);
        if (mr_core_node_valid(ctl->core, &node)) continue;
        bool there = mr_core_node(ctl->core, node.id, &info) == 0 && info.state != MR_NODE_EXPECTED;
        if (there)
            return ctl_field_wrong(f, "from", "node %u is there already (%s), and not to come",
                                   node.id.v, mr_node_state_name(info.state));
        return ctl_field_wrong(f, "from", "no more dates fit; nodes of one date and type are one");
    }
    return 0;
}

static int read_nodes(struct mr_ctl *ctl, const struct ctl_fields *f, struct described *d)
{
    static const char *const names[] = {"id",          "count",  "cpu_milli",    "mem_mib",
                                        "accelerator", "domain", "domain_nodes", "accel_count",
                                        "block",       "cell",   "from"};
    const struct mr_core_limits *limits = &ctl->config.limits;
    uint64_t id = 0, count = 1, cpu = 0, mem = 0, now_us = ctl->env->ops->now_us(ctl->env);
    int error = ctl_fields_known(f, names, MR_COUNT_OF(names));
    if (error == 0) error = ctl_field_u64(f, "id", 1, limits->nodes, &id);
    if (error == 0) error = ctl_field_u64(f, "count", 1, COUNT_MAX, &count);
    if (error == 0) error = ctl_field_u64(f, "cpu_milli", 1, UINT32_MAX, &cpu);
    if (error == 0) error = ctl_field_u64(f, "mem_mib", 1, UINT32_MAX, &mem);
    if (error == 0 && (id == 0 || cpu == 0 || mem == 0))
        error = ctl_field_wrong(f, "id", "id, cpu_milli and mem_mib are needed");
    if (error == 0 && id + count - 1 > limits->nodes)
        error = ctl_field_wrong(f, "count",
                                "the last id would be above %u, which is all that this home holds "
                                "(`millrace up --size fleet` makes larger ones)",
                                limits->nodes);
    d->first.id.v = (uint32_t)id;
    d->first.cpu_milli = (uint32_t)cpu;
    d->first.mem_mib = (uint32_t)mem;
    d->count = (uint32_t)count;
    if (error == 0) error = read_accelerator(ctl, f, d);
    if (error == 0) error = read_place(ctl, f, d);
    if (error == 0) error = ctl_field_when(f, "from", now_us, &d->first.from_us);
    if (d->first.from_us <= now_us) d->first.from_us = 0;
    return error == 0 ? possible(ctl, f, d) : error;
}

static void nodes_push(struct mr_ctl *ctl, struct mr_ctl_call *call, const struct described *d)
{
    if (d->count > CTL_PENDING_MAX - ctl->pending_count) {
        ctl_refuse(ctl, call, MR_ELIMIT, CTL_BUSY);
        return;
    }
    struct ctl_group_call *group = ctl_group_new(ctl, call, d->count);
    if (group == NULL) return;
    uint64_t now_us = ctl->env->ops->now_us(ctl->env);
    mr_buf_printf(&call->out, "{\"id\":%u,\"count\":%u,\"state\":\"%s\"}", d->first.id.v, d->count,
                  mr_node_state_name(d->first.from_us != 0 ? MR_NODE_EXPECTED : MR_NODE_UP));
    for (uint32_t i = 0; i < d->count; i++) {
        const struct ctl_record record = {
            .kind = CTL_RECORD_NODE,
            .event = {.kind = MR_EVENT_NODE_SET, .time_us = now_us, .u.node = nth(d, i)},
            .name = d->accelerator};
        if (ctl_push(ctl, &record, group) != NULL) continue;
        call->error = MR_ELIMIT; /* no memory: what was taken may be said again */
        ctl_problem(call, CTL_BUSY);
        group->left -= d->count - i;
        break;
    }
    if (group->left == 0) {
        ctl_answer(ctl, call, call->error);
        mr_free(group);
        return;
    }
    ctl_commit(ctl);
}

void ctl_node_take(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    yyjson_doc *doc = ctl_body_json(ctl, call);
    if (doc == NULL) return;
    struct described d = {.count = 1};
    struct mr_buf problem;
    struct mr_str param = {0};
    mr_buf_init(&problem, 4096);
    struct ctl_fields f = {
        .map = yyjson_doc_get_root(doc), .prefix = "", .problem = &problem, .param = &param};
    if (read_nodes(ctl, &f, &d) != 0)
        (void)ctl_field_problem(ctl, call, &problem, param.n);
    else
        nodes_push(ctl, call, &d);
    mr_buf_done(&problem);
    yyjson_doc_free(doc);
}

/* --- showing ---------------------------------------------------------------------------------- */

static void put_accelerator(struct mr_ctl *ctl, struct mr_buf *out, uint8_t type)
{
    const char *name = ctl_accel_name(&ctl->book, type);
    mr_buf_put_str(out, MR_STR(",\"accelerator\":"));
    if (name[0] != 0)
        mr_json_put_string(out, mr_str_from(name));
    else
        mr_buf_put_str(out, MR_STR("null"));
}

static void put_node(struct mr_ctl *ctl, struct mr_buf *out, const struct mr_node_info *info)
{
    const struct mr_event_node *n = &info->node;
    mr_buf_printf(out,
                  "{\"id\":%u,\"state\":\"%s\",\"cpu_milli\":%u,\"cpu_free_milli\":%u,"
                  "\"mem_mib\":%u,\"mem_free_mib\":%u",
                  n->id.v, mr_node_state_name(info->state), n->cpu_milli, info->cpu_free_milli,
                  n->mem_mib, info->mem_free_mib);
    put_accelerator(ctl, out, n->accel_type);
    mr_buf_printf(out, ",\"accel_count\":%u,\"accel_free_milli\":%u,\"leases\":%u", n->accel_count,
                  info->accel_free_milli, info->lease_count);
    mr_buf_printf(out, ",\"domain\":%u,\"block\":%u,\"cell\":%u", n->domain, n->block, n->cell);
    if (info->reserved.v != 0)
        mr_buf_printf(out, ",\"reserved\":%llu", (unsigned long long)info->reserved.v);
    if (n->from_us != 0) ctl_put_time(out, "from", n->from_us);
    mr_buf_put_char(out, '}');
}

void ctl_put_fleet(struct mr_ctl *ctl, struct mr_buf *out)
{
    struct mr_node_info info;
    struct mr_delivery_info d;
    uint32_t cursor = 0;
    bool first = true;
    mr_buf_put_str(out, MR_STR("{\"nodes\":["));
    for (uint32_t id = 1; id <= ctl->config.limits.nodes; id++) {
        if (mr_core_node(ctl->core, (struct mr_node_id){id}, &info) != 0) continue;
        if (!first) mr_buf_put_char(out, ',');
        put_node(ctl, out, &info);
        first = false;
    }
    mr_buf_put_str(out, MR_STR("],\"deliveries\":["));
    for (first = true; mr_core_delivery_next(ctl->core, &cursor, &d) == 0; first = false) {
        mr_buf_printf(out, "%s{\"nodes\":%u,\"late\":%s", first ? "" : ",", d.nodes,
                      d.late ? "true" : "false");
        ctl_put_time(out, "from", d.from_us);
        put_accelerator(ctl, out, d.accel_type);
        mr_buf_printf(out, ",\"accel_count\":%llu,\"cpu_milli\":%llu,\"mem_mib\":%llu}",
                      (unsigned long long)d.accel_milli / 1000, (unsigned long long)d.cpu_milli,
                      (unsigned long long)d.mem_mib);
    }
    mr_buf_put_str(out, MR_STR("]}"));
}
