/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler as one function: an event goes in, effects come out.
 *
 * Everything the cloud knows about its nodes, tenants, workloads and money lies in one block of
 * memory addressed by index; a fork of the cloud is one memcpy of mr_core_bytes(). The daemon, the
 * simulator, `whatif` and a replay of last Tuesday's journal are callers of the same function.
 *
 * Equal blocks and equal events give equal blocks and equal effects, bit for bit. No clock, no I/O,
 * no float, no allocation, no recursion. No step is linear in the fleet or in the queue.
 * Idea: docs/internals/core.md. Grade P0.
 */
#ifndef MR_CORE_H
#define MR_CORE_H

#include "base/base.h"

/* --- what is scheduled --------------------------------------------------------------------- */

#define MR_ACCEL_TYPES_MAX      32u /* accelerator types known to a fleet; 0 is "none" */
#define MR_SHAPE_ALTERNATIVES   8u  /* accelerator types that one shape accepts */
#define MR_PRIORITY_COUNT       8u  /* classes; 0 is served first */
#define MR_PRIORITY_DEFAULT     4u
#define MR_DEVICES_PER_NODE_MAX 64u

/* Which of the accelerator types that a shape accepts is taken. A shape that lists none accepts
 * any, as by FIT. */
enum mr_accel_order {
    MR_ACCEL_ORDER_LISTED, /* the first listed that has room */
    MR_ACCEL_ORDER_PRICE,  /* the cheapest that has room; equal prices: as listed */
    MR_ACCEL_ORDER_FIT,    /* where it leaves the most room for others */
    MR_ACCEL_ORDER_COUNT
};

/* What one task needs. */
struct mr_shape {
    uint32_t cpu_milli; /* thousandths of a vCPU */
    uint32_t mem_mib;
    uint32_t accel_milli; /* thousandths of a device: below 1000 a share of one, above it whole
                             devices (a multiple of 1000) */
    uint8_t accel_types[MR_SHAPE_ALTERNATIVES]; /* accepted; all 0: any type */
    uint8_t accel_order;                        /* enum mr_accel_order */
    uint8_t reserved[3];                        /* 0: shapes are compared as bytes */
};

/* A RESERVATION is made by RESERVE, never submitted. */
enum mr_workload_kind {
    MR_KIND_JOB,
    MR_KIND_SERVICE,
    MR_KIND_POOL,
    MR_KIND_RESERVATION,
    MR_KIND_COUNT
};

/* Where the tasks of a gang may lie. PREFER tries the narrowest place first and widens. */
enum mr_topology {
    MR_TOPOLOGY_ANY,
    MR_TOPOLOGY_PREFER_DOMAIN,
    MR_TOPOLOGY_NODE,   /* all tasks on one node */
    MR_TOPOLOGY_DOMAIN, /* within one NVLink domain */
    MR_TOPOLOGY_BLOCK,
    MR_TOPOLOGY_CELL,
    MR_TOPOLOGY_COUNT
};

/* Over which failure domains replicas, and the tasks of a gang, are spread: the next one goes where
 * the fewest are. */
enum mr_spread {
    MR_SPREAD_NONE,
    MR_SPREAD_NODE,
    MR_SPREAD_DOMAIN,
    MR_SPREAD_BLOCK,
    MR_SPREAD_COUNT
};

/* What no other workload may use while this one has tasks there, besides its own tasks. */
enum mr_exclusive {
    MR_EXCLUSIVE_NONE,
    MR_EXCLUSIVE_NODE, /* nodes of its own, whole, and charged whole; each replica has its own */
    MR_EXCLUSIVE_COUNT
};

/* Slurm's states. A service whose target is 0 is suspended. What makes way for others is completing
 * while it stops, then pending; PREEMPTED is not used yet. */
#define MR_STATES(X)                                                                               \
    X(PENDING, "pending")                                                                          \
    X(RUNNING, "running")                                                                          \
    X(SUSPENDED, "suspended")                                                                      \
    X(COMPLETING, "completing")                                                                    \
    X(COMPLETED, "completed")                                                                      \
    X(FAILED, "failed")                                                                            \
    X(CANCELLED, "cancelled")                                                                      \
    X(TIMEOUT, "timeout")                                                                          \
    X(PREEMPTED, "preempted")                                                                      \
    X(NODE_FAIL, "node_fail")                                                                      \
    X(OUT_OF_MEMORY, "out_of_memory")
enum mr_state {
#define X(name, text) MR_STATE_##name,
    MR_STATES(X)
#undef X
        MR_STATE_COUNT
};
const char *mr_state_name(enum mr_state state);
bool mr_state_final(enum mr_state state);

enum mr_lease_state {
    MR_LEASE_NONE,
    MR_LEASE_STARTING, /* START was emitted, STARTED has not come */
    MR_LEASE_RUNNING,
    MR_LEASE_STOPPING, /* STOP was emitted, EXITED has not come */
    MR_LEASE_COUNT
};

enum mr_node_state {
    MR_NODE_ABSENT,
    MR_NODE_UP,
    MR_NODE_DRAINING, /* runs what it has, takes nothing new */
    MR_NODE_DOWN,
    MR_NODE_EXPECTED, /* to be delivered: can be reserved from its date on */
    MR_NODE_STATE_COUNT
};
const char *mr_node_state_name(enum mr_node_state state);

/* Why a workload waits: one binding reason, with its numbers. */
#define MR_REASONS(X)                                                                              \
    X(NONE, "none")                                                                                \
    X(BEHIND, "behind_others")      /* a: workloads ahead in its class */                          \
    X(RESOURCES, "resources")       /* a: short of, b: needed; resource says of what */            \
    X(FRAGMENTED, "fragmented")     /* enough in sum, on no single node. a: free, b: needed */     \
    X(TOPOLOGY, "topology")         /* enough in sum, in no single domain/block/cell */            \
    X(NO_SUCH_NODE, "no_such_node") /* no node of the fleet is that large. a: largest, b: need */  \
    X(QUOTA, "quota")               /* a: in use, b: limit, c: asked for */                        \
    X(TENANT_JOBS, "tenant_jobs")   /* a: running, b: limit */                                     \
    X(MAKING_ROOM, "making_room")   /* others were asked to go; a: places they hold */             \
    X(STOPPING, "stopping")    /* its last run still ends; a: leases; b: claimed for its next */   \
    X(BACKOFF, "backoff")      /* restarts after a failure at time a */                            \
    X(NOT_YET, "not_yet")      /* its begin time is a */                                           \
    X(RESERVED, "reserved")    /* its room is held for it from about a on; b: its places, c of     \
                                  which others still hold */                                       \
    X(HELD, "held_for_others") /* b would do and are held for workload a until time c */           \
    X(DEADLINE, "deadline")    /* its plan begins at a (0: none yet); b: its deadline */           \
    X(KEPT, "kept_free")      /* nodes that would do are reservation a's from time c (b: until) */ \
    X(NO_WINDOW, "no_window") /* a reservation would fit from time a on (0: not found) */          \
    X(EXCLUSIVE,                                                                                   \
      "exclusive")          /* fits, but beside others. a: nodes wholly free, b: up, c: needed */  \
    X(DELIVERY, "delivery") /* more than the fleet has until what comes at time a is there. b:     \
                               short of, c: needed; resource says of what */                       \
    X(APART, "apart")       /* b nodes have room, all where others of its group are, a first */    \
    X(FLEET_EMPTY, "fleet_empty") /* no node is up */
enum mr_reason_code {
#define X(name, text) MR_REASON_##name,
    MR_REASONS(X)
#undef X
        MR_REASON_COUNT
};
enum mr_resource { MR_RESOURCE_CPU, MR_RESOURCE_MEMORY, MR_RESOURCE_ACCEL, MR_RESOURCE_COUNT };
struct mr_reason {
    enum mr_reason_code code;
    enum mr_resource resource;
    uint64_t a, b, c;
};
const char *mr_reason_name(enum mr_reason_code code);
/* One sentence with the numbers, and the smallest change that would help. */
void mr_reason_put(struct mr_buf *buf, const struct mr_reason *reason);

/* How a lease ended, as its engine saw it. */
enum mr_exit_kind {
    MR_EXIT_CODE,          /* code */
    MR_EXIT_SIGNAL,        /* code is the signal */
    MR_EXIT_OUT_OF_MEMORY, /* killed at its memory limit */
    MR_EXIT_TIME_LIMIT,    /* killed by the engine at its own limit */
    MR_EXIT_START_FAILED,  /* code is an errno or MR_E… */
    MR_EXIT_LOST,          /* node or supervisor gone, nothing known */
    MR_EXIT_COUNT
};
/* A job that exits with this code asks to be run again from its checkpoint (EX_TEMPFAIL). A job
 * that is asked to stop for others and has more to do ends with it or by the signal; when all of
 * its leases end with code 0 all the same, it is done and does not run again. */
#define MR_EXIT_CODE_REQUEUE 75

/* --- events -------------------------------------------------------------------------------- */

#define MR_EVENTS(X)                                                                               \
    X(TICK)       /* time passes; asked for by mr_core_wake_us */                                  \
    X(TENANT_SET) /* create or change */                                                           \
    X(PRICE_SET)                                                                                   \
    X(NODE_SET) /* create or change capacity or place; state UP, or EXPECTED */                    \
    X(NODE_STATE)                                                                                  \
    X(SUBMIT)                                                                                      \
    X(CANCEL)                                                                                      \
    X(SCALE) /* new min and max of a service, pool or job */                                       \
    X(LOAD)  /* load signals of a service */                                                       \
    X(LEASE_STARTED)                                                                               \
    X(LEASE_READY) /* a service's replica answers */                                               \
    X(LEASE_PROGRESS)                                                                              \
    X(LEASE_EXITED)                                                                                \
    X(METER)   /* tokens of one request, settled once */                                           \
    X(RESERVE) /* a dated claim on nodes, or their maintenance */
enum mr_event_kind {
#define X(name) MR_EVENT_##name,
    MR_EVENTS(X)
#undef X
        MR_EVENT_COUNT
};
const char *mr_event_name(enum mr_event_kind kind);

/* Whose work a tenant may stop: of others that borrow what is its own, or of its own. */
enum mr_preempt {
    MR_PREEMPT_NEVER,
    MR_PREEMPT_LOWER, /* of a lower class only */
    MR_PREEMPT_ANY,   /* reclaim only */
    MR_PREEMPT_COUNT
};
/* What goes beyond a quota, both ways, among the tenants below one parent. */
struct mr_lending {
    uint64_t borrow_max; /* beyond its own, of what the others do not use; UINT64_MAX: any amount */
    uint64_t keep;       /* of its own, what the others may never use: quota less lending limit */
};
#define MR_TENANT_TYPES_MAX 8u
struct mr_type_quota {
    uint8_t accel_type; /* 0: this entry is empty */
    uint64_t quota_milli;
    struct mr_lending lending;
};

/* A tenant has a quota of its own of each resource, for which it is never made to wait by its
 * siblings for long, and may borrow beyond. A quota of accelerators holds for all types in sum;
 * types may have quotas of their own besides. Only preemptible work borrows: it can be asked to go.
 * What a tenant holds, with what tenants below it keep from others, counts against its parent. */
struct mr_event_tenant {
    struct mr_tenant_id id;     /* chosen by the caller, 1 … limits.tenants */
    struct mr_tenant_id parent; /* 0: root */
    uint32_t weight;            /* fair share, 1 … 1000 */
    uint64_t quota_cpu_milli;   /* UINT64_MAX: none */
    uint64_t quota_mem_mib;
    uint64_t quota_accel_milli;
    uint32_t running_max; /* workloads at once, UINT32_MAX: no limit */
    struct mr_lending lending[MR_RESOURCE_COUNT];
    struct mr_type_quota types[MR_TENANT_TYPES_MAX];
    enum mr_preempt reclaim; /* of those that borrow, while it is within its own quota */
    enum mr_preempt within;  /* of its own work, when its quota is used up; not ANY */
    uint64_t half_life_us;   /* of past use in the fair share; 0: only the present counts */
};

/* What is billed. Quantities are in the unit of the SKU; prices in nano-dollars per 1e6 units for
 * tokens, and per hour for what is held. */
enum mr_sku {
    MR_SKU_CPU,           /* unit: 1 milli-vCPU for 1 microsecond */
    MR_SKU_MEMORY,        /* unit: 1 MiB for 1 microsecond */
    MR_SKU_ACCEL,         /* unit: 1 milli-device for 1 microsecond, of the lease's type */
    MR_SKU_TOKENS_PROMPT, /* unit: 1 token, without the cached ones */
    MR_SKU_TOKENS_CACHED,
    MR_SKU_TOKENS_COMPLETION,
    MR_SKU_COUNT
};
const char *mr_sku_name(enum mr_sku sku); /* FOCUS SkuId, for example "vcpu-hour" */
struct mr_event_price {
    enum mr_sku sku;
    uint8_t accel_type; /* MR_SKU_ACCEL only */
    int64_t price_nusd; /* per vCPU-hour, GiB-hour, device-hour, million tokens */
};

/* A node with a date is dated supply: nothing runs on it, but what begins then may be promised it.
 * It is there when it is described without a date, or said to be UP; no sooner and, where it is
 * late, no earlier than that. */
struct mr_event_node {
    struct mr_node_id id; /* chosen by the caller, 1 … limits.nodes */
    uint32_t cpu_milli;
    uint32_t mem_mib;
    uint8_t accel_type;
    uint8_t accel_count;
    uint32_t domain;  /* NVLink domain, 1 … limits.domains; 0: a domain of its own */
    uint32_t block;   /* 1 … limits.blocks; 0: none */
    uint32_t cell;    /* 1 … limits.cells; 0: none */
    uint64_t from_us; /* it is delivered then; 0, or past: it is there. Refused for one that was */
};
struct mr_event_node_state {
    struct mr_node_id id; /* 0: every node of the domain */
    uint32_t domain;      /* with id 0 only, else 0. Effects name nodes one by one. Both 0, with UP:
                             every node whose delivery is due has come */
    enum mr_node_state state; /* not EXPECTED */
};

/* What a job's size does to its speed, as measured: the deadline planner chooses among the sizes.
 */
#define MR_CURVE_POINTS_MAX 8u
struct mr_curve_point {
    uint32_t tasks;      /* ascending */
    uint64_t rate_micro; /* millionths of a unit of work per second */
    uint64_t resize_us;  /* what beginning to run with so many tasks costs; nothing is done in it */
};
struct mr_curve {
    uint64_t work;  /* units to do, below 2^43; 0: unknown, then the job is not planned */
    uint32_t count; /* 0: unknown */
    uint32_t
        error_permille; /* how much slower than said it may be, below 1000: promises allow for it */
    struct mr_curve_point points[MR_CURVE_POINTS_MAX];
};
struct mr_event_submit {
    uint64_t tag;               /* the caller's, comes back in ACCEPTED or REJECTED */
    uint64_t key_high, key_low; /* idempotency key, both 0: none. A known key answers ACCEPTED with
                                   the workload of the first time and changes nothing */
    struct mr_tenant_id tenant;
    enum mr_workload_kind kind;
    struct mr_shape shape;
    uint32_t tasks_min, tasks_max; /* job: gang size; service, pool: replicas. 1 <= min <= max; a
                                      service may have min 0 */
    uint8_t priority;              /* 0 first … MR_PRIORITY_COUNT - 1 */
    enum mr_topology topology;
    bool preemptible;          /* may be stopped whole for higher classes */
    uint64_t begin_us;         /* 0: now */
    uint64_t time_limit_us;    /* jobs: running time over all runs; 0: none */
    uint64_t estimate_us;      /* expected running time; 0: unknown */
    uint64_t deadline_us;      /* absolute; 0: none */
    uint64_t grace_us;         /* between asking to stop and killing */
    uint64_t checkpoint_us;    /* interval; 0: does not checkpoint */
    uint32_t restarts_max;     /* after failures of its own; requeues by us do not count. A service
                                  fails after so many in a row without a replica that became ready;
                                  0: it is restarted for ever */
    uint32_t load_per_replica; /* service: requests in flight that one replica should carry */
    uint32_t spares;           /* jobs: tasks beyond tasks_max that stand ready, as many as fit */
    bool promise;              /* jobs with deadline and curve: promise it when it can be kept */
    bool late_ends;            /* the same: when it cannot be met any more, the job ends */
    enum mr_spread spread;
    uint32_t spread_max;         /* at most so many in one of them; 0: any number */
    enum mr_exclusive exclusive; /* not with a share of a device, a spread or a curve */
    /* Work of one tenant with the same number, not 0, shares no node, domain or block: of two of
     * them the wider of their levels holds. Not with a curve. */
    uint64_t apart;
    enum mr_spread apart_by;
    uint32_t segment; /* jobs: tasks in segments of so many, each within one NVLink domain; sizes
                         are multiples of it. 0: none */
    struct mr_workload_id reservation; /* runs on its nodes, in its time; 0: on others. A
                                          reservation of the tenant, or of one above it */
    struct mr_curve curve;             /* the sizes lie between tasks_min and tasks_max */
};
/* Nodes for the work that names the reservation, and for no other, from begin to end; or, for
 * maintenance, for nobody. Nodes are given whole. What is known to end before, or may be asked to
 * go, may run there until then. At the end what still runs there is asked to go, and goes on
 * elsewhere. Promised only when it can be kept; a node that is lost is replaced when there is one.
 */
struct mr_event_reserve {
    uint64_t tag;               /* comes back in ACCEPTED or REJECTED */
    uint64_t key_high, key_low; /* as in mr_event_submit */
    struct mr_tenant_id tenant; /* whose work may name it, and who pays for what is not used */
    struct mr_shape shape;      /* reservation: so many tasks of this shape fit at once */
    uint32_t tasks;
    enum mr_topology topology;
    uint64_t begin_us, end_us; /* begin 0, or past: now */
    bool maintenance; /* of so many nodes from one on, or of all that lie in a domain now */
    struct mr_node_id node;
    uint32_t nodes; /* 0: one */
    uint32_t domain;
};
struct mr_event_scale {
    struct mr_workload_id workload;
    uint32_t tasks_min, tasks_max;
};
struct mr_event_load {
    struct mr_workload_id workload;
    uint32_t running, waiting; /* requests now, over all replicas and gates */
};
struct mr_event_lease {
    struct mr_lease_id lease;
    uint32_t checkpoint_step; /* PROGRESS: newest durable checkpoint */
    enum mr_exit_kind exit;   /* EXITED */
    int32_t code;             /* EXITED */
    uint64_t ran_us;          /* STARTED: it has run so long already; EXITED: it ran so long in all,
                                 however late that is known; 0: as long as was seen */
    uint64_t work_done;       /* PROGRESS: units of its curve's work, over all runs; 0: not known */
};
struct mr_event_meter {
    struct mr_lease_id lease; /* who decoded */
    uint64_t serial;          /* the worker's count from 1; a repeated one changes nothing */
    struct mr_tenant_id tenant;
    uint32_t prompt_tokens, cached_tokens, completion_tokens;
};

struct mr_event {
    enum mr_event_kind kind;
    uint64_t time_us; /* never before the last event's: an older one counts as now */
    union {
        struct mr_event_tenant tenant;
        struct mr_event_price price;
        struct mr_event_node node;
        struct mr_event_node_state node_state;
        struct mr_event_submit submit;
        struct mr_workload_id cancel;
        struct mr_event_scale scale;
        struct mr_event_load load;
        struct mr_event_lease lease;
        struct mr_event_meter meter;
        struct mr_event_reserve reserve;
    } u;
};

/* The stored form: u8 version, u8 kind, then each field, little-endian, no padding. get rejects
 * unknown versions, kinds and enum values, short and long input (MR_ESYNTAX / MR_EUNSUPPORTED). */
void mr_event_put(struct mr_buf *buf, const struct mr_event *event);
int mr_event_get(struct mr_str bytes, struct mr_event *ret_event);

/* --- effects ------------------------------------------------------------------------------- */

#define MR_EFFECTS(X)                                                                              \
    X(ACCEPTED) /* answer to a SUBMIT, by tag */                                                   \
    X(REJECTED)                                                                                    \
    X(START)   /* start a lease; idempotent by lease id */                                         \
    X(STOP)    /* ask to stop, kill after the grace; idempotent by lease id */                     \
    X(STATE)   /* a workload's state, run or size changed */                                       \
    X(NODE)    /* a node's state changed */                                                        \
    X(LEDGER)  /* an entry of the bill */                                                          \
    X(METERED) /* a METER event was taken or was known already: settle it */
enum mr_effect_kind {
#define X(name) MR_EFFECT_##name,
    MR_EFFECTS(X)
#undef X
        MR_EFFECT_COUNT
};

/* A lease is one run's part on one node: `tasks` tasks with ranks rank_first … */
struct mr_effect_start {
    struct mr_lease_id lease;
    struct mr_workload_id workload;
    struct mr_node_id node;
    uint32_t run;        /* counts the workload's runs from 1 */
    uint32_t tasks;      /* on this node */
    uint32_t rank_first; /* of this node's tasks within the gang */
    uint32_t world_size; /* tasks of the whole gang but its spares: ranks from it on are spares,
                            which wait, until they are stopped or started again as a part of it */
    uint32_t node_rank, node_count;
    uint64_t devices;      /* bit mask of the node's devices */
    struct mr_shape shape; /* per task; accel_types[0] is the type it got */
};
struct mr_effect_stop {
    struct mr_lease_id lease;
    uint64_t grace_us; /* 0: kill at once */
    bool checkpoint;   /* worth saving before */
};
struct mr_effect_state {
    struct mr_workload_id workload;
    enum mr_state state;
    uint32_t run, tasks;
    bool promised; /* its deadline */
};
struct mr_effect_answer {
    uint64_t tag;
    struct mr_workload_id workload;
    bool known;              /* the idempotency key was known */
    int error;               /* REJECTED: MR_E… */
    struct mr_reason reason; /* REJECTED: with its numbers; ACCEPTED: why it does not start now */
};
struct mr_effect_ledger {
    uint64_t entry; /* counts up over the cloud's life */
    struct mr_tenant_id tenant;
    struct mr_workload_id workload;
    struct mr_lease_id lease;
    enum mr_sku sku;
    uint8_t accel_type;
    uint64_t quantity;  /* in the SKU's unit */
    int64_t price_nusd; /* as in mr_event_price */
    int64_t charge_nusd;
    uint64_t from_us, to_us; /* charge period */
};
struct mr_effect {
    enum mr_effect_kind kind;
    union {
        struct mr_effect_answer answer;
        struct mr_effect_start start;
        struct mr_effect_stop stop;
        struct mr_effect_state state;
        struct mr_event_node_state node;
        struct mr_effect_ledger ledger;
        struct mr_event_meter metered;
    } u;
};
/* Called within the step for each effect, in order; must copy what it keeps and must not call back
 * into the core. */
struct mr_effect_sink {
    void (*emit)(void *context, const struct mr_effect *effect);
    void *context;
};

/* --- the machine --------------------------------------------------------------------------- */

struct mr_core;

/* Chosen at start, part of the block and of its hash. */
struct mr_core_limits {
    uint32_t nodes, domains, blocks, cells;
    uint32_t tenants;
    uint32_t workloads; /* known at once: live ones and the newest ended ones */
    uint32_t leases;    /* live at once */
    uint32_t shapes;    /* distinct (shape, size, topology, priority, tenant) classes that wait */
    /* Placement by value (docs/internals/placement.md): distinct demands that are learned and
     * indexed, and states of free amounts that each index holds; both 0: best fit alone. */
    uint32_t fit_shapes, fit_states;
    uint32_t planned; /* live jobs with deadline and curve; further ones are ordinary. May be 0 */
    uint32_t reservations; /* booked or active at once, maintenance too. May be 0 */
};
extern const struct mr_core_limits mr_core_limits_small; /* one machine: a few MiB */
extern const struct mr_core_limits mr_core_limits_fleet; /* 230,000 nodes, 1,000,000 waiting */

/* Size of the block in bytes; 0 when a limit is 0 or absurd. */
size_t mr_core_bytes(const struct mr_core_limits *limits);
/* Makes an empty cloud in `block` (16-byte aligned, `bytes` >= mr_core_bytes). The block owns
 * nothing else; freeing it is all that ending takes. */
int mr_core_init(void *block, size_t bytes, const struct mr_core_limits *limits,
                 struct mr_core **ret_core);
/* Takes a block that was copied or loaded. Checks the header and, when `check`, every invariant:
 * MR_ECORRUPT. */
int mr_core_open(void *block, size_t bytes, bool check, struct mr_core **ret_core);
const struct mr_core_limits *mr_core_limits_of(const struct mr_core *core);
/* Narration, not part of the state. */
void mr_core_trace_set(struct mr_core *core, const struct mr_trace *trace);

/* One step. Cost: O(log fleet + waiting shape classes + leases changed). An event that cannot be
 * carried out (unknown id, over a limit) changes nothing but time and, for SUBMIT, emits REJECTED.
 * With MR_CHECKS every invariant is verified after the step. */
void mr_core_step(struct mr_core *core, const struct mr_event *event,
                  const struct mr_effect_sink *sink);
/* When the next TICK is needed (absolute), UINT64_MAX: not at all. O(1). */
uint64_t mr_core_wake_us(const struct mr_core *core);
uint64_t mr_core_now_us(const struct mr_core *core);
/* Number of events stepped since init. */
uint64_t mr_core_steps(const struct mr_core *core);
/* After a restart: emits START for each starting lease and STOP for each stopping one again. */
void mr_core_outstanding(const struct mr_core *core, const struct mr_effect_sink *sink);
/* Equal states give equal hashes, on any machine. O(used part of the block). */
uint64_t mr_core_hash(const struct mr_core *core);
/* Verifies every numbered invariant of every table; O(state). 0, or MR_ECORRUPT and the invariant's
 * text in *ret_text. */
int mr_core_check(const struct mr_core *core, const char **ret_text);
/* The used part of the block, packed; load makes a block of the same limits out of it. */
void mr_core_save(const struct mr_core *core, struct mr_buf *buf);
int mr_core_load(struct mr_str bytes, void *block, size_t block_bytes, struct mr_core **ret_core);

/* --- looking ------------------------------------------------------------------------------- */

struct mr_workload_info {
    struct mr_workload_id id;
    struct mr_tenant_id tenant;
    enum mr_workload_kind kind;
    enum mr_state state;
    struct mr_reason reason; /* pending: why; ended: NONE */
    struct mr_shape shape;
    uint8_t priority;
    enum mr_topology topology;
    uint32_t tasks_min, tasks_max;
    enum mr_spread spread;
    uint32_t spread_max;
    enum mr_exclusive exclusive;
    uint64_t apart;
    enum mr_spread apart_by;
    uint32_t segment;
    uint32_t tasks;  /* placed now, spares too */
    uint32_t spares; /* of these, standing ready */
    uint32_t target; /* service: replicas wanted now */
    uint32_t ready;  /* service: replicas that answer */
    uint32_t run, restarts;
    uint32_t checkpoint_step;
    uint32_t lease_count;
    uint64_t submitted_us, started_us, ended_us; /* 0: not yet */
    uint64_t time_limit_us, deadline_us;
    uint64_t estimate_us, begin_us, checkpoint_us, grace_us; /* as submitted */
    uint64_t ran_us;                   /* over its runs so far, without the present one */
    uint64_t run_started_us;           /* of the newest run */
    struct mr_workload_id reservation; /* that it names; 0: none */
    bool maintenance;                  /* a reservation that is one */
    bool preemptible;
    bool promised;          /* its deadline will be kept */
    uint64_t planned_us;    /* when it ends as planned; 0: not planned */
    enum mr_exit_kind exit; /* of the lease that decided, when ended */
    int32_t exit_code;
};
struct mr_lease_info {
    struct mr_lease_id id;
    struct mr_workload_id workload;
    struct mr_tenant_id tenant;
    struct mr_node_id node;
    enum mr_lease_state state;
    bool ready;
    struct mr_effect_start start; /* as it was emitted */
    uint64_t started_us;
};
struct mr_node_info {
    struct mr_event_node node;
    enum mr_node_state state;
    uint32_t cpu_free_milli, mem_free_mib, accel_free_milli;
    uint32_t lease_count;
    struct mr_workload_id reserved; /* whose window it is in; 0: in none */
};
/* Nodes that are expected on one date, with accelerators of one type. */
struct mr_delivery_info {
    uint64_t from_us;
    uint8_t accel_type; /* 0: without accelerators */
    uint32_t nodes;
    uint64_t cpu_milli, mem_mib, accel_milli; /* in sum */
    bool late;                                /* its date is past */
};
/* A node in the calendar of a reservation. */
struct mr_window_info {
    struct mr_workload_id reservation;
    struct mr_node_id node;
    uint32_t tasks; /* that are counted on it; maintenance: 0 */
    uint64_t begin_us, end_us;
    bool maintenance, active;
};
/* Of one type of accelerators, in thousandths; of type 0, thousandths of vCPUs. */
struct mr_timeline_step {
    uint64_t time_us;
    uint64_t installed;   /* on nodes that are up, or delivered by then */
    uint64_t maintenance; /* of these not to be had, their term's end too */
    uint64_t reserved;
    uint64_t running; /* held until its expected end by what runs now, or as planned */
    uint64_t free;    /* the rest */
};
struct mr_tenant_info {
    struct mr_event_tenant tenant;
    uint64_t cpu_milli, mem_mib, accel_milli; /* held now, with everything below it */
    uint64_t type_milli[MR_TENANT_TYPES_MAX]; /* of the types that have a quota, held now */
    uint64_t used[MR_RESOURCE_COUNT];         /* held, with what those below it keep */
    uint64_t past[MR_RESOURCE_COUNT];         /* decayed mean of what it held */
    uint64_t share;                           /* by which tenants are ordered, in 2^-32 */
    uint32_t running, pending;
};
struct mr_totals {
    uint32_t nodes_up, nodes_down, nodes_draining, nodes_expected;
    uint32_t pending, running, leases;
    uint64_t cpu_milli, cpu_free_milli, mem_mib, mem_free_mib, accel_milli, accel_free_milli;
};

int mr_core_workload(const struct mr_core *core, struct mr_workload_id id,
                     struct mr_workload_info *ret); /* MR_ENOT_FOUND; O(1) */
/* Whether it is still known; cheaper than its info, which looks for the reason why it waits. O(1).
 */
bool mr_core_workload_known(const struct mr_core *core, struct mr_workload_id id);
/* The known workload with the smallest id above `after` (start with 0), MR_ENOT_FOUND at the end.
 * O(1) amortised. */
int mr_core_workload_next(const struct mr_core *core, struct mr_workload_id after,
                          struct mr_workload_info *ret);
int mr_core_lease(const struct mr_core *core, struct mr_lease_id id, struct mr_lease_info *ret);
/* The leases of one workload: *cursor starts at 0; MR_ENOT_FOUND at the end. O(1) each. */
int mr_core_lease_of(const struct mr_core *core, struct mr_workload_id id, uint32_t *cursor,
                     struct mr_lease_info *ret);
/* All live leases: *cursor starts at 0. */
int mr_core_lease_next(const struct mr_core *core, uint32_t *cursor, struct mr_lease_info *ret);
int mr_core_node(const struct mr_core *core, struct mr_node_id id, struct mr_node_info *ret);
/* Whether NODE_SET would be carried out: numbers in their bounds, and with a date one that is not
 * there, and a date or type that fits. */
bool mr_core_node_valid(const struct mr_core *core, const struct mr_event_node *node);
int mr_core_tenant(const struct mr_core *core, struct mr_tenant_id id, struct mr_tenant_info *ret);
/* Whether TENANT_SET would be carried out: ids in their bounds, a parent that is there, no circle,
 * no tree that is too deep. O(tenants below it). */
bool mr_core_tenant_valid(const struct mr_core *core, const struct mr_event_tenant *tenant);
void mr_core_totals(const struct mr_core *core, struct mr_totals *ret);
/* What is expected, by date: *cursor starts at 0; MR_ENOT_FOUND at the end. O(1) each. */
int mr_core_delivery_next(const struct mr_core *core, uint32_t *cursor,
                          struct mr_delivery_info *ret);
/* What there is at from_us, from_us + step_us, … (step_us > 0), as it is known now: `count` steps
 * of the caller's. Sums: on fragmented nodes less may fit. O(leases + windows + count). */
void mr_core_timeline(const struct mr_core *core, uint8_t type, uint64_t from_us, uint64_t step_us,
                      struct mr_timeline_step *steps, uint32_t count);
/* The reservations that are booked or active, maintenance too: *cursor starts at 0. O(1) each. */
int mr_core_reservation_next(const struct mr_core *core, uint32_t *cursor,
                             struct mr_workload_info *ret);
/* The windows of a reservation, or (id 0) of a node: *cursor starts at 0; MR_ENOT_FOUND at the end.
 * O(1) each. */
int mr_core_window_next(const struct mr_core *core, struct mr_workload_id reservation,
                        struct mr_node_id node, uint32_t *cursor, struct mr_window_info *ret);

/* The bill so far: one line for each (tenant, workload, SKU, accelerator type) that is still known;
 * lines of forgotten workloads are summed per tenant under workload 0. What running leases hold
 * since their last entry is counted up to now_us, in lines of their own for each lease with
 * accrued == true. *cursor starts at 0. The sum over all lines with
 * accrued == false equals the sum over all LEDGER effects: a tested property. */
struct mr_bill_line {
    struct mr_tenant_id tenant;
    struct mr_workload_id workload;
    enum mr_sku sku;
    uint8_t accel_type;
    bool accrued; /* of running leases, not in the ledger yet */
    uint64_t quantity;
    int64_t charge_nusd;
    uint64_t from_us, to_us;
};
int mr_core_bill_next(const struct mr_core *core, uint64_t now_us, uint64_t *cursor,
                      struct mr_bill_line *ret);
/* Whether the fleet as it is could ever run it: false, and NO_SUCH_NODE with its numbers, when no
 * node is large enough for one task (or for the whole gang, with topology node). A fleet with nodes
 * that are down is given the benefit of the doubt. O(accelerator types). */
bool mr_core_possible(const struct mr_core *core, const struct mr_event_submit *submit,
                      struct mr_reason *ret);
/* Why it waits, found afresh against the state now (O(log fleet)). */
int mr_core_why(const struct mr_core *core, struct mr_workload_id id, struct mr_reason *ret);

#endif
