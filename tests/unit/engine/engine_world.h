/* SPDX-License-Identifier: Apache-2.0 */
/* A lane, a home and a memory of reports, for tests of the local engine with real processes. */
#ifndef ENGINE_WORLD_H
#define ENGINE_WORLD_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/engine_int.h"

#define WORLD_REPORTS_MAX 8192

struct world_report {
    struct mr_engine_report r;
    char text[ENGINE_TEXT_BYTES_MAX];
};
struct world {
    struct mr_env env; /* first */
    pthread_mutex_t mutex;
    pthread_cond_t more;
    struct mr_post *first, **last;
    struct mr_engine *engine;
    char home[128];
    const char *programs; /* NULL: the build folder */
    struct world_report reports[WORLD_REPORTS_MAX];
    size_t report_count;
};

struct world *world_new(void);        /* with a home of its own and an engine */
void world_free(struct world *world); /* closes the engine, removes the home */
void world_open(struct world *world); /* the engine again, as after a restart of the daemon */
void world_close(struct world *world);

/* Runs posts until a report of this kind and lease is there, from report number `from` on. NULL
 * after 30 s. */
struct world_report *world_wait(struct world *world, enum mr_engine_report_kind kind,
                                uint64_t lease, size_t from);
/* The end of the lease, which must come. */
struct world_report *world_end(struct world *world, uint64_t lease);
void world_pump(struct world *world, unsigned ms); /* runs posts for so long */
size_t world_count(const struct world *world, enum mr_engine_report_kind kind, uint64_t lease);

/* Starts `sh -c script` as workload = lease, run 1. */
struct mr_engine_start world_order(uint64_t lease);
void world_sh(struct world *world, uint64_t lease, const char *script);
void world_sh_order(struct world *world, struct mr_engine_start start, const char *script);

/* Contents of workloads/W/NAME or run-1/NAME, zero-terminated, in a static buffer. */
const char *world_file(struct world *world, uint64_t workload, const char *name);
size_t world_lines(struct world *world, uint64_t workload, const char *name);
/* Waits up to 30 s for the file to exist. */
bool world_file_wait(struct world *world, uint64_t workload, const char *name);
/* Processes of this home that are alive (any whose environment names it), supervisors apart. */
unsigned world_processes(struct world *world);
/* Processes whose command line holds the word and this home. */
unsigned world_processes_of(struct world *world, const char *word);
pid_t world_supervisor(struct world *world, uint64_t lease);
void world_path(struct world *world, char ret[PATH_MAX], const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
