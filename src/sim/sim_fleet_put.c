/* SPDX-License-Identifier: Apache-2.0 */
/* What a fleet comes to, for people and as JSON: places, devices by type, prices, deliveries.
 *
 * Owns:       nothing.
 * Invariants: (1) sums are over all nodes, whenever they come.
 * Never:      I/O, clock.
 * Cost:       O(nodes + types * lines).
 * Idea:       docs/reference/fleet-file.md   Tests: tests/unit/sim/test_sim_fleet.c
 */
#include <inttypes.h>
#include <string.h>

#include "sim_fleet_int.h"

static const char *price_note(bool listed, bool verified)
{
    if (listed) return verified ? "" : "  (not verified)";
    return verified ? "  (no price)" : "  (no price, not verified)";
}

static double dollars(uint64_t uusd)
{
    return (double)uusd / 1e6;
}

struct sums {
    uint64_t vcpus, mem_mib, devices, uusd, unpriced, unverified;
};

static void add(struct sums *sums, const struct sim_fleet_line *line)
{
    sums->vcpus += (uint64_t)line->nodes * line->type.cpus;
    sums->mem_mib += (uint64_t)line->nodes * line->type.mem_mib;
    sums->devices += (uint64_t)line->nodes * line->type.accel_count;
    sums->uusd += (uint64_t)line->nodes * line->price_uusd;
    sums->unpriced += line->price_uusd == 0 ? line->nodes : 0;
    sums->unverified += line->type.verified ? 0 : line->nodes;
}

static struct sums sums_of(const struct mr_sim_fleet *fleet)
{
    struct sums sums = {0};
    for (uint32_t i = 0; i < fleet->line_count; i++)
        add(&sums, &fleet->lines[i]);
    return sums;
}

static bool of_type(const struct sim_fleet_line *line, struct mr_str accel)
{
    return line->type.accel_count > 0 && mr_str_equal_nocase(line->type.accel, accel);
}

/* Devices of the type by the size of their NVLink domain, up to 8 sizes. */
struct by_size {
    uint64_t devices[8], domains[8];
    uint32_t size[8], count;
};

static void sizes_of(const struct mr_sim_fleet *fleet, struct mr_str accel, struct by_size *ret)
{
    *ret = (struct by_size){0};
    for (uint32_t i = 0; i < fleet->line_count; i++) {
        const struct sim_fleet_line *line = &fleet->lines[i];
        if (!of_type(line, accel)) continue;
        uint32_t nodes = line->domains > 0 ? line->nodes / line->domains : 1;
        uint32_t size = nodes * line->type.accel_count, at = 0;
        while (at < ret->count && ret->size[at] != size)
            at++;
        if (at == MR_COUNT_OF(ret->size)) at--;
        if (at == ret->count) ret->size[ret->count++] = size;
        ret->devices[at] += (uint64_t)line->nodes * line->type.accel_count;
        ret->domains[at] += line->nodes / nodes;
    }
}

static void line_put(struct mr_buf *out, const struct mr_sim_fleet *fleet,
                     const struct sim_fleet_line *line)
{
    mr_buf_put_str(out, MR_STR("{\"region\":"));
    mr_json_put_string(out, fleet->regions[line->region]);
    mr_buf_put_str(out, MR_STR(",\"type\":"));
    mr_json_put_string(out, line->type.name);
    if (line->ultraserver.n > 0) {
        mr_buf_put_str(out, MR_STR(",\"ultraserver\":"));
        mr_json_put_string(out, line->ultraserver);
    }
    mr_buf_printf(out, ",\"nodes\":%u,\"domains\":%u,\"cpus\":%u,\"memory_mib\":%u", line->nodes,
                  line->domains, line->type.cpus, line->type.mem_mib);
    if (line->type.accel_count > 0) {
        mr_buf_put_str(out, MR_STR(",\"accelerator\":"));
        mr_json_put_string(out, line->type.accel);
        mr_buf_printf(out, ",\"devices\":%u", line->type.accel_count);
    }
    if (line->price_uusd > 0)
        mr_buf_printf(out, ",\"price_per_hour\":%.6f", dollars(line->price_uusd));
    else
        mr_buf_put_str(out, MR_STR(",\"price_per_hour\":null"));
    mr_buf_printf(out, ",\"verified\":%s", line->type.verified ? "true" : "false");
    if (line->from_us > 0) {
        mr_buf_put_str(out, MR_STR(",\"from\":\""));
        mr_time_put_rfc3339(out, line->from_us);
        mr_buf_put_char(out, '"');
    }
    if (line->until_us < UINT64_MAX) {
        mr_buf_put_str(out, MR_STR(",\"until\":\""));
        mr_time_put_rfc3339(out, line->until_us);
        mr_buf_put_char(out, '"');
    }
    mr_buf_put_char(out, '}');
}

void mr_sim_fleet_put_json(const struct mr_sim_fleet *fleet, struct mr_buf *out)
{
    struct sums sums = sums_of(fleet);
    mr_buf_put_str(out, MR_STR("{\"name\":"));
    mr_json_put_string(out, fleet->name);
    mr_buf_printf(out,
                  ",\"nodes\":%u,\"domains\":%u,\"blocks\":%u,\"cells\":%u,\"vcpus\":%" PRIu64
                  ",\"memory_gib\":%" PRIu64 ",\"devices\":%" PRIu64
                  ",\"price_per_hour\":%.6f,\"nodes_without_price\":%" PRIu64
                  ",\"nodes_not_verified\":%" PRIu64 ",\"accelerators\":[",
                  fleet->node_count, fleet->domains, fleet->blocks, fleet->cells, sums.vcpus,
                  sums.mem_mib / 1024, sums.devices, dollars(sums.uusd), sums.unpriced,
                  sums.unverified);
    for (uint32_t i = 1; i <= fleet->accel_count; i++) {
        struct by_size sizes;
        sizes_of(fleet, fleet->accels[i], &sizes);
        for (uint32_t s = 0; s < sizes.count; s++) {
            mr_buf_put_str(out, i > 1 || s > 0 ? MR_STR(",{\"type\":") : MR_STR("{\"type\":"));
            mr_json_put_string(out, fleet->accels[i]);
            mr_buf_printf(out,
                          ",\"devices\":%" PRIu64 ",\"domain_devices\":%u,\"domains\":%" PRIu64 "}",
                          sizes.devices[s], sizes.size[s], sizes.domains[s]);
        }
    }
    mr_buf_put_str(out, MR_STR("],\"lines\":["));
    for (uint32_t i = 0; i < fleet->line_count; i++) {
        if (i > 0) mr_buf_put_char(out, ',');
        line_put(out, fleet, &fleet->lines[i]);
    }
    mr_buf_put_str(out, MR_STR("]}"));
}

void mr_sim_fleet_put_text(const struct mr_sim_fleet *fleet, struct mr_buf *out)
{
    struct sums sums = sums_of(fleet);
    mr_buf_printf(out,
                  "%.*s: %u nodes in %u regions, %u cells, %u blocks, %u domains of several nodes\n"
                  "%" PRIu64 " vCPUs, %" PRIu64 " GiB, %" PRIu64 " accelerator devices\n",
                  MR_STR_ARG(fleet->name), fleet->node_count, fleet->region_count, fleet->cells,
                  fleet->blocks, fleet->domains, sums.vcpus, sums.mem_mib / 1024, sums.devices);
    for (uint32_t i = 1; i <= fleet->accel_count; i++) {
        struct by_size sizes;
        sizes_of(fleet, fleet->accels[i], &sizes);
        for (uint32_t s = 0; s < sizes.count; s++) {
            mr_buf_printf(out, "  %-14.*s %9" PRIu64 " devices in %7" PRIu64 " domains of %u\n",
                          MR_STR_ARG(fleet->accels[i]), sizes.devices[s], sizes.domains[s],
                          sizes.size[s]);
        }
    }
    mr_buf_printf(out, "US$%.2f an hour", dollars(sums.uusd));
    if (sums.unpriced > 0)
        mr_buf_printf(out, " without %" PRIu64 " nodes that have no price", sums.unpriced);
    mr_buf_put_char(out, '\n');
    if (sums.unverified > 0) {
        mr_buf_printf(out, "%" PRIu64 " nodes are of types with figures that nobody re-checked\n",
                      sums.unverified);
    }
    for (uint32_t i = 0; i < fleet->line_count && fleet->line_count <= 200; i++) {
        const struct sim_fleet_line *line = &fleet->lines[i];
        struct mr_str name = line->ultraserver.n > 0 ? line->ultraserver : line->type.name;
        mr_buf_printf(out, "  %-16.*s %-24.*s %7u nodes", MR_STR_ARG(fleet->regions[line->region]),
                      MR_STR_ARG(name), line->nodes);
        if (line->from_us > 0) {
            mr_buf_put_str(out, MR_STR("  from "));
            mr_time_put_rfc3339(out, line->from_us);
        }
        if (line->until_us < UINT64_MAX) {
            mr_buf_put_str(out, MR_STR("  until "));
            mr_time_put_rfc3339(out, line->until_us);
        }
        mr_buf_put_char(out, '\n');
    }
}

/* --- the types ----------------------------------------------------------------------------- */

void mr_sim_types_put(const struct mr_sim_fleet *fleet, bool json, struct mr_buf *out)
{
    size_t servers;
    const struct sim_ultraserver *server = sim_ultraservers(&servers);
    if (json) mr_buf_put_str(out, MR_STR("{\"types\":["));
    for (uint32_t i = 0; i < fleet->catalog.instance_count; i++) {
        const struct sim_instance *t = &fleet->catalog.instances[i];
        if (json) {
            mr_buf_put_str(out, i > 0 ? MR_STR(",{\"type\":") : MR_STR("{\"type\":"));
            mr_json_put_string(out, t->name);
            mr_buf_put_str(out, MR_STR(",\"accelerator\":"));
            mr_json_put_string(out, t->accel);
            mr_buf_printf(out,
                          ",\"devices\":%u,\"cpus\":%u,\"memory_mib\":%u,\"price_per_hour\":%.6f,"
                          "\"verified\":%s}",
                          t->accel_count, t->cpus, t->mem_mib, dollars(t->price_uusd),
                          t->verified ? "true" : "false");
        } else {
            mr_buf_printf(out, "%-24.*s %2u %-14.*s %4u vCPUs %7.0f GiB  US$%.4f/h%s\n",
                          MR_STR_ARG(t->name), t->accel_count, MR_STR_ARG(t->accel), t->cpus,
                          (double)t->mem_mib / 1024, dollars(t->price_uusd),
                          price_note(t->price_uusd > 0, t->verified));
        }
    }
    if (json) mr_buf_put_str(out, MR_STR("],\"ultraservers\":["));
    for (size_t i = 0; i < servers; i++) {
        if (json) {
            mr_buf_put_str(out, i > 0 ? MR_STR(",{\"type\":") : MR_STR("{\"type\":"));
            mr_json_put_string(out, server[i].name);
            mr_buf_put_str(out, MR_STR(",\"member\":"));
            mr_json_put_string(out, server[i].member);
            mr_buf_printf(out, ",\"nodes\":%u,\"price_per_hour\":%.6f}", server[i].nodes,
                          dollars(server[i].price_uusd));
        } else {
            mr_buf_printf(out, "%-24.*s %2u of %.*s in one domain  US$%.4f/h%s\n",
                          MR_STR_ARG(server[i].name), server[i].nodes, MR_STR_ARG(server[i].member),
                          dollars(server[i].price_uusd),
                          price_note(server[i].price_uusd > 0, server[i].verified));
        }
    }
    if (json) mr_buf_put_str(out, MR_STR("]}"));
}

int mr_sim_fleet_types(const struct mr_sim_file *catalog, struct mr_sim_fleet **ret_fleet,
                       struct mr_buf *problem)
{
    struct mr_sim_fleet *fleet;
    int error = sim_fleet_new(&fleet);
    if (error != 0) return error;
    if (catalog != NULL && catalog->text.n > 0)
        error = sim_catalog_import(&fleet->catalog, catalog, &fleet->arena, problem);
    if (error != 0) {
        mr_sim_fleet_free(fleet);
        return error;
    }
    *ret_fleet = fleet;
    return 0;
}
