/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of a document: types, units and ranges, and messages that name the field.
 *
 * Owns:  nothing.
 * Never: a float in what it returns; a number with a fraction is read digit by digit.
 */
#include "ctl/ctl_field.h"

#include <stdarg.h>
#include <stdio.h>

int ctl_field_wrong(const struct ctl_fields *f, const char *name, const char *format, ...)
{
    char text[512];
    va_list arguments;
    if (f->problem->n == 0) {
        va_start(arguments, format);
        (void)vsnprintf(text, sizeof text, format, arguments); /* a longer text is cut */
        va_end(arguments);
        mr_buf_printf(f->problem, "%s%s: %s", f->prefix, name, text);
        size_t n = strlen(f->prefix) + strlen(name);
        *f->param = (struct mr_str){(const char *)f->problem->p, n};
    }
    return MR_EINVALID;
}

static size_t common_letters(const char *a, const char *b)
{
    size_t common = 0;
    for (const char *p = a; *p != 0; p++)
        common += strchr(b, *p) != NULL;
    return common;
}

int ctl_fields_known(const struct ctl_fields *f, const char *const *names, size_t count)
{
    yyjson_val *key, *value;
    size_t index, max;
    yyjson_obj_foreach(f->map, index, max, key, value)
    {
        const char *name = yyjson_get_str(key), *near = names[0];
        if (name[0] == 0) return ctl_field_wrong(f, "(an empty name)", "no such field");
        if (strlen(name) != yyjson_get_len(key)) {
            return ctl_field_wrong(f, "(a name with a zero byte)", "no such field");
        }
        if (yyjson_obj_get(f->map, name) != value)
            return ctl_field_wrong(f, name, "is there twice");
        size_t best = 0;
        bool known = false;
        for (size_t i = 0; i < count; i++) {
            known = known || strcmp(names[i], name) == 0;
            size_t common = 2 * common_letters(name, names[i]) + (names[i][0] == name[0] ? 3 : 0);
            size_t length = strlen(names[i]) > strlen(name) ? strlen(names[i]) - strlen(name)
                                                            : strlen(name) - strlen(names[i]);
            size_t score = common > length ? common - length : 0;
            if (score > best) {
                best = score;
                near = names[i];
            }
        }
        if (!known && strlen(name) < 64) {
            return ctl_field_wrong(f, name, "no such field; did you mean '%s'?", near);
        }
        if (!known) return ctl_field_wrong(f, "(a long name)", "no such field");
    }
    return 0;
}

const char *ctl_type_name(yyjson_val *value)
{
    if (value == NULL) return "nothing";
    return yyjson_is_obj(value)    ? "a map"
           : yyjson_is_arr(value)  ? "a list"
           : yyjson_is_str(value)  ? "text"
           : yyjson_is_bool(value) ? "true or false"
           : yyjson_is_null(value) ? "null"
                                   : "a number";
}

int ctl_field_text(const struct ctl_fields *f, const char *name, size_t max, struct mr_str *ret)
{
    yyjson_val *value = yyjson_obj_get(f->map, name);
    if (value == NULL) return 0;
    if (!yyjson_is_str(value))
        return ctl_field_wrong(f, name, "wants text, not %s", ctl_type_name(value));
    struct mr_str text = {yyjson_get_str(value), yyjson_get_len(value)};
    if (text.n == 0) return ctl_field_wrong(f, name, "must not be empty");
    if (text.n > max) return ctl_field_wrong(f, name, "is longer than %zu bytes", max);
    if (memchr(text.p, 0, text.n) != NULL) return ctl_field_wrong(f, name, "holds a zero byte");
    *ret = text;
    return 0;
}

int ctl_field_texts(const struct ctl_fields *f, const char *name, size_t min, size_t max)
{
    yyjson_val *value = yyjson_obj_get(f->map, name), *item;
    size_t index, count;
    if (value == NULL) return 0;
    if (!yyjson_is_arr(value)) {
        return ctl_field_wrong(f, name, "wants a list of texts, not %s", ctl_type_name(value));
    }
    if (yyjson_arr_size(value) < min || yyjson_arr_size(value) > max) {
        return ctl_field_wrong(f, name, "wants %zu to %zu texts, not %zu", min, max,
                               yyjson_arr_size(value));
    }
    yyjson_arr_foreach(value, index, count, item)
    {
        if (!yyjson_is_str(item)) {
            return ctl_field_wrong(f, name, "wants a list of texts; entry %zu is %s", index + 1,
                                   ctl_type_name(item));
        }
        if (strlen(yyjson_get_str(item)) != yyjson_get_len(item)) {
            return ctl_field_wrong(f, name, "entry %zu holds a zero byte", index + 1);
        }
    }
    return 0;
}

int ctl_field_command(const struct ctl_fields *f)
{
    int error = ctl_field_texts(f, "command", 1, MR_ARGV_MAX);
    yyjson_val *program = yyjson_arr_get_first(yyjson_obj_get(f->map, "command"));
    if (error != 0 || program == NULL || yyjson_get_len(program) > 0) return error;
    return ctl_field_wrong(f, "command", "the program is empty");
}

/* A value as a person would write it back, for messages. */
static const char *value_shown(yyjson_val *value, char shown[48])
{
    if (yyjson_is_str(value)) {
        (void)snprintf(shown, 48, "'%.40s'", yyjson_get_str(value)); /* a longer text is cut */
    } else if (yyjson_is_uint(value)) {
        (void)snprintf(shown, 48, "%llu", (unsigned long long)yyjson_get_uint(value));
    } else if (yyjson_is_sint(value)) {
        (void)snprintf(shown, 48, "%lld", (long long)yyjson_get_sint(value));
    } else if (yyjson_is_real(value)) {
        (void)snprintf(shown, 48, "%g", yyjson_get_real(value));
    } else {
        (void)snprintf(shown, 48, "%s", ctl_type_name(value));
    }
    return shown;
}

/* Numbers are taken as text too, since options of a command line are. */
static bool value_text(yyjson_val *value, char scratch[40], struct mr_str *ret)
{
    if (yyjson_is_str(value)) {
        *ret = (struct mr_str){yyjson_get_str(value), yyjson_get_len(value)};
        return true;
    }
    int n = -1;
    if (yyjson_is_uint(value)) {
        n = snprintf(scratch, 40, "%llu", (unsigned long long)yyjson_get_uint(value));
    } else if (yyjson_is_real(value)) {
        n = snprintf(scratch, 40, "%.6f", yyjson_get_real(value));
    }
    if (n < 0 || n >= 40) return false;
    *ret = (struct mr_str){scratch, (size_t)n};
    return true;
}

int ctl_field_u64(const struct ctl_fields *f, const char *name, uint64_t min, uint64_t max,
                  uint64_t *ret)
{
    char scratch[40], shown[48];
    struct mr_str text = {0};
    uint64_t number;
    yyjson_val *value = yyjson_obj_get(f->map, name);
    if (value == NULL) return 0;
    if (yyjson_is_real(value) || !value_text(value, scratch, &text) ||
        mr_str_to_u64(text, &number) != 0 || number < min || number > max) {
        return ctl_field_wrong(f, name, "wants a whole number from %llu to %llu, not %s",
                               (unsigned long long)min, (unsigned long long)max,
                               value_shown(value, shown));
    }
    *ret = number;
    return 0;
}

int ctl_field_bool(const struct ctl_fields *f, const char *name, bool *ret)
{
    yyjson_val *value = yyjson_obj_get(f->map, name);
    if (value == NULL) return 0;
    if (!yyjson_is_bool(value)) {
        return ctl_field_wrong(f, name, "wants true or false, not %s", ctl_type_name(value));
    }
    *ret = yyjson_get_bool(value);
    return 0;
}

int ctl_text_milli(struct mr_str text, uint64_t max, uint64_t *ret)
{
    struct mr_str rest = text, whole, fraction = {0};
    uint64_t number = 0, milli = 0, unit = 100;
    if (!mr_str_split(&rest, '.', &whole)) return MR_ESYNTAX;
    if (rest.p != NULL) fraction = rest;
    if (whole.n > 0 && mr_str_to_u64(whole, &number) != 0) return MR_ESYNTAX;
    if (whole.n == 0 && fraction.n == 0) return MR_ESYNTAX;
    for (size_t i = 0; i < fraction.n; i++) {
        if (fraction.p[i] < '0' || fraction.p[i] > '9') return MR_ESYNTAX;
        milli += unit * (uint64_t)(fraction.p[i] - '0');
        unit /= 10;
    }
    if (number > max / 1000 || number * 1000 + milli > max) return MR_ETOO_LARGE;
    *ret = number * 1000 + milli;
    return 0;
}

int ctl_field_milli(const struct ctl_fields *f, const char *name, uint64_t max, uint64_t *ret)
{
    char scratch[40], shown[48];
    struct mr_str text = {0};
    uint64_t milli = 0;
    yyjson_val *value = yyjson_obj_get(f->map, name);
    if (value == NULL) return 0;
    if (!value_text(value, scratch, &text) || ctl_text_milli(text, max, &milli) != 0 ||
        milli == 0) {
        return ctl_field_wrong(f, name, "wants a number like 2 or 0.5, not %s",
                               value_shown(value, shown));
    }
    *ret = milli;
    return 0;
}

/* Splits "2GiB" into thousandths of 2 and the unit. */
static int number_and_unit(struct mr_str text, uint64_t *ret_milli, struct mr_str *ret_unit)
{
    size_t n = 0;
    while (n < text.n && ((text.p[n] >= '0' && text.p[n] <= '9') || text.p[n] == '.'))
        n++;
    *ret_unit = mr_str_trim((struct mr_str){text.p + n, text.n - n});
    return ctl_text_milli((struct mr_str){text.p, n}, UINT64_MAX / 4, ret_milli);
}

struct unit {
    const char *name;
    uint64_t size;
};

static int find_unit(struct mr_str name, const struct unit *units, size_t count, uint64_t *ret)
{
    for (size_t i = 0; i < count; i++) {
        if (!mr_str_equal_nocase(name, mr_str_from(units[i].name))) continue;
        *ret = units[i].size;
        return 0;
    }
    return MR_ESYNTAX;
}

int ctl_field_mib(const struct ctl_fields *f, const char *name, uint64_t max, uint64_t *ret)
{
    static const struct unit units[] = {
        {"", 1024}, {"G", 1024}, {"GB", 1024},   {"GiB", 1024},   {"M", 1},
        {"MB", 1},  {"MiB", 1},  {"T", 1048576}, {"TB", 1048576}, {"TiB", 1048576}};
    char scratch[40], shown[48];
    struct mr_str text = {0}, unit;
    uint64_t milli, size;
    yyjson_val *value = yyjson_obj_get(f->map, name);
    if (value == NULL) return 0;
    if (value_text(value, scratch, &text) && number_and_unit(text, &milli, &unit) == 0 &&
        find_unit(unit, units, MR_COUNT_OF(units), &size) == 0 && milli / 1000 <= max / size) {
        uint64_t mib = mr_mul_div_u64(milli, size, 1000);
        mib = MR_MAX(mib, 1u);
        if (milli > 0 && mib <= max) {
            *ret = mib;
            return 0;
        }
    }
    return ctl_field_wrong(f, name, "wants a size like 2GiB or 512MiB, not %s",
                           value_shown(value, shown));
}

int ctl_text_duration(struct mr_str text, uint64_t *ret_us)
{
    static const struct unit units[] = {{"", 1000},     {"s", 1000},    {"ms", 1},
                                        {"m", 60000},   {"min", 60000}, {"h", 3600000},
                                        {"d", 86400000}};
    struct mr_str unit;
    uint64_t milli, size;
    if (number_and_unit(text, &milli, &unit) != 0) return MR_ESYNTAX;
    if (find_unit(unit, units, MR_COUNT_OF(units), &size) != 0) return MR_ESYNTAX;
    /* Thousandths of a unit, in thousandths of a second: so in microseconds. */
    return mr_mul_u64(milli, size, ret_us) && *ret_us < UINT64_MAX / 4 ? 0 : MR_ETOO_LARGE;
}

int ctl_field_duration(const struct ctl_fields *f, const char *name, uint64_t *ret)
{
    char scratch[40], shown[48];
    struct mr_str text = {0};
    uint64_t us = 0;
    yyjson_val *value = yyjson_obj_get(f->map, name);
    if (value == NULL) return 0;
    if (value_text(value, scratch, &text) && ctl_text_duration(text, &us) == 0) {
        *ret = us;
        return 0;
    }
    return ctl_field_wrong(f, name, "wants seconds or a time like 90s, 15m, 2h, 1d, not %s",
                           value_shown(value, shown));
}

int ctl_field_range(const struct ctl_fields *f, const char *name, uint32_t min, uint32_t max,
                    uint32_t ret[2])
{
    yyjson_val *value = yyjson_obj_get(f->map, name);
    uint64_t low = ret[0], high = ret[1];
    if (value == NULL) return 0;
    if (yyjson_is_obj(value)) {
        static const char *const names[] = {"min", "max"};
        char prefix[64];
        (void)snprintf(prefix, sizeof prefix, "%s%s.", f->prefix, name);
        struct ctl_fields inner = *f;
        inner.map = value;
        inner.prefix = prefix;
        int error = ctl_fields_known(&inner, names, 2);
        if (error == 0) error = ctl_field_u64(&inner, "min", min, max, &low);
        high = MR_MAX(low, high);
        if (error == 0) error = ctl_field_u64(&inner, "max", min, max, &high);
        if (error != 0) return error;
    } else {
        int error = ctl_field_u64(f, name, MR_MAX(min, 1u), max, &low);
        if (error != 0) return error;
        high = low;
    }
    if (high < low || high == 0)
        return ctl_field_wrong(f, name, "max must be 1 or more and not below min");
    ret[0] = (uint32_t)low;
    ret[1] = (uint32_t)high;
    return 0;
}

/* --- when ------------------------------------------------------------------------------------- */

static bool digits(struct mr_str s, size_t at, size_t n, uint64_t *ret)
{
    return at + n <= s.n && mr_str_to_u64((struct mr_str){s.p + at, n}, ret) == 0;
}

/* RFC 3339 in UTC ("2026-11-23T09:05:50Z"); days from civil: Howard Hinnant, chrono-compatible
 * low-level date algorithms. */
static bool read_rfc3339(struct mr_str s, uint64_t *ret_us)
{
    uint64_t y, m, d, hour, minute, second;
    if (s.n != 20 || s.p[4] != '-' || s.p[7] != '-' || s.p[10] != 'T' || s.p[19] != 'Z')
        return false;
    if (!digits(s, 0, 4, &y) || !digits(s, 5, 2, &m) || !digits(s, 8, 2, &d) ||
        !digits(s, 11, 2, &hour) || !digits(s, 14, 2, &minute) || !digits(s, 17, 2, &second)) {
        return false;
    }
    static const uint8_t days_of[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (y < 1970 || m < 1 || m > 12) return false;
    bool leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    if (d < 1 || d > days_of[m - 1] + (m == 2 && leap ? 1u : 0u) || hour > 23 || minute > 59 ||
        second > 60) {
        return false;
    }
    y -= m <= 2;
    uint64_t era = y / 400, yoe = y - era * 400;
    uint64_t doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
    uint64_t days = era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
    *ret_us = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000000u;
    return true;
}

int ctl_field_when(const struct ctl_fields *f, const char *name, uint64_t now_us, uint64_t *ret)
{
    yyjson_val *value = yyjson_obj_get(f->map, name);
    uint64_t duration_us = 0;
    if (value == NULL) return 0;
    struct mr_str text = {yyjson_get_str(value), yyjson_get_len(value)};
    if (text.p != NULL && read_rfc3339(text, ret)) return 0;
    if (ctl_field_duration(f, name, &duration_us) != 0) {
        mr_buf_reset(f->problem);
        return ctl_field_wrong(f, name,
                               "wants a time like 2026-11-23T09:05:50Z, or one from now like 2h");
    }
    *ret = now_us + duration_us;
    return 0;
}
