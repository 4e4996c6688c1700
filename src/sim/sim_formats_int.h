/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/sim and its tests: the functions that replay a format, one file each. */
#ifndef MR_SIM_FORMATS_INT_H
#define MR_SIM_FORMATS_INT_H

#include "sim/sim.h"

#define X(name)                                                                                    \
    int sim_##name##_replay(const struct mr_sim_replay_options *options,                           \
                            struct mr_sim_replay_result *result);
MR_SIM_FORMATS(X)
#undef X

#endif
