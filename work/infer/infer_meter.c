/* SPDX-License-Identifier: Apache-2.0 */
/* Counts what each request must be billed, in memory and in a mapped file, until it is settled.
 *
 * Owns:       the mapping of RUN_DIR/meter.
 * Invariants: (1) a slot is FREE, RUNNING or ENDED, in memory and in the file alike; (2) serials of
 *             slots in use differ; (3) a serial is never given twice.
 * Fails:      MR_EIO at open only; afterwards a write into the mapping cannot fail.
 * Ends:       infer_meter_close; the file stays, it is for whoever bills.
 * Tests:      tests/unit/infer/test_infer_pure.c
 */
#include "infer_int.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define METER_BYTES ((size_t)MR_WIRE_UNSETTLED_MAX * MR_METER_RECORD_BYTES)

static bool records_left(const uint8_t *map)
{
    for (size_t i = 0; i < MR_WIRE_UNSETTLED_MAX; i++) {
        struct mr_meter_record record;
        if (mr_meter_decode(map + i * MR_METER_RECORD_BYTES, &record)) return true;
    }
    return false;
}

/* Another run's records are somebody's bill: they are moved aside, never overwritten. */
static int keep_older(const char *path, const char *run_dir)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    uint8_t *map = mr_alloc_zero(METER_BYTES);
    bool left = false;
    if (map != NULL) {
        ssize_t n = read(fd, map, METER_BYTES);
        left = n > 0 && records_left(map);
    }
    mr_free(map);
    (void)close(fd); /* read only: nothing can be lost */
    char kept[4096];
    int n = snprintf(kept, sizeof(kept), "%s/meter.prev", run_dir);
    if (n < 0 || (size_t)n >= sizeof(kept)) return MR_EIO;
    return left && rename(path, kept) != 0 ? MR_EIO : 0;
}

static int map_file(struct infer_meter *meter, const char *run_dir)
{
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/meter", run_dir);
    if (n < 0 || (size_t)n >= sizeof(path)) return MR_EIO;
    int error = keep_older(path, run_dir);
    if (error != 0) return error;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return MR_EIO;
    void *map = MAP_FAILED;
    /* Reserved now, so that a full disk is an error here and not a SIGBUS later. */
    if (posix_fallocate(fd, 0, (off_t)METER_BYTES) == 0) {
        map = mmap(NULL, METER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    (void)close(fd); /* the mapping keeps the file */
    if (map == MAP_FAILED) return MR_EIO;
    meter->map = map;
    meter->is_file = true;
    memset(meter->map, 0, METER_BYTES);
    return 0;
}

static void slot_write(struct infer_meter *meter, int slot)
{
    const struct infer_meter_slot *s = &meter->slots[slot];
    struct mr_meter_record record = {
        .state = s->state, .serial = s->end.serial, .tenant = s->end.tenant, .usage = s->end.usage};
    /* In place: the order of its stores is what makes a killed worker's slot readable. */
    mr_meter_encode(&record, meter->map + (size_t)slot * MR_METER_RECORD_BYTES);
}

int infer_meter_open(struct infer_meter *meter, const char *run_dir)
{
    *meter = (struct infer_meter){.next_serial = 1};
    if (run_dir != NULL) {
        int error = map_file(meter, run_dir);
        if (error != 0) return error;
    } else {
        meter->map = mr_alloc_zero(METER_BYTES);
        if (meter->map == NULL) return MR_ENO_MEMORY;
    }
    for (int i = 0; i < (int)MR_WIRE_UNSETTLED_MAX; i++) {
        meter->slots[i] = (struct infer_meter_slot){.state = MR_METER_FREE, .owner = -1};
        slot_write(meter, i);
    }
    return 0;
}

void infer_meter_close(struct infer_meter *meter)
{
    if (meter->is_file) {
        (void)munmap(meter->map, METER_BYTES); /* only fails on a bad address */
    } else {
        mr_free(meter->map);
    }
    meter->map = NULL;
    meter->is_file = false;
}

int infer_meter_begin(struct infer_meter *meter, uint32_t tenant)
{
    for (int i = 0; i < (int)MR_WIRE_UNSETTLED_MAX; i++) {
        struct infer_meter_slot *slot = &meter->slots[i];
        if (slot->state == MR_METER_FREE) {
            *slot = (struct infer_meter_slot){.state = MR_METER_RUNNING, .owner = -1};
            slot->end.serial = meter->next_serial++;
            slot->end.tenant = tenant;
            meter->used++;
            slot_write(meter, i);
            return i;
        }
    }
    return -1;
}

void infer_meter_update(struct infer_meter *meter, int slot, const struct mr_usage *usage)
{
    MR_INVARIANT(1, meter->slots[slot].state == MR_METER_RUNNING);
    meter->slots[slot].end.usage = *usage;
    slot_write(meter, slot);
}

void infer_meter_end(struct infer_meter *meter, int slot, struct mr_wire_end *end, int owner)
{
    struct infer_meter_slot *s = &meter->slots[slot];
    MR_INVARIANT(1, s->state == MR_METER_RUNNING);
    end->serial = s->end.serial;
    end->tenant = s->end.tenant;
    s->end = *end;
    s->owner = owner;
    s->state = MR_METER_ENDED;
    slot_write(meter, slot);
}

bool infer_meter_settle(struct infer_meter *meter, uint64_t serial)
{
    for (int i = 0; i < (int)MR_WIRE_UNSETTLED_MAX; i++) {
        struct infer_meter_slot *slot = &meter->slots[i];
        if (slot->state == MR_METER_ENDED && slot->end.serial == serial) {
            *slot = (struct infer_meter_slot){.state = MR_METER_FREE, .owner = -1};
            slot_write(meter, i);
            meter->used--;
            return true;
        }
    }
    return false;
}

void infer_meter_disown(struct infer_meter *meter, int owner)
{
    for (size_t i = 0; i < MR_WIRE_UNSETTLED_MAX; i++) {
        if (meter->slots[i].owner == owner) {
            meter->slots[i].owner = -1;
        }
    }
}
