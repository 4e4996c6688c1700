/* SPDX-License-Identifier: Apache-2.0 */
/* Who has seen this prompt's beginning: the table, and what it is worth on conversations.
 *
 * The last case replays an hour of real conversations (Mooncake, 12,031 requests) through the gate
 * in virtual time when the trace is at hand (see GATE_TRACE), else conversations of our own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gate_world.h"

#define REPLICAS     8u
#define SLOTS        16u
#define BLOCKS_MAX   262144u
#define REQUESTS_MAX 16384u

/* --- the table ------------------------------------------------------------------------------- */

static struct world *setup(uint32_t workers)
{
    struct world *w = malloc(sizeof *w);
    world_init(w, workers);
    return w;
}
static void teardown(struct world *w)
{
    world_done(w);
    free(w);
}
/* The worker that got the newest chat. */
static uint32_t who_got_it(struct world *w, uint32_t *counts)
{
    uint32_t who = UINT32_MAX;
    for (uint32_t i = 0; i < WORLD_WORKERS_MAX; i++) {
        if (w->workers[i].submits != counts[i]) who = i;
        counts[i] = w->workers[i].submits;
    }
    return who;
}
static void converse(struct mr_conn *c, const char *key, const char *const *turns, size_t count)
{
    mr_cleanup(mr_buf_done) struct mr_buf body;
    mr_buf_init(&body, 1u << 20);
    mr_buf_put_str(&body, MR_STR("{\"model\":\"tiny\",\"messages\":["));
    for (size_t i = 0; i < count; i++) {
        mr_buf_printf(&body, "%s{\"role\":\"%s\",\"content\":", i > 0 ? "," : "",
                      i % 2 ? "assistant" : "user");
        mr_json_put_string(&body, mr_str_from(turns[i]));
        mr_buf_put_char(&body, '}');
    }
    mr_buf_put_str(&body, MR_STR("]}"));
    mr_buf_put_char(&body, 0);
    client_ask(c, "POST", "/v1/chat/completions", key, (const char *)body.p);
}

static void the_next_turn_goes_where_the_conversation_was(void **state)
{
    (void)state;
    struct world *w = setup(4);
    uint32_t counts[WORLD_WORKERS_MAX] = {0};
    struct mr_conn *c = client_open(w);
    char first[64];
    const char *turns[5] = {first, "answer one", "question two", "answer two", "question three"};
    for (int i = 0; i < 40; i++) {
        snprintf(first, sizeof first, "conversation number %d begins like this", i);
        converse(c, WORLD_USER_KEY, turns, 1);
        uint32_t who = who_got_it(w, counts);
        converse(c, WORLD_USER_KEY, turns, 3);
        assert_int_equal(who_got_it(w, counts), who);
        converse(c, WORLD_USER_KEY, turns, 5);
        assert_int_equal(who_got_it(w, counts), who);
        client_clear(c);
    }
    teardown(w);
}

static void a_conversation_outweighs_what_rendezvous_says(void **state)
{
    (void)state;
    struct world *w = setup(1);
    uint32_t counts[WORLD_WORKERS_MAX] = {0};
    struct mr_conn *c = client_open(w);
    char first[64];
    const char *turns[3] = {first, "yes", "and then?"};
    for (int i = 0; i < 20; i++) {
        snprintf(first, sizeof first, "conversation number %d begins like this", i);
        converse(c, WORLD_USER_KEY, turns, 1);
    }
    (void)who_got_it(w, counts);
    /* More replicas come, whose caches are empty. */
    w->models[0].replica_count = 4;
    world_publish(w);
    for (int i = 0; i < 20; i++) {
        snprintf(first, sizeof first, "conversation number %d begins like this", i);
        converse(c, WORLD_USER_KEY, turns, 3);
        assert_int_equal(who_got_it(w, counts), 0);
    }
    teardown(w);
}

static void a_short_common_beginning_attracts_nobody(void **state)
{
    (void)state;
    struct world *w = setup(4);
    struct mr_conn *c = client_open(w);
    char prompt[2048];
    const char *turns[3] = {"You are brief.", "ok", prompt};
    for (int i = 0; i < 64; i++) {
        memset(prompt, 'a' + i % 26, sizeof prompt - 1);
        prompt[sizeof prompt - 1] = 0;
        snprintf(prompt, 16, "%d", i);
        prompt[strlen(prompt)] = ' ';
        converse(c, WORLD_USER_KEY, turns, 3);
    }
    /* All share the hash of their first block, so rendezvous alone would send them to one. */
    uint32_t with = 0;
    for (size_t i = 0; i < 4; i++)
        with += w->workers[i].submits > 0;
    assert_true(with >= 1);
    teardown(w);
}

static void prefixes_are_a_tenants_own_and_die_with_their_replica(void **state)
{
    (void)state;
    struct world *w = setup(2);
    struct mr_conn *c = client_open(w);
    const char *turns[1] = {"one and the same beginning of a conversation"};
    converse(c, WORLD_USER_KEY, turns, 1);
    struct gate_service *service = w->gate->services;
    struct gate_request request = {0};
    mr_arena_init(&request.arena, 1u << 20);
    struct mr_message message = {MR_ROLE_USER, mr_str_from(turns[0])};
    struct gate_chat mine = {.request = &request}, other = {.request = &request};
    mine.chat = (struct mr_chat){.messages = &message, .message_count = 1};
    other.chat = mine.chat;
    assert_true(gate_prefix_read(&mine, (struct mr_tenant_id){2}));
    assert_true(gate_prefix_read(&other, (struct mr_tenant_id){3}));
    uint64_t bytes = 0;
    assert_int_not_equal(gate_prefix_longest(service, &mine.prefix, UINT64_MAX, &bytes), 0);
    assert_int_equal(bytes, strlen(turns[0]));
    (void)gate_prefix_longest(service, &other.prefix, UINT64_MAX, &bytes);
    assert_int_equal(bytes, 0);
    worker_die(&w->workers[0]);
    worker_die(&w->workers[1]);
    w->models[0].replica_count = 0;
    world_publish(w);
    (void)gate_prefix_longest(service, &mine.prefix, UINT64_MAX, &bytes);
    assert_int_equal(bytes, 0);
    mr_arena_done(&request.arena);
    teardown(w);
}

static void the_table_keeps_what_was_used_last_and_never_grows(void **state)
{
    (void)state;
    struct gate_service service = {0};
    struct gate_prefix_block block;
    struct gate_prefix prefix = {.blocks = &block, .count = 1, .end_bytes = 1, .total_bytes = 1};
    uint64_t bytes, kept = 0;
    const uint64_t n = 4u * GATE_PREFIX_ENTRIES, last = GATE_PREFIX_ENTRIES / 8;
    for (uint64_t i = 0; i < n; i++) {
        block = (struct gate_prefix_block){mr_hash_mix(i), 1};
        gate_prefix_note(&service, &prefix, 1);
    }
    for (uint64_t i = n - last; i < n; i++) {
        block = (struct gate_prefix_block){mr_hash_mix(i), 1};
        (void)gate_prefix_longest(&service, &prefix, 1, &bytes);
        kept += bytes;
    }
    assert_true(kept * 100 >= last * 98);
    mr_free(service.prefixes);
}

/* --- conversations --------------------------------------------------------------------------- */

struct trace_request {
    uint64_t at_us, output_tokens;
    uint32_t first, count; /* of ids */
};
struct replay {
    struct world w;
    struct trace_request *requests;
    uint32_t *ids;
    uint32_t request_count, id_count;
    uint8_t *cached[REPLICAS]; /* infinite caches, by block */
    uint64_t hits, blocks;
    /* decoding now */
    struct {
        uint64_t end_us;
        uint32_t worker, stream;
    } live[REPLICAS * WORLD_STREAMS_MAX];
    uint32_t live_count, load_gap_max;
};
static struct replay *replay;

/* The prompt names its blocks: eight digits at the start of each. */
static void replay_submit(struct worker *worker, uint32_t stream,
                          const struct mr_wire_submit *submit)
{
    struct replay *r = replay;
    uint32_t who = (uint32_t)(worker - r->w.workers);
    struct mr_str text = submit->chat.messages[0].content;
    uint32_t count = (uint32_t)(text.n / GATE_PREFIX_BLOCK_BYTES), hit = 0;
    bool whole = true;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t id = 0;
        assert_int_equal(
            mr_str_to_u64((struct mr_str){text.p + (size_t)i * GATE_PREFIX_BLOCK_BYTES, 8}, &id),
            0);
        whole = whole && r->cached[who][id];
        hit += whole;
        r->cached[who][id] = 1;
    }
    r->hits += hit;
    r->blocks += count;
    uint64_t us = (uint64_t)(count - hit) * 512 * 125 + submit->chat.sampling.max_tokens * 20000ull;
    r->live[r->live_count].end_us = r->w.now_us + us;
    r->live[r->live_count].worker = who;
    r->live[r->live_count++].stream = stream;
}

static void replay_until(struct replay *r, uint64_t until_us)
{
    for (;;) {
        uint32_t next = UINT32_MAX;
        for (uint32_t i = 0; i < r->live_count; i++) {
            if (r->live[i].end_us > until_us) continue;
            if (next == UINT32_MAX || r->live[i].end_us < r->live[next].end_us) next = i;
        }
        if (next == UINT32_MAX) break;
        uint32_t who = r->live[next].worker, stream = r->live[next].stream;
        r->w.now_us = MR_MAX(r->w.now_us, r->live[next].end_us);
        r->live[next] = r->live[--r->live_count];
        worker_end(&r->w.workers[who], stream, MR_FINISH_STOP, 0, "");
        world_run(&r->w);
    }
    if (until_us != UINT64_MAX) world_pass(&r->w, until_us - MR_MIN(until_us, r->w.now_us));
}

static void replay_ask(struct replay *r, const struct trace_request *request)
{
    struct mr_conn *c = client_open(&r->w);
    struct mr_buf *b = &c->to_gate;
    char filler[GATE_PREFIX_BLOCK_BYTES - 8 + 1];
    memset(filler, 'x', sizeof filler - 1);
    filler[sizeof filler - 1] = 0;
    int n = snprintf(NULL, 0,
                     "{\"model\":\"tiny\",\"max_tokens\":%llu,\"messages\":[{\"role\":\"user\","
                     "\"content\":\"\"}]}",
                     (unsigned long long)request->output_tokens);
    mr_buf_printf(b,
                  "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                  "Authorization: Bearer " WORLD_USER_KEY "\r\nContent-Length: %zu\r\n\r\n"
                  "{\"model\":\"tiny\",\"max_tokens\":%llu,\"messages\":[{\"role\":\"user\","
                  "\"content\":\"",
                  (size_t)n + (size_t)request->count * GATE_PREFIX_BLOCK_BYTES,
                  (unsigned long long)request->output_tokens);
    for (uint32_t i = 0; i < request->count; i++) {
        mr_buf_printf(b, "%08u%s", r->ids[request->first + i], filler);
    }
    mr_buf_put_str(b, MR_STR("\"}]}"));
    world_run(&r->w);
    uint32_t most = 0, least = UINT32_MAX;
    for (uint32_t i = 0; i < REPLICAS; i++) {
        uint32_t live = worker_live(&r->w.workers[i]);
        most = MR_MAX(most, live);
        least = MR_MIN(least, live);
    }
    r->load_gap_max = MR_MAX(r->load_gap_max, most - least);
}

static void closed_clients_forget(struct world *w)
{
    for (struct mr_conn *c = w->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (c->worker == NULL && c->closed) client_free(c);
    }
}

static bool trace_read(struct replay *r)
{
    const char *path = getenv("GATE_TRACE");
    FILE *file = fopen(path != NULL ? path : GATE_TRACE, "re");
    static char line[65536];
    if (file == NULL) return false;
    while (fgets(line, sizeof line, file) != NULL && r->request_count < REQUESTS_MAX) {
        struct trace_request *q = &r->requests[r->request_count];
        unsigned long long at_ms = 0, in = 0, out = 0;
        const char *ids = strstr(line, "\"hash_ids\": [");
        if (ids == NULL || sscanf(line,
                                  "{\"timestamp\": %llu, \"input_length\": %llu, "
                                  "\"output_length\": %llu",
                                  &at_ms, &in, &out) != 3) {
            continue;
        }
        *q = (struct trace_request){at_ms * 1000, MR_MAX(out, 1ull), r->id_count, 0};
        for (const char *at = ids + 12; *at != ']' && *at != 0;) {
            at++;
            while (*at == ' ')
                at++;
            uint32_t id = 0;
            for (; *at >= '0' && *at <= '9'; at++)
                id = id * 10 + (uint32_t)(*at - '0');
            assert_true(id < BLOCKS_MAX);
            r->ids[r->id_count++] = id;
            q->count++;
        }
        r->request_count++;
    }
    fclose(file);
    return r->request_count > 0;
}

/* 300 conversations of 8 turns; each adds 3 blocks to a system prompt of one. */
static void trace_make(struct replay *r)
{
    struct mr_prng prng;
    uint32_t next = 1;
    static uint32_t history[300][32];
    static uint32_t length[300];
    mr_prng_init(&prng, 20240607);
    for (uint32_t turn = 0; turn < 8; turn++) {
        for (uint32_t k = 0; k < 300; k++) {
            uint32_t who = (uint32_t)mr_prng_below(&prng, 300);
            if (length[who] == 0) length[who] = 1; /* block 0: the system prompt */
            for (uint32_t i = 0; i < 3 && length[who] < 32; i++) {
                history[who][length[who]++] = next++;
            }
            struct trace_request *q = &r->requests[r->request_count++];
            *q = (struct trace_request){(uint64_t)r->request_count * 250000, 100, r->id_count,
                                        length[who]};
            memcpy(&r->ids[r->id_count], history[who], length[who] * sizeof(uint32_t));
            r->id_count += length[who];
        }
    }
}

/* Share of blocks that one cache without end for all would have had. */
static double infinite_hits(const struct replay *r)
{
    uint8_t *seen = calloc(BLOCKS_MAX, 1);
    uint64_t hits = 0, blocks = 0;
    for (uint32_t i = 0; i < r->request_count; i++) {
        const struct trace_request *q = &r->requests[i];
        bool whole = true;
        for (uint32_t k = 0; k < q->count; k++) {
            whole = whole && seen[r->ids[q->first + k]];
            hits += whole;
            seen[r->ids[q->first + k]] = 1;
        }
        blocks += q->count;
    }
    free(seen);
    return (double)hits / (double)blocks;
}

static void replayed_conversations_find_nine_tenths_of_an_infinite_cache(void **state)
{
    (void)state;
    struct replay *r = calloc(1, sizeof *r);
    replay = r;
    r->requests = calloc(REQUESTS_MAX, sizeof *r->requests);
    r->ids = calloc(4u << 20, sizeof *r->ids);
    bool real = trace_read(r);
    if (!real) trace_make(r);
    world_init(&r->w, REPLICAS);
    for (uint32_t i = 0; i < REPLICAS; i++) {
        r->cached[i] = calloc(BLOCKS_MAX, 1);
        r->w.workers[i].automatic = false;
        r->w.workers[i].slots = SLOTS;
        r->w.workers[i].on_submit = replay_submit;
        worker_hello(&r->w.workers[i], true);
    }
    world_run(&r->w);
    uint64_t start_us = r->w.now_us;
    for (uint32_t i = 0; i < r->request_count; i++) {
        replay_until(r, start_us + r->requests[i].at_us);
        replay_ask(r, &r->requests[i]);
        closed_clients_forget(&r->w);
    }
    replay_until(r, UINT64_MAX);
    double ours = (double)r->hits / (double)r->blocks, best = infinite_hits(r);
    uint32_t fewest = UINT32_MAX, most = 0;
    for (uint32_t i = 0; i < REPLICAS; i++) {
        fewest = MR_MIN(fewest, r->w.workers[i].submits);
        most = MR_MAX(most, r->w.workers[i].submits);
    }
    print_message("%s: %u requests on %u replicas: %.2f %% of blocks found, %.2f %% with one cache "
                  "without end; %u to %u requests each, live streams apart by %u at most\n",
                  real ? "Mooncake" : "synthetic", r->request_count, REPLICAS, ours * 100,
                  best * 100, fewest, most, r->load_gap_max);
    assert_true(ours >= 0.9 * best);
    /* What counts is load: a replica that is not needed may stay cold. */
    assert_true(r->load_gap_max <= SLOTS / 4 + 2);
    for (uint32_t i = 0; i < REPLICAS; i++)
        free(r->cached[i]);
    world_done(&r->w);
    free(r->requests);
    free(r->ids);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_turn_goes_where_the_conversation_was),
        cmocka_unit_test(a_conversation_outweighs_what_rendezvous_says),
        cmocka_unit_test(a_short_common_beginning_attracts_nobody),
        cmocka_unit_test(prefixes_are_a_tenants_own_and_die_with_their_replica),
        cmocka_unit_test(the_table_keeps_what_was_used_last_and_never_grows),
        cmocka_unit_test(replayed_conversations_find_nine_tenths_of_an_infinite_cache),
    };
    return cmocka_run_group_tests_name("gate_prefix", tests, NULL, NULL);
}
