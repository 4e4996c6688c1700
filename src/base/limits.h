/* SPDX-License-Identifier: Apache-2.0 */
/* Every limit that a user, a peer or a disk can run into, with its unit in its name.
 *
 * A limit lives here and nowhere else; reaching it has a defined answer (an error of base.h, an
 * HTTP status, a reject event) and a test at the limit and one past it.
 */
#ifndef MR_LIMITS_H
#define MR_LIMITS_H

/* HTTP, as the gate accepts it. */
#define MR_HTTP_HEAD_BYTES_MAX     (64u * 1024u)          /* request line and headers: 431 */
#define MR_HTTP_HEADERS_MAX        100u                   /* header lines: 431 */
#define MR_HTTP_BODY_BYTES_MAX     (32u * 1024u * 1024u)  /* body: 413 */
#define MR_HTTP_URL_BYTES_MAX      8192u                  /* path and query: 414 */
#define MR_CONN_WRITE_BYTES_HIGH   (256u * 1024u)         /* above it a source is not pulled */
#define MR_CONNS_PER_LOOP_MAX      20000u                 /* accepted connections: closed at once */
#define MR_REQUEST_ARENA_BYTES_MAX (128u * 1024u * 1024u) /* one request's memory: 413 */

/* Chat. */
#define MR_CHAT_MESSAGES_MAX    4096u
#define MR_CHAT_STOPS_MAX       4u
#define MR_CHAT_STOP_BYTES_MAX  256u
#define MR_CHAT_MODEL_BYTES_MAX 256u
#define MR_GATE_WAITING_MAX     4096u /* chats waiting in one gate: 429 */
#define MR_REPLICAS_PER_SERVICE 256u

/* Worker wire. */
#define MR_WIRE_FRAME_BYTES_MAX (33u * 1024u * 1024u)
#define MR_WIRE_STREAMS_MAX     1024u
#define MR_WIRE_UNSETTLED_MAX   512u /* ends not yet metered: no new work */

/* Workloads, as a person submits them. */
#define MR_NAME_BYTES_MAX     128u
#define MR_SPEC_BYTES_MAX     (1024u * 1024u)
#define MR_ARGV_MAX           1024u
#define MR_TASKS_PER_NODE_MAX 512u
#define MR_BATCH_MAX          4096u /* submissions in one request */

/* Journal. */
#define MR_RECORD_BYTES_MAX  (2u * 1024u * 1024u)
#define MR_GROUP_RECORDS_MAX 1024u /* records in one commit */
#define MR_GROUP_BYTES_MAX   (8u * 1024u * 1024u)

/* Files that workers leave. */
#define MR_LOG_BYTES_MAX (16u * 1024u * 1024u) /* one log file, then it rotates */
#define MR_LOG_FILES_MAX 4u

#endif
