/* SPDX-License-Identifier: Apache-2.0 */
/* `when`, and what it has in common with `whatif`: the writer copies the block and goes on; the
 * futures are computed beside it.
 *
 * Owns:       a question from its call to its answer: the copy, the scratch, what was learned then.
 * Invariants: (1) the thread that computes touches the question alone;
 *             (2) a tenant's key asks of its own workloads only.
 * Never:      a record: nothing is changed.
 * Cost:       on the lane a copy of the block and of what was learned; beside it at most
 *             CTL_FORECAST_STEPS steps. Without threads (a simulated world) fewer, on the lane.
 * Idea:       docs/internals/forecast.md   Tests: tests/unit/ctl/test_ctl_forecast.c
 */
#include <stdio.h>

#include "ctl/ctl_int.h"

#define CTL_FORECASTS_MAX       8u       /* at once: 429 */
#define CTL_FORECAST_STEPS      1000000u /* a second or two */
#define CTL_FORECAST_STEPS_HERE 20000u   /* when there is no other thread: tens of milliseconds */
#define CTL_FORECAST_BYTES_MAX  ((size_t)1 << 30)

struct when { /* a question, and what it is about */
    struct ctl_question q;
    struct mr_workload_info info;
    struct mr_forecast_question ask;
    struct mr_forecast_answer answer;
};

/* --- what is learned -------------------------------------------------------------------------- */

void ctl_learn_submit(struct mr_ctl *ctl, const struct mr_event *event)
{
    if (event->kind != MR_EVENT_SUBMIT) return;
    mr_forecast_arrived(ctl->learned, event->time_us, &event->u.submit);
}

void ctl_learn_end(struct mr_ctl *ctl, const struct mr_workload_info *info)
{
    mr_forecast_ended(ctl->learned, info);
    for (uint32_t i = 0; i < CTL_ASKED; i++) {
        struct ctl_asked *asked = &ctl->asked[i];
        if (asked->workload != info->id.v) continue;
        if (info->started_us > asked->asked_us)
            mr_forecast_scored(ctl->learned, asked->asked_us, &asked->raw, info->started_us);
        asked->workload = 0;
    }
}

/* --- answers ---------------------------------------------------------------------------------- */

static void put_moment(struct mr_buf *out, uint64_t time_us)
{
    if (time_us == MR_FORECAST_NEVER) {
        mr_buf_put_str(out, MR_STR("null"));
        return;
    }
    mr_buf_put_char(out, '"');
    mr_time_put_rfc3339(out, time_us);
    mr_buf_put_char(out, '"');
}

/* Microseconds from now, in seconds; null: later than was looked. */
static void put_wait(struct mr_buf *out, const char *name, uint64_t time_us, uint64_t now_us)
{
    mr_buf_printf(out, ",\"%s\":", name);
    if (time_us == MR_FORECAST_NEVER) {
        mr_buf_put_str(out, MR_STR("null"));
        return;
    }
    uint64_t wait_us = time_us > now_us ? time_us - now_us : 0;
    mr_buf_printf(out, "%llu.%03llu", (unsigned long long)(wait_us / 1000000u),
                  (unsigned long long)(wait_us / 1000u % 1000u));
}

void ctl_put_band(struct mr_buf *out, const char *name, const struct mr_forecast_band *band,
                  uint64_t now_us)
{
    mr_buf_printf(out, ",\"%s\":{\"low\":", name);
    put_moment(out, band->low_us);
    mr_buf_put_str(out, MR_STR(",\"median\":"));
    put_moment(out, band->middle_us);
    mr_buf_put_str(out, MR_STR(",\"high\":"));
    put_moment(out, band->high_us);
    put_wait(out, "low_s", band->low_us, now_us);
    put_wait(out, "median_s", band->middle_us, now_us);
    put_wait(out, "high_s", band->high_us, now_us);
    mr_buf_put_char(out, '}');
}

static void put_answer(struct mr_buf *out, const struct when *w)
{
    const struct mr_forecast_answer *a = &w->answer;
    mr_buf_printf(out,
                  "{\"id\":%llu,\"state\":\"%s\",\"reason\":", (unsigned long long)w->info.id.v,
                  mr_state_name(w->info.state));
    ctl_put_reason(out, &w->info.reason);
    ctl_put_band(out, "start", &a->start, w->q.now_us);
    ctl_put_band(out, "end", &a->end, w->q.now_us);
    mr_buf_printf(out,
                  ",\"samples\":%u,\"started\":%u,\"cut\":%u,\"unknown\":%u,\"steps\":%llu,"
                  "\"horizon_s\":%llu}",
                  a->samples, a->started, a->cut, a->unknown, (unsigned long long)a->steps,
                  (unsigned long long)(a->horizon_us / 1000000));
}

/* --- questions -------------------------------------------------------------------------------- */

void ctl_question_free(struct ctl_question *q)
{
    if (q == NULL) return;
    mr_free(q->block);
    mr_free(q->scratch);
    mr_free(q);
}

static void work_run(struct mr_work *work)
{
    struct ctl_question *q = (struct ctl_question *)(void *)work;
    q->error = q->compute(q);
}

static void work_done(struct mr_work *work)
{
    struct ctl_question *q = (struct ctl_question *)(void *)work;
    struct mr_ctl *ctl = q->ctl;
    struct mr_ctl_call *call = q->call;
    MR_ASSERT(ctl->forecasts > 0);
    ctl->forecasts--;
    int error = q->error == 0 ? q->answer(q) : q->error;
    ctl_question_free(q);
    ctl_answer(ctl, call, error);
    ctl_stop_further(ctl);
}

/* A copy of everything that the answer depends on. */
static int question_fill(struct mr_ctl *ctl, struct ctl_question *q, size_t scratch_bytes)
{
    q->block = mr_alloc(ctl->block_bytes);
    q->scratch = mr_alloc(scratch_bytes);
    q->scratch_bytes = scratch_bytes;
    if (q->block == NULL || q->scratch == NULL) return MR_ENO_MEMORY;
    memcpy(q->block, ctl->block, ctl->block_bytes);
    int error = mr_core_open(q->block, ctl->block_bytes, false, &q->core);
    MR_ASSERT(error == 0); /* it is the block that we step */
    q->learned = *ctl->learned;
    q->now_us = ctl->env->ops->now_us(ctl->env);
    return 0;
}

struct ctl_question *ctl_question_new(struct mr_ctl *ctl, struct mr_ctl_call *call, size_t bytes,
                                      size_t scratch_bytes)
{
    if (ctl->forecasts >= CTL_FORECASTS_MAX) {
        ctl_problem(call, "%u forecasts are being computed; try again in a moment", ctl->forecasts);
        ctl_answer(ctl, call, MR_ELIMIT);
        return NULL;
    }
    if (ctl->block_bytes + scratch_bytes > CTL_FORECAST_BYTES_MAX) {
        ctl_problem(call, "the state takes %zu MiB: too much to be copied for a forecast",
                    ctl->block_bytes >> 20);
        ctl_answer(ctl, call, MR_ETOO_LARGE);
        return NULL;
    }
    struct ctl_question *q = mr_alloc_zero(bytes);
    if (q == NULL || question_fill(ctl, q, scratch_bytes) != 0) {
        ctl_question_free(q);
        ctl_answer(ctl, call, MR_ENO_MEMORY);
        return NULL;
    }
    q->ctl = ctl;
    q->call = call;
    return q;
}

struct mr_forecast_options ctl_question_options(const struct ctl_question *q)
{
    bool beside = q->ctl->env->ops->work != NULL;
    return (struct mr_forecast_options){.now_us = q->now_us,
                                        .seed = mr_core_steps(q->core),
                                        .steps_max =
                                            beside ? CTL_FORECAST_STEPS : CTL_FORECAST_STEPS_HERE};
}

void ctl_question_ask(struct ctl_question *q)
{
    struct mr_ctl *ctl = q->ctl;
    q->work = (struct mr_work){.run = work_run, .done = work_done};
    ctl->forecasts++;
    if (ctl->env->ops->work == NULL) {
        work_run(&q->work);
        work_done(&q->work);
        return;
    }
    int error = ctl->env->ops->work(ctl->env, &q->work);
    if (error == 0) return;
    q->error = error;
    work_done(&q->work);
}

/* --- when ------------------------------------------------------------------------------------- */

static int when_compute(struct ctl_question *q)
{
    struct when *w = (struct when *)(void *)q;
    return mr_forecast_when(q->core, &q->learned, &w->ask, q->scratch, q->scratch_bytes,
                            &w->answer);
}

static int when_answer(struct ctl_question *q)
{
    struct when *w = (struct when *)(void *)q;
    struct mr_ctl *ctl = q->ctl;
    put_answer(&q->call->out, w);
    if (w->info.state == MR_STATE_PENDING) {
        ctl->asked[ctl->asked_next++ % CTL_ASKED] =
            (struct ctl_asked){w->info.id.v, q->now_us, w->answer.raw};
    }
    return 0;
}

void ctl_forecast(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    struct mr_workload_info info;
    if (!ctl_find(ctl, call, &info)) {
        ctl_answer(ctl, call, call->error);
        return;
    }
    if (mr_state_final(info.state)) {
        ctl_problem(call, "workload %llu has ended (%s): there is nothing to wait for",
                    (unsigned long long)info.id.v, mr_state_name(info.state));
        ctl_answer(ctl, call, MR_ESTATE);
        return;
    }
    size_t scratch_bytes = mr_forecast_bytes(&ctl->config.limits);
    struct when *w =
        (struct when *)(void *)ctl_question_new(ctl, call, sizeof(struct when), scratch_bytes);
    if (w == NULL) return;
    w->q.compute = when_compute;
    w->q.answer = when_answer;
    w->info = info;
    w->ask = (struct mr_forecast_question){
        .options = ctl_question_options(&w->q), .workload = info.id, .end = true};
    ctl_question_ask(&w->q);
}
