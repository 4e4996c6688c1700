/* SPDX-License-Identifier: Apache-2.0 */
/* `fleet expect`, `fleet node`, `fleet domain`: what is to be delivered, and what became of it.
 *
 * The nodes of a fleet file are numbered behind those that the cloud knows, their domains, blocks
 * and cells too. Each run of nodes that are alike is one call; where their term ends, a maintenance
 * without end begins.
 *
 * Owns:  the fleet it read, for the length of the call.
 * Fails: before anything is sent when a line has no date to come; else as the call does, saying
 *        which nodes were taken.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <yyjson.h>

#include "cmd.h"
#include "sim/sim.h"

/* What the cloud has already: new numbers come behind these. */
struct known {
    uint32_t node, domain, block, cell;
};

static void raise(uint32_t *most, yyjson_val *node, const char *key)
{
    *most = MR_MAX(*most, (uint32_t)cmd_json_u64(node, key, 0));
}

static int known_get(struct cmd_client *client, struct known *ret)
{
    int code = 0;
    size_t index, max;
    yyjson_val *node;
    yyjson_doc *doc = cmd_get_json(client, "/api/fleet", &code);
    *ret = (struct known){0};
    if (doc == NULL) return code;
    yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(doc), "nodes"), index, max, node)
    {
        raise(&ret->node, node, "id");
        raise(&ret->domain, node, "domain");
        raise(&ret->block, node, "block");
        raise(&ret->cell, node, "cell");
    }
    yyjson_doc_free(doc);
    return 0;
}

static void put_time(struct mr_buf *out, const char *name, uint64_t time_us)
{
    mr_buf_printf(out, ",\"%s\":\"", name);
    mr_time_put_rfc3339(out, time_us);
    mr_buf_put_char(out, '"');
}

static void run_put(struct mr_buf *out, const struct mr_sim_fleet_run *run,
                    const struct known *known)
{
    const struct mr_event_node *n = &run->first;
    mr_buf_printf(out, "{\"id\":%u,\"count\":%u,\"cpu_milli\":%u,\"mem_mib\":%u",
                  known->node + n->id.v, run->count, n->cpu_milli, n->mem_mib);
    if (n->accel_count > 0) {
        mr_buf_printf(out, ",\"accel_count\":%u,\"accelerator\":", n->accel_count);
        mr_json_put_string(out, run->accelerator);
    }
    if (n->domain != 0)
        mr_buf_printf(out, ",\"domain\":%u,\"domain_nodes\":%u", known->domain + n->domain,
                      run->domain_nodes);
    if (n->block != 0) mr_buf_printf(out, ",\"block\":%u", known->block + n->block);
    if (n->cell != 0) mr_buf_printf(out, ",\"cell\":%u", known->cell + n->cell);
    put_time(out, "from", run->from_us);
    mr_buf_put_char(out, '}');
}

static void term_put(struct mr_buf *out, const struct mr_sim_fleet_run *run, uint32_t id,
                     struct mr_str name)
{
    mr_buf_put_str(out, MR_STR("{\"name\":"));
    mr_json_put_string(out, name);
    mr_buf_printf(out, ",\"maintenance\":{\"node\":%u,\"nodes\":%u}", id, run->count);
    put_time(out, "begin", run->until_us);
    mr_buf_put_char(out, '}');
}

static int nodes_send(struct cmd_client *client, const struct mr_sim_fleet_run *run,
                      const struct known *known)
{
    mr_cleanup(mr_buf_done) struct mr_buf body;
    mr_buf_init(&body, 4096);
    run_put(&body, run, known);
    return cmd_call(client, "POST", "/api/nodes", mr_buf_str(&body), NULL);
}

static int term_send(struct cmd_client *client, const struct mr_sim_fleet_run *run,
                     const struct known *known, struct mr_str name)
{
    mr_cleanup(mr_buf_done) struct mr_buf body;
    if (run->until_us == UINT64_MAX) return 0;
    mr_buf_init(&body, 4096);
    term_put(&body, run, known->node + run->first.id.v, name);
    return cmd_call(client, "POST", "/api/reservations", mr_buf_str(&body), NULL);
}

static void run_say(struct cmd *cmd, const struct mr_sim_fleet_run *run, uint32_t id)
{
    mr_cleanup(mr_buf_done) struct mr_buf text;
    mr_buf_init(&text, 1024);
    mr_buf_printf(&text, "%u of %.*s, nodes %u to %u, from ", run->count, MR_STR_ARG(run->type), id,
                  id + run->count - 1);
    mr_time_put_rfc3339(&text, run->from_us);
    if (run->until_us < UINT64_MAX) {
        mr_buf_put_str(&text, MR_STR(" until "));
        mr_time_put_rfc3339(&text, run->until_us);
    }
    if (!cmd->json) printf("%.*s\n", MR_STR_ARG(mr_buf_str(&text)));
}

/* Every node has a date to come: those that are there describe themselves. */
static int dates_check(const struct mr_sim_fleet *fleet, const char *path)
{
    struct mr_sim_fleet_run run;
    uint32_t cursor = 0;
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with this clock */
    uint64_t now_us = (uint64_t)now.tv_sec * 1000000;
    while (mr_sim_fleet_run_next(fleet, &cursor, &run) == 0) {
        if (run.from_us > now_us) continue;
        return cmd_fail("%s: %u of %.*s have no `from` that is to come; nodes that are there "
                        "describe themselves (POST /api/nodes)",
                        path, run.count, MR_STR_ARG(run.type));
    }
    return 0;
}

static int send_all(struct cmd *cmd, struct cmd_client *client, const struct mr_sim_fleet *fleet,
                    const struct known *known)
{
    struct mr_sim_fleet_run run;
    uint32_t cursor = 0, taken = 0;
    while (mr_sim_fleet_run_next(fleet, &cursor, &run) == 0) {
        uint32_t id = known->node + run.first.id.v;
        int code = nodes_send(client, &run, known);
        if (code == 0) {
            taken += run.count; /* whatever becomes of their term */
            code = term_send(client, &run, known, mr_sim_fleet_name(fleet));
        }
        if (code != 0 && taken > 0)
            cmd_say("nodes %u to %u were taken before that; take them back with: millrace fleet "
                    "node ID absent",
                    known->node + 1, known->node + taken);
        if (code != 0) return code;
        run_say(cmd, &run, id);
    }
    if (cmd->json) printf("{\"id\":%u,\"count\":%u}\n", known->node + 1, taken);
    return 0;
}

int cmd_fleet_expect(struct cmd *cmd, const struct mr_sim_fleet *fleet)
{
    struct cmd_client client;
    struct known known;
    int code = dates_check(fleet, cmd->positional[1]);
    if (code == 0) code = cmd_client_open(cmd, &client);
    if (code != 0) return code;
    code = known_get(&client, &known);
    if (code == 0) code = send_all(cmd, &client, fleet, &known);
    cmd_client_close(&client);
    return code;
}

int cmd_fleet_state(struct cmd *cmd)
{
    struct cmd_client client;
    char path[64], body[64];
    uint64_t id;
    const char *what = cmd->positional[0];
    if (cmd->positional_count != 3)
        return cmd_usage(cmd, "say which %s and its state: up, draining, down or absent", what);
    if (mr_str_to_u64(mr_str_from(cmd->positional[1]), &id) != 0)
        return cmd_usage(cmd, "'%s' is no %s; `millrace fleet` lists them", cmd->positional[1],
                         what);
    int n = snprintf(body, sizeof body, "{\"state\":\"%.32s\"}", cmd->positional[2]);
    (void)snprintf(path, sizeof path, "/api/%ss/%" PRIu64, what, id);
    if (strpbrk(cmd->positional[2], "\"\\") != NULL)
        return cmd_usage(cmd, "a state is up, draining, down or absent");
    int code = cmd_client_open(cmd, &client);
    if (code != 0) return code;
    code = cmd_call(&client, "POST", path, (struct mr_str){body, (size_t)n}, NULL);
    if (code == 0 && cmd->json)
        cmd_print_body(&client);
    else if (code == 0)
        cmd_say("%s %" PRIu64 " is %s", what, id, cmd->positional[2]);
    cmd_client_close(&client);
    return code;
}
