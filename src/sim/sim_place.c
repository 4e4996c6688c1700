/* SPDX-License-Identifier: Apache-2.0 */
/* Places of the simulated world: which nodes lie in which NVLink domain, block and cell, what jobs
 * ask of them, and whether they got it.
 *
 * Whether a world has places is drawn from the seed, but aside: a world without them is the one
 * that its seed was before there were any, so seeds that are kept show what they were kept for.
 *
 * Owns:       nothing.
 * Invariants: (W10) a run lies within its topology, each of its segments in one domain, and no
 *             place holds more of it than its bound.
 */
#include <stdio.h>

#include "sim/sim_int.h"

#define ASIDE 0x706c616365730003ull /* keeps the seeds of tests/sim/seeds.txt without places */

/* --- where nodes lie -------------------------------------------------------------------------- */

static void conditions_draw(struct sim_conditions *c, struct mr_prng *aside)
{
    c->domain_nodes = 2 + (uint32_t)mr_prng_below(aside, 4);
    c->block_domains = 1 + (uint32_t)mr_prng_below(aside, 3);
    c->cell_blocks = 1 + (uint32_t)mr_prng_below(aside, 2);
    if (mr_prng_chance(aside, 500)) c->domain_ppm = 200 + (uint32_t)mr_prng_below(aside, 3000);
    if (mr_prng_chance(aside, 500)) c->move_ppm = 200 + (uint32_t)mr_prng_below(aside, 5000);
}

void sim_places_draw(struct sim *sim, uint64_t seed)
{
    struct sim_conditions *c = &sim->c;
    struct mr_prng aside;
    uint32_t before = c->nodes;
    mr_prng_init(&aside, seed ^ ASIDE);
    if (mr_prng_chance(&aside, 500)) return;
    conditions_draw(c, &aside);
    c->nodes = MR_MIN(2 * before, SIM_NODES_MAX);
    for (uint32_t i = before + 1; i <= c->nodes; i++) {
        sim->nodes[i] = sim->nodes[i - before];
    }
    for (uint32_t i = 1; i <= c->nodes; i++) {
        uint32_t domain = 1 + (i - 1) / c->domain_nodes,
                 block = 1 + (domain - 1) / c->block_domains;
        sim->block_of[domain] = mr_prng_chance(&aside, 900) ? block : 0;
        sim->cell_of[block] = 1 + (block - 1) / c->cell_blocks;
        sim->nodes[i].domain = mr_prng_chance(&aside, 900) ? domain : 0;
        sim->nodes[i].block = block;
    }
}

uint32_t sim_place_of(const struct sim *sim, uint32_t node, enum mr_topology level)
{
    const struct sim_node *n = &sim->nodes[node];
    uint32_t block = n->domain != 0 ? sim->block_of[n->domain] : n->block;
    if (level == MR_TOPOLOGY_NODE) return node;
    if (level == MR_TOPOLOGY_DOMAIN) return n->domain;
    return level == MR_TOPOLOGY_BLOCK ? block : sim->cell_of[block]; /* of no block: none */
}

/* What is said of all its nodes at once must not meet one that it was not said of. */
static bool domain_is_told(const struct sim *sim, uint32_t domain)
{
    bool telling = false;
    for (uint32_t i = 1; i <= sim->c.nodes; i++) {
        telling = telling || (sim->nodes[i].domain == domain && sim->nodes[i].telling);
    }
    return telling;
}

bool sim_place_move(struct sim *sim, uint32_t node)
{
    uint32_t domains = (sim->c.nodes - 1) / sim->c.domain_nodes + 1;
    uint32_t to = (uint32_t)sim_draw(sim, 0, domains);
    struct sim_node *n = &sim->nodes[node];
    bool whole = n->domain != 0 && sim_draw(sim, 0, 3) == 0;
    if (!whole && domain_is_told(sim, to)) return false;
    if (whole)
        sim->block_of[n->domain] = to;
    else
        n->domain = to;
    sim_say(sim, "node %u lies in domain %u, block %u", node, n->domain,
            sim_place_of(sim, node, MR_TOPOLOGY_BLOCK));
    return true;
}

/* --- what is asked ---------------------------------------------------------------------------- */

void sim_layout_draw(struct sim *sim, struct sim_job *job, bool may_spread, uint32_t *low,
                     uint32_t *high)
{
    static const enum mr_topology outer[] = {MR_TOPOLOGY_ANY, MR_TOPOLOGY_ANY,
                                             MR_TOPOLOGY_PREFER_DOMAIN, MR_TOPOLOGY_BLOCK,
                                             MR_TOPOLOGY_CELL};
    uint64_t draw = sim_draw(sim, 0, 9);
    if (draw < 3) {
        job->topology = (enum mr_topology)sim_draw(sim, 1, MR_TOPOLOGY_COUNT - 1);
    } else if (draw < 6) {
        bool elastic = *high > *low;
        job->segment = (uint32_t)sim_draw(sim, 1, 3);
        job->topology = outer[sim_draw(sim, 0, MR_COUNT_OF(outer) - 1)];
        *low = job->segment * (uint32_t)sim_draw(sim, 1, 3);
        *high = *low + (elastic ? job->segment * (uint32_t)sim_draw(sim, 1, 2) : 0);
    } else if (draw < 8 && may_spread) {
        job->spread = (enum mr_spread)sim_draw(sim, 1, MR_SPREAD_COUNT - 1);
        job->spread_max = (uint32_t)sim_draw(sim, 0, 2);
    }
}

size_t sim_layout_put(const struct sim_job *job, char *ret, size_t size)
{
    static const char *const topologies[MR_TOPOLOGY_COUNT] = {"any",    "prefer_domain", "node",
                                                              "domain", "block",         "cell"};
    static const char *const spreads[MR_SPREAD_COUNT] = {"none", "node", "domain", "block"};
    int n = snprintf(ret, size, "\"topology\":\"%s\",", topologies[job->topology]);
    if (job->segment != 0)
        n += snprintf(ret + n, size - (size_t)n, "\"segment\":%u,", job->segment);
    if (job->spread != MR_SPREAD_NONE)
        n += snprintf(ret + n, size - (size_t)n, "\"spread\":\"%s\",", spreads[job->spread]);
    if (job->spread_max != 0)
        n += snprintf(ret + n, size - (size_t)n, "\"spread_max\":%u,", job->spread_max);
    return (size_t)n;
}

/* --- whether it would fit --------------------------------------------------------------------- */

/* A node that is in none is a place of its own, above all that there are. */
static uint32_t own_place(const struct sim *sim, uint32_t node, enum mr_topology level)
{
    uint32_t place = sim_place_of(sim, node, level);
    return place != 0 ? place : SIM_NODES_MAX + node;
}

/* Over the places of the level that lie in the outer one: what fits in each, at most `most`, and
 * whole segments of it alone. Outer level ANY: all. */
struct fitting {
    const uint64_t *fits;
    enum mr_topology level, outer_level;
    uint32_t outer, segment;
    uint64_t most;
    bool in_place; /* nodes that are in none do not count */
};

static uint64_t fitting_sum(const struct sim *sim, const struct fitting *f)
{
    uint64_t by_place[2 * SIM_NODES_MAX + 1] = {0}, sum = 0;
    for (uint32_t i = 1; i <= sim->c.nodes; i++) {
        bool in =
            f->outer_level == MR_TOPOLOGY_ANY || sim_place_of(sim, i, f->outer_level) == f->outer;
        if (in) by_place[own_place(sim, i, f->level)] += f->fits[i];
    }
    uint32_t end = f->in_place && f->level != MR_TOPOLOGY_NODE ? SIM_NODES_MAX : 2 * SIM_NODES_MAX;
    for (uint32_t p = 1; p <= end; p++) {
        sum += MR_MIN(by_place[p], f->most) / f->segment * f->segment;
    }
    return sum;
}

bool sim_layout_fits(const struct sim *sim, const struct mr_workload_info *info,
                     const uint64_t fits[SIM_NODES_MAX + 1])
{
    static const enum mr_topology levels[] = {[MR_SPREAD_NONE] = MR_TOPOLOGY_NODE,
                                              [MR_SPREAD_NODE] = MR_TOPOLOGY_NODE,
                                              [MR_SPREAD_DOMAIN] = MR_TOPOLOGY_DOMAIN,
                                              [MR_SPREAD_BLOCK] = MR_TOPOLOGY_BLOCK};
    struct fitting f = {
        .fits = fits, .level = levels[info->spread], .segment = 1, .most = UINT64_MAX};
    if (info->spread_max != 0) {
        f.most = info->spread_max;
        f.in_place = true;
    } else if (info->segment != 0) {
        f.level = MR_TOPOLOGY_DOMAIN;
        f.segment = info->segment;
    }
    if (info->topology < MR_TOPOLOGY_NODE) return fitting_sum(sim, &f) >= info->tasks_min;
    /* Segments are looked for in places alone. */
    uint32_t narrowest = info->segment != 0 ? MR_TOPOLOGY_DOMAIN : MR_TOPOLOGY_NODE;
    for (uint32_t level = narrowest; level <= info->topology; level++) {
        f.outer_level = (enum mr_topology)level;
        for (f.outer = 1; f.outer <= SIM_NODES_MAX; f.outer++) {
            if (fitting_sum(sim, &f) >= info->tasks_min) return true;
        }
    }
    return false;
}

/* --- whether it lay so ------------------------------------------------------------------------ */

static bool same_run(const struct sim_lease *a, const struct sim_lease *b)
{
    return b->state != SIM_LEASE_UNKNOWN && a->workload == b->workload && a->run == b->run;
}

/* All of the run in the place that the lease lies in. */
static bool run_in(const struct sim *sim, const struct sim_lease *lease, enum mr_topology level)
{
    uint32_t place = sim_place_of(sim, lease->node, level);
    for (size_t i = 0; i < sim->engine.capacity && place != 0; i++) {
        const struct sim_lease *other = &sim->engine.leases[i];
        if (same_run(lease, other) && sim_place_of(sim, other->node, level) != place) return false;
    }
    return place != 0;
}

/* No other lease shares a segment with it and lies in another domain. */
static bool segment_whole(const struct sim *sim, const struct sim_lease *a, uint32_t segment)
{
    uint32_t a_end = MR_MIN(a->rank_first + a->tasks, a->world_size);
    for (size_t i = 0; i < sim->engine.capacity; i++) {
        const struct sim_lease *b = &sim->engine.leases[i];
        if (!same_run(a, b) || b->rank_first < a->rank_first) continue;
        if (b->rank_first >= b->world_size || b->rank_first / segment > (a_end - 1) / segment)
            continue;
        if (own_place(sim, a->node, MR_TOPOLOGY_DOMAIN) !=
            own_place(sim, b->node, MR_TOPOLOGY_DOMAIN))
            return false;
    }
    return true;
}

/* Its tasks in the place of the lease. */
static uint32_t run_count(const struct sim *sim, const struct sim_lease *lease,
                          enum mr_topology level)
{
    uint32_t place = sim_place_of(sim, lease->node, level), count = 0;
    for (size_t i = 0; i < sim->engine.capacity; i++) {
        const struct sim_lease *other = &sim->engine.leases[i];
        if (same_run(lease, other) && sim_place_of(sim, other->node, level) == place)
            count += other->tasks;
    }
    return count;
}

static const char *broken_by(const struct sim *sim, const struct sim_lease *lease,
                             const struct sim_job *job)
{
    bool within = job->topology < MR_TOPOLOGY_NODE;
    for (uint32_t level = MR_TOPOLOGY_NODE; !within && level <= job->topology; level++) {
        within = run_in(sim, lease, (enum mr_topology)level);
    }
    if (!within) return "lies in no one place of its topology";
    bool of_world = lease->rank_first < lease->world_size;
    if (job->segment != 0 && of_world && !segment_whole(sim, lease, job->segment))
        return "has a segment in two domains";
    enum mr_topology level = job->spread == MR_SPREAD_DOMAIN  ? MR_TOPOLOGY_DOMAIN
                             : job->spread == MR_SPREAD_BLOCK ? MR_TOPOLOGY_BLOCK
                                                              : MR_TOPOLOGY_NODE;
    if (job->spread_max != 0 && run_count(sim, lease, level) > job->spread_max)
        return "has more tasks in a place than its bound";
    return NULL;
}

void sim_layout_check(struct sim *sim)
{
    if (sim->c.move_ppm != 0) return; /* what lay together then need not now */
    for (size_t i = 0; i < sim->engine.capacity; i++) {
        const struct sim_lease *lease = &sim->engine.leases[i];
        if (lease->state == SIM_LEASE_UNKNOWN) continue;
        const struct sim_job *job = sim_job_of(sim, lease->workload);
        const char *broken = job != NULL ? broken_by(sim, lease, job) : NULL;
        if (broken != NULL)
            sim_verdict(sim, MR_SIM_WRONG, "W10: run %u of workload %llu %s", lease->run,
                        (unsigned long long)lease->workload, broken);
    }
}
