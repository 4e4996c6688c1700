/* SPDX-License-Identifier: Apache-2.0 */
/* #SBATCH scripts: the common options of sbatch(1) become a workload document.
 *
 * One difference is by design and documented: the script runs once on each node of the job (as
 * SkyPilot does), with torchrun's environment, since there is no srun inside it.
 *
 * Owns:  nothing.
 * Fails: with the line's number, the option and what can be done instead. An option that would
 *        change what runs is never ignored silently.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cmd.h"

struct sbatch {
    struct mr_str name, mem, mem_per_cpu, gpu_type, time, begin, deadline, chdir;
    uint64_t nodes, ntasks, ntasks_per_node, cpus_per_task, gpus_per_node, gpus_total, segment,
        reservation;
    bool requeue, exclusive;
    uint32_t line;
    struct mr_buf *problem;
};

#define NUMBER_MAX 1000000u /* nodes, tasks, CPUs, GPUs: far above any cluster */

enum kind {
    TEXT,
    NUMBER,
    MEMORY,
    GRES,
    GPUS_NODE,
    GPUS_TOTAL,
    TIME,
    FLAG_REQUEUE,
    FLAG_NO_REQUEUE,
    EXCLUSIVE,
    HARMLESS
};
struct option {
    const char *name;
    char letter;
    enum kind kind;
    size_t offset;
};
#define AT(field) offsetof(struct sbatch, field)
static const struct option options[] = {
    {"job-name", 'J', TEXT, AT(name)},
    {"nodes", 'N', NUMBER, AT(nodes)},
    {"ntasks", 'n', NUMBER, AT(ntasks)},
    {"ntasks-per-node", 0, NUMBER, AT(ntasks_per_node)},
    {"cpus-per-task", 'c', NUMBER, AT(cpus_per_task)},
    {"mem", 0, MEMORY, AT(mem)},
    {"mem-per-cpu", 0, MEMORY, AT(mem_per_cpu)},
    {"gres", 0, GRES, 0},
    {"gpus", 'G', GPUS_TOTAL, 0},
    {"gpus-per-node", 0, GPUS_NODE, 0},
    {"time", 't', TIME, AT(time)},
    {"begin", 'b', TEXT, AT(begin)},
    {"deadline", 0, TEXT, AT(deadline)},
    {"segment", 0, NUMBER, AT(segment)},
    {"reservation", 0, NUMBER, AT(reservation)},
    {"chdir", 'D', TEXT, AT(chdir)},
    {"requeue", 0, FLAG_REQUEUE, 0},
    {"no-requeue", 0, FLAG_NO_REQUEUE, 0},
    {"exclusive", 0, EXCLUSIVE, 0},
    /* Where output goes, who is told, what it is booked on: nothing that changes the run. */
    {"output", 'o', HARMLESS, 0},
    {"error", 'e', HARMLESS, 0},
    {"partition", 'p', HARMLESS, 0},
    {"account", 'A', HARMLESS, 0},
    {"qos", 'q', HARMLESS, 0},
    {"mail-type", 0, HARMLESS, 0},
    {"mail-user", 0, HARMLESS, 0},
    {"comment", 0, HARMLESS, 0},
    {"parsable", 0, HARMLESS, 0},
};

/* "#SBATCH" as a word of its own. */
static bool is_directive(struct mr_str line)
{
    if (!mr_str_starts(line, MR_STR("#SBATCH"))) return false;
    return line.n == 7 || line.p[7] == ' ' || line.p[7] == '\t' || line.p[7] == '\r';
}

bool cmd_sbatch_is(struct mr_str text)
{
    struct mr_str line;
    if (!mr_str_starts(text, MR_STR("#!"))) return false;
    while (mr_str_split(&text, '\n', &line)) {
        if (is_directive(line)) return true;
    }
    return false;
}

static int complain(struct sbatch *s, struct mr_str option, const char *text)
{
    mr_buf_printf(s->problem, "line %u: #SBATCH %.*s: %s", s->line, MR_STR_ARG(option), text);
    return MR_ESYNTAX;
}

/* "[type:]count", with "gpu:" before it for --gres. */
static int take_gpus(struct sbatch *s, struct mr_str whole, struct mr_str value, uint64_t *ret)
{
    struct mr_str rest = value, part, last = {0}, type = {0};
    while (mr_str_split(&rest, ':', &part)) {
        if (last.n > 0) type = last;
        last = part;
    }
    if (mr_str_to_u64(last, ret) != 0 || *ret > NUMBER_MAX)
        return complain(s, whole, "want [type:]count");
    if (type.n > 0 && !mr_str_equal(type, MR_STR("gpu"))) s->gpu_type = type;
    return 0;
}

/* Slurm's "M", "M:S", "H:M:S", "D-H", "D-H:M", "D-H:M:S" to seconds. */
static int take_time(struct mr_str text, uint64_t *ret_s)
{
    struct mr_str rest = text, head, part;
    uint64_t days = 0, field[3] = {0}, count = 0;
    bool with_days = memchr(text.p, '-', text.n) != NULL;
    if (with_days) {
        if (!mr_str_split(&rest, '-', &head) || mr_str_to_u64(head, &days) != 0) return MR_ESYNTAX;
    }
    while (mr_str_split(&rest, ':', &part)) {
        if (count == 3 || mr_str_to_u64(part, &field[count++]) != 0) return MR_ESYNTAX;
    }
    if (days > 3650 || MR_MAX(field[0], MR_MAX(field[1], field[2])) > 1000000) return MR_ESYNTAX;
    if (with_days) {
        *ret_s = days * 86400 + field[0] * 3600 + field[1] * 60 + field[2];
    } else if (count == 3) {
        *ret_s = field[0] * 3600 + field[1] * 60 + field[2];
    } else {
        *ret_s = field[0] * 60 + field[1];
    }
    return 0;
}

static const struct option *option_find(struct mr_str name)
{
    bool is_long = mr_str_starts(name, MR_STR("--"));
    for (size_t i = 0; i < MR_COUNT_OF(options); i++) {
        struct mr_str candidate = mr_str_from(options[i].name);
        struct mr_str bare = {name.p + 2, name.n > 2 ? name.n - 2 : 0};
        if (is_long && mr_str_equal(candidate, bare)) return &options[i];
        if (!is_long && name.n == 2 && options[i].letter == name.p[1]) return &options[i];
    }
    return NULL;
}

static int take_value(struct sbatch *s, const struct option *option, struct mr_str whole,
                      struct mr_str value)
{
    void *field = (char *)s + option->offset;
    bool bare = option->kind == FLAG_REQUEUE || option->kind == FLAG_NO_REQUEUE ||
                option->kind == EXCLUSIVE || option->kind == HARMLESS;
    if (value.n == 0 && !bare) {
        return complain(s, whole, "needs a value");
    }
    switch (option->kind) {
    case TEXT:
    case MEMORY:
        *(struct mr_str *)field = value;
        return 0;
    case NUMBER: {
        uint64_t *number = field;
        if (mr_str_to_u64(value, number) == 0 && *number > 0 && *number <= NUMBER_MAX) return 0;
        return complain(s, whole, "want a number above 0 (ranges are not supported)");
    }
    case GRES:
        if (!mr_str_starts(value, MR_STR("gpu"))) return complain(s, whole, "only gpu is known");
        return take_gpus(s, whole, value, &s->gpus_per_node);
    case GPUS_NODE:
        return take_gpus(s, whole, value, &s->gpus_per_node);
    case GPUS_TOTAL:
        return take_gpus(s, whole, value, &s->gpus_total);
    case TIME: {
        uint64_t seconds;
        if (take_time(value, &seconds) != 0) return complain(s, whole, "want D-H:M:S or minutes");
        *(struct mr_str *)field = value;
        return 0;
    }
    case FLAG_REQUEUE:
    case FLAG_NO_REQUEUE:
        s->requeue = option->kind == FLAG_REQUEUE; /* the last one holds */
        return 0;
    case EXCLUSIVE:
        if (value.n > 0) return complain(s, whole, "is for nodes; no value is known");
        s->exclusive = true;
        return 0;
    case HARMLESS:
        return 0;
    }
    return MR_EINTERNAL;
}

/* The line without its comment: a '#' in quotes is none. */
static struct mr_str comment_cut(struct mr_str line)
{
    char quote = 0;
    for (size_t i = 0; i < line.n; i++) {
        char c = line.p[i];
        if (quote == 0 && c == '#') return mr_str_trim((struct mr_str){line.p, i});
        if (quote == 0 && (c == '"' || c == '\''))
            quote = c;
        else if (c == quote)
            quote = 0;
    }
    return mr_str_trim(line);
}

/* Without the quotes around it; with others inside it means something that we do not do. */
static int unquote(struct sbatch *s, struct mr_str option, struct mr_str *value)
{
    size_t quotes = 0;
    for (size_t i = 0; i < value->n; i++)
        quotes += value->p[i] == '"' || value->p[i] == '\'';
    if (quotes == 0) return 0;
    char first = value->p[0], last = value->p[value->n - 1];
    if (quotes != 2 || first != last || (first != '"' && first != '\''))
        return complain(s, option, "want the whole value in one pair of quotes, or none");
    *value = (struct mr_str){value->p + 1, value->n - 2};
    return 0;
}

/* One "#SBATCH" line: "--name=value", "--name value", "-Xvalue", "-X value". */
static int take_line(struct sbatch *s, struct mr_str line)
{
    struct mr_str rest = comment_cut(mr_str_trim((struct mr_str){line.p + 7, line.n - 7}));
    struct mr_str word, value = {0};
    if (rest.n == 0) return 0;
    size_t cut = 0;
    while (cut < rest.n && rest.p[cut] != '=' && rest.p[cut] != ' ' && rest.p[cut] != '\t')
        cut++;
    if (rest.n > 2 && rest.p[0] == '-' && rest.p[1] != '-' && cut > 2) cut = 2;
    word = (struct mr_str){rest.p, cut};
    if (cut < rest.n) {
        size_t skip = rest.p[cut] == '=' ? 1 : 0;
        value = mr_str_trim((struct mr_str){rest.p + cut + skip, rest.n - cut - skip});
    }
    bool quoted = value.n > 0 && (value.p[0] == '"' || value.p[0] == '\'');
    int error = unquote(s, word, &value);
    if (error != 0) return error;
    bool more =
        value.p != NULL && !quoted &&
        (memmem(value.p, value.n, " -", 2) != NULL || memmem(value.p, value.n, "\t-", 2) != NULL);
    if (more) {
        return complain(s, word, "one option a line, please; the rest of this line would be lost");
    }
    const struct option *option = option_find(word);
    if (option == NULL) {
        return complain(s, word,
                        "not supported; write a YAML file for what sbatch's common "
                        "options cannot say");
    }
    return take_value(s, option, word, value);
}

/* Slurm's memory ("4G", "512M", "2048" in MiB) in MiB. */
static int memory_mib(struct mr_str text, uint64_t *ret)
{
    uint64_t unit = 1;
    if (text.n > 0) {
        char last = text.p[text.n - 1];
        if (last == 'G' || last == 'g') unit = 1024;
        if (last == 'T' || last == 't') unit = 1024 * 1024;
        bool has_unit = unit > 1 || last == 'M' || last == 'm';
        if (has_unit) text.n--;
    }
    uint64_t value;
    if (mr_str_to_u64(text, &value) != 0 || value > 1000000000) return MR_ESYNTAX;
    *ret = value * unit;
    return 0;
}

static void put_field(struct mr_buf *json, const char *name, struct mr_str value)
{
    if (value.n == 0) return;
    mr_buf_printf(json, ",\"%s\":", name);
    mr_json_put_string(json, value);
}

static int put_resources(struct sbatch *s, struct mr_buf *json, uint64_t nodes)
{
    uint64_t per_node = s->ntasks_per_node;
    if (per_node == 0) per_node = s->ntasks > 0 ? (s->ntasks + nodes - 1) / nodes : 1;
    uint64_t cpus = per_node * (s->cpus_per_task > 0 ? s->cpus_per_task : 1);
    uint64_t mib = 0, gpus = s->gpus_per_node;
    if (s->mem.n > 0 && memory_mib(s->mem, &mib) != 0) return complain(s, s->mem, "bad memory");
    if (s->mem_per_cpu.n > 0) {
        if (memory_mib(s->mem_per_cpu, &mib) != 0 || !mr_mul_u64(mib, cpus, &mib))
            return complain(s, s->mem_per_cpu, "bad memory");
    }
    if (gpus == 0) gpus = (s->gpus_total + nodes - 1) / nodes;
    mr_buf_printf(json, ",\"resources\":{\"cpus\":%llu", (unsigned long long)cpus);
    if (mib > 0) mr_buf_printf(json, ",\"memory\":\"%lluMiB\"", (unsigned long long)mib);
    if (gpus > 0) {
        struct mr_str type = s->gpu_type.n > 0 ? s->gpu_type : MR_STR("any");
        mr_buf_put_str(json, MR_STR(",\"accelerators\":{"));
        mr_json_put_string(json, type);
        mr_buf_printf(json, ":%llu}", (unsigned long long)gpus);
    }
    mr_buf_put_char(json, '}');
    return 0;
}

static void put_command(struct mr_buf *json, struct mr_str text)
{
    struct mr_str rest = text, shebang = {0}, word;
    (void)mr_str_split(&rest, '\n', &shebang); /* cmd_sbatch_is saw "#!" */
    shebang = mr_str_trim((struct mr_str){shebang.p + 2, shebang.n - 2});
    mr_buf_put_str(json, MR_STR(",\"command\":["));
    while (mr_str_split(&shebang, ' ', &word)) {
        if (word.n == 0) continue;
        mr_json_put_string(json, word);
        mr_buf_put_char(json, ',');
    }
    mr_buf_put_str(json, MR_STR("\"-c\","));
    mr_json_put_string(json, text);
    mr_buf_put_char(json, ']');
}

int cmd_sbatch_to_json(struct mr_str text, const char *file_name, struct mr_buf *json,
                       struct mr_buf *problem)
{
    struct sbatch s = {.problem = problem};
    struct mr_str rest = text, line;
    while (mr_str_split(&rest, '\n', &line)) {
        s.line++;
        line = mr_str_trim(line);
        /* sbatch stops reading options at the first command. */
        if (line.n > 0 && line.p[0] != '#') break;
        if (!is_directive(line)) continue;
        int error = take_line(&s, line);
        if (error != 0) return error;
    }
    uint64_t nodes = s.nodes > 0 ? s.nodes : 1;
    mr_buf_put_str(json, MR_STR("{\"name\":"));
    mr_json_put_string(json, s.name.n > 0 ? s.name : mr_str_from(file_name));
    mr_buf_printf(json, ",\"num_tasks\":%llu", (unsigned long long)nodes);
    int error = put_resources(&s, json, nodes);
    if (error != 0) return error;
    if (s.time.n > 0) {
        uint64_t seconds = 0;
        (void)take_time(s.time, &seconds); /* was checked when it was read */
        mr_buf_printf(json, ",\"time_limit\":%llu", (unsigned long long)seconds);
    }
    put_field(json, "begin", s.begin);
    put_field(json, "deadline", s.deadline);
    if (s.segment > 0) mr_buf_printf(json, ",\"segment\":%llu", (unsigned long long)s.segment);
    if (s.reservation > 0)
        mr_buf_printf(json, ",\"reservation\":%llu", (unsigned long long)s.reservation);
    if (s.exclusive) mr_buf_put_str(json, MR_STR(",\"exclusive\":\"node\""));
    put_field(json, "work_dir", s.chdir);
    if (s.requeue) mr_buf_put_str(json, MR_STR(",\"restarts\":3"));
    put_command(json, text);
    mr_buf_put_char(json, '}');
    return json->failed ? MR_ETOO_LARGE : 0;
}
