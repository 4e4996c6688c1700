/* SPDX-License-Identifier: Apache-2.0 */
/* What a chat's client reads: chunks of a stream, or one document.
 *
 * Owns:       nothing.
 * Invariants: (1) the deltas of a stream, joined, and its usage equal the document that the same
 *                 chat gives when it is not streamed;
 *             (2) the first delta has the role, the last the finish reason, then usage if asked
 * for, then [DONE]. Never:      the head before there is something to say: an error until then has
 * its own status. Cost:       O(text), no allocation.
 */
#include <stdio.h>

#include "gate_int.h"

static struct mr_str chat_id(const struct gate_chat *chat, char room[48])
{
    int n = snprintf(room, 48, "chatcmpl-%s", chat->request->id + 4);
    return (struct mr_str){room, (size_t)n};
}

/* Appends one event to gate->frame. */
static void chunk_put(struct gate_chat *chat, bool role, struct mr_str text, enum mr_finish finish)
{
    struct mr_gate *gate = chat->service->gate;
    char room[48];
    mr_buf_reset(&gate->body);
    mr_openai_put_chunk(&gate->body, chat_id(chat, room), chat->created_s, chat->model, role, text,
                        finish, chat->chat.include_usage);
    mr_sse_put_data(&gate->frame, mr_buf_str(&gate->body));
}

static void stream_open(struct gate_chat *chat)
{
    if (chat->request->streaming) return;
    gate_stream_begin(chat->request, MR_STR("text/event-stream"),
                      MR_STR("Cache-Control: no-cache\r\n"));
}

static void role_put(struct gate_chat *chat)
{
    if (chat->role_sent) return;
    chat->role_sent = true;
    chunk_put(chat, true, MR_STR(""), MR_FINISH_NONE);
}

void gate_chat_put_tokens(struct gate_chat *chat, struct mr_str text)
{
    struct mr_gate *gate = chat->service->gate;
    stream_open(chat);
    mr_buf_reset(&gate->frame);
    role_put(chat);
    chunk_put(chat, false, text, MR_FINISH_NONE);
    gate_stream_data(chat->request, mr_buf_str(&gate->frame));
}

void gate_chat_put_end(struct gate_chat *chat, enum mr_finish finish, const struct mr_usage *usage)
{
    struct mr_gate *gate = chat->service->gate;
    struct gate_request *request = chat->request;
    char room[48];
    if (!chat->chat.stream) {
        mr_buf_reset(&gate->body);
        mr_openai_put_chat(&gate->body, chat_id(chat, room), chat->created_s, chat->model,
                           mr_buf_str(&request->text), finish, usage);
        gate_reply(request, 200, MR_STR("application/json"), mr_buf_str(&gate->body), MR_STR(""));
        return;
    }
    stream_open(chat);
    mr_buf_reset(&gate->frame);
    role_put(chat);
    chunk_put(chat, false, MR_STR(""), finish);
#ifdef MR_PLANT_GATE_END_TWICE
    chunk_put(chat, false, MR_STR(""), finish);
#endif
    if (chat->chat.include_usage) {
        mr_buf_reset(&gate->body);
        mr_openai_put_usage_chunk(&gate->body, chat_id(chat, room), chat->created_s, chat->model,
                                  usage);
        mr_sse_put_data(&gate->frame, mr_buf_str(&gate->body));
    }
    mr_sse_put_data(&gate->frame, MR_STR("[DONE]"));
    gate_stream_data(request, mr_buf_str(&gate->frame));
    gate_stream_end(request);
}

void gate_chat_put_quiet(struct gate_chat *chat)
{
    struct mr_gate *gate = chat->service->gate;
    if (!chat->chat.stream) return;
    stream_open(chat);
    mr_buf_reset(&gate->frame);
    mr_sse_put_comment(&gate->frame, MR_STR("keep-alive"));
    gate_stream_data(chat->request, mr_buf_str(&gate->frame));
}
