/* SPDX-License-Identifier: Apache-2.0 */
/* The checkers: what must hold in the world whatever died.
 *
 * Invariants of the world, by number:
 *  (W1) no node is given more vCPU or memory than it has, no whole device twice;
 *  (W2) two runs of one workload never overlap;
 *  (W3) a gang runs whole: the tasks of a run are its world size;
 *  (W4) what was acknowledged is there after any crash;
 *  (W5) a job that nothing disturbed ends as its own exit code says;
 *  (W6) tokens billed are tokens decoded;
 *  (W7) the ledger has no hole, and a replay of the journal gives the same state;
 *  (W8) work that can go on does: else the verdict is stuck;
 *  (W9) a job that nothing disturbed is billed for as long as its tasks ran, whoever saw it;
 *  (W10) a run lies as its topology, segments and bound ask: sim_place.c.
 *
 * Owns: nothing.
 */
#include <stdio.h>

#include "sim/sim_int.h"

static bool is_held(const struct sim_lease *lease)
{
    return lease->state == SIM_LEASE_ALIVE && !lease->swept;
}

/* Its rules about others; zero when it is not known. */
static struct mr_workload_info rules_of(struct sim *sim, uint64_t workload)
{
    struct mr_workload_info info;
    const struct mr_core *core = mr_ctl_core(sim->ctl);
    if (mr_core_workload(core, (struct mr_workload_id){workload}, &info) != 0)
        info = (struct mr_workload_info){.tasks = 0};
    return info;
}

/* What two workloads that lie on one node at once break; NULL: nothing. */
static const char *broken_beside(const struct mr_workload_info *a, const struct mr_workload_info *b)
{
    if (a->exclusive != MR_EXCLUSIVE_NONE || b->exclusive != MR_EXCLUSIVE_NONE)
        return "of an exclusive workload is shared";
    if (a->apart != 0 && a->apart == b->apart && a->tenant.v == b->tenant.v)
        return "holds two that are kept apart";
    return NULL;
}

static void check_beside(struct sim *sim, const struct mr_workload_info *rules,
                         const struct sim_lease *other)
{
    if (other->workload == rules->id.v) return;
    const struct mr_workload_info others = rules_of(sim, other->workload);
    const char *broken = broken_beside(rules, &others);
    if (broken != NULL) sim_verdict(sim, MR_SIM_WRONG, "W1: node %u %s", other->node, broken);
}

static bool is_near(const struct sim *sim, uint32_t a, uint32_t b, enum mr_spread by)
{
    uint32_t domain = sim_place_of(sim, a, MR_TOPOLOGY_DOMAIN);
    uint32_t block = sim_place_of(sim, a, MR_TOPOLOGY_BLOCK);
    if (a == b) return true;
    if (by == MR_SPREAD_NODE) return false;
    if (domain != 0 && domain == sim_place_of(sim, b, MR_TOPOLOGY_DOMAIN)) return true;
    return by == MR_SPREAD_BLOCK && block != 0 && block == sim_place_of(sim, b, MR_TOPOLOGY_BLOCK);
}

/* Somebody of its group lies on the node, or near by as far as either of them asks. */
static bool is_barred(struct sim *sim, const struct mr_workload_info *info, uint32_t node)
{
    for (size_t i = 0; info->apart != 0 && i < sim->engine.capacity; i++) {
        const struct sim_lease *lease = &sim->engine.leases[i];
        if (!is_held(lease) || lease->workload == info->id.v) continue;
        const struct mr_workload_info other = rules_of(sim, lease->workload);
        if (other.apart != info->apart || other.tenant.v != info->tenant.v) continue;
        if (is_near(sim, lease->node, node, MR_MAX(info->apart_by, other.apart_by))) return true;
    }
    return false;
}

void sim_check_start(struct sim *sim, const struct sim_lease *lease)
{
    const struct mr_workload_info rules = rules_of(sim, lease->workload);
    const struct sim_node *node = &sim->nodes[lease->node];
    uint64_t cpu_milli = 0, mem_mib = 0, devices = 0;
    for (size_t i = 0; i < sim->engine.capacity; i++) {
        const struct sim_lease *other = &sim->engine.leases[i];
        if (!is_held(other)) continue;
        if (other->node == lease->node) {
            cpu_milli += other->cpu_milli;
            mem_mib += other->mem_mib;
            if (other->id != lease->id) devices |= other->devices;
            check_beside(sim, &rules, other);
        }
        if (other->workload == lease->workload && other->run < lease->run && !lease->is_infer) {
            sim_verdict(sim, MR_SIM_WRONG, "W2: run %u of workload %llu starts while run %u lives",
                        lease->run, (unsigned long long)lease->workload, other->run);
        }
    }
    if (cpu_milli > node->cpu_milli || mem_mib > node->mem_mib) {
        sim_verdict(sim, MR_SIM_WRONG, "W1: node %u of %u milli-vCPU, %u MiB is given %llu, %llu",
                    lease->node, node->cpu_milli, node->mem_mib, (unsigned long long)cpu_milli,
                    (unsigned long long)mem_mib);
    }
    if ((devices & lease->devices) != 0 && !lease->shares_device) {
        sim_verdict(sim, MR_SIM_WRONG, "W1: a device of node %u is given twice", lease->node);
    }
}

/* --- gangs ------------------------------------------------------------------------------------ */

/* Those of its tasks that are no spares. */
static uint32_t world_tasks(const struct sim_lease *lease)
{
    if (lease->rank_first >= lease->world_size) return 0;
    return MR_MIN(lease->tasks, lease->world_size - lease->rank_first);
}

static void check_gangs(struct sim *sim)
{
    for (size_t i = 0; i < sim->engine.capacity; i++) {
        const struct sim_lease *lease = &sim->engine.leases[i];
        uint32_t tasks = 0;
        if (lease->state == SIM_LEASE_UNKNOWN) continue;
        struct sim_job *job = sim_job_of(sim, lease->workload);
        if (job != NULL && job->is_service) continue;
        for (size_t k = 0; k < sim->engine.capacity; k++) {
            const struct sim_lease *other = &sim->engine.leases[k];
            if (other->state != SIM_LEASE_UNKNOWN && other->workload == lease->workload &&
                other->run == lease->run) {
                tasks += world_tasks(other);
            }
        }
        if (tasks > lease->world_size || (tasks < lease->world_size && !lease->disturbed)) {
            sim_verdict(sim, MR_SIM_WRONG, "W3: run %u of workload %llu has %u of %u tasks",
                        lease->run, (unsigned long long)lease->workload, tasks, lease->world_size);
        }
    }
}

/* --- the end ---------------------------------------------------------------------------------- */

static bool job_is_disturbed(struct sim *sim, uint64_t workload)
{
    bool disturbed = false;
    for (size_t i = 0; i < sim->engine.capacity; i++) {
        const struct sim_lease *lease = &sim->engine.leases[i];
        if (lease->state != SIM_LEASE_UNKNOWN && lease->workload == workload) {
            disturbed = disturbed || lease->disturbed;
        }
    }
    return disturbed;
}

static bool is_idle(const struct mr_node_info *node)
{
    return node->cpu_free_milli == node->node.cpu_milli &&
           node->mem_free_mib == node->node.mem_mib &&
           node->accel_free_milli == node->node.accel_count * 1000u;
}

/* Whether the smallest form of a waiting job fits into what is free now, on whichever nodes. Whole
 * devices are not looked into: then "no" is right too often, and only a hang may be overlooked. */
static bool could_start(struct sim *sim, const struct mr_workload_info *info)
{
    const struct mr_shape *shape = &info->shape;
    uint64_t fits[SIM_NODES_MAX + 1] = {0};
    if (shape->accel_milli >= 1000) return false;
    for (uint32_t i = 1; i <= sim->c.nodes; i++) {
        struct mr_node_info node;
        if (mr_core_node(mr_ctl_core(sim->ctl), (struct mr_node_id){i}, &node) != 0) continue;
        if (node.state != MR_NODE_UP) continue;
        if (info->exclusive != MR_EXCLUSIVE_NONE && !is_idle(&node)) continue;
        if (is_barred(sim, info, i)) continue;
        uint64_t n =
            MR_MIN(node.cpu_free_milli / shape->cpu_milli, node.mem_free_mib / shape->mem_mib);
        if (shape->accel_milli > 0) n = MR_MIN(n, node.accel_free_milli / shape->accel_milli);
        fits[i] = n;
    }
    return sim_layout_fits(sim, info, fits);
}

/* A gang that is too large for what services leave waits for ever, and rightly. */
static bool waits_rightly(struct sim *sim, const struct mr_workload_info *info)
{
    struct mr_totals totals;
    mr_core_totals(mr_ctl_core(sim->ctl), &totals);
    return info->state == MR_STATE_PENDING && info->lease_count == 0 &&
           totals.running <= SIM_MODELS && !could_start(sim, info);
}

static bool jobs_have_ended(struct sim *sim, char *what, size_t size)
{
    const struct mr_core *core = mr_ctl_core(sim->ctl);
    for (size_t i = 0; i < sim->job_count; i++) {
        const struct sim_job *job = &sim->jobs[i];
        struct mr_workload_info info;
        if (job->workload == 0 || job->is_service) continue;
        if (mr_core_workload(core, (struct mr_workload_id){job->workload}, &info) != 0) {
            sim_verdict(sim, MR_SIM_WRONG, "W4: workload %llu was acknowledged and is not there",
                        (unsigned long long)job->workload);
            return true;
        }
        bool ended = mr_state_final(info.state);
        if (!ended && (job->is_reservation || !waits_rightly(sim, &info))) {
            struct mr_buf why;
            mr_buf_init(&why, 4096);
            mr_reason_put(&why, &info.reason);
            (void)snprintf(what, size, "workload %llu is %s: %.*s",
                           (unsigned long long)job->workload, mr_state_name(info.state),
                           (int)MR_MIN(why.n, 150u), (char *)why.p);
            mr_buf_done(&why);
            return false;
        }
    }
    return true;
}

static uint64_t tokens_billed(struct sim *sim)
{
    const struct mr_core *core = mr_ctl_core(sim->ctl);
    struct mr_bill_line line;
    uint64_t cursor = 0, tokens = 0;
    while (mr_core_bill_next(core, sim->now_us, &cursor, &line) == 0) {
        if (line.sku == MR_SKU_TOKENS_COMPLETION) tokens += line.quantity;
    }
    return tokens;
}

static uint32_t unsettled(struct sim *sim)
{
    uint32_t n = 0;
    for (size_t i = 0; i < sim->engine.capacity; i++) {
        const struct sim_lease *lease = &sim->engine.leases[i];
        if (lease->state == SIM_LEASE_ALIVE && lease->worker != NULL) {
            n += sim_worker_unsettled(lease->worker);
        }
    }
    return n;
}

bool sim_check_quiet(struct sim *sim, char *what, size_t size)
{
    if (!sim->up || !sim->set_up) {
        (void)snprintf(what, size, "the daemon does not come up");
        return false;
    }
    for (uint32_t i = 0; i < sim->c.clients; i++) {
        if (!sim->clients[i].busy && !sim->clients[i].again) continue;
        (void)snprintf(what, size, "caller %u waits for its answer", i);
        return false;
    }
    if (!jobs_have_ended(sim, what, size)) return false;
    if (unsettled(sim) > 0) {
        (void)snprintf(what, size, "%u ends of requests are not settled", unsettled(sim));
        return false;
    }
    if (tokens_billed(sim) < sim->decoded_tokens) {
        (void)snprintf(what, size, "%llu tokens are billed, %llu were decoded",
                       (unsigned long long)tokens_billed(sim),
                       (unsigned long long)sim->decoded_tokens);
        return false;
    }
    return true;
}

static void check_job_ends(struct sim *sim)
{
    const struct mr_core *core = mr_ctl_core(sim->ctl);
    for (size_t i = 0; i < sim->job_count && !sim->failed; i++) {
        const struct sim_job *job = &sim->jobs[i];
        struct mr_workload_info info;
        if (job->workload == 0 || job->is_service || job->cancelled) continue;
        if (job->is_reservation) continue; /* it has no code of its own */
        if (mr_core_workload(core, (struct mr_workload_id){job->workload}, &info) != 0) continue;
        if (!mr_state_final(info.state) || job_is_disturbed(sim, job->workload)) continue;
        bool fine = job->code == 0 ? info.state == MR_STATE_COMPLETED
                                   : info.state == MR_STATE_FAILED && info.exit_code == job->code;
        /* A failing job uses up its restarts first; each run ends by its own code. */
        if (!fine) {
            sim_verdict(sim, MR_SIM_WRONG, "W5: workload %llu ends %s with code %d, its own is %d",
                        (unsigned long long)job->workload, mr_state_name(info.state),
                        info.exit_code, job->code);
        }
    }
}

/* Reports take a moment, and a lease is billed from when its start is known. */
#define REPORT_US_MAX 10000u

static void check_job_time(struct sim *sim, const struct sim_job *job)
{
    /* Then its nodes are billed. */
    bool whole = rules_of(sim, job->workload).exclusive != MR_EXCLUSIVE_NONE;

    const struct mr_core *core = mr_ctl_core(sim->ctl);
    uint64_t cursor = 0, billed = 0, ran = 0, slack = 0;
    struct mr_bill_line line;
    for (size_t i = 0; i < sim->engine.capacity; i++) {
        const struct sim_lease *lease = &sim->engine.leases[i];
        if (lease->state == SIM_LEASE_UNKNOWN || lease->workload != job->workload) continue;
        if (lease->started_us == 0) continue;
        uint32_t cpu_milli = whole ? sim->nodes[lease->node].cpu_milli : lease->cpu_milli;
        ran += (lease->ended_us - lease->started_us) * cpu_milli;
        slack += (uint64_t)REPORT_US_MAX * cpu_milli;
    }
    while (mr_core_bill_next(core, sim->now_us, &cursor, &line) == 0) {
        if (line.workload.v == job->workload && line.sku == MR_SKU_CPU) billed += line.quantity;
    }
    if (billed > ran + slack || billed + slack < ran) {
        sim_verdict(sim, MR_SIM_WRONG,
                    "W9: workload %llu ran for %llu milli-vCPU-us and is billed for %llu",
                    (unsigned long long)job->workload, (unsigned long long)ran,
                    (unsigned long long)billed);
    }
}

static void check_job_times(struct sim *sim)
{
    for (size_t i = 0; i < sim->job_count && !sim->failed; i++) {
        const struct sim_job *job = &sim->jobs[i];
        struct mr_workload_info info;
        if (job->workload == 0 || job->is_service || job->is_reservation) continue;
        if (job_is_disturbed(sim, job->workload)) continue;
        struct mr_workload_id id = {job->workload};
        if (mr_core_workload(mr_ctl_core(sim->ctl), id, &info) != 0) continue;
        if (mr_state_final(info.state)) check_job_time(sim, job);
    }
}

void sim_check_end(struct sim *sim)
{
    const char *text = "";
    check_gangs(sim);
    sim_layout_check(sim);
    check_job_ends(sim);
    check_job_times(sim);
    if (tokens_billed(sim) != sim->decoded_tokens) {
        sim_verdict(sim, MR_SIM_WRONG, "W6: %llu tokens are billed, %llu were decoded",
                    (unsigned long long)tokens_billed(sim),
                    (unsigned long long)sim->decoded_tokens);
    }
    if (mr_core_check(mr_ctl_core(sim->ctl), &text) != 0) {
        sim_verdict(sim, MR_SIM_WRONG, "core: %s", text);
    }
    sim->report->tokens = sim->decoded_tokens;
    sim->report->jobs = sim->job_count;
}
