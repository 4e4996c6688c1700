/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated processes: leases that outlive the daemon, end by themselves, are killed, die with
 * nodes.
 *
 * Owns:       every lease of the run, by id; its worker while it lives.
 * Invariants: (1) a lease starts once in the life of the world; (2) an end is reported until it is
 *             forgotten; (3) after it is forgotten nothing of it comes back.
 */
#include "sim/sim_int.h"

#include <stdio.h>

struct sim_tell { /* a report on its way to the daemon */
    struct sim *sim;
    struct mr_engine_report report;
    char text[80];
};

static struct sim_engine *engine_of(struct mr_engine *engine)
{
    return (struct sim_engine *)(void *)engine; /* base is its first member */
}

struct sim_lease *sim_lease_get(struct sim *sim, uint64_t id)
{
    if (id >= sim->engine.capacity || sim->engine.leases[id].state == SIM_LEASE_UNKNOWN)
        return NULL;
    return &sim->engine.leases[id];
}

/* Leases are referred to by id only: the array may move. */
static struct sim_lease *lease_make(struct sim *sim, uint64_t id)
{
    MR_ASSERT(id < 10000000);
    if (id >= sim->engine.capacity) {
        size_t capacity = MR_MAX((size_t)id + 1, 2 * sim->engine.capacity);
        sim->engine.leases = mr_realloc(sim->engine.leases, capacity * sizeof *sim->engine.leases);
        MR_ASSERT(sim->engine.leases != NULL);
        memset(sim->engine.leases + sim->engine.capacity, 0,
               (capacity - sim->engine.capacity) * sizeof *sim->engine.leases);
        sim->engine.capacity = capacity;
    }
    sim->engine.leases[id] = (struct sim_lease){.id = id, .state = SIM_LEASE_ALIVE};
    return &sim->engine.leases[id];
}

/* --- reports ---------------------------------------------------------------------------------- */

static void tell_drop(void *arg)
{
    mr_free(arg);
}

static void tell_run(void *arg)
{
    struct sim_tell *tell = arg;
    struct sim_engine *engine = &tell->sim->engine;
    if (engine->report != NULL) engine->report(engine->report_arg, &tell->report);
    mr_free(tell);
}

static void tell_later(struct sim *sim, const struct mr_engine_report *report, const char *text,
                       uint64_t delay_us)
{
    uint32_t times = sim_chance(sim, sim->c.repeat_ppm) ? 2 : 1;
    if (!sim->up && !sim->starting) return;
    sim->report->faults.reports_repeated += times - 1;
    for (uint32_t i = 0; i < times; i++) {
        struct sim_tell *tell = mr_alloc_zero(sizeof *tell);
        MR_ASSERT(tell != NULL);
        tell->sim = sim;
        tell->report = *report;
        (void)snprintf(tell->text, sizeof tell->text, "%s", text);
        tell->report.text = mr_str_from(tell->text);
        sim_in_daemon(sim, delay_us, tell_run, tell, tell_drop);
    }
}

static void tell(struct sim *sim, enum mr_engine_report_kind kind, const struct sim_lease *lease)
{
    struct mr_engine_report report = {.kind = kind,
                                      .lease = {lease->id},
                                      .checkpoint_step = lease->checkpoint_step,
                                      .exit_kind = lease->exit_kind,
                                      .code = lease->exit_code};
    if (lease->started_us != 0 && kind == MR_ENGINE_EXITED && lease->exit_kind != MR_EXIT_LOST)
        report.ran_us = lease->ended_us - lease->started_us;
    if (lease->started_us != 0 && kind == MR_ENGINE_STARTED)
        report.ran_us = sim->now_us - lease->started_us;
    tell_later(sim, &report, kind == MR_ENGINE_EXITED ? "it ended" : "", sim_draw(sim, 0, 3000));
}

void sim_report_meter(struct sim *sim, const struct sim_lease *lease, uint64_t serial,
                      uint32_t tenant, const struct mr_usage *usage)
{
    struct mr_engine_report report = {.kind = MR_ENGINE_METER,
                                      .lease = {lease->id},
                                      .serial = serial,
                                      .tenant = tenant,
                                      .prompt_tokens = usage->prompt_tokens,
                                      .cached_tokens = usage->cached_tokens,
                                      .completion_tokens = usage->completion_tokens};
    tell_later(sim, &report, "", 0); /* before the EXITED, which is never sooner */
}

/* --- a lease's life --------------------------------------------------------------------------- */

struct sim_alarm {
    struct sim *sim;
    uint64_t lease;
    int kind;
    int32_t code;
};

static void alarm_run(void *arg)
{
    struct sim_alarm alarm = *(struct sim_alarm *)arg;
    struct sim_lease *lease = sim_lease_get(alarm.sim, alarm.lease);
    mr_free(arg);
    if (lease != NULL && lease->state == SIM_LEASE_ALIVE) {
        sim_lease_exit(alarm.sim, lease, alarm.kind, alarm.code);
    }
}

static void exit_later(struct sim *sim, const struct sim_lease *lease, uint64_t delay_us, int kind,
                       int32_t code)
{
    struct sim_alarm *alarm = mr_alloc_zero(sizeof *alarm);
    MR_ASSERT(alarm != NULL);
    *alarm = (struct sim_alarm){.sim = sim, .lease = lease->id, .kind = kind, .code = code};
    sim_in_world(sim, delay_us, alarm_run, alarm);
}

void sim_lease_exit(struct sim *sim, struct sim_lease *lease, int kind, int32_t code)
{
    if (lease->state != SIM_LEASE_ALIVE) return;
    lease->state = SIM_LEASE_EXITED;
    lease->ended_us = sim->now_us;
    lease->exit_kind = kind;
    lease->exit_code = code;
    sim_say(sim, "lease %llu of workload %llu ends: kind %d code %d", (unsigned long long)lease->id,
            (unsigned long long)lease->workload, kind, code);
    if (lease->worker != NULL) sim_worker_end(lease->worker);
    if (!sim->nodes[lease->node].up && sim_draw(sim, 0, 1) == 0) return; /* nobody there to tell */
    tell(sim, MR_ENGINE_EXITED, lease);
}

static void started_later(void *arg)
{
    struct sim_alarm alarm = *(struct sim_alarm *)arg;
    struct sim *sim = alarm.sim;
    struct sim_lease *lease = sim_lease_get(sim, alarm.lease);
    mr_free(arg);
    if (lease == NULL || lease->state != SIM_LEASE_ALIVE) return;
    lease->started_us = sim->now_us;
    tell(sim, MR_ENGINE_STARTED, lease);
    if (lease->is_infer) {
        lease->worker = sim_worker_new(sim, lease);
        lease->started_told = true;
        tell(sim, MR_ENGINE_READY, lease);
        return;
    }
    exit_later(sim, lease, lease->plan_us, MR_EXIT_CODE, lease->plan_code);
}

static uint64_t number_of(struct mr_str text)
{
    uint64_t value = 0;
    return mr_str_to_u64(text, &value) == 0 ? value : 0;
}

/* "job MICROSECONDS CODE CHECKPOINTS SHARES" is what callers submit here. */
static void read_argv(struct sim_lease *lease, const struct mr_engine_start *start)
{
    lease->is_infer = start->argv_count > 0 && mr_str_equal(start->argv[0], MR_STR("infer"));
    lease->shares_device = number_of(start->argv_count >= 5 ? start->argv[4] : MR_STR("0")) != 0;
    if (start->argv_count >= 4) {
        lease->plan_us = number_of(start->argv[1]);
        lease->plan_code = (int32_t)number_of(start->argv[2]);
        lease->checkpoints = number_of(start->argv[3]) != 0;
    }
}

static void known_again(struct sim *sim, struct sim_lease *lease)
{
    lease->adopted_by = sim->incarnation;
    if (lease->state == SIM_LEASE_EXITED) {
        if (lease->worker != NULL) sim_worker_end(lease->worker); /* its meter file is read again */
        tell(sim, MR_ENGINE_EXITED, lease);
        return;
    }
    tell(sim, MR_ENGINE_STARTED, lease);
    if (lease->started_told) tell(sim, MR_ENGINE_READY, lease);
}

/* --- the table -------------------------------------------------------------------------------- */

static void engine_watch(struct mr_engine *engine,
                         void (*report)(void *arg, const struct mr_engine_report *report),
                         void *arg)
{
    engine_of(engine)->report = report;
    engine_of(engine)->report_arg = arg;
}

static void start_new(struct sim *sim, const struct mr_engine_start *start)
{
    struct sim_lease *lease = lease_make(sim, start->lease.v);
    lease->workload = start->workload.v;
    lease->node = start->node.v;
    lease->run = start->run;
    lease->tasks = start->tasks;
    lease->rank_first = start->rank_first;
    lease->world_size = start->world_size;
    lease->devices = start->devices;
    lease->cpu_milli = start->cpu_milli * start->tasks;
    lease->mem_mib = start->mem_mib * start->tasks;
    lease->adopted_by = sim->incarnation;
    read_argv(lease, start);
    sim_say(sim, "lease %llu: workload %llu run %u, %u of %u tasks on node %u",
            (unsigned long long)lease->id, (unsigned long long)lease->workload, lease->run,
            lease->tasks, lease->world_size, lease->node);
    sim_check_start(sim, lease);
    if (!sim->nodes[lease->node].up) {
        lease->disturbed = true;
        sim_lease_exit(sim, lease, MR_EXIT_LOST, 0);
        return;
    }
    if (sim_chance(sim, sim->c.start_fail_ppm)) {
        sim->report->faults.starts_failed++;
        lease->disturbed = true;
        sim_lease_exit(sim, lease, MR_EXIT_START_FAILED, 12);
        return;
    }
    struct sim_alarm *alarm = mr_alloc_zero(sizeof *alarm);
    MR_ASSERT(alarm != NULL);
    *alarm = (struct sim_alarm){.sim = sim, .lease = lease->id};
    sim_in_world(sim, sim_draw(sim, 500, 20000), started_later, alarm);
}

static void engine_start(struct mr_engine *engine, const struct mr_engine_start *start)
{
    struct sim *sim = engine_of(engine)->sim;
    uint32_t tag = sim_enter(sim, true);
    struct sim_lease *lease = sim_lease_get(sim, start->lease.v);
    if (lease != NULL && lease->state == SIM_LEASE_FORGOTTEN) {
        sim_verdict(sim, MR_SIM_WRONG, "lease %llu was started again after its end was forgotten",
                    (unsigned long long)lease->id);
    } else if (lease != NULL) {
        known_again(sim, lease);
    } else if (start->node.v == 0 || start->node.v > sim->c.nodes) {
        sim_verdict(sim, MR_SIM_WRONG, "a lease was started on node %u, which is not there",
                    start->node.v);
    } else {
        start_new(sim, start);
    }
    sim_leave(sim, tag);
}

/* Its start and its stop were decided in one group of records, and the daemon died before it had
 * told us of the start: it never was, so the others of its gang were alone. */
static void never_started(struct sim *sim, struct mr_lease_id id)
{
    struct mr_lease_info info;
    if (mr_core_lease(mr_ctl_core(sim->ctl), id, &info) != 0) return;
    if (info.state != MR_LEASE_STOPPING || info.started_us != 0) return;
    for (size_t i = 0; i < sim->engine.capacity; i++) {
        struct sim_lease *lease = &sim->engine.leases[i];
        if (lease->state != SIM_LEASE_UNKNOWN && lease->workload == info.workload.v)
            lease->disturbed = true;
    }
}

static void engine_adopt(struct mr_engine *engine, struct mr_lease_id id)
{
    struct sim *sim = engine_of(engine)->sim;
    uint32_t tag = sim_enter(sim, true);
    struct sim_lease *lease = sim_lease_get(sim, id.v);
    if (lease != NULL && lease->state != SIM_LEASE_FORGOTTEN) {
        known_again(sim, lease);
    } else {
        struct sim_lease lost = {.id = id.v, .exit_kind = MR_EXIT_LOST};
        never_started(sim, id);
        tell(sim, MR_ENGINE_EXITED, &lost);
    }
    sim_leave(sim, tag);
}

static void engine_stop(struct mr_engine *engine, struct mr_lease_id id, uint64_t grace_us)
{
    struct sim *sim = engine_of(engine)->sim;
    uint32_t tag = sim_enter(sim, true);
    struct sim_lease *lease = sim_lease_get(sim, id.v);
    if (lease != NULL && lease->state == SIM_LEASE_ALIVE) {
        bool kill = grace_us == 0;
        lease->asked_to_stop = true;
        lease->disturbed = true;
        if (lease->checkpoints && !kill && sim_draw(sim, 0, 3) > 0) {
            exit_later(sim, lease, sim_draw(sim, 0, grace_us), MR_EXIT_CODE, MR_EXIT_CODE_REQUEUE);
        } else if (lease->is_infer && !kill) {
            exit_later(sim, lease, sim_draw(sim, 0, MR_MIN(grace_us, SIM_SECOND_US)), MR_EXIT_CODE,
                       0);
        } else {
            exit_later(sim, lease, kill ? sim_draw(sim, 0, 2000) : sim_draw(sim, 0, grace_us),
                       MR_EXIT_SIGNAL, kill ? 9 : 15);
        }
    }
    sim_leave(sim, tag);
}

static void engine_forget(struct mr_engine *engine, struct mr_lease_id id)
{
    struct sim *sim = engine_of(engine)->sim;
    uint32_t tag = sim_enter(sim, true);
    struct sim_lease *lease = sim_lease_get(sim, id.v);
    if (lease != NULL && lease->state == SIM_LEASE_ALIVE) {
        sim_verdict(sim, MR_SIM_WRONG, "lease %llu was forgotten while it runs",
                    (unsigned long long)id.v);
    } else if (lease != NULL) {
        lease->state = SIM_LEASE_FORGOTTEN;
    }
    sim_leave(sim, tag);
}

static void engine_sweep(struct mr_engine *engine)
{
    struct sim *sim = engine_of(engine)->sim;
    uint32_t tag = sim_enter(sim, true);
    for (size_t i = 0; i < sim->engine.capacity; i++) {
        struct sim_lease *lease = &sim->engine.leases[i];
        if (lease->state != SIM_LEASE_ALIVE || lease->adopted_by == sim->incarnation) continue;
        lease->disturbed = true;
        lease->swept = true;
        exit_later(sim, lease, sim_draw(sim, 0, 2000), MR_EXIT_SIGNAL, 9);
    }
    sim_leave(sim, tag);
}

static void engine_address(struct mr_engine *engine, struct mr_lease_id id, struct mr_buf *buf)
{
    struct sim *sim = engine_of(engine)->sim;
    struct sim_lease *lease = sim_lease_get(sim, id.v);
    if (lease != NULL && lease->is_infer) mr_buf_printf(buf, "sim:%llu", (unsigned long long)id.v);
}

static int engine_file_read(struct mr_engine *engine, struct mr_workload_id workload, uint32_t run,
                            uint32_t rank, struct mr_str name, uint64_t offset, size_t max_bytes,
                            struct mr_buf *buf)
{
    (void)engine;
    (void)workload;
    (void)run;
    (void)rank;
    (void)name;
    (void)offset;
    (void)max_bytes;
    (void)buf;
    return MR_ENOT_FOUND;
}

static const struct mr_engine_ops engine_ops = {.watch = engine_watch,
                                                .start = engine_start,
                                                .adopt = engine_adopt,
                                                .stop = engine_stop,
                                                .forget = engine_forget,
                                                .sweep = engine_sweep,
                                                .address = engine_address,
                                                .file_read = engine_file_read};

void sim_engine_init(struct sim *sim)
{
    sim->engine = (struct sim_engine){.base = {.ops = &engine_ops}, .sim = sim};
}

/* --- faults ----------------------------------------------------------------------------------- */

void sim_node_die(struct sim *sim, uint32_t node)
{
    sim_say(sim, "node %u dies", node);
    sim->nodes[node].up = false;
    sim->report->faults.nodes_died++;
    for (size_t i = 0; i < sim->engine.capacity; i++) {
        struct sim_lease *lease = &sim->engine.leases[i];
        bool gone = lease->state == SIM_LEASE_UNKNOWN || lease->state == SIM_LEASE_FORGOTTEN;
        if (gone || lease->node != node) continue;
        lease->disturbed = true; /* its end may not be known yet: the node took that with it */
        sim_lease_exit(sim, lease, MR_EXIT_LOST, 0);
    }
}

void sim_node_back(struct sim *sim, uint32_t node)
{
    for (size_t i = 0; i < sim->engine.capacity; i++) {
        const struct sim_lease *lease = &sim->engine.leases[i];
        if (lease->state == SIM_LEASE_EXITED && lease->node == node)
            tell(sim, MR_ENGINE_EXITED, lease);
    }
}

void sim_worker_kill(struct sim *sim)
{
    uint32_t live = 0;
    for (size_t i = 0; i < sim->engine.capacity; i++) {
        live += sim->engine.leases[i].state == SIM_LEASE_ALIVE;
    }
    if (live == 0) return;
    uint64_t which = sim_draw(sim, 0, live - 1);
    for (size_t i = 0; i < sim->engine.capacity; i++) {
        struct sim_lease *lease = &sim->engine.leases[i];
        if (lease->state != SIM_LEASE_ALIVE || which-- > 0) continue;
        sim->report->faults.workers_killed++;
        lease->disturbed = true;
        sim_lease_exit(sim, lease, MR_EXIT_SIGNAL, 9);
        return;
    }
}
