/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses the next token from logits: penalties, temperature, nucleus, seed.
 *
 * Owns:       the counts of generated tokens and the scratch of one request.
 * Invariants: (1) temperature 0 takes the greatest logit, the lowest id among equals; (2) one draw
 *             of the generator for each sampled token, so that a seed gives one sequence; (3) the
 *             probability of what top_p cut off is 0.
 * Never:      I/O, clock.
 * Cost:       O(vocabulary) per token, one expf for each candidate within reach; sorts only what
 *             top_p may take.
 * Idea:       penalties count what was generated, not the prompt, as the OpenAI API's engines do.
 * Tests:      tests/unit/infer/test_infer_pure.c
 */
#include "infer_int.h"

#include <math.h>
#include <stdlib.h>

/* A candidate this far below the best has less than e^-24 of its probability. */
#define REACH 24.0f

int infer_sampler_init(struct infer_sampler *sampler, const struct mr_sampling *sampling,
                       uint32_t vocab, uint64_t fallback_seed)
{
    *sampler = (struct infer_sampler){
        .temperature = sampling->temperature,
        .top_p = sampling->top_p > 0.0f && sampling->top_p < 1.0f ? sampling->top_p : 1.0f,
        .presence = sampling->presence_penalty,
        .frequency = sampling->frequency_penalty,
        .vocab = vocab,
    };
    mr_prng_init(&sampler->prng, sampling->has_seed ? sampling->seed : fallback_seed);
    bool penalties = sampler->presence != 0.0f || sampler->frequency != 0.0f;
    if (penalties) {
        sampler->counts = mr_alloc_zero(vocab * sizeof(sampler->counts[0]));
        sampler->seen = mr_alloc(vocab * sizeof(sampler->seen[0]));
    }
    if (sampler->temperature > 0.0f) {
        sampler->scratch = mr_alloc(vocab * sizeof(sampler->scratch[0]));
    }
    if ((penalties && (sampler->counts == NULL || sampler->seen == NULL)) ||
        (sampler->temperature > 0.0f && sampler->scratch == NULL)) {
        infer_sampler_done(sampler);
        return MR_ENO_MEMORY;
    }
    return 0;
}

void infer_sampler_done(struct infer_sampler *sampler)
{
    mr_free(sampler->counts);
    mr_free(sampler->seen);
    mr_free(sampler->scratch);
    *sampler = (struct infer_sampler){0};
}

static void penalties_apply(struct infer_sampler *sampler, float *logits)
{
    for (uint32_t i = 0; i < sampler->seen_count; i++) {
        int32_t id = sampler->seen[i];
        logits[id] -= sampler->presence + sampler->frequency * (float)sampler->counts[id];
    }
}

static void penalties_note(struct infer_sampler *sampler, int32_t id)
{
    if (sampler->counts == NULL) {
        return;
    }
    if (sampler->counts[id] == 0) {
        sampler->seen[sampler->seen_count++] = id;
    }
    if (sampler->counts[id] < UINT16_MAX) {
        sampler->counts[id]++;
    }
}

static int32_t greatest(const float *logits, uint32_t count)
{
    /* The maximum first: that loop is vectorised, one with an index is not. */
    float best = logits[0];
    for (uint32_t i = 1; i < count; i++) {
        best = logits[i] > best ? logits[i] : best;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (logits[i] == best) return (int32_t)i;
    }
    return 0; /* every logit is NaN: the model is broken, but we go on */
}

static int compare_candidates(const void *a, const void *b)
{
    const struct infer_candidate *x = a;
    const struct infer_candidate *y = b;
    if (x->p != y->p) return x->p < y->p ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Sorts the likeliest candidates to the front until they hold `mass`; answers how many. */
static uint32_t nucleus(struct infer_candidate *list, uint32_t count, double mass)
{
    qsort(list, count, sizeof(list[0]), compare_candidates);
    double sum = 0.0;
    uint32_t n = 0;
    while (n < count && (n == 0 || sum < mass)) {
        sum += (double)list[n++].p;
    }
    return n;
}

static int32_t draw(struct infer_sampler *sampler, const float *logits)
{
    int32_t top = greatest(logits, sampler->vocab);
    float best = logits[top];
    float floor = best - REACH * sampler->temperature;
    struct infer_candidate *list = sampler->scratch;
    uint32_t count = 0;
    double sum = 0.0;
    for (uint32_t i = 0; i < sampler->vocab; i++) {
        if (logits[i] >= floor) {
            float p = expf((logits[i] - best) / sampler->temperature);
            list[count++] = (struct infer_candidate){.p = p, .id = (int32_t)i};
            sum += (double)p;
        }
    }
    double unit = (double)(mr_prng_next(&sampler->prng) >> 11) * 0x1.0p-53;
    if (count == 0 || !(sum > 0.0)) {
        return top; /* NaN or minus infinity everywhere: the model is broken, but we go on */
    }
    if (sampler->top_p < 1.0f) {
        /* Only candidates above the mean share of what is cut off can be in the nucleus. */
        double least = sum * (1.0 - (double)sampler->top_p) / (double)count;
        uint32_t kept = 0;
        for (uint32_t i = 0; i < count; i++) {
            if ((double)list[i].p >= least) {
                list[kept++] = list[i];
            }
        }
        count = nucleus(list, kept, sum * (double)sampler->top_p);
        sum = 0.0;
        for (uint32_t i = 0; i < count; i++) {
            sum += (double)list[i].p;
        }
    }
    double left = unit * sum;
    for (uint32_t i = 0; i < count; i++) {
        left -= (double)list[i].p;
        if (left < 0.0) return list[i].id;
    }
    return list[count - 1].id;
}

int32_t infer_sampler_next(struct infer_sampler *sampler, float *logits)
{
    penalties_apply(sampler, logits);
    int32_t id =
        sampler->temperature > 0.0f ? draw(sampler, logits) : greatest(logits, sampler->vocab);
    penalties_note(sampler, id);
    return id;
}
