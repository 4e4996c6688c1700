/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256, by OpenSSL.
 *
 * Owns:  nothing.
 * Never: I/O, clock.
 * Cost:  O(n), about two cycles a byte where the CPU has SHA instructions.
 */
#include "proto/proto.h"

#include <openssl/sha.h>

void mr_sha256(const void *bytes, size_t n, uint8_t ret[32])
{
    /* The one-shot call is the only one of the old API that is not deprecated, and unlike EVP it
     * neither fetches nor allocates. */
    MR_ASSERT(SHA256(bytes, n, ret) != NULL);
}
