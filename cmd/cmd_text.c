/* SPDX-License-Identifier: Apache-2.0 */
/* Text for people: tables, durations, fields of JSON answers.
 *
 * Owns:  a table's cells until it is printed.
 * Fails: never; what is missing prints as "-".
 */
#include <stdarg.h>
#include <stdio.h>
#include <yyjson.h>

#include "cmd.h"

#define TABLE_BYTES_MAX   ((size_t)64 * 1024 * 1024)
#define TABLE_COLUMNS_MAX 16u

const char *cmd_json_str(struct yyjson_val *object, const char *key, const char *fallback)
{
    const char *text = yyjson_get_str(yyjson_obj_get(object, key));
    return text != NULL ? text : fallback;
}

uint64_t cmd_json_u64(struct yyjson_val *object, const char *key, uint64_t fallback)
{
    yyjson_val *value = yyjson_obj_get(object, key);
    return yyjson_is_uint(value) ? yyjson_get_uint(value) : fallback;
}

void cmd_print_body(const struct cmd_client *client)
{
    (void)fwrite(client->body.p, 1, client->body.n, stdout);
    if (client->body.n == 0 || client->body.p[client->body.n - 1] != '\n') putchar('\n');
}

void cmd_table_init(struct cmd_table *table, const char *const *heads, uint32_t columns)
{
    MR_ASSERT(columns > 0 && columns <= TABLE_COLUMNS_MAX);
    *table = (struct cmd_table){.columns = columns};
    mr_buf_init(&table->cells, TABLE_BYTES_MAX);
    for (uint32_t i = 0; i < columns; i++) {
        cmd_table_cell(table, "%s", heads[i]);
    }
}

void cmd_table_cell(struct cmd_table *table, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (n < 0) n = 0;
    size_t length = MR_MIN((size_t)n, sizeof text - 1);
    mr_buf_put(&table->cells, text, length);
    mr_buf_put_char(&table->cells, 0);
    table->cell_count++;
}

void cmd_table_print(struct cmd_table *table, FILE *out)
{
    size_t width[TABLE_COLUMNS_MAX] = {0};
    const char *cell = (const char *)table->cells.p;
    for (uint32_t i = 0; i < table->cell_count && !table->cells.failed; i++) {
        size_t length = strlen(cell);
        uint32_t column = i % table->columns;
        if (length > width[column]) width[column] = length;
        cell += length + 1;
    }
    cell = (const char *)table->cells.p;
    for (uint32_t i = 0; i < table->cell_count && !table->cells.failed; i++) {
        uint32_t column = i % table->columns;
        bool last = column + 1 == table->columns;
        if (last) {
            fprintf(out, "%s\n", cell);
        } else {
            fprintf(out, "%-*s  ", (int)width[column], cell);
        }
        cell += strlen(cell) + 1;
    }
    mr_buf_done(&table->cells);
}

const char *cmd_duration(uint64_t us)
{
    static char ring[8][32];
    static uint32_t next;
    char *text = ring[next++ % MR_COUNT_OF(ring)];
    uint64_t s = us / 1000000u;
    if (us < 1000000u) {
        snprintf(text, 32, "%llu ms", (unsigned long long)(us / 1000u));
    } else if (s < 10) {
        snprintf(text, 32, "%llu.%llu s", (unsigned long long)s,
                 (unsigned long long)(us / 100000u % 10u));
    } else if (s < 120) {
        snprintf(text, 32, "%llu s", (unsigned long long)s);
    } else if (s < 7200) {
        snprintf(text, 32, "%llu min %llu s", (unsigned long long)(s / 60),
                 (unsigned long long)(s % 60));
    } else {
        snprintf(text, 32, "%llu h %llu min", (unsigned long long)(s / 3600),
                 (unsigned long long)(s / 60 % 60));
    }
    return text;
}
