/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/sim and its tests: fields of a JSON document, each mistake told by its place. */
#ifndef MR_SIM_FIELD_INT_H
#define MR_SIM_FIELD_INT_H

#include <yyjson.h>

#include "sim/sim.h"

struct sim_fields { /* one map of the document */
    yyjson_val *map;
    struct mr_str file;
    char path[160]; /* "regions[0].cells[1]." or "" */
    struct mr_buf *problem;
};

/* All return 0, or MR_ESYNTAX after they said "FILE: PLACE: what is wrong". An absent field leaves
 * *ret. */
int sim_field_wrong(const struct sim_fields *f, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The value must be a map whose keys are all in the list. */
int sim_fields_open(struct sim_fields *f, const char *const *names, size_t count);
/* The i-th item of the list `name` as a map of its own; call sim_fields_open next. */
void sim_field_item(const struct sim_fields *f, const char *name, size_t i, yyjson_val *item,
                    struct sim_fields *ret);
/* The list of this name; *ret NULL when there is none. */
int sim_field_list(const struct sim_fields *f, const char *name, yyjson_val **ret);
int sim_field_text(const struct sim_fields *f, const char *name, struct mr_str *ret);
int sim_field_u32(const struct sim_fields *f, const char *name, uint32_t min, uint32_t max,
                  uint32_t *ret);
/* "512GiB", "2TiB", "900MiB"; a bare number is GiB; in MiB. */
int sim_field_mib(const struct sim_fields *f, const char *name, uint32_t *ret);
/* Dollars, in millionths. */
int sim_field_price(const struct sim_fields *f, const char *name, uint64_t *ret_uusd);
/* 2026-03-01, or with a time: 2026-03-01T12:30:00Z; UTC; in microseconds since 1970. */
int sim_field_date(const struct sim_fields *f, const char *name, uint64_t *ret_us);
/* The same of any text, with or without Z; MR_ESYNTAX. */
int sim_date_get(struct mr_str text, uint64_t *ret_us);

#endif
