/* SPDX-License-Identifier: Apache-2.0 */
/* `sim`: the production code in a virtual world with faults, seed after seed.
 *
 * Owns:  nothing between seeds.
 * Fails: exit 1 when a seed did; each is named with what repeats it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"
#include "cmd.h"
#include "sim/sim.h"

#define FAILURES_MAX 100u

struct tally {
    uint64_t seeds, steps, events, jobs, chats, tokens, failed;
    struct mr_sim_faults faults;
    struct mr_sim_report failures[FAILURES_MAX];
};

static void trace_line(void *context, struct mr_str line)
{
    (void)context;
    printf("%.*s\n", MR_STR_ARG(line));
}

static void add(struct tally *tally, const struct mr_sim_report *report)
{
    tally->seeds++;
    tally->steps += report->steps;
    tally->events += report->events;
    tally->jobs += report->jobs;
    tally->chats += report->chats;
    tally->tokens += report->tokens;
#define X(name) tally->faults.name += report->faults.name;
    MR_SIM_FAULTS(X)
#undef X
    if (report->verdict == MR_SIM_FINE) return;
    if (tally->failed < FAILURES_MAX) tally->failures[tally->failed] = *report;
    tally->failed++;
}

static void print_json(const struct tally *tally)
{
    mr_cleanup(mr_buf_done) struct mr_buf out;
    mr_buf_init(&out, (size_t)4 * 1024 * 1024);
    mr_buf_printf(&out,
                  "{\"seeds\":%" PRIu64 ",\"steps\":%" PRIu64 ",\"events\":%" PRIu64
                  ",\"jobs\":%" PRIu64 ",\"chats\":%" PRIu64 ",\"tokens\":%" PRIu64 ",\"faults\":{",
                  tally->seeds, tally->steps, tally->events, tally->jobs, tally->chats,
                  tally->tokens);
    const char *comma = "";
#define X(name)                                                                                    \
    mr_buf_printf(&out, "%s\"" #name "\":%" PRIu64, comma, tally->faults.name);                    \
    comma = ",";
    MR_SIM_FAULTS(X)
#undef X
    mr_buf_put_str(&out, MR_STR("},\"failures\":["));
    for (uint64_t i = 0; i < MR_MIN(tally->failed, (uint64_t)FAILURES_MAX); i++) {
        const struct mr_sim_report *f = &tally->failures[i];
        mr_buf_printf(
            &out, "%s{\"seed\":%" PRIu64 ",\"step\":%" PRIu64 ",\"verdict\":\"%s\",\"invariant\":",
            i > 0 ? "," : "", f->seed, f->steps, mr_sim_verdict_name(f->verdict));
        mr_json_put_string(&out, mr_str_from(f->invariant));
        mr_buf_put_char(&out, '}');
    }
    mr_buf_put_str(&out, MR_STR("]}\n"));
    (void)fwrite(out.p, 1, out.n, stdout);
}

static void print_text(const struct tally *tally, double seconds)
{
    printf("%" PRIu64 " seeds, %" PRIu64 " steps, %" PRIu64 " events, %" PRIu64 " jobs, %" PRIu64
           " chats, %" PRIu64 " tokens in %.1f s: %" PRIu64 " failed\n",
           tally->seeds, tally->steps, tally->events, tally->jobs, tally->chats, tally->tokens,
           seconds, tally->failed);
    printf("faults:");
#define X(name) printf(" %s %" PRIu64 ",", #name, tally->faults.name);
    MR_SIM_FAULTS(X)
#undef X
    printf("\b \n");
}

int cmd_verb_sim(struct cmd *cmd)
{
    uint64_t seeds, first, steps;
    struct mr_trace trace = {.line = trace_line};
    uint64_t started_ns = bench_now_ns(), told_ns = started_ns;
    if (cmd_value(cmd, "format") != NULL) return cmd_replay(cmd);
    if (!cmd_number(cmd, "seeds", 100, 100000000, &seeds)) return CMD_USAGE;
    if (!cmd_number(cmd, "seed", 1, UINT64_MAX / 2, &first)) return CMD_USAGE;
    if (!cmd_number(cmd, "steps", 0, UINT32_MAX, &steps)) return CMD_USAGE;
    bool traced = cmd_flag(cmd, "trace");
    if (traced && (seeds != 1 || cmd->json))
        return cmd_usage(cmd, "--trace goes with --seeds 1, without --json");
    struct tally *totals = calloc(1, sizeof *totals);
    if (totals == NULL) return cmd_fail("out of memory");
    for (uint64_t i = 0; i < seeds; i++) {
        struct mr_sim_report report;
        struct mr_sim_options options = {
            .seed = first + i, .steps_max = steps, .trace = traced ? &trace : NULL};
        int error = mr_sim_run(&options, &report);
        if (error != 0) {
            free(totals);
            return cmd_fail("seed %" PRIu64 ": %s", first + i, mr_error_text(error));
        }
        add(totals, &report);
        if (report.verdict != MR_SIM_FINE) {
            cmd_say("seed %" PRIu64 ", step %" PRIu64
                    ": %s: %s\n  %s\n  again: millrace sim --seeds 1 "
                    "--seed %" PRIu64 " --trace",
                    report.seed, report.steps, mr_sim_verdict_name(report.verdict),
                    report.invariant, report.conditions, report.seed);
        }
        if (isatty(STDERR_FILENO) && bench_now_ns() > told_ns + 1000000000u) {
            told_ns = bench_now_ns();
            double rate = (double)(i + 1) / ((double)(told_ns - started_ns) / 1e9);
            fprintf(stderr, "\r\033[K%" PRIu64 " of %" PRIu64 " seeds, %.0f s left", i + 1, seeds,
                    (double)(seeds - i - 1) / rate);
        }
    }
    if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
    if (cmd->json) {
        print_json(totals);
    } else {
        print_text(totals, (double)(bench_now_ns() - started_ns) / 1e9);
    }
    int code = totals->failed == 0 ? CMD_DONE : CMD_FAILED;
    free(totals);
    return code;
}
