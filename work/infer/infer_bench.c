/* SPDX-License-Identifier: Apache-2.0 */
/* Measures the engine as a client sees it: prefill and decode at 1, 4 and 16 streams.
 *
 * Two turns for each point. First every stream asks for one token: all prompt tokens over the time
 * until the last has it is prefill. Then the same prompts, which are in the cache now, ask for
 * BENCH_GENERATE tokens: all of them over that time is decode. The peer in `millrace bench infer` is
 * measured the same way, so neither the order of work nor a window of time favours one.
 *
 * Owns:       an engine for the length of a run.
 * Thread:     the process's only one.
 * Fails:      with one line on stderr.
 * Ends:       infer_bench_run.
 */
#include "infer_int.h"

#include <stdio.h>

#define BENCH_STREAMS_MAX 16u
#define BENCH_GENERATE    48u
#define SHARED_TOKENS     1000u

struct bench {
    struct infer_engine *engine;
    struct mr_usage usage; /* summed over the streams of this turn */
    uint32_t ended;
    uint64_t seed;
};

struct point {
    uint32_t streams, prompt, shared;
};

static void sink_tokens(void *context, const struct infer_request *request, uint32_t count,
                        struct mr_str text)
{
    (void)context; /* the sums come with the ends */
    (void)request;
    (void)count;
    (void)text;
}

static void sink_end(void *context, const struct infer_request *request,
                     const struct mr_wire_end *end)
{
    struct bench *bench = context;
    (void)request;
    bench->usage.prompt_tokens += end->usage.prompt_tokens;
    bench->usage.cached_tokens += end->usage.cached_tokens;
    bench->usage.completion_tokens += end->usage.completion_tokens;
    bench->ended++;
}

static bool sink_can_take(void *context, int owner)
{
    (void)context;
    (void)owner;
    return true;
}

/* About `count` tokens of words that differ from stream to stream. */
static void words_put(struct mr_buf *buf, struct mr_prng *prng, uint32_t count)
{
    static const char *const words[] = {"river", "stone",  "light", "paper", "garden", "window",
                                        "music", "winter", "bread", "horse", "letter", "bridge",
                                        "cloud", "market", "story", "green"};
    for (uint32_t i = 0; i < count; i++) {
        mr_buf_printf(buf, " %s", words[mr_prng_below(prng, MR_COUNT_OF(words))]);
    }
}

static int stream_submit(struct bench *bench, const struct point *point, uint32_t index,
                         uint32_t generate)
{
    mr_cleanup(mr_buf_done) struct mr_buf text;
    mr_buf_init(&text, 1u << 20);
    struct mr_prng prng;
    mr_prng_init(&prng, bench->seed);
    words_put(&text, &prng, point->shared);
    mr_prng_init(&prng, bench->seed + 1 + index);
    uint32_t head = 40; /* the template and the question */
    words_put(&text, &prng, point->prompt - MR_MIN(point->prompt, point->shared + head));
    mr_buf_put_str(&text, MR_STR(" Tell me a very long story with these words."));
    struct mr_message message = {MR_ROLE_USER, mr_buf_str(&text)};
    struct mr_wire_submit submit = {
        .tenant = 1,
        .credit = 1u << 20,
        .chat = {.messages = &message,
                 .message_count = 1,
                 .sampling = {.top_p = 1.0f, .max_tokens = generate}},
    };
    struct mr_wire_end refused;
    int error = infer_engine_submit(bench->engine, 0, index + 1, &submit, &refused);
    if (error != 0) {
        (void)fprintf(stderr, "millrace-infer: bench: %.*s\n", MR_STR_ARG(refused.text));
    }
    return error;
}

/* All streams of a point at once; answers how long it took until the last one ended. */
static int turn_run(struct bench *bench, const struct point *point, uint32_t generate,
                    uint64_t *ret_us)
{
    struct infer_engine *engine = bench->engine;
    bench->usage = (struct mr_usage){0};
    bench->ended = 0;
    uint64_t start_us = infer_now_us();
    for (uint32_t i = 0; i < point->streams; i++) {
        int error = stream_submit(bench, point, i, generate);
        if (error != 0) return error;
    }
    while (bench->ended < point->streams) {
        (void)infer_engine_step(engine);
    }
    *ret_us = MR_MAX(infer_now_us() - start_us, 1u);
    for (size_t i = 0; i < MR_WIRE_UNSETTLED_MAX; i++) {
        struct infer_meter_slot *slot = &engine->meter.slots[i];
        if (slot->state == MR_METER_ENDED) {
            (void)infer_meter_settle(&engine->meter, slot->end.serial);
        }
    }
    return 0;
}

static int point_run(struct bench *bench, const struct point *point, struct mr_buf *out)
{
    uint64_t prefill_us = 1;
    uint64_t decode_us = 1;
    bench->seed += 1000;
    int error = turn_run(bench, point, 1, &prefill_us);
    struct mr_usage first = bench->usage;
    if (error == 0) {
        error = turn_run(bench, point, BENCH_GENERATE, &decode_us);
    }
    if (error != 0) return error;
    double prefill = first.prompt_tokens * 1e6 / (double)prefill_us;
    double decode = bench->usage.completion_tokens * 1e6 / (double)decode_us;
    mr_buf_printf(out,
                  "{\"streams\":%u,\"prompt\":%u,\"shared\":%u,\"prompt_tokens\":%u,"
                  "\"cached_tokens\":%u,\"completion_tokens\":%u,\"prefill_tokens_per_s\":%.1f,"
                  "\"decode_tokens_per_s\":%.1f}",
                  point->streams, point->prompt, point->shared, first.prompt_tokens,
                  first.cached_tokens, bench->usage.completion_tokens, prefill, decode);
    (void)fprintf(stderr, "%2u streams, %4u tokens, %4u shared: prefill %7.1f tokens/s, decode "
                          "%6.1f tokens/s (%u prompt tokens, %u cached, then %u cached; %u "
                          "decoded)\n",
                  point->streams, point->prompt, point->shared, prefill, decode,
                  first.prompt_tokens, first.cached_tokens, bench->usage.cached_tokens,
                  bench->usage.completion_tokens);
    return 0;
}

int infer_bench_run(const struct infer_config *config, const struct infer_choice *choice)
{
    static const struct point points[] = {
        {1, 128, 0},   {4, 128, 0},   {16, 128, 0},           {1, 1024, 0},
        {4, 1024, 0},  {16, 1024, 0}, {16, 1024, SHARED_TOKENS},
    };
    struct infer_config own = *config;
    own.run_dir = NULL; /* nothing to be billed */
    own.slots = MR_MAX(own.slots, BENCH_STREAMS_MAX);
    struct bench bench = {0};
    struct infer_sink sink = {sink_tokens, sink_end, sink_can_take, &bench};
    int error = infer_engine_new(&own, &sink, &bench.engine);
    if (error != 0) return error;
    struct infer_engine *engine = bench.engine;
    error = infer_engine_load(engine, choice, NULL, NULL);
    mr_cleanup(mr_buf_done) struct mr_buf out;
    mr_buf_init(&out, 1u << 20);
    mr_buf_printf(&out, "{\"bench\":\"infer\",\"threads\":%u,\"model\":", config->threads);
    mr_json_put_string(&out, mr_str_from(config->model));
    mr_buf_put_str(&out, MR_STR(",\"weights\":"));
    mr_json_put_string(&out, mr_str_from(choice->file));
    mr_buf_put_str(&out, MR_STR(",\"engine\":"));
    mr_json_put_string(&out, mr_str_from(choice->summary));
    mr_buf_put_str(&out, MR_STR(",\"points\":["));
    size_t count = config->quick ? 3 : MR_COUNT_OF(points);
    for (size_t i = 0; i < count && error == 0; i++) {
        if (i > 0) {
            mr_buf_put_char(&out, ',');
        }
        error = point_run(&bench, &points[i], &out);
    }
    mr_buf_put_str(&out, MR_STR("]}\n"));
    if (error == 0 && config->json) {
        (void)fwrite(out.p, 1, out.n, stdout);
    }
    infer_engine_free(engine);
    return error;
}
