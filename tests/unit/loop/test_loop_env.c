/* SPDX-License-Identifier: Apache-2.0 */
/* The env of real lanes: posts, timers, the clock, signals, stopping. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "loop/loop_int.h"

#define LANES       4u
#define POSTS_EACH  2000u
#define TEST_TIMERS 200u

struct note {
    struct mr_post post;
    struct world *world;
    uint32_t from, to, number;
};
struct world {
    struct mr_loop *loop;
    uint32_t next[LANES][LANES]; /* [to][from]: touched on `to` only */
    uint32_t got;                /* atomic */
    uint32_t bad;                /* atomic */
    struct note *notes;
    struct note starts[LANES];
};

static void note_came(struct mr_post *post)
{
    struct note *note = (struct note *)(void *)post;
    struct world *w = note->world;
    if (w->next[note->to][note->from]++ != note->number) {
        __atomic_add_fetch(&w->bad, 1, __ATOMIC_RELAXED);
    }
    if (__atomic_add_fetch(&w->got, 1, __ATOMIC_ACQ_REL) == LANES * LANES * POSTS_EACH) {
        mr_loop_stop(w->loop);
    }
}

static void lane_floods(struct mr_post *post)
{
    struct note *start = (struct note *)(void *)post;
    struct world *w = start->world;
    struct mr_env *env = mr_loop_env(w->loop, start->to);
    for (uint32_t n = 0; n < POSTS_EACH; n++) {
        for (uint32_t to = 0; to < LANES; to++) {
            struct note *note = &w->notes[(start->to * LANES + to) * POSTS_EACH + n];
            *note = (struct note){{note_came, NULL}, w, start->to, to, n};
            env->ops->post(env, to, &note->post);
        }
    }
}

static void posts_of_one_sender_keep_their_order(void **state)
{
    (void)state;
    struct world w = {0};
    w.notes = calloc((size_t)LANES * LANES * POSTS_EACH, sizeof *w.notes);
    assert_non_null(w.notes);
    assert_int_equal(mr_loop_new(LANES, &w.loop), 0);
    for (uint32_t i = 0; i < LANES; i++) {
        struct mr_env *env = mr_loop_env(w.loop, 0);
        w.starts[i] = (struct note){{lane_floods, NULL}, &w, 0, i, 0};
        env->ops->post(env, i, &w.starts[i].post);
    }
    assert_int_equal(mr_loop_run(w.loop), 0);
    assert_int_equal(w.got, LANES * LANES * POSTS_EACH);
    assert_int_equal(w.bad, 0);
    mr_loop_free(w.loop);
    free(w.notes);
}

struct reentry {
    struct mr_post post;
    struct mr_loop *loop;
    bool inside, ran_inside;
    unsigned runs;
};
static void reentry_fn(struct mr_post *post)
{
    struct reentry *r = (struct reentry *)(void *)post;
    struct mr_env *env = mr_loop_env(r->loop, 0);
    r->ran_inside |= r->inside;
    if (++r->runs == 3) {
        mr_loop_stop(r->loop);
        return;
    }
    r->inside = true;
    env->ops->post(env, 0, post);
    r->inside = false;
}

static void a_post_never_runs_inside_the_call(void **state)
{
    (void)state;
    struct reentry r = {.post = {reentry_fn, NULL}};
    assert_int_equal(mr_loop_new(1, &r.loop), 0);
    struct mr_env *env = mr_loop_env(r.loop, 0);
    r.inside = true;
    env->ops->post(env, 0, &r.post);
    r.inside = false;
    assert_int_equal(mr_loop_run(r.loop), 0);
    assert_int_equal(r.runs, 3);
    assert_false(r.ran_inside);
    mr_loop_free(r.loop);
}

struct effort {
    struct mr_work work;
    struct mr_loop *loop;
    pthread_t asked, ran, told;
    bool inside, ran_inside, is_done;
};
static void effort_run(struct mr_work *work)
{
    ((struct effort *)(void *)work)->ran = pthread_self();
}
static void effort_done(struct mr_work *work)
{
    struct effort *e = (struct effort *)(void *)work;
    e->told = pthread_self();
    e->ran_inside |= e->inside;
    e->is_done = true;
}

static void work_is_done_beside_the_lane_and_before_the_loop_ends(void **state)
{
    (void)state;
    struct effort e = {.work = {effort_run, effort_done}, .asked = pthread_self()};
    assert_int_equal(mr_loop_new(1, &e.loop), 0);
    struct mr_env *env = mr_loop_env(e.loop, 0);
    e.inside = true;
    assert_int_equal(env->ops->work(env, &e.work), 0);
    e.inside = false;
    mr_loop_stop(e.loop); /* before it has begun */
    assert_int_equal(mr_loop_run(e.loop), 0);
    assert_true(e.is_done);
    assert_false(e.ran_inside);
    assert_false(pthread_equal(e.asked, e.ran));
    assert_true(pthread_equal(e.asked, e.told));
    mr_loop_free(e.loop);
}

struct alarm_clock {
    struct mr_loop *loop;
    struct mr_env *env;
    struct mr_timer *victim, *left;
    uint64_t at_us[TEST_TIMERS];
    unsigned fired, early;
    bool victim_fired, left_fired;
};
struct alarm_one {
    struct alarm_clock *clock;
    unsigned index;
};
static void alarm_rings(void *arg)
{
    struct alarm_one *one = arg;
    struct alarm_clock *c = one->clock;
    if (c->env->ops->now_us(c->env) < c->at_us[one->index]) c->early++;
    if (++c->fired == TEST_TIMERS) mr_loop_stop(c->loop);
    if (c->fired == 3) {
        c->env->ops->timer_stop(c->env, c->victim);
        c->victim = NULL;
    }
}
static void flag_set(void *arg)
{
    *(bool *)arg = true;
}

static void timers_fire_once_at_or_after_their_time_and_never_when_stopped(void **state)
{
    (void)state;
    struct alarm_clock c = {0};
    struct alarm_one ones[TEST_TIMERS];
    struct mr_timer *timer;
    assert_int_equal(mr_loop_new(1, &c.loop), 0);
    c.env = mr_loop_env(c.loop, 0);
    uint64_t now = c.env->ops->now_us(c.env);
    for (unsigned i = 0; i < TEST_TIMERS; i++) {
        ones[i] = (struct alarm_one){&c, i};
        c.at_us[i] = now + (i * 7919u) % 40000u;
        assert_int_equal(c.env->ops->timer_start(c.env, c.at_us[i], alarm_rings, &ones[i], &timer),
                         0);
    }
    assert_int_equal(
        c.env->ops->timer_start(c.env, now + 60000000, flag_set, &c.victim_fired, &c.victim), 0);
    assert_int_equal(
        c.env->ops->timer_start(c.env, now + 60000000, flag_set, &c.left_fired, &c.left), 0);
    c.env->ops->timer_stop(c.env, NULL);
    assert_int_equal(mr_loop_run(c.loop), 0);
    assert_int_equal(c.fired, TEST_TIMERS);
    assert_int_equal(c.early, 0);
    assert_false(c.victim_fired);
    assert_false(c.left_fired);
    /* A service is freed after the run and stops what it still has. */
    c.env->ops->timer_stop(c.env, c.left);
    assert_int_equal(c.env->ops->timer_start(c.env, 0, flag_set, &c.left_fired, &timer),
                     MR_ECLOSED);
    mr_loop_free(c.loop);
}

static void the_clock_never_goes_back_and_is_the_walls(void **state)
{
    (void)state;
    struct mr_loop *loop;
    assert_int_equal(mr_loop_new(2, &loop), 0);
    struct mr_env *a = mr_loop_env(loop, 0), *b = mr_loop_env(loop, 1);
    uint64_t last = a->ops->now_us(a);
    assert_true(last > 1600000000ull * 1000000u);
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t now = i % 2 ? a->ops->now_us(a) : b->ops->now_us(b);
        assert_true(now >= last);
        last = now;
    }
    /* A wall clock that was set forward is followed. */
    loop->clock_offset_us -= 3600ll * 1000000;
    assert_true(a->ops->now_us(a) + 100000 >= last); /* two clocks are not read at once */
    /* One that was set back is not. */
    loop->clock_offset_us += 7200ll * 1000000;
    assert_true(a->ops->now_us(a) >= last + 7000ull * 1000000);
    mr_loop_free(loop);
}

static void random_bits_differ(void **state)
{
    (void)state;
    struct mr_loop *loop;
    uint8_t a[16], b[16];
    assert_int_equal(mr_loop_new(1, &loop), 0);
    struct mr_env *env = mr_loop_env(loop, 0);
    env->ops->random(env, a);
    env->ops->random(env, b);
    assert_memory_not_equal(a, b, 16);
    mr_loop_free(loop);
}

struct signalled {
    struct mr_loop *loop;
    struct mr_post post;
    int numbers[2];
    unsigned count;
};
static void signal_note(void *arg, int number)
{
    struct signalled *s = arg;
    s->numbers[s->count++] = number;
    if (s->count == 2) {
        mr_loop_stop(s->loop);
    } else {
        assert_int_equal(raise(SIGINT), 0);
    }
}
static void signal_self(struct mr_post *post)
{
    (void)post;
    assert_int_equal(raise(SIGPIPE), 0);
    assert_int_equal(raise(SIGTERM), 0);
}

static void signals_come_to_lane_0_and_sigpipe_to_nobody(void **state)
{
    (void)state;
    struct signalled s = {.post = {signal_self, NULL}};
    assert_int_equal(mr_loop_new(2, &s.loop), 0);
    assert_int_equal(mr_loop_signals(s.loop, signal_note, &s), 0);
    struct mr_env *env = mr_loop_env(s.loop, 0);
    env->ops->post(env, 0, &s.post);
    assert_int_equal(mr_loop_run(s.loop), 0);
    assert_int_equal(s.numbers[0], SIGTERM);
    assert_int_equal(s.numbers[1], SIGINT);
    mr_loop_free(s.loop);
}

static void lane_counts_have_limits(void **state)
{
    (void)state;
    struct mr_loop *loop = NULL;
    assert_int_equal(mr_loop_new(0, &loop), MR_EINVALID);
    assert_int_equal(mr_loop_new(LOOP_LANES_MAX + 1, &loop), MR_EINVALID);
    assert_null(loop);
    mr_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_of_one_sender_keep_their_order),
        cmocka_unit_test(a_post_never_runs_inside_the_call),
        cmocka_unit_test(work_is_done_beside_the_lane_and_before_the_loop_ends),
        cmocka_unit_test(timers_fire_once_at_or_after_their_time_and_never_when_stopped),
        cmocka_unit_test(the_clock_never_goes_back_and_is_the_walls),
        cmocka_unit_test(random_bits_differ),
        cmocka_unit_test(signals_come_to_lane_0_and_sigpipe_to_nobody),
        cmocka_unit_test(lane_counts_have_limits),
    };
    return cmocka_run_group_tests_name("loop_env", tests, NULL, NULL);
}
