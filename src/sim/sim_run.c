/* SPDX-License-Identifier: Apache-2.0 */
/* One run: draws its conditions, plays until the load is done, then quietens and is checked.
 *
 * Owns:       the whole world for the length of the call, and base's allocator and panic hook.
 * Invariants: (1) equal seeds give equal runs; (2) the first verdict stands.
 */
#include <stdio.h>

#include "sim/sim_int.h"

#define QUIET_STEPS_MAX 4000000u
#define QUIET_CHECK_US  200000u
#define QUIET_US_MAX    (3ull * 3600u * SIM_SECOND_US)
#define NOISE_US        20000u

/* base's panic hook has no argument; one run at a time is the contract of mr_sim_run. */
static _Thread_local struct sim *running;

static void on_panic(const char *file, int line, const char *what)
{
    struct sim *sim = running;
    const char *slash = strrchr(file, '/');
    (void)snprintf(sim->panic, sizeof sim->panic, "%s:%d: %s", slash != NULL ? slash + 1 : file,
                   line, what);
    longjmp(sim->jump, SIM_JUMP_PANIC);
}

/* --- conditions ------------------------------------------------------------------------------- */

static uint32_t some(struct sim *sim, uint32_t one_in, uint32_t low, uint32_t high)
{
    uint32_t value = (uint32_t)sim_draw(sim, low, high);
    return sim_draw(sim, 1, one_in) == 1 ? value : 0;
}

static void draw_conditions(struct sim *sim, const struct mr_sim_options *options)
{
    struct sim_conditions *c = &sim->c;
    c->nodes = (uint32_t)sim_draw(sim, 1, SIM_NODES_MAX / 2);
    c->gates = (uint32_t)sim_draw(sim, 1, SIM_GATES_MAX);
    c->clients = (uint32_t)sim_draw(sim, 1, SIM_CLIENTS_MAX);
    c->jobs_max = (uint32_t)sim_draw(sim, SIM_MODELS + 1, 40);
    c->tenants = some(sim, 2, 1, SIM_TENANTS_MAX);
    c->quota_permille = c->tenants > 0 ? some(sim, 2, 10, 100) : 0;
    c->reserve_permille = some(sim, 2, 10, 150);
    c->crash_ppm = some(sim, 2, 50, 3000);
    c->crash_call_ppm = some(sim, 2, 50, 3000);
    c->cut_ppm = some(sim, 2, 500, 30000);
    c->node_ppm = some(sim, 2, 1000, 20000);
    c->worker_ppm = some(sim, 2, 1000, 50000);
    c->start_fail_ppm = some(sim, 3, 1000, 100000);
    c->repeat_ppm = some(sim, 2, 1000, 200000);
    c->full_ppm = some(sim, 4, 1000, 50000);
    c->io_ppm = some(sim, 4, 100, 5000);
    c->slow_ppm = some(sim, 3, 1000, 50000);
    c->torn_snapshot_permille = some(sim, 3, 100, 900);
    c->disk_us = (uint32_t)sim_draw(sim, 50, 5000);
    c->net_us = (uint32_t)sim_draw(sim, 20, 5000);
    c->hang_up_permille = some(sim, 2, 50, 500);
    c->snapshot_every = sim_draw(sim, 5, 200);
    c->group_delay_us = sim_draw(sim, 0, 1) * sim_draw(sim, 0, 2000);
    c->steps_max = options->steps_max != 0 ? options->steps_max : sim_draw(sim, 1000, 8000);
    for (uint32_t i = 1; i <= c->nodes; i++) {
        sim->nodes[i] = (struct sim_node){.cpu_milli = (uint32_t)sim_draw(sim, 2, 16) * 1000,
                                          .mem_mib = (uint32_t)sim_draw(sim, 2, 32) * 1024,
                                          .accel_count = some(sim, 2, 1, 8),
                                          .up = true};
    }
    sim_places_draw(sim, options->seed);
    sim_supply_draw(sim, options->seed);
    (void)snprintf(
        sim->report->conditions, sizeof sim->report->conditions,
        "%u nodes, %u gates, %u callers, %u jobs, %u tenants, %llu steps; permille: quota %u "
        "reserve %u expect %u; ppm: crash %u/%u cut %u node %u "
        "worker %u start %u repeat %u full %u io %u slow %u torn %u; places: %u nodes to a "
        "domain, %u to a block, %u to a cell, fail %u move %u",
        c->nodes, c->gates, c->clients, c->jobs_max, c->tenants, (unsigned long long)c->steps_max,
        c->quota_permille, c->reserve_permille, c->expect_permille, c->crash_ppm, c->crash_call_ppm,
        c->cut_ppm, c->node_ppm, c->worker_ppm, c->start_fail_ppm, c->repeat_ppm, c->full_ppm,
        c->io_ppm, c->slow_ppm, c->torn_snapshot_permille, c->domain_nodes, c->block_domains,
        c->cell_blocks, c->domain_ppm, c->move_ppm);
}

/* --- faults that come by themselves ----------------------------------------------------------- */

/* What is said: a node's state, that a whole domain is down, or where a node lies. */
enum said { SAID_STATE, SAID_DOMAIN, SAID_PLACE };

struct sim_node_call {
    struct mr_ctl_call call;
    struct sim *sim;
    enum said said;
    uint32_t node; /* or domain */
    char body[200];
};

static void tell(struct sim *sim, enum said said, uint32_t node);

/* Whether it is on the way, of the node or of all in the domain. */
static void telling_set(struct sim *sim, enum said said, uint32_t node, bool telling)
{
    if (said != SAID_DOMAIN) sim->nodes[node].telling = telling;
    if (said == SAID_PLACE) sim->nodes[node].moving = telling;
    for (uint32_t i = 1; said == SAID_DOMAIN && i <= sim->c.nodes; i++) {
        if (sim->nodes[i].domain == node) sim->nodes[i].telling = telling;
    }
}

static void node_told(struct mr_ctl_call *call)
{
    struct sim_node_call *told = call->arg;
    struct sim *sim = told->sim;
    enum said said = told->said;
    uint32_t node = told->node;
    bool again = call->error != 0;
    telling_set(sim, said, node, false);
    mr_buf_done(&call->out);
    mr_buf_done(&call->out_text);
    mr_free(told);
    if (again) tell(sim, said, node);
}

static void tell_run(void *arg)
{
    struct sim_node_call *told = arg;
    /* Where it lies now: two descriptions name one domain, and the later one must not be the older.
     */
    if (told->said == SAID_PLACE)
        sim_node_describe(told->sim, told->node, told->body, sizeof told->body);
    told->call.body = mr_str_from(told->body);
    told->call.ctl = told->sim->ctl;
    mr_ctl_call(&told->sim->lanes[0].env, &told->call);
}

/* What the world asks of the living daemon, and what dies with it. */
static void *daemon_alloc(struct sim *sim, size_t size_bytes)
{
    uint32_t tag = sim->memory.tag;
    sim->memory.tag = sim->incarnation;
    void *p = mr_alloc_zero(size_bytes);
    sim->memory.tag = tag;
    MR_ASSERT(p != NULL);
    return p;
}

/* The operator's monitoring says so, some time later; a restarted daemon is told anew. */
static void tell(struct sim *sim, enum said said, uint32_t node)
{
    static const enum mr_ctl_op ops[] = {
        [SAID_STATE] = MR_CTL_NODE, [SAID_DOMAIN] = MR_CTL_DOMAIN, [SAID_PLACE] = MR_CTL_NODE_SET};
    if (!sim->up || !sim->set_up) return;
    telling_set(sim, said, node, true);
    struct sim_node_call *told = daemon_alloc(sim, sizeof *told);
    told->sim = sim;
    told->said = said;
    told->node = node;
    (void)snprintf(told->body, sizeof told->body, "{\"state\":\"%s\"}",
                   said == SAID_STATE && sim->nodes[node].up ? "up" : "down");
    told->call = (struct mr_ctl_call){
        .op = ops[said], .done = node_told, .arg = told, .admin = true, .id = node};
    sim_in_daemon(sim, sim_draw(sim, 1000, SIM_SECOND_US), tell_run, told, NULL);
}

/* A node that is said to be down stays down until that is known: it is fenced, as a real one is. */
static bool node_may_change(const struct sim *sim, uint32_t node)
{
    return sim->up ? sim->set_up && !sim->nodes[node].telling : true;
}

/* A rack loses its power: one event, whatever of it was up. */
static void domain_fail(struct sim *sim, uint32_t domain)
{
    uint32_t up = 0;
    for (uint32_t i = 1; i <= sim->c.nodes; i++) {
        if (sim->nodes[i].moving) return; /* the daemon may think that it is in this one still */
        if (sim->nodes[i].domain != domain) continue;
        if (!node_may_change(sim, i)) return;
        up += sim->nodes[i].up;
    }
    if (up == 0) return;
    sim_say(sim, "domain %u fails", domain);
    for (uint32_t i = 1; i <= sim->c.nodes; i++) {
        if (sim->nodes[i].domain == domain && sim->nodes[i].up) sim_node_die(sim, i);
    }
    tell(sim, SAID_DOMAIN, domain);
}

static void places_noise(struct sim *sim)
{
    for (uint32_t i = 1; sim->c.domain_ppm != 0 && i <= sim->c.nodes; i++) {
        if (sim_chance(sim, sim->c.domain_ppm)) domain_fail(sim, i);
    }
    for (uint32_t i = 1; sim->c.move_ppm != 0 && i <= sim->c.nodes; i++) {
        if (!sim_chance(sim, sim->c.move_ppm)) continue;
        if (!sim->nodes[i].up || !node_may_change(sim, i)) continue;
        if (sim_place_move(sim, i)) tell(sim, SAID_PLACE, i);
    }
}

static void noise(void *arg)
{
    struct sim *sim = arg;
    if (sim->failed) return;
    for (uint32_t i = 1; i <= sim->c.nodes; i++) {
        if (!node_may_change(sim, i)) continue;
        bool changes = sim->nodes[i].up ? sim_chance(sim, sim->c.node_ppm)
                                        : sim->quiet || sim_draw(sim, 0, 99) == 0;
        if (!changes) continue;
        if (sim->nodes[i].up) {
            sim_node_die(sim, i);
        } else {
            sim_say(sim, "node %u is back", i);
            sim->nodes[i].up = true;
            sim_node_back(sim, i);
        }
        tell(sim, SAID_STATE, i);
    }
    places_noise(sim);
    if (sim_chance(sim, sim->c.worker_ppm)) sim_worker_kill(sim);
    sim_in_world(sim, NOISE_US, noise, sim);
}

/* --- the loop --------------------------------------------------------------------------------- */

/* Runs the next item. setjmp stands in a function of its own, so that no local lives across it. */
static void step(struct sim *sim)
{
    struct sim_item item;
    int jumped = setjmp(sim->jump);
    if (jumped != 0) {
        sim->in_daemon = false;
        sim->memory.tag = 0;
        if (jumped == SIM_JUMP_PANIC) {
            sim_verdict(sim, MR_SIM_CRASH, "%s", sim->panic);
        } else {
            sim_crash(sim);
        }
        return;
    }
    if (!sim_queue_take(&sim->queue, &item)) {
        sim_verdict(sim, MR_SIM_STUCK, "nothing will happen any more");
        return;
    }
    sim->now_us = MR_MAX(sim->now_us, item.at_us);
    sim->report->steps++;
    if (item.incarnation != 0 && item.incarnation != sim->incarnation) {
        if (item.drop != NULL) item.drop(item.arg);
        return;
    }
    if (sim->up && !sim->starting && sim_chance(sim, sim->c.crash_ppm)) {
        sim->report->faults.crashes++;
        if (item.incarnation == 0) MR_ASSERT(sim_queue_put(&sim->queue, &item));
        if (item.incarnation != 0 && item.drop != NULL) item.drop(item.arg);
        sim_crash(sim);
        return;
    }
    sim->in_daemon = item.incarnation != 0;
    sim->memory.tag = item.incarnation;
    item.fn(item.arg);
    sim->in_daemon = false;
    sim->memory.tag = 0;
}

static void play(struct sim *sim)
{
    while (!sim->failed && sim->report->steps < sim->c.steps_max)
        step(sim);
}

struct sim_lift_call {
    struct mr_ctl_call call;
    struct sim *sim;
    char body[160];
};

static void quotas_lift(void *arg);

static void quota_lifted(struct mr_ctl_call *call)
{
    struct sim_lift_call *lift = call->arg;
    struct sim *sim = lift->sim;
    if (call->error == 0) sim->lifted++;
    mr_buf_done(&call->out);
    mr_buf_done(&call->out_text);
    mr_free(lift);
    sim_in_world(sim, 2 * SIM_SECOND_US, quotas_lift, sim); /* behind what callers still set */
}

static void lift_run(void *arg)
{
    struct sim_lift_call *lift = arg;
    lift->call.ctl = lift->sim->ctl;
    mr_ctl_call(&lift->sim->lanes[0].env, &lift->call);
}

/* Work that waits for a quota would wait for ever: the operator takes them off, one by one. */
static void quotas_lift(void *arg)
{
    struct sim *sim = arg;
    if (sim->lifted >= sim->c.tenants) return;
    bool busy = !sim->up || !sim->set_up;
    for (uint32_t i = 0; i < sim->c.clients; i++) {
        busy = busy || sim->clients[i].busy || sim->clients[i].again;
    }
    if (busy) {
        sim_in_world(sim, 50000, quotas_lift, sim);
        return;
    }
    struct sim_lift_call *lift = daemon_alloc(sim, sizeof *lift);
    lift->sim = sim;
    (void)snprintf(lift->body, sizeof lift->body,
                   "{\"name\":\"t%u\",\"quota\":{\"cpus\":null,\"accelerators\":null}}",
                   sim->lifted + 1);
    lift->call = (struct mr_ctl_call){.op = MR_CTL_TENANT_SET,
                                      .done = quota_lifted,
                                      .arg = lift,
                                      .admin = true,
                                      .body = mr_str_from(lift->body)};
    sim_in_daemon(sim, 1000, lift_run, lift, NULL);
}

/* No more faults, no new wishes: everything that was begun must now come to its end. */
static void quieten(struct sim *sim)
{
    char what[300] = "nothing was checked";
    uint64_t end_steps = sim->report->steps + QUIET_STEPS_MAX, end_us = sim->now_us + QUIET_US_MAX;
    uint64_t check_us = sim->now_us;
    sim->quiet = true;
    sim_say(sim, "quiet from here on");
    quotas_lift(sim);
    while (!sim->failed) {
        step(sim);
        if (sim->now_us < check_us || sim->failed) continue;
        check_us = sim->now_us + QUIET_CHECK_US;
        if (sim_check_quiet(sim, what, sizeof what)) return;
        if (sim->report->steps > end_steps || sim->now_us > end_us) {
            sim_verdict(sim, MR_SIM_STUCK, "W8: %s", what);
        }
    }
}

/* The daemon dies once more: what a replay makes must be what there was. */
static void replay(struct sim *sim)
{
    uint64_t seq = mr_ctl_seq(sim->ctl);
    uint64_t hash = mr_core_hash(mr_ctl_core(sim->ctl));
    sim->report->events = mr_core_steps(mr_ctl_core(sim->ctl));
    if (seq != sim->store.seq_last) return; /* something is on its way: it would differ */
    sim_crash(sim);
    while (!sim->failed && (!sim->up || sim->starting)) {
        step(sim);
        if (sim->up && !sim->starting) break;
    }
    if (sim->failed || sim->store.seq_last != seq) return;
    uint64_t again = mr_core_hash(mr_ctl_core(sim->ctl));
    if (again != hash) {
        sim_verdict(sim, MR_SIM_WRONG, "W7: a replay of record %llu gives hash %llx, it was %llx",
                    (unsigned long long)seq, (unsigned long long)again, (unsigned long long)hash);
    }
}

static void check_all(struct sim *sim)
{
    int jumped = setjmp(sim->jump);
    if (jumped != 0) {
        sim_verdict(sim, MR_SIM_CRASH, "%s",
                    jumped == SIM_JUMP_PANIC ? sim->panic : "a late death");
        return;
    }
    sim_check_end(sim);
}

int mr_sim_run(const struct mr_sim_options *options, struct mr_sim_report *ret_report)
{
    struct sim *sim = mr_alloc_zero(sizeof *sim);
    if (sim == NULL) return MR_ENO_MEMORY;
    *ret_report = (struct mr_sim_report){.seed = options->seed};
    sim->report = ret_report;
    sim->trace = options->trace;
    sim_memory_init(&sim->memory);
    struct mr_allocator allocator = {.realloc = sim_memory_realloc, .context = &sim->memory};
    mr_allocator_set(&allocator);
    running = sim;
    mr_panic_hook_set(on_panic);
    mr_prng_init(&sim->prng, options->seed);
    sim->now_us = 1700000000ull * SIM_SECOND_US;
    uint64_t begin_us = sim->now_us;
    sim->incarnation = 1;
    draw_conditions(sim, options);
    sim_say(sim, "seed %llu: %s", (unsigned long long)options->seed, ret_report->conditions);
    sim_env_init(sim);
    sim_wire_init(sim);
    sim_store_init(sim);
    sim_engine_init(sim);
    sim_restart_later(sim);
    sim_clients_start(sim);
    sim_in_world(sim, NOISE_US, noise, sim);
    play(sim);
    if (!sim->failed) quieten(sim);
    if (!sim->failed) check_all(sim);
    if (!sim->failed) replay(sim);
    ret_report->virtual_us = sim->now_us - begin_us;
    mr_panic_hook_set(NULL);
    running = NULL;
    sim_memory_done(&sim->memory); /* the world and every daemon in it */
    mr_allocator_set(NULL);
    mr_free(sim);
    return 0;
}
