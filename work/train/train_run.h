/* SPDX-License-Identifier: Apache-2.0 */
/* Private to work/train: what the ranks of one run share between its setup and its steps. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include "train.h"

/* What one run holds. Ranks have equal copies of all but `pass` and their share of a batch. */
struct train_state {
    struct train_run *run;
    struct train_problem *problem;
    struct train_tokenizer tokenizer;
    struct train_data data;
    struct train_order order;
    struct train_model model;
    struct train_lora lora;
    struct train_pass *pass;
    struct train_checkpoint at; /* counters; its vectors are the adapter's */
    uint64_t steps;             /* in all */
    uint32_t warmup;
    size_t pass_tokens; /* at most, in one pass */
    uint64_t started_us, started_tokens;
    uint64_t saved_step; /* of the newest durable checkpoint, 0: none */
    uint64_t saved_us, shown_us;
    bool resumed;
    double held_now;
    struct train_measure measure;
    /* one batch of this rank */
    uint32_t *mine; /* example numbers */
    size_t mine_count;
    uint32_t *batch_examples;
    uint32_t *ids, *positions;
    int32_t *targets;
    size_t *starts;
    size_t segments_max;
    FILE *curve; /* rank 0: one line for each step */
};

/* All ranks learn whether any of them failed, and why: returns the first failing rank's error with
 * its problem everywhere. Every rank calls it at the same place. */
int train_agree(const struct train_run *run, int error, struct train_problem *problem);

/* The steps. 0, MR_ECANCELLED after a checkpoint, or an error that all ranks return alike. */
int train_steps_run(struct train_state *state);
/* Mean loss on the held-out examples; NaN when there are none. */
int train_held_out(struct train_state *state, double *ret);
/* Shares the examples of a step: every rank computes the same plan and takes its part. Returns the
 * number of targets in the whole batch. */
uint64_t train_batch_plan(struct train_state *state, uint64_t step, uint64_t *ret_tokens);
/* Warm-up, then half a cosine down to a tenth. */
double train_rate(double peak, uint64_t step, uint64_t steps, uint64_t warmup);
void train_progress_write(struct train_state *state, bool now);
int train_result_write(struct train_state *state, double held_after, const char *out);

#endif
