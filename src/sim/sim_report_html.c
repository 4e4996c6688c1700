/* SPDX-License-Identifier: Apache-2.0 */
/* The figures as one page: plots as inline SVG, no script, nothing fetched from elsewhere.
 *
 * Owns:       sorted copies of the waits, for the length of the call.
 * Invariants: (1) text from files is escaped.
 * Never:      I/O, clock.
 * Cost:       O(jobs log jobs).
 * Idea:       docs/guides/simulate.md   Tests: tests/unit/sim/test_sim_story.c
 */
#include <inttypes.h>

#include "sim_report_int.h"

#define WIDTH  640
#define HEIGHT 220
#define LEFT   64
#define RIGHT  12
#define TOP    12
#define BOTTOM 34

static void put_escaped(struct mr_buf *out, struct mr_str text)
{
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '&')
            mr_buf_put_str(out, MR_STR("&amp;"));
        else if (c == '<')
            mr_buf_put_str(out, MR_STR("&lt;"));
        else if (c == '>')
            mr_buf_put_str(out, MR_STR("&gt;"));
        else if (c == '"')
            mr_buf_put_str(out, MR_STR("&quot;"));
        else
            mr_buf_put_char(out, c);
    }
}

/* --- charts -------------------------------------------------------------------------------- */

struct line {
    const char *name, *colour;
    const double *y;
};
struct chart {
    const char *title, *note;
    double y_max; /* 0: from the lines */
    bool percent;
    struct line lines[3];
    uint32_t line_count, points;
    double x_max_s; /* time at the right end */
};

static double x_of(double share)
{
    return LEFT + share * (WIDTH - LEFT - RIGHT);
}

static double y_of(double share)
{
    return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM);
}

static void head(struct mr_buf *out, const char *title, const char *note)
{
    mr_buf_printf(out, "<figure><figcaption><b>%s</b> %s</figcaption>\n", title, note);
    mr_buf_printf(out,
                  "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\" "
                  "xmlns=\"http://www.w3.org/2000/svg\">\n",
                  WIDTH, HEIGHT, title);
}

static void grid(struct mr_buf *out, double y_max, bool percent)
{
    for (int i = 0; i <= 4; i++) {
        double y = y_of(i / 4.0);
        mr_buf_printf(out, "<line class=\"g\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>", LEFT,
                      y, WIDTH - RIGHT, y);
        double value = y_max * i / 4;
        mr_buf_printf(out, "<text class=\"y\" x=\"%d\" y=\"%.1f\">", LEFT - 6, y + 4);
        if (percent)
            mr_buf_printf(out, "%.0f %%</text>\n", value * 100);
        else
            mr_buf_printf(out, "%.3g</text>\n", value);
    }
}

static void legend(struct mr_buf *out, const struct line *lines, uint32_t count)
{
    double x = LEFT;
    for (uint32_t i = 0; i < count; i++) {
        size_t letters = 0;
        while (lines[i].name[letters] != 0)
            letters++;
        mr_buf_printf(out,
                      "<rect x=\"%.0f\" y=\"%d\" width=\"10\" height=\"10\" fill=\"%s\"/><text "
                      "x=\"%.0f\" y=\"%d\">%s</text>\n",
                      x, HEIGHT - 12, lines[i].colour, x + 14, HEIGHT - 3, lines[i].name);
        x += 30 + 7.0 * (double)letters;
    }
}

static void put_chart(struct mr_buf *out, const struct chart *c)
{
    double y_max = c->y_max;
    for (uint32_t i = 0; c->y_max == 0 && i < c->line_count; i++) {
        for (uint32_t k = 0; k < c->points; k++)
            y_max = MR_MAX(y_max, c->lines[i].y[k]);
    }
    if (y_max <= 0) y_max = 1;
    head(out, c->title, c->note);
    grid(out, y_max, c->percent);
    for (uint32_t i = 0; i < c->line_count; i++) {
        mr_buf_printf(out, "<polyline fill=\"none\" stroke=\"%s\" points=\"", c->lines[i].colour);
        for (uint32_t k = 0; k < c->points; k++) {
            double share = MR_MIN(c->lines[i].y[k] / y_max, 1.0);
            /* A cell is drawn as a step over its whole length. */
            mr_buf_printf(out, "%.1f,%.1f %.1f,%.1f ", x_of((double)k / c->points), y_of(share),
                          x_of((double)(k + 1) / c->points), y_of(share));
        }
        mr_buf_put_str(out, MR_STR("\"/>\n"));
    }
    for (int i = 0; i <= 4; i++) {
        mr_buf_printf(out, "<text class=\"x\" x=\"%.0f\" y=\"%d\">", x_of(i / 4.0), HEIGHT - 20);
        sim_put_time(out, c->x_max_s * i / 4);
        mr_buf_put_str(out, MR_STR("</text>"));
    }
    legend(out, c->lines, c->line_count);
    mr_buf_put_str(out, MR_STR("</svg></figure>\n"));
}

/* --- what is drawn ------------------------------------------------------------------------- */

struct page {
    struct mr_buf *out;
    const struct sim_result *r;
    const struct sim_figures *f;
    double a[SIM_SERIES_CELLS], b[SIM_SERIES_CELLS];
    double x_max_s;
};

static void shares(const struct page *p, const double *used, const double *up, double *ret)
{
    for (uint32_t i = 0; i < p->r->series.cells; i++)
        ret[i] = up[i] > 0 ? used[i] / up[i] : 0;
}

static void amounts(const struct page *p, const double *of, double *ret)
{
    for (uint32_t i = 0; i < p->r->series.cells; i++)
        ret[i] = of[i] / (double)p->r->series.cell_us;
}

static void over_time(struct page *p)
{
    const struct sim_series *s = &p->r->series;
    struct chart c = {.points = s->cells, .x_max_s = p->x_max_s};
    shares(p, s->accel_used, s->accel_up, p->a);
    shares(p, s->cpu_used, s->cpu_up, p->b);
    c.title = "Utilisation";
    c.note = "held, of what is up";
    c.percent = true;
    c.y_max = 1;
    c.lines[0] = (struct line){"CPUs", "#888", p->b};
    c.line_count = 1;
    if (!p->r->by_cpu) c.lines[c.line_count++] = (struct line){"accelerators", "#06c", p->a};
    put_chart(p->out, &c);

    amounts(p, s->queue, p->a);
    c = (struct chart){.title = "Queue",
                       .note = "workloads that wait",
                       .points = s->cells,
                       .x_max_s = p->x_max_s,
                       .line_count = 1};
    c.lines[0] = (struct line){"waiting", "#c50", p->a};
    put_chart(p->out, &c);

    for (uint32_t i = 0; i < s->cells; i++)
        p->a[i] = sim_fragmentation_at(p->r, i);
    c.title = "Fragmentation";
    c.note = "share of what is free that lies in domains in use";
    c.percent = true;
    c.y_max = 1;
    c.lines[0] = (struct line){"fragmented", "#a0a", p->a};
    put_chart(p->out, &c);

    amounts(p, s->domains_free, p->a);
    c.title = "Domains kept whole";
    c.note = "NVLink domains (or single nodes) that are wholly free";
    c.percent = false;
    c.y_max = 0;
    c.lines[0] = (struct line){"wholly free", "#282", p->a};
    put_chart(p->out, &c);
}

/* Share of jobs that waited at most so long, on a logarithmic axis from 1 s to the longest wait.
 * Returns the ratio of one point's time to the one before. */
static double wait_curve(const double *sorted, uint64_t count, double longest, double *ret)
{
    double step = 1;
    /* longest^(1/511) by bisection, so that no libm is needed. */
    double low = 1, high = 2;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2, power = 1;
        for (uint32_t k = 1; k < SIM_SERIES_CELLS && power < longest * 2; k++)
            power *= middle;
        if (power < longest)
            low = middle;
        else
            high = middle;
    }
    uint64_t at = 0;
    for (uint32_t i = 0; i < SIM_SERIES_CELLS; i++) {
        while (at < count && sorted[at] <= step)
            at++;
        ret[i] = count > 0 ? (double)at / (double)count : 0;
        step *= high;
    }
    return high;
}

static int waits(struct page *p)
{
    const struct sim_story *s = p->r->story;
    double *values = mr_alloc((size_t)s->job_count * sizeof *values);
    if (values == NULL) return MR_ENO_MEMORY;
    double longest = MR_MAX(MR_MAX(p->f->wait.max, p->f->recorded.max), 10.0);
    uint64_t count = 0;
    for (uint32_t i = 0; i < s->job_count; i++) {
        if (p->r->outcomes[i].started_us == SIM_UNKNOWN) continue;
        values[count++] = (double)(p->r->outcomes[i].started_us - s->jobs[i].submit_us) / 1e6;
    }
    (void)sim_spread_of(values, count); /* sorts */
    double ratio = wait_curve(values, count, longest, p->a);
    count = 0;
    for (uint32_t i = 0; i < s->job_count; i++) {
        if (s->jobs[i].recorded_wait_us != SIM_UNKNOWN)
            values[count++] = (double)s->jobs[i].recorded_wait_us / 1e6;
    }
    (void)sim_spread_of(values, count);
    (void)wait_curve(values, count, longest, p->b); /* the same ratio */
    mr_free(values);
    struct line lines[2] = {{"here", "#06c", p->a}, {"as recorded", "#888", p->b}};
    uint32_t line_count = count > 0 ? 2 : 1;
    head(p->out, "Waits", "share of the jobs that started within so long; logarithmic");
    grid(p->out, 1, true);
    for (uint32_t i = 0; i < line_count; i++) {
        mr_buf_printf(p->out, "<polyline fill=\"none\" stroke=\"%s\" points=\"", lines[i].colour);
        for (uint32_t k = 0; k < SIM_SERIES_CELLS; k++)
            mr_buf_printf(p->out, "%.1f,%.1f ", x_of(k / (SIM_SERIES_CELLS - 1.0)),
                          y_of(lines[i].y[k]));
        mr_buf_put_str(p->out, MR_STR("\"/>\n"));
    }
    double power = 1, at = 1;
    for (uint32_t k = 0; k < SIM_SERIES_CELLS; k++, power *= ratio) {
        if (power < at) continue;
        mr_buf_printf(p->out, "<text class=\"x\" x=\"%.0f\" y=\"%d\">",
                      x_of(k / (SIM_SERIES_CELLS - 1.0)), HEIGHT - 20);
        sim_put_time(p->out, at);
        mr_buf_put_str(p->out, MR_STR("</text>"));
        at *= 10;
    }
    legend(p->out, lines, line_count);
    mr_buf_put_str(p->out, MR_STR("</svg></figure>\n"));
    return 0;
}

static void goodput(struct page *p)
{
    const struct sim_figures *f = p->f;
    const struct {
        const char *name, *colour;
        double share;
    } parts[] = {
        {"productive", "#282", f->share_productive},
        {"ended badly", "#9b4", f->share_ended_badly},
        {"checkpoints", "#06c", f->share_checkpoint},
        {"restarts", "#0ac", f->share_restart},
        {"swaps", "#7bd", f->share_swap},
        {"spares", "#dd8", f->share_spare},
        {"lost work", "#c22", f->share_lost},
        {"down", "#a0a", f->share_down},
        {"idle", "#ccc", f->share_idle},
    };
    double x = 0;
    mr_buf_printf(p->out,
                  "<figure><figcaption><b>Goodput</b> where the time of all %s went"
                  "</figcaption>\n<svg viewBox=\"0 0 %d 132\" role=\"img\" "
                  "aria-label=\"Goodput\" xmlns=\"http://www.w3.org/2000/svg\">\n",
                  p->r->by_cpu ? "CPUs" : "accelerators", WIDTH);
    for (size_t i = 0; i < MR_COUNT_OF(parts); i++) {
        double share = MR_MIN(MR_MAX(parts[i].share, 0.0), 1.0);
        mr_buf_printf(p->out, "<rect x=\"%.2f\" y=\"8\" width=\"%.2f\" height=\"36\" fill=\"%s\"/>",
                      x * WIDTH, share * WIDTH, parts[i].colour);
        x += share;
        mr_buf_printf(p->out,
                      "<rect x=\"%zu\" y=\"%zu\" width=\"10\" height=\"10\" fill=\"%s\"/><text "
                      "x=\"%zu\" y=\"%zu\">%s %.2f %%</text>\n",
                      i % 4 * 160, 58 + i / 4 * 22, parts[i].colour, i % 4 * 160 + 14,
                      67 + i / 4 * 22, parts[i].name, parts[i].share * 100);
    }
    mr_buf_put_str(p->out, MR_STR("</svg></figure>\n"));
}

static void row(struct mr_buf *out, const char *name, const struct sim_spread *s, bool time)
{
    if (s->count == 0) return;
    const double values[] = {s->mean, s->median, s->p90, s->p99, s->max};
    mr_buf_printf(out, "<tr><th>%s</th>", name);
    for (size_t i = 0; i < MR_COUNT_OF(values); i++) {
        mr_buf_put_str(out, MR_STR("<td>"));
        if (time)
            sim_put_time(out, values[i]);
        else
            mr_buf_printf(out, "%.2f", values[i]);
        mr_buf_put_str(out, MR_STR("</td>"));
    }
    mr_buf_put_str(out, MR_STR("</tr>\n"));
}

static void top(struct page *p, const struct mr_sim_replay_options *options)
{
    struct mr_buf *out = p->out;
    mr_buf_put_str(
        out, MR_STR("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                    "<meta name=\"viewport\" content=\"width=device-width\">\n<title>Millrace: "));
    put_escaped(out, options->workload.name);
    mr_buf_put_str(
        out, MR_STR("</title>\n<style>\nbody{font:15px/1.5 system-ui,sans-serif;margin:2em auto;"
                    "max-width:1340px;padding:0 1em;color:#222}\n"
                    "figure{display:inline-block;width:640px;max-width:100%;margin:.5em 0}\n"
                    "svg{width:100%;height:auto;font-size:11px}.g{stroke:#ddd}.y{text-anchor:end}"
                    ".x{text-anchor:middle}\npolyline{stroke-width:1.5}\n"
                    "td,th{padding:.1em .8em;text-align:right}th:first-child{text-align:left}\n"
                    "@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}"
                    "text{fill:#ddd}.g{stroke:#444}}\n</style></head><body>\n<h1>"));
    put_escaped(out, options->workload.name);
    mr_buf_put_str(out, MR_STR(" on "));
    put_escaped(out, p->r->fleet->name);
    mr_buf_printf(out, "</h1>\n<p>%u jobs, %u nodes, through the production scheduler. Makespan ",
                  p->r->story->job_count, p->r->fleet->node_count);
    sim_put_time(out, (double)p->r->end_us / 1e6);
    mr_buf_printf(
        out,
        "; %" PRIu64 " never started, %" PRIu64 " rejected, %" PRIu64 " restarted; %" PRIu64
        " of %" PRIu64 " gangs of several nodes lie in as few domains as can hold them.</p>\n"
        "<table><tr><th></th><th>mean</th><th>median</th><th>p90</th><th>p99</th>"
        "<th>longest</th></tr>\n",
        p->f->never_started, p->r->rejected, p->f->requeues, p->r->gangs_tight, p->r->gangs);
    row(out, "wait", &p->f->wait, true);
    row(out, "wait, as recorded", &p->f->recorded, true);
    row(out, "bounded slowdown", &p->f->slowdown, false);
    mr_buf_put_str(out, MR_STR("</table>\n"));
}

int sim_report_html(const struct sim_result *result, const struct sim_figures *figures,
                    const struct mr_sim_replay_options *options, struct mr_buf *html)
{
    struct page *page = mr_alloc_zero(sizeof *page);
    if (page == NULL) return MR_ENO_MEMORY;
    page->out = html;
    page->r = result;
    page->f = figures;
    page->x_max_s = (double)result->series.cells * (double)result->series.cell_us / 1e6;
    top(page, options);
    goodput(page);
    over_time(page);
    int error = waits(page);
    mr_buf_put_str(html, MR_STR("</body></html>\n"));
    mr_free(page);
    return error;
}
