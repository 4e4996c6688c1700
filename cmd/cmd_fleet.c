/* SPDX-License-Identifier: Apache-2.0 */
/* `fleet`: the nodes of the running cloud; with a word, fleets drawn in a file.
 *
 * Owns:  the files it read, for the length of the call.
 * Fails: with the place in the file and what is wrong there.
 */
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "sim/sim.h"

#define FLEET_BYTES_MAX   ((size_t)64 * 1024 * 1024)
#define CATALOG_BYTES_MAX ((size_t)64 * 1024 * 1024)

int cmd_fleet_json(const char *path, struct mr_buf *json)
{
    mr_cleanup(mr_buf_done) struct mr_buf yaml;
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    mr_buf_init(&yaml, FLEET_BYTES_MAX);
    mr_buf_init(&problem, 4096);
    int error = cmd_file_read(path, &yaml);
    if (error != 0) return cmd_fail("%s: %s", path, mr_error_text(error));
    error = cmd_yaml_to_json(mr_buf_str(&yaml), json, &problem);
    if (error == 0) return 0;
    if (problem.n == 0) return cmd_fail("%s: %s", path, mr_error_text(error));
    return cmd_fail("%s: %.*s", path, MR_STR_ARG(mr_buf_str(&problem)));
}

static int catalog_read(const struct cmd *cmd, struct mr_buf *text, struct mr_sim_file *ret)
{
    const char *path = cmd_value(cmd, "catalog");
    if (path == NULL) return 0;
    int error = cmd_file_read(path, text);
    if (error != 0) return cmd_fail("%s: %s", path, mr_error_text(error));
    *ret = (struct mr_sim_file){mr_str_from(path), mr_buf_str(text)};
    return 0;
}

static void fleet_print(const struct cmd *cmd, const struct mr_sim_fleet *fleet, bool types)
{
    mr_cleanup(mr_buf_done) struct mr_buf out;
    mr_buf_init(&out, FLEET_BYTES_MAX);
    if (types) {
        mr_sim_types_put(fleet, cmd->json, &out);
    } else if (cmd->json) {
        mr_sim_fleet_put_json(fleet, &out);
    } else {
        mr_sim_fleet_put_text(fleet, &out);
    }
    if (cmd->json) mr_buf_put_char(&out, '\n');
    (void)fwrite(out.p, 1, out.n, stdout);
}

int cmd_fleet_file(struct cmd *cmd)
{
    const char *word = cmd->positional[0];
    const char *path = cmd->positional_count > 1 ? cmd->positional[1] : NULL;
    bool types = strcmp(word, "types") == 0, check = strcmp(word, "check") == 0;
    bool expect = strcmp(word, "expect") == 0;
    if (strcmp(word, "node") == 0 || strcmp(word, "domain") == 0) return cmd_fleet_state(cmd);
    if (!types && !check && !expect && strcmp(word, "show") != 0)
        return cmd_usage(cmd, "'%s' is none of timeline, check, show, types, expect, node, domain",
                         word);
    if (!types && path == NULL) return cmd_usage(cmd, "%s needs a FILE", word);
    mr_cleanup(mr_buf_done) struct mr_buf json;
    mr_cleanup(mr_buf_done) struct mr_buf table;
    mr_cleanup(mr_buf_done) struct mr_buf problem;
    mr_buf_init(&json, FLEET_BYTES_MAX);
    mr_buf_init(&table, CATALOG_BYTES_MAX);
    mr_buf_init(&problem, 4096);
    struct mr_sim_file catalog = {0};
    struct mr_sim_fleet *fleet = NULL;
    int code = catalog_read(cmd, &table, &catalog);
    if (code == 0 && !types) code = cmd_fleet_json(path, &json);
    if (code != 0) return code;
    struct mr_sim_file file = {mr_str_from(path), mr_buf_str(&json)};
    int error = types ? mr_sim_fleet_types(&catalog, &fleet, &problem)
                      : mr_sim_fleet_read(&file, &catalog, &fleet, &problem);
    if (error != 0 && problem.n > 0) return cmd_fail("%.*s", MR_STR_ARG(mr_buf_str(&problem)));
    if (error != 0) return cmd_fail("%s", mr_error_text(error));
    if (check && !cmd->json) cmd_say("%s is a fleet", path);
    if (expect)
        code = cmd_fleet_expect(cmd, fleet);
    else
        fleet_print(cmd, fleet, types);
    mr_sim_fleet_free(fleet);
    return code;
}
