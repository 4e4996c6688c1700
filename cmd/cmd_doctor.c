/* SPDX-License-Identifier: Apache-2.0 */
/* `doctor`: looks at everything that Millrace needs on this machine and says what to do about it.
 *
 * Owns:  nothing.
 * Fails: exit 1 when something that Millrace cannot do without is missing; a feature that is off is
 *        a warning.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cmd.h"
#include "engine/engine.h"

#define DISK_MIB_MIN 512u

enum verdict { GOOD, WARN, BAD };

struct checkup {
    struct mr_buf json;
    bool as_json;
    uint32_t bad, warned, count;
};

static void note(struct checkup *checkup, enum verdict verdict, const char *what, const char *text)
{
    static const char *const words[] = {"ok", "warning", "missing"};
    if (checkup->count++ > 0) mr_buf_put_char(&checkup->json, ',');
    mr_buf_printf(&checkup->json, "{\"check\":\"%s\",\"verdict\":\"%s\",\"text\":", what,
                  words[verdict]);
    mr_json_put_string(&checkup->json, mr_str_from(text));
    mr_buf_put_char(&checkup->json, '}');
    checkup->bad += verdict == BAD;
    checkup->warned += verdict == WARN;
    if (!checkup->as_json) printf("%-8s %-10s %s\n", words[verdict], what, text);
}

static void check_home(struct checkup *checkup, const char *home)
{
    char text[512];
    struct statvfs disk;
    const char *there = access(home, F_OK) == 0 ? home : "/";
    if (access(home, F_OK) == 0 && access(home, R_OK | W_OK | X_OK) != 0) {
        snprintf(text, sizeof text, "%s cannot be written: %s; set MILLRACE_HOME", home,
                 strerror(errno));
        note(checkup, BAD, "home", text);
        return;
    }
    if (statvfs(there, &disk) == 0) {
        uint64_t free_mib = (uint64_t)disk.f_bavail * disk.f_frsize / 1048576u;
        snprintf(text, sizeof text, "%s, %llu MiB free%s", home, (unsigned long long)free_mib,
                 free_mib < DISK_MIB_MIN ? "; the journal needs room: free some" : "");
        note(checkup, free_mib < DISK_MIB_MIN ? WARN : GOOD, "home", text);
    }
}

static void check_program(struct checkup *checkup, const char *folder, const char *name,
                          const char *without)
{
    char text[512];
    char *path = cmd_path(folder, name);
    bool there = path != NULL && access(path, X_OK) == 0;
    snprintf(text, sizeof text, "%s/%s%s%s", folder, name,
             there ? "" : " is not there: ", there ? "" : without);
    note(checkup, there ? GOOD : WARN, name + strlen("millrace-"), text);
    free(path);
}

static void check_on_path(struct checkup *checkup, const char *name, const char *without)
{
    const char *path = getenv("PATH");
    struct mr_str rest = mr_str_from(path != NULL ? path : "/usr/bin:/bin"), part;
    char file[512];
    while (mr_str_split(&rest, ':', &part)) {
        snprintf(file, sizeof file, "%.*s/%s", MR_STR_ARG(part), name);
        if (part.n > 0 && access(file, X_OK) == 0) {
            note(checkup, GOOD, name, file);
            return;
        }
    }
    note(checkup, WARN, name, without);
}

static void check_machine(struct checkup *checkup)
{
    char text[512];
    struct mr_engine_machine machine;
    mr_engine_machine_read(&machine);
    snprintf(text, sizeof text, "%u vCPU (%s), %u MiB, %u accelerators%s%s",
             machine.cpu_milli / 1000, machine.cpu_name, machine.mem_mib, machine.accel_count,
             machine.accel_count > 0 ? ": " : "", machine.accel_name);
    note(checkup, machine.mem_mib < 1024 ? WARN : GOOD, "machine", text);
    note(checkup, strncmp(machine.cgroup, "none", 4) == 0 ? WARN : GOOD, "cgroups", machine.cgroup);
    note(checkup, strstr(machine.sandbox, "namespaces") != NULL ? GOOD : WARN, "isolation",
         machine.sandbox);
}

static void check_daemon(struct checkup *checkup, struct cmd *cmd)
{
    struct cmd_client client;
    int lock = -1, pid = 0;
    char text[512];
    if (cmd_home_lock(cmd->home, &lock, &pid) == 0) {
        (void)close(lock);
        note(checkup, GOOD, "daemon", "not running; `millrace up` starts it");
        return;
    }
    if (access(cmd->home, F_OK) != 0) {
        note(checkup, GOOD, "daemon", "no home yet; `millrace up` makes it");
        return;
    }
    if (cmd_client_open(cmd, &client) == 0 && cmd_alive(&client)) {
        snprintf(text, sizeof text, "process %d answers at %s", pid, client.url);
        note(checkup, GOOD, "daemon", text);
    } else {
        snprintf(text, sizeof text,
                 "process %d holds the home but does not answer; see %s/daemon.log", pid,
                 cmd->home);
        note(checkup, BAD, "daemon", text);
    }
    cmd_client_close(&client);
}

int cmd_verb_doctor(struct cmd *cmd)
{
    struct checkup checkup = {.as_json = cmd->json};
    char *programs = strdup(cmd->self != NULL ? cmd->self : "/");
    char *slash = programs != NULL ? strrchr(programs, '/') : NULL;
    if (slash == NULL) return cmd_fail("out of memory");
    *slash = 0;
    mr_buf_init(&checkup.json, 65536);
    check_machine(&checkup);
    check_home(&checkup, cmd->home);
    check_daemon(&checkup, cmd);
    char *model = cmd_model_find(cmd->home);
    note(&checkup, model != NULL ? GOOD : WARN, "model",
         model != NULL ? model : "the default model is not here; `make up` fetches it");
    free(model);
    check_program(&checkup, programs, "millrace-infer", "no model can be served; `make build`");
    check_program(&checkup, programs, "millrace-train", "no fine-tuning; `make build` with MPI");
    check_program(&checkup, programs, "millrace-sandbox",
                  "no sandboxes; `make build` with libseccomp");
    check_on_path(&checkup, "mpirun",
                  "no mpirun: fine-tunes run with one rank; install openmpi-bin");
    if (cmd->json) {
        printf("{\"bad\":%u,\"warnings\":%u,\"checks\":[%.*s]}\n", checkup.bad, checkup.warned,
               MR_STR_ARG(mr_buf_str(&checkup.json)));
    }
    mr_buf_done(&checkup.json);
    free(programs);
    return checkup.bad == 0 ? CMD_DONE : CMD_FAILED;
}
