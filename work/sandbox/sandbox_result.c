/* SPDX-License-Identifier: Apache-2.0 */
/* What came out, as JSON; and what a process tree holds in memory.
 *
 * Owns:  the buffers of the result.
 * Fails: never; a text that is no UTF-8 is shown with replacement characters.
 */
#include "sandbox_int.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

void sandbox_result_init(struct sandbox_result *result)
{
    *result = (struct sandbox_result){0};
    mr_buf_init(&result->problem, 4096);
}

void sandbox_result_done(struct sandbox_result *result, const struct sandbox_spec *spec)
{
    for (size_t i = 0; result->files != NULL && spec != NULL && i < spec->output_count; i++) {
        mr_buf_done(&result->files[i]);
    }
    mr_free(result->files);
    mr_free(result->file_taken);
    mr_buf_done(&result->out);
    mr_buf_done(&result->err);
    mr_buf_done(&result->problem);
}

void sandbox_result_json(const struct sandbox_spec *spec, const struct sandbox_result *result,
                         struct mr_buf *json)
{
    static const char *const kinds[] = {[SANDBOX_KIND_CODE] = "code",
                                        [SANDBOX_KIND_SIGNAL] = "signal",
                                        [SANDBOX_KIND_MEMORY] = "out_of_memory",
                                        [SANDBOX_KIND_TIME] = "time_limit",
                                        [SANDBOX_KIND_START_FAILED] = "start_failed"};
    const char *separator = "";
    size_t outputs = spec != NULL && result->files != NULL ? spec->output_count : 0;
    mr_buf_printf(json, "{\"exit\":{\"kind\":\"%s\",\"code\":%d,\"text\":", kinds[result->kind],
                  result->exit_code);
    mr_json_put_string(json, mr_str_from(result->text));
    mr_buf_put_str(json, MR_STR("},\"stdout\":"));
    mr_json_put_string(json, mr_buf_str(&result->out));
    mr_buf_put_str(json, MR_STR(",\"stderr\":"));
    mr_json_put_string(json, mr_buf_str(&result->err));
    mr_buf_printf(json, ",\"truncated\":%s,\"files\":{", result->truncated ? "true" : "false");
    for (size_t i = 0; i < outputs; i++) {
        if (!result->file_taken[i]) continue;
        mr_buf_put_str(json, mr_str_from(separator));
        mr_json_put_string(json, spec->outputs[i]);
        mr_buf_put_str(json, MR_STR(":\""));
        mr_base64_put(json, result->files[i].p, result->files[i].n);
        mr_buf_put_char(json, '"');
        separator = ",";
    }
    mr_buf_put_str(json, MR_STR("},\"missing\":["));
    separator = "";
    for (size_t i = 0; i < outputs; i++) {
        if (result->file_taken[i]) continue;
        mr_buf_put_str(json, mr_str_from(separator));
        mr_json_put_string(json, spec->outputs[i]);
        separator = ",";
    }
    mr_buf_printf(json, "],\"wall_ms\":%llu,\"cpu_ms\":%llu,\"max_rss_mib\":%llu}\n",
                  (unsigned long long)result->wall_ms, (unsigned long long)result->cpu_ms,
                  (unsigned long long)result->max_rss_mib);
}

/* --- memory --------------------------------------------------------------------------------- */

static bool proc_read(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, buf, size - 1);
    (void)close(fd); /* read only */
    if (n < 0) return false;
    buf[n] = 0;
    return true;
}

static uint64_t field_bytes(const char *text, const char *name)
{
    const char *p = strstr(text, name);
    uint64_t v = 0;
    if (p == NULL) return 0;
    for (p += strlen(name); *p == ' ' || *p == '\t'; p++) {
    }
    for (; *p >= '0' && *p <= '9'; p++)
        v = v * 10 + (uint64_t)(*p - '0');
    return v * 1024;
}

static void usage_add(pid_t pid, uint64_t *bytes, bool exact)
{
    char path[64], text[4096];
    (void)snprintf(path, sizeof path, exact ? "/proc/%d/smaps_rollup" : "/proc/%d/status",
                   (int)pid);
    if (!proc_read(path, text, sizeof text)) return;
    if (exact) {
        *bytes += field_bytes(text, "Pss_Anon:") + field_bytes(text, "Pss_Shmem:") +
                  field_bytes(text, "SwapPss:");
    } else {
        *bytes += field_bytes(text, "RssAnon:") + field_bytes(text, "RssShmem:") +
                  field_bytes(text, "VmSwap:");
    }
}

/* Processes found and not looked at yet; no more can be there than the limit allows, and what a
 * fork adds while we look is found the next time. */
struct walk {
    pid_t *pids;
    size_t count, capacity;
};

static void children_add(struct walk *walk, pid_t pid, char *text, size_t text_bytes)
{
    char path[80];
    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    const struct dirent *entry;
    if (dir == NULL) return;
    while ((entry = readdir(dir)) != NULL) {
        uint64_t id;
        if (mr_str_to_u64(mr_str_from(entry->d_name), &id) != 0) continue;
        (void)snprintf(path, sizeof path, "/proc/%d/task/%llu/children", (int)pid,
                       (unsigned long long)id);
        if (!proc_read(path, text, text_bytes)) continue;
        struct mr_str rest = mr_str_from(text), word;
        while (mr_str_split(&rest, ' ', &word)) {
            if (mr_str_to_u64(word, &id) == 0 && id > 0 && id <= INT_MAX &&
                walk->count < walk->capacity) {
                walk->pids[walk->count++] = (pid_t)id;
            }
        }
    }
    (void)closedir(dir); /* read only */
}

/* Orphans inside come back to the warden, so all of them are below it. In breadth, however deep. */
void sandbox_usage(pid_t root, uint64_t *ret_bytes, bool exact)
{
    static pid_t pids[2 * SANDBOX_PROCESSES_MAX];
    static char text[65536];
    struct walk walk = {.pids = pids, .count = 1, .capacity = MR_COUNT_OF(pids)};
    *ret_bytes = 0;
    pids[0] = root;
    for (size_t i = 0; i < walk.count; i++) {
        usage_add(pids[i], ret_bytes, exact);
        children_add(&walk, pids[i], text, sizeof text);
    }
}
