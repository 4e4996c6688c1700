/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a generator file of Kueue's performance tests: cohorts, queues, workloads, topology.
 *
 * A workload set gives `count` times each of its workloads, one after each interval; all sets of
 * all queues run beside each other. Keys that change nothing here are told in `ignored`.
 *
 * Owns:       what it fills.
 * Invariants: (1) a cohort comes before its queues; (2) arrivals are in order of time, then of the
 *             file.
 * Never:      a default that is silently wrong: what cannot be replayed is refused.
 * Cost:       O(arrivals * log arrivals).
 * Idea:       docs/internals/tenancy.md   Tests: tests/unit/sim/test_sim_kueue.c
 */
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#include "sim_kueue_int.h"

#define MS_MAX    (1000ull * 60 * 60 * 24 * 365)
#define MILLI_MAX ((uint64_t)1 << 50)
#define COUNT_MAX 1000000u

struct reading {
    struct sim_kueue *k;
    struct mr_str file;
    struct mr_buf *problem;
    uint32_t cohort; /* index + 1 of the one that is read */
};

static int wrong(struct reading *r, const char *where, const char *key, const char *what)
{
    mr_buf_printf(r->problem, "%.*s: %s: %s %s", MR_STR_ARG(r->file), where, key, what);
    return MR_EINVALID;
}

/* Room for one more. */
static bool grow(void **p, uint32_t *room, uint32_t count, size_t bytes)
{
    if (count < *room) return true;
    uint32_t more = *room == 0 ? 64 : *room * 2;
    void *grown = mr_realloc(*p, (size_t)more * bytes);
    if (grown == NULL) return false;
    *p = grown;
    *room = more;
    return true;
}

/* --- values ---------------------------------------------------------------------------------- */

/* "500m", "1.5", "20", "256Gi": in thousandths, so 1Gi is 2^30 * 1000. */
static bool quantity_of(struct mr_str text, uint64_t *ret_milli)
{
    static const struct {
        const char *suffix;
        uint64_t times;
    } suffixes[] = {{"m", 1},
                    {"", 1000},
                    {"k", 1000000},
                    {"M", 1000000000},
                    {"G", 1000000000000},
                    {"Ki", 1000ull << 10},
                    {"Mi", 1000ull << 20},
                    {"Gi", 1000ull << 30},
                    {"Ti", 1000ull << 40}};
    uint64_t whole = 0, fraction = 0, scale = 1;
    size_t at = 0;
    while (at < text.n && text.p[at] >= '0' && text.p[at] <= '9' && whole < MILLI_MAX) {
        whole = whole * 10 + (uint64_t)(text.p[at++] - '0');
    }
    if (at == 0) return false;
    if (at < text.n && text.p[at] == '.') {
        for (at++; at < text.n && text.p[at] >= '0' && text.p[at] <= '9' && scale < 1000000; at++) {
            fraction = fraction * 10 + (uint64_t)(text.p[at] - '0');
            scale *= 10;
        }
    }
    struct mr_str suffix = {text.p + at, text.n - at};
    for (size_t i = 0; i < MR_COUNT_OF(suffixes); i++) {
        uint64_t value;
        if (!mr_str_equal(suffix, mr_str_from(suffixes[i].suffix))) continue;
        if (!mr_mul_u64(whole, suffixes[i].times, &value)) return false;
        value += mr_mul_div_u64(fraction, suffixes[i].times, scale);
        *ret_milli = value;
        return true;
    }
    return false;
}

static struct mr_str text_of(yyjson_val *value)
{
    return (struct mr_str){yyjson_get_str(value), yyjson_get_len(value)};
}

/* An absent key leaves *ret_milli. */
static int quantity(struct reading *r, yyjson_val *map, const char *where, const char *key,
                    uint64_t *ret_milli)
{
    yyjson_val *value = yyjson_obj_get(map, key);
    uint64_t milli = 0;
    bool good = false;
    if (value == NULL || yyjson_is_null(value)) return 0;
    if (yyjson_is_uint(value)) {
        good = mr_mul_u64(yyjson_get_uint(value), 1000, &milli);
    } else if (yyjson_is_real(value)) {
        double real = yyjson_get_real(value);
        good = real >= 0 && real < 1e12;
        if (good) milli = (uint64_t)(real * 1000 + 0.5);
    } else if (yyjson_is_str(value)) {
        good = quantity_of(text_of(value), &milli);
    }
    if (!good) return wrong(r, where, key, "wants an amount such as 20, \"500m\" or \"256Gi\"");
    *ret_milli = milli;
    return 0;
}

static int number(struct reading *r, yyjson_val *map, const char *where, const char *key,
                  uint64_t most, uint64_t *ret)
{
    yyjson_val *value = yyjson_obj_get(map, key);
    if (value == NULL || yyjson_is_null(value)) return 0;
    if (!yyjson_is_uint(value) || yyjson_get_uint(value) > most)
        return wrong(r, where, key, "wants a whole number that is not absurd");
    *ret = yyjson_get_uint(value);
    return 0;
}

static int name_of(struct reading *r, yyjson_val *map, const char *where, const char *key,
                   struct sim_kueue_name *ret)
{
    yyjson_val *value = yyjson_obj_get(map, key);
    if (!yyjson_is_str(value) || yyjson_get_len(value) > SIM_KUEUE_NAME_MAX)
        return wrong(r, where, key, "wants a text of at most 64 bytes");
    memset(ret, 0, sizeof *ret);
    memcpy(ret->text, yyjson_get_str(value), yyjson_get_len(value));
    return 0;
}

static int policy(struct reading *r, yyjson_val *map, const char *key, uint8_t *ret)
{
    static const char *const names[] = {"Never", "LowerPriority", "Any",
                                        "LowerOrNewerEqualPriority"};
    static const uint8_t policies[] = {0, 1, 2, 1}; /* of equals nobody is preempted here */
    yyjson_val *value = yyjson_obj_get(map, key);
    if (value == NULL || yyjson_is_null(value)) return 0;
    for (size_t i = 0; i < MR_COUNT_OF(names); i++) {
        if (!yyjson_equals_str(value, names[i])) continue;
        *ret = policies[i];
        return 0;
    }
    return wrong(r, "queuesSets", key, "can be Never, LowerPriority, Any");
}

/* Notes the keys that are not in the list; refuses those that would change what is replayed. */
static int keys_note(struct reading *r, yyjson_val *map, const char *where,
                     const char *const *names, size_t count)
{
    static const char *const needed[] = {"dra", "deviceNominalQuota", "deviceRequest",
                                         "deviceCount"};
    size_t index, max;
    yyjson_val *key, *value;
    if (!yyjson_is_obj(map)) return wrong(r, where, "its item", "wants to be a map");
    yyjson_obj_foreach(map, index, max, key, value)
    {
        bool known = false;
        for (size_t i = 0; i < count; i++)
            known = known || yyjson_equals_str(key, names[i]);
        if (known) continue;
        for (size_t i = 0; i < MR_COUNT_OF(needed); i++) {
            if (yyjson_equals_str(key, needed[i]))
                return wrong(r, where, needed[i], "is not replayed yet: only vCPUs are");
        }
        struct mr_buf *ignored = &r->k->ignored;
        struct mr_buf quoted;
        mr_buf_init(&quoted, 4096);
        mr_json_put_string(&quoted, text_of(key));
        mr_buf_put_char(&quoted, 0);
        if (!quoted.failed &&
            (ignored->n == 0 || strstr((char *)ignored->p, (char *)quoted.p) == NULL)) {
            if (ignored->n > 0) ignored->p[ignored->n - 1] = ',';
            mr_buf_put_str(ignored, (struct mr_str){(char *)quoted.p, quoted.n});
        }
        mr_buf_done(&quoted);
    }
    return 0;
}

/* A list of maps; absent: empty. */
static int list_of(struct reading *r, yyjson_val *map, const char *where, const char *key,
                   yyjson_val **ret)
{
    *ret = yyjson_obj_get(map, key);
    if (*ret != NULL && !yyjson_is_null(*ret) && !yyjson_is_arr(*ret))
        return wrong(r, where, key, "wants a list");
    return 0;
}

/* --- workloads ------------------------------------------------------------------------------- */

static int kind_find(struct reading *r, const struct sim_kueue_name *name, uint32_t *ret)
{
    struct sim_kueue *k = r->k;
    for (uint32_t i = 0; i < k->kind_count; i++) {
        if (strcmp(k->kinds[i].name.text, name->text) != 0) continue;
        *ret = i;
        return 0;
    }
    if (k->kind_count == SIM_KUEUE_KINDS_MAX)
        return wrong(r, "workloads", "className", "has more than 256 values");
    k->kinds[k->kind_count].name = *name;
    *ret = k->kind_count++;
    return 0;
}

/* Which place of ours a level of theirs is; the last one is the node. */
static uint8_t topology_at(const struct sim_kueue *k, uint32_t level, bool required)
{
    static const uint8_t places[SIM_KUEUE_LEVELS_MAX] = {MR_TOPOLOGY_NODE, MR_TOPOLOGY_DOMAIN,
                                                         MR_TOPOLOGY_BLOCK, MR_TOPOLOGY_CELL};
    return required ? places[k->level_count - 1 - level] : (uint8_t)MR_TOPOLOGY_PREFER_DOMAIN;
}

static int topology_read(struct reading *r, yyjson_val *map, struct sim_kueue_arrival *a)
{
    yyjson_val *constraint = yyjson_obj_get(map, "tasConstraint");
    yyjson_val *label = yyjson_obj_get(map, "tasLevel");
    if (label == NULL || yyjson_is_null(label)) return 0;
    bool required = yyjson_equals_str(constraint, "required");
    /* One place is as balanced as it gets; several only when it must. */
    bool preferred =
        yyjson_equals_str(constraint, "preferred") || yyjson_equals_str(constraint, "balanced");
    if (!required && !preferred)
        return wrong(r, "workloads", "tasConstraint", "can be required, preferred, balanced");
    for (uint32_t i = 0; i < r->k->level_count; i++) {
        if (!yyjson_equals_str(label, r->k->levels[i].label.text)) continue;
        a->topology = topology_at(r->k, i, required);
        return 0;
    }
    return wrong(r, "workloads", "tasLevel", "is no nodeLabel of the topology's levels");
}

static int workload_read(struct reading *r, yyjson_val *map, struct sim_kueue_arrival *a)
{
    static const char *const names[] = {"className", "runtimeMs",     "priority", "request",
                                        "podCount",  "tasConstraint", "tasLevel", "sliceSize"};
    struct sim_kueue_name name;
    uint64_t runtime_ms = 0, tasks = 1, milli = 0, slice = 0;
    int error = keys_note(r, map, "workloads", names, MR_COUNT_OF(names));
    if (error == 0) error = name_of(r, map, "workloads", "className", &name);
    if (error == 0) error = number(r, map, "workloads", "runtimeMs", MS_MAX, &runtime_ms);
    if (error == 0) error = number(r, map, "workloads", "podCount", COUNT_MAX, &tasks);
    if (error == 0) error = number(r, map, "workloads", "sliceSize", COUNT_MAX, &slice);
    if (error == 0) error = quantity(r, map, "workloads", "request", &milli);
    if (error == 0 && (milli == 0 || milli > 1000000000))
        error = wrong(r, "workloads", "request", "wants an amount above 0");
    yyjson_val *priority = yyjson_obj_get(map, "priority");
    if (error == 0 && priority != NULL && !yyjson_is_int(priority))
        error = wrong(r, "workloads", "priority", "wants a whole number");
    if (error == 0) error = kind_find(r, &name, &a->kind);
    if (error == 0) error = topology_read(r, map, a);
    if (error != 0) return error;
    a->runtime_us = runtime_ms * 1000;
    a->tasks = (uint32_t)MR_MAX(tasks, 1u); /* 0 is their default, which is 1 */
    a->request_milli = (uint32_t)milli;
    a->priority = yyjson_get_sint(priority);
    return 0;
}

static int arrival_add(struct reading *r, const struct sim_kueue_arrival *a)
{
    struct sim_kueue *k = r->k;
    if (k->arrival_count == SIM_KUEUE_ARRIVALS_MAX)
        return wrong(r, "workloadsSets", "count", "gives more than 2000000 workloads in sum");
    if (!grow((void **)&k->arrivals, &k->arrival_room, k->arrival_count, sizeof *k->arrivals))
        return MR_ENO_MEMORY;
    k->arrivals[k->arrival_count] = *a;
    k->arrivals[k->arrival_count].order = k->arrival_count;
    k->arrival_count++;
    k->kinds[a->kind].count++;
    uint32_t owner = a->queue;
    if (k->queues[owner].cohort != 0) owner = k->queues[owner].cohort - 1;
    k->queues[owner].work_milli_us += (uint64_t)a->request_milli * a->tasks * a->runtime_us;
    return 0;
}

static int set_read(struct reading *r, yyjson_val *map, uint32_t queue)
{
    static const char *const names[] = {"count", "creationIntervalMs", "workloads"};
    uint64_t count = 1, interval_ms = 0, delays = 0;
    yyjson_val *list, *item;
    size_t index, max;
    int error = keys_note(r, map, "workloadsSets", names, MR_COUNT_OF(names));
    if (error == 0) error = number(r, map, "workloadsSets", "count", COUNT_MAX, &count);
    if (error == 0)
        error = number(r, map, "workloadsSets", "creationIntervalMs", MS_MAX, &interval_ms);
    if (error == 0) error = list_of(r, map, "workloadsSets", "workloads", &list);
    for (uint64_t i = 0; i < count && error == 0; i++) {
        yyjson_arr_foreach(list, index, max, item)
        {
            struct sim_kueue_arrival a = {.queue = queue};
            error = workload_read(r, item, &a);
            a.time_us = ++delays * interval_ms * 1000;
            if (error == 0) error = arrival_add(r, &a);
            if (error != 0) break;
        }
    }
    return error;
}

/* --- queues and cohorts ---------------------------------------------------------------------- */

static int queue_add(struct reading *r, const struct sim_kueue_queue *queue, uint32_t *ret)
{
    struct sim_kueue *k = r->k;
    if (k->queue_count == SIM_KUEUE_QUEUES_MAX)
        return wrong(r, "queuesSets", "count", "gives more than 100000 queues and cohorts");
    if (!grow((void **)&k->queues, &k->queue_room, k->queue_count, sizeof *k->queues))
        return MR_ENO_MEMORY;
    k->queues[k->queue_count] = *queue;
    *ret = k->queue_count++;
    return 0;
}

static int queues_read(struct reading *r, yyjson_val *map)
{
    static const char *const names[] = {
        "className",           "count",        "nominalQuota",  "borrowingLimit",
        "reclaimWithinCohort", "lendingLimit", "workloadsSets", "withinClusterQueue"};
    struct sim_kueue_queue queue = {
        .cohort = r->cohort, .borrow_milli = UINT64_MAX, .lend_milli = UINT64_MAX};
    uint64_t count = 1;
    yyjson_val *sets = NULL, *set;
    size_t index, max;
    int error = keys_note(r, map, "queuesSets", names, MR_COUNT_OF(names));
    if (error == 0) error = number(r, map, "queuesSets", "count", COUNT_MAX, &count);
    if (error == 0) error = quantity(r, map, "queuesSets", "nominalQuota", &queue.nominal_milli);
    if (error == 0) error = quantity(r, map, "queuesSets", "borrowingLimit", &queue.borrow_milli);
    if (error == 0) error = quantity(r, map, "queuesSets", "lendingLimit", &queue.lend_milli);
    if (error == 0) error = policy(r, map, "reclaimWithinCohort", &queue.reclaim);
    if (error == 0) error = policy(r, map, "withinClusterQueue", &queue.within);
    if (error == 0 && queue.nominal_milli > MILLI_MAX)
        error = wrong(r, "queuesSets", "nominalQuota", "is absurd");
    if (error == 0) error = list_of(r, map, "queuesSets", "workloadsSets", &sets);
    for (uint64_t i = 0; i < count && error == 0; i++) {
        uint32_t at = 0;
        error = queue_add(r, &queue, &at);
        if (error != 0) break;
        if (r->cohort != 0) r->k->queues[r->cohort - 1].nominal_milli += queue.nominal_milli;
        yyjson_arr_foreach(sets, index, max, set)
        {
            error = set_read(r, set, at);
            if (error != 0) break;
        }
    }
    return error;
}

static int cohort_read(struct reading *r, yyjson_val *map)
{
    static const char *const names[] = {"className", "count", "queuesSets"};
    uint64_t count = 1;
    yyjson_val *sets = NULL, *set;
    size_t index, max;
    int error = keys_note(r, map, "cohorts", names, MR_COUNT_OF(names));
    if (error == 0) error = number(r, map, "cohorts", "count", COUNT_MAX, &count);
    if (error == 0) error = list_of(r, map, "cohorts", "queuesSets", &sets);
    for (uint64_t i = 0; i < count && error == 0; i++) {
        const struct sim_kueue_queue cohort = {.is_cohort = true, .lend_milli = UINT64_MAX};
        uint32_t at = 0;
        error = queue_add(r, &cohort, &at);
        r->cohort = at + 1;
        yyjson_arr_foreach(sets, index, max, set)
        {
            if (error == 0) error = queues_read(r, set);
        }
    }
    return error;
}

/* --- the topology ---------------------------------------------------------------------------- */

static int level_read(struct reading *r, yyjson_val *map)
{
    static const char *const names[] = {"name", "count", "nodeLabel", "capacity"};
    struct sim_kueue *k = r->k;
    uint64_t count = 1, cpu_milli = 0, mem_milli = 0;
    if (k->level_count == SIM_KUEUE_LEVELS_MAX)
        return wrong(r, "topology", "levels", "has more than 4 items");
    struct sim_kueue_level *level = &k->levels[k->level_count];
    int error = keys_note(r, map, "levels", names, MR_COUNT_OF(names));
    if (error == 0) error = number(r, map, "levels", "count", COUNT_MAX, &count);
    if (error == 0) error = name_of(r, map, "levels", "nodeLabel", &level->label);
    yyjson_val *capacity = yyjson_obj_get(map, "capacity");
    if (error == 0) error = quantity(r, capacity, "capacity", "cpu", &cpu_milli);
    if (error == 0) error = quantity(r, capacity, "capacity", "memory", &mem_milli);
    if (error != 0) return error;
    if (count == 0 || cpu_milli > UINT32_MAX)
        return wrong(r, "levels", "count and capacity", "are out of bounds");
    level->count = (uint32_t)count;
    k->level_count++;
    k->node_cpu_milli = (uint32_t)cpu_milli;
    k->node_mem_mib = (uint32_t)MR_MIN(mem_milli / 1000 >> 20, (uint64_t)UINT32_MAX);
    return 0;
}

static int levels_read(struct reading *r, yyjson_val *root)
{
    yyjson_val *topology = yyjson_obj_get(root, "topology"), *list = NULL, *item;
    size_t index, max;
    if (topology == NULL || yyjson_is_null(topology)) return 0;
    int error = list_of(r, topology, "topology", "levels", &list);
    yyjson_arr_foreach(list, index, max, item)
    {
        if (error == 0) error = level_read(r, item);
    }
    uint64_t nodes = 1;
    for (uint32_t i = 0; i < r->k->level_count && nodes < COUNT_MAX; i++)
        nodes *= r->k->levels[i].count;
    if (error == 0 && (r->k->node_cpu_milli == 0 || nodes >= COUNT_MAX))
        error = wrong(r, "topology", "levels", "want a last one with a capacity, and fewer nodes");
    return error;
}

/* --- the file -------------------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
    const struct sim_kueue_arrival *x = a, *y = b;
    if (x->time_us != y->time_us) return x->time_us < y->time_us ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Eight classes stand for any priorities: the highest is 0; more than eight share the last. */
static void ranks_set(struct sim_kueue *k)
{
    int64_t highest[MR_PRIORITY_COUNT];
    uint32_t count = 0;
    for (uint32_t i = 0; i < k->arrival_count; i++) {
        int64_t priority = k->arrivals[i].priority;
        uint32_t at = 0;
        while (at < count && highest[at] > priority)
            at++;
        if (at == MR_PRIORITY_COUNT || (at < count && highest[at] == priority)) continue;
        count = MR_MIN(count + 1, MR_PRIORITY_COUNT);
        memmove(&highest[at + 1], &highest[at], (count - 1 - at) * sizeof highest[0]);
        highest[at] = priority;
    }
    for (uint32_t i = 0; i < k->arrival_count; i++) {
        uint32_t at = 0;
        while (at + 1 < count && highest[at] > k->arrivals[i].priority)
            at++;
        k->arrivals[i].rank = (uint8_t)at;
    }
}

int sim_kueue_read(const struct mr_sim_file *file, struct mr_buf *problem, struct sim_kueue *ret)
{
    static const char *const names[] = {"topology", "resourceFlavor", "cohorts"};
    struct reading r = {.k = ret, .file = file->name, .problem = problem};
    *ret = (struct sim_kueue){0};
    mr_buf_init(&ret->ignored, 65536);
    yyjson_doc *doc = yyjson_read(file->text.p, file->text.n, 0);
    yyjson_val *root = yyjson_doc_get_root(doc), *cohorts = root, *item;
    size_t index, max;
    int error = 0;
    if (doc == NULL) {
        mr_buf_printf(problem, "%.*s: neither YAML nor JSON", MR_STR_ARG(file->name));
        return MR_ESYNTAX;
    }
    if (!yyjson_is_arr(root)) { /* the older files are just the list */
        error = keys_note(&r, root, "the file", names, MR_COUNT_OF(names));
        if (error == 0) error = levels_read(&r, root);
        if (error == 0) error = list_of(&r, root, "the file", "cohorts", &cohorts);
    }
    yyjson_arr_foreach(cohorts, index, max, item)
    {
        if (error == 0) error = cohort_read(&r, item);
    }
    yyjson_doc_free(doc);
    if (error == 0 && ret->arrival_count == 0)
        error = wrong(&r, "cohorts", "workloadsSets", "give no workload at all");
    if (error != 0) return error;
    qsort(ret->arrivals, ret->arrival_count, sizeof *ret->arrivals, by_time);
    ranks_set(ret);
    return 0;
}

void sim_kueue_done(struct sim_kueue *kueue)
{
    mr_free(kueue->queues);
    mr_free(kueue->arrivals);
    mr_buf_done(&kueue->ignored);
    *kueue = (struct sim_kueue){0};
}

uint64_t sim_kueue_ideal_us(const struct sim_kueue *kueue)
{
    uint64_t ideal_us = 0;
    for (uint32_t i = 0; i < kueue->queue_count; i++) {
        const struct sim_kueue_queue *q = &kueue->queues[i];
        if (q->work_milli_us == 0 || q->nominal_milli == 0) continue;
        ideal_us = MR_MAX(ideal_us, q->work_milli_us / q->nominal_milli);
    }
    for (uint32_t i = 0; i < kueue->arrival_count; i++) {
        const struct sim_kueue_arrival *a = &kueue->arrivals[i];
        ideal_us = MR_MAX(ideal_us, a->time_us + a->runtime_us);
    }
    return ideal_us;
}
