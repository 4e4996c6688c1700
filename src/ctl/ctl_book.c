/* SPDX-License-Identifier: Apache-2.0 */
/* The book: names of tenants and accelerators, keys, and the documents of workloads.
 *
 * Owns:       every string and table in it.
 * Invariants: (1) ids are given in order and never reused; (2) keys are sorted and differ; (3) a
 *             document belongs to one workload.
 * Cost:       names linear in their few; keys O(log n); documents O(1).
 */
#include "ctl/ctl_int.h"

#define BOOK_VERSION 1u

static char *text_copy(struct mr_str s)
{
    char *copy = mr_alloc(s.n + 1);
    if (copy == NULL) return NULL;
    if (s.n > 0) memcpy(copy, s.p, s.n);
    copy[s.n] = 0;
    return copy;
}

static void spec_free(struct ctl_spec *spec)
{
    mr_free(spec->name);
    mr_free(spec->document);
    mr_free(spec->served_name);
    *spec = (struct ctl_spec){0};
}

void ctl_book_done(struct ctl_book *book)
{
    for (uint32_t i = 0; i < MR_COUNT_OF(book->tenants); i++)
        mr_free(book->tenants[i]);
    for (uint32_t i = 0; i < MR_COUNT_OF(book->accels); i++)
        mr_free(book->accels[i]);
    for (size_t i = 0; i < book->spec_capacity; i++)
        spec_free(&book->specs[i]);
    mr_free(book->specs);
    mr_free(book->keys);
    mr_free(book->services);
    *book = (struct ctl_book){0};
}

/* --- names ------------------------------------------------------------------------------------ */

static uint32_t name_find(char *const *names, uint32_t count, struct mr_str name)
{
    for (uint32_t i = 1; i <= count; i++) {
        if (mr_str_equal_nocase(mr_str_from(names[i]), name)) return i;
    }
    return 0;
}

static uint32_t name_make(char **names, uint32_t *count, uint32_t max, struct mr_str name)
{
    uint32_t id = name_find(names, *count, name);
    if (id != 0 || *count + 1 >= max) return id;
    char *copy = text_copy(name);
    if (copy == NULL) return 0;
    names[++*count] = copy;
    return *count;
}

uint32_t ctl_tenant_find(const struct ctl_book *book, struct mr_str name)
{
    return name_find(book->tenants, book->tenant_count, name);
}

uint32_t ctl_tenant_make(struct ctl_book *book, struct mr_str name)
{
    return name_make(book->tenants, &book->tenant_count, MR_COUNT_OF(book->tenants), name);
}

const char *ctl_tenant_name(const struct ctl_book *book, uint32_t id)
{
    return id >= 1 && id <= book->tenant_count ? book->tenants[id] : "?";
}

uint8_t ctl_accel_find(const struct ctl_book *book, struct mr_str name)
{
    return (uint8_t)name_find(book->accels, book->accel_count, name);
}

uint8_t ctl_accel_make(struct ctl_book *book, struct mr_str name)
{
    return (uint8_t)name_make(book->accels, &book->accel_count, MR_ACCEL_TYPES_MAX, name);
}

const char *ctl_accel_name(const struct ctl_book *book, uint8_t type)
{
    return type >= 1 && type <= book->accel_count ? book->accels[type] : "";
}

/* --- keys ------------------------------------------------------------------------------------- */

/* The first key that is not below `sha256`. */
static size_t key_at(const struct ctl_book *book, const uint8_t sha256[32])
{
    size_t low = 0, high = book->key_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (memcmp(book->keys[middle].sha256, sha256, 32) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

int ctl_key_put(struct ctl_book *book, const struct ctl_key *key)
{
    size_t at = key_at(book, key->sha256);
    if (at < book->key_count && memcmp(book->keys[at].sha256, key->sha256, 32) == 0) {
        book->keys[at] = *key;
        return 0;
    }
    if (book->key_count >= CTL_KEYS_MAX) return MR_ELIMIT;
    if (book->key_count == book->key_capacity) {
        size_t capacity = book->key_capacity > 0 ? 2 * book->key_capacity : 16;
        struct ctl_key *keys = mr_realloc(book->keys, capacity * sizeof *keys);
        if (keys == NULL) return MR_ENO_MEMORY;
        book->keys = keys;
        book->key_capacity = capacity;
    }
    memmove(book->keys + at + 1, book->keys + at, (book->key_count - at) * sizeof *book->keys);
    book->keys[at] = *key;
    book->key_count++;
    return 0;
}

bool ctl_key_drop(struct ctl_book *book, const uint8_t sha256[32])
{
    size_t at = key_at(book, sha256);
    if (at == book->key_count || memcmp(book->keys[at].sha256, sha256, 32) != 0) return false;
    book->key_count--;
    memmove(book->keys + at, book->keys + at + 1, (book->key_count - at) * sizeof *book->keys);
    return true;
}

/* --- documents -------------------------------------------------------------------------------- */

static size_t spec_slot(const struct ctl_book *book, uint64_t workload)
{
    size_t at = (size_t)mr_hash_mix(workload) & (book->spec_capacity - 1);
    while (book->specs[at].workload != 0 && book->specs[at].workload != workload) {
        at = (at + 1) & (book->spec_capacity - 1);
    }
    return at;
}

struct ctl_spec *ctl_spec_find(const struct ctl_book *book, uint64_t workload)
{
    if (book->spec_capacity == 0 || workload == 0) return NULL;
    struct ctl_spec *spec = &book->specs[spec_slot(book, workload)];
    return spec->workload != 0 ? spec : NULL;
}

static int specs_resize(struct ctl_book *book, size_t capacity)
{
    struct ctl_book made = {.specs = mr_alloc_zero(capacity * sizeof(struct ctl_spec)),
                            .spec_capacity = capacity};
    if (made.specs == NULL) return MR_ENO_MEMORY;
    for (size_t i = 0; i < book->spec_capacity; i++) {
        uint64_t workload = book->specs[i].workload;
        if (workload != 0) made.specs[spec_slot(&made, workload)] = book->specs[i];
    }
    mr_free(book->specs);
    book->specs = made.specs;
    book->spec_capacity = capacity;
    return 0;
}

static int service_put(struct ctl_book *book, uint64_t workload)
{
    if (book->service_count == book->service_capacity) {
        size_t capacity = book->service_capacity > 0 ? 2 * book->service_capacity : 16;
        uint64_t *services = mr_realloc(book->services, capacity * sizeof *services);
        if (services == NULL) return MR_ENO_MEMORY;
        book->services = services;
        book->service_capacity = capacity;
    }
    book->services[book->service_count++] = workload;
    return 0;
}

int ctl_spec_put(struct ctl_book *book, const struct ctl_spec *take_spec)
{
    if (2 * (book->spec_count + 1) > book->spec_capacity) {
        int error = specs_resize(book, book->spec_capacity > 0 ? 2 * book->spec_capacity : 64);
        if (error != 0) return error;
    }
    struct ctl_spec *slot = &book->specs[spec_slot(book, take_spec->workload)];
    MR_ASSERT(slot->workload == 0);
    *slot = *take_spec;
    book->spec_count++;
    return take_spec->served_name != NULL ? service_put(book, take_spec->workload) : 0;
}

void ctl_specs_sweep(struct ctl_book *book, const struct mr_core *core)
{
    size_t kept = 0;
    for (size_t i = 0; i < book->spec_capacity; i++) {
        struct ctl_spec *spec = &book->specs[i];
        if (spec->workload == 0) continue;
        if (mr_core_workload_known(core, (struct mr_workload_id){spec->workload})) continue;
        spec_free(spec);
        book->spec_count--;
    }
    /* Holes would end a probe too early: lay the table anew. */
    if (book->spec_capacity > 0 && specs_resize(book, book->spec_capacity) != 0) {
        mr_panic(__FILE__, __LINE__, "no memory for the table of documents");
    }
    for (size_t i = 0; i < book->service_count; i++) {
        if (ctl_spec_find(book, book->services[i]) != NULL)
            book->services[kept++] = book->services[i];
    }
    book->service_count = kept;
}

/* --- stored form ------------------------------------------------------------------------------ */

static void put_text(struct mr_buf *buf, const char *text)
{
    mr_buf_put_bytes32(buf, mr_str_from(text));
}

void ctl_book_save(const struct ctl_book *book, struct mr_buf *buf)
{
    mr_buf_put_u8(buf, BOOK_VERSION);
    mr_buf_put_u32(buf, book->tenant_count);
    for (uint32_t i = 1; i <= book->tenant_count; i++)
        put_text(buf, book->tenants[i]);
    mr_buf_put_u32(buf, book->accel_count);
    for (uint32_t i = 1; i <= book->accel_count; i++)
        put_text(buf, book->accels[i]);
    mr_buf_put_u32(buf, (uint32_t)book->key_count);
    for (size_t i = 0; i < book->key_count; i++) {
        mr_buf_put(buf, book->keys[i].sha256, 32);
        mr_buf_put_u32(buf, book->keys[i].tenant);
        mr_buf_put_u8(buf, book->keys[i].role);
    }
    mr_buf_put_u32(buf, (uint32_t)book->spec_count);
    for (size_t i = 0; i < book->spec_capacity; i++) {
        const struct ctl_spec *spec = &book->specs[i];
        if (spec->workload == 0) continue;
        mr_buf_put_u64(buf, spec->workload);
        mr_buf_put_u64(buf, spec->created_us);
        put_text(buf, spec->name);
        put_text(buf, spec->document);
        mr_buf_put_u8(buf, spec->shared);
        mr_buf_put_u8(buf, spec->served_name != NULL);
        if (spec->served_name != NULL) put_text(buf, spec->served_name);
    }
    /* Their order decides which of two models with one name is called. */
    mr_buf_put_u32(buf, (uint32_t)book->service_count);
    for (size_t i = 0; i < book->service_count; i++)
        mr_buf_put_u64(buf, book->services[i]);
}

static int load_spec(struct ctl_book *book, struct mr_reader *reader)
{
    struct ctl_spec spec = {.workload = mr_read_u64(reader), .created_us = mr_read_u64(reader)};
    spec.name = text_copy(mr_read_bytes32(reader));
    spec.document = text_copy(mr_read_bytes32(reader));
    spec.shared = mr_read_u8(reader) != 0;
    if (mr_read_u8(reader) != 0) spec.served_name = text_copy(mr_read_bytes32(reader));
    if (reader->failed || spec.workload == 0 || ctl_spec_find(book, spec.workload) != NULL) {
        spec_free(&spec);
        return MR_ECORRUPT;
    }
    return ctl_spec_put(book, &spec);
}

static int load_names(struct mr_reader *reader, char **names, uint32_t *count, uint32_t max)
{
    uint32_t wanted = mr_read_u32(reader);
    for (uint32_t i = 0; i < wanted && !reader->failed; i++) {
        if (name_make(names, count, max, mr_read_bytes32(reader)) != i + 1) return MR_ECORRUPT;
    }
    return 0;
}

int ctl_book_load(struct ctl_book *book, struct mr_reader *reader)
{
    if (mr_read_u8(reader) != BOOK_VERSION) return MR_EUNSUPPORTED;
    int error = load_names(reader, book->tenants, &book->tenant_count, MR_COUNT_OF(book->tenants));
    if (error == 0)
        error = load_names(reader, book->accels, &book->accel_count, MR_ACCEL_TYPES_MAX);
    uint32_t keys = mr_read_u32(reader);
    for (uint32_t i = 0; i < keys && error == 0 && !reader->failed; i++) {
        struct ctl_key key = {0};
        for (size_t k = 0; k < 32; k++)
            key.sha256[k] = mr_read_u8(reader);
        key.tenant = mr_read_u32(reader);
        key.role = mr_read_u8(reader);
        error = ctl_key_put(book, &key);
    }
    uint32_t specs = mr_read_u32(reader);
    for (uint32_t i = 0; i < specs && error == 0 && !reader->failed; i++)
        error = load_spec(book, reader);
    uint32_t services = mr_read_u32(reader);
    if (error == 0 && services != book->service_count) error = MR_ECORRUPT;
    for (uint32_t i = 0; i < services && error == 0; i++)
        book->services[i] = mr_read_u64(reader);
    return error == 0 && reader->failed ? MR_ECORRUPT : error;
}
