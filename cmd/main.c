/* SPDX-License-Identifier: Apache-2.0 */
/* The program: finds the verb and runs it.
 *
 * Owns:  nothing but the command line.
 * Fails: with one line on standard error and an exit code of enum cmd_exit.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cmd.h"
#include "engine/engine.h"

static void panic_print(const char *file, int line, const char *what)
{
    fprintf(stderr,
            "millrace: internal error at %s:%d: %s\n"
            "millrace: nothing acknowledged is lost; start again with `millrace up` and "
            "please report this line\n",
            file, line, what);
    abort();
}

static const struct cmd_verb *verb_find(const char *name)
{
    for (size_t i = 0; i < cmd_verb_count; i++) {
        if (strcmp(cmd_verbs[i].name, name) == 0) return &cmd_verbs[i];
    }
    return NULL;
}

/* The verb with the fewest differing letters, for "did you mean". */
static const char *verb_near(const char *name)
{
    const char *best = NULL;
    size_t best_common = 1;
    for (size_t i = 0; i < cmd_verb_count; i++) {
        size_t common = 0;
        while (name[common] != 0 && cmd_verbs[i].name[common] == name[common])
            common++;
        if (common > best_common) {
            best = cmd_verbs[i].name;
            best_common = common;
        }
    }
    return best;
}

static char *self_path(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n < 0) return NULL;
    path[n] = 0;
    return strdup(path);
}

int main(int argc, char **argv)
{
    mr_panic_hook_set(panic_print);
    if (argc < 2) {
        cmd_help_all(stderr);
        return CMD_USAGE;
    }
    const char *name = argv[1];
    /* No verb for people: the engine starts a lease's supervisor by this name. */
    if (strcmp(name, "supervise") == 0 && argc == 3) return mr_engine_supervise(argv[2]);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) name = "help";
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) name = "version";

    struct cmd cmd = {.verb = verb_find(name)};
    if (cmd.verb == NULL) {
        const char *near = verb_near(name);
        fprintf(stderr, "millrace: no verb '%s'%s%s%s; `millrace help` lists them\n", name,
                near != NULL ? " (did you mean '" : "", near != NULL ? near : "",
                near != NULL ? "'?)" : "");
        return CMD_USAGE;
    }
    int code = cmd_parse(&cmd, argc - 1, argv + 1);
    if (code != 0) return code < 0 ? CMD_DONE : code;
    cmd.home = cmd_home_find();
    cmd.self = self_path();
    code = cmd.verb->run(&cmd);
    free(cmd.home);
    free(cmd.self);
    return code;
}
