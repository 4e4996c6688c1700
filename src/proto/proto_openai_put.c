/* SPDX-License-Identifier: Apache-2.0 */
/* Answers as the OpenAI SDKs read them: completions, chunks, errors, models.
 *
 * The keys are those that the OpenAI schema requires and those that its SDKs look at, in OpenAI's
 * order (tests/it runs the SDKs against them). Each answer is constants with a few values between.
 *
 * Owns:  nothing.
 * Never: I/O, clock.
 * Cost:  O(bytes written).
 * Tests: tests/unit/proto/test_proto_openai_put.c
 */
#include "proto/proto.h"

struct mr_str mr_role_name(enum mr_role role)
{
    switch (role) {
    case MR_ROLE_SYSTEM:
        return MR_STR("system");
    case MR_ROLE_USER:
        return MR_STR("user");
    case MR_ROLE_ASSISTANT:
        return MR_STR("assistant");
    case MR_ROLE_TOOL:
        return MR_STR("tool");
    case MR_ROLE_COUNT:
        break;
    }
    MR_ASSERT(role < MR_ROLE_COUNT);
    return MR_STR("");
}

static void finish_put(struct mr_buf *buf, enum mr_finish finish)
{
    switch (finish) {
    case MR_FINISH_NONE:
        mr_buf_put_str(buf, MR_STR("null"));
        return;
    case MR_FINISH_STOP:
        mr_buf_put_str(buf, MR_STR("\"stop\""));
        return;
    case MR_FINISH_LENGTH:
    case MR_FINISH_CANCELLED:
    case MR_FINISH_ERROR:
    case MR_FINISH_COUNT:
        /* OpenAI has no word for the last two. This one says that the text is not whole. */
        mr_buf_put_str(buf, MR_STR("\"length\""));
        return;
    }
}

static void usage_put(struct mr_buf *buf, const struct mr_usage *usage)
{
    mr_buf_put_str(buf, MR_STR("{\"prompt_tokens\":"));
    mr_buf_put_u64_text(buf, usage->prompt_tokens);
    mr_buf_put_str(buf, MR_STR(",\"completion_tokens\":"));
    mr_buf_put_u64_text(buf, usage->completion_tokens);
    mr_buf_put_str(buf, MR_STR(",\"total_tokens\":"));
    mr_buf_put_u64_text(buf, (uint64_t)usage->prompt_tokens + usage->completion_tokens);
    mr_buf_put_str(buf, MR_STR(",\"prompt_tokens_details\":{\"cached_tokens\":"));
    mr_buf_put_u64_text(buf, usage->cached_tokens);
    mr_buf_put_str(buf, MR_STR("},\"completion_tokens_details\":{\"reasoning_tokens\":0}}"));
}

/* {"id":…,"object":…,"created":…,"model":… */
static void head_put(struct mr_buf *buf, struct mr_str id, struct mr_str object, uint64_t created_s,
                     struct mr_str model)
{
    mr_buf_put_str(buf, MR_STR("{\"id\":"));
    mr_json_put_string(buf, id);
    mr_buf_put_str(buf, object);
    mr_buf_put_u64_text(buf, created_s);
    mr_buf_put_str(buf, MR_STR(",\"model\":"));
    mr_json_put_string(buf, model);
}
#define OBJECT_CHAT  MR_STR(",\"object\":\"chat.completion\",\"created\":")
#define OBJECT_CHUNK MR_STR(",\"object\":\"chat.completion.chunk\",\"created\":")

void mr_openai_put_chat(struct mr_buf *buf, struct mr_str id, uint64_t created_s,
                        struct mr_str model, struct mr_str content, enum mr_finish finish,
                        const struct mr_usage *usage)
{
    head_put(buf, id, OBJECT_CHAT, created_s, model);
    mr_buf_put_str(buf, MR_STR(",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
                               "\"content\":"));
    mr_json_put_string(buf, content);
    mr_buf_put_str(buf, MR_STR(",\"refusal\":null},\"logprobs\":null,\"finish_reason\":"));
    finish_put(buf, finish);
    mr_buf_put_str(buf, MR_STR("}],\"usage\":"));
    usage_put(buf, usage);
    mr_buf_put_char(buf, '}');
}

void mr_openai_put_chunk(struct mr_buf *buf, struct mr_str id, uint64_t created_s,
                         struct mr_str model, bool role, struct mr_str content,
                         enum mr_finish finish, bool with_usage_null)
{
    head_put(buf, id, OBJECT_CHUNK, created_s, model);
    mr_buf_put_str(buf, MR_STR(",\"choices\":[{\"index\":0,\"delta\":{"));
    if (role) {
        mr_buf_put_str(buf, MR_STR("\"role\":\"assistant\",\"content\":"));
        mr_json_put_string(buf, content);
        mr_buf_put_str(buf, MR_STR(",\"refusal\":null"));
    } else if (content.n > 0 || finish == MR_FINISH_NONE) {
        mr_buf_put_str(buf, MR_STR("\"content\":"));
        mr_json_put_string(buf, content);
    }
    mr_buf_put_str(buf, MR_STR("},\"logprobs\":null,\"finish_reason\":"));
    finish_put(buf, finish);
    mr_buf_put_str(buf, with_usage_null ? MR_STR("}],\"usage\":null}") : MR_STR("}]}"));
}

void mr_openai_put_usage_chunk(struct mr_buf *buf, struct mr_str id, uint64_t created_s,
                               struct mr_str model, const struct mr_usage *usage)
{
    head_put(buf, id, OBJECT_CHUNK, created_s, model);
    mr_buf_put_str(buf, MR_STR(",\"choices\":[],\"usage\":"));
    usage_put(buf, usage);
    mr_buf_put_char(buf, '}');
}

/* --- errors -------------------------------------------------------------------------------- */

/* The SDKs branch on the HTTP status; people and scripts read type and code. */
static void error_words(int error, struct mr_str *ret_type, struct mr_str *ret_code)
{
    *ret_code = mr_str_from(mr_error_name(error));
    switch (error) {
    case MR_EUNAUTHENTICATED:
        *ret_type = MR_STR("authentication_error");
        *ret_code = MR_STR("invalid_api_key");
        return;
    case MR_EFORBIDDEN:
        *ret_type = MR_STR("permission_error");
        return;
    case MR_EQUOTA:
        *ret_type = MR_STR("insufficient_quota");
        *ret_code = MR_STR("insufficient_quota");
        return;
    case MR_ELIMIT:
        *ret_type = MR_STR("rate_limit_error");
        *ret_code = MR_STR("rate_limit_exceeded");
        return;
    default:
        *ret_type =
            mr_error_status(error) < 500 ? MR_STR("invalid_request_error") : MR_STR("server_error");
        return;
    }
}

void mr_openai_put_error(struct mr_buf *buf, const struct mr_problem *problem)
{
    struct mr_str type, code;
    error_words(problem->error, &type, &code);
    if (problem->code.n > 0) code = problem->code;
    struct mr_str text = problem->text;
    if (text.n == 0) text = mr_str_from(mr_error_text(problem->error));

    mr_buf_put_str(buf, MR_STR("{\"error\":{\"message\":"));
    mr_json_put_string(buf, text);
    mr_buf_put_str(buf, MR_STR(",\"type\":"));
    mr_json_put_string(buf, type);
    mr_buf_put_str(buf, MR_STR(",\"param\":"));
    if (problem->param.n > 0) {
        mr_json_put_string(buf, problem->param);
    } else {
        mr_buf_put_str(buf, MR_STR("null"));
    }
    mr_buf_put_str(buf, MR_STR(",\"code\":"));
    mr_json_put_string(buf, code);
    mr_buf_put_str(buf, MR_STR("}}"));
}

/* --- models -------------------------------------------------------------------------------- */

void mr_openai_put_model(struct mr_buf *buf, const struct mr_openai_model *model)
{
    mr_buf_put_str(buf, MR_STR("{\"id\":"));
    mr_json_put_string(buf, model->id);
    mr_buf_put_str(buf, MR_STR(",\"object\":\"model\",\"created\":"));
    mr_buf_put_u64_text(buf, model->created_s);
    mr_buf_put_str(buf, MR_STR(",\"owned_by\":"));
    mr_json_put_string(buf, model->owned_by);
    mr_buf_put_char(buf, '}');
}

void mr_openai_put_models(struct mr_buf *buf, const struct mr_openai_model *models, size_t count)
{
    mr_buf_put_str(buf, MR_STR("{\"object\":\"list\",\"data\":["));
    for (size_t i = 0; i < count; i++) {
        if (i > 0) mr_buf_put_char(buf, ',');
        mr_openai_put_model(buf, &models[i]);
    }
    mr_buf_put_str(buf, MR_STR("]}"));
}
