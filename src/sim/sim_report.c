/* SPDX-License-Identifier: Apache-2.0 */
/* What became of a story, as figures: one JSON document, and lines for people.
 *
 * Owns:       sorted copies of the waits, for the length of the call.
 * Invariants: (1) shares of goodput sum up to 1 over all that was there.
 * Never:      I/O, clock.
 * Cost:       O(jobs log jobs).
 * Idea:       docs/internals/sim.md   Tests: tests/unit/sim/test_sim_story.c
 */
#include <inttypes.h>
#include <stdlib.h>

#include "sim_report_int.h"

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct sim_spread sim_spread_of(double *values, uint64_t count)
{
    struct sim_spread ret = {.count = count};
    if (count == 0) return ret;
    qsort(values, count, sizeof *values, ascending);
    for (uint64_t i = 0; i < count; i++)
        ret.mean += values[i];
    ret.mean /= (double)count;
    ret.median = values[count / 2];
    ret.p90 = values[MR_MIN(count - 1, count * 90 / 100)];
    ret.p99 = values[MR_MIN(count - 1, count * 99 / 100)];
    ret.max = values[count - 1];
    return ret;
}

/* (wait + run) / run, where a run of less than 10 s counts as one of 10 s; at least 1. */
static double slowdown(const struct sim_job *job, const struct sim_outcome *o)
{
    double wait = (double)(o->ended_us - job->submit_us - job->run_us) / 1e6;
    double run = (double)job->run_us / 1e6, bound = MR_MAX(run, 10.0);
    return MR_MAX((wait + run) / bound, 1.0);
}

int sim_figures_of(const struct sim_result *r, struct sim_figures *ret)
{
    const struct sim_story *s = r->story;
    double *values = mr_alloc((size_t)s->job_count * sizeof *values);
    if (values == NULL) return MR_ENO_MEMORY;
    *ret = (struct sim_figures){0};
    uint64_t count = 0;
    for (uint32_t i = 0; i < s->job_count; i++) {
        const struct sim_outcome *o = &r->outcomes[i];
        if (o->started_us == SIM_UNKNOWN) continue;
        values[count++] = (double)(o->started_us - s->jobs[i].submit_us) / 1e6;
    }
    ret->wait = sim_spread_of(values, count);
    ret->never_started = s->job_count - count;
    count = 0;
    for (uint32_t i = 0; i < s->job_count; i++) {
        const struct sim_outcome *o = &r->outcomes[i];
        if (o->state < MR_STATE_COUNT && o->ended_us != SIM_UNKNOWN) ret->states[o->state]++;
        ret->requeues += o->runs > 1 ? o->runs - 1 : 0;
        if (o->ended_us == SIM_UNKNOWN || o->state != MR_STATE_COMPLETED) continue;
        values[count++] = slowdown(&s->jobs[i], o);
        if (s->jobs[i].deadline_us == 0) continue;
        ret->deadlines++;
        ret->deadlines_met += o->ended_us <= s->jobs[i].deadline_us;
    }
    ret->slowdown = sim_spread_of(values, count);
    count = 0;
    for (uint32_t i = 0; i < s->job_count; i++) {
        if (s->jobs[i].recorded_wait_us != SIM_UNKNOWN)
            values[count++] = (double)s->jobs[i].recorded_wait_us / 1e6;
    }
    ret->recorded = sim_spread_of(values, count);
    mr_free(values);
    sim_figures_series(r, ret);
    return 0;
}

static double ratio(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

void sim_figures_series(const struct sim_result *r, struct sim_figures *f)
{
    const struct sim_series *s = &r->series;
    double accel_used = 0, accel_up = 0, cpu_used = 0, cpu_up = 0, queue = 0, whole = 0;
    double domains = 0, busy = 0, busy_up = 0, time_us = (double)MR_MAX(r->end_us, 1u);
    for (uint32_t i = 0; i < s->cells; i++) {
        accel_used += s->accel_used[i];
        accel_up += s->accel_up[i];
        cpu_used += s->cpu_used[i];
        cpu_up += s->cpu_up[i];
        queue += s->queue[i];
        whole += s->free_whole[i];
        domains += s->domains_free[i];
        if (i > 0 && i * s->cell_us >= r->last_submit_us) continue;
        busy += r->by_cpu ? s->cpu_used[i] : s->accel_used[i];
        busy_up += r->by_cpu ? s->cpu_up[i] : s->accel_up[i];
    }
    double used = r->by_cpu ? cpu_used : accel_used, up = r->by_cpu ? cpu_up : accel_up;
    f->accel_used = ratio(accel_used, accel_up);
    f->cpu_used = ratio(cpu_used, cpu_up);
    f->used_until_last = ratio(busy, busy_up);
    f->queue_mean = queue / time_us;
    f->domains_free_mean = domains / time_us;
    f->fragmentation = up > used ? 1 - ratio(whole, up - used) : 0;
    const struct sim_goodput *g = &r->goodput;
    double all = r->capacity_milli_us;
    f->share_productive = ratio(g->productive, all);
    f->share_ended_badly = ratio(g->ended_badly, all);
    f->share_checkpoint = ratio(g->checkpoint, all);
    f->share_restart = ratio(g->restart, all);
    f->share_lost = ratio(g->lost, all);
    f->share_swap = ratio(g->swap, all);
    f->share_spare = ratio(g->spare, all);
    f->share_down = ratio(r->down_milli_us, all);
    f->share_idle = 1 - f->share_productive - f->share_ended_badly - f->share_checkpoint -
                    f->share_restart - f->share_lost - f->share_swap - f->share_spare -
                    f->share_down;
    double held = g->productive + g->ended_badly + g->checkpoint + g->restart + g->lost + g->swap;
    f->goodput_of_world = ratio(g->productive + g->ended_badly, held);
    f->goodput_of_held = ratio(g->productive + g->ended_badly, held + g->spare);
}

/* --- JSON ---------------------------------------------------------------------------------- */

static void put_spread(struct mr_buf *out, const char *name, const struct sim_spread *s)
{
    mr_buf_printf(out, ",\"%s\":", name);
    if (s->count == 0) {
        mr_buf_put_str(out, MR_STR("null"));
        return;
    }
    mr_buf_printf(out,
                  "{\"count\":%" PRIu64 ",\"mean\":%.3f,\"median\":%.3f,\"p90\":%.3f,\"p99\":%.3f,"
                  "\"max\":%.3f}",
                  s->count, s->mean, s->median, s->p90, s->p99, s->max);
}

static void put_series(struct mr_buf *out, const char *name, const struct sim_series *s,
                       const double *of, double unit)
{
    mr_buf_printf(out, ",\"%s\":[", name);
    for (uint32_t i = 0; i < s->cells; i++)
        mr_buf_printf(out, "%s%.6g", i > 0 ? "," : "", of[i] / (double)s->cell_us / unit);
    mr_buf_put_char(out, ']');
}

/* A cell's free amount that does not lie in wholly free domains, as a share. */
double sim_fragmentation_at(const struct sim_result *r, uint32_t cell)
{
    const struct sim_series *s = &r->series;
    double up = r->by_cpu ? s->cpu_up[cell] : s->accel_up[cell];
    double used = r->by_cpu ? s->cpu_used[cell] : s->accel_used[cell];
    double free = up - used;
    if (up <= 0 || free <= up * 1e-9) return 0; /* nothing is free, or nothing is there */
    return MR_MAX(0.0, 1 - s->free_whole[cell] / free);
}

static void put_all_series(struct mr_buf *out, const struct sim_result *r)
{
    const struct sim_series *s = &r->series;
    mr_buf_printf(out, ",\"series\":{\"step_s\":%.3f", (double)s->cell_us / 1e6);
    put_series(out, "queue", s, s->queue, 1);
    put_series(out, "accelerators_used", s, s->accel_used, 1000);
    put_series(out, "accelerators_up", s, s->accel_up, 1000);
    put_series(out, "cpus_used", s, s->cpu_used, 1000);
    put_series(out, "cpus_up", s, s->cpu_up, 1000);
    put_series(out, "domains_wholly_free", s, s->domains_free, 1);
    mr_buf_put_str(out, MR_STR(",\"fragmentation\":["));
    for (uint32_t i = 0; i < s->cells; i++)
        mr_buf_printf(out, "%s%.4f", i > 0 ? "," : "", sim_fragmentation_at(r, i));
    mr_buf_put_str(out, MR_STR("]}"));
}

static void put_json(struct mr_buf *out, const struct sim_result *r, const struct sim_figures *f,
                     const struct mr_sim_replay_options *options)
{
    mr_buf_put_str(out, MR_STR("{\"format\":"));
    mr_json_put_string(out, options->format);
    mr_buf_put_str(out, MR_STR(",\"fleet\":{\"name\":"));
    mr_json_put_string(out, r->fleet->name);
    mr_buf_printf(out, ",\"nodes\":%u,\"domains\":%u}", r->fleet->node_count, r->fleet->domains);
    mr_buf_printf(out,
                  ",\"jobs\":%u,\"skipped\":%" PRIu64 ",\"rejected\":%" PRIu64
                  ",\"never_started\":%" PRIu64 ",\"requeues\":%" PRIu64 ",\"states\":{",
                  r->story->job_count, r->story->skipped, r->rejected, f->never_started,
                  f->requeues);
    const char *comma = "";
    for (uint32_t i = 0; i < MR_STATE_COUNT; i++) {
        if (f->states[i] == 0) continue;
        mr_buf_printf(out, "%s\"%s\":%" PRIu64, comma, mr_state_name((enum mr_state)i),
                      f->states[i]);
        comma = ",";
    }
    mr_buf_printf(out, "},\"makespan_s\":%.3f,\"last_submission_s\":%.3f", (double)r->end_us / 1e6,
                  (double)r->last_submit_us / 1e6);
    put_spread(out, "wait_s", &f->wait);
    put_spread(out, "bounded_slowdown", &f->slowdown);
    put_spread(out, "recorded_wait_s", &f->recorded);
    mr_buf_printf(out,
                  ",\"utilisation\":{\"accelerators\":%.6f,\"cpus\":%.6f,"
                  "\"until_last_submission\":%.6f}",
                  f->accel_used, f->cpu_used, f->used_until_last);
    mr_buf_printf(
        out,
        ",\"goodput\":{\"of\":\"%s\",\"of_held\":%.6f,\"of_world\":%.6f,\"productive\":%.6f,"
        "\"ended_badly\":%.6f,\"checkpoint\":%.6f,\"restart\":%.6f,\"lost_work\":%.6f,"
        "\"swap\":%.6f,\"spare\":%.6f,\"down\":%.6f,\"idle\":%.6f,\"device_hours\":%.3f}",
        r->by_cpu ? "cpus" : "accelerators", f->goodput_of_held, f->goodput_of_world,
        f->share_productive, f->share_ended_badly, f->share_checkpoint, f->share_restart,
        f->share_lost, f->share_swap, f->share_spare, f->share_down, f->share_idle,
        r->capacity_milli_us / 3.6e12);
    mr_buf_printf(out, ",\"queue\":{\"mean\":%.3f,\"max\":%" PRIu64 "},\"fragmentation\":%.6f",
                  f->queue_mean, r->queue_max, f->fragmentation);
    mr_buf_printf(out,
                  ",\"domains\":{\"wholly_free_mean\":%.3f,\"gangs\":%" PRIu64
                  ",\"gangs_on_fewest_domains\":%" PRIu64 "}",
                  f->domains_free_mean, r->gangs, r->gangs_tight);
    if (f->deadlines > 0)
        mr_buf_printf(out, ",\"deadlines\":{\"jobs\":%" PRIu64 ",\"met\":%" PRIu64 "}",
                      f->deadlines, f->deadlines_met);
    mr_buf_printf(out,
                  ",\"failures\":{\"interruptions\":%" PRIu64 ",\"domains_failed\":%" PRIu64
                  ",\"swaps\":%" PRIu64 ",\"suspects\":%" PRIu64 "}",
                  r->interruptions, r->racks_failed, r->swaps, r->suspects);
    mr_buf_printf(out, ",\"cost_usd\":%.2f,\"events\":%" PRIu64 ",\"decisions_per_s\":%.0f",
                  r->cost_usd, r->events,
                  r->core_ns > 0 ? (double)r->events * 1e9 / (double)r->core_ns : 0.0);
    put_all_series(out, r);
    mr_buf_put_char(out, '}');
}

/* --- text ---------------------------------------------------------------------------------- */

/* "35 s", "12.5 min", "3.2 h", "4.1 d" */
void sim_put_time(struct mr_buf *out, double seconds)
{
    if (seconds < 120)
        mr_buf_printf(out, "%.1f s", seconds);
    else if (seconds < 7200)
        mr_buf_printf(out, "%.1f min", seconds / 60);
    else if (seconds < 172800)
        mr_buf_printf(out, "%.1f h", seconds / 3600);
    else
        mr_buf_printf(out, "%.1f d", seconds / 86400);
}

static void put_times(struct mr_buf *out, const char *name, const struct sim_spread *s)
{
    const double values[] = {s->mean, s->median, s->p90, s->p99, s->max};
    static const char *const names[] = {"mean", "median", "p90", "p99", "longest"};
    if (s->count == 0) return;
    mr_buf_printf(out, "%-18s", name);
    for (size_t i = 0; i < MR_COUNT_OF(values); i++) {
        mr_buf_printf(out, "%s%s ", i > 0 ? ", " : "", names[i]);
        sim_put_time(out, values[i]);
    }
    mr_buf_put_char(out, '\n');
}

static void put_text(struct mr_buf *out, const struct sim_result *r, const struct sim_figures *f)
{
    mr_buf_printf(out,
                  "%u jobs on %.*s (%u nodes): %" PRIu64 " never started, %" PRIu64
                  " rejected, %" PRIu64 " records passed over\nmakespan          ",
                  r->story->job_count, MR_STR_ARG(r->fleet->name), r->fleet->node_count,
                  f->never_started, r->rejected, r->story->skipped);
    sim_put_time(out, (double)r->end_us / 1e6);
    mr_buf_put_str(out, MR_STR(", last submission after "));
    sim_put_time(out, (double)r->last_submit_us / 1e6);
    mr_buf_put_char(out, '\n');
    put_times(out, "waits", &f->wait);
    put_times(out, "recorded waits", &f->recorded);
    mr_buf_printf(out, "bounded slowdown  mean %.2f, median %.2f, p90 %.2f, p99 %.2f\n",
                  f->slowdown.mean, f->slowdown.median, f->slowdown.p90, f->slowdown.p99);
    mr_buf_printf(out, "utilisation       ");
    if (!r->by_cpu) mr_buf_printf(out, "accelerators %.2f %%, ", f->accel_used * 100);
    mr_buf_printf(out, "cpus %.2f %%; %.2f %% until the last submission\n", f->cpu_used * 100,
                  f->used_until_last * 100);
    mr_buf_printf(out, "queue             mean %.1f, longest %" PRIu64 "\n", f->queue_mean,
                  r->queue_max);
    mr_buf_printf(out,
                  "fragmentation     %.2f %% of what is free lies in domains in use; %.1f domains "
                  "wholly free\n",
                  f->fragmentation * 100, f->domains_free_mean);
    if (r->gangs > 0)
        mr_buf_printf(out,
                      "domains kept      %" PRIu64 " of %" PRIu64
                      " gangs of several nodes lie in as few domains as can hold them\n",
                      r->gangs_tight, r->gangs);
    mr_buf_printf(out,
                  "goodput           %.2f %% of what was held; of all there was: productive "
                  "%.2f %%, ended badly %.2f %%,\n                  checkpoints %.2f %%, restarts "
                  "%.2f %%, lost work %.2f %%, swaps %.2f %%, spares %.2f %%, down %.2f %%, idle "
                  "%.2f %%\n",
                  f->goodput_of_held * 100, f->share_productive * 100, f->share_ended_badly * 100,
                  f->share_checkpoint * 100, f->share_restart * 100, f->share_lost * 100,
                  f->share_swap * 100, f->share_spare * 100, f->share_down * 100,
                  f->share_idle * 100);
    if (r->interruptions > 0)
        mr_buf_printf(out,
                      "failures          %" PRIu64 " of nodes in use, %" PRIu64
                      " of whole domains; %" PRIu64 " runs went on with spares alone\n",
                      r->interruptions, r->racks_failed, r->swaps);
    if (f->deadlines > 0)
        mr_buf_printf(out, "deadlines         %" PRIu64 " of %" PRIu64 " met\n", f->deadlines_met,
                      f->deadlines);
    if (r->cost_usd > 0) mr_buf_printf(out, "fleet's price     US$%.2f\n", r->cost_usd);
    if (r->core_ns > 0)
        mr_buf_printf(out, "decisions         %" PRIu64 " events, %.0f a second of CPU\n",
                      r->events, (double)r->events * 1e9 / (double)r->core_ns);
}

int sim_report(const struct sim_result *result, const struct mr_sim_replay_options *options,
               struct mr_sim_replay_result *ret)
{
    struct sim_figures *figures = mr_alloc(sizeof *figures);
    if (figures == NULL) return MR_ENO_MEMORY;
    int error = sim_figures_of(result, figures);
    if (error == 0) {
        put_json(&ret->json, result, figures, options);
        put_text(&ret->text, result, figures);
        if (options->report) error = sim_report_html(result, figures, options, &ret->html);
        if (ret->json.failed || ret->text.failed || ret->html.failed) error = MR_ETOO_LARGE;
    }
    mr_free(figures);
    return error;
}
