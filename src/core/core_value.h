/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/core and its tests: placement by value.
 *
 * The value of a node's free amounts is what the node could still host out of its own fair share of
 * the work that comes, averaged over a few fixed sampled futures. docs/internals/placement.md
 */
#ifndef MR_CORE_VALUE_H
#define MR_CORE_VALUE_H

#include "core_int.h"

#define CORE_FIT_FUTURES_K 32u  /* sampled futures of a class */
#define CORE_FIT_DRAWS     128u /* arrivals in each */
#define CORE_FIT_ORDER     248u /* the first 8, 16, 32, 64, 128 draws, each largest first */
#define CORE_FIT_FIRST     8u   /* arrivals until the first futures: best fit costs much early */
#define CORE_FIT_EVERY     2048u
#define CORE_FIT_WEIGHT    64u   /* of one arrival */
#define CORE_FIT_WORTH     16u   /* worths are in sixteenths of a milli-device */
#define CORE_FIT_KEEP      8192u /* arrivals for which an unused shape is kept */

/* Nodes that are alike when empty. */
struct core_fit_class {
    uint32_t cpu_milli, mem_mib; /* of the first node that came */
    uint32_t up;
    uint32_t pressure_q16; /* how much more is asked of its devices than of others' */
    uint32_t mean_q8;      /* milli-devices of a draw; 0: no futures */
    uint8_t accel_type, accel_count, pad[2];
};
/* Draws of each future by their rank in core_fit_kind, and where in the future they come. */
struct core_fit_future {
    uint16_t rank[CORE_FIT_FUTURES_K][CORE_FIT_ORDER];
    uint8_t at[CORE_FIT_FUTURES_K][CORE_FIT_ORDER];
};
/* A demand on one node, counted as it arrives and indexed as it is placed. */
struct core_fit_shape {
    uint32_t cpu_milli, mem_mib, accel_milli;
    uint32_t types; /* accepted accelerator types, a bit each; 0: needs none */
    uint32_t weight;
    uint32_t built_q16; /* its share when the futures were drawn */
    uint32_t hash_next, pad;
    uint64_t used; /* arrivals when it was used last */
};
/* The shapes that the present futures are drawn from, largest first. */
struct core_fit_kind {
    uint32_t cpu_milli, mem_mib, accel_milli;
    uint32_t worth; /* of placing one, in 1 / CORE_FIT_WORTH milli-devices */
    uint32_t types, weight;
    uint64_t supply; /* devices (without any: milli-vCPUs) of all nodes that take it when empty */
};

/* Scratch: one heap of live free states for each shape, best first. */
struct core_fit_index {
    uint64_t seen; /* states born later are not in it yet */
    uint32_t epoch;
    uint32_t count;
    uint32_t over; /* more states than the heap holds: best fit decides until some are gone */
    uint32_t pad;
};
struct core_fit_entry {
    uint64_t born;
    int32_t score;
    uint32_t waste;
    uint32_t state;
    uint16_t part; /* what is free on the device that is shared; 0: none is */
    uint16_t pad;
};
struct core_fit_value {
    uint64_t key;
    uint32_t epoch, value;
};

/* Where a demand goes. */
struct core_fit_spot {
    uint32_t node;
    uint16_t part; /* a shared device with exactly so much free; 0: none */
};

static inline struct core_fit_class *core_fit_class(const struct mr_core *core, uint32_t i)
{
    return (struct core_fit_class *)core_item(core, CORE_FIT_CLASSES, i);
}
static inline struct core_fit_future *core_fit_future(const struct mr_core *core, uint32_t i)
{
    return (struct core_fit_future *)core_item(core, CORE_FIT_FUTURES, i);
}
static inline struct core_fit_shape *core_fit_shape(const struct mr_core *core, uint32_t i)
{
    return (struct core_fit_shape *)core_item(core, CORE_FIT_SHAPES, i);
}
static inline struct core_fit_kind *core_fit_kind(const struct mr_core *core, uint32_t i)
{
    return (struct core_fit_kind *)core_item(core, CORE_FIT_KINDS, i);
}
static inline uint32_t core_fit_kinds(const struct mr_core *core)
{
    return core->tables[CORE_FIT_KINDS].used - 1;
}

/* core_value.c */
/* The types that the shape accepts, a bit each. */
uint32_t core_fit_types(const struct mr_shape *shape);
/* The slot of this demand; 0: none, or (make) none could be had. */
uint32_t core_fit_shape_find(struct mr_core *core, const struct core_fit_shape *key, bool make);

/* core_future.c */
void core_future_build(struct mr_core *core);
bool core_fit_holds(const struct core_fit_class *c, uint32_t cpu_milli, uint32_t mem_mib,
                    uint32_t accel_milli, uint32_t types);

/* core_value_of.c */
/* Free amounts of one node. */
struct core_fit_free {
    uint32_t cpu_milli, mem_mib;
    uint32_t whole, part_count;
    uint64_t parts_hash;
    uint16_t parts[MR_DEVICES_PER_NODE_MAX];
};
void core_fit_free_of(const struct mr_core *core, uint32_t node, struct core_fit_free *ret);
/* Sum over the futures, in 1 / CORE_FIT_WORTH milli-devices. Cached. */
uint32_t core_value_of(struct mr_core *core, uint32_t class_of, const struct core_fit_free *free);

/* core_score.c */
/* The best spot for `tasks` tasks on one node of one of the types. False: not known here (no
 * futures yet, too many states), or none. */
bool core_score_find(struct mr_core *core, const struct mr_shape *shape, uint32_t tasks,
                     uint32_t types, struct core_fit_spot *ret);

#endif
