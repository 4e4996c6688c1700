/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated daemon: ctl and gates wired to the world's ports, and the operator who sets it up.
 *
 * It does what cmd_daemon.c does in the real world, and tries again when it died within.
 *
 * Owns: ctl and the gates of the living incarnation.
 */
#include <stdio.h>

#include "sim/sim_int.h"

enum { SET_TENANT, SET_KEY, SET_TENANTS, SET_NODES = SET_TENANTS + SIM_TENANTS_MAX };

static void operator_next(void *arg);

static void on_fatal(void *arg, int error, struct mr_str text)
{
    struct sim *sim = arg;
    sim_say(sim, "the daemon gives up: %s: %.*s", mr_error_text(error), (int)MR_MIN(text.n, 100u),
            text.p);
    longjmp(sim->jump, SIM_JUMP_CRASH); /* its process ends, as cmd's does */
}

/* --- the operator ----------------------------------------------------------------------------- */

static void operator_done(struct mr_ctl_call *call)
{
    struct sim *sim = call->arg;
    const char *key = call->out.n > 0 ? memmem(call->out.p, call->out.n, "\"key\":\"", 7) : NULL;
    int error = call->error;
    if (error == 0 && sim->set_up_step == SET_KEY && key != NULL) {
        key += 7;
        const char *quote =
            memchr(key, '"', (size_t)((const char *)call->out.p + call->out.n - key));
        MR_ASSERT(quote != NULL);
        (void)snprintf(sim->key, sizeof sim->key, "%.*s", (int)(quote - key), key);
    }
    mr_buf_done(&call->out);
    mr_buf_done(&call->out_text);
    if (error != 0) { /* a full disk: again a little later */
        sim_in_daemon(sim, 50000, operator_next, sim, NULL);
        return;
    }
    sim->set_up_step++;
    operator_next(sim);
}

static void ask(struct sim *sim, enum mr_ctl_op op, uint64_t id)
{
    sim->call = (struct mr_ctl_call){.ctl = sim->ctl,
                                     .op = op,
                                     .reply_lane = 0,
                                     .done = operator_done,
                                     .arg = sim,
                                     .admin = true,
                                     .id = id,
                                     .body = mr_str_from(sim->call_body)};
    mr_ctl_call(&sim->lanes[0].env, &sim->call);
}

void sim_node_describe(const struct sim *sim, uint32_t node, char *ret, size_t size)
{
    const struct sim_node *n = &sim->nodes[node];
    (void)snprintf(ret, size,
                   "{\"id\":%u,\"cpu_milli\":%u,\"mem_mib\":%u,\"accel_count\":%u%s,"
                   "\"domain\":%u,\"block\":%u,\"cell\":%u}",
                   node, n->cpu_milli, n->mem_mib, n->accel_count,
                   n->accel_count > 0 ? ",\"accelerator\":\"SIM\"" : "", n->domain,
                   sim_place_of(sim, node, MR_TOPOLOGY_BLOCK),
                   sim_place_of(sim, node, MR_TOPOLOGY_CELL));
}

static void operator_next(void *arg)
{
    struct sim *sim = arg;
    uint32_t step = sim->set_up_step;
    if (step == SET_TENANT) {
        (void)snprintf(sim->call_body, sizeof sim->call_body, "{\"name\":\"default\"}");
        ask(sim, MR_CTL_TENANT_SET, 0);
    } else if (step == SET_KEY) {
        (void)snprintf(sim->call_body, sizeof sim->call_body,
                       "{\"tenant\":\"default\",\"role\":\"admin\"}");
        ask(sim, MR_CTL_KEY_NEW, 0);
    } else if (step < SET_NODES) {
        uint32_t tenant = step - SET_TENANTS + 1;
        if (tenant > sim->c.tenants) {
            sim->set_up_step = SET_NODES;
            operator_next(sim);
            return;
        }
        (void)snprintf(sim->call_body, sizeof sim->call_body, "{\"name\":\"t%u\"}", tenant);
        ask(sim, MR_CTL_TENANT_SET, 0);
    } else if (step < SET_NODES + sim->c.nodes) {
        uint32_t id = step - SET_NODES + 1;
        sim_node_describe(sim, id, sim->call_body, sizeof sim->call_body);
        ask(sim, MR_CTL_NODE_SET, 0);
    } else if (step < SET_NODES + 2 * sim->c.nodes) {
        /* A new daemon is told which nodes are up; later changes come from sim_run.c. */
        uint32_t id = step - SET_NODES - sim->c.nodes + 1;
        (void)snprintf(sim->call_body, sizeof sim->call_body, "{\"state\":\"%s\"}",
                       sim->nodes[id].up ? "up" : "down");
        ask(sim, MR_CTL_NODE, id);
    } else {
        sim->set_up = true;
        sim_say(sim, "the cloud is set up");
    }
}

/* --- life ------------------------------------------------------------------------------------- */

static void wire_up(struct sim *sim)
{
    struct mr_ctl_listener listeners[SIM_GATES_MAX];
    for (uint32_t i = 0; i < sim->c.gates; i++) {
        struct mr_gate_config config = {.env = &sim->lanes[i + 1].env,
                                        .wire = &sim->lanes[i + 1].wire};
        MR_ASSERT(mr_gate_new(&config, &sim->gates[i]) == 0);
        listeners[i] = mr_gate_listener(sim->gates[i]);
    }
    struct mr_core_limits limits = mr_core_limits_small;
    limits.workloads = MR_MAX(limits.workloads, 4 * sim->c.jobs_max);
    struct mr_ctl_config config = {.env = &sim->lanes[0].env,
                                   .store = &sim->store.base,
                                   .engine = &sim->engine.base,
                                   .limits = limits,
                                   .listeners = listeners,
                                   .listener_count = sim->c.gates,
                                   .snapshot_every_records = sim->c.snapshot_every,
                                   .group_delay_us = sim->c.group_delay_us,
                                   .trace = sim->trace,
                                   .fatal = on_fatal,
                                   .fatal_arg = sim};
    MR_ASSERT(mr_ctl_new(&config, &sim->ctl) == 0);
}

void sim_daemon_start(void *arg)
{
    struct sim *sim = arg;
    struct mr_buf problem;
    sim->starting = true;
    sim->up = true; /* what it asks of the world from here on may be answered */
    sim->memory.tag = sim->incarnation;
    sim->in_daemon = true;
    sim_say(sim, "the daemon starts (incarnation %u)", sim->incarnation);
    wire_up(sim);
    mr_buf_init(&problem, 65536);
    int error = mr_ctl_start(sim->ctl, &problem);
    if (error != 0) {
        sim_verdict(sim, MR_SIM_WRONG, "W7: the state cannot be recovered: %s: %.*s",
                    mr_error_text(error), (int)MR_MIN(problem.n, 200u), (char *)problem.p);
        return;
    }
    mr_buf_done(&problem);
    struct mr_totals totals;
    mr_core_totals(mr_ctl_core(sim->ctl), &totals);
    sim_say(sim, "recovered: record %llu of %llu, %llu events, %u running, %u pending, %u leases",
            (unsigned long long)mr_ctl_seq(sim->ctl), (unsigned long long)sim->store.seq_last,
            (unsigned long long)mr_core_steps(mr_ctl_core(sim->ctl)), totals.running,
            totals.pending, totals.leases);
    for (uint32_t i = 0; i < sim->c.gates; i++)
        mr_gate_ctl_set(sim->gates[i], sim->ctl);
    sim->starting = false;
    sim->set_up = false;
    /* The first start makes tenant and key; each start makes sure of the others, tells the nodes.
     */
    if (sim->key[0] == 0) {
        sim->set_up_step = SET_TENANT;
    } else {
        sim->set_up_step = SET_TENANTS;
    }
    operator_next(sim);
}
