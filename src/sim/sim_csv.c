/* SPDX-License-Identifier: Apache-2.0 */
/* Tables as text: a row of names, then rows of fields that point into the text.
 *
 * Owns:       nothing.
 * Invariants: (1) fields lie within the text.
 * Never:      allocation, a copy of the text.
 * Cost:       O(1) for each byte, once.
 * Idea:       RFC 4180   Tests: tests/unit/sim/test_sim_csv.c, fuzz target sim_csv
 */
#include "sim_csv_int.h"

#include <stdarg.h>
#include <stdio.h>

int sim_csv_wrong(struct sim_csv *csv, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments); /* cut when long */
    va_end(arguments);
    mr_buf_reset(csv->problem);
    mr_buf_printf(csv->problem, "%.*s:%u: %s", MR_STR_ARG(csv->file), csv->line, text);
    return MR_ESYNTAX;
}

/* Cuts one field off *rest; *ret_last when a line end or the text's end follows. */
static int field_next(struct sim_csv *csv, struct mr_str *ret_field, bool *ret_last)
{
    struct mr_str *rest = &csv->rest;
    size_t end = 0, from = 0;
    bool quoted = rest->n > 0 && rest->p[0] == '"';
    if (quoted) {
        from = end = 1;
        while (end < rest->n &&
               !(rest->p[end] == '"' && !(end + 1 < rest->n && rest->p[end + 1] == '"'))) {
            end += rest->p[end] == '"' ? 2 : 1;
        }
        if (end >= rest->n) return sim_csv_wrong(csv, "a quote that does not end");
        *ret_field = (struct mr_str){rest->p + from, end - from};
        end++;
    } else {
        while (end < rest->n && rest->p[end] != csv->separator && rest->p[end] != '\n')
            end++;
        *ret_field = mr_str_trim((struct mr_str){rest->p, end});
    }
    while (end < rest->n && (rest->p[end] == '\r' || rest->p[end] == ' '))
        end++;
    *ret_last = end >= rest->n || rest->p[end] == '\n';
    if (!*ret_last && rest->p[end] != csv->separator)
        return sim_csv_wrong(csv, "something follows a closing quote");
    size_t cut = MR_MIN(end + 1, rest->n);
    *rest = (struct mr_str){rest->p + cut, rest->n - cut};
    return 0;
}

/* One row into fields[]; blank lines are passed over. */
static int row_next(struct sim_csv *csv, struct mr_str *fields, uint32_t most, uint32_t *ret_count)
{
    for (;;) {
        if (csv->rest.n == 0) return MR_ENOT_FOUND;
        csv->line++;
        uint32_t count = 0;
        bool last = false;
        while (!last) {
            struct mr_str field;
            int error = field_next(csv, &field, &last);
            if (error != 0) return error;
            /* One empty field too many is only a separator at the end of the line. */
            if (count >= most && !(last && field.n == 0))
                return sim_csv_wrong(csv, "more fields than the %u that have names", most);
            if (count < most) fields[count++] = field;
        }
        if (count == 1 && fields[0].n == 0) continue;
        *ret_count = count;
        return 0;
    }
}

int sim_csv_open(struct sim_csv *csv, const struct mr_sim_file *file, char separator,
                 struct mr_buf *problem)
{
    *csv = (struct sim_csv){
        .file = file->name, .rest = file->text, .separator = separator, .problem = problem};
    if (mr_str_starts(csv->rest, MR_STR("\xef\xbb\xbf")))
        csv->rest = (struct mr_str){csv->rest.p + 3, csv->rest.n - 3};
    int error = row_next(csv, csv->columns, SIM_CSV_COLUMNS_MAX, &csv->column_count);
    if (error == MR_ENOT_FOUND) return sim_csv_wrong(csv, "empty: a row of column names is wanted");
    return error;
}

uint32_t sim_csv_find(const struct sim_csv *csv, const char *name)
{
    for (uint32_t i = 0; i < csv->column_count; i++) {
        if (mr_str_equal_nocase(csv->columns[i], mr_str_from(name))) return i;
    }
    return SIM_CSV_NONE;
}

int sim_csv_column(struct sim_csv *csv, const char *name, uint32_t *ret_column)
{
    uint32_t column = sim_csv_find(csv, name);
    if (column == SIM_CSV_NONE) return sim_csv_wrong(csv, "no column is called '%s'", name);
    *ret_column = column;
    return 0;
}

int sim_csv_next(struct sim_csv *csv)
{
    uint32_t count;
    int error = row_next(csv, csv->fields, csv->column_count, &count);
    if (error != 0) return error;
    for (uint32_t i = count; i < csv->column_count; i++)
        csv->fields[i] = MR_STR("");
    return 0;
}

int sim_csv_number(struct sim_csv *csv, uint32_t column, uint64_t fallback, uint64_t max,
                   uint64_t *ret)
{
    MR_ASSERT(column < csv->column_count);
    struct mr_str field = csv->fields[column], whole, rest = field;
    uint64_t value, fraction;
    if (field.n == 0) {
        *ret = fallback;
        return 0;
    }
    bool fine = mr_str_split(&rest, '.', &whole) && mr_str_to_u64(whole, &value) == 0;
    if (fine && rest.n > 0) fine = rest.n <= 18 && mr_str_to_u64(rest, &fraction) == 0;
    if (!fine || value > max) {
        return sim_csv_wrong(csv, "%.*s is '%.*s', not a number from 0 to %llu",
                             MR_STR_ARG(csv->columns[column]), (int)MR_MIN(field.n, (size_t)40),
                             field.p, (unsigned long long)max);
    }
    *ret = value;
    return 0;
}
