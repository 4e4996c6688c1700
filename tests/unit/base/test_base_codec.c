/* SPDX-License-Identifier: Apache-2.0 */
/* The codecs against the vectors of their RFCs, at the edges of the calendar, and refusing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/base.h"

#define DAY_US UINT64_C(86400000000)

static void assert_put(struct mr_buf *buf, const char *wanted)
{
    assert_false(buf->failed);
    assert_int_equal(buf->n, strlen(wanted));
    assert_memory_equal(mr_buf_str(buf).p, wanted, buf->n);
    mr_buf_reset(buf);
}

static void hex_goes_both_ways(void **state)
{
    static const uint8_t bytes[] = {0x00, 0x9F, 0xA0, 0xFF};
    uint8_t back[4] = {1, 1, 1, 1};
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 100);
    mr_hex_put(&buf, bytes, sizeof bytes);
    assert_put(&buf, "009fa0ff");
    mr_hex_put(&buf, NULL, 0);
    assert_put(&buf, "");
    assert_int_equal(mr_hex_get(MR_STR("009fA0Ff"), back, 4), 0);
    assert_memory_equal(back, bytes, 4);
    assert_int_equal(mr_hex_get(MR_STR("09afAF00"), back, 4), 0);
    assert_memory_equal(back, "\x09\xAF\xAF\x00", 4);
    assert_int_equal(mr_hex_get(MR_STR(""), back, 0), 0);
    mr_buf_done(&buf);
}

static void hex_of_the_wrong_length_or_letters_is_refused_whole(void **state)
{
    uint8_t back[2] = {7, 7};

    (void)state;
    assert_int_equal(mr_hex_get(MR_STR("00000"), back, 2), MR_ESYNTAX);
    assert_int_equal(mr_hex_get(MR_STR("000"), back, 2), MR_ESYNTAX);
    assert_int_equal(mr_hex_get(MR_STR("00g0"), back, 2), MR_ESYNTAX);
    assert_int_equal(mr_hex_get(MR_STR("0x00"), back, 2), MR_ESYNTAX);
    assert_int_equal(mr_hex_get(MR_STR("000 "), back, 2), MR_ESYNTAX);
    /* the neighbours of the digits and letters */
    for (const char *c = "/:@G`g"; *c; c++) {
        char text[4] = {'0', '0', '0', *c};
        assert_int_equal(mr_hex_get((struct mr_str){text, 4}, back, 2), MR_ESYNTAX);
    }
    assert_int_equal(mr_hex_get(MR_STR(""), back, SIZE_MAX), MR_ESYNTAX);
    assert_int_equal(back[0], 7);
    assert_int_equal(back[1], 7);
}

static void a_size_whose_text_no_memory_holds_is_refused_unread(void **state)
{
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, SIZE_MAX);
    mr_hex_put(&buf, "x", SIZE_MAX / 2 + 1);
    assert_true(buf.failed);
    mr_buf_reset(&buf);
    mr_base64_put(&buf, "x", SIZE_MAX / 4 * 3 - 2);
    assert_true(buf.failed);
    mr_buf_reset(&buf);
    mr_base64_put(&buf, "x", SIZE_MAX);
    assert_true(buf.failed);
    assert_int_equal(buf.n, 0);
    mr_buf_done(&buf);
}

/* RFC 4648, section 10. */
static const struct {
    const char *bytes;
    const char *text;
} base64_vectors[] = {
    {"", ""},
    {"f", "Zg=="},
    {"fo", "Zm8="},
    {"foo", "Zm9v"},
    {"foob", "Zm9vYg=="},
    {"fooba", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy"},
    {"\xFB\xFF\xBE", "+/++"},
};

static void base64_matches_the_rfc_both_ways_with_and_without_padding(void **state)
{
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 100);
    for (size_t i = 0; i < MR_COUNT_OF(base64_vectors); i++) {
        struct mr_str text = mr_str_from(base64_vectors[i].text);
        mr_base64_put(&buf, base64_vectors[i].bytes, strlen(base64_vectors[i].bytes));
        assert_put(&buf, base64_vectors[i].text);
        assert_int_equal(mr_base64_get(&buf, text), 0);
        assert_put(&buf, base64_vectors[i].bytes);
        while (text.n > 0 && text.p[text.n - 1] == '=') {
            text.n--;
        }
        assert_int_equal(mr_base64_get(&buf, text), 0);
        assert_put(&buf, base64_vectors[i].bytes);
    }
    mr_buf_done(&buf);
}

static void base64_that_no_writer_writes_is_refused_and_puts_nothing(void **state)
{
    static const char *const texts[] = {
        "Z",        "Zg=",      "Zg===",    "=",      "==",      "====", "Zm9v=", "Zm9v====",
        "Zm 9v",    "Zm9v\n",   "Z=9v",     "Zm=v",   "Zm9-",    "Zm9_", "Zh==",  "Zm9=",
        "Zm9vYg=a", "Zm9vY===", "Zm9v\xFF", "Zm9vYh", "Zm9vYmF", "A=AA",
    };
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 100);
    mr_buf_put_str(&buf, MR_STR("before"));
    for (size_t i = 0; i < MR_COUNT_OF(texts); i++) {
        assert_int_equal(mr_base64_get(&buf, mr_str_from(texts[i])), MR_ESYNTAX);
        assert_false(buf.failed);
        assert_int_equal(buf.n, 6);
    }
    mr_buf_done(&buf);
}

static void base64_stops_at_the_buffers_limit(void **state)
{
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 6);
    assert_int_equal(mr_base64_get(&buf, MR_STR("Zm9vYmFy")), 0);
    assert_int_equal(mr_base64_get(&buf, MR_STR("Zg==")), MR_ETOO_LARGE);
    assert_int_equal(buf.n, 6);
    mr_buf_done(&buf);
    mr_buf_init(&buf, 5);
    assert_int_equal(mr_base64_get(&buf, MR_STR("Zm9vYmFy")), MR_ETOO_LARGE);
    mr_buf_done(&buf);
}

static void base64_of_every_length_comes_back(void **state)
{
    uint8_t bytes[256];
    struct mr_buf text;
    struct mr_buf back;

    (void)state;
    mr_buf_init(&text, 1000);
    mr_buf_init(&back, 1000);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 167 + 13);
    }
    for (size_t n = 0; n <= sizeof bytes; n++) {
        mr_buf_reset(&text);
        mr_buf_reset(&back);
        mr_base64_put(&text, bytes, n);
        assert_int_equal(text.n, (n + 2) / 3 * 4);
        assert_int_equal(mr_base64_get(&back, mr_buf_str(&text)), 0);
        assert_int_equal(back.n, n);
        assert_memory_equal(mr_buf_str(&back).p, bytes, n);
    }
    mr_buf_done(&text);
    mr_buf_done(&back);
}

static void time_is_right_at_the_edges_of_the_calendar(void **state)
{
    static const struct {
        uint64_t seconds;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00Z"},           {1, "1970-01-01T00:00:01Z"},
        {86399, "1970-01-01T23:59:59Z"},       {86400, "1970-01-02T00:00:00Z"},
        {5097599, "1970-02-28T23:59:59Z"},     {5097600, "1970-03-01T00:00:00Z"},
        {31535999, "1970-12-31T23:59:59Z"},    {68169600, "1972-02-29T00:00:00Z"},
        {951782400, "2000-02-29T00:00:00Z"},   {951868800, "2000-03-01T00:00:00Z"},
        {1000000000, "2001-09-09T01:46:40Z"},  {1709164800, "2024-02-29T00:00:00Z"},
        {1795424750, "2026-11-23T09:05:50Z"},  {2147483648, "2038-01-19T03:14:08Z"},
        {4107542399, "2100-02-28T23:59:59Z"},  {4107542400, "2100-03-01T00:00:00Z"},
        {13574563200, "2400-02-29T00:00:00Z"}, {253402300799, "9999-12-31T23:59:59Z"},
    };
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 100);
    for (size_t i = 0; i < MR_COUNT_OF(cases); i++) {
        mr_time_put_rfc3339(&buf, cases[i].seconds * 1000000);
        assert_put(&buf, cases[i].text);
        mr_time_put_rfc3339(&buf, cases[i].seconds * 1000000 + 999999);
        assert_put(&buf, cases[i].text);
    }
    mr_time_put_rfc3339(&buf, UINT64_C(253402300800000000));
    assert_put(&buf, "9999-12-31T23:59:59Z");
    mr_time_put_rfc3339(&buf, UINT64_MAX);
    assert_put(&buf, "9999-12-31T23:59:59Z");
    mr_buf_done(&buf);
}

/* A calendar kept by counting, day by day through all 8,030 years, must agree with the formula. */
static void time_agrees_with_a_counted_calendar_to_the_year_9999(void **state)
{
    static const unsigned lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned year = 1970;
    unsigned month = 1;
    unsigned day = 1;
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 100);
    for (uint64_t days = 0; year < 10000; days++) {
        bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        char wanted[48];
        (void)snprintf(wanted, sizeof wanted, "%04u-%02u-%02uT00:00:00Z", year, month, day);
        mr_time_put_rfc3339(&buf, days * DAY_US);
        if (buf.n != 20 || memcmp(buf.p, wanted, 20) != 0) {
            fail_msg("day %llu: %.*s, not %s", (unsigned long long)days,
                     MR_STR_ARG(mr_buf_str(&buf)), wanted);
        }
        mr_buf_reset(&buf);
        day++;
        if (day > lengths[month - 1] + (month == 2 && leap ? 1u : 0u)) {
            day = 1;
            month = month % 12 + 1;
            year += month == 1 ? 1 : 0;
        }
    }
    mr_buf_done(&buf);
}

static void json_strings_are_escaped(void **state)
{
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 1000);
    mr_json_put_string(&buf, (struct mr_str){0});
    assert_put(&buf, "\"\"");
    mr_json_put_string(&buf, MR_STR("plain / text\x7F"));
    assert_put(&buf, "\"plain / text\x7F\"");
    mr_json_put_string(&buf, MR_STR("\"\\\b\f\n\r\t"));
    assert_put(&buf, "\"\\\"\\\\\\b\\f\\n\\r\\t\"");
    mr_json_put_string(&buf, MR_STR("\x00\x01\x1F"));
    assert_put(&buf, "\"\\u0000\\u0001\\u001f\"");
    mr_json_put_string(&buf, MR_STR("\xE2\x82\xAC \xF0\x9F\x98\x80"));
    assert_put(&buf, "\"\xE2\x82\xAC \xF0\x9F\x98\x80\"");
    mr_buf_done(&buf);
}

/* One replacement for each maximal part, as the Unicode standard recommends (section 3.9). */
static void invalid_utf8_becomes_replacement_characters(void **state)
{
    struct mr_buf buf;

    (void)state;
    mr_buf_init(&buf, 1000);
    mr_json_put_string(&buf, MR_STR("a\xFFz"));
    assert_put(&buf, "\"a\xEF\xBF\xBDz\"");
    mr_json_put_string(&buf, MR_STR("\xE2\x82"));
    assert_put(&buf, "\"\xEF\xBF\xBD\"");
    mr_json_put_string(&buf, MR_STR("\xE2\x82\xE2\x82\xAC"));
    assert_put(&buf, "\"\xEF\xBF\xBD\xE2\x82\xAC\"");
    mr_json_put_string(&buf, MR_STR("\xC0\x80\xED\xA0\x80"));
    assert_put(&buf, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
    mr_json_put_string(&buf, MR_STR("\xF0\x9F\x98\"\n"));
    assert_put(&buf, "\"\xEF\xBF\xBD\\\"\\n\"");
    mr_buf_done(&buf);
}

/* Text is looked at eight bytes at a time: every byte value, alone at every place of three words.
 */
static void every_byte_is_treated_alike_at_every_place(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        for (size_t place = 0; place < 24; place++) {
            char text[24];
            char wanted[64];
            size_t n = 0;
            struct mr_buf buf;

            memset(text, 0x7F, sizeof text);
            text[place] = (char)c;
            wanted[n++] = '"';
            memset(wanted + n, 0x7F, place);
            n += place;
            if (c >= 0x80) {
                memcpy(wanted + n, "\xEF\xBF\xBD", 3);
                n += 3;
            } else if (c == '"' || c == '\\') {
                wanted[n++] = '\\';
                wanted[n++] = (char)c;
            } else if (c < 0x20 && strchr("\b\f\n\r\t", (int)c) && c != 0) {
                wanted[n++] = '\\';
                wanted[n++] = "btn_fr"[c - 8];
            } else if (c < 0x20) {
                n += (size_t)snprintf(wanted + n, 7, "\\u%04x", c);
            } else {
                wanted[n++] = (char)c;
            }
            memset(wanted + n, 0x7F, 23 - place);
            n += 23 - place;
            wanted[n++] = '"';
            mr_buf_init(&buf, 100);
            mr_json_put_string(&buf, (struct mr_str){text, sizeof text});
            assert_int_equal(buf.n, n);
            assert_memory_equal(buf.p, wanted, n);
            mr_buf_done(&buf);
            assert_int_equal(mr_utf8_valid_prefix((struct mr_str){text, sizeof text}),
                             c >= 0x80 ? place : sizeof text);
        }
    }
}

static void a_codec_puts_all_or_nothing_at_every_limit(void **state)
{
    (void)state;
    for (size_t limit = 0; limit < 40; limit++) {
        struct mr_buf buf;
        mr_buf_init(&buf, limit);
        mr_json_put_string(&buf, MR_STR("abc\n\xFF\x01 def"));
        assert_int_equal(buf.n, limit >= 20 ? 20 : 0);
        assert_int_equal(buf.failed, limit < 20);
        mr_buf_done(&buf);
        mr_buf_init(&buf, limit);
        mr_time_put_rfc3339(&buf, 0);
        assert_int_equal(buf.n, limit >= 20 ? 20 : 0);
        mr_buf_done(&buf);
        mr_buf_init(&buf, limit);
        mr_base64_put(&buf, "0123456789abcde", 15);
        mr_hex_put(&buf, "ab", 2);
        assert_int_equal(buf.n, limit < 20 ? 0 : (limit < 24 ? 20 : 24));
        mr_buf_done(&buf);
    }
}

static void secrets_are_equal_only_when_every_byte_is(void **state)
{
    char a[33] = "0123456789abcdef0123456789abcdef";
    char b[33] = "0123456789abcdef0123456789abcdef";

    (void)state;
    assert_true(mr_secret_equal(mr_str_from(a), mr_str_from(b)));
    for (size_t i = 0; i < 32; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            b[i] = (char)(b[i] ^ (1 << bit));
            assert_false(mr_secret_equal((struct mr_str){a, 32}, (struct mr_str){b, 32}));
            b[i] = (char)(b[i] ^ (1 << bit));
        }
    }
    assert_false(mr_secret_equal((struct mr_str){a, 31}, (struct mr_str){b, 32}));
    assert_true(mr_secret_equal((struct mr_str){0}, MR_STR("")));
}

/* Eight bytes are looked at together: each byte value at each place among plain ones. */
static void json_strings_are_escaped_at_every_place(void **state)
{
    (void)state;
    for (unsigned value = 0; value < 256; value++) {
        for (size_t n = 1; n <= 20; n++) {
            for (size_t at = 0; at < n; at++) {
                char text[20];
                char expected[64];
                size_t expected_n = 0;
                struct mr_buf buf;

                memset(text, 'x', sizeof text);
                text[at] = (char)value;
                expected[expected_n++] = '"';
                for (size_t i = 0; i < n; i++) {
                    const char *letter = i == at && value != 0
                                             ? strchr("\"\"\\\\\bb\ff\nn\rr\tt", (int)value)
                                             : NULL;

                    if (i == at && value >= 0x80) {
                        memcpy(expected + expected_n, "\xEF\xBF\xBD", 3);
                        expected_n += 3;
                    } else if (letter != NULL && (value < 0x20 || value == '"' || value == '\\')) {
                        expected[expected_n++] = '\\';
                        expected[expected_n++] = letter[1];
                    } else if (i == at && value < 0x20) {
                        expected_n += (size_t)snprintf(expected + expected_n, 7, "\\u%04x", value);
                    } else {
                        expected[expected_n++] = text[i];
                    }
                }
                expected[expected_n++] = '"';
                mr_buf_init(&buf, 256);
                mr_json_put_string(&buf, (struct mr_str){text, n});
                assert_int_equal(buf.n, expected_n);
                assert_memory_equal(buf.p, expected, expected_n);
                mr_buf_done(&buf);
            }
        }
    }
}

static void utf8_is_judged_at_every_place(void **state)
{
    (void)state;
    for (unsigned value = 0; value < 256; value++) {
        for (size_t n = 1; n <= 20; n++) {
            for (size_t at = 0; at < n; at++) {
                char text[20];

                memset(text, 'x', sizeof text);
                text[at] = (char)value;
                assert_int_equal(mr_utf8_valid_prefix((struct mr_str){text, n}),
                                 value < 0x80 ? n : at);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_strings_are_escaped_at_every_place),
        cmocka_unit_test(utf8_is_judged_at_every_place),
        cmocka_unit_test(hex_goes_both_ways),
        cmocka_unit_test(hex_of_the_wrong_length_or_letters_is_refused_whole),
        cmocka_unit_test(a_size_whose_text_no_memory_holds_is_refused_unread),
        cmocka_unit_test(base64_matches_the_rfc_both_ways_with_and_without_padding),
        cmocka_unit_test(base64_that_no_writer_writes_is_refused_and_puts_nothing),
        cmocka_unit_test(base64_stops_at_the_buffers_limit),
        cmocka_unit_test(base64_of_every_length_comes_back),
        cmocka_unit_test(time_is_right_at_the_edges_of_the_calendar),
        cmocka_unit_test(time_agrees_with_a_counted_calendar_to_the_year_9999),
        cmocka_unit_test(json_strings_are_escaped),
        cmocka_unit_test(invalid_utf8_becomes_replacement_characters),
        cmocka_unit_test(every_byte_is_treated_alike_at_every_place),
        cmocka_unit_test(a_codec_puts_all_or_nothing_at_every_limit),
        cmocka_unit_test(secrets_are_equal_only_when_every_byte_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
