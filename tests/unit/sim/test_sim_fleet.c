/* SPDX-License-Identifier: Apache-2.0 */
/* Fleet files: levels, counts, dates and prices; what is wrong is said with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim/sim_field_int.h"
#include "sim/sim_fleet_int.h"

static struct mr_buf problem;

static int read_with(const char *json, const char *catalog, struct mr_sim_fleet **ret)
{
    const struct mr_sim_file file = {MR_STR("f.yaml"), mr_str_from(json)};
    const struct mr_sim_file table = {MR_STR("c.csv"), mr_str_from(catalog)};
    mr_buf_reset(&problem);
    return mr_sim_fleet_read(&file, &table, ret, &problem);
}

static void refused(const char *json, const char *text)
{
    struct mr_sim_fleet *fleet = NULL;
    assert_int_equal(read_with(json, NULL, &fleet), MR_ESYNTAX);
    assert_null(fleet);
    mr_buf_put_char(&problem, 0);
    assert_string_equal((char *)problem.p, text);
}

static void ultraservers_become_domains_and_blocks_are_cut(void **state)
{
    (void)state;
    struct mr_sim_fleet *f;
    assert_int_equal(
        read_with("{\"nodes\":[{\"type\":\"u-p6e-gb200x72\",\"count\":37}]}", NULL, &f), 0);
    assert_int_equal(f->node_count, 37 * 18);
    assert_int_equal(f->domains, 37);
    assert_int_equal(f->blocks, 2);
    assert_int_equal(f->cells, 1);
    for (uint32_t i = 0; i < f->node_count; i++) {
        const struct mr_event_node *n = &f->nodes[i].node;
        assert_int_equal(n->id.v, i + 1);
        assert_int_equal(n->domain, i / 18 + 1);
        assert_int_equal(n->block, i / 648 + 1);
        assert_int_equal(n->accel_count, 4);
        assert_int_equal(n->cpu_milli, 144000);
    }
    assert_int_equal(f->lines[0].price_uusd, 761904000 / 18);
    mr_sim_fleet_free(f);
}

static void nodes_that_are_alike_are_one_run(void **state)
{
    (void)state;
    struct mr_sim_fleet *f;
    struct mr_sim_fleet_run run;
    uint32_t cursor = 0, nodes = 0;
    assert_int_equal(read_with("{\"nodes\":[{\"type\":\"u-p6e-gb200x72\",\"count\":37,\"from\":"
                               "\"2027-01-01\"},{\"type\":\"c7i.48xlarge\",\"count\":3}]}",
                               NULL, &f),
                     0);
    assert_int_equal(mr_sim_fleet_run_next(f, &cursor, &run), 0); /* to the end of the block */
    assert_int_equal(run.first.id.v, 1);
    assert_int_equal(run.count, 648);
    assert_int_equal(run.domain_nodes, 18);
    assert_int_equal(run.first.domain, 1);
    assert_true(mr_str_equal(run.accelerator, MR_STR("GB200")));
    assert_true(run.from_us > 0 && run.until_us == UINT64_MAX);
    assert_int_equal(mr_sim_fleet_run_next(f, &cursor, &run), 0);
    assert_int_equal(run.first.domain, 37);
    assert_int_equal(run.count, 18);
    while (nodes += run.count, mr_sim_fleet_run_next(f, &cursor, &run) == 0) {
        assert_int_equal(run.first.domain, 0);
        assert_int_equal(run.from_us, 0);
    }
    assert_int_equal(648 + nodes, f->node_count);
    mr_sim_fleet_free(f);
}

static void domains_of_other_sizes_are_another_run(void **state)
{
    (void)state;
    struct mr_sim_fleet *f;
    struct mr_sim_fleet_run run;
    uint32_t cursor = 0;
    assert_int_equal(
        read_with("{\"nodes\":[{\"type\":\"p5.48xlarge\",\"count\":8,\"domain_nodes\":4},"
                  "{\"type\":\"p5.48xlarge\",\"count\":8,\"domain_nodes\":8}]}",
                  NULL, &f),
        0);
    assert_int_equal(mr_sim_fleet_run_next(f, &cursor, &run), 0);
    assert_int_equal(run.count, 8);
    assert_int_equal(run.domain_nodes, 4);
    assert_int_equal(mr_sim_fleet_run_next(f, &cursor, &run), 0);
    assert_int_equal(run.first.domain, 3);
    assert_int_equal(run.count, 8);
    assert_int_equal(run.domain_nodes, 8);
    assert_int_equal(mr_sim_fleet_run_next(f, &cursor, &run), MR_ENOT_FOUND);
    mr_sim_fleet_free(f);
}

static void runs_are_no_longer_than_a_call(void **state)
{
    (void)state;
    struct mr_sim_fleet *f;
    struct mr_sim_fleet_run run;
    uint32_t cursor = 0, nodes = 0;
    assert_int_equal(read_with("{\"block_nodes\":40000,\"nodes\":[{\"type\":\"c7i.48xlarge\","
                               "\"count\":40000}]}",
                               NULL, &f),
                     0);
    while (mr_sim_fleet_run_next(f, &cursor, &run) == 0) {
        assert_int_equal(run.first.id.v, nodes + 1);
        assert_true(run.count <= MR_SIM_FLEET_RUN_NODES);
        nodes += run.count;
    }
    assert_int_equal(nodes, 40000);
    mr_sim_fleet_free(f);
}

static void cells_and_blocks_lie_as_they_are_drawn(void **state)
{
    (void)state;
    struct mr_sim_fleet *f;
    const char *json = "{\"regions\":[{\"name\":\"a\",\"cells\":[{\"count\":2,\"blocks\":[{"
                       "\"count\":3,\"nodes\":[{\"type\":\"p5.48xlarge\",\"count\":2}]}]}]},"
                       "{\"name\":\"b\",\"nodes\":[{\"type\":\"m8g.48xlarge\"}]}]}";
    assert_int_equal(read_with(json, NULL, &f), 0);
    assert_int_equal(f->node_count, 13);
    assert_int_equal(f->blocks, 7);
    assert_int_equal(f->cells, 3);
    assert_int_equal(f->nodes[5].node.block, 3);
    assert_int_equal(f->nodes[6].node.block, 4);
    assert_int_equal(f->nodes[6].node.cell, 2);
    assert_int_equal(f->nodes[12].node.cell, 3);
    assert_int_equal(f->line_count, 2); /* alike entries are one line */
    assert_int_equal(f->lines[0].nodes, 12);
    assert_int_equal(f->lines[1].region, 1);
    mr_sim_fleet_free(f);
}

static void a_type_of_ones_own_and_dates_are_kept(void **state)
{
    (void)state;
    struct mr_sim_fleet *f;
    const char *json =
        "{\"types\":[{\"name\":\"box\",\"cpus\":64,\"memory\":\"512GiB\",\"accelerators\":"
        "\"H100:8\",\"price_per_hour\":11.5}],\"from\":\"2026-03-01\",\"nodes\":[{\"type\":\"box\","
        "\"count\":4,\"domain_nodes\":2,\"until\":\"2028-02-29T12:00:00Z\"}]}";
    assert_int_equal(read_with(json, NULL, &f), 0);
    assert_int_equal(f->lines[0].price_uusd, 11500000);
    assert_int_equal(f->lines[0].domains, 2);
    assert_int_equal(f->lines[0].from_us, UINT64_C(1772323200000000));
    assert_int_equal(f->lines[0].until_us, UINT64_C(1835438400000000));
    assert_int_equal(f->nodes[3].node.domain, 2);
    assert_int_equal(f->nodes[0].node.mem_mib, 512 * 1024);
    mr_sim_fleet_free(f);
}

static void a_table_of_prices_replaces_the_known_ones(void **state)
{
    (void)state;
    struct mr_sim_fleet *f;
    const char *csv = "instance_type,vcpu,memory_mib,gpu_name,gpu_count,"
                      "ondemand_usd_per_hour_anywhere\n"
                      "p5.48xlarge,192,2097152,h100,8,50.5\nnew.big,8,1024,l4,1,\n";
    const char *json = "{\"nodes\":[{\"type\":\"p5.48xlarge\"},{\"type\":\"new.big\"}]}";
    assert_int_equal(read_with(json, csv, &f), 0);
    assert_int_equal(f->lines[0].price_uusd, 50500000);
    assert_true(mr_str_equal(f->lines[0].type.accel, MR_STR("H100")));
    assert_int_equal(f->lines[1].price_uusd, 0);
    assert_true(mr_str_equal(f->lines[1].type.accel, MR_STR("L4")));
    mr_sim_fleet_free(f);
}

static void what_is_wrong_is_said_with_its_place(void **state)
{
    (void)state;
    refused("{}", "f.yaml: nodes: the fleet is empty: it needs nodes, cells or regions");
    refused("{\"cells\":[{\"nodes\":[{\"type\":\"p5.48xlarge\",\"cnt\":3}]}]}",
            "f.yaml: cells[0].nodes[0]: no field 'cnt' here; there are: type, count, "
            "domain_nodes, price_per_hour, from, until");
    refused("{\"nodes\":[{\"type\":\"x\"}]}",
            "f.yaml: nodes[0].type: 'x' is not known; `millrace fleet types` lists all, "
            "`types:` adds own");
    refused("{\"nodes\":[{\"type\":\"p5.48xlarge\",\"count\":0}]}",
            "f.yaml: nodes[0].count: a whole number from 1 to 1048576 is wanted");
    refused("{\"nodes\":[{\"type\":\"p5.48xlarge\",\"count\":3,\"domain_nodes\":2}]}",
            "f.yaml: nodes[0].count: it must be a multiple of domain_nodes");
    refused("{\"from\":\"2026-02-30\",\"nodes\":[]}",
            "f.yaml: from: a date such as 2026-03-01 is wanted (UTC)");
    refused("{\"nodes\":[{\"type\":\"p5.48xlarge\",\"from\":\"2026-02-03\",\"until\":"
            "\"2026-02-03\"}]}",
            "f.yaml: nodes[0].until: it must be after `from`");
    refused("[", "f.yaml: byte 1: unexpected end of data");
}

static void the_largest_fleet_is_taken_and_one_more_node_is_not(void **state)
{
    (void)state;
    struct mr_sim_fleet *f;
    assert_int_equal(
        read_with("{\"nodes\":[{\"type\":\"m8g.48xlarge\",\"count\":1048576}]}", NULL, &f), 0);
    assert_int_equal(f->node_count, SIM_FLEET_NODES_MAX);
    mr_sim_fleet_free(f);
    refused("{\"nodes\":[{\"type\":\"m8g.48xlarge\",\"count\":1048576},{\"type\":"
            "\"m8g.48xlarge\"}]}",
            "f.yaml: nodes[1].count: more than 1048576 nodes, 65536 entries, 65536 blocks or 31 "
            "accelerator types");
}

static void dates_count_leap_days(void **state)
{
    (void)state;
    uint64_t us;
    assert_int_equal(sim_date_get(MR_STR("1970-01-01"), &us), 0);
    assert_int_equal(us, 0);
    assert_int_equal(sim_date_get(MR_STR("2000-03-01"), &us), 0);
    assert_int_equal(us, UINT64_C(951868800000000));
    assert_int_equal(sim_date_get(MR_STR("2026-07-20T23:59:59"), &us), 0);
    assert_int_equal(us, UINT64_C(1784591999000000));
    assert_int_equal(sim_date_get(MR_STR("2023-02-29"), &us), MR_ESYNTAX);
    assert_int_equal(sim_date_get(MR_STR("Unknown"), &us), MR_ESYNTAX);
}

static void what_a_fleet_comes_to_is_summed(void **state)
{
    (void)state;
    struct mr_sim_fleet *f;
    struct mr_buf out;
    mr_buf_init(&out, 65536);
    assert_int_equal(read_with("{\"name\":\"n\",\"nodes\":[{\"type\":\"p5.48xlarge\",\"count\":2},"
                               "{\"type\":\"u-p6e-gb300x72\"}]}",
                               NULL, &f),
                     0);
    mr_sim_fleet_put_json(f, &out);
    mr_buf_put_char(&out, 0);
    assert_non_null(strstr((char *)out.p, "\"nodes\":20,\"domains\":1,"));
    assert_non_null(strstr((char *)out.p, "\"devices\":88,\"price_per_hour\":110.080000,"
                                          "\"nodes_without_price\":18,"));
    assert_non_null(strstr((char *)out.p, "{\"type\":\"GB300\",\"devices\":72,"
                                          "\"domain_devices\":72,\"domains\":1}"));
    mr_buf_done(&out);
    mr_sim_fleet_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ultraservers_become_domains_and_blocks_are_cut),
        cmocka_unit_test(nodes_that_are_alike_are_one_run),
        cmocka_unit_test(domains_of_other_sizes_are_another_run),
        cmocka_unit_test(runs_are_no_longer_than_a_call),
        cmocka_unit_test(cells_and_blocks_lie_as_they_are_drawn),
        cmocka_unit_test(a_type_of_ones_own_and_dates_are_kept),
        cmocka_unit_test(a_table_of_prices_replaces_the_known_ones),
        cmocka_unit_test(what_is_wrong_is_said_with_its_place),
        cmocka_unit_test(the_largest_fleet_is_taken_and_one_more_node_is_not),
        cmocka_unit_test(dates_count_leap_days),
        cmocka_unit_test(what_a_fleet_comes_to_is_summed),
    };
    mr_buf_init(&problem, 4096);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    mr_buf_done(&problem);
    return failed;
}
