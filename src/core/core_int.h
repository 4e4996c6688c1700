/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/core and its tests: the tables of the block and what its files call of each other.
 *
 * Every table is an array in the block; slot 0 of each means "none". A table hands out slots in
 * ascending order and reuses freed ones last in, first out, so equal events give equal slots.
 * Structs have no hidden padding: they are hashed and saved as bytes.
 */
#ifndef MR_CORE_INT_H
#define MR_CORE_INT_H

#include "core/core.h"
#include "core/core_tenancy.h"

/* --- times and bounds ---------------------------------------------------------------------- */

#define CORE_CUT_US           (3600ull * 1000000ull) /* a running lease is billed this often */
#define CORE_SETTLE_US        (30ull * 1000000ull)   /* a gang runs this long before it grows */
#define CORE_SCALE_DOWN_US    (30ull * 1000000ull)   /* load must be low this long */
#define CORE_BACKOFF_FIRST_US (1ull * 1000000ull)
#define CORE_BACKOFF_LAST_US  (60ull * 1000000ull)
#define CORE_RETRY_US         (1ull * 1000000ull)    /* no slot for a class or a lease: try again */
#define CORE_METER_KEEP_US    (3600ull * 1000000ull) /* an ended lease's tokens are taken */
#define CORE_DUE_PER_STEP     4096u /* timers of one step; the rest asks for a TICK at once */
#define CORE_VICTIMS          128u  /* candidates looked at to make room */
#define CORE_STOPPING_LOOKED  256u  /* leases that end anyway, counted as room */
#define CORE_PLACES_LOOKED    128u  /* from the tightest and again from the emptiest */
#define CORE_STATES_LOOKED    4096u /* free states walked to say why a gang waits */
#define CORE_RELEASED_KEPT    16u /* nodes with room given back that a step remembers one by one */
#define CORE_TIES_LOOKED      8u  /* equal nodes among which the tightest domain wins */
#define CORE_SUSPECT_FAILURES 3u
#define CORE_SUSPECT_HOURS    168u
#define CORE_SUSPECT_ONE_IN   50u         /* nodes, of which one may be kept out */
#define CORE_SPARE_GAPS       64u         /* lost leases whose ranks are given to others in place */
#define CORE_GRID_US          60000000ull /* deadline plans change on this grid only */
#define CORE_HOLDS            16u         /* jobs that wait and hold room */
#define CORE_HOLD_US          30000000ull /* holds are made anew so long after something changed */
#define CORE_HOLD_ENDS        512u        /* jobs that end, looked at to make one */
#define CORE_HOLD_LEASES      32768u      /* their leases */
#define CORE_HOLD_ROUNDS      3u          /* in a step, when those who come first take the room */
#define CORE_HOLD_TRIES       1024u       /* classes tried on what holds leave unused */
#define CORE_END_RING         8192u       /* buckets of expected ends */
#define CORE_COSTS            512u        /* arrivals among which a job's cost is ranked */
#define CORE_REPAIRS          64u         /* gangs repaired in one step; the others queue again */
#define CORE_METER_WINDOW     1024u       /* serials in flight: twice MR_WIRE_UNSETTLED_MAX */
#define CORE_APART_MEMBERS    64u         /* workloads in one group that is kept apart */
#define CORE_WALK             1024u       /* workloads counted one by one for BEHIND */
#define CORE_TREE_DEPTH       128u
_Static_assert(CORE_METER_WINDOW >= 2 * MR_WIRE_UNSETTLED_MAX, "a worker's ends fit the window");

#define CORE_WHOLE         1000 /* thousandths of a device */
#define CORE_WHOLE_GROUPS  (MR_DEVICES_PER_NODE_MAX + 1u)
#define CORE_PART_STEP     50u
#define CORE_PART_GROUPS   20u
#define CORE_PLACE_BUCKETS 256u
#define CORE_WAIT_BUCKETS  (MR_DEVICES_PER_NODE_MAX + 2u) /* cpu only, shared, 1 … 64 devices */
#define CORE_SUMS          (5u + MR_ACCEL_TYPES_MAX)      /* bill lines of one tenant */

/* --- tables -------------------------------------------------------------------------------- */

enum core_table_kind {
    CORE_NODES,
    CORE_PLACES,
    CORE_PLACE_TYPES, /* place * MR_ACCEL_TYPES_MAX + type */
    CORE_STATES,      /* distinct free amounts of nodes */
    CORE_TENANTS,
    CORE_SUM_LINES, /* tenant * CORE_SUMS + sku */
    CORE_WORKLOADS,
    CORE_LEASES,
    CORE_CLASSES,
    CORE_APARTS,     /* live workloads that are kept apart from others of their group */
    CORE_PLANNED,    /* jobs with deadline and curve */
    CORE_RESERVED,   /* reservations and maintenance: core_reserve.h */
    CORE_WINDOWS,    /* of these, one for each node */
    CORE_DELIVERIES, /* nodes to come: core_reserve.h */
    CORE_ENDS,       /* heads of the lists of running jobs by expected end */
    CORE_METERS,
    CORE_LINES,
    CORE_ID_BUCKETS,
    CORE_KEY_BUCKETS,
    CORE_LEASE_BUCKETS,
    CORE_METER_BUCKETS,
    CORE_CLASS_BUCKETS,
    CORE_APART_BUCKETS, /* workloads by the group that they are kept apart in */
    CORE_LINE_BUCKETS,
    CORE_TIMERS,      /* heap of workload slots */
    CORE_FIT_CLASSES, /* these: core_value.h */
    CORE_FIT_FUTURES, /* by class */
    CORE_FIT_SHAPES,
    CORE_FIT_BUCKETS,
    CORE_FIT_KINDS,
    CORE_STORED, /* the tables above are state; those below are scratch within a step */
    CORE_PLAN = CORE_STORED,
    CORE_CANDIDATES,
    CORE_FIT_INDEX, /* by shape */
    CORE_FIT_HEAPS, /* shape * limits.fit_states + entry */
    CORE_FIT_BIRTHS,
    CORE_FIT_VALUES,
    CORE_FIT_SUMS,
    CORE_FREE_STEPS, /* free devices over time, while planning */
    CORE_BARRED,     /* by node, then by place: the epoch in which it was */
    CORE_PLAN_ORDER, /* planned jobs in the order of a pass */
    CORE_TABLE_COUNT
};

struct core_table {
    uint64_t offset_bytes;
    uint32_t item_bytes;
    uint32_t capacity; /* slots, slot 0 included */
    uint32_t used;     /* slots below it have been handed out once */
    uint32_t free;     /* first freed slot */
    uint32_t live;
    uint32_t pad;
};

/* A node. Free amounts go below zero while a claim and the work it displaces both hold. */
struct core_node {
    int64_t cpu_free_milli, mem_free_mib;
    uint32_t cpu_milli, mem_mib;
    uint32_t place, place_prev, place_next;
    uint32_t free_state, state_prev, state_next; /* 0: not in the index */
    uint32_t lease_first, lease_count;
    uint32_t cpu_indexed, mem_indexed, accel_indexed; /* what the aggregates hold of it */
    uint16_t part; /* largest free part of a device that is in use */
    uint8_t state, accel_type, accel_count;
    uint8_t whole;             /* devices wholly free */
    uint8_t unsound;           /* more is held than it has: claims on it wait */
    uint8_t whole_indexed;     /* as its places count it */
    uint8_t failures, suspect; /* lately; drains because of them */
    uint16_t failed_hour;      /* of the last one, the low bits */
    uint32_t fit_class;        /* nodes that are alike when empty; 0: none, or it is not up */
    uint32_t window_first;     /* its calendar: by begin, those that are not over */
    uint32_t closed;           /* the reservation whose window it is in; 0: none */
    uint32_t idle;             /* stands in the list of nodes that are wholly free */
    uint32_t idle_prev, idle_next;
    uint32_t delivery, delivery_prev, delivery_next; /* with which it comes; 0: it is there */
    uint32_t pad5;
    uint64_t dated_us; /* its next window begins; 0: none is known */
    int16_t device_free[MR_DEVICES_PER_NODE_MAX];
};

#define CORE_ROOT_PLACE 1u /* the whole fleet: nothing is counted in it */
enum core_level { CORE_ROOT, CORE_CELL, CORE_BLOCK, CORE_DOMAIN, CORE_LEVEL_COUNT };

/* A cell, a block, an NVLink domain or the whole fleet. */
struct core_place {
    uint32_t parent, child_first, child_prev, child_next;
    uint32_t node_first, node_last;
    uint32_t nodes; /* in it and below */
    uint8_t level, pad[3];
};
#define CORE_WHOLE_LOGS 7u /* nodes with 1, 2-3, 4-7, … 64 devices wholly free */
struct core_place_type {   /* type 0 counts vCPUs of all nodes */
    uint64_t free_milli;
    uint32_t prev, next; /* places of the same level in the same bucket */
    uint32_t bucket;     /* 0: not listed */
    uint32_t by_whole[CORE_WHOLE_LOGS];
};

/* All nodes with exactly this much free: one entry in the trees however many nodes it stands for.
 */
struct core_free_state {
    uint32_t cpu_milli, mem_mib;
    uint32_t node_first, node_count;
    uint32_t left[2], right[2]; /* in the tree of its whole devices and of its part */
    uint32_t mem_max[2];        /* over the subtree */
    uint16_t part_max[2];
    uint16_t part;
    uint8_t accel_type, whole;
    uint64_t parts; /* hash of what is free on each device in use, in any order */
    uint64_t born;  /* counts the states of nodes with devices; 0: of others, and of nodes whose
                       window comes */
    uint32_t class_of;
    uint32_t until_s;        /* so long is it free: its next window begins; UINT32_MAX: none */
    uint32_t until_max_s[2]; /* over the subtree */
};

struct core_line {
    uint64_t quantity, from_us, to_us, rest; /* rest: fraction not charged yet, of a divisor */
    int64_t charge_nusd;
    uint32_t tenant, workload;      /* slot; 0 in a tenant's sums */
    uint32_t hash_next, owner_next; /* lines of the same workload */
    uint8_t sku, accel_type, pad[6];
};

enum core_phase {
    CORE_FREE,
    CORE_WAITING,  /* in its class's queue */
    CORE_HELD,     /* waits for its timer */
    CORE_CLAIMING, /* its room is claimed, others still leave it */
    CORE_ACTIVE,   /* a gang runs; a service lives */
    CORE_ENDING,   /* its leases were asked to stop; outcome says what follows */
    CORE_ENDED,
    CORE_PHASE_COUNT
};
enum core_outcome {
    CORE_OUTCOME_NONE,
    CORE_OUTCOME_REQUEUE, /* go on from the checkpoint */
    CORE_OUTCOME_RETRY,   /* after a failure of its own, with backoff */
    CORE_OUTCOME_CLAIM,   /* its next, smaller or larger run is claimed already */
    CORE_OUTCOME_END      /* end_state */
};

struct core_workload {
    uint64_t id, key_high, key_low;
    uint64_t submitted_us, started_us, ended_us, run_started_us;
    uint64_t begin_us, time_limit_us, estimate_us, deadline_us, grace_us, checkpoint_us;
    uint64_t ran_us;                         /* over earlier runs */
    uint64_t saved_us;                       /* when its newest checkpoint became durable */
    uint64_t timer_us;                       /* key in the timer heap */
    uint64_t backoff_us;                     /* held until */
    uint64_t low_since_us, grow_us, lost_us; /* lost_us: when a lease was lost last */
    uint64_t hold_us;                        /* when it starts on the room it holds; 0: none */
    uint64_t order;                          /* arrival, kept over requeues */
    uint64_t waits_us;                       /* since when it waits in its class */
    uint64_t claim_until_us;                 /* then a claim that waits for quota is given up */
    struct mr_shape shape;
    uint32_t tenant, tasks_min, tasks_max, tasks, ready, target, load_per_replica, low_peak;
    uint32_t run, restarts, restarts_max, failures, checkpoint_step;
    uint32_t class_of, queue_prev, queue_next; /* class; the ended queue when ended */
    uint32_t ticket;
    uint32_t id_prev, id_next, id_hash_next, key_hash_next;
    uint32_t lease_first, lease_last, lease_count; /* claimed ones too */
    uint32_t claimed, claim_wait;        /* its claims; those on nodes that others still leave */
    uint32_t timer_at, line_first, told; /* told: service's size as last emitted */
    uint32_t victim_prev, victim_next, victim_list; /* victim_list: 1 + priority * types + type */
    uint32_t own_prev, own_next;                    /* victims of its tenant */
    uint32_t over_prev, over_next, over; /* over: the tenant above whose limit its claim lies */
    int32_t exit_code;
    uint8_t kind, state, phase, outcome, end_state, priority, topology, preemptible;
    uint8_t exit, counted_running, counted_pending, accel_type;
    uint8_t clean;     /* no lease of this run has ended otherwise than with code 0 */
    uint8_t repair;    /* stops because a part of it was lost: keeps the rest of its nodes */
    uint8_t over_type; /* of accelerators, of the claim that waits for quota */
    uint8_t spread;    /* enum mr_spread */
    uint32_t gone;     /* tasks of this run whose leases have ended */
    uint32_t planned;  /* its place among the planned jobs; 0: it is none */
    uint32_t end_bucket, end_prev, end_next; /* 1 + list of expected ends; 0: none */
    uint32_t spares;
    uint32_t reserved;                 /* the reservation that it is, or whose nodes it runs on */
    uint32_t member_prev, member_next; /* of the others who name the same */
    uint32_t segment;                  /* tasks in one NVLink domain together; 0: any */
    uint32_t spread_max;
    uint16_t apart;    /* its place among those that are kept apart; 0: it is not */
    uint8_t moves;     /* so often it was asked to go on elsewhere */
    uint8_t exclusive; /* enum mr_exclusive */
};

static inline bool core_is_service(const struct core_workload *w)
{
    return w->kind == MR_KIND_SERVICE || w->kind == MR_KIND_POOL;
}

struct core_lease {
    uint64_t id, devices, started_us, billed_us;
    uint64_t rest[3]; /* of cpu, memory and accelerators: fractions not charged yet */
    uint32_t workload, node, run, tasks, rank_first, world_size, node_rank, node_count;
    uint32_t hash_next, of_prev, of_next, node_prev, node_next, cut_prev, cut_next;
    uint32_t stop_prev, stop_next;
    uint32_t meter;
    uint8_t state; /* enum mr_lease_state, or CORE_LEASE_CLAIM */
    uint8_t ready, accel_type, stop_checkpoint, stop_kill, in_cut, in_stop, pad;
};
#define CORE_LEASE_CLAIM MR_LEASE_COUNT

/* A live workload in a group of its tenant whose members share no place. */
struct core_apart {
    uint64_t group;
    uint32_t workload, prev, next; /* of those whose groups hash alike */
    uint8_t by, pad[3];            /* enum mr_spread */
};

/* Workloads that are alike in everything that decides whether they can start. */
struct core_class {
    struct mr_shape shape;
    uint32_t tenant, tasks_min, tasks_max;
    uint8_t priority, kind, topology, preemptible;
    uint8_t length; /* of its time limit or estimate, in powers of two; 0: unknown */
    uint8_t spread, exclusive, apart_by;
    uint32_t apart[2]; /* its halves */
    uint32_t reserved; /* the reservation that all name; 0: none */
    uint32_t segment, spread_max;
    uint32_t head, tail, count, ticket_first, ticket_last;
    uint32_t hash_next;
    uint32_t wait_prev, wait_next, wait_list; /* 1 + bucket, or CORE_WAIT_QUOTA */
    uint32_t wait_tenant;
    uint32_t candidate;    /* stands in the step's candidates */
    uint32_t shortage;     /* a gang of any topology: tasks for which room is missing, */
    uint32_t credit;       /* and an upper bound of the room that came since */
    uint32_t victim_epoch; /* when its head was tried last */
    uint32_t also_prev, also_next, also_tenant; /* whose quota of another type might help too */
};
#define CORE_WAIT_QUOTA 0xffffffffu

/* A job that is planned against its deadline. Pieces: from start_us on with the size at that index,
 * CORE_SIZE_NONE: not running. There are two plans: the one that holds, and the next. */
#define CORE_PIECES    12u
#define CORE_SIZE_NONE 255u
struct core_pieces {
    uint64_t start_us[CORE_PIECES];
    uint64_t finish_us; /* 0: there is no plan */
    uint8_t size[CORE_PIECES];
    uint32_t count;
};
struct core_planned {
    uint64_t left_micro; /* millionths of units of work, as of left_us */
    uint64_t left_us;
    uint64_t warm_us;                         /* nothing is done before */
    uint64_t cost;                            /* device-microseconds to meet the deadline alone */
    uint64_t rank_cost;                       /* the same when it came: what it is ranked by */
    uint64_t work;                            /* as submitted */
    uint64_t rate_micro[MR_CURVE_POINTS_MAX]; /* with the error taken off */
    uint64_t resize_us[MR_CURVE_POINTS_MAX];
    uint32_t tasks[MR_CURVE_POINTS_MAX];
    struct core_pieces plan, next;
    uint32_t workload, prev_job, next_job;
    uint32_t tasks_min, tasks_max;      /* as submitted */
    uint8_t sizes, size, type, promise; /* size: of the present run */
    uint8_t late_ends, promised, cautious, pad[5];
};
struct core_free_step { /* free from here to the next step */
    uint64_t time_us;
    uint32_t free, pad;
};

struct core_meter {
    uint64_t lease, workload, ended_us, below; /* serials up to `below` are settled */
    uint64_t seen[CORE_METER_WINDOW / 64];     /* bit i: serial below + 1 + i */
    uint32_t tenant, hash_next, ended_prev, ended_next;
};

struct core_plan { /* taken from the fleet already */
    uint64_t devices;
    uint32_t node, tasks;
};
struct core_candidate {
    uint64_t share[CORE_SHARE_LEVELS]; /* of the tenants from the root down */
    uint64_t order;
    uint32_t class_of;
    uint16_t priority, borrows;
};

struct core_repair {           /* noted within a step */
    uint32_t workload, domain; /* where it lost a node first; 0: nowhere in particular */
};

/* What became free in this step, per accelerator type: decides which classes are tried. */
struct core_released {
    uint32_t cpu_milli, mem_mib;
    uint16_t part;
    uint8_t whole, pad;
};

struct mr_core {
    uint64_t magic, bytes;
    uint32_t format, item_check;
    struct mr_core_limits limits;
    uint64_t now_us, steps;
    uint64_t workload_next, lease_next, entry_next, order_next;
    uint32_t victim_epoch; /* counts those that could make room for others */
    uint32_t suspects;     /* nodes that drain because they failed too often */
    struct core_table tables[CORE_TABLE_COUNT];
    /* fleet */
    uint32_t whole_root[MR_ACCEL_TYPES_MAX][CORE_WHOLE_GROUPS];
    uint32_t whole_nodes[MR_ACCEL_TYPES_MAX][CORE_WHOLE_GROUPS]; /* with so many devices free */
    uint64_t whole_mask[MR_ACCEL_TYPES_MAX][2];
    uint32_t part_root[MR_ACCEL_TYPES_MAX][CORE_PART_GROUPS];
    uint64_t part_mask[MR_ACCEL_TYPES_MAX];
    uint32_t place_bucket[CORE_LEVEL_COUNT][MR_ACCEL_TYPES_MAX][CORE_PLACE_BUCKETS];
    uint64_t place_mask[CORE_LEVEL_COUNT][MR_ACCEL_TYPES_MAX][CORE_PLACE_BUCKETS / 64];
    uint64_t cpu_milli, mem_mib, accel_milli;                /* of nodes that are up */
    uint64_t cpu_free_milli, mem_free_mib, accel_free_milli; /* never below zero per node */
    uint64_t type_milli[MR_ACCEL_TYPES_MAX], type_free_milli[MR_ACCEL_TYPES_MAX];
    uint32_t type_nodes_up[MR_ACCEL_TYPES_MAX];
    uint32_t idle_first[MR_ACCEL_TYPES_MAX]; /* nodes in the index that are wholly free */
    uint32_t idle_nodes[MR_ACCEL_TYPES_MAX];
    uint32_t nodes_by_state[MR_NODE_STATE_COUNT];
    uint32_t largest[MR_ACCEL_TYPES_MAX][MR_RESOURCE_COUNT]; /* of nodes present, any state */
    uint32_t largest_count[MR_ACCEL_TYPES_MAX][MR_RESOURCE_COUNT];
    /* placement by value: core_value.h */
    uint64_t fit_born, fit_arrivals, fit_built_milli;
    uint32_t fit_epoch, fit_stale; /* epoch: of the futures; 0: none yet */
    uint32_t fit_hand;
    uint32_t types_present; /* bits: some node has such accelerators, or none (0), in any state */
    /* queue */
    uint32_t wait_first[CORE_WAIT_BUCKETS];
    uint32_t victim_first[MR_PRIORITY_COUNT * MR_ACCEL_TYPES_MAX];
    uint32_t victim_count[MR_PRIORITY_COUNT];
    uint32_t ended_first, ended_last, id_first, id_last;
    uint32_t timers;
    uint32_t cut_first, cut_last;   /* running leases by their next hourly entry */
    uint32_t stop_first, stop_last; /* leases that end and are promised to nobody */
    uint32_t meter_first, meter_last;
    uint32_t leases_short; /* a plan failed for want of lease slots */
    uint32_t pad;
    uint32_t pending, running;
    uint32_t share_epoch; /* counts changes of the fleet's size */
    /* deadlines */
    uint64_t plan_due_us, planned_us; /* when to plan next; when it was done last */
    uint64_t costs[CORE_COSTS];       /* of the newest arrivals, as a ring */
    uint32_t cost_count, planned_first;
    /* backfill */
    uint64_t hold_due_us; /* when holds are made anew */
    uint64_t end_bits[CORE_END_RING / 64];
    uint32_t delivery_first, delivery_last; /* by their dates */
    uint32_t holds[CORE_HOLDS];             /* in the order of the queue */
    uint32_t hold_count;
    uint32_t moved_mask; /* what was released, but counts only when holds are made anew */
    struct core_released moved[MR_ACCEL_TYPES_MAX];
    /* money */
    uint64_t charged_nusd; /* over all entries */
    uint64_t saturated;    /* a sum reached its type's end: absurd prices or times */
    int64_t price[MR_SKU_COUNT - 1 + MR_ACCEL_TYPES_MAX];
    /* scratch, not state: from here on neither hashed nor saved */
    uint32_t plan_count, candidate_count;
    uint32_t repair_count;
    /* For whom nodes are looked at: none whose window comes before view_end_us; those in a window
     * of this reservation alone, 0: those in none. core_view_of sets it. */
    uint32_t view_reserved, view_end_s; /* in seconds, rounded up */
    uint64_t view_end_us;
    uint32_t view_picky;   /* for whom not every node with room will do; 0: nobody */
    uint32_t plan_whole;   /* the plan takes whole nodes */
    uint32_t barred_epoch; /* of what is barred to who is picky */
    uint32_t view_waived;  /* enum core_waived: of its rules */
    struct core_repair repairs[CORE_REPAIRS];
    uint32_t quiet;          /* what is given back is no news */
    uint32_t plan_also;      /* whose quota of some type kept the last plan from more */
    uint32_t retry_all;      /* every class that waits is tried */
    uint32_t plan_short;     /* tasks that the last plan which failed was short of, at least */
    uint32_t released_count; /* above CORE_RELEASED_KEPT: more than are remembered */
    uint32_t released_node[CORE_RELEASED_KEPT];
    uint32_t released_mask; /* types with something in released[] */
    struct core_released released[MR_ACCEL_TYPES_MAX];
    const struct mr_effect_sink *sink;
    const struct mr_trace *trace;
};

/* --- access -------------------------------------------------------------------------------- */

static inline void *core_item(const struct mr_core *core, enum core_table_kind kind, uint32_t i)
{
    const struct core_table *table = &core->tables[kind];
    MR_ASSERT(i < table->capacity);
    return (uint8_t *)(uintptr_t)core + table->offset_bytes + (size_t)i * table->item_bytes;
}
#define CORE_ACCESS(name, type, kind)                                                              \
    static inline struct type *core_##name(const struct mr_core *core, uint32_t i)                 \
    {                                                                                              \
        return (struct type *)core_item(core, kind, i);                                            \
    }
CORE_ACCESS(node, core_node, CORE_NODES)
CORE_ACCESS(place, core_place, CORE_PLACES)
CORE_ACCESS(free_state, core_free_state, CORE_STATES)
CORE_ACCESS(tenant, core_tenant, CORE_TENANTS)
CORE_ACCESS(workload, core_workload, CORE_WORKLOADS)
CORE_ACCESS(lease, core_lease, CORE_LEASES)
CORE_ACCESS(class, core_class, CORE_CLASSES)
CORE_ACCESS(apart, core_apart, CORE_APARTS)
CORE_ACCESS(meter, core_meter, CORE_METERS)
CORE_ACCESS(planned, core_planned, CORE_PLANNED)
CORE_ACCESS(free_step, core_free_step, CORE_FREE_STEPS)
CORE_ACCESS(line, core_line, CORE_LINES)
CORE_ACCESS(plan, core_plan, CORE_PLAN)
CORE_ACCESS(candidate, core_candidate, CORE_CANDIDATES)
#undef CORE_ACCESS
static inline struct core_place_type *core_place_type(const struct mr_core *core, uint32_t place,
                                                      uint32_t type)
{
    return (struct core_place_type *)core_item(core, CORE_PLACE_TYPES,
                                               place * MR_ACCEL_TYPES_MAX + type);
}
static inline struct core_line *core_sum_line(const struct mr_core *core, uint32_t tenant,
                                              uint32_t sum)
{
    return (struct core_line *)core_item(core, CORE_SUM_LINES, tenant * CORE_SUMS + sum);
}
static inline uint32_t *core_bucket(const struct mr_core *core, enum core_table_kind kind,
                                    uint64_t hash)
{
    return (uint32_t *)core_item(core, kind, (uint32_t)(hash & (core->tables[kind].capacity - 1)));
}
static inline uint32_t *core_end_head(const struct mr_core *core, uint32_t bucket)
{
    return (uint32_t *)core_item(core, CORE_ENDS, bucket);
}
static inline uint32_t *core_timer(const struct mr_core *core, uint32_t i)
{
    return (uint32_t *)core_item(core, CORE_TIMERS, i);
}

/* core_block.c */
uint32_t core_slot_take(struct mr_core *core, enum core_table_kind kind); /* zeroed; 0: full */
void core_slot_give(struct mr_core *core, enum core_table_kind kind, uint32_t i);
bool core_slot_left(const struct mr_core *core, enum core_table_kind kind, uint32_t count);
uint32_t core_item_check(void); /* a number that changes when a stored struct does */
bool core_layout(const struct mr_core_limits *limits, struct core_table *tables, size_t *ret_bytes);
/* The state of the header that is hashed and saved: bytes before the scratch. */
static inline size_t core_header_bytes(void)
{
    return offsetof(struct mr_core, plan_count);
}

/* core_tree.c: the two trees over free states */
void core_tree_insert(struct mr_core *core, uint32_t *root, uint32_t which, uint32_t state);
void core_tree_remove(struct mr_core *core, uint32_t *root, uint32_t which, uint32_t state);
uint32_t core_tree_find(const struct mr_core *core, uint32_t root, uint32_t which,
                        const struct core_free_state *key); /* equal key, 0: none */
/* The entry with the least cpu (then memory) that has at least so much; part: tree 1 only. */
uint32_t core_tree_best(const struct mr_core *core, uint32_t root, uint32_t which, uint64_t cpu,
                        uint64_t mem, uint32_t part);
struct core_tree_walk {
    uint32_t stack[CORE_TREE_DEPTH];
    uint32_t depth, which;
};
/* Over the entries with at least so much cpu, ascending. */
void core_tree_walk_from(const struct mr_core *core, struct core_tree_walk *walk, uint32_t root,
                         uint32_t which, uint64_t cpu);
void core_tree_walk_start(const struct mr_core *core, struct core_tree_walk *walk, uint32_t root,
                          uint32_t which);
uint32_t core_tree_walk_next(const struct mr_core *core, struct core_tree_walk *walk);

/* core_step.c */
void core_node_state(struct mr_core *core, uint32_t node, enum mr_node_state state);
/* Times to come are whole seconds, as the index has them; those past are now, and 0 stays. */
static inline uint64_t core_whole_second(const struct mr_core *core, uint64_t time_us)
{
    uint64_t over_us = time_us % 1000000;
    if (time_us <= core->now_us) return time_us == 0 ? 0 : core->now_us;
    return over_us == 0 || time_us > UINT64_MAX - 1000000 ? time_us : time_us + 1000000 - over_us;
}

/* core_fleet.c */
void core_fleet_init(struct mr_core *core);
uint32_t core_place_slot(const struct mr_core *core, enum core_level level, uint32_t number);
uint32_t core_place_number(const struct mr_core *core, uint32_t place);
uint32_t core_place_above(const struct mr_core *core, uint32_t place, enum core_level level);
/* *ret_moved: the largest place that lies elsewhere now, with the nodes in it; 0: none. */
bool core_node_set(struct mr_core *core, const struct mr_event_node *event, uint32_t *ret_moved);
void core_node_state_set(struct mr_core *core, uint32_t node, enum mr_node_state state);
void core_node_remove(struct mr_core *core, uint32_t node); /* absent now, holds nothing */
/* An expected node is looked at as if it were there; and is expected again. */
void core_node_foresee(struct mr_core *core, uint32_t node, bool there);
/* Its calendar changed; `freer`: waiting work may fit there now. */
void core_node_dated(struct mr_core *core, uint32_t node, uint32_t closed, uint64_t dated_us,
                     bool freer);
/* The same in whole seconds, as the index has it: UINT32_MAX: none. */
static inline uint32_t core_until_s(const struct core_node *n)
{
    uint64_t at_s = n->dated_us / 1000000;
    return n->dated_us == 0 ? UINT32_MAX : (uint32_t)MR_MIN(at_s, (uint64_t)UINT32_MAX - 1);
}
/* core_alone.c: whether the node will do for who is picky, as far as others on it go. */
bool core_picky_open(const struct mr_core *core, uint32_t node);
/* Whether it may be used by whom the nodes are looked at for, whatever is free on it. */
static inline bool core_node_open(const struct mr_core *core, uint32_t node)
{
    const struct core_node *n = core_node(core, node);
    if (n->state != MR_NODE_UP) return false;
    if (core->view_picky != 0 && !core_picky_open(core, node)) return false;
    if (core->view_reserved != 0) return n->closed == core->view_reserved;
    return n->closed == 0 && (n->dated_us == 0 || n->dated_us >= core->view_end_us);
}
/* Takes or gives back `tasks` tasks of the shape on those devices; may go below zero. */
void core_node_take(struct mr_core *core, uint32_t node, const struct mr_shape *shape,
                    uint32_t tasks, uint64_t devices);
void core_node_give(struct mr_core *core, uint32_t node, const struct mr_shape *shape,
                    uint32_t tasks, uint64_t devices);
/* Nothing is held on it. */
static inline bool core_node_idle(const struct core_node *n)
{
    return n->cpu_free_milli == n->cpu_milli && n->mem_free_mib == n->mem_mib &&
           n->whole == n->accel_count;
}
/* The same for all that the node has. */
void core_node_whole(struct mr_core *core, uint32_t node, bool take);
/* What a look ahead must put back: what was only lent is no release. */
struct core_released_kept {
    struct core_released released[MR_ACCEL_TYPES_MAX];
    uint32_t count, retry_all, mask;
};
void core_released_keep(const struct mr_core *core, struct core_released_kept *kept);
void core_released_back(struct mr_core *core, const struct core_released_kept *kept);
/* What was released since `kept` counts later: when it is merged. */
void core_released_move(struct mr_core *core, const struct core_released_kept *kept);
void core_released_merge(struct mr_core *core);
/* What is held on the node is not more than it has. */
bool core_node_sound(const struct core_node *node);
uint32_t core_place_bucket_of(uint64_t free_milli);

/* core_value.c: what placement by value learns */
uint32_t core_fit_class_join(struct mr_core *core, const struct core_node *n); /* 0: none */
void core_fit_class_leave(struct mr_core *core, uint32_t class_of);
void core_fit_born(struct mr_core *core, uint32_t state);
void core_fit_learn(struct mr_core *core, const struct mr_shape *shape);

/* core_fit.c: looks only */
struct core_request {
    const struct mr_shape *shape;
    enum mr_topology topology;
    uint32_t tasks_min, tasks_max;
    uint32_t segment;   /* 0: none; else sizes up to world_max are multiples of it */
    uint32_t world_max; /* tasks_max without spares; with segments only */
    enum mr_spread spread;
    uint32_t spread_max;
    uint32_t workload; /* whose leases count where it is spread */
};
/* Room for so many tasks of the workload, by its rules; its shape is not copied. A service's
 * replicas are placed one by one: it has no topology. */
static inline struct core_request core_request_make(const struct mr_core *core, uint32_t workload,
                                                    uint32_t tasks_min, uint32_t tasks_max)
{
    const struct core_workload *w = core_workload(core, workload);
    return (struct core_request){.shape = &w->shape,
                                 .topology = core_is_service(w) ? MR_TOPOLOGY_ANY
                                                                : (enum mr_topology)w->topology,
                                 .tasks_min = tasks_min,
                                 .tasks_max = tasks_max,
                                 .segment = w->segment,
                                 .world_max = tasks_max,
                                 .spread = (enum mr_spread)w->spread,
                                 .spread_max = w->spread_max,
                                 .workload = workload};
}
bool core_shape_accepts(const struct mr_shape *shape, uint32_t type);
/* What one task needs of it: thousandths of a vCPU or a device, MiB. */
uint64_t core_shape_needs(const struct mr_shape *shape, enum mr_resource resource);
/* Fills types[] in order of preference; for work without accelerators just type 0. */
uint32_t core_shape_types(const struct mr_core *core, const struct mr_shape *shape,
                          uint8_t types[MR_ACCEL_TYPES_MAX]);
/* Tasks of the shape that fit on the node now, at most `most`. */
uint32_t core_node_fit(const struct mr_core *core, uint32_t node, uint32_t type,
                       const struct mr_shape *shape, uint32_t most);
/* The same whoever may use it. */
uint32_t core_node_room(const struct mr_core *core, uint32_t node, uint32_t type,
                        const struct mr_shape *shape, uint32_t most);
/* The best node for so many tasks at once; 0: none. */
uint32_t core_node_find(const struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                        uint32_t tasks);
/* The node of the state in the domain that has least left. */
uint32_t core_state_node(const struct mr_core *core, uint32_t state);
/* The best node without accelerators; 0: none. */
uint32_t core_node_find_bare(const struct mr_core *core, uint64_t cpu, uint64_t mem);
/* The next place below `top` in a walk that enters children first; 0 at the end. */
uint32_t core_place_next(const struct mr_core *core, uint32_t top, uint32_t at, bool enter);
/* An upper bound of the tasks that fit in the place. */
uint64_t core_place_bound(const struct mr_core *core, uint32_t place, uint32_t type,
                          const struct mr_shape *shape);
uint32_t core_place_fit(const struct mr_core *core, uint32_t place, uint32_t type,
                        const struct mr_shape *shape, uint32_t most);
/* The best place of the level for so many tasks; 0: none among those looked at. */
uint32_t core_place_find(const struct mr_core *core, enum core_level level, uint32_t type,
                         const struct mr_shape *shape, uint32_t tasks);
bool core_fleet_holds(const struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                      uint32_t tasks);
extern const enum core_level core_topology_widen[3];
uint32_t core_topology_levels(enum mr_topology topology);
bool core_topology_unbounded(enum mr_topology topology);
/* An upper bound of the tasks that the fleet has room for. */
uint64_t core_fleet_bound(const struct mr_core *core, uint32_t type, const struct mr_shape *shape);
/* No node of the fleet is large enough, or none is up; with the reason. */
bool core_place_never(const struct mr_core *core, const struct core_request *request,
                      struct mr_reason *ret);
/* Why the request does not fit now, with numbers; NONE when it does. */
void core_place_reason(const struct mr_core *core, const struct core_request *request,
                       struct mr_reason *ret);

/* core_alone.c: work that has nodes of its own */
/* From now on nodes are looked at for this workload, which is picky; or as if it were less so. */
void core_picky_view(struct mr_core *core, uint32_t workload);
enum core_waived { CORE_WAIVED_EXCLUSIVE = 1, CORE_WAIVED_APART = 2 };
void core_picky_waive(struct mr_core *core, uint32_t workload, enum core_waived waived);
/* As core_node_find, among those that will do. */
uint32_t core_picky_find(const struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                         uint32_t tasks);
/* What a lease is charged for, in quotas and on the bill: `tasks` times the shape, on the type. */
struct core_charge {
    const struct mr_shape *shape;
    uint32_t tasks;
    uint8_t type;
    struct mr_shape whole; /* of an exclusive one */
};
void core_charge_whole(const struct mr_core *core, uint32_t node, struct core_charge *ret);
static inline void core_charge_of(const struct mr_core *core, const struct core_lease *lease,
                                  struct core_charge *ret)
{
    const struct core_workload *w = core_workload(core, lease->workload);
    ret->shape = &w->shape;
    ret->tasks = lease->tasks;
    ret->type = lease->accel_type;
    if (w->exclusive != MR_EXCLUSIVE_NONE) core_charge_whole(core, lease->node, ret);
}
/* Before and after the node changes: what has it for its own has all of it before and after. False:
 * it does not change. */
bool core_alone_node_changes(struct mr_core *core, const struct mr_event_node *event);
void core_alone_node_changed(struct mr_core *core, uint32_t node);
/* Why an exclusive workload that the fleet has room for does not start; NONE: it does. */
void core_alone_why(struct mr_core *core, uint32_t workload, const struct core_request *request,
                    struct mr_reason *ret);

/* core_apart.c: work of a group that shares no place */
/* No place for one more, in its group or at all. */
bool core_apart_full(const struct mr_core *core, const struct mr_event_submit *event);
void core_apart_join(struct mr_core *core, uint32_t workload, const struct mr_event_submit *event);
void core_apart_leave(struct mr_core *core, uint32_t workload);
/* Bars where others of its group are, from now on; false: they are nowhere. */
bool core_apart_bar(struct mr_core *core, uint32_t workload);
bool core_apart_barred(const struct mr_core *core, uint32_t node);
uint32_t core_apart_find(const struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                         uint32_t tasks);
/* A lease of it has ended: others of its group may fit where they did not. */
void core_apart_freed(struct mr_core *core, uint32_t workload);
/* A lease or claim of it that goes on where another of its group does, since nodes moved; 0: none.
 */
uint32_t core_apart_torn(struct mr_core *core, uint32_t workload);
/* As core_alone_why, of work that has room where it may not lie. */
void core_apart_why(struct mr_core *core, uint32_t workload, const struct core_request *request,
                    struct mr_reason *ret);

/* core_place.c */
/* Plans as many tasks as fit, at least tasks_min, and takes them from the fleet: entries in the
 * plan table, their number of tasks; 0: not possible, nothing changed. */
uint32_t core_plan_make(struct mr_core *core, const struct core_request *request,
                        uint8_t *ret_type);
/* A plan put together in pieces, each taken from the fleet at once. False: this piece does not fit,
 * and the pieces before it stay. keep: exactly there; within: in the place, O(its nodes). */
bool core_plan_add(struct mr_core *core, uint32_t node, const struct mr_shape *shape,
                   uint32_t tasks); /* so many on that node, where they fit */
bool core_plan_keep(struct mr_core *core, const struct core_plan *entry,
                    const struct mr_shape *shape);
bool core_plan_within(struct mr_core *core, uint32_t place, uint32_t type,
                      const struct mr_shape *shape, uint32_t tasks);
bool core_plan_anywhere(struct mr_core *core, uint32_t type, const struct mr_shape *shape,
                        uint32_t tasks);
void core_plan_drop(struct mr_core *core, const struct mr_shape *shape); /* all pieces */
/* All but the first `keep`. */
void core_plan_cut(struct mr_core *core, const struct mr_shape *shape, uint32_t keep);

/* core_segment.c: gangs in segments, each within one NVLink domain */
/* As core_plan_make. Spares lie in the domains of the segments, behind them in the plan. */
uint32_t core_segment_plan(struct mr_core *core, const struct core_request *request,
                           uint8_t *ret_type);
/* Each segment of the plan's first `world` tasks lies in one domain. */
bool core_segments_sound(const struct mr_core *core, uint32_t segment, uint32_t world);
/* Adds up to so many segments to the plan, on that node; returns how many fit there. */
uint32_t core_segments_on(struct mr_core *core, uint32_t node, uint32_t type,
                          const struct core_request *request, uint32_t most);
/* Whether as many as the request needs fit now; true when there are too many domains to look at. */
bool core_segments_hold(const struct mr_core *core, uint32_t type,
                        const struct core_request *request);
/* The domain that the node is in, or 0 - 1 - node: a domain of its own. */
uint32_t core_domain_of(const struct mr_core *core, uint32_t node);

/* core_near.c: what was placed together stays together */
/* The leases that the gang runs on, or its claims, lie as its topology and segments ask. */
bool core_near_holds(const struct mr_core *core, uint32_t workload, bool claims);
/* The plan of so many tasks does, in the order of ranks. */
bool core_near_plan_holds(const struct mr_core *core, uint32_t workload, uint32_t tasks);
/* The node, or all in the place, lie elsewhere now: what that tears apart goes. */
void core_near_node_moved(struct mr_core *core, uint32_t node);
void core_near_place_moved(struct mr_core *core, uint32_t place);

/* core_spread.c: over failure domains */
/* As core_plan_make, one task after the other to where the fewest of its own are. */
uint32_t core_spread_plan(struct mr_core *core, const struct core_request *request,
                          uint8_t *ret_type);
/* Whether the least of it fits now as it is spread; true when there are too many places to look at.
 */
bool core_spread_holds(const struct mr_core *core, uint32_t type,
                       const struct core_request *request);

/* core_reason.c */
void core_reason_time_put(struct mr_buf *buf, const struct mr_reason *reason);

/* core_queue.c */
bool core_class_join(struct mr_core *core, uint32_t workload); /* false: no slot for its class */
void core_class_leave(struct mr_core *core, uint32_t workload);
void core_candidate_add(struct mr_core *core, uint32_t class_of);
/* The order of the queue: what a class is tried by, and whether one is tried before the other. */
void core_candidate_fill(struct mr_core *core, uint32_t class_of, struct core_candidate *ret);
bool core_candidate_sooner(const struct core_candidate *a, const struct core_candidate *b);
void core_queue_run(struct mr_core *core);
uint32_t core_class_find(const struct mr_core *core, uint32_t workload);
void core_class_tenant_freed(struct mr_core *core, uint32_t tenant);
uint64_t core_class_ahead(const struct mr_core *core, uint32_t workload);

/* core_lease.c */
uint32_t core_lease_find(const struct mr_core *core, uint64_t id);
/* Makes leases out of the plan: claimed ones, or started at once. */
void core_leases_from_plan(struct mr_core *core, uint32_t workload, uint32_t tasks, uint8_t type,
                           bool claim);
void core_lease_start(struct mr_core *core, uint32_t lease);
void core_lease_stop(struct mr_core *core, uint32_t lease, bool kill, bool checkpoint);
/* Bills it, gives back what it holds and unlinks it; tells a claimant. The workload's own
 * bookkeeping is the caller's. */
void core_lease_end(struct mr_core *core, uint32_t lease);
void core_claims_drop(struct mr_core *core, uint32_t workload);
/* The leases that end anyway, the first ones; their number. */
uint32_t core_leases_stopping(const struct mr_core *core, uint32_t ret[CORE_STOPPING_LOOKED]);
/* Gives back for a moment what a lease holds, its tenant's quota too or not, or takes it again; all
 * leases of a gang but claims: true when none of their nodes holds more than it has. */
void core_lease_lend(struct mr_core *core, uint32_t lease, bool take, bool quota);
bool core_leases_lend(struct mr_core *core, uint32_t workload, bool take, bool quota);
/* The node of claims became free of others, or is not any more. */
void core_node_sound_changed(struct mr_core *core, uint32_t node);
void core_lease_started(struct mr_core *core, const struct mr_event_lease *event);
void core_lease_ready(struct mr_core *core, const struct mr_event_lease *event);
void core_lease_progress(struct mr_core *core, const struct mr_event_lease *event);
void core_lease_exited(struct mr_core *core, const struct mr_event_lease *event);
void core_node_lost(struct mr_core *core, uint32_t node); /* ends every lease on it */
void core_node_claims_lost(struct mr_core *core, uint32_t node);
void core_start_put(const struct mr_core *core, uint32_t lease, struct mr_effect_start *ret);

/* core_workload.c */
uint32_t core_workload_find(const struct mr_core *core, uint64_t id);
uint32_t core_workload_by_key(const struct mr_core *core, uint64_t high, uint64_t low);
/* It gets its id and is found from now on. */
void core_workload_enter(struct mr_core *core, uint32_t workload);
/* Answers ACCEPTED, or REJECTED when error is not 0; `reason` may be NULL: why it waits. */
void core_answer_put(struct mr_core *core, const struct mr_effect_answer *answer,
                     uint32_t workload);
bool core_shape_valid(const struct mr_shape *shape);
void core_submit(struct mr_core *core, const struct mr_event_submit *event);
void core_cancel(struct mr_core *core, uint64_t id);
void core_scale(struct mr_core *core, const struct mr_event_scale *event);
void core_state_set(struct mr_core *core, uint32_t workload, enum mr_state state);
void core_workload_wait(struct mr_core *core, uint32_t workload); /* joins its class or is held */
void core_queue_leave(struct mr_core *core, uint32_t workload);   /* with the room that it holds */
void core_workload_end(struct mr_core *core, uint32_t workload, enum mr_state state);
bool core_workload_room(struct mr_core *core); /* forgets the oldest ended one when full */

/* core_gang.c */
bool core_gang_try(struct mr_core *core, uint32_t workload, struct mr_reason *ret_reason,
                   uint32_t *ret_tenant);
void core_gang_started(struct mr_core *core, uint32_t workload, uint32_t tasks, uint8_t type);
void core_gang_stop(struct mr_core *core, uint32_t workload, enum core_outcome outcome,
                    enum mr_state end_state, bool checkpoint);
void core_gang_lease_ended(struct mr_core *core, uint32_t workload, uint32_t node,
                           enum mr_exit_kind exit, int32_t code);
void core_gang_claim_ready(struct mr_core *core, uint32_t workload);
void core_claim_wait(struct mr_core *core, uint32_t workload);
void core_gang_due(struct mr_core *core, uint32_t workload);
void core_gang_timer(struct mr_core *core, uint32_t workload);

void core_gang_scaled(struct mr_core *core, uint32_t workload);
void core_claim_lost(struct mr_core *core, uint32_t workload); /* its claimed room is gone */

/* How long it runs at most, or as estimated, over all runs; 0: unknown. */
static inline uint64_t core_length_us(const struct core_workload *w)
{
    return w->time_limit_us != 0 ? w->time_limit_us : w->estimate_us;
}

/* core_ends.c: running jobs by when they are expected to end */
uint64_t core_end_us(const struct mr_core *core, uint32_t workload); /* 0: unknown */
void core_ends_join(struct mr_core *core, uint32_t workload);
void core_ends_leave(struct mr_core *core, uint32_t workload);
struct core_ends_walk {
    uint32_t offset, known, unknown;
};
void core_ends_start(const struct mr_core *core, struct core_ends_walk *walk);
/* The next one, about in the order of ends; 0: no more. While walking nothing may join or leave. */
uint32_t core_ends_next(const struct mr_core *core, struct core_ends_walk *walk,
                        uint64_t *ret_end_us);

/* core_hold.c: room held for jobs that wait, and lent to those that end before */
void core_hold_arm(struct mr_core *core, uint64_t at_us);
bool core_hold_make(struct mr_core *core, uint32_t workload);
void core_hold_forget(struct mr_core *core, uint32_t workload); /* its claims go otherwise */
void core_hold_start(struct mr_core *core, uint32_t workload);
/* Gives back for a moment the room of holds that rank below the workload, and (below_only: not) of
 * those that begin after it surely has ended; returns the set of them, and takes them again. */
uint32_t core_hold_lend(struct mr_core *core, uint32_t workload, bool below_only);
void core_hold_take(struct mr_core *core, uint32_t lent);
void core_claims_lend(struct mr_core *core, uint32_t workload, bool take, bool quota);
/* Ends the holds that rank below it, 0: all. They are made anew within the step. */
void core_hold_yield(struct mr_core *core, uint32_t workload);
void core_hold_run(struct mr_core *core);

/* core_repair.c: gangs that lost a part keep the rest of their nodes */
void core_repair_note(struct mr_core *core, uint32_t workload, uint32_t node);
void core_repair_run(struct mr_core *core);

/* core_failure.c */
/* The state that a node gets when it is said to be in `state`; counts failures. */
enum mr_node_state core_failure_state(struct mr_core *core, uint32_t node,
                                      enum mr_node_state state);
void core_failure_forget(struct mr_core *core, uint32_t node);

/* core_spare.c */
/* Tasks of the world when the gang has so many in all. */
uint32_t core_spare_world(const struct core_workload *w, uint32_t tasks);
/* Orders the plan so that those beyond the world lie in every domain; before its leases are made.
 */
void core_spare_spread(struct mr_core *core, uint32_t workload, uint32_t tasks);
/* Orders a repair's plan (kept leases in the order of their ranks, then new ones) so that what was
 * kept keeps its rank. */
void core_spare_fill(struct mr_core *core, uint32_t workload);
/* A lease of so many spares has ended, however: while the gang runs it has that many fewer, and
 * goes on; false when it does not run. */
bool core_spare_ended(struct mr_core *core, uint32_t workload, uint32_t tasks);
/* Only spares are left of the run. */
bool core_spare_only(const struct mr_core *core, uint32_t workload);

/* core_deadline.c: which jobs run with which size so that deadlines are kept; core_fill.c: one job
 * against what is free over time */
void core_deadline_join(struct mr_core *core, uint32_t workload,
                        const struct mr_event_submit *event);
void core_deadline_leave(struct mr_core *core, uint32_t workload);
/* When its plan begins; 0: it has none. */
uint64_t core_deadline_start_us(const struct mr_core *core, uint32_t workload);
bool core_deadline_holds_back(const struct mr_core *core, uint32_t workload);
void core_deadline_started(struct mr_core *core, uint32_t workload);
void core_deadline_stopped(struct mr_core *core, uint32_t workload);
void core_deadline_progress(struct mr_core *core, uint32_t workload, uint64_t work_done);
void core_deadline_dirty(struct mr_core *core);
void core_deadline_run(struct mr_core *core);
uint64_t core_planned_left(const struct core_planned *p, uint64_t at_us);
/* The devices that one task of the job holds. */
uint32_t core_planned_devices(const struct mr_core *core, const struct core_planned *p);
/* Plans the job into what is free so that it is done by its deadline with the least it can: into
 * p->next. False: it cannot be. */
bool core_fill(struct mr_core *core, struct core_planned *p, uint64_t deadline_us);
/* Takes what the pieces hold from what is free. False: it does not fit any more. */
bool core_fill_take(struct mr_core *core, const struct core_planned *p,
                    const struct core_pieces *pieces);
/* So many of them are others' in that time. */
void core_fill_block(struct mr_core *core, uint64_t from_us, uint64_t to_us, uint32_t devices);
/* All of `devices` free from now on. */
void core_fill_begin(struct mr_core *core, uint32_t devices);
/* Device-microseconds free before that time, of so many in all; 2^64 - 1 at most. */
uint64_t core_fill_free(const struct mr_core *core, uint64_t until_us);

/* core_service.c */
bool core_service_try(struct mr_core *core, uint32_t workload, struct mr_reason *ret_reason,
                      uint32_t *ret_tenant);
void core_service_lease_ended(struct mr_core *core, uint32_t workload, bool was_ready, bool wanted,
                              enum mr_exit_kind exit, int32_t code);
void core_service_due(struct mr_core *core, uint32_t workload);
void core_service_join(struct mr_core *core, uint32_t workload);
void core_service_replica_stop(struct mr_core *core, uint32_t lease, bool checkpoint);
void core_service_update(struct mr_core *core, uint32_t workload);
void core_load(struct mr_core *core, const struct mr_event_load *event);

/* core_meter.c */
bool core_price_set(struct mr_core *core, const struct mr_event_price *event);
void core_lease_bill(struct mr_core *core, uint32_t lease, uint64_t until_us);
void core_cut_join(struct mr_core *core, uint32_t lease);
void core_cut_leave(struct mr_core *core, uint32_t lease);
void core_cut_due(struct mr_core *core);
bool core_meter_open(struct mr_core *core, uint32_t lease); /* false: no slot left */
void core_meter_end(struct mr_core *core, uint32_t lease);
void core_meter_take(struct mr_core *core, const struct mr_event_meter *event);
void core_lines_fold(struct mr_core *core, uint32_t workload);
uint64_t core_sku_divisor(enum mr_sku sku);
int64_t core_price(const struct mr_core *core, enum mr_sku sku, uint32_t type);
int64_t core_charge(uint64_t quantity, int64_t price, uint64_t divisor, uint64_t *rest);

/* core_timer.c */
void core_timer_set(struct mr_core *core, uint32_t workload,
                    uint64_t time_us); /* UINT64_MAX: off */
uint64_t core_timer_first_us(const struct mr_core *core);
void core_timers_due(struct mr_core *core);

/* core_step.c */
void core_emit(struct mr_core *core, const struct mr_effect *effect);
#define core_trace(core, ...)                                                                      \
    do {                                                                                           \
        if ((core)->trace != NULL) mr_trace_line((core)->trace, __VA_ARGS__);                      \
    } while (0)

#endif
