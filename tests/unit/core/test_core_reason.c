/* SPDX-License-Identifier: Apache-2.0 */
/* Every reason as a sentence, with its numbers and what would help. */
#include "core_test.h"

static void sentence(const struct mr_reason *reason, const char *expected)
{
    struct mr_buf buf;
    mr_buf_init(&buf, 1024);
    mr_reason_put(&buf, reason);
    mr_buf_put_char(&buf, 0);
    assert_string_equal((const char *)buf.p, expected);
    mr_buf_done(&buf);
}

static void reasons_are_sentences_with_numbers(void **state)
{
    (void)state;
    const struct {
        struct mr_reason reason;
        const char *text;
    } cases[] = {
        {{MR_REASON_NONE, 0, 0, 0, 0}, "Nothing holds it back."},
        {{MR_REASON_BEHIND, 0, 1, 0, 0},
         "It waits behind 1 workload like it; a higher priority would put it before them."},
        {{MR_REASON_BEHIND, 0, 12, 0, 0},
         "It waits behind 12 workloads like it; a higher priority would put it before them."},
        {{MR_REASON_RESOURCES, MR_RESOURCE_ACCEL, 4500, 16000, 0},
         "It needs 16 accelerators; 4.5 accelerators more must become free, or it must ask for so "
         "much less."},
        {{MR_REASON_FRAGMENTED, MR_RESOURCE_MEMORY, 2560, 2048, 0},
         "It needs 2 GiB of memory; 2.5 GiB of memory are free, but not together on nodes that "
         "also have the rest of what a task needs; smaller tasks would fit."},
        {{MR_REASON_TOPOLOGY, MR_RESOURCE_ACCEL, 9000, 8000, 0},
         "It needs 8 accelerators close together; 9 accelerators are free, but in no single place "
         "that its topology allows; topology any would start it now."},
        {{MR_REASON_NO_SUCH_NODE, MR_RESOURCE_CPU, 64000, 65001, 0},
         "One node must have 65.001 vCPU, the largest has 64 vCPU; ask for no more than that, or "
         "add a larger node."},
        {{MR_REASON_QUOTA, MR_RESOURCE_ACCEL, 5000, 6000, 2000},
         "The tenant's quota is 6 accelerators, with 5 accelerators in use, and it asks for 2 "
         "accelerators; raise the quota by 1 accelerator or end work of the tenant."},
        {{MR_REASON_TENANT_JOBS, 0, 2, 2, 0},
         "The tenant runs 2 workloads and may run 2; one must end, or the limit be raised by 1."},
        {{MR_REASON_MAKING_ROOM, 0, 1, 0, 0},
         "Room is being made for it: 1 of its places is still held by work that was asked to "
         "stop."},
        {{MR_REASON_RESERVED, 0, 1764000000000000, 3, 1},
         "Room is held for it from about 2025-11-24T16:00:00Z on; 1 of its places is still held by "
         "work that is expected to end by then."},
        {{MR_REASON_HELD, MR_RESOURCE_ACCEL, 7, 2000, 1764000000000000},
         "It is short of 2 accelerators, which is held for others before it, first workload 7 at "
         "about 2025-11-24T16:00:00Z; with a time limit that ends before that it may run first."},
        {{MR_REASON_STOPPING, 0, 3, 0, 0}, "Its last run still ends: 3 leases are left."},
        {{MR_REASON_STOPPING, 0, 1, 2, 0},
         "Its last run still ends: 1 lease is left; then it goes on at once, its room is kept."},
        {{MR_REASON_BACKOFF, 0, 1764000000000000, 0, 0},
         "It failed and is tried again at 2025-11-24T16:00:00Z; its log says why."},
        {{MR_REASON_NOT_YET, 0, 1764000000000000, 0, 0},
         "It was asked to begin at 2025-11-24T16:00:00Z."},
        {{MR_REASON_FLEET_EMPTY, 0, 0, 0, 0}, "No node is up; add one or bring one back."},
    };
    for (size_t i = 0; i < MR_COUNT_OF(cases); i++) {
        sentence(&cases[i].reason, cases[i].text);
    }
}

static void an_empty_fleet_is_said_to_be_empty(void **state)
{
    (void)state;
    struct cloud c;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    uint64_t id = submit(&c, job(1, 1000));
    assert_int_equal(info(&c, id).reason.code, MR_REASON_FLEET_EMPTY);
    struct mr_reason none;
    assert_int_equal(mr_core_why(c.core, (struct mr_workload_id){77}, &none), MR_ENOT_FOUND);
    cloud_done(&c);
}

static void the_largest_node_is_known_when_nodes_shrink_and_go(void **state)
{
    (void)state;
    struct cloud c;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    node_set(&c, 1, 8);
    node_set(&c, 2, 8);
    node_set(&c, 3, 4);
    uint64_t id = submit(&c, job(1, 9000));
    assert_int_equal(info(&c, id).reason.a, 8000);
    node_set(&c, 1, 2);
    assert_int_equal(info(&c, id).reason.a, 8000);
    node_state(&c, 2, MR_NODE_DOWN); /* it may come back: it still counts */
    assert_int_equal(info(&c, id).reason.a, 8000);
    node_state(&c, 2, MR_NODE_ABSENT);
    assert_int_equal(info(&c, id).reason.a, 4000);
    cloud_done(&c);
}

static void looking_changes_nothing(void **state)
{
    (void)state;
    struct cloud c;
    cloud_init(&c, &tiny_limits);
    tenant_set(&c, 1, 0, UINT64_MAX);
    node_set_in(&c, 1, 4, 1, 1, 1);
    node_set_in(&c, 2, 4, 2, 1, 1);
    for (uint32_t i = 0; i < 6; i++) {
        struct mr_event event = job(2, 2000);
        event.u.submit.topology = (enum mr_topology)i;
        submit(&c, event);
    }
    uint64_t hash = mr_core_hash(c.core);
    struct mr_workload_info w = {.id = {0}};
    uint32_t seen = 0;
    while (mr_core_workload_next(c.core, w.id, &w) == 0) {
        seen++;
        assert_true(w.state != MR_STATE_PENDING || w.reason.code != MR_REASON_NONE);
    }
    assert_int_equal(seen, 6);
    assert_true(mr_core_hash(c.core) == hash);
    cloud_done(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reasons_are_sentences_with_numbers),
        cmocka_unit_test(an_empty_fleet_is_said_to_be_empty),
        cmocka_unit_test(the_largest_node_is_known_when_nodes_shrink_and_go),
        cmocka_unit_test(looking_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
