/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/ctl: reading fields of a JSON document, each mistake told by its full name. */
#ifndef CTL_FIELD_H
#define CTL_FIELD_H

#include <yyjson.h>

#include "base/base.h"

struct ctl_fields { /* one map of the document */
    yyjson_val *map;
    const char *prefix; /* "resources." or "" */
    struct mr_buf *problem;
    struct mr_str *param; /* the field that is wrong; into `problem`'s arena-free static text */
};

/* All of these return 0, or MR_EINVALID after they told what is wrong. An absent field leaves *ret.
 */
int ctl_field_wrong(const struct ctl_fields *f, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Every key of the map must be in the list; else the nearest is offered. */
int ctl_fields_known(const struct ctl_fields *f, const char *const *names, size_t count);
int ctl_field_text(const struct ctl_fields *f, const char *name, size_t max, struct mr_str *ret);
int ctl_field_u64(const struct ctl_fields *f, const char *name, uint64_t min, uint64_t max,
                  uint64_t *ret);
int ctl_field_bool(const struct ctl_fields *f, const char *name, bool *ret);
/* A list of min to max texts without zero bytes. */
int ctl_field_texts(const struct ctl_fields *f, const char *name, size_t min, size_t max);
/* `command`: a program, not empty, and its arguments. */
int ctl_field_command(const struct ctl_fields *f);
/* "a map", "text" and so on, for messages. */
const char *ctl_type_name(yyjson_val *value);
/* A number or text with a fraction, in thousandths: 0.5 and "0.5" are 500. */
int ctl_field_milli(const struct ctl_fields *f, const char *name, uint64_t max, uint64_t *ret);
/* "2GiB", "512MiB", a bare number is GiB; in MiB. */
int ctl_field_mib(const struct ctl_fields *f, const char *name, uint64_t max, uint64_t *ret);
/* Seconds or "90s", "15m", "2h", "1d"; in microseconds. */
int ctl_field_duration(const struct ctl_fields *f, const char *name, uint64_t *ret);
/* A number, or {min, max}. */
int ctl_field_range(const struct ctl_fields *f, const char *name, uint32_t min, uint32_t max,
                    uint32_t ret[2]);
/* Text to thousandths: "0.5" is 500. MR_ESYNTAX. */
int ctl_text_milli(struct mr_str text, uint64_t max, uint64_t *ret);
int ctl_text_duration(struct mr_str text, uint64_t *ret_us);
/* "2026-11-23T09:05:50Z", or a duration from now; absolute microseconds. */
int ctl_field_when(const struct ctl_fields *f, const char *name, uint64_t now_us, uint64_t *ret);

struct ctl_submit;
/* ctl_worker.c: the infer, train or sandbox map of a document. */
int ctl_worker_read(const struct ctl_fields *top, const char *name, struct ctl_submit *ret);
int ctl_base64_check(const struct ctl_fields *f, const char *name);

#endif
