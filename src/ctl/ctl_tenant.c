/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants as documents: what may be set, and what is shown.
 *
 *   {"name": "vision", "parent": "research", "weight": 2,
 *    "quota":  {"cpus": 64, "memory": "512GiB", "accelerators": 16, "running": 40, "H100": 8},
 *    "borrow": {"accelerators": 8, "H100": 8}, "keep": {"H100": 2},
 *    "reclaim": "never|lower|any", "preempt_own": "never|lower", "half_life": "7d"}
 *
 * Owns:       nothing.
 * Invariants: (1) what is not given stays as it is; null in a map takes the limit off;
 *             (2) a tenant's key sees its own tenant only.
 * Fails:      with the field's full name.
 */
#include <yyjson.h>

#include "ctl/ctl_field.h"
#include "ctl/ctl_int.h"

#define AMOUNT_MAX (UINT64_MAX / 4)

static const char *const preempt_names[MR_PREEMPT_COUNT] = {"never", "lower", "any"};

/* --- reading ---------------------------------------------------------------------------------- */

/* Which member of an entry a map sets. */
enum part { QUOTA, BORROW, KEEP };
static const char *const part_names[] = {"quota", "borrow", "keep"};

static uint64_t *type_amount(struct mr_type_quota *q, enum part part)
{
    if (part == QUOTA) return &q->quota_milli;
    return part == BORROW ? &q->lending.borrow_max : &q->lending.keep;
}

static uint64_t *amount(struct mr_event_tenant *t, enum part part, enum mr_resource resource)
{
    if (part == BORROW) return &t->lending[resource].borrow_max;
    if (part == KEEP) return &t->lending[resource].keep;
    if (resource == MR_RESOURCE_CPU) return &t->quota_cpu_milli;
    return resource == MR_RESOURCE_MEMORY ? &t->quota_mem_mib : &t->quota_accel_milli;
}

static struct mr_type_quota *type_entry(struct mr_event_tenant *t, uint8_t type)
{
    struct mr_type_quota *empty = NULL;
    for (uint32_t i = 0; i < MR_TENANT_TYPES_MAX; i++) {
        if (t->types[i].accel_type == type) return &t->types[i];
        if (t->types[i].accel_type == 0 && empty == NULL) empty = &t->types[i];
    }
    if (empty != NULL)
        *empty = (struct mr_type_quota){.accel_type = type, .quota_milli = UINT64_MAX};
    return empty;
}

static int read_amount(const struct ctl_fields *f, const char *name, bool memory, enum part part,
                       uint64_t *ret)
{
    if (yyjson_is_null(yyjson_obj_get(f->map, name))) {
        *ret = part == KEEP ? 0 : UINT64_MAX;
        return 0;
    }
    return memory ? ctl_field_mib(f, name, AMOUNT_MAX, ret)
                  : ctl_field_milli(f, name, AMOUNT_MAX, ret);
}

static int read_type(const struct ctl_book *book, const struct ctl_fields *f, const char *name,
                     enum part part, struct mr_event_tenant *t)
{
    uint8_t type = ctl_accel_find(book, mr_str_from(name));
    if (type == 0) {
        return ctl_field_wrong(f, name,
                               "is neither cpus, memory, accelerators nor running, nor a type of "
                               "accelerator that a node has; `millrace fleet` lists them");
    }
    struct mr_type_quota *entry = type_entry(t, type);
    if (entry == NULL)
        return ctl_field_wrong(f, name, "is one type more than the %u a tenant may limit",
                               MR_TENANT_TYPES_MAX);
    return read_amount(f, name, false, part, type_amount(entry, part));
}

static int read_part(const struct ctl_book *book, const struct ctl_fields *top, enum part part,
                     struct mr_event_tenant *t)
{
    static const char *const prefixes[] = {"quota.", "borrow.", "keep."};
    static const char *const resources[] = {"cpus", "memory", "accelerators"};
    struct ctl_fields f = *top;
    yyjson_obj_iter iter;
    f.map = yyjson_obj_get(top->map, part_names[part]);
    f.prefix = prefixes[part];
    if (f.map == NULL) return 0;
    if (!yyjson_is_obj(f.map)) return ctl_field_wrong(top, part_names[part], "wants a map");
    yyjson_obj_iter_init(f.map, &iter);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter)) != NULL;) {
        const char *name = yyjson_get_str(key);
        int error = MR_ENOT_FOUND;
        for (uint32_t i = 0; i < MR_COUNT_OF(resources) && error == MR_ENOT_FOUND; i++) {
            if (!mr_str_equal(mr_str_from(name), mr_str_from(resources[i]))) continue;
            enum mr_resource resource = (enum mr_resource)i;
            error = read_amount(&f, name, i == MR_RESOURCE_MEMORY, part, amount(t, part, resource));
        }
        if (error == MR_ENOT_FOUND && part == QUOTA &&
            mr_str_equal(mr_str_from(name), MR_STR("running"))) {
            uint64_t running = UINT32_MAX;
            error = yyjson_is_null(yyjson_obj_get(f.map, name))
                        ? 0
                        : ctl_field_u64(&f, name, 0, UINT32_MAX, &running);
            t->running_max = (uint32_t)running;
        }
        if (error == MR_ENOT_FOUND) error = read_type(book, &f, name, part, t);
        if (error != 0) return error;
    }
    return 0;
}

static int read_preempt(const struct ctl_fields *f, const char *name, uint32_t count,
                        enum mr_preempt *ret)
{
    struct mr_str text = {0};
    int error = ctl_field_text(f, name, 16, &text);
    if (error != 0 || text.n == 0) return error;
    for (uint32_t i = 0; i < count; i++) {
        if (!mr_str_equal(text, mr_str_from(preempt_names[i]))) continue;
        *ret = (enum mr_preempt)i;
        return 0;
    }
    return ctl_field_wrong(f, name, "is never, lower%s", count > 2 ? " or any" : "");
}

static int read_parent(const struct ctl_book *book, const struct ctl_fields *f,
                       struct mr_event_tenant *t)
{
    struct mr_str parent = {0};
    int error = ctl_field_text(f, "parent", CTL_TENANT_NAME_MAX, &parent);
    if (error != 0 || parent.n == 0) return error;
    t->parent.v = ctl_tenant_find(book, parent);
    if (t->parent.v == 0)
        return ctl_field_wrong(f, "parent", "no tenant '%.*s'", MR_STR_ARG(parent));
    return 0;
}

int ctl_tenant_read(struct mr_ctl *ctl, struct mr_ctl_call *call, const struct ctl_fields *f,
                    struct ctl_record *record)
{
    (void)call;
    static const char *const names[] = {"name", "parent",  "weight",      "quota",    "borrow",
                                        "keep", "reclaim", "preempt_own", "half_life"};
    struct mr_event_tenant *t = &record->event.u.tenant;
    uint64_t weight = 1;
    struct mr_tenant_info known;
    *t = (struct mr_event_tenant){.quota_cpu_milli = UINT64_MAX,
                                  .quota_mem_mib = UINT64_MAX,
                                  .quota_accel_milli = UINT64_MAX,
                                  .running_max = UINT32_MAX};
    int error = ctl_fields_known(f, names, MR_COUNT_OF(names));
    if (error == 0) error = ctl_field_text(f, "name", CTL_TENANT_NAME_MAX, &record->name);
    uint32_t id = ctl_tenant_find(&ctl->book, record->name);
    if (id != 0 && mr_core_tenant(ctl->core, (struct mr_tenant_id){id}, &known) == 0) {
        *t = known.tenant;
        weight = known.tenant.weight;
    }
    if (error == 0) error = ctl_field_u64(f, "weight", 1, 1000, &weight);
    for (uint32_t part = QUOTA; part <= KEEP && error == 0; part++) {
        error = read_part(&ctl->book, f, (enum part)part, t);
    }
    if (error == 0) error = read_preempt(f, "reclaim", MR_PREEMPT_COUNT, &t->reclaim);
    if (error == 0) error = read_preempt(f, "preempt_own", MR_PREEMPT_ANY, &t->within);
    if (error == 0) error = ctl_field_duration(f, "half_life", &t->half_life_us);
    if (error == 0) error = read_parent(&ctl->book, f, t);
    if (error == 0 && record->name.n == 0) error = ctl_field_wrong(f, "name", "is missing");
    uint32_t most =
        MR_MIN(ctl->config.limits.tenants, (uint32_t)MR_COUNT_OF(ctl->book.tenants) - 1);
    if (error == 0 && id == 0 && ctl->book.tenant_count >= most)
        error = ctl_field_wrong(f, "name", "no more tenants fit");
    t->id.v = id != 0 ? id : ctl->book.tenant_count + 1; /* given when it is applied */
    t->weight = (uint32_t)weight;
    if (error == 0 && !mr_core_tenant_valid(ctl->core, t)) {
        error = ctl_field_wrong(f, "parent", "makes a circle, or a tree deeper than 8");
    }
    return error;
}

/* --- showing ---------------------------------------------------------------------------------- */

static void put_milli(struct mr_buf *out, uint64_t milli)
{
    if (milli == UINT64_MAX) {
        mr_buf_put_str(out, MR_STR("null"));
    } else {
        mr_buf_printf(out, "%llu.%03u", (unsigned long long)(milli / 1000),
                      (unsigned)(milli % 1000));
    }
}

static void put_part(const struct ctl_book *book, struct mr_buf *out, struct mr_event_tenant *t,
                     enum part part)
{
    mr_buf_printf(out, ",\"%s\":{\"cpus\":", part_names[part]);
    put_milli(out, *amount(t, part, MR_RESOURCE_CPU));
    uint64_t mib = *amount(t, part, MR_RESOURCE_MEMORY);
    if (mib == UINT64_MAX)
        mr_buf_put_str(out, MR_STR(",\"memory_mib\":null"));
    else
        mr_buf_printf(out, ",\"memory_mib\":%llu", (unsigned long long)mib);
    mr_buf_put_str(out, MR_STR(",\"accelerators\":"));
    put_milli(out, *amount(t, part, MR_RESOURCE_ACCEL));
    if (part == QUOTA && t->running_max == UINT32_MAX)
        mr_buf_put_str(out, MR_STR(",\"running\":null"));
    else if (part == QUOTA)
        mr_buf_printf(out, ",\"running\":%u", t->running_max);
    for (uint32_t i = 0; i < MR_TENANT_TYPES_MAX; i++) {
        if (t->types[i].accel_type == 0) continue;
        mr_buf_put_char(out, ',');
        mr_json_put_string(out, mr_str_from(ctl_accel_name(book, t->types[i].accel_type)));
        mr_buf_put_char(out, ':');
        put_milli(out, *type_amount(&t->types[i], part));
    }
    mr_buf_put_char(out, '}');
}

static void put_tenant(const struct ctl_book *book, struct mr_buf *out, struct mr_tenant_info *info)
{
    struct mr_event_tenant *t = &info->tenant;
    mr_buf_printf(out, "{\"id\":%u,\"name\":", t->id.v);
    mr_json_put_string(out, mr_str_from(ctl_tenant_name(book, t->id.v)));
    mr_buf_put_str(out, MR_STR(",\"parent\":"));
    if (t->parent.v == 0)
        mr_buf_put_str(out, MR_STR("null"));
    else
        mr_json_put_string(out, mr_str_from(ctl_tenant_name(book, t->parent.v)));
    mr_buf_printf(out, ",\"weight\":%u", t->weight);
    for (uint32_t part = QUOTA; part <= KEEP; part++) {
        put_part(book, out, t, (enum part)part);
    }
    mr_buf_printf(out, ",\"reclaim\":\"%s\",\"preempt_own\":\"%s\",\"half_life_s\":%llu",
                  preempt_names[t->reclaim], preempt_names[t->within],
                  (unsigned long long)(t->half_life_us / 1000000));
    mr_buf_put_str(out, MR_STR(",\"held\":{\"cpus\":"));
    put_milli(out, info->cpu_milli);
    mr_buf_printf(out, ",\"memory_mib\":%llu,\"accelerators\":", (unsigned long long)info->mem_mib);
    put_milli(out, info->accel_milli);
    /* Of the fleet, in millionths: the dominant resource, with what was held before. */
    mr_buf_printf(out, "},\"running\":%u,\"pending\":%u,\"share_ppm\":%llu}", info->running,
                  info->pending, (unsigned long long)((info->share * 1000) >> 32));
}

void ctl_put_tenants(struct mr_ctl *ctl, const struct mr_ctl_call *call, struct mr_buf *out)
{
    struct mr_tenant_info info;
    bool first = true;
    mr_buf_put_str(out, MR_STR("{\"tenants\":["));
    for (uint32_t id = 1; id <= ctl->book.tenant_count; id++) {
        if (!call->admin && id != call->tenant.v) continue;
        if (mr_core_tenant(ctl->core, (struct mr_tenant_id){id}, &info) != 0) continue;
        if (!first) mr_buf_put_char(out, ',');
        first = false;
        put_tenant(&ctl->book, out, &info);
    }
    mr_buf_put_str(out, MR_STR("]}"));
}
