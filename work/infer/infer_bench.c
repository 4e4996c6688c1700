/* SPDX-License-Identifier: Apache-2.0 */
/* Measures the engine as a client sees it: prefill and decode at 1, 4 and 16 streams.
 *
 * Two turns for each point. First every stream asks for one token: all prompt tokens over the time
 * until the last has it is prefill. Then the same prompts, which are in the cache now, ask for
 * BENCH_GENERATE tokens: all of them over that time is decode. The peer in `millrace bench infer`
 * is measured the same way, so neither the order of work nor a window of time favours one. Time is
 * given by the wall and by the CPU: on a machine with neighbours only the latter compares.
 *
 * Owns:       an engine for the length of a run.
 * Thread:     the process's only one.
 * Fails:      with one line on stderr.
 * Ends:       infer_bench_run.
 */
#include "infer_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BENCH_STREAMS_MAX 16u
#define BENCH_GENERATE    48u
#define SHARED_TOKENS     1000u
#define COLD_STREAMS      4u
#define COLD_SHARED       1200u
#define LONG_TOKENS       6000u
#define GAPS_MAX          4096u

struct bench {
    struct infer_engine *engine;
    struct mr_usage usage; /* summed over the streams of this turn */
    uint64_t last_us;      /* when stream 1 had its last token */
    uint32_t gaps_us[GAPS_MAX], gap_count;
    uint32_t ended;
    uint64_t seed;
};

struct point {
    uint32_t streams, prompt, shared;
};

struct spent { /* in one turn */
    uint64_t wall_us, cpu_us;
};

static void sink_tokens(void *context, const struct infer_request *request, uint32_t count,
                        struct mr_str text)
{
    struct bench *bench = context;
    (void)count;
    (void)text;
    if (request->stream != 1) {
        return;
    }
    uint64_t now_us = infer_now_us();
    if (bench->last_us != 0 && bench->gap_count < GAPS_MAX) {
        bench->gaps_us[bench->gap_count++] = (uint32_t)(now_us - bench->last_us);
    }
    bench->last_us = now_us;
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

static uint64_t cpu_us(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts); /* cannot fail for this clock */
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static void turn_begin(struct bench *bench)
{
    bench->usage = (struct mr_usage){0};
    bench->ended = 0;
    bench->last_us = 0;
    bench->gap_count = 0;
}

static void turn_finish(struct bench *bench, uint32_t streams)
{
    struct infer_engine *engine = bench->engine;
    while (bench->ended < streams) {
        (void)infer_engine_step(engine);
    }
    for (size_t i = 0; i < MR_WIRE_UNSETTLED_MAX; i++) {
        struct infer_meter_slot *slot = &engine->meter.slots[i];
        if (slot->state == MR_METER_ENDED) {
            (void)infer_meter_settle(&engine->meter, slot->end.serial);
        }
    }
}

/* All streams of a point at once; answers what it took until the last one ended. */
static int turn_run(struct bench *bench, const struct point *point, uint32_t generate,
                    struct spent *ret)
{
    turn_begin(bench);
    struct spent start = {infer_now_us(), cpu_us()};
    for (uint32_t i = 0; i < point->streams; i++) {
        int error = stream_submit(bench, point, i, generate);
        if (error != 0) return error;
    }
    turn_finish(bench, point->streams);
    ret->wall_us = MR_MAX(infer_now_us() - start.wall_us, 1u);
    ret->cpu_us = MR_MAX(cpu_us() - start.cpu_us, 1u);
    return 0;
}

static double rate(uint32_t count, uint64_t us)
{
    return count * 1e6 / (double)us;
}

static int point_run(struct bench *bench, const struct point *point, struct mr_buf *out)
{
    struct spent prefill = {0};
    struct spent decode = {0};
    bench->seed += 1000;
    int error = turn_run(bench, point, 1, &prefill);
    struct mr_usage first = bench->usage;
    if (error == 0) {
        error = turn_run(bench, point, BENCH_GENERATE, &decode);
    }
    if (error != 0) return error;
    uint32_t decoded = bench->usage.completion_tokens;
    uint32_t threads = bench->engine->config.threads;
    mr_buf_printf(out,
                  "{\"streams\":%u,\"prompt\":%u,\"shared\":%u,\"prompt_tokens\":%u,"
                  "\"cached_tokens\":%u,\"completion_tokens\":%u,\"prefill_tokens_per_s\":%.1f,"
                  "\"decode_tokens_per_s\":%.1f,\"prefill_tokens_per_cpu_s\":%.1f,"
                  "\"decode_tokens_per_cpu_s\":%.1f}",
                  point->streams, point->prompt, point->shared, first.prompt_tokens,
                  first.cached_tokens, decoded, rate(first.prompt_tokens, prefill.wall_us),
                  rate(decoded, decode.wall_us),
                  rate(first.prompt_tokens, prefill.cpu_us) * threads,
                  rate(decoded, decode.cpu_us) * threads);
    (void)fprintf(stderr,
                  "%2u streams, %4u tokens, %4u shared: prefill %7.1f, decode %6.1f tokens/s; by "
                  "CPU time %7.1f, %6.1f (%u prompt tokens, %u cached, then %u; %u decoded)\n",
                  point->streams, point->prompt, point->shared,
                  rate(first.prompt_tokens, prefill.wall_us), rate(decoded, decode.wall_us),
                  rate(first.prompt_tokens, prefill.cpu_us) * threads,
                  rate(decoded, decode.cpu_us) * threads, first.prompt_tokens, first.cached_tokens,
                  bench->usage.cached_tokens, decoded);
    return 0;
}

/* Four cold requests with one prefix at once: how often is it computed? */
static int cold_run(struct bench *bench, struct mr_buf *out)
{
    struct point point = {COLD_STREAMS, COLD_SHARED + 64, COLD_SHARED};
    struct spent spent = {0};
    bench->seed += 1000;
    int error = turn_run(bench, &point, 1, &spent);
    if (error != 0) return error;
    uint32_t computed = bench->usage.prompt_tokens - bench->usage.cached_tokens;
    double times = (double)computed / ((double)bench->usage.prompt_tokens / COLD_STREAMS);
    mr_buf_printf(out,
                  "\"cold_prefix\":{\"streams\":%u,\"prompt_tokens\":%u,\"computed\":%u,"
                  "\"prefills\":%.3f}",
                  COLD_STREAMS, bench->usage.prompt_tokens, computed, times);
    (void)fprintf(stderr, "%u cold streams with %u tokens in common: %.2f prefills\n", COLD_STREAMS,
                  COLD_SHARED, times);
    return 0;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* A long prompt comes while one stream decodes: how long does that wait between two tokens? */
static int gap_run(struct bench *bench, struct mr_buf *out)
{
    struct point small = {1, 128, 0};
    struct point large = {1, LONG_TOKENS, 0};
    bench->seed += 1000;
    turn_begin(bench);
    int error = stream_submit(bench, &small, 0, 512);
    while (error == 0 && bench->gap_count < 4 && bench->ended == 0) {
        (void)infer_engine_step(bench->engine);
    }
    bench->gap_count = 0;
    error = error != 0 ? error : stream_submit(bench, &large, 1, 1);
    if (error != 0) return error;
    uint32_t until_large = 0;
    while (bench->ended == 0) { /* whichever ends first */
        (void)infer_engine_step(bench->engine);
        until_large = bench->gap_count;
    }
    struct infer_request *left = infer_engine_find(bench->engine, 0, 1);
    if (left != NULL) {
        infer_engine_cancel(bench->engine, left);
    }
    left = infer_engine_find(bench->engine, 0, 2);
    if (left != NULL) {
        infer_engine_cancel(bench->engine, left);
    }
    turn_finish(bench, 2);
    qsort(bench->gaps_us, until_large, sizeof(bench->gaps_us[0]), compare_u32);
    uint32_t n = MR_MAX(until_large, 1u);
    double p50 = bench->gaps_us[n / 2] * 1e-3;
    double p99 = bench->gaps_us[MR_MIN(n * 99 / 100, n - 1)] * 1e-3;
    double most = bench->gaps_us[n - 1] * 1e-3;
    mr_buf_printf(out,
                  "\"long_prompt\":{\"prompt\":%u,\"gaps\":%u,\"itl_ms\":%u,"
                  "\"gap_ms_p50\":%.1f,\"gap_ms_p99\":%.1f,\"gap_ms_max\":%.1f}",
                  LONG_TOKENS, until_large, bench->engine->config.itl_ms, p50, p99, most);
    (void)fprintf(stderr,
                  "a prompt of %u tokens beside a stream: %u tokens, %.0f ms between them "
                  "(p50), %.0f (p99), %.0f at most\n",
                  LONG_TOKENS, until_large, p50, p99, most);
    return 0;
}

int infer_bench_run(const struct infer_config *config, const struct infer_choice *choice)
{
    static const struct point points[] = {
        {1, 128, 0},
        {4, 128, 0},
        {16, 128, 0},
        {1, 1024, 0},
        {4, 1024, 0},
        {16, 1024, 0},
        {16, 1024, SHARED_TOKENS},
    };
    struct infer_config own = *config;
    own.run_dir = NULL; /* nothing to be billed */
    own.slots = MR_MAX(own.slots, BENCH_STREAMS_MAX);
    struct bench *bench = mr_alloc_zero(sizeof(*bench));
    if (bench == NULL) return MR_ENO_MEMORY;
    struct infer_sink sink = {sink_tokens, sink_end, sink_can_take, bench};
    int error = infer_engine_new(&own, &sink, &bench->engine);
    if (error != 0) {
        mr_free(bench);
        return error;
    }
    struct infer_engine *engine = bench->engine;
    error = infer_engine_load(engine, choice, NULL, NULL);
    mr_cleanup(mr_buf_done) struct mr_buf out;
    mr_buf_init(&out, 1u << 20);
    mr_buf_printf(&out, "{\"bench\":\"infer\",\"threads\":%u,\"model\":", config->threads);
    mr_json_put_string(&out, mr_str_from(config->model));
    mr_buf_put_str(&out, MR_STR(",\"weights\":"));
    mr_json_put_string(&out, mr_str_from(choice->file));
    mr_buf_put_str(&out, MR_STR(",\"engine\":"));
    mr_json_put_string(&out, mr_str_from(choice->summary));
    mr_buf_printf(&out, ",\"flash_attention\":%s,\"points\":[",
                  choice->flash_attention ? "true" : "false");
    size_t count = config->quick ? 3 : MR_COUNT_OF(points);
    for (size_t i = 0; i < count && error == 0; i++) {
        if (i > 0) {
            mr_buf_put_char(&out, ',');
        }
        error = point_run(bench, &points[i], &out);
    }
    mr_buf_put_char(&out, ']');
    if (error == 0 && !config->quick) {
        mr_buf_put_char(&out, ',');
        error = cold_run(bench, &out);
    }
    if (error == 0 && !config->quick) {
        mr_buf_put_char(&out, ',');
        error = gap_run(bench, &out);
    }
    mr_buf_put_str(&out, MR_STR("}\n"));
    if (error == 0 && config->json) {
        (void)fwrite(out.p, 1, out.n, stdout);
    }
    infer_engine_free(engine);
    mr_free(bench);
    return error;
}
