/* SPDX-License-Identifier: Apache-2.0 */
/* The error table's lookups and the panic that every assert ends in.
 *
 * Owns:       the process's panic hook, set once before other threads exist.
 * Invariants: (1) each table is indexed by -error - 1 and has MR_EI_COUNT rows;
 *             (2) mr_panic does not return, whatever the hook does.
 * Never:      I/O, allocation.
 * Cost:       O(1).
 * Idea:       src/base/README.md   Tests: tests/unit/base/test_base_error.c
 */
#include "base/base.h"

struct error_row {
    const char *text;
    int status;
    bool retryable;
};

static const struct error_row error_rows[] = {
#define X(name, status, retry, text) {text, status, retry},
    MR_ERRORS(X)
#undef X
};
_Static_assert(MR_COUNT_OF(error_rows) == MR_EI_COUNT, "one row per error");

/* Lower-case names, as the HTTP API and the journal spell them. Written out, because a macro
 * cannot lower a token; the test compares them with the table. */
static const char *const error_names[] = {
    "invalid",   "syntax", "unauthenticated", "forbidden", "not_found", "exists",      "state",
    "too_large", "limit",  "quota",           "no_space",  "no_memory", "unavailable", "timeout",
    "cancelled", "closed", "fenced",          "corrupt",   "io",        "unsupported", "internal",
};
_Static_assert(MR_COUNT_OF(error_names) == MR_EI_COUNT, "one name per error");

/* A mutable global on purpose: an assert has no context to carry it in. */
static mr_panic_fn panic_hook;

static size_t error_index(int error)
{
    /* error >= 0 first: -INT_MIN would overflow, so compare before negating. */
    if (error >= 0 || error < -(int)MR_EI_COUNT) return MR_EI_INTERNAL;
    return (size_t)(-error - 1);
}

const char *mr_error_text(int error)
{
    return error == 0 ? "ok" : error_rows[error_index(error)].text;
}

const char *mr_error_name(int error)
{
    return error == 0 ? "ok" : error_names[error_index(error)];
}

int mr_error_status(int error)
{
    return error == 0 ? 200 : error_rows[error_index(error)].status;
}

bool mr_error_retryable(int error)
{
    return error == 0 ? false : error_rows[error_index(error)].retryable;
}

void mr_panic_hook_set(mr_panic_fn hook)
{
    panic_hook = hook;
}

_Noreturn void mr_panic(const char *file, int line, const char *what)
{
    if (panic_hook) {
        panic_hook(file, line, what);
    }
    __builtin_trap();
}
