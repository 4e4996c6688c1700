/* SPDX-License-Identifier: Apache-2.0 */
/* A file of chats as tokens, a share of it held out, and the order in which training sees the rest.
 *
 * Owns:       the tokens and the table of examples.
 * Invariants: (1) which examples are held out depends on their text alone, not on their place;
 *             (2) every example has at least one token with a loss; (3) example number i of
 * training depends on the seed and i only, not on the number of ranks. Fails:      with the file,
 * the line and what is wrong in it. Ends:       train_data_done, train_order_done. Tests:
 * tests/unit/train/test_train_data.c
 */
#include "train.h"

#include <stdlib.h>

#define LINE_ARENA_BYTES_MAX ((size_t)64 * 1024 * 1024)

struct reading {
    const char *path;
    const struct train_tokenizer *tokenizer;
    size_t sequence_tokens;
    struct mr_buf ids, wanted, examples;
    struct mr_arena arena;
    struct train_data data;
    struct train_problem *problem;
};

static int line_failed(struct reading *reading, size_t line, int error, const char *what)
{
    return train_problem_set(reading->problem, error, "%s line %zu: %s", reading->path, line, what);
}

/* Cuts to the sequence length; false when nothing is left to learn. The last token is only a
 * target. */
static bool example_fit(struct reading *reading, struct train_example *example, size_t tokens)
{
    const uint8_t *wanted = reading->wanted.p + example->at;
    if (tokens > reading->sequence_tokens + 1) {
        tokens = reading->sequence_tokens + 1;
        reading->data.truncated++;
    }
    example->tokens = (uint32_t)tokens;
    example->targets = 0;
    for (size_t i = 1; i < tokens; i++) {
        example->targets += wanted[i];
    }
    return example->targets > 0;
}

static int line_read(struct reading *reading, size_t number, struct mr_str line)
{
    struct train_problem inner;
    struct train_chat chat;
    struct train_example example = {.at = reading->wanted.n, .hash = mr_hash64(line.p, line.n, 0)};
    if (line.n > TRAIN_LINE_BYTES_MAX) {
        return line_failed(reading, number, MR_ETOO_LARGE, "is longer than 4 MiB");
    }
    mr_arena_reset(&reading->arena);
    int error = train_chat_parse(line, &reading->arena, &chat, &inner);
    if (error != 0) return line_failed(reading, number, error, inner.text);
    error = train_chat_tokenize(reading->tokenizer, &chat, &reading->ids, &reading->wanted);
    if (error != 0) return line_failed(reading, number, error, "cannot be tokenized");
    if (!example_fit(reading, &example, reading->wanted.n - example.at)) {
        reading->data.dropped++;
        return 0;
    }
    reading->wanted.n = example.at + example.tokens;
    reading->ids.n = reading->wanted.n * sizeof(uint32_t);
    mr_buf_put(&reading->examples, &example, sizeof example);
    reading->data.count++;
    if (reading->data.count > TRAIN_EXAMPLES_MAX || reading->examples.failed) {
        return line_failed(reading, number, MR_ETOO_LARGE, "is one example too many");
    }
    return 0;
}

static int lines_read(struct reading *reading, struct mr_str text)
{
    struct mr_str line;
    size_t number = 0;
    while (mr_str_split(&text, '\n', &line)) {
        number++;
        line = mr_str_trim(line);
        if (line.n == 0) {
            reading->data.skipped += text.p != NULL; /* behind the last newline is no line */
            continue;
        }
        int error = line_read(reading, number, line);
        if (error != 0) return error;
    }
    if (reading->data.count == 0) {
        return train_problem_set(
            reading->problem, MR_EINVALID,
            reading->data.dropped > 0
                ? "%s: no assistant message fits into %zu tokens; raise sequence_tokens"
                : "%s is empty; it must hold one {\"messages\":[…]} a line",
            reading->path, reading->sequence_tokens);
    }
    return 0;
}

static int hash_compare(const void *a, const void *b)
{
    const struct train_example *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static int place_compare(const void *a, const void *b)
{
    const struct train_example *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* The examples with the largest hashes go behind; the others stand in the order of the file. */
static void hold_out(struct train_data *data, double share)
{
    size_t total = data->count;
    size_t held = (size_t)(share * (double)total + 0.5);
    if (share > 0 && held == 0) {
        held = 1;
    }
    if (total < 2) {
        held = 0;
    } else {
        held = MR_MIN(held, total - 1);
    }
    qsort(data->examples, total, sizeof *data->examples, hash_compare);
    data->count = total - held;
    data->held_count = held;
    qsort(data->examples, data->count, sizeof *data->examples, place_compare);
}

/* Takes the memory of a buffer over. */
static void *steal(struct mr_buf *buf)
{
    void *p = buf->p;
    mr_buf_init(buf, 0);
    return p;
}

int train_data_read(const char *path, const struct train_tokenizer *tokenizer,
                    size_t sequence_tokens, double held_share, struct train_data *ret,
                    struct train_problem *problem)
{
    struct mr_str text;
    struct reading reading = {.path = path,
                              .tokenizer = tokenizer,
                              .sequence_tokens = sequence_tokens,
                              .problem = problem};
    int error = train_file_read(path, TRAIN_DATA_BYTES_MAX, &text, problem);
    if (error != 0) return error;
    mr_buf_init(&reading.ids, SIZE_MAX / 2);
    mr_buf_init(&reading.wanted, SIZE_MAX / 2);
    mr_buf_init(&reading.examples, SIZE_MAX / 2);
    mr_arena_init(&reading.arena, LINE_ARENA_BYTES_MAX);
    error = lines_read(&reading, text);
    mr_free((void *)(uintptr_t)text.p);
    mr_arena_done(&reading.arena);
    if (error == 0) {
        struct train_data *data = &reading.data;
        data->id_count = reading.wanted.n;
        data->hash = mr_hash64(reading.wanted.p, reading.wanted.n,
                               mr_hash64(reading.ids.p, reading.ids.n, sequence_tokens));
        data->ids = steal(&reading.ids);
        data->wanted = steal(&reading.wanted);
        data->examples = steal(&reading.examples);
        hold_out(data, held_share);
        *ret = *data;
    }
    mr_buf_done(&reading.ids);
    mr_buf_done(&reading.wanted);
    mr_buf_done(&reading.examples);
    return error;
}

void train_data_done(struct train_data *data)
{
    mr_free(data->ids);
    mr_free(data->wanted);
    mr_free(data->examples);
    *data = (struct train_data){0};
}

/* --- order --------------------------------------------------------------------------------- */

int train_order_init(struct train_order *order, uint64_t seed, size_t count)
{
    MR_ASSERT(count > 0 && count <= UINT32_MAX);
    *order = (struct train_order){.seed = seed, .count = count, .epoch = UINT64_MAX};
    order->order = mr_alloc(count * sizeof *order->order);
    return order->order == NULL ? MR_ENO_MEMORY : 0;
}

void train_order_done(struct train_order *order)
{
    mr_free(order->order);
    *order = (struct train_order){0};
}

size_t train_order_at(struct train_order *order, uint64_t index)
{
    uint64_t epoch = index / order->count;
    if (epoch != order->epoch) {
        struct mr_prng prng;
        mr_prng_init(&prng, mr_hash_mix(order->seed) + epoch);
        for (size_t i = 0; i < order->count; i++) {
            order->order[i] = (uint32_t)i;
        }
        for (size_t i = order->count; i > 1; i--) {
            size_t j = (size_t)mr_prng_below(&prng, i);
            uint32_t swap = order->order[i - 1];
            order->order[i - 1] = order->order[j];
            order->order[j] = swap;
        }
        order->epoch = epoch;
    }
    return order->order[index % order->count];
}
