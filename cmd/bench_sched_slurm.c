/* SPDX-License-Identifier: Apache-2.0 */
/* `bench sched slurm`: the same work placed by a real slurmctld and by the core, in one run.
 *
 * The controller is Slurm's own, private to the bench: a folder and a port of its own, nodes in
 * state CLOUD whose "resume" does nothing, so that jobs are really placed on nodes and CPUs and
 * none is launched. An array is submitted in one call and counted until nothing is pending. Its
 * settings are those that placed fastest here: every job looked at in each cycle, a cycle a second.
 * Ours is the decisions alone, without the HTTP API and the journal: those are `bench submit`.
 *
 * Owns:   the folder and the controller, for the length of a round.
 * Thread: one.
 * Fails:  never for want of Slurm: the bars are then not measured and say why.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench_sched.h"
#include "bench_world.h"
#include "cmd.h"
#include "cmd_child.h"

#define NODES       1000u
#define NODE_CPUS   64u
#define ROUNDS      3u
#define START_S_MAX 30u
#define PLACE_S_MAX 240u
#define POLL_US     50000u
#define SLURMCTLD   "/usr/sbin/slurmctld"
#define MISSING     "Slurm is not installed (Debian: slurm-wlm)"

struct kind {
    const char *name;
    uint32_t jobs, tasks, cpus; /* CPUs of a task */
    const char *shape[3];       /* the same for sbatch */
};
static const struct kind kinds[] = {
    {"jobs of one CPU", 1000, 1, 1, {"--ntasks=1", NULL}},
    {"gangs of 4 whole nodes", 250, 4, NODE_CPUS, {"--nodes=4", "--exclusive", NULL}},
};

struct controller {
    char folder[64], conf[128], env[160];
    pid_t pid;
};

/* --- Slurm -------------------------------------------------------------------------------------
 */

static bool conf_write(const struct controller *c, uint16_t port)
{
    char host[256] = "";
    if (gethostname(host, sizeof host - 1) != 0) return false;
    FILE *file = fopen(c->conf, "we");
    if (file == NULL) return false;
    int n = fprintf(
        file,
        "ClusterName=bench\nSlurmctldHost=%s(127.0.0.1)\nSlurmctldPort=%u\n"
        "CommunicationParameters=NoInAddrAny\nSlurmUser=%u\nSlurmdUser=%u\n"
        "AuthType=auth/none\nCredType=cred/none\n"
        "StateSaveLocation=%s\nSlurmdSpoolDir=%s\nSlurmctldPidFile=%s/pid\n"
        "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSwitchType=switch/none\n"
        "JobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\n"
        "SchedulerType=sched/backfill\nSelectType=select/cons_tres\n"
        "SelectTypeParameters=CR_Core_Memory\nDefMemPerCPU=100\nMaxJobCount=200000\n"
        "SchedulerParameters=default_queue_depth=100000,sched_min_interval=0,sched_interval=1,"
        "bf_interval=1\n"
        "SuspendProgram=/bin/true\nResumeProgram=/bin/true\nResumeTimeout=65000\n"
        "SuspendTimeout=30\nSuspendTime=60000\nResumeRate=0\nSuspendRate=0\nSlurmdTimeout=65000\n"
        "NodeName=n[1-%u] NodeAddr=127.0.0.1 CPUs=%u Boards=1 SocketsPerBoard=1 "
        "CoresPerSocket=%u ThreadsPerCore=1 RealMemory=256000 State=CLOUD\n"
        "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n",
        host, port, (unsigned)getuid(), (unsigned)getuid(), c->folder, c->folder, c->folder, NODES,
        NODE_CPUS, NODE_CPUS);
    return (fclose(file) == 0) && n > 0;
}

/* Waiting jobs, each of an array; -1: the controller does not answer. */
static int64_t pending(const struct controller *c)
{
    const char *const args[] = {"env",      c->env,    "squeue",   "--noheader", "--array",
                                "--states", "PENDING", "--format", "%i",         NULL};
    mr_cleanup(mr_buf_done) struct mr_buf out;
    int64_t lines = 0;
    mr_buf_init(&out, 1u << 20);
    if (cmd_child_run(args, &out, true) != 0) return -1;
    for (size_t i = 0; i < out.n; i++)
        lines += out.p[i] == '\n';
    return lines;
}

static void controller_stop(struct controller *c)
{
    cmd_child_kill(c->pid);
    if (c->folder[0] != 0) cmd_folder_remove(c->folder);
    *c = (struct controller){0};
}

static bool controller_start(struct controller *c)
{
    *c = (struct controller){.folder = "/tmp/millrace-slurm-XXXXXX"};
    if (mkdtemp(c->folder) == NULL) {
        c->folder[0] = 0;
        return false;
    }
    (void)snprintf(c->conf, sizeof c->conf, "%s/slurm.conf", c->folder);
    (void)snprintf(c->env, sizeof c->env, "SLURM_CONF=%s", c->conf);
    const char *const args[] = {SLURMCTLD, "-D", "-c", "-f", c->conf, NULL};
    uint16_t port = cmd_port_free();
    if (port == 0 || !conf_write(c, port)) return false;
    c->pid = cmd_child_start(args, NULL, true);
    uint64_t until_ns = bench_now_ns() + START_S_MAX * 1000000000ull;
    while (c->pid > 0 && bench_now_ns() < until_ns) {
        if (pending(c) == 0) return true;
        (void)usleep(POLL_US);
    }
    return false;
}

/* Seconds from the call of sbatch until nothing is pending; negative: it could not be measured. */
static double slurm_place(const struct kind *kind)
{
    struct controller c;
    char array[32];
    double seconds = -1;
    if (controller_start(&c)) {
        (void)snprintf(array, sizeof array, "--array=0-%u", kind->jobs - 1);
        const char *const args[] = {"env",      c.env,          "sbatch",       "--quiet",
                                    "--output", "/dev/null",    "--wrap",       "true",
                                    array,      kind->shape[0], kind->shape[1], NULL};
        uint64_t start_ns = bench_now_ns(), now_ns = start_ns;
        int64_t left = cmd_child_run(args, NULL, true) == 0 ? 1 : -1;
        while (left > 0 && now_ns - start_ns < PLACE_S_MAX * 1000000000ull) {
            left = pending(&c);
            now_ns = bench_now_ns();
            if (left > 0) (void)usleep(POLL_US);
        }
        if (left == 0) seconds = (double)(now_ns - start_ns) / 1e9;
    }
    controller_stop(&c);
    return seconds;
}

/* --- ours ---------------------------------------------------------------------------------------
 */

/* Seconds for the same work; negative: not all of it was placed. */
static double core_place(const struct kind *kind)
{
    static const struct mr_core_limits limits = {.nodes = NODES,
                                                 .domains = 64,
                                                 .blocks = 4,
                                                 .cells = 4,
                                                 .tenants = 64,
                                                 .workloads = 16384,
                                                 .leases = 16384,
                                                 .shapes = 256};
    struct bench_cloud *c = NULL;
    if (bench_cloud_new(&c, &limits) != 0) return -1;
    for (uint32_t i = 0; i < NODES; i++) {
        struct mr_event event = {.kind = MR_EVENT_NODE_SET,
                                 .u.node = {.id = {i + 1},
                                            .cpu_milli = NODE_CPUS * 1000,
                                            .mem_mib = 256000,
                                            .block = 1,
                                            .cell = 1}};
        bench_cloud_push(c, &event);
    }
    uint64_t start_ns = bench_now_ns();
    for (uint32_t i = 0; i < kind->jobs; i++) {
        struct mr_event event = bench_job(1 + i % BENCH_TENANTS, kind->tasks, kind->cpus * 1000, 0);
        bench_cloud_push(c, &event);
    }
    double seconds = (double)(bench_now_ns() - start_ns) / 1e9;
    bool all = c->tasks == (uint64_t)kind->jobs * kind->tasks;
    bench_cloud_free(c);
    return all ? seconds : -1;
}

/* --- bars ---------------------------------------------------------------------------------------
 */

static void bar_add(struct bench_report *report, const struct kind *kind)
{
    double theirs[ROUNDS], ours[ROUNDS];
    uint32_t rounds = report->quick ? 1 : ROUNDS, good = 0;
    struct bench_bar bar = {.ours = -1, .unit = "jobs/s", .peer = -1, .goal = -1};
    (void)snprintf(bar.name, sizeof bar.name, "placed on 1,000 nodes of 64 CPUs: %s", kind->name);
    for (uint32_t i = 0; i < rounds; i++) {
        double seconds = slurm_place(kind), own = core_place(kind);
        if (seconds <= 0 || own <= 0) continue;
        theirs[good] = kind->jobs / seconds;
        ours[good++] = kind->jobs / own;
    }
    if (good == 0) {
        (void)snprintf(bar.note, sizeof bar.note, "slurmctld did not start, or did not place all");
    } else {
        bar.ours = bench_median(ours, good);
        bar.peer = bench_median(theirs, good);
        (void)snprintf(bar.peer_name, sizeof bar.peer_name, "slurmctld");
        (void)snprintf(bar.note, sizeof bar.note,
                       "%u jobs, %u rounds: Slurm %.0f to %.0f with its sbatch, nothing launched; "
                       "ours %.0f to %.0f, the decisions alone",
                       kind->jobs, good, theirs[0], theirs[good - 1], ours[0], ours[good - 1]);
    }
    bench_add(report, &bar);
}

int bench_sched_slurm(struct bench_report *report)
{
    if (access(SLURMCTLD, X_OK) != 0) {
        bench_bar_low(report, "placements beside Slurm, 1,000 nodes", -1, "jobs/s", -1, MISSING);
        return 0;
    }
    for (size_t i = 0; i < MR_COUNT_OF(kinds); i++)
        bar_add(report, &kinds[i]);
    return 0;
}
