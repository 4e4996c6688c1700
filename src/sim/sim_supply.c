/* SPDX-License-Identifier: Apache-2.0 */
/* Supply to come in the simulated world: nodes that are promised to its operator, and never come.
 *
 * They are expected, booked, put off and given up, and late at the end. A start on one of them is a
 * verdict of the engine's. Whether a world has such promises is drawn from the seed, but aside, as
 * places are: a world without them is the one that its seed was before.
 *
 * Owns:  nothing.
 */
#include <stdio.h>

#include "sim/sim_int.h"

/* Keeps the seeds of tests/sim/seeds.txt as they were. */
#define ASIDE          0x737570706c790007ull
#define PROMISED_NODES 6u

void sim_supply_draw(struct sim *sim, uint64_t seed)
{
    struct mr_prng aside;
    mr_prng_init(&aside, seed ^ ASIDE);
    if (mr_prng_chance(&aside, 300))
        sim->c.expect_permille = 1 + (uint32_t)mr_prng_below(&aside, 60);
}

bool sim_supply_asks(struct sim *sim)
{
    return sim->c.expect_permille != 0 && sim_draw(sim, 0, 999) < sim->c.expect_permille;
}

void sim_supply_ask(struct sim *sim, char path[64], char body[300])
{
    uint32_t first = sim->c.nodes + 1, count = (uint32_t)sim_draw(sim, 1, PROMISED_NODES);
    uint32_t id = first + (uint32_t)sim_draw(sim, 0, PROMISED_NODES - count);
    uint32_t from_s = (uint32_t)sim_draw(sim, 0, 40), what = (uint32_t)sim_draw(sim, 0, 4);
    if (what == 0) {
        (void)snprintf(path, 64, "/api/nodes/%u", id);
        (void)snprintf(body, 300, "{\"state\":\"absent\"}");
    } else {
        (void)snprintf(path, 64, "/api/nodes");
        (void)snprintf(body, 300,
                       "{\"id\":%u,\"count\":%u,\"cpu_milli\":%u,\"mem_mib\":4096,\"domain\":%u,"
                       "\"domain_nodes\":2,\"from\":\"%us\"}",
                       id, count, 1000 * (uint32_t)sim_draw(sim, 1, 8), 60 + id, 1 + from_s);
    }
}
