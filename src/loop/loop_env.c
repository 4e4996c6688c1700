/* SPDX-License-Identifier: Apache-2.0 */
/* The env of a lane: time, random bits, timers, and posts from one lane to another.
 *
 * Owns:       timers from timer_start until they fire or are stopped.
 * Invariants: (1) a post runs on its lane, in order per sender, never inside the call that posted;
 *             (2) a timer runs once, at or after its time by loop_now_us, never after timer_stop;
 *             (3) a timer's memory goes in its close callback, in no other place;
 *             (4) work runs on a thread of uv's own, its done on the lane, once each.
 * Thread:     post: any; all else: the lane's own.
 * Fails:      timer_start with MR_ENO_MEMORY, or MR_ECLOSED once the lane stops.
 * Ends:       timer_closed.
 */
#include <errno.h>
#include <sys/random.h>

#include "loop_int.h"

static struct loop_lane *lane_of(struct mr_env *env)
{
    return (struct loop_lane *)(void *)((char *)env - offsetof(struct loop_lane, env));
}

static uint64_t env_now_us(struct mr_env *env)
{
    return loop_now_us(lane_of(env)->loop);
}

static void env_random(struct mr_env *env, uint8_t ret[16])
{
    (void)env;
    size_t done = 0;
    while (done < 16) {
        ssize_t n = getrandom(ret + done, 16 - done, 0);
        if (n > 0) done += (size_t)n;
        MR_ASSERT(n > 0 || errno == EINTR); /* the kernel has had it since 3.17 */
    }
}

/* --- timers ---------------------------------------------------------------------------------- */

static void timer_closed(uv_handle_t *handle)
{
    mr_free(handle);
}

static void timer_drop(struct mr_timer *timer)
{
    struct loop_lane *lane = timer->lane;
    if (timer->prev != NULL) timer->prev->next = timer->next;
    if (timer->prev == NULL) lane->timers = timer->next;
    if (timer->next != NULL) timer->next->prev = timer->prev;
    uv_close((uv_handle_t *)&timer->uv, timer_closed);
}

static void timer_fired(uv_timer_t *handle);

static void timer_arm(struct mr_timer *timer, uint64_t now_us)
{
    uint64_t wait_us = timer->at_us > now_us ? timer->at_us - now_us : 0;
    uint64_t wait_ms = wait_us / 1000 + (wait_us % 1000 != 0);
    int error = uv_timer_start(&timer->uv, timer_fired, wait_ms, 0);
    MR_ASSERT(error == 0); /* fails only without a callback or while closing */
}

static void timer_fired(uv_timer_t *handle)
{
    struct mr_timer *timer = (struct mr_timer *)(void *)handle;
    uint64_t now_us = loop_now_us(timer->lane->loop);
    if (now_us < timer->at_us) {
        /* uv counts from the start of its turn, so it may be early. */
        uv_update_time(&timer->lane->uv);
        timer_arm(timer, now_us);
        return;
    }
    void (*fn)(void *arg) = timer->fn;
    void *arg = timer->arg;
    timer_drop(timer);
    fn(arg);
}

static int env_timer_start(struct mr_env *env, uint64_t at_us, void (*fn)(void *arg), void *arg,
                           struct mr_timer **ret_timer)
{
    struct loop_lane *lane = lane_of(env);
    if (lane->stopping) return MR_ECLOSED;
    struct mr_timer *timer = mr_alloc_zero(sizeof *timer);
    if (timer == NULL) return MR_ENO_MEMORY;
    (void)uv_timer_init(&lane->uv, &timer->uv); /* cannot fail */
    timer->lane = lane;
    timer->fn = fn;
    timer->arg = arg;
    timer->at_us = at_us;
    timer->next = lane->timers;
    if (lane->timers != NULL) lane->timers->prev = timer;
    lane->timers = timer;
    timer_arm(timer, loop_now_us(lane->loop));
    *ret_timer = timer;
    return 0;
}

static void env_timer_stop(struct mr_env *env, struct mr_timer *timer)
{
    if (timer == NULL) return;
    MR_ASSERT(timer->lane == lane_of(env));
    timer_drop(timer);
}

void loop_timers_halt(struct loop_lane *lane)
{
    for (struct mr_timer *timer = lane->timers; timer != NULL; timer = timer->next) {
        (void)uv_timer_stop(&timer->uv); /* cannot fail */
    }
}

void loop_timers_free(struct loop_lane *lane)
{
    while (lane->timers != NULL)
        timer_drop(lane->timers);
}

/* --- posts ----------------------------------------------------------------------------------- */

static void env_post(struct mr_env *env, uint32_t lane_index, struct mr_post *post)
{
    struct mr_loop *loop = lane_of(env)->loop;
    MR_ASSERT(lane_index < loop->lane_count);
    struct loop_lane *lane = &loop->lanes[lane_index];
    struct mr_post *head = __atomic_load_n(&lane->posts, __ATOMIC_RELAXED);
    do {
        post->next = head;
    } while (!__atomic_compare_exchange_n(&lane->posts, &head, post, true, __ATOMIC_RELEASE,
                                          __ATOMIC_RELAXED));
    /* Whoever put the first one wakes the lane; the others ride along. */
    if (head == NULL)
        (void)uv_async_send(&lane->async); /* fails only on a handle of another kind */
}

void loop_posts_run(struct loop_lane *lane)
{
    struct mr_post *newest = __atomic_exchange_n(&lane->posts, NULL, __ATOMIC_ACQUIRE);
    struct mr_post *oldest = NULL;
    while (newest != NULL) {
        struct mr_post *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct mr_post *next = oldest->next; /* fn may free the post */
        oldest->fn(oldest);
        oldest = next;
    }
}

bool loop_posts_any(const struct loop_lane *lane)
{
    return __atomic_load_n(&lane->posts, __ATOMIC_RELAXED) != NULL;
}

/* --- work beside the lane -------------------------------------------------------------------- */

struct loop_work {
    uv_work_t uv; /* first: the request is the work */
    struct mr_work *work;
};

static void work_run(uv_work_t *request)
{
    struct mr_work *work = ((struct loop_work *)(void *)request)->work;
    work->run(work);
}

static void work_done(uv_work_t *request, int status)
{
    struct mr_work *work = ((struct loop_work *)(void *)request)->work;
    MR_ASSERT(status == 0); /* nobody cancels it */
    mr_free(request);
    work->done(work);
}

static int env_work(struct mr_env *env, struct mr_work *work)
{
    struct loop_lane *lane = lane_of(env);
    if (lane->stopping) return MR_ECLOSED;
    struct loop_work *request = mr_alloc_zero(sizeof *request);
    if (request == NULL) return MR_ENO_MEMORY;
    request->work = work;
    if (uv_queue_work(&lane->uv, &request->uv, work_run, work_done) == 0) return 0;
    mr_free(request);
    return MR_ENO_MEMORY;
}

const struct mr_env_ops loop_env_ops = {
    .now_us = env_now_us,
    .random = env_random,
    .timer_start = env_timer_start,
    .timer_stop = env_timer_stop,
    .post = env_post,
    .work = env_work,
};
