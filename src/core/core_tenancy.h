/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/core and its tests: a tenant in the block, and the numbers of tenancy. */
#ifndef MR_CORE_TENANCY_H
#define MR_CORE_TENANCY_H

#include "core/core.h"

#define CORE_TENANT_DEPTH   8u
#define CORE_SHARE_LEVELS   4u    /* of the tree at which shares are compared */
#define CORE_PAST_PARTS     1024u /* past use is folded so often in a half-life */
#define CORE_PAST_SHIFT     20u
#define CORE_RESTART_US     (10ull * 1000000ull)  /* what starting again costs a preempted gang */
#define CORE_RECLAIM_US     (60ull * 1000000ull)  /* then a tenant's own share is asked back */
#define CORE_CLAIM_US       (600ull * 1000000ull) /* a claim waits so long for quota */
#define CORE_TENANTS_LOOKED 1024u                 /* in search of those that borrow */

/* What a tenant is measured by: vCPU, memory, accelerators in sum, each type of them. */
#define CORE_ACCEL      2u
#define CORE_AMOUNTS    (CORE_ACCEL + MR_ACCEL_TYPES_MAX) /* type t has CORE_ACCEL + t */
#define CORE_AMOUNT_MAX ((uint64_t)1 << 40)               /* more is no limit: sums stay exact */
struct core_amount {
    uint64_t nominal, limit; /* its own, and with what it may borrow; UINT64_MAX: none */
    uint64_t keep;           /* counts against its parent in any case */
    uint64_t held;           /* by it and below */
    uint64_t load;           /* held by it, with what tenants below hold or keep */
};
struct core_tenant {
    struct core_amount amounts[CORE_AMOUNTS];
    uint64_t past[3]; /* decayed mean of held at fold_us, in 2^-CORE_PAST_SHIFT */
    uint64_t mean[3]; /* since then, until mean_us */
    uint64_t half_life_us, fold_us, mean_us;
    uint64_t share, share_us; /* share is of that time and */
    uint32_t share_epoch;     /* of this state of the fleet; 0: out of date */
    uint32_t parent, child_first, child_prev, child_next;
    uint32_t weight, running_max;
    uint32_t running, pending; /* with everything below it */
    uint32_t blocked_first;    /* classes that wait for this tenant's quota */
    uint32_t also_first;       /* and those that wait for room, or for its quota of some type */
    uint32_t pad4;
    uint32_t victim_first;         /* its running work that may shrink or go */
    uint32_t claim_first;          /* gangs whose claim waits until its load is within its limit */
    uint64_t typed;                /* bit t: it has a quota of type t */
    uint8_t present, depth, lends; /* lends: some limit lies above its nominal quota */
    uint8_t reclaim, within, pad[3];
};

#endif
