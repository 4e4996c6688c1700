/* SPDX-License-Identifier: Apache-2.0 */
/* The table of verbs: the one source of --help, of tab completion and of docs/reference/cli.md.
 *
 * Owns:  nothing; all of it is constant.
 * Never: logic. A verb's file has that.
 */
#include "cmd.h"

#define OPTION_JSON {"json", 0, NULL, "one JSON document on standard output, nothing else"}
#define OPTION_WAIT {"wait", 'w', NULL, "stay until it has ended; exit 1 when it did not complete"}
#define OPTION_PLAN {"plan", 0, NULL, "only say what it would do: who starts later, who is stopped"}
#define OPTION_NAME {"name", 'n', "NAME", "what people call it"}
#define OPTIONS_SHAPE                                                                              \
    {"cpus", 'c', "N", "vCPUs for each task; 0.5 is fine"},                                        \
        {"memory", 'm', "SIZE", "memory for each task, for example 2GiB"},                         \
        {"accelerators", 'a', "TYPE:N", "devices for each task, for example H100:8"}
#define OPTION_MODEL {"model", 0, "FILE", "a GGUF file; default: the model that `make up` fetches"}

static const struct cmd_option options_up[] = {
    {"detach", 'd', NULL, "return as soon as it is ready; it goes on in the background"},
    {"listen", 'l', "HOST:PORT", "default 127.0.0.1:7411; port 0 takes any free one"},
    OPTION_MODEL,
    {"no-model", 0, NULL, "serve no model on a new home"},
    {"threads", 't', "N", "gateway threads, default 1"},
    {"size", 0, "small|fleet",
     "of a new home: 256 nodes and 8,192 workloads, or 240,000 and 1.1 million"},
    OPTION_JSON,
};
static const struct cmd_option options_down[] = {
    {"all", 0, NULL, "stop the workers too; `up` starts them again from where they were"},
    OPTION_JSON,
};
static const struct cmd_option options_json[] = {OPTION_JSON};
static const struct cmd_option options_fleet[] = {
    {"catalog", 0, "FILE.csv", "instance types and prices, columns of an EC2 catalog"},
    OPTION_JSON,
};
static const struct cmd_option options_chat[] = {
    {"model", 'm', "NAME", "a served model; default: the first that `status` lists"},
    {"system", 's', "TEXT", "the system message"},
    {"temperature", 't', "X", "0 is greedy; default 1"},
    {"top-p", 0, "X", "nucleus sampling, 0 to 1"},
    {"max-tokens", 0, "N", "at most so many tokens"},
    {"seed", 0, "N", "equal seeds give equal answers"},
    OPTION_JSON,
};
static const struct cmd_option options_submit[] = {
    OPTION_NAME,
    {"tasks", 'N', "N|MIN..MAX", "size of the gang; with a range it is elastic"},
    OPTIONS_SHAPE,
    {"priority", 'p', "CLASS", "high, normal, low, or 0 (first) to 7"},
    {"time-limit", 't', "TIME", "running time after which it is stopped, for example 2h"},
    {"reservation", 0, "ID", "run on the nodes of this reservation, in its time"},
    {"exclusive", 0, NULL, "on nodes of its own, whole, and charged whole"},
    {"apart", 0, "GROUP", "on no node on which others of the tenant's group are"},
    {"apart-by", 0, "LEVEL", "with --apart: in no node (default), domain or block of theirs"},
    {"deadline", 0, "TIME", "be done by then: 2026-12-01T09:00:00Z, or from now like 6h"},
    {"work", 0, "N", "with --deadline and --scaling: units of work that there are"},
    {"scaling", 0, "TASKS:RATE,…", "units of work a second with so many tasks: 1:3.2,2:6,4:11"},
    OPTION_PLAN,
    OPTION_WAIT,
    OPTION_JSON,
};
static const struct cmd_option options_queue[] = {
    {"state", 's', "STATE", "only those: pending, running, completed, failed, …"},
    OPTION_JSON,
};
static const struct cmd_option options_logs[] = {
    {"follow", 'f', NULL, "go on until the workload has ended"},
    {"stderr", 'e', NULL, "standard error instead of standard output"},
    {"rank", 'r', "N", "which task, default 0"},
    {"run", 0, "N", "which run, default the newest"},
    OPTION_JSON,
};
static const struct cmd_option options_serve[] = {
    OPTION_MODEL,
    OPTION_NAME,
    {"min", 0, "N", "replicas that always run, default 1"},
    {"max", 0, "N", "replicas under load, default the same"},
    {"load-per-replica", 0, "N", "requests in flight that one replica should carry"},
    OPTIONS_SHAPE,
    {"slots", 0, "N", "streams that a replica decodes at once"},
    {"context", 0, "TOKENS", "longest prompt and answer together"},
    {"threads", 't', "N", "compute threads of a replica, default 1"},
    {"adapter", 0, "FILE", "a LoRA adapter (GGUF) to apply"},
    OPTION_JSON,
};
static const struct cmd_option options_finetune[] = {
    OPTION_MODEL,
    OPTION_NAME,
    {"out", 'o', "FILE", "where the adapter goes; default: the workload's folder"},
    {"ranks", 'N', "N", "MPI ranks, default 1"},
    {"ranks-min", 0, "N", "may shrink to so many when others need room"},
    {"epochs", 0, "N", "passes over the data"},
    {"max-steps", 0, "N", "stop after so many optimizer steps"},
    {"learning-rate", 0, "X", "AdamW's"},
    {"batch", 0, "N", "examples in one optimizer step"},
    {"rank", 0, "R", "LoRA's rank"},
    {"sequence-tokens", 0, "N", "longer examples are cut"},
    {"seed", 0, "N", "order of the examples and first weights"},
    {"checkpoint-every", 0, "STEPS", "a checkpoint after so many steps"},
    {"priority", 'p', "CLASS", "high, normal, low, or 0 (first) to 7"},
    OPTIONS_SHAPE,
    OPTION_WAIT,
    OPTION_JSON,
};
static const struct cmd_option options_sandbox[] = {
    {"time", 't', "SECONDS", "longest running time, default 60"},
    {"memory", 'm', "SIZE", "default 512MiB"},
    {"processes", 0, "N", "default 64"},
    {"file", 'f', "FILE", "put a copy of it into the working folder"},
    {"output", 'o', "NAME", "fetch this file from the working folder afterwards"},
    {"language", 0, "LANG", "of a program from standard input: python (default) or sh"},
    OPTION_JSON,
};
static const struct cmd_option options_tenant[] = {
    {"parent", 0, "NAME", "whose quota its own counts against"},
    {"weight", 0, "N", "in the fair share, 1 to 1000"},
    {"quota", 0, "NAME=AMOUNT,…",
     "its own: cpus, memory, accelerators, a type, running; none: no limit"},
    {"borrow", 0, "NAME=AMOUNT,…", "how much more it may use of what its siblings do not"},
    {"keep", 0, "NAME=AMOUNT,…", "what of its own its siblings may never use"},
    {"reclaim", 0, "never|lower|any", "whose borrowed work it may stop to get its own back"},
    {"preempt-own", 0, "never|lower", "whether its higher work may stop its own lower work"},
    {"half-life", 0, "TIME", "of past use in the fair share; 0: only the present counts"},
    OPTION_PLAN,
    OPTION_JSON,
};
static const struct cmd_option options_reserve[] = {
    {"from", 0, "TIME", "when it begins: 2026-12-01T09:00:00Z, or from now like 8h; default now"},
    {"for", 0, "TIME", "how long, for example 4h or 14d"},
    {"tasks", 'N', "N", "room for so many tasks, default 1"},
    OPTIONS_SHAPE,
    {"topology", 0, "RULE", "any, prefer_domain, node, domain, block or cell"},
    {"tenant", 0, "NAME", "whose work may use it, and who pays; default: default"},
    OPTION_NAME,
    OPTION_PLAN,
    OPTION_JSON,
};
static const struct cmd_option options_key[] = {
    {"tenant", 0, "NAME", "whose key; default: default"},
    {"new-tenant", 0, NULL, "make the tenant first"},
    {"admin", 0, NULL, "may do everything"},
    {"revoke", 0, "KEY", "this key is refused from now on"},
    OPTION_JSON,
};
static const struct cmd_option options_sim[] = {
    {"seeds", 0, "N", "how many, default 100"},
    {"seed", 0, "FIRST", "the first one, default 1"},
    {"steps", 0, "N", "steps of each, default: drawn from the seed"},
    {"trace", 0, NULL, "print what happens; with one seed"},
    {"format", 0, "NAME", "replay a workload of this format instead of faults"},
    {"fleet", 0, "FILE", "replay: the machines, a fleet file; openb: a table of nodes"},
    {"catalog", 0, "FILE.csv", "replay: instance types and prices for the fleet file"},
    {"workload", 0, "FILE", "replay: what is submitted, and when"},
    {"prior", 0, "list", "openb: the shapes' frequencies are known, not learned"},
    {"throughputs", 0, "DIR", "elasticflow: measured speeds, one CSV a model"},
    {"gpus", 0, "N", "elasticflow: size of the cluster"},
    {"overhead", 0, "ov1|ov2|none", "elasticflow: what a change of size costs"},
    {"speed-error", 0, "SHARE", "elasticflow: speeds are known this well only"},
    {"no-promises", 0, NULL, "elasticflow: no admission, best effort for all"},
    {"failures", 0, "llama3|rsc|none", "replay: nodes fail at published rates; default none"},
    {"draw", 0, "acme|kalos|philly|helios|pai", "millrace: drawn jobs instead of a workload"},
    {"jobs", 0, "N", "draw: how many, default 10000"},
    {"load", 0, "PER_CENT", "draw: of the fleet's accelerators that they ask for, default 80"},
    {"report", 0, "FILE.html", "replay: write a page with plots"},
    OPTION_JSON,
};
static const struct cmd_option options_bench[] = {
    {"quick", 0, NULL, "smaller sizes: shows that it runs, not how fast it is"},
    OPTION_JSON,
};

#define OPTIONS(list) list, MR_COUNT_OF(list)

const struct cmd_verb cmd_verbs[] = {
    {"up", "[-d]", "start Millrace on this machine",
     "Makes a home on the first start, prints the URL, an administrator's key and an API key "
     "(once),\n"
     "the devices found and three lines to paste. Stays until Ctrl-C; workers outlive it.\n\n"
     "  millrace up\n  millrace up -d --listen 127.0.0.1:0 --json\n  millrace up --model FILE.gguf",
     OPTIONS(options_up), 0, false, cmd_verb_up},
    {"down", "", "stop it; workers go on unless --all", NULL, OPTIONS(options_down), 0, false,
     cmd_verb_down},
    {"status", "", "what runs here", NULL, OPTIONS(options_json), 0, false, cmd_verb_status},
    {"chat", "[WORDS…]", "talk to a served model",
     "  millrace chat \"What is a millrace?\"\n  millrace chat            (a conversation)\n"
     "  millrace chat < question.txt",
     OPTIONS(options_chat), CMD_POSITIONALS_MAX, false, cmd_verb_chat},
    {"submit", "FILE | -- COMMAND…", "run a job, a service or a pool",
     "FILE is a YAML workload (docs/reference/workload.md), a #SBATCH script, JSON, or - for\n"
     "standard input.\n\n"
     "  millrace submit train.yaml\n  millrace submit job.sbatch\n"
     "  millrace submit --plan train.yaml\n"
     "  millrace submit --tasks 1..4 --wait -- python3 work.py",
     OPTIONS(options_submit), 1, true, cmd_verb_submit},
    {"queue", "[ID]", "the workloads and why they wait", NULL, OPTIONS(options_queue), 1, false,
     cmd_verb_queue},
    {"cancel", "ID…", "stop workloads", NULL, OPTIONS(options_json), CMD_POSITIONALS_MAX, false,
     cmd_verb_cancel},
    {"logs", "ID", "what a workload wrote",
     "  millrace logs 7 --follow\n  millrace logs 7 --rank 1 -e", OPTIONS(options_logs), 1, false,
     cmd_verb_logs},
    {"serve", "[--model FILE]", "serve a model",
     "  millrace serve --model my.gguf --name mine --max 4\n"
     "  millrace serve --name tuned --adapter adapter.gguf",
     OPTIONS(options_serve), 0, false, cmd_verb_serve},
    {"finetune", "CHATS.jsonl", "train a LoRA adapter on chats",
     "One {\"messages\":[{\"role\",\"content\"}…]} a line; the loss is on the assistant's "
     "turns.\n\n"
     "  millrace finetune chats.jsonl --ranks 2 --ranks-min 1 --wait",
     OPTIONS(options_finetune), 1, false, cmd_verb_finetune},
    {"sandbox", "run [-- COMMAND…]", "run a program in isolation",
     "Without a command it takes a program from standard input. No network, no file of the "
     "host.\n\n"
     "  millrace sandbox run -- python3 -c 'print(6*7)'\n"
     "  millrace sandbox run --output plot.png < plot.py",
     OPTIONS(options_sandbox), 1, true, cmd_verb_sandbox},
    {"usage", "", "the bill so far, in FOCUS's columns", NULL, OPTIONS(options_json), 0, false,
     cmd_verb_usage},
    {"fleet",
     "[timeline [DAYS] | check FILE | show FILE | types | expect FILE | node ID STATE | domain ID "
     "STATE]",
     "the nodes, what is free, what is to come; fleets in files",
     "Without arguments: the nodes of the running cloud, and what is to be delivered. timeline: "
     "what\n"
     "there will be as far as is known, by deliveries, terms, maintenance, reservations and what "
     "runs.\n"
     "A fleet file (YAML) draws regions, cells, blocks and instances, with dates:\n"
     "docs/reference/fleet-file.md. expect tells the running cloud of such nodes, so that they can "
     "be\n"
     "reserved from their dates on and are given back at the end of their terms. node and domain "
     "say\n"
     "what became of them: up, draining, down or absent.\n\n"
     "  millrace fleet\n  millrace fleet timeline 90\n"
     "  millrace fleet check my-fleet.yaml\n"
     "  millrace fleet expect docs/examples/contract-ramp.yaml\n"
     "  millrace fleet node 7 draining\n"
     "  millrace fleet show docs/examples/fleet-500k.yaml --json\n"
     "  millrace fleet types --catalog ec2_instances.csv",
     OPTIONS(options_fleet), 3, false, cmd_verb_fleet},
    {"why", "ID", "why a workload waits, and what would help", NULL, OPTIONS(options_json), 1,
     false, cmd_verb_why},
    {"when", "ID", "when a workload starts and ends, and how sure that is",
     "The daemon copies its state and takes the copy forward through many possible futures, with "
     "the\n"
     "production scheduler: what runs ends after times such as were seen, others submit as they "
     "did\n"
     "lately. The median and the band that 90 of 100 futures fall in are printed. It is as good "
     "as\n"
     "what is known: give jobs an `estimate` or a `time_limit`.\n\n"
     "  millrace when 7\n  millrace when 7 --json",
     OPTIONS(options_json), 1, false, cmd_verb_when},
    {"whatif", "cancel ID | scale ID MIN MAX | node ID STATE | domain ID STATE",
     "what a change would do, before it is made",
     "Pairs of futures, one without and one with the change, of equal luck: who starts later or\n"
     "sooner, who is stopped, and how often of 40. Nothing is changed. For a submission, a "
     "reservation\n"
     "or a quota: the verb itself with --plan.\n\n"
     "  millrace whatif node 7 down\n  millrace whatif scale 12 2 8\n"
     "  millrace submit --plan train.yaml\n"
     "  millrace reserve --plan --from 8h --for 2h --tasks 4 --accelerators H100:8\n"
     "  millrace tenant set vision --quota H100=16 --plan",
     OPTIONS(options_json), 4, false, cmd_verb_whatif},
    {"tenant", "[NAME | set NAME]", "who may use how much: quotas, borrowing, shares",
     "Without arguments: all tenants, what they hold and may hold. What is not given to set stays "
     "as\n"
     "it is.\n\n"
     "  millrace tenant\n"
     "  millrace tenant set research --quota accelerators=16,memory=1TiB --half-life 7d\n"
     "  millrace tenant set vision --parent research --quota H100=8 --borrow H100=8 --reclaim any",
     OPTIONS(options_tenant), 2, false, cmd_verb_tenant},
    {"reserve", "[node ID | domain ID]", "nodes for a time to come, and maintenance",
     "Without options: what is booked. A reservation has its nodes for itself from its begin to "
     "its\n"
     "end: work that is gone by then, or may be asked to go, uses them until then. It is refused "
     "when\n"
     "it could not be kept, with the time from which on it could. With node or domain: a time in "
     "which\n"
     "they run nothing.\n\n"
     "  millrace reserve --from 2026-12-01T09:00:00Z --for 14d --tasks 16 --accelerators H100:8\n"
     "  millrace submit --reservation 12 -- python3 train.py\n"
     "  millrace reserve node 7 --from 8h --for 2h --name firmware",
     OPTIONS(options_reserve), 2, false, cmd_verb_reserve},
    {"key", "[--tenant NAME]", "make or revoke an API key",
     "  millrace key --tenant research --new-tenant\n  millrace key --revoke mr-…",
     OPTIONS(options_key), 0, false, cmd_verb_key},
    {"doctor", "", "check this machine and say what is missing", NULL, OPTIONS(options_json), 0,
     false, cmd_verb_doctor},
    {"demo", "", "two minutes of the real thing, narrated", NULL, OPTIONS(options_json), 0, false,
     cmd_verb_demo},
    {"sim", "--seeds N", "run the production code in a simulated world with faults",
     "Each seed draws a fleet, a load and faults: crashes between any two steps, torn writes, "
     "lost\n"
     "and repeated messages, dead nodes and workers, slow disks. Exits 1 when an invariant "
     "broke.\n\n"
     "  millrace sim --seeds 2000\n  millrace sim --seed 17 --seeds 1 --trace\n\n"
     "With --format it replays a workload through the production scheduler under a virtual "
     "clock.\n\n"
     "  millrace sim --format swf --workload trace.swf --report trace.html\n"
     "  millrace sim --format sacct --fleet fleet.yaml --workload sacct.txt --json\n"
     "  millrace sim --format millrace --fleet fleet.yaml --workload jobs.jsonl --failures llama3\n"
     "  millrace sim --format millrace --fleet fleet.yaml --draw acme --jobs 20000 --seed 1\n"
     "  millrace sim --format openb --fleet nodes.csv --workload pods.csv --seed 1 --json\n"
     "  millrace sim --format kueue --workload generator.yaml",
     OPTIONS(options_sim), 0, false, cmd_verb_sim},
    {"bench", "[NAME]", "measure, beside the peer where one is installed",
     "Without a name it lists the benches; `all` runs each.", OPTIONS(options_bench), 2, false,
     cmd_verb_bench},
    {"completion", "bash", "print a completion script", "  source <(millrace completion bash)",
     NULL, 0, 1, false, cmd_verb_completion},
    {"help", "[VERB]", "explain a verb", NULL, NULL, 0, 1, false, cmd_verb_help},
    {"version", "", "print the version", NULL, OPTIONS(options_json), 0, false, cmd_verb_version},
};
const size_t cmd_verb_count = MR_COUNT_OF(cmd_verbs);
