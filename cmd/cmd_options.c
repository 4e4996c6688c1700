/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: options of a verb, its help, and the messages that every verb prints.
 *
 * Owns:  nothing; values point into argv.
 * Fails: with one line that names the option and what is allowed.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

static void message(const char *prefix, const char *format, va_list arguments)
{
    fprintf(stderr, "%s", prefix);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
}

int cmd_usage(const struct cmd *cmd, const char *format, ...)
{
    va_list arguments;
    char prefix[64];
    snprintf(prefix, sizeof prefix, "millrace %s: ", cmd->verb->name);
    va_start(arguments, format);
    message(prefix, format, arguments);
    va_end(arguments);
    fprintf(stderr, "usage: millrace %s %s\n       `millrace help %s` says more\n", cmd->verb->name,
            cmd->verb->arguments, cmd->verb->name);
    return CMD_USAGE;
}

int cmd_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    message("millrace: ", format, arguments);
    va_end(arguments);
    return CMD_FAILED;
}

void cmd_say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    message("", format, arguments);
    va_end(arguments);
}

static int option_index(const struct cmd_verb *verb, const char *name, size_t name_length)
{
    for (size_t i = 0; i < verb->option_count; i++) {
        const char *candidate = verb->options[i].name;
        if (strlen(candidate) == name_length && memcmp(candidate, name, name_length) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static int letter_index(const struct cmd_verb *verb, char letter)
{
    for (size_t i = 0; i < verb->option_count; i++) {
        if (verb->options[i].letter == letter) return (int)i;
    }
    return -1;
}

/* One option at argv[*i]; may use argv[*i + 1]. */
static int parse_option(struct cmd *cmd, int argc, char **argv, int *i)
{
    const char *text = argv[*i];
    const char *inline_value = NULL;
    int index;
    if (text[1] == '-') {
        const char *equals = strchr(text, '=');
        size_t length = equals != NULL ? (size_t)(equals - text - 2) : strlen(text + 2);
        if (equals != NULL) inline_value = equals + 1;
        index = option_index(cmd->verb, text + 2, length);
    } else {
        index = letter_index(cmd->verb, text[1]);
        if (text[2] != 0) inline_value = text + 2;
    }
    if (index < 0) return cmd_usage(cmd, "no option '%s'", text);
    const struct cmd_option *option = &cmd->verb->options[index];
    if (option->value == NULL) {
        if (inline_value != NULL) return cmd_usage(cmd, "--%s takes no value", option->name);
        cmd->values[index] = "";
        return 0;
    }
    if (inline_value == NULL) {
        if (*i + 1 >= argc) return cmd_usage(cmd, "--%s needs %s", option->name, option->value);
        inline_value = argv[++*i];
    }
    cmd->values[index] = inline_value;
    return 0;
}

static void take_rest(struct cmd *cmd, int argc, char **argv, int from)
{
    cmd->rest = argv + from;
    cmd->rest_count = (uint32_t)(argc - from);
}

int cmd_parse(struct cmd *cmd, int argc, char **argv)
{
    MR_ASSERT(cmd->verb->option_count <= CMD_OPTIONS_MAX);
    for (int i = 1; i < argc; i++) {
        const char *text = argv[i];
        if (strcmp(text, "--") == 0) {
            if (!cmd->verb->rest) return cmd_usage(cmd, "nothing may follow '--' here");
            take_rest(cmd, argc, argv, i + 1);
            break;
        }
        if (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0) {
            cmd_help_verb(stdout, cmd->verb);
            return -1;
        }
        if (text[0] == '-' && text[1] != 0) {
            int code = parse_option(cmd, argc, argv, &i);
            if (code != 0) return code;
            continue;
        }
        if (cmd->positional_count >= cmd->verb->positional_max) {
            return cmd_usage(cmd, "'%s' is one argument too many%s", text,
                             cmd->verb->rest ? " (a command goes behind '--')" : "");
        }
        cmd->positional[cmd->positional_count++] = text;
    }
    cmd->json = option_index(cmd->verb, "json", 4) >= 0 && cmd_flag(cmd, "json");
    return 0;
}

const char *cmd_value(const struct cmd *cmd, const char *option)
{
    int index = option_index(cmd->verb, option, strlen(option));
    MR_ASSERT(index >= 0);
    return cmd->values[index];
}

void cmd_put_option(const struct cmd *cmd, struct mr_buf *json, const char *option,
                    const char *field)
{
    const char *value = cmd_value(cmd, option);
    if (value == NULL) return;
    mr_buf_printf(json, ",\"%s\":", field);
    mr_json_put_string(json, mr_str_from(value));
}

bool cmd_flag(const struct cmd *cmd, const char *option)
{
    return cmd_value(cmd, option) != NULL;
}

bool cmd_number(const struct cmd *cmd, const char *option, uint64_t fallback, uint64_t max,
                uint64_t *ret)
{
    const char *text = cmd_value(cmd, option);
    if (text == NULL) {
        *ret = fallback;
        return true;
    }
    uint64_t value;
    if (mr_str_to_u64(mr_str_from(text), &value) != 0 || value > max) {
        (void)cmd_usage(cmd, "--%s wants a whole number up to %llu, not '%s'", option,
                        (unsigned long long)max, text);
        return false;
    }
    *ret = value;
    return true;
}

void cmd_help_verb(FILE *out, const struct cmd_verb *verb)
{
    fprintf(out, "millrace %s %s\n\n%s\n", verb->name, verb->arguments, verb->summary);
    if (verb->details != NULL) fprintf(out, "\n%s\n", verb->details);
    if (verb->option_count == 0) return;
    fprintf(out, "\noptions:\n");
    for (size_t i = 0; i < verb->option_count; i++) {
        const struct cmd_option *option = &verb->options[i];
        char left[48];
        snprintf(left, sizeof left, "%s%c%s--%s%s%s", option->letter != 0 ? "-" : " ",
                 option->letter != 0 ? option->letter : ' ', option->letter != 0 ? ", " : "  ",
                 option->name, option->value != NULL ? " " : "",
                 option->value != NULL ? option->value : "");
        fprintf(out, "  %-28s %s\n", left, option->help);
    }
}

void cmd_help_all(FILE *out)
{
    fprintf(out, "millrace: an AI cloud that you run yourself\n\n"
                 "usage: millrace VERB [options] [arguments]\n\n");
    for (size_t i = 0; i < cmd_verb_count; i++) {
        fprintf(out, "  %-11s %s\n", cmd_verbs[i].name, cmd_verbs[i].summary);
    }
    fprintf(out, "\nStart with `millrace up`. `millrace help VERB` explains a verb with examples.\n"
                 "Most verbs take --json: one document on standard output, nothing else.\n"
                 "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not reachable, 4 refused.\n");
}
