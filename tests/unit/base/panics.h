/* SPDX-License-Identifier: Apache-2.0 */
/* For tests only: runs a statement that must panic and remembers what the panic said. */
#ifndef MR_TESTS_PANICS_H
#define MR_TESTS_PANICS_H

#include <setjmp.h>

#include "base/base.h"

static jmp_buf panics_back;
static const char *panics_what;

static void panics_hook(const char *file, int line, const char *what)
{
    (void)file; /* the claim is about what broke */
    (void)line;
    panics_what = what;
    longjmp(panics_back, 1);
}

/* True when the statement panicked. It must not own memory: it is left in the middle. */
#define PANICS(statement)                                                                          \
    ((bool)(panics_what = NULL, mr_panic_hook_set(panics_hook),                                    \
            setjmp(panics_back) == 0 ? ((void)(statement), mr_panic_hook_set(NULL), false)         \
                                     : (mr_panic_hook_set(NULL), panics_what != NULL)))

#endif
