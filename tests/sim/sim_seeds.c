/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a range of seeds and every kept one; prints TAP, one line for each block of seeds.
 *
 *   sim_seeds FIRST COUNT [KEPT-FILE]   all must be fine
 *   sim_seeds --finds COUNT             for planted bugs: some seed must fail
 *   sim_seeds --trace SEED              narrates one
 *
 * FIRST "fresh" takes another range each day, so that the same seeds are not run for ever; the
 * failing seed is printed and then kept in tests/sim/seeds.txt.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sim/sim.h"

#define BLOCK 100u

/* A simulated daemon that dies inside a call leaves what yyjson had from libc, as a process would
 * leave it to the kernel; base's memory is dropped with its incarnation and still looked at. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:yyjson_\n";
}

static void trace_line(void *context, struct mr_str line)
{
    (void)context;
    printf("%.*s\n", MR_STR_ARG(line));
}

static bool run(uint64_t seed, bool trace, bool quiet)
{
    struct mr_trace narrator = {.line = trace_line};
    struct mr_sim_options options = {.seed = seed, .trace = trace ? &narrator : NULL};
    struct mr_sim_report report;
    if (mr_sim_run(&options, &report) != 0) {
        printf("# seed %" PRIu64 ": out of memory\n", seed);
        return false;
    }
    if (report.verdict == MR_SIM_FINE) return true;
    if (!quiet) {
        printf("# seed %" PRIu64 " step %" PRIu64 ": %s: %s\n#   %s\n", seed, report.steps,
               mr_sim_verdict_name(report.verdict), report.invariant, report.conditions);
    }
    return false;
}

/* The numbers that begin the lines of a file. */
static int run_kept(const char *path)
{
    char line[512];
    int failed = 0, number = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL) return 0;
    while (fgets(line, sizeof line, file) != NULL) {
        char *end = NULL;
        uint64_t seed = strtoull(line, &end, 10);
        if (end == line || line[0] == '#') continue;
        bool fine = run(seed, false, false);
        printf("%s kept_%d_seed_%" PRIu64 "_stays_fine\n", fine ? "ok" : "not ok", ++number, seed);
        failed += !fine;
    }
    (void)fclose(file); /* read only */
    return failed;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--trace") == 0) {
        return run(strtoull(argv[2], NULL, 10), true, false) ? 0 : 1;
    }
    if (argc == 3 && strcmp(argv[1], "--finds") == 0) {
        uint64_t count = strtoull(argv[2], NULL, 10);
        for (uint64_t seed = 1; seed <= count; seed++) {
            if (run(seed, false, true)) continue;
            printf("ok the_planted_bug_is_found # by seed %" PRIu64 "\n", seed);
            return 0;
        }
        printf("not ok the_planted_bug_is_found # not by %" PRIu64 " seeds\n", count);
        return 1;
    }
    if (argc < 3) return 2;
    uint64_t first = strtoull(argv[1], NULL, 10), count = strtoull(argv[2], NULL, 10);
    if (strcmp(argv[1], "fresh") == 0) {
        struct timespec now;
        (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with this clock */
        first = (uint64_t)now.tv_sec / 86400u * 1000000u;
    }
    int failed = argc > 3 ? run_kept(argv[3]) : 0;
    for (uint64_t done = 0; done < count; done += BLOCK) {
        uint64_t bad = 0, block = count - done < BLOCK ? count - done : BLOCK;
        for (uint64_t i = 0; i < block; i++)
            bad += !run(first + done + i, false, false);
        printf("%s seeds_%" PRIu64 "_to_%" PRIu64 "_break_no_invariant\n",
               bad == 0 ? "ok" : "not ok", first + done, first + done + block - 1);
        (void)fflush(stdout);
        failed += bad > 0;
    }
    return failed > 0;
}
