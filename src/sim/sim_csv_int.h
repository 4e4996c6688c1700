/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/sim and its tests: tables as text, with a row of names first. */
#ifndef MR_SIM_CSV_INT_H
#define MR_SIM_CSV_INT_H

#include "sim/sim.h"

#define SIM_CSV_COLUMNS_MAX 128u
#define SIM_CSV_NONE        UINT32_MAX

/* RFC 4180, with any one-byte separator ("," or "|"). Fields point into the text; a quoted field is
 * taken without its outer quotes, doubled quotes inside stay doubled. */
struct sim_csv {
    struct mr_str file, rest;
    char separator;
    uint32_t line; /* of the row read last, from 1 */
    uint32_t column_count;
    struct mr_str columns[SIM_CSV_COLUMNS_MAX];
    struct mr_str fields[SIM_CSV_COLUMNS_MAX];
    struct mr_buf *problem; /* where the first thing wrong is said */
};

/* Reads the row of names. 0, or MR_ESYNTAX with the problem said. file and problem must outlive it.
 */
int sim_csv_open(struct sim_csv *csv, const struct mr_sim_file *file, char separator,
                 struct mr_buf *problem);
/* The column of this name, any case; SIM_CSV_NONE when there is none. O(columns). */
uint32_t sim_csv_find(const struct sim_csv *csv, const char *name);
/* The same, but says as a problem that it is missing. */
int sim_csv_column(struct sim_csv *csv, const char *name, uint32_t *ret_column);
/* The next row that is not empty into fields. 0, MR_ENOT_FOUND at the end, or MR_ESYNTAX with the
 * problem said (more fields than names, a quote that does not end). A short row's missing fields
 * are empty. O(row). */
int sim_csv_next(struct sim_csv *csv);
/* The field as a whole number of at most `max`; an empty one gives `fallback`. A fraction behind
 * the number is cut. 0 or MR_ESYNTAX with the problem said. */
int sim_csv_number(struct sim_csv *csv, uint32_t column, uint64_t fallback, uint64_t max,
                   uint64_t *ret);
/* Says "FILE:LINE: text" as the problem. Returns MR_ESYNTAX. */
int sim_csv_wrong(struct sim_csv *csv, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
