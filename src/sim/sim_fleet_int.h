/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/sim and its tests: instance types, and a fleet read from a file. */
#ifndef MR_SIM_FLEET_INT_H
#define MR_SIM_FLEET_INT_H

#include "core/core.h"
#include "sim/sim.h"

#define SIM_FLEET_NODES_MAX   1048576u
#define SIM_FLEET_LINES_MAX   65536u
#define SIM_FLEET_REGIONS_MAX 256u
#define SIM_FLEET_PLACES_MAX  65536u /* cells, and blocks */
#define SIM_FLEET_TYPES_MAX   8192u  /* instance types known at once */
#define SIM_FLEET_BLOCK_NODES 648u   /* a block that nobody drew: 36 domains of 18 */
#define SIM_FLEET_CELL_BLOCKS 16u

/* What one can rent or own: a machine. */
struct sim_instance {
    struct mr_str name, accel; /* accel empty: none */
    uint32_t accel_count, accel_mem_gib;
    uint32_t cpus, mem_mib;
    uint32_t network_gbps;
    uint64_t price_uusd; /* an hour, millionths of a dollar; 0: not listed */
    bool verified;       /* false: some figure of it was not checked again */
};
/* Several instances that share one NVLink or NeuronLink domain. */
struct sim_ultraserver {
    struct mr_str name, member;
    uint32_t nodes;
    uint64_t price_uusd; /* an hour for all of it; 0: not listed */
    bool verified;
};

struct sim_catalog {
    struct sim_instance *instances; /* own copy: types can be added and replaced */
    uint32_t instance_count, instance_room;
};
/* The types that Millrace knows. MR_ENO_MEMORY. */
int sim_catalog_init(struct sim_catalog *catalog);
void sim_catalog_done(struct sim_catalog *catalog);
const struct sim_instance *sim_catalog_find(const struct sim_catalog *catalog, struct mr_str name);
const struct sim_ultraserver *sim_ultraserver_find(struct mr_str name);
const struct sim_ultraserver *sim_ultraservers(size_t *ret_count);
/* Adds the type, or replaces the one of this name. Texts must outlive the catalog. MR_ENO_MEMORY,
 * MR_ELIMIT. */
int sim_catalog_put(struct sim_catalog *catalog, const struct sim_instance *instance);
/* Types and prices from a table with the columns of an EC2 catalog: instance_type, vcpu,
 * memory_mib, gpu_name, gpu_count, accelerator_name, accelerator_count, and a column whose name
 * begins with ondemand_usd_per_hour. MR_ESYNTAX with the problem said. */
int sim_catalog_import(struct sim_catalog *catalog, const struct mr_sim_file *csv,
                       struct mr_arena *arena, struct mr_buf *problem);
/* Dollars with at most six digits behind the point, in millionths. MR_ESYNTAX, MR_ETOO_LARGE. */
int sim_price_get(struct mr_str text, uint64_t *ret_uusd);

struct sim_fleet_line { /* one entry of the file, after counting */
    struct sim_instance type;
    struct mr_str ultraserver; /* empty: single instances */
    uint32_t region, nodes, domains;
    uint64_t price_uusd;        /* of one node an hour; 0: none */
    uint64_t from_us, until_us; /* 0, UINT64_MAX: no date */
};
struct sim_fleet_node {
    struct mr_event_node node;
    uint32_t line;
};
struct mr_sim_fleet {
    struct mr_arena arena; /* texts */
    struct sim_catalog catalog;
    struct mr_str name;
    struct mr_str accels[MR_ACCEL_TYPES_MAX]; /* by number; 0 is none */
    uint32_t accel_count;                     /* types in use */
    struct mr_str regions[SIM_FLEET_REGIONS_MAX];
    uint32_t region_count;
    struct sim_fleet_line *lines;
    uint32_t line_count, line_room;
    struct sim_fleet_node *nodes;
    uint32_t node_count, node_room;
    uint32_t domains, blocks, cells;
};
/* The number of the accelerator type, made when new; 0: more than there is room for. */
uint8_t sim_fleet_accel(struct mr_sim_fleet *fleet, struct mr_str name);
/* Empty, with the known types. MR_ENO_MEMORY. */
int sim_fleet_new(struct mr_sim_fleet **ret);
/* `count` nodes more of a line, put into blocks of block_nodes and cells of SIM_FLEET_CELL_BLOCKS.
 * MR_ELIMIT, MR_ENO_MEMORY. */
int sim_fleet_add(struct mr_sim_fleet *fleet, const struct sim_fleet_line *line);

#endif
