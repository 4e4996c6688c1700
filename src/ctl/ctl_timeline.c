/* SPDX-License-Identifier: Apache-2.0 */
/* What there is over time, type by type: core's timeline from now on, on a grid.
 *
 *   GET /api/timeline?days=56&steps=56
 *
 * Owns:  nothing.
 * Fails: MR_EINVALID with the parameter's name; MR_ENO_MEMORY.
 * Cost:  for each type O(live leases + windows + steps).
 */
#include "ctl/ctl_int.h"

#define DAY_US     (24 * 3600ull * 1000000ull)
#define DAYS_MAX   3660u
#define STEPS_MAX  1000u
#define DAYS_FIRST 56u /* as far as capacity blocks are sold */

struct grid {
    uint64_t days, steps;
};

static bool grid_read(struct mr_ctl_call *call, struct grid *ret)
{
    struct mr_str query = call->query, part, name;
    *ret = (struct grid){.days = DAYS_FIRST, .steps = DAYS_FIRST};
    while (mr_str_split(&query, '&', &part)) {
        bool given = mr_str_split(&part, '=', &name) && part.p != NULL;
        bool days = given && mr_str_equal(name, MR_STR("days"));
        bool steps = given && mr_str_equal(name, MR_STR("steps"));
        uint64_t *value = days ? &ret->days : &ret->steps, most = days ? DAYS_MAX : STEPS_MAX;
        if (!days && !steps) continue;
        if (mr_str_to_u64(part, value) != 0 || *value == 0 || *value > most) {
            ctl_problem(call, "%s: wants 1 to %llu", days ? "days" : "steps",
                        (unsigned long long)most);
            return false;
        }
    }
    return true;
}

static void put_step(struct mr_buf *out, const struct mr_timeline_step *s)
{
    mr_buf_put_str(out, MR_STR("{\"time\":\""));
    mr_time_put_rfc3339(out, s->time_us);
    mr_buf_printf(out,
                  "\",\"installed\":%llu,\"maintenance\":%llu,\"reserved\":%llu,\"running\":%llu,"
                  "\"free\":%llu}",
                  (unsigned long long)s->installed / 1000,
                  (unsigned long long)s->maintenance / 1000, (unsigned long long)s->reserved / 1000,
                  (unsigned long long)s->running / 1000, (unsigned long long)s->free / 1000);
}

void ctl_put_timeline(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    struct grid grid;
    struct mr_buf *out = &call->out;
    uint64_t now_us = ctl->env->ops->now_us(ctl->env);
    call->error = grid_read(call, &grid) ? 0 : MR_EINVALID;
    if (call->error != 0) return;
    uint32_t count = (uint32_t)grid.steps;
    uint64_t step_us = MR_MAX(grid.days * DAY_US / grid.steps, 1u);
    struct mr_timeline_step *steps = mr_alloc_zero(count * sizeof *steps);
    if (steps == NULL) {
        call->error = MR_ENO_MEMORY;
        return;
    }
    mr_buf_printf(out, "{\"step_s\":%llu,\"types\":[", (unsigned long long)step_us / 1000000);
    for (uint32_t type = 0; type <= ctl->book.accel_count; type++) {
        mr_core_timeline(ctl->core, (uint8_t)type, now_us, step_us, steps, count);
        mr_buf_put_str(out, type > 0 ? MR_STR(",{\"resource\":") : MR_STR("{\"resource\":"));
        mr_json_put_string(out, type > 0 ? mr_str_from(ctl_accel_name(&ctl->book, (uint8_t)type))
                                         : MR_STR("vCPU"));
        mr_buf_put_str(out, MR_STR(",\"steps\":["));
        for (uint32_t i = 0; i < count; i++) {
            if (i > 0) mr_buf_put_char(out, ',');
            put_step(out, &steps[i]);
        }
        mr_buf_put_str(out, MR_STR("]}"));
    }
    mr_buf_put_str(out, MR_STR("]}"));
    mr_free(steps);
}
