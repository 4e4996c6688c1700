/* SPDX-License-Identifier: Apache-2.0 */
/* Calls: who may ask what, what is answered, and what the engine is told. */
#include "ctl_world.h"

#include <stdio.h>

static struct ctl_world *home(void)
{
    struct ctl_world *w = world_new();
    world_home(w);
    return w;
}

static void submit(struct ctl_world *w, struct world_who who, const char *json)
{
    int error = world_ask(w, MR_CTL_SUBMIT, who, 0, json);
    if (error != 0) fail_msg("%s: %s", json, w->problem);
}

static void first_start_has_prices_and_nothing_else(void **state)
{
    struct ctl_world *w = world_new();
    (void)state;
    assert_int_equal(world_start(w), 0);
    world_run(w);
    assert_true(mr_ctl_is_new(w->ctl));
    assert_int_equal(world_ask(w, MR_CTL_QUEUE, ADMIN, 0, NULL), 0);
    assert_string_equal(w->out, "{\"workloads\":[],\"has_more\":false}");
    assert_int_equal(world_ask(w, MR_CTL_KEY_NEW, ADMIN, 0, "{\"tenant\":\"default\"}"),
                     MR_ENOT_FOUND);
    assert_non_null(strstr(w->problem, "no tenant 'default'"));
    world_kill(w);
    assert_int_equal(world_start(w), 0);
    assert_false(mr_ctl_is_new(w->ctl)); /* prices are made once */
    world_free(w);
}

static void job_runs_from_document_to_exit(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    submit(w, USER(1), "{\"command\":[\"/bin/echo\",\"hi\"],\"envs\":{\"A\":\"b\",\"N\":3}}");
    assert_string_equal(w->out, "{\"id\":1,\"state\":\"running\",\"reason\":\"\"}");
    assert_int_equal(w->leases[1].starts, 1);
    assert_string_equal(w->leases[1].argv0, "/bin/echo");
    assert_non_null(strstr(w->leases[1].env, "A=b;N=3;MASTER_ADDR=127.0.0.1;MASTER_PORT=20001;"));
    world_say(w, MR_ENGINE_STARTED, 1, 0, 0);
    world_pass(w, 5000000);
    assert_false(w->leases[1].forgotten);
    world_say(w, MR_ENGINE_EXITED, 1, MR_EXIT_CODE, 3);
    assert_true(w->leases[1].forgotten);
    assert_false(w->forgot_early);
    assert_int_equal(world_ask(w, MR_CTL_QUEUE, USER(1), 1, NULL), 0);
    assert_non_null(strstr(w->out, "\"state\":\"failed\""));
    assert_non_null(
        strstr(w->out, "\"exit\":{\"kind\":\"code\",\"code\":3,\"text\":\"exited with code 3\"}"));
    assert_true(w->feeds > 0);
    assert_int_equal(world_ask(w, MR_CTL_USAGE, USER(1), 0, NULL), 0);
    assert_non_null(strstr(
        w->out, "\"ConsumedUnit\":\"vCPU-hours\",\"BilledCost\":0.0000555")); /* 5 s at $0.04/h */
    world_free(w);
}

static void workers_get_their_map_and_mpi(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    submit(w, USER(1), "{\"train\":{\"model\":\"m\",\"data\":\"d\",\"rank\":4},\"num_tasks\":2}");
    assert_string_equal(w->leases[1].argv0, "train");
    assert_true(w->leases[1].mpi);
    assert_string_equal(w->leases[1].spec, "{\"model\":\"m\",\"data\":\"d\",\"rank\":4}");
    submit(w, USER(1), "{\"run\":\"echo $A\"}");
    assert_string_equal(w->leases[2].argv0, "/bin/sh");
    assert_string_equal(w->leases[2].argv_last, "echo $A");
    assert_false(w->leases[2].mpi);
    world_free(w);
}

static void cancel_asks_the_engine_with_the_grace(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    submit(w, USER(1), "{\"run\":\"sleep 9\",\"grace\":7}");
    world_say(w, MR_ENGINE_STARTED, 1, 0, 0);
    assert_int_equal(world_ask(w, MR_CTL_CANCEL, USER(1), 1, NULL), 0);
    assert_true(w->leases[1].stop_asked);
    assert_int_equal(w->leases[1].stopped_grace_us, 7000000);
    world_say(w, MR_ENGINE_EXITED, 1, MR_EXIT_SIGNAL, 15);
    assert_int_equal(world_ask(w, MR_CTL_CANCEL, USER(1), 1, NULL), 0); /* twice is fine */
    assert_non_null(strstr(w->out, "cancelled"));
    world_free(w);
}

static void same_key_is_the_same_workload_within_one_tenant(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    assert_int_equal(world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0, "{\"name\":\"other\"}"), 0);
    assert_int_equal(world_ask_key(w, USER(1), "{\"run\":\"a\"}", "k"), 0);
    assert_int_equal(world_number(w->out, "id"), 1);
    assert_int_equal(world_ask_key(w, USER(1), "{\"run\":\"a\"}", "k"), 0);
    assert_int_equal(world_number(w->out, "id"), 1);
    assert_int_equal(world_ask_key(w, USER(2), "{\"run\":\"a\"}", "k"), 0);
    assert_int_equal(world_number(w->out, "id"), 2); /* another tenant's key is another key */
    assert_int_equal(world_ask_key(w, USER(1), "{\"run\":\"a\"}", "l"), 0);
    assert_int_equal(world_number(w->out, "id"), 3);
    world_kill(w);
    assert_int_equal(world_start(w), 0);
    assert_int_equal(world_ask_key(w, USER(1), "{\"run\":\"a\"}", "l"), 0);
    assert_int_equal(world_number(w->out, "id"), 3); /* also after a crash */
    world_free(w);
}

static void batch_takes_and_refuses_each_document_by_itself(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    submit(w, USER(1), "{\"workloads\":[{\"run\":\"a\"},{\"rnu\":\"b\"},{\"run\":\"c\"}]}");
    const char *first = strstr(w->out, "{\"id\":1,"),
               *second = strstr(w->out, "did you mean 'run'");
    const char *third = strstr(w->out, "{\"id\":2,");
    assert_true(first != NULL && second != NULL && third != NULL);
    assert_true(first < second && second < third); /* in order */
    submit(w, USER(1), "{\"workloads\":[{\"rnu\":\"b\"}]}");
    assert_null(strstr(w->out, "\"id\""));
    assert_int_equal(world_ask(w, MR_CTL_SUBMIT, USER(1), 0, "{\"workloads\":[]}"), MR_ETOO_LARGE);
    assert_int_equal(
        world_ask(w, MR_CTL_SUBMIT, USER(1), 0, "{\"workloads\":[{\"run\":\"a\"}],\"x\":1}"),
        MR_EINVALID);
    assert_int_equal(world_ask(w, MR_CTL_SUBMIT, USER(1), 0, "{\"run\":"), MR_ESYNTAX);
    world_free(w);
}

static void batch_on_a_full_disk_is_refused_as_a_whole(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    w->fail_at = w->appends + 1;
    w->fail_error = MR_ENO_SPACE;
    assert_int_equal(world_ask(w, MR_CTL_SUBMIT, USER(1), 0,
                               "{\"workloads\":[{\"run\":\"a\"},{\"run\":\"b\"}]}"),
                     MR_ENO_SPACE);
    world_pass(w, 2 * CTL_RETRY_US);
    submit(w, USER(1), "{\"workloads\":[{\"run\":\"a\"},{\"run\":\"b\"}]}");
    assert_non_null(strstr(w->out, "{\"id\":1,"));
    assert_non_null(strstr(w->out, "{\"id\":2,"));
    world_free(w);
}

static void impossible_shape_is_refused_with_what_there_is(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    assert_int_equal(
        world_ask(w, MR_CTL_SUBMIT, USER(1), 0, "{\"run\":\"a\",\"resources\":{\"cpus\":64}}"),
        MR_EINVALID);
    assert_non_null(strstr(w->problem, "8")); /* the largest node */
    assert_non_null(strstr(w->problem, "64"));
    submit(w, USER(1), "{\"run\":\"a\",\"resources\":{\"cpus\":8}}");
    world_free(w);
}

static void unknown_ids_are_not_found(void **state)
{
    static const enum mr_ctl_op ops[] = {MR_CTL_CANCEL, MR_CTL_SCALE, MR_CTL_QUEUE, MR_CTL_WHY,
                                         MR_CTL_WHEN,   MR_CTL_FILE,  MR_CTL_NODE,  MR_CTL_DOMAIN};
    struct ctl_world *w = home();
    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(ops); i++) {
        assert_int_equal(world_ask(w, ops[i], ADMIN, 777, "{\"min\":1,\"max\":1,\"state\":\"up\"}"),
                         MR_ENOT_FOUND);
        assert_non_null(strstr(w->problem, "777"));
    }
    world_free(w);
}

static void a_tenant_learns_nothing_of_another(void **state)
{
    static const enum mr_ctl_op ops[] = {MR_CTL_CANCEL, MR_CTL_SCALE, MR_CTL_QUEUE,
                                         MR_CTL_WHY,    MR_CTL_WHEN,  MR_CTL_FILE};
    struct ctl_world *w = home();
    (void)state;
    assert_int_equal(world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0, "{\"name\":\"other\"}"), 0);
    submit(w, USER(1), "{\"run\":\"sleep 9\",\"name\":\"secret\"}");
    world_say(w, MR_ENGINE_STARTED, 1, 0, 0);
    for (size_t i = 0; i < MR_COUNT_OF(ops); i++) {
        struct mr_ctl_call call = {.op = ops[i],
                                   .tenant = {2},
                                   .id = 1,
                                   .name = MR_STR("stdout"),
                                   .body = MR_STR("{\"min\":1,\"max\":1}")};
        struct mr_ctl_call none = call;
        char problem[sizeof w->problem];
        assert_int_equal(world_ask_call(w, &call), MR_ENOT_FOUND);
        snprintf(problem, sizeof problem, "%s", w->problem);
        none.id = 2;
        assert_int_equal(world_ask_call(w, &none), MR_ENOT_FOUND);
        problem[strcspn(problem, "1")] = '2';
        assert_string_equal(problem, w->problem); /* as if there were none */
        call = (struct mr_ctl_call){.op = ops[i],
                                    .tenant = {1},
                                    .id = 1,
                                    .name = MR_STR("stdout"),
                                    .body = MR_STR("{\"min\":1,\"max\":1}")};
        if (ops[i] != MR_CTL_CANCEL)
            assert_int_equal(world_ask_call(w, &call), 0); /* its own it sees */
    }
    assert_int_equal(world_ask(w, MR_CTL_QUEUE, USER(2), 0, NULL), 0);
    assert_null(strstr(w->out, "secret"));
    world_pass(w, 1000000);
    assert_int_equal(world_ask(w, MR_CTL_USAGE, USER(2), 0, NULL), 0);
    assert_string_equal(w->out, "{\"currency\":\"USD\",\"lines\":[],\"total\":0}");
    assert_int_equal(
        world_ask(w, MR_CTL_SUBMIT, USER(2), 0, "{\"run\":\"a\",\"tenant\":\"default\"}"),
        MR_EINVALID);
    submit(w, ADMIN, "{\"run\":\"a\",\"tenant\":\"other\"}"); /* an administrator may */
    assert_int_equal(world_ask(w, MR_CTL_QUEUE, USER(2), 2, NULL), 0);
    world_free(w);
}

static void what_is_the_administrators_needs_their_key(void **state)
{
    static const struct {
        enum mr_ctl_op op;
        const char *body;
    } calls[] = {{MR_CTL_NODE, "{\"state\":\"down\"}"},
                 {MR_CTL_DOMAIN, "{\"state\":\"down\"}"},
                 {MR_CTL_NODE_SET, "{\"id\":2,\"cpu_milli\":1,\"mem_mib\":1}"},
                 {MR_CTL_TENANT_SET, "{\"name\":\"x\"}"},
                 {MR_CTL_KEY_NEW, "{\"tenant\":\"default\",\"role\":\"admin\"}"},
                 {MR_CTL_KEY_REVOKE, "{\"key\":\"mr-x\"}"},
                 {MR_CTL_SNAPSHOT, NULL}};
    struct ctl_world *w = home();
    (void)state;
    uint64_t seq = mr_ctl_seq(w->ctl);
    for (size_t i = 0; i < MR_COUNT_OF(calls); i++) {
        assert_int_equal(world_ask(w, calls[i].op, USER(1), 1, calls[i].body), MR_EFORBIDDEN);
    }
    assert_int_equal(mr_ctl_seq(w->ctl), seq);
    world_free(w);
}

static void keys_are_shown_once_and_kept_as_hashes(void **state)
{
    struct ctl_world *w = home();
    char key[64] = "", body[128];
    uint8_t digest[32];
    (void)state;
    assert_int_equal(world_ask(w, MR_CTL_KEY_NEW, ADMIN, 0, "{\"tenant\":\"default\"}"), 0);
    assert_int_equal(sscanf(w->out, "{\"key\":\"%60[^\"]\"", key), 1);
    assert_int_equal(strlen(key), 3 + 32); /* 128 bits */
    assert_memory_equal(key, "mr-", 3);
    mr_sha256(key, strlen(key), digest);
    assert_int_equal(w->routes->key_count, 1);
    assert_memory_equal(w->routes->keys[0].sha256, digest, 32);
    assert_int_equal(w->routes->keys[0].tenant.v, 1);
    assert_int_equal(w->routes->keys[0].role, MR_KEY_USER);
    for (uint64_t seq = 1; seq <= w->last_seq; seq++) { /* its text is nowhere on the disk */
        assert_null(memmem(w->records[seq].p, w->records[seq].n, key + 3, 32));
    }
    for (int i = 0; i < 20; i++) {
        assert_int_equal(
            world_ask(w, MR_CTL_KEY_NEW, ADMIN, 0, "{\"tenant\":\"default\",\"role\":\"admin\"}"),
            0);
    }
    for (size_t i = 1; i < w->routes->key_count; i++) { /* sorted: gates search them */
        assert_true(memcmp(w->routes->keys[i - 1].sha256, w->routes->keys[i].sha256, 32) < 0);
    }
    snprintf(body, sizeof body, "{\"key\":\"%s\"}", key);
    assert_int_equal(world_ask(w, MR_CTL_KEY_REVOKE, ADMIN, 0, body), 0);
    assert_int_equal(w->routes->key_count, 20);
    assert_int_equal(world_ask(w, MR_CTL_KEY_REVOKE, ADMIN, 0, body), MR_ENOT_FOUND);
    assert_int_equal(world_ask(w, MR_CTL_KEY_NEW, ADMIN, 0, "{\"tenant\":\"none\"}"),
                     MR_ENOT_FOUND);
    assert_int_equal(
        world_ask(w, MR_CTL_KEY_NEW, ADMIN, 0, "{\"tenant\":\"default\",\"role\":\"god\"}"),
        MR_EINVALID);
    world_free(w);
}

static void tenant_has_quotas_in_a_tree_and_sees_its_own_only(void **state)
{
    static const char *const wrong[][2] = {
        {"{\"name\":\"a\",\"quota\":{\"H100\":1}}", "quota.H100: is neither"},
        {"{\"name\":\"a\",\"quota\":7}", "quota: wants a map"},
        {"{\"name\":\"a\",\"borrow\":{\"running\":1}}", "borrow.running: is neither"},
        {"{\"name\":\"a\",\"keep\":{\"memory\":\"much\"}}", "keep.memory"},
        {"{\"name\":\"a\",\"reclaim\":\"all\"}", "reclaim: is never, lower or any"},
        {"{\"name\":\"a\",\"preempt_own\":\"any\"}", "preempt_own: is never, lower"},
        {"{\"name\":\"a\",\"half_life\":\"soon\"}", "half_life"},
        {"{\"name\":\"a\",\"parent\":\"b\"}", "parent: no tenant 'b'"},
        {"{\"name\":\"default\",\"parent\":\"vision\"}", "parent: makes a circle"},
    };
    struct ctl_world *w = home();
    (void)state;
    assert_int_equal(
        world_ask(w, MR_CTL_NODE_SET, ADMIN, 0,
                  "{\"id\":2,\"cpu_milli\":8000,\"mem_mib\":16384,\"accelerator\":\"T4\","
                  "\"accel_count\":4}"),
        0);
    assert_int_equal(world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0,
                               "{\"name\":\"vision\",\"parent\":\"default\",\"weight\":3,"
                               "\"quota\":{\"cpus\":2.5,\"memory\":\"4GiB\",\"T4\":2,"
                               "\"running\":7},\"borrow\":{\"T4\":1,\"cpus\":null},"
                               "\"keep\":{\"T4\":1},\"reclaim\":\"any\","
                               "\"preempt_own\":\"lower\",\"half_life\":\"2d\"}"),
                     0);
    const char *vision =
        "{\"id\":2,\"name\":\"vision\",\"parent\":\"default\",\"weight\":3,\"quota\":{"
        "\"cpus\":2.500,\"memory_mib\":4096,\"accelerators\":null,\"running\":7,\"T4\":2.000},"
        "\"borrow\":{\"cpus\":null,\"memory_mib\":0,\"accelerators\":0.000,\"T4\":1.000},"
        "\"keep\":{\"cpus\":0.000,\"memory_mib\":0,\"accelerators\":0.000,\"T4\":1.000},"
        "\"reclaim\":\"any\",\"preempt_own\":\"lower\",\"half_life_s\":172800,\"held\":{";
    for (int restarted = 0; restarted < 2; restarted++) {
        assert_int_equal(world_ask(w, MR_CTL_TENANTS, ADMIN, 0, NULL), 0);
        assert_non_null(strstr(w->out, "\"name\":\"default\""));
        assert_non_null(strstr(w->out, vision));
        world_kill(w);
        assert_int_equal(world_start(w), 0);
    }
    assert_int_equal(world_ask(w, MR_CTL_TENANTS, USER(2), 0, NULL), 0);
    assert_null(strstr(w->out, "\"name\":\"default\""));
    assert_non_null(strstr(w->out, vision));
    for (size_t i = 0; i < MR_COUNT_OF(wrong); i++) {
        assert_int_equal(world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0, wrong[i][0]), MR_EINVALID);
        if (strstr(w->problem, wrong[i][1]) == NULL) fail_msg("%s: %s", wrong[i][1], w->problem);
    }
    assert_int_equal(world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0,
                               "{\"name\":\"vision\",\"quota\":{\"T4\":null,\"cpus\":null}}"),
                     0);
    assert_int_equal(world_ask(w, MR_CTL_TENANTS, USER(2), 0, NULL), 0);
    assert_non_null(strstr(w->out, "\"quota\":{\"cpus\":null,\"memory_mib\":4096"));
    world_free(w);
}

static void tenant_is_made_once_by_name_and_keeps_what_is_not_given(void **state)
{
    struct ctl_world *w = home();
    struct mr_tenant_info info;
    (void)state;
    assert_int_equal(
        world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0,
                  "{\"name\":\"lab\",\"weight\":3,\"quota\":{\"cpus\":4,\"running\":2}}"),
        0);
    assert_string_equal(w->out, "{\"id\":2,\"name\":\"lab\"}");
    assert_int_equal(world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0,
                               "{\"name\":\"lab\",\"quota\":{\"memory\":\"2GiB\"}}"),
                     0);
    assert_string_equal(w->out, "{\"id\":2,\"name\":\"lab\"}");
    assert_int_equal(mr_core_tenant(mr_ctl_core(w->ctl), (struct mr_tenant_id){2}, &info), 0);
    assert_int_equal(info.tenant.weight, 3);
    assert_int_equal(info.tenant.quota_cpu_milli, 4000);
    assert_int_equal(info.tenant.quota_mem_mib, 2048);
    assert_int_equal(info.tenant.running_max, 2);
    assert_int_equal(world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0, "{\"weight\":3}"), MR_EINVALID);
    assert_int_equal(world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0, "{\"name\":\"x\",\"wieght\":3}"),
                     MR_EINVALID);
    assert_int_equal(world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0, "{\"name\":\"x\",\"parent\":\"y\"}"),
                     MR_EINVALID);
    world_free(w);
}

static void reservation_is_booked_used_and_given_back(void **state)
{
    static const char *const wrong[][2] = {
        {"{\"begin\":\"2h\"}", "duration: is missing"},
        {"{\"duration\":\"1h\",\"end\":\"2h\"}", "duration: and end are two ways"},
        {"{\"duration\":\"0s\"}", "duration: must lie behind begin"},
        {"{\"begin\":\"3h\",\"end\":\"2h\"}", "end: must lie behind begin"},
        {"{\"duration\":\"1h\",\"num_tasks\":0}", "num_tasks"},
        {"{\"duration\":\"1h\",\"resources\":{\"accelerators\":\"H100:8\"}}", "no node has a H100"},
        {"{\"duration\":\"1h\",\"tenant\":\"nobody\"}", "tenant: no tenant 'nobody'"},
        {"{\"duration\":\"1h\",\"topology\":\"rack\"}", "topology: wants one of"},
        {"{\"duration\":\"1h\",\"maintenance\":7}", "maintenance: wants {node: ID,"},
        {"{\"duration\":\"1h\",\"maintenance\":{\"node\":7}}", "maintenance.node: no node 7"},
        {"{\"duration\":\"1h\",\"maintenance\":{\"node\":1},\"num_tasks\":1}",
         "num_tasks: is not for maintenance"},
        {"{\"duration\":\"1h\",\"maintenance\":{\"node\":1,\"nodes\":2}}",
         "maintenance.node: no node 2"},
        {"{\"duration\":\"1h\",\"maintenance\":{\"domain\":1,\"nodes\":2}}",
         "maintenance.nodes: goes with node"},
        {"{\"duration\":\"1h\",\"for\":1}", "for"},
    };
    struct ctl_world *w = home();
    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(wrong); i++) {
        assert_int_equal(world_ask(w, MR_CTL_RESERVE, ADMIN, 0, wrong[i][0]), MR_EINVALID);
        if (strstr(w->problem, wrong[i][1]) == NULL) fail_msg("%s: %s", wrong[i][1], w->problem);
    }
    const char *eight = "{\"name\":\"run\",\"begin\":\"1h\",\"duration\":\"2h\","
                        "\"resources\":{\"cpus\":8,\"memory\":\"1GiB\"}}";
    assert_int_equal(world_ask(w, MR_CTL_RESERVE, USER(1), 0, eight), MR_EFORBIDDEN);
    assert_int_equal(world_ask(w, MR_CTL_RESERVE, ADMIN, 0, eight), 0);
    uint64_t id = world_number(w->out, "id");
    assert_int_equal(world_ask(w, MR_CTL_RESERVE, ADMIN, 0, eight), MR_EUNAVAILABLE);
    assert_non_null(strstr(w->problem, "There is no such room at that time; from "));
    submit(w, USER(1), "{\"run\":\"a\",\"reservation\":1}");
    assert_non_null(strstr(w->out, "It was asked to begin at"));
    assert_int_equal(world_ask(w, MR_CTL_SUBMIT, USER(1), 0, "{\"run\":\"a\",\"reservation\":9}"),
                     MR_EINVALID);
    assert_non_null(strstr(w->problem, "reservation: no reservation 9"));
    world_kill(w);
    assert_int_equal(world_start(w), 0);
    world_pass(w, 3601000000);
    assert_int_equal(world_ask(w, MR_CTL_RESERVATIONS, USER(1), 0, NULL), 0);
    assert_non_null(strstr(w->out, "\"name\":\"run\",\"kind\":\"reservation\","
                                   "\"tenant\":\"default\",\"state\":\"running\",\"tasks\":1,"
                                   "\"tasks_wanted\":1,"));
    assert_non_null(strstr(w->out, "\"nodes\":[1]"));
    assert_int_equal(world_ask(w, MR_CTL_QUEUE, USER(1), 2, NULL), 0);
    assert_non_null(strstr(w->out, "\"state\":\"running\""));
    assert_non_null(strstr(w->out, "\"reservation\":1"));
    assert_int_equal(world_ask(w, MR_CTL_SCALE, USER(1), id, "{\"max\":2}"), MR_ESTATE);
    assert_int_equal(world_ask(w, MR_CTL_CANCEL, USER(1), id, NULL), 0);
    assert_int_equal(world_ask(w, MR_CTL_RESERVATIONS, ADMIN, 0, NULL), 0);
    assert_string_equal(w->out, "{\"reservations\":[]}");
    assert_int_equal(world_ask(w, MR_CTL_RESERVE, ADMIN, 0,
                               "{\"maintenance\":{\"node\":1},\"duration\":\"1h\"}"),
                     0);
    assert_int_equal(world_ask(w, MR_CTL_FLEET, USER(1), 0, NULL), 0);
    assert_non_null(strstr(w->out, "\"reserved\":3"));
    world_free(w);
}

static void a_ramp_is_expected_booked_and_comes(void **state)
{
    static const char *const wrong[][2] = {
        {"{\"id\":1,\"cpu_milli\":1000,\"mem_mib\":1024,\"from\":\"1h\"}",
         "from: node 1 is there already (up)"},
        {"{\"id\":2,\"count\":0,\"cpu_milli\":1000,\"mem_mib\":1024}", "count"},
        {"{\"id\":2,\"count\":9999,\"cpu_milli\":1000,\"mem_mib\":1024}",
         "count: the last id would be above"},
        {"{\"id\":2,\"count\":40,\"cpu_milli\":1000,\"mem_mib\":1024,\"domain\":1,"
         "\"domain_nodes\":0}",
         "domain_nodes"},
        {"{\"id\":2,\"cpu_milli\":1000,\"mem_mib\":1024,\"from\":\"soon\"}", "from: wants a time"},
        {"{\"id\":2,\"cpu_milli\":1000,\"mem_mib\":1024,\"until\":\"1h\"}", "until: no such field"},
        {"{\"id\":2,\"count\":3,\"cpu_milli\":1000,\"mem_mib\":1024,\"accelerator\":\"T4\"}",
         "accelerator and accel_count go together"},
    };
    const char *racks = "{\"id\":2,\"count\":4,\"cpu_milli\":8000,\"mem_mib\":16384,"
                        "\"accelerator\":\"GB200\",\"accel_count\":4,\"domain\":3,"
                        "\"domain_nodes\":2,\"block\":1,\"from\":\"2h\"}";
    struct ctl_world *w = home();
    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(wrong); i++) {
        assert_int_equal(world_ask(w, MR_CTL_NODE_SET, ADMIN, 0, wrong[i][0]), MR_EINVALID);
        if (strstr(w->problem, wrong[i][1]) == NULL) fail_msg("%s: %s", wrong[i][1], w->problem);
    }
    assert_int_equal(world_ask(w, MR_CTL_NODE_SET, ADMIN, 0, racks), 0);
    assert_string_equal(w->out, "{\"id\":2,\"count\":4,\"state\":\"expected\"}");
    assert_int_equal(world_ask(w, MR_CTL_RESERVE, ADMIN, 0,
                               "{\"name\":\"term\",\"maintenance\":{\"node\":2,\"nodes\":4},"
                               "\"begin\":\"90d\"}"),
                     0);
    const char *early = "{\"begin\":\"1h\",\"duration\":\"1h\",\"num_tasks\":4,"
                        "\"resources\":{\"accelerators\":\"GB200:4\"}}";
    const char *run = "{\"name\":\"run\",\"begin\":\"2h\",\"duration\":\"1d\",\"num_tasks\":2,"
                      "\"topology\":\"domain\",\"resources\":{\"accelerators\":\"GB200:4\"}}";
    assert_int_equal(world_ask(w, MR_CTL_RESERVE, ADMIN, 0, early), MR_EUNAVAILABLE);
    assert_int_equal(world_ask(w, MR_CTL_RESERVE, ADMIN, 0, run), 0);
    submit(w, USER(1),
           "{\"run\":\"a\",\"num_nodes\":4,\"resources\":{\"accelerators\":"
           "\"GB200:4\"}}");
    assert_non_null(strstr(w->out, "with what is to be delivered until "));
    world_kill(w);
    assert_int_equal(world_start(w), 0);
    assert_int_equal(world_ask(w, MR_CTL_FLEET, USER(1), 0, NULL), 0);
    assert_non_null(strstr(w->out, "{\"id\":5,\"state\":\"expected\""));
    assert_non_null(strstr(w->out, "\"domain\":4,\"block\":1,\"cell\":0,\"from\":\""));
    assert_non_null(strstr(w->out, "\"deliveries\":[{\"nodes\":4,\"late\":false,\"from\":\""));
    assert_int_equal(world_ask(w, MR_CTL_RESERVATIONS, ADMIN, 0, NULL), 0);
    assert_non_null(strstr(w->out, "\"end\":null"));
    struct mr_ctl_call call = {.op = MR_CTL_TIMELINE, .query = MR_STR("days=4&steps=4")};
    assert_int_equal(world_ask_call(w, &call), 0);
    assert_non_null(strstr(
        w->out, "{\"step_s\":86400,\"types\":[{\"resource\":\"vCPU\",\"steps\":[{\"time\":\""));
    assert_non_null(strstr(w->out,
                           "\"installed\":16,\"maintenance\":0,\"reserved\":8,\"running\":0,"
                           "\"free\":8}"));
    call = (struct mr_ctl_call){.op = MR_CTL_TIMELINE, .query = MR_STR("days=0")};
    assert_int_equal(world_ask_call(w, &call), MR_EINVALID);
    assert_string_equal(w->problem, "days: wants 1 to 3660");
    world_pass(w, 7202000000);
    assert_int_equal(world_ask(w, MR_CTL_NODE, ADMIN, 4, "{\"state\":\"up\"}"), 0);
    assert_int_equal(world_ask(w, MR_CTL_NODE, ADMIN, 5, "{\"state\":\"absent\"}"), 0);
    assert_int_equal(world_ask(w, MR_CTL_NODE, ADMIN, 4, "{\"state\":\"expected\"}"), MR_EINVALID);
    assert_int_equal(world_ask(w, MR_CTL_FLEET, USER(1), 0, NULL), 0);
    assert_non_null(strstr(w->out, "{\"id\":4,\"state\":\"up\""));
    assert_null(strstr(w->out, "\"id\":5,"));
    assert_non_null(strstr(w->out, "\"deliveries\":[{\"nodes\":2,\"late\":true,\"from\":\""));
    world_free(w);
}

static void a_deadline_is_promised_when_it_can_be_kept(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    assert_int_equal(world_ask(w, MR_CTL_NODE_SET, ADMIN, 0,
                               "{\"id\":2,\"cpu_milli\":8000,\"mem_mib\":16384,"
                               "\"accelerator\":\"T4\",\"accel_count\":4}"),
                     0);
    submit(w, USER(1),
           "{\"run\":\"a\",\"deadline\":\"1h\",\"work\":3600,"
           "\"resources\":{\"accelerators\":\"T4:1\"},"
           "\"scaling\":[{\"tasks\":1,\"rate\":0.75},{\"tasks\":2,\"rate\":\"1.5\"}]}");
    submit(w, USER(1),
           "{\"run\":\"a\",\"deadline\":\"1h\",\"work\":360000,"
           "\"resources\":{\"accelerators\":\"T4:1\"},"
           "\"scaling\":[{\"tasks\":1,\"rate\":0.75},{\"tasks\":4,\"rate\":2}]}");
    world_pass(w, 61000000);
    assert_int_equal(world_ask(w, MR_CTL_QUEUE, USER(1), 1, NULL), 0);
    assert_non_null(strstr(w->out, "\"promised\":true,\"planned_end\":\""));
    assert_non_null(strstr(w->out, "\"state\":\"running\""));
    assert_int_equal(world_ask(w, MR_CTL_QUEUE, USER(1), 2, NULL), 0);
    assert_non_null(strstr(w->out, "\"promised\":false,\"planned_end\":null"));
    world_free(w);
}

static void tenants_end_at_their_limit(void **state)
{
    struct ctl_world *w = world_new();
    char body[64];
    (void)state;
    w->config.limits.tenants = 5;
    world_home(w);
    for (int i = 2; i <= 5; i++) {
        snprintf(body, sizeof body, "{\"name\":\"t%d\"}", i);
        assert_int_equal(world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0, body), 0);
        assert_int_equal(world_number(w->out, "id"), i);
    }
    assert_int_equal(world_ask(w, MR_CTL_TENANT_SET, ADMIN, 0, "{\"name\":\"t6\"}"), MR_EINVALID);
    assert_non_null(strstr(w->problem, "no more tenants fit"));
    world_free(w);
}

static int ask_file(struct ctl_world *w, const char *name)
{
    struct mr_ctl_call call = {.op = MR_CTL_FILE,
                               .tenant = {1},
                               .id = 1,
                               .run = 1,
                               .rank = 0,
                               .offset = 7,
                               .name = mr_str_from(name)};
    return world_ask_call(w, &call);
}

static void files_lie_in_the_workloads_folder_only(void **state)
{
    static const char *const bad[] = {"/etc/passwd", "..",  "../x", "a/../b", "a//b",
                                      "./a",         "a/.", "",     "a/"};
    struct ctl_world *w = home();
    (void)state;
    submit(w, USER(1), "{\"run\":\"a\"}");
    assert_int_equal(ask_file(w, "stdout"), 0);
    assert_string_equal(w->out, "out of 1.1.0 at 7");
    assert_int_equal(ask_file(w, "result.json"), MR_ENOT_FOUND);
    for (size_t i = 0; i < MR_COUNT_OF(bad); i++) {
        if (ask_file(w, bad[i]) != MR_EINVALID) fail_msg("'%s' was taken", bad[i]);
    }
    world_free(w);
}

static void served_model_is_published_with_its_replicas(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    submit(w, ADMIN, "{\"name\":\"smol\",\"infer\":{\"model\":\"m.gguf\"}}");
    assert_int_equal(w->routes->model_count, 1);
    assert_true(mr_str_equal(w->routes->models[0].name, MR_STR("smol")));
    assert_int_equal(w->routes->models[0].owner.v, 0); /* an administrator's is everybody's */
    assert_int_equal(w->routes->models[0].replica_count, 0);
    world_say(w, MR_ENGINE_STARTED, 1, 0, 0);
    assert_int_equal(w->routes->models[0].replica_count, 1);
    assert_true(mr_str_equal(w->routes->models[0].replicas[0].address, MR_STR("unix:/lease-1")));
    assert_int_equal(
        world_ask(w, MR_CTL_SUBMIT, ADMIN, 0, "{\"name\":\"smol\",\"infer\":{\"model\":\"n\"}}"),
        MR_EEXISTS);
    submit(w, USER(1), "{\"name\":\"own\",\"infer\":{\"model\":\"n\"}}");
    assert_int_equal(w->routes->model_count, 2);
    assert_int_equal(w->routes->models[0].owner.v, 1); /* sorted: own, smol */
    world_kill(w);
    assert_int_equal(world_start(w), 0);
    world_run(w);
    assert_int_equal(w->routes->model_count, 2); /* after a crash as before */
    assert_int_equal(w->routes->models[1].replica_count, 1);
    assert_true(w->leases[1].adopted);
    world_say(w, MR_ENGINE_EXITED, 1, MR_EXIT_SIGNAL, 9);
    assert_int_equal(w->routes->models[1].replica_count, 0);
    world_free(w);
}

static void load_makes_a_service_grow_and_is_journalled_rarely(void **state)
{
    struct ctl_world *w = home();
    struct mr_workload_info info;
    (void)state;
    submit(w, ADMIN,
           "{\"name\":\"m\",\"infer\":{\"model\":\"m\"},\"replicas\":{\"min\":1,\"max\":3}}");
    world_say(w, MR_ENGINE_STARTED, 1, 0, 0);
    world_say(w, MR_ENGINE_READY, 1, 0, 0);
    uint64_t seq = mr_ctl_seq(w->ctl);
    for (uint32_t i = 0; i < 100; i++) {
        struct mr_ctl_call call = {.op = MR_CTL_LOAD, .load = {{1}, 10 + i % 3, 2}};
        assert_int_equal(world_ask_call(w, &call), 0);
        world_pass(w, 5000);
    }
    assert_true(mr_ctl_seq(w->ctl) - seq <=
                6); /* half a second at four a second, and what follows */
    world_pass(w, 2000000);
    assert_int_equal(mr_core_workload(mr_ctl_core(w->ctl), (struct mr_workload_id){1}, &info), 0);
    assert_true(info.target > 1);
    world_free(w);
}

static void meter_is_answered_when_durable_and_counts_once(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    submit(w, ADMIN, "{\"name\":\"m\",\"infer\":{\"model\":\"m\"}}");
    world_say(w, MR_ENGINE_STARTED, 1, 0, 0);
    for (int i = 0; i < 3; i++) { /* said three times */
        struct mr_ctl_call call = {.op = MR_CTL_METER,
                                   .meter = {.lease = {1},
                                             .serial = 1,
                                             .tenant = {1},
                                             .prompt_tokens = 100,
                                             .completion_tokens = 1000000}};
        uint64_t seq = mr_ctl_seq(w->ctl);
        assert_int_equal(world_ask_call(w, &call), 0);
        assert_int_equal(mr_ctl_seq(w->ctl), seq + 1);
    }
    assert_int_equal(world_ask(w, MR_CTL_USAGE, USER(1), 0, NULL), 0);
    assert_non_null(strstr(
        w->out, "\"ConsumedQuantity\":1000000,\"ConsumedUnit\":\"tokens\",\"BilledCost\":0.2,"));
    world_free(w);
}

static void start_that_cannot_be_carried_out_ends_the_lease(void **state)
{
    struct ctl_world *w = home();
    struct mr_workload_info info;
    (void)state;
    /* A document lost from the book cannot happen; one that cannot start can: made so here. */
    submit(w, USER(1), "{\"run\":\"a\",\"resources\":{\"cpus\":8}}");
    submit(w, USER(1), "{\"run\":\"b\",\"resources\":{\"cpus\":8}}"); /* waits */
    struct ctl_spec *spec = ctl_spec_find(&w->ctl->book, 2);
    memset(spec->document, '!', strlen(spec->document));
    world_say(w, MR_ENGINE_STARTED, 1, 0, 0);
    world_say(w, MR_ENGINE_EXITED, 1, MR_EXIT_CODE, 0);
    assert_int_equal(mr_core_workload(mr_ctl_core(w->ctl), (struct mr_workload_id){2}, &info), 0);
    assert_int_equal(info.state, MR_STATE_FAILED);
    assert_int_equal(info.exit, MR_EXIT_START_FAILED);
    assert_int_equal(w->leases[2].starts, 0);
    world_free(w);
}

static void snapshot_is_answered_when_it_is_kept(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    assert_int_equal(world_ask(w, MR_CTL_SNAPSHOT, ADMIN, 0, NULL), 0);
    assert_int_equal(world_number(w->out, "seq"), mr_ctl_seq(w->ctl));
    assert_int_equal(w->snapshot_seqs[0], mr_ctl_seq(w->ctl));
    world_free(w);
}

static void figures_are_openmetrics(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    assert_int_equal(world_ask(w, MR_CTL_METRICS, ADMIN, 0, NULL), 0);
    assert_non_null(
        strstr(w->out, "# TYPE millrace_journal_commits counter\nmillrace_journal_commits_total "));
    assert_non_null(strstr(w->out, "\nmillrace_nodes_up 1\n"));
    world_free(w);
}

static void nothing_is_taken_while_it_stops(void **state)
{
    struct ctl_world *w = home();
    bool done = false;
    (void)state;
    mr_ctl_stop(w->ctl, (void (*)(void *))NULL, NULL);
    assert_int_equal(world_ask(w, MR_CTL_SUBMIT, USER(1), 0, "{\"run\":\"a\"}"), MR_EUNAVAILABLE);
    assert_false(done);
    world_free(w);
}

static void records_are_checked_to_the_last_byte(void **state)
{
    struct ctl_world *w = home();
    (void)state;
    submit(w, USER(1), "{\"run\":\"a\"}");
    for (uint64_t seq = 1; seq <= w->last_seq; seq++) {
        struct mr_str bytes = {w->records[seq].p, w->records[seq].n};
        assert_int_equal(mr_ctl_record_check(bytes), 0);
        for (size_t n = 0; n < bytes.n; n++) {
            assert_int_equal(mr_ctl_record_check((struct mr_str){bytes.p, n}), MR_ESYNTAX);
        }
    }
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_start_has_prices_and_nothing_else),
        cmocka_unit_test(job_runs_from_document_to_exit),
        cmocka_unit_test(workers_get_their_map_and_mpi),
        cmocka_unit_test(cancel_asks_the_engine_with_the_grace),
        cmocka_unit_test(same_key_is_the_same_workload_within_one_tenant),
        cmocka_unit_test(batch_takes_and_refuses_each_document_by_itself),
        cmocka_unit_test(batch_on_a_full_disk_is_refused_as_a_whole),
        cmocka_unit_test(impossible_shape_is_refused_with_what_there_is),
        cmocka_unit_test(unknown_ids_are_not_found),
        cmocka_unit_test(a_tenant_learns_nothing_of_another),
        cmocka_unit_test(what_is_the_administrators_needs_their_key),
        cmocka_unit_test(keys_are_shown_once_and_kept_as_hashes),
        cmocka_unit_test(tenant_has_quotas_in_a_tree_and_sees_its_own_only),
        cmocka_unit_test(tenant_is_made_once_by_name_and_keeps_what_is_not_given),
        cmocka_unit_test(reservation_is_booked_used_and_given_back),
        cmocka_unit_test(a_ramp_is_expected_booked_and_comes),
        cmocka_unit_test(a_deadline_is_promised_when_it_can_be_kept),
        cmocka_unit_test(tenants_end_at_their_limit),
        cmocka_unit_test(files_lie_in_the_workloads_folder_only),
        cmocka_unit_test(served_model_is_published_with_its_replicas),
        cmocka_unit_test(load_makes_a_service_grow_and_is_journalled_rarely),
        cmocka_unit_test(meter_is_answered_when_durable_and_counts_once),
        cmocka_unit_test(start_that_cannot_be_carried_out_ends_the_lease),
        cmocka_unit_test(snapshot_is_answered_when_it_is_kept),
        cmocka_unit_test(figures_are_openmetrics),
        cmocka_unit_test(nothing_is_taken_while_it_stops),
        cmocka_unit_test(records_are_checked_to_the_last_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
