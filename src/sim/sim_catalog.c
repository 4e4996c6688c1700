/* SPDX-License-Identifier: Apache-2.0 */
/* The instance types that Millrace knows, and tables with other types and prices.
 *
 * Prices are on demand in us-east-1 as of 2026-07-20, dollars an hour. `no` marks a row with a
 * figure that was not checked again at its source; a price of 0 is not listed.
 *
 * Owns:       a catalog's copy of the table, which a fleet file may change.
 * Invariants: (1) names within a catalog are different.
 * Never:      I/O: the caller reads files.
 * Cost:       a look-up is linear in the types.
 * Idea:       docs/reference/fleet-file.md   Tests: tests/unit/sim/test_sim_fleet.c
 */
#include <string.h>

#include "sim_csv_int.h"
#include "sim_fleet_int.h"

#define yes true
#define no  false
/* name, accelerator, devices, GiB each, vCPUs, GiB, Gbit/s, millionths of a dollar, checked */
#define INSTANCES(X)                                                                               \
    X("p4d.24xlarge", "A100", 8, 40, 96, 1152, 400, 21957642, yes)                                 \
    X("p4de.24xlarge", "A100-80GB", 8, 80, 96, 1152, 400, 27447050, yes)                           \
    X("p5.4xlarge", "H100", 1, 80, 16, 256, 100, 6880000, yes)                                     \
    X("p5.48xlarge", "H100", 8, 80, 192, 2048, 3200, 55040000, yes)                                \
    X("p5e.48xlarge", "H200", 8, 141, 192, 2048, 3200, 0, yes)                                     \
    X("p5en.48xlarge", "H200", 8, 141, 192, 2048, 3200, 63296000, yes)                             \
    X("p6-b200.48xlarge", "B200", 8, 179, 192, 2048, 3200, 113932800, yes)                         \
    X("p6-b300.48xlarge", "B300", 8, 268, 192, 4096, 6400, 142416000, yes)                         \
    X("p6e-gb200.36xlarge", "GB200", 4, 185, 144, 960, 1600, 0, no)                                \
    X("p6e-gb300.36xlarge", "GB300", 4, 268, 144, 960, 1600, 0, no)                                \
    X("trn1.2xlarge", "Trainium", 1, 32, 8, 32, 3, 1343750, yes)                                   \
    X("trn1.32xlarge", "Trainium", 16, 32, 128, 512, 800, 21500000, yes)                           \
    X("trn1n.32xlarge", "Trainium", 16, 32, 128, 512, 1600, 24780000, yes)                         \
    X("trn2.48xlarge", "Trainium2", 16, 96, 192, 2048, 3200, 0, yes)                               \
    X("trn2u.48xlarge", "Trainium2", 16, 96, 192, 2048, 3200, 0, no)                               \
    X("trn3-gen1.server", "Trainium3", 16, 144, 192, 2048, 0, 0, no)                               \
    X("trn3-gen2.server", "Trainium3", 4, 144, 192, 2048, 0, 0, no)                                \
    X("inf2.48xlarge", "Inferentia2", 12, 32, 192, 768, 100, 12981270, yes)                        \
    X("g4dn.xlarge", "T4", 1, 16, 4, 16, 5, 526000, yes)                                           \
    X("g4dn.12xlarge", "T4", 4, 16, 48, 192, 50, 3912000, yes)                                     \
    X("g5.xlarge", "A10G", 1, 22, 4, 16, 2, 1006000, yes)                                          \
    X("g5.48xlarge", "A10G", 8, 22, 192, 768, 100, 16288000, yes)                                  \
    X("g6.xlarge", "L4", 1, 22, 4, 16, 2, 804800, yes)                                             \
    X("g6.48xlarge", "L4", 8, 22, 192, 768, 100, 13350400, yes)                                    \
    X("g6e.xlarge", "L40S", 1, 44, 4, 32, 2, 1861000, yes)                                         \
    X("g6e.12xlarge", "L40S", 4, 44, 48, 384, 100, 10492640, yes)                                  \
    X("g6e.48xlarge", "L40S", 8, 44, 192, 1536, 400, 30131180, yes)                                \
    X("g7e.2xlarge", "RTX-PRO-6000", 1, 96, 8, 64, 50, 3363120, yes)                               \
    X("g7e.48xlarge", "RTX-PRO-6000", 8, 96, 192, 2048, 1600, 33144320, yes)                       \
    X("c7a.48xlarge", "", 0, 0, 192, 384, 50, 9853440, yes)                                        \
    X("c7i.48xlarge", "", 0, 0, 192, 384, 50, 8568000, yes)                                        \
    X("c8g.48xlarge", "", 0, 0, 192, 384, 50, 7656960, yes)                                        \
    X("c8gn.48xlarge", "", 0, 0, 192, 384, 600, 11376000, yes)                                     \
    X("c8i.96xlarge", "", 0, 0, 384, 768, 100, 17992320, yes)                                      \
    X("c9g.48xlarge", "", 0, 0, 192, 384, 100, 8346240, yes)                                       \
    X("m7a.48xlarge", "", 0, 0, 192, 768, 50, 11128320, yes)                                       \
    X("m7i.48xlarge", "", 0, 0, 192, 768, 50, 9676800, yes)                                        \
    X("m8g.48xlarge", "", 0, 0, 192, 768, 50, 8616960, yes)                                        \
    X("m8i.96xlarge", "", 0, 0, 384, 1536, 100, 20321280, yes)                                     \
    X("m9g.48xlarge", "", 0, 0, 192, 768, 100, 9392640, yes)                                       \
    X("r8g.48xlarge", "", 0, 0, 192, 1536, 50, 11310720, yes)                                      \
    X("r8i.96xlarge", "", 0, 0, 384, 3072, 100, 26672640, yes)

static const struct sim_instance known[] = {
#define X(type, accelerator, devices, device_gib, vcpus, gib, gbps, price, checked)                \
    {.name = {type, sizeof type - 1},                                                              \
     .accel = {accelerator, sizeof accelerator - 1},                                               \
     .accel_count = devices,                                                                       \
     .accel_mem_gib = device_gib,                                                                  \
     .cpus = vcpus,                                                                                \
     .mem_mib = gib * 1024,                                                                        \
     .network_gbps = gbps,                                                                         \
     .price_uusd = price,                                                                          \
     .verified = checked},
    INSTANCES(X)
#undef X
};

/* Domains of 72 and 36 GPUs, of 64 and 144 Trainium chips. The two prices are those of capacity
 * blocks in July 2025. */
#define S(text) {text, sizeof text - 1}
static const struct sim_ultraserver ultraservers[] = {
    {S("u-p6e-gb200x72"), S("p6e-gb200.36xlarge"), 18, 761904000, no},
    {S("u-p6e-gb200x36"), S("p6e-gb200.36xlarge"), 9, 380952000, no},
    {S("u-p6e-gb300x72"), S("p6e-gb300.36xlarge"), 18, 0, no},
    {S("u-p6e-gb300x36"), S("p6e-gb300.36xlarge"), 9, 0, no},
    {S("trn2-ultraserver"), S("trn2u.48xlarge"), 4, 0, no},
    {S("trn3-gen1-ultraserver"), S("trn3-gen1.server"), 4, 0, no},
    {S("trn3-gen2-ultraserver"), S("trn3-gen2.server"), 36, 0, no},
};
#undef S
#undef yes
#undef no

int sim_catalog_init(struct sim_catalog *catalog)
{
    *catalog = (struct sim_catalog){.instance_room = 2 * MR_COUNT_OF(known)};
    catalog->instances = mr_alloc(catalog->instance_room * sizeof *catalog->instances);
    if (catalog->instances == NULL) return MR_ENO_MEMORY;
    memcpy(catalog->instances, known, sizeof known);
    catalog->instance_count = MR_COUNT_OF(known);
    return 0;
}

void sim_catalog_done(struct sim_catalog *catalog)
{
    mr_free(catalog->instances);
    *catalog = (struct sim_catalog){0};
}

static struct sim_instance *find(const struct sim_catalog *catalog, struct mr_str name)
{
    for (uint32_t i = 0; i < catalog->instance_count; i++) {
        if (mr_str_equal(catalog->instances[i].name, name)) return &catalog->instances[i];
    }
    return NULL;
}

const struct sim_instance *sim_catalog_find(const struct sim_catalog *catalog, struct mr_str name)
{
    return find(catalog, name);
}

const struct sim_ultraserver *sim_ultraservers(size_t *ret_count)
{
    *ret_count = MR_COUNT_OF(ultraservers);
    return ultraservers;
}

const struct sim_ultraserver *sim_ultraserver_find(struct mr_str name)
{
    for (size_t i = 0; i < MR_COUNT_OF(ultraservers); i++) {
        if (mr_str_equal(ultraservers[i].name, name)) return &ultraservers[i];
    }
    return NULL;
}

int sim_catalog_put(struct sim_catalog *catalog, const struct sim_instance *instance)
{
    struct sim_instance *old = find(catalog, instance->name);
    if (old != NULL) {
        *old = *instance;
        return 0;
    }
    if (catalog->instance_count == SIM_FLEET_TYPES_MAX) return MR_ELIMIT;
    if (catalog->instance_count == catalog->instance_room) {
        uint32_t room = catalog->instance_room * 2;
        void *grown = mr_realloc(catalog->instances, room * sizeof *catalog->instances);
        if (grown == NULL) return MR_ENO_MEMORY;
        catalog->instances = grown;
        catalog->instance_room = room;
    }
    catalog->instances[catalog->instance_count++] = *instance;
    return 0;
}

/* --- tables of others ---------------------------------------------------------------------- */

/* "h100" is our H100: so that a job that names it finds both. */
static struct mr_str accel_name(struct mr_str theirs, struct mr_arena *arena)
{
    for (size_t i = 0; i < MR_COUNT_OF(known); i++) {
        if (mr_str_equal_nocase(known[i].accel, theirs)) return known[i].accel;
    }
    if (mr_str_equal(theirs, MR_STR("rtx-pro-server-6000"))) return MR_STR("RTX-PRO-6000");
    struct mr_str copy = mr_str_copy(arena, theirs);
    char *letters = (char *)(uintptr_t)copy.p;
    for (size_t i = 0; letters != NULL && i < copy.n; i++) {
        if (letters[i] >= 'a' && letters[i] <= 'z') letters[i] = (char)(letters[i] - 'a' + 'A');
    }
    return copy;
}

struct columns {
    uint32_t type, cpus, mem, gpu, gpus, accel, accels, price;
};

static int columns_find(struct sim_csv *csv, struct columns *c)
{
    int error = sim_csv_column(csv, "instance_type", &c->type);
    if (error == 0) error = sim_csv_column(csv, "vcpu", &c->cpus);
    if (error == 0) error = sim_csv_column(csv, "memory_mib", &c->mem);
    if (error != 0) return error;
    c->gpu = sim_csv_find(csv, "gpu_name");
    c->gpus = sim_csv_find(csv, "gpu_count");
    c->accel = sim_csv_find(csv, "accelerator_name");
    c->accels = sim_csv_find(csv, "accelerator_count");
    c->price = SIM_CSV_NONE;
    for (uint32_t i = 0; i < csv->column_count; i++) {
        if (mr_str_starts(csv->columns[i], MR_STR("ondemand_usd_per_hour"))) c->price = i;
    }
    return 0;
}

static int devices_read(struct sim_csv *csv, uint32_t name, uint32_t count, struct mr_arena *arena,
                        struct sim_instance *instance)
{
    if (name == SIM_CSV_NONE || count == SIM_CSV_NONE || csv->fields[name].n == 0) return 0;
    uint64_t devices;
    int error = sim_csv_number(csv, count, 0, MR_DEVICES_PER_NODE_MAX, &devices);
    /* A part of a device is listed as none of them. */
    if (error != 0 || devices == 0) return error;
    instance->accel = accel_name(csv->fields[name], arena);
    instance->accel_count = (uint32_t)devices;
    return instance->accel.p == NULL ? MR_ENO_MEMORY : 0;
}

static int row_read(struct sim_csv *csv, const struct columns *c, struct mr_arena *arena,
                    struct sim_catalog *catalog)
{
    uint64_t cpus, mem;
    if (csv->fields[c->type].n == 0) return sim_csv_wrong(csv, "instance_type is empty");
    if (csv->fields[c->type].n > MR_NAME_BYTES_MAX)
        return sim_csv_wrong(csv, "instance_type has more than %u bytes", MR_NAME_BYTES_MAX);
    struct sim_instance instance = {.name = mr_str_copy(arena, csv->fields[c->type]),
                                    .verified = true};
    if (instance.name.p == NULL) return MR_ENO_MEMORY;
    int error = sim_csv_number(csv, c->cpus, 0, 4000000, &cpus);
    if (error == 0) error = sim_csv_number(csv, c->mem, 0, UINT32_MAX, &mem);
    if (error == 0) error = devices_read(csv, c->gpu, c->gpus, arena, &instance);
    if (error == 0) error = devices_read(csv, c->accel, c->accels, arena, &instance);
    if (error != 0) return error;
    instance.cpus = (uint32_t)cpus;
    instance.mem_mib = (uint32_t)mem;
    if (c->price != SIM_CSV_NONE && csv->fields[c->price].n > 0 &&
        sim_price_get(csv->fields[c->price], &instance.price_uusd) != 0) {
        return sim_csv_wrong(csv, "the price is not a number of dollars");
    }
    error = sim_catalog_put(catalog, &instance);
    if (error == MR_ELIMIT)
        return sim_csv_wrong(csv, "more than %u instance types", SIM_FLEET_TYPES_MAX);
    return error;
}

int sim_catalog_import(struct sim_catalog *catalog, const struct mr_sim_file *file,
                       struct mr_arena *arena, struct mr_buf *problem)
{
    struct sim_csv csv;
    struct columns columns;
    int error = sim_csv_open(&csv, file, ',', problem);
    if (error == 0) error = columns_find(&csv, &columns);
    while (error == 0 && (error = sim_csv_next(&csv)) == 0)
        error = row_read(&csv, &columns, arena, catalog);
    return error == MR_ENOT_FOUND ? 0 : error;
}
