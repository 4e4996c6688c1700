/* SPDX-License-Identifier: Apache-2.0 */
/* Private to tests/unit/ctl: one queue, one clock, a journal in memory, an engine that does as
 * told. */
#ifndef CTL_WORLD_H
#define CTL_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl_int.h"

#define WORLD_RECORDS 4096u
#define WORLD_LEASES  256u

struct world_bytes {
    char *p;
    size_t n;
};
struct world_lease {
    bool started, ended, forgotten, adopted;
    uint32_t starts; /* how often a process was made: never more than once */
    uint64_t workload;
    char argv0[64], argv_last[256], env[512], spec[256];
    uint64_t stopped_grace_us;
    bool stop_asked, mpi;
};
struct ctl_world {
    struct mr_env env;
    struct mr_store store;
    struct mr_engine engine;
    struct mr_ctl *ctl;
    /* clock and queue */
    uint64_t now_us;
    struct {
        struct mr_post *post;
        uint32_t lane;
    } posts[1024];
    size_t post_count;
    struct mr_timer *timers;
    uint64_t random;
    uint32_t works; /* computed beside the lane */
    /* journal: index is seq */
    struct world_bytes records[WORLD_RECORDS];
    uint64_t first_seq, last_seq, epoch;
    struct world_bytes snapshots[2]; /* newest first */
    uint64_t snapshot_seqs[2];
    uint64_t ledger[WORLD_RECORDS];
    int64_t ledger_sum_nusd;
    size_t ledger_count;
    struct {
        struct mr_post post;
        struct ctl_world *world;
        mr_store_done done;
        void *arg;
        int error;
        bool busy;
    } append, snapshot;
    uint64_t appends; /* so far */
    uint64_t fail_at; /* this append fails … */
    bool fail_for_ever;
    int fail_error;
    uint64_t crash_at; /* the world ends at this append … */
    bool crash_stored; /* … which reached the disk, though nobody was told */
    bool crashed;
    /* engine */
    struct world_lease leases[WORLD_LEASES];
    void (*report)(void *arg, const struct mr_engine_report *report);
    void *report_arg;
    bool swept, forgot_early;
    /* what came out */
    const struct mr_routes *routes;
    uint32_t feeds, fatals, fatal_error;
    struct mr_ctl_config config;
    char out[65536], problem[1024], param[64];
    uint64_t hash_by_seq[WORLD_RECORDS];
};

struct ctl_world *world_new(void);
void world_free(struct ctl_world *w);
int world_start(struct ctl_world *w); /* text in w->problem */
void world_kill(struct ctl_world *w); /* kill -9: nothing is told to anybody */
void world_stop(struct ctl_world *w); /* in order, then frees */
void world_run(struct ctl_world *w);  /* until nothing is left to do now */
void world_pass(struct ctl_world *w, uint64_t us);

struct world_who {
    uint32_t tenant;
    bool admin;
};
#define ADMIN    ((struct world_who){.admin = true})
#define USER(id) ((struct world_who){.tenant = (id)})
/* Asks and runs until it is answered. 1 when the world crashed before. Text in out and problem. */
int world_ask(struct ctl_world *w, enum mr_ctl_op op, struct world_who who, uint64_t id,
              const char *body);
int world_ask_key(struct ctl_world *w, struct world_who who, const char *body, const char *key);
/* Any call; filled but for the post, the lane and done. */
int world_ask_call(struct ctl_world *w, struct mr_ctl_call *call);
uint64_t world_number(const char *json, const char *name); /* "name":N in it; 0: none */

void world_say(struct ctl_world *w, enum mr_engine_report_kind kind, uint64_t lease, int exit,
               int code);
/* A tenant, a node of 8 vCPU and 16 GiB. */
void world_home(struct ctl_world *w);

#endif
