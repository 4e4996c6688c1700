/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs about the program itself: help, version, completion. All of it comes from the table.
 *
 * Owns:  nothing.
 * Fails: on an unknown verb or shell.
 */
#include <stdio.h>

#include "cmd.h"

int cmd_verb_help(struct cmd *cmd)
{
    if (cmd->positional_count == 0) {
        cmd_help_all(stdout);
        return CMD_DONE;
    }
    for (size_t i = 0; i < cmd_verb_count; i++) {
        if (strcmp(cmd_verbs[i].name, cmd->positional[0]) == 0) {
            cmd_help_verb(stdout, &cmd_verbs[i]);
            return CMD_DONE;
        }
    }
    return cmd_usage(cmd, "no verb '%s'", cmd->positional[0]);
}

int cmd_verb_version(struct cmd *cmd)
{
    if (cmd->json) {
        printf("{\"name\":\"millrace\",\"version\":\"%s\"}\n", MR_VERSION);
    } else {
        printf("millrace %s\n", MR_VERSION);
    }
    return CMD_DONE;
}

int cmd_verb_completion(struct cmd *cmd)
{
    if (cmd->positional_count != 1 || strcmp(cmd->positional[0], "bash") != 0) {
        return cmd_usage(cmd, "bash is the shell that is known here");
    }
    printf("# bash completion of millrace; use: source <(millrace completion bash)\n"
           "_millrace() {\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} words=\"\"\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        words=\"");
    for (size_t i = 0; i < cmd_verb_count; i++)
        printf("%s%s", i > 0 ? " " : "", cmd_verbs[i].name);
    printf("\"\n    else\n        case \"${COMP_WORDS[1]}\" in\n");
    for (size_t i = 0; i < cmd_verb_count; i++) {
        const struct cmd_verb *verb = &cmd_verbs[i];
        printf("        %s) words=\"", verb->name);
        for (size_t k = 0; k < verb->option_count; k++)
            printf("--%s ", verb->options[k].name);
        printf("--help\" ;;\n");
    }
    printf("        esac\n"
           "        if [ \"${COMP_WORDS[1]}\" = help ]; then words=\"");
    for (size_t i = 0; i < cmd_verb_count; i++)
        printf("%s%s", i > 0 ? " " : "", cmd_verbs[i].name);
    printf("\"; fi\n"
           "        if [[ $word != -* && ${COMP_WORDS[1]} != help ]]; then\n"
           "            mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
           "            return\n        fi\n    fi\n"
           "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
           "}\ncomplete -o filenames -F _millrace millrace\n");
    return CMD_DONE;
}
