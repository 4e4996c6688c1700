/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/core and its tests: reservations, maintenance, and the calendars of nodes. */
#ifndef MR_CORE_RESERVE_H
#define MR_CORE_RESERVE_H

#include "core/core_int.h"

#define CORE_RESERVE_LEAD_US  (3600ull * 1000000ull) /* looked at so long before it begins */
#define CORE_RESERVE_BEAT_US  (60ull * 1000000ull)   /* and again so often */
#define CORE_MAINTENANCE_US   (7 * 24 * 3600ull * 1000000ull)  /* binds placement from then on */
#define CORE_RESERVE_AHEAD_US (56 * 24 * 3600ull * 1000000ull) /* looked for room so far ahead */
#define CORE_RESERVE_USE_US   (600ull * 1000000ull) /* worth starting what must go again */
#define CORE_RESERVE_JOBS     4096u                 /* running jobs looked at to book one */

/* A reservation that is booked or active, or a maintenance. */
struct core_reserved {
    uint64_t begin_us, end_us;
    uint64_t billed_us;
    uint64_t used[3], rest[3]; /* cpu, memory, accelerators: held by members since billed_us */
    uint32_t workload;         /* which it is; 0: the slot is free */
    uint32_t window_first, window_last;
    uint32_t member_first;
    uint32_t tasks;                                 /* that its windows hold */
    uint32_t missing;                               /* that were lost with nodes */
    uint8_t accel_type, maintenance, active, shown; /* shown: it binds placement */
    uint32_t devices; /* of the type that is planned, on its nodes; 0 but while planning */
};
/* One node of it. */
struct core_window {
    uint64_t begin_us, end_us;
    uint32_t reserved; /* 0: the slot is free */
    uint32_t node, tasks;
    uint32_t node_next;        /* by begin */
    uint32_t of_prev, of_next; /* of the same reservation */
};

/* Nodes with accelerators of one type that come on one date. */
struct core_delivery {
    uint64_t comes_us;
    uint64_t cpu_milli, mem_mib, accel_milli; /* of its nodes */
    uint32_t nodes;                           /* 0: the slot is free */
    uint32_t node_first, node_last;
    uint32_t prev, next; /* by date */
    uint8_t accel_type, pad[3];
};

static inline struct core_delivery *core_delivery(const struct mr_core *core, uint32_t i)
{
    return (struct core_delivery *)core_item(core, CORE_DELIVERIES, i);
}
static inline struct core_reserved *core_reserved(const struct mr_core *core, uint32_t i)
{
    return (struct core_reserved *)core_item(core, CORE_RESERVED, i);
}
static inline struct core_window *core_window(const struct mr_core *core, uint32_t i)
{
    return (struct core_window *)core_item(core, CORE_WINDOWS, i);
}

/* --- core_window.c: calendars of nodes, and for whom they are open ---------------------------- */

/* Nodes are looked at for this workload from now on: those that it may run on until it surely has
 * ended; `goes`: until it was asked to go and is gone. */
void core_view_make(struct mr_core *core, uint32_t workload, bool goes);
static inline void core_view_of(struct mr_core *core, uint32_t workload, bool goes)
{
    if (core->tables[CORE_RESERVED].live > 0) core_view_make(core, workload, goes);
    const struct core_workload *w = core_workload(core, workload);
    core->view_picky = 0;
    if ((w->exclusive | w->apart) != 0) core_picky_view(core, workload);
}
void core_view_reset(struct mr_core *core); /* for anybody, whatever comes */
void core_view_set(struct mr_core *core, uint32_t reserved, uint64_t end_us);
/* It may be asked to go before its end, and some node is reserved. */
bool core_view_goes(const struct mr_core *core, uint32_t workload);
/* What one of the reservation's members needs, on its nodes: as core_plan_make. */
uint32_t core_window_plan(struct mr_core *core, const struct core_request *request,
                          uint8_t *ret_type);
/* Adds up to so many tasks to the plan; returns how many. O(its nodes). */
uint32_t core_window_fill(struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                          uint32_t tasks);
/* Tasks of the shape that fit on its nodes now, at most `most`. */
uint32_t core_window_fit(const struct mr_core *core, uint32_t reserved, uint32_t type,
                         const struct mr_shape *shape, uint32_t most);
void core_window_add(struct mr_core *core, uint32_t reserved, uint32_t node, uint32_t tasks);
void core_window_drop(struct mr_core *core, uint32_t window);
/* The node is in the index as its calendar says: as it is; or as it will be at that time, for a
 * moment. */
void core_window_show(struct mr_core *core, uint32_t node);
void core_window_foresee(struct mr_core *core, uint32_t node, uint64_t at_us);
/* No window of the node overlaps that time. */
bool core_window_free(const struct mr_core *core, uint32_t node, uint64_t begin_us,
                      uint64_t end_us);

/* --- core_delivery.c: nodes to come -------------------------------------------------------------
 */

/* Whether the event may say that the node comes at its date: it is not there, and a slot is. */
bool core_delivery_valid(const struct mr_core *core, const struct mr_event_node *event);
void core_delivery_join(struct mr_core *core, uint32_t node, uint64_t comes_us);
void core_delivery_leave(struct mr_core *core, uint32_t node); /* nothing when it is in none */
/* Every node whose date has come is there. */
void core_delivery_due(struct mr_core *core);
/* For a moment the nodes that come by then are there; at_us 0: those are expected again. */
void core_delivery_foresee(struct mr_core *core, uint64_t at_us);
/* Whether so much is more than the whole fleet has now, and would be enough with what comes: the
 * reason says when. O(deliveries), and O(types) without any. */
bool core_delivery_reason(const struct mr_core *core, const struct core_request *request,
                          struct mr_reason *ret);

/* --- core_reserve.c: booking, beginning, ending ------------------------------------------------
 */

void core_reserve(struct mr_core *core, const struct mr_event_reserve *event);
void core_reserve_cancel(struct mr_core *core, uint32_t workload);
void core_reserve_due(struct mr_core *core, uint32_t workload);
void core_reserve_node_lost(struct mr_core *core, uint32_t node, bool absent);
/* It will be what the event says: windows that this does not do for are lost. */
void core_reserve_node_changed(struct mr_core *core, const struct mr_event_node *event);
/* What its members do not hold is billed until now. */
void core_reserve_bill(struct mr_core *core, uint32_t reserved); /* core_meter.c */

/* --- core_book.c: finding room for one -----------------------------------------------------------
 */

struct core_booking {
    const struct mr_shape *shape;
    enum mr_topology topology;
    uint32_t tasks, place; /* place: all within it; 0: as the topology says */
    uint64_t begin_us, end_us;
};
/* Nodes for so many tasks at that time: entries of the plan table, of which nothing is taken.
 * Returns how many; 0: there is no room that could be promised. */
uint32_t core_book_plan(struct mr_core *core, const struct core_booking *booking,
                        uint8_t *ret_type);
/* When it would fit, from booking->begin_us on; 0: not found. */
uint64_t core_book_earliest(struct mr_core *core, const struct core_booking *booking);

/* --- members: the work that names it ------------------------------------------------------------
 */

int core_member_valid(const struct mr_core *core, const struct mr_event_submit *event);
uint32_t core_member_of(const struct mr_core *core,
                        struct mr_workload_id reservation); /* its slot */
void core_member_join(struct mr_core *core, uint32_t workload);
void core_member_leave(struct mr_core *core, uint32_t workload);
/* Before that its members wait; 0: they need not. */
uint64_t core_member_begin_us(const struct mr_core *core, const struct core_workload *w);

#endif
