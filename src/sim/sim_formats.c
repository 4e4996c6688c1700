/* SPDX-License-Identifier: Apache-2.0 */
/* From the name of a workload's format to what replays it.
 *
 * Owns:  nothing.
 * Fails: with a line that names the formats there are.
 * Idea:  docs/internals/sim.md
 */
#include "sim_formats_int.h"

int mr_sim_replay(const struct mr_sim_replay_options *options, struct mr_sim_replay_result *result)
{
    static const struct {
        const char *name;
        int (*replay)(const struct mr_sim_replay_options *options,
                      struct mr_sim_replay_result *result);
    } formats[] = {
#define X(name) {#name, sim_##name##_replay},
        MR_SIM_FORMATS(X)
#undef X
    };
    for (size_t i = 0; i < MR_COUNT_OF(formats); i++) {
        if (!mr_str_equal(options->format, mr_str_from(formats[i].name))) continue;
        return formats[i].replay(options, result);
    }
    mr_buf_printf(&result->problem,
                  "no workload format is called '%.*s'; there are:", MR_STR_ARG(options->format));
    for (size_t i = 0; i < MR_COUNT_OF(formats); i++) {
        mr_buf_printf(&result->problem, " %s", formats[i].name);
    }
    return MR_EUNSUPPORTED;
}
