/* SPDX-License-Identifier: Apache-2.0 */
/* The workload document (docs/reference/workload.md): read when it is submitted, and again when a
 * lease of it starts.
 *
 * Owns:  nothing.
 * Fails: with one line that names the field, what was given and what is wanted. Unknown fields are
 *        refused, so that a typing error is not a silent default.
 */
#include <stdio.h>
#include <stdlib.h>

#include "ctl/ctl_field.h"
#include "ctl/ctl_int.h"

#define TASKS_MAX        1000000u
#define GRACE_DEFAULT_US 10000000u
#define LOAD_DEFAULT     4u
#define SERVICE_PRIORITY 3u
#define TRAIN_RESTARTS   3u
#define CPU_MILLI_MAX    4000000000ull
#define ENVS_MAX         1024u
#define ENV_BYTES_MAX    8192u
#define PORT_FIRST       20000u
#define PORT_COUNT       12000u

static const char *const top_fields[] = {"name",        "kind",
                                         "tenant",      "resources",
                                         "num_tasks",   "num_nodes",
                                         "replicas",    "priority",
                                         "grace",       "topology",
                                         "time_limit",  "estimate",
                                         "preemptible", "load_per_replica",
                                         "begin",       "deadline",
                                         "checkpoint",  "restarts",
                                         "spares",      "envs",
                                         "work_dir",    "stdin",
                                         "run",         "command",
                                         "infer",       "train",
                                         "sandbox",     "reservation",
                                         "work",        "scaling",
                                         "speed_error", "promise",
                                         "late",        "segment",
                                         "spread",      "spread_max",
                                         "exclusive",   "apart",
                                         "apart_by"};
static const char *const resource_fields[] = {"cpus", "memory", "accelerators",
                                              "accelerator_order"};
static const char *const accel_orders[MR_ACCEL_ORDER_COUNT] = {"listed", "price", "fit"};
static const char *const runs[] = {"run", "command", "infer", "train", "sandbox"};

/* --- accelerators ----------------------------------------------------------------------------- */

static int wrong_accelerator(const struct ctl_fields *f, const struct ctl_book *book,
                             struct mr_str name)
{
    char known[300] = "";
    size_t n = 0;
    for (uint32_t i = 1; i <= book->accel_count && n < sizeof known - 80; i++) {
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i > 1 ? ", " : "",
                              book->accels[i]);
    }
    return ctl_field_wrong(f, "accelerators", "no node has a %.*s; there %s%s",
                           (int)MR_MIN(name.n, 60u), name.p,
                           book->accel_count > 0 ? "is: " : "are none", known);
}

/* "H100:8", "H100:0.5", "H100". */
static int read_accelerator(const struct ctl_fields *f, const struct ctl_book *book,
                            struct mr_str text, uint8_t *ret_type, uint64_t *ret_milli)
{
    struct mr_str rest = text, name;
    if (!mr_str_split(&rest, ':', &name)) name = text;
    *ret_milli = 1000;
    bool fine =
        name.n > 0 &&
        (rest.p == NULL || ctl_text_milli(rest, MR_DEVICES_PER_NODE_MAX * 1000u, ret_milli) == 0);
    if (!fine || *ret_milli == 0 || (*ret_milli > 1000 && *ret_milli % 1000 != 0)) {
        return ctl_field_wrong(f, "accelerators",
                               "wants TYPE:COUNT, for example H100:8, or a share like H100:0.5");
    }
    *ret_type = ctl_accel_find(book, name);
    return *ret_type != 0 ? 0 : wrong_accelerator(f, book, name);
}

static int take_accelerator(const struct ctl_fields *f, const struct ctl_book *book,
                            struct mr_str text, struct mr_shape *shape, uint32_t *count)
{
    uint8_t type;
    uint64_t milli;
    if (*count >= MR_SHAPE_ALTERNATIVES) {
        return ctl_field_wrong(f, "accelerators", "takes at most %u alternatives",
                               MR_SHAPE_ALTERNATIVES);
    }
    int error = read_accelerator(f, book, text, &type, &milli);
    if (error != 0) return error;
    if (*count > 0 && shape->accel_milli != milli) {
        return ctl_field_wrong(f, "accelerators", "all alternatives must ask for the same number");
    }
    shape->accel_milli = (uint32_t)milli;
    shape->accel_types[(*count)++] = type;
    return 0;
}

static int read_accelerators(const struct ctl_fields *f, const struct ctl_book *book,
                             struct mr_shape *shape)
{
    yyjson_val *value = yyjson_obj_get(f->map, "accelerators"), *key, *item;
    size_t index, max;
    uint32_t count = 0;
    char text[128];
    int error = 0;
    if (value == NULL || yyjson_is_null(value)) return 0;
    if (yyjson_is_str(value)) {
        return take_accelerator(
            f, book, (struct mr_str){yyjson_get_str(value), yyjson_get_len(value)}, shape, &count);
    }
    if (yyjson_is_arr(value) && yyjson_arr_size(value) > 0) {
        yyjson_arr_foreach(value, index, max, item)
        {
            struct mr_str one = {yyjson_get_str(item), yyjson_get_len(item)};
            if (!yyjson_is_str(item))
                return ctl_field_wrong(f, "accelerators", "wants a list of texts");
            if (error == 0) error = take_accelerator(f, book, one, shape, &count);
        }
        return error;
    }
    if (yyjson_is_obj(value) && yyjson_obj_size(value) > 0) {
        yyjson_obj_foreach(value, index, max, key, item)
        {
            if (!yyjson_is_num(item))
                return ctl_field_wrong(f, "accelerators", "wants {TYPE: COUNT}");
            int n = snprintf(text, sizeof text, "%.64s:%.3f", yyjson_get_str(key),
                             yyjson_get_num(item));
            struct mr_str one = {text, (size_t)n};
            if (error == 0) error = take_accelerator(f, book, one, shape, &count);
        }
        return error;
    }
    return ctl_field_wrong(f, "accelerators", "wants text like H100:8, a map or a list");
}

static int read_choice(const struct ctl_fields *f, const char *name, const char *const *words,
                       size_t count, uint32_t *ret)
{
    struct mr_str text = {0};
    char list[200] = "";
    size_t n = 0;
    int error = ctl_field_text(f, name, 64, &text);
    if (error != 0 || text.p == NULL) return error;
    for (uint32_t i = 0; i < count; i++) {
        if (mr_str_equal(text, mr_str_from(words[i]))) {
            *ret = i;
            return 0;
        }
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i > 0 ? ", " : "", words[i]);
    }
    return ctl_field_wrong(f, name, "wants one of %s, not '%.*s'", list, MR_STR_ARG(text));
}

int ctl_resources_read(const struct ctl_fields *top, const struct ctl_book *book,
                       struct mr_shape *shape)
{
    uint64_t cpu_milli = 1000, mem_mib = 1024;
    uint32_t order = MR_ACCEL_ORDER_LISTED;
    yyjson_val *map = yyjson_obj_get(top->map, "resources");
    struct ctl_fields f = *top;
    if (map != NULL && !yyjson_is_obj(map)) {
        return ctl_field_wrong(top, "resources", "wants a map, not %s", ctl_type_name(map));
    }
    f.map = map;
    f.prefix = "resources.";
    int error =
        map == NULL ? 0 : ctl_fields_known(&f, resource_fields, MR_COUNT_OF(resource_fields));
    if (error == 0 && map != NULL) error = ctl_field_milli(&f, "cpus", CPU_MILLI_MAX, &cpu_milli);
    if (error == 0 && map != NULL) error = ctl_field_mib(&f, "memory", UINT32_MAX, &mem_mib);
    if (error == 0 && map != NULL) error = read_accelerators(&f, book, shape);
    if (error == 0 && map != NULL) {
        error =
            read_choice(&f, "accelerator_order", accel_orders, MR_COUNT_OF(accel_orders), &order);
    }
    shape->accel_order = (uint8_t)order;
    shape->cpu_milli = (uint32_t)cpu_milli;
    shape->mem_mib = (uint32_t)mem_mib;
    return error;
}

/* --- choices ---------------------------------------------------------------------------------- */

static int read_priority(const struct ctl_fields *f, uint8_t *ret)
{
    static const char *const words[] = {"high", "normal", "low"};
    static const uint8_t classes[] = {2, MR_PRIORITY_DEFAULT, 6};
    yyjson_val *value = yyjson_obj_get(f->map, "priority");
    uint64_t number = *ret;
    uint32_t word = 0;
    if (value == NULL) return 0;
    const char *text = yyjson_get_str(value);
    if (text != NULL && (text[0] < '0' || text[0] > '9')) {
        int error = read_choice(f, "priority", words, MR_COUNT_OF(words), &word);
        if (error == 0) *ret = classes[word];
        return error;
    }
    int error = ctl_field_u64(f, "priority", 0, MR_PRIORITY_COUNT - 1, &number);
    *ret = (uint8_t)number;
    return error;
}

/* --- what runs -------------------------------------------------------------------------------- */

static int read_envs(const struct ctl_fields *f)
{
    yyjson_val *map = yyjson_obj_get(f->map, "envs"), *key, *value;
    size_t index, max;
    if (map == NULL) return 0;
    if (!yyjson_is_obj(map))
        return ctl_field_wrong(f, "envs", "wants a map, not %s", ctl_type_name(map));
    if (yyjson_obj_size(map) > ENVS_MAX)
        return ctl_field_wrong(f, "envs", "takes at most %u", ENVS_MAX);
    yyjson_obj_foreach(map, index, max, key, value)
    {
        const char *name = yyjson_get_str(key);
        if (name[0] == 0 || strchr(name, '=') != NULL || strlen(name) != yyjson_get_len(key) ||
            (!yyjson_is_str(value) && !yyjson_is_num(value) && !yyjson_is_bool(value))) {
            return ctl_field_wrong(f, "envs", "wants NAME: text; '%.60s' is not", name);
        }
        if (yyjson_is_str(value) && strlen(yyjson_get_str(value)) != yyjson_get_len(value)) {
            return ctl_field_wrong(f, "envs", "the value of %.60s holds a zero byte", name);
        }
        if (yyjson_get_len(key) + (yyjson_is_str(value) ? yyjson_get_len(value) : 40) + 2 >
            ENV_BYTES_MAX) {
            return ctl_field_wrong(f, "envs", "%.60s is longer than %u bytes", name, ENV_BYTES_MAX);
        }
    }
    return 0;
}

static int read_run(const struct ctl_fields *f, struct ctl_submit *ret)
{
    struct mr_str text = {0};
    const char *found = NULL;
    uint32_t count = 0;
    for (size_t i = 0; i < MR_COUNT_OF(runs); i++) {
        if (yyjson_obj_get(f->map, runs[i]) == NULL) continue;
        found = runs[i];
        count++;
    }
    if (count != 1) {
        return ctl_field_wrong(
            f, count == 0 ? "run" : found,
            "exactly one of run, command, infer, train, sandbox says what to run; %u "
            "are given",
            count);
    }
    if (strcmp(found, "run") != 0 && strcmp(found, "command") != 0)
        return ctl_worker_read(f, found, ret);
    int error = ctl_field_command(f);
    return error != 0 ? error : ctl_field_text(f, "run", MR_SPEC_BYTES_MAX, &text);
}

int ctl_topology_read(const struct ctl_fields *f, enum mr_topology *ret)
{
    static const char *const names[] = {"any", "prefer_domain", "node", "domain", "block", "cell"};
    uint32_t topology = MR_TOPOLOGY_ANY;
    int error = read_choice(f, "topology", names, MR_COUNT_OF(names), &topology);
    *ret = (enum mr_topology)topology;
    return error;
}

/* --- the whole -------------------------------------------------------------------------------- */

static int read_kind_and_size(const struct ctl_fields *f, struct mr_event_submit *e)
{
    static const char *const kinds[] = {"job", "service", "pool"};
    uint32_t kind = yyjson_obj_get(f->map, "infer") != NULL ? MR_KIND_SERVICE : MR_KIND_JOB;
    uint32_t size[2] = {1, 1};
    int error = read_choice(f, "kind", kinds, MR_COUNT_OF(kinds), &kind);
    if (error != 0) return error;
    const char *name = kind == MR_KIND_JOB ? "num_tasks" : "replicas";
    const char *other = kind == MR_KIND_JOB ? "replicas" : "num_tasks";
    if (yyjson_obj_get(f->map, other) != NULL) {
        return ctl_field_wrong(f, other, "a %s has %s", kinds[kind], name);
    }
    if (yyjson_obj_get(f->map, "num_nodes") != NULL) {
        if (kind != MR_KIND_JOB)
            return ctl_field_wrong(f, "num_nodes", "a %s has replicas", kinds[kind]);
        if (yyjson_obj_get(f->map, "num_tasks") != NULL) {
            return ctl_field_wrong(f, "num_nodes", "is another name of num_tasks; give one");
        }
        name = "num_nodes";
    }
    error = ctl_field_range(f, name, kind == MR_KIND_JOB ? 1 : 0, TASKS_MAX, size);
    if (error == 0) error = ctl_topology_read(f, &e->topology);
    e->kind = (enum mr_workload_kind)kind;
    e->tasks_min = size[0];
    e->tasks_max = size[1];
    e->priority = kind == MR_KIND_JOB ? MR_PRIORITY_DEFAULT : SERVICE_PRIORITY;
    return error;
}

static int read_spread(const struct ctl_fields *f, struct mr_event_submit *e, bool beside)
{
    static const char *const names[MR_SPREAD_COUNT] = {"none", "node", "domain", "block"};
    uint32_t spread = MR_SPREAD_NONE;
    uint64_t most = 0;
    int error = read_choice(f, "spread", names, MR_COUNT_OF(names), &spread);
    if (error == 0) error = ctl_field_u64(f, "spread_max", 1, TASKS_MAX, &most);
    if (error == 0 && most > 0 && spread == MR_SPREAD_NONE)
        return ctl_field_wrong(f, "spread_max", "wants spread: node, domain or block beside it");
    bool bound = e->topology != MR_TOPOLOGY_ANY && e->topology != MR_TOPOLOGY_PREFER_DOMAIN;
    if (error == 0 && spread != MR_SPREAD_NONE && (beside || bound || e->curve.count > 0))
        return ctl_field_wrong(f, "spread",
                               "does not go with topology, segment, spares, scaling or "
                               "reservation");
    e->spread = (enum mr_spread)spread;
    e->spread_max = (uint32_t)most;
    return error;
}

static int read_exclusive(const struct ctl_fields *f, struct mr_event_submit *e)
{
    static const char *const names[MR_EXCLUSIVE_COUNT] = {"none", "node"};
    uint32_t exclusive = MR_EXCLUSIVE_NONE;
    int error = read_choice(f, "exclusive", names, MR_COUNT_OF(names), &exclusive);
    if (error != 0 || exclusive == MR_EXCLUSIVE_NONE) return error;
    if (e->shape.accel_milli % 1000 != 0)
        return ctl_field_wrong(f, "exclusive", "wants whole accelerators, or none");
    if (e->spread != MR_SPREAD_NONE || e->curve.count > 0)
        return ctl_field_wrong(f, "exclusive", "does not go with spread or scaling");
    e->exclusive = (enum mr_exclusive)exclusive;
    return 0;
}

/* The core knows groups by number: the hash of the name. */
static int read_apart(const struct ctl_fields *f, struct mr_event_submit *e)
{
    static const char *const names[] = {"node", "domain", "block"};
    struct mr_str group = {0};
    uint32_t by = 0;
    int error = ctl_field_text(f, "apart", MR_NAME_BYTES_MAX, &group);
    if (error == 0) error = read_choice(f, "apart_by", names, MR_COUNT_OF(names), &by);
    if (error != 0) return error;
    if (group.n == 0 && yyjson_obj_get(f->map, "apart_by") != NULL)
        return ctl_field_wrong(f, "apart_by", "wants apart: the name of a group beside it");
    if (group.n == 0) return 0;
    if (e->curve.count > 0) return ctl_field_wrong(f, "apart", "does not go with scaling");
    e->apart = MR_MAX(mr_hash64(group.p, group.n, 0), 1u);
    e->apart_by = (enum mr_spread)(MR_SPREAD_NODE + by);
    return 0;
}

static int segment_fits(const struct ctl_fields *f, const struct mr_event_submit *e,
                        uint32_t segment)
{
    if (e->kind != MR_KIND_JOB) return ctl_field_wrong(f, "segment", "is for jobs");
    if (e->topology == MR_TOPOLOGY_NODE || e->topology == MR_TOPOLOGY_DOMAIN)
        return ctl_field_wrong(f, "segment", "says nothing within one domain; leave topology away");
    if (e->curve.count > 0) return ctl_field_wrong(f, "segment", "and scaling do not go together");
    if (e->tasks_min % segment != 0 || e->tasks_max % segment != 0)
        return ctl_field_wrong(f, "segment", "num_tasks must be multiples of %u", segment);
    return 0;
}

/* Where its tasks may lie, beside the topology. */
static int read_layout(const struct ctl_fields *f, struct mr_event_submit *e)
{
    uint64_t spares = 0, reservation = 0, segment = 0;
    int error = ctl_field_u64(f, "spares", 0, TASKS_MAX, &spares);
    if (error == 0 && spares > 0 &&
        (e->kind != MR_KIND_JOB || yyjson_obj_get(f->map, "train") != NULL)) {
        error = ctl_field_wrong(f, "spares", "only jobs with `run` or `command` have spares");
    }
    if (error == 0) error = ctl_field_u64(f, "reservation", 1, UINT64_MAX, &reservation);
    if (error == 0) error = ctl_field_u64(f, "segment", 1, TASKS_MAX, &segment);
    if (error == 0 && segment > 0) error = segment_fits(f, e, (uint32_t)segment);
    if (error == 0) error = read_spread(f, e, segment > 0 || spares > 0 || reservation != 0);
    if (error == 0) error = read_exclusive(f, e);
    if (error == 0) error = read_apart(f, e);
    e->spares = (uint32_t)spares;
    e->reservation.v = reservation;
    e->segment = (uint32_t)segment;
    return error;
}

static int read_times(const struct ctl_fields *f, uint64_t now_us, struct mr_event_submit *e)
{
    int error = ctl_field_duration(f, "time_limit", &e->time_limit_us);
    if (error == 0) error = ctl_field_duration(f, "estimate", &e->estimate_us);
    if (error == 0) error = ctl_field_duration(f, "grace", &e->grace_us);
    if (error == 0) error = ctl_field_duration(f, "checkpoint", &e->checkpoint_us);
    if (error == 0) error = ctl_field_when(f, "begin", now_us, &e->begin_us);
    if (error == 0) error = ctl_field_when(f, "deadline", now_us, &e->deadline_us);
    return error;
}

static void default_name(const struct ctl_fields *f, struct ctl_submit *ret)
{
    yyjson_val *command = yyjson_arr_get_first(yyjson_obj_get(f->map, "command"));
    const char *text = yyjson_get_str(command);
    const char *slash = text != NULL ? strrchr(text, '/') : NULL;
    for (size_t i = 0; i < MR_COUNT_OF(runs) && text == NULL; i++) {
        if (yyjson_obj_get(f->map, runs[i]) != NULL) text = runs[i];
    }
    if (slash != NULL && slash[1] != 0) text = slash + 1;
    (void)snprintf(ret->name, sizeof ret->name, "%s", text != NULL ? text : "workload");
}

int ctl_spec_read(const struct ctl_book *book, yyjson_val *document, uint64_t now_us,
                  struct ctl_submit *ret, struct mr_buf *problem, struct mr_str *ret_param)
{
    struct mr_event_submit *e = &ret->event;
    struct ctl_fields f = {.map = document, .prefix = "", .problem = problem, .param = ret_param};
    struct mr_str name = {0}, tenant = {0}, text = {0};
    uint64_t restarts = yyjson_obj_get(document, "train") != NULL ? TRAIN_RESTARTS : 0;
    uint64_t load = LOAD_DEFAULT;
    *ret = (struct ctl_submit){.event = {.grace_us = GRACE_DEFAULT_US}};
    if (!yyjson_is_obj(document)) {
        return ctl_field_wrong(&f, "document", "wants a map with at least `run` or `command`");
    }
    int error = ctl_fields_known(&f, top_fields, MR_COUNT_OF(top_fields));
    if (error == 0) error = ctl_field_text(&f, "name", MR_NAME_BYTES_MAX, &name);
    if (error == 0) error = ctl_field_text(&f, "tenant", CTL_TENANT_NAME_MAX, &tenant);
    if (error == 0) error = read_kind_and_size(&f, e);
    if (error == 0) error = ctl_resources_read(&f, book, &e->shape);
    if (error == 0) error = read_priority(&f, &e->priority);
    if (error == 0) error = ctl_field_bool(&f, "preemptible", &e->preemptible);
    if (error == 0) error = read_times(&f, now_us, e);
    if (error == 0) error = ctl_curve_read(&f, e);
    if (error == 0) error = ctl_field_u64(&f, "restarts", 0, 1000000, &restarts);
    if (error == 0) error = read_layout(&f, e);
    if (error == 0) error = ctl_field_u64(&f, "load_per_replica", 1, 100000, &load);
    if (error == 0) error = read_envs(&f);
    if (error == 0) error = ctl_field_text(&f, "work_dir", 4096, &text);
    if (error == 0) error = ctl_base64_check(&f, "stdin");
    e->restarts_max = (uint32_t)restarts;
    e->load_per_replica = (uint32_t)load;
    default_name(&f, ret);
    if (name.p != NULL) (void)snprintf(ret->name, sizeof ret->name, "%.*s", MR_STR_ARG(name));
    if (error == 0) error = read_run(&f, ret);
    (void)snprintf(ret->tenant, sizeof ret->tenant, "%.*s", MR_STR_ARG(tenant));
    if (error == 0 && e->begin_us <= now_us) e->begin_us = 0;
    return error;
}

/* --- starting a lease ------------------------------------------------------------------------- */

static bool put_env(struct mr_arena *arena, struct mr_str *env, size_t *count, const char *format,
                    ...) __attribute__((format(printf, 4, 5)));
static bool put_env(struct mr_arena *arena, struct mr_str *env, size_t *count, const char *format,
                    ...)
{
    va_list arguments;
    char *text = mr_arena_alloc(arena, ENV_BYTES_MAX);
    if (text == NULL) return false;
    va_start(arguments, format);
    int n = vsnprintf(text, ENV_BYTES_MAX, format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= ENV_BYTES_MAX) return false;
    env[(*count)++] = (struct mr_str){text, (size_t)n};
    return true;
}

/* The document's own variables. */
static bool put_envs(struct mr_arena *arena, struct mr_str *env, size_t *count, yyjson_val *map)
{
    yyjson_val *key, *value;
    size_t index, max;
    bool fine = true;
    yyjson_obj_foreach(map, index, max, key, value)
    {
        struct mr_str text = {yyjson_get_str(value), yyjson_get_len(value)};
        char number[40];
        if (!yyjson_is_str(value)) {
            int n = yyjson_is_bool(value)
                        ? snprintf(number, sizeof number, "%s",
                                   yyjson_get_bool(value) ? "true" : "false")
                        : snprintf(number, sizeof number, "%.15g", yyjson_get_num(value));
            text = (struct mr_str){number, (size_t)n};
        }
        fine = fine && put_env(arena, env, count, "%s=%.*s", yyjson_get_str(key), MR_STR_ARG(text));
    }
    return fine;
}

static int start_envs(yyjson_val *document, const struct mr_effect_start *start,
                      const struct ctl_book *book, struct mr_arena *arena,
                      struct mr_engine_start *ret)
{
    yyjson_val *map = yyjson_obj_get(document, "envs");
    size_t count = 0;
    struct mr_str *env = mr_arena_alloc_zero(arena, (yyjson_obj_size(map) + 8) * sizeof *env);
    if (env == NULL) return MR_ENO_MEMORY;
    bool fine = map == NULL || put_envs(arena, env, &count, map);
    /* One machine: the gang's members meet on loopback, on a port of the workload's own. */
    fine = fine && put_env(arena, env, &count, "MASTER_ADDR=127.0.0.1");
    fine = fine && put_env(arena, env, &count, "MASTER_PORT=%u",
                           PORT_FIRST + (uint32_t)(start->workload.v % PORT_COUNT));
    if (start->devices != 0) {
        fine = fine && put_env(arena, env, &count, "MILLRACE_ACCELERATOR=%s",
                               ctl_accel_name(book, start->shape.accel_types[0]));
    }
    ret->env = env;
    ret->env_count = count;
    return fine ? 0 : MR_ETOO_LARGE;
}

static int start_argv(yyjson_val *document, struct mr_arena *arena, struct mr_engine_start *ret)
{
    static const struct mr_str workers[] = {{"infer", 5}, {"train", 5}, {"sandbox", 7}};
    yyjson_val *command = yyjson_obj_get(document, "command"), *item;
    size_t index, max;
    struct mr_str *argv = mr_arena_alloc_zero(arena, (yyjson_arr_size(command) + 4) * sizeof *argv);
    if (argv == NULL) return MR_ENO_MEMORY;
    ret->argv = argv;
    yyjson_arr_foreach(command, index, max, item)
    {
        argv[ret->argv_count++] =
            mr_str_copy(arena, (struct mr_str){yyjson_get_str(item), yyjson_get_len(item)});
    }
    if (ret->argv_count > 0) return 0;
    yyjson_val *run = yyjson_obj_get(document, "run");
    if (run != NULL) {
        argv[0] = MR_STR("/bin/sh");
        argv[1] = MR_STR("-c");
        argv[2] = mr_str_copy(arena, (struct mr_str){yyjson_get_str(run), yyjson_get_len(run)});
        ret->argv_count = 3;
        return argv[2].p != NULL ? 0 : MR_ENO_MEMORY;
    }
    for (size_t i = 0; i < MR_COUNT_OF(workers); i++) {
        yyjson_val *map = yyjson_obj_get(document, workers[i].p);
        if (map == NULL) continue;
        size_t n = 0;
        char *json = yyjson_val_write(map, 0, &n);
        if (json == NULL) return MR_ENO_MEMORY;
        ret->spec_json = mr_str_copy(arena, (struct mr_str){json, n});
        free(json);
        ret->mpi = i == 1;
        argv[0] = workers[i];
        ret->argv_count = 1;
        return ret->spec_json.p != NULL ? 0 : MR_ENO_MEMORY;
    }
    return MR_EINVALID;
}

static int start_stdin(yyjson_val *document, struct mr_arena *arena, struct mr_engine_start *ret)
{
    struct mr_buf bytes;
    yyjson_val *text = yyjson_obj_get(document, "stdin");
    if (text == NULL) return 0;
    mr_buf_init(&bytes, MR_SPEC_BYTES_MAX);
    int error = mr_base64_get(&bytes, (struct mr_str){yyjson_get_str(text), yyjson_get_len(text)});
    if (error == 0) ret->stdin_bytes = mr_str_copy(arena, mr_buf_str(&bytes));
    mr_buf_done(&bytes);
    return error;
}

int ctl_spec_start(const struct ctl_spec *spec, const struct mr_effect_start *start,
                   const struct ctl_book *book, struct mr_arena *arena, struct mr_engine_start *ret)
{
    yyjson_doc *doc = yyjson_read(spec->document, strlen(spec->document), 0);
    yyjson_val *document = yyjson_doc_get_root(doc);
    if (document == NULL) return MR_ECORRUPT;
    yyjson_val *work_dir = yyjson_obj_get(document, "work_dir");
    *ret = (struct mr_engine_start){.lease = start->lease,
                                    .workload = start->workload,
                                    .node = start->node,
                                    .run = start->run,
                                    .tasks = start->tasks,
                                    .rank_first = start->rank_first,
                                    .world_size = start->world_size,
                                    .node_rank = start->node_rank,
                                    .node_count = start->node_count,
                                    .devices = start->devices,
                                    .cpu_milli = start->shape.cpu_milli,
                                    .mem_mib = start->shape.mem_mib};
    int error = start_argv(document, arena, ret);
    if (error == 0) error = start_envs(document, start, book, arena, ret);
    if (error == 0) error = start_stdin(document, arena, ret);
    if (error == 0 && work_dir != NULL) {
        ret->work_dir =
            mr_str_copy(arena, (struct mr_str){yyjson_get_str(work_dir), yyjson_get_len(work_dir)});
    }
    yyjson_doc_free(doc);
    return error;
}
