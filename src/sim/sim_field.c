/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of a JSON document with their units; what is wrong is said with its place.
 *
 * Owns:       nothing.
 * Invariants: (1) a result is within the limits that the caller gave.
 * Never:      a float in a result: fractions are read digit by digit.
 * Cost:       O(fields) for each field asked for.
 * Idea:       docs/reference/fleet-file.md   Tests: tests/unit/sim/test_sim_fleet.c
 */
#include "sim_field_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sim_fleet_int.h"

int sim_field_wrong(const struct sim_fields *f, const char *name, const char *format, ...)
{
    char text[300];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments); /* cut when long */
    va_end(arguments);
    mr_buf_reset(f->problem);
    size_t path = strlen(f->path);
    if (name[0] == 0 && path > 0) path--; /* its last point */
    mr_buf_printf(f->problem, "%.*s: %.*s%s%s%s", MR_STR_ARG(f->file), (int)path, f->path, name,
                  path > 0 || name[0] != 0 ? ": " : "", text);
    return MR_ESYNTAX;
}

int sim_fields_open(struct sim_fields *f, const char *const *names, size_t count)
{
    yyjson_val *key, *value;
    size_t index, max;
    char known[256] = "";
    if (!yyjson_is_obj(f->map)) return sim_field_wrong(f, "", "a map of fields is wanted here");
    yyjson_obj_foreach(f->map, index, max, key, value)
    {
        struct mr_str name = {yyjson_get_str(key), yyjson_get_len(key)};
        bool found = false;
        for (size_t i = 0; i < count && !found; i++)
            found = mr_str_equal(name, mr_str_from(names[i]));
        if (found) continue;
        size_t at = 0;
        for (size_t i = 0; i < count && at < sizeof known; i++) {
            int n = snprintf(known + at, sizeof known - at, "%s%s", i > 0 ? ", " : "", names[i]);
            at += n > 0 ? (size_t)n : 0;
        }
        return sim_field_wrong(f, "", "no field '%.*s' here; there are: %s",
                               (int)MR_MIN(name.n, (size_t)60), name.p, known);
    }
    return 0;
}

void sim_field_item(const struct sim_fields *f, const char *name, size_t i, yyjson_val *item,
                    struct sim_fields *ret)
{
    char path[sizeof f->path];
    (void)snprintf(path, sizeof path, "%.100s%s[%zu].", f->path, name, i); /* cut when long */
    *ret = (struct sim_fields){.map = item, .file = f->file, .problem = f->problem};
    memcpy(ret->path, path, sizeof path);
}

int sim_field_list(const struct sim_fields *f, const char *name, yyjson_val **ret)
{
    yyjson_val *value = yyjson_obj_get(f->map, name);
    if (value != NULL && !yyjson_is_arr(value))
        return sim_field_wrong(f, name, "a list is wanted here");
    *ret = value;
    return 0;
}

int sim_field_text(const struct sim_fields *f, const char *name, struct mr_str *ret)
{
    yyjson_val *value = yyjson_obj_get(f->map, name);
    if (value == NULL) return 0;
    struct mr_str text = {yyjson_get_str(value), yyjson_get_len(value)};
    if (!yyjson_is_str(value) || text.n == 0 || text.n > MR_NAME_BYTES_MAX)
        return sim_field_wrong(f, name, "a text of 1 to %u bytes is wanted", MR_NAME_BYTES_MAX);
    *ret = text;
    return 0;
}

int sim_field_u32(const struct sim_fields *f, const char *name, uint32_t min, uint32_t max,
                  uint32_t *ret)
{
    yyjson_val *value = yyjson_obj_get(f->map, name);
    if (value == NULL) return 0;
    uint64_t number = yyjson_get_uint(value);
    if (!yyjson_is_uint(value) || number < min || number > max)
        return sim_field_wrong(f, name, "a whole number from %u to %u is wanted", min, max);
    *ret = (uint32_t)number;
    return 0;
}

/* A number or a text as it would be written. */
static struct mr_str text_of(yyjson_val *value, char scratch[32])
{
    int n = 0;
    if (yyjson_is_str(value)) return (struct mr_str){yyjson_get_str(value), yyjson_get_len(value)};
    if (yyjson_is_uint(value)) {
        n = snprintf(scratch, 32, "%llu", (unsigned long long)yyjson_get_uint(value));
    } else if (yyjson_is_real(value) && yyjson_get_real(value) >= 0 &&
               yyjson_get_real(value) < 1e12) {
        n = snprintf(scratch, 32, "%.6f", yyjson_get_real(value));
    }
    return (struct mr_str){scratch, n > 0 ? (size_t)n : 0};
}

int sim_field_mib(const struct sim_fields *f, const char *name, uint32_t *ret)
{
    static const struct {
        const char *name;
        uint64_t mib;
    } units[] = {{"", 1024}, {"GiB", 1024}, {"GB", 1024}, {"MiB", 1}, {"MB", 1}, {"TiB", 1048576}};
    char scratch[32];
    yyjson_val *value = yyjson_obj_get(f->map, name);
    if (value == NULL) return 0;
    struct mr_str text = text_of(value, scratch);
    size_t digits = 0;
    while (digits < text.n && text.p[digits] >= '0' && text.p[digits] <= '9')
        digits++;
    uint64_t number, mib = 0;
    struct mr_str unit = mr_str_trim((struct mr_str){text.p + digits, text.n - digits});
    for (size_t i = 0; i < MR_COUNT_OF(units); i++) {
        if (mr_str_equal_nocase(unit, mr_str_from(units[i].name))) mib = units[i].mib;
    }
    if (mib == 0 || mr_str_to_u64((struct mr_str){text.p, digits}, &number) != 0 || number == 0 ||
        number > UINT32_MAX / mib) {
        return sim_field_wrong(f, name, "a size such as 512GiB is wanted");
    }
    *ret = (uint32_t)(number * mib);
    return 0;
}

int sim_price_get(struct mr_str text, uint64_t *ret_uusd)
{
    struct mr_str rest = text, whole;
    uint64_t number, fraction = 0;
    if (!mr_str_split(&rest, '.', &whole)) return MR_ESYNTAX;
    int error = mr_str_to_u64(whole, &number);
    if (error != 0) return error;
    for (size_t i = 0; i < 6; i++) {
        uint64_t digit = 0;
        if (i < rest.n) {
            if (rest.p[i] < '0' || rest.p[i] > '9') return MR_ESYNTAX;
            digit = (uint64_t)(rest.p[i] - '0');
        }
        fraction = fraction * 10 + digit;
    }
    for (size_t i = 6; i < rest.n; i++) {
        if (rest.p[i] < '0' || rest.p[i] > '9') return MR_ESYNTAX;
    }
    if (number > 1000000000u) return MR_ETOO_LARGE;
    *ret_uusd = number * 1000000 + fraction;
    return 0;
}

int sim_field_price(const struct sim_fields *f, const char *name, uint64_t *ret_uusd)
{
    char scratch[32];
    yyjson_val *value = yyjson_obj_get(f->map, name);
    if (value == NULL) return 0;
    if (sim_price_get(text_of(value, scratch), ret_uusd) != 0)
        return sim_field_wrong(f, name, "dollars an hour such as 55.04 are wanted");
    return 0;
}

/* Digits of text at `at` as a number; false when one of them is none. */
static bool digits_at(struct mr_str text, size_t at, size_t count, uint32_t *ret)
{
    uint32_t value = 0;
    if (at + count > text.n) return false;
    for (size_t i = at; i < at + count; i++) {
        if (text.p[i] < '0' || text.p[i] > '9') return false;
        value = value * 10 + (uint32_t)(text.p[i] - '0');
    }
    *ret = value;
    return true;
}

int sim_date_get(struct mr_str text, uint64_t *ret_us)
{
    static const uint16_t before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    static const uint8_t lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    uint32_t year, month, day, hour = 0, minute = 0, second = 0;
    if (text.n > 0 && text.p[text.n - 1] == 'Z') text.n--;
    if (text.n != 10 && text.n != 19) return MR_ESYNTAX;
    if (!digits_at(text, 0, 4, &year) || !digits_at(text, 5, 2, &month) ||
        !digits_at(text, 8, 2, &day) || text.p[4] != '-' || text.p[7] != '-') {
        return MR_ESYNTAX;
    }
    if (text.n == 19) {
        if (text.p[10] != 'T' || text.p[13] != ':' || text.p[16] != ':') return MR_ESYNTAX;
        if (!digits_at(text, 11, 2, &hour) || !digits_at(text, 14, 2, &minute) ||
            !digits_at(text, 17, 2, &second)) {
            return MR_ESYNTAX;
        }
    }
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (year < 1970 || month < 1 || month > 12 || day < 1) return MR_ESYNTAX;
    if (day > lengths[month - 1] + (uint32_t)(leap && month == 2)) return MR_ESYNTAX;
    if (hour > 23 || minute > 59 || second > 60) return MR_ESYNTAX;
    uint64_t past = year - 1;
    uint64_t days = (uint64_t)(year - 1970) * 365 + (past / 4 - past / 100 + past / 400) -
                    (1969u / 4 - 1969u / 100 + 1969u / 400);
    days += before[month - 1] + (uint64_t)(leap && month > 2) + day - 1;
    *ret_us = ((days * 24 + hour) * 3600 + minute * 60 + second) * 1000000u;
    return 0;
}

int sim_field_date(const struct sim_fields *f, const char *name, uint64_t *ret_us)
{
    yyjson_val *value = yyjson_obj_get(f->map, name);
    if (value == NULL) return 0;
    struct mr_str text = {yyjson_get_str(value), yyjson_get_len(value)};
    if (!yyjson_is_str(value) || sim_date_get(text, ret_us) != 0)
        return sim_field_wrong(f, name, "a date such as 2026-03-01 is wanted (UTC)");
    return 0;
}
