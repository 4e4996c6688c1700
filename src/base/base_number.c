/* SPDX-License-Identifier: Apache-2.0 */
/* Checked arithmetic, the generator of reproducible randomness, hashes and bit searches.
 *
 * Owns:       nothing; a generator's state is the caller's.
 * Invariants: (1) equal inputs give equal results on every machine, whatever its byte order;
 *             (2) a result that does not fit is reported, never wrapped.
 * Never:      I/O, clock, allocation, floating point.
 * Cost:       O(1); hash and bit searches O(n).
 * Idea:       src/base/README.md   Tests: tests/unit/base/test_base_number.c
 */
#include "base/base.h"

__extension__ typedef unsigned __int128 base_u128; /* gcc and clang have it on all 64-bit CPUs */

#define GOLDEN_GAMMA UINT64_C(0x9E3779B97F4A7C15) /* 2^64 / golden ratio: splitmix64's step */

bool mr_add_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
    uint64_t sum = 0;
    if (__builtin_add_overflow(a, b, &sum)) return false;
    *ret = sum;
    return true;
}

bool mr_mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
    uint64_t product = 0;
    if (__builtin_mul_overflow(a, b, &product)) return false;
    *ret = product;
    return true;
}

bool mr_add_i64(int64_t a, int64_t b, int64_t *ret)
{
    int64_t sum = 0;
    if (__builtin_add_overflow(a, b, &sum)) return false;
    *ret = sum;
    return true;
}

bool mr_mul_i64(int64_t a, int64_t b, int64_t *ret)
{
    int64_t product = 0;
    if (__builtin_mul_overflow(a, b, &product)) return false;
    *ret = product;
    return true;
}

uint64_t mr_mul_div_u64(uint64_t a, uint64_t b, uint64_t divisor)
{
    base_u128 quotient = 0;

    MR_ASSERT(divisor > 0);
    quotient = (base_u128)a * b / divisor;
    MR_ASSERT(quotient <= UINT64_MAX);
    return (uint64_t)quotient;
}

/* --- randomness ------------------------------------------------------------------------------ */

uint64_t mr_hash_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

void mr_prng_init(struct mr_prng *prng, uint64_t seed)
{
    /* splitmix64 never gives four zeros in a row, the one state xoshiro cannot leave. */
    for (size_t i = 0; i < MR_COUNT_OF(prng->s); i++) {
        seed += GOLDEN_GAMMA;
        prng->s[i] = mr_hash_mix(seed);
    }
}

static uint64_t rotate_left(uint64_t x, unsigned by)
{
    return (x << by) | (x >> (64 - by));
}

uint64_t mr_prng_next(struct mr_prng *prng)
{
    uint64_t *s = prng->s;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t mr_prng_below(struct mr_prng *prng, uint64_t bound)
{
    base_u128 product = 0;

    MR_ASSERT(bound > 0);
    /* Lemire 2019: the high word of a product is fair once low words below 2^64 mod bound are
     * drawn again; the division is only needed in the rare case that one might be. */
    product = (base_u128)mr_prng_next(prng) * bound;
    if ((uint64_t)product < bound) {
        uint64_t unfair = (0 - bound) % bound;
        while ((uint64_t)product < unfair) {
            product = (base_u128)mr_prng_next(prng) * bound;
        }
    }
    return (uint64_t)(product >> 64);
}

bool mr_prng_chance(struct mr_prng *prng, uint32_t permille)
{
    return mr_prng_below(prng, 1000) < permille;
}

/* --- hash ------------------------------------------------------------------------------------ */

static uint64_t load_le(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    for (size_t i = 0; i < n; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    return v;
}

uint64_t mr_hash64(const void *bytes, size_t n, uint64_t seed)
{
    const uint8_t *p = bytes;
    size_t left = n;
    /* The length goes in first: "a" and "a\0" pad to the same word. */
    uint64_t h = mr_hash_mix(seed + GOLDEN_GAMMA) ^ ((uint64_t)n * GOLDEN_GAMMA);

    while (left >= 8) {
        h = mr_hash_mix(h ^ load_le(p, 8)) + GOLDEN_GAMMA;
        p += 8;
        left -= 8;
    }
    if (left > 0) {
        h = mr_hash_mix(h ^ load_le(p, left)) + GOLDEN_GAMMA;
    }
    return mr_hash_mix(h);
}

/* --- bits ------------------------------------------------------------------------------------ */

/* `flip` is 0 to look for a one, all ones to look for a zero. */
static size_t bit_find(const uint64_t *words, size_t bit_count, size_t from, uint64_t flip)
{
    size_t word_index = from >> 6;
    uint64_t word = 0;
    size_t found = 0;

    if (from >= bit_count) return bit_count;
    word = (words[word_index] ^ flip) & (~(uint64_t)0 << (from & 63));
    while (word == 0) {
        word_index++;
        if (word_index >= (bit_count + 63) / 64) return bit_count;
        word = words[word_index] ^ flip;
    }
    found = word_index * 64 + (size_t)__builtin_ctzll(word);
    return MR_MIN(found, bit_count);
}

size_t mr_bit_find_set(const uint64_t *words, size_t bit_count, size_t from)
{
    return bit_find(words, bit_count, from, 0);
}

size_t mr_bit_find_clear(const uint64_t *words, size_t bit_count, size_t from)
{
    return bit_find(words, bit_count, from, ~(uint64_t)0);
}
