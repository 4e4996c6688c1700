/* SPDX-License-Identifier: Apache-2.0 */
/* Linked beside libFuzzer's main: a panic says what did not hold before it traps, so that the
 * finding's note can name the invariant.
 *
 * Thread: whichever panics.
 * Fails:  never.
 * Ends:   nothing to free.
 * Idea:   tests/fuzz/README.md
 */
#include <stdio.h>

#include "base/base.h"

static void on_panic(const char *file, int line, const char *what)
{
    fprintf(stderr, "panic: %s:%d: %s\n", file, line, what);
}

__attribute__((constructor)) static void hook_set(void)
{
    mr_panic_hook_set(on_panic);
}
