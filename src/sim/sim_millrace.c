/* SPDX-License-Identifier: Apache-2.0 */
/* Reads our own workload format: one JSON object a line, fields named as in the workload document.
 *
 * Owns:       nothing.
 * Invariants: (1) a job has a running time above 0 and at least one task.
 * Never:      I/O, clock; a float in a result: seconds are read in thousandths.
 * Cost:       O(bytes).
 * Idea:       docs/guides/simulate.md   Tests: tests/unit/sim/test_sim_story.c, fuzz sim_millrace
 */
#include <stdio.h>
#include <string.h>

#include "sim_field_int.h"
#include "sim_story_int.h"

struct reader {
    struct sim_fields f;
    struct mr_sim_fleet *fleet;
    struct sim_story *story;
};

/* Seconds with at most three digits behind the point; a date too when `date`. */
static int seconds_get(struct reader *r, const char *name, bool date, uint64_t *ret_us)
{
    yyjson_val *value = yyjson_obj_get(r->f.map, name);
    if (value == NULL) return 0;
    if (date && yyjson_is_str(value)) return sim_field_date(&r->f, name, ret_us);
    double seconds = yyjson_get_num(value);
    if (!yyjson_is_num(value) || !(seconds >= 0) || seconds > 4e9)
        return sim_field_wrong(
            &r->f, name, date ? "seconds or a date are wanted" : "a number of seconds is wanted");
    *ret_us = (uint64_t)(seconds * 1000 + 0.5) * 1000;
    return 0;
}

static int tasks_get(struct reader *r, struct sim_job *job)
{
    yyjson_val *value = yyjson_obj_get(r->f.map, "num_tasks");
    if (value == NULL) return 0;
    if (!yyjson_is_obj(value)) {
        int error = sim_field_u32(&r->f, "num_tasks", 1, SIM_FLEET_NODES_MAX, &job->tasks_min);
        job->tasks_max = job->tasks_min;
        return error;
    }
    static const char *const names[] = {"min", "max"};
    struct sim_fields inner = r->f;
    inner.map = value;
    memcpy(inner.path, "num_tasks.", sizeof "num_tasks.");
    int error = sim_fields_open(&inner, names, 2);
    if (error == 0) error = sim_field_u32(&inner, "min", 1, SIM_FLEET_NODES_MAX, &job->tasks_min);
    job->tasks_max = job->tasks_min;
    if (error == 0)
        error = sim_field_u32(&inner, "max", job->tasks_min, SIM_FLEET_NODES_MAX, &job->tasks_max);
    return error;
}

/* "H100:8", "H100|H200:8", "H100:0.5". */
static int devices_get(struct reader *r, struct mr_shape *shape)
{
    struct mr_str text = {0}, names, number;
    int error = sim_field_text(&r->f, "accelerators", &text);
    if (error != 0 || text.n == 0) return error;
    uint64_t micro = 1000000;
    number = text;
    bool fine = mr_str_split(&number, ':', &names) && names.n > 0;
    if (fine && number.p != NULL) fine = sim_price_get(number, &micro) == 0;
    uint64_t milli = micro / 1000;
    fine = fine && milli > 0 && milli <= MR_DEVICES_PER_NODE_MAX * 1000u;
    fine = fine && (milli < 1000 || milli % 1000 == 0);
    if (!fine) {
        return sim_field_wrong(
            &r->f, "accelerators",
            "a type and whole devices, or less than one, are wanted: \"H100:8\"");
    }
    shape->accel_milli = (uint32_t)milli;
    if (sim_shape_types(r->fleet, names, shape)) return 0;
    return sim_field_wrong(&r->f, "accelerators", "the fleet has no '%.*s'",
                           (int)MR_MIN(names.n, (size_t)60), names.p);
}

static int topology_get(struct reader *r, struct sim_job *job)
{
    static const char *const names[MR_TOPOLOGY_COUNT] = {"any",    "prefer_domain", "node",
                                                         "domain", "block",         "cell"};
    struct mr_str text = {0};
    int error = sim_field_text(&r->f, "topology", &text);
    if (error != 0 || text.n == 0) return error;
    for (uint8_t i = 0; i < MR_TOPOLOGY_COUNT; i++) {
        if (!mr_str_equal(text, mr_str_from(names[i]))) continue;
        job->topology = i;
        return 0;
    }
    return sim_field_wrong(&r->f, "topology",
                           "any, prefer_domain, node, domain, block or cell is wanted");
}

static int shape_get(struct reader *r, struct sim_job *job)
{
    uint64_t cpus = 1000000;
    uint32_t mem = 0, priority = MR_PRIORITY_DEFAULT;
    yyjson_val *preemptible = yyjson_obj_get(r->f.map, "preemptible");
    int error = sim_field_price(&r->f, "cpus", &cpus); /* a number with a fraction */
    if (error == 0 && (cpus / 1000 == 0 || cpus / 1000 > UINT32_MAX))
        error = sim_field_wrong(&r->f, "cpus", "a number such as 8 or 0.5 is wanted");
    if (error == 0) error = sim_field_mib(&r->f, "memory", &mem);
    if (error == 0) error = devices_get(r, &job->shape);
    if (error == 0) error = sim_field_u32(&r->f, "priority", 0, MR_PRIORITY_COUNT - 1, &priority);
    if (error == 0 && preemptible != NULL && !yyjson_is_bool(preemptible))
        error = sim_field_wrong(&r->f, "preemptible", "true or false is wanted");
    if (error != 0) return error;
    job->shape.cpu_milli = (uint32_t)(cpus / 1000);
    job->shape.mem_mib = mem;
    job->priority = (uint8_t)priority;
    job->preemptible = yyjson_get_bool(preemptible);
    return 0;
}

static int job_get(struct reader *r, struct sim_job *job)
{
    static const char *const names[] = {
        "name",      "submit",       "run",        "num_tasks",       "cpus",
        "memory",    "accelerators", "time_limit", "topology",        "priority",
        "tenant",    "preemptible",  "checkpoint", "checkpoint_cost", "restart_cost",
        "swap_cost", "spares",       "deadline",   "state",
    };
    struct mr_str tenant = MR_STR("default"), state = MR_STR("completed"), name;
    int error = sim_fields_open(&r->f, names, MR_COUNT_OF(names));
    if (error == 0) error = sim_field_text(&r->f, "name", &name);
    if (error == 0) error = sim_field_text(&r->f, "tenant", &tenant);
    if (error == 0) error = sim_field_text(&r->f, "state", &state);
    if (error == 0) error = seconds_get(r, "submit", true, &job->submit_us);
    if (error == 0) error = seconds_get(r, "run", false, &job->run_us);
    if (error == 0 && job->run_us == 0)
        error = sim_field_wrong(&r->f, "run", "its running time in seconds, above 0, is wanted");
    if (error == 0) error = seconds_get(r, "time_limit", false, &job->limit_us);
    if (error == 0) error = seconds_get(r, "deadline", true, &job->deadline_us);
    if (error == 0) error = seconds_get(r, "checkpoint", false, &job->checkpoint_us);
    if (error == 0) error = seconds_get(r, "checkpoint_cost", false, &job->checkpoint_cost_us);
    if (error == 0) error = seconds_get(r, "restart_cost", false, &job->restart_us);
    job->swap_us = job->restart_us;
    if (error == 0) error = seconds_get(r, "swap_cost", false, &job->swap_us);
    if (error == 0) error = sim_field_u32(&r->f, "spares", 0, 1000000, &job->spares);
    if (error == 0) error = tasks_get(r, job);
    if (error == 0) error = topology_get(r, job);
    if (error == 0) error = shape_get(r, job);
    if (error != 0) return error;
    if (job->deadline_us > 0 && job->deadline_us < job->submit_us)
        return sim_field_wrong(&r->f, "deadline", "it is before the submission");
    job->tenant = sim_story_tenant(r->story, tenant);
    job->ended_badly = !mr_str_equal_nocase(state, MR_STR("completed"));
    return 0;
}

static int line_read(struct reader *r, struct mr_str line)
{
    yyjson_read_err wrong;
    char *text = (char *)(uintptr_t)line.p; /* not changed without the in-situ flag */
    yyjson_doc *doc = yyjson_read_opts(text, line.n, 0, NULL, &wrong);
    if (doc == NULL) return sim_field_wrong(&r->f, "", "byte %zu: %s", wrong.pos, wrong.msg);
    r->f.map = yyjson_doc_get_root(doc);
    struct sim_job *job = sim_story_add(r->story);
    int error = MR_ENO_MEMORY;
    if (job != NULL) {
        error = job_get(r, job);
    } else if (r->story->job_count == SIM_JOBS_MAX) {
        error = sim_field_wrong(&r->f, "", "more than %u jobs", SIM_JOBS_MAX);
    }
    yyjson_doc_free(doc);
    return error;
}

int sim_millrace_read(const struct mr_sim_file *file, struct mr_sim_fleet *fleet,
                      struct sim_story *story, struct mr_buf *problem)
{
    struct reader r = {.fleet = fleet, .story = story};
    struct mr_str rest = file->text, line;
    char where[MR_NAME_BYTES_MAX + 32];
    uint32_t number = 0;
    while (mr_str_split(&rest, '\n', &line)) {
        number++;
        line = mr_str_trim(line);
        if (line.n == 0 || line.p[0] == '#') continue;
        int n =
            snprintf(where, sizeof where, "%.*s:%u",
                     (int)MR_MIN(file->name.n, (size_t)MR_NAME_BYTES_MAX), file->name.p, number);
        r.f = (struct sim_fields){.file = {where, n > 0 ? (size_t)n : 0}, .problem = problem};
        int error = line_read(&r, line);
        if (error != 0) return error;
    }
    return 0;
}
