/* SPDX-License-Identifier: Apache-2.0 */
/* The real world's clock, threads and sockets: env and wire of the ports on libuv.
 *
 * One lane is one thread with one uv loop. Lane 0 is ctl's and runs on the caller's thread; lanes
 * 1 … N are gates' and have threads of their own. Nothing but `post` crosses lanes.
 * Grade P2. Idea: src/loop/README.md.
 */
#ifndef MR_LOOP_H
#define MR_LOOP_H

#include "port/env.h"
#include "port/wire.h"

struct mr_loop;

/* Makes lane_count lanes (1 … 64), none running yet. 0, MR_EINVALID, MR_ENO_MEMORY or MR_EIO. */
int mr_loop_new(uint32_t lane_count, struct mr_loop **ret_loop);
/* After mr_loop_run returned, or when it was never called. NULL is fine. */
void mr_loop_free(struct mr_loop *loop);

/* The tables of one lane; owned by the loop. */
struct mr_env *mr_loop_env(struct mr_loop *loop, uint32_t lane);
struct mr_wire *mr_loop_wire(struct mr_loop *loop, uint32_t lane);

/* Binds "HOST:PORT" (port 0: any free one; "[::1]:8080" for IPv6) once and lets every lane from 1
 * on (lane 0 when it is the only one) accept from it. `accept` runs on the accepting lane and must
 * set the connection's handler or close it. Before mr_loop_run. On failure a line for people in
 * `problem`: what is wrong with the address, who has the port, what to do. The port that it got in
 * *ret_port. */
int mr_loop_listen(struct mr_loop *loop, struct mr_str address,
                   void (*accept)(void *arg, uint32_t lane, struct mr_conn *conn), void *arg,
                   uint16_t *ret_port, struct mr_buf *problem);
/* Stops accepting and closes the listening socket, from lane 0; open connections stay. */
void mr_loop_listen_stop(struct mr_loop *loop);

/* SIGINT and SIGTERM call fn on lane 0 with the signal's number; may come more than once. SIGPIPE
 * is ignored from mr_loop_new on. Before mr_loop_run. */
int mr_loop_signals(struct mr_loop *loop, void (*fn)(void *arg, int signal), void *arg);

/* Runs all lanes; returns when mr_loop_stop was called, after every lane closed its connections and
 * timers. 0 or MR_EIO when a thread could not be started. */
int mr_loop_run(struct mr_loop *loop);
/* From any lane's callbacks. */
void mr_loop_stop(struct mr_loop *loop);

#endif
