/* SPDX-License-Identifier: Apache-2.0 */
/* `sim --format`: a recorded or drawn workload through the production scheduler, faster than time.
 *
 * Owns:  the files it read, for the length of the call.
 * Fails: with the file and line of what is wrong; CMD_USAGE when an option is missing.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd.h"
#include "sim/sim.h"

#define FILE_BYTES_MAX   ((size_t)2048 * 1024 * 1024)
#define RESULT_BYTES_MAX ((size_t)256 * 1024 * 1024)
#define THROUGHPUTS_MAX  64u

static uint64_t cpu_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* cannot fail with this clock */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void trace_line(void *context, struct mr_str line)
{
    (void)context;
    fprintf(stderr, "%.*s\n", MR_STR_ARG(line));
}

struct files {
    struct mr_buf texts[4 + THROUGHPUTS_MAX]; /* fleet, workload, these as JSON, a table */
    struct mr_sim_file throughputs[THROUGHPUTS_MAX];
    char *names[THROUGHPUTS_MAX];
    uint32_t text_count, throughput_count;
};

static void files_done(struct files *files)
{
    for (uint32_t i = 0; i < files->text_count; i++)
        mr_buf_done(&files->texts[i]);
    for (uint32_t i = 0; i < files->throughput_count; i++)
        free(files->names[i]);
}

static int file_read(struct files *files, const char *path, struct mr_sim_file *ret_file)
{
    struct mr_buf *text = &files->texts[files->text_count++];
    mr_buf_init(text, FILE_BYTES_MAX);
    int error = cmd_file_read(path, text);
    if (error != 0) return cmd_fail("%s: %s", path, mr_error_text(error));
    *ret_file = (struct mr_sim_file){mr_str_from(path), mr_buf_str(text)};
    return 0;
}

/* A workload in YAML becomes JSON, which is what formats read. */
static int workload_read(struct files *files, const char *path, struct mr_sim_file *ret_file)
{
    int code = file_read(files, path, ret_file);
    size_t length = strlen(path);
    bool yaml = (length > 5 && strcmp(path + length - 5, ".yaml") == 0) ||
                (length > 4 && strcmp(path + length - 4, ".yml") == 0);
    if (code != 0 || !yaml) return code;
    struct mr_buf *json = &files->texts[files->text_count++], problem;
    mr_buf_init(json, FILE_BYTES_MAX);
    mr_buf_init(&problem, 4096);
    if (cmd_yaml_to_json(ret_file->text, json, &problem) != 0)
        code = cmd_fail("%s: %.*s", path, MR_STR_ARG(mr_buf_str(&problem)));
    mr_buf_done(&problem);
    ret_file->text = mr_buf_str(json);
    return code;
}

/* Every .csv of the folder; named without folder and ending. */
static int throughputs_read(struct files *files, const char *folder)
{
    DIR *dir = opendir(folder);
    if (dir == NULL) return cmd_fail("%s: not a folder that can be read", folder);
    const struct dirent *entry;
    int code = 0;
    while (code == 0 && (entry = readdir(dir)) != NULL) {
        size_t length = strlen(entry->d_name);
        if (length < 5 || strcmp(entry->d_name + length - 4, ".csv") != 0) continue;
        if (files->throughput_count == THROUGHPUTS_MAX) {
            code = cmd_fail("%s: more than %u files", folder, THROUGHPUTS_MAX);
            break;
        }
        uint32_t at = files->throughput_count;
        char *path = cmd_path(folder, entry->d_name);
        char *name = strndup(entry->d_name, length - 4);
        if (path == NULL || name == NULL) {
            code = cmd_fail("out of memory");
            free(name);
        } else {
            files->names[at] = name;
            files->throughput_count++;
            code = file_read(files, path, &files->throughputs[at]);
            files->throughputs[at].name = mr_str_from(name);
        }
        free(path);
    }
    (void)closedir(dir); /* read only */
    if (code == 0 && files->throughput_count == 0)
        code = cmd_fail("%s: holds no .csv file", folder);
    return code;
}

static bool overhead_of(const char *text, enum mr_sim_overhead *ret)
{
    static const char *const names[MR_SIM_OVERHEAD_COUNT] = {"ov1", "ov2", "none"};
    for (int i = 0; i < MR_SIM_OVERHEAD_COUNT; i++) {
        if (text != NULL && strcmp(text, names[i]) != 0) continue;
        *ret = (enum mr_sim_overhead)i;
        return true;
    }
    return false;
}

/* "0.2" as 200; digits only, so that it means the same in every locale. */
static bool permille_of(const char *text, uint32_t *ret)
{
    struct mr_str rest = mr_str_from(text), whole;
    uint64_t value, fraction = 0;
    if (!mr_str_split(&rest, '.', &whole) || mr_str_to_u64(whole, &value) != 0) return false;
    if (rest.n > 3 || (rest.n > 0 && mr_str_to_u64(rest, &fraction) != 0)) return false;
    for (size_t i = rest.n; i < 3; i++)
        fraction *= 10;
    if (value > 0 || fraction >= 1000) return false;
    *ret = (uint32_t)fraction;
    return true;
}

/* Fleets of these formats are fleet files; openb has a table of its own. */
static int fleet_read(const struct cmd *cmd, struct files *files, const char *path,
                      struct mr_sim_replay_options *options)
{
    const char *catalog = cmd_value(cmd, "catalog");
    struct mr_str f = options->format;
    if (!mr_str_equal(f, MR_STR("swf")) && !mr_str_equal(f, MR_STR("sacct")) &&
        !mr_str_equal(f, MR_STR("millrace"))) {
        return file_read(files, path, &options->fleet);
    }
    struct mr_buf *json = &files->texts[files->text_count++];
    mr_buf_init(json, FILE_BYTES_MAX);
    int code = cmd_fleet_json(path, json);
    options->fleet = (struct mr_sim_file){mr_str_from(path), mr_buf_str(json)};
    if (code == 0 && catalog != NULL) code = file_read(files, catalog, &options->catalog);
    return code;
}

static int options_read(struct cmd *cmd, struct files *files, struct mr_sim_replay_options *options)
{
    const char *fleet = cmd_value(cmd, "fleet"), *workload = cmd_value(cmd, "workload");
    const char *folder = cmd_value(cmd, "throughputs"), *prior = cmd_value(cmd, "prior");
    const char *error = cmd_value(cmd, "speed-error");
    uint64_t gpus, jobs, load;
    int code = 0;
    options->format = mr_str_from(cmd_value(cmd, "format"));
    options->failures = mr_str_from(cmd_value(cmd, "failures"));
    options->draw = mr_str_from(cmd_value(cmd, "draw"));
    options->no_promises = cmd_flag(cmd, "no-promises");
    options->prior_list = prior != NULL;
    if (prior != NULL && strcmp(prior, "list") != 0)
        return cmd_usage(cmd, "--prior is '%s'; it can be: list", prior);
    if (!overhead_of(cmd_value(cmd, "overhead"), &options->overhead))
        return cmd_usage(cmd, "--overhead can be: ov1, ov2, none");
    if (error != NULL && !permille_of(error, &options->speed_error_permille))
        return cmd_usage(cmd, "--speed-error is a share below 1, such as 0.2");
    if (!cmd_number(cmd, "gpus", 0, 10000000, &gpus)) return CMD_USAGE;
    if (!cmd_number(cmd, "seed", 1, UINT64_MAX / 2, &options->seed)) return CMD_USAGE;
    if (!cmd_number(cmd, "jobs", 0, 4000000, &jobs)) return CMD_USAGE;
    if (!cmd_number(cmd, "load", 0, 1000, &load)) return CMD_USAGE;
    options->gpus = (uint32_t)gpus;
    options->jobs = (uint32_t)jobs;
    options->load_per_cent = (uint32_t)load;
    if (workload == NULL && options->draw.n == 0)
        return cmd_usage(cmd, "--format needs --workload FILE, or millrace --draw NAME");
    if (workload != NULL && options->draw.n > 0)
        return cmd_usage(cmd, "--draw is instead of --workload");
    options->workload.name = options->draw;
    if (workload != NULL) code = workload_read(files, workload, &options->workload);
    if (code == 0 && fleet != NULL) code = fleet_read(cmd, files, fleet, options);
    if (code == 0 && folder != NULL) code = throughputs_read(files, folder);
    options->throughputs = files->throughputs;
    options->throughput_count = files->throughput_count;
    return code;
}

static int result_write(struct cmd *cmd, const struct mr_sim_replay_result *result)
{
    const char *report = cmd_value(cmd, "report");
    if (report != NULL) {
        int error = cmd_file_write(report, mr_buf_str(&result->html), 0644);
        if (error != 0) return cmd_fail("%s: %s", report, mr_error_text(error));
        cmd_say("report: %s", report);
    }
    if (cmd->json) {
        printf("%.*s\n", MR_STR_ARG(mr_buf_str(&result->json)));
    } else {
        printf("%.*s", MR_STR_ARG(mr_buf_str(&result->text)));
    }
    return CMD_DONE;
}

int cmd_replay(struct cmd *cmd)
{
    const struct mr_trace trace = {.line = trace_line};
    struct files files = {0};
    struct mr_sim_replay_options options = {.cpu_ns = cpu_ns};
    struct mr_sim_replay_result result;
    mr_buf_init(&result.json, RESULT_BYTES_MAX);
    mr_buf_init(&result.text, RESULT_BYTES_MAX);
    mr_buf_init(&result.html, RESULT_BYTES_MAX);
    mr_buf_init(&result.problem, RESULT_BYTES_MAX);
    options.report = cmd_value(cmd, "report") != NULL;
    if (cmd_flag(cmd, "trace")) options.trace = &trace;
    int code = options_read(cmd, &files, &options);
    if (code == 0) {
        int error = mr_sim_replay(&options, &result);
        if (error == 0) {
            code = result_write(cmd, &result);
        } else if (result.problem.n > 0) {
            code = cmd_fail("%.*s", MR_STR_ARG(mr_buf_str(&result.problem)));
        } else {
            code = cmd_fail("%s", mr_error_text(error));
        }
    }
    files_done(&files);
    mr_buf_done(&result.json);
    mr_buf_done(&result.text);
    mr_buf_done(&result.html);
    mr_buf_done(&result.problem);
    return code;
}
