/* SPDX-License-Identifier: Apache-2.0 */
/* What every bench of `millrace bench NAME` has in common: a list of bars, printed once.
 *
 * A bar is a ratio, a count or a time measured here and now, beside its peer where one could be
 * run in the same run. A bench that cannot measure something adds the bar with ours < 0 and a note.
 */
#ifndef MR_CMD_BENCH_H
#define MR_CMD_BENCH_H

#include "base/base.h"

struct bench_bar {
    char name[96];
    double ours; /* negative: could not be measured, see note */
    char unit[24];
    double peer; /* negative: none in this run */
    char peer_name[64];
    double goal; /* in `unit`, or a ratio to the peer when goal_is_ratio; negative: none */
    bool goal_is_ratio;
    bool lower_is_better;
    char note[200]; /* how often, median and spread, what was run */
};

struct bench_report {
    struct bench_bar bars[256];
    uint32_t count;
    bool quick; /* --quick: smaller sizes, for tests */
    bool json;
    const char *arg; /* what follows the bench's name, or NULL */
};

/* Copies the bar; one past the array is an assert. Prints a line to standard error at once. */
void bench_add(struct bench_report *report, const struct bench_bar *bar);
/* Monotonic time for measuring. */
uint64_t bench_now_ns(void);
/* Sorts them ascending; 0 when there are none. */
double bench_median(double *values, uint32_t count);

/* One function for each bench; 0, or MR_E… when it could not run at all. */
int bench_core(struct bench_report *report);
int bench_journal(struct bench_report *report);
int bench_infer(struct bench_report *report);
int bench_train(struct bench_report *report);
int bench_gate(struct bench_report *report);
int bench_submit(struct bench_report *report);
int bench_sched(struct bench_report *report);

#endif
