/* SPDX-License-Identifier: Apache-2.0 */
/* Private to cmd: the parts of `bench sched`, one function each, selectable by name.
 *
 * A part in a file of its own is called bench_sched_NAME.c and defines bench_sched_NAME; the table
 * in bench_sched.c lists it.
 */
#ifndef MR_CMD_BENCH_SCHED_H
#define MR_CMD_BENCH_SCHED_H

#include "bench.h"
#include "sim/sim.h"

/* Adds its bars. 0, or MR_E… when it could not run at all; what is missing (a trace, a peer) is a
 * bar that was not measured, with a note. */
int bench_sched_fleet(struct bench_report *report);
int bench_sched_queue(struct bench_report *report);
int bench_sched_gangs(struct bench_report *report);
int bench_sched_decisions(struct bench_report *report);
int bench_sched_slurm(struct bench_report *report);
int bench_sched_packing(struct bench_report *report);
int bench_sched_deadlines(struct bench_report *report);
int bench_sched_kueue(struct bench_report *report);
int bench_sched_when(struct bench_report *report);
int bench_sched_goodput(struct bench_report *report);
int bench_sched_moves(struct bench_report *report);

/* Replays a recorded workload through the production core, its processor time counted; the result's
 * JSON. What is wrong goes to standard error. */
int bench_replay(struct mr_sim_replay_options *options, struct mr_buf *ret_json);
/* The number behind "name": in it; -1: none. */
double bench_figure(struct mr_buf *json, const char *name);

#endif
