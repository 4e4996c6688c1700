/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a workload document: refused with a text that names a field, or within the limits
 * and fit to be started. */
#include <stdlib.h>
#include <yyjson.h>

#include "ctl/ctl_int.h"

static void start(const struct ctl_book *book, const char *json, size_t n,
                  const struct ctl_submit *submit)
{
    struct mr_arena arena;
    struct mr_engine_start engine;
    struct mr_effect_start effect = {.lease = {1},
                                     .workload = {7},
                                     .node = {1},
                                     .run = 1,
                                     .tasks = 1,
                                     .world_size = 1,
                                     .devices = 1,
                                     .shape = submit->event.shape};
    struct ctl_spec spec = {.workload = 7, .name = (char *)(uintptr_t)submit->name};
    mr_arena_init(&arena, (size_t)64 * 1024 * 1024);
    spec.document = mr_str_zero(&arena, (struct mr_str){json, n});
    MR_ASSERT(spec.document != NULL);
    MR_ASSERT(ctl_spec_start(&spec, &effect, book, &arena, &engine) ==
              0); /* what was taken starts */
    MR_ASSERT(engine.argv_count > 0);
    mr_arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct ctl_book book = {0};
    struct ctl_submit submit;
    struct mr_buf problem;
    struct mr_str param = {0};
    yyjson_doc *doc = yyjson_read((const char *)bytes, n, 0);
    if (doc == NULL) return 0;
    MR_ASSERT(ctl_accel_make(&book, MR_STR("H100")) == 1);
    mr_buf_init(&problem, 65536);
    int error = ctl_spec_read(&book, yyjson_doc_get_root(doc), 1800000000000000u, &submit, &problem,
                              &param);
    if (error != 0) {
        MR_ASSERT(problem.n > 0);
        MR_ASSERT(param.n > 0 && param.n <= problem.n);
    } else {
        const struct mr_event_submit *e = &submit.event;
        size_t size = 0;
        char *json = yyjson_val_write(yyjson_doc_get_root(doc), 0, &size);
        MR_ASSERT(e->tasks_max >= 1 && e->tasks_min <= e->tasks_max);
        MR_ASSERT(e->shape.cpu_milli > 0);
        MR_ASSERT(e->shape.mem_mib > 0);
        MR_ASSERT(e->priority < MR_PRIORITY_COUNT);
        MR_ASSERT(strlen(submit.name) > 0);
        MR_ASSERT(json != NULL);
        start(&book, json, size, &submit);
        free(json);
    }
    mr_buf_done(&problem);
    yyjson_doc_free(doc);
    ctl_book_done(&book);
    return 0;
}
