/* SPDX-License-Identifier: Apache-2.0 */
/* Chat requests: what is honoured, what is refused and in which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <stdio.h>

#include "proto/proto.h"

static struct mr_arena arena;
static struct mr_chat chat;
static struct mr_problem problem;

static int arena_set_up(void **state)
{
    (void)state;
    mr_arena_init(&arena, MR_REQUEST_ARENA_BYTES_MAX);
    return 0;
}

static int arena_tear_down(void **state)
{
    (void)state;
    mr_arena_done(&arena);
    return 0;
}

static int parse(struct mr_str body)
{
    mr_arena_reset(&arena);
    memset(&chat, 0, sizeof(chat));
    memset(&problem, 0, sizeof(problem));
    /* A block of its own size: a sanitizer sees one byte too many, and what points into the
     * body instead of the arena. */
    char *block = mr_alloc(body.n);
    if (body.n > 0) memcpy(block, body.p, body.n);
    int error = mr_openai_chat_parse((struct mr_str){block, body.n}, &arena, &chat, &problem);
    mr_free(block);
    if (error != 0) {
        assert_int_equal(problem.error, error);
        assert_true(problem.text.n > 0);
        assert_int_equal(mr_utf8_valid_prefix(problem.text), problem.text.n);
        assert_int_equal(chat.message_count, 0); /* untouched */
    } else {
        assert_int_equal(problem.error, 0);
    }
    return error;
}

#define BASE "\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static void accepted(const char *more)
{
    struct mr_buf body;
    mr_buf_init(&body, 1u << 20);
    mr_buf_printf(&body, "{" BASE ",%s}", more);
    if (parse(mr_buf_str(&body)) != 0) {
        fail_msg("%s: %.*s", more, MR_STR_ARG(problem.text));
    }
    mr_buf_done(&body);
}

static void refused_body(struct mr_str body, const char *param)
{
    int error = parse(body);
    if (error == 0) fail_msg("taken: %.*s", MR_STR_ARG(body));
    /* 400 and never 5xx: the SDKs would send it again. */
    assert_int_equal(mr_error_status(error), 400);
    if (!mr_str_equal(problem.param, mr_str_from(param))) {
        fail_msg("param %.*s, not %s, for %.*s", MR_STR_ARG(problem.param), param,
                 MR_STR_ARG(body));
    }
}

static void refused(const char *more, const char *param)
{
    struct mr_buf body;
    mr_buf_init(&body, 1u << 20);
    mr_buf_printf(&body, "{" BASE ",%s}", more);
    refused_body(mr_buf_str(&body), param);
    mr_buf_done(&body);
}

static void message_accepted(const char *message, enum mr_role role, const char *content)
{
    struct mr_buf body;
    mr_buf_init(&body, 1u << 20);
    mr_buf_printf(&body, "{\"model\":\"m\",\"messages\":[%s]}", message);
    if (parse(mr_buf_str(&body)) != 0) {
        fail_msg("%s: %.*s", message, MR_STR_ARG(problem.text));
    }
    assert_int_equal(chat.message_count, 1);
    assert_int_equal(chat.messages[0].role, role);
    assert_true(mr_str_equal(chat.messages[0].content, mr_str_from(content)));
    mr_buf_done(&body);
}

static void message_refused(const char *message, const char *param)
{
    struct mr_buf body;
    mr_buf_init(&body, 1u << 20);
    mr_buf_printf(&body, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"\"},%s]}",
                  message);
    refused_body(mr_buf_str(&body), param);
    mr_buf_done(&body);
}

static void a_full_request_fills_every_field(void **state)
{
    (void)state;
    struct mr_str body = MR_STR(
        "{\"model\":\"smollm2\",\"messages\":[{\"role\":\"developer\",\"content\":\"Be brief.\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"caf\\u00e9 \"},"
        "{\"type\":\"text\",\"text\":\"\xf0\x9f\x98\x80\"}]},"
        "{\"role\":\"assistant\",\"content\":null},{\"role\":\"tool\",\"content\":\"4\","
        "\"tool_call_id\":\"c\"}],"
        "\"temperature\":0.5,\"top_p\":0.25,\"presence_penalty\":-2,\"frequency_penalty\":2.0,"
        "\"seed\":-7,\"max_completion_tokens\":12,\"max_tokens\":99,\"stop\":[\"a\",\"bc\"],"
        "\"stream\":true,\"stream_options\":{\"include_usage\":true,\"include_obfuscation\":false},"
        "\"user\":\"u\",\"metadata\":{\"k\":\"v\"},\"x_unknown\":[1,{\"model\":2}]}");
    assert_int_equal(parse(body), 0);
    assert_true(mr_str_equal(chat.model, MR_STR("smollm2")));
    assert_int_equal(chat.message_count, 4);
    assert_int_equal(chat.messages[0].role, MR_ROLE_SYSTEM);
    assert_true(mr_str_equal(chat.messages[0].content, MR_STR("Be brief.")));
    assert_int_equal(chat.messages[1].role, MR_ROLE_USER);
    assert_true(mr_str_equal(chat.messages[1].content, MR_STR("caf\xc3\xa9 \n\xf0\x9f\x98\x80")));
    assert_int_equal(chat.messages[2].role, MR_ROLE_ASSISTANT);
    assert_int_equal(chat.messages[2].content.n, 0);
    assert_int_equal(chat.messages[3].role, MR_ROLE_TOOL);
    assert_true(chat.sampling.temperature == 0.5f);
    assert_true(chat.sampling.top_p == 0.25f);
    assert_true(chat.sampling.presence_penalty == -2.0f);
    assert_true(chat.sampling.frequency_penalty == 2.0f);
    assert_true(chat.sampling.has_seed);
    assert_true(chat.sampling.seed == (uint64_t)-7);
    assert_int_equal(chat.sampling.max_tokens, 12);
    assert_int_equal(chat.stop_count, 2);
    assert_true(mr_str_equal(chat.stops[0], MR_STR("a")));
    assert_true(mr_str_equal(chat.stops[1], MR_STR("bc")));
    assert_true(chat.stream);
    assert_true(chat.include_usage);
}

static void absent_and_null_mean_the_defaults(void **state)
{
    (void)state;
    accepted("\"temperature\":null,\"top_p\":null,\"presence_penalty\":null,"
             "\"frequency_penalty\":null,\"seed\":null,\"max_tokens\":null,"
             "\"max_completion_tokens\":null,\"stop\":null,\"stream\":null,"
             "\"stream_options\":null,\"n\":null,\"tools\":null,\"tool_choice\":null,"
             "\"functions\":null,\"function_call\":null,\"logprobs\":null,\"top_logprobs\":null,"
             "\"logit_bias\":null,\"response_format\":null,\"modalities\":null,\"audio\":null,"
             "\"web_search_options\":null");
    assert_true(chat.sampling.temperature == 1.0f);
    assert_true(chat.sampling.top_p == 1.0f);
    assert_true(chat.sampling.presence_penalty == 0.0f);
    assert_true(chat.sampling.frequency_penalty == 0.0f);
    assert_false(chat.sampling.has_seed);
    assert_int_equal(chat.sampling.max_tokens, 0);
    assert_int_equal(chat.stop_count, 0);
    assert_false(chat.stream);
    assert_false(chat.include_usage);
}

static void roles_and_contents_are_told_apart(void **state)
{
    (void)state;
    message_accepted("{\"role\":\"system\",\"content\":\"x\"}", MR_ROLE_SYSTEM, "x");
    message_accepted("{\"role\":\"function\",\"name\":\"f\",\"content\":\"x\"}", MR_ROLE_TOOL, "x");
    message_accepted("{\"role\":\"user\",\"content\":\"\"}", MR_ROLE_USER, "");
    message_accepted("{\"role\":\"user\",\"content\":[]}", MR_ROLE_USER, "");
    message_accepted("{\"role\":\"assistant\"}", MR_ROLE_ASSISTANT, "");
    message_accepted("{\"role\":\"assistant\",\"content\":null,\"refusal\":\"no\"}",
                     MR_ROLE_ASSISTANT, "no");
    message_accepted("{\"role\":\"assistant\",\"content\":[{\"type\":\"refusal\","
                     "\"refusal\":\"no\"}]}",
                     MR_ROLE_ASSISTANT, "no");
    message_accepted("{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\"}]}",
                     MR_ROLE_ASSISTANT, "[{\"id\":\"c\"}]");
    message_accepted("{\"role\":\"assistant\",\"content\":\"so\",\"tool_calls\":[ 1 ]}",
                     MR_ROLE_ASSISTANT, "so\n[1]");
    message_accepted("{\"role\":\"assistant\",\"function_call\":{\"name\":\"f\"}}",
                     MR_ROLE_ASSISTANT, "{\"name\":\"f\"}");

    message_refused("{\"role\":\"robot\",\"content\":\"x\"}", "messages[1].role");
    message_refused("{\"content\":\"x\"}", "messages[1].role");
    message_refused("{\"role\":7,\"content\":\"x\"}", "messages[1].role");
    message_refused("{\"role\":\"user\"}", "messages[1].content");
    message_refused("{\"role\":\"user\",\"content\":null}", "messages[1].content");
    message_refused("{\"role\":\"tool\",\"content\":null}", "messages[1].content");
    message_refused("{\"role\":\"user\",\"content\":5}", "messages[1].content");
    message_refused("{\"role\":\"user\",\"content\":{}}", "messages[1].content");
    message_refused("\"x\"", "messages[1]");
    message_refused("null", "messages[1]");
    message_refused("{\"role\":\"user\",\"content\":[\"x\"]}", "messages[1].content[0]");
    message_refused("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\"},"
                    "{\"type\":\"image_url\",\"image_url\":{}}]}",
                    "messages[1].content[1].type");
    assert_true(mr_str_equal(problem.code, MR_STR("unsupported_value")));
    message_refused("{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\"}]}",
                    "messages[1].content[0].type");
    message_refused("{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}",
                    "messages[1].content[0].type");
    message_refused("{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}",
                    "messages[1].content[0].text");
    message_refused("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":1}]}",
                    "messages[1].content[0].text");
}

static void required_parameters_are_asked_for(void **state)
{
    (void)state;
    refused_body(MR_STR(""), "");
    refused_body(MR_STR("[]"), "");
    refused_body(MR_STR("7"), "");
    refused_body(MR_STR("{}"), "model");
    assert_true(mr_str_equal(problem.code, MR_STR("missing_required_parameter")));
    refused_body(MR_STR("{\"model\":1}"), "model");
    refused_body(MR_STR("{\"model\":\"\"}"), "model");
    refused_body(MR_STR("{\"model\":\"m\"}"), "messages");
    refused_body(MR_STR("{\"model\":\"m\",\"messages\":{}}"), "messages");
    refused_body(MR_STR("{\"model\":\"m\",\"messages\":[]}"), "messages");
}

static void ranges_end_where_they_say(void **state)
{
    (void)state;
    static const struct {
        const char *name, *in[3], *out[4];
    } ranges[] = {
        {"temperature", {"0", "2", "2.0"}, {"-0.001", "2.001", "1e300", "\"1\""}},
        {"top_p", {"0", "1", "1.0"}, {"-0.001", "1.001", "true", "[]"}},
        {"presence_penalty", {"-2", "2", "0"}, {"-2.001", "2.001", "{}", "\"\""}},
        {"frequency_penalty", {"-2", "2.0", "0"}, {"-2.001", "2.001", "{}", "\"\""}},
        {"max_tokens", {"1", "1.0", "2147483647"}, {"0", "-1", "1.5", "2147483648"}},
        {"max_completion_tokens", {"1", "7.0", "2147483647"}, {"0", "\"5\"", "1e30", "2147483648"}},
        {"n", {"1", "1.0", "1e0"}, {"2", "0", "1.5", "\"1\""}},
    };
    for (size_t i = 0; i < MR_COUNT_OF(ranges); i++) {
        char text[128];
        for (size_t j = 0; j < 3; j++) {
            snprintf(text, sizeof(text), "\"%s\":%s", ranges[i].name, ranges[i].in[j]);
            accepted(text);
        }
        for (size_t j = 0; j < 4; j++) {
            snprintf(text, sizeof(text), "\"%s\":%s", ranges[i].name, ranges[i].out[j]);
            refused(text, ranges[i].name);
        }
    }
    accepted("\"top_p\":0");
    assert_true(chat.sampling.top_p == FLT_MIN);
}

static void seeds_are_any_integer_of_64_bits(void **state)
{
    (void)state;
    accepted("\"seed\":-9223372036854775808");
    assert_true(chat.sampling.seed == (uint64_t)1 << 63);
    accepted("\"seed\":9223372036854775807");
    assert_true(chat.sampling.seed == INT64_MAX);
    accepted("\"seed\":18446744073709551615");
    assert_true(chat.sampling.seed == UINT64_MAX);
    accepted("\"seed\":3.0");
    assert_true(chat.sampling.seed == 3);
    refused("\"seed\":18446744073709551616", "seed");
    refused("\"seed\":1.5", "seed");
    refused("\"seed\":\"1\"", "seed");
}

static void stops_are_a_text_or_up_to_four(void **state)
{
    (void)state;
    accepted("\"stop\":\"\\n\"");
    assert_int_equal(chat.stop_count, 1);
    accepted("\"stop\":[]");
    assert_int_equal(chat.stop_count, 0);
    accepted("\"stop\":[\"1\",\"2\",\"3\",\"4\"]");
    assert_int_equal(chat.stop_count, MR_CHAT_STOPS_MAX);
    accepted("\"stop\":[\"\",\"2\"]");
    assert_int_equal(chat.stop_count, 1);
    assert_true(mr_str_equal(chat.stops[0], MR_STR("2")));
    refused("\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\"]", "stop");
    refused("\"stop\":[1]", "stop");
    refused("\"stop\":7", "stop");
    for (size_t past = 0; past <= 1; past++) {
        struct mr_buf more;
        mr_buf_init(&more, 4096);
        mr_buf_put_str(&more, MR_STR("\"stop\":\""));
        for (size_t i = 0; i < MR_CHAT_STOP_BYTES_MAX + past; i++) {
            mr_buf_put_char(&more, 'a');
        }
        mr_buf_put(&more, "\"", 2);
        if (past)
            refused((char *)more.p, "stop");
        else
            accepted((char *)more.p);
        mr_buf_done(&more);
    }
}

static void counts_end_at_their_limits(void **state)
{
    (void)state;
    for (size_t past = 0; past <= 1; past++) {
        struct mr_buf body;
        mr_buf_init(&body, 1u << 20);
        mr_buf_put_str(&body, MR_STR("{\"model\":\"m\",\"messages\":["));
        for (size_t i = 0; i < MR_CHAT_MESSAGES_MAX + past; i++) {
            if (i > 0) mr_buf_put_char(&body, ',');
            mr_buf_put_str(&body, MR_STR("{\"role\":\"user\",\"content\":\"x\"}"));
        }
        mr_buf_put_str(&body, MR_STR("]}"));
        if (past)
            refused_body(mr_buf_str(&body), "messages");
        else
            assert_int_equal(parse(mr_buf_str(&body)), 0);
        mr_buf_reset(&body);
        mr_buf_put_str(&body, MR_STR("{\"messages\":[{\"role\":\"user\",\"content\":\"\"}],"
                                     "\"model\":\""));
        for (size_t i = 0; i < MR_CHAT_MODEL_BYTES_MAX + past; i++) {
            mr_buf_put_char(&body, 'm');
        }
        mr_buf_put_str(&body, MR_STR("\"}"));
        if (past)
            refused_body(mr_buf_str(&body), "model");
        else
            assert_int_equal(parse(mr_buf_str(&body)), 0);
        mr_buf_done(&body);
    }
}

static void what_cannot_be_honoured_is_refused_by_name(void **state)
{
    (void)state;
    refused("\"n\":2", "n");
    refused("\"tools\":[{\"type\":\"function\"}]", "tools");
    refused("\"tools\":[{}],\"tool_choice\":\"auto\"", "tools");
    refused("\"tool_choice\":\"required\"", "tool_choice");
    refused("\"tool_choice\":{\"type\":\"function\"}", "tool_choice");
    refused("\"functions\":[{}]", "functions");
    refused("\"function_call\":{\"name\":\"f\"}", "function_call");
    refused("\"logprobs\":true", "logprobs");
    refused("\"logprobs\":3", "logprobs");
    refused("\"top_logprobs\":2", "top_logprobs");
    refused("\"logit_bias\":{\"5\":1}", "logit_bias");
    refused("\"response_format\":{\"type\":\"json_object\"}", "response_format");
    refused("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{}}", "response_format");
    refused("\"response_format\":\"text\"", "response_format");
    refused("\"modalities\":[\"text\",\"audio\"]", "modalities");
    refused("\"audio\":{\"voice\":\"x\"}", "audio");
    refused("\"web_search_options\":{\"a\":1}", "web_search_options");
    refused("\"stream\":\"yes\"", "stream");
    refused("\"stream_options\":{\"include_usage\":true}", "stream_options");
    refused("\"stream\":true,\"stream_options\":true", "stream_options");
    refused("\"stream\":true,\"stream_options\":{\"include_usage\":1}",
            "stream_options.include_usage");

    accepted("\"tools\":[]");
    accepted("\"tools\":[{}],\"tool_choice\":\"none\"");
    accepted("\"tool_choice\":\"auto\"");
    accepted("\"functions\":[],\"function_call\":\"auto\"");
    accepted("\"logprobs\":false,\"top_logprobs\":0,\"logit_bias\":{}");
    accepted("\"response_format\":{\"type\":\"text\"},\"modalities\":[\"text\"]");
    accepted("\"stream\":true,\"stream_options\":{}");
}

static void the_same_key_twice_is_refused(void **state)
{
    (void)state;
    refused("\"model\":\"n\"", "model");
    refused("\"temperature\":1,\"temperature\":2", "temperature");
    refused("\"t\\u0065mperature\":1,\"temperature\":2", "temperature");
    message_refused("{\"role\":\"user\",\"role\":\"system\",\"content\":\"x\"}",
                    "messages[1].role");
    accepted("\"unknown\":1,\"unknown\":2");
}

static void broken_json_says_where(void **state)
{
    (void)state;
    refused_body(MR_STR("{\"model\":}"), "");
    assert_non_null(memmem(problem.text.p, problem.text.n, "byte 9", 6));
    refused_body(MR_STR("{" BASE ",\"x\":1,}"), "");
    refused_body(MR_STR("{" BASE "} {}"), "");
    refused_body(MR_STR("{" BASE ",\"x\":NaN}"), "");
    refused_body(MR_STR("{" BASE ",\"temperature\":1e999}"), "");
    refused_body(MR_STR("{" BASE ",\"temperature\":01}"), "");
    refused_body(MR_STR("{" BASE ",'x':1}"), "");
    refused_body(MR_STR("\xef\xbb\xbf{" BASE "}"), "");
    refused_body(MR_STR("{" BASE ",\"x\":\"\xff\"}"), "");         /* no UTF-8 */
    refused_body(MR_STR("{" BASE ",\"x\":\"\xc0\xaf\"}"), "");     /* over-long */
    refused_body(MR_STR("{" BASE ",\"x\":\"\xed\xa0\x80\"}"), ""); /* a surrogate */
    refused_body(MR_STR("{" BASE ",\"x\":\"\\ud800\"}"), "");      /* half of a pair */
    refused_body(MR_STR("{" BASE ",\"x\":\"a\0b\"}"), "");         /* a raw NUL */
    refused_body(MR_STR("{" BASE "}\0"), "");
}

static void every_prefix_of_a_request_is_refused(void **state)
{
    (void)state;
    struct mr_str body = MR_STR("{" BASE ",\"stop\":[\"\\ud83d\\ude00\",\"\xc3\xa9\"],\"n\":1.0}");
    assert_int_equal(parse(body), 0);
    for (size_t n = 0; n < body.n; n++) {
        assert_int_equal(parse((struct mr_str){body.p, n}), MR_ESYNTAX);
    }
}

static void an_escaped_nul_is_content_like_any_other(void **state)
{
    (void)state;
    struct mr_str body =
        MR_STR("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\\u0000b\"}]}");
    assert_int_equal(parse(body), 0);
    assert_true(mr_str_equal(chat.messages[0].content, MR_STR("a\0b")));
    refused_body(MR_STR("{\"model\":\"m\",\"messages\":[{\"role\":\"user\\u0000\","
                        "\"content\":\"\"}]}"),
                 "messages[0].role");
}

static void deep_nesting_is_harmless(void **state)
{
    (void)state;
    enum { DEPTH = 1000000 };
    struct mr_buf body;
    mr_buf_init(&body, 1u << 24);
    mr_buf_put_str(&body, MR_STR("{" BASE ",\"x\":"));
    for (size_t i = 0; i < DEPTH; i++) {
        mr_buf_put_char(&body, '[');
    }
    for (size_t i = 0; i < DEPTH; i++) {
        mr_buf_put_char(&body, ']');
    }
    mr_buf_put_char(&body, '}');
    assert_int_equal(parse(mr_buf_str(&body)), 0);
    /* Written out again as the calls of an assistant. */
    mr_buf_reset(&body);
    mr_buf_put_str(&body, MR_STR("{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\","
                                 "\"tool_calls\":"));
    for (size_t i = 0; i < DEPTH; i++) {
        mr_buf_put_char(&body, '[');
    }
    for (size_t i = 0; i < DEPTH; i++) {
        mr_buf_put_char(&body, ']');
    }
    mr_buf_put_str(&body, MR_STR("}]}"));
    assert_int_equal(parse(mr_buf_str(&body)), 0);
    assert_int_equal(chat.messages[0].content.n, 2 * DEPTH);
    mr_buf_done(&body);
}

static void complaints_quote_long_values_in_part(void **state)
{
    (void)state;
    struct mr_buf body;
    mr_buf_init(&body, 1u << 20);
    mr_buf_put_str(&body, MR_STR("{\"model\":\"m\",\"messages\":[{\"content\":\"\",\"role\":\"r"));
    for (size_t i = 0; i < 5000; i++) {
        mr_buf_put_str(&body, MR_STR("\xc3\xa9"));
    }
    mr_buf_put_str(&body, MR_STR("\"}]}"));
    refused_body(mr_buf_str(&body), "messages[0].role"); /* and valid UTF-8: parse() asks */
    assert_true(problem.text.n < 300);
    mr_buf_done(&body);
}

/* The memory that one request may have is enough for the largest body. */
static void the_largest_body_is_taken(void **state)
{
    (void)state;
    static const char first[] = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"";
    static const char last[] = "\"}]}";
    struct mr_buf body;
    mr_buf_init(&body, MR_HTTP_BODY_BYTES_MAX);
    mr_buf_put(&body, first, sizeof(first) - 1);
    size_t text_n = MR_HTTP_BODY_BYTES_MAX - (sizeof(first) - 1) - (sizeof(last) - 1);
    assert_true(mr_buf_reserve(&body, text_n));
    memset(body.p + body.n, 'x', text_n);
    body.n += text_n;
    mr_buf_put(&body, last, sizeof(last) - 1);
    assert_int_equal(body.n, MR_HTTP_BODY_BYTES_MAX);
    assert_int_equal(parse(mr_buf_str(&body)), 0);
    assert_int_equal(chat.messages[0].content.n, text_n);
    /* And it goes to a worker in one frame. */
    struct mr_buf out;
    struct mr_wire_frame frame = {.type = MR_WIRE_SUBMIT, .stream = 1};
    frame.u.submit.chat = chat;
    mr_buf_init(&out, MR_WIRE_FRAME_BYTES_MAX);
    mr_wire_put(&out, &frame);
    assert_false(out.failed);
    mr_buf_done(&out);
    mr_buf_done(&body);
}

static void an_arena_that_is_full_is_said_to_be(void **state)
{
    (void)state;
    struct mr_str body = MR_STR("{" BASE ",\"stop\":[\"a\"],\"temperature\":3}");
    bool saw_full = false;
    for (size_t limit = 0; limit < 8192; limit += 16) {
        struct mr_arena small;
        struct mr_chat small_chat;
        struct mr_problem small_problem;
        mr_arena_init(&small, limit);
        int error = mr_openai_chat_parse(body, &small, &small_chat, &small_problem);
        assert_true(error == MR_ETOO_LARGE || error == MR_EINVALID);
        assert_true(small_problem.text.n > 0);
        saw_full = saw_full || error == MR_ETOO_LARGE;
        mr_arena_done(&small);
    }
    assert_true(saw_full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_request_fills_every_field),
        cmocka_unit_test(absent_and_null_mean_the_defaults),
        cmocka_unit_test(roles_and_contents_are_told_apart),
        cmocka_unit_test(required_parameters_are_asked_for),
        cmocka_unit_test(ranges_end_where_they_say),
        cmocka_unit_test(seeds_are_any_integer_of_64_bits),
        cmocka_unit_test(stops_are_a_text_or_up_to_four),
        cmocka_unit_test(counts_end_at_their_limits),
        cmocka_unit_test(what_cannot_be_honoured_is_refused_by_name),
        cmocka_unit_test(the_same_key_twice_is_refused),
        cmocka_unit_test(broken_json_says_where),
        cmocka_unit_test(every_prefix_of_a_request_is_refused),
        cmocka_unit_test(an_escaped_nul_is_content_like_any_other),
        cmocka_unit_test(deep_nesting_is_harmless),
        cmocka_unit_test(complaints_quote_long_values_in_part),
        cmocka_unit_test(the_largest_body_is_taken),
        cmocka_unit_test(an_arena_that_is_full_is_said_to_be),
    };
    return cmocka_run_group_tests(tests, arena_set_up, arena_tear_down);
}
