/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes that fail and come back, at rates that were published.
 *
 * llama3: 419 unexpected interruptions of 16,384 GPUs in 54 days (Llama 3 405B): 4.74e-4 a device
 * and day. rsc: six times that, as a fleet of A100 saw it. Of a thousand failures 12 take the whole
 * NVLink domain along (power and chassis were 5 of those 419). In rsc one node in a hundred fails
 * twenty times as often as the others. That 70 % are back after 15 minutes (a restart) and the
 * others after a day (a part is changed) is our assumption. A machine without devices fails as
 * often as one device. A node that core keeps out as a suspect is looked into within two days and
 * then fails as others do.
 *
 * Owns:       the state of chance, the nodes that are down and when they come back.
 * Invariants: (1) equal seeds give equal failures, whatever core decides.
 * Never:      a clock, libm: equal on every machine.
 * Cost:       O(log nodes) a failure; a domain's failure is linear in its nodes.
 * Idea:       docs/internals/sim.md   Tests: tests/unit/sim/test_sim_failure.c
 */
#include <stdlib.h>
#include <string.h>

#include "sim_play_int.h"

#define RATE_LLAMA3     4.74e-4 /* a device and day */
#define RSC_TIMES       6.0
#define RACK_PERMILLE   12u
#define LEMON_PERMILLE  10u
#define LEMON_TIMES     20u
#define SHORT_PER_CENT  70u
#define REPAIR_SHORT_US (UINT64_C(15) * 60 * SIM_SECOND_US)
#define REPAIR_LONG_US  (UINT64_C(86400) * SIM_SECOND_US)
#define SUSPECT_US      (UINT64_C(2) * 86400 * SIM_SECOND_US) /* until it was looked into */
#define DAY_US          86400e6

struct repair {
    uint64_t time_us;
    uint32_t node, pad;
};
struct sim_play_failures {
    struct mr_prng prng;
    double rate_per_us; /* of the whole fleet */
    uint64_t next_us;
    uint32_t weight_max;
    struct repair *repairs; /* heap */
    uint32_t repair_count, repair_room;
};

/* -ln(u) of a number in (0, 1]: by halving into [1/2, 1], then the series of artanh. Only sums and
 * products, so equal everywhere. */
double sim_minus_ln(double u)
{
    double ln2 = 0.69314718055994530942, sum = 0;
    while (u < 0.5) {
        u *= 2;
        sum += ln2;
    }
    double y = (1 - u) / (1 + u), square = y * y, term = y, series = 0;
    for (int i = 1; i < 60; i += 2) {
        series += term / i;
        term *= square;
    }
    return sum + 2 * series;
}

uint64_t sim_draw_exponential(struct mr_prng *prng, double mean_us)
{
    double u = (double)((mr_prng_next(prng) >> 11) + 1) / 9007199254740992.0; /* 2^53 */
    double us = mean_us * sim_minus_ln(u);
    return us >= 9e18 ? (uint64_t)9e18 : (uint64_t)us;
}

static uint32_t weight_of(const struct sim_play *p, uint32_t node)
{
    uint32_t devices = MR_MAX(p->fleet->nodes[node].node.accel_count, 1u);
    return p->nodes[node].lemon ? devices * LEMON_TIMES : devices;
}

static void next_draw(struct sim_play *p)
{
    struct sim_play_failures *f = p->failures;
    uint64_t in_us = sim_draw_exponential(&f->prng, 1 / f->rate_per_us);
    if (!mr_add_u64(p->replay.now_us, MR_MAX(in_us, 1u), &f->next_us)) f->next_us = UINT64_MAX;
}

int sim_failure_init(struct sim_play *p, struct mr_buf *problem)
{
    struct mr_str model = p->options->failures;
    bool rsc = mr_str_equal(model, MR_STR("rsc"));
    if (model.n == 0 || mr_str_equal(model, MR_STR("none"))) return 0;
    if (!rsc && !mr_str_equal(model, MR_STR("llama3"))) {
        mr_buf_printf(problem, "no failure model is called '%.*s'; there are: llama3 rsc none",
                      MR_STR_ARG(model));
        return MR_EINVALID;
    }
    struct sim_play_failures *f = mr_alloc_zero(sizeof *f);
    if (f == NULL) return MR_ENO_MEMORY;
    p->failures = f;
    p->failing = true;
    mr_prng_init(&f->prng, p->options->seed ^ 0x6661696c75726573u);
    uint64_t weight = 0;
    for (uint32_t i = 0; i < p->fleet->node_count; i++) {
        p->nodes[i].lemon = rsc && mr_prng_chance(&f->prng, LEMON_PERMILLE);
        weight += weight_of(p, i);
        f->weight_max = MR_MAX(f->weight_max, weight_of(p, i));
    }
    f->rate_per_us = RATE_LLAMA3 * (rsc ? RSC_TIMES : 1) * (double)weight / DAY_US;
    next_draw(p);
    return 0;
}

void sim_failure_done(struct sim_play *p)
{
    if (p->failures == NULL) return;
    mr_free(p->failures->repairs);
    mr_free(p->failures);
    p->failures = NULL;
}

uint64_t sim_failure_next_us(const struct sim_play *p)
{
    const struct sim_play_failures *f = p->failures;
    if (f == NULL) return UINT64_MAX;
    return f->repair_count > 0 ? MR_MIN(f->next_us, f->repairs[0].time_us) : f->next_us;
}

static bool sooner(const struct repair *a, const struct repair *b)
{
    return a->time_us != b->time_us ? a->time_us < b->time_us : a->node < b->node;
}

static bool repair_push(struct sim_play_failures *f, struct repair repair)
{
    if (f->repair_count == f->repair_room) {
        uint32_t room = MR_MAX(256u, f->repair_room * 2);
        struct repair *grown = mr_realloc(f->repairs, room * sizeof *grown);
        if (grown == NULL) return false;
        f->repairs = grown;
        f->repair_room = room;
    }
    uint32_t at = f->repair_count++;
    while (at > 0 && sooner(&repair, &f->repairs[(at - 1) / 2])) {
        f->repairs[at] = f->repairs[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    f->repairs[at] = repair;
    return true;
}

static struct repair repair_pop(struct sim_play_failures *f)
{
    struct repair first = f->repairs[0], last = f->repairs[--f->repair_count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= f->repair_count) break;
        if (child + 1 < f->repair_count && sooner(&f->repairs[child + 1], &f->repairs[child]))
            child++;
        if (!sooner(&f->repairs[child], &last)) break;
        f->repairs[at] = f->repairs[child];
        at = child;
    }
    f->repairs[at] = last;
    return first;
}

static void repair_later(struct sim_play *p, uint32_t node, uint64_t repair_us)
{
    struct repair repair = {.time_us = p->replay.now_us + repair_us, .node = node};
    if (!repair_push(p->failures, repair)) p->replay.failed = true;
    p->nodes[node].failures++;
}

static void domain_fails(struct sim_play *p, uint32_t node, uint64_t repair_us)
{
    uint32_t domain = p->fleet->nodes[node].node.domain, first = node, last = node, leases = 0;
    while (first > 0 && p->fleet->nodes[first - 1].node.domain == domain)
        first--;
    while (last + 1 < p->fleet->node_count && p->fleet->nodes[last + 1].node.domain == domain)
        last++;
    for (uint32_t i = first; i <= last; i++) {
        if (p->nodes[i].state != MR_NODE_UP) continue;
        leases += p->nodes[i].leases;
        repair_later(p, i, repair_us);
    }
    p->result->racks_failed++;
    p->result->interruptions += leases > 0;
    sim_play_domain_down(p, first, last);
}

/* Drawn in full even when the node is down, so that chance does not depend on what core does. */
static void failure(struct sim_play *p)
{
    struct sim_play_failures *f = p->failures;
    uint32_t node;
    do {
        node = (uint32_t)mr_prng_below(&f->prng, p->fleet->node_count);
    } while (mr_prng_below(&f->prng, f->weight_max) >= weight_of(p, node));
    bool rack = mr_prng_chance(&f->prng, RACK_PERMILLE);
    bool quick = mr_prng_below(&f->prng, 100) < SHORT_PER_CENT;
    uint64_t repair_us = quick ? REPAIR_SHORT_US : REPAIR_LONG_US;
    bool spared = mr_prng_below(&f->prng, LEMON_TIMES) != 0;
    bool mended = spared && p->nodes[node].lemon && p->nodes[node].mended;
    if (p->nodes[node].state != MR_NODE_UP || mended) return;
    if (rack && p->fleet->nodes[node].node.domain != 0) {
        domain_fails(p, node, repair_us);
        return;
    }
    p->result->interruptions += p->nodes[node].leases > 0;
    repair_later(p, node, repair_us);
    sim_play_node_change(p, node, MR_NODE_DOWN);
}

void sim_failure_due(struct sim_play *p)
{
    struct sim_play_failures *f = p->failures;
    if (f == NULL) return;
    while (f->repair_count > 0 && f->repairs[0].time_us <= p->replay.now_us && !p->replay.failed) {
        struct repair repair = repair_pop(f);
        struct sim_play_node *n = &p->nodes[repair.node];
        if (n->gone) continue;
        if (n->state == MR_NODE_DRAINING) n->mended = 1; /* a suspect was looked into */
        sim_play_node_change(p, repair.node, MR_NODE_UP);
        if (n->state != MR_NODE_DRAINING) continue;
        repair.time_us += SUSPECT_US;
        if (!repair_push(f, repair)) p->replay.failed = true;
    }
    while (f->next_us <= p->replay.now_us && !p->replay.failed) {
        failure(p);
        next_draw(p);
    }
}
