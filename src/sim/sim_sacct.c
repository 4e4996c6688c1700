/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what `sacct --parsable2` prints: a row of names, then fields behind bars.
 *
 * A job's tasks are its nodes, each with its share of CPUs, memory and devices; the account (else
 * the user) is the tenant. Steps (123.batch), and jobs that never started, are passed over.
 *
 * Owns:       nothing.
 * Invariants: (1) a job has a running time above 0 and at least one task.
 * Never:      I/O, clock.
 * Cost:       O(bytes).
 * Idea:       docs/guides/simulate.md   Tests: tests/unit/sim/test_sim_story.c, fuzz sim_sacct
 */
#include <string.h>

#include "sim_csv_int.h"
#include "sim_field_int.h"
#include "sim_story_int.h"

enum column {
    JOB_ID,
    STATE,
    SUBMIT,
    START,
    END,
    ELAPSED,
    ELAPSED_RAW,
    TIMELIMIT,
    TIMELIMIT_RAW,
    REQ_TRES,
    ALLOC_TRES,
    ALLOC_CPUS,
    NODES,
    ALLOC_NODES,
    ACCOUNT,
    USER,
    COLUMNS
};
static const char *const column_names[COLUMNS] = {
    "JobID",      "State",      "Submit",       "Start",   "End",       "Elapsed",
    "ElapsedRaw", "Timelimit",  "TimelimitRaw", "ReqTRES", "AllocTRES", "AllocCPUS",
    "NNodes",     "AllocNodes", "Account",      "User",
};

struct reader {
    struct sim_csv csv;
    uint32_t columns[COLUMNS];
    struct mr_sim_fleet *fleet;
    struct sim_story *story;
};

static struct mr_str field(const struct reader *r, enum column column)
{
    uint32_t at = r->columns[column];
    return at == SIM_CSV_NONE ? MR_STR("") : r->csv.fields[at];
}

/* "[days-]hours:minutes:seconds", "minutes:seconds", with a fraction that is cut. */
static bool clock_get(struct mr_str text, uint64_t *ret_us)
{
    struct mr_str rest = text, part;
    uint64_t days = 0, parts[3], value = 0;
    uint32_t count = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] != '-') continue;
        if (mr_str_to_u64((struct mr_str){text.p, i}, &days) != 0 || days > 40000) return false;
        rest = (struct mr_str){text.p + i + 1, text.n - i - 1};
        break;
    }
    for (size_t i = 0; i < rest.n; i++) {
        if (rest.p[i] == '.') rest.n = i;
    }
    while (mr_str_split(&rest, ':', &part)) {
        if (count == 3 || mr_str_to_u64(part, &parts[count]) != 0) return false;
        if (parts[count++] > 1000000) return false;
    }
    if (count < 2) return false;
    for (uint32_t i = 0; i < count; i++)
        value = value * 60 + parts[i];
    *ret_us = (days * 86400 + value) * SIM_SECOND_US;
    return true;
}

/* "64G", "1500M", "2T", as Slurm writes memory; in MiB. */
static uint64_t mem_get(struct mr_str text)
{
    size_t digits = 0;
    uint64_t number;
    while (digits < text.n && text.p[digits] >= '0' && text.p[digits] <= '9')
        digits++;
    if (mr_str_to_u64((struct mr_str){text.p, digits}, &number) != 0) return 0;
    size_t at = digits;
    if (at < text.n && text.p[at] == '.') { /* a fraction is cut */
        at++;
        while (at < text.n && text.p[at] >= '0' && text.p[at] <= '9')
            at++;
    }
    char unit = at < text.n ? text.p[at] : 'M';
    uint64_t mib = MR_MIN(number, UINT64_C(1) << 40);
    if (unit == 'K') return mib / 1024;
    if (unit == 'G') return mib * 1024;
    return unit == 'T' ? mib * 1048576 : mib;
}

struct tres {
    uint64_t cpus, mem_mib, nodes, gpus;
    struct mr_str gpu_type;
};

/* "billing=8,cpu=8,gres/gpu:a100=2,gres/gpu=2,mem=64G,node=1" */
static struct tres tres_get(struct mr_str text)
{
    struct tres ret = {0};
    struct mr_str item;
    while (mr_str_split(&text, ',', &item)) {
        struct mr_str value = item, name;
        uint64_t number = 0;
        if (!mr_str_split(&value, '=', &name) || value.p == NULL) continue;
        bool counted = mr_str_to_u64(value, &number) == 0 && number <= UINT32_MAX;
        if (mr_str_equal(name, MR_STR("mem"))) ret.mem_mib = mem_get(value);
        if (!counted) continue;
        if (mr_str_equal(name, MR_STR("cpu"))) ret.cpus = number;
        if (mr_str_equal(name, MR_STR("node"))) ret.nodes = number;
        if (mr_str_equal(name, MR_STR("gres/gpu"))) ret.gpus = MR_MAX(ret.gpus, number);
        if (mr_str_starts(name, MR_STR("gres/gpu:"))) {
            ret.gpu_type = (struct mr_str){name.p + 9, name.n - 9};
            ret.gpus = MR_MAX(ret.gpus, number);
        }
    }
    return ret;
}

static uint64_t count_of(const struct reader *r, enum column column)
{
    uint64_t value;
    return mr_str_to_u64(field(r, column), &value) == 0 && value <= UINT32_MAX ? value : 0;
}

static int times_get(struct reader *r, uint64_t *ret_submit, uint64_t *ret_start, uint64_t *ret_run)
{
    uint64_t end, seconds;
    if (sim_date_get(field(r, SUBMIT), ret_submit) != 0)
        return sim_csv_wrong(&r->csv, "Submit is no time such as 2026-01-31T12:00:00");
    *ret_run = 0;
    if (sim_date_get(field(r, START), ret_start) != 0) return 0; /* Unknown, None: never started */
    if (mr_str_to_u64(field(r, ELAPSED_RAW), &seconds) == 0 && seconds < (1ull << 33)) {
        *ret_run = seconds * SIM_SECOND_US;
    } else if (!clock_get(field(r, ELAPSED), ret_run) && sim_date_get(field(r, END), &end) == 0 &&
               end > *ret_start) {
        *ret_run = end - *ret_start;
    }
    return 0;
}

/* Slurm's names differ from ours in case only, and lack the maker's prefix now and then. */
static bool gpu_type_set(const struct reader *r, struct mr_str name, struct mr_shape *shape)
{
    if (sim_shape_types(r->fleet, name, shape)) return true;
    for (uint32_t i = 1; i <= r->fleet->accel_count; i++) {
        struct mr_str known = r->fleet->accels[i];
        for (size_t at = 0; at + known.n <= name.n; at++) {
            if (!mr_str_equal_nocase((struct mr_str){name.p + at, known.n}, known)) continue;
            shape->accel_types[0] = (uint8_t)i;
            return true;
        }
    }
    return false;
}

static int shape_set(struct reader *r, const struct tres *tres, struct sim_job *job)
{
    uint64_t nodes = MR_MAX(tres->nodes, 1u);
    uint64_t cpus = (MR_MAX(tres->cpus, 1u) + nodes - 1) / nodes;
    uint64_t gpus = (tres->gpus + nodes - 1) / nodes, mem = (tres->mem_mib + nodes - 1) / nodes;
    if (nodes > SIM_FLEET_NODES_MAX || cpus > 4000000 || gpus > MR_DEVICES_PER_NODE_MAX)
        return sim_csv_wrong(&r->csv, "more nodes, CPUs or GPUs a node than any machine has");
    job->tasks_min = job->tasks_max = (uint32_t)nodes;
    job->shape.cpu_milli = (uint32_t)cpus * 1000;
    job->shape.mem_mib = (uint32_t)MR_MIN(mem, UINT64_C(1) << 31);
    job->shape.accel_milli = (uint32_t)gpus * 1000;
    if (gpus > 0 && !gpu_type_set(r, tres->gpu_type, &job->shape)) {
        return sim_csv_wrong(&r->csv, "the fleet has no '%.*s'",
                             (int)MR_MIN(tres->gpu_type.n, (size_t)40), tres->gpu_type.p);
    }
    return 0;
}

static int row_read(struct reader *r)
{
    struct mr_str id = field(r, JOB_ID), state = field(r, STATE);
    uint64_t submit_us = 0, start_us = 0, run_us = 0, minutes;
    bool step = id.n > 0 && memchr(id.p, '.', id.n) != NULL;
    int error = step ? 0 : times_get(r, &submit_us, &start_us, &run_us);
    if (error != 0) return error;
    if (step || run_us == 0 || run_us > SIM_HORIZON_US) {
        r->story->skipped += !step;
        return 0;
    }
    struct sim_job *job = sim_story_add(r->story);
    if (job == NULL)
        return r->story->job_count == SIM_JOBS_MAX
                   ? sim_csv_wrong(&r->csv, "more than %u jobs", SIM_JOBS_MAX)
                   : MR_ENO_MEMORY;
    struct tres tres =
        tres_get(field(r, ALLOC_TRES).n > 0 ? field(r, ALLOC_TRES) : field(r, REQ_TRES));
    if (tres.cpus == 0) tres.cpus = count_of(r, ALLOC_CPUS);
    if (tres.nodes == 0) tres.nodes = MR_MAX(count_of(r, NODES), count_of(r, ALLOC_NODES));
    error = shape_set(r, &tres, job);
    if (error != 0) return error;
    job->submit_us = submit_us;
    job->run_us = run_us;
    if (start_us >= submit_us) job->recorded_wait_us = start_us - submit_us;
    if (mr_str_to_u64(field(r, TIMELIMIT_RAW), &minutes) == 0 && minutes < (1ull << 30)) {
        job->limit_us = minutes * 60 * SIM_SECOND_US;
    } else {
        (void)clock_get(field(r, TIMELIMIT), &job->limit_us); /* UNLIMITED, Partition_Limit: none */
    }
    job->tenant =
        sim_story_tenant(r->story, field(r, ACCOUNT).n > 0 ? field(r, ACCOUNT) : field(r, USER));
    job->ended_badly =
        !mr_str_starts(state, MR_STR("COMPLETED")) && !mr_str_starts(state, MR_STR("RUNNING"));
    return 0;
}

int sim_sacct_read(const struct mr_sim_file *file, struct mr_sim_fleet *fleet,
                   struct sim_story *story, struct mr_buf *problem)
{
    struct reader r = {.fleet = fleet, .story = story};
    int error = sim_csv_open(&r.csv, file, '|', problem);
    if (error != 0) return error;
    for (uint32_t i = 0; i < COLUMNS; i++)
        r.columns[i] = sim_csv_find(&r.csv, column_names[i]);
    for (enum column i = JOB_ID; i <= START; i++) {
        if (r.columns[i] != SIM_CSV_NONE) continue;
        return sim_csv_wrong(&r.csv,
                             "no column %s; print with: sacct --allusers --parsable2 --format "
                             "JobID,State,Submit,Start,End,ElapsedRaw,TimelimitRaw,AllocTRES,"
                             "Account",
                             column_names[i]);
    }
    while ((error = sim_csv_next(&r.csv)) == 0) {
        if ((error = row_read(&r)) != 0) return error;
    }
    return error == MR_ENOT_FOUND ? 0 : error;
}
