/* SPDX-License-Identifier: Apache-2.0 */
/* `bench`: runs a named bench and prints its bars, for people as they come and as JSON at the end.
 *
 * Owns:  the report for the length of the call.
 * Fails: when the bench could not run at all. A bar that is missed is a result, not a failure.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench.h"
#include "cmd.h"
#include "engine/engine.h"

struct bench {
    const char *name, *summary;
    int (*run)(struct bench_report *report);
};

static const struct bench benches[] = {
    {"core", "cost of a step at 1,000 and 100,000 nodes, 100 and 100,000 waiting", bench_core},
    {"sched", "the scheduler at full size; `bench sched PART` runs a part alone", bench_sched},
    {"submit", "durable submissions a second over HTTP, singly and in batches", bench_submit},
    {"journal", "durable events a second, singly and in groups", bench_journal},
    {"gate", "chats/s and latency through the gate beside nginx as a bare proxy", bench_gate},
    {"infer", "prefill and decode tokens/s beside llama-server", bench_infer},
    {"train", "LoRA tokens/s a core beside PyTorch", bench_train},
};

uint64_t bench_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int double_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, uint32_t count)
{
    if (count == 0) return 0;
    qsort(values, count, sizeof *values, double_compare);
    return values[count / 2];
}

/* 1 met, 0 not met, -1 cannot be said. */
static int met(const struct bench_bar *bar)
{
    if (bar->ours < 0 || bar->goal < 0) return -1;
    if (bar->goal_is_ratio && bar->peer <= 0) return -1;
    double value = bar->goal_is_ratio ? bar->ours / bar->peer : bar->ours;
    return bar->lower_is_better ? value <= bar->goal : value >= bar->goal;
}

void bench_add(struct bench_report *report, const struct bench_bar *bar)
{
    static const char *const verdicts[] = {"", "; below the goal", "; goal reached"};
    MR_ASSERT(report->count < MR_COUNT_OF(report->bars));
    report->bars[report->count++] = *bar;
    if (bar->ours < 0) {
        cmd_say("%-52s not measured: %s", bar->name, bar->note);
        return;
    }
    char peer[128] = "";
    if (bar->peer > 0) {
        snprintf(peer, sizeof peer, "; %s %.4g, ratio %.2f", bar->peer_name, bar->peer,
                 bar->ours / bar->peer);
    }
    cmd_say("%-52s %12.4g %-12s%s%s  %s", bar->name, bar->ours, bar->unit, peer,
            verdicts[met(bar) + 1], bar->note);
}

static void put_number(struct mr_buf *out, const char *name, double value)
{
    if (value < 0) {
        mr_buf_printf(out, ",\"%s\":null", name);
    } else {
        mr_buf_printf(out, ",\"%s\":%.6g", name, value);
    }
}

static void put_bar(struct mr_buf *out, const struct bench_bar *bar)
{
    int is_met = met(bar);
    mr_buf_put_str(out, MR_STR("{\"name\":"));
    mr_json_put_string(out, mr_str_from(bar->name));
    put_number(out, "ours", bar->ours);
    mr_buf_put_str(out, MR_STR(",\"unit\":"));
    mr_json_put_string(out, mr_str_from(bar->unit));
    put_number(out, "peer", bar->peer);
    mr_buf_put_str(out, MR_STR(",\"peer_name\":"));
    mr_json_put_string(out, mr_str_from(bar->peer_name));
    put_number(out, "ratio", bar->ours >= 0 && bar->peer > 0 ? bar->ours / bar->peer : -1);
    put_number(out, "goal", bar->goal);
    mr_buf_printf(out, ",\"met\":%s,\"note\":", is_met < 0 ? "null" : is_met ? "true" : "false");
    mr_json_put_string(out, mr_str_from(bar->note));
    mr_buf_put_char(out, '}');
}

static void put_report(struct mr_buf *out, const char *name, const struct bench_report *report)
{
    struct mr_engine_machine machine;
    mr_engine_machine_read(&machine);
    mr_buf_put_str(out, MR_STR("{\"bench\":"));
    mr_json_put_string(out, mr_str_from(name));
    mr_buf_put_str(out, MR_STR(",\"machine\":{\"cpu\":"));
    mr_json_put_string(out, mr_str_from(machine.cpu_name));
    mr_buf_printf(out, ",\"vcpus\":%u,\"memory_mib\":%u},\"bars\":[", machine.cpu_milli / 1000,
                  machine.mem_mib);
    for (uint32_t i = 0; i < report->count; i++) {
        if (i > 0) mr_buf_put_char(out, ',');
        put_bar(out, &report->bars[i]);
    }
    mr_buf_put_str(out, MR_STR("]}\n"));
}

static int list(const struct cmd *cmd)
{
    if (cmd->json) printf("{\"benches\":[");
    for (size_t i = 0; i < MR_COUNT_OF(benches); i++) {
        if (cmd->json) printf("%s\"%s\"", i > 0 ? "," : "", benches[i].name);
        if (!cmd->json) printf("%-10s %s\n", benches[i].name, benches[i].summary);
    }
    if (cmd->json) printf("]}\n");
    return CMD_DONE;
}

int cmd_verb_bench(struct cmd *cmd)
{
    if (cmd->positional_count == 0) return list(cmd);
    const char *name = cmd->positional[0];
    bool all = strcmp(name, "all") == 0, found = false;
    int code = CMD_DONE;
    mr_cleanup(mr_buf_done) struct mr_buf out;
    mr_buf_init(&out, (size_t)4 * 1024 * 1024);
    struct bench_report *report = calloc(1, sizeof *report);
    if (report == NULL) return cmd_fail("out of memory");
    report->quick = cmd_flag(cmd, "quick");
    report->json = cmd->json;
    report->arg = cmd->positional[1];
    for (size_t i = 0; i < MR_COUNT_OF(benches); i++) {
        if (!all && strcmp(benches[i].name, name) != 0) continue;
        found = true;
        if (all) cmd_say("\n%s: %s", benches[i].name, benches[i].summary);
        int error = benches[i].run(report);
        if (error != 0) code = cmd_fail("bench %s: %s", benches[i].name, mr_error_text(error));
    }
    put_report(&out, name, report);
    if (cmd->json && found) (void)fwrite(out.p, 1, out.n, stdout);
    free(report);
    if (!found) return cmd_usage(cmd, "no bench '%s'; `millrace bench` lists them", name);
    return code;
}
