/* SPDX-License-Identifier: Apache-2.0 */
/* What a document says for the planner of deadlines: the work, and how fast it goes with how many
 * tasks.
 *
 *   deadline: 6h            work: 120000         speed_error: 0.2
 *   promise: true           late: run|end
 *   scaling: [{tasks: 1, rate: 3.2}, {tasks: 4, rate: 11, resize: 30s}]
 *
 * Owns:       nothing.
 * Invariants: (1) sizes ascend and lie within num_tasks, which they give when it is not said.
 * Fails:      with the field's full name.
 */
#include <stdio.h>
#include <yyjson.h>

#include "ctl/ctl_field.h"
#include "ctl/ctl_int.h"

#define WORK_MAX       (((uint64_t)1 << 43) - 1)
#define RATE_MILLI_MAX 1000000000000ull

static int read_point(const struct ctl_fields *top, uint32_t index, struct mr_curve_point *ret)
{
    static const char *const names[] = {"tasks", "rate", "resize"};
    char prefix[32];
    struct ctl_fields f = *top;
    uint64_t tasks = 0, rate_milli = 0;
    (void)snprintf(prefix, sizeof prefix, "scaling[%u].", index);
    f.map = yyjson_arr_get(yyjson_obj_get(top->map, "scaling"), index);
    f.prefix = prefix;
    if (!yyjson_is_obj(f.map))
        return ctl_field_wrong(top, "scaling", "wants maps of tasks, rate and resize");
    int error = ctl_fields_known(&f, names, MR_COUNT_OF(names));
    if (error == 0) error = ctl_field_u64(&f, "tasks", 1, 1000000, &tasks);
    if (error == 0) error = ctl_field_milli(&f, "rate", RATE_MILLI_MAX, &rate_milli);
    if (error == 0) error = ctl_field_duration(&f, "resize", &ret->resize_us);
    if (error == 0 && tasks == 0) error = ctl_field_wrong(&f, "tasks", "is missing");
    if (error == 0 && rate_milli == 0)
        error = ctl_field_wrong(&f, "rate", "wants units of work a second, 0.001 or more");
    ret->tasks = (uint32_t)tasks;
    ret->rate_micro = rate_milli * 1000;
    return error;
}

static int read_scaling(const struct ctl_fields *f, struct mr_event_submit *e)
{
    yyjson_val *list = yyjson_obj_get(f->map, "scaling");
    bool sized =
        yyjson_obj_get(f->map, "num_tasks") != NULL || yyjson_obj_get(f->map, "num_nodes") != NULL;
    struct mr_curve *curve = &e->curve;
    size_t count = yyjson_arr_size(list);
    if (list == NULL) return 0;
    if (!yyjson_is_arr(list) || count == 0 || count > MR_CURVE_POINTS_MAX)
        return ctl_field_wrong(f, "scaling", "wants a list of 1 to %u sizes with their speeds",
                               MR_CURVE_POINTS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        int error = read_point(f, i, &curve->points[i]);
        if (error != 0) return error;
        if (i > 0 && curve->points[i].tasks <= curve->points[i - 1].tasks)
            return ctl_field_wrong(f, "scaling", "tasks must ascend: %u stands behind %u",
                                   curve->points[i].tasks, curve->points[i - 1].tasks);
    }
    curve->count = (uint32_t)count;
    uint32_t first = curve->points[0].tasks, last = curve->points[count - 1].tasks;
    if (!sized) {
        e->tasks_min = first;
        e->tasks_max = last;
    }
    if (first < e->tasks_min || last > e->tasks_max)
        return ctl_field_wrong(f, "scaling", "names %u to %u tasks, num_tasks allows %u to %u",
                               first, last, e->tasks_min, e->tasks_max);
    return 0;
}

static int read_late(const struct ctl_fields *f, bool *ret)
{
    struct mr_str late = {0};
    int error = ctl_field_text(f, "late", 8, &late);
    if (error != 0 || late.n == 0) return error;
    *ret = mr_str_equal(late, MR_STR("end"));
    if (*ret || mr_str_equal(late, MR_STR("run"))) return 0;
    return ctl_field_wrong(f, "late", "is run (it goes on) or end (it ends)");
}

int ctl_curve_read(const struct ctl_fields *f, struct mr_event_submit *e)
{
    static const char *const names[] = {"work", "scaling", "speed_error", "promise", "late"};
    uint64_t error_permille = 0;
    const char *given = NULL;
    for (size_t i = 0; i < MR_COUNT_OF(names) && given == NULL; i++) {
        if (yyjson_obj_get(f->map, names[i]) != NULL) given = names[i];
    }
    if (e->deadline_us != 0 && e->kind != MR_KIND_JOB)
        return ctl_field_wrong(f, "deadline", "is for jobs; a service has no end");
    if (given == NULL) return 0;
    if (e->deadline_us == 0)
        return ctl_field_wrong(f, given, "is for jobs with a deadline; give deadline, like 6h");
    e->promise = true;
    int error = ctl_field_u64(f, "work", 1, WORK_MAX, &e->curve.work);
    if (error == 0) error = read_scaling(f, e);
    if (error == 0) error = ctl_field_milli(f, "speed_error", 999, &error_permille);
    if (error == 0) error = ctl_field_bool(f, "promise", &e->promise);
    if (error == 0) error = read_late(f, &e->late_ends);
    if (error == 0 && (e->curve.work == 0) != (e->curve.count == 0))
        error = ctl_field_wrong(f, e->curve.work == 0 ? "work" : "scaling",
                                "is missing: work and scaling go together");
    if (error == 0 && e->curve.count > 0 && e->shape.accel_milli < 1000)
        error = ctl_field_wrong(f, "scaling",
                                "is for jobs with whole accelerators; without, give estimate");
    e->curve.error_permille = (uint32_t)error_permille;
    return error;
}
