/* SPDX-License-Identifier: Apache-2.0 */
/* A line of chats, a spec and a template, as a user may write them: refused with a reason, or read
 * into messages with a known role and at least one answer.
 */
#include "train.h"

static void chat_try(struct mr_str line)
{
    struct train_problem problem = {{0}};
    struct train_chat chat = {0};
    struct mr_arena arena;
    mr_arena_init(&arena, (size_t)4 * 1024 * 1024);
    int error = train_chat_parse(line, &arena, &chat, &problem);
    if (error != 0) {
        MR_ASSERT(problem.text[0] != 0);
        MR_ASSERT(chat.count == 0);
    } else {
        bool answered = false;
        MR_ASSERT(chat.count > 0 && chat.count <= MR_CHAT_MESSAGES_MAX);
        for (size_t i = 0; i < chat.count; i++) {
            MR_ASSERT(chat.messages[i].role.n > 0);
            MR_ASSERT(chat.messages[i].content.p != NULL);
            answered = answered || mr_str_equal(chat.messages[i].role, MR_STR("assistant"));
        }
        MR_ASSERT(answered);
    }
    mr_arena_done(&arena);
}

static void spec_try(struct mr_str text)
{
    struct train_problem problem = {{0}};
    struct train_spec spec, before;
    train_spec_init(&spec);
    before = spec;
    if (train_spec_parse(text, &spec, &problem) != 0) {
        MR_ASSERT(problem.text[0] != 0);
        MR_ASSERT(memcmp(&spec, &before, sizeof spec) == 0);
        return;
    }
    MR_ASSERT(spec.batch >= 1 && spec.batch <= TRAIN_BATCH_MAX);
    MR_ASSERT(spec.rank >= 1 && spec.rank <= TRAIN_RANK_MAX);
    MR_ASSERT(spec.sequence_tokens >= TRAIN_SEQUENCE_MIN);
    MR_ASSERT(spec.sequence_tokens <= TRAIN_SEQUENCE_MAX);
    MR_ASSERT(spec.held_out >= 0 && spec.held_out <= 0.9);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_str text = {(const char *)data, size};
    struct mr_str system = train_default_system(text);
    MR_ASSERT(system.n <= size);
    MR_ASSERT(system.n == 0 || (system.p >= text.p && system.p + system.n <= text.p + size));
    chat_try(text);
    spec_try(text);
    return 0;
}
