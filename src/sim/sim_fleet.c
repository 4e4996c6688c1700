/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a fleet file: regions, cells, blocks and what stands in them, level by level.
 *
 * Each level may hold `nodes` itself; what no block was drawn for is cut into blocks of a usual
 * size, in the order of the file. Places are numbered from 1 in that order too.
 *
 * Owns:       a fleet: its nodes, lines, texts and instance types.
 * Invariants: (1) node i of the fleet has id i + 1;
 *             (2) the nodes of a domain lie in one block, those of a block in one cell.
 * Never:      I/O, clock; a float in a result.
 * Cost:       O(nodes).
 * Idea:       docs/reference/fleet-file.md   Tests: tests/unit/sim/test_sim_fleet.c
 */
#include <string.h>

#include "sim_field_int.h"
#include "sim_fleet_int.h"

#define LINES_LOOKED    16u /* entries that are alike are one line when they lie so near */
#define TEXTS_BYTES_MAX ((size_t)64 * 1024 * 1024)

struct reader {
    struct mr_sim_fleet *fleet;
    struct sim_fleet_line given; /* what outer levels say of dates; region */
    uint32_t block_nodes;        /* of blocks that nobody drew */
    uint32_t block_left;         /* nodes that still fit in the block; 0: begin a new one */
    uint32_t blocks_left;        /* blocks that still fit in the cell that nobody drew */
    bool in_block, in_cell;      /* drawn by the file */
};

/* --- a fleet ------------------------------------------------------------------------------- */

int sim_fleet_new(struct mr_sim_fleet **ret)
{
    struct mr_sim_fleet *fleet = mr_alloc_zero(sizeof *fleet);
    if (fleet == NULL) return MR_ENO_MEMORY;
    mr_arena_init(&fleet->arena, TEXTS_BYTES_MAX);
    if (sim_catalog_init(&fleet->catalog) != 0) {
        mr_sim_fleet_free(fleet);
        return MR_ENO_MEMORY;
    }
    *ret = fleet;
    return 0;
}

void mr_sim_fleet_free(struct mr_sim_fleet *fleet)
{
    if (fleet == NULL) return;
    sim_catalog_done(&fleet->catalog);
    mr_arena_done(&fleet->arena);
    mr_free(fleet->lines);
    mr_free(fleet->nodes);
    mr_free(fleet);
}

uint8_t sim_fleet_accel(struct mr_sim_fleet *fleet, struct mr_str name)
{
    for (uint32_t i = 1; i <= fleet->accel_count; i++) {
        if (mr_str_equal_nocase(fleet->accels[i], name)) return (uint8_t)i;
    }
    if (fleet->accel_count + 1 >= MR_ACCEL_TYPES_MAX) return 0;
    fleet->accels[++fleet->accel_count] = name;
    return (uint8_t)fleet->accel_count;
}

static bool grow(void **p, uint32_t *room, uint32_t want, size_t bytes)
{
    if (want <= *room) return true;
    uint32_t more = MR_MAX(want, MR_MAX(64u, *room * 2));
    void *grown = mr_realloc(*p, more * bytes);
    if (grown == NULL) return false;
    *p = grown;
    *room = more;
    return true;
}

/* Where the next `nodes` nodes, which stay together, lie: a new block or cell when need be. */
static int place_next(struct reader *r, uint32_t nodes)
{
    struct mr_sim_fleet *f = r->fleet;
    if (r->block_left < nodes && !(r->in_block && r->block_left > 0)) {
        bool new_cell = !r->in_cell && r->blocks_left == 0;
        if (f->blocks == SIM_FLEET_PLACES_MAX) return MR_ELIMIT;
        if (new_cell && f->cells == SIM_FLEET_PLACES_MAX) return MR_ELIMIT;
        f->cells += new_cell;
        f->blocks++;
        if (new_cell) r->blocks_left = SIM_FLEET_CELL_BLOCKS;
        if (!r->in_cell) r->blocks_left--;
        r->block_left = MR_MAX(r->block_nodes, nodes);
    }
    if (!r->in_block) r->block_left -= nodes;
    return 0;
}

/* The line that is like it but for the numbers, of the newest ones; or a new one without nodes. */
static int line_for(struct mr_sim_fleet *f, const struct sim_fleet_line *line, uint32_t *ret)
{
    for (uint32_t i = f->line_count; i > 0 && i + LINES_LOOKED > f->line_count; i--) {
        const struct sim_fleet_line *old = &f->lines[i - 1];
        if (old->region == line->region && old->from_us == line->from_us &&
            old->until_us == line->until_us && old->price_uusd == line->price_uusd &&
            mr_str_equal(old->type.name, line->type.name) &&
            mr_str_equal(old->ultraserver, line->ultraserver) &&
            (old->domains > 0) == (line->domains > 0)) {
            *ret = i - 1;
            return 0;
        }
    }
    if (f->line_count == SIM_FLEET_LINES_MAX) return MR_ELIMIT;
    if (!grow((void **)&f->lines, &f->line_room, f->line_count + 1, sizeof *f->lines))
        return MR_ENO_MEMORY;
    *ret = f->line_count;
    f->lines[f->line_count] = *line;
    f->lines[f->line_count].nodes = f->lines[f->line_count].domains = 0;
    f->line_count++;
    return 0;
}

static int nodes_add(struct reader *r, const struct sim_fleet_line *line, uint32_t together)
{
    struct mr_sim_fleet *f = r->fleet;
    const struct sim_instance *type = &line->type;
    uint32_t at;
    if (line->nodes > SIM_FLEET_NODES_MAX - f->node_count) return MR_ELIMIT;
    if (!grow((void **)&f->nodes, &f->node_room, f->node_count + line->nodes, sizeof *f->nodes))
        return MR_ENO_MEMORY;
    uint8_t accel = type->accel_count > 0 ? sim_fleet_accel(f, type->accel) : 0;
    if (type->accel_count > 0 && accel == 0) return MR_ELIMIT;
    int error = line_for(f, line, &at);
    if (error != 0) return error;
    f->lines[at].nodes += line->nodes;
    f->lines[at].domains += line->domains;
    for (uint32_t i = 0; i < line->nodes; i++) {
        if (i % together == 0) {
            error = place_next(r, together);
            if (error != 0) return error;
            f->domains += together > 1;
        }
        struct sim_fleet_node *node = &f->nodes[f->node_count++];
        *node = (struct sim_fleet_node){.line = at,
                                        .node = {.id = {f->node_count},
                                                 .cpu_milli = type->cpus * 1000,
                                                 .mem_mib = type->mem_mib,
                                                 .accel_type = accel,
                                                 .accel_count = (uint8_t)type->accel_count,
                                                 .domain = together > 1 ? f->domains : 0,
                                                 .block = f->blocks,
                                                 .cell = f->cells}};
    }
    return 0;
}

int sim_fleet_add(struct mr_sim_fleet *fleet, const struct sim_fleet_line *line)
{
    struct reader r = {.fleet = fleet, .block_nodes = SIM_FLEET_BLOCK_NODES};
    return nodes_add(&r, line, 1);
}

/* --- own types ----------------------------------------------------------------------------- */

/* "H100:8". */
static int accelerators_read(struct reader *r, const struct sim_fields *f,
                             struct sim_instance *type)
{
    struct mr_str text = {0}, rest, name;
    uint64_t count = 1;
    int error = sim_field_text(f, "accelerators", &text);
    if (error != 0 || text.n == 0) return error;
    rest = text;
    bool fine = mr_str_split(&rest, ':', &name) && name.n > 0;
    if (fine && rest.p != NULL)
        fine = mr_str_to_u64(rest, &count) == 0 && count > 0 && count <= MR_DEVICES_PER_NODE_MAX;
    if (!fine) {
        return sim_field_wrong(f, "accelerators",
                               "a type and 1 to %u devices are wanted: \"H100:8\"",
                               MR_DEVICES_PER_NODE_MAX);
    }
    type->accel = mr_str_copy(&r->fleet->arena, name);
    type->accel_count = (uint32_t)count;
    return type->accel.p == NULL ? MR_ENO_MEMORY : 0;
}

static int type_read(struct reader *r, struct sim_fields *f)
{
    static const char *const names[] = {"name",          "cpus",          "memory",
                                        "accelerators",  "device_memory", "network_gbps",
                                        "price_per_hour"};
    struct sim_instance type = {.verified = true};
    uint32_t device_mib = 0;
    int error = sim_fields_open(f, names, MR_COUNT_OF(names));
    if (error == 0) error = sim_field_text(f, "name", &type.name);
    if (error == 0 && type.name.n == 0) error = sim_field_wrong(f, "name", "a type needs a name");
    if (error != 0) return error;
    const struct sim_instance *known = sim_catalog_find(&r->fleet->catalog, type.name);
    if (known != NULL) type = *known;
    type.name = mr_str_copy(&r->fleet->arena, type.name);
    if (type.name.p == NULL) return MR_ENO_MEMORY;
    error = sim_field_u32(f, "cpus", 1, 4000000, &type.cpus);
    if (error == 0) error = sim_field_mib(f, "memory", &type.mem_mib);
    if (error == 0) error = sim_field_mib(f, "device_memory", &device_mib);
    if (error == 0) error = sim_field_u32(f, "network_gbps", 0, 1000000, &type.network_gbps);
    if (error == 0) error = sim_field_price(f, "price_per_hour", &type.price_uusd);
    if (error == 0) error = accelerators_read(r, f, &type);
    if (error != 0) return error;
    if (device_mib > 0) type.accel_mem_gib = device_mib / 1024;
    if (type.cpus == 0 || type.mem_mib == 0)
        return sim_field_wrong(f, "cpus", "a new type needs cpus and memory");
    error = sim_catalog_put(&r->fleet->catalog, &type);
    return error == MR_ELIMIT ? sim_field_wrong(f, "name", "too many types") : error;
}

/* --- levels -------------------------------------------------------------------------------- */

static int dates_read(const struct sim_fields *f, struct sim_fleet_line *given)
{
    int error = sim_field_date(f, "from", &given->from_us);
    if (error == 0) error = sim_field_date(f, "until", &given->until_us);
    if (error == 0 && given->until_us <= given->from_us)
        error = sim_field_wrong(f, "until", "it must be after `from`");
    return error;
}

/* A type that nobody knows: the nearest ones begin as it does. */
static int type_unknown(const struct reader *r, const struct sim_fields *f, struct mr_str name)
{
    char near[200] = "";
    size_t at = 0, family = 0;
    while (family < name.n && name.p[family] != '.' && name.p[family] != '-')
        family++;
    for (uint32_t i = 0; i < r->fleet->catalog.instance_count && family > 0; i++) {
        struct mr_str other = r->fleet->catalog.instances[i].name;
        if (!mr_str_starts(other, (struct mr_str){name.p, family})) continue;
        if (at + other.n + 3 > sizeof near) break;
        memcpy(near + at, at > 0 ? ", " : "", at > 0 ? 2 : 0);
        at += at > 0 ? 2 : 0;
        memcpy(near + at, other.p, other.n);
        at += other.n;
    }
    return sim_field_wrong(
        f, "type", "'%.*s' is not known%s%.*s; `millrace fleet types` lists all, `types:` adds own",
        (int)MR_MIN(name.n, (size_t)60), name.p, at > 0 ? "; there are " : "", (int)at, near);
}

static int node_read(struct reader *r, struct sim_fields *f)
{
    static const char *const names[] = {"type",           "count", "domain_nodes",
                                        "price_per_hour", "from",  "until"};
    struct sim_fleet_line line = r->given;
    struct mr_str name = {0};
    uint32_t count = 1, together = 1;
    int error = sim_fields_open(f, names, MR_COUNT_OF(names));
    if (error == 0) error = sim_field_text(f, "type", &name);
    if (error == 0 && name.n == 0)
        error = sim_field_wrong(f, "type", "an instance type or an UltraServer is wanted");
    if (error == 0) error = sim_field_u32(f, "count", 1, SIM_FLEET_NODES_MAX, &count);
    if (error == 0) error = dates_read(f, &line);
    if (error != 0) return error;
    const struct sim_ultraserver *server = sim_ultraserver_find(name);
    const struct sim_instance *type =
        sim_catalog_find(&r->fleet->catalog, server != NULL ? server->member : name);
    if (type == NULL) return type_unknown(r, f, name);
    line.type = *type;
    if (server != NULL) {
        together = server->nodes;
        line.ultraserver = server->name;
        line.type.verified = server->verified;
        line.price_uusd = server->price_uusd;
    } else {
        line.price_uusd = type->price_uusd;
    }
    if (yyjson_obj_get(f->map, "domain_nodes") != NULL && server != NULL)
        return sim_field_wrong(f, "domain_nodes", "an UltraServer has its own size");
    error = sim_field_u32(f, "domain_nodes", 1, 4096, &together);
    if (error == 0) error = sim_field_price(f, "price_per_hour", &line.price_uusd);
    if (error != 0) return error;
    if (server != NULL) line.price_uusd /= together;
    uint64_t nodes = server != NULL ? (uint64_t)count * together : count;
    if (nodes > SIM_FLEET_NODES_MAX)
        return sim_field_wrong(f, "count", "a fleet has at most %u nodes", SIM_FLEET_NODES_MAX);
    if (nodes % together != 0)
        return sim_field_wrong(f, "count", "it must be a multiple of domain_nodes");
    line.nodes = (uint32_t)nodes;
    line.domains = together > 1 ? line.nodes / together : 0;
    error = nodes_add(r, &line, together);
    if (error == MR_ELIMIT) {
        error = sim_field_wrong(
            f, "count", "more than %u nodes, %u entries, %u blocks or %u accelerator types",
            SIM_FLEET_NODES_MAX, SIM_FLEET_LINES_MAX, SIM_FLEET_PLACES_MAX, MR_ACCEL_TYPES_MAX - 1);
    }
    return error;
}

static int nodes_read(struct reader *r, const struct sim_fields *f)
{
    yyjson_val *list, *item;
    size_t i, max;
    int error = sim_field_list(f, "nodes", &list);
    if (error != 0) return error;
    yyjson_arr_foreach(list, i, max, item)
    {
        struct sim_fields inner;
        sim_field_item(f, "nodes", i, item, &inner);
        error = node_read(r, &inner);
        if (error != 0) return error;
    }
    return 0;
}

static int block_read(struct reader *r, struct sim_fields *f)
{
    static const char *const names[] = {"name", "count", "from", "until", "nodes"};
    uint32_t count = 1;
    struct mr_str name;
    struct sim_fleet_line given = r->given;
    int error = sim_fields_open(f, names, MR_COUNT_OF(names));
    if (error == 0) error = sim_field_text(f, "name", &name);
    if (error == 0) error = sim_field_u32(f, "count", 1, SIM_FLEET_PLACES_MAX, &count);
    if (error == 0) error = dates_read(f, &r->given);
    for (uint32_t i = 0; i < count && error == 0; i++) {
        if (r->fleet->blocks == SIM_FLEET_PLACES_MAX)
            return sim_field_wrong(f, "count", "more than %u blocks", SIM_FLEET_PLACES_MAX);
        r->fleet->blocks++;
        r->in_block = true;
        r->block_left = 1;
        error = nodes_read(r, f);
    }
    r->in_block = false;
    r->block_left = 0;
    r->given = given;
    return error;
}

static int cell_read(struct reader *r, struct sim_fields *f)
{
    static const char *const names[] = {"name", "count", "from", "until", "nodes", "blocks"};
    uint32_t count = 1;
    struct mr_str name;
    struct sim_fleet_line given = r->given;
    yyjson_val *blocks, *item;
    size_t i, max;
    int error = sim_fields_open(f, names, MR_COUNT_OF(names));
    if (error == 0) error = sim_field_text(f, "name", &name);
    if (error == 0) error = sim_field_u32(f, "count", 1, SIM_FLEET_PLACES_MAX, &count);
    if (error == 0) error = dates_read(f, &r->given);
    if (error == 0) error = sim_field_list(f, "blocks", &blocks);
    for (uint32_t n = 0; n < count && error == 0; n++) {
        if (r->fleet->cells == SIM_FLEET_PLACES_MAX)
            return sim_field_wrong(f, "count", "more than %u cells", SIM_FLEET_PLACES_MAX);
        r->fleet->cells++;
        r->in_cell = true;
        r->block_left = 0;
        error = nodes_read(r, f);
        yyjson_arr_foreach(blocks, i, max, item)
        {
            struct sim_fields inner;
            if (error != 0) break;
            sim_field_item(f, "blocks", i, item, &inner);
            error = block_read(r, &inner);
        }
    }
    r->in_cell = false;
    r->block_left = r->blocks_left = 0;
    r->given = given;
    return error;
}

static int cells_read(struct reader *r, const struct sim_fields *f)
{
    yyjson_val *list, *item;
    size_t i, max;
    int error = sim_field_list(f, "cells", &list);
    if (error != 0) return error;
    yyjson_arr_foreach(list, i, max, item)
    {
        struct sim_fields inner;
        sim_field_item(f, "cells", i, item, &inner);
        error = cell_read(r, &inner);
        if (error != 0) return error;
    }
    return 0;
}

static int region_new(struct reader *r, const struct sim_fields *f, struct mr_str name)
{
    if (r->fleet->region_count == SIM_FLEET_REGIONS_MAX)
        return sim_field_wrong(f, "name", "more than %u regions", SIM_FLEET_REGIONS_MAX);
    struct mr_str copy = mr_str_copy(&r->fleet->arena, name);
    if (copy.p == NULL) return MR_ENO_MEMORY;
    r->given.region = r->fleet->region_count;
    r->fleet->regions[r->fleet->region_count++] = copy;
    r->block_left = r->blocks_left = 0; /* a cell lies in one region */
    return 0;
}

static int region_read(struct reader *r, struct sim_fields *f)
{
    static const char *const names[] = {"name", "from", "until", "nodes", "cells"};
    struct mr_str name = MR_STR("region");
    struct sim_fleet_line given = r->given;
    int error = sim_fields_open(f, names, MR_COUNT_OF(names));
    if (error == 0) error = sim_field_text(f, "name", &name);
    if (error == 0) error = dates_read(f, &r->given);
    if (error == 0) error = region_new(r, f, name);
    if (error == 0) error = nodes_read(r, f);
    if (error == 0) error = cells_read(r, f);
    r->given = given;
    return error;
}

static int top_read(struct reader *r, struct sim_fields *f)
{
    static const char *const names[] = {"name",  "types", "block_nodes", "from",
                                        "until", "nodes", "cells",       "regions"};
    yyjson_val *list, *item;
    size_t i, max;
    struct mr_str name = MR_STR("fleet");
    int error = sim_fields_open(f, names, MR_COUNT_OF(names));
    if (error == 0) error = sim_field_text(f, "name", &name);
    if (error == 0)
        error = sim_field_u32(f, "block_nodes", 1, SIM_FLEET_NODES_MAX, &r->block_nodes);
    if (error == 0) error = dates_read(f, &r->given);
    if (error == 0) error = sim_field_list(f, "types", &list);
    if (error != 0) return error;
    r->fleet->name = mr_str_copy(&r->fleet->arena, name);
    if (r->fleet->name.p == NULL) return MR_ENO_MEMORY;
    yyjson_arr_foreach(list, i, max, item)
    {
        struct sim_fields inner;
        sim_field_item(f, "types", i, item, &inner);
        error = type_read(r, &inner);
        if (error != 0) return error;
    }
    if (yyjson_obj_get(f->map, "nodes") != NULL || yyjson_obj_get(f->map, "cells") != NULL)
        error = region_new(r, f, MR_STR("default"));
    if (error == 0) error = nodes_read(r, f);
    if (error == 0) error = cells_read(r, f);
    if (error == 0) error = sim_field_list(f, "regions", &list);
    if (error != 0) return error;
    yyjson_arr_foreach(list, i, max, item)
    {
        struct sim_fields inner;
        sim_field_item(f, "regions", i, item, &inner);
        error = region_read(r, &inner);
        if (error != 0) return error;
    }
    if (r->fleet->node_count == 0)
        return sim_field_wrong(f, "nodes", "the fleet is empty: it needs nodes, cells or regions");
    return 0;
}

int mr_sim_fleet_read(const struct mr_sim_file *json, const struct mr_sim_file *catalog,
                      struct mr_sim_fleet **ret_fleet, struct mr_buf *problem)
{
    struct mr_sim_fleet *fleet = NULL;
    yyjson_read_err wrong;
    char *text = (char *)(uintptr_t)json->text.p; /* not changed without the in-situ flag */
    yyjson_doc *doc = yyjson_read_opts(text, json->text.n, 0, NULL, &wrong);
    struct sim_fields top = {
        .map = yyjson_doc_get_root(doc), .file = json->name, .problem = problem};
    if (doc == NULL) return sim_field_wrong(&top, "", "byte %zu: %s", wrong.pos, wrong.msg);
    int error = sim_fleet_new(&fleet);
    if (error == 0 && catalog != NULL && catalog->text.n > 0)
        error = sim_catalog_import(&fleet->catalog, catalog, &fleet->arena, problem);
    struct reader r = {.fleet = fleet, .block_nodes = SIM_FLEET_BLOCK_NODES};
    r.given.until_us = UINT64_MAX;
    if (error == 0) error = top_read(&r, &top);
    yyjson_doc_free(doc);
    if (error != 0) {
        mr_sim_fleet_free(fleet);
        return error;
    }
    *ret_fleet = fleet;
    return 0;
}

/* --- runs of nodes that are alike ---------------------------------------------------------- */

static bool alike(const struct sim_fleet_node *a, const struct sim_fleet_node *b)
{
    return a->line == b->line && a->node.block == b->node.block && a->node.cell == b->node.cell &&
           (a->node.domain == 0) == (b->node.domain == 0);
}

/* Nodes of its domain from this one on; a node without one is alone. */
static uint32_t domain_nodes(const struct mr_sim_fleet *fleet, uint32_t at)
{
    uint32_t end = at + 1, domain = fleet->nodes[at].node.domain;
    while (domain != 0 && end < fleet->node_count && fleet->nodes[end].node.domain == domain)
        end++;
    return end - at;
}

int mr_sim_fleet_run_next(const struct mr_sim_fleet *fleet, uint32_t *cursor,
                          struct mr_sim_fleet_run *ret)
{
    if (*cursor >= fleet->node_count) return MR_ENOT_FOUND;
    const struct sim_fleet_node *first = &fleet->nodes[*cursor];
    const struct sim_fleet_line *line = &fleet->lines[first->line];
    uint32_t together = domain_nodes(fleet, *cursor), end = *cursor + together;
    /* Entries of a file may be alike but for the size of their domains. */
    while (end < fleet->node_count && alike(first, &fleet->nodes[end]) &&
           domain_nodes(fleet, end) == together &&
           end - *cursor + together <= MR_SIM_FLEET_RUN_NODES)
        end += together;
    *ret = (struct mr_sim_fleet_run){.first = first->node,
                                     .count = end - *cursor,
                                     .domain_nodes = together,
                                     .type = line->type.name,
                                     .accelerator = line->type.accel,
                                     .from_us = line->from_us,
                                     .until_us = line->until_us};
    *cursor = end;
    return 0;
}

struct mr_str mr_sim_fleet_name(const struct mr_sim_fleet *fleet)
{
    return fleet->name;
}
