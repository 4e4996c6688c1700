/* SPDX-License-Identifier: Apache-2.0 */
/* The ground: what every module may use and what needs nothing itself.
 *
 * Errors are one table. Strings carry their length. Arenas free everything at once. Ids are
 * one-field structs, so that a node's id cannot be passed for a workload's. Time is uint64_t
 * microseconds, named _us; money is int64_t in nano-dollars, named _nusd.
 *
 * Grade P0: memory and string functions only. Idea and examples: src/base/README.md.
 */
#ifndef MR_BASE_H
#define MR_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/limits.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- errors ------------------------------------------------------------------------------ */

/* name, HTTP status, may the same call succeed later, what a person reads. Functions return 0 or
 * a negative MR_E… value. */
#define MR_ERRORS(X)                                                                               \
    X(INVALID, 400, false, "invalid argument")                                                     \
    X(SYNTAX, 400, false, "malformed input")                                                       \
    X(UNAUTHENTICATED, 401, false, "no valid key")                                                 \
    X(FORBIDDEN, 403, false, "not allowed")                                                        \
    X(NOT_FOUND, 404, false, "not found")                                                          \
    X(EXISTS, 409, false, "already exists")                                                        \
    X(STATE, 409, false, "not possible in this state")                                             \
    X(TOO_LARGE, 413, false, "too large")                                                          \
    X(LIMIT, 429, true, "limit reached")                                                           \
    X(QUOTA, 403, false, "over quota")                                                             \
    X(NO_SPACE, 507, true, "no space left")                                                        \
    X(NO_MEMORY, 503, true, "out of memory")                                                       \
    X(UNAVAILABLE, 503, true, "not available now")                                                 \
    X(TIMEOUT, 504, true, "timed out")                                                             \
    X(CANCELLED, 499, false, "cancelled")                                                          \
    X(CLOSED, 503, true, "connection closed")                                                      \
    X(FENCED, 503, false, "another daemon leads now")                                              \
    X(CORRUPT, 500, false, "stored data is damaged")                                               \
    X(IO, 500, true, "input or output failed")                                                     \
    X(UNSUPPORTED, 501, false, "not supported here")                                               \
    X(INTERNAL, 500, false, "internal error")

enum mr_error_index {
#define X(name, status, retry, text) MR_EI_##name,
    MR_ERRORS(X)
#undef X
        MR_EI_COUNT
};
enum mr_error {
#define X(name, status, retry, text) MR_E##name = -(int)(MR_EI_##name) - 1,
    MR_ERRORS(X)
#undef X
};

/* The static text, name ("not_found"), HTTP status and retryability of `error` (0 is "ok", 200).
 * An unknown value answers as INTERNAL. O(1). */
const char *mr_error_text(int error);
const char *mr_error_name(int error);
int mr_error_status(int error);
bool mr_error_retryable(int error);

/* --- asserts ----------------------------------------------------------------------------- */

/* For our own mistakes only; stays on in release. Anything a user, disk, network or worker can
 * cause is an error. The hook (default: trap) does not return; programs set it to print first. */
typedef void (*mr_panic_fn)(const char *file, int line, const char *what);
void mr_panic_hook_set(mr_panic_fn hook);
_Noreturn void mr_panic(const char *file, int line, const char *what);
#define MR_ASSERT(condition) ((condition) ? (void)0 : mr_panic(__FILE__, __LINE__, #condition))
/* Names the invariant that broke, as numbered at the top of the file. */
#define MR_INVARIANT(number, condition)                                                            \
    ((condition) ? (void)0 : mr_panic(__FILE__, __LINE__, "invariant " #number ": " #condition))

#define MR_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define MR_MIN(a, b)       ((a) < (b) ? (a) : (b))
#define MR_MAX(a, b)       ((a) > (b) ? (a) : (b))
#define mr_cleanup(fn)     __attribute__((cleanup(fn)))

/* --- checked arithmetic ------------------------------------------------------------------ */

/* True on success; on overflow false, and *ret is untouched. */
bool mr_add_u64(uint64_t a, uint64_t b, uint64_t *ret);
bool mr_mul_u64(uint64_t a, uint64_t b, uint64_t *ret);
bool mr_add_i64(int64_t a, int64_t b, int64_t *ret);
bool mr_mul_i64(int64_t a, int64_t b, int64_t *ret);
/* a * b / divisor without overflow in between, rounded down; divisor > 0; the result must fit. */
uint64_t mr_mul_div_u64(uint64_t a, uint64_t b, uint64_t divisor);

/* --- memory ------------------------------------------------------------------------------ */

/* All of base allocates through this table, so that tests can fail the n-th call. `realloc` with
 * size 0 frees and returns NULL; with p NULL it allocates. The default is libc's. */
struct mr_allocator {
    void *(*realloc)(void *context, void *p, size_t size_bytes);
    void *context;
};
/* Replaces the process's allocator (NULL: libc's). Only before other threads exist. */
void mr_allocator_set(const struct mr_allocator *allocator);
void *mr_alloc(size_t size_bytes);      /* uninitialised, NULL when out of memory or size 0 */
void *mr_alloc_zero(size_t size_bytes); /* zeroed */
void *mr_realloc(void *p, size_t size_bytes);
void mr_free(void *p);                          /* NULL is fine */
void mr_free_pointer(void *pointer_to_pointer); /* for mr_cleanup: frees *p */

/* A chain of chunks that is freed at once. */
struct mr_arena {
    struct mr_arena_chunk *chunk;
    size_t used_bytes;  /* handed out since init or reset */
    size_t limit_bytes; /* allocation past it fails */
};
void mr_arena_init(struct mr_arena *arena, size_t limit_bytes);
void mr_arena_done(struct mr_arena *arena);
void mr_arena_reset(struct mr_arena *arena); /* keeps the first chunk for reuse */
/* 16-byte aligned, uninitialised / zeroed; NULL past the limit or out of memory, never for size 0.
 * Each piece counts rounded up to 16. O(1) amortised. */
void *mr_arena_alloc(struct mr_arena *arena, size_t size_bytes);
void *mr_arena_alloc_zero(struct mr_arena *arena, size_t size_bytes);

/* --- strings ----------------------------------------------------------------------------- */

struct mr_str {
    const char *p; /* not zero-terminated unless said; NULL only when n is 0 */
    size_t n;
};
#define MR_STR(literal) ((struct mr_str){(literal), sizeof(literal) - 1})
#define MR_STR_ARG(s)   (int)(s).n, (s).p /* for "%.*s" */

struct mr_str mr_str_from(const char *zero_terminated); /* NULL gives the empty string */
bool mr_str_equal(struct mr_str a, struct mr_str b);
bool mr_str_equal_nocase(struct mr_str a, struct mr_str b); /* ASCII */
bool mr_str_starts(struct mr_str s, struct mr_str prefix);
int mr_str_compare(struct mr_str a, struct mr_str b); /* bytewise, <0 0 >0 */
struct mr_str mr_str_trim(struct mr_str s);           /* ASCII white space at both ends */
/* Cuts *rest at the first `separator` and returns what was before it; false when *rest is used up
 * (its p is then NULL). "a,,b" gives "a", "", "b". */
bool mr_str_split(struct mr_str *rest, char separator, struct mr_str *ret_part);
/* Decimal only, whole string, no sign for u64; MR_ESYNTAX or MR_ETOO_LARGE. */
int mr_str_to_u64(struct mr_str s, uint64_t *ret);
int mr_str_to_i64(struct mr_str s, int64_t *ret);
/* Copies into the arena and terminates with a zero; p is NULL when out of memory. */
struct mr_str mr_str_copy(struct mr_arena *arena, struct mr_str s);
char *mr_str_zero(struct mr_arena *arena, struct mr_str s);
/* Length of the longest prefix of s that is whole, valid UTF-8 (RFC 3629). */
size_t mr_utf8_valid_prefix(struct mr_str s);

/* A byte buffer that grows up to its limit. A failed put changes nothing but `failed`, which stays
 * set: put many, check once. */
struct mr_buf {
    uint8_t *p;
    size_t n;
    size_t capacity;
    size_t limit_bytes;
    bool failed;
};
void mr_buf_init(struct mr_buf *buf, size_t limit_bytes);
void mr_buf_done(struct mr_buf *buf);  /* frees; usable again after init */
void mr_buf_reset(struct mr_buf *buf); /* empties, keeps the memory, clears failed */
/* Room for more_bytes; false sets `failed`, as a put would. */
bool mr_buf_reserve(struct mr_buf *buf, size_t more_bytes);
void mr_buf_put(struct mr_buf *buf, const void *bytes, size_t n);
void mr_buf_put_str(struct mr_buf *buf, struct mr_str s);
void mr_buf_put_char(struct mr_buf *buf, char c);
void mr_buf_put_u64_text(struct mr_buf *buf, uint64_t value);
void mr_buf_put_i64_text(struct mr_buf *buf, int64_t value);
void mr_buf_printf(struct mr_buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Little-endian, for stored and sent formats. */
void mr_buf_put_u8(struct mr_buf *buf, uint8_t v);
void mr_buf_put_u16(struct mr_buf *buf, uint16_t v);
void mr_buf_put_u32(struct mr_buf *buf, uint32_t v);
void mr_buf_put_u64(struct mr_buf *buf, uint64_t v);
void mr_buf_put_bytes32(struct mr_buf *buf, struct mr_str s); /* u32 length, then the bytes */
void mr_buf_drop_front(struct mr_buf *buf, size_t n);         /* O(what is left) */
struct mr_str mr_buf_str(const struct mr_buf *buf);           /* valid until the next put */

/* Reads what the puts above wrote; past the end it returns zeros and `failed` stays set. */
struct mr_reader {
    const uint8_t *p;
    size_t n; /* bytes left */
    bool failed;
};
struct mr_reader mr_reader_from(struct mr_str bytes);
uint8_t mr_read_u8(struct mr_reader *reader);
uint16_t mr_read_u16(struct mr_reader *reader);
uint32_t mr_read_u32(struct mr_reader *reader);
uint64_t mr_read_u64(struct mr_reader *reader);
struct mr_str mr_read_bytes32(struct mr_reader *reader); /* points into the input */
struct mr_str mr_read_rest(struct mr_reader *reader);

/* --- numbers ----------------------------------------------------------------------------- */

/* Not cryptographic. Streams of equal seeds are equal everywhere (xoshiro256**, Blackman and
 * Vigna 2018; seeded by splitmix64). */
struct mr_prng {
    uint64_t s[4];
};
void mr_prng_init(struct mr_prng *prng, uint64_t seed);
uint64_t mr_prng_next(struct mr_prng *prng);
uint64_t mr_prng_below(struct mr_prng *prng, uint64_t bound); /* [0, bound), bound > 0, unbiased */
bool mr_prng_chance(struct mr_prng *prng, uint32_t permille);

/* 64 bits, for tables and checks, not for secrets; equal on every machine. O(n). */
uint64_t mr_hash64(const void *bytes, size_t n, uint64_t seed);
uint64_t mr_hash_mix(uint64_t x); /* one word, bijective (splitmix64's finaliser) */

/* Bit i of words[]: the caller keeps i below the size. find returns bit_count when none is set. */
static inline bool mr_bit_get(const uint64_t *words, size_t i)
{
    return (words[i >> 6] >> (i & 63)) & 1u;
}
static inline void mr_bit_set(uint64_t *words, size_t i)
{
    words[i >> 6] |= (uint64_t)1 << (i & 63);
}
static inline void mr_bit_clear(uint64_t *words, size_t i)
{
    words[i >> 6] &= ~((uint64_t)1 << (i & 63));
}
size_t mr_bit_find_set(const uint64_t *words, size_t bit_count, size_t from);
size_t mr_bit_find_clear(const uint64_t *words, size_t bit_count, size_t from);

/* --- text codecs ------------------------------------------------------------------------- */

void mr_hex_put(struct mr_buf *buf, const void *bytes, size_t n); /* lower case */
int mr_hex_get(struct mr_str hex, uint8_t *ret, size_t n);        /* exactly 2n digits */
void mr_base64_put(struct mr_buf *buf, const void *bytes, size_t n);
/* RFC 4648, section 4; padding optional, no white space, left-over bits zero. MR_ESYNTAX,
 * MR_ETOO_LARGE (the buffer's limit) or MR_ENO_MEMORY; nothing is put then. */
int mr_base64_get(struct mr_buf *buf, struct mr_str text);
/* Microseconds since 1970-01-01 UTC to "2026-11-23T09:05:50Z" (20 characters, proleptic). What is
 * past year 9999, such as UINT64_MAX for "never", gives 9999-12-31T23:59:59Z. */
void mr_time_put_rfc3339(struct mr_buf *buf, uint64_t time_us);
/* JSON string with quotes; invalid UTF-8 becomes U+FFFD. */
void mr_json_put_string(struct mr_buf *buf, struct mr_str s);
/* Constant time in n; false when the lengths differ. */
bool mr_secret_equal(struct mr_str a, struct mr_str b);

/* --- trace ------------------------------------------------------------------------------- */

/* A module narrates its decisions in short fixed sentences; tests compare them. NULL is silent. */
struct mr_trace {
    void (*line)(void *context, struct mr_str line);
    void *context;
};
void mr_trace_line(const struct mr_trace *trace, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* --- ids --------------------------------------------------------------------------------- */

/* Zero is "none" in all of them. */
struct mr_tenant_id {
    uint32_t v;
};
struct mr_node_id {
    uint32_t v;
};
struct mr_workload_id {
    uint64_t v; /* counts up for ever, never reused */
};
struct mr_lease_id {
    uint64_t v; /* counts up for ever, never reused: one run of one workload on one node */
};

#ifdef __cplusplus
}
#endif
#endif
