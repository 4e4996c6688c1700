/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of core share: a small cloud, short ways to say events, its narration as text.
 *
 * Included by one test file each; everything in it is static.
 */
#ifndef MR_CORE_TEST_H
#define MR_CORE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/core_int.h"

#define SECOND      1000000ull
#define MINUTE      (60 * SECOND)
#define HOUR        (60 * MINUTE)
#define GPU         1
#define EFFECTS_MAX 4096

struct cloud {
    struct mr_core *core;
    void *block;
    size_t bytes;
    uint64_t now_us;
    uint64_t tag;
    struct mr_effect effects[EFFECTS_MAX]; /* of the last step */
    uint32_t count;
    uint64_t digest; /* over all effects of all steps */
    int64_t charged; /* sum over all LEDGER effects */
    uint64_t entries;
    struct mr_buf narration;
    struct mr_trace trace;
};

static inline void cloud_emit(void *context, const struct mr_effect *effect)
{
    struct cloud *c = context;
    if (c->count < EFFECTS_MAX) c->effects[c->count] = *effect;
    c->count++;
    c->digest = mr_hash_mix(c->digest ^ (uint64_t)effect->kind);
    if (effect->kind == MR_EFFECT_START) {
        c->digest = mr_hash_mix(c->digest ^ effect->u.start.lease.v ^ effect->u.start.devices ^
                                effect->u.start.node.v);
    }
    if (effect->kind == MR_EFFECT_LEDGER) {
        c->charged += effect->u.ledger.charge_nusd;
        c->entries++;
        c->digest = mr_hash_mix(c->digest ^ effect->u.ledger.quantity ^ effect->u.ledger.entry);
    }
    if (effect->kind == MR_EFFECT_STATE) {
        c->digest = mr_hash_mix(c->digest ^ effect->u.state.workload.v ^
                                (uint64_t)effect->u.state.state << 40);
    }
}

static inline void cloud_line(void *context, struct mr_str line)
{
    struct cloud *c = context;
    mr_buf_put_str(&c->narration, line);
    mr_buf_put_char(&c->narration, '\n');
}

static const struct mr_core_limits tiny_limits = {.nodes = 16,
                                                  .domains = 8,
                                                  .blocks = 4,
                                                  .cells = 2,
                                                  .tenants = 8,
                                                  .workloads = 64,
                                                  .leases = 64,
                                                  .shapes = 16,
                                                  .reservations = 8};

/* With these, random events are mostly possible ones on a fleet that stays. */
static const struct mr_core_limits calm_limits __attribute__((unused)) = {.nodes = 16,
                                                                          .domains = 8,
                                                                          .blocks = 4,
                                                                          .cells = 2,
                                                                          .tenants = 8,
                                                                          .workloads = 128,
                                                                          .leases = 200,
                                                                          .shapes = 33,
                                                                          .fit_shapes = 24,
                                                                          .fit_states = 12,
                                                                          .reservations = 12};

static inline void cloud_panic(const char *file, int line, const char *what)
{
    fail_msg("%s:%d: %s", file, line, what);
    abort();
}

static inline void cloud_init(struct cloud *c, const struct mr_core_limits *limits)
{
    memset(c, 0, sizeof *c);
    mr_panic_hook_set(cloud_panic);
    c->bytes = mr_core_bytes(limits);
    c->block = aligned_alloc(64, (c->bytes + 63) & ~(size_t)63);
    assert_non_null(c->block);
    assert_int_equal(mr_core_init(c->block, c->bytes, limits, &c->core), 0);
    mr_buf_init(&c->narration, 1 << 24);
    c->trace = (struct mr_trace){.line = cloud_line, .context = c};
    mr_core_trace_set(c->core, &c->trace);
    c->now_us = 1;
}

static inline void cloud_done(struct cloud *c)
{
    free(c->block);
    mr_buf_done(&c->narration);
}

static inline void cloud_check(struct cloud *c)
{
    const char *text = NULL;
    if (mr_core_check(c->core, &text) != 0) fail_msg("broken: %s", text);
}

/* Another cloud out of what the first one saves: equal, and where it was. */
static inline void cloud_load(struct cloud *to, struct cloud *from)
{
    struct mr_buf saved;
    cloud_init(to, mr_core_limits_of(from->core));
    mr_buf_init(&saved, 1 << 26);
    mr_core_save(from->core, &saved);
    assert_int_equal(mr_core_load(mr_buf_str(&saved), to->block, to->bytes, &to->core), 0);
    mr_buf_done(&saved);
    assert_true(mr_core_hash(to->core) == mr_core_hash(from->core));
    cloud_check(to);
    to->now_us = from->now_us;
    to->tag = from->tag;
}

static inline void cloud_step(struct cloud *c, struct mr_event event)
{
    event.time_us = c->now_us;
    c->count = 0;
    struct mr_effect_sink sink = {.emit = cloud_emit, .context = c};
    mr_core_step(c->core, &event, &sink);
    cloud_check(c);
}

static inline void tenant_set(struct cloud *c, uint32_t id, uint32_t parent, uint64_t accel_quota)
{
    cloud_step(c, (struct mr_event){.kind = MR_EVENT_TENANT_SET,
                                    .u.tenant = {.id = {id},
                                                 .parent = {parent},
                                                 .weight = 1,
                                                 .quota_cpu_milli = UINT64_MAX,
                                                 .quota_mem_mib = UINT64_MAX,
                                                 .quota_accel_milli = accel_quota,
                                                 .running_max = UINT32_MAX}});
}

/* 64 vCPUs and 256 GiB beside its devices. */
static inline void node_set_in(struct cloud *c, uint32_t id, uint8_t devices, uint32_t domain,
                               uint32_t block, uint32_t cell)
{
    cloud_step(c, (struct mr_event){.kind = MR_EVENT_NODE_SET,
                                    .u.node = {.id = {id},
                                               .cpu_milli = 64000,
                                               .mem_mib = 262144,
                                               .accel_type = devices > 0 ? GPU : 0,
                                               .accel_count = devices,
                                               .domain = domain,
                                               .block = block,
                                               .cell = cell}});
}

static inline void node_set(struct cloud *c, uint32_t id, uint8_t devices)
{
    node_set_in(c, id, devices, 0, 0, 0);
}

static inline void node_state(struct cloud *c, uint32_t id, enum mr_node_state state)
{
    cloud_step(c, (struct mr_event){.kind = MR_EVENT_NODE_STATE,
                                    .u.node_state = {.id = {id}, .state = state}});
}

/* A job of `tasks` tasks with so many thousandths of a device each; fields may be changed before
 * it is stepped. */
static inline struct mr_event job(uint32_t tasks, uint32_t accel_milli)
{
    return (struct mr_event){
        .kind = MR_EVENT_SUBMIT,
        .u.submit = {.tenant = {1},
                     .kind = MR_KIND_JOB,
                     .shape = {.cpu_milli = 1000, .mem_mib = 1024, .accel_milli = accel_milli},
                     .tasks_min = tasks,
                     .tasks_max = tasks,
                     .priority = MR_PRIORITY_DEFAULT,
                     .grace_us = 10 * SECOND}};
}

static inline struct mr_event service(uint32_t min, uint32_t max, uint32_t accel_milli)
{
    struct mr_event event = job(max, accel_milli);
    event.u.submit.kind = MR_KIND_SERVICE;
    event.u.submit.tasks_min = min;
    event.u.submit.load_per_replica = 10;
    return event;
}

/* Steps it and returns the workload's id, 0 when it was rejected. */
static inline uint64_t submit(struct cloud *c, struct mr_event event)
{
    event.u.submit.tag = ++c->tag;
    cloud_step(c, event);
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->effects[i].kind != MR_EFFECT_ACCEPTED && c->effects[i].kind != MR_EFFECT_REJECTED) {
            continue;
        }
        assert_int_equal(c->effects[i].u.answer.tag, c->tag);
        return c->effects[i].u.answer.workload.v;
    }
    fail_msg("no answer to a submission");
    return 0;
}

static inline void tick(struct cloud *c, uint64_t later_us)
{
    c->now_us += later_us;
    cloud_step(c, (struct mr_event){.kind = MR_EVENT_TICK});
}

static inline void lease_event(struct cloud *c, enum mr_event_kind kind, uint64_t lease)
{
    cloud_step(c, (struct mr_event){.kind = kind, .u.lease = {.lease = {lease}}});
}

static inline void exited(struct cloud *c, uint64_t lease, enum mr_exit_kind exit, int32_t code)
{
    cloud_step(c, (struct mr_event){.kind = MR_EVENT_LEASE_EXITED,
                                    .u.lease = {.lease = {lease}, .exit = exit, .code = code}});
}

static inline void cancel(struct cloud *c, uint64_t workload)
{
    cloud_step(c, (struct mr_event){.kind = MR_EVENT_CANCEL, .u.cancel = {workload}});
}

static inline void load(struct cloud *c, uint64_t workload, uint32_t running, uint32_t waiting)
{
    cloud_step(c, (struct mr_event){
                      .kind = MR_EVENT_LOAD,
                      .u.load = {.workload = {workload}, .running = running, .waiting = waiting}});
}

static inline struct mr_workload_info info(struct cloud *c, uint64_t workload)
{
    struct mr_workload_info ret;
    assert_int_equal(mr_core_workload(c->core, (struct mr_workload_id){workload}, &ret), 0);
    return ret;
}

static inline enum mr_state state_of(struct cloud *c, uint64_t workload)
{
    return info(c, workload).state;
}

/* The n-th lease of the workload, from 0. */
static inline struct mr_lease_info lease_of(struct cloud *c, uint64_t workload, uint32_t n)
{
    uint32_t cursor = 0;
    struct mr_lease_info ret;
    for (uint32_t i = 0; i <= n; i++) {
        assert_int_equal(
            mr_core_lease_of(c->core, (struct mr_workload_id){workload}, &cursor, &ret), 0);
    }
    return ret;
}

/* All its leases report the event, or exit with the code. */
static inline void all_leases(struct cloud *c, uint64_t workload, enum mr_event_kind kind)
{
    uint64_t ids[256];
    uint32_t n = 0, cursor = 0;
    struct mr_lease_info l;
    while (n < 256 &&
           mr_core_lease_of(c->core, (struct mr_workload_id){workload}, &cursor, &l) == 0) {
        ids[n++] = l.id.v;
    }
    for (uint32_t i = 0; i < n; i++) {
        lease_event(c, kind, ids[i]);
    }
}

static inline void all_exit(struct cloud *c, uint64_t workload, int32_t code)
{
    uint64_t ids[256];
    uint32_t n = 0, cursor = 0;
    struct mr_lease_info l;
    while (n < 256 &&
           mr_core_lease_of(c->core, (struct mr_workload_id){workload}, &cursor, &l) == 0) {
        ids[n++] = l.id.v;
    }
    for (uint32_t i = 0; i < n; i++) {
        exited(c, ids[i], MR_EXIT_CODE, code);
    }
}

static inline uint32_t effects_of(const struct cloud *c, enum mr_effect_kind kind)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->count && i < EFFECTS_MAX; i++) {
        if (c->effects[i].kind == kind) n++;
    }
    return n;
}

static inline void told(struct cloud *c, const char *expected)
{
    mr_buf_put_char(&c->narration, 0);
    assert_string_equal((const char *)c->narration.p, expected);
    mr_buf_reset(&c->narration);
}

static inline void forget(struct cloud *c)
{
    mr_buf_reset(&c->narration);
}

#endif
