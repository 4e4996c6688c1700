/* SPDX-License-Identifier: Apache-2.0 */
/* The worker wire: round trips of random frames, cuts at each byte, and everything that is not
 * exactly what the encoder writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/proto.h"

static struct mr_arena arena; /* what decoded frames hold */
static struct mr_arena drawn; /* what random frames hold */
static struct mr_prng prng;

static int set_up(void **state)
{
    (void)state;
    mr_arena_init(&arena, 1u << 28);
    mr_arena_init(&drawn, 1u << 28);
    mr_prng_init(&prng, 20261125);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mr_arena_done(&arena);
    mr_arena_done(&drawn);
    return 0;
}

/* --- random frames ------------------------------------------------------------------------- */

static struct mr_str text_draw(size_t min_n)
{
    static const struct mr_str pieces[] = {{"a", 1},  {"\0", 1},           {"\xc3\xa9", 2},
                                           {"\n", 1}, {"\xe2\x82\xac", 3}, {"\xf0\x9f\x98\x80", 4}};
    char text[128];
    size_t n = 0;
    uint64_t count = min_n + mr_prng_below(&prng, 20);
    for (uint64_t i = 0; i < count; i++) {
        struct mr_str piece = pieces[mr_prng_below(&prng, MR_COUNT_OF(pieces))];
        memcpy(text + n, piece.p, piece.n);
        n += piece.n;
    }
    return mr_str_copy(&drawn, (struct mr_str){text, n});
}

static uint64_t word_draw(void)
{
    uint64_t word = mr_prng_next(&prng);
    switch (mr_prng_below(&prng, 4)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    default:
        return word;
    }
}

static float float_draw(float low, float high)
{
    switch (mr_prng_below(&prng, 4)) {
    case 0:
        return low;
    case 1:
        return high;
    default:
        return low + (high - low) * (float)mr_prng_below(&prng, 1000) / 1000.0f;
    }
}

static void submit_draw(struct mr_wire_submit *submit)
{
    struct mr_message *messages = mr_arena_alloc(&drawn, 8 * sizeof(*messages));
    struct mr_str *stops = mr_arena_alloc(&drawn, MR_CHAT_STOPS_MAX * sizeof(*stops));
    size_t message_count = 1 + mr_prng_below(&prng, 8);
    size_t stop_count = mr_prng_below(&prng, MR_CHAT_STOPS_MAX + 1);
    for (size_t i = 0; i < message_count; i++) {
        messages[i] =
            (struct mr_message){(enum mr_role)mr_prng_below(&prng, MR_ROLE_COUNT), text_draw(0)};
    }
    for (size_t i = 0; i < stop_count; i++) {
        stops[i] = text_draw(1);
    }
    bool has_seed = mr_prng_chance(&prng, 500);
    *submit = (struct mr_wire_submit){
        .tenant = (uint32_t)word_draw(),
        .credit = (uint32_t)word_draw(),
        .priority = (uint8_t)word_draw(),
        .request_id_high = word_draw(),
        .request_id_low = word_draw(),
        .chat = {.messages = messages,
                 .message_count = message_count,
                 .sampling = {.temperature = float_draw(0, 2),
                              .top_p = float_draw(0.001f, 1),
                              .presence_penalty = float_draw(-2, 2),
                              .frequency_penalty = float_draw(-2, 2),
                              .seed = has_seed ? word_draw() : 0,
                              .has_seed = has_seed,
                              .max_tokens = (uint32_t)word_draw()},
                 .stops = stops,
                 .stop_count = stop_count},
        .resume = text_draw(0),
    };
}

static void end_draw(struct mr_wire_end *end)
{
    uint32_t prompt = (uint32_t)word_draw();
    *end = (struct mr_wire_end){
        .serial = word_draw(),
        .tenant = (uint32_t)word_draw(),
        .finish = (enum mr_finish)(1 + mr_prng_below(&prng, MR_FINISH_COUNT - 1)),
        .usage = {prompt, prompt / (uint32_t)(1 + mr_prng_below(&prng, 3)), (uint32_t)word_draw()},
        .queue_us = (uint32_t)word_draw(),
        .prefill_us = (uint32_t)word_draw(),
        .decode_us = (uint32_t)word_draw(),
        .text = text_draw(0),
    };
    if (end->finish == MR_FINISH_ERROR) {
        end->error = -1 - (int32_t)mr_prng_below(&prng, MR_EI_COUNT);
    }
}

static struct mr_wire_frame frame_draw(void)
{
    struct mr_wire_frame frame = {
        .type = (enum mr_wire_type)(1 + mr_prng_below(&prng, MR_WIRE_TYPE_COUNT - 1)),
        .stream = 1 + (uint32_t)mr_prng_below(&prng, UINT32_MAX),
    };
    switch (frame.type) {
    case MR_WIRE_HELLO:
        frame.stream = 0;
        frame.u.hello = (struct mr_wire_hello){
            .lease = word_draw(),
            .ready = mr_prng_chance(&prng, 500),
            .load_permille = (uint32_t)mr_prng_below(&prng, 1001),
            .slots = (uint32_t)word_draw(),
            .context_tokens = (uint32_t)word_draw(),
            .model = text_draw(0),
            .engine = text_draw(0),
        };
        break;
    case MR_WIRE_SUBMIT:
        submit_draw(&frame.u.submit);
        break;
    case MR_WIRE_CREDIT:
        frame.u.credit = (uint32_t)word_draw();
        break;
    case MR_WIRE_TOKENS:
        frame.u.tokens = (struct mr_wire_tokens){(uint32_t)word_draw(), text_draw(0)};
        break;
    case MR_WIRE_END:
        if (mr_prng_chance(&prng, 300)) frame.stream = 0;
        end_draw(&frame.u.end);
        break;
    case MR_WIRE_SETTLED:
        frame.stream = 0;
        frame.u.serial = word_draw();
        break;
    case MR_WIRE_STATS:
        frame.stream = 0;
        frame.u.stats = (struct mr_wire_stats){
            .running = (uint32_t)word_draw(),
            .waiting = (uint32_t)word_draw(),
            .slots = (uint32_t)word_draw(),
            .kv_used_permille = (uint32_t)mr_prng_below(&prng, 1001),
            .prompt_tokens = word_draw(),
            .completion_tokens = word_draw(),
            .cached_tokens = word_draw(),
            .requests = word_draw(),
            .ttft_us_p50 = (uint32_t)word_draw(),
            .ttft_us_p99 = (uint32_t)word_draw(),
            .itl_us_p50 = (uint32_t)word_draw(),
            .itl_us_p99 = (uint32_t)word_draw(),
            .rss_bytes = word_draw(),
        };
        break;
    case MR_WIRE_PING:
    case MR_WIRE_PONG:
        frame.stream = 0;
        break;
    default:
        break;
    }
    return frame;
}

/* --- comparison ---------------------------------------------------------------------------- */

static void assert_submits_equal(const struct mr_wire_submit *a, const struct mr_wire_submit *b)
{
    const struct mr_sampling *s = &a->chat.sampling, *t = &b->chat.sampling;
    assert_int_equal(a->tenant, b->tenant);
    assert_int_equal(a->credit, b->credit);
    assert_int_equal(a->priority, b->priority);
    assert_true(a->request_id_high == b->request_id_high);
    assert_true(a->request_id_low == b->request_id_low);
    assert_true(s->temperature == t->temperature && s->top_p == t->top_p);
    assert_true(s->presence_penalty == t->presence_penalty);
    assert_true(s->frequency_penalty == t->frequency_penalty);
    assert_true(s->seed == t->seed && s->has_seed == t->has_seed);
    assert_int_equal(s->max_tokens, t->max_tokens);
    assert_int_equal(a->chat.message_count, b->chat.message_count);
    for (size_t i = 0; i < a->chat.message_count; i++) {
        assert_int_equal(a->chat.messages[i].role, b->chat.messages[i].role);
        assert_true(mr_str_equal(a->chat.messages[i].content, b->chat.messages[i].content));
    }
    assert_int_equal(a->chat.stop_count, b->chat.stop_count);
    for (size_t i = 0; i < a->chat.stop_count; i++) {
        assert_true(mr_str_equal(a->chat.stops[i], b->chat.stops[i]));
    }
    assert_true(mr_str_equal(a->resume, b->resume));
}

static void assert_frames_equal(const struct mr_wire_frame *a, const struct mr_wire_frame *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->stream, b->stream);
    switch (a->type) {
    case MR_WIRE_HELLO:
        assert_true(a->u.hello.lease == b->u.hello.lease);
        assert_int_equal(a->u.hello.ready, b->u.hello.ready);
        assert_int_equal(a->u.hello.load_permille, b->u.hello.load_permille);
        assert_int_equal(a->u.hello.slots, b->u.hello.slots);
        assert_int_equal(a->u.hello.context_tokens, b->u.hello.context_tokens);
        assert_true(mr_str_equal(a->u.hello.model, b->u.hello.model));
        assert_true(mr_str_equal(a->u.hello.engine, b->u.hello.engine));
        break;
    case MR_WIRE_SUBMIT:
        assert_submits_equal(&a->u.submit, &b->u.submit);
        break;
    case MR_WIRE_CREDIT:
        assert_int_equal(a->u.credit, b->u.credit);
        break;
    case MR_WIRE_TOKENS:
        assert_int_equal(a->u.tokens.count, b->u.tokens.count);
        assert_true(mr_str_equal(a->u.tokens.text, b->u.tokens.text));
        break;
    case MR_WIRE_END:
        assert_true(a->u.end.serial == b->u.end.serial);
        assert_int_equal(a->u.end.tenant, b->u.end.tenant);
        assert_int_equal(a->u.end.finish, b->u.end.finish);
        assert_memory_equal(&a->u.end.usage, &b->u.end.usage, sizeof(struct mr_usage));
        assert_int_equal(a->u.end.queue_us, b->u.end.queue_us);
        assert_int_equal(a->u.end.prefill_us, b->u.end.prefill_us);
        assert_int_equal(a->u.end.decode_us, b->u.end.decode_us);
        assert_int_equal(a->u.end.error, b->u.end.error);
        assert_true(mr_str_equal(a->u.end.text, b->u.end.text));
        break;
    case MR_WIRE_SETTLED:
        assert_true(a->u.serial == b->u.serial);
        break;
    case MR_WIRE_STATS:
        /* No padding: 4 u32, 4 u64, 4 u32, u64. */
        assert_memory_equal(&a->u.stats, &b->u.stats, sizeof(a->u.stats));
        break;
    default:
        break;
    }
}

/* Decodes from a block of exactly n bytes, which lives until the next call. */
static int get(const uint8_t *bytes, size_t n, struct mr_wire_frame *ret_frame, size_t *ret_used)
{
    static char *block;
    mr_free(block);
    block = mr_alloc(n);
    if (n > 0) memcpy(block, bytes, n);
    mr_arena_reset(&arena);
    int got = mr_wire_get((struct mr_str){block, n}, &arena, ret_frame, ret_used);
    if (n == 0) block = NULL;
    return got;
}

static void block_free(void)
{
    struct mr_wire_frame frame;
    size_t used;
    (void)get(NULL, 0, &frame, &used); /* frees the block of the last call */
}

/* --- claims -------------------------------------------------------------------------------- */

static void random_frames_come_back_as_they_went(void **state)
{
    (void)state;
    struct mr_buf buf, again;
    unsigned seen[MR_WIRE_TYPE_COUNT] = {0};
    mr_buf_init(&buf, 1u << 20);
    mr_buf_init(&again, 1u << 20);
    for (int round = 0; round < 20000; round++) {
        mr_arena_reset(&drawn);
        mr_buf_reset(&buf);
        mr_buf_reset(&again);
        struct mr_wire_frame frame = frame_draw();
        seen[frame.type]++;
        mr_wire_put(&buf, &frame);
        assert_false(buf.failed);
        size_t n = buf.n;
        /* What follows a frame is not part of it. */
        mr_buf_put_str(&buf, MR_STR("next"));
        struct mr_wire_frame got;
        size_t used = 0;
        assert_int_equal(get(buf.p, buf.n, &got, &used), 1);
        assert_int_equal(used, n);
        assert_frames_equal(&frame, &got);
        mr_wire_put(&again, &got);
        assert_int_equal(again.n, n);
        assert_memory_equal(again.p, buf.p, n);
    }
    for (int type = 1; type < MR_WIRE_TYPE_COUNT; type++) {
        assert_true(seen[type] > 1000);
    }
    mr_buf_done(&buf);
    mr_buf_done(&again);
    block_free();
}

static void cut_frames_need_more(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 20);
    for (int round = 0; round < 300; round++) {
        mr_arena_reset(&drawn);
        mr_buf_reset(&buf);
        struct mr_wire_frame frame = frame_draw();
        mr_wire_put(&buf, &frame);
        for (size_t n = 0; n < buf.n; n++) {
            struct mr_wire_frame got = {.type = MR_WIRE_NONE};
            size_t used = 77;
            assert_int_equal(get(buf.p, n, &got, &used), 0);
            assert_int_equal(got.type, MR_WIRE_NONE);
            assert_int_equal(used, 77);
        }
    }
    mr_buf_done(&buf);
    block_free();
}

/* A frame whose length was changed to fit has a payload that is too short or too long. */
static void payloads_of_another_length_are_refused(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 20);
    for (int round = 0; round < 300; round++) {
        mr_arena_reset(&drawn);
        mr_buf_reset(&buf);
        struct mr_wire_frame frame = frame_draw();
        mr_wire_put(&buf, &frame);
        mr_buf_put_u8(&buf, 0);
        for (size_t n = MR_WIRE_HEADER_BYTES; n <= buf.n; n++) {
            if (n == buf.n - 1) continue; /* the right one */
            struct mr_wire_frame got;
            size_t used;
            uint32_t length = (uint32_t)n - 4;
            for (unsigned i = 0; i < 4; i++) {
                buf.p[i] = (uint8_t)(length >> (8 * i));
            }
            assert_int_equal(get(buf.p, n, &got, &used), MR_ESYNTAX);
        }
    }
    mr_buf_done(&buf);
    block_free();
}

/* Whatever is accepted is encoded to the very same bytes: there is no second spelling. */
static void accepted_bytes_are_the_only_spelling(void **state)
{
    (void)state;
    struct mr_buf buf, again;
    unsigned accepted = 0, refused = 0;
    mr_buf_init(&buf, 1u << 20);
    mr_buf_init(&again, 1u << 20);
    for (int round = 0; round < 200000; round++) {
        mr_arena_reset(&drawn);
        mr_buf_reset(&buf);
        mr_buf_reset(&again);
        struct mr_wire_frame frame = frame_draw();
        mr_wire_put(&buf, &frame);
        size_t at = 4 + mr_prng_below(&prng, buf.n - 4);
        buf.p[at] ^= (uint8_t)(1u << mr_prng_below(&prng, 8));
        struct mr_wire_frame got;
        size_t used;
        int result = get(buf.p, buf.n, &got, &used);
        if (result != 1) {
            assert_true(result == MR_ESYNTAX || result == MR_EUNSUPPORTED);
            refused++;
            continue;
        }
        accepted++;
        mr_wire_put(&again, &got);
        assert_int_equal(again.n, buf.n);
        assert_memory_equal(again.p, buf.p, buf.n);
    }
    assert_true(accepted > 1000);
    assert_true(refused > 1000);
    mr_buf_done(&buf);
    mr_buf_done(&again);
    block_free();
}

static void heads_are_judged_as_soon_as_they_show(void **state)
{
    (void)state;
    struct mr_wire_frame got;
    size_t used;
#define GET(literal) get((const uint8_t *)(literal), sizeof(literal) - 1, &got, &used)
    assert_int_equal(GET("\x08\0\0\0\x01\x09\0\0\0\0\0\0"), 1); /* PING */
    assert_int_equal(got.type, MR_WIRE_PING);
    assert_int_equal(used, MR_WIRE_HEADER_BYTES);
    assert_int_equal(GET("\x07\0\0\0"), MR_ESYNTAX);
    assert_int_equal(GET("\x08\0\0\0\x02"), MR_EUNSUPPORTED);
    assert_int_equal(GET("HTTP/"), MR_EUNSUPPORTED);
    assert_int_equal(GET("\x08\0\0\0\x01\0"), MR_ESYNTAX);
    assert_int_equal(GET("\x08\0\0\0\x01\x0b"), MR_ESYNTAX);
    assert_int_equal(GET("\x08\0\0\0\x01\x09\x01"), MR_ESYNTAX);
    assert_int_equal(GET("\x08\0\0\0\x01\x09\0\x01"), MR_ESYNTAX);
    assert_int_equal(GET("\x08\0\0\0\x01\x09\0\0\x01\0\0\0"), MR_ESYNTAX); /* PING of a stream */
    assert_int_equal(GET("\x08\0\0\0\x01\x04\0\0\0\0\0\0"), MR_ESYNTAX);   /* CANCEL of none */
    block_free();
}

static void frames_end_at_their_limit(void **state)
{
    (void)state;
    struct mr_wire_frame got;
    size_t used;
    for (size_t past = 0; past <= 1; past++) {
        uint8_t head[4];
        uint32_t length = (uint32_t)(MR_WIRE_FRAME_BYTES_MAX - 4 + past);
        for (unsigned i = 0; i < 4; i++) {
            head[i] = (uint8_t)(length >> (8 * i));
        }
        assert_int_equal(get(head, 4, &got, &used), past ? MR_ETOO_LARGE : 0);

        /* The same limit for the encoder. A TOKENS frame has 20 bytes beside its text. */
        struct mr_buf buf;
        size_t text_n = MR_WIRE_FRAME_BYTES_MAX - 20 + past;
        char *text = mr_alloc(text_n);
        assert_non_null(text);
        memset(text, 'x', text_n);
        mr_buf_init(&buf, 2u * MR_WIRE_FRAME_BYTES_MAX);
        mr_buf_put_str(&buf, MR_STR("before"));
        struct mr_wire_frame frame = {
            .type = MR_WIRE_TOKENS, .stream = 1, .u.tokens = {1, {text, text_n}}};
        mr_wire_put(&buf, &frame);
        assert_int_equal(buf.failed, past);
        assert_int_equal(buf.n, past ? 6 : 6 + MR_WIRE_FRAME_BYTES_MAX);
        if (!past) assert_int_equal(get(buf.p + 6, buf.n - 6, &got, &used), 1);
        mr_buf_done(&buf);
        mr_free(text);
    }
    block_free();
}

static void counts_of_a_submit_end_at_their_limits(void **state)
{
    (void)state;
    for (size_t past = 0; past <= 1; past++) {
        size_t count = MR_CHAT_MESSAGES_MAX + past;
        struct mr_message *messages = mr_alloc_zero(count * sizeof(*messages));
        assert_non_null(messages);
        struct mr_wire_frame frame = {.type = MR_WIRE_SUBMIT, .stream = 1};
        frame.u.submit.chat =
            (struct mr_chat){.messages = messages, .message_count = count, .sampling.top_p = 1};
        struct mr_buf buf;
        mr_buf_init(&buf, 1u << 20);
        mr_wire_put(&buf, &frame);
        assert_int_equal(buf.failed, past);
        mr_buf_reset(&buf);

        char stop[MR_CHAT_STOP_BYTES_MAX + 1];
        memset(stop, 's', sizeof(stop));
        struct mr_str stops[MR_CHAT_STOPS_MAX + 1];
        for (size_t i = 0; i < MR_COUNT_OF(stops); i++) {
            stops[i] = (struct mr_str){stop, MR_CHAT_STOP_BYTES_MAX};
        }
        frame.u.submit.chat.message_count = 1;
        frame.u.submit.chat.stops = stops;
        frame.u.submit.chat.stop_count = MR_CHAT_STOPS_MAX + past;
        mr_wire_put(&buf, &frame);
        assert_int_equal(buf.failed, past);
        mr_buf_reset(&buf);
        frame.u.submit.chat.stop_count = 1;
        stops[0].n += past;
        mr_wire_put(&buf, &frame);
        assert_int_equal(buf.failed, past);
        mr_buf_done(&buf);
        mr_free(messages);
    }
}

/* A count that the bytes cannot hold is refused before memory is asked for. */
static void forged_counts_allocate_nothing(void **state)
{
    (void)state;
    struct mr_message message = {MR_ROLE_USER, MR_STR("hi")};
    struct mr_wire_frame frame = {.type = MR_WIRE_SUBMIT, .stream = 1}, got;
    frame.u.submit.chat =
        (struct mr_chat){.messages = &message, .message_count = 1, .sampling.top_p = 1};
    struct mr_buf buf;
    size_t used;
    mr_buf_init(&buf, 1u << 20);
    mr_wire_put(&buf, &frame);
    assert_int_equal(get(buf.p, buf.n, &got, &used), 1);
    size_t count_at = MR_WIRE_HEADER_BYTES + 4 + 4 + 1 + 8 + 8 + 16 + 1 + 8 + 4;
    assert_int_equal(buf.p[count_at], 1);
    buf.p[count_at] = 0xff;
    buf.p[count_at + 1] = 0x0f;
    size_t before = arena.used_bytes;
    assert_int_equal(get(buf.p, buf.n, &got, &used), MR_ESYNTAX);
    assert_true(arena.used_bytes <= before);
    mr_buf_done(&buf);
    block_free();
}

static void what_would_be_refused_is_not_sent(void **state)
{
    (void)state;
    struct mr_message message = {MR_ROLE_USER, MR_STR("hi")};
    struct mr_wire_frame good[] = {
        {.type = MR_WIRE_TOKENS, .stream = 1, .u.tokens = {1, MR_STR("x")}},
        {.type = MR_WIRE_END, .u.end = {.finish = MR_FINISH_ERROR, .error = MR_EIO}},
        {.type = MR_WIRE_HELLO, .u.hello = {.load_permille = 1000}},
        {.type = MR_WIRE_STATS, .u.stats = {.kv_used_permille = 1000}},
        {.type = MR_WIRE_SUBMIT, .stream = 1},
    };
    good[4].u.submit.chat =
        (struct mr_chat){.messages = &message, .message_count = 1, .sampling.top_p = 1};
    struct mr_buf buf;
    mr_buf_init(&buf, 1u << 20);
#define SENT(index, change, expected)                                                              \
    do {                                                                                           \
        struct mr_wire_frame f = good[index];                                                      \
        change;                                                                                    \
        mr_buf_reset(&buf);                                                                        \
        mr_wire_put(&buf, &f);                                                                     \
        assert_int_equal(!buf.failed, expected);                                                   \
        assert_int_equal(buf.n > 0, expected);                                                     \
    } while (0)
    for (size_t i = 0; i < MR_COUNT_OF(good); i++) {
        SENT(i, (void)f, true);
        SENT(i, f.type = MR_WIRE_NONE, false);
        SENT(i, f.type = MR_WIRE_TYPE_COUNT, false);
        if (i != 1) SENT(i, f.stream = f.stream == 0, false);
    }
    SENT(0, f.u.tokens.text = MR_STR("\xc3"), false);
    SENT(1, f.u.end.finish = MR_FINISH_NONE, false);
    SENT(1, f.u.end.finish = MR_FINISH_STOP, false); /* with an error */
    SENT(1, f.u.end.error = 0, false);
    SENT(1, f.u.end.error = 1, false);
    SENT(1, f.u.end.error = -(int)MR_EI_COUNT, true);
    SENT(1, f.u.end.error = -(int)MR_EI_COUNT - 1, false);
    SENT(1, f.u.end.usage.cached_tokens = 1, false);
    SENT(2, f.u.hello.load_permille = 1001, false);
    SENT(2, f.u.hello.model = MR_STR("\xff"), false);
    SENT(3, f.u.stats.kv_used_permille = 1001, false);
    SENT(4, f.u.submit.chat.message_count = 0, false);
    SENT(4, f.u.submit.chat.sampling.temperature = 2.01f, false);
    SENT(4, f.u.submit.chat.sampling.temperature = -0.01f, false);
    SENT(4, f.u.submit.chat.sampling.temperature = (float)__builtin_nan(""), false);
    SENT(4, f.u.submit.chat.sampling.top_p = 0, false);
    SENT(4, f.u.submit.chat.sampling.top_p = 1.01f, false);
    SENT(4, f.u.submit.chat.sampling.presence_penalty = (float)__builtin_inf(), false);
    SENT(4, f.u.submit.resume = MR_STR("\xe2\x82"), false);
    /* A buffer that failed before stays failed and empty. */
    mr_buf_reset(&buf);
    buf.failed = true;
    mr_wire_put(&buf, &good[0]);
    assert_int_equal(buf.n, 0);
    mr_buf_done(&buf);
}

static void a_full_buffer_keeps_what_it_had(void **state)
{
    (void)state;
    struct mr_wire_frame frame = {
        .type = MR_WIRE_TOKENS, .stream = 1, .u.tokens = {1, MR_STR("0123456789")}};
    for (size_t limit = 4; limit <= 34; limit++) {
        struct mr_buf buf;
        mr_buf_init(&buf, limit);
        mr_buf_put_u32(&buf, 0x01020304);
        mr_wire_put(&buf, &frame);
        assert_int_equal(buf.failed, limit < 34);
        assert_int_equal(buf.n, limit < 34 ? 4 : 34);
        mr_buf_done(&buf);
    }
}

static void a_full_arena_is_out_of_memory(void **state)
{
    (void)state;
    struct mr_arena small;
    struct mr_buf buf;
    struct mr_wire_frame frame = {.type = MR_WIRE_SUBMIT, .stream = 9}, got;
    size_t used;
    mr_arena_reset(&drawn);
    do {
        submit_draw(&frame.u.submit);
    } while (frame.u.submit.chat.stop_count == 0);
    mr_buf_init(&buf, 1u << 20);
    mr_wire_put(&buf, &frame);
    mr_arena_init(&small, 0);
    assert_int_equal(mr_wire_get(mr_buf_str(&buf), &small, &got, &used), MR_ENO_MEMORY);
    mr_arena_done(&small);
    mr_buf_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_frames_come_back_as_they_went),
        cmocka_unit_test(cut_frames_need_more),
        cmocka_unit_test(payloads_of_another_length_are_refused),
        cmocka_unit_test(accepted_bytes_are_the_only_spelling),
        cmocka_unit_test(heads_are_judged_as_soon_as_they_show),
        cmocka_unit_test(frames_end_at_their_limit),
        cmocka_unit_test(counts_of_a_submit_end_at_their_limits),
        cmocka_unit_test(forged_counts_allocate_nothing),
        cmocka_unit_test(what_would_be_refused_is_not_sent),
        cmocka_unit_test(a_full_buffer_keeps_what_it_had),
        cmocka_unit_test(a_full_arena_is_out_of_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
