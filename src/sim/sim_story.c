/* SPDX-License-Identifier: Apache-2.0 */
/* A workload as a list of jobs, whatever it was read from; and the three formats that become one.
 *
 * Owns:       jobs and the names of tenants.
 * Invariants: (1) a job's tenant is from 1 to tenant_count.
 * Never:      I/O, clock.
 * Cost:       O(jobs log jobs) to sort.
 * Idea:       docs/internals/sim.md   Tests: tests/unit/sim/test_sim_story.c
 */
#include "sim_story_int.h"

#include <stdlib.h>
#include <string.h>

#include "sim_formats_int.h"
#include "sim_report_int.h"

#define DATES_FROM_US (UINT64_C(10) * 365 * 86400 * SIM_SECOND_US) /* since 1970 */

void sim_story_init(struct sim_story *story)
{
    *story = (struct sim_story){0};
    mr_arena_init(&story->arena, (size_t)64 * 1024 * 1024);
}

void sim_story_done(struct sim_story *story)
{
    mr_arena_done(&story->arena);
    mr_free(story->jobs);
    story->jobs = NULL;
}

struct sim_job *sim_story_add(struct sim_story *story)
{
    if (story->job_count == SIM_JOBS_MAX) return NULL;
    if (story->job_count == story->job_room) {
        uint32_t room = MR_MAX(1024u, story->job_room * 2);
        void *grown = mr_realloc(story->jobs, room * sizeof *story->jobs);
        if (grown == NULL) return NULL;
        story->jobs = grown;
        story->job_room = room;
    }
    struct sim_job *job = &story->jobs[story->job_count++];
    *job = (struct sim_job){.tasks_min = 1,
                            .tasks_max = 1,
                            .tenant = 1,
                            .priority = MR_PRIORITY_DEFAULT,
                            .recorded_wait_us = SIM_UNKNOWN};
    return job;
}

uint32_t sim_story_tenant(struct sim_story *story, struct mr_str name)
{
    uint64_t hash = mr_hash64(name.p, name.n, 1);
    for (uint64_t i = 0; i < SIM_TENANTS_MAX * 2; i++) {
        uint32_t *bucket = &story->tenant_buckets[(hash + i) % (SIM_TENANTS_MAX * 2)];
        if (*bucket != 0 && mr_str_equal(story->tenants[*bucket - 1], name)) return *bucket;
        if (*bucket != 0) continue;
        if (story->tenant_count == SIM_TENANTS_MAX) break;
        struct mr_str copy = name.n > 0 ? mr_str_copy(&story->arena, name) : MR_STR("-");
        if (copy.p == NULL) break;
        story->tenants[story->tenant_count++] = copy;
        *bucket = story->tenant_count;
        return *bucket;
    }
    return story->tenant_count == 0 ? 1 : (uint32_t)(hash % story->tenant_count) + 1;
}

/* The order in the file breaks ties: it is what the addresses say. */
static int by_submission(const void *a, const void *b)
{
    const struct sim_job *x = *(const struct sim_job *const *)a;
    const struct sim_job *y = *(const struct sim_job *const *)b;
    if (x->submit_us != y->submit_us) return x->submit_us < y->submit_us ? -1 : 1;
    return (x > y) - (x < y);
}

void sim_story_sort(struct sim_story *story)
{
    uint32_t count = story->job_count;
    bool sorted = true;
    for (uint32_t i = 1; i < count && sorted; i++)
        sorted = story->jobs[i - 1].submit_us <= story->jobs[i].submit_us;
    const struct sim_job **order = sorted ? NULL : mr_alloc(count * sizeof *order);
    struct sim_job *jobs = sorted ? NULL : mr_alloc(count * sizeof *jobs);
    if (!sorted && (order == NULL || jobs == NULL)) {
        count = story->job_count = 0; /* the caller sees an empty story */
    } else if (!sorted) {
        for (uint32_t i = 0; i < count; i++)
            order[i] = &story->jobs[i];
        qsort(order, count, sizeof *order, by_submission);
        for (uint32_t i = 0; i < count; i++)
            jobs[i] = *order[i];
        memcpy(story->jobs, jobs, count * sizeof *jobs);
    }
    mr_free(order);
    mr_free(jobs);
    uint64_t first_us = count > 0 ? story->jobs[0].submit_us : 0;
    for (uint32_t i = 0; i < count; i++) {
        story->jobs[i].submit_us -= first_us;
        if (story->jobs[i].deadline_us > 0) story->jobs[i].deadline_us -= first_us;
    }
    /* Seconds since some beginning are no date. */
    story->epoch_us += first_us;
    if (story->epoch_us < DATES_FROM_US) story->epoch_us = 0;
}

bool sim_shape_types(const struct mr_sim_fleet *fleet, struct mr_str names, struct mr_shape *shape)
{
    struct mr_str name;
    uint32_t count = 0;
    if (names.n == 0) return true;
    while (mr_str_split(&names, '|', &name)) {
        for (uint32_t i = 1; i <= fleet->accel_count && count < MR_SHAPE_ALTERNATIVES; i++) {
            if (mr_str_equal_nocase(fleet->accels[i], mr_str_trim(name)))
                shape->accel_types[count++] = (uint8_t)i;
        }
    }
    return count > 0;
}

/* --- the three formats --------------------------------------------------------------------- */

/* One processor a core: nodes as the header of a record says. */
static int fleet_of_header(const struct sim_story *story, struct mr_sim_fleet *fleet,
                           struct mr_buf *problem)
{
    uint32_t procs = story->max_procs, nodes = story->max_nodes;
    if (procs == 0 && nodes == 0) {
        mr_buf_printf(problem, "the header names neither MaxProcs nor MaxNodes: give --fleet");
        return MR_EINVALID;
    }
    if (procs == 0) procs = nodes;
    if (nodes == 0) nodes = procs;
    nodes = MR_MIN(nodes, procs);
    uint32_t each = (procs + nodes - 1) / nodes;
    struct sim_fleet_line line = {
        .type = {.name = MR_STR("node"), .cpus = each, .mem_mib = UINT32_MAX, .verified = true},
        .nodes = procs / each,
        .until_us = UINT64_MAX};
    fleet->name = MR_STR("from the record's header");
    fleet->regions[0] = MR_STR("default");
    fleet->region_count = 1;
    int error = sim_fleet_add(fleet, &line);
    if (error == 0 && procs % each > 0) {
        line.type.cpus = procs % each;
        line.nodes = 1;
        error = sim_fleet_add(fleet, &line);
    }
    if (error == MR_ELIMIT) {
        mr_buf_printf(problem, "%u nodes are more than the %u that a fleet can have", nodes,
                      SIM_FLEET_NODES_MAX);
        return MR_EINVALID;
    }
    return error;
}

enum format { FORMAT_SWF, FORMAT_SACCT, FORMAT_MILLRACE };

static int story_read(enum format format, const struct mr_sim_replay_options *options,
                      struct mr_sim_fleet **fleet, struct sim_story *story, struct mr_buf *problem)
{
    bool given = options->fleet.text.n > 0;
    int error = 0;
    if (given) {
        error = mr_sim_fleet_read(&options->fleet, &options->catalog, fleet, problem);
    } else if (format == FORMAT_SWF) {
        error = sim_fleet_new(fleet);
    } else {
        mr_buf_printf(problem, "this format says nothing of the machines: give --fleet FILE "
                               "(docs/reference/fleet-file.md)");
        error = MR_EINVALID;
    }
    if (error != 0) return error;
    if (format == FORMAT_SWF) error = sim_swf_read(&options->workload, story, problem);
    if (format == FORMAT_SACCT) error = sim_sacct_read(&options->workload, *fleet, story, problem);
    if (format == FORMAT_MILLRACE && options->draw.n > 0)
        error = sim_story_draw(options, *fleet, story, problem);
    else if (format == FORMAT_MILLRACE)
        error = sim_millrace_read(&options->workload, *fleet, story, problem);
    if (error != 0) return error;
    if (!given) error = fleet_of_header(story, *fleet, problem);
    if (error != 0) return error;
    sim_story_sort(story);
    if (story->job_count > 0) return 0;
    mr_buf_printf(problem, "%.*s: no job in it that ever ran (%llu records were passed over)",
                  MR_STR_ARG(options->workload.name), (unsigned long long)story->skipped);
    return MR_ESYNTAX;
}

static int format_replay(enum format format, const struct mr_sim_replay_options *options,
                         struct mr_sim_replay_result *result)
{
    struct mr_sim_fleet *fleet = NULL;
    struct sim_result played = {0};
    struct sim_story *story = mr_alloc(sizeof *story);
    if (story == NULL) return MR_ENO_MEMORY;
    sim_story_init(story);
    int error = story_read(format, options, &fleet, story, &result->problem);
    if (error == 0) error = sim_play(story, fleet, options, &played, &result->problem);
    if (error == 0) error = sim_report(&played, options, result);
    mr_free(played.outcomes);
    mr_sim_fleet_free(fleet);
    sim_story_done(story);
    mr_free(story);
    return error;
}

int sim_swf_replay(const struct mr_sim_replay_options *options, struct mr_sim_replay_result *result)
{
    return format_replay(FORMAT_SWF, options, result);
}

int sim_sacct_replay(const struct mr_sim_replay_options *options,
                     struct mr_sim_replay_result *result)
{
    return format_replay(FORMAT_SACCT, options, result);
}

int sim_millrace_replay(const struct mr_sim_replay_options *options,
                        struct mr_sim_replay_result *result)
{
    return format_replay(FORMAT_MILLRACE, options, result);
}
