/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/base and its tests: helpers that two files of base share. */
#ifndef MR_BASE_INT_H
#define MR_BASE_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One UTF-8 sequence at p (n > 0 bytes are there). Returns how many bytes it has; when it is not
 * valid, the length of its longest well-formed beginning, at least 1, which a writer replaces by
 * one U+FFFD (the Unicode standard's "maximal subpart"). O(1). */
size_t base_utf8_step(const uint8_t *p, size_t n, bool *ret_valid);

#endif
