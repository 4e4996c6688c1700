/* SPDX-License-Identifier: Apache-2.0 */
/* Why names the reason that binds: a table of situations, each built by events, asked, and then
 * changed in the smallest way that the reason names. A change that is smaller by one must leave the
 * workload waiting, the change itself must start it: so what is named is what binds.
 * docs/internals/why.md shows the table; the last case compares the two.
 */
#include "core_test.h"

#define MINUTE (60 * SECOND)
#define ANY    UINT64_MAX

static struct cloud c; /* the situation */

struct situation {
    const char *name;
    uint64_t (*build)(void);        /* returns the workload that is asked about */
    enum mr_reason_code code;       /* expected */
    enum mr_resource resource;      /* where the reason has one */
    uint64_t a, b, c;               /* ANY: not looked at */
    void (*too_little)(uint64_t w); /* NULL: there is no smaller change */
    void (*change)(uint64_t w);
};

/* --- parts --------------------------------------------------------------------------------------
 */

static struct mr_event of(uint32_t tenant, struct mr_event event)
{
    event.u.submit.tenant.v = tenant;
    return event;
}

static struct mr_event at(enum mr_topology topology, struct mr_event event)
{
    event.u.submit.topology = topology;
    return event;
}

static struct mr_event with(uint32_t cpu_milli, uint32_t mem_mib, struct mr_event event)
{
    event.u.submit.shape.cpu_milli = cpu_milli;
    event.u.submit.shape.mem_mib = mem_mib;
    return event;
}

static struct mr_event first_class(struct mr_event event)
{
    event.u.submit.priority = 0;
    return event;
}

static struct mr_event limited(uint64_t limit_us, struct mr_event event)
{
    event.u.submit.time_limit_us = limit_us;
    return event;
}

static void quota(uint32_t tenant, uint32_t parent, uint64_t cpu_milli, uint64_t mem_mib,
                  uint64_t accel_milli, uint32_t running)
{
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_TENANT_SET,
                                     .u.tenant = {.id = {tenant},
                                                  .parent = {parent},
                                                  .weight = 1,
                                                  .quota_cpu_milli = cpu_milli,
                                                  .quota_mem_mib = mem_mib,
                                                  .quota_accel_milli = accel_milli,
                                                  .running_max = running}});
}

static void scale(uint64_t w, uint32_t tasks)
{
    cloud_step(
        &c, (struct mr_event){.kind = MR_EVENT_SCALE, .u.scale = {.workload = {w}, tasks, tasks}});
}

/* Fills so many devices of node 1 and on with one job each, and lets them run. */
static uint64_t busy(uint32_t tasks, uint32_t accel_milli)
{
    uint64_t id = submit(&c, job(tasks, accel_milli));
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    return id;
}

static void wait(uint64_t w)
{
    (void)w;
    tick(&c, SECOND);
}

/* --- room ---------------------------------------------------------------------------------------
 */

static uint64_t devices_short(void)
{
    node_set(&c, 1, 8);
    (void)busy(1, 2000);
    (void)busy(1, 3000);
    return submit(&c, job(1, 5000)); /* three are free */
}

static void end_first(uint64_t w)
{
    (void)w;
    all_exit(&c, 1, 0);
}

static void end_second(uint64_t w)
{
    (void)w;
    all_exit(&c, 2, 0);
}

static uint64_t devices_short_by_one(void)
{
    node_set(&c, 1, 4);
    (void)busy(1, 1000);
    (void)busy(1, 1000);
    return submit(&c, job(3, 1000));
}

static void half_a_device(uint64_t w)
{
    (void)w;
    (void)submit(&c, job(1, 500)); /* takes a part of what is free, and gives it back */
    all_exit(&c, 4, 0);
}

static uint64_t cpu_short(void)
{
    node_set(&c, 1, 0);
    (void)submit(&c, with(40000, 1024, job(1, 0)));
    return submit(&c, with(30000, 1024, job(1, 0)));
}

static uint64_t memory_short(void)
{
    node_set(&c, 1, 0);
    (void)submit(&c, with(1000, 200 * 1024, job(1, 0)));
    return submit(&c, with(1000, 57 * 1024, job(1, 0)));
}

static void larger_node_by_too_little(uint64_t w)
{
    (void)w;
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_NODE_SET,
                                     .u.node = {{1}, 64000, 262144 + 1023, 0, 0, 0, 0, 0, 0}});
}

static void larger_node(uint64_t w)
{
    (void)w;
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_NODE_SET,
                                     .u.node = {{1}, 64000, 262144 + 1024, 0, 0, 0, 0, 0, 0}});
}

static uint64_t devices_apart(void)
{
    node_set(&c, 1, 4);
    node_set(&c, 2, 4);
    (void)busy(1, 3000);
    (void)busy(1, 3000);             /* one is free on each node */
    return submit(&c, job(1, 2000)); /* two in sum */
}

static uint64_t memory_apart_from_cpu(void)
{
    node_set(&c, 1, 0);
    node_set(&c, 2, 0);
    (void)submit(&c, with(60000, 1024, job(1, 0)));        /* memory is free here */
    (void)submit(&c, with(5000, 250 * 1024, job(1, 0)));   /* vCPUs are free there */
    return submit(&c, with(20000, 100 * 1024, job(1, 0))); /* both in sum */
}

static uint64_t parts_of_devices(void)
{
    node_set(&c, 1, 2);
    (void)busy(1, 700);
    (void)busy(1, 600);
    return submit(&c, job(1, 500)); /* .7 are free, at most .4 on one device */
}

static uint64_t alternatives_full(void)
{
    node_set(&c, 1, 2);
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_NODE_SET,
                                     .u.node = {{2}, 64000, 262144, GPU + 1, 2, 0, 0, 0, 0}});
    struct mr_event other = job(1, 2000);
    (void)busy(1, 2000);
    other.u.submit.shape.accel_types[0] = GPU + 1;
    (void)submit(&c, other);
    struct mr_event either = job(1, 1000);
    either.u.submit.shape.accel_types[0] = GPU;
    either.u.submit.shape.accel_types[1] = GPU + 1;
    return submit(&c, either);
}

static uint64_t least_of_an_elastic_gang(void)
{
    node_set(&c, 1, 4);
    (void)busy(1, 1000);
    struct mr_event event = job(8, 1000);
    event.u.submit.tasks_min = 4;
    return submit(&c, event);
}

static uint64_t spares_do_not_bind(void)
{
    node_set(&c, 1, 4);
    (void)busy(1, 1000);
    struct mr_event event = job(4, 1000);
    event.u.submit.spares = 2;
    return submit(&c, event);
}

static void scale_to_three(uint64_t w)
{
    scale(w, 3);
}

/* --- topology -----------------------------------------------------------------------------------
 */

/* Two domains in one block, two blocks in one cell, two cells; four devices each, two are free. */
static void places(bool domains, bool blocks, bool cells)
{
    for (uint32_t i = 1; i <= 2; i++) {
        node_set_in(&c, i, 4, domains ? i : 1, blocks ? i : 1, cells ? i : 1);
        (void)busy(1, 2000);
        (void)submit(&c, job(1, 2000));
    }
    cancel(&c, 2);
    cancel(&c, 4);
    all_exit(&c, 2, 1);
    all_exit(&c, 4, 1);
}

static uint64_t no_domain(void)
{
    places(true, false, false);
    return submit(&c, at(MR_TOPOLOGY_DOMAIN, job(4, 1000)));
}

static uint64_t no_block(void)
{
    places(true, true, false);
    return submit(&c, at(MR_TOPOLOGY_BLOCK, job(4, 1000)));
}

static uint64_t no_cell(void)
{
    places(true, true, true);
    return submit(&c, at(MR_TOPOLOGY_CELL, job(4, 1000)));
}

static uint64_t no_node(void)
{
    places(false, false, false);
    return submit(&c, at(MR_TOPOLOGY_NODE, job(4, 1000)));
}

/* --- beside others ------------------------------------------------------------------------------
 */

static struct mr_event alone(struct mr_event event)
{
    event.u.submit.exclusive = MR_EXCLUSIVE_NODE;
    return event;
}

static uint64_t no_node_wholly_free(void)
{
    node_set(&c, 1, 4);
    node_set(&c, 2, 4);
    (void)busy(1, 1000);
    return submit(&c, alone(job(6, 1000))); /* seven are free, and one of the two nodes it needs */
}

static uint64_t beside_its_own_group(void)
{
    struct mr_event event = job(1, 1000);
    event.u.submit.apart = 1;
    event.u.submit.apart_by = MR_SPREAD_NODE;
    for (uint32_t i = 1; i <= 3; i++) {
        node_set(&c, i, 4);
        (void)submit(&c, event);
    }
    return submit(&c, event);
}

static uint64_t in_a_domain_of_its_group(void)
{
    struct mr_event event = job(1, 4000);
    event.u.submit.apart = 1;
    event.u.submit.apart_by = MR_SPREAD_DOMAIN;
    node_set_in(&c, 1, 4, 1, 1, 1);
    node_set_in(&c, 2, 4, 1, 1, 1);
    (void)submit(&c, event);
    return submit(&c, event);
}

static void other_node(uint64_t w)
{
    (void)w;
    node_set_in(&c, 4, 4, 1, 1, 1);
}

static void other_domain(uint64_t w)
{
    (void)w;
    node_set_in(&c, 4, 4, 3, 1, 1);
}

static uint64_t quota_of_whole_nodes(void)
{
    node_set(&c, 1, 4);
    quota(2, 0, ANY, ANY, 3000, UINT32_MAX);
    return submit(&c, of(2, alone(job(1, 1000))));
}

static void quota_of_three_and_a_bit(uint64_t w)
{
    (void)w;
    quota(2, 0, ANY, ANY, 3999, UINT32_MAX);
}

static void quota_of_four(uint64_t w)
{
    (void)w;
    quota(2, 0, ANY, ANY, 4000, UINT32_MAX);
}

/* --- never --------------------------------------------------------------------------------------
 */

static uint64_t no_node_so_large(void)
{
    node_set(&c, 1, 4);
    return submit(&c, job(1, 5000));
}

static uint64_t no_node_with_such_cpu(void)
{
    node_set(&c, 1, 0);
    return submit(&c, with(65000, 1024, job(1, 0)));
}

static uint64_t no_node_for_all_tasks(void)
{
    node_set(&c, 1, 4);
    return submit(&c, at(MR_TOPOLOGY_NODE, job(5, 1000)));
}

static void add_node_of_four(uint64_t w)
{
    (void)w;
    node_set(&c, 3, 4);
}

static void add_node_of_five(uint64_t w)
{
    (void)w;
    node_set(&c, 3, 5);
}

static void add_large_cpu_node(uint64_t w)
{
    (void)w;
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_NODE_SET,
                                     .u.node = {{3}, 65000, 262144, 0, 0, 0, 0, 0, 0}});
}

static uint64_t empty_fleet(void)
{
    return submit(&c, job(1, 1000));
}

static void add_node(uint64_t w)
{
    (void)w;
    node_set(&c, 3, 1);
}

static uint64_t all_draining(void)
{
    node_set(&c, 1, 4);
    node_set(&c, 2, 0);
    node_state(&c, 1, MR_NODE_DRAINING);
    return submit(&c, job(1, 1000));
}

static uint64_t all_down(void)
{
    node_set(&c, 1, 4);
    node_state(&c, 1, MR_NODE_DOWN);
    return submit(&c, job(1, 1000));
}

static void bring_back(uint64_t w)
{
    (void)w;
    node_state(&c, 1, MR_NODE_UP);
}

/* --- quotas -------------------------------------------------------------------------------------
 */

static uint64_t quota_of_devices(void)
{
    node_set(&c, 1, 8);
    quota(2, 0, ANY, ANY, 6000, UINT32_MAX);
    (void)submit(&c, of(2, job(1, 5000)));
    return submit(&c, of(2, job(2, 1000)));
}

static void quota_of_devices_just_below(uint64_t w)
{
    (void)w;
    quota(2, 0, ANY, ANY, 6999, UINT32_MAX);
}

static void quota_of_devices_raised(uint64_t w)
{
    (void)w;
    quota(2, 0, ANY, ANY, 7000, UINT32_MAX);
}

static uint64_t quota_of_cpu(void)
{
    node_set(&c, 1, 0);
    quota(2, 0, 4000, ANY, ANY, UINT32_MAX);
    return submit(&c, of(2, with(5000, 1024, job(1, 0))));
}

static void quota_of_cpu_just_below(uint64_t w)
{
    (void)w;
    quota(2, 0, 4999, ANY, ANY, UINT32_MAX);
}

static void quota_of_cpu_raised(uint64_t w)
{
    (void)w;
    quota(2, 0, 5000, ANY, ANY, UINT32_MAX);
}

static uint64_t quota_of_memory(void)
{
    node_set(&c, 1, 0);
    quota(2, 0, ANY, 1024, ANY, UINT32_MAX);
    return submit(&c, of(2, with(1000, 1536, job(1, 0))));
}

static void quota_of_memory_raised(uint64_t w)
{
    (void)w;
    quota(2, 0, ANY, 1536, ANY, UINT32_MAX);
}

static uint64_t quota_above(void)
{
    node_set(&c, 1, 8);
    quota(2, 0, ANY, ANY, 4000, UINT32_MAX);
    quota(3, 2, ANY, ANY, ANY, UINT32_MAX);
    quota(4, 2, ANY, ANY, ANY, UINT32_MAX);
    (void)submit(&c, of(3, job(3, 1000)));
    return submit(&c, of(4, job(2, 1000)));
}

static void quota_above_raised(uint64_t w)
{
    (void)w;
    quota(2, 0, ANY, ANY, 5000, UINT32_MAX);
}

static void quota_below_raised(uint64_t w) /* the wrong one */
{
    (void)w;
    quota(4, 2, ANY, ANY, 64000, UINT32_MAX);
}

static uint64_t quota_before_room(void)
{
    node_set(&c, 1, 4);
    (void)busy(1, 1000);
    quota(2, 0, ANY, ANY, 2000, UINT32_MAX);
    return submit(&c, of(2, job(4, 1000))); /* neither allows it: the quota is told first */
}

static void quota_and_room(uint64_t w)
{
    quota(2, 0, ANY, ANY, 4000, UINT32_MAX);
    assert_int_equal(info(&c, w).reason.code, MR_REASON_RESOURCES); /* then the next one */
    all_exit(&c, 1, 0);
}

static uint64_t quota_of_a_service(void)
{
    node_set(&c, 1, 4);
    quota(2, 0, ANY, ANY, 1000, UINT32_MAX);
    return submit(&c, of(2, service(2, 2, 1000)));
}

static void quota_for_two(uint64_t w)
{
    (void)w;
    quota(2, 0, ANY, ANY, 2000, UINT32_MAX);
}

static uint64_t too_many_run(void)
{
    node_set(&c, 1, 8);
    quota(2, 0, ANY, ANY, ANY, 2);
    (void)submit(&c, of(2, job(1, 1000)));
    (void)submit(&c, of(2, job(1, 2000)));
    return submit(&c, of(2, job(2, 1000)));
}

static void one_more_may_run(uint64_t w)
{
    (void)w;
    quota(2, 0, ANY, ANY, ANY, 3);
}

static uint64_t too_many_run_above(void)
{
    node_set(&c, 1, 8);
    quota(2, 0, ANY, ANY, ANY, 1);
    quota(3, 2, ANY, ANY, ANY, 7);
    (void)submit(&c, of(2, job(1, 1000)));
    return submit(&c, of(3, job(1, 1000)));
}

static void two_may_run(uint64_t w)
{
    (void)w;
    quota(2, 0, ANY, ANY, ANY, 2);
}

/* --- others -------------------------------------------------------------------------------------
 */

static uint64_t behind_one_like_it(void)
{
    node_set(&c, 1, 4);
    (void)busy(1, 2000);
    (void)submit(&c, job(1, 3000));
    return submit(&c, job(1, 3000));
}

static void end_and_cancel(uint64_t w)
{
    (void)w;
    cancel(&c, 2);
    all_exit(&c, 1, 0);
}

static uint64_t others_make_room(void)
{
    node_set(&c, 1, 4);
    struct mr_event victim = job(4, 1000);
    victim.u.submit.preemptible = true;
    (void)submit(&c, victim);
    all_leases(&c, 1, MR_EVENT_LEASE_STARTED);
    return submit(&c, first_class(job(2, 1000)));
}

static void victim_ends(uint64_t w)
{
    (void)w;
    all_exit(&c, 1, MR_EXIT_CODE_REQUEUE);
}

static uint64_t its_last_run_stops(void)
{
    node_set(&c, 1, 4);
    struct mr_event event = job(4, 1000);
    event.u.submit.preemptible = true;
    (void)submit(&c, event);
    all_leases(&c, 1, MR_EVENT_LEASE_STARTED);
    (void)submit(&c, first_class(job(2, 1000)));
    return 1;
}

static uint64_t it_moves(void)
{
    node_set(&c, 1, 4);
    struct mr_event event = job(2, 1000);
    event.u.submit.preemptible = true;
    (void)submit(&c, event);
    all_leases(&c, 1, MR_EVENT_LEASE_STARTED);
    node_set(&c, 2, 4);
    (void)submit(&c, job(1, 3000));
    (void)submit(&c, first_class(job(1, 3000))); /* one is free then beside each of the two */
    return 1;
}

static void both_end(uint64_t w)
{
    all_exit(&c, w, MR_EXIT_CODE_REQUEUE);
    all_exit(&c, 2, 0);
}

static void last_run_ends(uint64_t w)
{
    all_exit(&c, w, MR_EXIT_CODE_REQUEUE);
}

static uint64_t room_is_reserved(void)
{
    node_set(&c, 1, 4);
    (void)submit(&c, limited(10 * MINUTE, job(3, 1000)));
    uint64_t id = submit(&c, job(4, 1000));
    tick(&c, CORE_HOLD_US);
    return id;
}

static uint64_t room_is_held_for_others(void)
{
    (void)room_is_reserved();
    return submit(&c, job(1, 1000)); /* one is free, but held for workload 2 */
}

static void all_before_end(uint64_t w)
{
    (void)w;
    all_exit(&c, 1, 0);
    all_exit(&c, 2, 0);
}

static uint64_t a_service_lacks_a_replica(void)
{
    node_set(&c, 1, 2);
    (void)busy(1, 1000);
    return submit(&c, service(2, 2, 1000));
}

/* --- time ---------------------------------------------------------------------------------------
 */

static uint64_t begins_later(void)
{
    node_set(&c, 1, 1);
    struct mr_event event = job(1, 1000);
    event.u.submit.begin_us = c.now_us + 2 * SECOND;
    return submit(&c, event);
}

static void wait_twice(uint64_t w)
{
    wait(w);
    wait(w);
}

static uint64_t service_begins_later(void)
{
    node_set(&c, 1, 1);
    struct mr_event event = service(1, 1, 1000);
    event.u.submit.begin_us = c.now_us + 2 * SECOND;
    return submit(&c, event);
}

static uint64_t failed_lately(void)
{
    node_set(&c, 1, 1);
    struct mr_event event = job(1, 1000);
    event.u.submit.restarts_max = 3;
    uint64_t id = submit(&c, event);
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    all_exit(&c, id, 1);
    return id;
}

static uint64_t replica_failed_lately(void)
{
    node_set(&c, 1, 1);
    uint64_t id = submit(&c, service(1, 1, 1000));
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    all_exit(&c, id, 1);
    return id;
}

static uint64_t asked_to_be_run_again(void)
{
    node_set(&c, 1, 1);
    uint64_t id = submit(&c, job(1, 1000));
    all_leases(&c, id, MR_EVENT_LEASE_STARTED);
    all_exit(&c, id, MR_EXIT_CODE_REQUEUE);
    return id;
}

/* --- reservations -------------------------------------------------------------------------------
 */

/* Of both nodes, from then on; it is workload 1. */
static void reserve(uint64_t later_us)
{
    struct mr_event like = job(1, 4000);
    c.now_us = SECOND;
    node_set(&c, 1, 4);
    node_set(&c, 2, 4);
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_RESERVE,
                                     .u.reserve = {.tenant = {1},
                                                   .shape = like.u.submit.shape,
                                                   .tasks = 2,
                                                   .begin_us = c.now_us + later_us,
                                                   .end_us = c.now_us + later_us + HOUR}});
    assert_int_equal(c.effects[0].kind, MR_EFFECT_ACCEPTED);
    tick(&c, 0);
}

static struct mr_event member(struct mr_event event)
{
    event.u.submit.reservation.v = 1;
    return event;
}

static uint64_t kept_free(void)
{
    reserve(HOUR);
    return submit(&c, limited(HOUR, job(1, 1000))); /* with its grace a little too long */
}

static uint64_t kept_now(void)
{
    reserve(0);
    return submit(&c, job(1, 1000));
}

static void comes(uint32_t node, uint64_t from_us)
{
    cloud_step(&c, (struct mr_event){.kind = MR_EVENT_NODE_SET,
                                     .u.node = {{node}, 64000, 262144, GPU, 4, 0, 0, 0, from_us}});
}

static uint64_t more_than_the_fleet_has(void)
{
    node_set(&c, 1, 4);
    comes(2, HOUR);
    comes(3, 2 * HOUR);
    return submit(&c, job(3, 4000));
}

static void first_delivery_comes(uint64_t w)
{
    (void)w;
    comes(2, 0);
}

static void both_deliveries_come(uint64_t w)
{
    first_delivery_comes(w);
    comes(3, 0);
}

static uint64_t nothing_came_yet(void)
{
    comes(1, HOUR);
    return submit(&c, job(1, 4000));
}

static void it_comes(uint64_t w)
{
    (void)w;
    comes(1, 0);
}

static uint64_t reservation_begins_later(void)
{
    reserve(2 * SECOND);
    return submit(&c, member(job(1, 1000)));
}

static uint64_t reservation_in_use(void)
{
    reserve(0);
    (void)submit(&c, member(job(1, 4000)));
    return submit(&c, member(job(2, 4000)));
}

static void give_it_back(uint64_t w)
{
    (void)w;
    cancel(&c, 1);
}

/* --- the table ----------------------------------------------------------------------------------
 */

#define GPUS MR_RESOURCE_ACCEL
#define CPU  MR_RESOURCE_CPU
#define MEM  MR_RESOURCE_MEMORY
#define R(x) MR_REASON_##x

static const struct situation table[] = {
    {"devices short", devices_short, R(RESOURCES), GPUS, 2000, 5000, 0, NULL, end_first},
    {"a gang short of one device", devices_short_by_one, R(RESOURCES), GPUS, 1000, 3000, 0,
     half_a_device, end_second},
    {"vCPUs short", cpu_short, R(RESOURCES), CPU, 6000, 30000, 0, wait, end_first},
    {"memory short", memory_short, R(RESOURCES), MEM, 1024, 58368, 0, larger_node_by_too_little,
     larger_node},
    {"devices on several nodes", devices_apart, R(FRAGMENTED), GPUS, 2000, 2000, 0, wait,
     end_first},
    {"vCPUs here, memory there", memory_apart_from_cpu, R(FRAGMENTED), CPU, ANY, 20000, 0, wait,
     end_first},
    {"parts of several devices", parts_of_devices, R(FRAGMENTED), GPUS, 700, 500, 0, wait,
     end_second},
    {"both alternatives full", alternatives_full, R(RESOURCES), GPUS, 1000, 1000, 0, wait,
     end_first},
    {"the least of an elastic gang", least_of_an_elastic_gang, R(RESOURCES), GPUS, 1000, 4000, 0,
     wait, end_first},
    {"spares do not bind", spares_do_not_bind, R(RESOURCES), GPUS, 1000, 4000, 0, wait,
     scale_to_three},
    {"no domain has room", no_domain, R(TOPOLOGY), GPUS, 4000, 4000, 0, wait, end_first},
    {"no block has room", no_block, R(TOPOLOGY), GPUS, 4000, 4000, 0, wait, end_first},
    {"no cell has room", no_cell, R(TOPOLOGY), GPUS, 4000, 4000, 0, wait, end_first},
    {"no node has room for all", no_node, R(TOPOLOGY), GPUS, 4000, 4000, 0, wait, end_first},
    {"no node has so many devices", no_node_so_large, R(NO_SUCH_NODE), GPUS, 4000, 5000, 0,
     add_node_of_four, add_node_of_five},
    {"no node has so many vCPUs", no_node_with_such_cpu, R(NO_SUCH_NODE), CPU, 64000, 65000, 0,
     add_node_of_four, add_large_cpu_node},
    {"no node is large enough for all", no_node_for_all_tasks, R(NO_SUCH_NODE), GPUS, 4000, 5000, 0,
     add_node_of_four, add_node_of_five},
    {"the fleet is empty", empty_fleet, R(FLEET_EMPTY), CPU, 0, 0, 0, wait, add_node},
    {"all of its kind drain", all_draining, R(RESOURCES), GPUS, 1000, 1000, 0, wait, bring_back},
    {"all nodes are down", all_down, R(FLEET_EMPTY), CPU, 0, 0, 0, wait, bring_back},
    {"quota of devices", quota_of_devices, R(QUOTA), GPUS, 5000, 6000, 2000,
     quota_of_devices_just_below, quota_of_devices_raised},
    {"quota of vCPUs", quota_of_cpu, R(QUOTA), CPU, 0, 4000, 5000, quota_of_cpu_just_below,
     quota_of_cpu_raised},
    {"quota of memory", quota_of_memory, R(QUOTA), MEM, 0, 1024, 1536, wait,
     quota_of_memory_raised},
    {"quota of the tenant above", quota_above, R(QUOTA), GPUS, 3000, 4000, 2000, quota_below_raised,
     quota_above_raised},
    {"quota and room: quota first", quota_before_room, R(QUOTA), GPUS, 0, 2000, 4000, end_first,
     quota_and_room},
    {"quota of a service", quota_of_a_service, R(QUOTA), GPUS, 1000, 1000, 1000, wait,
     quota_for_two},
    {"the tenant runs too many", too_many_run, R(TENANT_JOBS), CPU, 2, 2, 0, wait,
     one_more_may_run},
    {"the tenant above runs too many", too_many_run_above, R(TENANT_JOBS), CPU, 1, 1, 0, wait,
     two_may_run},
    {"behind one like it", behind_one_like_it, R(BEHIND), CPU, 1, 0, 0, wait, end_and_cancel},
    {"others make room", others_make_room, R(MAKING_ROOM), CPU, 1, 0, 0, wait, victim_ends},
    {"its last run stops", its_last_run_stops, R(STOPPING), CPU, 1, 0, 0, wait, both_end},
    {"it moves", it_moves, R(STOPPING), CPU, 1, 2, 0, wait, last_run_ends},
    {"room is held for it", room_is_reserved, R(RESERVED), CPU, 10 * MINUTE + 1, 1, 1, wait,
     end_first},
    {"room is held for others", room_is_held_for_others, R(HELD), GPUS, 2, 1000, 10 * MINUTE + 1,
     end_first, all_before_end},
    {"a node is not wholly free", no_node_wholly_free, R(EXCLUSIVE), CPU, 1, 2, 2, wait, end_first},
    {"its group on every node", beside_its_own_group, R(APART), CPU, 1, 3, 0, wait, end_first},
    {"its group in the domain", in_a_domain_of_its_group, R(APART), CPU, 1, 1, 0, other_node,
     other_domain},
    {"quota of whole nodes", quota_of_whole_nodes, R(QUOTA), GPUS, 0, 3000, 4000,
     quota_of_three_and_a_bit, quota_of_four},
    {"a service lacks a replica", a_service_lacks_a_replica, R(RESOURCES), GPUS, 1000, 1000, 0,
     wait, end_first},
    {"kept free for a reservation", kept_free, R(KEPT), CPU, 1, 0, HOUR + SECOND, wait,
     give_it_back},
    {"nodes that would do are reserved", kept_now, R(KEPT), CPU, 1, HOUR + SECOND, SECOND, wait,
     give_it_back},
    {"more than the fleet has until a delivery", more_than_the_fleet_has, R(DELIVERY), GPUS,
     2 * HOUR, 8000, 12000, first_delivery_comes, both_deliveries_come},
    {"nothing was delivered yet", nothing_came_yet, R(DELIVERY), GPUS, HOUR, 4000, 4000, wait,
     it_comes},
    {"its reservation begins later", reservation_begins_later, R(NOT_YET), CPU, 3 * SECOND, 0, 0,
     wait, wait_twice},
    {"its reservation is in use", reservation_in_use, R(RESOURCES), GPUS, 4000, 8000, 0, wait,
     end_second},
    {"begins later", begins_later, R(NOT_YET), CPU, 2 * SECOND + 1, 0, 0, wait, wait_twice},
    {"a service begins later", service_begins_later, R(NOT_YET), CPU, 2 * SECOND + 1, 0, 0, wait,
     wait_twice},
    {"failed a moment ago", failed_lately, R(BACKOFF), CPU, SECOND + 1, 0, 0, NULL, wait},
    {"a replica failed a moment ago", replica_failed_lately, R(BACKOFF), CPU, SECOND + 1, 0, 0,
     NULL, wait},
    {"asked to be run again", asked_to_be_run_again, R(BACKOFF), CPU, SECOND + 1, 0, 0, NULL, wait},
};

static bool runs(uint64_t id)
{
    struct mr_workload_info w = info(&c, id);
    bool service = w.kind != MR_KIND_JOB;
    return w.state == MR_STATE_RUNNING && (!service || w.tasks >= w.target);
}

static void begin(void)
{
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
}

static uint32_t wrong;
#define WRONG(...)                                                                                 \
    do {                                                                                           \
        print_error(__VA_ARGS__);                                                                  \
        wrong++;                                                                                   \
    } while (0)

static void numbers_are(const struct situation *s, const struct mr_reason *reason)
{
    const uint64_t got[3] = {reason->a, reason->b, reason->c}, want[3] = {s->a, s->b, s->c};
    if (reason->code != s->code) {
        WRONG("%s: the reason is %s, not %s\n", s->name, mr_reason_name(reason->code),
              mr_reason_name(s->code));
    }
    if (reason->resource != s->resource) WRONG("%s: another resource\n", s->name);
    for (size_t i = 0; i < 3; i++) {
        if (want[i] == ANY || want[i] == got[i]) continue;
        WRONG("%s: number %zu is %llu, not %llu\n", s->name, i, (unsigned long long)got[i],
              (unsigned long long)want[i]);
    }
}

static void smaller_change_leaves_it(const struct situation *s)
{
    begin();
    uint64_t id = s->build();
    struct mr_reason reason;
    assert_int_equal(mr_core_why(c.core, (struct mr_workload_id){id}, &reason), 0);
    numbers_are(s, &reason);
    if (runs(id)) WRONG("%s: it runs already\n", s->name);
    if (s->too_little != NULL) s->too_little(id);
    if (runs(id)) WRONG("%s: less would do\n", s->name);
    cloud_done(&c);
}

static void change_starts_it(const struct situation *s)
{
    begin();
    uint64_t id = s->build();
    s->change(id);
    if (!runs(id)) {
        WRONG("%s: the change does not start it: %s\n", s->name,
              mr_reason_name(info(&c, id).reason.code));
    }
    cloud_done(&c);
}

static void the_reason_that_is_named_binds(void **state)
{
    (void)state;
    assert_true(MR_COUNT_OF(table) >= 30);
    for (size_t i = 0; i < MR_COUNT_OF(table); i++) {
        smaller_change_leaves_it(&table[i]);
        change_starts_it(&table[i]);
    }
    assert_int_equal(wrong, 0);
}

/* The table of docs/internals/why.md, as it must be. */
static void table_put(struct mr_buf *buf)
{
    for (size_t i = 0; i < MR_COUNT_OF(table); i++) {
        const struct situation *s = &table[i];
        begin();
        uint64_t id = s->build();
        struct mr_reason reason;
        assert_int_equal(mr_core_why(c.core, (struct mr_workload_id){id}, &reason), 0);
        mr_buf_printf(buf, "| %s | %s | ", s->name, mr_reason_name(reason.code));
        mr_reason_put(buf, &reason);
        mr_buf_put_str(buf, MR_STR(" |\n"));
        cloud_done(&c);
    }
}

static void the_page_shows_this_table(void **state)
{
    (void)state;
    struct mr_buf buf, page;
    mr_buf_init(&buf, 1 << 20);
    mr_buf_init(&page, 1 << 20);
    table_put(&buf);
    assert_false(buf.failed);
    FILE *file = fopen(WHY_PAGE, "re");
    assert_non_null(file);
    char bytes[4096];
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, file)) > 0;) {
        mr_buf_put(&page, bytes, n);
    }
    (void)fclose(file);
    mr_buf_put_char(&page, 0);
    mr_buf_put_char(&buf, 0);
    if (strstr((const char *)page.p, (const char *)buf.p) == NULL) {
        (void)printf("the table of docs/internals/why.md must be:\n%s", (const char *)buf.p);
        fail();
    }
    mr_buf_done(&buf);
    mr_buf_done(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reason_that_is_named_binds),
        cmocka_unit_test(the_page_shows_this_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
