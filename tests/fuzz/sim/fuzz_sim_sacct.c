/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a workload of format sacct: refused with its line, or jobs that can be run.
 *
 * Thread: one.
 * Fails:  by assertion.
 * Ends:   nothing outlives a call.
 */
#include "sim/sim_story_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char machines[] = "{\"nodes\":[{\"type\":\"p5.48xlarge\",\"count\":4}]}";
    const struct mr_sim_file fleet_file = {MR_STR("f"), {machines, sizeof machines - 1}};
    const struct mr_sim_file file = {MR_STR("w"), {(const char *)data, size}};
    struct mr_sim_fleet *fleet;
    struct sim_story story;
    struct mr_buf problem;
    mr_buf_init(&problem, 4096);
    sim_story_init(&story);
    int read = mr_sim_fleet_read(&fleet_file, NULL, &fleet, &problem);
    MR_ASSERT(read == 0);
    int error = sim_sacct_read(&file, fleet, &story, &problem);
    MR_ASSERT(error == 0 || (error == MR_ESYNTAX && problem.n > 0));
    if (error == 0) sim_story_sort(&story);
    for (uint32_t i = 0; error == 0 && i < story.job_count; i++) {
        const struct sim_job *job = &story.jobs[i];
        MR_ASSERT(job->run_us > 0 && job->tasks_min > 0 && job->tasks_min <= job->tasks_max);
        MR_ASSERT(job->shape.cpu_milli > 0 && job->tenant > 0);
        MR_ASSERT(i == 0 || job[-1].submit_us <= job->submit_us);
    }
    mr_sim_fleet_free(fleet);
    sim_story_done(&story);
    mr_buf_done(&problem);
    return 0;
}
