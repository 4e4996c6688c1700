/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated connections: bytes in pieces of any size, late, and cut at any byte.
 *
 * One end is the daemon's, the other the world's. Bytes wait in the receiver's inbox, so a paused
 * reader pushes back on the sender.
 *
 * Owns:       all ends until the run is over.
 * Invariants: (1) bytes arrive in order; (2) on_close comes once, last, and never inside a call;
 *             (3) a dead daemon's ends call nobody.
 */
#include "sim/sim_int.h"

#define LOW_BYTES   (MR_CONN_WRITE_BYTES_HIGH / 4u)
#define INBOX_BYTES ((size_t)64 * 1024 * 1024)

static void pump_later(struct mr_conn *conn);

/* --- calls into whoever owns an end ----------------------------------------------------------- */

static void later(struct mr_conn *conn, uint64_t delay_us, void (*fn)(void *arg))
{
    struct sim *sim = conn->sim;
    if (conn->incarnation == 0) {
        sim_in_world(sim, delay_us, fn, conn);
    } else if (conn->incarnation == sim->incarnation) {
        sim_in_daemon(sim, delay_us, fn, conn, NULL);
    }
}

static uint64_t delay(struct sim *sim)
{
    return sim_draw(sim, sim->c.net_us / 4, 2 * sim->c.net_us);
}

static bool is_dead(const struct mr_conn *conn)
{
    return conn->incarnation != 0 && conn->incarnation != conn->sim->incarnation;
}

static void close_told(struct mr_conn *conn, int error)
{
    if (conn->close_told || is_dead(conn)) return;
    conn->close_told = true;
    conn->closed = true;
    if (conn->handler.on_close != NULL) conn->handler.on_close(conn->arg, error);
}

static void told_closed_well(void *arg)
{
    close_told(arg, 0);
}

static void told_closed_badly(void *arg)
{
    close_told(arg, MR_ECLOSED);
}

static void told_drain(void *arg)
{
    struct mr_conn *conn = arg;
    if (!conn->closed && conn->handler.on_drain != NULL) conn->handler.on_drain(conn->arg);
}

/* Delivers some of what waits; what is left, and the end, come later. */
static void pump(void *arg)
{
    struct mr_conn *conn = arg;
    struct sim *sim = conn->sim;
    conn->delivering = false;
    if (conn->closed || conn->paused || conn->opening || is_dead(conn)) return;
    if (conn->inbox.n > 0) {
        uint8_t piece[16384];
        size_t n = (size_t)sim_draw(sim, 1, MR_MIN(conn->inbox.n, sizeof piece));
        if (sim_draw(sim, 0, 1) == 0) n = MR_MIN(conn->inbox.n, sizeof piece);
        memcpy(piece, conn->inbox.p, n);
        mr_buf_drop_front(&conn->inbox, n);
        if (conn->peer->above_high && conn->inbox.n < LOW_BYTES) {
            conn->peer->above_high = false;
            later(conn->peer, delay(sim), told_drain);
        }
        pump_later(conn);
        if (conn->handler.on_data != NULL) conn->handler.on_data(conn->arg, piece, n);
        return;
    }
    if (conn->end_pending && !conn->end_told) {
        conn->end_told = true;
        if (conn->handler.on_end != NULL) conn->handler.on_end(conn->arg);
    }
}

static void pump_later(struct mr_conn *conn)
{
    if (conn->delivering || conn->paused || conn->opening || conn->closed) return;
    if (conn->inbox.n == 0 && !(conn->end_pending && !conn->end_told)) return;
    conn->delivering = true;
    later(conn, delay(conn->sim), pump);
}

/* --- both ends' operations -------------------------------------------------------------------- */

void sim_conn_handle(struct mr_conn *conn, const struct mr_conn_handler *handler, void *arg)
{
    conn->handler = *handler;
    conn->arg = arg;
}

size_t sim_conn_send(struct mr_conn *conn, const void *bytes, size_t n)
{
    struct mr_conn *peer = conn->peer;
    if (conn->closed) return 0;
    if (peer->closed || is_dead(peer)) return 0; /* into the void, as the kernel does for a while */
    if (sim_chance(conn->sim, conn->sim->c.cut_ppm)) {
        /* Part of it may still arrive. */
        mr_buf_put(&peer->inbox, bytes, (size_t)sim_draw(conn->sim, 0, n));
        sim_conn_cut(conn);
        return 0;
    }
    mr_buf_put(&peer->inbox, bytes, n);
    MR_ASSERT(!peer->inbox.failed);
    if (peer->inbox.n > MR_CONN_WRITE_BYTES_HIGH) conn->above_high = true;
    pump_later(peer);
    return peer->inbox.n;
}

void sim_conn_close(struct mr_conn *conn, bool now)
{
    struct mr_conn *peer = conn->peer;
    if (conn->closed) return;
    conn->closed = true;
    later(conn, delay(conn->sim), told_closed_well);
    if (peer->closed) return;
    if (now) {
        mr_buf_reset(&peer->inbox);
        peer->closed = true;
        later(peer, delay(conn->sim), told_closed_badly);
        return;
    }
    peer->end_pending = true;
    pump_later(peer);
}

void sim_conn_cut(struct mr_conn *conn)
{
    if (conn->closed && conn->peer->closed) return;
    conn->sim->report->faults.connections_cut++;
    for (size_t i = 0; i < 2; i++) {
        struct mr_conn *end = i == 0 ? conn : conn->peer;
        if (end->closed) continue;
        end->closed = true;
        later(end, delay(conn->sim), told_closed_badly);
    }
}

struct mr_conn *sim_conn_pair(struct sim *sim, struct mr_conn **ret_world_end)
{
    struct mr_conn *ends = mr_alloc_zero(2 * sizeof *ends);
    MR_ASSERT(ends != NULL);
    for (size_t i = 0; i < 2; i++) {
        ends[i].sim = sim;
        ends[i].peer = &ends[1 - i];
        mr_buf_init(&ends[i].inbox, INBOX_BYTES);
    }
    ends[0].incarnation = sim->incarnation;
    ends[0].next = sim->conns;
    sim->conns = &ends[0];
    *ret_world_end = &ends[1];
    return &ends[0];
}

/* --- the daemon's table ----------------------------------------------------------------------- */

static void told_open(void *arg)
{
    struct mr_conn *conn = arg;
    if (conn->closed) return;
    conn->opening = false;
    pump_later(conn);
    if (conn->handler.on_open != NULL) conn->handler.on_open(conn->arg, conn);
}

static int wire_connect(struct mr_wire *wire, struct mr_str address,
                        const struct mr_conn_handler *handler, void *arg, struct mr_conn **ret_conn)
{
    struct sim_lane *lane =
        (struct sim_lane *)(void *)((uint8_t *)wire - offsetof(struct sim_lane, wire));
    struct sim *sim = lane->sim;
    uint32_t tag = sim_enter(sim, true);
    struct mr_conn *world_end, *conn = sim_conn_pair(sim, &world_end);
    uint64_t id = 0;
    struct mr_str number = address;
    if (mr_str_starts(address, MR_STR("sim:"))) {
        number.p += 4;
        number.n -= 4;
        if (mr_str_to_u64(number, &id) != 0) id = 0;
    }
    struct sim_lease *lease = sim_lease_get(sim, id);
    sim_conn_handle(conn, handler, arg);
    if (lease != NULL && lease->state == SIM_LEASE_ALIVE && lease->worker != NULL) {
        conn->opening = true; /* nothing is delivered before on_open */
        later(conn, delay(sim), told_open);
        sim_worker_accept(lease->worker, world_end);
    } else {
        conn->closed = world_end->closed = true;
        later(conn, delay(sim), told_closed_badly);
    }
    *ret_conn = conn;
    sim_leave(sim, tag);
    return 0;
}

static void wire_handle(struct mr_conn *conn, const struct mr_conn_handler *handler, void *arg)
{
    sim_conn_handle(conn, handler, arg);
}

static size_t wire_send(struct mr_conn *conn, const void *bytes, size_t n)
{
    uint32_t tag = sim_enter(conn->sim, true);
    size_t queued = sim_conn_send(conn, bytes, n);
    sim_leave(conn->sim, tag);
    return queued;
}

static void wire_read_pause(struct mr_conn *conn, bool paused)
{
    uint32_t tag = sim_enter(conn->sim, false);
    conn->paused = paused;
    pump_later(conn);
    sim_leave(conn->sim, tag);
}

static void wire_close(struct mr_conn *conn, bool now)
{
    uint32_t tag = sim_enter(conn->sim, true);
    sim_conn_close(conn, now);
    sim_leave(conn->sim, tag);
}

static const struct mr_wire_ops wire_ops = {.connect = wire_connect,
                                            .handle = wire_handle,
                                            .send = wire_send,
                                            .read_pause = wire_read_pause,
                                            .close = wire_close};

void sim_wire_init(struct sim *sim)
{
    for (uint32_t i = 0; i <= sim->c.gates; i++)
        sim->lanes[i].wire = (struct mr_wire){.ops = &wire_ops};
}

/* sim->incarnation is already the next one: the dead daemon's ends are known by that. */
void sim_wire_crash(struct sim *sim)
{
    for (struct mr_conn *conn = sim->conns; conn != NULL; conn = conn->next) {
        struct mr_conn *peer = conn->peer;
        conn->closed = true;
        if (!peer->closed) {
            peer->closed = true;
            later(peer, delay(sim), told_closed_badly);
        }
    }
}
