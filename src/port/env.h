/* SPDX-License-Identifier: Apache-2.0 */
/* What a service needs of time and of other threads: a clock, timers, posting.
 *
 * A "lane" is one thread of control: one loop thread in the daemon, one queue in the simulator.
 * Lane 0 is ctl's; gates have lanes 1 … N. Everything that belongs to a lane is touched on that
 * lane only. No callback runs inside the call that asked for it.
 */
#ifndef MR_PORT_ENV_H
#define MR_PORT_ENV_H

#include "base/base.h"

/* Embedded in what is sent. */
struct mr_post {
    void (*fn)(struct mr_post *post);
    struct mr_post *next; /* the world's while posted */
};

/* A long computation. The caller's memory until done runs. */
struct mr_work {
    void (*run)(struct mr_work *work);  /* on another thread: may touch only what the work owns */
    void (*done)(struct mr_work *work); /* on the lane that asked */
};

struct mr_env;
struct mr_timer; /* the world's; freed by timer_stop */

struct mr_env_ops {
    /* Wall clock in microseconds since 1970, never going back within a process. */
    uint64_t (*now_us)(struct mr_env *env);
    /* 128 random bits, fit for keys and ids. In the simulator they come from the seed. */
    void (*random)(struct mr_env *env, uint8_t ret[16]);
    /* Calls fn(arg) once on this lane at or after the absolute time. MR_ENO_MEMORY. */
    int (*timer_start)(struct mr_env *env, uint64_t at_us, void (*fn)(void *arg), void *arg,
                       struct mr_timer **ret_timer);
    /* Stops and frees; the callback will not run. NULL is fine. A timer that has fired is freed by
     * the world: forget the pointer in the callback. */
    void (*timer_stop)(struct mr_env *env, struct mr_timer *timer);
    /* Calls fn(arg) on `lane`, soon, in order per (sender, lane). The only function of all ports
     * that may be called for another lane. Never fails: the memory is reserved by the caller, who
     * owns `post` until fn runs. */
    void (*post)(struct mr_env *env, uint32_t lane, struct mr_post *post);
    /* Runs the work beside the lane, then its done on the lane, never inside this call. NULL: the
     * world has no threads, and who wants something computed does so itself, in short. MR_E…: it
     * will not run. The world does not end before what was taken is done. */
    int (*work)(struct mr_env *env, struct mr_work *work);
};

struct mr_env {
    const struct mr_env_ops *ops;
    uint32_t lane;       /* which one this env is for */
    uint32_t lane_count; /* gates are 1 … lane_count - 1 */
};

#endif
