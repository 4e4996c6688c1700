/* SPDX-License-Identifier: Apache-2.0 */
/* Fair shares: the dominant resource of what a tenant holds and has held, over its weight.
 *
 * What it has held is a mean that decays with the tenant's half-life: after one half-life of
 * holding nothing, half of it is left. Present and past count alike, so that of two tenants that
 * hold the same now the one goes first that held less before, and one that comes back from a pause
 * gets more than the others until it has caught up, but never all there is for long.
 *
 * The mean is exact where it matters and cheap where it does not: since the last fold the plain
 * mean of what was held is kept; a fold, at most CORE_PAST_PARTS times in a half-life, decays the
 * past and adds that mean.
 *
 * Owns:       past, mean and share of tenants.
 * Invariants: (1) equal histories give equal shares, whatever steps looked in between;
 *             (2) a share only rises while a step starts work.
 * Never:      I/O, clock, allocation, recursion, floats.
 * Cost:       O(1) for each tenant on the way up; a fold about 40 multiplications.
 * Idea:       docs/internals/tenancy.md (Ghodsi et al., NSDI 2011)
 * Tests:      tests/unit/core/test_core_share.c
 */
#include "core_quota.h"

#define ONE         ((uint64_t)1 << 32)
#define HELD_MAX    ((uint64_t)1 << 43)
#define DECAY_STEPS 32u

/* 2^-(2^-k) in 2^-32, for k = 1 …: each bit of the fraction of a half-life multiplies by one. */
static const uint32_t decay_of_bit[DECAY_STEPS] = {
    3037000500u, 3611622603u, 3938502376u, 4112874773u, 4202935003u, 4248701965u, 4271771996u,
    4283353945u, 4289156690u, 4292061010u, 4293513907u, 4294240540u, 4294603903u, 4294785595u,
    4294876445u, 4294921870u, 4294944583u, 4294955939u, 4294961618u, 4294964457u, 4294965876u,
    4294966586u, 4294966941u, 4294967119u, 4294967207u, 4294967252u, 4294967274u, 4294967285u,
    4294967290u, 4294967293u, 4294967295u, 4294967295u};

/* 2^-(passed / half_life) in 2^-32. */
static uint64_t decay_over(uint64_t passed_us, uint64_t half_life_us)
{
    uint64_t halves = passed_us / half_life_us;
    if (halves >= 32) return 0;
    uint64_t fraction = mr_mul_div_u64(passed_us % half_life_us, ONE, half_life_us);
    uint64_t left = ONE;
    for (uint32_t i = 0; i < DECAY_STEPS; i++) {
        if ((fraction >> (31 - i)) & 1) left = (left * decay_of_bit[i]) >> 32;
    }
    return left >> halves;
}

static uint64_t held_of(const struct core_tenant *t, uint32_t i)
{
    return MR_MIN(t->amounts[i].held, HELD_MAX) << CORE_PAST_SHIFT;
}

/* The mean since the last fold when what is held now is counted up to now. */
static uint64_t mean_until(const struct core_tenant *t, uint32_t i, uint64_t now_us)
{
    uint64_t before_us = t->mean_us - t->fold_us, all_us = now_us - t->fold_us;
    if (all_us == 0) return 0;
    return mr_mul_div_u64(t->mean[i], before_us, all_us) +
           mr_mul_div_u64(held_of(t, i), all_us - before_us, all_us);
}

static uint64_t past_until(const struct core_tenant *t, uint32_t i, uint64_t now_us)
{
    uint64_t passed_us = now_us - t->fold_us;
    if (t->half_life_us == 0) return 0;
    if (passed_us == 0) return t->past[i];
    uint64_t left = decay_over(passed_us, t->half_life_us);
    return mr_mul_div_u64(t->past[i], left, ONE) +
           mr_mul_div_u64(mean_until(t, i, now_us), ONE - left, ONE);
}

void core_past_pass(struct mr_core *core, uint32_t tenant)
{
    struct core_tenant *t = core_tenant(core, tenant);
    if (t->half_life_us == 0 || t->mean_us == core->now_us) return;
    MR_ASSERT(t->fold_us <= t->mean_us && t->mean_us < core->now_us);
    bool fold = core->now_us - t->fold_us >= t->half_life_us / CORE_PAST_PARTS;
    for (uint32_t i = 0; i < 3; i++) {
        if (fold) {
            t->past[i] = past_until(t, i, core->now_us);
            t->mean[i] = 0;
        } else {
            t->mean[i] = mean_until(t, i, core->now_us);
        }
    }
    t->mean_us = core->now_us;
    if (fold) t->fold_us = core->now_us;
}

uint64_t core_past_of(const struct mr_core *core, uint32_t tenant, uint32_t amount)
{
    return past_until(core_tenant(core, tenant), amount, core->now_us) >> CORE_PAST_SHIFT;
}

/* Dominant share over weight, in 2^-32 of the fleet (Ghodsi et al. 2011, section 4.1). */
uint64_t core_share_of(const struct mr_core *core, uint32_t tenant)
{
    const struct core_tenant *t = core_tenant(core, tenant);
    const uint64_t fleet[3] = {core->cpu_milli, core->mem_mib, core->accel_milli};
    uint64_t share = 0;
    for (uint32_t i = 0; i < 3; i++) {
        if (fleet[i] == 0) continue;
        uint64_t past = core_past_of(core, tenant, i);
        uint64_t now = MR_MIN(t->amounts[i].held, fleet[i]);
        uint64_t both = now + MR_MIN(past, fleet[i]);
        if (both > 0) share = MR_MAX(share, mr_mul_div_u64(both, ONE, fleet[i]));
    }
    return share * 1000 / t->weight;
}

uint64_t core_tenant_share(struct mr_core *core, uint32_t tenant)
{
    struct core_tenant *t = core_tenant(core, tenant);
    MR_ASSERT(t->weight > 0);
    bool timeless = t->half_life_us == 0 || t->share_us == core->now_us;
    if (t->share_epoch == core->share_epoch && timeless) return t->share;
    t->share = core_share_of(core, tenant);
    t->share_epoch = core->share_epoch;
    t->share_us = core->now_us;
    return t->share;
}

void core_share_path(struct mr_core *core, uint32_t tenant, uint64_t share[CORE_SHARE_LEVELS])
{
    uint32_t depth = core_tenant(core, tenant)->depth;
    memset(share, 0, CORE_SHARE_LEVELS * sizeof *share);
    for (uint32_t at = tenant; at != 0; at = core_tenant(core, at)->parent, depth--) {
        if (depth <= CORE_SHARE_LEVELS) share[depth - 1] = core_tenant_share(core, at);
    }
}
