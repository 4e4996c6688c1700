/* SPDX-License-Identifier: Apache-2.0 */
/* Answers, byte for byte: what the SDKs are known to need is all there, and it is JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <yyjson.h>

#include "proto/proto.h"

static struct mr_buf buf;

static int buf_set_up(void **state)
{
    (void)state;
    mr_buf_init(&buf, 1u << 20);
    return 0;
}

static int buf_tear_down(void **state)
{
    (void)state;
    mr_buf_done(&buf);
    return 0;
}

static void expect(const char *json)
{
    assert_false(buf.failed);
    yyjson_doc *doc = yyjson_read((char *)buf.p, buf.n, 0);
    assert_non_null(doc);
    yyjson_doc_free(doc);
    mr_buf_put_char(&buf, '\0');
    assert_string_equal((char *)buf.p, json);
    mr_buf_reset(&buf);
}

static const struct mr_usage usage = {
    .prompt_tokens = 4000000000u, .cached_tokens = 7, .completion_tokens = 4000000000u};

static void a_completion_has_what_the_schema_requires(void **state)
{
    (void)state;
    mr_openai_put_chat(&buf, MR_STR("chatcmpl-1"), 1700000000, MR_STR("m\"1"),
                       MR_STR("a\n\"b\"\xff\x01"), MR_FINISH_STOP, &usage);
    expect("{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1700000000,"
           "\"model\":\"m\\\"1\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
           "\"content\":\"a\\n\\\"b\\\"\xef\xbf\xbd\\u0001\",\"refusal\":null},\"logprobs\":null,"
           "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":4000000000,"
           "\"completion_tokens\":4000000000,\"total_tokens\":8000000000,"
           "\"prompt_tokens_details\":{\"cached_tokens\":7},"
           "\"completion_tokens_details\":{\"reasoning_tokens\":0}}}");
}

#define HEAD                                                                                       \
    "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":5,\"model\":\"m\","            \
    "\"choices\":"

static void put_chunk(bool role, struct mr_str content, enum mr_finish finish, bool usage_null)
{
    mr_openai_put_chunk(&buf, MR_STR("c"), 5, MR_STR("m"), role, content, finish, usage_null);
}

static void chunks_begin_with_a_role_and_end_with_a_reason(void **state)
{
    (void)state;
    put_chunk(true, MR_STR(""), MR_FINISH_NONE, false);
    expect(HEAD "[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}"
                ",\"logprobs\":null,\"finish_reason\":null}]}");
    put_chunk(false, MR_STR("hi"), MR_FINISH_NONE, true);
    expect(HEAD "[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"logprobs\":null,"
                "\"finish_reason\":null}],\"usage\":null}");
    put_chunk(false, MR_STR(""), MR_FINISH_LENGTH, false);
    expect(HEAD "[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"length\"}]}");
    put_chunk(false, MR_STR("x"), MR_FINISH_STOP, false);
    expect(HEAD "[{\"index\":0,\"delta\":{\"content\":\"x\"},\"logprobs\":null,"
                "\"finish_reason\":\"stop\"}]}");
    /* Cut off: the SDKs know no better word. */
    put_chunk(false, MR_STR(""), MR_FINISH_CANCELLED, false);
    expect(HEAD "[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"length\"}]}");
    mr_openai_put_usage_chunk(&buf, MR_STR("c"), 5, MR_STR("m"), &usage);
    expect(HEAD "[],\"usage\":{\"prompt_tokens\":4000000000,\"completion_tokens\":4000000000,"
                "\"total_tokens\":8000000000,\"prompt_tokens_details\":{\"cached_tokens\":7},"
                "\"completion_tokens_details\":{\"reasoning_tokens\":0}}}");
}

static void errors_have_the_types_that_openai_has(void **state)
{
    (void)state;
    struct mr_problem problem = {.error = MR_EINVALID,
                                 .param = MR_STR("n"),
                                 .code = MR_STR("unsupported_value"),
                                 .text = MR_STR("No \"n\".")};
    mr_openai_put_error(&buf, &problem);
    expect("{\"error\":{\"message\":\"No \\\"n\\\".\",\"type\":\"invalid_request_error\","
           "\"param\":\"n\",\"code\":\"unsupported_value\"}}");
    static const struct {
        int error;
        const char *type, *code;
    } words[] = {
        {MR_ESYNTAX, "invalid_request_error", "syntax"},
        {MR_EUNAUTHENTICATED, "authentication_error", "invalid_api_key"},
        {MR_EFORBIDDEN, "permission_error", "forbidden"},
        {MR_ENOT_FOUND, "invalid_request_error", "not_found"},
        {MR_ETOO_LARGE, "invalid_request_error", "too_large"},
        {MR_EQUOTA, "insufficient_quota", "insufficient_quota"},
        {MR_ELIMIT, "rate_limit_error", "rate_limit_exceeded"},
        {MR_EUNAVAILABLE, "server_error", "unavailable"},
        {MR_EINTERNAL, "server_error", "internal"},
    };
    for (size_t i = 0; i < MR_COUNT_OF(words); i++) {
        problem = (struct mr_problem){.error = words[i].error};
        mr_openai_put_error(&buf, &problem);
        char json[256];
        snprintf(json, sizeof(json),
                 "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}}",
                 mr_error_text(words[i].error), words[i].type, words[i].code);
        expect(json);
    }
}

static void models_are_listed(void **state)
{
    (void)state;
    struct mr_openai_model models[] = {{MR_STR("a/b"), 1, MR_STR("me")},
                                       {MR_STR("c"), 2, MR_STR("you")}};
    mr_openai_put_models(&buf, models, 0);
    expect("{\"object\":\"list\",\"data\":[]}");
    mr_openai_put_models(&buf, models, 2);
    expect("{\"object\":\"list\",\"data\":[{\"id\":\"a/b\",\"object\":\"model\",\"created\":1,"
           "\"owned_by\":\"me\"},{\"id\":\"c\",\"object\":\"model\",\"created\":2,"
           "\"owned_by\":\"you\"}]}");
    mr_openai_put_model(&buf, &models[1]);
    expect("{\"id\":\"c\",\"object\":\"model\",\"created\":2,\"owned_by\":\"you\"}");
}

static void roles_have_names(void **state)
{
    (void)state;
    assert_true(mr_str_equal(mr_role_name(MR_ROLE_SYSTEM), MR_STR("system")));
    assert_true(mr_str_equal(mr_role_name(MR_ROLE_USER), MR_STR("user")));
    assert_true(mr_str_equal(mr_role_name(MR_ROLE_ASSISTANT), MR_STR("assistant")));
    assert_true(mr_str_equal(mr_role_name(MR_ROLE_TOOL), MR_STR("tool")));
}

static void a_full_buffer_fails_and_says_so(void **state)
{
    (void)state;
    for (size_t limit = 0; limit < 100; limit++) {
        struct mr_buf small;
        mr_buf_init(&small, limit);
        mr_openai_put_chunk(&small, MR_STR("c"), 5, MR_STR("m"), true, MR_STR("content"),
                            MR_FINISH_NONE, true);
        assert_true(small.failed);
        mr_buf_done(&small);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_completion_has_what_the_schema_requires),
        cmocka_unit_test(chunks_begin_with_a_role_and_end_with_a_reason),
        cmocka_unit_test(errors_have_the_types_that_openai_has),
        cmocka_unit_test(models_are_listed),
        cmocka_unit_test(roles_have_names),
        cmocka_unit_test(a_full_buffer_fails_and_says_so),
    };
    return cmocka_run_group_tests(tests, buf_set_up, buf_tear_down);
}
