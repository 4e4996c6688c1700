/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the real millrace-sandbox on a document and reads its result, for tests. */
#ifndef SANDBOX_BOX_H
#define SANDBOX_BOX_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "base/base.h"

struct box {
    char folder[64];
    int exit_code;        /* 128 + signal when it was killed */
    char out[1 << 16];    /* what it passed to its own stdout */
    char result[1 << 16]; /* result.json */
};
/* A folder of its own, with the document; `user` 0: as we are. */
void box_make(struct box *box, const char *spec);
pid_t box_start(struct box *box, uid_t user, int *ret_out_fd);
void box_wait(struct box *box, pid_t pid, int out_fd);
void box_remove(struct box *box);
/* All of the above. */
void box_run(struct box *box, const char *spec);
/* Skips the test where the kernel has no isolation to give. */
void box_need(void);
/* Does result.json hold this text? */
void box_want(const struct box *box, const char *text);

#endif
