/* SPDX-License-Identifier: Apache-2.0 */
/* Frames between a gate and an inference worker: layouts in docs/internals/wire.md.
 *
 * One function says what a valid frame is, and both ends ask it: what the encoder would not send,
 * the decoder does not take. Each accepted frame has exactly one encoding.
 *
 * Owns:       nothing; arrays go to the caller's arena, strings point into the caller's bytes.
 * Invariants: (1) decode(encode(frame)) equals the frame;
 *             (2) encode(decode(bytes)) equals the bytes;
 *             (3) a failed put leaves the buffer as it was, but for `failed`.
 * Never:      I/O, an allocation larger than the bytes at hand justify.
 * Cost:       O(bytes).
 * Tests:      tests/unit/proto/test_proto_wire.c, tests/fuzz/proto/fuzz_wire.c
 */
#include "proto/proto.h"

/* A frame's length says how many bytes follow the length. */
#define LENGTH_BYTES      4u
#define HEADER_REST_BYTES (MR_WIRE_HEADER_BYTES - LENGTH_BYTES)
/* The fewest bytes that a message and a stop take: they bound counts before memory is asked for. */
#define MESSAGE_BYTES_MIN 5u
#define STOP_BYTES_MIN    4u

_Static_assert(MR_WIRE_FRAME_BYTES_MAX > MR_HTTP_BODY_BYTES_MAX,
               "a chat that came in one body goes in one frame");
_Static_assert(MR_WIRE_TYPE_COUNT == MR_WIRE_PONG + 1, "the table below has them all");

/* Which streams a type speaks of. */
enum stream_rule { STREAM_ZERO, STREAM_SET, STREAM_ANY };
static const enum stream_rule stream_rules[MR_WIRE_TYPE_COUNT] = {
    [MR_WIRE_HELLO] = STREAM_ZERO,   [MR_WIRE_SUBMIT] = STREAM_SET, [MR_WIRE_CREDIT] = STREAM_SET,
    [MR_WIRE_CANCEL] = STREAM_SET,   [MR_WIRE_TOKENS] = STREAM_SET, [MR_WIRE_END] = STREAM_ANY,
    [MR_WIRE_SETTLED] = STREAM_ZERO, [MR_WIRE_STATS] = STREAM_ZERO, [MR_WIRE_PING] = STREAM_ZERO,
    [MR_WIRE_PONG] = STREAM_ZERO,
};

/* --- what is valid ------------------------------------------------------------------------- */

static bool text_is_valid(struct mr_str s)
{
    return mr_utf8_valid_prefix(s) == s.n;
}

/* NaN fails both comparisons. */
static bool within(float value, float low, float high)
{
    return value >= low && value <= high;
}

static bool submit_is_valid(const struct mr_wire_submit *submit)
{
    const struct mr_chat *chat = &submit->chat;
    const struct mr_sampling *sampling = &chat->sampling;
    if (!within(sampling->temperature, 0.0f, 2.0f)) return false;
    if (!within(sampling->top_p, 0.0f, 1.0f) || sampling->top_p == 0.0f) return false;
    if (!within(sampling->presence_penalty, -2.0f, 2.0f)) return false;
    if (!within(sampling->frequency_penalty, -2.0f, 2.0f)) return false;
    if (chat->message_count == 0 || chat->message_count > MR_CHAT_MESSAGES_MAX) return false;
    if (chat->stop_count > MR_CHAT_STOPS_MAX) return false;
    for (size_t i = 0; i < chat->message_count; i++) {
        if ((unsigned)chat->messages[i].role >= MR_ROLE_COUNT) return false;
        if (!text_is_valid(chat->messages[i].content)) return false;
    }
    for (size_t i = 0; i < chat->stop_count; i++) {
        if (chat->stops[i].n == 0 || chat->stops[i].n > MR_CHAT_STOP_BYTES_MAX) return false;
        if (!text_is_valid(chat->stops[i])) return false;
    }
    return text_is_valid(submit->resume);
}

static bool end_is_valid(const struct mr_wire_end *end)
{
    if (end->finish == MR_FINISH_NONE || (unsigned)end->finish >= MR_FINISH_COUNT) return false;
    if (end->usage.cached_tokens > end->usage.prompt_tokens) return false;
    /* An error has a number from the table, and nothing else has one. */
    if ((end->finish == MR_FINISH_ERROR) != (end->error != 0)) return false;
    if (end->error > 0 || end->error < -(int32_t)MR_EI_COUNT) return false;
    return text_is_valid(end->text);
}

static bool frame_is_valid(const struct mr_wire_frame *frame)
{
    if (frame->type <= MR_WIRE_NONE || frame->type >= MR_WIRE_TYPE_COUNT) return false;
    enum stream_rule rule = stream_rules[frame->type];
    if (rule != STREAM_ANY && (frame->stream != 0) != (rule == STREAM_SET)) return false;
    switch (frame->type) {
    case MR_WIRE_HELLO:
        return frame->u.hello.load_permille <= 1000 && text_is_valid(frame->u.hello.model) &&
               text_is_valid(frame->u.hello.engine);
    case MR_WIRE_SUBMIT:
        return submit_is_valid(&frame->u.submit);
    case MR_WIRE_TOKENS:
        return text_is_valid(frame->u.tokens.text);
    case MR_WIRE_END:
        return end_is_valid(&frame->u.end);
    case MR_WIRE_STATS:
        return frame->u.stats.kv_used_permille <= 1000;
    default:
        return true;
    }
}

/* --- encoding ------------------------------------------------------------------------------ */

static void put_float(struct mr_buf *buf, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    mr_buf_put_u32(buf, bits);
}

static void put_hello(struct mr_buf *buf, const struct mr_wire_hello *hello)
{
    mr_buf_put_u64(buf, hello->lease);
    mr_buf_put_u8(buf, hello->ready ? 1 : 0);
    mr_buf_put_u32(buf, hello->load_permille);
    mr_buf_put_u32(buf, hello->slots);
    mr_buf_put_u32(buf, hello->context_tokens);
    mr_buf_put_bytes32(buf, hello->model);
    mr_buf_put_bytes32(buf, hello->engine);
}

static void put_submit(struct mr_buf *buf, const struct mr_wire_submit *submit)
{
    const struct mr_chat *chat = &submit->chat;
    const struct mr_sampling *sampling = &chat->sampling;
    mr_buf_put_u32(buf, submit->tenant);
    mr_buf_put_u32(buf, submit->credit);
    mr_buf_put_u8(buf, submit->priority);
    mr_buf_put_u64(buf, submit->request_id_high);
    mr_buf_put_u64(buf, submit->request_id_low);
    put_float(buf, sampling->temperature);
    put_float(buf, sampling->top_p);
    put_float(buf, sampling->presence_penalty);
    put_float(buf, sampling->frequency_penalty);
    mr_buf_put_u8(buf, sampling->has_seed ? 1 : 0);
    mr_buf_put_u64(buf, sampling->has_seed ? sampling->seed : 0);
    mr_buf_put_u32(buf, sampling->max_tokens);
    mr_buf_put_u32(buf, (uint32_t)chat->message_count);
    for (size_t i = 0; i < chat->message_count; i++) {
        mr_buf_put_u8(buf, (uint8_t)chat->messages[i].role);
        mr_buf_put_bytes32(buf, chat->messages[i].content);
    }
    mr_buf_put_u8(buf, (uint8_t)chat->stop_count);
    for (size_t i = 0; i < chat->stop_count; i++) {
        mr_buf_put_bytes32(buf, chat->stops[i]);
    }
    mr_buf_put_bytes32(buf, submit->resume);
}

static void put_end(struct mr_buf *buf, const struct mr_wire_end *end)
{
    mr_buf_put_u64(buf, end->serial);
    mr_buf_put_u32(buf, end->tenant);
    mr_buf_put_u8(buf, (uint8_t)end->finish);
    mr_buf_put_u32(buf, end->usage.prompt_tokens);
    mr_buf_put_u32(buf, end->usage.cached_tokens);
    mr_buf_put_u32(buf, end->usage.completion_tokens);
    mr_buf_put_u32(buf, end->queue_us);
    mr_buf_put_u32(buf, end->prefill_us);
    mr_buf_put_u32(buf, end->decode_us);
    mr_buf_put_u32(buf, (uint32_t)end->error);
    mr_buf_put_bytes32(buf, end->text);
}

static void put_stats(struct mr_buf *buf, const struct mr_wire_stats *stats)
{
    mr_buf_put_u32(buf, stats->running);
    mr_buf_put_u32(buf, stats->waiting);
    mr_buf_put_u32(buf, stats->slots);
    mr_buf_put_u32(buf, stats->kv_used_permille);
    mr_buf_put_u64(buf, stats->prompt_tokens);
    mr_buf_put_u64(buf, stats->completion_tokens);
    mr_buf_put_u64(buf, stats->cached_tokens);
    mr_buf_put_u64(buf, stats->requests);
    mr_buf_put_u32(buf, stats->ttft_us_p50);
    mr_buf_put_u32(buf, stats->ttft_us_p99);
    mr_buf_put_u32(buf, stats->itl_us_p50);
    mr_buf_put_u32(buf, stats->itl_us_p99);
    mr_buf_put_u64(buf, stats->rss_bytes);
}

static void put_payload(struct mr_buf *buf, const struct mr_wire_frame *frame)
{
    switch (frame->type) {
    case MR_WIRE_HELLO:
        put_hello(buf, &frame->u.hello);
        return;
    case MR_WIRE_SUBMIT:
        put_submit(buf, &frame->u.submit);
        return;
    case MR_WIRE_CREDIT:
        mr_buf_put_u32(buf, frame->u.credit);
        return;
    case MR_WIRE_TOKENS:
        mr_buf_put_u32(buf, frame->u.tokens.count);
        mr_buf_put_bytes32(buf, frame->u.tokens.text);
        return;
    case MR_WIRE_END:
        put_end(buf, &frame->u.end);
        return;
    case MR_WIRE_SETTLED:
        mr_buf_put_u64(buf, frame->u.serial);
        return;
    case MR_WIRE_STATS:
        put_stats(buf, &frame->u.stats);
        return;
    default:
        return; /* CANCEL, PING and PONG say all by their type */
    }
}

void mr_wire_put(struct mr_buf *buf, const struct mr_wire_frame *frame)
{
    if (buf->failed) return;
    if (!frame_is_valid(frame)) {
        buf->failed = true;
        return;
    }
    size_t start = buf->n;
    mr_buf_put_u32(buf, 0); /* the length, when it is known */
    mr_buf_put_u8(buf, MR_WIRE_VERSION);
    mr_buf_put_u8(buf, (uint8_t)frame->type);
    mr_buf_put_u16(buf, 0);
    mr_buf_put_u32(buf, frame->stream);
    put_payload(buf, frame);
    size_t n = buf->n - start;
    if (n > MR_WIRE_FRAME_BYTES_MAX) buf->failed = true;
    if (buf->failed) {
        buf->n = start;
        return;
    }
    uint32_t length = (uint32_t)(n - LENGTH_BYTES);
    for (unsigned i = 0; i < LENGTH_BYTES; i++) {
        buf->p[start + i] = (uint8_t)(length >> (8 * i));
    }
}

/* --- decoding ------------------------------------------------------------------------------ */

static float read_float(struct mr_reader *reader)
{
    uint32_t bits = mr_read_u32(reader);
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* Anything but 0 and 1 would have a second encoding. */
static bool read_bool(struct mr_reader *reader)
{
    uint8_t byte = mr_read_u8(reader);
    if (byte > 1) reader->failed = true;
    return byte == 1;
}

static void read_hello(struct mr_reader *reader, struct mr_wire_hello *hello)
{
    hello->lease = mr_read_u64(reader);
    hello->ready = read_bool(reader);
    hello->load_permille = mr_read_u32(reader);
    hello->slots = mr_read_u32(reader);
    hello->context_tokens = mr_read_u32(reader);
    hello->model = mr_read_bytes32(reader);
    hello->engine = mr_read_bytes32(reader);
}

static int read_messages(struct mr_reader *reader, struct mr_arena *arena, struct mr_chat *chat)
{
    size_t count = mr_read_u32(reader);
    if (reader->failed || count == 0 || count > MR_CHAT_MESSAGES_MAX) return MR_ESYNTAX;
    if (count > reader->n / MESSAGE_BYTES_MIN) return MR_ESYNTAX;
    struct mr_message *messages = mr_arena_alloc(arena, count * sizeof(*messages));
    if (messages == NULL) return MR_ENO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        uint8_t role = mr_read_u8(reader);
        if (role >= MR_ROLE_COUNT) return MR_ESYNTAX;
        messages[i] = (struct mr_message){
            .role = (enum mr_role)role,
            .content = mr_read_bytes32(reader),
        };
    }
    chat->messages = messages;
    chat->message_count = count;
    return 0;
}

static int read_stops(struct mr_reader *reader, struct mr_arena *arena, struct mr_chat *chat)
{
    size_t count = mr_read_u8(reader);
    if (reader->failed || count > MR_CHAT_STOPS_MAX) return MR_ESYNTAX;
    if (count > reader->n / STOP_BYTES_MIN) return MR_ESYNTAX;
    if (count == 0) return 0;
    struct mr_str *stops = mr_arena_alloc(arena, count * sizeof(*stops));
    if (stops == NULL) return MR_ENO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        stops[i] = mr_read_bytes32(reader);
    }
    chat->stops = stops;
    chat->stop_count = count;
    return 0;
}

static int read_submit(struct mr_reader *reader, struct mr_arena *arena,
                       struct mr_wire_submit *submit)
{
    struct mr_sampling *sampling = &submit->chat.sampling;
    submit->tenant = mr_read_u32(reader);
    submit->credit = mr_read_u32(reader);
    submit->priority = mr_read_u8(reader);
    submit->request_id_high = mr_read_u64(reader);
    submit->request_id_low = mr_read_u64(reader);
    sampling->temperature = read_float(reader);
    sampling->top_p = read_float(reader);
    sampling->presence_penalty = read_float(reader);
    sampling->frequency_penalty = read_float(reader);
    sampling->has_seed = read_bool(reader);
    sampling->seed = mr_read_u64(reader);
    if (!sampling->has_seed && sampling->seed != 0) return MR_ESYNTAX;
    sampling->max_tokens = mr_read_u32(reader);
    int error = read_messages(reader, arena, &submit->chat);
    if (error == 0) error = read_stops(reader, arena, &submit->chat);
    submit->resume = mr_read_bytes32(reader);
    return error;
}

static void read_end(struct mr_reader *reader, struct mr_wire_end *end)
{
    end->serial = mr_read_u64(reader);
    end->tenant = mr_read_u32(reader);
    end->finish = (enum mr_finish)mr_read_u8(reader);
    end->usage.prompt_tokens = mr_read_u32(reader);
    end->usage.cached_tokens = mr_read_u32(reader);
    end->usage.completion_tokens = mr_read_u32(reader);
    end->queue_us = mr_read_u32(reader);
    end->prefill_us = mr_read_u32(reader);
    end->decode_us = mr_read_u32(reader);
    end->error = (int32_t)mr_read_u32(reader);
    end->text = mr_read_bytes32(reader);
}

static void read_stats(struct mr_reader *reader, struct mr_wire_stats *stats)
{
    stats->running = mr_read_u32(reader);
    stats->waiting = mr_read_u32(reader);
    stats->slots = mr_read_u32(reader);
    stats->kv_used_permille = mr_read_u32(reader);
    stats->prompt_tokens = mr_read_u64(reader);
    stats->completion_tokens = mr_read_u64(reader);
    stats->cached_tokens = mr_read_u64(reader);
    stats->requests = mr_read_u64(reader);
    stats->ttft_us_p50 = mr_read_u32(reader);
    stats->ttft_us_p99 = mr_read_u32(reader);
    stats->itl_us_p50 = mr_read_u32(reader);
    stats->itl_us_p99 = mr_read_u32(reader);
    stats->rss_bytes = mr_read_u64(reader);
}

static int read_payload(struct mr_reader *reader, struct mr_arena *arena,
                        struct mr_wire_frame *frame)
{
    switch (frame->type) {
    case MR_WIRE_HELLO:
        read_hello(reader, &frame->u.hello);
        return 0;
    case MR_WIRE_SUBMIT:
        return read_submit(reader, arena, &frame->u.submit);
    case MR_WIRE_CREDIT:
        frame->u.credit = mr_read_u32(reader);
        return 0;
    case MR_WIRE_TOKENS:
        frame->u.tokens.count = mr_read_u32(reader);
        frame->u.tokens.text = mr_read_bytes32(reader);
        return 0;
    case MR_WIRE_END:
        read_end(reader, &frame->u.end);
        return 0;
    case MR_WIRE_SETTLED:
        frame->u.serial = mr_read_u64(reader);
        return 0;
    case MR_WIRE_STATS:
        read_stats(reader, &frame->u.stats);
        return 0;
    default:
        return 0;
    }
}

/* What can be said from the first bytes, so that a peer that speaks something else is refused
 * before a whole frame of it is waited for. */
static int head_check(struct mr_str bytes, uint32_t length)
{
    const uint8_t *p = (const uint8_t *)bytes.p;
    if (bytes.n > 4 && p[4] != MR_WIRE_VERSION) return MR_EUNSUPPORTED;
    if (length < HEADER_REST_BYTES) return MR_ESYNTAX;
    if (length > MR_WIRE_FRAME_BYTES_MAX - LENGTH_BYTES) return MR_ETOO_LARGE;
    if (bytes.n > 5 && (p[5] == MR_WIRE_NONE || p[5] >= MR_WIRE_TYPE_COUNT)) return MR_ESYNTAX;
    if ((bytes.n > 6 && p[6] != 0) || (bytes.n > 7 && p[7] != 0)) return MR_ESYNTAX;
    return 0;
}

int mr_wire_get(struct mr_str bytes, struct mr_arena *arena, struct mr_wire_frame *ret_frame,
                size_t *ret_used)
{
    if (bytes.n < LENGTH_BYTES) return 0;
    struct mr_reader reader = mr_reader_from(bytes);
    uint32_t length = mr_read_u32(&reader);
    int error = head_check(bytes, length);
    if (error != 0) return error;
    if (reader.n < length) return 0;

    reader.n = length;
    (void)mr_read_u8(&reader); /* the version: checked */
    struct mr_wire_frame frame = {.type = (enum mr_wire_type)mr_read_u8(&reader)};
    (void)mr_read_u16(&reader); /* zero: checked */
    frame.stream = mr_read_u32(&reader);
    error = read_payload(&reader, arena, &frame);
    if (error != 0) return error;
    if (reader.failed || reader.n != 0 || !frame_is_valid(&frame)) return MR_ESYNTAX;
    *ret_frame = frame;
    *ret_used = (size_t)length + LENGTH_BYTES;
    return 1;
}
