/* SPDX-License-Identifier: Apache-2.0 */
/* The world's clock and its lanes: env of the ports, and how the daemon dies.
 *
 * Owns:       queued callbacks until they ran or were dropped.
 * Invariants: (1) posts of one lane to another arrive in order; (2) no callback runs inside the
 * call that asked for it; (3) a dead daemon's callbacks never run.
 */
#include "sim/sim_int.h"

#include <stdio.h>

struct mr_timer {
    struct sim *sim;
    void (*fn)(void *arg);
    void *arg;
    bool stopped;
};

/* --- chance --------------------------------------------------------------------------------------
 */

bool sim_chance(struct sim *sim, uint32_t ppm)
{
    /* Drawn in the quiet phase too, so that the phase does not shift the stream. */
    bool hit = mr_prng_below(&sim->prng, 1000000) < ppm;
    return hit && !sim->quiet;
}

uint64_t sim_draw(struct sim *sim, uint64_t low, uint64_t high)
{
    return low + mr_prng_below(&sim->prng, high - low + 1);
}

/* --- telling ---------------------------------------------------------------------------------- */

void sim_say(struct sim *sim, const char *format, ...)
{
    char text[300];
    va_list arguments;
    if (sim->trace == NULL) return;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments); /* a longer line is cut */
    va_end(arguments);
    mr_trace_line(sim->trace, "%12llu us  %s", (unsigned long long)sim->now_us, text);
}

void sim_verdict(struct sim *sim, enum mr_sim_verdict verdict, const char *format, ...)
{
    va_list arguments;
    if (sim->failed) return;
    sim->failed = true;
    sim->report->verdict = verdict;
    va_start(arguments, format);
    (void)vsnprintf(sim->report->invariant, sizeof sim->report->invariant, format, arguments);
    va_end(arguments);
    sim_say(sim, "%s: %s", mr_sim_verdict_name(verdict), sim->report->invariant);
}

const char *mr_sim_verdict_name(enum mr_sim_verdict verdict)
{
    static const char *const names[] = {"fine", "crash", "wrong", "stuck"};
    MR_ASSERT(verdict < MR_SIM_VERDICT_COUNT);
    return names[verdict];
}

/* --- the queue, by owner ---------------------------------------------------------------------- */

static void put(struct sim *sim, uint64_t at_us, uint32_t incarnation, void (*fn)(void *arg),
                void *arg, void (*drop)(void *arg))
{
    uint32_t tag = sim->memory.tag;
    struct sim_item item = {
        .at_us = at_us, .incarnation = incarnation, .fn = fn, .arg = arg, .drop = drop};
    sim->memory.tag = 0;
    MR_ASSERT(sim_queue_put(&sim->queue, &item));
    sim->memory.tag = tag;
}

void sim_in_daemon(struct sim *sim, uint64_t delay_us, void (*fn)(void *arg), void *arg,
                   void (*drop)(void *arg))
{
    put(sim, sim->now_us + delay_us, sim->incarnation, fn, arg, drop);
}

void sim_in_world(struct sim *sim, uint64_t delay_us, void (*fn)(void *arg), void *arg)
{
    put(sim, sim->now_us + delay_us, 0, fn, arg, NULL);
}

/* --- ports' entry and exit -------------------------------------------------------------------- */

uint32_t sim_enter(struct sim *sim, bool may_crash)
{
    uint32_t tag = sim->memory.tag;
    if (may_crash && sim->in_daemon && sim_chance(sim, sim->c.crash_call_ppm)) {
        sim->report->faults.crashes_in_call++;
        longjmp(sim->jump, SIM_JUMP_CRASH);
    }
    sim->memory.tag = 0;
    return tag;
}

void sim_leave(struct sim *sim, uint32_t tag)
{
    sim->memory.tag = tag;
}

/* --- death ------------------------------------------------------------------------------------ */

void sim_restart_later(struct sim *sim)
{
    sim->starting = true;
    sim_in_world(sim, sim_draw(sim, 1000, 3 * SIM_SECOND_US), sim_daemon_start, sim);
}

void sim_crash(struct sim *sim)
{
    uint32_t dead = sim->incarnation;
    sim_say(sim, "the daemon dies (incarnation %u)", dead);
    if (sim->ctl != NULL && mr_ctl_core(sim->ctl) != NULL) {
        struct mr_totals totals;
        mr_core_totals(mr_ctl_core(sim->ctl), &totals);
        sim_say(sim, "it had stepped record %llu of %llu, %u running, %u pending, %u leases",
                (unsigned long long)mr_ctl_seq(sim->ctl), (unsigned long long)sim->store.seq_last,
                totals.running, totals.pending, totals.leases);
    }
    sim->up = false;
    sim->ctl = NULL;
    memset(sim->gates, 0, sizeof sim->gates);
    sim->engine.report = NULL;
    sim->memory.tag = 0;
    sim->incarnation++;
    sim_store_crash(sim);
    sim_wire_crash(sim);
    sim_memory_drop(&sim->memory, dead);
    for (uint32_t i = 0; i <= SIM_NODES_MAX; i++) {
        sim->nodes[i].telling = false;
        sim->nodes[i].moving = false;
    }
    sim_restart_later(sim);
}

/* --- env -------------------------------------------------------------------------------------- */

static struct sim_lane *lane_of(struct mr_env *env)
{
    return (struct sim_lane *)(void *)env; /* env is its first member */
}

static uint64_t env_now_us(struct mr_env *env)
{
    return lane_of(env)->sim->now_us;
}

static void env_random(struct mr_env *env, uint8_t ret[16])
{
    for (size_t i = 0; i < 2; i++) {
        uint64_t word = mr_prng_next(&lane_of(env)->sim->prng);
        memcpy(ret + 8 * i, &word, 8);
    }
}

static void timer_drop(void *arg)
{
    mr_free(arg);
}

static void timer_fire(void *arg)
{
    struct mr_timer *timer = arg;
    void (*fn)(void *) = timer->fn;
    void *fn_arg = timer->arg;
    bool stopped = timer->stopped;
    mr_free(timer);
    if (!stopped) fn(fn_arg);
}

static int env_timer_start(struct mr_env *env, uint64_t at_us, void (*fn)(void *arg), void *arg,
                           struct mr_timer **ret_timer)
{
    struct sim *sim = lane_of(env)->sim;
    uint32_t tag = sim_enter(sim, true);
    struct mr_timer *timer = mr_alloc_zero(sizeof *timer);
    MR_ASSERT(timer != NULL);
    *timer = (struct mr_timer){.sim = sim, .fn = fn, .arg = arg};
    uint64_t delay_us = at_us > sim->now_us ? at_us - sim->now_us : 0;
    if (delay_us < UINT64_MAX / 2) {
        sim_in_daemon(sim, delay_us + sim_draw(sim, 0, 50), timer_fire, timer, timer_drop);
    }
    *ret_timer = timer;
    sim_leave(sim, tag);
    return 0;
}

/* A timer is freed when its time comes, or with the world: it is small, and stays in the queue. */
static void env_timer_stop(struct mr_env *env, struct mr_timer *timer)
{
    (void)env;
    if (timer != NULL) timer->stopped = true;
}

static void post_run(void *arg)
{
    struct mr_post *post = arg;
    post->fn(post);
}

static void env_post(struct mr_env *env, uint32_t lane, struct mr_post *post)
{
    struct sim_lane *from = lane_of(env);
    struct sim *sim = from->sim;
    uint32_t tag = sim_enter(sim, true);
    MR_ASSERT(lane <= sim->c.gates);
    uint64_t at_us = MR_MAX(sim->now_us + sim_draw(sim, 0, 20), from->post_us[lane]);
    from->post_us[lane] = at_us;
    sim_in_daemon(sim, at_us - sim->now_us, post_run, post, NULL);
    sim_leave(sim, tag);
}

static const struct mr_env_ops env_ops = {.now_us = env_now_us,
                                          .random = env_random,
                                          .timer_start = env_timer_start,
                                          .timer_stop = env_timer_stop,
                                          .post = env_post};

void sim_env_init(struct sim *sim)
{
    for (uint32_t i = 0; i <= sim->c.gates; i++) {
        sim->lanes[i].sim = sim;
        sim->lanes[i].env =
            (struct mr_env){.ops = &env_ops, .lane = i, .lane_count = sim->c.gates + 1};
    }
}
