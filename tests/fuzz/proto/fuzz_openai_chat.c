/* SPDX-License-Identifier: Apache-2.0 */
/* Chat requests: either a complaint that is itself good JSON, or a chat that a worker will take.
 *
 * Thread: one.   Fails: with a trap.   Ends: nothing outlives a call.
 */
#include <yyjson.h>

#include "proto/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void assert_json(const struct mr_buf *buf)
{
    MR_ASSERT(!buf->failed);
    yyjson_doc *doc = yyjson_read((const char *)buf->p, buf->n, 0);
    MR_ASSERT(doc != NULL);
    yyjson_doc_free(doc);
}

static void chat_check(const struct mr_chat *chat)
{
    MR_ASSERT(chat->model.n > 0);
    MR_ASSERT(mr_utf8_valid_prefix(chat->model) == chat->model.n);
    MR_ASSERT(chat->stream || !chat->include_usage);

    /* The frame that goes to a worker is valid and comes out as it went in. */
    struct mr_buf buf, again;
    struct mr_arena arena;
    struct mr_wire_frame frame = {.type = MR_WIRE_SUBMIT, .stream = 1}, got;
    size_t used;
    mr_buf_init(&buf, SIZE_MAX / 4);
    mr_buf_init(&again, SIZE_MAX / 4);
    mr_arena_init(&arena, 1u << 24);
    frame.u.submit.chat = *chat;
    mr_wire_put(&buf, &frame);
    MR_ASSERT(!buf.failed);
    MR_ASSERT(mr_wire_get(mr_buf_str(&buf), &arena, &got, &used) == 1);
    MR_ASSERT(used == buf.n);
    mr_wire_put(&again, &got);
    MR_ASSERT(mr_str_equal(mr_buf_str(&buf), mr_buf_str(&again)));

    mr_buf_reset(&buf);
    mr_openai_put_chunk(&buf, MR_STR("id"), 1, chat->model, false, chat->messages[0].content,
                        MR_FINISH_NONE, chat->include_usage);
    assert_json(&buf);
    mr_buf_done(&buf);
    mr_buf_done(&again);
    mr_arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_arena arena;
    struct mr_chat chat;
    struct mr_problem problem = {0};
    mr_arena_init(&arena, 1u << 24);
    int error =
        mr_openai_chat_parse((struct mr_str){(const char *)data, size}, &arena, &chat, &problem);
    if (error == 0) {
        chat_check(&chat);
    } else {
        struct mr_buf buf;
        MR_ASSERT(problem.error == error);
        MR_ASSERT(problem.text.n > 0);
        mr_buf_init(&buf, SIZE_MAX / 4);
        mr_openai_put_error(&buf, &problem);
        assert_json(&buf);
        mr_buf_done(&buf);
    }
    mr_arena_done(&arena);
    return 0;
}
