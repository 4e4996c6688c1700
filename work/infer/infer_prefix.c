/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the sequence whose cells a new prompt can share.
 *
 * Owns:       nothing.
 * Invariants: (1) a match is of the same tenant; (2) it is shorter than the prompt by at least one
 *             token; (3) equal inputs give equal answers, the lowest index wins.
 * Never:      I/O, clock, allocation.
 * Cost:       O(donors x prefix); there are at most some hundred donors, and most differ within a
 *             few tokens, so a tree would not pay here.
 * Tests:      tests/unit/infer/test_infer_pure.c
 */
#include "infer_int.h"

uint32_t infer_prefix_common(const int32_t *a, uint32_t a_count, const int32_t *b, uint32_t b_count)
{
    uint32_t n = MR_MIN(a_count, b_count);
    uint32_t i = 0;
    while (i < n && a[i] == b[i]) {
        i++;
    }
    return i;
}

struct infer_prefix_match infer_prefix_find(uint32_t tenant, const int32_t *tokens, uint32_t count,
                                            const struct infer_donor *donors, size_t donor_count)
{
    struct infer_prefix_match match = {.now = -1, .later = -1};
    if (count == 0) {
        return match;
    }
    for (size_t i = 0; i < donor_count; i++) {
        const struct infer_donor *donor = &donors[i];
        if (donor->tenant != tenant) {
            continue;
        }
        uint32_t common = infer_prefix_common(tokens, count - 1, donor->tokens, donor->token_count);
        uint32_t now = MR_MIN(common, donor->computed_count);
        /* Between equals a parked sequence is better: it is taken over without a copy. */
        bool better = now > match.now_count || (now > 0 && now == match.now_count && !donor->live &&
                                                match.now >= 0 && donors[match.now].live);
        if (better) {
            match.now = (int)i;
            match.now_count = now;
        }
        if (donor->live && common > match.later_count) {
            match.later = (int)i;
            match.later_count = common;
        }
    }
    return match;
}
