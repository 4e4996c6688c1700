/* SPDX-License-Identifier: Apache-2.0 */
/* `when`: the writer copies the block and goes on; the futures are computed beside it.
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

struct question {
    struct mr_work work;
    struct mr_ctl *ctl;
    struct mr_ctl_call *call;
    void *block, *scratch;
    size_t scratch_bytes;
    struct mr_core *core; /* in block */
    struct mr_forecast_learned learned;
    struct mr_workload_info info;
    struct mr_forecast_question ask;
    struct mr_forecast_answer answer;
    uint64_t now_us;
    int error;
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

static void put_band(struct mr_buf *out, const char *name, const struct mr_forecast_band *band,
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

static void put_answer(struct mr_buf *out, const struct question *q)
{
    const struct mr_forecast_answer *a = &q->answer;
    mr_buf_printf(out,
                  "{\"id\":%llu,\"state\":\"%s\",\"reason\":", (unsigned long long)q->info.id.v,
                  mr_state_name(q->info.state));
    ctl_put_reason(out, &q->info.reason);
    put_band(out, "start", &a->start, q->now_us);
    put_band(out, "end", &a->end, q->now_us);
    mr_buf_printf(out, ",\"samples\":%u,\"started\":%u,\"cut\":%u,\"unknown\":%u,\"steps\":%llu}",
                  a->samples, a->started, a->cut, a->unknown, (unsigned long long)a->steps);
}

/* --- asking ----------------------------------------------------------------------------------- */

static void question_free(struct question *q)
{
    if (q == NULL) return;
    mr_free(q->block);
    mr_free(q->scratch);
    mr_free(q);
}

static void work_run(struct mr_work *work)
{
    struct question *q = (struct question *)(void *)work;
    q->error =
        mr_forecast_when(q->core, &q->learned, &q->ask, q->scratch, q->scratch_bytes, &q->answer);
}

static void work_done(struct mr_work *work)
{
    struct question *q = (struct question *)(void *)work;
    struct mr_ctl *ctl = q->ctl;
    struct mr_ctl_call *call = q->call;
    int error = q->error;
    MR_ASSERT(ctl->forecasts > 0);
    ctl->forecasts--;
    if (error == 0) put_answer(&call->out, q);
    if (error == 0 && q->info.state == MR_STATE_PENDING) {
        ctl->asked[ctl->asked_next++ % CTL_ASKED] =
            (struct ctl_asked){q->info.id.v, q->now_us, q->answer.raw};
    }
    question_free(q);
    ctl_answer(ctl, call, error);
    ctl_stop_further(ctl);
}

/* A copy of everything that the answer depends on. */
static int question_make(struct mr_ctl *ctl, struct question **ret)
{
    size_t scratch_bytes = mr_forecast_bytes(&ctl->config.limits);
    if (ctl->block_bytes + scratch_bytes > CTL_FORECAST_BYTES_MAX) return MR_ETOO_LARGE;
    struct question *q = mr_alloc_zero(sizeof *q);
    if (q == NULL) return MR_ENO_MEMORY;
    q->block = mr_alloc(ctl->block_bytes);
    q->scratch = mr_alloc(scratch_bytes);
    q->scratch_bytes = scratch_bytes;
    if (q->block == NULL || q->scratch == NULL) {
        question_free(q);
        return MR_ENO_MEMORY;
    }
    memcpy(q->block, ctl->block, ctl->block_bytes);
    int error = mr_core_open(q->block, ctl->block_bytes, false, &q->core);
    MR_ASSERT(error == 0); /* it is the block that we step */
    q->learned = *ctl->learned;
    q->ctl = ctl;
    q->now_us = ctl->env->ops->now_us(ctl->env);
    *ret = q;
    return 0;
}

static void begin(struct mr_ctl *ctl, struct question *q)
{
    bool beside = ctl->env->ops->work != NULL;
    q->work = (struct mr_work){.run = work_run, .done = work_done};
    q->ask.options.now_us = q->now_us;
    q->ask.options.seed = mr_core_steps(ctl->core);
    q->ask.options.steps_max = beside ? CTL_FORECAST_STEPS : CTL_FORECAST_STEPS_HERE;
    ctl->forecasts++;
    if (!beside) {
        work_run(&q->work);
        work_done(&q->work);
        return;
    }
    int error = ctl->env->ops->work(ctl->env, &q->work);
    if (error == 0) return;
    q->error = error;
    work_done(&q->work);
}

void ctl_forecast(struct mr_ctl *ctl, struct mr_ctl_call *call)
{
    struct question *q = NULL;
    struct mr_workload_info info;
    if (!ctl_find(ctl, call, &info)) {
        ctl_answer(ctl, call, call->error);
        return;
    }
    int error = 0;
    if (mr_state_final(info.state)) {
        ctl_problem(call, "workload %llu has ended (%s): there is nothing to wait for",
                    (unsigned long long)info.id.v, mr_state_name(info.state));
        error = MR_ESTATE;
    } else if (ctl->forecasts >= CTL_FORECASTS_MAX) {
        ctl_problem(call, "%u forecasts are being computed; try again in a moment", ctl->forecasts);
        error = MR_ELIMIT;
    } else {
        error = question_make(ctl, &q);
        if (error == MR_ETOO_LARGE) {
            ctl_problem(call, "the state takes %zu MiB: too much to be copied for a forecast",
                        ctl->block_bytes >> 20);
        }
    }
    if (error != 0) {
        ctl_answer(ctl, call, error);
        return;
    }
    q->call = call;
    q->info = info;
    q->ask.workload = info.id;
    q->ask.end = true;
    begin(ctl, q);
}
