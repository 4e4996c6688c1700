/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes as threads: making, running, stopping and freeing them.
 *
 * Owns:       the lanes and their uv loops, from mr_loop_new to mr_loop_free.
 * Invariants: (1) a lane's objects are touched by its thread only, while threads run;
 *             (2) when mr_loop_run returns no thread but the caller's is left, every connection had
 *                 its on_close, every post that was sent has run;
 *             (3) the async handles outlive all threads, since any of them may post to any lane.
 * Thread:     new, listen, run, free: the caller's; stop: any lane.
 * Fails:      MR_ENO_MEMORY, MR_EIO.
 * Ends:       mr_loop_free.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop_int.h"

#define LANE_LATE_ROUNDS_MAX 1000u

/* --- a lane ---------------------------------------------------------------------------------- */

static void lane_stop(struct loop_lane *lane)
{
    lane->stopping = true;
    loop_listener_stop(lane);
    loop_conns_close(lane);
    loop_timers_halt(lane);
    (void)uv_timer_stop(&lane->linger); /* none of these can fail */
    (void)uv_timer_stop(&lane->accept_retry);
    (void)uv_prepare_stop(&lane->prepare);
    (void)uv_check_stop(&lane->check);
    if (lane->has_signals) {
        for (size_t i = 0; i < MR_COUNT_OF(lane->signals); i++) {
            (void)uv_signal_stop(&lane->signals[i]);
        }
    }
    /* From here on the loop runs until every connection is closed. */
    uv_unref((uv_handle_t *)&lane->async);
}

static void lane_woken(uv_async_t *async)
{
    struct loop_lane *lane = async->data;
    loop_posts_run(lane);
    if (__atomic_load_n(&lane->loop->listen_stop, __ATOMIC_ACQUIRE)) loop_listener_stop(lane);
    if (__atomic_load_n(&lane->loop->stop, __ATOMIC_ACQUIRE) && !lane->stopping) lane_stop(lane);
}

static void lane_prepare(uv_prepare_t *prepare)
{
    loop_conns_flush(prepare->data);
}

static void lane_check(uv_check_t *check)
{
    loop_conns_flush(check->data);
}

static void lane_linger(uv_timer_t *timer)
{
    struct loop_lane *lane = timer->data;
    loop_conns_linger(lane);
    if (lane->lingering_count == 0) (void)uv_timer_stop(timer); /* cannot fail */
}

void loop_linger_start(struct loop_lane *lane)
{
    if (lane->stopping) return;
    (void)uv_timer_start(&lane->linger, lane_linger, LOOP_LINGER_MS / 2, LOOP_LINGER_MS / 2);
}

static int lane_init(struct mr_loop *loop, uint32_t index)
{
    struct loop_lane *lane = &loop->lanes[index];
    lane->loop = loop;
    lane->env = (struct mr_env){&loop_env_ops, index, loop->lane_count};
    lane->wire = (struct mr_wire){&loop_wire_ops};
    lane->conns_max = MR_CONNS_PER_LOOP_MAX;
    if (uv_loop_init(&lane->uv) != 0) return MR_EIO;
    if (uv_async_init(&lane->uv, &lane->async, lane_woken) != 0) {
        (void)uv_loop_close(&lane->uv); /* has no handle yet */
        return MR_EIO;
    }
    lane->has_uv = true;
    lane->async.data = lane;
    lane->prepare.data = lane;
    lane->check.data = lane;
    lane->linger.data = lane;
    /* None of these allocates or fails. */
    (void)uv_prepare_init(&lane->uv, &lane->prepare);
    (void)uv_prepare_start(&lane->prepare, lane_prepare);
    (void)uv_check_init(&lane->uv, &lane->check);
    (void)uv_check_start(&lane->check, lane_check);
    (void)uv_timer_init(&lane->uv, &lane->linger);
    (void)uv_timer_init(&lane->uv, &lane->accept_retry);
    uv_unref((uv_handle_t *)&lane->prepare);
    uv_unref((uv_handle_t *)&lane->check);
    return 0;
}

static void lane_run(void *arg)
{
    struct loop_lane *lane = arg;
    int left = uv_run(&lane->uv, UV_RUN_DEFAULT);
    MR_ASSERT(left == 0 || lane->stopping);
}

static void close_any(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

static void lane_done(struct loop_lane *lane)
{
    if (!lane->has_uv) return;
    lane->stopping = true;
    loop_listener_stop(lane);
    loop_conns_close(lane);
    loop_timers_free(lane);
    uv_walk(&lane->uv, close_any, NULL);
    (void)uv_run(&lane->uv, UV_RUN_DEFAULT); /* only close callbacks are left */
    int error = uv_loop_close(&lane->uv);
    MR_ASSERT(error == 0);
}

/* --- all lanes ------------------------------------------------------------------------------- */

static int sigpipe_ignore(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    return sigaction(SIGPIPE, &ignore, NULL) == 0 ? 0 : MR_EIO;
}

int mr_loop_new(uint32_t lane_count, struct mr_loop **ret_loop)
{
    if (lane_count == 0 || lane_count > LOOP_LANES_MAX) return MR_EINVALID;
    struct mr_loop *loop = mr_alloc_zero(sizeof *loop);
    if (loop == NULL) return MR_ENO_MEMORY;
    loop->listen_fd = -1;
    loop->lane_count = lane_count;
    loop->lanes = mr_alloc_zero(lane_count * sizeof *loop->lanes);
    loop_clock_init(loop);
    int error = loop->lanes == NULL ? MR_ENO_MEMORY : sigpipe_ignore();
    for (uint32_t i = 0; i < lane_count && error == 0; i++)
        error = lane_init(loop, i);
    if (error != 0) {
        mr_loop_free(loop);
        return error;
    }
    *ret_loop = loop;
    return 0;
}

void mr_loop_free(struct mr_loop *loop)
{
    if (loop == NULL) return;
    for (uint32_t i = 0; i < loop->lane_count && loop->lanes != NULL; i++) {
        lane_done(&loop->lanes[i]);
    }
    if (loop->listen_fd >= 0) (void)close(loop->listen_fd); /* nothing is written to it */
    mr_free(loop->lanes);
    mr_free(loop);
}

struct mr_env *mr_loop_env(struct mr_loop *loop, uint32_t lane)
{
    MR_ASSERT(lane < loop->lane_count);
    return &loop->lanes[lane].env;
}

struct mr_wire *mr_loop_wire(struct mr_loop *loop, uint32_t lane)
{
    MR_ASSERT(lane < loop->lane_count);
    return &loop->lanes[lane].wire;
}

static void wake_all(struct mr_loop *loop)
{
    for (uint32_t i = 0; i < loop->lane_count; i++)
        (void)uv_async_send(&loop->lanes[i].async);
}

void mr_loop_stop(struct mr_loop *loop)
{
    __atomic_store_n(&loop->stop, true, __ATOMIC_RELEASE);
    wake_all(loop);
}

void mr_loop_listen_stop(struct mr_loop *loop)
{
    __atomic_store_n(&loop->listen_stop, true, __ATOMIC_RELEASE);
    /* Callers are refused from now on; the lanes let go of the socket as they wake, and its
     * descriptor stays ours until mr_loop_free, so that no lane ever polls somebody else's. */
    if (loop->listen_fd >= 0) (void)shutdown(loop->listen_fd, SHUT_RDWR);
    wake_all(loop);
}

static void signal_came(uv_signal_t *handle, int number)
{
    struct mr_loop *loop = handle->data;
    loop->signal_fn(loop->signal_arg, number);
}

int mr_loop_signals(struct mr_loop *loop, void (*fn)(void *arg, int signal), void *arg)
{
    static const int numbers[] = {SIGINT, SIGTERM};
    struct loop_lane *lane = &loop->lanes[0];
    MR_ASSERT(!lane->has_signals);
    _Static_assert(MR_COUNT_OF(numbers) == MR_COUNT_OF(lane->signals), "one handle each");
    loop->signal_fn = fn;
    loop->signal_arg = arg;
    lane->has_signals = true;
    for (size_t i = 0; i < MR_COUNT_OF(numbers); i++) {
        uv_signal_t *handle = &lane->signals[i];
        if (uv_signal_init(&lane->uv, handle) != 0) return MR_EIO;
        handle->data = loop;
        if (uv_signal_start(handle, signal_came, numbers[i]) != 0) return MR_EIO;
    }
    return 0;
}

/* Posts that came when their lane had stopped already: run here, when no thread is left. */
static void posts_late_run(struct mr_loop *loop)
{
    bool any = true;
    for (unsigned round = 0; any && round < LANE_LATE_ROUNDS_MAX; round++) {
        any = false;
        for (uint32_t i = 0; i < loop->lane_count; i++) {
            any |= loop_posts_any(&loop->lanes[i]);
            loop_posts_run(&loop->lanes[i]);
        }
    }
}

int mr_loop_run(struct mr_loop *loop)
{
    uint32_t started = 1;
    int error = 0;
    sigset_t all, old;
    (void)sigfillset(&all); /* cannot fail */
    /* Signals are for lane 0: the others are born deaf. */
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    for (; started < loop->lane_count; started++) {
        struct loop_lane *lane = &loop->lanes[started];
        if (uv_thread_create(&lane->thread, lane_run, lane) != 0) {
            error = MR_EIO;
            break;
        }
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error != 0) mr_loop_stop(loop);
    lane_run(&loop->lanes[0]);
    for (uint32_t i = 1; i < started; i++)
        (void)uv_thread_join(&loop->lanes[i].thread);
    for (uint32_t i = started; i < loop->lane_count; i++)
        lane_run(&loop->lanes[i]);
    posts_late_run(loop);
    return error;
}
