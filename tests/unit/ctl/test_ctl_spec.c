/* SPDX-License-Identifier: Apache-2.0 */
/* Documents: what each mistake is told, and what right ones become. */
#include "ctl_world.h"

#include <stdio.h>
#include <yyjson.h>

#define NOW_US 1800000000000000u

static struct ctl_book book;

static int book_make(void **state)
{
    (void)state;
    assert_int_equal(ctl_accel_make(&book, MR_STR("H100")), 1);
    assert_int_equal(ctl_accel_make(&book, MR_STR("Trainium2")), 2);
    return 0;
}

static int book_drop(void **state)
{
    (void)state;
    ctl_book_done(&book);
    return 0;
}

static int read(const char *json, struct ctl_submit *submit, char problem[512], char param[64])
{
    struct mr_buf text;
    struct mr_str at = {0};
    yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
    if (doc == NULL) fail_msg("no JSON: %s", json);
    mr_buf_init(&text, 4096);
    int error = ctl_spec_read(&book, yyjson_doc_get_root(doc), NOW_US, submit, &text, &at);
    snprintf(problem, 512, "%.*s", MR_STR_ARG(mr_buf_str(&text)));
    snprintf(param, 64, "%.*s", MR_STR_ARG(at));
    mr_buf_done(&text);
    yyjson_doc_free(doc);
    return error;
}

/* The field that is blamed, and what is said of it. */
static const struct {
    const char *json, *param, *says;
} wrong[] = {
    {"[]", "document", "wants a map"},
    {"\"run\"", "document", "wants a map"},
    {"{}", "run", "exactly one of run, command, infer, train, sandbox"},
    {"{\"name\":\"x\"}", "run", "0 are given"},
    {"{\"run\":\"a\",\"command\":[\"b\"]}", "command", "2 are given"},
    {"{\"run\":\"a\",\"nmae\":\"x\"}", "nmae", "did you mean 'name'"},
    {"{\"run\":\"a\",\"resorces\":{}}", "resorces", "did you mean 'resources'"},
    {"{\"run\":\"a\",\"num_task\":2}", "num_task", "did you mean 'num_tasks'"},
    {"{\"run\":\"a\",\"env\":{}}", "env", "did you mean 'envs'"},
    {"{\"run\":\"a\",\"run\":\"b\"}", "run", "is there twice"},
    {"{\"run\":\"a\",\"\":1}", "(an empty name)", "no such field"},
    {"{\"run\":\"a\",\"kind\\u0000\":1}", "(a name with a zero byte)", "no such field"},
    {"{\"run\":\"a\",\"name\":7}", "name", "wants text, not a number"},
    {"{\"run\":\"a\",\"name\":\"\"}", "name", "must not be empty"},
    {"{\"run\":\"a\",\"name\":[\"x\"]}", "name", "wants text, not a list"},
    {"{\"run\":\"a\",\"name\":\"a\\u0000b\"}", "name", "zero byte"},
    {"{\"run\":true}", "run", "wants text, not true or false"},
    {"{\"run\":\"\"}", "run", "must not be empty"},
    {"{\"run\":null}", "run", "wants text, not null"},
    {"{\"command\":\"ls\"}", "command", "wants a list of texts, not text"},
    {"{\"command\":[]}", "command", "wants 1 to 1024 texts, not 0"},
    {"{\"command\":[\"\"]}", "command", "the program is empty"},
    {"{\"command\":[\"ls\",7]}", "command", "entry 2 is a number"},
    {"{\"command\":[\"a\\u0000\"]}", "command", "entry 1 holds a zero byte"},
    {"{\"run\":\"a\",\"kind\":\"jobb\"}", "kind", "wants one of job, service, pool, not 'jobb'"},
    {"{\"run\":\"a\",\"kind\":1}", "kind", "wants text"},
    {"{\"run\":\"a\",\"replicas\":2}", "replicas", "a job has num_tasks"},
    {"{\"run\":\"a\",\"kind\":\"service\",\"num_tasks\":2}", "num_tasks", "a service has replicas"},
    {"{\"run\":\"a\",\"kind\":\"pool\",\"num_nodes\":2}", "num_nodes", "a pool has replicas"},
    {"{\"run\":\"a\",\"num_tasks\":1,\"num_nodes\":1}", "num_nodes", "another name of num_tasks"},
    {"{\"run\":\"a\",\"num_tasks\":0}", "num_tasks", "from 1 to 1000000, not 0"},
    {"{\"run\":\"a\",\"num_tasks\":1000001}", "num_tasks", "not 1000001"},
    {"{\"run\":\"a\",\"num_tasks\":-1}", "num_tasks", "not -1"},
    {"{\"run\":\"a\",\"num_tasks\":1.5}", "num_tasks", "a whole number"},
    {"{\"run\":\"a\",\"num_tasks\":{\"min\":3,\"max\":2}}", "num_tasks", "not below min"},
    {"{\"run\":\"a\",\"num_tasks\":{\"min\":0}}", "num_tasks.min", "from 1"},
    {"{\"run\":\"a\",\"num_tasks\":{\"mix\":1}}", "num_tasks.mix", "did you mean"},
    {"{\"run\":\"a\",\"kind\":\"service\",\"replicas\":0}", "replicas", "from 1"},
    {"{\"run\":\"a\",\"resources\":4}", "resources", "wants a map, not a number"},
    {"{\"run\":\"a\",\"resources\":{\"cpu\":4}}", "resources.cpu", "did you mean 'cpus'"},
    {"{\"run\":\"a\",\"resources\":{\"cpus\":0}}", "resources.cpus", "like 2 or 0.5, not 0"},
    {"{\"run\":\"a\",\"resources\":{\"cpus\":-1}}", "resources.cpus", "not -1"},
    {"{\"run\":\"a\",\"resources\":{\"cpus\":\"two\"}}", "resources.cpus", "not 'two'"},
    {"{\"run\":\"a\",\"resources\":{\"cpus\":[2]}}", "resources.cpus", "not a list"},
    {"{\"run\":\"a\",\"resources\":{\"cpus\":\"0.0001\"}}", "resources.cpus", "like 2 or 0.5"},
    {"{\"run\":\"a\",\"resources\":{\"memory\":\"2 stones\"}}", "resources.memory",
     "2GiB or 512MiB, not '2 stones'"},
    {"{\"run\":\"a\",\"resources\":{\"memory\":0}}", "resources.memory", "not 0"},
    {"{\"run\":\"a\",\"resources\":{\"memory\":true}}", "resources.memory", "not true or false"},
    {"{\"run\":\"a\",\"resources\":{\"memory\":\"99999999TiB\"}}", "resources.memory",
     "a size like"},
    {"{\"run\":\"a\",\"resources\":{\"accelerators\":\"A100:8\"}}", "resources.accelerators",
     "no node has a A100; there is: H100, Trainium2"},
    {"{\"run\":\"a\",\"resources\":{\"accelerators\":\"H100:1.5\"}}", "resources.accelerators",
     "TYPE:COUNT"},
    {"{\"run\":\"a\",\"resources\":{\"accelerators\":\"H100:0\"}}", "resources.accelerators",
     "TYPE:COUNT"},
    {"{\"run\":\"a\",\"resources\":{\"accelerators\":\"H100:65\"}}", "resources.accelerators",
     "TYPE:COUNT"},
    {"{\"run\":\"a\",\"resources\":{\"accelerators\":\":8\"}}", "resources.accelerators",
     "TYPE:COUNT"},
    {"{\"run\":\"a\",\"resources\":{\"accelerators\":8}}", "resources.accelerators",
     "text like H100:8"},
    {"{\"run\":\"a\",\"resources\":{\"accelerators\":[]}}", "resources.accelerators",
     "text like H100:8"},
    {"{\"run\":\"a\",\"resources\":{\"accelerators\":[7]}}", "resources.accelerators",
     "list of texts"},
    {"{\"run\":\"a\",\"resources\":{\"accelerators\":{\"H100\":\"8\"}}}", "resources.accelerators",
     "{TYPE: COUNT}"},
    {"{\"run\":\"a\",\"resources\":{\"accelerators\":[\"H100:8\",\"Trainium2:4\"]}}",
     "resources.accelerators", "the same number"},
    {"{\"run\":\"a\",\"resources\":{\"accelerators\":[\"H100\",\"H100\",\"H100\",\"H100\",\"H100\","
     "\"H100\",\"H100\",\"H100\",\"H100\"]}}",
     "resources.accelerators", "at most 8"},
    {"{\"run\":\"a\",\"priority\":8}", "priority", "from 0 to 7, not 8"},
    {"{\"run\":\"a\",\"priority\":\"urgent\"}", "priority", "high, normal, low, not 'urgent'"},
    {"{\"run\":\"a\",\"preemptible\":\"yes\"}", "preemptible", "wants true or false, not text"},
    {"{\"run\":\"a\",\"topology\":\"rack\"}", "topology",
     "any, prefer_domain, node, domain, block, cell"},
    {"{\"run\":\"a\",\"time_limit\":\"soon\"}", "time_limit", "90s, 15m, 2h, 1d, not 'soon'"},
    {"{\"run\":\"a\",\"time_limit\":\"5y\"}", "time_limit", "not '5y'"},
    {"{\"run\":\"a\",\"grace\":-5}", "grace", "not -5"},
    {"{\"run\":\"a\",\"checkpoint\":{}}", "checkpoint", "not a map"},
    {"{\"run\":\"a\",\"estimate\":\"99999999999999d\"}", "estimate", "seconds or a time"},
    {"{\"run\":\"a\",\"begin\":\"tomorrow\"}", "begin", "2026-11-23T09:05:50Z"},
    {"{\"run\":\"a\",\"begin\":\"2026-02-30T00:00:00Z\"}", "begin", "a time like"},
    {"{\"run\":\"a\",\"deadline\":\"2026-13-01T00:00:00Z\"}", "deadline", "a time like"},
    {"{\"run\":\"a\",\"num_tasks\":5,\"segment\":2}", "segment", "multiples of 2"},
    {"{\"run\":\"a\",\"spread\":\"rack\"}", "spread", "wants one of none, node, domain, block"},
    {"{\"run\":\"a\",\"exclusive\":\"rack\"}", "exclusive", "wants one of none, node"},
    {"{\"run\":\"a\",\"exclusive\":\"node\",\"resources\":{\"accelerators\":\"H100:0.5\"}}",
     "exclusive", "wants whole accelerators"},
    {"{\"run\":\"a\",\"exclusive\":\"node\",\"spread\":\"node\"}", "exclusive", "does not go with"},
    {"{\"run\":\"a\",\"apart_by\":\"node\"}", "apart_by", "wants apart"},
    {"{\"run\":\"a\",\"apart\":\"db\",\"apart_by\":\"rack\"}", "apart_by",
     "wants one of node, domain, block"},
    {"{\"run\":\"a\",\"spread_max\":1}", "spread_max", "wants spread"},
    {"{\"run\":\"a\",\"spread\":\"node\",\"topology\":\"domain\"}", "spread", "does not go with"},
    {"{\"run\":\"a\",\"num_tasks\":4,\"segment\":2,\"topology\":\"domain\"}", "segment",
     "within one domain"},
    {"{\"run\":\"a\",\"kind\":\"service\",\"segment\":1}", "segment", "is for jobs"},
    {"{\"run\":\"a\",\"kind\":\"service\",\"deadline\":\"1h\"}", "deadline", "is for jobs"},
    {"{\"run\":\"a\",\"work\":5}", "work", "is for jobs with a deadline"},
    {"{\"run\":\"a\",\"deadline\":\"1h\",\"work\":5}", "scaling", "work and scaling go together"},
    {"{\"run\":\"a\",\"deadline\":\"1h\",\"work\":0}", "work", "8796093022207"},
    {"{\"run\":\"a\",\"deadline\":\"1h\",\"work\":5,\"scaling\":7}", "scaling", "a list of 1 to 8"},
    {"{\"run\":\"a\",\"deadline\":\"1h\",\"work\":5,\"scaling\":[7]}", "scaling", "maps of tasks"},
    {"{\"run\":\"a\",\"deadline\":\"1h\",\"work\":5,\"scaling\":[{\"rate\":1}]}",
     "scaling[0].tasks", "is missing"},
    {"{\"run\":\"a\",\"deadline\":\"1h\",\"work\":5,\"scaling\":[{\"tasks\":1}]}",
     "scaling[0].rate", "units of work a second"},
    {"{\"run\":\"a\",\"deadline\":\"1h\",\"work\":5,\"scaling\":[{\"tasks\":2,\"rate\":1},"
     "{\"tasks\":2,\"rate\":2}]}",
     "scaling", "tasks must ascend"},
    {"{\"run\":\"a\",\"deadline\":\"1h\",\"work\":5,\"num_tasks\":2,\"scaling\":[{\"tasks\":1,"
     "\"rate\":1}]}",
     "scaling", "num_tasks allows 2 to 2"},
    {"{\"run\":\"a\",\"deadline\":\"1h\",\"work\":5,\"scaling\":[{\"tasks\":1,\"rate\":1}]}",
     "scaling", "whole accelerators"},
    {"{\"run\":\"a\",\"deadline\":\"1h\",\"late\":\"never\"}", "late", "is run"},
    {"{\"run\":\"a\",\"deadline\":\"1h\",\"speed_error\":1}", "speed_error", ""},
    {"{\"run\":\"a\",\"restarts\":-1}", "restarts", "from 0"},
    {"{\"run\":\"a\",\"spares\":-1}", "spares", "from 0"},
    {"{\"infer\":{\"model\":\"m\"},\"spares\":1}", "spares", "only jobs"},
    {"{\"train\":{\"model\":\"m\",\"data\":\"d\"},\"spares\":1}", "spares", "only jobs"},
    {"{\"run\":\"a\",\"load_per_replica\":0}", "load_per_replica", "from 1"},
    {"{\"run\":\"a\",\"envs\":[\"A=1\"]}", "envs", "wants a map, not a list"},
    {"{\"run\":\"a\",\"envs\":{\"A=B\":\"1\"}}", "envs", "'A=B' is not"},
    {"{\"run\":\"a\",\"envs\":{\"\":\"1\"}}", "envs", "NAME: text"},
    {"{\"run\":\"a\",\"envs\":{\"A\":{}}}", "envs", "'A' is not"},
    {"{\"run\":\"a\",\"envs\":{\"A\":\"x\\u0000\"}}", "envs", "the value of A holds a zero byte"},
    {"{\"run\":\"a\",\"work_dir\":1}", "work_dir", "wants text"},
    {"{\"run\":\"a\",\"stdin\":\"***\"}", "stdin", "is not base64"},
    {"{\"run\":\"a\",\"stdin\":5}", "stdin", "wants base64 text, not a number"},
    {"{\"run\":\"a\",\"tenant\":\"\"}", "tenant", "must not be empty"},
    {"{\"infer\":\"m.gguf\"}", "infer", "wants a map, not text"},
    {"{\"infer\":{}}", "infer.model", "is missing"},
    {"{\"infer\":{\"model\":\"m\",\"slot\":1}}", "infer.slot", "did you mean 'slots'"},
    {"{\"infer\":{\"model\":\"m\",\"slots\":65}}", "infer.slots", "from 1 to 64"},
    {"{\"infer\":{\"model\":\"m\",\"slots\":\"4\"}}", "infer.slots", "a whole number, not text"},
    {"{\"infer\":{\"model\":\"m\",\"no_tune\":1}}", "infer.no_tune", "true or false"},
    {"{\"infer\":{\"model\":\"m\",\"adapters\":\"a\"}}", "infer.adapters", "wants a list"},
    {"{\"infer\":{\"model\":\"m\",\"quality_bound\":2}}", "infer.quality_bound", "from 0 to 1"},
    {"{\"infer\":{\"model\":\"m\"},\"kind\":\"job\"}", "kind", "served by a service"},
    {"{\"train\":{\"model\":\"m\"}}", "train.data", "is missing"},
    {"{\"train\":{\"model\":\"m\",\"data\":\"d\",\"lr\":1}}", "train.lr", "no such field"},
    {"{\"train\":{\"model\":\"m\",\"data\":\"d\",\"learning_rate\":\"1e-4\"}}",
     "train.learning_rate", "wants a number, not text"},
    {"{\"train\":{\"model\":\"m\",\"data\":\"d\",\"batch\":0}}", "train.batch", "from 1 to 4096"},
    {"{\"train\":{\"model\":\"m\",\"data\":\"d\",\"held_out\":1}}", "train.held_out",
     "from 0 to 0.9"},
    {"{\"sandbox\":{}}", "sandbox.command", "either command or code"},
    {"{\"sandbox\":{\"command\":[\"a\"],\"code\":\"b\"}}", "sandbox.command",
     "either command or code"},
    {"{\"sandbox\":{\"code\":\"x\",\"language\":\"perl\"}}", "sandbox.language",
     "python or sh, not 'perl'"},
    {"{\"sandbox\":{\"code\":\"x\",\"files\":{\"../a\":\"\"}}}", "sandbox.files",
     "'../a' is no relative name"},
    {"{\"sandbox\":{\"code\":\"x\",\"files\":{\"/etc/a\":\"\"}}}", "sandbox.files",
     "no relative name"},
    {"{\"sandbox\":{\"code\":\"x\",\"files\":{\"a\":\"*\"}}}", "sandbox.files", "is not base64"},
    {"{\"sandbox\":{\"code\":\"x\",\"files\":[]}}", "sandbox.files", "a map of names"},
    {"{\"sandbox\":{\"code\":\"x\",\"time_s\":86401}}", "sandbox.time_s", "from 1 to 86400"},
    {"{\"sandbox\":{\"code\":\"x\",\"memory\":\"much\"}}", "sandbox.memory", "a size like"},
    {"{\"sandbox\":{\"code\":\"x\",\"network\":true}}", "sandbox.network", "no such field"},
};

static void each_mistake_names_its_field(void **state)
{
    struct ctl_submit submit;
    char problem[512], param[64];
    (void)state;
    for (size_t i = 0; i < MR_COUNT_OF(wrong); i++) {
        int error = read(wrong[i].json, &submit, problem, param);
        if (error != MR_EINVALID || strcmp(param, wrong[i].param) != 0 ||
            strstr(problem, wrong[i].says) == NULL) {
            fail_msg("%s\n  gave %d, %s: %s\n  wants %s: %s", wrong[i].json, error, param, problem,
                     wrong[i].param, wrong[i].says);
        }
        assert_memory_equal(problem, wrong[i].param,
                            strlen(wrong[i].param)); /* it begins with the field */
    }
    assert_true(MR_COUNT_OF(wrong) >= 60);
}

static struct mr_event_submit right(const char *json, struct ctl_submit *submit)
{
    char problem[512], param[64];
    if (read(json, submit, problem, param) != 0) fail_msg("%s: %s", json, problem);
    return submit->event;
}

static void defaults_are_those_of_the_reference(void **state)
{
    struct ctl_submit s;
    struct mr_event_submit e = right("{\"command\":[\"/usr/bin/true\"]}", &s);
    (void)state;
    assert_string_equal(s.name, "true");
    assert_int_equal(e.kind, MR_KIND_JOB);
    assert_int_equal(e.shape.cpu_milli, 1000);
    assert_int_equal(e.shape.mem_mib, 1024);
    assert_int_equal(e.shape.accel_milli, 0);
    assert_int_equal(e.tasks_min, 1);
    assert_int_equal(e.tasks_max, 1);
    assert_int_equal(e.priority, 4);
    assert_int_equal(e.grace_us, 10000000);
    assert_int_equal(e.time_limit_us + e.estimate_us + e.checkpoint_us + e.begin_us + e.deadline_us,
                     0);
    assert_int_equal(e.restarts_max, 0);
    assert_int_equal(e.load_per_replica, 4);
    assert_int_equal(e.spares, 0);
    assert_int_equal(right("{\"run\":\"a\",\"num_tasks\":8,\"spares\":2}", &s).spares, 2);
    assert_false(e.preemptible);
    e = right("{\"train\":{\"model\":\"m\",\"data\":\"d\"}}", &s);
    assert_int_equal(e.restarts_max, 3);
    assert_true(e.checkpoint_us > 0);
    e = right("{\"infer\":{\"model\":\"m\"},\"name\":\"smol\"}", &s);
    assert_int_equal(e.kind, MR_KIND_SERVICE);
    assert_int_equal(e.priority, 3);
    assert_string_equal(s.served_name, "smol");
}

static void sizes_and_times_are_read_with_their_units(void **state)
{
    struct ctl_submit s;
    (void)state;
    static const struct {
        const char *memory;
        uint32_t mib;
    } sizes[] = {{"\"2GiB\"", 2048},    {"\"512MiB\"", 512}, {"3", 3072},        {"\"1.5\"", 1536},
                 {"\"1TiB\"", 1048576}, {"0.5", 512},        {"\"2 GB\"", 2048}, {"\"1m\"", 1}};
    for (size_t i = 0; i < MR_COUNT_OF(sizes); i++) {
        char json[128];
        snprintf(json, sizeof json, "{\"run\":\"a\",\"resources\":{\"memory\":%s}}",
                 sizes[i].memory);
        assert_int_equal(right(json, &s).shape.mem_mib, sizes[i].mib);
    }
    static const struct {
        const char *text;
        uint64_t us;
    } times[] = {{"90", 90000000},       {"\"90s\"", 90000000},   {"\"15m\"", 900000000},
                 {"\"2h\"", 7200000000}, {"\"1d\"", 86400000000}, {"1.5", 1500000},
                 {"\"250ms\"", 250000}};
    for (size_t i = 0; i < MR_COUNT_OF(times); i++) {
        char json[128];
        snprintf(json, sizeof json, "{\"run\":\"a\",\"time_limit\":%s}", times[i].text);
        assert_int_equal(right(json, &s).time_limit_us, times[i].us);
    }
    assert_int_equal(right("{\"run\":\"a\",\"begin\":\"2h\"}", &s).begin_us, NOW_US + 7200000000);
    assert_int_equal(right("{\"run\":\"a\",\"deadline\":\"2027-03-01T00:00:00Z\"}", &s).deadline_us,
                     1803859200000000);
    assert_int_equal(right("{\"run\":\"a\",\"begin\":\"2020-02-29T00:00:00Z\"}", &s).begin_us,
                     0); /* past: now */
    assert_int_equal(right("{\"run\":\"a\",\"resources\":{\"cpus\":\"0.25\"}}", &s).shape.cpu_milli,
                     250);
}

static void gangs_and_accelerators_are_read_in_every_form(void **state)
{
    struct ctl_submit s;
    struct mr_event_submit e;
    (void)state;
    e = right("{\"run\":\"a\",\"num_nodes\":{\"min\":2,\"max\":8},\"priority\":\"low\","
              "\"topology\":\"domain\"}",
              &s);
    assert_int_equal(e.tasks_min, 2);
    assert_int_equal(e.tasks_max, 8);
    assert_int_equal(e.priority, 6);
    assert_int_equal(e.topology, MR_TOPOLOGY_DOMAIN);
    e = right("{\"run\":\"a\",\"kind\":\"service\",\"replicas\":{\"min\":0,\"max\":3}}", &s);
    assert_int_equal(e.tasks_min, 0);
    e = right("{\"run\":\"a\",\"resources\":{\"accelerators\":\"h100:0.5\"}}", &s);
    assert_int_equal(e.shape.accel_milli, 500);
    assert_int_equal(e.shape.accel_types[0], 1);
    e = right("{\"run\":\"a\",\"resources\":{\"accelerators\":{\"Trainium2\":8}}}", &s);
    assert_int_equal(e.shape.accel_milli, 8000);
    assert_int_equal(e.shape.accel_types[0], 2);
    e = right("{\"run\":\"a\",\"resources\":{\"accelerators\":[\"Trainium2:8\",\"H100:8\"]}}", &s);
    assert_int_equal(e.shape.accel_types[0], 2);
    assert_int_equal(e.shape.accel_types[1], 1);
    assert_int_equal(e.shape.accel_order, MR_ACCEL_ORDER_LISTED);
    e = right("{\"run\":\"a\",\"resources\":{\"accelerators\":[\"Trainium2:8\",\"H100:8\"],"
              "\"accelerator_order\":\"fit\"}}",
              &s);
    assert_int_equal(e.shape.accel_order, MR_ACCEL_ORDER_FIT);
}

static void name_is_taken_at_its_limit_and_not_one_past(void **state)
{
    struct ctl_submit s;
    char json[400], problem[512], param[64], name[140];
    (void)state;
    memset(name, 'n', sizeof name);
    name[MR_NAME_BYTES_MAX] = 0;
    snprintf(json, sizeof json, "{\"run\":\"a\",\"name\":\"%s\"}", name);
    (void)right(json, &s);
    assert_int_equal(strlen(s.name), MR_NAME_BYTES_MAX);
    name[MR_NAME_BYTES_MAX] = 'n';
    name[MR_NAME_BYTES_MAX + 1] = 0;
    snprintf(json, sizeof json, "{\"run\":\"a\",\"name\":\"%s\"}", name);
    assert_int_equal(read(json, &s, problem, param), MR_EINVALID);
    assert_non_null(strstr(problem, "longer than 128 bytes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_mistake_names_its_field),
        cmocka_unit_test(defaults_are_those_of_the_reference),
        cmocka_unit_test(sizes_and_times_are_read_with_their_units),
        cmocka_unit_test(gangs_and_accelerators_are_read_in_every_form),
        cmocka_unit_test(name_is_taken_at_its_limit_and_not_one_past),
    };
    return cmocka_run_group_tests(tests, book_make, book_drop);
}
