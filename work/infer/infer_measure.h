/* SPDX-License-Identifier: Apache-2.0 */
/* Private to work/infer and its tests: how fast and how good one way to run a model is.
 *
 * Idea: work/infer/README.md, "Choosing by measuring".
 */
#ifndef INFER_MEASURE_H
#define INFER_MEASURE_H

#include "infer_int.h"

/* A text of ours on which the loss of a conversion is measured. */
struct mr_str infer_sample_text(void);

#define INFER_MEASURE_TOKENS_MAX 1024u
enum infer_point { /* what is timed; all are tokens per second */
                   INFER_POINT_PREFILL,
                   INFER_POINT_DECODE_1,
                   INFER_POINT_DECODE_4,
                   INFER_POINT_DECODE_ALL, /* as many streams as slots, 16 at most */
                   INFER_POINT_COUNT
};
struct infer_speed {
    double tokens_per_s[INFER_POINT_COUNT];
};
struct infer_loss { /* of each token of the text but the first, in nats */
    float nats[INFER_MEASURE_TOKENS_MAX];
    uint32_t count;
};

struct llama_model;
/* The text's tokens under this model, at most INFER_MEASURE_TOKENS_MAX. */
uint32_t infer_measure_tokens(const struct llama_model *model, int32_t *ret_tokens);
/* CPU time of this process, so that pauses and neighbours count for little. 0, MR_ENO_MEMORY (no
 * context) or MR_EINTERNAL. */
int infer_measure_speed(struct llama_model *model, const struct infer_choice *choice,
                        uint32_t threads, uint32_t slots, struct infer_speed *ret);
int infer_measure_loss(struct llama_model *model, uint32_t threads, struct infer_loss *ret);

/* Pure (infer_choose.c). */
/* Rise of perplexity from `base` to `other`, as a fraction, at the upper end of one standard error:
 * both have the losses of the same tokens. Negative when other is better. */
double infer_choose_rise(const struct infer_loss *base, const struct infer_loss *other);
/* One figure to compare ways by: a weighted geometric mean of the points. 0 when any is 0. */
double infer_choose_score(const struct infer_speed *speed);
/* True when `speed` is nowhere slower than `base` by more than the noise that we allow. */
bool infer_choose_nowhere_slower(const struct infer_speed *base, const struct infer_speed *speed);

#endif
